//! Bounds of everything that the network feeds in this crate, with the relations between them.

/// Largest remaining length that a fixed header can announce (4 bytes of 7 bits).
pub const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// Largest whole control packet: remaining length, its own 4 bytes and the type byte.
pub const PACKET_SIZE_MAX: u32 = REMAINING_LENGTH_MAX + 5;

/// Largest subscription identifier (a variable byte integer) [MQTT 5, 3.8.2.1.2].
pub const SUBSCRIPTION_ID_MAX: u32 = REMAINING_LENGTH_MAX;

/// Most outbound messages in flight to one client, whatever receive maximum it announces.
pub const INFLIGHT_MAX: u16 = 4_096;

/// Widest range of packet ids, oldest unfinished to newest, that one outbound window spans. A client
/// that never finishes its oldest message stops its own window here and costs no more memory.
pub const INFLIGHT_SPAN_MAX: u16 = 8_192;

/// Slots an outbound window keeps allocated when it becomes empty.
pub const INFLIGHT_SLOTS_KEPT: usize = 16;

/// Most topic aliases a table holds, whatever maximum was announced.
pub const ALIASES_MAX: u16 = 1_024;

/// Most bytes of topics that the inbound aliases of one connection may hold together.
pub const ALIAS_BYTES_MAX: usize = 64 * 1024;

/// Longest topic that is worth an outbound alias, in bytes.
pub const ALIAS_OUT_TOPIC_BYTES_MAX: usize = 1_024;

// Half of the packet id space: order in the ring stays unambiguous even for a restored window.
const _: () = assert!(INFLIGHT_SPAN_MAX < 32_768);
const _: () = assert!(INFLIGHT_MAX <= INFLIGHT_SPAN_MAX);
const _: () = assert!(ALIAS_OUT_TOPIC_BYTES_MAX <= ALIAS_BYTES_MAX);
