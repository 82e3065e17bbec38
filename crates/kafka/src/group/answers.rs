//! What is asked of a group and what it answers. Names and bytes are shared, so that an answer to a
//! thousand members copies none of them.

use std::sync::Arc;

use bytes::Bytes;

use crate::ErrorCode;

/// The caller's number for a JoinGroup or SyncGroup that may have to wait. No two that wait at the
/// same time have the same.
pub type Token = u64;

/// An answer and whose it is.
pub type Answered = (Token, Answer);

/// The answer to a request that may have waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a JoinGroup.
    Join(Joined),
    /// To a SyncGroup.
    Sync(Synced),
}

/// A JoinGroup.
#[derive(Clone, Debug, Default)]
pub struct JoinRequest<'a> {
    /// The group.
    pub group: &'a str,
    /// The member's id; empty when it has none yet.
    pub member_id: &'a str,
    /// The name of a static member (KIP-345).
    pub instance_id: Option<&'a str>,
    /// What the client calls itself.
    pub client_id: &'a str,
    /// Where the client is.
    pub client_host: &'a str,
    /// The kind of group, such as `consumer` or `connect`.
    pub protocol_type: &'a str,
    /// Protocols of that kind that the member speaks, by preference, with its metadata for each.
    pub protocols: Vec<(&'a str, &'a [u8])>,
    /// How long it may be silent, ms.
    pub session_timeout_ms: i32,
    /// How long it may take to join again, ms.
    pub rebalance_timeout_ms: i32,
    /// Whether a first join is answered with an id only (version 4, KIP-394).
    pub id_first: bool,
    /// Whether it knows the flag that says to skip the assignment (version 9, KIP-814).
    pub knows_skip: bool,
}

/// The answer to a JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What went wrong.
    pub error: ErrorCode,
    /// The generation that the member belongs to, or -1.
    pub generation: i32,
    /// The kind of group.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol of the generation.
    pub protocol: Option<Arc<str>>,
    /// The member that makes the assignment.
    pub leader: Arc<str>,
    /// Whether the leader keeps the assignment that there is (KIP-814).
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Arc<str>,
    /// All members, for the leader; for others none.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub id: Arc<str>,
    /// Its static name.
    pub instance_id: Option<Arc<str>>,
    /// What it announced for the protocol of the generation.
    pub metadata: Bytes,
}

impl Joined {
    /// An error, to a member of this id.
    pub fn refused(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

/// A SyncGroup.
#[derive(Clone, Debug, Default)]
pub struct SyncRequest<'a> {
    /// The group.
    pub group: &'a str,
    /// The generation that the member knows.
    pub generation: i32,
    /// The member's id.
    pub member_id: &'a str,
    /// Its static name.
    pub instance_id: Option<&'a str>,
    /// The kind of group, where the version says it.
    pub protocol_type: Option<&'a str>,
    /// The protocol, where the version says it.
    pub protocol: Option<&'a str>,
    /// From the leader: what each member is assigned.
    pub assignments: Vec<(&'a str, &'a [u8])>,
}

/// The answer to a SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// What went wrong.
    pub error: ErrorCode,
    /// The kind of group.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol of the generation.
    pub protocol: Option<Arc<str>>,
    /// What the member is assigned.
    pub assignment: Bytes,
}

impl Synced {
    /// An error.
    pub fn refused(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

/// Who a Heartbeat, a commit or a SyncGroup says to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The member's id.
    pub member_id: &'a str,
    /// Its static name.
    pub instance_id: Option<&'a str>,
    /// The generation that it knows; below 0 for who is no member.
    pub generation: i32,
}

/// One that leaves a group: by its id, by its static name, or by both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaving<'a> {
    /// Its id; may be empty where there is a static name.
    pub member_id: &'a str,
    /// Its static name.
    pub instance_id: Option<&'a str>,
}
