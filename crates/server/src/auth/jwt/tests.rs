//! Tokens that let somebody in, and those that do not.

use std::collections::BTreeMap;

use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::json;

use super::*;
use crate::settings::SecretSource;

const NOW: u64 = 2_000_000_000;

fn settings(keys: JwtKeys) -> JwtSettings {
    JwtSettings {
        in_user_name: false,
        keys,
        algorithms: Vec::new(),
        issuer: None,
        audience: None,
        user_name_claim: None,
        client_id_claim: None,
        acl_claim: "acl".to_owned(),
        require: BTreeMap::new(),
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn hs(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::default(), claims, &key).unwrap()
}

async fn verify(jwt: &Jwt, token: &str) -> Result<Bearer, Refused> {
    // The library looks at the real clock; ours is far behind.
    jwt.verify(token, ("lock", "joe"), NOW).await
}

#[tokio::test]
async fn a_token_signed_with_the_secret_lets_in_until_it_ends() {
    let files = Files::new();
    let secret = files.write("secret", "geheim-geheim-geheim-geheim-geheim\n");
    let mut settings = settings(JwtKeys::Secret(SecretSource::File(secret)));
    settings.user_name_claim = Some("sub".to_owned());
    settings.client_id_claim = Some("device".to_owned());
    let jwt = Jwt::new(&settings).unwrap();
    let sign = |claims: &Value| hs(claims, "geheim-geheim-geheim-geheim-geheim");
    let good = json!({"sub": "joe", "device": 7, "exp": 4_000_000_000_u64,
        "acl": {"pub": ["d/${clientid}"]}});
    let bearer = verify(&jwt, &sign(&good)).await.unwrap();
    assert_eq!(bearer.user_name.as_deref(), Some("joe"));
    assert_eq!(bearer.client_id.as_deref(), Some("7"));
    assert_eq!(
        (bearer.rules.len(), bearer.expires_s),
        (1, Some(4_000_000_000))
    );
    assert!(bearer.proved);
    for (what, token) in [
        (
            "another secret",
            hs(&good, "another-another-another-another"),
        ),
        (
            "expired",
            sign(&json!({"sub": "joe", "device": "x", "exp": 1_000})),
        ),
        ("expired by our clock", {
            let late = jwt
                .verify(&sign(&good), ("lock", "joe"), 4_000_000_000)
                .await;
            assert_eq!(late, Err(Refused::Wrong("it has expired")));
            sign(&json!({"sub": "joe", "device": "x", "exp": 5}))
        }),
        (
            "not yet",
            sign(&json!({"sub": "joe", "device": "x", "nbf": 4_000_000_000_u64})),
        ),
        ("nameless", sign(&json!({"device": "x"}))),
        ("without a device", sign(&json!({"sub": "joe"}))),
        (
            "odd permissions",
            sign(&json!({"sub": "joe", "device": "x", "acl": 5})),
        ),
        (
            "odd time",
            sign(&json!({"sub": "joe", "device": "x", "exp": "soon"})),
        ),
    ] {
        let refused = verify(&jwt, &token).await;
        assert!(
            matches!(refused, Err(Refused::Wrong(_))),
            "{what}: {refused:?}"
        );
    }
    for no_token in ["", "password", "a.b.c", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
        assert_eq!(verify(&jwt, no_token).await, Err(Refused::NoToken));
    }
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqb2UifQ.";
    assert!(verify(&jwt, none).await.is_err(), "unsigned");
}

#[tokio::test]
async fn required_claims_are_held_against_the_client() {
    let files = Files::new();
    let secret = files.write("secret", "geheim-geheim-geheim-geheim-geheim");
    let mut settings = settings(JwtKeys::Secret(SecretSource::File(secret)));
    settings.require = [("id".to_owned(), "${clientid}".to_owned())].into();
    settings.issuer = Some("me".to_owned());
    settings.audience = Some("sluice".to_owned());
    let jwt = Jwt::new(&settings).unwrap();
    let sign = |claims: &Value| hs(claims, "geheim-geheim-geheim-geheim-geheim");
    let good = json!({"id": "lock", "iss": "me", "aud": ["x", "sluice"]});
    let bearer = verify(&jwt, &sign(&good)).await.unwrap();
    assert!(!bearer.proved && bearer.expires_s.is_none());
    // What a client calls itself is never read as a placeholder.
    let named = json!({"id": "joe", "iss": "me", "aud": "sluice"});
    let asked = jwt.verify(&sign(&named), ("${username}", "joe"), NOW).await;
    assert!(asked.is_err());
    let mut two = settings.clone();
    two.require = [("id".to_owned(), "${clientid}-${username}".to_owned())].into();
    assert!(check(&two).unwrap_err().contains("two placeholders"));
    for bad in [
        json!({"id": "other", "iss": "me", "aud": "sluice"}),
        json!({"iss": "me", "aud": "sluice"}),
        json!({"id": "lock", "iss": "you", "aud": "sluice"}),
        json!({"id": "lock", "aud": "sluice"}),
        json!({"id": "lock", "iss": "me", "aud": "kafka"}),
        json!({"id": "lock", "iss": "me"}),
    ] {
        assert!(verify(&jwt, &sign(&bad)).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret() {
    let files = Files::new();
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = pair.public_key_pem();
    let jwt = Jwt::new(&settings(JwtKeys::PublicKey(files.write("key", &pem)))).unwrap();
    let claims = json!({"sub": "joe"});
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let token = encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap();
    assert!(verify(&jwt, &token).await.is_ok());
    assert!(verify(&jwt, &hs(&claims, &pem)).await.is_err());
    assert!(check(&settings(JwtKeys::PublicKey(files.write("no", "x")))).is_err());
    let mut mixed = settings(JwtKeys::PublicKey(files.write("key", &pem)));
    mixed.algorithms = vec!["HS256".to_owned()];
    assert!(check(&mixed).is_err());
    mixed.algorithms = vec!["RS257".to_owned()];
    assert!(check(&mixed).unwrap_err().contains("RS257"));
}

#[tokio::test]
async fn a_set_of_keys_is_read_again_where_one_is_not_known() {
    let files = Files::new();
    let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair.public_key_raw());
    let set = |kid: &str| {
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": kid, "x": x}]})
            .to_string()
    };
    let path = files.write("set", &set("old"));
    let jwt = Jwt::new(&settings(JwtKeys::Set {
        from: path.display().to_string(),
        refresh_ms: 60_000,
        ca: None,
    }))
    .unwrap();
    let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
    let token = |kid: &str| {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.to_owned());
        encode(&header, &json!({"sub": "joe"}), &key).unwrap()
    };
    assert!(verify(&jwt, &token("old")).await.is_ok());
    files.write("set", &set("new"));
    assert!(
        verify(&jwt, &token("new")).await.is_ok(),
        "read again at once"
    );
    for other in [
        r#""use": "enc""#,
        r#""key_ops": ["sign"]"#,
        r#""alg": "ES256""#,
    ] {
        let said = set("other").replace(r#""alg":"EdDSA""#, other);
        let path = files.write("others", &said);
        let jwt = Jwt::new(&settings(JwtKeys::Set {
            from: path.display().to_string(),
            refresh_ms: 60_000,
            ca: None,
        }))
        .unwrap();
        let refused = verify(&jwt, &token("other")).await;
        assert_eq!(
            refused,
            Err(Refused::Wrong("its key is for something else")),
            "{other}"
        );
    }
    files.write("set", "damaged");
    let unknown = verify(&jwt, &token("newer")).await;
    assert_eq!(unknown, Err(Refused::Wrong("its key is not known")));
    assert!(
        verify(&jwt, &token("new")).await.is_ok(),
        "what is known stays"
    );
}

#[tokio::test]
async fn only_algorithms_that_are_named_are_taken() {
    let files = Files::new();
    let secret = "geheim-geheim-geheim-geheim-geheim";
    let mut settings = settings(JwtKeys::Secret(SecretSource::File(
        files.write("secret", secret),
    )));
    let claims = json!({"exp": 4_000_000_000_u64});
    for (named, taken) in [(&["HS512"][..], false), (&["HS512", "HS256"], true)] {
        settings.algorithms = named.iter().map(|&name| name.to_owned()).collect();
        let jwt = Jwt::new(&settings).unwrap();
        let told = verify(&jwt, &hs(&claims, secret)).await;
        assert_eq!(told.is_ok(), taken, "{named:?}: {told:?}");
    }
}
