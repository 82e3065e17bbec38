//! Tables: the latest value of each key of a compacted partition, as it is loaded at start. What
//! keys and values mean is known to those who own the table.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use bytes::Bytes;

use crate::batch::{BatchError, Compression, batches};
use crate::error::ReadError;
use crate::reader::LogReader;
use crate::stream::{PartitionId, STREAMS_DIR};

/// The latest record of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its offset.
    pub offset: u64,
    /// Its timestamp, ms since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: &'a [u8],
    /// The value; records of tables begin it with their format version.
    pub value: &'a [u8],
}

/// Visits every record of a partition with an offset below `up_to` (all that is appended without
/// it), in order, tombstones too (`None`). Returns the offset up to which it read.
///
/// Records without a key and compressed batches are not a table's and are left out.
pub fn scan(
    reader: &LogReader,
    partition: PartitionId,
    from: u64,
    up_to: Option<u64>,
    mut visit: impl FnMut(u64, i64, &[u8], Option<&[u8]>),
) -> Result<u64, ReadError> {
    scan_shared(
        reader,
        partition,
        from,
        up_to,
        |_, offset, timestamp_ms, key, value| {
            visit(offset, timestamp_ms, key, value);
        },
    )
}

/// Visits the latest value of each key among the offsets below `up_to`, in the order of the
/// offsets; deleted keys are left out. Returns the offset up to which it read.
pub fn load(
    reader: &LogReader,
    partition: PartitionId,
    up_to: Option<u64>,
    mut visit: impl FnMut(Row<'_>),
) -> Result<u64, ReadError> {
    let mut latest: HashMap<Bytes, Latest, Hasher> = HashMap::default();
    let end = scan_shared(
        reader,
        partition,
        0,
        up_to,
        |bytes, offset, timestamp_ms, key, value| {
            let key = bytes.slice_ref(key);
            match value {
                Some(value) => {
                    let value = bytes.slice_ref(value);
                    latest.insert(
                        key,
                        Latest {
                            offset,
                            timestamp_ms,
                            value,
                        },
                    );
                }
                None => {
                    latest.remove(&key);
                }
            }
        },
    )?;
    let mut rows: Vec<(Bytes, Latest)> = latest.into_iter().collect();
    rows.sort_unstable_by_key(|(_, latest)| latest.offset);
    for (key, latest) in &rows {
        visit(Row {
            offset: latest.offset,
            timestamp_ms: latest.timestamp_ms,
            key,
            value: &latest.value,
        });
    }
    Ok(end)
}

/// Without a random seed: a start is deterministic. The order of keys is never visible.
type Hasher = BuildHasherDefault<DefaultHasher>;

struct Latest {
    offset: u64,
    timestamp_ms: i64,
    value: Bytes,
}

fn scan_shared(
    reader: &LogReader,
    partition: PartitionId,
    from: u64,
    up_to: Option<u64>,
    mut visit: impl FnMut(&Bytes, u64, i64, &[u8], Option<&[u8]>),
) -> Result<u64, ReadError> {
    let Some(marks) = reader.watermarks(partition) else {
        return Err(ReadError::UnknownPartition { partition });
    };
    let end = up_to.unwrap_or(u64::MAX).min(marks.appended);
    let start = from.max(marks.log_start);
    let mut offset = start;
    while offset < end {
        // A batch may go on beyond `end`, so the reader is not asked to stop there.
        let found = reader.read(partition, offset, READ_BYTES, u64::MAX)?;
        if found.is_empty() {
            break;
        }
        for bytes in found {
            for batch in batches(&bytes) {
                let batch = batch.map_err(|what| bad_batch(reader, partition, offset, what))?;
                let base_offset = batch.base_offset();
                offset = batch.next_offset();
                if batch.is_control() || !matches!(batch.compression(), Ok(Compression::None)) {
                    continue;
                }
                for record in batch.records() {
                    let record =
                        record.map_err(|what| bad_batch(reader, partition, base_offset, what))?;
                    let wanted = (start..end).contains(&record.offset);
                    if let Some(key) = record.key.filter(|_| wanted) {
                        visit(
                            &bytes,
                            record.offset,
                            record.timestamp_ms,
                            key,
                            record.value,
                        );
                    }
                }
            }
        }
    }
    Ok(end)
}

fn bad_batch(
    reader: &LogReader,
    partition: PartitionId,
    offset: u64,
    what: BatchError,
) -> ReadError {
    let meta = reader.partition(partition);
    let name = meta.map_or_else(String::new, |meta| {
        format!("{}-{}", meta.stream, meta.index)
    });
    ReadError::Corrupt {
        path: format!("{STREAMS_DIR}/{name}"),
        position: 0,
        what: format!("the batch at offset {offset}: {what}").into(),
    }
}

const READ_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::disk::MemoryDisk;
    use crate::entry::{Append, Entry};
    use crate::log::tests::open;
    use crate::stream::StreamSettings;

    fn loaded(reader: &LogReader, up_to: Option<u64>) -> (u64, Vec<(u64, String, String)>) {
        let mut rows = Vec::new();
        let end = load(reader, 1, up_to, |row| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            rows.push((row.offset, text(row.key), text(row.value)));
        });
        (end.unwrap(), rows)
    }

    #[test]
    fn the_latest_value_of_each_key_is_loaded_up_to_an_offset() {
        let disk = MemoryDisk::new();
        let mut log = open(&disk);
        log.create_stream(StreamSettings::new("t"), 0).unwrap();
        let records: [(&[u8], Option<&[u8]>); 5] = [
            (b"a", Some(b"1")),
            (b"b", Some(b"2")),
            (b"a", Some(b"3")),
            (b"b", None),
            (b"c", Some(b"4")),
        ];
        let mut builder = BatchBuilder::new();
        for (key, value) in records {
            builder.push(5, Some(key), value, &[]);
        }
        let appends = vec![Append::new(1, builder.finish())];
        log.stage(
            Entry {
                appends,
                ops: Vec::new(),
            },
            0,
        )
        .unwrap();
        log.write().unwrap();
        let reader = log.reader();
        let row = |offset, key: &str, value: &str| (offset, key.to_owned(), value.to_owned());
        assert_eq!(
            loaded(&reader, None),
            (5, vec![row(2, "a", "3"), row(4, "c", "4")])
        );
        assert_eq!(
            loaded(&reader, Some(2)),
            (2, vec![row(0, "a", "1"), row(1, "b", "2")])
        );
        assert_eq!(loaded(&reader, Some(0)), (0, Vec::new()));
        let mut tombstones = 0;
        scan(&reader, 1, 2, None, |_, _, _, value| {
            tombstones += u32::from(value.is_none());
        })
        .unwrap();
        assert_eq!(tombstones, 1);
    }
}
