//! The simulator's MQTT clients: a publisher that repeats until it is answered, and a subscriber
//! with a session that outlives its connections. They keep what real client libraries keep, and
//! what the oracle wants to know.

use std::collections::{BTreeMap, BTreeSet};

use mqtt::{
    Ack, Connect, ConnectProperties, Filters, Packet, Publish, QoS, ReasonCode, Subscribe,
    SubscribeOptions, UserProperties, Version,
};

use crate::world::{Client, World};

/// Unanswered messages of one publisher.
const WINDOW: usize = 8;
/// Largest packet that a client takes.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// The part of a client that every client has.
#[derive(Debug)]
struct Line {
    id: String,
    conn: Option<Client>,
    /// CONNACK has come.
    up: bool,
    inward: Vec<u8>,
}

impl Line {
    fn new(id: String) -> Self {
        Self {
            id,
            conn: None,
            up: false,
            inward: Vec::new(),
        }
    }

    fn connect(&mut self, world: &mut World) {
        let conn = world.connect();
        self.conn = Some(conn);
        self.up = false;
        self.inward.clear();
        let properties = ConnectProperties {
            session_expiry_s: u32::MAX,
            ..ConnectProperties::default()
        };
        let connect = Connect {
            version: Version::V5,
            clean_start: false,
            keep_alive_s: 0,
            client_id: &self.id,
            username: None,
            password: None,
            will: None,
            properties,
        };
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(Version::V5, &mut bytes);
        world.send(conn, &bytes);
    }

    fn send(&self, world: &mut World, packet: &Packet<'_>) {
        let Some(conn) = self.conn else { return };
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        world.send(conn, &bytes);
    }

    fn lose(&mut self) {
        self.conn = None;
        self.up = false;
        self.inward.clear();
    }

    /// Takes whole packets out of what has arrived.
    fn receive(&mut self, world: &mut World) -> Vec<Vec<u8>> {
        let Some(conn) = self.conn else {
            return Vec::new();
        };
        self.inward.extend(world.take_received(conn));
        let mut packets = Vec::new();
        let mut used = 0;
        while let Some((_, length)) =
            mqtt::decode(&self.inward[used..], Version::V5, PACKET_BYTES_MAX).expect("it is MQTT")
        {
            packets.push(self.inward[used..used + length].to_vec());
            used += length;
        }
        self.inward.drain(..used);
        if world.is_closed(conn) {
            self.lose();
        }
        packets
    }
}

fn packet(bytes: &[u8]) -> Packet<'_> {
    let decoded = mqtt::decode(bytes, Version::V5, PACKET_BYTES_MAX).expect("it was decoded once");
    decoded.expect("it is whole").0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Published,
    Released,
}

/// Publishes the numbers 0, 1, 2, ... to one topic.
#[derive(Debug)]
pub struct Publisher {
    line: Line,
    /// Its topic.
    pub topic: String,
    /// Its QoS, 1 or 2.
    pub qos: QoS,
    /// Numbers sent so far.
    pub sent: u64,
    /// Numbers that the broker has taken on.
    pub acked: BTreeSet<u64>,
    /// By order of sending: packet id, number, state.
    unanswered: Vec<(u16, u64, Sent)>,
    next_id: u16,
}

impl Publisher {
    /// A publisher that is not connected yet.
    pub fn new(id: &str, topic: &str, qos: QoS) -> Self {
        Self {
            line: Line::new(id.to_owned()),
            topic: topic.to_owned(),
            qos,
            sent: 0,
            acked: BTreeSet::new(),
            unanswered: Vec::new(),
            next_id: 0,
        }
    }

    /// Whether it has a connection, answered or not.
    pub fn is_connected(&self) -> bool {
        self.line.conn.is_some()
    }

    /// Whether nothing waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Connects to its session.
    pub fn connect(&mut self, world: &mut World) {
        self.line.connect(world);
    }

    /// Its network breaks, if `world` still has it.
    pub fn cut(&mut self, world: Option<&mut World>) {
        if let (Some(world), Some(conn)) = (world, self.line.conn) {
            world.cut(conn);
        }
        self.line.lose();
    }

    /// Publishes the next number if the window allows.
    pub fn publish(&mut self, world: &mut World) {
        if !self.line.up || self.unanswered.len() >= WINDOW {
            return;
        }
        self.next_id = self.next_id % 100 + 1;
        while self.unanswered.iter().any(|(id, ..)| *id == self.next_id) {
            self.next_id = self.next_id % 100 + 1;
        }
        let number = self.sent;
        self.sent += 1;
        self.unanswered
            .push((self.next_id, number, Sent::Published));
        self.transmit(world, self.next_id, number, false);
    }

    /// Reads what has arrived.
    pub fn receive(&mut self, world: &mut World) -> Vec<u8> {
        let mut seen = Vec::new();
        for bytes in self.line.receive(world) {
            self.take(world, &packet(&bytes));
            seen.extend(bytes);
        }
        seen
    }

