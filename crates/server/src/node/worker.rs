//! One worker: a thread with its own epoll, its sockets, its shard and its end of the ring to the
//! log. It moves bytes and decides nothing that a client could see, except keep alive.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use broker::{CloseCause, ConnId, Input, Now, Outbox, Shard, ShardMessage};
use commitlog::{LogReader, Lsn};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tokio::sync::oneshot;
use tracing::{debug, error};

use super::clock::Clock;
use super::counters::{Counters, WorkerCounters};
use super::mailbox::{Answer, Ask, Letters, Mailbox, News, Snapshot};
use super::readers::{Readers, Wanted};
use super::reception::Arrival;
use super::rings::{TurnOrder, TurnSender};
use super::socket::{self, ReadEnd, Socket, Sockets};

/// Packets that one connection may have handled in a turn before others get theirs.
const PACKETS_A_TURN: u32 = 32;

/// Bytes that one connection may have read in a turn; the worker's shared read buffer.
const READ_BYTES: usize = 64 * 1024;

/// An incomplete packet of at most this size is joined with what follows in the read buffer; a
/// larger one grows where it lies.
const JOIN_BYTES: usize = READ_BYTES / 4;

/// Bytes waiting to be sent to a client beyond which nothing is read from it any more: who does
/// not take its answers may not ask for more.
const OUTPUT_PAUSE_BYTES: usize = 256 * 1024;

/// What may wait for a client beyond the shard's own bound, before the connection is given up.
const OUTPUT_EXCESS_BYTES: usize = 4 * 1024 * 1024;

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
    /// The node's counters.
    pub counters: Arc<Counters>,
    /// The node's clock.
    pub clock: Clock,
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
    /// Connections with bytes to handle, in the order in which they came.
    ready: VecDeque<ConnId>,
    dirty: Vec<ConnId>,
    /// Connections that took what waited for them, for the shard.
    drained: Vec<ConnId>,
    /// Connections that say good-bye, with the time at which they go anyway.
    lingering: VecDeque<(ConnId, u64)>,
    snapshots: Vec<(u64, Sender<Snapshot>)>,
    draining: Vec<(u64, oneshot::Sender<()>)>,
    flushed: Lsn,
    now: Now,
    keep_alive_check_ms: u64,
    starved: bool,
    stopped: bool,
}

impl Worker {
    /// Ready to run; handles `Started`, whose posts go out before any thread runs.
    pub fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        let mut worker = Self {
            flushed: parts.log.flushed_to(),
            parts,
            sockets: Sockets::default(),
            letters: Letters::default(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            drained: Vec::new(),
            lingering: VecDeque::new(),
            snapshots: Vec::new(),
            draining: Vec::new(),
            now,
            keep_alive_check_ms: now.mono_ms + KEEP_ALIVE_CHECK_MS,
            starved: false,
            stopped: false,
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
        }
    }

    fn counters(&self) -> &WorkerCounters {
        self.parts.counters.worker(usize::from(self.parts.index))
    }

    fn input(&mut self, input: Input<'_>) {
        self.parts.shard.handle(input, self.now, &mut self.parts.out);
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.timeout();
        let asleep = timeout != Some(Duration::ZERO) && self.mailbox().may_sleep();
        let timeout = if asleep { timeout } else { Some(Duration::ZERO) };
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
        if deadline == u64::MAX {
            return None;
        }
        Some(Duration::from_millis(deadline.saturating_sub(self.parts.clock.now().mono_ms)))
    }

    fn turn(&mut self, events: &Events) {
        self.now = self.parts.clock.now();
        self.counters().turns.add_own(1);
        self.read_mail();
        for event in events {
            if event.token() != WAKE {
                self.on_event(event);
            }
        }
        for conn in std::mem::take(&mut self.drained) {
            self.input(Input::Drained { conn });
        }
        self.serve_ready();
        if self.parts.shard.next_deadline().is_some_and(|at| at <= self.now.mono_ms) {
            self.input(Input::Tick);
        }
        if self.keep_alive_check_ms <= self.now.mono_ms {
            self.check_keep_alives();
        }
        self.finish_turn();
        self.end_lingering();
        self.answer_drain();
    }

