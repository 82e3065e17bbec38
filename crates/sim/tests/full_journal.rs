//! A journal that is really full, since no checkpoint comes: what has no room is refused, nothing
//! else is lost, and the first checkpoint heals it.

#![expect(clippy::unwrap_used, reason = "a test")]

use commitlog::LogConfig;
use mqtt::{Connect, ConnectProperties, Packet, Publish, QoS, ReasonCode, Version};
use sim::world::{Client, World, WorldSettings};

fn send(world: &mut World, client: Client, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    world.send(client, &bytes);
    world.settle();
}

fn connect(world: &mut World, client_id: &str) -> Client {
    let client = world.connect();
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id,
        username: None,
        password: None,
        will: None,
        properties: ConnectProperties::default(),
    };
    send(world, client, &Packet::Connect(connect));
    world.take_received(client);
    client
}

/// Publishes a message; whether it was acknowledged with success, or else refused.
fn publish(world: &mut World, client: Client, number: u32) -> bool {
    let payload = format!("{number}:{}", "x".repeat(2_000));
    let publish = Publish {
        qos: QoS::AtLeastOnce,
        topic: "t",
        packet_id: 7,
        payload: payload.as_bytes(),
        ..Publish::default()
    };
    send(world, client, &Packet::Publish(publish));
    let bytes = world.take_received(client);
    let (answer, _) = mqtt::decode(&bytes, Version::V5, u32::MAX)
        .unwrap()
        .unwrap();
    let Packet::Puback(ack) = answer else {
        panic!("{answer:?}")
    };
    assert!(!ack.reason.is_error() || ack.reason == ReasonCode::QuotaExceeded);
    !ack.reason.is_error()
}

#[test]
fn a_full_journal_refuses_and_heals() {
    let mut world = World::new(WorldSettings {
        log: LogConfig {
            journal_part_bytes: 128 << 10,
            journal_bytes_max: 512 << 10,
            reserve_bytes: 0,
            ..LogConfig::default()
        },
        ..WorldSettings::default()
    });
    let client = connect(&mut world, "a");
    let mut acknowledged = Vec::new();
    let mut number = 0;
    for restart in [false, true] {
        let before = acknowledged.len();
        while publish(&mut world, client, number) {
            acknowledged.push(number);
            number += 1;
            assert!(acknowledged.len() < 2_000, "it is never full");
        }
        assert!(acknowledged.len() > before + 20, "restart {restart}");
        // Full is no failure: the node is not latched, and goes on refusing.
        assert!(!world.is_latched());
        assert!(!publish(&mut world, client, u32::MAX));
        if restart {
            world.crash();
            world.start();
            let again = connect(&mut world, "a");
            assert_eq!(again, client + 1);
            world.cut(again);
        }
        world.checkpoint();
    }
    let kept: Vec<u32> = world
        .stream("mqtt.default")
        .iter()
        .map(|message| {
            let text = std::str::from_utf8(&message.payload()).unwrap().to_owned();
            text.split(':').next().unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(kept, acknowledged);
    let client = connect(&mut world, "b");
    assert!(publish(&mut world, client, number));
}
