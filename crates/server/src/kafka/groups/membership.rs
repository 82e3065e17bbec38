//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: requests of members, put before the machine.

use std::sync::Arc;

use ::kafka::api::{
    Api, HeartbeatRequest, HeartbeatResponse, JoinGroupMember, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, LeavingMemberResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use ::kafka::group::{Claim, JoinRequest, Joined, Leaving, SyncRequest, Synced};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::code;
use crate::kafka::FrontDoor;
use crate::kafka::access::{Operation, Resource};
use crate::kafka::caller::Caller;

/// Whether the caller may be a member of the group.
fn check(door: &FrontDoor, caller: &Caller, group: &str) -> Result<(), ErrorCode> {
    if door.allows(caller, Operation::Read, Resource::Group(group)) {
        Ok(())
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    }
}

/// Answers a JoinGroup request when the rebalance ends.
pub(in crate::kafka) async fn join_group(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &JoinGroupRequest<'_>,
) -> Frame {
    let joined = if let Err(error) = check(door, caller, request.group_id) {
        Joined::refused(error, request.member_id)
    } else {
        let host = format!("/{}", caller.peer.ip().to_canonical());
        // Version 0 has one timeout for both.
        let rebalance_timeout_ms = match request.rebalance_timeout_ms {
            ms if version == 0 || ms < 0 => request.session_timeout_ms,
            ms => ms,
        };
        let joining = JoinRequest {
            group: request.group_id,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            client_id: &caller.client_id,
            client_host: &host,
            protocol_type: request.protocol_type,
            protocols: request
                .protocols
                .iter()
                .map(|protocol| (protocol.name, protocol.metadata))
                .collect(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms,
            id_first: version >= 4,
            knows_skip: version >= 9,
        };
        door.groups.join(&joining).await
    };
    let response = JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: code(door, Api::JoinGroup, joined.error),
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.as_deref(),
        protocol_name: joined.protocol.as_deref(),
        leader: &joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: &joined.member_id,
        members: joined
            .members
            .iter()
            .map(|member| JoinGroupMember {
                member_id: &member.id,
                group_instance_id: member.instance_id.as_deref(),
                metadata: &member.metadata,
            })
            .collect(),
    };
    encode_response(Api::JoinGroup, version, correlation_id, &response)
}

/// Answers a SyncGroup request when the leader has brought the assignment.
pub(in crate::kafka) async fn sync_group(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &SyncGroupRequest<'_>,
) -> Frame {
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    let synced = match check(door, caller, request.group_id) {
        Err(error) => Synced::refused(error),
        Ok(()) if version >= 5 && !named => Synced::refused(ErrorCode::InconsistentGroupProtocol),
        Ok(()) => {
            let syncing = SyncRequest {
                group: request.group_id,
                generation: request.generation_id,
                member_id: request.member_id,
                instance_id: request.group_instance_id,
                protocol_type: request.protocol_type,
                protocol: request.protocol_name,
                assignments: request
                    .assignments
                    .iter()
                    .map(|row| (row.member_id, row.assignment))
                    .collect(),
            };
            door.groups.sync(&syncing).await
        }
    };
    let response = SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: code(door, Api::SyncGroup, synced.error),
        protocol_type: synced.protocol_type.as_deref(),
        protocol_name: synced.protocol.as_deref(),
        assignment: &synced.assignment,
    };
    encode_response(Api::SyncGroup, version, correlation_id, &response)
}

/// Answers a Heartbeat request.
pub(in crate::kafka) fn heartbeat(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &HeartbeatRequest<'_>,
) -> Frame {
    let beaten = check(door, caller, request.group_id).and_then(|()| {
        let claim = Claim {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id,
        };
        let now_ms = door.groups.mono_ms();
        let mut inside = door.groups.lock();
        inside.machine.heartbeat(request.group_id, claim, now_ms)
    });
    let error = beaten.err().unwrap_or(ErrorCode::None);
    let response = HeartbeatResponse {
        throttle_time_ms: 0,
        error_code: code(door, Api::Heartbeat, error),
    };
    encode_response(Api::Heartbeat, version, correlation_id, &response)
}

/// Answers a LeaveGroup request.
pub(in crate::kafka) fn leave_group(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &LeaveGroupRequest<'_>,
) -> Frame {
    let leaving: Vec<Leaving<'_>> = if version >= 3 {
        let members = request.members.iter();
        members
            .map(|member| Leaving {
                member_id: member.member_id,
                instance_id: member.group_instance_id,
            })
            .collect()
    } else {
        vec![Leaving {
            member_id: request.member_id,
            instance_id: None,
        }]
    };
    let left = check(door, caller, request.group_id)
        .and_then(|()| door.groups.leave(request.group_id, &leaving));
    let (error, errors) = match left {
        Err(error) => (error, Vec::new()),
        // One member alone is answered for as a whole.
        Ok(errors) if version < 3 => (errors[0], Vec::new()),
        Ok(errors) => (ErrorCode::None, errors),
    };
    let members = request.members.iter().zip(errors);
    let response = LeaveGroupResponse {
        throttle_time_ms: 0,
        error_code: code(door, Api::LeaveGroup, error),
        members: members
            .map(|(member, error)| LeavingMemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: code(door, Api::LeaveGroup, error),
            })
            .collect(),
    };
    encode_response(Api::LeaveGroup, version, correlation_id, &response)
}

impl super::Groups {
    fn leave(
        self: &Arc<Self>,
        group: &str,
        leaving: &[Leaving<'_>],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let now_ms = self.mono_ms();
        let mut inside = self.lock();
        let mut answers = Vec::new();
        let left = inside.machine.leave(group, leaving, now_ms, &mut answers);
        inside.offsets.used(group, self.now_ms());
        self.deliver(&mut inside, answers);
        left
    }
}
