//! DescribeConfigs: the settings of topics and of this node, with where they come from, what kind
//! of value they have and what they mean.

use std::collections::BTreeSet;

use ::kafka::api::{
    Api, ConfigSynonym, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    DescribedConfig, DescribedResource,
};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::super::FrontDoor;
use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::super::limits::NODE_ID;
use super::create_topics::changeable;
use super::{Refused, broker_keys, keys, told};

/// Kafka's resource types that have settings here.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Kafka's sources of a value: set for the topic, from the broker's file, nobody said it.
const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

/// Where a topic's value comes from.
pub(super) fn source(value: &str, default: &str) -> i8 {
    if value == default { DEFAULT } else { OF_TOPIC }
}

/// A setting with all that may be told of it.
struct Told {
    name: &'static str,
    value: String,
    default: Option<(&'static str, String)>,
    read_only: bool,
    source: i8,
    kind: i8,
    words: &'static str,
}

/// Answers a DescribeConfigs request.
pub(in crate::kafka) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DescribeConfigsRequest<'_>,
) -> Frame {
    let mut seen = BTreeSet::new();
    let found: Vec<_> = request
        .resources
        .iter()
        // A resource that is repeated would have its settings told as often.
        .filter(|resource| seen.insert((resource.resource_type, resource.resource_name)))
        .map(|resource| (resource, find(door, caller, resource)))
        .collect();
    let results = found.iter().map(|(resource, found)| {
        let (error_code, error_message) = told(found);
        if error_code != 0 {
            door.counters.error(Api::DescribeConfigs);
        }
        let rows = found.as_deref().unwrap_or_default().iter();
        let configs = rows
            .filter(|row| asked_for(resource, row.name))
            .map(|row| described(row, request));
        DescribedResource {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: configs.collect(),
        }
    });
    let response = DescribeConfigsResponse {
        throttle_time_ms: 0,
        results: results.collect(),
    };
    encode_response(Api::DescribeConfigs, version, correlation_id, &response)
}

fn asked_for(resource: &DescribeConfigsResource<'_>, name: &str) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.contains(&name),
        _ => true,
    }
}

fn described<'a>(row: &'a Told, request: &DescribeConfigsRequest<'_>) -> DescribedConfig<'a> {
    let mut synonyms = Vec::new();
    if request.include_synonyms {
        if row.source != DEFAULT {
            synonyms.push(ConfigSynonym {
                name: row.name,
                value: Some(&row.value),
                source: row.source,
            });
        }
        if let Some((name, value)) = &row.default {
            synonyms.push(ConfigSynonym {
                name,
                value: Some(value),
                source: DEFAULT,
            });
        }
    }
    DescribedConfig {
        name: row.name,
        value: Some(&row.value),
        read_only: row.read_only,
        config_source: row.source,
        is_sensitive: false,
        synonyms,
        config_type: row.kind,
        documentation: request.include_documentation.then_some(row.words),
    }
}

fn find(
    door: &FrontDoor,
    caller: &Caller,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Told>, Refused> {
    match resource.resource_type {
        TOPIC => topic(door, caller, resource.resource_name),
        BROKER => broker(door, caller, resource.resource_name),
        other => Err(Refused::new(
            ErrorCode::InvalidRequest,
            format!("resources of type {other} have no settings here"),
        )),
    }
}

fn topic(door: &FrontDoor, caller: &Caller, name: &str) -> Result<Vec<Told>, Refused> {
    let stream = changeable(door, caller, Operation::DescribeConfigs, name)?;
    let template = keys::template_of(door, &stream.settings);
    let told = |key: &'static keys::Key| {
        let value = key.show(&stream.settings);
        let default = key.show(&template);
        Told {
            name: key.name,
            source: source(&value, &default),
            value,
            default: (!key.broker_name.is_empty()).then_some((key.broker_name, default)),
            read_only: key.read_only(),
            kind: key.kind as i8,
            words: key.words,
        }
    };
    Ok(keys::KEYS.iter().map(told).collect())
}

fn broker(door: &FrontDoor, caller: &Caller, name: &str) -> Result<Vec<Told>, Refused> {
    if !door.allows(caller, Operation::DescribeConfigs, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed.into());
    }
    // The empty name stands for what all brokers share, of which there is nothing.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.parse() != Ok(NODE_ID) {
        return Err(Refused::new(
            ErrorCode::InvalidRequest,
            format!(
                "Unexpected broker id, expected {NODE_ID} or empty string, but received {name}"
            ),
        ));
    }
    let told = |(name, kind, value, words): broker_keys::Row| Told {
        name,
        value,
        default: None,
        read_only: true,
        source: OF_BROKER,
        kind: kind as i8,
        words,
    };
    Ok(broker_keys::rows(door).into_iter().map(told).collect())
}
