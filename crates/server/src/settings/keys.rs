//! Who may come in through an MQTT listener and what each may do: authenticators, rules, callouts,
//! flapping and overload. Of secrets it knows where they are, never what they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use broker::DeniedPublish;
use broker::access::{Actions, Effect as Verdict, Name, Net, Rule, RuleFilter};

use super::build::Builder;
use super::words::Word;
use super::{Effect, ListenerKind, Pattern};
use crate::config::units::Span;
use crate::config::{AuthenticatorTable, AuthorizationTable, RuleTable};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// Most authenticators.
const AUTHENTICATORS_MAX: usize = 100;
/// Most rules.
const RULES_MAX: usize = 10_000;
/// Patience with a callout, and requests to it under way at one time, where nothing is said.
const CALLOUT_TIMEOUT_MS: u64 = 5 * SECOND;
const CALLOUT_REQUESTS_MAX: u32 = 64;

/// Who comes in and what each may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySettings {
    /// How clients say who they are, in the order of the file.
    pub authenticators: Vec<AuthenticatorSettings>,
    /// What they may do.
    pub authorization: AuthorizationSettings,
    /// Clients that come and go too often; `None`: they may.
    pub flapping: Option<FlappingSettings>,
    /// Memory of the process beyond which nobody new comes in, bytes; `None`: no such bound.
    pub memory_bytes_max: Option<u64>,
}

/// One way to say who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatorSettings {
    /// Its name, for listeners, logs and metrics.
    pub name: String,
    /// What it does.
    pub kind: AuthenticatorKind,
    /// Client ids that its clients may have; `None`: any.
    pub client_ids: Option<ClientIds>,
}

/// Client ids: a name, or the beginning of names, in which `${username}` stands for the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIds {
    text: String,
    /// More may follow.
    begins: bool,
}

impl ClientIds {
    /// Reads `${username}`, `${username}-*` or `kiosk-*`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let bare = text.strip_suffix('*');
        let own = bare.unwrap_or(text);
        let plain = own.replacen("${username}", "", 1);
        if plain.contains("${") || plain.contains('*') {
            return Err("knows ${username}, once, and one * at the end");
        }
        if bare.is_some() && own.ends_with("${username}") {
            return Err(
                "would let the user \"a\" have the client ids of \"ab\": put something between ${username} and *, such as \"${username}/*\"",
            );
        }
        if own.is_empty() {
            return Err("admits any; leave it out");
        }
        Ok(Self {
            text: own.to_owned(),
            begins: bare.is_some(),
        })
    }

    /// Whether a client id says whose it is.
    pub fn names_user(&self) -> bool {
        self.text.contains("${username}")
    }

    /// Whether a client of that user may have that id.
    pub fn admits(&self, client_id: &str, username: &str) -> bool {
        if self.names_user() && username.is_empty() {
            return false;
        }
        let wanted = self.text.replacen("${username}", username, 1);
        match client_id.strip_prefix(&*wanted) {
            Some(rest) => self.begins || rest.is_empty(),
            None => false,
        }
    }
}

/// What an authenticator does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticatorKind {
    /// User name and password of the users table, or SCRAM-SHA-256 with the same keys.
    Users,
    /// A JSON Web Token.
    Jwt(Box<JwtSettings>),
    /// Somebody else is asked over HTTP.
    Http(CalloutSettings),
    /// The client's certificate.
    Certificate(CertificateSettings),
}

/// JSON Web Tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSettings {
    /// The token is the user name, and not the password.
    pub in_user_name: bool,
    /// What verifies signatures.
    pub keys: JwtKeys,
    /// Signature algorithms taken, as tokens name them; none: all that the keys are for.
    pub algorithms: Vec<String>,
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must contain this.
    pub audience: Option<String>,
    /// The claim that becomes the user name.
    pub user_name_claim: Option<String>,
    /// The claim that becomes the client id.
    pub client_id_claim: Option<String>,
    /// The claim with permissions.
    pub acl_claim: String,
    /// Claims that must have a value, in which `${clientid}` and `${username}` stand for the client's.
    pub require: BTreeMap<String, String>,
}

impl JwtSettings {
    /// Whether a token says nothing of the client that shows it.
    fn names_nobody(&self) -> bool {
        let names = |text: &String| text.contains("${clientid}") || text.contains("${username}");
        self.user_name_claim.is_none()
            && self.client_id_claim.is_none()
            && !self.require.values().any(names)
    }
}

