//! Steps through the headers of a segment's batches.

use crate::batch::{BatchError, BatchHead, HEADER_BYTES};
use crate::disk::{Patience, read_full_if};
use crate::error::ReadError;

use super::Segment;

/// A walk over batch headers between two positions. Each step moves on by a whole batch or fails, so
/// a walk ends whatever the bytes are.
pub(crate) struct Walk<'a> {
    segment: &'a Segment,
    position: u64,
    end: u64,
    next_offset: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
    /// Size of the batch before the next one, in bytes.
    stride_bytes: usize,
    patience: Patience,
}

/// Headers are read together where so many batches lie in a window. Elsewhere only they are: what lies
/// between them would be copied, and in a page cache that the disk has just filled each page costs
/// most when it is touched for the first time.
const DENSE: usize = 4;

impl<'a> Walk<'a> {
    /// `start` is the beginning of a batch, `end` the end of one; `window_bytes` are read at once where
    /// batches are small.
    pub fn new(
        segment: &'a Segment,
        start: u64,
        end: u64,
        window_bytes: usize,
    ) -> Result<Self, ReadError> {
        segment.files()?;
        Ok(Self {
            segment,
            position: start,
            end,
            next_offset: segment.base(),
            window: Vec::new(),
            window_at: start,
            window_bytes: window_bytes.max(HEADER_BYTES),
            stride_bytes: usize::MAX,
            patience: Patience::Waits,
        })
    }

    /// The same, with so much patience.
    pub fn with(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Whether the next batch is one that ends with `last_offset`. Its header is not read again by the
    /// step.
    pub fn is_before(&mut self, last_offset: u64) -> Result<bool, ReadError> {
        if self.position >= self.end {
            return Ok(false);
        }
        match self.head() {
            Ok(head) => Ok(head.last_offset() == last_offset),
            Err(ReadError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Position and header of the next batch; `None` at the end.
    pub fn step(&mut self) -> Result<Option<(u64, BatchHead)>, ReadError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let head = self.head()?;
        let end_offset = self.segment.end_offset();
        if head.base_offset() < self.next_offset || head.last_offset() >= end_offset {
            return Err(self.segment.corrupt(position, BatchError::Offsets));
        }
        if head.size_bytes() as u64 > self.end - position {
            return Err(self.segment.corrupt(position, BatchError::Short));
        }
        self.next_offset = head.next_offset();
        self.position += head.size_bytes() as u64;
        self.stride_bytes = head.size_bytes();
        Ok(Some((position, head)))
    }

    fn head(&mut self) -> Result<BatchHead, ReadError> {
        let left = (self.end - self.position).min(HEADER_BYTES as u64) as usize;
        let mut skip = (self.position - self.window_at) as usize;
        if skip + left > self.window.len() {
            let dense = self.stride_bytes <= self.window_bytes / DENSE;
            let bytes = if dense {
                self.window_bytes
            } else {
                HEADER_BYTES
            };
            self.window
                .resize((self.end - self.position).min(bytes as u64) as usize, 0);
            let log = &self.segment.files()?.log;
            let read = read_full_if(&**log, &mut self.window, self.position, self.patience)
                .map_err(|failed| failed.of(self.segment.path("log")))?;
            self.window.truncate(read);
            self.window_at = self.position;
            skip = 0;
        }
        BatchHead::read(&self.window[skip..])
            .map_err(|error| self.segment.corrupt(self.position, error))
    }
}
