//! The bounds of the Kafka front door that are not settings.

use std::time::Duration;

/// Records held in memory by Fetch responses on their way, of all connections together, in KiB.
pub(super) const FETCH_MEMORY_KIB_MAX: u32 = 256 * 1024;

/// What of the free memory one response takes at most, as a divisor: readers that stall take ever
/// less of it, and leave some to others.
pub(super) const FETCH_SHARE_DIVISOR: usize = 8;

/// What a response may take of it however little is free, in KiB.
pub(super) const FETCH_SHARE_KIB_MIN: usize = 256;

/// How long a fetch waits for memory at least, also where it does not wait for records. Then it is
/// answered without any, and asks again.
pub(super) const FETCH_MEMORY_WAIT: Duration = Duration::from_secs(1);

/// What of a fetch's own bound is taken, in bytes: a response is built whole, and a connection that
/// reads slowly holds it.
pub(super) const FETCH_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Partitions of a fetch that are looked for in files there and then, where those lie in the page
/// cache: with more of them others would have to wait for their turn.
pub(super) const FETCH_AT_ONCE_MAX: usize = 32;

/// Time for the first request to arrive whole.
pub(super) const FIRST_REQUEST_MAX: Duration = Duration::from_secs(30);

/// Time for a request to arrive whole once its first byte is there.
pub(super) const REQUEST_MAX: Duration = Duration::from_mins(1);

/// Time in which a peer takes at least one byte of its answer.
pub(super) const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// What a peer takes of an answer on average, beyond [`WRITE_STALL_MAX`], in bytes a second: an
/// answer holds memory that others wait for.
pub(super) const ANSWER_BYTES_PER_S_MIN: usize = 256 * 1024;

/// What is read from a socket at once, in bytes, and what of a request is held without a share of
/// [`REQUEST_MEMORY_KIB_MAX`].
pub(super) const READ_BYTES: usize = 8 * 1024;

/// The same of a connection whose requests are large, in bytes.
pub(super) const BUSY_READ_BYTES: usize = 64 * 1024;

/// A batch stays in the memory into which it was read if its request makes up so much of that, as a
/// divisor: so much more than they count for may batches in the tail cache hold.
pub(super) const SHARED_READ_DIVISOR: usize = 8;

/// A connection that appends is busy, and may be given a low-water mark, once it was looked at so
/// often within [`MODERATED_WINDOW`].
pub(super) const MODERATED_LOOKS_MIN: u32 = 10;

/// See [`MODERATED_LOOKS_MIN`].
pub(super) const MODERATED_WINDOW: Duration = Duration::from_millis(10);

/// Smallest low-water mark of a busy connection, in bytes.
pub(super) const MARK_BYTES_MIN: usize = 4 * 1024;

/// Largest low-water mark of a busy connection, in bytes: producers send five requests of 16 KiB and
/// more before they wait for an answer (decision 0013).
pub(super) const MARK_BYTES_MAX: usize = 96 * 1024;

/// Looks at a busy connection that its sender was in time for, after which its mark is doubled.
pub(super) const MARK_GROWTH_LOOKS: u32 = 8;

/// How long a low-water mark is waited for: what came is taken then. The clock of the runtime may
/// add as much.
pub(super) const MARK_PATIENCE: Duration = Duration::from_millis(1);

/// So many times in a row a low-water mark is waited for in vain before it falls.
pub(super) const MARK_STALLS: u32 = 4;

/// After a low-water mark has fallen it does not rise for so long.
pub(super) const MARK_PAUSE: Duration = Duration::from_secs(1);

/// After a request that does not append no low-water mark is raised for so long.
pub(super) const UNMODERATED_AFTER_ANOTHER: Duration = Duration::from_millis(100);

/// Requests held in memory until they are answered, of all connections together, in KiB: when the
/// disk is slow no more is read. One request more may be, so that some request always goes on.
pub(super) const REQUEST_MEMORY_KIB_MAX: u32 = 128 * 1024;

/// What a request takes of that memory, as a multiple of what has come of it: that it announces
/// much takes nothing from others.
pub(super) const REQUEST_SHARE_GROWTH: usize = 4;

