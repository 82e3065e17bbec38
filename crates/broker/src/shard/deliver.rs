//! From commits to deliveries: each committed message goes to the sessions whose subscriptions
//! match it, straight to the connection where that is free, else into the inbox.

use super::Shard;
use super::connection::Connection;
use super::frames::Form;
use super::matches::{Matched, Target, own_message};
use crate::hooks::Event;
use crate::inbox::{IdList, Inbox, Owed};
use crate::input::Now;
use crate::message::{Commit, MessageView, OwnedMessage, Position, REFUSED};
use crate::outbox::Outbox;
use crate::session::Session;
use crate::turn::{Delivery, DropReason, EventFacts};
use commitlog::{Ack as Level, Lsn};
use mqtt::QoS;
use std::sync::Arc;

/// A committed message that is being delivered.
#[derive(Clone, Copy)]
pub(super) struct Live<'a> {
    pub message: &'a MessageView<'a>,
    pub position: Option<Position>,
    /// The message's commit, and its number there; without one it was read back.
    pub commit: Option<(&'a Arc<Commit>, u32)>,
}

impl Shard {
    /// An entry is in the log.
    pub(super) fn committed(&mut self, commit: &Arc<Commit>, now: Now, out: &mut Outbox) {
        let lsn = commit.lsn;
        let own = commit.worker == self.worker;
        for &(partition, base, records) in &commit.batches {
            if partition == self.places.sessions && base != REFUSED {
                self.snapshots.table_at(base + u64::from(records));
            }
        }
        if own {
            self.progress.appended(commit.turn, lsn);
            out.turn.settled(commit.turn);
            self.progress.mirror.committed(commit, &self.hooks);
        }
        let messages = commit.messages.len() as u32;
        let mut held = false;
        if !self.filters.is_empty() || !self.pending.is_empty() {
            for index in 0..messages {
                if own && !self.pending.is_empty() {
                    self.apply_pending(commit, index, out);
                }
                if commit.messages.level(index) >= Level::Flush && lsn > self.progress.flushed_lsn {
                    held = true;
                } else {
                    self.deliver(commit, index, now, out);
                }
            }
        }
        if held {
            self.held.push_back(commit.clone());
        }
        self.progress.seen(lsn);
        if own {
            self.apply_pending(commit, u32::MAX, out);
            self.snapshots.appended(&self.progress);
            self.release_appended(now, out);
            self.release_journalled(now, out);
            self.received_to(commit.turn);
            self.unconfirmed.confirmed(commit.turn);
            self.parcels.confirmed(commit.turn, out);
        }
    }

    /// Everything up to `lsn` survives a power cut: messages of streams that promise this may be
    /// seen now.
    pub(super) fn flushed(&mut self, lsn: Lsn, now: Now, out: &mut Outbox) {
        while self.held.front().is_some_and(|commit| commit.lsn <= lsn) {
            let Some(commit) = self.held.pop_front() else {
                break;
            };
            for index in 0..commit.messages.len() as u32 {
                if commit.messages.level(index) >= Level::Flush {
                    self.deliver(&commit, index, now, out);
                }
            }
        }
        self.release_flushed(lsn, now, out);
        self.release_journalled(now, out);
    }

    /// The last entry all of whose messages are matched.
    pub(super) fn matched_to(&self) -> Lsn {
        self.held
            .front()
            .map_or(self.progress.applied_lsn, |commit| commit.lsn - 1)
    }

    /// Delivers one message of a commit to all who are to have it.
    fn deliver(&mut self, commit: &Arc<Commit>, index: u32, now: Now, out: &mut Outbox) {
        let message = commit.messages.get(index);
        let matched = self.matched(message.topic);
        if matched.is_empty() {
            return;
        }
        let position = commit
            .messages
            .place(index)
            .and_then(|place| commit.position(place));
        let live = Live {
            message: &message,
            position,
            commit: Some((commit, index)),
        };
        if message.is_expired(now.wall_ms) {
            self.expired_before(&matched, live, now, out);
            return;
        }
        self.frames.begin();
        for target in &matched.targets {
            self.deliver_to(target, matched.ids(target), live, now, out);
        }
        for &group in &matched.groups {
            self.offer(group, live, now, out);
        }
    }

