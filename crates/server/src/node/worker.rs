//! One worker: a thread with its own epoll, its sockets, its shard and its end of the ring to the
//! log. It moves bytes and decides nothing that a client could see, except keep alive.

mod asking;
mod deposits;
mod hooked;
mod mail;
mod receive;
mod send;
mod tracing;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::tracing::error;
use broker::{Carried, ConnId, Input, Now, Outbox, Refusal, Shard, ShardMessage};
use commitlog::{LogReader, Lsn, PartitionId, Room};
use mio::{Events, Poll, Token};
use tokio::sync::oneshot;

use crate::auth::Auth;
use crate::auth::enhanced::Exchange;

use super::clock::Clock;
use super::counters::{Counters, WorkerCounters};
use super::gathering::Gathering;
use super::mailbox::{Letters, Mailbox, Snapshot};
use super::readers::{Readers, Wanted};
use super::reception::ListenerFacts;
use super::rings::{TurnOrder, TurnSender};
use super::trace::Traces;
use super::transport::Sockets;

/// Bytes that one connection may have read in a turn; the worker's shared read buffer.
const READ_BYTES: usize = 64 * 1024;

/// Bytes waiting to be sent to a client beyond which nothing is read from it any more: who does
/// not take its answers may not ask for more.
const OUTPUT_PAUSE_BYTES: usize = 256 * 1024;

/// How long a closing connection may take to fetch the last answer and close its side.
const LINGER_MS: u64 = 2_000;

/// How often in one turn the shard is asked for more for connections that take everything.
const DRAIN_ROUNDS: u32 = 4;

/// Events taken from epoll at one time; together they make one turn.
const EVENTS_MAX: usize = 1024;

/// Time between two looks at the keep alives.
const KEEP_ALIVE_CHECK_MS: u64 = 1_000;

/// The token of the mailbox's waker; sockets have their slot's number.
pub const WAKE: Token = Token(usize::MAX);

/// What a worker is made of.
pub struct Parts {
    /// Its number, from 0.
    pub index: u16,
    /// Its epoll; the mailbox's waker is registered in it with [`WAKE`].
    pub poll: Poll,
    /// Its shard, restored.
    pub shard: Shard,
    /// The shard's outputs.
    pub out: Outbox,
    /// Its end of the ring to the log thread.
    pub turns: TurnSender,
    /// The mailboxes of all workers, its own included.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// The pool that reads what is not in memory.
    pub readers: Readers,
    /// The log.
    pub log: LogReader,
    /// Partitions whose appends nobody waits for before they are flushed.
    pub patient: HashSet<PartitionId>,
    /// The node's counters.
    pub counters: Arc<Counters>,
    /// The listeners by which connections come.
    pub listeners: Arc<[Arc<ListenerFacts>]>,
    /// Who judges what clients may do; there before the first of them is.
    pub auth: Arc<OnceLock<Arc<Auth>>>,
    /// Where callouts wait for their answers.
    pub runtime: tokio::runtime::Handle,
    /// The node's clock.
    pub clock: Clock,
    /// Who traces packets.
    pub traces: Arc<Traces>,
    /// Largest packet taken.
    pub packet_size_max: u32,
    /// Bytes waiting for a connection at which the shard holds its deliveries back.
    pub output_high_bytes: usize,
    /// Bytes at which the shard is told that it may go on.
    pub output_low_bytes: usize,
}

/// The running worker.
pub struct Worker {
    parts: Parts,
    sockets: Sockets,
    letters: Letters,
    scratch: Box<[u8]>,
    /// What a wrapped connection sent, without its wrapping; lent to one at a time.
    plain: Vec<u8>,
    /// Connections over their rate, with the time at which they are read again.
    throttled: BinaryHeap<Reverse<(u64, ConnId)>>,
    /// Connections with bytes to handle, in the order in which they came.
    ready: VecDeque<ConnId>,
    dirty: Vec<ConnId>,
    /// Connections that took what waited for them, for the shard.
    drained: Vec<ConnId>,
    /// Connections that say good-bye, with the time at which they go anyway.
    lingering: VecDeque<(ConnId, u64)>,
    /// Who waits for a snapshot, and how far the last one was when they asked.
    snapshots: Vec<(Lsn, Sender<Snapshot>)>,
    /// Connections whose next packet waits for a callout.
    asking: usize,
    /// Exchanges of clients that authenticate again.
    exchanges: HashMap<ConnId, Exchange>,
    giving_up: Vec<Sender<()>>,
    draining: Vec<(u64, oneshot::Sender<()>)>,
    /// Messages published without a connection that wait for the log.
    deposits: deposits::Deposits,
    /// What hooks made.
    hooked: hooked::Hooked,
    flushed: Lsn,
    /// Who waits for a parcel, by its token.
    carriers: HashMap<u64, oneshot::Sender<Result<Carried, Refusal>>>,
    /// How often ends of the cluster behind had moved when the shard was last told of them.
    mirror_moves: u64,
    /// The last turn that is known to be refused.
    refused: u64,
    now: Now,
    keep_alive_check_ms: u64,
    /// Requests with the pool that are not answered yet.
    reading: u32,
    starved: bool,
    stopped: bool,
    turn_start: Instant,
    /// Packets and commits handled in this turn.
    handled: u32,
    gathering: Gathering,
}

