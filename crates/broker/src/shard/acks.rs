//! What receivers acknowledge: PUBACK, PUBREC and PUBCOMP. The record of `message.acked` and the
//! removal from the inflight window are one journal entry.

use super::Shard;
use super::answers::Answer;
use super::deliver::{Live, delivery};
use super::pump::Reading;
use crate::hooks::Event;
use crate::input::{ConnId, Now, ReadRequest};
use crate::message::MessageView;
use crate::outbox::Outbox;
use crate::turn::EventFacts;
use commitlog::Ack as Level;
use mqtt::inflight::{AckError, OutState};
use mqtt::{Ack, AckKind, QoS, ReasonCode};

impl Shard {
    /// A QoS 1 delivery arrived.
    pub(super) fn puback(&mut self, conn: ConnId, ack: &Ack<'_>, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        let slot = connection.session;
        match self.sessions[slot].outbound.get(ack.packet_id) {
            Some((OutState::Qos1Sent, _)) => {
                self.acked(slot, ack.packet_id, ack.reason, now, out);
            }
            Some(_) => self.disconnect(conn, ReasonCode::ProtocolError, "protocol_error", now, out),
            // Late, of an earlier life, or nonsense: nothing is awaited, nothing is answered.
            None => {}
        }
    }

    /// A QoS 2 delivery arrived; PUBREL follows once that is in the journal.
    pub(super) fn pubrec(&mut self, conn: ConnId, ack: &Ack<'_>, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        let slot = connection.session;
        let packet_id = ack.packet_id;
        if ack.reason.is_error() {
            if self.sessions[slot]
                .outbound
                .get(packet_id)
                .is_some_and(|(state, _)| state == OutState::Qos2Sent)
            {
                self.finish_acked(slot, packet_id, None, now, out);
            }
            return;
        }
        let mut level = Level::Memory;
        let mut reason = ReasonCode::Success;
        let session = &mut self.sessions[slot];
        let persistent = session.is_persistent();
        let before = session.outbound.get(packet_id).map(|(state, _)| state);
        match session.outbound.pubrec(packet_id) {
            Ok(_) if persistent => {
                level = Level::Append;
                if before == Some(OutState::Qos2Sent) {
                    self.save_inflight(slot, packet_id, now, out);
                }
            }
            Ok(_) => {}
            Err(AckError::WrongState) => {
                self.disconnect(conn, ReasonCode::ProtocolError, "protocol_error", now, out);
                return;
            }
            Err(_) => reason = ReasonCode::PacketIdentifierNotFound,
        }
        let turn = out.turn.number() - u64::from(out.turn.is_empty());
        let answer = Answer::Ack {
            kind: AckKind::Pubrel,
            packet_id,
            reason,
        };
        self.answer_after(conn, level, turn, answer, now, out);
    }

    /// A QoS 2 delivery is finished.
    pub(super) fn pubcomp(&mut self, conn: ConnId, ack: &Ack<'_>, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        let slot = connection.session;
        match self.sessions[slot].outbound.get(ack.packet_id) {
            Some((OutState::Released, _)) => {
                self.acked(slot, ack.packet_id, ReasonCode::Success, now, out);
            }
            Some(_) => self.disconnect(conn, ReasonCode::ProtocolError, "protocol_error", now, out),
            None => {}
        }
    }

    /// The receiver has taken a message over; if a hook wants to hear of it, the message is looked
    /// up first, and stays in the window until then.
    fn acked(&mut self, slot: u32, packet_id: u16, reason: ReasonCode, now: Now, out: &mut Outbox) {
        let Some((_, &owed)) = self.sessions[slot].outbound.get(packet_id) else {
            return;
        };
        if reason.is_error() || owed.quiet || !out.turn.wants(Event::MessageAcked) {
            self.finish_acked(slot, packet_id, None, now, out);
            return;
        }
        if let Some(commit) = self.recent.commit(owed.lsn).cloned() {
            let message = commit.messages.get(owed.index);
            self.finish_acked(slot, packet_id, Some(&message), now, out);
        } else if let Some(message) = self.recent.read(owed.position).cloned() {
            self.finish_acked(slot, packet_id, Some(&message.view()), now, out);
        } else {
            let session = self.sessions.reference(slot);
            if !self.acking.insert((session.born, packet_id, owed.position)) {
                // The client repeats itself.
                return;
            }
            let token = self.token();
            self.reads.insert(
                token,
                Reading::Acked {
                    session,
                    packet_id,
                    position: owed.position,
                },
            );
            out.reads.push(ReadRequest {
                token,
                positions: vec![owed.position],
            });
        }
    }

    /// Takes a delivery out of the window, with its record in the same journal entry.
    pub(super) fn finish_acked(
        &mut self,
        slot: u32,
        packet_id: u16,
        message: Option<&MessageView<'_>>,
        now: Now,
        out: &mut Outbox,
    ) {
        self.lost_first_of(slot, now, out);
        let session = &mut self.sessions[slot];
        let Some(owed) = session.outbound.remove(packet_id) else {
            return;
        };
        self.stats.inflight -= 1;
        if let Some(message) = message {
            let live = Live {
                message,
                position: Some(owed.position),
                commit: None,
            };
            let facts = EventFacts::Acked(delivery(session, live, owed.qos));
            out.turn.happened(&facts, now.wall_ms);
        }
        debug_assert!(owed.qos != QoS::AtMostOnce, "QoS 0 is not in flight");
        self.erase_inflight(slot, packet_id, now, out);
        if owed.shared {
            self.settle_loan(slot, owed.position, now, out);
        }
        self.stats.acked += 1;
        self.pump(slot, now, out);
    }
}
