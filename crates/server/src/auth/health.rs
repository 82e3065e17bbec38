//! Whether somebody who is asked answers: who does not is spared, and so are those who would wait for it.
//! Pure but for its locks; the time is given.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::limits::{CALLOUT_FAILURES_MAX, CALLOUT_REST, CALLOUT_TELL_EVERY};

/// What is known of a service.
#[derive(Debug, Default)]
pub struct Health(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Without an answer in between.
    failures: u32,
    /// When it failed last, or was tried again since.
    tried: Option<Instant>,
    /// When that was last said in the log.
    told: Option<Instant>,
}

impl Health {
    /// Whether to ask at all: after [`CALLOUT_FAILURES_MAX`] failures in a row only one a
    /// [`CALLOUT_REST`] finds out whether it answers again.
    pub fn may_ask(&self, now: Instant) -> bool {
        let mut known = self.known();
        if known.failures < CALLOUT_FAILURES_MAX {
            return true;
        }
        let tried = known.tried.unwrap_or(now);
        let may = now.saturating_duration_since(tried) >= CALLOUT_REST;
        if may {
            known.tried = Some(now);
        }
        may
    }

    /// It did answer.
    pub fn answered(&self) {
        self.known().failures = 0;
    }

    /// It did not, or could not be reached.
    pub fn failed(&self, now: Instant) {
        let mut known = self.known();
        known.failures = known.failures.saturating_add(1);
        known.tried = Some(now);
    }

    /// Whether a failure is worth a line in the log.
    pub fn may_tell(&self, now: Instant) -> bool {
        let mut known = self.known();
        let recent = |told| now.saturating_duration_since(told) < CALLOUT_TELL_EVERY;
        let may = !known.told.is_some_and(recent);
        if may {
            known.told = Some(now);
        }
        may
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_asked_by_one_at_a_time_until_it_does() {
        let health = Health::default();
        let now = Instant::now();
        for _ in 0..CALLOUT_FAILURES_MAX {
            assert!(health.may_ask(now));
            health.failed(now);
        }
        assert!(!health.may_ask(now) && !health.may_ask(now + CALLOUT_REST / 2));
        let then = now + CALLOUT_REST;
        assert!(health.may_ask(then), "one finds out");
        assert!(!health.may_ask(then), "and no other");
        health.failed(then);
        assert!(!health.may_ask(then + CALLOUT_REST / 2));
        assert!(health.may_ask(then + CALLOUT_REST));
        health.answered();
        assert!(health.may_ask(then) && health.may_ask(then));
        health.failed(then);
        assert!(health.may_ask(then), "failures count in a row");
    }

    #[test]
    fn failures_do_not_fill_the_log() {
        let health = Health::default();
        let now = Instant::now();
        assert!(health.may_tell(now) && !health.may_tell(now));
        assert!(health.may_tell(now + CALLOUT_TELL_EVERY));
    }
}
