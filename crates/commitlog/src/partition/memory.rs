//! A partition of a memory stream: a ring of batches without files, bounded by bytes.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::{Bytes, BytesMut};

use crate::aborted::{AbortedEntry, AbortedRange};
use crate::batch::{BatchHead, set_base_offset, set_leader_epoch};
use crate::error::{Error, ReadError};
use crate::limits::MEMORY_BATCH_OVERHEAD_BYTES;
use crate::segment::first_as_new;

use super::StagedBatch;
use super::epochs::Epochs;
use super::reader::PartitionReader;

/// The owner of a partition in memory. It keeps the newest batches within its bytes, always at
/// least one.
pub struct MemoryPartition {
    shared: Arc<MemoryShared>,
    retention_bytes: u64,
    staged: Vec<Kept>,
    next_offset: u64,
}

/// What the owner shares with readers.
pub(crate) struct MemoryShared {
    ring: RwLock<Ring>,
}

struct Ring {
    batches: VecDeque<Kept>,
    size_bytes: u64,
    next_offset: u64,
    log_start: u64,
    epochs: Epochs,
    /// Aborted transactions with a marker that is still here, in the order of the markers.
    aborted: VecDeque<AbortedRange>,
}

#[derive(Clone)]
struct Kept {
    head: BatchHead,
    bytes: Bytes,
    /// The transaction that this marker aborts.
    aborts: Option<Box<AbortedRange>>,
}

impl MemoryPartition {
    /// Bytes that a memory stream keeps of a partition when nothing else is said.
    pub const RETENTION_BYTES: u64 = 64 << 20;

    /// An empty partition that keeps about `retention_bytes`, what each batch costs besides counted.
    pub fn new(retention_bytes: u64) -> Self {
        let ring = Ring {
            batches: VecDeque::new(),
            size_bytes: 0,
            next_offset: 0,
            log_start: 0,
            epochs: Epochs::default(),
            aborted: VecDeque::new(),
        };
        let shared = Arc::new(MemoryShared {
            ring: RwLock::new(ring),
        });
        Self {
            shared,
            retention_bytes,
            staged: Vec::new(),
            next_offset: 0,
        }
    }

    /// As [`Partition::stage`](super::Partition::stage); time plays no part.
    pub fn stage(
        &mut self,
        batch: Vec<u8>,
        epoch: i32,
        _now_ms: u64,
    ) -> Result<StagedBatch, Error> {
        self.stage_aborting(Bytes::from(batch).into(), epoch, None)
    }

    /// As [`stage`](Self::stage); the batch may be a marker that aborts a transaction.
    pub(crate) fn stage_aborting(
        &mut self,
        mut batch: BytesMut,
        epoch: i32,
        aborts: Option<AbortedEntry>,
    ) -> Result<StagedBatch, Error> {
        let refused = |source| Error::Batch {
            path: "a memory stream".into(),
            source,
        };
        let base_offset = self.next_offset;
        let size = BatchHead::read(&batch).map_err(refused)?.size_bytes();
        if batch.len() < size {
            return Err(refused(crate::batch::BatchError::Short));
        }
        batch.truncate(size);
        set_base_offset(&mut batch, base_offset);
        set_leader_epoch(&mut batch, epoch);
        let head = BatchHead::read(&batch).map_err(refused)?;
        self.next_offset = head.next_offset();
        let bytes = batch.freeze();
        self.staged.push(Kept {
            head,
            bytes: bytes.clone(),
            aborts: aborts.map(|entry| Box::new(entry.range)),
        });
        Ok(StagedBatch {
            base_offset,
            last_offset: head.last_offset(),
            batch: bytes,
        })
    }

