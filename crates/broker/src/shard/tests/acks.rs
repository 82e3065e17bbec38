//! Answers and acknowledgements: what they wait for, what ends with them, the events they make.

use crate::harness::{World, lasting, publish_id, v5, v311};
use crate::hooks::Event;
use crate::settings::BrokerSettings;
use mqtt::{Ack, Packet, QoS, ReasonCode};

const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

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

/// A quiet node flushes in its own time; who waits for it must not wait that long.
#[test]
fn a_qos_2_exchange_asks_for_its_flushes() {
    for (hooks, awaited) in [
        (&[(Event::MessagePublish, "flushed", "state")][..], true),
        (&[][..], false),
    ] {
        let mut world = World::with_hooks(hooks);
        let from = world.connect("from", &lasting(60));
        let to = world.connect("to", &lasting(60));
        world.subscribe(to, "t", Q2);
        let before = world.flushes_awaited;
        world.send(from, &publish_id("t", Q1, 1, "x"));
        world.send(to, &Packet::Puback(Ack::new(1, ReasonCode::Success)));
        assert_eq!(
            world.flushes_awaited, before,
            "nobody waits: QoS 1 into this stream"
        );
        world.send(from, &publish_id("t", Q2, 2, "x"));
        let (delivered, before) = (world.flushes_awaited - before, world.flushes_awaited);
        assert_eq!(
            delivered,
            usize::from(awaited),
            "the packet id of the delivery"
        );
        world.send(from, &Packet::Pubrel(Ack::new(2, ReasonCode::Success)));
        let released = world.flushes_awaited - before;
        assert_eq!(released, usize::from(awaited), "PUBCOMP");
    }
}

/// The client keeps the packet id of what it was sent. One that a power cut took from the broker
/// would be given to another message, which the client would take for a repetition.
#[test]
fn a_qos_2_delivery_is_sent_once_a_power_cut_cannot_take_its_packet_id() {
    let mut world = World::with_hooks(&[(Event::MessagePublish, "flushed", "state")]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "#", Q2);
    world.hold_flushes = true;
    world.send(from, &publish_id("t", Q2, 1, "x"));
    assert!(world.got(to).is_empty(), "its record is not flushed");
    world.hold_flushes = false;
    world.settle();
    assert_eq!(world.got(to).len(), 1);
    // Nobody promises anything about power cuts: nobody waits.
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "#", Q2);
    world.hold_flushes = true;
    world.send(from, &publish_id("t", Q2, 1, "x"));
    assert_eq!(world.got(to).len(), 1);
}

#[test]
fn who_waits_for_a_flush_that_never_comes_is_refused_and_nobody_is_held_up_behind() {
    let mut world = World::with_hooks(&[(Event::MessagePublish, "flushed", "state")]);
    let conn = world.connect("a", &v5());
    let old = world.connect("b", &v311(true));
    let twice = world.connect("c", &v5());
    world.hold_flushes = true;
    world.send(conn, &publish_id("flushed", Q1, 1, "x"));
    world.send(conn, &publish_id("appended", Q1, 2, "x"));
    world.send(old, &publish_id("flushed", Q1, 1, "x"));
    world.send(twice, &publish_id("flushed", Q2, 1, "x"));
    assert!(world.got(conn).is_empty());
    world.latch();
    let refused = "quota_exceeded";
    assert_eq!(
        world.got(conn),
        [
            format!("PUBACK 1 {refused}"),
            "PUBACK 2 no_matching_subscribers".to_owned()
        ],
        "the first is not flushed; the second is where it was to be"
    );
    assert!(world.is_closed(old), "MQTT 3 has no other word for it");
    assert!(
        world.is_closed(twice) && world.got(twice).iter().all(|it| !it.starts_with("PUBREC")),
        "recovery may find it, so its id is not free"
    );
    world.send(conn, &publish_id("flushed", Q1, 3, "x"));
    assert_eq!(
        world.got(conn),
        [format!("PUBACK 3 {refused}")],
        "what the log refuses waits for no flush either"
    );
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
    world.pass(600_000);
    let conn = world.open("a", &clean());
    assert!(world.got(conn).is_empty());
    world.hold_flushes = false;
    world.settle();
    assert_eq!(world.got(conn), ["CONNACK success"]);
}
