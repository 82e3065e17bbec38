//! The bound on the producers that all partitions together remember: memory, and the catalogue that
//! each checkpoint writes, grow with them. It knows how many they are, not what they send.

use std::collections::BTreeMap;

use super::OwnedPartition;
use crate::stream::PartitionId;

/// How many producers are remembered.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// At least as many as there are: what expired or was deleted is found when it matters.
    known: usize,
    /// The bound was reached by open transactions alone; looking again before this is in vain.
    full_until_ms: u64,
}

/// After that it is looked again whether transactions have ended.
const FULL_MS: u64 = 1000;

impl Census {
    /// Makes sure that one more producer can be remembered: first those go that are expired anyway,
    /// then an eighth of the bound, the longest silent. False where all have a transaction open.
    pub(crate) fn make_room(
        &mut self,
        partitions: &BTreeMap<PartitionId, OwnedPartition>,
        max: usize,
        now_ms: u64,
        expiry_ms: u64,
    ) -> bool {
        if self.known < max {
            return true;
        }
        if now_ms < self.full_until_ms && self.full_until_ms - now_ms <= FULL_MS {
            return false;
        }
        self.known = 0;
        for owned in partitions.values() {
            let mut producers = owned.state.producers();
            producers.expire(now_ms, expiry_ms);
            self.known += producers.len();
        }
        if self.known >= max {
            let spare = max / 8 + 1;
            self.forget(partitions, self.known - max + spare);
        }
        let is_full = self.known >= max;
        self.full_until_ms = if is_full { now_ms + FULL_MS } else { 0 };
        !is_full
    }

    /// Forgets so many idle producers, the longest silent.
    fn forget(&mut self, partitions: &BTreeMap<PartitionId, OwnedPartition>, count: usize) {
        let mut idle = Vec::new();
        for (id, owned) in partitions {
            let producers = owned.state.producers();
            idle.extend(producers.idle().map(|(last_ms, who)| (last_ms, *id, who)));
        }
        if count < idle.len() {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, id, who) in idle {
            if let Some(owned) = partitions.get(&id) {
                owned.state.producers().forget(who);
                self.known -= 1;
            }
        }
    }

    /// A partition remembers so many now, that remembered so many before.
    pub(crate) fn changed(&mut self, before: usize, after: usize) {
        self.known = (self.known + after).saturating_sub(before);
    }
}