    /// A message expired before it was in the log: none of those who were to get it does, and each
    /// of them is told of; replay, which puts it into their inboxes, takes it out again.
    fn expired_before(&mut self, matched: &Matched, live: Live<'_>, now: Now, out: &mut Outbox) {
        let reason = DropReason::Expired;
        for target in &matched.targets {
            let slot = target.session;
            let session = &self.sessions[slot];
            let mut granted = target.qos;
            if target.no_local && *session.client_id == *live.message.publisher {
                let Some((own, ..)) = own_message(session, live.message) else {
                    continue;
                };
                granted = own;
            }
            let qos = live.message.qos.min(granted);
            if qos == QoS::AtMostOnce {
                let conn = session.conn.and_then(|conn| self.conns.get(conn));
                if conn.is_some_and(|conn| conn.ready) {
                    self.stats.dropped[reason as usize] += 1;
                    dropped_event(session, live, qos, reason, now, out);
                }
            } else if let Some(position) = live.position {
                let owed = Owed::new(position, qos);
                self.drop_owed(slot, &owed, Some(live), reason, now, out);
            }
        }
        for &group in &matched.groups {
            self.drop_for_group(group, live, reason, now, out);
        }
    }

    fn deliver_to(
        &mut self,
        target: &Target,
        ids: &[u32],
        live: Live<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let message = live.message;
        let session = &self.sessions[target.session];
        let mut granted = target.qos;
        let mut as_published = target.retain_as_published;
        let mut own_ids = Vec::new();
        let mut ids = ids;
        if target.no_local && *session.client_id == *message.publisher {
            let Some(own) = own_message(session, message) else {
                return;
            };
            (granted, as_published, own_ids) = own;
            ids = &own_ids;
        }
        let qos = message.qos.min(granted);
        let retain = message.retain && as_published;
        if qos == QoS::AtMostOnce {
            self.send_qos0(target.session, live, retain, ids, now, out);
        } else if let Some(position) = live.position {
            let session = &mut self.sessions[target.session];
            let ids = session.list_ids(ids);
            let (lsn, index) = live
                .commit
                .map_or((0, 0), |(commit, index)| (commit.lsn, index));
            let owed = Owed {
                lsn,
                index,
                ids,
                retain,
                ..Owed::new(position, qos)
            };
            self.owe(target.session, owed, live, now, out);
        }
        drop(own_ids);
    }

    /// Sends now or never: QoS 0 is owed to nobody.
    pub(super) fn send_qos0(
        &mut self,
        slot: u32,
        live: Live<'_>,
        retain: bool,
        ids: &[u32],
        now: Now,
        out: &mut Outbox,
    ) -> bool {
        let session = &self.sessions[slot];
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else {
            return false;
        };
        if !conn.ready {
            return false;
        }
        let qos = QoS::AtMostOnce;
        if conn.parked || is_slow(conn, &self.settings, out) {
            self.stats.dropped[DropReason::QueueFull as usize] += 1;
            dropped_event(session, live, qos, DropReason::QueueFull, now, out);
            return false;
        }
        let form = Form {
            qos,
            retain,
            dup: false,
            packet_id: 0,
            ids,
        };
        if self.frames.write(live.message, form, now, conn, out) {
            self.stats.sent[0] += 1;
            self.stats.sent_bytes += live.message.payload.len() as u64;
            delivered_event(session, live, qos, now, out);
            true
        } else {
            self.stats.dropped[DropReason::TooLarge as usize] += 1;
            dropped_event(session, live, qos, DropReason::TooLarge, now, out);
            false
        }
    }

