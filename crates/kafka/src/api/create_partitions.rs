//! CreatePartitions (37): give topics more partitions (KIP-195).

wire! {
    /// The brokers of a new partition.
    pub struct PartitionAssignment {
        /// Ids of the brokers.
        broker_ids: Vec<i32> = Vec::new(), 0..;
    }

    /// A topic that is to have more partitions.
    pub struct CreatePartitionsTopic<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// How many partitions it is to have.
        count: i32 = 0, 0..;
        /// The brokers of the new partitions; null where the server chooses.
        assignments: Option<Vec<PartitionAssignment>> = Some(Vec::new()), 0..;
    }

    /// Gives topics more partitions.
    pub struct CreatePartitionsRequest<'a> {
        /// The topics.
        topics: Vec<CreatePartitionsTopic<'a>> = Vec::new(), 0..;
        /// How long to wait for it, in milliseconds.
        timeout_ms: i32 = 0, 0..;
        /// Whether to check only and change nothing.
        validate_only: bool = false, 0..;
    }

    /// What became of a topic.
    pub struct CreatePartitionsTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 0..;
    }

    /// What became of the topics.
    pub struct CreatePartitionsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What became of each.
        results: Vec<CreatePartitionsTopicResponse<'a>> = Vec::new(), 0..;
    }
}