    fn transmit(&self, world: &mut World, packet_id: u16, number: u64, dup: bool) {
        let payload = number.to_string();
        let publish = Publish {
            dup,
            qos: self.qos,
            topic: &self.topic,
            packet_id,
            payload: payload.as_bytes(),
            ..Publish::default()
        };
        self.line.send(world, &Packet::Publish(publish));
    }

    fn take(&mut self, world: &mut World, packet: &Packet<'_>) {
        match packet {
            Packet::Connack(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success);
                self.line.up = true;
                for (packet_id, number, state) in self.unanswered.clone() {
                    match state {
                        Sent::Published => self.transmit(world, packet_id, number, true),
                        Sent::Released => {
                            let release = Ack::new(packet_id, ReasonCode::Success);
                            self.line.send(world, &Packet::Pubrel(release));
                        }
                    }
                }
            }
            Packet::Puback(ack) => {
                assert!(!ack.reason.is_error(), "refused: {:?}", ack.reason);
                self.done(ack.packet_id);
            }
            Packet::Pubrec(ack) => {
                assert!(!ack.reason.is_error(), "refused: {:?}", ack.reason);
                let entry = self
                    .unanswered
                    .iter_mut()
                    .find(|(id, ..)| *id == ack.packet_id);
                if let Some((_, number, state)) = entry {
                    // From here on the broker answers for it.
                    self.acked.insert(*number);
                    *state = Sent::Released;
                    let release = Ack::new(ack.packet_id, ReasonCode::Success);
                    self.line.send(world, &Packet::Pubrel(release));
                }
            }
            Packet::Pubcomp(ack) => self.done(ack.packet_id),
            _ => {}
        }
    }

    fn done(&mut self, packet_id: u16) {
        if let Some(at) = self.unanswered.iter().position(|(id, ..)| *id == packet_id) {
            let (_, number, _) = self.unanswered.remove(at);
            self.acked.insert(number);
        }
    }
}

/// Subscribes with a session that never expires and remembers all that it got.
#[derive(Debug)]
pub struct Subscriber {
    line: Line,
    filter: String,
    /// QoS of its subscription.
    pub qos: QoS,
    /// SUBACK has come once.
    pub subscribed: bool,
    /// Numbers by topic, in order of receipt.
    pub received: BTreeMap<String, Vec<u64>>,
    /// Packet ids of QoS 2 that PUBREL is awaited for.
    held: BTreeSet<u16>,
}

impl Subscriber {
    /// A subscriber that is not connected yet.
    pub fn new(id: &str, filter: &str, qos: QoS) -> Self {
        Self {
            line: Line::new(id.to_owned()),
            filter: filter.to_owned(),
            qos,
            subscribed: false,
            received: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    /// Whether its subscription takes a topic.
    pub fn takes(&self, topic: &str) -> bool {
        mqtt::topic::matches(&self.filter, topic)
    }

    /// Whether it has a connection, answered or not.
    pub fn is_connected(&self) -> bool {
        self.line.conn.is_some()
    }

    /// Connects to its session.
    pub fn connect(&mut self, world: &mut World) {
        self.line.connect(world);
    }

    /// Its network breaks, if `world` still has it.
    pub fn cut(&mut self, world: Option<&mut World>) {
        if let (Some(world), Some(conn)) = (world, self.line.conn) {
            world.cut(conn);
        }
        self.line.lose();
    }

    /// Reads what has arrived and answers it.
    pub fn receive(&mut self, world: &mut World) -> Vec<u8> {
        let mut seen = Vec::new();
        for bytes in self.line.receive(world) {
            self.take(world, &packet(&bytes));
            seen.extend(bytes);
        }
        seen
    }

    fn take(&mut self, world: &mut World, packet: &Packet<'_>) {
        match packet {
            Packet::Connack(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success);
                assert!(
                    connack.session_present || !self.subscribed,
                    "the session is lost"
                );
                if !connack.session_present {
                    self.held.clear();
                }
                self.line.up = true;
                if !self.subscribed {
                    let filters = [(self.filter.as_str(), SubscribeOptions::qos(self.qos))];
                    let subscribe = Subscribe {
                        packet_id: 1,
                        subscription_id: None,
                        user: UserProperties::EMPTY,
                        filters: Filters::from_slice(&filters),
                    };
                    self.line.send(world, &Packet::Subscribe(subscribe));
                }
            }
            Packet::Suback(_) => self.subscribed = true,
            Packet::Publish(publish) => {
                let id = publish.packet_id;
                let new = publish.qos != QoS::ExactlyOnce || self.held.insert(id);
                if new {
                    let text = std::str::from_utf8(publish.payload).expect("a number");
                    let number = text.parse().expect("a number");
                    self.received
                        .entry(publish.topic.to_owned())
                        .or_default()
                        .push(number);
                }
                let ack = Ack::new(id, ReasonCode::Success);
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.line.send(world, &Packet::Puback(ack)),
                    QoS::ExactlyOnce => self.line.send(world, &Packet::Pubrec(ack)),
                }
            }
            Packet::Pubrel(ack) => {
                self.held.remove(&ack.packet_id);
                let ack = Ack::new(ack.packet_id, ReasonCode::Success);
                self.line.send(world, &Packet::Pubcomp(ack));
            }
            _ => {}
        }
    }
}
