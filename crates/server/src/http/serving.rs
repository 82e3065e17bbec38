//! Serves a router over connections of any kind, with bounds: on open connections, on the time a
//! request's head takes, on the time a client takes nothing. It knows no routes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, timeout};

use super::PeerAddress;
use super::limits::{ANSWER_WAIT, CONNECTIONS_MAX, HEAD_WAIT, STOP_WAIT, WRITE_WAIT};
use super::places::Places;
use crate::doorway::{Doorway, Paced};
use crate::tls::{Handshakes, Tls};

/// Serves `router` on `listener`, through TLS if there is any, until `stop` turns
/// true; requests on their way are answered, if that does not take long.
///
/// # Errors
/// Never: an accept that fails is tried again.
pub async fn serve(
    router: Router,
    mut listener: TcpListener,
    (doorway, tls): (Arc<Doorway>, Option<Arc<Tls>>),
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let entrance = Arc::new(Entrance {
        doorway,
        tls,
        handshakes: Handshakes::default(),
        shares: Arc::default(),
    });
    let mut open = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned();
            let place = place.await.expect("the semaphore is never closed");
            // Its accept tells transient failures from others and waits after the latter.
            let (stream, peer) = axum::serve::Listener::accept(&mut listener).await;
            (stream, peer, place)
        };
        tokio::select! {
            (stream, peer, place) = accepted => {
                let Some(entered) = entrance.doorway.accepted(&stream).await else { continue };
                let (router, stop) = (router.clone(), stop.clone());
                let entrance = Arc::clone(&entrance);
                open.spawn(async move {
                    receive(stream, peer, &entrance, router, stop).await;
                    drop((place, entered));
                });
            }
            () = stopped(&mut stop) => break,
            Some(_) = open.join_next() => {}
        }
    }
    drop(listener);
    let ended = timeout(STOP_WAIT, async {
        while open.join_next().await.is_some() {}
    })
    .await;
    if ended.is_err() {
        tracing::debug!(open = open.len(), "HTTP connections were cut at the stop");
        open.shutdown().await;
    }
    Ok(())
}

/// What a connection comes through before its first request.
struct Entrance {
    doorway: Arc<Doorway>,
    tls: Option<Arc<Tls>>,
    handshakes: Handshakes,
    shares: Arc<Places>,
}

/// Serves one connection from `peer`, unless a proxy says otherwise.
async fn receive(
    mut stream: TcpStream,
    peer: SocketAddr,
    entrance: &Entrance,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let doorway = &entrance.doorway;
    let source = tokio::select! {
        source = doorway.source(&mut stream, peer) => source,
        () = stopped(&mut stop) => return,
    };
    let Some(peer) = source else { return };
    let Some(_place) = entrance.shares.enter(peer.ip()) else {
        doorway.counters.refused_full.add(1);
        return;
    };
    let pace = doorway.pace();
    let Some(tls) = &entrance.tls else {
        return converse(Paced::new(stream, pace), peer, router, stop).await;
    };
    match tls.accept(stream, peer.ip(), &entrance.handshakes).await {
        Ok((stream, _)) => {
            doorway.counters.handshakes.add(1);
            converse(Paced::new(stream, pace), peer, router, stop).await;
        }
        Err(error) => {
            doorway.counters.handshakes_failed.add(1);
            tracing::debug!(%peer, %error, "a TLS handshake failed");
        }
    }
}

/// Serves one connection, whatever it came through, until it ends or `stop` turns true.
pub async fn converse<I>(io: I, peer: SocketAddr, router: Router, mut stop: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(PeerAddress(peer))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .serve_connection(TokioIo::new(Impatient::new(io)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an HTTP connection ended");
    }
}

/// Returns when `stop` is true; also when nobody is left to say so, which is as good.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A connection that fails when its peer takes nothing for too long, or takes too long for all.
struct Impatient<I> {
    io: I,
    /// Runs while a write waits.
    patience: Pin<Box<Sleep>>,
    waiting: bool,
    /// When a write waited first since all was taken.
    behind: Option<Instant>,
}

impl<I> Impatient<I> {
    fn new(io: I) -> Self {
        Self {
            io,
            patience: Box::pin(tokio::time::sleep(WRITE_WAIT)),
            waiting: false,
            behind: None,
        }
    }

    fn judge<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        if !self.waiting {
            self.waiting = true;
            let now = Instant::now();
            let all = *self.behind.get_or_insert(now) + ANSWER_WAIT;
            self.patience.as_mut().reset(all.min(now + WRITE_WAIT));
        }
        ready!(self.patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Impatient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Impatient<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.judge(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() {
            // It is asked for once everything was written.
            self.behind = None;
        }
        self.judge(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
