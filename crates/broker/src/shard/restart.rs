//! What follows from a stop, once all is replayed: who was connected is disconnected since the last
//! time that the journal knows, and wills, expiry and bounds are made up for, a turn at a time.

use super::Shard;
use super::timers::Due;
use crate::input::Now;
use crate::outbox::Outbox;
use crate::turn::EventFacts;

impl Shard {
    /// Replay is over: every session that was connected counts as disconnected since the last
    /// time that the journal knows, and wills and expiry run from there.
    pub(super) fn started(&mut self, now: Now, out: &mut Outbox) {
        self.finish_snapshot();
        for slot in self.sessions.slots().collect::<Vec<_>>() {
            if self.restoring.known.contains(&slot) {
                continue;
            }
            if self.sessions[slot].will.is_some() {
                // Without a record of its own: it would have ended with its connection.
                self.restoring.known.insert(slot);
                self.restoring.connected.insert(slot);
                continue;
            }
            for subscription in std::mem::take(&mut self.sessions[slot].subscriptions) {
                self.unmatch(slot, &subscription.filter);
            }
            self.sessions.remove(slot);
        }
        (self.owed, self.owed_bytes) = (0, 0);
        let found = self.found_in_sessions();
        let stats = &mut self.stats;
        [
            stats.subscriptions,
            stats.shared_subscriptions,
            stats.inflight,
        ] = found;
        for slot in self.sessions.slots().collect::<Vec<_>>() {
            let inbox = &self.sessions[slot].backlog.inbox;
            self.owed += inbox.len() as u64;
            self.owed_bytes += inbox.size_bytes() as u64;
            self.announce_member(slot, out);
        }
        self.restoring.rest = std::mem::take(&mut self.restoring.known);
        self.restart_more(now, out);
    }

    pub(super) fn restart_more(&mut self, now: Now, out: &mut Outbox) {
        while let Some(slot) = self.restoring.rest.pop_first() {
            self.restart(slot, now, out);
            if out.turn.is_full() {
                self.timers.arm(now.mono_ms, Due::Restart);
                return;
            }
        }
    }

    /// A client is back before its restored session was looked at.
    pub(super) fn restart_now(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        if self.restoring.rest.remove(&slot) {
            self.restart(slot, now, out);
        }
    }

    fn restart(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        if self.sessions.get(slot).is_none() {
            return;
        }
        self.shorten_inbox(slot, now, out);
        let was_connected = self.restoring.connected.remove(&slot);
        let session = &mut self.sessions[slot];
        if was_connected {
            session.disconnected.wall_ms = match self.restoring.last_ms {
                0 => now.wall_ms,
                last_ms => last_ms.min(now.wall_ms),
            };
            let facts = EventFacts::Disconnected {
                client_id: &session.client_id,
                username: session.username(),
                reason: "broker_restart",
            };
            out.turn.happened(&facts, now.wall_ms);
        }
        let elapsed_ms = now.wall_ms.saturating_sub(session.disconnected.wall_ms);
        session.disconnected.mono_ms = now.mono_ms.saturating_sub(elapsed_ms);
        let expiry_s = session.expiry_s;
        let is_over = |seconds: u32| u64::from(seconds) * 1000 <= elapsed_ms;
        if expiry_s != u32::MAX && is_over(expiry_s) {
            self.stats.sessions_expired += 1;
            self.end_session(slot, now, out);
            return;
        }
        if was_connected {
            self.save_session(slot, now, out);
        }
        if let Some(will) = &self.sessions[slot].will {
            let delay_s = will.delay_s.min(expiry_s);
            if is_over(delay_s) {
                self.publish_will(slot, now, out);
            } else {
                let session = self.sessions.reference(slot);
                let left_ms = u64::from(delay_s) * 1000 - elapsed_ms;
                self.arm(now.mono_ms + left_ms, Due::Will(session));
            }
        }
        self.arm_expiry(slot, elapsed_ms, now);
    }
}
