//! The log's single owner: gives out offsets, writes journal and segments, publishes how far they
//! are. It belongs to one thread; flushes and checkpoints are handed out as work for others.

mod census;
mod gathered;
mod ops;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use crate::aborted::AbortedEntry;
use crate::batch::BatchView;
use crate::checkpoint::Durable;
use crate::compaction::Cleaning;
use crate::disk::Disk;
use crate::entry::{Append, Entry, Op, OpBytes, Refusal, Staged};
use crate::error::Error;
use crate::flush::{FlushTicket, Flushed};
use crate::journal::Journal;
use crate::journal::part::PartPreparation;
use crate::journal::replay::Leniency;
use crate::limits;
use crate::partition::{MemoryPartition, Partition, PartitionReader, StagedBatch};
use crate::producers::{Producers, names_producer};
use crate::reader::LogReader;
use crate::recovery::Recovery;
use crate::space::SpaceGuard;
use crate::stream::{Ack, Lsn, PartitionId, Place, Storage, StreamSettings};
use crate::tail::TailBudget;
use crate::watermark::{Directory, PartitionMeta, PartitionState, Shared, StreamMeta, Watermarks};

pub(crate) use census::Census;
pub(crate) use ops::{World, memory_store, partition_settings};

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Size of one part of the journal, in bytes; also about the bound of one entry.
    pub journal_part_bytes: u64,
    /// Bound of all parts together, in bytes; at least two parts.
    pub journal_bytes_max: u64,
    /// Bound of the tail cache, in bytes.
    pub tail_bytes_max: u64,
    /// Bytes of a partition that gather in memory, besides in the journal, before they are written
    /// to its segment; 0: each turn is written at once.
    pub gathered_bytes_max: u64,
    /// Free space that appends leave alone, in bytes; 0 does not look.
    pub reserve_bytes: u64,
    /// Go on where flushed entries are damaged, without what followed them.
    pub accept_loss: bool,
    /// Entries that replay leaves out.
    pub skip_entries: Vec<Lsn>,
    /// A producer that sent nothing for so long is forgotten, in milliseconds; one with an open
    /// transaction is not.
    pub producer_expiry_ms: u64,
    /// Producers that all partitions together remember; beyond that the longest silent go.
    pub producers_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            journal_part_bytes: limits::JOURNAL_PART_BYTES_DEFAULT,
            journal_bytes_max: limits::JOURNAL_BYTES_DEFAULT,
            tail_bytes_max: limits::TAIL_BYTES_DEFAULT,
            gathered_bytes_max: limits::GATHERED_BYTES_DEFAULT,
            reserve_bytes: limits::RESERVE_BYTES_DEFAULT,
            accept_loss: false,
            skip_entries: Vec::new(),
            producer_expiry_ms: limits::PRODUCER_EXPIRY_MS_DEFAULT,
            producers_max: limits::PRODUCERS_MAX,
        }
    }
}

impl LogConfig {
    pub(crate) fn part_bytes(&self) -> u64 {
        self.journal_part_bytes
            .clamp(
                limits::JOURNAL_PART_BYTES_MIN,
                limits::JOURNAL_PART_BYTES_MAX,
            )
            .next_multiple_of(4096)
    }

    pub(crate) fn parts_max(&self) -> usize {
        (self.journal_bytes_max / self.part_bytes()).max(2) as usize
    }

    pub(crate) fn leniency(&self) -> Leniency {
        Leniency {
            accept_loss: self.accept_loss,
            skip: self.skip_entries.clone(),
        }
    }
}

/// How much of the journal an entry may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// All but what [`Log::keep_last_room`] keeps.
    Usual,
    /// All of it.
    Last,
}

