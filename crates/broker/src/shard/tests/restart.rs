//! `kill -9` and a start: what was acknowledged is still there, what was owed is still owed.

use crate::harness::{World, lasting, publish_id, publish_with, streams, v5, v311};
use crate::hooks::{DEFAULT_STREAM, Event};
use crate::input::Input;
use crate::settings::BrokerSettings;
use commitlog::Ack;
use mqtt::{PublishProperties, QoS, SubscribeOptions, Will, WillProperties};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

#[test]
fn subscriptions_and_owed_messages_survive() {
    for workers in [1, 2, 5] {
        let mut world = World::with_hooks(&[
            (Event::MessagePublish, "h/#", "state"),
            (Event::MessagePublish, "h/#", "second"),
            (Event::MessageAcked, "#", "second"),
        ]);
        let from = world.connect("from", &v5());
        let to = world.connect("to", &lasting(600));
        world.subscribe_with(to, "#", SubscribeOptions::qos(Q1), Some(5));
        world.got(to);
        world.publish(from, "h/1", Q1, "acked");
        world.puback(to, 1);
        world.publish(from, "t", Q1, "in flight");
        world.lose(to);
        world.publish(from, "t", Q1, "owed");
        world.publish(from, "h/2", Q2, "owed too");
        world.publish(from, "t", Q0, "not owed");
        world.restart(workers, 1_000);
        let to = world.open("to", &lasting(600));
        let mut got = world.got(to);
        got[2..].sort();
        assert_eq!(
            got,
            [
                "CONNACK success present",
                "t in flight q1 #2 dup ids=5",
                "h/2 owed too q1 #4 ids=5",
                "t owed q1 #3 ids=5"
            ]
        );
        let from = world.connect("from", &v5());
        world.publish(from, "t", Q1, "new");
        assert_eq!(world.got(to), ["t new q1 #5 ids=5"]);
    }
}

#[test]
fn a_subscription_made_again_behind_a_snapshot_matches_what_came_between() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let hello = lasting(600).with_window(1);
    let to = world.connect("to", &hello);
    world.subscribe(to, "t", Q1);
    world.each(|| Input::Snapshot);
    world.publish(from, "t", Q1, "in flight");
    world.publish(from, "t", Q1, "owed");
    assert_eq!(world.got(to), ["t in flight q1 #1"]);
    world.subscribe(to, "t", Q1);
    world.restart(1, 0);
    // Before any checkpoint of this life.
    world.compact();
    world.restart(1, 0);
    let to = world.open("to", &lasting(600));
    assert_eq!(
        world.got(to),
        [
            "CONNACK success present",
            "t in flight q1 #1 dup",
            "t owed q1 #2"
        ]
    );
}

#[test]
fn an_unsubscription_survives_and_what_was_owed_before_it_is_still_owed() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &v311(false));
    world.subscribe(to, "t", Q1);
    world.subscribe(to, "u", Q1);
    world.unsubscribe(to, "u");
    world.lose(to);
    world.publish(from, "u", Q1, "never");
    world.publish(from, "t", Q1, "owed");
    world.restart(1, 0);
    let to = world.open("to", &v311(false));
    assert_eq!(world.got(to), ["CONNACK success present", "t owed q1 #1"]);
}

#[test]
fn qos_2_stays_exactly_once_in_both_directions() {
    let mut world = World::new();
    let from = world.connect("from", &lasting(600));
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q2);
    world.send(from, &publish_id("t", Q2, 1, "one"));
    world.send(from, &publish_id("t", Q2, 2, "two"));
    world.pubrel(from, 2);
    world.pubrec(to, 1);
    assert_eq!(world.got(to), ["t one q2 #1", "t two q2 #2", "PUBREL 1"]);
    world.restart(1, 0);
    let from = world.open("from", &lasting(600));
    world.send(from, &publish_id("t", Q2, 1, "one"));
    world.pubrel(from, 1);
    world.pubrel(from, 2);
    assert_eq!(
        world.got(from),
        [
            "CONNACK success present",
            "PUBREC 1",
            "PUBCOMP 1",
            "PUBCOMP 2 packet_identifier_not_found"
        ]
    );
    let to = world.open("to", &lasting(600));
    assert_eq!(
        world.got(to),
        ["CONNACK success present", "PUBREL 1", "t two q2 #2 dup"]
    );
    world.pubcomp(to, 1);
    world.pubrec(to, 2);
    world.pubcomp(to, 2);
    world.restart(1, 0);
    let to = world.open("to", &lasting(600));
    assert_eq!(world.got(to), ["CONNACK success present"]);
}

