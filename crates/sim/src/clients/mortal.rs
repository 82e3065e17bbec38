//! A client that leaves a will with each connection, and what must become of each will.

use mqtt::{Disconnect, Packet, QoS, ReasonCode};

use super::line::{Hello, LastWord, Line};
use super::packet;
use crate::world::World;

/// What must become of a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// CONNACK has come, the connection stands.
    Armed,
    /// It must be published, once.
    Due,
    /// It must not be published.
    Void,
    /// The broker may know of it or not: published at most once.
    Unknown,
}

/// Connects again and again, each time with a will of another number.
#[derive(Debug)]
pub struct Mortal {
    line: Line,
    /// Topic of its wills.
    pub topic: String,
    /// The fate of each will, by number.
    pub fates: Vec<Fate>,
}

impl Mortal {
    /// A client that is not connected yet.
    pub fn new(id: &str, expiry_s: u32, qos: QoS) -> Self {
        let topic = format!("wills/{id}");
        let will = LastWord {
            topic: topic.clone(),
            number: 0,
            qos,
            delay_s: 0,
        };
        let hello = Hello {
            clean_start: expiry_s == 0,
            expiry_s,
            will: Some(will),
            ..Hello::default()
        };
        Self {
            line: Line::new(id.to_owned(), hello),
            topic,
            fates: Vec::new(),
        }
    }

    /// Whether it has a connection, answered or not.
    pub fn is_connected(&self) -> bool {
        self.line.is_connected()
    }

    /// Connects with a new will, taking over the connection it may have.
    pub fn connect(&mut self, world: &mut World) {
        self.ends(Fate::Due);
        if let Some(will) = &mut self.line.hello.will {
            will.number = self.fates.len() as u64;
        }
        self.fates.push(Fate::Unknown);
        self.line.connect(world);
    }

    /// Its network breaks, if `world` still has it; else the process has died.
    pub fn cut(&mut self, world: Option<&mut World>) {
        self.ends(Fate::Due);
        self.line.cut(world);
    }

    /// Says goodbye; if `world` writes that down at once, and has room for it, the will is void, else
    /// it may come out after a crash.
    pub fn leave(&mut self, world: &mut World, written: bool) {
        if !self.line.up {
            return;
        }
        let goodbye = Disconnect::new(ReasonCode::Success);
        self.line.send(world, &Packet::Disconnect(goodbye));
        let refused = world.refused_turns();
        if written {
            world.write_log();
        }
        let written = written && world.refused_turns() == refused;
        self.ends(if written { Fate::Void } else { Fate::Unknown });
        self.line.lose();
    }

    /// The broker may have forgotten its session: it did not promise to keep it.
    pub fn forgive(&mut self) {
        self.line.forgive();
    }

    /// Reads what has arrived.
    pub fn receive(&mut self, world: &mut World) -> Vec<u8> {
        let mut seen = Vec::new();
        for bytes in self.line.receive(world, usize::MAX) {
            if let Packet::Connack(connack) = packet(&bytes)
                && !connack.reason.is_error()
                && let Some(fate) = self.fates.last_mut()
            {
                *fate = Fate::Armed;
            }
            seen.extend(bytes);
        }
        seen
    }

    fn ends(&mut self, fate: Fate) {
        if let Some(last) = self.fates.last_mut()
            && *last == Fate::Armed
        {
            *last = fate;
        }
    }
}
