//! What must be true at the end of a run, promise by promise.

use std::collections::{BTreeMap, BTreeSet};

use mqtt::QoS;

use super::{ACKS, Run, STATES, Trouble};
use crate::clients::{Fate, Hello, Publisher, Subscriber, Taste};

impl Run {
    /// Every subscriber has all that was taken on since it subscribed, in order; QoS 2 once.
    pub(super) fn check_deliveries(&self) {
        for subscriber in &self.subscribers {
            for publisher in self
                .publishers
                .iter()
                .filter(|p| subscriber.takes(&p.topic))
            {
                check_delivery(subscriber, publisher, self.trouble != Trouble::FullDisk);
            }
        }
    }

    /// The hooked stream holds all that was acknowledged, in order; QoS 2 once.
    pub(super) fn check_streams(&self) {
        let kept = self.kept();
        let empty = Vec::new();
        for publisher in self.publishers.iter().filter(|p| is_state(&p.topic)) {
            let numbers = kept.get(&publisher.topic).unwrap_or(&empty);
            let mut first = firsts(numbers, 0);
            let topic = &publisher.topic;
            let in_order = self.trouble != Trouble::FullDisk;
            assert!(
                !in_order || first.is_sorted(),
                "{topic}: out of order: {numbers:?}"
            );
            first.sort_unstable();
            for number in &publisher.acked {
                let found = first.binary_search(number).is_ok();
                assert!(
                    found,
                    "{topic} {number} was acknowledged and lost: {numbers:?}"
                );
            }
            let once = publisher.qos == QoS::ExactlyOnce;
            assert!(
                !once || first.len() == numbers.len(),
                "{topic}: QoS 2 twice: {numbers:?}"
            );
        }
        self.check_seen();
    }

    /// What any subscriber has seen of the hooked stream is there: it was flushed before.
    pub(super) fn check_seen(&self) {
        let kept = self.kept();
        let empty = Vec::new();
        for topic in self
            .publishers
            .iter()
            .map(|p| &p.topic)
            .filter(|t| is_state(t))
        {
            let kept = kept.get(topic).unwrap_or(&empty);
            for subscriber in &self.subscribers {
                for number in subscriber.received.get(topic).unwrap_or(&empty) {
                    let found = kept.contains(number);
                    assert!(found, "{topic} {number} was seen by a subscriber, and lost");
                }
            }
        }
    }

    /// A session that was flushed has got all that was flushed since, whatever power cuts there were.
    pub(super) fn check_owed(&self) {
        for subscriber in &self.subscribers {
            let Some(since) = &subscriber.durable else {
                continue;
            };
            let empty = Vec::new();
            for publisher in self
                .publishers
                .iter()
                .filter(|p| subscriber.takes(&p.topic))
            {
                if subscriber.qos().min(publisher.qos) == QoS::AtMostOnce {
                    continue;
                }
                let topic = &publisher.topic;
                let received = subscriber.received.get(topic).unwrap_or(&empty);
                let since = since.get(topic).copied().unwrap_or(0);
                for number in publisher.durable.range(since..) {
                    assert!(
                        received.contains(number),
                        "{topic} {number} was flushed and never delivered to {subscriber:?}"
                    );
                }
            }
        }
    }

    /// Each message of a group reaches one member; more only where a member was cut off before it
    /// had acknowledged it, and QoS 2 never.
    pub(super) fn check_groups(&self) {
        let all_last = self.members.iter().all(|member| member.sessions == 1);
        for publisher in &self.publishers {
            let topic = &publisher.topic;
            if !self.members[0].takes(topic) {
                continue;
            }
            let mut times: BTreeMap<u64, u32> = BTreeMap::new();
            for member in &self.members {
                for number in member.received.get(topic).into_iter().flatten() {
                    *times.entry(*number).or_default() += 1;
                }
            }
            // What a session that ended had received is not known any more, and what was only lent
            // to it at QoS 2 ends with it.
            if all_last {
                for number in &publisher.acked {
                    let times = times.get(number).copied().unwrap_or(0);
                    assert!(times > 0, "{topic} {number}: no member got it");
                }
            }
            // A member whose session ends with the process may have got what is lent again.
            let kept = all_last || self.members_cut == 0;
            let once = publisher.qos == QoS::ExactlyOnce && kept;
            for (number, times) in times {
                let once = once || self.members_cut == 0;
                assert!(!once || times == 1, "{topic} {number}: {times} times");
            }
        }
    }

    /// Every will is published that must be, none that must not, none twice.
    pub(super) fn check_wills(&self) {
        let witness = &self.subscribers[0];
        for mortal in &self.mortals {
            let topic = &mortal.topic;
            let empty = Vec::new();
            let seen = witness.received.get(topic).unwrap_or(&empty);
            for (number, fate) in mortal.fates.iter().enumerate() {
                let times = seen.iter().filter(|&&n| n == number as u64).count();
                let right = match fate {
                    Fate::Due => times == 1,
                    Fate::Void | Fate::Armed => times == 0,
                    Fate::Unknown => times <= 1,
                };
                assert!(
                    right,
                    "{topic} {number} is {fate:?}, published {times} times"
                );
            }
        }
    }

