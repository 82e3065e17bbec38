//! What happens now: figures once a second and their history of an hour, and the tail of a stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use super::limits::{EVENTS_WAITING_MAX, HISTORY_MAX, HISTORY_STEP_S, TAIL_LOOK, TAIL_RECORDS_MAX};
use super::list::Page;
use super::problem::Problem;
use super::records::{self, RecordsQuery};
use super::view::RecordRow;
use super::{Asked, Caller, Named, Routes, Shared, events, serving};
use crate::auth::Role;
use crate::node::counters::FLUSH_BOUNDS_US;
use crate::node::wall_ms;

/// Counts since the start and levels of one moment, from which samples are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// PUBLISH packets taken from clients.
    pub messages_in: u64,
    /// PUBLISH packets sent to clients.
    pub messages_out: u64,
    /// Bytes from MQTT clients.
    pub bytes_in: u64,
    /// Bytes to MQTT clients.
    pub bytes_out: u64,
    /// Records appended to streams that are not the node's own, by whichever door.
    pub records_in: u64,
    /// Records that consumer groups have read: the sum of what they committed.
    pub kafka_records_out: u64,
    /// Messages that did not reach a receiver that they had.
    pub dropped: u64,
    /// Connections and journal entries refused.
    pub refused: u64,
    /// Writes to the journal.
    pub commits: u64,
    /// Flushes by their time, as the metrics count them.
    pub flush_buckets: Vec<u64>,
    /// Records that each hook has made, by its name.
    pub hooks: Vec<(String, u64)>,
    /// The levels, already as a sample shows them.
    pub levels: Levels,
}

/// Figures that rise and fall.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Levels {
    /// MQTT connections.
    pub connections: u64,
    /// Sessions, with a connection or without.
    pub sessions: u64,
    /// Messages owed to sessions.
    pub owed: u64,
    /// Kafka connections.
    pub kafka_connections: u64,
    /// Records that consumer groups have not read.
    pub lag: u64,
    /// Records that the mirror has not mirrored; `null`: nothing is mirrored.
    pub mirror_lag: Option<u64>,
    /// Bytes of the journal that wait for a checkpoint.
    pub journal_used_bytes: u64,
    /// Free bytes on the disk.
    pub disk_free_bytes: Option<u64>,
    /// Bytes of all streams.
    pub size_bytes: u64,
}

/// Rates a second and levels of one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// PUBLISH packets taken from clients, a second.
    pub messages_in: f64,
    /// PUBLISH packets sent to clients, a second.
    pub messages_out: f64,
    /// Bytes from MQTT clients, a second.
    pub bytes_in: f64,
    /// Bytes to MQTT clients, a second.
    pub bytes_out: f64,
    /// Records appended to streams that are not the node's own, by whichever door, a second.
    pub records_in: f64,
    /// Records that consumer groups have read, a second: how fast what they committed rises.
    pub kafka_records_out: f64,
    /// Messages that did not reach a receiver that they had, a second.
    pub dropped: f64,
    /// Connections and journal entries refused, a second.
    pub refused: f64,
    /// Writes to the journal, a second.
    pub commits: f64,
    /// Flushes, a second.
    pub flushes: f64,
    /// Time within which 99 of 100 flushes ended, microseconds; `null` without flushes.
    pub flush_p99_us: Option<u64>,
    /// The levels.
    #[serde(flatten)]
    pub levels: Levels,
}

/// When, ms since the epoch, and the records that each hook had made by then, by its name.
type Made = (u64, Vec<(String, u64)>);

/// The samples of a node.
pub struct Samples {
    history: Mutex<VecDeque<Sample>>,
    latest: watch::Sender<Option<Sample>>,
    /// What hooks had made in the last seconds, the oldest first.
    hooks: Mutex<VecDeque<Made>>,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            history: Mutex::default(),
            latest: watch::Sender::new(None),
            hooks: Mutex::default(),
        }
    }
}

impl Samples {
    /// Records a second that a hook made in the last ten seconds; `None`: it was not seen for long
    /// enough to tell.
    pub(super) fn hook_per_s(&self, name: &str) -> Option<f64> {
        let seen = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |(ms, hooks): &Made| {
            let found = hooks.iter().find(|(known, _)| known == name);
            found.map(|(_, made)| (*ms, *made))
        };
        let (from, to) = (seen.iter().find_map(at)?, at(seen.back()?)?);
        (to.0 > from.0).then(|| per_s(from.1, to.1, to.0 - from.0))
    }

