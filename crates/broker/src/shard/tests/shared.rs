//! Shared subscriptions: one member gets each message; what a member cannot finish, another does.

use crate::harness::{World, lasting, publish_id, v5};
use crate::hooks::Event;
use crate::input::ConnId;
use crate::settings::{BrokerSettings, SharedStrategy};
use crate::turn::DropReason;
use mqtt::{QoS, SubscribeOptions};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

fn payloads(world: &mut World, conn: ConnId) -> Vec<String> {
    let lines = world
        .got(conn)
        .into_iter()
        .filter(|line| line.starts_with("t "));
    lines
        .map(|line| line.split(' ').nth(1).unwrap().to_owned())
        .collect()
}

fn members(world: &mut World, count: usize, qos: QoS) -> Vec<ConnId> {
    (0..count)
        .map(|number| {
            let conn = world.connect(&format!("m{number}"), &v5());
            world.subscribe(conn, "$share/g/t", qos);
            conn
        })
        .collect()
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    for workers in [1, 4] {
        for qos in [Q0, Q1, Q2] {
            let mut world = World::with(workers, &[], BrokerSettings::default());
            let members = members(&mut world, 3, qos);
            let alone = world.connect("alone", &v5());
            world.subscribe(alone, "t", Q0);
            let from = world.connect("from", &v5());
            for number in 0..6_u16 {
                let payload = number.to_string();
                world.send(from, &publish_id("t", qos, number + 1, &payload));
            }
            assert_eq!(payloads(&mut world, alone).len(), 6);
            let mut all = Vec::new();
            for &member in &members {
                let got = payloads(&mut world, member);
                assert_eq!(got.len(), 2, "{workers} workers, {qos:?}");
                all.extend(got);
            }
            all.sort();
            assert_eq!(all, ["0", "1", "2", "3", "4", "5"]);
        }
    }
}

#[test]
fn sticky_stays_with_one_member_until_it_leaves() {
    let settings = BrokerSettings {
        shared_strategy: SharedStrategy::Sticky,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[], settings);
    let members = members(&mut world, 2, Q0);
    let from = world.connect("from", &v5());
    for payload in ["1", "2"] {
        world.publish(from, "t", Q0, payload);
    }
    assert_eq!(payloads(&mut world, members[0]), ["1", "2"]);
    world.unsubscribe(members[0], "$share/g/t");
    world.publish(from, "t", Q0, "3");
    assert_eq!(payloads(&mut world, members[1]), ["3"]);
}

#[test]
fn qos_1_of_a_member_that_dies_goes_to_another() {
    for workers in [1, 4] {
        let mut world = World::with(workers, &[], BrokerSettings::default());
        let members = members(&mut world, 2, Q1);
        let from = world.connect("from", &v5());
        for number in 0..4_u16 {
            world.send(from, &publish_id("t", Q1, number + 1, &number.to_string()));
        }
        let first = payloads(&mut world, members[0]);
        assert_eq!(first.len(), 2);
        world.puback(members[0], 1);
        let mut second = payloads(&mut world, members[1]);
        world.lose(members[0]);
        second.extend(payloads(&mut world, members[1]));
        assert_eq!(second.len(), 3, "its own two and the one not acknowledged");
        assert!(second.contains(&first[1]));
    }
}

#[test]
fn a_full_window_sends_the_next_message_elsewhere_and_then_to_the_queue() {
    let mut world = World::new();
    let hello = v5().with_window(1);
    let mut members = Vec::new();
    for client_id in ["a", "b"] {
        let conn = world.connect(client_id, &hello);
        world.subscribe(conn, "$share/g/t", Q1);
        members.push(conn);
    }
    let from = world.connect("from", &v5());
    for number in 0..4_u16 {
        world.send(from, &publish_id("t", Q1, number + 1, &number.to_string()));
    }
    assert_eq!(payloads(&mut world, members[0]), ["0"]);
    assert_eq!(payloads(&mut world, members[1]), ["1"]);
    world.puback(members[1], 1);
    assert_eq!(payloads(&mut world, members[1]), ["2"]);
    world.puback(members[0], 1);
    assert_eq!(payloads(&mut world, members[0]), ["3"]);
}

