//! A partition: a folder of segments with one writer and any number of readers. Offsets are assigned
//! here. When to write, to sync and to delete is decided elsewhere, and time is an argument.

mod aborted;
mod epochs;
mod heal;
mod memory;
mod metadata;
mod open;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use crate::aborted::AbortedEntry;
use crate::batch::{BatchHead, BatchView, set_base_offset, set_leader_epoch};
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::index::OFFSET_ENTRY_BYTES;
use crate::limits::{
    RESERVE_FREE_BYTES_MIN, RESERVE_FROM_BYTES, RESERVED_AHEAD_BYTES, SEGMENT_BYTES_MAX,
};
use crate::segment::{CLEANED, IndexBytes, REWRITTEN, Rewritten, Segment, TXNINDEX, Tail};

pub(crate) use aborted::AbortedMark;
pub use memory::MemoryPartition;
pub(crate) use open::{Expected, Opened};
pub use reader::PartitionReader;

use epochs::EPOCHS_FILE;
use reader::Shared;

/// Bytes of entries of `.index` that are written together: 16 entries, so that a reader at the end
/// walks through 64 KiB of small batches without them.
const INDEX_WRITE_BYTES: usize = 16 * OFFSET_ENTRY_BYTES as usize;

/// What a partition on disk is told by its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSettings {
    /// The stream's id on the Kafka wire; stands in `partition.metadata`.
    pub topic_id: [u8; 16],
    /// A segment rolls before it grows beyond this; at most [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// A segment rolls when its first batch is older than this, if set.
    pub segment_ms: Option<u64>,
}

/// How far a partition is written; what a checkpoint keeps of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionMark {
    /// Base offset of the active segment.
    pub segment_base: u64,
    /// Length of the active segment's log in bytes.
    pub position: u64,
    /// Offset that the next record gets.
    pub next_offset: u64,
    /// First offset that may be read.
    pub log_start: u64,
}

/// A closed segment that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClosedMark {
    /// Its base offset.
    pub(crate) base: u64,
    /// The base offset of the next one.
    pub(crate) next: u64,
    /// Length of its log, until it is written anew; 0 where a catalogue of an older version does not
    /// say.
    pub(crate) size_bytes: u64,
}

/// Something found and mended while opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// File or folder, relative to the data directory.
    pub path: String,
    /// What was found and what was done.
    pub what: String,
}

/// A batch that has its offsets and waits to be written.
#[derive(Clone, Debug)]
pub struct StagedBatch {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// The bytes as they will lie on disk; shared, not copied.
    pub batch: Bytes,
}

/// Files and folders changed since the last time they were taken.
#[derive(Default)]
pub struct Dirty {
    /// Path and handle; sync each.
    pub files: Vec<(String, Arc<dyn DiskFile>)>,
    /// Folders whose names changed, parents first; sync each, after the files.
    pub dirs: Vec<String>,
}

/// One segment, as retention and compaction look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// First offset that the segment may hold.
    pub base_offset: u64,
    /// First offset of the next segment.
    pub next_offset: u64,
    /// Length of its log.
    pub size_bytes: u64,
    /// Greatest timestamp in it, ms since 1970; -1 without any.
    pub newest_timestamp_ms: i64,
    /// Whether it is the one that is appended to.
    pub active: bool,
}

/// The owner of a partition on disk. Staged batches are invisible until [`write`](Self::write).
pub struct Partition {
    disk: Arc<dyn Disk>,
    settings: PartitionSettings,
    shared: Arc<Shared>,
    active: Arc<Segment>,
    /// The end of the active segment, as written.
    tail: Tail,
    /// Byte of the active segment up to which space is reserved; 0 where none is.
    reserved: u64,
    /// A large write was made since [`release_unused`](Self::release_unused) was last called.
    busy: bool,
    /// Index entries of the active segment that are not written yet. Opening makes them again, so
    /// no checkpoint waits for them.
    unindexed: IndexBytes,
    log_start: u64,
    staged: Vec<Staged>,
    staged_bytes: u64,
    /// Something staged is to be found in a file as soon as readers see it.
    urgent: bool,
    /// Where the writer will be when all that is staged is written.
    plan: Plan,
    /// Latest leader epoch that appended.
    epoch: i32,
    epochs_changed: bool,
    dirty_segments: Vec<Arc<Segment>>,
    dirty: Dirty,
    /// Whether any segment has aborted transactions.
    has_aborted: bool,
    /// Segments with a `.txnindex` that opening found; until they are restored.
    txnindexes: Vec<u64>,
    latched: Option<(String, u64, String)>,
}

