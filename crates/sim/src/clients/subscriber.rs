//! A subscriber: it remembers all that it got since its subscription, and from when on everything
//! must come.

use std::collections::{BTreeMap, BTreeSet};

use mqtt::{
    Ack, Filters, Packet, QoS, ReasonCode, RetainHandling, Subscribe, SubscribeOptions,
    UserProperties,
};

use super::line::{Hello, Line};
use super::packet;
use crate::world::World;

/// What a subscriber wants.
#[derive(Debug, Clone)]
pub struct Taste {
    /// Its filter, shared or not.
    pub filter: &'static str,
    /// QoS of its subscription.
    pub qos: QoS,
    /// Whether it wants the retained messages.
    pub retained: bool,
}

/// Subscribes once for each session and remembers all that it got in it.
#[derive(Debug)]
pub struct Subscriber {
    line: Line,
    taste: Taste,
    /// SUBACK has come in this session.
    pub subscribed: bool,
    /// Times that SUBACK has come.
    pub subacks: u32,
    /// Sessions so far.
    pub sessions: u32,
    /// How many numbers each publisher had sent when SUBACK came: what came later must come.
    pub since: BTreeMap<String, u64>,
    /// Numbers by topic, in order of receipt, of this session.
    pub received: BTreeMap<String, Vec<u64>>,
    /// Packet ids of QoS 2 that PUBREL is awaited for.
    held: BTreeSet<u16>,
    /// `since` of the session that is there after every power cut, once that is flushed.
    pub durable: Option<BTreeMap<String, u64>>,
    /// When its last connection ended for sure, and whether the process died since.
    pub left: Option<(u64, bool)>,
}

impl Subscriber {
    /// A subscriber that is not connected yet.
    pub fn new(id: &str, taste: Taste, hello: Hello) -> Self {
        Self {
            line: Line::new(id.to_owned(), hello),
            taste,
            subscribed: false,
            subacks: 0,
            sessions: 0,
            since: BTreeMap::new(),
            received: BTreeMap::new(),
            held: BTreeSet::new(),
            durable: None,
            left: None,
        }
    }

    /// Whether its subscription takes a topic.
    pub fn takes(&self, topic: &str) -> bool {
        let filter = mqtt::topic::parse_share(self.taste.filter)
            .map_or(self.taste.filter, |share| share.filter);
        mqtt::topic::matches(filter, topic)
    }

    /// QoS of its subscription.
    pub fn qos(&self) -> QoS {
        self.taste.qos
    }

    /// How it introduces itself; takes effect with the next connection.
    pub fn hello(&mut self) -> &mut Hello {
        &mut self.line.hello
    }

    /// Whether it has a connection, answered or not.
    pub fn is_connected(&self) -> bool {
        self.line.is_connected()
    }

    /// Connects, taking over the connection it may have.
    pub fn connect(&mut self, world: &mut World) {
        if self.line.is_connected() {
            self.left = Some((world.now().wall_ms, false));
        }
        self.line.connect(world);
    }

    /// Its network breaks, if `world` still has it; else the process has died.
    pub fn cut(&mut self, world: Option<&mut World>, now_ms: u64) {
        let died = world.is_none();
        if died || self.line.is_connected() {
            self.left = Some((now_ms, died));
        }
        self.line.cut(world);
    }

    /// All that the broker has said until now survives a power cut.
    pub fn flushed(&mut self) {
        self.line.flushed();
        if self.subscribed && self.line.hello.expiry_s == u32::MAX {
            self.durable = Some(self.since.clone());
        }
    }

    /// The power went: the broker may have forgotten what was not flushed.
    pub fn forgive(&mut self) {
        self.line.forgive();
    }

    /// Reads what has arrived, at most so many packets, and answers it.
    pub fn receive(&mut self, world: &mut World, most: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        for bytes in self.line.receive(world, most) {
            self.take(world, &packet(&bytes));
            seen.extend(bytes);
        }
        seen
    }

    fn take(&mut self, world: &mut World, packet: &Packet<'_>) {
        match packet {
            Packet::Connack(connack) if !connack.reason.is_error() => {
                self.check_expiry(connack.session_present, world.now().wall_ms);
                if !connack.session_present {
                    self.held.clear();
                    self.received.clear();
                    self.since.clear();
                    self.subscribed = false;
                    self.sessions += 1;
                }
                // A CONNACK that got lost may have told of a new session; one that can end subscribes
                // each time, as client libraries do.
                self.subscribed &= self.line.hello.expiry_s == u32::MAX;
                if !self.subscribed {
                    self.subscribe(world);
                }
            }
            Packet::Suback(suback) => {
                self.subacks += 1;
                self.subscribed = suback.reasons.iter().all(|reason| !reason.is_error());
            }
            Packet::Publish(publish) => {
                let id = publish.packet_id;
                let new = publish.qos != QoS::ExactlyOnce || self.held.insert(id);
                if new {
                    let text = std::str::from_utf8(publish.payload).expect("a number");
                    let number = text.parse().expect("a number");
                    let received = self.received.entry(publish.topic.to_owned());
                    received.or_default().push(number);
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

    fn subscribe(&self, world: &mut World) {
        let mut options = SubscribeOptions::qos(self.taste.qos);
        if !self.taste.retained {
            options.retain_handling = RetainHandling::DoNotSend;
        }
        let filters = [(self.taste.filter, options)];
        let subscribe = Subscribe {
            packet_id: 1,
            subscription_id: None,
            user: UserProperties::EMPTY,
            filters: Filters::from_slice(&filters),
        };
        self.line.send(world, &Packet::Subscribe(subscribe));
    }

    /// A session that ends some time after its connection is there before, and gone after.
    fn check_expiry(&self, present: bool, now_ms: u64) {
        let hello = &self.line.hello;
        let Some((left_ms, died)) = self.left else {
            return;
        };
        if hello.clean_start || hello.expiry_s == u32::MAX {
            return;
        }
        // The answer may be some time under way; what is between is not judged.
        let away_ms = now_ms.saturating_sub(left_ms);
        let expiry_ms = u64::from(hello.expiry_s) * 1_000;
        assert!(
            !self.subscribed || died || present || away_ms >= expiry_ms,
            "a session of {expiry_ms} ms is gone after {away_ms} ms"
        );
    }
}
