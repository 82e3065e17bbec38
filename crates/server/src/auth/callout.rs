//! Asking somebody over HTTP: bounded, with a deadline, and no answer is no. It knows what JSON goes
//! out and comes back, and neither sessions nor sockets of devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri};
use broker::access::Rule;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::health::Health;
use super::limits::{CALLOUT_ANSWER_BYTES_MAX, CALLOUT_WAITING_MAX};
use super::{Secret, claims};
use crate::settings::CalloutSettings;

/// An HTTP client with the certificates that it trusts.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Body>;

/// Somebody who is asked.
pub struct Callout {
    client: HttpClient,
    uri: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    /// How long an answer may be kept, ms.
    pub cache_ms: u64,
    places: Semaphore,
    /// Who waits, requests under way included.
    waiting: Semaphore,
    health: Health,
    counts: Counts,
}

/// Why there is no answer.
enum Failure {
    /// Nobody was asked: too many wait.
    Unasked,
    /// The service cannot be reached, or breaks off.
    Unreached(String),
    /// It said something that is no answer.
    Unreadable(String),
}

/// What a callout counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that were answered, whatever the answer was.
    pub answered: AtomicU64,
    /// Requests without an answer: too late, refused, broken, or no answer that can be read.
    pub failed: AtomicU64,
    /// Time that answered requests took, microseconds.
    pub answered_us: AtomicU64,
}

/// Who asks for what.
#[derive(Debug, Clone, Serialize)]
pub struct Asked<'a> {
    /// Client id.
    pub clientid: &'a str,
    /// User name, `""` where there is none.
    pub username: &'a str,
    /// The password, where that is what is asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<&'a str>,
    /// Address of the client.
    pub peerhost: &'a str,
    /// `publish` or `subscribe`, where that is what is asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'a str>,
    /// To which topic or filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<&'a str>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Yes.
    Allow(Box<Allowed>),
    /// No.
    Deny,
    /// The service does not know this client; others may.
    Ignore,
}

/// What comes with a yes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allowed {
    /// Everything is allowed.
    pub super_user: bool,
    /// The client's own permissions.
    pub rules: Vec<Rule>,
    /// When it ends, seconds since 1970.
    pub expires_s: Option<u64>,
}

#[derive(Deserialize)]
struct Said {
    result: String,
    #[serde(default)]
    is_superuser: bool,
    #[serde(default)]
    acl: Option<serde_json::Value>,
    #[serde(default)]
    expire_at: Option<u64>,
}

impl std::fmt::Debug for Callout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callout").finish_non_exhaustive()
    }
}

/// What is wrong with the settings of a callout, without asking anybody.
///
/// # Errors
/// The URL is none, or the certificates cannot be read.
pub fn check(settings: &CalloutSettings) -> Result<(), String> {
    uri(&settings.url)?;
    client(settings.ca.as_deref()).map(drop)
}

/// An HTTP client that trusts the system's certificates, or those in a file.
///
/// # Errors
/// They cannot be read.
pub fn client(ca: Option<&std::path::Path>) -> Result<HttpClient, String> {
    let builder = HttpsConnectorBuilder::new();
    let builder = if let Some(path) = ca {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        let all = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
        for one in all {
            let one = one.map_err(|error| wrong(&error))?;
            roots.add(one).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"has no certificate"));
        }
        builder.with_tls_config(trusting(roots)?)
    } else {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        if let Ok(builder) = builder.with_provider_and_native_roots(provider) {
            builder
        } else {
            // Without certificates of a system only https fails, and says so.
            HttpsConnectorBuilder::new().with_tls_config(trusting(RootCertStore::empty())?)
        }
    };
    let connector = builder.https_or_http().enable_http1().build();
    let mut pool = Client::builder(TokioExecutor::new());
    pool.pool_idle_timeout(Duration::from_secs(30));
    pool.pool_max_idle_per_host(64);
    Ok(pool.build(connector))
}

