//! The transaction coordinator: the pure machine of the crate `kafka` under one lock, what its
//! decisions append, and a task that does what time demands. What the lock decides is handed to the
//! log before it is released, so that the order of the log is the order of the decisions.

mod end;
mod init;
mod listing;
mod markers;
mod members;

pub(super) use end::answer as end_txn;
pub(super) use init::answer as init_producer_id;
pub(super) use listing::{describe_transactions, list_transactions};
pub(super) use markers::answer as write_txn_markers;
pub(super) use members::{add_offsets_to_txn, add_partitions_to_txn, txn_offset_commit};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ::kafka::ErrorCode;
use ::kafka::txn::{End, Identity, Settings, State, Transactions as Machine, Write};
use anyhow::{Context as _, anyhow};
use commitlog::{
    Ack, Append, BatchBuilder, Entry, LogReader, Lsn, PartitionId, Refusal, control_batch,
};
use tokio::sync::{Notify, oneshot};

use super::groups::Groups;
use super::{FrontDoor, Source, limits};
use crate::node::{AppendError, Appended, wall_ms};
use crate::settings::KafkaSettings;

/// Name of the table of transactions and producer ids.
pub const TRANSACTIONS: &str = "__sluice.transactions";

/// The epoch of the only coordinator that there is, as markers tell it.
const COORDINATOR_EPOCH: i32 = 0;

/// A record of the offsets table.
type OffsetRecord = (Vec<u8>, Vec<u8>);

/// What became of an entry: its number, where it was appended.
type Outcome = Result<Lsn, ErrorCode>;

/// The coordinator of all transactions, and the source of producer ids.
pub struct Transactions {
    source: Arc<dyn Source>,
    groups: Arc<Groups>,
    machine: Mutex<Machine>,
    /// Told when something may be due earlier than before.
    sooner: Notify,
    /// Told when producer ids were reserved.
    reserved: Notify,
    started: Instant,
    /// The wall clock at the start; later times count from it, so that a clock that is set does not
    /// expire anything.
    started_ms: u64,
    committed: AtomicU64,
    aborted: AtomicU64,
    expired: AtomicU64,
}

/// What the coordinator counts, for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionValues {
    /// Transactional ids that are known.
    pub ids: u64,
    /// Transactions that are open.
    pub open: u64,
    /// Transactions committed since the start.
    pub committed: u64,
    /// Transactions aborted since the start, those that expired too.
    pub aborted: u64,
    /// Transactions aborted because they were open for too long.
    pub expired: u64,
}

/// Held while batches of transactions are admitted and handed to the log.
pub(super) struct Membership<'a>(MutexGuard<'a, Machine>);

impl Membership<'_> {
    /// Whether a batch may be appended in its producer's transaction: see
    /// [`::kafka::txn::Transactions::admits`].
    pub fn admits(
        &self,
        id: Option<&str>,
        producer_id: i64,
        epoch: i16,
        partition: PartitionId,
    ) -> Result<(), ErrorCode> {
        self.0
            .admits(id, Identity { producer_id, epoch }, partition)
    }
}

impl Transactions {
    /// A coordinator without transactions. To be called inside the runtime: its task is started,
    /// and ends when it goes.
    pub(super) fn new(
        source: Arc<dyn Source>,
        groups: Arc<Groups>,
        settings: &KafkaSettings,
    ) -> Arc<Self> {
        let settings = Settings {
            timeout_ms_max: i32::try_from(settings.transaction_timeout_ms_max).unwrap_or(i32::MAX),
            expiry_ms: settings.transactional_id_expiry_ms,
            ..Settings::default()
        };
        let transactions = Arc::new(Self {
            source,
            groups,
            machine: Mutex::new(Machine::new(settings)),
            sooner: Notify::new(),
            reserved: Notify::new(),
            started: Instant::now(),
            started_ms: wall_ms(),
            committed: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        });
        tokio::spawn(keep_time(Arc::downgrade(&transactions)));
        transactions
    }