/// The durable log.
///
/// [`Log::stage`] any number of entries, then [`Log::write`] once; after that the entries are
/// appended. A [`FlushTicket`], run on another thread and handed back to [`Log::flushed`], makes
/// them durable.
pub struct Log {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: LogConfig,
    pub(crate) id: u64,
    pub(crate) journal: Journal,
    pub(crate) streams: BTreeMap<String, OwnedStream>,
    pub(crate) partitions: BTreeMap<PartitionId, OwnedPartition>,
    /// Deleted partitions, whose folders go once the catalogue no longer names them.
    pub(crate) graves: Vec<(Lsn, Partition)>,
    pub(crate) next_partition: PartitionId,
    pub(crate) epoch: i32,
    pub(crate) time_ms: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) durable: Durable,
    pub(crate) recovery: Recovery,
    tail: TailBudget,
    pub(crate) space: SpaceGuard,
    census: Census,
    /// Last staged entry.
    staged_lsn: Lsn,
    anything_staged: bool,
    /// The last room of the journal is kept for what a checkpoint waits for.
    keeps_room: bool,
    touched: Vec<PartitionId>,
    unflushed: Vec<PartitionId>,
    directory_changed: bool,
    gathering: gathered::Gathering,
    /// Calls of [`Log::write_gathered`].
    gathering_round: u64,
}

pub(crate) struct OwnedStream {
    pub(crate) settings: StreamSettings,
    pub(crate) places: Vec<Place>,
}

pub(crate) struct OwnedPartition {
    pub(crate) state: Arc<PartitionState>,
    pub(crate) store: Store,
    pub(crate) pins: BTreeMap<u32, u64>,
    pub(crate) cleaning: Cleaning,
    staged: Vec<StagedBatch>,
    touched: bool,
    unflushed: bool,
    /// The round in which the batches began to gather that are in no segment yet.
    gathers_since: Option<u64>,
    /// Transactions began or ended in what is staged.
    transactions: bool,
}

pub(crate) enum Store {
    Disk(Box<Partition>),
    Memory(MemoryPartition),
}

impl Store {
    pub(crate) fn stage(
        &mut self,
        batch: BytesMut,
        epoch: i32,
        now_ms: u64,
        aborts: Option<AbortedEntry>,
    ) -> Result<StagedBatch, Error> {
        match self {
            Self::Disk(partition) => partition.stage_aborting(batch, epoch, now_ms, aborts),
            Self::Memory(partition) => partition.stage_aborting(batch, epoch, aborts),
        }
    }

    pub(crate) fn write(&mut self) -> Result<(), Error> {
        match self {
            Self::Disk(partition) => partition.write(),
            Self::Memory(partition) => partition.write(),
        }
    }

    pub(crate) fn next_offset(&self) -> u64 {
        match self {
            Self::Disk(partition) => partition.next_offset(),
            Self::Memory(partition) => partition.next_offset(),
        }
    }

    pub(crate) fn log_start(&self) -> u64 {
        match self {
            Self::Disk(partition) => partition.log_start(),
            Self::Memory(partition) => partition.log_start(),
        }
    }

    fn reader(&self) -> PartitionReader {
        match self {
            Self::Disk(partition) => partition.reader(),
            Self::Memory(partition) => partition.reader(),
        }
    }
}

impl OwnedPartition {
    /// The first offset that somebody holds back.
    pub(crate) fn pinned(&self) -> Option<u64> {
        self.pins.values().copied().min()
    }

    pub(crate) fn new(stream: &str, index: u32, id: PartitionId, store: Store) -> Self {
        let storage = match store {
            Store::Disk(_) => Storage::Disk,
            Store::Memory(_) => Storage::Memory,
        };
        let meta = PartitionMeta {
            id,
            stream: stream.to_owned(),
            index,
            storage,
        };
        let next_offset = store.next_offset();
        let state = PartitionState::new(meta, store.reader(), next_offset);
        Self {
            state: Arc::new(state),
            store,
            pins: BTreeMap::new(),
            cleaning: Cleaning::default(),
            staged: Vec::new(),
            touched: false,
            unflushed: false,
            gathers_since: None,
            transactions: false,
        }
    }

    /// Remembers these producers, as a checkpoint knew them.
    pub(crate) fn restore_producers(&mut self, producers: Producers) {
        *self.state.producers() = producers;
    }

    /// Takes note of a producer's batch that the log took before, when `time_ms` was; what it
    /// aborts.
    pub(crate) fn replay_producer(
        &mut self,
        batch: &[u8],
        time_ms: u64,
        expiry_ms: u64,
    ) -> Option<AbortedEntry> {
        let (batch, _) = BatchView::parse(batch).ok()?;
        let base_offset = self.store.next_offset();
        let mut producers = self.state.producers();
        producers.appended(
            &batch.head(),
            batch.marker(),
            base_offset,
            time_ms,
            expiry_ms,
        )
    }