#[test]
fn a_qos_2_message_that_was_not_journalled_yet_is_sent_as_new() {
    let mut world = World::new();
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q2);
    world.hold_appends = true;
    world.publish(from, "t", Q2, "x");
    assert!(world.got(to).is_empty());
    world.restart(1, 0);
    world.hold_appends = false;
    world.settle();
    let to = world.open("to", &lasting(600));
    assert_eq!(world.got(to), ["CONNACK success present", "t x q2 #1"]);
}

#[test]
fn downtime_counts_for_sessions_messages_and_wills() {
    let mut world = World::with_hooks(&[(Event::ClientDisconnected, "#", "events")]);
    let will = Will {
        topic: "will",
        payload: b"gone",
        qos: Q1,
        properties: WillProperties {
            delay_s: 10,
            ..WillProperties::default()
        },
        ..Will::default()
    };
    for (client_id, expiry_s) in [("short", 5), ("long", 100)] {
        let mut hello = lasting(expiry_s);
        hello.will = Some(will.clone());
        let conn = world.connect(client_id, &hello);
        world.subscribe(conn, "t", Q1);
    }
    let mut clean = v5();
    clean.will = Some(Will {
        topic: "clean",
        ..will.clone()
    });
    world.connect("clean", &clean);
    let watcher = world.connect("watcher", &lasting(600));
    world.subscribe(watcher, "+", Q1);
    let from = world.connect("from", &v5());
    let properties = PublishProperties {
        expiry_s: Some(3),
        ..PublishProperties::default()
    };
    world.send(from, &publish_with("t", Q1, false, "dies", properties));
    world.restart(1, 7_000);
    let watcher = world.open("watcher", &lasting(600));
    let mut got = world.got(watcher);
    got.retain(|line| !line.starts_with("t "));
    got.sort();
    assert_eq!(
        got,
        [
            "CONNACK success present",
            "clean gone q1 #3",
            "will gone q1 #2"
        ],
        "those of the session that ended and of the one that could not outlive its connection"
    );
    let conn = world.open("short", &lasting(5));
    assert_eq!(world.got(conn), ["CONNACK success"]);
    world.pass(3_000);
    assert_eq!(
        world.got(watcher),
        ["will gone q1 #4"],
        "10 seconds after the stop"
    );
    let conn = world.open("long", &lasting(100));
    assert_eq!(world.got(conn)[0], "CONNACK success present");
    let events = world.values("events");
    let restarted = events
        .iter()
        .filter(|event| event.contains("broker_restart"));
    assert_eq!(restarted.count(), 4, "{events:?}");
}

