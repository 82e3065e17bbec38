//! Opening the log: from the catalogue and the journal to partitions that hold exactly what was
//! appended. It refuses to guess: what was flushed and is not there is an error.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::batch::BatchHead;
use crate::catalogue::{self, CATALOGUE, Catalogue, ROOT};
use crate::disk::{Disk, DiskFile, Open, Salvage};
use crate::entry::{EntryBody, EntryHead, JournalOp};
use crate::error::Error;
use crate::journal::part::{Found, JOURNAL_DIR, PART_HEAD_BYTES, find_parts};
use crate::journal::replay::{ChainPart, JournalReader, RawEntry, chain, flushed_behind};
use crate::journal::{Journal, JournalMark, JournalStart, LivePart};
use crate::log::{
    Census, Log, LogConfig, LogStart, OwnedPartition, OwnedStream, Store, World, memory_store,
    partition_settings,
};
use crate::partition::{Expected, Notice, Opened, Partition};
use crate::producers::names_producer;
use crate::stream::{Lsn, PartitionId, STREAMS_DIR, Storage};

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The log had been closed in order, or is new.
    pub clean: bool,
    /// Entries that were replayed into segments.
    pub entries: u64,
    /// Flushed entries were given up, as the operator allowed.
    pub lossy: bool,
    /// Time of the newest entry, ms since 1970; 0 if there is none.
    pub last_time_ms: u64,
    /// What an operator should know.
    pub notices: Vec<Notice>,
    /// Where the journal ended, if that is nothing unusual.
    pub end: Option<Notice>,
}

impl Log {
    /// Opens the log in the disk's root: makes a new one where nothing is, recovers otherwise.
    ///
    /// All that the journal holds behind the last checkpoint is in the segments again and durable
    /// when this returns. `now_ms` is wall time.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig, now_ms: u64) -> Result<Self, Error> {
        let salvage = config.accept_loss.then(|| Salvage::new(Arc::clone(&disk)));
        let disk: Arc<dyn Disk> = match &salvage {
            // For as long as this log is open: shards read the journal again, and readers segments.
            Some(salvage) => Arc::new(salvage.clone()),
            None => disk,
        };
        probe(&*disk)?;
        for dir in [JOURNAL_DIR, STREAMS_DIR] {
            disk.create_dir(dir)
                .map_err(|e| Error::disk(dir, "create", e))?;
        }
        disk.sync_dir(ROOT)
            .map_err(|e| Error::disk(ROOT, "sync", e))?;
        let (catalogue, new) = match Catalogue::read(&*disk)? {
            Some(catalogue) => (catalogue, false),
            None => (initialise(&*disk, now_ms)?, true),
        };
        let found = find_parts(&*disk)?;
        foreign(&found, catalogue.log_id)?;
        let mut recovering = Recovering::open(disk, config, catalogue, salvage)?;
        let chain = chain(&found.used);
        if !new {
            recovering.replay(&chain, &found)?;
        }
        recovering.finish(&chain, &found, new)
    }

    /// Entries from `from` on as they stand in the journal, for state that is a function of it.
    /// Ends at what is appended now. An entry that is no longer there is an error.
    pub fn replay(&self, from: Lsn) -> Result<Replay, Error> {
        let from = from.max(1);
        let appended = self.appended_to();
        let mut chain: Vec<ChainPart> = Vec::new();
        for part in self.journal.live() {
            if let Some(before) = chain.last_mut() {
                before.limit = part.first_lsn;
            }
            chain.push(ChainPart {
                path: part.path.clone(),
                generation: part.generation,
                first_lsn: part.first_lsn,
                limit: appended + 1,
                flushed: 0,
            });
        }
        let leniency = self.config.leniency();
        let reader = if from > appended {
            None
        } else {
            let disk = Arc::clone(&self.disk);
            Some(JournalReader::from_lsn(
                disk, &chain, from, appended, leniency,
            )?)
        };
        Ok(Replay {
            reader,
            failed: false,
        })
    }
}

/// An entry as replay gives it to state that is a function of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedEntry {
    /// Its number.
    pub lsn: Lsn,
    /// When it was staged, ms since 1970.
    pub time_ms: u64,
    /// Its batches on disk streams: partition, base offset, the batch. None of an entry that was
    /// staged by [`Log::stage_foreign`].
    pub batches: Vec<(PartitionId, u64, Bytes)>,
}

/// Iterates over the journal's entries; made by [`Log::replay`].
pub struct Replay {
    reader: Option<JournalReader>,
    failed: bool,
}

