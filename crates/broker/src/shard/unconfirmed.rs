//! What is on its way into the log, and what the log refused: table records, wills, records of
//! events. What is refused waits for its owner's turn and is then written again as a whole, before
//! anything newer of that owner: so the log is late, never wrong.

use super::lost::LastWords;
use super::table::{InflightRecord, Key, Kind};
use crate::limits::{LOST_BYTES_MAX, STEP_BYTES};
use crate::message::Position;
use crate::turn::{EventRecord, owner_of};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Bytes = Box<[u8]>;

/// Something that must be in the log in the end.
#[derive(Debug)]
enum Piece {
    /// Key and value, or a tombstone.
    Record(Bytes, Option<Bytes>),
    /// A record under this key that is not written again: nothing older is to come behind it.
    /// True: a tombstone that was refused is left out for it, and wanted after all should the log
    /// refuse this one too.
    Newer(Bytes, bool),
    Will(LastWords),
}

/// All that the log refused of one owner: what was in one entry stays together.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Records that add to those before them under the same key, in their order.
    pub notes: Vec<(Bytes, Bytes)>,
    /// Messages that were in flight and acknowledged, both refused, by client id: replay must take
    /// them out of the inbox.
    pub gone: BTreeMap<Box<str>, Vec<Position>>,
    /// The latest of each other key.
    pub latest: BTreeMap<Bytes, Option<Bytes>>,
    pub wills: Vec<LastWords>,
    pub events: Vec<EventRecord>,
    /// What wills and events weigh.
    bytes: usize,
}

impl Unit {
    fn take_in(&mut self, key: Bytes, value: Option<Bytes>) {
        match (Key::read(&key).is_some_and(|key| is_note(key.kind)), value) {
            (true, Some(value)) => self.notes.push((key, value)),
            (true, None) => {}
            (false, value) => {
                if value.is_none() {
                    self.supersede(&key);
                }
                self.latest.insert(key, value);
            }
        }
    }

    /// A newer record of this key takes the place of what was refused. True where that was a
    /// tombstone.
    fn supersede(&mut self, key: &[u8]) -> bool {
        let value = match self.latest.remove(key) {
            None => return false,
            Some(None) => return true,
            Some(Some(value)) => value,
        };
        if let Some(key) = Key::read(key)
            && key.kind == Kind::Inflight
            && let Some(record) = InflightRecord::read(&value)
            && !record.owed.shared
        {
            let gone = self.gone.entry(key.owner.into()).or_default();
            gone.push(record.owed.position);
        }
        false
    }
}

impl Unit {
    /// Takes out what is in flight and finds no room in `bytes`: no event goes with that, so it may
    /// follow in another entry.
    fn split_off(&mut self, bytes: usize) -> Option<Self> {
        let mut taken = 0;
        let rest: BTreeMap<_, _> = self
            .latest
            .extract_if(.., |key, value| {
                let in_flight = key.first() == Some(&(Kind::Inflight as u8)) && value.is_some();
                taken += key.len() + value.as_ref().map_or(0, |value| value.len());
                in_flight && taken > bytes
            })
            .collect();
        (!rest.is_empty()).then(|| Self {
            latest: rest,
            ..Self::default()
        })
    }
}

/// What is on its way, by turn, and what was refused, by owner.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    /// Turn, owner and piece.
    written: VecDeque<(u64, u32, Piece)>,
    lost: BTreeMap<u32, Unit>,
    /// The last turn on its way with a will of an owner.
    wills: BTreeMap<u32, u64>,
    /// Bytes of all lost wills and events.
    bytes: usize,
    /// The owner whose unit was written again last; the next one follows.
    last: u32,
    /// Nothing is tried again before this time of the monotonic clock.
    pub retry_at_ms: u64,
    /// A timer will try again.
    pub retry_is_armed: bool,
}

impl Unconfirmed {
    /// A record went into a turn. `owner` says with what it stays together.
    pub(super) fn written(&mut self, turn: u64, owner: u32, key: &[u8], value: Option<&[u8]>) {
        let Some(kind) = Key::read(key).map(|key| key.kind) else {
            return;
        };
        let again = match kind {
            // The client was told that it failed; the next snapshot is complete by itself. But neither
            // takes away what is gone.
            Kind::Subscription | Kind::Received | Kind::Chunk | Kind::Head | Kind::Queue => {
                value.is_none()
            }
            Kind::Marker => false,
            Kind::Session
            | Kind::Will
            | Kind::Inflight
            | Kind::Dropped
            | Kind::Pushed
            | Kind::Settled => true,
        };
        let lost = self.lost.get_mut(&owner);
        let erased = lost.is_some_and(|unit| unit.supersede(key));
        if again {
            self.record(turn, owner, key.into(), value.map(Into::into));
        } else {
            self.written
                .push_back((turn, owner, Piece::Newer(key.into(), erased)));
        }
    }