    /// Reads the table, and aborts what the log has open and no transaction knows. To be called
    /// once, inside the runtime, before the first client and behind [`Groups`]' own.
    ///
    /// # Errors
    /// When the table cannot be read, or a record of it is not understood; says which.
    pub(super) fn load(self: &Arc<Self>, log: &LogReader) -> anyhow::Result<()> {
        let mut machine = self.lock();
        if let Some(partition) = self.partition() {
            let mut strange = None;
            commitlog::table::load(log, partition, None, |row| {
                if let Err(what) = machine.load(row.key, row.value) {
                    strange.get_or_insert((row.offset, what));
                }
            })
            .with_context(|| format!("cannot read {TRANSACTIONS}"))?;
            if let Some((offset, what)) = strange {
                return Err(anyhow!(
                    "the record at offset {offset} of {TRANSACTIONS}: {what}"
                ));
            }
        }
        machine.loaded();
        for stream in log.streams().iter() {
            for &partition in &stream.partitions {
                for producer in log.producers(partition).unwrap_or_default() {
                    if producer.txn_first_offset.is_none() {
                        continue;
                    }
                    let identity = Identity {
                        producer_id: producer.producer_id,
                        epoch: producer.epoch,
                    };
                    if let Some(end) = machine.found_open(identity, partition) {
                        tracing::warn!(
                            stream = stream.settings.name,
                            producer_id = identity.producer_id,
                            "a transaction that nobody knows is aborted"
                        );
                        self.append(Write {
                            end: Some(end),
                            ..Write::default()
                        });
                    }
                }
            }
        }
        for (producer_id, group, places) in machine.kept_offsets() {
            self.groups.pend(producer_id, group, &places);
        }
        self.reserve(&mut machine);
        drop(machine);
        self.sooner.notify_one();
        Ok(())
    }

    /// What was counted.
    pub fn values(&self) -> TransactionValues {
        let machine = self.lock();
        let (mut ids, mut open) = (0, 0);
        for shown in machine.all() {
            ids += 1;
            open += u64::from(shown.state == State::Ongoing);
        }
        TransactionValues {
            ids,
            open,
            committed: self.committed.load(Ordering::Relaxed),
            aborted: self.aborted.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
        }
    }

    /// Takes what is kept for a topic that is being deleted out of open transactions, and records
    /// that. Those whose commit is on its way already: group and partition of their offsets.
    pub(super) fn forget_topic(self: &Arc<Self>, topic: &str) -> Vec<(Arc<str>, i32)> {
        let mut machine = self.lock();
        let (writes, ending) = machine.forget_topic(topic);
        for write in writes {
            // Nobody waits: what is not recorded now is recorded with the next change.
            drop(self.append(write));
        }
        ending
    }

    /// Keeps every transaction as it is until the guard goes.
    pub(super) fn membership(&self) -> Membership<'_> {
        Membership(self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since 1970 that never jump while the node runs.
    fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_ms.saturating_add(elapsed)
    }

    /// Where the table is.
    fn partition(&self) -> Option<PartitionId> {
        let stream = self.source.stream(TRANSACTIONS)?;
        stream.partitions.first().copied()
    }

    /// Hands a decision to the log as one entry, under the lock that decided it. The machine is
    /// told what became of it, also where nobody waits for the answer.
    fn append(self: &Arc<Self>, write: Write) -> oneshot::Receiver<Outcome> {
        let (done, answer) = oneshot::channel();
        let Some(built) = self.build(&write) else {
            let _ = done.send(Err(ErrorCode::CoordinatorNotAvailable));
            if !write.id.is_empty() {
                // Told later, since the lock is held.
                let this = self.clone();
                tokio::spawn(async move { this.not_appended(&write) });
            }
            return answer;
        };
        let Built {
            entry,
            committing,
            flush,
        } = built;
        let submitted = self.source.submit(entry);
        let this = self.clone();
        tokio::spawn(async move {
            let appended = submitted.await;
            let outcome = this.settle(&write, &committing, appended);
            let outcome = match outcome {
                Ok(lsn) if flush => this.source.flushed(lsn).await.map(|()| lsn).map_err(failed),
                other => other,
            };
            // The client may have gone; it is decided all the same.
            let _ = done.send(outcome);
        });
        answer
    }

