//! The mirror: which streams go to which topics of an Apache Kafka cluster, how that cluster is
//! reached, and which properties of its client are the operator's to choose. It speaks to nobody.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::build::Builder;
use super::words::{Word, bad_stream_name};
use super::{HookSettings, Storage, StreamSettings};
use crate::config::{ClientValue, MirrorStreamTable, MirrorTable};

/// Most mirrored streams.
const STREAMS_MAX: usize = 10_000;
/// Longest identity: what is put behind it must still be a name that Kafka takes.
const IDENTITY_BYTES_MAX: usize = 200;
/// Longest name of a topic, as in Apache Kafka.
const TOPIC_BYTES_MAX: usize = 249;

const HOUR: u64 = 3_600_000;

/// The line that builds the program with the mirror, and the one that builds it with TLS too.
pub const BUILD_WITH_MIRROR: &str = "cargo build --release -p server --features kafka";
/// See [`BUILD_WITH_MIRROR`].
pub const BUILD_WITH_TLS: &str = "cargo build --release -p server --features kafka-tls";

/// What is mirrored, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorSettings {
    /// `host:port` of the first brokers, separated by commas.
    pub brokers: String,
    /// Name of the node towards the cluster; `None`: made from the data directory's cluster id.
    pub identity: Option<String>,
    /// Whether records and positions are written in transactions.
    pub exactly_once: bool,
    /// Threads, 1 to 16; 0: one for every four cores.
    pub shards: usize,
    /// Whether missing topics are created.
    pub create_topics: bool,
    /// Replicas of created topics; `None`: the cluster's default.
    pub replication_factor: Option<u32>,
    /// Where a stream starts that was never mirrored.
    pub start: MirrorStart,
    /// How long a publisher waits for the cluster, ms.
    pub ack_timeout_ms: u64,
    /// Stream for records that the cluster refuses as such.
    pub dead_letter: String,
    /// Topic whose group offsets hold the positions.
    pub positions_topic: String,
    /// TLS; `None`: in the clear.
    pub tls: Option<MirrorTls>,
    /// Login; `None`: none.
    pub sasl: Option<MirrorSasl>,
    /// The streams, by name.
    pub streams: Vec<MirroredStream>,
    /// Further properties of librdkafka.
    pub client: BTreeMap<String, String>,
}

/// Where a stream starts that was never mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorStart {
    /// With the oldest record there is.
    Beginning,
    /// With what is appended from then on.
    End,
}

/// How records are compressed on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorCompression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// Snappy
    Snappy,
    /// LZ4
    Lz4,
    /// Zstandard
    Zstd,
}

/// One stream and its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredStream {
    /// The stream.
    pub stream: String,
    /// The topic of the cluster.
    pub topic: String,
    /// Partitions of the topic if it is created; `None`: as many as the stream has.
    pub partitions: Option<u32>,
    /// How its records are compressed.
    pub compression: MirrorCompression,
}

/// TLS towards the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorTls {
    /// Authorities of the brokers' certificates, PEM; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Own certificate and its private key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Passphrase of the key.
    pub key_password: Option<Secret>,
}

/// Login at the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorSasl {
    /// PLAIN or one of SCRAM.
    pub mechanism: super::SaslMechanism,
    /// Name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Where a secret is; the secret itself never stands in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

impl Secret {
    /// Reads it. The error says what is missing, and nothing of the secret.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                let line = text.lines().next().unwrap_or_default();
                if line.is_empty() {
                    return Err(format!("{} is empty", path.display()));
                }
                Ok(line.to_owned())
            }
            Self::Environment(name) => std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("the environment variable {name} is not set")),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, place) = text.split_once(':')?;
        match kind {
            _ if place.is_empty() => None,
            "file" => Some(Self::File(place.into())),
            "env" => Some(Self::Environment(place.to_owned())),
            _ => None,
        }
    }
}

