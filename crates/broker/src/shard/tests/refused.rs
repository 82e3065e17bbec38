//! What the log refuses: it is written again, in turns of a bounded size, before anything newer of its
//! owner, and no snapshot says that it is there.

use super::wills::{WILL, watcher, with_will};
use crate::harness::{World, lasting, publish_id, v5};
use crate::hooks::Event;
use crate::input::{ConnId, Input};
use crate::limits::STEP_BYTES;
use crate::settings::BrokerSettings;
use mqtt::QoS;

const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// An entry may be larger than a step by what one owner has lost.
const ENTRY_BYTES_MAX: usize = STEP_BYTES + 64 * 1024;

#[test]
fn more_than_an_entry_holds_is_written_again_in_several() {
    let mut world = World::with_hooks(&[(Event::ClientDisconnected, "#", "state")]);
    let conns: Vec<_> = (0..6_000)
        .map(|number| world.connect(&format!("client {number}"), &lasting(600)))
        .collect();
    world.refuse = true;
    for conn in conns {
        world.lose(conn);
    }
    world.refuse = false;
    world.entry_bytes_max = ENTRY_BYTES_MAX;
    let before = world.table_records();
    world.pass(1_000);
    assert_eq!(world.table_records() - before, 6_000);
    assert_eq!(world.values("state").len(), 6_000);
    assert!(world.largest_entry > STEP_BYTES, "it took several entries");
    world.each(|| Input::Snapshot);
    assert!(world.shards[0].shards_at() > 0);
}

#[test]
fn deliveries_that_were_refused_are_journalled_again_in_several_turns() {
    let settings = BrokerSettings {
        inflight_max: 20_000,
        receive_maximum: 20_000,
        inbox_max: 20_000,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[], settings);
    let from = world.connect("from", &v5());
    let to = world.connect(&"long name ".repeat(40), &lasting(600));
    world.subscribe(to, "t", Q2);
    let count = 2_000;
    world.hold_appends = true;
    for number in 0..count {
        world.send_unsettled(from, &publish_id("t", Q2, 10, &number.to_string()));
        world.pubrel(from, 10);
    }
    world.refuse = true;
    world.hold_appends = false;
    world.settle();
    world.got(to);
    world.refuse = false;
    world.entry_bytes_max = ENTRY_BYTES_MAX;
    world.pass(200);
    let got = world.got(to);
    assert_eq!(got.len(), count);
    assert!(got[0].starts_with("t 0 q2") && got[count - 1].starts_with("t 1999 q2"));
}

#[test]
fn a_full_journal_takes_what_a_snapshot_waits_for() {
    let mut world = World::new();
    let watcher = watcher(&mut world);
    let conn = world.connect("a", &with_will(lasting(600), 0));
    // More than one turn holds besides.
    let long = "long name ".repeat(40);
    let others: Vec<_> = (0..2_000)
        .map(|number| world.connect(&format!("{long}{number}"), &lasting(600)))
        .collect();
    world.full = true;
    world.lose(conn);
    for conn in others {
        world.lose(conn);
    }
    world.pass(1_000);
    assert!(world.got(watcher).is_empty());
    let before = world.shards[0].shards_at();
    world.each(|| Input::Snapshot);
    world.pass(200);
    assert_eq!(world.got(watcher), [WILL]);
    assert!(world.shards[0].shards_at() > before);
    world.restart(1, 0);
    let watcher = self::watcher(&mut world);
    world.pass(1_000);
    assert!(world.got(watcher).is_empty(), "once");
}

#[test]
fn a_snapshot_waits_until_nothing_is_lost() {
    let mut world = World::with_hooks(&[(Event::MessageAcked, "#", "events")]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q1);
    world.publish(from, "t", Q1, "1");
    world.refuse = true;
    world.puback(to, 1);
    world.refuse = false;
    let before = world.shards[0].shards_at();
    world.each(|| Input::Snapshot);
    assert_eq!(world.shards[0].shards_at(), before);
    assert!(world.values("events").is_empty());
    world.pass(200);
    assert_eq!(world.values("events").len(), 1);
    assert!(world.shards[0].shards_at() > before);
}

