//! Tests of placement and of the records: EMQ X's examples byte for byte, and the speed of a
//! PUBLISH.

use super::*;
use crate::hooks::PayloadEncoding;
use crate::hooks::{
    DEFAULT_QOS0_STREAM, DEFAULT_STREAM, HookSettings, KeyTemplate, RETAINED_STREAM, SYS_STREAM,
};
use crate::message::{Commit, MessageRef, MessageView, Position};
use crate::properties::ForwardProperties;
use commitlog::{BatchView, Storage, StreamMeta, StreamSettings};
use mqtt::{PublishProperties, UserProperties};

/// A stream of four partitions whose first has the number `first`.
fn stream(name: &str, first: PartitionId, ack: Ack) -> StreamMeta {
    let mut settings = StreamSettings::new(name);
    settings.ack = ack;
    settings.partitions = if name.starts_with("__") { 1 } else { 4 };
    settings.internal = name.starts_with("__");
    settings.compact = name == RETAINED_STREAM;
    if ack == Ack::Memory {
        settings.storage = Storage::Memory;
    }
    let partitions = (first..first + settings.partitions).collect();
    StreamMeta {
        settings,
        partitions,
    }
}

pub(crate) fn streams() -> Vec<StreamMeta> {
    vec![
        stream("message_state", 10, Ack::Flush),
        stream("message_command", 20, Ack::Flush),
        stream("volatile", 30, Ack::Memory),
        stream("events", 40, Ack::Append),
        stream(DEFAULT_STREAM, 50, Ack::Append),
        stream(DEFAULT_QOS0_STREAM, 60, Ack::Memory),
        stream(RETAINED_STREAM, 70, Ack::Append),
        stream(SYS_STREAM, 71, Ack::Memory),
    ]
}

pub(crate) fn hook(event: Event, filter: &str, stream: &str, key: &str) -> HookSettings {
    HookSettings {
        event,
        filter: filter.to_owned(),
        stream: stream.to_owned(),
        key: KeyTemplate::parse(key).unwrap(),
        payload: PayloadEncoding::Base64,
        counter: 0,
    }
}

pub(crate) fn turn(hooks: &[HookSettings]) -> Turn {
    let table = HookTable::compile("emqx@127.0.0.1", hooks, &streams()).unwrap();
    Turn::new(Arc::new(table))
}

/// The article's two hooks.
fn article() -> Turn {
    turn(&[
        hook(
            Event::MessagePublish,
            "devices/+/state",
            "message_state",
            "{2}",
        ),
        hook(
            Event::MessageAcked,
            "devices/+/command",
            "message_command",
            "{2}",
        ),
    ])
}

const NO_PROPERTIES: PublishProperties<'static> = PublishProperties {
    payload_format: None,
    expiry_s: None,
    topic_alias: None,
    response_topic: None,
    correlation_data: None,
    subscription_ids: mqtt::SubscriptionIds::EMPTY,
    content_type: None,
    user: UserProperties::EMPTY,
};

pub(crate) fn facts<'a>(topic: &'a str, payload: &'a [u8]) -> PublishFacts<'a> {
    PublishFacts {
        client_id: LOCK,
        username: "",
        topic,
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        properties: &NO_PROPERTIES,
        peer: "",
        principal: "",
        now_ms: 1_574_753_026_269,
    }
}

/// A record, read back from a finished batch.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    partition: PartitionId,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
}

fn records(entry: &Entry) -> Vec<Read> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut read = Vec::new();
    for append in &entry.appends {
        let (batch, len) = BatchView::parse(&append.batch).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(len, append.batch.len());
        for record in batch.records() {
            let record = record.unwrap();
            read.push(Read {
                partition: append.partition,
                key: record.key.map(text),
                value: record.value.map(text),
                headers: record
                    .headers()
                    .map(|(name, value)| (text(name), value.unwrap().to_vec()))
                    .collect(),
            });
        }
    }
    read
}

/// The records of a turn, which is ended.
fn written(turn: &mut Turn) -> Vec<Read> {
    records(&turn.finish().unwrap().0)
}

fn values(turn: &mut Turn) -> Vec<String> {
    written(turn)
        .into_iter()
        .map(|read| read.value.unwrap())
        .collect()
}

