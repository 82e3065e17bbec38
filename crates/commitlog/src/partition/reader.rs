//! The read side of a partition, for any thread while the owner appends. Positions are published
//! after the bytes are written; a lock is held only to look a segment up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;

use crate::aborted::AbortedRange;
use crate::disk::Patience;
use crate::error::ReadError;
use crate::segment::{Found, Segment, StoredRange};

use super::epochs::Epochs;
use super::memory::MemoryShared;

/// Reads a partition, on disk or in memory. Cheap to clone.
#[derive(Clone)]
pub struct PartitionReader {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Disk(Arc<Shared>),
    Memory(Arc<MemoryShared>),
}

/// What the owner of a partition shares with its readers.
pub(crate) struct Shared {
    pub dir: String,
    /// Rising base offsets, never empty until the partition is destroyed.
    segments: RwLock<VecDeque<Arc<Segment>>>,
    pub next_offset: AtomicU64,
    /// Bytes of batches that are not written yet.
    staged_bytes: AtomicU64,
    pub log_start: AtomicU64,
    epochs: RwLock<Epochs>,
}

impl PartitionReader {
    pub(super) fn disk(shared: Arc<Shared>) -> Self {
        Self {
            source: Source::Disk(shared),
        }
    }

    pub(super) fn memory(shared: Arc<MemoryShared>) -> Self {
        Self {
            source: Source::Memory(shared),
        }
    }

    /// Whole batches from the one that contains `offset` on: the first whatever its size, more
    /// while they fit `max_bytes`, none that reaches offset `up_to`. Each `Bytes` holds one batch or
    /// several. Empty when nothing is there yet. Batches read from files have their checksum
    /// verified; they may begin before `offset`, and before the log start.
    pub fn read(&self, offset: u64, max_bytes: usize, up_to: u64) -> Result<Vec<Bytes>, ReadError> {
        match &self.source {
            Source::Disk(shared) => shared
                .read(offset, max_bytes, up_to)
                .map(|found| found.into_iter().collect()),
            Source::Memory(shared) => shared.read(offset, max_bytes, up_to),
        }
    }

    /// Where the batches lie that [`read`](Self::read) would return, for who sends them on from
    /// there; their checksums are not verified. The outer None: they lie in no file.
    pub fn range(
        &self,
        offset: u64,
        max_bytes: usize,
        up_to: u64,
        patience: Patience,
    ) -> Result<Option<Option<StoredRange>>, ReadError> {
        match &self.source {
            Source::Disk(shared) => shared.range(offset, max_bytes, up_to, patience),
            Source::Memory(_) => Ok(None),
        }
    }

    /// Whether there are files behind it.
    pub fn has_files(&self) -> bool {
        matches!(self.source, Source::Disk(_))
    }

    /// First offset that may be read.
    pub fn log_start(&self) -> u64 {
        match &self.source {
            Source::Disk(shared) => shared.log_start(),
            Source::Memory(shared) => shared.log_start(),
        }
    }

    /// Offset behind the last record that is written.
    pub fn next_offset(&self) -> u64 {
        match &self.source {
            Source::Disk(shared) => shared.next_offset.load(Ordering::Acquire),
            Source::Memory(shared) => shared.next_offset(),
        }
    }

    /// Offset and timestamp of the first record as new as `timestamp_ms`, if there is one.
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<(u64, i64)>, ReadError> {
        match &self.source {
            Source::Disk(shared) => shared.offset_for_time(timestamp_ms),
            Source::Memory(shared) => shared.offset_for_time(timestamp_ms),
        }
    }

    /// Offset and timestamp of the record with the greatest timestamp (the first of several).
    pub fn newest(&self) -> Result<Option<(u64, i64)>, ReadError> {
        match &self.source {
            Source::Disk(shared) => shared.newest(),
            Source::Memory(shared) => shared.newest(),
        }
    }

    /// Aborted transactions that have to do with the offsets from `from` up to `to` (exclusive), by
    /// their first offsets. Complete for what lies below the last stable offset.
    pub fn aborted(&self, from: u64, to: u64) -> Result<Vec<AbortedRange>, ReadError> {
        match &self.source {
            Source::Disk(shared) => shared.aborted(from, to),
            Source::Memory(shared) => Ok(shared.aborted(from, to)),
        }
    }

    /// Whether [`aborted`](Self::aborted) from this offset on finds nothing, and reads no file.
    pub fn has_no_aborted(&self, from: u64) -> bool {
        match &self.source {
            Source::Disk(shared) => shared.has_no_aborted(from),
            Source::Memory(_) => false,
        }
    }

    /// Latest leader epoch that appended.
    pub fn latest_epoch(&self) -> Option<i32> {
        match &self.source {
            Source::Disk(shared) => shared.latest_epoch(),
            Source::Memory(shared) => shared.epochs().latest(),
        }
    }

    /// The greatest known epoch not above `epoch` and the offset behind its last record (KIP-279);
    /// `None` for an epoch that is not known.
    pub fn epoch_end(&self, epoch: i32) -> Option<(i32, u64)> {
        let next_offset = self.next_offset();
        match &self.source {
            Source::Disk(shared) => shared.epochs().end_of(epoch, next_offset),
            Source::Memory(shared) => shared.epochs().end_of(epoch, next_offset),
        }
    }

    /// Bytes of all batches, also of those that are not in a file yet.
    pub fn size_bytes(&self) -> u64 {
        match &self.source {
            Source::Disk(shared) => {
                shared.size_bytes() + shared.staged_bytes.load(Ordering::Relaxed)
            }
            Source::Memory(shared) => shared.size_bytes(),
        }
    }
}