#[test]
fn offline_members_are_used_only_when_none_is_online_and_get_it_when_they_return() {
    let mut world = World::new();
    let lasting_one = world.connect("lasting", &lasting(60));
    world.subscribe(lasting_one, "$share/g/t", Q1);
    let other = world.connect("other", &v5());
    world.subscribe(other, "$share/g/t", Q1);
    world.lose(lasting_one);
    let from = world.connect("from", &v5());
    for payload in ["1", "2"] {
        world.publish(from, "t", Q1, payload);
    }
    assert_eq!(payloads(&mut world, other), ["1", "2"]);
    world.puback(other, 1);
    world.puback(other, 2);
    world.disconnect(other, mqtt::ReasonCode::Success);
    world.publish(from, "t", Q1, "3");
    assert!(
        world.got(from).last().unwrap().ends_with("10"),
        "somebody is subscribed"
    );
    let lasting_one = world.open("lasting", &lasting(60));
    assert_eq!(payloads(&mut world, lasting_one), ["3"]);
}

#[test]
fn a_group_survives_a_restart_with_what_it_owes() {
    for workers in [1, 3] {
        let mut world = World::with(2, &[], BrokerSettings::default());
        let a = world.connect("a", &lasting(600));
        world.subscribe(a, "$share/g/t", Q1);
        let from = world.connect("from", &v5());
        world.publish(from, "t", Q1, "done");
        world.puback(a, 1);
        world.publish(from, "t", Q1, "unfinished");
        world.lose(a);
        world.publish(from, "t", Q1, "owed");
        world.restart(workers, 1_000);
        let from = world.connect("from", &v5());
        world.publish(from, "t", Q1, "new");
        let a = world.open("a", &lasting(600));
        assert_eq!(payloads(&mut world, a), ["unfinished", "owed", "new"]);
    }
}

#[test]
fn a_qos_2_pick_never_moves() {
    let mut world = World::new();
    let a = world.connect("a", &lasting(600));
    world.subscribe(a, "$share/g/t", Q2);
    let from = world.connect("from", &v5());
    world.publish(from, "t", Q2, "x");
    assert_eq!(payloads(&mut world, a), ["x"]);
    let b = world.connect("b", &lasting(600));
    world.subscribe(b, "$share/g/t", Q2);
    world.lose(a);
    assert!(payloads(&mut world, b).is_empty());
    world.restart(1, 1_000);
    let b = world.open("b", &lasting(600));
    assert!(payloads(&mut world, b).is_empty());
    let a = world.open("a", &lasting(600));
    assert_eq!(world.got(a), ["CONNACK success present", "t x q2 #1 dup"]);
    world.pubrec(a, 1);
    world.pubcomp(a, 1);
    world.lose(a);
    assert!(payloads(&mut world, b).is_empty());
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut world = World::new();
    let conn = world.connect("a", &v5());
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::qos(Q1)
    };
    world.subscribe_with(conn, "$share/g/t", options, None);
    assert_eq!(world.got(conn), ["DISCONNECT protocol_error"]);
}

#[test]
fn what_a_group_has_no_room_for_is_counted_and_told() {
    let settings = BrokerSettings {
        inbox_max: 2,
        ..BrokerSettings::default()
    };
    let hooks = [(Event::MessageDropped, "#", "events")];
    let mut world = World::with(1, &hooks, settings);
    let member = world.connect("member", &lasting(600));
    world.subscribe(member, "$share/g/t", Q1);
    world.lose(member);
    let from = world.connect("from", &v5());
    for payload in ["1", "2", "3"] {
        world.publish(from, "t", Q1, payload);
    }
    assert_eq!(
        world.shards[0].stats().dropped[DropReason::QueueFull as usize],
        1
    );
    let told = world.values("events");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("queue_full") && told[0].contains("\"payload\":\"3\""));
    world.restart(1, 0);
    let member = world.open("member", &lasting(600));
    assert_eq!(payloads(&mut world, member), ["1", "2"]);
}
