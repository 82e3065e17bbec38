//! The log as its owner uses it: staging, writing, flushing, reading, checkpoints.

mod gathered;
mod producers;

use std::sync::Arc;

use crate::batch::{BatchBuilder, BatchView};
use crate::disk::{Disk, MemoryDisk};
use crate::entry::{Append, Entry, Op, Refusal};
use crate::error::Error;
use crate::log::{Log, LogConfig};
use crate::stream::{Ack, PartitionId, Storage, StreamSettings};

pub(crate) fn small() -> LogConfig {
    LogConfig {
        journal_part_bytes: 64 << 10,
        journal_bytes_max: 256 << 10,
        ..LogConfig::default()
    }
}

pub(crate) fn open(disk: &MemoryDisk) -> Log {
    Log::open(Arc::new(disk.clone()), small(), 1000).unwrap()
}

pub(crate) fn batch(values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(1000, Some(b"key"), Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

pub(crate) fn append(partition: PartitionId, values: &[&str]) -> Entry {
    let appends = vec![Append::new(partition, batch(values))];
    Entry {
        appends,
        ops: Vec::new(),
    }
}

pub(crate) fn values(log: &Log, partition: PartitionId) -> Vec<(u64, String)> {
    let reader = log.reader();
    let marks = reader.watermarks(partition).unwrap();
    let mut found = Vec::new();
    let mut offset = marks.log_start;
    while offset < marks.appended {
        let batches = reader.read(partition, offset, 1 << 20, u64::MAX).unwrap();
        assert!(!batches.is_empty(), "nothing at {offset} of {marks:?}");
        for bytes in batches {
            for view in crate::batch::batches(&bytes) {
                let view: BatchView<'_> = view.unwrap();
                for record in view.records() {
                    let record = record.unwrap();
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    found.push((record.offset, value));
                }
                offset = view.next_offset();
            }
        }
    }
    found.retain(|(offset, _)| *offset >= marks.log_start);
    found
}

pub(crate) fn flush(log: &mut Log) {
    let ticket = log.flush_ticket().expect("something to flush");
    let flushed = ticket.run().unwrap();
    log.flushed(flushed);
}

pub(crate) fn checkpoint(log: &mut Log, shards_at: u64) {
    let mut checkpoint = log.checkpoint(shards_at).expect("something to checkpoint");
    while !checkpoint.step().unwrap() {}
    log.checkpointed(checkpoint).unwrap();
}

#[test]
fn an_entry_is_appended_flushed_and_read() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    let mut settings = StreamSettings::new("s");
    settings.partitions = 2;
    settings.ack = Ack::Flush;
    let partitions = log.create_stream(settings.clone(), 1000).unwrap();
    assert_eq!(partitions, [1, 2]);
    let reader = log.reader();
    assert_eq!(reader.stream("s").unwrap().partitions, partitions);
    assert_eq!(reader.streams().len(), 1);

    let mut entry = append(1, &["a", "b"]);
    entry.appends.extend(append(2, &["c"]).appends);
    entry.appends.extend(append(9, &["d"]).appends);
    let staged = log.stage(entry, 1001).unwrap();
    assert_eq!(staged.lsn, 2);
    assert_eq!(staged.ack, Ack::Flush);
    assert_eq!(
        staged.base_offsets,
        [Ok(0), Ok(0), Err(Refusal::UnknownPartition)]
    );
    assert_eq!(reader.appended_to(), 1);
    let staged = log.stage(append(1, &["e"]), 1001).unwrap();
    assert_eq!(staged.base_offsets, [Ok(2)]);
    assert_eq!(log.write().unwrap(), 3);
    assert_eq!(reader.appended_to(), 3);
    assert_eq!(reader.flushed_to(), 0);
    let marks = reader.watermarks(1).unwrap();
    assert_eq!((marks.log_start, marks.appended, marks.flushed), (0, 3, 0));
    assert!(
        reader
            .read(1, 0, 1 << 20, marks.flushed)
            .unwrap()
            .is_empty()
    );
    assert_eq!(reader.read_tail(1, 1, 1 << 20).unwrap().len(), 2);

    flush(&mut log);
    assert!(log.flush_ticket().is_none());
    assert_eq!(reader.flushed_to(), 3);
    assert_eq!(reader.watermarks(1).unwrap().flushed, 3);
    let expected = [(0, "a".into()), (1, "b".into()), (2, "e".into())];
    assert_eq!(values(&log, 1), expected);
    assert_eq!(values(&log, 2), [(0, "c".into())]);

    log.close(u64::MAX).unwrap();
    let log = open(&disk);
    assert!(log.recovery().clean);
    assert_eq!(log.recovery().entries, 0);
    assert_eq!(values(&log, 1), expected);
    assert_eq!(log.reader().stream("s").unwrap().settings, settings);
}

#[test]
fn what_was_written_survives_the_process_and_what_was_flushed_a_power_cut() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    log.stage(append(1, &["flushed"]), 1001).unwrap();
    log.write().unwrap();
    flush(&mut log);
    log.stage(append(1, &["appended"]), 1002).unwrap();
    log.write().unwrap();
    drop(log);

    disk.crash(false);
    let log = open(&disk);
    assert!(!log.recovery().clean);
    assert_eq!(log.recovery().last_time_ms, 1002);
    assert_eq!(log.reader().leader_epoch(), 1);
    let expected = [(0, "flushed".into()), (1, "appended".into())];
    assert_eq!(values(&log, 1), expected);
    drop(log);

    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    log.stage(append(1, &["flushed"]), 1001).unwrap();
    log.write().unwrap();
    flush(&mut log);
    log.stage(append(1, &["appended"]), 1002).unwrap();
    log.write().unwrap();
    drop(log);
    disk.crash(true);
    let log = open(&disk);
    assert_eq!(values(&log, 1), [(0, "flushed".into())]);
}

