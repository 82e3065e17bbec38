//! How turns get from the workers to the log thread: one bounded ring a worker, byte credits, and
//! a wake that costs nothing while the log thread runs. It must not know what a turn appends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use broker::Messages;
use commitlog::{Entry, PartitionId, Room};

/// Turns that a worker may have on their way before it stops reading sockets.
const TURNS_MAX: usize = 256;

/// Turns on their way at which the log thread is woken although it has time.
const TURNS_MANY: usize = 64;

/// Places in a ring. Beyond `TURNS_MAX` they are the reserve for appends that commits cause.
const RING_PLACES: usize = 1024;

/// Bytes that a worker may have on their way before it stops reading sockets.
const CREDIT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// All workers together may have this part of the journal on their way, so that what is on its way
/// when the brake is pulled still finds room.
const JOURNAL_SHARE: u64 = 16;

const _: () = assert!(TURNS_MAX < RING_PLACES);

/// One turn of one worker, on its way to the log.
pub struct TurnOrder {
    /// The worker's number of the turn.
    pub turn: u64,
    /// What is appended, as one journal entry.
    pub entry: Entry,
    /// The partitions appended to, in the order of the entry's appends.
    pub partitions: Vec<PartitionId>,
    /// The side array for live delivery.
    pub messages: Messages,
    /// What it weighs against the credit.
    pub bytes: usize,
    /// A checkpoint waits for it: it may use the last room of the journal.
    pub room: Room,
    /// The turn needs all before it: the last one that the worker knew to be refused when it
    /// finished this one. No other may be.
    pub heard: Option<u64>,
    /// Nothing in it is waited for before the next flush, so it may be written just before that.
    pub patient: bool,
}

/// The worker's end: never blocks, and knows when to stop reading sockets.
pub struct TurnSender {
    ring: rtrb::Producer<TurnOrder>,
    /// Turns that found the ring full. Only commits can cause so many, since reading stops long
    /// before.
    backlog: VecDeque<TurnOrder>,
    /// Turns not yet committed or refused: number and bytes.
    outstanding: VecDeque<(u64, usize)>,
    outstanding_bytes: usize,
    credit_bytes: usize,
    brake: Arc<Brake>,
    wake: Arc<Wake>,
}

/// Pulled by the log thread while the journal is about to be full: workers read no sockets, but
/// what they have to append for other reasons, snapshots above all, goes on.
#[derive(Debug, Default)]
pub struct Brake(AtomicBool);

impl Brake {
    /// Pulls or releases; answers whether that is a change.
    pub fn set(&self, pulled: bool) -> bool {
        self.0.swap(pulled, Ordering::Relaxed) != pulled
    }

    /// Whether it is pulled.
    pub fn is_pulled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one of so many workers may have on its way to a journal of this size.
pub fn credit_bytes(workers: usize, journal_bytes: u64) -> usize {
    let share = journal_bytes / JOURNAL_SHARE / workers as u64;
    usize::try_from(share)
        .unwrap_or(usize::MAX)
        .clamp(1, CREDIT_BYTES_MAX)
}

/// A new ring: the worker's end and the log thread's.
pub fn ring(
    credit_bytes: usize,
    brake: Arc<Brake>,
    wake: Arc<Wake>,
) -> (TurnSender, rtrb::Consumer<TurnOrder>) {
    let (producer, consumer) = rtrb::RingBuffer::new(RING_PLACES);
    let sender = TurnSender {
        ring: producer,
        backlog: VecDeque::new(),
        outstanding: VecDeque::new(),
        outstanding_bytes: 0,
        credit_bytes,
        brake,
        wake,
    };
    (sender, consumer)
}

impl TurnSender {
    /// Sends a turn, after those that wait already.
    pub fn send(&mut self, mut order: TurnOrder) {
        self.outstanding.push_back((order.turn, order.bytes));
        self.outstanding_bytes += order.bytes;
        // Who runs out of credit waits for all that is on its way.
        order.patient &=
            self.outstanding.len() < TURNS_MANY && self.outstanding_bytes < self.credit_bytes / 2;
        let urgent = !order.patient;
        self.backlog.push_back(order);
        self.push(urgent);
    }

    /// The turn is committed or refused: its credit comes back.
    pub fn settled(&mut self, turn: u64) {
        while let Some(&(number, bytes)) = self.outstanding.front() {
            if number > turn {
                break;
            }
            self.outstanding_bytes -= bytes;
            self.outstanding.pop_front();
        }
        if !self.backlog.is_empty() {
            self.push(true);
        }
    }

    /// Whether sockets may be read: what they bring may have to be sent.
    pub fn has_credit(&self) -> bool {
        self.outstanding.len() < TURNS_MAX
            && self.outstanding_bytes < self.credit_bytes
            && !self.brake.is_pulled()
    }

