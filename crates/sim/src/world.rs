//! One node without sockets, threads or clocks: the real shards and the real log on a disk in
//! memory. Whoever drives it decides when the network delivers, when the log writes and flushes,
//! and when everything crashes. It must not know what is right; that is the oracle's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use broker::{
    BrokerSettings, CloseCause, Commit, ConnId, HookSettings, HookTable, Input, Interest, Markers,
    Now, Outbox, OwnedMessage, Peer, Places, Position, REFUSED, ReadRequest, RetainedIndex,
    RetainedRequest, Shard, ShardMessage, Turn, decode_record, home_of, worker_of,
};
use commitlog::disk::MemoryDisk;
use commitlog::{
    Ack, BatchHead, Entry, Log, LogConfig, LogReader, Lsn, PartitionId, RecordView, Storage,
    StreamSettings,
};
use mqtt::{DecodeError, Packet, ReasonCode, Version};

const NODE: &str = "sluice@127.0.0.1";
const SESSIONS: &str = "__sluice.sessions";
const RETAINED: &str = "__sluice.retained";
const SYS: &str = "__sluice.sys";

/// A client's end of a connection.
pub type Client = u64;

/// How a world is set up.
#[derive(Clone)]
pub struct WorldSettings {
    /// Workers, each with its shard.
    pub workers: u16,
    /// What the shards are told.
    pub broker: BrokerSettings,
    /// Hooks; their streams are made with four partitions and `flush`.
    pub hooks: Vec<HookSettings>,
    /// How the log is kept.
    pub log: LogConfig,
    /// Size of a segment of each stream.
    pub segment_bytes: u64,
    /// Bytes on their way to a client that has not taken them; the rest waits at the broker.
    pub wire_bytes_max: usize,
}

impl Default for WorldSettings {
    fn default() -> Self {
        Self {
            workers: 1,
            broker: BrokerSettings::default(),
            hooks: Vec::new(),
            log: LogConfig {
                journal_part_bytes: 256 << 10,
                journal_bytes_max: 8 << 20,
                reserve_bytes: 0,
                ..LogConfig::default()
            },
            segment_bytes: 64 << 10,
            wire_bytes_max: usize::MAX,
        }
    }
}

/// One node, its disk, and the clients' ends of its connections.
pub struct World {
    settings: WorldSettings,
    disk: MemoryDisk,
    now: Now,
    node: Option<Node>,
    wires: BTreeMap<Client, Wire>,
    next_client: Client,
    assigned: u64,
}

/// The broker's side of one connection.
struct Wire {
    conn: ConnId,
    worker: Option<u16>,
    version: Version,
    keep_alive_ms: u64,
    heard_ms: u64,
    /// What the client sent and no packet was made of yet.
    inward: Vec<u8>,
    /// What the client has received and nobody has taken yet.
    outward: Vec<u8>,
    /// More than the high mark waited at the broker; the shard wants to hear when it is less.
    over: bool,
    /// The broker has closed it.
    closed: bool,
}

struct Node {
    log: Log,
    reader: LogReader,
    hooks: Arc<HookTable>,
    retained: RetainedIndex,
    workers: Vec<Worker>,
    /// Turns on their way to the log: worker, number, entry, messages.
    turns: VecDeque<(u16, u64, Entry, broker::Messages)>,
}

struct Worker {
    shard: Shard,
    out: Outbox,
    /// What other parts of the node have for this shard, in order.
    mail: VecDeque<Mail>,
    by_conn: HashMap<u64, Client>,
}

enum Mail {
    Committed(Arc<Commit>),
    Refused(u64, broker::Refusal),
    Flushed(Lsn),
    Read(ReadRequest),
    Retained(RetainedRequest),
    Post(ShardMessage),
}

impl World {
    /// A node on an empty disk.
    pub fn new(settings: WorldSettings) -> Self {
        let mut world = Self {
            settings,
            disk: MemoryDisk::new(),
            now: Now {
                wall_ms: 1_574_753_026_269,
                mono_ms: 1_000,
            },
            node: None,
            wires: BTreeMap::new(),
            next_client: 1,
            assigned: 0,
        };
        world.start();
        world
    }

