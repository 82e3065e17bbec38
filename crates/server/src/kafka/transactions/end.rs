//! EndTxn: a transaction commits or aborts in all its partitions and groups at once.

use std::sync::Arc;

use ::kafka::api::{Api, EndTxnRequest, EndTxnResponse};
use ::kafka::txn::{Ending, Identity};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::super::FrontDoor;
use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::{appended, code, fenced_as};

/// The first version that knows `PRODUCER_FENCED` (KIP-588).
const FENCED_VERSION: i16 = 2;

/// Answers an EndTxn request.
pub(in crate::kafka) async fn answer(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &EndTxnRequest<'_>,
) -> Frame {
    let ended = end(door, caller, request).await;
    let error = fenced_as(
        ended.err().unwrap_or(ErrorCode::None),
        version >= FENCED_VERSION,
    );
    let response = EndTxnResponse {
        error_code: code(door, Api::EndTxn, error),
        ..Default::default()
    };
    encode_response(Api::EndTxn, version, correlation_id, &response)
}

async fn end(
    door: &Arc<FrontDoor>,
    caller: &Caller,
    request: &EndTxnRequest<'_>,
) -> Result<(), ErrorCode> {
    let id = request.transactional_id;
    if !door.allows(caller, Operation::Write, Resource::TransactionalId(id)) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let identity = Identity {
        producer_id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let transactions = &door.transactions;
    let answer = {
        let mut machine = transactions.lock();
        match machine.end(id, identity, request.committed, transactions.now_ms())? {
            Ending::Write(write) => Some(transactions.append(write)),
            Ending::Already => None,
        }
    };
    let Some(answer) = answer else {
        return already(door).await;
    };
    appended(answer).await.map(|_| ())
}

/// The first answer may not have been given because its flush failed or took too long: a repeated
/// request waits for everything that was appended until now.
async fn already(door: &FrontDoor) -> Result<(), ErrorCode> {
    let lsn = *door.source.commits().borrow();
    door.source.flushed(lsn).await.map_err(super::failed)
}
