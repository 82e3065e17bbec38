//! The decoder, by normative statement; numbers are those of MQTT 5 unless 3.1.1 is named.

use super::*;
use crate::limits::PACKET_SIZE_MAX;
use crate::{ConnectProperties, RetainHandling, SubscriptionIds};

fn read(bytes: &[u8], version: Version) -> Result<Packet<'_>, ReasonCode> {
    match decode(bytes, version, PACKET_SIZE_MAX) {
        Ok(Some((packet, len))) => {
            assert_eq!(len, bytes.len());
            Ok(packet)
        }
        Ok(None) => panic!("{bytes:x?} is a whole packet"),
        Err(error) => {
            assert_eq!(error.version, Some(version));
            Err(error.reason)
        }
    }
}

fn refused(bytes: &[u8], version: Version) -> ReasonCode {
    read(bytes, version).expect_err("this packet must be refused")
}

/// A CONNECT with these bytes behind the protocol name.
fn connect_bytes(name: &str, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        0x10,
        (2 + name.len() + rest.len()) as u8,
        0,
        name.len() as u8,
    ];
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn connect_refused(bytes: &[u8]) -> DecodeError {
    decode_connect(bytes, PACKET_SIZE_MAX).expect_err("this CONNECT must be refused")
}

/// A packet whose remaining length fits one byte.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, body.len() as u8];
    bytes.extend_from_slice(body);
    bytes
}

const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;
const PROTOCOL: ReasonCode = ReasonCode::ProtocolError;

/// [MQTT-3.1.0-1] of both versions.
#[test]
fn the_first_packet_is_connect() {
    for first in [0x00, 0x20, 0x30, 0x82, 0xC0, 0xE0, 0xF0] {
        let error = connect_refused(&[first]);
        assert_eq!(error.reason, PROTOCOL);
        assert!(
            !error.write_connack(&mut Vec::new()),
            "closed without a word"
        );
    }
    assert_eq!(connect_refused(&[0x11]).reason, MALFORMED);
    assert_eq!(decode_connect(&[], 10), Ok(None));
    assert_eq!(decode_connect(&[0x10, 0x0C, 0], 100), Ok(None));
}

/// [MQTT-3.1.2-1] of both versions: another protocol gets no CONNACK.
#[test]
fn the_protocol_name_is_exact() {
    let error = connect_refused(&connect_bytes("MQTX", &[5, 2, 0, 60, 0, 0, 0]));
    assert_eq!(error.reason, ReasonCode::UnsupportedProtocolVersion);
    assert_eq!(error.version, None);
    assert!(!error.write_connack(&mut Vec::new()));
}

/// [MQTT-3.1.2-2] of both versions.
#[test]
fn an_unknown_version_is_answered_in_its_own_words() {
    let cases: [(&str, u8, &[u8]); 5] = [
        ("MQTT", 6, &[0x20, 3, 0, 0x84, 0]),
        ("MQTT", 3, &[0x20, 2, 0, 1]),
        ("MQTT", 0x84, &[0x20, 2, 0, 1]),
        ("MQIsdp", 4, &[0x20, 2, 0, 1]),
        ("MQTT", 0, &[0x20, 2, 0, 1]),
    ];
    for (name, level, expected) in cases {
        let error = connect_refused(&connect_bytes(name, &[level, 2, 0, 60, 0, 0]));
        assert_eq!(error.reason, ReasonCode::UnsupportedProtocolVersion);
        let mut connack = Vec::new();
        assert!(error.write_connack(&mut connack));
        assert_eq!(connack, expected, "{name} {level}");
    }
}

#[test]
fn all_three_versions_connect() {
    for (name, level, tail) in [
        ("MQIsdp", 3, &[0, 1, b'a'][..]),
        ("MQTT", 4, &[0, 1, b'a']),
        ("MQTT", 5, &[0, 0, 1, b'a']),
    ] {
        let mut rest = vec![level, 0x02, 0x01, 0x02];
        rest.extend_from_slice(tail);
        let bytes = connect_bytes(name, &rest);
        let (connect, len) = decode_connect(&bytes, PACKET_SIZE_MAX).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        assert_eq!(connect.version.level(), level);
        assert_eq!(connect.client_id, "a");
        assert_eq!(connect.keep_alive_s, 258);
        assert!(connect.clean_start && connect.will.is_none());
        assert_eq!(connect.session_expiry_s(), 0);
        let second = read(&bytes, connect.version).unwrap();
        assert_eq!(
            second,
            Packet::Connect(connect),
            "a second CONNECT is for the session to judge"
        );
    }
}