#[test]
fn a_snapshot_is_refused_with_a_turn_before_it() {
    for with_event in [false, true] {
        let hooks = [(Event::MessageAcked, "#", "events")];
        let mut world = World::with_hooks(if with_event { &hooks } else { &[] });
        let from = world.connect("from", &v5());
        let to = world.connect("to", &lasting(600));
        world.subscribe(to, "t", Q1);
        world.hold_appends = true;
        world.publish(from, "t", Q1, "1");
        // The message is in the log, but the record of its delivery is not, nor will be.
        (world.refuse, world.hold_refusals) = (true, true);
        world.hold_appends = false;
        world.settle();
        assert_eq!(world.got(to), ["t 1 q1 #1"]);
        world.refuse = false;
        world.each(|| Input::Snapshot);
        world.restart(1, 0);
        let to = world.open("to", &lasting(600));
        assert_eq!(
            world.got(to)[1..],
            ["t 1 q1 #1"],
            "its client may not have it"
        );
    }
}

#[test]
fn no_snapshot_forgets_a_will_whose_publish_was_refused() {
    let mut world = World::new();
    let conn = world.connect("a", &with_will(lasting(600), 0));
    (world.refuse, world.hold_refusals) = (true, true);
    world.lose(conn);
    world.refuse = false;
    world.each(|| Input::Snapshot);
    world.restart(1, 0);
    assert_eq!(world.values("mqtt.default"), ["gone"]);
}

#[test]
fn a_will_that_was_refused_goes_before_newer_messages_of_its_client() {
    let mut world = World::new();
    let watcher = watcher(&mut world);
    let conn = world.connect("a", &with_will(v5(), 0));
    world.refuse = true;
    world.lose(conn);
    world.refuse = false;
    let conn = world.connect("a", &v5());
    world.publish(conn, "will", Q1, "here again");
    assert_eq!(world.got(watcher), [WILL, "will here again q0"]);
    world.pass(1_000);
    assert!(world.got(watcher).is_empty(), "once");
}

#[test]
fn nothing_follows_a_will_of_its_client_that_is_about_to_be_refused() {
    let mut world = World::new();
    let watcher = watcher(&mut world);
    let conn = world.connect("a", &with_will(v5(), 0));
    (world.refuse, world.hold_refusals) = (true, true);
    world.lose(conn);
    world.refuse = false;
    let conn = world.connect("a", &v5());
    world.publish(conn, "will", Q1, "too early");
    world.hold_refusals = false;
    world.settle();
    assert_eq!(world.got(conn), ["PUBACK 10 quota_exceeded"]);
    world.publish(conn, "will", Q1, "here again");
    assert_eq!(world.got(watcher), [WILL, "will here again q0"]);
}

#[test]
fn the_event_of_an_acknowledgement_goes_with_whatever_takes_its_place() {
    let mut world = World::with_hooks(&[(Event::MessageAcked, "#", "events")]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q1);
    world.publish(from, "t", Q1, "1");
    world.refuse = true;
    world.puback(to, 1);
    world.refuse = false;
    // A crash right behind the next record of the session must not find the event missing.
    world.publish(from, "t", Q1, "2");
    world.restart(1, 0);
    assert_eq!(world.values("events").len(), 1);
    let to = world.open("to", &lasting(600));
    let got = world.got(to);
    assert_eq!(got.len(), 2, "{got:?}");
    assert!(got[1].starts_with("t 2 q1"), "{got:?}");
}

/// Two messages are acknowledged, in two turns; the log refuses the first, and the shard does not
/// hear of that before the second is on its way.
fn acknowledged_while_a_refusal_is_on_its_way() -> (World, ConnId) {
    let mut world = World::with_hooks(&[(Event::MessageAcked, "#", "events")]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "#", Q1);
    for topic in ["1", "2"] {
        world.publish(from, topic, Q1, "x");
    }
    world.got(to);
    (world.refuse, world.hold_refusals) = (true, true);
    world.puback(to, 1);
    world.refuse = false;
    world.puback(to, 2);
    (world, from)
}

