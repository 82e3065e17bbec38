//! Handshakes over loopback with certificates made on the spot, and files that are wrong.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::*;

/// A certificate authority, and what it signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key in PEM for `localhost`, with that common name.
    pub(crate) fn sign(&self, common_name: &str) -> (String, String) {
        self.sign_as(common_name, |_| {})
    }

    /// The same, with something changed.
    fn sign_as(
        &self,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.0).unwrap();
        (made.pem(), key.serialize_pem())
    }
}

/// A certificate that no authority signed, and its key.
fn itself(common_name: &str) -> (String, String) {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    (made.pem(), key.serialize_pem())
}

/// Settings with files below `dir`.
pub(crate) fn settings(
    dir: &Path,
    authority: &Authority,
    client_ca: Option<&Authority>,
) -> TlsSettings {
    let (certificate, key) = authority.sign("node");
    let put = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsSettings {
        certificate: put("node.pem", &certificate),
        key: put("node.key", &key),
        client_ca: client_ca.map(|authority| put("clients.pem", &authority.pem())),
        client_certificate: ClientCertificate::Required,
        principal: CertificatePrincipal::CommonName,
    }
}

pub(crate) fn client(trusted: &Authority, identity: Option<(String, String)>) -> ClientConfig {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(files::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    }
}

/// One connection: what the server says of it, and whether the client could send a byte and get it
/// back.
async fn meet(tls: &Tls, client: ClientConfig) -> (Result<Option<String>, String>, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asking = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client))
            .connect(name, stream)
            .await?;
        stream.write_all(b"x").await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        io::Result::Ok(byte == *b"x")
    });
    let (stream, peer) = listener.accept().await.unwrap();
    let handshakes = Handshakes::default();
    let accepted = match tls.accept(stream, peer.ip(), &handshakes).await {
        Ok((mut stream, name)) => {
            assert_eq!(handshakes.counts(), (1, 0));
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            stream.write_all(&byte).await.unwrap();
            stream.shutdown().await.unwrap();
            Ok(name)
        }
        Err(error) => {
            assert_eq!(handshakes.counts(), (0, 1));
            Err(error.to_string())
        }
    };
    (accepted, asking.await.unwrap().unwrap_or(false))
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_names_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let mut settings = settings(dir.path(), &servers, Some(&clients));
    let tls = Tls::open(&settings).unwrap();
    let known = client(&servers, Some(clients.sign("lock-7")));
    assert_eq!(
        meet(&tls, known).await,
        (Ok(Some("lock-7".to_owned())), true)
    );
    let stranger = client(&servers, Some(servers.sign("lock-7")));
    let (told, came_in) = meet(&tls, stranger).await;
    assert!(told.is_err() && !came_in, "{told:?}");
    let (told, came_in) = meet(&tls, client(&servers, None)).await;
    assert!(told.is_err() && !came_in, "{told:?}");

    settings.client_certificate = ClientCertificate::Optional;
    settings.principal = CertificatePrincipal::Subject;
    let tls = Tls::open(&settings).unwrap();
    assert_eq!(meet(&tls, client(&servers, None)).await, (Ok(None), true));
    let (told, _) = meet(&tls, client(&servers, Some(clients.sign("lock-7")))).await;
    assert_eq!(told.unwrap().unwrap(), "CN=lock-7");
}

#[tokio::test]
async fn a_client_certificate_counts_in_its_time_and_for_clients_only() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("all");
    let mut settings = settings(dir.path(), &authority, Some(&authority));
    let of_clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let of_servers = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let over = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    for asked in [ClientCertificate::Required, ClientCertificate::Optional] {
        settings.client_certificate = asked;
        let tls = Tls::open(&settings).unwrap();
        let identity = authority.sign_as("lock-7", of_clients);
        let (told, came_in) = meet(&tls, client(&authority, Some(identity))).await;
        assert!(told.is_ok() && came_in, "{told:?}");
        for (what, identity) in [
            ("of a server", authority.sign_as("lock-7", of_servers)),
            ("expired", authority.sign_as("lock-7", over)),
            ("not yet", authority.sign_as("lock-7", early)),
            ("signed by itself", itself("lock-7")),
        ] {
            let (told, came_in) = meet(&tls, client(&authority, Some(identity))).await;
            assert!(told.is_err() && !came_in, "{what}: {told:?}");
        }
    }
}

