//! Writes a closed segment anew beside the old one, for compaction. Runs on any thread; the
//! partition's owner installs the result.

use std::sync::Arc;

use crate::batch::BatchHead;
use crate::disk::{Disk, DiskFile, Open, read_full};
use crate::error::Error;

use super::{IndexBytes, Segment, SegmentFiles, Tail};

/// Added to the names of files that are not installed yet.
pub(crate) const CLEANED: &str = "cleaned";

/// Extension of the file that says how long a rewritten log is: it became shorter than the last
/// checkpoint may know, and a start must tell that from a log that lost its end.
pub(crate) const REWRITTEN: &str = "rewritten";

/// Batches are written when so many bytes wait.
const WRITE_BYTES: usize = 1 << 20;

/// A segment being written anew.
pub struct SegmentRewrite {
    disk: Arc<dyn Disk>,
    dir: String,
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
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
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

    /// Writes the rest, syncs the files, and says durably how long the log is before its old form
    /// can be replaced.
    pub fn finish(mut self) -> Result<Rewritten, Error> {
        self.flush()?;
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.clone());
        self.tail.close(self.segment.base(), &mut self.out);
        let segment = self.segment.with_files(self.files);
        segment.write_indexes(&self.out, &Tail::empty(segment.base()))?;
        for (extension, file) in segment.files()?.all() {
            file.sync_all()
                .map_err(|source| segment.failed(extension, "sync", source))?;
        }
        segment.publish(&self.tail);
        note_size(&*disk, &segment.path(REWRITTEN), self.tail.position)?;
        disk.sync_dir(&dir)
            .map_err(|source| Error::disk(dir, "sync", source))?;
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

/// An older note of the same segment may be torn by this: the catalogue has known its length for
/// long, as no segment is written anew twice between two checkpoints.
fn note_size(disk: &dyn Disk, path: &str, bytes: u64) -> Result<(), Error> {
    let file = disk
        .open(path, Open::Create)
        .map_err(|source| Error::disk(path, "open", source))?;
    let size = bytes.to_le_bytes();
    let check = crc_fast::crc32_iscsi(&size).to_le_bytes();
    file.write_at(&[&size, &check], 0)
        .map_err(|source| Error::disk_at(path, "write", 0, source))?;
    file.sync_all()
        .map_err(|source| Error::disk(path, "sync", source))
}

impl Segment {
    /// How long its log became when it was last written anew; `None` where it never was, or what
    /// says so is not whole.
    pub fn rewritten_bytes(&self, disk: &dyn Disk) -> Result<Option<u64>, Error> {
        let path = self.path(REWRITTEN);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let file = disk
            .open(&path, Open::Read)
            .map_err(|source| Error::disk(&path, "open", source))?;
        let mut bytes = [0; 12];
        let read = read_full(&*file, &mut bytes, 0).map_err(|failed| failed.of(path))?;
        let (size, check) = bytes.split_at(8);
        let whole = read == bytes.len() && check == crc_fast::crc32_iscsi(size).to_le_bytes();
        let size = size.first_chunk().expect("8 bytes were split off");
        Ok(whole.then(|| u64::from_le_bytes(*size)))
    }
}
