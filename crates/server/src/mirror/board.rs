//! Where the mirror writes how far it is and how it stands, for everyone who asks: views, metrics,
//! retention, publishers that wait. It knows neither Kafka nor threads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use commitlog::batch::batches;
use commitlog::{LogReader, PartitionId};

use super::switch::Switch;
use super::view::{
    MirrorErrorRow, MirrorPartitionRow, MirrorShardRow, MirrorStreamRow, MirrorView,
};
use crate::node::wall_ms;
use crate::settings::MirrorSettings;

/// A position that is not known yet.
const UNKNOWN: u64 = u64::MAX;

/// How a shard or a stream stands; the later is the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    Connected,
    /// An operator has switched it off; nothing is begun until he switches it on.
    Paused,
    /// For the cluster; goes on by itself.
    Waiting,
    /// An operator must mend something; it is tried again now and then.
    Failed,
    /// Another process has taken the identity; nothing is tried again.
    Fenced,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Fenced => "fenced",
        })
    }
}

/// A state, why, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How it stands.
    pub state: State,
    /// Why it is not connected.
    pub why: Option<String>,
    /// Since when, ms since the epoch.
    pub since_ms: u64,
    /// Nobody has told how it stands yet.
    untold: bool,
}

impl Standing {
    fn new(state: State, why: Option<&str>) -> Self {
        Self {
            state,
            why: why.map(str::to_owned),
            since_ms: wall_ms(),
            untold: false,
        }
    }

    /// One that is so since then, ms since the epoch.
    pub(super) fn since(state: State, why: &str, since_ms: u64) -> Self {
        Self {
            since_ms,
            ..Self::new(state, Some(why))
        }
    }

    /// Before anybody has told.
    fn untold() -> Self {
        Self {
            untold: true,
            ..Self::new(State::Waiting, Some("not connected yet"))
        }
    }

    /// Takes a new state; true when it is another than before.
    fn take(&mut self, state: State, why: Option<&str>) -> bool {
        let changed = self.state != state || self.untold;
        if changed {
            *self = Self::new(state, why);
        } else if self.why.as_deref() != why {
            self.why = why.map(str::to_owned);
        }
        changed
    }
}

/// What is counted of one stream.
#[derive(Debug)]
pub struct StreamFigures {
    /// Records that the cluster has.
    pub records: AtomicU64,
    /// Bytes of their keys and values.
    pub bytes: AtomicU64,
    /// Batches of the log that they came in.
    pub batches: AtomicU64,
    /// Records that went to the dead-letter stream.
    pub dead_letters: AtomicU64,
    /// Records that retention dropped before they were mirrored.
    pub lost: AtomicU64,
    standing: Mutex<Standing>,
    /// Which topic it goes to, of all that ever had the name.
    topic: Mutex<Option<u128>>,
}

impl StreamFigures {
    /// Tells which topic the stream goes to; true when that was another before.
    pub fn goes_to(&self, topic: u128) -> bool {
        let before = held(&self.topic).replace(topic);
        before.is_some_and(|before| before != topic)
    }
}

/// How far one partition is.
#[derive(Debug)]
struct PartitionFigures {
    mirrored: AtomicU64,
    /// Timestamp of the oldest record that is not mirrored, as far as it was looked at; ms.
    oldest_ms: AtomicU64,
}