/// [MQTT-3.1.2-3] of both versions; [MQTT-3.1.4-1]; 3.1.1: [MQTT-3.1.4-1].
#[test]
fn the_reserved_connect_flag_is_zero() {
    let v311 = connect_refused(&connect_bytes("MQTT", &[4, 3, 0, 60, 0, 1, b'a']));
    assert_eq!(v311.reason, MALFORMED);
    assert!(
        !v311.write_connack(&mut Vec::new()),
        "3.1.1: [MQTT-3.1.4-1]"
    );
    let v5 = connect_refused(&connect_bytes("MQTT", &[5, 3, 0, 60, 0, 0, 1, b'a']));
    let mut connack = Vec::new();
    assert!(v5.write_connack(&mut connack));
    assert_eq!(connack, [0x20, 3, 0, 0x81, 0]);
}

/// [MQTT-3.1.2-11], [MQTT-3.1.2-13]; 3.1.1: [MQTT-3.1.2-11], [MQTT-3.1.2-13],
/// [MQTT-3.1.2-15].
#[test]
fn without_a_will_its_flags_are_zero() {
    for flags in [0x0A, 0x12, 0x22, 0x1A] {
        for (level, rest) in [(4, &[0, 1, b'a'][..]), (5, &[0, 0, 1, b'a'])] {
            let mut bytes = vec![level, flags, 0, 60];
            bytes.extend_from_slice(rest);
            assert_eq!(
                connect_refused(&connect_bytes("MQTT", &bytes)).reason,
                MALFORMED
            );
        }
    }
}

/// [MQTT-3.1.2-12]; 3.1.1: [MQTT-3.1.2-14].
#[test]
fn the_wills_qos_is_not_three() {
    let rest = [4, 0x1E, 0, 60, 0, 1, b'a', 0, 1, b't', 0, 0];
    assert_eq!(
        connect_refused(&connect_bytes("MQTT", &rest)).reason,
        MALFORMED
    );
}

/// [MQTT-3.1.2-9], [MQTT-3.1.3-1], [MQTT-3.1.3-11], [MQTT-3.1.3-12].
#[test]
fn the_payload_of_connect_has_its_fields_in_order() {
    let rest = [
        5, 0xEE, 0, 60, 0, // flags: user, password, will retain, QoS 1, will, clean start
        0, 1, b'c', // client id
        5, 0x18, 0, 0, 0, 9, // will properties: delay
        0, 1, b't', 0, 2, 1, 2, // will
        0, 1, b'u', 0, 1, 0xFF,
    ];
    let bytes = connect_bytes("MQTT", &rest);
    let (connect, _) = decode_connect(&bytes, PACKET_SIZE_MAX).unwrap().unwrap();
    let will = connect.will.unwrap();
    assert_eq!(
        (will.topic, will.payload, will.qos, will.retain),
        ("t", &[1, 2][..], QoS::AtLeastOnce, true)
    );
    assert_eq!(will.properties.delay_s, 9);
    assert_eq!(
        (connect.username, connect.password),
        (Some("u"), Some(&[0xFF][..]))
    );
    for cut in 7..bytes.len() {
        let mut short = bytes[..cut].to_vec();
        short[1] = (cut - 2) as u8;
        assert!(
            decode_connect(&short, PACKET_SIZE_MAX).is_err(),
            "a field is missing"
        );
    }
    let mut long = bytes.clone();
    long.push(0);
    long[1] += 1;
    assert_eq!(connect_refused(&long).reason, MALFORMED);
}

