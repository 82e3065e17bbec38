//! Journal entries: what a caller hands in, what it gets back, and the bytes between.
//! An entry is atomic across streams; nothing is known here of files or of parts of the journal.

use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use crate::fields::{Fields, Malformed, Put};
use crate::limits::GATHER_BYTES_MIN;
use crate::stream::{Ack, Lsn, PartitionId, Place, StreamSettings, decode_places, encode_places};

/// A record batch for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Where it goes.
    pub partition: PartitionId,
    /// One whole batch; base offset and leader epoch are patched when it is staged. It may be a part of a
    /// larger piece of memory, which it keeps for as long as it is in the tail cache.
    pub batch: BytesMut,
}

impl Append {
    /// Of a batch with memory of its own.
    pub fn new(partition: PartitionId, batch: Vec<u8>) -> Self {
        // Nobody else has it, so nothing is copied.
        let batch = BytesMut::from(Bytes::from(batch));
        Self { partition, batch }
    }
}

/// A change of what streams there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes a stream.
    CreateStream(StreamSettings),
    /// Deletes the stream of this name with all that it holds.
    DeleteStream(String),
    /// Gives the stream of this name new settings; partitions can be added, not removed, and the
    /// storage stays.
    AlterStream(StreamSettings),
    /// Moves the start of a partition up to `offset`.
    SetLogStart {
        /// The partition.
        partition: PartitionId,
        /// Its new first offset.
        offset: u64,
    },
    /// Changes nothing and is not journalled: somebody's answer waits until the entry is flushed,
    /// also where no stream in it asks for that. It has no answer in [`Staged::ops`].
    AwaitFlush,
}

/// One atomic entry of the journal: after a crash all of it is there or nothing.
/// Ops are carried out before the appends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Record batches.
    pub appends: Vec<Append>,
    /// Changes of streams.
    pub ops: Vec<Op>,
}

/// What became of a staged entry.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Its number. An entry that journals nothing (memory streams only, or all refused) has the
    /// number of the entry before it.
    pub lsn: Lsn,
    /// For each append its base offset, or why it was refused (the others stand).
    pub base_offsets: Vec<Result<u64, Refusal>>,
    /// For each append its batch as it was written; empty where refused.
    pub batches: Vec<Bytes>,
    /// For each op the new partitions (for a creation all of them), or why it was refused.
    pub ops: Vec<Result<Vec<PartitionId>, Refusal>>,
    /// The strictest level that the streams appended to ask for, or [`Op::AwaitFlush`].
    pub ack: Ack,
    /// Bytes that the entry takes in the journal, 0 if it journals nothing.
    pub journal_bytes: u64,
}

/// Why one append or op of an entry was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There is no such partition, or its stream was deleted.
    UnknownPartition,
    /// The bytes are not one whole record batch.
    MalformedBatch,
    /// A stream of that name exists.
    StreamExists,
    /// There is no stream of that name.
    UnknownStream,
    /// The settings cannot be: see [`StreamSettings::check`].
    InvalidSettings,
    /// The offset is not in the partition.
    OffsetOutOfRange,
    /// The batch does not follow the producer's last one, or a new epoch does not begin with
    /// sequence 0 (KIP-98).
    OutOfOrderSequence,
    /// The producer has a newer epoch: this one is fenced.
    InvalidProducerEpoch,
    /// The batch is there already: it was sent again. Not a failure.
    DuplicateSequence {
        /// The offset that its first record got.
        base_offset: u64,
    },
    /// A batch outside of a transaction from a producer that has one open in the partition.
    InvalidTxnState,
    /// A marker from a transaction coordinator that was replaced by a newer one.
    CoordinatorFenced,
    /// The partition, or the node, remembers as many producers as it may, and each has a transaction
    /// open.
    TooManyProducers,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UnknownPartition => "there is no such partition",
            Self::MalformedBatch => "the record batch is malformed",
            Self::StreamExists => "a stream of that name exists",
            Self::UnknownStream => "there is no stream of that name",
            Self::InvalidSettings => "the stream settings are invalid",
            Self::OffsetOutOfRange => "the offset is not in the partition",
            Self::OutOfOrderSequence => "the batch does not follow the producer's last one",
            Self::InvalidProducerEpoch => "the producer has a newer epoch",
            Self::DuplicateSequence { .. } => "the batch is there already",
            Self::InvalidTxnState => "the producer has a transaction open",
            Self::CoordinatorFenced => "the transaction coordinator was replaced",
            Self::TooManyProducers => "too many transactions are open",
        })
    }
}

