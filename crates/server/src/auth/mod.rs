//! Who comes in: principals, the users of the node with their passwords and SCRAM keys, and how
//! guessing is slowed down. It knows neither MQTT nor Kafka; both doors ask it.

pub mod admission;
pub mod attempts;
pub mod bans;
pub mod callout;
mod claims;
pub mod enhanced;
mod flapping;
mod hashing;
mod health;
pub mod imported;
mod inquiries;
pub mod jwt;
pub mod limits;
mod methods;
mod overload;
pub mod password;
mod plan;
mod principal;
pub mod refusal;
pub mod scram;
mod secret;
pub mod tokens;
mod user;
mod users;
mod verified;

pub use admission::{Auth, Entry, Exchange, Knock};
pub use bans::{Ban, BanError, BanKind, Bans};
pub use password::Password;
pub use principal::Principal;
pub use secret::Secret;
pub use tokens::{Role, Token, TokenError, TokenRow, Tokens};
pub use user::{User, UserRow, bad_name};
#[cfg(test)]
pub(crate) use users::tests::{in_memory, tokens_in_memory};
pub use users::{Attempt, ChangeError, Denied, Ledger, Revocations, Users};

use std::net::{IpAddr, Ipv6Addr};

/// What an address is counted as where there is a bound for each: a host that has IPv6 has a /64 of
/// addresses and could take another each time.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}
