//! Files that are gone or damaged: a start refuses and names the file; `--accept-loss` goes on and
//! says what is lost; the start after that needs no such word any more.

use std::sync::Arc;

use crate::batch::BatchHead;
use crate::disk::{Disk, MemoryDisk, Open};
use crate::error::Error;
use crate::log::tests::{append, checkpoint, open, small, values};
use crate::log::{Log, LogConfig};
use crate::stream::StreamSettings;
use crate::table;

pub(super) fn lenient(disk: &MemoryDisk) -> Result<Log, Error> {
    let config = LogConfig {
        accept_loss: true,
        ..small()
    };
    Log::open(Arc::new(disk.clone()), config, 1000)
}

fn refused(disk: &MemoryDisk) -> String {
    let opened = Log::open(Arc::new(disk.clone()), small(), 1000);
    let Err(error) = opened else {
        panic!("it opened");
    };
    assert!(
        matches!(error, Error::Corrupt { .. } | Error::Hopeless { .. }),
        "{error}"
    );
    error.to_string()
}

pub(super) fn told(log: &Log, part: &str) {
    let notices = &log.recovery().notices;
    assert!(
        notices
            .iter()
            .any(|notice| format!("{}: {}", notice.path, notice.what).contains(part)),
        "{part}: {notices:?}"
    );
    assert!(log.recovery().lossy);
}

/// Whoever reads at `offset`, where what followed to the end is lost, comes to the end at once.
fn passed(log: &Log, offset: u64) {
    let end = log.reader().watermarks(1).unwrap().appended;
    assert_eq!(end, 40);
    for from in [offset, end - 1] {
        let found = log.reader().read(1, from, 1, u64::MAX).unwrap();
        let bytes = found.first().expect("something is told");
        let (batch, _) = crate::batch::BatchView::parse(bytes).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!((batch.count(), batch.next_offset()), (0, end));
        assert_eq!(batch.records().count(), 0);
    }
}

/// A log with one stream of several segments, all durable; answers the base offsets of its
/// segments.
fn segments(disk: &MemoryDisk, compact: bool) -> Vec<u64> {
    let mut log = open(disk);
    let mut settings = StreamSettings::new("s");
    settings.segment_bytes = 4096;
    settings.compact = compact;
    log.create_stream(settings, 0).unwrap();
    for number in 0..40 {
        log.stage(append(1, &[&format!("{number:0500}")]), 0)
            .unwrap();
        log.write().unwrap();
    }
    checkpoint(&mut log, u64::MAX);
    drop(log);
    bases(disk)
}

pub(super) fn bases(disk: &MemoryDisk) -> Vec<u64> {
    let names = disk.list("streams/s-0").unwrap();
    let stems = names.iter().filter_map(|name| name.strip_suffix(".log"));
    stems.map(|stem| stem.parse().unwrap()).collect()
}

pub(super) fn log_of(base: u64) -> String {
    format!("streams/s-0/{base:020}.log")
}

#[test]
fn a_missing_closed_segment_is_missed() {
    for compact in [false, true] {
        let disk = MemoryDisk::new();
        let bases = segments(&disk, compact);
        assert!(bases.len() > 4, "{bases:?}");
        disk.remove_file(&log_of(bases[1])).unwrap();
        let error = refused(&disk);
        assert!(error.contains(&log_of(bases[1])), "{error}");
        assert!(error.contains(&format!("{}", bases[2] - 1)), "{error}");
        assert!(error.contains("--accept-loss"), "{error}");
        let log = lenient(&disk).unwrap();
        told(&log, &format!("offsets {} to {}", bases[1], bases[2] - 1));
        drop(log);
        assert!(!open(&disk).recovery().lossy);
    }
}

#[test]
fn a_missing_first_segment_is_missed_unless_retention_took_it() {
    let disk = MemoryDisk::new();
    let bases = segments(&disk, false);
    let whole = bases[2];
    let mut log = open(&disk);
    let op = crate::entry::Op::SetLogStart {
        partition: 1,
        offset: whole,
    };
    let entry = crate::entry::Entry {
        ops: vec![op],
        appends: Vec::new(),
    };
    log.stage(entry, 0).unwrap();
    log.write().unwrap();
    checkpoint(&mut log, u64::MAX);
    drop(log);
    assert_eq!(self::bases(&disk)[0], whole);
    assert_eq!(values(&open(&disk), 1)[0].0, whole);
    disk.remove_file(&log_of(whole)).unwrap();
    assert!(refused(&disk).contains(&log_of(whole)));
}

