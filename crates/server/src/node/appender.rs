//! Appending from outside the log thread: an entry is handed in without waiting, and whoever wants
//! to know what became of it waits for that. It knows nothing of who appends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use commitlog::{Entry, LogReader, Lsn};
use tokio::sync::oneshot;

use super::door::{AppendError, Appended, Health, LogDoor, Request, Standing};

/// What becomes of an entry that was handed in. Dropping it changes nothing: the entry is appended
/// all the same.
#[derive(Debug)]
pub struct Submitted(oneshot::Receiver<Result<Appended, AppendError>>);

impl Submitted {
    /// Told by the other end of this channel.
    pub fn new(answer: oneshot::Receiver<Result<Appended, AppendError>>) -> Self {
        Self(answer)
    }
}

impl Future for Submitted {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or(Err(AppendError::Stopping)))
    }
}

/// Waits for a flush.
pub type Flushing = Pin<Box<dyn Future<Output = Result<(), AppendError>> + Send>>;

/// Hands entries to the log thread; cheap to clone.
#[derive(Clone)]
pub struct Appender {
    door: LogDoor,
    pub(super) standing: Arc<Standing>,
    pub(super) log: LogReader,
}

impl Appender {
    pub(super) fn new(door: LogDoor, standing: Arc<Standing>, log: LogReader) -> Self {
        Self {
            door,
            standing,
            log,
        }
    }

    /// Hands in an entry behind all that this caller handed in before.
    pub fn submit(&self, entry: Entry) -> Submitted {
        let submitted = self.put(entry);
        self.bring();
        submitted
    }

    /// As [`Appender::submit`], for a caller who has more to hand in: it is appended with the rest
    /// at the next [`Appender::bring`].
    pub fn put(&self, entry: Entry) -> Submitted {
        let (answer, result) = oneshot::channel();
        self.door.put(entry, answer);
        Submitted(result)
    }

    /// Sees to it that what was put is appended, in one write.
    pub fn bring(&self) {
        self.door.bring();
    }

    /// Waits until everything up to `lsn` survives a power cut. `wanted`: somebody has to ask for
    /// the flush, since no stream of the entry does.
    pub async fn flushed(&self, lsn: Lsn, wanted: bool) -> Result<(), AppendError> {
        if self.log.flushed_to() >= lsn {
            return Ok(());
        }
        let mut flushes = self.standing.flushes();
        if wanted {
            self.door.send(Request::WantFlush);
        }
        loop {
            if self.log.flushed_to() >= lsn {
                return Ok(());
            }
            if let Health::Latched { .. } = self.standing.health() {
                return Err(AppendError::Latched);
            }
            if flushes.changed().await.is_err() {
                return Err(AppendError::Stopping);
            }
        }
    }
}
