//! A segment: one `.log` of batches with its two indexes. The published size divides what readers may
//! see from what the one writer is at; readers come through `&self` from any thread.

mod aborted;
mod places;
mod range;
mod rewrite;
mod tail;
mod walk;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::batch::{BatchError, BatchHead, BatchView, HEADER_BYTES};
use crate::disk::{Disk, DiskFile, Open, Patience, is_unreadable, read_full, read_full_if};
use crate::error::{Error, ReadError};
use crate::index::{
    OFFSET_ENTRY_BYTES, OffsetEntry, OffsetIndex, TIME_ENTRY_BYTES, TimeEntry, TimeIndex,
};
use crate::limits::{BATCH_BYTES_MAX, DECOMPRESSED_BYTES_MAX};

use places::Places;

pub(crate) use aborted::TXNINDEX;
pub use range::StoredRange;
pub(crate) use rewrite::{CLEANED, REWRITTEN};
pub use rewrite::{Rewritten, SegmentRewrite};
pub(crate) use tail::{IndexBytes, Tail};
pub(crate) use walk::Walk;

/// Of an index on a bad place of the disk, which the log makes up for.
const INDEX_UNREADABLE: &str = "the index cannot be read";

/// Bytes read at once where a batch is searched from an index entry on.
const SEARCH_WINDOW_BYTES: usize = 4 << 10;

/// The three files of a segment.
pub(crate) struct SegmentFiles {
    pub log: Arc<dyn DiskFile>,
    pub index: Arc<dyn DiskFile>,
    pub timeindex: Arc<dyn DiskFile>,
}

pub(crate) struct Segment {
    base: u64,
    stem: String,
    disk: Arc<dyn Disk>,
    /// Opened with the first use: a node may have thousands of segments that nobody reads.
    files: OnceLock<SegmentFiles>,
    size: AtomicU64,
    offset_entries: AtomicU64,
    time_entries: AtomicU64,
    newest: Mutex<Option<TimeEntry>>,
    /// Opened with the first use, as most segments have none.
    txnindex: OnceLock<Arc<dyn DiskFile>>,
    aborted_entries: AtomicU64,
    /// No offset here reaches this: base offset of the next segment, or what an index can express.
    /// Offsets lie outside the checksum of a batch, so they need a bound of their own.
    end_offset: AtomicU64,
    /// Which entry of the index the last search ended at.
    searched: AtomicU64,
    /// Where readers are about to read on.
    places: Places,
}

/// Lengths and last entries of the two indexes.
struct IndexEnds {
    entries: u64,
    time_entries: u64,
    last: Option<OffsetEntry>,
    newest: Option<TimeEntry>,
}

/// What a read in one segment gave.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// Whole batches.
    Batches(T),
    /// The next batch is behind the bound of the read.
    Bounded,
    /// No batch of this segment reaches the offset: the next segment has it.
    Behind,
}

impl Segment {
    /// Makes a new and empty segment; leftovers of that name are emptied.
    pub fn create(disk: &Arc<dyn Disk>, dir: &str, base: u64) -> Result<Self, Error> {
        let segment = Self::at(disk, dir, base);
        for file in segment.open_files(Open::Create)?.all() {
            if !file
                .1
                .is_empty()
                .map_err(|source| segment.failed(file.0, "open", source))?
            {
                file.1
                    .set_len(0)
                    .map_err(|source| segment.failed(file.0, "truncate", source))?;
            }
        }
        let path = segment.path(TXNINDEX);
        if disk.exists(&path) {
            disk.remove_file(&path)
                .map_err(|source| Error::disk(path, "remove", source))?;
        }
        Ok(segment)
    }

