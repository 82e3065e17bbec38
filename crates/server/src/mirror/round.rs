//! One round: what came since the last one is handed to librdkafka, delivered, and, with exactly
//! once, committed together with the positions. What fails is aborted and begun anew without what
//! failed. It knows no topic's content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::board::State;
use super::cluster::{self, Trouble};
use super::failures::{Failure, failure_words, take_failures};
use super::limits::{
    AGAIN, ANSWER, BACK, COMMIT, DECIDED, FAREWELL, READING, ROUND_BYTES_MAX, ROUND_MAX,
    SETTLING_MAX, SETTLING_STEPS, SILENCE, STALL, STALL_ON_TRIAL, STEP,
};
use super::shard::{Link, Shard};
use super::words::plain;

/// What one round has gathered, and what became of it.
#[derive(Default)]
pub(super) struct Round {
    /// Records that librdkafka has taken.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Whether its transaction is begun.
    pub begun: bool,
    /// Failed records: lane -> the offset of the last one, how many, and why.
    pub failed: BTreeMap<usize, Failure>,
    /// The lanes whose next record librdkafka itself does not take, for its size.
    pub refused: BTreeSet<usize>,
    /// The lane where librdkafka took no record any more, and why.
    pub broken: Option<(usize, Code)>,
    /// librdkafka takes no more for now.
    pub full: bool,
    /// Nothing more was delivered.
    pub stalled: bool,
    /// It went on, but for too long.
    pub slow: bool,
    /// The cluster refused it for the sake of a topic that may not be written; it may not say which.
    pub denied: bool,
}

impl Round {
    /// Nothing more is taken.
    pub fn is_closed(&self) -> bool {
        self.full || self.broken.is_some()
    }
}

/// How a step of a round ended.
enum Step {
    Done,
    /// The round must be aborted and begun anew.
    Abort(String),
}

impl Shard {
    /// A round of the lanes that nothing is held against, and one of the next that is suspected;
    /// false when there was nothing to do. An error ends the connection.
    pub(super) fn rounds(&mut self, link: &mut Link) -> Result<bool, Trouble> {
        let worked = self.round(link, None)?;
        if self.is_paused() {
            return Ok(worked);
        }
        let suspect = |at: &usize| {
            let lane = &link.lanes.all[*at];
            lane.search.is_some() && !self.is_resting(lane.stream)
        };
        let count = link.lanes.all.len();
        let next = (1..=count).map(|step| (self.alone + step) % count);
        let Some(alone) = next.into_iter().find(suspect) else {
            return Ok(worked);
        };
        self.alone = alone;
        Ok(self.round(link, Some(alone))? || worked)
    }

    fn round(&mut self, link: &mut Link, alone: Option<usize>) -> Result<bool, Trouble> {
        self.beat(READING)?;
        self.let_settle();
        let mut round = Round::default();
        let all = match alone {
            Some(lane) => self.gather_few(link, &mut round, lane),
            None => self.gather(link, &mut round),
        };
        if let Some((lane, code)) = round.broken {
            self.give_up(link, &mut round, &code.to_string())?;
            return self.broken(link, lane, code).map(|()| true);
        }
        if round.records == 0 {
            if round.begun {
                self.give_up(link, &mut round, "nothing to send")?;
            }
            let moved = self.settle(link);
            if all && let Some(lane) = alone {
                link.lanes.all[lane].search = None;
            }
            return Ok(self.bury_refused(link, &round) || moved);
        }
        let ended = if self.parts.settings.exactly_once {
            self.end(link, &mut round)?
        } else {
            self.deliver(link, &mut round)?
        };
        match ended {
            Step::Done => {
                self.stands(State::Connected, None);
                self.parts.node.mirror.transaction(true);
                self.room = (self.room * 2).min(ROUND_BYTES_MAX);
                self.settle(link);
                if all && let Some(lane) = alone {
                    link.lanes.all[lane].search = None;
                }
                self.bury_refused(link, &round);
                Ok(true)
            }
            Step::Abort(why) => {
                self.give_up(link, &mut round, &why)?;
                Ok(true)
            }
        }
    }

    /// Ends a transaction: positions, deliveries, commit.
    fn end(&mut self, link: &mut Link, round: &mut Round) -> Result<Step, Trouble> {
        let start = Instant::now();
        let topic = &self.parts.settings.positions_topic;
        let slots = link.lanes.slots(false).into_iter();
        let offsets = cluster::offsets(topic, &self.parts.claim, slots)?;
        // Before the deliveries are awaited: they go on meanwhile. This call cannot be resumed: what
        // its two requests need together must be less than its timeout. Nor has it a bound: where the
        // group's coordinator is not found at once it can wait for ever, and the thread is given up.
        let sent = self.insist(link, round, start, |link| {
            let producer = link.native.producer();
            producer.send_offsets_to_transaction(&offsets, &link.group, ANSWER)
        })?;
        if let Step::Abort(why) = sent {
            return Ok(Step::Abort(why));
        }
        if let Step::Abort(why) = self.deliver(link, round)? {
            return Ok(Step::Abort(why));
        }
        self.learn_settling(start.elapsed());
        let ended = self.insist(link, round, start, |link| {
            link.native.producer().commit_transaction(STEP)
        });
        self.ended = Some(Instant::now());
        ended
    }

