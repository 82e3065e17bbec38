//! Each damage that a disk can do to a partition.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::disk::Operation;

#[test]
fn missing_and_damaged_indexes_are_rebuilt_byte_for_byte() {
    let disk = MemoryDisk::new();
    let (partition, batches) = filled(&disk);
    let mark = partition.mark();
    drop(partition);
    let names = disk.list(DIR).unwrap();
    let before: Vec<_> = names
        .iter()
        .map(|name| disk.contents(&format!("{DIR}/{name}")))
        .collect();
    let index = |base: u64| format!("{DIR}/{base:020}.index");
    let timeindex = |base: u64| format!("{DIR}/{base:020}.timeindex");
    disk.remove_file(&index(0)).unwrap();
    disk.corrupt(&index(30), 12, &[0xff; 4]);
    disk.corrupt(&timeindex(60), 15, &[0x7f; 3]);
    disk.remove_file(&timeindex(90)).unwrap();
    for mark in [Some(mark), None] {
        let (partition, notices) = open(&disk, mark);
        let paths: Vec<&str> = notices.iter().map(|notice| notice.path.as_str()).collect();
        if mark.is_some() {
            assert_eq!(paths, [index(90), index(0), index(30)], "{notices:?}");
        } else {
            assert_eq!(paths, [""; 0], "mended by now");
        }
        assert_eq!(read_all(&partition.reader(), 0), batches);
    }
    let after: Vec<_> = names
        .iter()
        .map(|name| disk.contents(&format!("{DIR}/{name}")))
        .collect();
    for (name, (after, before)) in names.iter().zip(after.iter().zip(&before)) {
        if !name.starts_with("00000000000000000060.t") {
            assert_eq!(after, before, "{name}");
        }
    }
}

#[test]
fn a_wrong_index_entry_costs_time_not_truth() {
    let disk = MemoryDisk::new();
    let (partition, batches) = filled(&disk);
    drop(partition);
    // The first entry of two: opening looks at the last only.
    disk.corrupt(
        &format!("{DIR}/00000000000000000030.index"),
        4,
        &[0, 0, 0x10, 3],
    );
    let (partition, notices) = open(&disk, None);
    assert_eq!(notices, []);
    assert_eq!(
        partition.reader().read(45, 1, u64::MAX).unwrap(),
        [batches[4].clone()]
    );
}

#[test]
fn a_torn_tail_is_cut_and_named() {
    let disk = MemoryDisk::new();
    let (partition, batches) = filled(&disk);
    let mark = partition.mark();
    drop(partition);
    let path = format!("{DIR}/00000000000000000090.log");
    for torn in [&batches[9][..70], &batches[9][..20], &[0; 500]] {
        disk.corrupt(&path, mark.position, torn);
        let (partition, notices) = open(&disk, None);
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0].path, path);
        assert!(
            notices[0]
                .what
                .starts_with(&format!("{} bytes behind", torn.len()))
        );
        assert_eq!(partition.mark(), mark);
        assert_eq!(read_all(&partition.reader(), 0), batches);
        assert_eq!(disk.contents(&path).unwrap().len() as u64, mark.position);
    }
    // A flipped bit in the only batch of the active segment.
    disk.corrupt(&path, 100, &[0xff]);
    let (partition, notices) = open(&disk, None);
    assert!(notices[0].what.contains("checksum"), "{notices:?}");
    assert_eq!(partition.next_offset(), 90);
}