/// Everything the mirror tells.
pub struct Board {
    settings: Option<MirrorSettings>,
    identity: String,
    log: LogReader,
    /// Ends of the partitions as recovery left them.
    starts: BTreeMap<PartitionId, u64>,
    streams: Vec<StreamFigures>,
    partitions: RwLock<BTreeMap<PartitionId, Arc<PartitionFigures>>>,
    shards: Mutex<Vec<Standing>>,
    switch: Switch,
    transactions: AtomicU64,
    aborted: AtomicU64,
    given_up: AtomicU64,
    /// Threads of each shard that were given up and have not come back.
    away: Mutex<BTreeMap<usize, usize>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Board {
    /// For these settings, of a data directory with this cluster id. Nothing may have been appended
    /// since recovery.
    pub fn new(settings: Option<MirrorSettings>, cluster_id: &str, log: LogReader) -> Self {
        let identity = settings
            .as_ref()
            .map(|settings| settings.identity.clone())
            .map_or(String::new(), |identity| {
                identity.unwrap_or_else(|| format!("sluice-{cluster_id}"))
            });
        let figures = |_| StreamFigures {
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            standing: Mutex::new(Standing::new(State::Connected, None)),
            topic: Mutex::default(),
        };
        let count = settings
            .as_ref()
            .map_or(0, |settings| settings.streams.len());
        let ids = log.streams();
        let ids = ids.iter().flat_map(|stream| &stream.partitions);
        let starts = ids
            .map(|id| (*id, log.watermarks(*id).map_or(0, |marks| marks.appended)))
            .collect();
        Self {
            settings,
            identity,
            log,
            starts,
            streams: (0..count).map(figures).collect(),
            partitions: RwLock::default(),
            shards: Mutex::default(),
            switch: Switch::default(),
            transactions: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            away: Mutex::default(),
            errors: Mutex::default(),
        }
    }

    /// What is mirrored; `None`: nothing.
    pub fn settings(&self) -> Option<&MirrorSettings> {
        self.settings.as_ref()
    }

    /// Name of the node towards the cluster.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Where a partition ended when the node started; `None`: it was not there.
    pub fn started_at(&self, partition: PartitionId) -> Option<u64> {
        self.starts.get(&partition).copied()
    }

    /// Whether it may begin transactions.
    pub fn is_on(&self) -> bool {
        self.switch.is_on()
    }

    /// Lets it begin transactions or not; true when that is a change. It counts until the process
    /// ends. The threads see it within a second, or as soon as their bells ring.
    pub fn switch(&self, on: bool) -> bool {
        self.switch.turn(on, wall_ms())
    }

    /// Figures of a stream, by its place in the settings.
    pub fn stream(&self, index: usize) -> &StreamFigures {
        &self.streams[index]
    }

    /// Tells how a stream stands; true when that is new.
    pub fn stream_stands(&self, index: usize, state: State, why: Option<&str>) -> bool {
        held(&self.streams[index].standing).take(state, why)
    }

    /// Tells how many shards begin: the mirror is connected once each of them is.
    pub fn begins(&self, shards: usize) {
        held(&self.shards).resize_with(shards, Standing::untold);
    }

    /// Tells how a shard stands; true when that is new.
    pub fn shard_stands(&self, shard: usize, state: State, why: Option<&str>) -> bool {
        let mut shards = held(&self.shards);
        let standing = shards.get_mut(shard);
        standing.is_some_and(|standing| standing.take(state, why))
    }

    /// Tells up to where the cluster has a partition's records; only rises.
    pub fn mirrored(&self, partition: PartitionId, next_offset: u64) {
        let figures = self.partition(partition);
        let before = figures.mirrored.load(Ordering::Acquire);
        if before == UNKNOWN || before < next_offset {
            figures.mirrored.store(next_offset, Ordering::Release);
            figures.oldest_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Up to where the cluster has a partition's records; `None`: not known yet.
    pub fn mirrored_to(&self, partition: PartitionId) -> Option<u64> {
        let partitions = self.partitions.read();
        let partitions = partitions.unwrap_or_else(PoisonError::into_inner);
        let mirrored = partitions.get(&partition)?.mirrored.load(Ordering::Acquire);
        (mirrored != UNKNOWN).then_some(mirrored)
    }

    /// Tells the timestamp of the oldest record that is not mirrored.
    pub fn oldest(&self, partition: PartitionId, timestamp_ms: i64) {
        let timestamp_ms = u64::try_from(timestamp_ms).unwrap_or(0);
        self.partition(partition)
            .oldest_ms
            .store(timestamp_ms, Ordering::Relaxed);
    }

    /// Counts the end of a transaction.
    pub fn transaction(&self, committed: bool) {
        let counter = if committed {
            &self.transactions
        } else {
            &self.aborted
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a thread of a shard that was given up; so many have not come back.
    pub fn given_up(&self, shard: usize, away: usize) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
        self.back(shard, away);
    }

    /// Tells how many threads of a shard that were given up have not come back.
    pub fn back(&self, shard: usize, away: usize) {
        held(&self.away).insert(shard, away);
    }

    /// Counts an error.
    pub fn error(&self, kind: &str) {
        let mut errors = held(&self.errors);
        match errors.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                errors.insert(kind.to_owned(), 1);
            }
        }
    }

    /// Where retention must stop in each mirrored partition: what is not mirrored stays.
    pub fn pins(&self) -> Vec<(PartitionId, u64)> {
        let settings = self.settings.iter();
        let streams = settings.flat_map(|settings| &settings.streams);
        let metas = streams.filter_map(|mirrored| self.log.stream(&mirrored.stream));
        metas
            .flat_map(|meta| meta.partitions)
            .map(|partition| (partition, self.mirrored_to(partition).unwrap_or(0)))
            .collect()
    }

    /// All of it as rows.
    pub fn view(&self) -> MirrorView {
        let Some(settings) = &self.settings else {
            return MirrorView {
                state: "off".to_owned(),
                ..MirrorView::default()
            };
        };
        let shards = held(&self.shards).clone();
        let worst = shards.iter().max_by_key(|standing| standing.state);
        let worst = worst
            .cloned()
            .unwrap_or_else(|| Standing::new(State::Waiting, Some("not connected yet")));
        let worst = self.switch.judge(worst, &shards);
        let streams = settings.streams.iter().zip(&self.streams);
        let now_ms = wall_ms();
        MirrorView {
            state: worst.state.to_string(),
            why: worst.why,
            since_ms: worst.since_ms,
            brokers: settings.brokers.clone(),
            identity: self.identity.clone(),
            exactly_once: settings.exactly_once,
            transactions: self.transactions.load(Ordering::Relaxed),
            aborted: self.aborted.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
            away: held(&self.away).values().sum::<usize>() as u64,
            errors: held(&self.errors)
                .iter()
                .map(|(kind, count)| MirrorErrorRow {
                    kind: kind.clone(),
                    count: *count,
                })
                .collect(),
            shards: (0..)
                .zip(shards)
                .map(|(shard, standing)| MirrorShardRow {
                    shard,
                    state: standing.state.to_string(),
                    why: standing.why,
                    since_ms: standing.since_ms,
                })
                .collect(),
            streams: streams
                .map(|(mirrored, figures)| {
                    self.stream_row(&mirrored.stream, &mirrored.topic, figures, now_ms)
                })
                .collect(),
        }
    }

    fn stream_row(
        &self,
        stream: &str,
        topic: &str,
        figures: &StreamFigures,
        now_ms: u64,
    ) -> MirrorStreamRow {
        let standing = held(&figures.standing).clone();
        let ids = self.log.stream(stream).map(|meta| meta.partitions);
        let ids = ids.unwrap_or_default();
        let partitions: Vec<MirrorPartitionRow> = (0..)
            .zip(ids)
            .map(|(number, id)| self.partition_row(number, id, now_ms))
            .collect();
        MirrorStreamRow {
            stream: stream.to_owned(),
            topic: topic.to_owned(),
            state: standing.state.to_string(),
            why: standing.why,
            records: figures.records.load(Ordering::Relaxed),
            bytes: figures.bytes.load(Ordering::Relaxed),
            batches: figures.batches.load(Ordering::Relaxed),
            dead_letters: figures.dead_letters.load(Ordering::Relaxed),
            lost: figures.lost.load(Ordering::Relaxed),
            lag_records: partitions.iter().map(|row| row.lag_records).sum(),
            lag_ms: partitions.iter().map(|row| row.lag_ms).max().unwrap_or(0),
            partitions,
        }
    }

    fn partition_row(&self, partition: u32, id: PartitionId, now_ms: u64) -> MirrorPartitionRow {
        let figures = self.partition(id);
        let mirrored = figures.mirrored.load(Ordering::Acquire);
        let mirrored = (mirrored != UNKNOWN).then_some(mirrored);
        // Behind the position, so that no lag is below zero.
        let marks = self.log.watermarks(id);
        let flushed = marks.map_or(0, |marks| marks.flushed_stable);
        let start = marks.map_or(0, |marks| marks.log_start);
        let lag_records = flushed.saturating_sub(mirrored.unwrap_or(start).max(start));
        let oldest_ms = match figures.oldest_ms.load(Ordering::Relaxed) {
            // The mirror has not come to look at it.
            0 if lag_records > 0 => self.look(id, mirrored.unwrap_or(start).max(start), flushed),
            known => known,
        };
        let lag_ms = if lag_records > 0 && oldest_ms > 0 {
            now_ms.saturating_sub(oldest_ms)
        } else {
            0
        };
        MirrorPartitionRow {
            partition,
            mirrored,
            flushed,
            lag_records,
            lag_ms,
        }
    }

    /// The timestamp of the record at an offset, or of its batch; 0: none can be read.
    fn look(&self, id: PartitionId, offset: u64, end: u64) -> u64 {
        let found = self.log.read(id, offset, 1, end).unwrap_or_default();
        let first = found
            .iter()
            .flat_map(|bytes| batches(bytes))
            .flatten()
            .next();
        let timestamp_ms = first.map_or(0, |batch| batch.base_timestamp());
        let timestamp_ms = u64::try_from(timestamp_ms).unwrap_or(0);
        self.partition(id)
            .oldest_ms
            .store(timestamp_ms, Ordering::Relaxed);
        timestamp_ms
    }

    fn partition(&self, id: PartitionId) -> Arc<PartitionFigures> {
        let known = {
            let partitions = self.partitions.read();
            let partitions = partitions.unwrap_or_else(PoisonError::into_inner);
            partitions.get(&id).cloned()
        };
        known.unwrap_or_else(|| {
            let partitions = self.partitions.write();
            let mut partitions = partitions.unwrap_or_else(PoisonError::into_inner);
            let fresh = || {
                Arc::new(PartitionFigures {
                    mirrored: AtomicU64::new(UNKNOWN),
                    oldest_ms: AtomicU64::new(0),
                })
            };
            Arc::clone(partitions.entry(id).or_insert_with(fresh))
        })
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use commitlog::{Log, LogConfig, MemoryDisk};

    use super::*;
    use crate::settings::MirrorStart;

    #[test]
    fn it_is_connected_once_every_shard_is() {
        let log = Log::open(Arc::new(MemoryDisk::new()), LogConfig::default(), 1000).unwrap();
        let settings = MirrorSettings {
            brokers: "b:1".to_owned(),
            identity: None,
            exactly_once: true,
            shards: 3,
            create_topics: true,
            replication_factor: None,
            start: MirrorStart::Beginning,
            ack_timeout_ms: 1,
            dead_letter: "d".to_owned(),
            positions_topic: "p".to_owned(),
            tls: None,
            sasl: None,
            streams: Vec::new(),
            client: BTreeMap::new(),
        };
        let board = Board::new(Some(settings), "c", log.reader());
        board.begins(3);
        for shard in [0, 2, 1] {
            assert_eq!(board.view().state, "waiting");
            assert!(board.shard_stands(shard, State::Connected, None));
        }
        assert_eq!(board.view().state, "connected");
    }
}
