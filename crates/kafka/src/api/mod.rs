//! Which APIs are served, in which versions: the one list from which ApiVersions, the headers and
//! the counters follow. Each API's tables are in a file of its name. Fields that only brokers of a
//! cluster exchange (replica state, directory ids, node endpoints) are not in the tables; where a
//! peer sends them they are tagged and therefore skipped.

mod api_versions;
mod fetch;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

pub use api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
pub use fetch::{
    AbortedTransaction, EpochEnd, FetchPartition, FetchPartitionResponse, FetchRequest,
    FetchResponse, FetchTopic, FetchTopicResponse, ForgottenTopic,
};
pub use list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse, timestamps,
};
pub use metadata::{
    MetadataBroker, MetadataPartition, MetadataRequest, MetadataRequestTopic, MetadataResponse,
    MetadataTopic, OPERATIONS_NOT_ASKED,
};
pub use offset_for_leader_epoch::{
    LeaderEpochPartition, LeaderEpochPartitionResponse, LeaderEpochTopic, LeaderEpochTopicResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

pub use produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
    ProduceTopicResponse, RecordError,
};

use std::ops::RangeInclusive;

macro_rules! apis {
    ($($(#[$meta:meta])* $name:ident = $key:literal, $versions:expr, flexible $flexible:literal;)*) => {
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
    Produce = 0, 3..=11, flexible 9;
    /// Read the batches of partitions, waiting for them if need be.
    Fetch = 1, 4..=18, flexible 12;
    /// Find the offset of an end or of a time.
    ListOffsets = 2, 1..=11, flexible 6;
    /// Brokers, topics and partitions.
    Metadata = 3, 0..=13, flexible 9;
    /// Which APIs are served in which versions.
    ApiVersions = 18, 0..=4, flexible 3;
    /// Where a leader epoch ended, to detect truncation (KIP-320).
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4;
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
