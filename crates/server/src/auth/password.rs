//! Passwords and their argon2id hashes (RFC 9106). Neither is ever shown.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use super::limits;
use super::scram::same;
use super::user::base64_bytes;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// What an old record may ask of a start of today.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;

/// A password in the clear, on its way to be hashed or compared.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes a password of 1 to 1,024 bytes.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        let most = limits::PASSWORD_BYTES_MAX;
        if text.is_empty() || text.len() > most {
            return Err(format!("a password has 1 to {most} bytes"));
        }
        if text.contains(['\0', '\n', '\r']) {
            return Err("a password has no line breaks and no NUL".to_owned());
        }
        Ok(Self(text))
    }

    /// The password.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// An argon2id hash with what it was made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "base64_bytes")]
    salt: Vec<u8>,
    #[serde(with = "base64_bytes")]
    hash: Vec<u8>,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").finish_non_exhaustive()
    }
}

impl PasswordHash {
    /// Hashes a password. Takes tens of milliseconds and [`limits::ARGON2_MEMORY_KIB`].
    pub fn make(password: &Password, salt: [u8; SALT_BYTES]) -> Self {
        let mut made = Self {
            memory_kib: limits::ARGON2_MEMORY_KIB,
            passes: limits::ARGON2_PASSES,
            lanes: 1,
            salt: salt.to_vec(),
            hash: Vec::new(),
        };
        made.hash = made
            .compute(password.text())
            .expect("the parameters of a new hash are constants that argon2 takes");
        made
    }

    /// Whether `password` is the one. Takes as long as to hash it.
    pub fn matches(&self, password: &str) -> bool {
        self.compute(password)
            .is_some_and(|hash| same(&hash, &self.hash))
    }

    /// The salt; new with each password.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether the hash can be computed at all on this machine.
    pub(super) fn sound(&self) -> bool {
        self.memory_kib <= MEMORY_KIB_MAX
            && self.passes <= PASSES_MAX
            && self.hash.len() == HASH_BYTES
            && self.params().is_some()
    }

    fn params(&self) -> Option<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_BYTES)).ok()
    }

    fn compute(&self, password: &str) -> Option<Vec<u8>> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params()?);
        let mut hash = vec![0; HASH_BYTES];
        argon2
            .hash_password_into(password.as_bytes(), &self.salt, &mut hash)
            .ok()?;
        Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by the reference implementation (t = 2, m = 19,456 KiB, p = 1).
    #[test]
    fn a_hash_is_that_of_the_reference_implementation() {
        let password = Password::new("pencil").unwrap();
        let made = PasswordHash::make(&password, *b"0123456789abcdef");
        assert!(made.sound() && made.matches("pencil") && !made.matches("Pencil"));
        assert_eq!(
            base64_simd::STANDARD.encode_to_string(&made.hash),
            "stzJyf6wzR+1sZ/FVbDqt0v765DMsr6xCu1DEFHYexE="
        );
    }

    #[test]
    fn passwords_have_bounds_and_are_not_shown() {
        assert!(Password::new("").is_err());
        assert!(Password::new("a\nb").is_err());
        assert!(Password::new("x".repeat(limits::PASSWORD_BYTES_MAX + 1)).is_err());
        let password = Password::new("geheim").unwrap();
        assert_eq!(format!("{password:?}"), "Password");
        let hash = PasswordHash::make(&password, [7; SALT_BYTES]);
        assert_eq!(format!("{hash:?}"), "PasswordHash { .. }");
    }
}
