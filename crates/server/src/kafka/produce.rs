//! Produce: listed, since librdkafka reads batches only from a server that lists it, and refused for
//! every topic. Messages come in over MQTT.

use ::kafka::api::{
    Api, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::FrontDoor;

/// Refuses a Produce request; `None` where the client asks for no answer.
pub(super) fn answer(
    door: &FrontDoor,
    version: i16,
    correlation_id: i32,
    request: &ProduceRequest<'_>,
) -> Option<Frame> {
    let refused = |index| {
        door.counters.error(Api::Produce);
        ProducePartitionResponse {
            index,
            error_code: ErrorCode::TopicAuthorizationFailed.as_i16(),
            base_offset: -1,
            error_message: Some("this node takes messages over MQTT only"),
            ..Default::default()
        }
    };
    let topics = request.topics.iter().map(|topic| ProduceTopicResponse {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|row| refused(row.index))
            .collect(),
    });
    let response = ProduceResponse {
        topics: topics.collect(),
        throttle_time_ms: 0,
    };
    (request.acks != 0).then(|| encode_response(Api::Produce, version, correlation_id, &response))
}
