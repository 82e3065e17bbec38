//! The messages of transactions as the crate `kafka-protocol` has them, field by field.

use super::*;

pub(in crate::tests) fn init_producer_id_request(
    from: &api::InitProducerIdRequest<'_>,
) -> known::InitProducerIdRequest {
    known::InitProducerIdRequest::default()
        .with_transactional_id(from.transactional_id.map(transactional))
        .with_transaction_timeout_ms(from.transaction_timeout_ms)
        .with_producer_id(known::ProducerId(from.producer_id))
        .with_producer_epoch(from.producer_epoch)
}

pub(in crate::tests) fn init_producer_id_response(
    from: &api::InitProducerIdResponse,
) -> known::InitProducerIdResponse {
    known::InitProducerIdResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_producer_id(known::ProducerId(from.producer_id))
        .with_producer_epoch(from.producer_epoch)
}

pub(in crate::tests) fn add_partitions_to_txn_request(
    from: &api::AddPartitionsToTxnRequest<'_>,
) -> known::AddPartitionsToTxnRequest {
    use known::add_partitions_to_txn_request::{
        AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
    };
    fn add_partitions_to_txn_topic(from: &api::TxnTopic<'_>) -> AddPartitionsToTxnTopic {
        AddPartitionsToTxnTopic::default()
            .with_name(topic(from.name))
            .with_partitions(from.partitions.clone())
    }
    fn add_partitions_to_txn_transaction(
        from: &api::TxnPartitions<'_>,
    ) -> AddPartitionsToTxnTransaction {
        AddPartitionsToTxnTransaction::default()
            .with_transactional_id(transactional(from.transactional_id))
            .with_producer_id(known::ProducerId(from.producer_id))
            .with_producer_epoch(from.producer_epoch)
            .with_verify_only(from.verify_only)
            .with_topics(all(&from.topics, add_partitions_to_txn_topic))
    }
    known::AddPartitionsToTxnRequest::default()
        .with_transactions(all(&from.transactions, add_partitions_to_txn_transaction))
        .with_v3_and_below_transactional_id(transactional(from.transactional_id))
        .with_v3_and_below_producer_id(known::ProducerId(from.producer_id))
        .with_v3_and_below_producer_epoch(from.producer_epoch)
        .with_v3_and_below_topics(all(&from.topics, add_partitions_to_txn_topic))
}

pub(in crate::tests) fn add_partitions_to_txn_response(
    from: &api::AddPartitionsToTxnResponse<'_>,
) -> known::AddPartitionsToTxnResponse {
    use known::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
    };
    fn add_partitions_to_txn_partition_result(
        from: &api::TxnPartitionResponse,
    ) -> AddPartitionsToTxnPartitionResult {
        AddPartitionsToTxnPartitionResult::default()
            .with_partition_index(from.partition_index)
            .with_partition_error_code(from.error_code)
    }
    fn add_partitions_to_txn_result(
        from: &api::TxnPartitionsResponse<'_>,
    ) -> AddPartitionsToTxnResult {
        AddPartitionsToTxnResult::default()
            .with_transactional_id(transactional(from.transactional_id))
            .with_topic_results(all(&from.topic_results, add_partitions_to_txn_topic_result))
    }
    fn add_partitions_to_txn_topic_result(
        from: &api::TxnTopicResponse<'_>,
    ) -> AddPartitionsToTxnTopicResult {
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic(from.name))
            .with_results_by_partition(all(
                &from.results_by_partition,
                add_partitions_to_txn_partition_result,
            ))
    }
    known::AddPartitionsToTxnResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_results_by_transaction(all(
            &from.results_by_transaction,
            add_partitions_to_txn_result,
        ))
        .with_results_by_topic_v3_and_below(all(
            &from.results_by_topic,
            add_partitions_to_txn_topic_result,
        ))
}

pub(in crate::tests) fn add_offsets_to_txn_request(
    from: &api::AddOffsetsToTxnRequest<'_>,
) -> known::AddOffsetsToTxnRequest {
    known::AddOffsetsToTxnRequest::default()
        .with_transactional_id(transactional(from.transactional_id))
        .with_producer_id(known::ProducerId(from.producer_id))
        .with_producer_epoch(from.producer_epoch)
        .with_group_id(group(from.group_id))
}

pub(in crate::tests) fn add_offsets_to_txn_response(
    from: &api::AddOffsetsToTxnResponse,
) -> known::AddOffsetsToTxnResponse {
    known::AddOffsetsToTxnResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
}

