//! AddPartitionsToTxn (24): put partitions into a transaction. Versions 4 and 5 have many
//! transactions in one request, for brokers (KIP-890).

wire! {
    /// A topic and its partitions.
    pub struct TxnTopic<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<i32> = Vec::new(), 0..;
    }

    /// The partitions of one transaction.
    pub struct TxnPartitions<'a> {
        /// The transactional id.
        transactional_id: &'a str = "", 4..;
        /// The producer id.
        producer_id: i64 = 0, 4..;
        /// The epoch of the producer id.
        producer_epoch: i16 = 0, 4..;
        /// Whether to ask only if the partitions are in the transaction.
        verify_only: bool = false, 4..;
        /// The topics.
        topics: Vec<TxnTopic<'a>> = Vec::new(), 4..;
    }

    /// Puts partitions into a transaction before they are written.
    pub struct AddPartitionsToTxnRequest<'a> {
        /// The transactions.
        transactions: Vec<TxnPartitions<'a>> = Vec::new(), 4..;
        /// The transactional id.
        transactional_id: &'a str = "", 0..=3;
        /// The producer id.
        producer_id: i64 = 0, 0..=3;
        /// The epoch of the producer id.
        producer_epoch: i16 = 0, 0..=3;
        /// The topics.
        topics: Vec<TxnTopic<'a>> = Vec::new(), 0..=3;
    }

    /// What became of a partition.
    pub struct TxnPartitionResponse {
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
    }

    /// What became of a topic's partitions.
    pub struct TxnTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// What became of each partition.
        results_by_partition: Vec<TxnPartitionResponse> = Vec::new(), 0..;
    }

    /// What became of the partitions of one transaction.
    pub struct TxnPartitionsResponse<'a> {
        /// The transactional id.
        transactional_id: &'a str = "", 4..;
        /// What became of each topic.
        topic_results: Vec<TxnTopicResponse<'a>> = Vec::new(), 4..;
    }

    /// What became of the partitions.
    pub struct AddPartitionsToTxnResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 4..;
        /// What became of each transaction.
        results_by_transaction: Vec<TxnPartitionsResponse<'a>> = Vec::new(), 4..;
        /// What became of each topic.
        results_by_topic: Vec<TxnTopicResponse<'a>> = Vec::new(), 0..=3;
    }
}
