//! The messages of admin as the crate `kafka-protocol` has them, field by field.

use super::*;

pub(in crate::tests) fn create_topics_request(
    from: &api::CreateTopicsRequest<'_>,
) -> known::CreateTopicsRequest {
    use known::create_topics_request::{
        CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
    };
    fn creatable_replica_assignment(from: &api::ReplicaAssignment) -> CreatableReplicaAssignment {
        CreatableReplicaAssignment::default()
            .with_partition_index(from.partition_index)
            .with_broker_ids(brokers(&from.broker_ids))
    }
    fn creatable_topic(from: &api::CreatableTopic<'_>) -> CreatableTopic {
        CreatableTopic::default()
            .with_name(topic(from.name))
            .with_num_partitions(from.num_partitions)
            .with_replication_factor(from.replication_factor)
            .with_assignments(all(&from.assignments, creatable_replica_assignment))
            .with_configs(all(&from.configs, creatable_topic_config))
    }
    fn creatable_topic_config(from: &api::CreatableConfig<'_>) -> CreatableTopicConfig {
        CreatableTopicConfig::default()
            .with_name(text(from.name))
            .with_value(from.value.map(text))
    }
    known::CreateTopicsRequest::default()
        .with_topics(all(&from.topics, creatable_topic))
        .with_timeout_ms(from.timeout_ms)
        .with_validate_only(from.validate_only)
}

pub(in crate::tests) fn create_topics_response(
    from: &api::CreateTopicsResponse<'_>,
) -> known::CreateTopicsResponse {
    use known::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
    fn creatable_topic_configs(from: &api::CreatedConfig<'_>) -> CreatableTopicConfigs {
        CreatableTopicConfigs::default()
            .with_name(text(from.name))
            .with_value(from.value.map(text))
            .with_read_only(from.read_only)
            .with_config_source(from.config_source)
            .with_is_sensitive(from.is_sensitive)
    }
    fn creatable_topic_result(from: &api::CreatedTopic<'_>) -> CreatableTopicResult {
        CreatableTopicResult::default()
            .with_name(topic(from.name))
            .with_topic_id(uuid(from.topic_id))
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
            .with_num_partitions(from.num_partitions)
            .with_replication_factor(from.replication_factor)
            .with_configs(
                from.configs
                    .as_ref()
                    .map(|rows| all(rows, creatable_topic_configs)),
            )
    }
    known::CreateTopicsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, creatable_topic_result))
}

pub(in crate::tests) fn delete_topics_request(
    from: &api::DeleteTopicsRequest<'_>,
) -> known::DeleteTopicsRequest {
    use known::delete_topics_request::DeleteTopicState;
    fn delete_topic_state(from: &api::DeletableTopic<'_>) -> DeleteTopicState {
        DeleteTopicState::default()
            .with_name(from.name.map(topic))
            .with_topic_id(uuid(from.topic_id))
    }
    known::DeleteTopicsRequest::default()
        .with_topics(all(&from.topics, delete_topic_state))
        .with_topic_names(all(&from.topic_names, |row| topic(row)))
        .with_timeout_ms(from.timeout_ms)
}

pub(in crate::tests) fn delete_topics_response(
    from: &api::DeleteTopicsResponse<'_>,
) -> known::DeleteTopicsResponse {
    use known::delete_topics_response::DeletableTopicResult;
    fn deletable_topic_result(from: &api::DeletedTopic<'_>) -> DeletableTopicResult {
        DeletableTopicResult::default()
            .with_name(from.name.map(topic))
            .with_topic_id(uuid(from.topic_id))
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
    }
    known::DeleteTopicsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_responses(all(&from.responses, deletable_topic_result))
}

pub(in crate::tests) fn delete_records_request(
    from: &api::DeleteRecordsRequest<'_>,
) -> known::DeleteRecordsRequest {
    use known::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    fn delete_records_partition(from: &api::DeleteRecordsPartition) -> DeleteRecordsPartition {
        DeleteRecordsPartition::default()
            .with_partition_index(from.partition_index)
            .with_offset(from.offset)
    }
    fn delete_records_topic(from: &api::DeleteRecordsTopic<'_>) -> DeleteRecordsTopic {
        DeleteRecordsTopic::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, delete_records_partition))
    }
    known::DeleteRecordsRequest::default()
        .with_topics(all(&from.topics, delete_records_topic))
        .with_timeout_ms(from.timeout_ms)
}

