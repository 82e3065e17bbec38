//! ListOffsets: the ends of partitions, and the first record at or behind a time.

use ::kafka::api::{
    Api, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, timestamps,
};
use ::kafka::{ErrorCode, Frame, encode_response};
use commitlog::{PartitionId, ReadError};

use super::caller::Caller;
use super::topics::read_error;
use super::{FrontDoor, Stream, Watermarks};

/// Offset, timestamp and leader epoch; -1 stands for none.
type Place = (i64, i64, i32);

const NOWHERE: Place = (-1, -1, -1);

/// Answers a ListOffsets request.
pub(super) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &ListOffsetsRequest<'_>,
) -> Frame {
    let committed = request.isolation_level == 1;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let stream = door.described(caller, topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for row in &topic.partitions {
            partitions.push(partition(door, version, committed, stream.as_deref(), row).await);
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    let response = ListOffsetsResponse {
        throttle_time_ms: 0,
        topics,
    };
    encode_response(Api::ListOffsets, version, correlation_id, &response)
}

async fn partition(
    door: &FrontDoor,
    version: i16,
    committed: bool,
    stream: Result<&Stream, &ErrorCode>,
    row: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let found = match stream
        .map_err(|error| *error)
        .and_then(|s| s.partition(row.partition_index))
    {
        Ok(partition) => search(door, version, committed, partition, row).await,
        Err(error) => Err(error),
    };
    let error = found.err().unwrap_or(ErrorCode::None);
    if error.is_error() {
        door.counters.error(Api::ListOffsets);
    }
    let (offset, timestamp, leader_epoch) = found.unwrap_or(NOWHERE);
    ListOffsetsPartitionResponse {
        partition_index: row.partition_index,
        error_code: error.as_i16(),
        timestamp,
        offset,
        leader_epoch,
    }
}

async fn search(
    door: &FrontDoor,
    version: i16,
    committed: bool,
    partition: PartitionId,
    row: &ListOffsetsPartition,
) -> Result<Place, ErrorCode> {
    let marks = door.watermarks(partition, row.current_leader_epoch)?;
    let end = end(&marks, committed);
    let oldest_version = match row.timestamp {
        timestamps::MAX_TIMESTAMP => 7,
        timestamps::EARLIEST_LOCAL => 8,
        timestamps::LATEST_TIERED => 9,
        timestamps::EARLIEST_PENDING_UPLOAD => 11,
        timestamp if timestamp >= timestamps::EARLIEST => 0,
        _ => return Err(ErrorCode::InvalidRequest),
    };
    if version < oldest_version {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let source = door.source.clone();
    let found = match row.timestamp {
        timestamps::LATEST => return Ok((end as i64, -1, marks.leader_epoch)),
        timestamps::EARLIEST | timestamps::EARLIEST_LOCAL => {
            return Ok((marks.log_start as i64, -1, -1));
        }
        // Nothing is ever in tiered storage.
        timestamps::LATEST_TIERED | timestamps::EARLIEST_PENDING_UPLOAD => return Ok(NOWHERE),
        timestamps::MAX_TIMESTAMP => blocking(move || source.newest(partition)).await?,
        timestamp => blocking(move || source.offset_for_time(partition, timestamp)).await?,
    };
    Ok(found
        .filter(|&(offset, _)| offset < end)
        .map_or(NOWHERE, |(offset, timestamp)| {
            (offset as i64, timestamp, -1)
        }))
}

/// The end that a reader sees.
fn end(marks: &Watermarks, committed: bool) -> u64 {
    if committed {
        marks.stable
    } else {
        marks.visible
    }
}

async fn blocking<T: Send + 'static>(
    search: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ErrorCode> {
    match tokio::task::spawn_blocking(search).await {
        Ok(found) => found.map_err(|error| read_error(&error)),
        Err(_) => Err(ErrorCode::UnknownServerError),
    }
}
