//! A seed decides everything: clients, network, timing, crashes. The oracle looks at what the
//! clients saw and what the log holds: no acknowledged message is lost, inboxes are complete, order
//! is kept, QoS 2 is exactly once both ways, wills come when they must, groups share.

mod checks;

use std::hash::{DefaultHasher, Hash, Hasher};

use broker::{BrokerSettings, Event, HookSettings, KeyTemplate, PayloadEncoding, SharedStrategy};
use commitlog::disk::Operation;
use commitlog::{LogConfig, StreamSettings};
use mqtt::QoS;

use crate::clients::{Hello, Mortal, Publisher, Subscriber, Taste};
use crate::random::Random;
use crate::world::{World, WorldSettings};

/// Steps of one run.
const STEPS: usize = 1_800;
/// Most messages of one run: below the inbox bound, so that nothing may be dropped.
const MESSAGES_MAX: u64 = 500;
/// The hooked stream of `devices/+/state`.
const STATES: &str = "message_state";
/// The stream of acknowledged deliveries of `devices/+/state`.
const ACKS: &str = "message_acks";

/// What fails of a disk: parts of paths.
const PLACES: [&str; 5] = ["journal", "journal", "streams/", "catalogue", "cleaned"];

/// What a run looked like from outside: the same seed must give the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Over every byte that any client received, in order.
    pub fingerprint: u64,
    /// Messages published.
    pub published: u64,
    /// Messages that subscribers received.
    pub received: u64,
    /// Times the process died, or the power went.
    pub crashes: u32,
}

/// Runs a seed in which the process is killed now and then; panics where a promise is broken.
pub fn run_with_kills(seed: u64) -> Verdict {
    let mut run = Run::new(seed, Trouble::Kills);
    for _ in 0..STEPS {
        run.step();
    }
    run.finish();
    run.check_deliveries();
    run.check_streams();
    run.check_groups();
    run.check_wills();
    run.check_acks();
    run.check_retained();
    run.verdict()
}

/// Runs a seed in which all that is done to files of the journal, of segments and of the catalogue
/// fails, once or for a while, so that reads wait or the node must be restarted; panics where a promise
/// is broken.
pub fn run_with_failing_disk(seed: u64) -> Verdict {
    let mut run = Run::new(seed, Trouble::FailingDisk);
    for _ in 0..STEPS {
        run.step();
    }
    run.world.disk().heal();
    if run.world.is_latched() {
        run.kill();
    }
    run.finish();
    run.check_deliveries();
    run.check_streams();
    run.check_retained();
    run.verdict()
}

/// Runs a seed in which the disk is full now and then, with kills; panics where something that was
/// acknowledged is lost. Order is not judged: what is refused may be published again later.
pub fn run_with_full_disk(seed: u64) -> Verdict {
    let mut run = Run::new(seed, Trouble::FullDisk);
    for _ in 0..STEPS {
        run.step();
    }
    run.world.disk().set_free_bytes(u64::MAX);
    run.finish();
    run.check_streams();
    run.check_deliveries();
    run.check_acks();
    run.check_wills();
    run.verdict()
}

/// Runs a seed with power cuts, in which any sectors that were not synced are lost; panics where
/// the log lost what `flush` promised, or anything else that had been flushed: sessions, what they are
/// owed, retained messages.
pub fn run_with_power_cuts(seed: u64) -> Verdict {
    let mut run = Run::new(seed, Trouble::PowerCuts);
    for _ in 0..STEPS / 2 {
        run.step();
        run.note_flushed();
    }
    run.cut_power();
    run.finish();
    run.check_streams();
    run.check_owed();
    run.check_retained();
    run.verdict()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Kills,
    FailingDisk,
    FullDisk,
    PowerCuts,
}

struct Run {
    trouble: Trouble,
    random: Random,
    world: World,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Members of one shared group.
    members: Vec<Subscriber>,
    mortals: Vec<Mortal>,
    fingerprint: DefaultHasher,
    /// Bytes that clients received.
    bytes: u64,
    /// Rounds until everything was at rest.
    rounds: u32,
    crashes: u32,
    /// Connections of members that ended.
    members_cut: u32,
}