/// Requests of one connection that are begun and not answered, in bytes; one request more may be.
pub(super) const OUTSTANDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Answers that a connection keeps room for, so that it need not allocate for each.
pub(super) const KEPT_ANSWERS: usize = 4;

/// What is kept of the name of a client's software and of its version, in bytes each.
pub(super) const SOFTWARE_NAME_BYTES_MAX: usize = 64;

/// Largest batch of a topic that says nothing, in bytes (Kafka's `message.max.bytes`).
pub(super) const MESSAGE_BYTES_MAX: u32 = 1_048_588;

/// How far a timestamp may lie in the future where the topic says nothing, in milliseconds (Kafka's
/// `message.timestamp.after.max.ms`).
pub(super) const TIMESTAMP_AFTER_MS_MAX: u64 = 3_600_000;

/// Most partitions of a topic that is created over Kafka.
pub(super) const TOPIC_PARTITIONS_MAX: i32 = 1024;

/// Most partitions in one answer of DescribeTopicPartitions, as in Apache Kafka
/// (`max.request.partition.size.limit`).
pub(super) const DESCRIBED_PARTITIONS_MAX: i32 = 2000;

/// What of a file is sent at once, in bytes: in between others have their turn.
pub(super) const SEND_BYTES: usize = 1024 * 1024;

/// Slices of a response that are handed to the system at once.
pub(super) const WRITE_SLICES: usize = 64;

/// Time in which a client logs in, where it must.
pub(super) const LOGIN_MAX: Duration = Duration::from_secs(30);

/// Principals and client ids whose use of a quota is remembered.
pub(super) const QUOTA_BUCKETS_MAX: usize = 10_000;

/// What of a principal's name or client id tells it apart for a quota, in bytes.
pub(super) const QUOTA_NAME_BYTES_MAX: usize = 256;

/// Longest pause of a connection that is over its quota; clients wait 30 s and more for an answer.
pub(super) const THROTTLE_MAX: Duration = Duration::from_secs(10);

/// This node among brokers: the only one, and the controller.
pub(super) const NODE_ID: i32 = 1;

/// Committed offsets that go to the log in one batch, in bytes: a batch is closed once it is larger.
pub(super) const OFFSETS_BATCH_BYTES: usize = 256 * 1024;

/// Committed offsets that go to the log in one entry, in bytes: beyond it another entry is begun, so
/// that none outgrows a part of the journal.
pub(super) const OFFSETS_ENTRY_BYTES: usize = 4 * 1024 * 1024;

/// Batches of one Produce request that go to the log in one entry, in bytes: beyond it another
/// entry is begun, so that none outgrows a part of the journal.
pub(super) const PRODUCE_ENTRY_BYTES: usize = 4 * 1024 * 1024;

/// Longest transactional id, in bytes; Apache Kafka writes it with a 16-bit length.
pub(super) const TRANSACTIONAL_ID_BYTES_MAX: usize = 1024;

/// How long a producer waits for producer ids that are being reserved.
pub(super) const PRODUCER_IDS_WAIT: Duration = Duration::from_secs(5);

/// How often the clock of transactions looks whether it is still needed while nothing is due.
pub(super) const TXN_CLOCK_IDLE: Duration = Duration::from_secs(10);

/// How often the group clock looks whether it is still needed while nothing is due.
pub(super) const GROUP_CLOCK_IDLE: Duration = Duration::from_secs(10);

/// Time between two searches for committed offsets that nobody needs any more.
pub(super) const OFFSETS_SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Offsets that one such search drops; the others wait for the next.
pub(super) const OFFSETS_SWEPT_MAX: usize = 10_000;

/// Members and offsets at which a page of groups ends.
pub(super) const GROUP_PAGE_ROWS_MAX: usize = 20_000;

/// Partitions of groups whose lag `/metrics` tells.
pub(super) const LAG_METRICS_MAX: usize = 1_000;

// A response can always be built, whoever else holds memory.
const _: () = assert!(FETCH_BYTES_MAX / 1024 <= FETCH_MEMORY_KIB_MAX);
const _: () = assert!(FETCH_SHARE_KIB_MIN <= FETCH_MEMORY_KIB_MAX as usize);
