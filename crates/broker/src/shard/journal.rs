//! What a shard writes into the session table. Only sessions that outlive their connection write,
//! and wills; everything else returns without a trace.

use super::Shard;
use super::table::{
    self, Key, Kind, SessionRecord, WillRecord, write_inflight, write_positions, write_presence,
    write_subscription,
};
use crate::inbox::Owed;
use crate::input::Now;
use crate::limits::STEP_BYTES;
use crate::message::Position;
use crate::outbox::Outbox;
use crate::session::SessionRef;
use crate::turn::owner_of;
use commitlog::Ack as Level;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use mqtt::SubscribeOptions;
use mqtt::inflight::OutState;
use std::collections::VecDeque;

impl Shard {
    /// Writes what a CONNECT changed; answers whether there was anything. A session that was
    /// persistent and is not any more loses its records; one whose records the log refused, or
    /// that had none, gets all of them.
    pub(super) fn save_opened(
        &mut self,
        slot: u32,
        present: bool,
        was_persistent: bool,
        now: Now,
        out: &mut Outbox,
    ) -> bool {
        let records = !out.turn.is_empty();
        let session = &mut self.sessions[slot];
        let whole = session.unsaved || (present && !was_persistent);
        session.unsaved = false;
        if session.is_persistent() {
            self.save_session(slot, now, out);
            if whole {
                self.save_whole(slot, now, out);
            }
        } else if was_persistent {
            self.erase_session(slot, now, out);
        }
        self.save_will(slot, now, out);
        // A session that ended for this one wrote into the same turn.
        let persistent = self.sessions[slot].is_persistent();
        persistent || was_persistent || self.sessions[slot].will_saved || records
    }

    /// Writes everything but the inbox, which snapshots hold.
    fn save_whole(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        for subscription in self.sessions[slot].subscriptions.clone() {
            let (filter, options) = (&subscription.filter, subscription.options);
            self.save_subscription(slot, filter, options, subscription.id, now, out);
        }
        let received: Vec<u16> = self.sessions[slot].inbound.iter().collect();
        for packet_id in received {
            self.save_received(slot, packet_id, now, out);
        }
        let in_flight: Vec<u16> = self.sessions[slot]
            .outbound
            .iter_in_order()
            .map(|(id, ..)| id)
            .collect();
        for packet_id in in_flight {
            self.save_inflight(slot, packet_id, now, out);
        }
    }

    /// Writes the session's own record: connected or not, and until when it lives.
    pub(super) fn save_session(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        let session = &self.sessions[slot];
        SessionRecord {
            expiry_s: session.expiry_s,
            protocol: session.protocol.level(),
            disconnected_ms: session
                .conn
                .is_none()
                .then_some(session.disconnected.wall_ms),
            username: session.username.clone(),
        }
        .write(&mut self.value);
        self.put(slot, Kind::Session, &[], now, out);
    }

    fn save_will(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        let session = &self.sessions[slot];
        let Some(will) = &session.will else { return };
        WillRecord::write(session.username.as_deref(), will, &mut self.value);
        self.put(slot, Kind::Will, &[], now, out);
        self.sessions[slot].will_saved = true;
    }

    pub(super) fn erase_will(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        self.erase(slot, Kind::Will, &[], now, out);
    }

    pub(super) fn save_subscription(
        &mut self,
        slot: u32,
        filter: &str,
        options: SubscribeOptions,
        id: u32,
        now: Now,
        out: &mut Outbox,
    ) {
        if self.sessions[slot].is_persistent() {
            write_subscription(&mut self.value, options, id);
            self.put(slot, Kind::Subscription, filter.as_bytes(), now, out);
        }
    }

    pub(super) fn erase_subscription(
        &mut self,
        slot: u32,
        filter: &str,
        now: Now,
        out: &mut Outbox,
    ) {
        if self.sessions[slot].is_persistent() {
            self.erase(slot, Kind::Subscription, filter.as_bytes(), now, out);
        }
    }

    pub(super) fn save_received(&mut self, slot: u32, packet_id: u16, now: Now, out: &mut Outbox) {
        write_presence(&mut self.value);
        self.put(slot, Kind::Received, &packet_id.to_be_bytes(), now, out);
    }

