//! The settings of a topic: Kafka's names for what a stream's settings say, how each value is
//! written and read, and which of Kafka's settings are fixed here or without effect.

use std::fmt::Display;
use std::str::FromStr;

use ::kafka::ErrorCode;
use commitlog::{Ack, Storage, StreamSettings, limits as log_limits};

use super::super::{FrontDoor, limits};
use super::Refused;

/// Retention of a topic that says nothing, as in Apache Kafka: 7 days.
const RETENTION_MS: u64 = 7 * 86_400_000;

/// Kafka's default of `segment.ms`, shown where the log closes segments by itself.
const SEGMENT_MS: u64 = 7 * 86_400_000;

pub(super) const ACK: &str = "sluice.ack";
pub(super) const STORAGE: &str = "sluice.storage";

/// What kind of value a setting has; numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// What may be said.
enum Takes {
    /// A value that the stream's settings keep.
    Kept {
        show: fn(&StreamSettings) -> String,
        set: fn(&mut StreamSettings, &str) -> Result<(), String>,
    },
    /// One value only, which is what always holds; and why.
    Only(&'static str, &'static str),
    /// Any value that parses, without effect; what is shown.
    Hint(&'static str),
}

/// One setting.
pub(super) struct Key {
    /// Kafka's name of it.
    pub name: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// Name of the broker's setting that stands in for it; empty where there is none.
    pub broker_name: &'static str,
    /// What it means.
    pub words: &'static str,
    takes: Takes,
}

/// All settings, in the order of their names.
pub(super) const KEYS: &[Key] = &[
    kept(
        "cleanup.policy",
        Kind::List,
        "log.cleanup.policy",
        "`delete` drops old segments by age and size, `compact` keeps the latest record of each key.",
        |s| {
            let words = [(s.compact, "compact"), (s.delete, "delete")];
            let said: Vec<_> = words
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, w)| *w)
                .collect();
            said.join(",")
        },
        |s, value| {
            let words: Vec<_> = list(value).collect();
            if let Some(other) = words
                .iter()
                .find(|word| !["compact", "delete"].contains(word))
            {
                return Err(format!("`{other}` is neither delete nor compact"));
            }
            s.compact = words.contains(&"compact");
            s.delete = words.contains(&"delete");
            Ok(())
        },
    ),
    only(
        "compression.type",
        Kind::Text,
        "compression.type",
        "producer",
        "batches are stored as producers compress them",
    ),
    kept(
        "delete.retention.ms",
        Kind::Long,
        "log.cleaner.delete.retention.ms",
        "Age at which compaction drops a tombstone.",
        |s| {
            s.delete_retention_ms
                .unwrap_or(log_limits::DELETE_RETENTION_MS)
                .to_string()
        },
        |s, value| number(value, 0, i64::MAX).map(|ms| s.delete_retention_ms = Some(ms as u64)),
    ),
    hint(
        "file.delete.delay.ms",
        Kind::Long,
        "log.segment.delete.delay.ms",
        "60000",
    ),
    only(
        "flush.messages",
        Kind::Long,
        "log.flush.interval.messages",
        "9223372036854775807",
        "sluice.ack=flush makes every answer wait for a flush",
    ),
    only(
        "flush.ms",
        Kind::Long,
        "log.flush.interval.ms",
        "9223372036854775807",
        "all that is appended is flushed within flush_ms_max of [log] in the configuration, and \
         sluice.ack=flush makes every answer wait for it",
    ),
    hint(
        "follower.replication.throttled.replicas",
        Kind::List,
        "",
        "",
    ),
    hint(
        "index.interval.bytes",
        Kind::Int,
        "log.index.interval.bytes",
        "4096",
    ),
    hint("leader.replication.throttled.replicas", Kind::List, "", ""),
    only(
        "local.retention.bytes",
        Kind::Long,
        "",
        "-2",
        "there is no tiered storage",
    ),
    only(
        "local.retention.ms",
        Kind::Long,
        "",
        "-2",
        "there is no tiered storage",
    ),
    only(
        "max.compaction.lag.ms",
        Kind::Long,
        "log.cleaner.max.compaction.lag.ms",
        "9223372036854775807",
        "compaction has no deadline",
    ),
    kept(
        "max.message.bytes",
        Kind::Int,
        "message.max.bytes",
        "Largest batch that a producer may send, compressed as it is.",
        |s| {
            s.message_bytes_max
                .unwrap_or(limits::MESSAGE_BYTES_MAX)
                .to_string()
        },
        |s, value| {
            number(value, 0, log_limits::BATCH_BYTES_MAX as i64)
                .map(|bytes| s.message_bytes_max = Some(bytes as u32))
        },
    ),
    kept(
        "message.timestamp.after.max.ms",
        Kind::Long,
        "log.message.timestamp.after.max.ms",
        "How far a record's timestamp may lie in the future.",
        |s| {
            s.timestamp_after_ms_max
                .unwrap_or(limits::TIMESTAMP_AFTER_MS_MAX)
                .to_string()
        },
        |s, value| number(value, 0, i64::MAX).map(|ms| s.timestamp_after_ms_max = Some(ms as u64)),
    ),
    kept(
        "message.timestamp.before.max.ms",
        Kind::Long,
        "log.message.timestamp.before.max.ms",
        "How far a record's timestamp may lie in the past.",
        |s| {
            s.timestamp_before_ms_max
                .unwrap_or(i64::MAX as u64)
                .to_string()
        },
        |s, value| {
            number(value, 0, i64::MAX).map(|ms| {
                s.timestamp_before_ms_max = (ms < i64::MAX).then_some(ms as u64);
            })
        },
    ),
    only(
        "message.timestamp.type",
        Kind::Text,
        "log.message.timestamp.type",
        "CreateTime",
        "records keep the timestamps of their producers",
    ),
    hint(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        "log.cleaner.min.cleanable.ratio",
        "0.5",
    ),
    kept(
        "min.compaction.lag.ms",
        Kind::Long,
        "log.cleaner.min.compaction.lag.ms",
        "Age that a record must have before compaction may drop it.",
        |s| s.compaction_lag_ms_min.unwrap_or(0).to_string(),
        |s, value| {
            number(value, 0, i64::MAX)
                .map(|ms| s.compaction_lag_ms_min = (ms > 0).then_some(ms as u64))
        },
    ),
    only(
        "min.insync.replicas",
        Kind::Int,
        "min.insync.replicas",
        "1",
        "one node holds each partition; sluice.ack says how safe a record is before the answer",
    ),
    hint("preallocate", Kind::Boolean, "log.preallocate", "false"),
    only(
        "remote.storage.enable",
        Kind::Boolean,
        "",
        "false",
        "there is no tiered storage",
    ),
    kept(
        "retention.bytes",
        Kind::Long,
        "log.retention.bytes",
        "Size of a partition beyond which its oldest segments are dropped; -1 for none.",
        |s| or_none(s.retention_bytes),
        |s, value| {
            number(value, -1, i64::MAX).map(|bytes| s.retention_bytes = u64::try_from(bytes).ok())
        },
    ),
    kept(
        "retention.ms",
        Kind::Long,
        "log.retention.ms",
        "Age at which records are dropped, segment by segment; -1 keeps them for ever.",
        |s| or_none(s.retention_ms),
        |s, value| number(value, -1, i64::MAX).map(|ms| s.retention_ms = u64::try_from(ms).ok()),
    ),
    kept(
        "segment.bytes",
        Kind::Int,
        "log.segment.bytes",
        "Size at which a segment is closed and the next begun.",
        |s| s.segment_bytes.to_string(),
        |s, value| {
            let least = log_limits::SEGMENT_BYTES_MIN as i64;
            let most = log_limits::SEGMENT_BYTES_MAX as i64;
            number(value, least, most).map(|bytes| s.segment_bytes = bytes as u64)
        },
    ),
    hint(
        "segment.index.bytes",
        Kind::Int,
        "log.index.size.max.bytes",
        "10485760",
    ),
    hint("segment.jitter.ms", Kind::Long, "log.roll.jitter.ms", "0"),
    kept(
        "segment.ms",
        Kind::Long,
        "log.roll.ms",
        "Age at which a segment is closed; it is closed earlier where retention or compaction \
         would wait for it.",
        |s| s.segment_ms.unwrap_or(SEGMENT_MS).to_string(),
        |s, value| {
            number(value, 1, i64::MAX)
                .map(|ms| s.segment_ms = (ms as u64 != SEGMENT_MS).then_some(ms as u64))
        },
    ),
    kept(
        ACK,
        Kind::Text,
        "",
        "When a producer gets its answer: `memory` (nothing is kept), `append` (survives a crash \
         of the program), `flush` (survives a power cut).",
        |s| {
            match s.ack {
                Ack::Memory => "memory",
                Ack::Append => "append",
                Ack::Flush => "flush",
                Ack::Kafka => "kafka",
            }
            .to_owned()
        },
        |s, value| {
            s.ack = match value {
                "memory" => Ack::Memory,
                "append" => Ack::Append,
                "flush" => Ack::Flush,
                _ => return Err("none of memory, append and flush".to_owned()),
            };
            Ok(())
        },
    ),
    kept(
        "sluice.size.max.bytes",
        Kind::Long,
        "",
        "Size of a partition beyond which its oldest segments are dropped even if an MQTT session \
         is still owed what is in them; -1 for none.",
        |s| or_none(s.size_max_bytes),
        |s, value| {
            number(value, -1, i64::MAX).map(|bytes| s.size_max_bytes = u64::try_from(bytes).ok())
        },
    ),
    kept(
        STORAGE,
        Kind::Text,
        "",
        "`disk`, or `memory`: empty after a restart. Said when the topic is created.",
        |s| {
            match s.storage {
                Storage::Disk => "disk",
                Storage::Memory => "memory",
            }
            .to_owned()
        },
        |s, value| {
            s.storage = match value {
                "disk" => Storage::Disk,
                "memory" => Storage::Memory,
                _ => return Err("neither disk nor memory".to_owned()),
            };
            Ok(())
        },
    ),
    hint(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "unclean.leader.election.enable",
        "false",
    ),
];

