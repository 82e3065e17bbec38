//! The records of a stream: by partition, offset, time, key or text, in pages of bounded size. It
//! shows what `read_committed` readers see, and knows nothing of what is in a value.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use commitlog::batch::batches;
use commitlog::{BatchView, LogReader, PartitionId, ReadError};
use memchr::memmem::Finder;
use serde::Deserialize;
use utoipa::IntoParams;

use super::list::Page;
use super::lists::unknown;
use super::problem::Problem;
use super::view::{HeaderRow, RecordRow};
use super::{Asked, Named, Routes, Shared, limits, rfc3339};
use crate::auth::Role;

/// Bytes of batches that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// Which records, and from where on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecordsQuery {
    /// Number of the partition; absent: all, by time.
    pub partition: Option<u32>,
    /// Offset of the first record; negative: counted from the end, in each partition. Absent: from
    /// `time_ms`, or the oldest.
    pub offset: Option<i64>,
    /// Time of the first record, ms since the epoch.
    pub time_ms: Option<i64>,
    /// Only records with exactly this key.
    pub key: Option<String>,
    /// Only records that contain this text in key, value or a header.
    pub text: Option<String>,
    /// Most records, at most 1,000; 100 where nothing is said.
    pub limit: Option<u32>,
    /// `next` of the page before, in place of `offset` and `time_ms`.
    pub cursor: Option<String>,
}

pub(super) fn routes(routes: &mut Routes) {
    let path = "/api/v1/streams/{name}/records";
    routes.add(Method::GET, path, Role::Viewer, records);
}

/// Records of a stream. The answer is bounded in bytes too, as is the search: `next` says where to go
/// on, also where this page found nothing.
#[utoipa::path(get, path = "/api/v1/streams/{name}/records", tag = "streams",
    params(("name" = String, Path, description = "Name of the stream"), RecordsQuery),
    responses((status = 200, body = Page<RecordRow>), (status = 400, body = Problem),
        (status = 404, body = Problem)))]
pub(super) async fn records(
    State(api): State<Shared>,
    Named(name): Named,
    caller: super::Caller,
    Asked(query): Asked<RecordsQuery>,
) -> Result<Json<Page<RecordRow>>, Problem> {
    let log = readable(&api, &name, &caller)?;
    let reading = std::sync::Arc::clone(&api.reading).acquire_owned().await;
    let page = tokio::task::spawn_blocking(move || {
        let _held = reading;
        read(&log, &name, &query)
    });
    let failed = |_| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the reading was interrupted",
        )
    };
    page.await.map_err(failed)?.map(Json)
}

