//! The bounds of everything that a Kafka peer feeds us.

/// Largest first request of a connection, in bytes: nothing is known of the peer yet.
pub const FIRST_REQUEST_BYTES_MAX: u32 = 64 * 1024;

/// Largest request once one was understood, in bytes. The largest is a Produce with batches for many
/// partitions; Apache Kafka takes 100 MiB, which is what clients are built for.
pub const REQUEST_BYTES_MAX: u32 = 128 * 1024 * 1024;

/// Most elements in all arrays of a request together: topics, partitions. A node has fewer.
pub const REQUEST_ELEMENTS_MAX: usize = 50_000;

/// Largest response that our own client accepts, in bytes: a batch is always served whole, whatever
/// was asked for.
pub const RESPONSE_BYTES_MAX: u32 = 256 * 1024 * 1024;

/// What an array reserves before its elements are seen, in elements. Beyond it the vector grows
/// with the bytes that really came.
pub const ARRAY_RESERVE_MAX: usize = 256;

/// Largest message that is ever made, in bytes. What would be larger is not made, and its connection
/// ends: a peer must not have us fill the memory with an answer.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;

const _: () = assert!(MESSAGE_BYTES_MAX <= i32::MAX as usize);
const _: () = assert!(FIRST_REQUEST_BYTES_MAX <= REQUEST_BYTES_MAX);
const _: () = assert!(RESPONSE_BYTES_MAX <= i32::MAX as u32);

/// Longest group id, in bytes.
pub const GROUP_ID_BYTES_MAX: usize = 255;

/// Longest member id, static name or protocol type of a member, in bytes.
pub const MEMBER_ID_BYTES_MAX: usize = 512;

/// What of a client's id or static name goes into the id of a member, in bytes.
pub const MEMBER_NAME_BYTES_MAX: usize = 255;

/// Most protocols that one member offers.
pub const MEMBER_PROTOCOLS_MAX: usize = 64;

/// Most bytes of the protocols of one member: names and metadata. A cooperative consumer tells what
/// it owns, some ten bytes a partition.
pub const MEMBER_METADATA_BYTES_MAX: usize = 512 * 1024;

/// Most bytes of the assignment of one group.
pub const GROUP_ASSIGNMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most bytes of metadata and assignments of all groups together.
pub const GROUPS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Most member ids that are given out in one group and not used yet (KIP-394).
pub const MEMBER_IDS_PROMISED_MAX: usize = 1_000;

/// Longest rebalance timeout, ms; a member that asks for more gets this one.
pub const REBALANCE_TIMEOUT_MS_MAX: u32 = 24 * 60 * 60 * 1000;

const _: () = assert!(MEMBER_METADATA_BYTES_MAX <= REQUEST_BYTES_MAX as usize);
const _: () = assert!(GROUP_ASSIGNMENT_BYTES_MAX <= GROUPS_BYTES_MAX);
const _: () = assert!(MEMBER_NAME_BYTES_MAX + 37 <= MEMBER_ID_BYTES_MAX);

/// Longest text that a client stores with a committed offset, in bytes
/// (`offset.metadata.max.bytes` of Apache Kafka).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;

/// Most committed offsets of all groups together.
pub const OFFSETS_MAX: usize = 1_000_000;

/// Most bytes of the texts stored with committed offsets, together.
pub const OFFSETS_METADATA_BYTES_MAX: usize = 256 * 1024 * 1024;

const _: () = assert!(OFFSET_METADATA_BYTES_MAX <= i16::MAX as usize);
