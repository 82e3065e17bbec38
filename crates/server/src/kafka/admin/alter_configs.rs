//! IncrementalAlterConfigs changes single settings of a topic, AlterConfigs sets all of them anew.
//! What a `[[stream]]` of the configuration describes is refused: it would be set back at the next
//! start. Settings of the node are in its configuration only.

use std::collections::HashSet;

use ::kafka::api::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse, Api,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, IncrementalResourceResponse,
};
use ::kafka::{ErrorCode, Frame, encode_response};
use commitlog::{Lsn, Op, StreamSettings};

use super::super::FrontDoor;
use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::create_topics::changeable;
use super::describe_configs::{BROKER, TOPIC};
use super::keys::{self, Key};
use super::{Refused, hand_in, kept, outcome, told};

/// What is done to a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Set,
    Reset,
    Append,
    Subtract,
}

/// A topic or broker, and what is to change.
struct Wanted<'a> {
    resource_type: i8,
    resource_name: &'a str,
    /// Whether all that is not named goes back to its default.
    anew: bool,
    changes: Vec<(&'a str, Result<Change, Refused>, Option<&'a str>)>,
}

/// Answers an AlterConfigs request.
pub(in crate::kafka) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &AlterConfigsRequest<'_>,
) -> Frame {
    let wanted: Vec<_> = request
        .resources
        .iter()
        .map(|resource| Wanted {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            anew: true,
            changes: resource
                .configs
                .iter()
                .map(|config| (config.name, Ok(Change::Set), config.value))
                .collect(),
        })
        .collect();
    let done = alter(
        door,
        caller,
        Api::AlterConfigs,
        &wanted,
        request.validate_only,
    )
    .await;
    let responses = wanted.iter().zip(&done).map(|(wanted, done)| {
        let (error_code, error_message) = told(done);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name,
        }
    });
    let response = AlterConfigsResponse {
        throttle_time_ms: 0,
        responses: responses.collect(),
    };
    encode_response(Api::AlterConfigs, version, correlation_id, &response)
}

/// Answers an IncrementalAlterConfigs request.
pub(in crate::kafka) async fn incremental(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &IncrementalAlterConfigsRequest<'_>,
) -> Frame {
    let wanted: Vec<_> = request
        .resources
        .iter()
        .map(|resource| Wanted {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            anew: false,
            changes: resource
                .configs
                .iter()
                .map(|config| (config.name, change(config.config_operation), config.value))
                .collect(),
        })
        .collect();
    let api = Api::IncrementalAlterConfigs;
    let done = alter(door, caller, api, &wanted, request.validate_only).await;
    let responses = wanted.iter().zip(&done).map(|(wanted, done)| {
        let (error_code, error_message) = told(done);
        IncrementalResourceResponse {
            error_code,
            error_message,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name,
        }
    });
    let response = IncrementalAlterConfigsResponse {
        throttle_time_ms: 0,
        responses: responses.collect(),
    };
    encode_response(api, version, correlation_id, &response)
}

fn change(operation: i8) -> Result<Change, Refused> {
    match operation {
        0 => Ok(Change::Set),
        1 => Ok(Change::Reset),
        2 => Ok(Change::Append),
        3 => Ok(Change::Subtract),
        _ => Err(Refused::new(
            ErrorCode::InvalidRequest,
            format!("there is no operation {operation}"),
        )),
    }
}

async fn alter(
    door: &FrontDoor,
    caller: &Caller,
    api: Api,
    wanted: &[Wanted<'_>],
    validate_only: bool,
) -> Vec<Result<(), Refused>> {
    let _turn = door.admin.turn.lock().await;
    let mut seen = HashSet::new();
    let mut done = Vec::with_capacity(wanted.len());
    let mut lsn: Lsn = 0;
    for wanted in wanted {
        let altered = if seen.insert((wanted.resource_type, wanted.resource_name)) {
            altered(door, caller, wanted)
        } else {
            Err(Refused::new(
                ErrorCode::InvalidRequest,
                "the resource is named twice in the request",
            ))
        };
        done.push(match altered {
            Ok(Some(stream)) if !validate_only => {
                outcome(hand_in(door, Op::AlterStream(stream)), &mut lsn)
                    .await
                    .map(drop)
            }
            Ok(_) => Ok(()),
            Err(refused) => Err(refused),
        });
    }
    if let Err(refused) = kept(door, lsn).await {
        for done in done.iter_mut().filter(|done| done.is_ok()) {
            *done = Err(refused.clone());
        }
    }
    for _ in done.iter().filter(|done| done.is_err()) {
        door.counters.error(api);
    }
    done
}

/// The settings as they are to be; none where nothing changes.
fn altered(
    door: &FrontDoor,
    caller: &Caller,
    wanted: &Wanted<'_>,
) -> Result<Option<StreamSettings>, Refused> {
    match wanted.resource_type {
        TOPIC => {}
        BROKER if !door.allows(caller, Operation::AlterConfigs, Resource::Cluster) => {
            return Err(ErrorCode::ClusterAuthorizationFailed.into());
        }
        BROKER => {
            return Err(Refused::new(
                ErrorCode::PolicyViolation,
                "settings of the node are in its configuration file and are read when it starts",
            ));
        }
        other => {
            return Err(Refused::new(
                ErrorCode::InvalidRequest,
                format!("resources of type {other} have no settings here"),
            ));
        }
    }
    let stream = changeable(door, caller, Operation::AlterConfigs, wanted.resource_name)?;
    let facts = &door.admin.facts;
    if facts.written.contains(&*stream.name) {
        return Err(Refused::new(
            ErrorCode::PolicyViolation,
            format!(
                "a [[stream]] of the configuration describes {} and would set it back at the next \
                 start: change it there",
                stream.name
            ),
        ));
    }
    let template = keys::template_of(door, &stream.settings);
    let mut settings = if wanted.anew {
        template.clone()
    } else {
        stream.settings.clone()
    };
    let mut names = HashSet::new();
    for (name, change, value) in &wanted.changes {
        if !names.insert(name) {
            return Err(Refused::new(
                ErrorCode::InvalidRequest,
                format!("{name} is named twice in the request"),
            ));
        }
        let key = Key::named(name)?;
        let value = value
            .ok_or_else(|| Refused::new(ErrorCode::InvalidRequest, format!("{name} has no value")));
        match change.clone()? {
            Change::Reset => key.set(&mut settings, &key.show(&template))?,
            Change::Set => key.set(&mut settings, value?)?,
            Change::Append => key.change_list(&mut settings, value?, true)?,
            Change::Subtract => key.change_list(&mut settings, value?, false)?,
        }
    }
    if settings.storage != stream.settings.storage {
        return Err(Refused::new(
            ErrorCode::InvalidConfig,
            "sluice.storage is said when a topic is created, and stays",
        ));
    }
    if settings.ack != stream.settings.ack && facts.hooked.contains(&*stream.name) {
        if wanted.anew && !names.contains(&keys::ACK) {
            settings.ack = stream.settings.ack;
        } else {
            return Err(Refused::new(
                ErrorCode::PolicyViolation,
                "a hook writes this topic: its ack level is that of a [[stream]] in the \
                 configuration, since publishers wait for it",
            ));
        }
    }
    keys::judge(door, &settings)?;
    Ok((settings != stream.settings).then_some(settings))
}
