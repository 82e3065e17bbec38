//! A shard restored: the session table up to each home's marker, and the journal behind it. What
//! follows from the stop itself is restart's.

use super::matches::{Subscriber, Who, own_message};
use super::table::{
    InflightRecord, Key, Kind, Marker, SessionRecord, WillRecord, read_chunk, read_number,
    read_positions, read_subscription,
};
use super::{Shard, home_of};
use crate::decode::{StreamKind, decode_record};
use crate::downlink::dead_letter;
use crate::hooks::{Event, HookTable};
use crate::inbox::{CHUNK_ENTRIES, IdList, Owed};
use crate::input::GroupJoin;
use crate::message::{MessageView, Position};
use crate::record::header;
use crate::restore::Markers;
use crate::session::{Borrowed, Session};
use bytes::Bytes;
use commitlog::{Ack as Level, Lsn, PartitionId, RecordView};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use mqtt::inflight::OutState;
use mqtt::topic::parse_share;
use mqtt::{QoS, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of the sessions while they are restored.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    /// Sessions with a record of their own.
    pub(super) known: BTreeSet<u32>,
    /// Sessions that had a connection.
    pub(super) connected: BTreeSet<u32>,
    chunks: HashMap<u32, Chunks, RandomState>,
    queues: BTreeMap<Arc<str>, Vec<Owed>>,
    /// What groups had settled; a snapshot of a group may not know it yet.
    settled: Vec<(Arc<str>, Vec<Position>)>,
    /// Markers of the homes, once the table was fed.
    markers: HashMap<u8, Marker, RandomState>,
    pub(super) last_ms: u64,
    /// Sessions that are still to be looked at after the start.
    pub(super) rest: BTreeSet<u32>,
}

/// The chunk records of one session.
#[derive(Debug, Default)]
struct Chunks {
    head: u64,
    /// Their values, to be read when the last has come.
    chunks: BTreeMap<u64, Box<[u8]>>,
}

impl Restoring {
    /// Whether sessions are still to be looked at.
    pub(super) fn is_open(&self) -> bool {
        !self.rest.is_empty()
    }

    fn forget(&mut self, slot: u32) {
        self.known.remove(&slot);
        self.connected.remove(&slot);
        self.chunks.remove(&slot);
    }
}

impl Shard {
    /// Takes a record of the session table, if it belongs to the snapshot of one of this shard's
    /// homes. All records are to be fed, in order, `markers` having seen them all.
    pub fn feed(&mut self, markers: &Markers, offset: u64, key: &[u8], value: Option<&[u8]>) {
        let Some(key) = Key::read(key) else { return };
        if key.kind == Kind::Marker {
            if let &[home] = key.rest
                && let Some((_, marker)) = markers.of(home)
            {
                self.restoring.markers.insert(home, marker);
                self.restoring.last_ms = self.restoring.last_ms.max(marker.wall_ms);
                self.snapshots.restored(home, &marker);
                self.progress.applied_lsn = self.progress.applied_lsn.max(marker.applied);
                self.progress.flushed_lsn = self.progress.applied_lsn;
            }
            return;
        }
        let Some((marker_offset, marker)) = markers.of(home_of(key.owner)) else {
            return;
        };
        match key.kind {
            Kind::Chunk | Kind::Head | Kind::Queue if offset < marker_offset => {
                self.restore_snapshot(&key, value);
            }
            Kind::Session | Kind::Will | Kind::Subscription | Kind::Received | Kind::Inflight
                if offset < marker.table_to =>
            {
                self.restore_record(&key, value);
            }
            Kind::Settled if self.is_home(key.owner) => {
                let positions = value.and_then(read_positions).unwrap_or_default();
                self.restoring.settled.push((key.owner.into(), positions));
            }
            _ => {}
        }
    }

