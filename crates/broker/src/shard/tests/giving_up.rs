//! What sessions are owed and cannot get: given up with a record, or written when there is room.

use crate::harness::{World, lasting, v5};
use crate::hooks::Event;
use crate::input::Input;
use crate::limits::{GIVEN_UP_MAX, STEP_BYTES};
use crate::settings::BrokerSettings;
use crate::turn::DropReason;
use mqtt::QoS;

const Q1: QoS = QoS::AtLeastOnce;

#[test]
fn events_that_a_full_disk_refused_are_written_when_there_is_room() {
    let hooks = [
        (Event::MessageAcked, "t", "events"),
        (Event::MessageDelivered, "t", "second"),
        (Event::ClientDisconnected, "#", "state"),
    ];
    let mut world = World::with_hooks(&hooks);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.publish(from, "t", Q1, "1");
    assert_eq!(world.values("second").len(), 1);
    world.refuse = true;
    world.puback(to, 1);
    world.lose(to);
    // What is refused to a client is not written either, whatever a hook would have made of it.
    world.publish(from, "t", Q1, "2");
    assert_eq!(world.got(from)[1..], ["PUBACK 10 quota_exceeded"]);
    world.pass(200);
    world.pass(200);
    assert!(world.values("events").is_empty());
    world.refuse = false;
    world.pass(200);
    world.pass(1_000);
    let acked = world.values("events");
    assert_eq!(acked.len(), 1, "{acked:?}");
    assert!(acked[0].contains("\"client_id\":\"to\"") && acked[0].contains("\"payload\":\"1\""));
    assert_eq!(world.values("second").len(), 1);
    assert_eq!(world.values("state").len(), 1, "it disconnected");
    // The delivery ended with its record.
    world.restart(1, 0);
    let to = world.open("to", &lasting(60));
    assert_eq!(world.got(to)[1..], [""; 0]);
}

#[test]
fn what_the_log_is_about_to_drop_is_given_up_with_its_content() {
    let settings = BrokerSettings {
        recent_bytes_max: 0,
        ..BrokerSettings::default()
    };
    let hooks = [
        (Event::MessagePublish, "t", "state"),
        (Event::MessageDropped, "t", "events"),
    ];
    let mut world = World::with(1, &hooks, settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for payload in ["1", "2", "3"] {
        world.publish(from, "t", Q1, payload);
    }
    assert_eq!(world.shards[0].owed_from(), [(30, 0)].into());
    world.hold_reads = true;
    let (partition, below) = (30, 2);
    world.each(|| Input::Overdue { partition, below });
    assert!(world.shards[0].is_giving_up());
    world.hold_reads = false;
    world.settle();
    assert!(!world.shards[0].is_giving_up());
    let events = world.values("events");
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, payload) in events.iter().zip(["1", "2"]) {
        for part in [
            "\"client_id\":\"to\"",
            "\"from\":\"from\"",
            "\"topic\":\"t\"",
            &format!("\"payload\":\"{payload}\""),
            "\"reason\":\"retention\"",
        ] {
            assert!(event.contains(part), "{event} lacks {part}");
        }
    }
    assert_eq!(world.shards[0].owed_from(), [(30, 2)].into());
    // Nor does a restart bring them back.
    world.restart(1, 0);
    let to = world.open("to", &lasting(60));
    assert_eq!(world.got(to)[1..], ["t 3 q1 #1"]);
    assert_eq!(world.values("events").len(), 2);
}

#[test]
fn an_inbox_that_a_restart_shortens_says_what_it_gave_up() {
    let hooks = [(Event::MessageDropped, "t", "events")];
    let mut world = World::with(1, &hooks, BrokerSettings::default());
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for payload in ["1", "2", "3"] {
        world.publish(from, "t", Q1, payload);
    }
    world.settings = std::sync::Arc::new(BrokerSettings {
        inbox_max: 2,
        ..BrokerSettings::default()
    });
    world.restart(1, 0);
    let events = world.values("events");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("\"payload\":\"3\"") && events[0].contains("queue_full"));
    let to = world.open("to", &lasting(60));
    assert_eq!(world.got(to)[1..], ["t 1 q1 #1", "t 2 q1 #2"]);
}

