//! Tests of the JSON against `serde_json`, and of the headers.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn headers_of(headers: &RecordHeaders<'_>) -> Vec<(String, Vec<u8>)> {
    let mut names = Vec::new();
    headers.with(&mut names, |list| {
        list.iter()
            .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
            .collect()
    })
}

proptest! {
    #[test]
    fn json_is_what_a_json_library_reads_and_writes(
        client_id in "\\PC{0,12}|[\u{0}-\u{7f}]{0,12}",
        username in "[\u{0}-\u{ff}]{0,8}",
        topic in "(?s).{1,40}",
        payload in prop::collection::vec(any::<u8>(), 0..80),
        plain in "(?s).{0,40}",
        ts in any::<u64>(),
    ) {
        let mut json = MessageJson {
            client_id: &client_id,
            username: &username,
            from: Some(&username),
            topic: &topic,
            payload: &payload,
            qos: QoS::ExactlyOnce,
            reason: Some("expired"),
            node_json: b"n",
            ts,
        };
        let mut out = Vec::new();
        json.write(PayloadEncoding::Base64, &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        let base64 = STANDARD.encode_to_string(&payload);
        prop_assert_eq!(&value, &json!({
            "client_id": client_id, "username": username, "from": username, "topic": topic,
            "payload": base64, "qos": 2, "reason": "expired", "node": "n", "ts": ts,
        }));
        // serde_json escapes as we do, so the strings agree byte for byte.
        let mut escaped = Vec::new();
        write_escaped(&mut escaped, &topic);
        let library = serde_json::to_string(&topic).unwrap();
        prop_assert_eq!(&escaped, &library.as_bytes()[1..library.len() - 1]);

        json.payload = plain.as_bytes();
        out.clear();
        json.write(PayloadEncoding::Plain, &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&value["payload"], &json!(plain));
        json.payload = &payload;
        out.clear();
        json.write(PayloadEncoding::Plain, &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&value["payload"], &json!(String::from_utf8_lossy(&payload)));
    }
}

#[test]
fn only_what_is_not_default_is_written() {
    assert!(headers_of(&RecordHeaders::default()).is_empty());
    let text = RecordHeaders::default().encoded(PayloadEncoding::Plain, b"text");
    let plain = ("mqtt.payload_encoding".to_owned(), b"plain".to_vec());
    assert_eq!(headers_of(&text), std::slice::from_ref(&plain));
    let raw = RecordHeaders::default().encoded(PayloadEncoding::Plain, &[0xff]);
    assert_eq!(
        headers_of(&raw),
        [plain, ("mqtt.payload".to_owned(), vec![0xff])]
    );
}

#[test]
fn all_headers_in_order_and_many_user_properties() {
    let pairs: Vec<(String, String)> = (0..40)
        .map(|number| (format!("name{number}"), format!("value{number}")))
        .collect();
    let pairs: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut raw = Vec::new();
    mqtt::PublishProperties {
        payload_format: Some(1),
        response_topic: Some("r"),
        correlation_data: Some(&[9]),
        content_type: Some("t"),
        user: mqtt::UserProperties::from_slice(&pairs),
        ..mqtt::PublishProperties::default()
    }
    .encode_forwarded(&mut raw);
    let headers = headers_of(&RecordHeaders {
        topic: Some("a/b"),
        username: Some("u"),
        qos: Some(QoS::ExactlyOnce),
        mid: Some(Position {
            partition: u32::MAX,
            offset: u64::MAX,
        }),
        copy: true,
        publish_ms: Some(u64::MAX),
        retain: true,
        dup: true,
        expiry_s: Some(0),
        properties: ForwardProperties::from_raw(&raw),
        plain: false,
        payload: None,
        peer: Some("[::1]:5"),
        principal: Some("me"),
    });
    let mut expected: Vec<(String, Vec<u8>)> = [
        ("mqtt.topic", "a/b"),
        ("mqtt.username", "u"),
        ("mqtt.qos", "2"),
        ("mqtt.mid", "4294967295-18446744073709551615"),
        ("mqtt.copy", "1"),
        ("mqtt.ts", "18446744073709551615"),
        ("mqtt.retain", "1"),
        ("mqtt.dup", "1"),
        ("mqtt.expiry", "0"),
        ("mqtt.payload_format", "1"),
        ("mqtt.response_topic", "r"),
        ("mqtt.correlation_data", "\t"),
        ("mqtt.content_type", "t"),
    ]
    .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
    .to_vec();
    expected.extend(
        pairs
            .iter()
            .map(|(name, value)| (format!("mqtt.user.{name}"), value.as_bytes().to_vec())),
    );
    expected.push(("mqtt.peer".to_owned(), b"[::1]:5".to_vec()));
    expected.push(("mqtt.principal".to_owned(), b"me".to_vec()));
    assert_eq!(headers, expected);
}
