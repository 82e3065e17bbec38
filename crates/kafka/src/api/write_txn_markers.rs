//! WriteTxnMarkers (27): end transactions in partitions; what a coordinator on another broker sends,
//! and an operator who aborts a hanging transaction (KIP-664).

wire! {
    /// A topic and its partitions.
    pub struct TxnMarkerTopic<'a> {
        /// Its name.
        name: &'a str = "", 1..;
        /// Numbers of the partitions.
        partition_indexes: Vec<i32> = Vec::new(), 1..;
    }

    /// The end of a producer's transaction.
    pub struct TxnMarker<'a> {
        /// The producer id.
        producer_id: i64 = 0, 1..;
        /// The epoch of the producer id.
        producer_epoch: i16 = 0, 1..;
        /// Whether the transaction commits; otherwise it aborts.
        transaction_result: bool = false, 1..;
        /// The topics.
        topics: Vec<TxnMarkerTopic<'a>> = Vec::new(), 1..;
        /// The epoch of the transaction's coordinator.
        coordinator_epoch: i32 = 0, 1..;
    }

    /// Ends transactions in partitions.
    pub struct WriteTxnMarkersRequest<'a> {
        /// The markers.
        markers: Vec<TxnMarker<'a>> = Vec::new(), 1..;
    }

    /// What became of a partition's marker.
    pub struct TxnMarkerPartitionResponse {
        /// Its number in the topic.
        partition_index: i32 = 0, 1..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 1..;
    }

    /// What became of a topic's markers.
    pub struct TxnMarkerTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 1..;
        /// The partitions.
        partitions: Vec<TxnMarkerPartitionResponse> = Vec::new(), 1..;
    }

    /// What became of the markers of a producer.
    pub struct TxnMarkerResponse<'a> {
        /// The producer id.
        producer_id: i64 = 0, 1..;
        /// The topics.
        topics: Vec<TxnMarkerTopicResponse<'a>> = Vec::new(), 1..;
    }

    /// What became of the markers.
    pub struct WriteTxnMarkersResponse<'a> {
        /// The markers.
        markers: Vec<TxnMarkerResponse<'a>> = Vec::new(), 1..;
    }
}