    /// One record of `message.acked` for each delivery that a subscriber acknowledged: as many as
    /// there are copies in the stream.
    pub(super) fn check_acks(&self) {
        let kept = self.kept();
        let mut acked: BTreeMap<(String, String, u64), usize> = BTreeMap::new();
        for value in self.world.values(ACKS) {
            let text = String::from_utf8(value).expect("a hook record is text");
            let number = field(&text, "payload").parse().expect("a number");
            let key = (field(&text, "client_id"), field(&text, "topic"), number);
            *acked.entry(key).or_default() += 1;
        }
        for (index, id) in [(0, "s-all-2"), (1, "s-all-1"), (2, "s-doors")] {
            assert_eq!(self.subscribers[index].sessions, 1);
            for (topic, numbers) in &kept {
                for number in numbers.iter().collect::<BTreeSet<_>>() {
                    let copies = numbers.iter().filter(|other| *other == number).count();
                    let key = (id.to_owned(), topic.clone(), *number);
                    let records = acked.get(&key).copied().unwrap_or(0);
                    assert_eq!(
                        records, copies,
                        "{id}: records of message.acked for {topic} {number}"
                    );
                }
            }
        }
    }

    /// A new subscriber gets the retained value of each topic that was last acknowledged, or a
    /// later one.
    pub(super) fn check_retained(&mut self) {
        let taste = Taste {
            filter: "kept/+",
            qos: QoS::AtLeastOnce,
            retained: true,
        };
        let hello = Hello {
            clean_start: true,
            expiry_s: 0,
            ..Hello::default()
        };
        let mut fresh = Subscriber::new("s-fresh", taste, hello);
        fresh.connect(&mut self.world);
        for _ in 0..20 {
            self.world.settle();
            fresh.receive(&mut self.world, usize::MAX);
        }
        for publisher in self.publishers.iter().filter(|p| p.retain) {
            let empty = Vec::new();
            let got = fresh.received.get(&publisher.topic).unwrap_or(&empty);
            let topic = &publisher.topic;
            assert!(
                got.len() <= 1,
                "{topic} is retained more than once: {got:?}"
            );
            let last = match self.trouble {
                Trouble::PowerCuts => publisher.durable.last(),
                _ => publisher.acked.last(),
            };
            assert!(
                got.first() >= last,
                "{topic}: {last:?} was acknowledged, {got:?} is retained"
            );
        }
    }

    fn kept(&self) -> BTreeMap<String, Vec<u64>> {
        let mut kept: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for message in self.world.stream(STATES) {
            let text = std::str::from_utf8(message.view().payload).expect("a number");
            let number = text.parse().expect("a number");
            let topic = message.view().topic.to_string();
            kept.entry(topic).or_default().push(number);
        }
        kept
    }
}

fn check_delivery(subscriber: &Subscriber, publisher: &Publisher, in_order: bool) {
    let topic = &publisher.topic;
    let empty = Vec::new();
    let numbers = subscriber.received.get(topic).unwrap_or(&empty);
    let never = numbers.iter().any(|number| *number >= publisher.sent);
    assert!(!never, "{topic}: never sent: {numbers:?}");
    let qos = subscriber.qos().min(publisher.qos);
    if qos == QoS::AtMostOnce {
        // What did not arrive the first time may arrive when the publisher repeats it.
        return;
    }
    let since = subscriber.since.get(topic).copied().unwrap_or(0);
    let mut first = firsts(numbers, since);
    assert!(
        !in_order || first.is_sorted(),
        "{topic}: out of order: {numbers:?} for {subscriber:?}"
    );
    first.sort_unstable();
    for number in publisher.acked.range(since..) {
        assert!(
            first.binary_search(number).is_ok(),
            "{topic} {number} was acknowledged and never delivered to {subscriber:?}"
        );
    }
    assert!(
        qos != QoS::ExactlyOnce || firsts(numbers, 0).len() == numbers.len(),
        "{topic}: QoS 2 twice: {numbers:?}"
    );
}

fn is_state(topic: &str) -> bool {
    mqtt::topic::matches("devices/+/state", topic)
}

/// A field of a record; the simulator's strings need no escapes.
fn field(json: &str, name: &str) -> String {
    let start = format!("\"{name}\":\"");
    let at = json.find(&start).expect("the record has the field") + start.len();
    json[at..].split('"').next().unwrap_or_default().to_owned()
}

/// The numbers from `since` on, at their first appearance.
fn firsts(numbers: &[u64], since: u64) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    let new = |number: &&u64| **number >= since && seen.insert(**number);
    numbers.iter().filter(new).copied().collect()
}
