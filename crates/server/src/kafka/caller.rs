//! Who sends a request, and where it came in: what every handler is told of the connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::auth::Principal;
use crate::doorway::Doorway;
use crate::settings::{HostPort, KafkaSettings, ListenerSettings, SaslMechanism};
use crate::tls::Tls;

/// What a listener is to the connections that arrive at it.
#[derive(Default)]
pub struct ListenerFacts {
    /// The address that clients are told, where one is set for this listener or for all.
    pub(super) advertised: Option<HostPort>,
    /// How clients log in; none: they do not.
    pub(super) sasl: Vec<SaslMechanism>,
    /// TLS, where it is spoken.
    pub(super) tls: Option<Arc<Tls>>,
    /// What is done with connections before; `None`: nothing.
    pub(super) doorway: Option<Arc<Doorway>>,
}

impl ListenerFacts {
    /// A listener of these settings; `tls` and `doorway` are made from its own.
    pub fn new(
        listener: &ListenerSettings,
        settings: &KafkaSettings,
        tls: Option<Arc<Tls>>,
        doorway: Arc<Doorway>,
    ) -> Arc<Self> {
        let advertised = listener.advertised.clone();
        Arc::new(Self {
            advertised: advertised.or_else(|| settings.advertised.clone()),
            sasl: listener.sasl.clone(),
            tls,
            doorway: Some(doorway),
        })
    }
}

impl fmt::Debug for ListenerFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerFacts")
            .field("advertised", &self.advertised)
            .field("sasl", &self.sasl)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// Who sends a request. Made when the connection is accepted; the principal changes with
/// authentication, the client id with each request, the software with ApiVersions.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Who it is; `User:anonymous` unless it had to say.
    pub principal: Arc<Principal>,
    /// What the client calls itself in the header of this request; may be empty.
    pub client_id: Arc<str>,
    /// Name and version of the client's software (KIP-511), once told.
    pub software: Option<(String, String)>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address at which the client reached the node.
    pub local: SocketAddr,
    /// The listener.
    pub listener: Arc<ListenerFacts>,
}

impl Caller {
    /// A connection of which nothing is known yet.
    pub fn new(peer: SocketAddr, local: SocketAddr, listener: Arc<ListenerFacts>) -> Self {
        Self {
            principal: Arc::new(Principal::anonymous()),
            client_id: Arc::from(""),
            software: None,
            peer,
            local,
            listener,
        }
    }

    /// The address that this client is told to come to.
    pub fn advertised(&self) -> HostPort {
        self.listener
            .advertised
            .clone()
            .unwrap_or_else(|| HostPort {
                host: self.local.ip().to_canonical().to_string(),
                port: self.local.port(),
            })
    }
}
