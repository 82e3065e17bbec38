//! ListOffsets (2): the offset of an end, or of the first record at or behind a time.

/// Timestamps that are not times.
pub mod timestamps {
    /// The end, as far as the reader may see.
    pub const LATEST: i64 = -1;
    /// The log start.
    pub const EARLIEST: i64 = -2;
    /// The record with the largest timestamp (version 7, KIP-734).
    pub const MAX_TIMESTAMP: i64 = -3;
    /// The first offset on local disks (version 8, KIP-405).
    pub const EARLIEST_LOCAL: i64 = -4;
    /// The last offset in tiered storage (version 9, KIP-1005).
    pub const LATEST_TIERED: i64 = -5;
    /// The first offset that is not in tiered storage yet (version 11, KIP-1023).
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

wire! {
    /// A partition and what is sought in it.
    pub struct ListOffsetsPartition {
        /// Its number in the topic.
        partition_index: i32 = 0, 1..;
        /// The leader epoch that the client knows, or -1.
        current_leader_epoch: i32 = -1, 4..;
        /// A time in milliseconds, or one of [`timestamps`].
        timestamp: i64 = 0, 1..;
    }

    /// A topic and its partitions.
    pub struct ListOffsetsTopic<'a> {
        /// Its name.
        name: &'a str = "", 1..;
        /// Its partitions.
        partitions: Vec<ListOffsetsPartition> = Vec::new(), 1..;
    }

    /// Asks for offsets.
    pub struct ListOffsetsRequest<'a> {
        /// -1 for a consumer.
        replica_id: i32 = -1, 1..;
        /// 0 read uncommitted, 1 read committed.
        isolation_level: i8 = 0, 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopic<'a>> = Vec::new(), 1..;
        /// How long the server may take over it, in milliseconds (tiered storage).
        timeout_ms: i32 = 0, 10..;
    }

    /// What was found in a partition.
    pub struct ListOffsetsPartitionResponse {
        /// Its number in the topic.
        partition_index: i32 = 0, 1..;
        /// What is wrong with it.
        error_code: i16 = 0, 1..;
        /// Timestamp of the record found, or -1.
        timestamp: i64 = -1, 1..;
        /// The offset, or -1 where there is none.
        offset: i64 = -1, 1..;
        /// The leader epoch of that offset, or -1.
        leader_epoch: i32 = -1, 4..;
    }

    /// What was found in a topic.
    pub struct ListOffsetsTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 1..;
        /// Its partitions.
        partitions: Vec<ListOffsetsPartitionResponse> = Vec::new(), 1..;
    }

    /// What was found.
    pub struct ListOffsetsResponse<'a> {
        /// Always 0: nobody is throttled.
        throttle_time_ms: i32 = 0, 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse<'a>> = Vec::new(), 1..;
    }
}
