//! What one worker writes in one turn: a batch a partition, and the side array from which live
//! delivery reads. Becomes one entry of the journal, so all of it is kept or nothing.

mod again;
mod appends;
mod writer;

pub(crate) use self::again::{EventRecord, owner_of};
use self::appends::Appends;
use self::writer::{Scratch, Writer};
use crate::hooks::{Event, HookTable};
use crate::limits::TURN_BYTES_MAX;
use crate::message::{MessageView, Messages, MessagesBuilder, Place, Placed, Position};
use crate::placement::Placements;
use crate::properties::ForwardProperties;
use crate::record::{MessageJson, RecordHeaders, write_client, write_session};
use commitlog::{Ack, Entry, PartitionId};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use mqtt::{PublishProperties, QoS};
use std::sync::Arc;

/// A PUBLISH that the broker has accepted.
#[derive(Debug, Clone, Copy)]
pub struct PublishFacts<'a> {
    /// The publisher.
    pub client_id: &'a str,
    /// Its user name, `""` when absent.
    pub username: &'a str,
    /// The topic, aliases resolved.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// `QoS` of the PUBLISH.
    pub qos: QoS,
    /// RETAIN flag: the message goes into the table of retained messages too, or, without payload,
    /// takes the one there away.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// Properties; those that are the receivers' go along, and the expiry counts from now.
    pub properties: &'a PublishProperties<'a>,
    /// Address of the publisher, where records are to name it.
    pub peer: Option<&'a str>,
    /// Whom the publisher authenticated as, where records are to name it.
    pub principal: Option<&'a str>,
    /// Now, ms since the epoch.
    pub now_ms: u64,
}

/// What became of a PUBLISH in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Index of the message in the turn's [`Messages`].
    pub message: u32,
    /// The level that must be reached before the publisher is answered.
    pub ack: Ack,
    /// For level `kafka`: stands for the partitions that the cluster behind must have, a bit each.
    pub mirrored: u64,
}

/// An event besides a PUBLISH.
#[derive(Debug, Clone, Copy)]
pub enum EventFacts<'a> {
    /// `client.connected`
    Connected {
        /// The client.
        client_id: &'a str,
        /// Its user name, `""` when absent.
        username: &'a str,
    },
    /// `client.disconnected`
    Disconnected {
        /// The client.
        client_id: &'a str,
        /// Its user name, `""` when absent.
        username: &'a str,
        /// Why, in a word.
        reason: &'a str,
    },
    /// `session.subscribed`
    Subscribed {
        /// The client.
        client_id: &'a str,
        /// The filter; `$share/group/` in front is left out of the record, as EMQ X does.
        topic: &'a str,
        /// `QoS` granted.
        qos: QoS,
    },
    /// `session.unsubscribed`
    Unsubscribed {
        /// The client.
        client_id: &'a str,
        /// The filter; `$share/group/` in front is left out of the record, as EMQ X does.
        topic: &'a str,
        /// `QoS` that had been granted.
        qos: QoS,
    },
    /// `message.delivered`
    Delivered(Delivery<'a>),
    /// `message.acked`
    Acked(Delivery<'a>),
    /// `message.dropped`
    Dropped(Delivery<'a>, DropReason),
}

/// A message and one receiver of it.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The receiver; the publisher where nobody was to receive it.
    pub client_id: &'a str,
    /// Its user name, `""` when absent.
    pub username: &'a str,
    /// `QoS` of the delivery.
    pub qos: QoS,
    /// The message.
    pub message: &'a MessageView<'a>,
    /// Where the message is kept, if it is.
    pub position: Option<Position>,
}

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Nobody subscribes to its topic.
    NoSubscribers,
    /// The receiver is owed as much as it may be owed.
    QueueFull,
    /// Its expiry interval ran out.
    Expired,
    /// The receiver takes no packet as large.
    TooLarge,
    /// The receiver may not read its topic.
    NotAuthorized,
    /// Retention removed it before it could be delivered.
    Retention,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::NoSubscribers,
        Self::QueueFull,
        Self::Expired,
        Self::TooLarge,
        Self::NotAuthorized,
        Self::Retention,
    ];

    /// The word that stands in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSubscribers => "no_subscribers",
            Self::QueueFull => "queue_full",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::NotAuthorized => "not_authorized",
            Self::Retention => "retention",
        }
    }
}

/// Gathers what one worker writes; lives as long as the worker and is emptied by
/// [`Turn::finish`].
#[derive(Debug)]
pub struct Turn {
    hooks: Arc<HookTable>,
    placements: Placements,
    appends: Appends,
    messages: MessagesBuilder,
    scratch: Scratch,
    /// Encoded properties of the message at hand.
    properties: Vec<u8>,
    number: u64,
    ack: Ack,
    last_room: bool,
    needs_earlier: bool,
    /// Records that hooks made, by [`crate::HookSettings::counter`].
    made: Vec<u64>,
}

