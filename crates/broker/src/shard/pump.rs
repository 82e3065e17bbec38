//! The backlog of a session on its way out: what is in flight from an earlier connection first,
//! then the inbox, as far as the client's window and the send buffer have room. Messages that are
//! not in memory any more are read back, more of them than the window has room for.

use super::Shard;
use super::deliver::{Live, delivered_event, is_slow};
use super::frames::Form;
use crate::hooks::Event;
use crate::inbox::{Inbox, Owed};
use crate::input::{ConnId, Now, ReadRequest};
use crate::message::{Commit, MessageView, OwnedMessage, Position};
use crate::outbox::Outbox;
use crate::session::{Session, SessionRef};
use crate::turn::DropReason;
use commitlog::Ack as Level;
use mqtt::inflight::OutState;
use mqtt::{AckKind, ReasonCode, write_ack};
use std::sync::Arc;

/// Positions that one [`ReadRequest`] asks for at most.
pub const READ_POSITIONS_MAX: usize = 512;

/// What a read is for.
#[derive(Debug)]
pub(super) enum Reading {
    /// Deliveries in flight that are to be sent (again).
    Transmit {
        session: SessionRef,
        packet_ids: Vec<u16>,
    },
    /// The front of the inbox.
    Inbox {
        session: SessionRef,
        positions: Vec<Position>,
    },
    /// Deliveries that are given up, for the records of that.
    GivenUp {
        session: SessionRef,
        owed: Vec<Owed>,
        reason: DropReason,
    },
    /// A message that was acknowledged, for the record of the event.
    /// Packet ids outlive connections, so a session that was resumed meanwhile hears of it too.
    Acked {
        session: SessionRef,
        packet_id: u16,
        position: Position,
    },
}

/// What the pump does next.
enum Step {
    Done,
    Again,
    Read(Reading, Vec<Position>),
    Transmit(u16, Arc<Commit>, u32),
    TransmitRead(u16, OwnedMessage),
    Inbox(Arc<Commit>, u32),
    /// The front of the inbox, which was read ahead; without a message it is gone.
    InboxRead(Position, Option<OwnedMessage>),
}

impl Shard {
    /// CONNACK is sent: what the session has in flight goes out again, then what it is owed.
    pub(super) fn connection_ready(&mut self, conn: ConnId, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        connection.ready = true;
        let slot = connection.session;
        let session = &mut self.sessions[slot];
        session.backlog.reading = 0;
        let in_flight = session
            .outbound
            .iter_in_order()
            .map(|(packet_id, ..)| packet_id);
        session.backlog.transmit = in_flight.collect();
        self.announce_member(slot, out);
        self.pump(slot, now, out);
    }

    /// What waits on the connection fell low enough.
    pub(super) fn drained(&mut self, conn: ConnId, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        connection.parked = false;
        let slot = connection.session;
        self.pump(slot, now, out);
    }

    /// Sends as much of the backlog as may be sent now.
    pub(super) fn pump(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        loop {
            match self.next_step(slot, out) {
                Step::Done => return,
                Step::Again => {}
                Step::Read(reading, positions) => {
                    let token = self.token();
                    self.sessions[slot].backlog.reading = token;
                    self.reads.insert(token, reading);
                    out.reads.push(ReadRequest { token, positions });
                    return;
                }
                Step::Transmit(packet_id, commit, index) => {
                    self.sessions[slot].backlog.transmit.pop_front();
                    let message = commit.messages.get(index);
                    self.transmit(slot, packet_id, Some((&commit, index)), &message, now, out);
                }
                Step::TransmitRead(packet_id, message) => {
                    self.sessions[slot].backlog.transmit.pop_front();
                    self.transmit(slot, packet_id, None, &message.view(), now, out);
                }
                Step::Inbox(commit, index) => {
                    let message = commit.messages.get(index);
                    self.deliver_front(slot, Some((&commit, index)), Some(&message), now, out);
                }
                Step::InboxRead(position, message) => {
                    let view = message.as_ref().map(OwnedMessage::view);
                    if let Some(view) = &view {
                        self.keep_for_event(position, view, out);
                    }
                    self.deliver_front(slot, None, view.as_ref(), now, out);
                }
            }
        }
    }

