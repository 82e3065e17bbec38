//! Retention: which closed segments go because of age or size, and which pins hold them. Files go
//! with the checkpoint after the log start that passes them was journalled.

use crate::entry::{Entry, Op};
use crate::error::Error;
use crate::log::{Log, OwnedPartition, Store};
use crate::partition::{Partition, SegmentSummary};
use crate::stream::{PartitionId, StreamSettings};

/// Records that retention dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The partition.
    pub partition: PartitionId,
    /// First offset that went.
    pub from: u64,
    /// First offset that stayed.
    pub to: u64,
    /// Pins that were passed because of the stream's hard bound: owner and its offset. What they
    /// were owed from there up to `to` is lost.
    pub pinned: Vec<(u32, u64)>,
}

impl Log {
    /// Drops what the streams' settings say: segments beyond their age, and the oldest beyond the
    /// partition's size. Pins hold them, up to the hard bound `size_max_bytes`. Staged entries are
    /// written first.
    pub fn housekeeping(&mut self, now_ms: u64) -> Result<Vec<Dropped>, Error> {
        let dropped = self.overdue(now_ms)?;
        if dropped.is_empty() {
            return Ok(dropped);
        }
        let ops = dropped
            .iter()
            .map(|drop| Op::SetLogStart {
                partition: drop.partition,
                offset: drop.to,
            })
            .collect();
        self.stage(
            Entry {
                ops,
                appends: Vec::new(),
            },
            now_ms,
        )?;
        self.write()?;
        Ok(dropped)
    }

    /// What [`Log::housekeeping`] would drop now, so that who is owed some of it can be told while
    /// it is still there. Staged entries are written first.
    pub fn overdue(&mut self, now_ms: u64) -> Result<Vec<Dropped>, Error> {
        self.write()?;
        self.settle()?;
        let expiry_ms = self.config.producer_expiry_ms;
        let mut dropped = Vec::new();
        for (id, owned) in &mut self.partitions {
            owned.state.producers().expire(now_ms, expiry_ms);
            let Some(stream) = self.streams.get(&owned.state.meta.stream) else {
                continue;
            };
            let shared = &self.shared;
            let new_start = log_start_due(owned, &stream.settings, now_ms);
            let Some(to) = new_start.map_err(|error| shared.failed(error))? else {
                continue;
            };
            let from = owned.store.log_start();
            let pins = owned.pins.iter().map(|(owner, offset)| (*owner, *offset));
            let pinned = pins.filter(|(_, offset)| *offset < to).collect();
            dropped.push(Dropped {
                partition: *id,
                from,
                to,
                pinned,
            });
        }
        Ok(dropped)
    }
}

/// The log start that retention asks for, if it is beyond the one there is.
fn log_start_due(
    owned: &mut OwnedPartition,
    settings: &StreamSettings,
    now_ms: u64,
) -> Result<Option<u64>, Error> {
    let pin = owned.pinned().unwrap_or(u64::MAX);
    let Store::Disk(partition) = &mut owned.store else {
        return Ok(None);
    };
    if settings.delete {
        roll_expired(partition, settings, now_ms)?;
    }
    let log_start = partition.log_start();
    let segments = partition.segments();
    let alive = segments
        .iter()
        .filter(|segment| segment.next_offset > log_start);
    let mut size_bytes: u64 = alive.map(|segment| segment.size_bytes).sum();
    let mut to = log_start;
    for segment in segments.iter().filter(|segment| !segment.active) {
        if segment.next_offset <= log_start {
            continue;
        }
        let hard = settings.size_max_bytes.is_some_and(|max| size_bytes > max);
        let left_bytes = size_bytes - segment.size_bytes;
        let size = settings
            .retention_bytes
            .is_some_and(|keep| left_bytes >= keep);
        let due = settings.delete && (size || is_expired(segment, settings, now_ms));
        if !hard && (!due || segment.next_offset > pin) {
            break;
        }
        size_bytes = left_bytes;
        to = segment.next_offset;
    }
    Ok((to > log_start).then_some(to))
}

fn is_expired(segment: &SegmentSummary, settings: &StreamSettings, now_ms: u64) -> bool {
    let newest_ms = u64::try_from(segment.newest_timestamp_ms).ok();
    let age_ms = newest_ms.map(|newest_ms| now_ms.saturating_sub(newest_ms));
    settings
        .retention_ms
        .zip(age_ms)
        .is_some_and(|(keep_ms, age_ms)| age_ms > keep_ms)
}

