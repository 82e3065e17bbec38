//! Where a TCP connection is received: accept, the bounded wait for a whole CONNECT, the choice of
//! the home worker. A connection leaves here with the bytes read so far and never comes back.
//! It must not know sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mqtt::{Connack, ConnackProperties, Connect, DecodeError, Packet, ReasonCode, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

use super::counters::Counters;
use super::mailbox::Mailbox;
use super::random;

/// Largest CONNECT read here, whatever `packet_size_max` allows: five fields of 64 KiB at most and
/// a fair share of user properties.
const CONNECT_BYTES_MAX: u32 = 512 * 1024;

/// Connections that may wait for their CONNECT at one time; further ones wait in the backlog.
const WAITING_MAX: usize = 4096;

/// Bytes read at one time while a CONNECT is awaited.
const READ_BYTES: usize = 2048;

/// After a failed accept (no descriptors left) the listener rests this long.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A connection on its way to its home worker.
pub struct Arrival {
    /// Non-blocking.
    pub stream: std::net::TcpStream,
    /// The peer's address.
    pub peer: SocketAddr,
    /// A whole CONNECT and whatever was read behind it.
    pub bytes: Vec<u8>,
    /// The id chosen for a client that named none.
    pub assigned_client_id: Option<String>,
}

/// What all listeners share.
pub struct Reception {
    /// One for each worker.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// The node's counters.
    pub counters: Arc<Counters>,
    /// Open connections at most, those awaiting their CONNECT included.
    pub connections_max: u64,
    /// From accept to a whole CONNECT.
    pub connect_timeout: Duration,
    /// Largest packet taken.
    pub packet_size_max: u32,
    /// Set at shutdown: nothing is accepted any more.
    pub stopping: AtomicBool,
    waiting: Semaphore,
}

impl Reception {
    /// Ready to `serve` listeners.
    pub fn new(
        mailboxes: Vec<Arc<Mailbox>>,
        counters: Arc<Counters>,
        settings: &crate::settings::MqttSettings,
    ) -> Self {
        Self {
            mailboxes,
            counters,
            connections_max: u64::from(settings.connections_max),
            connect_timeout: Duration::from_millis(settings.connect_timeout_ms),
            packet_size_max: settings.packet_size_max.min(CONNECT_BYTES_MAX),
            stopping: AtomicBool::new(false),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// Accepts until `stop` says so.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|&stop| stop) => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept an MQTT connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            self.counters.reception.accepted.add(1);
            let Ok(permit) = Arc::clone(&self).acquire().await else {
                return;
            };
            tokio::spawn(async move {
                permit.0.counters.reception.waiting.add(1);
                permit.0.receive(stream, peer).await;
                permit.0.counters.reception.waiting.sub(1);
                drop(permit);
            });
        }
    }

    async fn acquire(self: Arc<Self>) -> Result<Permit, tokio::sync::AcquireError> {
        self.waiting.acquire().await?.forget();
        Ok(Permit(self))
    }

    async fn receive(&self, stream: TcpStream, peer: SocketAddr) {
        // A device waits for one small answer at a time.
        let _ = stream.set_nodelay(true);
        let mut stream = stream;
        let mut bytes = Vec::new();
        let wait = self.read_connect(&mut stream, &mut bytes);
        match tokio::time::timeout(self.connect_timeout, wait).await {
            Err(_) => {
                self.counters.reception.timeouts.add(1);
            }
            Ok(Received::Gone) => {}
            Ok(Received::Refused(error)) => {
                self.counters.reception.refused_connect.add(1);
                debug!(%peer, %error, "CONNECT refused");
                let mut answer = Vec::new();
                error.write_connack(&mut answer);
                refuse(stream, &answer).await;
            }
            Ok(Received::Connect {
                home,
                assigned_client_id,
                version,
            }) => {
                if self.stopping.load(Ordering::Relaxed) {
                    refuse(stream, &refusal(version, ReasonCode::ServerShuttingDown)).await;
                    return;
                }
                let open = self.counters.connections() + self.counters.reception.waiting.get();
                if open > self.connections_max {
                    self.counters.reception.refused_full.add(1);
                    refuse(stream, &refusal(version, ReasonCode::ServerBusy)).await;
                    return;
                }
                // Out of this runtime: from here on the worker's own epoll watches it.
                let Ok(stream) = stream.into_std() else {
                    return;
                };
                let worker = usize::from(home) % self.mailboxes.len();
                let arrival = Arrival {
                    stream,
                    peer,
                    bytes,
                    assigned_client_id,
                };
                self.mailboxes[worker].put(|letters| letters.arrivals.push(arrival));
            }
        }
    }

    async fn read_connect(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Received {
        loop {
            bytes.reserve(READ_BYTES);
            match stream.read_buf(bytes).await {
                Ok(n) if n > 0 => {}
                _ => return Received::Gone,
            }
            match mqtt::decode_connect(bytes, self.packet_size_max) {
                Ok(None) => {}
                Ok(Some((connect, _))) => return accept_connect(&connect),
                Err(error) => return Received::Refused(error),
            }
        }
    }
}

/// Answers and closes. What the peer sent beyond CONNECT is read away first, as far as it has
/// come: closing over unread bytes would reset the connection and lose the answer.
async fn refuse(mut stream: TcpStream, answer: &[u8]) {
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
    let mut scratch = [0; READ_BYTES];
    let _ = stream.try_read(&mut scratch);
}

fn refusal(version: Version, reason: ReasonCode) -> Vec<u8> {
    let mut answer = Vec::new();
    let properties = ConnackProperties::default();
    Packet::Connack(Connack {
        session_present: false,
        reason,
        properties,
    })
    .encode(version, &mut answer);
    answer
}

struct Permit(Arc<Reception>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.waiting.add_permits(1);
    }
}

enum Received {
    Gone,
    Refused(DecodeError),
    Connect {
        home: u8,
        assigned_client_id: Option<String>,
        version: Version,
    },
}

fn accept_connect(connect: &Connect<'_>) -> Received {
    let version = connect.version;
    if !connect.client_id.is_empty() {
        let home = broker::home_of(connect.client_id);
        return Received::Connect {
            home,
            assigned_client_id: None,
            version,
        };
    }
    // Whether an empty id is allowed at all has been judged where CONNECT was decoded.
    let assigned = random::client_id();
    let home = broker::home_of(&assigned);
    Received::Connect {
        home,
        assigned_client_id: Some(assigned),
        version,
    }
}
