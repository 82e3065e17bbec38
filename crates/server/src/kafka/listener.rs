//! Accepting connections, and closing them when the node stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::caller::{Caller, ListenerFacts};
use super::transport::Transport;
use super::{FrontDoor, connection};
use crate::auth::Principal;
use crate::within_machine::{unpace_all, unpace_one};

/// Pause after the system had no descriptor or memory for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl FrontDoor {
    /// Serves the connections of a listener without TLS that asks nobody who it is; see
    /// [`FrontDoor::serve_listener`].
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        let facts = Arc::new(ListenerFacts {
            advertised: self.settings.advertised.clone(),
            ..ListenerFacts::default()
        });
        self.serve_listener(facts, listener, stop).await;
    }

    /// Serves the connections of a listener until `stop` is true or its sender gone; then all are
    /// closed, each behind the answer that it is writing.
    pub async fn serve_listener(
        self: Arc<Self>,
        facts: Arc<ListenerFacts>,
        listener: TcpListener,
        stop: watch::Receiver<bool>,
    ) {
        let mut connections = JoinSet::new();
        if let Ok(bound) = listener.local_addr() {
            unpace_all(&listener, bound);
        }
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopping(stop.clone()) => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a Kafka connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(local) = stream.local_addr() else {
                continue;
            };
            let place = match &facts.doorway {
                Some(doorway) => match doorway.accepted(&stream).await {
                    Some(place) => Some(place),
                    None => continue,
                },
                None => None,
            };
            // Answers are written whole, so nothing is won by waiting for more.
            let _ = stream.set_nodelay(true);
            unpace_one(&stream, peer, local);
            let (door, facts, stop) = (self.clone(), facts.clone(), stop.clone());
            connections.spawn(async move {
                door.receive(stream, (peer, local), facts, stop).await;
                drop(place);
            });
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// Serves one connection to its end: from `peer` to `local`, unless a proxy says otherwise.
    async fn receive(
        self: Arc<Self>,
        mut stream: TcpStream,
        (peer, local): (SocketAddr, SocketAddr),
        facts: Arc<ListenerFacts>,
        stop: watch::Receiver<bool>,
    ) {
        let peer = match &facts.doorway {
            None => peer,
            Some(doorway) => {
                let source = tokio::select! {
                    biased;
                    () = stopping(stop.clone()) => return,
                    source = doorway.source(&mut stream, peer) => source,
                };
                match source {
                    Some(peer) => peer,
                    None => return,
                }
            }
        };
        let caller = Arc::new(Caller::new(peer, local, facts));
        let Some(place) = self.roster.admit(
            &caller,
            self.settings.connections_max,
            self.settings.connections_max_per_address,
        ) else {
            self.counters.connections_refused.add(1);
            return;
        };
        self.counters.connections_total.add(1);
        let counters = self.clone();
        let _level = counters.counters.connections.level(1);
        let Some((transport, caller)) = secured(&self, stream, caller, &stop).await else {
            return;
        };
        place.is_now(&caller);
        connection::serve(self, transport, caller, place, stop).await;
    }
}

/// The transport of a connection, and who it is by its certificate; `None`: TLS was not agreed on.
async fn secured(
    door: &FrontDoor,
    stream: TcpStream,
    mut caller: Arc<Caller>,
    stop: &watch::Receiver<bool>,
) -> Option<(Transport, Arc<Caller>)> {
    let Some(tls) = caller.listener.tls.clone() else {
        return Some((Transport::Plain(stream), caller));
    };
    let shaken = tokio::select! {
        biased;
        () = stopping(stop.clone()) => return None,
        shaken = tls.accept(stream, caller.peer.ip(), &door.handshakes) => shaken,
    };
    match shaken {
        Ok((stream, name)) => {
            door.counters.tls_handshakes.add(1);
            if let Some(name) = name {
                Arc::make_mut(&mut caller).principal = Arc::new(Principal::user(name));
            }
            Some((Transport::Tls(Box::new(stream)), caller))
        }
        Err(error) => {
            door.counters.tls_handshakes_failed.add(1);
            tracing::debug!(peer = %caller.peer, %error, "a TLS handshake failed");
            None
        }
    }
}

/// Returns when the node stops.
pub(super) async fn stopping(mut stop: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}
