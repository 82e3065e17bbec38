//! A seed decides everything: clients, network, timing, crashes. The oracle looks at what the
//! clients saw and what the log holds: no acknowledged message is lost, inboxes are complete, order
//! is kept, QoS 2 is exactly once both ways.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use broker::{BrokerSettings, Event, HookSettings, KeyTemplate, PayloadEncoding};
use commitlog::LogConfig;
use mqtt::QoS;

use crate::clients::{Publisher, Subscriber};
use crate::random::Random;
use crate::world::{World, WorldSettings};

/// Steps of one run.
const STEPS: usize = 1_500;
/// Most messages of one run: below the inbox bound, so that nothing may be dropped.
const MESSAGES_MAX: u64 = 600;

/// What a run looked like from outside: the same seed must give the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Over every byte that any client received, in order.
    pub fingerprint: u64,
    /// Messages published.
    pub published: u64,
    /// Times the process died.
    pub crashes: u32,
}

/// Runs a seed in which the process is killed now and then; panics where a promise is broken.
pub fn run_with_kills(seed: u64) -> Verdict {
    let mut run = Run::new(seed);
    for _ in 0..STEPS {
        run.step(true);
    }
    run.finish();
    run.check_deliveries();
    run.check_streams();
    run.verdict()
}

/// Runs a seed that ends with a power cut; panics where the log lost what `flush` promised.
pub fn run_with_power_cut(seed: u64) -> Verdict {
    let mut run = Run::new(seed);
    let steps = 50 + run.random.below(STEPS as u64);
    for _ in 0..steps {
        run.step(false);
    }
    run.crash(true);
    run.check_streams();
    run.verdict()
}

