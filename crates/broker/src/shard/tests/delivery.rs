//! PUBLISH in and out: QoS, windows, aliases, properties, overlaps, bounds of packets.

use crate::harness::{World, lasting, publish_id, publish_with, v5, v311};
use crate::hooks::Event;
use crate::settings::BrokerSettings;
use crate::turn::DropReason;
use mqtt::{PublishProperties, QoS, SubscribeOptions, UserProperties};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

#[test]
fn qos_is_the_lesser_of_published_and_granted() {
    for (published, granted, line) in [
        (Q0, Q2, "t x q0"),
        (Q1, Q0, "t x q0"),
        (Q1, Q2, "t x q1 #1"),
        (Q2, Q1, "t x q1 #1"),
        (Q2, Q2, "t x q2 #1"),
    ] {
        let mut world = World::new();
        let from = world.connect("from", &v5());
        let to = world.connect("to", &v311(true));
        world.subscribe(to, "t", granted);
        world.publish(from, "t", published, "x");
        assert_eq!(world.got(to), [line]);
    }
}

#[test]
fn qos_2_is_taken_once_and_answered_in_full() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &v5());
    world.subscribe(to, "t", Q2);
    world.publish(from, "t", Q2, "x");
    assert_eq!(world.got(from), ["PUBREC 10"]);
    world.publish(from, "t", Q2, "x");
    assert_eq!(
        world.got(from),
        ["PUBREC 10"],
        "again, but not published again"
    );
    world.pubrel(from, 10);
    assert_eq!(world.got(from), ["PUBCOMP 10"]);
    world.pubrel(from, 10);
    assert_eq!(world.got(from), ["PUBCOMP 10 packet_identifier_not_found"]);
    assert_eq!(world.got(to), ["t x q2 #1"]);
    world.pubrec(to, 1);
    assert_eq!(world.got(to), ["PUBREL 1"]);
    world.pubrec(to, 1);
    assert_eq!(
        world.got(to),
        ["PUBREL 1"],
        "a repetition is answered the same way"
    );
    world.pubcomp(to, 1);
    world.pubrec(to, 1);
    assert_eq!(world.got(to), ["PUBREL 1 packet_identifier_not_found"]);
}

#[test]
fn what_a_flush_stream_keeps_is_seen_when_it_is_flushed() {
    let mut world = World::with_hooks(&[(Event::MessagePublish, "flushed", "state")]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &v5());
    world.subscribe(to, "#", Q1);
    world.hold_flushes = true;
    world.publish(from, "flushed", Q1, "first");
    world.publish(from, "appended", Q1, "second");
    assert_eq!(world.got(to), ["appended second q1 #1"]);
    world.hold_flushes = false;
    world.settle();
    assert_eq!(world.got(to), ["flushed first q1 #2"]);
}

#[test]
fn overlapping_subscriptions_make_one_delivery_with_all_identifiers() {
    let mut world = World::new();
    let conn = world.connect("a", &v5());
    for (filter, qos, id) in [("a/#", Q0, 3), ("a/+", Q1, 7), ("a/b", Q0, 5)] {
        world.subscribe_with(conn, filter, SubscribeOptions::qos(qos), Some(id));
    }
    world.got(conn);
    world.publish(conn, "a/b", Q1, "x");
    let mut got = world.got(conn);
    got.sort();
    assert_eq!(got, ["PUBACK 10", "a/b x q1 #1 ids=3,5,7"]);
}

#[test]
fn no_local_keeps_own_messages_away_but_not_through_other_subscriptions() {
    let mut world = World::new();
    let conn = world.connect("a", &v5());
    let other = world.connect("b", &v5());
    let own = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::qos(Q0)
    };
    world.subscribe_with(conn, "t", own, None);
    world.got(conn);
    world.publish(conn, "t", Q0, "own");
    assert!(world.got(conn).is_empty());
    world.publish(other, "t", Q0, "other");
    assert_eq!(world.got(conn), ["t other q0"]);
    world.subscribe_with(conn, "#", SubscribeOptions::qos(Q0), Some(4));
    world.got(conn);
    world.publish(conn, "t", Q0, "own");
    assert_eq!(world.got(conn), ["t own q0 ids=4"]);
}

#[test]
fn the_window_bounds_what_is_in_flight_and_the_rest_follows_in_order() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let hello = v5().with_window(2);
    let to = world.connect("to", &hello);
    world.subscribe(to, "t", Q1);
    for payload in ["1", "2", "3", "4"] {
        world.publish(from, "t", Q1, payload);
    }
    assert_eq!(world.got(to), ["t 1 q1 #1", "t 2 q1 #2"]);
    world.puback(to, 1);
    assert_eq!(world.got(to), ["t 3 q1 #3"]);
    world.puback(to, 2);
    world.puback(to, 3);
    assert_eq!(world.got(to), ["t 4 q1 #4"]);
    assert_eq!(world.reads, 0, "a short backlog is served from memory");
}

