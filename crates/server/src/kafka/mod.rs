//! The Kafka front door: listeners, connections and one file for each API, on the ordinary tokio
//! runtime. It reads the log through [`Source`] and knows no MQTT; what the bytes of the protocol
//! mean is the crate `kafka`'s. Only here and in that crate is a stream called a topic.

mod access;
mod admin;
mod api_versions;
mod caller;
mod connection;
mod counters;
mod dispatch;
mod fetch;
mod groups;
mod leader_epoch;
mod limits;
mod list_offsets;
mod listener;
mod log_source;
mod metadata;
mod moderation;
mod outgoing;
mod parking;
mod produce;
mod quota;
mod roster;
mod sasl;
mod source;
mod stored;
mod topics;
mod transactions;
mod transport;

pub use admin::NodeFacts;
pub use caller::ListenerFacts;
pub use counters::{ANSWER_BOUNDS_US, ApiValues, KafkaCounters, KafkaValues};
pub use groups::{GroupValues, Groups, OFFSETS};
pub use roster::ConnectionRow;
pub use source::{Source, Stream, Watermarks};
pub use transactions::{TRANSACTIONS, TransactionValues, Transactions};

use std::sync::{Arc, Weak};
use std::time::Duration;

use ::kafka::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::{Revocations, Users};
use crate::node::Node;
use crate::settings::KafkaSettings;
use crate::tls::Handshakes;
use admin::Admin;
use log_source::LogSource;
use parking::Parking;
use quota::Quotas;
use roster::Roster;
use stored::StoredFile;

/// The front door of this node, for all its Kafka listeners. To be called inside the runtime.
///
/// # Errors
/// When a table of its own cannot be read.
pub fn front_door(node: &Node) -> anyhow::Result<Arc<FrontDoor>> {
    let source = LogSource::new(
        node.log.clone(),
        Arc::new(node.appender()),
        node.commit_watch(),
        node.cluster_id.clone(),
    );
    let facts = NodeFacts::new(&node.settings);
    let users = Arc::clone(&node.users);
    let door = FrontDoor::with_users(Arc::new(source), &node.settings.kafka, facts, users);
    door.groups.load(&node.log)?;
    door.transactions.load(&node.log)?;
    Ok(door)
}

/// Everything that the Kafka connections of a node share.
pub struct FrontDoor {
    source: Arc<dyn Source>,
    settings: KafkaSettings,
    counters: KafkaCounters,
    parking: Arc<Parking>,
    /// KiB of records that Fetch responses on their way may hold.
    fetch_memory: Arc<Semaphore>,
    /// KiB of requests that may be held until they are answered.
    request_memory: Arc<Semaphore>,
    /// The right of one request to be read although that memory is taken.
    request_elder: Arc<Semaphore>,
    /// The connections.
    roster: Arc<Roster>,
    /// Who may log in.
    users: Arc<Users>,
    quotas: Quotas,
    handshakes: Handshakes,
    groups: Arc<Groups>,
    transactions: Arc<Transactions>,
    admin: Admin,
}

impl FrontDoor {
    /// A front door where nobody can log in; see [`FrontDoor::with_users`].
    pub fn new(source: Arc<dyn Source>, settings: &KafkaSettings, facts: NodeFacts) -> Arc<Self> {
        Self::with_users(source, settings, facts, Arc::new(Users::none()))
    }

    /// Builds the front door. To be called inside the runtime: a task that wakes waiting fetches is
    /// started, and ends when the log does.
    pub fn with_users(
        source: Arc<dyn Source>,
        settings: &KafkaSettings,
        facts: NodeFacts,
        users: Arc<Users>,
    ) -> Arc<Self> {
        let parking = Arc::new(Parking::default());
        tokio::spawn(parking::wake_on_commit(
            source.clone(),
            Arc::downgrade(&parking),
        ));
        let roster: Arc<Roster> = Arc::default();
        tokio::spawn(end_revoked(users.revocations(), Arc::downgrade(&roster)));
        let groups = Groups::new(source.clone(), settings);
        let transactions = Transactions::new(source.clone(), groups.clone(), settings);
        Arc::new(Self {
            source,
            groups,
            transactions,
            admin: Admin::new(facts),
            users,
            quotas: Quotas::new(&settings.quotas),
            handshakes: Handshakes::default(),
            settings: settings.clone(),
            counters: KafkaCounters::default(),
            parking,
            fetch_memory: Arc::new(Semaphore::new(limits::FETCH_MEMORY_KIB_MAX as usize)),
            request_memory: Arc::new(Semaphore::new(limits::REQUEST_MEMORY_KIB_MAX as usize)),
            request_elder: Arc::new(Semaphore::new(1)),
            roster,
        })
    }

    /// The transactions of producers.
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// The groups and what they have committed.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What was counted.
    pub fn counters(&self) -> &KafkaCounters {
        &self.counters
    }

    /// A page of at most `limit` connections behind the number `after`, oldest first.
    pub fn connections(&self, after: u64, limit: usize) -> Vec<ConnectionRow> {
        self.roster.rows(after, limit)
    }

    /// Size of the largest request, once the peer is known to speak the protocol, in bytes.
    fn request_bytes_max(&self) -> u32 {
        self.settings
            .request_bytes_max
            .min(::kafka::limits::REQUEST_BYTES_MAX)
    }

    /// How long a connection may be idle.
    fn idle_max(&self) -> Duration {
        Duration::from_millis(self.settings.idle_ms_max)
    }
}

/// Ends the connections of users whose password has changed or who were deleted, as it happens.
async fn end_revoked(revocations: Revocations, roster: Weak<Roster>) {
    loop {
        let names = revocations.next().await;
        let Some(roster) = roster.upgrade() else {
            return;
        };
        roster.revoke(&names);
    }
}

/// A response, with the memory that it holds until it is written.
struct Answer {
    frame: Frame,
    /// What stands in the places that the frame leaves, in their order.
    files: Vec<StoredFile>,
    memory: Option<OwnedSemaphorePermit>,
}

impl From<Frame> for Answer {
    fn from(frame: Frame) -> Self {
        Self {
            frame,
            files: Vec::new(),
            memory: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
