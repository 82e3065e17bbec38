//! ListGroups and DescribeGroups: the groups with members and those that have offsets only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::kafka::api::{
    Api, DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedMember,
    ListGroupsRequest, ListGroupsResponse, ListedGroup, OPERATIONS_NOT_ASKED,
};
use ::kafka::group::{GroupState, MemberView, is_group_id};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::{Groups, Inside, code};
use crate::kafka::FrontDoor;
use crate::kafka::access::{Operation, Resource};
use crate::kafka::caller::Caller;

/// The type of all groups of the protocol that is served (KIP-848 calls it so).
const CLASSIC: &str = "classic";

/// A group as it is listed.
pub(super) struct Row {
    pub(super) id: Arc<str>,
    pub(super) state: GroupState,
    pub(super) protocol_type: String,
}

impl Inside {
    /// All groups behind `after`, by id.
    pub(super) fn rows(&self, after: Option<&str>) -> Vec<Row> {
        let mut rows: BTreeMap<Arc<str>, Row> = BTreeMap::new();
        for id in self.offsets.groups_after(after) {
            let row = Row {
                id: id.clone(),
                state: GroupState::Empty,
                protocol_type: String::new(),
            };
            rows.insert(id.clone(), row);
        }
        for group in self.machine.iter_after(after) {
            let row = Row {
                id: group.id().clone(),
                state: group.state(),
                protocol_type: group.protocol_type().to_owned(),
            };
            rows.insert(group.id().clone(), row);
        }
        rows.into_values().collect()
    }
}

/// Answers a ListGroups request.
pub(in crate::kafka) fn list_groups(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &ListGroupsRequest<'_>,
) -> Frame {
    let among = |filter: &[&str], value: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(value))
    };
    let mut rows = if among(&request.types_filter, CLASSIC) {
        door.groups.lock().rows(None)
    } else {
        Vec::new()
    };
    let sees_all = door.allows(caller, Operation::Describe, Resource::Cluster);
    rows.retain(|row| {
        among(&request.states_filter, row.state.name())
            && (sees_all || door.allows(caller, Operation::Describe, Resource::Group(&row.id)))
    });
    let response = ListGroupsResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::None.as_i16(),
        groups: rows
            .iter()
            .map(|row| ListedGroup {
                group_id: &row.id,
                protocol_type: &row.protocol_type,
                group_state: row.state.name(),
                group_type: CLASSIC,
            })
            .collect(),
    };
    encode_response(Api::ListGroups, version, correlation_id, &response)
}

/// What is told of a group.
struct Described {
    error: ErrorCode,
    state: GroupState,
    protocol_type: String,
    protocol: String,
    members: Vec<MemberView>,
}

impl Described {
    fn absent(error: ErrorCode) -> Self {
        Self {
            error,
            state: GroupState::Dead,
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        }
    }
}

impl Groups {
    fn describe(&self, id: &str, version: i16) -> Described {
        if !is_group_id(id) {
            return Described::absent(ErrorCode::InvalidGroupId);
        }
        let inside = self.lock();
        match inside.machine.get(id) {
            Some(group) => Described {
                error: ErrorCode::None,
                state: group.state(),
                protocol_type: group.protocol_type().to_owned(),
                protocol: group.protocol().to_owned(),
                members: group.members().collect(),
            },
            None if inside.offsets.has(id) => Described {
                state: GroupState::Empty,
                ..Described::absent(ErrorCode::None)
            },
            // Older clients take "Dead" for an answer.
            None if version < 6 => Described::absent(ErrorCode::None),
            None => Described::absent(ErrorCode::GroupIdNotFound),
        }
    }
}

/// Answers a DescribeGroups request.
pub(in crate::kafka) fn describe_groups(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DescribeGroupsRequest<'_>,
) -> Frame {
    let mut seen = BTreeSet::new();
    let found: Vec<(&str, Described)> = request
        .groups
        .iter()
        // A name that is repeated would have its members told as often.
        .filter(|id| seen.insert(**id))
        .map(|&id| {
            let described = if door.allows(caller, Operation::Describe, Resource::Group(id)) {
                door.groups.describe(id, version)
            } else {
                Described::absent(ErrorCode::GroupAuthorizationFailed)
            };
            (id, described)
        })
        .collect();
    let groups = found.iter().map(|(id, group)| {
        let allowed = if request.include_authorized_operations && !group.error.is_error() {
            door.authorized_operations(caller, Resource::Group(id))
        } else {
            OPERATIONS_NOT_ASKED
        };
        DescribedGroup {
            error_code: code(door, Api::DescribeGroups, group.error),
            error_message: group.error.is_error().then(|| group.error.name()),
            group_id: id,
            group_state: if group.error.is_error() && version < 6 {
                ""
            } else {
                group.state.name()
            },
            protocol_type: &group.protocol_type,
            protocol_data: &group.protocol,
            members: group.members.iter().map(member).collect(),
            authorized_operations: allowed,
        }
    });
    let response = DescribeGroupsResponse {
        throttle_time_ms: 0,
        groups: groups.collect(),
    };
    encode_response(Api::DescribeGroups, version, correlation_id, &response)
}

fn member(member: &MemberView) -> DescribedMember<'_> {
    DescribedMember {
        member_id: &member.id,
        group_instance_id: member.instance_id.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        member_metadata: &member.metadata,
        member_assignment: &member.assignment,
    }
}