    /// Whether all turns are committed or refused.
    pub fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    fn push(&mut self, urgent: bool) {
        while let Some(order) = self.backlog.pop_front() {
            if let Err(rtrb::PushError::Full(order)) = self.ring.push(order) {
                self.backlog.push_front(order);
                break;
            }
        }
        self.wake.nudge(urgent);
    }
}

/// Wakes one thread that waits for several sources of work.
#[derive(Debug, Default)]
pub struct Wake {
    /// One of `AWAKE`, `ASLEEP`, `DOZING`.
    state: AtomicU8,
    /// Urgent work was put since the thread last asked.
    urgent: AtomicBool,
    thread: OnceLock<Thread>,
}

const AWAKE: u8 = 0;
/// Any work wakes it.
const ASLEEP: u8 = 1;
/// Only urgent work wakes it.
const DOZING: u8 = 2;

impl Wake {
    /// Called once by the thread that will wait.
    pub fn belong_to_this_thread(&self) {
        self.thread
            .set(thread::current())
            .expect("one thread waits here");
    }

    /// Work has been put where the thread looks. Wakes it if it sleeps; if it dozes, only when the
    /// work is urgent.
    pub fn nudge(&self, urgent: bool) {
        if urgent {
            self.urgent.store(true, Ordering::Release);
        }
        self.wake_if(urgent);
    }

    /// Wakes it from sleeping and dozing.
    pub fn rouse(&self) {
        self.wake_if(true);
    }

    fn wake_if(&self, dozing_too: bool) {
        // Pairs with the fence in `wait`: either the waiter sees the work, or this sees it asleep.
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        let wake = state == ASLEEP || (state == DOZING && dozing_too);
        if wake
            && self.state.swap(AWAKE, Ordering::Relaxed) != AWAKE
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Whether urgent work was put since the last call.
    pub fn take_urgent(&self) -> bool {
        self.urgent.load(Ordering::Relaxed) && self.urgent.swap(false, Ordering::Acquire)
    }

    /// Sleeps until nudged (only by urgent work if `dozing`), roused, or the time is over, unless
    /// `found_work` says otherwise after the thread has declared itself asleep.
    pub fn wait(&self, timeout: Option<Duration>, dozing: bool, found_work: impl FnOnce() -> bool) {
        self.state
            .store(if dozing { DOZING } else { ASLEEP }, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !self.urgent.load(Ordering::Relaxed) && !found_work() {
            match timeout {
                Some(timeout) => thread::park_timeout(timeout),
                None => thread::park(),
            }
        }
        self.state.store(AWAKE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(turn: u64, bytes: usize) -> TurnOrder {
        TurnOrder {
            turn,
            entry: Entry::default(),
            partitions: Vec::new(),
            messages: Messages::default(),
            bytes,
            room: Room::Usual,
            heard: None,
            patient: false,
        }
    }

    #[test]
    fn credit_ends_with_the_bytes_and_comes_back_with_the_commits() {
        let brake = Arc::new(Brake::default());
        let (mut sender, mut ring) = ring(100, Arc::clone(&brake), Arc::default());
        sender.send(order(1, 99));
        assert!(sender.has_credit());
        assert!(brake.set(true) && !sender.has_credit() && brake.set(false));
        sender.send(order(2, 1));
        assert!(!sender.has_credit());
        assert_eq!(ring.pop().unwrap().turn, 1);
        assert!(!sender.has_credit(), "taken is not committed");
        sender.settled(1);
        assert!(sender.has_credit() && !sender.is_idle());
        sender.settled(2);
        assert!(sender.is_idle());
    }

    #[test]
    fn what_finds_the_ring_full_follows_in_order() {
        let (mut sender, mut ring) = ring(usize::MAX, Arc::default(), Arc::default());
        let turns = RING_PLACES as u64 + 10;
        for turn in 1..=turns {
            sender.send(order(turn, 1));
        }
        assert!(!sender.has_credit());
        for turn in 1..=turns {
            assert_eq!(ring.pop().unwrap().turn, turn);
            sender.settled(turn);
        }
        assert!(ring.pop().is_err() && sender.is_idle());
    }

    #[test]
    fn a_nudge_that_comes_before_the_wait_is_seen() {
        let wake = Arc::new(Wake::default());
        let work = Arc::new(AtomicBool::new(false));
        let waiter = thread::spawn({
            let (wake, work) = (Arc::clone(&wake), Arc::clone(&work));
            move || {
                wake.belong_to_this_thread();
                while !work.load(Ordering::Relaxed) {
                    wake.wait(None, false, || work.load(Ordering::Relaxed));
                }
            }
        });
        work.store(true, Ordering::Relaxed);
        wake.nudge(false);
        waiter.join().unwrap();
    }
}
