//! Metadata: this node as the only broker and controller, and the streams as topics. A topic that
//! is asked for by name is created where settings, client and permissions allow it.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::kafka::api::{
    Api, MetadataBroker, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic,
    OPERATIONS_NOT_ASKED,
};
use ::kafka::{ErrorCode, Frame, Uuid, encode_response};

use super::access::{Operation, Resource};
use super::caller::Caller;
use super::limits::NODE_ID;
use super::topics::legal;
use super::{FrontDoor, Stream, admin};

/// A topic that was asked for, as it was asked for.
enum Found<'a> {
    Stream(Arc<Stream>),
    NoName(&'a str, ErrorCode),
    NoId(Uuid, ErrorCode),
}

/// Answers a Metadata request.
pub(super) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &MetadataRequest<'_>,
) -> Frame {
    create_missing(door, caller, version, request).await;
    let found = find(door, caller, version, request);
    let advertised = caller.advertised();
    let topic_operations = |name: &str| {
        if request.include_topic_authorized_operations {
            door.authorized_operations(caller, Resource::Topic(name))
        } else {
            OPERATIONS_NOT_ASKED
        }
    };
    let cluster_operations = if request.include_cluster_authorized_operations {
        door.authorized_operations(caller, Resource::Cluster)
    } else {
        OPERATIONS_NOT_ASKED
    };
    let response = MetadataResponse {
        brokers: vec![MetadataBroker {
            node_id: NODE_ID,
            host: &advertised.host,
            port: i32::from(advertised.port),
            rack: None,
        }],
        cluster_id: Some(door.source.cluster_id()),
        controller_id: NODE_ID,
        topics: found
            .iter()
            .map(|found| topic(door, found, &topic_operations))
            .collect(),
        cluster_authorized_operations: cluster_operations,
        ..Default::default()
    };
    encode_response(Api::Metadata, version, correlation_id, &response)
}

/// Creates those of the topics asked for that are not there, where that is allowed. Versions below 4
/// cannot say whether they want it and always do.
async fn create_missing(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    request: &MetadataRequest<'_>,
) {
    if !door.settings.auto_create || (version >= 4 && !request.allow_auto_topic_creation) {
        return;
    }
    let asked = request.topics.iter().flatten();
    let missing: Vec<&str> = asked
        .filter_map(|topic| topic.name)
        .filter(|name| legal(name) && door.source.stream(name).is_none())
        .filter(|name| door.allows(caller, Operation::Describe, Resource::Topic(name)))
        .collect();
    if !missing.is_empty() {
        admin::create_asked_for(door, caller, &missing).await;
    }
}

fn find<'a>(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    request: &MetadataRequest<'a>,
) -> Vec<Found<'a>> {
    let shown = |name: &str| door.allows(caller, Operation::Describe, Resource::Topic(name));
    let asked = match &request.topics {
        // An empty list asks for all in version 0, and for none later.
        Some(topics) if !topics.is_empty() || version > 0 => topics,
        _ => {
            let streams = door.source.streams().into_iter();
            return streams
                .filter(|stream| !stream.internal && shown(&stream.name))
                .map(Found::Stream)
                .collect();
        }
    };
    let mut seen = BTreeSet::new();
    asked
        .iter()
        // A topic that is repeated would have its partitions told as often.
        .filter(|topic| seen.insert(topic.name.ok_or(topic.topic_id)))
        .map(|topic| match topic.name {
            Some(name) if !shown(name) => Found::NoName(name, ErrorCode::TopicAuthorizationFailed),
            Some(name) => door
                .stream(name)
                .map_or_else(|error| Found::NoName(name, error), Found::Stream),
            // An id tells nothing to whom the name is not shown.
            None => door
                .stream_by_id(&topic.topic_id)
                .and_then(|stream| {
                    if shown(&stream.name) {
                        Ok(stream)
                    } else {
                        Err(ErrorCode::UnknownTopicId)
                    }
                })
                .map_or_else(|error| Found::NoId(topic.topic_id, error), Found::Stream),
        })
        .collect()
}

fn topic<'a>(
    door: &FrontDoor,
    found: &'a Found<'_>,
    operations: &dyn Fn(&str) -> i32,
) -> MetadataTopic<'a> {
    let stream = match found {
        Found::Stream(stream) => stream,
        Found::NoName(name, error) => {
            door.counters.error(Api::Metadata);
            return MetadataTopic {
                error_code: error.as_i16(),
                name: Some(name),
                ..Default::default()
            };
        }
        Found::NoId(topic_id, error) => {
            door.counters.error(Api::Metadata);
            return MetadataTopic {
                error_code: error.as_i16(),
                name: None,
                topic_id: *topic_id,
                ..Default::default()
            };
        }
    };
    let partition = |(index, &partition)| MetadataPartition {
        error_code: 0,
        partition_index: index,
        leader_id: NODE_ID,
        leader_epoch: door
            .source
            .watermarks(partition)
            .map_or(-1, |marks| marks.leader_epoch),
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        offline_replicas: Vec::new(),
    };
    MetadataTopic {
        error_code: 0,
        name: Some(&stream.name),
        topic_id: stream.topic_id,
        is_internal: false,
        partitions: (0..).zip(&stream.partitions).map(partition).collect(),
        topic_authorized_operations: operations(&stream.name),
    }
}