#[test]
fn a_snapshot_replaces_the_journal_before_it() {
    for workers in [1, 3] {
        let mut world = World::with_hooks(&[(Event::MessagePublish, "flushed", "state")]);
        let from = world.connect("from", &v5());
        let to = world.connect("to", &lasting(600));
        world.subscribe(to, "#", Q2);
        world.publish(from, "t", Q2, "in flight");
        world.lose(to);
        for number in 0..200 {
            world.publish(from, "t", Q1, &number.to_string());
        }
        world.each(|| Input::Snapshot);
        let at = world
            .shards
            .iter()
            .map(crate::Shard::shards_at)
            .min()
            .unwrap();
        assert!(at > 200, "{at}");
        // What is matched is not needed for matching any more.
        let reads_of_old = world.shards[0].stats().inbox_messages;
        assert_eq!(reads_of_old, 200);
        world.publish(from, "flushed", Q1, "after");
        let settings = world.settings.clone();
        assert_eq!(*settings, BrokerSettings::default());
        world.restart(workers, 0);
        let to = world.open("to", &lasting(600));
        let got = world.got(to);
        assert_eq!(got[1], "t in flight q2 #1 dup");
        assert_eq!(got[2..].len(), 201);
        for (number, line) in got[2..202].iter().enumerate() {
            assert_eq!(*line, format!("t {number} q1 #{}", number + 2));
        }
        assert!(got[202].starts_with("flushed after"));
        // A second snapshot after progress, and a second restart.
        for packet_id in 2..150 {
            world.puback(to, packet_id);
        }
        world.each(|| Input::Snapshot);
        world.restart(1, 0);
        let to = world.open("to", &lasting(600));
        let got = world.got(to);
        assert_eq!(got.len(), 1 + 1 + 201 - 148);
        assert_eq!(got[2], "t 148 q1 #150 dup");
    }
}

#[test]
fn messages_waiting_for_their_flush_during_a_snapshot_are_not_forgotten_nor_doubled() {
    let mut world = World::with_hooks(&[(Event::MessagePublish, "flushed", "state")]);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "#", Q1);
    world.lose(to);
    world.hold_flushes = true;
    world.publish(from, "flushed", Q1, "held");
    world.publish(from, "t", Q1, "seen");
    world.each(|| Input::Snapshot);
    world.restart(1, 0);
    world.hold_flushes = false;
    let to = world.open("to", &lasting(600));
    let mut got = world.got(to);
    got.sort();
    assert_eq!(got.len(), 3, "{got:?}");
    assert!(got[1].starts_with("flushed held") && got[2].starts_with("t seen"));
}

#[test]
fn what_waits_for_its_flush_in_the_default_stream_is_not_forgotten_either() {
    let mut streams = streams();
    for stream in &mut streams {
        if stream.settings.name == DEFAULT_STREAM {
            stream.settings.ack = Ack::Flush;
        }
    }
    let mut world = World::over(1, &[], BrokerSettings::default(), streams);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "#", Q1);
    world.lose(to);
    world.hold_flushes = true;
    world.publish(from, "t", Q1, "held");
    world.each(|| Input::Snapshot);
    world.hold_flushes = false;
    world.settle();
    assert_eq!(world.got(from), ["PUBACK 10"]);
    world.restart(1, 0);
    let to = world.open("to", &lasting(600));
    assert_eq!(world.got(to)[1..], ["t held q1 #1"]);
}

#[test]
fn what_is_owed_is_found_again_whatever_the_hooks_are_at_the_start() {
    let hooks = |topics: &[&'static str]| -> Vec<(Event, &'static str, &'static str)> {
        let hook = |topic: &&'static str| (Event::MessagePublish, *topic, "second");
        topics.iter().map(hook).collect()
    };
    for (before, after) in [
        (hooks(&["t"]), hooks(&[])),
        (hooks(&[]), hooks(&["t"])),
        // Two records in one stream are one message.
        (hooks(&["t", "#"]), hooks(&["t", "#"])),
        (hooks(&["t", "#"]), hooks(&["#"])),
    ] {
        let mut world = World::with_hooks(&before);
        let from = world.connect("from", &v5());
        let to = world.connect("to", &lasting(600));
        world.subscribe(to, "#", Q2);
        world.lose(to);
        world.publish(from, "t", Q2, "owed");
        world.set_hooks(&after);
        world.restart(1, 0);
        let to = world.open("to", &lasting(600));
        let got = world.got(to);
        assert_eq!(got[1..], ["t owed q2 #1"], "{before:?} and then {after:?}");
    }
}

