//! CreateTopics (19): create topics.

use crate::Uuid;

wire! {
    /// The brokers of a partition.
    pub struct ReplicaAssignment {
        /// Its number in the topic.
        partition_index: i32 = 0, 2..;
        /// Ids of the brokers.
        broker_ids: Vec<i32> = Vec::new(), 2..;
    }

    /// A setting of a topic to be created.
    pub struct CreatableConfig<'a> {
        /// Its name.
        name: &'a str = "", 2..;
        /// Its value; null where it has none.
        value: Option<&'a str> = Some(""), 2..;
    }

    /// A topic to be created.
    pub struct CreatableTopic<'a> {
        /// Its name.
        name: &'a str = "", 2..;
        /// How many partitions it has; -1 for the server's setting.
        num_partitions: i32 = 0, 2..;
        /// How many brokers hold a partition; -1 for the server's setting.
        replication_factor: i16 = 0, 2..;
        /// The brokers of each partition; empty where the server chooses.
        assignments: Vec<ReplicaAssignment> = Vec::new(), 2..;
        /// Its settings.
        configs: Vec<CreatableConfig<'a>> = Vec::new(), 2..;
    }

    /// Creates topics.
    pub struct CreateTopicsRequest<'a> {
        /// The topics.
        topics: Vec<CreatableTopic<'a>> = Vec::new(), 2..;
        /// How long to wait for it, in milliseconds.
        timeout_ms: i32 = 60000, 2..;
        /// Whether to check only and change nothing.
        validate_only: bool = false, 2..;
    }

    /// A setting of the topic that was created.
    pub struct CreatedConfig<'a> {
        /// Its name.
        name: &'a str = "", 5..;
        /// Its value; null where it has none.
        value: Option<&'a str> = Some(""), 5..;
        /// Whether it cannot be changed.
        read_only: bool = false, 5..;
        /// Where its value comes from.
        config_source: i8 = -1, 5..;
        /// Whether its value is secret.
        is_sensitive: bool = false, 5..;
    }

    /// What became of a topic.
    pub struct CreatedTopic<'a> {
        /// Its name.
        name: &'a str = "", 2..;
        /// Its id.
        topic_id: Uuid = [0; 16], 7..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 2..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 2..;
        /// How many partitions it has.
        num_partitions: i32 = -1, 5..;
        /// How many brokers hold a partition: 1.
        replication_factor: i16 = -1, 5..;
        /// Its settings; null where the client may not see them.
        configs: Option<Vec<CreatedConfig<'a>>> = Some(Vec::new()), 5..;
    }

    /// What became of the topics.
    pub struct CreateTopicsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 2..;
        /// The topics.
        topics: Vec<CreatedTopic<'a>> = Vec::new(), 2..;
    }
}
