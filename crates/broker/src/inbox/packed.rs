//! Owed messages written densely: differences to the entry before, three or four bytes each where
//! a position in memory takes forty. Bytes only; who is owed them is the inbox's.

use super::{IdList, Owed};
use crate::message::Position;
use commitlog::{Lsn, PartitionId};
use mqtt::QoS;

/// Partitions that are told apart by a number in the first byte of an entry.
const SLOTS: usize = 7;
/// In place of that number: the partition itself follows.
const NEW_SLOT: u8 = 7;

// The first byte of an entry; bits 4 to 6 are the partition's number.
const QOS_2: u8 = 1;
const RETAIN: u8 = 2;
/// Other subscription identifiers than the entry before.
const IDS: u8 = 4;
/// The way to the copy in memory follows.
const LIVE: u8 = 8;
const SLOT_SHIFT: u32 = 4;
/// Another byte follows, with the two below.
const RARE: u8 = 128;
const SHARED: u8 = 1;
const SENT: u8 = 2;

/// What an entry is a difference to.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    lsn: Lsn,
    ids: IdList,
    partitions: [(PartitionId, u64); SLOTS],
    used: u8,
    /// Where the next partition goes when all numbers are taken.
    next: u8,
}

impl Before {
    fn find(&self, partition: PartitionId) -> Option<usize> {
        let used = &self.partitions[..usize::from(self.used)];
        used.iter().position(|&(known, _)| known == partition)
    }

    /// Gives `partition` a number; the one that had it longest loses it.
    fn admit(&mut self, partition: PartitionId, offset: u64) {
        let slot = if usize::from(self.used) < SLOTS {
            self.used += 1;
            usize::from(self.used) - 1
        } else {
            self.next = (self.next + 1) % SLOTS as u8;
            usize::from(self.next)
        };
        self.partitions[slot] = (partition, offset);
    }
}

/// Writes entries one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    bytes: Vec<u8>,
    count: usize,
    before: Before,
}

impl Packer {
    /// Adds an entry.
    pub(crate) fn push(&mut self, owed: &Owed) {
        let before = &mut self.before;
        let Position { partition, offset } = owed.position;
        let slot = before.find(partition);
        let rare = owed.shared || owed.sent;
        let mut first = (slot.map_or(NEW_SLOT, |slot| slot as u8)) << SLOT_SHIFT;
        for (flag, is_set) in [
            (QOS_2, owed.qos == QoS::ExactlyOnce),
            (RETAIN, owed.retain),
            (IDS, owed.ids != before.ids),
            (LIVE, owed.lsn != 0),
            (RARE, rare),
        ] {
            first |= if is_set { flag } else { 0 };
        }
        let out = &mut self.bytes;
        out.push(first);
        if rare {
            let shared = if owed.shared { SHARED } else { 0 };
            out.push(shared | if owed.sent { SENT } else { 0 });
        }
        if let Some(slot) = slot {
            let last = std::mem::replace(&mut before.partitions[slot].1, offset);
            put_difference(out, last, offset);
        } else {
            put_number(out, u64::from(partition));
            put_number(out, offset);
            before.admit(partition, offset);
        }
        if owed.ids != before.ids {
            put_number(out, u64::from(owed.ids.0));
            before.ids = owed.ids;
        }
        if owed.lsn != 0 {
            put_difference(out, before.lsn, owed.lsn);
            put_number(out, u64::from(owed.index));
            before.lsn = owed.lsn;
        }
        self.count += 1;
    }

    /// Entries written.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes what was written, and begins anew.
    pub(crate) fn take(&mut self) -> Block {
        let packed = std::mem::take(self);
        Block {
            count: packed.count,
            bytes: packed.bytes.into_boxed_slice(),
        }
    }
}

/// Entries that none is added to any more.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Box<[u8]>,
    count: usize,
}

impl Block {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads entries back. Ends where the bytes do, or where they are none of ours.
#[derive(Debug, Clone)]
pub(crate) struct Unpacker<'a> {
    rest: &'a [u8],
    before: Before,
}

