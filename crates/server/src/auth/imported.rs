//! Password hashes that other brokers made: mosquitto's password files and EMQX's built-in users.
//! They serve passwords in the clear only; SCRAM needs keys that cannot be made from them.

use std::fmt;

use md5::Md5;
use pbkdf2::pbkdf2_hmac;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use utoipa::ToSchema;

use super::limits::{
    IMPORTED_COST_MAX, IMPORTED_HASH_BYTES_MAX, IMPORTED_ITERATIONS_MAX, IMPORTED_SALT_BYTES_MAX,
};
use super::scram::same;
use super::user::base64_bytes;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// MD5: broken, and still what some brokers keep.
    Md5,
    /// SHA-1: as MD5.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Function {
    /// Length of its hashes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn digest(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::digest(text).to_vec(),
            Self::Sha1 => Sha1::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::Sha512 => Sha512::digest(text).to_vec(),
        }
    }

    /// PBKDF2 with HMAC of this function; fills `derived`.
    fn derive(self, password: &[u8], salt: &[u8], iterations: u32, derived: &mut [u8]) {
        match self {
            Self::Md5 => pbkdf2_hmac::<Md5>(password, salt, iterations, derived),
            Self::Sha1 => pbkdf2_hmac::<Sha1>(password, salt, iterations, derived),
            Self::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, iterations, derived),
            Self::Sha512 => pbkdf2_hmac::<Sha512>(password, salt, iterations, derived),
        }
    }
}

/// Where the salt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SaltPosition {
    /// Before the password.
    Prefix,
    /// Behind it.
    Suffix,
    /// Nowhere.
    Disable,
}

/// A hash with what it was made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "scheme", rename_all = "lowercase")]
pub enum Imported {
    /// The hash of salt and password together.
    Digest {
        /// Of which function.
        function: Function,
        /// Where the salt stands.
        salt_position: SaltPosition,
        /// The salt, where it stands beside the hash.
        #[serde(with = "base64_bytes")]
        #[schema(value_type = String)]
        salt: Vec<u8>,
        /// The hash.
        #[serde(with = "base64_bytes")]
        #[schema(value_type = String)]
        hash: Vec<u8>,
    },
    /// PBKDF2 (RFC 8018) with HMAC.
    Pbkdf2 {
        /// Of which function.
        function: Function,
        /// How often.
        iterations: u32,
        /// The salt, where it stands beside the hash.
        #[serde(with = "base64_bytes")]
        #[schema(value_type = String)]
        salt: Vec<u8>,
        /// The derived key.
        #[serde(with = "base64_bytes")]
        #[schema(value_type = String)]
        hash: Vec<u8>,
    },
    /// bcrypt, as it is written: `$2b$10$` with salt and hash behind it.
    Bcrypt {
        /// All of it.
        text: String,
    },
}

impl fmt::Debug for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Imported")
    }
}

impl Imported {
    /// Whether it is within bounds, and a hash of its function's length.
    pub fn sound(&self) -> bool {
        match self {
            Self::Digest {
                function,
                salt,
                hash,
                ..
            } => hash.len() == function.bytes() && salt.len() <= IMPORTED_SALT_BYTES_MAX,
            Self::Pbkdf2 {
                iterations,
                salt,
                hash,
                ..
            } => {
                (1..=IMPORTED_ITERATIONS_MAX).contains(iterations)
                    && salt.len() <= IMPORTED_SALT_BYTES_MAX
                    && (16..=IMPORTED_HASH_BYTES_MAX).contains(&hash.len())
            }
            Self::Bcrypt { text } => text
                .parse::<bcrypt::HashParts>()
                .is_ok_and(|parts| (4..=IMPORTED_COST_MAX).contains(&parts.get_cost())),
        }
    }

    /// Whether `password` is the one.
    pub fn matches(&self, password: &str) -> bool {
        match self {
            Self::Digest {
                function,
                salt_position,
                salt,
                hash,
            } => {
                let parts: [&[u8]; 2] = match salt_position {
                    SaltPosition::Prefix => [salt, password.as_bytes()],
                    SaltPosition::Suffix => [password.as_bytes(), salt],
                    SaltPosition::Disable => [password.as_bytes(), &[]],
                };
                let text = parts.concat();
                let computed = function.digest(&text);
                same(&computed, hash)
            }
            Self::Pbkdf2 {
                function,
                iterations,
                salt,
                hash,
            } => {
                let mut computed = vec![0; hash.len()];
                function.derive(password.as_bytes(), salt, *iterations, &mut computed);
                same(&computed, hash)
            }
            Self::Bcrypt { text } => bcrypt::verify(password, text).unwrap_or(false),
        }
    }

