//! The messages of groups as the crate `kafka-protocol` has them, field by field.

use super::*;

pub(in crate::tests) fn find_coordinator_request(
    from: &api::FindCoordinatorRequest<'_>,
) -> known::FindCoordinatorRequest {
    known::FindCoordinatorRequest::default()
        .with_key(text(from.key))
        .with_key_type(from.key_type)
        .with_coordinator_keys(all(&from.coordinator_keys, |row| text(row)))
}

pub(in crate::tests) fn find_coordinator_response(
    from: &api::FindCoordinatorResponse<'_>,
) -> known::FindCoordinatorResponse {
    use known::find_coordinator_response::Coordinator;
    fn coordinator(from: &api::Coordinator<'_>) -> Coordinator {
        Coordinator::default()
            .with_key(text(from.key))
            .with_node_id(known::BrokerId(from.node_id))
            .with_host(text(from.host))
            .with_port(from.port)
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
    }
    known::FindCoordinatorResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_error_message(from.error_message.map(text))
        .with_node_id(known::BrokerId(from.node_id))
        .with_host(text(from.host))
        .with_port(from.port)
        .with_coordinators(all(&from.coordinators, coordinator))
}

pub(in crate::tests) fn join_group_request(
    from: &api::JoinGroupRequest<'_>,
) -> known::JoinGroupRequest {
    use known::join_group_request::JoinGroupRequestProtocol;
    fn join_group_request_protocol(from: &api::JoinGroupProtocol<'_>) -> JoinGroupRequestProtocol {
        JoinGroupRequestProtocol::default()
            .with_name(text(from.name))
            .with_metadata(Bytes::copy_from_slice(from.metadata))
    }
    known::JoinGroupRequest::default()
        .with_group_id(group(from.group_id))
        .with_session_timeout_ms(from.session_timeout_ms)
        .with_rebalance_timeout_ms(from.rebalance_timeout_ms)
        .with_member_id(text(from.member_id))
        .with_group_instance_id(from.group_instance_id.map(text))
        .with_protocol_type(text(from.protocol_type))
        .with_protocols(all(&from.protocols, join_group_request_protocol))
        .with_reason(from.reason.map(text))
}

pub(in crate::tests) fn join_group_response(
    from: &api::JoinGroupResponse<'_>,
) -> known::JoinGroupResponse {
    use known::join_group_response::JoinGroupResponseMember;
    fn join_group_response_member(from: &api::JoinGroupMember<'_>) -> JoinGroupResponseMember {
        JoinGroupResponseMember::default()
            .with_member_id(text(from.member_id))
            .with_group_instance_id(from.group_instance_id.map(text))
            .with_metadata(Bytes::copy_from_slice(from.metadata))
    }
    known::JoinGroupResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_generation_id(from.generation_id)
        .with_protocol_type(from.protocol_type.map(text))
        .with_protocol_name(from.protocol_name.map(text))
        .with_leader(text(from.leader))
        .with_skip_assignment(from.skip_assignment)
        .with_member_id(text(from.member_id))
        .with_members(all(&from.members, join_group_response_member))
}

pub(in crate::tests) fn heartbeat_request(
    from: &api::HeartbeatRequest<'_>,
) -> known::HeartbeatRequest {
    known::HeartbeatRequest::default()
        .with_group_id(group(from.group_id))
        .with_generation_id(from.generation_id)
        .with_member_id(text(from.member_id))
        .with_group_instance_id(from.group_instance_id.map(text))
}

pub(in crate::tests) fn heartbeat_response(
    from: &api::HeartbeatResponse,
) -> known::HeartbeatResponse {
    known::HeartbeatResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
}

pub(in crate::tests) fn leave_group_request(
    from: &api::LeaveGroupRequest<'_>,
) -> known::LeaveGroupRequest {
    use known::leave_group_request::MemberIdentity;
    fn member_identity(from: &api::LeavingMember<'_>) -> MemberIdentity {
        MemberIdentity::default()
            .with_member_id(text(from.member_id))
            .with_group_instance_id(from.group_instance_id.map(text))
            .with_reason(from.reason.map(text))
    }
    known::LeaveGroupRequest::default()
        .with_group_id(group(from.group_id))
        .with_member_id(text(from.member_id))
        .with_members(all(&from.members, member_identity))
}

