//! Follows a topic of the Apache Kafka cluster behind: its partitions are assigned by hand, from
//! where the table of positions says, so that no rebalance and no committed offset has a part in it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use broker::SourceRecord;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::{Link, Place, limits, position};
use crate::mirror::{
    Cluster, Ears, TopicState, Trouble, attend, described_topic, known_end, message_headers,
    topic_state,
};
use crate::settings::MirrorStart;

/// Longest wait for an answer of the cluster.
const ANSWER: Duration = Duration::from_secs(10);

/// The same for the bounds of one partition, which may have no leader.
const BOUNDS: Duration = Duration::from_secs(5);

/// Longest wait for a record, between two looks at whether the node stops.
const STEP: Duration = Duration::from_millis(100);

/// Time between two looks at how far the topic is, and two commits for tools that show lag.
const LOOK: Duration = Duration::from_secs(5);

/// Rest after the cluster could not be read.
const REST: Duration = Duration::from_secs(2);

/// Messages taken from the client before they are published.
const ROUND_RECORDS_MAX: usize = 4 * limits::PARCEL_RECORDS_MAX;

/// The partitions by number.
type Places = BTreeMap<u32, Place>;

/// What is known of the topic from one connection to the next.
struct Known {
    /// Whether the places in it were never found.
    first_time: bool,
    /// Which topic of the name it was.
    topic: Option<u64>,
}

/// Follows until the node stops. Blocks.
pub(super) fn follow(link: &Link, runtime: &Handle) {
    let mut places = Places::new();
    let mut known = Known {
        first_time: !link.positions.knows(link.settings()),
        topic: link.positions.get(&position::topic_key(link.settings())),
    };
    while !link.is_stopping() {
        match read(link, runtime, &mut places, &mut known) {
            Ok(()) | Err(Trouble::Stopping) => return,
            Err(Trouble::Waiting(why)) => link.board.waiting(&why),
            Err(Trouble::Failed(why) | Trouble::Fenced(why) | Trouble::Replaced(why)) => {
                link.board.failed(&why);
            }
        }
        let until = Instant::now() + REST;
        while !link.is_stopping() && Instant::now() < until {
            std::thread::sleep(STEP);
        }
    }
}

fn read(
    link: &Link,
    runtime: &Handle,
    places: &mut Places,
    known: &mut Known,
) -> Result<(), Trouble> {
    let Some(settings) = &link.node.settings.mirror else {
        return Err(Trouble::Failed("there is no [mirror]".to_owned()));
    };
    let cluster = Cluster {
        settings,
        identity: link.node.mirror.identity(),
        ears: Ears::default(),
    };
    let reading = Reading {
        consumer: cluster.reader(&link.settings().group)?,
        link,
        runtime,
        ears: cluster.ears.clone(),
        topic: link.settings().source.name(),
    };
    let count = match topic_state(&reading.consumer, &reading.ears, reading.topic, ANSWER)? {
        // Those that have one are read; the others as soon as they do.
        TopicState::Ready(count) | TopicState::Leaderless(count) if count > 0 => count,
        TopicState::Ready(_) | TopicState::Leaderless(_) => {
            let what = format!("{} has no partition", reading.topic);
            return Err(Trouble::Waiting(what));
        }
        TopicState::Missing => {
            // What is written once it is there comes after this downlink.
            known.first_time = false;
            let what = format!("unknown topic {}", reading.topic);
            return Err(Trouble::Failed(what));
        }
        TopicState::Forbidden => {
            let what = format!("not authorised: the user may not see {}", reading.topic);
            return Err(Trouble::Failed(what));
        }
    };
    reading.is_same(known)?;
    reading.open(places, count, known.first_time)?;
    known.first_time = false;
    reading.assign(places)?;
    reading.follow(places, count, known)
}

/// One connection to the cluster.
struct Reading<'a> {
    consumer: BaseConsumer<Ears>,
    link: &'a Link,
    runtime: &'a Handle,
    ears: Ears,
    topic: &'a str,
}

