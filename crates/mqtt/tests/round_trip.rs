//! Properties of the codec: what is written is read back, in every version; whatever arrives, the
//! decoder neither panics nor takes more than there is, and never is content with a part.

#![expect(clippy::unwrap_used, reason = "a test")]

use mqtt::{
    Ack, Auth, Connack, ConnackProperties, Connect, ConnectProperties, Disconnect, Filters, Packet,
    PacketType, Publish, PublishProperties, QoS, ReasonCode, ReasonCodes, Suback, Subscribe,
    SubscribeOptions, SubscriptionIds, TopicFilters, Unsuback, Unsubscribe, UserProperties,
    Version, Will, WillProperties, decode, decode_connect, limits,
};
use proptest::prelude::*;

/// Everything a packet may be built of.
#[derive(Debug, Clone)]
struct Bag {
    text: [Option<String>; 6],
    names: [String; 2],
    bytes: [Option<Vec<u8>>; 3],
    words: [Option<u32>; 4],
    halves: [Option<u16>; 4],
    flags: [bool; 12],
    maybe: [Option<bool>; 4],
    user: Vec<(String, String)>,
    ids: Vec<u32>,
    filters: Vec<(String, u8)>,
    codes: Vec<u8>,
    qos: u8,
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 /_\u{e4}\u{20ac}\u{1F600}\u{feff}]{0,12}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9/$ \u{e4}]{1,20}"
}

fn filter() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof!["[a-z]{0,4}", Just("+".to_owned())], 1..5).prop_flat_map(
        |levels| {
            let joined = levels.join("/");
            prop_oneof![Just(joined.clone()), Just(format!("{joined}/#"))]
                .prop_filter("a filter is not empty", |filter| !filter.is_empty())
        },
    )
}

prop_compose! {
    fn bag()(
        text in prop::array::uniform6(prop::option::of(text())),
        names in prop::array::uniform2(name()),
        bytes in prop::array::uniform3(prop::option::of(prop::collection::vec(any::<u8>(), 0..300))),
        words in prop::array::uniform4(prop::option::of(1..u32::MAX)),
        halves in prop::array::uniform4(prop::option::of(1..u16::MAX)),
        flags in prop::array::uniform12(any::<bool>()),
        maybe in prop::array::uniform4(prop::option::of(any::<bool>())),
        (user, ids, filters, codes, qos) in (
            prop::collection::vec((text(), text()), 0..4),
            prop::collection::vec(1..=limits::SUBSCRIPTION_ID_MAX, 0..4),
            prop::collection::vec((filter(), 0..3_u8), 1..4),
            prop::collection::vec(any::<u8>(), 1..4),
            0..3_u8,
        ),
    ) -> Bag {
        Bag { text, names, bytes, words, halves, flags, maybe, user, ids, filters, codes, qos }
    }
}

/// Views into a bag that packets borrow.
struct Views<'a> {
    bag: &'a Bag,
    user: Vec<(&'a str, &'a str)>,
    filters: Vec<(&'a str, SubscribeOptions)>,
    names: Vec<&'a str>,
    reasons: Vec<ReasonCode>,
}

impl<'a> Views<'a> {
    fn new(bag: &'a Bag, version: Version, kind: PacketType) -> Views<'a> {
        let user = bag
            .user
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let option = |qos| SubscribeOptions {
            no_local: version.is_v5() && bag.flags[0],
            retain_as_published: version.is_v5() && bag.flags[1],
            ..SubscribeOptions::qos(QoS::from_u8(qos).unwrap())
        };
        let allowed: Vec<_> = ReasonCode::ALL
            .iter()
            .copied()
            .filter(|code| match kind {
                PacketType::Suback if !version.is_v5() => {
                    matches!(code.as_u8(), 0..=2 | 0x80)
                }
                _ => code.allowed_in(kind),
            })
            .collect();
        let pick = |code: &u8| allowed[usize::from(*code) % allowed.len()];
        Views {
            bag,
            user: if version.is_v5() {
                user.collect()
            } else {
                Vec::new()
            },
            filters: bag
                .filters
                .iter()
                .map(|(text, qos)| (text.as_str(), option(*qos)))
                .collect(),
            names: bag.filters.iter().map(|(text, _)| text.as_str()).collect(),
            reasons: if allowed.is_empty() {
                vec![]
            } else {
                bag.codes.iter().map(pick).collect()
            },
        }
    }

    fn text(&self, index: usize) -> Option<&'a str> {
        self.bag.text[index].as_deref()
    }

    fn bytes(&self, index: usize) -> Option<&'a [u8]> {
        self.bag.bytes[index].as_deref()
    }

    fn name(&self) -> Option<&'a str> {
        self.bag.flags[5].then_some(self.bag.names[1].as_str())
    }

    fn format(&self) -> Option<u8> {
        self.bag.maybe[0].map(u8::from)
    }
}

