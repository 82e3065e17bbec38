//! Checkpoints: segments are made durable and the catalogue is replaced; only then are parts of the
//! journal recycled and files of dropped segments and deleted streams removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalogue::{self, Catalogue, CatalogueStream, Transactions};
use crate::disk::DiskFile;
use crate::error::Error;
use crate::flush::Flushed;
use crate::journal::{DirtyPart, JournalMark, sync_parts};
use crate::log::{Log, Store};
use crate::partition::PartitionMark;
use crate::stream::{Lsn, PartitionId};
use crate::watermark::{PartitionState, Shared, Watermarks};

/// What the catalogue on disk says.
#[derive(Default)]
pub(crate) struct Durable {
    pub(crate) lsn: Lsn,
    /// Generation of the journal's part that recovery would begin in.
    pub(crate) generation: u64,
    pub(crate) marks: BTreeMap<PartitionId, PartitionMark>,
    /// Entries that inboxes and sessions no longer need from the journal.
    pub(crate) shards_at: Lsn,
    pub(crate) kept_from: Lsn,
    /// A checkpoint is under way.
    pub(crate) running: bool,
}

/// A checkpoint under way: run its steps on a thread that is neither the log's nor the flush
/// thread, then hand it to [`Log::checkpointed`]. As long as that did not happen, no other begins.
pub struct Checkpoint {
    shared: Arc<Shared>,
    /// Those of the journal whose entries are needed behind it.
    parts: Vec<DirtyPart>,
    files: Vec<(String, Arc<dyn DiskFile>)>,
    dirs: BTreeSet<String>,
    catalogue: Vec<u8>,
    mark: JournalMark,
    kept_from: Lsn,
    marks: BTreeMap<PartitionId, PartitionMark>,
    /// Partitions whose segments compaction replaced before this began.
    installed: Vec<PartitionId>,
    ends: Vec<(Arc<PartitionState>, Watermarks)>,
    /// All of the journal that is durable when it is done, there or in segments, each with its last entry.
    flushed_parts: Vec<(String, Lsn)>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Journal,
    Files,
    Dirs,
    Catalogue,
    Done,
}

impl Checkpoint {
    /// Does the next piece: syncs one file or folder, at last replaces the catalogue. True when
    /// done. A failure latches the log.
    pub fn step(&mut self) -> Result<bool, Error> {
        self.shared.latch.check()?;
        let shared = Arc::clone(&self.shared);
        self.next_piece().map_err(|error| shared.failed(error))
    }

    /// The entry up to which segments become durable.
    pub fn lsn(&self) -> Lsn {
        self.mark.lsn
    }

    fn next_piece(&mut self) -> Result<bool, Error> {
        let disk = &*self.shared.disk;
        match self.stage {
            // What the catalogue calls durable must be so in the journal too where replay for inboxes
            // reads it there.
            Stage::Journal => {
                sync_parts(disk, &self.parts)?;
                self.stage = Stage::Files;
            }
            Stage::Files => match self.files.pop() {
                Some((path, file)) => {
                    file.sync_all().map_err(|e| Error::disk(path, "sync", e))?;
                }
                None => self.stage = Stage::Dirs,
            },
            Stage::Dirs => match self.dirs.pop_first() {
                Some(dir) => disk
                    .sync_dir(&dir)
                    .map_err(|e| Error::disk(dir, "sync", e))?,
                None => self.stage = Stage::Catalogue,
            },
            Stage::Catalogue => {
                catalogue::replace(disk, &self.catalogue)?;
                self.stage = Stage::Done;
            }
            Stage::Done => {}
        }
        Ok(self.stage == Stage::Done)
    }
}

/// The first generation of parts that the next start may use: beyond all that this one can.
///
/// A power cut may keep a part's entries but lose its header, so headers cannot tell which
/// generations were used; the catalogue can, as it is durable before a start writes any entry.
fn next_life(generation: u64) -> u64 {
    ((generation >> LIFE_BITS) + 1) << LIFE_BITS
}

const LIFE_BITS: u32 = 32;

impl Log {
    /// Begins a checkpoint of all that is written. `shards_at`: the last entry that inboxes and
    /// sessions have taken into their own durable state; the journal behind it is kept.
    ///
    /// None while another is under way, while staged entries wait to be written, when nothing was
    /// written since the last one, or when the log is latched, now or before.
    pub fn checkpoint(&mut self, shards_at: Lsn) -> Option<Checkpoint> {
        self.durable.shards_at = self.durable.shards_at.max(shards_at);
        let busy = self.durable.running || self.is_staged() || self.shared.latch.check().is_err();
        if busy {
            return None;
        }
        let kept_from = self.durable.lsn.min(self.durable.shards_at);
        let news = self.journal.mark().lsn > self.durable.lsn
            || self.journal.can_recycle(kept_from, self.durable.generation)
            || !self.graves.is_empty()
            || self
                .partitions
                .values()
                .any(|owned| owned.cleaning.installed);
        if news {
            // A failure has latched the log, which says why.
            self.begin_checkpoint(false).ok()
        } else {
            None
        }
    }

    /// Whether one has begun that was not handed back.
    pub fn is_checkpointing(&self) -> bool {
        self.durable.running
    }

