//! CONNECT, by normative statement; numbers are those of MQTT 5 unless 3.1.1 is named.

use super::*;

/// A CONNECT with these bytes behind the protocol name.
pub(super) fn connect_bytes(name: &str, rest: &[u8]) -> Vec<u8> {
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

pub(super) fn connect_refused(bytes: &[u8]) -> DecodeError {
    decode_connect(bytes, PACKET_SIZE_MAX).expect_err("this CONNECT must be refused")
}

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

pub(super) fn connect_with(properties: &[u8]) -> Result<ConnectProperties<'static>, ReasonCode> {
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
