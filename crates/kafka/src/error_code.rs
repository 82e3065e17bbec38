//! Kafka's error codes: those that we send, and those that our own client meets.

macro_rules! error_codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $kafka:literal;)*) => {
        /// An error code of the protocol. Numbers and names are Kafka's
        /// (`org.apache.kafka.common.protocol.Errors`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i16)]
        pub enum ErrorCode {
            $($(#[$meta])* $name = $code,)*
        }

        impl ErrorCode {
            /// Every code known here.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Kafka's name of the code, as its documentation spells it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $kafka,)*
                }
            }

            /// The code with this number, if it is one that we know.
            pub const fn from_i16(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    /// An error of the server that no other code describes.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR";
    /// No error.
    None = 0, "NONE";
    /// The offset lies outside what the partition holds.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE";
    /// A batch does not pass its checks.
    CorruptMessage = 2, "CORRUPT_MESSAGE";
    /// No such topic or partition.
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION";
    /// The partition has no leader at this moment.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE";
    /// Another node leads the partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER";
    /// It took longer than the client waits.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT";
    /// A batch is larger than the topic takes.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE";
    /// The words stored with an offset are too long.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE";
    /// The coordinator still reads what it knew before a restart; try again.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS";
    /// There is no coordinator at this moment; try again.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE";
    /// Another node is the coordinator.
    NotCoordinator = 16, "NOT_COORDINATOR";
    /// The name cannot be that of a topic, or the topic cannot be used for this.
    InvalidTopic = 17, "INVALID_TOPIC_EXCEPTION";
    /// The batches together are larger than the server takes.
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE";
    /// Too few replicas are in sync.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS";
    /// Acks is none of 0, 1 and -1.
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS";
    /// The generation is not that of the group.
    IllegalGeneration = 22, "ILLEGAL_GENERATION";
    /// The member supports no protocol that all members support.
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL";
    /// The name cannot be that of a group.
    InvalidGroupId = 24, "INVALID_GROUP_ID";
    /// The group has no such member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID";
    /// The session timeout lies outside the bounds of the server.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT";
    /// The group rebalances; join again.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS";
    /// The offset cannot be stored.
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE";
    /// The client may not do that with the topic.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED";
    /// The client may not do that with the group.
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED";
    /// The client may not do that with the cluster.
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED";
    /// The timestamp of a record lies outside the bounds of the topic.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP";
    /// The mechanism is not one of the server's.
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM";
    /// This step of the authentication is not the one that is due.
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE";
    /// The version of the request, or something in it, is not served.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION";
    /// There is a topic of this name.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS";
    /// The number of partitions is impossible.
    InvalidPartitions = 37, "INVALID_PARTITIONS";
    /// The number of replicas is impossible.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR";
    /// The assignment of replicas is impossible.
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT";
    /// The setting is not known or its value is impossible.
    InvalidConfig = 40, "INVALID_CONFIG";
    /// Another node is the controller.
    NotController = 41, "NOT_CONTROLLER";
    /// The request makes no sense.
    InvalidRequest = 42, "INVALID_REQUEST";
    /// The batch is of a format that is not stored.
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT";
    /// The server's rules forbid it.
    PolicyViolation = 44, "POLICY_VIOLATION";
    /// The sequence number is not the one that is due.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER";
    /// The batch was appended before.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER";
    /// The epoch of the producer is old.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH";
    /// The transaction is not in a state for this.
    InvalidTxnState = 48, "INVALID_TXN_STATE";
    /// The producer id is not that of the transactional id.
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING";
    /// The transaction timeout is longer than the server allows.
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT";
    /// The transaction is being ended; try again.
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS";
    /// A newer coordinator has written a marker.
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED";
    /// The client may not use the transactional id.
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED";
    /// The listener does not authenticate.
    SecurityDisabled = 54, "SECURITY_DISABLED";
    /// Something else in the request failed, so this was not tried.
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED";
    /// The disk under the partition failed or is full.
    StorageError = 56, "KAFKA_STORAGE_ERROR";
    /// Name and password, or what stands for them, are not right.
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED";
    /// The partition does not know the producer id.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID";
    /// The group has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP";
    /// There is no such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND";
    /// The fetch session is not known.
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND";
    /// The epoch of the fetch session is not the one that is due.
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH";
    /// Topics cannot be deleted.
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED";
    /// The leader epoch of the client is older than ours.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH";
    /// The leader epoch of the client is newer than ours.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH";
    /// The compression is not known.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE";
    /// The offset cannot be told at this moment; try again.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE";
    /// The member is to join again with the id in this answer (KIP-394).
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED";
    /// The group has as many members as it may.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED";
    /// Another member has taken the static member's name (KIP-345).
    FencedInstanceId = 82, "FENCED_INSTANCE_ID";
    /// The group reads the topic, so its offsets stay (KIP-496).
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC";
    /// A record cannot be taken.
    InvalidRecord = 87, "INVALID_RECORD";
    /// A transaction over the offset is open; try again (KIP-447).
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT";
    /// The client has spent its quota.
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED";
    /// A newer producer has the transactional id.
    ProducerFenced = 90, "PRODUCER_FENCED";
    /// There is no such thing.
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND";
    /// The request names the same thing twice.
    DuplicateResource = 92, "DUPLICATE_RESOURCE";
    /// The credential cannot be stored.
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL";
    /// No topic has this id.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID";
    /// The topic's id is not the one in the request.
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID";
    /// There is no such transactional id.
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND";
    /// The request was sent to an endpoint of the wrong type.
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE";
    /// There is no endpoint of this type.
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE";
    /// The transaction can only be aborted (KIP-890).
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE";
    /// The regular expression is not valid.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    /// Whether this is an error at all.
    pub const fn is_error(self) -> bool {
        !matches!(self, Self::None)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.as_i16()
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} ({})", self.name(), self.as_i16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_oracle() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_i16(code.as_i16()), Some(code));
            if code == ErrorCode::None {
                continue;
            }
            let oracle = kafka_protocol::ResponseError::try_from_code(code.as_i16()).unwrap();
            let squeezed: String = code.name().replace('_', "").to_lowercase();
            let oracle = format!("{oracle:?}").to_lowercase();
            assert!(
                squeezed.starts_with(&oracle),
                "{oracle} is named {squeezed}"
            );
        }
        assert_eq!(ErrorCode::from_i16(1000), None);
    }
}
