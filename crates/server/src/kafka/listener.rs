//! Accepting connections, and closing them when the node stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{FrontDoor, connection};

/// Pause after the system had no descriptor or memory for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl FrontDoor {
    /// Serves the connections of a listener until `stop` is true or its sender gone; then all are
    /// closed, each behind the answer that it is writing.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
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
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                self.counters.connections_refused.add(1);
                continue;
            };
            self.counters.connections_total.add(1);
            let door = self.clone();
            let stop = stop.clone();
            connections.spawn(async move {
                let _place = place;
                let _level = door.counters.connections.level(1);
                connection::serve(door.clone(), stream, peer, stop).await;
            });
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }
}

/// Returns when the node stops.
pub(super) async fn stopping(mut stop: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}
