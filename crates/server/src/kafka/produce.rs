//! Produce: batches are checked and handed to the log in the order in which they come, and answered
//! once they have reached the level of their stream. What a batch must look like is the crate
//! `commitlog`'s, who may be in a transaction is the transaction coordinator's.

mod taking;

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use ::kafka::api::{
    Api, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
    RecordError,
};
use ::kafka::{ErrorCode, Uuid, encode_response};
use commitlog::batch::{Compression, set_max_timestamp};
use commitlog::{
    Ack, Append, BatchFault, BatchHead, Entry, Lsn, PartitionId, Refusal, Rules, Storage,
    StreamSettings, check_batch,
};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use self::taking::Taking;
use super::access::{Operation, Resource};
use super::caller::Caller;
use super::dispatch::{Asked, HangUp, Outcome, Reply};
use super::transactions::Membership;
use super::{FrontDoor, limits};
use crate::node::{AppendError, Submitted, wall_ms};

/// `acks` of a producer who waits for all replicas.
const ALL: i16 = -1;

/// The first version in which a batch may be compressed by zstd (KIP-110).
const ZSTD_VERSION: i16 = 7;

/// The first version that knows `TRANSACTION_ABORTABLE` (KIP-890).
const ABORTABLE_VERSION: i16 = 11;

/// The first version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// Begins a Produce request: when this returns its batches are put to those that go to the log
/// next.
pub(super) fn begin(asked: Asked) -> Reply {
    let door = asked.door.clone();
    match Produced::submit(asked) {
        Ok(produced) => Reply::Put(Box::pin(produced.finish(door))),
        Err(hang_up) => Reply::Ready(Err(hang_up)),
    }
}

/// A request whose batches were handed to the log.
struct Produced {
    version: i16,
    correlation_id: i32,
    acks: i16,
    /// How long its sender waits for the answer.
    until: Instant,
    topics: Vec<Topic>,
    entries: Vec<Submitted>,
}

struct Topic {
    name: String,
    id: Uuid,
    rows: Vec<Row>,
}

/// A partition of the request.
struct Row {
    index: i32,
    state: State,
}

enum State {
    /// It may be appended; it is not yet handed in.
    Admitted,
    Failed(Fault),
    /// In an entry that was handed in, at this place of it.
    Submitted {
        entry: usize,
        place: usize,
        partition: PartitionId,
        waits: Waits,
    },
    /// In the log.
    Appended {
        partition: PartitionId,
        base_offset: u64,
        /// What must be flushed before this is told.
        flushed: Option<Lsn>,
        /// Which end of the partition the cluster behind must have before this is told.
        mirrored: Option<u64>,
    },
}

/// What an answer waits for besides the append.
#[derive(Clone, Copy)]
struct Waits {
    flush: bool,
    /// For the cluster behind to have so many records.
    mirror: Option<u32>,
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub code: ErrorCode,
    /// In words, where the code does not say it all.
    pub message: Option<Cow<'static, str>>,
    /// The record of the batch that is at fault.
    pub record: Option<u32>,
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            record: None,
        }
    }
}

impl Fault {
    fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: Some(message.into()),
            record: None,
        }
    }
}

/// A batch that may be appended.
struct Admitted {
    partition: PartitionId,
    waits: Waits,
    /// Where it lies in the request.
    place: Range<usize>,
    /// Its stream keeps it on the disk.
    on_disk: bool,
    /// To be written into it: its header says another.
    max_timestamp: Option<i64>,
    /// The producer and its epoch, of a batch in a transaction.
    transaction: Option<(i64, i16)>,
}

