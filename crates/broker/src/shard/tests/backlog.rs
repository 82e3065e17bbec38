//! What waits for a session: inboxes and their bounds, what is read back for them, slow connections.

use crate::harness::{World, lasting, publish, publish_id, publish_with, v5};
use crate::hooks::Event;
use crate::settings::BrokerSettings;
use crate::turn::DropReason;
use mqtt::{PublishProperties, QoS};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

#[test]
fn a_long_backlog_is_read_back() {
    let settings = BrokerSettings {
        recent_bytes_max: 0,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[(Event::MessagePublish, "h/#", "state")], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "#", Q2);
    world.lose(to);
    let mut expected = Vec::new();
    for number in 0..100 {
        let topic = if number % 2 == 0 { "h/t" } else { "t" };
        world.publish(from, topic, Q1, &number.to_string());
        expected.push(format!("{topic} {number} q1 #{}", number + 1));
    }
    let to = world.open("to", &lasting(60));
    assert_eq!(world.got(to)[1..], expected);
    assert!(world.reads >= 100);
}

/// A session with 100 messages in its inbox and none in memory, whose client takes two at a time.
/// It acknowledges only when its window is full. How many positions were read, at first and in all.
fn reads_of_a_backlog(recent_bytes_max: u64, qos: QoS) -> (usize, usize) {
    let settings = BrokerSettings {
        recent_bytes_max,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[(Event::MessagePublish, "h/#", "state")], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "#", Q2);
    world.lose(to);
    for number in 0..100 {
        let topic = if number % 2 == 0 { "h/t" } else { "t" };
        world.publish(from, topic, qos, &number.to_string());
        world.pubrel(from, 10);
    }
    world.restart(1, 0);
    let hello = lasting(60).with_window(2);
    let to = world.open("to", &hello);
    let at_first = world.reads;
    let mut got = world.got(to).split_off(1);
    for number in (0..100).step_by(2) {
        let mut ids = Vec::new();
        for (line, number) in got.iter().zip(number..) {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[1], number.to_string(), "{line}");
            ids.push(words[3][1..].parse::<u16>().unwrap());
        }
        assert_eq!(ids.len(), 2, "{got:?}");
        for &id in &ids {
            if qos == Q1 {
                world.puback(to, id);
            } else {
                world.pubrec(to, id);
                world.pubcomp(to, id);
            }
        }
        got = world.got(to);
        got.retain(|line| !line.starts_with("PUBREL"));
    }
    assert!(got.is_empty(), "{got:?}");
    (at_first, world.reads)
}

#[test]
fn a_backlog_is_read_ahead_of_a_small_window() {
    for qos in [Q1, Q2] {
        assert_eq!(reads_of_a_backlog(1 << 20, qos), (100, 100), "{qos:?}");
    }
}

#[test]
fn what_was_read_ahead_and_driven_out_is_read_again() {
    let (at_first, in_all) = reads_of_a_backlog(0, Q1);
    assert_eq!((at_first, in_all), (2, 100), "no room for anything");
    let (at_first, in_all) = reads_of_a_backlog(4_000, Q1);
    assert!(2 < at_first && at_first < 100, "{at_first}");
    assert_eq!(in_all, 100);
}

#[test]
fn what_was_read_ahead_goes_with_the_connection_and_comes_again_in_order() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for payload in ["1", "2", "3", "4"] {
        world.publish(from, "t", Q1, payload);
    }
    world.restart(1, 0);
    let hello = lasting(60).with_window(1);
    let to = world.open("to", &hello);
    assert_eq!(world.got(to)[1..], ["t 1 q1 #1"]);
    world.puback(to, 1);
    assert_eq!(world.got(to), ["t 2 q1 #2"]);
    assert_eq!(world.reads, 4);
    // A takeover: the message in flight comes again, then the rest, and what comes live is last.
    let to = world.open("to", &hello);
    let from = world.connect("from", &v5());
    world.publish(from, "t", Q1, "5");
    assert_eq!(world.got(to)[1..], ["t 2 q1 #2 dup"]);
    for (id, next) in [(2, "t 3 q1 #3"), (3, "t 4 q1 #4"), (4, "t 5 q1 #5")] {
        world.puback(to, id);
        assert_eq!(world.got(to), [next]);
    }
}

