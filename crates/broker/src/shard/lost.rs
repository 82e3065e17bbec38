//! What happened although the log had no room to take it down is written again when there is room:
//! all of one owner in one entry, before anything newer of it, and no more in a turn than a turn
//! should hold.

use super::Shard;
use super::table::{Key, Kind, write_positions};
use super::timers::Due;
use crate::input::{Now, Refusal, Returned};
use crate::limits::STEP_BYTES;
use crate::outbox::Outbox;
use crate::turn::{EventRecord, PublishFacts, owner_of};
use crate::will::OwnedWill;
use std::sync::Arc;

/// Time after which what the log refused is tried again, ms.
const RETRY_MS: u64 = 200;

/// A will that is published, with all that its PUBLISH needs.
#[derive(Debug)]
pub(super) struct LastWords {
    pub client_id: Arc<str>,
    pub username: Option<Box<str>>,
    pub will: Box<OwnedWill>,
}

impl LastWords {
    pub(super) fn size_bytes(&self) -> usize {
        let will = &self.will;
        size_of::<Self>() + will.topic.len() + will.payload.len() + will.forwarded.len()
    }
}

impl Shard {
    /// Publishes a will, and again if the log refuses it.
    pub(super) fn publish_words(&mut self, words: LastWords, now: Now, out: &mut Outbox) {
        let properties = words.will.properties();
        let who = (&*words.client_id, words.username.as_deref().unwrap_or(""));
        let facts = PublishFacts::of_will(&words.will, &properties, who, now.wall_ms);
        let turn = out.turn.number();
        self.publish_facts(&facts, out);
        self.unconfirmed.published(turn, words);
    }

    /// The log refused a turn, and gave back what was in it.
    pub(super) fn keep_lost(
        &mut self,
        turn: u64,
        returned: Option<&Returned<'_>>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(returned) = returned else {
            // After a failed write recovery decides what has happened.
            self.unconfirmed.confirmed(turn);
            return;
        };
        let events = EventRecord::of(returned.entry, returned.messages);
        let current = out.turn.number();
        let (dropped, here) = self.unconfirmed.refused(turn, events, current);
        self.stats.events_lost += dropped;
        for owner in here {
            self.write_unit(owner, now, out);
        }
    }

    /// Tries again soon, if the log may take it then.
    pub(super) fn retry_later(&mut self, why: Refusal, now: Now) {
        let waits = !self.refused_deliveries.is_empty() || self.unconfirmed.has_lost();
        if !waits || why != Refusal::Full {
            return;
        }
        let waiting = &mut self.unconfirmed;
        // Further refusals do not put it off.
        if waiting.retry_at_ms <= now.mono_ms {
            waiting.retry_at_ms = now.mono_ms + RETRY_MS;
        }
        let at_ms = waiting.retry_at_ms;
        if !std::mem::replace(&mut waiting.retry_is_armed, true) {
            self.timers.arm(at_ms, Due::Retry);
        }
    }

    /// Tries again what the log refused, as much as a turn should hold.
    pub(super) fn journal_again(&mut self, now: Now, out: &mut Outbox) {
        self.unconfirmed.retry_is_armed = false;
        if now.mono_ms >= self.unconfirmed.retry_at_ms {
            self.write_lost(now, out);
            self.deliver_refused(now, out);
        }
        if self.unconfirmed.has_lost() || !self.refused_deliveries.is_empty() {
            let at_ms = self.unconfirmed.retry_at_ms.max(now.mono_ms);
            self.unconfirmed.retry_is_armed = true;
            self.timers.arm(at_ms, Due::Retry);
        }
    }

    /// Writes what was refused, as much as a turn should hold.
    pub(super) fn write_lost(&mut self, now: Now, out: &mut Outbox) {
        while out.turn.size_bytes() < STEP_BYTES
            && let Some(owner) = self.unconfirmed.next_lost()
        {
            if self.snapshots.is_under_way() {
                // The snapshot waits for it.
                out.turn.use_last_room();
            }
            self.write_unit(owner, now, out);
        }
    }

    /// Something new of `owner`, a client id or the name of a group, is about to be written: what
    /// was refused of it goes first.
    pub(super) fn lost_first(&mut self, owner: &str, now: Now, out: &mut Outbox) {
        if self.unconfirmed.has_lost() {
            self.write_unit(owner_of(owner), now, out);
        }
        // Should the log refuse a will that is on its way, it must not take what follows it.
        let turn = out.turn.number();
        if self.unconfirmed.has_will_before(turn, || owner_of(owner)) {
            out.turn.need_earlier();
        }
    }

    /// The same for the client of a session.
    pub(super) fn lost_first_of(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        if !self.unconfirmed.is_idle() {
            let client_id = self.sessions[slot].client_id.clone();
            self.lost_first(&client_id, now, out);
        }
    }

    pub(super) fn write_unit(&mut self, owner: u32, now: Now, out: &mut Outbox) {
        let Some(unit) = self.unconfirmed.take(owner) else {
            return;
        };
        let (turn, partition) = (out.turn.number(), self.places.sessions);
        let mut records = Vec::new();
        for (key, value) in unit.notes {
            records.push((key, Some(value)));
        }
        for (client_id, positions) in unit.gone {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            Key::write(&mut key, Kind::Dropped, &client_id, &[]);
            write_positions(&mut value, positions.into_iter());
            records.push((key.into(), Some(value.into())));
        }
        records.extend(unit.latest);
        for (key, value) in records {
            out.turn
                .table(partition, &key, value.as_deref(), now.wall_ms);
            self.unconfirmed.record(turn, owner, key, value);
        }
        for words in unit.wills {
            self.publish_words(words, now, out);
        }
        for record in &unit.events {
            out.turn.again(record);
        }
    }
}