/// The log, where the caller may read that stream. The node's own streams hold hashes of passwords
/// and who did what.
pub(super) fn readable(
    api: &Shared,
    name: &str,
    caller: &super::Caller,
) -> Result<LogReader, Problem> {
    let log = api.view.log().ok_or_else(|| unknown("stream", name))?;
    let stream = log.stream(name).ok_or_else(|| unknown("stream", name))?;
    if stream.settings.internal && caller.role < Role::Admin {
        let detail = "streams of the node itself are for the role admin";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(log.clone())
}

/// Where a partition goes on.
pub(super) struct Place {
    number: u32,
    id: PartitionId,
    next: u64,
    end: u64,
}

/// The page that `query` asks for.
///
/// # Errors
/// There is no such stream, partition or place in it, or a file cannot be read.
pub(super) fn read(
    log: &LogReader,
    name: &str,
    query: &RecordsQuery,
) -> Result<Page<RecordRow>, Problem> {
    let mut places = places(log, name, query)?;
    let limit = query.limit.map_or(100, |limit| limit as usize);
    gather(
        log,
        &mut places,
        &Wanted::of(query),
        limit.clamp(1, limits::RECORDS_MAX),
    )
}

/// Where `query` begins, in each of its partitions.
///
/// # Errors
/// As [`read`].
pub(super) fn places(
    log: &LogReader,
    name: &str,
    query: &RecordsQuery,
) -> Result<Vec<Place>, Problem> {
    let stream = log.stream(name).ok_or_else(|| unknown("stream", name))?;
    let most = limits::RECORD_TEXT_BYTES_MAX;
    if query.text.as_ref().is_some_and(|text| text.len() > most) {
        let detail = format!("text: it has at most {most} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let cursor: BTreeMap<u32, u64> = match query.cursor.as_deref() {
        None => BTreeMap::new(),
        Some(cursor) => super::list::decode(cursor)?,
    };
    let mut places = Vec::new();
    for (number, id) in (0u32..).zip(stream.partitions.iter().copied()) {
        if query.partition.is_some_and(|wanted| wanted != number) {
            continue;
        }
        let Some(marks) = log.watermarks(id) else {
            continue;
        };
        let next = match cursor.get(&number) {
            Some(next) => *next,
            None if query.cursor.is_some() => marks.stable,
            None => start(log, id, query, &marks)?,
        };
        places.push(Place {
            number,
            id,
            next: next.clamp(marks.log_start, marks.stable),
            end: marks.stable,
        });
    }
    if places.is_empty() {
        let number = query.partition.unwrap_or(0);
        return Err(unknown("partition", &format!("{number} in {name}")));
    }
    Ok(places)
}

/// What was appended since the last look, and how many records were left out since there were more
/// than `query` takes.
///
/// # Errors
/// A file cannot be read.
pub(super) fn follow(
    log: &LogReader,
    places: &mut [Place],
    query: &RecordsQuery,
) -> Result<(Vec<RecordRow>, u64), Problem> {
    let limit = query.limit.map_or(100, |limit| limit as usize);
    let share = (limit / places.len()).max(1) as u64;
    let mut skipped = 0;
    for place in places.iter_mut() {
        let Some(marks) = log.watermarks(place.id) else {
            continue;
        };
        place.end = marks.stable;
        let from = place.next.max(place.end.saturating_sub(share));
        skipped += from - place.next;
        place.next = from;
    }
    let page = gather(log, places, &Wanted::of(query), limit)?;
    Ok((page.items, skipped))
}

/// The offset at which `query` begins in a partition.
fn start(
    log: &LogReader,
    id: PartitionId,
    query: &RecordsQuery,
    marks: &commitlog::Watermarks,
) -> Result<u64, Problem> {
    match (query.offset, query.time_ms) {
        (Some(offset), _) if offset < 0 => Ok(marks.stable.saturating_sub(offset.unsigned_abs())),
        (Some(offset), _) => Ok(offset.unsigned_abs()),
        (None, Some(time_ms)) => {
            let found = log.offset_for_time(id, time_ms).map_err(unreadable)?;
            Ok(found.map_or(marks.stable, |(offset, _)| offset))
        }
        (None, None) => Ok(marks.log_start),
    }
}

/// Records of all places, by time, until there are enough of them or enough was read.
fn gather(
    log: &LogReader,
    places: &mut [Place],
    wanted: &Wanted<'_>,
    limit: usize,
) -> Result<Page<RecordRow>, Problem> {
    let count = places.len();
    let mut whole = Budget {
        records: usize::MAX,
        answer_bytes: limits::RECORD_ANSWER_BYTES_MAX,
        scan_bytes: limits::RECORD_SCAN_BYTES_MAX,
        until: Instant::now() + limits::RECORD_SCAN_WAIT,
    };
    let mut found: Vec<RecordRow> = Vec::new();
    let mut reached = Vec::with_capacity(count);
    for (number, place) in places.iter().enumerate() {
        // Where nothing is left for a partition it is looked at by the next page.
        let share = whole.share(count - number, limit);
        let mut budget = share.clone();
        reached.push(scan(log, place, wanted, &mut budget, &mut found)?);
        whole.spend(&share, &budget);
    }
    // What a partition has behind where its search stopped may be older than what others found.
    found.sort_by_key(|row| (row.time_ms, row.partition, row.offset));
    let mut bytes = 0;
    let fits = |row: &RecordRow| {
        bytes += shown_bytes(row);
        bytes <= limits::RECORD_ANSWER_BYTES_MAX
    };
    let fitting = found.iter().take(limit).map(fits).take_while(|fits| *fits);
    let kept = fitting.count().max(1).min(found.len());
    let left = found.split_off(kept);
    for (place, reached) in places.iter_mut().zip(reached) {
        let first_left = left.iter().filter(|row| row.partition == place.number);
        place.next = first_left.map(|row| row.offset).min().unwrap_or(reached);
    }
    let more = places.iter().any(|place| place.next < place.end);
    let next = more.then(|| {
        let map: BTreeMap<u32, u64> = places.iter().map(|it| (it.number, it.next)).collect();
        super::list::encode(&map)
    });
    Ok(Page { items: found, next })
}

#[derive(Clone)]
struct Budget {
    records: usize,
    answer_bytes: usize,
    scan_bytes: usize,
    until: Instant,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.records == 0
            || self.answer_bytes == 0
            || self.scan_bytes == 0
            || Instant::now() >= self.until
    }

    /// What one of so many partitions may take of what is left. Each alone could fill the page.
    fn share(&self, partitions: usize, records: usize) -> Self {
        let least = limits::PARTITION_SCAN_BYTES_MIN;
        let part = |left: usize, least: usize| (left / partitions).max(least).min(left);
        Self {
            records,
            answer_bytes: part(self.answer_bytes, limits::RECORD_ANSWER_BYTES_MAX / 16),
            scan_bytes: part(self.scan_bytes, least),
            until: self.until,
        }
    }

    /// Takes off what a partition took of its share.
    fn spend(&mut self, share: &Self, left: &Self) {
        self.answer_bytes -= share.answer_bytes - left.answer_bytes;
        self.scan_bytes -= share.scan_bytes - left.scan_bytes;
    }
}

struct Wanted<'a> {
    key: Option<&'a [u8]>,
    text: Option<Finder<'a>>,
}

