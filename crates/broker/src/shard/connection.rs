//! What a shard knows of a connection besides its session, by the host's slot.

use super::answers::Waiting;
use crate::access::Permits;
use crate::input::ConnId;
use crate::session::Session;
use crate::turn::Publisher;
use mqtt::Version;
use mqtt::inflight::{AliasesIn, AliasesOut};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// State of one connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub id: ConnId,
    pub session: u32,
    pub version: Version,
    /// Address of the client, where there is one.
    pub peer: Option<SocketAddr>,
    /// The same as a text, once a record has to name it.
    pub peer_text: Option<Box<str>>,
    /// It has proved that its session's user name is its own.
    pub proved: bool,
    /// What the client may do; `None`: everything.
    pub permits: Option<Box<Permits>>,
    /// When its credentials end, by the monotonic clock.
    pub expires_ms: Option<u64>,
    /// Enhanced authentication: the method.
    pub method: Option<Box<str>>,
    /// An authentication again is under way.
    pub authenticating: bool,
    /// Keep alive in force, seconds; 0 is none.
    pub keep_alive_s: u16,
    /// CONNACK is sent: deliveries may go out.
    pub ready: bool,
    /// Too much waits to be sent: deliveries stay in the inbox until the host says `Drained`.
    pub parked: bool,
    /// Largest packet that the client takes.
    pub packet_size_max: u32,
    /// QoS 1 and 2 publishes of the client that are not finished.
    pub unfinished: u16,
    /// Session expiry was 0 at CONNECT: DISCONNECT must not set another [MQTT-3.14.2-2].
    pub expiry_fixed: bool,
    /// The client accepts topic aliases.
    pub aliasing: bool,
    pub aliases_in: AliasesIn,
    pub aliases_out: AliasesOut,
    /// Answers that wait for the log, in the order of the requests.
    pub answers: VecDeque<Waiting>,
    /// Last turn for which this connection is on the list of those waiting for its append.
    pub awaits_append: u64,
    /// The same for the flush.
    pub awaits_flush: u64,
}

impl Connection {
    /// Address and port as records name them: made once, for the first PUBLISH.
    pub(super) fn name_peer(&mut self) {
        if self.peer_text.is_none()
            && let Some(peer) = self.peer
        {
            self.peer_text = Some(peer.to_string().into());
        }
    }

    /// Who publishes here: a client of that session.
    pub(super) fn publisher<'a>(&'a self, session: &'a Session) -> Publisher<'a> {
        Publisher {
            client_id: &session.client_id,
            username: session.username(),
            peer: self.peer_text.as_deref().unwrap_or(""),
            proved: self.proved,
        }
    }
}

/// The connections of a shard.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    open: usize,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.open
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Connection> {
        self.slots
            .get(conn.slot())?
            .as_deref()
            .filter(|found| found.id == conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.slots
            .get_mut(conn.slot())?
            .as_deref_mut()
            .filter(|found| found.id == conn)
    }

    pub(super) fn add(&mut self, connection: Connection) {
        let slot = connection.id.slot();
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        let before = self.slots[slot].replace(Box::new(connection));
        assert!(
            before.is_none(),
            "the host closes a connection before its slot is used again"
        );
        self.open += 1;
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Box<Connection>> {
        self.get(conn)?;
        self.open -= 1;
        self.slots[conn.slot()].take()
    }

    /// All connections, by slot.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.slots
            .iter()
            .flatten()
            .map(|connection| connection.id)
            .collect()
    }
}
