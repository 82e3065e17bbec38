//! The records of the session table: keys by a kind byte, fine-grained so that one packet changes
//! one record. Bytes only; what they mean for a session is decided elsewhere.

use crate::inbox::packed::{Packer, Unpacker};
use crate::inbox::{IdList, Owed};
use crate::message::Position;
use crate::will::OwnedWill;
use commitlog::Lsn;
use mqtt::{QoS, SubscribeOptions};

/// Version byte that opens every value.
const FORMAT: u8 = 1;

/// The same of a chunk whose entries are packed; chunks of the first format are still read.
const PACKED: u8 = 2;

/// What a record is about. The numbers are stored and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A session: [`SessionRecord`].
    Session = b'c',
    /// Its will: [`WillRecord`].
    Will = b'w',
    /// A subscription; the key goes on with the filter.
    Subscription = b's',
    /// An inbound QoS 2 packet id taken; the key goes on with it.
    Received = b'r',
    /// A delivery in flight; the key goes on with its packet id.
    Inflight = b't',
    /// A part of the inbox; the key goes on with its number.
    Chunk = b'i',
    /// Number of the oldest owed message.
    Head = b'h',
    /// Owed messages that were given up; the last word of each entry of the journal counts.
    Dropped = b'x',
    /// A retained message that a session is owed besides what its subscriptions match.
    Pushed = b'p',
    /// How far a home has matched the journal; the key has no client id, only the home.
    Marker = b'm',
    /// A shared group is done with messages; the key's client id is the group's name.
    Settled = b'g',
    /// What a shared group has not settled; the key's client id is the group's name.
    Queue = b'q',
}

impl Kind {
    fn from_u8(byte: u8) -> Option<Kind> {
        [
            Kind::Session,
            Kind::Will,
            Kind::Subscription,
            Kind::Received,
            Kind::Inflight,
            Kind::Chunk,
            Kind::Head,
            Kind::Dropped,
            Kind::Pushed,
            Kind::Marker,
            Kind::Settled,
            Kind::Queue,
        ]
        .into_iter()
        .find(|&kind| kind as u8 == byte)
    }
}

/// A key taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key<'a> {
    pub kind: Kind,
    /// Client id, or name of a shared group; empty in a marker.
    pub owner: &'a str,
    pub rest: &'a [u8],
}

impl<'a> Key<'a> {
    /// Writes a key into `out`, which it empties first.
    pub(crate) fn write(out: &mut Vec<u8>, kind: Kind, owner: &str, rest: &[u8]) {
        out.clear();
        out.push(kind as u8);
        out.extend_from_slice(&(owner.len() as u32).to_be_bytes());
        out.extend_from_slice(owner.as_bytes());
        out.extend_from_slice(rest);
    }

    /// Takes `key` apart; `None` if it is not one of ours.
    pub(crate) fn read(key: &'a [u8]) -> Option<Key<'a>> {
        let (&kind, rest) = key.split_first()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (owner, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        Some(Key {
            kind: Kind::from_u8(kind)?,
            owner: std::str::from_utf8(owner).ok()?,
            rest,
        })
    }

    /// The rest of the key as a packet id.
    pub(crate) fn packet_id(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.rest.try_into().ok()?))
    }

    /// The rest of the key as a number.
    pub(crate) fn number(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.rest.try_into().ok()?))
    }
}

/// What is kept of a session besides its subscriptions and messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub expiry_s: u32,
    pub protocol: u8,
    /// When its connection ended, ms since the epoch; `None` while it is connected.
    pub disconnected_ms: Option<u64>,
    pub username: Option<Box<str>>,
}

impl SessionRecord {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(FORMAT);
        put_u32(out, self.expiry_s);
        out.push(self.protocol);
        put_option(out, self.disconnected_ms, put_u64);
        put_option(out, self.username.as_deref(), |out, name| {
            put_bytes(out, name.as_bytes());
        });
    }

    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut fields = Fields::open(value)?;
        Some(Self {
            expiry_s: fields.u32()?,
            protocol: fields.u8()?,
            disconnected_ms: fields.option(Fields::u64)?,
            username: fields.option(Fields::str)?.map(Into::into),
        })
    }
}