pub(in crate::tests) fn leave_group_response(
    from: &api::LeaveGroupResponse<'_>,
) -> known::LeaveGroupResponse {
    use known::leave_group_response::MemberResponse;
    fn member_response(from: &api::LeavingMemberResponse<'_>) -> MemberResponse {
        MemberResponse::default()
            .with_member_id(text(from.member_id))
            .with_group_instance_id(from.group_instance_id.map(text))
            .with_error_code(from.error_code)
    }
    known::LeaveGroupResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_members(all(&from.members, member_response))
}

pub(in crate::tests) fn sync_group_request(
    from: &api::SyncGroupRequest<'_>,
) -> known::SyncGroupRequest {
    use known::sync_group_request::SyncGroupRequestAssignment;
    fn sync_group_request_assignment(
        from: &api::SyncGroupAssignment<'_>,
    ) -> SyncGroupRequestAssignment {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(from.member_id))
            .with_assignment(Bytes::copy_from_slice(from.assignment))
    }
    known::SyncGroupRequest::default()
        .with_group_id(group(from.group_id))
        .with_generation_id(from.generation_id)
        .with_member_id(text(from.member_id))
        .with_group_instance_id(from.group_instance_id.map(text))
        .with_protocol_type(from.protocol_type.map(text))
        .with_protocol_name(from.protocol_name.map(text))
        .with_assignments(all(&from.assignments, sync_group_request_assignment))
}

pub(in crate::tests) fn sync_group_response(
    from: &api::SyncGroupResponse<'_>,
) -> known::SyncGroupResponse {
    known::SyncGroupResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_protocol_type(from.protocol_type.map(text))
        .with_protocol_name(from.protocol_name.map(text))
        .with_assignment(Bytes::copy_from_slice(from.assignment))
}

pub(in crate::tests) fn offset_commit_request(
    from: &api::OffsetCommitRequest<'_>,
) -> known::OffsetCommitRequest {
    use known::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    fn offset_commit_request_partition(
        from: &api::OffsetCommitPartition<'_>,
    ) -> OffsetCommitRequestPartition {
        OffsetCommitRequestPartition::default()
            .with_partition_index(from.partition_index)
            .with_committed_offset(from.committed_offset)
            .with_committed_leader_epoch(from.committed_leader_epoch)
            .with_committed_metadata(from.committed_metadata.map(text))
    }
    fn offset_commit_request_topic(from: &api::OffsetCommitTopic<'_>) -> OffsetCommitRequestTopic {
        OffsetCommitRequestTopic::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, offset_commit_request_partition))
    }
    known::OffsetCommitRequest::default()
        .with_group_id(group(from.group_id))
        .with_generation_id_or_member_epoch(from.generation_id)
        .with_member_id(text(from.member_id))
        .with_group_instance_id(from.group_instance_id.map(text))
        .with_retention_time_ms(from.retention_time_ms)
        .with_topics(all(&from.topics, offset_commit_request_topic))
}

pub(in crate::tests) fn offset_commit_response(
    from: &api::OffsetCommitResponse<'_>,
) -> known::OffsetCommitResponse {
    use known::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    fn offset_commit_response_partition(
        from: &api::OffsetCommitPartitionResponse,
    ) -> OffsetCommitResponsePartition {
        OffsetCommitResponsePartition::default()
            .with_partition_index(from.partition_index)
            .with_error_code(from.error_code)
    }
    fn offset_commit_response_topic(
        from: &api::OffsetCommitTopicResponse<'_>,
    ) -> OffsetCommitResponseTopic {
        OffsetCommitResponseTopic::default()
            .with_name(topic(from.name))
            .with_topic_id(uuid(from.topic_id))
            .with_partitions(all(&from.partitions, offset_commit_response_partition))
    }
    known::OffsetCommitResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, offset_commit_response_topic))
}

