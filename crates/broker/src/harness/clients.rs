//! The clients of a test: what they send, and what they were sent, as they would see it.

use super::World;
use super::show::show;
use crate::input::{Admitted, CloseCause, ConnId, Input, Peer};
use crate::shard::{home_of, worker_of};
use mqtt::{
    Ack, Connect, ConnectProperties, Disconnect, Filters, Packet, Publish, PublishProperties, QoS,
    ReasonCode, Subscribe, SubscribeOptions, TopicFilters, Unsubscribe, UserProperties, Version,
    Will,
};

/// A client of the test.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) version: Version,
    pub(super) worker: usize,
    pub(super) got: Vec<u8>,
    pub(super) closed: bool,
}

/// What a test client says in its CONNECT.
#[derive(Debug, Clone)]
pub(crate) struct Hello<'a> {
    pub version: Version,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub username: Option<&'a str>,
    pub will: Option<Will<'a>>,
    pub properties: ConnectProperties<'a>,
    pub assigned: Option<&'a str>,
    pub peer: Peer,
    pub admitted: Admitted,
}

impl Hello<'_> {
    /// Takes at most so many unacknowledged messages.
    pub(crate) fn with_window(mut self, receive_maximum: u16) -> Self {
        self.properties.receive_maximum = Some(receive_maximum);
        self
    }
}

/// MQTT 5, clean start, no expiry.
pub(crate) fn v5<'a>() -> Hello<'a> {
    Hello {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        username: None,
        will: None,
        properties: ConnectProperties::default(),
        assigned: None,
        peer: Peer::default(),
        admitted: Admitted::default(),
    }
}

/// MQTT 5 with a session that lives `expiry_s` longer than its connection.
pub(crate) fn lasting<'a>(expiry_s: u32) -> Hello<'a> {
    let mut hello = v5();
    hello.clean_start = false;
    hello.properties.session_expiry_s = expiry_s;
    hello
}

/// MQTT 3.1.1.
pub(crate) fn v311<'a>(clean_session: bool) -> Hello<'a> {
    Hello {
        version: Version::V311,
        clean_start: clean_session,
        ..v5()
    }
}

impl World {
    /// Connects and answers the connection; CONNACK is among what it got.
    pub(crate) fn open(&mut self, client_id: &str, hello: &Hello<'_>) -> ConnId {
        let conn = self.open_unsettled(client_id, hello);
        self.settle();
        conn
    }

    /// The same, but the turn goes on.
    pub(crate) fn open_unsettled(&mut self, client_id: &str, hello: &Hello<'_>) -> ConnId {
        let home = home_of(hello.assigned.unwrap_or(client_id));
        let worker = usize::from(worker_of(home, self.shards.len() as u16));
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let client = Client {
            version: hello.version,
            worker,
            got: Vec::new(),
            closed: false,
        };
        self.clients.insert(conn, client);
        let connect = Connect {
            version: hello.version,
            clean_start: hello.clean_start,
            keep_alive_s: hello.keep_alive_s,
            client_id,
            username: hello.username,
            password: None,
            will: hello.will.clone(),
            properties: hello.properties,
        };
        let input = Input::Open {
            conn,
            connect: &connect,
            assigned_client_id: hello.assigned,
            peer: hello.peer,
            admitted: &hello.admitted,
        };
        self.handle(worker, input);
        conn
    }

    /// Connects; CONNACK is looked at and taken away.
    pub(crate) fn connect(&mut self, client_id: &str, hello: &Hello<'_>) -> ConnId {
        let conn = self.open(client_id, hello);
        let got = self.got(conn);
        assert!(got[0].starts_with("CONNACK success"), "{got:?}");
        if got.len() > 1 {
            // Deliveries right behind it are for the test to see.
            self.put_back(conn, &got[1..]);
        }
        conn
    }

    fn put_back(&mut self, conn: ConnId, rest: &[String]) {
        let client = self.clients.get_mut(&conn).unwrap();
        assert!(client.got.is_empty());
        for line in rest {
            client.got.push(0);
            client
                .got
                .extend_from_slice(&(line.len() as u32).to_be_bytes());
            client.got.extend_from_slice(line.as_bytes());
        }
    }

    /// Sends a packet and lets everything happen.
    pub(crate) fn send(&mut self, conn: ConnId, packet: &Packet<'_>) {
        self.send_unsettled(conn, packet);
        self.settle();
    }

    /// Sends a packet; the turn goes on.
    pub(crate) fn send_unsettled(&mut self, conn: ConnId, packet: &Packet<'_>) {
        let worker = self.clients[&conn].worker;
        self.handle(worker, Input::Packet { conn, packet });
    }

    /// The connection breaks.
    pub(crate) fn lose(&mut self, conn: ConnId) {
        self.close(conn, CloseCause::PeerClosed);
    }

    pub(crate) fn close(&mut self, conn: ConnId, why: CloseCause) {
        let worker = self.clients[&conn].worker;
        self.handle(worker, Input::Closed { conn, why });
        self.settle();
    }

    pub(crate) fn drained(&mut self, conn: ConnId) {
        let worker = self.clients[&conn].worker;
        self.handle(worker, Input::Drained { conn });
        self.settle();
    }

