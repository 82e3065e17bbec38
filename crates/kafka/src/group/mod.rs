//! Consumer groups: the classic group protocol as one state machine for all groups of a node, with
//! static members (KIP-345), member ids before members (KIP-394), the initial delay (KIP-134) and
//! the flag to keep an assignment (KIP-814). Metadata and assignments are opaque. Time, chance and
//! the tokens of those who wait are arguments; committed offsets are `crate::offsets`'.

mod answers;
mod join;
mod member;
mod requests;
mod rules;
mod state;
mod view;

pub use answers::{
    Answer, Answered, Claim, JoinRequest, Joined, JoinedMember, Leaving, SyncRequest, Synced, Token,
};
pub use rules::{GroupRules, is_group_id};
pub use state::GroupState;
pub use view::{GroupView, MemberView};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{ErrorCode, limits};
use join::Joining;
use state::Group;

/// What happened to all groups since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Rebalances begun.
    pub rebalances: u64,
    /// Members that were silent for too long, or did not ask for their assignment in time.
    pub members_lost: u64,
}

/// All groups of a node. Answers are appended to the caller's list; each token that came in by
/// [`Groups::join`] or [`Groups::sync`] comes out exactly once, unless it was [`Groups::dropped`].
#[derive(Debug)]
pub struct Groups {
    rules: GroupRules,
    kept: BTreeMap<Arc<str>, Kept>,
    /// When groups have something to do: never later than it is so.
    due: BTreeSet<(u64, Arc<str>)>,
    size_bytes: usize,
    counts: GroupCounts,
}

#[derive(Debug)]
struct Kept {
    group: Group,
    /// Its place in `due`.
    due_ms: Option<u64>,
    size_bytes: usize,
}

impl Groups {
    /// No groups yet.
    pub fn new(rules: GroupRules) -> Self {
        Self {
            rules,
            kept: BTreeMap::new(),
            due: BTreeSet::new(),
            size_bytes: 0,
            counts: GroupCounts::default(),
        }
    }

    /// JoinGroup. `random` makes the id of a new member.
    pub fn join(
        &mut self,
        request: &JoinRequest<'_>,
        token: Token,
        now_ms: u64,
        random: [u8; 16],
        answers: &mut Vec<Answered>,
    ) {
        let joining = Joining {
            request,
            rules: &self.rules.clone(),
            token,
            now_ms,
            random,
        };
        let found = joining.check().and_then(|()| self.open(request));
        if let Err(error) = found {
            let joined = Joined::refused(error, request.member_id);
            answers.push((token, Answer::Join(joined)));
            return;
        }
        self.with(request.group, |group| joining.run(group, answers));
    }

