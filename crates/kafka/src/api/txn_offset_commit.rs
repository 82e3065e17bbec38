//! TxnOffsetCommit (28): store how far a group has read, when the transaction commits. The group
//! checks its member since version 3 (KIP-447).

wire! {
    /// How far a partition was read.
    pub struct TxnOffsetCommitPartition<'a> {
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// The offset of the next record to read, or -1.
        committed_offset: i64 = 0, 0..;
        /// The leader epoch of the last record read, or -1.
        committed_leader_epoch: i32 = -1, 2..;
        /// Words that the client stores with it.
        committed_metadata: Option<&'a str> = Some(""), 0..;
    }

    /// A topic and its partitions.
    pub struct TxnOffsetCommitTopic<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<TxnOffsetCommitPartition<'a>> = Vec::new(), 0..;
    }

    /// Stores, when the transaction commits, how far a group has read.
    pub struct TxnOffsetCommitRequest<'a> {
        /// The transactional id.
        transactional_id: &'a str = "", 0..;
        /// The group.
        group_id: &'a str = "", 0..;
        /// The producer id.
        producer_id: i64 = 0, 0..;
        /// The epoch of the producer id.
        producer_epoch: i16 = 0, 0..;
        /// The generation of the group, or -1 (KIP-447).
        generation_id: i32 = -1, 3..;
        /// The member.
        member_id: &'a str = "", 3..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = None, 3..;
        /// The topics.
        topics: Vec<TxnOffsetCommitTopic<'a>> = Vec::new(), 0..;
    }

    /// What became of a partition's offset.
    pub struct TxnOffsetCommitPartitionResponse {
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
    }

    /// What became of a topic's offsets.
    pub struct TxnOffsetCommitTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<TxnOffsetCommitPartitionResponse> = Vec::new(), 0..;
    }

    /// What became of the offsets.
    pub struct TxnOffsetCommitResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// The topics.
        topics: Vec<TxnOffsetCommitTopicResponse<'a>> = Vec::new(), 0..;
    }
}
