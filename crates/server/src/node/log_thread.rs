//! The log's owner, mostly a thread: it takes the turns of all workers and what comes through the
//! door, stages them, writes once, and tells everyone. It never waits for a reader, and for a flush
//! only where nobody waits for anything else; it knows nothing of sessions or sockets.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use broker::{Commit, REFUSED, RetainedIndex};
use commitlog::{
    Ack, BatchHead, Entry, Error, FlushAdvice, FlushPolicy, Flushed, Log, LogReader, Lsn, Staged,
};
use tracing::{error, info, warn};

use super::counters::Counters;
use super::desk::Owner;
use super::door::{AppendError, Appended, Call, Request, Standing};
use super::flush_thread::{self, Flusher};
use super::mailbox::{Mailbox, News};
use super::rings::{Brake, TurnOrder, Wake};

/// Bytes of turns taken before they are written.
const TAKE_BYTES: usize = 4 * 1024 * 1024;

/// Requests taken through the door in one turn.
const TAKE_REQUESTS: usize = 64;

/// Bytes of commits that one worker may be behind; then no turns are taken until it has caught up.
const LAG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Shares of the journal, percent, at which workers stop reading sockets and begin again. A
/// checkpoint has long begun by then; the rest is for what is on its way and for its snapshots.
const BRAKE_PERCENT: u64 = 75;
const RELEASE_PERCENT: u64 = 65;

/// Half of the longest time for which an appended batch is in no segment yet.
const GATHER_US: u64 = 25_000;

/// How long the log thread rests while it must not take turns.
const LAG_REST_US: u64 = 1000;

/// Bytes that somebody else appends in the place of the log thread at one time.
const HELP_BYTES: usize = 1024 * 1024;

/// After so many flushes in which nobody waited for anything sooner, this thread flushes by itself:
/// handing over and waking up would cost more than the flush. The next who does wait loses at most
/// one flush's time, once.
const CALM_FLUSHES: u32 = 100;

/// What the log thread is made of.
pub struct Parts {
    /// The data directory, for messages.
    pub dir: PathBuf,
    /// The log, open and replayed.
    pub log: Log,
    /// A reader of it.
    pub reader: LogReader,
    /// Its ends of the workers' rings, in the order of the workers.
    pub rings: Vec<rtrb::Consumer<TurnOrder>>,
    /// What comes through the door.
    pub requests: Receiver<Request>,
    /// The workers' mailboxes.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Applied in the order of the log, before workers learn of a commit.
    pub retained: Arc<RwLock<RetainedIndex>>,
    /// The flush thread.
    pub flusher: Flusher,
    /// When it is asked to flush.
    pub policy: FlushPolicy,
    /// Least time between two flushes that somebody waits for.
    pub flush_interval_us: u64,
    /// Where workers and others wake this thread.
    pub wake: Arc<Wake>,
    /// Room that the journal must have for what may be on its way.
    pub room_bytes: u64,
    /// Keeps workers from reading sockets while the journal is about to be full.
    pub brake: Arc<Brake>,
    /// What the node tells others about the log.
    pub standing: Arc<Standing>,
    /// The node's counters.
    pub counters: Arc<Counters>,
}

/// The log's owner. It sits at a [`Desk`](super::desk::Desk).
pub struct LogThread {
    parts: Parts,
    /// Taken from the door, and to be done before all that still stands there.
    next: Option<Request>,
    /// When its thread, which sleeps, will look by itself; 0 while it does not sleep.
    sleeps_until_us: u64,
    /// The ring that is asked first, so that no worker is always last.
    first: usize,
    /// The last refused turn of each worker.
    refused: Vec<u64>,
    staged: Vec<(Staged, Source)>,
    stop: Option<(Lsn, Sender<Result<(), Error>>)>,
    start: Instant,
    last_flush_us: Option<u64>,
    flushing: bool,
    /// Flushes since somebody last waited for something sooner than a flush.
    calm_flushes: u32,
    /// Everyone knows that the log is latched.
    told: bool,
    /// The last entry was refused for want of room, and that was told.
    no_room: bool,
    /// When what has gathered for segments is looked at; none while nothing has.
    gathered_us: Option<u64>,
}

/// How the log thread may sleep.
pub struct Rest {
    /// For how long.
    pub timeout: Option<Duration>,
    /// Only urgent work wakes it.
    pub dozing: bool,
    /// Turns of workers are taken.
    pub takes_turns: bool,
}

