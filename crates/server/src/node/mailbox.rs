//! What other threads hand to a worker, and the wake that goes with it. A worker that is awake
//! costs its correspondents no system call. It must not know what a letter means.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use broker::access::Permit;
use broker::{
    Carried, ClientDetails, ClientQuery, ClientRow, Commit, ConnId, Messages, OwnedMessage, Parcel,
    Refusal, RetainedPage, ShardMessage, ShardStats, SubscriptionQuery, SubscriptionRow,
};
use commitlog::{Entry, Lsn, PartitionId};
use door::{Counts, Rates};
use mio::Waker;
use tokio::sync::oneshot;

use super::reception::Arrival;

/// Everything that waits for one worker. Bounded by its senders: commits by the bytes the log
/// thread lets readers lag, arrivals by the connection limit, answers by the requests outstanding,
/// posts by the turns of the other workers.
#[derive(Default)]
pub struct Letters {
    /// From the log thread, in the order of the log.
    pub news: Vec<News>,
    /// Connections whose CONNECT has been read.
    pub arrivals: Vec<Arrival>,
    /// From shards of other workers.
    pub posts: Vec<ShardMessage>,
    /// From the reader pool.
    pub answers: Vec<Answer>,
    /// From the node's handle.
    pub asks: Vec<Ask>,
    /// What callouts answered, for connections whose next packet waits for it.
    pub permits: Vec<(ConnId, Vec<Permit>)>,
}

/// What became of turns.
pub enum News {
    /// A turn of any worker is in the log.
    Committed(Arc<Commit>),
    /// The log took nothing of this worker's turn.
    Refused {
        /// The turn's number.
        turn: u64,
        /// Why.
        why: Refusal,
        /// What was in it, where there may soon be room again.
        returned: Option<Box<(Entry, Messages)>>,
    },
    /// A write or flush of the log has failed: what is not flushed never will be.
    Latched,
}

/// What the reader pool found.
pub enum Answer {
    /// For `ReadRequest::token`: the messages in the order asked for, `None` where one is gone.
    Read {
        /// The token of the request.
        token: u64,
        /// In the order of the positions asked for.
        messages: Vec<Option<OwnedMessage>>,
    },
    /// For `RetainedRequest::token`: one page.
    Retained {
        /// The token of the request.
        token: u64,
        /// What was found in the index.
        page: RetainedPage,
        /// The messages, in the order of the page; `None` where one is gone.
        messages: Vec<Option<OwnedMessage>>,
    },
}

/// A question from outside the workers.
pub enum Ask {
    /// A page of clients, sorted by client id.
    Clients {
        /// Which ones.
        query: ClientQuery,
        /// Where the rows go.
        answer: oneshot::Sender<Vec<ClientRow>>,
    },
    /// All there is to know of one client.
    Client {
        /// Its client id.
        client_id: String,
        /// Where it goes.
        answer: oneshot::Sender<Option<ClientTold>>,
    },
    /// A page of subscriptions.
    Subscriptions {
        /// Which ones.
        query: SubscriptionQuery,
        /// Where the rows go.
        answer: oneshot::Sender<Vec<SubscriptionRow>>,
    },
    /// The shard's figures.
    Stats {
        /// Where they go.
        answer: oneshot::Sender<ShardStats>,
    },
    /// Close the connection of a client.
    Kick {
        /// Its client id.
        client_id: String,
        /// Whether there was such a connection.
        answer: oneshot::Sender<bool>,
    },
    /// A client is about to resume its session.
    Return {
        /// Its client id.
        client_id: String,
        /// Its user name, `""` where it has none.
        username: String,
        /// Where it comes from.
        address: std::net::IpAddr,
        /// What it may do.
        access: Arc<broker::access::Access>,
        /// Where it goes what only a callout knows of the session's subscriptions.
        answer: oneshot::Sender<Vec<broker::access::Question>>,
    },
    /// Other rules hold for clients.
    Judging {
        /// The rules.
        judging: Arc<broker::access::Judging>,
        /// Told when they are in force.
        answer: oneshot::Sender<()>,
    },
    /// What follows is placed by other hooks.
    Hooks {
        /// The hooks.
        table: Arc<broker::HookTable>,
        /// Told when they are in force.
        answer: oneshot::Sender<()>,
    },
    /// Somebody publishes who has no MQTT connection.
    Deposit {
        /// What.
        message: Box<super::Deposit>,
        /// The rules do not allow it: then it is only counted and told as dropped.
        denied: bool,
        /// Told once the log has it at its level.
        answer: oneshot::Sender<Result<super::Deposited, super::DepositError>>,
    },
    /// The node itself publishes, retained: topics and payloads.
    Publish(Vec<(String, String)>),
    /// Records of a downlink are to be published.
    Downlink {
        /// Them, and the position behind them.
        parcel: Box<Parcel>,
        /// Told once the log has decided.
        answer: oneshot::Sender<Result<Carried, Refusal>>,
    },
    /// Write what a checkpoint needs; answered once it is in the log.
    Snapshot {
        /// What workers have put into the log up to this entry was told them before this.
        seen: Lsn,
        /// Where the answer goes.
        answer: std::sync::mpsc::Sender<Snapshot>,
    },
    /// What of each partition the log must keep.
    Owed {
        /// Where the first offsets go; a partition that is not named is not needed.
        answer: std::sync::mpsc::Sender<BTreeMap<PartitionId, u64>>,
    },
    /// The log is about to drop messages that are owed.
    Overdue {
        /// Of which partition.
        partition: PartitionId,
        /// Up to this offset.
        below: u64,
        /// Answered when they are not needed any more.
        answer: std::sync::mpsc::Sender<()>,
    },
    /// Say good-bye to all connections and suspend their sessions.
    Drain {
        /// Answered when all connections are closed and their last turn is committed.
        answer: oneshot::Sender<()>,
    },
    /// End the thread.
    Stop,
}