/// Adds what is found in one partition; answers the offset behind what was looked at.
fn scan(
    log: &LogReader,
    place: &Place,
    wanted: &Wanted<'_>,
    budget: &mut Budget,
    found: &mut Vec<RecordRow>,
) -> Result<u64, Problem> {
    let mut next = place.next;
    while next < place.end && !budget.is_spent() {
        let read = match log.read(place.id, next, READ_BYTES.min(budget.scan_bytes), place.end) {
            Ok(read) if read.is_empty() => return Ok(place.end),
            Ok(read) => read,
            // Retention was faster.
            Err(ReadError::OutOfRange { log_start, .. }) if log_start > next => {
                next = log_start;
                continue;
            }
            Err(error) => return Err(unreadable(error)),
        };
        for batch in read.iter().flat_map(|bytes| batches(bytes)) {
            let batch = batch.map_err(|error| broken(next, error.what()))?;
            next = take(log, place, &batch, next, wanted, budget, found)?;
            if budget.is_spent() {
                return Ok(next);
            }
        }
    }
    Ok(next)
}

/// Adds what is wanted of one batch from the offset `from` on; answers where to go on.
fn take(
    log: &LogReader,
    place: &Place,
    batch: &BatchView<'_>,
    from: u64,
    wanted: &Wanted<'_>,
    budget: &mut Budget,
    found: &mut Vec<RecordRow>,
) -> Result<u64, Problem> {
    let behind = batch.next_offset();
    if batch.is_control() || behind <= from || is_aborted(log, place.id, batch)? {
        budget.scan_bytes = budget.scan_bytes.saturating_sub(batch.size_bytes());
        return Ok(behind.max(from));
    }
    let plain = batch
        .plain(limits::BATCH_PLAIN_BYTES_MAX)
        .map_err(|error| broken(from, error.what()))?;
    // It is looked at to its end, whatever that costs.
    let unfolded = plain.bytes().len().max(batch.size_bytes());
    budget.scan_bytes = budget.scan_bytes.saturating_sub(unfolded);
    for record in &plain {
        let record = record.map_err(|error| broken(from, error.what()))?;
        if record.offset < from || record.offset >= place.end || !wanted.takes(&record) {
            continue;
        }
        if budget.records == 0 || budget.answer_bytes == 0 {
            return Ok(record.offset);
        }
        let row = row(place.number, &record);
        budget.records -= 1;
        budget.answer_bytes = budget.answer_bytes.saturating_sub(shown_bytes(&row));
        found.push(row);
    }
    Ok(behind)
}

