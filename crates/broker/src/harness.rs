//! A host for shards in tests: a log in memory that gives numbers and publishes commits when it is
//! told to, connections that remember what they were sent, and a restart by replay.

use crate::decode_record;
use crate::hooks::{
    DEFAULT_QOS0_STREAM, DEFAULT_STREAM, Event, HookSettings, HookTable, KeyTemplate,
    PayloadEncoding, RETAINED_STREAM, SYS_STREAM,
};
use crate::input::{CloseCause, ConnId, Input, Now, Peer, Refusal};
use crate::interest::Interest;
use crate::message::{Commit, OwnedMessage, Position, REFUSED};
use crate::outbox::Outbox;
use crate::restore::Markers;
use crate::retained::RetainedIndex;
use crate::settings::BrokerSettings;
use crate::shard::{Places, Shard, home_of, worker_of};
use crate::turn::Turn;
use bytes::Bytes;
use commitlog::batch::{batches, set_base_offset};
use commitlog::{Ack as Level, Lsn, PartitionId, Storage, StreamMeta, StreamSettings};
use mqtt::{
    Ack, Connect, ConnectProperties, Disconnect, Filters, Packet, Publish, PublishProperties, QoS,
    ReasonCode, Subscribe, SubscribeOptions, TopicFilters, Unsubscribe, UserProperties, Version,
    Will,
};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

/// The only partition of the session table.
pub(crate) const SESSIONS: PartitionId = 1;
const START_MS: u64 = 1_000_000;

/// One entry of the journal.
#[derive(Debug, Clone)]
struct Logged {
    lsn: Lsn,
    batches: Vec<(PartitionId, u64, Bytes)>,
}

/// A client of the test.
#[derive(Debug)]
struct Client {
    version: Version,
    worker: usize,
    got: Vec<u8>,
    closed: bool,
}

/// Shards, their log and their clients.
pub(crate) struct World {
    pub settings: Arc<BrokerSettings>,
    hooks: Arc<HookTable>,
    streams: Vec<StreamMeta>,
    pub shards: Vec<Shard>,
    pub out: Vec<Outbox>,
    interest: Arc<Interest>,
    retained: RetainedIndex,
    offsets: BTreeMap<PartitionId, u64>,
    journal: Vec<Logged>,
    lsn: Lsn,
    flushed: Lsn,
    clients: BTreeMap<ConnId, Client>,
    last_conn: u64,
    pub now: Now,
    /// Commits are not published; they wait in `appends`.
    pub hold_appends: bool,
    /// Flushes are not published.
    pub hold_flushes: bool,
    /// The log refuses everything.
    pub refuse: bool,
    /// Reads are not answered; they wait in `reads`.
    pub hold_reads: bool,
    appends: VecDeque<Arc<Commit>>,
    /// Positions that retention has taken.
    pub gone: Vec<Position>,
    /// Positions that were read.
    pub reads: usize,
}

/// What a test client says in its CONNECT.
#[derive(Debug, Clone)]
pub(crate) struct Hello<'a> {
    pub version: Version,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub username: Option<&'a str>,
    pub will: Option<Will<'a>>,
    pub properties: ConnectProperties<'a>,
    pub assigned: Option<&'a str>,
}

/// MQTT 5, clean start, no expiry.
pub(crate) fn v5<'a>() -> Hello<'a> {
    Hello {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        username: None,
        will: None,
        properties: ConnectProperties::default(),
        assigned: None,
    }
}

/// MQTT 5 with a session that lives `expiry_s` longer than its connection.
pub(crate) fn lasting<'a>(expiry_s: u32) -> Hello<'a> {
    let mut hello = v5();
    hello.clean_start = false;
    hello.properties.session_expiry_s = expiry_s;
    hello
}

