//! CreatePartitions: a topic gets more partitions. Keys then go to others, as in Apache Kafka; a
//! hook uses the new ones from the next start on.

use std::collections::HashSet;

use ::kafka::api::{
    Api, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResponse,
};
use ::kafka::{ErrorCode, Frame, encode_response};
use commitlog::{Lsn, Op, StreamSettings};

use super::super::FrontDoor;
use super::super::access::Operation;
use super::super::caller::Caller;
use super::super::limits::{self, NODE_ID};
use super::create_topics::{Room, changeable};
use super::{Refused, hand_in, kept, outcome, told};

/// Answers a CreatePartitions request.
pub(in crate::kafka) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &CreatePartitionsRequest<'_>,
) -> Frame {
    let done = widen(door, caller, request).await;
    let results = request.topics.iter().zip(&done).map(|(topic, done)| {
        let (error_code, error_message) = told(done);
        if error_code != 0 {
            door.counters.error(Api::CreatePartitions);
        }
        CreatePartitionsTopicResponse {
            name: topic.name,
            error_code,
            error_message,
        }
    });
    let response = CreatePartitionsResponse {
        throttle_time_ms: 0,
        results: results.collect(),
    };
    encode_response(Api::CreatePartitions, version, correlation_id, &response)
}

async fn widen(
    door: &FrontDoor,
    caller: &Caller,
    request: &CreatePartitionsRequest<'_>,
) -> Vec<Result<(), Refused>> {
    let _turn = door.admin.turn.lock().await;
    let mut room = Room::of(door);
    let mut names = HashSet::new();
    let mut done = Vec::with_capacity(request.topics.len());
    let mut lsn: Lsn = 0;
    for topic in &request.topics {
        let wider = if names.insert(topic.name) {
            wider(door, caller, topic, &mut room)
        } else {
            Err(Refused::new(
                ErrorCode::InvalidRequest,
                "the topic is named twice in the request",
            ))
        };
        done.push(match wider {
            Ok(_) if request.validate_only => Ok(()),
            Ok(stream) => outcome(hand_in(door, Op::AlterStream(stream)), &mut lsn)
                .await
                .map(drop),
            Err(refused) => Err(refused),
        });
    }
    if let Err(refused) = kept(door, lsn).await {
        done.fill(Err(refused));
    }
    done
}

/// The settings with the wanted number of partitions.
fn wider(
    door: &FrontDoor,
    caller: &Caller,
    topic: &CreatePartitionsTopic<'_>,
    room: &mut Room<'_>,
) -> Result<StreamSettings, Refused> {
    let stream = changeable(door, caller, Operation::Alter, topic.name)?;
    let have = stream.partitions.len() as i32;
    let refused = |words: String| Err(Refused::new(ErrorCode::InvalidPartitions, words));
    if topic.count == have {
        return refused(format!("Topic already has {have} partition(s)."));
    }
    if topic.count < have {
        return refused(format!(
            "The topic {} currently has {have} partition(s); {} would not be an increase.",
            topic.name, topic.count
        ));
    }
    if topic.count > limits::TOPIC_PARTITIONS_MAX {
        return refused(format!(
            "a topic has at most {} partitions",
            limits::TOPIC_PARTITIONS_MAX
        ));
    }
    let more = (topic.count - have) as usize;
    if let Some(assignments) = &topic.assignments {
        let here = assignments.iter().all(|row| row.broker_ids == [NODE_ID]);
        if assignments.len() != more || !here {
            return Err(Refused::new(
                ErrorCode::InvalidReplicaAssignment,
                format!("each new partition is assigned to this node, whose id is {NODE_ID}"),
            ));
        }
    }
    room.widen(more)?;
    Ok(StreamSettings {
        partitions: topic.count as u32,
        ..stream.settings.clone()
    })
}
