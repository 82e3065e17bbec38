//! Streams and their settings, and how the settings are written in journal and catalogue.
//! A stream is what Kafka calls a topic: a named set of partitions.

use crate::fields::{Fields, Malformed, Put};
use crate::limits;

/// Number of a partition in the whole node; never used again after its stream was deleted.
pub type PartitionId = u32;

/// Position in the journal: number of an entry, counted from 1 without a gap, never reused.
pub type Lsn = u64;

/// What must have happened to a message before its publisher gets an answer.
/// Ordered from the weakest to the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ack {
    /// Nothing is kept.
    Memory,
    /// In the page cache of the operating system: survives `kill -9`.
    #[default]
    Append,
    /// `fdatasync` done: survives a power cut.
    Flush,
    /// All in-sync replicas of the Apache Kafka cluster behind have it.
    Kafka,
}

/// Where the batches of a stream live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Journalled and kept in segments.
    #[default]
    Disk,
    /// In memory only: not journalled, empty after a restart.
    Memory,
}

/// What is said about a stream when it is created or altered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// Name: 1 to 249 of `a-z A-Z 0-9 . _ -`, as Kafka's topics.
    pub name: String,
    /// Number of partitions, at least 1; it can grow, never shrink.
    pub partitions: u32,
    /// When a publisher is answered.
    pub ack: Ack,
    /// Whether age and size drop old segments (Kafka's `cleanup.policy` has `delete`); the hard
    /// bound `size_max_bytes` holds anyway.
    pub delete: bool,
    /// Age at which a segment is dropped; none keeps for ever.
    pub retention_ms: Option<u64>,
    /// Size of a partition beyond which its oldest segments are dropped, unless pinned.
    pub retention_bytes: Option<u64>,
    /// Size of a partition beyond which its oldest segments are dropped, even if pinned.
    pub size_max_bytes: Option<u64>,
    /// Whether only the latest record of each key is kept.
    pub compact: bool,
    /// Disk or memory.
    pub storage: Storage,
    /// Size at which a segment is closed and the next begun.
    pub segment_bytes: u64,
    /// Age at which a segment is closed; without it retention and compaction decide.
    pub segment_ms: Option<u64>,
    /// Largest batch that a producer may send, in bytes; none leaves it to the node.
    pub message_bytes_max: Option<u32>,
    /// Age at which compaction drops a tombstone; none means [`limits::DELETE_RETENTION_MS`].
    pub delete_retention_ms: Option<u64>,
    /// Age that a record must have before compaction looks at its segment.
    pub compaction_lag_ms_min: Option<u64>,
    /// How far a producer's timestamp may lie in the past; checked by those who take its batches.
    pub timestamp_before_ms_max: Option<u64>,
    /// How far it may lie in the future; checked by the same.
    pub timestamp_after_ms_max: Option<u64>,
    /// Whether the stream belongs to the node itself (`__sluice.*`).
    pub internal: bool,
    /// Kafka's topic id (KIP-516), random, given by whoever creates the stream.
    pub topic_id: [u8; 16],
}

impl StreamSettings {
    /// A stream on disk with the usual settings: one partition, ack `append`, kept for ever.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: 1,
            ack: Ack::Append,
            delete: true,
            retention_ms: None,
            retention_bytes: None,
            size_max_bytes: None,
            compact: false,
            storage: Storage::Disk,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            segment_ms: None,
            message_bytes_max: None,
            delete_retention_ms: None,
            compaction_lag_ms_min: None,
            timestamp_before_ms_max: None,
            timestamp_after_ms_max: None,
            internal: false,
            topic_id: [0; 16],
        }
    }

    /// Says what is wrong with the settings.
    pub fn check(&self) -> Result<(), &'static str> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if self.name.is_empty() || self.name.len() > limits::STREAM_NAME_BYTES_MAX {
            return Err("a stream's name has 1 to 249 characters");
        }
        if !self.name.bytes().all(legal) || self.name == "." || self.name == ".." {
            return Err("a stream's name is made of letters, digits, '.', '_' and '-'");
        }
        if self.partitions == 0 || self.partitions > limits::PARTITIONS_A_STREAM_MAX {
            return Err("a stream has 1 to 10000 partitions");
        }
        if !(limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err("segment_bytes is out of bounds");
        }
        if self.segment_ms == Some(0) {
            return Err("segment_ms is at least 1");
        }
        Ok(())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(SETTINGS_VERSION);
        out.put_bytes(self.name.as_bytes());
        out.put_u32(self.partitions);
        out.put_u8(match self.ack {
            Ack::Memory => 0,
            Ack::Append => 1,
            Ack::Flush => 2,
            Ack::Kafka => 3,
        });
        out.put_option(self.retention_ms);
        out.put_option(self.retention_bytes);
        out.put_option(self.size_max_bytes);
        out.put_u8(u8::from(self.compact));
        out.put_u8(u8::from(self.storage == Storage::Memory));
        out.put_u64(self.segment_bytes);
        out.put_u8(u8::from(self.internal));
        out.extend_from_slice(&self.topic_id);
        out.put_u8(u8::from(self.delete));
        out.put_option(self.segment_ms);
        out.put_option(self.message_bytes_max.map(u64::from));
        out.put_option(self.delete_retention_ms);
        out.put_option(self.compaction_lag_ms_min);
        out.put_option(self.timestamp_before_ms_max);
        out.put_option(self.timestamp_after_ms_max);
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let version = fields.u8()?;
        if !(1..=SETTINGS_VERSION).contains(&version) {
            return Err("the stream settings have an unknown format version");
        }
        let mut settings = Self {
            name: fields.text()?.to_owned(),
            partitions: fields.u32()?,
            ack: match fields.u8()? {
                0 => Ack::Memory,
                1 => Ack::Append,
                2 => Ack::Flush,
                3 => Ack::Kafka,
                _ => return Err("an ack level is unknown"),
            },
            retention_ms: fields.option()?,
            retention_bytes: fields.option()?,
            size_max_bytes: fields.option()?,
            compact: fields.bool()?,
            storage: if fields.bool()? {
                Storage::Memory
            } else {
                Storage::Disk
            },
            segment_bytes: fields.u64()?,
            internal: fields.bool()?,
            topic_id: fields.array()?,
            ..Self::new("")
        };
        if version >= 2 {
            settings.delete = fields.bool()?;
            settings.segment_ms = fields.option()?;
            settings.message_bytes_max = fields
                .option()?
                .map(u32::try_from)
                .transpose()
                .map_err(|_| "message_bytes_max is out of bounds")?;
            settings.delete_retention_ms = fields.option()?;
            settings.compaction_lag_ms_min = fields.option()?;
            settings.timestamp_before_ms_max = fields.option()?;
            settings.timestamp_after_ms_max = fields.option()?;
        }
        settings.check()?;
        Ok(settings)
    }
}

