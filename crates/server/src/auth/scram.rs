//! SCRAM-SHA-256 and SCRAM-SHA-512 as a server speaks them (RFC 5802, RFC 7677): bytes in, bytes
//! out. No socket, no clock, no randomness of its own; where the keys come from is the caller's.

use std::fmt;

use base64_simd::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};

use super::limits::SCRAM_MESSAGE_BYTES_MAX;

/// The hash of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// What a server keeps of a password: enough to recognise it, not enough to log in with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Salt of the salted password.
    pub salt: Vec<u8>,
    /// Iterations of PBKDF2.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Vec<u8>,
    /// Proves to the client that the server knows it.
    pub server_key: Vec<u8>,
}

/// Keys are secrets; nothing of them is shown.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Why an exchange ends. What the client is told is the same in all cases but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramError {
    /// A message is not what RFC 5802 says.
    Malformed,
    /// The client insists on channel binding, which is not offered.
    ChannelBinding,
    /// The client wants to act as somebody else than it logs in as.
    OtherIdentity,
    /// The proof is not that of the password.
    WrongProof,
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the message is not SCRAM",
            Self::ChannelBinding => "channel binding is not offered",
            Self::OtherIdentity => "the authorisation id must be the user name",
            Self::WrongProof => "the proof is wrong",
        })
    }
}

impl std::error::Error for ScramError {}

impl Hash {
    /// The mechanism's name in SASL.
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        const ANY_LENGTH: &str = "HMAC takes keys of any length";
        match self {
            Self::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY_LENGTH);
                mac.update(bytes);
                mac.finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(key).expect(ANY_LENGTH);
                mac.update(bytes);
                mac.finalize().into_bytes().to_vec()
            }
        }
    }

    fn salted_password(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations)
                    .to_vec()
            }
            Self::Sha512 => {
                pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.as_bytes(), salt, iterations)
                    .to_vec()
            }
        }
    }
}

impl Keys {
    /// The keys of a password. Takes as long as the iterations say.
    pub fn derive(hash: Hash, password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted = hash.salted_password(password, salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: hash.hash(&client_key),
            server_key: hash.hmac(&salted, b"Server Key"),
        }
    }

    /// Keys that no password has, the same for a name each time: who asks for an unknown user
    /// learns nothing from the answer.
    pub fn of_nobody(hash: Hash, secret: &[u8], name: &str, iterations: u32) -> Self {
        let part = |what: &[u8]| hash.hmac(secret, &[what, name.as_bytes()].concat());
        let mut salt = part(b"salt");
        salt.truncate(super::password::SALT_BYTES);
        Self {
            salt,
            iterations,
            stored_key: part(b"stored"),
            server_key: part(b"server"),
        }
    }
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    /// The user that the client says it is.
    pub name: String,
    /// `gs2-header`, which the client's final message repeats.
    gs2_header: String,
    /// `client-first-message-bare`.
    bare: String,
    /// The client's nonce.
    nonce: String,
}

impl ClientFirst {
    /// Reads the first message.
    ///
    /// # Errors
    /// It is not SCRAM, asks for channel binding, or for another identity.
    pub fn read(message: &[u8]) -> Result<Self, ScramError> {
        let text = text(message)?;
        let mut parts = text.splitn(3, ',');
        let binding = parts.next().ok_or(ScramError::Malformed)?;
        let identity = parts.next().ok_or(ScramError::Malformed)?;
        let bare = parts.next().ok_or(ScramError::Malformed)?;
        match binding {
            "n" | "y" => {}
            binding if binding.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        }
        let mut fields = bare.split(',');
        let name = field(fields.next(), "n=").and_then(unescaped)?;
        let nonce = field(fields.next(), "r=")?;
        if name.is_empty() || nonce.is_empty() {
            return Err(ScramError::Malformed);
        }
        match identity {
            "" => {}
            identity => {
                if field(Some(identity), "a=").and_then(unescaped)? != name {
                    return Err(ScramError::OtherIdentity);
                }
            }
        }
        // What follows are extensions; Kafka's delegation tokens are one, and are not served.
        if fields.any(|field| field == "tokenauth=true" || field.starts_with("m=")) {
            return Err(ScramError::Malformed);
        }
        Ok(Self {
            gs2_header: format!("{binding},{identity},"),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
            name,
        })
    }