    pub(super) fn erase_received(&mut self, slot: u32, packet_id: u16, now: Now, out: &mut Outbox) {
        self.erase(slot, Kind::Received, &packet_id.to_be_bytes(), now, out);
    }

    /// Writes a delivery in flight as it is now.
    pub(super) fn save_inflight(&mut self, slot: u32, packet_id: u16, now: Now, out: &mut Outbox) {
        let session = &self.sessions[slot];
        if !session.is_persistent() {
            return;
        }
        let Some((state, owed)) = session.outbound.get(packet_id) else {
            return;
        };
        let group = owed.shared.then(|| session.loan(owed.position)).flatten();
        let released = state == OutState::Released;
        let group = group.map(|loan| &*loan.group);
        write_inflight(&mut self.value, owed, released, session.id_lists(), group);
        self.put(slot, Kind::Inflight, &packet_id.to_be_bytes(), now, out);
    }

    pub(super) fn erase_inflight(&mut self, slot: u32, packet_id: u16, now: Now, out: &mut Outbox) {
        if self.sessions[slot].is_persistent() {
            self.erase(slot, Kind::Inflight, &packet_id.to_be_bytes(), now, out);
        }
    }

    /// Owed messages were given up.
    pub(super) fn save_dropped(
        &mut self,
        slot: u32,
        positions: &[Position],
        now: Now,
        out: &mut Outbox,
    ) {
        if self.sessions[slot].is_persistent() && !positions.is_empty() {
            write_positions(&mut self.value, positions.iter().copied());
            self.put(slot, Kind::Dropped, &[], now, out);
        }
    }

    /// A retained message went into the inbox, which no replay would put there.
    pub(super) fn save_pushed(&mut self, slot: u32, owed: &Owed, now: Now, out: &mut Outbox) {
        let session = &self.sessions[slot];
        if session.is_persistent() {
            write_inflight(&mut self.value, owed, false, session.id_lists(), None);
            self.put(slot, Kind::Pushed, &[], now, out);
        }
    }

    /// Takes all records of a session away.
    pub(super) fn erase_session(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        self.erase(slot, Kind::Session, &[], now, out);
        let session = &mut self.sessions[slot];
        let filters: Vec<_> = session
            .subscriptions
            .iter()
            .map(|s| s.filter.clone())
            .collect();
        let received: Vec<u16> = session.inbound.iter().collect();
        let in_flight: Vec<u16> = session
            .outbound
            .iter_in_order()
            .map(|(id, ..)| id)
            .collect();
        let chunks = session.backlog.inbox.saved_chunks();
        for filter in filters {
            self.erase(slot, Kind::Subscription, filter.as_bytes(), now, out);
        }
        if !received.is_empty() {
            self.progress.ids_erased = out.turn.number();
        }
        for packet_id in received {
            self.erase_received(slot, packet_id, now, out);
        }
        for packet_id in in_flight {
            self.erase(slot, Kind::Inflight, &packet_id.to_be_bytes(), now, out);
        }
        if !chunks.is_empty() {
            self.erase(slot, Kind::Head, &[], now, out);
        }
        for chunk in chunks {
            self.erase(slot, Kind::Chunk, &chunk.to_be_bytes(), now, out);
        }
    }

    /// Journals a QoS 2 delivery that may only be sent afterwards.
    pub(super) fn journal_delivery(
        &mut self,
        slot: u32,
        packet_id: u16,
        now: Now,
        out: &mut Outbox,
    ) {
        if self.sessions[slot].is_persistent() {
            self.save_inflight(slot, packet_id, now, out);
        } else {
            // Lent by a group to a session that ends with its connection: no other member may get
            // the message, whatever happens [MQTT-4.8.2-5].
            let session = &self.sessions[slot];
            let owed = session.outbound.get(packet_id);
            let loan = owed.and_then(|(_, owed)| session.loan(owed.position));
            if let Some((group, position)) = loan.map(|loan| (loan.group.clone(), loan.position)) {
                self.save_settled(slot, &group, position, now, out);
            }
        }
        let session = self.sessions.reference(slot);
        if self.hooks.strictest() == Level::Flush {
            out.turn.await_flush();
        }
        self.journalled
            .push_back((out.turn.number(), session, packet_id));
    }

