//! What a batch of a Kafka producer must fulfil before it may be appended. It is judged as it came
//! and stored as it came; who sent it and where it goes is not known here.

use std::fmt;

use super::{BatchError, BatchView, COMPRESSION_BITS, CRC_START, crc32c};
use crate::limits::{BATCH_BYTES_MAX, DECOMPRESSED_BYTES_MAX};

/// Bounds that a stream sets for the batches of producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Largest batch as it came, in bytes with its header.
    pub batch_bytes_max: usize,
    /// Most bytes of its records once they are decompressed.
    pub decompressed_bytes_max: usize,
    /// Every record must have a key, as on compacted streams.
    pub needs_key: bool,
    /// Oldest timestamp of a record, ms since 1970. A record without one (-1) always passes.
    pub timestamp_ms_min: i64,
    /// Newest timestamp of a record, ms since 1970.
    pub timestamp_ms_max: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            batch_bytes_max: BATCH_BYTES_MAX,
            decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
            needs_key: false,
            timestamp_ms_min: i64::MIN,
            timestamp_ms_max: i64::MAX,
        }
    }
}

/// A batch that may be appended.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// The batch.
    pub batch: BatchView<'a>,
    /// Greatest timestamp of its records. Where the header says another, mend it by
    /// [`set_max_timestamp`] before the batch is staged: searches by time believe the header.
    pub max_timestamp: i64,
}

/// Why a batch is not taken; beside it the error of the Kafka protocol that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFault {
    /// Larger than the stream takes (MESSAGE_TOO_LARGE).
    TooLarge,
    /// Damaged on its way (CORRUPT_MESSAGE).
    Corrupt(BatchError),
    /// Not what a producer may send (INVALID_RECORD).
    Invalid(BatchError),
    /// A message format before version 2 (UNSUPPORTED_FOR_MESSAGE_FORMAT).
    UnsupportedFormat(u8),
    /// A compression that does not exist (UNSUPPORTED_COMPRESSION_TYPE).
    UnsupportedCompression,
    /// The records are larger than allowed once they are decompressed (MESSAGE_TOO_LARGE).
    Bomb,
    /// The time of append is the broker's to set (INVALID_TIMESTAMP).
    TimestampType,
    /// The record is too old, or from the future (INVALID_TIMESTAMP).
    Timestamp {
        /// Which record, from 0.
        index: u32,
    },
    /// The record has no key, and the stream is compacted (INVALID_RECORD).
    NoKey {
        /// Which record, from 0.
        index: u32,
    },
}

impl fmt::Display for BatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the record batch is larger than the stream takes"),
            Self::Corrupt(error) | Self::Invalid(error) => error.fmt(f),
            Self::UnsupportedFormat(magic) => {
                write!(f, "message format {magic} is not served, only 2 is")
            }
            Self::UnsupportedCompression => f.write_str("the compression is unknown"),
            Self::Bomb => f.write_str("the records are too large once they are decompressed"),
            Self::TimestampType => f.write_str("a producer must not set the time of append"),
            Self::Timestamp { index } => {
                write!(f, "the timestamp of record {index} is out of range")
            }
            Self::NoKey { index } => {
                write!(
                    f,
                    "record {index} has no key, which a compacted stream needs"
                )
            }
        }
    }
}

impl std::error::Error for BatchFault {}

/// Judges the one batch that `bytes` must be. Nothing is changed; memory is used only for
/// compressed records, within the rules' bound.
pub fn check_batch<'a>(bytes: &'a [u8], rules: &Rules) -> Result<Checked<'a>, BatchFault> {
    let (batch, size) = BatchView::parse(bytes).map_err(|error| match error {
        BatchError::Magic(magic) if magic < 2 => BatchFault::UnsupportedFormat(magic),
        BatchError::Count | BatchError::Offsets => BatchFault::Invalid(error),
        _ => BatchFault::Corrupt(error),
    })?;
    if size > rules.batch_bytes_max {
        return Err(BatchFault::TooLarge);
    }
    if size != bytes.len() {
        let what = "a producer sends one record batch for a partition";
        return Err(BatchFault::Invalid(BatchError::Record(what)));
    }
    batch.verify_crc().map_err(BatchFault::Corrupt)?;
    check_head(&batch)?;
    let max_timestamp = check_records(&batch, rules)?;
    Ok(Checked {
        batch,
        max_timestamp,
    })
}

fn check_head(batch: &BatchView<'_>) -> Result<(), BatchFault> {
    let invalid = |what| Err(BatchFault::Invalid(BatchError::Record(what)));
    if batch.is_control() {
        return Err(BatchFault::Invalid(BatchError::Control));
    }
    if batch.is_log_append_time() {
        return Err(BatchFault::TimestampType);
    }
    if batch.base_offset() != 0 {
        return Err(BatchFault::Invalid(BatchError::Offsets));
    }
    // Without gaps: offsets are given out by the number of records.
    if batch.count() == 0 || batch.count() != batch.last_offset_delta() + 1 {
        return Err(BatchFault::Invalid(BatchError::Count));
    }
    if batch.producer_id() >= 0 {
        if batch.producer_epoch() < 0 || batch.base_sequence() < 0 {
            return invalid("a producer's epoch and sequence are not negative");
        }
    } else if batch.is_transactional() {
        return invalid("a transaction needs a producer id");
    }
    Ok(())
}

/// Walks through the records; the greatest of their timestamps.
fn check_records(batch: &BatchView<'_>, rules: &Rules) -> Result<i64, BatchFault> {
    let plain = batch
        .plain(rules.decompressed_bytes_max)
        .map_err(|error| match error {
            BatchError::Inflates => BatchFault::Bomb,
            BatchError::UnknownCompression(_) => BatchFault::UnsupportedCompression,
            _ if batch.attributes() & COMPRESSION_BITS != 0 => BatchFault::Corrupt(error),
            _ => BatchFault::Invalid(error),
        })?;
    let mut max_timestamp = NO_TIMESTAMP;
    for (index, record) in (0..).zip(&plain) {
        let record = record.map_err(BatchFault::Invalid)?;
        let timestamp_ms = record.timestamp_ms;
        if timestamp_ms != NO_TIMESTAMP
            && !(rules.timestamp_ms_min..=rules.timestamp_ms_max).contains(&timestamp_ms)
        {
            return Err(BatchFault::Timestamp { index });
        }
        if timestamp_ms < NO_TIMESTAMP {
            return Err(BatchFault::Timestamp { index });
        }
        if rules.needs_key && record.key.is_none() {
            return Err(BatchFault::NoKey { index });
        }
        max_timestamp = max_timestamp.max(timestamp_ms);
    }
    Ok(max_timestamp)
}

/// A record that has no timestamp.
const NO_TIMESTAMP: i64 = -1;

/// Writes the greatest timestamp into a batch and makes its checksum anew.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn set_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    batch[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
    let crc = crc32c(&batch[CRC_START..]);
    batch[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests;
