//! The two clocks that every room of the node reads: the only place that asks the system for time
//! on behalf of the pure crates.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use broker::Now;

/// Started once a process; copies count from the same start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// The monotonic clock starts at 0 now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now {
            wall_ms: wall_ms(),
            mono_ms,
        }
    }
}

/// Milliseconds since the epoch; 0 before it.
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
