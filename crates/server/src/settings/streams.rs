//! Streams and hooks: what belongs together in them, and the streams that nobody has written.

use super::build::Builder;
use super::words::{Word, bad_filter, bad_stream_name};
use super::{
    Ack, HookEvent, HookSettings, MirrorSettings, PayloadEncoding, Storage, StreamSettings,
};
use crate::config::{HookTable, RetentionTable, StreamTable};

pub use broker::hooks::{DEFAULT_QOS0_STREAM, DEFAULT_STREAM};

/// Key of a hook that says nothing about it.
pub const DEFAULT_KEY: &str = "{clientid}";

/// Partitions of a stream that says nothing about them.
const PARTITIONS: u32 = 4;
/// Most partitions of one stream.
const PARTITIONS_MAX: i64 = 1_024;
/// Retention of a stream on disk that says nothing about it: 7 days.
const RETENTION_MS: u64 = 7 * 86_400_000;
/// Retention of a stream in memory that says nothing about it: 1 hour and 64 MB a partition.
const MEMORY_RETENTION_MS: u64 = 3_600_000;
const MEMORY_RETENTION_BYTES: u64 = 64 << 20;

const KB: u64 = 1 << 10;
const SECOND: u64 = 1_000;

impl Builder {
    pub(super) fn streams(&mut self, hooks: &[HookSettings]) -> Vec<StreamSettings> {
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
            streams.push(StreamSettings {
                implied: self.default_streams.contains(&stream.name),
                ..stream
            });
        }
        let targets = hooks.iter().map(|hook| hook.stream.as_str());
        for name in targets.chain([DEFAULT_STREAM, DEFAULT_QOS0_STREAM]) {
            if bad_stream_name(name).is_none() && !streams.iter().any(|stream| stream.name == name)
            {
                let table = StreamTable {
                    name: Some(name.to_owned()),
                    ..StreamTable::default()
                };
                streams.extend(self.stream("", &table));
            }
        }
        streams
    }

    /// Adds the stream for dead letters, unless somebody has written it.
    pub(super) fn dead_letters(&mut self, name: &str, streams: &mut Vec<StreamSettings>) {
        let known = streams.iter().any(|stream| stream.name == name);
        if !known && bad_stream_name(name).is_none() {
            let table = StreamTable {
                name: Some(name.to_owned()),
                partitions: Some(1),
                ..StreamTable::default()
            };
            streams.extend(self.stream("", &table));
        }
    }

    pub(super) fn stream(&mut self, path: &str, table: &StreamTable) -> Option<StreamSettings> {
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
            .word()
            .to_owned()
        });
        let storage = self.word::<Storage>(&format!("{path}.storage"), &word)?;
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
            segment_bytes: self.segment_bytes,
            implied: path.is_empty(),
        };
        self.retention(path, table.retention.as_ref(), &mut stream);
        Some(stream)
    }

    pub(super) fn retention(
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

    pub(super) fn ack(
        &mut self,
        path: &str,
        name: &str,
        said: Option<&str>,
        storage: Storage,
    ) -> Option<Ack> {
        let path = format!("{path}.ack");
        let Some(word) = said else {
            return Some(match storage {
                Storage::Memory => Ack::Memory,
                Storage::Disk if name == DEFAULT_STREAM => Ack::Append,
                Storage::Disk => Ack::Flush,
            });
        };
        let ack = self.word::<Ack>(&path, word)?;
        if storage == Storage::Memory && ack != Ack::Memory {
            self.fault(&path, &format!("a stream in memory cannot promise \"{}\": write ack = \"memory\", or storage = \"disk\"", ack.word()));
        }
        if storage == Storage::Disk && ack == Ack::Memory {
            self.fault(&path, "ack = \"memory\" promises nothing: write storage = \"memory\" beside it, or ack = \"append\"");
        }
        Some(ack)
    }

    /// Only what is mirrored can wait for the cluster behind.
    pub(super) fn kafka_acks(
        &mut self,
        streams: &[StreamSettings],
        mirror: Option<&MirrorSettings>,
    ) {
        for stream in streams.iter().filter(|stream| stream.ack == Ack::Kafka) {
            if mirror.is_some_and(|mirror| mirror.mirrors(&stream.name)) {
                continue;
            }
            let tables = self.said.stream.iter().flatten();
            let at = tables
                .into_iter()
                .position(|table| table.name.as_ref() == Some(&stream.name));
            let path = format!("stream[{}].ack", at.unwrap_or_default());
            self.fault(&path, &format!("ack = \"kafka\" waits for the Apache Kafka cluster behind, but the stream {} is not mirrored: name it in [mirror], or write ack = \"flush\"", stream.name));
        }
    }

    pub(super) fn hooks(&mut self) -> Vec<HookSettings> {
        let tables = self.said.hook.clone().unwrap_or_default();
        let most = broker::limits::HOOKS_MAX;
        if tables.len() > most {
            self.fault(
                &format!("hook[{most}]"),
                &format!("there can be at most {most} hooks"),
            );
        }
        tables
            .iter()
            .enumerate()
            .filter_map(|(index, table)| self.hook(&format!("hook[{index}]"), table))
            .collect()
    }

    pub(super) fn hook(&mut self, path: &str, table: &HookTable) -> Option<HookSettings> {
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
        let event = self.word::<HookEvent>(&format!("{path}.event"), event)?;
        let filter = match (&table.filter, event.has_topic()) {
            (Some(_), false) => {
                self.fault(
                    &format!("{path}.filter"),
                    &format!(
                        "{} has no topic, so that a hook on it takes no filter",
                        event.word()
                    ),
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
        let key = self.key(path, table.key.as_deref(), event);
        let payload = match table.payload.as_deref() {
            Some(word) => {
                if !has_payload(event) {
                    self.fault(
                        &format!("{path}.payload"),
                        &format!("the record of {} has no payload", event.word()),
                    );
                }
                self.word::<PayloadEncoding>(&format!("{path}.payload"), word)?
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

    fn key(&mut self, path: &str, said: Option<&str>, event: HookEvent) -> String {
        let Some(text) = said else {
            return DEFAULT_KEY.to_owned();
        };
        let path = format!("{path}.key");
        if let Err(error) = broker::KeyTemplate::parse(text) {
            self.fault(&path, &error.to_string());
        } else if !text.contains('{') && text != "none" {
            self.fault(&path, &format!("\"{text}\" would be the key of every record; write \"{{2}}\" for level 2 of the topic, {{clientid}}, {{username}}, {{topic}}, or \"none\""));
        } else if !event.has_topic() && needs_topic(text) {
            self.fault(
                &path,
                &format!("{} has no topic to take a key from", event.word()),
            );
        }
        text.to_owned()
    }
}

/// Whether a key template names the topic or a level of it.
pub fn needs_topic(template: &str) -> bool {
    let names = template
        .split('{')
        .skip(1)
        .filter_map(|piece| piece.split('}').next());
    names
        .into_iter()
        .any(|name| name == "topic" || name.parse::<u64>().is_ok())
}

/// Whether the event's record has a payload.
pub fn has_payload(event: HookEvent) -> bool {
    event >= HookEvent::MessagePublish
}
