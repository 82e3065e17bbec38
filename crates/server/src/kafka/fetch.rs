//! Fetch: the stored batches of partitions, as they lie in the log, waiting for them if need be.
//! Fetch sessions are refused (session id 0), which clients answer with full fetches (KIP-227).

use std::time::Duration;

use ::kafka::api::{
    AbortedTransaction, Api, EpochEnd, FetchPartition, FetchPartitionResponse, FetchRequest,
    FetchResponse, FetchTopicResponse,
};
use ::kafka::{ErrorCode, Frame, Records, encode_response};
use bytes::Bytes;
use commitlog::{AbortedRange, BatchHead, PartitionId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::access::{Operation, Resource};
use super::caller::Caller;
use super::parking::Parked;
use super::topics::read_error;
use super::{Answer, FrontDoor, Watermarks, limits};

/// The first version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// Answers a Fetch request, at the latest when its time to wait is over.
pub(super) async fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &FetchRequest<'_>,
) -> Answer {
    if request.session_epoch > 0 {
        door.counters.error(Api::Fetch);
        let error_code = ErrorCode::FetchSessionIdNotFound.as_i16();
        let response = FetchResponse {
            error_code,
            ..Default::default()
        };
        return encode_response(Api::Fetch, version, correlation_id, &response).into();
    }
    let fetch = Fetch {
        door,
        request,
        slots: slots(door, caller, version, request),
    };
    let (rows, memory) = fetch.wait().await;
    Answer {
        frame: fetch.encode(version, correlation_id, rows),
        _memory: memory,
    }
}

/// A partition of the request, in the order of the request.
struct Slot<'a> {
    row: &'a FetchPartition,
    partition: Result<PartitionId, ErrorCode>,
}

/// A request whose partitions have been looked up.
struct Fetch<'a> {
    door: &'a FrontDoor,
    request: &'a FetchRequest<'a>,
    slots: Vec<Slot<'a>>,
}

/// What a partition has for the reader, before anything is read.
enum Look {
    Error(ErrorCode),
    /// The log that the client read was cut there (KIP-595).
    Diverged(Watermarks, EpochEnd),
    Nothing(Watermarks),
    /// Something up to this offset.
    Something(Watermarks, u64),
}

/// What a request would be answered with now.
struct Gathered {
    rows: Vec<FetchPartitionResponse<'static>>,
    size_bytes: usize,
    /// Something is to be told at once: an error, or that the log was cut.
    urgent: bool,
    memory: Option<OwnedSemaphorePermit>,
}

type Rows = (
    Vec<FetchPartitionResponse<'static>>,
    Option<OwnedSemaphorePermit>,
);

