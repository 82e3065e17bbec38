//! Who comes in by MQTT and what it may do then: overload, bans, the authenticators of the listener
//! one after the other, flapping, and what only a callout knows. It knows no sockets and no sessions.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use broker::Admitted;
use broker::access::{Access, Action, Otherwise, Permit, Question, Rule, RuleSet, Subject};
use mqtt::{Auth as AuthPacket, Connect, Packet, ReasonCode, UserProperties, Version};

use super::bans::{Ban, BanKind, Bans};
use super::callout::{Allowed, Answer, Asked, Callout};
use super::flapping::Flapping;
use super::jwt::{Jwt, Refused};
use super::limits::ADMISSION_MAX;
use super::overload::Overload;
use super::{Denied, Users, enhanced};
use crate::settings::{
    AuthenticatorKind, AuthorizationSettings, CertificateField, CertificateSettings,
    FlappingSettings, KeySettings,
};
use crate::tls::{NameOf, name_of};

/// The authentication of a node.
pub struct Auth {
    users: Arc<Users>,
    /// Who must not come in.
    pub bans: Arc<Bans>,
    authenticators: Vec<Authenticator>,
    authorization: AuthorizationSettings,
    /// What everyone may do who has no permissions of its own; `None`: nothing is judged.
    access: Option<Arc<Access>>,
    rules: Arc<RuleSet>,
    /// Who is asked where no rule says anything.
    callout: Option<Arc<Callout>>,
    flapping: Option<(FlappingSettings, Mutex<Flapping>)>,
    overload: Arc<Overload>,
    counts: Counts,
}

/// One way to say who one is.
struct Authenticator {
    name: String,
    kind: Kind,
    accepted: AtomicU64,
    refused: AtomicU64,
}

enum Kind {
    Users,
    Jwt(Arc<Jwt>),
    Http(Box<Callout>),
    Certificate(CertificateSettings),
}

/// Who knocks.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// The authenticators of the listener, by name; none: nobody is asked.
    pub authenticators: &'a [String],
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The certificate that it showed, DER.
    pub certificate: Option<&'a [u8]>,
    /// Its client id: its own, or the one that was chosen for it.
    pub client_id: &'a str,
}

/// Speaks with a client that is not in yet.
pub trait Exchange: Send {
    /// Sends an AUTH packet and waits for the client's; the data of that, `None`: it is gone, or
    /// sent something else.
    fn exchange(
        &mut self,
        packet: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + '_>>;
}

/// A client that may come in.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// As whom and what it may do; the time at which it ends is not in there.
    pub admitted: Admitted,
    /// When its credentials end, ms since 1970.
    pub expires_wall_ms: Option<u64>,
}

/// Why clients did not come in, and what it took.
#[derive(Debug, Default)]
pub struct Counts {
    /// By the words of [`Counts::WORDS`].
    refused: [AtomicU64; Counts::WORDS.len()],
    /// Client ids banned because they came and went too often.
    pub flapped: AtomicU64,
}

impl Counts {
    /// Why a client did not come in.
    pub const WORDS: [&'static str; 8] = [
        "overload",
        "banned",
        "no_credentials",
        "wrong_credentials",
        "too_many_attempts",
        "no_answer",
        "method",
        "flapping",
    ];

    /// How many did not, by word.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let values = self
            .refused
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        Self::WORDS.into_iter().zip(values)
    }
}

/// What the authentication of a node counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthValues {
    /// Clients that did not come in, by word.
    pub refused: Vec<(String, u64)>,
    /// Clients that each authenticator let in.
    pub accepted: Vec<(String, u64)>,
    /// Requests of each callout that were answered.
    pub answered: Vec<(String, u64)>,
    /// Requests of each callout that were not.
    pub unanswered: Vec<(String, u64)>,
    /// Milliseconds that the answered ones took.
    pub answered_ms: Vec<(String, u64)>,
    /// Bans.
    pub bans: u64,
    /// Client ids banned because they came and went too often.
    pub flapped: u64,
}

