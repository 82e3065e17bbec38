//! Recovery: a log is built from a list of operations, then its files are damaged: bytes changed,
//! files cut short, garbage appended, files gone, bytes that cannot be read. Opening must not panic;
//! what can be read afterwards is what was written, and where nothing was damaged all of it is.

use std::sync::Arc;

use commitlog::batch::BatchBuilder;
use commitlog::disk::{Disk, MemoryDisk, Open};
use commitlog::{Append, Entry, Log, LogConfig, PartitionId, StreamSettings};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "recovery",
    seeds,
    run,
};

/// Bytes of the input that say what is appended; the rest says what is damaged.
const OPERATIONS: usize = 60;
const NOW_MS: u64 = 1_574_753_026_269;

fn config(accept_loss: bool) -> LogConfig {
    LogConfig {
        journal_part_bytes: 32 << 10,
        journal_bytes_max: 4 << 20,
        reserve_bytes: 0,
        accept_loss,
        ..LogConfig::default()
    }
}

fn run(input: &[u8]) {
    let disk = MemoryDisk::new();
    let (operations, damages) = input.split_at(input.len().min(OPERATIONS));
    let written = build(&disk, operations);
    let catalogue = disk.contents("catalogue");
    disk.crash(false);
    let damaged = damage(&disk, damages);
    let opened = Log::open(Arc::new(disk.clone()), config(false), NOW_MS);
    if let Ok(log) = opened {
        check(&log, &written);
        check_kept(&log, &written, &damaged);
        return;
    }
    let spared = disk.contents("catalogue") == catalogue;
    match Log::open(Arc::new(disk), config(true), NOW_MS) {
        Ok(log) => {
            check(&log, &written);
            check_kept(&log, &written, &damaged);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty(), "an error says nothing");
            // Without its catalogue nobody knows what a log was.
            assert!(
                !spared || text.contains('/') || text.contains("catalogue"),
                "{text}"
            );
        }
    }
}

/// Appends numbered records to two partitions; answers how many each has.
fn build(disk: &MemoryDisk, operations: &[u8]) -> Vec<(PartitionId, u64)> {
    let mut log = Log::open(Arc::new(disk.clone()), config(false), NOW_MS).expect("it is new");
    let settings = StreamSettings {
        partitions: 2,
        segment_bytes: 4 << 10,
        ..StreamSettings::new("numbers")
    };
    let partitions = log.create_stream(settings, NOW_MS).expect("it is new");
    let mut written: Vec<(PartitionId, u64)> = partitions.iter().map(|&id| (id, 0)).collect();
    for &operation in operations {
        match operation % 8 {
            0..=4 => {
                let (partition, count) = &mut written[usize::from(operation >> 3 & 1)];
                let mut builder = BatchBuilder::new();
                for _ in 0..=operation >> 5 {
                    let value = vec![*count as u8; 16 + 8 * usize::from(operation)];
                    builder.push(NOW_MS as i64, None, Some(&value), &[]);
                    *count += 1;
                }
                let append = Append::new(*partition, builder.finish());
                let entry = Entry {
                    appends: vec![append],
                    ..Entry::default()
                };
                log.stage(entry, NOW_MS).expect("the disk is whole");
                log.write().expect("the disk is whole");
            }
            5 | 6 => {
                if let Some(ticket) = log.flush_ticket() {
                    log.flushed(ticket.run().expect("the disk is whole"));
                }
            }
            _ => {
                if let Some(mut checkpoint) = log.checkpoint(u64::MAX) {
                    while !checkpoint.step().expect("the disk is whole") {}
                    log.checkpointed(checkpoint).expect("the disk is whole");
                }
            }
        }
    }
    written
}

fn files(disk: &MemoryDisk, dir: &str, found: &mut Vec<String>) {
    for name in disk.list(dir).unwrap_or_default() {
        let path = match dir {
            "" => name,
            dir => format!("{dir}/{name}"),
        };
        match disk.contents(&path) {
            Some(_) => found.push(path),
            None => files(disk, &path, found),
        }
    }
}

