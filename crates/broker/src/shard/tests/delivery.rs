//! PUBLISH in and out: QoS, windows, aliases, overlaps, hooks, bounds.

use crate::harness::{World, lasting, publish, publish_id, publish_with, v5, v311};
use crate::hooks::Event;
use crate::settings::BrokerSettings;
use crate::turn::DropReason;
use mqtt::{Ack, Packet, PublishProperties, QoS, ReasonCode, SubscribeOptions, UserProperties};

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
fn answers_wait_for_their_level_and_keep_the_order_of_requests() {
    let mut world = World::with_hooks(&[(Event::MessagePublish, "flushed", "state")]);
    let conn = world.connect("a", &v5());
    world.hold_flushes = true;
    world.send(conn, &publish_id("flushed", Q1, 1, "x"));
    world.send(conn, &publish_id("appended", Q1, 2, "x"));
    assert!(
        world.got(conn).is_empty(),
        "2 is reached but stands behind 1"
    );
    world.hold_flushes = false;
    world.settle();
    let why = "no_matching_subscribers";
    assert_eq!(
        world.got(conn),
        [format!("PUBACK 1 {why}"), format!("PUBACK 2 {why}")]
    );
    world.hold_appends = true;
    world.send(conn, &publish_id("appended", Q1, 3, "x"));
    assert!(world.got(conn).is_empty());
    world.hold_appends = false;
    world.hold_flushes = true;
    world.settle();
    assert_eq!(
        world.got(conn),
        [format!("PUBACK 3 {why}")],
        "append is enough"
    );
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
    let mut hello = v5();
    hello.properties.receive_maximum = Some(2);
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
    let mut hello = lasting(60);
    hello.properties.receive_maximum = Some(2);
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
    let mut hello = lasting(60);
    hello.properties.receive_maximum = Some(1);
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
    let mut hello = lasting(60);
    hello.properties.receive_maximum = Some(1);
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
fn nobody_is_told_to_the_publisher_and_to_the_hook() {
    let mut world = World::with_hooks(&[(Event::MessageDropped, "#", "events")]);
    let conn = world.connect("a", &v5());
    world.publish(conn, "t", Q1, "x");
    assert_eq!(world.got(conn), ["PUBACK 10 no_matching_subscribers"]);
    assert!(world.values("events")[0].contains("no_subscribers"));
    let old = world.connect("b", &v311(true));
    world.publish(old, "t", Q1, "x");
    assert_eq!(world.got(old), ["PUBACK 10"]);
}

#[test]
fn delivered_and_acked_events_name_the_receiver() {
    let mut world = World::with_hooks(&[
        (Event::MessageDelivered, "t", "events"),
        (Event::MessageAcked, "t", "second"),
    ]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &v5());
    world.subscribe(to, "t", Q2);
    world.publish(from, "t", Q1, "x");
    world.publish(from, "t", Q2, "y");
    let delivered = world.values("events");
    assert_eq!(delivered.len(), 2);
    assert!(
        delivered[0].contains("\"client_id\":\"to\"") && delivered[0].contains("\"from\":\"from\"")
    );
    assert!(world.values("second").is_empty());
    world.puback(to, 1);
    world.pubrec(to, 2);
    assert_eq!(world.values("second").len(), 1);
    world.pubcomp(to, 2);
    let acked = world.values("second");
    assert_eq!(acked.len(), 2);
    assert!(acked[1].contains("\"payload\":\"y\""), "{}", acked[1]);
}

#[test]
fn an_acked_message_that_left_memory_is_read_for_its_event() {
    let settings = BrokerSettings {
        recent_bytes_max: 0,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[(Event::MessageAcked, "#", "events")], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &v5());
    world.subscribe(to, "t", Q1);
    world.publish(from, "t", Q1, "x");
    world.puback(to, 1);
    world.puback(to, 1);
    assert_eq!(world.values("events").len(), 1);
    assert_eq!(world.shards[0].stats().acked, 1);
}

#[test]
fn an_acked_message_of_which_no_hook_hears_is_not_read() {
    let settings = BrokerSettings {
        recent_bytes_max: 0,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[(Event::MessageAcked, "h", "events")], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "#", Q1);
    world.publish(from, "t", Q1, "x");
    world.publish(from, "h", Q1, "y");
    world.puback(to, 1);
    assert_eq!((world.reads, world.shards[0].stats().acked), (0, 1));
    // Sent again, it is known as well.
    world.publish(from, "t", Q1, "z");
    world.lose(to);
    let to = world.open("to", &lasting(60));
    let reads = world.reads;
    world.puback(to, 3);
    assert_eq!(world.reads, reads);
    world.puback(to, 2);
    assert_eq!(world.reads, reads + 1);
    assert_eq!(world.values("events").len(), 1);
}

#[test]
fn a_pubrec_with_an_error_ends_the_delivery() {
    let mut world = World::new();
    let conn = world.connect("a", &v5());
    world.subscribe(conn, "t", Q2);
    world.publish(conn, "t", Q2, "x");
    world.got(conn);
    world.send(
        conn,
        &Packet::Pubrec(Ack::new(1, ReasonCode::QuotaExceeded)),
    );
    assert!(world.got(conn).is_empty());
    assert_eq!(world.shards[0].stats().acked, 1);
    world.puback(conn, 9);
    assert!(
        !world.is_closed(conn),
        "an acknowledgement of nothing is passed over"
    );
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_is_a_protocol_error() {
    let mut world = World::new();
    let conn = world.connect("a", &v5());
    world.subscribe(conn, "t", Q1);
    world.publish(conn, "t", Q1, "x");
    world.got(conn);
    world.pubrec(conn, 1);
    assert_eq!(world.got(conn), ["DISCONNECT protocol_error"]);
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
fn a_qos_2_delivery_of_a_lasting_session_is_journalled_before_it_is_sent() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q2);
    let records = world.table_records();
    world.publish(from, "t", Q2, "x");
    assert_eq!(world.got(to), ["t x q2 #1"]);
    assert_eq!(world.table_records(), records + 1);
    world.hold_appends = true;
    world.pubrec(to, 1);
    assert!(
        world.got(to).is_empty(),
        "PUBREL waits for the record of PUBREC"
    );
    world.hold_appends = false;
    world.settle();
    assert_eq!(world.got(to), ["PUBREL 1"]);
}

#[test]
fn an_id_is_given_free_only_when_no_power_cut_brings_it_back() {
    for (hooks, waits) in [
        (&[(Event::MessagePublish, "other", "state")][..], true),
        (&[(Event::MessagePublish, "other", "second")][..], false),
    ] {
        let mut world = World::with_hooks(hooks);
        let from = world.connect("from", &lasting(60));
        world.publish(from, "t", Q2, "1");
        assert_eq!(world.got(from), ["PUBREC 10 no_matching_subscribers"]);
        world.hold_flushes = true;
        world.pubrel(from, 10);
        assert_eq!(world.got(from).is_empty(), waits);
        world.hold_flushes = false;
        world.settle();
        assert_eq!(world.got(from).is_empty(), !waits);
    }
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
        let mut hello = lasting(60);
        hello.properties.receive_maximum = Some(1);
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
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "#", Q1);
    world.lose(to);
    world.restart(1, 0);
    let from_again = world.connect("from", &v5());
    assert_ne!(from, from_again);
    let many: Vec<String> = (0..70).map(|n| format!("t/{n}")).collect();
    for topic in many.iter().map(String::as_str).chain(["state", "second"]) {
        world.publish(from_again, topic, Q1, "x");
    }
    for _ in 0..200 {
        world.publish(from_again, "state", Q1, "x");
    }
    let to = world.open("to", &lasting(600));
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
    assert_eq!(shard.owed_bytes, counted(shard));
    shard.owed_from();
    assert_eq!(shard.owed_bytes, counted(shard));
}