#[test]
fn will_topics_are_names() {
    let rest = [4, 0x06, 0, 60, 0, 1, b'a', 0, 1, b'#', 0, 0];
    assert_eq!(
        connect_refused(&connect_bytes("MQTT", &rest)).reason,
        MALFORMED
    );
    let rest = [4, 0x06, 0, 60, 0, 1, b'a', 0, 0, 0, 0];
    assert_eq!(
        connect_refused(&connect_bytes("MQTT", &rest)).reason,
        MALFORMED
    );
    let rest = [4, 0x06, 0, 60, 0, 1, b'a', 0, 1, 0xFF, 0, 0];
    assert_eq!(
        connect_refused(&connect_bytes("MQTT", &rest)).reason,
        MALFORMED
    );
}

/// 3.1.1: [MQTT-3.1.2-22]; MQTT 5 allows it.
#[test]
fn a_password_alone_is_for_mqtt_5() {
    let v311 = [4, 0x42, 0, 60, 0, 1, b'a', 0, 1, b'p'];
    assert_eq!(
        connect_refused(&connect_bytes("MQTT", &v311)).reason,
        MALFORMED
    );
    let v5 = connect_bytes("MQTT", &[5, 0x42, 0, 60, 0, 0, 1, b'a', 0, 1, b'p']);
    let (connect, _) = decode_connect(&v5, PACKET_SIZE_MAX).unwrap().unwrap();
    assert_eq!(
        (connect.username, connect.password),
        (None, Some(&b"p"[..]))
    );
}

/// [MQTT-3.1.3-6]; 3.1.1: [MQTT-3.1.3-7] and [MQTT-3.1.3-8].
#[test]
fn an_empty_client_id_needs_a_session_that_ends() {
    for (name, level, flags) in [("MQTT", 4, 0), ("MQIsdp", 3, 0), ("MQIsdp", 3, 2)] {
        let error = connect_refused(&connect_bytes(name, &[level, flags, 0, 60, 0, 0]));
        assert_eq!(error.reason, ReasonCode::ClientIdentifierNotValid);
        let mut connack = Vec::new();
        assert!(error.write_connack(&mut connack));
        assert_eq!(connack, [0x20, 2, 0, 2]);
    }
    for rest in [
        &[4, 2, 0, 60, 0, 0][..],
        &[5, 2, 0, 60, 0, 0, 0],
        &[5, 0, 0, 60, 0, 0, 0],
    ] {
        assert!(decode_connect(&connect_bytes("MQTT", rest), PACKET_SIZE_MAX).is_ok());
    }
}

/// [MQTT-3.1.3-4] of both versions.
#[test]
fn a_client_id_is_utf_8() {
    let error = connect_refused(&connect_bytes("MQTT", &[4, 2, 0, 60, 0, 1, 0xFF]));
    assert_eq!(error.reason, MALFORMED);
    assert!(!error.write_connack(&mut Vec::new()));
}

/// MQTT 3.1: the remaining length takes precedence over the user name flag.
#[test]
fn in_3_1_a_promised_user_name_may_be_missing() {
    let bytes = connect_bytes("MQIsdp", &[3, 0xC2, 0, 60, 0, 1, b'a']);
    let (connect, _) = decode_connect(&bytes, PACKET_SIZE_MAX).unwrap().unwrap();
    assert_eq!((connect.username, connect.password), (None, None));
}

fn connect_with(properties: &[u8]) -> Result<ConnectProperties<'static>, ReasonCode> {
    let mut rest = vec![5, 2, 0, 60, properties.len() as u8];
    rest.extend_from_slice(properties);
    rest.extend_from_slice(&[0, 1, b'a']);
    let bytes = connect_bytes("MQTT", &rest).leak();
    match decode_connect(bytes, PACKET_SIZE_MAX) {
        Ok(packet) => Ok(packet.unwrap().0.properties),
        Err(error) => Err(error.reason),
    }
}