#[test]
fn a_message_that_is_gone_is_reported_without_what_nobody_knows() {
    let settings = BrokerSettings {
        recent_bytes_max: 0,
        ..BrokerSettings::default()
    };
    let hooks = [
        (Event::MessageDropped, "#", "events"),
        (Event::MessageDropped, "t", "second"),
    ];
    let mut world = World::with(1, &hooks, settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    world.publish(from, "t", Q1, "1");
    let owed = world.shards[0].owed_from();
    let (&partition, &offset) = owed.first_key_value().unwrap();
    world
        .gone
        .push(crate::message::Position { partition, offset });
    world.open("to", &lasting(60));
    let events = world.values("events");
    assert_eq!(events.len(), 1, "{events:?}");
    for part in [
        "\"client_id\":\"to\"",
        "\"topic\":\"\"",
        "\"reason\":\"retention\"",
    ] {
        assert!(events[0].contains(part), "{} lacks {part}", events[0]);
    }
    assert!(world.values("second").is_empty(), "its topic is not known");
}

#[test]
fn a_message_that_retention_took_is_counted_and_passed_over() {
    let settings = BrokerSettings {
        recent_bytes_max: 0,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[(Event::MessagePublish, "t", "state")], settings);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for payload in ["1", "2"] {
        world.publish(from, "t", Q1, payload);
    }
    world.gone.push(crate::message::Position {
        partition: 30,
        offset: 0,
    });
    let to = world.open("to", &lasting(60));
    assert_eq!(world.got(to)[1..], ["t 2 q1 #1"]);
    assert_eq!(
        world.shards[0].stats().dropped[DropReason::Retention as usize],
        1
    );
}

#[test]
fn many_overdue_deliveries_are_given_up_with_one_record_a_session() {
    for with_event in [false, true] {
        let hooks = [
            (Event::MessagePublish, "t", "state"),
            (Event::MessageDropped, "t", "events"),
        ];
        let settings = BrokerSettings {
            recent_bytes_max: 0,
            ..BrokerSettings::default()
        };
        let mut world = World::with(1, &hooks[..=usize::from(with_event)], settings);
        let from = world.connect("from", &v5());
        let receivers: Vec<String> = (0..30).map(|number| format!("to {number}")).collect();
        for client_id in &receivers {
            let to = world.connect(client_id, &lasting(60));
            world.subscribe(to, "t", Q1);
            world.lose(to);
        }
        for number in 0..400 {
            world.publish(from, "t", Q1, &number.to_string());
        }
        let before = world.table_records();
        world.largest_entry = 0;
        let (partition, below) = (30, 399);
        world.each(|| Input::Overdue { partition, below });
        assert!(!world.shards[0].is_giving_up());
        assert_eq!(world.table_records() - before, 30);
        assert_eq!(
            world.shards[0].stats().dropped[DropReason::Retention as usize],
            30 * 399
        );
        if with_event {
            assert_eq!(world.values("events").len(), 30 * 399);
            assert!(
                world.largest_entry < 4 * STEP_BYTES,
                "{}",
                world.largest_entry
            );
        }
        world.restart(1, 0);
        let to = world.open("to 7", &lasting(60));
        assert_eq!(world.got(to)[1..], ["t 399 q1 #1"]);
    }
}

#[test]
fn no_more_messages_are_read_at_a_time_than_a_few_sessions_give_up() {
    let hooks = [
        (Event::MessagePublish, "t", "state"),
        (Event::MessageDropped, "t", "events"),
    ];
    let mut world = World::with_hooks(&hooks);
    let from = world.connect("from", &v5());
    for number in 0..32 {
        let to = world.connect(&format!("to {number}"), &lasting(60));
        world.subscribe(to, "t", Q1);
        world.lose(to);
    }
    for number in 0..400 {
        world.publish(from, "t", Q1, &number.to_string());
    }
    world.hold_reads = true;
    let (partition, below) = (30, 400);
    world.each(|| Input::Overdue { partition, below });
    let asked: usize = world.out[0]
        .reads
        .iter()
        .map(|request| request.positions.len())
        .sum();
    assert!(asked < 3 * GIVEN_UP_MAX, "{asked}");
    // A snapshot must not say that what is on its way is neither owed nor dropped.
    let before = world.shards[0].shards_at();
    world.each(|| Input::Snapshot);
    assert_eq!(world.shards[0].shards_at(), before);
    world.hold_reads = false;
    world.settle();
    assert_eq!(world.values("events").len(), 32 * 400);
}

#[test]
fn an_inbox_that_a_restart_shortens_by_much_is_shortened_in_steps() {
    let wide = BrokerSettings {
        inbox_max: 20_000,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[], wide);
    let from = world.connect("from", &v5());
    let to = world.connect("to", &lasting(60));
    world.subscribe(to, "t", Q1);
    world.lose(to);
    for number in 0..2 * GIVEN_UP_MAX + 3 {
        world.publish(from, "t", Q1, &number.to_string());
    }
    world.settings = std::sync::Arc::new(BrokerSettings {
        inbox_max: 2,
        ..BrokerSettings::default()
    });
    let before = world.table_records();
    world.restart(1, 0);
    assert_eq!(world.table_records() - before, 3);
    let to = world.open("to", &lasting(60));
    assert_eq!(world.got(to)[1..], ["t 0 q1 #1", "t 1 q1 #2"]);
}
