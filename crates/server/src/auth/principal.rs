//! Who a connection acts as, whichever door it came through.

use std::fmt;

/// The name that nobody in particular has; no user can be called so.
pub const ANONYMOUS: &str = "anonymous";

/// Who a connection acts as. Kafka's only kind of principal is `User`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    name: String,
}

impl Principal {
    /// A connection that was not asked who it is.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
        }
    }

    /// A user of the users table, or whom a client certificate names.
    pub fn user(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The name without its kind.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether nobody was asked.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }
}

/// As Kafka writes it: `User:alice`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User:{}", self.name)
    }
}
