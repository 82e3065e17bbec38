//! Records name who published: the connection's address, and as whom it authenticated.

use super::wills::with_will;
use crate::harness::{Hello, World, lasting, v5};
use crate::hooks::Event;
use crate::input::{Admitted, Peer};
use mqtt::QoS;

const PUBLISHED: (Event, &str, &str) = (Event::MessagePublish, "h/#", "events");

/// The client of a user at `address`, who has proved to be it or not.
fn of<'a>(mut hello: Hello<'a>, address: &str, proved: bool) -> Hello<'a> {
    hello.username = Some("ann");
    hello.peer = Peer {
        address: Some(address.parse().unwrap()),
    };
    hello.admitted = Admitted {
        proved,
        ..Admitted::default()
    };
    hello
}

#[test]
fn a_record_names_the_address_and_the_proved_user_of_its_publisher() {
    let mut world = World::with_hooks(&[PUBLISHED]);
    let known = world.connect("a", &of(v5(), "10.0.0.7:4321", true));
    let named = world.connect("b", &of(v5(), "[2001:db8::1]:5", false));
    let local = world.connect("c", &v5());
    for topic in ["h/x", "other"] {
        for conn in [known, named, local] {
            world.publish(conn, topic, QoS::AtLeastOnce, "1");
        }
    }
    world.settle();
    let mut want = ["10.0.0.7:4321 ann", "[2001:db8::1]:5 -", "- -"];
    assert_eq!(world.publishers("events"), want);
    let mut raw = world.publishers("mqtt.default");
    raw.sort();
    want.sort_unstable();
    assert_eq!(raw, want, "without a hook too");
}

#[test]
fn what_is_told_of_a_delivery_names_the_publisher_even_when_it_was_read_back() {
    let mut world = World::with_hooks(&[
        PUBLISHED,
        (Event::MessageAcked, "h/now", "events"),
        (Event::MessageAcked, "h/owed", "events"),
    ]);
    let reader = world.connect("r", &of(lasting(600), "10.0.0.9:9", true));
    world.subscribe(reader, "h/#", QoS::AtLeastOnce);
    let known = world.connect("a", &of(v5(), "10.0.0.7:4321", true));
    world.publish(known, "h/now", QoS::AtLeastOnce, "1");
    world.puback(reader, 1);
    world.lose(reader);
    world.publish(known, "h/owed", QoS::AtLeastOnce, "2");
    world.restart(1, 1_000);
    let reader = world.open("r", &of(lasting(600), "10.0.0.9:10", true));
    assert_eq!(
        world.got(reader),
        ["CONNACK success present", "h/owed 2 q1 #2"]
    );
    world.puback(reader, 2);
    world.settle();
    assert_eq!(world.publishers("events"), ["10.0.0.7:4321 ann"; 4]);
}

#[test]
fn a_will_names_the_connection_that_brought_it_even_after_a_restart() {
    for (proved, want) in [(true, "10.0.0.7:4321 ann"), (false, "10.0.0.7:4321 -")] {
        let mut world = World::with_hooks(&[(Event::MessagePublish, "will", "events")]);
        let hello = of(with_will(lasting(600), 0), "10.0.0.7:4321", proved);
        let conn = world.connect("a", &hello);
        world.lose(conn);
        world.connect("a", &hello);
        world.restart(1, 1_000);
        assert_eq!(world.publishers("events"), [want; 2]);
    }
}
