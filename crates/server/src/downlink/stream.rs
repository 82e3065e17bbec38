//! Follows a stream of this node: what is committed in it, partition by partition, from where the
//! table of positions says.

use std::time::Instant;

use broker::SourceRecord;
use bytes::Bytes;
use commitlog::{Ack, BatchView, LogReader, PartitionId, ReadError};

use super::{Link, Place, limits, position};
use crate::settings::MirrorStart;

/// A partition that is followed.
struct Lane {
    id: PartitionId,
    place: Place,
}

/// Follows until the node stops.
pub(super) async fn follow(link: Link) {
    let mut commits = link.node.commit_watch();
    let mut stop = link.stop.clone();
    let mut lanes: Vec<Lane> = Vec::new();
    let mut looked: Option<Instant> = None;
    // Who has no position at all begins where it was told to; what is added later, at its beginning.
    let mut first_time = !link.positions.knows(link.settings());
    link.board.connected();
    while !link.is_stopping() {
        if looked.is_none_or(|at| at.elapsed() >= limits::PARTITIONS_CHECK) {
            if !open_lanes(&link, &mut lanes, first_time).await {
                return;
            }
            first_time &= lanes.is_empty();
            looked = Some(Instant::now());
        }
        let mut idle = true;
        for lane in &mut lanes {
            match advance(&link, lane).await {
                Some(moved) => idle &= !moved,
                None => return,
            }
        }
        if !idle {
            continue;
        }
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { return },
            _ = stop.changed() => {}
            () = tokio::time::sleep(limits::PARTITIONS_CHECK) => {}
        }
    }
}

/// Begins to follow partitions that are new. False: the log takes nothing any more.
async fn open_lanes(link: &Link, lanes: &mut Vec<Lane>, first_time: bool) -> bool {
    let name = link.settings().source.name();
    let Some(stream) = link.node.log.stream(name) else {
        link.board.failed("its stream was deleted");
        lanes.clear();
        return true;
    };
    lanes.retain(|lane| stream.partitions.contains(&lane.id));
    for index in position::opening(stream.partitions.len() as u32) {
        let id = stream.partitions[index as usize];
        if lanes.iter().any(|lane| lane.id == id) {
            continue;
        }
        let Some(marks) = link.node.log.watermarks(id) else {
            continue;
        };
        let key = position::key(link.settings(), index, Some(id));
        let known = link.positions.get(&key);
        let next = known.unwrap_or(match link.settings().start {
            MirrorStart::End if first_time => marks.stable,
            _ => marks.log_start,
        });
        let mut place = Place {
            partition: index,
            key,
            next,
        };
        // Kept at once, so that what comes before the first record is not skipped by a restart.
        if known.is_none() && !link.carry(&mut place, Vec::new(), next).await {
            return false;
        }
        lanes.push(Lane { id, place });
    }
    true
}

/// Publishes what a partition has; whether there was anything. `None`: the log takes nothing any
/// more.
async fn advance(link: &Link, lane: &mut Lane) -> Option<bool> {
    let log = &link.node.log;
    let Some(marks) = log.watermarks(lane.id) else {
        return Some(false);
    };
    let flush = log
        .stream(link.settings().source.name())
        .is_some_and(|stream| stream.settings.ack >= Ack::Flush);
    let end = if flush {
        marks.flushed_stable
    } else {
        marks.stable
    };
    let place = &mut lane.place;
    if place.next < marks.log_start {
        let lost = marks.log_start - place.next;
        tracing::warn!(downlink = %link.settings().name, lost, "retention was faster than the downlink");
        let count = &link.board.lost;
        count.fetch_add(lost, std::sync::atomic::Ordering::Relaxed);
        place.next = marks.log_start;
    }
    link.board.at(place.partition, place.next, end);
    if place.next >= end {
        return Some(false);
    }
    let (reader, id, from) = (log.clone(), lane.id, place.next);
    let read = tokio::task::spawn_blocking(move || committed(&reader, id, from, end)).await;
    let (records, behind) = match read.ok()? {
        Ok(read) => read,
        Err(error) => {
            link.board.failed(&error.to_string());
            tokio::time::sleep(limits::RETRY).await;
            return Some(false);
        }
    };
    if behind == from {
        return Some(false);
    }
    for (records, next) in link.parcels(records, behind) {
        if !link.carry(place, records, next).await {
            return None;
        }
        link.board.at(place.partition, place.next, end);
    }
    // Only markers and what was aborted: read again after a restart, that does no harm.
    place.next = behind;
    link.board.connected();
    Some(true)
}

/// The committed records from an offset on, and the offset behind what was looked at.
fn committed(
    log: &LogReader,
    id: PartitionId,
    from: u64,
    up_to: u64,
) -> Result<(Vec<SourceRecord>, u64), ReadError> {
    let mut records = Vec::new();
    let mut behind = from;
    let corrupt = |at: u64, what: &'static str| ReadError::Corrupt {
        path: format!("partition {id}"),
        position: at,
        what: what.into(),
    };
    let read: Vec<Bytes> = log.read(id, from, limits::READ_BYTES, up_to)?;
    for batch in read
        .iter()
        .flat_map(|bytes| commitlog::batch::batches(bytes))
    {
        let batch = batch.map_err(|error| corrupt(behind, error.what()))?;
        let head = batch.head();
        if !head.is_control() && !is_aborted(log, id, &batch)? {
            let plain = batch.plain(limits::PLAIN_BYTES_MAX);
            let plain = plain.map_err(|error| corrupt(head.base_offset(), error.what()))?;
            for record in &plain {
                let record = record.map_err(|error| corrupt(head.base_offset(), error.what()))?;
                if record.offset >= from {
                    records.push(SourceRecord::of(&record));
                }
            }
        }
        behind = behind.max(head.next_offset());
    }
    Ok((records, behind))
}

fn is_aborted(log: &LogReader, id: PartitionId, batch: &BatchView<'_>) -> Result<bool, ReadError> {
    let head = batch.head();
    if !head.is_transactional() {
        return Ok(false);
    }
    let ranges = log.aborted(id, head.base_offset(), head.next_offset())?;
    Ok(ranges.iter().any(|range| {
        range.producer_id == head.producer_id()
            && (range.first_offset..=range.last_offset).contains(&head.base_offset())
    }))
}