enum Source {
    Worker { worker: u16, order: TurnOrder },
    Door(tokio::sync::oneshot::Sender<Result<Appended, AppendError>>),
}

impl LogThread {
    /// Ready to run.
    pub fn new(parts: Parts) -> Self {
        Self {
            refused: vec![0; parts.rings.len()],
            parts,
            next: None,
            sleeps_until_us: 0,
            first: 0,
            staged: Vec::new(),
            stop: None,
            start: Instant::now(),
            last_flush_us: None,
            flushing: false,
            calm_flushes: 0,
            told: false,
            no_room: false,
            gathered_us: None,
        }
    }

    /// When something is to be done although nothing comes; 0: now.
    fn due_us(&self, now_us: u64) -> u64 {
        let flush_us = match self.parts.policy.advice(now_us) {
            FlushAdvice::Now => 0,
            FlushAdvice::At(at_us) => at_us,
            FlushAdvice::Idle => u64::MAX,
        };
        flush_us.min(self.gathered_us.unwrap_or(u64::MAX))
    }

    /// Whether something is due before its thread will look.
    fn is_overslept(&self) -> bool {
        self.due_us(self.now_us()) < self.sleeps_until_us
    }

    fn next_request(&mut self) -> Option<Request> {
        self.next
            .take()
            .or_else(|| self.parts.requests.try_recv().ok())
    }

    fn append(
        &mut self,
        entry: Entry,
        answer: tokio::sync::oneshot::Sender<Result<Appended, AppendError>>,
    ) {
        self.parts.standing.request_taken();
        match self.parts.log.stage_foreign(entry, super::clock::wall_ms()) {
            Ok(staged) => {
                self.tell_room(None);
                self.staged.push((staged, Source::Door(answer)));
            }
            Err(failure) => {
                self.tell_room(Some(&failure));
                let _ = answer.send(Err(refusal(&failure)));
                self.look_for_latch();
            }
        }
    }

    /// When the next flush that somebody waits for may start.
    fn flush_from_us(&self) -> u64 {
        self.last_flush_us
            .map_or(0, |last_us| last_us + self.parts.flush_interval_us)
    }

