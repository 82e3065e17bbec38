//! Bearer tokens of the HTTP API: who may use it from elsewhere, and as what. A token is random and
//! long, so a plain hash of it is kept; it is told once, when it is made.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::limits;
use super::users::Ledger;

/// What every token begins with, so that one that leaked is found.
const PREFIX: &str = "sluice_";

/// Names of callers who have no token of the table: the token of this process, and an open door.
const TAKEN: [&str; 2] = ["local", "loopback"];

/// Format of a record: one byte of version, then JSON.
const FORMAT: u8 = 1;

/// What a caller of the API may do; each may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything but users, bans, tokens, the audit stream and the configuration.
    Viewer,
    /// Look at all that, and act on what runs: disconnect, publish, hooks, retained messages, log.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// The record of a token.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    name: String,
    role: Role,
    created_ms: u64,
    expires_ms: Option<u64>,
    /// SHA-256 of the whole token, in base64.
    sha256: String,
}

impl Token {
    /// Reads a record.
    ///
    /// # Errors
    /// It is none; says why.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&FORMAT, json)) => {
                serde_json::from_slice(json).map_err(|error| format!("the record: {error}"))
            }
            _ => Err("the record has an unknown format".to_owned()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        serde_json::to_writer(&mut bytes, self).expect("a token is JSON");
        bytes
    }
}

/// What the API tells of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRow {
    /// Its id: the part of the token that is no secret.
    pub id: String,
    /// What whoever made it calls it.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// When it was made, ms since the epoch.
    pub created_ms: u64,
    /// When it stops being one, ms since the epoch; `null`: never.
    pub expires_ms: Option<u64>,
    /// When it was used last since the start of the node, ms since the epoch.
    pub last_used_ms: Option<u64>,
}

/// A bearer who was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The name of its token.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// The name or the number of tokens is out of bounds; says which.
    Invalid(String),
    /// There is no token of that id or name.
    Unknown,
    /// The table cannot be written; says why.
    Unwritten(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::Unknown => f.write_str("there is no token of that id"),
            Self::Unwritten(why) => write!(f, "the tokens table cannot be written: {why}"),
        }
    }
}

struct Held {
    token: Token,
    /// ms since the epoch; 0: not since the start.
    used_ms: AtomicU64,
}

/// All tokens of a node.
pub struct Tokens {
    rows: RwLock<BTreeMap<String, Arc<Held>>>,
    ledger: Box<dyn Ledger>,
    changing: tokio::sync::Mutex<()>,
    /// Of this process only: whoever may read the data directory may do everything anyway.
    local: String,
}

impl Tokens {
    /// The tokens whose records are in the table, by their ids.
    pub fn new(rows: impl IntoIterator<Item = (String, Token)>, ledger: Box<dyn Ledger>) -> Self {
        let held = |(id, token)| {
            let used_ms = AtomicU64::new(0);
            (id, Arc::new(Held { token, used_ms }))
        };
        let local = format!("{PREFIX}local_{}", secret(&*ledger));
        Self {
            rows: RwLock::new(rows.into_iter().map(held).collect()),
            ledger,
            changing: tokio::sync::Mutex::new(()),
            local,
        }
    }

    /// Whether there are none but the local one.
    pub fn is_empty(&self) -> bool {
        self.rows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// The token of this process, for who may read the data directory.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Who bears that token; nobody knows why not.
    pub fn bearer(&self, text: &str) -> Option<Bearer> {
        // Hashes are compared, so that the time it takes tells nothing of the secret.
        let hash = sha256(text);
        if hash == sha256(&self.local) {
            return Some(Bearer {
                name: "local".to_owned(),
                role: Role::Admin,
            });
        }
        let (id, _) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let held = {
            let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(rows.get(id)?)
        };
        let now_ms = self.ledger.now_ms();
        let over = held.token.expires_ms.is_some_and(|at| at <= now_ms);
        if over || held.token.sha256 != hash {
            return None;
        }
        held.used_ms.store(now_ms, Ordering::Relaxed);
        Some(Bearer {
            name: held.token.name.clone(),
            role: held.token.role,
        })
    }

    /// What may be told of all tokens, by id.
    pub fn list(&self) -> Vec<TokenRow> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.iter().map(|(id, held)| row(id, held)).collect()
    }

