//! OffsetCommit (8): store how far a group has read. Topic ids instead of names since version 10
//! (KIP-848).

use crate::Uuid;

wire! {
    /// How far a partition was read.
    pub struct OffsetCommitPartition<'a> {
        /// Its number in the topic.
        partition_index: i32 = 0, 2..;
        /// The offset of the next record to read, or -1.
        committed_offset: i64 = 0, 2..;
        /// The leader epoch of the last record read, or -1.
        committed_leader_epoch: i32 = -1, 6..;
        /// Words that the client stores with it.
        committed_metadata: Option<&'a str> = Some(""), 2..;
    }

    /// A topic and its partitions.
    pub struct OffsetCommitTopic<'a> {
        /// Its name.
        name: &'a str = "", 2..=9;
        /// Its id.
        topic_id: Uuid = [0; 16], 10..;
        /// The partitions.
        partitions: Vec<OffsetCommitPartition<'a>> = Vec::new(), 2..;
    }

    /// Stores how far a group has read.
    pub struct OffsetCommitRequest<'a> {
        /// The group.
        group_id: &'a str = "", 2..;
        /// The generation of the group, or -1 where the group is not used for assignment.
        generation_id: i32 = -1, 2..;
        /// The member.
        member_id: &'a str = "", 2..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = None, 7..;
        /// How long to keep the offsets, in milliseconds; -1 for the server's setting.
        retention_time_ms: i64 = -1, 2..=4;
        /// The topics.
        topics: Vec<OffsetCommitTopic<'a>> = Vec::new(), 2..;
    }

    /// What became of a partition's offset.
    pub struct OffsetCommitPartitionResponse {
        /// Its number in the topic.
        partition_index: i32 = 0, 2..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 2..;
    }

    /// What became of a topic's offsets.
    pub struct OffsetCommitTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 2..=9;
        /// Its id.
        topic_id: Uuid = [0; 16], 10..;
        /// The partitions.
        partitions: Vec<OffsetCommitPartitionResponse> = Vec::new(), 2..;
    }

    /// What became of the offsets.
    pub struct OffsetCommitResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 3..;
        /// The topics.
        topics: Vec<OffsetCommitTopicResponse<'a>> = Vec::new(), 2..;
    }
}