pub(in crate::tests) fn delete_records_response(
    from: &api::DeleteRecordsResponse<'_>,
) -> known::DeleteRecordsResponse {
    use known::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
    fn delete_records_partition_result(
        from: &api::DeleteRecordsPartitionResponse,
    ) -> DeleteRecordsPartitionResult {
        DeleteRecordsPartitionResult::default()
            .with_partition_index(from.partition_index)
            .with_low_watermark(from.low_watermark)
            .with_error_code(from.error_code)
    }
    fn delete_records_topic_result(
        from: &api::DeleteRecordsTopicResponse<'_>,
    ) -> DeleteRecordsTopicResult {
        DeleteRecordsTopicResult::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, delete_records_partition_result))
    }
    known::DeleteRecordsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, delete_records_topic_result))
}

pub(in crate::tests) fn describe_configs_request(
    from: &api::DescribeConfigsRequest<'_>,
) -> known::DescribeConfigsRequest {
    use known::describe_configs_request::DescribeConfigsResource;
    fn describe_configs_resource(
        from: &api::DescribeConfigsResource<'_>,
    ) -> DescribeConfigsResource {
        DescribeConfigsResource::default()
            .with_resource_type(from.resource_type)
            .with_resource_name(text(from.resource_name))
            .with_configuration_keys(
                from.configuration_keys
                    .as_ref()
                    .map(|rows| all(rows, |row| text(row))),
            )
    }
    known::DescribeConfigsRequest::default()
        .with_resources(all(&from.resources, describe_configs_resource))
        .with_include_synonyms(from.include_synonyms)
        .with_include_documentation(from.include_documentation)
}

pub(in crate::tests) fn describe_configs_response(
    from: &api::DescribeConfigsResponse<'_>,
) -> known::DescribeConfigsResponse {
    use known::describe_configs_response::{
        DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
    };
    fn describe_configs_resource_result(
        from: &api::DescribedConfig<'_>,
    ) -> DescribeConfigsResourceResult {
        DescribeConfigsResourceResult::default()
            .with_name(text(from.name))
            .with_value(from.value.map(text))
            .with_read_only(from.read_only)
            .with_config_source(from.config_source)
            .with_is_sensitive(from.is_sensitive)
            .with_synonyms(all(&from.synonyms, describe_configs_synonym))
            .with_config_type(from.config_type)
            .with_documentation(from.documentation.map(text))
    }
    fn describe_configs_result(from: &api::DescribedResource<'_>) -> DescribeConfigsResult {
        DescribeConfigsResult::default()
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
            .with_resource_type(from.resource_type)
            .with_resource_name(text(from.resource_name))
            .with_configs(all(&from.configs, describe_configs_resource_result))
    }
    fn describe_configs_synonym(from: &api::ConfigSynonym<'_>) -> DescribeConfigsSynonym {
        DescribeConfigsSynonym::default()
            .with_name(text(from.name))
            .with_value(from.value.map(text))
            .with_source(from.source)
    }
    known::DescribeConfigsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_results(all(&from.results, describe_configs_result))
}

pub(in crate::tests) fn alter_configs_request(
    from: &api::AlterConfigsRequest<'_>,
) -> known::AlterConfigsRequest {
    use known::alter_configs_request::{AlterConfigsResource, AlterableConfig};
    fn alter_configs_resource(from: &api::AlterConfigsResource<'_>) -> AlterConfigsResource {
        AlterConfigsResource::default()
            .with_resource_type(from.resource_type)
            .with_resource_name(text(from.resource_name))
            .with_configs(all(&from.configs, alterable_config))
    }
    fn alterable_config(from: &api::AlterableConfig<'_>) -> AlterableConfig {
        AlterableConfig::default()
            .with_name(text(from.name))
            .with_value(from.value.map(text))
    }
    known::AlterConfigsRequest::default()
        .with_resources(all(&from.resources, alter_configs_resource))
        .with_validate_only(from.validate_only)
}

pub(in crate::tests) fn alter_configs_response(
    from: &api::AlterConfigsResponse<'_>,
) -> known::AlterConfigsResponse {
    use known::alter_configs_response::AlterConfigsResourceResponse;
    fn alter_configs_resource_response(
        from: &api::AlterConfigsResourceResponse<'_>,
    ) -> AlterConfigsResourceResponse {
        AlterConfigsResourceResponse::default()
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
            .with_resource_type(from.resource_type)
            .with_resource_name(text(from.resource_name))
    }
    known::AlterConfigsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_responses(all(&from.responses, alter_configs_resource_response))
}

