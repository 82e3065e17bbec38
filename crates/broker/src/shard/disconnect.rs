//! The ends of connections and sessions: DISCONNECT both ways, lost sockets, kicks, expiry.

use super::Shard;
use super::overview::shared_of;
use super::timers::Due;
use crate::input::{CloseCause, ConnId, Now};
use crate::outbox::Outbox;
use crate::turn::EventFacts;
use mqtt::{DecodeError, Disconnect, Packet, ReasonCode};

impl Shard {
    /// The client says goodbye.
    pub(super) fn goodbye(
        &mut self,
        conn: ConnId,
        packet: &Disconnect<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        let slot = connection.session;
        if let Some(expiry_s) = packet.session_expiry_s {
            if connection.expiry_fixed && expiry_s != 0 {
                // [MQTT-3.14.2-2]
                self.disconnect(conn, ReasonCode::ProtocolError, "protocol_error", now, out);
                return;
            }
            let max = self.settings.session_expiry_s_max.unwrap_or(u32::MAX);
            let was_persistent = self.sessions[slot].is_persistent();
            self.sessions[slot].expiry_s = expiry_s.min(max);
            if was_persistent && expiry_s == 0 {
                self.erase_session(slot, now, out);
            }
        }
        let word = match packet.reason {
            ReasonCode::Success => {
                self.drop_will(slot, now, out);
                "normal"
            }
            reason => reason.name(),
        };
        out.closes.push(conn);
        self.suspend(conn, word, now, out);
    }

    /// Ends a connection for a reason that MQTT 5 clients are told.
    pub(super) fn disconnect(
        &mut self,
        conn: ConnId,
        reason: ReasonCode,
        word: &str,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        if connection.version.is_v5() && connection.ready {
            Packet::Disconnect(Disconnect::new(reason)).encode(connection.version, out.frame(conn));
        }
        self.cut(conn, word, now, out);
    }

    /// Ends a connection without a word.
    pub(super) fn cut(&mut self, conn: ConnId, word: &str, now: Now, out: &mut Outbox) {
        out.closes.push(conn);
        self.suspend(conn, word, now, out);
    }

    /// What was received is no packet.
    pub(super) fn malformed(
        &mut self,
        conn: ConnId,
        error: DecodeError,
        now: Now,
        out: &mut Outbox,
    ) {
        let word = match error.reason {
            ReasonCode::PacketTooLarge => "packet_too_large",
            ReasonCode::MalformedPacket => "malformed_packet",
            _ => "protocol_error",
        };
        self.stats.malformed += 1;
        self.disconnect(conn, error.reason, word, now, out);
    }

    /// The host has lost the connection, or gives it up.
    pub(super) fn closed(&mut self, conn: ConnId, why: CloseCause, now: Now, out: &mut Outbox) {
        match why {
            CloseCause::PeerClosed => self.suspend(conn, "tcp_closed", now, out),
            CloseCause::Error => self.suspend(conn, "tcp_error", now, out),
            CloseCause::TooSlow => self.suspend(conn, "too_slow", now, out),
            CloseCause::KeepAliveTimeout => {
                let reason = ReasonCode::KeepAliveTimeout;
                self.disconnect(conn, reason, "keepalive_timeout", now, out);
            }
        }
    }

    /// An operator ends a connection; the session stays as it is, and so does one that has none.
    pub(super) fn kick(&mut self, client_id: &str, now: Now, out: &mut Outbox) {
        let found = self.sessions.find(client_id);
        if let Some(conn) = found.and_then(|slot| self.sessions[slot].conn) {
            self.disconnect(conn, ReasonCode::AdministrativeAction, "kicked", now, out);
        }
    }

    /// The node stops.
    pub(super) fn drain(&mut self, now: Now, out: &mut Outbox) {
        self.draining = true;
        for conn in self.conns.ids() {
            let reason = ReasonCode::ServerShuttingDown;
            self.disconnect(conn, reason, "server_shutting_down", now, out);
        }
    }

    /// The connection is over; its session goes on without one, or ends. A will that is still
    /// there is due.
    fn suspend(&mut self, conn: ConnId, word: &str, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.remove(conn) else {
            return;
        };
        self.stats.connections_closed += 1;
        self.forget_answers(&connection);
        let slot = connection.session;
        self.lost_first_of(slot, now, out);
        let session = &mut self.sessions[slot];
        session.conn = None;
        session.disconnected = now;
        session.backlog.transmit.clear();
        session.backlog.reading = 0;
        self.ahead.forget(slot);
        let facts = EventFacts::Disconnected {
            client_id: &session.client_id,
            username: session.username(),
            reason: word,
        };
        out.turn.happened(&facts, now.wall_ms);
        if session.expiry_s == 0 {
            self.end_session(slot, now, out);
            return;
        }
        self.save_session(slot, now, out);
        self.will_due(slot, now, out);
        self.members_offline(slot, false, now, out);
        self.arm_expiry(slot, 0, now);
    }

    /// Arms the timer that ends a session without a connection; `elapsed_ms` of its interval are
    /// over.
    pub(super) fn arm_expiry(&mut self, slot: u32, elapsed_ms: u64, now: Now) {
        let expiry_s = self.sessions[slot].expiry_s;
        if expiry_s != u32::MAX {
            let left_ms = (u64::from(expiry_s) * 1000).saturating_sub(elapsed_ms);
            let session = self.sessions.reference(slot);
            self.arm(now.mono_ms + left_ms, Due::Expiry(session));
        }
    }

    /// Ends a session: its will is published if it is still due, its subscriptions and messages
    /// are gone. It has no connection any more.
    pub(super) fn end_session(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        // The session's end is the latest moment for a delayed will [MQTT-3.1.2-10].
        self.publish_will(slot, now, out);
        self.members_offline(slot, true, now, out);
        if self.sessions[slot].is_persistent() {
            self.erase_session(slot, now, out);
        }
        let subscriptions = std::mem::take(&mut self.sessions[slot].subscriptions);
        self.stats.subscriptions -= subscriptions.len() as u64;
        self.stats.shared_subscriptions -= shared_of(&subscriptions);
        let leaving = self.pending_removals(slot, &subscriptions);
        let filters = subscriptions
            .iter()
            .map(|subscription| &subscription.filter);
        for filter in filters.chain(&leaving) {
            self.detach(slot, filter, out);
        }
        self.inbox(slot, std::mem::take);
        self.stats.inflight -= self.sessions[slot].outbound.len() as u64;
        self.sessions.remove(slot);
    }
}
