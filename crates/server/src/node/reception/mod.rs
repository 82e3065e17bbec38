//! Where an MQTT connection is received, by whichever kind of listener: accept, what lies between
//! TCP and MQTT, the bounded wait for a whole CONNECT, admission, the choice of the home worker. A
//! connection leaves here with the bytes read so far and never comes back. It must not know sessions.

pub mod admission;
pub mod limits;
mod listener;
pub mod opening;
mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::access::{Access, Otherwise, Subject};
use door::{Bucket, Source};
use mqtt::{Connack, ConnackProperties, Connect, DecodeError, Packet, ReasonCode, Version};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use self::admission::{Admission, Caller};
use self::limits::{ACCEPT_REST, CONNECT_BYTES_MAX, JUDGED_MAX, SHARED_BYTES};
pub use self::listener::{ListenerFacts, ListenerRow, Place, give_back};
use self::opening::{Opening, Stopped};
use self::waiting::Seat;
use super::counters::Counters;
use super::mailbox::{Ask, Mailbox};
use super::random;
use super::trace::Traces;
use super::transport::Wrapping;
use crate::auth::{Auth, Entry};
use crate::descriptors::{self, Visitor};
use crate::tls::Handshakes;

/// A connection on its way to its home worker.
pub struct Arrival {
    /// Non-blocking.
    pub stream: std::net::TcpStream,
    /// What lies between MQTT and TCP: TLS, WebSocket; nothing on a plain connection.
    pub wrapping: Wrapping,
    /// The client's address, as a trusted proxy says if there is one.
    pub peer: SocketAddr,
    /// Where it came in, and its place among the connections of that listener.
    pub place: Place,
    /// A whole CONNECT and whatever was read behind it; without what the layers add.
    pub bytes: Vec<u8>,
    /// The id chosen for a client that named none.
    pub assigned_client_id: Option<String>,
    /// What admission found.
    pub admitted: Box<Entry>,
}

/// What all listeners share.
pub struct Reception {
    /// Who judges whom to let in.
    pub auth: Arc<Auth>,
    /// One for each worker.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Who traces packets.
    pub traces: Arc<Traces>,
    /// The node's counters.
    pub counters: Arc<Counters>,
    /// Open connections at most, those awaiting their CONNECT included.
    pub connections_max: u64,
    /// From accept to a whole CONNECT, where the listener says nothing else.
    pub connect_timeout: Duration,
    /// Largest packet taken.
    pub packet_size_max: u32,
    handshakes: Handshakes,
    /// Memory of long CONNECTs, in bytes.
    shared: Arc<Semaphore>,
    /// Connections that are judged.
    judged: Semaphore,
    stopping: watch::Receiver<bool>,
}