impl Iterator for Replay {
    type Item = Result<ReplayedEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut().filter(|_| !self.failed)?;
        let next = reader
            .next()
            .and_then(|raw| raw.map(|raw| replayed(&raw)).transpose());
        self.failed = next.is_err();
        next.transpose()
    }
}

fn replayed(raw: &RawEntry) -> Result<ReplayedEntry, Error> {
    let body = decode(raw)?;
    let appends = if raw.head.foreign {
        Vec::new()
    } else {
        body.appends
    };
    let mut batches = Vec::with_capacity(appends.len());
    for (partition, batch) in appends {
        let head = BatchHead::read(&batch).map_err(|what| unusable(raw, &what.to_string()))?;
        batches.push((partition, head.base_offset(), batch));
    }
    Ok(ReplayedEntry {
        lsn: raw.head.lsn,
        time_ms: raw.head.time_ms,
        batches,
    })
}

/// State of a log that is being put together.
struct Recovering {
    disk: Arc<dyn Disk>,
    /// The same, where loss is accepted.
    salvage: Option<Salvage>,
    config: LogConfig,
    catalogue: Catalogue,
    streams: BTreeMap<String, OwnedStream>,
    partitions: BTreeMap<PartitionId, OwnedPartition>,
    graves: Vec<(Lsn, Partition)>,
    next_partition: PartitionId,
    lsn: Lsn,
    recovery: Recovery,
    census: Census,
}

impl Recovering {
    /// Partitions as the last checkpoint left them: what came behind it is cut off.
    fn open(
        disk: Arc<dyn Disk>,
        config: LogConfig,
        catalogue: Catalogue,
        salvage: Option<Salvage>,
    ) -> Result<Self, Error> {
        let mut recovering = Self {
            disk,
            salvage,
            config,
            streams: BTreeMap::new(),
            partitions: BTreeMap::new(),
            graves: Vec::new(),
            next_partition: catalogue.next_partition,
            lsn: catalogue.mark.lsn,
            recovery: Recovery {
                last_time_ms: catalogue.time_ms,
                ..Recovery::default()
            },
            census: Census::default(),
            catalogue,
        };
        for stream in std::mem::take(&mut recovering.catalogue.streams) {
            let settings = &stream.settings;
            let marks = stream.marks.iter().zip(stream.transactions);
            for (index, (place, (mark, transactions))) in
                stream.places.iter().zip(marks).enumerate()
            {
                let store = match settings.storage {
                    Storage::Memory => memory_store(settings),
                    Storage::Disk => {
                        let dir = place.dir(&settings.name, index);
                        let Opened {
                            mut partition,
                            notices,
                            lossy,
                        } = Partition::open_as(
                            Arc::clone(&recovering.disk),
                            &dir,
                            partition_settings(settings),
                            Some(*mark),
                            Expected {
                                closed: transactions.closed.as_deref(),
                                accept_loss: recovering.config.accept_loss,
                                compacted: settings.compact,
                            },
                        )?;
                        recovering.recovery.notices.extend(notices);
                        recovering.recovery.lossy |= lossy;
                        let notices = partition.restore_aborted(Some(&transactions.aborted))?;
                        recovering.recovery.notices.extend(notices);
                        Store::Disk(Box::new(partition))
                    }
                };
                let index = u32::try_from(index).expect("partitions are bounded");
                let mut owned = OwnedPartition::new(&settings.name, index, place.id, store);
                recovering.census.changed(0, transactions.producers.len());
                owned.restore_producers(transactions.producers);
                recovering.partitions.insert(place.id, owned);
            }
            let name = settings.name.clone();
            let owned = OwnedStream {
                settings: stream.settings,
                places: stream.places,
            };
            recovering.streams.insert(name, owned);
        }
        recovering.bound_producers(recovering.catalogue.time_ms);
        Ok(recovering)
    }

    /// Brings back what the journal holds behind the checkpoint.
    fn replay(&mut self, chain: &[ChainPart], found: &Found) -> Result<(), Error> {
        let leniency = self.config.leniency();
        let mark = self.catalogue.mark;
        let disk = Arc::clone(&self.disk);
        let readable = chain.iter().any(|part| part.generation >= mark.generation);
        if let Some((path, _, what)) = found.damaged.first()
            && !readable
            && !self.config.accept_loss
        {
            let what = format!(
                "{what}, and the journal behind entry {} may be in it",
                mark.lsn
            );
            return Err(Error::corrupt(path.as_str(), 0, what));
        }
        let mut reader = JournalReader::after_mark(disk, chain, mark, leniency)?;
        while let Some(raw) = reader.next()? {
            self.recovery.lossy |= reader.lossy();
            if self.config.skip_entries.contains(&raw.head.lsn) {
                self.recovery.lossy = true;
                self.recovery.notices.push(Notice {
                    path: raw.path.to_string(),
                    what: format!("entry {} was skipped as asked for", raw.head.lsn),
                });
            } else {
                self.apply(&raw)?;
            }
            self.recovery.entries += 1;
            self.recovery.last_time_ms = self.recovery.last_time_ms.max(raw.head.time_ms);
        }
        self.lsn = reader.expected() - 1;
        self.recovery.lossy |= reader.lossy();
        self.recovery.notices.extend(reader.take_notices());
        self.recovery.end = reader.take_end();
        self.damaged_parts(found)?;
        self.unreadable();
        for owned in self.partitions.values_mut() {
            owned.store.write()?;
        }
        Ok(())
    }