#[tokio::test]
async fn changed_files_are_read_and_wrong_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let of = settings(dir.path(), &old, None);
    let tls = Tls::open(&of).unwrap();
    assert_eq!(tls.reload(false), Ok(false));
    assert!(meet(&tls, client(&old, None)).await.1);
    std::fs::write(&of.certificate, "nothing").unwrap();
    assert!(tls.reload(false).unwrap_err().contains("node.pem"));
    // It stays wrong until it is right, and is then taken without being asked for.
    assert!(tls.reload(false).unwrap_err().contains("node.pem"));
    assert!(meet(&tls, client(&old, None)).await.1);
    settings(dir.path(), &new, None);
    assert_eq!(tls.reload(true), Ok(true));
    assert!(!meet(&tls, client(&old, None)).await.1);
    assert!(meet(&tls, client(&new, None)).await.1);
}

#[tokio::test]
async fn who_speaks_no_tls_does_not_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    let tls = Tls::open(&settings(dir.path(), &authority, None)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    peer.write_all(&[0, 0, 0, 10, 0, 18, 0, 3, 0, 0, 0, 1, 0, 0])
        .await
        .unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let told = tls.accept(stream, peer.ip(), &Handshakes::default()).await;
    assert!(matches!(told, Err(HandshakeError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    let tls = Tls::open(&settings(dir.path(), &authority, None)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let handshakes = Handshakes::default();
    let told = tls.accept(stream, peer.ip(), &handshakes).await;
    assert!(matches!(told, Err(HandshakeError::TimedOut)));
    assert_eq!(handshakes.counts(), (0, 1));
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    let good = settings(dir.path(), &authority, Some(&authority));
    let told = |change: &dyn Fn(&mut TlsSettings)| {
        let mut bad = good.clone();
        change(&mut bad);
        Tls::open(&bad).map(|_| ()).unwrap_err()
    };
    let absent = told(&|bad| bad.key = dir.path().join("absent.key"));
    assert!(
        absent.contains("absent.key") && absent.contains("No such file"),
        "{absent}"
    );
    let swapped = told(&|bad| bad.certificate.clone_from(&good.key));
    assert!(
        swapped.contains("node.key holds no certificate"),
        "{swapped}"
    );
    let no_key = told(&|bad| bad.key.clone_from(&good.certificate));
    assert!(no_key.contains("node.pem holds no private key"), "{no_key}");
    let other = dir.path().join("other.key");
    std::fs::write(&other, authority.sign("x").1).unwrap();
    let mismatched = told(&|bad| bad.key.clone_from(&other));
    assert!(mismatched.contains("does not belong"), "{mismatched}");
    let encrypted = dir.path().join("locked.key");
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(&encrypted, text).unwrap();
    let locked = told(&|bad| bad.key.clone_from(&encrypted));
    assert!(locked.contains("openssl pkey"), "{locked}");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let no_ca = told(&|bad| bad.client_ca = Some(empty.clone()));
    assert!(no_ca.contains("empty.pem holds no certificate"), "{no_ca}");
}

#[tokio::test]
async fn one_address_does_not_take_all_places() {
    let handshakes = Handshakes::default();
    let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
    let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1]);
    let own = handshakes.of(here);
    let most = limits::HANDSHAKES_MAX_PER_ADDRESS as u32;
    let taken = own.places.try_acquire_many(most).unwrap();
    assert!(handshakes.of(mapped).places.try_acquire().is_err());
    assert!(handshakes.of(there).places.try_acquire().is_ok());
    assert_eq!(handshakes.addresses().len(), 1);
    drop(taken);
    drop(own);
    assert!(handshakes.addresses().is_empty());
}

/// Whether a turn comes without anybody else giving one back.
async fn comes_at_once<T>(turn: impl Future<Output = T>) -> Option<T> {
    timeout(std::time::Duration::ZERO, turn).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_waited_for_where_an_address_has_its_share() {
    let handshakes = Handshakes::default();
    let of = |number: u16| IpAddr::from([0x2001, 0xdb8, 0, number, 0, 0, 0, 1]);
    let mut held = Vec::new();
    for _ in 0..limits::HANDSHAKES_MAX_PER_ADDRESS {
        let turn = comes_at_once(handshakes.step(of(1))).await;
        held.push(turn.expect("it has a place"));
    }
    assert!(comes_at_once(handshakes.step(of(1))).await.is_none());
    drop(
        comes_at_once(handshakes.step(of(2)))
            .await
            .expect("another"),
    );
    held.pop();
    drop(comes_at_once(handshakes.step(of(1))).await.expect("again"));
    // Nor may all together be more than the node bears.
    for number in 2.. {
        let before = held.len();
        while let Some(turn) = comes_at_once(handshakes.step(of(number))).await {
            held.push(turn);
        }
        if held.len() == before {
            break;
        }
    }
    assert_eq!(held.len(), limits::HANDSHAKES_MAX);
    drop(held);
    assert!(handshakes.addresses().is_empty());
}
