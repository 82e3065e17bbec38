//! The state machine of transactions: every request of a producer, every timeout, and what becomes
//! of what was appended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::open::{Content, Open, Room};
use super::record::{self, Change, Key};
use super::{
    End, GroupOffset, Identity, MalformedTransaction, ProducerIds, Settings, Shown, State, Write,
};
use crate::ErrorCode;

/// How long after a failed abort of a transaction that timed out it is tried again.
const RETRY_MS: u64 = 1000;

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
pub(super) struct Before {
    identity: Identity,
    last_epoch: i16,
    timeout_ms: i32,
    /// How the last transaction had ended, where none is open.
    ended: Option<bool>,
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

/// What a request for an end comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It has ended so before: the request was repeated.
    Already,
    /// It ends so when this is appended.
    Write(Write),
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
                Stage::Ending {
                    commit: true, open, ..
                } => ending.extend(open.content.of_topic(topic)),
                Stage::Ending { .. } | Stage::Empty | Stage::Ended { .. } => {}
            }
        }
        let writes = changed
            .iter()
            .map(|id| self.record(id, Content::default()))
            .collect();
        (writes, ending)
    }

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
    fn undo(&mut self, id: &Arc<str>) {
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

    fn set_alarm(&mut self, id: &Arc<str>) {
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

    /// Goes from open to ending, by whoever has just fenced the producer with a new epoch.
    fn abort(&mut self, open: Open) -> End {
        let end = end(&open, self.identity, false);
        self.stage = Stage::Ending {
            commit: false,
            open,
            fenced: true,
        };
        end
    }

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

/// The keys of the changes of a transaction.
fn changes(id: &str, open: &Open) -> Vec<Vec<u8>> {
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
