//! JSON Web Tokens (RFC 7519) of devices: signatures, times and claims, and the sets of keys behind
//! them. What a token may do is `claims`'.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Uri;
use broker::access::Rule;
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::callout::{HttpClient, client, in_the_clear, shown, uri};
use super::limits::{
    CLOCK_SKEW_S, KEY_SET_BYTES_MAX, KEY_SET_KEYS_MAX, KEY_SET_REST, KEY_SET_TIMEOUT,
    TOKEN_BYTES_MAX,
};
use super::{Secret, claims};
use crate::settings::{JwtKeys, JwtSettings};

/// Verifies tokens.
pub struct Jwt {
    settings: JwtSettings,
    algorithms: Vec<Algorithm>,
    keys: Keys,
}

enum Keys {
    One(Box<DecodingKey>),
    Set(Box<KeySet>),
}

/// A set of keys that is read anew from time to time.
struct KeySet {
    from: Place,
    refresh: Duration,
    known: RwLock<Arc<JwkSet>>,
    /// When it was last tried to be read; held while that is done.
    reading: tokio::sync::Mutex<Option<Instant>>,
}

enum Place {
    File(std::path::PathBuf),
    Url(Uri, Box<HttpClient>),
}

/// Whom a token lets in.
#[derive(Debug, Default, PartialEq)]
pub struct Bearer {
    /// The user name that it gives.
    pub user_name: Option<String>,
    /// The client id that it gives.
    pub client_id: Option<String>,
    /// What it allows.
    pub rules: Vec<Rule>,
    /// When it ends, seconds since 1970.
    pub expires_s: Option<u64>,
    /// The user name is the token's, or was held against it.
    pub proved: bool,
}

/// Why a token lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is no token.
    NoToken,
    /// Its signature, times or claims are wrong; says which, for the log.
    Wrong(&'static str),
    /// The keys could not be read yet.
    NoKeys,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").finish_non_exhaustive()
    }
}

/// What is wrong with settings, without asking anybody.
///
/// # Errors
/// An algorithm is not known or not for these keys, a key cannot be read.
pub fn check(settings: &JwtSettings) -> Result<(), String> {
    Jwt::new(settings).map(drop)
}

impl Jwt {
    /// Ready to verify. A set of keys is read when it is first wanted, or by [`Jwt::keep_fresh`].
    ///
    /// # Errors
    /// What of the settings cannot be used.
    pub fn new(settings: &JwtSettings) -> Result<Self, String> {
        let mut algorithms = Vec::new();
        for name in &settings.algorithms {
            let algorithm = Algorithm::from_str(name)
                .map_err(|_| format!("\"{name}\" is no signature algorithm of tokens"))?;
            algorithms.push(algorithm);
        }
        let symmetric = |algorithm: &Algorithm| {
            matches!(
                algorithm,
                Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
            )
        };
        let secret = matches!(settings.keys, JwtKeys::Secret(_));
        if algorithms
            .iter()
            .any(|algorithm| symmetric(algorithm) != secret)
        {
            return Err(
                "algorithms: HS256, HS384 and HS512 are for a secret, the others for public keys"
                    .to_owned(),
            );
        }
        if settings
            .require
            .values()
            .any(|text| broker::access::has_two(text))
        {
            return Err(
                "require: a value has two placeholders, and who chooses the names could move what is of one into the other"
                    .to_owned(),
            );
        }
        let keys = match &settings.keys {
            JwtKeys::Secret(source) => {
                let secret = Secret::read(source)?;
                Keys::One(Box::new(DecodingKey::from_secret(secret.text().as_bytes())))
            }
            JwtKeys::PublicKey(path) => Keys::One(Box::new(public_key(path)?)),
            JwtKeys::Set {
                from,
                refresh_ms,
                ca,
            } => Keys::Set(Box::new(KeySet::new(from, *refresh_ms, ca.as_deref())?)),
        };
        Ok(Self {
            settings: settings.clone(),
            algorithms,
            keys,
        })
    }

