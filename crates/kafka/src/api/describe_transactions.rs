//! DescribeTransactions (65): the state of transactions (KIP-664).

wire! {
    /// Asks for transactions.
    pub struct DescribeTransactionsRequest<'a> {
        /// The transactional ids.
        transactional_ids: Vec<&'a str> = Vec::new(), 0..;
    }

    /// A topic and its partitions.
    pub struct TransactionTopic<'a> {
        /// Its name.
        topic: &'a str = "", 0..;
        /// The partitions.
        partitions: Vec<i32> = Vec::new(), 0..;
    }

    /// A transaction.
    pub struct DescribedTransaction<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// The transactional id.
        transactional_id: &'a str = "", 0..;
        /// Its state.
        transaction_state: &'a str = "", 0..;
        /// How long a transaction may be open, in milliseconds.
        transaction_timeout_ms: i32 = 0, 0..;
        /// When it began, in milliseconds since 1970.
        transaction_start_time_ms: i64 = 0, 0..;
        /// The producer id.
        producer_id: i64 = 0, 0..;
        /// The epoch of the producer id.
        producer_epoch: i16 = 0, 0..;
        /// The topics.
        topics: Vec<TransactionTopic<'a>> = Vec::new(), 0..;
    }

    /// The transactions.
    pub struct DescribeTransactionsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// The transactions.
        transaction_states: Vec<DescribedTransaction<'a>> = Vec::new(), 0..;
    }
}
