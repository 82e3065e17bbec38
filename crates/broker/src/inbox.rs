//! What a session is owed but has not been sent: positions in the log, in the order of the log.
//! Knows how to hold them, not when to send them.

pub(crate) mod packed;

use crate::message::Position;
use commitlog::{Lsn, PartitionId};
use mqtt::QoS;
use packed::{Block, Packer, Unpacker};
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
    /// In flight, and no hook takes the event of its acknowledgement, so that its message need not
    /// be looked up for it.
    pub quiet: bool,
}

impl Owed {
    /// What is owed at `position` and was never sent; without identifiers and flags, and its journal
    /// entry is not known.
    pub(crate) const fn new(position: Position, qos: QoS) -> Self {
        Self {
            position,
            lsn: 0,
            index: 0,
            ids: IdList::NONE,
            qos,
            retain: false,
            shared: false,
            sent: false,
            quiet: false,
        }
    }
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

    /// Whether it is a list of the session.
    pub(crate) const fn is_list(self) -> bool {
        self.0 & LIST != 0
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

/// Entries of a block. What is being delivered is unpacked a block at a time.
const BLOCK_ENTRIES: usize = 64;

/// Partitions whose oldest entry is known at any time; where they are more it is looked for.
const PARTITIONS_NOTED: usize = 32;

/// The owed messages of one session, oldest first. Numbered without gaps from `head`, so that only
/// chunks that changed are written again. What may soon be served from memory stays as it is, up to
/// a block; everything behind it is packed (docs/decisions/0004).
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    front: VecDeque<Owed>,
    packed: Option<Box<Packed>>,
    head: u64,
    /// Number of the oldest entry that no chunk record holds yet.
    unsaved: u64,
    /// Chunks that have a record in the table: the first, and the one behind the last.
    chunks: (u64, u64),
    /// The same before the last save, should the log refuse that.
    chunks_before: (u64, u64),
}

/// What lies behind the front. Never empty.
#[derive(Debug, Default)]
struct Packed {
    blocks: VecDeque<Block>,
    /// Bytes and entries of the blocks.
    bytes: usize,
    count: usize,
    /// The newest entries.
    open: Packer,
    /// At most the oldest offset of each partition.
    oldest: Vec<(PartitionId, u64)>,
    /// Entries were taken out since, so that the oldest ones may be younger, or the partitions are
    /// too many to keep up with.
    loose: bool,
}

impl Packed {
    fn len(&self) -> usize {
        self.count + self.open.count()
    }

    fn size_bytes(&self) -> usize {
        let blocks = self.blocks.capacity() * size_of::<Block>() + self.bytes;
        let oldest = self.oldest.capacity() * size_of::<(PartitionId, u64)>();
        size_of::<Self>() + blocks + oldest + self.open.capacity()
    }

    fn note(&mut self, position: Position) {
        let Position { partition, offset } = position;
        let mut noted = self.oldest.iter_mut();
        if let Some((_, oldest)) = noted.find(|(known, _)| *known == partition) {
            *oldest = offset.min(*oldest);
        } else if self.oldest.len() < PARTITIONS_NOTED {
            self.oldest.push((partition, offset));
        } else {
            self.loose = true;
        }
    }

    /// The oldest offset of each partition.
    fn oldest(&mut self, mut visit: impl FnMut(Position)) {
        if !self.loose {
            for &(partition, offset) in &self.oldest {
                visit(Position { partition, offset });
            }
            return;
        }
        (self.oldest, self.loose) = (Vec::new(), false);
        for owed in self.iter(0).collect::<Vec<_>>() {
            self.note(owed.position);
            visit(owed.position);
        }
    }

    fn push(&mut self, owed: &Owed) {
        self.note(owed.position);
        self.open.push(owed);
        if self.open.count() == BLOCK_ENTRIES {
            let block = self.open.take();
            self.bytes += block.bytes().len();
            self.count += block.count();
            self.blocks.push_back(block);
        }
    }

    fn pop_block(&mut self) -> Option<Block> {
        self.loose = true;
        let block = match self.blocks.pop_front() {
            Some(block) => block,
            None if self.open.count() > 0 => return Some(self.open.take()),
            None => return None,
        };
        self.bytes -= block.bytes().len();
        self.count -= block.count();
        Some(block)
    }

    /// Takes the message at `position` out; answers its index, too.
    fn take(&mut self, position: Position) -> Option<(usize, Owed)> {
        self.loose = true;
        if let Some((at, owed, rest)) = without(self.open.bytes(), position) {
            self.open = rest;
            return Some((self.count + at, owed));
        }
        let mut before = 0;
        for number in 0..self.blocks.len() {
            let block = self.blocks.get_mut(number)?;
            if let Some((at, owed, mut rest)) = without(block.bytes(), position) {
                let whole = std::mem::replace(block, rest.take());
                self.bytes = self.bytes - whole.bytes().len() + block.bytes().len();
                self.count -= 1;
                if block.count() == 0 {
                    self.blocks.remove(number);
                }
                return Some((before + at, owed));
            }
            before += block.count();
        }
        None
    }

