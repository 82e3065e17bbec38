//! What others may see of a shard: figures for metrics, rows for the console.

use super::Shard;
use crate::input::ConnId;
use crate::session::{Session, Subscription};
use crate::turn::DropReason;
use mqtt::{SubscribeOptions, Version};
use std::cmp::Ordering;
use std::net::SocketAddr;
use std::sync::Arc;

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
    /// Answers that wait until the Apache Kafka cluster behind has their messages, now.
    pub mirror_waiting: u64,
    /// Answers that waited too long for it, or whose message it will never have: failures.
    pub mirror_timeouts: u64,
    /// Messages refused because too many answers wait for it.
    pub mirror_refused: u64,
    /// Records that hooks made, by their counter. Whoever holds the [`crate::Turn`] fills it in.
    pub made: Vec<u64>,
    /// Those of them that the log refused; likewise.
    pub made_refused: Vec<u64>,
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
        self.mirror_waiting += other.mirror_waiting;
        self.mirror_timeouts += other.mirror_timeouts;
        self.mirror_refused += other.mirror_refused;
        let sums = |own: &mut [u64], others: &[u64]| {
            for (sum, count) in own.iter_mut().zip(others) {
                *sum += count;
            }
        };
        self.made.resize(self.made.len().max(other.made.len()), 0);
        let counters = self.made_refused.len().max(other.made_refused.len());
        self.made_refused.resize(counters, 0);
        sums(&mut self.made, &other.made);
        sums(&mut self.made_refused, &other.made_refused);
        sums(&mut self.received, &other.received);
        sums(&mut self.sent, &other.sent);
        sums(&mut self.dropped, &other.dropped);
    }
}

/// What clients are put in order by; their ids decide among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientOrder {
    /// The client id.
    #[default]
    Id,
    /// The user name.
    Username,
    /// When it connected last.
    Connected,
    /// Messages it is owed.
    Owed,
    /// Deliveries in flight to it.
    Inflight,
    /// Its subscriptions.
    Subscriptions,
}

/// The place of a client in an order, besides its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderKey {
    /// A figure; 0 where only the id counts.
    Number(u64),
    /// A text.
    Text(String),
}

/// Which clients are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientQuery {
    /// Part of the client id or the user name.
    pub contains: Option<String>,
    /// With, or without, a connection.
    pub connected: Option<bool>,
    /// In which order.
    pub order: ClientOrder,
    /// The order turned round.
    pub descending: bool,
    /// Only clients behind this place.
    pub after: Option<(OrderKey, String)>,
    /// Most rows.
    pub limit: usize,
}

impl ClientQuery {
    /// The order that is asked for, of two places in it.
    pub fn compare(&self, a: (&OrderKey, &str), b: (&OrderKey, &str)) -> Ordering {
        let order = a.cmp(&b);
        if self.descending {
            order.reverse()
        } else {
            order
        }
    }
}

/// Which subscriptions are asked for; they come in the order of client id and filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionQuery {
    /// Part of the client id or the filter.
    pub contains: Option<String>,
    /// By filter and client id instead.
    pub by_filter: bool,
    /// The order turned round.
    pub descending: bool,
    /// Only those behind this client id and filter.
    pub after: Option<(String, String)>,
    /// Most rows.
    pub limit: usize,
}

impl SubscriptionQuery {
    /// The order that is asked for, of two pairs of client id and filter.
    pub fn compare(&self, a: (&str, &str), b: (&str, &str)) -> Ordering {
        let order = if self.by_filter {
            (a.1, a.0).cmp(&(b.1, b.0))
        } else {
            a.cmp(&b)
        };
        if self.descending {
            order.reverse()
        } else {
            order
        }
    }
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// Whose it is.
    pub client_id: Arc<str>,
    /// The filter as the client wrote it, with `$share/group/` in front of a shared one.
    pub filter: Arc<str>,
    /// Its options, with the QoS granted.
    pub options: SubscribeOptions,
    /// Its identifier; 0 is none.
    pub id: u32,
}