    fn next_step(&mut self, slot: u32, out: &mut Outbox) -> Step {
        let held_up = self.is_held_up(slot);
        let reference = self.sessions.reference(slot);
        let session = &mut self.sessions[slot];
        let backlog = &mut session.backlog;
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else {
            return Step::Done;
        };
        if !conn.ready || backlog.reading != 0 || is_slow(conn, &self.settings, out) {
            return Step::Done;
        }
        if let Some(&packet_id) = backlog.transmit.front() {
            if !may_send_again(session) {
                return Step::Done;
            }
            let backlog = &mut session.backlog;
            match session.outbound.get(packet_id) {
                None => {
                    backlog.transmit.pop_front();
                    Step::Again
                }
                Some((OutState::Released, _)) => {
                    backlog.transmit.pop_front();
                    let frame = out.frame(conn.id);
                    write_ack(
                        AckKind::Pubrel,
                        packet_id,
                        ReasonCode::Success,
                        conn.version,
                        frame,
                    );
                    Step::Again
                }
                Some((_, owed)) => {
                    if let Some(commit) = self.recent.commit(owed.lsn) {
                        return Step::Transmit(packet_id, commit.clone(), owed.index);
                    }
                    if let Some(message) = self.recent.read(owed.position) {
                        return Step::TransmitRead(packet_id, message.clone());
                    }
                    let mut packet_ids = Vec::new();
                    let mut positions = Vec::new();
                    for &packet_id in backlog.transmit.iter().take(READ_POSITIONS_MAX) {
                        match session.outbound.get(packet_id) {
                            Some((state, owed)) if state != OutState::Released => {
                                packet_ids.push(packet_id);
                                positions.push(owed.position);
                            }
                            _ => break,
                        }
                    }
                    Step::Read(
                        Reading::Transmit {
                            session: reference,
                            packet_ids,
                        },
                        positions,
                    )
                }
            }
        } else if let Some(owed) = backlog.inbox.front() {
            if session.outbound.free() == 0 || held_up {
                return Step::Done;
            }
            if let Some(commit) = self.recent.commit(owed.lsn) {
                return Step::Inbox(commit.clone(), owed.index);
            }
            if let Some(message) = self.ahead.take(slot, owed.position) {
                return Step::InboxRead(owed.position, message);
            }
            let many = self.ahead.positions(session.outbound.free());
            let positions: Vec<Position> = backlog
                .inbox
                .iter()
                .take(many)
                .map(|owed| owed.position)
                .collect();
            let reading = Reading::Inbox {
                session: reference,
                positions: positions.clone(),
            };
            Step::Read(reading, positions)
        } else {
            session.revoked = false;
            Step::Done
        }
    }

    /// Messages that were asked for.
    pub(super) fn read(
        &mut self,
        token: u64,
        messages: Vec<Option<OwnedMessage>>,
        now: Now,
        out: &mut Outbox,
    ) {
        match self.reads.remove(&token) {
            None => {}
            Some(Reading::Acked {
                session,
                packet_id,
                position,
            }) => {
                self.acking.remove(&(session.born, packet_id, position));
                let Some(slot) = self.sessions.living(session) else {
                    return;
                };
                let in_flight = self.sessions[slot].outbound.get(packet_id);
                if in_flight.is_some_and(|(_, owed)| owed.position == position) {
                    let message = messages.first().and_then(Option::as_ref);
                    let view = message.map(OwnedMessage::view);
                    self.finish_acked(slot, packet_id, view.as_ref(), now, out);
                }
            }
            Some(Reading::GivenUp {
                session,
                owed,
                reason,
            }) => self.given_up(session, owed, &messages, reason, now, out),
            Some(Reading::Transmit {
                session,
                packet_ids,
            }) => {
                let Some(slot) = self.read_for(session, token) else {
                    return;
                };
                for (&packet_id, message) in packet_ids.iter().zip(&messages) {
                    let session = &mut self.sessions[slot];
                    if session.backlog.transmit.front() != Some(&packet_id)
                        || !may_send_again(session)
                    {
                        break;
                    }
                    session.backlog.transmit.pop_front();
                    match message {
                        Some(message) => {
                            let view = message.view();
                            if let Some((_, owed)) = self.sessions[slot].outbound.get(packet_id) {
                                self.keep_for_event(owed.position, &view, out);
                            }
                            self.transmit(slot, packet_id, None, &view, now, out);
                        }
                        None => self.lost(slot, packet_id, now, out),
                    }
                }
                self.pump(slot, now, out);
            }
            Some(Reading::Inbox { session, positions }) => {
                let Some(slot) = self.read_for(session, token) else {
                    return;
                };
                // Only a front of what was asked for may have come.
                let read = positions.into_iter().zip(messages).collect();
                self.ahead.fill(slot, read);
                self.pump(slot, now, out);
                self.ahead.trim();
            }
        }
    }