    /// The clocks.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The node's log, to be read.
    pub fn reader(&self) -> &LogReader {
        &self.running().reader
    }

    /// All messages of a stream, partition by partition.
    pub fn stream(&self, name: &str) -> Vec<OwnedMessage> {
        let node = self.running();
        let stream = node.reader.stream(name).expect("the stream was made");
        let mut messages = Vec::new();
        for partition in stream.partitions {
            let kind = node.hooks.kind(partition).expect("messages are kept there");
            records(&node.reader, partition, |record| {
                messages.push(decode_record(kind, record).expect("a message decodes"));
            });
        }
        messages
    }

    /// The values of all records of a stream, partition by partition.
    pub fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let node = self.running();
        let stream = node.reader.stream(name).expect("the stream was made");
        let mut values = Vec::new();
        for partition in stream.partitions {
            records(&node.reader, partition, |record| {
                values.extend(record.value.map(<[u8]>::to_vec));
            });
        }
        values
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        self.node.is_some()
    }

    /// Whether a write or flush has failed, so that only a restart helps.
    pub fn is_latched(&self) -> bool {
        self.running().log.latched().is_some()
    }

    /// The node itself publishes a figure, retained.
    pub fn announce(&mut self, topic: &str, payload: &[u8]) {
        let announce = broker::Announce {
            topic,
            payload,
            retain: true,
        };
        self.handle(0, Input::Publish(announce));
    }

    /// The disk, to break it.
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    /// A new connection, on which nothing was said yet.
    pub fn connect(&mut self) -> Client {
        let client = self.next_client;
        self.next_client += 1;
        let wire = Wire {
            conn: ConnId(client),
            worker: None,
            version: Version::V311,
            keep_alive_ms: 0,
            heard_ms: self.now.mono_ms,
            inward: Vec::new(),
            outward: Vec::new(),
            over: false,
            closed: false,
        };
        self.wires.insert(client, wire);
        client
    }

    /// The broker receives these bytes from the client.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&client) else {
            return;
        };
        if wire.closed {
            return;
        }
        wire.heard_ms = self.now.mono_ms;
        wire.inward.extend_from_slice(bytes);
        self.take_in(client);
    }

    /// What the client has received since the last call.
    pub fn take_received(&mut self, client: Client) -> Vec<u8> {
        let Some(wire) = self.wires.get_mut(&client) else {
            return Vec::new();
        };
        let bytes = std::mem::take(&mut wire.outward);
        let (worker, conn) = (wire.worker, wire.conn);
        if let (Some(worker), Some(_), false) = (worker, &self.node, wire.closed) {
            self.transmit(worker, conn);
            self.tell_drained(worker);
        }
        bytes
    }

    /// Whether the broker has closed the connection.
    pub fn is_closed(&self, client: Client) -> bool {
        self.wires.get(&client).is_none_or(|wire| wire.closed)
    }

    /// The client's network breaks: the broker sees the end of the stream.
    pub fn cut(&mut self, client: Client) {
        let Some(wire) = self.wires.remove(&client) else {
            return;
        };
        if let (Some(worker), false) = (wire.worker, wire.closed) {
            let input = Input::Closed {
                conn: wire.conn,
                why: CloseCause::PeerClosed,
            };
            self.handle(worker, input);
            self.running_mut().workers[usize::from(worker)]
                .by_conn
                .remove(&wire.conn.0);
        }
    }

    /// Time passes; timers fire and silent clients are cut.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        loop {
            let due = self
                .running()
                .workers
                .iter()
                .filter_map(|w| w.shard.next_deadline())
                .min();
            let due = due.into_iter().chain(self.next_silence()).min();
            let at = due.map_or(end, |due| due.max(self.now.mono_ms)).min(end);
            self.now.wall_ms += at - self.now.mono_ms;
            self.now.mono_ms = at;
            if at == end && due.is_none_or(|due| due > end) {
                return;
            }
            self.tick();
            self.settle();
            if self.now.mono_ms == end {
                // Whatever is due now has been told so; a timer that is due again at once waits.
                return;
            }
        }
    }

    /// All that is under way arrives: turns are written, flushed, committed and answered.
    pub fn settle(&mut self) {
        loop {
            let mut worked = self.write_log();
            worked |= self.flush_log();
            while self.deliver_mail(None) {
                worked = true;
            }
            if !worked {
                return;
            }
        }
    }

    /// The log thread's turn: stages and writes what waits. False when nothing did.
    pub fn write_log(&mut self) -> bool {
        let now_ms = self.now.wall_ms;
        let node = self.running_mut();
        if node.turns.is_empty() {
            return false;
        }
        let mut commits = Vec::new();
        for (worker, turn, entry, messages) in std::mem::take(&mut node.turns) {
            let partitions: Vec<_> = entry
                .appends
                .iter()
                .map(|append| append.partition)
                .collect();
            match node.log.stage(entry, now_ms) {
                Ok(staged) => {
                    let batches = partitions
                        .iter()
                        .zip(&staged.base_offsets)
                        .zip(&staged.batches)
                        .map(|((&partition, base), batch)| match base {
                            Ok(base) => {
                                let head = BatchHead::read(batch).expect("the log has checked it");
                                (partition, *base, head.count())
                            }
                            Err(_) => (partition, REFUSED, 0),
                        })
                        .collect();
                    commits.push(Arc::new(Commit {
                        lsn: staged.lsn,
                        worker,
                        turn,
                        batches,
                        messages,
                    }));
                }
                Err(error) => {
                    let why = match error {
                        commitlog::Error::Full { .. } => broker::Refusal::Full,
                        _ => broker::Refusal::Latched,
                    };
                    node.workers[usize::from(worker)]
                        .mail
                        .push_back(Mail::Refused(turn, why));
                }
            }
        }
        if node.log.write().is_err() {
            for commit in commits {
                let mail = Mail::Refused(commit.turn, broker::Refusal::Latched);
                node.workers[usize::from(commit.worker)]
                    .mail
                    .push_back(mail);
            }
            return true;
        }
        for commit in commits {
            node.retained.apply(&commit);
            for worker in &mut node.workers {
                worker.mail.push_back(Mail::Committed(Arc::clone(&commit)));
            }
        }
        true
    }

    /// The flush thread's turn. False when everything was flushed.
    pub fn flush_log(&mut self) -> bool {
        let node = self.running_mut();
        if node.reader.flushed_to() == node.reader.appended_to() {
            return false;
        }
        let Some(ticket) = node.log.flush_ticket() else {
            return false;
        };
        if let Ok(flushed) = ticket.run() {
            node.log.flushed(flushed);
            let lsn = node.reader.flushed_to();
            node.workers
                .iter_mut()
                .for_each(|worker| worker.mail.push_back(Mail::Flushed(lsn)));
        }
        true
    }

    /// One piece of mail reaches the shard of `worker`, or of the first that has some. False when
    /// there was none.
    pub fn deliver_mail(&mut self, worker: Option<u16>) -> bool {
        let node = self.running_mut();
        let has_mail = |worker: &u16| !node.workers[usize::from(*worker)].mail.is_empty();
        let found = match worker {
            Some(worker) => Some(worker).filter(has_mail),
            None => (0..node.workers.len() as u16).find(has_mail),
        };
        let Some(worker) = found else { return false };
        let mail = node.workers[usize::from(worker)]
            .mail
            .pop_front()
            .expect("it has mail");
        match mail {
            Mail::Committed(commit) => self.handle(worker, Input::Committed(&commit)),
            Mail::Refused(turn, why) => self.handle(worker, Input::Refused { turn, why }),
            Mail::Flushed(lsn) => self.handle(worker, Input::Flushed(lsn)),
            Mail::Read(ReadRequest { token, positions }) => {
                let messages = self.read(&positions);
                self.handle(worker, Input::Read { token, messages });
            }
            Mail::Retained(request) => {
                let wall_ms = self.now.wall_ms;
                let page = self.running().retained.find(
                    &request.filter,
                    request.after.as_deref(),
                    request.as_of,
                    wall_ms,
                    broker::limits::RETAINED_PAGE_MAX,
                );
                let positions: Vec<Position> = page.hits.iter().map(|hit| hit.position).collect();
                let messages = self.read(&positions);
                let token = request.token;
                self.handle(
                    worker,
                    Input::RetainedFound {
                        token,
                        page,
                        messages,
                    },
                );
            }
            Mail::Post(message) => self.handle(worker, Input::Post(message)),
        }
        true
    }

    /// Workers of the node.
    pub fn workers(&self) -> u16 {
        self.settings.workers
    }

    /// The shards write what replay would have to find again, and the log makes a checkpoint.
    pub fn checkpoint(&mut self) {
        for worker in 0..self.settings.workers {
            self.handle(worker, Input::Snapshot);
        }
        self.settle();
        let node = self.running_mut();
        let at = node
            .workers
            .iter()
            .map(|worker| worker.shard.shards_at())
            .min()
            .unwrap_or(0);
        let pin = node
            .workers
            .iter()
            .map(|worker| worker.shard.table_pin())
            .min();
        let sessions = node
            .reader
            .stream(SESSIONS)
            .map(|stream| stream.partitions[0]);
        if let Some(sessions) = sessions {
            node.log.pin(sessions, 0, pin);
        }
        let Some(mut checkpoint) = node.log.checkpoint(at) else {
            return;
        };
        while !checkpoint.step().expect("the disk is whole") {}
        node.log
            .checkpointed(checkpoint)
            .expect("the disk is whole");
    }

    /// Compaction runs once, as far as there is something to do.
    pub fn compact(&mut self) {
        let now_ms = self.now.wall_ms;
        let node = self.running_mut();
        let Some(mut compaction) = node.log.compaction(now_ms) else {
            return;
        };
        while !compaction.step().expect("the disk is whole") {}
        node.log.compacted(compaction).expect("the disk is whole");
    }

    /// The process dies, but what it wrote stays. Every connection breaks.
    pub fn crash(&mut self) {
        self.node = None;
        self.wires.clear();
        self.disk.crash(false);
    }

    /// The power goes: names that were not synced are forgotten, and of the bytes that were not
    /// synced those sectors, for which `keep` says no, in no order. Every connection breaks.
    pub fn power_cut(&mut self, keep: &mut dyn FnMut() -> bool) {
        self.node = None;
        self.wires.clear();
        self.disk.crash_torn(keep);
    }

    /// The process is asked to stop, and stops. What it said to its clients can still be taken.
    pub fn stop(&mut self) {
        for worker in 0..self.settings.workers {
            self.handle(worker, Input::Drain);
        }
        self.settle();
        for worker in 0..self.settings.workers {
            self.handle(worker, Input::Snapshot);
        }
        self.settle();
        let Some(node) = self.node.take() else { return };
        let shards = node.workers.iter().map(|worker| worker.shard.shards_at());
        let at = shards.min().unwrap_or(0);
        node.log.close(at).expect("the disk is whole");
        self.wires.values_mut().for_each(|wire| wire.closed = true);
    }

    /// The next start has so many workers.
    pub fn set_workers(&mut self, workers: u16) {
        assert!(self.node.is_none(), "it runs with its workers");
        self.settings.workers = workers;
    }

    /// Time passes while nothing runs.
    pub fn sleep(&mut self, ms: u64) {
        assert!(self.node.is_none(), "a running node is advanced");
        self.now.wall_ms += ms;
        self.now.mono_ms += ms;
    }

    /// The process starts on what the disk holds.
    pub fn start(&mut self) {
        assert!(self.node.is_none(), "it runs already");
        let node = self.open();
        self.node = Some(node);
        for worker in 0..self.settings.workers {
            self.handle(worker, Input::Started);
        }
    }

    fn running(&self) -> &Node {
        self.node.as_ref().expect("the node runs")
    }

    fn running_mut(&mut self) -> &mut Node {
        self.node.as_mut().expect("the node runs")
    }

    /// Makes packets of what a client has sent.
    fn take_in(&mut self, client: Client) {
        loop {
            let Some(wire) = self.wires.get_mut(&client) else {
                return;
            };
            if wire.closed || wire.inward.is_empty() {
                return;
            }
            let (conn, version) = (wire.conn, wire.version);
            let packet_size_max = self.settings.broker.packet_size_max;
            let bytes = std::mem::take(&mut wire.inward);
            let used = match wire.worker {
                None => self.introduce(client, &bytes),
                Some(worker) => match mqtt::decode(&bytes, version, packet_size_max) {
                    Ok(Some((packet, used))) => {
                        self.handle(
                            worker,
                            Input::Packet {
                                conn,
                                packet: &packet,
                            },
                        );
                        used
                    }
                    Ok(None) => 0,
                    Err(error) => {
                        self.handle(worker, Input::Malformed { conn, error });
                        bytes.len()
                    }
                },
            };
            if let Some(wire) = self.wires.get_mut(&client) {
                wire.inward = bytes[used..].to_vec();
            }
            if used == 0 {
                return;
            }
        }
    }

    /// The reception's part: CONNECT, and who is to have the connection.
    fn introduce(&mut self, client: Client, bytes: &[u8]) -> usize {
        let (connect, used) =
            match mqtt::decode_connect(bytes, self.settings.broker.packet_size_max) {
                Ok(Some(found)) => found,
                Ok(None) => return 0,
                Err(error) => {
                    self.turn_away(client, error);
                    return bytes.len();
                }
            };
        let assigned = connect.client_id.is_empty().then(|| {
            self.assigned += 1;
            format!("assigned-{}", self.assigned)
        });
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let worker = worker_of(home_of(client_id), self.settings.workers);
        let conn = ConnId(client);
        if let Some(wire) = self.wires.get_mut(&client) {
            wire.worker = Some(worker);
            wire.version = connect.version;
        }
        self.running_mut().workers[usize::from(worker)]
            .by_conn
            .insert(conn.0, client);
        let assigned_client_id = assigned.as_deref();
        let peer = Peer::default();
        self.handle(
            worker,
            Input::Open {
                conn,
                connect: &connect,
                assigned_client_id,
                peer,
            },
        );
        used
    }

    fn turn_away(&mut self, client: Client, error: DecodeError) {
        let Some(wire) = self.wires.get_mut(&client) else {
            return;
        };
        wire.closed = true;
        error.write_connack(&mut wire.outward);
    }

    fn handle(&mut self, worker: u16, input: Input<'_>) {
        let now = self.now;
        let node = self.node.as_mut().expect("the node runs");
        let Worker { shard, out, .. } = &mut node.workers[usize::from(worker)];
        shard.handle(input, now, out);
        self.empty(worker);
    }

    /// Does what the shard wants done.
    fn empty(&mut self, worker: u16) {
        let workers = self.settings.workers;
        let node = self.node.as_mut().expect("the node runs");
        let place = &mut node.workers[usize::from(worker)];
        let out = &mut place.out;
        let turn = out.turn.number();
        if let Some((entry, messages)) = out.turn.finish() {
            node.turns.push_back((worker, turn, entry, messages));
        }
        place.mail.extend(out.reads.drain(..).map(Mail::Read));
        place
            .mail
            .extend(out.retained.drain(..).map(Mail::Retained));
        for accepted in out.accepted.drain(..) {
            if let Some(wire) = place
                .by_conn
                .get(&accepted.conn.0)
                .and_then(|c| self.wires.get_mut(c))
            {
                wire.keep_alive_ms = 1_000 * u64::from(accepted.keep_alive_s);
            }
        }
        for conn in std::mem::take(&mut out.closes) {
            let last = out.unsent(conn).to_vec();
            out.forget(conn);
            if let Some(wire) = place
                .by_conn
                .remove(&conn.0)
                .and_then(|c| self.wires.get_mut(&c))
            {
                wire.outward.extend(last);
                wire.closed = true;
            }
        }
        let mut dirty = Vec::new();
        out.take_dirty(&mut dirty);
        let posts = std::mem::take(&mut out.posts);
        for (home, message) in posts {
            let to = usize::from(worker_of(home, workers));
            node.workers[to].mail.push_back(Mail::Post(message));
        }
        for conn in dirty {
            self.transmit(worker, conn);
        }
        self.tell_drained(worker);
    }

    /// Moves what waits for a connection to its wire, as far as that has room.
    fn transmit(&mut self, worker: u16, conn: ConnId) {
        let wire_bytes_max = self.settings.wire_bytes_max;
        let high = self.settings.broker.send_buffer_bytes_max as usize;
        let place = &mut self.node.as_mut().expect("the node runs").workers[usize::from(worker)];
        let Some(wire) = place
            .by_conn
            .get(&conn.0)
            .and_then(|c| self.wires.get_mut(c))
        else {
            place.out.forget(conn);
            return;
        };
        let waiting = place.out.unsent(conn);
        wire.over |= waiting.len() >= high;
        let room = wire_bytes_max.saturating_sub(wire.outward.len());
        let sent = waiting.len().min(room);
        wire.outward.extend_from_slice(&waiting[..sent]);
        place.out.sent(conn, sent);
    }

    /// Tells the shard of connections of which little enough waits again.
    fn tell_drained(&mut self, worker: u16) {
        let low = self.settings.broker.output_low_bytes();
        let place = &self.running().workers[usize::from(worker)];
        let drained = self.wires.values().find(|wire| {
            wire.over
                && !wire.closed
                && wire.worker == Some(worker)
                && place.out.pending_bytes(wire.conn) <= low
        });
        let Some(conn) = drained.map(|wire| wire.conn) else {
            return;
        };
        if let Some(wire) = self.wires.get_mut(&conn.0) {
            wire.over = false;
        }
        // What follows is emptied, and looked at, in turn.
        self.handle(worker, Input::Drained { conn });
    }

    fn tick(&mut self) {
        for worker in 0..self.settings.workers {
            self.handle(worker, Input::Tick);
        }
        let now_ms = self.now.mono_ms;
        let silent: Vec<(u16, ConnId)> = self
            .wires
            .values()
            .filter(|wire| wire.silent_at().is_some_and(|at| at <= now_ms))
            .filter_map(|wire| Some((wire.worker?, wire.conn)))
            .collect();
        for (worker, conn) in silent {
            self.handle(
                worker,
                Input::Closed {
                    conn,
                    why: CloseCause::KeepAliveTimeout,
                },
            );
        }
    }

    fn next_silence(&self) -> Option<u64> {
        self.wires.values().filter_map(Wire::silent_at).min()
    }

    fn read(&self, positions: &[Position]) -> Vec<Option<OwnedMessage>> {
        let node = self.running();
        let read = |position: &Position| {
            let kind = node.hooks.kind(position.partition)?;
            let batches = node
                .reader
                .read(position.partition, position.offset, 1, u64::MAX)
                .ok()?;
            let batch = commitlog::batch::batches(batches.first()?).next()?.ok()?;
            let record = batch
                .records()
                .filter_map(Result::ok)
                .find(|r| r.offset == position.offset)?;
            decode_record(kind, &record).ok()
        };
        positions.iter().map(read).collect()
    }

    fn open(&self) -> Node {
        let now_ms = self.now.wall_ms;
        let disk = Arc::new(self.disk.clone());
        let mut log = Log::open(disk, self.settings.log.clone(), now_ms)
            .expect("the log opens after a crash");
        for (number, stream) in self.streams().into_iter().enumerate() {
            let topic_id = [number as u8 + 1; 16];
            log.ensure_stream(StreamSettings { topic_id, ..stream }, now_ms)
                .expect("a stream can be made");
        }
        let reader = log.reader();
        let hooks = HookTable::compile(NODE, &self.settings.hooks, &reader.streams())
            .expect("the hooks are valid");
        let hooks = Arc::new(hooks);
        let sessions = reader.stream(SESSIONS).expect("it was made").partitions[0];
        let mut retained = RetainedIndex::new(1_000_000);
        let table = hooks.retained_partition();
        scan(&reader, table, |offset, key, value| {
            let position = Position {
                partition: table,
                offset,
            };
            retained
                .restore(key, value, position, 0)
                .expect("the table is readable");
        });
        let shards = self.shards(&mut log, &reader, &hooks, Places { sessions });
        let workers = shards.into_iter().map(|shard| Worker {
            shard,
            out: Outbox::new(Turn::new(Arc::clone(&hooks))),
            mail: VecDeque::new(),
            by_conn: HashMap::new(),
        });
        let workers = workers.collect();
        Node {
            log,
            reader,
            hooks,
            retained,
            workers,
            turns: VecDeque::new(),
        }
    }

    fn shards(
        &self,
        log: &mut Log,
        reader: &LogReader,
        hooks: &Arc<HookTable>,
        places: Places,
    ) -> Vec<Shard> {
        let broker = Arc::new(self.settings.broker.clone());
        let interest = Arc::new(Interest::new());
        let count = self.settings.workers;
        let make = |worker| {
            let (broker, hooks) = (Arc::clone(&broker), Arc::clone(hooks));
            Shard::new(broker, worker, count, hooks, Arc::clone(&interest), places)
        };
        let mut shards: Vec<Shard> = (0..count).map(make).collect();
        let mut markers = Markers::default();
        scan(reader, places.sessions, |offset, key, value| {
            markers.note(offset, key, value);
        });
        scan(reader, places.sessions, |offset, key, value| {
            for shard in &mut shards {
                shard.feed(&markers, offset, key, value);
            }
        });
        for entry in log
            .replay(markers.oldest() + 1)
            .expect("the journal can be replayed")
        {
            let entry = entry.expect("the journal can be replayed");
            for shard in &mut shards {
                shard.replay(entry.lsn, &entry.batches);
            }
        }
        shards
    }

    fn streams(&self) -> Vec<StreamSettings> {
        let segment_bytes = self.settings.segment_bytes;
        let table = |name| StreamSettings {
            segment_bytes,
            ack: Ack::Append,
            compact: true,
            internal: true,
            ..StreamSettings::new(name)
        };
        let memory = |name| StreamSettings {
            ack: Ack::Memory,
            storage: Storage::Memory,
            ..StreamSettings::new(name)
        };
        let plain = |name: &str, ack| StreamSettings {
            segment_bytes,
            ack,
            partitions: 4,
            ..StreamSettings::new(name)
        };
        let mut streams = vec![
            plain("mqtt.default", Ack::Append),
            memory("mqtt.default.qos0"),
            table(SESSIONS),
            table(RETAINED),
            memory(SYS),
        ];
        streams.extend(
            self.settings
                .hooks
                .iter()
                .map(|hook| plain(&hook.stream, Ack::Flush)),
        );
        streams
    }
}

