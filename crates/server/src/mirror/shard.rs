//! One thread of the mirror: connects, runs rounds, waits out what goes away by itself, and stops
//! for good where another process has taken its identity. How a round runs stands in `round`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, ConsumerGroupMetadata};
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use super::board::State;
use super::cluster::{self, Cluster, Trouble};
use super::kept::Kept;
use super::lanes::{Lanes, Rest};
use super::limits::{ANSWER, BACK, IDLE, REST_MAX, REST_MIN, ROUND_BYTES_MAX, STEP};
use super::native::{Ears, Native, Topic};
use super::positions::Claim;
use super::switch::SWITCHED_OFF;
use super::watch::{Event, Once, Pulse};
use crate::node::{Bell, Node};
use crate::settings::MirrorSettings;

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
    /// Fences everybody who had this identity before.
    pub fenced_others: Arc<Once>,
    /// Partitions of the topic of positions, as this process saw them first.
    pub slots: Arc<OnceLock<u32>>,
    /// Of each shard, whether one of its threads has written the claim of this process.
    pub claimed: Arc<[AtomicBool]>,
    /// Which positions the cluster must have.
    pub kept: Arc<Mutex<Kept>>,
    /// This thread's signs of life.
    pub pulse: Arc<Pulse>,
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
    /// The lane that went alone last.
    pub(super) alone: usize,
    /// The lane that was gathered first.
    pub(super) first: usize,
    /// Bytes of a round beyond which no further record is taken.
    pub(super) room: u64,
    /// When a transaction was committed last, and how long the cluster needs behind that until the
    /// next may begin, as far as it is known.
    pub(super) ended: Option<Instant>,
    /// See [`Shard::ended`].
    pub(super) settling: Duration,
}

/// What is there while the shard is connected. The order of the fields is that of their end: a
/// topic's handle goes before its producer.
pub(super) struct Link {
    pub topics: Vec<Option<Topic>>,
    pub native: Native,
    pub consumer: BaseConsumer<Ears>,
    pub group: ConsumerGroupMetadata,
    pub lanes: Lanes,
    /// When all positions were written, and not only those that moved.
    pub claimed: Instant,
    /// When positions were committed last, without transactions.
    pub committed: Instant,
    /// Whether some positions are not committed, without transactions.
    pub uncommitted: bool,
    /// Whether a position moved without a record: it is committed by itself, so that the record is
    /// not put aside a second time after a crash.
    pub skipped: bool,
}

impl Shard {
    /// Runs on the calling thread until the node stops.
    pub fn run(parts: Parts) {
        let bell = Arc::new(Bell::of_this_thread());
        parts.node.ring_on_flush(&bell);
        let mut shard = Self {
            parts,
            ears: Ears::default(),
            bell,
            rests: BTreeMap::new(),
            alone: 0,
            first: 0,
            room: ROUND_BYTES_MAX,
            ended: None,
            settling: Duration::ZERO,
        };
        let mut rest = REST_MIN;
        while !shard.stops() && shard.beat(BACK).is_ok() {
            if shard.is_paused() {
                shard.stands(State::Paused, Some(SWITCHED_OFF));
                shard.bell.wait(IDLE);
                rest = REST_MIN;
                continue;
            }
            let trouble = match shard.connect() {
                Err(trouble) => trouble,
                Ok(mut link) => {
                    shard.stands(State::Connected, None);
                    rest = REST_MIN;
                    let trouble = shard.serve(&mut link);
                    // The end of the clients is a call like others.
                    shard.parts.pulse.beat(BACK);
                    drop(link);
                    trouble
                }
            };
            match &trouble {
                Trouble::Stopping => return,
                Trouble::Replaced(why) => {
                    shard.stands(State::Fenced, Some(why));
                    return;
                }
                Trouble::Failed(why) => {
                    shard.count(&trouble);
                    shard.stands(State::Failed, Some(why));
                    rest = rest.max(REST_MIN * 8);
                }
                // Who of two goes on, the claims in the cluster say.
                Trouble::Fenced(why) | Trouble::Waiting(why) => {
                    shard.count(&trouble);
                    shard.stands(State::Waiting, Some(why));
                }
            }
            shard.sleep(rest);
            rest = (rest * 2).min(REST_MAX / 6);
        }
    }

    /// Whether the thread is to end: the node stops, or another does its work.
    pub(super) fn stops(&self) -> bool {
        self.parts.stop.load(Ordering::Acquire) || self.parts.pulse.is_given_up()
    }

    /// A sign of life before what may take so long; an error where another does this thread's work.
    pub(super) fn beat(&self, within: Duration) -> Result<(), Trouble> {
        if self.parts.pulse.beat(within) {
            Ok(())
        } else {
            Err(Trouble::Stopping)
        }
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.parts.claimed[self.parts.shard.0 as usize].load(Ordering::Acquire)
    }

