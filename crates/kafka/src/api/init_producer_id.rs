//! InitProducerId (22): a producer id, and for a transactional id its next epoch, which fences
//! whoever had it before (KIP-98, KIP-360).

wire! {
    /// Asks for a producer id, and takes over a transactional id.
    pub struct InitProducerIdRequest<'a> {
        /// The transactional id; null for a producer that is idempotent only.
        transactional_id: Option<&'a str> = Some(""), 0..;
        /// How long a transaction may be open, in milliseconds.
        transaction_timeout_ms: i32 = 0, 0..;
        /// The producer id that the client has, or -1 (KIP-360).
        producer_id: i64 = -1, 3..;
        /// The epoch that the client has, or -1.
        producer_epoch: i16 = -1, 3..;
    }

    /// The producer id and its epoch.
    pub struct InitProducerIdResponse {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// The producer id.
        producer_id: i64 = -1, 0..;
        /// The epoch of the producer id.
        producer_epoch: i16 = 0, 0..;
    }
}
