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
            retention_ms: None,
            retention_bytes: None,
            size_max_bytes: None,
            compact: false,
            storage: Storage::Disk,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
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
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        if fields.u8()? != SETTINGS_VERSION {
            return Err("the stream settings have an unknown format version");
        }
        let settings = Self {
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
        };
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

const SETTINGS_VERSION: u8 = 1;

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
        let mut bytes = Vec::new();
        settings.encode(&mut bytes);
        assert_eq!(
            StreamSettings::decode(&mut Fields::new(&bytes)),
            Ok(settings)
        );
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
