//! Table records that are on their way into the log. What the log refuses is written again later,
//! unless a newer record of the same key took its place: so the table is late, never wrong.

use super::table::{Key, Kind};
use std::collections::{BTreeMap, VecDeque};

/// Key and value, or a tombstone.
type Record = (Box<[u8]>, Option<Box<[u8]>>);

/// Key and value of a record that is no state but says what happened.
type Event = (Box<[u8]>, Box<[u8]>);

/// Records by turn, and those that were refused.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    written: VecDeque<(u64, Record)>,
    /// The latest of each key.
    lost: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    /// Records that add to those before them under the same key.
    lost_events: Vec<Event>,
    /// A timer will try again.
    pub retry_is_armed: bool,
}

impl Unconfirmed {
    /// A record went into a turn.
    pub(super) fn written(&mut self, turn: u64, key: &[u8], value: Option<&[u8]>) {
        let Some(kind) = Key::read(key).map(|key| key.kind) else {
            return;
        };
        let again = match kind {
            // The client was told that it failed.
            Kind::Subscription | Kind::Received => value.is_none(),
            // The next snapshot is complete by itself.
            Kind::Chunk | Kind::Head | Kind::Marker | Kind::Queue => false,
            Kind::Session
            | Kind::Will
            | Kind::Inflight
            | Kind::Dropped
            | Kind::Pushed
            | Kind::Settled => true,
        };
        if !is_event(kind) {
            self.lost.remove(key);
        }
        if again {
            self.written
                .push_back((turn, (key.into(), value.map(Into::into))));
        }
    }

    /// Turns up to `turn` are in the log.
    pub(super) fn confirmed(&mut self, turn: u64) {
        while self.written.front().is_some_and(|&(at, _)| at <= turn) {
            self.written.pop_front();
        }
    }

    /// The log refused a turn; turns before it were confirmed or refused already.
    pub(super) fn refused(&mut self, turn: u64) {
        while self.written.front().is_some_and(|&(at, _)| at <= turn) {
            let Some((_, (key, value))) = self.written.pop_front() else {
                return;
            };
            match (Key::read(&key).is_some_and(|key| is_event(key.kind)), value) {
                (true, Some(value)) => self.lost_events.push((key, value)),
                (true, None) => {}
                (false, value) => {
                    // A newer one of the same key, on its way, decides for itself.
                    if !self.written.iter().any(|(_, (other, _))| *other == key) {
                        self.lost.insert(key, value);
                    }
                }
            }
        }
    }

    /// What is on its way now counts as refused: a snapshot writes it along, in case it will be.
    pub(super) fn doubt(&mut self) {
        self.refused(u64::MAX);
    }

    /// Whether anything waits to be written again.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty() || !self.lost_events.is_empty()
    }

    /// What is to be written again.
    pub(super) fn take_lost(&mut self) -> (Vec<Record>, Vec<Event>) {
        let latest = std::mem::take(&mut self.lost).into_iter().collect();
        (latest, std::mem::take(&mut self.lost_events))
    }
}

fn is_event(kind: Kind) -> bool {
    matches!(kind, Kind::Dropped | Kind::Pushed | Kind::Settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::new();
        Key::write(&mut key, kind, "a", rest);
        key
    }

    #[test]
    fn what_was_refused_comes_again_unless_something_newer_took_its_place() {
        let mut records = Unconfirmed::default();
        let (one, two) = (key(Kind::Inflight, &[0, 1]), key(Kind::Inflight, &[0, 2]));
        records.written(1, &one, Some(b"x"));
        records.written(1, &two, Some(b"x"));
        records.written(1, &key(Kind::Settled, &[]), Some(b"p"));
        records.written(1, &key(Kind::Settled, &[]), Some(b"q"));
        records.written(1, &key(Kind::Received, &[0, 1]), Some(b"x"));
        records.written(2, &one, None);
        records.refused(1);
        records.confirmed(2);
        let (latest, events) = records.take_lost();
        assert_eq!(latest, [(two.clone().into(), Some((*b"x").into()))]);
        assert_eq!(events.len(), 2);
        records.written(3, &two, Some(b"x"));
        records.refused(3);
        assert!(records.has_lost());
        records.written(4, &two, None);
        assert!(!records.has_lost());
    }
}
