//! One round: what came since the last one is handed to librdkafka, delivered, and, with exactly
//! once, committed together with the positions. What fails is aborted and begun anew without what
//! failed. It knows no topic's content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use commitlog::RecordView;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;
use tracing::{error, warn};

use super::board::State;
use super::cluster::{self, Trouble};
use super::dead_letter::{self, Origin};
use super::lanes::{Lane, Read, Search};
use super::limits::{
    AGAIN, ANSWER, COMMIT, DEAD_LETTER_WAIT, FAREWELL, REST_MAX, ROUND_BYTES_MAX, ROUND_BYTES_MIN,
    ROUND_MAX, ROUND_RECORDS_MAX, SETTLING_MAX, SETTLING_STEPS, SILENCE, STALL, STALL_ON_TRIAL,
    STEP,
};
use super::native::Outgoing;
use super::shard::{Link, Shard};
use super::words::plain;

/// Bits of a mark that count records of a lane from its position on; above them stands the lane.
const MARK_BITS: u32 = 40;

/// What one round has gathered, and what became of it.
#[derive(Default)]
struct Round {
    records: u64,
    bytes: u64,
    begun: bool,
    /// Failed records: lane -> the offset of the last one, how many, and why.
    failed: BTreeMap<usize, Failure>,
    /// The lanes whose next record librdkafka itself does not take, for its size.
    refused: BTreeSet<usize>,
    /// The lane where librdkafka took no record any more, and why.
    broken: Option<(usize, Code)>,
    /// librdkafka takes no more for now.
    full: bool,
    /// Nothing more was delivered.
    stalled: bool,
    /// It went on, but for too long.
    slow: bool,
}

impl Round {
    /// Nothing more is taken.
    fn is_closed(&self) -> bool {
        self.full || self.broken.is_some()
    }
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    last: u64,
    count: u64,
    code: Code,
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

    /// librdkafka takes no records: for a topic's sake, or because the client is of no use any more.
    fn broken(&mut self, link: &Link, lane: usize, code: Code) -> Result<(), Trouble> {
        let stream = link.lanes.all[lane].stream;
        match code {
            Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => {
                self.rest(stream, &format!("unknown topic ({code})"));
            }
            Code::TopicAuthorizationFailed => {
                self.rest(stream, "not authorised: the user may not write the topic");
            }
            _ => {
                let what = "librdkafka takes no records";
                return Err(Trouble::Waiting(format!("{what}: {code}")));
            }
        }
        Ok(())
    }

    fn bury_refused(&mut self, link: &mut Link, round: &Round) -> bool {
        for lane in &round.refused {
            self.bury(link, *lane, "larger than message.max.bytes of the client");
        }
        !round.refused.is_empty()
    }

    /// Hands over what is there, lane by lane, up to a round's bounds; true: all of it.
    fn gather(&mut self, link: &mut Link, round: &mut Round) -> bool {
        let (mut more, count) = (true, link.lanes.all.len());
        // Another goes first each time: room may be short.
        self.first = self.first.wrapping_add(1);
        while more && round.records < ROUND_RECORDS_MAX && round.bytes < self.room {
            more = false;
            for step in 0..count {
                let at = (self.first + step) % count;
                let lane = &link.lanes.all[at];
                let rests = self.is_resting(lane.stream) || link.topics[lane.stream].is_none();
                let alone = lane.search.is_some() || round.refused.contains(&at);
                if rests || alone || lane.is_unreadable() {
                    continue;
                }
                let before = round.bytes;
                more |= self.gather_lane(link, round, at, u64::MAX) == Read::More
                    && round.bytes - before >= (super::limits::READ_BYTES / 2) as u64;
                if round.is_closed() {
                    return false;
                }
            }
        }
        !more
    }

    /// The next records of a lane that is suspected; true when these are all, or as many as a round
    /// has.
    fn gather_few(&mut self, link: &mut Link, round: &mut Round, at: usize) -> bool {
        let budget = link.lanes.all[at].search.map_or(1, |search| search.records);
        let budget = budget.min(ROUND_RECORDS_MAX);
        while round.records < budget && round.bytes < self.room && !round.is_closed() {
            if self.gather_lane(link, round, at, budget) == Read::End {
                return !round.is_closed() && round.refused.is_empty();
            }
        }
        !round.is_closed() && budget == ROUND_RECORDS_MAX
    }