impl Worker {
    /// Ready to run; handles `Started`, whose posts go out before any thread runs.
    pub fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        let mut worker = Self {
            flushed: parts.log.flushed_to(),
            refused: 0,
            parts,
            sockets: Sockets::default(),
            letters: Letters::default(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            plain: Vec::new(),
            throttled: BinaryHeap::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            drained: Vec::new(),
            lingering: VecDeque::new(),
            snapshots: Vec::new(),
            asking: 0,
            exchanges: HashMap::new(),
            giving_up: Vec::new(),
            draining: Vec::new(),
            carriers: HashMap::new(),
            mirror_moves: 0,
            deposits: deposits::Deposits::default(),
            hooked: hooked::Hooked::default(),
            now,
            keep_alive_check_ms: now.mono_ms + KEEP_ALIVE_CHECK_MS,
            reading: 0,
            starved: false,
            stopped: false,
            turn_start: Instant::now(),
            handled: 0,
            gathering: Gathering::default(),
        };
        worker.input(Input::Started);
        worker.finish_turn();
        worker
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.stopped {
            if let Err(failure) = self.wait(&mut events) {
                // Without its poll the worker can serve nobody; the process must not pretend.
                error!(worker = self.parts.index, error = %failure, "epoll failed");
                panic!("epoll failed: {failure}");
            }
            self.turn(&events);
            self.gather();
        }
    }

    /// Lets a moment pass between two turns where that has shown to bring many inputs together:
    /// each turn costs wakes and writes whatever is in it.
    fn gather(&mut self) {
        let handled = std::mem::take(&mut self.handled);
        if let Some(rest) = self.gathering.rest(handled, self.turn_start.elapsed()) {
            self.mailbox().gather(rest);
        }
    }

    fn counters(&self) -> &WorkerCounters {
        self.parts.counters.worker(usize::from(self.parts.index))
    }