fn hook(event: Event, stream: &str) -> HookSettings {
    HookSettings {
        event,
        filter: "devices/+/state".into(),
        stream: stream.into(),
        key: KeyTemplate::parse("{2}").expect("the template is valid"),
        payload: PayloadEncoding::Plain,
        counter: 0,
    }
}

fn keep_all(_: &mut StreamSettings) {}

/// What no hook takes stays only as long as somebody is owed it.
fn keep_owed(stream: &mut StreamSettings) {
    if stream.name == "mqtt.default" {
        stream.retention_ms = Some(1);
    }
}

fn settings(random: &mut Random) -> WorldSettings {
    let slow_wires = random.once_in(3);
    let strategies = [SharedStrategy::RoundRobin, SharedStrategy::Sticky];
    WorldSettings {
        workers: 1 + random.below(3) as u16,
        broker: BrokerSettings {
            send_buffer_bytes_max: if slow_wires { 100 } else { 1 << 20 },
            shared_strategy: *random.pick(&strategies),
            recent_bytes_max: *random.pick(&[0, 2_000, 1 << 20]),
            ..BrokerSettings::default()
        },
        hooks: vec![
            hook(Event::MessagePublish, STATES),
            hook(Event::MessageAcked, ACKS),
        ],
        log: LogConfig {
            journal_part_bytes: *random.pick(&[64 << 10, 256 << 10]),
            journal_bytes_max: 8 << 20,
            tail_bytes_max: *random.pick(&[1, 4 << 10, 1 << 20]),
            reserve_bytes: 1,
            ..LogConfig::default()
        },
        segment_bytes: *random.pick(&[4 << 10, 64 << 10]),
        retention: *random.pick(&[keep_all as fn(&mut _), keep_owed]),
        wire_bytes_max: if slow_wires { 60 } else { usize::MAX },
        streams: Vec::new(),
        access: None,
    }
}

fn lasting() -> Hello {
    Hello::default()
}

fn passing(expiry_s: u32) -> Hello {
    Hello {
        clean_start: expiry_s == 0,
        expiry_s,
        ..Hello::default()
    }
}

fn publishers() -> Vec<Publisher> {
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    let places = [
        ("devices/p0/state", one, false),
        ("devices/p1/state", two, false),
        ("plain/p2", one, false),
        ("plain/p3", two, false),
        ("work/p4", one, false),
        ("work/p5", two, false),
        ("kept/p6", one, true),
        ("kept/p7", two, true),
    ];
    places
        .into_iter()
        .enumerate()
        .map(|(at, (topic, qos, retain))| Publisher::new(&format!("p{at}"), topic, qos, retain))
        .collect()
}

fn taste(filter: &'static str, qos: QoS) -> Taste {
    Taste {
        filter,
        qos,
        retained: false,
    }
}

/// The first two are there from the beginning to the end.
fn subscribers() -> Vec<Subscriber> {
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    vec![
        Subscriber::new("s-all-2", taste("#", two), lasting()),
        Subscriber::new("s-all-1", taste("#", one), lasting()),
        Subscriber::new("s-doors", taste("devices/+/state", two), lasting()),
        Subscriber::new("s-live", taste("#", QoS::AtMostOnce), lasting()),
        Subscriber::new("s-clean", taste("plain/+", two), passing(0)),
        Subscriber::new("s-short", taste("+/+/state", one), passing(2)),
    ]
}

fn members(random: &mut Random) -> Vec<Subscriber> {
    // One member's session lasts, so that the group does.
    (0..3)
        .map(|at| {
            let hello = match random.below(3) {
                0 if at > 0 => passing(0),
                _ => lasting(),
            };
            let taste = taste("$share/g/work/+", QoS::ExactlyOnce);
            Subscriber::new(&format!("m{at}"), taste, hello)
        })
        .collect()
}

