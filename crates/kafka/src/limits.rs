//! The bounds of everything that a Kafka peer feeds us.

/// Largest first request of a connection, in bytes: nothing is known of the peer yet.
pub const FIRST_REQUEST_BYTES_MAX: u32 = 64 * 1024;

/// Largest request once one was understood, in bytes. The largest that a consumer sends is a Fetch
/// of some tens of thousands of partitions.
pub const REQUEST_BYTES_MAX: u32 = 1024 * 1024;

/// Most elements in all arrays of a request together: topics, partitions. A node has fewer.
pub const REQUEST_ELEMENTS_MAX: usize = 50_000;

/// Largest response that our own client accepts, in bytes: a batch is always served whole, whatever
/// was asked for.
pub const RESPONSE_BYTES_MAX: u32 = 256 * 1024 * 1024;

/// What an array reserves before its elements are seen, in elements. Beyond it the vector grows
/// with the bytes that really came.
pub const ARRAY_RESERVE_MAX: usize = 256;

const _: () = assert!(FIRST_REQUEST_BYTES_MAX <= REQUEST_BYTES_MAX);
const _: () = assert!(RESPONSE_BYTES_MAX <= i32::MAX as u32);