    /// A record went into a turn that is written again if the log refuses it.
    pub(super) fn record(&mut self, turn: u64, owner: u32, key: Bytes, value: Option<Bytes>) {
        let piece = Piece::Record(key, value);
        self.written.push_back((turn, owner, piece));
    }

    /// A will went into a turn.
    pub(super) fn published(&mut self, turn: u64, words: LastWords) {
        let owner = owner_of(&words.client_id);
        self.wills.insert(owner, turn);
        self.written.push_back((turn, owner, Piece::Will(words)));
    }

    /// Turns up to `turn` are in the log.
    pub(super) fn confirmed(&mut self, turn: u64) {
        while self.pop(turn).is_some() {}
    }

    /// The oldest piece of the turns up to `turn`.
    fn pop(&mut self, turn: u64) -> Option<(u32, Piece)> {
        let (at, owner, piece) = self.written.pop_front_if(|&mut (at, ..)| at <= turn)?;
        if matches!(piece, Piece::Will(_)) && self.wills.get(&owner) == Some(&at) {
            self.wills.remove(&owner);
        }
        Some((owner, piece))
    }

    /// Whether a will of `owner` is on its way in a turn before `turn`.
    pub(super) fn has_will_before(&self, turn: u64, owner: impl FnOnce() -> u32) -> bool {
        !self.wills.is_empty() && self.wills.get(&owner()).is_some_and(|&at| at < turn)
    }

    /// The log refused a turn, with the records of these events; turns before it were confirmed or
    /// refused already. Answers how many wills and events found no room, and the owners of whom
    /// something newer is in the turn `current`, into which their units belong too.
    pub(super) fn refused(
        &mut self,
        turn: u64,
        events: Vec<EventRecord>,
        current: u64,
    ) -> (u64, BTreeSet<u32>) {
        let mut dropped = 0;
        while let Some((owner, piece)) = self.pop(turn) {
            match piece {
                Piece::Record(key, value) => {
                    self.lost.entry(owner).or_default().take_in(key, value);
                }
                Piece::Newer(_, false) => {}
                Piece::Newer(key, true) => {
                    self.lost.entry(owner).or_default().take_in(key, None);
                }
                Piece::Will(words) => {
                    let size_bytes = words.size_bytes();
                    match self.room_for(owner, size_bytes) {
                        Some(unit) => unit.wills.push(words),
                        None => dropped += 1,
                    }
                }
            }
        }
        for record in events {
            match self.room_for(record.owner(), record.size_bytes()) {
                Some(unit) => unit.events.push(record),
                None => dropped += 1,
            }
        }
        let mut here = BTreeSet::new();
        for (at, owner, piece) in &mut self.written {
            let Some(unit) = self.lost.get_mut(owner) else {
                continue;
            };
            // Whatever becomes of the newer one, the older is not to come behind it.
            match piece {
                Piece::Record(key, _) => {
                    unit.supersede(key);
                }
                Piece::Newer(key, erased) => *erased |= unit.supersede(key),
                Piece::Will(_) => {}
            }
            if *at == current {
                here.insert(*owner);
            }
        }
        (dropped, here)
    }

    /// The unit of `owner`, if `bytes` more of wills and events may wait.
    fn room_for(&mut self, owner: u32, bytes: usize) -> Option<&mut Unit> {
        if self.bytes + bytes > LOST_BYTES_MAX {
            return None;
        }
        self.bytes += bytes;
        let unit = self.lost.entry(owner).or_default();
        unit.bytes += bytes;
        Some(unit)
    }

    /// Whether anything waits to be written again.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Whether nothing waits, and no will is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.lost.is_empty() && self.wills.is_empty()
    }

    /// Takes what is to be written again of one owner, or the first part of very much.
    pub(super) fn take(&mut self, owner: u32) -> Option<Unit> {
        let mut unit = self.lost.remove(&owner)?;
        self.bytes -= unit.bytes;
        if let Some(rest) = unit.split_off(STEP_BYTES / 2) {
            self.lost.insert(owner, rest);
        }
        Some(unit)
    }

    /// The owner whose unit is to be written next; each comes in its turn.
    pub(super) fn next_lost(&mut self) -> Option<u32> {
        let behind = self.last.checked_add(1);
        let next = behind.and_then(|from| self.lost.range(from..).next());
        let owner = *next.or_else(|| self.lost.first_key_value())?.0;
        self.last = owner;
        Some(owner)
    }
}

