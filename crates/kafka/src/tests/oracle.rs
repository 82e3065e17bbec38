//! The same messages as the crate `kafka-protocol` has them, field by field.

mod admin;
mod groups;
mod sasl;
mod transactions;

pub(super) use admin::*;
pub(super) use groups::*;
pub(super) use sasl::*;
pub(super) use transactions::*;

use crate::api::{self, Api};
use crate::{Records, Uuid};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages as known;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

/// Decodes a message of the type of `like`.
pub(super) fn decode<T: Decodable>(bytes: &[u8], version: i16, _like: &T) -> T {
    let mut from = Bytes::copy_from_slice(bytes);
    let decoded = T::decode(&mut from, version).unwrap();
    assert!(!from.has_remaining(), "the oracle leaves bytes behind");
    decoded
}

pub(super) fn encode<T: Encodable>(message: &T, version: i16) -> Vec<u8> {
    let mut to = BytesMut::new();
    message.encode(&mut to, version).unwrap();
    to.to_vec()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> known::TopicName {
    known::TopicName(text(name))
}

fn group(id: &str) -> known::GroupId {
    known::GroupId(text(id))
}

fn transactional(id: &str) -> known::TransactionalId {
    known::TransactionalId(text(id))
}

/// The oracle does not export its type of an id, but that can be parsed.
fn uuid<T: std::str::FromStr<Err: std::fmt::Debug>>(id: Uuid) -> T {
    format!("{:032x}", u128::from_be_bytes(id)).parse().unwrap()
}

fn brokers(ids: &[i32]) -> Vec<known::BrokerId> {
    ids.iter().map(|&id| known::BrokerId(id)).collect()
}

fn all<T, U>(elements: &[T], convert: impl Fn(&T) -> U) -> Vec<U> {
    elements.iter().map(convert).collect()
}

fn framed(header: &[u8], body: &[u8]) -> Vec<u8> {
    let size = (header.len() + body.len()) as i32;
    [&size.to_be_bytes()[..], header, body].concat()
}

pub(super) fn request(api: Api, version: i16, id: i32, client_id: &str, body: &[u8]) -> Vec<u8> {
    let header_version = known::ApiKey::try_from(api.key())
        .unwrap()
        .request_header_version(version);
    let header = known::RequestHeader::default()
        .with_request_api_key(api.key())
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(text(client_id)));
    framed(&encode(&header, header_version), body)
}

pub(super) fn response(api: Api, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let header_version = known::ApiKey::try_from(api.key())
        .unwrap()
        .response_header_version(version);
    let header = known::ResponseHeader::default().with_correlation_id(id);
    framed(&encode(&header, header_version), body)
}

pub(super) fn api_versions_request(
    from: &api::ApiVersionsRequest<'_>,
) -> known::ApiVersionsRequest {
    known::ApiVersionsRequest::default()
        .with_client_software_name(text(from.client_software_name))
        .with_client_software_version(text(from.client_software_version))
}

pub(super) fn api_versions_response(from: &api::ApiVersionsResponse) -> known::ApiVersionsResponse {
    known::ApiVersionsResponse::default()
        .with_error_code(from.error_code)
        .with_api_keys(all(&from.api_keys, |row| {
            known::api_versions_response::ApiVersion::default()
                .with_api_key(row.api_key)
                .with_min_version(row.min_version)
                .with_max_version(row.max_version)
        }))
        .with_throttle_time_ms(from.throttle_time_ms)
}

pub(super) fn metadata_request(from: &api::MetadataRequest<'_>) -> known::MetadataRequest {
    use known::metadata_request::MetadataRequestTopic;
    known::MetadataRequest::default()
        .with_topics(from.topics.as_ref().map(|topics| {
            all(topics, |row| {
                MetadataRequestTopic::default()
                    .with_topic_id(uuid(row.topic_id))
                    .with_name(row.name.map(topic))
            })
        }))
        .with_allow_auto_topic_creation(from.allow_auto_topic_creation)
        .with_include_cluster_authorized_operations(from.include_cluster_authorized_operations)
        .with_include_topic_authorized_operations(from.include_topic_authorized_operations)
}

pub(super) fn metadata_response(from: &api::MetadataResponse<'_>) -> known::MetadataResponse {
    use known::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    let partition = |row: &api::MetadataPartition| {
        MetadataResponsePartition::default()
            .with_error_code(row.error_code)
            .with_partition_index(row.partition_index)
            .with_leader_id(known::BrokerId(row.leader_id))
            .with_leader_epoch(row.leader_epoch)
            .with_replica_nodes(brokers(&row.replica_nodes))
            .with_isr_nodes(brokers(&row.isr_nodes))
            .with_offline_replicas(brokers(&row.offline_replicas))
    };
    known::MetadataResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_brokers(all(&from.brokers, |row| {
            MetadataResponseBroker::default()
                .with_node_id(known::BrokerId(row.node_id))
                .with_host(text(row.host))
                .with_port(row.port)
                .with_rack(row.rack.map(text))
        }))
        .with_cluster_id(from.cluster_id.map(text))
        .with_controller_id(known::BrokerId(from.controller_id))
        .with_topics(all(&from.topics, |row| {
            MetadataResponseTopic::default()
                .with_error_code(row.error_code)
                .with_name(row.name.map(topic))
                .with_topic_id(uuid(row.topic_id))
                .with_is_internal(row.is_internal)
                .with_partitions(all(&row.partitions, partition))
                .with_topic_authorized_operations(row.topic_authorized_operations)
        }))
        .with_cluster_authorized_operations(from.cluster_authorized_operations)
        .with_error_code(from.error_code)
}