    /// Names a segment that exists; [`measure`](Self::measure) or a [`Tail`] says how long it is.
    pub fn at(disk: &Arc<dyn Disk>, dir: &str, base: u64) -> Self {
        Self {
            base,
            stem: format!("{dir}/{base:020}"),
            disk: Arc::clone(disk),
            files: OnceLock::new(),
            size: AtomicU64::new(0),
            offset_entries: AtomicU64::new(0),
            time_entries: AtomicU64::new(0),
            newest: Mutex::new(None),
            txnindex: OnceLock::new(),
            aborted_entries: AtomicU64::new(0),
            end_offset: AtomicU64::new(base.saturating_add(i32::MAX as u64)),
            searched: AtomicU64::new(0),
            places: Places::new(base),
        }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    /// The next segment begins at `next_base`.
    pub fn end_at(&self, next_base: u64) {
        self.end_offset.fetch_min(next_base, Ordering::AcqRel);
    }

    pub fn end_offset(&self) -> u64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Published bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Greatest timestamp and the last offset of its batch.
    pub fn newest(&self) -> Option<TimeEntry> {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self, extension: &str) -> String {
        format!("{}.{extension}", self.stem)
    }

    /// The files, opened for reading unless they are open already.
    pub fn files(&self) -> Result<&SegmentFiles, Error> {
        self.open_files(Open::Read)
    }

    /// The files, if they can be had with so much patience.
    pub fn files_if(&self, patience: Patience) -> Result<&SegmentFiles, ReadError> {
        match (self.files.get(), patience) {
            (Some(files), _) => Ok(files),
            (None, Patience::Waits) => Ok(self.files()?),
            (None, Patience::Never) => {
                let error = std::io::ErrorKind::WouldBlock.into();
                Err(Error::disk(self.path("log"), "open", error).into())
            }
        }
    }

    /// The files, opened as said unless they are open already.
    pub fn open_files(&self, how: Open) -> Result<&SegmentFiles, Error> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let open = |extension| {
            self.disk
                .open(&self.path(extension), how)
                .map(Arc::from)
                .map_err(|source| self.failed(extension, "open", source))
        };
        let files = SegmentFiles {
            log: open("log")?,
            index: open("index")?,
            timeindex: open("timeindex")?,
        };
        Ok(self.files.get_or_init(|| files))
    }

    /// The same segment with these files instead of those that its names lead to.
    pub fn with_files(mut self, files: SegmentFiles) -> Self {
        self.files = OnceLock::from(files);
        self
    }

    /// Closes the files again; those who hold them keep them.
    pub fn close_files(&mut self) {
        self.files = OnceLock::new();
        self.txnindex = OnceLock::new();
    }