    /// Checks a producer's batch and takes note of it; what it aborts.
    fn admit_producer(
        &mut self,
        batch: &[u8],
        now_ms: u64,
        expiry_ms: u64,
        has_room: bool,
    ) -> Result<Option<AbortedEntry>, Refusal> {
        let (batch, _) = BatchView::parse(batch).map_err(|_| Refusal::MalformedBatch)?;
        let base_offset = self.store.next_offset();
        let mut producers = self.state.producers();
        let marker = producers.judge(&batch, now_ms, expiry_ms, has_room)?;
        self.transactions |= batch.is_transactional();
        Ok(producers.appended(&batch.head(), marker, base_offset, now_ms, expiry_ms))
    }

    pub(crate) fn disk_mut(&mut self) -> Option<&mut Partition> {
        match &mut self.store {
            Store::Disk(partition) => Some(partition),
            Store::Memory(_) => None,
        }
    }

    pub(crate) fn disk(&self) -> Option<&Partition> {
        match &self.store {
            Store::Disk(partition) => Some(partition),
            Store::Memory(_) => None,
        }
    }
}

/// What recovery hands over.
pub(crate) struct LogStart {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: LogConfig,
    pub(crate) log_id: u64,
    pub(crate) epoch: i32,
    pub(crate) next_partition: PartitionId,
    pub(crate) streams: BTreeMap<String, OwnedStream>,
    pub(crate) partitions: BTreeMap<PartitionId, OwnedPartition>,
    pub(crate) graves: Vec<(Lsn, Partition)>,
    pub(crate) lsn: Lsn,
    pub(crate) time_ms: u64,
    pub(crate) recovery: Recovery,
    pub(crate) census: Census,
}

impl Log {
    pub(crate) fn start(start: LogStart, journal: Journal) -> Self {
        let shared = Arc::new(Shared::new(Arc::clone(&start.disk), start.epoch));
        shared.publish_appended(start.lsn);
        shared.publish_flushed(start.lsn);
        let mut log = Self {
            tail: TailBudget::new(start.config.tail_bytes_max),
            space: SpaceGuard::new(start.config.reserve_bytes),
            disk: start.disk,
            config: start.config,
            id: start.log_id,
            journal,
            streams: start.streams,
            partitions: start.partitions,
            graves: start.graves,
            next_partition: start.next_partition,
            epoch: start.epoch,
            time_ms: start.time_ms,
            shared,
            durable: Durable::default(),
            recovery: start.recovery,
            census: start.census,
            staged_lsn: start.lsn,
            anything_staged: false,
            keeps_room: false,
            touched: Vec::new(),
            unflushed: Vec::new(),
            directory_changed: false,
            gathering: gathered::Gathering::default(),
            gathering_round: 0,
        };
        for partition in log.partitions.values() {
            // Replay went on behind what the states were made with.
            let next_offset = partition.store.next_offset();
            partition.state.publish_transactions(next_offset);
            partition.state.publish_all_flushed();
        }
        log.publish_directory();
        log.publish_sizes();
        log
    }

    /// Gives offsets to an entry's batches and keeps it for the next [`Log::write`].
    ///
    /// A refused batch or op fails alone. The whole entry fails, and the log goes on, with
    /// [`Error::Full`], [`Error::JournalFull`] and [`Error::EntryTooLarge`]; any other error
    /// latches the log.
    pub fn stage(&mut self, entry: Entry, now_ms: u64) -> Result<Staged, Error> {
        self.stage_as(entry, Room::Usual, now_ms, false)
    }

    /// As [`Log::stage`], in the room that the entry may use.
    pub fn stage_in(&mut self, entry: Entry, room: Room, now_ms: u64) -> Result<Staged, Error> {
        self.stage_as(entry, room, now_ms, false)
    }

    /// Whether an entry would be staged now, for who wants to keep one that would not; the error is
    /// that of [`Log::stage`].
    pub fn admits(&mut self, entry: &Entry, room: Room, now_ms: u64) -> Result<(), Error> {
        self.shared.latch.check()?;
        self.admit(entry, room, now_ms)
    }

    /// As [`Log::stage`] for an entry of those whose state is no function of the journal, such as
    /// Kafka's producers: [`Log::replay`] does not show its batches.
    pub fn stage_foreign(&mut self, entry: Entry, now_ms: u64) -> Result<Staged, Error> {
        self.stage_as(entry, Room::Usual, now_ms, true)
    }