pub(in crate::tests) fn offset_fetch_request(
    from: &api::OffsetFetchRequest<'_>,
) -> known::OffsetFetchRequest {
    use known::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    fn offset_fetch_request_group(from: &api::OffsetFetchGroup<'_>) -> OffsetFetchRequestGroup {
        OffsetFetchRequestGroup::default()
            .with_group_id(group(from.group_id))
            .with_member_id(from.member_id.map(text))
            .with_member_epoch(from.member_epoch)
            .with_topics(
                from.topics
                    .as_ref()
                    .map(|rows| all(rows, offset_fetch_request_topics)),
            )
    }
    fn offset_fetch_request_topic(from: &api::OffsetFetchTopic<'_>) -> OffsetFetchRequestTopic {
        OffsetFetchRequestTopic::default()
            .with_name(topic(from.name))
            .with_partition_indexes(from.partition_indexes.clone())
    }
    fn offset_fetch_request_topics(from: &api::OffsetFetchTopic<'_>) -> OffsetFetchRequestTopics {
        OffsetFetchRequestTopics::default()
            .with_name(topic(from.name))
            .with_partition_indexes(from.partition_indexes.clone())
    }
    known::OffsetFetchRequest::default()
        .with_group_id(group(from.group_id))
        .with_topics(
            from.topics
                .as_ref()
                .map(|rows| all(rows, offset_fetch_request_topic)),
        )
        .with_groups(all(&from.groups, offset_fetch_request_group))
        .with_require_stable(from.require_stable)
}

pub(in crate::tests) fn offset_fetch_response(
    from: &api::OffsetFetchResponse<'_>,
) -> known::OffsetFetchResponse {
    use known::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };
    fn offset_fetch_response_group(
        from: &api::OffsetFetchGroupResponse<'_>,
    ) -> OffsetFetchResponseGroup {
        OffsetFetchResponseGroup::default()
            .with_group_id(group(from.group_id))
            .with_topics(all(&from.topics, offset_fetch_response_topics))
            .with_error_code(from.error_code)
    }
    fn offset_fetch_response_partition(
        from: &api::OffsetFetchPartitionResponse<'_>,
    ) -> OffsetFetchResponsePartition {
        OffsetFetchResponsePartition::default()
            .with_partition_index(from.partition_index)
            .with_committed_offset(from.committed_offset)
            .with_committed_leader_epoch(from.committed_leader_epoch)
            .with_metadata(from.metadata.map(text))
            .with_error_code(from.error_code)
    }
    fn offset_fetch_response_partitions(
        from: &api::OffsetFetchPartitionResponse<'_>,
    ) -> OffsetFetchResponsePartitions {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(from.partition_index)
            .with_committed_offset(from.committed_offset)
            .with_committed_leader_epoch(from.committed_leader_epoch)
            .with_metadata(from.metadata.map(text))
            .with_error_code(from.error_code)
    }
    fn offset_fetch_response_topic(
        from: &api::OffsetFetchTopicResponse<'_>,
    ) -> OffsetFetchResponseTopic {
        OffsetFetchResponseTopic::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, offset_fetch_response_partition))
    }
    fn offset_fetch_response_topics(
        from: &api::OffsetFetchTopicResponse<'_>,
    ) -> OffsetFetchResponseTopics {
        OffsetFetchResponseTopics::default()
            .with_name(topic(from.name))
            .with_topic_id(uuid(from.topic_id))
            .with_partitions(all(&from.partitions, offset_fetch_response_partitions))
    }
    known::OffsetFetchResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, offset_fetch_response_topic))
        .with_error_code(from.error_code)
        .with_groups(all(&from.groups, offset_fetch_response_group))
}

pub(in crate::tests) fn offset_delete_request(
    from: &api::OffsetDeleteRequest<'_>,
) -> known::OffsetDeleteRequest {
    use known::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    fn offset_delete_request_partition(
        from: &api::OffsetDeletePartition,
    ) -> OffsetDeleteRequestPartition {
        OffsetDeleteRequestPartition::default().with_partition_index(from.partition_index)
    }
    fn offset_delete_request_topic(from: &api::OffsetDeleteTopic<'_>) -> OffsetDeleteRequestTopic {
        OffsetDeleteRequestTopic::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, offset_delete_request_partition))
    }
    known::OffsetDeleteRequest::default()
        .with_group_id(group(from.group_id))
        .with_topics(all(&from.topics, offset_delete_request_topic))
}

