//! Fetch: the stored batches of partitions, as they lie in the log, waiting for them if need be. What
//! is not in memory is sent from its file, where nothing encrypts it on its way.
//! Fetch sessions are refused (session id 0), which clients answer with full fetches (KIP-227).

mod reading;

use std::time::Duration;

use ::kafka::api::{
    Api, EpochEnd, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse,
    FetchTopicResponse,
};
use ::kafka::{ErrorCode, Frame, Records, encode_response};
use commitlog::PartitionId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::reading::{Batches, Bounds, Files, Halt, Outcome, Want};
use super::access::{Operation, Resource};
use super::caller::Caller;
use super::parking::Parked;
use super::stored::StoredFile;
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
        direct: caller.listener.tls.is_none(),
        slots: slots(door, caller, version, request),
    };
    let gathered = fetch.wait().await;
    Answer {
        frame: fetch.encode(version, correlation_id, gathered.rows),
        files: gathered.files,
        memory: gathered.memory,
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
    /// The bytes go out as they lie in the files: nothing encrypts them on their way.
    direct: bool,
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
    /// Where the batches lie of the rows that only say their size.
    files: Vec<StoredFile>,
    size_bytes: usize,
    /// Something is to be told at once: an error, or that the log was cut.
    urgent: bool,
    memory: Option<OwnedSemaphorePermit>,
}

impl Gathered {
    fn add(&mut self, partition: i32, look: Look, found: Option<Outcome>, committed: bool) {
        let mut row = match (look, found) {
            (Look::Error(error), _) | (_, Some(Err(error))) => failed(partition, error),
            (Look::Diverged(marks, end), _) => FetchPartitionResponse {
                diverging_epoch: Some(end),
                ..row(partition, &marks)
            },
            (Look::Something(marks, _), Some(Ok(found))) => FetchPartitionResponse {
                records: match found.batches {
                    Batches::Here(batches) => Records::Stored(batches),
                    Batches::File(file) => {
                        let size_bytes = file.size_bytes();
                        self.files.push(file);
                        Records::Apart(size_bytes)
                    }
                },
                aborted_transactions: found.aborted,
                ..row(partition, &marks)
            },
            (Look::Nothing(marks) | Look::Something(marks, _), None)
            | (Look::Nothing(marks), Some(Ok(_))) => row(partition, &marks),
        };
        if committed && row.error_code == 0 {
            row.aborted_transactions.get_or_insert_default();
        }
        self.urgent |= row.error_code != 0 || row.diverging_epoch.is_some();
        self.size_bytes += row.records.size_bytes();
        self.rows.push(row);
    }
}

impl Fetch<'_> {
    /// Waits until enough is there, something is wrong, or time is over.
    async fn wait(&self) -> Gathered {
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
                return gathered;
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
        let wants: Vec<Option<Want>> = self
            .slots
            .iter()
            .zip(&looks)
            .map(|(slot, look)| want(slot, look))
            .collect();
        let mut direct = self.direct;
        let (found, memory) = loop {
            let memory = self.reserve(&wants, direct, bytes_max, patience).await;
            let held_kib = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let bounds = Bounds {
                bytes_max,
                memory_max: held_kib * 1024,
                direct,
                committed: self.is_committed(),
            };
            match self.read(&wants, bounds).await {
                Some(found) => break (found, memory),
                None => direct = false,
            }
        };
        let mut gathered = Gathered {
            rows: Vec::with_capacity(looks.len()),
            files: Vec::new(),
            size_bytes: 0,
            urgent: false,
            memory,
        };
        for ((slot, look), found) in self.slots.iter().zip(looks).zip(found) {
            gathered.add(slot.row.partition, look, found, self.is_committed());
        }
        let files: usize = gathered.files.iter().map(StoredFile::size_bytes).sum();
        shrink(&mut gathered.memory, gathered.size_bytes - files);
        gathered
    }

    /// Reads what is wanted, where it may block if it must; `None`: not all of it lies in files that
    /// could be sent.
    async fn read(&self, wants: &[Option<Want>], bounds: Bounds) -> Option<Vec<Option<Outcome>>> {
        let source = &self.door.source;
        let files = if wants.iter().flatten().count() <= limits::FETCH_AT_ONCE_MAX {
            Files::Resident
        } else {
            Files::None
        };
        match reading::read(&**source, wants, bounds, files) {
            Ok(found) => return Some(found),
            Err(Halt::Fileless) => return None,
            Err(Halt::Blocks) => {}
        }
        let (source, these) = (source.clone(), wants.to_vec());
        let read = move || reading::read(&*source, &these, bounds, Files::All).ok();
        let failed = |_| {
            let failed = |want: &Option<Want>| want.map(|_| Err(ErrorCode::UnknownServerError));
            Some(wants.iter().map(failed).collect())
        };
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(failed)
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

    /// Takes memory for what will be held in it, of what is free at most a part; `None` where nothing
    /// will be, or there was none in time.
    async fn reserve(
        &self,
        wants: &[Option<Want>],
        direct: bool,
        bytes_max: usize,
        patience: Instant,
    ) -> Option<OwnedSemaphorePermit> {
        let source = &self.door.source;
        let wanted: usize = wants
            .iter()
            .flatten()
            .filter(|want| !direct || source.is_in_memory(want.partition, want.offset))
            .map(|want| want.bytes_max.max(1))
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

/// What is to be read of a partition, if there is something.
fn want(slot: &Slot<'_>, look: &Look) -> Option<Want> {
    let Look::Something(_, up_to) = *look else {
        return None;
    };
    Some(Want {
        partition: slot.partition.ok()?,
        offset: slot.row.fetch_offset as u64,
        up_to,
        bytes_max: slot.row.partition_max_bytes.max(0) as usize,
    })
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

/// Gives back what was reserved and not needed.
fn shrink(memory: &mut Option<OwnedSemaphorePermit>, size_bytes: usize) {
    if let Some(held) = memory {
        let spare = held.num_permits().saturating_sub(size_bytes.div_ceil(1024));
        drop(held.split(spare));
    }
}