    /// The entry of a decision; `None` where the tables are not there.
    fn build(&self, write: &Write) -> Option<Built> {
        let now_ms = self.now_ms();
        let mut appends = Vec::new();
        let mut flush = false;
        if !write.key.is_empty() {
            let mut builder = BatchBuilder::new();
            builder.push(now_ms as i64, Some(&write.key), write.value.as_deref(), &[]);
            for key in &write.needless {
                builder.push(now_ms as i64, Some(key), None, &[]);
            }
            appends.push(Append::new(self.partition()?, builder.finish()));
        }
        let mut committing = Vec::new();
        if let Some(end) = &write.end {
            let Identity { producer_id, epoch } = end.identity;
            for &partition in &end.partitions {
                let batch =
                    control_batch(producer_id, epoch, end.commit, COORDINATOR_EPOCH, now_ms);
                appends.push(Append::new(partition, batch));
                flush |= self.source.ack(partition) >= Some(Ack::Flush);
            }
            committing = self.build_offsets(end, now_ms, &mut appends)?;
        }
        Some(Built {
            entry: Entry {
                appends,
                ops: Vec::new(),
            },
            committing,
            flush,
        })
    }

    /// One batch for the offsets of each group: places in the entry, and the records.
    fn build_offsets(
        &self,
        end: &End,
        now_ms: u64,
        appends: &mut Vec<Append>,
    ) -> Option<Vec<(usize, Vec<OffsetRecord>)>> {
        let mut committing = Vec::new();
        for (group, offsets) in end.offsets.iter().filter(|_| end.commit) {
            if offsets.is_empty() {
                continue;
            }
            let rows = offsets
                .iter()
                .map(|((topic, partition), committed)| (&**topic, *partition, committed.clone()));
            let records = self.groups.offset_records(group, rows);
            let mut builder = BatchBuilder::new();
            for (key, value) in &records {
                builder.push(now_ms as i64, Some(key), Some(value), &[]);
            }
            committing.push((appends.len(), records));
            appends.push(Append::new(self.groups.partition()?, builder.finish()));
        }
        Some(committing)
    }