    fn input(&mut self, input: Input<'_>) {
        self.parts
            .shard
            .handle(input, self.now, &mut self.parts.out);
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.timeout();
        let asleep = timeout != Some(Duration::ZERO) && self.mailbox().may_sleep();
        let timeout = if asleep {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        let result = self.parts.poll.poll(events, timeout);
        if asleep {
            self.mailbox().awake();
        }
        match result {
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn mailbox(&self) -> &Mailbox {
        &self.parts.mailboxes[usize::from(self.parts.index)]
    }

    fn timeout(&self) -> Option<Duration> {
        let may_read = self.parts.turns.has_credit();
        if (may_read && !self.ready.is_empty()) || !self.drained.is_empty() {
            return Some(Duration::ZERO);
        }
        let mut deadline = self.parts.shard.next_deadline().unwrap_or(u64::MAX);
        if !self.sockets.is_empty() {
            deadline = deadline.min(self.keep_alive_check_ms);
        }
        if let Some(&(_, until)) = self.lingering.front() {
            deadline = deadline.min(until);
        }
        if let Some(&(until, _)) = self.draining.first() {
            deadline = deadline.min(until);
        }
        if let Some(&Reverse((until, _))) = self.throttled.peek() {
            deadline = deadline.min(until);
        }
        if deadline == u64::MAX {
            return None;
        }
        Some(Duration::from_millis(
            deadline.saturating_sub(self.parts.clock.now().mono_ms),
        ))
    }

    fn turn(&mut self, events: &Events) {
        self.now = self.parts.clock.now();
        self.turn_start = Instant::now();
        self.counters().turns.add_own(1);
        self.parts.out.trace(self.parts.traces.is_armed());
        self.read_mail();
        for event in events {
            if event.token() != WAKE {
                self.on_event(event);
            }
        }
        for conn in std::mem::take(&mut self.drained) {
            self.input(Input::Drained { conn });
        }
        self.end_waits();
        self.serve_ready();
        if self
            .parts
            .shard
            .next_deadline()
            .is_some_and(|at| at <= self.now.mono_ms)
        {
            self.input(Input::Tick);
        }
        if self.keep_alive_check_ms <= self.now.mono_ms {
            self.check_keep_alives();
        }
        self.finish_turn();
        self.end_lingering();
        self.answer_snapshots();
        self.answer_given_up();
        self.answer_carriers();
        self.answer_drain();
    }

    fn cut_turn_if_large(&mut self) {
        if self.parts.out.turn.size_bytes() >= broker::limits::TURN_BYTES_MAX {
            self.send_turn();
        }
    }

    fn send_turn(&mut self) {
        let turn = self.parts.out.turn.number();
        let room = if self.parts.out.turn.may_use_last_room() {
            Room::Last
        } else {
            Room::Usual
        };
        let heard = (self.parts.out.turn.needs_earlier()).then_some(self.refused);
        let Some((entry, messages)) = self.parts.out.turn.finish() else {
            return;
        };
        self.hooked.sent(turn, self.parts.out.turn.made());
        let bytes = messages.size_bytes()
            + entry
                .appends
                .iter()
                .map(|append| append.batch.len())
                .sum::<usize>();
        self.counters().appends.add_own(1);
        self.counters().append_bytes.add_own(bytes as u64);
        let patient = &self.parts.patient;
        let patient = entry
            .appends
            .iter()
            .all(|append| patient.contains(&append.partition));
        self.parts.turns.send(TurnOrder {
            turn,
            entry,
            messages,
            bytes,
            room,
            heard,
            patient,
            partitions: Vec::new(),
        });
    }

    /// Sends what the turn has produced: appends first, so that the log thread works while this
    /// one talks to sockets.
    fn finish_turn(&mut self) {
        self.serve_requests();
        self.send_turn();
        for accepted in std::mem::take(&mut self.parts.out.accepted) {
            if let Some(socket) = self.sockets.get_mut(accepted.conn) {
                socket.keep_alive_s = accepted.keep_alive_s;
            }
        }
        self.start_closing();
        for _ in 0..DRAIN_ROUNDS {
            self.send_dirty();
            if self.drained.is_empty() {
                break;
            }
            for conn in std::mem::take(&mut self.drained) {
                self.input(Input::Drained { conn });
            }
            self.serve_requests();
        }
        self.send_dirty();
        self.start_closing();
        self.send_turn();
        let packets = self.parts.out.take_packets();
        if packets > 0 {
            self.counters().packets_out.add_own(packets);
        }
    }

    /// Posts and reads that the shard asked for. What is in memory is answered at once, and the
    /// answer may ask again; each answer makes progress, so this ends.
    fn serve_requests(&mut self) {
        while !out_is_quiet(&self.parts.out) {
            self.reauthenticate();
            let posts = std::mem::take(&mut self.parts.out.posts);
            self.deliver_posts(posts);
            for request in std::mem::take(&mut self.parts.out.reads) {
                if let Some(messages) = self.parts.readers.read_tail(&request.positions) {
                    self.input(Input::Read {
                        token: request.token,
                        messages,
                    });
                } else {
                    self.read_in_pool(Wanted::Messages(request));
                }
                self.cut_turn_if_large();
            }
            for request in std::mem::take(&mut self.parts.out.retained) {
                match self.parts.readers.find_in_memory(&request) {
                    Some((page, messages)) => {
                        self.input(Input::RetainedFound {
                            token: request.token,
                            page,
                            messages,
                        });
                    }
                    None => self.read_in_pool(Wanted::Retained(request)),
                }
                self.cut_turn_if_large();
            }
        }
    }

    fn read_in_pool(&mut self, wanted: Wanted) {
        self.reading += 1;
        self.counters().pool_reads.add_own(1);
        self.parts.readers.send(self.parts.index, wanted);
    }

    fn deliver_posts(&mut self, posts: Vec<(u8, ShardMessage)>) {
        let workers = self.parts.mailboxes.len() as u16;
        for (home, message) in posts {
            let worker = broker::worker_of(home, workers);
            if worker == self.parts.index {
                self.input(Input::Post(message));
            } else {
                let mailbox = &self.parts.mailboxes[usize::from(worker)];
                mailbox.put(|letters| letters.posts.push(message));
            }
        }
    }
}

fn out_is_quiet(out: &Outbox) -> bool {
    out.posts.is_empty()
        && out.reads.is_empty()
        && out.retained.is_empty()
        && out.reauthentications.is_empty()
}
