//! FindCoordinator: this node, for every group and every transactional id.

use ::kafka::api::{Api, Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use ::kafka::group::is_group_id;
use ::kafka::{ErrorCode, Frame, encode_response};

use super::code;
use crate::kafka::FrontDoor;
use crate::kafka::access::{Operation, Resource};
use crate::kafka::caller::Caller;
use crate::kafka::limits::NODE_ID;

/// The key is a group.
const GROUP: i8 = 0;
/// The key is a transactional id.
const TRANSACTION: i8 = 1;

/// Answers a FindCoordinator request.
pub(in crate::kafka) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &FindCoordinatorRequest<'_>,
) -> Frame {
    let advertised = caller.advertised();
    let find = |key| {
        let found = check(door, caller, request.key_type, key);
        let error = found.err().unwrap_or(ErrorCode::None);
        let (node_id, host, port) = match found {
            Ok(()) => (NODE_ID, &*advertised.host, i32::from(advertised.port)),
            Err(_) => (-1, "", -1),
        };
        Coordinator {
            key,
            node_id,
            host,
            port,
            error_code: code(door, Api::FindCoordinator, error),
            error_message: error.is_error().then(|| error.name()),
        }
    };
    let response = if version >= 4 {
        FindCoordinatorResponse {
            coordinators: request.coordinator_keys.iter().copied().map(find).collect(),
            ..Default::default()
        }
    } else {
        let found = find(request.key);
        FindCoordinatorResponse {
            error_code: found.error_code,
            error_message: found.error_message,
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..Default::default()
        }
    };
    encode_response(Api::FindCoordinator, version, correlation_id, &response)
}

fn check(door: &FrontDoor, caller: &Caller, kind: i8, key: &str) -> Result<(), ErrorCode> {
    let (resource, refused) = match kind {
        GROUP if !is_group_id(key) => return Err(ErrorCode::InvalidGroupId),
        GROUP => (Resource::Group(key), ErrorCode::GroupAuthorizationFailed),
        TRANSACTION => (
            Resource::TransactionalId(key),
            ErrorCode::TransactionalIdAuthorizationFailed,
        ),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    if door.allows(caller, Operation::Describe, resource) {
        Ok(())
    } else {
        Err(refused)
    }
}
