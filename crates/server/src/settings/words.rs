//! Words and small grammars in values: enums as the file spells them, stream names, MQTT filters.

use broker::DeniedPublish;

use super::keys::{ActionWord, AuthenticatorWord, TokenPlace};
use super::listeners::Authentication;
use super::{
    Ack, CertificateField, CertificatePrincipal, ClientCertificate, Effect, HookEvent,
    KafkaOperation, Level, ListenerKind, LogFormat, MirrorCompression, MirrorStart,
    PayloadEncoding, ResourceKind, SaslMechanism, SharedStrategy, Storage,
};

/// Streams whose names begin so are the node's own.
pub const INTERNAL_PREFIX: &str = "__sluice.";

/// Longest stream name, as in Apache Kafka.
const STREAM_NAME_MAX: usize = 249;

/// An enum that the configuration file spells as words.
pub trait Word: Copy + Sized + 'static {
    /// Every value with its word, in the order of declaration.
    const ALL: &'static [(Self, &'static str)];

    /// The word the configuration file uses.
    fn word(self) -> &'static str;

    /// The value that a word means.
    fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(value, _)| *value)
    }
}

/// Gives each value of an enum its word; the compiler sees to it that none is left out.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl Word for $type {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $word)),+];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
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
words!(ListenerKind {
    Mqtt = "mqtt",
    Mqtts = "mqtts",
    Ws = "ws",
    Wss = "wss",
    Kafka = "kafka",
    Kafkas = "kafkas",
    Http = "http",
    Https = "https",
});
words!(SaslMechanism {
    Plain = "PLAIN",
    ScramSha256 = "SCRAM-SHA-256",
    ScramSha512 = "SCRAM-SHA-512",
});
words!(AuthenticatorWord { Users = "users", Jwt = "jwt", Http = "http", Certificate = "certificate" });
words!(ActionWord { Publish = "publish", Subscribe = "subscribe", All = "all" });
words!(TokenPlace { Password = "password", UserName = "user_name" });
words!(CertificateField {
    Subject = "subject",
    CommonName = "common_name",
    SanDns = "san_dns",
    SanEmail = "san_email",
    SanUri = "san_uri",
});
words!(DeniedPublish { Drop = "drop", Disconnect = "disconnect" });
words!(Authentication { None = "none", Sasl = "sasl" });
words!(ClientCertificate { None = "none", Optional = "optional", Required = "required" });
words!(CertificatePrincipal { Subject = "subject", CommonName = "common_name" });
words!(Effect { Allow = "allow", Deny = "deny" });
words!(ResourceKind {
    Topic = "topic",
    Group = "group",
    TransactionalId = "transactional_id",
    Cluster = "cluster",
    Any = "any",
});
words!(KafkaOperation {
    All = "all",
    Read = "read",
    Write = "write",
    Create = "create",
    Delete = "delete",
    Alter = "alter",
    Describe = "describe",
    ClusterAction = "cluster_action",
    DescribeConfigs = "describe_configs",
    AlterConfigs = "alter_configs",
    IdempotentWrite = "idempotent_write",
});
words!(MirrorStart { Beginning = "beginning", End = "end" });
words!(MirrorCompression {
    None = "none",
    Gzip = "gzip",
    Snappy = "snappy",
    Lz4 = "lz4",
    Zstd = "zstd",
});
words!(Ack { Memory = "memory", Append = "append", Flush = "flush", Kafka = "kafka" });
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

/// What is wrong with a stream's name, if anything is.
pub fn bad_stream_name(name: &str) -> Option<String> {
    if name.starts_with(INTERNAL_PREFIX) {
        return Some(format!(
            "the stream {name} is the node's own; choose a name without {INTERNAL_PREFIX}"
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let bad = name.is_empty()
        || name.len() > STREAM_NAME_MAX
        || name == "."
        || name == ".."
        || !name.chars().all(allowed);
    bad.then(|| format!("\"{name}\" cannot be the name of a stream: 1 to {STREAM_NAME_MAX} of A-Z a-z 0-9 . _ - are allowed"))
}

/// What is wrong with a hook's MQTT filter, if anything is.
pub fn bad_filter(filter: &str) -> Option<String> {
    if filter.starts_with("$share/") {
        return Some("a hook's filter cannot be a shared subscription".to_owned());
    }
    if let Err(error) = mqtt::topic::validate_filter(filter) {
        return Some(format!("\"{filter}\" is not a filter: {error}"));
    }
    let most = broker::limits::FILTER_LEVELS_MAX;
    (filter.split('/').count() > most).then(|| format!("a filter has at most {most} levels"))
}