const fn kept(
    name: &'static str,
    kind: Kind,
    broker_name: &'static str,
    words: &'static str,
    show: fn(&StreamSettings) -> String,
    set: fn(&mut StreamSettings, &str) -> Result<(), String>,
) -> Key {
    Key {
        name,
        kind,
        broker_name,
        words,
        takes: Takes::Kept { show, set },
    }
}

const fn only(
    name: &'static str,
    kind: Kind,
    broker_name: &'static str,
    value: &'static str,
    why: &'static str,
) -> Key {
    Key {
        name,
        kind,
        broker_name,
        words: why,
        takes: Takes::Only(value, why),
    }
}

const fn hint(
    name: &'static str,
    kind: Kind,
    broker_name: &'static str,
    shown: &'static str,
) -> Key {
    Key {
        name,
        kind,
        broker_name,
        words: "Taken and without effect: it tunes what is done in another way here.",
        takes: Takes::Hint(shown),
    }
}

impl Key {
    /// The setting of this name.
    pub fn named(name: &str) -> Result<&'static Self, Refused> {
        KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
            Refused::new(
                ErrorCode::InvalidConfig,
                format!("Unknown topic config name: {name}"),
            )
        })
    }

    /// Its value in a stream's settings.
    pub fn show(&self, stream: &StreamSettings) -> String {
        match self.takes {
            Takes::Kept { show, .. } => show(stream),
            Takes::Only(value, _) | Takes::Hint(value) => value.to_owned(),
        }
    }

    /// Whether another value than the one that is shown can be set.
    pub fn read_only(&self) -> bool {
        matches!(self.takes, Takes::Only(..)) || self.name == STORAGE
    }

    /// Sets it.
    pub fn set(&self, stream: &mut StreamSettings, value: &str) -> Result<(), Refused> {
        let value = value.trim();
        let wrong = |why: &str| {
            Refused::new(
                ErrorCode::InvalidConfig,
                format!(
                    "Invalid value {value} for configuration {}: {why}",
                    self.name
                ),
            )
        };
        match self.takes {
            Takes::Kept { set, .. } => set(stream, value).map_err(|why| wrong(&why)),
            Takes::Only(only, _) if value == only => Ok(()),
            Takes::Only(only, why) => Err(wrong(&format!("it is always {only} here: {why}"))),
            Takes::Hint(_) => self.parses(value).map_err(|why| wrong(&why)),
        }
    }

    fn parses(&self, value: &str) -> Result<(), String> {
        match self.kind {
            Kind::Boolean => parsed::<bool>(value).map(drop),
            Kind::Int => parsed::<i32>(value).map(drop),
            Kind::Long => parsed::<i64>(value).map(drop),
            Kind::Double => parsed::<f64>(value).map(drop),
            Kind::Text | Kind::List => Ok(()),
        }
    }

    /// Adds words to a list, or takes them from it.
    pub fn change_list(
        &self,
        stream: &mut StreamSettings,
        value: &str,
        add: bool,
    ) -> Result<(), Refused> {
        if self.kind != Kind::List {
            return Err(Refused::new(
                ErrorCode::InvalidConfig,
                format!(
                    "{} is no list: nothing can be appended to it or taken from it",
                    self.name
                ),
            ));
        }
        let shown = self.show(stream);
        let mut words: Vec<&str> = list(&shown).collect();
        words.retain(|word| !list(value).any(|other| other == *word));
        if add {
            words.extend(list(value));
        }
        self.set(stream, &words.join(","))
    }
}

