//! JoinGroup: who may join a group, under which id, and what that does to the generation. The order
//! of the checks is Kafka's, since clients act on which error comes first.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::answers::{Answer, Answered, Claim, JoinRequest, Joined, Token};
use super::member::{Member, ParkedJoin};
use super::rules::GroupRules;
use super::state::{Group, GroupState};
use crate::{ErrorCode, limits};

/// A JoinGroup on its way into a group.
pub(super) struct Joining<'a> {
    pub(super) request: &'a JoinRequest<'a>,
    pub(super) rules: &'a GroupRules,
    pub(super) token: Token,
    pub(super) now_ms: u64,
    /// Chance, for an id.
    pub(super) random: [u8; 16],
}

impl Joining<'_> {
    /// Checks what does not depend on the group.
    pub(super) fn check(&self) -> Result<(), ErrorCode> {
        let request = self.request;
        let timeouts = self.rules.session_timeout_ms_min..=self.rules.session_timeout_ms_max;
        let timeout_ms = u32::try_from(request.session_timeout_ms);
        if !timeout_ms.is_ok_and(|ms| timeouts.contains(&ms)) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        let metadata: usize = request
            .protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum();
        let named = request
            .member_id
            .len()
            .max(request.instance_id.map_or(0, str::len))
            // The group keeps it, and tells it to whoever asks.
            .max(request.protocol_type.len());
        if metadata > limits::MEMBER_METADATA_BYTES_MAX
            || request.protocols.len() > limits::MEMBER_PROTOCOLS_MAX
            || named > limits::MEMBER_ID_BYTES_MAX
        {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(())
    }

    /// Joins; the answer comes at once or when the rebalance ends.
    pub(super) fn run(&self, group: &mut Group, answers: &mut Vec<Answered>) {
        let request = self.request;
        let outcome = if let Err(error) = self.admit(group) {
            // No place: one that is a member has lost its own.
            if group.members.contains_key(request.member_id) {
                group.remove(request.member_id, answers);
                group.shrunk(self.now_ms, answers);
            }
            group.promised.remove(request.member_id);
            Err(error)
        } else if !group.takes(request.protocol_type, &request.protocols) {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else if request.member_id.is_empty() {
            self.first(group, answers)
        } else {
            self.again(group, answers)
        };
        if let Err(error) = outcome {
            let joined = Joined::refused(error, request.member_id);
            answers.push((self.token, Answer::Join(joined)));
        }
    }

    /// Whether there is a place in the group.
    fn admit(&self, group: &Group) -> Result<(), ErrorCode> {
        let known = group.members.get(self.request.member_id);
        let joined = |member: &Member| member.join.is_some();
        let replaces = self
            .request
            .instance_id
            .is_some_and(|instance| group.statics.contains_key(instance));
        let free = match group.state {
            GroupState::Empty | GroupState::Dead => true,
            // Places belong to those who have joined this time, the first first.
            GroupState::PreparingRebalance => {
                let taken = group
                    .members
                    .values()
                    .filter(|member| joined(member))
                    .count();
                known.is_some_and(joined) || taken < self.rules.members_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || group.members.len() < self.rules.members_max
            }
        };
        if free || replaces {
            Ok(())
        } else {
            Err(ErrorCode::GroupMaxSizeReached)
        }
    }

    /// A join without an id.
    fn first(&self, group: &mut Group, answers: &mut Vec<Answered>) -> Result<(), ErrorCode> {
        let request = self.request;
        let id: Arc<str> = self.new_id().into();
        if let Some(instance) = request.instance_id {
            match group.statics.get(instance).cloned() {
                Some(old) => self.replace(group, instance, &old, &id, answers),
                None => self.add(group, id, true, answers),
            }
            return Ok(());
        }
        if !request.id_first {
            self.add(group, id, true, answers);
            return Ok(());
        }
        if group.promised.len() >= limits::MEMBER_IDS_PROMISED_MAX {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let until_ms = self.now_ms + u64::from(request.session_timeout_ms.unsigned_abs());
        group.promised.insert(id.clone(), until_ms);
        let joined = Joined::refused(ErrorCode::MemberIdRequired, &id);
        answers.push((self.token, Answer::Join(joined)));
        Ok(())
    }

    /// A join with an id.
    fn again(&self, group: &mut Group, answers: &mut Vec<Answered>) -> Result<(), ErrorCode> {
        let request = self.request;
        if let Some((id, _)) = group.promised.remove_entry(request.member_id) {
            if request.instance_id.is_some() {
                return Err(ErrorCode::UnknownMemberId);
            }
            self.add(group, id, false, answers);
            return Ok(());
        }
        group.check(Claim {
            member_id: request.member_id,
            instance_id: request.instance_id,
            generation: -1,
        })?;
        let member = &group.members[request.member_id];
        let id = member.id.clone();
        let unchanged = member.speaks(&request.protocols);
        match group.state {
            GroupState::CompletingRebalance | GroupState::Stable
                if unchanged && !(group.state == GroupState::Stable && group.is_leader(&id)) =>
            {
                // It has missed the answer: here it is again.
                let joined = group.joined(&id, false);
                if let Some(member) = group.members.get_mut(&id) {
                    member.seen(self.now_ms);
                }
                answers.push((self.token, Answer::Join(joined)));
            }
            GroupState::Empty | GroupState::Dead => return Err(ErrorCode::UnknownMemberId),
            _ => {
                self.park(group, &id, false, answers);
                group.rebalance(self.rules.rebalance_delay_ms, self.now_ms, answers);
            }
        }
        Ok(())
    }

    fn new_id(&self) -> String {
        let name = self.request.instance_id.unwrap_or(self.request.client_id);
        let mut id = format!("{}-", cut(name));
        for (at, byte) in self.random.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                id.push('-');
            }
            let _ = write!(id, "{byte:02x}");
        }
        id
    }

    fn protocols(&self) -> Vec<(Arc<str>, Bytes)> {
        self.request
            .protocols
            .iter()
            .map(|(name, metadata)| ((*name).into(), Bytes::copy_from_slice(metadata)))
            .collect()
    }

    fn rebalance_timeout_ms(&self) -> u32 {
        self.request
            .rebalance_timeout_ms
            .unsigned_abs()
            .clamp(1, limits::REBALANCE_TIMEOUT_MS_MAX)
    }

    /// A new member.
    fn add(&self, group: &mut Group, id: Arc<str>, nameless: bool, answers: &mut Vec<Answered>) {
        let request = self.request;
        let instance_id: Option<Arc<str>> = request.instance_id.map(Into::into);
        if group.members.is_empty() {
            group.protocol_type = Some(request.protocol_type.into());
        }
        if let Some(instance) = &instance_id {
            group.statics.insert(instance.clone(), id.clone());
        }
        let mut member = Member {
            id: id.clone(),
            instance_id,
            client_id: cut(request.client_id).into(),
            client_host: request.client_host.into(),
            session_timeout_ms: request.session_timeout_ms.unsigned_abs(),
            rebalance_timeout_ms: self.rebalance_timeout_ms(),
            protocols: self.protocols(),
            assignment: Bytes::new(),
            join: Some(ParkedJoin {
                token: self.token,
                nameless,
            }),
            sync: None,
            synced: false,
            session_ends_ms: 0,
        };
        member.seen(self.now_ms);
        group.members.insert(id.clone(), member);
        if group.leader.is_none() {
            group.leader = Some(id);
        }
        group.grown();
        group.rebalance(self.rules.rebalance_delay_ms, self.now_ms, answers);
    }

    /// A member says what it is now, and waits for the next generation.
    fn park(&self, group: &mut Group, id: &str, nameless: bool, answers: &mut Vec<Answered>) {
        let member = group.members.get_mut(id).expect("the caller has looked");
        // The same member on another connection: the first is not waited for any more.
        member.refuse_join(ErrorCode::RebalanceInProgress, answers);
        self.update(member);
        member.join = Some(ParkedJoin {
            token: self.token,
            nameless,
        });
    }

    fn update(&self, member: &mut Member) {
        member.protocols = self.protocols();
        member.session_timeout_ms = self.request.session_timeout_ms.unsigned_abs();
        member.rebalance_timeout_ms = self.rebalance_timeout_ms();
        member.client_id = cut(self.request.client_id).into();
        member.client_host = self.request.client_host.into();
        member.seen(self.now_ms);
    }

    /// A static member has come back under a new id; who held the old one is fenced (KIP-345). In a
    /// stable group it takes over the assignment without a rebalance.
    fn replace(
        &self,
        group: &mut Group,
        instance: &str,
        old: &Arc<str>,
        id: &Arc<str>,
        answers: &mut Vec<Answered>,
    ) {
        let mut member = group
            .members
            .remove(old)
            .expect("static names are members'");
        member.refuse_join(ErrorCode::FencedInstanceId, answers);
        member.refuse_sync(ErrorCode::FencedInstanceId, answers);
        member.id = id.clone();
        self.update(&mut member);
        group.members.insert(id.clone(), member);
        group.statics.insert(instance.into(), id.clone());
        let leads = group.is_leader(old);
        if leads {
            group.leader = Some(id.clone());
        }
        let leader = group
            .leader
            .as_ref()
            .and_then(|leader| group.members.get(leader));
        let choice =
            leader.and_then(|leader| super::member::choose_protocol(&group.members, leader));
        if group.state == GroupState::Stable && choice == group.protocol {
            let mut joined = group.joined(id, leads && self.request.knows_skip);
            if leads && !self.request.knows_skip {
                // It must not take itself for the leader: nobody would hear its assignment.
                joined.leader = old.clone();
                joined.members = Vec::new();
            }
            answers.push((self.token, Answer::Join(joined)));
            return;
        }
        self.park(group, id, true, answers);
        group.rebalance(self.rules.rebalance_delay_ms, self.now_ms, answers);
    }
}

/// What is kept of a name that a client gives itself.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(limits::MEMBER_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
