//! Compaction: closed segments of compacted streams are written anew with the latest record of each
//! key, without what aborted transactions left. Offsets and markers stay; a pin, the active segment,
//! an open transaction and what is not yet durable are never passed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use crate::aborted::AbortedRange;
use crate::batch::{BatchView, HEADER_BYTES, batches, compress, crc32c};
use crate::disk::Disk;
use crate::error::{Error, ReadError};
use crate::limits::{
    COMPACTION_KEYS_BYTES_MAX, COMPACTION_RETRY_MS, DECOMPRESSED_BYTES_MAX, DELETE_RETENTION_MS,
};
use crate::log::{Log, OwnedPartition};
use crate::partition::{PartitionReader, SegmentSummary};
use crate::segment::{Rewritten, SegmentRewrite};
use crate::space::leave_reserve;
use crate::stream::{PartitionId, StreamSettings};
use crate::varint;

/// How far compaction has come in a partition; kept in memory only, so that after a start all
/// counts as not yet cleaned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cleaning {
    /// Below here each key was looked at together with all later ones. A run that fails must leave
    /// it, or the next would take tombstones for spent whose values are still there.
    cleaned_to: u64,
    running: bool,
    /// When the last run failed, ms since 1970, if it did.
    failed_ms: Option<u64>,
    /// Segments were installed that no checkpoint has made durable yet.
    pub(crate) installed: bool,
}

/// One run over one partition: do its steps on any thread but the log's, then hand it to
/// [`Log::compacted`], even after an error.
pub struct Compaction {
    partition: PartitionId,
    disk: Arc<dyn Disk>,
    dir: String,
    reader: PartitionReader,
    now_ms: u64,
    reserve_bytes: u64,
    delete_retention_ms: u64,
    /// Closed segments below everything that must stay, oldest first.
    segments: Vec<SegmentSummary>,
    log_start: u64,
    /// Aborted transactions that have records in these segments, by their producers.
    aborted: HashMap<i64, Vec<AbortedRange>, BuildHasherDefault<DefaultHasher>>,
    cleaned_to: u64,
    /// The map knows all records from `cleaned_to` up to here.
    mapped_to: u64,
    latest: HashMap<Box<[u8]>, u64, BuildHasherDefault<DefaultHasher>>,
    keys_bytes: usize,
    keys_bytes_max: usize,
    phase: Phase,
    rewritten: Vec<Rewritten>,
}

enum Phase {
    Aborted,
    Map,
    Rewrite { segment: usize },
    Done,
}

impl Log {
    /// The compaction that is worth most now, if any is: at least half of what could be compacted
    /// is new. One run at a time for a partition; time decides which tombstones go.
    pub fn compaction(&mut self, now_ms: u64) -> Option<Compaction> {
        self.shared.latch.check().ok()?;
        let mut best: Option<(u64, PartitionId, Vec<SegmentSummary>)> = None;
        for (id, owned) in &self.partitions {
            let stream = self.streams.get(&owned.state.meta.stream);
            let failed = owned.cleaning.failed_ms;
            let busy = owned.cleaning.running
                || owned.cleaning.installed
                || failed.is_some_and(|at_ms| now_ms.abs_diff(at_ms) < COMPACTION_RETRY_MS);
            let settings = stream.map(|stream| &stream.settings);
            let Some(settings) = settings.filter(|settings| settings.compact && !busy) else {
                continue;
            };
            let durable = self
                .durable
                .marks
                .get(id)
                .map_or(0, |mark| mark.segment_base);
            let segments = cleanable(owned, settings, durable, now_ms);
            let size = |from: u64| {
                let those = segments
                    .iter()
                    .filter(|segment| segment.base_offset >= from);
                those.map(|segment| segment.size_bytes).sum::<u64>()
            };
            let (dirty_bytes, bytes) = (size(owned.cleaning.cleaned_to), size(0));
            let best_bytes = best.as_ref().map_or(0, |(bytes, ..)| *bytes);
            if dirty_bytes * 2 >= bytes && dirty_bytes > best_bytes {
                best = Some((dirty_bytes, *id, segments));
            }
        }
        let (_, partition, segments) = best?;
        let owned = self.partitions.get_mut(&partition)?;
        owned.cleaning.running = true;
        let cleaned_to = owned.cleaning.cleaned_to;
        let stream = self.streams.get(&owned.state.meta.stream)?;
        let disk_partition = owned.disk()?;
        Some(Compaction {
            partition,
            disk: Arc::clone(&self.disk),
            dir: disk_partition.dir().to_owned(),
            reader: disk_partition.reader(),
            now_ms,
            reserve_bytes: self.space.reserve_bytes(),
            delete_retention_ms: stream
                .settings
                .delete_retention_ms
                .unwrap_or(DELETE_RETENTION_MS),
            segments,
            log_start: disk_partition.log_start(),
            aborted: HashMap::default(),
            cleaned_to,
            mapped_to: cleaned_to,
            latest: HashMap::default(),
            keys_bytes: 0,
            keys_bytes_max: COMPACTION_KEYS_BYTES_MAX,
            phase: Phase::Aborted,
            rewritten: Vec::new(),
        })
    }

