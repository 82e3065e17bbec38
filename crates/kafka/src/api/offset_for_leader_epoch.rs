//! OffsetForLeaderEpoch (23): where an epoch ended, by which a client detects that the log it read
//! was cut (KIP-320).

wire! {
    /// A partition and the epoch that is asked for.
    pub struct LeaderEpochPartition {
        /// Its number in the topic.
        partition: i32 = 0, 2..;
        /// The leader epoch that the client knows, or -1.
        current_leader_epoch: i32 = -1, 2..;
        /// The epoch whose end is asked for.
        leader_epoch: i32 = 0, 2..;
    }

    /// A topic and its partitions.
    pub struct LeaderEpochTopic<'a> {
        /// Its name.
        topic: &'a str = "", 2..;
        /// Its partitions.
        partitions: Vec<LeaderEpochPartition> = Vec::new(), 2..;
    }

    /// Asks where epochs end.
    pub struct OffsetForLeaderEpochRequest<'a> {
        /// -1 for a consumer; -2 where the version cannot tell.
        replica_id: i32 = -2, 3..;
        /// The topics.
        topics: Vec<LeaderEpochTopic<'a>> = Vec::new(), 2..;
    }

    /// Where an epoch ends in a partition.
    pub struct LeaderEpochPartitionResponse {
        /// What is wrong with it.
        error_code: i16 = 0, 2..;
        /// Its number in the topic.
        partition: i32 = 0, 2..;
        /// The largest epoch not above the one asked for, or -1.
        leader_epoch: i32 = -1, 2..;
        /// The offset behind that epoch's last record, or -1.
        end_offset: i64 = -1, 2..;
    }

    /// Where epochs end in a topic.
    pub struct LeaderEpochTopicResponse<'a> {
        /// Its name.
        topic: &'a str = "", 2..;
        /// Its partitions.
        partitions: Vec<LeaderEpochPartitionResponse> = Vec::new(), 2..;
    }

    /// Where epochs end.
    pub struct OffsetForLeaderEpochResponse<'a> {
        /// Always 0: nobody is throttled.
        throttle_time_ms: i32 = 0, 2..;
        /// The topics.
        topics: Vec<LeaderEpochTopicResponse<'a>> = Vec::new(), 2..;
    }
}
