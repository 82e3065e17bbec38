//! File descriptors: what the log needs of them is kept from connections, so that a crowd of clients
//! never keeps it from opening a segment. It knows the limit of the process, not who connects.

use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::warn;

/// Kept from connections: an eighth of the limit, within these bounds.
const KEPT_MIN: u64 = 64;
const KEPT_MAX: u64 = 4_096;

/// Refused connections are told of so often.
const TELL_S: u64 = 10;

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visitor {
    /// Devices and business systems.
    Client,
    /// People and what watches the node for them: they get half of what is kept from clients.
    Operator,
}

/// Raises the limit of open files to what the system allows this process, and returns it. `None`:
/// that is not known.
pub fn raise_limit() -> Option<u64> {
    let mut limit = limit()?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the call reads the one struct that it is given.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 };
    raised.then_some(limit.rlim_cur)
}

/// Whether a connection that was just accepted leaves enough for the log; else it is to be closed.
/// The system hands out the lowest number that is free, so that its number tells how many are in use.
pub fn leaves_enough(connection: &impl AsRawFd, visitor: Visitor, listener: &str) -> bool {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    let limit = *LIMIT.get_or_init(|| limit().map_or(u64::MAX, |limit| limit.rlim_cur));
    let most = in_use_max(limit, visitor);
    let enough = u64::try_from(connection.as_raw_fd()).is_ok_and(|number| number < most);
    if !enough && is_time_to_tell() {
        warn!(
            listener,
            "connections are closed at once: {most} file descriptors are in use, and the rest is \
             the log's; raise the limit of open files (ulimit -n, LimitNOFILE), or lower \
             connections_max"
        );
    }
    enough
}

/// How many descriptors may be in use for one more connection to be let in.
fn in_use_max(limit: u64, visitor: Visitor) -> u64 {
    let kept = (limit / 8).clamp(KEPT_MIN, KEPT_MAX);
    limit.saturating_sub(match visitor {
        Visitor::Client => kept,
        Visitor::Operator => kept / 2,
    })
}

fn limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call writes the one struct that it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 };
    known.then_some(limit)
}

fn is_time_to_tell() -> bool {
    static START: OnceLock<Instant> = OnceLock::new();
    static NEXT_S: AtomicU64 = AtomicU64::new(0);
    let now_s = START.get_or_init(Instant::now).elapsed().as_secs();
    let next_s = NEXT_S.load(Ordering::Relaxed);
    let take = |next_s| {
        NEXT_S.compare_exchange(next_s, now_s + TELL_S, Ordering::Relaxed, Ordering::Relaxed)
    };
    now_s >= next_s && take(next_s).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_its_share() {
        let most = |limit| in_use_max(limit, Visitor::Client);
        assert_eq!(most(32), 0, "too few for anybody");
        assert_eq!(most(300), 236);
        assert_eq!(most(20_000), 17_500);
        assert_eq!(most(1 << 20), (1 << 20) - 4_096);
        assert_eq!(in_use_max(300, Visitor::Operator), 268);
    }
}
