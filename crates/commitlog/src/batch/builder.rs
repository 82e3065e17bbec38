//! Builds record batches. The hottest loop of a publish: one growing buffer, nothing is allocated for
//! a record, the checksum is made once a batch.

use super::{
    CRC_START, HEADER_BYTES, MAGIC, PREFIX_BYTES, crc32c, set_base_offset, set_leader_epoch,
};
use crate::limits::BATCH_BYTES_MAX;
use crate::varint;

/// A finished batch holds at most this part of its size in memory that it does not need.
const SLACK_PART: usize = 8;

/// A buffer of at most this size is kept for the next batch where a copy was handed out.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Collects records and makes one uncompressed batch of them; reusable.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    /// Empty, or room for the header and then the records.
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// Capacity for the next batch, learnt from the last ones.
    capacity_hint: usize,
}

impl BatchBuilder {
    /// An empty builder; allocates with the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record and returns its offset in the batch (0, 1, ...). `None` as value is a
    /// tombstone. Timestamps are ms since 1970 and need not rise.
    ///
    /// # Panics
    /// When the batch would grow beyond [`BATCH_BYTES_MAX`]; finish it before
    /// [`size_bytes`](Self::size_bytes) comes near.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], &[u8])],
    ) -> u32 {
        if self.count == 0 {
            self.begin(timestamp_ms);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let offset_delta = self.count;
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp);

        let mut length = 1
            + varint::len(timestamp_delta)
            + varint::len(i64::from(offset_delta))
            + field_len(key)
            + field_len(value)
            + varint::len(headers.len() as i64);
        for (name, value) in headers {
            length += field_len(Some(name)) + field_len(Some(value));
        }
        assert!(
            self.bytes.len() + length + varint::BYTES_MAX <= BATCH_BYTES_MAX,
            "a batch is finished before it reaches BATCH_BYTES_MAX"
        );
        self.bytes.reserve(length + varint::BYTES_MAX);

        // Length, attributes, timestamp, offset and the key's length go in by one copy.
        let mut front = [0; 4 * varint::BYTES_MAX + 1];
        let mut at = varint::put(&mut front, 0, length as i64);
        front[at] = 0;
        at = varint::put(&mut front, at + 1, timestamp_delta);
        at = varint::put(&mut front, at, i64::from(offset_delta));
        at = varint::put(&mut front, at, key.map_or(-1, |key| key.len() as i64));
        self.bytes.extend_from_slice(&front[..at]);
        self.bytes.extend_from_slice(key.unwrap_or_default());
        put_length(
            &mut self.bytes,
            value.map_or(-1, |value| value.len() as i64),
        );
        self.bytes.extend_from_slice(value.unwrap_or_default());
        put_length(&mut self.bytes, headers.len() as i64);
        for (name, value) in headers {
            put_length(&mut self.bytes, name.len() as i64);
            self.bytes.extend_from_slice(name);
            put_length(&mut self.bytes, value.len() as i64);
            self.bytes.extend_from_slice(value);
        }
        self.count += 1;
        offset_delta
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Size that the batch has by now, in bytes with its header; 0 while it is empty.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the records, keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Hands out the finished batch: base offset 0, leader epoch 0, no producer id, checksum made.
    /// The builder is empty afterwards.
    ///
    /// # Panics
    /// When there is no record: an empty batch has no place in a log.
    pub fn finish(&mut self) -> Vec<u8> {
        assert!(self.count > 0, "a batch has at least one record");
        let mut batch = std::mem::take(&mut self.bytes);
        let size = batch.len();
        batch[8..PREFIX_BYTES].copy_from_slice(&((size - PREFIX_BYTES) as i32).to_be_bytes());
        batch[16] = MAGIC;
        // Attributes stay 0: not compressed, the records' own time.
        batch[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        // Producer id, epoch and sequence: -1, none.
        batch[43..57].fill(0xff);
        batch[57..HEADER_BYTES].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c(&batch[CRC_START..]);
        batch[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
        self.count = 0;
        self.capacity_hint = size.max(self.capacity_hint - self.capacity_hint / 8);
        if batch.capacity() - size <= size / SLACK_PART {
            return batch;
        }
        // Caches and streams in memory keep it for long and count what it says. To give memory back
        // from its end would leave holes between batches; a copy of what is small leaves none.
        let exact = batch.as_slice().to_vec();
        if batch.capacity() <= KEPT_BYTES_MAX {
            batch.clear();
            self.bytes = batch;
        }
        exact
    }

    fn begin(&mut self, timestamp_ms: i64) {
        self.bytes.clear();
        self.bytes.reserve(self.capacity_hint);
        self.bytes.resize(HEADER_BYTES, 0);
        self.base_timestamp = timestamp_ms;
        self.max_timestamp = timestamp_ms;
    }
}

/// A batch without records that stands for the offsets from `from` to before `next`, as Apache Kafka's
/// compaction leaves them: who reads it goes on at `next`.
///
/// # Panics
/// When these are no offsets, or more than 31 bits can count.
pub(crate) fn gap_batch(from: u64, next: u64, epoch: i32) -> Vec<u8> {
    let delta = next.checked_sub(from + 1).map(i32::try_from);
    let delta = delta
        .expect("a gap has an offset")
        .expect("it fits a segment");
    let mut batch = vec![0; HEADER_BYTES];
    set_base_offset(&mut batch, from);
    set_leader_epoch(&mut batch, epoch);
    batch[8..PREFIX_BYTES].copy_from_slice(&((HEADER_BYTES - PREFIX_BYTES) as i32).to_be_bytes());
    batch[16] = MAGIC;
    batch[23..27].copy_from_slice(&delta.to_be_bytes());
    // No timestamps, and no producer's id, epoch and sequence: all -1.
    batch[27..57].fill(0xff);
    let crc = crc32c(&batch[CRC_START..]);
    batch[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[inline]
fn field_len(field: Option<&[u8]>) -> usize {
    match field {
        Some(bytes) => varint::len(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

#[inline]
fn put_length(bytes: &mut Vec<u8>, length: i64) {
    let mut number = [0; varint::BYTES_MAX];
    let end = varint::put(&mut number, 0, length);
    bytes.extend_from_slice(&number[..end]);
}
