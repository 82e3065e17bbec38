//! A log in memory behind [`Source`], whose files can be made to fail.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use ::kafka::Uuid;
use bytes::Bytes;
use commitlog::batch::{BatchView, set_base_offset, set_leader_epoch};
use commitlog::{
    AbortedRange, Ack, BatchBuilder, Entry, Lsn, Op, PartitionId, Patience, ProducerState,
    ReadError, Refusal, StoredRange, StreamSettings,
};
use tokio::sync::{oneshot, watch};

use crate::kafka::{Source, Stream, Watermarks};
use crate::node::{AppendError, Appended, Flushing, Submitted};

pub(crate) const CLUSTER_ID: &str = "c2x1aWNlLXRlc3QtY2x1c3";

const LEADER_EPOCH: i32 = 5;

/// The id of the stream of this name.
pub(crate) fn topic_id(name: &str) -> Uuid {
    let mut id = [1; 16];
    for (byte, letter) in id.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    id
}

pub(crate) struct FakeLog {
    inside: Arc<Mutex<Inside>>,
    commits: watch::Sender<Lsn>,
}

#[derive(Default)]
struct Inside {
    streams: BTreeMap<Arc<str>, Arc<Stream>>,
    partitions: Vec<Partition>,
    on_file: bool,
    failing: bool,
    refusing: Option<AppendError>,
    entries: Lsn,
    /// Entries that are not looked at yet, where the log stands still.
    held: Option<Vec<Held>>,
    /// What was put and not yet brought.
    put: Vec<Held>,
    /// Entries that were brought together, each time.
    brought: Vec<usize>,
    /// Batches in the entries that deleted a stream.
    deleted_with: Vec<usize>,
}

type Held = (Entry, oneshot::Sender<Result<Appended, AppendError>>);

#[derive(Default)]
struct Partition {
    batches: Vec<Bytes>,
    log_start: u64,
    appended: u64,
    /// `None`: the stream is not one of `flush`.
    flushed: Option<u64>,
    ended: Option<(i32, u64)>,
    /// Appended just before the tail is read.
    late: Option<Vec<u8>>,
}

impl FakeLog {
    pub(crate) fn new() -> Self {
        Self {
            inside: Arc::default(),
            commits: watch::channel(0).0,
        }
    }

    pub(crate) fn create(&self, name: &str, partitions: usize) {
        self.create_as(name, partitions, false, None);
    }

    pub(crate) fn create_internal(&self, name: &str) {
        self.create_as(name, 1, true, None);
    }

    pub(crate) fn create_flush(&self, name: &str) {
        self.create_as(name, 1, false, Some(0));
    }

    fn create_as(&self, name: &str, partitions: usize, internal: bool, flushed: Option<u64>) {
        let mut inside = self.inside.lock().unwrap();
        let first = inside.partitions.len();
        inside.partitions.extend((0..partitions).map(|_| Partition {
            flushed,
            ..Default::default()
        }));
        let stream = Arc::new(Stream {
            name: name.into(),
            topic_id: topic_id(name),
            partitions: (first..first + partitions)
                .map(|id| id as PartitionId)
                .collect(),
            internal,
            settings: StreamSettings {
                partitions: partitions as u32,
                ack: if flushed.is_some() {
                    Ack::Flush
                } else {
                    Ack::Append
                },
                internal,
                topic_id: topic_id(name),
                ..StreamSettings::new(name)
            },
        });
        inside.streams.insert(stream.name.clone(), stream);
    }

    /// Appends one batch with a record for each timestamp; returns its size.
    pub(crate) fn append(&self, name: &str, index: usize, times: &[i64]) -> usize {
        let mut builder = BatchBuilder::new();
        for &time in times {
            builder.push(time, Some(b"key"), Some(b"value of the record"), &[]);
        }
        self.append_batch(name, index, builder.finish())
    }

    pub(crate) fn append_batch(&self, name: &str, index: usize, batch: Vec<u8>) -> usize {
        let size = batch.len();
        self.change(name, index, |partition| {
            partition.append(batch);
        });
        size
    }

