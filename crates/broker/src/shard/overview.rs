//! What others may see of a shard: figures for metrics, rows for the console.

use super::Shard;
use crate::session::Session;
use crate::turn::DropReason;
use mqtt::Version;
use std::net::SocketAddr;

/// Counts since the shard was made, and gauges; sums over shards make sense.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Connections now.
    pub connections: u64,
    /// Sessions now, with or without a connection.
    pub sessions: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Messages in inboxes now.
    pub inbox_messages: u64,
    /// Bytes of the inboxes now.
    pub inbox_bytes: u64,
    /// Connections taken in.
    pub connections_opened: u64,
    /// Connections ended.
    pub connections_closed: u64,
    /// Sessions taken over from a connection.
    pub takeovers: u64,
    /// Sessions ended by their expiry interval.
    pub sessions_expired: u64,
    /// Wills published.
    pub wills_published: u64,
    /// Connections ended because of bytes that are no packet.
    pub malformed: u64,
    /// PUBLISH packets taken, by QoS.
    pub received: [u64; 3],
    /// Payload bytes of them.
    pub received_bytes: u64,
    /// PUBLISH packets sent, by QoS, repetitions included.
    pub sent: [u64; 3],
    /// Payload bytes of them.
    pub sent_bytes: u64,
    /// Deliveries in flight now.
    pub inflight: u64,
    /// Shared subscriptions now.
    pub shared_subscriptions: u64,
    /// Deliveries of QoS 1 and 2 finished by their receiver.
    pub acked: u64,
    /// Messages dropped, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Filters of SUBSCRIBE that a client may not subscribe to.
    pub subscribes_denied: u64,
    /// Connections ended because their credentials did.
    pub credentials_ended: u64,
    /// Turns that the log refused.
    pub turns_refused: u64,
    /// Wills and records of events in them that found no room to wait until they are written again.
    pub events_lost: u64,
}

impl ShardStats {
    /// Adds the figures of another shard.
    pub fn add(&mut self, other: &ShardStats) {
        self.connections += other.connections;
        self.sessions += other.sessions;
        self.subscriptions += other.subscriptions;
        self.inbox_messages += other.inbox_messages;
        self.inbox_bytes += other.inbox_bytes;
        self.connections_opened += other.connections_opened;
        self.connections_closed += other.connections_closed;
        self.takeovers += other.takeovers;
        self.sessions_expired += other.sessions_expired;
        self.wills_published += other.wills_published;
        self.malformed += other.malformed;
        self.subscribes_denied += other.subscribes_denied;
        self.credentials_ended += other.credentials_ended;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.inflight += other.inflight;
        self.shared_subscriptions += other.shared_subscriptions;
        self.acked += other.acked;
        self.turns_refused += other.turns_refused;
        self.events_lost += other.events_lost;
        let sums = |own: &mut [u64], others: &[u64]| {
            for (sum, count) in own.iter_mut().zip(others) {
                *sum += count;
            }
        };
        sums(&mut self.received, &other.received);
        sums(&mut self.sent, &other.sent);
        sums(&mut self.dropped, &other.dropped);
    }
}

/// Which clients are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientQuery {
    /// Part of the client id.
    pub contains: Option<String>,
    /// With, or without, a connection.
    pub connected: Option<bool>,
    /// Only client ids behind this one.
    pub after: Option<String>,
    /// Most rows.
    pub limit: usize,
}

/// One client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRow {
    /// Its id.
    pub client_id: String,
    /// Its user name, `""` when absent.
    pub username: String,
    /// Whether it has a connection.
    pub connected: bool,
    /// The other end of its connection.
    pub peer: Option<SocketAddr>,
    /// Keep alive in force on its connection, seconds; 0 is none.
    pub keep_alive_s: Option<u16>,
    /// Its protocol.
    pub version: Version,
    /// When it connected last, ms since the epoch; 0 for a session that was restored.
    pub connected_ms: u64,
    /// When its connection ended, ms since the epoch; `None` while it is connected.
    pub disconnected_ms: Option<u64>,
    /// Seconds its session outlives the connection; `u32::MAX` is for ever.
    pub session_expiry_s: u32,
    /// Its subscriptions.
    pub subscriptions: usize,
    /// Messages it is owed.
    pub inbox: usize,
    /// Deliveries in flight to it.
    pub inflight: usize,
}

impl Shard {
    /// The figures as they are now; walks over the sessions.
    pub fn stats(&self) -> ShardStats {
        let sessions = || self.sessions.slots().map(|slot| &self.sessions[slot]);
        let shared = |session: &Session| {
            let subscriptions = session.subscriptions.iter();
            subscriptions
                .filter(|it| it.filter.starts_with("$share/"))
                .count() as u64
        };
        ShardStats {
            inflight: sessions()
                .map(|session| session.outbound.len() as u64)
                .sum(),
            shared_subscriptions: sessions().map(shared).sum(),
            connections: self.conns.len() as u64,
            sessions: self.sessions.len() as u64,
            inbox_messages: self.owed,
            inbox_bytes: self.owed_bytes,
            ..self.stats.clone()
        }
    }

    /// The clients asked for, in order of their ids.
    pub fn clients(&self, query: &ClientQuery) -> Vec<ClientRow> {
        let wanted = |slot: &u32| {
            let session = &self.sessions[*slot];
            query
                .contains
                .as_deref()
                .is_none_or(|part| session.client_id.contains(part))
                && query
                    .connected
                    .is_none_or(|connected| connected == session.conn.is_some())
                && query
                    .after
                    .as_deref()
                    .is_none_or(|after| *session.client_id > *after)
        };
        let mut slots: Vec<u32> = self.sessions.slots().filter(wanted).collect();
        slots
            .sort_unstable_by(|&a, &b| self.sessions[a].client_id.cmp(&self.sessions[b].client_id));
        slots.truncate(query.limit);
        slots.into_iter().map(|slot| self.row(slot)).collect()
    }

    fn row(&self, slot: u32) -> ClientRow {
        let session = &self.sessions[slot];
        let connection = session.conn.and_then(|conn| self.conns.get(conn));
        ClientRow {
            client_id: session.client_id.to_string(),
            username: session.username().to_owned(),
            connected: session.conn.is_some(),
            peer: connection.and_then(|connection| connection.peer),
            keep_alive_s: connection.map(|connection| connection.keep_alive_s),
            version: session.protocol,
            connected_ms: session.connected_ms,
            disconnected_ms: session
                .conn
                .is_none()
                .then_some(session.disconnected.wall_ms),
            session_expiry_s: session.expiry_s,
            subscriptions: session.subscriptions.len(),
            inbox: session.backlog.inbox.len(),
            inflight: session.outbound.len(),
        }
    }
}
