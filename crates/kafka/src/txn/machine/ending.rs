//! How transactions end: by their producer, by the next one, or because they were open for too long;
//! and when something is due.

use std::sync::Arc;

use super::{Stage, Transaction, Transactions};
use crate::ErrorCode;
use crate::txn::open::Open;
use crate::txn::record::{self, Key};
use crate::txn::{End, Identity, Write};

/// How long after a failed abort of a transaction that timed out it is tried again.
const RETRY_MS: u64 = 1000;

/// What a request for an end comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It has ended so before: the request was repeated.
    Already,
    /// It ends so when this is appended.
    Write(Write),
}

impl Transactions {
    /// Ends the open transaction. Until [`Transactions::ended`] is told, nothing else can be done
    /// with it.
    ///
    /// # Errors
    /// As [`Transactions::add_partitions`], and `INVALID_TXN_STATE` where none is open, or the
    /// last one ended the other way.
    pub fn end(
        &mut self,
        id: &str,
        identity: Identity,
        commit: bool,
        now_ms: u64,
    ) -> Result<Ending, ErrorCode> {
        let id = self.id(id)?;
        let transaction = self.of(&id, identity)?;
        let open = match &mut transaction.stage {
            Stage::Open(open) => std::mem::take(open),
            Stage::Ended { commit: was } if *was == commit => return Ok(Ending::Already),
            Stage::Ending { .. } => return Err(ErrorCode::ConcurrentTransactions),
            Stage::Empty | Stage::Ended { .. } => return Err(ErrorCode::InvalidTxnState),
        };
        transaction.used_ms = now_ms;
        let end = end(&open, identity, commit);
        let needless = changes(&id, &open);
        // The record tells of the end; it is not yet so here.
        transaction.stage = Stage::Ended { commit };
        let value = record::encode(transaction);
        transaction.stage = Stage::Ending {
            commit,
            open,
            fenced: false,
        };
        self.set_alarm(&id);
        Ok(Ending::Write(Write {
            key: Key::Transaction(&id).encode(),
            value: Some(value),
            needless,
            end: Some(end),
            takes_over: false,
            id,
        }))
    }

    /// Tells whether the entry with the end of a transaction was appended. Where it was not, the
    /// transaction is still open.
    pub fn ended(&mut self, id: &str, appended: bool, now_ms: u64) {
        let Some((id, _)) = self.by_id.get_key_value(id) else {
            return;
        };
        let id = id.clone();
        let transaction = self.by_id.get_mut(&id).expect("it was found above");
        let stage = std::mem::replace(&mut transaction.stage, Stage::Empty);
        transaction.stage = match stage {
            Stage::Ending {
                commit,
                fenced,
                open,
            } if appended => {
                self.open_bytes -= open.content.bytes();
                transaction.before = None;
                if fenced {
                    Stage::Empty
                } else {
                    Stage::Ended { commit }
                }
            }
            Stage::Ending { mut open, .. } => {
                open.recorded = false;
                Stage::Open(open)
            }
            other => other,
        };
        if !appended {
            self.undo(&id);
        }
        self.set_alarm(&id);
        if !appended && let Some(transaction) = self.by_id.get(&id) {
            let soonest = now_ms + RETRY_MS;
            if transaction.alarm_ms.is_some_and(|at| at < soonest) {
                self.set_alarm_at(&id, Some(soonest));
            }
        }
    }

    /// When [`Transactions::due`] has something to do next, ms since 1970.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.alarms.first().map(|(at_ms, _)| *at_ms)
    }

    /// What is due now, one thing at a time: the abort of a transaction that was open for too long,
    /// which fences its producer, or that a transactional id is forgotten.
    pub fn due(&mut self, now_ms: u64) -> Option<Write> {
        let (at_ms, id) = self.alarms.first()?;
        if *at_ms > now_ms {
            return None;
        }
        let id = id.clone();
        let transaction = self.by_id.get_mut(&id).expect("an alarm has its id");
        match std::mem::replace(&mut transaction.stage, Stage::Empty) {
            Stage::Open(mut open) => {
                // Once only, however often the abort has to be tried.
                if !std::mem::replace(&mut open.expired, true) {
                    transaction.last_epoch = transaction.identity.epoch;
                    transaction.identity.epoch = transaction.identity.epoch.saturating_add(1);
                }
                let end = transaction.abort(open);
                let write = self.write(&id, Some(end));
                self.set_alarm(&id);
                Some(write)
            }
            Stage::Ending { .. } => unreachable!("an end on its way has no alarm"),
            Stage::Empty | Stage::Ended { .. } => {
                self.set_alarm_at(&id, None);
                let gone = self.by_id.remove(&id).expect("it was found above");
                self.by_producer.remove(&gone.identity.producer_id);
                Some(Write {
                    key: Key::Transaction(&id).encode(),
                    id,
                    ..Write::default()
                })
            }
        }
    }

    pub(super) fn set_alarm(&mut self, id: &Arc<str>) {
        let transaction = &self.by_id[id];
        let at_ms = match &transaction.stage {
            Stage::Open(open) => Some(open.since_ms + transaction.timeout_ms.max(0) as u64),
            Stage::Ending { .. } => None,
            Stage::Empty | Stage::Ended { .. } => {
                Some(transaction.used_ms.saturating_add(self.settings.expiry_ms))
            }
        };
        self.set_alarm_at(id, at_ms);
    }

    fn set_alarm_at(&mut self, id: &Arc<str>, at_ms: Option<u64>) {
        let transaction = self.by_id.get_mut(id).expect("an alarm has its id");
        if transaction.alarm_ms == at_ms {
            return;
        }
        if let Some(was) = transaction.alarm_ms {
            self.alarms.remove(&(was, id.clone()));
        }
        transaction.alarm_ms = at_ms;
        self.alarms.extend(at_ms.map(|at_ms| (at_ms, id.clone())));
    }
}

impl Transaction {
    /// Goes from open to ending, by whoever has just fenced the producer with a new epoch.
    pub(super) fn abort(&mut self, open: Open) -> End {
        let end = end(&open, self.identity, false);
        self.stage = Stage::Ending {
            commit: false,
            open,
            fenced: true,
        };
        end
    }
}

/// The keys of the changes of a transaction.
pub(super) fn changes(id: &str, open: &Open) -> Vec<Vec<u8>> {
    (0..open.slots)
        .map(|number| Key::Change { number, id }.encode())
        .collect()
}

fn end(open: &Open, identity: Identity, commit: bool) -> End {
    let offsets = open.content.groups.iter().map(|(group, offsets)| {
        let offsets = offsets
            .iter()
            .map(|(place, committed)| (place.clone(), committed.clone()));
        (group.clone(), offsets.collect())
    });
    End {
        commit,
        identity,
        partitions: open.content.partitions.iter().copied().collect(),
        offsets: offsets.collect(),
    }
}