impl Run {
    fn new(seed: u64, trouble: Trouble) -> Self {
        let mut random = Random::new(seed);
        let settings = settings(&mut random);
        let world = World::new(settings);
        let mut run = Self {
            trouble,
            world,
            publishers: publishers(),
            subscribers: subscribers(),
            members: members(&mut random),
            mortals: [("w0", 0), ("w1", u32::MAX), ("w2", 0)]
                .into_iter()
                .map(|(id, expiry_s)| Mortal::new(id, expiry_s, QoS::ExactlyOnce))
                .collect(),
            fingerprint: DefaultHasher::new(),
            bytes: 0,
            rounds: 0,
            crashes: 0,
            members_cut: 0,
            random,
        };
        let all_subscribed = |run: &Self| {
            let mut all = run.subscribers.iter().chain(&run.members);
            all.all(|subscriber| subscriber.subscribed)
        };
        while !all_subscribed(&run) {
            run.connect_all();
            run.world.settle();
            run.receive_all();
        }
        run
    }

    fn step(&mut self) {
        let Self {
            random,
            world,
            publishers,
            subscribers,
            members,
            mortals,
            ..
        } = self;
        let publisher = random.below(publishers.len() as u64) as usize;
        let subscriber = random.below(subscribers.len() as u64) as usize;
        let member = random.below(members.len() as u64) as usize;
        let mortal = random.below(mortals.len() as u64) as usize;
        let now_ms = world.now().wall_ms;
        match random.below(232) {
            0..50 => {
                let published: u64 = publishers.iter().map(|p| p.sent).sum();
                if published < MESSAGES_MAX {
                    publishers[publisher].publish(world);
                }
            }
            50..75 => drop(world.write_log()),
            75..85 => drop(world.flush_log()),
            85..125 => {
                let worker = random.below(u64::from(world.workers())) as u16;
                world.deliver_mail(Some(worker));
            }
            125..150 => self.receive_publisher(publisher),
            150..180 => {
                let most = *random.pick(&[1, 2, usize::MAX]);
                self.receive_subscriber(subscriber, most);
            }
            180..190 => {
                let most = *random.pick(&[1, usize::MAX]);
                self.receive_member(member, most);
            }
            190..193 => self.receive_mortal(mortal),
            193..196 => world.advance(1 + random.below(200)),
            196..199 => publishers[publisher].cut(Some(world)),
            199..202 => subscribers[subscriber].cut(Some(world), now_ms),
            202..204 => {
                members[member].cut(Some(world), now_ms);
                self.members_cut += 1;
            }
            204 => mortals[mortal].cut(Some(world)),
            205 => {
                let written = random.once_in(2);
                mortals[mortal].leave(world, written);
            }
            206..216 => self.reconnect([publisher, subscriber, member, mortal]),
            216..219 => self.take_over([publisher, subscriber, member, mortal]),
            219..222 => world.checkpoint(),
            222 => world.compact(),
            223..225 => drop(world.retain()),
            _ => self.trouble(),
        }
    }

    fn reconnect(&mut self, [publisher, subscriber, member, mortal]: [usize; 4]) {
        let window = *self.random.pick(&[None, Some(1), Some(2), Some(5)]);
        let world = &mut self.world;
        if !self.publishers[publisher].is_connected() {
            self.publishers[publisher].connect(world);
        }
        // Some stay away for long, so that much is owed.
        if !self.subscribers[subscriber].is_connected() && self.random.once_in(2) {
            self.subscribers[subscriber].hello().receive_maximum = window;
            self.subscribers[subscriber].connect(world);
        }
        if !self.members[member].is_connected() {
            self.members[member].hello().receive_maximum = window;
            self.members[member].connect(world);
        }
        if !self.mortals[mortal].is_connected() {
            self.mortals[mortal].connect(world);
        }
    }

