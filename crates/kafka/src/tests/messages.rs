//! The messages of groups, transactions, authentication and administration in every version
//! against the oracle.

use super::{Dice, Roll, body_bytes, oracle};
use crate::api::*;
use crate::{Reader, Wire};
use proptest::prelude::*;

against_the_oracle! {
    find_coordinator_requests: FindCoordinator, FindCoordinatorRequest, find_coordinator_request,
        oracle up to 6;
    find_coordinator_responses: FindCoordinator, FindCoordinatorResponse, find_coordinator_response,
        oracle up to 6;
    join_group_requests: JoinGroup, JoinGroupRequest, join_group_request, oracle up to 9;
    join_group_responses: JoinGroup, JoinGroupResponse, join_group_response, oracle up to 9;
    heartbeat_requests: Heartbeat, HeartbeatRequest, heartbeat_request, oracle up to 4;
    heartbeat_responses: Heartbeat, HeartbeatResponse, heartbeat_response, oracle up to 4;
    leave_group_requests: LeaveGroup, LeaveGroupRequest, leave_group_request, oracle up to 5;
    leave_group_responses: LeaveGroup, LeaveGroupResponse, leave_group_response, oracle up to 5;
    sync_group_requests: SyncGroup, SyncGroupRequest, sync_group_request, oracle up to 5;
    sync_group_responses: SyncGroup, SyncGroupResponse, sync_group_response, oracle up to 5;
    offset_commit_requests: OffsetCommit, OffsetCommitRequest, offset_commit_request,
        oracle up to 9 without 10;
    offset_commit_responses: OffsetCommit, OffsetCommitResponse, offset_commit_response,
        oracle up to 10;
    offset_fetch_requests: OffsetFetch, OffsetFetchRequest, offset_fetch_request,
        oracle up to 9 without 10;
    offset_fetch_responses: OffsetFetch, OffsetFetchResponse, offset_fetch_response,
        oracle up to 10;
    offset_delete_requests: OffsetDelete, OffsetDeleteRequest, offset_delete_request,
        oracle up to 0;
    offset_delete_responses: OffsetDelete, OffsetDeleteResponse, offset_delete_response,
        oracle up to 0;
    list_groups_requests: ListGroups, ListGroupsRequest, list_groups_request, oracle up to 5;
    list_groups_responses: ListGroups, ListGroupsResponse, list_groups_response, oracle up to 5;
    describe_groups_requests: DescribeGroups, DescribeGroupsRequest, describe_groups_request,
        oracle up to 6;
    describe_groups_responses: DescribeGroups, DescribeGroupsResponse, describe_groups_response,
        oracle up to 6;
    delete_groups_requests: DeleteGroups, DeleteGroupsRequest, delete_groups_request,
        oracle up to 2;
    delete_groups_responses: DeleteGroups, DeleteGroupsResponse, delete_groups_response,
        oracle up to 2;
    init_producer_id_requests: InitProducerId, InitProducerIdRequest, init_producer_id_request,
        oracle up to 5;
    init_producer_id_responses: InitProducerId, InitProducerIdResponse, init_producer_id_response,
        oracle up to 6;
    add_partitions_to_txn_requests: AddPartitionsToTxn, AddPartitionsToTxnRequest, add_partitions_to_txn_request,
        oracle up to 5;
    add_partitions_to_txn_responses: AddPartitionsToTxn, AddPartitionsToTxnResponse, add_partitions_to_txn_response,
        oracle up to 5;
    add_offsets_to_txn_requests: AddOffsetsToTxn, AddOffsetsToTxnRequest, add_offsets_to_txn_request,
        oracle up to 4;
    add_offsets_to_txn_responses: AddOffsetsToTxn, AddOffsetsToTxnResponse, add_offsets_to_txn_response,
        oracle up to 4;
    end_txn_requests: EndTxn, EndTxnRequest, end_txn_request, oracle up to 5;
    end_txn_responses: EndTxn, EndTxnResponse, end_txn_response, oracle up to 5;
    write_txn_markers_requests: WriteTxnMarkers, WriteTxnMarkersRequest, write_txn_markers_request,
        oracle up to 1;
    write_txn_markers_responses: WriteTxnMarkers, WriteTxnMarkersResponse, write_txn_markers_response,
        oracle up to 1;
    txn_offset_commit_requests: TxnOffsetCommit, TxnOffsetCommitRequest, txn_offset_commit_request,
        oracle up to 5;
    txn_offset_commit_responses: TxnOffsetCommit, TxnOffsetCommitResponse, txn_offset_commit_response,
        oracle up to 5;
    describe_producers_requests: DescribeProducers, DescribeProducersRequest, describe_producers_request,
        oracle up to 0;
    describe_producers_responses: DescribeProducers, DescribeProducersResponse, describe_producers_response,
        oracle up to 0;
    describe_transactions_requests: DescribeTransactions, DescribeTransactionsRequest, describe_transactions_request,
        oracle up to 0;
    describe_transactions_responses: DescribeTransactions, DescribeTransactionsResponse, describe_transactions_response,
        oracle up to 0;
    list_transactions_requests: ListTransactions, ListTransactionsRequest, list_transactions_request,
        oracle up to 2;
    list_transactions_responses: ListTransactions, ListTransactionsResponse, list_transactions_response,
        oracle up to 2;
    sasl_handshake_requests: SaslHandshake, SaslHandshakeRequest, sasl_handshake_request,
        oracle up to 1;
    sasl_handshake_responses: SaslHandshake, SaslHandshakeResponse, sasl_handshake_response,
        oracle up to 1;
    sasl_authenticate_requests: SaslAuthenticate, SaslAuthenticateRequest, sasl_authenticate_request,
        oracle up to 2;
    sasl_authenticate_responses: SaslAuthenticate, SaslAuthenticateResponse, sasl_authenticate_response,
        oracle up to 2;
    create_topics_requests: CreateTopics, CreateTopicsRequest, create_topics_request,
        oracle up to 7;
    create_topics_responses: CreateTopics, CreateTopicsResponse, create_topics_response,
        oracle up to 7;
    delete_topics_requests: DeleteTopics, DeleteTopicsRequest, delete_topics_request,
        oracle up to 6;
    delete_topics_responses: DeleteTopics, DeleteTopicsResponse, delete_topics_response,
        oracle up to 6;
    delete_records_requests: DeleteRecords, DeleteRecordsRequest, delete_records_request,
        oracle up to 2;
    delete_records_responses: DeleteRecords, DeleteRecordsResponse, delete_records_response,
        oracle up to 2;
    describe_configs_requests: DescribeConfigs, DescribeConfigsRequest, describe_configs_request,
        oracle up to 4;
    describe_configs_responses: DescribeConfigs, DescribeConfigsResponse, describe_configs_response,
        oracle up to 4;
    alter_configs_requests: AlterConfigs, AlterConfigsRequest, alter_configs_request,
        oracle up to 2;
    alter_configs_responses: AlterConfigs, AlterConfigsResponse, alter_configs_response,
        oracle up to 2;
    describe_log_dirs_requests: DescribeLogDirs, DescribeLogDirsRequest, describe_log_dirs_request,
        oracle up to 4;
    describe_log_dirs_responses: DescribeLogDirs, DescribeLogDirsResponse, describe_log_dirs_response,
        oracle up to 4;
    create_partitions_requests: CreatePartitions, CreatePartitionsRequest, create_partitions_request,
        oracle up to 3;
    create_partitions_responses: CreatePartitions, CreatePartitionsResponse, create_partitions_response,
        oracle up to 3;
    incremental_alter_configs_requests: IncrementalAlterConfigs, IncrementalAlterConfigsRequest, incremental_alter_configs_request,
        oracle up to 1;
    incremental_alter_configs_responses: IncrementalAlterConfigs, IncrementalAlterConfigsResponse, incremental_alter_configs_response,
        oracle up to 1;
    describe_cluster_requests: DescribeCluster, DescribeClusterRequest, describe_cluster_request,
        oracle up to 2;
    describe_cluster_responses: DescribeCluster, DescribeClusterResponse, describe_cluster_response,
        oracle up to 2;
    describe_topic_partitions_requests: DescribeTopicPartitions, DescribeTopicPartitionsRequest, describe_topic_partitions_request,
        oracle up to 0;
    describe_topic_partitions_responses: DescribeTopicPartitions, DescribeTopicPartitionsResponse, describe_topic_partitions_response,
        oracle up to 0;
}

