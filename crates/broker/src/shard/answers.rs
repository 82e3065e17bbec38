//! Answers leave in the order of their requests and not before the log, and where it is promised the
//! cluster behind, has what they promise: one queue of (level, turn, answer) a connection.

use super::Shard;
use super::connection::Connection;
use super::mirrored::{Gate, Mirrored};
use crate::input::{ConnId, Now, Refusal, Returned};
use crate::outbox::Outbox;
use commitlog::{Ack, Lsn};
use mqtt::{
    Ack as AckPacket, AckKind, Connack, ConnackProperties, Packet, QoS, ReasonCode, ReasonCodes,
    Suback, Unsuback, UserProperties, Version, write_ack,
};
use std::collections::VecDeque;

/// How far the log is with this worker's turns.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// All turns up to this one are in the log, or refused.
    pub appended: u64,
    /// All turns up to this one are flushed, or refused.
    pub flushed: u64,
    /// Last entry that this shard has seen.
    pub applied_lsn: Lsn,
    /// Last entry known to be flushed.
    pub flushed_lsn: Lsn,
    /// Last turn in which a session ended that had ids of QoS 2 messages.
    pub ids_erased: u64,
    /// Turns in the log that are not flushed: turn and entry.
    unflushed: VecDeque<(u64, Lsn)>,
    /// Connections with an answer that waits for a turn's append; the turns rise.
    append_waiters: VecDeque<(u64, ConnId)>,
    flush_waiters: VecDeque<(u64, ConnId)>,
    /// The log is latched: what is not flushed never will be.
    no_more_flushes: bool,
    /// What waits for the cluster behind.
    pub mirror: Mirrored,
}

impl Progress {
    /// Whether the answer may leave, as what it is or as a refusal.
    fn reached(&self, waiting: &Waiting) -> bool {
        match waiting.level {
            Ack::Memory => true,
            Ack::Append => waiting.turn <= self.appended,
            Ack::Flush => self.is_settled(waiting.turn),
            Ack::Kafka => {
                let open = waiting.refused || self.mirror.is_open(waiting.gate());
                self.is_unflushable(waiting.turn) || open && waiting.turn <= self.flushed
            }
        }
    }

    /// Whether a turn is flushed, or refused, or never will be flushed.
    fn is_settled(&self, turn: u64) -> bool {
        turn <= self.flushed || self.is_unflushable(turn)
    }

    /// Whether a turn is in the log, or refused, and waits for a flush that never comes.
    fn is_unflushable(&self, turn: u64) -> bool {
        self.no_more_flushes && turn > self.flushed && turn <= self.appended
    }

    /// `conn` has an answer that waits for the flush of a turn.
    pub(super) fn await_flush(&mut self, turn: u64, conn: ConnId) {
        self.flush_waiters.push_back((turn, conn));
    }

    /// Entries up to this one are known, and what concerns the shard was handed to it.
    pub(super) fn seen(&mut self, lsn: Lsn) {
        self.applied_lsn = self.applied_lsn.max(lsn);
    }

    /// The turn is in the log as entry `lsn`.
    pub(super) fn appended(&mut self, turn: u64, lsn: Lsn) {
        self.appended = turn;
        // An entry of memory streams only has the number of the one before, flushed or not.
        if lsn <= self.flushed_lsn && self.unflushed.is_empty() {
            self.flushed = turn;
        } else {
            self.unflushed.push_back((turn, lsn));
        }
    }

    fn flush(&mut self, lsn: Lsn) {
        self.flushed_lsn = self.flushed_lsn.max(lsn);
        while let Some(&(turn, at)) = self.unflushed.front()
            && at <= lsn
        {
            self.flushed = turn;
            self.unflushed.pop_front();
        }
    }
}

/// An answer and what it waits for.
#[derive(Debug)]
pub(super) struct Waiting {
    pub turn: u64,
    pub level: Ack,
    pub answer: Answer,
    /// The log refused the turn.
    pub refused: bool,
    /// Which partitions of the turn the cluster behind must have, for level `kafka`.
    pub bits: u64,
}

impl Waiting {
    pub(super) fn gate(&self) -> Gate {
        Gate {
            turn: self.turn,
            bits: self.bits,
        }
    }
}

/// What the client is told.
#[derive(Debug)]
pub(super) enum Answer {
    /// PUBACK, PUBREC, PUBREL, PUBCOMP.
    Ack {
        kind: AckKind,
        packet_id: u16,
        reason: ReasonCode,
    },
    Suback {
        packet_id: u16,
        reasons: Box<[ReasonCode]>,
    },
    Unsuback {
        packet_id: u16,
        reasons: Box<[ReasonCode]>,
    },
    Connack(Box<Welcome>),
}

/// What CONNACK says.
#[derive(Debug)]
pub(super) struct Welcome {
    pub session_present: bool,
    pub session_expiry_s: Option<u32>,
    pub keep_alive_s: Option<u16>,
    pub assigned_client_id: Option<Box<str>>,
    /// Enhanced authentication: the last data.
    pub data: Option<Box<[u8]>>,
}