/// MQTT 5, 3.1.2.11: what each property says is a protocol error.
#[test]
fn connect_properties_have_their_bounds() {
    assert_eq!(
        connect_with(&[0x21, 0, 0]).unwrap_err(),
        PROTOCOL,
        "receive maximum 0"
    );
    assert_eq!(
        connect_with(&[0x27, 0, 0, 0, 0]).unwrap_err(),
        PROTOCOL,
        "packet size 0"
    );
    assert_eq!(
        connect_with(&[0x17, 2]).unwrap_err(),
        PROTOCOL,
        "problem information 2"
    );
    assert_eq!(
        connect_with(&[0x19, 2]).unwrap_err(),
        PROTOCOL,
        "response information 2"
    );
    assert_eq!(
        connect_with(&[0x16, 0, 0]).unwrap_err(),
        PROTOCOL,
        "data without a method"
    );
    assert_eq!(
        connect_with(&[0x22, 0, 5, 0x22, 0, 5]).unwrap_err(),
        PROTOCOL,
        "twice"
    );
    assert_eq!(
        connect_with(&[0x23, 0, 5]).unwrap_err(),
        MALFORMED,
        "not of this packet"
    );
    assert_eq!(
        connect_with(&[0x7F, 0]).unwrap_err(),
        MALFORMED,
        "no such property"
    );
    assert_eq!(
        connect_with(&[0x21, 0]).unwrap_err(),
        MALFORMED,
        "cut short"
    );
    assert_eq!(
        connect_with(&[0xA1, 0, 0, 5]).unwrap_err(),
        MALFORMED,
        "identifier not minimal"
    );
    let read = connect_with(&[
        0x11, 0, 0, 0, 1, 0x26, 0, 1, b'k', 0, 1, b'1', 0x21, 0, 2, 0x26, 0, 1, b'k', 0, 1, b'2',
        0x17, 0,
    ])
    .unwrap();
    assert_eq!((read.session_expiry_s, read.receive_maximum), (1, Some(2)));
    assert!(!read.request_problem_information);
    assert_eq!(
        read.user.iter().collect::<Vec<_>>(),
        [("k", "1"), ("k", "2")],
        "order is kept"
    );
    assert!(connect_with(&[]).unwrap().request_problem_information);
}

/// [MQTT-1.5.7-1]
#[test]
fn both_strings_of_a_pair_are_utf_8() {
    assert_eq!(
        connect_with(&[0x26, 0, 1, 0xFF, 0, 1, b'1']).unwrap_err(),
        MALFORMED
    );
    assert_eq!(
        connect_with(&[0x26, 0, 1, b'k', 0, 1, 0]).unwrap_err(),
        MALFORMED
    );
}

/// [MQTT-1.5.5-1]: MQTT 3 does not ask for it.
#[test]
fn the_remaining_length_is_minimal_in_mqtt_5() {
    assert_eq!(refused(&[0xC0, 0x80, 0], Version::V5), MALFORMED);
    assert_eq!(read(&[0xC0, 0x80, 0], Version::V311), Ok(Packet::Pingreq));
    let mut bytes = connect_bytes("MQTT", &[5, 2, 0, 60, 0, 0, 1, b'a']);
    bytes[1] |= 0x80;
    bytes.insert(2, 0);
    assert_eq!(connect_refused(&bytes).reason, MALFORMED);
    assert_eq!(
        refused(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], Version::V311),
        MALFORMED
    );
}

/// [MQTT-3.2.2-15] is the client's; the answer is 0x95, before the packet is there.
#[test]
fn a_packet_above_the_maximum_is_refused_by_its_header() {
    let header = [0x30, 0x80, 0x08];
    assert_eq!(decode(&header, Version::V5, 1_027), Ok(None));
    let error = decode(&header, Version::V5, 1_026).unwrap_err();
    assert_eq!(error.reason, ReasonCode::PacketTooLarge);
    assert_eq!(decode(&[0x30, 0x80], Version::V5, 1), Ok(None));
}

