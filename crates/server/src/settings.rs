//! What the program uses: configuration that has been checked, typed and built once. Every other
//! module of the server reads these; none of them ever sees the text that the user wrote.

mod build;
mod listeners;
mod streams;
mod values;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use self::build::{Flags, build};
pub use self::streams::{DEFAULT_QOS0_STREAM, DEFAULT_STREAM};
pub use self::words::{INTERNAL_PREFIX, bad_filter, bad_stream_name, key_template};

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

/// Which member of a shared group gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedStrategy {
    /// One after the other.
    RoundRobin,
    /// The same member until it leaves or its inflight window is full.
    Sticky,
}

/// The Kafka front door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Address that Metadata tells clients to connect to; `None`: the address on which the request
    /// arrived.
    pub advertised: Option<HostPort>,
    /// Connections of all Kafka listeners together.
    pub connections_max: u32,
    /// Largest request, bytes.
    pub request_bytes_max: u32,
    /// Most bytes of records in one Fetch response; its first batch is sent whole in any case.
    pub fetch_bytes_max: u32,
    /// Longest wait of a Fetch that finds nothing, ms, whatever the client asks for.
    pub fetch_wait_ms_max: u64,
    /// Connections without a request for this long are closed, ms.
    pub idle_ms_max: u64,
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
    /// What an operator changes to move the listener, for messages: `--mqtt ADDR` or
    /// `[[listener]] number 1: bind (sluice.toml, line 12)`.
    pub option: String,
}

/// Protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenerKind {
    /// MQTT 3.1, 3.1.1 and 5 over TCP.
    Mqtt,
    /// The Kafka protocol over TCP.
    Kafka,
    /// HTTP/1.1: metrics, health, API.
    Http,
}

/// When an append counts as done. Ordered: a later level is stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ack {
    /// In this process's memory.
    Memory,
    /// In the operating system's page cache: survives the end of the process.
    Append,
    /// fdatasync done: survives a power cut.
    Flush,
}

/// Where a stream's records live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In segments under the data directory.
    Disk,
    /// In this process's memory; gone with it.
    Memory,
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
    /// Where the record's key comes from.
    pub key: KeyTemplate,
    /// How `payload` stands in the JSON value.
    pub payload: PayloadEncoding,
}

/// Events a hook can name, in the words of EMQ X.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookEvent {
    /// `client.connected`
    ClientConnected,
    /// `client.disconnected`
    ClientDisconnected,
    /// `session.subscribed`
    SessionSubscribed,
    /// `session.unsubscribed`
    SessionUnsubscribed,
    /// `message.publish`
    MessagePublish,
    /// `message.delivered`, also spelled `message.deliver`
    MessageDelivered,
    /// `message.acked`
    MessageAcked,
    /// `message.dropped`
    MessageDropped,
}

/// Where a hook record's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTemplate {
    /// `{clientid}`, the default: the client id of the record.
    ClientId,
    /// `{username}`; the client id where there is none.
    Username,
    /// `{topic}`: the whole topic.
    Topic,
    /// `{N}`: level N of the topic, counted from 1; the client id where the topic is shorter.
    Level(u16),
    /// `none`: no key, records go round the partitions.
    None,
}

/// How `payload` stands in a hook record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadEncoding {
    /// Base64 of the raw bytes.
    Base64,
    /// The payload as a JSON string where it is UTF-8.
    Plain,
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

/// Spells an enum the way the configuration file does, both ways.
macro_rules! words {
    ($type:ty { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// Every word the configuration file knows, in the order of declaration.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word the configuration file uses.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The meaning of a word of the configuration file.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words!(SharedStrategy { RoundRobin = "round_robin", Sticky = "sticky" });
words!(Level {
    Off = "off",
    Error = "error",
    Warn = "warn",
    Info = "info",
    Debug = "debug",
    Trace = "trace",
});
words!(LogFormat { Text = "text", Json = "json" });
words!(ListenerKind { Mqtt = "mqtt", Kafka = "kafka", Http = "http" });
words!(Ack { Memory = "memory", Append = "append", Flush = "flush" });
words!(Storage { Disk = "disk", Memory = "memory" });
words!(PayloadEncoding { Base64 = "base64", Plain = "plain" });
words!(HookEvent {
    ClientConnected = "client.connected",
    ClientDisconnected = "client.disconnected",
    SessionSubscribed = "session.subscribed",
    SessionUnsubscribed = "session.unsubscribed",
    MessagePublish = "message.publish",
    MessageDelivered = "message.delivered",
    MessageAcked = "message.acked",
    MessageDropped = "message.dropped",
});

impl HookEvent {
    /// Whether the event has a topic, and a hook on it therefore a filter.
    pub fn has_topic(self) -> bool {
        !matches!(self, Self::ClientConnected | Self::ClientDisconnected)
    }

    /// Whether the event's record has a payload.
    pub fn has_payload(self) -> bool {
        matches!(
            self,
            Self::MessagePublish
                | Self::MessageDelivered
                | Self::MessageAcked
                | Self::MessageDropped
        )
    }
}