/// An op as it is journalled: with the partition numbers that were given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JournalOp {
    Create {
        settings: StreamSettings,
        places: Vec<Place>,
    },
    Delete {
        name: String,
    },
    /// `places` are the added partitions only.
    Alter {
        settings: StreamSettings,
        places: Vec<Place>,
    },
    LogStart {
        partition: PartitionId,
        offset: u64,
    },
}

impl JournalOp {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create { settings, places } => {
                out.put_u8(1);
                settings.encode(out);
                encode_places(places, out);
            }
            Self::Delete { name } => {
                out.put_u8(2);
                out.put_bytes(name.as_bytes());
            }
            Self::Alter { settings, places } => {
                out.put_u8(3);
                settings.encode(out);
                encode_places(places, out);
            }
            Self::LogStart { partition, offset } => {
                out.put_u8(4);
                out.put_u32(*partition);
                out.put_u64(*offset);
            }
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(match fields.u8()? {
            1 => Self::Create {
                settings: StreamSettings::decode(fields)?,
                places: decode_places(fields)?,
            },
            2 => Self::Delete {
                name: fields.text()?.to_owned(),
            },
            3 => Self::Alter {
                settings: StreamSettings::decode(fields)?,
                places: decode_places(fields)?,
            },
            4 => Self::LogStart {
                partition: fields.u32()?,
                offset: fields.u64()?,
            },
            _ => return Err("an operation is of an unknown kind"),
        })
    }
}

/// Head of an entry, little endian:
///
/// ```text
///  0 magic "SLJE"      4 format version (2)   6 flags (2): 1 foreign
///  8 generation of the part                   16 sequence (Lsn)
/// 24 flushed position known when written      32 time, ms since 1970
/// 40 bytes of the body                        44 CRC-32C of bytes 0..44 and the body
/// ```
///
/// The body follows, then zeros up to the next multiple of [`ENTRY_ALIGN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHead {
    pub(crate) generation: u64,
    pub(crate) lsn: Lsn,
    pub(crate) flushed: Lsn,
    pub(crate) time_ms: u64,
    /// Not of those whose state is a function of the journal.
    pub(crate) foreign: bool,
    pub(crate) body_bytes: u32,
    pub(crate) crc: u32,
}

pub(crate) const ENTRY_HEAD_BYTES: usize = 48;
pub(crate) const ENTRY_ALIGN: u64 = 8;
pub(crate) const ENTRY_MAGIC: [u8; 4] = *b"SLJE";
const ENTRY_VERSION: u16 = 1;
const CRC_AT: usize = 44;

impl EntryHead {
    fn encode(&self) -> [u8; ENTRY_HEAD_BYTES] {
        let mut head = [0; ENTRY_HEAD_BYTES];
        head[0..4].copy_from_slice(&ENTRY_MAGIC);
        head[4..6].copy_from_slice(&ENTRY_VERSION.to_le_bytes());
        head[6..8].copy_from_slice(&u16::from(self.foreign).to_le_bytes());
        head[8..16].copy_from_slice(&self.generation.to_le_bytes());
        head[16..24].copy_from_slice(&self.lsn.to_le_bytes());
        head[24..32].copy_from_slice(&self.flushed.to_le_bytes());
        head[32..40].copy_from_slice(&self.time_ms.to_le_bytes());
        head[40..44].copy_from_slice(&self.body_bytes.to_le_bytes());
        head[44..48].copy_from_slice(&self.crc.to_le_bytes());
        head
    }

