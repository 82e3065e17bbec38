//! A connection that is not with its worker yet: PROXY header, TLS handshake and upgrade, and MQTT
//! packets through whatever they travel. Each step has its bound in bytes; the caller has the clock.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use door::{ProxyError, Source};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::limits::{OWN_BYTES, READ_BYTES, REFUSE_MAX};
use crate::node::transport::{Flow, Wrapping};

/// Why a step was not made.
#[derive(Debug)]
pub enum Stopped {
    /// The connection broke or was closed.
    Gone,
    /// The PROXY header is none.
    Proxy(ProxyError),
    /// TLS was not agreed on.
    Tls,
    /// The request for an upgrade was refused, and this was said.
    Upgrade(&'static str),
    /// The peer broke the rules of WebSocket.
    WebSocket(&'static str),
    /// There is no memory for what it sends, or its place is wanted by others.
    Crowded,
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A connection on its way to a worker.
pub struct Opening {
    stream: TcpStream,
    wrapping: Wrapping,
    /// Read and not handled: MQTT, once all layers stand.
    pub bytes: Vec<u8>,
    /// Where memory beyond a connection's own comes from, and what this one has of it.
    shared: Arc<Semaphore>,
    share: Option<OwnedSemaphorePermit>,
}

impl Opening {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, shared: Arc<Semaphore>) -> Self {
        // A device waits for one small answer at a time.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            wrapping: Wrapping::default(),
            bytes: Vec::new(),
            shared,
            share: None,
        }
    }

    /// Reads the PROXY header with which the connection must begin.
    ///
    /// # Errors
    /// There is none.
    pub async fn proxy(&mut self) -> Result<Source, Stopped> {
        loop {
            // Whatever is behind a header is not read far.
            match door::proxy::parse(&self.bytes).map_err(Stopped::Proxy)? {
                Some((source, used)) => {
                    self.bytes.drain(..used);
                    return Ok(source);
                }
                None => self.fill().await?,
            }
        }
    }

    /// Shakes hands; `turn` is waited for before each step, and held for as long as the step takes
    /// here: never while the peer is waited for. What was read already is the beginning of it.
    ///
    /// # Errors
    /// The peers do not agree; the client was told.
    pub async fn secure<F, P>(
        &mut self,
        config: Arc<ServerConfig>,
        turn: impl Fn() -> F,
    ) -> Result<(), Stopped>
    where
        F: Future<Output = P>,
    {
        self.wrapping.secure(config).map_err(|_| Stopped::Tls)?;
        let mut raw = std::mem::take(&mut self.bytes);
        loop {
            if !raw.is_empty() {
                let flow = {
                    let _held = turn().await;
                    self.wrapping.receive(&mut raw, &mut self.bytes)
                };
                self.flush().await?;
                if flow != Flow::Open {
                    return Err(Stopped::Tls);
                }
                if !self.wrapping.is_handshaking() {
                    return Ok(());
                }
            }
            raw.resize(READ_BYTES, 0);
            let read = self.stream.read(&mut raw).await?;
            if read == 0 {
                return Err(Stopped::Gone);
            }
            raw.truncate(read);
        }
    }

    /// Answers the request for an upgrade.
    ///
    /// # Errors
    /// It is not served; the client was told.
    pub async fn upgrade(&mut self, policy: &door::Policy) -> Result<(), Stopped> {
        loop {
            match door::upgrade::accept(&self.bytes, policy) {
                Ok(None) => self.fill().await?,
                Ok(Some(accepted)) => {
                    self.send(&accepted.response).await?;
                    self.wrapping.frame();
                    let early = self.bytes.split_off(accepted.used);
                    self.bytes.clear();
                    // They have gone through TLS, if there is any, and must not again.
                    let flow = self.wrapping.receive_frames(&early, &mut self.bytes);
                    return self.judge(flow).await;
                }
                Err(refused) => {
                    self.end_with(&refused.response).await;
                    return Err(Stopped::Upgrade(refused.why));
                }
            }
        }
    }

    /// Waits until more MQTT bytes have come.
    ///
    /// # Errors
    /// None will, or there is no memory for them.
    pub async fn fill(&mut self) -> Result<(), Stopped> {
        self.make_room()?;
        let before = self.bytes.len();
        while self.bytes.len() == before {
            let flow = self.read().await?;
            if flow != Flow::Open && self.bytes.len() > before {
                // What came before the end may still be handled; the worker sees the end again, but
                // not the good-bye of a layer, which is answered here.
                return self.flush().await;
            }
            self.judge(flow).await?;
        }
        Ok(())
    }

    /// Makes room for what is read next: exactly, not by doubling, and beyond a connection's own memory
    /// out of what all share.
    fn make_room(&mut self) -> Result<(), Stopped> {
        let wanted = self.bytes.len() + READ_BYTES;
        if wanted <= self.bytes.capacity() {
            return Ok(());
        }
        let room = wanted.max(self.bytes.len() + self.bytes.len() / 4);
        let held = self
            .share
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(more) = room.checked_sub(OWN_BYTES + held).filter(|more| *more > 0) {
            let more = u32::try_from(more).map_err(|_| Stopped::Crowded)?;
            let more = Arc::clone(&self.shared).try_acquire_many_owned(more);
            let more = more.map_err(|_| Stopped::Crowded)?;
            match &mut self.share {
                Some(share) => share.merge(more),
                None => self.share = Some(more),
            }
        }
        self.bytes.reserve_exact(room - self.bytes.len());
        Ok(())
    }

    /// Sends MQTT bytes, or whatever is spoken at this point.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        if self.wrapping.is_bare() {
            return Ok(self.stream.write_all(bytes).await?);
        }
        self.wrapping.wrap(bytes).map_err(|()| Stopped::Gone)?;
        self.flush().await
    }

    /// Sends a last answer and closes. What the peer sends beyond is read away until it closes too:
    /// closing over unread bytes would reset the connection and lose the answer.
    pub async fn end_with(&mut self, answer: &[u8]) {
        let lingering = async {
            self.send(answer).await?;
            self.wrapping.end();
            self.flush().await?;
            self.stream.shutdown().await?;
            let mut scratch = [0; READ_BYTES];
            while self.stream.read(&mut scratch).await? > 0 {}
            Ok::<(), Stopped>(())
        };
        let _ = timeout(REFUSE_MAX, lingering).await;
    }

    /// Takes what was read, and the memory that it was given.
    pub fn take_bytes(&mut self) -> (Vec<u8>, Option<OwnedSemaphorePermit>) {
        (std::mem::take(&mut self.bytes), self.share.take())
    }

    /// The certificate that the client showed, DER.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.wrapping.certificate().map(|shown| &shown[..])
    }

    /// Out of this runtime: the stream, and what lies between it and MQTT.
    ///
    /// # Errors
    /// The system does not let it go.
    pub fn into_parts(self) -> io::Result<(std::net::TcpStream, Wrapping)> {
        Ok((self.stream.into_std()?, self.wrapping))
    }

    /// The peer's address.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Returns once the peer has closed, as far as that can be seen without reading: what it sent
    /// before hides it.
    pub async fn gone(&self) {
        if matches!(self.stream.peek(&mut [0; 1]).await, Ok(1..)) {
            std::future::pending::<()>().await;
        }
    }

    async fn judge(&mut self, flow: Flow) -> Result<(), Stopped> {
        // Answers of the layers: pongs, tickets, an alert or a close code.
        self.flush().await?;
        match flow {
            Flow::Open => Ok(()),
            Flow::Ended => Err(Stopped::Gone),
            Flow::Broken("TLS") => Err(Stopped::Tls),
            Flow::Broken(why) => Err(Stopped::WebSocket(why)),
        }
    }

    /// Reads once.
    async fn read(&mut self) -> Result<Flow, Stopped> {
        if self.wrapping.is_bare() {
            let n = self.stream.read_buf(&mut self.bytes).await?;
            return if n == 0 {
                Err(Stopped::Gone)
            } else {
                Ok(Flow::Open)
            };
        }
        loop {
            self.stream.readable().await?;
            let mut raw = [0; READ_BYTES];
            match self.stream.try_read(&mut raw) {
                Ok(0) => return Err(Stopped::Gone),
                Ok(n) => return Ok(self.wrapping.receive(&mut raw[..n], &mut self.bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        let unsent = self.wrapping.take_unsent();
        if !unsent.is_empty() {
            self.stream.write_all(&unsent).await?;
        }
        Ok(())
    }
}