#[test]
fn a_batch_damaged_in_the_middle_is_named_and_the_rest_stays_readable() {
    let disk = MemoryDisk::new();
    let (partition, batches) = filled(&disk);
    let reader = partition.reader();
    let path = format!("{DIR}/00000000000000000030.log");
    let size = batches[0].len() as u64;
    let assert_corrupt = |what: &str| {
        let before = reader.read(30, 100_000, u64::MAX).unwrap();
        assert_eq!(before, [batches[3].clone()], "what lies before the damage");
        let error = reader.read(40, 1, u64::MAX).unwrap_err();
        let ReadError::Corrupt {
            path: found,
            position,
            what: found_what,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((found.as_str(), position), (path.as_str(), size));
        assert!(found_what.contains(what), "{found_what}");
    };
    disk.corrupt(&path, size + 200, b"\xff");
    assert_corrupt("checksum");
    assert_eq!(
        reader.read(50, 1, u64::MAX).unwrap(),
        [batches[5].clone()],
        "by the index"
    );
    for (at, bytes, what) in [
        (8, &[0x7f, 0xff, 0xff, 0xff][..], "length"),
        (8, &[0, 0, 0xff, 0xff], "cut off"),
        (8, &[0, 0, 0, 0], "length"),
        (16, &[1], "version"),
        (0, &[0xff], "offsets"),
        (0, &[0, 0, 0, 0, 0, 1], "offsets"),
    ] {
        let good = batches[4][at..at + bytes.len()].to_vec();
        disk.corrupt(&path, size + at as u64, bytes);
        assert_corrupt(what);
        disk.corrupt(&path, size + at as u64, &good);
    }
    assert_eq!(reader.read(60, 1, u64::MAX).unwrap(), [batches[6].clone()]);
    drop(partition);
    // Rebuilding the index of a damaged closed segment is not fatal, and readers still meet it.
    disk.remove_file(&path.replace(".log", ".index")).unwrap();
    disk.corrupt(&path, size + 16, &[9]);
    let (partition, notices) = open(&disk, None);
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(
        notices[1].what.contains(&format!("byte {size}")),
        "{notices:?}"
    );
    assert!(matches!(
        partition.reader().read(40, 1, u64::MAX),
        Err(ReadError::Corrupt { position, .. }) if position == size
    ));
}

#[test]
fn a_mark_beyond_the_log_is_corruption() {
    let disk = MemoryDisk::new();
    let (partition, _) = filled(&disk);
    let mark = partition.mark();
    drop(partition);
    let error = try_open(
        &disk,
        Some(PartitionMark {
            position: mark.position + 1,
            ..mark
        }),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("00000000000000000090.log is damaged at byte"),
        "{error}"
    );
    assert!(
        try_open(
            &disk,
            Some(PartitionMark {
                position: mark.position - 1,
                ..mark
            })
        )
        .is_err()
    );
}

#[test]
fn a_failed_write_latches() {
    let disk = MemoryDisk::new();
    let (mut partition, batches) = filled(&disk);
    let position = partition.mark().position;
    let reader = partition.reader();
    disk.fail_torn("90.log", 1, 1000);
    partition.stage(batch(5, 100, 0), 0, 0).unwrap();
    partition.stage(batch(5, 100, 0), 0, 0).unwrap();
    let failed = partition.write().unwrap_err();
    let Error::Disk {
        path,
        op: "write",
        position: Some(at),
        ..
    } = &failed
    else {
        panic!("{failed}")
    };
    assert_eq!(
        (path.as_str(), *at),
        (&*format!("{DIR}/00000000000000000090.log"), position)
    );
    assert!(partition.latched());
    assert_eq!(read_all(&reader, 0), batches, "readers see nothing of it");
    assert_eq!(partition.mark().next_offset, 100);
    let refused = partition.stage(batch(1, 1, 0), 0, 0).unwrap_err();
    assert!(
        matches!(refused, Error::Latched { position: at, .. } if at == position),
        "{refused}"
    );
    assert!(matches!(partition.write(), Err(Error::Latched { .. })));
    drop(partition);
    let (partition, notices) = open(&disk, None);
    assert_eq!(notices.len(), 1);
    assert_eq!(
        partition.next_offset() - 100,
        5,
        "the first batch was whole"
    );
}

#[test]
fn a_failed_roll_latches() {
    let disk = MemoryDisk::new();
    let (mut partition, _) = filled(&disk);
    disk.fail(Operation::Open, "00100.index", 1);
    assert!(matches!(
        partition.roll(),
        Err(Error::Disk { op: "open", .. })
    ));
    assert!(partition.latched());
    disk.heal();
    drop(partition);
    let (partition, _) = open(&disk, None);
    assert_eq!(partition.next_offset(), 100);
}

#[test]
fn a_power_cut_loses_what_is_behind_the_mark_and_nothing_else() {
    let disk = MemoryDisk::new();
    let (mut partition, batches) = filled(&disk);
    sync(&mut partition, &disk);
    let mark = partition.mark();
    assert!(partition.take_dirty().files.is_empty(), "handed out once");
    for at in 0..5 {
        append(&mut partition, batch(10, 500, 2_000_000 + at));
    }
    drop(partition);
    let crashed = disk.clone();
    crashed.crash(true);
    let (mut partition, notices) = open(&crashed, Some(mark));
    assert_eq!((partition.mark(), &notices[..]), (mark, &[][..]));
    assert_eq!(read_all(&partition.reader(), 0), batches);
    // A killed process: the bytes are there, the mark cuts them off; replay brings them again.
    for at in 0..5 {
        append(&mut partition, batch(10, 500, 3_000_000 + at));
    }
    drop(partition);
    crashed.crash(false);
    let (mut partition, notices) = open(&crashed, Some(mark));
    assert_eq!((partition.mark(), &notices[..]), (mark, &[][..]));
    assert_eq!(partition.segments().len(), 4);
    assert_eq!(
        append(&mut partition, batch(10, 500, 9)),
        partition_bytes(&partition, 100)
    );
}

fn partition_bytes(partition: &Partition, offset: u64) -> Bytes {
    partition
        .reader()
        .read(offset, 1, u64::MAX)
        .unwrap()
        .remove(0)
}

#[test]
fn opening_at_a_mark_reads_only_the_tail() {
    let disk = MemoryDisk::new();
    let settings = PartitionSettings {
        segment_bytes: 1 << 30,
        ..SETTINGS
    };
    let mut partition = Partition::create(Arc::new(disk.clone()), DIR, settings).unwrap();
    for _ in 0..500 {
        append(&mut partition, batch(10, 500, 1000));
    }
    let mark = partition.mark();
    drop(partition);
    // Were the first half looked at, it would be found damaged. The first header is looked at.
    disk.corrupt(
        &format!("{DIR}/00000000000000000000.log"),
        61,
        &vec![0xee; 1_000_000],
    );
    let (partition, notices) =
        Partition::open(Arc::new(disk.clone()), DIR, settings, Some(mark)).unwrap();
    assert_eq!((partition.mark(), notices), (mark, vec![]));
}

#[test]
fn the_segment_of_the_mark_may_have_been_dropped() {
    let disk = MemoryDisk::new();
    let (mut partition, _) = filled(&disk);
    let mark = partition.mark();
    partition.roll().unwrap();
    append(&mut partition, batch(1, 1, 0));
    partition.drop_segments_before(100).unwrap();
    drop(partition);
    let opened = |mark, accept_loss| {
        let expected = Expected {
            accept_loss,
            ..Expected::default()
        };
        let disk = Arc::new(disk.clone());
        Partition::open_as(disk, DIR, SETTINGS, Some(mark), expected)
    };
    // But not before a checkpoint said so.
    let Err(error) = opened(mark, false) else {
        panic!("it opened");
    };
    assert!(error.to_string().contains("00000000000000000"), "{error}");
    assert!(opened(mark, true).unwrap().lossy);
    let dropped = PartitionMark {
        log_start: mark.next_offset,
        ..mark
    };
    let Opened {
        mut partition,
        notices,
        ..
    } = opened(dropped, false).unwrap();
    assert_eq!(notices, vec![]);
    assert_eq!((partition.log_start(), partition.next_offset()), (100, 100));
    append(&mut partition, batch(1, 1, 0));
    assert_eq!(read_all(&partition.reader(), 100).len(), 1);
}

proptest! {
    /// Whatever stands in the files: opening ends with a partition or an error, and reading from any
    /// offset ends with batches that are whole, or an error that names a place.
    #[test]
    fn garbage_in_the_files_is_met_with_errors(
        changes in vec((any::<Index>(), any::<Index>(), vec(any::<u8>(), 1..12)), 1..6),
        known in any::<bool>(),
        offsets in vec(0..110u64, 1..8),
        times in vec(999_000..1_011_000i64, 1..4),
    ) {
        let disk = MemoryDisk::new();
        let (partition, _) = filled(&disk);
        let mark = partition.mark();
        drop(partition);
        let names = disk.list(DIR).unwrap();
        for (name, at, bytes) in changes {
            let path = format!("{DIR}/{}", names[name.index(names.len())]);
            let len = disk.contents(&path).unwrap_or_default().len();
            if len > 0 {
                disk.corrupt(&path, at.index(len) as u64, &bytes);
            }
        }
        let opened = Partition::open(
            Arc::new(disk.clone()),
            DIR,
            SETTINGS,
            known.then_some(mark),
        );
        let Ok((mut partition, _)) = opened else { return Ok(()) };
        let reader = partition.reader();
        for offset in offsets {
            let Ok(read) = reader.read(offset, 30_000, u64::MAX) else { continue };
            for batch in read.iter().flat_map(|bytes| batches(bytes)) {
                batch.unwrap().verify_crc().unwrap();
            }
        }
        for timestamp_ms in times {
            let _ = reader.offset_for_time(timestamp_ms);
        }
        let _ = reader.newest();
        if partition.stage(batch(3, 100, 0), 0, 0).is_ok() && partition.write().is_ok() {
            let last = partition.next_offset() - 1;
            prop_assert!(reader.read(last, 1, u64::MAX).is_ok());
        }
        let _ = partition.truncate_to(45);
    }
}
