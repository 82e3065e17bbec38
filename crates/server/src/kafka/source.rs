//! What the front door needs of the node: streams, watermarks, batches, to append, and to be told
//! of commits.

use std::ops::Range;
use std::sync::Arc;

use ::kafka::Uuid;
use bytes::Bytes;
use commitlog::{
    AbortedRange, Ack, Entry, Lsn, PartitionId, Patience, ProducerState, ReadError, StoredRange,
    StreamSettings,
};
use tokio::sync::watch;

use crate::node::{Appender, Flushing, Submitted};

/// A stream as Kafka clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: Arc<str>,
    /// Its id on the wire (KIP-516); never zeros.
    pub topic_id: Uuid,
    /// Its partitions, by their number in the stream.
    pub partitions: Vec<PartitionId>,
    /// Whether it is the node's own, and therefore not shown.
    pub internal: bool,
    /// What was said about it.
    pub settings: StreamSettings,
}

/// How far a partition reaches. All are offsets of the record that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset there is.
    pub log_start: u64,
    /// What readers may see: the appended end, or the flushed one of a `flush` stream.
    pub visible: u64,
    /// The end of what was appended; at least `visible`.
    pub appended: u64,
    /// The end of what is decided by transactions, and visible.
    pub stable: u64,
    /// The epoch in which the node writes now.
    pub leader_epoch: i32,
}

/// The log of a node, for those who read it. Calls are cheap and do not block, where not said.
pub trait Source: Send + Sync + 'static {
    /// Name of the cluster: 22 characters of base64, kept for the life of the data directory.
    fn cluster_id(&self) -> &str;

    /// All streams, in the order of their names.
    fn streams(&self) -> Vec<Arc<Stream>>;

    /// The stream of this name.
    fn stream(&self, name: &str) -> Option<Arc<Stream>>;

    /// The stream with this topic id.
    fn stream_by_id(&self, topic_id: &Uuid) -> Option<Arc<Stream>>;

    /// Which stream a partition belongs to, and its number there.
    fn place(&self, partition: PartitionId) -> Option<(Arc<Stream>, i32)>;

    /// The level that a partition's stream asks for.
    fn ack(&self, partition: PartitionId) -> Option<Ack> {
        self.place(partition).map(|(stream, _)| stream.settings.ack)
    }

    /// How far a partition reaches; `None` once its stream was deleted.
    fn watermarks(&self, partition: PartitionId) -> Option<Watermarks>;

    /// The end of the largest epoch not above `epoch`: that epoch and the offset behind its last
    /// record. `None` where the partition has no such epoch.
    fn epoch_end(&self, partition: PartitionId, epoch: i32) -> Option<(i32, u64)>;

    /// Whole batches from the one that contains `offset`, if they are in memory: at least one, and
    /// as many as `bytes_max` holds.
    fn read_tail(
        &self,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
    ) -> Option<Vec<Bytes>>;

    /// Whether a read from `offset` on needs no file.
    fn is_in_memory(&self, partition: PartitionId, offset: u64) -> bool;

    /// Where the batches lie that [`Source::read`] would return; the outer `None`: in no file.
    /// Blocks, if it may.
    fn range(
        &self,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
        up_to: u64,
        patience: Patience,
    ) -> Result<Option<Option<StoredRange>>, ReadError>;

    /// As [`Source::read_tail`], from files where it must be, and no batch that reaches beyond
    /// `up_to`. Blocks.
    fn read(
        &self,
        partition: PartitionId,
        offset: u64,
        bytes_max: usize,
        up_to: u64,
    ) -> Result<Vec<Bytes>, ReadError>;

    /// The first record whose timestamp is not before `timestamp_ms`: offset and timestamp. Blocks.
    fn offset_for_time(
        &self,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, ReadError>;

    /// The record with the largest timestamp: offset and timestamp. Blocks.
    fn newest(&self, partition: PartitionId) -> Result<Option<(u64, i64)>, ReadError>;

    /// Size of a partition, in bytes.
    fn size_bytes(&self, partition: PartitionId) -> Option<u64>;

    /// What is free on the disk under the log, in bytes, where that is known.
    fn free_bytes(&self) -> Option<u64>;

    /// The producers that a partition knows.
    fn producers(&self, partition: PartitionId) -> Option<Vec<ProducerState>>;

    /// Whether [`Source::aborted`] from this offset on finds nothing, and reads no file.
    fn has_no_aborted(&self, partition: PartitionId, from: u64) -> bool {
        let _ = (partition, from);
        false
    }

    /// The aborted transactions that reach into the offsets from `from` up to `to` (exclusive), by
    /// rising first offset. May read files.
    fn aborted(
        &self,
        partition: PartitionId,
        from: u64,
        to: u64,
    ) -> Result<Vec<AbortedRange>, ReadError>;

    /// Changes with every append and every flush.
    fn commits(&self) -> watch::Receiver<Lsn>;

    /// Hands in an entry. Entries are appended in the order in which they were handed in, also
    /// where nobody waits for what became of them.
    fn submit(&self, entry: Entry) -> Submitted {
        let submitted = self.put(entry);
        self.bring();
        submitted
    }

    /// As [`Source::submit`], for a caller who has more to hand in: entries that were put are
    /// appended together at the next [`Source::bring`], which the caller owes.
    fn put(&self, entry: Entry) -> Submitted;

    /// Sees to it that what was put is appended.
    fn bring(&self);

    /// Waits until everything up to `lsn` survives a power cut; asks for a flush.
    fn flushed(&self, lsn: Lsn) -> Flushing;

    /// Waits, for ever if need be, until the Apache Kafka cluster behind has these partitions up
    /// to these ends.
    fn mirrored(&self, ends: Vec<(PartitionId, u64)>) -> Flushing;

    /// Whether that cluster will never have some of these records.
    fn is_unmirrored(&self, partition: PartitionId, offsets: &Range<u64>) -> bool;
}

/// Where entries are appended and flushed: the log thread of a node.
pub trait Appends: Send + Sync + 'static {
    /// As [`Source::put`].
    fn put(&self, entry: Entry) -> Submitted;

    /// As [`Source::bring`].
    fn bring(&self);

    /// As [`Source::flushed`].
    fn flushed(&self, lsn: Lsn) -> Flushing;

    /// As [`Source::mirrored`].
    fn mirrored(&self, ends: Vec<(PartitionId, u64)>) -> Flushing;
}

impl Appends for Appender {
    fn put(&self, entry: Entry) -> Submitted {
        Self::put(self, entry)
    }

    fn bring(&self) {
        Self::bring(self);
    }

    fn flushed(&self, lsn: Lsn) -> Flushing {
        let appender = self.clone();
        Box::pin(async move { Self::flushed(&appender, lsn, true).await })
    }

    fn mirrored(&self, ends: Vec<(PartitionId, u64)>) -> Flushing {
        let appender = self.clone();
        Box::pin(async move { Self::mirrored(&appender, &ends).await })
    }
}
