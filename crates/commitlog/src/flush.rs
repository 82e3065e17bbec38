//! Flushing the journal: the ticket that the flush thread carries out, and the policy of when.
//! The thread itself lives with whoever owns the log; time is an argument.

use std::sync::Arc;

use crate::error::Error;
use crate::journal::{DirtyPart, sync_parts};
use crate::stream::Lsn;
use crate::watermark::{PartitionState, Shared, Watermarks};

/// The journal's written parts, to be synced on another thread than the log's.
#[must_use = "a ticket flushes nothing until it is run"]
pub struct FlushTicket {
    pub(crate) shared: Arc<Shared>,
    pub(crate) parts: Vec<DirtyPart>,
    pub(crate) lsn: Lsn,
    /// How far the partitions were when the ticket was made.
    pub(crate) ends: Vec<(Arc<PartitionState>, Watermarks)>,
}

impl FlushTicket {
    /// The entry up to which this flushes.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Syncs; nothing else. A failure latches the log.
    pub fn run(self) -> Result<Flushed, Error> {
        self.shared.latch.check()?;
        sync_parts(&*self.shared.disk, &self.parts).map_err(|error| self.shared.failed(error))?;
        Ok(Flushed {
            lsn: self.lsn,
            parts: self
                .parts
                .into_iter()
                .map(|part| (part.path, part.lsn))
                .collect(),
            ends: self.ends,
        })
    }
}

/// What a ticket flushed; goes back to [`crate::Log::flushed`].
pub struct Flushed {
    pub(crate) lsn: Lsn,
    /// Each with its last entry that was flushed.
    pub(crate) parts: Vec<(String, Lsn)>,
    /// How far the partitions were when the ticket was made.
    pub(crate) ends: Vec<(Arc<PartitionState>, Watermarks)>,
}

impl Flushed {
    /// The entry up to which all is flushed.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }
}

/// When to flush. After quiet a flush starts at once; then at most so many begin in a second,
/// unless enough bytes wait; what nobody waits for is flushed after a while all the same.
#[derive(Clone, Debug)]
pub struct FlushPolicy {
    interval_us: u64,
    bytes_max: u64,
    age_us_max: u64,
    running: bool,
    last_start_us: Option<u64>,
    /// What no flush has begun to cover.
    waiting: Waiting,
    /// Of that, what the checkpoint under way will not have made durable.
    beyond: Option<Waiting>,
}

/// Writes that wait for a flush.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    /// When the first was made.
    oldest_us: Option<u64>,
    bytes: u64,
    awaited: bool,
}