    fn take_over(&mut self, [publisher, subscriber, member, mortal]: [usize; 4]) {
        let world = &mut self.world;
        match self.random.below(4) {
            0 => self.publishers[publisher].connect(world),
            1 => self.subscribers[subscriber].connect(world),
            2 => {
                self.members[member].connect(world);
                self.members_cut += 1;
            }
            _ => self.mortals[mortal].connect(world),
        }
    }

    /// What goes wrong on the broker's side.
    fn trouble(&mut self) {
        match self.trouble {
            Trouble::Kills if self.random.once_in(12) => self.kill(),
            Trouble::PowerCuts if self.random.once_in(20) => self.cut_power(),
            Trouble::FailingDisk if self.world.is_latched() => self.kill(),
            Trouble::FullDisk if self.random.once_in(16) => self.kill(),
            Trouble::FullDisk if self.random.once_in(3) => {
                // A full disk refuses appends until there is room again.
                let free = *self.random.pick(&[0, u64::MAX, u64::MAX]);
                self.world.disk().set_free_bytes(free);
            }
            Trouble::FailingDisk if self.random.once_in(12) => self.break_disk(),
            Trouble::FailingDisk if self.random.once_in(8) => self.world.disk().heal(),
            _ => {}
        }
    }

    /// Something of the disk fails, soon and once, or from now on.
    fn break_disk(&mut self) {
        let nth = 1 + self.random.below(5);
        let place = *self.random.pick(&PLACES);
        let disk = self.world.disk();
        match self.random.below(9) {
            0 => disk.fail(Operation::Sync, place, nth),
            1 => disk.fail(Operation::Write, place, nth),
            2 => disk.fail(Operation::Rename, place, 1),
            3 => disk.fail(Operation::Open, place, nth),
            4 => disk.fail(Operation::Read, place, nth),
            5 => disk.fail(Operation::Remove, place, 1),
            6 => disk.fail_always(Operation::Read, place),
            7 => disk.fail_always(Operation::Open, place),
            _ => {
                let torn = self.random.below(600) as usize;
                disk.fail_torn(place, nth, torn);
            }
        }
    }

    /// The process dies while it starts, perhaps more than once, and the power may go meanwhile.
    fn start_in_vain(&mut self) {
        while self.random.once_in(3) {
            let operations = [
                Operation::Write,
                Operation::Sync,
                Operation::Open,
                Operation::Read,
                Operation::Rename,
                Operation::Remove,
            ];
            let operation = *self.random.pick(&operations);
            let place = *self.random.pick(&["", "journal", "streams/", "catalogue"]);
            let nth = 1 + self.random.below(20);
            self.world.start_in_vain(operation, place, nth);
            if self.trouble == Trouble::PowerCuts {
                let random = &mut self.random;
                self.world.tear(&mut || random.once_in(2));
            }
        }
    }

    /// Where all that was appended is flushed, clients know what survives.
    fn note_flushed(&mut self) {
        if self.world.is_flushed() {
            self.publishers.iter_mut().for_each(Publisher::flushed);
            let subscribers = self.subscribers.iter_mut().chain(&mut self.members);
            subscribers.for_each(Subscriber::flushed);
        }
    }

    fn connect_all(&mut self) {
        let world = &mut self.world;
        for publisher in self.publishers.iter_mut().filter(|p| !p.is_connected()) {
            publisher.connect(world);
        }
        let subscribers = self.subscribers.iter_mut().chain(&mut self.members);
        for subscriber in subscribers.filter(|s| !s.is_connected()) {
            subscriber.connect(world);
        }
    }

    fn receive_publisher(&mut self, index: usize) {
        let seen = self.publishers[index].receive(&mut self.world);
        self.saw(index, &seen);
    }

    fn receive_subscriber(&mut self, index: usize, most: usize) {
        let subscriber = &mut self.subscribers[index];
        let before = subscriber.subacks;
        let seen = subscriber.receive(&mut self.world, most);
        if subscriber.subacks > before {
            let sent = self.publishers.iter().map(|p| (p.topic.clone(), p.sent));
            subscriber.since = sent.collect();
        }
        self.saw(index, &seen);
    }

