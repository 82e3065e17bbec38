//! Apache Kafka's RecordBatch, version 2 of the message format, byte for byte: the one form in which
//! records lie on disk, travel on the wire and reach readers. Knows nothing of files or streams.

mod builder;
mod check;
mod compress;
mod control;
mod plain;
mod records;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;

pub use builder::BatchBuilder;
pub(crate) use builder::gap_batch;
pub use check::{BatchFault, Checked, Rules, check_batch, set_max_timestamp};
pub use compress::compress;
pub use control::{Marker, control_batch};
pub use plain::PlainRecords;
pub use records::{Headers, RecordView, Records};

use crate::limits::BATCH_BYTES_MAX;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes before what `batch_length` counts: base offset and the length itself.
const PREFIX_BYTES: usize = 12;
/// First byte that the checksum covers.
const CRC_START: usize = 21;
const MAGIC: u8 = 2;
/// Bits of the attributes that name the compression.
const COMPRESSION_BITS: i16 = 0x07;

/// What is wrong with a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end before the batch does.
    Short,
    /// The announced length is shorter than a header or longer than [`BATCH_BYTES_MAX`].
    Length(i32),
    /// Not message format version 2.
    Magic(u8),
    /// The checksum does not match.
    Crc {
        /// The checksum in the batch.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A negative offset, or offsets beyond 63 bits, or out of order.
    Offsets,
    /// The number of records does not fit the offsets or the bytes.
    Count,
    /// The records are compressed: [`BatchView::plain`] gives them.
    Compressed,
    /// The records are larger than allowed once they are decompressed.
    Inflates,
    /// A compression that does not exist.
    UnknownCompression(u8),
    /// A control batch where only records are allowed.
    Control,
    /// A record is malformed; says how.
    Record(&'static str),
}

impl BatchError {
    /// What is wrong, in words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Short => "record batch is cut off",
            Self::Length(_) => "record batch announces an impossible length",
            Self::Magic(_) => "not a record batch of version 2",
            Self::Crc { .. } => "checksum of the record batch does not match",
            Self::Offsets => "offsets of the record batch are impossible or out of order",
            Self::Count => "record count does not fit the record batch",
            Self::Compressed => "record batch is compressed",
            Self::Inflates => "records are too large once they are decompressed",
            Self::UnknownCompression(_) => "record batch has an unknown compression",
            Self::Control => "control batch is not allowed here",
            Self::Record(what) => what,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())?;
        match self {
            Self::Length(length) => write!(f, " ({length})"),
            Self::Magic(magic) => write!(f, " (magic byte {magic})"),
            Self::Crc { stored, computed } => write!(f, " ({stored:08x}, not {computed:08x})"),
            Self::UnknownCompression(code) => write!(f, " ({code})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for BatchError {}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    None = 0,
    /// gzip
    Gzip = 1,
    /// Snappy
    Snappy = 2,
    /// LZ4 frames
    Lz4 = 3,
    /// Zstandard
    Zstd = 4,
}

/// The first 61 bytes of a batch, checked for what can be checked without the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    base_offset: u64,
    length: i32,
    partition_leader_epoch: i32,
    crc: u32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
}

impl BatchHead {
    /// Reads the header at the front of `bytes`. The records need not be there: compare
    /// [`size_bytes`](Self::size_bytes) with what is.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        if let Some(&magic) = bytes.get(16)
            && magic != MAGIC
        {
            return Err(BatchError::Magic(magic));
        }
        let header = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(BatchError::Short)?;
        let head = Self {
            base_offset: u64::from_be_bytes(field(header, 0)),
            length: i32::from_be_bytes(field(header, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: i16::from_be_bytes(field(header, 21)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            count: i32::from_be_bytes(field(header, 57)),
        };
        head.check()?;
        Ok(head)
    }

    /// Offset of the first record, or where it was before compaction removed it.
    pub fn base_offset(&self) -> u64 {
        self.base_offset
    }

    /// Offset of the last record, or where it was before compaction removed it.
    pub fn last_offset(&self) -> u64 {
        self.base_offset + u64::from(self.last_offset_delta.unsigned_abs())
    }

    /// The offset behind this batch.
    pub fn next_offset(&self) -> u64 {
        self.last_offset() + 1
    }

    /// Last offset minus base offset.
    pub fn last_offset_delta(&self) -> u32 {
        self.last_offset_delta.unsigned_abs()
    }

    /// Number of records; fewer than offsets after compaction.
    pub fn count(&self) -> u32 {
        self.count.unsigned_abs()
    }

    /// Size of the whole batch with its header, in bytes; at least [`HEADER_BYTES`], at most
    /// [`BATCH_BYTES_MAX`].
    pub fn size_bytes(&self) -> usize {
        PREFIX_BYTES + self.length.unsigned_abs() as usize
    }

    /// Epoch of the leader that appended the batch.
    pub fn partition_leader_epoch(&self) -> i32 {
        self.partition_leader_epoch
    }

    /// The stored CRC-32C.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The attribute bits as stored.
    pub fn attributes(&self) -> i16 {
        self.attributes
    }

    /// Timestamp from which the records' deltas count, in ms since 1970.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// Greatest timestamp of the records, in ms since 1970; -1 when none has one.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Whether the broker's time of append replaces the records' own.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether the batch holds a transaction marker instead of records.
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// Id of an idempotent producer, -1 without.
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// Epoch of an idempotent producer, -1 without.
    pub fn producer_epoch(&self) -> i16 {
        self.producer_epoch
    }

    /// Sequence number of the first record, -1 without.
    pub fn base_sequence(&self) -> i32 {
        self.base_sequence
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        match self.attributes & COMPRESSION_BITS {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            code => Err(BatchError::UnknownCompression(code as u8)),
        }
    }

    fn check(&self) -> Result<(), BatchError> {
        let length_max = (BATCH_BYTES_MAX - PREFIX_BYTES) as i32;
        if self.length < (HEADER_BYTES - PREFIX_BYTES) as i32 || self.length > length_max {
            return Err(BatchError::Length(self.length));
        }
        let last = i64::try_from(self.base_offset)
            .ok()
            .and_then(|base| base.checked_add(i64::from(self.last_offset_delta)));
        if self.last_offset_delta < 0 || last.is_none_or(|last| last == i64::MAX) {
            return Err(BatchError::Offsets);
        }
        if self.count < 0 || i64::from(self.count) > i64::from(self.last_offset_delta) + 1 {
            return Err(BatchError::Count);
        }
        Ok(())
    }
}

/// A whole batch in borrowed bytes. Its header's fields are reached through [`BatchHead`].
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    head: BatchHead,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Reads the batch at the front of `bytes`; returns it and its size. The header is checked, the
    /// checksum and the records are not: see [`verify_crc`](Self::verify_crc) and
    /// [`records`](Self::records).
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, usize), BatchError> {
        let head = BatchHead::read(bytes)?;
        let size = head.size_bytes();
        let bytes = bytes.get(..size).ok_or(BatchError::Short)?;
        Ok((Self { head, bytes }, size))
    }

    /// The header, by value.
    pub fn head(&self) -> BatchHead {
        self.head
    }

    /// All bytes of the batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Compares the checksum with the bytes.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(&self.bytes[CRC_START..]);
        if computed == self.head.crc {
            Ok(())
        } else {
            Err(BatchError::Crc {
                stored: self.head.crc,
                computed,
            })
        }
    }

    /// The records. After the first error the iterator ends; a compressed batch gives only
    /// [`BatchError::Compressed`]. All that the header announces about records is held against the
    /// bytes on the way.
    pub fn records(&self) -> Records<'a> {
        Records::new(self.head, &self.bytes[HEADER_BYTES..])
    }

    /// The still compressed or plain bytes behind the header.
    pub fn record_bytes(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// What a batch of a client must fulfil before it may be appended: checksum, at least one
    /// record, one offset a record without gaps, no control batch, and, where it is not compressed,
    /// well-formed records.
    pub fn validate_produced(&self) -> Result<(), BatchError> {
        self.verify_crc()?;
        if self.is_control() {
            return Err(BatchError::Control);
        }
        if self.count() != self.last_offset_delta() + 1 {
            return Err(BatchError::Count);
        }
        if self.compression()? != Compression::None {
            return Ok(());
        }
        self.records().try_for_each(|record| record.map(|_| ()))
    }
}

impl Deref for BatchView<'_> {
    type Target = BatchHead;

    fn deref(&self) -> &BatchHead {
        &self.head
    }
}

/// The batches that lie one behind the other in `bytes`; ends after the first error.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// Iterator of [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = BatchView::parse(self.rest);
        self.rest = match &parsed {
            Ok((_, size)) => &self.rest[*size..],
            Err(_) => &[],
        };
        Some(parsed.map(|(batch, _)| batch))
    }
}

/// Writes the base offset into a batch; it lies outside the checksum.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn set_base_offset(batch: &mut [u8], offset: u64) {
    batch[..8].copy_from_slice(&offset.to_be_bytes());
}

/// Writes the partition leader epoch into a batch; it lies outside the checksum.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn set_leader_epoch(batch: &mut [u8], epoch: i32) {
    batch[12..16].copy_from_slice(&epoch.to_be_bytes());
}

/// CRC-32C (Castagnoli, iSCSI).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}