/// [MQTT-2.1.3-1]; 3.1.1: [MQTT-2.2.2-1], [MQTT-2.2.2-2]; [MQTT-3.6.1-1], [MQTT-3.8.1-1],
/// [MQTT-3.10.1-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1].
#[test]
fn reserved_flags_have_their_values() {
    let bodies: [(u8, &[u8]); 10] = [
        (0x20, &[0, 0, 0]),
        (0x40, &[0, 1]),
        (0x50, &[0, 1]),
        (0x62, &[0, 1]),
        (0x70, &[0, 1]),
        (0x82, &[0, 1, 0, 0, 1, b'a', 0]),
        (0xA2, &[0, 1, 0, 0, 1, b'a']),
        (0xC0, &[]),
        (0xE0, &[]),
        (0xF0, &[]),
    ];
    for (first, body) in bodies {
        assert!(read(&packet(first, body), Version::V5).is_ok(), "{first:x}");
        for flags in 0..16 {
            if first & 0x0F != flags {
                assert_eq!(
                    refused(&packet(first & 0xF0 | flags, body), Version::V5),
                    MALFORMED
                );
            }
        }
    }
    for version in [Version::V31, Version::V311, Version::V5] {
        assert_eq!(refused(&[0, 0], version), MALFORMED, "type 0 is reserved");
    }
    assert_eq!(
        refused(&[0xF0, 0], Version::V311),
        MALFORMED,
        "type 15 is reserved in MQTT 3"
    );
    let again = packet(0x8A, &[0, 1, 0, 1, b'a', 0]);
    assert!(
        read(&again, Version::V31).is_ok(),
        "3.1 had DUP on SUBSCRIBE"
    );
    assert_eq!(refused(&again, Version::V311), MALFORMED);
}

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

/// [MQTT-3.3.4-6] and the packets that only servers send.
#[test]
fn a_server_refuses_what_only_servers_send() {
    let check = |bytes: &[u8]| {
        read(bytes, Version::V5)
            .unwrap()
            .check_from_client()
            .is_ok()
    };
    assert!(!check(&packet(0x30, &[0, 1, b't', 2, 0x0B, 1])));
    assert!(check(&packet(0x30, &[0, 1, b't', 0])));
    assert!(!check(&packet(0x20, &[0, 0, 0])));
    assert!(!check(&packet(0x90, &[0, 1, 0, 0])));
    assert!(!check(&packet(0xB0, &[0, 1, 0, 0])));
    assert!(!check(&[0xD0, 0]));
    assert!(check(&[0xC0, 0]));
    assert!(!check(&packet(0xE0, &[0x9C, 4, 0x1C, 0, 1, b's'])));
}

/// MQTT 5, 3.4.2.1: reason and properties may be left out.
#[test]
fn acknowledgements_in_their_short_forms() {
    let ack = |bytes: &'static [u8]| match read(bytes, Version::V5) {
        Ok(Packet::Puback(ack)) => Ok(ack),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => Err(reason),
    };
    assert_eq!(ack(&[0x40, 2, 0, 7]), Ok(Ack::new(7, ReasonCode::Success)));
    let nobody = ReasonCode::NoMatchingSubscribers;
    assert_eq!(ack(&[0x40, 3, 0, 7, 0x10]), Ok(Ack::new(7, nobody)));
    assert_eq!(ack(&[0x40, 4, 0, 7, 0x10, 0]), Ok(Ack::new(7, nobody)));
    let explained = ack(&[0x40, 8, 0, 7, 0x10, 4, 0x1F, 0, 1, b'x']).unwrap();
    assert_eq!(explained.reason_string, Some("x"));
    assert_eq!(ack(&[0x40, 1, 0]), Err(MALFORMED));
    assert_eq!(
        ack(&[0x40, 5, 0, 7, 0, 0, 0]),
        Err(MALFORMED),
        "bytes behind the end"
    );
    assert_eq!(refused(&[0x40, 3, 0, 7, 0], Version::V311), MALFORMED);
}

