//! Metadata: this node as the only broker and controller, and the streams as topics. Topics are
//! never created here.

use std::sync::Arc;

use ::kafka::api::{
    Api, MetadataBroker, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic,
    OPERATIONS_NOT_ASKED,
};
use ::kafka::{ErrorCode, Frame, Uuid, encode_response};

use super::caller::Caller;
use super::{FrontDoor, Stream};

/// This node among brokers.
const NODE_ID: i32 = 1;

/// What may be done with a topic: Kafka's bits for READ (3) and DESCRIBE (8).
const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 8;

/// What may be done with the cluster: Kafka's bit for DESCRIBE (8).
const CLUSTER_OPERATIONS: i32 = 1 << 8;

/// A topic that was asked for, as it was asked for.
enum Found<'a> {
    Stream(Arc<Stream>),
    NoName(&'a str, ErrorCode),
    NoId(Uuid, ErrorCode),
}

/// Answers a Metadata request.
pub(super) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &MetadataRequest<'_>,
) -> Frame {
    let found = find(door, version, request);
    let advertised = caller.advertised();
    let topic_operations = if request.include_topic_authorized_operations {
        TOPIC_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let cluster_operations = if request.include_cluster_authorized_operations {
        CLUSTER_OPERATIONS
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
            .map(|found| topic(door, found, topic_operations))
            .collect(),
        cluster_authorized_operations: cluster_operations,
        ..Default::default()
    };
    encode_response(Api::Metadata, version, correlation_id, &response)
}

fn find<'a>(door: &FrontDoor, version: i16, request: &MetadataRequest<'a>) -> Vec<Found<'a>> {
    let asked = match &request.topics {
        // An empty list asks for all in version 0, and for none later.
        Some(topics) if !topics.is_empty() || version > 0 => topics,
        _ => {
            let streams = door.source.streams().into_iter();
            return streams
                .filter(|stream| !stream.internal)
                .map(Found::Stream)
                .collect();
        }
    };
    asked
        .iter()
        .map(|topic| match topic.name {
            Some(name) => door
                .stream(name)
                .map_or_else(|error| Found::NoName(name, error), Found::Stream),
            None => door
                .stream_by_id(&topic.topic_id)
                .map_or_else(|error| Found::NoId(topic.topic_id, error), Found::Stream),
        })
        .collect()
}

fn topic<'a>(door: &FrontDoor, found: &'a Found<'_>, operations: i32) -> MetadataTopic<'a> {
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
        topic_authorized_operations: operations,
    }
}