    /// Makes the group of a first join, if there is none.
    fn open(&mut self, request: &JoinRequest<'_>) -> Result<(), ErrorCode> {
        if !is_group_id(request.group) {
            return Err(ErrorCode::InvalidGroupId);
        }
        if self.size_bytes >= limits::GROUPS_BYTES_MAX {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if self.kept.contains_key(request.group) {
            return Ok(());
        }
        if !request.member_id.is_empty() {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.is_full() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let kept = Kept {
            group: Group::new(),
            due_ms: None,
            size_bytes: 0,
        };
        self.kept.insert(request.group.into(), kept);
        Ok(())
    }

    /// SyncGroup.
    pub fn sync(
        &mut self,
        request: &SyncRequest<'_>,
        token: Token,
        now_ms: u64,
        answers: &mut Vec<Answered>,
    ) {
        let room_bytes = limits::GROUPS_BYTES_MAX.saturating_sub(self.size_bytes);
        let known = self.with(request.group, |group| {
            group.sync(request, token, room_bytes, now_ms, answers);
        });
        if known.is_none() {
            let error = absent(request.group);
            answers.push((token, Answer::Sync(Synced::refused(error))));
        }
    }

    /// Heartbeat.
    ///
    /// # Errors
    /// What the member is told, REBALANCE_IN_PROGRESS among it.
    pub fn heartbeat(
        &mut self,
        group: &str,
        claim: Claim<'_>,
        now_ms: u64,
    ) -> Result<(), ErrorCode> {
        // Sessions only grow longer by it, so that its place in `due` may stay.
        let kept = self.kept.get_mut(group).ok_or_else(|| absent(group))?;
        kept.group.heartbeat(claim, now_ms)
    }

    /// LeaveGroup, of one or several members: for each what it is told.
    ///
    /// # Errors
    /// INVALID_GROUP_ID.
    pub fn leave(
        &mut self,
        group: &str,
        leaving: &[Leaving<'_>],
        now_ms: u64,
        answers: &mut Vec<Answered>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if !is_group_id(group) {
            return Err(ErrorCode::InvalidGroupId);
        }
        let gone = self.with(group, |group| {
            let before = group.members.len();
            let gone = leaving
                .iter()
                .map(|one| group.leave(*one, answers))
                .collect();
            if group.members.len() < before {
                group.shrunk(now_ms, answers);
            } else {
                // An id that is not wanted any more may have been all that was waited for.
                group.finish_joining(now_ms, answers);
            }
            gone
        });
        Ok(gone.unwrap_or_else(|| vec![ErrorCode::UnknownMemberId; leaving.len()]))
    }

    /// Whether a commit by this claim may be made; a commit keeps the member's session alive.
    /// `transactional`: it is part of a producer's transaction (KIP-447).
    ///
    /// # Errors
    /// What the committer is told.
    pub fn admit_commit(
        &mut self,
        group: &str,
        claim: Claim<'_>,
        transactional: bool,
        now_ms: u64,
    ) -> Result<(), ErrorCode> {
        if !is_group_id(group) {
            return Err(ErrorCode::InvalidGroupId);
        }
        match self.kept.get_mut(group) {
            Some(kept) => kept.group.admit_commit(claim, transactional, now_ms),
            // Whoever is no member may commit to a group that has none.
            None if claim.generation < 0 => Ok(()),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// The connection of whoever waits in `group` under `token` has gone.
    pub fn dropped(&mut self, group: &str, token: Token, now_ms: u64, answers: &mut Vec<Answered>) {
        self.with(group, |group| group.dropped(token, now_ms, answers));
    }

    /// Does what has become due. To be called when [`Groups::next_deadline`] is past; a call at any
    /// other time is harmless.
    pub fn tick(&mut self, now_ms: u64, answers: &mut Vec<Answered>) {
        while let Some((at, id)) = self.due.first()
            && *at <= now_ms
        {
            let id = id.clone();
            let lost = self.with(&id, |group| group.tick(now_ms, answers));
            self.counts.members_lost += lost.unwrap_or(0) as u64;
        }
    }

    /// When [`Groups::tick`] may have something to do next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Changes a group and keeps account of it.
    fn with<T>(&mut self, id: &str, change: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let (name, _) = self.kept.get_key_value(id)?;
        let name = name.clone();
        let kept = self.kept.get_mut(id)?;
        let rebalances = kept.group.rebalances;
        let changed = change(&mut kept.group);
        self.counts.rebalances += kept.group.rebalances - rebalances;
        let size_bytes = kept.group.size_bytes();
        self.size_bytes = self.size_bytes - kept.size_bytes + size_bytes;
        kept.size_bytes = size_bytes;
        let due_ms = kept.group.due_ms();
        if due_ms != kept.due_ms {
            if let Some(at) = kept.due_ms {
                self.due.remove(&(at, name.clone()));
            }
            if let Some(at) = due_ms {
                self.due.insert((at, name));
            }
            kept.due_ms = due_ms;
        }
        if kept.group.deserted() && kept.group.generation == 0 {
            // Nobody has ever been in it.
            self.forget(id);
        }
        Some(changed)
    }

    fn forget(&mut self, id: &str) {
        if let Some(gone) = self.kept.remove(id) {
            self.size_bytes -= gone.size_bytes;
        }
    }

    /// Forgets a group without members; false when it has some.
    pub fn remove(&mut self, group: &str) -> bool {
        match self.kept.get(group) {
            None => true,
            Some(kept) if kept.group.deserted() => {
                self.forget(group);
                true
            }
            Some(_) => false,
        }
    }

    /// Forgets all groups without members that `keep` does not name.
    pub fn sweep(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let size_bytes = &mut self.size_bytes;
        self.kept.retain(|id, kept| {
            let stays = !kept.group.deserted() || keep(id);
            if !stays {
                *size_bytes -= kept.size_bytes;
            }
            stays
        });
    }

    /// Whether no further group can be opened.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= self.rules.groups_max
    }

    /// A group.
    pub fn get(&self, group: &str) -> Option<GroupView<'_>> {
        let (id, kept) = self.kept.get_key_value(group)?;
        Some(GroupView::new(id, &kept.group))
    }

    /// All groups behind `after`, in the order of their ids.
    pub fn iter_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = GroupView<'a>> {
        let start = match after {
            Some(after) => std::ops::Bound::Excluded(after),
            None => std::ops::Bound::Unbounded,
        };
        self.kept
            .range::<str, _>((start, std::ops::Bound::Unbounded))
            .map(|(id, kept)| GroupView::new(id, &kept.group))
    }

    /// What happened since the start.
    pub fn counts(&self) -> GroupCounts {
        self.counts
    }
}

/// What a member of a group that is not there is told.
fn absent(group: &str) -> ErrorCode {
    if is_group_id(group) {
        ErrorCode::UnknownMemberId
    } else {
        ErrorCode::InvalidGroupId
    }
}

#[cfg(test)]
mod tests;
