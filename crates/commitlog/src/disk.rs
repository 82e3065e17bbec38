//! The log's only way to files. Paths are relative to the data directory and separated by `/`; what
//! stands behind the trait (a directory, memory, a simulator) is not known here.

mod memory;
mod salvage;

use std::any::Any;
use std::io;
use std::sync::Arc;

use crate::error::Error;

#[cfg(test)]
pub(crate) use memory::bytes_of;
pub use memory::{MemoryDisk, Operation};
pub(crate) use salvage::Salvage;

/// A place for files.
pub trait Disk: Send + Sync {
    /// Opens a file. Opening never truncates.
    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// Bare names of the files and folders in `dir`, sorted.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes a folder and its parents; one that exists is fine.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Removes a file; open handles stay usable.
    fn remove_file(&self, path: &str) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Renames a file, replacing the target in one step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Whether a file or folder of that name exists.
    fn exists(&self, path: &str) -> bool;
    /// Bytes free for this program.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file; usable from several threads at once.
pub trait DiskFile: Send + Sync {
    /// Reads at byte `pos`, returns how many bytes were read; fewer than asked only at the end.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;
    /// The same, of what needs no waiting for a disk: where it would, the error is `WouldBlock`. Files in
    /// memory never wait.
    fn read_at_now(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.read_at(buf, pos)
    }
    /// Writes all of `bufs`, one behind the other, at byte `pos`; after an error any part of it may
    /// be there.
    fn write_at(&self, bufs: &[&[u8]], pos: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Sends the bytes from `from` to `to` on to the disk and waits for that, so that a later sync
    /// finds less to do. Promises nothing, and may do nothing.
    fn write_out(&self, from: u64, to: u64) {
        let _ = (from, to);
    }
    /// Asks for space for the bytes from `from` to `to`, which will be written soon; the length stays. Promises
    /// nothing, and may do nothing. What is not used is given back by [`DiskFile::set_len`].
    fn reserve(&self, from: u64, to: u64) {
        let _ = (from, to);
    }
    /// The file itself, for who can send its bytes on without reading them; what it is, is known to
    /// whoever made the disk. None: its bytes can only be read.
    fn handle(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
    /// Makes the contents durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes contents and attributes durable.
    fn sync_all(&self) -> io::Result<()>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; it is made when absent, and kept as it is when present.
    Create,
}

/// A read that failed, and the byte of the file at which it did.
#[derive(Debug)]
pub(crate) struct ReadFailed {
    position: u64,
    source: io::Error,
}

impl ReadFailed {
    /// As an error that names the file.
    pub(crate) fn of(self, path: impl Into<String>) -> Error {
        Error::disk_at(path, "read", self.position, self.source)
    }
}

impl From<ReadFailed> for io::Error {
    fn from(failed: ReadFailed) -> Self {
        failed.source
    }
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It waits.
    Waits,
    /// What is not in memory is not read: the read ends with an error, see
    /// [`ReadError::would_wait`](crate::ReadError::would_wait).
    Never,
}

/// Reads a whole file, at most `bytes_max` of it.
pub(crate) fn read_whole(file: &dyn DiskFile, bytes_max: u64) -> Result<Vec<u8>, ReadFailed> {
    let len = file.len().map_err(|source| ReadFailed {
        position: 0,
        source,
    })?;
    let mut bytes = vec![0; len.min(bytes_max) as usize];
    let read = read_full(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads until `buf` is full or the file ends.
pub(crate) fn read_full(
    file: &dyn DiskFile,
    buf: &mut [u8],
    pos: u64,
) -> Result<usize, ReadFailed> {
    read_full_if(file, buf, pos, Patience::Waits)
}

/// The same, with so much patience.
pub(crate) fn read_full_if(
    file: &dyn DiskFile,
    buf: &mut [u8],
    pos: u64,
    patience: Patience,
) -> Result<usize, ReadFailed> {
    let mut done = 0;
    while done < buf.len() {
        let (rest, position) = (&mut buf[done..], pos + done as u64);
        let read = match patience {
            Patience::Waits => file.read_at(rest, position),
            Patience::Never => file.read_at_now(rest, position),
        };
        match read.map_err(|source| ReadFailed { position, source })? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Whether the operating system says by this that what lies on the disk cannot be read, and not
/// that it lacks something now.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    // EIO, ENODATA, EBADMSG, EILSEQ, EUCLEAN, EREMOTEIO: the same numbers on all of Linux that this
    // runs on.
    matches!(error.raw_os_error(), Some(5 | 61 | 74 | 84 | 117 | 121))
}
