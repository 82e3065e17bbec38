//! Hooks: which events are written to which streams, checked and compiled once. Knows events,
//! filters and streams; nothing of records or sessions.

use crate::decode::StreamKind;
use crate::filters::FilterTree;
use crate::limits::HOOKS_MAX;
use commitlog::{Ack, PartitionId, Storage, StreamMeta};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::fmt;

/// Stream of the messages that no hook takes.
pub const DEFAULT_STREAM: &str = "mqtt.default";
/// Stream of the `QoS` 0 messages that no hook takes; in memory.
pub const DEFAULT_QOS0_STREAM: &str = "mqtt.default.qos0";
/// Table of retained messages.
pub const RETAINED_STREAM: &str = "__sluice.retained";
/// The node's own messages (`$SYS`); in memory.
pub const SYS_STREAM: &str = "__sluice.sys";

/// What a hook can be set on, in the words of EMQ X.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Event {
    /// A client has connected.
    ClientConnected,
    /// A connection has ended.
    ClientDisconnected,
    /// A subscription was made.
    SessionSubscribed,
    /// A subscription was given up.
    SessionUnsubscribed,
    /// A PUBLISH came in.
    MessagePublish,
    /// A message was sent to one receiver.
    MessageDelivered,
    /// One receiver has acknowledged a message (PUBACK, PUBCOMP).
    MessageAcked,
    /// A message was dropped for one receiver, or nobody wanted it.
    MessageDropped,
}

impl Event {
    /// All events, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::ClientConnected,
        Self::ClientDisconnected,
        Self::SessionSubscribed,
        Self::SessionUnsubscribed,
        Self::MessagePublish,
        Self::MessageDelivered,
        Self::MessageAcked,
        Self::MessageDropped,
    ];

    /// The event's name in a configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientConnected => "client.connected",
            Self::ClientDisconnected => "client.disconnected",
            Self::SessionSubscribed => "session.subscribed",
            Self::SessionUnsubscribed => "session.unsubscribed",
            Self::MessagePublish => "message.publish",
            Self::MessageDelivered => "message.delivered",
            Self::MessageAcked => "message.acked",
            Self::MessageDropped => "message.dropped",
        }
    }

    /// The event of that name; EMQ X spells `message.delivered` also `message.deliver`.
    pub fn parse(name: &str) -> Result<Self, HookError> {
        if name == "message.deliver" {
            return Ok(Self::MessageDelivered);
        }
        Self::ALL
            .into_iter()
            .find(|event| event.as_str() == name)
            .ok_or_else(|| {
                let nearest = Self::ALL
                    .into_iter()
                    .min_by_key(|event| edits(name, event.as_str()))
                    .expect("there are events");
                HookError(format!(
                    "unknown event \"{name}\"; the nearest known is \"{}\"",
                    nearest.as_str()
                ))
            })
    }

    /// Whether the event has a topic that a hook's filter is held against.
    pub fn has_topic(self) -> bool {
        !matches!(self, Self::ClientConnected | Self::ClientDisconnected)
    }
}

/// What is wrong with a hook, in words for the one who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookError(pub String);

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HookError {}

/// How the payload stands in a hook record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadEncoding {
    /// Base64, standard alphabet, padded.
    #[default]
    Base64,
    /// The payload as a JSON string; where it is not UTF-8 the string is a lossy reading and the
    /// bytes are in the header `mqtt.payload`.
    Plain,
}

/// Where a record's key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTemplate {
    /// `None`: records have no key and go round the partitions.
    pub(crate) pieces: Option<Box<[KeyPiece]>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyPiece {
    Literal(Box<str>),
    /// Level of the topic, counted from 1.
    Level(usize),
    ClientId,
    Username,
    Topic,
}

impl Default for KeyTemplate {
    /// The client id.
    fn default() -> Self {
        Self {
            pieces: Some([KeyPiece::ClientId].into()),
        }
    }
}

