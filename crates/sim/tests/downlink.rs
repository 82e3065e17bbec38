//! Commands on their way down while the node dies at every step: each is in the log once, each
//! device with a QoS 2 session gets each once, in order, and what cannot be published is buried once.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::downlink::read_position;
use broker::{
    DownlinkRules, Event, HookSettings, KeyTemplate, Parcel, PayloadEncoding, SourceRecord,
    TopicTemplate,
};
use commitlog::{Ack, BatchBuilder, PartitionId, StreamSettings};
use mqtt::QoS;
use sim::clients::{Hello, Subscriber, Taste};
use sim::random::Random;
use sim::world::{World, WorldSettings};

const SOURCE: &str = "commands";
const DEAD: &str = "downlink_dead_letter";
const POSITIONS: &str = "__sluice.downlinks";
const TARGET: &str = "message_command";
const KEY: &[u8] = b"commands/0";
const DEVICES: u64 = 3;
/// Records of one parcel at most.
const PARCEL: usize = 4;

/// What reads the source: it knows what the log says, and of a parcel only that it is under way.
struct Reader {
    rules: Arc<DownlinkRules>,
    source: PartitionId,
    table: PartitionId,
    next: u64,
    /// Token and the position behind the parcel that is under way.
    under_way: Option<(u64, u64)>,
    tokens: u64,
}

fn partition(world: &World, name: &str) -> PartitionId {
    world.reader().stream(name).unwrap().partitions[0]
}