impl Produced {
    fn submit(asked: Asked) -> Result<Self, HangUp> {
        let request: ProduceRequest<'_> = asked.request()?;
        let door: &FrontDoor = &asked.door;
        let mut produced = Self {
            version: asked.version,
            correlation_id: asked.correlation_id,
            acks: request.acks,
            until: Instant::now()
                + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)),
            topics: Vec::with_capacity(request.topics.len()),
            entries: Vec::new(),
        };
        let mut admitted = Vec::new();
        let whole = request_fault(door, &asked.caller, &request);
        for topic in &request.topics {
            let id = topic.topic_id;
            let found = if asked.version >= TOPIC_ID_VERSION {
                door.source
                    .stream_by_id(&id)
                    .ok_or(ErrorCode::UnknownTopicId)
            } else {
                door.named(topic.name)
            };
            let name = found
                .as_ref()
                .map_or(topic.name, |stream| &stream.name)
                .to_owned();
            let stream = whole
                .clone()
                .and_then(|()| Ok(found.as_ref().map_err(|code| *code)?))
                .and_then(|stream| {
                    may_write(door, &asked.caller, &stream.settings)?;
                    Ok(stream)
                });
            let rows = topic.partitions.iter().map(|row| {
                let batch = stream.clone().and_then(|stream| {
                    let partition = stream.partition(row.index)?;
                    let bytes = row.records.received();
                    let batch = admit(&stream.settings, asked.version, request.acks, bytes)?;
                    let place = taking::place_in(&asked.frame, bytes);
                    Ok(Admitted {
                        partition,
                        place,
                        ..batch
                    })
                });
                let state = match batch {
                    Ok(batch) => {
                        admitted.push(batch);
                        State::Admitted
                    }
                    Err(fault) => State::Failed(fault),
                };
                Row {
                    index: row.index,
                    state,
                }
            });
            let rows = rows.collect();
            produced.topics.push(Topic { name, id, rows });
        }
        let id = request.transactional_id.map(str::to_owned);
        let Asked {
            door,
            frame,
            read_bytes,
            ..
        } = asked;
        let batch_bytes = admitted.iter().map(|batch| batch.place.len()).sum();
        // What a stream in memory has stays there for long.
        let on_disk = admitted.iter().all(|batch| batch.on_disk);
        let shares = on_disk && taking::may_share(frame.len(), batch_bytes, read_bytes);
        let taking = Taking::new(frame, shares);
        produced.hand_in(&door, id.as_deref(), taking, admitted);
        Ok(produced)
    }

    /// Hands the batches to the log, many in one entry: each is refused or taken for itself all
    /// the same, and one entry has one head and one answer.
    fn hand_in(
        &mut self,
        door: &FrontDoor,
        id: Option<&str>,
        mut taking: Taking,
        admitted: Vec<Admitted>,
    ) {
        let mut places = self
            .topics
            .iter_mut()
            .flat_map(|topic| &mut topic.rows)
            .filter(|row| matches!(row.state, State::Admitted));
        let version = self.version;
        // Held until all is handed in: a transaction does not end in between.
        let mut membership: Option<Membership<'_>> = None;
        let (mut entry, mut entry_bytes) = (Entry::default(), 0);
        for batch in admitted {
            let Some(row) = places.next() else { break };
            if let Some((producer_id, epoch)) = batch.transaction {
                if id.is_none() {
                    // Without one nobody was asked whether the caller may write with it.
                    row.state = State::Failed(ErrorCode::TransactionalIdAuthorizationFailed.into());
                    continue;
                }
                let member = membership.get_or_insert_with(|| door.transactions.membership());
                let admits = member.admits(id, producer_id, epoch, batch.partition);
                if let Err(code) = admits {
                    row.state = State::Failed(unadmitted(code, version));
                    continue;
                }
            }
            let size_bytes = batch.place.len();
            if entry_bytes > 0 && entry_bytes + size_bytes > limits::PRODUCE_ENTRY_BYTES {
                self.entries.push(door.source.put(entry));
                (entry, entry_bytes) = (Entry::default(), 0);
            }
            row.state = State::Submitted {
                entry: self.entries.len(),
                place: entry.appends.len(),
                partition: batch.partition,
                waits: batch.waits,
            };
            entry_bytes += size_bytes;
            let mut bytes = taking.take(&batch.place);
            if let Some(max_timestamp) = batch.max_timestamp {
                set_max_timestamp(&mut bytes, max_timestamp);
            }
            entry.appends.push(Append {
                partition: batch.partition,
                batch: bytes,
            });
        }
        if !entry.appends.is_empty() {
            self.entries.push(door.source.put(entry));
        }
    }

    async fn finish(mut self, door: std::sync::Arc<FrontDoor>) -> Outcome {
        for (at, submitted) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            let appended = submitted.await;
            for row in self.topics.iter_mut().flat_map(|topic| &mut topic.rows) {
                if let State::Submitted {
                    entry,
                    place,
                    partition,
                    waits,
                } = row.state
                    && entry == at
                {
                    let base_offset = match &appended {
                        Ok(appended) => appended.base_offsets[place].map_err(refused),
                        Err(error) => Err(failed(error)),
                    };
                    let lsn = appended.as_ref().map_or(0, |appended| appended.lsn);
                    row.state = match base_offset {
                        Ok(base_offset) | Err(Refused::ThereAlready(base_offset)) => {
                            State::Appended {
                                partition,
                                base_offset,
                                flushed: waits.flush.then_some(lsn),
                                mirrored: waits.mirror.map(|it| base_offset + u64::from(it)),
                            }
                        }
                        Err(Refused::Fault(fault)) => State::Failed(fault),
                    };
                }
            }
        }
        if self.acks == 0 {
            return self.unanswered(&door);
        }
        self.await_level(&door).await;
        Ok(Some(self.encode(&door).into()))
    }

    /// Waits for the level of each stream, no longer than the client does.
    async fn await_level(&mut self, door: &FrontDoor) {
        let (mut lsn, mut ends) = (None, Vec::new());
        for row in self.topics.iter().flat_map(|topic| &topic.rows) {
            if let State::Appended {
                partition,
                flushed,
                mirrored,
                ..
            } = row.state
            {
                lsn = lsn.max(flushed);
                ends.extend(mirrored.map(|end| (partition, end)));
            }
        }
        let until = self.until;
        if let Some(lsn) = lsn
            && let Some(fault) = fault_of(timeout_at(until, door.source.flushed(lsn)).await)
        {
            self.fail(&fault, |flushed, _| flushed);
            return;
        }
        if ends.is_empty() {
            return;
        }
        match fault_of(timeout_at(until, door.source.mirrored(ends)).await) {
            Some(fault) => self.fail(&fault, |_, mirrored| mirrored),
            None => self.fail_unmirrored(door),
        }
    }

    /// Fails what the cluster behind refuses.
    fn fail_unmirrored(&mut self, door: &FrontDoor) {
        for row in self.topics.iter_mut().flat_map(|topic| &mut topic.rows) {
            if let State::Appended {
                partition,
                base_offset,
                mirrored: Some(end),
                ..
            } = row.state
                && door.source.is_unmirrored(partition, &(base_offset..end))
            {
                let why = "the Kafka cluster behind does not take it";
                row.state = State::Failed(Fault::new(ErrorCode::UnknownServerError, why));
            }
        }
    }

    /// Fails what is in the log and waited: for the flush, for the cluster behind.
    fn fail(&mut self, fault: &Fault, concerns: impl Fn(bool, bool) -> bool) {
        for row in self.topics.iter_mut().flat_map(|topic| &mut topic.rows) {
            if let State::Appended {
                flushed, mirrored, ..
            } = row.state
                && concerns(flushed.is_some(), mirrored.is_some())
            {
                row.state = State::Failed(fault.clone());
            }
        }
    }

    /// Who asks for no answer learns of a failure by the end of the connection, as from Kafka.
    fn unanswered(&self, door: &FrontDoor) -> Outcome {
        let rows = self.topics.iter().flat_map(|topic| &topic.rows);
        let failed = rows.filter(|row| matches!(row.state, State::Failed(_)));
        let failed = failed.map(|_| door.counters.error(Api::Produce)).count();
        if failed > 0 {
            Err(HangUp::Unanswered)
        } else {
            Ok(None)
        }
    }

    fn encode(&self, door: &FrontDoor) -> ::kafka::Frame {
        let topics = self.topics.iter().map(|topic| ProduceTopicResponse {
            name: &topic.name,
            topic_id: topic.id,
            partitions: topic.rows.iter().map(|row| row.response(door)).collect(),
        });
        let response = ProduceResponse {
            topics: topics.collect(),
            ..Default::default()
        };
        encode_response(Api::Produce, self.version, self.correlation_id, &response)
    }
}