impl KeyTemplate {
    /// Reads a template: text in which `{N}` is level N of the topic (counted from 1), and
    /// `{clientid}`, `{username}` and `{topic}` (EMQ X writes `${clientid}` and so on) are what
    /// they say. The client id stands in for a level that the topic lacks and for an absent user
    /// name. `none` alone: no key.
    pub fn parse(template: &str) -> Result<Self, HookError> {
        if template == "none" {
            return Ok(Self { pieces: None });
        }
        if template.is_empty() {
            return Ok(Self::default());
        }
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let before = &rest[..open];
            let literal = before.strip_suffix('$').unwrap_or(before);
            if !literal.is_empty() {
                pieces.push(KeyPiece::Literal(literal.into()));
            }
            let Some((name, after)) = rest[open + 1..].split_once('}') else {
                return Err(HookError(format!(
                    "key \"{template}\": a \"{{\" is not closed"
                )));
            };
            pieces.push(Self::variable(template, name)?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(KeyPiece::Literal(rest.into()));
        }
        Ok(Self {
            pieces: Some(pieces.into()),
        })
    }

    fn variable(template: &str, name: &str) -> Result<KeyPiece, HookError> {
        match name {
            "clientid" | "client_id" => Ok(KeyPiece::ClientId),
            "username" => Ok(KeyPiece::Username),
            "topic" => Ok(KeyPiece::Topic),
            _ => match name.parse() {
                Ok(0) => Err(HookError(format!(
                    "key \"{template}\": the levels of a topic are counted from 1"
                ))),
                Ok(level) => Ok(KeyPiece::Level(level)),
                Err(_) => Err(HookError(format!(
                    "key \"{template}\": \"{{{name}}}\" is not known; known are {{1}}, {{2}}, ... \
                     (a level of the topic), {{clientid}}, {{username}} and {{topic}}"
                ))),
            },
        }
    }

    /// Whether a record has this key whoever the client is: nothing but text and topic in it, and
    /// the topic deep enough.
    pub(crate) fn fixed(&self, topic: &str) -> Option<Box<[u8]>> {
        let mut key = Vec::new();
        for piece in self.pieces.as_deref()? {
            match piece {
                KeyPiece::Literal(text) => key.extend_from_slice(text.as_bytes()),
                KeyPiece::Topic => key.extend_from_slice(topic.as_bytes()),
                KeyPiece::Level(level) => {
                    key.extend_from_slice(level_of(topic, *level)?.as_bytes());
                }
                KeyPiece::ClientId | KeyPiece::Username => return None,
            }
        }
        Some(key.into())
    }

    /// Appends the key of a record; `false` where it has none.
    pub(crate) fn write(
        &self,
        topic: &str,
        client_id: &str,
        username: &str,
        key: &mut Vec<u8>,
    ) -> bool {
        let Some(pieces) = self.pieces.as_deref() else {
            return false;
        };
        for piece in pieces {
            key.extend_from_slice(match piece {
                KeyPiece::Literal(text) => text.as_bytes(),
                KeyPiece::Topic if !topic.is_empty() => topic.as_bytes(),
                KeyPiece::Username if !username.is_empty() => username.as_bytes(),
                KeyPiece::Level(level) => level_of(topic, *level).unwrap_or(client_id).as_bytes(),
                KeyPiece::ClientId | KeyPiece::Topic | KeyPiece::Username => client_id.as_bytes(),
            });
        }
        true
    }
}

/// Level `level` (from 1) of a topic, if it is there and says something.
fn level_of(topic: &str, level: usize) -> Option<&str> {
    topic
        .split('/')
        .nth(level - 1)
        .filter(|text| !text.is_empty())
}

/// One hook as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// What it is set on.
    pub event: Event,
    /// Which topics it takes; `#` where nothing is said, unused for `client.*`.
    pub filter: String,
    /// Where the record goes.
    pub stream: String,
    /// What the record's key is.
    pub key: KeyTemplate,
    /// How the payload stands in the record.
    pub payload: PayloadEncoding,
    /// Which figure of [`crate::Turn::made`] counts its records; hooks may share one.
    pub counter: u16,
}

/// A stream as placement sees it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) ack: Ack,
    pub(crate) kept: bool,
    pub(crate) partitions: Box<[PartitionId]>,
}

/// A compiled hook.
#[derive(Debug)]
pub(crate) struct Hook {
    /// Index of the stream in [`HookTable::target`].
    pub(crate) target: u16,
    pub(crate) key: KeyTemplate,
    pub(crate) payload: PayloadEncoding,
    pub(crate) counter: u16,
}