impl Reception {
    /// Ready to `serve` listeners until `stopping` turns true.
    pub fn new(
        auth: Arc<Auth>,
        mailboxes: Vec<Arc<Mailbox>>,
        traces: Arc<Traces>,
        counters: Arc<Counters>,
        settings: &crate::settings::MqttSettings,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            auth,
            mailboxes,
            traces,
            counters,
            connections_max: u64::from(settings.connections_max),
            connect_timeout: Duration::from_millis(settings.connect_timeout_ms),
            packet_size_max: settings.packet_size_max.min(CONNECT_BYTES_MAX),
            handshakes: Handshakes::default(),
            shared: Arc::new(Semaphore::new(SHARED_BYTES)),
            judged: Semaphore::new(JUDGED_MAX),
            stopping,
        }
    }

    /// Accepts until the node stops.
    pub async fn serve(self: Arc<Self>, facts: Arc<ListenerFacts>, listener: TcpListener) {
        let mut stop = self.stopping.clone();
        let start = Instant::now();
        let mut rate = facts
            .settings
            .connections_per_s
            .map(|per_s| Bucket::new(per_s, 0));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|&stop| stop) => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, listener = facts.name, "cannot accept an MQTT connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            self.counters.reception.accepted.add(1);
            facts.counters.accepted.add(1);
            if !descriptors::leaves_enough(&stream, Visitor::Client, &facts.name) {
                facts.counters.refused_full.add(1);
                continue;
            }
            if let Some(rate) = &mut rate {
                let now_ms = || start.elapsed().as_millis() as u64;
                rate.take(1, now_ms());
                let wait = rate.wait_ms(now_ms());
                if wait > 0 {
                    // The others wait in the backlog.
                    facts.counters.accept_waits.add(1);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
            }
            let seat = tokio::select! {
                seat = facts.waiting.enter(peer.ip()) => seat,
                _ = stop.wait_for(|&stop| stop) => return,
            };
            let (reception, facts) = (Arc::clone(&self), Arc::clone(&facts));
            tokio::spawn(async move { reception.receive(stream, peer, &facts, seat).await });
        }
    }

    /// Receives one connection, to its worker or to its end.
    async fn receive(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        facts: &Arc<ListenerFacts>,
        seat: Seat,
    ) {
        let place = Place::take(Arc::clone(facts));
        let level = Level::of(&self.counters);
        let mut opening = Opening::new(stream, Arc::clone(&self.shared));
        let wait = self.patience(facts);
        let introduced = self.introduce(&mut opening, peer, facts, &seat);
        let introduced = tokio::select! {
            introduced = timeout(wait, introduced) => introduced,
            () = seat.taken_back() => Ok(Err(Stopped::Crowded)),
        };
        // From here on it is judged; who only waits does not stand in its way.
        drop((seat, level));
        let introduced = match introduced {
            Ok(Ok(introduced)) => introduced,
            Err(_) => {
                self.counters.reception.timeouts.add(1);
                facts.counters.timeouts.add(1);
                return;
            }
            Ok(Err(stopped)) => {
                tell(&stopped, peer, facts);
                return;
            }
        };
        let peer = introduced.peer;
        match introduced.connect {
            Ok(used) => self.admit(opening, place, introduced, used).await,
            Err(error) => {
                self.counters.reception.refused_connect.add(1);
                facts.counters.refused_connect.add(1);
                debug!(%peer, %error, listener = facts.name, "CONNECT refused");
                let why = error.to_string();
                self.traces
                    .tell_refused("", introduced.peer.ip(), None, &why);
                let mut answer = Vec::new();
                error.write_connack(&mut answer);
                opening.end_with(&answer).await;
            }
        }
    }

    /// How long a client has for its CONNECT, and for each of its answers behind that.
    fn patience(&self, facts: &ListenerFacts) -> Duration {
        let own = facts.settings.connect_timeout_ms;
        own.map_or(self.connect_timeout, Duration::from_millis)
    }

    /// All that comes before CONNECT, and CONNECT.
    async fn introduce(
        &self,
        opening: &mut Opening,
        peer: SocketAddr,
        facts: &ListenerFacts,
        seat: &Seat,
    ) -> Result<Introduced, Stopped> {
        let mut from = peer;
        if facts.settings.expects_proxy(peer.ip())
            && let Source::Address(behind) = opening.proxy().await?
        {
            from = behind;
            seat.is_now(from.ip());
        }
        if self.auth.turns_away(from.ip()) {
            return Err(Stopped::Gone);
        }
        if let Some(tls) = &facts.tls {
            let config = tls.config();
            let secured = opening
                .secure(config, || self.handshakes.step(from.ip()))
                .await;
            self.handshakes.count(secured.is_ok());
            match secured {
                Ok(()) => facts.counters.handshakes.add(1),
                Err(_) => return Err(Stopped::Tls),
            }
        }
        if let Some(policy) = &facts.policy {
            opening.upgrade(policy).await?;
            facts.counters.upgrades.add(1);
        }
        loop {
            match mqtt::decode_connect(&opening.bytes, self.packet_size_max) {
                Ok(None) => opening.fill().await?,
                Ok(Some((_, used))) => {
                    let (bytes, share) = opening.take_bytes();
                    return Ok(Introduced {
                        peer: from,
                        bytes,
                        connect: Ok(used),
                        _share: share,
                    });
                }
                Err(error) => {
                    return Ok(Introduced {
                        peer: from,
                        bytes: Vec::new(),
                        connect: Err(error),
                        _share: None,
                    });
                }
            }
        }
    }

    /// Lets a client in, or tells it why not; `bytes[..used]` is its CONNECT.
    async fn admit(&self, mut opening: Opening, place: Place, introduced: Introduced, used: usize) {
        let Introduced {
            peer,
            mut bytes,
            _share,
            ..
        } = introduced;
        let Ok(Some((connect, _))) = mqtt::decode_connect(&bytes, self.packet_size_max) else {
            return;
        };
        let version = connect.version;
        let tell = |client_id: &str, reason: ReasonCode| {
            let connect = Packet::Connect(connect.clone());
            let why = reason.name();
            self.traces
                .tell_refused(client_id, peer.ip(), Some(&connect), why);
        };
        if *self.stopping.borrow() {
            tell(connect.client_id, ReasonCode::ServerShuttingDown);
            let answer = refusal(version, ReasonCode::ServerShuttingDown);
            return opening.end_with(&answer).await;
        }
        if self.is_full(&place) {
            self.counters.reception.refused_full.add(1);
            place.counters.refused_full.add(1);
            tell(connect.client_id, ReasonCode::QuotaExceeded);
            let answer = refusal(version, ReasonCode::QuotaExceeded);
            return opening.end_with(&answer).await;
        }
        let Ok(_judged) = self.judged.try_acquire() else {
            self.counters.reception.refused_full.add(1);
            let answer = refusal(version, ReasonCode::ServerBusy);
            return opening.end_with(&answer).await;
        };
        opening.bytes = bytes[used..].to_vec();
        let certificate = opening.certificate().map(<[u8]>::to_vec);
        // Whether an empty id is allowed at all has been judged where CONNECT was decoded.
        let assigned_client_id = connect.client_id.is_empty().then(random::client_id);
        let client_id = assigned_client_id.as_deref().unwrap_or(connect.client_id);
        let caller = Caller {
            listener: &place,
            peer,
            certificate: certificate.as_deref(),
            client_id,
            patience: self.patience(&place),
        };
        let admitted = admission::admit(&self.auth, &mut opening, caller, &connect).await;
        let admitted = self.remember(admitted, &connect, client_id, peer).await;
        let admitted = match admitted {
            Admission::Accepted(entry) => entry,
            Admission::Refused(reason) => {
                place.counters.refused_admission.add(1);
                tell(client_id, reason);
                return opening.end_with(&refusal(version, reason)).await;
            }
            Admission::Gone => return,
        };
        let client_id = admitted.admitted.client_id.as_deref().unwrap_or(client_id);
        let worker = usize::from(broker::home_of(client_id)) % self.mailboxes.len();
        bytes.truncate(used);
        bytes.append(&mut opening.bytes);
        // Out of this runtime: from here on the worker's own epoll watches it.
        let Ok((stream, wrapping)) = opening.into_parts() else {
            return;
        };
        // Who gave up meanwhile, and perhaps came again, must not take its session over now.
        if bytes.len() == used && matches!(stream.peek(&mut [0; 1]), Ok(0)) {
            return;
        }
        let arrival = Arrival {
            stream,
            wrapping,
            peer,
            place,
            bytes,
            assigned_client_id,
            admitted,
        };
        self.mailboxes[worker].put(|letters| letters.arrivals.push(arrival));
    }

    /// Finds out what only a callout knows of the subscriptions that a client is about to resume.
    async fn remember(
        &self,
        admission: Admission,
        connect: &Connect<'_>,
        client_id: &str,
        peer: SocketAddr,
    ) -> Admission {
        let Admission::Accepted(mut entry) = admission else {
            return admission;
        };
        let admitted = &mut entry.admitted;
        let asked = |access: &&Arc<Access>| {
            access.otherwise == Otherwise::Ask && !access.super_user && !connect.clean_start
        };
        let Some(access) = admitted.access.as_ref().filter(asked) else {
            return Admission::Accepted(entry);
        };
        let own = connect.username.filter(|_| !admitted.unnamed);
        let subject = Subject {
            client_id: admitted.client_id.as_deref().unwrap_or(client_id),
            username: admitted.username.as_deref().or(own).unwrap_or(""),
            address: Some(peer.ip()),
        };
        let (answer, questions) = oneshot::channel();
        let ask = Ask::Return {
            client_id: subject.client_id.to_owned(),
            username: subject.username.to_owned(),
            address: peer.ip(),
            access: Arc::clone(access),
            answer,
        };
        let home = usize::from(broker::home_of(subject.client_id)) % self.mailboxes.len();
        self.mailboxes[home].put(|letters| letters.asks.push(ask));
        let questions = questions.await.unwrap_or_default();
        if questions.is_empty() {
            return Admission::Accepted(entry);
        }
        match self.auth.permits_on_return(&subject, questions).await {
            Some(permits) => {
                admitted.permits.extend(permits);
                Admission::Accepted(entry)
            }
            None => Admission::Refused(ReasonCode::ServerUnavailable),
        }
    }

    /// Whether the node or the listener has more connections than it may; the one that asks counts,
    /// and those that have not sent their CONNECT do not: whoever is silent keeps nobody out.
    fn is_full(&self, listener: &ListenerFacts) -> bool {
        let own = listener.counters.open.get();
        let own = own.saturating_sub(listener.waiting.len() as u64);
        let most = listener.settings.connections_max;
        self.counters.connections() >= self.connections_max
            || most.is_some_and(|most| own > u64::from(most))
    }
}

