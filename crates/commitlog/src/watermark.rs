//! What the log's owner publishes for all threads: how far the journal and each partition are
//! appended and flushed, what streams there are, and whether a failure latched the log.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::disk::Disk;
use crate::error::Error;
use crate::limits::UNMIRRORED_MAX;
use crate::partition::PartitionReader;
use crate::producers::Producers;
use crate::stream::{Lsn, PartitionId, Storage, StreamSettings};
use crate::tail::Tail;

/// How far a partition is; all are next offsets (exclusive ends) but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset there is.
    pub log_start: u64,
    /// End of what is appended.
    pub appended: u64,
    /// End of what is flushed. Of a memory stream, what is appended counts.
    pub flushed: u64,
    /// Last stable offset: no open transaction begins below it.
    pub stable: u64,
    /// The same as far as it is flushed: what a crash leaves decided. Never beyond `flushed`.
    pub flushed_stable: u64,
    /// End of what the Apache Kafka cluster behind has; 0 until a mirror has said so. Only what is
    /// flushed is ever mirrored.
    pub mirrored: u64,
}

/// A stream as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMeta {
    /// Its settings.
    pub settings: StreamSettings,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionId>,
}

/// Which partition of which stream a number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMeta {
    /// The number.
    pub id: PartitionId,
    /// The stream's name.
    pub stream: String,
    /// Index in the stream, from 0.
    pub index: u32,
    /// Disk or memory.
    pub storage: Storage,
}

/// A partition as all threads see it.
pub(crate) struct PartitionState {
    pub(crate) meta: PartitionMeta,
    pub(crate) reader: PartitionReader,
    log_start: AtomicU64,
    appended: AtomicU64,
    flushed: AtomicU64,
    /// The stable end when what is flushed was written.
    flushed_stable: AtomicU64,
    /// First offset of the oldest open transaction; the greatest number without one.
    unstable: AtomicU64,
    mirrored: AtomicU64,
    /// What of that the cluster behind will never have.
    unmirrored: Mutex<VecDeque<Range<u64>>>,
    tail: Mutex<Tail>,
    /// Changed by the owner only.
    producers: Mutex<Producers>,
}

impl PartitionState {
    pub(crate) fn new(meta: PartitionMeta, reader: PartitionReader, next_offset: u64) -> Self {
        let log_start = AtomicU64::new(reader.log_start());
        Self {
            meta,
            reader,
            log_start,
            appended: AtomicU64::new(next_offset),
            flushed: AtomicU64::new(next_offset),
            // What is open is not known yet.
            flushed_stable: AtomicU64::new(0),
            unstable: AtomicU64::new(u64::MAX),
            mirrored: AtomicU64::new(0),
            unmirrored: Mutex::default(),
            tail: Mutex::default(),
            producers: Mutex::default(),
        }
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        // Ends are read before starts are, so that no end is below a start; and the nearer of two
        // ends first.
        let mirrored = self.mirrored.load(Ordering::Acquire);
        let flushed_stable = self.flushed_stable.load(Ordering::Acquire);
        let flushed = self.flushed.load(Ordering::Acquire);
        let appended = self.appended.load(Ordering::Acquire);
        // Behind the end: a transaction is published before the end that contains it.
        let unstable = self.unstable.load(Ordering::Acquire);
        let log_start = self.log_start.load(Ordering::Acquire);
        Watermarks {
            log_start,
            appended: appended.max(log_start),
            flushed: flushed.max(log_start),
            stable: appended.min(unstable).max(log_start),
            flushed_stable: flushed_stable.max(log_start),
            mirrored,
        }
    }

    /// Never goes back; whether it moved.
    pub(crate) fn publish_mirrored(&self, next_offset: u64) -> bool {
        self.mirrored.fetch_max(next_offset, Ordering::AcqRel) < next_offset
    }

    pub(crate) fn publish_unmirrored(&self, offsets: Range<u64>) {
        let mut known = self.stretches();
        match known.back_mut() {
            Some(last) if last.end == offsets.start => last.end = offsets.end,
            _ => known.push_back(offsets),
        }
        if known.len() > UNMIRRORED_MAX {
            known.pop_front();
        }
    }

    fn stretches(&self) -> MutexGuard<'_, VecDeque<Range<u64>>> {
        self.unmirrored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unmirrored(&self) -> Vec<Range<u64>> {
        self.stretches().iter().cloned().collect()
    }

