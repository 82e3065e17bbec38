//! A message as the broker carries it: the side array that one turn of a worker leaves beside its
//! batches, the commit that the log publishes, and the view that all delivery reads. Knows nothing
//! of sessions, and of records only where they lie.

use crate::limits::TURN_BYTES_MAX;
use crate::properties::ForwardProperties;
use bytes::Bytes;
use commitlog::{Ack, Lsn, PartitionId};
use mqtt::QoS;
use std::fmt;
use std::sync::Arc;

/// Where a message is kept: its record in the first disk stream that took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Partition, in the node's own numbering.
    pub partition: PartitionId,
    /// Offset in that partition.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

/// Where in a turn's appends a record is; becomes a [`Position`] once the log has given the batch
/// its base offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index of the append in the entry, hence of the batch in [`Commit::batches`].
    pub append: u32,
    /// Offset of the record, counted from the batch's base offset.
    pub delta: u32,
}

/// One message, borrowed: from the side array of a turn, or from a decoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageView<'a> {
    /// The topic published to.
    pub topic: &'a str,
    /// The payload, as published.
    pub payload: &'a [u8],
    /// `QoS` of the PUBLISH.
    pub qos: QoS,
    /// RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// DUP flag of the PUBLISH.
    pub dup: bool,
    /// Client id of the publisher.
    pub publisher: &'a str,
    /// User name of the publisher, `""` when absent.
    pub username: &'a str,
    /// Address and port of the publisher, `""` where it has none or nobody knows it any more.
    pub peer: &'a str,
    /// Whom the publisher authenticated as, `""` where nobody asked.
    pub principal: &'a str,
    /// MQTT 5 properties that go on to every receiver; the expiry is apart as it counts down.
    pub properties: ForwardProperties<'a>,
    /// When the broker took the PUBLISH, ms since the epoch.
    pub publish_ms: u64,
    /// When the message expires, ms since the epoch.
    pub expires_ms: Option<u64>,
}

