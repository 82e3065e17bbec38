//! The bounds of what a connection may cost before a session answers for it.

use std::time::Duration;

/// Largest CONNECT read here, whatever `packet_size_max` allows: five fields of 64 KiB at most and
/// a fair share of user properties.
pub const CONNECT_BYTES_MAX: u32 = 512 * 1024;

/// Connections of one listener that may wait for their CONNECT at one time; further ones wait in
/// the backlog.
pub const WAITING_MAX: usize = 4096;

/// Bytes read at one time while a CONNECT is awaited.
pub const READ_BYTES: usize = 2048;

/// After a failed accept (no descriptors left) the listener rests this long.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long the last answer to a connection that does not come in may take.
pub const REFUSE_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(door::limits::PROXY_V2_BYTES_MAX < CONNECT_BYTES_MAX as usize);