    pub(crate) fn publish_appended(&self, next_offset: u64) {
        self.appended.store(next_offset, Ordering::Release);
    }

    /// As [`publish_appended`](Self::publish_appended) where transactions began or ended: no reader
    /// ever sees a stable end beyond one that is open.
    pub(crate) fn publish_transactions(&self, next_offset: u64) {
        let unstable = self.producers().first_unstable().unwrap_or(u64::MAX);
        self.unstable.fetch_min(unstable, Ordering::AcqRel);
        self.publish_appended(next_offset);
        self.unstable.store(unstable, Ordering::Release);
    }

    /// `stable`: the stable end when `next_offset` was the end of what was written. The one of now
    /// may be due to a marker that is not flushed.
    pub(crate) fn publish_flushed(&self, next_offset: u64, stable: u64) {
        self.flushed.fetch_max(next_offset, Ordering::AcqRel);
        self.flushed_stable.fetch_max(stable, Ordering::AcqRel);
    }

    /// As [`publish_flushed`](Self::publish_flushed) where all that is appended is flushed.
    pub(crate) fn publish_all_flushed(&self) {
        let marks = self.watermarks();
        self.publish_flushed(marks.appended, marks.stable);
    }

    pub(crate) fn publish_log_start(&self, offset: u64) {
        self.log_start.store(offset, Ordering::Release);
    }

    pub(crate) fn producers(&self) -> MutexGuard<'_, Producers> {
        self.producers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What streams and partitions there are.
#[derive(Default)]
pub(crate) struct Directory {
    pub(crate) streams: Arc<Vec<StreamMeta>>,
    pub(crate) by_name: HashMap<String, usize>,
    pub(crate) by_topic_id: HashMap<[u8; 16], usize>,
    pub(crate) partitions: BTreeMap<PartitionId, Arc<PartitionState>>,
}

/// Shared by the log's owner, its tickets and all readers.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) appended: AtomicU64,
    pub(crate) flushed: AtomicU64,
    pub(crate) epoch: AtomicI32,
    pub(crate) latch: Latch,
    pub(crate) journal_used_bytes: AtomicU64,
    pub(crate) journal_bytes_max: AtomicU64,
    pub(crate) tail_bytes: AtomicU64,
    pub(crate) mirrored_moves: AtomicU64,
    directory: RwLock<Arc<Directory>>,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, epoch: i32) -> Self {
        Self {
            disk,
            appended: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            epoch: AtomicI32::new(epoch),
            latch: Latch::default(),
            journal_used_bytes: AtomicU64::new(0),
            journal_bytes_max: AtomicU64::new(0),
            tail_bytes: AtomicU64::new(0),
            mirrored_moves: AtomicU64::new(0),
            directory: RwLock::default(),
        }
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(
            &self
                .directory
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn publish_directory(&self, directory: Directory) {
        *self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }

    pub(crate) fn publish_appended(&self, lsn: Lsn) {
        self.appended.store(lsn, Ordering::Release);
    }

    pub(crate) fn publish_flushed(&self, lsn: Lsn) {
        self.flushed.fetch_max(lsn, Ordering::AcqRel);
    }

    /// Latches the log if this error says that files can no longer be trusted.
    pub(crate) fn failed(&self, error: Error) -> Error {
        match &error {
            Error::Disk {
                path,
                position,
                source,
                op,
            } => {
                self.latch
                    .close(path, position.unwrap_or(0), format!("{op}: {source}"));
            }
            Error::Corrupt {
                path,
                position,
                what,
            } => {
                self.latch.close(path, *position, what.to_string());
            }
            _ => {}
        }
        error
    }
}

/// Closed by the first failed write or flush; never opened again: what the page cache holds after
/// that cannot be trusted, only a restart recovers.
#[derive(Default)]
pub(crate) struct Latch {
    closed: AtomicBool,
    cause: Mutex<Option<Cause>>,
}

#[derive(Clone)]
struct Cause {
    path: String,
    position: u64,
    what: String,
}

impl Latch {
    fn close(&self, path: &str, position: u64, what: String) {
        let mut cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        cause.get_or_insert(Cause {
            path: path.to_owned(),
            position,
            what,
        });
        self.closed.store(true, Ordering::Release);
    }

    /// [`Error::Latched`] if the latch is closed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let cause = self
            .cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let cause = cause.expect("the cause is set before the latch is closed");
        Err(Error::Latched {
            path: cause.path,
            position: cause.position,
            what: cause.what,
        })
    }
}
