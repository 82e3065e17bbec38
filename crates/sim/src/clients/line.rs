//! The part of a client that every client has: its connection, and CONNECT.

use mqtt::{Connect, ConnectProperties, Packet, QoS, ReasonCode, Version, Will, WillProperties};

use crate::world::{Client, World};

/// What a client says of itself in CONNECT.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Forget the session of before.
    pub clean_start: bool,
    /// How long the session outlives its connection, seconds; `u32::MAX` is for ever.
    pub expiry_s: u32,
    /// Messages that it takes without having acknowledged them.
    pub receive_maximum: Option<u16>,
    /// Its will.
    pub will: Option<LastWord>,
}

/// A will whose payload is a number.
#[derive(Debug, Clone)]
pub struct LastWord {
    /// Where to.
    pub topic: String,
    /// What.
    pub number: u64,
    /// Its QoS.
    pub qos: QoS,
    /// How long the broker waits for the client to come back, seconds.
    pub delay_s: u32,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            clean_start: false,
            expiry_s: u32::MAX,
            receive_maximum: None,
            will: None,
        }
    }
}

/// A client id and the connection that it has.
#[derive(Debug)]
pub(super) struct Line {
    id: String,
    pub(super) hello: Hello,
    conn: Option<Client>,
    /// CONNACK has come.
    pub(super) up: bool,
    /// The broker has a session that never expires, as CONNACK has said.
    pub(super) known: bool,
    /// That is flushed.
    durable: bool,
    inward: Vec<u8>,
    /// Connections of before that were taken over.
    old: Vec<Client>,
}

impl Line {
    pub(super) fn new(id: String, hello: Hello) -> Self {
        Self {
            id,
            hello,
            conn: None,
            up: false,
            known: false,
            durable: false,
            inward: Vec::new(),
            old: Vec::new(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.conn.is_some()
    }

    /// All that the broker has said until now survives a power cut.
    pub(super) fn flushed(&mut self) {
        self.durable = self.known;
    }

    /// The power went: of a session that was not flushed the broker may know nothing.
    pub(super) fn forgive(&mut self) {
        self.known = self.durable;
    }

    pub(super) fn connect(&mut self, world: &mut World) {
        self.old.extend(self.conn.take());
        let conn = world.connect();
        self.lose();
        self.conn = Some(conn);
        let hello = &self.hello;
        let payload = hello.will.as_ref().map(|will| will.number.to_string());
        let will = hello.will.as_ref().map(|will| Will {
            topic: &will.topic,
            payload: payload.as_deref().unwrap_or_default().as_bytes(),
            qos: will.qos,
            retain: false,
            properties: WillProperties {
                delay_s: will.delay_s,
                ..WillProperties::default()
            },
        });
        let connect = Connect {
            version: Version::V5,
            clean_start: hello.clean_start,
            keep_alive_s: 0,
            client_id: &self.id,
            username: None,
            password: None,
            will,
            properties: ConnectProperties {
                session_expiry_s: hello.expiry_s,
                receive_maximum: hello.receive_maximum,
                ..ConnectProperties::default()
            },
        };
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(Version::V5, &mut bytes);
        world.send(conn, &bytes);
        // The shard that has the new connection has the old one too.
        for old in self.old.drain(..) {
            assert!(world.is_closed(old), "{}: two connections", self.id);
        }
    }

    pub(super) fn send(&self, world: &mut World, packet: &Packet<'_>) {
        let Some(conn) = self.conn else { return };
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        world.send(conn, &bytes);
    }

    pub(super) fn cut(&mut self, world: Option<&mut World>) {
        if let (Some(world), Some(conn)) = (world, self.conn) {
            world.cut(conn);
        }
        self.lose();
    }

    pub(super) fn lose(&mut self) {
        self.conn = None;
        self.up = false;
        self.inward.clear();
    }

    /// Takes whole packets out of what has arrived, at most so many.
    pub(super) fn receive(&mut self, world: &mut World, most: usize) -> Vec<Vec<u8>> {
        let Some(conn) = self.conn else {
            return Vec::new();
        };
        let mut packets = Vec::new();
        let mut used = 0;
        while packets.len() < most {
            let rest = &self.inward[used..];
            let decoded = mqtt::decode(rest, Version::V5, mqtt::limits::PACKET_SIZE_MAX);
            let Some((packet, length)) = decoded.expect("the broker speaks MQTT") else {
                let more = world.take_received(conn);
                if more.is_empty() {
                    break;
                }
                self.inward.extend(more);
                continue;
            };
            if let Packet::Connack(connack) = packet {
                let (reason, present) = (connack.reason, connack.session_present);
                self.welcomed(reason, present);
            }
            packets.push(self.inward[used..used + length].to_vec());
            used += length;
        }
        self.inward.drain(..used);
        if world.is_closed(conn) && self.inward.is_empty() {
            self.lose();
        }
        packets
    }

    fn welcomed(&mut self, reason: ReasonCode, present: bool) {
        if reason.is_error() {
            return;
        }
        self.up = true;
        let lasting = self.hello.expiry_s == u32::MAX && !self.hello.clean_start;
        assert!(
            present || !lasting || !self.known,
            "{}: the session is lost",
            self.id
        );
        assert!(
            !present || !self.hello.clean_start,
            "{}: a session after a clean start",
            self.id
        );
        self.known = true;
    }
}
