//! One node without sockets, threads or clocks: the real shards and the real log on a disk in
//! memory. Whoever drives it decides when the network delivers, when the log writes and flushes,
//! and when everything crashes. It must not know what is right; that is the oracle's.

mod disk;
mod node;
mod wires;

use broker::{
    BrokerSettings, CloseCause, ConnId, Delivered, HookSettings, Input, Now, Parcel, worker_of,
};
use commitlog::disk::MemoryDisk;
use commitlog::{Append, Dropped, Entry, LogConfig, PartitionId, Room, StreamSettings};
use mqtt::{Packet, ReasonCode, Version};
use node::{Mail, Node, Worker};
use std::collections::BTreeMap;
use std::sync::Arc;
use wires::Wire;

const NODE: &str = "sluice@127.0.0.1";
const SESSIONS: &str = "__sluice.sessions";
const RETAINED: &str = "__sluice.retained";
const SYS: &str = "__sluice.sys";
/// Who pins what the shards restore from.
const SHARDS_PIN: u32 = 1;
/// Who pins what inboxes point to.
const INBOX_PIN: u32 = 2;

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
    /// How the streams of messages are kept, besides.
    pub retention: fn(&mut StreamSettings),
    /// Bytes on their way to a client that has not taken them; the rest waits at the broker.
    pub wire_bytes_max: usize,
    /// Further streams, made behind all others.
    pub streams: Vec<StreamSettings>,
    /// What every client may do; `None`: everything.
    pub access: Option<Arc<broker::access::Access>>,
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
            retention: |_| {},
            wire_bytes_max: usize::MAX,
            streams: Vec::new(),
            access: None,
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

    /// What a program writes to a stream through the Kafka door: one batch.
    pub fn produce(&mut self, partition: PartitionId, batch: Vec<u8>) {
        let now_ms = self.now.wall_ms;
        let node = self.running_mut();
        let entry = Entry {
            appends: vec![Append::new(partition, batch)],
            ops: Vec::new(),
        };
        let staged = node.log.stage_foreign(entry, now_ms);
        staged.expect("there is room");
        node.log.write().expect("the disk is whole");
    }

    /// Records of a source reach a worker.
    pub fn downlink(&mut self, worker: u16, parcel: &Parcel) {
        self.handle(worker, Input::Downlink(parcel));
    }

    /// What has become of parcels since the last call.
    pub fn take_delivered(&mut self) -> Vec<Delivered> {
        std::mem::take(&mut self.running_mut().delivered)
    }

    /// The disk, to break it.
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    /// Whether all that is appended is flushed.
    pub fn is_flushed(&self) -> bool {
        let reader = &self.running().reader;
        reader.flushed_to() == reader.appended_to()
    }

    /// The power goes once more, before anything runs.
    pub fn tear(&mut self, keep: &mut dyn FnMut() -> bool) {
        assert!(self.node.is_none(), "it runs");
        self.disk.crash_torn(keep);
    }

    /// Time passes; timers fire and silent clients are cut.
    pub fn advance(&mut self, ms: u64) {
        self.resume_reads();
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

    /// Workers of the node.
    pub fn workers(&self) -> u16 {
        self.settings.workers
    }

    /// The shards write what replay would have to find again, and the log makes a checkpoint: of what
    /// is in the log, flushed or not.
    pub fn checkpoint(&mut self) {
        while self.write_log() || self.deliver_mail(None) {}
        let seen = self.running().log.appended_to();
        for worker in 0..self.settings.workers {
            self.handle(worker, Input::Seen(seen));
            self.handle(worker, Input::Snapshot);
        }
        while self.write_log() || self.deliver_mail(None) {}
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
        let Some(mut checkpoint) = node.log.checkpoint(at) else {
            return;
        };
        let done = loop {
            match checkpoint.step() {
                Ok(false) => {}
                done => break done,
            }
        };
        let handed = done.and_then(|_| node.log.checkpointed(checkpoint));
        if let Some(sessions) = sessions.filter(|_| handed.is_ok()) {
            node.log.pin(sessions, SHARDS_PIN, pin);
        }
        assert_eq!(
            handed.is_err(),
            node.log.latched().is_some(),
            "what fails in a checkpoint latches: {handed:?}"
        );
    }

    /// Retention runs once, as in the server: what is owed is pinned, and what goes all the same is
    /// given up by its receivers first.
    pub fn retain(&mut self) -> Vec<Dropped> {
        while self.write_log() || self.deliver_mail(None) {}
        let now_ms = self.now.wall_ms;
        let node = self.running_mut();
        let streams = node.reader.streams();
        let partitions: Vec<_> = streams.iter().flat_map(|it| &it.partitions).collect();
        let owed: Vec<_> = node
            .workers
            .iter_mut()
            .map(|worker| worker.shard.owed_from())
            .collect();
        for &partition in partitions {
            let end = node.reader.watermarks(partition).map(|it| it.appended);
            let needed = owed.iter().filter_map(|from| from.get(&partition).copied());
            let offset = needed.chain(end).min();
            node.log.pin(partition, INBOX_PIN, offset);
        }
        let Ok(overdue) = node.log.overdue(now_ms) else {
            return Vec::new();
        };
        for dropped in overdue.into_iter().filter(|it| !it.pinned.is_empty()) {
            for worker in 0..self.settings.workers {
                let input = Input::Overdue {
                    partition: dropped.partition,
                    below: dropped.to,
                };
                self.handle(worker, input);
            }
        }
        self.settle();
        let node = self.running_mut();
        node.log.housekeeping(now_ms).unwrap_or_default()
    }

    /// Compaction runs once, as far as there is something to do.
    pub fn compact(&mut self) {
        let now_ms = self.now.wall_ms;
        let node = self.running_mut();
        let Some(mut compaction) = node.log.compaction(now_ms) else {
            return;
        };
        let done = loop {
            match compaction.step() {
                Ok(false) => {}
                done => break done,
            }
        };
        // Handed back all the same, as in the server: a run that failed is tried again.
        let latched = node.log.latched().is_some();
        let handed = node.log.compacted(compaction, now_ms);
        let latches = !latched && node.log.latched().is_some();
        assert!(
            done.is_ok() || handed.is_err() || !latches,
            "a run that fails latches nothing: {done:?}"
        );
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
        let number = out.turn.number();
        let room = if out.turn.may_use_last_room() {
            Room::Last
        } else {
            Room::Usual
        };
        let heard = out.turn.needs_earlier().then_some(place.heard);
        if let Some((entry, messages)) = out.turn.finish() {
            node.turns.push_back(node::Turn {
                worker,
                number,
                room,
                heard,
                entry,
                messages,
            });
        }
        node.delivered.append(&mut out.delivered);
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
}

/// Why a client was refused, for tests that look at it.
pub fn refusal(bytes: &[u8], version: Version) -> Option<ReasonCode> {
    match mqtt::decode(bytes, version, mqtt::limits::PACKET_SIZE_MAX).ok()?? {
        (Packet::Connack(connack), _) => Some(connack.reason),
        _ => None,
    }
}
