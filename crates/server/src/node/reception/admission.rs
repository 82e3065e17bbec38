//! The one place where a connection is let in or not: between its whole CONNECT and the worker.

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt::{Connect, ReasonCode};

use super::listener::ListenerFacts;
use super::opening::Opening;

/// Who asks to come in.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Where it came in.
    pub listener: &'a Arc<ListenerFacts>,
    /// Where it is, as a trusted proxy says if there is one.
    pub peer: SocketAddr,
    /// The certificate that it showed, DER.
    pub certificate: Option<&'a [u8]>,
}

/// What is decided.
#[derive(Debug)]
pub enum Admission {
    /// It may come in.
    Accepted(Admitted),
    /// It may not, and is told this.
    Refused(ReasonCode),
    /// It is gone.
    Gone,
}

/// What the worker learns about a client that was let in.
#[derive(Debug, Clone, Default)]
pub struct Admitted {}

/// Decides. `opening` is there for those who are asked more than once [MQTT-4.12]: what it reads
/// and writes are MQTT packets, whatever they travel through.
pub async fn admit(
    _opening: &mut Opening,
    _caller: Caller<'_>,
    _connect: &Connect<'_>,
) -> Admission {
    Admission::Accepted(Admitted::default())
}
