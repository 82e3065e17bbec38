//! The model's idempotent and transactional producers: what they send, what the log must answer, and
//! what it must know of them after any crash, all worked out naively from the batches that it holds.

use std::collections::BTreeMap;

use super::{Content, Random, State};
use crate::aborted::AbortedRange;
use crate::batch::{Compression, HEADER_BYTES, compress, control_batch, crc32c};
use crate::entry::{Append, Entry, Refusal};
use crate::log::Log;
use crate::producers::ProducerState;
use crate::producers::tests::{batch_of, sequenced};
use crate::stream::PartitionId;

/// A batch of a producer, as the log took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub producer_id: i64,
    pub epoch: i16,
    pub sequence: i32,
    pub count: u32,
    pub base_offset: u64,
    pub transactional: bool,
    /// A marker, and whether it commits.
    pub marker: Option<bool>,
}

#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// First and last sequence, and base offset.
    sent: Vec<(i32, i32, u64)>,
    open: Option<u64>,
}

/// What follows from the batches of a partition.
#[derive(Default)]
struct Derived {
    producers: BTreeMap<i64, Producer>,
    aborted: Vec<AbortedRange>,
}

fn derive(content: &Content) -> Derived {
    let mut derived = Derived::default();
    for seen in &content.batches {
        let producer = derived.producers.entry(seen.producer_id).or_default();
        if seen.epoch > producer.epoch {
            producer.epoch = seen.epoch;
            producer.sent.clear();
        }
        if let Some(commit) = seen.marker {
            if let Some(first_offset) = producer.open.take()
                && !commit
            {
                derived.aborted.push(AbortedRange {
                    producer_id: seen.producer_id,
                    first_offset,
                    last_offset: seen.base_offset,
                });
            }
            continue;
        }
        let last = after(seen.sequence, i64::from(seen.count) - 1);
        producer.sent.push((seen.sequence, last, seen.base_offset));
        if producer.sent.len() > 5 {
            producer.sent.remove(0);
        }
        if seen.transactional {
            producer.open.get_or_insert(seen.base_offset);
        }
    }
    derived
}

fn after(sequence: i32, steps: i64) -> i32 {
    ((i64::from(sequence) + steps) % (1 << 31)) as i32
}

/// Whether the record at `offset` is of an aborted transaction, in the model.
pub(super) fn is_aborted(content: &Content, offset: u64) -> bool {
    let of = content.batches.iter().find(|seen| {
        (seen.base_offset..seen.base_offset + u64::from(seen.count)).contains(&offset)
    });
    of.is_some_and(|seen| {
        seen.transactional
            && seen.marker.is_none()
            && derive(content).aborted.iter().any(|range| {
                range.producer_id == seen.producer_id
                    && (range.first_offset..range.last_offset).contains(&offset)
            })
    })
}

/// Makes a finished batch of `count` records one of a producer, or something else that a producer
/// may send; and what the log must answer where it does not take it.
pub(super) fn send(
    random: &mut Random,
    content: &Content,
    batch: &mut Vec<u8>,
    count: u32,
    transactions: bool,
) -> (Option<Seen>, Option<Refusal>) {
    let derived = derive(content);
    let producer_id = 1 + random.below(3) as i64;
    let known = derived.producers.get(&producer_id);
    let mut epoch = known.map_or(0, |producer| producer.epoch);
    let last = known.and_then(|producer| producer.sent.last());
    let mut sequence = match (last, known) {
        (Some((_, last, _)), _) => after(*last, 1),
        (None, Some(_)) => 0,
        // A producer that nobody knows begins anywhere.
        (None, None) => i32::MAX - random.below(12) as i32,
    };
    let open = known.is_some_and(|producer| producer.open.is_some());
    let transactional = open || (transactions && random.one_in(2));
    let base_offset = content.records.len() as u64;
    let mut refusal = None;
    match random.below(12) {
        0..=2 if open || (transactions && random.one_in(8)) => {
            let commit = random.one_in(2);
            epoch += i16::from(!commit && random.one_in(3));
            *batch = control_batch(producer_id, epoch, commit, 0, 1);
            let seen = Seen {
                producer_id,
                epoch,
                sequence: -1,
                count: 1,
                base_offset,
                transactional: true,
                marker: Some(commit),
            };
            return (Some(seen), None);
        }
        3 if !open => {
            epoch += i16::from(known.is_some());
            sequence = if known.is_some() { 0 } else { sequence };
        }
        4 if last.is_some() => {
            sequence = after(sequence, 1);
            refusal = Some(Refusal::OutOfOrderSequence);
        }
        5 if epoch > 0 => {
            epoch -= 1;
            refusal = Some(Refusal::InvalidProducerEpoch);
        }
        _ => {}
    }
    sequenced(batch, producer_id, epoch, sequence, transactional);
    let seen = Seen {
        producer_id,
        epoch,
        sequence,
        count,
        base_offset,
        transactional,
        marker: None,
    };
    (refusal.is_none().then_some(seen), refusal)
}