impl MirrorSettings {
    /// Whether this stream is mirrored.
    pub fn mirrors(&self, stream: &str) -> bool {
        self.streams
            .iter()
            .any(|mirrored| mirrored.stream == stream)
    }
}

/// Why a property of librdkafka is not the operator's to choose, if it is not.
pub fn refused_property(name: &str, value: &str) -> Option<&'static str> {
    // Longer than the longest round and its end; the default is a minute.
    const TRANSACTION_MS_MIN: u64 = 60_000;
    const GUARANTEE: &str =
        "the mirror sets it itself: what it promises rests on it, so that it cannot be changed";
    const OWN: &str = "the mirror sets it itself";
    Some(match name {
        "acks"
        | "request.required.acks"
        | "enable.idempotence"
        | "enable.gapless.guarantee"
        | "transactional.id"
        | "partitioner"
        | "partitioner_cb"
        | "max.in.flight"
        | "max.in.flight.requests.per.connection"
        | "retries"
        | "message.send.max.retries"
        | "delivery.timeout.ms"
        | "message.timeout.ms"
        | "queuing.strategy"
        | "isolation.level" => GUARANTEE,
        "bootstrap.servers" | "metadata.broker.list" => "write [mirror] brokers",
        "compression.codec" | "compression.type" => "write [mirror] compression",
        "security.protocol" => "write [mirror] tls and sasl_mechanism",
        "sasl.mechanism" | "sasl.mechanisms" => "write [mirror] sasl_mechanism",
        "sasl.username" => "write [mirror] sasl_username",
        "sasl.password" => "write [mirror] sasl_password",
        "ssl.ca.location" | "ssl.ca.pem" => "write [mirror] tls_ca",
        "ssl.certificate.location" | "ssl.certificate.pem" => "write [mirror] tls_certificate",
        "ssl.key.location" | "ssl.key.pem" => "write [mirror] tls_key",
        "ssl.key.password" => "write [mirror] tls_key_password",
        "group.id"
        | "group.instance.id"
        | "enable.auto.commit"
        | "enable.auto.offset.store"
        | "delivery.report.only.error"
        | "log.queue"
        | "plugin.library.paths"
        | "allow.auto.create.topics"
        | "enable.partition.eof"
        | "api.version.request"
        | "queue.buffering.max.messages"
        | "queue.buffering.max.kbytes" => OWN,
        "transaction.timeout.ms" if value.parse().is_ok_and(|ms: u64| ms < TRANSACTION_MS_MIN) => {
            "below 60000 the cluster would end transactions that go on"
        }
        // A cluster that is none, made by the library itself.
        name if name.starts_with("test.") => OWN,
        _ => return None,
    })
}

