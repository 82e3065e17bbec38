//! When batches that are in the journal are written to their segments: many of a partition at once.
//! Until then readers have them from the tail cache, which lets go of nothing that is not written.

use std::collections::{BTreeMap, VecDeque};

use crate::error::Error;
use crate::limits::GATHERED_WRITES_MAX;
use crate::log::{Log, OwnedPartition, Store};
use crate::partition::Partition;
use crate::stream::PartitionId;
use crate::tail::TailBudget;

impl OwnedPartition {
    /// End of what readers find in its files, or without files.
    fn written_to(&self) -> u64 {
        match &self.store {
            Store::Disk(partition) => partition.mark().next_offset,
            Store::Memory(partition) => partition.next_offset(),
        }
    }

    /// Bytes that are in no file of it yet.
    fn gathered_bytes(&self) -> u64 {
        self.disk().map_or(0, Partition::staged_bytes)
    }

    /// Whether what is staged is to be written at once.
    fn must_write(&self, gathered_bytes_max: u64) -> bool {
        match &self.store {
            Store::Disk(partition) => {
                partition.is_urgent() || partition.staged_bytes() >= gathered_bytes_max
            }
            Store::Memory(_) => true,
        }
    }
}

impl Log {
    /// Whether something waits for [`Log::write_gathered`].
    pub fn gathers(&self) -> bool {
        !self.gathering.is_empty() && self.shared.latch.check().is_ok()
    }

    /// Writes to their segments what was there at the last call already, of a bounded number of
    /// partitions; false where more is left of that. Called again and again, it bounds the time for
    /// which appended batches are in the journal and the tail cache only.
    pub fn write_gathered(&mut self) -> Result<bool, Error> {
        self.shared.latch.check()?;
        let mut writes = 0;
        while let Some(&(id, round)) = self.gathering.front() {
            if round == self.gathering_round {
                break;
            }
            if writes == GATHERED_WRITES_MAX {
                return Ok(false);
            }
            self.gathering.pop_front();
            let Some(partition) = self.partitions.get_mut(&id) else {
                continue;
            };
            let since = partition.gathers_since.take();
            if partition.gathered_bytes() == 0 {
                continue;
            }
            if since == Some(self.gathering_round) {
                // It was written since it came to stand here, and then got more.
                self.gathering.push_back((id, self.gathering_round));
                partition.gathers_since = since;
                continue;
            }
            let written = partition.store.write();
            written.map_err(|error| self.shared.failed(error))?;
            writes += 1;
        }
        self.gathering_round += 1;
        Ok(true)
    }

    /// Writes to their segments all that is appended.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        for (id, _) in self.gathering.drain(..) {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.gathers_since = None;
                let written = partition.store.write();
                written.map_err(|error| self.shared.failed(error))?;
            }
        }
        Ok(())
    }

    /// Writes of what is staged what must not wait, and makes room in the tail cache for all of it.
    pub(super) fn write_segments(&mut self) -> Result<(), Error> {
        let partitions = self.touched.iter();
        let partitions = partitions.filter_map(|id| self.partitions.get(id));
        let batches = partitions.flat_map(|partition| &partition.staged);
        let cost = batches.map(|staged| TailBudget::cost(&staged.batch)).sum();
        // What does not fit leaves the tail cache as soon as it comes.
        let gathered_bytes_max = if cost > self.config.tail_bytes_max {
            0
        } else {
            self.config.gathered_bytes_max
        };
        for at in 0..self.touched.len() {
            let id = self.touched[at];
            // A partition deleted in the same turn is gone from the map.
            let Some(partition) = self.partitions.get_mut(&id) else {
                continue;
            };
            if partition.must_write(gathered_bytes_max) {
                if partition.gathers_since.is_some() {
                    partition.gathers_since = Some(self.gathering_round);
                }
                let written = partition.store.write();
                written.map_err(|error| self.shared.failed(error))?;
            } else if partition.gathers_since.is_none() {
                partition.gathers_since = Some(self.gathering_round);
                self.gathering.push_back((id, self.gathering_round));
            }
        }
        self.make_room(cost)
    }

    fn make_room(&mut self, cost: u64) -> Result<(), Error> {
        while self.tail.lacks(cost) {
            let Some(oldest) = self.tail.oldest() else {
                break;
            };
            let first_offset = oldest.tail().first_offset();
            if let Some(partition) = self.partitions.get_mut(&oldest.meta.id)
                && first_offset.is_some_and(|first| first >= partition.written_to())
            {
                let written = partition.store.write();
                written.map_err(|error| self.shared.failed(error))?;
            }
            self.tail.drop_oldest();
        }
        Ok(())
    }
}

/// Bytes of these partitions that are appended and in no segment yet.
pub(super) fn gathered_bytes(
    gathering: &Gathering,
    partitions: &BTreeMap<PartitionId, OwnedPartition>,
) -> u64 {
    let partitions = gathering.iter().filter_map(|(id, _)| partitions.get(id));
    partitions.map(OwnedPartition::gathered_bytes).sum()
}

/// Partitions with gathered batches, in the order in which they began, and the round in which each
/// did. Each stands there once.
pub(super) type Gathering = VecDeque<(PartitionId, u64)>;
