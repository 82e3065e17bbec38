//! How a shard connects: whose the positions are, which are refused, and what keeps another process
//! with the same identity out. How rounds run stands in `round`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::Producer as _;
use tracing::warn;

use super::cluster::{self, Cluster, Found, POSITIONS_PARTITIONS, Topics, Trouble};
use super::lanes::Lanes;
use super::limits::{ANSWER, BACK, BACK_FROM_ALL, POSITIONS_AGE_MAX, STEP};
use super::native::{Ears, Native};
use super::positions::{Claim, owner, slot};
use super::shard::{Link, Shard};
use super::watch::Taken;

impl Shard {
    /// Connects and finds the positions. `Fenced` only where the cluster proves that another
    /// process has written its claim since this one did.
    pub(super) fn connect(&mut self) -> Result<Link, Trouble> {
        self.beat(BACK_FROM_ALL)?;
        let cluster = self.cluster();
        let topic = &self.parts.settings.positions_topic;
        let consumer = cluster.consumer()?;
        let topics = Topics {
            cluster: &cluster,
            consumer: &consumer,
            runtime: &self.parts.runtime,
        };
        let slots = topics.ensure(topic, POSITIONS_PARTITIONS)?;
        same_slots(topic, *self.parts.slots.get_or_init(|| slots), slots)?;
        let (shard, shards) = self.parts.shard;
        let mine = |slot: &u32| owner(*slot, shards) == shard;
        // What was committed last, whatever pends: it tells whose the positions are, and an own
        // transaction that was left open ends only with `init`.
        self.beat(BACK)?;
        let glance = cluster.glancing_consumer()?;
        let committed = cluster::committed(&glance, &self.ears, topic, 0..slots)?;
        self.check(&committed)?;
        self.check_kept(&committed)?;
        let config = cluster.producer(&cluster::transactional_id(cluster.identity, shard))?;
        let native = Native::new(&config, self.ears.clone());
        let native = native.map_err(|error| Trouble::Failed(error.to_string()))?;
        if self.parts.settings.exactly_once {
            self.fence_others(&cluster, &committed)?;
            self.init(&native)?;
        }
        let mut found = self.settled(&consumer, &(0..slots).filter(mine))?;
        // A slot of another may hold an older position of a partition that is in one of these now.
        let others = (0..slots).filter(|slot| !mine(slot));
        self.beat(BACK)?;
        found.take(cluster::committed(&glance, &self.ears, topic, others)?);
        self.check(&found)?;
        self.check_ends(&found, slots)?;
        if !self.parts.settings.exactly_once {
            self.remember(&mut found);
        }
        let lanes = Lanes::new(
            &self.parts.node,
            Arc::clone(&self.parts.settings),
            (shard, shards),
            slots,
            found.positions,
        );
        // Its end is a call like others.
        self.beat(BACK)?;
        drop(glance);
        let group = consumer
            .group_metadata()
            .ok_or_else(|| Trouble::Failed("the client has no group".to_owned()))?;
        let mut link = Link {
            topics: Vec::new(),
            native,
            consumer,
            group,
            lanes,
            claimed: Instant::now(),
            committed: Instant::now(),
            uncommitted: false,
            skipped: false,
        };
        self.claim(&mut link)?;
        self.parts.claimed.store(true, Ordering::Release);
        self.keep((0..slots).filter(mine));
        for lane in &link.lanes.all {
            self.parts.node.mirrored(lane.id, lane.position);
        }
        self.parts.node.mirrored_moved();
        self.open_topics(&mut link)?;
        Ok(link)
    }

    /// Once a process, before any of its shards reads a position: where another number of shards had
    /// this identity before, ends the transactions of all of them, and their right to begin more.
    /// Those of the same number are each fenced by their successor.
    fn fence_others(&self, cluster: &Cluster<'_>, found: &Found) -> Result<(), Trouble> {
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
        let fenced = self.fence_before(cluster, found);
        turn.end(pulse, fenced.is_ok());
        fenced
    }

    fn fence_before(&self, cluster: &Cluster<'_>, found: &Found) -> Result<(), Trouble> {
        let shards = self.parts.shard.1;
        let before = found.claims.values().filter_map(Claim::shards);
        let before = before.filter(|count| *count != shards).max();
        for shard in 0..before.unwrap_or(0).min(super::SHARDS_MAX as u32) {
            let id = cluster::transactional_id(cluster.identity, shard);
            let native = Native::new(&cluster.producer(&id)?, self.ears.clone());
            self.init(&native.map_err(|error| Trouble::Failed(error.to_string()))?)?;
        }
        Ok(())
    }

    /// The positions of own slots, once no transaction pends there.
    fn settled(
        &self,
        consumer: &BaseConsumer<Ears>,
        slots: &(impl Iterator<Item = u32> + Clone),
    ) -> Result<Found, Trouble> {
        let topic = &self.parts.settings.positions_topic;
        let deadline = Instant::now() + ANSWER;
        loop {
            self.beat(BACK)?;
            let found = cluster::committed(consumer, &self.ears, topic, slots.clone());
            match found {
                Err(Trouble::Waiting(_)) if Instant::now() < deadline && !self.stops() => {
                    std::thread::sleep(STEP / 5);
                }
                found => return found,
            }
        }
    }