    /// Reads a set of keys now and from time to time, for as long as it is in use.
    pub fn keep_fresh(self: &Arc<Self>) {
        let Keys::Set(set) = &self.keys else { return };
        let refresh = set.refresh;
        let this: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(jwt) = this.upgrade() {
                if let Keys::Set(set) = &jwt.keys {
                    set.read(Duration::ZERO).await;
                }
                drop(jwt);
                tokio::time::sleep(refresh).await;
            }
        });
    }

    /// Whether the token is the user name and not the password.
    pub fn in_user_name(&self) -> bool {
        self.settings.in_user_name
    }

    /// Looks at a token of a client with that id and user name, at that second since 1970.
    ///
    /// # Errors
    /// It lets nobody in.
    pub async fn verify(
        &self,
        token: &str,
        (client_id, username): (&str, &str),
        now_s: u64,
    ) -> Result<Bearer, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::NoToken);
        }
        let header = decode_header(token).map_err(|_| Refused::NoToken)?;
        if !self.algorithms.is_empty() && !self.algorithms.contains(&header.alg) {
            return Err(Refused::Wrong("the algorithm is not taken"));
        }
        let found;
        let key = match &self.keys {
            Keys::One(key) => key,
            Keys::Set(set) => {
                found = set.find(header.kid.as_deref(), header.alg).await?;
                &found
            }
        };
        let claims = self.claims(token, header.alg, key)?;
        self.bearer(&claims, (client_id, username), now_s)
    }

    fn claims(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &DecodingKey,
    ) -> Result<Map<String, Value>, Refused> {
        use jsonwebtoken::errors::ErrorKind;
        // The key's family must be the algorithm's, so that a public key is never taken for a secret.
        let mut validation = Validation::new(algorithm);
        validation.leeway = CLOCK_SKEW_S;
        validation.validate_nbf = true;
        let mut required = HashSet::new();
        match &self.settings.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            required.insert("iss".to_owned());
        }
        validation.required_spec_claims = required;
        let decoded = decode::<Map<String, Value>>(token, key, &validation);
        decoded.map(|decoded| decoded.claims).map_err(|error| {
            Refused::Wrong(match error.kind() {
                ErrorKind::InvalidSignature => "the signature is wrong",
                ErrorKind::ExpiredSignature => "it has expired",
                ErrorKind::ImmatureSignature => "it does not count yet",
                ErrorKind::InvalidIssuer => "the issuer is another",
                ErrorKind::InvalidAudience => "the audience is another",
                ErrorKind::MissingRequiredClaim(_) => "iss or aud is missing",
                ErrorKind::InvalidAlgorithm => "the key is not for its algorithm",
                _ => "it cannot be read",
            })
        })
    }

    fn bearer(
        &self,
        claims: &Map<String, Value>,
        (client_id, username): (&str, &str),
        now_s: u64,
    ) -> Result<Bearer, Refused> {
        let settings = &self.settings;
        let expires_s = match claims.get("exp") {
            None => None,
            Some(value) => Some(seconds(value).ok_or(Refused::Wrong("exp is no time"))?),
        };
        if expires_s.is_some_and(|at| at <= now_s) {
            return Err(Refused::Wrong("it has expired"));
        }
        for (claim, wanted) in &settings.require {
            let wanted = broker::access::fill(wanted, client_id, username);
            let holds = match claims.get(claim) {
                Some(Value::String(text)) => *text == wanted,
                Some(Value::Number(number)) => number.to_string() == wanted,
                Some(Value::Bool(flag)) => flag.to_string() == wanted,
                _ => false,
            };
            if !holds {
                return Err(Refused::Wrong("a claim is not as required"));
            }
        }
        let named = |claim: &Option<String>| match claim {
            None => Ok(None),
            Some(claim) => match claims.get(claim) {
                Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
                Some(Value::Number(number)) => Ok(Some(number.to_string())),
                _ => Err(Refused::Wrong("the claim that names the client is missing")),
            },
        };
        let rules = match claims.get(&settings.acl_claim) {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => claims::rules(value)
                .map_err(|_| Refused::Wrong("its permissions are unreadable"))?,
        };
        let held = |wanted: &String| wanted.contains("${username}");
        Ok(Bearer {
            user_name: named(&settings.user_name_claim)?,
            client_id: named(&settings.client_id_claim)?,
            rules,
            expires_s,
            proved: settings.user_name_claim.is_some() || settings.require.values().any(held),
        })
    }
}

/// A NumericDate, which may have a fraction.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let seconds = value.as_f64()?;
        (0.0..1e15).contains(&seconds).then_some(seconds as u64)
    })
}

fn public_key(path: &Path) -> Result<DecodingKey, String> {
    let pem =
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    DecodingKey::from_rsa_pem(&pem)
        .or_else(|_| DecodingKey::from_ec_pem(&pem))
        .or_else(|_| DecodingKey::from_ed_pem(&pem))
        .map_err(|_| {
            format!(
                "{} is no public key of RSA, EC or Ed25519 in PEM",
                path.display()
            )
        })
}