struct Run {
    random: Random,
    world: World,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    fingerprint: DefaultHasher,
    crashes: u32,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let hook = HookSettings {
            event: Event::MessagePublish,
            filter: "devices/+/state".into(),
            stream: "message_state".into(),
            key: KeyTemplate::parse("{2}").expect("the template is valid"),
            payload: PayloadEncoding::Base64,
        };
        let settings = WorldSettings {
            workers: 1 + random.below(3) as u16,
            broker: BrokerSettings::default(),
            hooks: vec![hook],
            log: LogConfig {
                journal_part_bytes: 256 << 10,
                journal_bytes_max: 8 << 20,
                reserve_bytes: 0,
                ..LogConfig::default()
            },
        };
        let mut run = Self {
            world: World::new(settings),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            fingerprint: DefaultHasher::new(),
            crashes: 0,
            random,
        };
        for number in 0..4 {
            let hooked = number < 2;
            let topic = if hooked {
                format!("devices/p{number}/state")
            } else {
                format!("plain/p{number}")
            };
            let qos = if number % 2 == 0 {
                QoS::AtLeastOnce
            } else {
                QoS::ExactlyOnce
            };
            run.publishers
                .push(Publisher::new(&format!("p{number}"), &topic, qos));
        }
        for (id, filter, qos) in [
            ("s-all-2", "#", QoS::ExactlyOnce),
            ("s-all-1", "#", QoS::AtLeastOnce),
            ("s-doors", "devices/+/state", QoS::ExactlyOnce),
        ] {
            run.subscribers.push(Subscriber::new(id, filter, qos));
        }
        while !run
            .subscribers
            .iter()
            .all(|subscriber| subscriber.subscribed)
        {
            run.connect_all();
            run.world.settle();
            run.receive_all();
        }
        run
    }

    fn step(&mut self, kills: bool) {
        let Self {
            random,
            world,
            publishers,
            subscribers,
            ..
        } = self;
        let publisher = random.below(publishers.len() as u64) as usize;
        let subscriber = random.below(subscribers.len() as u64) as usize;
        match random.below(200) {
            0..40 => {
                let published: u64 = publishers.iter().map(|p| p.sent).sum();
                if published < MESSAGES_MAX {
                    publishers[publisher].publish(world);
                }
            }
            40..70 => drop(world.write_log()),
            70..80 => drop(world.flush_log()),
            80..120 => {
                let worker = random.below(u64::from(world.workers())) as u16;
                world.deliver_mail(Some(worker));
            }
            120..145 => self.receive_publisher(publisher),
            145..175 => self.receive_subscriber(subscriber),
            175..180 => world.advance(1 + random.below(200)),
            180..183 => publishers[publisher].cut(Some(world)),
            183..187 => subscribers[subscriber].cut(Some(world)),
            187..196 => self.reconnect(publisher, subscriber),
            196..198 => world.checkpoint(),
            198 if kills && random.once_in(3) => {
                self.crash(false);
                self.crashes += 1;
            }
            _ => {}
        }
    }

    fn reconnect(&mut self, publisher: usize, subscriber: usize) {
        if !self.publishers[publisher].is_connected() {
            self.publishers[publisher].connect(&mut self.world);
        }
        if !self.subscribers[subscriber].is_connected() {
            self.subscribers[subscriber].connect(&mut self.world);
        }
    }

    fn connect_all(&mut self) {
        for publisher in self.publishers.iter_mut().filter(|p| !p.is_connected()) {
            publisher.connect(&mut self.world);
        }
        for subscriber in self.subscribers.iter_mut().filter(|s| !s.is_connected()) {
            subscriber.connect(&mut self.world);
        }
    }

    fn receive_publisher(&mut self, index: usize) {
        let seen = self.publishers[index].receive(&mut self.world);
        (index, seen).hash(&mut self.fingerprint);
    }

    fn receive_subscriber(&mut self, index: usize) {
        let seen = self.subscribers[index].receive(&mut self.world);
        (index, seen).hash(&mut self.fingerprint);
    }

    fn receive_all(&mut self) {
        (0..self.publishers.len()).for_each(|index| self.receive_publisher(index));
        (0..self.subscribers.len()).for_each(|index| self.receive_subscriber(index));
    }

    fn crash(&mut self, power_cut: bool) {
        self.world.crash(power_cut);
        self.publishers
            .iter_mut()
            .for_each(|publisher| publisher.cut(None));
        self.subscribers
            .iter_mut()
            .for_each(|subscriber| subscriber.cut(None));
        self.world.start();
    }

    /// Everything heals: all connect, all arrives.
    fn finish(&mut self) {
        for _ in 0..200 {
            self.connect_all();
            self.world.settle();
            self.receive_all();
            self.world.settle();
        }
        assert!(
            self.publishers.iter().all(Publisher::is_idle),
            "a publisher is never answered"
        );
    }

    /// Every subscriber has all that was taken on, in order; QoS 2 once.
    fn check_deliveries(&self) {
        for subscriber in &self.subscribers {
            for publisher in &self.publishers {
                if !subscriber.takes(&publisher.topic) {
                    continue;
                }
                let empty = Vec::new();
                let numbers = subscriber.received.get(&publisher.topic).unwrap_or(&empty);
                let first = firsts(numbers);
                assert!(
                    first.is_sorted(),
                    "{}: out of order: {numbers:?}",
                    publisher.topic
                );
                for number in &publisher.acked {
                    assert!(
                        first.binary_search(number).is_ok(),
                        "{} {number} was acknowledged and never delivered: {numbers:?}",
                        publisher.topic
                    );
                }
                let once = subscriber.qos.min(publisher.qos) == QoS::ExactlyOnce;
                assert!(
                    !once || first.len() == numbers.len(),
                    "QoS 2 twice: {numbers:?}"
                );
                assert!(
                    numbers.iter().all(|number| *number < publisher.sent),
                    "never sent"
                );
            }
        }
    }

    /// The hooked stream holds all that was acknowledged, in order; QoS 2 once.
    fn check_streams(&self) {
        let mut kept: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for message in self.world.stream("message_state") {
            let text = std::str::from_utf8(message.view().payload).expect("a number");
            let number = text.parse().expect("a number");
            kept.entry(message.view().topic.to_string())
                .or_default()
                .push(number);
        }
        for publisher in self
            .publishers
            .iter()
            .filter(|p| p.topic.starts_with("devices/"))
        {
            let empty = Vec::new();
            let numbers = kept.get(&publisher.topic).unwrap_or(&empty);
            let first = firsts(numbers);
            assert!(
                first.is_sorted(),
                "{}: out of order: {numbers:?}",
                publisher.topic
            );
            for number in &publisher.acked {
                let found = first.binary_search(number).is_ok();
                assert!(
                    found,
                    "{} {number} was acknowledged and lost",
                    publisher.topic
                );
            }
            let once = publisher.qos == QoS::ExactlyOnce;
            assert!(
                !once || first.len() == numbers.len(),
                "QoS 2 twice: {numbers:?}"
            );
        }
    }

    fn verdict(self) -> Verdict {
        Verdict {
            fingerprint: self.fingerprint.finish(),
            published: self.publishers.iter().map(|publisher| publisher.sent).sum(),
            crashes: self.crashes,
        }
    }
}

/// The numbers at their first appearance.
fn firsts(numbers: &[u64]) -> Vec<u64> {
    let mut seen = std::collections::BTreeSet::new();
    numbers
        .iter()
        .copied()
        .filter(|number| seen.insert(*number))
        .collect()
}
