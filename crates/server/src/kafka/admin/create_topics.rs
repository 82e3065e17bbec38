//! CreateTopics, and the topics that Metadata is asked for and may create.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::kafka::api::{
    Api, CreatableConfig, CreatableTopic, CreateTopicsRequest, CreateTopicsResponse, CreatedConfig,
    CreatedTopic,
};
use ::kafka::{ErrorCode, Frame, encode_response};
use commitlog::{Ack, Lsn, Op, Storage, StreamSettings};

use super::super::access::{Operation, Resource};
use super::super::caller::Caller;
use super::super::limits::{self, NODE_ID};
use super::super::topics::legal;
use super::super::{FrontDoor, Stream};
use super::keys::{self, Key};
use super::{INTERNAL_PREFIX, Refused, describe_configs, hand_in, kept, outcome, told};
use crate::node::random;

/// Answers a CreateTopics request.
pub(in crate::kafka) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &CreateTopicsRequest<'_>,
) -> Frame {
    let done = create(door, caller, request).await;
    let configs: Vec<_> = done
        .iter()
        .map(|done| done.as_ref().ok().map(|stream| described(door, stream)))
        .collect();
    let rows = request.topics.iter().zip(&done).zip(&configs);
    let topics = rows
        .map(|((topic, done), configs)| {
            let (error_code, error_message) = told(done);
            if error_code != 0 {
                door.counters.error(Api::CreateTopics);
            }
            let stream = done.as_ref().ok();
            let resource = Resource::Topic(topic.name);
            let seen =
                stream.is_some() && door.allows(caller, Operation::DescribeConfigs, resource);
            CreatedTopic {
                name: topic.name,
                topic_id: stream.map_or([0; 16], |stream| stream.topic_id),
                error_code,
                error_message,
                num_partitions: stream.map_or(-1, |stream| stream.partitions as i32),
                replication_factor: stream.map_or(-1, |_| 1),
                configs: seen.then(|| {
                    configs
                        .as_deref()
                        .unwrap_or_default()
                        .iter()
                        .map(row)
                        .collect()
                }),
            }
        })
        .collect();
    let response = CreateTopicsResponse {
        throttle_time_ms: 0,
        topics,
    };
    encode_response(Api::CreateTopics, version, correlation_id, &response)
}

type Shown = (&'static str, String, bool, i8);

fn described(door: &FrontDoor, stream: &StreamSettings) -> Vec<Shown> {
    let template = keys::template_of(door, stream);
    let shown = |key: &'static Key| {
        let value = key.show(stream);
        let source = describe_configs::source(&value, &key.show(&template));
        (key.name, value, key.read_only(), source)
    };
    keys::KEYS.iter().map(shown).collect()
}

fn row((name, value, read_only, config_source): &Shown) -> CreatedConfig<'_> {
    CreatedConfig {
        name,
        value: Some(value),
        read_only: *read_only,
        config_source: *config_source,
        is_sensitive: false,
    }
}

/// Creates what can be created; for each topic its settings, or why it was not.
async fn create(
    door: &FrontDoor,
    caller: &Caller,
    request: &CreateTopicsRequest<'_>,
) -> Vec<Result<StreamSettings, Refused>> {
    let _turn = door.admin.turn.lock().await;
    let mut named: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *named.entry(topic.name).or_default() += 1;
    }
    let mut room = Room::of(door);
    let mut asked: Vec<_> = request
        .topics
        .iter()
        .map(|topic| {
            if named[topic.name] > 1 {
                return Err(Refused::new(
                    ErrorCode::InvalidRequest,
                    "the topic is named twice in the request",
                ));
            }
            may_create(door, caller, topic.name)?;
            let stream = wanted(door, topic)?;
            room.take(&stream)?;
            Ok(stream)
        })
        .collect();
    if request.validate_only {
        for stream in asked.iter_mut().flatten() {
            stream.topic_id = [0; 16];
        }
        return asked;
    }
    make(door, asked).await
}

/// Hands all creations in and waits until the last of them is kept.
async fn make(
    door: &FrontDoor,
    asked: Vec<Result<StreamSettings, Refused>>,
) -> Vec<Result<StreamSettings, Refused>> {
    let submitted: Vec<_> = asked
        .into_iter()
        .map(|asked| asked.map(|stream| (hand_in(door, Op::CreateStream(stream.clone())), stream)))
        .collect();
    let mut done = Vec::with_capacity(submitted.len());
    let mut lsn: Lsn = 0;
    for asked in submitted {
        done.push(match asked {
            Ok((op, stream)) => outcome(op, &mut lsn).await.map(|_| stream),
            Err(refused) => Err(refused),
        });
    }
    if let Err(refused) = kept(door, lsn).await {
        for done in done.iter_mut().filter(|done| done.is_ok()) {
            *done = Err(refused.clone());
        }
    }
    done
}

/// Who may create a topic of this name.
fn may_create(door: &FrontDoor, caller: &Caller, name: &str) -> Result<(), Refused> {
    let cluster = door.allows(caller, Operation::Create, Resource::Cluster);
    if !cluster && !door.allows(caller, Operation::Create, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed.into());
    }
    if !legal(name) {
        return Err(ErrorCode::InvalidTopic.into());
    }
    if name.starts_with(INTERNAL_PREFIX) {
        return Err(Refused::new(
            ErrorCode::InvalidTopic,
            format!("names that begin with {INTERNAL_PREFIX} are those of the node's own streams"),
        ));
    }
    if door.source.stream(name).is_some() {
        return Err(Refused::new(
            ErrorCode::TopicAlreadyExists,
            format!("Topic '{name}' already exists."),
        ));
    }
    Ok(())
}

