//! What the mirror shows of itself: plain rows that turn into JSON and back. They know neither
//! Kafka nor the threads that fill them.

use serde::{Deserialize, Serialize};

/// The mirror as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorView {
    /// `off` (nothing is mirrored), `paused` (an operator has switched it off), or the worst of its
    /// shards: `connected`, `waiting` (for the cluster; goes on by itself), `fenced` (another
    /// process has this identity; until a restart) or `failed` (something an operator must mend;
    /// tried again now and then).
    pub state: String,
    /// Why it is not `connected`.
    pub why: Option<String>,
    /// Since when, ms since the epoch.
    pub since_ms: u64,
    /// The configured brokers.
    pub brokers: String,
    /// Name of the node towards the cluster.
    pub identity: String,
    /// Whether records and positions are written in transactions.
    pub exactly_once: bool,
    /// Transactions ended with success since the start; without `exactly_once`, rounds.
    pub transactions: u64,
    /// Transactions that were aborted and begun anew.
    pub aborted: u64,
    /// Clients whose calls did not come back and that were begun anew.
    #[serde(default)]
    pub given_up: u64,
    /// Those of them that still have not come back; each holds connections and some records.
    #[serde(default)]
    pub away: u64,
    /// Errors since the start, by kind.
    pub errors: Vec<MirrorErrorRow>,
    /// Its threads.
    pub shards: Vec<MirrorShardRow>,
    /// The mirrored streams, in the order of the configuration.
    pub streams: Vec<MirrorStreamRow>,
}

/// Errors of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorErrorRow {
    /// The kind: librdkafka's name of the error.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// One thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorShardRow {
    /// Its number.
    pub shard: u32,
    /// As [`MirrorView::state`], without `off`.
    pub state: String,
    /// Why it is not `connected`.
    pub why: Option<String>,
    /// Since when, ms since the epoch.
    pub since_ms: u64,
}

/// One stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorStreamRow {
    /// The stream.
    pub stream: String,
    /// The topic that gets its records.
    pub topic: String,
    /// `connected`, or `waiting` while its topic fails and others go on.
    pub state: String,
    /// Why it waits.
    pub why: Option<String>,
    /// Records that the cluster has, since the start.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Batches of the log that they came in.
    pub batches: u64,
    /// Records that went to the dead-letter stream.
    pub dead_letters: u64,
    /// Records that retention dropped before they were mirrored.
    pub lost: u64,
    /// Records that are flushed and not mirrored.
    pub lag_records: u64,
    /// How old the oldest of them is, ms; 0 without any.
    pub lag_ms: u64,
    /// Its partitions, by number.
    pub partitions: Vec<MirrorPartitionRow>,
}

/// One partition of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorPartitionRow {
    /// Its number.
    pub partition: u32,
    /// Offset up to which the cluster has all; `None`: not known yet.
    pub mirrored: Option<u64>,
    /// Offset up to which records can be mirrored: flushed and decided.
    pub flushed: u64,
    /// Records between them.
    pub lag_records: u64,
    /// How old the oldest of them is, ms; 0 without any.
    pub lag_ms: u64,
}