impl Reading<'_> {
    /// Finds out where partitions begin that are new, and sees that nothing was lost of the others.
    fn open(&self, places: &mut Places, count: u32, first_time: bool) -> Result<(), Trouble> {
        for partition in position::opening(count) {
            let key = position::key(self.link.settings(), partition, None);
            let known = self.link.positions.get(&key);
            let (low, high) = match self.bounds(partition) {
                Ok(bounds) => bounds,
                // It has no leader now. Where its position is known it holds up no other: the client
                // reads it once it has one.
                Err(Trouble::Waiting(why))
                    if places.contains_key(&partition) || known.is_some() =>
                {
                    tracing::debug!(partition, why, "read from its position, unseen");
                    if let Some(next) = known {
                        places.entry(partition).or_insert(Place {
                            partition,
                            key,
                            next,
                        });
                    }
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            if let Some(place) = places.get_mut(&partition) {
                self.check(place, low, high)?;
                continue;
            }
            let next = known.unwrap_or(match self.link.settings().start {
                MirrorStart::End if first_time => high,
                _ => low,
            });
            let mut place = Place {
                partition,
                key,
                next,
            };
            self.check(&mut place, low, high)?;
            let next = place.next;
            // Kept at once, so that what comes before the first record is not skipped by a restart.
            if known.is_none() && !self.carry(&mut place, Vec::new(), next) {
                return Err(Trouble::Stopping);
            }
            self.link.board.at(partition, place.next, high);
            places.insert(partition, place);
        }
        Ok(())
    }

    /// What retention took before it was read is counted; a topic that ends before the position is
    /// not the one that was read.
    fn check(&self, place: &mut Place, low: u64, high: u64) -> Result<(), Trouble> {
        if place.next > high {
            return Err(Trouble::Failed(format!(
                "partition {} of {} ends at {high}, but was read up to {}: if the topic was made \
                 anew, give the downlink another name",
                place.partition, self.topic, place.next
            )));
        }
        if place.next < low {
            let lost = low - place.next;
            tracing::warn!(downlink = %self.link.settings().name, lost, "retention was faster than the downlink");
            self.link.board.lost.fetch_add(lost, Ordering::Relaxed);
            place.next = low;
        }
        Ok(())
    }

    /// Sees that the topic is the one that was read before, and keeps which it is. Positions in
    /// another mean nothing: commands would be left out, or those of long ago be sent.
    fn is_same(&self, known: &mut Known) -> Result<(), Trouble> {
        let described = described_topic(&self.consumer, self.topic, ANSWER);
        let Some(id) = described.ok().and_then(|described| described.id) else {
            // The brokers do not tell; then its end may.
            return Ok(());
        };
        let id = (id >> u64::BITS) as u64 ^ id as u64;
        match known.topic {
            Some(before) if before == id => return Ok(()),
            Some(_) => {
                return Err(Trouble::Failed(format!(
                    "the topic {} was deleted and made anew: give the downlink another name, so that \
                     it begins anew there",
                    self.topic
                )));
            }
            None => {}
        }
        let mut place = Place {
            partition: 0,
            key: position::topic_key(self.link.settings()),
            next: id,
        };
        if !self.carry(&mut place, Vec::new(), id) {
            return Err(Trouble::Stopping);
        }
        known.topic = Some(id);
        Ok(())
    }

    /// First offset of a partition, and the end of what is committed in it.
    fn bounds(&self, partition: u32) -> Result<(u64, u64), Trouble> {
        let bounds = self
            .consumer
            .fetch_watermarks(self.topic, partition as i32, BOUNDS);
        let (low, high) = bounds.map_err(|error| {
            attend(&self.consumer);
            Trouble::of("the cluster does not answer", &error, &self.ears)
        })?;
        let offset = |offset: i64| u64::try_from(offset).unwrap_or(0);
        Ok((offset(low), offset(high)))
    }

    fn assign(&self, places: &Places) -> Result<(), Trouble> {
        let list = self.offsets(places)?;
        let assigned = self.consumer.assign(&list);
        assigned.map_err(|error| Trouble::of("cannot read the topic", &error, &self.ears))
    }

    fn offsets(&self, places: &Places) -> Result<TopicPartitionList, Trouble> {
        let mut list = TopicPartitionList::new();
        for (&partition, place) in places {
            let offset = Offset::Offset(i64::try_from(place.next).unwrap_or(i64::MAX));
            list.add_partition_offset(self.topic, partition as i32, offset)
                .map_err(|error| Trouble::Failed(error.to_string()))?;
        }
        Ok(list)
    }

    /// Publishes what comes, until something is wrong or the topic has more partitions.
    fn follow(&self, places: &mut Places, count: u32, known: &mut Known) -> Result<(), Trouble> {
        self.link.board.connected();
        let mut looked = Instant::now();
        while !self.link.is_stopping() {
            let round = self.round(places)?;
            for (partition, records) in round {
                let Some(place) = places.get_mut(&partition) else {
                    continue;
                };
                for (records, next) in self.link.parcels(records, 0) {
                    if !self.carry(place, records, next) {
                        return Err(Trouble::Stopping);
                    }
                }
                self.link.board.connected();
                self.link.board.at(partition, place.next, place.next);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look(places)?;
                let state = topic_state(&self.consumer, &self.ears, self.topic, ANSWER)?;
                if state != TopicState::Leaderless(count) && state != TopicState::Ready(count) {
                    // Read again from the start: there are more partitions, or none.
                    return Err(Trouble::Waiting("the topic has changed".to_owned()));
                }
                self.is_same(known)?;
            }
        }
        Ok(())
    }

    /// What the client has, by partition, in the order of the offsets.
    fn round(&self, places: &Places) -> Result<BTreeMap<u32, Vec<SourceRecord>>, Trouble> {
        let mut round: BTreeMap<u32, Vec<SourceRecord>> = BTreeMap::new();
        let (mut records, mut bytes, mut wait) = (0, 0, STEP);
        while records < ROUND_RECORDS_MAX && bytes < limits::READ_BYTES {
            let message = match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    self.judge(&error)?;
                    break;
                }
            };
            wait = Duration::ZERO;
            let (partition, record) = record(&message);
            let is_new = places
                .get(&partition)
                .is_some_and(|place| record.offset >= place.next);
            if is_new {
                records += 1;
                bytes += record.size_bytes();
                round.entry(partition).or_default().push(record);
            }
        }
        Ok(round)
    }

    /// What the client mends by itself is told and waited for; the rest is begun anew.
    fn judge(&self, error: &KafkaError) -> Result<(), Trouble> {
        use RDKafkaErrorCode as Code;
        let trouble = Trouble::of("the topic cannot be read", error, &self.ears);
        match (error.rdkafka_error_code(), trouble) {
            (Some(Code::OffsetOutOfRange | Code::AutoOffsetReset), trouble) => Err(trouble),
            (_, Trouble::Waiting(why)) => {
                self.link.board.waiting(&why);
                Ok(())
            }
            (_, trouble) => Err(trouble),
        }
    }

    /// How far the topic is, for those who look at the lag; here and in the cluster.
    fn look(&self, places: &mut Places) -> Result<(), Trouble> {
        // As the last fetches told it: to ask each leader would keep commands waiting.
        for (&partition, place) in places.iter() {
            if let Some(high) = known_end(&self.consumer, self.topic, partition as i32) {
                self.link
                    .board
                    .at(partition, place.next, high.max(place.next));
            }
        }
        self.link.board.connected();
        // Nothing rests on it, so that its failure is none.
        let committed = self
            .consumer
            .commit(&self.offsets(places)?, CommitMode::Async);
        if let Err(error) = committed {
            tracing::debug!(%error, "the position could not be committed for tools");
        }
        Ok(())
    }

    fn carry(&self, place: &mut Place, records: Vec<SourceRecord>, next: u64) -> bool {
        self.runtime.block_on(self.link.carry(place, records, next))
    }
}

fn record(message: &BorrowedMessage<'_>) -> (u32, SourceRecord) {
    let record = SourceRecord {
        offset: u64::try_from(message.offset()).unwrap_or(0),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(Into::into),
        value: message.payload().map(Into::into),
        headers: message_headers(message),
    };
    (u32::try_from(message.partition()).unwrap_or(0), record)
}
