//! Everything that can happen to a shard. The shard changes in no other way.

use crate::access::{Access, Judging, Permit};
use crate::downlink::Parcel;
use crate::message::{Commit, MessageRef, Messages, OwnedMessage, Position};
use crate::retained::RetainedPage;
use crate::turn::PublishFacts;
use commitlog::{Lsn, PartitionId};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// A connection of one worker: slab index in the low 32 bits, generation above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl ConnId {
    /// Place in the worker's slab of connections.
    pub const fn slot(self) -> usize {
        (self.0 & 0xFFFF_FFFF) as usize
    }
}

/// The two clocks at the moment of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds since the epoch; may jump.
    pub wall_ms: u64,
    /// Milliseconds since some start; never goes back. Timers run on it.
    pub mono_ms: u64,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peer {
    /// Remote address, where there is one.
    pub address: Option<SocketAddr>,
}

/// Why the host gives a connection up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// The client closed the socket without a DISCONNECT.
    PeerClosed,
    /// Nothing was heard for one and a half keep alive intervals [MQTT-3.1.2-22].
    KeepAliveTimeout,
    /// What waits to be sent passed the host's bound.
    TooSlow,
    /// The socket failed.
    Error,
}

/// Why the log took nothing of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too little free space; heals by itself.
    Full,
    /// A write or flush failed; the node takes no appends until it is restarted.
    Latched,
}

/// A turn that comes back.
#[derive(Debug, Clone, Copy)]
pub struct Returned<'a> {
    /// Its entry, nothing of which was written.
    pub entry: &'a commitlog::Entry,
    /// Its messages.
    pub messages: &'a Messages,
}

/// A PUBLISH of the node itself, such as `$SYS/broker/...`.
#[derive(Debug, Clone, Copy)]
pub struct Announce<'a> {
    /// Topic, valid.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Whether it is retained.
    pub retain: bool,
}

/// As whom a client came in; the default is a client that was not asked.
#[derive(Debug, Clone, Default)]
pub struct Admitted {
    /// The client id that stands in for its own, or is its own and was found to be its user's: a
    /// session that another user opened under it gives way.
    pub client_id: Option<Box<str>>,
    /// The user name that stands in for its own.
    pub username: Option<Box<str>>,
    /// Its own user name counts for nothing: nobody has proved it, and rules name users.
    pub unnamed: bool,
    /// It has proved that the user name is its own.
    pub proved: bool,
    /// What it may do; `None`: everything.
    pub access: Option<Arc<Access>>,
    /// What was found out for its will, and for the subscriptions of the session that it resumes.
    pub permits: Vec<Permit>,
    /// When its credentials end, by the monotonic clock.
    pub expires_ms: Option<u64>,
    /// Enhanced authentication: the method.
    pub method: Option<Box<str>>,
    /// Enhanced authentication: the last data, for CONNACK.
    pub data: Option<Box<[u8]>>,
}