/// A client as its worker knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientTold {
    /// Its session.
    pub session: ClientDetails,
    /// Its connection, while it has one.
    pub open: Option<ConnectionTold>,
}

/// What a worker knows of a connection beside its session.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionTold {
    /// Number of the listener by which it came, among those for MQTT.
    pub listener: usize,
    /// It is over its rate, and not read from until its time has come.
    pub slowed: bool,
    /// What went over it.
    pub total: Counts,
    /// How much a second.
    pub rates: Rates,
}

/// What a worker's flushed snapshot allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Replay may start behind this entry.
    pub shards_at: Lsn,
    /// First offset of `__sluice.sessions` that compaction must leave alone.
    pub table_pin: u64,
}

/// The way to one worker.
pub struct Mailbox {
    letters: Mutex<Letters>,
    /// Something was put, or a watermark moved, since the worker last looked.
    pending: AtomicBool,
    /// The worker blocks, or is about to, in its poll.
    asleep: AtomicBool,
    /// The worker lets inputs gather; only a flush ends that early.
    gathering: AtomicBool,
    /// A flush was announced since the worker last looked.
    flushed: AtomicBool,
    /// The worker's thread, once it has let inputs gather.
    thread: OnceLock<Thread>,
    /// Bytes of commits put here and not yet handled.
    lag_bytes: AtomicU64,
    /// The worker has ended; changed while the letters are held.
    closed: AtomicBool,
    waker: Waker,
}

impl Mailbox {
    /// `waker` must belong to the worker's own poll.
    pub fn new(waker: Waker) -> Self {
        Self {
            letters: Mutex::new(Letters::default()),
            pending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            gathering: AtomicBool::new(false),
            flushed: AtomicBool::new(false),
            thread: OnceLock::new(),
            lag_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            waker,
        }
    }

    /// Puts letters and wakes the worker if it sleeps.
    pub fn put(&self, fill: impl FnOnce(&mut Letters)) {
        let mut letters = self.lock();
        fill(&mut letters);
        if self.closed.load(Ordering::Relaxed) {
            letters.asks.clear();
        }
        drop(letters);
        self.nudge();
    }

    /// The worker has ended: whoever asked, or asks from now on, learns that nobody answers.
    pub fn close(&self) {
        let mut letters = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        letters.asks.clear();
    }

    /// Puts commits, in the order of the log. Where nobody waits for any of them before the flush,
    /// a worker that sleeps is let sleep: the flush will wake it.
    pub fn put_commits(&self, commits: &[Arc<Commit>], patient: bool) {
        if commits.is_empty() {
            return;
        }
        let bytes: u64 = commits.iter().map(|commit| commit_bytes(commit)).sum();
        self.lag_bytes.fetch_add(bytes, Ordering::Relaxed);
        let news = commits.iter().cloned().map(News::Committed);
        self.lock().news.extend(news);
        if patient {
            self.pending.store(true, Ordering::SeqCst);
        } else {
            self.nudge();
        }
    }

    /// The worker has handled a commit.
    pub fn caught_up(&self, commit: &Commit) {
        self.lag_bytes
            .fetch_sub(commit_bytes(commit), Ordering::Relaxed);
    }

    /// Bytes of commits that the worker has not handled yet.
    pub fn lag_bytes(&self) -> u64 {
        self.lag_bytes.load(Ordering::Relaxed)
    }

