//! OffsetCommit: admitted by the group, appended to the table, answered when it is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::kafka::api::{
    Api, OffsetCommitPartition, OffsetCommitPartitionResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetCommitTopic, OffsetCommitTopicResponse,
};
use ::kafka::group::Claim;
use ::kafka::offsets::{CommittedOffset, OffsetKey};
use ::kafka::{ErrorCode, Frame, encode_response, limits as wire_limits};
use tokio::sync::oneshot;

use super::{Groups, Record, appended, code};
use crate::kafka::access::{Operation, Resource};
use crate::kafka::caller::Caller;
use crate::kafka::{FrontDoor, Stream};

/// What is wrong with each partition, before the log was asked; `None`: it is in the entry.
type Faults = Vec<Vec<Option<ErrorCode>>>;

/// Answers an OffsetCommit request when the offsets are in the log.
pub(in crate::kafka) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &OffsetCommitRequest<'_>,
) -> Frame {
    let begun = begin(door, caller, version, request);
    let (faults, outcome) = match begun {
        Ok((faults, answer)) => (faults, appended(answer).await),
        Err(error) => (Vec::new(), Err(error)),
    };
    let outcome = outcome.err().unwrap_or(ErrorCode::None);
    let error = |topic: usize, at: usize| {
        let fault = faults.get(topic).and_then(|topic| topic[at]);
        code(door, Api::OffsetCommit, fault.unwrap_or(outcome))
    };
    let topic = |(number, topic): (usize, &OffsetCommitTopic<'_>)| {
        let partitions = topic.partitions.iter().enumerate();
        partitions
            .map(|(at, row)| OffsetCommitPartitionResponse {
                partition_index: row.partition_index,
                error_code: error(number, at),
            })
            .collect()
    };
    let response = OffsetCommitResponse {
        throttle_time_ms: 0,
        topics: request
            .topics
            .iter()
            .enumerate()
            .map(|(number, row)| OffsetCommitTopicResponse {
                name: row.name,
                topic_id: row.topic_id,
                partitions: topic((number, row)),
            })
            .collect(),
    };
    encode_response(Api::OffsetCommit, version, correlation_id, &response)
}

/// Decides and hands to the log; nothing here waits.
fn begin(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    request: &OffsetCommitRequest<'_>,
) -> Result<(Faults, oneshot::Receiver<Result<(), ErrorCode>>), ErrorCode> {
    let group = request.group_id;
    if !door.allows(caller, Operation::Read, Resource::Group(group)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let groups = &door.groups;
    let (now_ms, mono_ms) = (groups.now_ms(), groups.mono_ms());
    let claim = Claim {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
    };
    let mut records: Vec<Record> = Vec::new();
    let mut taken = Vec::new();
    let mut faults = Faults::new();
    // From here on, so that no topic goes between the look at it and the log.
    let mut inside = groups.lock();
    inside.machine.admit_commit(group, claim, false, mono_ms)?;
    let streams: Vec<_> = request
        .topics
        .iter()
        .map(|topic| {
            find(door, caller, version, topic).and_then(|stream| {
                if inside.going.contains(&stream.name) {
                    Err(ErrorCode::UnknownTopicOrPartition)
                } else {
                    Ok(stream)
                }
            })
        })
        .collect();
    for (topic, stream) in request.topics.iter().zip(&streams) {
        let mut row = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            match check(stream, partition) {
                Err(error) => row.push(Some(error)),
                Ok(stream) => {
                    let metadata_bytes = partition.committed_metadata.map_or(0, str::len);
                    taken.push((&*stream.name, partition.partition_index, metadata_bytes));
                    records.push(record(group, &stream.name, partition, now_ms));
                    row.push(None);
                }
            }
        }
        faults.push(row);
    }
    let commits = records.len();
    groups.check_room(&inside, group, taken)?;
    let answer = groups.submit(&mut inside, records);
    drop(inside);
    groups.commits.fetch_add(commits as u64, Ordering::Relaxed);
    Ok((faults, answer))
}

impl Groups {
    /// Whether the bounds allow these commits of a group: topic, partition, bytes of metadata.
    pub(super) fn check_room<'a>(
        &self,
        inside: &super::Inside,
        group: &str,
        commits: impl IntoIterator<Item = (&'a str, i32, usize)>,
    ) -> Result<(), ErrorCode> {
        let offsets = &inside.offsets;
        let known = offsets.has(group) || inside.machine.get(group).is_some();
        let has_place = known || offsets.groups_count() < self.count_max;
        if has_place && offsets.has_room(group, commits) {
            Ok(())
        } else {
            Err(ErrorCode::InvalidCommitOffsetSize)
        }
    }
}

fn find(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    topic: &OffsetCommitTopic<'_>,
) -> Result<Arc<Stream>, ErrorCode> {
    let stream = if version >= 10 {
        door.stream_by_id(&topic.topic_id)
    } else {
        door.stream(topic.name)
    };
    let name = stream.as_ref().map_or(topic.name, |stream| &stream.name);
    if !name.is_empty() && !door.allows(caller, Operation::Read, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    stream
}

fn check<'a>(
    stream: &'a Result<Arc<Stream>, ErrorCode>,
    partition: &OffsetCommitPartition<'_>,
) -> Result<&'a Arc<Stream>, ErrorCode> {
    let stream = stream.as_ref().map_err(|error| *error)?;
    stream.partition(partition.partition_index)?;
    let metadata = partition.committed_metadata.map_or(0, str::len);
    if metadata > wire_limits::OFFSET_METADATA_BYTES_MAX {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(stream)
}

fn record(
    group: &str,
    topic: &str,
    partition: &OffsetCommitPartition<'_>,
    commit_ms: u64,
) -> Record {
    let key = OffsetKey {
        group,
        topic,
        partition: partition.partition_index,
    };
    let value = CommittedOffset {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.unwrap_or_default().to_owned(),
        commit_ms,
    };
    (key.encode(), Some(value.encode()))
}
