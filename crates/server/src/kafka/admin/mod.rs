//! Administration: streams are made, altered, widened, cut and deleted as topics, and described. A
//! file for each API; what the configuration says about a stream is known here, how the log keeps
//! it is not.

mod alter_configs;
mod broker_keys;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod keys;

pub(super) use alter_configs::{answer as alter_configs, incremental as incremental_alter_configs};
pub(super) use create_partitions::answer as create_partitions;
pub(super) use create_topics::{answer as create_topics, create_asked_for};
pub(super) use delete_records::answer as delete_records;
pub(super) use delete_topics::answer as delete_topics;
pub(super) use describe_cluster::answer as describe_cluster;
pub(super) use describe_configs::answer as describe_configs;
pub(super) use describe_log_dirs::answer as describe_log_dirs;
pub(super) use describe_producers::answer as describe_producers;
pub(super) use describe_topic_partitions::answer as describe_topic_partitions;

use std::collections::HashSet;

use ::kafka::ErrorCode;
use commitlog::{Entry, Lsn, Op, PartitionId, Refusal};

use super::FrontDoor;
use crate::node::{AppendError, Submitted};
use crate::settings::{DEFAULT_STREAM, HookEvent, ListenerKind, Settings};

/// Names that begin so are those of the node's own streams.
const INTERNAL_PREFIX: &str = "__sluice.";

/// What the configuration says, as far as topics and their settings are concerned.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Streams that a `[[stream]]` of the file describes: the file wins at every start.
    written: HashSet<String>,
    /// Streams that are made at every start where they are not there.
    needed: HashSet<String>,
    /// Streams that hooks write.
    hooked: HashSet<String>,
    /// Streams that sessions point into.
    published: HashSet<String>,
    /// Segment size of a stream that says nothing, in bytes.
    segment_bytes: u64,
    /// The data directory, as an absolute path where it can be told.
    data_dir: String,
    /// Addresses of the Kafka listeners.
    listeners: Vec<String>,
}

impl NodeFacts {
    /// The facts in these settings.
    pub fn new(settings: &Settings) -> Self {
        let streams = settings.streams.iter();
        let hooks = settings.hooks.iter();
        let published = hooks
            .clone()
            .filter(|hook| hook.event == HookEvent::MessagePublish)
            .map(|hook| hook.stream.clone())
            .chain([DEFAULT_STREAM.to_owned()]);
        let data_dir = std::path::absolute(&settings.node.data_dir);
        Self {
            written: streams
                .clone()
                .filter(|stream| !stream.implied)
                .map(|stream| stream.name.clone())
                .collect(),
            needed: streams.map(|stream| stream.name.clone()).collect(),
            hooked: hooks.map(|hook| hook.stream.clone()).collect(),
            published: published.collect(),
            segment_bytes: settings.log.segment_bytes,
            data_dir: data_dir
                .unwrap_or_else(|_| settings.node.data_dir.clone())
                .display()
                .to_string(),
            listeners: settings
                .listeners
                .iter()
                .filter(|listener| {
                    matches!(listener.kind, ListenerKind::Kafka | ListenerKind::Kafkas)
                })
                .map(|listener| listener.bind.to_string())
                .collect(),
        }
    }
}

/// What administration keeps.
#[derive(Debug, Default)]
pub(super) struct Admin {
    facts: NodeFacts,
    /// Held while streams are looked at and changed, so that two changes do not undo each other.
    turn: tokio::sync::Mutex<()>,
}

impl Admin {
    pub fn new(facts: NodeFacts) -> Self {
        Self {
            facts,
            turn: tokio::sync::Mutex::default(),
        }
    }
}

/// Why something was not done: the code for the client, and words for whoever reads its log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    code: ErrorCode,
    words: String,
}

impl Refused {
    fn new(code: ErrorCode, words: impl Into<String>) -> Self {
        Self {
            code,
            words: words.into(),
        }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        let words = match code {
            ErrorCode::UnknownTopicOrPartition => "there is no such topic",
            ErrorCode::UnknownTopicId => "there is no topic of this id",
            ErrorCode::InvalidTopic => {
                "a topic's name is made of 1 to 249 letters, digits, '.', '_' and '-'"
            }
            ErrorCode::TopicAuthorizationFailed => "not authorized to do this with the topic",
            ErrorCode::ClusterAuthorizationFailed => "not authorized to do this with the cluster",
            _ => code.name(),
        };
        Self::new(code, words)
    }
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Self {
        let code = match error {
            AppendError::Full | AppendError::Latched => ErrorCode::StorageError,
            AppendError::Refused(_) => ErrorCode::InvalidRequest,
            AppendError::Stopping => ErrorCode::NotController,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::StreamExists => {
                Self::new(ErrorCode::TopicAlreadyExists, "the topic exists already")
            }
            Refusal::UnknownStream | Refusal::UnknownPartition => {
                ErrorCode::UnknownTopicOrPartition.into()
            }
            Refusal::InvalidSettings => Self::new(
                ErrorCode::InvalidConfig,
                "the log does not take these settings",
            ),
            Refusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange.into(),
            _ => ErrorCode::UnknownServerError.into(),
        }
    }
}

/// The code and the words of a response.
fn told<T>(done: &Result<T, Refused>) -> (i16, Option<&str>) {
    match done {
        Ok(_) => (0, None),
        Err(refused) => (refused.code.as_i16(), Some(&refused.words)),
    }
}

/// An op on its way to the log; ops take effect in the order in which they were handed in.
fn hand_in(door: &FrontDoor, op: Op) -> Submitted {
    door.source.submit(Entry {
        ops: vec![op],
        appends: Vec::new(),
    })
}

/// What became of an op: the partitions that it made. `lsn` is raised to its place in the journal.
async fn outcome(submitted: Submitted, lsn: &mut Lsn) -> Result<Vec<PartitionId>, Refused> {
    let appended = submitted.await?;
    *lsn = appended.lsn.max(*lsn);
    let done = appended.ops.into_iter().next();
    Ok(done.unwrap_or(Err(Refusal::UnknownStream))?)
}

/// Waits until all up to `lsn` survives a power cut, since an administrator's answer promises that.
async fn kept(door: &FrontDoor, lsn: Lsn) -> Result<(), Refused> {
    if lsn > 0 {
        door.source.flushed(lsn).await?;
    }
    Ok(())
}