impl Waiting {
    fn add(&mut self, now_us: u64, bytes: u64, awaited: bool) {
        self.oldest_us.get_or_insert(now_us);
        self.bytes += bytes;
        self.awaited |= awaited;
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushAdvice {
    /// Take a ticket and run it.
    Now,
    /// Ask again at this time (microseconds), or after the next write.
    At(u64),
    /// Nothing to do until the next write, or until the running flush ends.
    Idle,
}

impl FlushPolicy {
    /// Flushes a second, waiting bytes that start one sooner, and the age in milliseconds at which
    /// anything is flushed.
    pub fn new(commits_per_s_max: u32, bytes_max: u64, flush_ms_max: u64) -> Self {
        Self {
            interval_us: 1_000_000 / u64::from(commits_per_s_max.max(1)),
            bytes_max,
            age_us_max: flush_ms_max * 1000,
            running: false,
            last_start_us: None,
            waiting: Waiting::default(),
            beyond: None,
        }
    }

    /// The journal was written; `awaited`: somebody's answer waits for the flush.
    pub fn wrote(&mut self, now_us: u64, bytes: u64, awaited: bool) {
        self.waiting.add(now_us, bytes, awaited);
        if let Some(beyond) = &mut self.beyond {
            beyond.add(now_us, bytes, awaited);
        }
    }

    /// A ticket was taken that covers all that was written.
    pub fn started(&mut self, now_us: u64) {
        self.running = true;
        self.last_start_us = Some(now_us);
        self.waiting = Waiting::default();
        if let Some(beyond) = &mut self.beyond {
            *beyond = Waiting::default();
        }
    }

    /// The flush that was started has ended.
    pub fn finished(&mut self) {
        self.running = false;
    }

    /// A checkpoint of all that was written has begun.
    pub fn checkpoint_began(&mut self) {
        self.beyond = Some(Waiting::default());
    }

    /// That checkpoint is done: what was written before it began needs no flush any more.
    pub fn checkpoint_done(&mut self) {
        if let Some(beyond) = self.beyond.take() {
            self.waiting = beyond;
        }
    }

    /// What to do at this time.
    pub fn advice(&self, now_us: u64) -> FlushAdvice {
        let Some(oldest_us) = self.waiting.oldest_us.filter(|_| !self.running) else {
            return FlushAdvice::Idle;
        };
        let mut due_us = oldest_us + self.age_us_max;
        if self.waiting.awaited {
            let next_us = self
                .last_start_us
                .map_or(0, |start| start + self.interval_us);
            due_us = if self.waiting.bytes >= self.bytes_max {
                0
            } else {
                due_us.min(next_us)
            };
        }
        if due_us <= now_us {
            FlushAdvice::Now
        } else {
            FlushAdvice::At(due_us)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> FlushPolicy {
        FlushPolicy::new(600, 256 << 10, 1000)
    }

    #[test]
    fn a_flush_starts_at_once_after_quiet() {
        let mut policy = policy();
        assert_eq!(policy.advice(0), FlushAdvice::Idle);
        policy.wrote(5_000_000, 100, true);
        assert_eq!(policy.advice(5_000_000), FlushAdvice::Now);
    }

    #[test]
    fn then_the_rate_is_bounded() {
        let mut policy = policy();
        policy.wrote(1_000_000, 100, true);
        policy.started(1_000_000);
        policy.wrote(1_000_100, 100, true);
        assert_eq!(policy.advice(1_000_100), FlushAdvice::Idle);
        policy.finished();
        assert_eq!(policy.advice(1_000_200), FlushAdvice::At(1_001_666));
        assert_eq!(policy.advice(1_001_666), FlushAdvice::Now);
    }

    #[test]
    fn many_waiting_bytes_start_one_sooner() {
        let mut policy = policy();
        policy.wrote(1_000_000, 100, true);
        policy.started(1_000_000);
        policy.finished();
        policy.wrote(1_000_100, 256 << 10, true);
        assert_eq!(policy.advice(1_000_100), FlushAdvice::Now);
    }

    #[test]
    fn what_a_checkpoint_made_durable_needs_no_flush() {
        let mut policy = policy();
        policy.wrote(1_000_000, 1 << 20, false);
        policy.checkpoint_began();
        policy.checkpoint_done();
        assert_eq!(policy.advice(9_000_000), FlushAdvice::Idle);

        policy.wrote(1_000_000, 1 << 20, true);
        policy.checkpoint_began();
        policy.wrote(1_400_000, 1, false);
        assert_eq!(policy.advice(1_400_000), FlushAdvice::Now);
        policy.checkpoint_done();
        assert_eq!(policy.advice(1_400_000), FlushAdvice::At(2_400_000));

        policy.checkpoint_began();
        policy.wrote(1_500_000, 1, true);
        policy.started(1_600_000);
        policy.finished();
        policy.wrote(1_700_000, 1, false);
        policy.checkpoint_done();
        assert_eq!(policy.advice(1_700_000), FlushAdvice::At(2_700_000));
    }

    #[test]
    fn what_nobody_waits_for_is_flushed_in_time() {
        let mut policy = policy();
        policy.wrote(1_000_000, 1 << 20, false);
        assert_eq!(policy.advice(1_000_000), FlushAdvice::At(2_000_000));
        policy.wrote(1_500_000, 1 << 20, false);
        assert_eq!(policy.advice(2_000_000), FlushAdvice::Now);
    }
}
