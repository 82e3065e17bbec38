//! The clients' ends of the connections, and the broker's side of each: what is on its way, how much
//! of it waits, and whether it was closed. Must not know the log.

use super::{Client, World};
use broker::{CloseCause, ConnId, Input, Peer, home_of, worker_of};
use mqtt::{DecodeError, Version};

/// The broker's side of one connection.
pub(super) struct Wire {
    pub(super) conn: ConnId,
    pub(super) worker: Option<u16>,
    pub(super) version: Version,
    pub(super) keep_alive_ms: u64,
    pub(super) heard_ms: u64,
    /// What the client sent and no packet was made of yet.
    pub(super) inward: Vec<u8>,
    /// What the client has received and nobody has taken yet.
    pub(super) outward: Vec<u8>,
    /// More than the high mark waited at the broker; the shard wants to hear when it is less.
    pub(super) over: bool,
    /// The broker has closed it.
    pub(super) closed: bool,
}

impl World {
    /// A new connection, on which nothing was said yet.
    pub fn connect(&mut self) -> Client {
        let client = self.next_client;
        self.next_client += 1;
        let wire = Wire {
            conn: ConnId(client),
            worker: None,
            version: Version::V311,
            keep_alive_ms: 0,
            heard_ms: self.now.mono_ms,
            inward: Vec::new(),
            outward: Vec::new(),
            over: false,
            closed: false,
        };
        self.wires.insert(client, wire);
        client
    }

    /// The broker receives these bytes from the client.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&client) else {
            return;
        };
        if wire.closed {
            return;
        }
        wire.heard_ms = self.now.mono_ms;
        wire.inward.extend_from_slice(bytes);
        self.take_in(client);
    }

    /// What the client has received since the last call.
    pub fn take_received(&mut self, client: Client) -> Vec<u8> {
        let Some(wire) = self.wires.get_mut(&client) else {
            return Vec::new();
        };
        let bytes = std::mem::take(&mut wire.outward);
        let (worker, conn) = (wire.worker, wire.conn);
        if let (Some(worker), Some(_), false) = (worker, &self.node, wire.closed) {
            self.transmit(worker, conn);
            self.tell_drained(worker);
        }
        bytes
    }

    /// Whether the broker has closed the connection.
    pub fn is_closed(&self, client: Client) -> bool {
        self.wires.get(&client).is_none_or(|wire| wire.closed)
    }

    /// The client's network breaks: the broker sees the end of the stream.
    pub fn cut(&mut self, client: Client) {
        let Some(wire) = self.wires.remove(&client) else {
            return;
        };
        if let (Some(worker), false) = (wire.worker, wire.closed) {
            let input = Input::Closed {
                conn: wire.conn,
                why: CloseCause::PeerClosed,
            };
            self.handle(worker, input);
            self.running_mut().workers[usize::from(worker)]
                .by_conn
                .remove(&wire.conn.0);
        }
    }

    /// Makes packets of what a client has sent.
    fn take_in(&mut self, client: Client) {
        loop {
            let Some(wire) = self.wires.get_mut(&client) else {
                return;
            };
            if wire.closed || wire.inward.is_empty() {
                return;
            }
            let (conn, version) = (wire.conn, wire.version);
            let packet_size_max = self.settings.broker.packet_size_max;
            let bytes = std::mem::take(&mut wire.inward);
            let used = match wire.worker {
                None => self.introduce(client, &bytes),
                Some(worker) => match mqtt::decode(&bytes, version, packet_size_max) {
                    Ok(Some((packet, used))) => {
                        self.handle(
                            worker,
                            Input::Packet {
                                conn,
                                packet: &packet,
                            },
                        );
                        used
                    }
                    Ok(None) => 0,
                    Err(error) => {
                        self.handle(worker, Input::Malformed { conn, error });
                        bytes.len()
                    }
                },
            };
            if let Some(wire) = self.wires.get_mut(&client) {
                wire.inward = bytes[used..].to_vec();
            }
            if used == 0 {
                return;
            }
        }
    }

    /// The reception's part: CONNECT, and who is to have the connection.
    fn introduce(&mut self, client: Client, bytes: &[u8]) -> usize {
        let (connect, used) =
            match mqtt::decode_connect(bytes, self.settings.broker.packet_size_max) {
                Ok(Some(found)) => found,
                Ok(None) => return 0,
                Err(error) => {
                    self.turn_away(client, error);
                    return bytes.len();
                }
            };
        let assigned = connect.client_id.is_empty().then(|| {
            self.assigned += 1;
            format!("assigned-{}", self.assigned)
        });
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let worker = worker_of(home_of(client_id), self.settings.workers);
        let conn = ConnId(client);
        if let Some(wire) = self.wires.get_mut(&client) {
            wire.worker = Some(worker);
            wire.version = connect.version;
        }
        self.running_mut().workers[usize::from(worker)]
            .by_conn
            .insert(conn.0, client);
        let assigned_client_id = assigned.as_deref();
        let peer = Peer::default();
        let admitted = broker::Admitted {
            access: self.settings.access.clone(),
            ..broker::Admitted::default()
        };
        self.handle(
            worker,
            Input::Open {
                conn,
                connect: &connect,
                assigned_client_id,
                peer,
                admitted: &admitted,
            },
        );
        used
    }

    fn turn_away(&mut self, client: Client, error: DecodeError) {
        let Some(wire) = self.wires.get_mut(&client) else {
            return;
        };
        wire.closed = true;
        error.write_connack(&mut wire.outward);
    }

    /// Moves what waits for a connection to its wire, as far as that has room.
    pub(super) fn transmit(&mut self, worker: u16, conn: ConnId) {
        let wire_bytes_max = self.settings.wire_bytes_max;
        let high = self.settings.broker.send_buffer_bytes_max as usize;
        let place = &mut self.node.as_mut().expect("the node runs").workers[usize::from(worker)];
        let Some(wire) = place
            .by_conn
            .get(&conn.0)
            .and_then(|c| self.wires.get_mut(c))
        else {
            place.out.forget(conn);
            return;
        };
        let waiting = place.out.unsent(conn);
        wire.over |= waiting.len() >= high;
        let room = wire_bytes_max.saturating_sub(wire.outward.len());
        let sent = waiting.len().min(room);
        wire.outward.extend_from_slice(&waiting[..sent]);
        place.out.sent(conn, sent);
    }

    /// Tells the shard of connections of which little enough waits again.
    pub(super) fn tell_drained(&mut self, worker: u16) {
        let low = self.settings.broker.output_low_bytes();
        let place = &self.running().workers[usize::from(worker)];
        let drained = self.wires.values().find(|wire| {
            wire.over
                && !wire.closed
                && wire.worker == Some(worker)
                && place.out.pending_bytes(wire.conn) <= low
        });
        let Some(conn) = drained.map(|wire| wire.conn) else {
            return;
        };
        if let Some(wire) = self.wires.get_mut(&conn.0) {
            wire.over = false;
        }
        // What follows is emptied, and looked at, in turn.
        self.handle(worker, Input::Drained { conn });
    }
}

impl Wire {
    /// When its silence has lasted one and a half keep alive intervals [MQTT-3.1.2-22].
    pub(super) fn silent_at(&self) -> Option<u64> {
        let counts = self.keep_alive_ms > 0 && !self.closed;
        counts.then(|| self.heard_ms + self.keep_alive_ms * 3 / 2)
    }
}
