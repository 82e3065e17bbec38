//! Streams of server-sent events: how many there may be, how they are framed, and how they end. A
//! subscriber that does not read holds up nobody but the task that serves it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::limits::{EVENT_STREAMS_MAX, EVENTS_ALIVE, EVENTS_JUDGED};
use super::problem::Problem;
use super::{Caller, Shared, serving};

/// Where events go.
#[derive(Clone)]
pub(super) struct Sink(mpsc::Sender<Bytes>);

impl Sink {
    /// Sends an event, and waits while the subscriber has enough to read; false: it is gone.
    pub async fn send(&self, name: &str, told: &impl Serialize) -> bool {
        let json = serde_json::to_string(told).expect("rows are JSON");
        let text = format!("event: {name}\ndata: {json}\n\n");
        self.0.send(text.into()).await.is_ok()
    }
}

/// The answer whose events `run` sends; `waiting` of them at most wait for the subscriber. It ends
/// with `run`, with the subscriber, with the node, or when the caller may follow no longer.
///
/// # Errors
/// There are too many such streams.
pub(super) fn open<R>(
    api: &Shared,
    caller: Caller,
    waiting: usize,
    run: impl FnOnce(Sink) -> R,
) -> Result<Response, Problem>
where
    R: Future<Output = ()> + Send + 'static,
{
    let Ok(place) = Arc::clone(&api.events).try_acquire_owned() else {
        let detail = format!("{EVENT_STREAMS_MAX} streams of events are open; no more are taken");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let (sender, events) = mpsc::channel(waiting);
    let mut stop = api.stop.clone();
    let gone = sender.clone();
    let running = run(Sink(sender));
    let view = Arc::clone(&api.view);
    let judged = async move {
        loop {
            tokio::time::sleep(EVENTS_JUDGED).await;
            if !caller.may_stay(&*view) {
                return;
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = running => {}
            () = gone.closed() => {}
            () = judged => {}
            () = serving::stopped(&mut stop) => {}
        }
    });
    let mut alive = interval(EVENTS_ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = Body::from_stream(Framed {
        events,
        alive,
        _place: place,
    });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("text/event-stream");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The events as the body of an answer, with a comment where there were none for long.
struct Framed {
    events: mpsc::Receiver<Bytes>,
    alive: Interval,
    _place: OwnedSemaphorePermit,
}

impl Stream for Framed {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(event) = self.events.poll_recv(cx) {
            return Poll::Ready(event.map(Ok));
        }
        self.alive
            .poll_tick(cx)
            .map(|_| Some(Ok(Bytes::from_static(b": alive\n\n"))))
    }
}
