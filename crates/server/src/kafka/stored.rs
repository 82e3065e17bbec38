//! Batches that are sent to a client from the file in which they lie: the kernel moves the bytes, no
//! memory of ours holds them. It knows no requests, and not how the log found them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::{Arc, OnceLock};

use commitlog::StoredRange;

/// One sample of so many bytes tells whether they are in the page cache: in a virtual machine the first
/// touch of a page that the disk has just filled costs more than all else that is done with it here.
/// The header at which a range begins the log has just read, so that both of its ends are known. cachestat(2)
/// would tell of all in between, but takes pages that are still being read for ready (decision 0009).
const SAMPLE_BYTES: u64 = 1 << 20;

/// What is still to be sent of such batches. It keeps the file, whatever becomes of its name.
#[derive(Debug)]
pub(super) struct StoredFile {
    file: Arc<File>,
    position: u64,
    size_bytes: usize,
    next_offset: u64,
}

impl StoredFile {
    /// Those of the range; `None` where they lie in no file of the operating system.
    pub fn new(range: StoredRange) -> Option<Self> {
        Some(Self {
            file: range.file.downcast().ok()?,
            position: range.position,
            size_bytes: range.size_bytes,
            next_offset: range.next_offset,
        })
    }

    /// Bytes that are left.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// All records lie before this offset.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Has all of it in the page cache, and as much behind it, so that sending waits for no disk. Blocks.
    /// What cannot be read is found when it is sent.
    pub fn make_ready(&self) {
        let end = self.position + self.size_bytes as u64;
        if !self.is_ready(self.position, end) {
            self.read_through(self.position, end);
        }
        if !self.is_followed() {
            self.read_through(end, end + self.size_bytes as u64);
        }
    }

    /// Whether there is nothing to be done by [`StoredFile::make_ready`]. Does not block.
    pub fn is_made_ready(&self) -> bool {
        let end = self.position + self.size_bytes as u64;
        self.is_ready(self.position, end) && self.is_followed()
    }

    /// Whether as much behind it is there too. Of that the end tells enough; behind the end of the file
    /// nothing is missing.
    fn is_followed(&self) -> bool {
        let behind = self.position + 2 * self.size_bytes as u64;
        self.is_ready(behind.saturating_sub(1), behind)
    }

    /// Sends at most `bytes_max` of what is left to a socket that does not block; 0: the file is
    /// shorter than the log says.
    pub fn send(&self, socket: BorrowedFd<'_>, bytes_max: usize) -> io::Result<usize> {
        let mut offset = libc::off_t::try_from(self.position)
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let count = self.size_bytes.min(bytes_max);
        loop {
            // SAFETY: both descriptors are open for as long as they are borrowed here, and the
            // offset is a variable of this function.
            let sent = unsafe {
                libc::sendfile(
                    socket.as_raw_fd(),
                    self.file.as_raw_fd(),
                    &raw mut offset,
                    count,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                return Ok(sent);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// So many bytes were sent.
    pub fn sent(&mut self, size: usize) {
        self.position += size as u64;
        self.size_bytes -= size;
    }

    /// Whether these bytes are in the page cache, as far as samples tell.
    fn is_ready(&self, from: u64, end: u64) -> bool {
        ends(from, end).all(|at| {
            let mut byte = [0u8];
            let slice = libc::iovec {
                iov_base: byte.as_mut_ptr().cast(),
                iov_len: 1,
            };
            let Ok(at) = libc::off_t::try_from(at) else {
                return true;
            };
            // SAFETY: the one slice points at a byte that outlives the call, and the descriptor is
            // open while the file lives.
            let read = unsafe {
                libc::preadv2(
                    self.file.as_raw_fd(),
                    &raw const slice,
                    1,
                    at,
                    libc::RWF_NOWAIT,
                )
            };
            // Behind the end of the file there is nothing to be read.
            read >= 0
        })
    }

    /// Has the kernel read this as it will be read when it is sent, in its own large pieces, and waits for
    /// it. None of the bytes is touched.
    fn read_through(&self, from: u64, end: u64) {
        let Some(nowhere) = nowhere() else {
            return;
        };
        let (mut at, mut left) = (from as libc::off_t, (end - from) as usize);
        while left > 0 {
            // SAFETY: both descriptors are open for as long as the files live, and the offset is a
            // variable of this function.
            let read = unsafe {
                libc::sendfile(
                    nowhere.as_raw_fd(),
                    self.file.as_raw_fd(),
                    &raw mut at,
                    left,
                )
            };
            match usize::try_from(read) {
                // At the end of the file.
                Ok(0) => return,
                Ok(read) => left -= read,
                Err(_) if interrupted() => {}
                Err(_) => return,
            }
        }
    }
}

/// Where bytes go that nobody wants.
fn nowhere() -> Option<&'static File> {
    static NOWHERE: OnceLock<Option<File>> = OnceLock::new();
    let open = || File::options().write(true).open("/dev/null").ok();
    NOWHERE.get_or_init(open).as_ref()
}

fn interrupted() -> bool {
    io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
}

/// The last byte of each piece that a sample tells of.
fn ends(from: u64, end: u64) -> impl Iterator<Item = u64> {
    let pieces = (end - from).div_ceil(SAMPLE_BYTES);
    (1..=pieces).map(move |piece| end.min(from + piece * SAMPLE_BYTES) - 1)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn samples_are_the_ends_of_pieces() {
        let piece = SAMPLE_BYTES;
        let found: Vec<u64> = ends(10, 10 + 2 * piece + 1).collect();
        assert_eq!(found, [9 + piece, 9 + 2 * piece, 10 + 2 * piece]);
        assert_eq!(ends(5, 5).count(), 0);
    }

    #[test]
    fn what_was_made_ready_is_ready_and_a_short_file_ends_the_sending() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 300_000]).unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut stored = StoredFile {
            file: Arc::new(file),
            position: 299_000,
            size_bytes: 2_000,
            next_offset: 0,
        };
        stored.make_ready();
        assert!(stored.is_ready(0, 300_000));
        let socket = std::os::fd::AsFd::as_fd(&socket);
        assert_eq!(stored.send(socket, 10).unwrap(), 10);
        stored.sent(10);
        assert_eq!(stored.send(socket, usize::MAX).unwrap(), 990);
        stored.sent(990);
        assert_eq!(
            (stored.send(socket, 10).unwrap(), stored.size_bytes()),
            (0, 1_000)
        );
    }
}