/// Version 10 of the requests about offsets has topic ids in place of names; the oracle stops at 9.
#[test]
fn offsets_are_asked_for_by_topic_id_since_version_10() {
    let id = [7; 16];
    let commit = OffsetCommitRequest {
        group_id: "g",
        generation_id: 3,
        member_id: "m",
        topics: vec![OffsetCommitTopic {
            topic_id: id,
            partitions: vec![OffsetCommitPartition {
                partition_index: 1,
                committed_offset: 42,
                committed_leader_epoch: 5,
                committed_metadata: Some("x"),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let partition = [
        &[2][..],
        &[0, 0, 0, 1],
        &[0, 0, 0, 0, 0, 0, 0, 42],
        &[0, 0, 0, 5],
        b"\x02x\0",
    ];
    let partition = partition.concat();
    let known = [&b"\x02g\0\0\0\x03\x02m\0\x02"[..], &id, &partition, &[0, 0]].concat();
    assert_eq!(body_bytes(Api::OffsetCommit, 10, &commit), known);
    let read = OffsetCommitRequest::read(&mut Reader::new(&known, 10, true)).unwrap();
    assert_eq!(read, commit);

    let fetch = OffsetFetchRequest {
        groups: vec![OffsetFetchGroup {
            group_id: "g",
            topics: Some(vec![OffsetFetchTopic {
                topic_id: id,
                partition_indexes: vec![1],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        require_stable: true,
        ..Default::default()
    };
    let known = [
        &b"\x02\x02g\0\xff\xff\xff\xff\x02"[..],
        &id,
        b"\x02\0\0\0\x01\0\0\x01\0",
    ]
    .concat();
    assert_eq!(body_bytes(Api::OffsetFetch, 10, &fetch), known);
    let read = OffsetFetchRequest::read(&mut Reader::new(&known, 10, true)).unwrap();
    assert_eq!(read, fetch);
}