/// All hooks of a node and the streams that messages are placed in. Immutable.
#[derive(Debug)]
pub struct HookTable {
    /// The node's name as it stands inside a JSON string.
    pub(crate) node_json: Box<[u8]>,
    hooks: Box<[Hook]>,
    /// By event: filter -> index of the hook.
    trees: [FilterTree<u16>; 8],
    targets: Box<[Target]>,
    pub(crate) default: u16,
    pub(crate) default_qos0: u16,
    pub(crate) retained: u16,
    pub(crate) sys: u16,
    kinds: HashMap<PartitionId, StreamKind, RandomState>,
    /// Partitions of the streams with `ack = "kafka"`.
    mirrored: HashSet<PartitionId, RandomState>,
}

impl HookTable {
    /// Checks the hooks against the streams there are. `streams` must hold the four streams named
    /// at the head of this file. `node`: written into each hook record.
    pub fn compile(
        node: &str,
        hooks: &[HookSettings],
        streams: &[StreamMeta],
    ) -> Result<Self, HookError> {
        if hooks.len() > HOOKS_MAX {
            return Err(HookError(format!(
                "there are {} hooks; at most {HOOKS_MAX} are taken",
                hooks.len()
            )));
        }
        let mut node_json = Vec::new();
        crate::record::write_escaped(&mut node_json, node);
        let mut trees: [FilterTree<u16>; 8] = Default::default();
        let mut compiled = Vec::with_capacity(hooks.len());
        for (number, hook) in hooks.iter().enumerate() {
            let wrong = |what: String| {
                HookError(format!(
                    "hook {} ({}): {what}",
                    number + 1,
                    hook.event.as_str()
                ))
            };
            if hook.event.has_topic() {
                mqtt::topic::validate_filter(&hook.filter)
                    .map_err(|error| wrong(format!("filter \"{}\": {error}", hook.filter)))?;
                if hook.filter.starts_with("$share/") {
                    return Err(wrong(format!(
                        "filter \"{}\": a hook cannot share; leave out $share/GROUP/",
                        hook.filter
                    )));
                }
            }
            let target = find(streams, &hook.stream).map_err(&wrong)?;
            check_target(hook, &streams[usize::from(target)]).map_err(&wrong)?;
            let filter = if hook.event.has_topic() {
                &*hook.filter
            } else {
                "#"
            };
            trees[hook.event as usize]
                .insert(filter, number as u16)
                .map_err(|error| wrong(format!("filter \"{filter}\": {error}")))?;
            compiled.push(Hook {
                target,
                key: hook.key.clone(),
                payload: hook.payload,
                counter: hook.counter,
            });
        }
        let find = |name| find(streams, name).map_err(HookError);
        let (default, default_qos0) = (find(DEFAULT_STREAM)?, find(DEFAULT_QOS0_STREAM)?);
        let (retained, sys) = (find(RETAINED_STREAM)?, find(SYS_STREAM)?);
        let (mut kinds, mut mirrored) = (HashMap::default(), HashSet::default());
        for stream in streams {
            if stream.settings.ack == Ack::Kafka {
                mirrored.extend(stream.partitions.iter().copied());
            }
            let kind = kind_of(&stream.settings.name);
            kinds.extend(stream.partitions.iter().map(|&partition| (partition, kind)));
        }
        Ok(Self {
            node_json: node_json.into(),
            hooks: compiled.into(),
            trees,
            targets: streams.iter().map(Target::of).collect(),
            default,
            default_qos0,
            retained,
            sys,
            kinds,
            mirrored,
        })
    }

    /// The figures that its hooks need.
    pub(crate) fn counters(&self) -> usize {
        let counters = self.hooks.iter().map(|hook| usize::from(hook.counter) + 1);
        counters.max().unwrap_or(0)
    }

    /// Whether any hook is set on `event`; where not, the event costs nothing.
    pub fn wants(&self, event: Event) -> bool {
        !self.trees[event as usize].is_empty()
    }

