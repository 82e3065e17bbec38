//! AddOffsetsToTxn (25): put a group's offsets into a transaction.

wire! {
    /// Puts the offsets of a group into a transaction.
    pub struct AddOffsetsToTxnRequest<'a> {
        /// The transactional id.
        transactional_id: &'a str = "", 0..;
        /// The producer id.
        producer_id: i64 = 0, 0..;
        /// The epoch of the producer id.
        producer_epoch: i16 = 0, 0..;
        /// The group.
        group_id: &'a str = "", 0..;
    }

    /// Whether they are in it.
    pub struct AddOffsetsToTxnResponse {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
    }
}
