//! What the program uses: configuration that has been checked, typed and built once. Every other
//! module of the server reads these; none of them ever sees the text that the user wrote.

mod access;
mod build;
mod downlinks;
mod effective;
mod keys;
mod listeners;
mod meant;
mod mirror;
mod network;
mod reload;
mod streams;
mod values;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use self::access::{
    AccessSettings, Effect, KafkaOperation, Pattern, PermissionSettings, QuotaSettings,
    ResourceKind,
};
pub use self::build::{Flags, build};
pub use self::downlinks::{DownlinkSettings, DownlinkSource, leading_to};
pub use self::keys::{
    AuthenticatorKind, AuthenticatorSettings, AuthorizationSettings, CalloutSettings,
    CertificateField, CertificateSettings, FlappingSettings, JwtKeys, JwtSettings, KeySettings,
    SecretSource,
};
pub use self::mirror::{
    BUILD_WITH_MIRROR, BUILD_WITH_TLS, MirrorCompression, MirrorSasl, MirrorSettings, MirrorStart,
    MirrorTls, MirroredStream, Secret, refused_property,
};
pub use self::network::Network;
pub use self::reload::{mirrored_later, needs_restart};
pub use self::streams::{
    DEFAULT_KEY, DEFAULT_QOS0_STREAM, DEFAULT_STREAM, has_payload, needs_topic,
};
pub use self::words::{INTERNAL_PREFIX, Word, bad_filter, bad_stream_name};
pub use broker::{Event as HookEvent, PayloadEncoding, SharedStrategy};
pub use commitlog::{Ack, Storage};

pub use crate::tls::{CertificatePrincipal, ClientCertificate, TlsSettings};

/// All settings of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Identity, place on disk, threads.
    pub node: NodeSettings,
    /// The durable log.
    pub log: LogSettings,
    /// What the MQTT broker grants and bounds.
    pub mqtt: MqttSettings,
    /// The Kafka front door.
    pub kafka: KafkaSettings,
    /// The mirror; `None`: nothing is mirrored.
    pub mirror: Option<MirrorSettings>,
    /// Who comes in by MQTT and what each may do.
    pub keys: KeySettings,
    /// The HTTP interface.
    pub http: HttpSettings,
    /// The program's own log lines.
    pub logging: LoggingSettings,
    /// Addresses to listen on, in the order written.
    pub listeners: Vec<ListenerSettings>,
    /// Every stream that must exist once the node is up, tables of the node itself excepted: the
    /// configured ones, each hook's target, `mqtt.default` and `mqtt.default.qos0`.
    pub streams: Vec<StreamSettings>,
    /// The hooks, in the order written.
    pub hooks: Vec<HookSettings>,
    /// All of it as a file would say it, defaults included and secrets masked; for operators.
    pub effective: String,
    /// The downlinks, in the order written.
    pub downlinks: Vec<DownlinkSettings>,
}

/// Identity, place on disk, threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Written as `node` into every hook record; `sluice@127.0.0.1` by default.
    pub name: String,
    /// The data directory; made if absent.
    pub data_dir: PathBuf,
    /// MQTT worker threads, at most 64; 0: as many as the machine has cores.
    pub workers: usize,
}

/// The durable log: journal, flush, checkpoint, segments, and what an operator allows recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Size of the journal, at least 16 MiB; bounds replay.
    pub journal_bytes: u64,
    /// Most flushes a second; 1 to 10,000.
    pub commits_per_s_max: u32,
    /// Unflushed bytes at which a flush starts whatever the rate.
    pub flush_bytes: u64,
    /// Longest time that anything stays unflushed whatever its ack level, ms.
    pub flush_ms_max: u64,
    /// Free space on the file system below which appends are refused.
    pub disk_reserve_bytes: u64,
    /// Silence after which a partition forgets a Kafka producer, in milliseconds.
    pub producer_expiry_ms: u64,
    /// Longest time between two checkpoints, seconds.
    pub checkpoint_s: u64,
    /// Share of the journal, percent, at which a checkpoint starts whatever the time.
    pub checkpoint_fill_percent: u8,
    /// Size at which a segment is closed and the next begun.
    pub segment_bytes: u64,
    /// Bytes of committed messages kept in memory for readers at the tail.
    pub tail_bytes_max: u64,
    /// Time between two looks at retention and compaction, seconds.
    pub retention_check_s: u64,
    /// `--accept-loss`: go on where recovery found corruption below a flushed position.
    pub accept_loss: bool,
    /// `--skip-entry N`: journal entries (by LSN) that replay leaves out.
    pub skip_entry: Vec<u64>,
}

