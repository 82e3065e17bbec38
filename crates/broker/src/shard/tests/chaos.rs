//! Random clients, random stops, random delays; then an oracle: nothing acknowledged is lost,
//! QoS 2 arrives once, order is kept.

use crate::harness::{World, lasting, publish_id};
use crate::hooks::Event;
use crate::input::{ConnId, Input};
use crate::settings::BrokerSettings;
use mqtt::QoS;
use std::collections::{BTreeMap, BTreeSet};

/// Small and good enough; a seed decides everything.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// A device that publishes numbered messages, one at a time, until each is acknowledged.
struct Publisher {
    name: String,
    conn: Option<ConnId>,
    number: u32,
    qos: QoS,
    topic: &'static str,
    /// PUBREC came: PUBREL is what is sent again.
    released: bool,
    waiting: bool,
}

impl Publisher {
    fn payload(&self) -> String {
        format!(
            "{}-{}-{}-{}",
            self.name,
            self.topic,
            self.qos.as_u8(),
            self.number
        )
    }
}

/// A receiver that acknowledges what it got whenever it pleases.
struct Receiver {
    name: String,
    conn: Option<ConnId>,
    filter: &'static str,
    /// Packets it has not answered yet, in order.
    todo: Vec<String>,
    /// QoS 2 ids between PUBLISH and PUBREL.
    ids: BTreeSet<u16>,
    /// What it has taken over: payloads, in order.
    taken: Vec<String>,
}

const TOPICS: [&str; 3] = ["plain/1", "hook/1", "plain/2"];

struct Scene {
    world: World,
    random: Random,
    publishers: Vec<Publisher>,
    receivers: Vec<Receiver>,
    acknowledged: Vec<(String, &'static str)>,
    finishing: bool,
    /// The log refuses turns now and then.
    may_refuse: bool,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let workers = 1 + random.below(3) as u16;
        let recent_bytes_max = if random.below(2) == 0 { 0 } else { 4_000 };
        let settings = BrokerSettings {
            recent_bytes_max,
            inflight_max: 1 + random.below(8) as u16,
            ..BrokerSettings::default()
        };
        let mut hooks = vec![(Event::MessagePublish, "hook/#", "state")];
        if random.below(2) == 0 {
            hooks.push((Event::MessageAcked, "#", "events"));
        }
        let mut world = World::with(workers, &hooks, settings);
        let mut receivers = Vec::new();
        for (at, filter) in [
            "plain/+",
            "#",
            "hook/1",
            "$share/g/plain/1",
            "$share/g/plain/1",
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("r{at}");
            let conn = world.connect(&name, &lasting(1_000_000));
            world.subscribe(conn, filter, QoS::ExactlyOnce);
            receivers.push(Receiver {
                name,
                conn: Some(conn),
                filter,
                todo: Vec::new(),
                ids: BTreeSet::new(),
                taken: Vec::new(),
            });
        }
        let publishers = (0..3)
            .map(|at| Publisher {
                name: format!("p{at}"),
                conn: None,
                number: 0,
                qos: QoS::AtLeastOnce,
                topic: TOPICS[0],
                released: false,
                waiting: false,
            })
            .collect();
        Self {
            world,
            random,
            publishers,
            receivers,
            acknowledged: Vec::new(),
            finishing: false,
            may_refuse: seed.is_multiple_of(2),
        }
    }

