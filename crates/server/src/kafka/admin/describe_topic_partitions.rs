//! DescribeTopicPartitions: topics in the order of their names, so many partitions at a time; a
//! cursor says where the next answer begins (KIP-966).

use std::collections::BTreeMap;
use std::sync::Arc;

use ::kafka::api::{
    Api, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicPartitionsCursor,
    TopicPartitionsPartition, TopicPartitionsTopicResponse,
};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::super::limits::{self, NODE_ID};
use super::super::{FrontDoor, Stream};

type Found = Result<Arc<Stream>, ErrorCode>;

/// Answers a DescribeTopicPartitions request.
pub(in crate::kafka) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DescribeTopicPartitionsRequest<'_>,
) -> Frame {
    let found = find(door, caller, request);
    let most = limits::DESCRIBED_PARTITIONS_MAX;
    let mut left = request.response_partition_limit.clamp(1, most) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for (name, found) in &found {
        let mut from = 0;
        if let Some(cursor) = &request.cursor
            && cursor.topic_name == name
        {
            from = usize::try_from(cursor.partition_index).unwrap_or(0);
        }
        if left == 0 {
            response.next_cursor = Some(TopicPartitionsCursor {
                topic_name: name,
                partition_index: 0,
            });
            break;
        }
        let stream = match found {
            Ok(stream) => stream,
            Err(code) => {
                door.counters.error(Api::DescribeTopicPartitions);
                response.topics.push(TopicPartitionsTopicResponse {
                    error_code: code.as_i16(),
                    name: Some(name),
                    ..Default::default()
                });
                continue;
            }
        };
        let until = stream.partitions.len().min(from.saturating_add(left));
        response
            .topics
            .push(topic(door, caller, stream, from..until));
        left -= until.saturating_sub(from);
        if until < stream.partitions.len() {
            response.next_cursor = Some(TopicPartitionsCursor {
                topic_name: name,
                partition_index: until as i32,
            });
            break;
        }
    }
    encode_response(
        Api::DescribeTopicPartitions,
        version,
        correlation_id,
        &response,
    )
}

/// What is asked for from the cursor on, in the order of the names.
fn find(
    door: &FrontDoor,
    caller: &Caller,
    request: &DescribeTopicPartitionsRequest<'_>,
) -> BTreeMap<String, Found> {
    let from = request
        .cursor
        .as_ref()
        .map_or("", |cursor| cursor.topic_name);
    let allowed = |name: &str| door.allows(caller, Operation::Describe, Resource::Topic(name));
    if request.topics.is_empty() {
        let streams = door.source.streams().into_iter();
        return streams
            .filter(|stream| !stream.internal && *stream.name >= *from && allowed(&stream.name))
            .map(|stream| (stream.name.to_string(), Ok(stream)))
            .collect();
    }
    let names = request.topics.iter().map(|topic| topic.name);
    names
        .filter(|name| *name >= from)
        .map(|name| {
            let found = if allowed(name) {
                door.stream(name)
            } else {
                Err(ErrorCode::TopicAuthorizationFailed)
            };
            (name.to_owned(), found)
        })
        .collect()
}

fn topic<'a>(
    door: &FrontDoor,
    caller: &Caller,
    stream: &'a Stream,
    numbers: std::ops::Range<usize>,
) -> TopicPartitionsTopicResponse<'a> {
    let partition = |number: usize| TopicPartitionsPartition {
        error_code: 0,
        partition_index: number as i32,
        leader_id: NODE_ID,
        leader_epoch: door
            .source
            .watermarks(stream.partitions[number])
            .map_or(-1, |marks| marks.leader_epoch),
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        // The Java client takes null for a fault of its own.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: Vec::new(),
    };
    TopicPartitionsTopicResponse {
        error_code: 0,
        name: Some(&stream.name),
        topic_id: stream.topic_id,
        is_internal: false,
        partitions: numbers.map(partition).collect(),
        topic_authorized_operations: door
            .authorized_operations(caller, Resource::Topic(&stream.name)),
    }
}