impl<'a> Unpacker<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            before: Before::default(),
        }
    }

    /// Whether all bytes were read.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn difference(&mut self, last: u64) -> Option<u64> {
        let zigzag = self.number()?;
        let difference = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
        Some(last.wrapping_add(difference))
    }

    fn entry(&mut self) -> Option<Owed> {
        let first = self.byte()?;
        let rare = if first & RARE == 0 { 0 } else { self.byte()? };
        let slot = (first >> SLOT_SHIFT) & NEW_SLOT;
        let position = if slot == NEW_SLOT {
            let partition = PartitionId::try_from(self.number()?).ok()?;
            let offset = self.number()?;
            self.before.admit(partition, offset);
            Position { partition, offset }
        } else {
            let slot = usize::from(slot);
            let (partition, last) = self.before.partitions[slot];
            let offset = self.difference(last)?;
            self.before.partitions[slot].1 = offset;
            Position { partition, offset }
        };
        if first & IDS != 0 {
            self.before.ids = IdList(u32::try_from(self.number()?).ok()?);
        }
        let (mut lsn, mut index) = (0, 0);
        if first & LIVE != 0 {
            lsn = self.difference(self.before.lsn)?;
            index = u32::try_from(self.number()?).ok()?;
            self.before.lsn = lsn;
        }
        Some(Owed {
            position,
            lsn,
            index,
            ids: self.before.ids,
            qos: if first & QOS_2 == 0 {
                QoS::AtLeastOnce
            } else {
                QoS::ExactlyOnce
            },
            retain: first & RETAIN != 0,
            shared: rare & SHARED != 0,
            sent: rare & SENT != 0,
            quiet: false,
        })
    }
}

impl Iterator for Unpacker<'_> {
    type Item = Owed;

    fn next(&mut self) -> Option<Owed> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.rest;
        let entry = self.entry();
        if entry.is_none() {
            // What cannot be read is left, so that `is_done` tells.
            self.rest = at;
        }
        entry
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Differences of either sign, small ones in one byte.
fn put_difference(out: &mut Vec<u8>, from: u64, to: u64) {
    let difference = to.wrapping_sub(from);
    put_number(out, (difference << 1) ^ ((difference as i64) >> 63) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_owed() -> impl Strategy<Value = Owed> {
        let position = (
            prop_oneof![0..4_u32, 0..40_u32, any::<u32>()],
            prop_oneof![0..9_000_u64, any::<u64>()],
        );
        let live = (
            prop_oneof![Just(0_u64), 0..900_u64, any::<u64>()],
            any::<u32>(),
        );
        let ids = prop_oneof![Just(0_u32), 1..9_u32, any::<u32>()];
        (position, live, ids, any::<[bool; 4]>()).prop_map(
            |((partition, offset), (lsn, index), ids, [twice, retain, shared, sent])| Owed {
                position: Position { partition, offset },
                lsn,
                index: if lsn == 0 { 0 } else { index },
                ids: IdList(ids),
                qos: if twice {
                    QoS::ExactlyOnce
                } else {
                    QoS::AtLeastOnce
                },
                retain,
                shared,
                sent,
                quiet: false,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(entries in prop::collection::vec(any_owed(), 0..200)) {
            let mut packer = Packer::default();
            for owed in &entries {
                packer.push(owed);
            }
            prop_assert_eq!(packer.count(), entries.len());
            let mut back = Unpacker::new(packer.bytes());
            prop_assert_eq!(back.by_ref().collect::<Vec<_>>(), entries);
            prop_assert!(back.is_done());
        }

        #[test]
        fn bytes_of_others_end_the_reading(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Unpacker::new(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn no_owed_message_takes_more_bytes_in_a_snapshot_than_its_limit() {
        let mut packer = Packer::default();
        for number in 0..100_u32 {
            // Each in another partition, far away, with other identifiers and all flags.
            packer.push(&Owed {
                ids: IdList(u32::MAX - number),
                retain: true,
                shared: true,
                sent: true,
                ..Owed::new(
                    Position {
                        partition: u32::MAX - number,
                        offset: u64::MAX - u64::from(number),
                    },
                    QoS::ExactlyOnce,
                )
            });
        }
        let limit = 100 * crate::limits::OWED_BYTES as usize;
        assert!(packer.bytes().len() <= limit, "{}", packer.bytes().len());
        assert!(packer.bytes().len() > limit * 3 / 4, "the worst was tried");
    }

    #[test]
    fn a_message_of_an_ordinary_stream_takes_two_bytes() {
        let mut packer = Packer::default();
        for number in 0..64 {
            packer.push(&Owed::new(
                Position {
                    partition: (number % 4) as u32,
                    offset: 5_000_000 + number,
                },
                QoS::AtLeastOnce,
            ));
        }
        assert!(
            packer.bytes().len() <= 64 * 2 + 4 * 5,
            "{}",
            packer.bytes().len()
        );
    }
}
