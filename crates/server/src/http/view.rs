//! What the HTTP interface shows of a node: plain rows that turn into JSON, and back again in
//! `sluice ctl`. Where the rows come from is behind the trait [`NodeView`].

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::Page;
pub use super::rows::*;

/// An answer that is on its way.
pub type Telling<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the HTTP interface asks of a node.
pub trait NodeView: Send + Sync + 'static {
    /// The node in a few figures.
    fn status(&self) -> Telling<'_, Status>;
    /// The listeners, in the order of the configuration.
    fn listeners(&self) -> Vec<ListenerRow>;
    /// A page of clients.
    fn clients(&self, query: broker::ClientQuery) -> Telling<'_, crate::node::ClientPage>;
    /// All there is to know of one client.
    fn client(&self, client_id: String) -> Telling<'_, Option<ClientDetails>>;
    /// Ends the connection of a client; false where it has none.
    fn kick(&self, client_id: String) -> Telling<'_, bool>;
    /// A page of subscriptions, and whether there are more.
    fn subscriptions(
        &self,
        query: broker::SubscriptionQuery,
    ) -> Telling<'_, (Vec<SubscriptionRow>, bool)>;
    /// A page of retained messages whose topic matches `filter`, behind the topic `after`.
    fn retained(&self, filter: &str, after: Option<&str>, limit: usize) -> Page<RetainedRow>;
    /// One retained message.
    fn retained_message(&self, topic: String) -> Telling<'_, Option<RetainedMessage>>;
    /// All streams, by name.
    fn streams(&self) -> Vec<StreamRow>;
    /// Reads the records of streams; `None` where there is no log.
    fn log(&self) -> Option<&commitlog::LogReader>;
    /// A page of consumer groups, sorted by their id.
    fn groups(&self, contains: Option<&str>, after: Option<&str>, limit: usize) -> Page<GroupRow>;
    /// A page of Kafka connections, oldest first, behind the number `after`.
    fn kafka_connections(&self, after: u64, limit: usize) -> Page<crate::kafka::ConnectionRow>;
    /// All hooks, in the order of the configuration.
    fn hooks(&self) -> Telling<'_, Vec<HookRow>>;
    /// Who may log in.
    fn users(&self) -> &crate::auth::Users;
    /// Who may use this API from elsewhere.
    fn tokens(&self) -> &crate::auth::Tokens;
    /// What the samples are made from.
    fn totals(&self) -> Telling<'_, super::live::Totals>;
    /// What the downlinks do.
    fn downlinks(&self) -> Vec<crate::downlink::DownlinkRow>;
    /// What the mirror does.
    fn mirror(&self) -> crate::mirror::view::MirrorView;
    /// Switches the mirror off or on; false where there is none.
    fn switch_mirror(&self, on: bool) -> bool;
    /// The configuration in force, as TOML, without secrets.
    fn config(&self) -> String;
    /// Publishes messages, in their order; for each what became of it.
    fn publish(
        &self,
        messages: Vec<crate::node::Deposit>,
    ) -> Telling<'_, Vec<Result<crate::node::Deposited, crate::node::DepositError>>>;
    /// Switches a hook on or off.
    fn switch_hook(
        &self,
        name: String,
        on: bool,
    ) -> Telling<'_, Result<(), crate::node::HookChangeError>>;
    /// Reads the hooks of the configuration file anew.
    fn reload_hooks(&self) -> Telling<'_, Result<(), crate::node::HookChangeError>>;
    /// Begins to trace; `None` where there is nothing to trace.
    fn trace(&self, query: crate::node::TraceQuery) -> Option<crate::node::Tracing>;
    /// Who is kept out.
    fn bans(&self) -> Vec<crate::auth::Ban>;
    /// Keeps somebody out.
    fn ban(
        &self,
        ban: crate::auth::Ban,
    ) -> Telling<'_, Result<crate::auth::Ban, crate::auth::BanError>>;
    /// Lets somebody in again.
    fn unban(
        &self,
        kind: crate::auth::BanKind,
        value: String,
    ) -> Telling<'_, Result<(), crate::auth::BanError>>;
    /// Copies the data directory.
    fn backup(
        &self,
        dir: std::path::PathBuf,
    ) -> Telling<'_, Result<crate::node::Backup, crate::node::BackupError>>;
    /// Writes down a change.
    fn audit(&self, row: super::AuditRow) -> Telling<'_, ()>;
    /// The metrics in the exposition format; `http`: what the HTTP interface counts itself.
    fn metrics(&self, http: super::counters::HttpValues) -> Telling<'_, String>;
    /// `None`: the node serves. Otherwise what keeps it from that.
    fn trouble(&self) -> Option<String>;
}

/// The node in a few figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Journal entries that the log refused since the start: the disk was full, or the log latched.
    #[serde(default)]
    pub refused_entries: u64,
    /// What is wrong now, in words.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HookRow {
    /// Its name: event and stream, such as `message.publish:message_state`; a number stands behind
    /// that where several are alike.
    pub name: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// Records that it has made since the start.
    pub matched: u64,
    /// Those of them that the log refused, since the disk was full or a write had failed. Whoever
    /// published was told so; events are written again once there is room.
    #[serde(default)]
    pub errors: u64,
    /// Records made a second, over the last ten seconds; `null` in the first second of the node.
    pub matched_per_s: Option<f64>,
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

/// One consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
