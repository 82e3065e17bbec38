//! The group coordinator: the pure machine of the crate `kafka` and the committed offsets under one
//! lock, a task that does what time demands, and a task that takes in offsets in the order of their
//! records. What the lock decides is handed to the log before it is released, so that the order of
//! the table is the order of the decisions.

mod commit;
mod deletion;
mod find_coordinator;
mod listing;
mod membership;
mod offset_fetch;
mod rows;
mod transactional;
mod waiting;

pub(super) use commit::answer as offset_commit;
pub(super) use deletion::{delete_groups, offset_delete};
pub(super) use find_coordinator::answer as find_coordinator;
pub(super) use listing::{describe_groups, list_groups};
pub(super) use membership::{heartbeat, join_group, leave_group, sync_group};
pub(super) use offset_fetch::answer as offset_fetch;
pub use rows::GroupValues;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ::kafka::ErrorCode;
use ::kafka::group::{Answer, Answered, GroupRules, Groups as Machine, Token};
use ::kafka::offsets::{CommittedOffset, OffsetKey, Offsets};
use anyhow::{Context as _, anyhow};
use commitlog::{Append, BatchBuilder, Entry, LogReader, PartitionId};
use tokio::sync::{Notify, mpsc, oneshot};

use super::Source;
use super::limits;
use crate::node::{AppendError, Appended, Submitted, wall_ms};
use crate::settings::KafkaSettings;

/// Name of the table of committed offsets.
pub const OFFSETS: &str = "__sluice.offsets";

/// The coordinator of all groups.
pub struct Groups {
    source: Arc<dyn Source>,
    inside: Mutex<Inside>,
    /// Told when something may be due earlier than before.
    sooner: Notify,
    applying: mpsc::UnboundedSender<Applying>,
    started: Instant,
    /// The wall clock at the start; later times count from it, so that a clock that is set does not
    /// expire anything.
    started_ms: u64,
    retention_ms: u64,
    count_max: usize,
    commits: AtomicU64,
    expired: AtomicU64,
}

struct Inside {
    machine: Machine,
    offsets: Offsets,
    /// Who waits for an answer of the machine.
    waiting: HashMap<Token, oneshot::Sender<Answer>>,
    next_token: Token,
    /// Topics whose deletion is on its way: nothing is committed for them.
    going: BTreeSet<Arc<str>>,
}

/// A record of the offsets table: `None` as value deletes.
type Record = (Vec<u8>, Option<Vec<u8>>);

/// Records that were handed to the log; without an entry, whoever waits until all before are taken
/// in.
#[derive(Default)]
struct Applying {
    submitted: Option<Submitted>,
    /// In the order of the entry's batches.
    batches: Vec<Vec<Record>>,
    /// Told of this entry and those before it that have none.
    done: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

impl Groups {
    /// A coordinator without groups. To be called inside the runtime: its tasks are started, and
    /// end when it goes.
    pub(super) fn new(source: Arc<dyn Source>, settings: &KafkaSettings) -> Arc<Self> {
        let rules = GroupRules {
            session_timeout_ms_min: settings.group_session_timeout_ms_min,
            session_timeout_ms_max: settings.group_session_timeout_ms_max,
            members_max: settings.group_members_max as usize,
            groups_max: settings.groups_max as usize,
            rebalance_delay_ms: settings.group_rebalance_delay_ms,
        };
        let (applying, to_apply) = mpsc::unbounded_channel();
        let groups = Arc::new(Self {
            source,
            inside: Mutex::new(Inside {
                machine: Machine::new(rules),
                offsets: Offsets::default(),
                waiting: HashMap::new(),
                next_token: 0,
                going: BTreeSet::new(),
            }),
            sooner: Notify::new(),
            applying,
            started: Instant::now(),
            started_ms: wall_ms(),
            retention_ms: settings.offsets_retention_ms,
            count_max: settings.groups_max as usize,
            commits: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        });
        tokio::spawn(keep_time(Arc::downgrade(&groups)));
        tokio::spawn(apply(Arc::downgrade(&groups), to_apply));
        tokio::spawn(sweep(Arc::downgrade(&groups)));
        groups
    }

