//! How the program's own clients travel: TCP, TLS, WebSocket over either, as one stream of bytes,
//! blocking or not. It shares no code with the listeners but the frames of crate `door`.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use door::{Role, WebSocket};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore};

use crate::node::random;

/// What is wrapped at one time.
const CHUNK_BYTES: usize = 16 * 1024;

/// How long connecting, and each step of the handshakes, may take.
const STEP_MAX: Duration = Duration::from_secs(10);

/// Options that say how to travel.
#[derive(Debug, Clone, Default, Args)]
pub struct WayArgs {
    /// TLS: file with the certificates that the broker's must come from, PEM
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// Own certificate, PEM (TLS)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// TLS with whatever certificate the broker shows
    #[arg(long)]
    insecure: bool,
    /// MQTT in WebSocket frames, at this path; also by -h ws://host:port/path or wss://...
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "/mqtt")]
    ws: Option<String>,
}

impl WayArgs {
    /// TLS as these two say it.
    pub fn tls(cafile: Option<PathBuf>, insecure: bool) -> Self {
        Self {
            cafile,
            insecure,
            ..Self::default()
        }
    }
}

/// Where to go, as a person says it: `host`, `mqtts://host:8883`, `ws://host:8083/mqtt`.
#[derive(Debug, Clone)]
pub struct Way {
    /// Name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    tls: Option<Arc<ClientConfig>>,
    websocket: Option<String>,
}

impl Way {
    /// What host, port and options say together; `port` counts where it is said.
    ///
    /// # Errors
    /// A file is wrong, or the host is no address.
    pub fn new(host: &str, port: Option<u16>, args: &WayArgs) -> anyhow::Result<Self> {
        let (scheme, rest) = host.split_once("://").unwrap_or(("", host));
        let (rest, path) = match rest.find('/') {
            Some(at) if !scheme.is_empty() => rest.split_at(at),
            _ => (rest, ""),
        };
        let (tls, framed, usual) = match scheme {
            "" | "mqtt" | "tcp" => (false, false, 1883),
            "mqtts" | "ssl" => (true, false, 8883),
            "ws" => (false, true, 8083),
            "wss" => (true, true, 8084),
            other => bail!("{other}://: a scheme is mqtt, mqtts, ws or wss"),
        };
        let wants_tls = tls || args.cafile.is_some() || args.insecure || args.cert.is_some();
        let websocket = match (&args.ws, path) {
            (Some(path), _) => Some(path.clone()),
            (None, "") if framed => Some("/mqtt".to_owned()),
            (None, path) if framed => Some(path.to_owned()),
            (None, _) => None,
        };
        let (host, said) = if scheme.is_empty() {
            (rest, None)
        } else {
            host_and_port(rest)?
        };
        Ok(Self {
            host: host.to_owned(),
            port: port.or(said).unwrap_or(usual),
            tls: wants_tls.then(|| config(args)).transpose()?,
            websocket,
        })
    }

    /// A plain way.
    pub fn plain(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            tls: None,
            websocket: None,
        }
    }

    /// Connects to `address` and makes all layers; blocking.
    ///
    /// # Errors
    /// There is no connection, or the broker does not agree.
    pub fn dial(&self, address: SocketAddr) -> anyhow::Result<Wire<TcpStream>> {
        let stream = TcpStream::connect_timeout(&address, STEP_MAX)
            .with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STEP_MAX))?;
        let mut wire = Wire::new(stream);
        if let Some(config) = &self.tls {
            let name = ServerName::try_from(self.host.clone())
                .with_context(|| format!("{} cannot be the name in a certificate", self.host))?;
            let mut tls = ClientConnection::new(Arc::clone(config), name)?;
            while tls.is_handshaking() {
                tls.complete_io(&mut wire.stream)
                    .context("the TLS handshake failed")?;
            }
            wire.tls = Some(Box::new(tls));
        }
        if let Some(path) = &self.websocket {
            self.upgrade(&mut wire, path)?;
        }
        Ok(wire)
    }

    fn upgrade(&self, wire: &mut Wire<TcpStream>, path: &str) -> anyhow::Result<()> {
        let key = base64_simd::STANDARD.encode_to_string(random::bytes::<16>());
        let host = format!("{}:{}", self.host, self.port);
        wire.write_all(&door::upgrade::request(&host, path, &key))?;
        wire.flush()?;
        let mut answer = Vec::new();
        loop {
            if let Some(used) = door::upgrade::answer(&answer, &key).map_err(anyhow::Error::msg)? {
                let mut websocket = WebSocket::new(Role::Client);
                let mut rest = answer.split_off(used);
                let decoded = websocket.decode(&mut rest, &mut Vec::new());
                rest.truncate(decoded.len);
                wire.plain = rest;
                wire.websocket = Some(websocket);
                return Ok(());
            }
            let mut chunk = [0; 1024];
            let n = wire.read(&mut chunk).context("no answer to the upgrade")?;
            if n == 0 {
                bail!("the broker closed instead of switching to WebSocket");
            }
            answer.extend_from_slice(&chunk[..n]);
        }
    }
}

/// A stream of bytes through all layers.
pub struct Wire<S> {
    stream: S,
    tls: Option<Box<ClientConnection>>,
    websocket: Option<WebSocket>,
    /// Unwrapped and not read: `plain[at..]`.
    plain: Vec<u8>,
    at: usize,
    /// Framed and not yet taken by the layer below.
    unsent: Vec<u8>,
    /// From which the masks of frames come.
    masks: u64,
}