/// What the MQTT broker grants and bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttSettings {
    /// Largest packet taken or sent, bytes of the whole packet.
    pub packet_size_max: u32,
    /// Connections of all MQTT listeners together.
    pub connections_max: u32,
    /// Time from accept to a complete CONNECT, ms.
    pub connect_timeout_ms: u64,
    /// Longest keep alive granted, seconds; a client that asks for more, or for none, is told this
    /// one (MQTT 5). `None`: what the client asks for.
    pub keep_alive_s_max: Option<u16>,
    /// Longest session expiry granted, seconds; also the expiry of a persistent session of an MQTT
    /// 3 client. `None`: sessions may live for ever.
    pub session_expiry_s_max: Option<u32>,
    /// Receive maximum that the node announces: unacknowledged QoS 1/2 publishes of one client.
    pub receive_maximum: u16,
    /// Unacknowledged QoS 1/2 deliveries to one client, whatever receive maximum it announced.
    pub inflight_max: u16,
    /// The same for clients of MQTT 3; not above `inflight_max`.
    pub inflight_v3: u16,
    /// Topic aliases that a client may set, and that the node uses where the client allows them.
    pub topic_alias_max: u16,
    /// Messages owed to one session.
    pub inbox_max: u32,
    /// Bytes of inboxes of all sessions together.
    pub inbox_bytes_max: u64,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Retained messages of the node.
    pub retained_max: u32,
    /// Bytes that wait in one connection's send buffer before its deliveries go to the inbox.
    pub send_buffer_bytes_max: u32,
    /// Which member of a shared group gets a message.
    pub shared_strategy: SharedStrategy,
    /// Time between two publications of `$SYS/broker/...`, seconds; 0: none.
    pub sys_interval_s: u32,
}

/// The Kafka front door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Address that Metadata tells clients to connect to; `None`: the address on which the request
    /// arrived.
    pub advertised: Option<HostPort>,
    /// Connections of all Kafka listeners together.
    pub connections_max: u32,
    /// Connections from one client address.
    pub connections_max_per_address: u32,
    /// Requests of one connection that are begun and not yet answered.
    pub requests_outstanding_max: u32,
    /// Largest request, bytes.
    pub request_bytes_max: u32,
    /// Most bytes of records in one Fetch response; its first batch is sent whole in any case.
    pub fetch_bytes_max: u32,
    /// Longest wait of a Fetch that finds nothing, ms, whatever the client asks for.
    pub fetch_wait_ms_max: u64,
    /// Connections without a request for this long are closed, ms.
    pub idle_ms_max: u64,
    /// Shortest session timeout that a member of a group may ask for, ms.
    pub group_session_timeout_ms_min: u32,
    /// Longest session timeout that a member of a group may ask for, ms.
    pub group_session_timeout_ms_max: u32,
    /// How long the first rebalance of an empty group waits for more members, ms.
    pub group_rebalance_delay_ms: u32,
    /// Members of one group.
    pub group_members_max: u32,
    /// Groups of the node.
    pub groups_max: u32,
    /// How long the committed offsets of a group without members are kept, ms.
    pub offsets_retention_ms: u64,
    /// Longest timeout that a producer may ask for its transactions, ms.
    pub transaction_timeout_ms_max: u64,
    /// How long a transactional id is known that nobody uses, ms.
    pub transactional_id_expiry_ms: u64,
    /// How long a SASL authentication holds, ms; `None`: as long as its connection.
    pub session_lifetime_ms: Option<u64>,
    /// Who may do what.
    pub access: AccessSettings,
    /// How fast clients may be, in the order written: the first that concerns a request counts.
    pub quotas: Vec<QuotaSettings>,
    /// Whether Metadata creates the topics that it is asked for.
    pub auto_create: bool,
    /// Partitions of a topic created over Kafka that names no number of them.
    pub topic_partitions: u32,
    /// Ack level of a topic created over Kafka.
    pub topic_ack: Ack,
    /// Streams of the node beyond which none is created over Kafka.
    pub topics_max: u32,
    /// Partitions of the node beyond which none is created over Kafka.
    pub partitions_max: u32,
}

/// A host name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// TCP port, not 0.
    pub port: u16,
}

/// The HTTP interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Most rows of one page of `/api/v1/clients`.
    pub page_rows_max: u32,
}