#[test]
fn a_client_that_exceeds_our_receive_maximum_is_disconnected() {
    let settings = BrokerSettings {
        receive_maximum: 2,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[], settings);
    let conn = world.connect("a", &v5());
    world.hold_appends = true;
    for packet_id in 1..=3 {
        world.send(conn, &publish_id("t", Q1, packet_id, "x"));
    }
    assert_eq!(world.got(conn), ["DISCONNECT receive_maximum_exceeded"]);
    let conn = world.connect("b", &v5());
    world.hold_appends = false;
    world.settle();
    for packet_id in 1..=2 {
        world.send(conn, &publish_id("t", Q2, packet_id, "x"));
    }
    world.got(conn);
    world.pubrel(conn, 1);
    world.send(conn, &publish_id("t", Q2, 3, "x"));
    assert_eq!(
        world.got(conn),
        ["PUBCOMP 1", "PUBREC 3 no_matching_subscribers"]
    );
    world.send(conn, &publish_id("t", Q2, 4, "x"));
    assert_eq!(world.got(conn), ["DISCONNECT receive_maximum_exceeded"]);
}

#[test]
fn topic_aliases_work_both_ways() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let mut hello = v5();
    hello.properties.topic_alias_maximum = 1;
    let to = world.connect("to", &hello);
    world.subscribe(to, "#", Q0);
    let alias = |alias| PublishProperties {
        topic_alias: Some(alias),
        ..Default::default()
    };
    world.send(
        from,
        &publish_with("a/long/topic", Q0, false, "1", alias(3)),
    );
    world.send(from, &publish_with("", Q0, false, "2", alias(3)));
    world.publish(from, "other", Q0, "3");
    assert_eq!(
        world.got(to),
        ["a/long/topic 1 q0 alias=1", " 2 q0 alias=1", "other 3 q0"]
    );
    world.send(from, &publish_with("", Q0, false, "4", alias(9)));
    assert_eq!(world.got(from), ["DISCONNECT protocol_error"]);
    let from = world.connect("from", &v5());
    world.send(from, &publish_with("t", Q0, false, "5", alias(33)));
    assert_eq!(world.got(from), ["DISCONNECT topic_alias_invalid"]);
}

#[test]
fn properties_go_on_to_mqtt_5_and_are_left_out_for_mqtt_3() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let five = world.connect("five", &v5());
    let three = world.connect("three", &v311(true));
    for conn in [five, three] {
        world.subscribe(conn, "t", Q0);
    }
    let properties = PublishProperties {
        content_type: Some("text"),
        expiry_s: Some(60),
        user: UserProperties::from_slice(&[("k", "1"), ("k", "2")]),
        ..Default::default()
    };
    world.send(from, &publish_with("t", Q0, false, "x", properties));
    assert_eq!(world.got(five), ["t x q0 expiry=60 type=text k=1 k=2"]);
    assert_eq!(world.got(three), ["t x q0"]);
}