    /// Waits until the cluster has probably settled the transaction before.
    fn let_settle(&self) {
        let since = self.ended.map(|ended| ended.elapsed());
        let left = since.map(|since| self.settling.saturating_sub(since));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            std::thread::sleep(left);
        }
    }

    /// A transaction took so long up to its commit: where it was refused at first, the next waits
    /// longer before it begins.
    fn learn_settling(&mut self, took: Duration) {
        let (more, less) = SETTLING_STEPS;
        self.settling = if took >= AGAIN {
            (self.settling + more).min(SETTLING_MAX)
        } else {
            self.settling.saturating_sub(less)
        };
    }

    /// Waits until all records are delivered or one has failed.
    fn deliver(&mut self, link: &mut Link, round: &mut Round) -> Result<Step, Trouble> {
        let start = Instant::now();
        let on_trial = self.rests.values().any(|rest| rest.on_trial);
        let stall = if on_trial { STALL_ON_TRIAL } else { STALL };
        let (mut left, mut moved) = (i32::MAX, start);
        loop {
            self.beat(BACK)?;
            let drained = link.native.drain(STEP);
            let now_left = link.native.producer().in_flight_count();
            if now_left < left {
                (left, moved) = (now_left, Instant::now());
            }
            take_failures(link, round);
            // Without a transaction the others are let go on: to give them up would need a new
            // producer, and the round is sent again from what failed in any case.
            if !round.failed.is_empty() && (drained || self.parts.settings.exactly_once) {
                return Ok(Step::Abort(failure_words(round)));
            }
            if drained {
                return Ok(Step::Done);
            }
            self.patience(moved)?;
            round.stalled = moved.elapsed() > stall;
            round.slow = start.elapsed() > ROUND_MAX;
            if round.stalled || round.slow {
                let heard = self.ears.heard().map(|text| plain(&text));
                let why = heard.unwrap_or_else(|| "the cluster does not take records".to_owned());
                return Ok(Step::Abort(why));
            }
        }
    }

    /// Repeats a call of a transaction until it is decided.
    fn insist(
        &self,
        link: &mut Link,
        round: &mut Round,
        start: Instant,
        call: impl Fn(&Link) -> Result<(), KafkaError>,
    ) -> Result<Step, Trouble> {
        loop {
            self.beat(BACK)?;
            let answer = call(link);
            // The answer may have come too late: another has read the positions since.
            self.beat(BACK)?;
            let Err(error) = answer else {
                return Ok(Step::Done);
            };
            take_failures(link, round);
            let KafkaError::Transaction(detail) = &error else {
                return Err(Trouble::of("the transaction", &error, &self.ears));
            };
            match detail.code() {
                Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
                    return Err(Trouble::Fenced(error.to_string()));
                }
                _ if detail.is_fatal() => {
                    return Err(Trouble::Waiting(error.to_string()));
                }
                code if detail.txn_requires_abort() => {
                    round.denied = code == Code::TopicAuthorizationFailed;
                    let why = if round.failed.is_empty() {
                        detail.string()
                    } else {
                        failure_words(round)
                    };
                    return Ok(Step::Abort(why));
                }
                _ if detail.is_retriable() => {
                    self.patience(start)?;
                    self.decided(start)?;
                }
                _ => return Err(Trouble::of("the transaction", &error, &self.ears)),
            }
        }
    }

    /// Called while the cluster is silent in a round.
    pub(super) fn patience(&self, start: Instant) -> Result<(), Trouble> {
        self.beat(BACK)?;
        if self.stops() && start.elapsed() > FAREWELL {
            return Err(Trouble::Stopping);
        }
        if start.elapsed() > SILENCE {
            let heard = self.ears.heard().map(|text| plain(&text));
            let why = heard.unwrap_or_else(|| "the cluster does not answer".to_owned());
            self.stands(State::Waiting, Some(&why));
        }
        Ok(())
    }

    /// A commit or an abort that is not decided by now may never be: a new client asks the cluster
    /// how it ended.
    pub(super) fn decided(&self, start: Instant) -> Result<(), Trouble> {
        if start.elapsed() < DECIDED {
            return Ok(());
        }
        let heard = self.ears.heard().map(|text| plain(&text));
        let why = heard.unwrap_or_else(|| "the cluster does not end the transaction".to_owned());
        Err(Trouble::Waiting(why))
    }

    /// The round has ended well: positions are where it read to. True when some moved.
    pub(super) fn settle(&mut self, link: &mut Link) -> bool {
        let node = &self.parts.node;
        let mut moved = false;
        let mut streams: Vec<usize> = Vec::new();
        for lane in &mut link.lanes.all {
            if lane.next == lane.position {
                continue;
            }
            moved = true;
            let figures = node.mirror.stream(lane.stream);
            figures.records.fetch_add(lane.records, Ordering::Relaxed);
            figures.bytes.fetch_add(lane.bytes, Ordering::Relaxed);
            figures.batches.fetch_add(lane.batches, Ordering::Relaxed);
            streams.push(lane.stream);
            lane.settle();
            node.mirrored(lane.id, lane.position);
        }
        if moved {
            link.uncommitted = true;
            node.mirrored_moved();
        }
        for stream in streams {
            self.recovered(stream);
        }
        if !self.parts.settings.exactly_once {
            self.commit_positions(link, false);
        }
        moved
    }

    /// Without transactions: commits the positions now and then, and at the end.
    pub(super) fn commit_positions(&self, link: &mut Link, last: bool) {
        let due = last || link.committed.elapsed() >= COMMIT;
        if self.parts.settings.exactly_once || !link.uncommitted || !due {
            return;
        }
        link.committed = Instant::now();
        link.uncommitted = false;
        let topic = &self.parts.settings.positions_topic;
        let slots = link.lanes.slots(true).into_iter();
        let offsets = cluster::offsets(topic, &self.parts.claim, slots);
        let mode = if last {
            CommitMode::Sync
        } else {
            CommitMode::Async
        };
        if let Ok(offsets) = offsets
            && let Err(error) = link.consumer.commit(&offsets, mode)
        {
            self.parts.node.mirror.error(&error.to_string());
            link.uncommitted = true;
        }
        cluster::attend(&link.consumer);
    }
}
