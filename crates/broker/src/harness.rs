//! A host for shards in tests: a log in memory that gives numbers and publishes commits when it is
//! told to, connections that remember what they were sent, and a restart by replay.

mod clients;
mod show;

use crate::decode_record;
use crate::hooks::{
    DEFAULT_QOS0_STREAM, DEFAULT_STREAM, Event, HookSettings, HookTable, KeyTemplate,
    PayloadEncoding, RETAINED_STREAM, SYS_STREAM,
};
use crate::input::{ConnId, Input, Now, Refusal, Returned};
use crate::interest::Interest;
use crate::message::{Commit, Messages, OwnedMessage, Position, REFUSED};
use crate::outbox::Outbox;
use crate::restore::Markers;
use crate::retained::RetainedIndex;
use crate::settings::BrokerSettings;
use crate::shard::{Places, Shard, worker_of};
use crate::turn::Turn;
use bytes::Bytes;
use clients::Client;
pub(crate) use clients::{Hello, lasting, publish, publish_id, publish_with, v5, v311};
use commitlog::batch::{batches, set_base_offset};
use commitlog::{Ack as Level, Lsn, PartitionId, RecordView, Storage, StreamMeta, StreamSettings};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// The only partition of the session table.
pub(crate) const SESSIONS: PartitionId = 1;
const START_MS: u64 = 1_000_000;
/// First partition of the stream "far", whose answers wait for the cluster behind.
const FAR: PartitionId = 50;

/// One entry of the journal.
#[derive(Debug, Clone)]
struct Logged {
    lsn: Lsn,
    batches: Vec<(PartitionId, u64, Bytes)>,
}