    /// Reads the table of committed offsets. To be called once, before the first client.
    ///
    /// # Errors
    /// When the table cannot be read, or a record of it is not understood; says which.
    pub(super) fn load(&self, log: &LogReader) -> anyhow::Result<()> {
        let Some(partition) = self.partition() else {
            return Ok(());
        };
        let mut offsets = Offsets::default();
        let mut strange = None;
        commitlog::table::load(log, partition, None, |row| {
            let key = OffsetKey::decode(row.key);
            match (key, CommittedOffset::decode(row.value)) {
                (Ok(key), Ok(value)) => offsets.apply(key, Some(value), row.offset),
                (Err(what), _) | (_, Err(what)) => {
                    strange.get_or_insert((row.offset, what));
                }
            }
        })
        .with_context(|| format!("cannot read {OFFSETS}"))?;
        if let Some((offset, what)) = strange {
            return Err(anyhow!(
                "the record at offset {offset} of {OFFSETS}: {what}"
            ));
        }
        // Whether a group had members until the stop is not known.
        offsets.all_used(self.now_ms());
        // What a deletion had no time for: nobody else of that name is to find it.
        let mut left: Vec<Record> = Vec::new();
        for topic in offsets.topics() {
            if log.stream(&topic).is_none() {
                let gone = offsets.forget_topic(&topic).into_iter();
                left.extend(gone.map(|(group, at)| deletion(&group, &topic, at)));
            }
        }
        let mut inside = self.lock();
        inside.offsets = offsets;
        // Nobody waits: what is not deleted now is left for the next start.
        drop(self.submit(&mut inside, left));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the start: the machine's clock.
    fn mono_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970 that never jump while the node runs: the clock of offsets.
    fn now_ms(&self) -> u64 {
        self.started_ms.saturating_add(self.mono_ms())
    }

    /// Where committed offsets are kept.
    pub(super) fn partition(&self) -> Option<PartitionId> {
        let stream = self.source.stream(OFFSETS)?;
        stream.partitions.first().copied()
    }

    /// Hands the machine's answers to those who wait, and lets the clock look again.
    fn deliver(&self, inside: &mut Inside, answers: Vec<Answered>) {
        for (token, answer) in answers {
            if let Some(waiting) = inside.waiting.remove(&token) {
                // Who has gone in this moment is told by its own drop.
                let _ = waiting.send(answer);
            }
        }
        self.sooner.notify_one();
    }

    /// Hands records to the log, under the lock that decided them. They count once the answer says
    /// so, also where nobody waits for it.
    fn submit(
        &self,
        _inside: &mut Inside,
        records: Vec<Record>,
    ) -> oneshot::Receiver<Result<(), ErrorCode>> {
        let (done, answer) = oneshot::channel();
        if records.is_empty() {
            let _ = done.send(Ok(()));
            return answer;
        }
        let Some(partition) = self.partition() else {
            let _ = done.send(Err(ErrorCode::CoordinatorNotAvailable));
            return answer;
        };
        let mut entries = build(partition, records, self.now_ms())
            .into_iter()
            .peekable();
        let mut done = Some(done);
        while let Some((appends, batches)) = entries.next() {
            let entry = Entry {
                appends,
                ops: Vec::new(),
            };
            let applying = Applying {
                submitted: Some(self.source.submit(entry)),
                batches,
                done: done.take_if(|_| entries.peek().is_none()),
            };
            // The task ends only with the coordinator.
            let _ = self.applying.send(applying);
        }
        answer
    }
}

/// The appends of one entry, and the records of each.
type Built = (Vec<Append>, Vec<Vec<Record>>);

/// Entries with these records, in batches of a moderate size; none outgrows a part of the journal.
fn build(partition: PartitionId, records: Vec<Record>, now_ms: u64) -> Vec<Built> {
    let mut entries: Vec<Built> = Vec::new();
    let mut entry_bytes = 0;
    let mut builder = BatchBuilder::new();
    let mut batch = Vec::new();
    let mut records = records.into_iter().peekable();
    while let Some((key, value)) = records.next() {
        builder.push(now_ms as i64, Some(&key), value.as_deref(), &[]);
        batch.push((key, value));
        if builder.size_bytes() < limits::OFFSETS_BATCH_BYTES && records.peek().is_some() {
            continue;
        }
        if entries.is_empty() || entry_bytes >= limits::OFFSETS_ENTRY_BYTES {
            entries.push(Built::default());
            entry_bytes = 0;
        }
        let (appends, batches) = entries.last_mut().expect("one was just made");
        entry_bytes += builder.size_bytes();
        appends.push(Append::new(partition, builder.finish()));
        batches.push(std::mem::take(&mut batch));
    }
    entries
}

/// What a client is told when the log does not take its offsets.
fn append_error(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Full | AppendError::Latched => ErrorCode::CoordinatorNotAvailable,
        AppendError::Stopping => ErrorCode::NotCoordinator,
        AppendError::Refused(why) => {
            tracing::error!(%why, "the log refused committed offsets");
            ErrorCode::UnknownServerError
        }
    }
}

/// Takes in what was handed to the log, in its order, until the coordinator goes.
async fn apply(groups: Weak<Groups>, mut applying: mpsc::UnboundedReceiver<Applying>) {
    let mut failed = None;
    while let Some(next) = applying.recv().await {
        if let Some(submitted) = next.submitted {
            let appended = submitted.await;
            let Some(groups) = groups.upgrade() else {
                return;
            };
            let outcome = match appended {
                Ok(appended) => groups.lock().take_in_all(&next.batches, &appended),
                Err(error) => Err(append_error(&error)),
            };
            failed = failed.or(outcome.err());
        }
        if let Some(done) = next.done {
            // The client may have gone; its offsets are committed all the same.
            let _ = done.send(failed.take().map_or(Ok(()), Err));
        }
    }
}

impl Inside {
    /// Applies the records of an entry, batch by batch.
    fn take_in_all(
        &mut self,
        batches: &[Vec<Record>],
        appended: &Appended,
    ) -> Result<(), ErrorCode> {
        let mut outcome = Ok(());
        for (records, base) in batches.iter().zip(&appended.base_offsets) {
            match base {
                Ok(base) => self.take_in(records, *base),
                Err(refusal) => {
                    tracing::error!(%refusal, "the log refused committed offsets");
                    outcome = Err(ErrorCode::UnknownServerError);
                }
            }
        }
        outcome
    }

