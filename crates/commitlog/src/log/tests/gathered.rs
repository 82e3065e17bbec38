//! Batches that are in the journal and in no segment yet: who reads finds them all the same.

use std::sync::Arc;

use super::{append, batch, open, small, values};
use crate::batch::BatchBuilder;
use crate::disk::MemoryDisk;
use crate::entry::{Append, Entry};
use crate::log::{Log, LogConfig};
use crate::stream::{PartitionId, StreamSettings};

const LOG: &str = "streams/s-0/00000000000000000000.log";

fn stream(log: &mut Log, partitions: u32) -> Vec<PartitionId> {
    let mut settings = StreamSettings::new("s");
    settings.partitions = partitions;
    log.create_stream(settings, 1000).unwrap()
}

fn write(log: &mut Log, partition: PartitionId, text: &str) {
    log.stage(append(partition, &[text]), 1000).unwrap();
    log.write().unwrap();
}

fn file_bytes(disk: &MemoryDisk) -> usize {
    disk.contents(LOG).map_or(0, |bytes| bytes.len())
}

#[test]
fn what_gathers_is_read_searched_and_counted() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    let partition = stream(&mut log, 1)[0];
    let reader = log.reader();
    for (text, timestamp_ms) in [("a", 10), ("b", 30), ("c", 20)] {
        let mut one = BatchBuilder::new();
        one.push(timestamp_ms, Some(b"key"), Some(text.as_bytes()), &[]);
        let appends = vec![Append::new(partition, one.finish())];
        let ops = Vec::new();
        log.stage(Entry { appends, ops }, 1000).unwrap();
        log.write().unwrap();
    }
    for written in [false, true] {
        assert_eq!(file_bytes(&disk) > 0, written);
        assert_eq!(reader.watermarks(partition).unwrap().appended, 3);
        let texts: Vec<String> = values(&log, partition).into_iter().map(|it| it.1).collect();
        assert_eq!(texts, ["a", "b", "c"]);
        assert!(reader.is_in_memory(partition, 0));
        let found = |ms| reader.offset_for_time(partition, ms).unwrap();
        assert_eq!(found(5), Some((0, 10)));
        assert_eq!(found(11), Some((1, 30)));
        assert_eq!(found(31), None);
        assert_eq!(reader.newest(partition).unwrap(), Some((1, 30)));
        let epoch = reader.leader_epoch();
        assert_eq!(reader.epoch_end(partition, epoch), Some((epoch, 3)));
        assert_eq!(
            reader.size_bytes(partition).unwrap(),
            3 * batch(&["a"]).len() as u64
        );
        // The first call ends a round in which all of it came.
        assert!(log.write_gathered().unwrap() && log.gathers() != written);
        assert!(log.write_gathered().unwrap() && !log.gathers());
    }
}

#[test]
fn what_leaves_the_tail_cache_is_in_its_segment() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        tail_bytes_max: 2000,
        ..small()
    };
    let mut log = Log::open(Arc::new(disk.clone()), config, 1000).unwrap();
    let [first, second] = stream(&mut log, 2)[..] else {
        panic!("two were asked for")
    };
    write(&mut log, first, "one");
    write(&mut log, first, "two");
    assert_eq!(file_bytes(&disk), 0);
    for _ in 0..20 {
        write(&mut log, second, "other");
        assert_eq!(values(&log, first).len(), 2);
    }
    assert!(!log.reader().is_in_memory(first, 0));
    assert!(file_bytes(&disk) > 0);
    assert_eq!(values(&log, second).len(), 20);
}

#[test]
fn enough_bytes_are_written_at_once_and_more_than_the_tail_holds_too() {
    for (gathered_bytes_max, tail_bytes_max) in [(500, 1 << 20), (1 << 20, 600)] {
        let disk = MemoryDisk::new();
        let config = LogConfig {
            tail_bytes_max,
            gathered_bytes_max,
            ..small()
        };
        let mut log = Log::open(Arc::new(disk.clone()), config, 1000).unwrap();
        let partition = stream(&mut log, 1)[0];
        write(&mut log, partition, "one");
        assert_eq!(file_bytes(&disk), 0);
        write(&mut log, partition, &"x".repeat(600));
        assert!(file_bytes(&disk) > 600);
        assert_eq!(values(&log, partition).len(), 2);
    }
}

