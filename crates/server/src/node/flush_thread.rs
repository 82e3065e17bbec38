//! The thread that waits for fdatasync, and the pace at which it is asked to. It touches no
//! partition and no session: a ticket goes in, the proof that it was flushed comes out.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use commitlog::FlushTicket;

use super::counters::Counters;
use super::door::{LogDoor, Request};

/// The log thread's end: at most one flush runs at a time.
pub struct Flusher {
    tickets: SyncSender<FlushTicket>,
    thread: JoinHandle<()>,
}

impl Flusher {
    /// Starts the thread; results go to the log thread's door.
    pub fn start(door: LogDoor, counters: Arc<Counters>) -> io::Result<Self> {
        let (tickets, queue) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("flush".into())
            .spawn(move || run(&queue, &door, &counters))?;
        Ok(Self { tickets, thread })
    }

    /// Starts a flush; the one before must have ended.
    pub fn start_flush(&self, ticket: FlushTicket) {
        self.tickets.try_send(ticket).expect("one flush at a time, and the thread lives");
    }

    /// Ends the thread after the flush that runs.
    pub fn stop(self) {
        drop(self.tickets);
        // It cannot have panicked: the process aborts then.
        let _ = self.thread.join();
    }
}

fn run(queue: &Receiver<FlushTicket>, door: &LogDoor, counters: &Counters) {
    while let Ok(ticket) = queue.recv() {
        let start = Instant::now();
        let result = ticket.run();
        counters.flush_times.record(start.elapsed());
        counters.log.flushes.add_own(1);
        door.send(Request::Flushed(result));
    }
}

/// When the next flush starts: at once after quiet, then at most so many times a second or when
/// enough bytes wait; and within a bound of time whatever waits.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    bytes_max: u64,
    wait_max: Duration,
    running: bool,
    last_start: Option<Instant>,
    /// Oldest entry that no flush has covered.
    waiting_since: Option<Instant>,
    waiting_bytes: u64,
    /// Somebody waits for the flush, not only for its time bound.
    wanted: bool,
}

impl Pace {
    /// At most `flushes_per_s` flushes a second unless `bytes_max` wait; at the latest after
    /// `wait_max`.
    pub fn new(flushes_per_s: u32, bytes_max: u64, wait_max: Duration) -> Self {
        Self {
            interval: Duration::from_secs(1) / flushes_per_s.max(1),
            bytes_max,
            wait_max,
            running: false,
            last_start: None,
            waiting_since: None,
            waiting_bytes: 0,
            wanted: false,
        }
    }

    /// Something was written to the journal.
    pub fn written(&mut self, now: Instant, bytes: u64, wanted: bool) {
        self.waiting_since.get_or_insert(now);
        self.waiting_bytes += bytes;
        self.wanted |= wanted;
    }

    /// Somebody waits for what was written already.
    pub fn want(&mut self) {
        self.wanted |= self.waiting_since.is_some();
    }

    /// When a flush is due; `None`: nothing waits, or one runs.
    pub fn due(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        if self.running {
            return None;
        }
        if !self.wanted {
            return Some(since + self.wait_max);
        }
        if self.waiting_bytes >= self.bytes_max {
            return Some(since);
        }
        Some(self.last_start.map_or(since, |last| since.max(last + self.interval)))
    }

    /// A flush of all that waits starts.
    pub fn started(&mut self, now: Instant) {
        self.running = true;
        self.last_start = Some(now);
        self.waiting_since = None;
        self.waiting_bytes = 0;
        self.wanted = false;
    }

    /// It has ended.
    pub fn ended(&mut self) {
        self.running = false;
    }

    /// Whether a flush runs.
    pub fn is_running(&self) -> bool {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_at_once_after_quiet_and_then_at_the_pace() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut pace = Pace::new(100, 1000, Duration::from_secs(1));
        assert_eq!(pace.due(), None);
        pace.written(ms(0), 10, true);
        assert_eq!(pace.due(), Some(ms(0)), "at once after quiet");
        pace.started(ms(0));
        pace.written(ms(2), 10, true);
        assert_eq!(pace.due(), None, "one at a time");
        pace.ended();
        assert_eq!(pace.due(), Some(ms(10)), "not before the interval is over");
        pace.written(ms(3), 990, true);
        assert_eq!(pace.due(), Some(ms(2)), "unless enough bytes wait");
        pace.started(ms(3));
        pace.ended();
        pace.written(ms(50), 1, true);
        assert_eq!(pace.due(), Some(ms(50)));
    }

    #[test]
    fn what_nobody_waits_for_is_flushed_within_the_bound() {
        let start = Instant::now();
        let mut pace = Pace::new(100, 1000, Duration::from_secs(1));
        pace.written(start, 5000, false);
        assert_eq!(pace.due(), Some(start + Duration::from_secs(1)));
        pace.want();
        assert_eq!(pace.due(), Some(start));
    }
}
