//! Aborted transactions in the bytes of Apache Kafka's `.txnindex`: which producer's records between
//! two offsets do not count. Knows nothing of how a transaction came to its end.

/// Bytes of an entry: version i16, then as i64 producer id, first offset, last offset, last stable
/// offset.
pub(crate) const ABORTED_ENTRY_BYTES: u64 = 34;

/// Only this version of an entry exists.
const VERSION: u16 = 0;

/// The records of an aborted transaction in one partition, as `read_committed` readers must know
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedRange {
    /// Whose records do not count.
    pub producer_id: i64,
    /// The transaction's first offset.
    pub first_offset: u64,
    /// Offset of the marker that aborted it.
    pub last_offset: u64,
}

/// An entry of the index; entries lie in the order of their markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedEntry {
    pub range: AbortedRange,
    /// Last stable offset behind the marker: what begins below it is decided by then.
    pub last_stable: u64,
}

impl AbortedEntry {
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.range.producer_id.to_be_bytes());
        out.extend_from_slice(&self.range.first_offset.to_be_bytes());
        out.extend_from_slice(&self.range.last_offset.to_be_bytes());
        out.extend_from_slice(&self.last_stable.to_be_bytes());
    }

    /// `None` where the bytes cannot be an entry.
    pub fn read(bytes: &[u8; ABORTED_ENTRY_BYTES as usize]) -> Option<Self> {
        let number = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(field)
        };
        let entry = Self {
            range: AbortedRange {
                producer_id: number(2) as i64,
                first_offset: number(10),
                last_offset: number(18),
            },
            last_stable: number(26),
        };
        let sound = bytes[..2] == VERSION.to_be_bytes()
            && entry.range.producer_id >= 0
            && entry.range.first_offset < entry.range.last_offset
            && entry.last_stable <= entry.range.last_offset + 1;
        sound.then_some(entry)
    }

    /// Whether the range has to do with the offsets from `from` up to `to` (exclusive).
    pub fn meets(&self, from: u64, to: u64) -> bool {
        self.range.last_offset >= from && self.range.first_offset < to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_kafkas_bytes() {
        let entry = AbortedEntry {
            range: AbortedRange {
                producer_id: 258,
                first_offset: 3,
                last_offset: 9,
            },
            last_stable: 4,
        };
        let mut bytes = Vec::new();
        entry.put(&mut bytes);
        let mut expected = [0; ABORTED_ENTRY_BYTES as usize];
        expected[8..10].copy_from_slice(&[1, 2]);
        expected[17] = 3;
        expected[25] = 9;
        expected[33] = 4;
        assert_eq!(bytes, expected);
        assert_eq!(AbortedEntry::read(&expected), Some(entry));
        for (at, value) in [(1, 1), (2, 0x80), (17, 9), (33, 11)] {
            let mut bad = expected;
            bad[at] = value;
            assert_eq!(AbortedEntry::read(&bad), None, "byte {at}");
        }
        assert_eq!(AbortedEntry::read(&[0; 34]), None, "zeros");
    }
}
