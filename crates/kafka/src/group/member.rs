//! One member of a group: what it announced, what it was given, and what it waits for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::answers::{Answer, Answered, Joined, Synced, Token};
use crate::ErrorCode;

/// A JoinGroup that waits for the rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParkedJoin {
    pub(super) token: Token,
    /// Whether the client can be told its id by an answer only: it joined without one.
    pub(super) nameless: bool,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    /// The name of a static member (KIP-345).
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout_ms: u32,
    pub(super) rebalance_timeout_ms: u32,
    /// What it speaks, by preference, with the metadata for each.
    pub(super) protocols: Vec<(Arc<str>, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) join: Option<ParkedJoin>,
    pub(super) sync: Option<Token>,
    /// Whether it has asked for its assignment in this generation.
    pub(super) synced: bool,
    /// When its session ends; a member that waits for an answer of ours is alive without one.
    pub(super) session_ends_ms: u64,
}

impl Member {
    /// Whether an answer of ours is outstanding, which is to say that the member is there.
    pub(super) fn waits(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    /// The session begins anew.
    pub(super) fn seen(&mut self, now_ms: u64) {
        self.session_ends_ms = now_ms + u64::from(self.session_timeout_ms);
    }

    /// Whether it announces exactly these protocols with exactly this metadata.
    pub(super) fn speaks(&self, protocols: &[(&str, &[u8])]) -> bool {
        self.protocols.len() == protocols.len()
            && self
                .protocols
                .iter()
                .zip(protocols)
                .all(|((name, metadata), (other, bytes))| &**name == *other && metadata == bytes)
    }

    /// The metadata for a protocol; empty where it does not speak it.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(&**name) == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Bytes that peers made us keep.
    pub(super) fn size_bytes(&self) -> usize {
        let protocols: usize = self
            .protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum();
        let instance = self.instance_id.as_deref().map_or(0, str::len);
        let client = self.client_id.len() + self.client_host.len();
        protocols + self.assignment.len() + self.id.len() + instance + client
    }

    /// Answers a parked JoinGroup, if there is one, with an error.
    pub(super) fn refuse_join(&mut self, error: ErrorCode, answers: &mut Vec<Answered>) {
        if let Some(parked) = self.join.take() {
            let joined = Joined::refused(error, &self.id);
            answers.push((parked.token, Answer::Join(joined)));
        }
    }

    /// Answers a parked SyncGroup, if there is one, with an error.
    pub(super) fn refuse_sync(&mut self, error: ErrorCode, answers: &mut Vec<Answered>) {
        if let Some(token) = self.sync.take() {
            answers.push((token, Answer::Sync(Synced::refused(error))));
        }
    }
}

/// Members by their id.
pub(super) type Members = BTreeMap<Arc<str>, Member>;

/// The protocol of the next generation: each member votes for the first of its own list that all
/// speak. Of several with equal votes the one that `leader` prefers.
pub(super) fn choose_protocol(members: &Members, leader: &Member) -> Option<Arc<str>> {
    let shared: Vec<&Arc<str>> = leader
        .protocols
        .iter()
        .map(|(name, _)| name)
        .filter(|name| {
            let speaks = |member: &Member| member.protocols.iter().any(|(own, _)| own == *name);
            members.values().all(speaks)
        })
        .collect();
    let mut votes = vec![0_usize; shared.len()];
    for member in members.values() {
        let choice = member
            .protocols
            .iter()
            .find_map(|(name, _)| shared.iter().position(|candidate| *candidate == name));
        if let Some(choice) = choice {
            votes[choice] += 1;
        }
    }
    let most = *votes.iter().max()?;
    let winner = votes.iter().position(|count| *count == most)?;
    Some(shared[winner].clone())
}