    /// Makes the worker look at its mail and at the watermarks.
    pub fn nudge(&self) {
        // Both sides write one flag and then read the other, in one total order, so at least one
        // of them sees the other's write and no wake is lost.
        self.pending.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// As [`Mailbox::nudge`], for a flush: a worker that lets inputs gather goes on at once, since
    /// answers wait for it.
    pub fn nudge_flushed(&self) {
        self.announce_flush(|| ());
    }

    /// The nudge comes first: a worker that looks between the two sees the flush and rests once too
    /// little. The other way round it would see neither, and rest once too long.
    fn announce_flush(&self, between: impl FnOnce()) {
        self.nudge();
        between();
        self.flushed.store(true, Ordering::SeqCst);
        if self.gathering.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Lets the calling thread, which must be the worker's, rest until so much time has passed or a
    /// flush is announced; not at all if one was since it last took its letters.
    pub fn gather(&self, rest: Duration) {
        self.thread.get_or_init(std::thread::current);
        self.gathering.store(true, Ordering::SeqCst);
        // As in `nudge`: at least one side sees what the other wrote.
        if !self.flushed.load(Ordering::SeqCst) {
            std::thread::park_timeout(rest);
        }
        self.gathering.store(false, Ordering::SeqCst);
    }

    /// Takes all letters into `empty`, which must be empty; it lends its memory in exchange.
    /// Returns nothing if nothing was put or nudged since the last call, else what `watermark`
    /// says: a mark that was published before its nudge is never missed, and all commits up to it
    /// are among the letters or came earlier.
    pub fn take(&self, empty: &mut Letters, watermark: impl FnOnce() -> Lsn) -> Option<Lsn> {
        self.flushed.store(false, Ordering::SeqCst);
        if !self.pending.swap(false, Ordering::SeqCst) {
            return None;
        }
        let mark = watermark();
        std::mem::swap(&mut *self.lock(), empty);
        Some(mark)
    }

    /// The worker is about to block. False: something is pending, so it must not.
    pub fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if self.pending.load(Ordering::SeqCst) {
            self.asleep.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// The worker runs again.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            // An eventfd write fails only when its counter is full, and then the worker wakes.
            debug_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }
}

/// What a commit that waits weighs.
fn commit_bytes(commit: &Commit) -> u64 {
    (commit.messages.size_bytes() + size_of::<Commit>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> (mio::Poll, Mailbox) {
        let poll = mio::Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), mio::Token(0)).unwrap();
        (poll, Mailbox::new(waker))
    }

    #[test]
    fn who_asks_a_worker_that_has_ended_learns_that_nobody_answers() {
        let (_poll, mailbox) = mailbox();
        let ask = || {
            let (answer, result) = oneshot::channel();
            mailbox.put(|letters| letters.asks.push(Ask::Stats { answer }));
            result
        };
        let (mut before, ended) = (ask(), oneshot::error::TryRecvError::Closed);
        assert_eq!(
            before.try_recv().err(),
            Some(oneshot::error::TryRecvError::Empty)
        );
        mailbox.close();
        assert_eq!(before.try_recv().err(), Some(ended.clone()));
        assert_eq!(ask().try_recv().err(), Some(ended));
    }

    #[test]
    fn a_flush_ends_a_rest_whenever_it_comes_and_other_mail_does_not() {
        const LONG: Duration = Duration::from_hours(1);
        let (_poll, mailbox) = mailbox();
        mailbox.nudge_flushed();
        mailbox.gather(LONG);
        let mut letters = Letters::default();
        assert_eq!(mailbox.take(&mut letters, || 7), Some(7));
        assert_eq!(mailbox.take(&mut letters, || 8), None);
        // Another thread, another worker.
        let (_poll, mailbox) = self::mailbox();
        std::thread::scope(|scope| {
            let resting = scope.spawn(|| mailbox.gather(LONG));
            while !mailbox.gathering.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            mailbox.nudge();
            assert!(mailbox.gathering.load(Ordering::SeqCst));
            mailbox.nudge_flushed();
            resting.join().unwrap();
        });
    }

    #[test]
    fn a_flush_announced_around_a_look_is_seen_or_ends_the_next_rest() {
        let (_poll, mailbox) = mailbox();
        let mut letters = Letters::default();
        let mut seen = None;
        mailbox.announce_flush(|| seen = mailbox.take(&mut letters, || 7));
        let ends_the_rest = mailbox.flushed.load(Ordering::SeqCst);
        assert!(seen.is_some() || ends_the_rest);
        assert!(seen.is_some(), "the flush is older than the look");
    }

    #[test]
    fn a_mark_published_while_letters_are_taken_is_seen_by_this_look_or_the_next() {
        let (_poll, mailbox) = mailbox();
        let mark = AtomicU64::new(1);
        let mut letters = Letters::default();
        mailbox.nudge();
        // The flush is announced at the worst moment: after the mark was read.
        let seen = mailbox.take(&mut letters, || {
            let read = mark.load(Ordering::SeqCst);
            mark.store(2, Ordering::SeqCst);
            mailbox.nudge_flushed();
            read
        });
        assert_eq!(seen, Some(1));
        assert!(!mailbox.may_sleep(), "it must look again");
        let seen = mailbox.take(&mut letters, || mark.load(Ordering::SeqCst));
        assert_eq!(seen, Some(2));
    }
}
