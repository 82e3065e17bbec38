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

pub use batch::{BatchBuilder, BatchError, BatchHead, BatchView, RecordView};
pub use disk::{Disk, DiskFile, MemoryDisk, Open};
pub use error::{Error, ReadError};
pub use partition::{
    Dirty, MemoryPartition, Notice, Partition, PartitionMark, PartitionReader, PartitionSettings,
    SegmentSummary, StagedBatch,
};
pub use partitioner::{murmur2, partition_for_key};
pub use segment::{Rewritten, SegmentRewrite};