    /// Takes a journal entry; in order, from the oldest marker on.
    pub fn replay(&mut self, lsn: Lsn, batches: &[(PartitionId, u64, Bytes)]) {
        self.finish_snapshot();
        self.progress.applied_lsn = lsn;
        self.progress.flushed_lsn = lsn;
        for (partition, base, bytes) in batches {
            if *partition == self.places.sessions {
                self.replay_table(*base, bytes);
            }
        }
        for (partition, base, bytes) in batches {
            if let Some(kind @ (StreamKind::Hook | StreamKind::Default)) =
                self.hooks.kind(*partition)
                && *partition != self.places.sessions
            {
                self.replay_messages(lsn, *partition, *base, kind, bytes);
            }
        }
    }

    fn replay_table(&mut self, base: u64, bytes: &Bytes) {
        for batch in commitlog::batch::batches(bytes) {
            let Ok(batch) = batch else { return };
            for record in batch.records() {
                let Ok(record) = record else { return };
                let time_ms = u64::try_from(record.timestamp_ms).unwrap_or(0);
                self.restoring.last_ms = self.restoring.last_ms.max(time_ms);
                self.snapshots.table_at(record.offset + 1);
                let Some(key) = record.key.and_then(Key::read) else {
                    continue;
                };
                if key.kind == Kind::Settled {
                    self.replay_change(&key, record.value);
                    continue;
                }
                let marker = self.restoring.markers.get(&home_of(key.owner));
                if marker.is_some_and(|marker| record.offset < marker.table_to) {
                    continue;
                }
                match key.kind {
                    Kind::Chunk | Kind::Head | Kind::Queue | Kind::Marker => {}
                    Kind::Dropped | Kind::Pushed => {
                        self.replay_change(&key, record.value);
                    }
                    _ => self.restore_record(&key, record.value),
                }
            }
        }
        debug_assert!(base < u64::MAX, "refused appends are not in the journal");
    }