/// Closes the active segment when all in it is too old, so that it can go.
fn roll_expired(
    partition: &mut Partition,
    settings: &StreamSettings,
    now_ms: u64,
) -> Result<(), Error> {
    let segments = partition.segments();
    let active = segments
        .last()
        .filter(|active| active.active && active.size_bytes > 0);
    if active.is_some_and(|active| is_expired(active, settings, now_ms)) {
        partition.roll()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::log::tests::{append, checkpoint, open, values};
    use crate::stream::StreamSettings;

    /// A stream of segments that hold one record of 3,000 bytes each.
    fn filled(disk: &MemoryDisk, records: usize, change: fn(&mut StreamSettings)) -> Log {
        let mut log = open(disk);
        let mut settings = StreamSettings::new("s");
        settings.segment_bytes = 4096;
        change(&mut settings);
        log.create_stream(settings, 1000).unwrap();
        for _ in 0..records {
            log.stage(append(1, &[&"v".repeat(3000)]), 1000).unwrap();
        }
        log.write().unwrap();
        log
    }

    fn files(disk: &MemoryDisk) -> usize {
        use crate::disk::Disk;
        let names = disk.list("streams/s-0").unwrap();
        names
            .iter()
            .filter_map(|name| name.strip_suffix(".log"))
            .count()
    }

    #[test]
    fn age_drops_closed_segments_and_even_the_active_one() {
        let disk = MemoryDisk::new();
        let mut log = filled(&disk, 5, |settings| settings.retention_ms = Some(10_000));
        assert_eq!(log.housekeeping(11_000).unwrap(), []);
        let dropped = log.housekeeping(11_001).unwrap();
        assert_eq!(
            dropped,
            [Dropped {
                partition: 1,
                from: 0,
                to: 5,
                pinned: Vec::new()
            }]
        );
        let marks = log.reader().watermarks(1).unwrap();
        assert_eq!((marks.log_start, marks.appended), (5, 5));
        log.reader().read(1, 4, 1 << 20, u64::MAX).unwrap_err();
        assert_eq!(files(&disk), 6, "files stay until the log start is durable");
        checkpoint(&mut log, u64::MAX);
        assert_eq!(files(&disk), 1);
        log.stage(append(1, &["next"]), 12_000).unwrap();
        log.write().unwrap();
        drop(log);
        assert_eq!(values(&open(&disk), 1), [(5, "next".into())]);
    }

    #[test]
    fn size_drops_the_oldest_but_not_what_is_pinned() {
        let disk = MemoryDisk::new();
        let mut log = filled(&disk, 6, |settings| settings.retention_bytes = Some(7000));
        log.pin(1, 7, Some(2));
        let dropped = log.housekeeping(1000).unwrap();
        assert_eq!(
            dropped,
            [Dropped {
                partition: 1,
                from: 0,
                to: 2,
                pinned: Vec::new()
            }]
        );
        assert_eq!(log.housekeeping(1000).unwrap(), []);
        log.pin(1, 7, None);
        assert_eq!(log.housekeeping(1000).unwrap()[0].to, 3);
    }

    #[test]
    fn the_hard_bound_passes_pins_and_says_so() {
        let disk = MemoryDisk::new();
        let mut log = filled(&disk, 6, |settings| settings.size_max_bytes = Some(10_000));
        log.pin(1, 7, Some(2));
        log.pin(1, 8, Some(4));
        let dropped = log.housekeeping(1000).unwrap();
        assert_eq!(
            dropped,
            [Dropped {
                partition: 1,
                from: 0,
                to: 3,
                pinned: vec![(7, 2)]
            }]
        );
    }

    #[test]
    fn a_journalled_log_start_survives_a_kill() {
        let disk = MemoryDisk::new();
        let mut log = filled(&disk, 6, |settings| settings.retention_bytes = Some(7000));
        log.housekeeping(1000).unwrap();
        drop(log);
        let log = open(&disk);
        assert_eq!(log.reader().watermarks(1).unwrap().log_start, 3);
        assert_eq!(values(&log, 1).len(), 3);
    }
}
