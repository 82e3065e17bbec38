//! Sends what segments were written on to the disk, a little all the time, so that the fsync of a
//! checkpoint finds little left and the journal's flushes never queue behind hundreds of megabytes.
//! It makes nothing durable and may be late without harm; that it failed is kept for the next sync.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Bytes sent on at one time: what a flush of the journal may have to wait for.
const PIECE_BYTES: u64 = 256 * 1024;

/// The same while hardly anybody waits for flushes: a large piece costs half of what small ones do.
const CALM_PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// Flushes between two gatherings that are still calm: one a second comes whatever happens.
const CALM_FLUSHES: u64 = 1;

/// Written bytes gather for so long before they are sent on.
const GATHER: Duration = Duration::from_millis(100);

/// Unit of the page cache; the last page of a file is left alone while it is being filled.
const PAGE_BYTES: u64 = 4096;

/// The running thread; it ends with the last handle.
pub struct Writeback {
    ranges: Mutex<BTreeMap<u64, Range>>,
    next_id: AtomicU64,
    /// Flushes since the last gathering.
    flushes: AtomicU64,
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

/// What the kernel said of the pages of one file that were sent on. It says so once: a sync of the
/// same descriptor that comes later would call durable what was lost.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first error, as the system numbers them. Held while pages are on their way, so that a sync
    /// that overtakes them waits for what became of them.
    failure: Mutex<Option<i32>>,
}

impl Outcome {
    /// Has the kernel write these pages, and waits for it.
    pub fn send_on(&self, file: &File, from: u64, to: u64) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = send_on(file, from, to) {
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            failure.get_or_insert(number);
        }
    }

    /// Fails if any page that was sent on did not arrive. To be asked behind each sync.
    pub fn check(&self) -> io::Result<()> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
    }
}

/// Bytes of one file that were written and not sent on.
struct Range {
    file: Weak<File>,
    outcome: Arc<Outcome>,
    from: u64,
    to: u64,
}

/// What is sent on at one time.
struct Piece {
    file: Weak<File>,
    outcome: Arc<Outcome>,
    from: u64,
    to: u64,
}