impl Turn {
    /// The first turn of a worker, empty.
    pub fn new(hooks: Arc<HookTable>) -> Self {
        Self {
            made: vec![0; hooks.counters()],
            hooks,
            placements: Placements::new(),
            appends: Appends::default(),
            messages: MessagesBuilder::new(),
            scratch: Scratch::default(),
            properties: Vec::new(),
            number: 1,
            ack: Ack::Memory,
            last_room: false,
            needs_earlier: false,
        }
    }

    /// Places all that follows by other hooks.
    pub fn set_hooks(&mut self, hooks: Arc<HookTable>) {
        let counters = hooks.counters().max(self.made.len());
        self.made.resize(counters, 0);
        self.hooks = hooks;
        self.placements.forget();
    }

    /// Records that hooks made since the first turn, those that the log refused included, by
    /// [`crate::HookSettings::counter`].
    pub fn made(&self) -> &[u64] {
        &self.made
    }

    /// The hooks in force.
    pub fn hooks(&self) -> &Arc<HookTable> {
        &self.hooks
    }

    /// Number of the turn that is being filled, from 1; rises when [`Turn::finish`] hands out an
    /// entry.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    /// Number of messages published in this turn.
    pub fn messages(&self) -> u32 {
        self.messages.len() as u32
    }

    /// Bytes written so far, batches and side array.
    pub fn size_bytes(&self) -> usize {
        self.appends.size_bytes() + self.messages.size_bytes()
    }

    /// Whether the turn should be ended ([`TURN_BYTES_MAX`]).
    pub fn is_full(&self) -> bool {
        self.size_bytes() >= TURN_BYTES_MAX
    }

    /// A checkpoint waits for what is in this turn: it may use the last room of the journal.
    pub(crate) fn use_last_room(&mut self) {
        self.last_room = true;
    }

    /// Whether the turn may use the last room of the journal, which is kept for what a checkpoint
    /// waits for. To be asked before [`Turn::finish`].
    pub fn may_use_last_room(&self) -> bool {
        self.last_room
    }

    /// The turn makes no sense without all turns before it.
    pub(crate) fn need_earlier(&mut self) {
        self.needs_earlier = true;
    }

    /// Whether the log must refuse the turn if it refused an earlier one of this worker and the
    /// shard had not heard of that when the turn was finished. To be asked before [`Turn::finish`].
    pub fn needs_earlier(&self) -> bool {
        self.needs_earlier
    }

    /// Strictest level that anything in this turn asks for.
    pub fn ack(&self) -> Ack {
        self.ack
    }

    /// Places a PUBLISH: a record for each hook that takes it, else one in the default stream; and
    /// one in the table of retained messages if it is to be retained. Where the hooks keep a
    /// `QoS` 1 or 2 message in memory only, the default stream has it too.
    pub fn publish(&mut self, facts: &PublishFacts<'_>) -> Published {
        self.properties.clear();
        facts.properties.encode_forwarded(&mut self.properties);
        let message = facts.message(&self.properties);
        let headers = RecordHeaders {
            peer: facts.peer,
            principal: facts.principal,
            ..RecordHeaders::of(&message)
        };
        let placement = self
            .placements
            .of(&self.hooks, Event::MessagePublish, facts.topic);
        let mut placed = Placed {
            place: None,
            kept: placement.kept.is_some(),
            retained: None,
            level: placement.ack,
        };
        let mut writer = Writer {
            hooks: &self.hooks,
            appends: &mut self.appends,
            scratch: &mut self.scratch,
            now_ms: facts.now_ms,
            happened: None,
            mirrored: 0,
            made: &mut self.made,
        };
        if !placement.records.is_empty() {
            let json = MessageJson {
                client_id: facts.client_id,
                username: facts.username,
                from: None,
                topic: facts.topic,
                payload: facts.payload,
                qos: facts.qos,
                reason: None,
                node_json: &self.hooks.node_json,
                ts: facts.now_ms,
            };
            placed.place = writer.message(&placement, &json, headers);
        }
        if placed.place.is_none() || (!placed.kept && facts.qos != QoS::AtMostOnce) {
            writer.unhooked(&message, headers, &mut placed);
        }
        let mirrored = writer.mirrored;
        if facts.retain {
            let table = self.hooks.target(self.hooks.retained);
            placed.retained = Some(writer.retained(table.partitions[0], &message));
            placed.level = placed.level.max(table.ack);
        }
        let index = self.messages.push(&message, &placed);
        self.ack = self.ack.max(placed.level);
        Published {
            message: index,
            ack: placed.level,
            mirrored,
        }
    }