#[test]
fn a_missing_active_segment_is_missed() {
    let disk = MemoryDisk::new();
    let bases = segments(&disk, false);
    let last = *bases.last().unwrap();
    disk.remove_file(&log_of(last)).unwrap();
    let error = refused(&disk);
    assert!(error.contains(&log_of(last)), "{error}");
    let mut log = lenient(&disk).unwrap();
    told(&log, &format!("offsets {last} to 39"));
    passed(&log, last);
    let staged = log.stage(append(1, &["next"]), 0).unwrap();
    assert_eq!(staged.base_offsets, [Ok(40)]);
    log.write().unwrap();
    log.close(u64::MAX).unwrap();
    let log = open(&disk);
    assert!(!log.recovery().lossy);
    assert_eq!(values(&log, 1).last(), Some(&(40, "next".to_owned())));
}

#[test]
fn a_short_segment_is_opened_at_its_end_by_accept_loss() {
    let disk = MemoryDisk::new();
    let last = *segments(&disk, false).last().unwrap();
    let file = disk.open(&log_of(last), Open::ReadWrite).unwrap();
    let bytes = file.len().unwrap();
    file.set_len(bytes - 1).unwrap();
    assert!(refused(&disk).contains(&log_of(last)));
    let mut log = lenient(&disk).unwrap();
    told(&log, "offsets 39 to 39");
    passed(&log, 39);
    log.stage(append(1, &["next"]), 0).unwrap();
    log.write().unwrap();
    log.close(u64::MAX).unwrap();
    let log = open(&disk);
    assert!(!log.recovery().lossy);
    assert_eq!(log.reader().watermarks(1).unwrap().appended, 41);
}

/// One bit in a table must not put all its other keys out of reach.
#[test]
fn a_damaged_batch_of_a_table_is_left_out_by_accept_loss() {
    // Of a closed segment and of the active one; in a record, in the length of a batch.
    for (closed, at) in [(true, 300), (false, 300), (true, 8), (false, 8)] {
        let disk = MemoryDisk::new();
        let mut log = open(&disk);
        let mut settings = StreamSettings::new("s");
        settings.segment_bytes = 4096;
        settings.compact = true;
        log.create_stream(settings, 0).unwrap();
        let mut sizes = Vec::new();
        for number in 0..20 {
            let mut builder = crate::batch::BatchBuilder::new();
            let key = format!("key{number}");
            builder.push(0, Some(key.as_bytes()), Some(&[b'v'; 500]), &[]);
            let batch = builder.finish();
            sizes.push(batch.len() as u64);
            let appends = vec![crate::entry::Append::new(1, batch)];
            let entry = crate::entry::Entry {
                appends,
                ops: Vec::new(),
            };
            log.stage(entry, 0).unwrap();
            log.write().unwrap();
        }
        checkpoint(&mut log, u64::MAX);
        drop(log);
        let bases = bases(&disk);
        let base = if closed {
            bases[1]
        } else {
            *bases.last().unwrap()
        };
        // The second batch of that segment.
        let bad = base + 1;
        let position = sizes[base as usize];
        disk.corrupt(&log_of(base), position + at, &[0xA5]);
        let keys = |log: &Log| {
            let mut keys = Vec::new();
            table::load(&log.reader(), 1, None, |row| keys.push(row.offset)).unwrap();
            keys
        };
        let mut log = lenient(&disk).unwrap();
        told(&log, &log_of(base));
        told(&log, &format!("byte {position}"));
        told(&log, &format!("offsets {bad} to {bad}"));
        let expected: Vec<u64> = (0..20).filter(|offset| *offset != bad).collect();
        assert_eq!(keys(&log), expected, "{closed} {at}");
        log.stage(append(1, &["next"]), 0).unwrap();
        log.write().unwrap();
        log.close(u64::MAX).unwrap();
        let log = open(&disk);
        assert!(!log.recovery().lossy);
        assert_eq!(keys(&log).len(), 20);
    }
}