/// TLS that takes the certificates that come from `roots`.
fn trusting(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// A URL with a host, `http` or `https`, and without a password.
///
/// # Errors
/// It is none.
pub fn uri(text: &str) -> Result<Uri, String> {
    if text
        .split('/')
        .nth(2)
        .is_some_and(|host| host.contains('@'))
    {
        return Err(
            "the URL has a user name or password in it, which logs and settings would show: put the value of the header `Authorization` into `authorization_file`"
                .to_owned(),
        );
    }
    let uri: Uri = text
        .parse()
        .map_err(|error| format!("\"{text}\" is no URL: {error}"))?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if known && uri.host().is_some() {
        Ok(uri)
    } else {
        Err(format!("\"{text}\" is no http:// or https:// URL"))
    }
}

/// A URL as it may be shown: what follows `?` can be a key.
pub fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let host = uri.authority().map_or("", |host| host.as_str());
    let query = if uri.query().is_some() { "?***" } else { "" };
    format!("{scheme}://{host}{}{query}", uri.path())
}

/// Whether what is asked there travels where others can listen.
pub fn in_the_clear(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    let local = bare == "localhost" || address.is_ok_and(|it| it.to_canonical().is_loopback());
    uri.scheme_str() == Some("http") && !local
}

impl Callout {
    /// Ready to ask.
    ///
    /// # Errors
    /// What of the settings cannot be used.
    pub fn new(settings: &CalloutSettings) -> Result<Self, String> {
        let authorization = match &settings.authorization {
            None => None,
            Some(source) => {
                let secret = Secret::read(source)?;
                let mut value = HeaderValue::from_str(secret.text())
                    .map_err(|_| "the value of `Authorization` is no header".to_owned())?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let uri = uri(&settings.url)?;
        if in_the_clear(&uri) {
            tracing::warn!(
                url = shown(&uri),
                "a callout travels in the clear to another machine"
            );
        }
        Ok(Self {
            client: client(settings.ca.as_deref())?,
            uri,
            authorization,
            timeout: Duration::from_millis(settings.timeout_ms),
            cache_ms: settings.cache_ms,
            places: Semaphore::new(settings.requests_max as usize),
            waiting: Semaphore::new(CALLOUT_WAITING_MAX),
            health: Health::default(),
            counts: Counts::default(),
        })
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks; `None`: there was no answer in time, or none that can be read, or the service has not
    /// answered of late and somebody else is finding out whether it does again.
    pub async fn ask(&self, asked: &Asked<'_>) -> Option<Answer> {
        let begun = Instant::now();
        if !self.health.may_ask(begun) {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let answer = tokio::time::timeout(self.timeout, self.send(asked)).await;
        let late = || {
            let within = self.timeout.as_millis();
            Failure::Unreached(format!("no answer within {within} ms"))
        };
        match answer.unwrap_or_else(|_| Err(late())) {
            Ok(answer) => {
                let took = begun.elapsed().as_micros() as u64;
                self.counts.answered.fetch_add(1, Ordering::Relaxed);
                self.counts.answered_us.fetch_add(took, Ordering::Relaxed);
                self.health.answered();
                Some(answer)
            }
            Err(failure) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.tell(failure);
                None
            }
        }
    }

    /// Says in the log what went wrong, but not for each client: these could fill it.
    fn tell(&self, failure: Failure) {
        let now = Instant::now();
        let why = match failure {
            Failure::Unasked => "too many wait for it".to_owned(),
            Failure::Unreached(why) => {
                self.health.failed(now);
                why
            }
            Failure::Unreadable(why) => {
                self.health.answered();
                why
            }
        };
        let url = shown(&self.uri);
        if self.health.may_tell(now) {
            tracing::warn!(url, why, "a callout failed");
        } else {
            tracing::debug!(url, why, "a callout failed");
        }
    }

    async fn send(&self, asked: &Asked<'_>) -> Result<Answer, Failure> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Failure::Unasked)?;
        let _place = self.places.acquire().await.map_err(|_| Failure::Unasked)?;
        let (status, bytes) = self.exchange(asked).await.map_err(Failure::Unreached)?;
        read(status, &bytes).map_err(Failure::Unreadable)
    }

    async fn exchange(&self, asked: &Asked<'_>) -> Result<(StatusCode, Bytes), String> {
        let body = serde_json::to_vec(asked).map_err(|error| error.to_string())?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/json");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let request = request
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| chain(&error))?;
        let status = response.status();
        let body = Body::new(response.into_body());
        let bytes = axum::body::to_bytes(body, CALLOUT_ANSWER_BYTES_MAX)
            .await
            .map_err(|error| format!("the answer cannot be read: {error}"))?;
        Ok((status, bytes))
    }
}

/// The reasons of an error, the nearest last.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// What an answer says: 204 is yes, 401 and 403 are no, 200 says it in JSON; anything else is none.
fn read(status: StatusCode, body: &[u8]) -> Result<Answer, String> {
    match status {
        StatusCode::NO_CONTENT => return Ok(Answer::Allow(Box::default())),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(Answer::Deny),
        StatusCode::OK => {}
        other => return Err(format!("the answer has status {other}")),
    }
    // What serde says could quote the answer.
    let said: Said = serde_json::from_slice(body)
        .map_err(|_| "the answer is no JSON object with \"result\"".to_owned())?;
    match said.result.as_str() {
        "deny" => Ok(Answer::Deny),
        "ignore" => Ok(Answer::Ignore),
        "allow" => {
            let rules = said.acl.as_ref().map_or(Ok(Vec::new()), claims::rules);
            Ok(Answer::Allow(Box::new(Allowed {
                super_user: said.is_superuser,
                rules: rules.map_err(|error| format!("\"acl\" of the answer {error}"))?,
                expires_s: said.expire_at,
            })))
        }
        _ => Err("\"result\" is none of allow, deny, ignore".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_says_so_is_a_yes() {
        let read =
            |status: u16, body: &str| read(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let yes = |answer: Result<Answer, String>| matches!(answer, Ok(Answer::Allow(_)));
        assert!(yes(read(204, "")) && yes(read(200, "{\"result\":\"allow\",\"x\":1}")));
        assert_eq!(read(200, "{\"result\":\"deny\"}"), Ok(Answer::Deny));
        assert_eq!(read(200, "{\"result\":\"ignore\"}"), Ok(Answer::Ignore));
        assert_eq!(read(403, "whatever"), Ok(Answer::Deny));
        for (status, body) in [
            (200, ""),
            (200, "allow"),
            (200, "{}"),
            (200, "{\"result\":\"yes\"}"),
            (200, "{\"result\":\"allow\",\"acl\":5}"),
            (201, "{\"result\":\"allow\"}"),
            (302, ""),
            (500, "{\"result\":\"allow\"}"),
        ] {
            assert!(read(status, body).is_err(), "{status} {body}");
        }
        let Ok(Answer::Allow(allowed)) = read(
            200,
            "{\"result\":\"allow\",\"is_superuser\":true,\"expire_at\":7,\"acl\":{\"pub\":[\"a\"]}}",
        ) else {
            panic!("a yes");
        };
        assert!(allowed.super_user && allowed.rules.len() == 1);
        assert_eq!(allowed.expires_s, Some(7));
    }

    #[test]
    fn urls_are_checked() {
        assert!(uri("http://127.0.0.1:1/x").is_ok() && uri("https://a.example").is_ok());
        for bad in ["", "ftp://a", "a/b", "http://", "/x", "http://u:geheim@a/x"] {
            let told = uri(bad).expect_err(bad);
            assert!(!told.contains("geheim"), "{told}");
        }
        let with_key = uri("https://a.example:8/x?key=geheim").unwrap();
        assert_eq!(shown(&with_key), "https://a.example:8/x?***");
        for (text, clear) in [
            ("http://127.0.0.1:1/x", false),
            ("http://[::1]/x", false),
            ("http://localhost/x", false),
            ("https://a.example", false),
            ("http://a.example", true),
        ] {
            assert_eq!(in_the_clear(&uri(text).unwrap()), clear, "{text}");
        }
    }
}