fn build<'a>(views: &'a Views<'a>, version: Version, kind: PacketType) -> Packet<'a> {
    let bag = views.bag;
    let user = UserProperties::from_slice(&views.user);
    let v5 = version.is_v5();
    let reason = views
        .reasons
        .first()
        .copied()
        .unwrap_or(ReasonCode::Success);
    let packet_id = bag.halves[0].unwrap_or(1);
    let reason_string = views.text(0).filter(|_| v5);
    let ack = || Ack {
        packet_id,
        reason: if v5 { reason } else { ReasonCode::Success },
        reason_string,
        user,
    };
    match kind {
        PacketType::Connect => Packet::Connect(connect(views, version)),
        PacketType::Connack => Packet::Connack(connack(views, version, reason)),
        PacketType::Publish => Packet::Publish(publish(views, version)),
        PacketType::Puback => Packet::Puback(ack()),
        PacketType::Pubrec => Packet::Pubrec(ack()),
        PacketType::Pubrel => Packet::Pubrel(ack()),
        PacketType::Pubcomp => Packet::Pubcomp(ack()),
        PacketType::Subscribe => Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: bag.ids.first().copied().filter(|_| v5),
            user,
            filters: Filters::from_slice(&views.filters),
        }),
        PacketType::Suback => Packet::Suback(Suback {
            packet_id,
            reasons: ReasonCodes::from_slice(&views.reasons),
            reason_string,
            user,
        }),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user,
            filters: TopicFilters::from_slice(&views.names),
        }),
        PacketType::Unsuback => Packet::Unsuback(Unsuback {
            packet_id,
            reasons: ReasonCodes::from_slice(if v5 { &views.reasons } else { &[] }),
            reason_string,
            user,
        }),
        PacketType::Pingreq => Packet::Pingreq,
        PacketType::Pingresp => Packet::Pingresp,
        PacketType::Disconnect if !v5 => Packet::Disconnect(Disconnect::new(ReasonCode::Success)),
        PacketType::Disconnect => Packet::Disconnect(Disconnect {
            reason,
            session_expiry_s: bag.words[0],
            reason_string,
            server_reference: views.text(1),
            user,
        }),
        PacketType::Auth => Packet::Auth(Auth {
            reason,
            method: Some(&bag.names[0]),
            data: views.bytes(0),
            reason_string,
            user,
        }),
    }
}

fn connect<'a>(views: &'a Views<'a>, version: Version) -> Connect<'a> {
    let bag = views.bag;
    let user = UserProperties::from_slice(&views.user);
    let username = views.text(2);
    let will = bag.flags[2].then(|| Will {
        topic: &bag.names[0],
        payload: views.bytes(1).unwrap_or(&[]),
        qos: QoS::from_u8(bag.qos).unwrap(),
        retain: bag.flags[3],
        properties: if version.is_v5() {
            WillProperties {
                delay_s: bag.words[1].unwrap_or(0),
                payload_format: views.format(),
                expiry_s: bag.words[2],
                response_topic: views.name(),
                correlation_data: views.bytes(2),
                content_type: views.text(3),
                user,
            }
        } else {
            WillProperties::default()
        },
    });
    Connect {
        version,
        clean_start: bag.flags[4],
        keep_alive_s: bag.halves[1].unwrap_or(0),
        client_id: &bag.names[1],
        username,
        password: views
            .bytes(0)
            .filter(|_| version.is_v5() || username.is_some()),
        will,
        properties: if version.is_v5() {
            ConnectProperties {
                session_expiry_s: bag.words[0].unwrap_or(0),
                receive_maximum: bag.halves[2],
                maximum_packet_size: bag.words[3],
                topic_alias_maximum: bag.halves[3].unwrap_or(0),
                request_response_information: bag.flags[6],
                request_problem_information: bag.flags[7],
                authentication_method: views.text(4),
                authentication_data: views.bytes(1).filter(|_| views.text(4).is_some()),
                user,
            }
        } else {
            ConnectProperties::default()
        },
    }
}

fn connack<'a>(views: &'a Views<'a>, version: Version, reason: ReasonCode) -> Connack<'a> {
    let bag = views.bag;
    if !version.is_v5() {
        let reason =
            ReasonCode::from_connect_return_code_v3(reason.connect_return_code_v3()).unwrap();
        let session_present = bag.flags[0] && version != Version::V31;
        return Connack {
            session_present,
            reason,
            properties: ConnackProperties::default(),
        };
    }
    Connack {
        session_present: bag.flags[0],
        reason,
        properties: ConnackProperties {
            session_expiry_s: bag.words[0],
            receive_maximum: bag.halves[0],
            maximum_qos: bag.maybe[0].map(|one| QoS::from_u8(u8::from(one)).unwrap()),
            retain_available: bag.maybe[1],
            maximum_packet_size: bag.words[1],
            assigned_client_id: views.text(0),
            topic_alias_maximum: bag.halves[1],
            reason_string: views.text(1),
            wildcard_available: bag.maybe[2],
            subscription_ids_available: bag.maybe[3],
            shared_available: bag.maybe[0],
            server_keep_alive_s: bag.halves[2],
            response_information: views.text(2),
            server_reference: views.text(3),
            authentication_method: views.text(4),
            authentication_data: views.bytes(0),
            user: UserProperties::from_slice(&views.user),
        },
    }
}

