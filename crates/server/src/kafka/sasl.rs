//! Logging in to a Kafka listener: what a connection may do before it has, the exchange of each
//! mechanism, and doing it again (KIP-152, KIP-368). Who may log in is known to `auth`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::kafka::api::{
    Api, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};
use ::kafka::{ErrorCode, Frame, Piece, encode_response};
use bytes::Bytes;
use tokio::time::Instant;

use super::caller::{Caller, ListenerFacts};
use super::dispatch::{Asked, HangUp, Outcome, Reply};
use super::{FrontDoor, limits};
use crate::auth::scram::{Challenge, ClientFirst, Hash};
use crate::auth::{Attempt, Denied, Principal, Users};
use crate::settings::{SaslMechanism, Word as _};

/// The login of one connection.
pub(super) struct Sasl {
    inside: Mutex<Inside>,
}

struct Inside {
    state: State,
    /// Who logged in.
    principal: Option<Arc<Principal>>,
    /// When the login must be complete, at first; then when it must be renewed.
    until: Option<Instant>,
    /// The connection is closed behind the answer to this.
    failed: bool,
}

/// How far the login is.
enum State {
    /// Nobody logs in here.
    NotAsked,
    /// No mechanism is chosen.
    Fresh,
    /// A mechanism is chosen; `raw`: its bytes come without requests around them.
    Chosen { mechanism: SaslMechanism, raw: bool },
    /// The client has got its challenge.
    Challenged { exchange: Box<Exchange>, raw: bool },
    /// It is complete.
    Done,
    /// It failed, or a step of it is under way.
    Failed,
}

/// A SCRAM exchange on its way.
struct Exchange {
    mechanism: SaslMechanism,
    name: String,
    challenge: Challenge,
    /// It has failed where the proof never comes.
    attempt: Attempt<Arc<Users>>,
}

/// Why a step failed; the client is told in words that help no guesser.
enum Failure {
    /// It is not this message's turn.
    State,
    /// The name, the password or the proof is wrong.
    Credentials,
    /// Too many attempts failed; this one was not looked at.
    TooMany,
    /// The bytes are not those of the mechanism; says why.
    Message(String),
}

impl Failure {
    fn code(&self) -> ErrorCode {
        match self {
            Self::State => ErrorCode::IllegalSaslState,
            _ => ErrorCode::SaslAuthenticationFailed,
        }
    }

    fn words(&self) -> &str {
        match self {
            Self::State => "the request does not belong here in the SASL exchange",
            Self::Credentials => "Authentication failed: invalid credentials",
            Self::TooMany => "Authentication failed: too many attempts, try again later",
            Self::Message(why) => why,
        }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Wrong => Self::Credentials,
            Denied::TooMany | Denied::Busy => Self::TooMany,
        }
    }
}

impl Sasl {
    /// The login of a connection that has just come in at that listener.
    pub fn new(listener: &ListenerFacts) -> Self {
        let asked = !listener.sasl.is_empty();
        Self {
            inside: Mutex::new(Inside {
                state: if asked { State::Fresh } else { State::NotAsked },
                principal: None,
                until: asked.then(|| Instant::now() + limits::LOGIN_MAX),
                failed: false,
            }),
        }
    }

    /// Whether the connection may send that now. A connection that does so all the same is closed.
    pub fn admits(&self, api: Api) -> bool {
        let inside = self.lock();
        let login = matches!(
            api,
            Api::ApiVersions | Api::SaslHandshake | Api::SaslAuthenticate
        );
        match inside.state {
            State::NotAsked => true,
            State::Done => login || inside.until.is_none_or(|until| Instant::now() < until),
            // While it logs in again it stays who it was (KIP-368).
            State::Fresh | State::Chosen { .. } | State::Challenged { .. } | State::Failed => login,
        }
    }

    /// Whether the peer is one whose requests may be large.
    pub fn settled(&self) -> bool {
        let inside = self.lock();
        matches!(inside.state, State::NotAsked) || inside.principal.is_some()
    }

    /// When the first login must be complete.
    pub fn deadline(&self) -> Option<Instant> {
        let inside = self.lock();
        inside.until.filter(|_| inside.principal.is_none())
    }

    /// Whether the next frame is bytes of the mechanism and no request.
    pub fn raw(&self) -> bool {
        match self.lock().state {
            State::Chosen { raw, .. } | State::Challenged { raw, .. } => raw,
            _ => false,
        }
    }

    /// Whether the connection is to be closed behind the last answer.
    pub fn failed(&self) -> bool {
        self.lock().failed
    }

    /// Who logged in, if somebody has.
    pub fn principal(&self) -> Option<Arc<Principal>> {
        self.lock().principal.clone()
    }