    fn stage_as(
        &mut self,
        mut entry: Entry,
        room: Room,
        now_ms: u64,
        foreign: bool,
    ) -> Result<Staged, Error> {
        self.shared.latch.check()?;
        self.admit(&entry, room, now_ms)?;
        let ops = entry.ops.len();
        entry.ops.retain(|op| *op != Op::AwaitFlush);
        let awaited = entry.ops.len() < ops;
        self.anything_staged = true;
        self.time_ms = self.time_ms.max(now_ms);
        let shared = Arc::clone(&self.shared);
        let mut op_bytes = OpBytes::default();
        let mut ops = Vec::with_capacity(entry.ops.len());
        for op in entry.ops {
            let done = self
                .carry_out(op, &mut op_bytes)
                .map_err(|e| shared.failed(e))?;
            ops.push(done);
        }
        let mut staged = Staged {
            lsn: self.staged_lsn,
            base_offsets: Vec::with_capacity(entry.appends.len()),
            batches: Vec::with_capacity(entry.appends.len()),
            ops,
            ack: if awaited { Ack::Flush } else { Ack::Memory },
            journal_bytes: 0,
        };
        let mut journalled = Vec::with_capacity(entry.appends.len());
        for append in entry.appends {
            let partition = append.partition;
            let (batch, on_disk) = match self.stage_append(append, &mut staged.ack, now_ms) {
                Ok(batch) => batch,
                Err(Error::Batch { .. }) => (Err(Refusal::MalformedBatch), false),
                Err(error) => return Err(shared.failed(error)),
            };
            if let (Ok(batch), true) = (&batch, on_disk) {
                journalled.push((partition, batch.batch.clone()));
            }
            staged
                .base_offsets
                .push(batch.as_ref().map(|b| b.base_offset).map_err(|why| *why));
            staged
                .batches
                .push(batch.map_or_else(|_| Bytes::new(), |batch| batch.batch));
        }
        if !journalled.is_empty() || !op_bytes.is_empty() {
            let flushed = self.shared.flushed.load(Ordering::Acquire);
            staged.journal_bytes = self
                .journal
                .stage(flushed, now_ms, foreign, &op_bytes, &journalled)
                .map_err(|e| shared.failed(e))?;
            self.staged_lsn += 1;
            staged.lsn = self.staged_lsn;
        }
        Ok(staged)
    }

    /// Writes all that was staged: one write to each part of the journal it touches, one to each
    /// segment for which enough has gathered; then publishes it as appended. Returns the last entry
    /// appended.
    pub fn write(&mut self) -> Result<Lsn, Error> {
        self.shared.latch.check()?;
        if !self.anything_staged {
            return Ok(self.staged_lsn);
        }
        self.journal.write().map_err(|e| self.shared.failed(e))?;
        self.write_segments()?;
        self.anything_staged = false;
        if self.directory_changed {
            self.publish_directory();
        }
        for id in self.touched.drain(..) {
            let Some(partition) = self.partitions.get_mut(&id) else {
                continue;
            };
            partition.touched = false;
            for batch in partition.staged.drain(..) {
                let next_offset = batch.last_offset + 1;
                self.tail.push(
                    &partition.state,
                    batch.base_offset,
                    next_offset,
                    batch.batch,
                );
            }
            let next_offset = partition.store.next_offset();
            if std::mem::take(&mut partition.transactions) {
                partition.state.publish_transactions(next_offset);
            } else {
                partition.state.publish_appended(next_offset);
            }
            if matches!(partition.store, Store::Memory(_)) {
                partition.state.publish_all_flushed();
                partition
                    .state
                    .publish_log_start(partition.store.log_start());
            } else if !partition.unflushed {
                partition.unflushed = true;
                self.unflushed.push(id);
            }
        }
        self.shared.publish_appended(self.staged_lsn);
        self.publish_sizes();
        Ok(self.staged_lsn)
    }

    /// What the flush thread has to sync for all that is written to be durable; none if it is.
    pub fn flush_ticket(&mut self) -> Option<FlushTicket> {
        if self.journal.dirty().is_empty() || self.shared.latch.check().is_err() {
            return None;
        }
        Some(FlushTicket {
            shared: Arc::clone(&self.shared),
            parts: self.journal.dirty().to_vec(),
            lsn: self.journal.mark().lsn,
            ends: self.unflushed_ends(),
        })
    }

