//! The `.txnindex` of a segment: transactions that a marker in it aborted. Most segments have none,
//! and then there is no file. How many entries count is published apart from the file's length.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::aborted::{ABORTED_ENTRY_BYTES, AbortedEntry, AbortedRange};
use crate::disk::{DiskFile, Open, read_full};
use crate::error::{Error, ReadError};

use super::Segment;

/// The file's extension, Kafka's.
pub(crate) const TXNINDEX: &str = "txnindex";

/// Entries read at once.
const WINDOW_ENTRIES: u64 = 64;

impl Segment {
    /// Entries that count.
    pub fn aborted_entries(&self) -> u64 {
        self.aborted_entries.load(Ordering::Acquire)
    }

    /// The file, where it is in use.
    pub fn txnindex(&self) -> Option<&Arc<dyn DiskFile>> {
        self.txnindex.get()
    }

    /// Adds entries and shows them to readers; true when that made the file.
    pub fn append_aborted(&self, entries: &[AbortedEntry]) -> Result<bool, Error> {
        let new = self.txnindex.get().is_none();
        let count = self.aborted_entries();
        let mut bytes = Vec::new();
        for entry in entries {
            entry.put(&mut bytes);
        }
        let at = count * ABORTED_ENTRY_BYTES;
        self.open_txnindex(Open::Create)?
            .write_at(&[&bytes], at)
            .map_err(|source| Error::disk_at(self.path(TXNINDEX), "write", at, source))?;
        self.aborted_entries
            .store(count + entries.len() as u64, Ordering::Release);
        Ok(new)
    }

    /// Adds the ranges to `found` that have to do with the offsets from `from` up to `to`. True when
    /// later segments can have no more of them.
    pub fn find_aborted(
        &self,
        from: u64,
        to: u64,
        found: &mut Vec<AbortedRange>,
    ) -> Result<bool, ReadError> {
        let count = self.aborted_entries();
        if count == 0 {
            return Ok(false);
        }
        // Entries lie in the order of their markers.
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.aborted_at(middle, 1)?;
            if entry.is_some_and(|entries| entries[0].range.last_offset < from) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        while low < count {
            let entries = self.aborted_at(low, WINDOW_ENTRIES.min(count - low))?;
            let Some(entries) = entries else {
                return Err(self.bad_txnindex(low));
            };
            low += entries.len() as u64;
            for entry in entries {
                if entry.meets(from, to) {
                    found.push(entry.range);
                }
                if entry.last_stable >= to {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Takes the first `expected` entries of the file for what counts, or all that there are; the
    /// rest is cut off where the segment is `active`. The inner `Err` says why they cannot be
    /// believed.
    pub fn restore_aborted(
        &self,
        expected: Option<u64>,
        active: bool,
    ) -> Result<Result<(), &'static str>, Error> {
        let path = self.path(TXNINDEX);
        if !self.disk.exists(&path) {
            return Ok(match expected {
                Some(1..) => Err("the index of aborted transactions is missing"),
                _ => Ok(()),
            });
        }
        if expected == Some(0) {
            self.disk
                .remove_file(&path)
                .map_err(|source| Error::disk(path, "remove", source))?;
            return Ok(Ok(()));
        }
        let how = if active { Open::ReadWrite } else { Open::Read };
        let file = Arc::clone(self.open_txnindex(how)?);
        let there = self.len_of(TXNINDEX, &*file)? / ABORTED_ENTRY_BYTES;
        let count = expected.unwrap_or(there);
        if there < count {
            return Ok(Err("the index of aborted transactions is cut off"));
        }
        let mut before = self.base();
        let mut at = 0;
        while at < count {
            let entries = self.aborted_at(at, WINDOW_ENTRIES.min(count - at))?;
            let Some(entries) = entries else {
                return Ok(Err("the index of aborted transactions is damaged"));
            };
            at += entries.len() as u64;
            for entry in entries {
                let last = entry.range.last_offset;
                if last < before || last >= self.end_offset() {
                    return Ok(Err("the index of aborted transactions is out of order"));
                }
                before = last + 1;
            }
        }
        if active {
            file.set_len(count * ABORTED_ENTRY_BYTES)
                .map_err(|source| self.failed(TXNINDEX, "truncate", source))?;
        }
        self.aborted_entries.store(count, Ordering::Release);
        Ok(Ok(()))
    }

    /// Writes the file anew; durable when this returns, but for its name.
    pub fn replace_aborted(&self, entries: &[AbortedEntry]) -> Result<(), Error> {
        self.aborted_entries.store(0, Ordering::Release);
        if entries.is_empty() && !self.disk.exists(&self.path(TXNINDEX)) {
            return Ok(());
        }
        // What is open already may be open for reading only.
        let path = self.path(TXNINDEX);
        let open = self.disk.open(&path, Open::Create);
        let file = open.map_err(|source| self.failed(TXNINDEX, "open", source))?;
        let mut bytes = Vec::new();
        for entry in entries {
            entry.put(&mut bytes);
        }
        file.set_len(0)
            .map_err(|source| self.failed(TXNINDEX, "truncate", source))?;
        file.write_at(&[&bytes], 0)
            .map_err(|source| Error::disk_at(path, "write", 0, source))?;
        file.sync_all()
            .map_err(|source| self.failed(TXNINDEX, "sync", source))?;
        self.aborted_entries
            .store(entries.len() as u64, Ordering::Release);
        Ok(())
    }

    /// The segment that is installed in the place of `old` keeps its file: compaction drops aborted
    /// records, never markers.
    pub fn keep_aborted_of(&self, old: &Self) {
        if let Some(file) = old.txnindex.get() {
            let _ = self.txnindex.set(Arc::clone(file));
        }
        self.aborted_entries
            .store(old.aborted_entries(), Ordering::Release);
    }

    /// How many entries speak of markers before `offset`.
    pub fn aborted_before(&self, offset: u64) -> Result<u64, ReadError> {
        let count = self.aborted_entries();
        for at in 0..count {
            let entry = self.aborted_at(at, 1)?;
            if entry.is_none_or(|entries| entries[0].range.last_offset >= offset) {
                return Ok(at);
            }
        }
        Ok(count)
    }

    /// `count` entries from number `at` on; `None` where one is not sound.
    fn aborted_at(&self, at: u64, count: u64) -> Result<Option<Vec<AbortedEntry>>, ReadError> {
        let position = at * ABORTED_ENTRY_BYTES;
        let file = self.open_txnindex(Open::Read)?;
        let mut bytes = vec![0; (count * ABORTED_ENTRY_BYTES) as usize];
        let read = read_full(&**file, &mut bytes, position)
            .map_err(|failed| failed.of(self.path(TXNINDEX)))?;
        let (entries, _) = bytes[..read].as_chunks();
        let entries: Option<Vec<_>> = entries.iter().map(AbortedEntry::read).collect();
        Ok(entries.filter(|entries| entries.len() as u64 == count))
    }

    fn open_txnindex(&self, how: Open) -> Result<&Arc<dyn DiskFile>, Error> {
        if let Some(file) = self.txnindex.get() {
            return Ok(file);
        }
        let file = self
            .disk
            .open(&self.path(TXNINDEX), how)
            .map_err(|source| self.failed(TXNINDEX, "open", source))?;
        Ok(self.txnindex.get_or_init(|| Arc::from(file)))
    }

    fn bad_txnindex(&self, at: u64) -> ReadError {
        ReadError::Corrupt {
            path: self.path(TXNINDEX),
            position: at * ABORTED_ENTRY_BYTES,
            what: "an aborted transaction is malformed".into(),
        }
    }
}