    /// What could not be read, and was not told where it was met.
    fn unreadable(&mut self) {
        let notices = self.salvage.as_ref().map(Salvage::take_notices);
        let notices = notices.unwrap_or_default();
        self.recovery.lossy |= !notices.is_empty();
        self.recovery.notices.extend(notices);
    }

    /// A part whose header is damaged may hold entries that were flushed.
    fn damaged_parts(&mut self, found: &Found) -> Result<(), Error> {
        for (path, _, what) in &found.damaged {
            let flushed = flushed_behind(&*self.disk, path, self.lsn + 1)?;
            if flushed <= self.lsn {
                continue;
            }
            let what = format!(
                "{what}, although the journal was flushed up to entry {flushed} and ends at {}",
                self.lsn
            );
            if !self.config.accept_loss {
                return Err(Error::corrupt(path.as_str(), 0, what));
            }
            self.recovery.lossy = true;
            self.recovery.notices.push(Notice {
                path: path.clone(),
                what,
            });
        }
        Ok(())
    }

    fn apply(&mut self, raw: &RawEntry) -> Result<(), Error> {
        let body = decode(raw)?;
        for op in body.ops {
            if let JournalOp::Create { places, .. } | JournalOp::Alter { places, .. } = &op {
                let newest = places.iter().map(|place| place.id + 1).max();
                self.next_partition = self.next_partition.max(newest.unwrap_or(0));
            }
            if let JournalOp::LogStart { partition, .. } = &op
                && let Some(owned) = self.partitions.get_mut(partition)
            {
                // Only what is written can be behind a log start.
                owned.store.write()?;
            }
            let mut world = World {
                disk: &self.disk,
                streams: &mut self.streams,
                partitions: &mut self.partitions,
                graves: &mut self.graves,
            };
            world.apply(op, raw.head.lsn)?;
        }
        for (id, batch) in body.appends {
            self.append(raw, id, &batch)?;
        }
        Ok(())
    }

    fn bound_producers(&mut self, now_ms: u64) {
        let (max, expiry_ms) = (self.config.producers_max, self.config.producer_expiry_ms);
        self.census
            .make_room(&self.partitions, max, now_ms, expiry_ms);
    }

    fn append(&mut self, raw: &RawEntry, id: PartitionId, batch: &Bytes) -> Result<(), Error> {
        let head = BatchHead::read(batch).map_err(|what| unusable(raw, &what.to_string()))?;
        if names_producer(batch) {
            self.bound_producers(raw.head.time_ms);
        }
        let lossy = self.recovery.lossy;
        let Some(owned) = self.partitions.get_mut(&id) else {
            if lossy {
                return Ok(());
            }
            return Err(unusable(
                raw,
                &format!("it appends to partition {id}, which is unknown"),
            ));
        };
        let Some(partition) = owned.disk_mut() else {
            return Err(unusable(
                raw,
                &format!("it appends to partition {id} in memory"),
            ));
        };
        let next_offset = partition.next_offset();
        if head.base_offset() != next_offset {
            if lossy && head.base_offset() > next_offset {
                partition.write()?;
                partition.skip_to(head.base_offset())?;
            } else {
                let what = format!(
                    "it appends offset {} to {}, which goes on at {next_offset}",
                    head.base_offset(),
                    partition.dir()
                );
                return Err(unusable(raw, &what));
            }
        }
        let time_ms = raw.head.time_ms;
        let aborts = if names_producer(batch) {
            let before = owned.state.producers().len();
            let aborts = owned.replay_producer(batch, time_ms, self.config.producer_expiry_ms);
            self.census.changed(before, owned.state.producers().len());
            aborts
        } else {
            None
        };
        let epoch = head.partition_leader_epoch();
        let staged = owned
            .store
            .stage(BytesMut::from(&batch[..]), epoch, time_ms, aborts);
        staged.map_err(|error| unusable(raw, &error.to_string()))?;
        let partition = owned.disk_mut().expect("it is on disk");
        if partition.staged_bytes() >= STAGED_BYTES_MAX {
            partition.write()?;
        }
        Ok(())
    }

