//! Which APIs are served, in which versions: the one list from which ApiVersions, the headers and
//! the counters follow. Each API's tables are in a file of its name. Fields that only brokers of a
//! cluster exchange (replica state, directory ids, node endpoints) are not in the tables; where a
//! peer sends them they are tagged and therefore skipped.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod describe_transactions;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sasl_authenticate;
mod sasl_handshake;
mod sync_group;
mod txn_offset_commit;
mod write_txn_markers;

pub use add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
pub use add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, TxnPartitionResponse, TxnPartitions,
    TxnPartitionsResponse, TxnTopic, TxnTopicResponse,
};
pub use alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
    AlterableConfig,
};
pub use api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
pub use create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResponse, PartitionAssignment,
};
pub use create_topics::{
    CreatableConfig, CreatableTopic, CreateTopicsRequest, CreateTopicsResponse, CreatedConfig,
    CreatedTopic, ReplicaAssignment,
};
pub use delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse, DeletedGroup};
pub use delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopic, DeleteRecordsTopicResponse,
};
pub use delete_topics::{DeletableTopic, DeleteTopicsRequest, DeleteTopicsResponse, DeletedTopic};
pub use describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
pub use describe_configs::{
    ConfigSynonym, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    DescribedConfig, DescribedResource,
};
pub use describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedMember,
};
pub use describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, LogDir, LogDirPartition, LogDirTopic,
    LogDirsTopic,
};
pub use describe_producers::{
    ActiveProducer, DescribeProducersPartitionResponse, DescribeProducersRequest,
    DescribeProducersResponse, DescribeProducersTopic, DescribeProducersTopicResponse,
};
pub use describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicPartitionsCursor,
    TopicPartitionsPartition, TopicPartitionsTopic, TopicPartitionsTopicResponse,
};
pub use describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, DescribedTransaction,
    TransactionTopic,
};
pub use end_txn::{EndTxnRequest, EndTxnResponse};
pub use fetch::{
    AbortedTransaction, EpochEnd, FetchPartition, FetchPartitionResponse, FetchRequest,
    FetchResponse, FetchTopic, FetchTopicResponse, ForgottenTopic,
};
pub use find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
pub use heartbeat::{HeartbeatRequest, HeartbeatResponse};
pub use incremental_alter_configs::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, IncrementalConfig,
    IncrementalResource, IncrementalResourceResponse,
};
pub use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub use join_group::{JoinGroupMember, JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
pub use leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, LeavingMember, LeavingMemberResponse,
};
pub use list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
pub use list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse, timestamps,
};
pub use list_transactions::{ListTransactionsRequest, ListTransactionsResponse, ListedTransaction};
pub use metadata::{
    MetadataBroker, MetadataPartition, MetadataRequest, MetadataRequestTopic, MetadataResponse,
    MetadataTopic, OPERATIONS_NOT_ASKED,
};
pub use offset_commit::{
    OffsetCommitPartition, OffsetCommitPartitionResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetCommitTopic, OffsetCommitTopicResponse,
};
pub use offset_delete::{
    OffsetDeletePartition, OffsetDeletePartitionResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetDeleteTopic, OffsetDeleteTopicResponse,
};
pub use offset_fetch::{
    OffsetFetchGroup, OffsetFetchGroupResponse, OffsetFetchPartitionResponse, OffsetFetchRequest,
    OffsetFetchResponse, OffsetFetchTopic, OffsetFetchTopicResponse,
};
pub use offset_for_leader_epoch::{
    LeaderEpochPartition, LeaderEpochPartitionResponse, LeaderEpochTopic, LeaderEpochTopicResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
pub use produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
    ProduceTopicResponse, RecordError,
};
pub use sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
pub use sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
pub use sync_group::{SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse};
pub use txn_offset_commit::{
    TxnOffsetCommitPartition, TxnOffsetCommitPartitionResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse, TxnOffsetCommitTopic, TxnOffsetCommitTopicResponse,
};
pub use write_txn_markers::{
    TxnMarker, TxnMarkerPartitionResponse, TxnMarkerResponse, TxnMarkerTopic,
    TxnMarkerTopicResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};

use std::ops::RangeInclusive;

