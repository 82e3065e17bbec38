//! The bounds of what a peer may send before it is known, and of what is kept for it.

/// Longest header of PROXY protocol 1, its line end included (HAProxy's specification, 2.1).
pub const PROXY_V1_BYTES_MAX: usize = 107;

/// Longest header of PROXY protocol 2 that is taken, with all it says beside the addresses. The
/// format allows 64 KiB; what proxies really add is a few hundred bytes.
pub const PROXY_V2_BYTES_MAX: usize = 4096;

/// Longest request of an upgrade to WebSocket, up to its empty line.
pub const UPGRADE_BYTES_MAX: usize = 8 * 1024;

/// Longest payload of a control frame (RFC 6455, 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Longest header of a frame (RFC 6455, 5.2).
pub const FRAME_HEADER_BYTES_MAX: usize = 14;

/// Bytes of answers to pings that wait to be sent, beyond which further pings are not answered:
/// only the newest needs to be (RFC 6455, 5.5.3).
pub const PONG_BYTES_MAX: usize = 4 * 1024;

const _: () = assert!(PROXY_V1_BYTES_MAX < PROXY_V2_BYTES_MAX);
const _: () = assert!(CONTROL_BYTES_MAX + FRAME_HEADER_BYTES_MAX < PONG_BYTES_MAX);
