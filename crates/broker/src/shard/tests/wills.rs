//! When wills are published and when they are not.

use crate::harness::{Hello, World, lasting, v5, v311};
use crate::input::CloseCause;
use mqtt::{Disconnect, Packet, QoS, ReasonCode, Will, WillProperties};

pub(super) fn with_will(mut hello: Hello<'_>, delay_s: u32) -> Hello<'_> {
    hello.will = Some(Will {
        topic: "will",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: WillProperties {
            delay_s,
            expiry_s: Some(30),
            content_type: Some("text"),
            ..WillProperties::default()
        },
    });
    hello
}

pub(super) fn watcher(world: &mut World) -> crate::input::ConnId {
    let conn = world.connect("watcher", &v5());
    world.subscribe(conn, "will", QoS::AtMostOnce);
    conn
}

pub(super) const WILL: &str = "will gone q0 expiry=30 type=text";

#[test]
fn a_lost_connection_publishes_the_will_and_a_normal_goodbye_does_not() {
    let mut world = World::new();
    let watcher = watcher(&mut world);
    let conn = world.connect("a", &with_will(v5(), 0));
    world.disconnect(conn, ReasonCode::Success);
    assert!(world.got(watcher).is_empty());
    let conn = world.connect("a", &with_will(v5(), 0));
    world.lose(conn);
    assert_eq!(world.got(watcher), [WILL]);
    let conn = world.connect("a", &with_will(v5(), 0));
    world.disconnect(conn, ReasonCode::DisconnectWithWill);
    assert_eq!(world.got(watcher), [WILL]);
    let conn = world.connect("a", &with_will(v311(true), 0));
    world.close(conn, CloseCause::KeepAliveTimeout);
    assert_eq!(world.got(watcher), [WILL]);
}

#[test]
fn a_will_is_in_the_table_until_it_is_given_up() {
    let mut world = World::new();
    world.hold_appends = true;
    let conn = world.open("a", &with_will(v5(), 0));
    assert!(
        world.got(conn).is_empty(),
        "CONNACK waits for the will's record"
    );
    world.hold_appends = false;
    world.settle();
    assert_eq!(world.table_records(), 1);
    world.disconnect(conn, ReasonCode::Success);
    assert_eq!(world.table_records(), 2, "a tombstone");
}

#[test]
fn a_delayed_will_waits_and_is_given_up_when_the_client_returns() {
    let mut world = World::new();
    let watcher = watcher(&mut world);
    let conn = world.connect("a", &with_will(lasting(60), 10));
    world.lose(conn);
    world.pass(9_000);
    assert!(world.got(watcher).is_empty());
    let conn = world.connect("a", &with_will(lasting(60), 10));
    world.pass(9_000);
    assert!(world.got(watcher).is_empty(), "back in time");
    world.lose(conn);
    world.pass(10_000);
    assert_eq!(world.got(watcher), [WILL]);
    world.pass(60_000);
    assert!(world.got(watcher).is_empty(), "once");
}

#[test]
fn the_end_of_the_session_is_the_end_of_the_delay() {
    let mut world = World::new();
    let watcher = watcher(&mut world);
    let conn = world.connect("a", &with_will(lasting(5), 100));
    world.lose(conn);
    world.pass(5_000);
    assert_eq!(world.got(watcher), [WILL]);
    let conn = world.connect("a", &with_will(lasting(60), 100));
    world.lose(conn);
    let mut clean = lasting(60);
    clean.clean_start = true;
    world.connect("a", &clean);
    assert_eq!(world.got(watcher), [WILL], "clean start ends the session");
    let goodbye = Packet::Disconnect(Disconnect {
        session_expiry_s: Some(0),
        ..Disconnect::new(ReasonCode::DisconnectWithWill)
    });
    let conn = world.connect("b", &with_will(lasting(60), 100));
    world.send(conn, &goodbye);
    assert_eq!(world.got(watcher), [WILL]);
}

#[test]
fn a_takeover_publishes_a_will_without_delay_only() {
    let mut world = World::new();
    let watcher = watcher(&mut world);
    world.connect("a", &with_will(lasting(60), 0));
    world.connect("a", &with_will(lasting(60), 10));
    assert_eq!(world.got(watcher), [WILL]);
    world.connect("a", &lasting(60));
    world.pass(20_000);
    assert!(world.got(watcher).is_empty(), "the session went on");
}

#[test]
fn a_will_that_a_full_disk_refused_is_published_when_there_is_room() {
    let mut world = World::new();
    let watcher = watcher(&mut world);
    let conn = world.connect("a", &with_will(v5(), 0));
    world.refuse = true;
    world.lose(conn);
    world.pass(200);
    world.pass(200);
    assert!(world.got(watcher).is_empty());
    world.refuse = false;
    world.pass(200);
    assert_eq!(world.got(watcher), [WILL]);
    world.pass(1_000);
    assert!(world.got(watcher).is_empty(), "once");
    // And its record is gone with it: no restart publishes it again.
    world.restart(1, 0);
    let watcher = self::watcher(&mut world);
    world.pass(1_000);
    assert!(world.got(watcher).is_empty());
}
