//! Snapshots: the inboxes that changed, written as chunk records, and a marker for each home that
//! says how far they go. What lies before the oldest marker need not be replayed.

use super::answers::Progress;
use super::table::{Kind, Marker, write_chunk, write_number};
use super::timers::Due;
use super::{HOMES, Shard, home_of, worker_of};
use crate::input::Now;
use crate::limits::STEP_BYTES;
use crate::outbox::Outbox;
use commitlog::Lsn;
use std::collections::VecDeque;

/// What a home's snapshot in the log allows to be forgotten.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    matched_to: Lsn,
    table_to: u64,
}

/// Snapshots of the homes of one shard.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// First offset of the session table behind all records that this shard has seen committed.
    table_to: u64,
    /// The homes, and what is in the log of each.
    homes: Vec<(u8, Kept)>,
    /// Written, but not known to be in the log: turn, home, marker.
    written: VecDeque<(u64, u8, Kept)>,
    /// Index of the next home to be written by the snapshot under way.
    next: Option<usize>,
    /// The last session of that home that was written in an earlier turn: its inboxes take more than
    /// one.
    saved_to: Option<u32>,
    /// Turns with some inboxes of a home and not its marker, which are not known to be in the log.
    parts: VecDeque<u64>,
}

impl Snapshots {
    pub(super) fn new(worker: u16, workers: u16) -> Self {
        let homes = (0..HOMES).map(|home| home as u8);
        let own = homes.filter(|&home| worker_of(home, workers) == worker);
        Self {
            table_to: 0,
            homes: own.map(|home| (home, Kept::default())).collect(),
            written: VecDeque::new(),
            next: None,
            saved_to: None,
            parts: VecDeque::new(),
        }
    }

    /// Table records up to `next_offset` are in the log.
    pub(super) fn table_at(&mut self, next_offset: u64) {
        self.table_to = self.table_to.max(next_offset);
    }

    /// A home was restored from this marker.
    pub(super) fn restored(&mut self, home: u8, marker: &Marker) {
        self.table_to = self.table_to.max(marker.table_to);
        if let Some((_, kept)) = self.homes.iter_mut().find(|(own, _)| *own == home) {
            *kept = Kept {
                matched_to: marker.matched_to,
                table_to: marker.table_to,
            };
        }
    }

    /// Whether one is being written, or waits for that.
    pub(super) fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    pub(super) fn shards_at(&self) -> Lsn {
        self.homes
            .iter()
            .map(|(_, kept)| kept.matched_to)
            .min()
            .unwrap_or(Lsn::MAX)
    }

    pub(super) fn table_pin(&self) -> u64 {
        self.homes
            .iter()
            .map(|(_, kept)| kept.table_to)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Turns up to `progress.appended` are in the log, and the markers in them.
    pub(super) fn appended(&mut self, progress: &Progress) {
        while let Some(&(turn, home, kept)) = self.written.front()
            && turn <= progress.appended
        {
            self.written.pop_front();
            if let Some((_, known)) = self.homes.iter_mut().find(|(own, _)| *own == home) {
                *known = kept;
            }
        }
        while self
            .parts
            .front()
            .is_some_and(|turn| *turn <= progress.appended)
        {
            self.parts.pop_front();
        }
    }

    /// What is in a turn that the log refused is not there. True if there was some of a snapshot.
    fn refused(&mut self, turn: u64) -> bool {
        let before = self.written.len() + self.parts.len();
        self.written.retain(|&(at, ..)| at != turn);
        self.parts.retain(|&at| at != turn);
        let refused = self.written.len() + self.parts.len() < before;
        if refused {
            self.saved_to = None;
        }
        refused
    }
}

impl Shard {
    /// The log refused a turn: if it was part of a snapshot, the next one writes everything again.
    pub(super) fn snapshot_refused(&mut self, turn: u64) {
        if !self.snapshots.refused(turn) {
            return;
        }
        for slot in self.sessions.slots().collect::<Vec<_>>() {
            let session = &mut self.sessions[slot];
            session.backlog.inbox.save_refused();
            session.dirty = true;
        }
        self.groups.iter_mut().for_each(|group| group.dirty = true);
    }

    /// Writes a snapshot of all homes; a long one in several turns.
    pub(super) fn snapshot(&mut self, now: Now, out: &mut Outbox) {
        if self.snapshots.next.is_none() {
            self.snapshots.next = Some(0);
            self.snapshots.saved_to = None;
            self.snapshot_more(now, out);
        }
    }

