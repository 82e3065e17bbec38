//! What lies between MQTT and TCP on a connection that is not plain: TLS, WebSocket frames, and how
//! fast the client may be. Bytes in and bytes out, for reception and worker alike; only sending
//! touches a socket.

use std::sync::Arc;

use door::websocket::CloseCode;
use door::{End, Meter, Role, WebSocket};
use mio::net::TcpStream;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use super::secure::Secure;
use super::socket;

/// What is wrapped at one time, so that what the network does not take stays bounded.
const CHUNK_BYTES: usize = 32 * 1024;

/// The key of frames that a server sends: they are not masked.
const NO_KEY: [u8; 4] = [0; 4];

/// What became of received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// More may come.
    Open,
    /// The peer said good-bye.
    Ended,
    /// The peer broke the protocol of this layer.
    Broken(&'static str),
}

/// The layers of one connection.
#[derive(Default)]
pub struct Wrapping {
    secure: Option<Box<Secure>>,
    websocket: Option<Box<WebSocket>>,
    meter: Option<Box<Meter>>,
    /// Wrapped, and not yet taken by the network; holds no memory when there is none.
    unsent: Vec<u8>,
    /// Nothing is read from the client until its time has come.
    pub waits: bool,
    said_goodbye: bool,
}

impl Wrapping {
    /// Puts TLS next to TCP.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn secure(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        self.secure = Some(Box::new(Secure::new(config)?));
        Ok(())
    }

    /// Puts WebSocket between MQTT and what there is.
    pub fn frame(&mut self) {
        self.websocket = Some(Box::new(WebSocket::new(Role::Server)));
    }

    /// Bounds how fast the client is read.
    pub fn measure(&mut self, meter: Option<Meter>) {
        self.meter = meter.map(Box::new);
    }

    /// How fast the client may be, if that is bounded.
    pub fn meter(&mut self) -> Option<&mut Meter> {
        self.meter.as_deref_mut()
    }

    /// Bytes travel as they are: there are rates only.
    pub fn is_bare(&self) -> bool {
        self.secure.is_none() && self.websocket.is_none()
    }

    /// Whether there is nothing at all.
    pub fn is_nothing(&self) -> bool {
        self.is_bare() && self.meter.is_none()
    }

    /// Whether the handshake of TLS is not done.
    pub fn is_handshaking(&self) -> bool {
        self.secure
            .as_ref()
            .is_some_and(|secure| secure.is_handshaking())
    }

    /// The certificate that the client showed.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.secure.as_ref()?.certificate()
    }

    /// Whether the network has not taken all.
    pub fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes the wrapped bytes that wait to be sent.
    pub fn take_unsent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unsent)
    }

    /// Takes what came from the network, destroying it; what it means is appended to `plain`, what
    /// the layers themselves answer waits to be sent.
    pub fn receive(&mut self, fresh: &mut [u8], plain: &mut Vec<u8>) -> Flow {
        let from = plain.len();
        let mut flow = Flow::Open;
        match &mut self.secure {
            None => plain.extend_from_slice(fresh),
            Some(secure) => match secure.receive(fresh, plain, &mut self.unsent) {
                Ok(false) => {}
                Ok(true) => flow = Flow::Ended,
                Err(_) => flow = Flow::Broken("TLS"),
            },
        }
        match self.decode(plain, from) {
            Flow::Open => flow,
            ended => ended,
        }
    }

    /// As [`Wrapping::receive`], for bytes that have gone through TLS already.
    pub fn receive_frames(&mut self, fresh: &[u8], plain: &mut Vec<u8>) -> Flow {
        let from = plain.len();
        plain.extend_from_slice(fresh);
        self.decode(plain, from)
    }

    /// Takes the frames of WebSocket, if there are any, off what lies in `plain` from `from` on.
    fn decode(&mut self, plain: &mut Vec<u8>, from: usize) -> Flow {
        let Some(websocket) = &mut self.websocket else {
            return Flow::Open;
        };
        let mut replies = Vec::new();
        let decoded = websocket.decode(&mut plain[from..], &mut replies);
        plain.truncate(from + decoded.len);
        let flow = match decoded.end {
            None => Flow::Open,
            Some(End::Closed) => Flow::Ended,
            Some(End::Failed(why)) => Flow::Broken(why),
        };
        // Who lets nothing be sent is owed no answers to its pings.
        let owed = flow != Flow::Open || self.unsent.len() < door::limits::PONG_BYTES_MAX;
        if !replies.is_empty() && owed {
            self.append(&replies);
        }
        flow
    }

    /// Wraps `plain`; it waits to be sent. `Err`: the connection is broken.
    pub fn wrap(&mut self, plain: &[u8]) -> Result<(), ()> {
        let Some(websocket) = &self.websocket else {
            return self.append(plain).then_some(()).ok_or(());
        };
        if self.secure.is_none() {
            websocket.encode(plain, NO_KEY, &mut self.unsent);
            return Ok(());
        }
        let mut frame = Vec::with_capacity(plain.len() + door::limits::FRAME_HEADER_BYTES_MAX);
        websocket.encode(plain, NO_KEY, &mut frame);
        self.append(&frame).then_some(()).ok_or(())
    }

    /// Wraps the good-byes of the layers, once.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.said_goodbye, true) {
            return;
        }
        let mut close = Vec::new();
        if let Some(websocket) = &mut self.websocket {
            websocket.close(CloseCode::Normal, NO_KEY, &mut close);
        }
        if (close.is_empty() || self.append(&close))
            && let Some(secure) = &mut self.secure
        {
            secure.close(&mut self.unsent);
        }
    }

    /// Appends bytes above TLS; false: it cannot take any more.
    fn append(&mut self, bytes: &[u8]) -> bool {
        match &mut self.secure {
            None => {
                self.unsent.extend_from_slice(bytes);
                true
            }
            Some(secure) => secure.encrypt(bytes, &mut self.unsent).is_ok(),
        }
    }

    /// Sends what waits. `Err`: broken.
    pub fn flush(&mut self, stream: &mut TcpStream) -> Result<(), ()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let sent = socket::send(stream, &self.unsent)?;
        if sent == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// Sends what waits and then as much of `plain` as the network takes; answers how much of it
    /// was wrapped, which is never wrapped again. `Err`: broken.
    pub fn send(&mut self, stream: &mut TcpStream, plain: &[u8]) -> Result<usize, ()> {
        self.flush(stream)?;
        let mut taken = 0;
        while taken < plain.len() && self.unsent.is_empty() {
            let end = plain.len().min(taken + CHUNK_BYTES);
            self.wrap(&plain[taken..end])?;
            taken = end;
            self.flush(stream)?;
        }
        Ok(taken)
    }
}
