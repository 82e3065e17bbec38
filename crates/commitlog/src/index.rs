//! The sparse indexes of a segment in Apache Kafka's bytes: `.index` maps offsets to positions,
//! `.timeindex` maps timestamps to offsets. Entries are searched in the file; nothing is kept in
//! memory. An index only shortens a search: the log itself decides.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{DiskFile, Patience, read_full_if};

/// Bytes of an entry of `.index`: relative offset i32, position i32.
pub const OFFSET_ENTRY_BYTES: u64 = 8;
/// Bytes of an entry of `.timeindex`: timestamp i64, relative offset i32.
pub const TIME_ENTRY_BYTES: u64 = 12;

/// Bytes of entries that are read at once at the end of a search: a page.
const SEARCH_BYTES: usize = 4096;

/// What part of them lies before the place at which the last search ended, as a divisor: the next one
/// ends there or further on.
const SEARCH_BACK: u64 = 8;

/// An entry of `.index`: the batch at `position` has `offset` as its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of the batch, absolute.
    pub offset: u64,
    /// Byte in the segment where the batch begins.
    pub position: u64,
}

/// An entry of `.timeindex`: no record up to `offset` is newer than `timestamp_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// Greatest timestamp so far, in ms since 1970.
    pub timestamp_ms: i64,
    /// Last offset of the batch with that timestamp, absolute.
    pub offset: u64,
}

impl OffsetEntry {
    /// Appends the entry's bytes; offset and position lie in the segment that begins at `base`.
    pub fn put(self, base: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&relative(self.offset, base).to_be_bytes());
        out.extend_from_slice(&(self.position as i32).to_be_bytes());
    }

    fn read(bytes: [u8; OFFSET_ENTRY_BYTES as usize], base: u64) -> Self {
        let value = u64::from_be_bytes(bytes);
        Self {
            offset: base + (value >> 32),
            position: value & 0xffff_ffff,
        }
    }
}

impl TimeEntry {
    /// Appends the entry's bytes; the offset lies in the segment that begins at `base`.
    pub fn put(self, base: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        out.extend_from_slice(&relative(self.offset, base).to_be_bytes());
    }

    fn read(bytes: [u8; TIME_ENTRY_BYTES as usize], base: u64) -> Self {
        let value = u128::from_be_bytes({
            let mut wide = [0; 16];
            wide[4..].copy_from_slice(&bytes);
            wide
        });
        Self {
            timestamp_ms: (value >> 32) as i64,
            offset: base + (value as u64 & 0xffff_ffff),
        }
    }
}

/// The first `entries` entries of an `.index` file.
#[derive(Clone, Copy)]
pub struct OffsetIndex<'a> {
    /// The file.
    pub file: &'a dyn DiskFile,
    /// How many of its entries count.
    pub entries: u64,
    /// Base offset of the segment.
    pub base: u64,
    /// Where the last search ended: who reads on searches near it. None: nobody reads on.
    pub near: Option<&'a AtomicU64>,
    /// Whether reads may wait.
    pub patience: Patience,
}

impl OffsetIndex<'_> {
    /// The last entry whose offset is not behind `offset`: the batch that contains `offset` begins
    /// at its position or later.
    pub fn find(self, offset: u64) -> io::Result<Option<OffsetEntry>> {
        self.last_of(self.partition_point(|entry| entry.offset <= offset)?)
    }

    /// The last entry whose batch begins before byte `position` of the segment and ends before
    /// `offset`.
    pub fn find_before(self, position: u64, offset: u64) -> io::Result<Option<OffsetEntry>> {
        self.last_of(self.partition_point(|entry| {
            (1..position).contains(&entry.position) && entry.offset < offset
        })?)
    }

    /// How many entries lie before byte `position` of the segment. Zeros, which a power cut may
    /// leave at the end, do not count: no entry is ever made for the first batch.
    pub fn entries_before(self, position: u64) -> io::Result<u64> {
        let found = self.partition_point(|entry| (1..position).contains(&entry.position))?;
        Ok(found.count)
    }

    /// The last entry.
    pub fn last(self) -> io::Result<Option<OffsetEntry>> {
        self.entries
            .checked_sub(1)
            .map(|at| self.entry(at))
            .transpose()
    }

    fn entry(self, at: u64) -> io::Result<OffsetEntry> {
        let bytes = read_entry((self.file, self.patience), at * OFFSET_ENTRY_BYTES)?;
        Ok(OffsetEntry::read(bytes, self.base))
    }

    /// The last of the entries that lie before what was searched.
    fn last_of(
        self,
        found: Split<{ OFFSET_ENTRY_BYTES as usize }>,
    ) -> io::Result<Option<OffsetEntry>> {
        match (found.last, found.count.checked_sub(1)) {
            (Some(bytes), _) => Ok(Some(OffsetEntry::read(bytes, self.base))),
            (None, Some(at)) => self.entry(at).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn partition_point(
        self,
        before: impl Fn(OffsetEntry) -> bool,
    ) -> io::Result<Split<{ OFFSET_ENTRY_BYTES as usize }>> {
        let near = self.near.map(|near| near.load(Ordering::Relaxed));
        let place = (self.file, self.patience);
        let found = partition_point(place, self.entries, near, |bytes| {
            before(OffsetEntry::read(bytes, self.base))
        })?;
        if let Some(near) = self.near {
            near.store(found.count, Ordering::Relaxed);
        }
        Ok(found)
    }
}

/// The first `entries` entries of a `.timeindex` file.
#[derive(Clone, Copy)]
pub struct TimeIndex<'a> {
    /// The file.
    pub file: &'a dyn DiskFile,
    /// How many of its entries count.
    pub entries: u64,
    /// Base offset of the segment.
    pub base: u64,
}