#[test]
fn an_entry_whose_flush_is_awaited_says_so_and_journals_nothing_more() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 0).unwrap();
    let usual = log.stage(append(1, &["one"]), 0).unwrap();
    assert_eq!(usual.ack, Ack::Append);
    let mut entry = append(1, &["two"]);
    entry.ops.push(Op::AwaitFlush);
    let awaited = log.stage(entry, 0).unwrap();
    assert_eq!(awaited.ack, Ack::Flush);
    assert_eq!(awaited.journal_bytes, usual.journal_bytes);
    assert!(awaited.ops.is_empty());
    log.write().unwrap();
    drop(log);
    assert_eq!(values(&open(&disk), 1).len(), 2);
}

#[test]
fn a_memory_stream_is_not_journalled() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    let mut settings = StreamSettings::new("m");
    settings.storage = Storage::Memory;
    settings.ack = Ack::Memory;
    log.create_stream(settings, 1000).unwrap();
    let staged = log.stage(append(1, &["x"]), 1001).unwrap();
    assert_eq!((staged.lsn, staged.journal_bytes), (1, 0));
    log.write().unwrap();
    assert_eq!(values(&log, 1), [(0, "x".into())]);
    assert_eq!(log.reader().watermarks(1).unwrap().flushed, 1);
    drop(log);
    let log = open(&disk);
    assert_eq!(values(&log, 1), []);
    assert_eq!(log.reader().stream("m").unwrap().partitions, [1]);
}

#[test]
fn parts_are_recycled_behind_checkpoint_and_shards() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    let large = "v".repeat(19 << 10);
    let mut filled = 0;
    let full = loop {
        match log.stage(append(1, &[&large]), 1001) {
            Ok(_) => filled += 1,
            Err(error) => break error,
        }
        log.write().unwrap();
    };
    assert!(matches!(full, Error::JournalFull { .. }), "{full}");
    assert!(full.to_string().contains("wait for a checkpoint"));
    assert!(log.latched().is_none());
    assert_eq!(filled, 12, "four parts of 64 KiB hold three entries each");

    // The segments are durable, but the shards still need the first entries.
    checkpoint(&mut log, 2);
    log.stage(append(1, &[&large]), 1001).unwrap_err();
    checkpoint(&mut log, 8);
    for _ in 0..6 {
        log.stage(append(1, &[&large]), 1001).unwrap();
        log.write().unwrap();
    }
    log.stage(append(1, &[&large]), 1001).unwrap_err();
    let lsns: Vec<u64> = log
        .replay(8)
        .unwrap()
        .map(|entry| entry.unwrap().lsn)
        .collect();
    assert_eq!(lsns, (8..=19).collect::<Vec<_>>());
    drop(log);
    let log = open(&disk);
    assert_eq!(values(&log, 1).len(), 18);
    assert_eq!(log.replay(8).unwrap().count(), 12);
    assert_eq!(log.replay(20).unwrap().count(), 0);
}

#[test]
fn an_entry_larger_than_a_part_is_refused() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    let error = log
        .stage(append(1, &[&"v".repeat(70 << 10)]), 1001)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("larger than a part of the journal"),
        "{error}"
    );
    log.stage(append(1, &["small"]), 1001).unwrap();
    log.write().unwrap();
    assert_eq!(values(&log, 1), [(0, "small".into())]);
}

#[test]
fn streams_are_deleted_created_again_and_altered() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    log.stage(append(1, &["old"]), 1001).unwrap();
    log.write().unwrap();
    log.delete_stream("s", 1002).unwrap();
    assert!(log.reader().stream("s").is_none());
    let refused = log.stage(append(1, &["late"]), 1003).unwrap();
    assert_eq!(refused.base_offsets, [Err(Refusal::UnknownPartition)]);
    assert_eq!(
        log.create_stream(StreamSettings::new("s"), 1004).unwrap(),
        [2]
    );
    log.stage(append(2, &["new"]), 1005).unwrap();
    let mut wider = StreamSettings::new("s");
    wider.partitions = 2;
    let entry = Entry {
        ops: vec![Op::AlterStream(wider), Op::DeleteStream("t".into())],
        ..Entry::default()
    };
    let staged = log.stage(entry, 1006).unwrap();
    assert_eq!(staged.ops, [Ok(vec![3]), Err(Refusal::UnknownStream)]);
    log.write().unwrap();
    drop(log);
    for _ in 0..2 {
        let mut log = open(&disk);
        assert_eq!(log.reader().stream("s").unwrap().partitions, [2, 3]);
        assert_eq!(values(&log, 2), [(0, "new".into())]);
        assert!(log.reader().watermarks(1).is_none());
        log.ensure_stream(StreamSettings::new("s"), 1007).unwrap();
        assert_eq!(log.reader().stream("s").unwrap().partitions, [2, 3]);
    }
}

