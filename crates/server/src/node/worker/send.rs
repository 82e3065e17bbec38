//! From the shard to sockets: one write a connection and turn, what the kernel does not take, and
//! the end of connections.

use broker::{CloseCause, ConnId};
use door::Counts;

use super::{LINGER_MS, OUTPUT_PAUSE_BYTES, Worker};
use crate::node::reception::give_back;
use crate::node::transport::{self, ReadEnd, Socket};

/// What may wait for a client beyond the shard's own bound, before the connection is given up.
const OUTPUT_EXCESS_BYTES: usize = 4 * 1024 * 1024;

impl Worker {
    /// Marks what the shard has closed: nothing is read from it, what waits is still sent.
    pub(super) fn start_closing(&mut self) {
        for conn in std::mem::take(&mut self.parts.out.closes) {
            let Some(socket) = self.sockets.get_mut(conn) else {
                continue;
            };
            if socket.closing {
                continue;
            }
            let owed = self.parts.out.pending_bytes(conn) > 0 || socket.holds_output();
            if !owed && !socket.readable {
                // Nothing to send and nothing left unread: closing loses nothing.
                socket.end();
                self.remove(conn);
                continue;
            }
            socket.closing = true;
            socket.keep(&[]);
            self.dirty.push(conn);
            let until_ms = self.now.mono_ms + LINGER_MS;
            self.lingering.push_back((conn, until_ms));
        }
    }

    pub(super) fn send_dirty(&mut self) {
        self.trace_outbound();
        self.parts.out.take_dirty(&mut self.dirty);
        let mut dirty = std::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            self.send_one(conn);
        }
        self.dirty = dirty;
    }

    pub(super) fn send_one(&mut self, conn: ConnId) {
        let out = &mut self.parts.out;
        let Some(socket) = self.sockets.get_mut(conn) else {
            out.forget(conn);
            return;
        };
        let before = out.pending_bytes(conn);
        let holds_output = socket.holds_output();
        if (before > 0 || holds_output) && !socket.blocked {
            let counters = self.parts.counters.worker(usize::from(self.parts.index));
            counters.writes.add_own(1);
            let unsent = out.unsent(conn);
            let sent = match &mut socket.wrapping {
                Some(wrapping) if !wrapping.is_bare() => wrapping.send(&mut socket.stream, unsent),
                _ => transport::send(&mut socket.stream, unsent),
            };
            if let Ok(sent) = sent {
                counters.bytes_out.add_own(sent as u64);
                let more = Counts {
                    messages_out: u64::from(out.take_messages(conn)),
                    bytes_out: sent as u64,
                    ..Counts::default()
                };
                if sent > 0 && before > OUTPUT_PAUSE_BYTES {
                    // It takes what it is sent and is not read from meanwhile: it lives.
                    socket.heard_s = (self.now.mono_ms / 1000) as u32;
                }
                if before > 0 {
                    out.sent(conn, sent);
                }
                socket.blocked = sent < before || socket.holds_output();
                self.sockets.count(conn, more, self.now.mono_ms);
            } else {
                out.forget(conn);
                if socket.closing {
                    self.remove(conn);
                } else {
                    self.lose(conn, CloseCause::Error);
                }
                return;
            }
        }
        let Some(socket) = self.sockets.get_mut(conn) else {
            return;
        };
        let after = self.parts.out.pending_bytes(conn);
        if socket.closing {
            if after == 0 && !socket.holds_output() {
                self.say_goodbye(conn);
            }
            return;
        }
        if before >= self.parts.output_high_bytes {
            socket.over = true;
        }
        if after > self.parts.output_high_bytes + OUTPUT_EXCESS_BYTES {
            self.counters().slow_closes.add_own(1);
            self.lose(conn, CloseCause::TooSlow);
            return;
        }
        if socket.over && after <= self.parts.output_low_bytes {
            socket.over = false;
            self.drained.push(conn);
        }
        let has_work = socket.readable || socket.ended || !socket.unread().is_empty();
        if after <= OUTPUT_PAUSE_BYTES && has_work && !socket.queued {
            socket.queued = true;
            self.ready.push_back(conn);
        }
    }

    /// All is sent. The write side is shut and the peer's last bytes are read away until it closes
    /// too: closing over unread bytes would reset the connection and could lose our last packet.
    pub(super) fn say_goodbye(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(conn) else {
            return;
        };
        if let Some(wrapping) = &mut socket.wrapping {
            wrapping.end();
            if wrapping.flush(&mut socket.stream).is_ok() && wrapping.is_blocked() {
                // This is called again once the network has taken it.
                socket.blocked = true;
                return;
            }
        }
        let _ = socket.stream.shutdown(std::net::Shutdown::Write);
        if socket.ended || discard(socket, &mut self.scratch) {
            self.remove(conn);
        }
    }

    pub(super) fn end_lingering(&mut self) {
        while let Some(&(conn, until)) = self.lingering.front() {
            if until > self.now.mono_ms && self.sockets.get_mut(conn).is_some() {
                break;
            }
            self.lingering.pop_front();
            self.remove(conn);
        }
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        // Dropping it closes it, and that takes it out of the epoll too.
        if let Some((_, listener)) = self.sockets.remove(conn) {
            give_back(&self.parts.listeners, listener);
            self.parts.out.forget(conn);
            self.exchanges.remove(&conn);
            self.counters().connections.set(self.sockets.len() as u64);
        }
    }
}

/// Reads and forgets; true when the peer has closed.
pub(super) fn discard(socket: &mut Socket, scratch: &mut [u8]) -> bool {
    match socket.read(scratch).1 {
        ReadEnd::Empty | ReadEnd::More => false,
        ReadEnd::Closed | ReadEnd::Broken => true,
    }
}