/// What a connection has said when its CONNECT, or what stands for it, is whole.
struct Introduced {
    peer: SocketAddr,
    bytes: Vec<u8>,
    /// Length of the CONNECT in `bytes`.
    connect: Result<usize, DecodeError>,
    /// The memory of `bytes`, for as long as they are judged.
    _share: Option<OwnedSemaphorePermit>,
}

fn tell(stopped: &Stopped, peer: SocketAddr, facts: &ListenerFacts) {
    let (count, why) = match stopped {
        Stopped::Gone => return,
        Stopped::Crowded => (&facts.counters.crowded_out, "crowded out".to_owned()),
        Stopped::Proxy(error) => (&facts.counters.refused_proxy, error.to_string()),
        Stopped::Tls => (&facts.counters.handshakes_failed, "no TLS".to_owned()),
        Stopped::Upgrade(why) => (&facts.counters.upgrades_failed, (*why).to_owned()),
        Stopped::WebSocket(why) => (&facts.counters.broken_frames, (*why).to_owned()),
    };
    count.add(1);
    debug!(%peer, why, listener = facts.name, "a connection did not come in");
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

/// One of the connections of the node that wait for their CONNECT, as they are counted.
struct Level<'a>(&'a Counters);

impl<'a> Level<'a> {
    fn of(counters: &'a Counters) -> Self {
        counters.reception.waiting.add(1);
        Self(counters)
    }
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.reception.waiting.sub(1);
    }
}
