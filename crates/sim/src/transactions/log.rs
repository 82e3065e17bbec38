//! What the node has on its disk: the table of transactions, and the partitions as far as their
//! producers go. An entry is there as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use kafka::txn::{End, Identity, Write};

use super::oracle::Oracle;

/// An entry that was handed in.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Decision(Write),
    Batch {
        partition: u32,
        identity: Identity,
        record: u64,
        transaction: u64,
    },
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub table: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The highest epoch of a producer in a partition.
    epochs: BTreeMap<(u32, i64), i16>,
    /// Open transactions: their records, with the numbers of their transactions.
    open: BTreeMap<(u32, i64), Vec<(u64, u64)>>,
    seen: BTreeSet<u64>,
}

impl Log {
    /// Appends; whether it was taken. What is in it already is taken again, without effect.
    pub fn append(&mut self, entry: &Entry, oracle: &mut Oracle) -> Result<bool, String> {
        match entry {
            Entry::Decision(write) => {
                match &write.value {
                    Some(value) => self.table.insert(write.key.clone(), value.clone()),
                    None => self.table.remove(&write.key),
                };
                for key in &write.needless {
                    self.table.remove(key);
                }
                if let Some(end) = &write.end {
                    self.mark(end, oracle)?;
                }
                Ok(true)
            }
            Entry::Batch {
                partition,
                identity,
                record,
                transaction,
            } => {
                let place = (*partition, identity.producer_id);
                let epoch = self.epochs.entry(place).or_insert(identity.epoch);
                if *epoch > identity.epoch {
                    return Ok(false);
                }
                *epoch = identity.epoch;
                if self.seen.insert(*record) {
                    oracle.appended(*transaction, *partition)?;
                    self.open
                        .entry(place)
                        .or_default()
                        .push((*record, *transaction));
                }
                Ok(true)
            }
        }
    }

    /// Writes the markers of an end.
    pub fn mark(&mut self, end: &End, oracle: &mut Oracle) -> Result<(), String> {
        let Identity { producer_id, epoch } = end.identity;
        for &partition in &end.partitions {
            let place = (partition, producer_id);
            let known = self.epochs.entry(place).or_insert(epoch);
            if *known > epoch {
                return Err(format!("a marker of epoch {epoch} behind one of {known}"));
            }
            *known = epoch;
            for (_, transaction) in self.open.remove(&place).unwrap_or_default() {
                oracle.decided(transaction, end.commit)?;
            }
        }
        for (_, offsets) in end.offsets.iter().filter(|_| end.commit) {
            for ((_, partition), committed) in offsets {
                oracle.offset_committed(committed.offset as u64, *partition)?;
            }
        }
        Ok(())
    }

    /// What is open: producers and partitions.
    pub fn open(&self) -> Vec<(Identity, u32)> {
        let identity = |(place, _): (&(u32, i64), _)| {
            let (partition, producer_id) = *place;
            let epoch = self.epochs[place];
            (Identity { producer_id, epoch }, partition)
        };
        self.open.iter().map(identity).collect()
    }
}
