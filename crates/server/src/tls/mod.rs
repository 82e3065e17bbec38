//! TLS for any listener: certificates from files, taken anew when the files change, handshakes with
//! a deadline and a bound, and who a client certificate is. It knows no protocol inside.

mod files;
pub mod limits;
mod names;
mod subject;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;
pub use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

pub use self::names::{NameOf, name_of};

use self::files::Stamp;

/// TLS of one listener, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// File with the certificate and what links it to its root, PEM.
    pub certificate: PathBuf,
    /// File with the private key, PEM.
    pub key: PathBuf,
    /// File with the certificates that those of clients must come from, PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_certificate: ClientCertificate,
    /// What of a client's certificate names its principal.
    pub principal: CertificatePrincipal,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// They are not asked for one.
    None,
    /// They may; one that is shown must be right.
    Optional,
    /// They must.
    Required,
}

/// What of a client's certificate names its principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificatePrincipal {
    /// The whole subject as Apache Kafka writes it: `CN=lock,O=acme`.
    Subject,
    /// Its common name alone: `lock`.
    CommonName,
}

/// Why a connection did not get through its handshake.
#[derive(Debug)]
pub enum HandshakeError {
    /// It took too long.
    TimedOut,
    /// The peers did not agree, or the connection broke.
    Failed(io::Error),
    /// The client's certificate names nobody.
    Nameless,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the handshake took too long"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Nameless => f.write_str("the client certificate has no subject to name it by"),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// TLS of one listener.
pub struct Tls {
    settings: TlsSettings,
    config: RwLock<Arc<ServerConfig>>,
    stamp: Mutex<Stamp>,
}

/// Handshakes of all listeners of a kind: how many may be under way, and how they went.
#[derive(Debug)]
pub struct Handshakes {
    places: Semaphore,
    /// The places of each address that shakes hands or waits to.
    by_address: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self {
            places: Semaphore::new(limits::HANDSHAKES_MAX),
            by_address: Mutex::default(),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl Handshakes {
    /// Handshakes that were completed, and those that were not.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }

    /// A turn for one step of a handshake with a client at `peer`, over when it is dropped.
    pub async fn step(&self, peer: IpAddr) -> Turn<'_> {
        let own = self.of(peer);
        let places = Arc::clone(&own.places);
        let own_place = places.acquire_owned().await;
        Turn {
            _place: self.places.acquire().await,
            _own_place: own_place,
            _own: own,
        }
    }

    /// A handshake is over.
    pub fn count(&self, done: bool) {
        let count = if done { &self.done } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs a handshake with a client at `peer` within the time for one: `hello` waits for the client
    /// to say something, `shake` goes on from there once it is its turn.
    ///
    /// # Errors
    /// It failed or took too long.
    pub async fn run<H, T, F>(
        &self,
        peer: IpAddr,
        hello: impl Future<Output = Result<H, HandshakeError>>,
        shake: impl FnOnce(H) -> F,
    ) -> Result<T, HandshakeError>
    where
        F: Future<Output = Result<T, HandshakeError>>,
    {
        let placed = async {
            let hello = hello.await?;
            let _turn = self.step(peer).await;
            shake(hello).await
        };
        let shaken = timeout(limits::HANDSHAKE_MAX, placed).await;
        let shaken = shaken.unwrap_or(Err(HandshakeError::TimedOut));
        self.count(shaken.is_ok());
        shaken
    }

    /// The places of an address.
    fn of(&self, address: IpAddr) -> AddressPlaces<'_> {
        let address = crate::auth::counted_as(address);
        let places = self
            .addresses()
            .entry(address)
            .or_insert_with(|| Arc::new(Semaphore::new(limits::HANDSHAKES_MAX_PER_ADDRESS)))
            .clone();
        AddressPlaces {
            all: self,
            address,
            places,
        }
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the handshakes that are under way.
pub struct Turn<'a> {
    _place: Result<SemaphorePermit<'a>, AcquireError>,
    _own_place: Result<OwnedSemaphorePermit, AcquireError>,
    _own: AddressPlaces<'a>,
}

/// The places of an address, forgotten with the last of its connections that needs them.
struct AddressPlaces<'a> {
    all: &'a Handshakes,
    address: IpAddr,
    places: Arc<Semaphore>,
}

impl Drop for AddressPlaces<'_> {
    fn drop(&mut self) {
        let mut addresses = self.all.addresses();
        // One is the map's, one is ours; under its lock nobody gets another.
        if Arc::strong_count(&self.places) <= 2 {
            addresses.remove(&self.address);
        }
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file is wrong, how, and what to do.
    pub fn open(settings: &TlsSettings) -> Result<Arc<Self>, String> {
        let stamp = Stamp::of(settings);
        let config = files::server_config(settings)?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            config: RwLock::new(config),
            stamp: Mutex::new(stamp),
        }))
    }

    /// Shakes hands on a connection of a client at `peer`. Answers the encrypted stream, and the principal's name that
    /// the client's certificate gives, if it showed one.
    ///
    /// # Errors
    /// The handshake failed or took too long; the connection is gone.
    pub async fn accept(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        handshakes: &Handshakes,
    ) -> Result<(TlsStream<TcpStream>, Option<String>), HandshakeError> {
        let hello = async {
            // A whole ClientHello first: who does not even send that takes nobody's place.
            let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
            hello.await.map_err(HandshakeError::Failed)
        };
        handshakes.run(peer, hello, |hello| self.shake(hello)).await
    }

    /// What connections that come now are offered.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn shake(
        &self,
        hello: StartHandshake<TcpStream>,
    ) -> Result<(TlsStream<TcpStream>, Option<String>), HandshakeError> {
        let stream = hello
            .into_stream(self.config())
            .await
            .map_err(HandshakeError::Failed)?;
        let (_, session) = stream.get_ref();
        let name = match session.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => Some(self.name(certificate).ok_or(HandshakeError::Nameless)?),
            None => None,
        };
        Ok((stream, name))
    }

    fn name(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        let subject = subject::read(certificate)?;
        match self.settings.principal {
            CertificatePrincipal::Subject => Some(subject.distinguished_name()),
            CertificatePrincipal::CommonName => subject.common_name(),
        }
        .filter(|name| !name.is_empty())
    }

    /// Reads the files again if they have changed, or whatever they are where `whatever` is true.
    /// Connections that are open stay as they are. Answers whether there is something new.
    ///
    /// # Errors
    /// A file is wrong; what was read before goes on being used.
    pub fn reload(&self, whatever: bool) -> Result<bool, String> {
        let now = Stamp::of(&self.settings);
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *stamp == now && !whatever {
            return Ok(false);
        }
        let config = files::server_config(&self.settings)?;
        // Only now: files that were wrong, or half written, are looked at again.
        *stamp = now;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(true)
    }
}