    /// Shows readers what the writer has written.
    pub fn publish(&self, tail: &Tail) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = tail.newest;
        self.offset_entries
            .store(tail.offset_entries, Ordering::Release);
        self.time_entries
            .store(tail.time_entries, Ordering::Release);
        self.size.store(tail.position, Ordering::Release);
    }

    /// As [`publish`](Self::publish) for a closed segment whose log may be damaged behind `tail`: the
    /// rest is shown too, so that readers meet the damage and do not step over it.
    pub fn publish_closed(&self, tail: &Tail) -> Result<(), Error> {
        self.publish(tail);
        let size = self.len_of("log", &*self.files()?.log)?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    /// Trusts a closed segment by its files' lengths and its last index entries, and publishes it.
    /// `Err` says what is wrong with the indexes; they can be rebuilt then.
    pub fn measure(&self, next_base: u64) -> Result<Result<(), &'static str>, Error> {
        let files = self.files()?;
        let size = self.len_of("log", &*files.log)?;
        let ends = match self.check_indexes(files, size, next_base)? {
            Ok(ends) if size > 0 && ends.newest.is_none() => {
                return Ok(Err("the time index of a closed segment is empty"));
            }
            Ok(ends) => ends,
            Err(what) => return Ok(Err(what)),
        };
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = ends.newest;
        self.offset_entries.store(ends.entries, Ordering::Release);
        self.time_entries
            .store(ends.time_entries, Ordering::Release);
        self.size.store(size, Ordering::Release);
        Ok(Ok(()))
    }

    /// Looks whether the ends of both indexes make sense for a log of `size` bytes that ends before
    /// `next_base`.
    fn check_indexes(
        &self,
        files: &SegmentFiles,
        size: u64,
        next_base: u64,
    ) -> Result<Result<IndexEnds, &'static str>, Error> {
        let index_bytes = self.len_of("index", &*files.index)?;
        let time_bytes = self.len_of("timeindex", &*files.timeindex)?;
        if index_bytes % OFFSET_ENTRY_BYTES != 0 || time_bytes % TIME_ENTRY_BYTES != 0 {
            return Ok(Err("the index ends inside an entry"));
        }
        let entries = index_bytes / OFFSET_ENTRY_BYTES;
        let time_entries = time_bytes / TIME_ENTRY_BYTES;
        let last = OffsetIndex {
            file: &*files.index,
            entries,
            base: self.base,
            near: None,
            patience: Patience::Waits,
        }
        .last();
        let last = match last {
            Err(source) if is_unreadable(&source) => return Ok(Err(INDEX_UNREADABLE)),
            last => last.map_err(|source| self.failed("index", "read", source))?,
        };
        if let Some(last) = last {
            // No entry is ever made for the first batch.
            if last.position == 0 || last.position >= size || last.offset >= next_base {
                return Ok(Err("the last index entry lies outside the segment"));
            }
            if !self.is_batch_at((&*files.log, Patience::Waits), last.position, last.offset)? {
                return Ok(Err("the last index entry does not point to its batch"));
            }
        }
        let newest = TimeIndex {
            file: &*files.timeindex,
            entries: time_entries,
            base: self.base,
        }
        .last();
        let newest = match newest {
            Err(source) if is_unreadable(&source) => return Ok(Err(INDEX_UNREADABLE)),
            newest => newest.map_err(|source| self.failed("timeindex", "read", source))?,
        };
        if newest.is_some_and(|newest| newest.offset >= next_base || newest.timestamp_ms < 0) {
            return Ok(Err("the last time index entry lies outside the segment"));
        }
        Ok(Ok(IndexEnds {
            entries,
            time_entries,
            last,
            newest,
        }))
    }

    /// Whole batches from the one that contains `offset` on (or the next, where compaction left a
    /// gap): the first whatever its size, more while they fit `max_bytes`, none that reaches
    /// `up_to`. Checksums are verified.
    pub fn read(
        &self,
        offset: u64,
        max_bytes: usize,
        up_to: u64,
    ) -> Result<Found<Bytes>, ReadError> {
        let end = self.size_bytes();
        let Some((position, first)) = self.locate(offset, end, Patience::Waits)? else {
            return Ok(Found::Behind);
        };
        if first.last_offset() >= up_to {
            return Ok(Found::Bounded);
        }
        let wanted = max_bytes.clamp(first.size_bytes(), BATCH_BYTES_MAX);
        let mut bytes = vec![0; wanted.min((end - position) as usize)];
        let files = self.files()?;
        let read = read_full(&*files.log, &mut bytes, position)
            .map_err(|failed| failed.of(self.path("log")))?;
        bytes.truncate(read);
        let mut keep = 0;
        let mut next_offset = first.base_offset();
        while keep < bytes.len() {
            match check_batch(&bytes[keep..], next_offset) {
                Ok(head) if head.last_offset() >= self.end_offset() => break,
                Ok(head) if head.last_offset() >= up_to => break,
                Ok(head) => {
                    keep += head.size_bytes();
                    next_offset = head.next_offset();
                }
                // The next read begins there and reports it, if it is more than a cut.
                Err(_) if keep > 0 => break,
                Err(error) => return Err(self.corrupt(position, error)),
            }
        }
        bytes.truncate(keep);
        self.places.remember(next_offset, position + keep as u64);
        Ok(Found::Batches(Bytes::from(bytes)))
    }

    /// The first batch that reaches `offset`, with its position.
    fn locate(
        &self,
        offset: u64,
        end: u64,
        patience: Patience,
    ) -> Result<Option<(u64, BatchHead)>, ReadError> {
        if let Some(found) = self.remembered(offset, end, patience)? {
            return Ok(Some(found));
        }
        let mut walk = self.search(offset, end, patience)?;
        while let Some((position, head)) = walk.step()? {
            if head.last_offset() >= offset {
                return Ok(Some((position, head)));
            }
        }
        Ok(None)
    }

    /// Where to cut so that nothing reaches `offset`, and the next offset then.
    pub fn cut_position(&self, offset: u64) -> Result<(u64, u64), Error> {
        let end = self.size_bytes();
        Ok(match self.locate(offset, end, Patience::Waits)? {
            Some((position, head)) => (position, head.base_offset().min(offset)),
            None => (end, offset),
        })
    }

    /// Whether what lies behind `position`, where a batch should begin, is the front part of one.
    pub fn is_cut_behind(&self, position: u64) -> Result<bool, Error> {
        let left = self.size_bytes() - position;
        let mut header = [0; HEADER_BYTES];
        let read = read_full(&*self.files()?.log, &mut header, position)
            .map_err(|failed| failed.of(self.path("log")))?;
        let head = BatchHead::read(&header[..read]);
        Ok(left > 0 && (read < HEADER_BYTES || head.is_ok_and(|it| it.size_bytes() as u64 > left)))
    }

    /// The batch that begins with `offset`, if it lies where a reader was told that it would.
    fn remembered(
        &self,
        offset: u64,
        end: u64,
        patience: Patience,
    ) -> Result<Option<(u64, BatchHead)>, ReadError> {
        let place = self.places.of(offset).filter(|place| *place < end);
        let Some(place) = place else {
            return Ok(None);
        };
        let mut walk = Walk::new(self, place, end, HEADER_BYTES)?.with(patience);
        match walk.step() {
            Ok(found) => Ok(found.filter(|(_, head)| head.base_offset() == offset)),
            // The search says what is wrong, and where.
            Err(ReadError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A walk that meets the first batch that reaches `offset`, begun as near before it as the index
    /// knows.
    fn search(&self, offset: u64, end: u64, patience: Patience) -> Result<Walk<'_>, ReadError> {
        let files = self.files()?;
        let index = OffsetIndex {
            file: &*files.index,
            entries: self.offset_entries.load(Ordering::Acquire),
            base: self.base,
            near: Some(&self.searched),
            patience,
        };
        let entry = self.found(index.find(offset))?;
        let (_, walk) = self.walk_from(entry, 0, end, SEARCH_WINDOW_BYTES, patience)?;
        Ok(walk)
    }

    /// A walk from the batch of `entry` on, and where it begins. An entry that does not point to its
    /// batch is not believed; the walk then begins at `otherwise`.
    fn walk_from(
        &self,
        entry: Option<OffsetEntry>,
        otherwise: u64,
        end: u64,
        window_bytes: usize,
        patience: Patience,
    ) -> Result<(u64, Walk<'_>), ReadError> {
        let walk = |start| -> Result<_, ReadError> {
            Ok(Walk::new(self, start, end, window_bytes)?.with(patience))
        };
        if let Some(entry) = entry {
            let mut walk = walk(entry.position)?;
            if walk.is_before(entry.offset)? {
                return Ok((entry.position, walk));
            }
        }
        Ok((otherwise, walk(otherwise)?))
    }

    /// What the index was found to say. One that cannot be read says nothing; what would have to be
    /// waited for is another matter.
    fn found(
        &self,
        entry: std::io::Result<Option<OffsetEntry>>,
    ) -> Result<Option<OffsetEntry>, ReadError> {
        match entry {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(Error::disk_at(self.path("index"), "read", 0, error).into())
            }
            entry => Ok(entry.ok().flatten()),
        }
    }

    /// The first record at or behind `from` that is as new as `timestamp_ms`.
    pub fn find_time(&self, timestamp_ms: i64, from: u64) -> Result<Option<(u64, i64)>, ReadError> {
        if self
            .newest()
            .is_none_or(|newest| newest.timestamp_ms < timestamp_ms)
        {
            return Ok(None);
        }
        let end = self.size_bytes();
        let files = self.files()?;
        let entries = self.time_entries.load(Ordering::Acquire);
        let index = TimeIndex {
            file: &*files.timeindex,
            entries,
            base: self.base,
        };
        let older = index.find_older(timestamp_ms).ok().flatten();
        let from = older.map_or(from, |entry| from.max(entry.offset + 1));
        let mut walk = self.search(from, end, Patience::Waits)?;
        while let Some((position, head)) = walk.step()? {
            if head.last_offset() < from || head.max_timestamp() < timestamp_ms {
                continue;
            }
            let bytes = self.batch_at(position, &head)?;
            let found = first_as_new(&bytes, timestamp_ms, from)
                .map_err(|error| self.corrupt(position, error))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The bytes of one batch, checksum verified.
    pub(crate) fn batch_at(&self, position: u64, head: &BatchHead) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; head.size_bytes()];
        let files = self.files()?;
        let read = read_full(&*files.log, &mut bytes, position)
            .map_err(|failed| failed.of(self.path("log")))?;
        bytes.truncate(read);
        check_batch(&bytes, 0).map_err(|error| self.corrupt(position, error))?;
        Ok(bytes)
    }

    /// Whether a batch that ends with `last_offset` begins at `position`.
    fn is_batch_at(
        &self,
        (log, patience): (&dyn DiskFile, Patience),
        position: u64,
        last_offset: u64,
    ) -> Result<bool, ReadError> {
        let mut header = [0; HEADER_BYTES];
        let read = read_full_if(log, &mut header, position, patience)
            .map_err(|failed| failed.of(self.path("log")))?;
        Ok(BatchHead::read(&header[..read]).is_ok_and(|head| head.last_offset() == last_offset))
    }

    pub(crate) fn len_of(&self, extension: &str, file: &dyn DiskFile) -> Result<u64, Error> {
        file.len()
            .map_err(|source| self.failed(extension, "measure", source))
    }

    pub(crate) fn failed(
        &self,
        extension: &str,
        op: &'static str,
        source: std::io::Error,
    ) -> Error {
        Error::disk(self.path(extension), op, source)
    }

    pub(crate) fn corrupt(&self, position: u64, error: BatchError) -> ReadError {
        let what = error.to_string().into();
        ReadError::Corrupt {
            path: self.path("log"),
            position,
            what,
        }
    }
}

