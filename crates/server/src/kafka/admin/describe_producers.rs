//! DescribeProducers: the producers that partitions know, and their open transactions (KIP-664).

use std::collections::BTreeSet;

use ::kafka::api::{
    ActiveProducer, Api, DescribeProducersPartitionResponse, DescribeProducersRequest,
    DescribeProducersResponse, DescribeProducersTopicResponse,
};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::super::access::Operation;
use super::super::caller::Caller;
use super::super::{FrontDoor, Stream};
use super::Refused;
use super::create_topics::changeable;

/// Answers a DescribeProducers request.
pub(in crate::kafka) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DescribeProducersRequest<'_>,
) -> Frame {
    let streams: Vec<_> = request
        .topics
        .iter()
        .map(|topic| changeable(door, caller, Operation::Read, topic.name))
        .collect();
    // A partition that is repeated would have its producers told as often.
    let mut seen = BTreeSet::new();
    let topics = request.topics.iter().zip(&streams).map(|(topic, stream)| {
        let indexes = topic.partition_indexes.iter();
        let indexes = indexes.filter(|&&index| seen.insert((topic.name, index)));
        DescribeProducersTopicResponse {
            name: topic.name,
            partitions: indexes
                .map(|&index| partition(door, stream.as_deref(), index))
                .collect(),
        }
    });
    let response = DescribeProducersResponse {
        throttle_time_ms: 0,
        topics: topics.collect(),
    };
    encode_response(Api::DescribeProducers, version, correlation_id, &response)
}

fn partition<'a>(
    door: &FrontDoor,
    stream: Result<&Stream, &'a Refused>,
    partition_index: i32,
) -> DescribeProducersPartitionResponse<'a> {
    let refused = |code: ErrorCode, words| {
        door.counters.error(Api::DescribeProducers);
        DescribeProducersPartitionResponse {
            partition_index,
            error_code: code.as_i16(),
            error_message: words,
            active_producers: Vec::new(),
        }
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(why) => return refused(why.code, Some(&why.words)),
    };
    let found = stream.partition(partition_index).ok();
    let Some(producers) = found.and_then(|partition| door.source.producers(partition)) else {
        return refused(ErrorCode::UnknownTopicOrPartition, None);
    };
    let producers = producers.iter().map(|producer| ActiveProducer {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_ms as i64,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.txn_first_offset.map_or(-1, |offset| offset as i64),
    });
    DescribeProducersPartitionResponse {
        partition_index,
        error_code: 0,
        error_message: None,
        active_producers: producers.collect(),
    }
}