    /// Makes a token that holds for `lifetime_ms`, or for ever. The text is told only here.
    ///
    /// # Errors
    /// The name is out of bounds, there are too many, or the table cannot be written.
    pub async fn add(
        &self,
        name: &str,
        role: Role,
        lifetime_ms: Option<u64>,
    ) -> Result<(TokenRow, String), TokenError> {
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.contains(char::is_control)
        {
            let most = limits::NAME_BYTES_MAX;
            let what = format!("a token's name has 1 to {most} bytes and no control characters");
            return Err(TokenError::Invalid(what));
        }
        if TAKEN.contains(&name) {
            let what = format!("the audit stream calls somebody else {name}");
            return Err(TokenError::Invalid(what));
        }
        let _changing = self.changing.lock().await;
        let count = self.list().len();
        if count >= limits::TOKENS_MAX {
            let what = format!("a node has at most {} tokens", limits::TOKENS_MAX);
            return Err(TokenError::Invalid(what));
        }
        let random = self.ledger.random();
        let id = random[..6]
            .iter()
            .fold(0, |id, byte| (id << 8) | u64::from(*byte));
        let id = format!("{id:012x}");
        let text = format!("{PREFIX}{id}_{}", secret(&*self.ledger));
        let created_ms = self.ledger.now_ms();
        let token = Token {
            name: name.to_owned(),
            role,
            created_ms,
            expires_ms: lifetime_ms.map(|ms| created_ms.saturating_add(ms)),
            sha256: sha256(&text),
        };
        let written = self.ledger.write(&id, Some(token.encode())).await;
        written.map_err(TokenError::Unwritten)?;
        let held = Arc::new(Held {
            token,
            used_ms: AtomicU64::new(0),
        });
        let made = row(&id, &held);
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.insert(id, held);
        Ok((made, text))
    }

    /// Takes a token back, by its id; or by its name, where only one has it.
    ///
    /// # Errors
    /// There is none, or the table cannot be written.
    pub async fn delete(&self, id_or_name: &str) -> Result<(), TokenError> {
        let _changing = self.changing.lock().await;
        let rows = self.list();
        let by_id = rows.iter().find(|row| row.id == id_or_name);
        let mut by_name = rows.iter().filter(|row| row.name == id_or_name);
        let id = match (by_id, by_name.next(), by_name.next()) {
            (Some(row), ..) | (None, Some(row), None) => row.id.clone(),
            _ => return Err(TokenError::Unknown),
        };
        let written = self.ledger.write(&id, None).await;
        written.map_err(TokenError::Unwritten)?;
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.remove(&id);
        Ok(())
    }
}

fn row(id: &str, held: &Held) -> TokenRow {
    let used_ms = held.used_ms.load(Ordering::Relaxed);
    TokenRow {
        id: id.to_owned(),
        name: held.token.name.clone(),
        role: held.token.role,
        created_ms: held.token.created_ms,
        expires_ms: held.token.expires_ms,
        last_used_ms: (used_ms > 0).then_some(used_ms),
    }
}

/// 256 random bits as text.
fn secret(ledger: &dyn Ledger) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(ledger.random())
}

fn sha256(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_known_until_it_is_taken_back() {
        let tokens = crate::auth::tokens_in_memory();
        assert!(tokens.is_empty());
        let (row, text) = tokens.add("ci", Role::Operator, None).await.unwrap();
        let bearer = tokens.bearer(&text).unwrap();
        assert_eq!((bearer.name.as_str(), bearer.role), ("ci", Role::Operator));
        let shown = serde_json::to_string(&tokens.list()).unwrap();
        let secret = text.rsplit('_').next().unwrap();
        assert!(!shown.contains(secret) && shown.contains(&row.id));
        let (front, _) = text.split_at(text.len() - 1);
        for wrong in [front, "", "sluice_", "Bearer", &format!("{text}A")] {
            assert_eq!(tokens.bearer(wrong), None, "{wrong}");
        }
        tokens.delete("ci").await.unwrap();
        assert_eq!(tokens.bearer(&text), None);
        assert_eq!(tokens.delete("ci").await, Err(TokenError::Unknown));
    }

    #[tokio::test]
    async fn a_token_ends_at_its_time_and_the_local_one_does_not() {
        let tokens = crate::auth::tokens_in_memory();
        let (_, text) = tokens.add("short", Role::Viewer, Some(0)).await.unwrap();
        assert_eq!(tokens.bearer(&text), None);
        assert_eq!(tokens.bearer(tokens.local()).unwrap().role, Role::Admin);
        assert!(tokens.add("", Role::Viewer, None).await.is_err());
        assert!(tokens.add("a\n", Role::Viewer, None).await.is_err());
        for taken in TAKEN {
            assert!(tokens.add(taken, Role::Viewer, None).await.is_err());
        }
    }

    #[test]
    fn a_record_is_read_back_and_rubbish_is_not() {
        let token = Token {
            name: "n".to_owned(),
            role: Role::Viewer,
            created_ms: 1,
            expires_ms: Some(2),
            sha256: sha256("x"),
        };
        let read = Token::decode(&token.encode()).unwrap();
        assert_eq!((read.role, read.sha256), (Role::Viewer, sha256("x")));
        assert!(Token::decode(b"").is_err() && Token::decode(b"\x02{}").is_err());
    }
}
