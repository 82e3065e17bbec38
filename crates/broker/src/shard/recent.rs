//! The last commits that some session is still owed a message of, up to a number of bytes: a short
//! backlog is served from here, a long one by reads.

use crate::message::Commit;
use commitlog::Lsn;
use std::collections::VecDeque;
use std::sync::Arc;

/// Commits in the order of the log.
#[derive(Debug)]
pub(super) struct Recent {
    commits: VecDeque<Arc<Commit>>,
    bytes: u64,
    bytes_max: u64,
}

impl Recent {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            commits: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Keeps `commit`, the oldest ones make room. Out of order (a delivery that waited for its
    /// flush) it is put where it belongs.
    pub(super) fn keep(&mut self, commit: &Arc<Commit>) {
        let at = self.commits.partition_point(|kept| kept.lsn < commit.lsn);
        if self
            .commits
            .get(at)
            .is_some_and(|kept| kept.lsn == commit.lsn)
        {
            return;
        }
        self.bytes += commit.messages.size_bytes() as u64;
        self.commits.insert(at, commit.clone());
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.commits.pop_front()
        {
            self.bytes -= oldest.messages.size_bytes() as u64;
        }
    }

    /// The commit of the entry `lsn`, if it is still here.
    pub(super) fn commit(&self, lsn: Lsn) -> Option<&Arc<Commit>> {
        let at = self.commits.partition_point(|kept| kept.lsn < lsn);
        self.commits.get(at).filter(|kept| kept.lsn == lsn)
    }
}
