//! The sockets of one worker in a slab, with what has been read but is not yet a packet. It must
//! not know what a packet says; what waits to be sent lies in the shard's outbox, or wrapped.

use std::io::{self, Read as _, Write as _};

use broker::ConnId;
use door::{Counts, Meter, Rates, Traffic};
use mio::net::TcpStream;
use mqtt::Version;

use super::wrapping::Wrapping;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// The kernel has no more for now.
    Empty,
    /// There may be more.
    More,
    /// The peer closed its side.
    Closed,
    /// The connection is broken.
    Broken,
}

/// One connection. What an idle one costs is this struct and nothing else.
pub struct Socket {
    /// The TCP stream, registered edge-triggered for both directions.
    pub stream: TcpStream,
    /// Bytes read that are not handled yet, from `start` on; holds no memory when there are none.
    unread: Vec<u8>,
    start: u32,
    /// What lies between MQTT and TCP, if anything does.
    pub wrapping: Option<Box<Wrapping>>,
    /// MQTT version of its CONNECT.
    pub version: Version,
    /// Effective keep alive in seconds; 0: none.
    pub keep_alive_s: u16,
    /// Second (of the worker's clock) in which bytes last came.
    pub heard_s: u32,
    /// The kernel may have bytes for us.
    pub readable: bool,
    /// On the worker's ready list.
    pub queued: bool,
    /// Its next packet waits for a callout: it is not read from.
    pub asking: bool,
    /// The peer has closed, or the connection broke: nothing more comes.
    pub ended: bool,
    /// The shard has forgotten it: what is read is thrown away, what waits is sent, then it goes.
    pub closing: bool,
    /// The kernel took less than it was given; a writable event will come.
    pub blocked: bool,
    /// What waited to be sent passed the shard's high mark; it is told when the low mark is
    /// reached.
    pub over: bool,
}

/// A plain connection costs no more than before there were others: 56 bytes, where mio's stream is
/// the descriptor alone. In debug builds that carries more, which is left out.
const _: () = assert!(size_of::<Socket>() - size_of::<TcpStream>() <= 56);
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Socket>() <= 56);

impl Socket {
    /// Bytes that wait to be handled.
    pub fn unread(&self) -> &[u8] {
        &self.unread[self.start as usize..]
    }

    /// Keeps `rest`, which is not handled yet; replaces what was unread.
    pub fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.unread = Vec::new();
        } else {
            // Exactly what is there: an announced length buys nothing.
            self.unread = rest.to_vec();
        }
        self.start = 0;
    }

    /// Marks the first `n` unread bytes as handled.
    pub fn consume(&mut self, n: usize) {
        self.start += n as u32;
        debug_assert!(self.start as usize <= self.unread.len());
        if self.start as usize == self.unread.len() {
            self.keep(&[]);
        }
    }

    /// Reads once behind the unread bytes, at most `scratch.len()`; returns how many came.
    pub fn read_more(&mut self, scratch: &mut [u8]) -> (usize, ReadEnd) {
        let (n, end) = self.read(scratch);
        self.join(&scratch[..n]);
        (n, end)
    }

    /// Keeps `more` behind the unread bytes.
    pub fn join(&mut self, more: &[u8]) {
        if self.start > 0 {
            self.unread.drain(..self.start as usize);
            self.start = 0;
        }
        self.unread.extend_from_slice(more);
    }

    /// Puts what lies between MQTT and TCP there; nothing is kept where there is nothing.
    pub fn wrap(&mut self, mut wrapping: Wrapping, meter: Option<Meter>) {
        wrapping.measure(meter);
        self.wrapping = (!wrapping.is_nothing()).then(|| Box::new(wrapping));
    }

    /// Whether the client is over its rate and not read from.
    pub fn waits(&self) -> bool {
        self.wrapping
            .as_ref()
            .is_some_and(|wrapping| wrapping.waits)
    }

    /// Says good-bye in the layers that have one, as far as the network takes it.
    pub fn end(&mut self) {
        if let Some(wrapping) = &mut self.wrapping {
            wrapping.end();
            // A peer that takes nothing more is left without.
            let _ = wrapping.flush(&mut self.stream);
        }
    }

    /// Whether wrapped bytes wait that the network has not taken.
    pub fn holds_output(&self) -> bool {
        self.wrapping
            .as_ref()
            .is_some_and(|wrapping| wrapping.is_blocked())
    }

    /// Reads once into `scratch`. A read that does not fill it has emptied the kernel's buffer, so
    /// the next event is awaited without asking again (epoll(7), question 9).
    pub fn read(&mut self, scratch: &mut [u8]) -> (usize, ReadEnd) {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return (0, ReadEnd::Closed),
                Ok(n) if n < scratch.len() => return (n, ReadEnd::Empty),
                Ok(n) => return (n, ReadEnd::More),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return (0, ReadEnd::Empty);
                }
                Err(_) => return (0, ReadEnd::Broken),
            }
        }
    }
}