/// A will and the user name it is published under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WillRecord {
    pub username: Option<Box<str>>,
    pub will: OwnedWill,
}

impl WillRecord {
    pub(crate) fn write(username: Option<&str>, will: &OwnedWill, out: &mut Vec<u8>) {
        out.clear();
        out.push(FORMAT);
        put_option(out, username, |out, name| put_bytes(out, name.as_bytes()));
        put_bytes(out, will.topic.as_bytes());
        put_bytes(out, &will.payload);
        out.push(will.qos.as_u8());
        out.push(u8::from(will.retain));
        put_u32(out, will.delay_s);
        put_option(out, will.expiry_s, put_u32);
        put_bytes(out, &will.forwarded);
        put_bytes(out, will.peer.as_bytes());
        out.push(u8::from(will.proved));
    }

    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut fields = Fields::open(value)?;
        let username = fields.option(Fields::str)?.map(Into::into);
        let mut will = OwnedWill {
            topic: fields.str()?.into(),
            payload: fields.bytes()?.into(),
            qos: QoS::from_u8(fields.u8()?)?,
            retain: fields.u8()? != 0,
            delay_s: fields.u32()?,
            expiry_s: fields.option(Fields::u32)?,
            forwarded: fields.bytes()?.into(),
            ..OwnedWill::default()
        };
        // Older records end here.
        if !fields.rest.is_empty() {
            will.peer = fields.str()?.into();
            will.proved = fields.u8()? != 0;
        }
        Some(Self { username, will })
    }
}

/// Writes the value of a subscription.
pub(crate) fn write_subscription(out: &mut Vec<u8>, options: SubscribeOptions, id: u32) {
    out.clear();
    out.push(FORMAT);
    out.push(options.as_u8());
    put_u32(out, id);
}

/// Reads the value of a subscription: options and identifier.
pub(crate) fn read_subscription(value: &[u8]) -> Option<(SubscribeOptions, u32)> {
    let mut fields = Fields::open(value)?;
    Some((SubscribeOptions::from_u8(fields.u8()?)?, fields.u32()?))
}

/// Writes a value that says nothing but that its key is there.
pub(crate) fn write_presence(out: &mut Vec<u8>) {
    out.clear();
    out.push(FORMAT);
}

/// Whether it says so.
pub(crate) fn is_presence(value: &[u8]) -> bool {
    Fields::open(value).is_some()
}

/// Writes a number.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.clear();
    out.push(FORMAT);
    put_u64(out, number);
}

/// Reads a number.
pub(crate) fn read_number(value: &[u8]) -> Option<u64> {
    Fields::open(value)?.u64()
}

/// Writes positions.
pub(crate) fn write_positions(out: &mut Vec<u8>, positions: impl Iterator<Item = Position>) {
    out.clear();
    out.push(FORMAT);
    for position in positions {
        put_u32(out, position.partition);
        put_u64(out, position.offset);
    }
}

/// Reads positions until the value ends.
pub(crate) fn read_positions(value: &[u8]) -> Option<Vec<Position>> {
    let mut fields = Fields::open(value)?;
    let mut positions = Vec::new();
    while !fields.rest.is_empty() {
        positions.push(Position {
            partition: fields.u32()?,
            offset: fields.u64()?,
        });
    }
    Some(positions)
}

/// Writes a delivery in flight. `released`: PUBREC was received.
pub(crate) fn write_inflight(
    out: &mut Vec<u8>,
    owed: &Owed,
    released: bool,
    lists: &[Box<[u32]>],
    group: Option<&str>,
) {
    out.clear();
    out.push(FORMAT);
    out.push(u8::from(released));
    put_owed(out, owed, lists);
    put_option(out, group, |out, name| put_bytes(out, name.as_bytes()));
}

/// A delivery in flight, read.
#[derive(Debug)]
pub(crate) struct InflightRecord {
    pub released: bool,
    pub owed: Owed,
    pub ids: Vec<u32>,
    pub group: Option<Box<str>>,
}

