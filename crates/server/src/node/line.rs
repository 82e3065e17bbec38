//! The line of jobs before a pool of threads: first in, first out, and what failed comes again after
//! a pause, without holding up the others. It must not know what a job is.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a job that failed waits until its next turn.
const PAUSE: Duration = Duration::from_millis(500);

/// Where jobs are put in. The pool ends when the last of its clones is dropped; what waits then is
/// done before.
pub struct Entrance<T>(Arc<Held<T>>);

/// Where the threads of the pool take jobs out.
pub struct Exit<T>(Arc<Line<T>>);

struct Held<T>(Arc<Line<T>>);

struct Line<T> {
    jobs: Mutex<Jobs<T>>,
    changed: Condvar,
}

struct Jobs<T> {
    ready: VecDeque<T>,
    /// In the order of their times, since all wait as long.
    paused: VecDeque<(Instant, T)>,
    closed: bool,
}

/// A new line: jobs go in there and come out here.
pub fn line<T>() -> (Entrance<T>, Exit<T>) {
    let line = Arc::new(Line {
        jobs: Mutex::new(Jobs {
            ready: VecDeque::new(),
            paused: VecDeque::new(),
            closed: false,
        }),
        changed: Condvar::new(),
    });
    let held = Arc::new(Held(Arc::clone(&line)));
    (Entrance(held), Exit(line))
}

impl<T> Line<T> {
    fn jobs(&self) -> MutexGuard<'_, Jobs<T>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Entrance<T> {
    /// Puts a job in.
    pub fn put(&self, job: T) {
        self.0.0.jobs().ready.push_back(job);
        self.0.0.changed.notify_one();
    }
}

impl<T> Clone for Entrance<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.0.jobs().closed = true;
        self.0.changed.notify_all();
    }
}

impl<T> Clone for Exit<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Exit<T> {
    /// The next job; waits for one. `None`: nobody puts any in any more. What was paused is dropped
    /// then: nobody waits for it.
    pub fn take(&self) -> Option<T> {
        let mut jobs = self.0.jobs();
        loop {
            let now = Instant::now();
            while jobs.paused.front().is_some_and(|(at, _)| *at <= now) {
                let again = jobs.paused.pop_front().map(|(_, job)| job);
                jobs.ready.extend(again);
            }
            if let Some(job) = jobs.ready.pop_front() {
                return Some(job);
            }
            if jobs.closed {
                return None;
            }
            let wait = jobs.paused.front().map(|(at, _)| *at - now);
            jobs = match wait {
                None => self.0.changed.wait(jobs),
                Some(wait) => {
                    let woken = self.0.changed.wait_timeout(jobs, wait);
                    woken
                        .map(|(jobs, _)| jobs)
                        .map_err(|held| PoisonError::new(held.into_inner().0))
                }
            }
            .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A job that failed: it comes out again after a pause.
    pub fn pause(&self, job: T) {
        let mut jobs = self.0.jobs();
        jobs.paused.push_back((Instant::now() + PAUSE, job));
        drop(jobs);
        // Whoever waits without end may be the only one there is.
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_comes_behind_what_waits_and_the_line_ends_with_its_entrance() {
        let (entrance, exit) = line();
        let second = entrance.clone();
        entrance.put(1);
        second.put(2);
        assert_eq!(exit.take(), Some(1));
        let before = Instant::now();
        exit.pause(1);
        assert_eq!(exit.take(), Some(2));
        assert_eq!(exit.take(), Some(1));
        assert!(before.elapsed() >= PAUSE);
        let taker = exit.clone();
        let waiting = std::thread::spawn(move || taker.take());
        drop(entrance);
        second.put(3);
        assert_eq!(waiting.join().unwrap(), Some(3));
        drop(second);
        assert_eq!(exit.take(), None);
    }
}
