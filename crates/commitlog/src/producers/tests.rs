//! Producers against what Kafka's `ProducerStateManager` does with the same batches.

use super::*;
use crate::batch::{BatchBuilder, control_batch, crc32c};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A batch of `count` records of a producer.
pub(crate) fn batch_of(
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    count: u32,
    transactional: bool,
) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for number in 0..count {
        let value = format!("{producer_id}/{epoch}/{sequence}+{number}");
        builder.push(1000, Some(b"key"), Some(value.as_bytes()), &[]);
    }
    let mut batch = builder.finish();
    sequenced(&mut batch, producer_id, epoch, sequence, transactional);
    batch
}

/// Makes a finished batch one of a producer.
pub(crate) fn sequenced(
    batch: &mut [u8],
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    transactional: bool,
) {
    batch[22] |= u8::from(transactional) << 4;
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A partition that only counts.
#[derive(Default)]
struct Partition {
    producers: Producers,
    next_offset: u64,
    aborted: Vec<AbortedEntry>,
}

impl Partition {
    fn append_at(&mut self, bytes: &[u8], now_ms: u64) -> Result<u64, Refusal> {
        let (batch, _) = BatchView::parse(bytes).unwrap();
        let marker = self.producers.judge(&batch, now_ms, DAY_MS, true)?;
        let base_offset = self.next_offset;
        self.next_offset += u64::from(batch.count());
        let head = batch.head();
        let aborted = self
            .producers
            .appended(&head, marker, base_offset, now_ms, DAY_MS);
        self.aborted.extend(aborted);
        let mut bytes = Vec::new();
        self.producers.encode(&mut bytes);
        let decoded = Producers::decode(&mut Fields::new(&bytes));
        assert_eq!(decoded.as_ref(), Ok(&self.producers));
        Ok(base_offset)
    }

    fn send(&mut self, id: i64, epoch: i16, sequence: i32, count: u32) -> Result<u64, Refusal> {
        self.append_at(&batch_of(id, epoch, sequence, count, false), 1000)
    }

    fn send_in_txn(&mut self, id: i64, epoch: i16, sequence: i32) -> Result<u64, Refusal> {
        self.append_at(&batch_of(id, epoch, sequence, 2, true), 1000)
    }

    fn end(&mut self, id: i64, epoch: i16, commit: bool, coordinator: i32) -> Result<u64, Refusal> {
        self.append_at(&control_batch(id, epoch, commit, coordinator, 1000), 1000)
    }
}

#[test]
fn batches_follow_each_other_and_the_last_five_are_known_again() {
    let mut partition = Partition::default();
    for step in 0..7 {
        assert_eq!(partition.send(9, 0, step * 3, 3), Ok(step as u64 * 3));
    }
    for step in 2..7 {
        let base_offset = step as u64 * 3;
        let again = partition.send(9, 0, step * 3, 3);
        assert_eq!(again, Err(Refusal::DuplicateSequence { base_offset }));
    }
    let out_of_order = Err(Refusal::OutOfOrderSequence);
    assert_eq!(partition.send(9, 0, 3, 3), out_of_order, "too long ago");
    assert_eq!(partition.send(9, 0, 18, 2), out_of_order, "part of one");
    assert_eq!(partition.send(9, 0, 22, 1), out_of_order, "a gap");
    assert_eq!(partition.send(9, 0, 21, 1), Ok(21));
    assert_eq!(partition.producers.states()[0].last_sequence, 21);
}

#[test]
fn sequences_wrap_around() {
    let mut partition = Partition::default();
    partition.send(1, 0, i32::MAX - 2, 2).unwrap();
    // MAX itself, then 0 and 1.
    assert_eq!(partition.send(1, 0, i32::MAX, 3), Ok(2));
    let again = partition.send(1, 0, i32::MAX, 3);
    assert_eq!(again, Err(Refusal::DuplicateSequence { base_offset: 2 }));
    assert_eq!(partition.send(1, 0, 2, 1), Ok(5));
    let mut partition = Partition::default();
    partition.send(1, 0, i32::MAX, 1).unwrap();
    assert_eq!(partition.send(1, 0, 1, 1), Err(Refusal::OutOfOrderSequence));
    assert_eq!(partition.send(1, 0, 0, 1), Ok(1));
}

#[test]
fn an_unknown_producer_may_begin_anywhere_but_a_new_epoch_with_zero() {
    let mut partition = Partition::default();
    assert_eq!(partition.send(1, 4, 500, 1), Ok(0));
    assert_eq!(
        partition.send(1, 3, 501, 1),
        Err(Refusal::InvalidProducerEpoch)
    );
    assert_eq!(
        partition.send(1, 5, 501, 1),
        Err(Refusal::OutOfOrderSequence)
    );
    assert_eq!(partition.send(1, 5, 0, 1), Ok(1));
    assert_eq!(
        partition.send(1, 4, 501, 1),
        Err(Refusal::InvalidProducerEpoch)
    );
    assert_eq!(
        partition.send(1, 5, 0, 1),
        Err(Refusal::DuplicateSequence { base_offset: 1 })
    );
}

#[test]
fn a_transaction_is_open_until_its_marker() {
    let mut partition = Partition::default();
    partition.send(5, 0, 0, 10).unwrap();
    partition.send_in_txn(1, 0, 0).unwrap();
    partition.send_in_txn(2, 0, 0).unwrap();
    partition.send_in_txn(1, 0, 2).unwrap();
    assert_eq!(partition.producers.first_unstable(), Some(10));
    assert_eq!(partition.send(1, 0, 4, 1), Err(Refusal::InvalidTxnState));
    // Marker 16: the other is open still.
    assert_eq!(partition.end(1, 0, false, 7), Ok(16));
    assert_eq!(partition.producers.first_unstable(), Some(12));
    assert_eq!(partition.end(2, 0, true, 7), Ok(17));
    assert_eq!(partition.producers.first_unstable(), None);
    let entry = AbortedEntry {
        range: AbortedRange {
            producer_id: 1,
            first_offset: 10,
            last_offset: 16,
        },
        last_stable: 12,
    };
    assert_eq!(partition.aborted, [entry]);
    // The sequence goes on behind a marker of the same epoch.
    assert_eq!(partition.send_in_txn(1, 0, 4), Ok(18));
    assert_eq!(
        partition.end(1, 0, false, 6),
        Err(Refusal::CoordinatorFenced)
    );
    partition.end(1, 0, false, 7).unwrap();
    assert_eq!(partition.aborted[1].last_stable, 21);
}

#[test]
fn a_marker_of_a_higher_epoch_fences() {
    let mut partition = Partition::default();
    partition.send_in_txn(1, 0, 0).unwrap();
    partition.end(1, 1, false, 0).unwrap();
    assert_eq!(
        partition.send_in_txn(1, 0, 2),
        Err(Refusal::InvalidProducerEpoch)
    );
    assert_eq!(
        partition.end(1, 0, true, 0),
        Err(Refusal::InvalidProducerEpoch)
    );
    assert_eq!(
        partition.send_in_txn(1, 1, 2),
        Err(Refusal::OutOfOrderSequence)
    );
    partition.send_in_txn(1, 1, 0).unwrap();
    // A marker where nothing was open leaves no range, but is remembered.
    partition.end(8, 3, false, 0).unwrap();
    assert_eq!(
        partition.send(8, 2, 0, 1),
        Err(Refusal::InvalidProducerEpoch)
    );
    assert_eq!(partition.aborted.len(), 1);
}

#[test]
fn who_is_silent_for_long_is_forgotten_but_not_an_open_transaction() {
    let mut partition = Partition::default();
    partition.send(1, 0, 0, 1).unwrap();
    partition.send_in_txn(2, 0, 0).unwrap();
    let late = 1000 + DAY_MS;
    let before = partition.append_at(&batch_of(1, 0, 7, 1, false), late - 1);
    assert_eq!(before, Err(Refusal::OutOfOrderSequence));
    let other = partition.append_at(&batch_of(2, 0, 7, 1, true), late);
    assert_eq!(other, Err(Refusal::OutOfOrderSequence));
    partition
        .append_at(&batch_of(1, 0, 7, 1, false), late)
        .unwrap();
    let (batch, none) = (batch_of(1, 0, 0, 1, false), BTreeMap::new());
    let again = partition.append_at(&batch, late);
    assert_eq!(
        again,
        Err(Refusal::OutOfOrderSequence),
        "the old one is forgotten"
    );
    partition.producers.expire(late + DAY_MS, DAY_MS);
    assert_eq!(partition.producers.states().len(), 1);
    partition.end(2, 0, true, 0).unwrap();
    partition.producers.expire(late + 2 * DAY_MS, DAY_MS);
    assert_eq!(partition.producers.states(), []);
    assert_eq!(partition.producers.open, none);
}

#[test]
fn a_flood_of_producers_drives_out_the_silent_ones_only() {
    let mut producers = Producers::default();
    let mut offset = 0;
    let mut append = |producers: &mut Producers, id: i64, transactional: bool, now_ms: u64| {
        let bytes = batch_of(id, 0, 0, 1, transactional);
        let (batch, _) = BatchView::parse(&bytes).unwrap();
        let marker = producers.judge(&batch, now_ms, DAY_MS, true)?;
        producers.appended(&batch.head(), marker, offset, now_ms, DAY_MS);
        offset += 1;
        Ok(())
    };
    let max = PRODUCERS_A_PARTITION_MAX as i64;
    append(&mut producers, 0, true, 0).unwrap();
    for id in 1..max * 2 {
        append(&mut producers, id, false, id as u64).unwrap();
        assert!(producers.known.len() <= PRODUCERS_A_PARTITION_MAX);
    }
    assert!(producers.known.contains_key(&0), "its transaction is open");
    assert!(!producers.known.contains_key(&1));
    assert!(producers.known.contains_key(&(max * 2 - 1)));
    for id in 1..max {
        append(&mut producers, max * 4 + id, true, 0).unwrap();
    }
    let full = append(&mut producers, max * 8, false, 0);
    assert_eq!(full, Err(Refusal::TooManyProducers));
}

#[test]
fn nonsense_of_a_producer_is_malformed() {
    let mut partition = Partition::default();
    let malformed = Err(Refusal::MalformedBatch);
    assert_eq!(partition.send(1, -1, 0, 1), malformed);
    assert_eq!(partition.send(1, 0, -1, 1), malformed);
    assert_eq!(partition.send(-2, 0, 0, 1), malformed);
    let mut unknown = control_batch(1, 0, true, 0, 0);
    unknown[61 + 8] = 7;
    assert_eq!(partition.append_at(&unknown, 0), malformed);
}