impl InflightRecord {
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut fields = Fields::open(value)?;
        let released = fields.u8()? != 0;
        let (owed, ids) = fields.owed()?;
        let group = fields.option(Fields::str)?.map(Into::into);
        Some(Self {
            released,
            owed,
            ids,
            group,
        })
    }
}

/// Writes a chunk of an inbox, whose first entry has the number `start`: the lists of identifiers
/// in use, then the entries, packed.
pub(crate) fn write_chunk(
    out: &mut Vec<u8>,
    start: u64,
    entries: &mut dyn Iterator<Item = Owed>,
    lists: &[Box<[u32]>],
) {
    let mut used: Vec<IdList> = Vec::new();
    let mut packer = Packer::default();
    for mut owed in entries {
        // The way to a copy in memory ends with the process.
        (owed.lsn, owed.index) = (0, 0);
        if owed.ids.is_list() {
            let at = used.iter().position(|&ids| ids == owed.ids);
            let at = at.unwrap_or_else(|| {
                used.push(owed.ids);
                used.len() - 1
            });
            owed.ids = IdList::listed(at as u32);
        }
        packer.push(&owed);
    }
    out.clear();
    out.push(PACKED);
    put_u64(out, start);
    put_u32(out, used.len() as u32);
    for list in used {
        let ids = list.get(lists);
        put_u32(out, ids.len() as u32);
        for &id in ids {
            put_u32(out, id);
        }
    }
    out.extend_from_slice(packer.bytes());
}

/// A chunk, read: number of the first entry, and the entries with their identifiers.
pub(crate) type Chunk = (u64, Vec<(Owed, Vec<u32>)>);

/// Reads a chunk: number of the first entry, and the entries with their identifiers.
pub(crate) fn read_chunk(value: &[u8]) -> Option<Chunk> {
    if value.first() == Some(&PACKED) {
        return read_packed(&value[1..]);
    }
    let mut fields = Fields::open(value)?;
    let start = fields.u64()?;
    let mut entries = Vec::new();
    while !fields.rest.is_empty() {
        entries.push(fields.owed()?);
    }
    Some((start, entries))
}

fn read_packed(value: &[u8]) -> Option<Chunk> {
    let mut fields = Fields { rest: value };
    let start = fields.u64()?;
    let mut lists: Vec<Box<[u32]>> = Vec::new();
    for _ in 0..fields.u32()? {
        let mut ids = Vec::new();
        for _ in 0..fields.u32()? {
            ids.push(fields.u32()?);
        }
        lists.push(ids.into());
    }
    let mut packed = Unpacker::new(fields.rest);
    let entries = packed.by_ref().map(|mut owed| {
        let ids = owed.ids.get(&lists).to_vec();
        owed.ids = IdList::NONE;
        (owed, ids)
    });
    let entries = entries.collect();
    packed.is_done().then_some((start, entries))
}

/// How far a home has come: what its snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marker {
    /// Entries up to this one were seen: of later ones all messages are matched again.
    pub applied: Lsn,
    /// Up to this one, messages that wait for a flush are matched too.
    pub matched_to: Lsn,
    /// Table records below this offset are part of the snapshot.
    pub table_to: u64,
    /// Wall time of the snapshot, ms since the epoch.
    pub wall_ms: u64,
}

impl Marker {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(FORMAT);
        put_u64(out, self.applied);
        put_u64(out, self.matched_to);
        put_u64(out, self.table_to);
        put_u64(out, self.wall_ms);
    }

    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut fields = Fields::open(value)?;
        Some(Self {
            applied: fields.u64()?,
            matched_to: fields.u64()?,
            table_to: fields.u64()?,
            wall_ms: fields.u64()?,
        })
    }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

const RETAIN: u8 = 4;
const SHARED: u8 = 8;

