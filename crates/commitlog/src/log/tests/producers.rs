//! Producers and transactions as the log's owner and its readers see them; lost and damaged files.

use super::*;
use crate::aborted::AbortedRange;
use crate::batch::control_batch;
use crate::disk::Disk;
use crate::producers::tests::batch_of;
use crate::reader::LogReader;

const TXNINDEX: &str = "streams/s-0/00000000000000000000.txnindex";

fn stage(log: &mut Log, batches: Vec<Vec<u8>>) -> Vec<Result<u64, Refusal>> {
    let appends = batches.into_iter().map(|batch| Append::new(1, batch));
    let entry = Entry {
        appends: appends.collect(),
        ops: Vec::new(),
    };
    let staged = log.stage(entry, 1000).unwrap();
    staged.base_offsets
}

fn txn(producer_id: i64, sequence: i32) -> Vec<u8> {
    batch_of(producer_id, 0, sequence, 2, true)
}

fn abort(producer_id: i64) -> Vec<u8> {
    control_batch(producer_id, 0, false, 0, 1000)
}

fn commit(producer_id: i64) -> Vec<u8> {
    control_batch(producer_id, 0, true, 0, 1000)
}

fn stable(reader: &LogReader) -> (u64, u64) {
    let marks = reader.watermarks(1).unwrap();
    (marks.stable, marks.appended)
}

fn range(producer_id: i64, first_offset: u64, last_offset: u64) -> AbortedRange {
    AbortedRange {
        producer_id,
        first_offset,
        last_offset,
    }
}

fn log_of(disk: &MemoryDisk, change: fn(&mut StreamSettings)) -> Log {
    let mut log = open(disk);
    let mut settings = StreamSettings::new("s");
    settings.segment_bytes = 4096;
    change(&mut settings);
    log.create_stream(settings, 1000).unwrap();
    log
}

/// Two aborted transactions and a committed one, over several segments; one is left open.
fn filled(disk: &MemoryDisk, change: fn(&mut StreamSettings)) -> Log {
    let mut log = log_of(disk, change);
    stage(&mut log, vec![txn(1, 0), txn(2, 0), abort(1)]);
    for round in 0..40 {
        stage(&mut log, vec![batch_of(9, 0, round * 3, 3, false)]);
    }
    stage(&mut log, vec![abort(2), txn(1, 2), commit(1), txn(2, 2)]);
    log.write().unwrap();
    log
}

fn flushed_stable(reader: &LogReader) -> (u64, u64) {
    let marks = reader.watermarks(1).unwrap();
    (marks.flushed_stable, marks.flushed)
}

#[test]
fn a_marker_moves_the_flushed_stable_end_when_it_is_flushed_itself() {
    let disk = MemoryDisk::new();
    let mut log = log_of(&disk, |settings| settings.ack = Ack::Flush);
    let reader = log.reader();
    stage(&mut log, vec![batch(&["plain"]), txn(1, 0), txn(2, 0)]);
    log.write().unwrap();
    assert_eq!(flushed_stable(&reader), (0, 0));
    let ticket = log.flush_ticket().unwrap();
    // While the flush runs.
    stage(&mut log, vec![commit(1)]);
    log.write().unwrap();
    let flushed = ticket.run().unwrap();
    log.flushed(flushed);
    assert_eq!(stable(&reader), (3, 6));
    assert_eq!(flushed_stable(&reader), (1, 5));
    flush(&mut log);
    assert_eq!(flushed_stable(&reader), (3, 6));
    stage(&mut log, vec![commit(2)]);
    log.write().unwrap();
    assert_eq!((stable(&reader), flushed_stable(&reader)), ((7, 7), (3, 6)));
    flush(&mut log);
    assert_eq!(flushed_stable(&reader), (7, 7));
    // After a start, all that is there is flushed; one transaction is open.
    stage(&mut log, vec![txn(2, 2)]);
    log.write().unwrap();
    flush(&mut log);
    log.close(u64::MAX).unwrap();
    let log = open(&disk);
    let reader = log.reader();
    assert_eq!((stable(&reader), flushed_stable(&reader)), ((7, 9), (7, 9)));
}