    fn step(&mut self) {
        let action = self.random.below(100);
        match action {
            0..30 => {
                let at = self.random.below(self.publishers.len() as u64) as usize;
                self.publish(at);
            }
            30..60 => {
                let at = self.random.below(self.receivers.len() as u64) as usize;
                self.receive(at);
            }
            60..66 => {
                let at = self.random.below(self.receivers.len() as u64) as usize;
                let receiver = &mut self.receivers[at];
                receiver.todo.clear();
                if let Some(conn) = receiver.conn.take() {
                    self.world.lose(conn);
                }
            }
            66..74 => {
                let at = self.random.below(self.receivers.len() as u64) as usize;
                self.connect(at);
            }
            74..77 => {
                let at = self.random.below(self.publishers.len() as u64) as usize;
                if let Some(conn) = self.publishers[at].conn.take() {
                    self.world.lose(conn);
                }
            }
            77..81 => self.world.hold_appends = self.random.below(4) == 0,
            81..85 => self.world.hold_flushes = self.random.below(4) == 0,
            85..89 => self.world.hold_reads = self.random.below(4) == 0,
            89..93 => self.world.each(|| Input::Snapshot),
            93..95 if self.random.below(2) == 0 => {
                let workers = 1 + self.random.below(3) as u16;
                self.stop(workers);
            }
            93..98 if self.may_refuse => self.world.refuse = self.random.below(4) == 0,
            _ => self.world.pass(100),
        }
        self.world.settle();
        self.hear();
    }

    fn stop(&mut self, workers: u16) {
        self.hear();
        for receiver in &mut self.receivers {
            receiver.conn = None;
            receiver.todo.clear();
        }
        for publisher in &mut self.publishers {
            publisher.conn = None;
        }
        self.world.restart(workers, 10);
        // As if before the first checkpoint.
        self.world.compact();
    }

    fn connect(&mut self, at: usize) {
        let receiver = &mut self.receivers[at];
        if receiver.conn.is_none() {
            receiver.conn = Some(self.world.open(&receiver.name, &lasting(1_000_000)));
        }
    }

    /// A publisher sends its next message, or the last one again after a reconnect.
    fn publish(&mut self, at: usize) {
        let publisher = &mut self.publishers[at];
        let reconnected = publisher.conn.is_none();
        let conn = *publisher
            .conn
            .get_or_insert_with(|| self.world.open(&publisher.name, &lasting(1_000_000)));
        if publisher.waiting {
            if reconnected && publisher.released {
                self.world.pubrel(conn, 7);
            } else if reconnected {
                let payload = publisher.payload();
                self.world.send(
                    conn,
                    &publish_id(publisher.topic, publisher.qos, 7, &payload),
                );
            }
            return;
        }
        if self.finishing {
            return;
        }
        publisher.number += 1;
        publisher.waiting = true;
        publisher.qos = if self.random.below(2) == 0 {
            QoS::AtLeastOnce
        } else {
            QoS::ExactlyOnce
        };
        publisher.topic = TOPICS[self.random.below(3) as usize];
        let payload = publisher.payload();
        self.world.send(
            conn,
            &publish_id(publisher.topic, publisher.qos, 7, &payload),
        );
    }

    /// Publishers take their answers; receivers' packets pile up.
    fn hear(&mut self) {
        for publisher in &mut self.publishers {
            let Some(conn) = publisher.conn else { continue };
            for line in self.world.got(conn) {
                let mut words = line.split(' ');
                match words.next() {
                    Some("PUBACK" | "PUBREC") if line.ends_with("quota_exceeded") => {
                        // Not taken: it comes again, on another connection.
                        self.world.disconnect(conn, mqtt::ReasonCode::Success);
                    }
                    Some("PUBREC") => {
                        publisher.released = true;
                        self.world.pubrel(conn, 7);
                    }
                    Some("PUBACK" | "PUBCOMP") if publisher.waiting => {
                        publisher.waiting = false;
                        publisher.released = false;
                        self.acknowledged
                            .push((publisher.payload(), publisher.topic));
                    }
                    _ => {}
                }
            }
        }
        for publisher in &mut self.publishers {
            publisher.conn = publisher.conn.filter(|&conn| !self.world.is_closed(conn));
        }
        for receiver in &mut self.receivers {
            if receiver.conn.is_some_and(|conn| self.world.is_closed(conn)) {
                receiver.conn = None;
                receiver.todo.clear();
            }
            if let Some(conn) = receiver.conn {
                let got = self.world.got(conn);
                receiver.todo.extend(got);
            }
        }
    }