    /// The server's first message, and what waits for the client's final one. The nonce of the
    /// server must be random and of printable characters other than comma.
    pub fn challenge(self, hash: Hash, keys: Keys, server_nonce: &str) -> (Challenge, String) {
        let nonce = format!("{}{server_nonce}", self.nonce);
        let salt = BASE64.encode_to_string(&keys.salt);
        let first = format!("r={nonce},s={salt},i={}", keys.iterations);
        let challenge = Challenge {
            hash,
            signed: format!("{},{first}", self.bare),
            binding: BASE64.encode_to_string(self.gs2_header.as_bytes()),
            client_nonce: self.nonce,
            server_nonce: server_nonce.to_owned(),
            keys,
        };
        (challenge, first)
    }
}

/// An exchange that waits for the client's final message.
pub struct Challenge {
    hash: Hash,
    keys: Keys,
    client_nonce: String,
    server_nonce: String,
    /// What `c=` must be.
    binding: String,
    /// The part of the authentication message that is known.
    signed: String,
}

impl Challenge {
    /// Reads the client's final message; answers the server's.
    ///
    /// # Errors
    /// It is not SCRAM, does not belong to this exchange, or its proof is wrong.
    pub fn verify(self, message: &[u8]) -> Result<String, ScramError> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = field(fields.next(), "c=")?;
        let nonce = field(fields.next(), "r=")?;
        // librdkafka before 2.6 says its own nonce twice, and Apache Kafka lets it: what matters is
        // that the server's nonce, which was never used before, is signed.
        let ours = nonce.starts_with(&self.client_nonce) && nonce.ends_with(&self.server_nonce);
        if binding != self.binding || !ours {
            return Err(ScramError::Malformed);
        }
        let proof = BASE64
            .decode_to_vec(proof)
            .map_err(|_| ScramError::Malformed)?;
        let signed = format!("{},{without_proof}", self.signed);
        let signature = self.hash.hmac(&self.keys.stored_key, signed.as_bytes());
        if proof.len() != signature.len() {
            return Err(ScramError::WrongProof);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if !same(&self.hash.hash(&client_key), &self.keys.stored_key) {
            return Err(ScramError::WrongProof);
        }
        let proof = self.hash.hmac(&self.keys.server_key, signed.as_bytes());
        Ok(format!("v={}", BASE64.encode_to_string(proof)))
    }
}

/// Compares secrets in a time that does not tell where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > SCRAM_MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed);
    }
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
    if text.chars().any(char::is_control) {
        return Err(ScramError::Malformed);
    }
    Ok(text)
}

fn field<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    field
        .and_then(|field| field.strip_prefix(name))
        .ok_or(ScramError::Malformed)
}

