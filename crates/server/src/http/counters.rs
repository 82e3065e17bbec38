//! What the HTTP interface counts of itself: answers by status, the time they took, what is open.
//! It knows no routes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;

use super::Shared;

/// The figures of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpValues {
    /// Answers by their status.
    pub answers: BTreeMap<u16, u64>,
    /// Time they took together, ms.
    pub answers_ms: u64,
    /// Requests that wait for their answer.
    pub open: u64,
    /// Streams of events that are open.
    pub event_streams: u64,
}

/// What is counted; one for all listeners of a node.
#[derive(Debug, Default)]
pub(super) struct HttpCounters {
    /// By status: there are as many as this program has answers.
    answers: Mutex<BTreeMap<u16, u64>>,
    answers_us: AtomicU64,
    open: AtomicU64,
}

impl HttpCounters {
    /// The figures of now, but for the streams of events.
    pub fn values(&self) -> HttpValues {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        HttpValues {
            answers: answers.clone(),
            answers_ms: self.answers_us.load(Ordering::Relaxed) / 1_000,
            open: self.open.load(Ordering::Relaxed),
            event_streams: 0,
        }
    }

    fn answered(&self, status: StatusCode, took_us: u64) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(status.as_u16()).or_default() += 1;
        self.answers_us.fetch_add(took_us, Ordering::Relaxed);
    }
}

/// A request that waits; also when whoever sent it hangs up.
struct Waiting<'a>(&'a HttpCounters);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request and its answer.
pub(super) async fn count(State(api): State<Shared>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    api.counters.open.fetch_add(1, Ordering::Relaxed);
    let waiting = Waiting(&api.counters);
    let response = next.run(request).await;
    drop(waiting);
    let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    api.counters.answered(response.status(), took);
    response
}