    /// A receiver deals with some of its packets.
    fn receive(&mut self, at: usize) {
        let receiver = &mut self.receivers[at];
        let Some(conn) = receiver.conn else { return };
        let count = self.random.below(4).min(receiver.todo.len() as u64) as usize;
        for line in receiver.todo.drain(..count).collect::<Vec<_>>() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "CONNACK" => assert!(line.contains("present"), "{line}"),
                "PUBREL" => {
                    let packet_id = words[1].parse().unwrap();
                    receiver.ids.remove(&packet_id);
                    self.world.pubcomp(conn, packet_id);
                }
                "DISCONNECT" | "SUBACK" => panic!("{line}"),
                _ => {
                    let packet_id: u16 = words[3][1..].parse().unwrap();
                    if words[2] == "q1" {
                        receiver.taken.push(words[1].to_owned());
                        self.world.puback(conn, packet_id);
                    } else {
                        if receiver.ids.insert(packet_id) {
                            receiver.taken.push(words[1].to_owned());
                        }
                        self.world.pubrec(conn, packet_id);
                    }
                }
            }
        }
    }

    /// Nothing is held any more and everybody finishes.
    fn finish(&mut self) {
        self.world.hold_appends = false;
        self.world.hold_flushes = false;
        self.world.hold_reads = false;
        self.finishing = true;
        self.world.refuse = false;
        self.world.pass(1_000);
        for publisher in &mut self.publishers {
            if let Some(conn) = publisher.conn.take() {
                self.world.lose(conn);
            }
        }
        let mut quiet = 0;
        for _ in 0..10_000 {
            self.world.settle();
            self.hear();
            let mut busy = false;
            for at in 0..self.receivers.len() {
                self.connect(at);
                self.hear();
                busy |= !self.receivers[at].todo.is_empty();
                self.receive(at);
            }
            for at in 0..self.publishers.len() {
                busy |= self.publishers[at].waiting;
                self.publish(at);
            }
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet > 20 {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn judge(&self, seed: u64) {
        let alone = self
            .receivers
            .iter()
            .filter(|receiver| !receiver.filter.starts_with('$'));
        for receiver in alone {
            self.complete(&receiver.name, receiver.filter, &receiver.taken, seed);
            once_and_in_order(&receiver.taken, &format!("seed {seed}, {}", receiver.name));
        }
        let shared = self
            .receivers
            .iter()
            .filter(|receiver| receiver.filter.starts_with('$'));
        let taken: Vec<String> = shared.flat_map(|receiver| receiver.taken.clone()).collect();
        self.complete("the group", "plain/1", &taken, seed);
        let mut once = BTreeSet::new();
        for payload in taken.iter().filter(|payload| payload.contains("-2-")) {
            assert!(
                once.insert(payload),
                "seed {seed}: the group got {payload} twice"
            );
        }
    }

    fn complete(&self, name: &str, filter: &str, taken: &[String], seed: u64) {
        for (payload, topic) in &self.acknowledged {
            if mqtt::topic::matches(filter, topic) {
                assert!(
                    taken.contains(payload),
                    "seed {seed}: {name} lost {payload} of {topic}"
                );
            }
        }
    }
}

/// Each publisher's messages of one QoS on one topic come in the order of publishing, QoS 2 once.
fn once_and_in_order(taken: &[String], what: &str) {
    let mut newest: BTreeMap<&str, u32> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for payload in taken {
        if !seen.insert(payload) {
            assert!(!payload.contains("-2-"), "{what}: {payload} twice");
            continue;
        }
        let (line, number) = payload.rsplit_once('-').unwrap();
        let number = number.parse().unwrap();
        let before = newest.insert(line, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{what}: {payload} after {before:?}"
        );
    }
}

fn play(seed: u64) -> Scene {
    let mut scene = Scene::new(seed);
    for _ in 0..300 {
        scene.step();
    }
    scene.finish();
    scene
}

#[test]
fn nothing_acknowledged_is_lost() {
    for seed in 1..=80 {
        let scene = play(seed);
        assert!(scene.acknowledged.len() > 1, "seed {seed} did nothing");
        scene.judge(seed);
    }
}
