//! DeleteRecords (21): delete the records below an offset (KIP-107).

wire! {
    /// A partition and its new first offset.
    pub struct DeleteRecordsPartition {
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// The new first offset; -1 for the end.
        offset: i64 = 0, 0..;
    }

    /// A topic and its partitions.
    pub struct DeleteRecordsTopic<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartition> = Vec::new(), 0..;
    }

    /// Deletes the records below given offsets.
    pub struct DeleteRecordsRequest<'a> {
        /// The topics.
        topics: Vec<DeleteRecordsTopic<'a>> = Vec::new(), 0..;
        /// How long to wait for it, in milliseconds.
        timeout_ms: i32 = 0, 0..;
    }

    /// What became of a partition.
    pub struct DeleteRecordsPartitionResponse {
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// The first offset, or -1.
        low_watermark: i64 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
    }

    /// What became of a topic's partitions.
    pub struct DeleteRecordsTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartitionResponse> = Vec::new(), 0..;
    }

    /// What became of the partitions.
    pub struct DeleteRecordsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// The topics.
        topics: Vec<DeleteRecordsTopicResponse<'a>> = Vec::new(), 0..;
    }
}