impl Row {
    fn response(&self, door: &FrontDoor) -> ProducePartitionResponse<'_> {
        match &self.state {
            State::Appended {
                partition,
                base_offset,
                ..
            } => ProducePartitionResponse {
                index: self.index,
                base_offset: *base_offset as i64,
                log_start_offset: door
                    .source
                    .watermarks(*partition)
                    .map_or(-1, |marks| marks.log_start as i64),
                ..Default::default()
            },
            State::Failed(fault) => {
                door.counters.error(Api::Produce);
                let message = fault.message.as_deref();
                ProducePartitionResponse {
                    index: self.index,
                    error_code: fault.code.as_i16(),
                    base_offset: -1,
                    record_errors: fault
                        .record
                        .map(|record| RecordError {
                            batch_index: record as i32,
                            message,
                        })
                        .into_iter()
                        .collect(),
                    error_message: message,
                    ..Default::default()
                }
            }
            State::Admitted | State::Submitted { .. } => unreachable!("every entry was waited for"),
        }
    }
}

/// What is wrong with the request as a whole.
fn request_fault(
    door: &FrontDoor,
    caller: &Caller,
    request: &ProduceRequest<'_>,
) -> Result<(), Fault> {
    if !(-1..=1).contains(&request.acks) {
        return Err(ErrorCode::InvalidRequiredAcks.into());
    }
    match request.transactional_id {
        Some(id) if !door.allows(caller, Operation::Write, Resource::TransactionalId(id)) => {
            Err(ErrorCode::TransactionalIdAuthorizationFailed.into())
        }
        _ => Ok(()),
    }
}