#[test]
fn all_of_a_memory_stream_counts_as_flushed() {
    let disk = MemoryDisk::new();
    let mut log = log_of(&disk, |settings| settings.storage = Storage::Memory);
    let reader = log.reader();
    stage(&mut log, vec![batch(&["plain"]), txn(1, 0)]);
    log.write().unwrap();
    assert_eq!(flushed_stable(&reader), (1, 3));
    stage(&mut log, vec![commit(1)]);
    log.write().unwrap();
    assert_eq!(flushed_stable(&reader), (4, 4));
}

type Damage = fn(&MemoryDisk);

/// What was said about the index of aborted transactions.
fn mended(log: &Log) -> Vec<String> {
    let notices = log.recovery().notices.iter();
    notices
        .filter(|notice| notice.path == TXNINDEX)
        .map(|notice| notice.what.clone())
        .collect()
}

fn expected() -> [AbortedRange; 2] {
    [range(1, 0, 4), range(2, 2, 125)]
}

#[test]
fn readers_see_the_stable_end_and_what_was_aborted() {
    for storage in [Storage::Disk, Storage::Memory] {
        let disk = MemoryDisk::new();
        let mut log = match storage {
            Storage::Disk => log_of(&disk, |_| ()),
            Storage::Memory => log_of(&disk, |settings| settings.storage = Storage::Memory),
        };
        let reader = log.reader();
        let staged = stage(&mut log, vec![txn(1, 0), batch(&["plain"]), txn(2, 0)]);
        assert_eq!(staged, [Ok(0), Ok(2), Ok(3)]);
        assert_eq!(stable(&reader), (0, 0), "nothing is written yet");
        log.write().unwrap();
        assert_eq!(stable(&reader), (0, 5));
        stage(&mut log, vec![abort(1)]);
        log.write().unwrap();
        assert_eq!(stable(&reader), (3, 6));
        assert_eq!(reader.aborted(1, 0, 3).unwrap(), [range(1, 0, 5)]);
        assert_eq!(reader.aborted(1, 6, 7).unwrap(), []);
        // Ends and begins again in one turn.
        stage(&mut log, vec![commit(2), txn(2, 2)]);
        log.write().unwrap();
        assert_eq!(stable(&reader), (7, 9));
        let found = reader.producers(1).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.producer_id, it.last_sequence, it.txn_first_offset))
            .collect();
        assert_eq!(found, [(1, 1, None), (2, 3, Some(7))]);
    }
}

#[test]
fn a_refused_batch_fails_alone() {
    let disk = MemoryDisk::new();
    let mut log = log_of(&disk, |settings| settings.ack = Ack::Flush);
    let sent = || vec![batch_of(1, 0, 0, 2, false), batch_of(1, 0, 9, 1, false)];
    let staged = stage(&mut log, sent());
    assert_eq!(staged, [Ok(0), Err(Refusal::OutOfOrderSequence)]);
    let mut entry = append(1, &["plain"]);
    let again = Append::new(1, batch_of(1, 0, 0, 2, false));
    entry.appends.push(again.clone());
    let staged = log.stage(entry, 1000).unwrap();
    let duplicate = Err(Refusal::DuplicateSequence { base_offset: 0 });
    assert_eq!(staged.base_offsets, [Ok(2), duplicate]);
    assert!(staged.batches[1].is_empty());
    // Alone it journals nothing, yet its answer waits as that of the first did.
    let entry = Entry {
        appends: vec![again],
        ops: Vec::new(),
    };
    let staged = log.stage(entry, 1000).unwrap();
    assert_eq!((staged.journal_bytes, staged.ack), (0, Ack::Flush));
    log.write().unwrap();
    assert_eq!(log.reader().watermarks(1).unwrap().appended, 3);
}

#[test]
fn producers_outlive_the_process_with_and_without_a_checkpoint() {
    for checkpoints in 0..3 {
        let disk = MemoryDisk::new();
        let mut log = filled(&disk, |_| ());
        let before = log.reader().producers(1).unwrap();
        match checkpoints {
            0 => drop(log),
            1 => {
                checkpoint(&mut log, u64::MAX);
                drop(log);
            }
            _ => log.close(u64::MAX).unwrap(),
        }
        disk.crash(checkpoints > 0);
        for _ in 0..2 {
            let mut log = open(&disk);
            assert_eq!(mended(&log), Vec::<String>::new());
            let reader = log.reader();
            assert_eq!(reader.producers(1).unwrap(), before);
            assert_eq!(reader.aborted(1, 0, u64::MAX).unwrap(), expected());
            assert_eq!(stable(&reader), (129, 131));
            let again = stage(&mut log, vec![batch_of(9, 0, 39 * 3, 3, false), txn(2, 2)]);
            let duplicate = |base_offset| Err(Refusal::DuplicateSequence { base_offset });
            assert_eq!(again, [duplicate(122), duplicate(129)]);
        }
    }
}