    /// Changes of inboxes that only the journal holds; snapshots contain their effect.
    fn replay_change(&mut self, key: &Key<'_>, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        if key.kind == Kind::Settled {
            if self.is_home(key.owner) {
                for position in read_positions(value).unwrap_or_default() {
                    self.groups.forget(key.owner, position);
                }
            }
            return;
        }
        let Some(slot) = self.sessions.find(key.owner) else {
            return;
        };
        let session = &mut self.sessions[slot];
        session.dirty = true;
        if key.kind == Kind::Dropped {
            for position in read_positions(value).unwrap_or_default() {
                session.backlog.inbox.take(position);
            }
        } else if let Some(record) = InflightRecord::read(value) {
            let position = record.owed.position;
            // The snapshot may hold it already.
            if session
                .backlog
                .inbox
                .iter()
                .all(|owed| owed.position != position)
            {
                let ids = session.list_ids(&record.ids);
                session.backlog.inbox.push(Owed { ids, ..record.owed });
            }
        }
    }

    /// Applies a record of a session, its will, its subscriptions or its packet ids.
    fn restore_record(&mut self, key: &Key<'_>, value: Option<&[u8]>) {
        if key.kind == Kind::Subscription
            && let Ok(filter) = std::str::from_utf8(key.rest)
            && parse_share(filter).is_some()
            && self.is_home(filter)
        {
            self.restore_member(key.owner, filter, value);
        }
        if !self.is_home(key.owner) {
            return;
        }
        let slot = match (self.sessions.find(key.owner), value) {
            (Some(slot), _) => slot,
            (None, Some(_)) => self
                .sessions
                .add(Session::new(key.owner.into(), Version::V311)),
            (None, None) => return,
        };
        let Some(value) = value else {
            self.restore_tombstone(slot, key);
            return;
        };
        let session = &mut self.sessions[slot];
        match key.kind {
            Kind::Session => {
                let Some(record) = SessionRecord::read(value) else {
                    return;
                };
                session.expiry_s = record.expiry_s;
                session.protocol = Version::from_level(record.protocol).unwrap_or(Version::V311);
                session.username = record.username;
                self.restoring.known.insert(slot);
                match record.disconnected_ms {
                    None => self.restoring.connected.insert(slot),
                    Some(at_ms) => {
                        session.disconnected.wall_ms = at_ms;
                        self.restoring.connected.remove(&slot)
                    }
                };
            }
            Kind::Will => {
                let Some(record) = WillRecord::read(value) else {
                    return;
                };
                session.will = Some(Box::new(record.will));
                session.will_saved = true;
                if !self.restoring.known.contains(&slot) {
                    session.username = record.username;
                }
            }
            Kind::Subscription => self.restore_subscription(slot, key.rest, value),
            Kind::Received => {
                if let Some(packet_id) = key.packet_id() {
                    session.inbound.restore(packet_id);
                }
            }
            Kind::Inflight => {
                if let (Some(packet_id), Some(record)) =
                    (key.packet_id(), InflightRecord::read(value))
                {
                    restore_inflight(session, packet_id, record);
                }
            }
            _ => {}
        }
    }

    fn restore_tombstone(&mut self, slot: u32, key: &Key<'_>) {
        let session = &mut self.sessions[slot];
        match key.kind {
            Kind::Session => {
                // The will, if there is one, has its own record and its own end.
                let will = session.will.take();
                let (username, saved) = (session.username.take(), session.will_saved);
                let subscriptions = std::mem::take(&mut session.subscriptions);
                for subscription in subscriptions {
                    self.unmatch(slot, &subscription.filter);
                }
                self.restoring.forget(slot);
                self.sessions.remove(slot);
                if let Some(will) = will {
                    let mut rest = Session::new(key.owner.into(), Version::V311);
                    (rest.will, rest.username, rest.will_saved) = (Some(will), username, saved);
                    self.sessions.add(rest);
                }
            }
            Kind::Will => {
                session.will = None;
                session.will_saved = false;
            }
            Kind::Subscription => {
                if let Ok(filter) = std::str::from_utf8(key.rest)
                    && let Some(at) = session.subscription(filter)
                {
                    session.subscriptions.remove(at);
                    self.unmatch(slot, filter);
                }
            }
            Kind::Received => {
                if let Some(packet_id) = key.packet_id() {
                    session.inbound.release(packet_id);
                }
            }
            Kind::Inflight => {
                if let Some(packet_id) = key.packet_id()
                    && let Some(owed) = session.outbound.remove(packet_id)
                {
                    session.give_back(owed.position);
                }
            }
            _ => {}
        }
    }

    fn restore_subscription(&mut self, slot: u32, filter: &[u8], value: &[u8]) {
        let (Ok(filter), Some((options, id))) =
            (std::str::from_utf8(filter), read_subscription(value))
        else {
            return;
        };
        let session = &mut self.sessions[slot];
        let subscription = crate::session::Subscription {
            filter: filter.into(),
            options,
            id,
        };
        match session.subscription(filter) {
            Some(at) => session.subscriptions[at] = subscription,
            None => session.subscriptions.push(subscription),
        }
        if parse_share(filter).is_some() {
            return;
        }
        let subscriber = Subscriber {
            who: Who::Session(slot),
            id,
            options,
        };
        let gone = self
            .filters
            .remove(filter, |other| other.who == subscriber.who);
        if self.filters.insert(filter, subscriber).is_ok() && gone.is_none() {
            let _ = self.interest.add(self.worker, filter);
        }
    }

    pub(super) fn unmatch(&mut self, slot: u32, filter: &str) {
        if parse_share(filter).is_none()
            && self
                .filters
                .remove(filter, |other| other.who == Who::Session(slot))
                .is_some()
        {
            self.interest.remove(self.worker, filter);
        }
    }

    /// A member of one of our groups, wherever it is at home: replay must match for the group.
    fn restore_member(&mut self, client_id: &str, filter: &str, value: Option<&[u8]>) {
        let name: Arc<str> = filter.into();
        match value.and_then(read_subscription) {
            Some((options, subscription_id)) => {
                let group = self.group(&name);
                if let Some(group) = self.groups.get_mut(group) {
                    group.join(&GroupJoin {
                        group: name,
                        client_id: client_id.into(),
                        options,
                        subscription_id,
                        online: false,
                        persistent: true,
                        window: 0,
                        holds: Vec::new(),
                    });
                }
            }
            None => {
                if let Some(slot) = self.groups.find(&name) {
                    if let Some(group) = self.groups.get_mut(slot) {
                        group.leave(client_id);
                    }
                    self.remove_if_empty(slot);
                }
            }
        }
    }

    fn restore_snapshot(&mut self, key: &Key<'_>, value: Option<&[u8]>) {
        if !self.is_home(key.owner) {
            return;
        }
        if key.kind == Kind::Queue {
            let entries = value.and_then(read_chunk).map(|(_, entries)| entries);
            let owed = entries
                .unwrap_or_default()
                .into_iter()
                .map(|(owed, _)| owed)
                .collect();
            self.restoring.queues.insert(key.owner.into(), owed);
            return;
        }
        let slot = match (self.sessions.find(key.owner), value) {
            (Some(slot), _) => slot,
            (None, Some(_)) => self
                .sessions
                .add(Session::new(key.owner.into(), Version::V311)),
            (None, None) => return,
        };
        let chunks = self.restoring.chunks.entry(slot).or_default();
        match (key.kind, key.number(), value) {
            (Kind::Head, _, Some(value)) => chunks.head = read_number(value).unwrap_or(0),
            (Kind::Chunk, Some(number), Some(value)) => {
                chunks.chunks.insert(number, value.into());
            }
            (Kind::Chunk, Some(number), None) => {
                chunks.chunks.remove(&number);
            }
            _ => {}
        }
    }

    /// Puts what the chunk records hold into the inboxes, before anything is replayed.
    pub(super) fn finish_snapshot(&mut self) {
        for (slot, chunks) in std::mem::take(&mut self.restoring.chunks) {
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            let first = chunks.head / CHUNK_ENTRIES;
            let numbers = chunks.chunks.keys();
            let range = (
                numbers
                    .clone()
                    .next()
                    .map_or(first, |&number| number.min(first)),
                numbers
                    .clone()
                    .next_back()
                    .map_or(first, |&number| (number + 1).max(first)),
            );
            session.backlog.inbox.restore(range);
            for value in chunks.chunks.into_values() {
                let (start, owed) = read_chunk(&value).unwrap_or_default();
                for (at, (owed, ids)) in owed.into_iter().enumerate() {
                    // What groups had lent they lend again.
                    if start + at as u64 >= chunks.head && !owed.shared {
                        let ids = session.list_ids(&ids);
                        session.backlog.inbox.push(Owed { ids, ..owed });
                    }
                }
            }
            session.dirty = true;
        }
        for (name, queue) in std::mem::take(&mut self.restoring.queues) {
            if let Some(slot) = self.groups.find(&name) {
                for owed in queue {
                    self.groups.restore(slot, owed);
                }
            }
        }
        for (name, positions) in std::mem::take(&mut self.restoring.settled) {
            for position in positions {
                self.groups.forget(&name, position);
            }
        }
    }

    fn replay_messages(
        &mut self,
        lsn: Lsn,
        partition: PartitionId,
        base: u64,
        kind: StreamKind,
        bytes: &Bytes,
    ) {
        if self.filters.is_empty() {
            return;
        }
        debug_assert!(base < u64::MAX, "refused appends are not in the journal");
        for batch in commitlog::batch::batches(bytes) {
            let Ok(batch) = batch else { return };
            for record in batch.records() {
                let Ok(record) = record else { return };
                let other = kind == StreamKind::Hook && record.value.is_none_or(is_other_event);
                if other || is_copy(&record) {
                    continue;
                }
                let Ok(message) = decode_record(kind, &record) else {
                    continue;
                };
                let view = message.view();
                let level = level_at(&self.hooks, &view, partition, kind);
                let position = Position {
                    partition,
                    offset: record.offset,
                };
                self.rematch(lsn, level, position, &view);
            }
        }
    }

    /// Matches a message of the journal again: what it puts into inboxes is what it put there
    /// before the stop.
    fn rematch(&mut self, lsn: Lsn, level: Level, position: Position, message: &MessageView<'_>) {
        if message.qos == QoS::AtMostOnce {
            return;
        }
        let is_matched = |markers: &HashMap<u8, Marker, RandomState>, owner: &str| {
            let marker = markers.get(&home_of(owner)).copied().unwrap_or_default();
            lsn <= if level >= Level::Flush {
                marker.matched_to
            } else {
                marker.applied
            }
        };
        let matched = self.matched(message.topic);
        for target in &matched.targets {
            let session = &mut self.sessions[target.session];
            if is_matched(&self.restoring.markers, &session.client_id) {
                continue;
            }
            let mut granted = target.qos;
            let mut as_published = target.retain_as_published;
            let mut ids = matched.ids(target).to_vec();
            if target.no_local && *session.client_id == *message.publisher {
                let Some(own) = own_message(session, message) else {
                    continue;
                };
                (granted, as_published, ids) = own;
            }
            let qos = message.qos.min(granted);
            if qos == QoS::AtMostOnce {
                continue;
            }
            let ids = session.list_ids(&ids);
            let retain = message.retain && as_published;
            session
                .backlog
                .inbox
                .push(owed(position, qos, retain, ids, false));
            session.dirty = true;
        }
        for &slot in &matched.groups {
            let Some(group) = self.groups.get_mut(slot) else {
                continue;
            };
            if !is_matched(&self.restoring.markers, &group.name) {
                let owed = owed(position, message.qos, message.retain, IdList::NONE, true);
                self.groups.restore(slot, owed);
            }
        }
    }
}