    fn saw_hooks(&self, now_ms: u64, hooks: Vec<(String, u64)>) {
        let mut seen = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push_back((now_ms, hooks));
        if seen.len() as u64 > HISTORY_STEP_S + 1 {
            seen.pop_front();
        }
    }
}

/// How much a count rose a second, with one digit behind the point.
fn per_s(from: u64, to: u64, ms: u64) -> f64 {
    (to.saturating_sub(from) as f64 / (ms.max(1) as f64 / 1_000.0) * 10.0).round() / 10.0
}

/// Takes a sample a second until the node stops.
pub async fn keep_sampling(api: Shared) {
    let mut stop = api.stop.clone();
    let mut seconds = 0u64;
    let (mut before, mut before_step) = (None, None);
    loop {
        let (now_ms, totals) = (wall_ms(), api.view.totals().await);
        api.samples.saw_hooks(now_ms, totals.hooks.clone());
        if let Some(before) = &before {
            let sample = sample(before, &(now_ms, totals.clone()));
            api.samples.latest.send_replace(Some(sample));
        }
        if seconds.is_multiple_of(HISTORY_STEP_S) {
            if let Some(before) = &before_step {
                let sample = sample(before, &(now_ms, totals.clone()));
                let history = &api.samples.history;
                let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
                history.push_back(sample);
                if history.len() > HISTORY_MAX {
                    history.pop_front();
                }
            }
            before_step = Some((now_ms, totals.clone()));
        }
        before = Some((now_ms, totals));
        seconds += 1;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = serving::stopped(&mut stop) => return,
        }
    }
}

/// What happened between two moments.
fn sample(before: &(u64, Totals), now: &(u64, Totals)) -> Sample {
    let (a, b) = (&before.1, &now.1);
    let rate = |a: u64, b: u64| per_s(a, b, now.0.saturating_sub(before.0));
    let flushes: Vec<u64> = b
        .flush_buckets
        .iter()
        .zip(a.flush_buckets.iter().chain(std::iter::repeat(&0)))
        .map(|(b, a)| b.saturating_sub(*a))
        .collect();
    Sample {
        time_ms: now.0,
        messages_in: rate(a.messages_in, b.messages_in),
        messages_out: rate(a.messages_out, b.messages_out),
        bytes_in: rate(a.bytes_in, b.bytes_in),
        bytes_out: rate(a.bytes_out, b.bytes_out),
        records_in: rate(a.records_in, b.records_in),
        kafka_records_out: rate(a.kafka_records_out, b.kafka_records_out),
        dropped: rate(a.dropped, b.dropped),
        refused: rate(a.refused, b.refused),
        commits: rate(a.commits, b.commits),
        flushes: rate(0, flushes.iter().sum()),
        flush_p99_us: p99_us(&flushes),
        levels: b.levels.clone(),
    }
}

/// The bound under which 99 of 100 flushes lie; beyond the last bound that bound is told.
fn p99_us(buckets: &[u64]) -> Option<u64> {
    let all: u64 = buckets.iter().sum();
    let mut left = all - all / 100;
    for (number, count) in buckets.iter().enumerate() {
        if *count >= left && left > 0 {
            return Some(FLUSH_BOUNDS_US[number.min(FLUSH_BOUNDS_US.len() - 1)]);
        }
        left = left.saturating_sub(*count);
    }
    None
}

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/metrics/live", Role::Viewer, live);
    routes.add(
        Method::GET,
        "/api/v1/metrics/history",
        Role::Viewer,
        history,
    );
    routes.add(
        Method::GET,
        "/api/v1/streams/{name}/tail",
        Role::Viewer,
        tail,
    );
}

/// Figures once a second, as events `metrics`.
#[utoipa::path(get, path = "/api/v1/metrics/live", tag = "node",
    responses((status = 200, body = Sample, content_type = "text/event-stream")))]
pub(super) async fn live(State(api): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    let mut latest = api.samples.latest.subscribe();
    events::open(&api, caller, EVENTS_WAITING_MAX, |sink| async move {
        loop {
            let sample = latest.borrow_and_update().clone();
            if let Some(sample) = sample
                && !sink.send("metrics", &sample).await
            {
                return;
            }
            if latest.changed().await.is_err() {
                return;
            }
        }
    })
}