    /// Whether a hook on `event` takes `topic` (not cached; a turn has a cache).
    pub fn matches_event(&self, event: Event, topic: &str) -> bool {
        self.trees[event as usize].any_match(topic)
    }

    /// How records of that partition are written; `None` for a partition unknown when the table
    /// was compiled.
    pub fn kind(&self, partition: PartitionId) -> Option<StreamKind> {
        self.kinds.get(&partition).copied()
    }

    /// The partition of the table of retained messages.
    pub fn retained_partition(&self) -> PartitionId {
        self.target(self.retained).partitions[0]
    }

    /// The level that no message has to wait longer for: `flush` where any stream promises that.
    /// No session waits for the cluster behind: that has no part of it.
    pub(crate) fn strictest(&self) -> Ack {
        let hooked = self.hooks.iter().map(|hook| hook.target);
        let targets = hooked.chain([self.default]).map(|it| self.target(it).ack);
        targets
            .max()
            .unwrap_or(Ack::Append)
            .clamp(Ack::Append, Ack::Flush)
    }

    /// Whether publishers wait until the Apache Kafka cluster behind has what is in a partition.
    pub(crate) fn is_mirrored(&self, partition: PartitionId) -> bool {
        self.mirrored.contains(&partition)
    }

    /// The level of the stream that has a partition.
    pub(crate) fn level_of(&self, partition: PartitionId) -> Option<Ack> {
        let mut targets = self.targets.iter();
        let target = targets.find(|target| target.partitions.contains(&partition));
        target.map(|target| target.ack)
    }

    pub(crate) fn target(&self, index: u16) -> &Target {
        &self.targets[usize::from(index)]
    }

    /// The hooks on `event` that take `topic`, in the order in which they were written.
    pub(crate) fn taking(&self, event: Event, topic: &str) -> Vec<&Hook> {
        let mut found = Vec::new();
        self.trees[event as usize].for_each_match(topic, |&number| found.push(number));
        found.sort_unstable();
        found
            .into_iter()
            .map(|number| &self.hooks[usize::from(number)])
            .collect()
    }
}

impl Target {
    fn of(stream: &StreamMeta) -> Self {
        Self {
            ack: stream.settings.ack,
            kept: stream.settings.storage == Storage::Disk,
            partitions: stream.partitions.as_slice().into(),
        }
    }

    /// The partition of a record with this key.
    pub(crate) fn partition(&self, key: &[u8]) -> PartitionId {
        let count = self.partitions.len() as u32;
        self.partitions[commitlog::partition_for_key(Some(key), count) as usize]
    }
}

fn kind_of(stream: &str) -> StreamKind {
    match stream {
        DEFAULT_STREAM => StreamKind::Default,
        DEFAULT_QOS0_STREAM => StreamKind::DefaultQos0,
        RETAINED_STREAM | SYS_STREAM => StreamKind::Retained,
        _ => StreamKind::Hook,
    }
}

fn find(streams: &[StreamMeta], name: &str) -> Result<u16, String> {
    if let Some(index) = streams
        .iter()
        .position(|stream| stream.settings.name == name)
    {
        return u16::try_from(index).map_err(|_| "there are too many streams".to_owned());
    }
    let nearest = streams
        .iter()
        .map(|stream| &stream.settings.name)
        .min_by_key(|known| edits(name, known));
    Err(match nearest {
        Some(nearest) => {
            format!("unknown stream \"{name}\"; the nearest known is \"{nearest}\"")
        }
        None => format!("unknown stream \"{name}\""),
    })
}

fn check_target(hook: &HookSettings, stream: &StreamMeta) -> Result<(), String> {
    let name = &stream.settings.name;
    if stream.settings.internal {
        return Err(format!("stream \"{name}\" belongs to the node itself"));
    }
    if kind_of(name) != StreamKind::Hook {
        return Err(format!(
            "stream \"{name}\" holds what no hook takes; name another"
        ));
    }
    if hook.event == Event::MessagePublish && stream.settings.compact {
        return Err(format!(
            "stream \"{name}\" is compacted; sessions point into what message.publish writes, so \
             none of it may be compacted away"
        ));
    }
    Ok(())
}

/// Edit distance, for the nearest known name.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(256).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(256).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
