//! The decoder, by normative statement; numbers are those of MQTT 5 unless 3.1.1 is named.

mod connect;
mod publish;

use super::*;
use crate::limits::PACKET_SIZE_MAX;
use crate::{ConnectProperties, RetainHandling, SubscriptionIds};
use connect::{connect_bytes, connect_refused, connect_with};

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

/// A packet whose remaining length fits one byte.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, body.len() as u8];
    bytes.extend_from_slice(body);
    bytes
}

const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;
const PROTOCOL: ReasonCode = ReasonCode::ProtocolError;

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
