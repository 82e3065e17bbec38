//! DescribeLogDirs: the data directory, and how large the partitions in it are.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::kafka::api::{
    Api, DescribeLogDirsRequest, DescribeLogDirsResponse, LogDir, LogDirPartition, LogDirTopic,
};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::super::{FrontDoor, Stream};

/// Answers a DescribeLogDirs request.
pub(in crate::kafka) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DescribeLogDirsRequest<'_>,
) -> Frame {
    let mut response = DescribeLogDirsResponse::default();
    let found;
    if door.allows(caller, Operation::Describe, Resource::Cluster) {
        found = find(door, request);
        let free_bytes = door.source.free_bytes();
        response.results.push(LogDir {
            error_code: 0,
            log_dir: &door.admin.facts.data_dir,
            topics: found.iter().map(|found| topic(door, found)).collect(),
            total_bytes: -1,
            usable_bytes: free_bytes.map_or(-1, |bytes| bytes as i64),
        });
    } else {
        door.counters.error(Api::DescribeLogDirs);
        response.error_code = ErrorCode::ClusterAuthorizationFailed.as_i16();
    }
    encode_response(Api::DescribeLogDirs, version, correlation_id, &response)
}

/// A stream, and those of its partitions that are asked for.
type Found = (Arc<Stream>, Vec<i32>);

fn find(door: &FrontDoor, request: &DescribeLogDirsRequest<'_>) -> Vec<Found> {
    let all = |stream: &Stream| (0..stream.partitions.len() as i32).collect();
    let Some(topics) = &request.topics else {
        let streams = door.source.streams().into_iter();
        return streams
            .filter(|stream| !stream.internal)
            .map(|stream| {
                let partitions = all(&stream);
                (stream, partitions)
            })
            .collect();
    };
    let mut found: BTreeMap<&str, Found> = BTreeMap::new();
    for topic in topics {
        if let Ok(stream) = door.stream(topic.topic) {
            let (_, partitions) = found.entry(topic.topic).or_insert((stream, Vec::new()));
            partitions.extend(&topic.partitions);
        }
    }
    found.into_values().collect()
}

fn topic<'a>(door: &FrontDoor, (stream, partitions): &'a Found) -> LogDirTopic<'a> {
    let partition = |&partition_index: &i32| {
        let partition = stream.partition(partition_index).ok()?;
        Some(LogDirPartition {
            partition_index,
            partition_size: door.source.size_bytes(partition)? as i64,
            offset_lag: 0,
            is_future_key: false,
        })
    };
    LogDirTopic {
        name: &stream.name,
        partitions: partitions.iter().filter_map(partition).collect(),
    }
}
