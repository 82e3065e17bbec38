//! Keeps every other process with the same identity out: a transactional id of the cluster has one
//! holder, and the id that may write a slot follows from the number of shards that its claim names.
//! Which positions are refused stands in `connect`.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::Producer as _;

use super::cluster::{self, Cluster, Found, Trouble};
use super::connect::group_of;
use super::limits::{ANSWER, BACK, BACK_FROM_ALL, STEP};
use super::native::{Ears, Native};
use super::positions::{Claim, owner};
use super::shard::Shard;
use super::watch::Taken;

impl Shard {
    /// Once a process, before any of its shards reads a position: where another number of shards had
    /// this identity before, ends the transactions of all of them, and their right to begin more.
    /// Those of the same number are each fenced by their successor.
    pub(super) fn fence_others(
        &self,
        cluster: &Cluster<'_>,
        consumer: &BaseConsumer<Ears>,
        found: &Found,
    ) -> Result<(), Trouble> {
        let turn = &self.parts.fenced_others;
        let pulse = &self.parts.pulse;
        let deadline = Instant::now() + BACK_FROM_ALL;
        loop {
            self.beat(BACK)?;
            match turn.take(pulse) {
                Taken::Done => return Ok(()),
                Taken::Mine => break,
                Taken::Others if self.stops() => return Err(Trouble::Stopping),
                Taken::Others if Instant::now() > deadline => {
                    let why = "another thread of the mirror begins first".to_owned();
                    return Err(Trouble::Waiting(why));
                }
                Taken::Others => std::thread::sleep(STEP / 5),
            }
        }
        let fenced = self.fence_before(cluster, consumer, found);
        turn.end(pulse, fenced.is_ok());
        fenced
    }

    fn fence_before(
        &self,
        cluster: &Cluster<'_>,
        consumer: &BaseConsumer<Ears>,
        found: &Found,
    ) -> Result<(), Trouble> {
        let before = before(&found.claims, self.parts.shard.1);
        if !before.is_empty() {
            // Who is refused takes nothing from who is not.
            self.check_ends(found, |_| true)?;
        }
        for (shard, slots) in (0..).zip(before) {
            self.take_from(cluster, consumer, shard, &slots)?;
        }
        Ok(())
    }

    /// Fences the shard with that number of another process and claims its slots under its own id.
    /// A shard that was only fenced would begin anew before these slots tell that it must not: its
    /// id is none of this process's, so that nothing else would keep it out.
    fn take_from(
        &self,
        cluster: &Cluster<'_>,
        consumer: &BaseConsumer<Ears>,
        shard: u32,
        slots: &BTreeMap<u32, Claim>,
    ) -> Result<(), Trouble> {
        let id = cluster::transactional_id(cluster.identity, shard);
        let native = Native::new(&cluster.producer(&id)?, self.ears.clone());
        let native = native.map_err(|error| Trouble::Failed(error.to_string()))?;
        self.init(&native)?;
        let found = self.settled(consumer, &slots.keys().copied())?;
        if found.claims != *slots {
            let why = "another process with this identity begins at the same time";
            return Err(Trouble::Waiting(why.to_owned()));
        }
        self.check_ends(&found, |_| true)?;
        let topic = &self.parts.settings.positions_topic;
        let offsets = cluster::offsets(topic, &self.parts.claim, found.held.into_iter())?;
        if offsets.count() > 0 {
            self.commit_alone(&native, &group_of(consumer)?, &offsets)?;
        }
        // Its end is a call like others.
        self.beat(BACK)
    }

    /// Makes this client the holder of its transactional id.
    pub(super) fn init(&self, native: &Native) -> Result<(), Trouble> {
        let deadline = Instant::now() + ANSWER;
        loop {
            if self.stops() {
                return Err(Trouble::Stopping);
            }
            self.beat(BACK)?;
            let Err(error) = native.producer().init_transactions(STEP * 4) else {
                return Ok(());
            };
            native.serve(|_, _| {});
            let again = match &error {
                rdkafka::error::KafkaError::Transaction(error) => error.is_retriable(),
                _ => false,
            };
            if !again || Instant::now() > deadline {
                let what = "cannot begin transactions";
                return Err(Trouble::of(what, &error, &self.ears));
            }
        }
    }
}

/// The shards of processes with another number of them than `shards`: of each, by its number, the
/// slots with such a claim that it may write.
fn before(claims: &BTreeMap<u32, Claim>, shards: u32) -> Vec<BTreeMap<u32, Claim>> {
    let count = |claim: &Claim| claim.shards().filter(|count| *count != shards);
    let most = claims.values().filter_map(count).max().unwrap_or(0);
    let mut before = vec![BTreeMap::new(); (most as usize).min(super::SHARDS_MAX)];
    for (slot, claim) in claims {
        let owner = count(claim).map(|count| owner(*slot, count) as usize);
        if let Some(held) = owner.and_then(|owner| before.get_mut(owner)) {
            held.insert(*slot, claim.clone());
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_taken_from_the_shard_that_may_write_it() {
        let claim = |process: &str, shards| Claim::new("d".to_owned(), process, shards);
        // A process with one shard had begun to take over from one with three.
        let claims: BTreeMap<u32, Claim> = (0..6)
            .map(|slot| match slot % 3 {
                0 => (slot, claim("late", 1)),
                _ => (slot, claim("first", 3)),
            })
            .collect();
        let slots = |shards| -> Vec<Vec<u32>> {
            let before = before(&claims, shards);
            before
                .iter()
                .map(|held| held.keys().copied().collect())
                .collect()
        };
        assert_eq!(slots(1), [vec![], vec![1, 4], vec![2, 5]]);
        assert_eq!(slots(3), [vec![0, 3]]);
        assert_eq!(slots(2), [vec![0, 3], vec![1, 4], vec![2, 5]]);
        assert!(before(&BTreeMap::new(), 2).is_empty());
    }
}
