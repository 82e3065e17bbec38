//! The door to the log thread for everyone who is not a worker, and what the log thread says about
//! itself: watermarks to wait for, and whether it still takes appends.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use commitlog::{Entry, Error, Flushed, Log, Lsn, PartitionId, Refusal};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::bell::Bell;
use super::desk::Desk;
use super::rings::Wake;

/// Why an append that came through the door was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendError {
    /// Free disk space is below the reserve, or the journal waits for a checkpoint; heals by itself.
    Full,
    /// Refused as it is; says why.
    Refused(String),
    /// A write or flush failed earlier; the node takes no appends until its next start.
    Latched,
    /// The node is being stopped.
    Stopping,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str(
                "there is no room now: free disk space is below the reserve, or the journal waits \
                 for a checkpoint; the node's log says which",
            ),
            Self::Refused(why) => f.write_str(why),
            Self::Latched => f.write_str("a write or flush failed; appends need a restart"),
            Self::Stopping => f.write_str("the node is being stopped"),
        }
    }
}

impl std::error::Error for AppendError {}

/// What became of an entry that came through the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Its number in the journal.
    pub lsn: Lsn,
    /// For each append its base offset, or why it was refused.
    pub base_offsets: Vec<Result<u64, Refusal>>,
    /// For each op its new partitions, or why it was refused.
    pub ops: Vec<Result<Vec<PartitionId>, Refusal>>,
}

/// Something to be done on the log thread, between two writes.
pub type Call = Box<dyn FnOnce(&mut Log) + Send>;

/// What comes through the door.
pub enum Request {
    /// Append an entry.
    Append {
        /// What.
        entry: Entry,
        /// Told once it is written.
        answer: oneshot::Sender<Result<Appended, AppendError>>,
    },
    /// Do something to the log; it must not take long.
    Call(Call),
    /// Somebody waits until what is written now is flushed.
    WantFlush,
    /// The log was latched by what another thread did to its files.
    Latched,
    /// The flush thread has ended a flush.
    Flushed(Result<Flushed, Error>),
    /// Flush, mark the log as closed, and end.
    Stop {
        /// The entry behind which a replay for sessions may start.
        shards_at: Lsn,
        /// Told how it went.
        answer: Sender<Result<(), Error>>,
    },
}

/// A sender of requests.
#[derive(Clone)]
pub struct LogDoor {
    requests: Sender<Request>,
    standing: Arc<Standing>,
    wake: Arc<Wake>,
    desk: Arc<Desk>,
}

impl LogDoor {
    /// Of the log's owner, who sits at `desk` and receives from `requests`' other end; its thread
    /// waits on `wake`.
    pub fn new(
        requests: Sender<Request>,
        standing: Arc<Standing>,
        wake: Arc<Wake>,
        desk: Arc<Desk>,
    ) -> Self {
        Self {
            requests,
            standing,
            wake,
            desk,
        }
    }

    /// Puts an append to the others; whoever does so calls [`LogDoor::bring`] soon.
    pub fn put(&self, entry: Entry, answer: oneshot::Sender<Result<Appended, AppendError>>) {
        self.standing.request_put();
        // A log thread that has ended drops the answer, which tells the same.
        let _ = self.requests.send(Request::Append { entry, answer });
    }

    /// Sees to it that what was put is done: by the caller itself, if the log's owner has nothing
    /// else to do.
    pub fn bring(&self) {
        if !self.desk.help(&self.standing) {
            self.wake.rouse();
        }
    }

    /// Sends; false when the log thread has ended.
    pub fn send(&self, request: Request) -> bool {
        self.standing.request_put();
        let sent = self.requests.send(request).is_ok();
        self.wake.rouse();
        sent
    }

    /// Runs `call` on the log thread and waits for its answer; `None` when that thread has ended.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Log) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, result) = std::sync::mpsc::sync_channel(1);
        self.send(Request::Call(Box::new(move |log| {
            let _ = answer.send(call(log));
        })));
        result.recv().ok()
    }
}

