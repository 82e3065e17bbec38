//! The simulator's MQTT clients: publishers that repeat until they are answered, subscribers with
//! sessions of every length, and clients that leave a will. They keep what real client libraries
//! keep, and what the oracle wants to know.

mod line;
mod mortal;
mod subscriber;

pub use line::{Hello, LastWord};
pub use mortal::{Fate, Mortal};
pub use subscriber::{Subscriber, Taste};

use std::collections::BTreeSet;

use mqtt::{Ack, Packet, Publish, QoS, ReasonCode};

use crate::world::World;
use line::Line;

/// Unanswered messages of one publisher.
const WINDOW: usize = 8;

fn packet(bytes: &[u8]) -> Packet<'_> {
    let decoded = mqtt::decode(bytes, mqtt::Version::V5, mqtt::limits::PACKET_SIZE_MAX);
    decoded
        .expect("it was decoded once")
        .expect("it is whole")
        .0
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
    /// Whether its messages are to be retained.
    pub retain: bool,
    /// Numbers sent so far.
    pub sent: u64,
    /// Numbers that the broker has taken on.
    pub acked: BTreeSet<u64>,
    /// Those of them that survive every power cut.
    pub durable: BTreeSet<u64>,
    /// Those that were not flushed when the power went.
    doubtful: BTreeSet<u64>,
    /// By order of sending: packet id, number, state.
    unanswered: Vec<(u16, u64, Sent)>,
    /// Packet ids are taken from a small range, so that they are used again soon.
    next_id: u16,
}

impl Publisher {
    /// A publisher that is not connected yet.
    pub fn new(id: &str, topic: &str, qos: QoS, retain: bool) -> Self {
        Self {
            line: Line::new(id.to_owned(), Hello::default()),
            topic: topic.to_owned(),
            qos,
            retain,
            sent: 0,
            acked: BTreeSet::new(),
            durable: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            unanswered: Vec::new(),
            next_id: 0,
        }
    }

    /// Whether it has a connection, answered or not.
    pub fn is_connected(&self) -> bool {
        self.line.is_connected()
    }

    /// Whether nothing waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Connects to its session, taking over the connection it may have.
    pub fn connect(&mut self, world: &mut World) {
        self.line.connect(world);
    }

    /// Its network breaks, if `world` still has it.
    pub fn cut(&mut self, world: Option<&mut World>) {
        self.line.cut(world);
    }

    /// All that the broker has said until now survives a power cut.
    pub fn flushed(&mut self) {
        self.line.flushed();
        self.durable = &self.acked - &self.doubtful;
    }

    /// The power went: the broker may have forgotten what was not flushed.
    pub fn forgive(&mut self) {
        self.line.forgive();
        self.doubtful = &self.acked - &self.durable;
    }

    /// Publishes the next number if the window allows.
    pub fn publish(&mut self, world: &mut World) {
        if !self.line.up || self.unanswered.len() >= WINDOW {
            return;
        }
        let packet_id = self.free_id();
        let number = self.sent;
        self.sent += 1;
        self.unanswered.push((packet_id, number, Sent::Published));
        self.transmit(world, packet_id, number, false);
    }

    /// Reads what has arrived.
    pub fn receive(&mut self, world: &mut World) -> Vec<u8> {
        let mut seen = Vec::new();
        for bytes in self.line.receive(world, usize::MAX) {
            self.take(world, &packet(&bytes));
            seen.extend(bytes);
        }
        seen
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % (2 * WINDOW as u16) + 1;
            if !self.unanswered.iter().any(|(id, ..)| *id == self.next_id) {
                return self.next_id;
            }
        }
    }

    fn transmit(&self, world: &mut World, packet_id: u16, number: u64, dup: bool) {
        let payload = number.to_string();
        let publish = Publish {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id,
            payload: payload.as_bytes(),
            ..Publish::default()
        };
        self.line.send(world, &Packet::Publish(publish));
    }

    fn take(&mut self, world: &mut World, packet: &Packet<'_>) {
        match packet {
            // Refused: that says nothing of the session.
            Packet::Connack(connack) if connack.reason.is_error() => {}
            Packet::Connack(connack) => {
                if !connack.session_present {
                    // What it had released is taken on; the rest it publishes as if for the first
                    // time.
                    self.unanswered
                        .retain(|(.., state)| *state == Sent::Published);
                }
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
            Packet::Puback(ack) => self.done(ack.packet_id, !ack.reason.is_error()),
            Packet::Pubrec(ack) if ack.reason.is_error() => self.done(ack.packet_id, false),
            Packet::Pubrec(ack) => {
                let mut unanswered = self.unanswered.iter_mut();
                if let Some((_, number, state)) = unanswered.find(|(id, ..)| *id == ack.packet_id) {
                    // From here on the broker answers for it.
                    self.acked.insert(*number);
                    *state = Sent::Released;
                    let release = Ack::new(ack.packet_id, ReasonCode::Success);
                    self.line.send(world, &Packet::Pubrel(release));
                }
            }
            Packet::Pubcomp(ack) => self.done(ack.packet_id, true),
            _ => {}
        }
    }

    fn done(&mut self, packet_id: u16, taken: bool) {
        if let Some(at) = self.unanswered.iter().position(|(id, ..)| *id == packet_id) {
            let (_, number, _) = self.unanswered.remove(at);
            if taken {
                self.acked.insert(number);
            }
        }
    }
}