fn topics(world: &World) -> Vec<String> {
    let topic = |value: String| value.split("\"topic\":").nth(1).unwrap()[1..2].to_owned();
    world.values("events").into_iter().map(topic).collect()
}

#[test]
fn events_keep_their_order_when_an_earlier_turn_is_refused() {
    let (mut world, _) = acknowledged_while_a_refusal_is_on_its_way();
    world.hold_refusals = false;
    world.settle();
    world.pass(200);
    assert_eq!(topics(&world), ["1", "2"]);
    world.restart(1, 0);
    let to = world.open("to", &lasting(600));
    assert_eq!(world.got(to)[1..], [""; 0], "both were acknowledged");
}

#[test]
fn a_crash_takes_an_event_and_the_end_of_its_delivery_or_neither() {
    // A newer message takes the packet id of the one whose end the log refused.
    let (mut world, from) = acknowledged_while_a_refusal_is_on_its_way();
    for topic in ["3", "4"] {
        world.publish(from, topic, Q1, "x");
    }
    world.restart(1, 0);
    let to = world.open("to", &lasting(600));
    let mut seen = topics(&world);
    let again = |line: &String| line.starts_with(['1', '2']).then(|| line[..1].to_owned());
    seen.extend(world.got(to).iter().filter_map(again));
    seen.sort();
    assert_eq!(seen, ["1", "2"], "each is told of, or comes again");
}

#[test]
fn who_comes_back_gets_no_qos_2_message_whose_record_the_log_refused() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q2);
    world.got(to);
    world.hold_appends = true;
    world.publish(from, "t", Q2, "1");
    // The message is in the log, but the record of its packet id is not.
    (world.refuse, world.hold_refusals) = (true, true);
    world.hold_appends = false;
    world.settle();
    world.refuse = false;
    let again = world.open("to", &lasting(600));
    assert_eq!(world.got(again), [""; 0], "a crash now would forget the id");
    world.hold_refusals = false;
    world.settle();
    assert_eq!(world.got(again), ["CONNACK quota_exceeded"]);
    let again = world.open("to", &lasting(600));
    assert!(world.got(again)[1].starts_with("t 1 q2 #1"));
}

#[test]
fn a_repeated_message_is_not_refused_with_others_that_come_beside_it() {
    for crash in [false, true] {
        let mut world = World::new();
        let from = world.connect("from", &lasting(600));
        world.send(from, &publish_id("t", Q2, 1, "1"));
        assert_eq!(world.got(from), ["PUBREC 1 no_matching_subscribers"]);
        if crash {
            world.restart(1, 0);
        }
        let from = world.open("from", &lasting(600));
        world.got(from);
        world.refuse = true;
        world.send_unsettled(from, &publish_id("t", Q2, 2, "2"));
        world.send(from, &publish_id("t", Q2, 1, "1"));
        let mut got = world.got(from);
        got.sort();
        assert_eq!(got, ["PUBREC 1", "PUBREC 2 quota_exceeded"]);
    }
}

#[test]
fn what_was_sent_and_acknowledged_while_nothing_was_written_is_not_owed_again() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let hello = lasting(600).with_window(1);
    let to = world.connect("to", &hello);
    world.subscribe(to, "t", Q1);
    for payload in ["1", "2", "3"] {
        world.publish(from, "t", Q1, payload);
    }
    world.refuse = true;
    for _ in 0..3 {
        world.acknowledge_everything();
    }
    assert_eq!(world.shards[0].stats().acked, 3);
    world.refuse = false;
    world.pass(200);
    world.restart(1, 0);
    let to = world.open("to", &hello);
    assert_eq!(world.got(to)[1..], [""; 0]);
}