    /// Tells the machine and the groups what became of an entry.
    fn settle(
        &self,
        write: &Write,
        committing: &[(usize, Vec<OffsetRecord>)],
        appended: Result<Appended, AppendError>,
    ) -> Outcome {
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                self.not_appended(write);
                return Err(failed(error));
            }
        };
        let mut refused = None;
        for refusal in appended.base_offsets.iter().filter_map(|base| base.err()) {
            // The partition of a marker may have been deleted since, and one that has no room for
            // a producer has nothing open of it.
            if !matches!(
                refusal,
                Refusal::UnknownPartition | Refusal::TooManyProducers
            ) {
                refused.get_or_insert(markers::refused(refusal));
                tracing::error!(
                    id = &*write.id,
                    %refusal,
                    "the log refused a part of a transaction"
                );
            }
        }
        if let Some(end) = &write.end {
            let producer_id = end.identity.producer_id;
            for (place, records) in committing {
                if let Ok(base_offset) = appended.base_offsets[*place] {
                    self.groups.settle(producer_id, records, base_offset);
                }
            }
            if committing.is_empty() {
                self.groups.settle(producer_id, &[], 0);
            }
            if refused.is_none() {
                let counter = if end.commit {
                    &self.committed
                } else {
                    &self.aborted
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            // The table says so, whatever became of a marker.
            self.lock().ended(&write.id, true, self.now_ms());
            self.sooner.notify_one();
        } else if write.takes_over {
            self.lock().taken_over(&write.id);
        }
        refused.map_or(Ok(appended.lsn), Err)
    }

    fn not_appended(&self, write: &Write) {
        let mut machine = self.lock();
        if write.end.is_some() {
            machine.ended(&write.id, false, self.now_ms());
        } else {
            machine.not_recorded(&write.id, write.takes_over);
        }
        drop(machine);
        self.sooner.notify_one();
    }

    /// Reserves producer ids where they run short.
    fn reserve(self: &Arc<Self>, machine: &mut Machine) {
        let Some(write) = machine.reservation() else {
            return;
        };
        let answer = self.append(write);
        let this = self.clone();
        tokio::spawn(async move {
            let recorded = match answer.await {
                Ok(Ok(lsn)) => this.source.flushed(lsn).await.is_ok(),
                Ok(Err(_)) | Err(_) => false,
            };
            let mut machine = this.lock();
            if recorded {
                machine.ids().reserved();
            } else {
                machine.ids().not_reserved();
            }
            drop(machine);
            this.reserved.notify_waiters();
        });
    }

    /// Does what is due; tells when the next thing will be.
    fn do_due(self: &Arc<Self>) -> Duration {
        let mut machine = self.lock();
        let now_ms = self.now_ms();
        while let Some(write) = machine.due(now_ms) {
            if write.end.is_some() {
                self.expired.fetch_add(1, Ordering::Relaxed);
                tracing::info!(id = &*write.id, "a transaction was open for too long");
            }
            // Nobody waits: the machine is told, and tries again.
            drop(self.append(write));
        }
        machine.next_due_ms().map_or(limits::TXN_CLOCK_IDLE, |at| {
            Duration::from_millis(at.saturating_sub(now_ms)).min(limits::TXN_CLOCK_IDLE)
        })
    }
}

/// An entry, and what is told of it later.
struct Built {
    entry: Entry,
    committing: Vec<(usize, Vec<OffsetRecord>)>,
    /// A stream of the entry is answered only once it is flushed.
    flush: bool,
}

/// What a client is told when the log does not take a decision: to try again, since a full disk
/// heals and a node that stops starts again.
fn failed(error: AppendError) -> ErrorCode {
    match error {
        AppendError::Full | AppendError::Latched => ErrorCode::CoordinatorNotAvailable,
        AppendError::Stopping => ErrorCode::NotCoordinator,
        AppendError::Refused(why) => {
            tracing::error!(%why, "the log refused a transaction");
            ErrorCode::UnknownServerError
        }
    }
}

/// What became of an entry, once the task that waits for the log says so.
async fn appended(answer: oneshot::Receiver<Outcome>) -> Outcome {
    answer
        .await
        .unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
}

/// Before version 2 of the requests for transactions, and 4 of InitProducerId, clients knew only
/// one word for a producer that is fenced (KIP-588).
fn fenced_as(error: ErrorCode, knows_fenced: bool) -> ErrorCode {
    if error == ErrorCode::ProducerFenced && !knows_fenced {
        ErrorCode::InvalidProducerEpoch
    } else {
        error
    }
}

/// The error as it stands in a response; counted.
fn code(door: &FrontDoor, api: ::kafka::api::Api, error: ErrorCode) -> i16 {
    if error.is_error() {
        door.counters.error(api);
    }
    error.as_i16()
}

/// Does what is due, until the coordinator goes.
async fn keep_time(transactions: Weak<Transactions>) {
    loop {
        let wait = match transactions.upgrade() {
            Some(transactions) => transactions.do_due(),
            None => return,
        };
        match transactions.upgrade() {
            Some(transactions) => {
                let sooner = transactions.sooner.notified();
                let _ = tokio::time::timeout(wait, sooner).await;
            }
            None => return,
        }
    }
}