/// A client with what there is to know of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientDetails {
    /// The client.
    pub row: ClientRow,
    /// Its connection.
    pub conn: Option<ConnId>,
    /// Its subscriptions, in the order in which they were made.
    pub subscriptions: Vec<SubscriptionRow>,
    /// Topic, QoS, retain flag and delay in seconds of its will.
    pub will: Option<(String, u8, bool, u32)>,
    /// Largest packet that it takes, while it is connected.
    pub packet_size_max: Option<u32>,
    /// QoS 1 and 2 publishes of it that are not finished.
    pub unfinished: Option<u16>,
    /// Answers to it that wait for the log.
    pub answers_waiting: usize,
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
    /// The figures as they are now. However many sessions there are, none is looked at: whoever
    /// measures must not keep clients waiting.
    pub fn stats(&self) -> ShardStats {
        let stats = ShardStats {
            connections: self.conns.len() as u64,
            sessions: self.sessions.len() as u64,
            inbox_messages: self.owed,
            inbox_bytes: self.owed_bytes,
            mirror_waiting: self.progress.mirror.waiting as u64,
            ..self.stats.clone()
        };
        debug_assert_eq!(
            [
                stats.subscriptions,
                stats.shared_subscriptions,
                stats.inflight
            ],
            self.found_in_sessions(),
            "subscriptions, shared ones and deliveries in flight are counted as they come and go"
        );
        stats
    }

    /// What the sessions hold: subscriptions, shared ones, deliveries in flight.
    pub(super) fn found_in_sessions(&self) -> [u64; 3] {
        let sessions = self.sessions.slots().map(|slot| &self.sessions[slot]);
        sessions.fold([0; 3], |[all, shared, inflight], session| {
            [
                all + session.subscriptions.len() as u64,
                shared + shared_of(&session.subscriptions),
                inflight + session.outbound.len() as u64,
            ]
        })
    }

    /// The clients asked for, in the order asked for.
    pub fn clients(&self, query: &ClientQuery) -> Vec<ClientRow> {
        let wanted = |slot: &u32| {
            let session = &self.sessions[*slot];
            query.contains.as_deref().is_none_or(|part| {
                session.client_id.contains(part) || session.username().contains(part)
            }) && query
                .connected
                .is_none_or(|connected| connected == session.conn.is_some())
        };
        let place = |slot| (session_key(&self.sessions[slot], query.order), slot);
        let id = |slot: u32| &*self.sessions[slot].client_id;
        let mut places: Vec<(OrderKey, u32)> =
            self.sessions.slots().filter(wanted).map(place).collect();
        if let Some((key, last)) = &query.after {
            places.retain(|(own, slot)| {
                query.compare((own, id(*slot)), (key, last)) == Ordering::Greater
            });
        }
        let order = |a: &(OrderKey, u32), b: &(OrderKey, u32)| {
            query.compare((&a.0, id(a.1)), (&b.0, id(b.1)))
        };
        if query.limit < places.len() {
            places.select_nth_unstable_by(query.limit, order);
            places.truncate(query.limit);
        }
        places.sort_unstable_by(order);
        places.into_iter().map(|(_, slot)| self.row(slot)).collect()
    }

    /// Client id and address of a connection.
    pub fn connection(&self, conn: ConnId) -> Option<(&str, Option<SocketAddr>)> {
        let connection = self.conns.get(conn)?;
        let session = self.sessions.get(connection.session)?;
        Some((&session.client_id, connection.peer))
    }

    /// The topic that an alias stands for now on a connection: of the client's own aliases, or of
    /// those towards it.
    pub fn aliased(&self, conn: ConnId, alias: u16, is_clients: bool) -> Option<&str> {
        let connection = self.conns.get(conn)?;
        if is_clients {
            connection.aliases_in.known(alias)
        } else {
            connection.aliases_out.known(alias)
        }
    }

    /// Places what follows by other hooks: from `turn` on, which is being filled, is still empty, and
    /// has to be told too.
    pub fn set_hooks(&mut self, hooks: std::sync::Arc<crate::hooks::HookTable>, turn: u64) {
        let former = std::mem::replace(&mut self.hooks, hooks);
        self.progress.mirror.went_by(former, turn);
    }

    /// All there is to know of one client.
    pub fn client(&self, client_id: &str) -> Option<ClientDetails> {
        let slot = self.sessions.find(client_id)?;
        let session = &self.sessions[slot];
        let connection = session.conn.and_then(|conn| self.conns.get(conn));
        let subscriptions = session.subscriptions.iter();
        Some(ClientDetails {
            row: self.row(slot),
            conn: session.conn,
            subscriptions: subscriptions
                .map(|it| subscription_row(session, it))
                .collect(),
            will: session.will.as_ref().map(|will| {
                let topic = will.topic.to_string();
                (topic, will.qos as u8, will.retain, will.delay_s)
            }),
            packet_size_max: connection.map(|connection| connection.packet_size_max),
            unfinished: connection.map(|connection| connection.unfinished),
            answers_waiting: connection.map_or(0, |connection| connection.answers.len()),
        })
    }

    /// The subscriptions asked for, in the order asked for.
    pub fn subscriptions(&self, query: &SubscriptionQuery) -> Vec<SubscriptionRow> {
        let sessions = self.sessions.slots().map(|slot| &self.sessions[slot]);
        let mut found: Vec<(&Session, &Subscription)> = sessions
            .flat_map(|session| session.subscriptions.iter().map(move |it| (session, it)))
            .filter(|(session, it)| {
                query
                    .contains
                    .as_deref()
                    .is_none_or(|part| session.client_id.contains(part) || it.filter.contains(part))
            })
            .collect();
        if let Some((client, filter)) = &query.after {
            found.retain(|(session, it)| {
                let own = (&*session.client_id, &*it.filter);
                query.compare(own, (client, filter)) == Ordering::Greater
            });
        }
        let order = |a: &(&Session, &Subscription), b: &(&Session, &Subscription)| {
            let a = (&*a.0.client_id, &*a.1.filter);
            query.compare(a, (&*b.0.client_id, &*b.1.filter))
        };
        if query.limit < found.len() {
            found.select_nth_unstable_by(query.limit, order);
            found.truncate(query.limit);
        }
        found.sort_unstable_by(order);
        let row = |(session, it): (&Session, &Subscription)| subscription_row(session, it);
        found.into_iter().map(row).collect()
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

/// How many of these are shared.
pub(super) fn shared_of(subscriptions: &[Subscription]) -> u64 {
    let shared = |it: &&Subscription| it.filter.starts_with("$share/");
    subscriptions.iter().filter(shared).count() as u64
}

fn subscription_row(session: &Session, subscription: &Subscription) -> SubscriptionRow {
    SubscriptionRow {
        client_id: Arc::clone(&session.client_id),
        filter: Arc::clone(&subscription.filter),
        options: subscription.options,
        id: subscription.id,
    }
}

fn session_key(session: &Session, order: ClientOrder) -> OrderKey {
    OrderKey::Number(match order {
        ClientOrder::Id => 0,
        ClientOrder::Username => return OrderKey::Text(session.username().to_owned()),
        ClientOrder::Connected => session.connected_ms,
        ClientOrder::Owed => session.backlog.inbox.len() as u64,
        ClientOrder::Inflight => session.outbound.len() as u64,
        ClientOrder::Subscriptions => session.subscriptions.len() as u64,
    })
}

impl ClientRow {
    /// Its place in an order.
    pub fn key(&self, order: ClientOrder) -> OrderKey {
        OrderKey::Number(match order {
            ClientOrder::Id => 0,
            ClientOrder::Username => return OrderKey::Text(self.username.clone()),
            ClientOrder::Connected => self.connected_ms,
            ClientOrder::Owed => self.inbox as u64,
            ClientOrder::Inflight => self.inflight as u64,
            ClientOrder::Subscriptions => self.subscriptions as u64,
        })
    }
}