    fn gather_lane(&mut self, link: &mut Link, round: &mut Round, at: usize, budget: u64) -> Read {
        let lost = link.lanes.lost(at);
        let stream = link.lanes.all[at].stream;
        let figures = self.parts.node.mirror.stream(stream);
        if lost > 0 {
            figures.lost.fetch_add(lost, Ordering::Relaxed);
            let lane = &link.lanes.all[at];
            warn!(
                stream = self.parts.settings.streams[stream].stream,
                partition = lane.index,
                lost,
                "retention dropped records before they were mirrored"
            );
        }
        let Link {
            topics,
            native,
            lanes,
            ..
        } = link;
        let Some(topic) = topics[stream].as_ref() else {
            return Read::End;
        };
        let (board, exactly_once) = (&self.parts.node.mirror, self.parts.settings.exactly_once);
        let room = self.room;
        let read = lanes.read(at, &mut |lane: &Lane, record: &RecordView<'_>| {
            if round.records >= budget || round.bytes >= room {
                return false;
            }
            if !round.begun {
                // Only the state of the client could refuse it; then the first record tells.
                round.begun = !exactly_once || native.producer().begin_transaction().is_ok();
            }
            if lane.records == 0 {
                board.oldest(lane.id, record.timestamp_ms);
            }
            let sent = native.send(
                topic,
                Outgoing {
                    timestamp_ms: record.timestamp_ms,
                    key: record.key,
                    value: record.value,
                    headers: record.headers(),
                    mark: mark(at, record.offset - lane.position),
                },
            );
            match sent {
                Ok(()) => {
                    round.records += 1;
                    let field = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len) as u64;
                    round.bytes += field(record.key) + field(record.value);
                    true
                }
                Err(Code::QueueFull) => {
                    round.full = true;
                    false
                }
                Err(Code::MessageSizeTooLarge) => {
                    round.refused.insert(at);
                    false
                }
                Err(code) => {
                    round.broken = Some((at, code));
                    false
                }
            }
        });
        if round.refused.contains(&at) {
            return Read::End;
        }
        match read {
            Ok(read) => {
                self.readable(link, at);
                read
            }
            Err(error) => {
                self.unreadable(link, at, &error.to_string());
                Read::End
            }
        }
    }

    /// A partition cannot be read: the others of its stream go on.
    fn unreadable(&self, link: &mut Link, at: usize, why: &str) {
        let lane = &mut link.lanes.all[at];
        lane.unreadable_until = Some(Instant::now() + REST_MAX);
        let why = format!("partition {} of the log cannot be read: {why}", lane.index);
        let board = &self.parts.node.mirror;
        board.error("unreadable");
        if board.stream_stands(lane.stream, State::Failed, Some(&why)) {
            let stream = &self.parts.settings.streams[lane.stream].stream;
            error!(stream, why, "a partition is not mirrored; the others go on");
        }
    }

    fn readable(&self, link: &mut Link, at: usize) {
        let lane = &mut link.lanes.all[at];
        if lane.unreadable_until.take().is_none() {
            return;
        }
        let stream = lane.stream;
        let others = link.lanes.all.iter();
        if !others
            .clone()
            .any(|lane| lane.stream == stream && lane.unreadable_until.is_some())
        {
            let board = &self.parts.node.mirror;
            board.stream_stands(stream, State::Connected, None);
        }
    }

    /// Ends a transaction: positions, deliveries, commit.
    fn end(&mut self, link: &mut Link, round: &mut Round) -> Result<Step, Trouble> {
        let start = Instant::now();
        let topic = &self.parts.settings.positions_topic;
        let slots = link.lanes.slots(false).into_iter();
        let offsets = cluster::offsets(topic, &self.parts.claim, slots)?;
        // Before the deliveries are awaited: they go on meanwhile. This call cannot be resumed: what
        // its two requests need together must be less than its timeout.
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
            let Err(error) = call(link) else {
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
                _ if detail.txn_requires_abort() => {
                    let why = if round.failed.is_empty() {
                        detail.string()
                    } else {
                        failure_words(round)
                    };
                    return Ok(Step::Abort(why));
                }
                _ if detail.is_retriable() => self.patience(start)?,
                _ => return Err(Trouble::of("the transaction", &error, &self.ears)),
            }
        }
    }

    /// Called while the cluster is silent in a round.
    fn patience(&self, start: Instant) -> Result<(), Trouble> {
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

    /// The round has ended well: positions are where it read to. True when some moved.
    fn settle(&mut self, link: &mut Link) -> bool {
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

    /// Aborts the round; the next begins where this one did, without what failed.
    fn give_up(&mut self, link: &mut Link, round: &mut Round, why: &str) -> Result<(), Trouble> {
        let exactly_once = self.parts.settings.exactly_once;
        self.parts.node.mirror.transaction(false);
        let cut_short = round.stalled || round.slow;
        if cut_short {
            self.room = (self.room / 2).max(ROUND_BYTES_MIN);
        }
        if exactly_once || cut_short {
            link.native.purge();
        }
        let start = Instant::now();
        let aborted = loop {
            take_failures(link, round);
            if !exactly_once {
                break !cut_short && link.native.drain(Duration::ZERO);
            }
            match link.native.producer().abort_transaction(STEP / 5) {
                Ok(()) => break true,
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                    self.patience(start)?;
                }
                Err(error) => return Err(Trouble::of("cannot abort", &error, &self.ears)),
            }
        };
        let failed = std::mem::take(&mut round.failed);
        for (at, lane) in link.lanes.all.iter_mut().enumerate() {
            if exactly_once || cut_short || failed.contains_key(&at) {
                lane.rewind();
            }
        }
        // Without a transaction the other lanes have what they sent.
        self.settle(link);
        for (at, failure) in &failed {
            self.parts.node.mirror.error(&format!("{:?}", failure.code));
            self.judge(link, *at, *failure, round, why);
        }
        if !aborted {
            // What was given up in flight may be there all the same: a new producer begins anew.
            return Err(Trouble::Waiting(why.to_owned()));
        }
        Ok(())
    }

    /// What to do about a lane whose records failed.
    fn judge(&mut self, link: &mut Link, at: usize, failure: Failure, round: &Round, why: &str) {
        let stream = link.lanes.all[at].stream;
        match failure.code {
            Code::PurgeQueue | Code::PurgeInflight if round.stalled => {
                if !self.is_resting(stream) {
                    self.rest(stream, why);
                }
            }
            // Given up with the others' failure.
            Code::PurgeQueue | Code::PurgeInflight => {}
            Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::MessageBatchTooLarge => {
                let lane = &mut link.lanes.all[at];
                let until = failure.last + 1;
                // Whoever is suspected went alone: the round's records were its own.
                let narrowed = match lane.search {
                    Some(_) => Search::narrowed(round.records, until),
                    None => Search::narrowed(failure.count.max(2), until),
                };
                if narrowed.is_none() {
                    return self.bury(link, at, &failure.code.to_string());
                }
                lane.search = narrowed;
            }
            Code::TopicAuthorizationFailed => {
                self.rest(stream, "not authorised: the user may not write the topic");
            }
            code => self.rest(stream, &format!("the topic does not take records: {code}")),
        }
    }

    /// Puts the record at a lane's position into the dead-letter stream and goes on behind it.
    fn bury(&mut self, link: &mut Link, at: usize, reason: &str) {
        let settings = &self.parts.settings;
        let node = &self.parts.node;
        let lane = &link.lanes.all[at];
        let (stream, partition) = (lane.stream, lane.index);
        let mirrored = &settings.streams[stream];
        let into = node.log.stream(&settings.dead_letter);
        let Some(into) = into.and_then(|meta| meta.partitions.first().copied()) else {
            self.rest(stream, "the dead-letter stream is gone");
            return;
        };
        let origin = Origin {
            stream: &mirrored.stream,
            partition,
            topic: &mirrored.topic,
            reason,
        };
        let found = link.lanes.first_record(at, |record| {
            (record.offset, dead_letter::entry(into, record, origin))
        });
        let (offset, entry) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => {
                self.rest(stream, &format!("the log cannot be read: {error}"));
                return;
            }
        };
        let kept = self.parts.runtime.block_on(async {
            let keeping = async {
                let appended = node.append(entry).await?;
                node.flushed(appended.lsn).await
            };
            tokio::time::timeout(DEAD_LETTER_WAIT, keeping).await
        });
        if !matches!(kept, Ok(Ok(()))) {
            self.rest(
                stream,
                "a refused record could not be put into the dead-letter stream",
            );
            return;
        }
        warn!(
            stream = mirrored.stream,
            partition,
            offset,
            topic = mirrored.topic,
            reason,
            dead_letter = settings.dead_letter,
            "the cluster refuses a record; it is in the dead-letter stream now"
        );
        let figures = node.mirror.stream(stream);
        figures.dead_letters.fetch_add(1, Ordering::Relaxed);
        let lane = &mut link.lanes.all[at];
        lane.skip(offset);
        node.mirrored(lane.id, lane.position);
        node.mirrored_moved();
    }
}

