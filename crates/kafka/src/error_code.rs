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
    /// A stored batch does not pass its checks.
    CorruptMessage = 2, "CORRUPT_MESSAGE";
    /// No such topic or partition.
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION";
    /// The partition has no leader at this moment.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE";
    /// Another node leads the partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER";
    /// The metadata of a committed offset is too large.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE";
    /// The coordinator is still reading its table.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS";
    /// The coordinator cannot serve at this moment; the client asks again.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE";
    /// The name cannot be that of a topic.
    InvalidTopic = 17, "INVALID_TOPIC_EXCEPTION";
    /// The generation of the group is another one.
    IllegalGeneration = 22, "ILLEGAL_GENERATION";
    /// The member shares no protocol with the group.
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL";
    /// The name cannot be that of a group.
    InvalidGroupId = 24, "INVALID_GROUP_ID";
    /// The group has no such member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID";
    /// The session timeout lies outside what the server allows.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT";
    /// The group is rebalancing: the member joins again.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS";
    /// A commit is larger than the server takes.
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE";
    /// The client may not do that with the topic.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED";
    /// The client may not do that with the group.
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED";
    /// The version of the request is not served.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION";
    /// The request makes no sense.
    InvalidRequest = 42, "INVALID_REQUEST";
    /// The disk under the partition failed.
    StorageError = 56, "KAFKA_STORAGE_ERROR";
    /// The group has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP";
    /// There is no such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND";
    /// The fetch session is not known.
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND";
    /// The leader epoch of the client is older than ours.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH";
    /// The leader epoch of the client is newer than ours.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH";
    /// The member joins again with the id that it is given (KIP-394).
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED";
    /// The group has as many members as it may.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED";
    /// Another member has taken over the static instance id (KIP-345).
    FencedInstanceId = 82, "FENCED_INSTANCE_ID";
    /// Members of the group still read the topic.
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC";
    /// An open transaction may still commit this offset (KIP-447).
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT";
    /// No topic has this id.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID";
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