const LOCK: &str = "10083618796833171";
const STATE: &[u8] = b"{   \"process_id\": \"7802441525528958\",   \"action\": \"unlock\",   \
    \"battery\": 83.4,   \"lock_state\": 1,   \"version\": 1.1,   \
    \"client_id\": \"10083618796833171\" }";
const STATE_RECORD: &str = "{\"client_id\":\"10083618796833171\",\"username\":\"\",\
    \"topic\":\"devices/10083618796833171/state\",\"payload\":\"eyAgICJwcm9jZXNzX2lkIjogIjc4MDI0ND\
    E1MjU1Mjg5NTgiLCAgICJhY3Rpb24iOiAidW5sb2NrIiwgICAiYmF0dGVyeSI6IDgzLjQsICAgImxvY2tfc3RhdGUiOiAx\
    LCAgICJ2ZXJzaW9uIjogMS4xLCAgICJjbGllbnRfaWQiOiAiMTAwODM2MTg3OTY4MzMxNzEiIH0=\",\"qos\":1,\
    \"node\":\"emqx@127.0.0.1\",\"ts\":1574753026269}";
const COMMAND: &[u8] = b"{   \"process_id\": \"7802441525528958\",   \"action\": \"unlock\",   \
    \"nonce_str\": \"u7u4p0n8\",   \"ts\": 1574744434,   \"sign\": \"e9f5af7deaa28563\" }";
const COMMAND_RECORD: &str = "{\"client_id\":\"10083618796833171\",\"username\":\"\",\
    \"from\":\"10083618796833171\",\"topic\":\"devices/10083618796833171/command\",\
    \"payload\":\"eyAgICJwcm9jZXNzX2lkIjogIjc4MDI0NDE1MjU1Mjg5NTgiLCAgICJhY3Rpb24iOiAidW5sb2NrIiwg\
    ICAibm9uY2Vfc3RyIjogInU3dTRwMG44IiwgICAidHMiOiAxNTc0NzQ0NDM0LCAgICJzaWduIjogImU5ZjVhZjdkZWFhMj\
    g1NjMiIH0=\",\"qos\":1,\"node\":\"emqx@127.0.0.1\",\"ts\":1574751635845}";

#[test]
fn the_articles_publish_record_byte_for_byte_and_without_headers() {
    let mut turn = article();
    let published = turn.publish(&facts("devices/10083618796833171/state", STATE));
    assert_eq!(
        published,
        Published {
            mirrored: 0,
            message: 0,
            ack: Ack::Flush
        }
    );
    let read = written(&mut turn);
    let key = Some(LOCK.to_owned());
    let partition = 10 + commitlog::partition_for_key(Some(LOCK.as_bytes()), 4);
    let value = Some(STATE_RECORD.to_owned());
    assert_eq!(
        read,
        [Read {
            partition,
            key,
            value,
            headers: vec![]
        }]
    );
}

#[test]
fn the_articles_acked_record_byte_for_byte() {
    let mut turn = article();
    let message = MessageView {
        topic: "devices/10083618796833171/command",
        payload: COMMAND,
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        publisher: LOCK,
        username: "",
        peer: "",
        principal: "",
        properties: ForwardProperties::default(),
        publish_ms: 1_574_751_635_800,
        expires_ms: None,
    };
    let position = Some(Position {
        partition: 50,
        offset: 7,
    });
    let delivery = Delivery {
        client_id: LOCK,
        username: "",
        qos: QoS::AtLeastOnce,
        message: &message,
        position,
    };
    let ack = turn.event(&EventFacts::Acked(delivery), 1_574_751_635_845);
    assert_eq!(ack, Some(Ack::Flush));
    assert_eq!(
        turn.event(&EventFacts::Delivered(delivery), 1),
        None,
        "no hook is set on it"
    );
    let read = written(&mut turn);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].value.as_deref(), Some(COMMAND_RECORD));
    assert_eq!(read[0].key.as_deref(), Some(LOCK));
    let headers = [
        ("mqtt.mid".to_owned(), b"50-7".to_vec()),
        ("mqtt.ts".to_owned(), b"1574751635800".to_vec()),
    ];
    assert_eq!(read[0].headers, headers);
}