/// The program's own log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingSettings {
    /// Least level that is written.
    pub level: Level,
    /// One line of text, or one JSON object, an event.
    pub format: LogFormat,
    /// Levels of single modules: module path (`server::kafka`, `commitlog`) -> level.
    pub modules: BTreeMap<String, Level>,
}

/// Level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is written.
    Off,
    /// Something was lost or stopped.
    Error,
    /// Something needs an operator's eye.
    Warn,
    /// Starts, stops and changes.
    Info,
    /// For finding a fault.
    Debug,
    /// Everything.
    Trace,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The protocol spoken there.
    pub kind: ListenerKind,
    /// Address and port; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// The operator has written that anyone who reaches the address may come in.
    pub anonymous: bool,
    /// The address that Kafka clients of this listener are told; `None`: that of [`KafkaSettings`].
    pub advertised: Option<HostPort>,
    /// Names of the authenticators that MQTT clients are asked by; none: nobody is asked.
    pub authenticators: Vec<String>,
    /// The SASL mechanisms, one of which a client must log in by; none: nobody logs in.
    pub sasl: Vec<SaslMechanism>,
    /// TLS; `None`: bytes travel in the clear.
    pub tls: Option<TlsSettings>,
    /// What it is called in metrics and answers; `None`: its kind and address.
    pub name: Option<String>,
    /// Where WebSocket is served, such as `/mqtt`.
    pub path: String,
    /// Origins of web pages that may connect, beside those of the host asked for.
    pub origins: Vec<String>,
    /// Addresses whose connections begin with a PROXY header; empty: all. `None`: none does.
    pub proxy: Option<Vec<Network>>,
    /// Open connections at most.
    pub connections_max: Option<u32>,
    /// Connections taken a second; further ones wait in the backlog.
    pub connections_per_s: Option<u32>,
    /// Bytes read from one client a second.
    pub bytes_in_per_s: Option<u32>,
    /// PUBLISH packets read from one client a second.
    pub messages_in_per_s: Option<u32>,
    /// Time from accept to a complete CONNECT, ms; `None`: that of [`MqttSettings`].
    pub connect_timeout_ms: Option<u64>,
    /// What an operator changes to move the listener, for messages: `--mqtt ADDR` or
    /// `[[listener]] number 1: bind (sluice.toml, line 12)`.
    pub option: String,
}

/// Protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenerKind {
    /// MQTT 3.1, 3.1.1 and 5 over TCP.
    Mqtt,
    /// The same over TLS.
    Mqtts,
    /// MQTT in WebSocket frames over TCP.
    Ws,
    /// The same over TLS.
    Wss,
    /// The Kafka protocol over TCP.
    Kafka,
    /// The Kafka protocol over TLS.
    Kafkas,
    /// HTTP/1.1: metrics, health, API.
    Http,
    /// The same over TLS.
    Https,
}

/// How a client logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password travels (RFC 4616).
    Plain,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// Its name: 1 to 249 of `A-Z a-z 0-9 . _ -`, as Apache Kafka wants it.
    pub name: String,
    /// Partitions, 1 to 1,024.
    pub partitions: u32,
    /// When an append counts as done; `Memory` exactly where `storage` is `Memory`.
    pub ack: Ack,
    /// Segments whose newest record is older are dropped, ms; `None`: age drops nothing.
    pub retention_ms: Option<u64>,
    /// Bytes of one partition beyond which the oldest segments go, unless an inbox or the like
    /// still needs them; `None`: size drops nothing.
    pub retention_bytes: Option<u64>,
    /// Bytes of one partition beyond which the oldest segments go whoever needs them.
    pub size_bytes_max: Option<u64>,
    /// Keep the latest record of each key instead of dropping by age or size.
    pub compaction: bool,
    /// Where its records live.
    pub storage: Storage,
    /// Size at which a segment is closed and the next begun, bytes.
    pub segment_bytes: u64,
    /// Nobody wrote it: it is there because a hook writes to it, or because every node has it. Its
    /// settings are those that it is created with; they may be altered over Kafka and stay so.
    pub implied: bool,
}

/// One rule "on this event, append a record to that stream".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// The event.
    pub event: HookEvent,
    /// MQTT filter on the event's topic; `None` for `client.*`, and for the others `#` and `$`
    /// topics alike are meant by the filter written.
    pub filter: Option<String>,
    /// Stream that gets the record.
    pub stream: String,
    /// Template of the record's key, as `broker::KeyTemplate::parse` takes it.
    pub key: String,
    /// How `payload` stands in the JSON value.
    pub payload: PayloadEncoding,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
