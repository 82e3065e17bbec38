//! One thread of the mirror: connects, runs rounds, waits out what goes away by itself, and stops
//! for good where another process has taken its identity. How a round runs stands in `round`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::producer::Producer as _;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use super::board::State;
use super::cluster::{self, Cluster, POSITIONS_PARTITIONS, TopicState, Trouble};
use super::lanes::{Lanes, Rest};
use super::limits::{ANSWER, IDLE, REST_MAX, REST_MIN, STEP};
use super::native::{Ears, Native, Topic};
use super::positions::{Claim, owner};
use crate::node::{Bell, Node};
use crate::settings::{MirrorSettings, Word as _};

/// What a shard is made of.
pub struct Parts {
    /// Its number, and how many there are.
    pub shard: (u32, u32),
    /// What is mirrored.
    pub settings: Arc<MirrorSettings>,
    /// The log, and whom to tell.
    pub node: Arc<Node>,
    /// Whose positions these are.
    pub claim: Claim,
    /// Set when the node stops.
    pub stop: Arc<AtomicBool>,
    /// For the few calls that are futures.
    pub runtime: Handle,
}

/// The thread.
pub struct Shard {
    pub(super) parts: Parts,
    pub(super) ears: Ears,
    pub(super) bell: Arc<Bell>,
    /// Resting streams, by place in the settings.
    pub(super) rests: BTreeMap<usize, Rest>,
    /// Whether this process has written its claim.
    claimed: bool,
}

/// What is there while the shard is connected. The order of the fields is that of their end: a
/// topic's handle goes before its producer.
pub(super) struct Link {
    pub topics: Vec<Option<Topic>>,
    pub native: Native,
    pub consumer: BaseConsumer<Ears>,
    pub group: ConsumerGroupMetadata,
    pub lanes: Lanes,
    /// When positions were committed last, without transactions.
    pub committed: Instant,
    /// Whether some positions are not committed, without transactions.
    pub uncommitted: bool,
}

impl Shard {
    /// Runs on the calling thread until the node stops.
    pub fn run(parts: Parts) {
        let bell = Arc::new(Bell::of_this_thread());
        parts.node.ring_on_flush(Arc::clone(&bell));
        let mut shard = Self {
            parts,
            ears: Ears::default(),
            bell,
            rests: BTreeMap::new(),
            claimed: false,
        };
        shard.stands(State::Waiting, Some("connecting"));
        let mut rest = REST_MIN;
        while !shard.stops() {
            let trouble = match shard.connect() {
                Ok(mut link) => {
                    shard.stands(State::Connected, None);
                    rest = REST_MIN;
                    shard.serve(&mut link)
                }
                Err(Trouble::Fenced(why)) => {
                    shard.stands(State::Fenced, Some(&why));
                    return;
                }
                Err(trouble) => trouble,
            };
            match &trouble {
                Trouble::Stopping => return,
                Trouble::Failed(why) => {
                    shard.count(&trouble);
                    shard.stands(State::Failed, Some(why));
                    rest = rest.max(REST_MIN * 8);
                }
                // Whether it is true, the claims in the cluster say.
                Trouble::Fenced(why) | Trouble::Waiting(why) => {
                    shard.count(&trouble);
                    shard.stands(State::Waiting, Some(why));
                }
            }
            shard.sleep(rest);
            rest = (rest * 2).min(REST_MAX / 6);
        }
    }

    pub(super) fn stops(&self) -> bool {
        self.parts.stop.load(Ordering::Acquire)
    }

