//! Who sends a request, and where it came in: what every handler is told of the connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::auth::Principal;
use crate::settings::HostPort;

/// The listener that a connection arrived at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListenerFacts {
    /// The address that clients are told, where one is set for this listener or for all.
    pub advertised: Option<HostPort>,
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