/// Why a client does not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum No {
    Overload,
    Banned,
    Missing,
    WrongCredentials,
    TooManyAttempts,
    Unanswered,
    Method,
    Flapping,
}

impl No {
    fn reason(self) -> ReasonCode {
        match self {
            Self::Overload => ReasonCode::QuotaExceeded,
            Self::Banned | Self::Flapping => ReasonCode::Banned,
            Self::Missing => ReasonCode::NotAuthorized,
            Self::WrongCredentials | Self::TooManyAttempts => ReasonCode::BadUserNameOrPassword,
            Self::Unanswered => ReasonCode::ServerUnavailable,
            Self::Method => ReasonCode::BadAuthenticationMethod,
        }
    }
}

/// What an authenticator says.
enum Outcome {
    /// The client is known.
    Known(Box<Known>),
    No(No),
    /// It does not concern this authenticator.
    Ignored,
}

/// A client that an authenticator knows.
#[derive(Default)]
struct Known {
    /// The user name that counts; `None`: its own, which is proved or not.
    user_name: Option<String>,
    client_id: Option<String>,
    rules: Vec<Rule>,
    super_user: bool,
    expires_s: Option<u64>,
    /// Nobody has proved the user name.
    unproved: bool,
    data: Option<Vec<u8>>,
}

impl Auth {
    /// Whether a rule of the node denies a publish that comes through no MQTT connection. Who may
    /// publish so at all was asked for a token; where no rule says anything, that is enough.
    pub fn denies_publish(&self, client_id: &str, username: &str, topic: &str) -> bool {
        let subject = broker::access::Subject {
            client_id,
            username,
            address: None,
        };
        let said = self
            .rules
            .decide(&subject, broker::access::Action::Publish, topic);
        said == Some(broker::access::Effect::Deny)
    }