    /// A session is owed a QoS 1 or 2 message: it goes out now if nothing is before it.
    pub(super) fn owe(
        &mut self,
        slot: u32,
        mut owed: Owed,
        live: Live<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        if self.is_free(slot, out) {
            self.start(slot, owed, live, now, out);
            return;
        }
        let inbox_max = self.settings.inbox_max as usize;
        let session = &mut self.sessions[slot];
        let room = self.settings.inbox_bytes_max / u64::from(self.workers);
        let full = self.owed_bytes + size_of::<Owed>() as u64 > room;
        if full || session.backlog.inbox.len() >= inbox_max {
            self.drop_owed(slot, &owed, Some(live), DropReason::QueueFull, now, out);
            return;
        }
        session.dirty = true;
        if session.conn.is_none() {
            // By the time its client is back the copy in memory is gone.
            (owed.lsn, owed.index) = (0, 0);
        } else if let Some((commit, _)) = live.commit {
            self.recent.keep(commit);
        }
        self.inbox(slot, |inbox| inbox.push(owed));
    }

    /// Changes an inbox; every change goes through here, so that the bound on all of them holds.
    pub(super) fn inbox<R>(&mut self, slot: u32, change: impl FnOnce(&mut Inbox) -> R) -> R {
        let inbox = &mut self.sessions[slot].backlog.inbox;
        let (len, bytes) = (inbox.len() as u64, inbox.size_bytes() as u64);
        let result = change(inbox);
        self.owed = self.owed + inbox.len() as u64 - len;
        self.owed_bytes = self.owed_bytes + inbox.size_bytes() as u64 - bytes;
        result
    }

    /// Whether a delivery to this session can be started now, nothing being before it.
    pub(super) fn is_free(&mut self, slot: u32, out: &Outbox) -> bool {
        if self.is_held_up(slot) {
            return false;
        }
        let session = &self.sessions[slot];
        let backlog = &session.backlog;
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else {
            return false;
        };
        conn.ready
            && !conn.parked
            && backlog.inbox.is_empty()
            && backlog.transmit.is_empty()
            && backlog.reading == 0
            && session.outbound.free() > 0
            && !is_slow(conn, &self.settings, out)
    }

    /// Starts a delivery: takes a packet id, journals it where that must be, sends the PUBLISH.
    /// The session has a connection that is ready and room in its window.
    pub(super) fn start(
        &mut self,
        slot: u32,
        mut owed: Owed,
        live: Live<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        self.lost_first_of(slot, now, out);
        let session = &mut self.sessions[slot];
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else {
            return;
        };
        // A QoS 2 delivery of a session that outlives its connection is journalled first, so that
        // its packet id means the same message for ever [MQTT-4.3.3-2].
        let persistent = session.expiry_s > 0;
        // What a group lent must not move to another member once it was sent [MQTT-4.8.2-5].
        let picked = owed.shared && session.loan(owed.position).is_some_and(|loan| loan.journal);
        let wait = (persistent || picked) && owed.qos == QoS::ExactlyOnce;
        owed.sent = !wait;
        owed.quiet = self.frames.is_quiet(live.message, out);
        let packet_id = session.outbound.insert(owed.qos, owed);
        let packet_id = packet_id.expect("the caller has seen room in the window");
        self.stats.inflight += 1;
        if wait {
            match live.commit {
                Some((commit, _)) => self.recent.keep(commit),
                None => self
                    .recent
                    .keep_read(owed.position, OwnedMessage::new(live.message)),
            }
            self.journal_delivery(slot, packet_id, now, out);
            return;
        }
        let ids = owed.ids.get(
            session
                .backlog
                .rare
                .as_ref()
                .map_or(&[], |rare| &rare.id_lists),
        );
        let form = Form {
            qos: owed.qos,
            retain: owed.retain,
            dup: false,
            packet_id,
            ids,
        };
        if self.frames.write(live.message, form, now, conn, out) {
            self.stats.sent[owed.qos as usize] += 1;
            self.stats.sent_bytes += live.message.payload.len() as u64;
            delivered_event(session, live, owed.qos, now, out);
            if !owed.quiet
                && let Some((commit, _)) = live.commit
            {
                // The event of the acknowledgement will want to see the message again.
                self.recent.keep(commit);
            }
            if persistent {
                self.save_inflight(slot, packet_id, now, out);
            }
        } else {
            session.outbound.remove(packet_id);
            self.stats.inflight -= 1;
            self.drop_owed(slot, &owed, Some(live), DropReason::TooLarge, now, out);
        }
    }

