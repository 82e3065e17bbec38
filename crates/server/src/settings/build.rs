//! From what was said to what is meant: lays the layers over each other (default, file, flags),
//! checks every value and builds [`Settings`] once. All faults are told, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{
    Ack, HookEvent, HookSettings, HostPort, HttpSettings, KafkaSettings, KeyTemplate, Level,
    ListenerKind, ListenerSettings, LogFormat, LogSettings, LoggingSettings, MqttSettings,
    NodeSettings, PayloadEncoding, Settings, SharedStrategy, Storage, StreamSettings,
};
use crate::config::units::{Size, Span, show_bytes, show_millis};
use crate::config::{self, Fault, HookTable, ListenerTable, RetentionTable, Said, StreamTable};

/// Stream of what no hook takes.
pub const DEFAULT_STREAM: &str = "mqtt.default";
/// Stream of what no hook takes and was published with QoS 0.
pub const DEFAULT_QOS0_STREAM: &str = "mqtt.default.qos0";
/// Streams whose names begin so are the node's own.
pub const INTERNAL_PREFIX: &str = "__sluice.";

/// Partitions of a stream that says nothing about them.
const PARTITIONS: u32 = 4;
/// Most partitions of one stream.
const PARTITIONS_MAX: i64 = 1_024;
/// Longest stream name, as in Apache Kafka.
const STREAM_NAME_MAX: usize = 249;
/// Retention of a stream on disk that says nothing about it: 7 days.
const RETENTION_MS: u64 = 7 * 86_400_000;
/// Retention of a stream in memory that says nothing about it: 1 hour and 64 MB a partition.
const MEMORY_RETENTION_MS: u64 = 3_600_000;
const MEMORY_RETENTION_BYTES: u64 = 64 << 20;

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// What flags of the command line say; each lies over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--name`
    pub name: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--workers`
    pub workers: Option<usize>,
    /// `--mqtt`, `--kafka`, `--http`: an address in place of all listeners of the kind, or `off`.
    pub listeners: Vec<(ListenerKind, String)>,
    /// `--anonymous`: the listeners given by flags take anyone.
    pub anonymous: bool,
    /// `--log-level`
    pub log_level: Option<Level>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
    /// `--accept-loss`
    pub accept_loss: bool,
    /// `--skip-entry`
    pub skip_entry: Vec<u64>,
}

/// Builds the settings of default, file and flags.
///
/// # Errors
/// Every fault found, those of reading the file excepted (the caller has them).
pub fn build(file: Option<Said>, flags: &Flags) -> Result<Settings, Vec<Fault>> {
    let mut builder = Builder::new(file);
    let settings = builder.settings(flags);
    if builder.faults.is_empty() {
        Ok(settings)
    } else {
        Err(builder.faults)
    }
}

struct Builder {
    /// Default with the file over it.
    said: config::File,
    /// Name of the user's file and the lines of its keys.
    source: String,
    lines: BTreeMap<String, usize>,
    /// Streams that only the default names; they stay while a hook writes to them.
    default_streams: BTreeSet<String>,
    faults: Vec<Fault>,
}

impl Builder {
    fn new(file: Option<Said>) -> Self {
        let below = config::default_said();
        let above = file.unwrap_or_else(|| Said {
            source: below.source.clone(),
            ..Said::default()
        });
        let named = |streams: &Option<Vec<StreamTable>>| -> BTreeSet<String> {
            streams
                .iter()
                .flatten()
                .filter_map(|stream| stream.name.clone())
                .collect()
        };
        let own = named(&above.file.stream);
        let default_streams: BTreeSet<String> = named(&below.file.stream)
            .difference(&own)
            .cloned()
            .collect();
        // The file's streams come first, so that positions in `lines` stay theirs.
        let mut streams = above.file.stream.unwrap_or_default();
        streams.extend(below.file.stream.into_iter().flatten().filter(|stream| {
            stream
                .name
                .as_ref()
                .is_some_and(|name| default_streams.contains(name))
        }));
        let said = config::File {
            node: above.file.node.over(below.file.node),
            log: above.file.log.over(below.file.log),
            mqtt: above.file.mqtt.over(below.file.mqtt),
            kafka: above.file.kafka.over(below.file.kafka),
            http: above.file.http.over(below.file.http),
            logging: above.file.logging.over(below.file.logging),
            listener: above.file.listener.or(below.file.listener),
            stream: Some(streams),
            hook: above.file.hook.or(below.file.hook),
        };
        Self {
            said,
            source: above.source,
            lines: above.lines,
            default_streams,
            faults: Vec::new(),
        }
    }

    fn settings(&mut self, flags: &Flags) -> Settings {
        let hooks = self.hooks();
        Settings {
            node: self.node(flags),
            log: self.log(flags),
            mqtt: self.mqtt(),
            kafka: self.kafka(),
            http: HttpSettings {
                page_rows_max: self.integer(
                    "http.page_rows_max",
                    self.said.http.page_rows_max,
                    1,
                    1_000,
                ) as u32,
            },
            logging: self.logging(flags),
            listeners: self.listeners(flags),
            streams: self.streams(&hooks),
            hooks,
        }
    }

    fn node(&mut self, flags: &Flags) -> NodeSettings {
        let said = self.said.node.clone();
        let name = flags.name.clone().or(said.name).unwrap_or_default();
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            self.fault(
                "node.name",
                "the name of the node must have 1 to 255 characters",
            );
        }
        let data_dir = flags
            .data_dir
            .clone()
            .unwrap_or_else(|| said.data_dir.unwrap_or_default().into());
        if data_dir.as_os_str().is_empty() {
            self.fault("node.data_dir", "data_dir names no directory");
        }
        let workers = flags
            .workers
            .map_or(said.workers, |workers| Some(workers as i64));
        NodeSettings {
            name,
            data_dir,
            workers: self.integer("node.workers", workers, 0, 64) as usize,
        }
    }

    fn log(&mut self, flags: &Flags) -> LogSettings {
        let said = self.said.log.clone();
        LogSettings {
            journal_bytes: self.size("log.journal_bytes", said.journal_bytes, 16 * MB, 512 * MB),
            commits_per_s_max: self.integer(
                "log.commits_per_s_max",
                said.commits_per_s_max,
                1,
                10_000,
            ) as u32,
            flush_bytes: self.size("log.flush_bytes", said.flush_bytes, 4 * KB, GB),
            flush_ms_max: self.millis("log.flush_ms_max", said.flush_ms_max, 1, MINUTE),
            disk_reserve_bytes: self.size(
                "log.disk_reserve_bytes",
                said.disk_reserve_bytes,
                0,
                u64::MAX,
            ),
            checkpoint_s: self.seconds("log.checkpoint_s", said.checkpoint_s, 1, 3_600),
            checkpoint_fill_percent: self.integer(
                "log.checkpoint_fill_percent",
                said.checkpoint_fill_percent,
                5,
                80,
            ) as u8,
            segment_bytes: self.size("log.segment_bytes", said.segment_bytes, MB, GB),
            tail_bytes_max: self.size("log.tail_bytes_max", said.tail_bytes_max, MB, 4 * GB),
            retention_check_s: self.seconds(
                "log.retention_check_s",
                said.retention_check_s,
                1,
                86_400,
            ),
            accept_loss: flags.accept_loss,
            skip_entry: flags.skip_entry.clone(),
        }
    }

    fn mqtt(&mut self) -> MqttSettings {
        let said = self.said.mqtt.clone();
        let strategy = said.shared_strategy.unwrap_or_default();
        MqttSettings {
            packet_size_max: self.size("mqtt.packet_size_max", said.packet_size_max, KB, 256 * MB)
                as u32,
            connections_max: self.integer(
                "mqtt.connections_max",
                said.connections_max,
                1,
                10_000_000,
            ) as u32,
            connect_timeout_ms: self.millis(
                "mqtt.connect_timeout_ms",
                said.connect_timeout_ms,
                100,
                5 * MINUTE,
            ),
            keep_alive_s_max: self
                .seconds_or_none("mqtt.keep_alive_s_max", said.keep_alive_s_max, 1, 65_535)
                .map(|s| s as u16),
            session_expiry_s_max: self
                .seconds_or_none(
                    "mqtt.session_expiry_s_max",
                    said.session_expiry_s_max,
                    0,
                    u64::from(u32::MAX) - 1,
                )
                .map(|s| s as u32),
            receive_maximum: self.integer("mqtt.receive_maximum", said.receive_maximum, 1, 65_535)
                as u16,
            inflight_max: self.integer("mqtt.inflight_max", said.inflight_max, 1, 65_535) as u16,
            topic_alias_max: self.integer("mqtt.topic_alias_max", said.topic_alias_max, 0, 65_535)
                as u16,
            inbox_max: self.integer("mqtt.inbox_max", said.inbox_max, 1, 100_000_000) as u32,
            inbox_bytes_max: self.size("mqtt.inbox_bytes_max", said.inbox_bytes_max, MB, u64::MAX),
            subscriptions_max: self.integer(
                "mqtt.subscriptions_max",
                said.subscriptions_max,
                1,
                10_000_000,
            ) as u32,
            retained_max: self.integer("mqtt.retained_max", said.retained_max, 0, 1_000_000_000)
                as u32,
            send_buffer_bytes_max: self.size(
                "mqtt.send_buffer_bytes_max",
                said.send_buffer_bytes_max,
                16 * KB,
                256 * MB,
            ) as u32,
            shared_strategy: self
                .word(
                    "mqtt.shared_strategy",
                    &strategy,
                    SharedStrategy::WORDS,
                    SharedStrategy::from_word,
                )
                .unwrap_or(SharedStrategy::RoundRobin),
            sys_interval_s: self
                .seconds_or_none("mqtt.sys_interval_s", said.sys_interval_s, 0, 86_400)
                .unwrap_or(0) as u32,
        }
    }

    fn kafka(&mut self) -> KafkaSettings {
        let said = self.said.kafka.clone();
        let advertised = said.advertised.and_then(|text| {
            let parsed = host_port(&text);
            if parsed.is_none() {
                self.fault(
                    "kafka.advertised",
                    &format!("\"{text}\" is not host:port, such as \"10.0.0.5:9092\""),
                );
            }
            parsed
        });
        KafkaSettings {
            advertised,
            connections_max: self.integer("kafka.connections_max", said.connections_max, 1, 100_000)
                as u32,
            request_bytes_max: self.size(
                "kafka.request_bytes_max",
                said.request_bytes_max,
                64 * KB,
                GB,
            ) as u32,
            fetch_bytes_max: self.size("kafka.fetch_bytes_max", said.fetch_bytes_max, 64 * KB, GB)
                as u32,
            fetch_wait_ms_max: self.millis(
                "kafka.fetch_wait_ms_max",
                said.fetch_wait_ms_max,
                0,
                5 * MINUTE,
            ),
            idle_ms_max: self.millis("kafka.idle_ms_max", said.idle_ms_max, SECOND, 24 * HOUR),
        }
    }

    fn logging(&mut self, flags: &Flags) -> LoggingSettings {
        let said = self.said.logging.clone();
        let level = said.level.unwrap_or_default();
        let format = said.format.unwrap_or_default();
        let mut modules = BTreeMap::new();
        for (module, word) in said.modules.unwrap_or_default() {
            let path = format!("logging.modules.{module}");
            if let Some(level) = self.word(&path, &word, Level::WORDS, Level::from_word) {
                modules.insert(module, level);
            }
        }
        let level = self.word("logging.level", &level, Level::WORDS, Level::from_word);
        let format = self.word(
            "logging.format",
            &format,
            LogFormat::WORDS,
            LogFormat::from_word,
        );
        LoggingSettings {
            level: flags.log_level.or(level).unwrap_or(Level::Info),
            format: flags.log_format.or(format).unwrap_or(LogFormat::Text),
            modules,
        }
    }

    fn listeners(&mut self, flags: &Flags) -> Vec<ListenerSettings> {
        let replaced: BTreeSet<ListenerKind> =
            flags.listeners.iter().map(|(kind, _)| *kind).collect();
        let mut listeners = Vec::new();
        for (index, table) in self
            .said
            .listener
            .clone()
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let path = format!("listener[{index}]");
            let Some(listener) = self.listener(&path, index, table) else {
                continue;
            };
            if replaced.contains(&listener.kind) {
                continue;
            }
            if let Some(what) = refusal(&listener, "write `anonymous = true` in this [[listener]]")
            {
                self.fault(&format!("{path}.bind"), &what);
            }
            listeners.push((format!("{path}.bind"), listener));
        }
        for (kind, text) in &flags.listeners {
            if text == "off" {
                continue;
            }
            let option = format!("--{kind} ADDR");
            let Some(bind) = address(text) else {
                self.flag_fault(&option, &bad_address(text, *kind));
                continue;
            };
            let listener = ListenerSettings {
                kind: *kind,
                bind,
                anonymous: flags.anonymous,
                option,
            };
            if let Some(what) = refusal(&listener, "add `--anonymous`") {
                self.flag_fault(&listener.option, &what);
            }
            listeners.push((String::new(), listener));
        }
        let mut seen = BTreeSet::new();
        for (path, listener) in &listeners {
            if listener.bind.port() != 0 && !seen.insert(listener.bind) {
                let what = format!("two listeners have the address {}", listener.bind);
                if path.is_empty() {
                    self.flag_fault(&listener.option, &what)
                } else {
                    self.fault(path, &what)
                }
            }
        }
        listeners
            .into_iter()
            .map(|(_, listener)| listener)
            .collect()
    }

    fn listener(
        &mut self,
        path: &str,
        index: usize,
        table: &ListenerTable,
    ) -> Option<ListenerSettings> {
        let kind = self.required(path, "kind", table.kind.as_ref())?;
        let kind = self.word(
            &format!("{path}.kind"),
            &kind,
            ListenerKind::WORDS,
            ListenerKind::from_word,
        )?;
        let text = self.required(path, "bind", table.bind.as_ref())?;
        let Some(bind) = address(&text) else {
            self.fault(&format!("{path}.bind"), &bad_address(&text, kind));
            return None;
        };
        let place = match self.lines.get(&format!("{path}.bind")) {
            Some(line) => format!(
                "[[listener]] number {}: bind ({}, line {line})",
                index + 1,
                self.source
            ),
            None => format!("--{kind} ADDR"),
        };
        Some(ListenerSettings {
            kind,
            bind,
            anonymous: table.anonymous.unwrap_or(false),
            option: place,
        })
    }

    fn streams(&mut self, hooks: &[HookSettings]) -> Vec<StreamSettings> {
        let mut streams: Vec<StreamSettings> = Vec::new();
        for (index, table) in self
            .said
            .stream
            .clone()
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let path = format!("stream[{index}]");
            let Some(stream) = self.stream(&path, table) else {
                continue;
            };
            let written = hooks.iter().any(|hook| hook.stream == stream.name);
            if self.default_streams.contains(&stream.name) && !written {
                continue;
            }
            if streams.iter().any(|other| other.name == stream.name) {
                self.fault(
                    &format!("{path}.name"),
                    &format!("the stream {} is defined twice", stream.name),
                );
                continue;
            }
            let published = |hook: &&HookSettings| {
                hook.stream == stream.name && hook.event == HookEvent::MessagePublish
            };
            if stream.compaction && hooks.iter().any(|hook| published(&hook)) {
                self.fault(
                    &format!("{path}.compaction"),
                    &format!("a message.publish hook writes {}, so that it cannot be compacted: sessions point into it", stream.name),
                );
            }
            streams.push(stream);
        }
        let targets = hooks.iter().map(|hook| hook.stream.as_str());
        for name in targets.chain([DEFAULT_STREAM, DEFAULT_QOS0_STREAM]) {
            if !streams.iter().any(|stream| stream.name == name) {
                let table = StreamTable {
                    name: Some(name.to_owned()),
                    ..StreamTable::default()
                };
                streams.extend(self.stream("", &table));
            }
        }
        streams
    }

    fn stream(&mut self, path: &str, table: &StreamTable) -> Option<StreamSettings> {
        let name = self.required(path, "name", table.name.as_ref())?;
        if let Some(what) = bad_stream_name(&name) {
            self.fault(&format!("{path}.name"), &what);
            return None;
        }
        let word = table.storage.clone().unwrap_or_else(|| {
            let in_memory = name == DEFAULT_QOS0_STREAM;
            if in_memory {
                Storage::Memory
            } else {
                Storage::Disk
            }
            .as_str()
            .to_owned()
        });
        let storage = self.word(
            &format!("{path}.storage"),
            &word,
            Storage::WORDS,
            Storage::from_word,
        )?;
        if name == DEFAULT_STREAM && storage == Storage::Memory {
            self.fault(
                &format!("{path}.storage"),
                "mqtt.default must be on disk: sessions point into it",
            );
        }
        if name == DEFAULT_QOS0_STREAM && storage == Storage::Disk {
            self.fault(&format!("{path}.storage"), "mqtt.default.qos0 is in memory always; to keep QoS 0 messages, write a [[hook]] for them");
        }
        let ack = self.ack(path, &name, table.ack.as_deref(), storage)?;
        let compaction = table.compaction.unwrap_or(false);
        let partitions = table.partitions.unwrap_or(i64::from(PARTITIONS));
        let partitions = self.integer(
            &format!("{path}.partitions"),
            Some(partitions),
            1,
            PARTITIONS_MAX,
        ) as u32;
        let mut stream = StreamSettings {
            name,
            partitions,
            ack,
            retention_ms: None,
            retention_bytes: None,
            size_bytes_max: None,
            compaction,
            storage,
        };
        self.retention(path, table.retention.as_ref(), &mut stream);
        Some(stream)
    }

    fn retention(
        &mut self,
        path: &str,
        said: Option<&RetentionTable>,
        stream: &mut StreamSettings,
    ) {
        let said = said.cloned().unwrap_or_default();
        let path = format!("{path}.retention");
        let in_memory = stream.storage == Storage::Memory;
        stream.retention_ms = match said.age {
            Some(age) => {
                self.span_or_none(&format!("{path}.age"), Some(age), SECOND, SECOND, u64::MAX)
            }
            None if stream.compaction => None,
            None if in_memory => Some(MEMORY_RETENTION_MS),
            None => Some(RETENTION_MS),
        };
        stream.retention_bytes = match said.size {
            Some(size) => self.size_or_none(&format!("{path}.size"), size, 64 * KB, u64::MAX),
            None => in_memory.then_some(MEMORY_RETENTION_BYTES),
        };
        stream.size_bytes_max = said.size_max.and_then(|size| {
            self.size_or_none(&format!("{path}.size_max"), size, 64 * KB, u64::MAX)
        });
        if let (Some(size), Some(most)) = (stream.retention_bytes, stream.size_bytes_max)
            && size > most
        {
            self.fault(
                &format!("{path}.size_max"),
                "retention.size is larger than retention.size_max",
            );
        }
        if stream.compaction && (said.age.is_some() || said.size.is_some()) {
            self.fault(&path, "a stream with compaction keeps the latest record of every key: it has no retention.age or retention.size");
        }
    }

    fn ack(&mut self, path: &str, name: &str, said: Option<&str>, storage: Storage) -> Option<Ack> {
        let path = format!("{path}.ack");
        let Some(word) = said else {
            return Some(match storage {
                Storage::Memory => Ack::Memory,
                Storage::Disk if name == DEFAULT_STREAM => Ack::Append,
                Storage::Disk => Ack::Flush,
            });
        };
        if word == "kafka" {
            self.fault(&path, "ack = \"kafka\" needs the mirror into an Apache Kafka cluster, which this version does not have; the strictest level is \"flush\"");
            return None;
        }
        let ack = self.word(&path, word, Ack::WORDS, Ack::from_word)?;
        if storage == Storage::Memory && ack != Ack::Memory {
            self.fault(&path, &format!("a stream in memory cannot promise \"{ack}\": write ack = \"memory\", or storage = \"disk\""));
        }
        if storage == Storage::Disk && ack == Ack::Memory {
            self.fault(&path, "ack = \"memory\" promises nothing: write storage = \"memory\" beside it, or ack = \"append\"");
        }
        Some(ack)
    }

    fn hooks(&mut self) -> Vec<HookSettings> {
        let tables = self.said.hook.clone().unwrap_or_default();
        tables
            .iter()
            .enumerate()
            .filter_map(|(index, table)| self.hook(&format!("hook[{index}]"), table))
            .collect()
    }

    fn hook(&mut self, path: &str, table: &HookTable) -> Option<HookSettings> {
        let event = self.required(path, "event", table.event.as_ref());
        let stream = self.required(path, "stream", table.stream.as_ref());
        if let Some(what) = stream.as_deref().and_then(bad_stream_name) {
            self.fault(&format!("{path}.stream"), &what);
        }
        let event = event?;
        let event = if event == "message.deliver" {
            "message.delivered"
        } else {
            &event
        };
        let event = self.word(
            &format!("{path}.event"),
            event,
            HookEvent::WORDS,
            HookEvent::from_word,
        )?;
        let filter = match (&table.filter, event.has_topic()) {
            (Some(_), false) => {
                self.fault(
                    &format!("{path}.filter"),
                    &format!("{event} has no topic, so that a hook on it takes no filter"),
                );
                None
            }
            (Some(filter), true) => {
                if let Some(what) = bad_filter(filter) {
                    self.fault(&format!("{path}.filter"), &what);
                }
                Some(filter.clone())
            }
            (None, true) => Some("#".to_owned()),
            (None, false) => None,
        };
        let key = self.key_template(path, table.key.as_deref(), event);
        let payload = match table.payload.as_deref() {
            Some(word) => {
                if !event.has_payload() {
                    self.fault(
                        &format!("{path}.payload"),
                        &format!("the record of {event} has no payload"),
                    );
                }
                self.word(
                    &format!("{path}.payload"),
                    word,
                    PayloadEncoding::WORDS,
                    PayloadEncoding::from_word,
                )?
            }
            None => PayloadEncoding::Base64,
        };
        Some(HookSettings {
            event,
            filter,
            stream: stream?,
            key,
            payload,
        })
    }

    fn key_template(&mut self, path: &str, said: Option<&str>, event: HookEvent) -> KeyTemplate {
        let Some(text) = said else {
            return KeyTemplate::ClientId;
        };
        let Some(template) = key_template(text) else {
            self.fault(
                &format!("{path}.key"),
                &format!("\"{text}\" is not a key: write \"{{clientid}}\", \"{{username}}\", \"{{topic}}\", \"none\", or \"{{2}}\" for the second level of the topic"),
            );
            return KeyTemplate::ClientId;
        };
        if !event.has_topic() && matches!(template, KeyTemplate::Topic | KeyTemplate::Level(_)) {
            self.fault(
                &format!("{path}.key"),
                &format!("{event} has no topic to take a key from"),
            );
        }
        template
    }

    fn fault(&mut self, path: &str, what: &str) {
        let mut at = path;
        let line = loop {
            if let Some(line) = self.lines.get(at) {
                break Some(*line);
            }
            match at.rfind(['.', '[']) {
                Some(end) => at = &at[..end],
                None => break None,
            }
        };
        let key = path.rsplit('.').next().unwrap_or(path);
        let what = if what.contains(key) || path.ends_with(']') {
            what.to_owned()
        } else {
            format!("{key}: {what}")
        };
        self.faults.push(Fault {
            source: self.source.clone(),
            line,
            what,
        });
    }

    fn flag_fault(&mut self, option: &str, what: &str) {
        self.faults.push(Fault {
            source: option.to_owned(),
            line: None,
            what: what.to_owned(),
        });
    }

    fn required(&mut self, path: &str, key: &str, said: Option<&String>) -> Option<String> {
        let text = said.filter(|text| !text.is_empty()).cloned();
        if text.is_none() {
            let table = path.split('[').next().unwrap_or(path);
            self.fault(path, &format!("this [[{table}]] needs `{key}`"));
        }
        text
    }

    fn word<T>(
        &mut self,
        path: &str,
        word: &str,
        words: &[&str],
        read: fn(&str) -> Option<T>,
    ) -> Option<T> {
        let found = read(word);
        if found.is_none() {
            let near = config::nearest(word, words.iter().copied())
                .map_or(String::new(), |near| format!(" did you mean \"{near}\"?"));
            let what = format!("\"{word}\" is none of {};{near}", words.join(", "));
            self.fault(path, what.trim_end_matches(';'));
        }
        found
    }

    /// `said` if it is within the bounds; every key has a default in the default file.
    fn integer(&mut self, path: &str, said: Option<i64>, least: i64, most: i64) -> i64 {
        let value = said.unwrap_or(least);
        if (least..=most).contains(&value) {
            return value;
        }
        self.fault(path, &format!("must be {least} to {most}, is {value}"));
        least
    }

    fn size(&mut self, path: &str, said: Option<Size>, least: u64, most: u64) -> u64 {
        let said = said.unwrap_or(Size::Bytes(least));
        self.size_or_none(path, said, least, most)
            .unwrap_or_else(|| {
                if said == Size::None {
                    self.fault(path, "needs a size: \"none\" is not possible here");
                }
                least
            })
    }

    fn size_or_none(&mut self, path: &str, said: Size, least: u64, most: u64) -> Option<u64> {
        let Size::Bytes(bytes) = said else {
            return None;
        };
        if bytes < least || bytes > most {
            let upper = if most == u64::MAX {
                String::new()
            } else {
                format!(" and at most {}", show_bytes(most))
            };
            self.fault(
                path,
                &format!(
                    "must be at least {}{upper}, is {}",
                    show_bytes(least),
                    show_bytes(bytes)
                ),
            );
            return Some(least);
        }
        Some(bytes)
    }

    fn millis(&mut self, path: &str, said: Option<Span>, least: u64, most: u64) -> u64 {
        self.span(path, said, 1, least, most)
    }

    fn seconds(&mut self, path: &str, said: Option<Span>, least: u64, most: u64) -> u64 {
        self.span(path, said, SECOND, least * SECOND, most * SECOND) / SECOND
    }

    fn seconds_or_none(
        &mut self,
        path: &str,
        said: Option<Span>,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        self.span_or_none(path, said, SECOND, least * SECOND, most * SECOND)
            .map(|ms| ms / SECOND)
    }

    fn span(&mut self, path: &str, said: Option<Span>, unit_ms: u64, least: u64, most: u64) -> u64 {
        self.span_or_none(path, said, unit_ms, least, most)
            .unwrap_or_else(|| {
                self.fault(path, "needs a duration: \"none\" is not possible here");
                least
            })
    }

    /// Milliseconds of a duration whose plain numbers count in `unit_ms`; bounds in milliseconds.
    fn span_or_none(
        &mut self,
        path: &str,
        said: Option<Span>,
        unit_ms: u64,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        let ms = match said? {
            Span::None => return None,
            Span::Plain(number) => number.saturating_mul(unit_ms),
            Span::Millis(ms) => ms,
        };
        if ms < least || ms > most {
            let upper = if most == u64::MAX {
                String::new()
            } else {
                format!(" and at most {}", show_millis(most))
            };
            self.fault(
                path,
                &format!(
                    "must be at least {}{upper}, is {}",
                    show_millis(least),
                    show_millis(ms)
                ),
            );
            return Some(least);
        }
        if unit_ms > 1 && !ms.is_multiple_of(unit_ms) {
            self.fault(path, "must be whole seconds");
        }
        Some(ms)
    }
}

/// The key template that a text means.
pub fn key_template(text: &str) -> Option<KeyTemplate> {
    match text {
        "{clientid}" | "{client_id}" | "${clientid}" => return Some(KeyTemplate::ClientId),
        "{username}" | "${username}" => return Some(KeyTemplate::Username),
        "{topic}" | "${topic}" => return Some(KeyTemplate::Topic),
        "none" => return Some(KeyTemplate::None),
        _ => {}
    }
    let digits = text.strip_prefix('{')?.strip_suffix('}')?;
    let level: u16 = digits.parse().ok().filter(|level| *level > 0)?;
    (digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(KeyTemplate::Level(level))
}

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

/// What is wrong with an MQTT filter, if anything is [MQTT-4.7.1-1 to MQTT-4.7.1-3].
pub fn bad_filter(filter: &str) -> Option<String> {
    if filter.is_empty() || filter.len() > 65_535 || filter.contains('\0') {
        return Some("a filter has 1 to 65535 bytes, none of them 0".to_owned());
    }
    if filter.starts_with("$share/") {
        return Some("a hook's filter cannot be a shared subscription".to_owned());
    }
    let levels: Vec<&str> = filter.split('/').collect();
    for (index, level) in levels.iter().enumerate() {
        if level.contains('+') && *level != "+" {
            return Some(format!(
                "\"{filter}\" is not a filter: + stands alone in its level"
            ));
        }
        if level.contains('#') && (*level != "#" || index + 1 != levels.len()) {
            return Some(format!(
                "\"{filter}\" is not a filter: # stands alone in the last level"
            ));
        }
    }
    None
}

/// `127.0.0.1:1883`, `[::1]:1883`, `localhost:1883`.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

fn bad_address(text: &str, kind: ListenerKind) -> String {
    let port = match kind {
        ListenerKind::Mqtt => 1883,
        ListenerKind::Kafka => 9092,
        ListenerKind::Http => 18083,
    };
    format!(
        "\"{text}\" is not an address to bind: write an IP address and a port, such as \"127.0.0.1:{port}\""
    )
}

/// `host:port`; IPv6 in brackets.
fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let plain = !bare.is_empty()
        && bare
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
    (plain && (bare == host) != bare.contains(':')).then(|| HostPort {
        host: bare.to_owned(),
        port,
    })
}

/// Why a listener would let strangers in, if it would.
fn refusal(listener: &ListenerSettings, how: &str) -> Option<String> {
    if listener.bind.ip().to_canonical().is_loopback() {
        return None;
    }
    let (kind, bind) = (listener.kind, listener.bind);
    if kind == ListenerKind::Http {
        return Some(format!(
            "the http listener on {bind} is refused: the HTTP interface has no authentication yet. Bind 127.0.0.1, and reach it through a tunnel or a proxy that asks who is there"
        ));
    }
    let port = bind.port();
    (!listener.anonymous).then(|| {
        format!("the {kind} listener on {bind} is refused: other machines reach it and nobody is asked who they are. If anyone may come in, {how}; if not, bind 127.0.0.1:{port}")
    })
}

impl Settings {
    /// Settings for tests: the default configuration with `data_dir`, every listener on a free port
    /// of 127.0.0.1, one flush as soon as the last is done, and small files.
    pub fn for_tests(data_dir: &Path) -> Self {
        let any = || "127.0.0.1:0".to_owned();
        let kinds = [ListenerKind::Mqtt, ListenerKind::Kafka, ListenerKind::Http];
        let flags = Flags {
            data_dir: Some(data_dir.to_owned()),
            workers: Some(2),
            listeners: kinds.into_iter().map(|kind| (kind, any())).collect(),
            ..Flags::default()
        };
        let mut settings = build(None, &flags).expect("the default configuration has no fault");
        settings.log.journal_bytes = 16 * MB;
        settings.log.disk_reserve_bytes = 0;
        settings
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