#[test]
fn an_acknowledgement_repeated_while_its_message_is_read_is_ignored() {
    let settings = BrokerSettings {
        recent_bytes_max: 0,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[(Event::MessageAcked, "#", "events")], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q2);
    world.publish(from, "t", Q1, "x");
    world.publish(from, "t", Q2, "y");
    world.pubrec(to, 2);
    world.hold_reads = true;
    for _ in 0..5 {
        world.puback(to, 1);
        world.pubcomp(to, 2);
    }
    assert_eq!(world.out[0].reads.len(), 2);
    world.hold_reads = false;
    world.settle();
    assert_eq!(world.values("events").len(), 2);
    assert_eq!(world.shards[0].stats().acked, 2);
    assert!(world.shards[0].acking.is_empty());
}

#[test]
fn connack_waits_for_the_flush_where_a_session_with_qos_2_ids_ended() {
    let mut world = World::with_hooks(&[(Event::MessagePublish, "flushed", "state")]);
    let clean = || {
        let mut hello = lasting(600);
        hello.clean_start = true;
        hello
    };
    let conn = world.connect("a", &clean());
    world.send(conn, &publish_id("t", Q2, 1, "x"));
    world.hold_flushes = true;
    let conn = world.open("a", &clean());
    assert!(world.got(conn).is_empty(), "the id may come back");
    world.hold_flushes = false;
    world.settle();
    assert_eq!(world.got(conn), ["CONNACK success"]);
    // Nothing was received: nothing to wait for.
    world.hold_flushes = true;
    let conn = world.open("a", &clean());
    assert_eq!(world.got(conn), ["CONNACK success"]);
    world.send(conn, &publish_id("t", Q2, 1, "x"));
    // The same where the session ended before.
    world.lose(conn);
    world.kick("a");
    let conn = world.open("a", &clean());
    assert!(world.got(conn).is_empty());
    world.hold_flushes = false;
    world.settle();
    assert_eq!(world.got(conn), ["CONNACK success"]);
}
