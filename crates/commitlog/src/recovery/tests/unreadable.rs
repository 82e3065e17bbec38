//! Sectors that answer a read with an error, instead of other bytes: a start that needs them refuses
//! and says where and what to do, and with `--accept-loss` they count as damaged.

use std::sync::Arc;

use super::losses::{bases, goes_on, keyed, lenient, log_of, offsets_in, positions, told};
use crate::disk::{Disk, MemoryDisk};
use crate::error::Error;
use crate::log::Log;
use crate::log::tests::{append, checkpoint, flush, open, small, values};
use crate::stream::StreamSettings;
use crate::table;

const SECTOR: u64 = 4096;

/// Refused by what the operating system says, with the file, this byte of it, and a way on.
fn refused(disk: &MemoryDisk, path: &str, byte: u64) {
    let opened = Log::open(Arc::new(disk.clone()), small(), 1000);
    let error = opened.err().expect("it refuses to open");
    assert!(matches!(error, Error::Disk { .. }), "{error}");
    let error = error.to_string();
    for part in [
        format!("cannot read {path} at byte {byte}: "),
        "restore the file from a copy".into(),
        "--accept-loss".into(),
    ] {
        assert!(error.contains(&part), "{part}: {error}");
    }
}

/// One segment of 40 batches of more than 500 bytes.
fn one_segment(disk: &MemoryDisk) {
    let mut log = open(disk);
    log.create_stream(StreamSettings::new("s"), 0).unwrap();
    for number in 0..40 {
        let text = format!("{number:0500}");
        log.stage(append(1, &[&text]), 0).unwrap();
        log.write().unwrap();
    }
    checkpoint(&mut log, u64::MAX);
}

#[test]
fn a_bad_sector_at_the_end_of_a_stream_takes_only_what_lies_in_it() {
    let disk = MemoryDisk::new();
    one_segment(&disk);
    let path = log_of(0);
    let at = positions(&disk, 0);
    let end = at[at.len() - 1];
    let bad = (end / SECTOR - 1) * SECTOR;
    disk.make_unreadable(&path, bad, bad + SECTOR);
    refused(&disk, &path, bad);
    let log = lenient(&disk).unwrap();
    let last = bad + SECTOR - 1;
    told(
        &log,
        &format!("{path}: bytes {bad} to {last} cannot be read"),
    );
    let left: Vec<u64> = (0..40)
        .filter(|&batch| at[batch as usize + 1] <= bad || at[batch as usize] > last)
        .collect();
    assert!((30..39).contains(&left.len()), "{left:?}");
    assert_eq!(left.last(), Some(&39), "what lies behind it stays");
    let lost = left.windows(2).find(|pair| pair[1] > pair[0] + 1).unwrap();
    told(
        &log,
        &format!("offsets {} to {} with it", lost[0] + 1, lost[1] - 1),
    );
    assert_eq!(offsets_in(&log), left);
    // The file was made anew elsewhere: nothing needs leave any more.
    goes_on(&disk, log, left);
}

#[test]
fn a_bad_sector_of_a_table_takes_only_its_own_keys() {
    let disk = MemoryDisk::new();
    drop(keyed(&disk));
    let keys = |log: &Log| {
        let mut keys = 0;
        table::load(&log.reader(), 1, None, |_| keys += 1).map(|_| keys)
    };
    let all = keys(&open(&disk)).unwrap();
    let base = bases(&disk)[2];
    let at = positions(&disk, base);
    // A small sector, as the segments are small.
    disk.make_unreadable(&log_of(base), at[1] + 10, at[1] + 20);
    let error = keys(&open(&disk)).unwrap_err().to_string();
    let byte = at[1] + 10;
    assert!(
        error.contains(&format!("{} at byte {byte}", log_of(base))),
        "{error}"
    );
    assert!(error.contains("--accept-loss"), "{error}");
    let log = lenient(&disk).unwrap();
    told(&log, &format!("{}: bytes {byte} to", log_of(base)));
    assert!(keys(&log).unwrap() < all);
    drop(log);
    let log = open(&disk);
    assert!(!log.recovery().lossy);
    keys(&log).unwrap();
}

#[test]
fn a_bad_sector_of_the_journal_ends_it_there() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 0).unwrap();
    for number in 0..6 {
        let text = format!("{number:05000}");
        log.stage(append(1, &[&text]), 0).unwrap();
        log.write().unwrap();
        flush(&mut log);
    }
    drop(log);
    let path = "journal/0000000001.part";
    let contents = disk.contents(path).unwrap();
    let third = format!("{:05000}", 3);
    let found = contents
        .windows(third.len())
        .position(|window| window == third.as_bytes());
    let bad = (found.unwrap() as u64 / SECTOR + 1) * SECTOR;
    disk.make_unreadable(path, bad, bad + SECTOR);
    refused(&disk, path, bad);
    let mut log = lenient(&disk).unwrap();
    told(&log, &format!("{path}: bytes {bad} to"));
    told(&log, "although the journal was flushed up to entry");
    assert_eq!(offsets_in(&log), [0, 1, 2]);
    for _ in 0..40 {
        // All around the journal: the bad sector is not written into.
        log.stage(append(1, &[&third]), 0).unwrap();
        log.write().unwrap();
        flush(&mut log);
        checkpoint(&mut log, u64::MAX);
    }
    assert!(!disk.exists(path), "nobody else may use it either");
    drop(log);
    let log = open(&disk);
    assert!(!log.recovery().lossy);
    assert_eq!(values(&log, 1).len(), 43);
}

#[test]
fn an_index_that_cannot_be_read_is_made_anew() {
    for name in ["index", "timeindex"] {
        let disk = MemoryDisk::new();
        one_segment(&disk);
        open(&disk).close(u64::MAX).unwrap();
        let path = log_of(0).replace("log", name);
        assert!(!disk.contents(&path).unwrap().is_empty());
        disk.make_unreadable(&path, 0, SECTOR);
        let log = open(&disk);
        let notices = format!("{:?}", log.recovery().notices);
        assert!(
            notices.contains("cannot be read; both indexes"),
            "{notices}"
        );
        assert!(!log.recovery().lossy);
        assert_eq!(offsets_in(&log).len(), 40);
    }
}

#[test]
fn a_catalogue_that_cannot_be_read_promises_nothing() {
    let disk = MemoryDisk::new();
    one_segment(&disk);
    disk.make_unreadable("catalogue", 0, SECTOR);
    for opened in [
        lenient(&disk),
        Log::open(Arc::new(disk.clone()), small(), 0),
    ] {
        let error = opened.err().expect("it refuses to open");
        assert!(matches!(error, Error::Hopeless { .. }), "{error}");
        let error = error.to_string();
        assert!(
            error.contains("catalogue") && error.contains("from a backup"),
            "{error}"
        );
    }
}
