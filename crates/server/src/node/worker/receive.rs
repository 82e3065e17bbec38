//! From sockets to the shard: whose turn it is to be read, how much, and who has been silent for
//! too long.

use std::cmp::Reverse;

use ::tracing::debug;
use broker::access::Inquiry;
use broker::{CloseCause, ConnId, Input, Now, Outbox, Shard};
use door::Counts;
use mio::event::Event;
use mqtt::Packet;

use super::send::discard;
use super::tracing;
use super::{KEEP_ALIVE_CHECK_MS, OUTPUT_PAUSE_BYTES, Parts, READ_BYTES, Worker};
use crate::node::trace::Traces;
use crate::node::transport::{Flow, ReadEnd};

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

/// What is read at least from a client with a rate of bytes, once it is read at all.
const METERED_READ_BYTES: u64 = 1024;

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
        if socket.asking {
            return;
        }
        if paused {
            // `send_dirty` queues it again once enough is sent.
            return;
        }
        let mut budget = Budget::default();
        let has_unread = !socket.unread().is_empty();
        if socket.wrapping.is_some() && self.must_wait(conn, &mut budget) {
            return;
        }
        let mut outcome = Outcome::NeedMore;
        if has_unread {
            outcome = self.handle_unread(conn, &mut budget);
        }
        if outcome == Outcome::NeedMore {
            outcome = self.read_and_handle(conn, &mut budget);
        }
        if budget.metered {
            self.charge(conn, &budget);
        }
        if budget.bytes > 0 || budget.publishes > 0 {
            let more = Counts {
                messages_in: u64::from(budget.publishes),
                bytes_in: budget.bytes,
                ..Counts::default()
            };
            self.sockets.count(conn, more, self.now.mono_ms);
        }
        self.handled += budget.packets;
        self.counters()
            .packets_in
            .add_own(u64::from(budget.packets));
        match outcome {
            Outcome::Closed => self.start_closing(),
            Outcome::Asking => {
                if let Some(inquiry) = budget.inquiry {
                    self.ask(conn, inquiry);
                }
            }
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
        let mut handler = Handler::of(&mut self.parts, self.now);
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
        if socket.wrapping.is_some() {
            return self.unwrap_and_handle(conn, budget);
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
        budget.bytes += came as u64;
        if came == 0 {
            return Outcome::NeedMore;
        }
        socket.heard_s = (self.now.mono_ms / 1000) as u32;
        if !joined {
            return self.handle_unread(conn, budget);
        }
        let version = socket.version;
        let mut handler = Handler::of(&mut self.parts, self.now);
        let bytes = &self.scratch[..have + came];
        let (used, outcome) = handler.packets(conn, version, bytes, budget);
        if used < bytes.len() || have > 0 {
            socket.keep(&bytes[used..]);
        }
        outcome
    }

    /// As `read_and_handle`, where something lies between MQTT and TCP.
    fn unwrap_and_handle(&mut self, conn: ConnId, budget: &mut Budget) -> Outcome {
        let Some(socket) = self.sockets.get_mut(conn) else {
            return Outcome::Closed;
        };
        let most = budget.bytes_max.min(READ_BYTES);
        let (came, end) = socket.read(&mut self.scratch[..most]);
        budget.bytes += came as u64;
        let worker = self.parts.counters.worker(usize::from(self.parts.index));
        worker.reads.add_own(1);
        worker.bytes_in.add_own(came as u64);
        match end {
            ReadEnd::More => {}
            ReadEnd::Empty => socket.readable = false,
            ReadEnd::Closed | ReadEnd::Broken => socket.ended = true,
        }
        let have = socket.unread().len();
        let joined = have <= JOIN_BYTES;
        self.plain.clear();
        if joined {
            self.plain.extend_from_slice(socket.unread());
        }
        let Some(wrapping) = socket.wrapping.as_mut().filter(|_| came > 0) else {
            return Outcome::NeedMore;
        };
        let before = self.plain.len();
        let flow = wrapping.receive(&mut self.scratch[..came], &mut self.plain);
        if wrapping.is_blocked() {
            // Answers of the layers themselves.
            self.dirty.push(conn);
        }
        if self.plain.len() > before {
            // Pings of WebSocket and empty records are not what keep alive asks for [MQTT-3.1.2-22].
            socket.heard_s = (self.now.mono_ms / 1000) as u32;
        }
        if flow != Flow::Open {
            socket.ended = true;
            socket.readable = false;
        }
        if let Flow::Broken(why) = flow {
            debug!(worker = self.parts.index, conn = conn.0, why, "broken");
            let listener = self.sockets.listener(conn);
            self.parts.listeners[listener].counters.broken_frames.add(1);
        }
        if !joined {
            if let Some(socket) = self.sockets.get_mut(conn) {
                socket.join(&self.plain);
            }
            return self.handle_unread(conn, budget);
        }
        let Some(socket) = self.sockets.get_mut(conn) else {
            return Outcome::Closed;
        };
        let version = socket.version;
        let mut handler = Handler::of(&mut self.parts, self.now);
        let (used, outcome) = handler.packets(conn, version, &self.plain, budget);
        if used < self.plain.len() || have > 0 {
            socket.keep(&self.plain[used..]);
        }
        outcome
    }

    /// Whether the client is over its rate; it is then read again when its time has come. Else the
    /// budget is what it may have.
    fn must_wait(&mut self, conn: ConnId, budget: &mut Budget) -> bool {
        let now_ms = self.now.mono_ms;
        let Some(socket) = self.sockets.get_mut(conn) else {
            return true;
        };
        let Some(wrapping) = &mut socket.wrapping else {
            return false;
        };
        if wrapping.waits {
            return true;
        }
        let Some(meter) = wrapping.meter() else {
            return false;
        };
        let wait_ms = meter.wait_ms(now_ms);
        if wait_ms == 0 {
            let (bytes, messages) = meter.allowance(now_ms);
            budget.within(bytes, messages);
            return false;
        }
        wrapping.waits = true;
        self.throttled.push(Reverse((now_ms + wait_ms, conn)));
        let listener = self.sockets.listener(conn);
        self.parts.listeners[listener].counters.rate_waits.add(1);
        true
    }

    /// Counts what a client with a rate has sent.
    fn charge(&mut self, conn: ConnId, budget: &Budget) {
        let now_ms = self.now.mono_ms;
        if let Some(socket) = self.sockets.get_mut(conn)
            && let Some(wrapping) = &mut socket.wrapping
            && let Some(meter) = wrapping.meter()
        {
            meter.charge(budget.bytes, u64::from(budget.publishes), now_ms);
        }
    }

    /// Queues the clients whose time has come to be read again.
    pub(super) fn end_waits(&mut self) {
        while let Some(&Reverse((until_ms, conn))) = self.throttled.peek()
            && until_ms <= self.now.mono_ms
        {
            self.throttled.pop();
            let Some(socket) = self.sockets.get_mut(conn) else {
                continue;
            };
            if let Some(wrapping) = &mut socket.wrapping {
                wrapping.waits = false;
            }
            // It could not be heard.
            socket.heard_s = (self.now.mono_ms / 1000) as u32;
            if !socket.queued {
                socket.queued = true;
                self.ready.push_back(conn);
            }
        }
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
        if let Some(socket) = self.sockets.get_mut(conn) {
            socket.end();
        }
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
                if (starved && socket.queued) || socket.waits() || socket.asking {
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
    publishes: u32,
    /// What must be known before the next packet is handled.
    inquiry: Option<Inquiry>,
    /// Bytes read.
    bytes: u64,
    /// Bytes that may be read.
    bytes_max: usize,
    /// The client has a rate.
    metered: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: BUDGET_A_TURN,
            packets: 0,
            publishes: 0,
            inquiry: None,
            bytes: 0,
            bytes_max: READ_BYTES,
            metered: false,
        }
    }
}

