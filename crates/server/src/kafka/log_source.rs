//! The log of this node as a [`Source`].

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use ::kafka::Uuid;
use bytes::Bytes;
use commitlog::{
    AbortedRange, Ack, Entry, LogReader, Lsn, PartitionId, Patience, ProducerState, ReadError,
    StoredRange, StreamMeta,
};
use tokio::sync::watch;

use super::source::Appends;
use super::{Source, Stream, Watermarks};
use crate::node::{Flushing, Submitted};

/// Reads the log of this node.
pub(super) struct LogSource {
    log: LogReader,
    appends: Arc<dyn Appends>,
    commits: watch::Receiver<Lsn>,
    cluster_id: String,
    catalogue: RwLock<Arc<Catalogue>>,
}

/// The streams as clients see them, made anew when the log has others.
#[derive(Default)]
struct Catalogue {
    of: Arc<Vec<StreamMeta>>,
    streams: Vec<Arc<Stream>>,
    by_name: HashMap<Arc<str>, Arc<Stream>>,
    by_topic_id: HashMap<Uuid, Arc<Stream>>,
    by_partition: HashMap<PartitionId, (Arc<Stream>, i32)>,
}

impl LogSource {
    pub(super) fn new(
        log: LogReader,
        appends: Arc<dyn Appends>,
        commits: watch::Receiver<Lsn>,
        cluster_id: String,
    ) -> Self {
        Self {
            log,
            appends,
            commits,
            cluster_id,
            catalogue: RwLock::default(),
        }
    }

    fn catalogue(&self) -> Arc<Catalogue> {
        let of = self.log.streams();
        let known = self
            .catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if Arc::ptr_eq(&known.of, &of) {
            return known;
        }
        let made = Arc::new(Catalogue::new(&of));
        *self
            .catalogue
            .write()
            .unwrap_or_else(PoisonError::into_inner) = made.clone();
        made
    }
}

impl Catalogue {
    fn new(of: &Arc<Vec<StreamMeta>>) -> Self {
        let mut catalogue = Self {
            of: of.clone(),
            ..Self::default()
        };
        for meta in of.iter() {
            let stream = Arc::new(Stream {
                name: meta.settings.name.as_str().into(),
                topic_id: meta.settings.topic_id,
                partitions: meta.partitions.clone(),
                internal: meta.settings.internal,
                settings: meta.settings.clone(),
            });
            catalogue.by_partition.extend(
                (0..)
                    .zip(&meta.partitions)
                    .map(|(index, &partition)| (partition, (stream.clone(), index))),
            );
            catalogue
                .by_name
                .insert(stream.name.clone(), stream.clone());
            catalogue
                .by_topic_id
                .insert(stream.topic_id, stream.clone());
            catalogue.streams.push(stream);
        }
        catalogue
    }
}

impl Source for LogSource {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn streams(&self) -> Vec<Arc<Stream>> {
        self.catalogue().streams.clone()
    }

    fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.catalogue().by_name.get(name).cloned()
    }

    fn stream_by_id(&self, topic_id: &Uuid) -> Option<Arc<Stream>> {
        self.catalogue().by_topic_id.get(topic_id).cloned()
    }

    fn place(&self, partition: PartitionId) -> Option<(Arc<Stream>, i32)> {
        self.catalogue().by_partition.get(&partition).cloned()
    }

    fn ack(&self, partition: PartitionId) -> Option<Ack> {
        let catalogue = self.catalogue();
        let (stream, _) = catalogue.by_partition.get(&partition)?;
        Some(stream.settings.ack)
    }

    fn watermarks(&self, partition: PartitionId) -> Option<Watermarks> {
        let marks = self.log.watermarks(partition)?;
        // A stream that is not in the catalogue is deleted at this moment.
        let ack = self.ack(partition)?;
        let (visible, stable) = if ack >= Ack::Flush {
            (marks.flushed, marks.flushed_stable)
        } else {
            (marks.appended, marks.stable)
        };
        Some(Watermarks {
            log_start: marks.log_start,
            visible,
            appended: marks.appended,
            stable,
            leader_epoch: self.log.leader_epoch(),
        })
    }

    fn epoch_end(&self, partition: PartitionId, epoch: i32) -> Option<(i32, u64)> {
        self.log.epoch_end(partition, epoch)
    }

    fn read_tail(
        &self,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
    ) -> Option<Vec<Bytes>> {
        self.log.read_tail(partition, offset, bytes_max)
    }

    fn is_in_memory(&self, partition: PartitionId, offset: u64) -> bool {
        self.log.is_in_memory(partition, offset)
    }

    fn range(
        &self,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
        up_to: u64,
        patience: Patience,
    ) -> Result<Option<Option<StoredRange>>, ReadError> {
        self.log
            .range(partition, offset, bytes_max, up_to, patience)
    }

    fn read(
        &self,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
        up_to: u64,
    ) -> Result<Vec<Bytes>, ReadError> {
        self.log.read(partition, offset, bytes_max, up_to)
    }

    fn offset_for_time(
        &self,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, ReadError> {
        self.log.offset_for_time(partition, timestamp_ms)
    }

    fn newest(&self, partition: PartitionId) -> Result<Option<(u64, i64)>, ReadError> {
        self.log.newest(partition)
    }

    fn aborted(
        &self,
        partition: PartitionId,
        from: u64,
        to: u64,
    ) -> Result<Vec<AbortedRange>, ReadError> {
        self.log.aborted(partition, from, to)
    }

    fn has_no_aborted(&self, partition: PartitionId, from: u64) -> bool {
        self.log.has_no_aborted(partition, from)
    }

    fn size_bytes(&self, partition: PartitionId) -> Option<u64> {
        self.log.size_bytes(partition)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.log.free_bytes()
    }

    fn producers(&self, partition: PartitionId) -> Option<Vec<ProducerState>> {
        self.log.producers(partition)
    }

    fn commits(&self) -> watch::Receiver<Lsn> {
        self.commits.clone()
    }

    fn put(&self, entry: Entry) -> Submitted {
        self.appends.put(entry)
    }

    fn bring(&self) {
        self.appends.bring();
    }

    fn flushed(&self, lsn: Lsn) -> Flushing {
        self.appends.flushed(lsn)
    }

    fn mirrored(&self, ends: Vec<(PartitionId, u64)>) -> Flushing {
        self.appends.mirrored(ends)
    }

    fn is_unmirrored(&self, partition: PartitionId, offsets: &Range<u64>) -> bool {
        self.log.is_unmirrored(partition, offsets)
    }
}