    /// Sleeps for so long, unless the node stops.
    fn sleep(&self, rest: Duration) {
        let until = Instant::now() + rest;
        while !self.stops() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(STEP));
        }
    }

    /// Tells how the shard stands; logged once a change.
    pub(super) fn stands(&self, state: State, why: Option<&str>) {
        let shard = self.parts.shard.0;
        if !self
            .parts
            .node
            .mirror
            .shard_stands(shard as usize, state, why)
        {
            return;
        }
        let why = why.unwrap_or_default();
        let brokers = &self.parts.settings.brokers;
        match state {
            State::Connected => info!(shard, brokers, "the mirror is connected"),
            State::Waiting => warn!(shard, brokers, why, "the mirror waits for the cluster"),
            State::Failed => error!(shard, brokers, why, "the mirror needs an operator"),
            State::Fenced => error!(
                shard,
                identity = self.parts.node.mirror.identity(),
                why,
                "the mirror is fenced and stops for good: another process has this identity; end \
                 one of them and restart"
            ),
        }
    }

    pub(super) fn count(&self, trouble: &Trouble) {
        let kind = match trouble {
            Trouble::Waiting(_) => "waiting",
            Trouble::Failed(_) => "failed",
            Trouble::Fenced(_) => "fenced",
            Trouble::Stopping => return,
        };
        self.parts.node.mirror.error(kind);
    }

    pub(super) fn cluster(&self) -> Cluster<'_> {
        Cluster {
            settings: &self.parts.settings,
            identity: self.parts.node.mirror.identity(),
            ears: self.ears.clone(),
        }
    }

    /// Connects and finds the positions. `Fenced` only where the cluster proves that another
    /// process has written its claim since this one did.
    fn connect(&mut self) -> Result<Link, Trouble> {
        let cluster = self.cluster();
        let topic = &self.parts.settings.positions_topic;
        let consumer = cluster.consumer()?;
        let runtime = &self.parts.runtime;
        let slots = cluster::ensure(&cluster, &consumer, runtime, topic, POSITIONS_PARTITIONS)?;
        let (shard, shards) = self.parts.shard;
        let config = cluster.producer(shard)?;
        let native = Native::new(&config, self.ears.clone());
        let native = native.map_err(|error| Trouble::Failed(error.to_string()))?;
        if self.parts.settings.exactly_once {
            if self.claimed {
                let found = cluster::committed(&consumer, &self.ears, topic, slots)?;
                self.check(&found)?;
            }
            self.init(&native)?;
        }
        let mut found = cluster::committed(&consumer, &self.ears, topic, slots)?;
        self.check(&found)?;
        self.check_ends(&found)?;
        if !self.parts.settings.exactly_once {
            self.remember(&mut found);
        }
        let lanes = Lanes::new(
            self.parts.node.log.clone(),
            Arc::clone(&self.parts.settings),
            (shard, shards),
            slots,
            found.positions,
        );
        let group = consumer
            .group_metadata()
            .ok_or_else(|| Trouble::Failed("the client has no group".to_owned()))?;
        let mut link = Link {
            topics: Vec::new(),
            native,
            consumer,
            group,
            lanes,
            committed: Instant::now(),
            uncommitted: false,
        };
        self.claim(&mut link)?;
        self.claimed = true;
        for lane in &link.lanes.all {
            self.parts.node.mirrored(lane.id, lane.position);
        }
        self.parts.node.mirrored_moved();
        self.open_topics(&mut link)?;
        Ok(link)
    }

    fn init(&self, native: &Native) -> Result<(), Trouble> {
        let deadline = Instant::now() + ANSWER;
        loop {
            if self.stops() {
                return Err(Trouble::Stopping);
            }
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
            if self.claimed && mine && claim.incarnation != own.incarnation {
                return Err(Trouble::Fenced(format!(
                    "another process mirrors as {identity} since this one did"
                )));
            }
        }
        Ok(())
    }

    /// Refuses positions beyond the end of the log: it was put back to an older state, and its next
    /// records would never be mirrored.
    fn check_ends(&self, found: &cluster::Found) -> Result<(), Trouble> {
        let log = &self.parts.node.log;
        for (id, position) in &found.positions {
            let Some(marks) = log.watermarks(*id) else {
                continue;
            };
            if *position > marks.appended {
                let meta = log.partition(*id);
                let (stream, index) =
                    meta.map_or((String::new(), 0), |meta| (meta.stream, meta.index));
                return Err(Trouble::Failed(format!(
                    "the cluster has {stream}-{index} up to {position}, this log ends at {}: the data directory is older than what was mirrored; choose another [mirror] identity to mirror it anew",
                    marks.appended
                )));
            }
        }
        Ok(())
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

    /// Writes whose the positions are, so that a process that was fenced can tell.
    fn claim(&self, link: &mut Link) -> Result<(), Trouble> {
        let topic = &self.parts.settings.positions_topic;
        let slots = link.lanes.slots(true).into_iter();
        let offsets = cluster::offsets(topic, &self.parts.claim, slots)?;
        if offsets.count() == 0 {
            return Ok(());
        }
        let what = "cannot write the positions";
        let told = |error| Trouble::of(what, &error, &self.ears);
        if !self.parts.settings.exactly_once {
            let mode = rdkafka::consumer::CommitMode::Sync;
            return link.consumer.commit(&offsets, mode).map_err(told);
        }
        let producer = link.native.producer();
        producer.begin_transaction().map_err(told)?;
        let sent = producer.send_offsets_to_transaction(&offsets, &link.group, ANSWER);
        sent.map_err(told)?;
        producer.commit_transaction(ANSWER).map_err(told)
    }

    /// Makes the topics' handles; a topic that is not there lets its stream rest.
    pub(super) fn open_topics(&mut self, link: &mut Link) -> Result<(), Trouble> {
        let count = self.parts.settings.streams.len();
        link.topics.resize_with(count, || None);
        for stream in 0..count {
            let wanted = link.lanes.all.iter().any(|lane| lane.stream == stream);
            if !wanted || link.topics[stream].is_some() || self.is_resting(stream) {
                continue;
            }
            match self.open_topic(link, stream) {
                Ok(topic) => link.topics[stream] = Some(topic),
                Err(Trouble::Waiting(why)) => return Err(Trouble::Waiting(why)),
                Err(trouble) => self.rest(stream, trouble.why()),
            }
        }
        Ok(())
    }

    fn open_topic(&self, link: &Link, stream: usize) -> Result<Topic, Trouble> {
        let mirrored = &self.parts.settings.streams[stream];
        let local = self.parts.node.log.stream(&mirrored.stream);
        let local = local.map_or(1, |meta| meta.partitions.len());
        let partitions = cluster::partitions_of(mirrored, local);
        let cluster = self.cluster();
        let runtime = &self.parts.runtime;
        cluster::ensure(
            &cluster,
            &link.consumer,
            runtime,
            &mirrored.topic,
            partitions,
        )?;
        let topic = link
            .native
            .topic(&mirrored.topic, mirrored.compression.word());
        topic.map_err(Trouble::Failed)
    }

    pub(super) fn is_resting(&self, stream: usize) -> bool {
        let rest = self.rests.get(&stream);
        rest.is_some_and(|rest| !rest.on_trial)
    }

    /// Lets a stream rest, longer each time.
    pub(super) fn rest(&mut self, stream: usize, why: &str) {
        let before = self.rests.get(&stream).map_or(REST_MIN, |rest| rest.next);
        let rest = Rest {
            until: Instant::now() + before,
            next: (before * 2).min(REST_MAX),
            on_trial: false,
        };
        self.rests.insert(stream, rest);
        let board = &self.parts.node.mirror;
        if board.stream_stands(stream, State::Waiting, Some(why)) {
            let mirrored = &self.parts.settings.streams[stream];
            warn!(
                stream = mirrored.stream,
                topic = mirrored.topic,
                why,
                "a stream is not mirrored for now; the others go on"
            );
        }
    }

    /// A stream that rested has succeeded.
    pub(super) fn recovered(&mut self, stream: usize) {
        if self.rests.get(&stream).is_some_and(|rest| rest.on_trial) {
            self.rests.remove(&stream);
            if self
                .parts
                .node
                .mirror
                .stream_stands(stream, State::Connected, None)
            {
                let mirrored = &self.parts.settings.streams[stream];
                info!(
                    stream = mirrored.stream,
                    topic = mirrored.topic,
                    "the stream is mirrored again"
                );
            }
        }
    }

    /// Tries streams again whose rest is over and whose topic looks well.
    pub(super) fn try_rested(&mut self, link: &mut Link) -> Result<(), Trouble> {
        let now = Instant::now();
        let due = self.rests.iter();
        let due: Vec<usize> = due
            .filter(|(_, rest)| !rest.on_trial && rest.until <= now)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in due {
            let name = self.parts.settings.streams[stream].topic.clone();
            if link.topics[stream].is_some() {
                match cluster::topic_state(&link.consumer, &self.ears, &name, ANSWER)? {
                    TopicState::Ready(_) => {}
                    TopicState::Leaderless => {
                        self.rest(stream, "a partition of the topic has no leader");
                        continue;
                    }
                    TopicState::Forbidden => {
                        self.rest(stream, "not authorised: the user may not see the topic");
                        continue;
                    }
                    TopicState::Missing => link.topics[stream] = None,
                }
            }
            if link.topics[stream].is_none() {
                match self.open_topic(link, stream) {
                    Ok(topic) => link.topics[stream] = Some(topic),
                    Err(trouble) => {
                        self.rest(stream, trouble.why());
                        continue;
                    }
                }
            }
            if let Some(rest) = self.rests.get_mut(&stream) {
                rest.on_trial = true;
            }
        }
        Ok(())
    }

    /// Rounds until something ends them.
    fn serve(&mut self, link: &mut Link) -> Trouble {
        loop {
            if self.stops() {
                self.commit_positions(link, true);
                return Trouble::Stopping;
            }
            let fresh = if link.lanes.refresh() {
                self.open_topics(link)
            } else {
                Ok(())
            };
            let worked = fresh
                .and_then(|()| self.try_rested(link))
                .and_then(|()| self.round(link));
            match worked {
                Ok(true) => {}
                Ok(false) => {
                    self.commit_positions(link, false);
                    if let Err(trouble) = self.listen(link) {
                        return trouble;
                    }
                    let now = Instant::now();
                    let trials = self.rests.values().filter(|rest| !rest.on_trial);
                    let next = trials.map(|rest| rest.until.saturating_duration_since(now));
                    self.bell.wait(next.min().unwrap_or(IDLE).min(IDLE));
                }
                Err(trouble) => return trouble,
            }
        }
    }

    /// Takes what the clients have to tell while there is nothing to do.
    fn listen(&self, link: &Link) -> Result<(), Trouble> {
        link.native.serve(|_, _| {});
        cluster::attend(&link.consumer);
        let Some(heard) = self.ears.heard() else {
            return Ok(());
        };
        // Idle connections are closed by brokers; whether it is more than that, one question tells.
        let topic = &self.parts.settings.positions_topic;
        match cluster::topic_state(&link.consumer, &self.ears, topic, ANSWER / 2) {
            Ok(_) => {
                self.stands(State::Connected, None);
                Ok(())
            }
            Err(_) => Err(Trouble::Waiting(super::words::plain(&heard))),
        }
    }
}
