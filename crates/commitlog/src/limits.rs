//! Bounds of everything that is sized by what a peer or a file announces.

/// Largest record batch that the log takes or believes when it reads a file, in bytes.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// Most bytes of the records of one batch once they are decompressed: what producers may send, and
/// what readers are ready to hold.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// A sparse index gets an entry each time more than this many bytes of batches went by (Apache
/// Kafka's `index.interval.bytes`).
pub const INDEX_INTERVAL_BYTES: u64 = 4096;

/// Largest segment: positions are 31-bit in Apache Kafka's index.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// Most entries that are read from a leader-epoch-checkpoint file.
pub const EPOCHS_MAX: usize = 100_000;

/// Stretches of unreadable bytes that a start with accepted loss tells of; more are filled in untold.
pub const UNREADABLE_TOLD_MAX: usize = 1000;

const _: () = assert!((BATCH_BYTES_MAX as u64) < SEGMENT_BYTES_MAX);

/// Smallest segment that a stream may ask for, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;

/// Segment size of a stream that says nothing, in bytes.
pub const SEGMENT_BYTES_DEFAULT: u64 = 128 << 20;

/// Longest name of a stream, in bytes (as Kafka's).
pub const STREAM_NAME_BYTES_MAX: usize = 249;

/// Most partitions of one stream.
pub const PARTITIONS_A_STREAM_MAX: u32 = 10_000;

/// Stretches of a partition that are known never to be mirrored; of more the first are forgotten,
/// which whoever waits has long heard of.
pub const UNMIRRORED_MAX: usize = 1024;

/// Size of one part of the journal, in bytes, unless it is configured.
pub const JOURNAL_PART_BYTES_DEFAULT: u64 = 32 << 20;

/// Smallest part of the journal, in bytes.
pub const JOURNAL_PART_BYTES_MIN: u64 = 16 << 10;

/// Largest part of the journal, in bytes: a part is read into memory as a whole by recovery.
pub const JOURNAL_PART_BYTES_MAX: u64 = 1 << 30;

/// Size of all parts of the journal together, in bytes, unless it is configured.
pub const JOURNAL_BYTES_DEFAULT: u64 = 512 << 20;

/// Bytes of batches kept in memory for readers at the tail, unless it is configured.
pub const TAIL_BYTES_DEFAULT: u64 = 16 << 20;

/// What one batch in the tail costs beside its bytes.
pub const TAIL_BATCH_OVERHEAD_BYTES: u64 = 128;

/// Free space that appends leave alone, in bytes, unless it is configured.
pub const RESERVE_BYTES_DEFAULT: u64 = 64 << 20;

/// Time until a journal part that could not be made is tried again, in milliseconds.
pub const PREPARE_RETRY_MS: u64 = 10_000;

/// Time until a compaction that failed is tried again, in milliseconds.
pub const COMPACTION_RETRY_MS: u64 = 600_000;

/// Free space is asked for again after so many appended bytes.
pub const PROBE_BYTES: u64 = 4 << 20;

/// Free space is asked for again after so many milliseconds.
pub const PROBE_MS: u64 = 1000;

/// The same while the disk is full, so that it heals soon.
pub const PROBE_FULL_MS: u64 = 100;

/// Bytes that a memory stream keeps for each partition when its settings name no bound.
pub const MEMORY_PARTITION_BYTES_DEFAULT: u64 = 8 << 20;

/// What one batch in a memory stream costs beside its bytes; it counts against that bound, so that
/// many small batches do not take several times as much.
pub const MEMORY_BATCH_OVERHEAD_BYTES: u64 = 256;

/// Largest catalogue that is written, in bytes.
pub const CATALOGUE_BYTES_MAX: u64 = 256 << 20;

/// Largest catalogue that is read, in bytes: before there was a bound on the producers of all
/// partitions together, larger ones were written. A start forgets what is beyond that bound.
pub const CATALOGUE_READ_BYTES_MAX: u64 = 1 << 30;

/// Bytes of keys that one run of compaction holds in memory.
pub const COMPACTION_KEYS_BYTES_MAX: usize = 64 << 20;

/// Age after which compaction drops a tombstone, in milliseconds.
pub const DELETE_RETENTION_MS: u64 = 24 * 3600 * 1000;

/// Producers that a partition remembers at most, for duplicates and transactions.
pub const PRODUCERS_A_PARTITION_MAX: usize = 4096;

/// Producers that all partitions together remember at most, unless it is configured.
pub const PRODUCERS_MAX: usize = 128 << 10;

/// Most bytes that one of them takes in the catalogue.
pub const PRODUCER_BYTES_MAX: usize = 32 + 16 * BATCHES_A_PRODUCER;

/// Batches of each producer that are known again when they are sent again (Kafka's
/// `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub const BATCHES_A_PRODUCER: usize = 5;

/// A producer is forgotten after so many milliseconds (Kafka's `producer.id.expiration.ms`),
/// unless it is configured.
pub const PRODUCER_EXPIRY_MS_DEFAULT: u64 = 24 * 3600 * 1000;

/// Bytes of a partition that gather in memory before they are written to its segment, unless it is
/// configured. They are in the journal and in the tail cache.
pub const GATHERED_BYTES_DEFAULT: u64 = 256 << 10;

/// A write of so many bytes to a segment finds space that was reserved for it and more.
pub const RESERVE_FROM_BYTES: u64 = 64 << 10;

/// Space that is reserved behind such a write at least, and in pieces of so many bytes; what is left of
/// it is given back when the segment is closed.
pub const RESERVED_AHEAD_BYTES: u64 = 8 << 20;

/// Free space below which nothing is reserved, in bytes: however many partitions have some, so much is left
/// for what all others write.
pub const RESERVE_FREE_BYTES_MIN: u64 = 8 << 30;

/// Partitions whose gathered bytes are written in one call of [`crate::Log::write_gathered`].
pub const GATHERED_WRITES_MAX: usize = 64;

/// Batches up to this size are copied beside their entry's header instead of being gathered.
pub const GATHER_BYTES_MIN: usize = 2048;

const _: () = assert!((PRODUCERS_MAX * PRODUCER_BYTES_MAX) as u64 <= CATALOGUE_BYTES_MAX / 8);
const _: () = assert!(CATALOGUE_BYTES_MAX <= CATALOGUE_READ_BYTES_MAX);
const _: () = assert!(PRODUCERS_A_PARTITION_MAX <= PRODUCERS_MAX);
const _: () = assert!(SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
const _: () = assert!(JOURNAL_PART_BYTES_DEFAULT <= JOURNAL_PART_BYTES_MAX);
const _: () = assert!(RESERVED_AHEAD_BYTES * 16 <= RESERVE_FREE_BYTES_MIN);
const _: () = assert!(RESERVE_FROM_BYTES <= GATHERED_BYTES_DEFAULT);
const _: () = assert!(GATHERED_BYTES_DEFAULT * 4 <= TAIL_BYTES_DEFAULT);
const _: () = assert!(JOURNAL_BYTES_DEFAULT >= 2 * JOURNAL_PART_BYTES_DEFAULT);
const _: () = assert!(PROBE_BYTES * 4 <= RESERVE_BYTES_DEFAULT);