    /// Takes back what a ticket did and publishes it as flushed.
    pub fn flushed(&mut self, flushed: Flushed) {
        let Flushed { lsn, parts, ends } = flushed;
        self.journal.clean(&parts);
        for (state, marks) in ends {
            state.publish_flushed(marks.appended, marks.stable);
        }
        let partitions = &mut self.partitions;
        self.unflushed.retain(|id| {
            let Some(partition) = partitions.get_mut(id) else {
                return false;
            };
            let marks = partition.state.watermarks();
            partition.unflushed = marks.flushed < marks.appended;
            partition.unflushed
        });
        self.shared.publish_flushed(lsn);
    }

    /// The work of making one more part of the journal ready, if one should be and free space above
    /// the reserve allows it. Run its steps anywhere but on the log thread, then hand it to
    /// [`Log::prepared`], even after an error.
    pub fn prepare(&mut self, now_ms: u64) -> Option<PartPreparation> {
        self.journal.prepare(self.space.reserve_bytes(), now_ms)
    }

    /// Takes a part that was prepared; one that failed is cleared away and tried again later.
    pub fn prepared(&mut self, preparation: PartPreparation) {
        self.journal.prepared(preparation);
    }

    /// A reader for any thread.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// Why the log takes nothing more, if an earlier write or flush failed.
    pub fn latched(&self) -> Option<Error> {
        self.shared.latch.check().err()
    }