    pub(super) fn snapshot_more(&mut self, now: Now, out: &mut Outbox) {
        let Some(first) = self.snapshots.next else {
            return;
        };
        if self.restoring.is_open() || self.giving_up.is_reading() {
            // The restored sessions are not complete yet, or a delivery is on its way from an inbox
            // into the record of its end.
            self.timers.arm(now.mono_ms + 1, Due::Snapshot);
            return;
        }
        // A snapshot must not say less than records that the log lacks: what it refused goes first.
        // If it refuses more, it refuses this turn too.
        if now.mono_ms >= self.unconfirmed.retry_at_ms {
            self.write_lost(now, out);
        }
        if self.unconfirmed.has_lost() {
            let at_ms = self.unconfirmed.retry_at_ms.max(now.mono_ms);
            self.timers.arm(at_ms, Due::Snapshot);
            return;
        }
        out.turn.use_last_room();
        out.turn.need_earlier();
        let mut dirty: Vec<(u8, u32)> = Vec::new();
        for slot in self.sessions.slots() {
            let session = &self.sessions[slot];
            if session.dirty && session.is_persistent() {
                dirty.push((home_of(&session.client_id), slot));
            }
        }
        dirty.sort_unstable();
        for at in first..self.snapshots.homes.len() {
            // One home at least, so that busy turns do not hold the snapshot up for ever.
            if at > first && out.turn.size_bytes() > STEP_BYTES {
                self.snapshots.next = Some(at);
                self.timers.arm(now.mono_ms, Due::Snapshot);
                return;
            }
            let home = self.snapshots.homes[at].0;
            let from = dirty.partition_point(|&(other, _)| other < home);
            let dirty = dirty[from..].iter();
            let slots = dirty.take_while(|&&(other, _)| other == home);
            if !self.save_inboxes(slots.map(|&(_, slot)| slot), now, out) {
                self.snapshots.next = Some(at);
                self.timers.arm(now.mono_ms, Due::Snapshot);
                return;
            }
            self.save_groups(home, now, out);
            self.save_marker(home, now, out);
        }
        self.snapshots.next = None;
    }

    /// Writes the inboxes of a home that have changed, in rising slots. False: more than one turn is
    /// to hold, so that the rest comes in another, and the marker not before the last. It counts from
    /// when it is written, so what has changed meanwhile goes with it, whatever that takes: little,
    /// since only changes are written.
    fn save_inboxes(
        &mut self,
        slots: impl Iterator<Item = u32> + Clone,
        now: Now,
        out: &mut Outbox,
    ) -> bool {
        let saved_to = self.snapshots.saved_to;
        let mut any = false;
        for slot in slots
            .clone()
            .filter(|slot| saved_to.is_none_or(|to| *slot > to))
        {
            if any && out.turn.size_bytes() > STEP_BYTES {
                self.snapshots.parts.push_back(out.turn.number());
                return false;
            }
            any = true;
            self.save_inbox(slot, now, out);
            self.snapshots.saved_to = Some(slot);
        }
        for slot in slots.filter(|slot| saved_to.is_some_and(|to| *slot <= to)) {
            self.save_inbox(slot, now, out);
        }
        self.snapshots.saved_to = None;
        true
    }

    fn save_inbox(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        self.sessions[slot].dirty = false;
        let mut inbox = std::mem::take(&mut self.sessions[slot].backlog.inbox);
        inbox.save(|chunk, entries| {
            let number = chunk.to_be_bytes();
            match entries {
                None => {
                    let owner = self.sessions[slot].client_id.clone();
                    self.erase_for(Kind::Chunk, &owner, &number, now, out);
                }
                Some((start, entries)) => {
                    let lists = self.sessions[slot].id_lists();
                    write_chunk(&mut self.value, start, entries, lists);
                    self.put(slot, Kind::Chunk, &number, now, out);
                }
            }
        });
        write_number(&mut self.value, inbox.head());
        self.sessions[slot].backlog.inbox = inbox;
        self.put(slot, Kind::Head, &[], now, out);
    }

    fn save_groups(&mut self, home: u8, now: Now, out: &mut Outbox) {
        let mut names = Vec::new();
        for group in self.groups.iter_mut() {
            if group.dirty && group.is_persistent() && home_of(&group.name) == home {
                group.dirty = false;
                let lent = group.lent.iter().map(|(owed, _)| owed);
                let mut unsettled = lent.chain(&group.queue).copied();
                let mut value = Vec::new();
                write_chunk(&mut value, 0, &mut unsettled, &[]);
                names.push((group.name.clone(), value));
            }
        }
        for (name, value) in names {
            self.value = value;
            self.put_for(Kind::Queue, &name, &[], now, out);
        }
    }

    fn save_marker(&mut self, home: u8, now: Now, out: &mut Outbox) {
        let marker = Marker {
            applied: self.progress.applied_lsn,
            matched_to: self.matched_to(),
            table_to: self.snapshots.table_to,
            wall_ms: now.wall_ms,
        };
        marker.write(&mut self.value);
        self.put_for(Kind::Marker, "", &[home], now, out);
        let kept = Kept {
            matched_to: marker.matched_to,
            table_to: marker.table_to,
        };
        self.snapshots
            .written
            .push_back((out.turn.number(), home, kept));
    }
}
