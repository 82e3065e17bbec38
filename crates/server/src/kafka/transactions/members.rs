//! What is put into a transaction: partitions, the offsets of groups, and these offsets themselves.

use std::sync::Arc;

use ::kafka::api::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, Api, TxnOffsetCommitPartition, TxnOffsetCommitPartitionResponse,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitTopicResponse,
    TxnPartitionResponse, TxnPartitionsResponse, TxnTopic, TxnTopicResponse,
};
use ::kafka::group::{Claim, is_group_id};
use ::kafka::limits::OFFSET_METADATA_BYTES_MAX;
use ::kafka::offsets::CommittedOffset;
use ::kafka::txn::{GroupOffset, Identity, Write};
use ::kafka::{ErrorCode, Frame, encode_response};
use commitlog::PartitionId;

use super::super::FrontDoor;
use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::{appended, code, fenced_as};

/// The first version that knows `PRODUCER_FENCED` (KIP-588).
const FENCED_VERSION: i16 = 2;

/// The first version that has many transactions in one request (KIP-890).
const MANY_VERSION: i16 = 4;

/// Partitions of one transaction, as they were asked for.
struct Adding<'a> {
    id: &'a str,
    identity: Identity,
    verify_only: bool,
    topics: &'a [TxnTopic<'a>],
}

/// Answers an AddPartitionsToTxn request.
pub(in crate::kafka) async fn add_partitions_to_txn(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &AddPartitionsToTxnRequest<'_>,
) -> Frame {
    let mut response = AddPartitionsToTxnResponse::default();
    if version < MANY_VERSION {
        let adding = Adding {
            id: request.transactional_id,
            identity: Identity {
                producer_id: request.producer_id,
                epoch: request.producer_epoch,
            },
            verify_only: false,
            topics: &request.topics,
        };
        let errors = add(door, caller, version, &adding).await;
        response.results_by_topic = topic_rows(door, &request.topics, &errors);
    } else if door.allows(caller, Operation::ClusterAction, Resource::Cluster) {
        for transaction in &request.transactions {
            let adding = Adding {
                id: transaction.transactional_id,
                identity: Identity {
                    producer_id: transaction.producer_id,
                    epoch: transaction.producer_epoch,
                },
                verify_only: transaction.verify_only,
                topics: &transaction.topics,
            };
            let errors = add(door, caller, version, &adding).await;
            response.results_by_transaction.push(TxnPartitionsResponse {
                transactional_id: transaction.transactional_id,
                topic_results: topic_rows(door, &transaction.topics, &errors),
            });
        }
    } else {
        let error = ErrorCode::ClusterAuthorizationFailed;
        response.error_code = code(door, Api::AddPartitionsToTxn, error);
    }
    encode_response(Api::AddPartitionsToTxn, version, correlation_id, &response)
}

/// Adds all partitions or none; the error of each.
async fn add(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    version: i16,
    adding: &Adding<'_>,
) -> Vec<ErrorCode> {
    let id = Resource::TransactionalId(adding.id);
    let count = adding
        .topics
        .iter()
        .map(|topic| topic.partitions.len())
        .sum();
    if !door.allows(caller, Operation::Write, id) {
        return vec![ErrorCode::TransactionalIdAuthorizationFailed; count];
    }
    let mut found = Vec::with_capacity(count);
    for topic in adding.topics {
        let stream = if door.allows(caller, Operation::Write, Resource::Topic(topic.name)) {
            door.stream(topic.name)
        } else {
            Err(ErrorCode::TopicAuthorizationFailed)
        };
        found.extend(topic.partitions.iter().map(|&index| {
            stream
                .as_ref()
                .map_err(|error| *error)
                .and_then(|stream| stream.partition(index))
        }));
    }
    let Ok(partitions) = found.iter().copied().collect::<Result<Vec<_>, _>>() else {
        // One that cannot be added keeps out all others.
        return found
            .into_iter()
            .map(|found| found.err().unwrap_or(ErrorCode::OperationNotAttempted))
            .collect();
    };
    let error = if adding.verify_only {
        let membership = door.transactions.membership();
        let Identity { producer_id, epoch } = adding.identity;
        let mut verdicts = partitions
            .iter()
            .map(|&partition| membership.admits(Some(adding.id), producer_id, epoch, partition));
        verdicts.find_map(Result::err)
    } else {
        add_found(door, adding, &partitions).await.err()
    };
    let error = fenced_as(error.unwrap_or(ErrorCode::None), version >= FENCED_VERSION);
    vec![error; count]
}

async fn add_found(
    door: &FrontDoor,
    adding: &Adding<'_>,
    partitions: &[PartitionId],
) -> Result<(), ErrorCode> {
    decided(door, |machine, now_ms| {
        machine.add_partitions(adding.id, adding.identity, partitions, now_ms)
    })
    .await
}

/// Decides, hands what that takes to the log, and waits for it.
async fn decided(
    door: &FrontDoor,
    decide: impl FnOnce(&mut ::kafka::txn::Transactions, u64) -> Result<Option<Write>, ErrorCode>,
) -> Result<(), ErrorCode> {
    let transactions = &door.transactions;
    let answer = {
        let mut machine = transactions.lock();
        let decided = decide(&mut machine, transactions.now_ms())?;
        decided.map(|write| transactions.append(write))
    };
    transactions.sooner.notify_one();
    match answer {
        Some(answer) => appended(answer).await.map(|_| ()),
        None => Ok(()),
    }
}