    /// Delivers a retained message to a new subscription, which was granted `granted` and has the
    /// identifier `id`.
    pub(super) fn deliver_retained(
        &mut self,
        slot: u32,
        live: Live<'_>,
        (granted, id): (QoS, u32),
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(position) = live.position else {
            return;
        };
        let qos = live.message.qos.min(granted);
        if live.message.is_expired(now.wall_ms) {
            // Since it was looked up.
            self.stats.dropped[DropReason::Expired as usize] += 1;
            let session = &self.sessions[slot];
            dropped_event(session, live, qos, DropReason::Expired, now, out);
            return;
        }
        self.frames.begin();
        if qos == QoS::AtMostOnce {
            let ids: &[u32] = if id == 0 {
                &[]
            } else {
                std::slice::from_ref(&id)
            };
            self.send_qos0(slot, live, true, ids, now, out);
            return;
        }
        let owed = Owed {
            ids: IdList::one(id),
            retain: true,
            ..Owed::new(position, qos)
        };
        let before = self.sessions[slot].backlog.inbox.len();
        self.owe(slot, owed, live, now, out);
        if self.sessions[slot].backlog.inbox.len() > before {
            self.save_pushed(slot, &owed, now, out);
        }
    }

    /// Gives up an owed message: counted, reported, and journalled so that replay gives it up too.
    pub(super) fn drop_owed(
        &mut self,
        slot: u32,
        owed: &Owed,
        live: Option<Live<'_>>,
        reason: DropReason,
        now: Now,
        out: &mut Outbox,
    ) {
        if self.report_dropped(slot, owed, live, reason, now, out) {
            self.save_dropped(slot, &[owed.position], now, out);
        }
    }

    /// The same but for the record that replay needs. True where one is needed.
    pub(super) fn report_dropped(
        &mut self,
        slot: u32,
        owed: &Owed,
        live: Option<Live<'_>>,
        reason: DropReason,
        now: Now,
        out: &mut Outbox,
    ) -> bool {
        self.lost_first_of(slot, now, out);
        self.stats.dropped[reason as usize] += 1;
        let unknown = MessageView::unknown(owed.qos, owed.retain, now.wall_ms);
        let live = live.unwrap_or(Live {
            message: &unknown,
            position: Some(owed.position),
            commit: None,
        });
        dropped_event(&self.sessions[slot], live, owed.qos, reason, now, out);
        if owed.shared {
            self.settle_loan(slot, owed.position, now, out);
        }
        !owed.shared
    }
}

/// Whether so much waits on the connection that deliveries must; parks it then.
pub(super) fn is_slow(
    conn: &mut Connection,
    settings: &crate::settings::BrokerSettings,
    out: &Outbox,
) -> bool {
    if out.pending_bytes(conn.id) > settings.send_buffer_bytes_max as usize {
        conn.parked = true;
    }
    conn.parked
}

/// `message.delivered`, where a hook takes it.
pub(super) fn delivered_event(
    session: &Session,
    live: Live<'_>,
    qos: QoS,
    now: Now,
    out: &mut Outbox,
) {
    if out.turn.wants(Event::MessageDelivered) {
        let facts = EventFacts::Delivered(delivery(session, live, qos));
        out.turn.happened(&facts, now.wall_ms);
    }
}

/// `message.dropped`, where a hook takes it.
pub(super) fn dropped_event(
    session: &Session,
    live: Live<'_>,
    qos: QoS,
    reason: DropReason,
    now: Now,
    out: &mut Outbox,
) {
    if out.turn.wants(Event::MessageDropped) {
        let facts = EventFacts::Dropped(delivery(session, live, qos), reason);
        out.turn.happened(&facts, now.wall_ms);
    }
}

pub(super) fn delivery<'a>(session: &'a Session, live: Live<'a>, qos: QoS) -> Delivery<'a> {
    Delivery {
        client_id: &session.client_id,
        username: session.username(),
        qos,
        message: live.message,
        position: live.position,
    }
}
