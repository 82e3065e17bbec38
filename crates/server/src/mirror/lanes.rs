//! The partitions that a shard mirrors, how far each is, and what is to be sent next. It reads the
//! log and knows transactions of local producers; what becomes of the records it does not know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use commitlog::batch::batches;
use commitlog::limits::DECOMPRESSED_BYTES_MAX;
use commitlog::{BatchView, LogReader, PartitionId, ReadError, RecordView, StreamMeta};

use super::board::Board;
use super::limits::READ_BYTES;
use super::positions::{owner, slot};
use crate::node::Node;
use crate::settings::{MirrorSettings, MirrorStart};

/// One partition of a mirrored stream.
#[derive(Debug)]
pub struct Lane {
    /// The partition.
    pub id: PartitionId,
    /// Its stream, by place in the settings.
    pub stream: usize,
    /// Its number in the stream.
    pub index: u32,
    /// Up to where the cluster has all.
    pub position: u64,
    /// Up to where this round has read; at `position` between rounds.
    pub next: u64,
    /// Records of this round.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Batches they came in.
    pub batches: u64,
    /// Set where a record of the partition was refused: until all that is there has gone well.
    pub search: Option<Search>,
    /// Set while the log cannot be read there: when to try again.
    pub unreadable_until: Option<Instant>,
}

/// Looking for the record that the cluster refuses. The lane goes alone meanwhile, so that its
/// records fail no others: fewer and fewer at a time until the record is found, then more and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Behind the last record that may be the one.
    pub until: u64,
    /// Records of the next round.
    pub records: u64,
}

impl Search {
    /// After a round of `tried` records was refused, the last of them in front of `until`; `None`:
    /// it was the only one.
    pub fn narrowed(tried: u64, until: u64) -> Option<Self> {
        (tried > 1).then_some(Self {
            until,
            records: tried / 2,
        })
    }
}

impl Lane {
    /// Whether the log cannot be read there and it is not yet time to try again.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable_until
            .is_some_and(|until| Instant::now() < until)
    }

    /// Forgets what this round has read.
    pub fn rewind(&mut self) {
        self.next = self.position;
        self.forget();
    }

    /// The round has ended well.
    pub fn settle(&mut self) {
        self.position = self.next;
        self.forget();
        if let Some(search) = &mut self.search
            && self.position >= search.until
        {
            search.records = search.records.saturating_mul(2);
        }
    }

    fn forget(&mut self) {
        self.records = 0;
        self.bytes = 0;
        self.batches = 0;
    }

    /// The next record is to be left out: the cluster will never take it.
    pub fn skip(&mut self, offset: u64) {
        self.position = self.position.max(offset + 1);
        self.rewind();
        if let Some(search) = &mut self.search {
            search.until = self.position;
        }
    }
}

/// What a reading of a lane ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Nothing more is there now.
    End,
    /// There may be more.
    More,
}

/// The lanes of a shard.
pub struct Lanes {
    log: LogReader,
    board: Arc<Board>,
    settings: Arc<MirrorSettings>,
    shard: u32,
    shards: u32,
    slots: u32,
    /// All streams when the lanes were made.
    streams: Arc<Vec<StreamMeta>>,
    /// The lanes, by no order that matters.
    pub all: Vec<Lane>,
    /// Positions found in the cluster, of partitions that have no lane yet.
    found: BTreeMap<PartitionId, u64>,
}

impl Lanes {
    /// The lanes of one of `shards` shards. `found`: all positions that the cluster has.
    pub fn new(
        node: &Node,
        settings: Arc<MirrorSettings>,
        (shard, shards): (u32, u32),
        slots: u32,
        found: BTreeMap<PartitionId, u64>,
    ) -> Self {
        let log = node.log.clone();
        let streams = log.streams();
        let mut lanes = Self {
            log,
            board: Arc::clone(&node.mirror),
            settings,
            shard,
            shards,
            slots,
            streams,
            all: Vec::new(),
            found,
        };
        lanes.plan();
        lanes
    }

    /// Takes streams and partitions that are new, drops those that are gone; true when something
    /// changed.
    pub fn refresh(&mut self) -> bool {
        let streams = self.log.streams();
        if Arc::ptr_eq(&streams, &self.streams) {
            return false;
        }
        self.streams = streams;
        self.plan();
        true
    }