    /// Answers the choice of a mechanism.
    pub fn handshake(
        &self,
        caller: &Caller,
        version: i16,
        correlation_id: i32,
        request: &SaslHandshakeRequest<'_>,
    ) -> Frame {
        let offered = &caller.listener.sasl;
        let chosen = offered.iter().copied().find(|mechanism| {
            // Kafka's names are compared as they are.
            mechanism.word() == request.mechanism
        });
        let mut inside = self.lock();
        let error = match (&inside.state, chosen) {
            (State::NotAsked, _) => Some(ErrorCode::IllegalSaslState),
            (State::Fresh | State::Done, Some(mechanism)) => {
                inside.state = State::Chosen {
                    mechanism,
                    raw: version == 0,
                };
                None
            }
            (State::Fresh | State::Done, None) => {
                inside.fail();
                Some(ErrorCode::UnsupportedSaslMechanism)
            }
            _ => {
                inside.fail();
                Some(ErrorCode::IllegalSaslState)
            }
        };
        let response = SaslHandshakeResponse {
            error_code: error.map_or(0, ErrorCode::as_i16),
            mechanisms: offered.iter().map(|mechanism| mechanism.word()).collect(),
        };
        encode_response(Api::SaslHandshake, version, correlation_id, &response)
    }

    /// Answers a step of the mechanism.
    pub async fn authenticate(
        &self,
        door: &FrontDoor,
        caller: &Caller,
        version: i16,
        correlation_id: i32,
        request: &SaslAuthenticateRequest<'_>,
    ) -> Frame {
        let step = self.step(door, caller, request.auth_bytes).await;
        let response = match &step {
            Ok((bytes, lifetime)) => SaslAuthenticateResponse {
                auth_bytes: bytes,
                session_lifetime_ms: lifetime.map_or(0, |lifetime| lifetime.as_millis() as i64),
                ..Default::default()
            },
            Err(failure) => SaslAuthenticateResponse {
                error_code: failure.code().as_i16(),
                error_message: Some(failure.words()),
                ..Default::default()
            },
        };
        if step.is_err() {
            door.counters.error(Api::SaslAuthenticate);
        }
        encode_response(Api::SaslAuthenticate, version, correlation_id, &response)
    }

    /// Answers bytes of the mechanism that came without a request around them; `None`: the
    /// connection is closed without a word.
    pub async fn raw_step(&self, door: &FrontDoor, caller: &Caller, token: &[u8]) -> Option<Frame> {
        let (answer, _) = self.step(door, caller, token).await.ok()?;
        let size = u32::try_from(answer.len()).expect("a SCRAM message is a few hundred bytes");
        let size = Bytes::copy_from_slice(&size.to_be_bytes());
        let slices = [size, Bytes::from(answer)].into_iter();
        let pieces = slices.filter(|slice| !slice.is_empty());
        Some(Frame {
            pieces: pieces.map(Piece::Bytes).collect(),
        })
    }

    /// One step: the answer's bytes, and behind the last how long the login holds.
    async fn step(
        &self,
        door: &FrontDoor,
        caller: &Caller,
        token: &[u8],
    ) -> Result<(Vec<u8>, Option<Duration>), Failure> {
        // Whoever drops this future leaves a login that failed.
        let state = std::mem::replace(&mut self.lock().state, State::Failed);
        let (mechanism, stepped) = match state {
            State::Chosen { mechanism, raw } => {
                let stepped = match hash_of(mechanism) {
                    None => plain(door, caller, token).await.map(Stepped::Done),
                    Some(hash) => {
                        let first = first(door, caller, mechanism, hash, token).await;
                        first.map(|(exchange, told)| {
                            let exchange = Box::new(exchange);
                            Stepped::Goes(State::Challenged { exchange, raw }, told)
                        })
                    }
                };
                (mechanism, stepped)
            }
            State::Challenged { exchange, .. } => (exchange.mechanism, last(*exchange, token)),
            _ => {
                self.lock().fail();
                return Err(Failure::State);
            }
        };
        match stepped {
            Ok(Stepped::Goes(state, told)) => {
                self.lock().state = state;
                Ok((told, None))
            }
            Ok(Stepped::Done((name, told))) => self.complete(door, mechanism, name, told),
            Err(failure) => {
                self.lock().fail();
                door.counters.logged_in(mechanism, false);
                tracing::info!(
                    peer = %caller.peer,
                    mechanism = mechanism.word(),
                    why = failure.words(),
                    "a Kafka client did not log in"
                );
                Err(failure)
            }
        }
    }