pub(in crate::tests) fn describe_log_dirs_request(
    from: &api::DescribeLogDirsRequest<'_>,
) -> known::DescribeLogDirsRequest {
    use known::describe_log_dirs_request::DescribableLogDirTopic;
    fn describable_log_dir_topic(from: &api::LogDirsTopic<'_>) -> DescribableLogDirTopic {
        DescribableLogDirTopic::default()
            .with_topic(topic(from.topic))
            .with_partitions(from.partitions.clone())
    }
    known::DescribeLogDirsRequest::default().with_topics(
        from.topics
            .as_ref()
            .map(|rows| all(rows, describable_log_dir_topic)),
    )
}

pub(in crate::tests) fn describe_log_dirs_response(
    from: &api::DescribeLogDirsResponse<'_>,
) -> known::DescribeLogDirsResponse {
    use known::describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    };
    fn describe_log_dirs_partition(from: &api::LogDirPartition) -> DescribeLogDirsPartition {
        DescribeLogDirsPartition::default()
            .with_partition_index(from.partition_index)
            .with_partition_size(from.partition_size)
            .with_offset_lag(from.offset_lag)
            .with_is_future_key(from.is_future_key)
    }
    fn describe_log_dirs_result(from: &api::LogDir<'_>) -> DescribeLogDirsResult {
        DescribeLogDirsResult::default()
            .with_error_code(from.error_code)
            .with_log_dir(text(from.log_dir))
            .with_topics(all(&from.topics, describe_log_dirs_topic))
            .with_total_bytes(from.total_bytes)
            .with_usable_bytes(from.usable_bytes)
    }
    fn describe_log_dirs_topic(from: &api::LogDirTopic<'_>) -> DescribeLogDirsTopic {
        DescribeLogDirsTopic::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, describe_log_dirs_partition))
    }
    known::DescribeLogDirsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_results(all(&from.results, describe_log_dirs_result))
}

pub(in crate::tests) fn create_partitions_request(
    from: &api::CreatePartitionsRequest<'_>,
) -> known::CreatePartitionsRequest {
    use known::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
    fn create_partitions_assignment(from: &api::PartitionAssignment) -> CreatePartitionsAssignment {
        CreatePartitionsAssignment::default().with_broker_ids(brokers(&from.broker_ids))
    }
    fn create_partitions_topic(from: &api::CreatePartitionsTopic<'_>) -> CreatePartitionsTopic {
        CreatePartitionsTopic::default()
            .with_name(topic(from.name))
            .with_count(from.count)
            .with_assignments(
                from.assignments
                    .as_ref()
                    .map(|rows| all(rows, create_partitions_assignment)),
            )
    }
    known::CreatePartitionsRequest::default()
        .with_topics(all(&from.topics, create_partitions_topic))
        .with_timeout_ms(from.timeout_ms)
        .with_validate_only(from.validate_only)
}

pub(in crate::tests) fn create_partitions_response(
    from: &api::CreatePartitionsResponse<'_>,
) -> known::CreatePartitionsResponse {
    use known::create_partitions_response::CreatePartitionsTopicResult;
    fn create_partitions_topic_result(
        from: &api::CreatePartitionsTopicResponse<'_>,
    ) -> CreatePartitionsTopicResult {
        CreatePartitionsTopicResult::default()
            .with_name(topic(from.name))
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
    }
    known::CreatePartitionsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_results(all(&from.results, create_partitions_topic_result))
}

pub(in crate::tests) fn incremental_alter_configs_request(
    from: &api::IncrementalAlterConfigsRequest<'_>,
) -> known::IncrementalAlterConfigsRequest {
    use known::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    fn alter_configs_resource(from: &api::IncrementalResource<'_>) -> AlterConfigsResource {
        AlterConfigsResource::default()
            .with_resource_type(from.resource_type)
            .with_resource_name(text(from.resource_name))
            .with_configs(all(&from.configs, alterable_config))
    }
    fn alterable_config(from: &api::IncrementalConfig<'_>) -> AlterableConfig {
        AlterableConfig::default()
            .with_name(text(from.name))
            .with_config_operation(from.config_operation)
            .with_value(from.value.map(text))
    }
    known::IncrementalAlterConfigsRequest::default()
        .with_resources(all(&from.resources, alter_configs_resource))
        .with_validate_only(from.validate_only)
}

