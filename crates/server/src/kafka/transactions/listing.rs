//! ListTransactions and DescribeTransactions: what is going on, for operators (KIP-664).

use std::collections::{BTreeMap, BTreeSet};

use ::kafka::api::{
    Api, DescribeTransactionsRequest, DescribeTransactionsResponse, DescribedTransaction,
    ListTransactionsRequest, ListTransactionsResponse, ListedTransaction, TransactionTopic,
};
use ::kafka::txn::{Shown, State};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::super::FrontDoor;
use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::code;

/// Answers a ListTransactions request.
pub(in crate::kafka) fn list_transactions(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &ListTransactionsRequest<'_>,
) -> Frame {
    let known = |name: &&&str| State::ALL.iter().any(|state| state.name() == **name);
    let unknown_state_filters = request
        .state_filters
        .iter()
        .filter(|name| !known(name))
        .copied()
        .collect();
    let now_ms = door.transactions.now_ms();
    let mut shown: Vec<Shown> = {
        let machine = door.transactions.lock();
        machine
            .all()
            .filter(|shown| asked_for(request, shown, now_ms))
            .filter(|shown| {
                let id = Resource::TransactionalId(&shown.id);
                door.allows(caller, Operation::Describe, id)
            })
            .collect()
    };
    shown.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let response = ListTransactionsResponse {
        unknown_state_filters,
        transaction_states: shown
            .iter()
            .map(|shown| ListedTransaction {
                transactional_id: &shown.id,
                producer_id: shown.identity.producer_id,
                transaction_state: shown.state.name(),
            })
            .collect(),
        ..Default::default()
    };
    encode_response(Api::ListTransactions, version, correlation_id, &response)
}

fn asked_for(request: &ListTransactionsRequest<'_>, shown: &Shown, now_ms: u64) -> bool {
    let states = &request.state_filters;
    let producers = &request.producer_id_filters;
    let lasts_ms = shown
        .since_ms
        .map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
    (states.is_empty() || states.contains(&shown.state.name()))
        && (producers.is_empty() || producers.contains(&shown.identity.producer_id))
        && u64::try_from(request.duration_filter).map_or(true, |longer_ms| lasts_ms > longer_ms)
}

/// Answers a DescribeTransactions request.
pub(in crate::kafka) fn describe_transactions(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DescribeTransactionsRequest<'_>,
) -> Frame {
    let mut seen = BTreeSet::new();
    let found: Vec<(&str, Result<Shown, ErrorCode>, Topics)> = request
        .transactional_ids
        .iter()
        // An id that is repeated would have its partitions told as often.
        .filter(|id| seen.insert(**id))
        .map(|&id| {
            let found = find(door, caller, id);
            let topics = found
                .as_ref()
                .map(|shown| topics(door, caller, shown))
                .unwrap_or_default();
            (id, found, topics)
        })
        .collect();
    let rows = found.iter().map(|(id, found, topics)| match found {
        Ok(shown) => described(shown, topics),
        Err(error) => DescribedTransaction {
            error_code: code(door, Api::DescribeTransactions, *error),
            transactional_id: id,
            ..Default::default()
        },
    });
    let response = DescribeTransactionsResponse {
        transaction_states: rows.collect(),
        ..Default::default()
    };
    encode_response(
        Api::DescribeTransactions,
        version,
        correlation_id,
        &response,
    )
}

/// Partitions by topic.
type Topics = BTreeMap<String, Vec<i32>>;

fn find(door: &FrontDoor, caller: &Caller, id: &str) -> Result<Shown, ErrorCode> {
    if !door.allows(caller, Operation::Describe, Resource::TransactionalId(id)) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let machine = door.transactions.lock();
    machine.get(id).ok_or(ErrorCode::TransactionalIdNotFound)
}

/// The partitions of the open transaction that the caller may know of.
fn topics(door: &FrontDoor, caller: &Caller, shown: &Shown) -> Topics {
    let mut topics = Topics::new();
    for &partition in &shown.partitions {
        let Some((stream, index)) = door.source.place(partition) else {
            continue;
        };
        if door.allows(caller, Operation::Describe, Resource::Topic(&stream.name)) {
            topics
                .entry(stream.name.to_string())
                .or_default()
                .push(index);
        }
    }
    topics
}

fn described<'a>(shown: &'a Shown, topics: &'a Topics) -> DescribedTransaction<'a> {
    DescribedTransaction {
        error_code: ErrorCode::None.as_i16(),
        transactional_id: &shown.id,
        transaction_state: shown.state.name(),
        transaction_timeout_ms: shown.timeout_ms,
        transaction_start_time_ms: shown.since_ms.map_or(-1, |ms| ms as i64),
        producer_id: shown.identity.producer_id,
        producer_epoch: shown.identity.epoch,
        topics: topics
            .iter()
            .map(|(topic, partitions)| TransactionTopic {
                topic,
                partitions: partitions.clone(),
            })
            .collect(),
    }
}
