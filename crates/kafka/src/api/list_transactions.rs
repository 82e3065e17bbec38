//! ListTransactions (66): which transactions there are (KIP-664).

wire! {
    /// Asks which transactions there are.
    pub struct ListTransactionsRequest<'a> {
        /// Only transactions in these states; all where empty.
        state_filters: Vec<&'a str> = Vec::new(), 0..;
        /// Only transactions of these producers; all where empty.
        producer_id_filters: Vec<i64> = Vec::new(), 0..;
        /// Only transactions that are open for longer, in milliseconds; all where below zero.
        duration_filter: i64 = -1, 1..;
        /// Only transactional ids that match this pattern.
        transactional_id_pattern: Option<&'a str> = None, 2..;
    }

    /// A transaction.
    pub struct ListedTransaction<'a> {
        /// The transactional id.
        transactional_id: &'a str = "", 0..;
        /// The producer id.
        producer_id: i64 = 0, 0..;
        /// Its state.
        transaction_state: &'a str = "", 0..;
    }

    /// The transactions.
    pub struct ListTransactionsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// Those of the states asked for that there are not.
        unknown_state_filters: Vec<&'a str> = Vec::new(), 0..;
        /// The transactions.
        transaction_states: Vec<ListedTransaction<'a>> = Vec::new(), 0..;
    }
}
