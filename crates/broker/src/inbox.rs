//! What a session is owed but has not been sent: positions in the log, in the order of the log.
//! Knows how to hold them, not when to send them.

use crate::message::Position;
use commitlog::Lsn;
use mqtt::QoS;
use std::collections::VecDeque;

/// Owed messages of one chunk record of the session table.
pub(crate) const CHUNK_ENTRIES: u64 = 128;

/// One delivery that a session is owed, or has in flight: where the message is and how it goes
/// out. Payloads are never held here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    /// Where the message is kept.
    pub position: Position,
    /// Its journal entry, 0 when that is not known any more; with `index`, the way to the copy in
    /// memory.
    pub lsn: Lsn,
    /// The message's index in the commit.
    pub index: u32,
    /// Subscription identifiers to send along.
    pub ids: IdList,
    /// QoS of the delivery.
    pub qos: QoS,
    /// Retain flag of the delivery.
    pub retain: bool,
    /// Lent by a shared group, which wants to hear what becomes of it.
    pub shared: bool,
    /// Whether it was sent before, so that the next PUBLISH has the DUP flag.
    pub sent: bool,
}

/// Subscription identifiers of a delivery: none, one, or a list kept with the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct IdList(u32);

const LIST: u32 = 1 << 31;

impl IdList {
    /// No identifier.
    pub(crate) const NONE: IdList = IdList(0);

    /// One identifier; 0 is none.
    pub(crate) const fn one(id: u32) -> Self {
        IdList(id)
    }

    /// The list number `index` of the session.
    pub(crate) const fn listed(index: u32) -> Self {
        IdList(LIST | index)
    }

    /// The identifiers, given the session's lists.
    pub(crate) fn get<'a>(&'a self, lists: &'a [Box<[u32]>]) -> &'a [u32] {
        match self.0 {
            0 => &[],
            one if one & LIST == 0 => std::slice::from_ref(&self.0),
            list => lists.get((list & !LIST) as usize).map_or(&[], |ids| ids),
        }
    }
}

/// The owed messages of one session, oldest first. Numbered without gaps from `head`, so that only
/// chunks that changed are written again.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    entries: VecDeque<Owed>,
    head: u64,
    /// Number of the oldest entry that no chunk record holds yet.
    unsaved: u64,
    /// Chunks that have a record in the table: the first, and the one behind the last.
    chunks: (u64, u64),
    /// The same before the last save, should the log refuse that.
    chunks_before: (u64, u64),
}

impl Inbox {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn front(&self) -> Option<&Owed> {
        self.entries.front()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Owed> {
        self.entries.iter()
    }

    pub(crate) fn push(&mut self, owed: Owed) {
        self.entries.push_back(owed);
    }

    pub(crate) fn pop(&mut self) -> Option<Owed> {
        let owed = self.entries.pop_front()?;
        self.head += 1;
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = VecDeque::new();
        }
        Some(owed)
    }

    /// Takes the newest one out.
    pub(crate) fn pop_newest(&mut self) -> Option<Owed> {
        let owed = self.entries.pop_back()?;
        let end = self.head + self.entries.len() as u64;
        self.unsaved = self.unsaved.min(end);
        Some(owed)
    }

    /// Takes the message at `position` out, wherever it is. Used by replay and shared groups,
    /// where it is at or near the front.
    pub(crate) fn take(&mut self, position: Position) -> Option<Owed> {
        let at = self
            .entries
            .iter()
            .position(|owed| owed.position == position)?;
        if at == 0 {
            return self.pop();
        }
        let owed = self.entries.remove(at);
        // Everything behind it has another number now.
        self.unsaved = self.unsaved.min(self.head + at as u64);
        owed
    }

    /// Takes out what shared groups lent, in order.
    pub(crate) fn take_shared(&mut self) -> Vec<Position> {
        let shared: Vec<Position> = self
            .entries
            .iter()
            .filter(|owed| owed.shared)
            .map(|owed| owed.position)
            .collect();
        if !shared.is_empty() {
            self.entries.retain(|owed| !owed.shared);
            self.unsaved = self.head;
        }
        shared
    }