macro_rules! apis {
    ($($(#[$meta:meta])* $name:ident = $key:literal, $versions:expr, flexible $flexible:expr;)*) => {
        /// An API of the protocol that is served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Api {
            $($(#[$meta])* $name,)*
        }

        impl Api {
            /// Every API that is served, in the order of their keys.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The API's number on the wire.
            pub const fn key(self) -> i16 {
                match self {
                    $(Self::$name => $key,)*
                }
            }

            /// The API with this number.
            pub const fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The versions that are served.
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $versions,)*
                }
            }

            /// Whether a version has compact lengths and tagged fields (KIP-482).
            pub const fn flexible(self, version: i16) -> bool {
                match self {
                    $(Self::$name => version >= $flexible,)*
                }
            }

            /// Kafka's name of the API.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

apis! {
    /// Append batches to partitions.
    Produce = 0, 3..=13, flexible 9;
    /// Read the batches of partitions, waiting for them if need be.
    Fetch = 1, 4..=18, flexible 12;
    /// Find the offset of an end or of a time.
    ListOffsets = 2, 1..=11, flexible 6;
    /// Brokers, topics and partitions.
    Metadata = 3, 0..=13, flexible 9;
    /// Store how far a group has read.
    OffsetCommit = 8, 2..=10, flexible 8;
    /// How far groups have read.
    OffsetFetch = 9, 1..=10, flexible 6;
    /// Which broker coordinates a group or a transactional id.
    FindCoordinator = 10, 0..=6, flexible 3;
    /// Become a member of a group, and wait until all its members have.
    JoinGroup = 11, 0..=9, flexible 6;
    /// A member of a group is alive.
    Heartbeat = 12, 0..=4, flexible 4;
    /// Take members out of a group.
    LeaveGroup = 13, 0..=5, flexible 4;
    /// The leader's division of the work, and each member's share.
    SyncGroup = 14, 0..=5, flexible 4;
    /// Groups and their members.
    DescribeGroups = 15, 0..=6, flexible 5;
    /// Which groups there are.
    ListGroups = 16, 0..=5, flexible 3;
    /// Choose how to authenticate.
    SaslHandshake = 17, 0..=1, flexible i16::MAX;
    /// Which APIs are served in which versions.
    ApiVersions = 18, 0..=4, flexible 3;
    /// Create topics.
    CreateTopics = 19, 2..=7, flexible 5;
    /// Delete topics.
    DeleteTopics = 20, 1..=6, flexible 4;
    /// Delete the records below an offset.
    DeleteRecords = 21, 0..=2, flexible 2;
    /// A producer id, and the taking over of a transactional id.
    InitProducerId = 22, 0..=5, flexible 2;
    /// Where a leader epoch ended, to detect truncation (KIP-320).
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4;
    /// Put partitions into a transaction.
    AddPartitionsToTxn = 24, 0..=5, flexible 3;
    /// Put a group's offsets into a transaction.
    AddOffsetsToTxn = 25, 0..=4, flexible 3;
    /// Commit or abort a transaction.
    EndTxn = 26, 0..=4, flexible 3;
    /// End transactions in partitions, whatever their coordinator says.
    WriteTxnMarkers = 27, 1..=1, flexible 1;
    /// Store how far a group has read, when the transaction commits.
    TxnOffsetCommit = 28, 0..=4, flexible 3;
    /// The settings of topics and brokers.
    DescribeConfigs = 32, 1..=4, flexible 4;
    /// Set all settings of topics anew.
    AlterConfigs = 33, 0..=2, flexible 2;
    /// Where partitions lie on disk and how large they are.
    DescribeLogDirs = 35, 1..=4, flexible 2;
    /// A step of the authentication.
    SaslAuthenticate = 36, 0..=2, flexible 2;
    /// Give topics more partitions.
    CreatePartitions = 37, 0..=3, flexible 2;
    /// Delete groups that have no members.
    DeleteGroups = 42, 0..=2, flexible 2;
    /// Change single settings of topics.
    IncrementalAlterConfigs = 44, 0..=1, flexible 1;
    /// Forget how far a group has read.
    OffsetDelete = 47, 0..=0, flexible i16::MAX;
    /// The brokers.
    DescribeCluster = 60, 0..=2, flexible 0;
    /// Who writes to partitions.
    DescribeProducers = 61, 0..=0, flexible 0;
    /// The state of transactions.
    DescribeTransactions = 65, 0..=0, flexible 0;
    /// Which transactions there are.
    ListTransactions = 66, 0..=1, flexible 0;
    /// Topics, so many partitions at a time.
    DescribeTopicPartitions = 75, 0..=0, flexible 0;
}

impl Api {
    /// The versions that ApiVersions lists. Produce is listed from 0 though served from 3, as Apache
    /// Kafka does: older librdkafka takes a larger start for a server that knows no compression
    /// (KAFKA-18659).
    pub const fn listed_versions(self) -> RangeInclusive<i16> {
        match self {
            Self::Produce => 0..=*self.versions().end(),
            _ => self.versions(),
        }
    }

    /// Place of the API in [`Api::ALL`], for arrays by API.
    pub const fn index(self) -> usize {
        self as usize
    }
}
