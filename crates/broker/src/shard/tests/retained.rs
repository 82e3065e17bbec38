//! Retained messages: to new subscriptions, by retain handling, as of the subscription.

use crate::harness::{World, lasting, publish_with, v5};
use crate::hooks::Event;
use mqtt::{
    Filters, Packet, PublishProperties, QoS, RetainHandling, Subscribe, SubscribeOptions,
    UserProperties,
};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;

fn retain(world: &mut World, topic: &str, payload: &str) {
    let conn = world.connect("retainer", &v5());
    let packet = publish_with(topic, Q1, true, payload, PublishProperties::default());
    world.send(conn, &packet);
}

#[test]
fn a_new_subscription_gets_what_is_retained_with_the_flag_set() {
    let mut world = World::new();
    for (topic, payload) in [
        ("a/1", "one"),
        ("a/2", "two"),
        ("a/3", "three"),
        ("b", "other"),
    ] {
        retain(&mut world, topic, payload);
    }
    let conn = world.connect("c", &v5());
    world.subscribe_with(conn, "a/+", SubscribeOptions::qos(Q1), Some(9));
    assert_eq!(
        world.got(conn),
        [
            "SUBACK 1 granted_qos_1",
            "a/1 one q1 #1 retain ids=9",
            "a/2 two q1 #2 retain ids=9",
            "a/3 three q1 #3 retain ids=9"
        ],
        "in pages of two"
    );
    retain(&mut world, "a/1", "");
    let conn = world.connect("d", &v5());
    world.subscribe(conn, "a/1", Q0);
    assert!(world.got(conn).is_empty(), "an empty payload takes it away");
}

#[test]
fn live_messages_have_the_flag_only_if_asked_for() {
    let mut world = World::new();
    let plain = world.connect("plain", &v5());
    world.subscribe(plain, "t", Q0);
    let as_published = world.connect("asking", &v5());
    let options = SubscribeOptions {
        retain_as_published: true,
        ..SubscribeOptions::qos(Q0)
    };
    world.subscribe_with(as_published, "t", options, None);
    world.got(as_published);
    retain(&mut world, "t", "x");
    assert_eq!(world.got(plain), ["t x q0"]);
    assert_eq!(world.got(as_published), ["t x q0 retain"]);
}

#[test]
fn retain_handling_says_when_they_are_sent() {
    for (handling, first, again) in [
        (RetainHandling::Send, true, true),
        (RetainHandling::SendIfNew, true, false),
        (RetainHandling::DoNotSend, false, false),
    ] {
        let mut world = World::new();
        retain(&mut world, "t", "x");
        let conn = world.connect("c", &v5());
        let options = SubscribeOptions {
            retain_handling: handling,
            ..SubscribeOptions::qos(Q0)
        };
        for expected in [first, again] {
            world.subscribe_with(conn, "t", options, None);
            assert_eq!(
                world.got(conn).len(),
                1 + usize::from(expected),
                "{handling:?}"
            );
        }
    }
}

#[test]
fn retained_messages_beyond_the_window_follow_and_are_owed() {
    let mut world = World::new();
    for number in 0..5 {
        retain(&mut world, &format!("a/{number}"), "x");
    }
    let hello = lasting(60).with_window(2);
    let conn = world.connect("c", &hello);
    world.subscribe(conn, "a/+", Q1);
    assert_eq!(
        world.got(conn),
        ["a/0 x q1 #1 retain", "a/1 x q1 #2 retain"]
    );
    world.restart(1, 0);
    let conn = world.open("c", &lasting(60));
    assert_eq!(
        world.got(conn)[1..],
        [
            "a/0 x q1 #1 dup retain",
            "a/1 x q1 #2 dup retain",
            "a/2 x q1 #3 retain",
            "a/3 x q1 #4 retain",
            "a/4 x q1 #5 retain"
        ]
    );
}

#[test]
fn a_retained_message_expires() {
    let mut world = World::new();
    let conn = world.connect("retainer", &v5());
    let properties = PublishProperties {
        expiry_s: Some(10),
        ..PublishProperties::default()
    };
    world.send(conn, &publish_with("t", Q1, true, "x", properties));
    world.pass(4_000);
    let conn = world.connect("c", &v5());
    world.subscribe(conn, "t", Q0);
    assert_eq!(world.got(conn), ["t x q0 retain expiry=6"]);
    world.pass(6_000);
    let conn = world.connect("d", &v5());
    world.subscribe(conn, "t", Q0);
    assert!(world.got(conn).is_empty());
}

#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    let mut world = World::new();
    retain(&mut world, "t", "x");
    let conn = world.connect("c", &v5());
    world.subscribe(conn, "$share/g/t", Q1);
    assert!(world.got(conn).is_empty());
}

#[test]
fn what_came_after_the_subscription_is_not_sent_twice() {
    let mut world = World::new();
    retain(&mut world, "t", "old");
    let conn = world.connect("c", &lasting(60));
    let from = world.connect("from", &v5());
    world.hold_appends = true;
    world.subscribe_with(conn, "t", SubscribeOptions::qos(Q0), None);
    world.send(
        from,
        &publish_with("t", Q1, true, "new", PublishProperties::default()),
    );
    world.hold_appends = false;
    world.settle();
    let got = world.got(conn);
    assert_eq!(
        got.iter().filter(|line| line.contains("new")).count(),
        1,
        "{got:?}"
    );
}

#[test]
fn what_is_retained_in_the_turn_of_the_subscription_comes_once() {
    for hello in [v5(), lasting(60)] {
        let mut world = World::new();
        let to = world.connect("to", &hello);
        let from = world.connect("from", &v5());
        let retained =
            |topic, payload| publish_with(topic, Q1, true, payload, PublishProperties::default());
        world.send_unsettled(from, &retained("t/before", "1"));
        let filters = [("t/+", SubscribeOptions::qos(Q1))];
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscription_id: None,
            user: UserProperties::EMPTY,
            filters: Filters::from_slice(&filters),
        });
        world.send_unsettled(to, &subscribe);
        world.send_unsettled(from, &retained("t/behind", "2"));
        world.settle();
        let mut got = world.got(to);
        got.sort();
        assert_eq!(got.len(), 3, "{got:?}");
        assert!(got[1].starts_with("t/before 1 q1"), "{got:?}");
        assert!(got[2].starts_with("t/behind 2 q1"), "{got:?}");
    }
}

#[test]
fn what_waits_for_its_flush_comes_once_to_a_subscription_made_meanwhile() {
    for hello in [v5(), lasting(60)] {
        let mut world = World::with_hooks(&[(Event::MessagePublish, "t/#", "state")]);
        let other = world.connect("other", &v5());
        world.subscribe(other, "#", Q0);
        let to = world.connect("to", &hello);
        world.hold_flushes = true;
        retain(&mut world, "t/1", "flushed later");
        world.subscribe(to, "t/+", Q1);
        world.hold_flushes = false;
        world.settle();
        let got = world.got(to);
        assert_eq!(got.len(), 1, "{got:?}");
        assert!(got[0].starts_with("t/1 flushed later q1 #1"), "{got:?}");
    }
}