    /// Takes back a finished checkpoint: recycles parts of the journal, removes what retention and
    /// deletion left behind.
    pub fn checkpointed(&mut self, checkpoint: Checkpoint) -> Result<(), Error> {
        assert!(
            checkpoint.stage == Stage::Done,
            "a checkpoint is handed back when it is done"
        );
        self.durable.running = false;
        self.shared.latch.check()?;
        self.durable.lsn = checkpoint.mark.lsn;
        self.durable.generation = checkpoint.mark.generation;
        self.durable.marks = checkpoint.marks;
        self.durable.kept_from = checkpoint.kept_from;
        self.flushed(Flushed {
            lsn: checkpoint.mark.lsn,
            parts: checkpoint.flushed_parts,
            ends: checkpoint.ends,
        });
        // Only as far as the catalogue that is on disk says: a start takes parts behind
        // `kept_from` for free ones, and needs all others.
        self.journal
            .recycle(checkpoint.kept_from, checkpoint.mark.generation);
        let shared = Arc::clone(&self.shared);
        for id in checkpoint.installed {
            let Some(owned) = self.partitions.get_mut(&id) else {
                continue;
            };
            owned.cleaning.installed = false;
            // Nothing was installed since this checkpoint began: the catalogue knows them as empty.
            if let Some(partition) = owned.disk_mut() {
                partition
                    .drop_empty()
                    .map_err(|error| shared.failed(error))?;
            }
        }
        self.remove_dropped()
            .map_err(|error| shared.failed(error))?;
        self.publish_sizes();
        Ok(())
    }

    /// Writes, flushes and checkpoints everything and marks the log as closed in order.
    pub fn close(mut self, shards_at: Lsn) -> Result<(), Error> {
        self.write()?;
        self.durable.shards_at = self.durable.shards_at.max(shards_at);
        let mut checkpoint = self.begin_checkpoint(true)?;
        while !checkpoint.step()? {}
        self.checkpointed(checkpoint)
    }

    /// Carries out a whole checkpoint on this thread; for starts.
    pub(crate) fn checkpoint_now(&mut self) -> Result<(), Error> {
        let mut checkpoint = self.begin_checkpoint(false)?;
        while !checkpoint.step()? {}
        self.checkpointed(checkpoint)
    }

    fn begin_checkpoint(&mut self, clean: bool) -> Result<Checkpoint, Error> {
        self.settle()?;
        self.durable.running = true;
        let mark = self.journal.mark();
        let kept_from = mark
            .lsn
            .min(self.durable.shards_at)
            .max(self.durable.kept_from);
        let mut files = Vec::new();
        let mut dirs = BTreeSet::new();
        let mut marks = BTreeMap::new();
        let mut installed = Vec::new();
        for (id, owned) in &mut self.partitions {
            let Store::Disk(partition) = &mut owned.store else {
                continue;
            };
            let released = partition.release_unused();
            released.map_err(|error| self.shared.failed(error))?;
            let dirty = partition.take_dirty();
            files.extend(dirty.files);
            dirs.extend(dirty.dirs);
            marks.insert(*id, partition.mark());
            if owned.cleaning.installed {
                installed.push(*id);
            }
        }
        let dirty = self.journal.dirty().iter();
        let flushed_parts = dirty.map(|part| (part.path.clone(), part.lsn)).collect();
        let catalogue = self.catalogue(mark, kept_from, clean, &marks).encode();
        Ok(Checkpoint {
            shared: Arc::clone(&self.shared),
            parts: self.journal.dirty_and_needed(kept_from),
            files,
            dirs,
            catalogue,
            mark,
            kept_from,
            marks,
            installed,
            ends: self.unflushed_ends(),
            flushed_parts,
            stage: Stage::Journal,
        })
    }

    fn catalogue(
        &self,
        mark: JournalMark,
        kept_from: Lsn,
        clean: bool,
        marks: &BTreeMap<PartitionId, PartitionMark>,
    ) -> Catalogue {
        let streams = self.streams.values().map(|stream| CatalogueStream {
            settings: stream.settings.clone(),
            places: stream.places.clone(),
            marks: stream
                .places
                .iter()
                .map(|place| marks.get(&place.id).copied().unwrap_or_default())
                .collect(),
            transactions: stream
                .places
                .iter()
                .map(|place| self.transactions(place.id))
                .collect(),
        });
        Catalogue {
            log_id: self.id,
            clean,
            epoch: self.epoch,
            next_partition: self.next_partition,
            next_generation: next_life(self.journal.next_generation()),
            mark,
            kept_from,
            time_ms: self.time_ms,
            streams: streams.collect(),
        }
    }

    /// What the catalogue keeps of a partition's producers; nothing for memory streams.
    fn transactions(&self, id: PartitionId) -> Transactions {
        let owned = self.partitions.get(&id);
        let disk = owned.and_then(|owned| Some((owned, owned.disk()?)));
        disk.map_or_else(Transactions::default, |(owned, partition)| Transactions {
            producers: owned.state.producers().clone(),
            aborted: partition.aborted_marks(),
            closed: Some(partition.closed()),
        })
    }

    /// Removes files that the catalogue on disk no longer needs.
    fn remove_dropped(&mut self) -> Result<(), Error> {
        for (id, mark) in &self.durable.marks {
            let Some(owned) = self.partitions.get_mut(id) else {
                continue;
            };
            if let Some(partition) = owned.disk_mut() {
                partition.drop_segments_before(mark.log_start)?;
            }
        }
        let durable = self.durable.lsn;
        let (gone, kept) = std::mem::take(&mut self.graves)
            .into_iter()
            .partition(|(lsn, _)| *lsn <= durable);
        self.graves = kept;
        let gone: Vec<(Lsn, crate::partition::Partition)> = gone;
        for (_, partition) in gone {
            partition.destroy()?;
        }
        Ok(())
    }
}
