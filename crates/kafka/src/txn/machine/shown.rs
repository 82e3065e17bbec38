//! Transactions as they are shown to who asks.

use std::sync::Arc;

use super::{Stage, Transaction, Transactions};
use crate::txn::{Shown, State};

impl Transactions {
    /// All transactional ids, in no order.
    pub fn all(&self) -> impl Iterator<Item = Shown> {
        self.by_id
            .iter()
            .map(|(id, transaction)| transaction.shown(id))
    }

    /// A transactional id.
    pub fn get(&self, id: &str) -> Option<Shown> {
        let (id, transaction) = self.by_id.get_key_value(id)?;
        Some(transaction.shown(id))
    }

    /// Offsets that are kept for groups in open transactions: producer id, group, offsets.
    pub fn kept_offsets(&self) -> impl Iterator<Item = (i64, &Arc<str>, Vec<(&str, i32)>)> {
        self.by_id.values().flat_map(|transaction| {
            let groups = match &transaction.stage {
                Stage::Open(open) | Stage::Ending { open, .. } => Some(&open.content.groups),
                Stage::Empty | Stage::Ended { .. } => None,
            };
            groups.into_iter().flatten().map(|(group, offsets)| {
                let places = offsets
                    .keys()
                    .map(|(topic, partition)| (&**topic, *partition));
                (transaction.identity.producer_id, group, places.collect())
            })
        })
    }
}

impl Transaction {
    fn shown(&self, id: &Arc<str>) -> Shown {
        let (state, open) = match &self.stage {
            Stage::Empty => (State::Empty, None),
            Stage::Open(open) => (State::Ongoing, Some(open)),
            Stage::Ending {
                commit: true, open, ..
            } => (State::PrepareCommit, Some(open)),
            Stage::Ending { open, .. } => (State::PrepareAbort, Some(open)),
            Stage::Ended { commit: true } => (State::CompleteCommit, None),
            Stage::Ended { commit: false } => (State::CompleteAbort, None),
        };
        Shown {
            id: id.clone(),
            identity: self.identity,
            state,
            timeout_ms: self.timeout_ms,
            since_ms: open.map(|open| open.since_ms),
            partitions: open
                .map(|open| open.content.partitions.iter().copied().collect())
                .unwrap_or_default(),
        }
    }
}
