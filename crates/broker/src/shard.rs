//! One worker's part of the broker: the sessions whose home it is. Changes only in
//! [`Shard::handle`]; knows neither sockets nor clocks, and of the log only what it commits.

mod acks;
mod ahead;
mod answers;
mod connect;
mod connection;
mod deliver;
mod deposit;
mod disconnect;
mod downlink;
mod frames;
mod groups;
mod journal;
mod lost;
mod matches;
mod mirrored;
mod overview;
mod owed;
mod permission;
mod publish;
mod pump;
mod recent;
mod replay;
mod restart;
mod snapshot;
mod subscribe;
pub(crate) mod table;
mod timers;
mod unconfirmed;
mod wills;

pub(crate) use mirrored::bit_of;
pub use overview::{
    ClientDetails, ClientOrder, ClientQuery, ClientRow, OrderKey, ShardStats, SubscriptionQuery,
    SubscriptionRow,
};
pub use pump::READ_POSITIONS_MAX;

use crate::filters::{FilterTree, TopicCache};
use crate::hooks::HookTable;
use crate::input::{Input, Now, ShardMessage};
use crate::interest::Interest;
use crate::limits::TOPIC_CACHE_WEIGHT_MAX;
use crate::message::{Commit, Position};
use crate::outbox::Outbox;
use crate::retained::RetainedIndex;
use crate::session::{SessionRef, Sessions};
use crate::settings::BrokerSettings;
use ahead::Ahead;
use answers::Progress;
use commitlog::{Lsn, PartitionId};
use connection::Connections;
use downlink::Parcels;
use foldhash::fast::RandomState;
use frames::Frames;
use groups::Groups;
use hashbrown::{HashMap, HashSet};
use journal::RefusedDeliveries;
use matches::{Matched, Subscriber};
use owed::GivingUp;
use pump::Reading;
use recent::Recent;
use replay::Restoring;
use snapshot::Snapshots;
use std::collections::VecDeque;
use std::sync::{Arc, RwLock};
use subscribe::{PendingChange, Search};
use timers::Timers;
use unconfirmed::Unconfirmed;

/// Homes that client ids are spread over; workers share them out.
pub const HOMES: u16 = 256;

/// The home of a client id, or of the name of a shared group.
pub fn home_of(client_id: &str) -> u8 {
    commitlog::murmur2(client_id.as_bytes()) as u8
}

/// The worker that a home belongs to.
pub fn worker_of(home: u8, workers: u16) -> u16 {
    u16::from(home) % workers
}

/// Partitions that a shard itself writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// The only partition of `__sluice.sessions`.
    pub sessions: PartitionId,
}

