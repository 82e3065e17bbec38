//! SyncGroup, Heartbeat, LeaveGroup, the leave to commit, and the end of a connection that waited.

use super::answers::{Answer, Answered, Claim, Leaving, SyncRequest, Synced, Token};
use super::state::{Group, GroupState};
use crate::{ErrorCode, limits};

impl Group {
    /// SyncGroup: the leader brings the assignment, of `room_bytes` at most; the others wait for
    /// theirs.
    pub(super) fn sync(
        &mut self,
        request: &SyncRequest<'_>,
        token: Token,
        room_bytes: usize,
        now_ms: u64,
        answers: &mut Vec<Answered>,
    ) {
        if let Err(error) = self.try_sync(request, token, room_bytes, now_ms, answers) {
            answers.push((token, Answer::Sync(Synced::refused(error))));
        }
    }

    fn try_sync(
        &mut self,
        request: &SyncRequest<'_>,
        token: Token,
        room_bytes: usize,
        now_ms: u64,
        answers: &mut Vec<Answered>,
    ) -> Result<(), ErrorCode> {
        self.check_generation(Claim {
            member_id: request.member_id,
            instance_id: request.instance_id,
            generation: request.generation,
        })?;
        let differs = |said: Option<&str>, is: Option<&str>| said.is_some() && said != is;
        if differs(request.protocol_type, self.protocol_type.as_deref())
            || differs(request.protocol, self.protocol.as_deref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let assigned: usize = request
            .assignments
            .iter()
            .map(|(_, assignment)| assignment.len())
            .sum();
        if assigned > limits::GROUP_ASSIGNMENT_BYTES_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        let leads = self.is_leader(request.member_id);
        let member = self
            .members
            .get_mut(request.member_id)
            .ok_or(ErrorCode::UnknownMemberId)?;
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            // The bytes of the last assignment are given back by now: all of this one are new.
            GroupState::CompletingRebalance if leads && assigned > room_bytes => {
                Err(ErrorCode::CoordinatorNotAvailable)
            }
            GroupState::CompletingRebalance => {
                // The same member on another connection: the first is not waited for any more.
                member.refuse_sync(ErrorCode::RebalanceInProgress, answers);
                member.sync = Some(token);
                member.synced = true;
                if leads {
                    self.assign(&request.assignments, now_ms, answers);
                }
                Ok(())
            }
            GroupState::Stable => {
                member.synced = true;
                member.seen(now_ms);
                self.all_synced();
                let synced = self.synced(request.member_id);
                answers.push((token, Answer::Sync(synced)));
                Ok(())
            }
        }
    }

    /// Heartbeat: the session goes on, and the member learns of a rebalance.
    pub(super) fn heartbeat(&mut self, claim: Claim<'_>, now_ms: u64) -> Result<(), ErrorCode> {
        self.check_generation(claim)?;
        let member = self
            .members
            .get_mut(claim.member_id)
            .ok_or(ErrorCode::UnknownMemberId)?;
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance => {
                member.seen(now_ms);
                Err(ErrorCode::RebalanceInProgress)
            }
            // Members begin with heartbeats as soon as they have joined.
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.seen(now_ms);
                Ok(())
            }
        }
    }

    /// Whether a commit by this claim may be made. `transactional`: by a producer, which speaks of
    /// a member since KIP-447 only.
    pub(super) fn admit_commit(
        &mut self,
        claim: Claim<'_>,
        transactional: bool,
        now_ms: u64,
    ) -> Result<(), ErrorCode> {
        if claim.generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if claim.generation >= 0 || !claim.member_id.is_empty() || claim.instance_id.is_some() {
            self.check_generation(claim)?;
        } else if !transactional {
            // Somebody who is no member would undo what members commit.
            return Err(ErrorCode::UnknownMemberId);
        }
        if !transactional && self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(claim.member_id) {
            member.seen(now_ms);
        }
        Ok(())
    }

    /// Takes one member out by request.
    pub(super) fn leave(&mut self, leaving: Leaving<'_>, answers: &mut Vec<Answered>) -> ErrorCode {
        let id = match leaving.instance_id {
            Some(instance) => match self.statics.get(instance) {
                None => return ErrorCode::UnknownMemberId,
                Some(id) if !leaving.member_id.is_empty() && **id != *leaving.member_id => {
                    return ErrorCode::FencedInstanceId;
                }
                Some(id) => id.clone(),
            },
            None => leaving.member_id.into(),
        };
        if self.promised.remove(&id).is_some() {
            return ErrorCode::None;
        }
        if !self.members.contains_key(&id) {
            return ErrorCode::UnknownMemberId;
        }
        self.remove(&id, answers);
        ErrorCode::None
    }

    /// The connection of whoever waits under this token has gone; nobody is to be answered.
    pub(super) fn dropped(&mut self, token: Token, now_ms: u64, answers: &mut Vec<Answered>) {
        let waiting = self.members.values_mut().find(|member| {
            member.sync == Some(token) || member.join.is_some_and(|join| join.token == token)
        });
        let Some(member) = waiting else { return };
        member.seen(now_ms);
        if member.sync == Some(token) {
            member.sync = None;
            // It comes back and asks again, or it is given up with the rest.
            member.synced = false;
            return;
        }
        let nameless = member.join.take().is_some_and(|join| join.nameless);
        if nameless && member.instance_id.is_none() {
            // It does not know its id, so that it can only come back as another.
            let id = member.id.clone();
            self.remove(&id, answers);
            self.shrunk(now_ms, answers);
        }
    }
}