    /// Hands the chunks that must be written so that the table holds this inbox to `write`: number,
    /// and number of the first entry with the entries, or nothing for a tombstone.
    pub(crate) fn save(&mut self, mut write: impl FnMut(u64, Option<(u64, Entries<'_>)>)) {
        let end = self.head + self.entries.len() as u64;
        let (first, behind) = (self.head / CHUNK_ENTRIES, end.div_ceil(CHUNK_ENTRIES));
        for chunk in self.chunks.0..self.chunks.1 {
            if chunk < first || chunk >= behind {
                write(chunk, None);
            }
        }
        self.chunks_before = self.chunks;
        self.chunks = (first, behind.max(first));
        for chunk in self.unsaved.max(self.head) / CHUNK_ENTRIES..behind {
            let start = (chunk * CHUNK_ENTRIES).max(self.head);
            let stop = ((chunk + 1) * CHUNK_ENTRIES).min(end);
            let range = (start - self.head) as usize..(stop - self.head) as usize;
            write(chunk, Some((start, self.entries.range(range))));
        }
        self.unsaved = end;
    }

    /// The log refused what was saved last: all of it is to be saved again, and what it would have
    /// erased may still be there.
    pub(crate) fn save_refused(&mut self) {
        self.unsaved = self.head;
        self.chunks = (
            self.chunks.0.min(self.chunks_before.0),
            self.chunks.1.max(self.chunks_before.1),
        );
    }

    /// Chunks that have a record in the table.
    pub(crate) fn saved_chunks(&self) -> std::ops::Range<u64> {
        self.chunks.0..self.chunks.1
    }

    /// Number of the oldest entry.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Puts the entries of a chunk record back, in the order of the chunks, before anything was
    /// pushed. `head` is the number of the oldest one still owed; those that `keep` refuses are
    /// left out, which gives the rest other numbers.
    pub(crate) fn restore(&mut self, chunks: (u64, u64), entries: Vec<Owed>) {
        self.head = chunks.1 * CHUNK_ENTRIES;
        self.entries = entries.into();
        // All of it has new numbers, so all of it is written again by the next snapshot.
        self.unsaved = self.head;
        self.chunks = chunks;
    }
}

/// Entries of one chunk.
pub(crate) type Entries<'a> = std::collections::vec_deque::Iter<'a, Owed>;

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(offset: u64) -> Owed {
        Owed {
            position: Position {
                partition: 0,
                offset,
            },
            lsn: 0,
            index: 0,
            ids: IdList::NONE,
            qos: QoS::AtLeastOnce,
            retain: false,
            shared: false,
            sent: false,
        }
    }

    /// What a table of chunks holds after `save`.
    #[derive(Default)]
    struct Table(std::collections::BTreeMap<u64, (u64, Vec<u64>)>);

    impl Table {
        /// Saves; answers how many chunk records were written.
        fn save(&mut self, inbox: &mut Inbox) -> usize {
            let mut written = 0;
            inbox.save(|chunk, entries| {
                written += 1;
                match entries {
                    None => assert!(self.0.remove(&chunk).is_some(), "a tombstone for nothing"),
                    Some((start, entries)) => {
                        let offsets = entries.map(|owed| owed.position.offset).collect();
                        self.0.insert(chunk, (start, offsets));
                    }
                }
            });
            written
        }

        fn offsets(&self, head: u64) -> Vec<u64> {
            let all = self.0.values().flat_map(|(start, offsets)| {
                offsets
                    .iter()
                    .enumerate()
                    .map(move |(at, &offset)| (start + at as u64, offset))
            });
            all.filter(|&(number, _)| number >= head)
                .map(|(_, offset)| offset)
                .collect()
        }
    }

    #[test]
    fn a_refused_save_is_made_up_for_by_the_next() {
        let mut inbox = Inbox::default();
        let mut table = Table::default();
        for offset in 0..300 {
            inbox.push(owed(offset));
        }
        table.save(&mut inbox);
        for _ in 0..130 {
            inbox.pop();
        }
        inbox.push(owed(300));
        inbox.save(|_, _| {});
        inbox.save_refused();
        table.save(&mut inbox);
        assert_eq!(table.offsets(0), (130..301).collect::<Vec<_>>());
    }

    #[test]
    fn saved_chunks_hold_what_is_owed_and_unchanged_ones_are_not_written_again() {
        let mut inbox = Inbox::default();
        let mut table = Table::default();
        for offset in 0..300 {
            inbox.push(owed(offset));
        }
        assert_eq!(table.save(&mut inbox), 3);
        assert_eq!(
            table.save(&mut inbox),
            1,
            "only the chunk that is not full yet"
        );
        inbox.push(owed(300));
        for _ in 0..130 {
            inbox.pop();
        }
        assert_eq!(table.save(&mut inbox), 2, "a tombstone and the last chunk");
        assert_eq!(table.offsets(inbox.head()), (130..301).collect::<Vec<_>>());
        assert_eq!(
            inbox
                .take(owed(200).position)
                .map(|owed| owed.position.offset),
            Some(200)
        );
        table.save(&mut inbox);
        let left: Vec<u64> = (130..301).filter(|&offset| offset != 200).collect();
        assert_eq!(table.offsets(inbox.head()), left);
        while inbox.pop().is_some() {}
        table.save(&mut inbox);
        assert!(table.offsets(inbox.head()).is_empty());
    }
}