impl Fetch<'_> {
    /// Waits until enough is there, something is wrong, or time is over.
    async fn wait(&self) -> Rows {
        let wait_ms = self.request.max_wait_ms.max(0) as u64;
        let wait = Duration::from_millis(wait_ms.min(self.door.settings.fetch_wait_ms_max));
        let begun = Instant::now();
        let deadline = begun + wait;
        let patience = begun + wait.max(limits::FETCH_MEMORY_WAIT);
        let bytes_min = usize::try_from(self.request.min_bytes).unwrap_or(0);
        let mut parked: Option<Parked> = None;
        loop {
            let gathered = self.gather(patience).await;
            if gathered.urgent
                || gathered.size_bytes >= bytes_min
                || self.slots.is_empty()
                || Instant::now() >= deadline
            {
                return (gathered.rows, gathered.memory);
            }
            drop(gathered);
            // The first time round, look once more behind the parking: see `Parking::park`.
            if let Some(parked) = &parked {
                let _level = self.door.counters.fetches_parked.level(1);
                tokio::select! {
                    () = parked.woken() => {}
                    () = sleep_until(deadline) => {}
                }
            } else {
                parked = Some(self.park());
            }
        }
    }

    fn park(&self) -> Parked {
        let ends = self.slots.iter().filter_map(|slot| {
            let partition = slot.partition.ok()?;
            Some((partition, self.door.source.watermarks(partition)?.visible))
        });
        self.door.parking.park(ends.collect())
    }

    /// Reads what there is. Nothing is read, and no memory taken, where there is nothing, or no
    /// memory until then.
    async fn gather(&self, patience: Instant) -> Gathered {
        let looks: Vec<Look> = self.slots.iter().map(|slot| self.look(slot)).collect();
        let bytes_max = usize::try_from(self.request.max_bytes)
            .unwrap_or(0)
            .min(self.door.settings.fetch_bytes_max as usize)
            .min(limits::FETCH_BYTES_MAX as usize);
        let memory = self.reserve(&looks, bytes_max, patience).await;
        let held_kib = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let bytes_max = bytes_max.min(held_kib * 1024);
        let mut gathered = Gathered {
            rows: Vec::with_capacity(looks.len()),
            size_bytes: 0,
            urgent: false,
            memory,
        };
        for (slot, look) in self.slots.iter().zip(looks) {
            let mut row = match look {
                Look::Error(error) => failed(slot.row.partition, error),
                Look::Nothing(marks) => row(slot.row.partition, &marks),
                Look::Diverged(marks, end) => FetchPartitionResponse {
                    diverging_epoch: Some(end),
                    ..row(slot.row.partition, &marks)
                },
                Look::Something(marks, _) if gathered.memory.is_none() => {
                    row(slot.row.partition, &marks)
                }
                Look::Something(marks, up_to) => {
                    let bytes_left = bytes_max.saturating_sub(gathered.size_bytes);
                    let first = gathered.size_bytes == 0;
                    match self.read(slot, up_to, bytes_left, first).await {
                        Ok((batches, aborted)) => FetchPartitionResponse {
                            records: Records::Stored(batches),
                            aborted_transactions: aborted,
                            ..row(slot.row.partition, &marks)
                        },
                        Err(error) => failed(slot.row.partition, error),
                    }
                }
            };
            if self.is_committed() && row.error_code == 0 {
                row.aborted_transactions.get_or_insert_default();
            }
            gathered.urgent |= row.error_code != 0 || row.diverging_epoch.is_some();
            gathered.size_bytes += row.records.size_bytes();
            gathered.rows.push(row);
        }
        shrink(&mut gathered.memory, gathered.size_bytes);
        gathered
    }

    fn look(&self, slot: &Slot<'_>) -> Look {
        let marks = slot.partition.and_then(|partition| {
            self.door
                .watermarks(partition, slot.row.current_leader_epoch)
        });
        let (Ok(partition), Ok(marks)) = (slot.partition, marks) else {
            return Look::Error(
                slot.partition
                    .and(marks.map(|_| ()))
                    .err()
                    .unwrap_or(ErrorCode::None),
            );
        };
        if slot.row.last_fetched_epoch >= 0
            && let Some(end) = self.divergence(partition, &marks, slot.row)
        {
            return Look::Diverged(marks, end);
        }
        match u64::try_from(slot.row.fetch_offset) {
            Ok(offset) if (marks.log_start..=marks.appended).contains(&offset) => {
                let end = if self.is_committed() {
                    marks.stable
                } else {
                    marks.visible
                };
                if offset < end {
                    Look::Something(marks, end)
                } else {
                    Look::Nothing(marks)
                }
            }
            _ => Look::Error(ErrorCode::OffsetOutOfRange),
        }
    }

    /// Where our log parts from the client's, if the epoch that it read last ended earlier here.
    fn divergence(
        &self,
        partition: PartitionId,
        marks: &Watermarks,
        row: &FetchPartition,
    ) -> Option<EpochEnd> {
        if row.last_fetched_epoch >= marks.leader_epoch {
            return None;
        }
        let (epoch, end) = self
            .door
            .source
            .epoch_end(partition, row.last_fetched_epoch)?;
        let diverged = epoch < row.last_fetched_epoch || (end as i64) < row.fetch_offset;
        diverged.then_some(EpochEnd {
            epoch,
            end_offset: end as i64,
        })
    }

    /// Takes memory for what will be read, of what is free at most a part; `None` where nothing will
    /// be, or there was none in time.
    async fn reserve(
        &self,
        looks: &[Look],
        bytes_max: usize,
        patience: Instant,
    ) -> Option<OwnedSemaphorePermit> {
        let wanted: usize = self
            .slots
            .iter()
            .zip(looks)
            .filter(|(_, look)| matches!(look, Look::Something(..)))
            .map(|(slot, _)| slot.row.partition_max_bytes.max(1) as usize)
            .sum();
        if wanted == 0 {
            return None;
        }
        let memory = &self.door.fetch_memory;
        let share = memory.available_permits() / limits::FETCH_SHARE_DIVISOR;
        let kib = wanted.min(bytes_max).div_ceil(1024).max(1);
        let kib = kib.min(share.max(limits::FETCH_SHARE_KIB_MIN)) as u32;
        let permit = memory.clone().acquire_many_owned(kib);
        // The semaphore is never closed.
        timeout_at(patience, permit).await.ok()?.ok()
    }

    /// Reads at most `bytes_left` from one partition; the first of a response has at least a batch,
    /// however large that is, or the client would ask for it for ever.
    async fn read(
        &self,
        slot: &Slot<'_>,
        up_to: u64,
        bytes_left: usize,
        first: bool,
    ) -> Result<(Vec<Bytes>, Option<Vec<AbortedTransaction>>), ErrorCode> {
        let bytes_max = bytes_left.min(slot.row.partition_max_bytes.max(0) as usize);
        if bytes_max == 0 && !first {
            return Ok((Vec::new(), None));
        }
        let partition = slot.partition?;
        let offset = slot.row.fetch_offset as u64;
        let source = &self.door.source;
        let batches = if let Some(batches) = source.read_tail(partition, offset, bytes_max) {
            // The tail may have grown since the watermarks were taken, by what is not flushed or
            // not decided yet.
            cut(batches, up_to)
        } else {
            let source = source.clone();
            let read = move || source.read(partition, offset, bytes_max, up_to);
            match tokio::task::spawn_blocking(read).await {
                Ok(read) => read.map_err(|error| read_error(&error))?,
                Err(_) => return Err(ErrorCode::UnknownServerError),
            }
        };
        let size_bytes: usize = batches.iter().map(Bytes::len).sum();
        if !first && size_bytes > bytes_max {
            return Ok((Vec::new(), None));
        }
        let aborted = self.aborted(partition, offset, &batches).await?;
        Ok((batches, aborted))
    }

    /// What of these batches a reader of committed records has to leave out (KIP-98); `None` for
    /// one who reads all.
    async fn aborted(
        &self,
        partition: PartitionId,
        from: u64,
        batches: &[Bytes],
    ) -> Result<Option<Vec<AbortedTransaction>>, ErrorCode> {
        if !self.is_committed() {
            return Ok(None);
        }
        let Some(to) = transactional_end(batches) else {
            return Ok(Some(Vec::new()));
        };
        let source = self.door.source.clone();
        let search = move || source.aborted(partition, from, to);
        let aborted = match tokio::task::spawn_blocking(search).await {
            Ok(aborted) => aborted.map_err(|error| read_error(&error))?,
            Err(_) => return Err(ErrorCode::UnknownServerError),
        };
        let row = |range: AbortedRange| AbortedTransaction {
            producer_id: range.producer_id,
            first_offset: range.first_offset as i64,
        };
        Ok(Some(aborted.into_iter().map(row).collect()))
    }

    /// Whether only what is committed is read.
    fn is_committed(&self) -> bool {
        self.request.isolation_level == 1
    }

    fn encode(
        &self,
        version: i16,
        correlation_id: i32,
        rows: Vec<FetchPartitionResponse<'static>>,
    ) -> Frame {
        for _ in rows.iter().filter(|row| row.error_code != 0) {
            self.door.counters.error(Api::Fetch);
        }
        let mut rows = rows.into_iter();
        let topics = self.request.topics.iter().map(|topic| FetchTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: rows.by_ref().take(topic.partitions.len()).collect(),
        });
        let response = FetchResponse {
            topics: topics.collect(),
            ..Default::default()
        };
        encode_response(Api::Fetch, version, correlation_id, &response)
    }
}