/// The sessions of one worker and all that is decided for them.
#[derive(Debug)]
pub struct Shard {
    settings: Arc<BrokerSettings>,
    /// The rules in force, where they have changed since the start.
    judging: Option<Arc<crate::access::Judging>>,
    worker: u16,
    workers: u16,
    hooks: Arc<HookTable>,
    interest: Arc<Interest>,
    retained: Option<Arc<RwLock<RetainedIndex>>>,
    places: Places,
    sessions: Sessions,
    conns: Connections,
    filters: FilterTree<Subscriber>,
    matches: TopicCache<Arc<Matched>>,
    wanted: TopicCache<bool>,
    groups: Groups,
    timers: Timers,
    progress: Progress,
    /// Subscription changes whose turn is not committed yet, in order.
    pending: VecDeque<PendingChange>,
    recent: Recent,
    ahead: Ahead,
    /// Commits with messages whose delivery waits for the flush, in order.
    held: VecDeque<Arc<Commit>>,
    /// QoS 2 deliveries whose record is on its way into the log, by turn.
    journalled: VecDeque<(u64, SessionRef, u16)>,
    /// QoS 2 messages that came in, whose record is on its way into the log, by turn.
    receiving: VecDeque<(u64, SessionRef, u16)>,
    /// Those whose record the log refused.
    refused_deliveries: RefusedDeliveries,
    reads: HashMap<u64, Reading, RandomState>,
    /// Deliveries whose messages are being read for the event of their acknowledgement: session,
    /// packet id and message.
    acking: HashSet<(u64, u16, Position), RandomState>,
    searches: HashMap<u64, Search, RandomState>,
    last_token: u64,
    /// Messages to this very shard, worked off at the end of each input.
    posts: VecDeque<ShardMessage>,
    frames: Frames,
    snapshots: Snapshots,
    unconfirmed: Unconfirmed,
    giving_up: GivingUp,
    /// Records of downlinks on their way into the log.
    parcels: Parcels,
    restoring: Restoring,
    /// Owed messages in all inboxes, and what they take in memory.
    owed: u64,
    owed_bytes: u64,
    stats: ShardStats,
    draining: bool,
    /// A write of the log has failed: it takes nothing any more until the node is restarted.
    latched: bool,
    /// Scratch space for keys and values of table records.
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Shard {
    /// A shard without sessions. Feed it the session table and the journal, then
    /// [`Input::Started`].
    pub fn new(
        settings: Arc<BrokerSettings>,
        worker: u16,
        workers: u16,
        hooks: Arc<HookTable>,
        interest: Arc<Interest>,
        places: Places,
    ) -> Self {
        assert!(
            worker < workers && workers <= HOMES,
            "workers share the homes out"
        );
        Self {
            recent: Recent::new(settings.recent_bytes_max),
            ahead: Ahead::new(settings.recent_bytes_max),
            settings,
            judging: None,
            worker,
            workers,
            hooks,
            interest,
            retained: None,
            places,
            sessions: Sessions::default(),
            conns: Connections::default(),
            filters: FilterTree::new(),
            matches: TopicCache::new(TOPIC_CACHE_WEIGHT_MAX),
            wanted: TopicCache::new(TOPIC_CACHE_WEIGHT_MAX),
            groups: Groups::default(),
            timers: Timers::default(),
            progress: Progress::default(),
            pending: VecDeque::new(),
            held: VecDeque::new(),
            journalled: VecDeque::new(),
            receiving: VecDeque::new(),
            refused_deliveries: RefusedDeliveries::default(),
            reads: HashMap::default(),
            acking: HashSet::default(),
            searches: HashMap::default(),
            last_token: 0,
            posts: VecDeque::new(),
            frames: Frames::default(),
            snapshots: Snapshots::new(worker, workers),
            unconfirmed: Unconfirmed::default(),
            giving_up: GivingUp::default(),
            parcels: Parcels::default(),
            restoring: Restoring::default(),
            owed: 0,
            owed_bytes: 0,
            stats: ShardStats::default(),
            draining: false,
            latched: false,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Lets the shard ask whether one more retained message has room.
    #[must_use]
    pub fn with_retained(mut self, retained: Arc<RwLock<RetainedIndex>>) -> Self {
        self.retained = Some(retained);
        self
    }

    /// Lets `input` happen; everything that follows from it is in `out` afterwards.
    pub fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Outbox) {
        self.happen(input, now, out);
        while let Some(message) = self.posts.pop_front() {
            self.posted(message, now, out);
        }
    }

    fn happen(&mut self, input: Input<'_>, now: Now, out: &mut Outbox) {
        match input {
            Input::Packet { conn, packet } => self.packet(conn, packet, now, out),
            Input::Permitted { conn, permits } => self.permitted(conn, permits, now),
            Input::PermitsSettled { conn } => self.permits_settled(conn),
            Input::Judging(judging) => self.judge_anew(&judging, now, out),
            Input::Reauthenticated { conn, judged } => {
                self.reauthenticated(conn, judged, now, out);
            }
            Input::Committed(commit) => self.committed(commit, now, out),
            Input::Flushed(lsn) => self.flushed(lsn, now, out),
            Input::Latched => self.latched(now, out),
            Input::Mirrored {
                partition,
                end,
                never,
            } => self.mirrored(partition, end, never, now, out),
            Input::Open {
                conn,
                connect,
                assigned_client_id,
                peer,
                admitted,
            } => {
                let client_id = admitted.client_id.as_deref().or(assigned_client_id);
                let assigned = assigned_client_id.is_some();
                let arrival = connect::Arrival {
                    connect,
                    client_id: client_id.unwrap_or(connect.client_id),
                    assigned,
                    peer,
                    admitted,
                };
                self.open(conn, &arrival, now, out);
            }
            Input::Malformed { conn, error } => self.malformed(conn, error, now, out),
            Input::Closed { conn, why } => self.closed(conn, why, now, out),
            Input::Drained { conn } => self.drained(conn, now, out),
            Input::Refused {
                turn,
                why,
                returned,
            } => self.refused(turn, why, returned.as_ref(), now, out),
            Input::Read { token, messages } => self.read(token, messages, now, out),
            Input::RetainedFound {
                token,
                page,
                messages,
            } => {
                self.retained_found(token, page, &messages, now, out);
            }
            Input::Post(message) => self.posted(message, now, out),
            Input::Downlink(parcel) => self.downlink(parcel, now, out),
            Input::Publish(announce) => Self::announce(announce, now, out),
            Input::Deposit(facts) => self.deposit(facts, now, out),
            Input::DepositDenied(facts) => self.deny_deposit(facts, now, out),
            Input::Kick { client_id } => self.kick(client_id, now, out),
            Input::Seen(lsn) => self.progress.seen(lsn),
            Input::Snapshot => self.snapshot(now, out),
            Input::Overdue { partition, below } => self.overdue(partition, below, now, out),
            Input::Tick => self.tick(now, out),
            Input::Started => self.started(now, out),
            Input::Drain => self.drain(now, out),
        }
    }

    /// When [`Input::Tick`] is wanted next, by the monotonic clock. Early or late does no harm.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Journal entries up to this one are not needed to restore this shard once what is in the log
    /// now is durable.
    pub fn shards_at(&self) -> Lsn {
        self.snapshots.shards_at()
    }

    /// First offset of `__sluice.sessions` whose records compaction must keep one by one.
    pub fn table_pin(&self) -> u64 {
        self.snapshots.table_pin()
    }

    fn token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Whether anybody in the process subscribes to `topic`.
    fn is_wanted(&mut self, topic: &str) -> bool {
        let interest = &self.interest;
        self.wanted
            .get_or_make(topic, interest.generation(), || (interest.any(topic), 1))
    }

    /// Sends a message to the shard of `home`.
    fn post(&mut self, home: u8, message: ShardMessage, out: &mut Outbox) {
        if worker_of(home, self.workers) == self.worker {
            self.posts.push_back(message);
        } else {
            out.posts.push((home, message));
        }
    }

    /// Whether an owner (client id or group name) is at home in this shard.
    fn is_home(&self, owner: &str) -> bool {
        worker_of(home_of(owner), self.workers) == self.worker
    }
}

#[cfg(test)]
mod tests;