impl Builder {
    /// `None` without a table [mirror]. `hooks` and `streams` as they were built.
    pub(super) fn mirror(
        &mut self,
        hooks: &[HookSettings],
        streams: &[StreamSettings],
    ) -> Option<MirrorSettings> {
        let said = self.said.mirror.clone()?;
        if !cfg!(feature = "kafka") {
            self.fault(
                "mirror",
                &format!(
                    "this program was built without the mirror; build it with: {BUILD_WITH_MIRROR}"
                ),
            );
        }
        let brokers = self.brokers(said.brokers.as_deref());
        let identity = self.identity(said.identity.as_deref());
        let compression = self.compression("mirror.compression", said.compression.as_deref());
        let start = said.start.as_deref().unwrap_or("beginning");
        let dead_letter = said.dead_letter.clone();
        let dead_letter = dead_letter.unwrap_or_else(|| "mirror_dead_letter".to_owned());
        if let Some(what) = bad_stream_name(&dead_letter) {
            self.fault("mirror.dead_letter", &what);
        }
        let positions_topic = said.positions_topic.clone();
        let positions_topic =
            positions_topic.unwrap_or_else(|| "sluice-mirror-positions".to_owned());
        self.topic_name("mirror.positions_topic", &positions_topic);
        let mirrored = self.mirrored_streams(&said, compression, hooks, streams);
        for (index, stream) in mirrored.iter().enumerate() {
            if stream.stream == dead_letter || stream.topic == positions_topic {
                self.fault(
                    &format!("mirror.stream[{index}]"),
                    "the dead letters cannot be mirrored, nor the topic of the positions be a target",
                );
            }
        }
        let replicas = said.replication_factor;
        let replicas =
            replicas.map(|said| self.integer("mirror.replication_factor", Some(said), 1, 100));
        let shards = Some(said.shards.unwrap_or(0));
        let timeout = Some(
            said.ack_timeout
                .unwrap_or(crate::config::units::Span::Millis(30_000)),
        );
        Some(MirrorSettings {
            brokers,
            identity,
            exactly_once: said.exactly_once.unwrap_or(true),
            shards: self.integer("mirror.shards", shards, 0, 16) as usize,
            create_topics: said.create_topics.unwrap_or(true),
            replication_factor: replicas.map(|count| count as u32),
            start: self
                .word::<MirrorStart>("mirror.start", start)
                .unwrap_or(MirrorStart::Beginning),
            ack_timeout_ms: self.millis("mirror.ack_timeout", timeout, 100, HOUR),
            dead_letter,
            positions_topic,
            tls: self.mirror_tls(&said),
            sasl: self.mirror_sasl(&said),
            streams: mirrored,
            client: self.properties(said.client.as_ref()),
        })
    }

    fn brokers(&mut self, said: Option<&str>) -> String {
        let text = said.unwrap_or_default().replace(' ', "");
        if text.is_empty() {
            self.fault(
                "mirror",
                "[mirror] needs `brokers`, such as \"kafka1:9092,kafka2:9092\"",
            );
        }
        for broker in text.split(',').filter(|_| !text.is_empty()) {
            if super::listeners::host_port(broker).is_none() {
                self.fault(
                    "mirror.brokers",
                    &format!("\"{broker}\" is not host:port, such as kafka1:9092"),
                );
            }
        }
        text
    }

    fn identity(&mut self, said: Option<&str>) -> Option<String> {
        let text = said?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > IDENTITY_BYTES_MAX || !text.chars().all(allowed) {
            self.fault(
                "mirror.identity",
                &format!("\"{text}\" cannot be an identity: 1 to {IDENTITY_BYTES_MAX} of A-Z a-z 0-9 . _ - are allowed"),
            );
        }
        Some(text.to_owned())
    }