impl Shard {
    /// Gives an answer once `level` is reached for the turn being filled, and after all answers
    /// given before.
    pub(super) fn answer(
        &mut self,
        conn: ConnId,
        level: Ack,
        answer: Answer,
        now: Now,
        out: &mut Outbox,
    ) {
        let turn = out.turn.number();
        self.answer_after(conn, level, turn, answer, now, out);
    }

    /// The same for another turn.
    pub(super) fn answer_after(
        &mut self,
        conn: ConnId,
        level: Ack,
        turn: u64,
        answer: Answer,
        now: Now,
        out: &mut Outbox,
    ) {
        self.answer_behind(conn, level, Gate { turn, bits: 0 }, answer, now, out);
    }

    /// The same for an answer that may have to wait for the cluster behind too.
    pub(super) fn answer_behind(
        &mut self,
        conn: ConnId,
        level: Ack,
        gate: Gate,
        answer: Answer,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        let turn = gate.turn;
        let waiting = Waiting {
            turn,
            level,
            answer,
            refused: false,
            bits: gate.bits,
        };
        if connection.answers.is_empty() && self.progress.reached(&waiting) {
            self.give(conn, waiting, now, out);
            return;
        }
        connection.answers.push_back(waiting);
        match level {
            Ack::Memory => {}
            Ack::Append => {
                if connection.awaits_append != turn {
                    connection.awaits_append = turn;
                    self.progress.append_waiters.push_back((turn, conn));
                }
            }
            Ack::Flush | Ack::Kafka => {
                if turn == out.turn.number() {
                    out.turn.await_flush();
                }
                if connection.awaits_flush != turn && !gate.is_never() {
                    connection.awaits_flush = turn;
                    self.progress.await_flush(turn, conn);
                }
            }
        }
        if level == Ack::Kafka {
            self.progress.mirror.waiting += 1;
            self.await_mirror(gate, conn, now, out);
        }
    }

    /// Gives the answers whose turn is in the log.
    pub(super) fn release_appended(&mut self, now: Now, out: &mut Outbox) {
        while let Some(&(turn, conn)) = self.progress.append_waiters.front()
            && turn <= self.progress.appended
        {
            self.progress.append_waiters.pop_front();
            self.release(conn, now, out);
        }
    }

    /// Gives the answers whose turn is flushed.
    pub(super) fn release_flushed(&mut self, lsn: Lsn, now: Now, out: &mut Outbox) {
        self.progress.flush(lsn);
        while let Some(&(turn, conn)) = self.progress.flush_waiters.front()
            && self.progress.is_settled(turn)
        {
            self.progress.flush_waiters.pop_front();
            self.release(conn, now, out);
        }
    }

    /// No flush comes any more: whoever waits for one gets an error, never a success.
    pub(super) fn latched(&mut self, now: Now, out: &mut Outbox) {
        self.latched = true;
        self.progress.no_more_flushes = true;
        self.release_flushed(self.progress.flushed_lsn, now, out);
    }

    /// Gives the answers of a connection that wait for nothing any more.
    pub(super) fn release(&mut self, conn: ConnId, now: Now, out: &mut Outbox) {
        loop {
            let Some(connection) = self.conns.get_mut(conn) else {
                return;
            };
            match connection.answers.front() {
                Some(waiting) if self.progress.reached(waiting) => {}
                _ => return,
            }
            let Some(waiting) = connection.answers.pop_front() else {
                return;
            };
            self.progress.mirror.waiting -= usize::from(waiting.level == Ack::Kafka);
            if connection.answers.is_empty() && connection.answers.capacity() > 256 {
                connection.answers = VecDeque::new();
            }
            self.give(conn, waiting, now, out);
        }
    }

    /// The log took nothing of a turn: what waited for it gets an error, never a success.
    pub(super) fn refused(
        &mut self,
        turn: u64,
        why: Refusal,
        returned: Option<&Returned<'_>>,
        now: Now,
        out: &mut Outbox,
    ) {
        self.stats.turns_refused += 1;
        out.turn.settled(turn);
        self.latched |= why == Refusal::Latched;
        let waiters: Vec<ConnId> = self
            .progress
            .append_waiters
            .iter()
            .chain(&self.progress.flush_waiters)
            .filter(|&&(waiting, _)| waiting == turn)
            .map(|&(_, conn)| conn)
            .collect();
        for conn in waiters {
            let Some(connection) = self.conns.get_mut(conn) else {
                continue;
            };
            for waiting in &mut connection.answers {
                waiting.refused |= waiting.turn == turn && waiting.level != Ack::Memory;
            }
        }
        self.progress.mirror.refused(turn);
        self.refuse_pending(turn, out);
        let flushed = self.progress.flushed_lsn;
        let applied = self.progress.applied_lsn.max(flushed);
        self.progress.appended(turn, applied);
        self.snapshot_refused(turn);
        self.keep_lost(turn, returned, now, out);
        self.receive_refused(turn, now, out);
        self.parcels.refused(turn, why, out);
        self.journal_refused(turn);
        self.retry_later(why, now);
        self.release_appended(now, out);
        self.release_flushed(flushed, now, out);
    }

