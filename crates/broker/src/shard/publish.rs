//! What clients publish: PUBLISH and PUBREL on their way in.

use super::Shard;
use super::answers::Answer;
use super::mirrored::Gate;
use crate::access::Action;
use crate::input::{Announce, ConnId, Now};
use crate::message::MessageView;
use crate::outbox::Outbox;
use crate::turn::{Delivery, DropReason, EventFacts, PublishFacts, Published};
use commitlog::Ack as Level;
use mqtt::inflight::Received;
use mqtt::{Ack, AckKind, Publish, PublishProperties, QoS, ReasonCode};
use std::sync::PoisonError;

impl Shard {
    /// A client publishes.
    pub(super) fn publish(
        &mut self,
        conn: ConnId,
        publish: &Publish<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        let slot = connection.session;
        // A will of an earlier connection that the log refused, if it still waits.
        self.lost_first_of(slot, now, out);
        if publish.qos > self.settings.qos_max {
            self.disconnect(
                conn,
                ReasonCode::QoSNotSupported,
                "qos_not_supported",
                now,
                out,
            );
            return;
        }
        if publish.retain && !self.settings.retain_available {
            self.disconnect(
                conn,
                ReasonCode::RetainNotSupported,
                "retain_not_supported",
                now,
                out,
            );
            return;
        }
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        let aliased: String;
        let topic = match publish.properties.topic_alias {
            None => publish.topic,
            Some(alias) => match connection.aliases_in.resolve(alias, publish.topic) {
                Ok(topic) => {
                    aliased = topic.to_owned();
                    aliased.as_str()
                }
                Err(reason) => {
                    self.disconnect(conn, reason, "protocol_error", now, out);
                    return;
                }
            },
        };
        if self.is_limited(conn)
            && !self.is_repeated(slot, publish)
            && !self.may(conn, Action::Publish, topic, now)
        {
            self.deny_publish(conn, publish, topic, now, out);
            return;
        }
        if let Err(reason) = self.accepts(topic, publish) {
            self.refuse_publish(conn, publish, reason, now, out);
            return;
        }
        if publish.qos != QoS::AtMostOnce
            && self.progress.mirror.is_full()
            && !self.is_repeated(slot, publish)
            && out.turn.level_of(topic) == Level::Kafka
        {
            self.stats.mirror_refused += 1;
            self.refuse_publish(conn, publish, ReasonCode::QuotaExceeded, now, out);
            return;
        }
        if publish.qos != QoS::AtMostOnce && !self.take_in(conn, slot, publish, now, out) {
            return;
        }
        let wanted = self.is_wanted(topic);
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        connection.name_peer();
        let who = connection.publisher(&self.sessions[slot]);
        let facts = PublishFacts::of(publish, topic, who, now.wall_ms);
        self.stats.received[publish.qos as usize] += 1;
        self.stats.received_bytes += publish.payload.len() as u64;
        let published = out.turn.publish(&facts);
        if !wanted {
            self.stats.dropped[DropReason::NoSubscribers as usize] += 1;
            dropped(&facts, DropReason::NoSubscribers, now, out);
        }
        if publish.qos != QoS::AtMostOnce {
            let reason = if wanted {
                ReasonCode::Success
            } else {
                ReasonCode::NoMatchingSubscribers
            };
            self.acknowledge(conn, publish, published, reason, now, out);
        }
    }

