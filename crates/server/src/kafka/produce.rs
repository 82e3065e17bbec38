//! Produce: listed, since librdkafka reads batches only from a server that lists it, and refused for
//! every topic. Messages come in over MQTT.

use ::kafka::api::{
    Api, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
};
use ::kafka::{ErrorCode, WireError, encode_response};

use super::FrontDoor;
use super::dispatch::{Asked, Outcome, Reply};

/// Begins a Produce request.
pub(super) fn begin(asked: &Asked) -> Reply {
    Reply::Ready(answer(asked))
}

fn answer(asked: &Asked) -> Outcome {
    let request: ProduceRequest<'_> = asked.request()?;
    let door: &FrontDoor = &asked.door;
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
        ..Default::default()
    });
    let response = ProduceResponse {
        topics: topics.collect(),
        ..Default::default()
    };
    if request.acks == 0 {
        // Who asks for no answer learns of a failure by the end of the connection.
        return Err(WireError::Unsupported);
    }
    let frame = encode_response(Api::Produce, asked.version, asked.correlation_id, &response);
    Ok(Some(frame.into()))
}