/// A partition's number and the name of its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: PartitionId,
    /// 0, or a number that keeps the folder apart from a deleted one of the same name.
    pub(crate) suffix: u32,
}

impl Place {
    /// Folder of partition `index` of stream `name`, as Kafka names it, below the data directory.
    pub(crate) fn dir(self, name: &str, index: usize) -> String {
        if self.suffix == 0 {
            format!("{STREAMS_DIR}/{name}-{index}")
        } else {
            format!("{STREAMS_DIR}/{name}-{index}.{}", self.suffix)
        }
    }
}

pub(crate) fn encode_places(places: &[Place], out: &mut Vec<u8>) {
    out.put_u32(u32::try_from(places.len()).expect("partitions are bounded"));
    for place in places {
        out.put_u32(place.id);
        out.put_u32(place.suffix);
    }
}

pub(crate) fn decode_places(fields: &mut Fields<'_>) -> Result<Vec<Place>, Malformed> {
    let count = fields.u32()?;
    let mut places = Vec::new();
    for _ in 0..count {
        places.push(Place {
            id: fields.u32()?,
            suffix: fields.u32()?,
        });
    }
    Ok(places)
}

/// The folder that holds the partitions.
pub(crate) const STREAMS_DIR: &str = "streams";

/// Version 2 has what Kafka's topics can be told beside version 1.
const SETTINGS_VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_as_they_were_written() {
        let mut settings = StreamSettings::new("message_state");
        settings.partitions = 4;
        settings.ack = Ack::Flush;
        settings.retention_ms = Some(86_400_000);
        settings.size_max_bytes = Some(1 << 40);
        settings.compact = true;
        settings.topic_id = [9; 16];
        settings.delete = false;
        settings.segment_ms = Some(1);
        settings.message_bytes_max = Some(2);
        settings.delete_retention_ms = Some(3);
        settings.compaction_lag_ms_min = Some(4);
        settings.timestamp_before_ms_max = Some(5);
        settings.timestamp_after_ms_max = Some(6);
        let mut bytes = Vec::new();
        settings.encode(&mut bytes);
        assert_eq!(
            StreamSettings::decode(&mut Fields::new(&bytes)),
            Ok(settings)
        );
    }

    /// Bytes that the first release wrote.
    #[test]
    fn settings_of_version_1_are_read() {
        let mut bytes = vec![1, 1, 0, 0, 0, b's', 4, 0, 0, 0, 2];
        bytes.extend([1, 0x10, 0x27, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0; 9]);
        bytes.extend([0; 9]);
        bytes.extend([1, 0]);
        bytes.extend([0, 0, 1, 0, 0, 0, 0, 0]);
        bytes.extend([1]);
        bytes.extend([9; 16]);
        let mut expected = StreamSettings::new("s");
        expected.partitions = 4;
        expected.ack = Ack::Flush;
        expected.retention_ms = Some(10_000);
        expected.compact = true;
        expected.segment_bytes = 65_536;
        expected.internal = true;
        expected.topic_id = [9; 16];
        let mut fields = Fields::new(&bytes);
        assert_eq!(StreamSettings::decode(&mut fields), Ok(expected));
        assert!(fields.is_empty());
        bytes[0] = 3;
        StreamSettings::decode(&mut Fields::new(&bytes)).unwrap_err();
    }

    #[test]
    fn bad_settings_are_named() {
        let check = |change: fn(&mut StreamSettings)| {
            let mut settings = StreamSettings::new("s");
            change(&mut settings);
            settings.check().unwrap_err()
        };
        assert!(check(|s| s.name = String::new()).contains("1 to 249"));
        assert!(check(|s| s.name = "a/b".into()).contains("letters"));
        assert!(check(|s| s.name = "..".into()).contains("letters"));
        assert!(check(|s| s.partitions = 0).contains("partitions"));
        assert!(check(|s| s.segment_bytes = 1).contains("segment_bytes"));
    }

    #[test]
    fn ack_levels_are_ordered() {
        assert!(Ack::Memory < Ack::Append && Ack::Append < Ack::Flush && Ack::Flush < Ack::Kafka);
    }
}