    /// Begins a new part of the journal and checkpoints: from here on the log can be served.
    fn finish(mut self, chain: &[ChainPart], found: &Found, new: bool) -> Result<Log, Error> {
        let clean =
            new || (self.catalogue.clean && self.recovery.entries == 0 && !self.recovery.lossy);
        self.recovery.clean = clean;
        let epoch = if clean {
            self.catalogue.epoch
        } else {
            self.catalogue.epoch + 1
        };
        let sorted = self.sort_parts(chain, found)?;
        let newest = found
            .used
            .iter()
            .map(|part| part.head.generation)
            .max()
            .unwrap_or(0);
        let damaged = sorted.damaged_generation;
        // What a killed process left in the page cache was read as if it were durable; shards go on
        // reading it from here.
        for part in &sorted.live {
            let synced = part.file.sync_data();
            synced.map_err(|e| Error::disk(part.path.as_str(), "sync", e))?;
        }
        let journal = Journal::start(
            Arc::clone(&self.disk),
            JournalStart {
                log_id: self.catalogue.log_id,
                part_bytes: self.config.part_bytes(),
                parts_max: self.config.parts_max(),
                live: sorted.live,
                free: sorted.free,
                next_number: found.next_number,
                next_generation: self.catalogue.next_generation.max(newest.max(damaged) + 1),
                last_lsn: self.lsn,
            },
        )?;
        let kept_from = self.catalogue.kept_from;
        let mut log = Log::start(
            LogStart {
                disk: Arc::clone(&self.disk),
                config: self.config,
                log_id: self.catalogue.log_id,
                epoch,
                next_partition: self.next_partition,
                streams: self.streams,
                partitions: self.partitions,
                graves: self.graves,
                lsn: self.lsn,
                time_ms: self.recovery.last_time_ms,
                recovery: self.recovery,
                census: self.census,
            },
            journal,
        );
        log.durable.kept_from = kept_from;
        log.durable.shards_at = kept_from;
        log.checkpoint_now()?;
        let mut useless = sorted.useless;
        for (path, file) in sorted.later {
            if !log.journal.add_free(&path, file) {
                useless.push(path);
            }
        }
        for path in useless {
            let removed = log.disk.remove_file(&path);
            removed.map_err(|e| Error::disk(path, "remove", e))?;
        }
        if !log.recovery.lossy {
            remove_orphans(&*log.disk, &log.folders())?;
        }
        Ok(log)
    }

    /// Writing into a page that cannot be read fails: such a part is not used again.
    fn has_gaps(&self, path: &str) -> bool {
        let salvage = self.salvage.as_ref();
        salvage.is_some_and(|salvage| salvage.has_gaps(path))
    }

    /// Which parts are still read, which can be used again, and which are good for nothing.
    fn sort_parts(&self, chain: &[ChainPart], found: &Found) -> Result<SortedParts, Error> {
        let part_bytes = self.config.part_bytes();
        let mut sorted = SortedParts::default();
        let open = |path: &str| {
            let file = self.disk.open(path, Open::ReadWrite);
            file.map(Arc::from)
                .map_err(|e| Error::disk(path, "open", e))
        };
        for part in &found.used {
            let link = chain
                .iter()
                .find(|link| link.generation == part.head.generation);
            let live = link.filter(|link| {
                link.limit > self.catalogue.kept_from + 1 && link.first_lsn <= self.lsn
            });
            if let Some(link) = live {
                sorted.live.push_back(LivePart {
                    path: part.path.clone(),
                    file: open(&part.path)?,
                    generation: link.generation,
                    first_lsn: link.first_lsn,
                    unfit: self.has_gaps(&part.path),
                });
            } else if part.bytes == part_bytes && !self.has_gaps(&part.path) {
                let reusable = (part.path.clone(), open(&part.path)?);
                // Until the next catalogue is durable another start may begin in the part that the
                // mark is in, and may have to judge those behind it.
                if part.head.generation < self.catalogue.mark.generation {
                    sorted.free.push(reusable);
                } else {
                    sorted.later.push(reusable);
                }
            } else {
                sorted.useless.push(part.path.clone());
            }
        }
        for (path, bytes) in &found.blank {
            if *bytes == part_bytes && !self.has_gaps(path) {
                sorted.free.push((path.clone(), open(path)?));
            } else {
                sorted.useless.push(path.clone());
            }
        }
        for (path, _, _) in &found.damaged {
            let file = self.disk.open(path, Open::Read);
            let file = file.map_err(|e| Error::disk(path.as_str(), "open", e))?;
            let mut head = [0; 64];
            let read = file.read_at(&mut head, PART_HEAD_BYTES);
            let read = read.map_err(|e| Error::disk_at(&**path, "read", PART_HEAD_BYTES, e))?;
            let generation = EntryHead::decode(&head[..read]).map_or(0, |head| head.generation);
            sorted.damaged_generation = sorted.damaged_generation.max(generation);
            sorted.useless.push(path.clone());
        }
        Ok(sorted)
    }
}

