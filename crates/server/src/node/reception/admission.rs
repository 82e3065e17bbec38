//! The one place where a connection is let in or not: between its whole CONNECT and the worker. Who
//! may come in is `auth`'s; here its questions travel to the client and back.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mqtt::{Connect, Packet, ReasonCode, Version};

use tokio::time::timeout;

use super::listener::ListenerFacts;
use super::opening::Opening;
use crate::auth::{Auth, Entry, Exchange, Knock};

/// Longest AUTH packet read from a client that is not in yet, in bytes.
const AUTH_BYTES_MAX: u32 = 16 * 1_024;

/// Who asks to come in.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Where it came in.
    pub listener: &'a Arc<ListenerFacts>,
    /// Where it is, as a trusted proxy says if there is one.
    pub peer: SocketAddr,
    /// The certificate that it showed, DER.
    pub certificate: Option<&'a [u8]>,
    /// Its client id, or the one that was chosen for it.
    pub client_id: &'a str,
    /// How long it may take for an answer.
    pub patience: Duration,
}

/// What is decided.
#[derive(Debug)]
pub enum Admission {
    /// It may come in.
    Accepted(Box<Entry>),
    /// It may not, and is told this.
    Refused(ReasonCode),
    /// It is gone.
    Gone,
}

/// Decides. `opening` is there for those who are asked more than once [MQTT-4.12]: what it reads
/// and writes are MQTT packets, whatever they travel through.
pub async fn admit(
    auth: &Auth,
    opening: &mut Opening,
    caller: Caller<'_>,
    connect: &Connect<'_>,
) -> Admission {
    let authenticators = caller.listener.authenticators();
    let knock = Knock {
        authenticators: &authenticators,
        peer: caller.peer,
        certificate: caller.certificate,
        client_id: caller.client_id,
    };
    let method = connect.properties.authentication_method;
    if method.is_none() {
        // Nothing is read meanwhile; but who gives up and comes again must not be let in here, where
        // it would end its own new connection.
        let mut nothing = Nothing;
        return tokio::select! {
            judged = auth.admit(&knock, connect, &mut nothing) => match judged {
                Ok(entry) => Admission::Accepted(Box::new(entry)),
                Err(reason) => Admission::Refused(reason),
            },
            () = opening.gone() => Admission::Gone,
        };
    }
    let mut talk = Talk {
        opening,
        method,
        patience: caller.patience,
        gone: false,
    };
    match auth.admit(&knock, connect, &mut talk).await {
        Ok(entry) => Admission::Accepted(Box::new(entry)),
        Err(_) if talk.gone => Admission::Gone,
        Err(reason) => Admission::Refused(reason),
    }
}

/// A client that is asked nothing more.
struct Nothing;

impl Exchange for Nothing {
    fn exchange(
        &mut self,
        _packet: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + '_>> {
        Box::pin(std::future::ready(None))
    }
}

/// A client that is asked by AUTH packets.
struct Talk<'a> {
    opening: &'a mut Opening,
    method: Option<&'a str>,
    patience: Duration,
    gone: bool,
}

impl Exchange for Talk<'_> {
    fn exchange(
        &mut self,
        packet: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + '_>> {
        Box::pin(async move {
            let answer = timeout(self.patience, self.ask(&packet)).await;
            answer.unwrap_or(None)
        })
    }
}

impl Talk<'_> {
    /// Sends a packet and reads the answer.
    async fn ask(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        if self.opening.send(packet).await.is_err() {
            self.gone = true;
            return None;
        }
        loop {
            match mqtt::decode(&self.opening.bytes, Version::V5, AUTH_BYTES_MAX) {
                Ok(None) => {}
                Ok(Some((Packet::Auth(auth), used))) => {
                    let goes_on = auth.reason == ReasonCode::ContinueAuthentication;
                    // [MQTT-4.12.0-2], [MQTT-4.12.0-5]
                    let data = auth.data.unwrap_or_default().to_vec();
                    let right = goes_on && auth.method == self.method;
                    self.opening.bytes.drain(..used);
                    return right.then_some(data);
                }
                Ok(Some(_)) | Err(_) => return None,
            }
            if self.opening.fill().await.is_err() {
                self.gone = true;
                return None;
            }
        }
    }
}
