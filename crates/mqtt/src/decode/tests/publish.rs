//! PUBLISH, by normative statement; numbers are those of MQTT 5 unless 3.1.1 is named.

use super::*;

/// [MQTT-2.2.1-2], [MQTT-3.3.2-1], [MQTT-2.2.2-1].
#[test]
fn a_publish_in_each_version() {
    let body = [0, 3, b'a', b'/', b'b', b'h', b'i'];
    for version in [Version::V31, Version::V311] {
        let bytes = packet(0x31, &body);
        let Ok(Packet::Publish(publish)) = read(&bytes, version) else {
            panic!()
        };
        assert_eq!((publish.topic, publish.payload), ("a/b", &b"hi"[..]));
        assert!(publish.retain && !publish.dup);
        assert_eq!((publish.qos, publish.packet_id), (QoS::AtMostOnce, 0));
    }
    let bytes = packet(0x3A, &[0, 1, b't', 0x12, 0x34, 0, 0xFF]);
    let Ok(Packet::Publish(publish)) = read(&bytes, Version::V5) else {
        panic!()
    };
    assert_eq!(
        (publish.packet_id, publish.qos, publish.dup),
        (0x1234, QoS::AtLeastOnce, true)
    );
    assert_eq!(publish.payload, [0xFF]);
    assert_eq!(publish.properties, PublishProperties::default());
    let bytes = packet(0x3A, &[0, 1, b't', 0x12, 0x34]);
    assert_eq!(
        refused(&bytes, Version::V5),
        MALFORMED,
        "no property length"
    );
}

/// [MQTT-3.3.1-4] of both versions.
#[test]
fn a_publish_has_no_qos_three() {
    for version in [Version::V31, Version::V311, Version::V5] {
        assert_eq!(
            refused(&packet(0x36, &[0, 1, b't', 0, 1, 0]), version),
            MALFORMED
        );
    }
}

/// [MQTT-3.3.1-2] of both versions.
#[test]
fn dup_is_zero_with_qos_zero() {
    let bytes = packet(0x38, &[0, 1, b't', 0]);
    assert_eq!(refused(&bytes, Version::V311), MALFORMED);
    assert_eq!(refused(&bytes, Version::V5), MALFORMED);
    assert!(read(&bytes, Version::V31).is_ok());
}

/// [MQTT-3.3.2-2], [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-1.5.4-1].
#[test]
fn a_publish_goes_to_a_topic_name() {
    for version in [Version::V311, Version::V5] {
        for topic in [&b"+"[..], b"a/#", b"a\0", b"\xff", b"a/+/b"] {
            let mut body = vec![0, topic.len() as u8];
            body.extend_from_slice(topic);
            body.push(0);
            assert_eq!(
                refused(&packet(0x30, &body), version),
                MALFORMED,
                "{topic:x?}"
            );
        }
    }
    assert_eq!(refused(&packet(0x30, &[0, 0, 0]), Version::V311), MALFORMED);
    assert_eq!(
        refused(&packet(0x30, &[0, 0, 0]), Version::V5),
        PROTOCOL,
        "neither topic nor alias"
    );
    assert!(read(&packet(0x30, &[0, 0, 3, 0x23, 0, 1]), Version::V5).is_ok());
}

/// [MQTT-2.2.1-3]; 3.1.1: [MQTT-2.3.1-1].
#[test]
fn packet_identifiers_are_not_zero() {
    for version in [Version::V31, Version::V311, Version::V5] {
        for (first, body) in [
            (0x32, &[0, 1, b't', 0, 0, 0][..]),
            (0x34, &[0, 1, b't', 0, 0, 0]),
            (0x40, &[0, 0]),
            (0x50, &[0, 0]),
            (0x62, &[0, 0]),
            (0x70, &[0, 0]),
            (0x82, &[0, 0, 0, 0, 1, b'a', 0]),
            (0xA2, &[0, 0, 0, 0, 1, b'a']),
        ] {
            assert_eq!(
                refused(&packet(first, body), version),
                PROTOCOL,
                "{first:x} {version:?}"
            );
        }
    }
}

