//! The state machine of transactions: what is known of each transactional id, what is put into its
//! open transaction, and what has to be recorded for that.

mod ending;
mod shown;
mod takeover;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::open::{Content, Open, Room};
use super::record::{self, Change, Key};
use super::{End, GroupOffset, Identity, MalformedTransaction, ProducerIds, Settings, Write};
use crate::ErrorCode;
pub use ending::Ending;
use ending::changes;
use takeover::Before;

/// Changes of an open transaction that are recorded by themselves before its whole record is
/// written again.
const CHANGES_MAX: u32 = 64;

/// A transactional id.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Transaction {
    pub identity: Identity,
    /// The epoch before, by which a producer may repeat its last `InitProducerId` (KIP-360); -1
    /// where there is none.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    /// When the producer last did something, ms since 1970.
    pub used_ms: u64,
    /// When something is due, as it stands in the alarms.
    pub alarm_ms: Option<u64>,
    pub stage: Stage,
    /// What it was before its present epoch, as long as that is not appended: until then nobody is
    /// fenced, and where it is never appended, nobody was.
    pub before: Option<Before>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    Empty,
    Open(Open),
    /// The end is being appended.
    Ending {
        commit: bool,
        open: Open,
        /// Where it was ended by its producer's next life, or expired.
        fenced: bool,
    },
    Ended {
        commit: bool,
    },
}

/// All transactional ids of a node, and its producer ids.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    settings: Settings,
    ids: ProducerIds,
    pub(super) by_id: HashMap<Arc<str>, Transaction>,
    by_producer: HashMap<i64, Arc<str>>,
    /// When the next thing is due, by time.
    alarms: BTreeSet<(u64, Arc<str>)>,
    /// What all open transactions take in memory, in bytes.
    pub(super) open_bytes: usize,
    /// Changes of open transactions that were loaded, by id and number.
    loading: HashMap<Arc<str>, BTreeMap<u32, Change>>,
}

