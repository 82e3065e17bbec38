//! CONNECT, DISCONNECT, takeover, expiry, and what the client is told.

use crate::harness::{World, lasting, publish, v5, v311};
use crate::hooks::Event;
use crate::input::{CloseCause, Input};
use crate::settings::BrokerSettings;
use mqtt::{
    Disconnect, Filters, Packet, QoS, ReasonCode, Subscribe, SubscribeOptions, UserProperties,
    Version,
};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;

#[test]
fn a_session_that_ends_with_its_connection_writes_nothing() {
    let mut world = World::new();
    let conn = world.open("a", &v5());
    assert_eq!(world.got(conn), ["CONNACK success"]);
    world.subscribe(conn, "t", Q1);
    world.publish(conn, "t", Q0, "x");
    assert_eq!(world.got(conn), ["t x q0"]);
    world.lose(conn);
    assert_eq!(world.table_records(), 0);
    let conn = world.open("a", &v5());
    assert_eq!(world.got(conn), ["CONNACK success"]);
}

/// What a session took back stays with it to its end, though that comes before the log has it: its
/// place is another session's then.
#[test]
fn a_session_that_ends_while_it_unsubscribes_leaves_no_subscription_behind() {
    for filter in ["t", "$share/g/t"] {
        let mut world = World::new();
        let from = world.connect("from", &v5());
        let conn = world.connect("a", &lasting(60));
        world.subscribe(conn, filter, Q1);
        world.hold_appends = true;
        world.unsubscribe(conn, filter);
        let next = world.open("a", &v5());
        world.hold_appends = false;
        world.settle();
        assert_eq!(world.got(next), ["CONNACK success"]);
        world.publish(from, "t", Q1, "x");
        assert!(world.got(next).is_empty(), "it has subscribed to nothing");
        world.lose(next);
        world.publish(from, "t", Q1, "x");
    }
}

/// A session that does not outlive its connection any more changes what it is subscribed to at once,
/// but not before what still waits for the log.
#[test]
fn changes_of_a_session_keep_their_order_when_it_is_persistent_no_more() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let conn = world.connect("a", &lasting(60));
    world.hold_appends = true;
    world.subscribe_with(conn, "t", SubscribeOptions::qos(Q1), None);
    let mut hello = lasting(60);
    hello.properties.session_expiry_s = 0;
    let next = world.open("a", &hello);
    world.unsubscribe(next, "t");
    world.hold_appends = false;
    world.settle();
    world.got(next);
    world.publish(from, "t", Q1, "x");
    assert!(world.got(next).is_empty(), "it has taken that back");
    world.lose(next);
    world.publish(from, "t", Q1, "x");
}

#[test]
fn a_session_with_expiry_is_resumed_with_its_subscriptions() {
    let mut world = World::new();
    let conn = world.open("a", &lasting(60));
    assert_eq!(world.got(conn), ["CONNACK success"]);
    world.subscribe(conn, "t", Q1);
    world.lose(conn);
    let other = world.connect("b", &v5());
    world.publish(other, "t", Q1, "owed");
    assert_eq!(
        world.got(other),
        ["PUBACK 10"],
        "an offline session is a subscriber"
    );
    let conn = world.open("a", &lasting(60));
    assert_eq!(world.got(conn), ["CONNACK success present", "t owed q1 #1"]);
}

#[test]
fn clean_start_discards_the_session() {
    let mut world = World::new();
    let conn = world.connect("a", &lasting(60));
    world.subscribe(conn, "t", Q1);
    world.disconnect(conn, ReasonCode::Success);
    let mut hello = lasting(60);
    hello.clean_start = true;
    let conn = world.open("a", &hello);
    assert_eq!(world.got(conn), ["CONNACK success"]);
    let other = world.connect("b", &v5());
    world.publish(other, "t", Q1, "x");
    assert_eq!(world.got(other), ["PUBACK 10 no_matching_subscribers"]);
}

#[test]
fn mqtt_3_clean_session_false_lasts_for_ever() {
    let mut world = World::new();
    let conn = world.connect("a", &v311(false));
    world.subscribe(conn, "t", Q1);
    world.lose(conn);
    world.pass(1_000_000_000);
    let conn = world.open("a", &v311(false));
    assert_eq!(world.got(conn), ["CONNACK success present"]);
}