    /// Some worker is too far behind.
    fn is_lagging(&self) -> bool {
        self.parts
            .mailboxes
            .iter()
            .any(|mailbox| mailbox.lag_bytes() > LAG_BYTES_MAX)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// From when on something gathers for segments counts the time until it is written.
    fn notice_gathering(&mut self) {
        if !self.parts.log.gathers() {
            self.gathered_us = None;
        } else if self.gathered_us.is_none() {
            self.gathered_us = Some(self.now_us() + GATHER_US);
        }
    }

    /// Writes to segments what has gathered for so long.
    fn write_gathered(&mut self) -> bool {
        self.notice_gathering();
        let now_us = self.now_us();
        if self.gathered_us.is_none_or(|due_us| due_us > now_us) {
            return false;
        }
        match self.parts.log.write_gathered() {
            Ok(false) => {}
            Ok(true) => self.gathered_us = Some(now_us + GATHER_US),
            Err(failure) => {
                // Nothing more will be written.
                self.gathered_us = None;
                self.latched(&failure);
                return false;
            }
        }
        true
    }

    fn take_requests(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..TAKE_REQUESTS {
            let Some(request) = self.next_request() else {
                break;
            };
            worked = true;
            let request = match request {
                Request::Append { entry, answer } => {
                    self.append(entry, answer);
                    continue;
                }
                request => request,
            };
            self.parts.standing.request_taken();
            match request {
                Request::Append { .. } => unreachable!("appends were just sorted out"),
                Request::Call(call) => {
                    // What was staged before is written before: calls see the log as it is.
                    self.write();
                    self.call(call);
                }
                Request::WantFlush => {
                    let now_us = self.now_us();
                    self.parts.policy.wrote(now_us, 0, true);
                }
                Request::Latched => self.look_for_latch(),
                Request::Flushed(result) => self.flushed(result),
                Request::Stop { shards_at, answer } => {
                    self.stop = Some((shards_at, answer));
                    break;
                }
            }
        }
        worked
    }

    fn call(&mut self, call: Call) {
        let log = &mut self.parts.log;
        let (appended, flushed) = (log.appended_to(), log.flushed_to());
        let checkpointing = log.is_checkpointing();
        call(log);
        match (checkpointing, log.is_checkpointing()) {
            (false, true) => self.parts.policy.checkpoint_began(),
            (true, false) => self.parts.policy.checkpoint_done(),
            _ => {}
        }
        self.look_for_latch();
        self.brake_or_release();
        let now_us = self.now_us();
        let appended_to = self.parts.log.appended_to();
        if appended_to > appended {
            self.parts.policy.wrote(now_us, 0, false);
            self.parts.standing.appended(appended_to);
        }
        if self.parts.log.flushed_to() > flushed {
            // A checkpoint has flushed what others wait for; there may be nothing left to flush.
            self.tell_flushed();
        }
    }

    fn take_turns(&mut self) -> bool {
        let urgent = self.parts.wake.take_urgent();
        if urgent {
            self.calm_flushes = 0;
        }
        if !urgent && (self.flushing || self.flush_from_us() > self.now_us()) {
            return false;
        }
        if self.is_lagging() {
            self.parts.counters.log.waits.add_own(1);
            return false;
        }
        let rings = self.parts.rings.len();
        let mut taken = 0;
        let mut idle = 0;
        let mut at = self.first;
        let now_ms = super::clock::wall_ms();
        let mut worked = false;
        while taken < TAKE_BYTES && idle < rings {
            match self.parts.rings[at].pop() {
                Ok(order) => {
                    idle = 0;
                    worked = true;
                    taken += order.bytes;
                    self.stage(at as u16, order, now_ms);
                }
                Err(_) => idle += 1,
            }
            at = (at + 1) % rings;
        }
        self.first = at;
        worked
    }

    fn stage(&mut self, worker: u16, mut order: TurnOrder, now_ms: u64) {
        order
            .partitions
            .extend(order.entry.appends.iter().map(|append| append.partition));
        let log = &mut self.parts.log;
        let refused = self.refused[usize::from(worker)];
        let lacks_earlier = order.heard.is_some_and(|heard| heard < refused);
        let staged = match log.admits(&order.entry, order.room, now_ms) {
            Ok(()) if lacks_earlier => {
                // What was refused will be written again, and this one behind it.
                let returned = Box::new((order.entry, order.messages));
                self.refuse(worker, order.turn, broker::Refusal::Full, Some(returned));
                return;
            }
            Ok(()) => log.stage_in(std::mem::take(&mut order.entry), order.room, now_ms),
            Err(failure) => Err(failure),
        };
        match staged {
            Ok(staged) => {
                self.tell_room(None);
                self.staged.push((staged, Source::Worker { worker, order }));
            }
            Err(failure) => {
                self.tell_room(Some(&failure));
                let why = match refusal(&failure) {
                    AppendError::Latched | AppendError::Stopping => broker::Refusal::Latched,
                    AppendError::Full | AppendError::Refused(_) => broker::Refusal::Full,
                };
                let returned =
                    (why == broker::Refusal::Full).then(|| Box::new((order.entry, order.messages)));
                self.refuse(worker, order.turn, why, returned);
                self.look_for_latch();
            }
        }
    }

    /// Says once that there is no room, and once that there is some again.
    fn tell_room(&mut self, failure: Option<&Error>) {
        match failure {
            None if self.no_room => {
                self.no_room = false;
                info!("the log takes appends again");
            }
            Some(failure @ (Error::Full { .. } | Error::JournalFull { .. })) if !self.no_room => {
                self.no_room = true;
                let dir = self.parts.dir.display();
                warn!(error = %failure, "the log in {dir} refuses appends until there is room");
            }
            _ => {}
        }
    }

    /// What ran on this thread or another may have met a failure.
    fn look_for_latch(&mut self) {
        if let Some(failure) = self.parts.log.latched() {
            self.latched(&failure);
        }
    }

    fn refuse(
        &mut self,
        worker: u16,
        turn: u64,
        why: broker::Refusal,
        returned: Option<Box<(Entry, broker::Messages)>>,
    ) {
        self.parts.counters.log.refused.add_own(1);
        self.refused[usize::from(worker)] = turn;
        // Turns staged earlier are answered first: a worker hears of its turns in order.
        self.write();
        let mailbox = &self.parts.mailboxes[usize::from(worker)];
        let news = News::Refused {
            turn,
            why,
            returned,
        };
        mailbox.put(|letters| letters.news.push(news));
    }

    /// One write for all that is staged, then everyone is told.
    fn write(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        let staged = std::mem::take(&mut self.staged);
        if let Err(failure) = self.parts.log.write() {
            self.latched(&failure);
            for (_, source) in staged {
                match source {
                    Source::Worker { worker, order } => {
                        self.refuse(worker, order.turn, broker::Refusal::Latched, None);
                    }
                    Source::Door(answer) => {
                        let _ = answer.send(Err(AppendError::Latched));
                    }
                }
            }
            return;
        }
        let now_us = self.now_us();
        let counters = &self.parts.counters.log;
        counters.commits.add_own(1);
        counters.entries.add_own(staged.len() as u64);
        let mut commits = Vec::with_capacity(staged.len());
        let mut patient = true;
        for (staged, source) in staged {
            counters.bytes.add_own(staged.journal_bytes);
            if staged.journal_bytes > 0 {
                let wanted = staged.ack >= Ack::Flush;
                self.parts
                    .policy
                    .wrote(now_us, staged.journal_bytes, wanted);
            }
            match source {
                Source::Worker { worker, order } => {
                    patient &= order.patient && staged.journal_bytes > 0;
                    commits.push(Arc::new(commit(&staged, worker, order)));
                }
                Source::Door(answer) => {
                    if staged.journal_bytes > 0 && staged.ack < Ack::Flush {
                        self.calm_flushes = 0;
                    }
                    let Staged {
                        lsn,
                        base_offsets,
                        ops,
                        ..
                    } = staged;
                    let _ = answer.send(Ok(Appended {
                        lsn,
                        base_offsets,
                        ops,
                    }));
                }
            }
        }
        self.apply_retained(&commits);
        self.publish(&commits, patient);
        self.brake_or_release();
        self.parts.standing.appended(self.parts.log.appended_to());
    }

    fn apply_retained(&self, commits: &[Arc<Commit>]) {
        let touches = |commit: &Arc<Commit>| {
            (0..commit.messages.len() as u32)
                .any(|index| commit.messages.retained_place(index).is_some())
        };
        if commits.iter().any(touches) {
            let mut retained = self
                .parts
                .retained
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for commit in commits.iter().filter(|commit| touches(commit)) {
                retained.apply(commit);
            }
        }
    }

    fn publish(&self, commits: &[Arc<Commit>], patient: bool) {
        for mailbox in &self.parts.mailboxes {
            mailbox.put_commits(commits, patient);
        }
    }

    /// Looked at after each write and each call, since checkpoints end in a call.
    fn brake_or_release(&self) {
        let (used, max) = self.parts.reader.journal_fill();
        let limit = if self.parts.brake.is_pulled() {
            RELEASE_PERCENT
        } else {
            BRAKE_PERCENT
        };
        let pull = used * 100 >= max * limit || !self.parts.log.has_room(self.parts.room_bytes);
        if self.parts.brake.set(pull) {
            if pull {
                self.parts.counters.log.waits.add_own(1);
            } else {
                for mailbox in &self.parts.mailboxes {
                    mailbox.nudge();
                }
            }
        }
    }

    fn flush_if_due(&mut self) -> bool {
        let now_us = self.now_us();
        if self.parts.policy.advice(now_us) != FlushAdvice::Now {
            return false;
        }
        self.parts.policy.started(now_us);
        self.last_flush_us = Some(now_us);
        let Some(ticket) = self.parts.log.flush_ticket() else {
            self.parts.policy.finished();
            return true;
        };
        if self.calm_flushes < CALM_FLUSHES {
            self.calm_flushes += 1;
            self.flushing = true;
            self.parts.flusher.start_flush(ticket);
        } else {
            let result = flush_thread::flush(ticket, &self.parts.counters);
            self.flushed(result);
        }
        true
    }

    fn flushed(&mut self, result: Result<Flushed, Error>) {
        self.parts.policy.finished();
        self.flushing = false;
        match result {
            Ok(flushed) => {
                self.parts.log.flushed(flushed);
                self.tell_flushed();
            }
            Err(failure) => self.latched(&failure),
        }
    }

    fn tell_flushed(&self) {
        for mailbox in &self.parts.mailboxes {
            mailbox.nudge_flushed();
        }
        self.parts.standing.flushed();
    }

    /// Everyone is told, once: whoever waits for a flush waits in vain.
    fn latched(&mut self, failure: &Error) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        error!(
            error = %failure,
            "the log takes no appends any more; free the cause and restart: recovery then \
             decides what survived"
        );
        self.parts.standing.latch(&failure.to_string());
        for mailbox in &self.parts.mailboxes {
            mailbox.put(|letters| letters.news.push(News::Latched));
        }
    }
}