    /// Reads a head; says nothing yet about the CRC.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        if fields.array::<4>()? != ENTRY_MAGIC {
            return Err("no entry begins here");
        }
        if fields.u16()? != ENTRY_VERSION {
            return Err("the entry has an unknown format version");
        }
        let flags = fields.u16()?;
        Ok(Self {
            foreign: flags & 1 != 0,
            generation: fields.u64()?,
            lsn: fields.u64()?,
            flushed: fields.u64()?,
            time_ms: fields.u64()?,
            body_bytes: fields.u32()?,
            crc: fields.u32()?,
        })
    }

    /// Bytes from this entry's first to the next entry's first.
    pub(crate) fn stride(&self) -> u64 {
        stride(u64::from(self.body_bytes))
    }

    /// Whether head and body are what was written. `bytes` begins with the head.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        let end = ENTRY_HEAD_BYTES + self.body_bytes as usize;
        if end > bytes.len() {
            return false;
        }
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&bytes[..CRC_AT]);
        digest.update(&bytes[ENTRY_HEAD_BYTES..end]);
        digest.finalize() as u32 == self.crc
    }
}

/// Bytes that an entry with such a body takes.
pub(crate) fn stride(body_bytes: u64) -> u64 {
    (ENTRY_HEAD_BYTES as u64 + body_bytes).next_multiple_of(ENTRY_ALIGN)
}

/// Encoded ops of an entry, and how many.
#[derive(Default)]
pub(crate) struct OpBytes {
    count: u32,
    bytes: Vec<u8>,
}

impl OpBytes {
    pub(crate) fn push(&mut self, op: &JournalOp) {
        op.encode(&mut self.bytes);
        self.count += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Bytes of a body that holds such ops and batches of these sizes.
pub(crate) fn body_bytes(ops: &OpBytes, batch_sizes: impl Iterator<Item = usize>) -> u64 {
    let batches: u64 = batch_sizes
        .map(|size| APPEND_HEAD_BYTES + size as u64)
        .sum();
    BODY_HEAD_BYTES + ops.bytes.len() as u64 + batches
}

const BODY_HEAD_BYTES: u64 = 8;
const APPEND_HEAD_BYTES: u64 = 8;

/// Bytes to be written one behind the other: small ones copied together, large ones shared.
#[derive(Default)]
pub(crate) struct Gather {
    copied: Vec<u8>,
    pieces: Vec<Piece>,
}

enum Piece {
    Copied { start: usize, end: usize },
    Shared(Bytes),
}

impl Gather {
    pub(crate) fn clear(&mut self) {
        self.copied.clear();
        self.pieces.clear();
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        let start = self.copied.len();
        self.copied.extend_from_slice(bytes);
        self.note(start);
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        let start = self.copied.len();
        self.copied.resize(start + count, 0);
        self.note(start);
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < GATHER_BYTES_MIN {
            self.copy(bytes);
        } else {
            self.pieces.push(Piece::Shared(bytes.clone()));
        }
    }

    fn note(&mut self, start: usize) {
        let end = self.copied.len();
        match self.pieces.last_mut() {
            Some(Piece::Copied { end: before, .. }) if *before == start => *before = end,
            _ => self.pieces.push(Piece::Copied { start, end }),
        }
    }

    pub(crate) fn slices(&self) -> Vec<&[u8]> {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Copied { start, end } => &self.copied[*start..*end],
                Piece::Shared(bytes) => &bytes[..],
            })
            .collect()
    }

    /// Adds an entry; returns the bytes that it takes.
    pub(crate) fn entry(
        &mut self,
        mut head: EntryHead,
        ops: &OpBytes,
        appends: &[(PartitionId, Bytes)],
    ) -> u64 {
        let body = body_bytes(ops, appends.iter().map(|(_, batch)| batch.len()));
        head.body_bytes = u32::try_from(body).expect("an entry fits in a part of the journal");
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&head.encode()[..CRC_AT]);
        let count = u32::try_from(appends.len()).expect("an entry fits in a part of the journal");
        let mut lead = Vec::with_capacity(BODY_HEAD_BYTES as usize + ops.bytes.len());
        lead.put_u32(ops.count);
        lead.put_u32(count);
        lead.extend_from_slice(&ops.bytes);
        digest.update(&lead);
        let head_at = self.copied.len();
        self.copy(&head.encode());
        self.copy(&lead);
        for (partition, batch) in appends {
            let mut lead = [0; APPEND_HEAD_BYTES as usize];
            lead[0..4].copy_from_slice(&partition.to_le_bytes());
            lead[4..8].copy_from_slice(&(batch.len() as u32).to_le_bytes());
            digest.update(&lead);
            digest.update(batch);
            self.copy(&lead);
            self.share(batch);
        }
        head.crc = digest.finalize() as u32;
        self.copied[head_at..head_at + ENTRY_HEAD_BYTES].copy_from_slice(&head.encode());
        let stride = head.stride();
        self.zeros((stride - ENTRY_HEAD_BYTES as u64 - body) as usize);
        stride
    }
}