impl Writeback {
    /// Starts the thread.
    pub fn start() -> io::Result<Arc<Self>> {
        let writeback = Arc::new(Self {
            ranges: Mutex::default(),
            next_id: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let weak = Arc::downgrade(&writeback);
        let handle = std::thread::Builder::new()
            .name("writeback".into())
            .spawn(move || run(&weak))?;
        *writeback
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(handle.thread().clone());
        Ok(writeback)
    }

    /// A number for a file, by which its writes are reported.
    pub fn enter(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// `file`, entered as `id`, was written from `from` to `to`; what becomes of the pages goes to
    /// `outcome`.
    pub fn written(
        &self,
        id: u64,
        (file, outcome): (&Arc<File>, &Arc<Outcome>),
        (from, to): (u64, u64),
    ) {
        {
            let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
            let range = ranges.entry(id).or_insert_with(|| Range {
                file: Arc::downgrade(file),
                outcome: Arc::clone(outcome),
                from,
                to,
            });
            range.from = range.from.min(from);
            range.to = range.to.max(to);
        }
        if self.asleep.swap(false, Ordering::Relaxed) {
            self.unpark();
        }
    }

    /// The journal is being flushed.
    pub fn flushing(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }

    /// How much is sent on at one time now, in bytes.
    fn piece_bytes(&self) -> u64 {
        if self.flushes.load(Ordering::Relaxed) <= CALM_FLUSHES {
            CALM_PIECE_BYTES
        } else {
            PIECE_BYTES
        }
    }

    fn unpark(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            thread.unpark();
        }
    }

    /// The next piece to send on, if there is one.
    fn take(&self) -> Option<Piece> {
        let piece_bytes = self.piece_bytes();
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut entry) = ranges.first_entry() {
            let range = entry.get_mut();
            let from = range.from / PAGE_BYTES * PAGE_BYTES;
            let end = range.to / PAGE_BYTES * PAGE_BYTES;
            let to = end.min(from + piece_bytes);
            if to <= from {
                entry.remove();
                continue;
            }
            range.from = to;
            return Some(Piece {
                file: range.file.clone(),
                outcome: Arc::clone(&range.outcome),
                from,
                to,
            });
        }
        None
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        self.unpark();
    }
}

fn run(writeback: &Weak<Writeback>) {
    loop {
        if let Some(writeback) = writeback.upgrade() {
            writeback.flushes.store(0, Ordering::Relaxed);
        }
        std::thread::sleep(GATHER);
        loop {
            let Some(writeback) = writeback.upgrade() else {
                return;
            };
            let Some(piece) = writeback.take() else {
                break;
            };
            drop(writeback);
            if let Some(file) = piece.file.upgrade() {
                let start = Instant::now();
                piece.outcome.send_on(&file, piece.from, piece.to);
                // Whoever flushes meanwhile gets the disk for as long.
                std::thread::sleep(start.elapsed());
            }
        }
        {
            let Some(writeback) = writeback.upgrade() else {
                return;
            };
            writeback.asleep.store(true, Ordering::Relaxed);
            // What was written before the store is seen now; what comes after it unparks.
            let quiet = writeback
                .ranges
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty();
            if !quiet {
                writeback.asleep.store(false, Ordering::Relaxed);
                continue;
            }
        }
        std::thread::park();
    }
}

fn send_on(file: &File, from: u64, to: u64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes no pointers, and the descriptor is open while `file` lives.
    let code =
        unsafe { libc::sync_file_range(file.as_raw_fd(), from as i64, (to - from) as i64, flags) };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_pages_in_order_and_the_last_page_waits() {
        let writeback = Writeback {
            ranges: Mutex::default(),
            next_id: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            thread: Mutex::default(),
        };
        let file = Arc::new(tempfile::tempfile().unwrap());
        let id = writeback.enter();
        for _ in 0..=CALM_FLUSHES {
            writeback.flushing();
        }
        let outcome = Arc::default();
        let file = (&file, &outcome);
        writeback.written(id, file, (100, 5_000));
        writeback.written(id, file, (5_000, PIECE_BYTES + 9_000));
        let pieces: Vec<_> = std::iter::from_fn(|| writeback.take())
            .map(|piece| (piece.from, piece.to))
            .collect();
        assert_eq!(
            pieces,
            [(0, PIECE_BYTES), (PIECE_BYTES, PIECE_BYTES + 8_192)]
        );
        writeback.written(id, file, (PIECE_BYTES + 9_000, PIECE_BYTES + 12_288));
        assert_eq!(
            writeback.take().map(|piece| (piece.from, piece.to)),
            Some((PIECE_BYTES + 8_192, PIECE_BYTES + 12_288))
        );
    }

    #[test]
    fn what_did_not_arrive_is_told_to_every_sync_that_follows() {
        let file = tempfile::tempfile().unwrap();
        let outcome = Outcome::default();
        outcome.send_on(&file, 0, PAGE_BYTES);
        outcome.check().unwrap();
        // A pipe cannot be sent on.
        let (pipe, _other) = io::pipe().unwrap();
        outcome.send_on(&File::from(std::os::fd::OwnedFd::from(pipe)), 0, PAGE_BYTES);
        for _ in 0..2 {
            let failure = outcome.check().unwrap_err();
            assert_eq!(failure.raw_os_error(), Some(libc::ESPIPE));
        }
    }

    #[test]
    fn pieces_are_large_while_hardly_anybody_waits_for_flushes() {
        let writeback = Writeback {
            ranges: Mutex::default(),
            next_id: AtomicU64::new(0),
            flushes: AtomicU64::new(CALM_FLUSHES),
            asleep: AtomicBool::new(false),
            thread: Mutex::default(),
        };
        let file = Arc::new(tempfile::tempfile().unwrap());
        let end = CALM_PIECE_BYTES + 10 * PIECE_BYTES;
        let outcome = Arc::default();
        writeback.written(writeback.enter(), (&file, &outcome), (0, end));
        let next = || writeback.take().map(|piece| (piece.from, piece.to));
        assert_eq!(next(), Some((0, CALM_PIECE_BYTES)));
        // Somebody does: what is left goes in small ones.
        writeback.flushing();
        let second = CALM_PIECE_BYTES + PIECE_BYTES;
        assert_eq!(next(), Some((CALM_PIECE_BYTES, second)));
    }
}