    /// Commits, posts, arrivals and questions, in this order: what other shards and the log say
    /// comes before what new connections ask.
    fn read_mail(&mut self) {
        // Read before the letters are taken: all commits up to here are then among them.
        let flushed = self.parts.log.flushed_to();
        let mut letters = std::mem::take(&mut self.letters);
        self.mailbox().take(&mut letters);
        for message in letters.posts.drain(..) {
            self.input(Input::Post(message));
        }
        for news in letters.news.drain(..) {
            match news {
                News::Committed(commit) => {
                    if commit.worker == self.parts.index {
                        self.parts.turns.settled(commit.turn);
                        self.answer_snapshots(commit.turn, commit.lsn);
                    }
                    self.input(Input::Committed(&commit));
                    self.mailbox().caught_up(&commit);
                }
                News::Refused { turn, why } => {
                    self.parts.turns.settled(turn);
                    self.snapshots.retain(|&(of, _)| of != turn);
                    self.input(Input::Refused { turn, why });
                }
            }
            self.cut_turn_if_large();
        }
        if flushed > self.flushed {
            self.flushed = flushed;
            self.input(Input::Flushed(flushed));
        }
        for answer in letters.answers.drain(..) {
            self.input(match answer {
                Answer::Read { token, messages } => Input::Read { token, messages },
                Answer::Retained { token, page, messages } => {
                    Input::RetainedFound { token, page, messages }
                }
            });
            self.cut_turn_if_large();
        }
        for arrival in letters.arrivals.drain(..) {
            self.arrive(arrival);
        }
        for ask in letters.asks.drain(..) {
            self.answer(ask);
        }
        self.letters = letters;
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Clients { query, answer } => {
                let _ = answer.send(self.parts.shard.clients(&query));
            }
            Ask::Stats { answer } => {
                let _ = answer.send(self.parts.shard.stats().clone());
            }
            Ask::Kick { client_id, answer } => {
                let before = self.parts.out.closes.len();
                self.input(Input::Kick { client_id: &client_id });
                let _ = answer.send(self.parts.out.closes.len() > before);
            }
            Ask::Publish(values) => {
                for (topic, payload) in &values {
                    self.input(Input::Publish(broker::Announce {
                        topic,
                        payload: payload.as_bytes(),
                        retain: true,
                    }));
                }
            }
            Ask::Snapshot { answer } => {
                self.input(Input::Snapshot);
                let turn = self.parts.out.turn.number();
                if self.parts.out.turn.is_empty() {
                    let _ = answer.send(self.snapshot_at(self.parts.log.appended_to()));
                } else {
                    self.snapshots.push((turn, answer));
                }
            }
            Ask::Drain { answer } => {
                self.input(Input::Drain);
                self.draining.push((self.now.mono_ms + LINGER_MS, answer));
            }
            Ask::Stop => self.stopped = true,
        }
    }

    fn snapshot_at(&self, lsn: Lsn) -> Snapshot {
        let shard = &self.parts.shard;
        Snapshot { shards_at: shard.shards_at(), table_pin: shard.table_pin(), lsn }
    }

    fn answer_snapshots(&mut self, turn: u64, lsn: Lsn) {
        while let Some(at) = self.snapshots.iter().position(|&(of, _)| of <= turn) {
            let (_, answer) = self.snapshots.swap_remove(at);
            let _ = answer.send(self.snapshot_at(lsn));
        }
    }

    fn answer_drain(&mut self) {
        let over = self.sockets.is_empty() && self.parts.turns.is_idle();
        let now_ms = self.now.mono_ms;
        while let Some(&(until, _)) = self.draining.first()
            && (over || until <= now_ms)
        {
            let (_, answer) = self.draining.remove(0);
            let _ = answer.send(());
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let Arrival { stream, peer, bytes, assigned_client_id } = arrival;
        let max = self.parts.packet_size_max;
        let Ok(Some((connect, used))) = mqtt::decode_connect(&bytes, max) else {
            error!(%peer, "a CONNECT that reception took cannot be read");
            return;
        };
        let mut stream = TcpStream::from_std(stream);
        let conn = self.sockets.reserve();
        let token = Token(conn.slot());
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(failure) = self.parts.poll.registry().register(&mut stream, token, both) {
            error!(%peer, error = %failure, "cannot watch a connection");
            self.sockets.release(conn);
            return;
        }
        let socket = self.sockets.fill(conn, stream, connect.version);
        socket.heard_s = (self.now.mono_ms / 1000) as u32;
        socket.keep(&bytes[used..]);
        if used < bytes.len() {
            socket.queued = true;
            self.ready.push_back(conn);
        }
        self.counters().connections_total.add_own(1);
        self.counters().connections.set(self.sockets.len() as u64);
        self.counters().packets_in.add_own(1);
        self.counters().bytes_in.add_own(bytes.len() as u64);
        self.input(Input::Open {
            conn,
            connect: &connect,
            assigned_client_id: assigned_client_id.as_deref(),
            peer: broker::Peer { address: Some(peer) },
        });
    }

    fn on_event(&mut self, event: &Event) {
        let Some((conn, socket)) = self.sockets.at_mut(event.token().0) else { return };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            socket.readable = true;
            if !socket.queued {
                socket.queued = true;
                self.ready.push_back(conn);
            }
        }
        if event.is_writable() && socket.blocked {
            socket.blocked = false;
            self.dirty.push(conn);
        }
    }

    fn serve_ready(&mut self) {
        for _ in 0..self.ready.len() {
            if !self.parts.turns.has_credit() {
                if !self.starved {
                    self.starved = true;
                    self.counters().credit_waits.add_own(1);
                }
                return;
            }
            let Some(conn) = self.ready.pop_front() else { return };
            self.serve(conn);
            self.cut_turn_if_large();
        }
        self.starved = false;
    }

    /// Handles what a connection sent, at most its share of a turn.
    fn serve(&mut self, conn: ConnId) {
        let paused = self.parts.out.pending_bytes(conn) > OUTPUT_PAUSE_BYTES;
        let Some(socket) = self.sockets.get_mut(conn) else { return };
        socket.queued = false;
        if socket.closing {
            if discard(socket, &mut self.scratch) {
                self.remove(conn);
            }
            return;
        }
        if paused {
            // `send_dirty` queues it again once enough is sent.
            return;
        }
        let mut budget = PACKETS_A_TURN;
        let mut outcome = Outcome::NeedMore;
        if !socket.unread().is_empty() {
            outcome = self.handle_unread(conn, &mut budget);
        }
        if outcome == Outcome::NeedMore {
            outcome = self.read_and_handle(conn, &mut budget);
        }
        let packets = u64::from(PACKETS_A_TURN - budget);
        self.counters().packets_in.add_own(packets);
        match outcome {
            Outcome::Closed => self.start_closing(),
            Outcome::NeedMore => self.after_reading(conn, false),
            Outcome::BudgetSpent => self.after_reading(conn, true),
        }
        if !self.parts.out.closes.is_empty() {
            self.start_closing();
        }
    }

    /// Handles whole packets that were read in an earlier turn.
    fn handle_unread(&mut self, conn: ConnId, budget: &mut u32) -> Outcome {
        let Some(socket) = self.sockets.get_mut(conn) else { return Outcome::Closed };
        let version = socket.version;
        let mut handler = Handler {
            shard: &mut self.parts.shard,
            out: &mut self.parts.out,
            now: self.now,
            max: self.parts.packet_size_max,
        };
        let (used, outcome) = handler.packets(conn, version, socket.unread(), budget);
        socket.consume(used);
        outcome
    }

    /// Reads once and handles what came together with what was incomplete.
    fn read_and_handle(&mut self, conn: ConnId, budget: &mut u32) -> Outcome {
        let Some(socket) = self.sockets.get_mut(conn) else { return Outcome::Closed };
        if !socket.readable || socket.ended {
            return Outcome::NeedMore;
        }
        let have = socket.unread().len();
        let joined = have <= JOIN_BYTES;
        let (came, end) = if joined {
            self.scratch[..have].copy_from_slice(socket.unread());
            socket.read(&mut self.scratch[have..])
        } else {
            socket.read_more(&mut self.scratch)
        };
        match end {
            ReadEnd::More => {}
            ReadEnd::Empty => socket.readable = false,
            ReadEnd::Closed | ReadEnd::Broken => socket.ended = true,
        }
        let worker = self.parts.counters.worker(usize::from(self.parts.index));
        worker.reads.add_own(1);
        worker.bytes_in.add_own(came as u64);
        if came == 0 {
            return Outcome::NeedMore;
        }
        socket.heard_s = (self.now.mono_ms / 1000) as u32;
        if !joined {
            return self.handle_unread(conn, budget);
        }
        let version = socket.version;
        let mut handler = Handler {
            shard: &mut self.parts.shard,
            out: &mut self.parts.out,
            now: self.now,
            max: self.parts.packet_size_max,
        };
        let bytes = &self.scratch[..have + came];
        let (used, outcome) = handler.packets(conn, version, bytes, budget);
        if used < bytes.len() || have > 0 {
            socket.keep(&bytes[used..]);
        }
        outcome
    }

    fn after_reading(&mut self, conn: ConnId, more_to_handle: bool) {
        let Some(socket) = self.sockets.get_mut(conn) else { return };
        if more_to_handle || (socket.readable && !socket.ended) {
            socket.queued = true;
            self.ready.push_back(conn);
        } else if socket.ended {
            self.lose(conn, CloseCause::PeerClosed);
        }
    }

    /// The connection is gone: the shard learns why, and the socket goes at once.
    fn lose(&mut self, conn: ConnId, why: CloseCause) {
        debug!(worker = self.parts.index, conn = conn.0, ?why, "connection lost");
        self.input(Input::Closed { conn, why });
        self.remove(conn);
    }

    fn check_keep_alives(&mut self) {
        let now_s = (self.now.mono_ms / 1000) as u32;
        let starved = self.starved;
        let late: Vec<ConnId> = self
            .sockets
            .iter_mut()
            .filter_map(|(conn, socket)| {
                if socket.keep_alive_s == 0 || socket.closing {
                    return None;
                }
                if starved && socket.queued {
                    // It may have spoken: we have not listened.
                    socket.heard_s = now_s;
                    return None;
                }
                let silent_s = u64::from(now_s.saturating_sub(socket.heard_s));
                // Whole seconds on both sides: one more, so that nobody is closed early.
                (2 * silent_s > 3 * u64::from(socket.keep_alive_s) + 2).then_some(conn)
            })
            .collect();
        for conn in late {
            self.counters().keep_alive_timeouts.add_own(1);
            self.input(Input::Closed { conn, why: CloseCause::KeepAliveTimeout });
            if !self.parts.out.closes.contains(&conn) {
                self.parts.out.closes.push(conn);
            }
        }
        self.start_closing();
        self.keep_alive_check_ms = self.now.mono_ms + KEEP_ALIVE_CHECK_MS;
    }

    fn cut_turn_if_large(&mut self) {
        if self.parts.out.turn.size_bytes() >= broker::limits::TURN_BYTES_MAX {
            self.send_turn();
        }
    }

    fn send_turn(&mut self) {
        let turn = self.parts.out.turn.number();
        let Some((entry, messages)) = self.parts.out.turn.finish() else { return };
        let bytes = messages.size_bytes()
            + entry.appends.iter().map(|append| append.batch.len()).sum::<usize>();
        self.counters().appends.add_own(1);
        self.counters().append_bytes.add_own(bytes as u64);
        self.parts.turns.send(TurnOrder { turn, entry, messages, bytes, partitions: Vec::new() });
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
    }

    /// Posts and reads that the shard asked for. What is in memory is answered at once, and the
    /// answer may ask again; each answer makes progress, so this ends.
    fn serve_requests(&mut self) {
        while !out_is_quiet(&self.parts.out) {
            let posts = std::mem::take(&mut self.parts.out.posts);
            self.deliver_posts(posts);
            for request in std::mem::take(&mut self.parts.out.reads) {
                match self.parts.readers.read_tail(&request.positions) {
                    Some(messages) => {
                        self.input(Input::Read { token: request.token, messages });
                    }
                    None => {
                        self.counters().pool_reads.add_own(1);
                        self.parts.readers.send(self.parts.index, Wanted::Messages(request));
                    }
                }
                self.cut_turn_if_large();
            }
            for request in std::mem::take(&mut self.parts.out.retained) {
                match self.parts.readers.find_in_memory(&request) {
                    Some((page, messages)) => {
                        self.input(Input::RetainedFound { token: request.token, page, messages });
                    }
                    None => self.parts.readers.send(self.parts.index, Wanted::Retained(request)),
                }
                self.cut_turn_if_large();
            }
        }
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

    /// Marks what the shard has closed: nothing is read from it, what waits is still sent.
    fn start_closing(&mut self) {
        for conn in std::mem::take(&mut self.parts.out.closes) {
            let Some(socket) = self.sockets.get_mut(conn) else { continue };
            if !socket.closing {
                socket.closing = true;
                socket.keep(&[]);
                self.dirty.push(conn);
                self.lingering.push_back((conn, self.now.mono_ms + LINGER_MS));
            }
        }
    }

    fn send_dirty(&mut self) {
        self.parts.out.take_dirty(&mut self.dirty);
        let mut dirty = std::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            self.send_one(conn);
        }
        self.dirty = dirty;
    }

    fn send_one(&mut self, conn: ConnId) {
        let out = &mut self.parts.out;
        let Some(socket) = self.sockets.get_mut(conn) else {
            out.forget(conn);
            return;
        };
        let before = out.pending_bytes(conn);
        if before > 0 && !socket.blocked {
            let counters = self.parts.counters.worker(usize::from(self.parts.index));
            counters.writes.add_own(1);
            match socket::send(&mut socket.stream, out.unsent(conn)) {
                Ok(sent) => {
                    counters.bytes_out.add_own(sent as u64);
                    out.sent(conn, sent);
                    socket.blocked = sent < before;
                }
                Err(()) => {
                    out.forget(conn);
                    if socket.closing {
                        self.remove(conn);
                    } else {
                        self.lose(conn, CloseCause::Error);
                    }
                    return;
                }
            }
        }
        let after = out.pending_bytes(conn);
        if socket.closing {
            if after == 0 {
                self.say_goodbye(conn);
            }
            return;
        }
        if before >= self.parts.output_high_bytes {
            socket.over = true;
        }
        if after > self.parts.output_high_bytes + OUTPUT_EXCESS_BYTES {
            self.counters().slow_closes.add_own(1);
            self.lose(conn, CloseCause::TooSlow);
            return;
        }
        if socket.over && after <= self.parts.output_low_bytes {
            socket.over = false;
            self.drained.push(conn);
        }
        let has_work = socket.readable || socket.ended || !socket.unread().is_empty();
        if after <= OUTPUT_PAUSE_BYTES && has_work && !socket.queued {
            socket.queued = true;
            self.ready.push_back(conn);
        }
    }

    /// All is sent. The write side is shut and the peer's last bytes are read away until it closes
    /// too: closing over unread bytes would reset the connection and could lose our last packet.
    fn say_goodbye(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(conn) else { return };
        let _ = socket.stream.shutdown(std::net::Shutdown::Write);
        if socket.ended || discard(socket, &mut self.scratch) {
            self.remove(conn);
        }
    }

    fn end_lingering(&mut self) {
        while let Some(&(conn, until)) = self.lingering.front() {
            if until > self.now.mono_ms && self.sockets.get_mut(conn).is_some() {
                break;
            }
            self.lingering.pop_front();
            self.remove(conn);
        }
    }

    fn remove(&mut self, conn: ConnId) {
        let Some(mut socket) = self.sockets.remove(conn) else { return };
        self.parts.out.forget(conn);
        if let Err(failure) = self.parts.poll.registry().deregister(&mut socket.stream) {
            debug!(error = %failure, "a closed connection was not watched");
        }
        self.counters().connections.set(self.sockets.len() as u64);
    }
}