    /// Appends as [`append`](Self::append), but between a reader's look at the watermarks and its
    /// read.
    pub(crate) fn append_late(&self, name: &str, index: usize, times: &[i64]) {
        let mut builder = BatchBuilder::new();
        for &time in times {
            builder.push(time, Some(b"key"), Some(b"value of the record"), &[]);
        }
        self.change(name, index, |partition| {
            partition.late = Some(builder.finish());
        });
    }

    pub(crate) fn flush(&self, name: &str, index: usize) {
        self.change(name, index, |partition| {
            partition.flushed = Some(partition.appended);
        });
    }

    pub(crate) fn set_log_start(&self, name: &str, index: usize, offset: u64) {
        self.change(name, index, |partition| partition.log_start = offset);
    }

    pub(crate) fn end_epoch(&self, name: &str, index: usize, epoch: i32, end: u64) {
        self.change(name, index, |partition| {
            partition.ended = Some((epoch, end));
        });
    }

    pub(crate) fn keep_in_tail(&self, in_tail: bool) {
        self.inside.lock().unwrap().on_file = !in_tail;
    }

    /// What every entry is answered with from now on, instead of being appended.
    pub(crate) fn refuse(&self, error: AppendError) {
        self.inside.lock().unwrap().refusing = Some(error);
    }

    /// Nothing is appended until [`FakeLog::go_on`].
    pub(crate) fn stand_still(&self) {
        self.inside.lock().unwrap().held = Some(Vec::new());
    }

    /// How many entries wait.
    pub(crate) fn held(&self) -> usize {
        self.inside
            .lock()
            .unwrap()
            .held
            .as_ref()
            .map_or(0, Vec::len)
    }

    pub(crate) fn go_on(&self) {
        let held = self.inside.lock().unwrap().held.take();
        for (entry, answer) in held.into_iter().flatten() {
            let _ = answer.send(self.append_entry(entry));
        }
        self.commits.send_modify(|lsn| *lsn += 1);
    }

    /// How many entries were brought together, each time.
    pub(crate) fn brought(&self) -> Vec<usize> {
        self.inside.lock().unwrap().brought.clone()
    }

    /// How many batches each entry had that deleted a stream.
    pub(crate) fn deleted_with(&self) -> Vec<usize> {
        self.inside.lock().unwrap().deleted_with.clone()
    }

    fn append_entry(&self, entry: Entry) -> Result<Appended, AppendError> {
        let mut inside = self.inside.lock().unwrap();
        if let Some(error) = &inside.refusing {
            return Err(error.clone());
        }
        if entry.ops.iter().any(|op| matches!(op, Op::DeleteStream(_))) {
            inside.deleted_with.push(entry.appends.len());
        }
        let mut base_offsets = Vec::new();
        for append in entry.appends {
            base_offsets.push(match inside.partitions.get_mut(append.partition as usize) {
                Some(partition) => Ok(partition.append(append.batch.to_vec())),
                None => Err(Refusal::UnknownPartition),
            });
        }
        let ops = entry.ops.into_iter().map(|op| inside.carry_out(op));
        let ops = ops.collect();
        inside.entries += 1;
        Ok(Appended {
            lsn: inside.entries,
            base_offsets,
            ops,
        })
    }

    pub(crate) fn fail_reads(&self) {
        self.inside.lock().unwrap().failing = true;
    }

    fn change(&self, name: &str, index: usize, change: impl FnOnce(&mut Partition)) {
        let mut inside = self.inside.lock().unwrap();
        let partition = inside.streams[name].partitions[index];
        change(&mut inside.partitions[partition as usize]);
        drop(inside);
        self.commits.send_modify(|lsn| *lsn += 1);
    }
}

impl Inside {
    fn carry_out(&mut self, op: Op) -> Result<Vec<PartitionId>, Refusal> {
        match op {
            Op::CreateStream(settings) if self.streams.contains_key(settings.name.as_str()) => {
                Err(Refusal::StreamExists)
            }
            Op::CreateStream(settings) => Ok(self.put(settings, Vec::new())),
            Op::AlterStream(settings) => {
                let stream = self.streams.get(settings.name.as_str());
                let have = stream.ok_or(Refusal::UnknownStream)?.partitions.clone();
                Ok(self.put(settings, have))
            }
            Op::DeleteStream(name) => {
                let stream = self.streams.remove(name.as_str());
                stream.map(|_| Vec::new()).ok_or(Refusal::UnknownStream)
            }
            Op::SetLogStart { partition, offset } => {
                let partition = self.partitions.get_mut(partition as usize);
                partition.ok_or(Refusal::UnknownPartition)?.log_start = offset;
                Ok(Vec::new())
            }
            Op::AwaitFlush => Ok(Vec::new()),
        }
    }