    fn init(&self, native: &Native) -> Result<(), Trouble> {
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

    /// Refuses positions that are another's.
    fn check(&self, found: &cluster::Found) -> Result<(), Trouble> {
        let identity = self.parts.node.mirror.identity();
        let own = &self.parts.claim;
        let (shard, shards) = self.parts.shard;
        for (slot, claim) in &found.claims {
            if claim.directory != own.directory {
                return Err(Trouble::Fenced(format!(
                    "the positions of {identity} belong to the data directory {}, this one is {}: choose another [mirror] identity, or delete the group {} in the cluster if that directory is gone",
                    claim.directory,
                    own.directory,
                    cluster::group(identity),
                )));
            }
            let mine = owner(*slot, shards) == shard;
            if self.is_claimed() && mine && claim.incarnation != own.incarnation {
                return Err(Trouble::Fenced(format!(
                    "another process mirrors as {identity} since this one did"
                )));
            }
        }
        Ok(())
    }

    /// Refuses positions beyond where the log ended when this process started: it was put back to an
    /// older state, and what is appended up to there would never be mirrored. Once this process has
    /// mirrored, positions are its own.
    fn check_ends(&self, found: &cluster::Found, slots: u32) -> Result<(), Trouble> {
        let (shard, shards) = self.parts.shard;
        let log = &self.parts.node.log;
        for (id, position) in &found.positions {
            let mine = owner(slot(*id, slots), shards) == shard;
            let Some(meta) = log.partition(*id).filter(|_| mine && !self.is_claimed()) else {
                continue;
            };
            let end = self.parts.node.mirror.started_at(*id).unwrap_or(0);
            if *position > end {
                return Err(Trouble::Failed(format!(
                    "the cluster has {}-{} up to {position}, this log ended at {end} when it was started: the data directory is older than what was mirrored; choose another [mirror] identity to mirror it anew",
                    meta.stream, meta.index
                )));
            }
        }
        Ok(())
    }

    /// Refuses to begin anew where the cluster has lost positions: to send again what it has would be
    /// to send it twice, and to begin at the end would be to leave out what it has not.
    fn check_kept(&self, found: &Found) -> Result<(), Trouble> {
        let identity = self.parts.node.mirror.identity();
        let kept = self
            .parts
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if kept.lost(identity, |slot| found.claims.contains_key(&slot)) == 0 {
            return Ok(());
        }
        Err(Trouble::Failed(format!(
            "the cluster has lost positions of {identity}: the group {} or the topic {} was deleted, or the offsets have expired there (offsets.retention.minutes); choose another [mirror] identity to mirror anew, from `start` on",
            cluster::group(identity),
            self.parts.settings.positions_topic,
        )))
    }

    /// Notes which positions the cluster has from now on.
    fn keep(&self, slots: impl Iterator<Item = u32>) {
        let identity = self.parts.node.mirror.identity();
        let mut kept = self
            .parts
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = kept.keep(identity, slots) {
            warn!(
                %error,
                "cannot note what the mirror has written to the cluster: if it is lost there, this will not be noticed"
            );
        }
    }

    /// Without transactions positions are committed now and then: this process knows better.
    fn remember(&self, found: &mut cluster::Found) {
        let board = &self.parts.node.mirror;
        for (partition, _) in board.pins() {
            if let Some(next) = board.mirrored_to(partition) {
                let known = found.positions.entry(partition).or_default();
                *known = next.max(*known);
            }
        }
    }

    /// Commits positions that moved without a record.
    pub(super) fn claim_skipped(&self, link: &mut Link) -> Result<(), Trouble> {
        if !std::mem::take(&mut link.skipped) {
            return Ok(());
        }
        self.claim(link)
    }

    /// Writes all positions anew before the brokers forget those that do not move.
    pub(super) fn claim_old(&self, link: &mut Link) -> Result<(), Trouble> {
        if link.claimed.elapsed() < POSITIONS_AGE_MAX {
            return Ok(());
        }
        self.claim(link)
    }

    /// Writes whose the positions are, so that a process that was fenced can tell.
    pub(super) fn claim(&self, link: &mut Link) -> Result<(), Trouble> {
        link.claimed = Instant::now();
        let topic = &self.parts.settings.positions_topic;
        let slots = link.lanes.slots(true).into_iter();
        let offsets = cluster::offsets(topic, &self.parts.claim, slots)?;
        if offsets.count() == 0 {
            return Ok(());
        }
        let what = "cannot write the positions";
        let told = |error| Trouble::of(what, &error, &self.ears);
        self.beat(BACK)?;
        if !self.parts.settings.exactly_once {
            let mode = rdkafka::consumer::CommitMode::Sync;
            return link.consumer.commit(&offsets, mode).map_err(told);
        }
        let producer = link.native.producer();
        producer.begin_transaction().map_err(told)?;
        let sent = producer.send_offsets_to_transaction(&offsets, &link.group, ANSWER);
        sent.map_err(told)?;
        self.beat(BACK)?;
        producer.commit_transaction(ANSWER).map_err(told)
    }
}

/// Another number of slots gives partitions to other shards: all must see the same.
fn same_slots(topic: &str, before: u32, now: u32) -> Result<(), Trouble> {
    if before == now {
        return Ok(());
    }
    Err(Trouble::Failed(format!(
        "the topic {topic} had {before} partitions when this process began and has {now}: restart \
         the node, so that all threads of the mirror go by the new number"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_number_of_slots_wants_a_restart() {
        assert_eq!(same_slots("p", 32, 32), Ok(()));
        let refused = same_slots("p", 32, 64).unwrap_err();
        assert!(matches!(&refused, Trouble::Failed(why) if why.contains("restart the node")));
    }
}