#[test]
fn an_expired_session_is_gone_and_an_infinite_one_is_not() {
    let mut world = World::new();
    for (client_id, expiry_s) in [("short", 10), ("ever", u32::MAX)] {
        let conn = world.connect(client_id, &lasting(expiry_s));
        world.lose(conn);
    }
    world.pass(9_999);
    assert_eq!(world.shards[0].stats().sessions, 2);
    world.pass(1);
    assert_eq!(world.shards[0].stats().sessions, 1);
    assert_eq!(world.shards[0].stats().sessions_expired, 1);
    let conn = world.open("short", &lasting(10));
    assert_eq!(world.got(conn), ["CONNACK success"]);
    let conn = world.open("ever", &lasting(10));
    assert_eq!(world.got(conn), ["CONNACK success present"]);
}

#[test]
fn a_resumed_session_does_not_expire_by_the_old_timer() {
    let mut world = World::new();
    let conn = world.connect("a", &lasting(10));
    world.lose(conn);
    world.pass(9_000);
    let conn = world.connect("a", &lasting(10));
    world.pass(5_000);
    assert!(!world.is_closed(conn));
    world.lose(conn);
    world.pass(9_000);
    assert_eq!(world.shards[0].stats().sessions, 1);
}

#[test]
fn expiry_is_capped_and_the_client_is_told() {
    let settings = BrokerSettings {
        session_expiry_s_max: Some(100),
        keep_alive_s_max: Some(30),
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[], settings);
    let mut hello = lasting(u32::MAX);
    hello.keep_alive_s = 60;
    let conn = world.open("a", &hello);
    assert_eq!(
        world.got(conn),
        ["CONNACK success expiry=100 keep_alive=30"]
    );
}