/// `saslname`: a comma stands as `=2C`, an equals sign as `=3D`, and nothing else begins with one.
fn unescaped(name: &str) -> Result<String, ScramError> {
    let mut parts = name.split('=');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed),
        };
        out.push(c);
        out.push_str(rest);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(hash: Hash, password: &str, salt: &str, first: &str, nonce: &str, last: &str) -> String {
        let salt = BASE64.decode_to_vec(salt).unwrap();
        let keys = Keys::derive(hash, password, &salt, 4096);
        let (challenge, _) = ClientFirst::read(first.as_bytes())
            .unwrap()
            .challenge(hash, keys, nonce);
        challenge
            .verify(last.as_bytes())
            .unwrap_or_else(|error| format!("{error:?}"))
    }

    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_rfc() {
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let done = run(Hash::Sha256, "pencil", SALT, FIRST, NONCE, last);
        assert_eq!(done, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(
            run(Hash::Sha256, "pencils", SALT, FIRST, NONCE, last),
            "WrongProof"
        );
        let keys = Keys::derive(
            Hash::Sha256,
            "pencil",
            &BASE64.decode_to_vec(SALT).unwrap(),
            4096,
        );
        let (_, first) =
            ClientFirst::read(FIRST.as_bytes())
                .unwrap()
                .challenge(Hash::Sha256, keys, NONCE);
        assert_eq!(
            first,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
    }

    /// Computed by another implementation (Python's `hashlib` and `hmac`) from the same messages.
    #[test]
    fn an_exchange_with_sha_512() {
        let last = format!(
            "c=biws,r=rOprNGfwEbeRWgbNEkqO{NONCE},p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ=="
        );
        let done = run(Hash::Sha512, "pencil", SALT, FIRST, NONCE, &last);
        assert_eq!(
            done,
            "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw=="
        );
    }

    #[test]
    fn what_is_not_scram_is_refused() {
        let read = |message: &str| ClientFirst::read(message.as_bytes()).map(|first| first.name);
        assert_eq!(read("n,,n=a=2Cb=3Dc,r=x"), Ok("a,b=c".to_owned()));
        assert_eq!(read("y,a=joe,n=joe,r=x,future=1"), Ok("joe".to_owned()));
        assert_eq!(read("n,a=root,n=joe,r=x"), Err(ScramError::OtherIdentity));
        assert_eq!(
            read("p=tls-unique,,n=joe,r=x"),
            Err(ScramError::ChannelBinding)
        );
        for bad in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=joe",
            "n,,r=x,n=joe",
            "n,,n=,r=x",
            "n,,n=joe,r=",
            "n,,n=j=2Doe,r=x",
            "n,,m=1,n=joe,r=x",
            "n,,n=joe,r=x,m=must",
            "n,,n=joe,r=x,tokenauth=true",
            "q,,n=joe,r=x",
            "n,,n=j\0oe,r=x",
        ] {
            assert_eq!(read(bad), Err(ScramError::Malformed), "{bad}");
        }
        assert_eq!(ClientFirst::read(&[0xff]), Err(ScramError::Malformed));
        let long = format!("n,,n=joe,r={}", "x".repeat(SCRAM_MESSAGE_BYTES_MAX));
        assert_eq!(read(&long), Err(ScramError::Malformed));
    }

    #[test]
    fn a_final_message_of_another_exchange_is_refused() {
        let verify = |last: &str| {
            let keys = Keys::derive(Hash::Sha256, "pencil", b"salt", 1);
            let first = ClientFirst::read(b"n,,n=user,r=abc").unwrap();
            let (challenge, _) = first.challenge(Hash::Sha256, keys, "def");
            challenge.verify(last.as_bytes())
        };
        assert_eq!(verify("c=biws,r=abcxyz,p=AAAA"), Err(ScramError::Malformed));
        assert_eq!(verify("c=biws,r=xyzdef,p=AAAA"), Err(ScramError::Malformed));
        let twice = verify("c=biws,r=abcabcdef,p=AAAA");
        assert_eq!(twice, Err(ScramError::WrongProof));
        assert_eq!(verify("c=eSws,r=abcdef,p=AAAA"), Err(ScramError::Malformed));
        assert_eq!(verify("c=biws,r=abcdef"), Err(ScramError::Malformed));
        assert_eq!(verify("c=biws,r=abcdef,p=***"), Err(ScramError::Malformed));
        assert_eq!(
            verify("c=biws,r=abcdef,p=AAAA"),
            Err(ScramError::WrongProof)
        );
    }

    #[test]
    fn nobody_has_keys_that_look_like_somebodys() {
        let nobody = Keys::of_nobody(Hash::Sha256, b"secret", "joe", 4096);
        assert_eq!(
            nobody,
            Keys::of_nobody(Hash::Sha256, b"secret", "joe", 4096)
        );
        let joe = Keys::derive(
            Hash::Sha256,
            "x",
            &[0; super::super::password::SALT_BYTES],
            1,
        );
        assert_eq!(nobody.salt.len(), joe.salt.len());
        assert_eq!(nobody.stored_key.len(), joe.stored_key.len());
        assert!(!format!("{joe:?}").contains("salt"));
    }
}