/// [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.14.2-1],
/// [MQTT-3.15.2-1].
#[test]
fn each_packet_has_its_reason_codes() {
    for (first, kind) in [
        (0x40, PacketType::Puback),
        (0x50, PacketType::Pubrec),
        (0x62, PacketType::Pubrel),
        (0x70, PacketType::Pubcomp),
    ] {
        for code in 0..=255 {
            let allowed = ReasonCode::from_u8(code).is_some_and(|code| code.allowed_in(kind));
            let result = read(packet(first, &[0, 1, code]).leak(), Version::V5);
            assert_eq!(result.is_ok(), allowed, "{kind:?} {code:x}");
            if !allowed {
                assert_eq!(result, Err(PROTOCOL));
            }
        }
    }
    assert!(read(&[0xE0, 1, 0x8E], Version::V5).is_ok());
    assert_eq!(refused(&[0xE0, 1, 0x03], Version::V5), PROTOCOL);
    assert_eq!(refused(&[0xF0, 2, 0x80, 0], Version::V5), PROTOCOL);
}

/// [MQTT-3.8.3-2], [MQTT-3.10.3-2]; 3.1.1: [MQTT-3.8.3-3].
#[test]
fn subscribe_and_unsubscribe_hold_a_filter() {
    assert_eq!(refused(&packet(0x82, &[0, 1, 0]), Version::V5), PROTOCOL);
    assert_eq!(refused(&packet(0x82, &[0, 1]), Version::V311), PROTOCOL);
    assert_eq!(refused(&packet(0xA2, &[0, 1, 0]), Version::V5), PROTOCOL);
    assert_eq!(refused(&packet(0xA2, &[0, 1]), Version::V311), PROTOCOL);
    assert_eq!(
        refused(&packet(0x82, &[0, 1, 0, 1, b'a']), Version::V311),
        MALFORMED,
        "no QoS"
    );
}

/// [MQTT-3.8.3-1], [MQTT-3.10.3-1], [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.8.2-1].
#[test]
fn filters_are_well_formed() {
    for filter in [
        &b""[..],
        b"a#",
        b"#/a",
        b"a+",
        b"\xff",
        b"a\0",
        b"$share/g",
        b"$share//a",
    ] {
        let mut body = vec![0, 1, 0, filter.len() as u8];
        body.extend_from_slice(filter);
        assert_eq!(
            refused(&packet(0xA2, &body), Version::V311),
            MALFORMED,
            "{filter:x?}"
        );
        body.push(0);
        assert_eq!(
            refused(&packet(0x82, &body), Version::V311),
            MALFORMED,
            "{filter:x?}"
        );
    }
}

/// [MQTT-3.8.3-5] and MQTT 5, 3.8.3.1; 3.1.1: [MQTT-3-8.3-4].
#[test]
fn subscription_options_are_checked() {
    let options = |byte, version| {
        let body: &[u8] = match version {
            Version::V5 => &[0, 1, 0, 0, 1, b'a', byte],
            _ => &[0, 1, 0, 1, b'a', byte],
        };
        match read(packet(0x82, body).leak(), version)? {
            Packet::Subscribe(subscribe) => Ok(subscribe.filters.iter().next().unwrap().1),
            _ => panic!("a SUBSCRIBE was written"),
        }
    };
    for byte in 0..=255 {
        let v311 = options(byte, Version::V311);
        assert_eq!(v311.is_ok(), byte < 3);
        assert!(v311.is_ok() || v311 == Err(MALFORMED));
        match options(byte, Version::V5) {
            Ok(read) => assert_eq!(read.as_u8(), byte),
            Err(reason) if byte & 0xC0 != 0 => assert_eq!(reason, MALFORMED),
            Err(reason) => {
                assert!(byte & 3 == 3 || byte >> 4 == 3);
                assert_eq!(reason, PROTOCOL);
            }
        }
    }
    let all = options(0b0010_1110, Version::V5).unwrap();
    assert!(all.no_local && all.retain_as_published);
    assert_eq!(
        (all.qos, all.retain_handling),
        (QoS::ExactlyOnce, RetainHandling::DoNotSend)
    );
}

/// [MQTT-3.8.3-4]
#[test]
fn no_local_and_a_share_exclude_each_other() {
    let mut body = vec![0, 1, 0, 0, 10];
    body.extend_from_slice(b"$share/g/a");
    body.push(0b0101);
    assert_eq!(refused(&packet(0x82, &body), Version::V5), PROTOCOL);
    *body.last_mut().unwrap() = 1;
    assert!(read(&packet(0x82, &body), Version::V5).is_ok());
}

