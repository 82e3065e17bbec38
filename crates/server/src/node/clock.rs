//! The clocks that every room of the node reads: the only place that asks the system for time on
//! behalf of the pure crates. The time of day goes on evenly, whatever is done to the system's.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use broker::Now;
use tracing::warn;

/// Of the time that passes, one part in so many may be made up for a difference to the system's
/// clock: what lives an hour lives at most 36 s more or less for it, and an hour's jump is made up in
/// four days, or at the next start.
const SLEW: i64 = 100;

/// Time between two looks at the system's clock, ms.
const LOOK_MS: i64 = 1_000;

/// Differences above this, ms, are told.
const TELL_MS: i64 = 10_000;

/// Before this, ms since the epoch (the start of 2020), the machine's clock was never set: there is
/// nothing to go on evenly from.
const UNSET_MS: i64 = 1_577_836_800_000;

/// The time of day of the process: the system's at its start, and from then on as time passes. A
/// jump of the system's clock expires nothing and revives nothing; it is followed slowly.
#[derive(Debug)]
struct Steady {
    /// Time of day less the time since boot, ms.
    offset_ms: AtomicI64,
    /// When the system's clock was looked at, by the time since boot.
    looked_ms: AtomicI64,
    /// The difference is large, and that was told.
    told: AtomicBool,
}

/// What a look at the system's clock found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nothing to tell.
    Even,
    /// The system's clock is so many ms ahead of ours (behind it where negative), since just now.
    Jumped(i64),
}

impl Steady {
    /// At `boot_ms` since boot the system's clock says `system_ms`.
    fn start(boot_ms: i64, system_ms: i64) -> Self {
        Self {
            offset_ms: AtomicI64::new(system_ms - boot_ms),
            looked_ms: AtomicI64::new(boot_ms),
            told: AtomicBool::new(false),
        }
    }

    /// Milliseconds since the epoch. `system_ms` is asked now and then; each thread may come.
    fn at(&self, boot_ms: i64, system_ms: impl FnOnce() -> i64) -> (u64, Found) {
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        let passed_ms = boot_ms - looked_ms;
        let mut found = Found::Even;
        // One thread of those that come at the same time looks.
        if passed_ms >= LOOK_MS
            && self
                .looked_ms
                .compare_exchange(looked_ms, boot_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            found = self.follow(boot_ms, passed_ms, system_ms());
        }
        let wall_ms = boot_ms + self.offset_ms.load(Ordering::Relaxed);
        (u64::try_from(wall_ms).unwrap_or(0), found)
    }

    fn follow(&self, boot_ms: i64, passed_ms: i64, system_ms: i64) -> Found {
        let ours_ms = boot_ms + self.offset_ms.load(Ordering::Relaxed);
        let ahead_ms = system_ms - ours_ms;
        let step_ms = if ours_ms < UNSET_MS {
            ahead_ms
        } else {
            ahead_ms.clamp(-passed_ms / SLEW, passed_ms / SLEW)
        };
        self.offset_ms.fetch_add(step_ms, Ordering::Relaxed);
        let left_ms = ahead_ms - step_ms;
        let large = left_ms.abs() > TELL_MS;
        let told = self.told.swap(large, Ordering::Relaxed);
        if large && !told {
            Found::Jumped(left_ms)
        } else {
            Found::Even
        }
    }
}

static STEADY: LazyLock<Steady> = LazyLock::new(|| Steady::start(boot_ms(), system()));

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

/// The time of day that records, expiry and retention go by: ms since the epoch. It is the system's
/// at the start of the process, and goes on evenly from there.
pub fn wall_ms() -> u64 {
    let (wall_ms, found) = STEADY.at(boot_ms(), system);
    if let Found::Jumped(ahead_ms) = found {
        warn!(
            seconds = ahead_ms / 1_000,
            "the system's clock has jumped: messages expire and records are dated by the time as \
             it was, which follows by 1 s in {SLEW}; a restart takes the system's time at once"
        );
    }
    wall_ms
}

/// What the system's clock says, jumps and all: for what others date, such as tokens, and for lines
/// of the log. Ms since the epoch; 0 before it.
pub fn system_ms() -> u64 {
    u64::try_from(system()).unwrap_or(0)
}

fn system() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// Milliseconds since the machine was booted, the time that it slept included.
fn boot_ms() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec at the pointer, which points at one.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert!(code == 0, "every Linux system counts the time since boot");
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT_MS: i64 = 5_000;
    const START_MS: i64 = 1_700_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    /// Our time when `passed_ms` have passed and the system's clock is `ahead_ms` of that.
    fn at(steady: &Steady, passed_ms: i64, ahead_ms: i64) -> (i64, Found) {
        let (wall_ms, found) = steady.at(BOOT_MS + passed_ms, || START_MS + passed_ms + ahead_ms);
        (wall_ms as i64 - START_MS - passed_ms, found)
    }

    #[test]
    fn a_jump_of_the_systems_clock_is_told_once_and_followed_slowly() {
        for jump_ms in [HOUR_MS, -HOUR_MS] {
            let steady = Steady::start(BOOT_MS, START_MS);
            assert_eq!(
                at(&steady, 500, jump_ms),
                (0, Found::Even),
                "not looked at yet"
            );
            let (ahead_ms, found) = at(&steady, 1_000, jump_ms);
            assert_eq!(ahead_ms, 10 * jump_ms.signum());
            assert_eq!(found, Found::Jumped(jump_ms - ahead_ms));
            let mut found = Vec::new();
            for second in 2..=300 {
                found.push(at(&steady, 1_000 * second, jump_ms).1);
            }
            assert!(found.iter().all(|found| *found == Found::Even), "told once");
            let (ahead_ms, _) = at(&steady, 300_000, jump_ms);
            assert_eq!(
                ahead_ms,
                3_000 * jump_ms.signum(),
                "300 s are 303, not an hour"
            );
            let (ahead_ms, _) = at(&steady, 101 * HOUR_MS, jump_ms);
            assert_eq!(ahead_ms, jump_ms, "in the end it is made up");
            let (_, found) = at(&steady, 102 * HOUR_MS, 2 * jump_ms);
            assert!(matches!(found, Found::Jumped(_)), "the next is told again");
        }
    }

    #[test]
    fn what_the_system_does_to_its_clock_bit_by_bit_is_followed() {
        let steady = Steady::start(BOOT_MS, START_MS);
        for second in 1..10_000 {
            // 500 parts in a million, as time servers have it done.
            let drift_ms = second / 2;
            let (ahead_ms, found) = at(&steady, 1_000 * second, drift_ms);
            assert_eq!((ahead_ms, found), (drift_ms, Found::Even));
        }
    }

    #[test]
    fn a_clock_that_was_never_set_is_followed_at_once() {
        let steady = Steady::start(BOOT_MS, 9_000);
        let (wall_ms, found) = steady.at(BOOT_MS + 1_000, || START_MS);
        assert_eq!((wall_ms, found), (START_MS as u64, Found::Even));
        let (wall_ms, _) = steady.at(BOOT_MS + 2_000, || START_MS + HOUR_MS);
        assert_eq!(
            wall_ms,
            START_MS as u64 + 1_000 + 10,
            "and from then on slowly"
        );
    }
}