fn topic_rows<'a>(
    door: &FrontDoor,
    topics: &'a [TxnTopic<'a>],
    errors: &[ErrorCode],
) -> Vec<TxnTopicResponse<'a>> {
    let mut errors = errors.iter();
    let rows = topics.iter().map(|topic| TxnTopicResponse {
        name: topic.name,
        results_by_partition: topic
            .partitions
            .iter()
            .zip(errors.by_ref())
            .map(|(&partition_index, &error)| TxnPartitionResponse {
                partition_index,
                error_code: code(door, Api::AddPartitionsToTxn, error),
            })
            .collect(),
    });
    rows.collect()
}

/// Answers an AddOffsetsToTxn request.
pub(in crate::kafka) async fn add_offsets_to_txn(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &AddOffsetsToTxnRequest<'_>,
) -> Frame {
    let id = request.transactional_id;
    let identity = Identity {
        producer_id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let added = if !door.allows(caller, Operation::Write, Resource::TransactionalId(id)) {
        Err(ErrorCode::TransactionalIdAuthorizationFailed)
    } else if !door.allows(caller, Operation::Read, Resource::Group(request.group_id)) {
        Err(ErrorCode::GroupAuthorizationFailed)
    } else if !is_group_id(request.group_id) {
        Err(ErrorCode::InvalidGroupId)
    } else {
        decided(door, |machine, now_ms| {
            machine.add_group(id, identity, request.group_id, now_ms)
        })
        .await
    };
    let error = fenced_as(
        added.err().unwrap_or(ErrorCode::None),
        version >= FENCED_VERSION,
    );
    let response = AddOffsetsToTxnResponse {
        error_code: code(door, Api::AddOffsetsToTxn, error),
        ..Default::default()
    };
    encode_response(Api::AddOffsetsToTxn, version, correlation_id, &response)
}

/// Answers a TxnOffsetCommit request: the offsets are kept until their transaction is ended.
pub(in crate::kafka) async fn txn_offset_commit(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &TxnOffsetCommitRequest<'_>,
) -> Frame {
    let (mut errors, offsets) = sort(door, caller, request);
    let kept = if offsets.is_empty() && errors.iter().any(Option::is_some) {
        Ok(())
    } else {
        keep(door, caller, request, offsets).await
    };
    let whole = kept.err().unwrap_or(ErrorCode::None);
    let mut errors = errors.drain(..).map(|error| error.unwrap_or(whole));
    let topics = request.topics.iter().map(|topic| {
        let row = |partition: &TxnOffsetCommitPartition<'_>| TxnOffsetCommitPartitionResponse {
            partition_index: partition.partition_index,
            error_code: code(
                door,
                Api::TxnOffsetCommit,
                errors.next().unwrap_or(ErrorCode::None),
            ),
        };
        TxnOffsetCommitTopicResponse {
            name: topic.name,
            partitions: topic.partitions.iter().map(row).collect(),
        }
    });
    let response = TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    };
    encode_response(Api::TxnOffsetCommit, version, correlation_id, &response)
}

/// What is wrong with each partition for itself, and the offsets of the others.
fn sort(
    door: &FrontDoor,
    caller: &Caller,
    request: &TxnOffsetCommitRequest<'_>,
) -> (Vec<Option<ErrorCode>>, Vec<GroupOffset>) {
    let (mut errors, mut offsets) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let stream = if door.allows(caller, Operation::Read, Resource::Topic(topic.name)) {
            door.stream(topic.name)
        } else {
            Err(ErrorCode::TopicAuthorizationFailed)
        };
        let name: Arc<str> = topic.name.into();
        for row in &topic.partitions {
            let metadata = row.committed_metadata.unwrap_or("");
            let found = stream
                .as_ref()
                .map_err(|error| *error)
                .and_then(|stream| stream.partition(row.partition_index));
            let error = match found {
                Err(error) => Some(error),
                Ok(_) if metadata.len() > OFFSET_METADATA_BYTES_MAX => {
                    Some(ErrorCode::OffsetMetadataTooLarge)
                }
                Ok(_) => None,
            };
            if error.is_none() {
                let committed = CommittedOffset {
                    offset: row.committed_offset,
                    leader_epoch: row.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                    commit_ms: 0,
                };
                offsets.push(((name.clone(), row.partition_index), committed));
            }
            errors.push(error);
        }
    }
    (errors, offsets)
}

async fn keep(
    door: &FrontDoor,
    caller: &Caller,
    request: &TxnOffsetCommitRequest<'_>,
    offsets: Vec<GroupOffset>,
) -> Result<(), ErrorCode> {
    let (id, group) = (request.transactional_id, request.group_id);
    if !door.allows(caller, Operation::Write, Resource::TransactionalId(id)) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if !door.allows(caller, Operation::Read, Resource::Group(group)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let claim = Claim {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
    };
    door.groups.admits_commit(group, claim, &offsets)?;
    let identity = Identity {
        producer_id: request.producer_id,
        epoch: request.producer_epoch,
    };
    decided(door, |machine, now_ms| {
        let places: Vec<(Arc<str>, i32)> = offsets.iter().map(|(place, _)| place.clone()).collect();
        // Under the lock, so that a deletion finds what is kept for its topic.
        let mut topics: Vec<&str> = places.iter().map(|(topic, _)| &**topic).collect();
        topics.dedup();
        if !topics.into_iter().all(|topic| door.groups.keeps(topic)) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let write = machine.add_offsets(id, identity, group, offsets, now_ms)?;
        let places: Vec<(&str, i32)> = places.iter().map(|(topic, at)| (&**topic, *at)).collect();
        // Under the lock, so that the end of the transaction settles it.
        door.groups.pend(identity.producer_id, group, &places);
        Ok(Some(write))
    })
    .await
}