/// MQTT 5, 3.8.2.1.2.
#[test]
fn a_subscription_identifier_is_one_and_not_zero() {
    let with = |properties: &[u8]| {
        let mut body = vec![0, 1, properties.len() as u8];
        body.extend_from_slice(properties);
        body.extend_from_slice(&[0, 1, b'a', 0]);
        match read(packet(0x82, &body).leak(), Version::V5)? {
            Packet::Subscribe(subscribe) => Ok(subscribe.subscription_id),
            _ => panic!("a SUBSCRIBE was written"),
        }
    };
    assert_eq!(with(&[]), Ok(None));
    assert_eq!(with(&[0x0B, 0xFF, 0xFF, 0xFF, 0x7F]), Ok(Some(268_435_455)));
    assert_eq!(with(&[0x0B, 0]), Err(PROTOCOL));
    assert_eq!(with(&[0x0B, 1, 0x0B, 2]), Err(PROTOCOL));
    assert_eq!(with(&[0x1F, 0, 0]), Err(MALFORMED));
}

#[test]
fn answers_to_subscribe_are_read_by_clients() {
    let Ok(Packet::Suback(suback)) = read(&[0x90, 5, 0, 1, 2, 0, 0x80], Version::V311) else {
        panic!()
    };
    let reasons: Vec<_> = suback.reasons.iter().collect();
    let granted = [
        ReasonCode::GrantedQoS2,
        ReasonCode::Success,
        ReasonCode::UnspecifiedError,
    ];
    assert_eq!(reasons, granted);
    assert_eq!(refused(&[0x90, 3, 0, 1, 3], Version::V311), MALFORMED);
    assert_eq!(refused(&[0x90, 2, 0, 1], Version::V311), PROTOCOL);
    assert!(read(&[0xB0, 2, 0, 1], Version::V311).is_ok());
    assert!(read(&[0xB0, 4, 0, 1, 0, 0x11], Version::V5).is_ok());
    assert_eq!(refused(&[0xB0, 4, 0, 1, 0, 0x01], Version::V5), PROTOCOL);
}

/// [MQTT-3.14.1-1] and MQTT 5, 3.14.2.
#[test]
fn disconnect_in_its_forms() {
    let read_v5 = |bytes: &'static [u8]| match read(bytes, Version::V5) {
        Ok(Packet::Disconnect(disconnect)) => Ok(disconnect),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => Err(reason),
    };
    assert_eq!(
        read_v5(&[0xE0, 0]),
        Ok(Disconnect::new(ReasonCode::Success))
    );
    assert_eq!(
        read_v5(&[0xE0, 1, 4]),
        Ok(Disconnect::new(ReasonCode::DisconnectWithWill))
    );
    let expiry = read_v5(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 8]).unwrap();
    assert_eq!(expiry.session_expiry_s, Some(8));
    assert_eq!(
        read_v5(&[0xE0, 12, 0, 10, 0x11, 0, 0, 0, 8, 0x11, 0, 0, 0, 8]),
        Err(PROTOCOL)
    );
    assert_eq!(refused(&[0xE0, 1, 0], Version::V311), MALFORMED);
    assert!(read(&[0xE0, 0], Version::V311).is_ok());
}

#[test]
fn auth_names_its_method() {
    assert!(read(&[0xF0, 0], Version::V5).is_ok());
    assert_eq!(refused(&[0xF0, 2, 0x18, 0], Version::V5), PROTOCOL);
    assert!(read(&[0xF0, 6, 0x18, 4, 0x15, 0, 1, b'm'], Version::V5).is_ok());
    assert_eq!(refused(&[0xF0, 1, 0x18], Version::V5), MALFORMED);
}

#[test]
fn pings_have_no_body() {
    assert_eq!(read(&[0xC0, 0], Version::V311), Ok(Packet::Pingreq));
    assert_eq!(refused(&[0xC0, 1, 0], Version::V311), MALFORMED);
    assert_eq!(refused(&[0xD0, 1, 0], Version::V5), MALFORMED);
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
