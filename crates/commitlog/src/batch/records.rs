//! Reads the records of an uncompressed batch. Whatever the bytes are, reading ends, stays inside
//! them and allocates nothing.

#![expect(
    clippy::inline_always,
    reason = "all records of all Kafka producers are walked through: 10 ns each instead of 17"
)]

use super::{BatchError, BatchHead, COMPRESSION_BITS};
use crate::varint;

/// A record in borrowed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset in the partition (in a batch that was not appended yet: from 0).
    pub offset: u64,
    /// ms since 1970; the batch's when that has the time of append.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    header_bytes: &'a [u8],
    header_count: usize,
}

impl<'a> RecordView<'a> {
    /// The headers in their order.
    pub fn headers(&self) -> Headers<'a> {
        Headers {
            rest: self.header_bytes,
            left: self.header_count,
        }
    }

    /// Value of the first header of that name, if there is one with a value.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.headers()
            .find(|(found, _)| *found == name)
            .and_then(|(_, value)| value)
    }
}

/// Headers of a record: name and value.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // The record was walked through when it was read, so this cannot fail.
        take_header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

/// Iterator over the records of a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    head: BatchHead,
    rest: &'a [u8],
    left: u32,
    /// Smallest offset delta that the next record may have.
    next_delta: i64,
    done: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(head: BatchHead, bytes: &'a [u8]) -> Self {
        Self {
            head,
            rest: bytes,
            left: head.count(),
            next_delta: 0,
            done: false,
        }
    }

    #[inline(always)]
    fn step(&mut self) -> Result<Option<RecordView<'a>>, BatchError> {
        if self.head.attributes & COMPRESSION_BITS != 0 {
            self.head.compression()?;
            return Err(BatchError::Compressed);
        }
        if self.left == 0 {
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(BatchError::Count)
            };
        }
        if self.rest.is_empty() {
            return Err(BatchError::Count);
        }
        self.left -= 1;
        let length = take_length(&mut self.rest, "record length is malformed")?
            .ok_or(BatchError::Record("record has a negative length"))?;
        let (record, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(BatchError::Record("record is longer than its batch"))?;
        self.rest = rest;
        self.read(record).map(Some)
    }

    #[inline(always)]
    fn read(&mut self, record: &'a [u8]) -> Result<RecordView<'a>, BatchError> {
        const CUT: BatchError = BatchError::Record("record is cut off");
        let (_attributes, mut rest) = record.split_first().ok_or(CUT)?;
        let timestamp_delta = varint::take_long(&mut rest).ok_or(CUT)?;
        let delta = i64::from(varint::take(&mut rest).ok_or(CUT)?);
        if delta < self.next_delta || delta > i64::from(self.head.last_offset_delta()) {
            return Err(BatchError::Offsets);
        }
        self.next_delta = delta + 1;
        let key = take_field(&mut rest, "record key is longer than its record")?;
        let value = take_field(&mut rest, "record value is longer than its record")?;
        let count = take_length(&mut rest, "header count is malformed")?
            .ok_or(BatchError::Record("record has a negative header count"))?;
        let header_bytes = rest;
        for _ in 0..count {
            take_header(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(BatchError::Record("record has bytes behind its end"));
        }
        let timestamp_ms = if self.head.is_log_append_time() {
            self.head.max_timestamp()
        } else {
            self.head.base_timestamp().wrapping_add(timestamp_delta)
        };
        let offset = self.head.base_offset() + delta.unsigned_abs();
        Ok(RecordView {
            offset,
            timestamp_ms,
            key,
            value,
            header_bytes,
            header_count: count,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let record = self.step().transpose();
        self.done = !matches!(record, Some(Ok(_)));
        record
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize + 1))
    }
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), BatchError> {
    let name = take_field(rest, "header name is longer than its record")?
        .ok_or(BatchError::Record("header has no name"))?;
    let value = take_field(rest, "header value is longer than its record")?;
    Ok((name, value))
}

/// A length and that many bytes; length -1 is absence.
#[inline(always)]
fn take_field<'a>(
    rest: &mut &'a [u8],
    too_long: &'static str,
) -> Result<Option<&'a [u8]>, BatchError> {
    let Some(length) = take_length(rest, "length in a record is malformed")? else {
        return Ok(None);
    };
    let (field, behind) = rest
        .split_at_checked(length)
        .ok_or(BatchError::Record(too_long))?;
    *rest = behind;
    Ok(Some(field))
}

/// A length; `None` for -1. Less than that is malformed.
#[inline(always)]
fn take_length(rest: &mut &[u8], malformed: &'static str) -> Result<Option<usize>, BatchError> {
    match varint::take(rest) {
        Some(-1) => Ok(None),
        Some(length) => usize::try_from(length)
            .map(Some)
            .map_err(|_| BatchError::Record(malformed)),
        None => Err(BatchError::Record(malformed)),
    }
}
