//! WriteTxnMarkers: an operator ends what a producer has open in partitions, whatever its
//! transaction says (KIP-664).

use std::sync::Arc;

use ::kafka::api::{
    Api, TxnMarker, TxnMarkerPartitionResponse, TxnMarkerResponse, TxnMarkerTopicResponse,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use ::kafka::{ErrorCode, Frame, encode_response};
use commitlog::{Append, Entry, Refusal, control_batch};

use super::super::FrontDoor;
use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::{COORDINATOR_EPOCH, code};

/// Answers a WriteTxnMarkers request.
pub(in crate::kafka) async fn answer(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &WriteTxnMarkersRequest<'_>,
) -> Frame {
    let allowed = door.allows(caller, Operation::ClusterAction, Resource::Cluster)
        || door.allows(caller, Operation::Alter, Resource::Cluster);
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in &request.markers {
        let errors = if allowed {
            write(door, marker).await
        } else {
            let counts = marker
                .topics
                .iter()
                .map(|topic| topic.partition_indexes.len());
            vec![ErrorCode::ClusterAuthorizationFailed; counts.sum()]
        };
        let mut errors = errors.into_iter();
        let topics = marker.topics.iter().map(|topic| TxnMarkerTopicResponse {
            name: topic.name,
            partitions: topic
                .partition_indexes
                .iter()
                .zip(errors.by_ref())
                .map(|(&partition_index, error)| TxnMarkerPartitionResponse {
                    partition_index,
                    error_code: code(door, Api::WriteTxnMarkers, error),
                })
                .collect(),
        });
        markers.push(TxnMarkerResponse {
            producer_id: marker.producer_id,
            topics: topics.collect(),
        });
    }
    let response = WriteTxnMarkersResponse { markers };
    encode_response(Api::WriteTxnMarkers, version, correlation_id, &response)
}

/// Writes one producer's markers as one entry; the error of each partition.
async fn write(door: &FrontDoor, marker: &TxnMarker<'_>) -> Vec<ErrorCode> {
    let mut entry = Entry::default();
    let mut found = Vec::new();
    for topic in &marker.topics {
        let stream = door.stream(topic.name);
        for &index in &topic.partition_indexes {
            let partition = stream
                .as_ref()
                .map_err(|error| *error)
                .and_then(|stream| stream.partition(index));
            if let Ok(partition) = partition {
                let batch = control_batch(
                    marker.producer_id,
                    marker.producer_epoch,
                    marker.transaction_result,
                    // A higher epoch than ours would fence our own markers for good.
                    marker.coordinator_epoch.min(COORDINATOR_EPOCH),
                    door.transactions.now_ms(),
                );
                entry.appends.push(Append::new(partition, batch));
            }
            found.push(partition);
        }
    }
    if entry.appends.is_empty() {
        return found
            .into_iter()
            .map(|found| found.err().unwrap_or(ErrorCode::None))
            .collect();
    }
    let appended = match door.source.submit(entry).await {
        Ok(appended) => door
            .source
            .flushed(appended.lsn)
            .await
            .map(|()| appended.base_offsets),
        Err(error) => Err(error),
    };
    let failure = appended.as_ref().err().cloned().map(super::failed);
    let mut written = appended.into_iter().flatten();
    let rows = found.into_iter().map(|found| match (found, failure) {
        (Err(error), _) | (Ok(_), Some(error)) => error,
        (Ok(_), None) => match written.next() {
            Some(Err(refusal)) => refused(refusal),
            Some(Ok(_)) | None => ErrorCode::None,
        },
    });
    rows.collect()
}

pub(super) fn refused(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        Refusal::CoordinatorFenced => ErrorCode::TransactionCoordinatorFenced,
        Refusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        _ => ErrorCode::UnknownServerError,
    }
}