fn out_is_quiet(out: &Outbox) -> bool {
    out.posts.is_empty() && out.reads.is_empty() && out.retained.is_empty()
}

/// Reads and forgets; true when the peer has closed.
fn discard(socket: &mut Socket, scratch: &mut [u8]) -> bool {
    match socket.read(scratch).1 {
        ReadEnd::Empty | ReadEnd::More => false,
        ReadEnd::Closed | ReadEnd::Broken => true,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All whole packets are handled.
    NeedMore,
    /// There may be more whole packets; others are first.
    BudgetSpent,
    /// The shard has closed the connection.
    Closed,
}

/// What handling packets needs of a worker while a socket's bytes are borrowed.
struct Handler<'a> {
    shard: &'a mut Shard,
    out: &'a mut Outbox,
    now: Now,
    max: u32,
}

impl Handler<'_> {
    fn packets(
        &mut self,
        conn: ConnId,
        version: mqtt::Version,
        bytes: &[u8],
        budget: &mut u32,
    ) -> (usize, Outcome) {
        let closes = self.out.closes.len();
        let mut used = 0;
        while used < bytes.len() {
            if *budget == 0 {
                return (used, Outcome::BudgetSpent);
            }
            match mqtt::decode(&bytes[used..], version, self.max) {
                Ok(Some((packet, len))) => {
                    used += len;
                    *budget -= 1;
                    let input = Input::Packet { conn, packet: &packet };
                    self.shard.handle(input, self.now, self.out);
                }
                Ok(None) => break,
                Err(error) => {
                    let input = Input::Malformed { conn, error };
                    self.shard.handle(input, self.now, self.out);
                    return (bytes.len(), Outcome::Closed);
                }
            }
            if self.out.closes[closes..].contains(&conn) {
                return (bytes.len(), Outcome::Closed);
            }
        }
        (used, Outcome::NeedMore)
    }
}