    /// Made of the settings.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub fn new(
        settings: &KeySettings,
        users: Arc<Users>,
        bans: Arc<Bans>,
    ) -> Result<Arc<Self>, String> {
        let mut authenticators = Vec::new();
        for one in &settings.authenticators {
            let kind = match &one.kind {
                AuthenticatorKind::Users => Kind::Users,
                AuthenticatorKind::Jwt(settings) => Kind::Jwt(Arc::new(Jwt::new(settings)?)),
                AuthenticatorKind::Http(settings) => Kind::Http(Box::new(Callout::new(settings)?)),
                AuthenticatorKind::Certificate(settings) => Kind::Certificate(settings.clone()),
            };
            authenticators.push(Authenticator {
                name: one.name.clone(),
                kind,
                accepted: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            });
        }
        let authorization = settings.authorization.clone();
        let callout = authorization
            .callout
            .as_ref()
            .map(Callout::new)
            .transpose()?;
        let rules = Arc::new(RuleSet {
            rules: authorization.rules.clone().into(),
        });
        let otherwise = match (&callout, authorization.allow_no_match) {
            (Some(_), _) => Otherwise::Ask,
            (None, true) => Otherwise::Allow,
            (None, false) => Otherwise::Deny,
        };
        let access = authorization.enforced.then(|| {
            Arc::new(Access {
                rules: Arc::clone(&rules),
                own: Box::default(),
                otherwise,
                super_user: false,
            })
        });
        let flapping = settings.flapping.map(|said| {
            let window = Duration::from_millis(said.window_ms);
            (said, Mutex::new(Flapping::new(said.connects_max, window)))
        });
        Ok(Arc::new(Self {
            users,
            bans,
            authenticators,
            access,
            rules,
            callout: callout.map(Arc::new),
            authorization,
            flapping,
            overload: Arc::new(Overload::new(settings.memory_bytes_max)),
            counts: Counts::default(),
        }))
    }

    /// Begins what goes on beside: keys that are read anew, the look at the memory. Inside a tokio
    /// runtime.
    pub fn start(&self) {
        self.overload.watch();
        for one in &self.authenticators {
            if let Kind::Jwt(jwt) = &one.kind {
                jwt.keep_fresh();
            }
        }
    }

    /// Why clients did not come in.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Of each authenticator its name, whom it let in and whom it refused.
    pub fn authenticator_counts(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.authenticators.iter().map(|one| {
            let accepted = one.accepted.load(Ordering::Relaxed);
            (&*one.name, accepted, one.refused.load(Ordering::Relaxed))
        })
    }

    /// Of each callout its name, how many requests were answered, how many not, and the time that
    /// the former took, microseconds.
    pub fn callout_counts(&self) -> impl Iterator<Item = (&str, u64, u64, u64)> {
        let of = |name, callout: &Callout| {
            let counts = callout.counts();
            let answered = counts.answered.load(Ordering::Relaxed);
            let failed = counts.failed.load(Ordering::Relaxed);
            (
                name,
                answered,
                failed,
                counts.answered_us.load(Ordering::Relaxed),
            )
        };
        let asked = self
            .authenticators
            .iter()
            .filter_map(move |one| match &one.kind {
                Kind::Http(callout) => Some(of(&*one.name, callout)),
                _ => None,
            });
        let authorization = self.callout.as_deref();
        asked.chain(authorization.map(move |callout| of("authorization", callout)))
    }

    /// What was counted.
    pub fn values(&self) -> AuthValues {
        let callouts: Vec<_> = self.callout_counts().collect();
        let of = |read: fn(&(&str, u64, u64, u64)) -> u64| {
            let rows = callouts.iter().map(|row| (row.0.to_owned(), read(row)));
            rows.collect::<Vec<_>>()
        };
        let refused = self.counts.refused();
        let accepted = self.authenticator_counts();
        AuthValues {
            refused: refused
                .map(|(word, count)| (word.to_owned(), count))
                .collect(),
            accepted: accepted
                .map(|(name, count, _)| (name.to_owned(), count))
                .collect(),
            answered: of(|row| row.1),
            unanswered: of(|row| row.2),
            answered_ms: of(|row| row.3 / 1_000),
            bans: self.bans.count() as u64,
            flapped: self.counts.flapped.load(Ordering::Relaxed),
        }
    }

    /// Whether what a client may do can be known only by asking.
    pub fn asks(&self) -> bool {
        self.callout.is_some()
    }

    /// The users that SCRAM is spoken about.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Judges who knocks.
    ///
    /// # Errors
    /// It does not come in; what it is told.
    pub async fn admit(
        &self,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Entry, ReasonCode> {
        let judged = self.judge(knock, connect, exchange);
        let judged = tokio::time::timeout(ADMISSION_MAX, judged).await;
        judged.unwrap_or(Err(No::Unanswered)).map_err(|no| {
            self.counts.refused[no as usize].fetch_add(1, Ordering::Relaxed);
            tracing::debug!(
                peer = %knock.peer,
                client_id = knock.client_id,
                why = Counts::WORDS[no as usize],
                "a client was not let in"
            );
            no.reason()
        })
    }

    async fn judge(
        &self,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Entry, No> {
        if self.overload.refuses() {
            return Err(No::Overload);
        }
        let address = knock.peer.ip();
        let own_name = connect.username.unwrap_or("");
        let banned =
            |client_id: &str, user: &str| self.bans.admits(address, client_id, user).is_err();
        if banned(knock.client_id, own_name) {
            return Err(No::Banned);
        }
        let known = if connect.properties.authentication_method.is_some() {
            self.enhanced(knock, connect, exchange).await?
        } else if knock.authenticators.is_empty() {
            Box::new(Known {
                unproved: true,
                ..Known::default()
            })
        } else {
            self.ask_all(knock, connect).await?
        };
        let client_id = known.client_id.as_deref().unwrap_or(knock.client_id);
        let unnamed = known.unproved && self.access.is_some();
        let user = if unnamed {
            None
        } else {
            known.user_name.as_deref().or(connect.username)
        };
        let user = user.unwrap_or("");
        if !sound(client_id) || !sound(user) {
            return Err(No::WrongCredentials);
        }
        if banned(client_id, user) {
            return Err(No::Banned);
        }
        if self.flaps(client_id) {
            return Err(No::Flapping);
        }
        let access = self.access_of(&known, user);
        let permits = self
            .permits_for_will(access.as_deref(), connect, (client_id, user, address))
            .await;
        Ok(Entry {
            expires_wall_ms: known.expires_s.map(|s| s.saturating_mul(1_000)),
            admitted: Admitted {
                username: known.user_name.as_deref().map(Into::into),
                unnamed,
                client_id: known.client_id.as_deref().map(Into::into),
                access,
                permits,
                expires_ms: None,
                method: known.data.is_some().then(|| enhanced::METHOD.into()),
                data: known.data.map(Into::into),
            },
        })
    }

    /// The authenticators of the listener, one after the other.
    async fn ask_all(&self, knock: &Knock<'_>, connect: &Connect<'_>) -> Result<Box<Known>, No> {
        let named = |name: &String| self.authenticators.iter().find(|one| one.name == *name);
        let asked: Vec<&Authenticator> = knock.authenticators.iter().filter_map(named).collect();
        let missing = connect.username.is_none() && connect.password.is_none();
        for (at, one) in asked.iter().enumerate() {
            let last = at + 1 == asked.len();
            let outcome = match &one.kind {
                Kind::Users => self.by_password(knock, connect, last).await,
                Kind::Jwt(jwt) => by_token(jwt, knock, connect).await,
                Kind::Http(callout) => by_callout(callout, knock, connect).await,
                Kind::Certificate(settings) => by_certificate(settings, knock),
            };
            match outcome {
                Outcome::Known(known) => {
                    one.accepted.fetch_add(1, Ordering::Relaxed);
                    return Ok(known);
                }
                Outcome::No(no) => {
                    one.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(no);
                }
                Outcome::Ignored => {}
            }
        }
        Err(if missing {
            No::Missing
        } else {
            No::WrongCredentials
        })
    }

    /// The users table. A name that is not in it is left to the next, if there is one; else it takes
    /// as long as a wrong password.
    async fn by_password(&self, knock: &Knock<'_>, connect: &Connect<'_>, last: bool) -> Outcome {
        let (Some(name), Some(password)) = (connect.username, connect.password) else {
            return Outcome::Ignored;
        };
        if !last && !self.users.exists(name) {
            return Outcome::Ignored;
        }
        let Ok(password) = std::str::from_utf8(password) else {
            return Outcome::No(No::WrongCredentials);
        };
        let address = knock.peer.ip();
        match self.users.verify_password(name, password, address).await {
            Ok(()) => Outcome::Known(Box::default()),
            Err(Denied::Wrong) => Outcome::No(No::WrongCredentials),
            Err(Denied::TooMany) => Outcome::No(No::TooManyAttempts),
        }
    }

    /// Enhanced authentication, where the listener asks for users.
    async fn enhanced(
        &self,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Box<Known>, No> {
        let of_users = |one: &&Authenticator| {
            matches!(one.kind, Kind::Users) && knock.authenticators.contains(&one.name)
        };
        let method = connect.properties.authentication_method;
        let (Some(one), Some(enhanced::METHOD)) =
            (self.authenticators.iter().find(of_users), method)
        else {
            return Err(No::Method);
        };
        let scram = self.scram(knock, connect, exchange).await;
        match &scram {
            Ok(_) => one.accepted.fetch_add(1, Ordering::Relaxed),
            Err(_) => one.refused.fetch_add(1, Ordering::Relaxed),
        };
        scram
    }

    async fn scram(
        &self,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Box<Known>, No> {
        let address = knock.peer.ip();
        let wrong = |_| No::WrongCredentials;
        let first = connect.properties.authentication_data.unwrap_or_default();
        let name = enhanced::name(first).map_err(wrong)?;
        let turn = self.users.turn(&name, address).await;
        turn.map_err(|_| No::TooManyAttempts)?;
        let (waiting, told) = enhanced::begin(&self.users, first).map_err(wrong)?;
        let mut packet = Vec::new();
        Packet::Auth(AuthPacket {
            reason: ReasonCode::ContinueAuthentication,
            method: Some(enhanced::METHOD),
            data: Some(&told),
            reason_string: None,
            user: UserProperties::EMPTY,
        })
        .encode(Version::V5, &mut packet);
        let last = exchange.exchange(packet).await.ok_or(No::Missing)?;
        let data = waiting.finish(&self.users, address, &last).map_err(wrong)?;
        Ok(Box::new(Known {
            user_name: Some(name),
            data: Some(data),
            ..Known::default()
        }))
    }

    fn flaps(&self, client_id: &str) -> bool {
        let Some((settings, flapping)) = &self.flapping else {
            return false;
        };
        let now = Instant::now();
        let mut flapping = flapping.lock().unwrap_or_else(PoisonError::into_inner);
        if !flapping.came(client_id, now) {
            return false;
        }
        drop(flapping);
        self.counts.flapped.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            client_id,
            "a client comes and goes too often and is banned for a while"
        );
        self.bans.add_passing(Ban {
            kind: BanKind::ClientId,
            value: client_id.to_owned(),
            reason: "came and went too often".to_owned(),
            by: "flapping".to_owned(),
            since_ms: 0,
            until_ms: Some(crate::node::wall_ms() + settings.ban_ms),
        });
        true
    }

    fn access_of(&self, known: &Known, user: &str) -> Option<Arc<Access>> {
        let access = self.access.as_ref()?;
        let named = !user.is_empty()
            && self
                .authorization
                .super_users
                .iter()
                .any(|name| name == user);
        let super_user = known.super_user || named;
        if known.rules.is_empty() && !super_user {
            return Some(Arc::clone(access));
        }
        Some(Arc::new(Access {
            rules: Arc::clone(&self.rules),
            own: known.rules.clone().into(),
            otherwise: access.otherwise,
            super_user,
        }))
    }

    /// What must be known of a client's will before it is in.
    async fn permits_for_will(
        &self,
        access: Option<&Access>,
        connect: &Connect<'_>,
        (client_id, username, address): (&str, &str, IpAddr),
    ) -> Vec<Permit> {
        let (Some(access), Some(will)) = (access, &connect.will) else {
            return Vec::new();
        };
        let subject = Subject {
            client_id,
            username,
            address: Some(address),
        };
        if access.decide(&subject, Action::Publish, will.topic) != Otherwise::Ask {
            return Vec::new();
        }
        let question = Question {
            action: Action::Publish,
            topic: will.topic.into(),
        };
        self.permits(&subject, vec![question]).await
    }

    /// Asks what only a callout knows. What is not answered is denied, and asked again next time.
    pub async fn permits(&self, subject: &Subject<'_>, questions: Vec<Question>) -> Vec<Permit> {
        let Some(callout) = &self.callout else {
            return Vec::new();
        };
        let until = Instant::now() + callout.timeout();
        let mut permits = Vec::with_capacity(questions.len());
        for question in questions {
            let answer = if Instant::now() < until {
                callout
                    .ask(&Asked {
                        clientid: subject.client_id,
                        username: subject.username,
                        password: None,
                        peerhost: subject
                            .address
                            .map_or(String::new(), |at| at.to_canonical().to_string()),
                        action: Some(match question.action {
                            Action::Publish => "publish",
                            Action::Subscribe => "subscribe",
                        }),
                        topic: Some(&question.topic),
                    })
                    .await
            } else {
                None
            };
            let (allowed, keep_ms) = match answer {
                Some(Answer::Allow(_)) => (true, callout.cache_ms),
                Some(Answer::Deny) => (false, callout.cache_ms),
                Some(Answer::Ignore) => (self.authorization.allow_no_match, callout.cache_ms),
                None => (false, 0),
            };
            permits.push(Permit {
                question,
                allowed,
                keep_ms,
            });
        }
        permits
    }
}

/// Whether a name may be one: what an HTTP service or a token says goes into records and topics.
fn sound(name: &str) -> bool {
    u16::try_from(name.len()).is_ok() && !name.chars().any(char::is_control)
}

/// A JSON Web Token.
async fn by_token(jwt: &Jwt, knock: &Knock<'_>, connect: &Connect<'_>) -> Outcome {
    let username = connect.username.unwrap_or("");
    let token = if jwt.in_user_name() {
        connect.username
    } else {
        connect
            .password
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    };
    let Some(token) = token else {
        return Outcome::Ignored;
    };
    let now_s = crate::node::wall_ms() / 1_000;
    match jwt.verify(token, (knock.client_id, username), now_s).await {
        Ok(bearer) => Outcome::Known(Box::new(Known {
            // A token is a secret, and a user name is shown.
            unproved: !bearer.proved || (jwt.in_user_name() && bearer.user_name.is_none()),
            user_name: bearer.user_name,
            client_id: bearer.client_id,
            rules: bearer.rules,
            expires_s: bearer.expires_s,
            ..Known::default()
        })),
        Err(Refused::NoToken) => Outcome::Ignored,
        Err(Refused::NoKeys) => Outcome::No(No::Unanswered),
        Err(Refused::Wrong(why)) => {
            tracing::info!(peer = %knock.peer, why, "a token was refused");
            Outcome::No(No::WrongCredentials)
        }
    }
}

/// Somebody who is asked.
async fn by_callout(callout: &Callout, knock: &Knock<'_>, connect: &Connect<'_>) -> Outcome {
    let password = match connect.password.map(std::str::from_utf8) {
        Some(Err(_)) => return Outcome::No(No::WrongCredentials),
        Some(Ok(password)) => Some(password),
        None => None,
    };
    let asked = Asked {
        clientid: knock.client_id,
        username: connect.username.unwrap_or(""),
        password,
        peerhost: knock.peer.ip().to_canonical().to_string(),
        action: None,
        topic: None,
    };
    match callout.ask(&asked).await {
        Some(Answer::Allow(allowed)) => {
            let Allowed {
                super_user,
                rules,
                expires_s,
            } = *allowed;
            let over = |at: u64| at <= crate::node::wall_ms() / 1_000;
            if expires_s.is_some_and(over) {
                return Outcome::No(No::WrongCredentials);
            }
            Outcome::Known(Box::new(Known {
                rules,
                super_user,
                expires_s,
                ..Known::default()
            }))
        }
        Some(Answer::Deny) => Outcome::No(No::WrongCredentials),
        Some(Answer::Ignore) => Outcome::Ignored,
        None => Outcome::No(No::Unanswered),
    }
}

/// The certificate that TLS has verified.
fn by_certificate(settings: &CertificateSettings, knock: &Knock<'_>) -> Outcome {
    let Some(certificate) = knock.certificate else {
        return Outcome::Ignored;
    };
    let field = |field: CertificateField| {
        let what = match field {
            CertificateField::Subject => NameOf::Subject,
            CertificateField::CommonName => NameOf::CommonName,
            CertificateField::SanDns => NameOf::Dns,
            CertificateField::SanEmail => NameOf::Email,
            CertificateField::SanUri => NameOf::Uri,
        };
        name_of(certificate, what).filter(|name| !name.is_empty())
    };
    let Some(user_name) = field(settings.user_name) else {
        return Outcome::No(No::WrongCredentials);
    };
    let client_id = match settings.client_id.map(field) {
        Some(None) => return Outcome::No(No::WrongCredentials),
        named => named.flatten(),
    };
    Outcome::Known(Box::new(Known {
        user_name: Some(user_name),
        client_id,
        ..Known::default()
    }))
}

#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
