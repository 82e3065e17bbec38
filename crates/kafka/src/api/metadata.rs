//! Metadata (3): brokers, topics and partitions. Topic ids since version 10 (KIP-516); asking by id
//! alone since version 12.

use crate::Uuid;

/// The bit field of operations where they were not asked for.
pub const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

wire! {
    /// Asks for topics.
    pub struct MetadataRequest<'a> {
        /// The topics; null asks for all, and so does an empty list in version 0.
        topics: Option<Vec<MetadataRequestTopic<'a>>> = Some(Vec::new()), 0.., null 1..;
        /// Whether topics that are not there may be created.
        allow_auto_topic_creation: bool = true, 4..;
        /// Whether to tell what the client may do with the cluster.
        include_cluster_authorized_operations: bool = false, 8..=10;
        /// Whether to tell what the client may do with each topic.
        include_topic_authorized_operations: bool = false, 8..;
    }

    /// A topic that is asked for, by id or by name.
    pub struct MetadataRequestTopic<'a> {
        /// Its id, or zeros.
        topic_id: Uuid = [0; 16], 10..;
        /// Its name; null when it is asked for by id.
        name: Option<&'a str> = Some(""), 0.., null 10..;
    }

    /// A broker.
    pub struct MetadataBroker<'a> {
        /// Its id.
        node_id: i32 = 0, 0..;
        /// Where clients reach it.
        host: &'a str = "", 0..;
        /// Where clients reach it.
        port: i32 = 0, 0..;
        /// Its rack.
        rack: Option<&'a str> = None, 1..;
    }

    /// A partition of a topic.
    pub struct MetadataPartition {
        /// What is wrong with the partition.
        error_code: i16 = 0, 0..;
        /// Its number in the topic.
        partition_index: i32 = 0, 0..;
        /// The broker that leads it.
        leader_id: i32 = 0, 0..;
        /// The epoch of its leader.
        leader_epoch: i32 = -1, 7..;
        /// All brokers that hold it.
        replica_nodes: Vec<i32> = Vec::new(), 0..;
        /// Those of them in sync.
        isr_nodes: Vec<i32> = Vec::new(), 0..;
        /// Those of them that are offline.
        offline_replicas: Vec<i32> = Vec::new(), 5..;
    }

    /// A topic.
    pub struct MetadataTopic<'a> {
        /// What is wrong with the topic.
        error_code: i16 = 0, 0..;
        /// Its name; null where an unknown id was asked for.
        name: Option<&'a str> = Some(""), 0.., null 12..;
        /// Its id.
        topic_id: Uuid = [0; 16], 10..;
        /// Whether it is the server's own.
        is_internal: bool = false, 1..;
        /// Its partitions.
        partitions: Vec<MetadataPartition> = Vec::new(), 0..;
        /// What the client may do with it, a bit for each of Kafka's operations.
        topic_authorized_operations: i32 = OPERATIONS_NOT_ASKED, 8..;
    }

    /// Brokers and topics.
    pub struct MetadataResponse<'a> {
        /// Always 0: nobody is throttled.
        throttle_time_ms: i32 = 0, 3..;
        /// The brokers.
        brokers: Vec<MetadataBroker<'a>> = Vec::new(), 0..;
        /// Name of the cluster.
        cluster_id: Option<&'a str> = None, 2..;
        /// The broker that is controller.
        controller_id: i32 = -1, 1..;
        /// The topics.
        topics: Vec<MetadataTopic<'a>> = Vec::new(), 0..;
        /// What the client may do with the cluster, a bit for each of Kafka's operations.
        cluster_authorized_operations: i32 = OPERATIONS_NOT_ASKED, 8..=10;
        /// What is wrong with the request as a whole.
        error_code: i16 = 0, 13..;
    }
}
