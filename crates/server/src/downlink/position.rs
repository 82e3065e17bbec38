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

    /// Whether a downlink has found its places in its source once: that of the first partition is
    /// kept last, so that a start which was cut short is begun anew.
    pub fn knows(&self, downlink: &DownlinkSettings) -> bool {
        let first = key(downlink, 0, None);
        self.known.keys().any(|key| key.starts_with(&first))
    }
}

/// The key of a partition: by its number in the source, and of a stream of this node also by what
/// tells it from one of the same name that was deleted.
pub fn key(downlink: &DownlinkSettings, partition: u32, id: Option<PartitionId>) -> Box<[u8]> {
    let mut key = head(downlink);
    key.extend_from_slice(&partition.to_be_bytes());
    key.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    key.into()
}

fn head(downlink: &DownlinkSettings) -> Vec<u8> {
    let kind = match downlink.source {
        DownlinkSource::Stream(_) => b's',
        DownlinkSource::Topic(_) => b't',
    };
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
}
