//! OffsetForLeaderEpoch: where an epoch ended, so that a client finds out that records which it
//! read were lost with a crash (KIP-320).

use ::kafka::api::{
    Api, LeaderEpochPartition, LeaderEpochPartitionResponse, LeaderEpochTopicResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::caller::Caller;
use super::{FrontDoor, Stream};

/// Answers an OffsetForLeaderEpoch request.
pub(super) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &OffsetForLeaderEpochRequest<'_>,
) -> Frame {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let stream = door.described(caller, topic.topic);
            let partition = |row| partition(door, stream.as_deref(), row);
            LeaderEpochTopicResponse {
                topic: topic.topic,
                partitions: topic.partitions.iter().map(partition).collect(),
            }
        })
        .collect();
    let response = OffsetForLeaderEpochResponse {
        throttle_time_ms: 0,
        topics,
    };
    encode_response(
        Api::OffsetForLeaderEpoch,
        version,
        correlation_id,
        &response,
    )
}

fn partition(
    door: &FrontDoor,
    stream: Result<&Stream, &ErrorCode>,
    row: &LeaderEpochPartition,
) -> LeaderEpochPartitionResponse {
    let found = stream
        .map_err(|error| *error)
        .and_then(|stream| stream.partition(row.partition))
        .and_then(|partition| end(door, partition, row));
    let error = found.err().unwrap_or(ErrorCode::None);
    if error.is_error() {
        door.counters.error(Api::OffsetForLeaderEpoch);
    }
    let (leader_epoch, end_offset) = found.unwrap_or((-1, -1));
    LeaderEpochPartitionResponse {
        error_code: error.as_i16(),
        partition: row.partition,
        leader_epoch,
        end_offset,
    }
}

fn end(
    door: &FrontDoor,
    partition: commitlog::PartitionId,
    row: &LeaderEpochPartition,
) -> Result<(i32, i64), ErrorCode> {
    let marks = door.watermarks(partition, row.current_leader_epoch)?;
    if row.leader_epoch == marks.leader_epoch {
        // The epoch in which we write has not ended; it may have no record yet.
        return Ok((row.leader_epoch, marks.appended as i64));
    }
    if row.leader_epoch > marks.leader_epoch {
        return Ok((-1, -1));
    }
    Ok(door
        .source
        .epoch_end(partition, row.leader_epoch)
        .map_or((-1, -1), |(epoch, end)| (epoch, end as i64)))
}