#[test]
fn message_expiry_counts_down_and_drops_what_is_too_old() {
    let mut world = World::with_hooks(&[(Event::MessageDropped, "#", "events")]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for (payload, expiry_s) in [("short", 5), ("long", 60)] {
        let properties = PublishProperties {
            expiry_s: Some(expiry_s),
            ..Default::default()
        };
        world.send(from, &publish_with("t", Q1, false, payload, properties));
    }
    world.pass(10_500);
    let to = world.open("to", &lasting(600));
    assert_eq!(
        world.got(to),
        ["CONNACK success present", "t long q1 #1 expiry=50"]
    );
    assert_eq!(
        world.shards[0].stats().dropped[DropReason::Expired as usize],
        1
    );
    let events = world.values("events");
    assert!(events[0].contains("\"client_id\":\"to\"") && events[0].contains("expired"));
}

/// A subscriber online with QoS 0 and one with QoS 1, two sessions offline, a shared group without
/// any member online; and a message that expires while the log writes it.
fn expires_on_the_way() -> World {
    let mut world = World::with_hooks(&[(Event::MessageDropped, "#", "events")]);
    let from = world.connect("from", &v5());
    for (client_id, filter, qos, online) in [
        ("zero", "t", Q0, true),
        ("one", "t", Q1, true),
        ("away", "t", Q1, false),
        ("gone", "t", Q1, false),
        ("shares", "$share/g/t", Q1, false),
        ("away0", "t", Q0, false),
    ] {
        let conn = world.connect(client_id, &lasting(600));
        world.subscribe(conn, filter, qos);
        if !online {
            world.lose(conn);
        }
    }
    let properties = PublishProperties {
        expiry_s: Some(1),
        ..Default::default()
    };
    world.hold_appends = true;
    world.send(from, &publish_with("t", Q1, false, "late", properties));
    world.pass(1_500);
    world.hold_appends = false;
    world.settle();
    world
}

#[test]
fn what_expires_before_it_is_in_the_log_is_told_of_each_who_would_have_got_it() {
    let world = expires_on_the_way();
    let dropped = world.shards[0].stats().dropped;
    assert_eq!(dropped[DropReason::Expired as usize], 5);
    let mut events = world.values("events");
    events.sort();
    let want = ["away", "from", "gone", "one", "zero"];
    assert_eq!(events.len(), want.len(), "{events:?}");
    for (event, client_id) in events.iter().zip(want) {
        let start = format!("{{\"client_id\":\"{client_id}\",");
        assert!(event.starts_with(&start), "{event}");
        assert!(event.contains("\"reason\":\"expired\""), "{event}");
    }
}

#[test]
fn what_expired_before_it_was_in_the_log_is_told_once_replayed_or_not() {
    let mut world = expires_on_the_way();
    world.restart(1, 0);
    for client_id in ["one", "away", "gone", "shares"] {
        let conn = world.open(client_id, &lasting(600));
        assert_eq!(world.got(conn), ["CONNACK success present"], "{client_id}");
    }
    let told = world.shards[0].stats().dropped[DropReason::Expired as usize];
    assert_eq!(told, 0, "it is in no inbox");
    assert_eq!(world.values("events").len(), 5);
}

#[test]
fn a_packet_too_large_for_the_client_is_not_sent_and_counted() {
    let mut world = World::with_hooks(&[(Event::MessageDropped, "#", "events")]);
    let from = world.connect("from", &v5());
    let mut hello = lasting(60);
    hello.properties.maximum_packet_size = Some(20);
    let to = world.connect("to", &hello);
    world.subscribe(to, "t", Q1);
    let large = "x".repeat(30);
    world.publish(from, "t", Q0, &large);
    world.publish(from, "t", Q1, &large);
    world.publish(from, "t", Q1, "fits");
    assert_eq!(world.got(to), ["t fits q1 #2"]);
    assert_eq!(
        world.shards[0].stats().dropped[DropReason::TooLarge as usize],
        2
    );
    assert_eq!(world.values("events").len(), 2);
}

#[test]
fn sent_before_means_dup_after_a_reconnect_and_order_is_kept() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q2);
    for (qos, payload) in [(Q1, "1"), (Q2, "2"), (Q2, "3")] {
        world.publish(from, "t", qos, payload);
        world.pubrel(from, 10);
    }
    world.got(to);
    world.pubrec(to, 2);
    assert_eq!(world.got(to), ["PUBREL 2"]);
    world.lose(to);
    world.publish(from, "t", Q1, "4");
    let to = world.open("to", &lasting(60));
    assert_eq!(
        world.got(to),
        [
            "CONNACK success present",
            "t 1 q1 #1 dup",
            "PUBREL 2",
            "t 3 q2 #3 dup",
            "t 4 q1 #4"
        ]
    );
}

#[test]
fn sessions_on_other_workers_get_it_too() {
    let mut world = World::with(3, &[], BrokerSettings::default());
    let conns: Vec<_> = (0..9)
        .map(|n| world.connect(&format!("c{n}"), &v5()))
        .collect();
    for &conn in &conns {
        world.subscribe(conn, "t", Q1);
    }
    let from = world.connect("from", &v5());
    world.publish(from, "t", Q1, "x");
    assert_eq!(world.got(from), ["PUBACK 10"]);
    for conn in conns {
        assert_eq!(world.got(conn), ["t x q1 #1"]);
    }
    assert!(world.shards.iter().all(|shard| shard.stats().sessions > 0));
}

#[test]
fn a_smaller_window_after_a_reconnect_bounds_what_is_sent_again() {
    for recent_bytes_max in [0, 1_000_000] {
        let settings = BrokerSettings {
            recent_bytes_max,
            ..BrokerSettings::default()
        };
        let mut world = World::with(1, &[], settings);
        let from = world.connect("from", &v5());
        let to = world.connect("to", &lasting(60));
        world.subscribe(to, "t", Q1);
        for payload in ["1", "2", "3"] {
            world.publish(from, "t", Q1, payload);
        }
        assert_eq!(world.got(to).len(), 3);
        world.lose(to);
        let hello = lasting(60).with_window(1);
        let to = world.open("to", &hello);
        assert_eq!(world.got(to), ["CONNACK success present", "t 1 q1 #1 dup"]);
        world.puback(to, 1);
        assert_eq!(world.got(to), ["t 2 q1 #2 dup"]);
    }
}

#[test]
fn only_the_node_publishes_to_sys() {
    let mut world = World::new();
    let five = world.connect("five", &v5());
    let three = world.connect("three", &v311(true));
    world.subscribe(five, "$SYS/#", Q0);
    world.publish(five, "$SYS/x", Q1, "x");
    assert_eq!(world.got(five), ["PUBACK 10 topic_name_invalid"]);
    world.publish(five, "$SYS/x", Q2, "x");
    assert_eq!(world.got(five), ["PUBREC 10 topic_name_invalid"]);
    world.publish(three, "$SYS/x", Q1, "x");
    assert_eq!(world.got(three), ["PUBACK 10"]);
    assert!(world.got(five).is_empty());
    world.each(|| {
        crate::input::Input::Publish(crate::input::Announce {
            topic: "$SYS/broker/version",
            payload: b"1",
            retain: true,
        })
    });
    assert_eq!(world.got(five), ["$SYS/broker/version 1 q0"]);
}