#[test]
fn the_other_events_have_the_fields_and_order_of_emqx() {
    let all: Vec<HookSettings> = Event::ALL
        .iter()
        .map(|&event| hook(event, "#", "events", ""))
        .collect();
    let mut turn = turn(&all);
    let ts = 1_574_751_635_845;
    let (client_id, username) = ("c1", "u1");
    turn.event(
        &EventFacts::Connected {
            client_id,
            username,
        },
        ts,
    );
    turn.event(
        &EventFacts::Disconnected {
            client_id,
            username,
            reason: "normal",
        },
        ts,
    );
    let topic = "control/1";
    turn.event(
        &EventFacts::Subscribed {
            client_id,
            topic,
            qos: QoS::AtMostOnce,
        },
        ts,
    );
    let shared = "$share/g/control/1";
    turn.event(
        &EventFacts::Unsubscribed {
            client_id,
            topic: shared,
            qos: QoS::ExactlyOnce,
        },
        ts,
    );
    let message = MessageView {
        topic,
        payload: b"37.5",
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        publisher: "p",
        username: "pu",
        peer: "",
        principal: "",
        properties: ForwardProperties::default(),
        publish_ms: ts,
        expires_ms: None,
    };
    let delivery = Delivery {
        client_id,
        username,
        qos: QoS::AtMostOnce,
        message: &message,
        position: None,
    };
    turn.event(&EventFacts::Delivered(delivery), ts);
    turn.event(&EventFacts::Dropped(delivery, DropReason::QueueFull), ts);
    let publish = PublishFacts {
        client_id: "mosqpub|25093-Zeus-",
        username: "user1",
        qos: QoS::AtMostOnce,
        now_ms: 1_542_113_746,
        ..facts("sensor/1/temperature", b"37.5")
    };
    turn.publish(&publish);
    let mut values = values(&mut turn);
    values.sort();
    let mut expected = [
        r#"{"client_id":"c1","username":"u1","node":"emqx@127.0.0.1","ts":1574751635845}"#,
        concat!(
            r#"{"client_id":"c1","username":"u1","reason":"normal","#,
            r#""node":"emqx@127.0.0.1","ts":1574751635845}"#
        ),
        concat!(
            r#"{"client_id":"c1","topic":"control/1","qos":0,"#,
            r#""node":"emqx@127.0.0.1","ts":1574751635845}"#
        ),
        concat!(
            r#"{"client_id":"c1","topic":"control/1","qos":2,"#,
            r#""node":"emqx@127.0.0.1","ts":1574751635845}"#
        ),
        concat!(
            r#"{"client_id":"c1","username":"u1","from":"p","topic":"control/1","#,
            r#""payload":"MzcuNQ==","qos":0,"node":"emqx@127.0.0.1","#,
            r#""ts":1574751635845}"#
        ),
        concat!(
            r#"{"client_id":"c1","username":"u1","from":"p","topic":"control/1","#,
            r#""payload":"MzcuNQ==","qos":0,"reason":"queue_full","node":"emqx@127.0.0.1","#,
            r#""ts":1574751635845}"#
        ),
        concat!(
            r#"{"client_id":"mosqpub|25093-Zeus-","username":"user1","#,
            r#""topic":"sensor/1/temperature","payload":"MzcuNQ==","qos":0,"#,
            r#""node":"emqx@127.0.0.1","ts":1542113746}"#
        ),
    ];
    expected.sort_unstable();
    assert_eq!(values, expected);
}