    pub(crate) fn kick(&mut self, client_id: &str) {
        let worker = worker_of(home_of(client_id), self.shards.len() as u16);
        self.handle(usize::from(worker), Input::Kick { client_id });
        self.settle();
    }

    /// Whether the broker has closed the connection.
    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.clients[&conn].closed
    }

    /// Every client acknowledges all QoS 1 messages that it got.
    pub(crate) fn acknowledge_everything(&mut self) {
        for conn in self.clients.keys().copied().collect::<Vec<_>>() {
            for line in self.got(conn) {
                let id = line
                    .split(" #")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next());
                if let Some(packet_id) = id {
                    let packet_id = packet_id.parse().unwrap();
                    let packet = Packet::Puback(Ack::new(packet_id, ReasonCode::Success));
                    self.send_unsettled(conn, &packet);
                }
            }
        }
        self.settle();
    }

    /// What the client got since the last call, a line a packet.
    pub(crate) fn got(&mut self, conn: ConnId) -> Vec<String> {
        let client = self.clients.get_mut(&conn).unwrap();
        let bytes = std::mem::take(&mut client.got);
        let mut rest = &bytes[..];
        let mut lines = Vec::new();
        while !rest.is_empty() {
            if rest[0] == 0 {
                let len = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
                lines.push(String::from_utf8(rest[5..5 + len].to_vec()).unwrap());
                rest = &rest[5 + len..];
                continue;
            }
            let (packet, len) = mqtt::decode(rest, client.version, u32::MAX)
                .unwrap()
                .unwrap();
            lines.push(show(&packet));
            rest = &rest[len..];
        }
        lines
    }

    pub(crate) fn subscribe(&mut self, conn: ConnId, filter: &str, qos: QoS) {
        self.subscribe_with(conn, filter, SubscribeOptions::qos(qos), None);
        let got = self.got(conn);
        assert!(got[0].starts_with("SUBACK 1 "), "{got:?}");
        if got.len() > 1 {
            self.put_back(conn, &got[1..]);
        }
    }

    pub(crate) fn subscribe_with(
        &mut self,
        conn: ConnId,
        filter: &str,
        options: SubscribeOptions,
        id: Option<u32>,
    ) {
        self.send(
            conn,
            &Packet::Subscribe(Subscribe {
                packet_id: 1,
                subscription_id: id,
                user: UserProperties::EMPTY,
                filters: Filters::from_slice(&[(filter, options)]),
            }),
        );
    }

    pub(crate) fn unsubscribe(&mut self, conn: ConnId, filter: &str) {
        self.send(
            conn,
            &Packet::Unsubscribe(Unsubscribe {
                packet_id: 2,
                user: UserProperties::EMPTY,
                filters: TopicFilters::from_slice(&[filter]),
            }),
        );
    }

    /// Publishes; packet id 10 for QoS 1 and 2.
    pub(crate) fn publish(&mut self, conn: ConnId, topic: &str, qos: QoS, payload: &str) {
        self.send(conn, &publish(topic, qos, payload));
    }

    pub(crate) fn disconnect(&mut self, conn: ConnId, reason: ReasonCode) {
        self.send(conn, &Packet::Disconnect(Disconnect::new(reason)));
    }

    pub(crate) fn puback(&mut self, conn: ConnId, packet_id: u16) {
        self.send(
            conn,
            &Packet::Puback(Ack::new(packet_id, ReasonCode::Success)),
        );
    }

    pub(crate) fn pubrec(&mut self, conn: ConnId, packet_id: u16) {
        self.send(
            conn,
            &Packet::Pubrec(Ack::new(packet_id, ReasonCode::Success)),
        );
    }

    pub(crate) fn pubrel(&mut self, conn: ConnId, packet_id: u16) {
        self.send(
            conn,
            &Packet::Pubrel(Ack::new(packet_id, ReasonCode::Success)),
        );
    }

    pub(crate) fn pubcomp(&mut self, conn: ConnId, packet_id: u16) {
        self.send(
            conn,
            &Packet::Pubcomp(Ack::new(packet_id, ReasonCode::Success)),
        );
    }
}

/// A PUBLISH; packet id 10 for QoS 1 and 2.
pub(crate) fn publish<'a>(topic: &'a str, qos: QoS, payload: &'a str) -> Packet<'a> {
    publish_id(topic, qos, 10, payload)
}

/// A PUBLISH with a packet id.
pub(crate) fn publish_id<'a>(
    topic: &'a str,
    qos: QoS,
    packet_id: u16,
    payload: &'a str,
) -> Packet<'a> {
    Packet::Publish(Publish {
        qos,
        topic,
        packet_id: if qos == QoS::AtMostOnce { 0 } else { packet_id },
        payload: payload.as_bytes(),
        ..Publish::default()
    })
}

/// A PUBLISH with properties, packet id 10.
pub(crate) fn publish_with<'a>(
    topic: &'a str,
    qos: QoS,
    retain: bool,
    payload: &'a str,
    properties: PublishProperties<'a>,
) -> Packet<'a> {
    Packet::Publish(Publish {
        qos,
        topic,
        retain,
        packet_id: if qos == QoS::AtMostOnce { 0 } else { 10 },
        payload: payload.as_bytes(),
        properties,
        ..Publish::default()
    })
}
