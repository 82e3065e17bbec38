//! One user: the record of the users table, and what may be told of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::imported::Imported;
use super::limits;
use super::password::{Password, PasswordHash, SALT_BYTES};
use super::principal::ANONYMOUS;
use super::scram::{Hash, Keys};

/// Format of a record: one byte of version, then JSON.
const FORMAT: u8 = 1;

/// What the node keeps of a user. It holds no password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// When it was added, ms since 1970.
    pub created_ms: u64,
    /// When its password was set, ms since 1970.
    pub changed_ms: u64,
    /// For passwords in the clear; absent where another broker made the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argon2id: Option<PasswordHash>,
    /// The hash that another broker made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// For SCRAM-SHA-256; absent where only a hash was known when the user was made.
    pub scram_sha_256: Option<ScramRecord>,
    /// For SCRAM-SHA-512.
    pub scram_sha_512: Option<ScramRecord>,
}

/// The keys of one SCRAM mechanism, as they are written.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramRecord {
    iterations: u32,
    #[serde(with = "base64_bytes")]
    salt: Vec<u8>,
    #[serde(with = "base64_bytes")]
    stored_key: Vec<u8>,
    #[serde(with = "base64_bytes")]
    server_key: Vec<u8>,
}

/// What the API tells of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserRow {
    /// Its name.
    pub name: String,
    /// When it was added, ms since 1970.
    pub created_ms: u64,
    /// When its password was set, ms since 1970.
    pub changed_ms: u64,
    /// How it can log in: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub mechanisms: Vec<String>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("created_ms", &self.created_ms)
            .finish_non_exhaustive()
    }
}

impl User {
    /// The record of a password. Takes tens of milliseconds; `salts` must be random.
    pub fn make(password: &Password, salts: [[u8; SALT_BYTES]; 3], now_ms: u64) -> Self {
        let keys = |hash, salt: &[u8]| {
            let keys = Keys::derive(hash, password.text(), salt, limits::SCRAM_ITERATIONS);
            Some(ScramRecord {
                iterations: keys.iterations,
                salt: keys.salt,
                stored_key: keys.stored_key,
                server_key: keys.server_key,
            })
        };
        Self {
            created_ms: now_ms,
            changed_ms: now_ms,
            argon2id: Some(PasswordHash::make(password, salts[0])),
            imported: None,
            scram_sha_256: keys(Hash::Sha256, &salts[1]),
            scram_sha_512: keys(Hash::Sha512, &salts[2]),
        }
    }

    /// The record of a hash that another broker made.
    pub fn of_imported(imported: Imported, now_ms: u64) -> Self {
        Self {
            created_ms: now_ms,
            changed_ms: now_ms,
            argon2id: None,
            imported: Some(imported),
            scram_sha_256: None,
            scram_sha_512: None,
        }
    }

    /// Whether `password` is the one. Takes as long as its hash.
    pub fn matches(&self, password: &str) -> bool {
        match (&self.argon2id, &self.imported) {
            (Some(hash), _) => hash.matches(password),
            (None, Some(imported)) => imported.matches(password),
            (None, None) => false,
        }
    }

    /// What is another with each password: salt, and hash where a salt may be missing.
    pub fn mark(&self) -> Vec<u8> {
        let imported = self.imported.as_ref();
        match &self.argon2id {
            Some(hash) => hash.salt().to_vec(),
            None => imported.map_or(Vec::new(), |one| [one.salt(), one.hash()].concat()),
        }
    }

    /// The keys of a mechanism.
    pub fn keys(&self, hash: Hash) -> Option<Keys> {
        let record = match hash {
            Hash::Sha256 => self.scram_sha_256.as_ref()?,
            Hash::Sha512 => self.scram_sha_512.as_ref()?,
        };
        Some(Keys {
            salt: record.salt.clone(),
            iterations: record.iterations,
            stored_key: record.stored_key.clone(),
            server_key: record.server_key.clone(),
        })
    }