fn mark(lane: usize, record: u64) -> usize {
    (lane << MARK_BITS) | (record & ((1 << MARK_BITS) - 1)) as usize
}

fn lane_of(mark: usize) -> usize {
    mark >> MARK_BITS
}

fn take_failures(link: &Link, round: &mut Round) {
    link.native
        .serve(|mark, code| note(round, &link.lanes.all, mark, code));
}

/// Notes a record that was not delivered; what the record itself is to blame for counts more than
/// what befell its neighbours.
fn note(round: &mut Round, lanes: &[Lane], mark: usize, code: Code) {
    let at = lane_of(mark);
    let offset = lanes[at].position + (mark as u64 & ((1 << MARK_BITS) - 1));
    let purged = matches!(code, Code::PurgeQueue | Code::PurgeInflight);
    let known = round.failed.entry(at).or_insert(Failure {
        last: offset,
        count: 0,
        code,
    });
    let known_purged = matches!(known.code, Code::PurgeQueue | Code::PurgeInflight);
    if purged && !known_purged {
        return;
    }
    if known_purged && !purged {
        *known = Failure {
            last: offset,
            count: 0,
            code,
        };
    }
    known.last = known.last.max(offset);
    known.count += 1;
}

fn failure_words(round: &Round) -> String {
    let first = round.failed.values().next();
    first.map_or(String::new(), |failure| failure.code.to_string())
}