/// MQTT 3.1.1.
pub(crate) fn v311<'a>(clean_session: bool) -> Hello<'a> {
    Hello {
        version: Version::V311,
        clean_start: clean_session,
        ..v5()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(1, &[], BrokerSettings::default())
    }

    pub(crate) fn with_hooks(hooks: &[(Event, &str, &str)]) -> Self {
        Self::with(1, hooks, BrokerSettings::default())
    }

    pub(crate) fn with(
        workers: u16,
        hooks: &[(Event, &str, &str)],
        settings: BrokerSettings,
    ) -> Self {
        let streams = streams();
        let hooks: Vec<HookSettings> = hooks
            .iter()
            .map(|&(event, filter, stream)| HookSettings {
                event,
                filter: filter.to_owned(),
                stream: stream.to_owned(),
                key: KeyTemplate::default(),
                payload: PayloadEncoding::Plain,
            })
            .collect();
        let table = HookTable::compile("sluice@127.0.0.1", &hooks, &streams).unwrap();
        let mut world = Self {
            settings: Arc::new(settings),
            hooks: Arc::new(table),
            streams,
            shards: Vec::new(),
            out: Vec::new(),
            interest: Arc::default(),
            retained: RetainedIndex::new(1_000),
            offsets: BTreeMap::new(),
            journal: Vec::new(),
            lsn: 0,
            flushed: 0,
            clients: BTreeMap::new(),
            last_conn: 0,
            now: Now {
                wall_ms: START_MS,
                mono_ms: 0,
            },
            hold_appends: false,
            hold_flushes: false,
            refuse: false,
            hold_reads: false,
            appends: VecDeque::new(),
            gone: Vec::new(),
            reads: 0,
        };
        world.start(workers);
        world
    }

    fn start(&mut self, workers: u16) {
        self.interest = Arc::default();
        self.shards.clear();
        self.out.clear();
        for worker in 0..workers {
            self.shards.push(Shard::new(
                self.settings.clone(),
                worker,
                workers,
                self.hooks.clone(),
                self.interest.clone(),
                Places { sessions: SESSIONS },
            ));
            self.out.push(Outbox::new(Turn::new(self.hooks.clone())));
        }
    }

    /// `kill -9` and a start on `workers` workers, `down_ms` later. What was not in the log is
    /// gone; connections are gone.
    pub(crate) fn restart(&mut self, workers: u16, down_ms: u64) {
        self.now.wall_ms += down_ms;
        self.now.mono_ms = 0;
        self.clients.clear();
        self.appends.clear();
        self.flushed = self.lsn;
        self.start(workers);
        let journal = std::mem::take(&mut self.journal);
        let mut markers = Markers::default();
        let mut records = Vec::new();
        for entry in &journal {
            for (partition, _, bytes) in &entry.batches {
                if *partition == SESSIONS {
                    each_record(bytes, |offset, key, value| {
                        markers.note(offset, key, value);
                        records.push((offset, key.to_vec(), value.map(<[u8]>::to_vec)));
                    });
                }
            }
        }
        for shard in &mut self.shards {
            for (offset, key, value) in &records {
                shard.feed(&markers, *offset, key, value.as_deref());
            }
            for entry in journal.iter().filter(|entry| entry.lsn > markers.oldest()) {
                shard.replay(entry.lsn, &entry.batches);
            }
        }
        self.journal = journal;
        for worker in 0..self.shards.len() {
            self.handle(worker, Input::Started);
        }
        self.settle();
    }

    fn handle(&mut self, worker: usize, input: Input<'_>) {
        self.shards[worker].handle(input, self.now, &mut self.out[worker]);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.wall_ms += ms;
        self.now.mono_ms += ms;
        for worker in 0..self.shards.len() {
            self.handle(worker, Input::Tick);
        }
        self.settle();
    }

    /// Ends the turns and lets everything happen that follows, as far as nothing is held.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut busy = false;
            for worker in 0..self.shards.len() {
                busy |= self.end_turn(worker);
            }
            if !self.hold_appends {
                while let Some(commit) = self.appends.pop_front() {
                    busy = true;
                    for worker in 0..self.shards.len() {
                        self.handle(worker, Input::Committed(&commit));
                    }
                }
            }
            if !self.hold_flushes && !self.hold_appends && self.flushed < self.lsn {
                busy = true;
                self.flushed = self.lsn;
                for worker in 0..self.shards.len() {
                    self.handle(worker, Input::Flushed(self.flushed));
                }
            }
            for worker in 0..self.shards.len() {
                if self.shards[worker]
                    .next_deadline()
                    .is_some_and(|at| at <= self.now.mono_ms)
                {
                    busy = true;
                    self.handle(worker, Input::Tick);
                }
            }
            if !busy {
                return;
            }
        }
    }

    /// Empties a worker's outbox; answers whether there was anything.
    fn end_turn(&mut self, worker: usize) -> bool {
        let turn = self.out[worker].turn.number();
        let mut busy = false;
        if let Some((entry, messages)) = self.out[worker].turn.finish() {
            busy = true;
            if self.refuse {
                self.handle(
                    worker,
                    Input::Refused {
                        turn,
                        why: Refusal::Full,
                    },
                );
            } else {
                self.append(worker, turn, entry, messages);
            }
        }
        let mut dirty = Vec::new();
        self.out[worker].take_dirty(&mut dirty);
        for conn in dirty {
            let bytes = self.out[worker].unsent(conn).to_vec();
            if let Some(client) = self.clients.get_mut(&conn) {
                client.got.extend_from_slice(&bytes);
            }
            self.out[worker].sent(conn, bytes.len());
        }
        for conn in std::mem::take(&mut self.out[worker].closes) {
            if let Some(client) = self.clients.get_mut(&conn) {
                client.closed = true;
            }
            self.out[worker].forget(conn);
        }
        self.out[worker].accepted.clear();
        if !self.hold_reads {
            for request in std::mem::take(&mut self.out[worker].reads) {
                busy = true;
                let messages: Vec<_> = request.positions.iter().map(|&p| self.read(p)).collect();
                self.handle(
                    worker,
                    Input::Read {
                        token: request.token,
                        messages,
                    },
                );
            }
        }
        for request in std::mem::take(&mut self.out[worker].retained) {
            busy = true;
            let page = self.retained.find(
                &request.filter,
                request.after.as_deref(),
                request.as_of,
                self.now.wall_ms,
                2,
            );
            let messages = page
                .hits
                .iter()
                .map(|hit| self.read(hit.position))
                .collect();
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
        for (home, message) in std::mem::take(&mut self.out[worker].posts) {
            busy = true;
            let to = worker_of(home, self.shards.len() as u16);
            self.handle(usize::from(to), Input::Post(message));
        }
        busy
    }

    fn append(
        &mut self,
        worker: usize,
        turn: u64,
        entry: commitlog::Entry,
        messages: crate::message::Messages,
    ) {
        self.lsn += 1;
        let mut given = Vec::new();
        let mut logged = Vec::new();
        for mut append in entry.appends {
            let (batch, _) = commitlog::BatchView::parse(&append.batch).unwrap();
            let records = batch.records().count() as u32;
            let offset = self.offsets.entry(append.partition).or_default();
            let base = *offset;
            *offset += u64::from(records);
            set_base_offset(&mut append.batch, base);
            given.push((append.partition, base, records));
            logged.push((append.partition, base, Bytes::from(append.batch)));
        }
        let commit = Arc::new(Commit {
            lsn: self.lsn,
            worker: worker as u16,
            turn,
            batches: given,
            messages,
        });
        self.retained.apply(&commit);
        self.journal.push(Logged {
            lsn: self.lsn,
            batches: logged,
        });
        self.appends.push_back(commit);
    }

    fn read(&mut self, position: Position) -> Option<OwnedMessage> {
        self.reads += 1;
        if self.gone.contains(&position) {
            return None;
        }
        let kind = self.hooks.kind(position.partition).unwrap();
        let mut found = None;
        for entry in &self.journal {
            for (partition, _, bytes) in &entry.batches {
                if *partition == position.partition {
                    for batch in batches(bytes) {
                        for record in batch.unwrap().records() {
                            let record = record.unwrap();
                            if record.offset == position.offset {
                                found = Some(decode_record(kind, &record).unwrap());
                            }
                        }
                    }
                }
            }
        }
        assert!(position.offset != REFUSED);
        found
    }

    /// The values in a stream, as text, in order of partition and offset.
    pub(crate) fn values(&self, stream: &str) -> Vec<String> {
        let meta = self
            .streams
            .iter()
            .find(|meta| meta.settings.name == stream)
            .unwrap();
        let mut values = Vec::new();
        for &wanted in &meta.partitions {
            for entry in &self.journal {
                for (partition, _, bytes) in &entry.batches {
                    if *partition == wanted {
                        for batch in batches(bytes) {
                            for record in batch.unwrap().records() {
                                let value = record.unwrap().value.unwrap_or_default().to_vec();
                                values.push(String::from_utf8(value).unwrap());
                            }
                        }
                    }
                }
            }
        }
        values
    }

    /// How many records the session table has got.
    pub(crate) fn table_records(&self) -> u64 {
        self.offsets.get(&SESSIONS).copied().unwrap_or(0)
    }

    /// Connects and answers the connection; CONNACK is among what it got.
    pub(crate) fn open(&mut self, client_id: &str, hello: &Hello<'_>) -> ConnId {
        let conn = self.open_unsettled(client_id, hello);
        self.settle();
        conn
    }

    /// The same, but the turn goes on.
    pub(crate) fn open_unsettled(&mut self, client_id: &str, hello: &Hello<'_>) -> ConnId {
        let home = home_of(hello.assigned.unwrap_or(client_id));
        let worker = usize::from(worker_of(home, self.shards.len() as u16));
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let client = Client {
            version: hello.version,
            worker,
            got: Vec::new(),
            closed: false,
        };
        self.clients.insert(conn, client);
        let connect = Connect {
            version: hello.version,
            clean_start: hello.clean_start,
            keep_alive_s: hello.keep_alive_s,
            client_id,
            username: hello.username,
            password: None,
            will: hello.will.clone(),
            properties: hello.properties,
        };
        let input = Input::Open {
            conn,
            connect: &connect,
            assigned_client_id: hello.assigned,
            peer: Peer::default(),
        };
        self.handle(worker, input);
        conn
    }

    /// Connects; CONNACK is looked at and taken away.
    pub(crate) fn connect(&mut self, client_id: &str, hello: &Hello<'_>) -> ConnId {
        let conn = self.open(client_id, hello);
        let got = self.got(conn);
        assert!(got[0].starts_with("CONNACK success"), "{got:?}");
        if got.len() > 1 {
            // Deliveries right behind it are for the test to see.
            self.put_back(conn, &got[1..]);
        }
        conn
    }

    fn put_back(&mut self, conn: ConnId, rest: &[String]) {
        let client = self.clients.get_mut(&conn).unwrap();
        assert!(client.got.is_empty());
        for line in rest {
            client.got.push(0);
            client
                .got
                .extend_from_slice(&(line.len() as u32).to_be_bytes());
            client.got.extend_from_slice(line.as_bytes());
        }
    }

    /// Sends a packet and lets everything happen.
    pub(crate) fn send(&mut self, conn: ConnId, packet: &Packet<'_>) {
        self.send_unsettled(conn, packet);
        self.settle();
    }

    /// Sends a packet; the turn goes on.
    pub(crate) fn send_unsettled(&mut self, conn: ConnId, packet: &Packet<'_>) {
        let worker = self.clients[&conn].worker;
        self.handle(worker, Input::Packet { conn, packet });
    }

    /// The connection breaks.
    pub(crate) fn lose(&mut self, conn: ConnId) {
        self.close(conn, CloseCause::PeerClosed);
    }

    pub(crate) fn close(&mut self, conn: ConnId, why: CloseCause) {
        let worker = self.clients[&conn].worker;
        self.handle(worker, Input::Closed { conn, why });
        self.settle();
    }

    pub(crate) fn drained(&mut self, conn: ConnId) {
        let worker = self.clients[&conn].worker;
        self.handle(worker, Input::Drained { conn });
        self.settle();
    }

    pub(crate) fn each(&mut self, input: impl Fn() -> Input<'static>) {
        for worker in 0..self.shards.len() {
            self.handle(worker, input());
        }
        self.settle();
    }

    pub(crate) fn kick(&mut self, client_id: &str) {
        let worker = worker_of(home_of(client_id), self.shards.len() as u16);
        self.handle(usize::from(worker), Input::Kick { client_id });
        self.settle();
    }

    /// Whether the broker has closed the connection.
    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.clients[&conn].closed
    }

    /// Ends a worker's turn, which must hold something, and publishes the commit to nobody.
    pub(crate) fn commit_turn(&mut self, worker: usize) -> Arc<Commit> {
        let turn = self.out[worker].turn.number();
        let (entry, messages) = self.out[worker].turn.finish().unwrap();
        self.append(worker, turn, entry, messages);
        self.appends.pop_back().unwrap()
    }

    /// Publishes a commit to one worker.
    pub(crate) fn committed(&mut self, worker: usize, commit: &Arc<Commit>) {
        self.handle(worker, Input::Committed(commit));
    }

    /// Every client acknowledges all QoS 1 messages that it got.
    pub(crate) fn acknowledge_everything(&mut self) {
        for conn in self.clients.keys().copied().collect::<Vec<_>>() {
            for line in self.got(conn) {
                let id = line
                    .split(" #")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next());
                if let Some(packet_id) = id {
                    let packet_id = packet_id.parse().unwrap();
                    let packet = Packet::Puback(Ack::new(packet_id, ReasonCode::Success));
                    self.send_unsettled(conn, &packet);
                }
            }
        }
        self.settle();
    }

    /// What the client got since the last call, a line a packet.
    pub(crate) fn got(&mut self, conn: ConnId) -> Vec<String> {
        let client = self.clients.get_mut(&conn).unwrap();
        let bytes = std::mem::take(&mut client.got);
        let mut rest = &bytes[..];
        let mut lines = Vec::new();
        while !rest.is_empty() {
            if rest[0] == 0 {
                let len = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
                lines.push(String::from_utf8(rest[5..5 + len].to_vec()).unwrap());
                rest = &rest[5 + len..];
                continue;
            }
            let (packet, len) = mqtt::decode(rest, client.version, u32::MAX)
                .unwrap()
                .unwrap();
            lines.push(show(&packet));
            rest = &rest[len..];
        }
        lines
    }

    pub(crate) fn subscribe(&mut self, conn: ConnId, filter: &str, qos: QoS) {
        self.subscribe_with(conn, filter, SubscribeOptions::qos(qos), None);
        let got = self.got(conn);
        assert!(got[0].starts_with("SUBACK 1 "), "{got:?}");
        if got.len() > 1 {
            self.put_back(conn, &got[1..]);
        }
    }

    pub(crate) fn subscribe_with(
        &mut self,
        conn: ConnId,
        filter: &str,
        options: SubscribeOptions,
        id: Option<u32>,
    ) {
        self.send(
            conn,
            &Packet::Subscribe(Subscribe {
                packet_id: 1,
                subscription_id: id,
                user: UserProperties::EMPTY,
                filters: Filters::from_slice(&[(filter, options)]),
            }),
        );
    }

    pub(crate) fn unsubscribe(&mut self, conn: ConnId, filter: &str) {
        self.send(
            conn,
            &Packet::Unsubscribe(Unsubscribe {
                packet_id: 2,
                user: UserProperties::EMPTY,
                filters: TopicFilters::from_slice(&[filter]),
            }),
        );
    }

    /// Publishes; packet id 10 for QoS 1 and 2.
    pub(crate) fn publish(&mut self, conn: ConnId, topic: &str, qos: QoS, payload: &str) {
        self.send(conn, &publish(topic, qos, payload));
    }

    pub(crate) fn disconnect(&mut self, conn: ConnId, reason: ReasonCode) {
        self.send(conn, &Packet::Disconnect(Disconnect::new(reason)));
    }

    pub(crate) fn puback(&mut self, conn: ConnId, packet_id: u16) {
        self.send(
            conn,
            &Packet::Puback(Ack::new(packet_id, ReasonCode::Success)),
        );
    }

    pub(crate) fn pubrec(&mut self, conn: ConnId, packet_id: u16) {
        self.send(
            conn,
            &Packet::Pubrec(Ack::new(packet_id, ReasonCode::Success)),
        );
    }

    pub(crate) fn pubrel(&mut self, conn: ConnId, packet_id: u16) {
        self.send(
            conn,
            &Packet::Pubrel(Ack::new(packet_id, ReasonCode::Success)),
        );
    }

    pub(crate) fn pubcomp(&mut self, conn: ConnId, packet_id: u16) {
        self.send(
            conn,
            &Packet::Pubcomp(Ack::new(packet_id, ReasonCode::Success)),
        );
    }
}