    /// The log refused a turn: deliveries that must be journalled first are tried again later.
    pub(super) fn journal_refused(&mut self, turn: u64) {
        let refused = &mut self.refused_deliveries;
        self.journalled.retain(|&(at, session, packet_id)| {
            // Later ones of the same session wait behind it, so that order is kept.
            let waits = at == turn || refused.holds_up(session.slot);
            if waits {
                refused.push(session, packet_id);
            }
            !waits
        });
    }

    /// Journals again the deliveries that the log refused, as far as a turn should go.
    pub(super) fn deliver_refused(&mut self, now: Now, out: &mut Outbox) {
        while out.turn.size_bytes() < STEP_BYTES
            && let Some((session, packet_id)) = self.refused_deliveries.pop()
        {
            if let Some(slot) = self.sessions.current(session) {
                self.journal_delivery(slot, packet_id, now, out);
            }
            // What stood behind them may go on, also where the session was resumed meanwhile.
            if let Some(slot) = self.sessions.living(session) {
                self.pump(slot, now, out);
            }
        }
    }

    /// Whether deliveries of a session wait to be journalled again; others must not overtake them.
    pub(super) fn is_held_up(&self, slot: u32) -> bool {
        self.refused_deliveries.holds_up(slot)
    }

    /// Puts `self.value` under a key of the session.
    pub(super) fn put(&mut self, slot: u32, kind: Kind, rest: &[u8], now: Now, out: &mut Outbox) {
        let owner = self.sessions[slot].client_id.clone();
        self.put_for(kind, &owner, rest, now, out);
    }

    /// Puts `self.value` under a key.
    pub(super) fn put_for(
        &mut self,
        kind: Kind,
        owner: &str,
        rest: &[u8],
        now: Now,
        out: &mut Outbox,
    ) {
        self.put_with(owner, kind, owner, rest, now, out);
    }

    /// Puts `self.value` under a key; it stays together with what is written of `with`.
    pub(super) fn put_with(
        &mut self,
        with: &str,
        kind: Kind,
        owner: &str,
        rest: &[u8],
        now: Now,
        out: &mut Outbox,
    ) {
        self.lost_first(with, now, out);
        table::Key::write(&mut self.key, kind, owner, rest);
        let (turn, value) = (out.turn.number(), Some(&*self.value));
        out.turn
            .table(self.places.sessions, &self.key, value, now.wall_ms);
        self.unconfirmed
            .written(turn, owner_of(with), &self.key, value);
    }

    fn erase(&mut self, slot: u32, kind: Kind, rest: &[u8], now: Now, out: &mut Outbox) {
        let owner = self.sessions[slot].client_id.clone();
        self.erase_for(kind, &owner, rest, now, out);
    }

    /// Writes a tombstone under a key.
    pub(super) fn erase_for(
        &mut self,
        kind: Kind,
        owner: &str,
        rest: &[u8],
        now: Now,
        out: &mut Outbox,
    ) {
        self.lost_first(owner, now, out);
        Key::write(&mut self.key, kind, owner, rest);
        out.turn
            .table(self.places.sessions, &self.key, None, now.wall_ms);
        self.unconfirmed
            .written(out.turn.number(), owner_of(owner), &self.key, None);
    }
}

/// QoS 2 deliveries whose record the log refused, in order.
#[derive(Debug, Default)]
pub(super) struct RefusedDeliveries {
    waiting: VecDeque<(SessionRef, u16)>,
    /// How many of each slot wait.
    by_slot: HashMap<u32, u32, RandomState>,
}

impl RefusedDeliveries {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn holds_up(&self, slot: u32) -> bool {
        !self.waiting.is_empty() && self.by_slot.contains_key(&slot)
    }

    fn push(&mut self, session: SessionRef, packet_id: u16) {
        *self.by_slot.entry(session.slot).or_default() += 1;
        self.waiting.push_back((session, packet_id));
    }

    fn pop(&mut self) -> Option<(SessionRef, u16)> {
        let (session, packet_id) = self.waiting.pop_front()?;
        if let Some(count) = self.by_slot.get_mut(&session.slot) {
            *count -= 1;
            if *count == 0 {
                self.by_slot.remove(&session.slot);
            }
        }
        Some((session, packet_id))
    }
}