fn each(
    world: &World,
    id: PartitionId,
    from: u64,
    mut visit: impl FnMut(&commitlog::RecordView<'_>),
) {
    let mut offset = from;
    while offset < world.reader().watermarks(id).unwrap().appended {
        let batches = world.reader().read(id, offset, 1 << 20, u64::MAX).unwrap();
        for batch in batches
            .iter()
            .flat_map(|bytes| commitlog::batch::batches(bytes))
        {
            let batch = batch.unwrap();
            for record in batch.records() {
                let record = record.unwrap();
                if record.offset >= from {
                    visit(&record);
                }
            }
            offset = batch.last_offset() + 1;
        }
    }
}

impl Reader {
    /// Begins where the table says.
    fn open(world: &World) -> Self {
        let table = partition(world, POSITIONS);
        let mut next = 0;
        each(world, table, 0, |record| {
            assert_eq!(record.key, Some(KEY));
            let position = read_position(record.value.unwrap()).unwrap();
            assert!(position > next, "positions rise");
            next = position;
        });
        let rules = DownlinkRules {
            source: SOURCE.into(),
            publisher: "downlink/commands".into(),
            topic: TopicTemplate::parse("devices/{key}/command").unwrap(),
            qos: QoS::ExactlyOnce,
            retain: false,
            expiry_s: None,
            dead_letters: [partition(world, DEAD)].into(),
            forbidden: std::iter::once(partition(world, SOURCE)).collect(),
            record_bytes_max: usize::MAX,
        };
        Self {
            rules: Arc::new(rules),
            source: partition(world, SOURCE),
            table,
            next,
            under_way: None,
            tokens: 0,
        }
    }

    /// Hands a parcel over, or hears what became of it. False: there is nothing to do.
    fn step(&mut self, world: &mut World) -> bool {
        for delivered in world.take_delivered() {
            let (token, behind) = self.under_way.take().unwrap();
            assert_eq!(delivered.token, token);
            if delivered.result.is_ok() {
                self.next = behind;
            }
        }
        if self.under_way.is_some() {
            return false;
        }
        let mut records = Vec::new();
        each(world, self.source, self.next, |record| {
            if records.len() < PARCEL {
                records.push(SourceRecord::of(record));
            }
        });
        let Some(last) = records.last() else {
            return false;
        };
        let next_offset = last.offset + 1;
        self.tokens += 1;
        self.under_way = Some((self.tokens, next_offset));
        let parcel = Parcel {
            token: self.tokens,
            rules: Arc::clone(&self.rules),
            partition: 0,
            records,
            table: self.table,
            key: KEY.into(),
            next_offset,
        };
        world.downlink(0, &parcel);
        true
    }
}

fn settings(workers: u16) -> WorldSettings {
    let stream = |name: &str| StreamSettings {
        segment_bytes: 64 << 10,
        ack: Ack::Append,
        ..StreamSettings::new(name)
    };
    WorldSettings {
        workers,
        hooks: vec![HookSettings {
            event: Event::MessagePublish,
            filter: "devices/+/command".to_owned(),
            stream: TARGET.to_owned(),
            key: KeyTemplate::default(),
            payload: PayloadEncoding::Plain,
            counter: 0,
        }],
        streams: vec![
            stream(SOURCE),
            stream(DEAD),
            StreamSettings {
                internal: true,
                compact: true,
                ..stream(POSITIONS)
            },
        ],
        ..WorldSettings::default()
    }
}

/// Writes a command for each device, and one that no device could get.
fn command(world: &mut World, number: u64) {
    let mut batch = BatchBuilder::new();
    let now_ms = world.now().wall_ms as i64;
    for device in 0..DEVICES {
        let (key, value) = (device.to_string(), number.to_string());
        batch.push(now_ms, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    }
    if number.is_multiple_of(5) {
        batch.push(now_ms, Some(b"a/b"), Some(b"lost"), &[]);
    }
    let source = partition(world, SOURCE);
    world.produce(source, batch.finish());
}

/// The numbers in the target stream by topic, and how many dead letters there are.
fn found(world: &World) -> (BTreeMap<String, Vec<u64>>, usize) {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in world.stream(TARGET) {
        let view = message.view();
        let number = std::str::from_utf8(view.payload).unwrap().parse().unwrap();
        found.entry(view.topic.to_owned()).or_default().push(number);
    }
    (found, world.values(DEAD).len())
}

struct Run {
    world: World,
    reader: Reader,
    devices: Vec<Subscriber>,
}

impl Run {
    fn new(workers: u16) -> Self {
        let mut world = World::new(settings(workers));
        let reader = Reader::open(&world);
        let devices = (0..DEVICES).map(|device| {
            let filter = [
                "devices/0/command",
                "devices/1/command",
                "devices/2/command",
            ];
            let taste = Taste {
                filter: filter[device as usize],
                qos: QoS::ExactlyOnce,
                retained: false,
            };
            let hello = Hello {
                clean_start: false,
                expiry_s: u32::MAX,
                receive_maximum: Some(3),
                will: None,
            };
            Subscriber::new(&format!("lock-{device}"), taste, hello)
        });
        let mut devices: Vec<Subscriber> = devices.collect();
        for device in &mut devices {
            device.connect(&mut world);
            world.settle();
            device.receive(&mut world, 10);
            world.settle();
            device.receive(&mut world, 10);
            assert!(device.subscribed);
        }
        Self {
            world,
            reader,
            devices,
        }
    }

    /// The process dies at this point, and comes back.
    fn die(&mut self, random: &mut Random, power: bool) {
        if power {
            self.world.power_cut(&mut || random.once_in(2));
        } else {
            self.world.crash();
        }
        let now_ms = self.world.now().wall_ms;
        for device in &mut self.devices {
            device.cut(None, now_ms);
        }
        self.world.start();
        self.reader = Reader::open(&self.world);
    }

    /// One step of somebody.
    fn step(&mut self, random: &mut Random) {
        let device = random.below(DEVICES) as usize;
        match random.below(6) {
            0 => {
                self.world.write_log();
            }
            1 => {
                self.world.flush_log();
            }
            2 | 3 => {
                self.world.deliver_mail(None);
            }
            4 => {
                self.reader.step(&mut self.world);
            }
            _ if !self.devices[device].is_connected() => {
                self.devices[device].connect(&mut self.world);
            }
            _ if random.once_in(8) => {
                let now_ms = self.world.now().wall_ms;
                self.devices[device].cut(Some(&mut self.world), now_ms);
            }
            _ => {
                self.devices[device].receive(&mut self.world, 1);
            }
        }
    }

    /// Lets everything arrive that is on its way.
    fn finish(&mut self) {
        for _ in 0..200 {
            for device in &mut self.devices {
                if !device.is_connected() {
                    device.connect(&mut self.world);
                }
                device.receive(&mut self.world, 100);
            }
            self.world.settle();
            self.reader.step(&mut self.world);
            self.world.settle();
        }
    }
}

fn expected(commands: u64) -> (BTreeMap<String, Vec<u64>>, usize) {
    let all: Vec<u64> = (0..commands).collect();
    let topics = (0..DEVICES).map(|device| format!("devices/{device}/command"));
    let dead = (0..commands)
        .filter(|number| number.is_multiple_of(5))
        .count();
    (topics.map(|topic| (topic, all.clone())).collect(), dead)
}

#[test]
fn a_crash_between_any_two_steps_leaves_each_command_published_once() {
    const COMMANDS: u64 = 12;
    for workers in [1, 2] {
        for crash_at in 0..120 {
            let mut run = Run::new(workers);
            let mut random = Random::new(7 + u64::from(workers));
            for number in 0..COMMANDS {
                command(&mut run.world, number);
            }
            for _ in 0..crash_at {
                run.step(&mut random);
            }
            run.die(&mut random, false);
            run.finish();
            assert_eq!(found(&run.world), expected(COMMANDS), "step {crash_at}");
            for device in &run.devices {
                let all: Vec<u64> = (0..COMMANDS).collect();
                let got: Vec<&Vec<u64>> = device.received.values().collect();
                assert_eq!(got, [&all], "step {crash_at}");
            }
        }
    }
}

#[test]
fn many_crashes_while_commands_go_down() {
    const COMMANDS: u64 = 40;
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut run = Run::new(1 + (seed % 3) as u16);
        let mut number = 0;
        while number < COMMANDS {
            if random.once_in(12) {
                command(&mut run.world, number);
                number += 1;
            }
            run.step(&mut random);
            if random.once_in(150) {
                run.die(&mut random, false);
            }
            if random.once_in(100) {
                run.world.settle();
                run.world.checkpoint();
                run.world.compact();
            }
        }
        run.finish();
        assert_eq!(found(&run.world), expected(COMMANDS), "seed {seed}");
        for device in &run.devices {
            let all: Vec<u64> = (0..COMMANDS).collect();
            let got: Vec<&Vec<u64>> = device.received.values().collect();
            assert_eq!(got, [&all], "seed {seed}");
        }
    }
}

#[test]
fn a_power_cut_leaves_publishes_and_position_together() {
    const COMMANDS: u64 = 12;
    for seed in 0..60 {
        let mut random = Random::new(1_000 + seed);
        let mut run = Run::new(1);
        for number in 0..COMMANDS {
            command(&mut run.world, number);
        }
        // What producers were told is safe; what follows from it may be cut off anywhere.
        run.world.settle();
        for _ in 0..random.below(120) {
            run.step(&mut random);
        }
        run.die(&mut random, true);
        run.finish();
        assert_eq!(found(&run.world), expected(COMMANDS), "seed {seed}");
    }
}