#[test]
fn what_no_hook_takes_goes_to_the_default_streams() {
    let mut turn = article();
    let lower = PublishFacts {
        qos: QoS::AtMostOnce,
        username: "u",
        ..facts("other", b"zero")
    };
    assert_eq!(turn.publish(&facts("other", b"one")).ack, Ack::Append);
    assert_eq!(turn.publish(&lower).ack, Ack::Memory);
    let twice = PublishFacts {
        qos: QoS::ExactlyOnce,
        ..facts("other", b"two")
    };
    turn.publish(&twice);
    let (entry, messages) = turn.finish().unwrap();
    let read = records(&entry);
    let own = commitlog::partition_for_key(Some(LOCK.as_bytes()), 4);
    let seen: Vec<_> = read
        .iter()
        .map(|read| (read.partition, read.value.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            (50 + own, Some("one")),
            (50 + own, Some("two")),
            (60 + own, Some("zero"))
        ]
    );
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    assert_eq!(read[0].headers, [header("mqtt.topic", "other")]);
    assert_eq!(
        read[1].headers,
        [header("mqtt.topic", "other"), header("mqtt.qos", "2")]
    );
    assert_eq!(
        read[2].headers,
        [header("mqtt.topic", "other"), header("mqtt.username", "u")]
    );
    assert!(read.iter().all(|read| read.key.as_deref() == Some(LOCK)));
    assert_eq!(
        [0, 1, 2].map(|index| messages.is_kept(index)),
        [true, false, true]
    );
}

#[test]
fn sessions_point_into_the_first_disk_stream_and_the_strictest_level_counts() {
    let mut turn = turn(&[
        hook(Event::MessagePublish, "a/#", "volatile", ""),
        hook(Event::MessagePublish, "a/b", "events", ""),
        hook(Event::MessagePublish, "a/b", "message_state", ""),
    ]);
    assert_eq!(turn.publish(&facts("a/b", b"x")).ack, Ack::Flush);
    assert_eq!(
        turn.publish(&facts("a/c", b"kept elsewhere too")).ack,
        Ack::Append
    );
    let lower = PublishFacts {
        qos: QoS::AtMostOnce,
        ..facts("a/c", b"memory is enough")
    };
    assert_eq!(turn.publish(&lower).ack, Ack::Memory);
    assert_eq!(turn.ack(), Ack::Flush);
    let (entry, messages) = turn.finish().unwrap();
    assert_eq!(turn.ack(), Ack::Memory);
    let batches = entry
        .appends
        .iter()
        .map(|append| (append.partition, 100, 0))
        .collect();
    let commit = Arc::new(Commit {
        lsn: 1,
        worker: 0,
        turn: 1,
        batches,
        messages,
    });
    let stream_of = |index| {
        let handle = MessageRef::new(commit.clone(), index);
        (
            handle.position().unwrap().partition / 10 * 10,
            handle.is_kept(),
            handle.level(),
        )
    };
    assert_eq!(stream_of(0), (40, true, Ack::Flush));
    assert_eq!(stream_of(1), (50, true, Ack::Append));
    assert_eq!(stream_of(2), (30, false, Ack::Memory));
    let written: Vec<_> = records(&entry)
        .iter()
        .map(|read| read.partition / 10 * 10)
        .collect();
    assert_eq!(
        written,
        [30, 30, 30, 40, 10, 50],
        "grouped by partition, in order of first use"
    );
}

#[test]
fn a_retained_publish_has_its_own_record_and_an_empty_one_a_tombstone() {
    let mut turn = article();
    let topic = "devices/10083618796833171/state";
    let on = PublishFacts {
        retain: true,
        ..facts(topic, STATE)
    };
    let off = PublishFacts {
        retain: true,
        qos: QoS::AtMostOnce,
        ..facts("other", b"")
    };
    assert_eq!(turn.publish(&on).ack, Ack::Flush);
    assert_eq!(turn.publish(&off).ack, Ack::Append, "the table's level");
    let read = turn.finish().map(|(entry, messages)| {
        assert!(messages.retained_place(0) != messages.retained_place(1));
        entry
            .appends
            .into_iter()
            .find(|append| append.partition == 70)
            .unwrap()
    });
    let append = read.unwrap();
    let (batch, _) = BatchView::parse(&append.batch).unwrap();
    let table: Vec<_> = batch
        .records()
        .map(|record| record.unwrap())
        .map(|r| (r.key, r.value.is_some()))
        .collect();
    assert_eq!(
        table,
        [
            (Some(topic.as_bytes()), true),
            (Some(b"other".as_slice()), false)
        ]
    );
}