    /// Writes an answer out.
    fn give(&mut self, conn: ConnId, waiting: Waiting, now: Now, out: &mut Outbox) {
        let unflushable = waiting.level >= Ack::Flush && self.progress.is_unflushable(waiting.turn);
        if waiting.refused || unflushable {
            self.give_refusal(conn, waiting.answer, now, out);
            return;
        }
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        let version = connection.version;
        match waiting.answer {
            Answer::Ack {
                kind,
                packet_id,
                reason,
            } => {
                finished(connection, kind, reason);
                write_ack(kind, packet_id, reason, version, out.frame(conn));
            }
            Answer::Suback { packet_id, reasons } => {
                Packet::Suback(Suback {
                    packet_id,
                    reasons: ReasonCodes::from_slice(&reasons),
                    reason_string: None,
                    user: UserProperties::EMPTY,
                })
                .encode(version, out.frame(conn));
            }
            Answer::Unsuback { packet_id, reasons } => {
                let reasons: &[ReasonCode] = if version.is_v5() { &reasons } else { &[] };
                Packet::Unsuback(Unsuback {
                    packet_id,
                    reasons: ReasonCodes::from_slice(reasons),
                    reason_string: None,
                    user: UserProperties::EMPTY,
                })
                .encode(version, out.frame(conn));
            }
            Answer::Connack(welcome) => {
                self.welcome(conn, &welcome, version, out);
                self.connection_ready(conn, now, out);
            }
        }
    }

    fn welcome(&self, conn: ConnId, welcome: &Welcome, version: Version, out: &mut Outbox) {
        let settings = &self.settings;
        let alias_max = settings.topic_alias_max;
        Packet::Connack(Connack {
            session_present: welcome.session_present,
            reason: ReasonCode::Success,
            properties: ConnackProperties {
                session_expiry_s: welcome.session_expiry_s,
                receive_maximum: (settings.receive_maximum < u16::MAX)
                    .then_some(settings.receive_maximum),
                maximum_qos: (settings.qos_max < QoS::ExactlyOnce).then_some(settings.qos_max),
                retain_available: (!settings.retain_available).then_some(false),
                maximum_packet_size: Some(settings.packet_size_max),
                assigned_client_id: welcome.assigned_client_id.as_deref(),
                topic_alias_maximum: (alias_max > 0).then_some(alias_max),
                server_keep_alive_s: welcome.keep_alive_s,
                authentication_method: self.method(conn),
                authentication_data: welcome.data.as_deref(),
                ..ConnackProperties::default()
            },
        })
        .encode(version, out.frame(conn));
    }

    /// Tells the client that the log has refused what it asked for; MQTT 3 can only be cut off.
    fn give_refusal(&mut self, conn: ConnId, answer: Answer, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        let (version, slot) = (connection.version, connection.session);
        let reason = ReasonCode::QuotaExceeded;
        // After a failed write recovery may find the message in the log after all. An error in PUBREC
        // would free its packet id, and the next message with it would be taken for a repetition.
        let undecided =
            self.latched && matches!(answer, Answer::Ack { kind, .. } if kind == AckKind::Pubrec);
        match answer {
            Answer::Ack {
                kind: kind @ (AckKind::Puback | AckKind::Pubrec),
                packet_id,
                ..
            } if version.is_v5() && !undecided => {
                finished(connection, kind, reason);
                let packet = AckPacket::new(packet_id, reason);
                if kind == AckKind::Puback {
                    Packet::Puback(packet).encode(version, out.frame(conn));
                } else {
                    Packet::Pubrec(packet).encode(version, out.frame(conn));
                }
            }
            Answer::Suback { packet_id, reasons } => {
                self.sessions[slot].unsaved = true;
                let failed = vec![reason; reasons.len()];
                Packet::Suback(Suback {
                    packet_id,
                    reasons: ReasonCodes::from_slice(&failed),
                    reason_string: None,
                    user: UserProperties::EMPTY,
                })
                .encode(version, out.frame(conn));
            }
            Answer::Connack(_) => {
                self.sessions[slot].unsaved = true;
                Packet::Connack(Connack {
                    session_present: false,
                    reason,
                    properties: ConnackProperties::default(),
                })
                .encode(version, out.frame(conn));
                self.cut(conn, "log_refused", now, out);
            }
            Answer::Ack { .. } | Answer::Unsuback { .. } => {
                self.sessions[slot].unsaved = true;
                self.disconnect(conn, reason, "log_refused", now, out);
            }
        }
    }
}

/// One of the client's publishes needs no room in its window any more.
fn finished(connection: &mut Connection, kind: AckKind, reason: ReasonCode) {
    let ends = match kind {
        AckKind::Puback | AckKind::Pubcomp => true,
        AckKind::Pubrec => reason.is_error(),
        AckKind::Pubrel => false,
    };
    if ends {
        connection.unfinished = connection.unfinished.saturating_sub(1);
    }
}