    fn plan(&mut self) {
        let mut before: BTreeMap<PartitionId, Lane> =
            self.all.drain(..).map(|lane| (lane.id, lane)).collect();
        for (stream, mirrored) in self.settings.streams.iter().enumerate() {
            let named = |meta: &&StreamMeta| meta.settings.name == mirrored.stream;
            let Some(meta) = self.streams.iter().find(named) else {
                continue;
            };
            for (index, &id) in (0..).zip(&meta.partitions) {
                if owner(slot(id, self.slots), self.shards) != self.shard {
                    continue;
                }
                let lane = before.remove(&id).unwrap_or_else(|| {
                    let start = self.found.get(&id).copied();
                    let position = start.unwrap_or_else(|| self.first(id));
                    Lane {
                        id,
                        stream,
                        index,
                        position,
                        next: position,
                        records: 0,
                        bytes: 0,
                        batches: 0,
                        search: None,
                        unreadable_until: None,
                    }
                });
                self.all.push(lane);
            }
        }
        // What is not mirrored any more may be again; what is deleted never comes back.
        for (id, lane) in before {
            self.found.insert(id, lane.position);
        }
        let log = &self.log;
        self.found.retain(|id, _| log.partition(*id).is_some());
    }

    /// Where a partition begins that was never mirrored. The end is that of the start of this
    /// process: what came since, and all of what was made since, is new.
    fn first(&self, id: PartitionId) -> u64 {
        let log_start = self.log.watermarks(id).map_or(0, |marks| marks.log_start);
        let end = match self.settings.start {
            MirrorStart::Beginning => None,
            MirrorStart::End => self.board.started_at(id),
        };
        end.map_or(log_start, |end| end.max(log_start))
    }

    /// The slots of this shard, each with the positions it holds at the end of this round; only
    /// those that moved unless `whole`.
    pub fn slots(&self, whole: bool) -> Vec<(u32, BTreeMap<PartitionId, u64>)> {
        let mut slots: BTreeMap<u32, (bool, BTreeMap<PartitionId, u64>)> = (0..self.slots)
            .filter(|slot| owner(*slot, self.shards) == self.shard)
            .map(|slot| (slot, (whole, BTreeMap::new())))
            .collect();
        for (id, next) in &self.found {
            if let Some((_, held)) = slots.get_mut(&slot(*id, self.slots)) {
                held.insert(*id, *next);
            }
        }
        for lane in &self.all {
            if let Some((moved, held)) = slots.get_mut(&slot(lane.id, self.slots)) {
                *moved |= lane.next > lane.position;
                held.insert(lane.id, lane.next);
            }
        }
        let moved = slots.into_iter().filter(|(_, (moved, _))| *moved);
        moved.map(|(slot, (_, held))| (slot, held)).collect()
    }

    /// How many records of a lane retention dropped before they were mirrored; the lane goes on
    /// behind them.
    pub fn lost(&mut self, at: usize) -> u64 {
        let lane = &mut self.all[at];
        let marks = self.log.watermarks(lane.id);
        let Some(marks) = marks.filter(|marks| marks.log_start > lane.next) else {
            return 0;
        };
        let lost = marks.log_start - lane.next;
        lane.next = marks.log_start;
        lost
    }