    /// The entries behind the first `skip`.
    fn iter(&self, mut skip: usize) -> impl Iterator<Item = Owed> {
        let mut first = 0;
        while let Some(block) = self.blocks.get(first)
            && block.count() <= skip
        {
            skip -= block.count();
            first += 1;
        }
        self.blocks
            .range(first..)
            .map(Block::bytes)
            .chain(std::iter::once(self.open.bytes()))
            .flat_map(Unpacker::new)
            .skip(skip)
    }
}

/// Packed entries without the one at `position`: its index, itself, and the others.
fn without(bytes: &[u8], position: Position) -> Option<(usize, Owed, Packer)> {
    let at = Unpacker::new(bytes).position(|owed| owed.position == position)?;
    let mut rest = Packer::default();
    let mut taken = None;
    for (number, owed) in Unpacker::new(bytes).enumerate() {
        if number == at {
            taken = Some(owed);
        } else {
            rest.push(&owed);
        }
    }
    taken.map(|owed| (at, owed, rest))
}

impl Inbox {
    pub(crate) fn len(&self) -> usize {
        self.front.len() + self.packed.as_ref().map_or(0, |packed| packed.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.packed.is_none()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn size_bytes(&self) -> usize {
        let packed = self.packed.as_ref().map_or(0, |packed| packed.size_bytes());
        self.front.capacity() * size_of::<Owed>() + packed
    }

    pub(crate) fn front(&self) -> Option<Owed> {
        self.iter().next()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Owed> {
        self.iter_behind(0)
    }

    fn iter_behind(&self, skip: usize) -> impl Iterator<Item = Owed> {
        let front = skip.min(self.front.len());
        let packed = self.packed.as_ref();
        self.front.range(front..).copied().chain(
            packed
                .into_iter()
                .flat_map(move |packed| packed.iter(skip - front)),
        )
    }

    pub(crate) fn push(&mut self, owed: Owed) {
        let soon = owed.lsn != 0 && self.front.len() < BLOCK_ENTRIES;
        if soon && self.packed.is_none() {
            self.front.push_back(owed);
        } else {
            self.packed.get_or_insert_default().push(&owed);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Owed> {
        if self.front.is_empty() {
            self.unpack();
        }
        let owed = self.front.pop_front()?;
        self.head += 1;
        if self.is_empty() && self.front.capacity() > BLOCK_ENTRIES / 2 {
            self.front = VecDeque::new();
        }
        Some(owed)
    }

    /// Unpacks the oldest block, the front being empty.
    fn unpack(&mut self) {
        let Some(packed) = &mut self.packed else {
            return;
        };
        if let Some(block) = packed.pop_block() {
            self.front.extend(Unpacker::new(block.bytes()));
        }
        if packed.len() == 0 {
            self.packed = None;
        }
    }

    /// Takes the newest ones out beyond `len_max`, oldest first.
    pub(crate) fn cut(&mut self, len_max: usize) -> Vec<Owed> {
        if self.len() <= len_max {
            return Vec::new();
        }
        let cut = self.iter_behind(len_max).collect();
        let kept: Vec<Owed> = self.iter().take(len_max).collect();
        self.refill(kept.into_iter());
        self.unsaved = self.unsaved.min(self.head + len_max as u64);
        cut
    }

    /// Takes the message at `position` out, wherever it is. Used by replay, where it is at or near
    /// the front, or among the newest.
    pub(crate) fn take(&mut self, position: Position) -> Option<Owed> {
        if self.front.is_empty() {
            self.unpack();
        }
        let found = self.front.iter().position(|owed| owed.position == position);
        let (at, owed) = match found {
            Some(0) => return self.pop(),
            Some(at) => (at, self.front.remove(at)?),
            None => {
                let (at, owed) = self.packed.as_mut()?.take(position)?;
                (self.front.len() + at, owed)
            }
        };
        if self.packed.as_ref().is_some_and(|packed| packed.len() == 0) {
            self.packed = None;
        }
        // Everything behind it has another number now.
        self.unsaved = self.unsaved.min(self.head + at as u64);
        Some(owed)
    }

    /// Takes out what `is_taken` says, in order.
    pub(crate) fn take_where(&mut self, is_taken: impl FnMut(&Owed) -> bool) -> Vec<Owed> {
        let (taken, kept): (Vec<Owed>, Vec<Owed>) = self.iter().partition(is_taken);
        if !taken.is_empty() {
            self.refill(kept.into_iter());
            self.unsaved = self.head;
        }
        taken
    }

    /// Shows positions of which the lowest in each partition is not above the lowest that is held.
    /// May change how many bytes it takes.
    pub(crate) fn oldest(&mut self, mut visit: impl FnMut(Position)) {
        self.front.iter().for_each(|owed| visit(owed.position));
        if let Some(packed) = &mut self.packed {
            packed.oldest(visit);
        }
    }

    /// Holds these entries instead.
    fn refill(&mut self, entries: impl Iterator<Item = Owed>) {
        self.front = VecDeque::new();
        self.packed = None;
        for owed in entries {
            self.push(owed);
        }
    }

    /// Hands the chunks that must be written so that the table holds this inbox to `write`: number,
    /// and number of the first entry with the entries, or nothing for a tombstone.
    pub(crate) fn save(&mut self, mut write: impl FnMut(u64, Option<(u64, Entries<'_>)>)) {
        let end = self.head + self.len() as u64;
        let (first, behind) = (self.head / CHUNK_ENTRIES, end.div_ceil(CHUNK_ENTRIES));
        for chunk in self.chunks.0..self.chunks.1 {
            if chunk < first || chunk >= behind {
                write(chunk, None);
            }
        }
        self.chunks_before = self.chunks;
        self.chunks = (first, behind.max(first));
        let begin = self.unsaved.max(self.head) / CHUNK_ENTRIES;
        let skip = (begin * CHUNK_ENTRIES).saturating_sub(self.head);
        let mut entries = self.iter_behind(skip as usize);
        for chunk in begin..behind {
            let start = (chunk * CHUNK_ENTRIES).max(self.head);
            let stop = ((chunk + 1) * CHUNK_ENTRIES).min(end);
            let mut part = entries.by_ref().take((stop - start) as usize);
            write(chunk, Some((start, &mut part)));
        }
        drop(entries);
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

    /// Begins behind the chunks that have a record in the table; what they hold is pushed then, in
    /// order, and gets new numbers, so all of it is written again by the next snapshot.
    pub(crate) fn restore(&mut self, chunks: (u64, u64)) {
        *self = Self {
            head: chunks.1 * CHUNK_ENTRIES,
            unsaved: chunks.1 * CHUNK_ENTRIES,
            chunks,
            ..Self::default()
        };
    }
}

/// Entries of one chunk; all of them are to be taken.
pub(crate) type Entries<'a> = &'a mut dyn Iterator<Item = Owed>;

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(offset: u64) -> Owed {
        Owed::new(
            Position {
                partition: 0,
                offset,
            },
            QoS::AtLeastOnce,
        )
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
                    None => drop(self.0.remove(&chunk)),
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

    #[test]
    fn it_holds_what_a_plain_list_would_hold() {
        proptest::proptest!(|(steps in proptest::collection::vec((0..100_u8, 0..400_u64), 0..600))| {
            let mut inbox = Inbox::default();
            let mut model: Vec<Owed> = Vec::new();
            let mut table = Table::default();
            let mut next = 0;
            for (step, number) in steps {
                match step {
                    0..70 => {
                        next += 1 + number % 3;
                        let mut one = owed(next);
                        one.position.partition = (number % 50) as u32;
                        one.lsn = if step < 35 { next } else { 0 };
                        one.shared = number == 7;
                        inbox.push(one);
                        model.push(one);
                    }
                    70..84 => {
                        let first = (!model.is_empty()).then(|| model.remove(0));
                        proptest::prop_assert_eq!(inbox.pop(), first);
                    }
                    84..94 => {
                        let at = model.iter().position(|it| it.position.offset == number);
                        let taken = at.map(|at| model.remove(at));
                        let position = taken.map_or(owed(number).position, |it| it.position);
                        proptest::prop_assert_eq!(inbox.take(position), taken);
                    }
                    94 => {
                        let len = model.len().min(number as usize);
                        let cut = model.split_off(len);
                        proptest::prop_assert_eq!(inbox.cut(len), cut);
                    }
                    95 => {
                        let shared: Vec<Owed> = model.extract_if(.., |it| it.shared).collect();
                        proptest::prop_assert_eq!(inbox.take_where(|it| it.shared), shared);
                    }
                    96 => {
                        inbox.save(|_, _| {});
                        inbox.save_refused();
                    }
                    _ => {
                        table.save(&mut inbox);
                        let offsets: Vec<u64> = model.iter().map(|it| it.position.offset).collect();
                        proptest::prop_assert_eq!(table.offsets(inbox.head()), offsets);
                    }
                }
                proptest::prop_assert_eq!(inbox.len(), model.len());
                proptest::prop_assert_eq!(inbox.is_empty(), model.is_empty());
                proptest::prop_assert_eq!(inbox.front(), model.first().copied());
                proptest::prop_assert_eq!(&inbox.iter().collect::<Vec<_>>(), &model);
                if step % 4 == 0 {
                    let mut oldest = std::collections::BTreeMap::new();
                    inbox.oldest(|it| {
                        let known = oldest.entry(it.partition).or_insert(u64::MAX);
                        *known = it.offset.min(*known);
                    });
                    for one in &model {
                        let shown = oldest.get(&one.position.partition);
                        proptest::prop_assert!(shown.is_some_and(|&at| at <= one.position.offset));
                    }
                }
            }
        });
    }

    #[test]
    fn a_thousand_owed_messages_take_a_few_bytes_each() {
        let mut inbox = Inbox::default();
        for offset in 0..1_000 {
            let mut one = owed(7_000_000 + 3 * offset);
            one.position.partition = (offset % 4) as u32;
            inbox.push(one);
        }
        assert!(inbox.size_bytes() < 4_000, "{}", inbox.size_bytes());
        while inbox.pop().is_some() {}
        assert!(inbox.size_bytes() < 100 * 40, "{}", inbox.size_bytes());
    }
}
