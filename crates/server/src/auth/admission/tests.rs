//! Who comes in: the chain of authenticators, bans, flapping, and services that are dead or slow.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use mqtt::{ConnectProperties, Version};

use super::*;
use crate::auth::in_memory;
use crate::auth::{Ledger, Password};
use crate::settings::{
    AuthenticatorKind, AuthenticatorSettings, AuthorizationSettings, CalloutSettings, JwtKeys,
    JwtSettings, SecretSource,
};

struct Memory;

impl Ledger for Memory {
    fn write(
        &self,
        _name: &str,
        _value: Option<Vec<u8>>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }

    fn secret(&self) -> [u8; 32] {
        [0; 32]
    }

    fn random(&self) -> [u8; 32] {
        [7; 32]
    }

    fn now_ms(&self) -> u64 {
        crate::node::wall_ms()
    }
}

/// A client that answers a SCRAM challenge, or does not.
struct Silent;

impl Exchange for Silent {
    fn exchange(
        &mut self,
        _packet: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + '_>> {
        Box::pin(async { None })
    }
}

fn connect<'a>(username: Option<&'a str>, password: Option<&'a str>) -> Connect<'a> {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "lock",
        username,
        password: password.map(str::as_bytes),
        will: None,
        properties: ConnectProperties::default(),
    }
}

async fn auth(settings: &KeySettings) -> Arc<Auth> {
    let users = in_memory();
    users
        .add("joe", Password::new("pencil").unwrap())
        .await
        .unwrap();
    let bans = Arc::new(Bans::new([], Box::new(Memory)));
    Auth::new(settings, Arc::new(users), bans).unwrap()
}

async fn knock(auth: &Auth, connect: &Connect<'_>) -> Result<Entry, ReasonCode> {
    let plan = auth.plan();
    let names = plan.authenticators.iter().map(|one| one.name().to_owned());
    let names: Vec<String> = names.collect();
    let knock = Knock {
        authenticators: &names,
        peer: ([127, 0, 0, 1], 5).into(),
        certificate: None,
        client_id: connect.client_id,
    };
    auth.admit(&knock, connect, &mut Silent).await
}

fn with(kinds: Vec<AuthenticatorKind>) -> KeySettings {
    let authenticators = (0..)
        .zip(kinds)
        .map(|(number, kind)| AuthenticatorSettings {
            name: format!("a{number}"),
            kind,
            client_ids: None,
        });
    KeySettings {
        authenticators: authenticators.collect(),
        authorization: AuthorizationSettings {
            enforced: true,
            ..AuthorizationSettings::default()
        },
        ..KeySettings::default()
    }
}

/// Answers every request with the same, or (none) never.
fn service(answer: Option<&'static str>) -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/auth", listener.local_addr().unwrap());
    if let Some(body) = answer {
        let serving = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            for stream in serving.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = Vec::new();
                let mut part = [0; 4096];
                while !request.ends_with(b"}") {
                    match stream.read(&mut part) {
                        Ok(n) if n > 0 => request.extend_from_slice(&part[..n]),
                        _ => break,
                    }
                }
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
    }
    (url, listener)
}

fn callout(url: String) -> CalloutSettings {
    CalloutSettings {
        url,
        timeout_ms: 300,
        requests_max: 4,
        ca: None,
        authorization: None,
        cache_ms: 60_000,
    }
}

#[tokio::test]
async fn a_password_is_asked_for_and_nobody_else_comes_in() {
    let auth = auth(&with(vec![AuthenticatorKind::Users])).await;
    let entry = knock(&auth, &connect(Some("joe"), Some("pencil")))
        .await
        .unwrap();
    assert!(entry.admitted.access.is_some() && !entry.admitted.unnamed);
    for (user, password, reason) in [
        (Some("joe"), Some("pen"), ReasonCode::BadUserNameOrPassword),
        (
            Some("ann"),
            Some("pencil"),
            ReasonCode::BadUserNameOrPassword,
        ),
        (Some("joe"), None, ReasonCode::BadUserNameOrPassword),
        (None, None, ReasonCode::NotAuthorized),
    ] {
        let refused = knock(&auth, &connect(user, password)).await;
        assert_eq!(refused.err(), Some(reason), "{user:?} {password:?}");
    }
    let mut scram = connect(None, None);
    scram.properties.authentication_method = Some("OTHER");
    let refused = knock(&auth, &scram).await;
    assert_eq!(refused.err(), Some(ReasonCode::BadAuthenticationMethod));
    scram.properties.authentication_method = Some("SCRAM-SHA-256");
    assert!(knock(&auth, &scram).await.is_err(), "without data");
    scram.properties.authentication_data = Some(b"n,,n=joe,r=abc");
    assert!(knock(&auth, &scram).await.is_err(), "it is gone");
    let counted: u64 = auth.counts().refused().map(|(_, count)| count).sum();
    assert_eq!(counted, 7);
}