/// The body of an entry, read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryBody {
    pub(crate) ops: Vec<JournalOp>,
    pub(crate) appends: Vec<(PartitionId, Bytes)>,
}

impl EntryBody {
    /// `body` is shared by the batches, not copied.
    pub(crate) fn decode(body: &Bytes) -> Result<Self, Malformed> {
        let mut fields = Fields::new(body);
        let ops_count = fields.u32()?;
        let appends_count = fields.u32()?;
        let mut decoded = Self::default();
        for _ in 0..ops_count {
            decoded.ops.push(JournalOp::decode(&mut fields)?);
        }
        for _ in 0..appends_count {
            let partition = fields.u32()?;
            let batch = fields.bytes()?;
            decoded.appends.push((partition, body.slice_ref(batch)));
        }
        if !fields.is_empty() {
            return Err("the entry's body is longer than what it holds");
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> EntryHead {
        EntryHead {
            generation: 3,
            lsn: 9,
            flushed: 7,
            time_ms: 1234,
            foreign: true,
            body_bytes: 0,
            crc: 0,
        }
    }

    fn written(ops: &[JournalOp], appends: &[(PartitionId, Bytes)]) -> Vec<u8> {
        let mut op_bytes = OpBytes::default();
        for op in ops {
            op_bytes.push(op);
        }
        let mut gather = Gather::default();
        let stride = gather.entry(head(), &op_bytes, appends);
        let bytes = gather.slices().concat();
        assert_eq!(bytes.len() as u64, stride);
        assert_eq!(stride % ENTRY_ALIGN, 0);
        bytes
    }

    #[test]
    fn an_entry_comes_back_as_it_was_written() {
        let ops = vec![
            JournalOp::Create {
                settings: StreamSettings::new("s"),
                places: vec![Place { id: 4, suffix: 0 }],
            },
            JournalOp::LogStart {
                partition: 4,
                offset: 77,
            },
            JournalOp::Delete { name: "t".into() },
        ];
        let appends = vec![
            (4, Bytes::from(vec![1; 13])),
            (5, Bytes::from(vec![2; GATHER_BYTES_MIN + 3])),
        ];
        let bytes = written(&ops, &appends);
        let head = EntryHead::decode(&bytes).unwrap();
        assert_eq!(
            (head.generation, head.lsn, head.flushed, head.time_ms),
            (3, 9, 7, 1234)
        );
        assert!(head.foreign);
        assert!(head.matches(&bytes));
        let end = ENTRY_HEAD_BYTES + head.body_bytes as usize;
        let body = EntryBody::decode(&Bytes::from(bytes).slice(ENTRY_HEAD_BYTES..end)).unwrap();
        assert_eq!(body, EntryBody { ops, appends });
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = written(&[], &[(1, Bytes::from_static(b"some batch"))]);
        let used = ENTRY_HEAD_BYTES + EntryHead::decode(&bytes).unwrap().body_bytes as usize;
        for at in 0..used {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            let noticed = EntryHead::decode(&changed).is_ok_and(|head| !head.matches(&changed));
            assert!(noticed || EntryHead::decode(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_body_that_announces_too_much_is_refused() {
        let mut body = Vec::new();
        body.put_u32(0);
        body.put_u32(u32::MAX);
        assert!(EntryBody::decode(&Bytes::from(body)).is_err());
    }
}
