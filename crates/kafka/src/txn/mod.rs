//! Transactions of producers (KIP-98, KIP-360, KIP-447): who has which transactional id, what is in
//! its open transaction, and what has to be appended for a decision to hold. All of a decision goes
//! into one entry of the log, so there is no prepared state between an open transaction and an
//! ended one. Nothing here knows a socket, a clock or the log: time and outcomes are told.

mod ids;
mod machine;
mod open;
mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use ids::ProducerIds;
pub use machine::{Ending, Transactions};
pub use record::MalformedTransaction;

use crate::offsets::CommittedOffset;

/// Bounds of the transactions of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longest timeout that a producer may ask for, in milliseconds.
    pub timeout_ms_max: i32,
    /// A transactional id that is not used for so long is forgotten, in milliseconds.
    pub expiry_ms: u64,
    /// Transactional ids that are known at a time.
    pub transactions_max: usize,
    /// Partitions in one transaction.
    pub partitions_max: usize,
    /// Offsets of groups in one transaction.
    pub offsets_max: usize,
    /// What one transaction may hold in memory: partitions, groups and offsets, in bytes.
    pub transaction_bytes_max: usize,
    /// What all open transactions may hold in memory, in bytes.
    pub bytes_max: usize,
}

impl Default for Settings {
    /// Apache Kafka's `transaction.max.timeout.ms` and `transactional.id.expiration.ms`.
    fn default() -> Self {
        Self {
            timeout_ms_max: 15 * 60 * 1000,
            expiry_ms: 7 * 24 * 3600 * 1000,
            transactions_max: 100_000,
            partitions_max: 10_000,
            offsets_max: 10_000,
            transaction_bytes_max: 4 * 1024 * 1024,
            bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// A producer id and its epoch: who writes. A higher epoch fences those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The producer id.
    pub producer_id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// An offset of a group, by topic and partition.
pub type GroupOffset = ((Arc<str>, i32), CommittedOffset);

/// What has to be appended, as one entry, for a decision to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Write {
    /// The transactional id that it is about.
    pub id: Arc<str>,
    /// Key of the record in the table of transactions.
    pub key: Vec<u8>,
    /// Its value; `None` deletes it.
    pub value: Option<Vec<u8>>,
    /// Keys of other records that are deleted with it.
    pub needless: Vec<Vec<u8>>,
    /// It gives out a new epoch. Whoever appends tells [`Transactions::taken_over`] or
    /// [`Transactions::not_recorded`] how it went, where nothing ends with it.
    pub takes_over: bool,
    /// The end of a transaction. Whoever appends tells [`Transactions::ended`] how it went.
    pub end: Option<End>,
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Whether it commits.
    pub commit: bool,
    /// Who writes the markers.
    pub identity: Identity,
    /// The partitions that get a marker.
    pub partitions: Vec<u32>,
    /// The offsets that groups commit with it, by group; told also where it aborts.
    pub offsets: Vec<(Arc<str>, Vec<GroupOffset>)>,
}

/// State of a transactional id. The names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No transaction since the producer came.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// Its commit is being appended.
    PrepareCommit,
    /// Its abort is being appended.
    PrepareAbort,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

/// A transactional id as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The transactional id.
    pub id: Arc<str>,
    /// Who has it.
    pub identity: Identity,
    /// Its state.
    pub state: State,
    /// How long a transaction may be open, in milliseconds.
    pub timeout_ms: i32,
    /// When the open transaction began, ms since 1970.
    pub since_ms: Option<u64>,
    /// The partitions of the open transaction.
    pub partitions: Vec<u32>,
}
