//! Why clients do not come in, in the words of the metrics and in MQTT's reason codes, and what the
//! authentication of a node counts. It asks nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use mqtt::ReasonCode;

use super::Denied;

/// Why clients did not come in, and what it took.
#[derive(Debug, Default)]
pub struct Counts {
    /// By the words of [`Counts::WORDS`].
    refused: [AtomicU64; Counts::WORDS.len()],
    /// Client ids banned because they came and went too often.
    pub flapped: AtomicU64,
}

impl Counts {
    /// Why a client did not come in.
    pub const WORDS: [&'static str; 10] = [
        "overload",
        "banned",
        "no_credentials",
        "wrong_credentials",
        "too_many_attempts",
        "no_answer",
        "method",
        "flapping",
        "busy",
        "client_id",
    ];

    /// One more did not.
    pub(super) fn count(&self, no: No) {
        self.refused[no as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many did not, by word.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let values = self
            .refused
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        Self::WORDS.into_iter().zip(values)
    }
}

/// What the authentication of a node counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthValues {
    /// Clients that did not come in, by word.
    pub refused: Vec<(String, u64)>,
    /// Clients that each authenticator let in.
    pub accepted: Vec<(String, u64)>,
    /// Requests of each callout that were answered.
    pub answered: Vec<(String, u64)>,
    /// Requests of each callout that were not.
    pub unanswered: Vec<(String, u64)>,
    /// Milliseconds that the answered ones took.
    pub answered_ms: Vec<(String, u64)>,
    /// Bans.
    pub bans: u64,
    /// Client ids banned because they came and went too often.
    pub flapped: u64,
}

/// Why a client does not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum No {
    Overload,
    Banned,
    Missing,
    WrongCredentials,
    TooManyAttempts,
    Unanswered,
    Method,
    Flapping,
    Busy,
    ClientId,
}

impl No {
    /// What the users table said.
    pub(super) fn of(denied: Denied) -> Self {
        match denied {
            Denied::Wrong => Self::WrongCredentials,
            Denied::TooMany => Self::TooManyAttempts,
            Denied::Busy => Self::Busy,
        }
    }

    pub(super) fn reason(self) -> ReasonCode {
        match self {
            Self::Overload => ReasonCode::QuotaExceeded,
            Self::Banned | Self::Flapping => ReasonCode::Banned,
            Self::Missing => ReasonCode::NotAuthorized,
            Self::WrongCredentials | Self::TooManyAttempts => ReasonCode::BadUserNameOrPassword,
            Self::Unanswered => ReasonCode::ServerUnavailable,
            Self::Method => ReasonCode::BadAuthenticationMethod,
            Self::Busy => ReasonCode::ServerBusy,
            Self::ClientId => ReasonCode::ClientIdentifierNotValid,
        }
    }
}
