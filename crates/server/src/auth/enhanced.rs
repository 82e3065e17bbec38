//! MQTT 5 enhanced authentication by SCRAM-SHA-256 (RFC 7677, [MQTT 5, 4.12]): the same exchange at
//! CONNECT and of a client that is in. Bytes in, bytes out.

use std::ops::Deref;

use mqtt::ReasonCode;

use super::scram::{Challenge, ClientFirst, Hash};
use super::{Attempt, Users};

/// The method, as CONNECT and AUTH name it.
pub const METHOD: &str = "SCRAM-SHA-256";

/// An exchange that waits for the client's final message.
pub struct Exchange {
    name: String,
    challenge: Challenge,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// The user that a client's first message names.
///
/// # Errors
/// It is not SCRAM.
pub fn name(first: &[u8]) -> Result<String, ReasonCode> {
    let first = ClientFirst::read(first).map_err(|_| ReasonCode::NotAuthorized)?;
    Ok(first.name)
}

/// Answers the client's first message.
///
/// # Errors
/// It is not SCRAM.
pub fn begin(users: &Users, first: &[u8]) -> Result<(Exchange, Vec<u8>), ReasonCode> {
    let first = ClientFirst::read(first).map_err(|_| ReasonCode::NotAuthorized)?;
    let name = first.name.clone();
    let keys = users.scram_keys(&name, Hash::Sha256);
    let (challenge, told) = first.challenge(Hash::Sha256, keys, &users.nonce());
    Ok((Exchange { name, challenge }, told.into_bytes()))
}

impl Exchange {
    /// Who says to be there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Judges the client's final message, the end of `attempt`; answers the server's, which proves that
    /// it knows the user.
    ///
    /// # Errors
    /// The proof is wrong.
    pub fn finish<U: Deref<Target = Users>>(
        self,
        attempt: Attempt<U>,
        last: &[u8],
    ) -> Result<Vec<u8>, ReasonCode> {
        let verified = self.challenge.verify(last);
        let told = verified.map_err(|_| ReasonCode::NotAuthorized)?;
        attempt.succeeded();
        Ok(told.into_bytes())
    }
}