#[test]
fn announcements_stay_in_memory_and_past_the_hooks() {
    let mut turn = turn(&[hook(Event::MessagePublish, "$SYS/#", "events", "")]);
    let version = PublishFacts {
        retain: true,
        ..facts("$SYS/broker/version", b"1")
    };
    assert_eq!(turn.announce(&version).ack, Ack::Memory);
    let (entry, messages) = turn.finish().unwrap();
    assert_eq!(entry.appends.len(), 1);
    assert_eq!(entry.appends[0].partition, 71);
    assert_eq!(messages.retained_place(0), messages.place(0));
    assert!(!messages.is_kept(0));
}

#[test]
fn keys_follow_their_template() {
    let key = |template: &str, username: &'static str, topic: &str| {
        let mut turn = turn(&[hook(Event::MessagePublish, "#", "events", template)]);
        turn.publish(&PublishFacts {
            username,
            ..facts(topic, b"")
        });
        let read = written(&mut turn);
        let expected = read[0]
            .key
            .as_ref()
            .map(|key| 40 + commitlog::partition_for_key(Some(key.as_bytes()), 4));
        if let Some(expected) = expected {
            assert_eq!(read[0].partition, expected);
        }
        read[0].key.clone()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(key("", "", "a/b"), some(LOCK));
    assert_eq!(key("${clientid}", "", "a/b"), some(LOCK));
    assert_eq!(key("{username}", "u", "a/b"), some("u"));
    assert_eq!(key("${username}", "", "a/b"), some(LOCK));
    assert_eq!(key("${topic}", "", "a/b"), some("a/b"));
    assert_eq!(key("{2}", "", "a/b"), some("b"));
    assert_eq!(key("{3}", "", "a/b"), some(LOCK), "the level is missing");
    assert_eq!(key("{2}", "", "a//b"), some(LOCK), "the level is empty");
    assert_eq!(key("lock-{2}.{username}", "u", "a/b"), some("lock-b.u"));
    assert_eq!(key("none", "", "a/b"), None);
}

#[test]
fn without_keys_records_go_round_the_partitions() {
    let mut turn = turn(&[hook(Event::MessagePublish, "#", "events", "none")]);
    for _ in 0..8 {
        turn.publish(&facts("a", b""));
    }
    let (entry, _) = turn.finish().unwrap();
    let mut partitions: Vec<_> = entry
        .appends
        .iter()
        .map(|a| {
            (
                a.partition,
                BatchView::parse(&a.batch).unwrap().0.head().count(),
            )
        })
        .collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [(40, 2), (41, 2), (42, 2), (43, 2)]);
}

#[test]
fn turns_are_numbered_by_what_they_hand_out() {
    let mut turn = article();
    assert!(turn.finish().is_none());
    assert_eq!(turn.number(), 1);
    let place = turn.table(70, b"k", Some(b"v"), 5);
    assert_eq!(
        place,
        Place {
            append: 0,
            delta: 0
        }
    );
    assert_eq!(
        turn.table(70, b"k", None, 5),
        Place {
            append: 0,
            delta: 1
        }
    );
    assert_eq!(turn.ack(), Ack::Append);
    assert!(!turn.is_empty() && turn.messages() == 0);
    let (entry, messages) = turn.finish().unwrap();
    assert!(messages.is_empty() && entry.appends.len() == 1);
    assert_eq!(turn.number(), 2);
    assert!(turn.is_empty() && turn.size_bytes() == 0);
    let large = vec![7; TURN_BYTES_MAX / 4];
    while !turn.is_full() {
        turn.publish(&facts("other", &large));
    }
    assert!(turn.messages() <= 4);
}

#[test]
fn large_messages_never_make_a_batch_too_large_and_keep_their_places() {
    let plain = HookSettings {
        payload: PayloadEncoding::Plain,
        ..hook(Event::MessagePublish, "#", "events", "")
    };
    let mut turn = turn(&[plain.clone(), plain]);
    // Worst case: every byte needs six, and the raw bytes stand beside it.
    let mut payload = vec![1; 5 * 1024 * 1024];
    payload.push(0xff);
    turn.publish(&facts("a", &payload));
    turn.publish(&facts("b", b"small"));
    let (entry, messages) = turn.finish().unwrap();
    assert_eq!(entry.appends.len(), 3, "each large record closes its batch");
    let place = messages.place(1).unwrap();
    assert_eq!(
        place,
        Place {
            append: 2,
            delta: 0
        }
    );
    let (batch, _) = BatchView::parse(&entry.appends[2].batch).unwrap();
    assert_eq!(batch.head().count(), 2);
    assert!(
        turn.scratch.plain.capacity() <= 2 * TURN_BYTES_MAX,
        "the memory is given back"
    );
}

