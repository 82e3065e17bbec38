//! The MQTT decoder: any bytes, in any version. What it accepts must encode to something that it
//! accepts again and finds equal.

use mqtt::{
    Ack, Connect, Filters, Packet, Publish, PublishProperties, QoS, ReasonCode, Subscribe,
    SubscribeOptions, UserProperties, Version,
};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "mqtt",
    seeds,
    run,
};

const PACKET_BYTES_MAX: u32 = 1 << 20;
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// The first byte chooses the version, the rest is what a client sends.
fn run(input: &[u8]) {
    let Some((&first, bytes)) = input.split_first() else {
        return;
    };
    // Both must survive what they refuse; only what they accept has promises.
    let _ = mqtt::decode_connect(bytes, PACKET_BYTES_MAX);
    let version = VERSIONS[usize::from(first) % 3];
    let mut rest = bytes;
    while let Ok(Some((packet, length))) = mqtt::decode(rest, version, PACKET_BYTES_MAX) {
        assert!(
            length >= 2 && length <= rest.len(),
            "a packet of {length} bytes"
        );
        // CONNECT names its own version.
        let version = if let Packet::Connect(connect) = &packet {
            connect.version
        } else {
            version
        };
        let mut again = Vec::new();
        packet.encode(version, &mut again);
        let (second, used) = mqtt::decode(&again, version, PACKET_BYTES_MAX)
            .expect("what was decoded encodes to a valid packet")
            .expect("what was encoded is whole");
        assert_eq!(used, again.len());
        assert_eq!(packet, second);
        rest = &rest[length..];
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let mut all = vec![number as u8];
        for packet in packets(version) {
            let mut bytes = vec![number as u8];
            packet.encode(version, &mut bytes);
            all.extend_from_slice(&bytes[1..]);
            seeds.push(bytes);
        }
        seeds.push(all);
    }
    seeds
}

fn packets(version: Version) -> Vec<Packet<'static>> {
    const USER: UserProperties<'static> = UserProperties::from_slice(&[("a", "1"), ("b", "")]);
    const FILTERS: &[(&str, SubscribeOptions)] = &[
        ("devices/+/state", SubscribeOptions::qos(QoS::ExactlyOnce)),
        ("$share/g/#", SubscribeOptions::qos(QoS::AtLeastOnce)),
    ];
    let five = version == Version::V5;
    let properties = PublishProperties {
        expiry_s: five.then_some(60),
        content_type: five.then_some("text/plain"),
        correlation_data: five.then_some(b"123".as_slice()),
        user: if five { USER } else { UserProperties::EMPTY },
        ..PublishProperties::default()
    };
    vec![
        Packet::Connect(Connect {
            version,
            clean_start: true,
            keep_alive_s: 60,
            client_id: "10083618796833171",
            username: Some("lock"),
            password: Some(b"secret"),
            will: Some(mqtt::Will {
                topic: "gone",
                payload: b"x",
                ..mqtt::Will::default()
            }),
            properties: mqtt::ConnectProperties::default(),
        }),
        Packet::Publish(Publish {
            qos: QoS::AtLeastOnce,
            topic: "devices/1/state",
            packet_id: 7,
            properties,
            payload: b"{\"action\":\"unlock\"}",
            ..Publish::default()
        }),
        Packet::Puback(Ack::new(7, ReasonCode::Success)),
        Packet::Pubrel(Ack::new(7, ReasonCode::Success)),
        Packet::Subscribe(Subscribe {
            packet_id: 8,
            subscription_id: five.then_some(3),
            user: if five { USER } else { UserProperties::EMPTY },
            filters: Filters::from_slice(FILTERS),
        }),
        Packet::Pingreq,
        Packet::Disconnect(mqtt::Disconnect::new(ReasonCode::Success)),
    ]
}