impl MessageView<'_> {
    /// A message of which only the position is left: without topic, payload and publisher.
    pub(crate) fn unknown(qos: QoS, retain: bool, now_ms: u64) -> Self {
        Self {
            topic: "",
            payload: &[],
            qos,
            retain,
            dup: false,
            publisher: "",
            username: "",
            peer: "",
            principal: "",
            properties: ForwardProperties::default(),
            publish_ms: now_ms,
            expires_ms: None,
        }
    }

    /// Whether the message must not be delivered any more [MQTT-3.3.2-5].
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms
            .is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    /// Message Expiry Interval for a delivery made now: what is left of it in whole seconds,
    /// rounded up so that a message which is still alive never says 0 [MQTT-3.3.2-6].
    pub fn expiry_left_s(&self, now_ms: u64) -> Option<u32> {
        let left_ms = self.expires_ms?.saturating_sub(now_ms);
        Some(u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

/// The messages of one turn, in the order of publishing. Immutable, cheap to share.
#[derive(Debug, Clone, Default)]
pub struct Messages {
    text: Box<str>,
    bytes: Bytes,
    entries: Box<[Entry]>,
    events: Box<[(Place, u32)]>,
}

/// Ranges into the arenas. Topic, publisher, user name, peer and principal lie side by side in
/// `text`; properties and payload in `bytes`.
#[derive(Debug, Clone, Copy)]
struct Entry {
    publish_ms: u64,
    /// `u64::MAX`: never.
    expires_ms: u64,
    place: Option<Place>,
    retained: Option<Place>,
    text_at: u32,
    bytes_at: u32,
    properties_len: u32,
    payload_len: u32,
    topic_len: u16,
    publisher_len: u16,
    username_len: u16,
    peer_len: u16,
    principal_len: u16,
    qos: QoS,
    level: Ack,
    retain: bool,
    dup: bool,
    kept: bool,
}

impl Messages {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The message number `index` (below [`Messages::len`]).
    pub fn get(&self, index: u32) -> MessageView<'_> {
        let entry = &self.entries[index as usize];
        let (topic, rest) =
            self.text[entry.text_at as usize..].split_at(usize::from(entry.topic_len));
        let (publisher, rest) = rest.split_at(usize::from(entry.publisher_len));
        let (username, rest) = rest.split_at(usize::from(entry.username_len));
        let (peer, rest) = rest.split_at(usize::from(entry.peer_len));
        let principal = &rest[..usize::from(entry.principal_len)];
        let (properties, rest) =
            self.bytes[entry.bytes_at as usize..].split_at(entry.properties_len as usize);
        MessageView {
            topic,
            payload: &rest[..entry.payload_len as usize],
            qos: entry.qos,
            retain: entry.retain,
            dup: entry.dup,
            publisher,
            username,
            peer,
            principal,
            properties: ForwardProperties::from_raw(properties),
            publish_ms: entry.publish_ms,
            expires_ms: (entry.expires_ms != u64::MAX).then_some(entry.expires_ms),
        }
    }

    /// Where the records of events are that happened whatever becomes of the turn, and whose.
    pub(crate) fn events(&self) -> &[(Place, u32)] {
        &self.events
    }

    /// All messages in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = MessageView<'_>> {
        (0..self.entries.len()).map(|index| self.get(index as u32))
    }

    /// The payload of message `index`, sharing the arena.
    pub fn payload(&self, index: u32) -> Bytes {
        let entry = &self.entries[index as usize];
        let start = entry.bytes_at as usize + entry.properties_len as usize;
        self.bytes.slice(start..start + entry.payload_len as usize)
    }

    /// Where the copy of message `index` is that sessions point into.
    pub fn place(&self, index: u32) -> Option<Place> {
        self.entries[index as usize].place
    }

    /// Whether that copy is in a disk stream, so that a position outlives the process.
    pub fn is_kept(&self, index: u32) -> bool {
        self.entries[index as usize].kept
    }

    /// Strictest ack level of the streams that took message `index`: what must be reached before
    /// its publisher is answered and before it is delivered.
    pub fn level(&self, index: u32) -> Ack {
        self.entries[index as usize].level
    }

    /// Where the record of message `index` in the retained table is; a message without payload has
    /// a tombstone there.
    pub fn retained_place(&self, index: u32) -> Option<Place> {
        self.entries[index as usize].retained
    }

    /// Bytes that the messages hold.
    pub fn size_bytes(&self) -> usize {
        self.text.len() + self.bytes.len() + std::mem::size_of_val(&*self.entries)
    }
}

/// Where the records of one message went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    /// The copy that sessions point into.
    pub place: Option<Place>,
    /// Whether that copy is in a disk stream.
    pub kept: bool,
    /// Its record in the retained table.
    pub retained: Option<Place>,
    /// Strictest ack level of all streams that took it.
    pub level: Ack,
}

/// Gathers the messages of one turn; reused from turn to turn without allocating.
#[derive(Debug, Default)]
pub struct MessagesBuilder {
    text: String,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    events: Vec<(Place, u32)>,
}

