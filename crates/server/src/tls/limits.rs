//! The bounds of TLS on all listeners.

use std::time::Duration;

/// TLS handshakes under way at the same time, of all listeners of a kind together; further connections
/// wait for their turn, within their own deadline. On listeners for MQTT one is under way only while
/// it is computed, elsewhere from the whole ClientHello on.
pub const HANDSHAKES_MAX: usize = 1024;

/// Of these, those of one address: it cannot keep all others out.
pub const HANDSHAKES_MAX_PER_ADDRESS: usize = 32;

/// Time for a handshake, waiting for its turn included.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Largest certificate or key file, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Time between two looks at whether the files have changed.
pub const RELOAD_CHECK: Duration = Duration::from_secs(30);

/// Depth and parts of a subject name that are read.
pub const NAME_PARTS_MAX: usize = 64;