    /// Puts a stream there, with new partitions where it has too few; returns the new ones.
    fn put(&mut self, settings: StreamSettings, mut have: Vec<PartitionId>) -> Vec<PartitionId> {
        let made = have.len()..settings.partitions as usize;
        let made: Vec<_> = made
            .map(|_| {
                self.partitions.push(Partition::default());
                self.partitions.len() as PartitionId - 1
            })
            .collect();
        have.extend(&made);
        let stream = Arc::new(Stream {
            name: settings.name.as_str().into(),
            topic_id: settings.topic_id,
            partitions: have,
            internal: settings.internal,
            settings,
        });
        self.streams.insert(stream.name.clone(), stream);
        made
    }
}

impl Partition {
    fn append(&mut self, mut batch: Vec<u8>) -> u64 {
        let base_offset = self.appended;
        set_base_offset(&mut batch, base_offset);
        set_leader_epoch(&mut batch, LEADER_EPOCH);
        self.appended = BatchView::parse(&batch).unwrap().0.next_offset();
        self.batches.push(batch.into());
        base_offset
    }

    fn visible(&self) -> u64 {
        self.flushed.unwrap_or(self.appended)
    }

    fn read(&self, offset: u64, bytes_max: usize, up_to: u64) -> Vec<Bytes> {
        let mut read: Vec<Bytes> = Vec::new();
        let mut size = 0;
        for batch in &self.batches {
            let (view, _) = BatchView::parse(batch).unwrap();
            if view.next_offset() <= offset {
                continue;
            }
            let fits = read.is_empty() || size + batch.len() <= bytes_max;
            if view.next_offset() > up_to || !fits {
                break;
            }
            size += batch.len();
            read.push(batch.clone());
        }
        read
    }

    fn times(&self) -> impl Iterator<Item = (u64, i64)> {
        self.batches.iter().flat_map(|batch| {
            let (view, _) = BatchView::parse(batch).unwrap();
            let times = view.records().map(|record| record.unwrap());
            times
                .map(|record| (record.offset, record.timestamp_ms))
                .collect::<Vec<_>>()
        })
    }
}

impl Source for FakeLog {
    fn cluster_id(&self) -> &str {
        CLUSTER_ID
    }

    fn streams(&self) -> Vec<Arc<Stream>> {
        self.inside
            .lock()
            .unwrap()
            .streams
            .values()
            .cloned()
            .collect()
    }

    fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.inside.lock().unwrap().streams.get(name).cloned()
    }

    fn stream_by_id(&self, topic_id: &Uuid) -> Option<Arc<Stream>> {
        let inside = self.inside.lock().unwrap();
        inside
            .streams
            .values()
            .find(|stream| stream.topic_id == *topic_id)
            .cloned()
    }

    fn place(&self, partition: PartitionId) -> Option<(Arc<Stream>, i32)> {
        let inside = self.inside.lock().unwrap();
        inside.streams.values().find_map(|stream| {
            let index = stream.partitions.iter().position(|&it| it == partition)?;
            Some((stream.clone(), index as i32))
        })
    }

    fn aborted(&self, _: PartitionId, _: u64, _: u64) -> Result<Vec<AbortedRange>, ReadError> {
        Ok(Vec::new())
    }

    fn watermarks(&self, partition: PartitionId) -> Option<Watermarks> {
        let inside = self.inside.lock().unwrap();
        let partition = inside.partitions.get(partition as usize)?;
        Some(Watermarks {
            log_start: partition.log_start,
            visible: partition.visible(),
            appended: partition.appended,
            stable: partition.visible(),
            leader_epoch: LEADER_EPOCH,
        })
    }

    fn epoch_end(&self, partition: PartitionId, epoch: i32) -> Option<(i32, u64)> {
        let inside = self.inside.lock().unwrap();
        inside.partitions[partition as usize]
            .ended
            .filter(|(ended, _)| *ended <= epoch)
    }

    fn read_tail(
        &self,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
    ) -> Option<Vec<Bytes>> {
        let mut inside = self.inside.lock().unwrap();
        let on_file = inside.on_file;
        let partition = &mut inside.partitions[partition as usize];
        if let Some(batch) = partition.late.take() {
            partition.append(batch);
        }
        (!on_file).then(|| partition.read(offset, bytes_max, u64::MAX))
    }

    fn is_in_memory(&self, _: PartitionId, _: u64) -> bool {
        !self.inside.lock().unwrap().on_file
    }

    fn range(
        &self,
        _: PartitionId,
        _: u64,
        _: usize,
        _: u64,
        _: Patience,
    ) -> Result<Option<Option<StoredRange>>, ReadError> {
        Ok(None)
    }

    fn read(
        &self,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
        up_to: u64,
    ) -> Result<Vec<Bytes>, ReadError> {
        let inside = self.inside.lock().unwrap();
        if inside.failing {
            return Err(ReadError::Disk {
                path: "streams/door-0/0.log".into(),
                op: "read",
                position: Some(0),
                source: io::Error::other("the disk is gone"),
            });
        }
        Ok(inside.partitions[partition as usize].read(offset, bytes_max, up_to))
    }

    fn offset_for_time(
        &self,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, ReadError> {
        let inside = self.inside.lock().unwrap();
        let mut times = inside.partitions[partition as usize].times();
        Ok(times.find(|(_, time)| *time >= timestamp_ms))
    }

    fn newest(&self, partition: PartitionId) -> Result<Option<(u64, i64)>, ReadError> {
        let inside = self.inside.lock().unwrap();
        let times = inside.partitions[partition as usize].times();
        // The first of equals, as Kafka does.
        Ok(times.reduce(|best, next| if next.1 > best.1 { next } else { best }))
    }

    fn size_bytes(&self, partition: PartitionId) -> Option<u64> {
        let inside = self.inside.lock().unwrap();
        let partition = inside.partitions.get(partition as usize)?;
        Some(
            partition
                .batches
                .iter()
                .map(|batch| batch.len() as u64)
                .sum(),
        )
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(1 << 30)
    }

    fn producers(&self, partition: PartitionId) -> Option<Vec<ProducerState>> {
        let inside = self.inside.lock().unwrap();
        inside.partitions.get(partition as usize)?;
        Some(vec![ProducerState {
            producer_id: 7,
            epoch: 1,
            last_sequence: 41,
            last_ms: 1000,
            coordinator_epoch: -1,
            txn_first_offset: Some(3),
        }])
    }

    fn commits(&self) -> watch::Receiver<Lsn> {
        self.commits.subscribe()
    }

    fn is_unmirrored(&self, _partition: PartitionId, _offsets: &Range<u64>) -> bool {
        false
    }

    /// There is no cluster behind.
    fn mirrored(&self, _ends: Vec<(PartitionId, u64)>) -> Flushing {
        Box::pin(std::future::pending())
    }

    fn put(&self, entry: Entry) -> Submitted {
        let (answer, result) = oneshot::channel();
        self.inside.lock().unwrap().put.push((entry, answer));
        Submitted::new(result)
    }

    fn bring(&self) {
        let mut inside = self.inside.lock().unwrap();
        let put = std::mem::take(&mut inside.put);
        inside.brought.push(put.len());
        if let Some(held) = &mut inside.held {
            held.extend(put);
            return;
        }
        drop(inside);
        for (entry, answer) in put {
            let _ = answer.send(self.append_entry(entry));
            self.commits.send_modify(|lsn| *lsn += 1);
        }
    }

    /// Everything is flushed only where a test says so; streams of `flush` wait for that.
    fn flushed(&self, _lsn: Lsn) -> Flushing {
        let waits = |inside: &Inside| {
            let mut partitions = inside.partitions.iter();
            partitions.any(|it| it.flushed.is_some_and(|flushed| flushed < it.appended))
        };
        let mut commits = self.commits.subscribe();
        let inside = self.inside.clone();
        Box::pin(async move {
            while waits(&inside.lock().unwrap()) {
                commits.changed().await.map_err(|_| AppendError::Stopping)?;
            }
            Ok(())
        })
    }
}
