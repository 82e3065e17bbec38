//! The thread that waits for fdatasync. It touches no partition and no session: a ticket goes in,
//! the proof that it was flushed comes out.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use commitlog::{Error, FlushTicket, Flushed};

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
        self.tickets
            .try_send(ticket)
            .expect("one flush at a time, and the thread lives");
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
        door.send(Request::Flushed(flush(ticket, counters)));
    }
}

/// Carries a ticket out on the calling thread, and counts it.
pub fn flush(ticket: FlushTicket, counters: &Counters) -> Result<Flushed, Error> {
    let start = Instant::now();
    let result = ticket.run();
    counters.flush_times.record(start.elapsed());
    counters.log.flushes.add(1);
    result
}