    /// Puts what a run wrote in the place of the old segments. Returns the bytes that became free.
    /// A run that failed at `now_ms` is tried again after a while.
    pub fn compacted(&mut self, compaction: Compaction, now_ms: u64) -> Result<u64, Error> {
        self.shared.latch.check()?;
        let Some(owned) = self.partitions.get_mut(&compaction.partition) else {
            return Ok(0);
        };
        owned.cleaning.running = false;
        if matches!(compaction.phase, Phase::Done) {
            owned.cleaning.cleaned_to = compaction.end();
            owned.cleaning.failed_ms = None;
        } else {
            owned.cleaning.failed_ms = Some(now_ms);
        }
        let mut freed = 0;
        for rewritten in compaction.rewritten {
            let Some(partition) = owned.disk_mut() else {
                break;
            };
            freed += partition
                .install(rewritten)
                .map_err(|error| self.shared.failed(error))?;
            owned.cleaning.installed = true;
        }
        Ok(freed)
    }
}

/// Closed segments that lie below the durable mark, the flushed end, every open transaction and every
/// pin, and are old enough.
fn cleanable(
    owned: &OwnedPartition,
    settings: &StreamSettings,
    durable: u64,
    now_ms: u64,
) -> Vec<SegmentSummary> {
    let Some(partition) = owned.disk() else {
        return Vec::new();
    };
    let pin = owned.pinned().unwrap_or(u64::MAX);
    let marks = owned.state.watermarks();
    let end = durable.min(pin).min(marks.flushed_stable);
    let log_start = partition.log_start();
    let mut segments = partition.segments();
    segments.retain(|segment| {
        !segment.active && segment.next_offset <= end && segment.next_offset > log_start
    });
    let lag_ms = settings.compaction_lag_ms_min.unwrap_or(0);
    let young = segments.iter().position(|segment| {
        let newest_ms = u64::try_from(segment.newest_timestamp_ms).unwrap_or(0);
        newest_ms.saturating_add(lag_ms) > now_ms && lag_ms > 0
    });
    segments.truncate(young.unwrap_or(segments.len()));
    segments
}

impl Compaction {
    /// The partition that is compacted.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Does the next piece: finds what was aborted, maps the keys of about a mebibyte, or writes one
    /// segment anew. True when done. An error ends the run but latches nothing; the old segments stay.
    pub fn step(&mut self) -> Result<bool, Error> {
        self.next_piece().map_err(Error::passing)
    }

