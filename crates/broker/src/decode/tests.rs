//! Any PUBLISH, written as a record in any way, is read back as the same message; no bytes make
//! the reader fail otherwise than by its error.

use super::*;
use crate::hooks::{Event, HookSettings, PayloadEncoding};
use crate::turn::tests::{facts, hook, turn};
use crate::turn::{PublishFacts, Turn};
use commitlog::{BatchBuilder, BatchView};
use proptest::prelude::*;

/// Messages and their records, as `Messages` and the batches of one turn say.
fn check_turn(turn: &mut Turn) {
    let hooks = turn.hooks().clone();
    let (entry, messages) = turn.finish().unwrap();
    let read = |place: crate::message::Place| {
        let append = &entry.appends[place.append as usize];
        let (batch, _) = BatchView::parse(&append.batch).unwrap();
        let record = batch.records().nth(place.delta as usize).unwrap().unwrap();
        decode_record(hooks.kind(append.partition).unwrap(), &record)
    };
    for index in 0..messages.len() as u32 {
        let message = messages.get(index);
        let owned = read(messages.place(index).unwrap()).unwrap();
        assert_eq!(owned.view(), message);
        if let Some(place) = messages.retained_place(index) {
            let retained = read(place);
            if message.payload.is_empty() {
                assert_eq!(retained.unwrap_err().what, "the record has no value");
            } else {
                let expected = MessageView {
                    retain: true,
                    dup: false,
                    // Kept beside the event, not in the table.
                    peer: "",
                    principal: "",
                    ..message
                };
                assert_eq!(retained.unwrap().view(), expected);
            }
        }
    }
}

/// Payload format, expiry, response topic, correlation data, content type, user properties.
type Properties = (
    Option<u8>,
    Option<u32>,
    Option<String>,
    Option<Vec<u8>>,
    Option<String>,
    Vec<(String, String)>,
);

prop_compose! {
    fn properties()(
        payload_format in prop::option::of(0u8..2),
        expiry_s in prop::option::of(any::<u32>()),
        response_topic in prop::option::of("[a-z/]{1,20}"),
        correlation in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        content_type in prop::option::of("\\PC{0,10}"),
        user in prop::collection::vec(("[a-c]{0,3}", "(?s).{0,5}"), 0..20),
    ) -> Properties {
        (payload_format, expiry_s, response_topic, correlation, content_type, user)
    }
}

proptest! {
    #[test]
    fn a_publish_survives_its_record(
        client_id in "\\PC{0,20}",
        username in "(?s).{0,8}",
        topic in "[^+#\u{0}]{1,30}",
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "(?s).{0,40}".prop_map(String::into_bytes),
        ],
        qos in 0u8..3,
        flags in any::<(bool, bool)>(),
        now_ms in 0u64..1 << 50,
        (payload_format, expiry_s, response_topic, correlation, content_type, user) in properties(),
    ) {
        let pairs: Vec<(&str, &str)> =
            user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let properties = PublishProperties {
            payload_format,
            expiry_s,
            response_topic: response_topic.as_deref(),
            correlation_data: correlation.as_deref(),
            content_type: content_type.as_deref(),
            user: UserProperties::from_slice(&pairs),
            ..PublishProperties::default()
        };
        let publish = PublishFacts {
            client_id: &client_id,
            username: &username,
            qos: QoS::from_u8(qos).unwrap(),
            retain: flags.0,
            dup: flags.1,
            properties: &properties,
            now_ms,
            peer: "1.2.3.4:5",
            principal: &username,
            ..facts(&topic, &payload)
        };
        let base64 = hook(Event::MessagePublish, "#", "events", "");
        let plain = HookSettings { payload: PayloadEncoding::Plain, ..base64.clone() };
        for hooks in [vec![], vec![base64], vec![plain]] {
            let mut turn = turn(&hooks);
            turn.publish(&publish);
            check_turn(&mut turn);
            // An announcement without payload is a tombstone where its message should be.
            if !payload.is_empty() {
                turn.announce(&publish);
                check_announced(&mut turn);
            }
        }
    }

    #[test]
    fn no_record_makes_the_reader_panic(
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..10)),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        headers in prop::collection::vec((
            prop::sample::select(vec![
                "mqtt.topic", "mqtt.username", "mqtt.qos", "mqtt.ts", "mqtt.expiry", "mqtt.user.x",
                "mqtt.payload_format", "mqtt.content_type", "mqtt.correlation_data", "mqtt.payload",
            ]),
            prop_oneof![prop::collection::vec(any::<u8>(), 0..10), Just(b"1".to_vec())],
        ), 0..6),
    ) {
        let headers: Vec<(&[u8], &[u8])> =
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect();
        let mut builder = BatchBuilder::new();
        builder.push(1, key.as_deref(), value.as_deref(), &headers);
        let batch = builder.finish();
        let (batch, _) = BatchView::parse(&batch).unwrap();
        let record = batch.records().next().unwrap().unwrap();
        use StreamKind::{Default, DefaultQos0, Hook, Retained};
        for kind in [Hook, Default, DefaultQos0, Retained] {
            let _ = decode_record(kind, &record);
        }
    }
}