impl<S: Read + Write> Wire<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            tls: None,
            websocket: None,
            plain: Vec::new(),
            at: 0,
            unsent: Vec::new(),
            masks: u64::from_ne_bytes(random::bytes()) | 1,
        }
    }

    /// Bytes travel as they are.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }

    /// The mask of the next frame: nobody can foresee it well enough to steer what proxies see
    /// (RFC 6455, 10.3).
    fn mask(&mut self) -> [u8; 4] {
        self.masks ^= self.masks << 13;
        self.masks ^= self.masks >> 7;
        self.masks ^= self.masks << 17;
        ((self.masks >> 32) as u32).to_ne_bytes()
    }

    /// The socket itself, to set its options or to watch it.
    pub fn socket(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The same wire over what `change` makes of the socket.
    pub fn over<T>(self, change: impl FnOnce(S) -> T) -> Wire<T> {
        Wire {
            stream: change(self.stream),
            tls: self.tls,
            websocket: self.websocket,
            plain: self.plain,
            at: self.at,
            unsent: self.unsent,
            masks: self.masks,
        }
    }

    /// Reads below WebSocket.
    fn read_below(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The peer left without TLS's good-bye: MQTT has its own.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            tls.read_tls(&mut self.stream)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Gives the layers below what waits.
    fn push(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let n = match &mut self.tls {
                Some(tls) => tls.writer().write(&self.unsent)?,
                None => self.stream.write(&self.unsent)?,
            };
            self.unsent.drain(..n);
            self.push_tls()?;
        }
        self.push_tls()
    }

    fn push_tls(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
        Ok(())
    }
}

impl<S: Read + Write> Read for Wire<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.websocket.is_none() {
            return self.read_below(buffer);
        }
        while self.at == self.plain.len() {
            let mut chunk = [0; CHUNK_BYTES];
            let n = self.read_below(&mut chunk)?;
            if n == 0 {
                return Ok(0);
            }
            let mut replies = Vec::new();
            let Some(websocket) = &mut self.websocket else {
                return Ok(0);
            };
            let decoded = websocket.decode(&mut chunk[..n], &mut replies);
            self.plain.clear();
            self.plain.extend_from_slice(&chunk[..decoded.len]);
            self.at = 0;
            self.unsent.extend_from_slice(&replies);
            if !replies.is_empty() {
                let _ = self.push();
            }
            if decoded.end.is_some() && decoded.len == 0 {
                return Ok(0);
            }
        }
        let n = buffer.len().min(self.plain.len() - self.at);
        buffer[..n].copy_from_slice(&self.plain[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl<S: Read + Write> Write for Wire<S> {
    /// Once it says that bytes were taken they are never to be given again, but may wait: see
    /// `flush`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_plain() {
            return self.stream.write(bytes);
        }
        self.push()?;
        let chunk = &bytes[..bytes.len().min(CHUNK_BYTES)];
        let mask = self.mask();
        match &self.websocket {
            Some(websocket) => websocket.encode(chunk, mask, &mut self.unsent),
            None => self.unsent.extend_from_slice(chunk),
        }
        match self.push() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(chunk.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()?;
        self.stream.flush()
    }
}

impl<S> fmt::Debug for Wire<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("tls", &self.tls.is_some())
            .field("websocket", &self.websocket.is_some())
            .finish_non_exhaustive()
    }
}

fn host_and_port(text: &str) -> anyhow::Result<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').context("[ without ]")?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port.parse().with_context(|| format!("{port} is no port"))?),
        None => None,
    };
    Ok((host, port))
}

fn config(args: &WayArgs) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if args.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        let file = args
            .cafile
            .as_ref()
            .context("TLS needs --cafile FILE, or --insecure to trust whoever answers")?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(file)? {
            roots.add(certificate)?;
        }
        builder.with_root_certificates(roots)
    };
    let config = match (&args.cert, &args.key) {
        (Some(certificate), Some(key)) => {
            let shown = || format!("cannot read the key {}", key.display());
            let own = PrivateKeyDer::from_pem_file(key).with_context(shown)?;
            builder.with_client_auth_cert(certificates(certificate)?, own)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn certificates(file: &PathBuf) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = || format!("cannot read the certificates in {}", file.display());
    let found = CertificateDer::pem_file_iter(file).with_context(shown)?;
    found.collect::<Result<_, _>>().with_context(shown)
}

/// Takes every certificate: `--insecure`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_people_write_them() {
        let way = |host: &str, port, args: &WayArgs| {
            let way = Way::new(host, port, args).unwrap();
            (way.host, way.port, way.tls.is_some(), way.websocket)
        };
        let none = WayArgs::default();
        let here =
            |port, tls, path: Option<&str>| ("h".to_owned(), port, tls, path.map(str::to_owned));
        assert_eq!(way("h", None, &none), here(1883, false, None));
        assert_eq!(way("mqtt://h:99", None, &none), here(99, false, None));
        assert_eq!(way("ws://h", None, &none), here(8083, false, Some("/mqtt")));
        assert_eq!(way("ws://h:1/x", None, &none), here(1, false, Some("/x")));
        assert_eq!(
            way("ws://h:1/x", Some(7), &none),
            here(7, false, Some("/x"))
        );
        let secure = WayArgs {
            insecure: true,
            ..WayArgs::default()
        };
        assert_eq!(way("mqtts://h", None, &secure), here(8883, true, None));
        assert_eq!(way("h", None, &secure), here(1883, true, None));
        assert_eq!(
            way("wss://h", None, &secure),
            here(8084, true, Some("/mqtt"))
        );
        assert_eq!(way("ws://[::1]:5", None, &none).0, "::1");
        assert!(Way::new("http://h", None, &none).is_err());
        assert!(Way::new("mqtts://h", None, &none).is_err(), "whom to trust");
    }
}
