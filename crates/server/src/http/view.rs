//! What the HTTP interface shows of a node: plain rows that turn into JSON, and back again in
//! `sluice ctl`. Where the rows come from is behind the trait [`NodeView`].

use std::future::Future;

use serde::{Deserialize, Serialize};

/// What the HTTP interface asks of a node.
pub trait NodeView: Send + Sync + 'static {
    /// The node in a few figures.
    fn status(&self) -> impl Future<Output = Status> + Send;
    /// A page of clients, sorted by client id.
    fn clients(&self, query: ClientsQuery) -> impl Future<Output = ClientPage> + Send;
    /// All streams, by name.
    fn streams(&self) -> Vec<StreamRow>;
    /// A page of consumer groups, sorted by their id.
    fn groups(&self, query: GroupsQuery) -> GroupPage;
    /// A page of Kafka connections, oldest first.
    fn kafka_connections(&self, query: &ConnectionsQuery) -> ConnectionPage;
    /// All hooks, in the order of the configuration.
    fn hooks(&self) -> Vec<HookRow>;
    /// Who may log in.
    fn users(&self) -> &crate::auth::Users;
    /// The metrics in the exposition format.
    fn metrics(&self) -> impl Future<Output = String> + Send;
    /// `None`: the node serves. Otherwise what keeps it from that.
    fn trouble(&self) -> Option<String>;
}

/// The node in a few figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// Identity of the data directory towards Kafka clients.
    pub cluster_id: String,
    /// `serving`, `latched` (the log takes no appends until the next start) or `stopping`.
    pub health: String,
    /// Why the log is latched.
    pub why: Option<String>,
    /// Start, ms since the epoch.
    pub started_ms: u64,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Worker threads.
    pub workers: u64,
    /// MQTT connections now.
    pub connections: u64,
    /// Sessions, with a connection or without.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Messages owed to sessions.
    pub owed: u64,
    /// Last readable journal entry.
    pub appended_lsn: u64,
    /// Last journal entry that survives a power cut.
    pub flushed_lsn: u64,
    /// Size of the journal, bytes.
    pub journal_bytes: u64,
    /// Bytes of it that wait for a checkpoint.
    pub journal_used_bytes: u64,
    /// Free bytes on the file system of the data directory, where the system tells.
    pub disk_free_bytes: Option<u64>,
}

/// Which clients, and from where on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientsQuery {
    /// Only client ids that contain this text.
    pub contains: Option<String>,
    /// Only clients with (`true`) or without (`false`) a connection.
    pub connected: Option<bool>,
    /// Only client ids behind this one: `next` of the page before.
    pub after: Option<String>,
    /// Most rows; bounded by `page_rows_max` of `[http]`.
    pub limit: Option<u32>,
}

/// A page of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPage {
    /// Sorted by client id.
    pub clients: Vec<ClientRow>,
    /// `after` of the next page; `None`: this is the last.
    pub next: Option<String>,
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Client id.
    pub client_id: String,
    /// User name as the client gave it; empty: none.
    pub username: String,
    /// Whether it has a connection.
    pub connected: bool,
    /// Address and port of the other end of its connection.
    pub peer: Option<String>,
    /// Keep alive in force on its connection, seconds; 0: none.
    pub keep_alive_s: Option<u16>,
    /// `3.1`, `3.1.1` or `5`.
    pub protocol: String,
    /// Session expiry in seconds; `None`: never.
    pub session_expiry_s: Option<u32>,
    /// Subscriptions.
    pub subscriptions: u64,
    /// QoS 1 and 2 messages on their way to it.
    pub inflight: u64,
    /// Messages owed to it that are not on their way.
    pub owed: u64,
    /// When it connected last, ms since the epoch; 0: before the node was started.
    pub connected_ms: u64,
    /// When its connection ended, ms since the epoch; `None` while it has one.
    pub disconnected_ms: Option<u64>,
}

/// One stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Name: the topic that Kafka clients see.
    pub name: String,
    /// `memory`, `append`, `flush` or `kafka`.
    pub ack: String,
    /// `disk` or `memory`.
    pub storage: String,
    /// Whether only the latest record of a key is kept.
    pub compaction: bool,
    /// Whether it is the node's own.
    pub internal: bool,
    /// Age at which segments go, ms.
    pub retention_ms: Option<u64>,
    /// Bytes of a partition at which segments go.
    pub retention_bytes: Option<u64>,
    /// Records between log start and end, over all partitions.
    pub records: u64,
    /// Bytes over all partitions.
    pub size_bytes: u64,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionRow>,
}

/// One partition of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRow {
    /// First offset there is.
    pub log_start: u64,
    /// Offset of the next record.
    pub end: u64,
    /// Offset up to which all survives a power cut.
    pub flushed: u64,
    /// Bytes.
    pub size_bytes: u64,
}

/// One hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRow {
    /// Event.
    pub event: String,
    /// MQTT filter; none for `client.*`.
    pub filter: Option<String>,
    /// Stream that gets the records.
    pub stream: String,
    /// Key template.
    pub key: String,
    /// `base64` or `plain`.
    pub payload: String,
}

/// The streams, as the API wraps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// By name.
    pub streams: Vec<StreamRow>,
}

/// The hooks, as the API wraps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// In the order of the configuration.
    pub hooks: Vec<HookRow>,
}

/// Which Kafka connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionsQuery {
    /// Only connections behind this number: `next` of the page before.
    pub after: Option<u64>,
    /// Most connections; bounded by `page_rows_max` of `[http]`.
    pub limit: Option<u32>,
}

/// A page of Kafka connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionPage {
    /// Oldest first.
    pub connections: Vec<crate::kafka::ConnectionRow>,
    /// `after` of the next page; `None`: this was the last.
    pub next: Option<u64>,
}

/// Which consumer groups, and from where on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupsQuery {
    /// Only groups whose id contains this text.
    pub contains: Option<String>,
    /// Only groups behind this one: `next` of the page before.
    pub after: Option<String>,
    /// Most groups; bounded by `page_rows_max` of `[http]`.
    pub limit: Option<u32>,
}

/// A page of consumer groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPage {
    /// Sorted by id.
    pub groups: Vec<GroupRow>,
    /// `after` of the next page; `None`: this is the last.
    pub next: Option<String>,
}

/// One consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Its id.
    pub group: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Stable`.
    pub state: String,
    /// The kind of group, such as `consumer`; empty where it never had a member since the start.
    pub protocol_type: String,
    /// How its members share, such as `range`; empty where it has none.
    pub protocol: String,
    /// Rebalances it has ended since the start.
    pub generation: i32,
    /// Its members.
    pub members: Vec<GroupMemberRow>,
    /// What it has committed.
    pub offsets: Vec<GroupOffsetRow>,
}

/// One member of a consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberRow {
    /// Its id.
    pub member_id: String,
    /// The name of a static member.
    pub instance_id: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where the client is.
    pub host: String,
}

/// What a consumer group has committed for one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffsetRow {
    /// The stream.
    pub stream: String,
    /// The partition's number.
    pub partition: i32,
    /// Offset of the next record that the group reads.
    pub committed: i64,
    /// Offset of the next record of the partition; `None`: it is gone.
    pub end: Option<u64>,
    /// Records between them.
    pub lag: Option<u64>,
    /// When it was committed, ms since the epoch.
    pub committed_ms: u64,
    /// Words that the client stored with it.
    pub metadata: String,
}
