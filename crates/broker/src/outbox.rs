//! What one worker's shard wants done: bytes for connections, appends, reads, posts. The host
//! empties it after each turn; nothing here touches a socket.

use crate::downlink::Delivered;
use crate::input::{ConnId, ReadRequest, RetainedRequest, ShardMessage};
use crate::turn::Turn;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Empty send buffers that are kept for the next connection that needs one.
const SPARE_BUFFERS_MAX: usize = 1_024;
/// A buffer that has grown beyond this is freed rather than kept.
const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// A connection that the shard has taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Which.
    pub conn: ConnId,
    /// Keep alive in force, seconds; 0 is none. The host closes the connection when nothing was
    /// heard for one and a half times as long.
    pub keep_alive_s: u16,
}

/// An AUTH of a client that authenticates again, for the host to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reauthentication {
    /// Whose.
    pub conn: ConnId,
    /// Whether it begins; else it goes on.
    pub begins: bool,
    /// Whom the client came in as, who it must stay.
    pub username: Box<str>,
    /// Where it comes from.
    pub address: Option<std::net::IpAddr>,
    /// Data of the method.
    pub data: Box<[u8]>,
}

/// A message of [`crate::Input::Deposit`] that was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deposited {
    /// The turn that it is in.
    pub turn: u64,
    /// The level that must be reached before its publisher is answered.
    pub level: commitlog::Ack,
    /// Whether anybody subscribes to its topic.
    pub wanted: bool,
}

/// The outputs of one worker's shard.
#[derive(Debug)]
pub struct Outbox {
    /// What this turn appends to the log.
    pub turn: Turn,
    /// Connections to close once what is buffered for them is sent; the shard forgot them.
    pub closes: Vec<ConnId>,
    /// Connections taken in.
    pub accepted: Vec<Accepted>,
    /// Messages to be read from the log.
    pub reads: Vec<ReadRequest>,
    /// Searches in the retained messages.
    pub retained: Vec<RetainedRequest>,
    /// What became of parcels of downlinks.
    pub delivered: Vec<Delivered>,
    /// For other shards, by home; a home of the same worker is possible.
    pub posts: Vec<(u8, ShardMessage)>,
    /// Clients that authenticate again.
    pub reauthentications: Vec<Reauthentication>,
    /// What became of deposits, in their order.
    pub deposits: Vec<Result<Deposited, mqtt::ReasonCode>>,
    /// While packets are traced: where each frame begins that was put since the last look.
    traced: Option<Vec<(ConnId, usize)>>,
    buffers: Vec<Buffer>,
    dirty: Vec<ConnId>,
    spare: Vec<Vec<u8>>,
    packets: u64,
}

#[derive(Debug, Default)]
struct Buffer {
    conn: u64,
    dirty: bool,
    /// PUBLISH packets put since [`Outbox::take_messages`].
    messages: u32,
    /// Bytes at the front of `bytes` that are sent already.
    sent: usize,
    bytes: Vec<u8>,
}

impl Outbox {
    /// An empty outbox around the worker's turn.
    pub fn new(turn: Turn) -> Self {
        Self {
            turn,
            closes: Vec::new(),
            accepted: Vec::new(),
            reads: Vec::new(),
            retained: Vec::new(),
            delivered: Vec::new(),
            posts: Vec::new(),
            reauthentications: Vec::new(),
            deposits: Vec::new(),
            traced: None,
            buffers: Vec::new(),
            dirty: Vec::new(),
            spare: Vec::new(),
            packets: 0,
        }
    }

    /// The send buffer of `conn`, to append one whole packet to.
    pub fn frame(&mut self, conn: ConnId) -> &mut Vec<u8> {
        self.packets += 1;
        let slot = conn.slot();
        if slot >= self.buffers.len() {
            self.buffers.resize_with(slot + 1, Buffer::default);
        }
        let buffer = &mut self.buffers[slot];
        if buffer.conn != conn.0 {
            buffer.conn = conn.0;
            buffer.messages = 0;
            buffer.dirty = false;
            buffer.sent = 0;
            buffer.bytes.clear();
        }
        if !buffer.dirty {
            buffer.dirty = true;
            self.dirty.push(conn);
            if buffer.bytes.capacity() == 0
                && let Some(spare) = self.spare.pop()
            {
                buffer.bytes = spare;
            }
        }
        if let Some(traced) = &mut self.traced {
            traced.push((conn, buffer.bytes.len()));
        }
        &mut buffer.bytes
    }