#[tokio::test]
async fn the_next_is_asked_where_one_does_not_know_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "geheim-geheim-geheim-geheim-geheim").unwrap();
    let jwt = JwtSettings {
        in_user_name: false,
        keys: JwtKeys::Secret(SecretSource::File(file)),
        algorithms: Vec::new(),
        issuer: None,
        audience: None,
        user_name_claim: Some("sub".to_owned()),
        client_id_claim: None,
        acl_claim: "acl".to_owned(),
        require: BTreeMap::new(),
    };
    let kinds = vec![
        AuthenticatorKind::Jwt(Box::new(jwt)),
        AuthenticatorKind::Users,
    ];
    let auth = auth(&with(kinds)).await;
    assert!(
        knock(&auth, &connect(Some("joe"), Some("pencil")))
            .await
            .is_ok()
    );
    let key = jsonwebtoken::EncodingKey::from_secret(b"geheim-geheim-geheim-geheim-geheim");
    let token = |exp: u64| {
        let claims = serde_json::json!({"sub": "device", "exp": exp});
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let good = token(4_000_000_000);
    let entry = knock(&auth, &connect(Some("x"), Some(&good)))
        .await
        .unwrap();
    assert_eq!(entry.admitted.username.as_deref(), Some("device"));
    assert_eq!(entry.expires_wall_ms, Some(4_000_000_000_000));
    let late = token(1_000);
    let refused = knock(&auth, &connect(Some("joe"), Some(&late))).await;
    assert_eq!(refused.err(), Some(ReasonCode::BadUserNameOrPassword));
}