#[test]
fn takeover_tells_the_old_connection_and_keeps_the_session() {
    let mut world = World::with_hooks(&[
        (Event::ClientConnected, "#", "events"),
        (Event::ClientDisconnected, "#", "events"),
    ]);
    let old = world.connect("a", &lasting(60));
    world.subscribe(old, "t", Q1);
    let new = world.open("a", &lasting(60));
    assert_eq!(world.got(old), ["DISCONNECT session_taken_over"]);
    assert!(world.is_closed(old));
    assert_eq!(world.got(new), ["CONNACK success present"]);
    let discarded = {
        let mut hello = lasting(60);
        hello.clean_start = true;
        world.open("a", &hello)
    };
    assert_eq!(world.got(discarded), ["CONNACK success"]);
    let reasons: Vec<String> = world
        .values("events")
        .iter()
        .filter_map(|json| {
            Some(
                json.split_once("\"reason\":\"")?
                    .1
                    .split('"')
                    .next()?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(reasons, ["takenover", "discarded"]);
}

#[test]
fn late_inputs_of_a_closed_connection_are_ignored() {
    let mut world = World::new();
    let old = world.connect("a", &v5());
    let _new = world.connect("a", &v5());
    world.got(old);
    world.publish(old, "t", Q1, "late");
    world.lose(old);
    assert!(world.got(old).is_empty());
    assert_eq!(world.shards[0].stats().received, [0, 0, 0]);
}

#[test]
fn an_assigned_client_id_is_told_and_an_empty_one_refused_where_it_must() {
    let mut world = World::new();
    let mut hello = v5();
    hello.assigned = Some("auto-1");
    let conn = world.open("", &hello);
    assert_eq!(world.got(conn), ["CONNACK success id=auto-1"]);
    let conn = world.open("", &v311(false));
    assert_eq!(world.got(conn), ["CONNACK client_identifier_not_valid"]);
    assert!(world.is_closed(conn));
    let mut old = v311(true);
    old.version = Version::V31;
    old.assigned = Some("auto-2");
    let conn = world.open("", &old);
    assert_eq!(world.got(conn), ["CONNACK client_identifier_not_valid"]);
}

#[test]
fn the_connack_of_a_lasting_session_waits_for_its_record() {
    let mut world = World::new();
    world.hold_appends = true;
    let conn = world.open("a", &lasting(60));
    let clean = world.open("b", &v5());
    assert!(world.got(conn).is_empty());
    assert_eq!(world.got(clean), ["CONNACK success"]);
    world.send(conn, &publish("t", Q1, "early"));
    world.hold_appends = false;
    world.settle();
    assert_eq!(
        world.got(conn),
        ["CONNACK success", "PUBACK 10 no_matching_subscribers"]
    );
}

#[test]
fn a_second_connect_and_what_only_servers_send_are_protocol_errors() {
    let mut world = World::new();
    let conn = world.connect("a", &v5());
    world.send(conn, &Packet::Pingresp);
    assert_eq!(world.got(conn), ["DISCONNECT protocol_error"]);
    assert!(world.is_closed(conn));
    let conn = world.connect("b", &v311(true));
    world.send(conn, &Packet::Pingresp);
    assert!(
        world.got(conn).is_empty(),
        "MQTT 3 is cut off without a word"
    );
    assert!(world.is_closed(conn));
}

#[test]
fn pings_are_answered_and_keep_alive_ends_a_silent_connection() {
    let mut world = World::new();
    let conn = world.connect("a", &v5());
    world.send(conn, &Packet::Pingreq);
    assert_eq!(world.got(conn), ["PINGRESP"]);
    world.close(conn, CloseCause::KeepAliveTimeout);
    assert_eq!(world.got(conn), ["DISCONNECT keep_alive_timeout"]);
    assert!(world.is_closed(conn));
}

#[test]
fn disconnect_may_shorten_the_expiry_but_not_invent_one() {
    let mut world = World::new();
    let goodbye = |expiry_s| {
        Packet::Disconnect(Disconnect {
            session_expiry_s: Some(expiry_s),
            ..Disconnect::new(ReasonCode::Success)
        })
    };
    let conn = world.connect("a", &lasting(60));
    world.send(conn, &goodbye(0));
    assert_eq!(
        world.shards[0].stats().sessions,
        0,
        "the session ended with its connection"
    );
    let conn = world.connect("b", &v5());
    world.send(conn, &goodbye(5));
    assert_eq!(world.got(conn), ["DISCONNECT protocol_error"]);
    let conn = world.connect("c", &lasting(60));
    world.send(conn, &goodbye(5));
    world.pass(5_000);
    assert_eq!(world.shards[0].stats().sessions, 0);
}

#[test]
fn a_kick_and_a_drain_say_why() {
    let mut world = World::new();
    let kicked = world.connect("a", &v5());
    let other = world.connect("b", &v5());
    world.kick("a");
    assert_eq!(world.got(kicked), ["DISCONNECT administrative_action"]);
    // A device that has just gone loses nothing.
    let gone = world.connect("gone", &lasting(600));
    world.subscribe(gone, "t", Q1);
    world.lose(gone);
    world.kick("gone");
    world.publish(other, "t", Q1, "owed");
    world.got(other);
    let back = world.connect("gone", &lasting(600));
    assert_eq!(world.got(back), ["t owed q1 #1"]);
    world.each(|| Input::Drain);
    assert_eq!(world.got(other), ["DISCONNECT server_shutting_down"]);
    let late = world.open("c", &v5());
    assert_eq!(world.got(late), ["CONNACK server_unavailable"]);
}

#[test]
fn unsubscribe_answers_each_filter_and_ends_the_deliveries() {
    let mut world = World::new();
    let conn = world.connect("a", &v5());
    world.subscribe(conn, "t", Q0);
    world.unsubscribe(conn, "t");
    assert_eq!(world.got(conn), ["UNSUBACK 2 success"]);
    world.unsubscribe(conn, "t");
    assert_eq!(world.got(conn), ["UNSUBACK 2 no_subscription_existed"]);
    world.publish(conn, "t", Q0, "x");
    assert!(world.got(conn).is_empty());
}

#[test]
fn several_filters_get_one_suback_with_a_reason_each() {
    let settings = BrokerSettings {
        subscriptions_max: 2,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[], settings);
    let conn = world.connect("a", &v5());
    let options = SubscribeOptions::qos(QoS::ExactlyOnce);
    let deep = "x/".repeat(200);
    let filters = [
        ("a", options),
        (deep.as_str(), options),
        ("b", options),
        ("c", options),
    ];
    world.send(
        conn,
        &Packet::Subscribe(Subscribe {
            packet_id: 7,
            subscription_id: None,
            user: UserProperties::EMPTY,
            filters: Filters::from_slice(&filters),
        }),
    );
    let expected = "SUBACK 7 granted_qos_2,topic_filter_invalid,granted_qos_2,quota_exceeded";
    assert_eq!(world.got(conn), [expected]);
}

#[test]
fn a_refused_turn_is_never_a_success() {
    let mut world = World::new();
    let five = world.connect("five", &v5());
    let three = world.connect("three", &v311(true));
    world.refuse = true;
    world.publish(five, "t", Q1, "x");
    assert_eq!(world.got(five), ["PUBACK 10 quota_exceeded"]);
    world.publish(five, "t", QoS::ExactlyOnce, "x");
    assert_eq!(world.got(five), ["PUBREC 10 quota_exceeded"]);
    world.publish(three, "t", Q1, "x");
    assert!(world.got(three).is_empty() && world.is_closed(three));
    let lasting_one = world.open("lasting", &lasting(60));
    assert_eq!(world.got(lasting_one), ["CONNACK quota_exceeded"]);
    assert!(world.is_closed(lasting_one));
    world.refuse = false;
    world.publish(five, "t", Q1, "x");
    assert_eq!(world.got(five), ["PUBACK 10 no_matching_subscribers"]);
}
