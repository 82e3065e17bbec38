//! Writes a closed segment anew beside the old one, for compaction. Runs on any thread; the
//! partition's owner installs the result.

use std::sync::Arc;

use crate::batch::BatchHead;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::Error;

use super::{IndexBytes, Segment, SegmentFiles, Tail};

/// Added to the names of files that are not installed yet.
pub(crate) const CLEANED: &str = "cleaned";

/// Batches are written when so many bytes wait.
const WRITE_BYTES: usize = 1 << 20;

/// A segment being written anew.
pub struct SegmentRewrite {
    segment: Segment,
    files: SegmentFiles,
    tail: Tail,
    written: u64,
    pending: Vec<u8>,
    out: IndexBytes,
}

/// A segment written anew and synced, to be installed by its partition's owner.
pub struct Rewritten {
    pub(crate) segment: Segment,
}

impl SegmentRewrite {
    /// Begins the new form of the segment with base offset `base` in the partition folder `dir`.
    pub fn begin(disk: &Arc<dyn Disk>, dir: &str, base: u64) -> Result<Self, Error> {
        let segment = Segment::at(disk, dir, base);
        let open = |extension: &str| -> Result<Arc<dyn DiskFile>, Error> {
            let path = format!("{}.{CLEANED}", segment.path(extension));
            let file = disk
                .open(&path, Open::Create)
                .map_err(|source| Error::disk(&path, "open", source))?;
            file.set_len(0)
                .map_err(|source| Error::disk(&path, "truncate", source))?;
            Ok(Arc::from(file))
        };
        let files = SegmentFiles {
            log: open("log")?,
            index: open("index")?,
            timeindex: open("timeindex")?,
        };
        Ok(Self {
            tail: Tail::empty(base),
            segment,
            files,
            written: 0,
            pending: Vec::new(),
            out: IndexBytes::default(),
        })
    }

    /// Appends a finished batch as it is, with its offsets, which must rise.
    pub fn append(&mut self, batch: &[u8]) -> Result<(), Error> {
        let path = self.segment.path("log");
        let head = BatchHead::read(batch).map_err(|source| Error::Batch { path, source })?;
        assert_eq!(
            head.size_bytes(),
            batch.len(),
            "a rewrite takes one batch at a time"
        );
        assert!(
            head.base_offset() >= self.tail.next_offset,
            "offsets rise in a rewrite"
        );
        self.tail.add(self.segment.base(), &head, &mut self.out);
        self.pending.extend_from_slice(batch);
        if self.pending.len() >= WRITE_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes the rest, syncs the files.
    pub fn finish(mut self) -> Result<Rewritten, Error> {
        self.flush()?;
        self.tail.close(self.segment.base(), &mut self.out);
        let segment = self.segment.with_files(self.files);
        segment.write_indexes(&self.out, &Tail::empty(segment.base()))?;
        for (extension, file) in segment.files()?.all() {
            file.sync_all()
                .map_err(|source| segment.failed(extension, "sync", source))?;
        }
        segment.publish(&self.tail);
        Ok(Rewritten { segment })
    }

    fn flush(&mut self) -> Result<(), Error> {
        let at = self.written;
        self.files
            .log
            .write_at(&[&self.pending], at)
            .map_err(|source| {
                let path = format!("{}.{CLEANED}", self.segment.path("log"));
                Error::disk_at(path, "write", at, source)
            })?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}
