//! What of each partition goes into the answer of a Fetch: batches in memory, or the place in a file
//! from which they are sent. It may block, where that is allowed, and knows nothing of waiting.

use ::kafka::ErrorCode;
use ::kafka::api::AbortedTransaction;
use bytes::Bytes;
use commitlog::{AbortedRange, BatchHead, PartitionId, Patience};

use super::super::Source;
use super::super::stored::StoredFile;
use super::super::topics::read_error;

/// What is wanted of one partition.
#[derive(Clone, Copy)]
pub(super) struct Want {
    pub partition: PartitionId,
    pub offset: u64,
    /// Where the reader's part of the log ends.
    pub up_to: u64,
    pub bytes_max: usize,
}

/// What holds for all partitions of a request.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of the whole answer.
    pub bytes_max: usize,
    /// Those of them that may be held in memory; 0: there was none in time.
    pub memory_max: usize,
    /// Files are sent from where they lie, and held in no memory.
    pub direct: bool,
    /// Only what is committed is read, and what was aborted is told.
    pub committed: bool,
}

/// What one partition gives.
pub(super) struct Found {
    pub batches: Batches,
    pub aborted: Option<Vec<AbortedTransaction>>,
}

/// Where the batches are.
pub(super) enum Batches {
    Here(Vec<Bytes>),
    File(StoredFile),
}

impl Batches {
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Here(slices) => slices.iter().map(Bytes::len).sum(),
            Self::File(file) => file.size_bytes(),
        }
    }
}

/// Why nothing was read.
pub(super) enum Halt {
    /// Files have to be read, and that was not allowed.
    Blocks,
    /// Something lies in no file that could be sent: all must be read into memory.
    Fileless,
}

/// What may be read beside the tail cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// None.
    None,
    /// Those that lie in the page cache.
    Resident,
    /// All: reading may block.
    All,
}

/// What reading one partition comes to.
pub(super) type Outcome = Result<Found, ErrorCode>;

/// Reads the wanted, in this order. The first of a response has at least a batch, however large that
/// is, or the client would ask for it for ever.
pub(super) fn read(
    source: &dyn Source,
    wants: &[Option<Want>],
    bounds: Bounds,
    files: Files,
) -> Result<Vec<Option<Outcome>>, Halt> {
    let mut reading = Reading {
        source,
        bounds,
        files,
        empty: true,
    };
    wants
        .iter()
        .map(|want| want.as_ref().map(|want| reading.one(want)).transpose())
        .collect()
}

/// A read of several partitions under way; `bounds` is what is left.
struct Reading<'a> {
    source: &'a dyn Source,
    bounds: Bounds,
    files: Files,
    /// Nothing was found so far.
    empty: bool,
}