    /// The strictest level of the streams that a message of QoS 1 or 2 on `topic` goes to.
    pub fn level_of(&mut self, topic: &str) -> Ack {
        let placement = self
            .placements
            .of(&self.hooks, Event::MessagePublish, topic);
        if placement.kept.is_some() {
            placement.ack
        } else {
            placement.ack.max(self.hooks.target(self.hooks.default).ack)
        }
    }

    /// Places a message of the node itself (`$SYS`): in memory, past all hooks.
    pub fn announce(&mut self, facts: &PublishFacts<'_>) -> Published {
        self.properties.clear();
        facts.properties.encode_forwarded(&mut self.properties);
        let message = facts.message(&self.properties);
        let stream = self.hooks.target(self.hooks.sys);
        let mut writer = Writer {
            hooks: &self.hooks,
            appends: &mut self.appends,
            scratch: &mut self.scratch,
            now_ms: facts.now_ms,
            happened: None,
            mirrored: 0,
            made: &mut self.made,
        };
        let place = Some(writer.retained(stream.partition(facts.topic.as_bytes()), &message));
        let retained = if facts.retain { place } else { None };
        let placed = Placed {
            place,
            kept: false,
            retained,
            level: stream.ack,
        };
        let index = self.messages.push(&message, &placed);
        self.ack = self.ack.max(placed.level);
        Published {
            message: index,
            ack: placed.level,
            mirrored: 0,
        }
    }

    /// Whether any hook is set on `event`; where not, nothing about it need be worked out.
    pub fn wants(&self, event: Event) -> bool {
        self.hooks.wants(event)
    }

    /// Whether a hook on `event` takes `topic` (a filter for `session.*`).
    pub fn matches_event(&mut self, event: Event, topic: &str) -> bool {
        self.hooks.wants(event)
            && !self
                .placements
                .of(&self.hooks, event, unshared(topic))
                .records
                .is_empty()
    }

    /// Writes a record for each hook that takes the event; answers the strictest level of their
    /// streams, or `None` where no hook does.
    pub fn event(&mut self, facts: &EventFacts<'_>, now_ms: u64) -> Option<Ack> {
        self.event_as(facts, now_ms, false)
    }

    /// The same for an event that stays true if the log refuses the turn: its records are written
    /// again then.
    pub fn happened(&mut self, facts: &EventFacts<'_>, now_ms: u64) -> Option<Ack> {
        self.event_as(facts, now_ms, true)
    }

    fn event_as(&mut self, facts: &EventFacts<'_>, now_ms: u64, happened: bool) -> Option<Ack> {
        let event = facts.event();
        if !self.hooks.wants(event) {
            return None;
        }
        let topic = facts.topic();
        let placement = self.placements.of(&self.hooks, event, topic);
        if placement.records.is_empty() {
            return None;
        }
        let node_json = &*self.hooks.node_json;
        let mut writer = Writer {
            hooks: &self.hooks,
            appends: &mut self.appends,
            scratch: &mut self.scratch,
            now_ms,
            happened: happened.then_some((&mut self.messages, owner_of(facts.client_id()))),
            mirrored: 0,
            made: &mut self.made,
        };
        match *facts {
            EventFacts::Connected {
                client_id,
                username,
            } => {
                writer.plain(&placement, [client_id, username, topic], |out| {
                    write_client(out, client_id, username, None, node_json, now_ms);
                });
            }
            EventFacts::Disconnected {
                client_id,
                username,
                reason,
            } => {
                writer.plain(&placement, [client_id, username, topic], |out| {
                    write_client(out, client_id, username, Some(reason), node_json, now_ms);
                });
            }
            EventFacts::Subscribed { client_id, qos, .. }
            | EventFacts::Unsubscribed { client_id, qos, .. } => {
                writer.plain(&placement, [client_id, "", topic], |out| {
                    write_session(out, client_id, topic, qos, node_json, now_ms);
                });
            }
            EventFacts::Delivered(delivery) | EventFacts::Acked(delivery) => {
                writer.delivery(&placement, &delivery, None);
            }
            EventFacts::Dropped(delivery, reason) => {
                writer.delivery(&placement, &delivery, Some(reason));
            }
        }
        self.ack = self.ack.max(placement.ack);
        Some(placement.ack)
    }

