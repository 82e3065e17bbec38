//! From sockets to the shard: whose turn it is to be read, how much, and who has been silent for
//! too long.

use broker::{CloseCause, ConnId, Input, Now, Outbox, Shard};
use mio::event::Event;
use mqtt::Packet;
use tracing::debug;

use super::send::discard;
use super::{KEEP_ALIVE_CHECK_MS, OUTPUT_PAUSE_BYTES, READ_BYTES, Worker};
use crate::node::socket::ReadEnd;

/// What one connection may have handled in a turn before others get theirs: so much of
/// [`PACKET_COST`] and [`ACK_COST`], 32 packets or 1,024 acknowledgements.
const BUDGET_A_TURN: u32 = 32 * PACKET_COST;

/// The cost of a packet that is no acknowledgement.
const PACKET_COST: u32 = 32;

/// The cost of a PUBACK, PUBREC, PUBREL or PUBCOMP. A subscriber that takes what many publish
/// sends as many of them as all of those send messages, and must not get less of a turn for it.
const ACK_COST: u32 = 1;

/// An incomplete packet of at most this size is joined with what follows in the read buffer; a
/// larger one grows where it lies.
const JOIN_BYTES: usize = READ_BYTES / 4;

impl Worker {
    pub(super) fn on_event(&mut self, event: &Event) {
        let Some((conn, socket)) = self.sockets.at_mut(event.token().0) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            socket.readable = true;
            if !socket.queued {
                socket.queued = true;
                self.ready.push_back(conn);
            }
        }
        if event.is_writable() && socket.blocked {
            socket.blocked = false;
            self.dirty.push(conn);
        }
    }

    pub(super) fn serve_ready(&mut self) {
        for _ in 0..self.ready.len() {
            if !self.parts.turns.has_credit() {
                if !self.starved {
                    self.starved = true;
                    self.counters().credit_waits.add_own(1);
                }
                return;
            }
            let Some(conn) = self.ready.pop_front() else {
                return;
            };
            self.serve(conn);
            self.cut_turn_if_large();
        }
        self.starved = false;
    }

    /// Handles what a connection sent, at most its share of a turn.
    pub(super) fn serve(&mut self, conn: ConnId) {
        let paused = self.parts.out.pending_bytes(conn) > OUTPUT_PAUSE_BYTES;
        let Some(socket) = self.sockets.get_mut(conn) else {
            return;
        };
        socket.queued = false;
        if socket.closing {
            if discard(socket, &mut self.scratch) {
                self.remove(conn);
            }
            return;
        }
        if paused {
            // `send_dirty` queues it again once enough is sent.
            return;
        }
        let mut budget = Budget::default();
        let mut outcome = Outcome::NeedMore;
        if !socket.unread().is_empty() {
            outcome = self.handle_unread(conn, &mut budget);
        }
        if outcome == Outcome::NeedMore {
            outcome = self.read_and_handle(conn, &mut budget);
        }
        self.handled += budget.packets;
        self.counters()
            .packets_in
            .add_own(u64::from(budget.packets));
        match outcome {
            Outcome::Closed => self.start_closing(),
            Outcome::NeedMore => self.after_reading(conn, false),
            Outcome::BudgetSpent => self.after_reading(conn, true),
        }
        if !self.parts.out.closes.is_empty() {
            self.start_closing();
        }
    }

    /// Handles whole packets that were read in an earlier turn.
    fn handle_unread(&mut self, conn: ConnId, budget: &mut Budget) -> Outcome {
        let Some(socket) = self.sockets.get_mut(conn) else {
            return Outcome::Closed;
        };
        let version = socket.version;
        let mut handler = Handler {
            shard: &mut self.parts.shard,
            out: &mut self.parts.out,
            now: self.now,
            max: self.parts.packet_size_max,
        };
        let (used, outcome) = handler.packets(conn, version, socket.unread(), budget);
        socket.consume(used);
        outcome
    }

    /// Reads once and handles what came together with what was incomplete.
    fn read_and_handle(&mut self, conn: ConnId, budget: &mut Budget) -> Outcome {
        let Some(socket) = self.sockets.get_mut(conn) else {
            return Outcome::Closed;
        };
        if !socket.readable || socket.ended {
            return Outcome::NeedMore;
        }
        let have = socket.unread().len();
        let joined = have <= JOIN_BYTES;
        let (came, end) = if joined {
            self.scratch[..have].copy_from_slice(socket.unread());
            socket.read(&mut self.scratch[have..])
        } else {
            socket.read_more(&mut self.scratch)
        };
        match end {
            ReadEnd::More => {}
            ReadEnd::Empty => socket.readable = false,
            ReadEnd::Closed | ReadEnd::Broken => socket.ended = true,
        }
        let worker = self.parts.counters.worker(usize::from(self.parts.index));
        worker.reads.add_own(1);
        worker.bytes_in.add_own(came as u64);
        if came == 0 {
            return Outcome::NeedMore;
        }
        socket.heard_s = (self.now.mono_ms / 1000) as u32;
        if !joined {
            return self.handle_unread(conn, budget);
        }
        let version = socket.version;
        let mut handler = Handler {
            shard: &mut self.parts.shard,
            out: &mut self.parts.out,
            now: self.now,
            max: self.parts.packet_size_max,
        };
        let bytes = &self.scratch[..have + came];
        let (used, outcome) = handler.packets(conn, version, bytes, budget);
        if used < bytes.len() || have > 0 {
            socket.keep(&bytes[used..]);
        }
        outcome
    }

    pub(super) fn after_reading(&mut self, conn: ConnId, more_to_handle: bool) {
        let Some(socket) = self.sockets.get_mut(conn) else {
            return;
        };
        if more_to_handle || (socket.readable && !socket.ended) {
            socket.queued = true;
            self.ready.push_back(conn);
        } else if socket.ended {
            self.lose(conn, CloseCause::PeerClosed);
        }
    }

    /// The connection is gone: the shard learns why, and the socket goes at once.
    pub(super) fn lose(&mut self, conn: ConnId, why: CloseCause) {
        debug!(
            worker = self.parts.index,
            conn = conn.0,
            ?why,
            "connection lost"
        );
        self.input(Input::Closed { conn, why });
        self.remove(conn);
    }

    pub(super) fn check_keep_alives(&mut self) {
        let now_s = (self.now.mono_ms / 1000) as u32;
        let starved = self.starved;
        let late: Vec<ConnId> = self
            .sockets
            .iter_mut()
            .filter_map(|(conn, socket)| {
                if socket.keep_alive_s == 0 || socket.closing {
                    return None;
                }
                if starved && socket.queued {
                    // It may have spoken: we have not listened.
                    socket.heard_s = now_s;
                    return None;
                }
                let silent_s = u64::from(now_s.saturating_sub(socket.heard_s));
                // Whole seconds on both sides: one more, so that nobody is closed early.
                (2 * silent_s > 3 * u64::from(socket.keep_alive_s) + 2).then_some(conn)
            })
            .collect();
        for conn in late {
            self.counters().keep_alive_timeouts.add_own(1);
            self.input(Input::Closed {
                conn,
                why: CloseCause::KeepAliveTimeout,
            });
            if !self.parts.out.closes.contains(&conn) {
                self.parts.out.closes.push(conn);
            }
        }
        self.start_closing();
        self.keep_alive_check_ms = self.now.mono_ms + KEEP_ALIVE_CHECK_MS;
    }
}