#[test]
fn a_lost_or_damaged_txnindex_is_made_anew() {
    let original = {
        let disk = MemoryDisk::new();
        filled(&disk, |_| ()).close(u64::MAX).unwrap();
        disk.contents(TXNINDEX).unwrap()
    };
    assert_eq!(original.len(), 34);
    let damages: [(&str, Damage); 4] = [
        ("missing", |disk| disk.remove_file(TXNINDEX).unwrap()),
        ("cut off", |disk| {
            let file = disk.open(TXNINDEX, crate::disk::Open::ReadWrite).unwrap();
            file.set_len(33).unwrap();
        }),
        ("damaged", |disk| disk.corrupt(TXNINDEX, 0, &[0; 34])),
        ("out of order", |disk| disk.corrupt(TXNINDEX, 20, &[9])),
    ];
    for (what, damage) in damages {
        let disk = MemoryDisk::new();
        filled(&disk, |_| ()).close(u64::MAX).unwrap();
        damage(&disk);
        let log = open(&disk);
        let notices = mended(&log);
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].contains(what), "{notices:?}");
        assert_eq!(log.reader().aborted(1, 0, u64::MAX).unwrap(), expected());
        assert_eq!(disk.contents(TXNINDEX).unwrap(), original);
        drop(log);
        disk.crash(true);
        let log = open(&disk);
        assert_eq!(mended(&log), Vec::<String>::new());
        assert_eq!(log.reader().aborted(1, 0, u64::MAX).unwrap(), expected());
    }
}

#[test]
fn what_stands_behind_the_checkpoint_in_a_txnindex_is_cut() {
    let disk = MemoryDisk::new();
    let mut log = log_of(&disk, |settings| settings.segment_bytes = 1 << 20);
    stage(&mut log, vec![txn(1, 0), abort(1)]);
    log.write().unwrap();
    checkpoint(&mut log, u64::MAX);
    stage(&mut log, vec![txn(1, 2), abort(1)]);
    log.write().unwrap();
    assert_eq!(disk.contents(TXNINDEX).unwrap().len(), 68);
    drop(log);
    // The power cut takes the entry that no flush covered.
    disk.crash(true);
    let mut log = open(&disk);
    assert_eq!(log.reader().aborted(1, 0, 99).unwrap(), [range(1, 0, 2)]);
    stage(&mut log, vec![txn(1, 2), abort(1)]);
    log.write().unwrap();
    let both = [range(1, 0, 2), range(1, 3, 5)];
    assert_eq!(log.reader().aborted(1, 0, 99).unwrap(), both);
    drop(log);
    // A killed process loses nothing, and replay does not double it.
    disk.crash(false);
    let log = open(&disk);
    assert_eq!(log.reader().aborted(1, 0, 99).unwrap(), both);
    assert_eq!(disk.contents(TXNINDEX).unwrap().len(), 68);
}

#[test]
fn aborted_transactions_go_with_their_segments() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk, |_| ());
    checkpoint(&mut log, u64::MAX);
    let entry = Entry {
        ops: vec![Op::SetLogStart {
            partition: 1,
            offset: 124,
        }],
        appends: Vec::new(),
    };
    log.stage(entry, 1000).unwrap();
    log.write().unwrap();
    checkpoint(&mut log, u64::MAX);
    checkpoint_again(&mut log);
    assert!(!disk.exists(TXNINDEX));
    let left = [range(2, 2, 125)];
    assert_eq!(log.reader().aborted(1, 0, u64::MAX).unwrap(), left);
    drop(log);
    let log = open(&disk);
    assert_eq!(mended(&log), Vec::<String>::new());
    assert_eq!(log.reader().aborted(1, 0, u64::MAX).unwrap(), left);
}

fn checkpoint_again(log: &mut Log) {
    stage(log, vec![batch(&["more"])]);
    log.write().unwrap();
    checkpoint(log, u64::MAX);
}