#[tokio::test]
async fn a_service_that_is_dead_slow_or_wrong_lets_nobody_in() {
    let closed = {
        let (url, _listener) = service(None);
        url
    };
    let (silent, _kept) = service(None);
    let (wrong, _kept2) = service(Some("{\"result\":\"yes\"}"));
    for url in [closed, silent, wrong] {
        let auth = auth(&with(vec![AuthenticatorKind::Http(callout(url))])).await;
        let refused = knock(&auth, &connect(Some("joe"), Some("x"))).await;
        assert_eq!(refused.err(), Some(ReasonCode::ServerUnavailable));
        assert_eq!(auth.values().unanswered[0].1, 1);
    }
    let (yes, _kept) = service(Some("{\"result\":\"allow\",\"is_superuser\":true}"));
    let auth1 = auth(&with(vec![AuthenticatorKind::Http(callout(yes))])).await;
    let entry = knock(&auth1, &connect(Some("joe"), Some("x")))
        .await
        .unwrap();
    assert!(entry.admitted.access.unwrap().super_user);
    let (ignore, _kept) = service(Some("{\"result\":\"ignore\"}"));
    let kinds = vec![
        AuthenticatorKind::Http(callout(ignore)),
        AuthenticatorKind::Users,
    ];
    let auth2 = auth(&with(kinds)).await;
    assert!(
        knock(&auth2, &connect(Some("joe"), Some("pencil")))
            .await
            .is_ok()
    );
    assert!(
        knock(&auth2, &connect(Some("joe"), Some("no")))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_banned_and_the_restless_stay_out() {
    let settings = KeySettings {
        flapping: Some(FlappingSettings {
            connects_max: 3,
            window_ms: 60_000,
            ban_ms: 60_000,
        }),
        ..KeySettings::default()
    };
    let auth = auth(&settings).await;
    for _ in 0..3 {
        let entry = knock(&auth, &connect(Some("any"), None)).await.unwrap();
        assert!(entry.admitted.access.is_none() && !entry.admitted.unnamed);
    }
    for _ in 0..3 {
        let refused = knock(&auth, &connect(Some("any"), None)).await;
        assert_eq!(refused.err(), Some(ReasonCode::Banned));
    }
    // Another user with the same client id has not flapped, and the first gets nobody banned.
    assert!(knock(&auth, &connect(Some("other"), None)).await.is_ok());
    let bans = auth.bans.list(None, 10);
    assert_eq!((&*bans[0].value, &*bans[0].by), ("lock", "flapping"));
    assert_eq!(auth.counts().flapped.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_nobody_has_proved_names_nobody() {
    // Rules are enforced; this listener asks nobody.
    let auth = auth(&with(vec![AuthenticatorKind::Users])).await;
    let knock = Knock {
        authenticators: &[],
        peer: ([127, 0, 0, 1], 5).into(),
        certificate: None,
        client_id: "lock",
    };
    let connect = connect(Some("admin"), None);
    let entry = auth.admit(&knock, &connect, &mut Silent).await.unwrap();
    assert!(entry.admitted.unnamed && entry.admitted.access.is_some());
}

#[tokio::test]
async fn only_who_is_denied_has_guessed() {
    let (closed, listener) = service(None);
    drop(listener);
    let (ignores, _kept) = service(Some("{\"result\":\"ignore\"}"));
    let (denies, _kept2) = service(Some("{\"result\":\"deny\"}"));
    for (url, guessed) in [(closed, false), (ignores, false), (denies, true)] {
        let auth = auth(&with(vec![AuthenticatorKind::Http(callout(url))])).await;
        let refused = knock(&auth, &connect(Some("ann"), Some("x"))).await;
        assert!(refused.is_err());
        let turn = auth.users().turn("ann", [127, 0, 0, 1].into());
        let at_once = tokio::time::timeout(Duration::ZERO, turn).await;
        assert_eq!(at_once.is_err(), guessed, "whoever guessed waits");
    }
    // A name that the last of all does not know is a guess as well.
    let auth = auth(&with(vec![AuthenticatorKind::Users])).await;
    let refused = knock(&auth, &connect(Some("ann"), Some("x"))).await;
    assert_eq!(refused.err(), Some(ReasonCode::BadUserNameOrPassword));
    let turn = auth.users().turn("ann", [127, 0, 0, 1].into());
    assert!(tokio::time::timeout(Duration::ZERO, turn).await.is_err());
}

#[tokio::test]
async fn a_ban_holds_for_who_is_being_judged() {
    let (url, service) = service(None);
    let mut settings = with(vec![AuthenticatorKind::Users]);
    settings.authorization.callout = Some(CalloutSettings {
        timeout_ms: 10_000,
        ..callout(url)
    });
    let auth = auth(&settings).await;
    let mut connect = connect(Some("joe"), Some("pencil"));
    connect.will = Some(mqtt::Will {
        topic: "gone",
        payload: b"",
        qos: mqtt::QoS::AtMostOnce,
        retain: false,
        properties: mqtt::WillProperties::default(),
    });
    let banned = async {
        // What joe may publish is asked now: it is known who it is.
        let asked = tokio::task::spawn_blocking(move || {
            let (mut stream, _) = service.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..n]);
            }
            stream
        });
        let mut stream = asked.await.unwrap();
        let ban = super::super::bans::Ban {
            kind: super::super::bans::BanKind::User,
            value: "joe".to_owned(),
            reason: String::new(),
            by: String::new(),
            since_ms: 0,
            until_ms: None,
        };
        auth.bans.add(ban).await.unwrap();
        let allow = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        stream.write_all(allow.as_bytes()).unwrap();
    };
    let (judged, ()) = tokio::join!(knock(&auth, &connect), banned);
    assert_eq!(judged.err(), Some(ReasonCode::Banned));
}

#[tokio::test]
async fn a_listener_asks_only_whom_it_names() {
    let (url, _kept) = service(Some("{\"result\":\"deny\"}"));
    let kinds = vec![
        AuthenticatorKind::Users,
        AuthenticatorKind::Http(callout(url)),
    ];
    let auth = auth(&with(kinds)).await;
    let names = ["a1".to_owned()];
    let knock = Knock {
        authenticators: &names,
        peer: ([127, 0, 0, 1], 5).into(),
        certificate: None,
        client_id: "lock",
    };
    let mut connect = connect(Some("joe"), Some("pencil"));
    let refused = auth.admit(&knock, &connect, &mut Silent).await;
    assert_eq!(refused.err(), Some(ReasonCode::BadUserNameOrPassword));
    // Nor is the users table asked by SCRAM.
    connect.properties.authentication_method = Some("SCRAM-SHA-256");
    connect.properties.authentication_data = Some(b"n,,n=joe,r=abc");
    let refused = auth.admit(&knock, &connect, &mut Silent).await;
    assert_eq!(refused.err(), Some(ReasonCode::BadAuthenticationMethod));
}

#[tokio::test]
async fn who_cannot_be_asked_what_is_allowed_allows_nothing() {
    let (url, listener) = service(None);
    drop(listener);
    let mut settings = with(vec![AuthenticatorKind::Users]);
    settings.authorization.callout = Some(callout(url));
    settings.authorization.allow_no_match = true;
    let auth = auth(&settings).await;
    let subject = broker::access::Subject {
        client_id: "lock",
        username: "joe",
        address: None,
    };
    let question = broker::access::Question {
        action: broker::access::Action::Subscribe,
        topic: "a/#".into(),
    };
    let permits = auth.permits(&subject, vec![question.clone()]).await;
    let told: Vec<_> = permits.iter().map(|it| (it.allowed, it.keep_ms)).collect();
    assert_eq!(told, [(false, 0)], "it is asked again the next time");
    let on_return = auth.permits_on_return(&subject, vec![question]).await;
    assert!(on_return.is_none(), "nobody comes in on what is not known");
}

#[tokio::test]
async fn names_that_cannot_be_shown_are_refused() {
    let auth = auth(&KeySettings::default()).await;
    for (client_id, user, reason) in [
        ("lock", "joe", None),
        ("lo\nck", "joe", Some(ReasonCode::ClientIdentifierNotValid)),
        ("lock", "jo\u{85}e", Some(ReasonCode::BadUserNameOrPassword)),
    ] {
        let mut connect = connect(Some(user), None);
        connect.client_id = client_id;
        let told = knock(&auth, &connect).await;
        assert_eq!(told.err(), reason, "{client_id:?} {user:?}");
    }
}