    fn receive_member(&mut self, index: usize, most: usize) {
        let seen = self.members[index].receive(&mut self.world, most);
        self.saw(index, &seen);
    }

    fn receive_mortal(&mut self, index: usize) {
        let seen = self.mortals[index].receive(&mut self.world);
        self.saw(index, &seen);
    }

    fn receive_all(&mut self) {
        (0..self.publishers.len()).for_each(|index| self.receive_publisher(index));
        (0..self.subscribers.len()).for_each(|index| self.receive_subscriber(index, usize::MAX));
        (0..self.members.len()).for_each(|index| self.receive_member(index, usize::MAX));
        (0..self.mortals.len()).for_each(|index| self.receive_mortal(index));
    }

    /// Just before the end what was answered is also received: a crash between an answer and what
    /// it promises is what must not be.
    fn hear_all(&mut self) {
        if self.random.once_in(2) {
            self.world.write_log();
        }
        while self.world.deliver_mail(None) {}
        self.receive_all();
    }

    fn kill(&mut self) {
        if self.random.once_in(2) {
            self.hear_all();
        }
        self.world.crash();
        self.restart();
    }

    fn cut_power(&mut self) {
        if !self.random.once_in(4) {
            self.hear_all();
        }
        let odds = *self.random.pick(&[1, 2, 10]);
        let random = &mut self.random;
        self.world.power_cut(&mut || random.once_in(odds));
        self.publishers.iter_mut().for_each(Publisher::forgive);
        let subscribers = self.subscribers.iter_mut().chain(&mut self.members);
        subscribers.for_each(Subscriber::forgive);
        self.mortals.iter_mut().for_each(Mortal::forgive);
        self.restart();
        self.check_seen();
    }

    /// The clients notice that the broker has died; it comes back, perhaps on another machine.
    fn restart(&mut self) {
        self.crashes += 1;
        self.members_cut += 1;
        let now_ms = self.world.now().wall_ms;
        self.publishers.iter_mut().for_each(|p| p.cut(None));
        let subscribers = self.subscribers.iter_mut().chain(&mut self.members);
        subscribers.for_each(|s| s.cut(None, now_ms));
        self.mortals.iter_mut().for_each(|m| m.cut(None));
        if self.random.once_in(3) {
            self.world.set_workers(1 + self.random.below(3) as u16);
        }
        let down_ms = *self.random.pick(&[0, 10, 300, 3_000]);
        self.world.sleep(down_ms);
        self.start_in_vain();
        self.world.start();
    }

    /// Everything heals: all connect, all arrives.
    fn finish(&mut self) {
        // Whoever left a will says goodbye.
        for index in 0..self.mortals.len() {
            self.world.settle();
            self.receive_mortal(index);
            self.mortals[index].leave(&mut self.world, true);
        }
        let mut quiet = 0;
        while quiet < 3 {
            // What the log refused is tried again after a while.
            self.world.advance(1_000);
            self.connect_all();
            self.world.settle();
            let before = (self.bytes, self.publishers.iter().all(Publisher::is_idle));
            self.receive_all();
            self.world.settle();
            quiet = if (self.bytes, true) == before {
                quiet + 1
            } else {
                0
            };
            self.rounds += 1;
            assert!(self.rounds < 5_000, "it never comes to rest");
        }
    }

    fn saw(&mut self, index: usize, seen: &[u8]) {
        self.bytes += seen.len() as u64;
        (index, seen).hash(&mut self.fingerprint);
    }

    fn verdict(self) -> Verdict {
        Verdict {
            fingerprint: self.fingerprint.finish(),
            published: self.publishers.iter().map(|publisher| publisher.sent).sum(),
            received: self
                .subscribers
                .iter()
                .flat_map(|subscriber| subscriber.received.values())
                .map(|numbers| numbers.len() as u64)
                .sum(),
            crashes: self.crashes,
        }
    }
}
