//! A client that is read no faster than its listener says: over its rate it waits, and is not cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use door::Meter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::Doorway;

/// What one client may send.
#[derive(Debug)]
pub struct Pace {
    meter: Meter,
    since: Instant,
    doorway: Arc<Doorway>,
}

impl Pace {
    pub(super) fn new(meter: Meter, doorway: Arc<Doorway>) -> Self {
        Self {
            meter,
            since: Instant::now(),
            doorway,
        }
    }

    /// Counts what has been read; says how long nothing more is to be.
    pub fn took(&mut self, bytes: usize) -> Option<Duration> {
        let now_ms = self.since.elapsed().as_millis() as u64;
        self.meter.charge(bytes as u64, 0, now_ms);
        let wait_ms = self.meter.wait_ms(now_ms);
        if wait_ms == 0 {
            return None;
        }
        self.doorway.counters.rate_waits.add(1);
        Some(Duration::from_millis(wait_ms))
    }
}

/// A connection that is read at a pace.
pub struct Paced<I> {
    io: I,
    pace: Option<Box<Pace>>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<I> Paced<I> {
    /// Reads `io` at that pace, or as fast as it comes.
    pub fn new(io: I, pace: Option<Box<Pace>>) -> Self {
        Self {
            io,
            pace,
            wait: None,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let took = buf.filled().len() - before;
        if let Some(pace) = &mut self.pace {
            self.wait = pace.took(took).map(|wait| Box::pin(sleep(wait)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
