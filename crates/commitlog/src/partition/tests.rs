//! What a partition does when the disk does its part.

mod damage;
mod model;
mod reserving;

use super::*;
use crate::batch::{BatchBuilder, batches};
use crate::disk::{self, MemoryDisk, Open, Operation, Patience};
use crate::error::ReadError;
use crate::limits::MEMORY_BATCH_OVERHEAD_BYTES;
use crate::segment::{Found, SegmentRewrite, StoredRange};

const WAITS: Patience = Patience::Waits;

const DIR: &str = "streams/s-0";
const SETTINGS: PartitionSettings = PartitionSettings {
    topic_id: [5; 16],
    segment_bytes: 20_000,
    segment_ms: None,
};

fn batch(records: u64, value_bytes: usize, first_ms: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for at in 0..records as i64 {
        builder.push(
            first_ms + at,
            Some(b"key"),
            Some(&vec![b'v'; value_bytes]),
            &[],
        );
    }
    builder.finish()
}

fn new_partition(disk: &MemoryDisk) -> Partition {
    Partition::create(Arc::new(disk.clone()), DIR, SETTINGS).unwrap()
}

fn open(disk: &MemoryDisk, mark: Option<PartitionMark>) -> (Partition, Vec<Notice>) {
    Partition::open(Arc::new(disk.clone()), DIR, SETTINGS, mark).unwrap()
}

fn try_open(disk: &MemoryDisk, mark: Option<PartitionMark>) -> Result<(), Error> {
    Partition::open(Arc::new(disk.clone()), DIR, SETTINGS, mark).map(|_| ())
}

fn append(partition: &mut Partition, batch: Vec<u8>) -> Bytes {
    let staged = partition.stage(batch, 0, 0).unwrap();
    partition.write().unwrap();
    staged.batch
}

/// Ten batches of 10 records and about 5 KB: three to a segment.
fn filled(disk: &MemoryDisk) -> (Partition, Vec<Bytes>) {
    let mut partition = new_partition(disk);
    let batches = (0..10)
        .map(|at| append(&mut partition, batch(10, 500, 1_000_000 + at * 1000)))
        .collect();
    assert_eq!(partition.segments().len(), 4);
    (partition, batches)
}

fn sync(partition: &mut Partition, disk: &MemoryDisk) {
    let dirty = partition.take_dirty();
    for (path, file) in &dirty.files {
        assert!(disk.contents(path).is_some(), "{path} is there");
        file.sync_all().unwrap();
    }
    disk.sync_dir("").unwrap();
    for dir in &dirty.dirs {
        disk.sync_dir(dir).unwrap();
    }
}

/// All that a reader sees from `offset` on, batch by batch.
fn read_all(reader: &PartitionReader, offset: u64) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut offset = offset;
    loop {
        let read = reader.read(offset, 7000, u64::MAX).unwrap();
        if read.is_empty() {
            assert_eq!(offset, reader.next_offset());
            return found;
        }
        for bytes in read {
            for batch in batches(&bytes) {
                let batch = batch.unwrap();
                offset = batch.head().next_offset();
                found.push(bytes.slice_ref(batch.bytes()));
            }
        }
    }
}

#[test]
fn the_folder_holds_what_kafka_would_put_there() {
    let disk = MemoryDisk::new();
    let mut partition = new_partition(&disk);
    let staged = partition.stage(batch(3, 10, 77), 4, 0).unwrap();
    assert_eq!((staged.base_offset, staged.last_offset), (0, 2));
    assert!(
        partition
            .reader()
            .read(0, 1000, u64::MAX)
            .unwrap()
            .is_empty(),
        "not written yet"
    );
    assert_eq!(partition.mark(), PartitionMark::default());
    partition.write().unwrap();
    let names: Vec<String> = disk.list(DIR).unwrap();
    assert_eq!(
        names,
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "leader-epoch-checkpoint",
            "partition.metadata"
        ]
    );
    let text = |name: &str| String::from_utf8(disk.contents(&format!("{DIR}/{name}")).unwrap());
    assert_eq!(text("leader-epoch-checkpoint").unwrap(), "0\n1\n4 0\n");
    assert_eq!(
        text("partition.metadata").unwrap(),
        "version: 0\ntopic_id: BQUFBQUFBQUFBQUFBQUFBQ"
    );
    let log = disk
        .contents(&format!("{DIR}/00000000000000000000.log"))
        .unwrap();
    assert_eq!(log, staged.batch);
    assert_eq!(
        BatchView::parse(&log).unwrap().0.partition_leader_epoch(),
        4
    );
}