/// A PUBLISH; packet id 10 for QoS 1 and 2.
pub(crate) fn publish<'a>(topic: &'a str, qos: QoS, payload: &'a str) -> Packet<'a> {
    publish_id(topic, qos, 10, payload)
}

/// A PUBLISH with a packet id.
pub(crate) fn publish_id<'a>(
    topic: &'a str,
    qos: QoS,
    packet_id: u16,
    payload: &'a str,
) -> Packet<'a> {
    Packet::Publish(Publish {
        qos,
        topic,
        packet_id: if qos == QoS::AtMostOnce { 0 } else { packet_id },
        payload: payload.as_bytes(),
        ..Publish::default()
    })
}

/// A PUBLISH with properties, packet id 10.
pub(crate) fn publish_with<'a>(
    topic: &'a str,
    qos: QoS,
    retain: bool,
    payload: &'a str,
    properties: PublishProperties<'a>,
) -> Packet<'a> {
    Packet::Publish(Publish {
        qos,
        topic,
        retain,
        packet_id: if qos == QoS::AtMostOnce { 0 } else { 10 },
        payload: payload.as_bytes(),
        properties,
        ..Publish::default()
    })
}

fn streams() -> Vec<StreamMeta> {
    let stream = |name: &str, first: PartitionId, count: u32, ack: Level| {
        let mut settings = StreamSettings::new(name);
        settings.ack = ack;
        settings.partitions = count;
        settings.internal = name.starts_with("__");
        settings.compact = name == RETAINED_STREAM;
        if ack == Level::Memory {
            settings.storage = Storage::Memory;
        }
        StreamMeta {
            settings,
            partitions: (first..first + count).collect(),
        }
    };
    vec![
        stream("__sluice.sessions", SESSIONS, 1, Level::Append),
        stream(RETAINED_STREAM, 2, 1, Level::Append),
        stream(SYS_STREAM, 3, 1, Level::Memory),
        stream(DEFAULT_STREAM, 10, 4, Level::Append),
        stream(DEFAULT_QOS0_STREAM, 20, 4, Level::Memory),
        stream("state", 30, 1, Level::Flush),
        stream("second", 31, 1, Level::Append),
        stream("events", 40, 1, Level::Append),
    ]
}

