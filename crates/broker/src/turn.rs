//! What one worker writes in one turn: a batch a partition, and the side array from which live
//! delivery reads. Becomes one entry of the journal, so all of it is kept or nothing.

mod again;
mod appends;
mod facts;
mod writer;

pub(crate) use self::again::{EventRecord, owner_of};
use self::appends::Appends;
pub(crate) use self::facts::Publisher;
use self::facts::unshared;
pub use self::facts::{Delivery, DropReason, EventFacts, PublishFacts, Published};
use self::writer::{Scratch, Writer};
use crate::hooks::{Event, HookTable};
use crate::limits::TURN_BYTES_MAX;
use crate::message::{Messages, MessagesBuilder, Place, Placed};
use crate::placement::Placements;
use crate::record::{MessageJson, RecordHeaders, write_client, write_session};
use commitlog::{Ack, Entry, Op, PartitionId};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use mqtt::QoS;
use std::sync::Arc;

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
    /// An answer waits until this turn is flushed.
    flush_awaited: bool,
    last_room: bool,
    needs_earlier: bool,
    /// Records that hooks made, by [`crate::HookSettings::counter`].
    made: Vec<u64>,
    /// This turn changes a table.
    changes: bool,
    /// The last finished turn that tells of an event or changes a table. Nothing newer of that kind is
    /// to be in the log without it: a crash in between would find what never was.
    told: u64,
    /// All turns up to this one are in the log, or the shard knows that they are not.
    settled: u64,
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
            flush_awaited: false,
            last_room: false,
            needs_earlier: false,
            changes: false,
            told: 0,
            settled: 0,
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

    /// The log has taken all turns up to `turn`, or the shard has what it did not take.
    pub(crate) fn settled(&mut self, turn: u64) {
        self.settled = turn;
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
        let headers = RecordHeaders::of(&message);
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
        self.needs_earlier |= happened && self.told > self.settled;
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
        self.changes = true;
        self.needs_earlier |= self.told > self.settled;
        self.ack = self.ack.max(Ack::Append);
        self.appends.push(partition, now_ms, Some(key), value, &[])
    }

    /// Somebody waits until what is in this turn is flushed: that is not to be put off.
    pub fn await_flush(&mut self) {
        self.flush_awaited = true;
    }

    /// The journal entry of what was written, with its messages, and a new turn begun; `None`, and
    /// the turn goes on, where nothing was.
    pub fn finish(&mut self) -> Option<(Entry, Messages)> {
        if self.is_empty() {
            return None;
        }
        let appends = self.appends.finish();
        self.scratch.shrink();
        if std::mem::take(&mut self.changes) || self.messages.tells_events() {
            self.told = self.number;
        }
        self.number += 1;
        self.ack = Ack::Memory;
        let awaited = std::mem::take(&mut self.flush_awaited);
        (self.last_room, self.needs_earlier) = (false, false);
        Some((
            Entry {
                appends,
                ops: awaited.then_some(Op::AwaitFlush).into_iter().collect(),
            },
            self.messages.finish(),
        ))
    }
}

#[cfg(test)]
pub(crate) mod tests;
