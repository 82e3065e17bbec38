//! From what was said to what is meant: lays the layers over each other (default, file, flags),
//! checks every value and builds [`Settings`] once. All faults are told, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{
    Ack, HttpSettings, KafkaSettings, Level, ListenerKind, ListenerSettings, LogFormat,
    LogSettings, LoggingSettings, MqttSettings, NodeSettings, Settings, SharedStrategy,
};
use crate::config::{self, Fault, Said, StreamTable};
use broker::limits::INBOX_MAX;

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
    /// `--mqtt`, `--ws`, `--kafka`, `--http`: an address in place of all listeners of the kind, or `off`.
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

pub(super) struct Builder {
    /// Default with the file over it.
    pub(super) said: config::File,
    /// Name of the user's file and the lines of its keys.
    pub(super) source: String,
    pub(super) lines: BTreeMap<String, usize>,
    /// Streams that only the default names; they stay while a hook writes to them.
    pub(super) default_streams: BTreeSet<String>,
    pub(super) faults: Vec<Fault>,
    /// `segment_bytes` of `[log]`, which every stream takes.
    pub(super) segment_bytes: u64,
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
            mirror: above.file.mirror,
            authenticator: above.file.authenticator.or(below.file.authenticator),
            authorization: above.file.authorization.over(below.file.authorization),
            flapping: above.file.flapping.over(below.file.flapping),
            overload: above.file.overload.over(below.file.overload),
            http: above.file.http.over(below.file.http),
            logging: above.file.logging.over(below.file.logging),
            listener: above.file.listener.or(below.file.listener),
            stream: Some(streams),
            hook: above.file.hook.or(below.file.hook),
            downlink: above.file.downlink,
        };
        Self {
            said,
            source: above.source,
            lines: above.lines,
            default_streams,
            faults: Vec::new(),
            segment_bytes: 0,
        }
    }

    fn settings(&mut self, flags: &Flags) -> Settings {
        let hooks = self.hooks();
        let log = self.log(flags);
        self.segment_bytes = log.segment_bytes;
        let listeners = self.listeners(flags);
        let asked = listeners.iter().any(ListenerSettings::asks_kafka_clients);
        let certificates = listeners
            .iter()
            .any(ListenerSettings::asks_devices_for_certificates);
        let mut streams = self.streams(&hooks);
        let mirror = self.mirror(&hooks, &streams);
        self.kafka_acks(&streams, mirror.as_ref());
        if let Some(mirror) = &mirror {
            self.dead_letters(&mirror.dead_letter, &mut streams);
        }
        let downlinks = self.downlinks(&hooks, mirror.as_ref(), &mut streams);
        Settings {
            effective: super::effective::shown(&self.said, flags),
            node: self.node(flags),
            log,
            mqtt: self.mqtt(),
            kafka: self.kafka(asked),
            mirror,
            keys: self.keys(certificates),
            http: HttpSettings {
                page_rows_max: self.integer(
                    "http.page_rows_max",
                    self.said.http.page_rows_max,
                    1,
                    1_000,
                ) as u32,
            },
            logging: self.logging(flags),
            listeners,
            streams,
            hooks,
            downlinks,
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
            journal_bytes: self.size("log.journal_bytes", said.journal_bytes, 64 * MB, 512 * MB),
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
            producer_expiry_ms: self.millis(
                "log.producer_expiry",
                said.producer_expiry,
                MINUTE,
                10 * 365 * 24 * HOUR,
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
            packet_size_max: self.size("mqtt.packet_size_max", said.packet_size_max, KB, 8 * MB)
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
            inflight_v3: self
                .integer("mqtt.inflight_v3", said.inflight_v3, 1, 65_535)
                .min(said.inflight_max.unwrap_or(65_535)) as u16,
            topic_alias_max: self.integer("mqtt.topic_alias_max", said.topic_alias_max, 0, 65_535)
                as u16,
            inbox_max: self.integer("mqtt.inbox_max", said.inbox_max, 1, i64::from(INBOX_MAX))
                as u32,
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
                .word::<SharedStrategy>("mqtt.shared_strategy", &strategy)
                .unwrap_or(SharedStrategy::RoundRobin),
            sys_interval_s: self
                .seconds_or_none("mqtt.sys_interval_s", said.sys_interval_s, 0, 86_400)
                .unwrap_or(0) as u32,
        }
    }

    /// `asked`: a Kafka listener asks who is there.
    fn kafka(&mut self, asked: bool) -> KafkaSettings {
        let said = self.said.kafka.clone();
        let advertised = self.advertised("kafka.advertised", said.advertised.as_deref());
        let session_timeout_ms = self.group_session_timeout_ms();
        KafkaSettings {
            advertised,
            connections_max: self.integer("kafka.connections_max", said.connections_max, 1, 100_000)
                as u32,
            connections_max_per_address: self.integer(
                "kafka.connections_max_per_address",
                said.connections_max_per_address,
                1,
                100_000,
            ) as u32,
            requests_outstanding_max: self.integer(
                "kafka.requests_outstanding_max",
                said.requests_outstanding_max,
                1,
                1000,
            ) as u32,
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
            group_session_timeout_ms_min: session_timeout_ms.0,
            group_session_timeout_ms_max: session_timeout_ms.1,
            group_rebalance_delay_ms: self.millis(
                "kafka.group_rebalance_delay_ms",
                said.group_rebalance_delay_ms,
                0,
                5 * MINUTE,
            ) as u32,
            group_members_max: self.integer(
                "kafka.group_members_max",
                said.group_members_max,
                1,
                10_000,
            ) as u32,
            groups_max: self.integer("kafka.groups_max", said.groups_max, 1, 1_000_000) as u32,
            offsets_retention_ms: self.millis(
                "kafka.offsets_retention",
                said.offsets_retention,
                MINUTE,
                10 * 365 * 24 * HOUR,
            ),
            transaction_timeout_ms_max: self.millis(
                "kafka.transaction_timeout_max",
                said.transaction_timeout_max,
                SECOND,
                24 * 24 * HOUR,
            ),
            transactional_id_expiry_ms: self.millis(
                "kafka.transactional_id_expiry",
                said.transactional_id_expiry,
                MINUTE,
                10 * 365 * 24 * HOUR,
            ),
            session_lifetime_ms: self.span_or_none(
                "kafka.session_lifetime_ms",
                said.session_lifetime_ms,
                1,
                SECOND,
                7 * 24 * HOUR,
            ),
            access: self.kafka_access(asked),
            quotas: self.kafka_quotas(),
            auto_create: said.auto_create.unwrap_or(true),
            topic_partitions: self.integer(
                "kafka.topic_partitions",
                said.topic_partitions,
                1,
                1_024,
            ) as u32,
            topic_ack: self.topic_ack(said.topic_ack.as_deref().unwrap_or("append")),
            topics_max: self.integer("kafka.topics_max", said.topics_max, 1, 100_000) as u32,
            partitions_max: self.integer("kafka.partitions_max", said.partitions_max, 1, 100_000)
                as u32,
        }
    }

    /// The shortest and the longest session timeout of members of groups.
    fn group_session_timeout_ms(&mut self) -> (u32, u32) {
        let said = self.said.kafka.clone();
        let (least, most) = (
            said.group_session_timeout_ms_min,
            said.group_session_timeout_ms_max,
        );
        let min = "kafka.group_session_timeout_ms_min";
        let least_ms = self.millis(min, least, 1, 24 * HOUR);
        let most_ms = self.millis("kafka.group_session_timeout_ms_max", most, 1, 24 * HOUR);
        if least_ms > most_ms {
            self.fault(min, "is longer than group_session_timeout_ms_max");
        }
        (least_ms as u32, most_ms as u32)
    }

    /// The level of topics that are created over Kafka, which are on disk.
    fn topic_ack(&mut self, word: &str) -> Ack {
        let ack = self.word::<Ack>("kafka.topic_ack", word);
        if ack.is_some_and(|ack| ack != Ack::Append && ack != Ack::Flush) {
            self.fault("kafka.topic_ack", "must be \"append\" or \"flush\"");
        }
        ack.unwrap_or_default()
    }

    fn logging(&mut self, flags: &Flags) -> LoggingSettings {
        let said = self.said.logging.clone();
        let level = said.level.unwrap_or_default();
        let format = said.format.unwrap_or_default();
        let mut modules = BTreeMap::new();
        for (module, word) in said.modules.unwrap_or_default() {
            let path = format!("logging.modules.{module}");
            if let Some(level) = self.word::<Level>(&path, &word) {
                modules.insert(module, level);
            }
        }
        let level = self.word::<Level>("logging.level", &level);
        let format = self.word::<LogFormat>("logging.format", &format);
        LoggingSettings {
            level: flags.log_level.or(level).unwrap_or(Level::Info),
            format: flags.log_format.or(format).unwrap_or(LogFormat::Text),
            modules,
        }
    }
}

impl Settings {
    /// Settings for tests: the default configuration with `data_dir`, every listener on a free port
    /// of 127.0.0.1, one flush as soon as the last is done, and small files.
    pub fn for_tests(data_dir: &Path) -> Self {
        let any = || "127.0.0.1:0".to_owned();
        let kinds = [
            ListenerKind::Mqtt,
            ListenerKind::Ws,
            ListenerKind::Kafka,
            ListenerKind::Http,
        ];
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