impl Budget {
    /// Bounds it by what the client may send now, but not below what makes progress.
    fn within(&mut self, bytes: u64, messages: u64) {
        self.metered = true;
        self.bytes_max = bytes.clamp(METERED_READ_BYTES, READ_BYTES as u64) as usize;
        let packets = messages.clamp(1, u64::from(BUDGET_A_TURN / PACKET_COST));
        self.left = packets as u32 * PACKET_COST;
    }

    fn spend(&mut self, packet: &Packet<'_>) {
        let cost = match packet {
            Packet::Puback(_) | Packet::Pubrec(_) | Packet::Pubrel(_) | Packet::Pubcomp(_) => {
                ACK_COST
            }
            _ => PACKET_COST,
        };
        self.left = self.left.saturating_sub(cost);
        self.packets += 1;
        self.publishes += u32::from(matches!(packet, Packet::Publish(_)));
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
    /// The next packet waits for a callout.
    Asking,
}

/// What handling packets needs of a worker while a socket's bytes are borrowed.
struct Handler<'a> {
    shard: &'a mut Shard,
    out: &'a mut Outbox,
    now: Now,
    max: u32,
    traces: &'a Traces,
    /// A callout knows what some clients may do.
    asks: bool,
}

impl<'a> Handler<'a> {
    fn of(parts: &'a mut Parts, now: Now) -> Self {
        Self {
            asks: parts.auth.get().is_some_and(|auth| auth.asks()),
            shard: &mut parts.shard,
            out: &mut parts.out,
            now,
            max: parts.packet_size_max,
            traces: &parts.traces,
        }
    }

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
                    if self.asks
                        && let Some(inquiry) = self.shard.inquiry(conn, &packet, self.now)
                    {
                        budget.inquiry = Some(inquiry);
                        return (used, Outcome::Asking);
                    }
                    used += len;
                    budget.spend(&packet);
                    tracing::inbound(self.traces, self.shard, conn, &packet);
                    let input = Input::Packet {
                        conn,
                        packet: &packet,
                    };
                    self.shard.handle(input, self.now, self.out);
                    if self.asks {
                        let input = Input::PermitsSettled { conn };
                        self.shard.handle(input, self.now, self.out);
                    }
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
