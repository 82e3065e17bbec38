//! The durable log: journal, streams, segments, recovery, group commit.

pub mod batch;
pub mod disk;
pub mod error;
mod index;
pub mod limits;
pub mod partition;
mod partitioner;
mod segment;
mod varint;

pub use batch::{
    BatchBuilder, BatchError, BatchFault, BatchHead, BatchView, Checked, Marker, PlainRecords,
    RecordView, Rules, check_batch, control_batch,
};
pub use disk::{Disk, DiskFile, MemoryDisk, Open, Patience};
pub use error::{Error, ReadError};
pub use partition::{
    Dirty, MemoryPartition, Notice, Partition, PartitionMark, PartitionReader, PartitionSettings,
    SegmentSummary, StagedBatch,
};
pub use partitioner::{murmur2, partition_for_key};
pub use segment::{Rewritten, SegmentRewrite, StoredRange};

mod aborted;
mod backup;
mod catalogue;
mod checkpoint;
mod compaction;
mod entry;
mod fields;
mod flush;
mod journal;
mod log;
mod producers;
mod reader;
mod recovery;
mod retention;
mod space;
mod stream;
pub mod table;
mod tail;
mod watermark;

pub use aborted::AbortedRange;
pub use backup::JournalExtents;
pub use checkpoint::Checkpoint;
pub use compaction::Compaction;
pub use entry::{Append, Entry, Op, Refusal, Staged};
pub use flush::{FlushAdvice, FlushPolicy, FlushTicket, Flushed};
pub use journal::part::PartPreparation;
pub use log::{Log, LogConfig, Room};
pub use producers::ProducerState;
pub use reader::{LogReader, Sizes};
pub use recovery::{Recovery, Replay, ReplayedEntry};
pub use retention::Dropped;
pub use stream::{Ack, Lsn, PartitionId, Storage, StreamSettings};
pub use watermark::{PartitionMeta, StreamMeta, Watermarks};
