//! The end of a segment as its writer knows it, and how index entries come about. Everything that
//! writes a segment (append, rebuild, rewrite) goes through it, so all make the same entries.

use crate::batch::BatchHead;
use crate::disk::{DiskFile, Patience, is_unreadable};
use crate::error::{Error, ReadError};
use crate::index::{
    OFFSET_ENTRY_BYTES, OffsetEntry, OffsetIndex, TIME_ENTRY_BYTES, TimeEntry, TimeIndex,
};
use crate::limits::INDEX_INTERVAL_BYTES;

use super::{INDEX_UNREADABLE, Segment, Walk};

/// Bytes read at once where a whole segment is walked through.
const REBUILD_WINDOW_BYTES: usize = 256 << 10;

/// Where a segment's writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub position: u64,
    pub next_offset: u64,
    pub offset_entries: u64,
    pub time_entries: u64,
    pub newest: Option<TimeEntry>,
    /// Greatest timestamp of the first batch: the segment's age counts from it.
    pub first_timestamp_ms: Option<i64>,
    bytes_since_entry: u64,
    last_time_entry_ms: i64,
}

/// Index entries that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct IndexBytes {
    pub offsets: Vec<u8>,
    pub times: Vec<u8>,
}

impl Tail {
    /// The tail of an empty segment.
    pub fn empty(base: u64) -> Self {
        Self {
            position: 0,
            next_offset: base,
            offset_entries: 0,
            time_entries: 0,
            newest: None,
            first_timestamp_ms: None,
            bytes_since_entry: 0,
            last_time_entry_ms: -1,
        }
    }

    /// Moves behind a batch that is appended; entries that are due go to `out`.
    pub fn add(&mut self, base: u64, head: &BatchHead, out: &mut IndexBytes) {
        let timestamp_ms = head.max_timestamp();
        let newest_ms = self.newest.map_or(-1, |newest| newest.timestamp_ms);
        if timestamp_ms > newest_ms {
            self.newest = Some(TimeEntry {
                timestamp_ms,
                offset: head.last_offset(),
            });
        }
        if self.position == 0 {
            self.first_timestamp_ms = Some(timestamp_ms);
        }
        if self.bytes_since_entry > INDEX_INTERVAL_BYTES {
            OffsetEntry {
                offset: head.last_offset(),
                position: self.position,
            }
            .put(base, &mut out.offsets);
            self.offset_entries += 1;
            self.add_time_entry(base, out);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += head.size_bytes() as u64;
        self.position += head.size_bytes() as u64;
        self.next_offset = head.next_offset();
    }

    /// As it was before these entries were made, as far as entries are counted.
    pub fn before(mut self, out: &IndexBytes) -> Self {
        self.offset_entries -= out.offsets.len() as u64 / OFFSET_ENTRY_BYTES;
        self.time_entries -= out.times.len() as u64 / TIME_ENTRY_BYTES;
        self
    }

    /// The last time entry of a segment that gets no more batches: its greatest timestamp.
    pub fn close(&mut self, base: u64, out: &mut IndexBytes) {
        self.add_time_entry(base, out);
    }

    fn add_time_entry(&mut self, base: u64, out: &mut IndexBytes) {
        if let Some(newest) = self.newest
            && newest.timestamp_ms > self.last_time_entry_ms
        {
            newest.put(base, &mut out.times);
            self.time_entries += 1;
            self.last_time_entry_ms = newest.timestamp_ms;
        }
    }
}

impl Segment {
    /// Walks through the whole log up to `end` and writes both indexes anew; the files must be open
    /// for writing. With `verify` each batch's checksum is checked on the way. Stops at the first
    /// batch that is not one; the error says where, and the tail ends before it.
    pub fn rebuild(&self, end: u64, verify: bool) -> Result<(Tail, Option<ReadError>), Error> {
        let mut out = IndexBytes::default();
        let mut tail = Tail::empty(self.base());
        let damage = self.walk_tail(&mut tail, end, verify, &mut out)?;
        self.replace_indexes(&out)?;
        Ok((tail, damage))
    }

    /// As [`rebuild`](Self::rebuild), without checksums, for a segment that gets no more batches.
    pub fn rebuild_closed(&self, end: u64) -> Result<(Tail, Option<ReadError>), Error> {
        let mut out = IndexBytes::default();
        let mut tail = Tail::empty(self.base());
        let damage = self.walk_tail(&mut tail, end, false, &mut out)?;
        tail.close(self.base(), &mut out);
        self.replace_indexes(&out)?;
        Ok((tail, damage))
    }