#[test]
fn housekeeping_forgets_silent_producers() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk, |_| ());
    let day_ms = 24 * 3600 * 1000;
    log.housekeeping(1000 + day_ms - 1).unwrap();
    assert_eq!(log.reader().producers(1).unwrap().len(), 3);
    log.housekeeping(1000 + day_ms).unwrap();
    let left = log.reader().producers(1).unwrap();
    assert_eq!(left.len(), 1, "whose transaction is open");
    assert_eq!(left[0].producer_id, 2);
}

fn bounded(disk: &MemoryDisk) -> Log {
    let config = LogConfig {
        producers_max: 40,
        ..small()
    };
    Log::open(Arc::new(disk.clone()), config, 1000).unwrap()
}

fn send_one(log: &mut Log, partition: PartitionId, batch: Vec<u8>, now_ms: u64) -> Option<Refusal> {
    let entry = Entry {
        appends: vec![Append::new(partition, batch)],
        ops: Vec::new(),
    };
    let staged = log.stage(entry, now_ms).unwrap();
    log.write().unwrap();
    staged.base_offsets[0].err()
}

fn remembered(log: &Log) -> Vec<i64> {
    let reader = log.reader();
    let mut ids = Vec::new();
    for partition in 1..=4 {
        let producers = reader.producers(partition).unwrap();
        ids.extend(producers.iter().map(|producer| producer.producer_id));
    }
    ids.sort_unstable();
    ids
}

#[test]
fn the_node_remembers_so_many_producers_and_starts_and_serves_with_all_of_them() {
    let disk = MemoryDisk::new();
    let mut log = bounded(&disk);
    let mut settings = StreamSettings::new("s");
    settings.partitions = 4;
    log.create_stream(settings, 1000).unwrap();
    // One with an open transaction, the oldest of all.
    assert_eq!(send_one(&mut log, 2, txn(1000, 0), 1000), None);
    for id in 0..100 {
        let partition = 1 + id as PartitionId % 4;
        let sent = send_one(
            &mut log,
            partition,
            batch_of(id, 0, 0, 1, false),
            2000 + id as u64,
        );
        assert_eq!(sent, None, "{id}");
        assert!(remembered(&log).len() <= 40);
    }
    let before = remembered(&log);
    assert!(before.len() > 30 && before.contains(&1000) && before.contains(&99));
    assert!(!before.contains(&50), "the longest silent go first");
    // Replay forgets the same, with and without a checkpoint.
    for clean in [false, true] {
        if clean {
            log.close(u64::MAX).unwrap();
        } else {
            drop(log);
            disk.crash(false);
        }
        log = bounded(&disk);
        assert_eq!(remembered(&log), before, "clean: {clean}");
        let again = send_one(&mut log, 4, batch_of(99, 0, 0, 1, false), 3000);
        assert!(matches!(again, Some(Refusal::DuplicateSequence { .. })));
    }
    // A node that remembers more, as one with another bound did, starts and serves.
    drop(log);
    let mut log = open(&disk);
    for id in 200..300 {
        let sent = send_one(&mut log, 1, batch_of(id, 0, 0, 1, false), 3000 + id as u64);
        assert_eq!(sent, None);
    }
    log.close(u64::MAX).unwrap();
    let mut log = bounded(&disk);
    assert!(remembered(&log).len() <= 40);
    assert!(remembered(&log).contains(&1000));
    let sent = send_one(&mut log, 1, batch_of(300, 0, 0, 1, false), 4000);
    assert_eq!(sent, None);
}

#[test]
fn where_all_have_transactions_open_only_a_new_producer_is_refused() {
    let disk = MemoryDisk::new();
    let mut log = bounded(&disk);
    let mut settings = StreamSettings::new("s");
    settings.partitions = 4;
    log.create_stream(settings, 1000).unwrap();
    for id in 0..40 {
        let partition = 1 + id as PartitionId % 4;
        assert_eq!(send_one(&mut log, partition, txn(id, 0), 1000), None);
    }
    let refused = Some(Refusal::TooManyProducers);
    assert_eq!(send_one(&mut log, 1, txn(100, 0), 1000), refused);
    assert_eq!(
        send_one(&mut log, 2, batch_of(100, 0, 0, 1, false), 1500),
        refused
    );
    // The known go on, and what ends their transactions makes room.
    assert_eq!(send_one(&mut log, 1, txn(4, 2), 1500), None);
    assert_eq!(send_one(&mut log, 1, commit(4), 1500), None);
    assert_eq!(send_one(&mut log, 1, txn(100, 0), 2600), None);
    assert!(!remembered(&log).contains(&4));
}
