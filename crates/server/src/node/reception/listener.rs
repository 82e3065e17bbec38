//! A listener as the rest of the node knows it: what it is called, what it asks of clients, what it
//! counts. It must not know sessions.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use door::{Meter, Policy};
use serde::Serialize;

use super::waiting::WaitingRoom;
use crate::node::counters::{ListenerCounters, ListenerValues};
use crate::settings::{ListenerKind, ListenerSettings, Word as _};
use crate::tls::Tls;

/// One listener for MQTT.
#[derive(Debug)]
pub struct ListenerFacts {
    /// Its number among those for MQTT.
    pub index: u16,
    /// Its name: as configured, or its kind and address.
    pub name: String,
    /// The address really bound.
    pub address: SocketAddr,
    /// What is configured for it.
    pub settings: ListenerSettings,
    /// Its certificate, where it speaks TLS.
    pub tls: Option<Arc<Tls>>,
    /// What it takes for an upgrade, where it speaks WebSocket.
    pub policy: Option<Policy>,
    /// What it counts.
    pub counters: ListenerCounters,
    /// Connections that wait for their CONNECT.
    pub(super) waiting: Arc<WaitingRoom>,
    /// Names of the authenticators that clients are asked by; none: nobody is asked.
    authenticators: RwLock<Arc<[String]>>,
}

/// A listener and what it counted.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerRow {
    /// Its name.
    pub name: String,
    /// Its kind, as the configuration spells it.
    pub kind: &'static str,
    /// The address really bound.
    pub address: SocketAddr,
    /// What it counted.
    #[serde(flatten)]
    pub counts: ListenerValues,
}

impl ListenerFacts {
    /// A listener that is bound to `address`.
    ///
    /// # Errors
    /// A file of its certificate is wrong.
    pub fn new(
        index: u16,
        settings: &ListenerSettings,
        address: SocketAddr,
    ) -> Result<Self, String> {
        let name = settings.shown_name(address);
        let policy = settings.kind.speaks_websocket().then(|| Policy {
            path: settings.path.clone(),
            origins: settings.origins.clone(),
            local: address.ip().to_canonical().is_loopback(),
        });
        Ok(Self {
            index,
            name,
            address,
            settings: settings.clone(),
            tls: settings.tls.as_ref().map(Tls::open).transpose()?,
            policy,
            counters: ListenerCounters::default(),
            waiting: Arc::default(),
            authenticators: RwLock::new(settings.authenticators.clone().into()),
        })
    }

    /// Its protocol.
    pub fn kind(&self) -> ListenerKind {
        self.settings.kind
    }

    /// Names of the authenticators that clients are asked by; none: nobody is asked.
    pub fn authenticators(&self) -> Arc<[String]> {
        let named = self.authenticators.read();
        Arc::clone(&named.unwrap_or_else(PoisonError::into_inner))
    }

    /// Has clients that come from now on asked by these.
    pub fn ask_by(&self, names: &[String]) {
        let named = self.authenticators.write();
        *named.unwrap_or_else(PoisonError::into_inner) = names.into();
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

    /// The rates of a client that came at `now_ms`.
    pub fn meter(&self, now_ms: u64) -> Option<Meter> {
        Meter::new(
            self.settings.bytes_in_per_s,
            self.settings.messages_in_per_s,
            now_ms,
        )
    }
}

/// A connection's place among those of its listener; given back when dropped.
#[derive(Debug)]
pub struct Place {
    listener: Arc<ListenerFacts>,
    kept: bool,
}

impl Place {
    /// Takes one, whether there is room or not.
    pub(super) fn take(listener: Arc<ListenerFacts>) -> Self {
        listener.counters.open.add(1);
        Self {
            listener,
            kept: false,
        }
    }

    /// Keeps the place beyond this value: it is given back by the number of its listener, see
    /// [`give_back`].
    pub fn keep(mut self) -> u16 {
        self.kept = true;
        self.listener.index
    }
}

impl Deref for Place {
    type Target = Arc<ListenerFacts>;

    fn deref(&self) -> &Arc<ListenerFacts> {
        &self.listener
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.listener.counters.open.sub(1);
        }
    }
}

/// Gives a kept place back.
pub fn give_back(listeners: &[Arc<ListenerFacts>], index: u16) {
    if let Some(listener) = listeners.get(usize::from(index)) {
        listener.counters.open.sub(1);
    }
}