pub(in crate::tests) fn offset_delete_response(
    from: &api::OffsetDeleteResponse<'_>,
) -> known::OffsetDeleteResponse {
    use known::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
    fn offset_delete_response_partition(
        from: &api::OffsetDeletePartitionResponse,
    ) -> OffsetDeleteResponsePartition {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(from.partition_index)
            .with_error_code(from.error_code)
    }
    fn offset_delete_response_topic(
        from: &api::OffsetDeleteTopicResponse<'_>,
    ) -> OffsetDeleteResponseTopic {
        OffsetDeleteResponseTopic::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, offset_delete_response_partition))
    }
    known::OffsetDeleteResponse::default()
        .with_error_code(from.error_code)
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, offset_delete_response_topic))
}

pub(in crate::tests) fn list_groups_request(
    from: &api::ListGroupsRequest<'_>,
) -> known::ListGroupsRequest {
    known::ListGroupsRequest::default()
        .with_states_filter(all(&from.states_filter, |row| text(row)))
        .with_types_filter(all(&from.types_filter, |row| text(row)))
}

pub(in crate::tests) fn list_groups_response(
    from: &api::ListGroupsResponse<'_>,
) -> known::ListGroupsResponse {
    use known::list_groups_response::ListedGroup;
    fn listed_group(from: &api::ListedGroup<'_>) -> ListedGroup {
        ListedGroup::default()
            .with_group_id(group(from.group_id))
            .with_protocol_type(text(from.protocol_type))
            .with_group_state(text(from.group_state))
            .with_group_type(text(from.group_type))
    }
    known::ListGroupsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_groups(all(&from.groups, listed_group))
}

pub(in crate::tests) fn describe_groups_request(
    from: &api::DescribeGroupsRequest<'_>,
) -> known::DescribeGroupsRequest {
    known::DescribeGroupsRequest::default()
        .with_groups(all(&from.groups, |row| group(row)))
        .with_include_authorized_operations(from.include_authorized_operations)
}

pub(in crate::tests) fn describe_groups_response(
    from: &api::DescribeGroupsResponse<'_>,
) -> known::DescribeGroupsResponse {
    use known::describe_groups_response::{DescribedGroup, DescribedGroupMember};
    fn described_group(from: &api::DescribedGroup<'_>) -> DescribedGroup {
        DescribedGroup::default()
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
            .with_group_id(group(from.group_id))
            .with_group_state(text(from.group_state))
            .with_protocol_type(text(from.protocol_type))
            .with_protocol_data(text(from.protocol_data))
            .with_members(all(&from.members, described_group_member))
            .with_authorized_operations(from.authorized_operations)
    }
    fn described_group_member(from: &api::DescribedMember<'_>) -> DescribedGroupMember {
        DescribedGroupMember::default()
            .with_member_id(text(from.member_id))
            .with_group_instance_id(from.group_instance_id.map(text))
            .with_client_id(text(from.client_id))
            .with_client_host(text(from.client_host))
            .with_member_metadata(Bytes::copy_from_slice(from.member_metadata))
            .with_member_assignment(Bytes::copy_from_slice(from.member_assignment))
    }
    known::DescribeGroupsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_groups(all(&from.groups, described_group))
}

pub(in crate::tests) fn delete_groups_request(
    from: &api::DeleteGroupsRequest<'_>,
) -> known::DeleteGroupsRequest {
    known::DeleteGroupsRequest::default()
        .with_groups_names(all(&from.group_names, |row| group(row)))
}

pub(in crate::tests) fn delete_groups_response(
    from: &api::DeleteGroupsResponse<'_>,
) -> known::DeleteGroupsResponse {
    use known::delete_groups_response::DeletableGroupResult;
    fn deletable_group_result(from: &api::DeletedGroup<'_>) -> DeletableGroupResult {
        DeletableGroupResult::default()
            .with_group_id(group(from.group_id))
            .with_error_code(from.error_code)
    }
    known::DeleteGroupsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_results(all(&from.results, deletable_group_result))
}