#[test]
fn replay_shows_no_batches_of_foreign_entries() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    log.stage(append(1, &["own"]), 1001).unwrap();
    log.stage_foreign(append(1, &["foreign"]), 1002).unwrap();
    log.stage(append(1, &["own"]), 1003).unwrap();
    log.write().unwrap();
    drop(log);
    let log = open(&disk);
    assert_eq!(values(&log, 1).len(), 3);
    let replayed = log.replay(2).unwrap().map(Result::unwrap);
    let replayed: Vec<_> = replayed
        .map(|entry| (entry.lsn, entry.batches.len()))
        .collect();
    assert_eq!(replayed, [(2, 1), (3, 0), (4, 1)]);
}

#[test]
fn what_is_never_mirrored_is_remembered_in_stretches_and_not_without_a_bound() {
    let mut log = open(&MemoryDisk::new());
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    let reader = log.reader();
    assert!(!reader.is_unmirrored(1, &(0..u64::MAX)));
    for offset in [3, 4, 7] {
        reader.set_unmirrored(1, offset..offset + 1);
    }
    reader.set_unmirrored(1, 9..9);
    reader.set_unmirrored(2, 0..9);
    assert_eq!(reader.unmirrored(1), [3..5, 7..8]);
    let is_unmirrored = |from, to| reader.is_unmirrored(1, &(from..to));
    assert!(is_unmirrored(0, 4) && is_unmirrored(4, 5) && is_unmirrored(0, 100));
    assert!(!is_unmirrored(0, 3) && !is_unmirrored(5, 7) && !is_unmirrored(8, 9));
    for number in 5..5 + crate::limits::UNMIRRORED_MAX as u64 {
        reader.set_unmirrored(1, 2 * number..2 * number + 1);
    }
    assert_eq!(reader.unmirrored(1).len(), crate::limits::UNMIRRORED_MAX);
    assert!(!is_unmirrored(3, 5), "the oldest are forgotten");
}

#[test]
fn the_mirrored_end_never_goes_back_nor_beyond_what_is_flushed() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    let reader = log.reader();
    log.stage(append(1, &["a", "b"]), 1001).unwrap();
    log.write().unwrap();
    flush(&mut log);
    log.stage(append(1, &["c"]), 1002).unwrap();
    log.write().unwrap();
    let mirrored = || reader.watermarks(1).unwrap().mirrored;
    assert_eq!((mirrored(), reader.mirrored_moves()), (0, 0));
    reader.set_mirrored(1, 1);
    assert_eq!((mirrored(), reader.mirrored_moves()), (1, 1));
    reader.set_mirrored(1, 3);
    assert_eq!(mirrored(), 2, "the third is not flushed");
    reader.set_mirrored(1, 1);
    reader.set_mirrored(9, 1);
    assert_eq!((mirrored(), reader.mirrored_moves()), (2, 2));
}

fn parts(disk: &MemoryDisk) -> usize {
    disk.list("journal").unwrap().len()
}

/// A moment without room must not take the journal's spare parts away for good.
#[test]
fn a_part_that_could_not_be_made_is_tried_again() {
    use crate::disk::Operation;
    for operation in [Operation::Open, Operation::Write, Operation::Sync] {
        let disk = MemoryDisk::new();
        let mut log = open(&disk);
        let before = parts(&disk);
        disk.fail(operation, "journal/", 1);
        let mut preparation = log.prepare(0).unwrap();
        let error = loop {
            match preparation.step() {
                Ok(done) => assert!(!done),
                Err(error) => break error.to_string(),
            }
        };
        assert!(!error.contains("restart"), "nothing is latched: {error}");
        log.prepared(preparation);
        assert_eq!(parts(&disk), before, "{operation:?}");
        assert!(log.prepare(1).is_none(), "not at once");
        let mut preparation = log.prepare(60_000).unwrap();
        while !preparation.step().unwrap() {}
        log.prepared(preparation);
        assert_eq!(parts(&disk), before + 1);
    }
}

#[test]
fn spare_parts_leave_the_reserve_alone() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    let reserve_bytes = crate::limits::RESERVE_BYTES_DEFAULT;
    disk.set_free_bytes(reserve_bytes + (64 << 10) - 1);
    assert!(log.prepare(60_000).is_none(), "it fills the reserve");
    disk.set_free_bytes(u64::MAX);
    let mut preparation = log.prepare(120_000).unwrap();
    assert!(!preparation.step().unwrap());
    let before = parts(&disk);
    disk.set_free_bytes(reserve_bytes);
    let error = preparation.step().unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    log.prepared(preparation);
    assert_eq!(parts(&disk), before - 1);
}
