//! A blocking MQTT client for tests: sends packets, reads packets, and fails loudly when nothing
//! comes.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mqtt::{
    Ack, Connect, ConnectProperties, Disconnect, Filters, Packet, Publish, PublishProperties, QoS,
    ReasonCode, Subscribe, SubscribeOptions, UserProperties, Version,
};

/// Nothing in these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
const PACKET_MAX: u32 = 64 * 1024 * 1024;

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    pub version: Version,
    pub session_present: bool,
    pub assigned_client_id: Option<String>,
    read: Vec<u8>,
    /// PUBLISHes that came while something else was awaited.
    early: VecDeque<Got>,
}

/// What a test looks at in a PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub packet_id: u16,
}

impl Got {
    fn new(publish: &Publish<'_>) -> Self {
        Self {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
        }
    }
}

impl Client {
    /// Connects with a clean session and MQTT 5.
    pub fn connect(address: SocketAddr, client_id: &str) -> Self {
        Self::connect_with(address, |connect| connect.client_id = client_id)
    }

    /// Connects to a session that outlives the connection.
    pub fn resume(address: SocketAddr, client_id: &str) -> Self {
        Self::connect_with(address, |connect| {
            connect.client_id = client_id;
            connect.clean_start = false;
            connect.properties.session_expiry_s = 3600;
        })
    }

    pub fn connect_with<'a>(address: SocketAddr, change: impl FnOnce(&mut Connect<'a>)) -> Self {
        let mut client = Self::open(address);
        let mut connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive_s: 60,
            client_id: "",
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties::default(),
        };
        change(&mut connect);
        client.version = connect.version;
        client.send(&Packet::Connect(connect));
        client.connacked();
        client
    }

    /// A TCP connection, nothing sent.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            version: Version::V5,
            session_present: false,
            assigned_client_id: None,
            read: Vec::new(),
            early: VecDeque::new(),
        }
    }

    fn connacked(&mut self) {
        let (present, assigned) = self.expect(|packet| match packet {
            Packet::Connack(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success);
                let assigned = connack.properties.assigned_client_id.map(str::to_owned);
                (connack.session_present, assigned)
            }
            other => panic!("CONNACK expected, not {other:?}"),
        });
        self.session_present = present;
        self.assigned_client_id = assigned;
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.stream.write_all(&bytes).expect("the node reads");
    }

    /// The next packet; panics when none comes.
    pub fn expect<T>(&mut self, look: impl FnOnce(&Packet<'_>) -> T) -> T {
        loop {
            if let Some((packet, used)) =
                mqtt::decode(&self.read, self.version, PACKET_MAX).expect("the node speaks MQTT")
            {
                let seen = look(&packet);
                self.read.drain(..used);
                return seen;
            }
            let mut chunk = [0; 16 * 1024];
            let n = self.stream.read(&mut chunk).expect("a packet in time");
            assert!(n > 0, "the node has closed the connection");
            self.read.extend_from_slice(&chunk[..n]);
        }
    }

    /// The end of the connection, whatever comes before it.
    pub fn expect_close(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        let mut chunk = [0; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return rest,
                Ok(n) => rest.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return rest,
                Err(error) => panic!("the node did not close: {error}"),
            }
        }
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        let filters = [(filter, SubscribeOptions::qos(qos))];
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscription_id: None,
            user: UserProperties::EMPTY,
            filters: Filters::from_slice(&filters),
        }));
        while let Some(early) = self.expect(|packet| match packet {
            Packet::Suback(suback) => {
                assert!(suback.reasons.iter().all(|it| !it.is_error()));
                None
            }
            Packet::Publish(publish) => Some(Got::new(publish)),
            other => panic!("SUBACK expected, not {other:?}"),
        }) {
            self.early.push_back(early);
        }
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool, packet_id: u16) {
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            properties: PublishProperties::default(),
            payload,
        }));
    }

    /// Publishes and waits for the whole acknowledgement.
    pub fn publish_acked(&mut self, topic: &str, payload: &[u8], qos: QoS, packet_id: u16) {
        self.publish(topic, payload, qos, false, packet_id);
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.expect_puback(packet_id),
            QoS::ExactlyOnce => {
                self.expect(|packet| match packet {
                    Packet::Pubrec(ack) => assert_eq!(ack.packet_id, packet_id),
                    other => panic!("PUBREC expected, not {other:?}"),
                });
                self.send(&Packet::Pubrel(Ack::new(packet_id, ReasonCode::Success)));
                self.expect(|packet| match packet {
                    Packet::Pubcomp(ack) => assert_eq!(ack.packet_id, packet_id),
                    other => panic!("PUBCOMP expected, not {other:?}"),
                });
            }
        }
    }

    pub fn expect_puback(&mut self, packet_id: u16) {
        self.expect(|packet| match packet {
            Packet::Puback(ack) => {
                assert_eq!(ack.packet_id, packet_id);
                assert!(!ack.reason.is_error(), "{:?}", ack.reason);
            }
            other => panic!("PUBACK expected, not {other:?}"),
        });
    }

    /// The next PUBLISH, not acknowledged.
    pub fn receive(&mut self) -> Got {
        if let Some(early) = self.early.pop_front() {
            return early;
        }
        self.expect(|packet| match packet {
            Packet::Publish(publish) => Got::new(publish),
            other => panic!("PUBLISH expected, not {other:?}"),
        })
    }

    /// The next PUBLISH, acknowledged as its QoS wants it.
    pub fn receive_acked(&mut self) -> Got {
        let got = self.receive();
        match got.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.send(&Packet::Puback(Ack::new(
                    got.packet_id,
                    ReasonCode::Success,
                )));
            }
            QoS::ExactlyOnce => {
                self.send(&Packet::Pubrec(Ack::new(
                    got.packet_id,
                    ReasonCode::Success,
                )));
                while let Some(early) = self.expect(|packet| match packet {
                    Packet::Pubrel(ack) => {
                        assert_eq!(ack.packet_id, got.packet_id);
                        None
                    }
                    Packet::Publish(publish) => Some(Got::new(publish)),
                    other => panic!("PUBREL expected, not {other:?}"),
                }) {
                    self.early.push_back(early);
                }
                self.send(&Packet::Pubcomp(Ack::new(
                    got.packet_id,
                    ReasonCode::Success,
                )));
            }
        }
        got
    }

    pub fn ping(&mut self) {
        self.send(&Packet::Pingreq);
        self.expect(|packet| assert!(matches!(packet, Packet::Pingresp), "{packet:?}"));
    }

    pub fn disconnect(mut self) {
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        self.expect_close();
    }
}