impl TimeIndex<'_> {
    /// The last entry that is older than `timestamp_ms`: nothing up to its offset is as new.
    pub fn find_older(self, timestamp_ms: i64) -> io::Result<Option<TimeEntry>> {
        let older = self.partition_point(|entry| entry.timestamp_ms < timestamp_ms)?;
        older.checked_sub(1).map(|at| self.entry(at)).transpose()
    }

    /// How many entries speak of offsets before `offset`. Zeros, which a power cut may leave at the
    /// end, do not count.
    pub fn entries_before(self, offset: u64) -> io::Result<u64> {
        self.partition_point(|entry| entry.offset < offset && entry.timestamp_ms > 0)
    }

    /// The last entry.
    pub fn last(self) -> io::Result<Option<TimeEntry>> {
        self.entries
            .checked_sub(1)
            .map(|at| self.entry(at))
            .transpose()
    }

    fn entry(self, at: u64) -> io::Result<TimeEntry> {
        let bytes = read_entry((self.file, Patience::Waits), at * TIME_ENTRY_BYTES)?;
        Ok(TimeEntry::read(bytes, self.base))
    }

    fn partition_point(self, before: impl Fn(TimeEntry) -> bool) -> io::Result<u64> {
        let place = (self.file, Patience::Waits);
        let found = partition_point(place, self.entries, None, |bytes| {
            before(TimeEntry::read(bytes, self.base))
        })?;
        Ok(found.count)
    }
}

fn relative(offset: u64, base: u64) -> i32 {
    let delta = offset
        .checked_sub(base)
        .and_then(|delta| i32::try_from(delta).ok());
    delta.expect("a segment rolls before a relative offset leaves 31 bits")
}

/// A file, and whether reading it may wait.
type Place<'a> = (&'a dyn DiskFile, Patience);

