//! What a shard must do at some time: end sessions, publish wills, try again. One heap; a timer
//! that is not wanted any more is recognised when it fires.

use super::Shard;
use crate::input::{ConnId, Now};
use crate::outbox::Outbox;
use crate::session::SessionRef;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// So many timers are never looked through.
const TIMERS_FREE: usize = 1_024;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The session's expiry interval is over.
    Expiry(SessionRef),
    /// The session's will delay is over.
    Will(SessionRef),
    /// The credentials of a connection may have ended.
    Credentials(ConnId),
    /// What the log refused is tried again.
    Retry,
    /// More deliveries are given up.
    GiveUp,
    /// The rest of a snapshot is written.
    Snapshot,
    /// The rest of the restored sessions is looked at.
    Restart,
    /// Answers have waited too long for the cluster behind.
    Mirror,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    last: u64,
    /// So many were wanted when that was looked at last.
    wanted: usize,
}

#[derive(Debug)]
struct Timer {
    at_ms: u64,
    /// Makes the order total, and the same in every run.
    number: u64,
    due: Due,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.number) == (other.at_ms, other.number)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}

impl Timers {
    /// Arms a timer for `at_ms` of the monotonic clock.
    pub(super) fn arm(&mut self, at_ms: u64, due: Due) {
        self.last += 1;
        self.heap.push(Reverse(Timer {
            at_ms,
            number: self.last,
            due,
        }));
    }

    /// Whether so many are armed that most are not wanted any more.
    fn is_crowded(&self) -> bool {
        self.heap.len() > (2 * self.wanted).max(TIMERS_FREE)
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(timer)| timer.at_ms)
    }

    /// What is due first, unless it was armed behind timer number `last`.
    fn take(&mut self, mono_ms: u64, last: u64) -> Option<Due> {
        let Reverse(first) = self.heap.peek()?;
        if first.at_ms > mono_ms || first.number > last {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer.due)
    }
}

impl Shard {
    /// Arms a timer of a session or connection. Those that are not wanted any more go from time to
    /// time: else each reconnect would leave one behind for as long as its session may last.
    pub(super) fn arm(&mut self, at_ms: u64, due: Due) {
        self.timers.arm(at_ms, due);
        if !self.timers.is_crowded() {
            return;
        }
        let (sessions, conns) = (&self.sessions, &self.conns);
        self.timers.heap.retain(|Reverse(timer)| match timer.due {
            Due::Expiry(session) | Due::Will(session) => sessions.current(session).is_some(),
            Due::Credentials(conn) => conns
                .get(conn)
                .is_some_and(|connection| connection.expires_ms == Some(timer.at_ms)),
            _ => true,
        });
        self.timers.wanted = self.timers.heap.len();
    }

    /// Does what is due; what finds the turn full is still due in the next one.
    pub(super) fn tick(&mut self, now: Now, out: &mut Outbox) {
        // What goes on in the next turn is due at once, but must not go on in this one.
        let last = self.timers.last;
        while let Some(due) = self.timers.take(now.mono_ms, last) {
            match due {
                Due::Expiry(session) => {
                    if let Some(slot) = self.sessions.current(session)
                        && self.sessions[slot].conn.is_none()
                    {
                        self.stats.sessions_expired += 1;
                        self.end_session(slot, now, out);
                    }
                }
                Due::Will(session) => {
                    if let Some(slot) = self.sessions.current(session)
                        && self.sessions[slot].conn.is_none()
                    {
                        self.publish_will(slot, now, out);
                    }
                }
                Due::Credentials(conn) => self.credentials_due(conn, now, out),
                Due::Retry => self.journal_again(now, out),
                Due::GiveUp => {
                    self.giving_up.is_armed = false;
                    self.give_up_more(now, out);
                }
                Due::Snapshot => self.snapshot_more(now, out),
                Due::Restart => self.restart_more(now, out),
                Due::Mirror => self.mirror_overdue(now, out),
            }
            if out.turn.is_full() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::harness::{World, lasting};

    #[test]
    fn who_comes_and_goes_leaves_no_timers_behind() {
        let mut world = World::new();
        for _ in 0..5_000 {
            let conn = world.connect("restless", &lasting(604_800));
            world.lose(conn);
        }
        let timers: usize = world
            .shards
            .iter()
            .map(|shard| shard.timers.heap.len())
            .sum();
        assert!(timers < 2_000, "{timers}");
        world.pass(604_800_000);
        assert_eq!(
            world.shards[0].stats().sessions,
            0,
            "the last one still counts"
        );
    }
}
