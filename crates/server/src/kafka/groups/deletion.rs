//! DeleteGroups and OffsetDelete: forget groups without members, and offsets that nobody reads on;
//! and what becomes of offsets when their topic is deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::kafka::api::{
    Api, DeleteGroupsRequest, DeleteGroupsResponse, DeletedGroup, OffsetDeletePartitionResponse,
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteTopicResponse,
};
use ::kafka::group::is_group_id;
use ::kafka::{ErrorCode, Frame, encode_response};
use commitlog::{Entry, Op};
use tokio::sync::oneshot;

use super::{Applying, Groups, Record, appended, build, code, deletion};
use crate::kafka::FrontDoor;
use crate::kafka::access::{Operation, Resource};
use crate::kafka::caller::Caller;
use crate::node::{AppendError, Appended};

/// What the log will say.
type Pending = oneshot::Receiver<Result<(), ErrorCode>>;

/// Answers a DeleteGroups request when the deletions are in the log.
pub(in crate::kafka) async fn delete_groups(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DeleteGroupsRequest<'_>,
) -> Frame {
    let begun: Vec<Result<Pending, ErrorCode>> = request
        .group_names
        .iter()
        .map(|group| {
            if door.allows(caller, Operation::Delete, Resource::Group(group)) {
                door.groups.delete(group)
            } else {
                Err(ErrorCode::GroupAuthorizationFailed)
            }
        })
        .collect();
    let mut results = Vec::with_capacity(begun.len());
    for (group_id, begun) in request.group_names.iter().zip(begun) {
        let outcome = match begun {
            Ok(answer) => appended(answer).await,
            Err(error) => Err(error),
        };
        let error = outcome.err().unwrap_or(ErrorCode::None);
        results.push(DeletedGroup {
            group_id,
            error_code: code(door, Api::DeleteGroups, error),
        });
    }
    let response = DeleteGroupsResponse {
        throttle_time_ms: 0,
        results,
    };
    encode_response(Api::DeleteGroups, version, correlation_id, &response)
}

/// Answers an OffsetDelete request when the deletions are in the log.
pub(in crate::kafka) async fn offset_delete(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &OffsetDeleteRequest<'_>,
) -> Frame {
    let group = request.group_id;
    let begun = if door.allows(caller, Operation::Delete, Resource::Group(group)) {
        let faults: Vec<ErrorCode> = request
            .topics
            .iter()
            .map(|topic| {
                let resource = Resource::Topic(topic.name);
                if door.allows(caller, Operation::Read, resource) {
                    door.stream(topic.name).err().unwrap_or(ErrorCode::None)
                } else {
                    ErrorCode::TopicAuthorizationFailed
                }
            })
            .collect();
        door.groups.delete_offsets(request, faults)
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    };
    let (error, faults) = match begun {
        Err(error) => (error, Vec::new()),
        Ok((faults, answer)) => match appended(answer).await {
            Ok(()) => (ErrorCode::None, faults),
            Err(error) => (error, Vec::new()),
        },
    };
    let topics = request.topics.iter().zip(&faults).map(|(topic, fault)| {
        let partitions = topic.partitions.iter();
        OffsetDeleteTopicResponse {
            name: topic.name,
            partitions: partitions
                .map(|row| OffsetDeletePartitionResponse {
                    partition_index: row.partition_index,
                    error_code: code(door, Api::OffsetDelete, *fault),
                })
                .collect(),
        }
    });
    let response = OffsetDeleteResponse {
        error_code: code(door, Api::OffsetDelete, error),
        throttle_time_ms: 0,
        topics: topics.collect(),
    };
    encode_response(Api::OffsetDelete, version, correlation_id, &response)
}