    /// As [`Outbox::frame`], for a PUBLISH.
    pub fn message(&mut self, conn: ConnId) -> &mut Vec<u8> {
        self.frame(conn);
        let buffer = &mut self.buffers[conn.slot()];
        buffer.messages = buffer.messages.saturating_add(1);
        &mut buffer.bytes
    }

    /// PUBLISH packets put for `conn` since the last call.
    pub fn take_messages(&mut self, conn: ConnId) -> u32 {
        match self.buffers.get_mut(conn.slot()) {
            Some(buffer) if buffer.conn == conn.0 => std::mem::take(&mut buffer.messages),
            _ => 0,
        }
    }

    /// Remembers frames for [`Outbox::take_traced`] from now on, or no longer.
    pub fn trace(&mut self, on: bool) {
        if on != self.traced.is_some() {
            self.traced = on.then(Vec::new);
        }
    }

    /// Copies of the frames put since the last call for connections that are wanted, while they are
    /// traced; to be asked before any of them is sent.
    pub fn take_traced(
        &mut self,
        mut wanted: impl FnMut(ConnId) -> bool,
    ) -> Vec<(ConnId, Vec<u8>)> {
        let Some(starts) = self.traced.as_mut().map(std::mem::take) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        // Where the frame behind begins, of the same connection.
        let mut behind: HashMap<ConnId, usize, RandomState> = HashMap::default();
        for (conn, start) in starts.into_iter().rev() {
            let buffer = self.buffers.get(conn.slot());
            let Some(buffer) = buffer.filter(|it| it.conn == conn.0) else {
                continue;
            };
            let end = behind.insert(conn, start).unwrap_or(buffer.bytes.len());
            if wanted(conn)
                && let Some(bytes) = buffer.bytes.get(start..end)
            {
                found.push((conn, bytes.to_vec()));
            }
        }
        found.reverse();
        found
    }

    /// Packets put into send buffers since the last call.
    pub fn take_packets(&mut self) -> u64 {
        std::mem::take(&mut self.packets)
    }

    /// Bytes that wait to be sent on `conn`.
    pub fn pending_bytes(&self, conn: ConnId) -> usize {
        match self.buffers.get(conn.slot()) {
            Some(buffer) if buffer.conn == conn.0 => buffer.bytes.len() - buffer.sent,
            _ => 0,
        }
    }

    /// Moves the connections that got bytes since the last call into `into`, each once.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        for &conn in &self.dirty {
            if let Some(buffer) = self.buffers.get_mut(conn.slot())
                && buffer.conn == conn.0
            {
                buffer.dirty = false;
                into.push(conn);
            }
        }
        self.dirty.clear();
    }

    /// What waits to be sent on `conn`, oldest first.
    pub fn unsent(&self, conn: ConnId) -> &[u8] {
        match self.buffers.get(conn.slot()) {
            Some(buffer) if buffer.conn == conn.0 => &buffer.bytes[buffer.sent..],
            _ => &[],
        }
    }

    /// `bytes` more of `conn` are sent. An empty buffer goes back to the pool, unless the
    /// connection is still to be looked at in this turn.
    pub fn sent(&mut self, conn: ConnId, bytes: usize) {
        let Some(buffer) = self.buffers.get_mut(conn.slot()) else {
            return;
        };
        if buffer.conn != conn.0 {
            return;
        }
        buffer.sent += bytes;
        assert!(
            buffer.sent <= buffer.bytes.len(),
            "more was sent than was there"
        );
        if buffer.sent == buffer.bytes.len() {
            buffer.sent = 0;
            let bytes = std::mem::take(&mut buffer.bytes);
            self.keep(bytes);
        } else if buffer.sent > SPARE_BUFFER_BYTES_MAX && buffer.sent * 2 > buffer.bytes.len() {
            buffer.bytes.drain(..buffer.sent);
            buffer.sent = 0;
        }
    }

    /// `conn` is closed; what it did not get is forgotten.
    pub fn forget(&mut self, conn: ConnId) {
        let Some(buffer) = self.buffers.get_mut(conn.slot()) else {
            return;
        };
        if buffer.conn == conn.0 {
            let bytes = std::mem::take(&mut buffer.bytes);
            *buffer = Buffer {
                conn: u64::MAX,
                ..Buffer::default()
            };
            self.keep(bytes);
        }
    }

    fn keep(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() > 0
            && bytes.capacity() <= SPARE_BUFFER_BYTES_MAX
            && self.spare.len() < SPARE_BUFFERS_MAX
        {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}