/// Nothing that stood in the tail cache before it makes it go to its segment.
#[test]
fn the_first_batch_of_a_partition_may_be_more_than_the_tail_holds() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        tail_bytes_max: 600,
        ..small()
    };
    let mut log = Log::open(Arc::new(disk.clone()), config, 1000).unwrap();
    let partition = stream(&mut log, 1)[0];
    write(&mut log, partition, &"x".repeat(600));
    assert!(file_bytes(&disk) > 600);
    assert_eq!(values(&log, partition).len(), 1);
}

/// What has gathered is on its way to the disk: asked again how much is free, the disk does not know.
#[test]
fn what_gathers_is_subtracted_from_the_free_space() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        reserve_bytes: 1 << 20,
        ..small()
    };
    let mut log = Log::open(Arc::new(disk.clone()), config, 1000).unwrap();
    let partition = stream(&mut log, 1)[0];
    disk.set_free_bytes((1 << 20) + 5000);
    let large = "x".repeat(3000);
    let now_ms = 1000 + 2 * crate::limits::PROBE_MS;
    log.stage(append(partition, &[&large]), now_ms).unwrap();
    log.write().unwrap();
    assert!(log.gathers());
    let later_ms = now_ms + 2 * crate::limits::PROBE_MS;
    let refused = log.stage(append(partition, &[&large]), later_ms);
    assert!(matches!(refused, Err(crate::error::Error::Full { .. })));
}

#[test]
fn a_partition_that_is_written_often_gathers_on() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        gathered_bytes_max: 250,
        ..small()
    };
    let mut log = Log::open(Arc::new(disk.clone()), config, 1000).unwrap();
    let partition = stream(&mut log, 1)[0];
    let mut sizes = Vec::new();
    for text in ["a", "b", "c", "d", "e", "f", "g"] {
        write(&mut log, partition, text);
        sizes.push(file_bytes(&disk));
        log.write_gathered().unwrap();
    }
    let size = batch(&["a"]).len();
    assert!(250 > 2 * size && 250 < 4 * size, "{size}");
    let last = *sizes.last().unwrap();
    assert!(last > 0 && last.is_multiple_of(size), "{sizes:?}");
    log.write_gathered().unwrap();
    log.write_gathered().unwrap();
    assert_eq!((file_bytes(&disk), log.gathers()), (7 * size, false));
}

#[test]
fn a_checkpoint_a_log_start_and_an_end_find_it_written() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    let partition = stream(&mut log, 1)[0];
    write(&mut log, partition, "one");
    super::checkpoint(&mut log, u64::MAX);
    assert!(file_bytes(&disk) > 0 && !log.gathers());

    write(&mut log, partition, "two");
    let ops = vec![crate::entry::Op::SetLogStart {
        partition,
        offset: 2,
    }];
    let appends = Vec::new();
    let staged = log.stage(Entry { appends, ops }, 1000).unwrap();
    assert!(staged.ops[0].is_ok());
    log.write().unwrap();
    assert_eq!(log.reader().watermarks(partition).unwrap().log_start, 2);

    write(&mut log, partition, "three");
    log.close(u64::MAX).unwrap();
    disk.crash(true);
    let log = open(&disk);
    assert_eq!(values(&log, partition), [(2, "three".to_owned())]);
}

#[test]
fn a_kill_loses_nothing_that_has_gathered() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    let partition = stream(&mut log, 1)[0];
    write(&mut log, partition, "one");
    super::checkpoint(&mut log, u64::MAX);
    write(&mut log, partition, "two");
    assert!(log.gathers());
    drop(log);
    let texts: Vec<_> = values(&open(&disk), partition);
    assert_eq!(texts.len(), 2);
}
