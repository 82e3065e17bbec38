//! The ways to say who one is: users table, SCRAM, tokens, an HTTP service that is asked, and the
//! certificate. Each judges one client; in which order they are asked is `admission`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use broker::access::Rule;
use mqtt::{Auth as AuthPacket, Connect, Packet, ReasonCode, UserProperties, Version};

use super::admission::{Exchange, Knock};
use super::callout::{Allowed, Answer, Asked, Callout};
use super::jwt::{Jwt, Refused};
use super::refusal::No;
use super::{Users, enhanced};
use crate::settings::{
    AuthenticatorKind, AuthenticatorSettings, CertificateField, CertificateSettings, JwtKeys,
};
use crate::tls::{NameOf, name_of};

/// One way to say who one is.
pub(super) struct Authenticator {
    /// As it was configured.
    pub settings: AuthenticatorSettings,
    kind: Kind,
    /// Kept where the configuration is read anew.
    pub counts: Arc<MethodCounts>,
}

/// What an authenticator counts.
#[derive(Debug, Default)]
pub(super) struct MethodCounts {
    /// Clients that it let in.
    pub accepted: AtomicU64,
    /// Clients that it refused.
    pub refused: AtomicU64,
}

enum Kind {
    Users,
    Jwt(Arc<Jwt>),
    Http(Box<Callout>),
    Certificate(CertificateSettings),
}

/// What an authenticator says.
pub(super) enum Outcome {
    /// The client is known.
    Known(Box<Known>),
    No(No),
    /// It does not concern this authenticator.
    Ignored,
}

/// A client that an authenticator knows.
#[derive(Default)]
pub(super) struct Known {
    /// The user name that counts; `None`: its own, which is proved or not.
    pub user_name: Option<String>,
    pub client_id: Option<String>,
    pub rules: Vec<Rule>,
    pub super_user: bool,
    pub expires_s: Option<u64>,
    /// Nobody has proved the user name.
    pub unproved: bool,
    pub data: Option<Vec<u8>>,
}