/// As [`check_turn`], for a message of the node itself.
fn check_announced(turn: &mut Turn) {
    let hooks = turn.hooks().clone();
    let (entry, messages) = turn.finish().unwrap();
    let place = messages.place(0).unwrap();
    let append = &entry.appends[place.append as usize];
    let (batch, _) = BatchView::parse(&append.batch).unwrap();
    let record = batch.records().nth(place.delta as usize).unwrap().unwrap();
    let owned = decode_record(hooks.kind(append.partition).unwrap(), &record).unwrap();
    let expected = MessageView {
        retain: true,
        dup: false,
        peer: "",
        principal: "",
        ..messages.get(0)
    };
    assert_eq!(owned.view(), expected);
}

/// Decodes a record of a hook stream.
fn decode_value(value: &str, headers: &[(&[u8], &[u8])]) -> Result<OwnedMessage, RecordError> {
    let mut builder = BatchBuilder::new();
    builder.push(1, None, Some(value.as_bytes()), headers);
    let batch = builder.finish();
    let (batch, _) = BatchView::parse(&batch).unwrap();
    decode_record(StreamKind::Hook, &batch.records().next().unwrap().unwrap())
}

#[test]
fn foreign_order_and_unknown_fields_are_read() {
    let owned = decode_value(
        r#"{ "ts": 5, "new": {"a": [1]}, "qos": 1, "payload": "MzcuNQ==", "topic": "a\u002fb",
             "client_id": "c" }"#,
        &[(b"mqtt.unknown", b"x")],
    )
    .unwrap();
    let message = owned.view();
    assert_eq!(
        (message.topic, message.payload),
        ("a/b", b"37.5".as_slice())
    );
    assert_eq!(
        (message.publisher, message.username, message.publish_ms),
        ("c", "", 5)
    );
}

#[test]
fn what_is_wrong_is_said() {
    let json = r#"{"client_id":"c","topic":"<t>","payload":"<p>","qos":<q>,"ts":1}"#;
    let with = |topic: &str, payload: &str, qos: &str| {
        let json = json
            .replace("<t>", topic)
            .replace("<p>", payload)
            .replace("<q>", qos);
        decode_value(&json, &[])
            .map(|_| ())
            .map_err(|error| error.what)
    };
    assert_eq!(with("t", "MzcuNQ==", "1"), Ok(()));
    assert_eq!(with("t/#", "MzcuNQ==", "1"), Err("the topic is not valid"));
    assert_eq!(with("t", "M", "1"), Err("payload is not base64"));
    assert_eq!(with("t", "MzcuNQ==", "3"), Err("qos is not 0, 1 or 2"));
    assert_eq!(
        with("t", "", "x"),
        Err("the value is not the JSON of a message event")
    );
    let long = "x".repeat(70_000);
    assert_eq!(
        with(&long, "", "0"),
        Err("a text is longer than MQTT allows")
    );
}

/// What reading a message back costs, as at start. Run with
/// `cargo test --release -p broker -- --ignored --nocapture decoding_costs`.
#[test]
#[ignore = "a measurement"]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement needs a clock"
)]
fn decoding_costs() {
    let mut turn = turn(&[hook(Event::MessagePublish, "#", "events", "{2}")]);
    let payload = [b'x'; 256];
    for _ in 0..1000 {
        turn.publish(&facts("devices/10083618796833171/state", &payload));
    }
    let (entry, _) = turn.finish().unwrap();
    let mut best = u128::MAX;
    for _ in 0..300 {
        let start = std::time::Instant::now();
        let (batch, _) = BatchView::parse(&entry.appends[0].batch).unwrap();
        for record in batch.records() {
            std::hint::black_box(decode_record(StreamKind::Hook, &record.unwrap()).unwrap());
        }
        best = best.min(start.elapsed().as_nanos() / 1000);
    }
    println!("decode, 256 B: {best} ns a message");
}