struct Staged {
    head: BatchHead,
    bytes: Bytes,
    /// Begins a new segment.
    rolls: bool,
    /// The transaction that this marker aborts.
    aborts: Option<Box<AbortedEntry>>,
}

#[derive(Clone, Copy)]
struct Plan {
    segment_base: u64,
    position: u64,
    /// Time of the first batch of the segment.
    begun_ms: Option<u64>,
    next_offset: u64,
}

impl Plan {
    fn behind(tail: &Tail, segment_base: u64) -> Self {
        Self {
            segment_base,
            position: tail.position,
            begun_ms: tail
                .first_timestamp_ms
                .and_then(|ms| u64::try_from(ms).ok()),
            next_offset: tail.next_offset,
        }
    }
}

impl Partition {
    /// The partition's folder.
    pub fn dir(&self) -> &str {
        &self.shared.dir
    }

    /// Gives a finished batch the next offsets and the leader epoch and keeps it for the next
    /// [`write`](Self::write). `now_ms` decides whether the segment is old enough to roll. The batch
    /// must have been validated: its records and checksum are not looked at.
    pub fn stage(&mut self, batch: Vec<u8>, epoch: i32, now_ms: u64) -> Result<StagedBatch, Error> {
        self.stage_aborting(Bytes::from(batch).into(), epoch, now_ms, None)
    }

    /// As [`stage`](Self::stage); the batch may be a marker that aborts a transaction.
    pub(crate) fn stage_aborting(
        &mut self,
        mut batch: BytesMut,
        epoch: i32,
        now_ms: u64,
        aborts: Option<AbortedEntry>,
    ) -> Result<StagedBatch, Error> {
        self.check_latch()?;
        let refused = |source| Error::Batch {
            path: self.dir().to_owned(),
            source,
        };
        let base_offset = self.plan.next_offset;
        let (view, size) = BatchView::parse(&batch).map_err(refused)?;
        let segment_bytes = self.settings.segment_bytes.min(SEGMENT_BYTES_MAX);
        let last_offset = base_offset + u64::from(view.last_offset_delta());
        batch.truncate(size);
        set_base_offset(&mut batch, base_offset);
        set_leader_epoch(&mut batch, epoch);
        let head = BatchHead::read(&batch).map_err(refused)?;

        let plan = &self.plan;
        let old = self.settings.segment_ms.is_some_and(|limit_ms| {
            plan.begun_ms
                .is_some_and(|begun_ms| now_ms.saturating_sub(begun_ms) >= limit_ms)
        });
        let out_of_reach = last_offset - plan.segment_base >= i32::MAX as u64;
        let full = plan.position + size as u64 > segment_bytes;
        let rolls = out_of_reach || (plan.position > 0 && (old || full));
        // A gap at the front has no time.
        if rolls || plan.position == 0 || plan.begun_ms.is_none() {
            self.plan.begun_ms = Some(now_ms);
        }
        if rolls {
            self.plan.segment_base = base_offset;
            self.plan.position = 0;
        }
        self.plan.position += size as u64;
        self.plan.next_offset = last_offset + 1;
        if epoch > self.epoch {
            self.epoch = epoch;
            self.epochs_changed |= self.shared.add_epoch(epoch, base_offset);
        }
        let bytes = batch.freeze();
        self.staged_bytes += size as u64;
        self.urgent |= aborts.is_some();
        self.shared.staged(self.staged_bytes);
        self.staged.push(Staged {
            head,
            bytes: bytes.clone(),
            rolls,
            aborts: aborts.map(Box::new),
        });
        Ok(StagedBatch {
            base_offset,
            last_offset,
            batch: bytes,
        })
    }

    /// Writes all that is staged: one write to each segment concerned, then the index entries that
    /// are due, all to the page cache. Then readers see it. After a failure the partition is latched
    /// and takes nothing more; what was staged is lost here and lives in the journal only.
    pub fn write(&mut self) -> Result<(), Error> {
        self.check_latch()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        let staged = std::mem::take(&mut self.staged);
        let written = self.write_staged(&staged);
        self.latch(written)?;
        self.staged = staged;
        self.forget_staged();
        self.shared
            .next_offset
            .store(self.tail.next_offset, Ordering::Release);
        Ok(())
    }