#[test]
fn session_hooks_are_held_against_the_filter_subscribed_to() {
    let mut turn = turn(&[hook(Event::SessionSubscribed, "a/#", "events", "{2}")]);
    assert!(turn.wants(Event::SessionSubscribed) && !turn.wants(Event::SessionUnsubscribed));
    assert!(turn.matches_event(Event::SessionSubscribed, "a/+/c"));
    assert!(turn.matches_event(Event::SessionSubscribed, "$share/g/a/b"));
    assert!(!turn.matches_event(Event::SessionSubscribed, "b"));
    assert!(!turn.matches_event(Event::SessionUnsubscribed, "a/b"));
    let facts = EventFacts::Subscribed {
        client_id: "c",
        topic: "b/c",
        qos: QoS::AtMostOnce,
    };
    assert_eq!(turn.event(&facts, 1), None);
    assert!(turn.is_empty());
}

#[test]
fn new_hooks_take_effect_at_once() {
    let mut turn = article();
    let topic = "devices/10083618796833171/state";
    turn.publish(&facts(topic, STATE));
    let table = HookTable::compile("n", &[], &streams()).unwrap();
    turn.set_hooks(Arc::new(table));
    turn.publish(&facts(topic, STATE));
    let (entry, _) = turn.finish().unwrap();
    let streams: Vec<_> = records(&entry)
        .iter()
        .map(|read| read.partition / 10 * 10)
        .collect();
    assert_eq!(streams, [10, 50]);
}

/// What a PUBLISH costs: 256 bytes, `QoS` 1, one hook. Run with
/// `cargo test --release -p broker -- --ignored --nocapture publish_costs`.
#[test]
#[ignore = "a measurement"]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement needs a clock"
)]
fn publish_costs() {
    let mut turn = article();
    let mut payload = STATE.to_vec();
    payload.resize(256, b' ');
    let topics: Vec<(String, String)> = (0..1000)
        .map(|lock| (format!("{lock:017}"), format!("devices/{lock:017}/state")))
        .collect();
    // The best of many short runs, so that what else the machine does is not counted.
    let mut best = u128::MAX;
    for _ in 0..1000 {
        let start = std::time::Instant::now();
        for (client_id, topic) in &topics {
            turn.publish(&PublishFacts {
                client_id,
                ..facts(topic, &payload)
            });
            if turn.is_full() {
                std::hint::black_box(turn.finish());
            }
        }
        best = best.min(start.elapsed().as_nanos() / 1000);
    }
    println!("publish, 256 B into one hook stream: {best} ns a message");
    assert!(best < 400, "{best} ns");
}

#[test]
fn records_are_counted_by_the_counter_of_their_hook_across_tables() {
    let counted = |event, filter: &str, counter| HookSettings {
        counter,
        ..hook(event, filter, "events", "")
    };
    let first = [
        counted(Event::MessagePublish, "a/#", 0),
        counted(Event::ClientConnected, "#", 2),
    ];
    let mut turn = turn(&first);
    turn.publish(&facts("a/1", b"x"));
    turn.publish(&facts("b/1", b"x"));
    let connected = EventFacts::Connected {
        client_id: "lock",
        username: "",
    };
    turn.event(&connected, 1);
    turn.event(&connected, 2);
    assert_eq!(turn.made(), [1, 0, 2]);
    // The first is switched off, another has come: what was counted stays.
    let second = [
        counted(Event::MessagePublish, "b/#", 3),
        counted(Event::ClientConnected, "#", 2),
    ];
    let table = HookTable::compile("emqx@127.0.0.1", &second, &streams()).unwrap();
    turn.set_hooks(Arc::new(table));
    turn.publish(&facts("a/1", b"x"));
    turn.publish(&facts("b/1", b"x"));
    turn.event(&connected, 3);
    assert_eq!(turn.made(), [1, 0, 3, 1]);
}