    /// Whether a message on `topic`, or what hooks make of its delivery, goes to one of these
    /// partitions' streams.
    pub fn leads_into(
        &mut self,
        topic: &str,
        qos: QoS,
        streams: &HashSet<PartitionId, RandomState>,
    ) -> bool {
        let hooks = &self.hooks;
        let is_in = |target: u16| {
            let partitions = &hooks.target(target).partitions;
            partitions
                .iter()
                .any(|partition| streams.contains(partition))
        };
        if streams.is_empty() {
            return false;
        }
        let mut kept = false;
        for event in [
            Event::MessagePublish,
            Event::MessageDelivered,
            Event::MessageAcked,
            Event::MessageDropped,
        ] {
            let placement = self.placements.of(hooks, event, topic);
            if placement.records.iter().any(|record| is_in(record.target)) {
                return true;
            }
            if event == Event::MessagePublish {
                let in_memory = qos == QoS::AtMostOnce && !placement.records.is_empty();
                kept = placement.kept.is_some() || in_memory;
            }
        }
        let unhooked = if qos == QoS::AtMostOnce {
            hooks.default_qos0
        } else {
            hooks.default
        };
        !kept && is_in(unhooked)
    }

    /// Writes a record as it is, such as a dead letter.
    pub fn record(
        &mut self,
        partition: PartitionId,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], &[u8])],
        now_ms: u64,
    ) {
        self.ack = self.ack.max(Ack::Append);
        self.appends.push(partition, now_ms, key, value, headers);
    }

    /// Writes a record of a table; no value is a tombstone.
    pub fn table(
        &mut self,
        partition: PartitionId,
        key: &[u8],
        value: Option<&[u8]>,
        now_ms: u64,
    ) -> Place {
        self.ack = self.ack.max(Ack::Append);
        self.appends.push(partition, now_ms, Some(key), value, &[])
    }

    /// The journal entry of what was written, with its messages, and a new turn begun; `None`, and
    /// the turn goes on, where nothing was.
    pub fn finish(&mut self) -> Option<(Entry, Messages)> {
        if self.is_empty() {
            return None;
        }
        let appends = self.appends.finish();
        self.scratch.shrink();
        self.number += 1;
        self.ack = Ack::Memory;
        (self.last_room, self.needs_earlier) = (false, false);
        Some((
            Entry {
                appends,
                ops: Vec::new(),
            },
            self.messages.finish(),
        ))
    }
}

impl PublishFacts<'_> {
    fn message<'m>(&'m self, properties: &'m [u8]) -> MessageView<'m> {
        MessageView {
            topic: self.topic,
            payload: self.payload,
            qos: self.qos,
            retain: self.retain,
            dup: self.dup,
            publisher: self.client_id,
            username: self.username,
            properties: ForwardProperties::from_raw(properties),
            publish_ms: self.now_ms,
            expires_ms: self
                .properties
                .expiry_s
                .map(|expiry_s| self.now_ms + 1000 * u64::from(expiry_s)),
        }
    }
}

impl<'a> EventFacts<'a> {
    /// Which event it is.
    pub fn event(&self) -> Event {
        match self {
            Self::Connected { .. } => Event::ClientConnected,
            Self::Disconnected { .. } => Event::ClientDisconnected,
            Self::Subscribed { .. } => Event::SessionSubscribed,
            Self::Unsubscribed { .. } => Event::SessionUnsubscribed,
            Self::Delivered(_) => Event::MessageDelivered,
            Self::Acked(_) => Event::MessageAcked,
            Self::Dropped(..) => Event::MessageDropped,
        }
    }

    /// Whose event it is: the client's, or the receiver's.
    fn client_id(&self) -> &'a str {
        match self {
            Self::Connected { client_id, .. }
            | Self::Disconnected { client_id, .. }
            | Self::Subscribed { client_id, .. }
            | Self::Unsubscribed { client_id, .. } => client_id,
            Self::Delivered(delivery) | Self::Acked(delivery) | Self::Dropped(delivery, _) => {
                delivery.client_id
            }
        }
    }

    /// What a hook's filter is held against; empty for `client.*`.
    fn topic(&self) -> &'a str {
        match self {
            Self::Connected { .. } | Self::Disconnected { .. } => "",
            Self::Subscribed { topic, .. } | Self::Unsubscribed { topic, .. } => unshared(topic),
            Self::Delivered(delivery) | Self::Acked(delivery) | Self::Dropped(delivery, _) => {
                delivery.message.topic
            }
        }
    }
}

/// A filter without `$share/group/`.
fn unshared(filter: &str) -> &str {
    mqtt::topic::parse_share(filter).map_or(filter, |share| share.filter)
}

#[cfg(test)]
pub(crate) mod tests;
