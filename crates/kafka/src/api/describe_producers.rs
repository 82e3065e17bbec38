//! DescribeProducers (61): the idempotent and transactional producers that partitions know
//! (KIP-664).

wire! {
    /// A topic and its partitions.
    pub struct DescribeProducersTopic<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// Numbers of the partitions.
        partition_indexes: Vec<i32> = Vec::new(), 0..;
    }

    /// Asks who writes to partitions.
    pub struct DescribeProducersRequest<'a> {
        /// The topics.
        topics: Vec<DescribeProducersTopic<'a>> = Vec::new(), 0..;
    }

    /// A producer that a partition knows.
    pub struct ActiveProducer {
        /// The producer id.
        producer_id: i64 = 0, 0..;
        /// The epoch of the producer id.
        producer_epoch: i32 = 0, 0..;
        /// The sequence number of its last record, or -1.
        last_sequence: i32 = -1, 0..;
        /// The time of its last batch, in milliseconds, or -1.
        last_timestamp: i64 = -1, 0..;
        /// The epoch of the transaction's coordinator.
        coordinator_epoch: i32 = 0, 0..;
        /// The first offset of its open transaction, or -1.
        current_txn_start_offset: i64 = -1, 0..;
    }

    /// Who writes to a partition.
    pub struct DescribeProducersPartitionResponse<'a> {
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 0..;
        /// The producers.
        active_producers: Vec<ActiveProducer> = Vec::new(), 0..;
    }

    /// Who writes to a topic.
    pub struct DescribeProducersTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<DescribeProducersPartitionResponse<'a>> = Vec::new(), 0..;
    }

    /// Who writes to the partitions.
    pub struct DescribeProducersResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// The topics.
        topics: Vec<DescribeProducersTopicResponse<'a>> = Vec::new(), 0..;
    }
}