    /// What the start found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Whether entries of so many bytes together, at most one part's size, find room in the
    /// journal. Where not, a checkpoint makes some.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.journal.has_room(bytes + self.kept_room())
    }

    /// The last entry appended.
    pub fn appended_to(&self) -> Lsn {
        self.shared.appended.load(Ordering::Acquire)
    }

    /// The last entry flushed.
    pub fn flushed_to(&self) -> Lsn {
        self.shared.flushed.load(Ordering::Acquire)
    }

    /// The oldest entry that [`Log::replay`] can begin with.
    pub fn first_entry(&self) -> Lsn {
        let first = self.journal.live().next();
        first.map_or(0, |part| part.first_lsn).max(1)
    }

    /// From now on only entries of [`Room::Last`] may use the last room of the journal: those that a
    /// checkpoint waits for, and with it everyone else.
    pub fn keep_last_room(&mut self) {
        self.keeps_room = true;
    }

    /// Bytes that entries of [`Room::Usual`] leave alone.
    fn kept_room(&self) -> u64 {
        if self.keeps_room {
            self.journal.reserve_bytes()
        } else {
            0
        }
    }

    /// Retention and compaction keep `partition` from `offset` on for `owner` (a number that each
    /// reader with a stored position chooses for itself); none lets go.
    pub fn pin(&mut self, partition: PartitionId, owner: u32, offset: Option<u64>) {
        let Some(partition) = self.partitions.get_mut(&partition) else {
            return;
        };
        match offset {
            Some(offset) => partition.pins.insert(owner, offset),
            None => partition.pins.remove(&owner),
        };
    }

    /// The first offset of a partition that somebody holds back from retention and compaction.
    pub fn pinned(&self, partition: PartitionId) -> Option<u64> {
        self.partitions.get(&partition)?.pinned()
    }

    pub(crate) fn is_staged(&self) -> bool {
        self.anything_staged
    }

    pub(crate) fn unflushed_ends(&self) -> Vec<(Arc<PartitionState>, Watermarks)> {
        let partitions = self
            .unflushed
            .iter()
            .filter_map(|id| self.partitions.get(id));
        partitions
            .map(|p| (Arc::clone(&p.state), p.state.watermarks()))
            .collect()
    }

    /// Refuses what cannot be appended as a whole, before anything is changed.
    fn admit(&mut self, entry: &Entry, room: Room, now_ms: u64) -> Result<(), Error> {
        let mut sizes = Vec::with_capacity(entry.appends.len());
        for append in &entry.appends {
            let on_disk = self
                .partitions
                .get(&append.partition)
                .is_some_and(|p| p.disk().is_some());
            if on_disk {
                sizes.push(append.batch.len());
            }
        }
        let ops_bytes: u64 = entry.ops.iter().map(ops::bytes_max).sum();
        if sizes.is_empty() && ops_bytes == 0 {
            return Ok(());
        }
        let batch_bytes: u64 = sizes.iter().map(|size| *size as u64).sum();
        let bytes = Journal::entry_bytes(&OpBytes::default(), sizes.into_iter()) + ops_bytes;
        let bytes_max = self.journal.entry_bytes_max();
        if bytes > bytes_max {
            return Err(Error::EntryTooLarge { bytes, bytes_max });
        }
        let kept = match room {
            Room::Usual => self.kept_room(),
            Room::Last => 0,
        };
        if !self.journal.has_room(bytes + kept) {
            let (used_bytes, bytes_max) = self.journal.fill();
            return Err(Error::JournalFull {
                used_bytes,
                bytes_max,
            });
        }
        let creates = entry.ops.iter().any(ops::takes_space);
        if batch_bytes > 0 || creates {
            let gathered = || gathered::gathered_bytes(&self.gathering, &self.partitions);
            self.space
                .claim(&*self.disk, batch_bytes, gathered, now_ms)?;
        }
        Ok(())
    }

    /// Also says whether the batch belongs in the journal.
    fn stage_append(
        &mut self,
        append: Append,
        ack: &mut Ack,
        now_ms: u64,
    ) -> Result<(Result<StagedBatch, Refusal>, bool), Error> {
        let expiry_ms = self.config.producer_expiry_ms;
        let named = names_producer(&append.batch);
        let has_room = !named || {
            let max = self.config.producers_max;
            self.census
                .make_room(&self.partitions, max, now_ms, expiry_ms)
        };
        let Some(partition) = self.partitions.get_mut(&append.partition) else {
            return Ok((Err(Refusal::UnknownPartition), false));
        };
        let mut aborts = None;
        let stream = self.streams.get(&partition.state.meta.stream);
        let level = stream.map_or(Ack::Memory, |stream| stream.settings.ack);
        if named {
            let before = partition.state.producers().len();
            let admitted = partition.admit_producer(&append.batch, now_ms, expiry_ms, has_room);
            let after = partition.state.producers().len();
            self.census.changed(before, after);
            match admitted {
                Ok(entry) => aborts = entry,
                Err(refusal) => {
                    if matches!(refusal, Refusal::DuplicateSequence { .. }) {
                        // Its answer is that of the batch that is there.
                        *ack = (*ack).max(level);
                    }
                    return Ok((Err(refusal), false));
                }
            }
        }
        let store = &mut partition.store;
        let staged = store.stage(append.batch, self.epoch, now_ms, aborts)?;
        partition.staged.push(staged.clone());
        if !partition.touched {
            partition.touched = true;
            self.touched.push(append.partition);
        }
        let on_disk = matches!(partition.store, Store::Disk(_));
        *ack = (*ack).max(level);
        Ok((Ok(staged), on_disk))
    }

    fn publish_directory(&mut self) {
        let mut directory = Directory::default();
        let mut streams = Vec::with_capacity(self.streams.len());
        for stream in self.streams.values() {
            directory
                .by_name
                .insert(stream.settings.name.clone(), streams.len());
            directory
                .by_topic_id
                .insert(stream.settings.topic_id, streams.len());
            streams.push(StreamMeta {
                settings: stream.settings.clone(),
                partitions: stream.places.iter().map(|place| place.id).collect(),
            });
        }
        directory.streams = Arc::new(streams);
        let states = self
            .partitions
            .iter()
            .map(|(id, p)| (*id, Arc::clone(&p.state)));
        directory.partitions = states.collect();
        self.shared.publish_directory(directory);
        self.directory_changed = false;
    }

    pub(crate) fn publish_sizes(&self) {
        let (used, max) = self.journal.fill();
        self.shared
            .journal_used_bytes
            .store(used, Ordering::Relaxed);
        self.shared.journal_bytes_max.store(max, Ordering::Relaxed);
        self.shared
            .tail_bytes
            .store(self.tail.bytes(), Ordering::Relaxed);
    }

    /// Folder names that are taken.
    pub(crate) fn folders(&self) -> BTreeSet<String> {
        let partitions = self.partitions.values().filter_map(OwnedPartition::disk);
        let graves = self.graves.iter().map(|(_, partition)| partition);
        partitions
            .chain(graves)
            .map(|partition| partition.dir().to_owned())
            .collect()
    }
}