/// Whether this caller may write to a stream, and anybody may.
fn may_write(door: &FrontDoor, caller: &Caller, stream: &StreamSettings) -> Result<(), Fault> {
    if !door.allows(caller, Operation::Write, Resource::Topic(&stream.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed.into());
    }
    if stream.internal {
        return Err(Fault::new(
            ErrorCode::InvalidTopic,
            "the stream belongs to the node itself",
        ));
    }
    Ok(())
}

/// Checks a batch for a stream.
fn admit(
    stream: &StreamSettings,
    version: i16,
    acks: i16,
    bytes: &[u8],
) -> Result<Admitted, Fault> {
    if bytes.is_empty() {
        return Err(Fault::new(
            ErrorCode::InvalidRecord,
            "a producer sends one record batch for a partition",
        ));
    }
    let now_ms = wall_ms() as i64;
    let after_ms = stream
        .timestamp_after_ms_max
        .unwrap_or(limits::TIMESTAMP_AFTER_MS_MAX);
    let before_ms = stream.timestamp_before_ms_max;
    let rules = Rules {
        batch_bytes_max: stream
            .message_bytes_max
            .unwrap_or(limits::MESSAGE_BYTES_MAX) as usize,
        needs_key: stream.compact,
        timestamp_ms_min: before_ms.map_or(i64::MIN, |ms| now_ms.saturating_sub_unsigned(ms)),
        timestamp_ms_max: now_ms.saturating_add_unsigned(after_ms),
        ..Rules::default()
    };
    let checked = check_batch(bytes, &rules).map_err(|fault| batch_fault(&fault))?;
    let head = checked.batch.head();
    if head.is_control() {
        return Err(Fault::new(
            ErrorCode::InvalidRecord,
            "control records are written by the node only",
        ));
    }
    if version < ZSTD_VERSION && matches!(head.compression(), Ok(Compression::Zstd)) {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    // What is in a transaction gets to the cluster behind with its end, which the producer sends
    // only once it has this answer.
    let mirror = stream.ack == Ack::Kafka && acks == ALL && !head.is_transactional();
    let mended = checked.max_timestamp != head.max_timestamp();
    Ok(Admitted {
        partition: 0,
        place: 0..0,
        on_disk: stream.storage == Storage::Disk,
        max_timestamp: mended.then_some(checked.max_timestamp),
        waits: Waits {
            flush: stream.ack >= Ack::Flush,
            mirror: mirror.then_some(head.count()),
        },
        transaction: transaction(&head),
    })
}

fn transaction(head: &BatchHead) -> Option<(i64, i16)> {
    head.is_transactional()
        .then(|| (head.producer_id(), head.producer_epoch()))
}

fn batch_fault(fault: &BatchFault) -> Fault {
    let (code, record) = match fault {
        BatchFault::TooLarge | BatchFault::Bomb => (ErrorCode::MessageTooLarge, None),
        BatchFault::Corrupt(_) => (ErrorCode::CorruptMessage, None),
        BatchFault::Invalid(_) => (ErrorCode::InvalidRecord, None),
        BatchFault::UnsupportedFormat(_) => (ErrorCode::UnsupportedForMessageFormat, None),
        BatchFault::UnsupportedCompression => (ErrorCode::UnsupportedCompressionType, None),
        BatchFault::TimestampType => (ErrorCode::InvalidTimestamp, None),
        BatchFault::Timestamp { index } => (ErrorCode::InvalidTimestamp, Some(*index)),
        BatchFault::NoKey { index } => (ErrorCode::InvalidRecord, Some(*index)),
    };
    Fault {
        code,
        message: Some(fault.to_string().into()),
        record,
    }
}

/// What a batch that is not in an open transaction means for its producer. Newer ones are told that
/// they may abort and go on (KIP-890).
fn unadmitted(code: ErrorCode, version: i16) -> Fault {
    if code == ErrorCode::InvalidTxnState && version >= ABORTABLE_VERSION {
        Fault::new(
            ErrorCode::TransactionAbortable,
            "the partition is not in an open transaction of the producer",
        )
    } else {
        code.into()
    }
}

/// What an append that was not made means for its producer.
enum Refused {
    /// It was made before, at this offset.
    ThereAlready(u64),
    Fault(Fault),
}

fn refused(refusal: Refusal) -> Refused {
    let code = match refusal {
        Refusal::DuplicateSequence { base_offset } => return Refused::ThereAlready(base_offset),
        Refusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        Refusal::MalformedBatch => ErrorCode::CorruptMessage,
        Refusal::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        Refusal::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        Refusal::InvalidTxnState => ErrorCode::InvalidTxnState,
        Refusal::CoordinatorFenced => ErrorCode::TransactionCoordinatorFenced,
        // Nothing of the producer is kept, so it would not be idempotent.
        Refusal::TooManyProducers => ErrorCode::PolicyViolation,
        _ => ErrorCode::UnknownServerError,
    };
    Refused::Fault(Fault::new(code, refusal.to_string()))
}

/// Why a level was not reached, if it was not.
fn fault_of(waited: Result<Result<(), AppendError>, Elapsed>) -> Option<Fault> {
    match waited {
        Ok(Ok(())) => None,
        Ok(Err(error)) => match failed(&error) {
            Refused::Fault(fault) => Some(fault),
            Refused::ThereAlready(_) => None,
        },
        Err(_) => Some(ErrorCode::RequestTimedOut.into()),
    }
}

fn failed(error: &AppendError) -> Refused {
    let code = match error {
        AppendError::Full | AppendError::Latched => ErrorCode::StorageError,
        AppendError::Refused(_) => ErrorCode::RecordListTooLarge,
        AppendError::Stopping => ErrorCode::NotLeaderOrFollower,
    };
    Refused::Fault(Fault::new(code, error.to_string()))
}
