//! One group of the classic protocol: its members, its generation, and the rebalance that leads
//! from one generation to the next. Requests are in `join.rs` and `requests.rs`; this file has what
//! they share and what time does by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::answers::{Answer, Answered, Claim, Joined, JoinedMember, Synced};
use super::member::{Member, Members, choose_protocol};
use crate::ErrorCode;

/// Where a group stands between two generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupState {
    /// It has no members; committed offsets may keep it.
    Empty,
    /// Members are expected to join the next generation.
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited.
    CompletingRebalance,
    /// Everyone has, or can ask for, an assignment.
    Stable,
    /// It is gone.
    Dead,
}

impl GroupState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Empty,
        Self::PreparingRebalance,
        Self::CompletingRebalance,
        Self::Stable,
        Self::Dead,
    ];

    /// Kafka's name of the state.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// The first rebalance of an empty group: it waits for more members as long as some come (KIP-134).
#[derive(Clone, Copy, Debug)]
struct Gathering {
    delay_ms: u64,
    /// What of the rebalance timeout is not waited yet.
    left_ms: u64,
    /// Whether somebody has joined since the wait began.
    grown: bool,
}

/// A group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) state: GroupState,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: Members,
    /// Members by their static name.
    pub(super) statics: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids given out and not used yet, and until when they hold.
    pub(super) promised: BTreeMap<Arc<str>, u64>,
    /// When the members that have not joined are given up.
    join_ends_ms: Option<u64>,
    gathering: Option<Gathering>,
    /// When the members that have not asked for their assignment are given up.
    sync_ends_ms: Option<u64>,
    /// Rebalances begun.
    pub(super) rebalances: u64,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            state: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::new(),
            statics: BTreeMap::new(),
            promised: BTreeMap::new(),
            join_ends_ms: None,
            gathering: None,
            sync_ends_ms: None,
            rebalances: 0,
        }
    }

    /// Bytes that peers made us keep.
    pub(super) fn size_bytes(&self) -> usize {
        let members: usize = self.members.values().map(Member::size_bytes).sum();
        let promised: usize = self.promised.keys().map(|id| id.len()).sum();
        members + promised + self.protocol_type.as_deref().map_or(0, str::len)
    }

    /// Nobody is in it, and nobody is expected.
    pub(super) fn deserted(&self) -> bool {
        self.members.is_empty() && self.promised.is_empty()
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// Whether a member that speaks this can belong to the group.
    pub(super) fn takes(&self, protocol_type: &str, protocols: &[(&str, &[u8])]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| {
                self.members
                    .values()
                    .all(|member| member.protocols.iter().any(|(own, _)| &**own == *name))
            })
    }

    /// Whether the claim is a member's own: KIP-345 fences who was replaced.
    pub(super) fn check(&self, claim: Claim<'_>) -> Result<(), ErrorCode> {
        if let Some(instance) = claim.instance_id {
            let holder = self
                .statics
                .get(instance)
                .ok_or(ErrorCode::UnknownMemberId)?;
            if **holder != *claim.member_id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        if self.members.contains_key(claim.member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// As [`Group::check`], of the generation too.
    pub(super) fn check_generation(&self, claim: Claim<'_>) -> Result<(), ErrorCode> {
        self.check(claim)?;
        if claim.generation == self.generation {
            Ok(())
        } else {
            Err(ErrorCode::IllegalGeneration)
        }
    }

    /// Begins a rebalance, if none is being prepared.
    pub(super) fn rebalance(&mut self, delay_ms: u32, now_ms: u64, answers: &mut Vec<Answered>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance | GroupState::Empty => {}
            GroupState::PreparingRebalance => return self.finish_joining(now_ms, answers),
            GroupState::Dead => return,
        }
        for member in self.members.values_mut() {
            // Whoever waits for the assignment of a generation that will not be is alive.
            if member.sync.is_some() {
                member.seen(now_ms);
            }
            member.refuse_sync(ErrorCode::RebalanceInProgress, answers);
            if self.state == GroupState::CompletingRebalance {
                member.assignment = Bytes::new();
            }
        }
        self.sync_ends_ms = None;
        self.rebalances += 1;
        let timeout_ms = self.rebalance_timeout_ms();
        let delay_ms = u64::from(delay_ms).min(timeout_ms);
        if self.state == GroupState::Empty && delay_ms > 0 {
            self.gathering = Some(Gathering {
                delay_ms,
                left_ms: timeout_ms - delay_ms,
                grown: false,
            });
            self.join_ends_ms = Some(now_ms + delay_ms);
        } else {
            self.gathering = None;
            self.join_ends_ms = Some(now_ms + timeout_ms);
        }
        self.state = GroupState::PreparingRebalance;
        self.finish_joining(now_ms, answers);
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max();
        longest.unwrap_or(0).into()
    }

    /// Somebody new has joined.
    pub(super) fn grown(&mut self) {
        if let Some(gathering) = &mut self.gathering {
            gathering.grown = true;
        }
    }

    /// Ends the joining, if nobody is missing and the group does not wait for more.
    pub(super) fn finish_joining(&mut self, now_ms: u64, answers: &mut Vec<Answered>) {
        let all_here =
            self.promised.is_empty() && self.members.values().all(|member| member.join.is_some());
        let ready = self.members.is_empty() || (self.gathering.is_none() && all_here);
        if self.state == GroupState::PreparingRebalance && ready {
            self.end_joining(now_ms, answers);
        }
    }

    /// Ends the joining without those who did not come. Static members stay; their session decides.
    fn end_joining(&mut self, now_ms: u64, answers: &mut Vec<Answered>) {
        let missing: Vec<Arc<str>> = self
            .members
            .values()
            .filter(|member| member.join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in missing {
            self.forget(&id);
        }
        self.gathering = None;
        if !self.members.is_empty() && !self.elect() {
            // Only static members are left, and none has come: their sessions end it.
            self.join_ends_ms = Some(now_ms + self.rebalance_timeout_ms());
            return;
        }
        self.join_ends_ms = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        self.protocol = leader.and_then(|leader| choose_protocol(&self.members, leader));
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            return;
        }
        self.state = GroupState::CompletingRebalance;
        self.sync_ends_ms = Some(now_ms + self.rebalance_timeout_ms());
        let waiting: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in waiting {
            let joined = self.joined(&id, false);
            let member = self.members.get_mut(&id).expect("taken from the members");
            member.synced = false;
            member.assignment = Bytes::new();
            member.seen(now_ms);
            if let Some(parked) = member.join.take() {
                answers.push((parked.token, Answer::Join(joined)));
            }
        }
    }

    /// Makes sure that the leader is one who has joined; false when nobody has.
    fn elect(&mut self) -> bool {
        let has_joined = |id: &Arc<str>| {
            self.members
                .get(id)
                .is_some_and(|member| member.join.is_some())
        };
        if !self.leader.as_ref().is_some_and(has_joined) {
            let first = self.members.values().find(|member| member.join.is_some());
            match first {
                Some(first) => self.leader = Some(first.id.clone()),
                None => return false,
            }
        }
        true
    }

    /// What a member of the present generation is told when it joins.
    pub(super) fn joined(&self, id: &Arc<str>, skip_assignment: bool) -> Joined {
        let members = if self.is_leader(id) {
            self.joined_members()
        } else {
            Vec::new()
        };
        Joined {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            skip_assignment,
            member_id: id.clone(),
            members,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        self.members
            .values()
            .map(|member| JoinedMember {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(self.protocol.as_deref()),
            })
            .collect()
    }

    /// What a member of the present generation is told when it asks for its assignment.
    pub(super) fn synced(&self, id: &str) -> Synced {
        Synced {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// The leader's assignment is here: everyone who waits for it gets it.
    pub(super) fn assign(
        &mut self,
        assignments: &[(&str, &[u8])],
        now_ms: u64,
        answers: &mut Vec<Answered>,
    ) {
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(*id) {
                member.assignment = Bytes::copy_from_slice(assignment);
            }
        }
        self.state = GroupState::Stable;
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let synced = self.synced(&id);
            let member = self.members.get_mut(&id).expect("taken from the members");
            if let Some(token) = member.sync.take() {
                member.seen(now_ms);
                answers.push((token, Answer::Sync(synced)));
            }
        }
        self.all_synced();
    }

    /// Stops waiting for members to ask for their assignment, when all have.
    pub(super) fn all_synced(&mut self) {
        if self.members.values().all(|member| member.synced) {
            self.sync_ends_ms = None;
        }
    }

    /// Takes a member out and answers what it waits for. What follows for the group is
    /// [`Group::shrunk`].
    pub(super) fn remove(&mut self, id: &str, answers: &mut Vec<Answered>) {
        if let Some(mut member) = self.forget(id) {
            member.refuse_join(ErrorCode::UnknownMemberId, answers);
            member.refuse_sync(ErrorCode::UnknownMemberId, answers);
        }
    }

    fn forget(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance_id
            && self.statics.get(instance) == Some(&member.id)
        {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            // Whoever waits to join is at hand; otherwise the next rebalance elects.
            let heir = self
                .members
                .values()
                .find(|member| member.join.is_some())
                .or_else(|| self.members.values().next());
            self.leader = heir.map(|member| member.id.clone());
        }
        Some(member)
    }

    /// Members have gone: the others share what they had.
    pub(super) fn shrunk(&mut self, now_ms: u64, answers: &mut Vec<Answered>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.rebalance(0, now_ms, answers);
            }
            GroupState::PreparingRebalance => self.finish_joining(now_ms, answers),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// What has become due. Returns how many members it cost.
    pub(super) fn tick(&mut self, now_ms: u64, answers: &mut Vec<Answered>) -> usize {
        self.promised.retain(|_, until_ms| *until_ms > now_ms);
        let silent: Vec<Arc<str>> = self
            .members
            .values()
            .filter(|member| !member.waits() && member.session_ends_ms <= now_ms)
            .map(|member| member.id.clone())
            .collect();
        for id in &silent {
            self.remove(id, answers);
        }
        let mut lost = silent.len();
        if lost > 0 {
            self.shrunk(now_ms, answers);
        }
        if self.sync_ends_ms.is_some_and(|at| at <= now_ms) {
            self.sync_ends_ms = None;
            let missing: BTreeSet<Arc<str>> = self
                .members
                .values()
                .filter(|member| !member.synced)
                .map(|member| member.id.clone())
                .collect();
            for id in &missing {
                self.remove(id, answers);
            }
            lost += missing.len();
            if !missing.is_empty() {
                self.shrunk(now_ms, answers);
            }
        }
        if self.join_ends_ms.is_some_and(|at| at <= now_ms) {
            self.joining_due(now_ms, answers);
        }
        // A promise that has run out may have been all that a rebalance waited for.
        self.finish_joining(now_ms, answers);
        lost
    }

    fn joining_due(&mut self, now_ms: u64, answers: &mut Vec<Answered>) {
        match &mut self.gathering {
            Some(gathering) if gathering.grown && gathering.left_ms > 0 => {
                gathering.grown = false;
                let delay_ms = gathering.delay_ms.min(gathering.left_ms);
                gathering.left_ms -= delay_ms;
                self.join_ends_ms = Some(now_ms + delay_ms);
            }
            _ => self.end_joining(now_ms, answers),
        }
    }

    /// When [`Group::tick`] has something to do next.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let sessions = self
            .members
            .values()
            .filter(|member| !member.waits())
            .map(|member| member.session_ends_ms);
        sessions
            .chain(self.promised.values().copied())
            .chain(self.join_ends_ms)
            .chain(self.sync_ends_ms)
            .min()
    }
}