#[test]
fn what_was_dropped_stays_dropped() {
    let settings = BrokerSettings {
        inbox_max: 3,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[(Event::MessageDropped, "#", "events")], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(600));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for payload in ["1", "2", "3", "4", "5"] {
        world.publish(from, "t", Q1, payload);
    }
    assert_eq!(world.values("events").len(), 2);
    world.restart(1, 0);
    assert_eq!(world.values("events").len(), 2, "not reported again");
    let to = world.open("to", &lasting(600));
    assert_eq!(world.got(to)[1..], ["t 1 q1 #1", "t 2 q1 #2", "t 3 q1 #3"]);
}

#[test]
fn a_session_that_ended_leaves_nothing() {
    let mut world = World::new();
    let mut hello = lasting(60);
    hello.will = Some(Will {
        topic: "w",
        payload: b"x",
        ..Will::default()
    });
    let conn = world.connect("a", &hello);
    world.subscribe(conn, "t", Q2);
    world.publish(conn, "t", Q2, "x");
    world.lose(conn);
    world.pass(60_000);
    assert_eq!(world.shards[0].stats().sessions, 0);
    world.restart(1, 0);
    assert_eq!(world.shards[0].stats().sessions, 0);
    assert_eq!(world.shards[0].stats().subscriptions, 0);
}

#[test]
fn two_runs_give_the_same_journal() {
    let run = || {
        let mut world = World::with(
            3,
            &[(Event::MessageDelivered, "#", "events")],
            BrokerSettings::default(),
        );
        let conns: Vec<_> = (0..20)
            .map(|n| world.connect(&format!("c{n}"), &lasting(60 + n)))
            .collect();
        for (number, &conn) in conns.iter().enumerate() {
            world.subscribe(
                conn,
                if number % 2 == 0 {
                    "t/#"
                } else {
                    "$share/g/t/+"
                },
                Q2,
            );
        }
        for (number, &conn) in conns.iter().enumerate() {
            world.publish(conn, &format!("t/{number}"), Q1, "x");
        }
        world.each(|| Input::Snapshot);
        world.restart(2, 61_000);
        (
            world.values("events"),
            world.table_records(),
            world.values("mqtt.default"),
        )
    };
    assert_eq!(run(), run());
}

/// Turns that a worker has ended so far.
fn turns(world: &World) -> u64 {
    world.out[0].turn.number() - 1
}

/// What others than the workers append is told by nobody else. That it is flushed is the checkpoint's
/// matter.
#[test]
fn a_snapshot_goes_as_far_as_the_shard_was_told() {
    let mut world = World::new();
    world.hold_flushes = true;
    world.each(|| Input::Seen(40));
    world.each(|| Input::Snapshot);
    assert_eq!(world.shards[0].shards_at(), 40);
}

#[test]
fn a_long_snapshot_takes_several_turns() {
    let mut world = World::new();
    // Long names make long records of short inboxes.
    let names: Vec<String> = (0..60)
        .map(|n| format!("{n}{}", "x".repeat(30_000)))
        .collect();
    for name in &names {
        let conn = world.connect(name, &lasting(600));
        world.subscribe(conn, "t", Q1);
        world.lose(conn);
    }
    let from = world.connect("from", &v5());
    world.publish(from, "t", Q1, "owed");
    let before = turns(&world);
    world.each(|| Input::Snapshot);
    let taken = turns(&world) - before;
    assert!((4..12).contains(&taken), "{taken}");
    assert!(world.shards[0].shards_at() > 0, "it came to its end");
    world.restart(1, 0);
    for name in &names {
        let conn = world.open(name, &lasting(600));
        assert_eq!(world.got(conn), ["CONNACK success present", "t owed q1 #1"]);
    }
}

#[test]
fn many_wills_go_in_several_turns_at_a_restart_and_when_they_are_due_together() {
    let mut world = World::new();
    let payload = vec![b'w'; 40_000];
    for number in 0..100 {
        let mut hello = lasting(600);
        hello.will = Some(Will {
            topic: "will",
            payload: &payload,
            qos: Q1,
            properties: WillProperties {
                delay_s: 20 * (number % 2),
                ..WillProperties::default()
            },
            ..Will::default()
        });
        world.connect(&format!("c{number}"), &hello);
    }
    world.restart(1, 0);
    assert_eq!(world.shards[0].stats().wills_published, 50);
    let at_once = turns(&world);
    assert!((2..10).contains(&at_once), "{at_once}");
    world.pass(20_000);
    assert_eq!(world.shards[0].stats().wills_published, 100);
    let later = turns(&world) - at_once;
    assert!((2..10).contains(&later), "{later}");
    assert_eq!(world.values("mqtt.default").len(), 100);
}