impl Authenticator {
    /// As configured; what `before` has learned and counted goes on where it is the same one.
    ///
    /// # Errors
    /// What of the settings cannot be used.
    pub fn new(settings: &AuthenticatorSettings, before: Option<&Self>) -> Result<Self, String> {
        let kind = match &settings.kind {
            AuthenticatorKind::Users => Kind::Users,
            AuthenticatorKind::Jwt(jwt) => match before.filter(|it| it.settings == *settings) {
                // Keys that were read from afar hold on while they cannot be read again.
                Some(Self {
                    kind: Kind::Jwt(known),
                    ..
                }) if matches!(jwt.keys, JwtKeys::Set { .. }) => Kind::Jwt(Arc::clone(known)),
                _ => Kind::Jwt(Arc::new(Jwt::new(jwt)?)),
            },
            AuthenticatorKind::Http(http) => Kind::Http(Box::new(Callout::new(http)?)),
            AuthenticatorKind::Certificate(certificate) => Kind::Certificate(certificate.clone()),
        };
        Ok(Self {
            settings: settings.clone(),
            kind,
            counts: before.map_or_else(Arc::default, |before| Arc::clone(&before.counts)),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether it is the users table.
    pub fn is_users(&self) -> bool {
        matches!(self.kind, Kind::Users)
    }

    /// The service that it asks, if it asks one.
    pub fn callout(&self) -> Option<&Callout> {
        match &self.kind {
            Kind::Http(callout) => Some(callout),
            _ => None,
        }
    }

    /// Begins to read keys anew from time to time, unless `before` does so already.
    pub fn keep_fresh(&self, before: Option<&Self>) {
        let Kind::Jwt(jwt) = &self.kind else { return };
        let begun = before.is_some_and(|before| match &before.kind {
            Kind::Jwt(known) => Arc::ptr_eq(known, jwt),
            _ => false,
        });
        if !begun {
            jwt.keep_fresh();
        }
    }

    /// Judges a client by its CONNECT; `last`: nobody is asked after this one.
    pub async fn judge(
        &self,
        users: &Arc<Users>,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        last: bool,
    ) -> Outcome {
        let outcome = match &self.kind {
            Kind::Users => by_password(users, knock, connect, last).await,
            Kind::Jwt(jwt) => by_token(jwt, knock, connect).await,
            Kind::Http(callout) => by_callout(callout, users, knock, connect).await,
            Kind::Certificate(settings) => by_certificate(settings, knock),
        };
        let outcome = match outcome {
            Outcome::Known(known) => self.bind(known, knock, connect),
            other => other,
        };
        match &outcome {
            Outcome::Known(_) => self.counts.accepted.fetch_add(1, Ordering::Relaxed),
            Outcome::No(_) => self.counts.refused.fetch_add(1, Ordering::Relaxed),
            Outcome::Ignored => 0,
        };
        outcome
    }

    /// Judges a client by SCRAM.
    pub async fn judge_scram(
        &self,
        users: &Arc<Users>,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Box<Known>, No> {
        let scram = by_scram(users, knock, connect, exchange).await;
        let scram = scram.and_then(|known| match self.bind(known, knock, connect) {
            Outcome::Known(known) => Ok(known),
            Outcome::No(no) => Err(no),
            Outcome::Ignored => Err(No::ClientId),
        });
        match &scram {
            Ok(_) => self.counts.accepted.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.counts.refused.fetch_add(1, Ordering::Relaxed),
        };
        scram
    }

    /// Holds the client id against the ones that its user may have, where that is configured.
    fn bind(&self, mut known: Box<Known>, knock: &Knock<'_>, connect: &Connect<'_>) -> Outcome {
        let Some(wanted) = &self.settings.client_ids else {
            return Outcome::Known(known);
        };
        let client_id = known.client_id.as_deref().unwrap_or(knock.client_id);
        let user = known.user_name.as_deref().or(connect.username);
        let user = user.filter(|_| !known.unproved).unwrap_or("");
        if !wanted.admits(client_id, user) {
            return Outcome::No(No::ClientId);
        }
        if wanted.names_user() {
            // It is this user's and nobody else's.
            known.client_id = Some(client_id.to_owned());
        }
        Outcome::Known(known)
    }
}

/// The users table. A name that is not in it is left to the next, if there is one; else it takes
/// as long as a wrong password.
async fn by_password(
    users: &Users,
    knock: &Knock<'_>,
    connect: &Connect<'_>,
    last: bool,
) -> Outcome {
    let (Some(name), Some(password)) = (connect.username, connect.password) else {
        return Outcome::Ignored;
    };
    if !last && !users.exists(name) {
        return Outcome::Ignored;
    }
    let Ok(password) = std::str::from_utf8(password) else {
        return Outcome::No(No::WrongCredentials);
    };
    let address = knock.peer.ip();
    match users.verify_password(name, password, address).await {
        Ok(()) => Outcome::Known(Box::default()),
        Err(denied) => Outcome::No(No::of(denied)),
    }
}

/// SCRAM-SHA-256 of MQTT 5. An exchange that is not finished has failed, so that nobody guesses without
/// a brake by hanging up.
pub(super) async fn by_scram(
    users: &Arc<Users>,
    knock: &Knock<'_>,
    connect: &Connect<'_>,
    exchange: &mut dyn Exchange,
) -> Result<Box<Known>, No> {
    let address = knock.peer.ip();
    let wrong = |_| No::WrongCredentials;
    let first = connect.properties.authentication_data.unwrap_or_default();
    let name = enhanced::name(first).map_err(wrong)?;
    let attempt = users.attempt(&name, address).await;
    let attempt = attempt.map_err(No::of)?;
    let (waiting, told) = enhanced::begin(users, first).map_err(wrong)?;
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
    let data = waiting.finish(attempt, &last).map_err(wrong)?;
    Ok(Box::new(Known {
        user_name: Some(name),
        data: Some(data),
        ..Known::default()
    }))
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
    let now_s = crate::node::system_ms() / 1_000;
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
            tracing::debug!(peer = %knock.peer, why, "a token was refused");
            Outcome::No(No::WrongCredentials)
        }
    }
}

/// Somebody who is asked. What it denies is a guess that failed, as with the users table.
async fn by_callout(
    callout: &Callout,
    users: &Arc<Users>,
    knock: &Knock<'_>,
    connect: &Connect<'_>,
) -> Outcome {
    let password = match connect.password.map(std::str::from_utf8) {
        Some(Err(_)) => return Outcome::No(No::WrongCredentials),
        Some(Ok(password)) => Some(password),
        None => None,
    };
    let peerhost = knock.peer.ip().to_canonical().to_string();
    let asked = Asked {
        clientid: knock.client_id,
        username: connect.username.unwrap_or(""),
        password,
        peerhost: &peerhost,
        action: None,
        topic: None,
    };
    let address = knock.peer.ip();
    let name = match asked.username {
        "" => asked.clientid,
        name => name,
    };
    let attempt = match users.attempt(name, address).await {
        Ok(attempt) => attempt,
        Err(denied) => return Outcome::No(No::of(denied)),
    };
    let answer = callout.ask(&asked).await;
    match &answer {
        Some(Answer::Allow(_)) => attempt.succeeded(),
        Some(Answer::Deny) => {}
        Some(Answer::Ignore) | None => attempt.undecided(),
    }
    match answer {
        Some(Answer::Allow(allowed)) => {
            let Allowed {
                super_user,
                rules,
                expires_s,
            } = *allowed;
            let over = |at: u64| at <= crate::node::system_ms() / 1_000;
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