impl Owner for LogThread {
    fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.parts.standing)
    }

    fn is_up(&mut self) {
        self.sleeps_until_us = 0;
    }

    fn turn(&mut self) -> bool {
        let mut worked = self.take_requests();
        worked |= self.take_turns();
        if !self.staged.is_empty() {
            self.write();
        }
        worked |= self.write_gathered();
        worked | self.flush_if_due()
    }

    /// Whether it was stopped through the door.
    fn is_stopped(&self) -> bool {
        self.stop.is_some()
    }

    fn rest(&mut self) -> Option<Rest> {
        let now_us = self.now_us();
        let lagging = self.is_lagging();
        let mut until_us = self.due_us(now_us);
        if until_us <= now_us {
            return None;
        }
        // While one flush runs, or until the next may start, what only waits for a flush stays in
        // the rings: one write then takes it all.
        let next_us = self.flush_from_us();
        let dozing = self.flushing || next_us > now_us;
        if dozing && !self.flushing {
            until_us = until_us.min(next_us);
        }
        if lagging {
            until_us = until_us.min(now_us + LAG_REST_US);
        }
        self.sleeps_until_us = until_us;
        let sleeps = until_us < u64::MAX;
        Some(Rest {
            timeout: sleeps.then(|| Duration::from_micros(until_us - now_us)),
            dozing,
            takes_turns: !lagging && !dozing,
        })
    }

    fn found_work(&self, rest: &Rest) -> bool {
        let rings = &self.parts.rings;
        self.parts.standing.has_requests()
            || (rest.takes_turns && rings.iter().any(|ring| !ring.is_empty()))
            || self.is_overslept()
    }

    /// Does the appends that stand first; a call, a stop or a flush's end is for its own thread.
    fn help(&mut self) -> bool {
        let (mut taken, mut count) = (0, 0);
        let mut more = false;
        while let Some(request) = self.next_request() {
            let Request::Append { entry, answer } = request else {
                self.next = Some(request);
                more = true;
                break;
            };
            taken += entry.appends.iter().map(|it| it.batch.len()).sum::<usize>();
            self.append(entry, answer);
            count += 1;
            if taken >= HELP_BYTES || count == TAKE_REQUESTS {
                more = self.parts.standing.has_requests();
                break;
            }
        }
        self.write();
        self.notice_gathering();
        more || self.is_overslept()
    }

    /// The last flush and the clean mark.
    fn end(mut self) {
        self.write();
        if self.flushing
            && let Some(Request::Flushed(result)) = self
                .parts
                .requests
                .iter()
                .find(|it| matches!(it, Request::Flushed(_)))
        {
            self.flushed(result);
        }
        let Parts {
            log,
            flusher,
            standing,
            ..
        } = self.parts;
        flusher.stop();
        let Some((shards_at, answer)) = self.stop else {
            return;
        };
        let result = log.close(shards_at);
        if let Err(failure) = &result {
            warn!(error = %failure, "the log could not be closed cleanly");
            // Whoever waits for a flush waits in vain.
            standing.latch(&failure.to_string());
        }
        standing.stopped();
        let _ = answer.send(result);
    }
}

fn commit(staged: &Staged, worker: u16, order: TurnOrder) -> Commit {
    let batches = order
        .partitions
        .iter()
        .zip(&staged.base_offsets)
        .zip(&staged.batches)
        .map(|((&partition, base), batch)| match base {
            Ok(base) => {
                let head = BatchHead::read(batch).expect("the log has just checked it");
                (partition, *base, head.count())
            }
            Err(_) => (partition, REFUSED, 0),
        })
        .collect();
    Commit {
        lsn: staged.lsn,
        worker,
        turn: order.turn,
        batches,
        messages: order.messages,
    }
}

fn refusal(failure: &Error) -> AppendError {
    match failure {
        Error::Full { .. } | Error::JournalFull { .. } => AppendError::Full,
        Error::EntryTooLarge { .. } => AppendError::Refused(failure.to_string()),
        // All others latch the log.
        _ => AppendError::Latched,
    }
}

#[cfg(test)]
mod tests;
