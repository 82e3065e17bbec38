//! Messages at hand: the last commits that some session is still owed a message of, and messages
//! that were read back, both up to a number of bytes. A short backlog is served from here, a long
//! one by reads.

use crate::message::{Commit, OwnedMessage, Position};
use commitlog::Lsn;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Commits in the order of the log, and messages in the order in which they were read.
#[derive(Debug)]
pub(super) struct Recent {
    commits: VecDeque<Arc<Commit>>,
    bytes: u64,
    read: HashMap<Position, OwnedMessage, RandomState>,
    read_order: VecDeque<Position>,
    read_bytes: u64,
    /// For either.
    bytes_max: u64,
}

impl Recent {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            commits: VecDeque::new(),
            bytes: 0,
            read: HashMap::default(),
            read_order: VecDeque::new(),
            read_bytes: 0,
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

    /// Keeps a message that was read back.
    pub(super) fn keep_read(&mut self, position: Position, message: OwnedMessage) {
        let bytes = message.size_bytes() as u64;
        if self.read.insert(position, message).is_some() {
            return;
        }
        self.read_bytes += bytes;
        self.read_order.push_back(position);
        while self.read_bytes > self.bytes_max
            && let Some(oldest) = self.read_order.pop_front()
        {
            let message = self.read.remove(&oldest);
            self.read_bytes -= message.map_or(0, |message| message.size_bytes() as u64);
        }
    }

    /// A message that was read back, if it is still here.
    pub(super) fn read(&self, position: Position) -> Option<&OwnedMessage> {
        self.read.get(&position)
    }
}
