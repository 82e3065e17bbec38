//! Records that the cluster will never take go to a stream of this node, with the reason and their
//! place in headers. Why a record is refused is decided elsewhere.

use commitlog::{Append, BatchBuilder, Entry, PartitionId, RecordView};

/// Where a record came from and where it should have gone.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Its stream.
    pub stream: &'a str,
    /// Its partition's number.
    pub partition: u32,
    /// The topic that refused it.
    pub topic: &'a str,
    /// Why, in words.
    pub reason: &'a str,
}

/// The entry that puts a record into the partition of the dead-letter stream: key, value, time and
/// headers as they were, behind them `sluice.stream`, `sluice.partition`, `sluice.offset`,
/// `sluice.topic` and `sluice.reason`.
pub fn entry(into: PartitionId, record: &RecordView<'_>, origin: Origin<'_>) -> Entry {
    let (partition, offset) = (origin.partition.to_string(), record.offset.to_string());
    let mut headers: Vec<(&[u8], &[u8])> = record
        .headers()
        .map(|(name, value)| (name, value.unwrap_or_default()))
        .collect();
    headers.extend([
        (&b"sluice.stream"[..], origin.stream.as_bytes()),
        (b"sluice.partition", partition.as_bytes()),
        (b"sluice.offset", offset.as_bytes()),
        (b"sluice.topic", origin.topic.as_bytes()),
        (b"sluice.reason", origin.reason.as_bytes()),
    ]);
    let mut batch = BatchBuilder::new();
    batch.push(record.timestamp_ms, record.key, record.value, &headers);
    Entry {
        appends: vec![append(into, batch.finish())],
        ops: Vec::new(),
    }
}

fn append(partition: PartitionId, batch: Vec<u8>) -> Append {
    Append::new(partition, batch)
}

#[cfg(test)]
mod tests {
    use commitlog::BatchView;

    use super::*;

    #[test]
    fn a_dead_letter_is_the_record_and_its_story() {
        let mut batch = BatchBuilder::new();
        batch.push(7, Some(b"lock"), Some(b"v"), &[(b"a", b"b")]);
        let bytes = batch.finish();
        let (view, _) = BatchView::parse(&bytes).unwrap();
        let record = view.records().next().unwrap().unwrap();
        let origin = Origin {
            stream: "s",
            partition: 3,
            topic: "t",
            reason: "too large",
        };
        let entry = entry(9, &record, origin);
        assert_eq!((entry.appends.len(), entry.appends[0].partition), (1, 9));
        let (view, _) = BatchView::parse(&entry.appends[0].batch).unwrap();
        let record = view.records().next().unwrap().unwrap();
        assert_eq!((record.timestamp_ms, record.key), (7, Some(&b"lock"[..])));
        assert_eq!(record.value, Some(&b"v"[..]));
        for (name, value) in [
            ("a", "b"),
            ("sluice.stream", "s"),
            ("sluice.partition", "3"),
            ("sluice.offset", "0"),
            ("sluice.topic", "t"),
            ("sluice.reason", "too large"),
        ] {
            let found = record.header(name.as_bytes());
            assert_eq!(found, Some(value.as_bytes()), "{name}");
        }
    }
}