#[test]
fn segments_roll_by_size_and_their_indexes_are_sparse() {
    let disk = MemoryDisk::new();
    let (partition, batches) = filled(&disk);
    let size = batches[0].len() as u64;
    let summary = partition.segments();
    assert_eq!(
        summary.iter().map(|s| s.base_offset).collect::<Vec<_>>(),
        [0, 30, 60, 90]
    );
    assert_eq!(
        summary.iter().map(|s| s.next_offset).collect::<Vec<_>>(),
        [30, 60, 90, 100]
    );
    assert_eq!(summary[1].newest_timestamp_ms, 1_005_009);
    assert_eq!(
        summary[3],
        SegmentSummary {
            base_offset: 90,
            next_offset: 100,
            size_bytes: size,
            newest_timestamp_ms: 1_009_009,
            active: true,
        }
    );
    assert_eq!(partition.size_bytes(), 10 * size);
    // The second and third batch of the second segment: last offset relative to 30, position.
    let index = disk
        .contents(&format!("{DIR}/00000000000000000030.index"))
        .unwrap();
    let mut expected = Vec::new();
    for (relative, position) in [(19u32, size as u32), (29, 2 * size as u32)] {
        expected.extend(relative.to_be_bytes());
        expected.extend(position.to_be_bytes());
    }
    assert_eq!(index, expected);
    let times = disk
        .contents(&format!("{DIR}/00000000000000000030.timeindex"))
        .unwrap();
    let mut expected = Vec::new();
    for (newest_ms, relative) in [(1_004_009u64, 19u32), (1_005_009, 29)] {
        expected.extend(newest_ms.to_be_bytes());
        expected.extend(relative.to_be_bytes());
    }
    assert_eq!(times, expected);
}

