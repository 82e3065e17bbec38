//! Where whole batches lie in a segment's file, for who sends them on without reading them. Only
//! headers are looked at here: whoever gets the bytes checks them.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::disk::Patience;
use crate::error::ReadError;
use crate::index::{OffsetEntry, OffsetIndex};
use crate::limits::BATCH_BYTES_MAX;

use super::{Found, Segment};

/// Bytes read at once where the end of a range is searched from an index entry on.
const WALK_WINDOW_BYTES: usize = 4 << 10;

/// Whole batches as they lie in a file. What is written there never changes; it stays as long as
/// this is held, also when retention or compaction has removed the file's name.
#[derive(Clone)]
pub struct StoredRange {
    /// The file: see [`DiskFile::handle`](crate::DiskFile::handle).
    pub file: Arc<dyn Any + Send + Sync>,
    /// Byte of the file at which the first batch begins.
    pub position: u64,
    /// Bytes of the batches together.
    pub size_bytes: usize,
    /// All their records lie before this offset.
    pub next_offset: u64,
}

impl fmt::Debug for StoredRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRange")
            .field("position", &self.position)
            .field("size_bytes", &self.size_bytes)
            .field("next_offset", &self.next_offset)
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Where the batches lie that [`read`](Self::read) would return; checksums are not verified.
    /// None: the file's bytes can only be read.
    pub fn range(
        &self,
        offset: u64,
        max_bytes: usize,
        up_to: u64,
        patience: Patience,
    ) -> Result<Option<Found<StoredRange>>, ReadError> {
        let Some(file) = self.files_if(patience)?.log.handle() else {
            return Ok(None);
        };
        let size = self.size_bytes();
        let Some((position, first)) = self.locate(offset, size, patience)? else {
            return Ok(Some(Found::Behind));
        };
        if first.last_offset() >= up_to {
            return Ok(Some(Found::Bounded));
        }
        let wanted = max_bytes.clamp(first.size_bytes(), BATCH_BYTES_MAX) as u64;
        let limit = size.min(position + wanted);
        let mut end = position + first.size_bytes() as u64;
        let mut next_offset = first.next_offset();
        let near = self
            .near(limit, up_to, patience)?
            .filter(|near| near.position > end);
        let (from, mut walk) = self.walk_from(near, end, size, WALK_WINDOW_BYTES, patience)?;
        // What lies before it is below both bounds; its first step says where it is.
        let known_to = near.filter(|near| near.position == from);
        end = from;
        while end < limit {
            let head = match walk.step() {
                Ok(Some((_, head))) => head,
                // Who begins at damage meets it.
                Ok(None) | Err(ReadError::Corrupt { .. }) => {
                    next_offset = next_offset.max(known_to.map_or(0, |near| near.offset));
                    break;
                }
                Err(error) => return Err(error),
            };
            let fits = end + head.size_bytes() as u64 <= limit;
            if !fits || head.last_offset() >= up_to {
                // All before it.
                next_offset = next_offset.max(head.base_offset());
                break;
            }
            end += head.size_bytes() as u64;
            next_offset = head.next_offset();
        }
        self.places.remember(next_offset, end);
        Ok(Some(Found::Batches(StoredRange {
            file,
            position,
            size_bytes: (end - position) as usize,
            next_offset,
        })))
    }

    /// The last batch that the index says to begin before byte `limit` and to end before offset
    /// `up_to`: where it begins, and its last offset.
    fn near(
        &self,
        limit: u64,
        up_to: u64,
        patience: Patience,
    ) -> Result<Option<OffsetEntry>, ReadError> {
        let files = self.files()?;
        let index = OffsetIndex {
            file: &*files.index,
            entries: self.offset_entries.load(Ordering::Acquire),
            base: self.base,
            near: Some(&self.searched),
            patience,
        };
        self.found(index.find_before(limit, up_to))
    }
}