pub(in crate::tests) fn end_txn_request(from: &api::EndTxnRequest<'_>) -> known::EndTxnRequest {
    known::EndTxnRequest::default()
        .with_transactional_id(transactional(from.transactional_id))
        .with_producer_id(known::ProducerId(from.producer_id))
        .with_producer_epoch(from.producer_epoch)
        .with_committed(from.committed)
}

pub(in crate::tests) fn end_txn_response(from: &api::EndTxnResponse) -> known::EndTxnResponse {
    known::EndTxnResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_producer_id(known::ProducerId(from.producer_id))
        .with_producer_epoch(from.producer_epoch)
}

pub(in crate::tests) fn write_txn_markers_request(
    from: &api::WriteTxnMarkersRequest<'_>,
) -> known::WriteTxnMarkersRequest {
    use known::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    fn writable_txn_marker(from: &api::TxnMarker<'_>) -> WritableTxnMarker {
        WritableTxnMarker::default()
            .with_producer_id(known::ProducerId(from.producer_id))
            .with_producer_epoch(from.producer_epoch)
            .with_transaction_result(from.transaction_result)
            .with_topics(all(&from.topics, writable_txn_marker_topic))
            .with_coordinator_epoch(from.coordinator_epoch)
    }
    fn writable_txn_marker_topic(from: &api::TxnMarkerTopic<'_>) -> WritableTxnMarkerTopic {
        WritableTxnMarkerTopic::default()
            .with_name(topic(from.name))
            .with_partition_indexes(from.partition_indexes.clone())
    }
    known::WriteTxnMarkersRequest::default().with_markers(all(&from.markers, writable_txn_marker))
}

pub(in crate::tests) fn write_txn_markers_response(
    from: &api::WriteTxnMarkersResponse<'_>,
) -> known::WriteTxnMarkersResponse {
    use known::write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    };
    fn writable_txn_marker_partition_result(
        from: &api::TxnMarkerPartitionResponse,
    ) -> WritableTxnMarkerPartitionResult {
        WritableTxnMarkerPartitionResult::default()
            .with_partition_index(from.partition_index)
            .with_error_code(from.error_code)
    }
    fn writable_txn_marker_result(from: &api::TxnMarkerResponse<'_>) -> WritableTxnMarkerResult {
        WritableTxnMarkerResult::default()
            .with_producer_id(known::ProducerId(from.producer_id))
            .with_topics(all(&from.topics, writable_txn_marker_topic_result))
    }
    fn writable_txn_marker_topic_result(
        from: &api::TxnMarkerTopicResponse<'_>,
    ) -> WritableTxnMarkerTopicResult {
        WritableTxnMarkerTopicResult::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, writable_txn_marker_partition_result))
    }
    known::WriteTxnMarkersResponse::default()
        .with_markers(all(&from.markers, writable_txn_marker_result))
}

pub(in crate::tests) fn txn_offset_commit_request(
    from: &api::TxnOffsetCommitRequest<'_>,
) -> known::TxnOffsetCommitRequest {
    use known::txn_offset_commit_request::{
        TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    };
    fn txn_offset_commit_request_partition(
        from: &api::TxnOffsetCommitPartition<'_>,
    ) -> TxnOffsetCommitRequestPartition {
        TxnOffsetCommitRequestPartition::default()
            .with_partition_index(from.partition_index)
            .with_committed_offset(from.committed_offset)
            .with_committed_leader_epoch(from.committed_leader_epoch)
            .with_committed_metadata(from.committed_metadata.map(text))
    }
    fn txn_offset_commit_request_topic(
        from: &api::TxnOffsetCommitTopic<'_>,
    ) -> TxnOffsetCommitRequestTopic {
        TxnOffsetCommitRequestTopic::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, txn_offset_commit_request_partition))
    }
    known::TxnOffsetCommitRequest::default()
        .with_transactional_id(transactional(from.transactional_id))
        .with_group_id(group(from.group_id))
        .with_producer_id(known::ProducerId(from.producer_id))
        .with_producer_epoch(from.producer_epoch)
        .with_generation_id(from.generation_id)
        .with_member_id(text(from.member_id))
        .with_group_instance_id(from.group_instance_id.map(text))
        .with_topics(all(&from.topics, txn_offset_commit_request_topic))
}

pub(in crate::tests) fn txn_offset_commit_response(
    from: &api::TxnOffsetCommitResponse<'_>,
) -> known::TxnOffsetCommitResponse {
    use known::txn_offset_commit_response::{
        TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
    };
    fn txn_offset_commit_response_partition(
        from: &api::TxnOffsetCommitPartitionResponse,
    ) -> TxnOffsetCommitResponsePartition {
        TxnOffsetCommitResponsePartition::default()
            .with_partition_index(from.partition_index)
            .with_error_code(from.error_code)
    }
    fn txn_offset_commit_response_topic(
        from: &api::TxnOffsetCommitTopicResponse<'_>,
    ) -> TxnOffsetCommitResponseTopic {
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, txn_offset_commit_response_partition))
    }
    known::TxnOffsetCommitResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, txn_offset_commit_response_topic))
}