impl SegmentFiles {
    /// Each with its extension.
    pub fn all(&self) -> [(&'static str, &Arc<dyn DiskFile>); 3] {
        [
            ("log", &self.log),
            ("index", &self.index),
            ("timeindex", &self.timeindex),
        ]
    }
}

/// Checks the whole batch at the front of `bytes`, which must not begin before `next_offset`.
pub(crate) fn check_batch(bytes: &[u8], next_offset: u64) -> Result<BatchHead, BatchError> {
    let (batch, _) = BatchView::parse(bytes)?;
    if batch.base_offset() < next_offset {
        return Err(BatchError::Offsets);
    }
    batch.verify_crc()?;
    Ok(batch.head())
}

/// Offset and timestamp of the first record of a batch that is not before `from` and as new as
/// `timestamp_ms`.
pub(crate) fn first_as_new(
    bytes: &[u8],
    timestamp_ms: i64,
    from: u64,
) -> Result<Option<(u64, i64)>, BatchError> {
    let (batch, _) = BatchView::parse(bytes)?;
    for record in &batch.plain(DECOMPRESSED_BYTES_MAX)? {
        let record = record?;
        if record.offset >= from && record.timestamp_ms >= timestamp_ms {
            return Ok(Some((record.offset, record.timestamp_ms)));
        }
    }
    Ok(None)
}

impl From<Error> for ReadError {
    /// Readers meet only what opening and reading a file can give.
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt {
                path,
                position,
                what,
            } => Self::Corrupt {
                path,
                position,
                what,
            },
            Error::Disk {
                path,
                op,
                position,
                source,
            } => Self::Disk {
                path,
                op,
                position,
                source,
            },
            Error::OutOfRange {
                offset,
                log_start,
                next_offset,
                ..
            } => Self::OutOfRange {
                offset,
                log_start,
                next_offset,
            },
            other => Self::Disk {
                path: "the log".into(),
                op: "read",
                position: None,
                source: std::io::Error::other(other.to_string()),
            },
        }
    }
}
