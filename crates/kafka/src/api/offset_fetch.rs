//! OffsetFetch (9): how far groups have read. One group up to version 7, several since 8 (KIP-709);
//! topic ids instead of names since 10 (KIP-848).

use crate::Uuid;

wire! {
    /// A topic and its partitions.
    pub struct OffsetFetchTopic<'a> {
        /// Its name.
        name: &'a str = "", 1..=9;
        /// Its id.
        topic_id: Uuid = [0; 16], 10..;
        /// Numbers of the partitions.
        partition_indexes: Vec<i32> = Vec::new(), 1..;
    }

    /// A group, and what is asked of it.
    pub struct OffsetFetchGroup<'a> {
        /// The group.
        group_id: &'a str = "", 8..;
        /// The member.
        member_id: Option<&'a str> = None, 9..;
        /// The member's epoch in the protocol of KIP-848, or -1.
        member_epoch: i32 = -1, 9..;
        /// The topics; null asks for all that the group has offsets for.
        topics: Option<Vec<OffsetFetchTopic<'a>>> = Some(Vec::new()), 8..;
    }

    /// Asks how far groups have read.
    pub struct OffsetFetchRequest<'a> {
        /// The group.
        group_id: &'a str = "", 1..=7;
        /// The topics; null asks for all that the group has offsets for.
        topics: Option<Vec<OffsetFetchTopic<'a>>> = Some(Vec::new()), 1..=7, null 2..;
        /// The groups.
        groups: Vec<OffsetFetchGroup<'a>> = Vec::new(), 8..;
        /// Whether offsets of open transactions are to be waited for (KIP-447).
        require_stable: bool = false, 7..;
    }

    /// How far a partition was read.
    pub struct OffsetFetchPartitionResponse<'a> {
        /// Its number in the topic.
        partition_index: i32 = 0, 1..;
        /// The offset of the next record to read, or -1.
        committed_offset: i64 = 0, 1..;
        /// The leader epoch of the last record read, or -1.
        committed_leader_epoch: i32 = -1, 5..;
        /// Words that the client stores with it.
        metadata: Option<&'a str> = Some(""), 1..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 1..;
    }

    /// How far a topic was read.
    pub struct OffsetFetchTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 1..=9;
        /// Its id.
        topic_id: Uuid = [0; 16], 10..;
        /// The partitions.
        partitions: Vec<OffsetFetchPartitionResponse<'a>> = Vec::new(), 1..;
    }

    /// How far a group has read.
    pub struct OffsetFetchGroupResponse<'a> {
        /// The group.
        group_id: &'a str = "", 8..;
        /// The topics.
        topics: Vec<OffsetFetchTopicResponse<'a>> = Vec::new(), 8..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 8..;
    }

    /// How far groups have read.
    pub struct OffsetFetchResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 3..;
        /// The topics.
        topics: Vec<OffsetFetchTopicResponse<'a>> = Vec::new(), 1..=7;
        /// What is wrong, or 0.
        error_code: i16 = 0, 2..=7;
        /// The groups.
        groups: Vec<OffsetFetchGroupResponse<'a>> = Vec::new(), 8..;
    }
}