#[test]
fn what_expires_while_it_waits_read_ahead_is_not_sent() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for (payload, expiry_s) in [("1", 100), ("2", 5), ("3", 100)] {
        let properties = PublishProperties {
            expiry_s: Some(expiry_s),
            ..PublishProperties::default()
        };
        world.send(from, &publish_with("t", Q1, false, payload, properties));
    }
    world.restart(1, 0);
    let hello = lasting(60).with_window(1);
    let to = world.open("to", &hello);
    assert!(world.got(to)[1].starts_with("t 1 q1 #1"));
    world.pass(10_000);
    world.puback(to, 1);
    assert!(world.got(to)[0].starts_with("t 3 q1 #2"));
    assert_eq!(world.reads, 3);
    let dropped = world.shards[0].stats().dropped[DropReason::Expired as usize];
    assert_eq!(dropped, 1);
}

#[test]
fn a_full_inbox_drops_counts_and_reports() {
    let settings = BrokerSettings {
        inbox_max: 2,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[(Event::MessageDropped, "#", "events")], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for payload in ["1", "2", "3"] {
        world.publish(from, "t", Q1, payload);
    }
    assert_eq!(
        world.shards[0].stats().dropped[DropReason::QueueFull as usize],
        1
    );
    let events = world.values("events");
    assert!(
        events.len() == 1 && events[0].contains("queue_full"),
        "{events:?}"
    );
    let to = world.open("to", &lasting(60));
    assert_eq!(world.got(to)[1..], ["t 1 q1 #1", "t 2 q1 #2"]);
}

#[test]
fn a_slow_connection_is_left_alone_until_it_has_drained() {
    let settings = BrokerSettings {
        send_buffer_bytes_max: 50,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &v5());
    world.subscribe(to, "t", Q1);
    // All in one turn, so that nothing is sent in between.
    for number in 0..6 {
        let payload = format!("{number} with some length");
        world.send_unsettled(from, &publish_id("t", Q1, number + 1, &payload));
    }
    world.send_unsettled(from, &publish("t", Q0, "lost"));
    world.settle();
    assert_eq!(world.got(to).len(), 2, "then the buffer was over its bound");
    assert_eq!(
        world.shards[0].stats().dropped[DropReason::QueueFull as usize],
        1
    );
    world.drained(to);
    world.drained(to);
    world.drained(to);
    let payloads: Vec<String> = world
        .got(to)
        .iter()
        .map(|line| line[2..3].to_owned())
        .collect();
    assert_eq!(payloads, ["2", "3", "4", "5"]);
}

#[test]
fn a_backlog_read_back_is_not_read_again_for_the_event() {
    let mut world = World::with_hooks(&[(Event::MessageAcked, "#", "events")]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    world.publish(from, "t", Q1, "x");
    world.restart(1, 0);
    let to = world.open("to", &lasting(600));
    assert_eq!(world.got(to)[1..], ["t x q1 #1"]);
    assert_eq!(world.reads, 1);
    world.puback(to, 1);
    assert_eq!(world.reads, 1);
    assert_eq!(world.values("events").len(), 1);
}

#[test]
fn what_inboxes_take_is_known_after_their_oldest_messages_were_looked_for() {
    let mut world = World::with_hooks(&[
        (Event::MessagePublish, "state", "state"),
        (Event::MessagePublish, "second", "second"),
    ]);
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "#", Q1);
    world.lose(to);
    // Their messages lie in all partitions of the default stream.
    let from: Vec<_> = (0..8)
        .map(|number| world.connect(&format!("from {number}"), &v5()))
        .collect();
    for &conn in from.iter().cycle().take(70) {
        world.publish(conn, "t", Q1, "x");
    }
    world.publish(from[0], "second", Q1, "x");
    for _ in 0..200 {
        world.publish(from[0], "state", Q1, "x");
    }
    let hello = lasting(600).with_window(10);
    let to = world.open("to", &hello);
    for packet_id in 1..=150 {
        world.puback(to, packet_id);
    }
    world.lose(to);
    let shard = &mut world.shards[0];
    let counted = |shard: &crate::Shard| {
        let slots = shard.sessions.slots();
        let sizes = slots.map(|slot| shard.sessions[slot].backlog.inbox.size_bytes() as u64);
        sizes.sum::<u64>()
    };
    let before = counted(shard);
    assert_eq!(shard.owed_bytes, before);
    shard.owed_from();
    assert!(counted(shard) < before, "what is left is in one partition");
    assert_eq!(shard.owed_bytes, counted(shard));
}