#[test]
fn a_segment_rolls_by_age_and_on_command() {
    let disk = MemoryDisk::new();
    let settings = PartitionSettings {
        segment_ms: Some(1000),
        ..SETTINGS
    };
    let mut partition = Partition::create(Arc::new(disk.clone()), DIR, settings).unwrap();
    for now_ms in [5000, 5999, 6000, 6001] {
        partition
            .stage(batch(1, 10, now_ms as i64), 0, now_ms)
            .unwrap();
    }
    partition.write().unwrap();
    assert_eq!(partition.segments().len(), 2);
    assert_eq!(partition.segments()[1].base_offset, 2);
    drop(partition);
    let (mut partition, _) = Partition::open(Arc::new(disk.clone()), DIR, settings, None).unwrap();
    partition.stage(batch(1, 10, 6999), 0, 6999).unwrap();
    partition.stage(batch(1, 10, 7000), 0, 7000).unwrap();
    partition.write().unwrap();
    assert_eq!(
        partition.segments().len(),
        3,
        "the age is known after a restart"
    );
    assert!(partition.roll().unwrap());
    assert!(!partition.roll().unwrap(), "an empty segment does not roll");
    assert_eq!(partition.mark().segment_base, 6);
    assert_eq!(
        partition.drop_segments_before(6).unwrap(),
        6 * batch(1, 10, 0).len() as u64
    );
    assert_eq!((partition.log_start(), partition.size_bytes()), (6, 0));
    assert!(
        partition
            .reader()
            .read(6, 100, u64::MAX)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_segment_rolls_before_its_index_cannot_express_an_offset() {
    const FAR: u64 = 3_000_000_000;
    let disk = MemoryDisk::new();
    let mut partition = new_partition(&disk);
    let bases = |partition: &Partition| -> Vec<u64> {
        partition
            .segments()
            .iter()
            .map(|segment| segment.base_offset)
            .collect()
    };
    partition.skip_to(FAR).unwrap();
    append(&mut partition, batch(1, 10, 5));
    assert_eq!(
        bases(&partition),
        [0, FAR],
        "an empty segment rolls as well"
    );
    partition.skip_to(FAR + i32::MAX as u64 - 1).unwrap();
    append(&mut partition, batch(1, 10, 6));
    partition.skip_to(2 * FAR).unwrap();
    append(&mut partition, batch(1, 10, 7));
    assert_eq!(bases(&partition), [0, FAR, 2 * FAR]);
    let mark = partition.mark();
    drop(partition);
    let (partition, notices) = open(&disk, Some(mark));
    assert_eq!(notices, []);
    assert_eq!(read_all(&partition.reader(), 0).len(), 3);
    assert_eq!(
        partition.reader().offset_for_time(6).unwrap().unwrap().0,
        FAR + i32::MAX as u64 - 1
    );
}

#[test]
fn a_read_begins_with_the_batch_that_contains_the_offset() {
    let disk = MemoryDisk::new();
    let (partition, batches) = filled(&disk);
    let reader = partition.reader();
    let size = batches[0].len();
    for offset in 0..100 {
        let first = reader.read(offset, 1, u64::MAX).unwrap();
        assert_eq!(
            first,
            [batches[offset as usize / 10].clone()],
            "whole, though larger than 1"
        );
    }
    let two = reader.read(35, 2 * size, u64::MAX).unwrap();
    assert_eq!(two.concat(), [&batches[3][..], &batches[4]].concat());
    let two = reader.read(35, 3 * size - 1, u64::MAX).unwrap();
    assert_eq!(two.concat().len(), 2 * size);
    let bounded = reader.read(35, 3 * size, 50).unwrap();
    assert_eq!(
        bounded.concat().len(),
        2 * size,
        "the third reaches offset 59"
    );
    assert!(
        reader.read(35, 3 * size, 39).unwrap().is_empty(),
        "in the middle of a batch"
    );
    assert!(reader.read(35, 3 * size, 20).unwrap().is_empty());
    assert!(reader.read(100, 3 * size, u64::MAX).unwrap().is_empty());
    let beyond = reader.read(101, 1, u64::MAX).unwrap_err();
    assert!(matches!(
        beyond,
        ReadError::OutOfRange {
            offset: 101,
            log_start: 0,
            next_offset: 100
        }
    ));
}

#[test]
fn offsets_are_found_by_time() {
    let disk = MemoryDisk::new();
    let (mut partition, _) = filled(&disk);
    let reader = partition.reader();
    assert_eq!(reader.offset_for_time(0).unwrap(), Some((0, 1_000_000)));
    assert_eq!(
        reader.offset_for_time(1_004_003).unwrap(),
        Some((43, 1_004_003))
    );
    assert_eq!(
        reader.offset_for_time(1_004_010).unwrap(),
        Some((50, 1_005_000))
    );
    assert_eq!(
        reader.offset_for_time(1_009_009).unwrap(),
        Some((99, 1_009_009))
    );
    assert_eq!(reader.offset_for_time(1_009_010).unwrap(), None);
    assert_eq!(reader.newest().unwrap(), Some((99, 1_009_009)));
    // Time runs back: the first record as new as asked counts, not the first index entry.
    append(&mut partition, batch(2, 10, 500));
    append(&mut partition, batch(2, 10, 2_000_000));
    append(&mut partition, batch(2, 10, 1_004_003));
    assert_eq!(
        reader.offset_for_time(1_004_003).unwrap(),
        Some((43, 1_004_003))
    );
    assert_eq!(
        reader.offset_for_time(1_009_010).unwrap(),
        Some((102, 2_000_000))
    );
    assert_eq!(reader.newest().unwrap(), Some((103, 2_000_001)));
    partition.set_log_start(45).unwrap();
    assert_eq!(reader.offset_for_time(0).unwrap(), Some((45, 1_004_005)));
}

#[test]
fn log_start_rises_and_old_segments_go_but_stay_readable_to_holders() {
    let disk = MemoryDisk::new();
    let (mut partition, batches) = filled(&disk);
    let reader = partition.reader();
    let held = Arc::clone(&partition.shared.segments()[0]);
    held.files().unwrap();
    partition.set_log_start(35).unwrap();
    partition.set_log_start(12).unwrap();
    assert_eq!(partition.log_start(), 35);
    assert!(matches!(
        reader.read(34, 1, u64::MAX),
        Err(ReadError::OutOfRange { .. })
    ));
    assert_eq!(reader.read(35, 1, u64::MAX).unwrap(), [batches[3].clone()]);
    assert!(partition.set_log_start(101).is_err());
    let size = batches[0].len() as u64;
    assert_eq!(partition.drop_segments_before(59).unwrap(), 3 * size);
    assert_eq!(partition.size_bytes(), 7 * size);
    assert_eq!(partition.log_start(), 35);
    assert_eq!(
        partition.drop_segments_before(u64::MAX).unwrap(),
        6 * size,
        "never the active"
    );
    assert_eq!((partition.log_start(), reader.log_start()), (90, 90));
    assert!(!disk.exists(&format!("{DIR}/00000000000000000030.timeindex")));
    let Found::Batches(bytes) = held.read(15, 1, u64::MAX).unwrap() else {
        panic!("gone")
    };
    assert_eq!(bytes, batches[1]);
}

#[test]
fn epochs_are_kept_and_end_where_the_next_begins() {
    let disk = MemoryDisk::new();
    let mut partition = new_partition(&disk);
    for epoch in [0, 0, 2, 2, 5] {
        partition.stage(batch(10, 10, 0), epoch, 0).unwrap();
        partition.write().unwrap();
    }
    let mark = PartitionMark {
        next_offset: 40,
        ..partition.mark()
    };
    drop(partition);
    let (partition, notices) = open(&disk, None);
    assert_eq!(notices, []);
    let reader = partition.reader();
    assert_eq!(reader.latest_epoch(), Some(5));
    assert_eq!(reader.epoch_end(1), Some((0, 20)));
    assert_eq!(reader.epoch_end(5), Some((5, 50)));
    assert_eq!(reader.epoch_end(6), None);
    drop(partition);
    let position = mark.position / 5 * 4;
    let (mut partition, _) = open(&disk, Some(PartitionMark { position, ..mark }));
    assert_eq!(partition.reader().latest_epoch(), Some(2));
    append(&mut partition, batch(1, 1, 0));
    drop(partition);
    let (partition, _) = open(&disk, None);
    assert_eq!(
        partition.reader().epoch_end(2),
        Some((2, 41)),
        "the file was cut as well"
    );
}

#[test]
fn a_rewritten_segment_takes_the_place_of_the_old() {
    let disk = MemoryDisk::new();
    let (mut partition, batches) = filled(&disk);
    let reader = partition.reader();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut rewrite = SegmentRewrite::begin(&shared, DIR, 30).unwrap();
    rewrite.append(&batches[4]).unwrap();
    let size = batches[0].len() as u64;
    assert_eq!(
        partition.install(rewrite.finish().unwrap()).unwrap(),
        2 * size
    );
    assert_eq!(
        reader.read(30, 1, u64::MAX).unwrap(),
        [batches[4].clone()],
        "a gap before"
    );
    assert_eq!(
        reader.read(50, 1, u64::MAX).unwrap(),
        [batches[6].clone()],
        "a gap behind"
    );
    assert_eq!(
        reader.offset_for_time(1_003_000).unwrap(),
        Some((40, 1_004_000))
    );
    // One with nothing left.
    let rewrite = SegmentRewrite::begin(&shared, DIR, 60).unwrap();
    assert_eq!(
        partition.install(rewrite.finish().unwrap()).unwrap(),
        3 * size
    );
    let left: Vec<Bytes> = [0, 1, 2, 4, 9]
        .iter()
        .map(|&at: &usize| batches[at].clone())
        .collect();
    // Its file stays until no catalogue names it.
    assert_eq!(partition.segments().len(), 4);
    let closed = |partition: &Partition| {
        let marks = partition.closed().into_iter();
        marks
            .map(|it| (it.base, it.next, it.size_bytes))
            .collect::<Vec<_>>()
    };
    let (first, second) = (3 * size, left[3].len() as u64);
    assert_eq!(closed(&partition), [(0, 30, first), (30, 60, second)]);
    assert_eq!(read_all(&reader, 0), left);
    partition.drop_empty().unwrap();
    assert_eq!(partition.segments().len(), 3);
    assert_eq!(closed(&partition), [(0, 30, first), (30, 90, second)]);
    assert_eq!(read_all(&reader, 0), left);
    let mark = partition.mark();
    drop(partition);
    // A rewrite that was never finished leaves nothing.
    drop(SegmentRewrite::begin(&shared, DIR, 0).unwrap());
    let (partition, notices) = open(&disk, Some(mark));
    assert_eq!(notices, []);
    assert_eq!(read_all(&partition.reader(), 0), left);
    // One file more says how long the new form is.
    assert_eq!(disk.list(DIR).unwrap().len(), 3 * 3 + 2 + 1);
}

#[test]
fn a_partition_can_be_destroyed_and_made_anew() {
    let disk = MemoryDisk::new();
    let (partition, _) = filled(&disk);
    let reader = partition.reader();
    partition.destroy().unwrap();
    assert!(!disk.exists(DIR));
    assert!(reader.read(0, 1, u64::MAX).unwrap().is_empty());
    filled(&disk);
    let partition = new_partition(&disk);
    assert_eq!((partition.next_offset(), partition.size_bytes()), (0, 0));
    assert_eq!(disk.list(DIR).unwrap().len(), 4);
}

#[test]
fn what_is_no_batch_is_refused() {
    let disk = MemoryDisk::new();
    let mut partition = new_partition(&disk);
    let refused = partition.stage(b"no batch".to_vec(), 0, 0).unwrap_err();
    assert!(matches!(refused, Error::Batch { .. }), "{refused}");
    assert!(!partition.latched());
    append(&mut partition, batch(1, 1, 0));
    partition.skip_to(50).unwrap();
    assert!(partition.skip_to(49).is_err());
    assert!(
        partition.reader().read(20, 1, u64::MAX).unwrap().is_empty(),
        "a gap at the end"
    );
    append(&mut partition, batch(1, 1, 0));
    let next = partition.reader().read(20, 1, u64::MAX).unwrap();
    assert_eq!(BatchView::parse(&next[0]).unwrap().0.base_offset(), 50);
}

#[test]
fn a_memory_partition_keeps_the_newest() {
    let size = batch(10, 500, 0).len() as u64;
    let mut partition = MemoryPartition::new(3 * (size + MEMORY_BATCH_OVERHEAD_BYTES));
    let reader = partition.reader();
    let mut all = Vec::new();
    for at in 0..10 {
        let staged = partition
            .stage(batch(10, 500, 1_000_000 + at * 1000), 1, 0)
            .unwrap();
        assert_eq!(staged.base_offset, at as u64 * 10);
        all.push(staged.batch);
        partition.write().unwrap();
    }
    assert_eq!((partition.log_start(), partition.next_offset()), (70, 100));
    assert_eq!(
        reader.read(75, 2 * size as usize, u64::MAX).unwrap(),
        all[7..9]
    );
    assert_eq!(reader.read(75, 1, u64::MAX).unwrap(), all[7..8]);
    assert!(reader.read(75, 1, 79).unwrap().is_empty());
    assert!(reader.read(100, 1, u64::MAX).unwrap().is_empty());
    assert!(matches!(
        reader.read(69, 1, u64::MAX),
        Err(ReadError::OutOfRange { .. })
    ));
    assert_eq!(reader.offset_for_time(0).unwrap(), Some((70, 1_007_000)));
    assert_eq!(reader.newest().unwrap(), Some((99, 1_009_009)));
    assert_eq!(reader.epoch_end(1), Some((1, 100)));
    partition.set_log_start(85).unwrap();
    assert_eq!(reader.size_bytes(), 2 * size);
    assert_eq!(reader.offset_for_time(0).unwrap(), Some((85, 1_008_005)));
    let mut small = MemoryPartition::new(1);
    small.stage(batch(10, 500, 0), 0, 0).unwrap();
    small.write().unwrap();
    assert_eq!(small.log_start(), 0, "one batch is always kept");
    // Small batches take more memory than their bytes.
    let tiny = batch(1, 1, 0).len() as u64;
    let mut many = MemoryPartition::new(10 * (tiny + MEMORY_BATCH_OVERHEAD_BYTES));
    for _ in 0..30 {
        many.stage(batch(1, 1, 0), 0, 0).unwrap();
        many.write().unwrap();
    }
    assert_eq!(many.log_start(), 20);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "readers of other threads are what is tested"
)]
fn readers_follow_a_writer_that_rolls_and_drops() {
    const RECORDS: u64 = 6000;
    let disk = MemoryDisk::new();
    let mut partition = new_partition(&disk);
    let reader = partition.reader();
    let follow = |step_back: u64| {
        let mut offset = 0;
        while offset < RECORDS {
            match reader.read(offset, 9000, u64::MAX) {
                Ok(found) => {
                    for bytes in found {
                        let first = BatchHead::read(&bytes).unwrap();
                        assert!((first.base_offset()..=first.last_offset()).contains(&offset));
                        offset = batches(&bytes).last().unwrap().unwrap().next_offset();
                    }
                }
                Err(ReadError::OutOfRange {
                    log_start,
                    next_offset,
                    ..
                }) => {
                    assert!(log_start > offset, "only what was dropped is out of range");
                    offset = log_start.max(next_offset.saturating_sub(step_back));
                }
                Err(error) => panic!("{error}"),
            }
            if let Some((found, _)) = reader.offset_for_time(1).unwrap() {
                assert!(found < RECORDS);
            }
        }
        offset
    };
    std::thread::scope(|scope| {
        let near = scope.spawn(|| follow(0));
        let far = scope.spawn(|| follow(u64::MAX));
        for at in 0..RECORDS / 3 {
            append(&mut partition, batch(3, 600, 1 + at as i64));
            if at % 50 == 49 {
                partition
                    .drop_segments_before(partition.next_offset().saturating_sub(60))
                    .unwrap();
            }
        }
        assert_eq!(near.join().unwrap(), RECORDS);
        assert_eq!(far.join().unwrap(), RECORDS);
    });
}

#[test]
fn index_entries_are_written_sixteen_at_a_time_and_found_or_made_again() {
    let disk = MemoryDisk::new();
    let settings = PartitionSettings {
        segment_bytes: 1 << 20,
        ..SETTINGS
    };
    let mut partition = Partition::create(Arc::new(disk.clone()), DIR, settings).unwrap();
    let index_bytes = || {
        let file = disk.open(&format!("{DIR}/{:020}.index", 0), crate::disk::Open::Read);
        file.unwrap().len().unwrap()
    };
    for at in 0..40 {
        append(&mut partition, batch(10, 500, 1_000_000 + at * 1000));
        let due = at as u64;
        assert_eq!(index_bytes(), due / 16 * 16 * OFFSET_ENTRY_BYTES, "{at}");
    }
    let reader = partition.reader();
    for offset in 0..400 {
        let found = reader.read(offset, 1, u64::MAX).unwrap();
        let first = batches(&found[0]).next().unwrap().unwrap();
        assert_eq!(first.base_offset(), offset / 10 * 10);
    }
    let time = reader.offset_for_time(1_039_003).unwrap();
    assert_eq!(time, Some((393, 1_039_003)));
    let mark = partition.mark();
    drop(partition);
    let opened = Partition::open(Arc::new(disk.clone()), DIR, settings, Some(mark));
    let (mut partition, notices) = opened.unwrap();
    assert!(notices.is_empty(), "{notices:?}");
    assert_eq!(index_bytes(), 39 * OFFSET_ENTRY_BYTES);
    append(&mut partition, batch(10, 500, 2_000_000));
    assert!(partition.roll().unwrap());
    assert_eq!(index_bytes(), 40 * OFFSET_ENTRY_BYTES);
}

#[test]
fn a_range_is_where_a_read_finds_its_bytes() {
    let disk = MemoryDisk::new();
    let (partition, stored) = filled(&disk);
    let reader = partition.reader();
    let mut ranges = 0;
    for offset in 0..=100 {
        for max_bytes in [0, 1, 5_000, 7_000, 11_000, 1 << 20] {
            for up_to in [0, 1, 10, 15, 20, 45, 60, 99, 100, u64::MAX] {
                let read = reader.read(offset, max_bytes, up_to).unwrap();
                let range = reader.range(offset, max_bytes, up_to, WAITS).unwrap();
                let range = range.expect("there are files");
                let bytes = range.as_ref().map(|range| {
                    let file = Arc::clone(&range.file);
                    Bytes::from(disk::bytes_of(file, range.position, range.size_bytes))
                });
                assert_eq!(read, Vec::from_iter(bytes), "{offset} {max_bytes} {up_to}");
                let last = read.last().and_then(|bytes| batches(bytes).last());
                let end = last.map(|batch| batch.unwrap().head().next_offset());
                assert_eq!(range.map(|range| range.next_offset), end);
                ranges += usize::from(end.is_some());
            }
        }
    }
    assert!(ranges > 1000);
    let all = reader
        .range(0, 1 << 20, u64::MAX, WAITS)
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(all.size_bytes, stored[..3].iter().map(Bytes::len).sum());
    assert!(matches!(
        reader.range(101, 1, u64::MAX, WAITS),
        Err(ReadError::OutOfRange { .. })
    ));

    let memory = MemoryPartition::new(1000);
    let range = memory.reader().range(0, 1, u64::MAX, WAITS);
    assert!(range.unwrap().is_none());
}

#[test]
fn a_range_that_may_not_wait_is_found_without_or_not_at_all() {
    let disk = MemoryDisk::new();
    let (partition, _) = filled(&disk);
    let reader = partition.reader();
    let place = |range: Option<StoredRange>| {
        range.map(|range| (range.position, range.size_bytes, range.next_offset))
    };
    let mut waited = 0;
    for offset in 0..100 {
        for max_bytes in [1, 7_000, 1 << 20] {
            let range = |patience| reader.range(offset, max_bytes, u64::MAX, patience);
            let expected = place(range(WAITS).unwrap().unwrap());
            for nth in 1.. {
                // The nth of its reads would have to wait.
                disk.fail(Operation::ReadNow, "", nth);
                match range(Patience::Never) {
                    Err(error) => assert!(error.would_wait(), "{error}"),
                    Ok(found) => {
                        assert_eq!(place(found.unwrap()), expected);
                        assert!(nth > 1, "it reads");
                        break;
                    }
                }
                waited += 1;
                disk.heal();
            }
            disk.heal();
            // Nothing else is read on the way.
            disk.fail_always(Operation::Read, "");
            assert_eq!(place(range(Patience::Never).unwrap().unwrap()), expected);
            disk.heal();
        }
    }
    assert!(waited > 300);
}

/// What a range that may not wait reads of files, and the range.
fn counted(
    disk: &MemoryDisk,
    reader: &PartitionReader,
    offset: u64,
    max_bytes: usize,
) -> (u64, StoredRange) {
    for nth in 1.. {
        // The nth of its reads would have to wait.
        disk.fail(Operation::ReadNow, "", nth);
        let found = reader.range(offset, max_bytes, u64::MAX, Patience::Never);
        disk.heal();
        match found {
            Err(error) => assert!(error.would_wait(), "{error}"),
            Ok(found) => return (nth - 1, found.unwrap().unwrap()),
        }
    }
    unreachable!("a range ends");
}

/// A segment of 200 batches with 10 records and about 5 KB each, and another behind it.
fn long(disk: &MemoryDisk) -> (Partition, Vec<Bytes>) {
    let settings = PartitionSettings {
        segment_bytes: 1 << 30,
        ..SETTINGS
    };
    let mut partition = Partition::create(Arc::new(disk.clone()), DIR, settings).unwrap();
    let stored = (0..220)
        .map(|at| {
            if at == 200 {
                partition.roll().unwrap();
            }
            append(&mut partition, batch(10, 500, 1_000_000 + at * 1000))
        })
        .collect();
    (partition, stored)
}

#[test]
fn who_reads_on_by_ranges_needs_no_search_for_where_it_was() {
    let disk = MemoryDisk::new();
    let (partition, stored) = long(&disk);
    let reader = partition.reader();
    let size = stored[0].len();
    // Opens the files.
    for offset in [5, 2005] {
        reader.range(offset, 1, u64::MAX, WAITS).unwrap();
    }
    // Four readers take turns.
    let mut offsets = [0, 500, 1000, 1500];
    let first = offsets.map(|offset| counted(&disk, &reader, offset, 7 * size).0);
    assert_eq!(first, [3, 5, 5, 5]);
    for _ in 0..6 {
        for offset in &mut offsets {
            *offset += 70;
            let (reads, range) = counted(&disk, &reader, *offset, 7 * size);
            let place = (range.position, range.size_bytes, range.next_offset);
            let position = *offset / 10 * size as u64;
            assert_eq!(place, (position, 7 * size, *offset + 70));
            // Its first header, of the index a page, and the header behind its end.
            assert_eq!(reads, 3);
        }
    }
    // To the end of the segment, where no header follows, and on into the next.
    let (reads, range) = counted(&disk, &reader, 1990, 7 * size);
    assert_eq!((reads, range.size_bytes), (2, size));
    let (reads, range) = counted(&disk, &reader, 2000, 7 * size);
    assert_eq!((reads, range.position), (3, 0));
}

#[test]
fn a_place_where_something_else_lies_now_is_not_believed() {
    let disk = MemoryDisk::new();
    let (mut partition, stored) = long(&disk);
    let reader = partition.reader();
    let size = stored[0].len();
    let range = |offset| reader.range(offset, 2 * size, u64::MAX, WAITS);
    let position = |offset| range(offset).unwrap().unwrap().unwrap().position;
    let held = Arc::clone(&partition.shared.segments()[0]);
    for offset in [0, 20, 40, 2160] {
        position(offset);
    }
    // The active segment is cut, and grows again by others.
    assert_eq!(partition.truncate_to(2165).unwrap(), 2160);
    assert!(range(2180).is_err(), "out of range");
    assert!(range(2160).unwrap().unwrap().is_none());
    let small = append(&mut partition, batch(20, 1, 0)).len() as u64;
    append(&mut partition, batch(5, 1, 0));
    assert_eq!(position(2160), 16 * size as u64);
    assert_eq!(position(2179), 16 * size as u64);
    assert_eq!(position(2180), 16 * size as u64 + small);
    // A closed one loses batches.
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut rewrite = SegmentRewrite::begin(&shared, DIR, 0).unwrap();
    for at in [1, 2, 4, 6, 7] {
        rewrite.append(&stored[at]).unwrap();
    }
    partition.install(rewrite.finish().unwrap()).unwrap();
    for (offset, at) in [(0, 0), (20, 1), (40, 2), (60, 3), (50, 3), (55, 3), (60, 3)] {
        assert_eq!(position(offset), at * size as u64, "{offset}");
    }
    // Who still has the old one finds in it what was there, or says that it is gone.
    let found = held.range(40, 1, u64::MAX, WAITS).unwrap().unwrap();
    assert!(matches!(found, Found::Batches(range) if range.position == 4 * size as u64));
    // Damage at the place is found as ever.
    let path = format!("{DIR}/{:020}.log", 0);
    let log = disk.open(&path, Open::ReadWrite).unwrap();
    for (bytes, at) in [(65u64.to_be_bytes(), 0), ([0xff; 8], 8)] {
        reader.range(60, size, u64::MAX, WAITS).unwrap();
        log.write_at(&[&bytes], 4 * size as u64 + at).unwrap();
        assert!(matches!(range(70), Err(ReadError::Corrupt { .. })));
    }
}

#[test]
fn a_range_ends_before_what_is_damaged() {
    let disk = MemoryDisk::new();
    let (partition, stored) = filled(&disk);
    let path = format!("{DIR}/00000000000000000000.log");
    let log = disk.open(&path, Open::ReadWrite).unwrap();
    let third = stored[0].len() + stored[1].len();
    log.write_at(&[&[0xff; 8]], third as u64 + 8).unwrap();
    let range = |offset| partition.reader().range(offset, 1 << 20, u64::MAX, WAITS);
    let found = range(0).unwrap().unwrap().unwrap();
    assert_eq!((found.position, found.size_bytes), (0, third));
    assert!(matches!(range(20), Err(ReadError::Corrupt { .. })));
}