impl MessagesBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of messages so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes gathered so far.
    pub fn size_bytes(&self) -> usize {
        self.text.len() + self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// The record there tells of an event of `owner` that happened whatever becomes of the turn.
    pub(crate) fn happened(&mut self, place: Place, owner: u32) {
        self.events.push((place, owner));
    }

    /// Whether there is any of those.
    pub(crate) fn tells_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Adds a message; answers its index.
    ///
    /// Strings are those of MQTT, at most 65,535 bytes; the bytes of a turn stay below 4 GiB, as
    /// the turn ends at [`TURN_BYTES_MAX`] and a packet has at most 256 MiB.
    pub fn push(&mut self, message: &MessageView<'_>, placed: &Placed) -> u32 {
        let index = self.entries.len() as u32;
        let text_at = self.text.len() as u32;
        let bytes_at = u32::try_from(self.bytes.len()).expect("a turn is cut long before 4 GiB");
        self.text.push_str(message.topic);
        self.text.push_str(message.publisher);
        self.text.push_str(message.username);
        self.text.push_str(message.peer);
        self.text.push_str(message.principal);
        self.bytes.extend_from_slice(message.properties.as_bytes());
        self.bytes.extend_from_slice(message.payload);
        self.entries.push(Entry {
            publish_ms: message.publish_ms,
            expires_ms: message.expires_ms.unwrap_or(u64::MAX),
            place: placed.place,
            retained: placed.retained,
            text_at,
            bytes_at,
            properties_len: message.properties.as_bytes().len() as u32,
            payload_len: message.payload.len() as u32,
            topic_len: string_len(message.topic),
            publisher_len: string_len(message.publisher),
            username_len: string_len(message.username),
            peer_len: string_len(message.peer),
            principal_len: string_len(message.principal),
            qos: message.qos,
            level: placed.level,
            retain: message.retain,
            dup: message.dup,
            kept: placed.kept,
        });
        index
    }

    /// The messages gathered, in as much memory as they need; the builder is empty again.
    pub fn finish(&mut self) -> Messages {
        let messages = Messages {
            text: self.text.as_str().into(),
            bytes: Bytes::copy_from_slice(&self.bytes),
            entries: self.entries.as_slice().into(),
            events: self.events.as_slice().into(),
        };
        self.events.clear();
        self.text.clear();
        self.bytes.clear();
        self.entries.clear();
        self.text.shrink_to(TURN_BYTES_MAX);
        self.bytes.shrink_to(2 * TURN_BYTES_MAX);
        messages
    }
}

fn string_len(text: &str) -> u16 {
    u16::try_from(text.len()).expect("an MQTT string has at most 65,535 bytes")
}

/// A message that owns its bytes: read back from a record.
#[derive(Debug, Clone)]
pub struct OwnedMessage {
    /// Exactly one.
    one: Messages,
}

impl OwnedMessage {
    /// A copy of `message`.
    pub fn new(message: &MessageView<'_>) -> Self {
        let mut builder = MessagesBuilder::new();
        builder.push(
            message,
            &Placed {
                level: Ack::Memory,
                ..Placed::default()
            },
        );
        Self {
            one: builder.finish(),
        }
    }

    /// The message.
    pub fn view(&self) -> MessageView<'_> {
        self.one.get(0)
    }

    /// The payload, sharing this message's memory.
    pub fn payload(&self) -> Bytes {
        self.one.payload(0)
    }

    /// Bytes that the message holds.
    pub fn size_bytes(&self) -> usize {
        self.one.size_bytes()
    }
}

/// Stands for the base offset of an append that the log refused while the rest of its entry stood:
/// its stream had been deleted meanwhile.
pub const REFUSED: u64 = u64::MAX;

/// What the log publishes once a turn's entry has been written: the same for all workers.
#[derive(Debug)]
pub struct Commit {
    /// The journal entry.
    pub lsn: Lsn,
    /// The worker whose turn it was.
    pub worker: u16,
    /// That worker's number of the turn, from 1.
    pub turn: u64,
    /// For each append of the entry, in order: partition, base offset given (or [`REFUSED`]), and
    /// number of records.
    pub batches: Vec<(PartitionId, u64, u32)>,
    /// The messages published in the turn.
    pub messages: Messages,
}

impl Commit {
    /// Where the record at `place` is; `None` where its append was refused.
    pub fn position(&self, place: Place) -> Option<Position> {
        let (partition, base, _) = self.batches[place.append as usize];
        (base != REFUSED).then(|| Position {
            partition,
            offset: base + u64::from(place.delta),
        })
    }
}

/// Cheap handle on one committed message.
#[derive(Debug, Clone)]
pub struct MessageRef {
    commit: Arc<Commit>,
    index: u32,
}

impl MessageRef {
    /// The message number `index` of `commit`.
    pub fn new(commit: Arc<Commit>, index: u32) -> Self {
        assert!(
            (index as usize) < commit.messages.len(),
            "the commit has no message {index}"
        );
        Self { commit, index }
    }