#[derive(Default)]
struct SortedParts {
    live: VecDeque<LivePart>,
    free: Vec<(String, Arc<dyn DiskFile>)>,
    /// Free once the next catalogue is durable.
    later: Vec<(String, Arc<dyn DiskFile>)>,
    useless: Vec<String>,
    damaged_generation: u64,
}

/// Staged bytes of a partition beyond which replay writes.
const STAGED_BYTES_MAX: u64 = 1 << 20;

/// Fails early and plainly where nothing can be written.
fn probe(disk: &dyn Disk) -> Result<(), Error> {
    let file = disk
        .open(PROBE, Open::Create)
        .map_err(|e| Error::disk(PROBE, "create", e))?;
    file.write_at(&[b"sluice"], 0)
        .map_err(|e| Error::disk_at(PROBE, "write", 0, e))?;
    drop(file);
    disk.remove_file(PROBE)
        .map_err(|e| Error::disk(PROBE, "remove", e))
}

const PROBE: &str = "write-probe";

/// A new log, unless something is there that a catalogue belongs to.
fn initialise(disk: &dyn Disk, now_ms: u64) -> Result<Catalogue, Error> {
    let streams = disk
        .list(STREAMS_DIR)
        .map_err(|e| Error::disk(STREAMS_DIR, "list", e))?;
    let parts = find_parts(disk)?;
    if !streams.is_empty() || !parts.used.is_empty() || !parts.damaged.is_empty() {
        let source = io::Error::new(
            io::ErrorKind::NotFound,
            "it is missing although streams or a journal are there; bring it back from a copy, or \
             move the data directory away to begin anew",
        );
        return Err(Error::disk(CATALOGUE, "read", source));
    }
    let catalogue = Catalogue {
        log_id: now_ms,
        clean: false,
        epoch: 0,
        next_partition: 1,
        next_generation: 1,
        mark: JournalMark {
            lsn: 0,
            generation: 0,
            position: PART_HEAD_BYTES,
        },
        kept_from: 0,
        time_ms: 0,
        streams: Vec::new(),
    };
    catalogue::replace(disk, &catalogue.encode())?;
    Ok(catalogue)
}

fn foreign(found: &Found, log_id: u64) -> Result<(), Error> {
    let Some(part) = found.used.iter().find(|part| part.head.log_id != log_id) else {
        return Ok(());
    };
    let what = format!(
        "this part of the journal belongs to another log ({}, not {log_id})",
        part.head.log_id
    );
    Err(Error::hopeless(part.path.as_str(), what))
}

fn decode(raw: &RawEntry) -> Result<EntryBody, Error> {
    EntryBody::decode(&raw.body).map_err(|what| unusable(raw, what))
}

fn unusable(raw: &RawEntry, what: &str) -> Error {
    let lsn = raw.head.lsn;
    Error::corrupt(
        &*raw.path,
        raw.position,
        format!(
            "entry {lsn} is whole but cannot be applied: {what}; --skip-entry {lsn} leaves it out"
        ),
    )
}

/// Removes folders of streams that were never journalled or whose deletion was cut short.
fn remove_orphans(disk: &dyn Disk, folders: &BTreeSet<String>) -> Result<(), Error> {
    let names = disk
        .list(STREAMS_DIR)
        .map_err(|e| Error::disk(STREAMS_DIR, "list", e))?;
    for name in names {
        let dir = format!("{STREAMS_DIR}/{name}");
        if folders.contains(&dir) {
            continue;
        }
        let files = disk.list(&dir).map_err(|e| Error::disk(&*dir, "list", e))?;
        for file in files {
            let path = format!("{dir}/{file}");
            disk.remove_file(&path)
                .map_err(|e| Error::disk(path, "remove", e))?;
        }
        disk.remove_dir(&dir)
            .map_err(|e| Error::disk(dir, "remove", e))?;
    }
    Ok(())
}

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod tests;
