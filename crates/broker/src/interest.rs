//! What the whole process is subscribed to, and by which workers: tells whether anybody wants a
//! message (reason code 0x10, `no_subscribers`) and which workers must look at it. Knows filters
//! and worker numbers only.

use crate::filters::{FilterTree, TooDeep};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Workers told apart; those of higher number share bits, which costs a look but loses nothing.
const WORKERS_TOLD_APART: u16 = 64;

/// How many subscriptions to a filter one worker has.
#[derive(Debug, Clone, Copy)]
struct Count {
    worker: u16,
    subscriptions: u32,
}

/// Process-wide, reference-counted set of topic filters. Shared by all workers; written on
/// subscribe and unsubscribe, read when a worker's cached answer is out of date.
#[derive(Debug, Default)]
pub struct Interest {
    filters: RwLock<FilterTree<Count>>,
    generation: AtomicU64,
}

impl Interest {
    /// Interest in nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// `worker` has one subscription more to `filter` (without a `$share/group/` prefix).
    pub fn add(&self, worker: u16, filter: &str) -> Result<(), TooDeep> {
        let mut filters = self.filters.write().unwrap_or_else(PoisonError::into_inner);
        let new = filters.update(filter, |counts| {
            if let Some(count) = counts.iter_mut().find(|count| count.worker == worker) {
                count.subscriptions += 1;
                return false;
            }
            counts.push(Count {
                worker,
                subscriptions: 1,
            });
            true
        })?;
        if new {
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// `worker` has one subscription less to `filter`. A filter that it never added is a mistake
    /// of the caller's and changes nothing.
    pub fn remove(&self, worker: u16, filter: &str) {
        let mut filters = self.filters.write().unwrap_or_else(PoisonError::into_inner);
        let gone = filters.update(filter, |counts| {
            let Some(at) = counts.iter().position(|count| count.worker == worker) else {
                debug_assert!(false, "{filter} was not added by worker {worker}");
                return false;
            };
            counts[at].subscriptions -= 1;
            if counts[at].subscriptions > 0 {
                return false;
            }
            counts.swap_remove(at);
            true
        });
        if gone == Ok(true) {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Rises whenever the answer for some topic may have changed; an answer that was computed at
    /// the current generation still holds.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The workers with a subscription that matches `topic`: bit `worker % 64`. 0: nobody.
    pub fn workers(&self, topic: &str) -> u64 {
        let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
        let mut workers = 0;
        filters.for_each_match(topic, |count| workers |= worker_bit(count.worker));
        workers
    }

    /// Whether anybody subscribes to `topic`.
    pub fn any(&self, topic: &str) -> bool {
        self.filters
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .any_match(topic)
    }
}

/// The bit that stands for `worker` in [`Interest::workers`].
pub fn worker_bit(worker: u16) -> u64 {
    1 << (worker % WORKERS_TOLD_APART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_worker_and_forgets_with_the_last_subscription() {
        let interest = Interest::new();
        interest.add(0, "a/+").unwrap();
        interest.add(0, "a/+").unwrap();
        interest.add(3, "a/#").unwrap();
        assert_eq!(interest.workers("a/b"), 0b1001);
        assert_eq!(interest.workers("a/b/c"), 0b1000);
        assert!(!interest.any("b"));
        let before = interest.generation();
        interest.remove(0, "a/+");
        assert_eq!(
            interest.generation(),
            before,
            "one of two is left: nothing changed"
        );
        assert_eq!(interest.workers("a/b"), 0b1001);
        interest.remove(0, "a/+");
        assert!(interest.generation() > before);
        assert_eq!(interest.workers("a/b"), 0b1000);
        interest.remove(3, "a/#");
        assert!(!interest.any("a/b"));
    }

    #[test]
    fn workers_beyond_sixty_four_share_bits() {
        let interest = Interest::new();
        interest.add(65, "a").unwrap();
        assert_eq!(interest.workers("a"), worker_bit(1));
    }

    #[test]
    fn a_filter_too_deep_is_refused() {
        let interest = Interest::new();
        assert_eq!(interest.add(0, &"a/".repeat(200)), Err(TooDeep));
        assert_eq!(interest.generation(), 0);
    }
}