    /// Bytes that wait for [`write`](Self::write).
    pub fn staged_bytes(&self) -> u64 {
        self.staged_bytes
    }

    /// Whether a staged batch is a marker that aborts: readers look for those in files only.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent
    }

    fn forget_staged(&mut self) {
        self.staged.clear();
        self.staged_bytes = 0;
        self.urgent = false;
        self.shared.staged(0);
    }

    /// Leaves a gap: the next record gets `offset`, which must not be before the next offset.
    pub fn skip_to(&mut self, offset: u64) -> Result<(), Error> {
        if offset < self.plan.next_offset {
            return Err(self.out_of_range(offset));
        }
        self.write()?;
        self.plan.next_offset = offset;
        self.tail.next_offset = offset;
        self.shared.next_offset.store(offset, Ordering::Release);
        Ok(())
    }

    /// How far the partition is written; staged batches do not count.
    pub fn mark(&self) -> PartitionMark {
        PartitionMark {
            segment_base: self.active.base(),
            position: self.tail.position,
            next_offset: self.tail.next_offset,
            log_start: self.log_start,
        }
    }

    /// What must be synced so that all that is written is durable; each change is handed out once.
    /// After a failed sync the caller must not write on: what a second sync says proves nothing.
    pub fn take_dirty(&mut self) -> Dirty {
        let mut dirty = std::mem::take(&mut self.dirty);
        for segment in self.dirty_segments.drain(..) {
            let files = segment.files().expect("a segment that was written is open");
            for (extension, file) in files.all() {
                dirty
                    .files
                    .push((segment.path(extension), Arc::clone(file)));
            }
            if let Some(file) = segment.txnindex() {
                dirty.files.push((segment.path(TXNINDEX), Arc::clone(file)));
            }
        }
        dirty
    }

    /// Closes the active segment and begins a new one; `false` when it is empty.
    pub fn roll(&mut self) -> Result<bool, Error> {
        self.write()?;
        if self.tail.position == 0 {
            return Ok(false);
        }
        let rolled = self.begin_segment(self.tail.next_offset);
        self.latch(rolled)?;
        self.plan = Plan::behind(&self.tail, self.active.base());
        Ok(true)
    }

    /// Raises the first offset that may be read; the files stay. A lower offset changes nothing.
    pub fn set_log_start(&mut self, offset: u64) -> Result<(), Error> {
        if offset > self.tail.next_offset {
            self.write()?;
        }
        if offset > self.tail.next_offset {
            return Err(self.out_of_range(offset));
        }
        self.log_start = self.log_start.max(offset);
        self.shared
            .log_start
            .store(self.log_start, Ordering::Release);
        Ok(())
    }

    /// Removes the closed segments that lie wholly before `offset`, oldest first, and returns how
    /// many bytes of batches went. Who has a batch or a file of them keeps it.
    pub fn drop_segments_before(&mut self, offset: u64) -> Result<u64, Error> {
        let mut freed = 0;
        loop {
            let Some((oldest, next_base)) = self.shared.two_oldest() else {
                return Ok(freed);
            };
            if next_base > offset {
                return Ok(freed);
            }
            self.set_log_start(next_base)?;
            self.shared.change(|segments| drop(segments.pop_front()));
            self.remove_segment(&oldest)?;
            freed += oldest.size_bytes();
        }
    }

    /// Cuts everything from `offset` on, with the whole batch that contains it, and returns the new
    /// next offset. For recovery: readers that are at work meanwhile may see errors.
    pub fn truncate_to(&mut self, offset: u64) -> Result<u64, Error> {
        self.check_latch()?;
        self.forget_staged();
        if offset < self.log_start || offset > self.tail.next_offset {
            return Err(self.out_of_range(offset));
        }
        let cut = self.truncate_segments(offset);
        self.latch(cut)?;
        let next_offset = self.tail.next_offset;
        self.log_start = self.log_start.min(next_offset);
        self.shared
            .log_start
            .store(self.log_start, Ordering::Release);
        self.epochs_changed |= self.shared.cut_epochs(next_offset);
        self.epoch = self.shared.latest_epoch().unwrap_or(-1);
        self.plan = Plan::behind(&self.tail, self.active.base());
        Ok(next_offset)
    }

    /// The segments from the oldest on.
    pub fn segments(&self) -> Vec<SegmentSummary> {
        let segments = self.shared.segments();
        let nexts = segments.iter().skip(1).map(|segment| segment.base());
        let nexts = nexts.chain(std::iter::once(self.tail.next_offset));
        let summary = |(segment, next_offset): (&Arc<Segment>, u64)| SegmentSummary {
            base_offset: segment.base(),
            next_offset,
            size_bytes: segment.size_bytes(),
            newest_timestamp_ms: segment.newest().map_or(-1, |newest| newest.timestamp_ms),
            active: Arc::ptr_eq(segment, &self.active),
        };
        segments.iter().zip(nexts).map(summary).collect()
    }

    /// Puts a segment that was written anew in the place of the old one; returns how many bytes
    /// became free. Readers go on without a break. The segment must be closed and lie before the
    /// active segment of the last durable checkpoint, or recovery could not cut to its mark.
    pub fn install(&mut self, rewritten: Rewritten) -> Result<u64, Error> {
        self.check_latch()?;
        let new = Arc::new(rewritten.segment);
        let (at, old) = {
            let segments = self.shared.segments();
            let at = segments
                .iter()
                .position(|segment| segment.base() == new.base());
            let Some(at) = at.filter(|&at| at + 1 < segments.len()) else {
                // Retention was faster.
                drop(segments);
                self.remove_cleaned(&new)?;
                return Ok(0);
            };
            (at, Arc::clone(&segments[at]))
        };
        new.end_at(old.end_offset());
        new.keep_aborted_of(&old);
        let freed = old.size_bytes().saturating_sub(new.size_bytes());
        self.dirty_segments
            .retain(|segment| !Arc::ptr_eq(segment, &old));
        self.shared
            .change(|segments| segments[at] = Arc::clone(&new));
        // Without its old indexes first: a crash in between must not pair them with the new log.
        for extension in ["timeindex", "index"] {
            self.remove_file(&old.path(extension))?;
        }
        for extension in ["log", "index", "timeindex"] {
            let path = new.path(extension);
            self.disk
                .rename(&format!("{path}.{CLEANED}"), &path)
                .map_err(|source| Error::disk(&path, "rename", source))?;
        }
        self.dirty_dir();
        Ok(freed)
    }

    /// What a checkpoint keeps of the closed segments, so that a lost one is noticed.
    pub(crate) fn closed(&self) -> Vec<ClosedMark> {
        let segments = self.segments();
        let held = segments
            .iter()
            .filter(|segment| !segment.active && segment.size_bytes > 0);
        held.map(|segment| ClosedMark {
            base: segment.base_offset,
            next: segment.next_offset,
            size_bytes: segment.size_bytes,
        })
        .collect()
    }

    /// Removes closed segments that compaction left empty, but not the first, whose base says where
    /// the partition begins. The catalogue on disk must have been made behind that.
    pub(crate) fn drop_empty(&mut self) -> Result<(), Error> {
        let empty: Vec<Arc<Segment>> = {
            let segments = self.shared.segments();
            let closed = segments.range(..segments.len() - 1).skip(1);
            closed
                .filter(|segment| segment.size_bytes() == 0)
                .cloned()
                .collect()
        };
        for segment in empty {
            self.shared
                .change(|segments| segments.retain(|kept| !Arc::ptr_eq(kept, &segment)));
            self.remove_segment(&segment)?;
        }
        Ok(())
    }

    /// Bytes of all logs, as written.
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    /// First offset that may be read.
    pub fn log_start(&self) -> u64 {
        self.log_start
    }

    /// Offset that the next staged record gets.
    pub fn next_offset(&self) -> u64 {
        self.plan.next_offset
    }

    /// Whether an earlier write failed.
    pub fn latched(&self) -> bool {
        self.latched.is_some()
    }

    /// Settings from the next batch on. The topic id never changes.
    pub fn update_settings(&mut self, settings: PartitionSettings) {
        self.settings = PartitionSettings {
            topic_id: self.settings.topic_id,
            ..settings
        };
    }

    /// A reader; it stays valid whatever happens to the partition.
    pub fn reader(&self) -> PartitionReader {
        PartitionReader::disk(Arc::clone(&self.shared))
    }

    /// Removes the partition's files and folder.
    pub fn destroy(self) -> Result<(), Error> {
        self.shared.change(VecDeque::clear);
        open::empty_dir(&*self.disk, self.dir())?;
        self.disk
            .remove_dir(self.dir())
            .map_err(|source| Error::disk(self.dir(), "remove", source))
    }

    fn write_staged(&mut self, staged: &[Staged]) -> Result<(), Error> {
        if self.epochs_changed {
            self.write_epochs()?;
        }
        let mut rest = staged;
        while let Some(first) = rest.first() {
            if first.rolls {
                self.begin_segment(first.head.base_offset())?;
            }
            let next_roll = rest.iter().skip(1).position(|batch| batch.rolls);
            let (run, behind) = rest.split_at(next_roll.map_or(rest.len(), |at| at + 1));
            self.write_run(run)?;
            rest = behind;
        }
        Ok(())
    }

    /// One write for batches of one segment.
    fn write_run(&mut self, run: &[Staged]) -> Result<(), Error> {
        let position = self.tail.position;
        let bytes: Vec<&[u8]> = run.iter().map(|staged| &staged.bytes[..]).collect();
        self.reserve(bytes.iter().map(|batch| batch.len() as u64).sum())?;
        let segment = &self.active;
        segment
            .files()?
            .log
            .write_at(&bytes, position)
            .map_err(|source| Error::disk_at(segment.path("log"), "write", position, source))?;
        for staged in run {
            self.tail
                .add(segment.base(), &staged.head, &mut self.unindexed);
        }
        if self.unindexed.offsets.len() >= INDEX_WRITE_BYTES {
            self.write_indexes()?;
        }
        let segment = &self.active;
        let aborted: Vec<_> = run
            .iter()
            .filter_map(|staged| staged.aborts.as_deref().copied())
            .collect();
        let made = !aborted.is_empty() && segment.append_aborted(&aborted)?;
        segment.publish(&self.tail.before(&self.unindexed));
        self.has_aborted |= !aborted.is_empty();
        self.dirty_active();
        if made {
            self.dirty_dir();
        }
        Ok(())
    }

    /// Sees to it that a large write, and what is like to follow it, finds space that the file has already:
    /// where a file system finds it for each page, that is a third of what the write costs (decision 0014).
    fn reserve(&mut self, bytes: u64) -> Result<(), Error> {
        let end = self.tail.position + bytes;
        if bytes < RESERVE_FROM_BYTES {
            return Ok(());
        }
        self.busy = true;
        if end <= self.reserved {
            return Ok(());
        }
        let free_bytes = self.disk.free_bytes().unwrap_or(0);
        if free_bytes >= RESERVE_FREE_BYTES_MIN {
            let segment_bytes = self.settings.segment_bytes.min(SEGMENT_BYTES_MAX);
            // Pieces end where large pages of the cache do: a page over two of them costs many times as much
            // when it is read from the disk.
            let to = (end + RESERVED_AHEAD_BYTES).next_multiple_of(RESERVED_AHEAD_BYTES);
            let to = to.min(segment_bytes.max(end));
            let from = self.reserved.max(self.tail.position);
            self.active.files()?.log.reserve(from, to);
            self.reserved = to;
        }
        Ok(())
    }

    /// Gives back reserved space if no large write was made since the last call: of many partitions only those
    /// that are busy now have some.
    pub(crate) fn release_unused(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.busy) || self.reserved == 0 {
            return Ok(());
        }
        let released = self.release();
        self.latch(released)
    }

    /// Gives back what of the active segment's space is not used.
    fn release(&mut self) -> Result<(), Error> {
        let end = self.tail.position;
        if std::mem::take(&mut self.reserved) > end {
            let log = &self.active.files()?.log;
            log.set_len(end).map_err(|source| {
                Error::disk_at(self.active.path("log"), "truncate", end, source)
            })?;
        }
        Ok(())
    }

    fn write_indexes(&mut self) -> Result<(), Error> {
        let before = self.tail.before(&self.unindexed);
        self.active.write_indexes(&self.unindexed, &before)?;
        self.unindexed.offsets.clear();
        self.unindexed.times.clear();
        Ok(())
    }

    fn begin_segment(&mut self, base: u64) -> Result<(), Error> {
        self.release()?;
        self.tail.close(self.active.base(), &mut self.unindexed);
        self.write_indexes()?;
        self.active.publish(&self.tail);
        self.dirty_active();

        let segment = Arc::new(Segment::create(&self.disk, self.dir(), base)?);
        self.active.end_at(base);
        self.shared
            .change(|segments| segments.push_back(Arc::clone(&segment)));
        self.active = segment;
        self.tail = Tail::empty(base);
        self.dirty_active();
        self.dirty_dir();
        Ok(())
    }

    fn truncate_segments(&mut self, offset: u64) -> Result<(), Error> {
        let segments: Vec<Arc<Segment>> = self.shared.segments().iter().cloned().collect();
        let keep = segments
            .partition_point(|segment| segment.base() < offset)
            .max(1);
        let segment = &segments[keep - 1];
        let (position, next_offset) = segment.cut_position(offset)?;
        self.shared
            .next_offset
            .store(next_offset, Ordering::Release);
        self.shared.change(|segments| segments.truncate(keep - 1));
        for removed in segments[keep..].iter().rev() {
            self.remove_segment(removed)?;
        }
        self.dirty_segments
            .retain(|dirty| !Arc::ptr_eq(dirty, segment));
        let (segment, tail, _) = open::open_active(
            &self.disk,
            self.dir(),
            segment.base(),
            Some((position, next_offset)),
        )?;
        if segments[keep - 1].aborted_entries() > 0 {
            let aborted = segments[keep - 1].aborted_before(next_offset)?;
            let cut = segment.restore_aborted(Some(aborted), true)?;
            cut.expect("the entries were just read");
        }
        self.active = Arc::new(segment);
        self.tail = tail;
        self.reserved = 0;
        self.unindexed = IndexBytes::default();
        self.shared
            .change(|segments| segments.push_back(Arc::clone(&self.active)));
        self.dirty_active();
        Ok(())
    }

    fn write_epochs(&mut self) -> Result<(), Error> {
        let path = format!("{}/{EPOCHS_FILE}", self.dir());
        let file = open::replace_file(&*self.disk, &path, self.shared.epochs_text().as_bytes())?;
        self.dirty.files.push((path, file));
        self.dirty_dir();
        self.epochs_changed = false;
        Ok(())
    }

    /// The log goes first: an index without a log is nothing, a log without its index is mended.
    fn remove_segment(&mut self, segment: &Arc<Segment>) -> Result<(), Error> {
        self.dirty_segments
            .retain(|dirty| !Arc::ptr_eq(dirty, segment));
        for extension in ["log", "index", "timeindex", TXNINDEX, REWRITTEN] {
            self.remove_file(&segment.path(extension))?;
        }
        self.dirty_dir();
        Ok(())
    }

    fn remove_cleaned(&self, segment: &Segment) -> Result<(), Error> {
        ["log", "index", "timeindex"]
            .iter()
            .try_for_each(|extension| {
                self.remove_file(&format!("{}.{CLEANED}", segment.path(extension)))
            })
    }

    fn remove_file(&self, path: &str) -> Result<(), Error> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::disk(path, "remove", error))
            }
            _ => Ok(()),
        }
    }

    fn dirty_active(&mut self) {
        if !self
            .dirty_segments
            .iter()
            .any(|dirty| Arc::ptr_eq(dirty, &self.active))
        {
            self.dirty_segments.push(Arc::clone(&self.active));
        }
    }

    fn dirty_dir(&mut self) {
        if !self.dirty.dirs.iter().any(|dir| *dir == self.shared.dir) {
            self.dirty.dirs.push(self.shared.dir.clone());
        }
    }

    fn check_latch(&self) -> Result<(), Error> {
        match &self.latched {
            None => Ok(()),
            Some((path, position, what)) => Err(Error::Latched {
                path: path.clone(),
                position: *position,
                what: what.clone(),
            }),
        }
    }

    fn latch<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            let (path, position) = match error {
                Error::Disk { path, position, .. } => (path.clone(), position.unwrap_or(0)),
                Error::Corrupt { path, position, .. } => (path.clone(), *position),
                _ => (self.dir().to_owned(), 0),
            };
            self.latched = Some((path, position, error.to_string()));
        }
        result
    }

    fn out_of_range(&self, offset: u64) -> Error {
        Error::OutOfRange {
            path: self.dir().to_owned(),
            offset,
            log_start: self.log_start,
            next_offset: self.plan.next_offset,
        }
    }
}
