//! OffsetDelete (47): forget how far a group has read (KIP-496).

wire! {
    /// A partition whose offset is to be forgotten.
    pub struct OffsetDeletePartition {
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
    }

    /// A topic and its partitions.
    pub struct OffsetDeleteTopic<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<OffsetDeletePartition> = Vec::new(), 0..;
    }

    /// Forgets how far a group has read.
    pub struct OffsetDeleteRequest<'a> {
        /// The group.
        group_id: &'a str = "", 0..;
        /// The topics.
        topics: Vec<OffsetDeleteTopic<'a>> = Vec::new(), 0..;
    }

    /// What became of a partition's offset.
    pub struct OffsetDeletePartitionResponse {
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
    }

    /// What became of a topic's offsets.
    pub struct OffsetDeleteTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<OffsetDeletePartitionResponse> = Vec::new(), 0..;
    }

    /// What became of the offsets.
    pub struct OffsetDeleteResponse<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// The topics.
        topics: Vec<OffsetDeleteTopicResponse<'a>> = Vec::new(), 0..;
    }
}
