//! The durable log: journal, streams, segments, recovery, group commit.

pub mod batch;
pub mod disk;
pub mod error;
pub mod limits;
mod partitioner;
mod varint;

pub use batch::{BatchBuilder, BatchError, BatchHead, BatchView, RecordView};
pub use disk::{Disk, DiskFile, MemoryDisk, Open};
pub use error::{Error, ReadError};
pub use partitioner::{murmur2, partition_for_key};