impl Wire {
    /// When its silence has lasted one and a half keep alive intervals [MQTT-3.1.2-22].
    fn silent_at(&self) -> Option<u64> {
        let counts = self.keep_alive_ms > 0 && !self.closed;
        counts.then(|| self.heard_ms + self.keep_alive_ms * 3 / 2)
    }
}

/// Visits the records of a partition that have a key.
fn scan(
    reader: &LogReader,
    partition: PartitionId,
    mut visit: impl FnMut(u64, &[u8], Option<&[u8]>),
) {
    records(reader, partition, |record| {
        if let Some(key) = record.key {
            visit(record.offset, key, record.value);
        }
    });
}

/// Visits all records of a partition.
fn records(reader: &LogReader, partition: PartitionId, mut visit: impl FnMut(&RecordView<'_>)) {
    let Some(marks) = reader.watermarks(partition) else {
        return;
    };
    let mut offset = marks.log_start;
    while offset < marks.appended {
        let batches = reader
            .read(partition, offset, 1 << 20, u64::MAX)
            .expect("a partition can be read");
        let before = offset;
        for batch in batches
            .iter()
            .flat_map(|bytes| commitlog::batch::batches(bytes))
        {
            let batch = batch.expect("a partition holds whole batches");
            for record in batch.records() {
                visit(&record.expect("a batch holds whole records"));
            }
            offset = batch.last_offset() + 1;
        }
        if offset == before {
            return;
        }
    }
}

/// Why a client was refused, for tests that look at it.
pub fn refusal(bytes: &[u8], version: Version) -> Option<ReasonCode> {
    match mqtt::decode(bytes, version, mqtt::limits::PACKET_SIZE_MAX).ok()?? {
        (Packet::Connack(connack), _) => Some(connack.reason),
        _ => None,
    }
}