    /// Finds the tail of a segment that ends at `end`: cuts index entries behind that and behind
    /// `next_offset`, then walks from the last entry to the end. With `verify` each batch's checksum
    /// is checked on the way. Stops at the first batch that is not one, as
    /// [`rebuild`](Self::rebuild). The inner `Err` says why the indexes cannot be believed.
    pub fn recover_tail(
        &self,
        end: u64,
        next_offset: u64,
        verify: bool,
    ) -> Result<Result<(Tail, Option<ReadError>), &'static str>, Error> {
        let files = self.files()?;
        let base = self.base();
        let entries = self.len_of("index", &*files.index)? / OFFSET_ENTRY_BYTES;
        let entries = OffsetIndex {
            file: &*files.index,
            entries,
            base,
            near: None,
            patience: Patience::Waits,
        }
        .entries_before(end);
        let entries = match entries {
            Err(source) if is_unreadable(&source) => return Ok(Err(INDEX_UNREADABLE)),
            entries => entries.map_err(|source| self.failed("index", "read", source))?,
        };
        let time_entries = self.len_of("timeindex", &*files.timeindex)? / TIME_ENTRY_BYTES;
        let time_entries = TimeIndex {
            file: &*files.timeindex,
            entries: time_entries,
            base,
        }
        .entries_before(next_offset);
        let time_entries = match time_entries {
            Err(source) if is_unreadable(&source) => return Ok(Err(INDEX_UNREADABLE)),
            entries => entries.map_err(|source| self.failed("timeindex", "read", source))?,
        };
        self.cut(&*files.index, "index", entries * OFFSET_ENTRY_BYTES)?;
        self.cut(
            &*files.timeindex,
            "timeindex",
            time_entries * TIME_ENTRY_BYTES,
        )?;
        let ends = match self.check_indexes(files, end, next_offset)? {
            Ok(ends) => ends,
            Err(what) => return Ok(Err(what)),
        };

        let mut tail = Tail {
            position: ends.last.map_or(0, |entry| entry.position),
            offset_entries: entries,
            time_entries,
            newest: ends.newest,
            last_time_entry_ms: ends.newest.map_or(-1, |newest| newest.timestamp_ms),
            ..Tail::empty(base)
        };
        if tail.position > 0 {
            let first = Walk::new(self, 0, end, 0)?.step()?;
            tail.first_timestamp_ms = first.map(|(_, head)| head.max_timestamp());
        }
        let found = tail;
        let mut out = IndexBytes::default();
        let damage = self.walk_tail(&mut tail, end, verify, &mut out)?;
        if damage.is_some() && tail.position == found.position && entries > 0 {
            // Where the batch before it ends is not known here.
            return Ok(Err("the last index entry points to a damaged batch"));
        }
        self.write_indexes(&out, &found)?;
        Ok(Ok((tail, damage)))
    }

    /// Writes index entries behind those that were there at `before`.
    pub fn write_indexes(&self, out: &IndexBytes, before: &Tail) -> Result<(), Error> {
        let files = self.files()?;
        let offsets_at = before.offset_entries * OFFSET_ENTRY_BYTES;
        let times_at = before.time_entries * TIME_ENTRY_BYTES;
        for (extension, file, bytes, at) in [
            ("index", &files.index, &out.offsets, offsets_at),
            ("timeindex", &files.timeindex, &out.times, times_at),
        ] {
            if !bytes.is_empty() {
                file.write_at(&[bytes], at)
                    .map_err(|source| Error::disk_at(self.path(extension), "write", at, source))?;
            }
        }
        Ok(())
    }

    fn replace_indexes(&self, out: &IndexBytes) -> Result<(), Error> {
        let files = self.files()?;
        self.cut(&*files.index, "index", 0)?;
        self.cut(&*files.timeindex, "timeindex", 0)?;
        self.write_indexes(out, &Tail::empty(self.base()))
    }

    fn walk_tail(
        &self,
        tail: &mut Tail,
        end: u64,
        verify: bool,
        out: &mut IndexBytes,
    ) -> Result<Option<ReadError>, Error> {
        let mut walk = Walk::new(self, tail.position, end, REBUILD_WINDOW_BYTES)?;
        loop {
            let step = walk.step().and_then(|step| match step {
                Some((position, head)) if verify => self
                    .batch_at(position, &head)
                    .map(|_| Some((position, head))),
                step => Ok(step),
            });
            match step {
                Ok(Some((_, head))) => tail.add(self.base(), &head, out),
                Ok(None) => return Ok(None),
                Err(damage @ ReadError::Corrupt { .. }) => return Ok(Some(damage)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn cut(&self, file: &dyn DiskFile, extension: &str, len: u64) -> Result<(), Error> {
        if self.len_of(extension, file)? > len {
            file.set_len(len)
                .map_err(|source| self.failed(extension, "truncate", source))?;
        }
        Ok(())
    }
}