/// What is left of a connection's share of a turn, and what it had.
struct Budget {
    left: u32,
    packets: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: BUDGET_A_TURN,
            packets: 0,
        }
    }
}

impl Budget {
    fn spend(&mut self, packet: &Packet<'_>) {
        let cost = match packet {
            Packet::Puback(_) | Packet::Pubrec(_) | Packet::Pubrel(_) | Packet::Pubcomp(_) => {
                ACK_COST
            }
            _ => PACKET_COST,
        };
        self.left = self.left.saturating_sub(cost);
        self.packets += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All whole packets are handled.
    NeedMore,
    /// There may be more whole packets; others are first.
    BudgetSpent,
    /// The shard has closed the connection.
    Closed,
}

/// What handling packets needs of a worker while a socket's bytes are borrowed.
struct Handler<'a> {
    shard: &'a mut Shard,
    out: &'a mut Outbox,
    now: Now,
    max: u32,
}

impl Handler<'_> {
    fn packets(
        &mut self,
        conn: ConnId,
        version: mqtt::Version,
        bytes: &[u8],
        budget: &mut Budget,
    ) -> (usize, Outcome) {
        let closes = self.out.closes.len();
        let mut used = 0;
        while used < bytes.len() {
            if budget.left == 0 {
                return (used, Outcome::BudgetSpent);
            }
            match mqtt::decode(&bytes[used..], version, self.max) {
                Ok(Some((packet, len))) => {
                    used += len;
                    budget.spend(&packet);
                    let input = Input::Packet {
                        conn,
                        packet: &packet,
                    };
                    self.shard.handle(input, self.now, self.out);
                }
                Ok(None) => break,
                Err(error) => {
                    let input = Input::Malformed { conn, error };
                    self.shard.handle(input, self.now, self.out);
                    return (bytes.len(), Outcome::Closed);
                }
            }
            if self.out.closes[closes..].contains(&conn) {
                return (bytes.len(), Outcome::Closed);
            }
        }
        (used, Outcome::NeedMore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_takes_more_acknowledgements_than_other_packets() {
        let taken = |packet: &[u8]| {
            let (packet, _) = mqtt::decode(packet, mqtt::Version::V311, 100)
                .expect("well formed")
                .expect("whole");
            let mut budget = Budget::default();
            while budget.left > 0 {
                budget.spend(&packet);
            }
            budget.packets
        };
        for first in [0x40, 0x50, 0x62, 0x70] {
            assert_eq!(taken(&[first, 2, 0, 1]), 1024, "{first:x}");
        }
        assert_eq!(taken(&[0x32, 6, 0, 1, b'a', 0, 1, b'x']), 32, "PUBLISH");
        assert_eq!(taken(&[0xc0, 0]), 32, "PINGREQ");
    }
}
