//! Shard operations: the bytes are a list of what happens to a node: connections, packets whole and
//! broken, cuts, time, writes, flushes, checkpoints, crashes. No panic, and a node that comes back.

use mqtt::{
    Ack, Connect, ConnectProperties, Disconnect, Filters, Packet, Publish, QoS, ReasonCode,
    Subscribe, SubscribeOptions, TopicFilters, Unsubscribe, UserProperties, Version, Will,
    WillProperties,
};

use super::Target;
use crate::world::{Client, World, WorldSettings};

pub(super) const TARGET: Target = Target {
    name: "shard",
    seeds,
    run,
};

/// Operations of one input.
const OPERATIONS_MAX: usize = 400;
const FILTERS: [&str; 6] = ["#", "a/+", "a/b", "$share/g/a/+", "$share/h/#", "+/b/#"];
const TOPICS: [&str; 4] = ["a/b", "a/c", "x", "a/b/c"];
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A client's end, and the version it speaks.
#[derive(Clone, Copy)]
struct End {
    client: Client,
    version: Version,
}

fn run(input: &[u8]) {
    let mut bytes = input.iter().copied();
    let mut next = || bytes.next();
    let first = next().unwrap_or(0);
    let mut settings = WorldSettings {
        workers: 1 + u16::from(first % 3),
        ..WorldSettings::default()
    };
    settings.broker.inbox_max = 5;
    settings.broker.inflight_max = 3;
    settings.broker.receive_maximum = 4;
    settings.broker.send_buffer_bytes_max = 200;
    settings.wire_bytes_max = if first & 0x80 == 0 { usize::MAX } else { 100 };
    let mut world = World::new(settings);
    let mut ends: [Option<End>; 4] = [None; 4];
    for _ in 0..OPERATIONS_MAX {
        let (Some(operation), Some(argument)) = (next(), next()) else {
            break;
        };
        let at = usize::from(argument & 3);
        let choice = usize::from(argument >> 2);
        match operation % 20 {
            0..=2 => ends[at] = Some(connect(&mut world, at, choice)),
            3..=11 => {
                if let Some(end) = ends[at] {
                    send(&mut world, end, operation % 20, choice);
                }
            }
            12 => {
                // Anything at all.
                if let Some(end) = ends[at] {
                    let raw: Vec<u8> = (0..choice).map_while(|_| next()).collect();
                    world.send(end.client, &raw);
                }
            }
            13 => {
                if let Some(end) = ends[at].take() {
                    world.cut(end.client);
                }
            }
            14 => drop(world.write_log()),
            15 => drop(world.flush_log()),
            16 => world.settle(),
            17 => world.advance(u64::from(argument) * 20),
            18 => {
                if let Some(end) = ends[at] {
                    world.take_received(end.client);
                }
            }
            _ => {
                if argument.is_multiple_of(8) {
                    ends = [None; 4];
                    world.crash();
                    world.set_workers(1 + (choice % 3) as u16);
                    world.sleep(u64::from(argument) * 10);
                    world.start();
                } else {
                    world.checkpoint();
                }
            }
        }
    }
    world.settle();
    world.checkpoint();
    world.crash();
    world.start();
    world.settle();
    // It still takes clients.
    let end = connect(&mut world, 0, 2);
    world.settle();
    assert!(!world.take_received(end.client).is_empty(), "no CONNACK");
}

fn connect(world: &mut World, at: usize, choice: usize) -> End {
    let version = VERSIONS[choice % 3];
    let is_v5 = version == Version::V5;
    let will = (choice & 8 != 0).then(|| Will {
        topic: TOPICS[at],
        payload: b"will",
        qos: QoS::from_u8((choice % 3) as u8).unwrap_or(QoS::AtMostOnce),
        retain: choice & 16 != 0,
        properties: WillProperties {
            delay_s: if is_v5 { (choice & 1) as u32 } else { 0 },
            ..WillProperties::default()
        },
    });
    let properties = ConnectProperties {
        session_expiry_s: [0, 1, u32::MAX][choice / 3 % 3],
        receive_maximum: Some(1 + (choice % 2) as u16),
        ..ConnectProperties::default()
    };
    let id = format!("c{at}");
    let connect = Connect {
        version,
        clean_start: choice & 4 != 0,
        keep_alive_s: (choice & 1) as u16,
        client_id: &id,
        username: None,
        password: None,
        will,
        properties: if is_v5 {
            properties
        } else {
            ConnectProperties::default()
        },
    };
    let client = world.connect();
    let end = End { client, version };
    say(world, end, &Packet::Connect(connect));
    end
}