pub(super) fn list_offsets_request(
    from: &api::ListOffsetsRequest<'_>,
) -> known::ListOffsetsRequest {
    use known::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let partition = |row: &api::ListOffsetsPartition| {
        ListOffsetsPartition::default()
            .with_partition_index(row.partition_index)
            .with_current_leader_epoch(row.current_leader_epoch)
            .with_timestamp(row.timestamp)
    };
    known::ListOffsetsRequest::default()
        .with_replica_id(known::BrokerId(from.replica_id))
        .with_isolation_level(from.isolation_level)
        .with_topics(all(&from.topics, |row| {
            ListOffsetsTopic::default()
                .with_name(topic(row.name))
                .with_partitions(all(&row.partitions, partition))
        }))
        .with_timeout_ms(from.timeout_ms)
}

pub(super) fn list_offsets_response(
    from: &api::ListOffsetsResponse<'_>,
) -> known::ListOffsetsResponse {
    use known::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let partition = |row: &api::ListOffsetsPartitionResponse| {
        ListOffsetsPartitionResponse::default()
            .with_partition_index(row.partition_index)
            .with_error_code(row.error_code)
            .with_timestamp(row.timestamp)
            .with_offset(row.offset)
            .with_leader_epoch(row.leader_epoch)
    };
    known::ListOffsetsResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, |row| {
            ListOffsetsTopicResponse::default()
                .with_name(topic(row.name))
                .with_partitions(all(&row.partitions, partition))
        }))
}

fn records(records: &Records<'_>) -> Option<Bytes> {
    match records {
        Records::Null | Records::Apart(_) => None,
        Records::Stored(slices) => Some(Bytes::from(slices.concat())),
        Records::Received(bytes) => Some(Bytes::copy_from_slice(bytes)),
    }
}

pub(super) fn produce_request(from: &api::ProduceRequest<'_>) -> known::ProduceRequest {
    use known::produce_request::{PartitionProduceData, TopicProduceData};
    let partition = |row: &api::ProducePartition<'_>| {
        PartitionProduceData::default()
            .with_index(row.index)
            .with_records(records(&row.records))
    };
    known::ProduceRequest::default()
        .with_transactional_id(from.transactional_id.map(transactional))
        .with_acks(from.acks)
        .with_timeout_ms(from.timeout_ms)
        .with_topic_data(all(&from.topics, |row| {
            TopicProduceData::default()
                .with_name(topic(row.name))
                .with_topic_id(uuid(row.topic_id))
                .with_partition_data(all(&row.partitions, partition))
        }))
}

pub(super) fn produce_response(from: &api::ProduceResponse<'_>) -> known::ProduceResponse {
    use known::produce_response::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
    };
    let record_error = |row: &api::RecordError<'_>| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(row.batch_index)
            .with_batch_index_error_message(row.message.map(text))
    };
    let partition = |row: &api::ProducePartitionResponse<'_>| {
        PartitionProduceResponse::default()
            .with_index(row.index)
            .with_error_code(row.error_code)
            .with_base_offset(row.base_offset)
            .with_log_append_time_ms(row.log_append_time_ms)
            .with_log_start_offset(row.log_start_offset)
            .with_record_errors(all(&row.record_errors, record_error))
            .with_error_message(row.error_message.map(text))
    };
    known::ProduceResponse::default()
        .with_responses(all(&from.topics, |row| {
            TopicProduceResponse::default()
                .with_name(topic(row.name))
                .with_topic_id(uuid(row.topic_id))
                .with_partition_responses(all(&row.partitions, partition))
        }))
        .with_throttle_time_ms(from.throttle_time_ms)
}