/// Compresses the records of a batch, or not.
pub(super) fn pack(random: &mut Random, batch: &mut Vec<u8>) {
    let compression = match random.below(6) {
        0 => Compression::Lz4,
        1 => Compression::Zstd,
        2 => Compression::Snappy,
        _ => return,
    };
    let packed = compress(compression, &batch[HEADER_BYTES..]);
    batch.truncate(HEADER_BYTES);
    batch.extend(packed);
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] |= compression as u8;
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Everything that the log knows of producers is what follows from its content.
pub(super) fn check(log: &mut Log, state: &State) {
    for (id, content) in &state.partitions {
        if !state.is_memory(*id) {
            check_partition(log, *id, content);
        }
    }
    log.write().unwrap();
}

fn check_partition(log: &mut Log, id: PartitionId, content: &Content) {
    let reader = log.reader();
    let derived = derive(content);
    let marks = reader.watermarks(id).unwrap();
    let open = derived.producers.values().filter_map(|known| known.open);
    let stable = open.min().unwrap_or(marks.appended).min(marks.appended);
    assert_eq!(
        marks.stable,
        stable.max(marks.log_start),
        "stable end of {id}"
    );

    let found = reader.producers(id).unwrap();
    let expected: Vec<_> = derived.producers.iter().zip(&found).collect();
    assert_eq!(found.len(), derived.producers.len());
    for ((producer_id, known), found) in expected {
        let expected = ProducerState {
            producer_id: *producer_id,
            epoch: known.epoch,
            last_sequence: known.sent.last().map_or(-1, |(_, last, _)| *last),
            txn_first_offset: known.open,
            ..*found
        };
        assert_eq!(*found, expected, "producer {producer_id} of {id}");
        for (first, last, base_offset) in &known.sent {
            let count = after(*last, (1 << 31) - i64::from(*first)) as u32 + 1;
            let again = batch_of(
                *producer_id,
                known.epoch,
                *first,
                count,
                known.open.is_some(),
            );
            let duplicate = Refusal::DuplicateSequence {
                base_offset: *base_offset,
            };
            assert_eq!(refused(log, id, again), duplicate);
        }
    }

    // All but those whose markers went with the log start.
    let mut aborted = derived.aborted;
    aborted.retain(|range| range.last_offset >= marks.log_start);
    aborted.sort_unstable_by_key(|range| range.first_offset);
    let mut found = reader.aborted(id, marks.log_start, u64::MAX).unwrap();
    found.retain(|range| range.last_offset >= marks.log_start);
    assert_eq!(found, aborted, "aborted transactions of {id}");
    for from in (marks.log_start..marks.appended).step_by(7) {
        let to = (from + 9).min(marks.stable);
        let mut expected = aborted.clone();
        expected.retain(|range| range.last_offset >= from && range.first_offset < to);
        if from < to {
            assert_eq!(reader.aborted(id, from, to).unwrap(), expected);
        }
    }
}

fn refused(log: &mut Log, partition: PartitionId, batch: Vec<u8>) -> Refusal {
    let appends = vec![Append::new(partition, batch)];
    let entry = Entry {
        appends,
        ops: Vec::new(),
    };
    log.stage(entry, 2_000_000).unwrap().base_offsets[0].unwrap_err()
}

/// A compacted stream that transactions go through: each record is where it was, and for each key
/// the latest that counts is there.
pub(super) fn check_compacted(log: &Log, id: PartitionId, content: &Content) {
    let reader = log.reader();
    let marks = reader.watermarks(id).unwrap();
    let mut found = BTreeMap::new();
    let mut at = marks.log_start;
    while at < marks.appended {
        let before = at;
        for bytes in reader.read(id, at, 10_000, u64::MAX).unwrap() {
            for batch in crate::batch::batches(&bytes).map(Result::unwrap) {
                for record in &batch.plain(1 << 20).unwrap() {
                    let record = record.unwrap();
                    let (key, value) = &content.records[record.offset as usize];
                    if let Some(marker) = batch.marker() {
                        assert_eq!(*value, super::marker_text(marker.commit));
                    } else {
                        assert_eq!(record.key, Some(key.as_bytes()));
                        assert_eq!(record.value, Some(value.as_bytes()));
                    }
                    found.insert(record.offset, key.clone());
                }
                at = batch.next_offset();
            }
        }
        if at == before {
            break;
        }
    }
    let mut latest = BTreeMap::new();
    for (offset, (key, _)) in (0..).zip(&content.records) {
        if offset < marks.log_start {
            continue;
        }
        if key.is_empty() {
            assert!(found.contains_key(&offset), "marker {offset} of {id}");
        } else if !is_aborted(content, offset) {
            latest.insert(key, offset);
        }
    }
    for (key, offset) in latest {
        assert!(found.contains_key(&offset), "{key} at {offset} of {id}");
    }
}