/// Whether a batch belongs to a transaction that was aborted.
fn is_aborted(log: &LogReader, id: PartitionId, batch: &BatchView<'_>) -> Result<bool, Problem> {
    if !batch.is_transactional() {
        return Ok(false);
    }
    let (first, behind) = (batch.base_offset(), batch.next_offset());
    let aborted = log.aborted(id, first, behind).map_err(unreadable)?;
    Ok(aborted.iter().any(|range| {
        range.producer_id == batch.producer_id()
            && (range.first_offset..=range.last_offset).contains(&first)
    }))
}

impl<'a> Wanted<'a> {
    fn of(query: &'a RecordsQuery) -> Self {
        let text = query.text.as_deref().filter(|text| !text.is_empty());
        Self {
            key: query.key.as_deref().map(str::as_bytes),
            text: text.map(Finder::new),
        }
    }

    fn takes(&self, record: &commitlog::RecordView<'_>) -> bool {
        let key = self.key.is_none_or(|key| record.key == Some(key));
        key && self.text.as_ref().is_none_or(|text| {
            let holds =
                |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| text.find(bytes).is_some());
            holds(record.key)
                || holds(record.value)
                || record.headers().any(|(_, value)| holds(value))
        })
    }
}

fn row(partition: u32, record: &commitlog::RecordView<'_>) -> RecordRow {
    let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
    let key = record.key.map(std::str::from_utf8);
    let shown = |value: &[u8]| base64(&value[..value.len().min(limits::VALUE_SHOWN_BYTES_MAX)]);
    let headers: Vec<HeaderRow> = record
        .headers()
        .map(|(name, value)| HeaderRow {
            name: String::from_utf8_lossy(name).into_owned(),
            value_base64: value.map(shown),
        })
        .collect();
    let lengths = record
        .headers()
        .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
    let own = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
    RecordRow {
        partition,
        offset: record.offset,
        time_ms: record.timestamp_ms,
        time: rfc3339(record.timestamp_ms),
        key: key.and_then(Result::ok).map(str::to_owned),
        key_base64: record
            .key
            .filter(|key| std::str::from_utf8(key).is_err())
            .map(base64),
        value_base64: record.value.map(shown),
        value_cut: record
            .value
            .is_some_and(|it| it.len() > limits::VALUE_SHOWN_BYTES_MAX),
        size_bytes: (own + lengths.sum::<usize>()) as u64,
        headers,
    }
}

/// About what a row takes in an answer.
fn shown_bytes(row: &RecordRow) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let headers = row
        .headers
        .iter()
        .map(|it| it.name.len() + text(&it.value_base64));
    text(&row.key) + text(&row.key_base64) + text(&row.value_base64) + headers.sum::<usize>() + 200
}

fn unreadable(error: ReadError) -> Problem {
    match error {
        ReadError::OutOfRange {
            log_start,
            next_offset,
            ..
        } => Problem::new(
            StatusCode::BAD_REQUEST,
            format!("offset: the partition holds {log_start} up to {next_offset}"),
        ),
        other => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
    }
}

fn broken(offset: u64, what: &str) -> Problem {
    let detail = format!("the batch at offset {offset}: {what}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}
