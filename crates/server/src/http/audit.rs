//! The audit stream: one record for each change that was asked for over the API, whatever became of
//! it. Bodies are not in it: they could hold passwords.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Role;

/// One change, as the stream `__sluice.audit` holds it in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRow {
    /// When, as RFC 3339, in UTC.
    pub time: String,
    /// The same, ms since the epoch.
    pub time_ms: u64,
    /// Name of the token, or `loopback`.
    pub by: String,
    /// Its role.
    pub role: Role,
    /// Address and port of the caller.
    pub peer: Option<String>,
    /// Method of the request.
    pub method: String,
    /// Path of the request.
    pub path: String,
    /// What the path does not say, such as the name of what was made.
    pub what: Option<String>,
    /// Status of the answer.
    pub status: u16,
}

/// What the record of a change shall say besides; an extension of the answer.
#[derive(Debug, Clone)]
pub(super) struct Note(pub String);