fn publish_with(properties: &'static [u8]) -> Result<PublishProperties<'static>, ReasonCode> {
    let mut body = vec![0, 1, b't', properties.len() as u8];
    body.extend_from_slice(properties);
    match read(packet(0x30, &body).leak(), Version::V5)? {
        Packet::Publish(publish) => Ok(publish.properties),
        _ => panic!("a PUBLISH was written"),
    }
}

/// MQTT 5, 3.3.2.3; [MQTT-3.3.2-8], [MQTT-3.3.2-13], [MQTT-3.3.2-14], [MQTT-3.3.2-19].
#[test]
fn publish_properties_have_their_bounds() {
    assert_eq!(
        publish_with(&[0x23, 0, 0]).unwrap_err(),
        ReasonCode::TopicAliasInvalid
    );
    assert_eq!(
        publish_with(&[0x01, 2]).unwrap_err(),
        PROTOCOL,
        "format indicator 2"
    );
    assert_eq!(
        publish_with(&[0x01, 1, 0x01, 1]).unwrap_err(),
        PROTOCOL,
        "twice"
    );
    assert_eq!(
        publish_with(&[0x08, 0, 1, b'#']).unwrap_err(),
        PROTOCOL,
        "wildcard"
    );
    assert_eq!(publish_with(&[0x08, 0, 1, 0xFF]).unwrap_err(), MALFORMED);
    assert_eq!(publish_with(&[0x03, 0, 1, 0xFF]).unwrap_err(), MALFORMED);
    assert_eq!(
        publish_with(&[0x0B, 0]).unwrap_err(),
        PROTOCOL,
        "subscription identifier 0"
    );
    assert_eq!(
        publish_with(&[0x11, 0, 0, 0, 0]).unwrap_err(),
        MALFORMED,
        "not of PUBLISH"
    );
    let read = publish_with(&[
        0x0B, 1, 0x26, 0, 1, b'a', 0, 0, 0x02, 0, 0, 0, 9, 0x0B, 0x80, 1, 0x09, 0, 1, 7, 0x26, 0,
        1, b'b', 0, 0, 0x23, 0, 4, 0x01, 1, 0x08, 0, 1, b'r', 0x03, 0, 1, b'c',
    ])
    .unwrap();
    assert_eq!(
        read.subscription_ids,
        SubscriptionIds::from_slice(&[1, 128])
    );
    assert_eq!(read.user.iter().collect::<Vec<_>>(), [("a", ""), ("b", "")]);
    assert_eq!(
        (read.expiry_s, read.topic_alias, read.payload_format),
        (Some(9), Some(4), Some(1))
    );
    assert_eq!(read.correlation_data, Some(&[7][..]));
    assert_eq!(
        (read.response_topic, read.content_type),
        (Some("r"), Some("c"))
    );
}

#[test]
fn forwarded_properties_are_read_back() {
    let user = UserProperties::from_slice(&[("k", "v"), ("k", "w")]);
    let properties = PublishProperties {
        payload_format: Some(0),
        expiry_s: Some(3),
        topic_alias: Some(9),
        response_topic: Some("r/s"),
        correlation_data: Some(b"c"),
        subscription_ids: SubscriptionIds::from_slice(&[5]),
        content_type: Some("t"),
        user,
    };
    let mut bytes = Vec::new();
    properties.encode_forwarded(&mut bytes);
    let kept = PublishProperties {
        expiry_s: None,
        topic_alias: None,
        subscription_ids: SubscriptionIds::EMPTY,
        ..properties
    };
    assert_eq!(PublishProperties::from_forwarded(&bytes), Ok(kept));
}

/// Not a test of correctness: prints what a decode costs.
#[test]
#[ignore = "a measurement: cargo test -p mqtt --release -- --ignored --nocapture decode_cost"]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement"
)]
fn decode_cost() {
    use std::hint::black_box;
    let payload = [b'x'; 256];
    let user = UserProperties::from_slice(&[("k", "v")]);
    let properties = PublishProperties {
        expiry_s: Some(60),
        user,
        ..Default::default()
    };
    for (name, version, qos, properties) in [
        (
            "QoS 0 3.1.1",
            Version::V311,
            QoS::AtMostOnce,
            PublishProperties::default(),
        ),
        (
            "QoS 1 3.1.1",
            Version::V311,
            QoS::AtLeastOnce,
            PublishProperties::default(),
        ),
        (
            "QoS 1 5.0",
            Version::V5,
            QoS::AtLeastOnce,
            PublishProperties::default(),
        ),
        (
            "QoS 1 5.0 expiry, user",
            Version::V5,
            QoS::AtLeastOnce,
            properties,
        ),
    ] {
        let mut bytes = Vec::new();
        let topic = "devices/0123456789/state";
        let publish = Publish {
            qos,
            topic,
            packet_id: 9,
            properties,
            payload: &payload,
            ..Publish::default()
        };
        Packet::Publish(publish).encode(version, &mut bytes);
        let rounds = 5_000_000_u32;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            let packet = decode(black_box(&bytes), black_box(version), PACKET_SIZE_MAX);
            let Ok(Some((Packet::Publish(publish), len))) = packet else {
                panic!()
            };
            black_box((
                publish.topic.len(),
                publish.payload.len(),
                publish.packet_id,
                len,
            ));
        }
        println!(
            "{name}: {:.1} ns",
            start.elapsed().as_nanos() as f64 / f64::from(rounds)
        );
    }
    let ack = [0x40, 2, 0, 7];
    let start = std::time::Instant::now();
    for _ in 0..5_000_000 {
        black_box(decode(black_box(&ack), Version::V311, PACKET_SIZE_MAX).is_ok());
    }
    println!("PUBACK: {:.1} ns", start.elapsed().as_nanos() as f64 / 5e6);
}
