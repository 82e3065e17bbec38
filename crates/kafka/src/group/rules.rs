//! What a group coordinator is told by configuration. Bounds that nobody configures are in the
//! crate's `limits.rs`.

use crate::limits;

/// What groups are allowed, and how patient they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRules {
    /// Shortest session timeout that a member may ask for, ms.
    pub session_timeout_ms_min: u32,
    /// Longest session timeout that a member may ask for, ms.
    pub session_timeout_ms_max: u32,
    /// Most members of one group; further ones get GROUP_MAX_SIZE_REACHED.
    pub members_max: usize,
    /// Most groups with members; in a further one nobody can join.
    pub groups_max: usize,
    /// How long the first rebalance of an empty group waits for more members, ms (KIP-134).
    pub rebalance_delay_ms: u32,
}

impl Default for GroupRules {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            members_max: 1_000,
            groups_max: 10_000,
            rebalance_delay_ms: 100,
        }
    }
}

/// Whether a text can be the id of a group.
pub fn is_group_id(id: &str) -> bool {
    (1..=limits::GROUP_ID_BYTES_MAX).contains(&id.len())
}
