//! The tail cache: the newest batches of every partition, kept in memory so that readers near the
//! end touch no file. One bound in bytes holds for the whole node.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::limits::TAIL_BATCH_OVERHEAD_BYTES;
use crate::watermark::PartitionState;

/// The newest batches of one partition, without a gap, oldest first.
#[derive(Default)]
pub(crate) struct Tail {
    batches: VecDeque<TailBatch>,
}

struct TailBatch {
    base_offset: u64,
    next_offset: u64,
    bytes: Bytes,
}

impl Tail {
    fn push(&mut self, base_offset: u64, next_offset: u64, bytes: Bytes) {
        debug_assert!(
            self.batches
                .back()
                .is_none_or(|last| last.next_offset <= base_offset)
        );
        self.batches.push_back(TailBatch {
            base_offset,
            next_offset,
            bytes,
        });
    }

    /// Whether what is at `offset` is here.
    pub(crate) fn reaches(&self, offset: u64) -> bool {
        self.batches
            .front()
            .is_some_and(|first| offset >= first.base_offset)
    }

    /// The batches that end behind `offset`, as far as they are here, and whether those are all that
    /// were appended from there on.
    pub(crate) fn behind(&self, offset: u64) -> (Vec<Bytes>, bool) {
        let start = self
            .batches
            .partition_point(|batch| batch.next_offset <= offset);
        let found = self.batches.range(start..).map(|batch| batch.bytes.clone());
        (found.collect(), self.reaches(offset))
    }

    /// Offset at which the oldest batch begins.
    pub(crate) fn first_offset(&self) -> Option<u64> {
        self.batches.front().map(|first| first.base_offset)
    }

    /// Whole batches from the one that contains `offset`, at most `bytes_max` of them but at least
    /// one, none at or beyond `up_to`. No answer: the tail does not reach back so far.
    pub(crate) fn read(&self, offset: u64, bytes_max: usize, up_to: u64) -> Option<Vec<Bytes>> {
        let first = self.batches.front()?;
        if offset < first.base_offset {
            return None;
        }
        let start = self
            .batches
            .partition_point(|batch| batch.next_offset <= offset);
        let mut found = Vec::new();
        let mut bytes_left = bytes_max;
        for batch in self.batches.range(start..) {
            let fits = batch.bytes.len() <= bytes_left || found.is_empty();
            if !fits || batch.next_offset > up_to {
                break;
            }
            bytes_left = bytes_left.saturating_sub(batch.bytes.len());
            found.push(batch.bytes.clone());
        }
        Some(found)
    }
}

/// Keeps all tails together within the bound; belongs to the log's owner.
pub(crate) struct TailBudget {
    bytes: u64,
    bytes_max: u64,
    /// In the order of their arrival, with what each costs.
    oldest: VecDeque<(Arc<PartitionState>, u64)>,
}

impl TailBudget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes: 0,
            bytes_max,
            oldest: VecDeque::new(),
        }
    }

    pub(crate) fn push(
        &mut self,
        partition: &Arc<PartitionState>,
        base_offset: u64,
        next_offset: u64,
        batch: Bytes,
    ) {
        let cost = Self::cost(&batch);
        partition.tail().push(base_offset, next_offset, batch);
        self.oldest.push_back((Arc::clone(partition), cost));
        self.bytes += cost;
        while self.lacks(0) {
            self.drop_oldest();
        }
    }

    /// What a batch costs here.
    pub(crate) fn cost(batch: &Bytes) -> u64 {
        batch.len() as u64 + TAIL_BATCH_OVERHEAD_BYTES
    }

    /// Whether so much more would be beyond the bound.
    pub(crate) fn lacks(&self, cost: u64) -> bool {
        self.bytes + cost > self.bytes_max
    }

    /// Whose batch goes next.
    pub(crate) fn oldest(&self) -> Option<&Arc<PartitionState>> {
        self.oldest.front().map(|(partition, _)| partition)
    }

    /// Forgets the oldest batch; a reader who wants it must find it in its segment.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some((partition, cost)) = self.oldest.pop_front() {
            partition.tail().batches.pop_front();
            self.bytes -= cost;
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