fn read_entry<const N: usize>((file, patience): Place<'_>, position: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    if read_full_if(file, &mut bytes, position, patience)? < N {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Where a search ended.
#[derive(Clone, Copy)]
struct Split<const N: usize> {
    /// How many entries lie before.
    count: u64,
    /// The last of them, where it was read on the way.
    last: Option<[u8; N]>,
}

/// How many of `entries` entries of `N` bytes lie before the first for which `before` is false. That is
/// looked for around `near` first, then single entries are looked at until few enough are left to be read
/// at once.
fn partition_point<const N: usize>(
    place: Place<'_>,
    entries: u64,
    near: Option<u64>,
    before: impl Fn([u8; N]) -> bool,
) -> io::Result<Split<N>> {
    let together = (SEARCH_BYTES / N) as u64;
    // The first of the entries in between, if one of them or the one behind them is it.
    let within = |low: u64, high: u64| -> io::Result<Split<N>> {
        let mut bytes = [0; SEARCH_BYTES];
        let bytes = &mut bytes[..(high - low) as usize * N];
        if read_full_if(place.0, bytes, low * N as u64, place.1)? < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (entries, _) = bytes.as_chunks::<N>();
        let count = entries.partition_point(|entry| before(*entry));
        Ok(Split {
            count: low + count as u64,
            last: count.checked_sub(1).map(|at| entries[at]),
        })
    };
    let (mut low, mut high) = (0, entries);
    if let Some(near) = near.filter(|_| entries > together) {
        let from = near.saturating_sub(together / SEARCH_BACK);
        let from = from.min(entries - together);
        let found = within(from, from + together)?;
        if found.count == from {
            high = from;
        } else if found.count == from + together {
            low = found.count;
        } else {
            return Ok(found);
        }
    }
    while high - low > together {
        let middle = low + (high - low) / 2;
        if before(read_entry(place, middle * N as u64)?) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    within(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, MemoryDisk, Open};

    fn file(bytes: &[u8]) -> Box<dyn DiskFile> {
        let file = MemoryDisk::new().open("f", Open::Create).unwrap();
        file.write_at(&[bytes], 0).unwrap();
        file
    }

    #[test]
    fn entries_are_kafkas_bytes() {
        let mut out = Vec::new();
        OffsetEntry {
            offset: 1_000_258,
            position: 4097,
        }
        .put(1_000_000, &mut out);
        assert_eq!(out, [0, 0, 1, 2, 0, 0, 0x10, 1]);
        assert_eq!(
            OffsetEntry::read(*out.first_chunk().unwrap(), 1_000_000),
            OffsetEntry {
                offset: 1_000_258,
                position: 4097
            }
        );
        out.clear();
        TimeEntry {
            timestamp_ms: -2,
            offset: 15,
        }
        .put(8, &mut out);
        assert_eq!(out, [255, 255, 255, 255, 255, 255, 255, 254, 0, 0, 0, 7]);
        assert_eq!(
            TimeEntry::read(*out.first_chunk().unwrap(), 8),
            TimeEntry {
                timestamp_ms: -2,
                offset: 15
            }
        );
    }

    #[test]
    fn a_search_in_a_large_index_finds_what_a_small_one_does() {
        let entries = 3 * SEARCH_BYTES as u64 / OFFSET_ENTRY_BYTES + 7;
        let mut offsets = Vec::new();
        for step in 1..=entries {
            OffsetEntry {
                offset: 100 + step * 10,
                position: step * 5000,
            }
            .put(100, &mut offsets);
        }
        let file = file(&offsets);
        let near = AtomicU64::new(0);
        for entries in [1, 2, 511, 512, 513, 1024, 1025, entries - 1, entries] {
            let index = OffsetIndex {
                file: &*file,
                entries,
                base: 100,
                near: None,
                patience: Patience::Waits,
            };
            let nearby = OffsetIndex {
                near: Some(&near),
                ..index
            };
            // On, back by jumps of all sizes, and from beyond the end.
            for at in (0..entries).chain((1..entries).flat_map(|at| [entries - at, at / 3])) {
                let offset = 100 + (at + 1) * 10;
                assert_eq!(nearby.find(offset).unwrap(), index.find(offset).unwrap());
                assert_eq!(near.load(Ordering::Relaxed), at + 1);
            }
            near.store(u64::MAX, Ordering::Relaxed);
            assert_eq!(nearby.find(109).unwrap(), None);
            assert_eq!(index.find(109).unwrap(), None);
            for step in 1..=entries {
                for offset in [100 + step * 10, 109 + step * 10] {
                    let position = index.find(offset).unwrap().unwrap().position;
                    assert_eq!(position, step * 5000, "{entries} entries, offset {offset}");
                }
                assert_eq!(index.entries_before(step * 5000).unwrap(), step - 1);
            }
        }
        let beyond = OffsetIndex {
            file: &*file,
            entries: entries + 1,
            base: 100,
            near: None,
            patience: Patience::Waits,
        };
        assert!(beyond.find(u64::MAX).is_err(), "cut off");
    }

    #[test]
    fn lookups_find_the_last_entry_not_behind() {
        let mut offsets = Vec::new();
        let mut times = Vec::new();
        for step in 1..=9 {
            OffsetEntry {
                offset: 100 + step * 10,
                position: step * 5000,
            }
            .put(100, &mut offsets);
            let timestamp_ms = 1000 * step as i64;
            TimeEntry {
                timestamp_ms,
                offset: 100 + step * 10,
            }
            .put(100, &mut times);
        }
        let file_of_offsets = file(&offsets);
        let index = OffsetIndex {
            file: &*file_of_offsets,
            entries: 9,
            base: 100,
            near: None,
            patience: Patience::Waits,
        };
        assert_eq!(index.find(109).unwrap(), None);
        assert_eq!(index.find(110).unwrap().unwrap().position, 5000);
        assert_eq!(index.find(119).unwrap().unwrap().position, 5000);
        assert_eq!(index.find(5000).unwrap(), index.last().unwrap());
        assert_eq!(index.entries_before(10_000).unwrap(), 1);
        assert_eq!(
            OffsetIndex {
                entries: 0,
                ..index
            }
            .find(5000)
            .unwrap(),
            None
        );
        let file_of_times = file(&times);
        let index = TimeIndex {
            file: &*file_of_times,
            entries: 9,
            base: 100,
        };
        assert_eq!(index.find_older(1000).unwrap(), None);
        assert_eq!(index.find_older(1001).unwrap().unwrap().offset, 110);
        assert_eq!(index.entries_before(121).unwrap(), 2);
        assert_eq!(index.last().unwrap().unwrap().timestamp_ms, 9000);
        assert!(
            TimeIndex {
                entries: 10,
                ..index
            }
            .last()
            .is_err(),
            "cut off"
        );
    }
}