    /// Whether a PUBLISH to `topic` may be taken.
    fn accepts(&self, topic: &str, publish: &Publish<'_>) -> Result<(), ReasonCode> {
        if is_reserved(topic) {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if publish.retain && !publish.payload.is_empty() && !self.admits_retained(topic) {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(())
    }

    /// Whether one more retained message has room.
    pub(super) fn admits_retained(&self, topic: &str) -> bool {
        let Some(index) = &self.retained else {
            return true;
        };
        index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .admits(topic)
    }

    /// A PUBLISH is not taken. MQTT 3 has no word for that: a topic that is the node's own is
    /// acknowledged without effect [MQTT-3.3.5-2], anything else ends the connection.
    fn refuse_publish(
        &mut self,
        conn: ConnId,
        publish: &Publish<'_>,
        mut reason: ReasonCode,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        if !connection.version.is_v5() {
            if reason != ReasonCode::TopicNameInvalid {
                self.disconnect(conn, reason, reason.name(), now, out);
                return;
            }
            reason = ReasonCode::Success;
        }
        self.answer_unpublished(conn, publish, reason, now, out);
    }

    /// Checks the client's window and takes a QoS 2 id. False: nothing more is to be done.
    fn take_in(
        &mut self,
        conn: ConnId,
        slot: u32,
        publish: &Publish<'_>,
        now: Now,
        out: &mut Outbox,
    ) -> bool {
        let quota = self.settings.receive_maximum;
        let Some(connection) = self.conns.get_mut(conn) else {
            return false;
        };
        // MQTT 3 knows no receive maximum; its clients are held back by the host's credits, and by
        // the number of packet ids that there are.
        let full = if connection.version.is_v5() {
            connection.unfinished >= quota
        } else {
            connection.unfinished == u16::MAX
        };
        if publish.qos == QoS::ExactlyOnce {
            match self.sessions[slot].inbound.receive(publish.packet_id) {
                Received::New if !full => {}
                Received::Duplicate => {
                    // Not published again; PUBREC is, once what it promises is in the log.
                    let answer = Answer::Ack {
                        kind: AckKind::Pubrec,
                        packet_id: publish.packet_id,
                        reason: ReasonCode::Success,
                    };
                    let session = self.sessions.reference(slot);
                    if let Some(gate) = self.progress.mirror.repeated(session, publish.packet_id) {
                        self.answer_behind(conn, Level::Kafka, gate, answer, now, out);
                        return false;
                    }
                    // One that is in the log is not to be refused with a turn that it is not in: its
                    // client would use the id for another message, which would be taken for this one.
                    let turn = self.receiving_turn(slot, publish.packet_id);
                    let turn = turn.unwrap_or(self.progress.appended);
                    self.answer_after(conn, Level::Flush, turn, answer, now, out);
                    return false;
                }
                received => {
                    if received == Received::New {
                        // It is not taken: the client may send it again.
                        self.sessions[slot].inbound.release(publish.packet_id);
                    }
                    let reason = ReasonCode::ReceiveMaximumExceeded;
                    self.disconnect(conn, reason, "receive_maximum_exceeded", now, out);
                    return false;
                }
            }
        } else if full {
            let reason = ReasonCode::ReceiveMaximumExceeded;
            self.disconnect(conn, reason, "receive_maximum_exceeded", now, out);
            return false;
        }
        if let Some(connection) = self.conns.get_mut(conn) {
            connection.unfinished = connection.unfinished.saturating_add(1);
        }
        true
    }

    /// The turn that a QoS 2 message is in, if that is not in the log yet.
    fn receiving_turn(&self, slot: u32, packet_id: u16) -> Option<u64> {
        let mut receiving = self.receiving.iter().rev();
        let found = receiving.find(|&&(_, session, id)| {
            id == packet_id && self.sessions.living(session) == Some(slot)
        });
        found.map(|&(turn, ..)| turn)
    }

    /// Turns up to `turn` are in the log, and the QoS 2 messages in them.
    pub(super) fn received_to(&mut self, turn: u64) {
        while self.receiving.front().is_some_and(|&(at, ..)| at <= turn) {
            self.receiving.pop_front();
        }
    }

    /// The log refused a turn: QoS 2 messages in it did not come in, so their ids are free. A later
    /// turn may have written them with the whole session; that must not outlive the process.
    pub(super) fn receive_refused(&mut self, turn: u64, now: Now, out: &mut Outbox) {
        for (at, session, packet_id) in std::mem::take(&mut self.receiving) {
            if at != turn {
                self.receiving.push_back((at, session, packet_id));
            } else if let Some(slot) = self.sessions.living(session)
                && self.sessions[slot].inbound.release(packet_id)
                && self.sessions[slot].is_persistent()
            {
                self.erase_received(slot, packet_id, now, out);
            }
        }
    }

    /// Queues PUBACK or PUBREC behind the level that the message's streams ask for.
    fn acknowledge(
        &mut self,
        conn: ConnId,
        publish: &Publish<'_>,
        published: Published,
        reason: ReasonCode,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        let slot = connection.session;
        let packet_id = publish.packet_id;
        let mut level = published.ack;
        let gate = Gate {
            turn: out.turn.number(),
            bits: published.mirrored,
        };
        let mut kind = AckKind::Puback;
        if publish.qos == QoS::ExactlyOnce {
            kind = AckKind::Pubrec;
            let session = self.sessions.reference(slot);
            self.receiving
                .push_back((out.turn.number(), session, packet_id));
            if level == Level::Kafka {
                self.progress.mirror.receive(session, packet_id, gate);
            }
            if self.sessions[slot].is_persistent() {
                self.save_received(slot, packet_id, now, out);
                level = level.max(Level::Append);
            }
        }
        let answer = Answer::Ack {
            kind,
            packet_id,
            reason,
        };
        self.answer_behind(conn, level, gate, answer, now, out);
    }

    /// The client has heard that its QoS 2 message arrived: the id is free again.
    pub(super) fn pubrel(&mut self, conn: ConnId, ack: &Ack<'_>, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        let slot = connection.session;
        let known = self.sessions[slot].inbound.release(ack.packet_id);
        let mut level = Level::Memory;
        // An id that is not known may still have a record, whose end the log refused.
        if self.sessions[slot].is_persistent() {
            self.erase_received(slot, ack.packet_id, now, out);
            // After PUBCOMP the client uses the id for another message. If a power cut brought the id
            // back, that one would be taken for a repetition, acknowledged and lost.
            level = self.hooks.strictest();
        }
        let reason = if known {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        let answer = Answer::Ack {
            kind: AckKind::Pubcomp,
            packet_id: ack.packet_id,
            reason,
        };
        self.answer(conn, level, answer, now, out);
    }

    /// Publishes what no client is waiting for, such as a will.
    pub(super) fn publish_facts(&mut self, facts: &PublishFacts<'_>, out: &mut Outbox) {
        if is_reserved(facts.topic) {
            return;
        }
        let wanted = self.is_wanted(facts.topic);
        out.turn.publish(facts);
        if !wanted {
            self.stats.dropped[DropReason::NoSubscribers as usize] += 1;
            dropped(
                facts,
                DropReason::NoSubscribers,
                Now {
                    wall_ms: facts.now_ms,
                    mono_ms: 0,
                },
                out,
            );
        }
    }

    /// The node itself publishes.
    pub(super) fn announce(announce: Announce<'_>, now: Now, out: &mut Outbox) {
        out.turn.announce(&PublishFacts {
            client_id: "",
            username: "",
            topic: announce.topic,
            payload: announce.payload,
            qos: QoS::AtMostOnce,
            retain: announce.retain,
            dup: false,
            properties: &PublishProperties::default(),
            peer: "",
            principal: "",
            now_ms: now.wall_ms,
        });
    }
}

/// Whether only the node itself publishes to `topic`.
pub(super) fn is_reserved(topic: &str) -> bool {
    topic.starts_with("$SYS/") || topic == "$SYS"
}

/// What was published reaches nobody: `message.dropped`, with the publisher as its client.
pub(super) fn dropped(facts: &PublishFacts<'_>, reason: DropReason, now: Now, out: &mut Outbox) {
    if !out.turn.wants(crate::hooks::Event::MessageDropped) {
        return;
    }
    let mut properties = Vec::new();
    facts.properties.encode_forwarded(&mut properties);
    let message = MessageView {
        topic: facts.topic,
        payload: facts.payload,
        qos: facts.qos,
        retain: facts.retain,
        dup: facts.dup,
        publisher: facts.client_id,
        username: facts.username,
        peer: facts.peer,
        principal: facts.principal,
        properties: crate::properties::ForwardProperties::from_raw(&properties),
        publish_ms: facts.now_ms,
        expires_ms: None,
    };
    let delivery = Delivery {
        client_id: facts.client_id,
        username: facts.username,
        qos: facts.qos,
        message: &message,
        position: None,
    };
    out.turn
        .event(&EventFacts::Dropped(delivery, reason), now.wall_ms);
}