    fn topic_name(&mut self, path: &str, name: &str) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let length = 1..=TOPIC_BYTES_MAX;
        if !length.contains(&name.len())
            || !name.chars().all(allowed)
            || name == "."
            || name == ".."
        {
            self.fault(
                path,
                &format!("\"{name}\" cannot be the name of a topic: 1 to {TOPIC_BYTES_MAX} of A-Z a-z 0-9 . _ - are allowed"),
            );
        }
    }

    fn compression(&mut self, path: &str, said: Option<&str>) -> MirrorCompression {
        let word = said.unwrap_or("none");
        self.word(path, word).unwrap_or(MirrorCompression::None)
    }

    fn mirrored_streams(
        &mut self,
        said: &MirrorTable,
        compression: MirrorCompression,
        hooks: &[HookSettings],
        streams: &[StreamSettings],
    ) -> Vec<MirroredStream> {
        let Some(tables) = said.stream.clone().filter(|tables| !tables.is_empty()) else {
            let on_disk = |name: &str| {
                let found = streams.iter().find(|stream| stream.name == name);
                found.is_some_and(|stream| stream.storage == Storage::Disk)
            };
            let mut names: Vec<&str> = hooks.iter().map(|hook| hook.stream.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names.retain(|name| on_disk(name));
            if names.is_empty() {
                self.fault("mirror", "[mirror] mirrors nothing: no hook writes to a stream on disk, and there is no [[mirror.stream]]");
            }
            let mirrored = |name: &str| MirroredStream {
                stream: name.to_owned(),
                topic: name.to_owned(),
                partitions: None,
                compression,
            };
            return names.into_iter().map(mirrored).collect();
        };
        if tables.len() > STREAMS_MAX {
            self.fault(
                "mirror.stream",
                &format!("there are at most {STREAMS_MAX} of these"),
            );
        }
        let mut mirrored: Vec<MirroredStream> = Vec::new();
        for (index, table) in tables.iter().enumerate().take(STREAMS_MAX) {
            let path = format!("mirror.stream[{index}]");
            let Some(stream) = self.mirrored_stream(&path, table, compression, streams) else {
                continue;
            };
            if mirrored.iter().any(|other| other.stream == stream.stream) {
                self.fault(
                    &format!("{path}.stream"),
                    &format!("the stream {} is mirrored twice", stream.stream),
                );
                continue;
            }
            mirrored.push(stream);
        }
        mirrored
    }

    fn mirrored_stream(
        &mut self,
        path: &str,
        table: &MirrorStreamTable,
        compression: MirrorCompression,
        streams: &[StreamSettings],
    ) -> Option<MirroredStream> {
        let name = self.required(path, "stream", table.stream.as_ref())?;
        let at = format!("{path}.stream");
        if let Some(what) = bad_stream_name(&name) {
            self.fault(&at, &what);
            return None;
        }
        // A stream that is made over Kafka is not in the file, and on disk.
        let known = streams.iter().find(|stream| stream.name == name);
        if known.is_some_and(|stream| stream.storage == Storage::Memory) {
            self.fault(&at, &format!("{name} is in memory: its offsets begin again with every start, so that it cannot be mirrored; write storage = \"disk\""));
        }
        let topic = table.topic.clone().unwrap_or_else(|| name.clone());
        self.topic_name(&format!("{path}.topic"), &topic);
        let partitions = table
            .partitions
            .map(|said| self.integer(&format!("{path}.partitions"), Some(said), 1, 10_000) as u32);
        let compression = match table.compression.as_deref() {
            Some(word) => self.compression(&format!("{path}.compression"), Some(word)),
            None => compression,
        };
        Some(MirroredStream {
            stream: name,
            topic,
            partitions,
            compression,
        })
    }

    fn mirror_tls(&mut self, said: &MirrorTable) -> Option<MirrorTls> {
        let files = [
            ("tls_ca", &said.tls_ca),
            ("tls_certificate", &said.tls_certificate),
            ("tls_key", &said.tls_key),
            ("tls_key_password", &said.tls_key_password),
        ];
        if !said.tls.unwrap_or(false) {
            for (key, value) in files {
                if value.is_some() {
                    self.fault(
                        &format!("mirror.{key}"),
                        "has no meaning without tls = true",
                    );
                }
            }
            return None;
        }
        self.needs_tls_feature("mirror.tls", "TLS towards the cluster");
        for (key, value) in &files[..3] {
            if let Some(path) = value
                && let Err(error) = std::fs::metadata(path)
            {
                self.fault(
                    &format!("mirror.{key}"),
                    &format!("cannot read {path}: {error}"),
                );
            }
        }
        let certificate = match (&said.tls_certificate, &said.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => {
                self.fault(
                    "mirror.tls_certificate",
                    "tls_certificate and tls_key go together",
                );
                None
            }
        };
        let password = said.tls_key_password.as_deref();
        Some(MirrorTls {
            ca: said.tls_ca.as_ref().map(PathBuf::from),
            certificate,
            key_password: password.and_then(|text| self.secret("mirror.tls_key_password", text)),
        })
    }

    fn mirror_sasl(&mut self, said: &MirrorTable) -> Option<MirrorSasl> {
        let Some(word) = said.sasl_mechanism.as_deref() else {
            if said.sasl_username.is_some() || said.sasl_password.is_some() {
                self.fault(
                    "mirror.sasl_username",
                    "a name or password has no meaning without sasl_mechanism",
                );
            }
            return None;
        };
        let mechanism = self.word::<super::SaslMechanism>("mirror.sasl_mechanism", word)?;
        if mechanism != super::SaslMechanism::Plain {
            self.needs_tls_feature("mirror.sasl_mechanism", mechanism.word());
        }
        let (Some(username), Some(password)) = (&said.sasl_username, &said.sasl_password) else {
            self.fault(
                "mirror.sasl_mechanism",
                "a login needs sasl_username and sasl_password",
            );
            return None;
        };
        Some(MirrorSasl {
            mechanism,
            username: username.clone(),
            password: self.secret("mirror.sasl_password", password)?,
        })
    }

    fn needs_tls_feature(&mut self, path: &str, what: &str) {
        if !cfg!(feature = "kafka-tls") {
            self.fault(
                path,
                &format!("this program was built without {what}; build it with: {BUILD_WITH_TLS}"),
            );
        }
    }

    fn secret(&mut self, path: &str, text: &str) -> Option<Secret> {
        let secret = Secret::parse(text);
        if secret.is_none() {
            // Not repeated: it may be the secret itself.
            self.fault(
                path,
                "a secret does not stand in the configuration: write \"file:PATH\" or \"env:NAME\"",
            );
        }
        secret
    }

    fn properties(
        &mut self,
        said: Option<&BTreeMap<String, ClientValue>>,
    ) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let top = said.into_iter().flatten();
        for (name, value) in top {
            flatten(name, value, &mut all);
        }
        for (name, value) in &all {
            let first = name.split('.').next().unwrap_or(name);
            let path = [name.as_str(), first]
                .map(|key| format!("mirror.client.{key}"))
                .into_iter()
                .find(|path| self.lines.contains_key(path))
                .unwrap_or_else(|| "mirror.client".to_owned());
            if let Some(why) = refused_property(name, value) {
                self.property_fault(&path, &format!("the property {name} is refused: {why}"));
            } else if let Some(what) = crate::mirror::bad_property(name, value) {
                self.property_fault(&path, &what);
            }
        }
        all
    }

    /// A fault whose path has a property's dots in its last name.
    fn property_fault(&mut self, path: &str, what: &str) {
        let line = self.lines.get(path).copied();
        self.faults.push(crate::config::Fault {
            source: self.source.clone(),
            line,
            what: what.to_owned(),
        });
    }
}