fn publish<'a>(views: &'a Views<'a>, version: Version) -> Publish<'a> {
    let bag = views.bag;
    let qos = QoS::from_u8(bag.qos).unwrap();
    let with_alias = version.is_v5() && bag.halves[1].is_some();
    Publish {
        dup: bag.flags[0] && qos != QoS::AtMostOnce,
        qos,
        retain: bag.flags[1],
        topic: if with_alias && bag.flags[2] {
            ""
        } else {
            &bag.names[0]
        },
        packet_id: if qos == QoS::AtMostOnce {
            0
        } else {
            bag.halves[0].unwrap_or(1)
        },
        properties: if version.is_v5() {
            PublishProperties {
                payload_format: views.format(),
                expiry_s: bag.words[0],
                topic_alias: bag.halves[1],
                response_topic: views.name(),
                correlation_data: views.bytes(1),
                subscription_ids: SubscriptionIds::from_slice(&bag.ids),
                content_type: views.text(1),
                user: UserProperties::from_slice(&views.user),
            }
        } else {
            PublishProperties::default()
        },
        payload: views.bytes(0).unwrap_or(&[]),
    }
}

const KINDS: [PacketType; 15] = [
    PacketType::Connect,
    PacketType::Connack,
    PacketType::Publish,
    PacketType::Puback,
    PacketType::Pubrec,
    PacketType::Pubrel,
    PacketType::Pubcomp,
    PacketType::Subscribe,
    PacketType::Suback,
    PacketType::Unsubscribe,
    PacketType::Unsuback,
    PacketType::Pingreq,
    PacketType::Pingresp,
    PacketType::Disconnect,
    PacketType::Auth,
];

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read_back(bag in bag()) {
        for version in VERSIONS {
            for kind in KINDS {
                if kind == PacketType::Auth && !version.is_v5() {
                    continue;
                }
                let views = Views::new(&bag, version, kind);
                let packet = build(&views, version, kind);
                let mut bytes = Vec::new();
                packet.encode(version, &mut bytes);
                prop_assert_eq!(bytes.len(), packet.encoded_len(version));
                let read = decode(&bytes, version, limits::PACKET_SIZE_MAX);
                prop_assert_eq!(read, Ok(Some((packet.clone(), bytes.len()))));
                if let Packet::Connect(connect) = packet {
                    let read = decode_connect(&bytes, limits::PACKET_SIZE_MAX);
                    prop_assert_eq!(read, Ok(Some((connect, bytes.len()))));
                }
                for cut in 0..bytes.len() {
                    prop_assert_eq!(decode(&bytes[..cut], version, limits::PACKET_SIZE_MAX), Ok(None));
                }
                bytes.extend_from_slice(&[0xC0, 0]);
                let (_, len) = decode(&bytes, version, limits::PACKET_SIZE_MAX).unwrap().unwrap();
                prop_assert_eq!(len, bytes.len() - 2, "what follows is left alone");
            }
        }
    }

    #[test]
    fn a_damaged_packet_is_read_or_refused(
        bag in bag(),
        kind in 0..15_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for version in VERSIONS {
            let kind = KINDS[kind];
            let views = Views::new(&bag, version, kind);
            let mut bytes = Vec::new();
            build(&views, version, kind).encode(version, &mut bytes);
            for (index, byte) in &damage {
                let at = index.index(bytes.len());
                bytes[at] = *byte;
            }
            check_any(&bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_any(&bytes);
    }
}

/// Reads whatever it is in every version, and walks through all that was read.
fn check_any(bytes: &[u8]) {
    for version in VERSIONS {
        if let Ok(Some((packet, len))) = decode(bytes, version, limits::PACKET_SIZE_MAX) {
            assert!(len >= 2 && len <= bytes.len());
            assert!(!format!("{packet:?}").is_empty());
            // Reading is the same once it was written again.
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => version,
            };
            let mut again = Vec::new();
            packet.encode(version, &mut again);
            let read = decode(&again, version, limits::PACKET_SIZE_MAX);
            assert_eq!(read, Ok(Some((packet, again.len()))));
        }
    }
    if let Ok(Some((_, len))) = decode_connect(bytes, limits::PACKET_SIZE_MAX) {
        assert!(len <= bytes.len());
    }
}
