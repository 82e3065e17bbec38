//! Reading the log from any thread: streams, watermarks, batches. Nothing here changes the log.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::aborted::AbortedRange;
use crate::batch::{BatchHead, BatchView};
use crate::disk::Patience;
use crate::error::{Error, ReadError};
use crate::producers::ProducerState;
use crate::segment::{StoredRange, first_as_new};
use crate::stream::{Lsn, PartitionId};
use crate::watermark::{PartitionMeta, PartitionState, Shared, StreamMeta, Watermarks};

/// Reads the log; cheap to clone, usable from any thread while the owner appends.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// Sizes for metrics, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Journal in use, not yet recycled.
    pub journal_used_bytes: u64,
    /// Bound of the journal.
    pub journal_bytes_max: u64,
    /// Batches held in the tail cache.
    pub tail_bytes: u64,
    /// All partitions together.
    pub partitions_bytes: u64,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All streams, by name.
    pub fn streams(&self) -> Arc<Vec<StreamMeta>> {
        Arc::clone(&self.shared.directory().streams)
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<StreamMeta> {
        let directory = self.shared.directory();
        directory
            .by_name
            .get(name)
            .map(|at| directory.streams[*at].clone())
    }

    /// The stream with this topic id.
    pub fn by_topic_id(&self, topic_id: &[u8; 16]) -> Option<StreamMeta> {
        let directory = self.shared.directory();
        directory
            .by_topic_id
            .get(topic_id)
            .map(|at| directory.streams[*at].clone())
    }

    /// Which partition of which stream this is.
    pub fn partition(&self, id: PartitionId) -> Option<PartitionMeta> {
        self.state(id).map(|state| state.meta.clone())
    }

    /// How far the partition is.
    pub fn watermarks(&self, id: PartitionId) -> Option<Watermarks> {
        self.state(id).map(|state| state.watermarks())
    }

    /// What the mirror calls when the Apache Kafka cluster behind has all of the partition below
    /// `next_offset`, in the mirror's sense of done; whoever waits must be woken afterwards. Any
    /// thread may call it; it never goes back, and a partition that is gone is left alone.
    ///
    /// Answers of level [`Ack::Kafka`](crate::Ack::Kafka) leave by this mark alone. It never passes
    /// what is flushed, whatever is said: a cluster that knows more than this log, which may have
    /// been set back, says nothing about what is appended from now on.
    pub fn set_mirrored(&self, id: PartitionId, next_offset: u64) {
        let Some(state) = self.state(id) else { return };
        let next_offset = next_offset.min(state.watermarks().flushed);
        if state.publish_mirrored(next_offset) {
            self.shared.mirrored_moves.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What the mirror calls, before [`LogReader::set_mirrored`] passes them, for records that the
    /// Apache Kafka cluster behind will never have: it refused them, or they were dropped before they
    /// were sent. Their answers must not be successes.
    pub fn set_unmirrored(&self, id: PartitionId, offsets: Range<u64>) {
        if let Some(state) = self.state(id)
            && !offsets.is_empty()
        {
            state.publish_unmirrored(offsets);
        }
    }

    /// The last of those stretches, at most [`crate::limits::UNMIRRORED_MAX`], in the order of their
    /// offsets. Whoever waits for the mirrored end asks for them after it.
    pub fn unmirrored(&self, id: PartitionId) -> Vec<Range<u64>> {
        self.state(id)
            .map_or_else(Vec::new, |state| state.unmirrored())
    }

    /// Whether some of these records are among them.
    pub fn is_unmirrored(&self, id: PartitionId, offsets: &Range<u64>) -> bool {
        let stretches = self.unmirrored(id);
        let mut stretches = stretches.iter();
        stretches.any(|it| it.start < offsets.end && offsets.start < it.end)
    }

    /// Rises whenever the mirrored end of some partition has moved: who saw the same number twice
    /// need not look at the partitions.
    pub fn mirrored_moves(&self) -> u64 {
        self.shared.mirrored_moves.load(Ordering::Acquire)
    }

    /// The leader epoch that new batches get; it rises with every start after a crash.
    pub fn leader_epoch(&self) -> i32 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// The largest epoch of this partition that is not above `epoch`, and where it ends.
    /// For the epoch of today that is the end of what is appended.
    pub fn epoch_end(&self, id: PartitionId, epoch: i32) -> Option<(i32, u64)> {
        let state = self.state(id)?;
        if epoch == self.leader_epoch() {
            return Some((epoch, state.watermarks().appended));
        }
        state.reader.epoch_end(epoch)
    }

    /// Whole batches from memory, the first being the one that contains `offset`; at most
    /// `bytes_max` of them but at least one. None: the tail cache does not reach back so far (or
    /// there is no such partition), [`LogReader::read`] does. Never waits for a file.
    pub fn read_tail(&self, id: PartitionId, offset: u64, bytes_max: usize) -> Option<Vec<Bytes>> {
        let state = self.state(id)?;
        let marks = state.watermarks();
        if offset < marks.log_start || offset > marks.appended {
            return None;
        }
        if offset == marks.appended {
            return Some(Vec::new());
        }
        state.tail().read(offset, bytes_max, marks.appended)
    }

    /// Whole batches, the first being the one that contains `offset`; at most `bytes_max` of them
    /// but at least one, none that ends beyond `up_to` (an exclusive end: a watermark; `u64::MAX`
    /// for all that is appended). Empty at the end. May read files.
    pub fn read(
        &self,
        id: PartitionId,
        offset: u64,
        bytes_max: usize,
        up_to: u64,
    ) -> Result<Vec<Bytes>, ReadError> {
        let state = self.within(id, offset)?;
        let up_to = up_to.min(state.watermarks().appended);
        if offset >= up_to {
            return Ok(Vec::new());
        }
        loop {
            if let Some(batches) = state.tail().read(offset, bytes_max, up_to) {
                return Ok(batches);
            }
            let written_to = state.reader.next_offset();
            let found = state.reader.read(offset, bytes_max, up_to)?;
            if !found.is_empty() {
                return Ok(found);
            }
            // A gap up to the end of the files: what follows it may be in none yet.
            let gathered = state.tail().read(written_to.max(offset), bytes_max, up_to);
            if gathered.is_some() || state.reader.next_offset() == written_to {
                return Ok(gathered.unwrap_or_default());
            }
        }
    }

    /// Where the batches lie that [`LogReader::read`] would return, for who sends them on from there;
    /// their checksums are not verified. The outer None: they lie in no file. May read files, as far
    /// as `patience` lets it.
    pub fn range(
        &self,
        id: PartitionId,
        offset: u64,
        bytes_max: usize,
        up_to: u64,
        patience: Patience,
    ) -> Result<Option<Option<StoredRange>>, ReadError> {
        let state = self.within(id, offset)?;
        let up_to = up_to.min(state.watermarks().appended);
        if offset >= up_to {
            return Ok(Some(None));
        }
        state.reader.range(offset, bytes_max, up_to, patience)
    }

    /// Whether a read from `offset` on needs no file: the tail cache reaches back so far, or the
    /// partition has none.
    pub fn is_in_memory(&self, id: PartitionId, offset: u64) -> bool {
        self.state(id)
            .is_none_or(|state| !state.reader.has_files() || state.tail().reaches(offset))
    }

    /// The first record whose timestamp is at or after `timestamp_ms`: offset and timestamp.
    pub fn offset_for_time(
        &self,
        id: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, ReadError> {
        let state = self
            .state(id)
            .ok_or(ReadError::UnknownPartition { partition: id })?;
        loop {
            let written_to = state.reader.next_offset();
            if let Some(found) = state.reader.offset_for_time(timestamp_ms)? {
                return Ok(Some(found));
            }
            if let Some(gathered) = gathered(&state, written_to) {
                let marks = state.watermarks();
                let found = find_time(&gathered, timestamp_ms, marks.log_start)?;
                return Ok(found.filter(|(offset, _)| *offset < marks.appended));
            }
        }
    }

    /// The record with the largest timestamp: offset and timestamp.
    pub fn newest(&self, id: PartitionId) -> Result<Option<(u64, i64)>, ReadError> {
        let state = self
            .state(id)
            .ok_or(ReadError::UnknownPartition { partition: id })?;
        loop {
            let written_to = state.reader.next_offset();
            let written = state.reader.newest()?;
            if let Some(gathered) = gathered(&state, written_to) {
                let newest_ms = written.map_or(-1, |(_, timestamp_ms)| timestamp_ms);
                let newer = batches_of(&gathered).map(|batch| batch.head().max_timestamp());
                let newer_ms = newer.max().filter(|&newer_ms| newer_ms > newest_ms);
                let Some(newer_ms) = newer_ms else {
                    return Ok(written);
                };
                let found = find_time(&gathered, newer_ms, state.watermarks().log_start)?;
                return Ok(found.or(written));
            }
        }
    }

    /// Aborted transactions that have to do with the offsets from `from` up to `to` (exclusive), by
    /// their first offsets: what a `read_committed` reader of these offsets must know. Complete for
    /// what lies below the last stable offset. May read files.
    pub fn aborted(
        &self,
        id: PartitionId,
        from: u64,
        to: u64,
    ) -> Result<Vec<AbortedRange>, ReadError> {
        let state = self
            .state(id)
            .ok_or(ReadError::UnknownPartition { partition: id })?;
        state.reader.aborted(from, to)
    }

    /// Whether [`LogReader::aborted`] from this offset on finds nothing, and reads no file.
    pub fn has_no_aborted(&self, id: PartitionId, from: u64) -> bool {
        self.state(id)
            .is_some_and(|state| state.reader.has_no_aborted(from))
    }

    /// The idempotent and transactional producers that the partition remembers, by their ids.
    pub fn producers(&self, id: PartitionId) -> Option<Vec<ProducerState>> {
        self.state(id).map(|state| state.producers().states())
    }

    /// The last entry that is appended.
    pub fn appended_to(&self) -> Lsn {
        self.shared.appended.load(Ordering::Acquire)
    }

    /// The last entry that is flushed.
    pub fn flushed_to(&self) -> Lsn {
        self.shared.flushed.load(Ordering::Acquire)
    }

    /// Why the log takes nothing more, if an earlier write or flush failed.
    pub fn latched(&self) -> Option<Error> {
        self.shared.latch.check().err()
    }

    /// Bytes free on the disk of the log.
    pub fn free_bytes(&self) -> Option<u64> {
        self.shared.disk.free_bytes().ok()
    }

    /// Size of a partition, in bytes.
    pub fn size_bytes(&self, id: PartitionId) -> Option<u64> {
        self.state(id).map(|state| state.reader.size_bytes())
    }

    /// Bytes of the journal in use, and its bound.
    pub fn journal_fill(&self) -> (u64, u64) {
        (
            self.shared.journal_used_bytes.load(Ordering::Relaxed),
            self.shared.journal_bytes_max.load(Ordering::Relaxed),
        )
    }

    /// Sizes for metrics.
    pub fn sizes(&self) -> Sizes {
        let directory = self.shared.directory();
        Sizes {
            journal_used_bytes: self.shared.journal_used_bytes.load(Ordering::Relaxed),
            journal_bytes_max: self.shared.journal_bytes_max.load(Ordering::Relaxed),
            tail_bytes: self.shared.tail_bytes.load(Ordering::Relaxed),
            partitions_bytes: directory
                .partitions
                .values()
                .map(|p| p.reader.size_bytes())
                .sum(),
        }
    }

    /// The partition, if it has this offset, or ends there.
    fn within(&self, id: PartitionId, offset: u64) -> Result<Arc<PartitionState>, ReadError> {
        let state = self
            .state(id)
            .ok_or(ReadError::UnknownPartition { partition: id })?;
        let marks = state.watermarks();
        if offset < marks.log_start || offset > marks.appended {
            return Err(ReadError::OutOfRange {
                offset,
                log_start: marks.log_start,
                next_offset: marks.appended,
            });
        }
        Ok(state)
    }

    fn state(&self, id: PartitionId) -> Option<Arc<PartitionState>> {
        self.shared.directory().partitions.get(&id).cloned()
    }
}

/// The batches that no file of the partition has, which had those before `written_to`; `None` where
/// there are others by now.
fn gathered(state: &PartitionState, written_to: u64) -> Option<Vec<Bytes>> {
    let (gathered, all) = state.tail().behind(written_to);
    (all || state.reader.next_offset() == written_to).then_some(gathered)
}

fn batches_of(slices: &[Bytes]) -> impl Iterator<Item = BatchView<'_>> {
    slices
        .iter()
        .filter_map(|slice| BatchView::parse(slice).ok().map(|(batch, _)| batch))
}

/// Offset and timestamp of the first record as new as `timestamp_ms` that is not before `from`.
fn find_time(
    batches: &[Bytes],
    timestamp_ms: i64,
    from: u64,
) -> Result<Option<(u64, i64)>, ReadError> {
    let newer = |bytes: &&Bytes| {
        let head = BatchHead::read(bytes);
        head.is_ok_and(|head| head.max_timestamp() >= timestamp_ms)
    };
    for bytes in batches.iter().filter(newer) {
        let found =
            first_as_new(bytes, timestamp_ms, from).map_err(|error| ReadError::Corrupt {
                path: "the tail cache".into(),
                position: 0,
                what: error.to_string().into(),
            })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