fn owed(position: Position, qos: QoS, retain: bool, ids: IdList, shared: bool) -> Owed {
    Owed {
        ids,
        retain,
        shared,
        ..Owed::new(position, qos)
    }
}

/// A delivery is in flight, so it is not in the inbox any more.
fn restore_inflight(session: &mut Session, packet_id: u16, record: InflightRecord) {
    let position = record.owed.position;
    let ids = session.list_ids(&record.ids);
    let owed = Owed {
        ids,
        sent: true,
        ..record.owed
    };
    if session.backlog.inbox.take(position).is_some() {
        session.dirty = true;
    }
    let state = match (record.released, owed.qos) {
        (true, _) => OutState::Released,
        (false, QoS::ExactlyOnce) => OutState::Qos2Sent,
        (false, _) => OutState::Qos1Sent,
    };
    // The id means one message for as long as it is in flight; a later record says how far it is.
    session.outbound.remove(packet_id);
    let known = session.outbound.insert_with_id(packet_id, state, owed);
    if let (Ok(()), Some(group)) = (known, record.group)
        && session.loan(position).is_none()
    {
        session.borrow(Borrowed {
            position,
            group: (&*group).into(),
            journal: true,
        });
    }
}

/// Whether a hook record tells of something else than a PUBLISH. A quote inside a JSON string is
/// escaped, so these bytes are the name of a field.
fn is_other_event(value: &[u8]) -> bool {
    const FROM: &[u8] = b",\"from\":\"";
    value.windows(FROM.len()).any(|window| window == FROM)
}

/// Whether the record is not the one that sessions point at: a second one of its message, or one that
/// was no message of a client.
fn is_copy(record: &RecordView<'_>) -> bool {
    let names = [header::COPY, dead_letter::REASON].map(str::as_bytes);
    let mut headers = record.headers();
    headers.any(|(name, _)| names.contains(&name))
}

/// The level that a message needed which was kept in `partition`, as far as the streams of today
/// tell: the hooks may have been others.
fn level_at(
    hooks: &HookTable,
    message: &MessageView<'_>,
    partition: PartitionId,
    kind: StreamKind,
) -> Level {
    let taking = hooks.taking(Event::MessagePublish, message.topic);
    let targets = || taking.iter().map(|hook| hooks.target(hook.target));
    let level = if kind == StreamKind::Default {
        hooks.target(hooks.default).ack
    } else if targets().any(|target| target.partitions.contains(&partition)) {
        targets()
            .map(|target| target.ack)
            .max()
            .unwrap_or(Level::Append)
    } else {
        hooks.level_of(partition).unwrap_or(Level::Append)
    };
    if message.retain {
        level.max(hooks.target(hooks.retained).ack)
    } else {
        level
    }
}