    /// What may be told.
    pub fn row(&self, name: &str) -> UserRow {
        let mut mechanisms = vec!["PLAIN".to_owned()];
        for hash in [Hash::Sha256, Hash::Sha512] {
            mechanisms.extend(self.keys(hash).map(|_| hash.mechanism().to_owned()));
        }
        UserRow {
            name: name.to_owned(),
            created_ms: self.created_ms,
            changed_ms: self.changed_ms,
            mechanisms,
        }
    }

    /// The value of the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = vec![FORMAT];
        serde_json::to_writer(&mut value, self).expect("a record of text and numbers is JSON");
        value
    }

    /// Reads the value of a record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        let (format, json) = value.split_first().ok_or("the record is empty")?;
        if *format != FORMAT {
            return Err(format!(
                "the record has format {format}; this program reads format {FORMAT}"
            ));
        }
        // What serde says could quote a part of a key.
        let user: Self =
            serde_json::from_slice(json).map_err(|_| "the record is damaged".to_owned())?;
        let sound = match (&user.argon2id, &user.imported) {
            (Some(hash), None) => hash.sound(),
            (None, Some(imported)) => imported.sound(),
            _ => false,
        };
        if sound {
            Ok(user)
        } else {
            Err("the hash has parameters that cannot be computed here".to_owned())
        }
    }
}

/// What is wrong with a user's name, if anything is.
pub fn bad_name(name: &str) -> Option<String> {
    let most = limits::NAME_BYTES_MAX;
    if name.is_empty() || name.len() > most {
        return Some(format!("the name of a user has 1 to {most} bytes"));
    }
    if name.chars().any(char::is_control) || name.trim() != name {
        return Some(
            "the name of a user has no control characters and no space at its ends".to_owned(),
        );
    }
    (name == ANONYMOUS || name == "*")
        .then(|| format!("no user can be called \"{name}\": permissions give it a meaning"))
}

/// Bytes as base64 in JSON.
pub(super) mod base64_bytes {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64_simd::STANDARD.encode_to_string(bytes))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        base64_simd::STANDARD
            .decode_to_vec(text)
            .map_err(|_| D::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_tells_nothing() {
        let password = Password::new("pencil").unwrap();
        let salts = [[1; SALT_BYTES], [2; SALT_BYTES], [3; SALT_BYTES]];
        let user = User::make(&password, salts, 5);
        let value = user.encode();
        assert_eq!(User::decode(&value), Ok(user.clone()));
        assert!(!String::from_utf8_lossy(&value).contains("pencil"));
        assert_eq!(format!("{user:?}"), "User { created_ms: 5, .. }");
        let keys = user.keys(Hash::Sha512).unwrap();
        let same = Keys::derive(
            Hash::Sha512,
            "pencil",
            &[3; SALT_BYTES],
            limits::SCRAM_ITERATIONS,
        );
        assert_eq!(keys, same);
        let row = user.row("joe");
        assert_eq!(row.mechanisms, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
        let mut later = value.clone();
        later[0] = 2;
        assert!(User::decode(&later).unwrap_err().contains("format 2"));
        assert!(User::decode(&value[..value.len() - 1]).is_err());
        assert!(User::decode(&[]).is_err());
        let greedy = String::from_utf8(value)
            .unwrap()
            .replace("19456", "99999999");
        assert!(User::decode(greedy.as_bytes()).is_err());
    }

    #[test]
    fn names_are_checked() {
        for good in ["joe", "a b", "CN=x,O=y", "\u{e4}"] {
            assert_eq!(bad_name(good), None, "{good}");
        }
        for bad in ["", " joe", "joe ", "a\nb", "anonymous", "*"] {
            assert!(bad_name(bad).is_some(), "{bad}");
        }
        assert!(bad_name(&"x".repeat(256)).is_some());
    }
}