    /// Shows readers what is staged and lets the oldest batches go that are too many.
    pub fn write(&mut self) -> Result<(), Error> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let mut ring = self
            .shared
            .ring
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for kept in self.staged.drain(..) {
            ring.size_bytes += kept.bytes.len() as u64;
            ring.epochs
                .add(kept.head.partition_leader_epoch(), kept.head.base_offset());
            ring.aborted.extend(kept.aborts.as_deref());
            ring.batches.push_back(kept);
        }
        ring.next_offset = self.next_offset;
        while ring.cost() > self.retention_bytes && ring.batches.len() > 1 {
            ring.drop_oldest();
        }
        Ok(())
    }

    /// As [`Partition::set_log_start`](super::Partition::set_log_start); batches before it go.
    pub fn set_log_start(&mut self, offset: u64) -> Result<(), Error> {
        let mut ring = self
            .shared
            .ring
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if offset > ring.next_offset {
            return Err(ring.out_of_range(offset).into());
        }
        while ring
            .batches
            .front()
            .is_some_and(|kept| kept.head.next_offset() <= offset)
        {
            ring.drop_oldest();
        }
        ring.log_start = ring.log_start.max(offset);
        ring.forget_aborted();
        Ok(())
    }

    /// Changes how many bytes are kept, from the next write on.
    pub fn set_retention_bytes(&mut self, retention_bytes: u64) {
        self.retention_bytes = retention_bytes;
    }

    /// First offset that may be read.
    pub fn log_start(&self) -> u64 {
        self.shared.log_start()
    }

    /// Offset that the next staged record gets.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Bytes of all batches that are kept.
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    /// A reader of the same kind as that of a partition on disk.
    pub fn reader(&self) -> PartitionReader {
        PartitionReader::memory(Arc::clone(&self.shared))
    }
}

impl MemoryShared {
    pub fn log_start(&self) -> u64 {
        self.ring().log_start
    }

    pub fn next_offset(&self) -> u64 {
        self.ring().next_offset
    }

    pub fn size_bytes(&self) -> u64 {
        self.ring().size_bytes
    }

    pub fn epochs(&self) -> Epochs {
        self.ring().epochs.clone()
    }

    pub fn read(&self, offset: u64, max_bytes: usize, up_to: u64) -> Result<Vec<Bytes>, ReadError> {
        let ring = self.ring();
        if offset < ring.log_start || offset > ring.next_offset {
            return Err(ring.out_of_range(offset));
        }
        let mut found = Vec::new();
        let mut left = max_bytes;
        for kept in ring.from(offset) {
            if kept.head.last_offset() >= up_to || (!found.is_empty() && kept.bytes.len() > left) {
                break;
            }
            left = left.saturating_sub(kept.bytes.len());
            found.push(kept.bytes.clone());
        }
        Ok(found)
    }

    pub fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<(u64, i64)>, ReadError> {
        let ring = self.ring();
        for kept in ring
            .batches
            .iter()
            .filter(|kept| kept.head.max_timestamp() >= timestamp_ms)
        {
            let found = first_as_new(&kept.bytes, timestamp_ms, ring.log_start);
            if let Some(found) = found.map_err(|error| ReadError::Corrupt {
                path: "a memory stream".into(),
                position: 0,
                what: error.to_string().into(),
            })? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub fn aborted(&self, from: u64, to: u64) -> Vec<AbortedRange> {
        let ring = self.ring();
        let first = ring
            .aborted
            .partition_point(|range| range.last_offset < from);
        let ranges = ring.aborted.range(first..);
        let mut found: Vec<_> = ranges
            .filter(|range| range.first_offset < to)
            .copied()
            .collect();
        found.sort_unstable_by_key(|range| range.first_offset);
        found
    }

    pub fn newest(&self) -> Result<Option<(u64, i64)>, ReadError> {
        let newest = self
            .ring()
            .batches
            .iter()
            .map(|kept| kept.head.max_timestamp())
            .max();
        newest.map_or(Ok(None), |timestamp_ms| self.offset_for_time(timestamp_ms))
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch, its place in a ring that has grown by doubling, and what the allocator adds.
const _: () = assert!(2 * size_of::<Kept>() as u64 <= MEMORY_BATCH_OVERHEAD_BYTES);

impl Ring {
    /// Memory that the batches take.
    fn cost(&self) -> u64 {
        self.size_bytes + self.batches.len() as u64 * MEMORY_BATCH_OVERHEAD_BYTES
    }

    fn from(&self, offset: u64) -> impl Iterator<Item = &Kept> {
        let first = self
            .batches
            .partition_point(|kept| kept.head.last_offset() < offset);
        self.batches.range(first..)
    }

    fn drop_oldest(&mut self) {
        if let Some(dropped) = self.batches.pop_front() {
            self.size_bytes -= dropped.bytes.len() as u64;
            self.log_start = self.log_start.max(dropped.head.next_offset());
            self.forget_aborted();
        }
    }

    fn forget_aborted(&mut self) {
        let log_start = self.log_start;
        while self
            .aborted
            .pop_front_if(|range| range.last_offset < log_start)
            .is_some()
        {}
    }

    fn out_of_range(&self, offset: u64) -> ReadError {
        let (log_start, next_offset) = (self.log_start, self.next_offset);
        ReadError::OutOfRange {
            offset,
            log_start,
            next_offset,
        }
    }
}