pub(in crate::tests) fn describe_producers_request(
    from: &api::DescribeProducersRequest<'_>,
) -> known::DescribeProducersRequest {
    use known::describe_producers_request::TopicRequest;
    fn topic_request(from: &api::DescribeProducersTopic<'_>) -> TopicRequest {
        TopicRequest::default()
            .with_name(topic(from.name))
            .with_partition_indexes(from.partition_indexes.clone())
    }
    known::DescribeProducersRequest::default().with_topics(all(&from.topics, topic_request))
}

pub(in crate::tests) fn describe_producers_response(
    from: &api::DescribeProducersResponse<'_>,
) -> known::DescribeProducersResponse {
    use known::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
    fn partition_response(from: &api::DescribeProducersPartitionResponse<'_>) -> PartitionResponse {
        PartitionResponse::default()
            .with_partition_index(from.partition_index)
            .with_error_code(from.error_code)
            .with_error_message(from.error_message.map(text))
            .with_active_producers(all(&from.active_producers, producer_state))
    }
    fn producer_state(from: &api::ActiveProducer) -> ProducerState {
        ProducerState::default()
            .with_producer_id(known::ProducerId(from.producer_id))
            .with_producer_epoch(from.producer_epoch)
            .with_last_sequence(from.last_sequence)
            .with_last_timestamp(from.last_timestamp)
            .with_coordinator_epoch(from.coordinator_epoch)
            .with_current_txn_start_offset(from.current_txn_start_offset)
    }
    fn topic_response(from: &api::DescribeProducersTopicResponse<'_>) -> TopicResponse {
        TopicResponse::default()
            .with_name(topic(from.name))
            .with_partitions(all(&from.partitions, partition_response))
    }
    known::DescribeProducersResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, topic_response))
}

pub(in crate::tests) fn describe_transactions_request(
    from: &api::DescribeTransactionsRequest<'_>,
) -> known::DescribeTransactionsRequest {
    known::DescribeTransactionsRequest::default()
        .with_transactional_ids(all(&from.transactional_ids, |row| transactional(row)))
}

pub(in crate::tests) fn describe_transactions_response(
    from: &api::DescribeTransactionsResponse<'_>,
) -> known::DescribeTransactionsResponse {
    use known::describe_transactions_response::{TopicData, TransactionState};
    fn topic_data(from: &api::TransactionTopic<'_>) -> TopicData {
        TopicData::default()
            .with_topic(topic(from.topic))
            .with_partitions(from.partitions.clone())
    }
    fn transaction_state(from: &api::DescribedTransaction<'_>) -> TransactionState {
        TransactionState::default()
            .with_error_code(from.error_code)
            .with_transactional_id(transactional(from.transactional_id))
            .with_transaction_state(text(from.transaction_state))
            .with_transaction_timeout_ms(from.transaction_timeout_ms)
            .with_transaction_start_time_ms(from.transaction_start_time_ms)
            .with_producer_id(known::ProducerId(from.producer_id))
            .with_producer_epoch(from.producer_epoch)
            .with_topics(all(&from.topics, topic_data))
    }
    known::DescribeTransactionsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_transaction_states(all(&from.transaction_states, transaction_state))
}

pub(in crate::tests) fn list_transactions_request(
    from: &api::ListTransactionsRequest<'_>,
) -> known::ListTransactionsRequest {
    known::ListTransactionsRequest::default()
        .with_state_filters(all(&from.state_filters, |row| text(row)))
        .with_producer_id_filters(all(&from.producer_id_filters, |row| {
            known::ProducerId(*row)
        }))
        .with_duration_filter(from.duration_filter)
        .with_transactional_id_pattern(from.transactional_id_pattern.map(text))
}

pub(in crate::tests) fn list_transactions_response(
    from: &api::ListTransactionsResponse<'_>,
) -> known::ListTransactionsResponse {
    use known::list_transactions_response::TransactionState;
    fn transaction_state(from: &api::ListedTransaction<'_>) -> TransactionState {
        TransactionState::default()
            .with_transactional_id(transactional(from.transactional_id))
            .with_producer_id(known::ProducerId(from.producer_id))
            .with_transaction_state(text(from.transaction_state))
    }
    known::ListTransactionsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_unknown_state_filters(all(&from.unknown_state_filters, |row| text(row)))
        .with_transaction_states(all(&from.transaction_states, transaction_state))
}