/// Answers the files that it damaged.
fn damage(disk: &MemoryDisk, damages: &[u8]) -> Vec<String> {
    let mut damaged = Vec::new();
    let mut paths = Vec::new();
    files(disk, "", &mut paths);
    for damage in damages.chunks_exact(5).take(8) {
        let path = &paths[usize::from(damage[0]) % paths.len()];
        let Some(bytes) = disk.contents(path) else {
            continue;
        };
        let at = usize::from(damage[2]) * 256 + usize::from(damage[3]);
        let at = at % bytes.len().max(1);
        damaged.push(path.clone());
        match damage[1] % 7 {
            0 | 1 => disk.corrupt(path, at as u64, &damage[4..]),
            2 => disk.corrupt(path, at as u64, &[0; 64]),
            3 => {
                let file = disk.open(path, Open::ReadWrite);
                file.and_then(|file| file.set_len(at as u64))
                    .expect("it is there");
            }
            4 => disk.corrupt(path, bytes.len() as u64, &[damage[4]; 100]),
            5 => disk.make_unreadable(path, at as u64, at as u64 + 512),
            _ => disk.remove_file(path).expect("it is there"),
        }
    }
    damaged
}

/// The process was killed, and the power stayed. Where journal and catalogue are whole, every
/// partition ends where it ended, whatever became of its files; one whose files are whole has all.
fn check_kept(log: &Log, written: &[(PartitionId, u64)], damaged: &[String]) {
    let tells = |path: &String| path.starts_with("journal") || path == "catalogue";
    if damaged.iter().any(tells) {
        return;
    }
    for (index, &(partition, count)) in written.iter().enumerate() {
        let marks = log.reader().watermarks(partition);
        let marks = marks.expect("the catalogue names it");
        assert_eq!(marks.appended, count, "partition {partition} ends early");
        let folder = format!("streams/numbers-{index}/");
        if !damaged.iter().any(|path| path.starts_with(&folder)) {
            assert_eq!(marks.log_start, 0, "partition {partition} begins late");
            let kept = readable(log, partition, count);
            assert_eq!(kept, count, "partition {partition} lost records");
        }
    }
}

/// How many records of a partition can be read.
fn readable(log: &Log, partition: PartitionId, end: u64) -> u64 {
    let (mut offset, mut records) = (0, 0);
    while offset < end {
        let found = log.reader().read(partition, offset, 1 << 16, u64::MAX);
        let found = found.expect("nothing is damaged there");
        let before = offset;
        for bytes in &found {
            for batch in commitlog::batch::batches(bytes) {
                let batch = batch.expect("nothing is damaged there");
                records += u64::from(batch.count());
                offset = batch.next_offset();
            }
        }
        assert!(
            offset > before,
            "nothing at {offset} of partition {partition}"
        );
    }
    records
}

/// What can be read is what was written, in order.
fn check(log: &Log, written: &[(PartitionId, u64)]) {
    let reader = log.reader();
    for &(partition, count) in written {
        let Some(marks) = reader.watermarks(partition) else {
            continue;
        };
        assert!(marks.appended <= count, "more than was written");
        let mut offset = marks.log_start;
        while offset < marks.appended {
            // Damage in a segment that no index tells of is found when it is read.
            let Ok(found) = reader.read(partition, offset, 1 << 16, u64::MAX) else {
                return;
            };
            let before = offset;
            for batch in found
                .iter()
                .flat_map(|bytes| commitlog::batch::batches(bytes))
            {
                let Ok(batch) = batch else { return };
                if batch.verify_crc().is_err() {
                    return;
                }
                for record in batch.records() {
                    let record = record.expect("the checksum is right");
                    let value = record.value.expect("each has a value");
                    assert_eq!(value[0], record.offset as u8, "another record's place");
                }
                offset = batch.last_offset() + 1;
            }
            if offset == before {
                return;
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut random = crate::random::Random::new(11);
    (0..24)
        .map(|_| (0..OPERATIONS + 25).map(|_| random.any() as u8).collect())
        .collect()
}
