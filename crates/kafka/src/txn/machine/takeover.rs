//! Who has a transactional id: a producer takes it over with a new epoch, which fences whoever had it,
//! and what becomes of that epoch when it is not appended.

use std::sync::Arc;

use super::{Stage, Transaction, Transactions};
use crate::ErrorCode;
use crate::txn::{Identity, Write};

#[derive(Clone, Debug, PartialEq)]
pub(in crate::txn) struct Before {
    pub(super) identity: Identity,
    last_epoch: i16,
    timeout_ms: i32,
    /// How the last transaction had ended, where none is open.
    ended: Option<bool>,
}

impl Transactions {
    /// A producer takes a transactional id over, which fences whoever had it, and aborts what that
    /// one left open. `expected`: who the producer thinks that it is (KIP-360).
    ///
    /// # Errors
    /// `INVALID_TRANSACTION_TIMEOUT`, `CONCURRENT_TRANSACTIONS` while an end is being appended,
    /// `PRODUCER_FENCED` where the producer is not who it thinks, `COORDINATOR_LOAD_IN_PROGRESS`
    /// while producer ids are being reserved, `POLICY_VIOLATION` beyond the bound.
    pub fn init(
        &mut self,
        id: &str,
        timeout_ms: i32,
        expected: Option<Identity>,
        now_ms: u64,
    ) -> Result<(Identity, Write), ErrorCode> {
        if timeout_ms <= 0 || timeout_ms > self.settings.timeout_ms_max {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let Some((id, known)) = self.by_id.get_key_value(id) else {
            return self.init_new(id, timeout_ms, now_ms);
        };
        let (id, identity) = (id.clone(), known.identity);
        if matches!(known.stage, Stage::Ending { .. }) || known.before.is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let is_open = matches!(known.stage, Stage::Open(_));
        let repeated = !is_open
            && expected.is_some_and(|expected| {
                expected.producer_id == identity.producer_id
                    && expected.epoch == known.last_epoch
                    && expected.epoch != identity.epoch
            });
        if expected.is_some_and(|expected| expected != identity) && !repeated {
            return Err(ErrorCode::ProducerFenced);
        }
        let (next, last_epoch) = if repeated {
            (identity, known.last_epoch)
        } else if is_open && identity.epoch == i16::MAX {
            // Nothing can fence the one that is open; it times out.
            return Err(ErrorCode::ConcurrentTransactions);
        } else if !is_open && identity.epoch >= i16::MAX - 1 {
            let producer_id = self
                .ids
                .take()
                .ok_or(ErrorCode::CoordinatorLoadInProgress)?;
            let fresh = Identity {
                producer_id,
                epoch: 0,
            };
            (fresh, -1)
        } else {
            let bumped = Identity {
                epoch: identity.epoch + 1,
                ..identity
            };
            // Whoever does not say who it is may be another than the one before, who must not be taken
            // for one that repeats itself.
            (bumped, expected.map_or(-1, |_| identity.epoch))
        };
        let transaction = self.by_id.get_mut(&id).expect("it was found above");
        transaction.before = Some(transaction.as_before());
        transaction.timeout_ms = timeout_ms;
        transaction.used_ms = now_ms;
        transaction.last_epoch = last_epoch;
        transaction.identity = next;
        let end = match std::mem::replace(&mut transaction.stage, Stage::Empty) {
            Stage::Open(open) => Some(transaction.abort(open)),
            Stage::Empty | Stage::Ended { .. } | Stage::Ending { .. } => None,
        };
        if next.producer_id != identity.producer_id {
            self.by_producer.remove(&identity.producer_id);
            self.by_producer.insert(next.producer_id, id.clone());
        }
        let write = Write {
            takes_over: true,
            ..self.write(&id, end)
        };
        self.set_alarm(&id);
        Ok((next, write))
    }

    fn init_new(
        &mut self,
        id: &str,
        timeout_ms: i32,
        now_ms: u64,
    ) -> Result<(Identity, Write), ErrorCode> {
        if self.by_id.len() >= self.settings.transactions_max {
            return Err(ErrorCode::PolicyViolation);
        }
        let producer_id = self
            .ids
            .take()
            .ok_or(ErrorCode::CoordinatorLoadInProgress)?;
        let identity = Identity {
            producer_id,
            epoch: 0,
        };
        let id: Arc<str> = id.into();
        self.by_producer.insert(producer_id, id.clone());
        self.by_id.insert(
            id.clone(),
            Transaction {
                identity,
                last_epoch: -1,
                timeout_ms,
                used_ms: now_ms,
                alarm_ms: None,
                stage: Stage::Empty,
                before: None,
            },
        );
        self.set_alarm(&id);
        Ok((identity, self.write(&id, None)))
    }

    /// Tells that the entry of a new epoch, which ends nothing, was appended.
    pub fn taken_over(&mut self, id: &str) {
        if let Some(transaction) = self.by_id.get_mut(id) {
            transaction.before = None;
        }
    }

    /// Tells that an entry which ends nothing was not appended: `takes_over`, that it gave out a new
    /// epoch.
    pub fn not_recorded(&mut self, id: &str, takes_over: bool) {
        let Some((id, _)) = self.by_id.get_key_value(id) else {
            return;
        };
        let id = id.clone();
        if takes_over {
            self.undo(&id);
            self.set_alarm(&id);
        }
        if let Some(Transaction {
            stage: Stage::Open(open),
            ..
        }) = self.by_id.get_mut(&id)
        {
            open.recorded = false;
        }
    }

    /// Takes back an epoch that was not appended: nobody was told of it, and whoever had the one
    /// before goes on.
    pub(super) fn undo(&mut self, id: &Arc<str>) {
        let transaction = self.by_id.get_mut(id).expect("the caller has found it");
        let Some(before) = transaction.before.take() else {
            return;
        };
        let producer_id = transaction.identity.producer_id;
        transaction.identity = before.identity;
        transaction.last_epoch = before.last_epoch;
        transaction.timeout_ms = before.timeout_ms;
        if let (Stage::Empty, Some(commit)) = (&transaction.stage, before.ended) {
            transaction.stage = Stage::Ended { commit };
        }
        if producer_id != before.identity.producer_id {
            self.by_producer.remove(&producer_id);
            self.by_producer
                .insert(before.identity.producer_id, id.clone());
        }
    }
}

impl Transaction {
    fn as_before(&self) -> Before {
        Before {
            identity: self.identity,
            last_epoch: self.last_epoch,
            timeout_ms: self.timeout_ms,
            ended: match self.stage {
                Stage::Ended { commit } => Some(commit),
                _ => None,
            },
        }
    }
}