/// The settings of a topic that says nothing: what a setting goes back to.
pub(super) fn template(door: &FrontDoor, name: &str) -> StreamSettings {
    let facts = &door.admin.facts;
    StreamSettings {
        partitions: door.settings.topic_partitions,
        ack: door.settings.topic_ack,
        retention_ms: Some(RETENTION_MS),
        segment_bytes: if facts.segment_bytes > 0 {
            facts.segment_bytes
        } else {
            log_limits::SEGMENT_BYTES_DEFAULT
        },
        ..StreamSettings::new(name)
    }
}

/// What a setting of this stream goes back to: in memory nothing can be promised.
pub(super) fn template_of(door: &FrontDoor, stream: &StreamSettings) -> StreamSettings {
    let template = template(door, &stream.name);
    StreamSettings {
        partitions: stream.partitions,
        storage: stream.storage,
        internal: stream.internal,
        topic_id: stream.topic_id,
        ack: if stream.storage == Storage::Memory {
            Ack::Memory
        } else {
            template.ack
        },
        ..template
    }
}

/// Whether the settings fit each other and what the configuration says of the stream.
pub(super) fn judge(door: &FrontDoor, stream: &StreamSettings) -> Result<(), Refused> {
    let refused = |words: &str| Err(Refused::new(ErrorCode::InvalidConfig, words));
    match (stream.storage, stream.ack) {
        (Storage::Memory, Ack::Memory) | (Storage::Disk, Ack::Append | Ack::Flush | Ack::Kafka) => {
        }
        (Storage::Memory, _) => {
            return refused("a topic in memory cannot promise that: it has sluice.ack=memory");
        }
        (Storage::Disk, Ack::Memory) => {
            return refused(
                "sluice.ack=memory promises nothing: it needs sluice.storage=memory, which is \
                 said when the topic is created",
            );
        }
    }
    if stream.compact && stream.storage == Storage::Memory {
        return refused("a topic in memory is not compacted");
    }
    if stream.compact && door.admin.facts.published.contains(&stream.name) {
        return refused(
            "a message.publish hook writes this topic and MQTT sessions point into it, so none of \
             it may be compacted away",
        );
    }
    stream.check().or_else(refused)
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn or_none(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".to_owned(), |value| value.to_string())
}

fn parsed<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: T::Err| error.to_string())
}