pub(super) fn fetch_request(from: &api::FetchRequest<'_>) -> known::FetchRequest {
    use known::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    let partition = |row: &api::FetchPartition| {
        FetchPartition::default()
            .with_partition(row.partition)
            .with_current_leader_epoch(row.current_leader_epoch)
            .with_fetch_offset(row.fetch_offset)
            .with_last_fetched_epoch(row.last_fetched_epoch)
            .with_log_start_offset(row.log_start_offset)
            .with_partition_max_bytes(row.partition_max_bytes)
    };
    known::FetchRequest::default()
        .with_replica_id(known::BrokerId(from.replica_id))
        .with_max_wait_ms(from.max_wait_ms)
        .with_min_bytes(from.min_bytes)
        .with_max_bytes(from.max_bytes)
        .with_isolation_level(from.isolation_level)
        .with_session_id(from.session_id)
        .with_session_epoch(from.session_epoch)
        .with_topics(all(&from.topics, |row| {
            FetchTopic::default()
                .with_topic(topic(row.topic))
                .with_topic_id(uuid(row.topic_id))
                .with_partitions(all(&row.partitions, partition))
        }))
        .with_forgotten_topics_data(all(&from.forgotten_topics, |row| {
            ForgottenTopic::default()
                .with_topic(topic(row.topic))
                .with_topic_id(uuid(row.topic_id))
                .with_partitions(row.partitions.clone())
        }))
        .with_rack_id(text(from.rack_id))
}

/// A fetch with everything that only brokers of a cluster send.
pub(super) fn fetch_of_a_follower(version: i16) -> Vec<u8> {
    use known::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
    let mut partition = FetchPartition::default()
        .with_fetch_offset(42)
        .with_unknown_tagged_field(99, Bytes::from_static(b"from the future"));
    if version >= 17 {
        partition.replica_directory_id = uuid([7; 16]);
    }
    if version >= 18 {
        partition.high_watermark = 41;
    }
    let mut request = known::FetchRequest::default()
        .with_cluster_id(Some(text("cluster")))
        .with_topics(vec![FetchTopic::default().with_partitions(vec![partition])])
        .with_rack_id(text("rack"));
    if version >= 15 {
        request.replica_state = ReplicaState::default().with_replica_id(known::BrokerId(3));
    }
    encode(&request, version)
}

pub(super) fn fetch_response(from: &api::FetchResponse<'_>) -> known::FetchResponse {
    use known::fetch_response::{
        AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
    };
    let aborted = |row: &api::AbortedTransaction| {
        AbortedTransaction::default()
            .with_producer_id(known::ProducerId(row.producer_id))
            .with_first_offset(row.first_offset)
    };
    let partition = |row: &api::FetchPartitionResponse<'_>| {
        let diverging = row.diverging_epoch.as_ref().map(|row| {
            EpochEndOffset::default()
                .with_epoch(row.epoch)
                .with_end_offset(row.end_offset)
        });
        PartitionData::default()
            .with_partition_index(row.partition_index)
            .with_error_code(row.error_code)
            .with_high_watermark(row.high_watermark)
            .with_last_stable_offset(row.last_stable_offset)
            .with_log_start_offset(row.log_start_offset)
            .with_diverging_epoch(diverging.unwrap_or_default())
            .with_aborted_transactions(
                row.aborted_transactions
                    .as_ref()
                    .map(|rows| all(rows, aborted)),
            )
            .with_preferred_read_replica(known::BrokerId(row.preferred_read_replica))
            .with_records(records(&row.records))
    };
    known::FetchResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_error_code(from.error_code)
        .with_session_id(from.session_id)
        .with_responses(all(&from.topics, |row| {
            FetchableTopicResponse::default()
                .with_topic(topic(row.topic))
                .with_topic_id(uuid(row.topic_id))
                .with_partitions(all(&row.partitions, partition))
        }))
}

pub(super) fn leader_epoch_request(
    from: &api::OffsetForLeaderEpochRequest<'_>,
) -> known::OffsetForLeaderEpochRequest {
    use known::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let partition = |row: &api::LeaderEpochPartition| {
        OffsetForLeaderPartition::default()
            .with_partition(row.partition)
            .with_current_leader_epoch(row.current_leader_epoch)
            .with_leader_epoch(row.leader_epoch)
    };
    known::OffsetForLeaderEpochRequest::default()
        .with_replica_id(known::BrokerId(from.replica_id))
        .with_topics(all(&from.topics, |row| {
            OffsetForLeaderTopic::default()
                .with_topic(topic(row.topic))
                .with_partitions(all(&row.partitions, partition))
        }))
}

pub(super) fn leader_epoch_response(
    from: &api::OffsetForLeaderEpochResponse<'_>,
) -> known::OffsetForLeaderEpochResponse {
    use known::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
    let partition = |row: &api::LeaderEpochPartitionResponse| {
        EpochEndOffset::default()
            .with_error_code(row.error_code)
            .with_partition(row.partition)
            .with_leader_epoch(row.leader_epoch)
            .with_end_offset(row.end_offset)
    };
    known::OffsetForLeaderEpochResponse::default()
        .with_throttle_time_ms(from.throttle_time_ms)
        .with_topics(all(&from.topics, |row| {
            OffsetForLeaderTopicResult::default()
                .with_topic(topic(row.topic))
                .with_partitions(all(&row.partitions, partition))
        }))
}