/// The last hour in steps of ten seconds, the oldest first.
#[utoipa::path(get, path = "/api/v1/metrics/history", tag = "node",
    responses((status = 200, body = Page<Sample>)))]
pub(super) async fn history(State(api): State<Shared>) -> Json<Page<Sample>> {
    let history = &api.samples.history;
    let history = history.lock().unwrap_or_else(PoisonError::into_inner);
    Json(Page {
        items: history.iter().cloned().collect(),
        next: None,
    })
}

/// Which records a tail shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TailQuery {
    /// Number of the partition; absent: all.
    pub partition: Option<u32>,
    /// Only records with exactly this key.
    pub key: Option<String>,
    /// Only records that contain this text in key, value or a header.
    pub text: Option<String>,
}

/// Records that a tail has found.
#[derive(Debug, Serialize, ToSchema)]
pub struct TailRecords {
    /// The records.
    pub items: Vec<RecordRow>,
}

/// Records that a tail did not look at, since there were more than it shows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Skipped {
    /// How many.
    pub count: u64,
}

/// Records as they are appended, as events `records`; where there are too many to show, an event
/// `skipped` says how many were left out.
#[utoipa::path(get, path = "/api/v1/streams/{name}/tail", tag = "streams",
    params(("name" = String, Path, description = "Name of the stream"), TailQuery),
    responses((status = 200, body = TailRecords, content_type = "text/event-stream"),
        (status = 404, body = Problem)))]
pub(super) async fn tail(
    State(api): State<Shared>,
    Named(name): Named,
    caller: Caller,
    Asked(query): Asked<TailQuery>,
) -> Result<Response, Problem> {
    let log = records::readable(&api, &name, &caller)?;
    let wanted = RecordsQuery {
        partition: query.partition,
        key: query.key,
        text: query.text,
        limit: Some(TAIL_RECORDS_MAX as u32),
        offset: Some(i64::MAX),
        ..RecordsQuery::default()
    };
    let mut places = records::places(&log, &name, &wanted)?;
    let reading = Arc::clone(&api.reading);
    // One: a subscriber that reads slowly is told what it misses, and holds no memory.
    events::open(&api, caller, 1, |sink| async move {
        loop {
            tokio::time::sleep(TAIL_LOOK).await;
            let permit = Arc::clone(&reading).acquire_owned().await;
            let (log, wanted) = (log.clone(), wanted.clone());
            let found = tokio::task::spawn_blocking(move || {
                let _held = permit;
                let found = records::follow(&log, &mut places, &wanted);
                (found, places)
            });
            let Ok((Ok((items, count)), reached)) = found.await else {
                return;
            };
            places = reached;
            if count > 0 && !sink.send("skipped", &Skipped { count }).await {
                return;
            }
            if !items.is_empty() && !sink.send("records", &TailRecords { items }).await {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_tells_what_happened_a_second() {
        let totals = |messages_in, slow| Totals {
            messages_in,
            flush_buckets: vec![99 * messages_in, slow],
            ..Totals::default()
        };
        let sample = sample(&(1_000, totals(0, 0)), &(3_000, totals(5, 4)));
        assert_eq!((sample.time_ms, sample.messages_in), (3_000, 2.5));
        assert_eq!(sample.flush_p99_us, Some(FLUSH_BOUNDS_US[0]));
        assert_eq!(p99_us(&[98, 2]), Some(FLUSH_BOUNDS_US[1]));
        assert_eq!(p99_us(&[0, 0]), None);
        assert_eq!(p99_us(&[1]), Some(FLUSH_BOUNDS_US[0]));
    }

    #[test]
    fn a_hook_has_the_rate_of_its_last_ten_seconds() {
        let samples = Samples::default();
        assert_eq!(samples.hook_per_s("a"), None);
        for second in 0..30_u64 {
            let mut hooks = vec![("a".to_owned(), if second < 15 { 0 } else { 20 * second })];
            if second == 29 {
                hooks.push(("new".to_owned(), 7));
            }
            samples.saw_hooks(1_000 * second, hooks);
        }
        assert_eq!(samples.hook_per_s("a"), Some(20.0));
        assert_eq!(samples.hook_per_s("new"), None);
        assert_eq!(samples.hook_per_s("none"), None);
        let seen = samples.hooks.lock().unwrap();
        assert_eq!(seen.len() as u64, HISTORY_STEP_S + 1);
    }
}