/// Whether the node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Health {
    /// All is well.
    Serving,
    /// The log takes no appends until the next start; reads go on.
    Latched {
        /// What failed, with file and position.
        why: String,
    },
    /// The node is being stopped.
    Stopping,
}

/// What the log thread tells others.
pub struct Standing {
    /// Requests sent through the door and not yet taken.
    requests: AtomicUsize,
    health: Mutex<Health>,
    moved: watch::Sender<Lsn>,
    /// Marked changed by flushes only: whoever waits for one is not woken by every append.
    flushes: watch::Sender<()>,
    /// Marked changed when the cluster behind has got more.
    mirror: watch::Sender<()>,
    /// Rung after each flush: threads that read what is flushed.
    bells: RwLock<Vec<Weak<Bell>>>,
}

impl Standing {
    /// Serving, at `appended_to`.
    pub fn new(appended_to: Lsn) -> Self {
        Self {
            requests: AtomicUsize::new(0),
            health: Mutex::new(Health::Serving),
            moved: watch::Sender::new(appended_to),
            flushes: watch::Sender::new(()),
            mirror: watch::Sender::new(()),
            bells: RwLock::default(),
        }
    }

    /// Whether the node serves.
    pub fn health(&self) -> Health {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Marked changed after each write and after each flush.
    pub fn subscribe(&self) -> watch::Receiver<Lsn> {
        listening(self.moved.subscribe())
    }

    /// Marked changed after each flush, and when there will be no more of them.
    pub fn flushes(&self) -> watch::Receiver<()> {
        listening(self.flushes.subscribe())
    }

    /// Marked changed when the cluster behind has got more.
    pub fn mirror_moves(&self) -> watch::Receiver<()> {
        listening(self.mirror.subscribe())
    }

    /// The cluster behind has got more.
    pub fn mirrored(&self) {
        if is_heard(&self.mirror) {
            self.mirror.send_replace(());
        }
    }

    /// Rings this bell after each flush, for as long as somebody has it.
    pub fn ring_on_flush(&self, bell: &Arc<Bell>) {
        let bells = self.bells.write();
        let mut bells = bells.unwrap_or_else(PoisonError::into_inner);
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(bell));
    }

    /// The node stops; a latched log stays latched.
    pub fn stopping(&self) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if *health == Health::Serving {
            *health = Health::Stopping;
        }
    }

    pub(super) fn has_requests(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// To be called before a request is sent: who sleeps over none never sleeps over one.
    pub(super) fn request_put(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request_taken(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn appended(&self, to: Lsn) {
        if is_heard(&self.moved) {
            self.moved.send_replace(to);
        }
    }

    pub(super) fn flushed(&self) {
        if is_heard(&self.moved) {
            self.moved.send_modify(|_| {});
        }
        if is_heard(&self.flushes) {
            self.flushes.send_replace(());
        }
        self.ring_bells();
    }

    /// Wakes the threads that read what is flushed: there is news for them.
    pub fn ring_bells(&self) {
        let bells = self.bells.read();
        let bells = bells.unwrap_or_else(PoisonError::into_inner);
        for bell in bells.iter().filter_map(Weak::upgrade) {
            bell.ring();
        }
    }

    pub(super) fn latch(&self, why: &str) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::Latched {
            why: why.to_owned(),
        };
        self.moved.send_modify(|_| {});
        self.flushes.send_replace(());
    }

    pub(super) fn stopped(&self) {
        self.stopping();
        self.moved.send_modify(|_| {});
        self.flushes.send_replace(());
    }
}

/// Whether anybody listens. Whoever begins to, and then looks at what was published before this was
/// asked, either sees it or is counted here.
fn is_heard<T>(sender: &watch::Sender<T>) -> bool {
    fence(Ordering::SeqCst);
    sender.receiver_count() > 0
}

/// Pairs with the fence in [`is_heard`].
fn listening<T>(receiver: watch::Receiver<T>) -> watch::Receiver<T> {
    fence(Ordering::SeqCst);
    receiver
}