    fn next_piece(&mut self) -> Result<bool, Error> {
        match self.phase {
            Phase::Aborted => {
                self.find_aborted()?;
                self.phase = Phase::Map;
            }
            Phase::Map => {
                if self.map_keys()? {
                    self.phase = Phase::Rewrite { segment: 0 };
                }
            }
            Phase::Rewrite { segment } => match self.segments.get(segment).copied() {
                Some(summary) if summary.next_offset <= self.mapped_to => {
                    leave_reserve(&*self.disk, self.reserve_bytes, summary.size_bytes)?;
                    if let Err(error) = self.rewrite(summary) {
                        // The error says more than what clearing away after it would.
                        let _ = self.remove_cleaned(summary.base_offset);
                        return Err(error);
                    }
                    self.phase = Phase::Rewrite {
                        segment: segment + 1,
                    };
                }
                _ => self.phase = Phase::Done,
            },
            Phase::Done => {}
        }
        Ok(matches!(self.phase, Phase::Done))
    }

    fn end(&self) -> u64 {
        let whole = self
            .segments
            .iter()
            .take_while(|s| s.next_offset <= self.mapped_to);
        whole
            .last()
            .map_or(self.cleaned_to, |segment| segment.next_offset)
    }

    fn find_aborted(&mut self) -> Result<(), Error> {
        let end = self.segments.last().map_or(0, |last| last.next_offset);
        for range in self.reader.aborted(self.log_start, end)? {
            let ranges = self.aborted.entry(range.producer_id).or_default();
            ranges.push(range);
        }
        Ok(())
    }

    /// Whether the batch belongs to a transaction that was aborted.
    fn is_aborted(&self, batch: &BatchView<'_>) -> bool {
        let offset = batch.base_offset();
        let ranges = self.aborted.get(&batch.producer_id());
        batch.is_transactional()
            && ranges.is_some_and(|ranges| {
                let behind = ranges.partition_point(|range| range.first_offset <= offset);
                behind > 0 && offset <= ranges[behind - 1].last_offset
            })
    }

    /// True when everything is mapped, or the map is as large as it may become.
    fn map_keys(&mut self) -> Result<bool, Error> {
        let end = self
            .segments
            .last()
            .map_or(0, |segment| segment.next_offset);
        let from = self.mapped_to.max(self.log_start);
        if from >= end {
            self.mapped_to = end;
            return Ok(true);
        }
        for bytes in self.read(from, end)? {
            for batch in batches(&bytes) {
                let batch = batch.map_err(|source| self.bad_batch(source))?;
                self.mapped_to = batch.next_offset();
                if batch.is_control() || self.is_aborted(&batch) {
                    continue;
                }
                let records = batch.plain(DECOMPRESSED_BYTES_MAX);
                for record in &records.map_err(|source| self.bad_batch(source))? {
                    let record = record.map_err(|source| self.bad_batch(source))?;
                    if let Some(key) = record.key {
                        self.keys_bytes += key.len() + KEY_OVERHEAD_BYTES;
                        self.latest.insert(key.into(), record.offset);
                    }
                }
                // A single segment must always be possible, or nothing ever would be.
                let first = self
                    .segments
                    .iter()
                    .find(|s| s.next_offset > self.cleaned_to);
                let enough = first.is_none_or(|first| self.mapped_to >= first.next_offset);
                if self.keys_bytes >= self.keys_bytes_max && enough {
                    return Ok(true);
                }
            }
        }
        if self.mapped_to <= from {
            // Nothing but gaps, or batches that are kept whole.
            self.mapped_to = end;
        }
        Ok(self.mapped_to >= end)
    }

    fn rewrite(&mut self, summary: SegmentSummary) -> Result<(), Error> {
        let mut rewrite = SegmentRewrite::begin(&self.disk, &self.dir, summary.base_offset)?;
        let mut dropped = false;
        let mut at = summary.base_offset.max(self.log_start);
        while at < summary.next_offset {
            let found = self.read(at, summary.next_offset)?;
            if found.is_empty() {
                break;
            }
            for bytes in found {
                for batch in batches(&bytes) {
                    let batch = batch.map_err(|source| self.bad_batch(source))?;
                    at = batch.next_offset();
                    match self.filter(&batch)? {
                        Filtered::Whole => rewrite.append(batch.bytes())?,
                        Filtered::Part(batch) => {
                            dropped = true;
                            rewrite.append(&batch)?;
                        }
                        Filtered::Nothing => dropped = true,
                    }
                }
            }
        }
        if dropped {
            self.rewritten.push(rewrite.finish()?);
            return Ok(());
        }
        drop(rewrite);
        self.remove_cleaned(summary.base_offset)
    }