    /// Hands the next records of a lane to `send`, batch by batch, until it has read enough for one
    /// turn, or `send` says to stop (`false`: the record was not taken, and comes again).
    pub fn read(
        &mut self,
        at: usize,
        send: &mut dyn FnMut(&Lane, &RecordView<'_>) -> bool,
    ) -> Result<Read, ReadError> {
        let lane = &mut self.all[at];
        let Some(marks) = self.log.watermarks(lane.id) else {
            return Ok(Read::End);
        };
        if lane.next >= marks.flushed_stable {
            return Ok(Read::End);
        }
        let found = self
            .log
            .read(lane.id, lane.next, READ_BYTES, marks.flushed_stable)?;
        if found.is_empty() {
            return Ok(Read::End);
        }
        for bytes in &found {
            for batch in batches(bytes) {
                let batch = batch.map_err(|error| malformed(lane, error))?;
                if batch.next_offset() <= lane.next {
                    continue;
                }
                if !batch.is_control() && !aborted(&self.log, lane.id, &batch)? {
                    lane.batches += 1;
                    if !send_batch(lane, &batch, send)? {
                        return Ok(Read::More);
                    }
                }
                lane.next = batch.next_offset();
            }
        }
        Ok(Read::More)
    }

    /// The record at or behind the position of a lane, given to `take`.
    pub fn first_record<T>(
        &mut self,
        at: usize,
        take: impl FnOnce(&RecordView<'_>) -> T,
    ) -> Result<Option<T>, ReadError> {
        let mut take = Some(take);
        let mut taken = None;
        self.all[at].rewind();
        loop {
            let read = self.read(at, &mut |_, record| {
                if let Some(take) = take.take() {
                    taken = Some(take(record));
                }
                false
            })?;
            if taken.is_some() || read == Read::End {
                self.all[at].rewind();
                return Ok(taken);
            }
        }
    }
}

/// False: a record was not taken.
fn send_batch(
    lane: &mut Lane,
    batch: &BatchView<'_>,
    send: &mut dyn FnMut(&Lane, &RecordView<'_>) -> bool,
) -> Result<bool, ReadError> {
    let plain = batch.plain(DECOMPRESSED_BYTES_MAX);
    let plain = plain.map_err(|error| malformed(lane, error))?;
    for record in &plain {
        let record = record.map_err(|error| malformed(lane, error))?;
        if record.offset < lane.next {
            continue;
        }
        if !send(lane, &record) {
            return Ok(false);
        }
        lane.next = record.offset + 1;
        lane.records += 1;
        let field = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len) as u64;
        lane.bytes += field(record.key) + field(record.value);
    }
    Ok(true)
}

/// Whether the batch belongs to a transaction that was aborted.
fn aborted(log: &LogReader, id: PartitionId, batch: &BatchView<'_>) -> Result<bool, ReadError> {
    if !batch.is_transactional() {
        return Ok(false);
    }
    let ranges = log.aborted(id, batch.base_offset(), batch.next_offset())?;
    Ok(ranges.iter().any(|range| {
        range.producer_id == batch.producer_id()
            && (range.first_offset..=range.last_offset).contains(&batch.base_offset())
    }))
}

/// A stream whose topic fails rests for longer and longer.
#[derive(Debug, Clone)]
pub struct Rest {
    /// When it is tried again.
    pub until: Instant,
    /// How long it rests the next time.
    pub next: std::time::Duration,
    /// Whether the rest is over and the trial runs.
    pub on_trial: bool,
}

fn malformed(lane: &Lane, error: commitlog::BatchError) -> ReadError {
    ReadError::Corrupt {
        path: format!("partition {} of the stream", lane.index),
        position: lane.next,
        what: error.what().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(search: Option<Search>) -> Lane {
        Lane {
            id: 1,
            stream: 0,
            index: 0,
            position: 0,
            next: 0,
            records: 0,
            bytes: 0,
            batches: 0,
            search,
            unreadable_until: None,
        }
    }

    /// How many rounds it takes until `count` records are sent of which `bad` are refused, and how
    /// many of them were.
    fn rounds(count: u64, bad: &[u64]) -> (u64, Vec<u64>) {
        let mut lane = lane(Search::narrowed(count, count));
        let (mut rounds, mut buried) = (0, Vec::new());
        while lane.position < count {
            rounds += 1;
            let records = lane.search.map_or(count, |search| search.records);
            let end = (lane.position + records).min(count);
            let refused = bad.iter().any(|bad| (lane.position..end).contains(bad));
            if !refused {
                lane.next = end;
                lane.settle();
                continue;
            }
            match Search::narrowed(end - lane.position, end) {
                None => {
                    buried.push(lane.position);
                    lane.skip(lane.position);
                }
                narrowed => lane.search = narrowed,
            }
        }
        (rounds, buried)
    }

    #[test]
    fn a_refused_record_is_found_and_what_follows_goes_by_more_and_more() {
        for bad in [0, 1, 4_999, 5_000, 9_999] {
            let (rounds, buried) = rounds(10_000, &[bad]);
            assert_eq!(buried, [bad]);
            assert!(rounds < 80, "{rounds} rounds for {bad}");
        }
    }

    #[test]
    fn records_that_are_all_refused_cost_a_round_each() {
        let bad: Vec<u64> = (0..100).collect();
        let (rounds, buried) = rounds(100, &bad);
        assert_eq!(buried, bad);
        assert!(rounds < 120, "{rounds} rounds");
    }
}
