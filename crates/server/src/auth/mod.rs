//! Who comes in: principals, the users of the node with their passwords and SCRAM keys, and how
//! guessing is slowed down. It knows neither MQTT nor Kafka; both doors ask it.

pub mod attempts;
pub mod limits;
pub mod password;
mod principal;
pub mod scram;
pub mod tokens;
mod user;
mod users;
mod verified;

pub use password::Password;
pub use principal::Principal;
pub use tokens::{Role, Token, TokenError, TokenRow, Tokens};
pub use user::{User, UserRow, bad_name};
#[cfg(test)]
pub(crate) use users::tests::{in_memory, tokens_in_memory};
pub use users::{ChangeError, Denied, Ledger, Users};