impl Shared {
    pub fn new(
        dir: &str,
        segments: VecDeque<Arc<Segment>>,
        log_start: u64,
        next_offset: u64,
        epochs: Epochs,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            segments: RwLock::new(segments),
            next_offset: AtomicU64::new(next_offset),
            staged_bytes: AtomicU64::new(0),
            log_start: AtomicU64::new(log_start),
            epochs: RwLock::new(epochs),
        }
    }

    pub fn log_start(&self) -> u64 {
        self.log_start.load(Ordering::Acquire)
    }

    pub fn segments(&self) -> RwLockReadGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest segment and the base offset of the next; `None` when there is only one.
    pub fn two_oldest(&self) -> Option<(Arc<Segment>, u64)> {
        let segments = self.segments();
        Some((Arc::clone(segments.front()?), segments.get(1)?.base()))
    }

    /// Changes the list of segments; for the owner.
    pub fn change(&self, change: impl FnOnce(&mut VecDeque<Arc<Segment>>)) {
        change(
            &mut self
                .segments
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    pub fn size_bytes(&self) -> u64 {
        self.segments()
            .iter()
            .map(|segment| segment.size_bytes())
            .sum()
    }

    /// So many bytes are not written yet.
    pub fn staged(&self, bytes: u64) {
        self.staged_bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn add_epoch(&self, epoch: i32, offset: u64) -> bool {
        self.epochs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .add(epoch, offset)
    }

    pub fn cut_epochs(&self, next_offset: u64) -> bool {
        self.epochs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .cut(next_offset)
    }

    pub fn latest_epoch(&self) -> Option<i32> {
        self.epochs().latest()
    }

    pub fn epochs_text(&self) -> String {
        self.epochs().to_text()
    }

    fn epochs(&self) -> RwLockReadGuard<'_, Epochs> {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, offset: u64, max_bytes: usize, up_to: u64) -> Result<Option<Bytes>, ReadError> {
        self.find(offset, up_to, |segment, up_to| {
            segment.read(offset, max_bytes, up_to)
        })
    }

    #[expect(
        clippy::option_option,
        reason = "no file, and nothing there yet, are two answers"
    )]
    fn range(
        &self,
        offset: u64,
        max_bytes: usize,
        up_to: u64,
        patience: Patience,
    ) -> Result<Option<Option<StoredRange>>, ReadError> {
        let mut fileless = false;
        let found = self.find(offset, up_to, |segment, up_to| {
            let range = segment.range(offset, max_bytes, up_to, patience)?;
            fileless = range.is_none();
            Ok(range.unwrap_or(Found::Bounded))
        })?;
        Ok((!fileless).then_some(found))
    }

    /// What `look` finds in the segment of `offset`, or in those behind it.
    fn find<T>(
        &self,
        offset: u64,
        up_to: u64,
        mut look: impl FnMut(&Segment, u64) -> Result<Found<T>, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let mut behind: Option<Arc<Segment>> = None;
        loop {
            let next_offset = self.next_offset.load(Ordering::Acquire);
            let log_start = self.log_start();
            if offset < log_start || offset > next_offset {
                return Err(ReadError::OutOfRange {
                    offset,
                    log_start,
                    next_offset,
                });
            }
            if offset == next_offset || offset >= up_to {
                return Ok(None);
            }
            let segment = match &behind {
                None => self.segment_of(offset),
                Some(behind) => self.segment_behind(behind.base()),
            };
            let Some(segment) = segment else {
                return Ok(None);
            };
            // Batches that are written but not yet published with all others of their turn.
            let up_to = up_to.min(next_offset);
            match look(&segment, up_to) {
                Ok(Found::Batches(found)) => return Ok(Some(found)),
                Ok(Found::Bounded) => return Ok(None),
                Ok(Found::Behind) => behind = Some(segment),
                // Dropped or replaced meanwhile: what its names lead to is no longer its own.
                Err(_) if !self.holds(&segment) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<(u64, i64)>, ReadError> {
        let next_offset = self.next_offset.load(Ordering::Acquire);
        let log_start = self.log_start();
        let segments: Vec<_> = self.segments().iter().cloned().collect();
        for segment in segments {
            match segment.find_time(timestamp_ms, log_start.max(segment.base())) {
                Ok(Some(found)) => return Ok(Some(found).filter(|found| found.0 < next_offset)),
                Ok(None) => {}
                Err(_) if !self.holds(&segment) => return self.offset_for_time(timestamp_ms),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn newest(&self) -> Result<Option<(u64, i64)>, ReadError> {
        let newest = |segment: &Arc<Segment>| segment.newest().map(|newest| newest.timestamp_ms);
        match self.segments().iter().filter_map(newest).max() {
            Some(timestamp_ms) => self.offset_for_time(timestamp_ms),
            None => Ok(None),
        }
    }

    /// The segment where `offset` is, or was before compaction.
    fn segment_of(&self, offset: u64) -> Option<Arc<Segment>> {
        let segments = self.segments();
        let behind = segments.partition_point(|segment| segment.base() <= offset);
        segments.get(behind.saturating_sub(1)).cloned()
    }

    fn segment_behind(&self, base: u64) -> Option<Arc<Segment>> {
        let segments = self.segments();
        let at = segments.partition_point(|segment| segment.base() <= base);
        segments.get(at).cloned()
    }

    pub fn holds(&self, segment: &Arc<Segment>) -> bool {
        self.segments()
            .iter()
            .any(|held| Arc::ptr_eq(held, segment))
    }
}