impl Transactions {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Takes in the latest record of a key, at a start. Behind the last one,
    /// [`Transactions::loaded`] is called.
    ///
    /// # Errors
    /// When the bytes are no record of the table.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), MalformedTransaction> {
        match Key::decode(key)? {
            Key::ProducerIds => self.ids = ProducerIds::new(record::decode_reserved(value)?),
            Key::Transaction(id) => {
                let transaction = record::decode(value)?;
                let id: Arc<str> = id.into();
                self.by_producer
                    .insert(transaction.identity.producer_id, id.clone());
                self.by_id.insert(id.clone(), transaction);
                self.set_alarm(&id);
            }
            Key::Change { number, id } => {
                let change = record::decode_change(value)?;
                self.loading
                    .entry(id.into())
                    .or_default()
                    .insert(number, change);
            }
        }
        Ok(())
    }

    /// All records were taken in.
    pub fn loaded(&mut self) {
        for (id, changes) in std::mem::take(&mut self.loading) {
            let Some(Transaction {
                identity,
                stage: Stage::Open(open),
                ..
            }) = self.by_id.get_mut(&id)
            else {
                continue;
            };
            for (number, change) in changes {
                open.slots = number + 1;
                let of_round = (change.identity, change.since_ms, change.round);
                if of_round == (*identity, open.since_ms, open.round) {
                    open.changes = number + 1;
                    open.content.add(change.content);
                }
            }
        }
        let opens = self.by_id.values().filter_map(|known| match &known.stage {
            Stage::Open(open) => Some(open.content.bytes()),
            _ => None,
        });
        self.open_bytes = opens.sum();
    }

    /// A partition of the log has an open transaction of this producer, at a start. Where the
    /// producer has none, the end of that one is answered, which is to be appended.
    pub fn found_open(&mut self, identity: Identity, partition: u32) -> Option<End> {
        let id = self.by_producer.get(&identity.producer_id);
        let transaction = id.and_then(|id| self.by_id.get_mut(id));
        match transaction {
            Some(Transaction {
                stage: Stage::Open(open),
                ..
            }) => {
                let before = open.content.bytes();
                let mut found = Content::default();
                found.partitions.insert(partition);
                open.content.add(found);
                self.open_bytes += open.content.bytes() - before;
                return None;
            }
            // Whatever its producer believes, it is not committed.
            Some(other) => other.stage = Stage::Ended { commit: false },
            None => {}
        }
        Some(End {
            commit: false,
            identity,
            partitions: vec![partition],
            offsets: Vec::new(),
        })
    }

    /// A reservation of producer ids that is to be recorded now, if any; how it went is told to
    /// [`Transactions::ids`].
    pub fn reservation(&mut self) -> Option<Write> {
        self.ids.wanted().map(|to| Write {
            key: Key::ProducerIds.encode(),
            value: Some(record::encode_reserved(to)),
            ..Write::default()
        })
    }

    /// The producer ids.
    pub fn ids(&mut self) -> &mut ProducerIds {
        &mut self.ids
    }

    /// Puts partitions into the open transaction, and opens one where there is none. Nothing is to
    /// be appended where they are in it already.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `CONCURRENT_TRANSACTIONS` while an end is
    /// being appended, `POLICY_VIOLATION` beyond the bound.
    pub fn add_partitions(
        &mut self,
        id: &str,
        identity: Identity,
        partitions: &[u32],
        now_ms: u64,
    ) -> Result<Option<Write>, ErrorCode> {
        let id = self.id(id)?;
        self.open(&id, identity, now_ms)?;
        let (open, room) = self.open_and_room(&id);
        let before = open.content.bytes();
        let added = open.content.add_partitions(partitions, room)?;
        let grown = open.content.bytes() - before;
        if added.is_empty() && open.recorded {
            return Ok(None);
        }
        self.open_bytes += grown;
        let mut change = Content::default();
        change.partitions = added;
        Ok(Some(self.record(&id, change)))
    }

    /// Puts the offsets of a group into the open transaction, and opens one where there is none.
    ///
    /// # Errors
    /// As [`Transactions::add_partitions`].
    pub fn add_group(
        &mut self,
        id: &str,
        identity: Identity,
        group: &str,
        now_ms: u64,
    ) -> Result<Option<Write>, ErrorCode> {
        let id = self.id(id)?;
        self.open(&id, identity, now_ms)?;
        let (open, room) = self.open_and_room(&id);
        let before = open.content.bytes();
        let added = open.content.add_group(group, room)?;
        let grown = open.content.bytes() - before;
        if !added && open.recorded {
            return Ok(None);
        }
        self.open_bytes += grown;
        let mut change = Content::default();
        change.groups.insert(group.into(), BTreeMap::new());
        Ok(Some(self.record(&id, change)))
    }

    /// Keeps offsets that a group commits with the open transaction.
    ///
    /// # Errors
    /// As [`Transactions::add_partitions`], and `INVALID_TXN_STATE` where the group is not in the
    /// open transaction.
    pub fn add_offsets(
        &mut self,
        id: &str,
        identity: Identity,
        group: &str,
        offsets: Vec<GroupOffset>,
        now_ms: u64,
    ) -> Result<Write, ErrorCode> {
        let id = self.id(id)?;
        let transaction = self.of(&id, identity)?;
        transaction.used_ms = now_ms;
        match &transaction.stage {
            Stage::Open(_) => {}
            Stage::Ending { .. } => return Err(ErrorCode::ConcurrentTransactions),
            Stage::Empty | Stage::Ended { .. } => return Err(ErrorCode::InvalidTxnState),
        }
        let (open, room) = self.open_and_room(&id);
        let before = open.content.bytes();
        open.content.add_offsets(group, &offsets, room)?;
        let after = open.content.bytes();
        self.open_bytes = self.open_bytes - before + after;
        let mut change = Content::default();
        change
            .groups
            .insert(group.into(), offsets.into_iter().collect());
        Ok(self.record(&id, change))
    }

    /// A topic is being deleted: its offsets leave the open transactions, which is to be recorded.
    /// Those of commits that are on their way are answered, by group and partition.
    pub fn forget_topic(&mut self, topic: &str) -> (Vec<Write>, Vec<(Arc<str>, i32)>) {
        let (mut changed, mut ending) = (Vec::new(), Vec::new());
        for (id, transaction) in &mut self.by_id {
            match &mut transaction.stage {
                Stage::Open(open) => {
                    let before = open.content.bytes();
                    if open.content.forget_topic(topic) {
                        self.open_bytes -= before - open.content.bytes();
                        // A change only adds: all of it is to be recorded.
                        open.recorded = false;
                        changed.push(id.clone());
                    }
                }
                Stage::Ending { commit, open, .. } => {
                    if *commit {
                        ending.extend(open.content.of_topic(topic));
                    }
                    // If the end is not appended, the transaction goes on without them.
                    let before = open.content.bytes();
                    open.content.forget_topic(topic);
                    self.open_bytes -= before - open.content.bytes();
                }
                Stage::Empty | Stage::Ended { .. } => {}
            }
        }
        let writes = changed
            .iter()
            .map(|id| self.record(id, Content::default()))
            .collect();
        (writes, ending)
    }

    /// Whether a producer may append to a partition in its open transaction. `id`: the
    /// transactional id, where it was told.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `INVALID_PRODUCER_EPOCH`, or `INVALID_TXN_STATE` where the
    /// partition is not in an open transaction of the producer (KIP-890).
    pub fn admits(
        &self,
        id: Option<&str>,
        identity: Identity,
        partition: u32,
    ) -> Result<(), ErrorCode> {
        let known = match id {
            Some(id) => self.by_id.get(id),
            None => self
                .by_producer
                .get(&identity.producer_id)
                .and_then(|id| self.by_id.get(id)),
        };
        let transaction = known
            .filter(|known| known.identity.producer_id == identity.producer_id)
            .ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if transaction.identity.epoch != identity.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        match &transaction.stage {
            // What is not recorded would be forgotten by a crash, and its data would hang.
            Stage::Open(open) if open.recorded && open.content.partitions.contains(&partition) => {
                Ok(())
            }
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    fn id(&self, id: &str) -> Result<Arc<str>, ErrorCode> {
        let (id, _) = self
            .by_id
            .get_key_value(id)
            .ok_or(ErrorCode::InvalidProducerIdMapping)?;
        Ok(id.clone())
    }

    /// The transaction of a producer that is who it says.
    fn of(&mut self, id: &str, identity: Identity) -> Result<&mut Transaction, ErrorCode> {
        let transaction = self
            .by_id
            .get_mut(id)
            .filter(|known| known.identity.producer_id == identity.producer_id)
            .ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if transaction.identity.epoch == identity.epoch {
            Ok(transaction)
        } else if (transaction.before.as_ref()).is_some_and(|before| before.identity == identity) {
            // It is fenced once the new epoch is appended.
            Err(ErrorCode::ConcurrentTransactions)
        } else {
            Err(ErrorCode::ProducerFenced)
        }
    }

    /// Opens a transaction, where none is open.
    fn open(&mut self, id: &Arc<str>, identity: Identity, now_ms: u64) -> Result<(), ErrorCode> {
        let transaction = self.of(id, identity)?;
        transaction.used_ms = now_ms;
        match transaction.stage {
            Stage::Ending { .. } => return Err(ErrorCode::ConcurrentTransactions),
            Stage::Open(_) => {}
            Stage::Empty | Stage::Ended { .. } => {
                transaction.stage = Stage::Open(Open {
                    since_ms: now_ms,
                    ..Open::default()
                });
                self.set_alarm(id);
            }
        }
        Ok(())
    }

    /// The open transaction, and what there is room for in it.
    fn open_and_room(&mut self, id: &Arc<str>) -> (&mut Open, Room) {
        let settings = &self.settings;
        let transaction = self.by_id.get_mut(id).expect("the caller has found it");
        let Stage::Open(open) = &mut transaction.stage else {
            unreachable!("the caller has looked")
        };
        let own = settings
            .transaction_bytes_max
            .saturating_sub(open.content.bytes());
        let room = Room {
            partitions: settings.partitions_max,
            offsets: settings.offsets_max,
            bytes: own.min(settings.bytes_max.saturating_sub(self.open_bytes)),
        };
        (open, room)
    }

    /// Records a change of the open transaction, which it has already: by itself, or with all the
    /// rest where that may not be recorded, or there are many changes.
    fn record(&mut self, id: &Arc<str>, content: Content) -> Write {
        let transaction = self.by_id.get_mut(id).expect("the caller has found it");
        let Stage::Open(open) = &mut transaction.stage else {
            unreachable!("only what is open is changed")
        };
        if !open.recorded || open.changes >= CHANGES_MAX {
            open.recorded = true;
            open.round += 1;
            open.changes = 0;
            return self.write(id, None);
        }
        let change = Change {
            identity: transaction.identity,
            since_ms: open.since_ms,
            round: open.round,
            content,
        };
        let number = open.changes;
        open.changes += 1;
        open.slots = open.slots.max(open.changes);
        Write {
            key: Key::Change { number, id }.encode(),
            value: Some(record::encode_change(&change)),
            id: id.clone(),
            ..Write::default()
        }
    }

    /// The record of an id as it is now, with the end of a transaction.
    fn write(&self, id: &Arc<str>, end: Option<End>) -> Write {
        let transaction = &self.by_id[id];
        let value = match &transaction.stage {
            // Only fenced ends come here: what is recorded is that nothing is open.
            Stage::Ending { .. } => record::encode(&Transaction {
                stage: Stage::Empty,
                ..transaction.clone()
            }),
            _ => record::encode(transaction),
        };
        let needless = match &transaction.stage {
            Stage::Ending { open, .. } => changes(id, open),
            _ => Vec::new(),
        };
        Write {
            key: Key::Transaction(id).encode(),
            value: Some(value),
            needless,
            end,
            takes_over: false,
            id: id.clone(),
        }
    }
}