/// Where the keys for signatures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// A secret, for HS256, HS384 and HS512.
    Secret(SecretSource),
    /// A public key in a PEM file.
    PublicKey(PathBuf),
    /// A set of keys (RFC 7517) in a file or behind a URL, read anew from time to time.
    Set {
        /// File or `http(s)://`.
        from: String,
        /// Time between two reads, ms.
        refresh_ms: u64,
        /// Certificates that the server's must come from, beside the system's, PEM.
        ca: Option<PathBuf>,
    },
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file, without the line break at its end.
    File(PathBuf),
    /// In a variable of the environment.
    Environment(String),
}

/// Somebody who is asked over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalloutSettings {
    /// What is asked.
    pub url: String,
    /// How long an answer may take, ms.
    pub timeout_ms: u64,
    /// Requests under way at one time; further ones wait within their time.
    pub requests_max: u32,
    /// Certificates that the server's must come from, beside the system's, PEM.
    pub ca: Option<PathBuf>,
    /// Value of the header `Authorization`.
    pub authorization: Option<SecretSource>,
    /// How long an answer is kept, ms; of no meaning for authentication.
    pub cache_ms: u64,
}

/// What of a certificate says who its client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSettings {
    /// What becomes the user name.
    pub user_name: CertificateField,
    /// What becomes the client id; `None`: what CONNECT says.
    pub client_id: Option<CertificateField>,
}

/// A part of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateField {
    /// The whole subject, `CN=lock,O=acme`.
    Subject,
    /// Its common name.
    CommonName,
    /// The first DNS name among the alternative names.
    SanDns,
    /// The first mail address among them.
    SanEmail,
    /// The first URI among them.
    SanUri,
}

/// What clients may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationSettings {
    /// Whether anything is judged: as soon as there is an authenticator, a listener that asks for
    /// certificates, a rule or a callout.
    pub enforced: bool,
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// What no rule says anything of is allowed.
    pub allow_no_match: bool,
    /// Users who may do everything.
    pub super_users: Vec<String>,
    /// Who is asked where no rule says anything.
    pub callout: Option<CalloutSettings>,
    /// What becomes of MQTT 3 clients that publish what they may not.
    pub denied_publish: DeniedPublish,
}

/// Clients that come and go too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlappingSettings {
    /// Connections of one client id within the window, beyond which it is banned.
    pub connects_max: u32,
    /// The window, ms.
    pub window_ms: u64,
    /// How long it is banned, ms.
    pub ban_ms: u64,
}

/// Kinds of authenticators, as the file names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthenticatorWord {
    Users,
    Jwt,
    Http,
    Certificate,
}

/// What a rule speaks of, as the file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActionWord {
    Publish,
    Subscribe,
    All,
}

/// Where a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenPlace {
    Password,
    UserName,
}

/// What a callout's table says, whichever table that is.
struct CalloutSaid<'a> {
    url: Option<&'a String>,
    timeout: Option<Span>,
    requests_max: Option<i64>,
    ca: Option<&'a String>,
    authorization_file: Option<&'a String>,
    authorization_env: Option<&'a String>,
    cache: Option<Span>,
}

impl Builder {
    /// Authenticators, rules, flapping and overload; `certificates` says whether a listener for MQTT
    /// asks for some, which is authentication too.
    pub(super) fn keys(&mut self, certificates: bool) -> KeySettings {
        let authenticators = self.authenticators();
        let authorization = self.authorization(!authenticators.is_empty() || certificates);
        let said = self.said.flapping.clone();
        let connects_max = said.connects_max.map_or(0, |said| {
            self.integer("flapping.connects_max", Some(said), 0, 1_000_000)
        });
        let window = said.window.unwrap_or(Span::Millis(MINUTE));
        let window_ms = self.millis("flapping.window", Some(window), SECOND, HOUR);
        let ban = said.ban.unwrap_or(Span::Millis(5 * MINUTE));
        let ban_ms = self.millis("flapping.ban", Some(ban), SECOND, 30 * 24 * HOUR);
        let memory = self.said.overload.memory_max;
        let memory_bytes_max = memory
            .and_then(|said| self.size_or_none("overload.memory_max", said, 64 << 20, u64::MAX));
        KeySettings {
            authenticators,
            authorization,
            flapping: (connects_max > 0).then_some(FlappingSettings {
                connects_max: connects_max as u32,
                window_ms,
                ban_ms,
            }),
            memory_bytes_max,
        }
    }