    fn remove_cleaned(&self, base_offset: u64) -> Result<(), Error> {
        let stem = format!("{}/{base_offset:020}", self.dir);
        for extension in ["log", "index", "timeindex"] {
            let path = format!("{stem}.{extension}.{}", crate::segment::CLEANED);
            match self.disk.remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::disk(path, "remove", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&self, from: u64, up_to: u64) -> Result<Vec<bytes::Bytes>, Error> {
        match self.reader.read(from, READ_BYTES, up_to) {
            // Retention was faster.
            Err(ReadError::OutOfRange { .. }) => Ok(Vec::new()),
            other => other.map_err(Error::from),
        }
    }

    /// Keeps the records that no later one replaces.
    fn filter(&self, batch: &BatchView<'_>) -> Result<Filtered, Error> {
        if batch.is_control() {
            return Ok(Filtered::Whole);
        }
        if self.is_aborted(batch) {
            return Ok(Filtered::Nothing);
        }
        let bad = |source| self.bad_batch(source);
        let records = batch.plain(DECOMPRESSED_BYTES_MAX).map_err(bad)?;
        let mut kept = Vec::new();
        let mut kept_count = 0u32;
        let mut newest_ms = i64::MIN;
        let mut rest = records.bytes();
        for record in &records {
            let record = record.map_err(bad)?;
            let raw = take_record(&mut rest).expect("the record was just read from these bytes");
            let stays = record.offset >= self.log_start
                && record.key.is_none_or(|key| {
                    let replaced = self.latest.get(key).is_some_and(|at| *at > record.offset);
                    !replaced && !self.is_spent(record.value, record.offset, record.timestamp_ms)
                });
            if stays {
                kept.extend_from_slice(raw);
                kept_count += 1;
                newest_ms = newest_ms.max(record.timestamp_ms);
            }
        }
        Ok(match kept_count {
            count if count == batch.count() => Filtered::Whole,
            0 => Filtered::Nothing,
            count => {
                let compression = batch.compression().map_err(bad)?;
                let kept = compress(compression, &kept);
                Filtered::Part(with_records(batch, &kept, count, newest_ms))
            }
        })
    }

    /// Whether this is a tombstone that has done its work: it is old, and the run before this one
    /// removed all that it deletes, durably.
    fn is_spent(&self, value: Option<&[u8]>, offset: u64, timestamp_ms: i64) -> bool {
        let age_ms = self
            .now_ms
            .saturating_sub(u64::try_from(timestamp_ms).unwrap_or(0));
        value.is_none() && offset < self.cleaned_to && age_ms > self.delete_retention_ms
    }

    fn bad_batch(&self, source: crate::batch::BatchError) -> Error {
        Error::Batch {
            path: self.dir.clone(),
            source,
        }
    }
}

enum Filtered {
    Whole,
    Part(Vec<u8>),
    Nothing,
}

/// Takes one record with its length off the front.
fn take_record<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let whole = *rest;
    let length = usize::try_from(varint::take(rest)?).ok()?;
    let head = whole.len() - rest.len();
    let record = whole.get(..head + length)?;
    *rest = &whole[head + length..];
    Some(record)
}

/// The batch with fewer records; base offset, last offset and base timestamp stay.
fn with_records(batch: &BatchView<'_>, records: &[u8], count: u32, newest_ms: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + records.len());
    out.extend_from_slice(&batch.bytes()[..HEADER_BYTES]);
    out.extend_from_slice(records);
    let length = (out.len() - LENGTH_FROM) as u32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[35..43].copy_from_slice(&newest_ms.to_be_bytes());
    out[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c(&out[CRC_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

/// A batch's length counts from here, its checksum from there.
const LENGTH_FROM: usize = 12;
const CRC_FROM: usize = 21;
const READ_BYTES: usize = 1 << 20;
const KEY_OVERHEAD_BYTES: usize = 48;

#[cfg(test)]
mod tests;