/// Clients take all that they are owed at once.
fn wide() -> World {
    let settings = BrokerSettings {
        inflight_max: u16::MAX,
        ..BrokerSettings::default()
    };
    World::with(1, &[], settings)
}

/// Sessions of one home whose inboxes together are more than one turn is to hold.
fn crowded_home(world: &mut World) -> Vec<String> {
    let ids = (0..).map(|number| format!("c{number}"));
    let home = super::super::home_of("c0");
    let ids = ids.filter(|id| super::super::home_of(id) == home).take(800);
    let ids: Vec<String> = ids.collect();
    let from = world.connect("from", &v5());
    for id in &ids {
        let client = world.connect(id, &lasting(600));
        world.subscribe(client, "t", Q1);
        world.lose(client);
    }
    world.each(|| Input::Snapshot);
    for number in 0..OWED {
        world.publish(from, "t", Q1, &number.to_string());
    }
    ids
}

const OWED: usize = 700;

/// All that is owed, in order, once.
fn check_crowd(world: &mut World, ids: &[String]) {
    for id in [&ids[0], &ids[1], &ids[ids.len() / 2], &ids[ids.len() - 1]] {
        let mut hello = lasting(600);
        hello.properties.receive_maximum = Some(65_535);
        let client = world.open(id, &hello);
        let got = world.got(client);
        let texts = got[1..].iter().map(|line| line.split(' ').nth(1).unwrap());
        let texts: Vec<usize> = texts.map(|text| text.parse().unwrap()).collect();
        assert_eq!(texts, (0..OWED).collect::<Vec<_>>(), "{id}");
    }
}

#[test]
fn a_home_with_many_full_inboxes_is_written_in_several_turns() {
    let mut world = wide();
    let ids = crowded_home(&mut world);
    world.largest_entry = 0;
    let before = world.journal_entries();
    world.each(|| Input::Snapshot);
    let entries = world.journal_entries() - before;
    assert!(entries > 1, "{entries}");
    let largest = world.largest_entry;
    assert!(largest < 2 * crate::limits::STEP_BYTES, "{largest} bytes");
    world.restart(2, 0);
    check_crowd(&mut world, &ids);
}

#[test]
fn a_crash_between_the_turns_of_a_home_loses_nothing_that_it_is_owed() {
    let mut world = wide();
    let ids = crowded_home(&mut world);
    world.start_turn(0, Input::Snapshot);
    world.restart(1, 0);
    world.each(|| Input::Snapshot);
    world.compact();
    world.restart(2, 0);
    check_crowd(&mut world, &ids);
}

/// What one of the first sessions of a home is owed while the others are written comes with the marker.
#[test]
fn what_changes_between_the_turns_of_a_home_is_in_its_snapshot() {
    let mut world = wide();
    let ids = crowded_home(&mut world);
    let from = world.connect("late", &v5());
    let turn = world.start_turn(0, Input::Snapshot);
    world.publish(from, "t", Q1, &OWED.to_string());
    assert!(world.journal_entries() > turn);
    world.compact();
    world.restart(1, 0);
    for id in [&ids[0], &ids[ids.len() - 1]] {
        let client = world.open(id, &lasting(600));
        assert_eq!(world.got(client)[0], "CONNACK success present");
    }
    let owed = OWED + 1;
    let client = world.open(&ids[0], &lasting(600));
    let mut hello = lasting(600);
    hello.properties.receive_maximum = Some(65_535);
    world.lose(client);
    let client = world.open(&ids[0], &hello);
    let got = world.got(client);
    assert_eq!(got.len(), 1 + owed, "{:?}", got.last());
}
