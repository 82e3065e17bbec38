//! OffsetFetch: what groups have committed. An offset that an open transaction may replace is not
//! told to who asks for stable ones (KIP-447).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::kafka::api::{
    Api, OffsetFetchGroup, OffsetFetchGroupResponse, OffsetFetchPartitionResponse,
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchTopic, OffsetFetchTopicResponse,
};
use ::kafka::group::is_group_id;
use ::kafka::offsets::{CommittedOffset, Lookup, Place};
use ::kafka::{ErrorCode, Frame, Uuid, encode_response};

use super::{Inside, code};
use crate::kafka::FrontDoor;
use crate::kafka::access::{Operation, Resource};
use crate::kafka::caller::Caller;

/// What was found for a group, held while the response is written.
struct Found {
    error: ErrorCode,
    topics: Vec<FoundTopic>,
}

struct FoundTopic {
    name: Arc<str>,
    topic_id: Uuid,
    partitions: Vec<(i32, ErrorCode, Option<CommittedOffset>)>,
}

/// Answers an OffsetFetch request.
pub(in crate::kafka) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &OffsetFetchRequest<'_>,
) -> Frame {
    let asking = Asking {
        door,
        caller,
        version,
        stable: request.require_stable,
    };
    // A group that is repeated would have its offsets told as often.
    let mut seen = BTreeSet::new();
    let asked = request.groups.iter();
    let asked: Vec<_> = asked.filter(|group| seen.insert(group.group_id)).collect();
    let inside = door.groups.lock();
    let response = |found: &[Found]| {
        let mut response = OffsetFetchResponse::default();
        // Borrowed for the encoding only, which is why the frame is made in here.
        if version >= 8 {
            let groups = asked.iter().zip(found);
            response.groups = groups
                .map(|(group, found)| OffsetFetchGroupResponse {
                    group_id: group.group_id,
                    topics: topics(door, found),
                    error_code: code(door, Api::OffsetFetch, found.error),
                })
                .collect();
        } else {
            response.topics = topics(door, &found[0]);
            response.error_code = code(door, Api::OffsetFetch, found[0].error);
        }
        encode_response(Api::OffsetFetch, version, correlation_id, &response)
    };
    let found: Vec<Found> = if version >= 8 {
        let groups = asked.iter();
        groups.map(|group| asking.group(&inside, group)).collect()
    } else {
        vec![asking.group(
            &inside,
            &OffsetFetchGroup {
                group_id: request.group_id,
                topics: request.topics.clone(),
                ..Default::default()
            },
        )]
    };
    drop(inside);
    response(&found)
}

fn topics<'a>(door: &FrontDoor, found: &'a Found) -> Vec<OffsetFetchTopicResponse<'a>> {
    let partition = |(index, error, committed): &'a (i32, ErrorCode, Option<CommittedOffset>)| {
        let committed = committed.as_ref();
        OffsetFetchPartitionResponse {
            partition_index: *index,
            committed_offset: committed.map_or(-1, |committed| committed.offset),
            committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
            metadata: Some(committed.map_or("", |committed| &committed.metadata)),
            error_code: code(door, Api::OffsetFetch, *error),
        }
    };
    found
        .topics
        .iter()
        .map(|topic| OffsetFetchTopicResponse {
            name: &topic.name,
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(partition).collect(),
        })
        .collect()
}

struct Asking<'a> {
    door: &'a FrontDoor,
    caller: &'a Caller,
    version: i16,
    stable: bool,
}

impl Asking<'_> {
    fn group(&self, inside: &Inside, group: &OffsetFetchGroup<'_>) -> Found {
        let id = group.group_id;
        let mut error = ErrorCode::None;
        if !is_group_id(id) {
            error = ErrorCode::InvalidGroupId;
        } else if !self
            .door
            .allows(self.caller, Operation::Describe, Resource::Group(id))
        {
            error = ErrorCode::GroupAuthorizationFailed;
        }
        let topics = match &group.topics {
            // Before version 2 there is only one place for an error.
            Some(topics) if error.is_error() && self.version < 2 => {
                let row = |topic| refused(topic, error);
                topics.iter().map(row).collect()
            }
            _ if error.is_error() => Vec::new(),
            Some(topics) => {
                let mut seen = BTreeSet::new();
                let topics = topics.iter();
                let topics = topics.map(|topic| self.topic(inside, id, topic, &mut seen));
                topics.collect()
            }
            None => self.all(inside, id),
        };
        Found { error, topics }
    }

    /// A topic of those asked for. `seen` are the partitions that are told already: one that is
    /// repeated would have its metadata told as often.
    fn topic(
        &self,
        inside: &Inside,
        group: &str,
        topic: &OffsetFetchTopic<'_>,
        seen: &mut BTreeSet<Place>,
    ) -> FoundTopic {
        let name: Arc<str> = if self.version >= 10 {
            match self.door.stream_by_id(&topic.topic_id) {
                Ok(stream) => stream.name.clone(),
                Err(error) => return refused(topic, error),
            }
        } else {
            topic.name.into()
        };
        if !self.may_see(&name) {
            return refused(topic, ErrorCode::TopicAuthorizationFailed);
        }
        let indexes = topic.partition_indexes.iter();
        let indexes = indexes.filter(|&&index| seen.insert((name.clone(), index)));
        let partitions = indexes.map(|&index| {
            let (error, committed) = self.tell(inside.offsets.get(group, &name, index));
            (index, error, committed)
        });
        FoundTopic {
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
            name: name.clone(),
        }
    }

    /// All that the group has committed, of topics that the caller may see.
    fn all(&self, inside: &Inside, group: &str) -> Vec<FoundTopic> {
        let mut topics: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
        for ((name, index), _) in inside.offsets.of_group(group) {
            let (error, committed) = self.tell(inside.offsets.get(group, name, *index));
            let rows = topics.entry(name.clone()).or_default();
            rows.push((*index, error, committed));
        }
        let seen = topics.into_iter().filter(|(name, _)| self.may_see(name));
        seen.filter_map(|(name, partitions)| {
            // Where topics are told by their id, one that is gone cannot be told.
            let stream = self.door.stream(&name);
            if self.version >= 10 && stream.is_err() {
                return None;
            }
            Some(FoundTopic {
                topic_id: stream.map_or([0; 16], |stream| stream.topic_id),
                name,
                partitions,
            })
        })
        .collect()
    }

    fn may_see(&self, topic: &str) -> bool {
        self.door
            .allows(self.caller, Operation::Describe, Resource::Topic(topic))
    }

    fn tell(&self, found: Lookup<'_>) -> (ErrorCode, Option<CommittedOffset>) {
        if self.stable && found.unstable {
            (ErrorCode::UnstableOffsetCommit, None)
        } else {
            (ErrorCode::None, found.committed.cloned())
        }
    }
}

fn refused(topic: &OffsetFetchTopic<'_>, error: ErrorCode) -> FoundTopic {
    let partitions = topic.partition_indexes.iter();
    FoundTopic {
        name: topic.name.into(),
        topic_id: topic.topic_id,
        partitions: partitions.map(|&index| (index, error, None)).collect(),
    }
}
