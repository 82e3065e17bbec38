//! Certificates and keys in files: reading them, and telling what is wrong in words that name the
//! file and the remedy.

use std::fs::{self, Metadata};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::limits::FILE_BYTES_MAX;
use super::{ClientCertificate, TlsSettings};

/// When and how large the files were; a change of it says to read them again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(SystemTime, u64)>>);

impl Stamp {
    pub(super) fn of(settings: &TlsSettings) -> Self {
        let files = [
            Some(&settings.certificate),
            Some(&settings.key),
            settings.client_ca.as_ref(),
        ];
        let stamp = |metadata: Metadata| Some((metadata.modified().ok()?, metadata.len()));
        let stamps = files.into_iter().flatten();
        Self(
            stamps
                .map(|file| fs::metadata(file).ok().and_then(stamp))
                .collect(),
        )
    }
}

/// The one provider of cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(provider)
}

/// What makes tickets for all listeners: its keys change by themselves, and a certificate that is read
/// anew takes no session from anybody.
fn ticketer() -> Result<Arc<dyn ProducesTickets>, String> {
    static TICKETER: OnceLock<Result<Arc<dyn ProducesTickets>, rustls::Error>> = OnceLock::new();
    let made = TICKETER.get_or_init(rustls::crypto::aws_lc_rs::Ticketer::new);
    made.clone()
        .map_err(|error| format!("there are no random numbers for TLS tickets: {error}"))
}

/// What a listener of these settings offers.
pub(super) fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&settings.certificate, "certificate")?;
    let key = private_key(&settings.key)?;
    let (certificate, key_file) = (settings.certificate.display(), settings.key.display());
    let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the key in {key_file} does not belong to the first certificate in {certificate}: name the key that the certificate was made for, and put the server's own certificate first"
        ),
        error => format!("{certificate} and {key_file} cannot be used together: {error}"),
    })?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of TLS 1.2 and 1.3");
    let verifier = client_verifier(settings)?;
    let certificates = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let resolver = rustls::sign::SingleCertAndKey::from(pair);
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    // One ticket is enough for a client that has one connection, and it costs no memory here. Who shows
    // a certificate shows it each time: a ticket would outlive what it was given for.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if !certificates {
        config.ticketer = ticketer()?;
        config.send_tls13_tickets = 1;
    }
    Ok(Arc::new(config))
}

fn client_verifier(settings: &TlsSettings) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(file) = &settings.client_ca else {
        return Ok(None);
    };
    if settings.client_certificate == ClientCertificate::None {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, "client CA")? {
        roots.add(certificate).map_err(|error| {
            format!(
                "a certificate in {} cannot be a client CA: {error}",
                file.display()
            )
        })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match settings.client_certificate {
        ClientCertificate::Optional => builder.allow_unauthenticated(),
        _ => builder,
    };
    builder
        .build()
        .map(Some)
        .map_err(|error| format!("{} cannot be a client CA: {error}", file.display()))
}

fn certificates(file: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = contents(file, what)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(file, what, &error))?;
    if certificates.is_empty() {
        return Err(format!(
            "{} holds no certificate: the {what} file is PEM, with -----BEGIN CERTIFICATE-----",
            file.display()
        ));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = contents(file, "key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound => {
            let remedy = if String::from_utf8_lossy(&text).contains("BEGIN ENCRYPTED PRIVATE KEY")
            {
                "it is encrypted; write it without a passphrase (openssl pkey -in IN -out OUT) into a file that only the program may read"
            } else {
                "the key file is PEM, with -----BEGIN PRIVATE KEY-----, or RSA or EC PRIVATE KEY"
            };
            format!("{} holds no private key: {remedy}", file.display())
        }
        error => not_pem(file, "key", &error),
    })
}

fn not_pem(file: &Path, what: &str, error: &PemError) -> String {
    format!(
        "the {what} file {} is no sound PEM: {error}",
        file.display()
    )
}

fn contents(file: &Path, what: &str) -> Result<Vec<u8>, String> {
    let shown = file.display();
    let unreadable = |error| format!("cannot read the {what} file {shown}: {error}");
    let size = fs::metadata(file).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("the {what} file {shown} is too large to be one"));
    }
    fs::read(file).map_err(unreadable)
}