    fn complete(
        &self,
        door: &FrontDoor,
        mechanism: SaslMechanism,
        name: String,
        told: Vec<u8>,
    ) -> Result<(Vec<u8>, Option<Duration>), Failure> {
        let mut inside = self.lock();
        let other = |before: &Arc<Principal>| before.name() != name;
        if inside.principal.as_ref().is_some_and(other) {
            inside.fail();
            return Err(Failure::Message(
                "a connection cannot become another user".to_owned(),
            ));
        }
        let lifetime = door.settings.session_lifetime_ms.map(Duration::from_millis);
        inside.state = State::Done;
        inside.principal = Some(Arc::new(Principal::user(name)));
        inside.until = lifetime.map(|lifetime| Instant::now() + lifetime);
        door.counters.logged_in(mechanism, true);
        Ok((told, lifetime))
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn fail(&mut self) {
        self.state = State::Failed;
        self.failed = true;
    }
}

/// Begins to answer the choice of a mechanism.
pub(super) fn begin_handshake(asked: &Asked) -> Reply {
    let answer = |asked: &Asked| -> Outcome {
        let (version, id) = (asked.version, asked.correlation_id);
        let request = asked.request()?;
        let frame = asked.login.handshake(&asked.caller, version, id, &request);
        Ok(Some(frame.into()))
    };
    Reply::Ready(answer(asked))
}

/// Begins to answer a step of the mechanism.
pub(super) fn begin_authenticate(asked: Asked) -> Reply {
    Reply::Later(Box::pin(async move {
        let (version, id) = (asked.version, asked.correlation_id);
        let request = asked.request()?;
        let frame = asked
            .login
            .authenticate(&asked.door, &asked.caller, version, id, &request)
            .await;
        Ok(Some(frame.into()))
    }))
}

/// Begins to answer bytes of the mechanism that came without a request around them.
pub(super) fn begin_raw(
    login: Arc<Sasl>,
    door: Arc<FrontDoor>,
    caller: Arc<Caller>,
    token: Bytes,
) -> Reply {
    Reply::Later(Box::pin(async move {
        let answer = login.raw_step(&door, &caller, &token).await;
        answer.map_or(Err(HangUp::Unanswered), |frame| Ok(Some(frame.into())))
    }))
}

/// What comes of a step.
enum Stepped {
    /// The exchange goes on in that state, with these bytes for the client.
    Goes(State, Vec<u8>),
    /// It is complete: the user's name, and the last bytes for the client.
    Done((String, Vec<u8>)),
}

fn hash_of(mechanism: SaslMechanism) -> Option<Hash> {
    match mechanism {
        SaslMechanism::Plain => None,
        SaslMechanism::ScramSha256 => Some(Hash::Sha256),
        SaslMechanism::ScramSha512 => Some(Hash::Sha512),
    }
}

/// PLAIN (RFC 4616): identity, NUL, name, NUL, password.
async fn plain(
    door: &FrontDoor,
    caller: &Caller,
    token: &[u8],
) -> Result<(String, Vec<u8>), Failure> {
    let malformed = || Failure::Message("Authentication failed: this is not PLAIN".to_owned());
    let text = std::str::from_utf8(token).map_err(|_| malformed())?;
    let mut parts = text.split('\0');
    let (Some(identity), Some(name), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    if name.is_empty() || password.is_empty() {
        return Err(malformed());
    }
    if !identity.is_empty() && identity != name {
        return Err(Failure::Message(
            "Authentication failed: Client requested an authorization id that is different from username"
                .to_owned(),
        ));
    }
    let address = caller.peer.ip();
    door.users.verify_password(name, password, address).await?;
    Ok((name.to_owned(), Vec::new()))
}

/// The first message of SCRAM.
async fn first(
    door: &FrontDoor,
    caller: &Caller,
    mechanism: SaslMechanism,
    hash: Hash,
    token: &[u8],
) -> Result<(Exchange, Vec<u8>), Failure> {
    let first = ClientFirst::read(token).map_err(scram)?;
    let name = first.name.clone();
    let attempt = door.users.attempt(&name, caller.peer.ip()).await?;
    let keys = door.users.scram_keys(&name, hash);
    let (challenge, told) = first.challenge(hash, keys, &door.users.nonce());
    let exchange = Exchange {
        mechanism,
        name,
        challenge,
        attempt,
    };
    Ok((exchange, told.into_bytes()))
}

/// The final message of SCRAM.
fn last(exchange: Exchange, token: &[u8]) -> Result<Stepped, Failure> {
    let told = exchange.challenge.verify(token).map_err(scram)?;
    exchange.attempt.succeeded();
    Ok(Stepped::Done((exchange.name, told.into_bytes())))
}

fn scram(error: crate::auth::scram::ScramError) -> Failure {
    use crate::auth::scram::ScramError;
    match error {
        ScramError::WrongProof => Failure::Credentials,
        error => Failure::Message(format!("Authentication failed: {error}")),
    }
}