impl KeySet {
    fn new(from: &str, refresh_ms: u64, ca: Option<&Path>) -> Result<Self, String> {
        let remote = from.starts_with("http://") || from.starts_with("https://");
        let mut known = JwkSet { keys: Vec::new() };
        let from = if remote {
            let uri = uri(from)?;
            if in_the_clear(&uri) {
                tracing::warn!(
                    from = shown(&uri),
                    "keys come in the clear from another machine"
                );
            }
            Place::Url(uri, Box::new(client(ca)?))
        } else {
            let path = std::path::PathBuf::from(from);
            known = parse(&read_file(&path)?)?;
            Place::File(path)
        };
        Ok(Self {
            from,
            refresh: Duration::from_millis(refresh_ms),
            known: RwLock::new(Arc::new(known)),
            reading: tokio::sync::Mutex::new(None),
        })
    }

    /// The key with that id, or the only one.
    async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Refused> {
        for again in [false, true] {
            let known = self.known();
            let found = match kid {
                Some(kid) => known.find(kid),
                None => known.keys.first().filter(|_| known.keys.len() == 1),
            };
            if let Some(key) = found {
                if !verifies(key, algorithm) {
                    return Err(Refused::Wrong("its key is for something else"));
                }
                return DecodingKey::from_jwk(key)
                    .map_err(|_| Refused::Wrong("its key cannot be used"));
            }
            if !again {
                self.read(KEY_SET_REST).await;
            }
        }
        if self.known().keys.is_empty() {
            return Err(Refused::NoKeys);
        }
        Err(Refused::Wrong("its key is not known"))
    }

    fn known(&self) -> Arc<JwkSet> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the set, unless that was tried within `rest`. Whoever waits for the same sees the
    /// result. What is known stays where it fails.
    async fn read(&self, rest: Duration) {
        let mut tried = self.reading.lock().await;
        if tried.is_some_and(|at| at.elapsed() < rest) {
            return;
        }
        let read = tokio::time::timeout(KEY_SET_TIMEOUT, self.fetch()).await;
        *tried = Some(Instant::now());
        let read = read.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match read.and_then(|bytes| parse(&bytes)) {
            Ok(set) => {
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
            }
            Err(why) => tracing::warn!(from = %self.from, why, "a set of keys cannot be read"),
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>, String> {
        match &self.from {
            Place::File(path) => read_file(path),
            Place::Url(uri, client) => {
                let request = axum::http::Request::get(uri.clone())
                    .body(Body::empty())
                    .map_err(|error| error.to_string())?;
                let response = client.request(request).await;
                let response = response.map_err(|error| error.to_string())?;
                if !response.status().is_success() {
                    return Err(format!("the answer has status {}", response.status()));
                }
                let body = Body::new(response.into_body());
                let bytes = axum::body::to_bytes(body, KEY_SET_BYTES_MAX).await;
                bytes
                    .map(|bytes| bytes.to_vec())
                    .map_err(|error| error.to_string())
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(uri, _) => f.write_str(&shown(uri)),
        }
    }
}

/// Whether a key of a set is for signatures of that algorithm, as far as it says (RFC 7517, 4.2 to 4.4).
fn verifies(key: &Jwk, algorithm: Algorithm) -> bool {
    let said = &key.common;
    let of_use = |used: &PublicKeyUse| *used == PublicKeyUse::Signature;
    let of_operations = |all: &Vec<KeyOperations>| all.contains(&KeyOperations::Verify);
    let of_algorithm = |own: &KeyAlgorithm| own.to_string() == format!("{algorithm:?}");
    said.public_key_use.as_ref().is_none_or(of_use)
        && said.key_operations.as_ref().is_none_or(of_operations)
        && said.key_algorithm.as_ref().is_none_or(of_algorithm)
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error| format!("cannot read {}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(wrong)?.len();
    if length > KEY_SET_BYTES_MAX as u64 {
        return Err(format!("{} is too large", path.display()));
    }
    std::fs::read(path).map_err(wrong)
}

fn parse(bytes: &[u8]) -> Result<JwkSet, String> {
    let set: JwkSet = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is no set of keys (RFC 7517): {error}"))?;
    if set.keys.is_empty() || set.keys.len() > KEY_SET_KEYS_MAX {
        return Err(format!("it has no key, or more than {KEY_SET_KEYS_MAX}"));
    }
    Ok(set)
}

#[cfg(test)]
#[path = "jwt/tests.rs"]
mod tests;