fn each_record(bytes: &Bytes, mut visit: impl FnMut(u64, &[u8], Option<&[u8]>)) {
    for batch in batches(bytes) {
        for record in batch.unwrap().records() {
            let record = record.unwrap();
            visit(record.offset, record.key.unwrap(), record.value);
        }
    }
}

/// A packet in a line.
fn show(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &Ack<'_>| match ack.reason {
        ReasonCode::Success => format!("{name} {}", ack.packet_id),
        reason => format!("{name} {} {}", ack.packet_id, reason.name()),
    };
    match packet {
        Packet::Connack(connack) => {
            let mut line = format!("CONNACK {}", connack.reason.name());
            if connack.session_present {
                line.push_str(" present");
            }
            let properties = &connack.properties;
            if let Some(id) = properties.assigned_client_id {
                write!(line, " id={id}").unwrap();
            }
            if let Some(expiry_s) = properties.session_expiry_s {
                write!(line, " expiry={expiry_s}").unwrap();
            }
            if let Some(keep_alive_s) = properties.server_keep_alive_s {
                write!(line, " keep_alive={keep_alive_s}").unwrap();
            }
            line
        }
        Packet::Publish(publish) => show_publish(publish),
        Packet::Puback(packet) => ack("PUBACK", packet),
        Packet::Pubrec(packet) => ack("PUBREC", packet),
        Packet::Pubrel(packet) => ack("PUBREL", packet),
        Packet::Pubcomp(packet) => ack("PUBCOMP", packet),
        Packet::Suback(suback) => {
            let reasons: Vec<&str> = suback.reasons.iter().map(ReasonCode::name).collect();
            format!("SUBACK {} {}", suback.packet_id, reasons.join(","))
        }
        Packet::Unsuback(unsuback) => {
            let reasons: Vec<&str> = unsuback.reasons.iter().map(ReasonCode::name).collect();
            format!("UNSUBACK {} {}", unsuback.packet_id, reasons.join(","))
        }
        Packet::Pingresp => "PINGRESP".to_owned(),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {}", disconnect.reason.name()),
        other => format!("{other:?}"),
    }
}

fn show_publish(publish: &Publish<'_>) -> String {
    let payload = String::from_utf8_lossy(publish.payload);
    let mut line = format!("{} {payload} q{}", publish.topic, publish.qos.as_u8());
    if publish.qos != QoS::AtMostOnce {
        write!(line, " #{}", publish.packet_id).unwrap();
    }
    for (flag, name) in [(publish.dup, " dup"), (publish.retain, " retain")] {
        if flag {
            line.push_str(name);
        }
    }
    let properties = &publish.properties;
    if let Some(expiry_s) = properties.expiry_s {
        write!(line, " expiry={expiry_s}").unwrap();
    }
    if let Some(alias) = properties.topic_alias {
        write!(line, " alias={alias}").unwrap();
    }
    if let Some(content_type) = properties.content_type {
        write!(line, " type={content_type}").unwrap();
    }
    let ids: Vec<String> = properties
        .subscription_ids
        .iter()
        .map(|id| id.to_string())
        .collect();
    if !ids.is_empty() {
        write!(line, " ids={}", ids.join(",")).unwrap();
    }
    for (name, value) in properties.user.iter() {
        write!(line, " {name}={value}").unwrap();
    }
    line
}
