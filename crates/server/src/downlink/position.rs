//! Positions of downlinks in the table of the log: under which key, and what the table says at the
//! start. What is read from there on is decided elsewhere.

use std::collections::HashMap;

use anyhow::Context as _;
use broker::downlink::read_position;
use commitlog::{LogReader, PartitionId, table};

use crate::node::DOWNLINKS;
use crate::settings::{DownlinkSettings, DownlinkSource};

/// Ends a text in a key; no name holds it.
const END: u8 = 0;

/// The positions as the last run left them.
pub struct Positions {
    /// The table.
    pub table: PartitionId,
    known: HashMap<Box<[u8]>, u64>,
}

impl Positions {
    /// Reads the table.
    pub fn load(log: &LogReader) -> anyhow::Result<Self> {
        let stream = log
            .stream(DOWNLINKS)
            .with_context(|| format!("there is no stream {DOWNLINKS}"))?;
        let table = *stream
            .partitions
            .first()
            .with_context(|| format!("{DOWNLINKS} has no partition"))?;
        let mut known = HashMap::new();
        table::load(log, table, None, |row| {
            if let Some(position) = read_position(row.value) {
                known.insert(row.key.into(), position);
            }
        })
        .with_context(|| format!("cannot read {DOWNLINKS}"))?;
        Ok(Self { table, known })
    }

    /// The position under a key.
    pub fn get(&self, key: &[u8]) -> Option<u64> {
        self.known.get(key).copied()
    }

    /// Whether a downlink has found its places in its source once: as [`opening`] says that of the
    /// first partition is kept last, so that a start which was cut short is begun anew.
    pub fn knows(&self, downlink: &DownlinkSettings) -> bool {
        let first = key(downlink, 0, None);
        self.known.keys().any(|key| key.starts_with(&first))
    }
}

/// The order in which the places of so many partitions are found and kept.
pub fn opening(partitions: u32) -> impl Iterator<Item = u32> {
    (0..partitions).rev()
}

/// The key under which it is kept which topic of a name was read: it may be deleted and made anew.
#[cfg(feature = "kafka")]
pub fn topic_key(downlink: &DownlinkSettings) -> Box<[u8]> {
    head(downlink, b'i').into()
}

/// The key of a partition: by its number in the source, and of a stream of this node also by what
/// tells it from one of the same name that was deleted.
pub fn key(downlink: &DownlinkSettings, partition: u32, id: Option<PartitionId>) -> Box<[u8]> {
    let kind = match downlink.source {
        DownlinkSource::Stream(_) => b's',
        DownlinkSource::Topic(_) => b't',
    };
    let mut key = head(downlink, kind);
    key.extend_from_slice(&partition.to_be_bytes());
    key.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    key.into()
}

fn head(downlink: &DownlinkSettings, kind: u8) -> Vec<u8> {
    let mut head = downlink.name.clone().into_bytes();
    head.extend([END, kind]);
    head.extend_from_slice(downlink.source.name().as_bytes());
    head.push(END);
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::MirrorStart;

    fn downlink(name: &str, source: DownlinkSource) -> DownlinkSettings {
        DownlinkSettings {
            name: name.to_owned(),
            source,
            topic: "devices/{key}".to_owned(),
            qos: 1,
            retain: false,
            expiry_s: None,
            dead_letter: "dead".to_owned(),
            start: MirrorStart::End,
            group: "g".to_owned(),
        }
    }

    #[test]
    fn no_two_partitions_of_no_two_downlinks_have_one_key() {
        let stream = |name: &str| DownlinkSource::Stream(name.to_owned());
        let topic = DownlinkSource::Topic("s".to_owned());
        let keys = [
            key(&downlink("a", stream("s")), 0, Some(7)),
            key(&downlink("a", stream("s")), 0, Some(8)),
            key(&downlink("a", stream("s")), 1, Some(7)),
            key(&downlink("a", stream("t")), 0, Some(7)),
            key(&downlink("a", topic.clone()), 0, None),
            key(&downlink("b", topic), 0, None),
        ];
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }
    #[test]
    fn a_first_start_that_was_cut_short_is_still_the_first() {
        for source in [
            DownlinkSource::Topic("s".to_owned()),
            DownlinkSource::Stream("s".to_owned()),
        ] {
            let downlink = downlink("a", source);
            let id = |partition| match downlink.source {
                DownlinkSource::Stream(_) => Some(70 + partition),
                DownlinkSource::Topic(_) => None,
            };
            let mut positions = Positions {
                table: 1,
                known: HashMap::new(),
            };
            assert_eq!(opening(3).count(), 3);
            for partition in opening(3) {
                assert!(!positions.knows(&downlink), "before {partition}");
                let key = key(&downlink, partition, id(partition));
                positions.known.insert(key, 5);
            }
            assert!(positions.knows(&downlink));
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn which_topic_it_was_is_no_place_in_it() {
        let downlink = downlink("a", DownlinkSource::Topic("s".to_owned()));
        let known = HashMap::from([(topic_key(&downlink), 5)]);
        let positions = Positions { table: 1, known };
        assert!(!positions.knows(&downlink));
        assert_eq!(positions.get(&key(&downlink, 0, None)), None);
    }
}