    /// Whether an operator has switched the mirror off: no transaction begins then.
    pub(super) fn is_paused(&self) -> bool {
        !self.parts.node.mirror.is_on()
    }

    /// Sleeps for so long, unless the node stops.
    fn sleep(&self, rest: Duration) {
        let until = Instant::now() + rest;
        while !self.stops() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.parts.pulse.beat(BACK);
            std::thread::sleep(left.min(STEP));
        }
    }

    /// Tells how the shard stands, unless another tells it already.
    pub(super) fn stands(&self, state: State, why: Option<&str>) {
        if !self.parts.pulse.is_given_up() {
            stands(&self.parts.node, self.parts.shard.0, state, why);
        }
    }

    pub(super) fn count(&self, trouble: &Trouble) {
        let kind = match trouble {
            Trouble::Waiting(_) => "waiting",
            Trouble::Failed(_) => "failed",
            Trouble::Fenced(_) => "fenced",
            Trouble::Replaced(_) | Trouble::Stopping => return,
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

    /// Rounds until something ends them.
    fn serve(&mut self, link: &mut Link) -> Trouble {
        loop {
            if self.beat(BACK).is_err() {
                return Trouble::Stopping;
            }
            if self.stops() {
                self.commit_positions(link, true);
                return Trouble::Stopping;
            }
            if self.is_paused() {
                if let Err(trouble) = self.pause(link) {
                    return trouble;
                }
                continue;
            }
            let fresh = if link.lanes.refresh() {
                // Where a lane begins is written before it is used: the next connection finds it.
                self.claim(link).and_then(|()| self.open_topics(link))
            } else {
                Ok(())
            };
            let worked = fresh
                .and_then(|()| self.try_rested(link))
                .and_then(|()| self.rounds(link))
                .and_then(|worked| self.claim_skipped(link).map(|()| worked))
                .and_then(|worked| self.claim_old(link).map(|()| worked));
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

    /// Begins nothing until the mirror is switched on or the node stops; the connection, its claim
    /// and its positions stay.
    fn pause(&self, link: &mut Link) -> Result<(), Trouble> {
        self.stands(State::Paused, Some(SWITCHED_OFF));
        while self.is_paused() && !self.stops() {
            self.beat(BACK)?;
            link.native.serve(|_, _| {});
            cluster::attend(&link.consumer);
            self.commit_positions(link, false);
            self.bell.wait(IDLE);
        }
        if self.stops() {
            return Ok(());
        }
        self.listen(link)?;
        self.stands(State::Connected, None);
        Ok(())
    }

    /// Takes what the clients have to tell while there is nothing to do.
    fn listen(&self, link: &Link) -> Result<(), Trouble> {
        link.native.serve(|_, _| {});
        cluster::attend(&link.consumer);
        let Some(heard) = self.ears.heard() else {
            return Ok(());
        };
        self.beat(BACK)?;
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

/// Tells that a thread of a shard did not come back from a call of librdkafka, or could not be
/// started; `away`: how many have not come back.
pub(super) fn stayed_away(node: &Node, shard: u32, event: Event, away: usize) {
    match event {
        Event::GivenUp => {
            node.mirror.given_up(shard as usize, away);
            let why = "the client library does not come back: it is given up and begun anew";
            stands(node, shard, State::Waiting, Some(why));
        }
        Event::TooMany => {
            node.mirror.given_up(shard as usize, away);
            let why = format!(
                "{away} clients have been given up and do not come back: restart the node, or the \
                 brokers that do not answer"
            );
            stands(node, shard, State::Failed, Some(&why));
        }
        Event::Back => node.mirror.back(shard as usize, away),
        Event::NotStarted => {
            let why = "the operating system gives no thread";
            stands(node, shard, State::Failed, Some(why));
        }
    }
}

/// Tells how a shard stands; logged once a change.
fn stands(node: &Node, shard: u32, state: State, why: Option<&str>) {
    if !node.mirror.shard_stands(shard as usize, state, why) {
        return;
    }
    let why = why.unwrap_or_default();
    let brokers = node.mirror.settings().map(|settings| &*settings.brokers);
    match state {
        State::Connected => info!(shard, brokers, "the mirror is connected"),
        State::Paused => info!(
            shard,
            brokers, "the mirror is paused: what comes stays on the disk"
        ),
        State::Waiting => warn!(shard, brokers, why, "the mirror waits for the cluster"),
        State::Failed => error!(shard, brokers, why, "the mirror needs an operator"),
        State::Fenced => error!(
            shard,
            identity = node.mirror.identity(),
            why,
            "the mirror is fenced and stops for good: another process has this identity; end one \
             of them and restart"
        ),
    }
}