/// `{ socket = { keepalive = { enable = true } } }` is what `socket.keepalive.enable = true` reads
/// as.
fn flatten(name: &str, value: &ClientValue, all: &mut BTreeMap<String, String>) {
    match value {
        ClientValue::Flag(flag) => {
            all.insert(name.to_owned(), flag.to_string());
        }
        ClientValue::Number(number) => {
            all.insert(name.to_owned(), number.to_string());
        }
        ClientValue::Text(text) => {
            all.insert(name.to_owned(), text.clone());
        }
        ClientValue::Inner(inner) => {
            for (rest, value) in inner {
                flatten(&format!("{name}.{rest}"), value, all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_break_a_guarantee_or_the_program_are_refused() {
        for (name, value) in [
            ("acks", "1"),
            ("transactional.id", "x"),
            ("test.mock.num.brokers", "3"),
            ("queue.buffering.max.kbytes", "1"),
            ("allow.auto.create.topics", "true"),
            ("enable.partition.eof", "true"),
            ("transaction.timeout.ms", "59999"),
        ] {
            assert!(refused_property(name, value).is_some(), "{name}");
        }
        for (name, value) in [
            ("linger.ms", "5"),
            ("socket.keepalive.enable", "true"),
            ("transaction.timeout.ms", "60000"),
            ("message.max.bytes", "1000000"),
        ] {
            assert_eq!(refused_property(name, value), None, "{name}");
        }
    }
}