/// Reads the files of all listeners anew as they change, and on SIGHUP, until `stop` is true or its
/// sender gone.
pub async fn keep_fresh(listeners: Vec<Arc<Tls>>, mut stop: watch::Receiver<bool>) {
    if listeners.is_empty() {
        return;
    }
    let mut hangup = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::warn!(%error, "cannot wait for SIGHUP; certificates are still looked at");
            return watch_files(&listeners, &mut stop).await;
        }
    };
    loop {
        let whatever = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            _ = hangup.recv() => true,
            () = tokio::time::sleep(limits::RELOAD_CHECK) => false,
        };
        look(&listeners, whatever).await;
    }
}

async fn watch_files(listeners: &[Arc<Tls>], stop: &mut watch::Receiver<bool>) {
    while timeout(limits::RELOAD_CHECK, stop.wait_for(|stop| *stop))
        .await
        .is_err()
    {
        look(listeners, false).await;
    }
}

async fn look(listeners: &[Arc<Tls>], whatever: bool) {
    for tls in listeners {
        let tls = Arc::clone(tls);
        let file = tls.settings.certificate.display().to_string();
        let looked = tokio::task::spawn_blocking(move || tls.reload(whatever)).await;
        match looked {
            Ok(Ok(true)) => tracing::info!(file, "the certificate was read anew"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => {
                tracing::error!(error, "the old certificate stays in use");
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
