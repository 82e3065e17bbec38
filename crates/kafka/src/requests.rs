//! The one list of the APIs with the types of their requests, for whoever goes through all of them:
//! tests and fuzzing. Whoever matches on [`crate::api::Api`] with it is told of an API that it lacks.

/// Hands every API with the type of its request to a macro, as `Produce: ProduceRequest,` and so on.
#[macro_export]
macro_rules! each_request {
    ($act:ident) => {
        $act! {
            Produce: ProduceRequest,
            Fetch: FetchRequest,
            ListOffsets: ListOffsetsRequest,
            Metadata: MetadataRequest,
            ApiVersions: ApiVersionsRequest,
            OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
            FindCoordinator: FindCoordinatorRequest,
            JoinGroup: JoinGroupRequest,
            Heartbeat: HeartbeatRequest,
            LeaveGroup: LeaveGroupRequest,
            SyncGroup: SyncGroupRequest,
            OffsetCommit: OffsetCommitRequest,
            OffsetFetch: OffsetFetchRequest,
            OffsetDelete: OffsetDeleteRequest,
            ListGroups: ListGroupsRequest,
            DescribeGroups: DescribeGroupsRequest,
            DeleteGroups: DeleteGroupsRequest,
            InitProducerId: InitProducerIdRequest,
            AddPartitionsToTxn: AddPartitionsToTxnRequest,
            AddOffsetsToTxn: AddOffsetsToTxnRequest,
            EndTxn: EndTxnRequest,
            WriteTxnMarkers: WriteTxnMarkersRequest,
            TxnOffsetCommit: TxnOffsetCommitRequest,
            DescribeProducers: DescribeProducersRequest,
            DescribeTransactions: DescribeTransactionsRequest,
            ListTransactions: ListTransactionsRequest,
            SaslHandshake: SaslHandshakeRequest,
            SaslAuthenticate: SaslAuthenticateRequest,
            CreateTopics: CreateTopicsRequest,
            DeleteTopics: DeleteTopicsRequest,
            DeleteRecords: DeleteRecordsRequest,
            DescribeConfigs: DescribeConfigsRequest,
            AlterConfigs: AlterConfigsRequest,
            DescribeLogDirs: DescribeLogDirsRequest,
            CreatePartitions: CreatePartitionsRequest,
            IncrementalAlterConfigs: IncrementalAlterConfigsRequest,
            DescribeCluster: DescribeClusterRequest,
            DescribeTopicPartitions: DescribeTopicPartitionsRequest,
        }
    };
}