    fn authenticators(&mut self) -> Vec<AuthenticatorSettings> {
        let tables = self.said.authenticator.clone().unwrap_or_default();
        if tables.len() > AUTHENTICATORS_MAX {
            let what = format!("there are at most {AUTHENTICATORS_MAX} of these");
            self.fault("authenticator", &what);
        }
        let mut made: Vec<AuthenticatorSettings> = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let path = format!("authenticator[{index}]");
            let Some(one) = self.authenticator(&path, table) else {
                continue;
            };
            if made.iter().any(|other| other.name == one.name) {
                let what = format!("there is another authenticator called \"{}\"", one.name);
                self.fault(&format!("{path}.name"), &what);
            }
            made.push(one);
        }
        made
    }

    fn authenticator(
        &mut self,
        path: &str,
        table: &AuthenticatorTable,
    ) -> Option<AuthenticatorSettings> {
        let word = self.required(path, "kind", table.kind.as_ref())?;
        let word = self.word::<AuthenticatorWord>(&format!("{path}.kind"), &word)?;
        self.only_for(path, word, table);
        let kind = match word {
            AuthenticatorWord::Users => AuthenticatorKind::Users,
            AuthenticatorWord::Jwt => AuthenticatorKind::Jwt(Box::new(self.jwt(path, table)?)),
            AuthenticatorWord::Http => {
                self.required(path, "url", table.url.as_ref())?;
                let said = CalloutSaid {
                    url: table.url.as_ref(),
                    timeout: table.timeout,
                    requests_max: table.requests_max,
                    ca: table.ca.as_ref(),
                    authorization_file: table.authorization_file.as_ref(),
                    authorization_env: table.authorization_env.as_ref(),
                    cache: None,
                };
                AuthenticatorKind::Http(self.callout(path, &said)?)
            }
            AuthenticatorWord::Certificate => {
                let mut field = |key: &str, said: &Option<String>| {
                    let word = said.as_deref()?;
                    self.word::<CertificateField>(&format!("{path}.{key}"), word)
                };
                AuthenticatorKind::Certificate(CertificateSettings {
                    user_name: field("user_name", &table.user_name)
                        .unwrap_or(CertificateField::CommonName),
                    client_id: field("client_id", &table.client_id),
                })
            }
        };
        let name = table.name.clone().unwrap_or_else(|| word.word().to_owned());
        if name.is_empty() || name.len() > 64 {
            self.fault(&format!("{path}.name"), "has 1 to 64 bytes");
        }
        let client_ids = table.client_ids.as_deref().map(ClientIds::read);
        let client_ids = match client_ids.transpose() {
            Ok(client_ids) => client_ids,
            Err(what) => {
                self.fault(&format!("{path}.client_ids"), what);
                None
            }
        };
        if let AuthenticatorKind::Jwt(jwt) = &kind
            && jwt.names_nobody()
            && client_ids.is_none()
        {
            self.fault(
                path,
                "any token would let its bearer take any client id, and the session that another opened under it: write `client_id_claim` or `user_name_claim`, or `require` a claim that is \"${clientid}\" or \"${username}\"",
            );
        }
        Some(AuthenticatorSettings {
            name,
            kind,
            client_ids,
        })
    }

    /// Keys that say nothing to another kind are mistakes there.
    fn only_for(&mut self, path: &str, kind: AuthenticatorWord, table: &AuthenticatorTable) {
        use AuthenticatorWord::{Certificate, Http, Jwt};
        let said = [
            ("token_in", table.token_in.is_some(), &[Jwt][..]),
            ("algorithms", table.algorithms.is_some(), &[Jwt]),
            ("secret_file", table.secret_file.is_some(), &[Jwt]),
            ("secret_env", table.secret_env.is_some(), &[Jwt]),
            ("public_key", table.public_key.is_some(), &[Jwt]),
            ("jwks", table.jwks.is_some(), &[Jwt]),
            ("refresh", table.refresh.is_some(), &[Jwt]),
            ("issuer", table.issuer.is_some(), &[Jwt]),
            ("audience", table.audience.is_some(), &[Jwt]),
            ("user_name_claim", table.user_name_claim.is_some(), &[Jwt]),
            ("client_id_claim", table.client_id_claim.is_some(), &[Jwt]),
            ("acl_claim", table.acl_claim.is_some(), &[Jwt]),
            ("require", table.require.is_some(), &[Jwt]),
            ("url", table.url.is_some(), &[Http]),
            ("timeout", table.timeout.is_some(), &[Http]),
            ("requests_max", table.requests_max.is_some(), &[Http]),
            ("ca", table.ca.is_some(), &[Jwt, Http]),
            (
                "authorization_file",
                table.authorization_file.is_some(),
                &[Http],
            ),
            (
                "authorization_env",
                table.authorization_env.is_some(),
                &[Http],
            ),
            ("user_name", table.user_name.is_some(), &[Certificate]),
            ("client_id", table.client_id.is_some(), &[Certificate]),
        ];
        for (key, said, kinds) in said {
            if said && !kinds.contains(&kind) {
                let what = format!(
                    "says nothing to an authenticator of kind \"{}\"",
                    kind.word()
                );
                self.fault(&format!("{path}.{key}"), &what);
            }
        }
    }

    fn jwt(&mut self, path: &str, table: &AuthenticatorTable) -> Option<JwtSettings> {
        let place = table.token_in.as_deref().unwrap_or("password");
        let place = self.word::<TokenPlace>(&format!("{path}.token_in"), place)?;
        let refresh = table.refresh.unwrap_or(Span::Millis(5 * MINUTE));
        let refresh_ms = self.millis(&format!("{path}.refresh"), Some(refresh), SECOND, 24 * HOUR);
        let secret = self.operator_secret(
            path,
            ("secret_file", table.secret_file.as_ref()),
            ("secret_env", table.secret_env.as_ref()),
        );
        let public = table
            .public_key
            .as_ref()
            .map(|file| JwtKeys::PublicKey(file.into()));
        let set = table.jwks.as_ref().map(|from| JwtKeys::Set {
            from: from.clone(),
            refresh_ms,
            ca: table.ca.as_ref().map(Into::into),
        });
        let mut keys = [secret.map(JwtKeys::Secret), public, set]
            .into_iter()
            .flatten();
        let (Some(keys), None) = (keys.next(), keys.next()) else {
            self.fault(
                path,
                "this [[authenticator]] needs one of `secret_file`, `secret_env`, `public_key` and `jwks`",
            );
            return None;
        };
        let settings = JwtSettings {
            in_user_name: place == TokenPlace::UserName,
            keys,
            algorithms: table.algorithms.clone().unwrap_or_default(),
            issuer: table.issuer.clone(),
            audience: table.audience.clone(),
            user_name_claim: table.user_name_claim.clone(),
            client_id_claim: table.client_id_claim.clone(),
            acl_claim: table.acl_claim.clone().unwrap_or_else(|| "acl".to_owned()),
            require: table.require.clone().unwrap_or_default(),
        };
        if let Err(what) = crate::auth::jwt::check(&settings) {
            self.fault(path, &what);
        }
        Some(settings)
    }

    /// Where a secret is, and that it is there.
    fn operator_secret(
        &mut self,
        path: &str,
        (file_key, file): (&str, Option<&String>),
        (env_key, variable): (&str, Option<&String>),
    ) -> Option<SecretSource> {
        let (key, source) = match (file, variable) {
            (None, None) => return None,
            (Some(file), None) => (file_key, SecretSource::File(file.into())),
            (None, Some(variable)) => (env_key, SecretSource::Environment(variable.clone())),
            (Some(_), Some(_)) => {
                let what = format!("`{file_key}` and `{env_key}` are the same thing: take one");
                self.fault(&format!("{path}.{env_key}"), &what);
                return None;
            }
        };
        if let Err(what) = crate::auth::Secret::read(&source) {
            self.fault(&format!("{path}.{key}"), &what);
        }
        Some(source)
    }

    fn callout(&mut self, path: &str, said: &CalloutSaid<'_>) -> Option<CalloutSettings> {
        let url = said.url?.clone();
        let timeout = said.timeout.unwrap_or(Span::Millis(CALLOUT_TIMEOUT_MS));
        // While a packet waits for its answer, nothing of its client is read, not even a PINGREQ.
        let most = if path == "authorization" {
            10 * SECOND
        } else {
            MINUTE
        };
        let timeout_ms = self.millis(&format!("{path}.timeout"), Some(timeout), 10, most);
        let requests_max = self.integer(
            &format!("{path}.requests_max"),
            Some(said.requests_max.unwrap_or(i64::from(CALLOUT_REQUESTS_MAX))),
            1,
            10_000,
        );
        let cache = said.cache.unwrap_or(Span::Millis(MINUTE));
        let cache_ms = self.millis(&format!("{path}.cache"), Some(cache), 0, 24 * HOUR);
        let authorization = self.operator_secret(
            path,
            ("authorization_file", said.authorization_file),
            ("authorization_env", said.authorization_env),
        );
        let settings = CalloutSettings {
            url,
            timeout_ms,
            requests_max: requests_max as u32,
            ca: said.ca.map(Into::into),
            authorization,
            cache_ms,
        };
        if let Err(what) = crate::auth::callout::check(&settings) {
            self.fault(&format!("{path}.url"), &what);
        }
        Some(settings)
    }

    fn authorization(&mut self, asked: bool) -> AuthorizationSettings {
        let said: AuthorizationTable = self.said.authorization.clone();
        let tables = said.rule.unwrap_or_default();
        if tables.len() > RULES_MAX {
            let what = format!("there are at most {RULES_MAX} of these");
            self.fault("authorization.rule", &what);
        }
        let rules: Vec<Rule> = (0..)
            .zip(&tables)
            .filter_map(|(index, table)| self.rule(&format!("authorization.rule[{index}]"), table))
            .collect();
        let callout = self.callout(
            "authorization",
            &CalloutSaid {
                url: said.url.as_ref(),
                timeout: said.timeout,
                requests_max: said.requests_max,
                ca: said.ca.as_ref(),
                authorization_file: said.authorization_file.as_ref(),
                authorization_env: said.authorization_env.as_ref(),
                cache: said.cache,
            },
        );
        let no_match = said.no_match.as_deref().unwrap_or("deny");
        let no_match = self.word::<Effect>("authorization.no_match", no_match);
        let denied = said.denied_publish.as_deref().unwrap_or("drop");
        let denied = self.word::<DeniedPublish>("authorization.denied_publish", denied);
        AuthorizationSettings {
            enforced: asked || !tables.is_empty() || callout.is_some(),
            rules,
            allow_no_match: no_match == Some(Effect::Allow),
            super_users: said.super_users.unwrap_or_default(),
            callout,
            denied_publish: denied.unwrap_or_default(),
        }
    }

    fn rule(&mut self, path: &str, table: &RuleTable) -> Option<Rule> {
        let effect = self.required(path, "effect", table.effect.as_ref())?;
        let effect = self.word::<Effect>(&format!("{path}.effect"), &effect)?;
        let action = table.action.as_deref().unwrap_or("all");
        let action = self.word::<ActionWord>(&format!("{path}.action"), action)?;
        let mut addresses = Vec::new();
        for text in table.address.iter().flatten() {
            match Net::parse(text) {
                Some(net) => addresses.push(net),
                None => self.fault(
                    &format!("{path}.address"),
                    &format!("\"{text}\" is no address: write \"10.0.0.1\" or \"10.0.0.0/8\""),
                ),
            }
        }
        let mut filters = Vec::new();
        for text in table.filter.iter().flatten() {
            match RuleFilter::parse(text) {
                Ok(filter) => filters.push(filter),
                Err(error) => self.fault(&format!("{path}.filter"), &format!("\"{text}\" {error}")),
            }
        }
        let mut name = |key: &str, said: &Option<String>| {
            let text = said.as_deref()?;
            match self.pattern(&format!("{path}.{key}"), text) {
                Pattern::Any => None,
                Pattern::Name(name) => Some(Name::Is(name.into())),
                Pattern::Prefix(begin) => Some(Name::Begins(begin.into())),
            }
        };
        Some(Rule {
            effect: match effect {
                Effect::Allow => Verdict::Allow,
                Effect::Deny => Verdict::Deny,
            },
            user: name("user", &table.user),
            client_id: name("client_id", &table.client_id),
            addresses: addresses.into(),
            actions: Actions {
                publish: action != ActionWord::Subscribe,
                subscribe: action != ActionWord::Publish,
            },
            filters: filters.into(),
        })
    }

    /// The authenticators of a listener: those that it names, else all, unless anyone may come in.
    pub(super) fn listener_authenticators(
        &mut self,
        path: &str,
        kind: ListenerKind,
        (named, anonymous): (Option<&Vec<String>>, bool),
    ) -> Vec<String> {
        let tables = self.said.authenticator.clone().unwrap_or_default();
        let name = |table: &AuthenticatorTable| table.name.clone().or_else(|| table.kind.clone());
        let known: Vec<String> = tables.iter().filter_map(name).collect();
        let key = format!("{path}.authenticators");
        match named {
            Some(_) if !kind.speaks_mqtt() => {
                let what = format!("is for MQTT listeners; this one is {}", kind.word());
                self.fault(&key, &what);
                Vec::new()
            }
            Some(_) if anonymous => {
                self.fault(
                    &format!("{path}.anonymous"),
                    "says that anyone may come in, and `authenticators` who is asked: take one of them back",
                );
                Vec::new()
            }
            Some(named) => {
                for name in named.iter().filter(|name| !known.contains(name)) {
                    let what = format!("there is no [[authenticator]] called \"{name}\"");
                    self.fault(&key, &what);
                }
                named.clone()
            }
            None if anonymous || !kind.speaks_mqtt() => Vec::new(),
            None => known,
        }
    }
}