fn is_note(kind: Kind) -> bool {
    matches!(kind, Kind::Dropped | Kind::Pushed | Kind::Settled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Owed;
    use crate::shard::table::write_inflight;
    use mqtt::QoS;

    const A: u32 = 1;

    fn key(kind: Kind, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::new();
        Key::write(&mut key, kind, "a", rest);
        key
    }

    fn in_flight(offset: u64) -> Vec<u8> {
        let partition = 7;
        let owed = Owed {
            sent: true,
            ..Owed::new(Position { partition, offset }, QoS::AtLeastOnce)
        };
        let mut value = Vec::new();
        write_inflight(&mut value, &owed, false, &[], None);
        value
    }

    #[test]
    fn what_was_refused_comes_again_unless_something_newer_took_its_place() {
        let mut records = Unconfirmed::default();
        let (one, two) = (key(Kind::Inflight, &[0, 1]), key(Kind::Inflight, &[0, 2]));
        records.written(1, A, &one, Some(&in_flight(3)));
        records.written(1, A, &two, Some(b"x"));
        records.written(1, A, &key(Kind::Settled, &[]), Some(b"p"));
        records.written(1, A, &key(Kind::Settled, &[]), Some(b"q"));
        records.written(1, A, &key(Kind::Received, &[0, 1]), Some(b"x"));
        records.written(1, A, &key(Kind::Chunk, &[0]), Some(b"x"));
        records.written(1, A, &key(Kind::Chunk, &[1]), None);
        records.written(2, A, &one, None);
        records.written(2, 2, &key(Kind::Session, &[]), Some(b"s"));
        let (dropped, here) = records.refused(1, Vec::new(), 2);
        assert_eq!((dropped, here), (0, [A].into()));
        let unit = records.take(A).unwrap();
        let latest: Vec<_> = unit.latest.into_iter().collect();
        let two = (two.into_boxed_slice(), Some((*b"x").into()));
        assert_eq!(latest, [(key(Kind::Chunk, &[1]).into(), None), two]);
        assert_eq!(unit.notes.len(), 2);
        let three = Position {
            partition: 7,
            offset: 3,
        };
        assert_eq!(unit.gone["a"], [three], "sent and acknowledged meanwhile");
        assert!(!records.has_lost());
        records.confirmed(2);
        assert!(records.written.is_empty());
    }

    #[test]
    fn what_is_acknowledged_while_nothing_is_written_leaves_a_position_behind() {
        let mut records = Unconfirmed::default();
        let one = key(Kind::Inflight, &[0, 1]);
        for turn in [1, 3, 5] {
            records.written(turn, A, &one, Some(&in_flight(turn)));
            records.written(turn + 1, A, &one, None);
        }
        for turn in 1..=6 {
            records.refused(turn, Vec::new(), 7);
        }
        let unit = records.take(A).unwrap();
        assert_eq!(unit.latest.len(), 1);
        let offsets: Vec<u64> = unit.gone["a"].iter().map(|it| it.offset).collect();
        assert_eq!(offsets, [1, 3, 5]);
    }

    #[test]
    fn what_was_refused_does_not_erase_what_was_written_since() {
        let mut records = Unconfirmed::default();
        for kind in [Kind::Chunk, Kind::Subscription, Kind::Received] {
            records.written(1, A, &key(kind, &[0, 1]), None);
            records.written(2, A, &key(kind, &[0, 1]), Some(b"x"));
        }
        records.refused(1, Vec::new(), 2);
        let unit = records.take(A).unwrap_or_default();
        assert!(unit.latest.is_empty(), "{unit:?}");
        records.confirmed(2);
        assert!(records.written.is_empty());
    }

    #[test]
    fn what_was_to_be_erased_is_erased_if_what_was_written_since_is_refused_too() {
        let mut records = Unconfirmed::default();
        let one = key(Kind::Received, &[0, 1]);
        records.written(1, A, &one, None);
        records.written(2, A, &one, Some(b"x"));
        records.written(3, A, &one, Some(b"x"));
        for turn in [1, 2] {
            records.refused(turn, Vec::new(), 4);
            let waits = records.lost.get(&A).map_or(0, |unit| unit.latest.len());
            assert_eq!(waits, 0, "turn 3 may still be taken");
        }
        records.refused(3, Vec::new(), 4);
        let latest: Vec<_> = records.take(A).unwrap().latest.into_iter().collect();
        assert_eq!(latest, [(one.into_boxed_slice(), None)]);
    }

    #[test]
    fn owners_come_by_turns() {
        let mut records = Unconfirmed::default();
        for owner in [5, 1, 3, u32::MAX] {
            records.written(1, owner, &key(Kind::Session, &[]), Some(b"s"));
        }
        records.refused(1, Vec::new(), 2);
        let order: Vec<_> = (0..5).filter_map(|_| records.next_lost()).collect();
        assert_eq!(order, [1, 3, 5, u32::MAX, 1]);
    }
}
