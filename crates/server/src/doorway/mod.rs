//! What a listener for Kafka or HTTP does with a connection before its protocol is spoken: how many
//! come and are open, who stands behind a proxy, how fast each is read. It knows no protocol inside.

mod pace;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use door::{Bucket, Meter, Source};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, timeout};

pub use self::pace::{Pace, Paced};
use crate::descriptors::{self, Visitor};
use crate::node::ListenerRow;
use crate::node::counters::ListenerCounters;
use crate::settings::{ListenerSettings, Word as _};

/// Time for a PROXY header.
const PROXY_WAIT: Duration = Duration::from_secs(10);

/// One listener.
#[derive(Debug)]
pub struct Doorway {
    /// Its name: as configured, or its kind and address.
    pub name: String,
    /// The address really bound.
    pub address: SocketAddr,
    /// What it counts.
    pub counters: ListenerCounters,
    settings: ListenerSettings,
    rate: Option<Mutex<Bucket>>,
    start: Instant,
}

/// A connection's place among those of its listener; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Doorway>);

impl Doorway {
    /// A listener that is bound to `address`.
    pub fn new(settings: &ListenerSettings, address: SocketAddr) -> Arc<Self> {
        let rate = settings.connections_per_s;
        Arc::new(Self {
            name: settings.shown_name(address),
            address,
            counters: ListenerCounters::default(),
            rate: rate.map(|per_s| Mutex::new(Bucket::new(per_s, 0))),
            settings: settings.clone(),
            start: Instant::now(),
        })
    }

    /// One more was accepted: takes its place, and waits until the next may be. `None`: there are too
    /// many, and this one is to be closed.
    pub async fn accepted(self: &Arc<Self>, connection: &impl AsRawFd) -> Option<Place> {
        self.counters.accepted.add(1);
        let visitor = if self.settings.kind.speaks_http() {
            Visitor::Operator
        } else {
            Visitor::Client
        };
        if !descriptors::leaves_enough(connection, visitor, &self.name) {
            self.counters.refused_full.add(1);
            return None;
        }
        if let Some(rate) = &self.rate {
            let wait_ms = {
                let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
                rate.take(1, self.now_ms());
                rate.wait_ms(self.now_ms())
            };
            if wait_ms > 0 {
                // The others wait in the backlog.
                self.counters.accept_waits.add(1);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
        }
        let most = self.settings.connections_max.map_or(u64::MAX, u64::from);
        if self.counters.open.get() >= most {
            self.counters.refused_full.add(1);
            return None;
        }
        self.counters.open.add(1);
        Some(Place(Arc::clone(self)))
    }

    /// Where a connection from `peer` comes from, as a trusted proxy says if there is one. `None`: the
    /// header is missing or wrong.
    pub async fn source<I>(&self, io: &mut I, peer: SocketAddr) -> Option<SocketAddr>
    where
        I: AsyncRead + Unpin,
    {
        if !self.settings.expects_proxy(peer.ip()) {
            return Some(peer);
        }
        match timeout(PROXY_WAIT, header(io)).await {
            Ok(Ok(Source::Address(behind))) => Some(behind),
            Ok(Ok(Source::Proxy)) => Some(peer),
            Ok(Err(error)) => {
                self.counters.refused_proxy.add(1);
                tracing::debug!(%peer, %error, listener = self.name, "no PROXY header");
                None
            }
            Err(_) => {
                self.counters.refused_proxy.add(1);
                None
            }
        }
    }

    /// How fast a client that came now is read, where that is bounded.
    pub fn pace(self: &Arc<Self>) -> Option<Box<Pace>> {
        let meter = Meter::new(self.settings.bytes_in_per_s, None, 0)?;
        Some(Box::new(Pace::new(meter, Arc::clone(self))))
    }

    /// Whether others than this machine's programs reach it: by its address, or through a proxy.
    pub fn is_local(&self) -> bool {
        self.settings.bind.ip().to_canonical().is_loopback() && self.settings.proxy.is_none()
    }

    /// The figures of now.
    pub fn row(&self) -> ListenerRow {
        ListenerRow {
            name: self.name.clone(),
            kind: self.settings.kind.word(),
            address: self.address,
            counts: self.counters.values(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.counters.open.sub(1);
    }
}

/// Reads a PROXY header and not one byte more: what follows may be TLS.
async fn header<I>(io: &mut I) -> io::Result<Source>
where
    I: AsyncRead + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        match door::proxy::parse(&bytes) {
            Ok(Some((source, _))) => return Ok(source),
            Ok(None) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        let more = door::proxy::missing(&bytes) as u64;
        if (&mut *io).take(more).read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests;
