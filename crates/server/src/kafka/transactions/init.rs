//! InitProducerId: a producer id, and for a transactional id its next epoch.

use std::sync::Arc;

use ::kafka::api::{Api, InitProducerIdRequest, InitProducerIdResponse};
use ::kafka::txn::Identity;
use ::kafka::{ErrorCode, Frame, encode_response};
use tokio::time::timeout;

use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::super::{FrontDoor, limits};
use super::{appended, code, fenced_as};

/// The first version that knows `PRODUCER_FENCED` (KIP-588).
const FENCED_VERSION: i16 = 4;

/// Answers an InitProducerId request.
pub(in crate::kafka) async fn answer(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &InitProducerIdRequest<'_>,
) -> Frame {
    let told = init(door, caller, request).await;
    let error = told.err().unwrap_or(ErrorCode::None);
    let error = fenced_as(error, version >= FENCED_VERSION);
    let identity = told.unwrap_or(Identity {
        producer_id: -1,
        epoch: -1,
    });
    let response = InitProducerIdResponse {
        error_code: code(door, Api::InitProducerId, error),
        producer_id: identity.producer_id,
        producer_epoch: identity.epoch,
        ..Default::default()
    };
    encode_response(Api::InitProducerId, version, correlation_id, &response)
}

async fn init(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    request: &InitProducerIdRequest<'_>,
) -> Result<Identity, ErrorCode> {
    match request.transactional_id {
        None if !door.allows(caller, Operation::IdempotentWrite, Resource::Cluster) => {
            Err(ErrorCode::ClusterAuthorizationFailed)
        }
        None => idempotent(door).await,
        Some("") => Err(ErrorCode::InvalidRequest),
        Some(id) if id.len() > limits::TRANSACTIONAL_ID_BYTES_MAX => Err(ErrorCode::InvalidRequest),
        Some(id) if !door.allows(caller, Operation::Write, Resource::TransactionalId(id)) => {
            Err(ErrorCode::TransactionalIdAuthorizationFailed)
        }
        Some(id) => transactional(door, id, request).await,
    }
}

/// A producer id that nobody has.
async fn idempotent(door: &FrontDoor) -> Result<Identity, ErrorCode> {
    let transactions = &door.transactions;
    loop {
        let reserved = transactions.reserved.notified();
        {
            let mut machine = transactions.lock();
            let producer_id = machine.ids().take();
            transactions.reserve(&mut machine);
            if let Some(producer_id) = producer_id {
                return Ok(Identity {
                    producer_id,
                    epoch: 0,
                });
            }
        }
        timeout(limits::PRODUCER_IDS_WAIT, reserved)
            .await
            .map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
    }
}

async fn transactional(
    door: &FrontDoor,
    id: &str,
    request: &InitProducerIdRequest<'_>,
) -> Result<Identity, ErrorCode> {
    let transactions = &door.transactions;
    let expected = (request.producer_id >= 0).then_some(Identity {
        producer_id: request.producer_id,
        epoch: request.producer_epoch,
    });
    loop {
        let reserved = transactions.reserved.notified();
        let begun = {
            let mut machine = transactions.lock();
            let now_ms = transactions.now_ms();
            let init = machine.init(id, request.transaction_timeout_ms, expected, now_ms);
            transactions.reserve(&mut machine);
            init.map(|(identity, write)| (identity, transactions.append(write)))
        };
        match begun {
            Ok((identity, answer)) => {
                transactions.sooner.notify_one();
                let lsn = appended(answer).await?;
                // An epoch that a power cut takes back would be given out twice.
                door.source.flushed(lsn).await.map_err(super::failed)?;
                return Ok(identity);
            }
            Err(ErrorCode::CoordinatorLoadInProgress) => {
                timeout(limits::PRODUCER_IDS_WAIT, reserved)
                    .await
                    .map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
            }
            Err(error) => return Err(error),
        }
    }
}
