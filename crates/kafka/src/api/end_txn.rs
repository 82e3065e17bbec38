//! EndTxn (26): commit or abort a transaction.

wire! {
    /// Commits or aborts a transaction.
    pub struct EndTxnRequest<'a> {
        /// The transactional id.
        transactional_id: &'a str = "", 0..;
        /// The producer id.
        producer_id: i64 = 0, 0..;
        /// The epoch of the producer id.
        producer_epoch: i16 = 0, 0..;
        /// Whether it commits; otherwise it aborts.
        committed: bool = false, 0..;
    }

    /// Whether it is ended.
    pub struct EndTxnResponse {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// The producer id.
        producer_id: i64 = -1, 5..;
        /// The epoch of the producer id.
        producer_epoch: i16 = -1, 5..;
    }
}