    /// The message.
    pub fn view(&self) -> MessageView<'_> {
        self.commit.messages.get(self.index)
    }

    /// The payload, sharing the commit's memory.
    pub fn payload(&self) -> Bytes {
        self.commit.messages.payload(self.index)
    }

    /// Where the message can be read again; `None` for one that was placed nowhere.
    pub fn position(&self) -> Option<Position> {
        self.commit
            .messages
            .place(self.index)
            .and_then(|place| self.commit.position(place))
    }

    /// Whether [`MessageRef::position`] is in a disk stream and outlives the process.
    pub fn is_kept(&self) -> bool {
        self.commit.messages.is_kept(self.index)
    }

    /// Strictest ack level of the streams that took the message.
    pub fn level(&self) -> Ack {
        self.commit.messages.level(self.index)
    }

    /// Journal entry of the message.
    pub fn lsn(&self) -> Lsn {
        self.commit.lsn
    }

    /// The commit that holds the message.
    pub fn commit(&self) -> &Arc<Commit> {
        &self.commit
    }

    /// Number of the message within its commit.
    pub fn index(&self) -> u32 {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(topic: &'a str, payload: &'a [u8]) -> MessageView<'a> {
        MessageView {
            topic,
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            publisher: "p\u{e9}",
            username: "",
            peer: "",
            principal: "",
            properties: ForwardProperties::default(),
            publish_ms: 1_000,
            expires_ms: None,
        }
    }

    #[test]
    fn a_turn_gives_its_messages_back_unchanged_and_the_builder_starts_again() {
        let mut builder = MessagesBuilder::new();
        let mut second = view("a/b", b"");
        second.qos = QoS::ExactlyOnce;
        second.retain = true;
        second.dup = true;
        second.username = "u";
        second.peer = "[::1]:5";
        second.principal = "me";
        second.expires_ms = Some(7_000);
        let place = Place {
            append: 1,
            delta: 2,
        };
        let retained = Place {
            append: 0,
            delta: 9,
        };
        let placed = Placed {
            place: Some(place),
            kept: true,
            retained: Some(retained),
            level: Ack::Flush,
        };
        assert_eq!(builder.push(&view("a", b"one"), &Placed::default()), 0);
        assert_eq!(builder.push(&second, &placed), 1);
        let messages = builder.finish();
        assert!(builder.is_empty() && builder.size_bytes() == 0);
        assert_eq!(
            messages.iter().collect::<Vec<_>>(),
            [view("a", b"one"), second]
        );
        assert_eq!(&messages.payload(0)[..], b"one");
        assert_eq!(messages.place(0), None);

        let batches = vec![(4, 100, 10), (6, 200, 3)];
        let commit = Arc::new(Commit {
            lsn: 5,
            worker: 0,
            turn: 1,
            batches,
            messages,
        });
        let handle = MessageRef::new(commit.clone(), 1);
        assert_eq!(
            handle.position(),
            Some(Position {
                partition: 6,
                offset: 202
            })
        );
        assert!(handle.is_kept());
        assert_eq!(handle.level(), Ack::Flush);
        let retained = commit
            .messages
            .retained_place(1)
            .and_then(|place| commit.position(place));
        assert_eq!(
            retained,
            Some(Position {
                partition: 4,
                offset: 109
            })
        );
        assert_eq!(OwnedMessage::new(&handle.view()).view(), second);
    }

    #[test]
    fn expiry_counts_down_and_never_says_zero_while_alive() {
        let mut message = view("a", b"");
        assert_eq!(message.expiry_left_s(5_000), None);
        message.expires_ms = Some(11_000);
        assert_eq!(message.expiry_left_s(1_000), Some(10));
        assert_eq!(message.expiry_left_s(10_999), Some(1));
        assert!(!message.is_expired(10_999));
        assert!(message.is_expired(11_000));
        assert_eq!(message.expiry_left_s(12_000), Some(0));
    }
}
