//! DescribeTopicPartitions (75): topics, so many partitions at a time (KIP-966).

use crate::Uuid;

wire! {
    /// Where an answer ended and the next begins.
    pub struct TopicPartitionsCursor<'a> {
        /// The topic.
        topic_name: &'a str = "", 0..;
        /// The partition in it.
        partition_index: i32 = 0, 0..;
    }

    /// A topic that is asked for.
    pub struct TopicPartitionsTopic<'a> {
        /// Its name.
        name: &'a str = "", 0..;
    }

    /// Asks for topics, so many partitions at a time.
    pub struct DescribeTopicPartitionsRequest<'a> {
        /// The topics; all where empty.
        topics: Vec<TopicPartitionsTopic<'a>> = Vec::new(), 0..;
        /// At most this many partitions in the answer.
        response_partition_limit: i32 = 2000, 0..;
        /// Where to begin; null at the first.
        cursor: Option<TopicPartitionsCursor<'a>> = None, 0..;
    }

    /// A partition of a topic.
    pub struct TopicPartitionsPartition {
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// The broker that leads it.
        leader_id: i32 = 0, 0..;
        /// The epoch of its leader.
        leader_epoch: i32 = -1, 0..;
        /// All brokers that hold it.
        replica_nodes: Vec<i32> = Vec::new(), 0..;
        /// Those of them in sync.
        isr_nodes: Vec<i32> = Vec::new(), 0..;
        /// Those that may become leader though not in sync (KIP-966).
        eligible_leader_replicas: Option<Vec<i32>> = None, 0..;
        /// Those that last were eligible.
        last_known_elr: Option<Vec<i32>> = None, 0..;
        /// Those of them that are offline.
        offline_replicas: Vec<i32> = Vec::new(), 0..;
    }

    /// A topic.
    pub struct TopicPartitionsTopicResponse<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// Its name.
        name: Option<&'a str> = Some(""), 0..;
        /// Its id.
        topic_id: Uuid = [0; 16], 0..;
        /// Whether it is the server's own.
        is_internal: bool = false, 0..;
        /// The partitions.
        partitions: Vec<TopicPartitionsPartition> = Vec::new(), 0..;
        /// What the client may do with the topic, a bit for each of Kafka's operations.
        topic_authorized_operations: i32 = super::OPERATIONS_NOT_ASKED, 0..;
    }

    /// The topics.
    pub struct DescribeTopicPartitionsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// The topics.
        topics: Vec<TopicPartitionsTopicResponse<'a>> = Vec::new(), 0..;
        /// Where the next answer begins; null when all was told.
        next_cursor: Option<TopicPartitionsCursor<'a>> = None, 0..;
    }
}

nullable!(TopicPartitionsCursor);