/// Cut between two batches, or inside one.
#[test]
fn a_closed_segment_that_lost_its_end_is_missed() {
    for inside in [false, true] {
        let disk = MemoryDisk::new();
        let bases = segments(&disk, false);
        let path = log_of(bases[1]);
        let first = BatchHead::read(&disk.contents(&path).unwrap()).unwrap();
        let file = disk.open(&path, Open::ReadWrite).unwrap();
        file.set_len(first.size_bytes() as u64 + u64::from(inside) * 100)
            .unwrap();
        let error = refused(&disk);
        assert!(error.contains(&path), "{error}");
        assert!(error.contains("the checkpoint knows"), "{error}");
        let log = lenient(&disk).unwrap();
        let (gone, behind) = (bases[1] + 1, bases[2]);
        told(&log, &format!("offsets {gone} to {} are lost", behind - 1));
        let left: Vec<u64> = (0..40).filter(|at| !(gone..behind).contains(at)).collect();
        let offsets = |log: &Log| {
            values(log, 1)
                .into_iter()
                .map(|it| it.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(offsets(&log), left);
        drop(log);
        let log = open(&disk);
        assert!(!log.recovery().lossy);
        assert_eq!(offsets(&log), left);
    }
}

/// A log with one compacted stream of 40 keys, 20 of which were written twice.
pub(super) fn keyed(disk: &MemoryDisk) -> Log {
    let mut log = open(disk);
    let mut settings = StreamSettings::new("s");
    settings.segment_bytes = 4096;
    settings.compact = true;
    log.create_stream(settings, 0).unwrap();
    for number in (0..40).chain(0..40) {
        // Every other key comes twice.
        let key = if number % 2 == 0 {
            number
        } else {
            number + 100 * log.appended_to()
        };
        let mut builder = crate::batch::BatchBuilder::new();
        builder.push(0, Some(key.to_string().as_bytes()), Some(&[b'v'; 500]), &[]);
        let append = crate::entry::Append::new(1, builder.finish());
        let entry = crate::entry::Entry {
            appends: vec![append],
            ops: Vec::new(),
        };
        log.stage(entry, 0).unwrap();
        log.write().unwrap();
    }
    checkpoint(&mut log, u64::MAX);
    log
}

/// Before, between and behind the steps of compaction a start finds nothing missing; a compacted
/// segment that lost its end is missed, whether the catalogue knows of the compaction or not.
#[test]
fn a_compacted_segment_that_lost_its_end_is_missed() {
    for (power_cut, installed, known) in [
        (false, false, false),
        (true, false, false),
        (false, true, false),
        (true, true, false),
        (false, true, true),
    ] {
        let what = format!("{power_cut} {installed} {known}");
        let disk = MemoryDisk::new();
        let mut log = keyed(&disk);
        let before = log.reader().size_bytes(1).unwrap();
        let mut run = log.compaction(u64::MAX / 2).unwrap();
        while !run.step().unwrap() {}
        if installed {
            log.compacted(run, u64::MAX / 2).unwrap();
            assert!(log.reader().size_bytes(1).unwrap() < before);
        }
        if known {
            checkpoint(&mut log, u64::MAX);
        }
        drop(log);
        disk.crash(power_cut);
        let copy = MemoryDisk::new();
        copy.clone_from_disk(&disk);
        let log = open(&copy);
        assert!(
            log.recovery().notices.is_empty(),
            "{what}: {:?}",
            log.recovery().notices
        );
        let whole = offsets_in(&log);
        drop(log);

        let base = bases(&disk)[1];
        let path = log_of(base);
        let at = positions(&disk, base);
        let file = disk.open(&path, Open::ReadWrite).unwrap();
        file.set_len(at[at.len() - 2]).unwrap();
        let error = refused(&disk);
        assert!(error.contains(&path), "{what}: {error}");
        assert!(error.contains("the checkpoint knows"), "{what}: {error}");
        let log = lenient(&disk).unwrap();
        told(&log, &format!("{path}: at byte {}", at[at.len() - 2]));
        assert!(offsets_in(&log).len() < whole.len(), "{what}");
        drop(log);
        assert!(!open(&disk).recovery().lossy, "{what}");
    }
}

/// Compaction may have made a closed segment shorter since the catalogue was written.
#[test]
fn a_compacted_segment_may_be_shorter_than_the_checkpoint_knows() {
    let disk = MemoryDisk::new();
    segments(&disk, true);
    let mut log = open(&disk);
    let before = log.reader().size_bytes(1).unwrap();
    let mut run = log.compaction(u64::MAX / 2).unwrap();
    while !run.step().unwrap() {}
    log.compacted(run, u64::MAX / 2).unwrap();
    assert!(log.reader().size_bytes(1).unwrap() < before);
    drop(log);
    assert!(!open(&disk).recovery().lossy);
}

/// Which offsets a batch has lies outside its checksum; what else there is tells what they were.
#[test]
fn offsets_behind_the_checkpoint_are_put_right_by_accept_loss() {
    let disk = MemoryDisk::new();
    let last = *segments(&disk, false).last().unwrap();
    let path = log_of(last);
    let bytes = disk.contents(&path).unwrap();
    let mut at = 0;
    while let Ok(head) = BatchHead::read(&bytes[at..])
        && at + head.size_bytes() < bytes.len()
    {
        at += head.size_bytes();
    }
    disk.corrupt(&path, at as u64, &1000_u64.to_be_bytes());
    let error = refused(&disk);
    assert!(error.contains("behind the checkpoint's"), "{error}");
    assert!(error.contains("--accept-loss"), "{error}");
    let mut log = lenient(&disk).unwrap();
    told(
        &log,
        "it begins with offset 1000; that is damaged, and 39 was put",
    );
    let staged = log.stage(append(1, &["next"]), 0).unwrap();
    assert_eq!(staged.base_offsets, [Ok(40)]);
    log.write().unwrap();
    log.close(u64::MAX).unwrap();
    let log = open(&disk);
    assert!(!log.recovery().lossy);
    assert_eq!(values(&log, 1).len(), 41);
}

/// Byte at which each batch of a segment begins.
pub(super) fn positions(disk: &MemoryDisk, base: u64) -> Vec<u64> {
    let bytes = disk.contents(&log_of(base)).unwrap();
    let mut positions = vec![0];
    while let Ok(head) = BatchHead::read(&bytes[positions[positions.len() - 1] as usize..]) {
        positions.push(positions[positions.len() - 1] + head.size_bytes() as u64);
    }
    positions
}

/// Partition 1, of which these of 40 offsets are left, is appended to behind all that there were; a
/// start after that needs no leave to lose anything.
pub(super) fn goes_on(disk: &MemoryDisk, mut log: Log, mut left: Vec<u64>) {
    let staged = log.stage(append(1, &["next"]), 0).unwrap();
    assert_eq!(staged.base_offsets, [Ok(40)]);
    log.write().unwrap();
    drop(log);
    let log = open(disk);
    assert!(!log.recovery().lossy);
    left.push(40);
    assert_eq!(offsets_in(&log), left);
}

pub(super) fn offsets_in(log: &Log) -> Vec<u64> {
    values(log, 1)
        .into_iter()
        .map(|(offset, _)| offset)
        .collect()
}

/// One bit in a base offset makes those behind it look out of order: they stay all the same, and
/// so does the batch itself where its place is known.
#[test]
fn an_offset_that_went_astray_takes_nothing_behind_it_with_it() {
    for (compact, closed, crowded) in [
        (false, false, true),
        (false, false, false),
        (true, false, true),
        (true, false, false),
        (true, true, true),
        (true, true, false),
    ] {
        let disk = MemoryDisk::new();
        let bases = segments(&disk, compact);
        let base = if closed {
            bases[1]
        } else {
            *bases.last().unwrap()
        };
        let at = positions(&disk, base);
        assert!(at.len() > 5, "{at:?}");
        let (astray, said) = (base + 1, base + 4);
        disk.corrupt(&log_of(base), at[1], &said.to_be_bytes());
        if !crowded {
            disk.corrupt(&log_of(base), at[2] + 100, &[0xA5]);
        }
        if !compact {
            assert!(refused(&disk).contains(&log_of(base)));
        }
        let log = lenient(&disk).unwrap();
        let mut left: Vec<u64> = (0..40).collect();
        if crowded {
            told(
                &log,
                &format!(
                    "{}: the batch at byte {} says that it begins with offset {said}; that is \
                     damaged, and {astray} was put in its place",
                    log_of(base),
                    at[1]
                ),
            );
        } else {
            let next = astray + 1;
            let gone = format!("left out, and offsets {astray} to {next} with it");
            told(
                &log,
                &format!("it says that it holds offsets {said} to {said}"),
            );
            told(
                &log,
                &format!("batch at byte {} is damaged: checksum", at[2]),
            );
            assert_eq!(log.recovery().notices.len(), 2);
            let notices = log.recovery().notices.iter();
            assert!(notices.clone().all(|notice| notice.what.contains(&gone)));
            left.retain(|offset| ![astray, next].contains(offset));
        }
        assert_eq!(offsets_in(&log), left, "{compact} {closed} {crowded}");
        let texts = values(&log, 1).into_iter();
        for (offset, text) in texts {
            assert_eq!(text, format!("{offset:0500}"));
        }
        goes_on(&disk, log, left);
    }
}

/// Without its index, whoever reads in a closed segment walks into what is damaged.
#[test]
fn a_closed_segment_damaged_before_a_lost_index_keeps_what_lies_behind() {
    let disk = MemoryDisk::new();
    let base = segments(&disk, false)[1];
    let bad = base + 1;
    disk.corrupt(&log_of(base), positions(&disk, base)[1] + 16, &[9]);
    disk.remove_file(&log_of(base).replace(".log", ".index"))
        .unwrap();
    let log = lenient(&disk).unwrap();
    told(
        &log,
        &format!("left out, and offsets {bad} to {bad} with it"),
    );
    let left: Vec<u64> = (0..40).filter(|offset| *offset != bad).collect();
    assert_eq!(offsets_in(&log), left);
    drop(log);
    assert_eq!(offsets_in(&open(&disk)), left);
}

/// The very batch that the last index entry points to is cut.
#[test]
fn damage_at_the_last_index_entry_is_cut_by_accept_loss() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk);
    log.create_stream(StreamSettings::new("s"), 0).unwrap();
    for number in 0..40 {
        log.stage(append(1, &[&format!("{number:0500}")]), 0)
            .unwrap();
        log.write().unwrap();
    }
    checkpoint(&mut log, u64::MAX);
    log.close(u64::MAX).unwrap();
    drop(open(&disk));
    let index = disk
        .contents("streams/s-0/00000000000000000000.index")
        .unwrap();
    let (entries, _) = index.as_chunks::<4>();
    let position = u32::from_be_bytes(*entries.last().unwrap());
    assert!(position > 0);
    let bad = u32::from_be_bytes(entries[entries.len() - 2]);
    let file = disk.open(&log_of(0), Open::ReadWrite).unwrap();
    file.set_len(u64::from(position) + 100).unwrap();
    assert!(refused(&disk).contains(&log_of(0)));
    let mut log = lenient(&disk).unwrap();
    told(&log, &format!("offsets {bad} to 39"));
    let staged = log.stage(append(1, &["next"]), 0).unwrap();
    assert_eq!(staged.base_offsets, [Ok(40)]);
    log.write().unwrap();
    assert_eq!(values(&log, 1).len(), bad as usize + 1);
    drop(log);
    assert!(!open(&disk).recovery().lossy);
}

#[test]
fn what_accept_loss_cannot_help_does_not_promise_it() {
    let disk = MemoryDisk::new();
    segments(&disk, false);
    disk.corrupt("catalogue", 30, &[0xA5]);
    let error = refused(&disk);
    assert!(!error.contains("on without what is lost"), "{error}");
    assert!(error.contains("catalogue"), "{error}");
}