    /// Applies records that lie at `base` and behind.
    fn take_in(&mut self, records: &[Record], base: u64) {
        for ((key, value), offset) in records.iter().zip(base..) {
            let key = OffsetKey::decode(key).expect("this node has encoded it");
            let value = value
                .as_deref()
                .map(|value| CommittedOffset::decode(value).expect("this node has encoded it"));
            self.offsets.apply(key, value, offset);
        }
    }
}

/// Ticks the machine when something is due, until the coordinator goes.
async fn keep_time(groups: Weak<Groups>) {
    loop {
        let wait = {
            let Some(groups) = groups.upgrade() else {
                return;
            };
            let now_ms = groups.mono_ms();
            let mut inside = groups.lock();
            let mut answers = Vec::new();
            inside.machine.tick(now_ms, &mut answers);
            if !answers.is_empty() {
                groups.deliver(&mut inside, answers);
            }
            let due = inside.machine.next_deadline();
            // Without a deadline it looks now and then whether the coordinator is still there.
            due.map_or(limits::GROUP_CLOCK_IDLE, |at| {
                Duration::from_millis(at.saturating_sub(now_ms)).min(limits::GROUP_CLOCK_IDLE)
            })
        };
        match groups.upgrade() {
            Some(groups) => {
                let sooner = groups.sooner.notified();
                let _ = tokio::time::timeout(wait, sooner).await;
            }
            None => return,
        }
    }
}

/// Drops offsets that are not needed any more, now and then, until the coordinator goes.
async fn sweep(groups: Weak<Groups>) {
    loop {
        tokio::time::sleep(limits::OFFSETS_SWEEP_INTERVAL).await;
        let Some(groups) = groups.upgrade() else {
            return;
        };
        groups.sweep_now();
    }
}

impl Groups {
    /// Drops the offsets of topics that are gone and of groups that were empty for too long.
    fn sweep_now(&self) {
        let now_ms = self.now_ms();
        let mut inside = self.lock();
        let Inside {
            machine,
            offsets,
            going,
            ..
        } = &mut *inside;
        let has_members = |id: &str| {
            machine
                .get(id)
                .is_some_and(|group| group.members_count() > 0)
        };
        let most = limits::OFFSETS_SWEPT_MAX;
        let mut records: Vec<Record> = offsets
            .expired(now_ms, self.retention_ms, most, has_members)
            .iter()
            .map(|(group, (topic, partition))| deletion(group, topic, *partition))
            .collect();
        let expired = records.len();
        for topic in offsets.topics() {
            if records.len() >= most {
                break;
            }
            if self.source.stream(&topic).is_none() && !going.contains(&topic) {
                let gone = offsets.of_topic(&topic).into_iter().take(most);
                records.extend(gone.map(|(group, at)| deletion(&group, &topic, at)));
            }
        }
        if !records.is_empty() {
            self.expired.fetch_add(expired as u64, Ordering::Relaxed);
            tracing::info!(
                offsets = records.len(),
                expired,
                "dropped committed offsets that nobody needs any more"
            );
            // Nobody waits: what is not deleted now is found by the next sweep.
            drop(self.submit(&mut inside, records));
        }
        let Inside {
            machine, offsets, ..
        } = &mut *inside;
        machine.sweep(|id| offsets.has(id));
    }
}

/// The record that deletes an offset.
fn deletion(group: &str, topic: &str, partition: i32) -> Record {
    let key = OffsetKey {
        group,
        topic,
        partition,
    };
    (key.encode(), None)
}

/// What the task of the log says, or that it does not say anything any more.
async fn appended(answer: oneshot::Receiver<Result<(), ErrorCode>>) -> Result<(), ErrorCode> {
    answer
        .await
        .unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
}

/// The error as it stands in a response; counted.
fn code(door: &super::FrontDoor, api: ::kafka::api::Api, error: ErrorCode) -> i16 {
    if error.is_error() {
        door.counters.error(api);
    }
    error.as_i16()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_records_are_several_entries_in_their_order() {
        let record = |number: usize| -> Record { (vec![number as u8; 1000], None) };
        let records: Vec<Record> = (0..10_000).map(record).collect();
        let entries = build(3, records.clone(), 0);
        assert_eq!(entries.len(), 3, "10 MB");
        let mut again = Vec::new();
        for (appends, batches) in entries {
            let bytes: usize = appends.iter().map(|append| append.batch.len()).sum();
            assert!(bytes < limits::OFFSETS_ENTRY_BYTES + 2 * limits::OFFSETS_BATCH_BYTES);
            assert_eq!(appends.len(), batches.len());
            again.extend(batches.into_iter().flatten());
        }
        assert!(again == records);
        assert!(build(3, Vec::new(), 0).is_empty());
    }
}