/// What the host makes of an AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reauthenticated<'a> {
    /// The exchange goes on with these data.
    Continue(&'a [u8]),
    /// It is complete; the last data.
    Done(&'a [u8]),
    /// It failed.
    Failed(mqtt::ReasonCode),
}

/// One thing that happens to a shard.
#[derive(Debug)]
pub enum Input<'a> {
    /// Replay is over; before any other input.
    Started,
    /// A client whose CONNECT was accepted by the reception.
    Open {
        /// The connection from now on.
        conn: ConnId,
        /// The CONNECT.
        connect: &'a mqtt::Connect<'a>,
        /// The client id that the reception chose because the client had none.
        assigned_client_id: Option<&'a str>,
        /// The other end.
        peer: Peer,
        /// As whom it came in, and what it may do.
        admitted: &'a Admitted,
    },
    /// What the host found out of what [`crate::Shard::inquiry`] asked; the packet follows.
    Permitted {
        /// Whose packet.
        conn: ConnId,
        /// The answers.
        permits: Vec<Permit>,
    },
    /// The packet for which the host asked has been handled.
    PermitsSettled {
        /// Whose.
        conn: ConnId,
    },
    /// Other rules hold from now on, for those who are in too.
    Judging(Arc<Judging>),
    /// What comes of an AUTH ([`crate::outbox::Reauthentication`]).
    Reauthenticated {
        /// Whose.
        conn: ConnId,
        /// What the client is told.
        judged: Reauthenticated<'a>,
    },
    /// A packet that the client sent.
    Packet {
        /// From whom.
        conn: ConnId,
        /// What.
        packet: &'a mqtt::Packet<'a>,
    },
    /// Bytes that are no packet.
    Malformed {
        /// From whom.
        conn: ConnId,
        /// What was wrong.
        error: mqtt::DecodeError,
    },
    /// The host has lost the connection or gives it up.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: CloseCause,
    },
    /// What waits to be sent on a connection fell low enough for deliveries to go on.
    Drained {
        /// Which.
        conn: ConnId,
    },
    /// An entry is in the log; in the order of the log.
    Committed(&'a Arc<Commit>),
    /// The log took nothing of this worker's turn, nor of later ones that need it
    /// ([`Turn::needs_earlier`](crate::turn::Turn::needs_earlier)) and were finished before the shard
    /// heard of this.
    Refused {
        /// The turn's number.
        turn: u64,
        /// Why.
        why: Refusal,
        /// What was in it, where there may soon be room again.
        returned: Option<Returned<'a>>,
    },
    /// Everything up to this entry survives a power cut.
    Flushed(Lsn),
    /// A write or flush of the log has failed: nothing that is not flushed by now ever will be, and
    /// the log takes no more turns.
    Latched,
    /// The Apache Kafka cluster behind has what a partition holds up to this end. Only partitions
    /// of [`crate::Shard::mirror_waits`] need be told of.
    Mirrored {
        /// Which.
        partition: PartitionId,
        /// The next offset; nothing beyond what is flushed.
        end: u64,
        /// What of that it will never have, in the order of the offsets.
        never: &'a [Range<u64>],
    },
    /// The answer to a [`ReadRequest`]: one message a position, `None` where retention took it. It
    /// may stop after any position but the first; what is left is asked for again.
    Read {
        /// The request's token.
        token: u64,
        /// In the order of the positions.
        messages: Vec<Option<OwnedMessage>>,
    },
    /// The answer to a [`RetainedRequest`].
    RetainedFound {
        /// The request's token.
        token: u64,
        /// What was found.
        page: RetainedPage,
        /// The retained messages themselves, in the page's order; `None` where one is gone.
        messages: Vec<Option<OwnedMessage>>,
    },
    /// From another shard of this node.
    Post(ShardMessage),
    /// The node itself publishes.
    Publish(Announce<'a>),
    /// Somebody publishes who has no MQTT connection; whether that may be was decided before.
    Deposit(&'a PublishFacts<'a>),
    /// Such a message that the host does not allow: counted and told as dropped.
    DepositDenied(&'a PublishFacts<'a>),
    /// Records of a source are to be published; what became of them is in
    /// [`crate::Outbox::delivered`] once the log has decided.
    Downlink(&'a Parcel),
    /// An operator ends a connection.
    Kick {
        /// The client's id.
        client_id: &'a str,
    },
    /// The entries of the log up to this one that are no [`Committed`](Self::Committed) hold nothing for
    /// the shard, and all others were handed to it.
    Seen(Lsn),
    /// Write inbox snapshots and markers.
    Snapshot,
    /// The log is about to drop a stream's oldest messages, whoever is still owed them.
    Overdue {
        /// Of which partition.
        partition: PartitionId,
        /// Up to this offset.
        below: u64,
    },
    /// Time has passed.
    Tick,
    /// The node stops: every client is told, nothing more is accepted.
    Drain,
}

/// Positions that the host shall read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// Comes back in [`Input::Read`].
    pub token: u64,
    /// At most [`crate::READ_POSITIONS_MAX`].
    pub positions: Vec<Position>,
}

/// A search in the retained messages that the host shall make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedRequest {
    /// Comes back in [`Input::RetainedFound`].
    pub token: u64,
    /// What the topics must match.
    pub filter: Arc<str>,
    /// Only messages that were retained by this entry or before.
    pub as_of: Lsn,
    /// Where the page before ended; `None` for the first.
    pub after: Option<Box<str>>,
}

/// A shard's message to another shard, or to itself.
#[derive(Debug, Clone)]
pub enum ShardMessage {
    /// A member comes to a shared group, or its state changes.
    Join(Box<GroupJoin>),
    /// A member leaves a shared group for good.
    Leave {
        /// The group.
        group: GroupName,
        /// The member.
        client_id: Arc<str>,
    },
    /// A member has no connection any more, and gives back what it has not acknowledged; QoS 2
    /// messages stay with its session [MQTT-4.8.2-4].
    Offline {
        /// The group.
        group: GroupName,
        /// The member.
        client_id: Arc<str>,
        /// Lent messages that others may have.
        returned: Vec<Position>,
    },
    /// A group lends a message to a member.
    Lend(Box<Loan>),
    /// A member is done with a lent message.
    Settled {
        /// The group.
        group: GroupName,
        /// The member.
        client_id: Arc<str>,
        /// The message.
        position: Position,
    },
    /// Not taken: the member is away.
    Returned {
        /// The group.
        group: GroupName,
        /// The member.
        client_id: Arc<str>,
        /// The message.
        position: Position,
    },
}

/// A shared group: `$share/{share}/{filter}`, as one string.
pub type GroupName = Arc<str>;

/// A member's state, for the group's owner.
#[derive(Debug, Clone)]
pub struct GroupJoin {
    /// The group.
    pub group: GroupName,
    /// The member.
    pub client_id: Arc<str>,
    /// Options of its subscription.
    pub options: mqtt::SubscribeOptions,
    /// Identifier of its subscription; 0 is none.
    pub subscription_id: u32,
    /// Whether it has a connection.
    pub online: bool,
    /// Whether its session outlives the connection.
    pub persistent: bool,
    /// How many lent messages it may hold.
    pub window: u16,
    /// Messages of the group that it holds already, after a restart.
    pub holds: Vec<Position>,
}

/// A message lent to a member of a group.
#[derive(Debug, Clone)]
pub struct Loan {
    /// The group.
    pub group: GroupName,
    /// The member.
    pub client_id: Arc<str>,
    /// The message, while its commit is in memory; QoS 0 is never lent without it.
    pub message: Option<MessageRef>,
    /// The group outlives the process: what becomes of the message is journalled.
    pub journal: bool,
    /// Where the message is kept; QoS 0 may be kept nowhere.
    pub position: Option<Position>,
    /// QoS of the delivery.
    pub qos: mqtt::QoS,
    /// Retain flag of the delivery.
    pub retain: bool,
    /// Identifier of the member's subscription; 0 is none.
    pub subscription_id: u32,
}