pub(in crate::tests) fn incremental_alter_configs_response(
    from: &api::IncrementalAlterConfigsResponse<'_>,
) -> known::IncrementalAlterConfigsResponse {
    use known::incremental_alter_configs_response::AlterConfigsResourceResponse;
    fn alter_configs_resource_response(
        from: &api::IncrementalResourceResponse<'_>,
    ) -> AlterConfigsResourceResponse {
        AlterConfigsResourceResponse::default()
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
            .with_resource_type(from.resource_type)
            .with_resource_name(text(from.resource_name))
    }
    known::IncrementalAlterConfigsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_responses(all(&from.responses, alter_configs_resource_response))
}

pub(in crate::tests) fn describe_cluster_request(
    from: &api::DescribeClusterRequest,
) -> known::DescribeClusterRequest {
    known::DescribeClusterRequest::default()
        .with_include_cluster_authorized_operations(from.include_cluster_authorized_operations)
        .with_endpoint_type(from.endpoint_type)
        .with_include_fenced_brokers(from.include_fenced_brokers)
}

pub(in crate::tests) fn describe_cluster_response(
    from: &api::DescribeClusterResponse<'_>,
) -> known::DescribeClusterResponse {
    use known::describe_cluster_response::DescribeClusterBroker;
    fn describe_cluster_broker(from: &api::DescribeClusterBroker<'_>) -> DescribeClusterBroker {
        DescribeClusterBroker::default()
            .with_broker_id(known::BrokerId(from.broker_id))
            .with_host(text(from.host))
            .with_port(from.port)
            .with_rack(from.rack.map(text))
            .with_is_fenced(from.is_fenced)
    }
    known::DescribeClusterResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_error_message(from.error_message.map(text))
        .with_endpoint_type(from.endpoint_type)
        .with_cluster_id(text(from.cluster_id))
        .with_controller_id(known::BrokerId(from.controller_id))
        .with_brokers(all(&from.brokers, describe_cluster_broker))
        .with_cluster_authorized_operations(from.cluster_authorized_operations)
}

pub(in crate::tests) fn describe_topic_partitions_request(
    from: &api::DescribeTopicPartitionsRequest<'_>,
) -> known::DescribeTopicPartitionsRequest {
    use known::describe_topic_partitions_request::{Cursor, TopicRequest};
    fn cursor(from: &api::TopicPartitionsCursor<'_>) -> Cursor {
        Cursor::default()
            .with_topic_name(topic(from.topic_name))
            .with_partition_index(from.partition_index)
    }
    fn topic_request(from: &api::TopicPartitionsTopic<'_>) -> TopicRequest {
        TopicRequest::default().with_name(topic(from.name))
    }
    known::DescribeTopicPartitionsRequest::default()
        .with_topics(all(&from.topics, topic_request))
        .with_response_partition_limit(from.response_partition_limit)
        .with_cursor(from.cursor.as_ref().map(cursor))
}

pub(in crate::tests) fn describe_topic_partitions_response(
    from: &api::DescribeTopicPartitionsResponse<'_>,
) -> known::DescribeTopicPartitionsResponse {
    use known::describe_topic_partitions_response::{
        Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    };
    fn cursor(from: &api::TopicPartitionsCursor<'_>) -> Cursor {
        Cursor::default()
            .with_topic_name(topic(from.topic_name))
            .with_partition_index(from.partition_index)
    }
    fn describe_topic_partitions_response_partition(
        from: &api::TopicPartitionsPartition,
    ) -> DescribeTopicPartitionsResponsePartition {
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(from.error_code)
            .with_partition_index(from.partition_index)
            .with_leader_id(known::BrokerId(from.leader_id))
            .with_leader_epoch(from.leader_epoch)
            .with_replica_nodes(brokers(&from.replica_nodes))
            .with_isr_nodes(brokers(&from.isr_nodes))
            .with_eligible_leader_replicas(
                from.eligible_leader_replicas
                    .as_ref()
                    .map(|rows| brokers(rows)),
            )
            .with_last_known_elr(from.last_known_elr.as_ref().map(|rows| brokers(rows)))
            .with_offline_replicas(brokers(&from.offline_replicas))
    }
    fn describe_topic_partitions_response_topic(
        from: &api::TopicPartitionsTopicResponse<'_>,
    ) -> DescribeTopicPartitionsResponseTopic {
        DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(from.error_code)
            .with_name(from.name.map(topic))
            .with_topic_id(uuid(from.topic_id))
            .with_is_internal(from.is_internal)
            .with_partitions(all(
                &from.partitions,
                describe_topic_partitions_response_partition,
            ))
            .with_topic_authorized_operations(from.topic_authorized_operations)
    }
    known::DescribeTopicPartitionsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, describe_topic_partitions_response_topic))
        .with_next_cursor(from.next_cursor.as_ref().map(cursor))
}