    /// A message that was read back is kept for the event of its acknowledgement, if a hook takes
    /// that, so that it need not be read again.
    fn keep_for_event(&mut self, position: Position, message: &MessageView<'_>, out: &mut Outbox) {
        if out.turn.matches_event(Event::MessageAcked, message.topic) {
            self.recent.keep_read(position, OwnedMessage::new(message));
        }
    }

    fn read_for(&mut self, session: SessionRef, token: u64) -> Option<u32> {
        let slot = self.sessions.current(session)?;
        let backlog = &mut self.sessions[slot].backlog;
        if backlog.reading != token {
            return None;
        }
        backlog.reading = 0;
        Some(slot)
    }

    /// Takes the front of the inbox and starts its delivery; there is room for it.
    fn deliver_front(
        &mut self,
        slot: u32,
        commit: Option<(&Arc<Commit>, u32)>,
        message: Option<&MessageView<'_>>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(owed) = self.inbox(slot, Inbox::pop) else {
            return;
        };
        self.sessions[slot].dirty = true;
        let Some(message) = message else {
            self.drop_owed(slot, &owed, None, DropReason::Retention, now, out);
            return;
        };
        let live = Live {
            message,
            position: Some(owed.position),
            commit,
        };
        if message.is_expired(now.wall_ms) {
            self.drop_owed(slot, &owed, Some(live), DropReason::Expired, now, out);
            return;
        }
        if self.is_revoked(slot, &owed, message.topic) {
            self.drop_owed(slot, &owed, Some(live), DropReason::NotAuthorized, now, out);
            return;
        }
        self.frames.begin();
        self.start(slot, owed, live, now, out);
    }

    /// Sends the PUBLISH of a delivery that has its packet id already.
    fn transmit(
        &mut self,
        slot: u32,
        packet_id: u16,
        commit: Option<(&Arc<Commit>, u32)>,
        message: &MessageView<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        self.lost_first_of(slot, now, out);
        self.frames.begin();
        let session = &mut self.sessions[slot];
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else {
            return;
        };
        let Some(owed) = session.outbound.get_mut(packet_id) else {
            return;
        };
        let dup = std::mem::replace(&mut owed.sent, true);
        owed.quiet = self.frames.is_quiet(message, out);
        let owed = *owed;
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
            dup,
            packet_id,
            ids,
        };
        let live = Live {
            message,
            position: Some(owed.position),
            commit,
        };
        if self.frames.write(message, form, now, conn, out) {
            self.stats.sent[owed.qos as usize] += 1;
            self.stats.sent_bytes += message.payload.len() as u64;
            if !dup {
                delivered_event(session, live, owed.qos, now, out);
            }
        } else {
            session.outbound.remove(packet_id);
            self.stats.inflight -= 1;
            self.erase_inflight(slot, packet_id, now, out);
            self.drop_owed(slot, &owed, Some(live), DropReason::TooLarge, now, out);
        }
    }

    /// Retention took a message that is in flight.
    fn lost(&mut self, slot: u32, packet_id: u16, now: Now, out: &mut Outbox) {
        if let Some(owed) = self.sessions[slot].outbound.remove(packet_id) {
            self.stats.inflight -= 1;
            self.erase_inflight(slot, packet_id, now, out);
            self.drop_owed(slot, &owed, None, DropReason::Retention, now, out);
        }
    }

    /// Sends the QoS 2 deliveries whose record is where nothing can take it back: a client keeps the
    /// packet id of what it was sent until PUBREL comes. If a power cut took the record, the id would
    /// be given to another message, which the client would take for a repetition: lost.
    pub(super) fn release_journalled(&mut self, now: Now, out: &mut Outbox) {
        let safe_to = match self.hooks.strictest() {
            Level::Flush => self.progress.flushed,
            _ => self.progress.appended,
        };
        while let Some(&(turn, session, packet_id)) = self.journalled.front()
            && turn <= safe_to
        {
            self.journalled.pop_front();
            if let Some(slot) = self.sessions.current(session) {
                self.sessions[slot].backlog.transmit.push_back(packet_id);
                self.pump(slot, now, out);
            }
        }
    }
}

/// After a reconnect with a smaller window only so many deliveries are sent again at first
/// [MQTT-3.3.4-9].
fn may_send_again(session: &Session) -> bool {
    let in_flight = session.outbound.len();
    let waiting = session.backlog.transmit.len().min(in_flight);
    in_flight - waiting < usize::from(session.outbound.window())
}
