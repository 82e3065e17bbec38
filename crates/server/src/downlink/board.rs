//! How the downlinks stand and what they have done, for views and metrics. It reads nothing and
//! publishes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::node::wall_ms;
use crate::settings::{DownlinkSettings, DownlinkSource};

/// One downlink as a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DownlinkRow {
    /// Its name.
    pub name: String,
    /// `stream` of this node, or `topic` of the cluster.
    pub kind: String,
    /// Name of the stream or topic.
    pub source: String,
    /// Topic of what it publishes.
    pub topic: String,
    /// `connected`, `waiting` (goes on by itself), `failed` (an operator must mend something).
    pub state: String,
    /// Why it is not connected.
    pub why: Option<String>,
    /// Since when it stands so, ms since the epoch.
    pub since_ms: u64,
    /// Records published since the start.
    pub published: u64,
    /// Records sent to the dead letters since the start.
    pub refused: u64,
    /// Records that were too old when they came, since the start.
    pub expired: u64,
    /// Records that retention of the source dropped before they were read, since the start.
    pub lost: u64,
    /// Records of the source that are not published yet.
    pub lag_records: u64,
    /// How far the partitions are.
    pub partitions: Vec<DownlinkPartitionRow>,
}

/// A partition of a downlink's source as a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DownlinkPartitionRow {
    /// Its number.
    pub partition: u32,
    /// The next offset that is read.
    pub position: u64,
    /// The end of the source, as far as it is known.
    pub end: u64,
    /// What is between.
    pub lag_records: u64,
}

/// What one downlink tells.
pub struct Board {
    settings: DownlinkSettings,
    /// Records published.
    pub published: AtomicU64,
    /// Records sent to the dead letters.
    pub refused: AtomicU64,
    /// Records that were too old.
    pub expired: AtomicU64,
    /// Records that were gone before they were read.
    pub lost: AtomicU64,
    standing: Mutex<Standing>,
    /// Position and end by partition.
    partitions: Mutex<BTreeMap<u32, (u64, u64)>>,
}

#[derive(Clone)]
struct Standing {
    state: &'static str,
    why: Option<String>,
    since_ms: u64,
}

impl Board {
    /// Of a downlink that has not read anything yet.
    pub fn new(settings: DownlinkSettings) -> Self {
        Self {
            settings,
            published: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            standing: Mutex::new(Standing {
                state: "waiting",
                why: Some("not started yet".to_owned()),
                since_ms: wall_ms(),
            }),
            partitions: Mutex::default(),
        }
    }

    /// What it was started with.
    pub fn settings(&self) -> &DownlinkSettings {
        &self.settings
    }

    /// All is well.
    pub fn connected(&self) {
        self.stands("connected", None);
    }

    /// It goes on by itself.
    pub fn waiting(&self, why: &str) {
        self.stands("waiting", Some(why));
    }

    /// An operator must mend something.
    pub fn failed(&self, why: &str) {
        self.stands("failed", Some(why));
    }

    /// Told once for each change, not once for each try.
    fn stands(&self, state: &'static str, why: Option<&str>) {
        let mut standing = held(&self.standing);
        if standing.state == state {
            if standing.why.as_deref() != why {
                standing.why = why.map(str::to_owned);
            }
            return;
        }
        *standing = Standing {
            state,
            why: why.map(str::to_owned),
            since_ms: wall_ms(),
        };
        drop(standing);
        let name = &self.settings.name;
        match why {
            None => tracing::info!(downlink = %name, "the downlink is {state}"),
            Some(why) => tracing::warn!(downlink = %name, why, "the downlink is {state}"),
        }
    }

    /// How far a partition is.
    pub fn at(&self, partition: u32, position: u64, end: u64) {
        held(&self.partitions).insert(partition, (position, end.max(position)));
    }

    /// Counts what became of a parcel.
    pub fn carried(&self, carried: &broker::Carried) {
        self.published
            .fetch_add(carried.published, Ordering::Relaxed);
        self.refused.fetch_add(carried.refused, Ordering::Relaxed);
        self.expired.fetch_add(carried.expired, Ordering::Relaxed);
    }

    /// All of it.
    pub fn row(&self) -> DownlinkRow {
        let partitions: Vec<DownlinkPartitionRow> = held(&self.partitions)
            .iter()
            .map(|(&partition, &(position, end))| DownlinkPartitionRow {
                partition,
                position,
                end,
                lag_records: end - position,
            })
            .collect();
        let Standing {
            state,
            why,
            since_ms,
        } = held(&self.standing).clone();
        let kind = match self.settings.source {
            DownlinkSource::Stream(_) => "stream",
            DownlinkSource::Topic(_) => "topic",
        };
        DownlinkRow {
            name: self.settings.name.clone(),
            kind: kind.to_owned(),
            source: self.settings.source.name().to_owned(),
            topic: self.settings.topic.clone(),
            state: state.to_owned(),
            why,
            since_ms,
            published: self.published.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            lag_records: partitions.iter().map(|it| it.lag_records).sum(),
            partitions,
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