fn put_owed(out: &mut Vec<u8>, owed: &Owed, lists: &[Box<[u32]>]) {
    let mut flags = owed.qos.as_u8();
    flags |= if owed.retain { RETAIN } else { 0 };
    flags |= if owed.shared { SHARED } else { 0 };
    let ids = owed.ids.get(lists);
    out.push(flags);
    put_u32(out, owed.position.partition);
    put_u64(out, owed.position.offset);
    put_u32(out, ids.len() as u32);
    for &id in ids {
        put_u32(out, id);
    }
}

/// Reads a value field by field; `None` where it is too short.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Skips the version byte; a version we do not know is not read.
    fn open(value: &'a [u8]) -> Option<Self> {
        let (&version, rest) = value.split_first()?;
        (version == FORMAT).then_some(Self { rest })
    }

    fn u8(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    #[expect(clippy::option_option, reason = "outer: whether the bytes were enough")]
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            _ => read(self).map(Some),
        }
    }

    fn owed(&mut self) -> Option<(Owed, Vec<u32>)> {
        let flags = self.u8()?;
        let position = Position {
            partition: self.u32()?,
            offset: self.u64()?,
        };
        let mut ids = Vec::new();
        for _ in 0..self.u32()? {
            ids.push(self.u32()?);
        }
        let owed = Owed {
            retain: flags & RETAIN != 0,
            shared: flags & SHARED != 0,
            ..Owed::new(position, QoS::from_u8(flags & 3)?)
        };
        Some((owed, ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_apart_as_they_were_put_together() {
        let mut key = Vec::new();
        Key::write(&mut key, Kind::Inflight, "client/1", &7_u16.to_be_bytes());
        let read = Key::read(&key).unwrap();
        assert_eq!(
            (read.kind, read.owner, read.packet_id()),
            (Kind::Inflight, "client/1", Some(7))
        );
        assert_eq!(Key::read(&key[..4]), None);
        assert_eq!(Key::read(b"z\0\0\0\0"), None);
    }

    #[test]
    fn values_come_back_as_they_were_written_and_short_ones_are_refused() {
        let mut value = Vec::new();
        let session = SessionRecord {
            expiry_s: 60,
            protocol: 5,
            disconnected_ms: Some(9),
            username: Some("u".into()),
        };
        session.write(&mut value);
        assert_eq!(SessionRecord::read(&value), Some(session));
        assert_eq!(SessionRecord::read(&value[..value.len() - 1]), None);

        let will = OwnedWill {
            topic: "t".into(),
            payload: (*b"gone").into(),
            qos: QoS::ExactlyOnce,
            retain: true,
            delay_s: 5,
            expiry_s: Some(9),
            forwarded: (*b"\x01\x01").into(),
            peer: "[::1]:5".into(),
            proved: true,
        };
        WillRecord::write(None, &will, &mut value);
        let username = None;
        let older = WillRecord::read(&value[..value.len() - (4 + 7 + 1)]).unwrap();
        assert_eq!((&*older.will.peer, older.will.proved), ("", false));
        assert_eq!(older.will.forwarded, will.forwarded);
        assert_eq!(
            WillRecord::read(&value),
            Some(WillRecord { username, will })
        );

        let marker = Marker {
            applied: 1,
            matched_to: 2,
            table_to: 3,
            wall_ms: 4,
        };
        marker.write(&mut value);
        assert_eq!(Marker::read(&value), Some(marker));
        value[0] = 99;
        assert_eq!(
            Marker::read(&value),
            None,
            "a format of the future is not guessed at"
        );

        let owed = Owed {
            ids: IdList::listed(0),
            retain: true,
            shared: true,
            ..Owed::new(
                Position {
                    partition: 3,
                    offset: 4,
                },
                QoS::ExactlyOnce,
            )
        };
        let lists = [vec![5, 6].into_boxed_slice()];
        write_inflight(&mut value, &owed, true, &lists, Some("g"));
        let read = InflightRecord::read(&value).unwrap();
        assert!(read.released);
        assert_eq!((read.ids, read.group.as_deref()), (vec![5, 6], Some("g")));
        assert_eq!(
            Owed {
                ids: owed.ids,
                ..read.owed
            },
            owed
        );
    }
}