fn number(value: &str, least: i64, most: i64) -> Result<i64, String> {
    let number: i64 = parsed(value)?;
    if number < least {
        return Err(format!("value must be at least {least}"));
    }
    if number > most {
        return Err(format!("value must be no more than {most}"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_shown_can_be_set_and_is_shown_again() {
        for key in KEYS {
            let mut stream = StreamSettings::new("door");
            let shown = key.show(&stream);
            key.set(&mut stream, &shown).unwrap();
            assert_eq!(key.show(&stream), shown, "{}", key.name);
        }
        assert!(KEYS.is_sorted_by_key(|key| key.name));
    }

    #[test]
    fn values_are_checked_and_told() {
        let mut stream = StreamSettings::new("door");
        let mut set = |name: &str, value: &str| {
            let done = Key::named(name).and_then(|key| key.set(&mut stream, value));
            done.map_err(|refused| refused.words)
        };
        set("retention.ms", "1000").unwrap();
        set("cleanup.policy", "compact, delete").unwrap();
        set("segment.bytes", "1048576").unwrap();
        set("min.insync.replicas", "1").unwrap();
        set("min.cleanable.dirty.ratio", "0.01").unwrap();
        for (name, value, words) in [
            ("retention.ms", "-2", "at least -1"),
            ("retention.ms", "soon", "invalid digit"),
            ("segment.bytes", "1", "at least 4096"),
            ("segment.ms", "0", "at least 1"),
            ("cleanup.policy", "shred", "neither delete nor compact"),
            ("min.insync.replicas", "2", "always 1"),
            ("compression.type", "zstd", "as producers compress"),
            ("preallocate", "maybe", "`true` or `false`"),
            ("sluice.ack", "all", "none of memory"),
            ("retention.hours", "1", "Unknown topic config name"),
        ] {
            let said = set(name, value).unwrap_err();
            assert!(said.contains(words), "{name}={value}: {said}");
        }
        assert!(stream.compact && stream.delete);
        assert_eq!(stream.retention_ms, Some(1000));
    }

    #[test]
    fn words_are_added_to_a_list_and_taken_from_it() {
        let mut stream = StreamSettings::new("door");
        let policy = Key::named("cleanup.policy").unwrap();
        policy.change_list(&mut stream, "compact", true).unwrap();
        assert_eq!(policy.show(&stream), "compact,delete");
        policy.change_list(&mut stream, "delete", false).unwrap();
        assert_eq!(policy.show(&stream), "compact");
        let refused = Key::named("retention.ms")
            .unwrap()
            .change_list(&mut stream, "1", true)
            .unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidConfig);
    }
}
