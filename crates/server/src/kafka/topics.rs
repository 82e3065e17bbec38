//! Finding the partition that a request names, and what is wrong with a request for it.

use std::sync::Arc;

use ::kafka::{ErrorCode, Uuid};
use commitlog::{PartitionId, ReadError};

use super::access::{Operation, Resource};
use super::caller::Caller;
use super::{FrontDoor, Stream, Watermarks};

/// Most characters of a topic's name, as in Apache Kafka.
const NAME_BYTES_MAX: usize = 249;

impl FrontDoor {
    /// The stream of this name, if clients may see it.
    pub(super) fn stream(&self, name: &str) -> Result<Arc<Stream>, ErrorCode> {
        if !legal(name) {
            return Err(ErrorCode::InvalidTopic);
        }
        self.source
            .stream(name)
            .filter(|stream| !stream.internal)
            .ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// The stream of this name, also where it is the node's own.
    pub(super) fn named(&self, name: &str) -> Result<Arc<Stream>, ErrorCode> {
        if !legal(name) {
            return Err(ErrorCode::InvalidTopic);
        }
        self.source
            .stream(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// The stream of this name, if this caller may see it.
    pub(super) fn described(&self, caller: &Caller, name: &str) -> Result<Arc<Stream>, ErrorCode> {
        if !self.allows(caller, Operation::Describe, Resource::Topic(name)) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        self.stream(name)
    }

    /// The stream with this topic id, if clients may see it.
    pub(super) fn stream_by_id(&self, topic_id: &Uuid) -> Result<Arc<Stream>, ErrorCode> {
        self.source
            .stream_by_id(topic_id)
            .filter(|stream| !stream.internal)
            .ok_or(ErrorCode::UnknownTopicId)
    }

    /// How far a partition reaches, where the client's idea of its leader epoch is right (-1: it
    /// has none).
    pub(super) fn watermarks(
        &self,
        partition: PartitionId,
        leader_epoch: i32,
    ) -> Result<Watermarks, ErrorCode> {
        let watermarks = self
            .source
            .watermarks(partition)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        match leader_epoch {
            epoch if epoch < 0 => Ok(watermarks),
            epoch if epoch < watermarks.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > watermarks.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(watermarks),
        }
    }
}

impl Stream {
    /// The partition of this number.
    pub(super) fn partition(&self, index: i32) -> Result<PartitionId, ErrorCode> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.partitions.get(index))
            .copied()
            .ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// The error code that tells a client of a failed read; the log line tells the operator.
pub(super) fn read_error(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
        ReadError::Corrupt { .. } => {
            tracing::error!(%error, "a Kafka client asked for a damaged batch");
            ErrorCode::CorruptMessage
        }
        ReadError::Disk { .. } => {
            tracing::error!(%error, "a batch for a Kafka client cannot be read");
            ErrorCode::StorageError
        }
    }
}

/// Whether a topic can have this name.
pub(super) fn legal(name: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(legal)
        && name != "."
        && name != ".."
}
