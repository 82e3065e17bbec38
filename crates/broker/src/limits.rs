//! Bounds of everything in this crate that the network feeds. Each says what happens beyond it.

use commitlog::limits::BATCH_BYTES_MAX;

/// Levels of a topic filter; a deeper one is refused when it is subscribed to. Topics may be
/// deeper: only as many levels as a filter can name are ever compared.
pub const FILTER_LEVELS_MAX: usize = 128;

/// Bytes of appended batches and side array at which a worker ends its turn. One message is never
/// split, so a turn may exceed this by the last message put into it.
pub const TURN_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a turn at which a shard goes on in the next one with what it does by itself: snapshots,
/// what the log refused, deliveries that are given up.
pub const STEP_BYTES: usize = 512 * 1024;

/// Owed messages that one session gives up in one record.
pub const GIVEN_UP_MAX: usize = 4_096;

/// Weight (one a topic and one a match) that a cache from topics to matches may hold; half of it
/// is dropped at once when it is full.
pub const TOPIC_CACHE_WEIGHT_MAX: usize = 32 * 1024;

/// Topics longer than this, in bytes, are matched anew each time instead of being cached, so that
/// a cache cannot be filled with long strings.
pub const TOPIC_CACHE_TOPIC_BYTES_MAX: usize = 256;

/// Topics whose placement one worker remembers, for each event.
pub const PLACEMENT_CACHE_WEIGHT_MAX: usize = 16 * 1024;

/// Bytes of messages in the answer to one read; positions beyond them are asked for again. One
/// message is answered whatever its size.
pub const READ_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Retained messages of a node; a PUBLISH that would add one beyond it is refused with reason
/// code 0x97 (quota exceeded). Operators may set less.
pub const RETAINED_MAX: usize = 10_000_000;

/// Payload bytes in one page of a search after which the page ends.
pub const RETAINED_PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Retained messages that one page of a search returns at most.
pub const RETAINED_PAGE_MAX: usize = 1_000;

/// Topics that one page of a search looks at, at most, before it gives the lock back.
pub const RETAINED_STEPS_MAX: usize = 16_384;

/// Largest packet that an operator may allow, in bytes. A record is at most seven times as large
/// (a `plain` payload full of control characters, and its raw bytes beside it), and a record must
/// fit into a batch.
pub const PACKET_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// Bytes at which a batch is closed and the next begun within one turn; reached only by large
/// messages that several hooks send to one partition.
pub const BATCH_CUT_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of wills and of records of events that a shard keeps while the log refuses them; what does
/// not fit is counted and lost.
pub const LOST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Filters of one SUBSCRIBE that are looked at; those behind are refused with 0x97.
pub const SUBSCRIBE_FILTERS_MAX: usize = 10_000;

/// Topics and filters of one packet that the host is asked about; what is beyond is denied.
pub const QUESTIONS_MAX: usize = 1_000;

/// Decisions about what a client may do that its connection remembers; one more forgets the one that
/// was not used for longest, and is made anew when it is wanted.
pub const PERMITS_MAX: usize = 32;

/// Decisions about topics and filters longer than this, in bytes, are made anew each time.
pub const PERMIT_TOPIC_BYTES_MAX: usize = 256;

/// Answers of one worker that wait for the Apache Kafka cluster behind; a PUBLISH that would need
/// one more is refused with reason code 0x97 (quota exceeded), or the connection closed.
pub const MIRROR_WAITING_MAX: usize = 262_144;

/// Headers of a record that a downlink publishes; one with more goes to the dead letters.
pub const DOWNLINK_HEADERS_MAX: usize = 1_024;

/// Hooks of one node; the configuration that names more is refused.
pub const HOOKS_MAX: usize = 1_024;

/// Record headers that are gathered without an allocation; more are taken, at the price of one.
pub const HEADERS_INLINE: usize = 16;

/// Most that one session or shared group may be set to be owed. All of it may have to be written in
/// one entry of the journal, at most [`OWED_BYTES`] each.
pub const INBOX_MAX: u32 = 1_000_000;

/// Most bytes of an owed message in a snapshot; three or four are usual.
pub const OWED_BYTES: u32 = 24;

const _: () = assert!(STEP_BYTES < TURN_BYTES_MAX);
const _: () = assert!(FILTER_LEVELS_MAX < u8::MAX as usize);
const _: () = assert!(RETAINED_PAGE_MAX <= RETAINED_STEPS_MAX);
const _: () = assert!(7 * PACKET_BYTES_MAX as usize + BATCH_CUT_BYTES < BATCH_BYTES_MAX);
const _: () = assert!(TURN_BYTES_MAX <= BATCH_CUT_BYTES);
const _: () = assert!(HOOKS_MAX <= u16::MAX as usize);