impl Groups {
    /// Deletes a group that has no members, with all its offsets.
    fn delete(&self, group: &str) -> Result<Pending, ErrorCode> {
        if !is_group_id(group) {
            return Err(ErrorCode::InvalidGroupId);
        }
        let mut inside = self.lock();
        let known = inside.machine.get(group).is_some() || inside.offsets.has(group);
        if !known {
            return Err(ErrorCode::GroupIdNotFound);
        }
        if inside.offsets.is_pending(group) || !inside.machine.remove(group) {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let records: Vec<Record> = inside
            .offsets
            .of_group(group)
            .map(|((topic, partition), _)| deletion(group, topic, *partition))
            .collect();
        Ok(self.submit(&mut inside, records))
    }

    /// Deletes offsets of topics that no member reads; says what is wrong with the others.
    fn delete_offsets(
        &self,
        request: &OffsetDeleteRequest<'_>,
        mut faults: Vec<ErrorCode>,
    ) -> Result<(Vec<ErrorCode>, Pending), ErrorCode> {
        let group = request.group_id;
        if !is_group_id(group) {
            return Err(ErrorCode::InvalidGroupId);
        }
        let mut inside = self.lock();
        let view = inside.machine.get(group);
        if view.is_none() && !inside.offsets.has(group) {
            return Err(ErrorCode::GroupIdNotFound);
        }
        if let Some(view) = view.filter(|view| view.members_count() > 0) {
            for (topic, fault) in request.topics.iter().zip(&mut faults) {
                match view.subscribes(topic.name) {
                    Some(true) => *fault = ErrorCode::GroupSubscribedToTopic,
                    Some(false) => {}
                    None => return Err(ErrorCode::NonEmptyGroup),
                }
            }
        }
        let mut records = Vec::new();
        for (topic, fault) in request.topics.iter().zip(&faults) {
            for row in topic.partitions.iter().filter(|_| !fault.is_error()) {
                let index = row.partition_index;
                let known = inside.offsets.get(group, topic.name, index);
                if known.committed.is_some() {
                    records.push(deletion(group, topic.name, index));
                }
            }
        }
        Ok((faults, self.submit(&mut inside, records)))
    }
}

/// A topic whose deletion is on its way: until this goes, nothing is committed for it.
struct Going {
    groups: Arc<Groups>,
    topic: Arc<str>,
}

impl Drop for Going {
    fn drop(&mut self) {
        self.groups.lock().going.remove(&self.topic);
    }
}

impl Groups {
    /// Deletes a topic and what groups have committed of it, as Apache Kafka does. Both are in one
    /// entry of the log: whoever makes a topic of that name afterwards finds no offsets, whatever
    /// happens in between. What does not fit into an entry follows, and is looked for at a start
    /// before the first client. `forget` takes the offsets of the topic out of open transactions and
    /// says which others their ends, which are on their way, will have committed.
    ///
    /// Goes on to its end also where nobody waits for it.
    ///
    /// # Errors
    /// The log does not take it.
    pub(in crate::kafka) async fn delete_topic(
        self: &Arc<Self>,
        topic: &Arc<str>,
        forget: impl FnOnce() -> Vec<(Arc<str>, i32)> + Send + 'static,
    ) -> Result<Appended, AppendError> {
        if !self.lock().going.insert(topic.clone()) {
            return Err(AppendError::Refused("it is being deleted".into()));
        }
        let going = Going {
            groups: self.clone(),
            topic: topic.clone(),
        };
        let deleting = tokio::spawn(async move {
            let (groups, topic) = (&going.groups, &going.topic);
            groups.all_taken_in().await;
            groups.delete_with_offsets(topic, forget()).await
        });
        deleting.await.unwrap_or(Err(AppendError::Stopping))
    }

    /// Waits until everything that was handed to the log is known here.
    async fn all_taken_in(&self) {
        let (done, taken_in) = oneshot::channel();
        let applying = Applying {
            done: Some(done),
            ..Applying::default()
        };
        // Without the task nothing will ever be.
        if self.applying.send(applying).is_ok() {
            let _ = taken_in.await;
        }
    }

    async fn delete_with_offsets(
        &self,
        topic: &str,
        ending: Vec<(Arc<str>, i32)>,
    ) -> Result<Appended, AppendError> {
        let mut places: BTreeSet<(Arc<str>, i32)> = ending.into_iter().collect();
        let (submitted, batches, rest) = {
            let inside = self.lock();
            places.extend(inside.offsets.of_topic(topic));
            let records = places
                .iter()
                .map(|(group, partition)| deletion(group, topic, *partition))
                .collect();
            let entries = self
                .partition()
                .map(|partition| build(partition, records, self.now_ms()));
            let mut entries = entries.into_iter().flatten();
            let (appends, batches) = entries.next().unwrap_or_default();
            let rest: Vec<Record> = entries.flat_map(|(_, batches)| batches).flatten().collect();
            let entry = Entry {
                appends,
                ops: vec![Op::DeleteStream(topic.to_owned())],
            };
            (self.source.submit(entry), batches, rest)
        };
        let appended = submitted.await?;
        let answer = {
            let mut inside = self.lock();
            // A refusal is logged there; the next start looks for what is left.
            let _ = inside.take_in_all(&batches, &appended);
            self.submit(&mut inside, rest)
        };
        let _ = super::appended(answer).await;
        Ok(appended)
    }
}
