//! DeleteRecords: the records below an offset go (KIP-107). Not of a compacted topic, whose past is
//! its content, nor of one that MQTT sessions point into.

use ::kafka::api::{
    Api, DeleteRecordsPartition, DeleteRecordsPartitionResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResponse,
};
use ::kafka::{ErrorCode, Frame, encode_response};
use commitlog::{Lsn, Op};

use super::super::access::Operation;
use super::super::caller::Caller;
use super::super::{FrontDoor, Stream};
use super::create_topics::changeable;
use super::{hand_in, kept, outcome};

/// Answers a DeleteRecords request.
pub(in crate::kafka) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DeleteRecordsRequest<'_>,
) -> Frame {
    let mut topics = delete(door, caller, request).await;
    for row in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if row.error_code != 0 {
            door.counters.error(Api::DeleteRecords);
            row.low_watermark = -1;
        }
    }
    let response = DeleteRecordsResponse {
        throttle_time_ms: 0,
        topics,
    };
    encode_response(Api::DeleteRecords, version, correlation_id, &response)
}

async fn delete<'a>(
    door: &FrontDoor,
    caller: &Caller,
    request: &DeleteRecordsRequest<'a>,
) -> Vec<DeleteRecordsTopicResponse<'a>> {
    let _turn = door.admin.turn.lock().await;
    let mut lsn: Lsn = 0;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let stream =
            changeable(door, caller, Operation::Delete, topic.name).map_err(|refused| refused.code);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for row in &topic.partitions {
            let done = match &stream {
                Ok(stream) => cut(door, stream, row, &mut lsn).await,
                Err(code) => Err(*code),
            };
            partitions.push(DeleteRecordsPartitionResponse {
                partition_index: row.partition_index,
                low_watermark: done.unwrap_or(-1),
                error_code: done.err().map_or(0, ErrorCode::as_i16),
            });
        }
        topics.push(DeleteRecordsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    if let Err(refused) = kept(door, lsn).await {
        let rows = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for row in rows.filter(|row| row.error_code == 0) {
            row.error_code = refused.code.as_i16();
        }
    }
    topics
}

/// Moves the start of a partition up; returns where it is then.
async fn cut(
    door: &FrontDoor,
    stream: &Stream,
    row: &DeleteRecordsPartition,
    lsn: &mut Lsn,
) -> Result<i64, ErrorCode> {
    let partition = stream.partition(row.partition_index)?;
    if stream.settings.compact || door.admin.facts.published.contains(&*stream.name) {
        return Err(ErrorCode::PolicyViolation);
    }
    let marks = door.watermarks(partition, -1)?;
    let offset = match row.offset {
        -1 => marks.visible,
        offset => u64::try_from(offset).map_err(|_| ErrorCode::OffsetOutOfRange)?,
    };
    if offset > marks.visible {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if offset > marks.log_start {
        let op = hand_in(door, Op::SetLogStart { partition, offset });
        outcome(op, lsn).await.map_err(|refused| refused.code)?;
    }
    let marks = door.watermarks(partition, -1)?;
    Ok(marks.log_start as i64)
}