    /// The salt, where it stands beside the hash.
    pub fn salt(&self) -> &[u8] {
        match self {
            Self::Digest { salt, .. } | Self::Pbkdf2 { salt, .. } => salt,
            Self::Bcrypt { .. } => &[],
        }
    }

    /// The hash, by which a changed password is known where there is no salt.
    pub fn hash(&self) -> &[u8] {
        match self {
            Self::Digest { hash, .. } | Self::Pbkdf2 { hash, .. } => hash,
            Self::Bcrypt { text } => text.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    /// Computed with Python's hashlib.
    #[test]
    fn hashes_of_other_programs_are_recognised() {
        let digest = |salt_position, hash: &str| Imported::Digest {
            function: Function::Sha256,
            salt_position,
            salt: b"salt".to_vec(),
            hash: hex(hash),
        };
        for (one, hash) in [
            (
                SaltPosition::Prefix,
                "13601bda4ea78e55a07b98866d2be6be0744e3866f13c00c811cab608a28f322",
            ),
            (
                SaltPosition::Suffix,
                "7a37b85c8918eac19a9089c0fa5a2ab4dce3f90528dcdeec108b23ddf3607b99",
            ),
            (
                SaltPosition::Disable,
                "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
            ),
        ] {
            let imported = digest(one, hash);
            assert!(imported.sound() && imported.matches("password"), "{one:?}");
            assert!(!imported.matches("Password"));
        }
        let derived = Imported::Pbkdf2 {
            function: Function::Sha256,
            iterations: 1,
            salt: b"salt".to_vec(),
            hash: hex("120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b"),
        };
        assert!(derived.matches("password") && !derived.matches("passwor"));
        assert_eq!(format!("{derived:?}"), "Imported");
        for (function, hash) in [
            (Function::Md5, "67a1e09bb1f83f5007dc119c14d663aa"),
            (Function::Sha1, "59b3e8d637cf97edbe2384cf59cb7453dfe30789"),
        ] {
            let old = Imported::Digest {
                function,
                salt_position: SaltPosition::Prefix,
                salt: b"salt".to_vec(),
                hash: hex(hash),
            };
            assert!(old.sound() && old.matches("password") && !old.matches("passwor"));
        }
        let cut = Imported::Digest {
            function: Function::Sha512,
            salt_position: SaltPosition::Suffix,
            salt: Vec::new(),
            hash: vec![0; 32],
        };
        assert!(!cut.sound());
    }

    /// Made by libxcrypt of "pencil".
    #[test]
    fn bcrypt_is_recognised_within_its_bound() {
        for text in [
            "$2a$05$KhExM0aVb7rLw4nR2PfB6OTRJLlBzDN1x9Y2gp9m719DmCyvvALSW",
            "$2b$05$KhExM0aVb7rLw4nR2PfB6OTRJLlBzDN1x9Y2gp9m719DmCyvvALSW",
            "$2y$05$KhExM0aVb7rLw4nR2PfB6OTRJLlBzDN1x9Y2gp9m719DmCyvvALSW",
            "$2b$10$Zq3sT8uVwX1yA2bC4dE6Fe1mhxeaeNy6YkuxL1qp5jdfQ.O0SGIAq",
        ] {
            let imported = Imported::Bcrypt {
                text: text.to_owned(),
            };
            assert!(imported.sound() && imported.matches("pencil"), "{text}");
            assert!(!imported.matches("Pencil") && !imported.matches(""));
            let value = serde_json::to_string(&imported).unwrap();
            assert_eq!(serde_json::from_str::<Imported>(&value).unwrap(), imported);
        }
        for bad in [
            "",
            "$2b$31$",
            "pencil",
            "$2b$99$zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        ] {
            assert!(
                !Imported::Bcrypt {
                    text: bad.to_owned()
                }
                .sound(),
                "{bad}"
            );
        }
    }
}