/// The stream that a topic in the request describes.
fn wanted(door: &FrontDoor, topic: &CreatableTopic<'_>) -> Result<StreamSettings, Refused> {
    let mut stream = keys::template(door, topic.name);
    stream.topic_id = random::bytes();
    stream.partitions = partitions(door, topic)?;
    apply(door, &mut stream, &topic.configs)?;
    Ok(stream)
}

fn partitions(door: &FrontDoor, topic: &CreatableTopic<'_>) -> Result<u32, Refused> {
    if !topic.assignments.is_empty() {
        return assigned(topic);
    }
    if topic.replication_factor != -1 && topic.replication_factor != 1 {
        return Err(Refused::new(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "Unable to replicate the partition {} time(s): only 1 broker(s) are registered.",
                topic.replication_factor
            ),
        ));
    }
    match topic.num_partitions {
        -1 => Ok(door.settings.topic_partitions),
        count if (1..=limits::TOPIC_PARTITIONS_MAX).contains(&count) => Ok(count as u32),
        _ => Err(Refused::new(
            ErrorCode::InvalidPartitions,
            format!(
                "a topic has 1 to {} partitions",
                limits::TOPIC_PARTITIONS_MAX
            ),
        )),
    }
}

/// The number of partitions of an assignment by hand, which can only name this node.
fn assigned(topic: &CreatableTopic<'_>) -> Result<u32, Refused> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err(Refused::new(
            ErrorCode::InvalidRequest,
            "a manual assignment goes without a number of partitions and a replication factor",
        ));
    }
    let numbers: HashSet<i32> = topic
        .assignments
        .iter()
        .map(|row| row.partition_index)
        .collect();
    let count = topic.assignments.len() as i32;
    let whole = numbers.len() as i32 == count && numbers.iter().all(|n| (0..count).contains(n));
    if !whole || count > limits::TOPIC_PARTITIONS_MAX {
        return Err(Refused::new(
            ErrorCode::InvalidReplicaAssignment,
            "partitions are numbered from 0 without a gap, each once",
        ));
    }
    if topic
        .assignments
        .iter()
        .any(|row| row.broker_ids != [NODE_ID])
    {
        return Err(Refused::new(
            ErrorCode::InvalidReplicaAssignment,
            format!("this node is the only broker, and its id is {NODE_ID}"),
        ));
    }
    Ok(count as u32)
}

fn apply(
    door: &FrontDoor,
    stream: &mut StreamSettings,
    configs: &[CreatableConfig<'_>],
) -> Result<(), Refused> {
    for config in configs {
        let key = Key::named(config.name)?;
        let value = config.value.ok_or_else(|| {
            Refused::new(
                ErrorCode::InvalidConfig,
                format!("{} has no value", config.name),
            )
        })?;
        key.set(stream, value)?;
    }
    // Where one of the two is said, the other follows.
    let said = |name| configs.iter().any(|config| config.name == name);
    if stream.storage == Storage::Memory && !said(keys::ACK) {
        stream.ack = Ack::Memory;
    }
    if stream.ack == Ack::Memory && !said(keys::STORAGE) {
        stream.storage = Storage::Memory;
    }
    keys::judge(door, stream)
}

/// What may still be created.
pub(super) struct Room<'a> {
    door: &'a FrontDoor,
    topics: usize,
    partitions: usize,
}

impl<'a> Room<'a> {
    pub fn of(door: &'a FrontDoor) -> Self {
        let streams = door.source.streams();
        Self {
            door,
            topics: streams.len(),
            partitions: streams.iter().map(|stream| stream.partitions.len()).sum(),
        }
    }

    fn take(&mut self, stream: &StreamSettings) -> Result<(), Refused> {
        let most = self.door.settings.topics_max;
        if self.topics >= most as usize {
            return Err(Refused::new(
                ErrorCode::PolicyViolation,
                format!("the node has the {most} topics that kafka.topics_max allows"),
            ));
        }
        self.widen(stream.partitions as usize)?;
        self.topics += 1;
        Ok(())
    }

    /// Takes room for so many more partitions.
    pub fn widen(&mut self, more: usize) -> Result<(), Refused> {
        let most = self.door.settings.partitions_max;
        if self.partitions + more > most as usize {
            return Err(Refused::new(
                ErrorCode::PolicyViolation,
                format!(
                    "the node has {} partitions of the {most} that kafka.partitions_max allows",
                    self.partitions
                ),
            ));
        }
        self.partitions += more;
        Ok(())
    }
}

/// Creates topics that Metadata was asked for, where clients may do that. Those that are there
/// afterwards are found by name. It is not waited for their being flushed: what is produced to them
/// is flushed behind them.
pub(in crate::kafka) async fn create_asked_for(door: &FrontDoor, caller: &Caller, names: &[&str]) {
    let _turn = door.admin.turn.lock().await;
    let mut room = Room::of(door);
    let mut submitted = Vec::new();
    for name in names {
        let mut stream = keys::template(door, name);
        stream.topic_id = random::bytes();
        if may_create(door, caller, name).is_ok()
            && room.take(&stream).is_ok()
            && keys::judge(door, &stream).is_ok()
        {
            submitted.push(hand_in(door, Op::CreateStream(stream)));
        }
    }
    for op in submitted {
        if let Err(refused) = outcome(op, &mut 0).await {
            tracing::warn!(why = refused.words, "a topic could not be created");
        }
    }
}

/// A stream that a change is asked for, if the caller may make it.
pub(super) fn changeable(
    door: &FrontDoor,
    caller: &Caller,
    operation: Operation,
    name: &str,
) -> Result<Arc<Stream>, Refused> {
    if !door.allows(caller, operation, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed.into());
    }
    Ok(door.stream(name)?)
}