/// Writes as much of `bytes` as the kernel takes; returns how much. `Err`: broken.
pub fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, ()> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(0) => return Err(()),
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return Err(()),
        }
    }
    Ok(sent)
}

/// The slab. A slot's generation is part of the connection's name, so that a late answer for a
/// connection that is gone finds nobody.
#[derive(Default)]
pub struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    socket: Option<Box<Socket>>,
    generation: u32,
    /// Number of the listener by which it came.
    listener: u16,
    /// What went over it; nothing while the client has said no more than that it is there, and was
    /// told no more than that it is in.
    traffic: Option<Box<Traffic>>,
}

/// Length of PINGREQ: an idle connection costs no [`Traffic`].
const PING_BYTES: u64 = 2;

impl Sockets {
    /// Takes a slot for a connection that `fill` or `release` follows at once.
    pub fn reserve(&mut self) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                socket: None,
                generation: 0,
                listener: 0,
                traffic: None,
            });
            (self.slots.len() - 1) as u32
        });
        let found = &self.slots[slot as usize];
        assert!(found.socket.is_none(), "a slot on the free list is free");
        name(found.generation, slot as usize)
    }

    /// Gives a reserved slot back.
    pub fn release(&mut self, conn: ConnId) {
        self.free.push(conn.slot() as u32);
    }

    /// Puts a stream into a reserved slot; it must be non-blocking. `listener` is told again when
    /// it is taken out.
    pub fn fill(
        &mut self,
        conn: ConnId,
        stream: TcpStream,
        version: Version,
        listener: u16,
    ) -> &mut Socket {
        let slot = &mut self.slots[conn.slot()];
        slot.listener = listener;
        slot.traffic = None;
        slot.socket.insert(Box::new(Socket {
            stream,
            unread: Vec::new(),
            start: 0,
            wrapping: None,
            version,
            keep_alive_s: 0,
            heard_s: 0,
            readable: false,
            queued: false,
            asking: false,
            ended: false,
            closing: false,
            blocked: false,
            over: false,
        }))
    }

    /// The socket of this name, if it is still open.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Socket> {
        let slot = self.slots.get_mut(conn.slot())?;
        if u64::from(slot.generation) != conn.0 >> 32 {
            return None;
        }
        slot.socket.as_deref_mut()
    }

    /// The number of the listener by which an open connection came.
    pub fn listener(&self, conn: ConnId) -> usize {
        self.slots
            .get(conn.slot())
            .map_or(0, |slot| usize::from(slot.listener))
    }

    /// Counts what went over an open connection.
    pub fn count(&mut self, conn: ConnId, more: Counts, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(conn.slot()) else {
            return;
        };
        if slot.traffic.is_none() && more.bytes_in <= PING_BYTES && more.messages_out == 0 {
            return;
        }
        let traffic = &mut slot.traffic;
        let traffic = traffic.get_or_insert_with(|| Box::new(Traffic::new(now_ms)));
        traffic.count(more, now_ms);
    }

    /// What went over an open connection since it is open, and how much a second.
    pub fn traffic(&mut self, conn: ConnId, now_ms: u64) -> Option<(Counts, Rates)> {
        let slot = self.slots.get_mut(conn.slot())?;
        let mut none = Traffic::new(now_ms);
        let traffic = slot.traffic.as_deref_mut().unwrap_or(&mut none);
        Some((traffic.total(), traffic.rates(now_ms)))
    }

    /// The name and socket in a slot: what an event's token says.
    pub fn at_mut(&mut self, slot: usize) -> Option<(ConnId, &mut Socket)> {
        let found = self.slots.get_mut(slot)?;
        let socket = found.socket.as_deref_mut()?;
        Some((name(found.generation, slot), socket))
    }

    /// Takes a socket out, with the number of its listener; its name is never used again.
    pub fn remove(&mut self, conn: ConnId) -> Option<(Box<Socket>, u16)> {
        let slot = self.slots.get_mut(conn.slot())?;
        if u64::from(slot.generation) != conn.0 >> 32 {
            return None;
        }
        let socket = slot.socket.take()?;
        slot.traffic = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.slot() as u32);
        Some((socket, slot.listener))
    }

    /// All open sockets.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut Socket)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(slot, entry)| {
                let socket = entry.socket.as_deref_mut()?;
                Some((name(entry.generation, slot), socket))
            })
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn name(generation: u32, slot: usize) -> ConnId {
    ConnId(u64::from(generation) << 32 | slot as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (TcpStream::from_std(server), client)
    }

    #[test]
    fn a_name_dies_with_its_connection() {
        let mut sockets = Sockets::default();
        let (a, _keep_a) = pair();
        let first = sockets.reserve();
        sockets.fill(first, a, Version::V5, 0);
        assert!(sockets.get_mut(first).is_some());
        assert!(sockets.remove(first).is_some());
        assert!(sockets.remove(first).is_none());
        let (b, _keep_b) = pair();
        let second = sockets.reserve();
        sockets.fill(second, b, Version::V5, 0);
        assert_eq!(first.slot(), second.slot(), "the slot is used again");
        assert_ne!(first, second);
        assert!(sockets.get_mut(first).is_none());
        assert_eq!(sockets.len(), 1);
    }

    #[test]
    fn an_idle_connection_costs_no_traffic_and_the_next_in_its_slot_begins_anew() {
        let mut sockets = Sockets::default();
        let bytes = |bytes_in| Counts {
            bytes_in,
            ..Counts::default()
        };
        let (a, _keep_a) = pair();
        let first = sockets.reserve();
        sockets.fill(first, a, Version::V5, 0);
        sockets.count(first, bytes(PING_BYTES), 0);
        assert!(sockets.slots[first.slot()].traffic.is_none());
        assert_eq!(sockets.traffic(first, 0).unwrap().0, bytes(0));
        sockets.count(first, bytes(30), 0);
        sockets.count(first, bytes(PING_BYTES), 0);
        let (total, rates) = sockets.traffic(first, 2_000).unwrap();
        assert_eq!(total, bytes(32));
        assert!((rates.bytes_in_per_s - 16.0).abs() < 1e-9);
        sockets.remove(first);
        let (b, _keep_b) = pair();
        let second = sockets.reserve();
        sockets.fill(second, b, Version::V5, 0);
        assert_eq!(sockets.traffic(second, 2_000).unwrap().0, bytes(0));
    }

    #[test]
    fn what_is_unread_is_kept_in_order_and_costs_nothing_once_handled() {
        use std::io::Write as _;
        let mut sockets = Sockets::default();
        let (a, mut client) = pair();
        let conn = sockets.reserve();
        let socket = sockets.fill(conn, a, Version::V5, 0);
        socket.keep(b"ab");
        socket.consume(1);
        client.write_all(b"cd").unwrap();
        let mut scratch = [0; 16];
        while socket.unread().len() < 3 {
            socket.read_more(&mut scratch);
        }
        assert_eq!(socket.unread(), b"bcd");
        socket.consume(3);
        assert_eq!(socket.unread.capacity(), 0);
    }
}
