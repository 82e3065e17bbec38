//! DeleteTopics: a stream goes with all that it holds. What the configuration names would come
//! back empty at the next start, and is refused.

use std::sync::Arc;

use ::kafka::api::{Api, DeleteTopicsRequest, DeleteTopicsResponse, DeletedTopic};
use ::kafka::{ErrorCode, Frame, Uuid, encode_response};
use commitlog::{Lsn, Refusal};

use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::super::{FrontDoor, Stream};
use super::{Refused, kept, told};

/// A topic as it was asked for, and what became of it.
struct Row<'a> {
    name: Option<&'a str>,
    topic_id: Uuid,
    done: Result<Arc<Stream>, Refused>,
}

/// Answers a DeleteTopics request.
pub(in crate::kafka) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DeleteTopicsRequest<'_>,
) -> Frame {
    let rows = delete(door, caller, request).await;
    let responses = rows.iter().map(|row| {
        let (error_code, error_message) = told(&row.done);
        if error_code != 0 {
            door.counters.error(Api::DeleteTopics);
        }
        let deleted = row.done.as_ref().ok();
        DeletedTopic {
            name: row.name.or(deleted.map(|stream| &*stream.name)),
            topic_id: deleted.map_or(row.topic_id, |stream| stream.topic_id),
            error_code,
            error_message,
        }
    });
    let response = DeleteTopicsResponse {
        throttle_time_ms: 0,
        responses: responses.collect(),
    };
    encode_response(Api::DeleteTopics, version, correlation_id, &response)
}

async fn delete<'a>(
    door: &FrontDoor,
    caller: &Caller,
    request: &DeleteTopicsRequest<'a>,
) -> Vec<Row<'a>> {
    let _turn = door.admin.turn.lock().await;
    let by_name = request
        .topic_names
        .iter()
        .map(|&name| (Some(name), [0; 16]));
    let by_state = request
        .topics
        .iter()
        .map(|topic| (topic.name, topic.topic_id));
    let mut rows = Vec::new();
    let mut lsn: Lsn = 0;
    for (name, topic_id) in by_name.chain(by_state) {
        let done = match found(door, caller, name, &topic_id) {
            Ok(stream) => {
                let deleted = remove(door, &stream, &mut lsn).await;
                deleted.map(|()| stream)
            }
            Err(refused) => Err(refused),
        };
        rows.push(Row {
            name,
            topic_id,
            done,
        });
    }
    if let Err(refused) = kept(door, lsn).await {
        for row in rows.iter_mut().filter(|row| row.done.is_ok()) {
            row.done = Err(refused.clone());
        }
    }
    rows
}

/// Deletes a stream, and with it what groups have committed of it.
async fn remove(door: &FrontDoor, stream: &Stream, lsn: &mut Lsn) -> Result<(), Refused> {
    let (transactions, name) = (door.transactions.clone(), stream.name.clone());
    let forget = move || transactions.forget_topic(&name);
    let appended = door.groups.delete_topic(&stream.name, forget).await?;
    *lsn = appended.lsn.max(*lsn);
    let done = appended.ops.into_iter().next();
    done.unwrap_or(Err(Refusal::UnknownStream))?;
    Ok(())
}

/// The stream that is to go, if it may.
fn found(
    door: &FrontDoor,
    caller: &Caller,
    name: Option<&str>,
    topic_id: &Uuid,
) -> Result<Arc<Stream>, Refused> {
    let stream = match name {
        Some(_) if *topic_id != [0; 16] => {
            return Err(Refused::new(
                ErrorCode::InvalidRequest,
                "a topic is named by its name or by its id, not by both",
            ));
        }
        Some(name) => {
            if !door.allows(caller, Operation::Delete, Resource::Topic(name)) {
                return Err(ErrorCode::TopicAuthorizationFailed.into());
            }
            door.stream(name)?
        }
        None => {
            let stream = door.stream_by_id(topic_id)?;
            let resource = Resource::Topic(&stream.name);
            if !door.allows(caller, Operation::Describe, resource) {
                return Err(ErrorCode::UnknownTopicId.into());
            }
            if !door.allows(caller, Operation::Delete, resource) {
                return Err(ErrorCode::TopicAuthorizationFailed.into());
            }
            stream
        }
    };
    if door.admin.facts.needed.contains(&*stream.name) {
        return Err(Refused::new(
            ErrorCode::PolicyViolation,
            format!(
                "{} is named by the configuration (a [[stream]] or a [[hook]]) and would come back \
                 empty at the next start: take it out there first",
                stream.name
            ),
        ));
    }
    Ok(stream)
}