/// Offset, key and value.
type TableRecord = (u64, Vec<u8>, Option<Vec<u8>>);

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
    /// Of the session table below this offset only the newest record of each key is left.
    compacted_to: u64,
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
    /// It refuses because a write or flush failed.
    latched: bool,
    /// The journal is full: it refuses all but what a checkpoint waits for.
    pub full: bool,
    /// Entries with more bytes are refused.
    pub entry_bytes_max: usize,
    /// The shards do not hear yet of what is refused.
    pub hold_refusals: bool,
    refusals: VecDeque<(usize, u64, commitlog::Entry, Messages)>,
    /// Entries whose flush somebody waits for, whatever their streams promise.
    pub flushes_awaited: usize,
    /// Bytes of the largest entry that was appended.
    pub largest_entry: usize,
    /// Reads are not answered; they wait in `reads`.
    pub hold_reads: bool,
    appends: VecDeque<Arc<Commit>>,
    mirrored: [u64; 2],
    /// What of that it will never have.
    never: [Range<u64>; 2],
    /// Positions that retention has taken.
    pub gone: Vec<Position>,
    /// Positions that were read.
    pub reads: usize,
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
        Self::over(workers, hooks, settings, streams())
    }

    /// The same with other streams than [`streams`].
    pub(crate) fn over(
        workers: u16,
        hooks: &[(Event, &str, &str)],
        settings: BrokerSettings,
        streams: Vec<StreamMeta>,
    ) -> Self {
        let table = compile(hooks, &streams);
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
            compacted_to: 0,
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
            latched: false,
            full: false,
            entry_bytes_max: usize::MAX,
            hold_refusals: false,
            refusals: VecDeque::new(),
            flushes_awaited: 0,
            largest_entry: 0,
            hold_reads: false,
            appends: VecDeque::new(),
            mirrored: [0; 2],
            never: [0..0, 0..0],
            gone: Vec::new(),
            reads: 0,
        };
        world.start(workers);
        world
    }

    /// The next start has other hooks.
    pub(crate) fn set_hooks(&mut self, hooks: &[(Event, &str, &str)]) {
        self.hooks = Arc::new(compile(hooks, &self.streams));
    }

    /// The hooks change while the world runs, and a stream has another level from then on.
    pub(crate) fn reload_hooks(&mut self, hooks: &[(Event, &str, &str)], level: (&str, Level)) {
        let (name, ack) = level;
        for stream in &mut self.streams {
            if stream.settings.name == name {
                stream.settings.ack = ack;
            }
        }
        self.set_hooks(hooks);
        for worker in 0..self.shards.len() {
            self.end_turn(worker);
            self.out[worker].turn.set_hooks(self.hooks.clone());
            let turn = self.out[worker].turn.number();
            self.shards[worker].set_hooks(self.hooks.clone(), turn);
        }
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
        self.refusals.clear();
        self.flushed = self.lsn;
        self.start(workers);
        let (markers, records) = self.table();
        let journal = std::mem::take(&mut self.journal);
        for shard in &mut self.shards {
            for (offset, key, value) in &records {
                shard.feed(&markers, *offset, key, value.as_deref());
            }
            for entry in journal.iter().filter(|entry| entry.lsn > markers.oldest()) {
                shard.replay(entry.lsn, &entry.batches);
            }
        }
        self.journal = journal;
        let ends = [FAR, FAR + 1].map(|id| (id, self.offsets.get(&id).copied().unwrap_or(0)));
        self.shards = std::mem::take(&mut self.shards)
            .into_iter()
            .map(|shard| shard.with_mirror(&ends))
            .collect();
        for worker in 0..self.shards.len() {
            self.handle(worker, Input::Started);
        }
        self.settle();
    }

    /// Compacts the session table as far as a start allows that has seen it as it is.
    pub(crate) fn compact(&mut self) {
        let (markers, _) = self.table();
        self.compacted_to = self.compacted_to.max(markers.table_pin());
    }

    /// The session table: its markers, and its records with their offsets.
    fn table(&self) -> (Markers, Vec<TableRecord>) {
        let mut markers = Markers::default();
        let mut records: Vec<TableRecord> = Vec::new();
        for (partition, _, bytes) in self.journal.iter().flat_map(|entry| &entry.batches) {
            if *partition == SESSIONS {
                each_record(bytes, |offset, key, value| {
                    markers.note(offset, key, value);
                    if offset < self.compacted_to {
                        records.retain(|(_, other, _)| other != key);
                    }
                    records.push((offset, key.to_vec(), value.map(<[u8]>::to_vec)));
                });
            }
        }
        (markers, records)
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
            if self.shards.iter_mut().any(Shard::take_new_mirror_waits) {
                self.tell_mirrored();
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
        let filling = &self.out[worker].turn;
        let lacks_earlier = filling.needs_earlier() && !self.refusals.is_empty();
        let full = self.full && !filling.may_use_last_room();
        if let Some((entry, messages)) = self.out[worker].turn.finish() {
            busy = true;
            let bytes = entry.appends.iter().map(|append| append.batch.len()).sum();
            if self.refuse || full || lacks_earlier || bytes > self.entry_bytes_max {
                self.refusals.push_back((worker, turn, entry, messages));
            } else {
                self.largest_entry = self.largest_entry.max(bytes);
                self.append(worker, turn, entry, messages);
            }
        }
        if !self.hold_refusals {
            self.tell_refusals();
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

    /// The log fails for good: nothing more is flushed, and it refuses everything.
    pub(crate) fn latch(&mut self) {
        self.refuse = true;
        self.latched = true;
        self.hold_flushes = true;
        for worker in 0..self.shards.len() {
            self.handle(worker, Input::Latched);
        }
        self.settle();
    }

    fn tell_refusals(&mut self) {
        while let Some((worker, turn, entry, messages)) = self.refusals.pop_front() {
            let returned = Some(Returned {
                entry: &entry,
                messages: &messages,
            });
            let why = if self.latched {
                Refusal::Latched
            } else {
                Refusal::Full
            };
            let input = Input::Refused {
                turn,
                why,
                returned,
            };
            self.handle(worker, input);
        }
    }

    fn append(&mut self, worker: usize, turn: u64, entry: commitlog::Entry, messages: Messages) {
        self.lsn += 1;
        self.flushes_awaited += usize::from(entry.ops.contains(&commitlog::Op::AwaitFlush));
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
        self.records(stream, |record| {
            String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap()
        })
    }

    /// Who published what is in a stream: the headers `mqtt.peer` and `mqtt.principal`.
    pub(crate) fn publishers(&self, stream: &str) -> Vec<String> {
        self.records(stream, |record| {
            let header = |name: &str| {
                let mut headers = record.headers();
                let found = headers.find(|(other, _)| *other == name.as_bytes());
                let value = found.and_then(|(_, value)| value).unwrap_or(b"-");
                String::from_utf8(value.to_vec()).unwrap()
            };
            format!("{} {}", header("mqtt.peer"), header("mqtt.principal"))
        })
    }

    fn records(&self, stream: &str, show: impl Fn(&RecordView<'_>) -> String) -> Vec<String> {
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
                                values.push(show(&record.unwrap()));
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

    /// Hands a worker an input and ends its turn; what follows from that does not happen yet. Answers
    /// how many entries the journal has then.
    pub(crate) fn start_turn(&mut self, worker: usize, input: Input<'static>) -> usize {
        self.handle(worker, input);
        self.end_turn(worker);
        self.journal_entries()
    }

    /// How many entries the journal has.
    pub(crate) fn journal_entries(&self) -> usize {
        self.journal.len()
    }

    pub(crate) fn each(&mut self, input: impl Fn() -> Input<'static>) {
        for worker in 0..self.shards.len() {
            self.handle(worker, input());
        }
        self.settle();
    }

    /// Ends a worker's turn, which must hold something, and publishes the commit to nobody.
    pub(crate) fn commit_turn(&mut self, worker: usize) -> Arc<Commit> {
        let turn = self.out[worker].turn.number();
        let (entry, messages) = self.out[worker].turn.finish().unwrap();
        self.append(worker, turn, entry, messages);
        self.appends.pop_back().unwrap()
    }

    /// The cluster behind has so much of the partitions of the stream "far".
    pub(crate) fn mirror(&mut self, ends: [u64; 2]) {
        self.mirrored = ends;
        self.tell_mirrored();
        self.settle();
    }

    /// The same, but for these offsets of the two, which it will never have.
    pub(crate) fn mirror_without(&mut self, ends: [u64; 2], never: [Range<u64>; 2]) {
        self.never = never;
        self.mirror(ends);
    }

    /// What a host does when the cluster behind has moved, or somebody new waits for it.
    fn tell_mirrored(&mut self) {
        for worker in 0..self.shards.len() {
            self.shards[worker].take_new_mirror_waits();
            let waits: Vec<_> = self.shards[worker].mirror_waits().collect();
            for partition in waits {
                let end = self.mirrored[(partition - FAR) as usize];
                let never = self.never[(partition - FAR) as usize].clone();
                let never = &[never][..];
                self.handle(
                    worker,
                    Input::Mirrored {
                        partition,
                        end,
                        never,
                    },
                );
            }
        }
    }

    /// How much there is in the partitions of the stream "far".
    pub(crate) fn far_ends(&self) -> [u64; 2] {
        [FAR, FAR + 1].map(|partition| self.offsets.get(&partition).copied().unwrap_or(0))
    }

    /// Publishes a commit to one worker.
    pub(crate) fn committed(&mut self, worker: usize, commit: &Arc<Commit>) {
        self.handle(worker, Input::Committed(commit));
    }
}

fn compile(hooks: &[(Event, &str, &str)], streams: &[StreamMeta]) -> HookTable {
    let hooks: Vec<HookSettings> = hooks
        .iter()
        .map(|&(event, filter, stream)| HookSettings {
            event,
            filter: filter.to_owned(),
            stream: stream.to_owned(),
            key: KeyTemplate::default(),
            payload: PayloadEncoding::Plain,
            counter: 0,
        })
        .collect();
    HookTable::compile("sluice@127.0.0.1", &hooks, streams).unwrap()
}

/// Those of every world, unless it says otherwise.
pub(crate) fn streams() -> Vec<StreamMeta> {
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
        stream("far", 50, 2, Level::Kafka),
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
