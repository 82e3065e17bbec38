//! A bell for one thread: it sleeps until somebody rings. Ringing costs next to nothing while it is
//! awake. Who rings, and what for, is not known here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Wakes the thread that made it.
#[derive(Debug)]
pub struct Bell {
    rung: AtomicBool,
    thread: Thread,
}

impl Bell {
    /// For the calling thread.
    pub fn of_this_thread() -> Self {
        Self {
            rung: AtomicBool::new(false),
            thread: std::thread::current(),
        }
    }

    /// Wakes the thread, or keeps it from its next sleep.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }

    /// Sleeps until the bell rings, has rung since the last sleep, or the time is over. For the
    /// thread that made it.
    pub fn wait(&self, timeout: Duration) {
        if !self.rung.load(Ordering::Acquire) {
            std::thread::park_timeout(timeout);
        }
        self.rung.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_bell_that_rang_before_ends_the_sleep_at_once_and_once() {
        let bell = Bell::of_this_thread();
        bell.ring();
        bell.ring();
        let start = Instant::now();
        bell.wait(Duration::from_mins(1));
        assert!(start.elapsed() < Duration::from_secs(30));
        bell.wait(Duration::from_millis(1));
    }

    #[test]
    fn a_bell_wakes_its_thread() {
        let bell = Arc::new(Bell::of_this_thread());
        let other = Arc::clone(&bell);
        let ringing = std::thread::spawn(move || other.ring());
        bell.wait(Duration::from_mins(1));
        ringing.join().unwrap();
    }
}
