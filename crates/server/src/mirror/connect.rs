//! How a shard connects: whose the positions are, and which are refused. What keeps another process
//! with the same identity out stands in `fencing`, how rounds run in `round`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use commitlog::PartitionId;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use tracing::warn;

use super::cluster::{self, Found, POSITIONS_PARTITIONS, Topics, Trouble};
use super::lanes::Lanes;
use super::limits::{ANSWER, BACK, BACK_FROM_ALL, POSITIONS_AGE_MAX, STEP};
use super::native::{Ears, Native};
use super::positions::{owner, slot};
use super::shard::{Link, Shard};

impl Shard {
    /// Connects and finds the positions.
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
        // transaction that was left open ends only with `init`. What is claimed is asked before:
        // another shard may write its claim meanwhile.
        self.beat(BACK)?;
        let claimed = self.claimed();
        let glance = cluster.glancing_consumer()?;
        let committed = cluster::committed(&glance, &self.ears, topic, 0..slots)?;
        self.check(&committed, &claimed)?;
        self.check_kept(&committed)?;
        let config = cluster.producer(&cluster::transactional_id(cluster.identity, shard))?;
        let native = Native::new(&config, self.ears.clone());
        let native = native.map_err(|error| Trouble::Failed(error.to_string()))?;
        if self.parts.settings.exactly_once {
            self.fence_others(&cluster, &consumer, &committed)?;
            self.init(&native)?;
        }
        let mut found = self.settled(&consumer, &(0..slots).filter(mine))?;
        // A slot of another may hold an older position of a partition that is in one of these now.
        let others = (0..slots).filter(|slot| !mine(slot));
        self.beat(BACK)?;
        found.take(cluster::committed(&glance, &self.ears, topic, others)?);
        self.check(&found, &claimed)?;
        let of_mine = |id| mine(&slot(id, slots));
        self.check_ends(&found, of_mine)?;
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
        let group = group_of(&consumer)?;
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
        self.parts.claimed[shard as usize].store(true, Ordering::Release);
        self.keep((0..slots).filter(mine));
        for lane in &link.lanes.all {
            self.parts.node.mirrored(lane.id, lane.position);
        }
        self.parts.node.mirrored_moved();
        self.open_topics(&mut link)?;
        Ok(link)
    }

    /// The positions of these slots, once no transaction pends there.
    pub(super) fn settled(
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

    /// Of each shard, whether its slots have the claim of this process by now.
    fn claimed(&self) -> Vec<bool> {
        let claimed = self.parts.claimed.iter();
        claimed
            .map(|claimed| claimed.load(Ordering::Acquire))
            .collect()
    }

    /// Refuses positions that are another's. `claimed` was asked before they were.
    fn check(&self, found: &Found, claimed: &[bool]) -> Result<(), Trouble> {
        let identity = self.parts.node.mirror.identity();
        let own = &self.parts.claim;
        for claim in found.claims.values() {
            if claim.directory != own.directory {
                return Err(Trouble::Replaced(format!(
                    "the positions of {identity} belong to the data directory {}, this one is {}: choose another [mirror] identity, or delete the group {} in the cluster if that directory is gone",
                    claim.directory,
                    own.directory,
                    cluster::group(identity),
                )));
            }
        }
        if own.is_overwritten(&found.claims, claimed) {
            return Err(Trouble::Replaced(format!(
                "another process mirrors as {identity} since this one did"
            )));
        }
        Ok(())
    }

    /// Refuses positions beyond where the log ended when this process started: it was put back to an
    /// older state, and what is appended up to there would never be mirrored. Once this process has
    /// mirrored, positions are its own. It looks at the partitions that `concerned` names.
    pub(super) fn check_ends(
        &self,
        found: &Found,
        concerned: impl Fn(PartitionId) -> bool,
    ) -> Result<(), Trouble> {
        if self.is_claimed() {
            return Ok(());
        }
        let log = &self.parts.node.log;
        for (id, position) in &found.positions {
            let Some(meta) = log.partition(*id).filter(|_| concerned(*id)) else {
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
        if !self.parts.settings.exactly_once {
            self.beat(BACK)?;
            let mode = rdkafka::consumer::CommitMode::Sync;
            let committed = link.consumer.commit(&offsets, mode);
            return committed.map_err(|error| self.unwritten(&error));
        }
        self.commit_alone(&link.native, &link.group, &offsets)
    }

    /// A transaction of positions only.
    pub(super) fn commit_alone(
        &self,
        native: &Native,
        group: &ConsumerGroupMetadata,
        offsets: &TopicPartitionList,
    ) -> Result<(), Trouble> {
        let told = |error| self.unwritten(&error);
        let producer = native.producer();
        producer.begin_transaction().map_err(told)?;
        self.beat(BACK)?;
        let sent = producer.send_offsets_to_transaction(offsets, group, ANSWER);
        sent.map_err(told)?;
        self.beat(BACK)?;
        producer.commit_transaction(ANSWER).map_err(told)
    }

    fn unwritten(&self, error: &KafkaError) -> Trouble {
        Trouble::of("cannot write the positions", error, &self.ears)
    }
}

/// As whom a transaction commits positions.
pub(super) fn group_of(consumer: &BaseConsumer<Ears>) -> Result<ConsumerGroupMetadata, Trouble> {
    let group = consumer.group_metadata();
    group.ok_or_else(|| Trouble::Failed("the client has no group".to_owned()))
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
