//! The bounds of what a connection may cost before a session answers for it.

use std::time::Duration;

/// Largest CONNECT read here, whatever `packet_size_max` allows: five fields of 64 KiB at most and
/// a fair share of user properties.
pub const CONNECT_BYTES_MAX: u32 = 512 * 1024;

/// Connections of one listener that may wait for their CONNECT at one time; further ones take the
/// places of those that have waited for [`WAITING_GRACE`] or wait in the backlog.
pub const WAITING_MAX: usize = 4096;

/// Time that nobody's place is taken back in.
pub const WAITING_GRACE: Duration = Duration::from_secs(1);

/// Connections of the node whose CONNECT is whole and judged at one time; a further one is told to come
/// later.
pub const JUDGED_MAX: usize = 8192;

/// Bytes of a CONNECT that each connection may hold; what is beyond comes out of [`SHARED_BYTES`].
pub const OWN_BYTES: usize = 16 * 1024;

/// Bytes of all CONNECTs that are longer than [`OWN_BYTES`]; who needs more than is left is closed.
pub const SHARED_BYTES: usize = 64 * 1024 * 1024;

/// Bytes read at one time while a CONNECT is awaited.
pub const READ_BYTES: usize = 2048;

/// After a failed accept (no descriptors left) the listener rests this long.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long the last answer to a connection that does not come in may take.
pub const REFUSE_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(SHARED_BYTES >= 16 * CONNECT_BYTES_MAX as usize);
const _: () =
    assert!(OWN_BYTES > door::limits::PROXY_V2_BYTES_MAX + door::limits::UPGRADE_BYTES_MAX);
const _: () = assert!(door::limits::PROXY_V2_BYTES_MAX < CONNECT_BYTES_MAX as usize);