fn send(world: &mut World, end: End, operation: u8, choice: usize) {
    let packet_id = 1 + (choice % 4) as u16;
    let ack = Ack::new(packet_id, ReasonCode::Success);
    let qos = QoS::from_u8((choice % 3) as u8).unwrap_or(QoS::AtMostOnce);
    let packet = match operation {
        3 | 4 => Packet::Publish(Publish {
            dup: choice & 32 != 0 && qos != QoS::AtMostOnce,
            qos,
            retain: choice & 16 != 0,
            topic: TOPICS[choice / 3 % TOPICS.len()],
            packet_id: if qos == QoS::AtMostOnce { 0 } else { packet_id },
            payload: &[b'p'; 40][..choice % 40],
            ..Publish::default()
        }),
        5 => Packet::Puback(ack),
        6 => Packet::Pubrec(ack),
        7 => Packet::Pubrel(ack),
        8 => Packet::Pubcomp(ack),
        9 => {
            let filters = [(FILTERS[choice % FILTERS.len()], SubscribeOptions::qos(qos))];
            let subscribe = Subscribe {
                packet_id,
                subscription_id: None,
                user: UserProperties::EMPTY,
                filters: Filters::from_slice(&filters),
            };
            return say(world, end, &Packet::Subscribe(subscribe));
        }
        10 => {
            let filters = [FILTERS[choice % FILTERS.len()]];
            let unsubscribe = Unsubscribe {
                packet_id,
                user: UserProperties::EMPTY,
                filters: TopicFilters::from_slice(&filters),
            };
            return say(world, end, &Packet::Unsubscribe(unsubscribe));
        }
        _ => Packet::Disconnect(Disconnect::new(ReasonCode::Success)),
    };
    say(world, end, &packet);
}

fn say(world: &mut World, end: End, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(end.version, &mut bytes);
    world.send(end.client, &bytes);
}

fn seeds() -> Vec<Vec<u8>> {
    // Two clients connect for ever, subscribe to everything, publish, acknowledge, crash.
    let lasting = |at: u8| [0, at | 8 << 2];
    let mut talk = vec![1];
    talk.extend(
        [
            lasting(0),
            lasting(1),
            [16, 0],
            [9, 2 << 2],
            [9, 1 | 8 << 2],
        ]
        .concat(),
    );
    talk.extend(
        [
            [16, 0],
            [3, 1 << 2],
            [3, 1 | 2 << 2],
            [16, 0],
            [18, 0],
            [6, 0],
        ]
        .concat(),
    );
    talk.extend(
        [
            [5, 1],
            [8, 0],
            [7, 1],
            [13, 1],
            [3, 1 << 2],
            [19, 1],
            [19, 0],
        ]
        .concat(),
    );
    talk.extend([lasting(1), [16, 0], [17, 200], [11, 0], [18, 1], [16, 0]].concat());
    let mut random = crate::random::Random::new(7);
    let noise = (0..20).map(|_| (0..600).map(|_| random.any() as u8).collect());
    noise.chain([talk]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input of the fuzzer, as it prints them.
    const PANICKED: &str = "\
        0100200021100009080921100003040309100013a30f4d0e27d7391e1bf18e475b5544eb2e200a9b\
        56adfa38b1c54f38dae8808b498d7385cce5d1b9c65ddea3050129be7aa9707fa85156b5e68bb0b1\
        b372d8e387f8947725a0506561c04dbe2718e4ca16b2db27d55546decd9ead67b00ae7ffbe4fce7b\
        b49377c442ed62bc37c28af455cba73800e982e15185d48a41d01891b5c82259a2c2bd9280000000\
        411d29d1a09d49dccfb800470f37a2a8bba17dbab964597800ae27818c7d5eeb795f097c304525e8\
        8e9073816d1203df0ecec09a993f5e9b49c54875c809da3041b98ea0366a50737c61325ff1d88ffa\
        aaf9ef46130223e964f95947e35130aa1e95f7f9dc1f0133130387d9d9f6f0df75aa3ab1068c8180\
        f79721899d80058a05ad3f7054310a92f1e0835be7eaf9f93e2cadeff7c5cccb16ac6f\
    ";

    #[test]
    fn an_input_that_once_panicked() {
        let digits = PANICKED.trim().as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit");
        let pairs = digits.chunks_exact(2);
        let bytes: Vec<u8> = pairs
            .map(|pair| (digit(pair[0]) << 4 | digit(pair[1])) as u8)
            .collect();
        run(&bytes);
    }
}