fn slots<'a>(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    request: &'a FetchRequest<'_>,
) -> Vec<Slot<'a>> {
    let mut slots = Vec::new();
    for topic in &request.topics {
        let stream = if version < TOPIC_ID_VERSION {
            door.stream(topic.topic)
        } else {
            door.stream_by_id(&topic.topic_id)
        };
        let stream = stream.and_then(|stream| {
            if door.allows(caller, Operation::Read, Resource::Topic(&stream.name)) {
                Ok(stream)
            } else {
                Err(ErrorCode::TopicAuthorizationFailed)
            }
        });
        slots.extend(topic.partitions.iter().map(|row| {
            Slot {
                row,
                partition: stream
                    .as_ref()
                    .map_err(|error| *error)
                    .and_then(|stream| stream.partition(row.partition)),
            }
        }));
    }
    slots
}

/// The row of a partition without records.
fn row(partition_index: i32, marks: &Watermarks) -> FetchPartitionResponse<'static> {
    FetchPartitionResponse {
        partition_index,
        high_watermark: marks.visible as i64,
        last_stable_offset: marks.stable as i64,
        log_start_offset: marks.log_start as i64,
        ..Default::default()
    }
}

fn failed(partition_index: i32, error: ErrorCode) -> FetchPartitionResponse<'static> {
    FetchPartitionResponse {
        partition_index,
        error_code: error.as_i16(),
        high_watermark: -1,
        ..Default::default()
    }
}

/// Cuts off the batches that reach beyond `up_to`.
fn cut(batches: Vec<Bytes>, up_to: u64) -> Vec<Bytes> {
    let mut kept = Vec::with_capacity(batches.len());
    for slice in batches {
        let mut size = 0;
        while let Ok(head) = BatchHead::read(&slice[size..]) {
            if head.next_offset() > up_to {
                break;
            }
            size += head.size_bytes();
        }
        let whole = size >= slice.len();
        if size > 0 {
            kept.push(slice.slice(..size.min(slice.len())));
        }
        if !whole {
            break;
        }
    }
    kept
}

/// The end of the last of these batches that is in a transaction.
fn transactional_end(batches: &[Bytes]) -> Option<u64> {
    let mut end = None;
    for slice in batches {
        let mut rest = &slice[..];
        while let Ok(head) = BatchHead::read(rest) {
            if head.is_transactional() {
                end = Some(head.next_offset());
            }
            rest = rest.get(head.size_bytes()..).unwrap_or_default();
        }
    }
    end
}

/// Gives back what was reserved and not needed.
fn shrink(memory: &mut Option<OwnedSemaphorePermit>, size_bytes: usize) {
    if let Some(held) = memory {
        let spare = held.num_permits().saturating_sub(size_bytes.div_ceil(1024));
        drop(held.split(spare));
    }
}