impl Reading<'_> {
    fn one(&mut self, want: &Want) -> Result<Outcome, Halt> {
        let in_memory = self.source.is_in_memory(want.partition, want.offset);
        let direct = self.bounds.direct && !in_memory;
        let memory_max = if direct {
            usize::MAX
        } else {
            self.bounds.memory_max
        };
        let bytes_max = self.bounds.bytes_max.min(want.bytes_max).min(memory_max);
        let nothing = Batches::Here(Vec::new());
        let batches = if memory_max == 0 || (bytes_max == 0 && !self.empty) {
            Ok(nothing)
        } else {
            let found = if direct {
                self.there(want, bytes_max)?
            } else {
                self.here(want, bytes_max)?
            };
            let fits = |found: &Batches| self.empty || found.size_bytes() <= bytes_max;
            found.map(|found| if fits(&found) { found } else { nothing })
        };
        let batches = match batches {
            Ok(batches) => batches,
            Err(error) => return Ok(Err(error)),
        };
        let aborted = match self.aborted(want, &batches)? {
            Ok(aborted) => aborted,
            Err(error) => return Ok(Err(error)),
        };
        let size_bytes = batches.size_bytes();
        self.empty &= size_bytes == 0;
        self.bounds.bytes_max = self.bounds.bytes_max.saturating_sub(size_bytes);
        if let Batches::Here(_) = batches {
            self.bounds.memory_max = self.bounds.memory_max.saturating_sub(size_bytes);
        }
        Ok(Ok(Found { batches, aborted }))
    }

    /// Batches in memory.
    fn here(&self, want: &Want, bytes_max: usize) -> Result<Result<Batches, ErrorCode>, Halt> {
        let (partition, offset) = (want.partition, want.offset);
        if let Some(batches) = self.source.read_tail(partition, offset, bytes_max) {
            // The tail may have grown since the watermarks were taken, by what is not flushed or
            // not decided yet.
            return Ok(Ok(Batches::Here(cut(batches, want.up_to))));
        }
        self.must_block()?;
        let read = self.source.read(partition, offset, bytes_max, want.up_to);
        Ok(read.map(Batches::Here).map_err(|error| read_error(&error)))
    }

    /// Batches in the file in which they lie. Where nothing may block, only those that lie in the page
    /// cache, with all that leads to them.
    fn there(&self, want: &Want, bytes_max: usize) -> Result<Result<Batches, ErrorCode>, Halt> {
        let (partition, offset) = (want.partition, want.offset);
        let patience = match self.files {
            Files::None => return Err(Halt::Blocks),
            Files::Resident => Patience::Never,
            Files::All => Patience::Waits,
        };
        let source = self.source;
        let range = match source.range(partition, offset, bytes_max, want.up_to, patience) {
            Ok(range) => range.ok_or(Halt::Fileless)?,
            Err(error) if error.would_wait() && patience == Patience::Never => {
                return Err(Halt::Blocks);
            }
            Err(error) => return Ok(Err(read_error(&error))),
        };
        let Some(range) = range else {
            return Ok(Ok(Batches::Here(Vec::new())));
        };
        let file = StoredFile::new(range).ok_or(Halt::Fileless)?;
        if patience == Patience::Waits {
            file.make_ready();
        } else if !file.is_made_ready() {
            return Err(Halt::Blocks);
        }
        Ok(Ok(Batches::File(file)))
    }

    /// What of these batches a reader of committed records has to leave out (KIP-98); `None` for
    /// one who reads all.
    fn aborted(
        &self,
        want: &Want,
        batches: &Batches,
    ) -> Result<Result<Option<Vec<AbortedTransaction>>, ErrorCode>, Halt> {
        if !self.bounds.committed {
            return Ok(Ok(None));
        }
        let to = match batches {
            Batches::Here(slices) => transactional_end(slices),
            Batches::File(file) => Some(file.next_offset()),
        };
        let Some(to) = to else {
            return Ok(Ok(Some(Vec::new())));
        };
        if self.source.has_no_aborted(want.partition, want.offset) {
            return Ok(Ok(Some(Vec::new())));
        }
        self.must_block()?;
        let row = |range: AbortedRange| AbortedTransaction {
            producer_id: range.producer_id,
            first_offset: range.first_offset as i64,
        };
        Ok(match self.source.aborted(want.partition, want.offset, to) {
            Ok(aborted) => Ok(Some(aborted.into_iter().map(row).collect())),
            Err(error) => Err(read_error(&error)),
        })
    }

    fn must_block(&self) -> Result<(), Halt> {
        if self.files == Files::All {
            Ok(())
        } else {
            Err(Halt::Blocks)
        }
    }
}

/// Cuts off the batches that reach beyond `up_to`.
fn cut(batches: Vec<Bytes>, up_to: u64) -> Vec<Bytes> {
    let mut kept = Vec::with_capacity(batches.len());
    for slice in batches {
        let mut size = 0;
        while let Ok(head) = BatchHead::read(&slice[size..]) {
            if head.next_offset() > up_to {
                break;
            }
            size += head.size_bytes();
        }
        let whole = size >= slice.len();
        if size > 0 {
            kept.push(slice.slice(..size.min(slice.len())));
        }
        if !whole {
            break;
        }
    }
    kept
}

/// The end of the last of these batches that is in a transaction.
fn transactional_end(batches: &[Bytes]) -> Option<u64> {
    let mut end = None;
    for slice in batches {
        let mut rest = &slice[..];
        while let Ok(head) = BatchHead::read(rest) {
            if head.is_transactional() {
                end = Some(head.next_offset());
            }
            rest = rest.get(head.size_bytes()..).unwrap_or_default();
        }
    }
    end
}
