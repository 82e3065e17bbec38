//! Each named condition of the disk has a defined behaviour and a message with file and position.

use std::io;
use std::sync::Arc;

use crate::catalogue::CATALOGUE;
use crate::disk::{Disk, DiskFile, MemoryDisk, Open, Operation};
use crate::entry::{Entry, Op};
use crate::error::Error;
use crate::journal::DirtyPart;
use crate::log::tests::{append, checkpoint, flush, open, small, values};
use crate::log::{Log, LogConfig};
use crate::partition::Notice;
use crate::stream::StreamSettings;

const PART: &str = "journal/0000000001.part";

fn written(disk: &MemoryDisk, records: &[&str]) -> Log {
    let mut log = open(disk);
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    for record in records {
        log.stage(append(1, &[record]), 1000).unwrap();
        log.write().unwrap();
        flush(&mut log);
    }
    log
}

fn open_with(disk: &MemoryDisk, change: impl Fn(&mut LogConfig)) -> Result<Log, Error> {
    let mut config = small();
    change(&mut config);
    Log::open(Arc::new(disk.clone()), config, 2000)
}

fn refused(disk: &MemoryDisk) -> String {
    open_with(disk, |_| ())
        .err()
        .expect("the log refuses to open")
        .to_string()
}

/// Where these bytes are in a file.
fn find(disk: &MemoryDisk, path: &str, bytes: &[u8]) -> u64 {
    let contents = disk.contents(path).unwrap();
    contents
        .windows(bytes.len())
        .position(|window| window == bytes)
        .unwrap() as u64
}

fn texts(log: &Log) -> Vec<String> {
    values(log, 1).into_iter().map(|(_, text)| text).collect()
}

/// Appends records until so many parts of the journal were begun behind the one in use.
fn fill_parts(log: &mut Log, parts: u64, told: &mut Vec<String>) {
    let generation = log.journal.mark().generation;
    while log.journal.mark().generation < generation + parts {
        told.push(format!("record {} {}", told.len(), "x".repeat(900)));
        log.stage(append(1, &[told.last().unwrap()]), 1000).unwrap();
        log.write().unwrap();
    }
}

#[test]
fn a_checkpoint_makes_durable_without_the_parts_of_the_journal_that_it_frees() {
    for rounds in 1..4 {
        for flushes in [false, true] {
            let disk = MemoryDisk::new();
            let mut log = written(&disk, &[]);
            let mut told = Vec::new();
            for _ in 0..rounds {
                fill_parts(&mut log, 2, &mut told);
                checkpoint(&mut log, u64::MAX);
                assert_eq!(log.flushed_to(), log.appended_to());
            }
            if flushes {
                fill_parts(&mut log, 1, &mut told);
                flush(&mut log);
            }
            disk.crash(true);
            let log = open_with(&disk, |_| ()).unwrap();
            assert!(texts(&log) == told, "{rounds} rounds, flushed: {flushes}");
        }
    }
}

/// A part that is new, and free without ever having been needed.
#[test]
fn a_part_is_synced_with_its_name_before_it_is_used_again() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &[]);
    let mut told = Vec::new();
    fill_parts(&mut log, 1, &mut told);
    let mut begun = log.checkpoint(u64::MAX).unwrap();
    while !begun.step().unwrap() {}
    fill_parts(&mut log, 1, &mut told);
    let new = log.journal.dirty().last().unwrap().clone();
    assert!(new.new);
    log.checkpointed(begun).unwrap();
    fill_parts(&mut log, 1, &mut told);
    assert!(!log.journal.dirty().last().unwrap().new);
    checkpoint(&mut log, u64::MAX);
    fill_parts(&mut log, 1, &mut told);
    assert_eq!(log.journal.dirty().last().unwrap().path, new.path);
    flush(&mut log);
    disk.crash(true);
    let log = open_with(&disk, |_| ()).unwrap();
    assert!(texts(&log) == told);
}

#[test]
fn a_checkpoint_syncs_of_the_journal_what_is_kept_and_what_is_new() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &[]);
    let mut told = Vec::new();
    // Each part is used once.
    for _ in 0..2 {
        fill_parts(&mut log, 2, &mut told);
        checkpoint(&mut log, u64::MAX);
    }
    let kept_from = log.appended_to();
    fill_parts(&mut log, 2, &mut told);
    let paths = |parts: Vec<DirtyPart>| parts.into_iter().map(|part| part.path).collect();
    let dirty: Vec<String> = paths(log.journal.dirty().to_vec());
    assert!(dirty.len() >= 2);
    let needed: Vec<String> = paths(log.journal.dirty_and_needed(log.appended_to()));
    assert_eq!(needed, dirty[dirty.len() - 1..], "only where the mark is");
    let needed: Vec<String> = paths(log.journal.dirty_and_needed(kept_from));
    assert_eq!(needed, dirty, "all of it is behind what must be kept");

    disk.fail_always(Operation::Sync, &dirty[0]);
    checkpoint(&mut log, u64::MAX);
    assert_eq!(log.flushed_to(), log.appended_to());
}

#[test]
fn full_disk() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    disk.set_free_bytes(10 << 20);
    let error = log.stage(append(1, &["two"]), 5000).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(
        error.to_string().contains("10485760 bytes are free"),
        "{error}"
    );
    assert!(log.latched().is_none());
    // What frees space is still taken.
    let ops = vec![Op::SetLogStart {
        partition: 1,
        offset: 1,
    }];
    log.stage(
        Entry {
            ops,
            appends: Vec::new(),
        },
        5000,
    )
    .unwrap();
    log.write().unwrap();
    flush(&mut log);
    checkpoint(&mut log, u64::MAX);
    disk.set_free_bytes(1 << 30);
    log.stage(append(1, &["two"]), 5050).unwrap_err();
    log.stage(append(1, &["two"]), 5100).unwrap();
    log.write().unwrap();
    assert_eq!(texts(&log), ["two"]);
}

struct ReadOnlyDisk(MemoryDisk);

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        if how == Open::Read {
            self.0.open(path, how)
        } else {
            Err(read_only())
        }
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn create_dir(&self, _: &str) -> io::Result<()> {
        Err(read_only())
    }
    fn remove_file(&self, _: &str) -> io::Result<()> {
        Err(read_only())
    }
    fn remove_dir(&self, _: &str) -> io::Result<()> {
        Err(read_only())
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(read_only())
    }
    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn exists(&self, path: &str) -> bool {
        self.0.exists(path)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "read-only file system")
}

#[test]
fn read_only_disk() {
    let disk = MemoryDisk::new();
    drop(written(&disk, &["one"]));
    let opened = Log::open(Arc::new(ReadOnlyDisk(disk)), small(), 2000);
    let error = opened.err().unwrap().to_string();
    assert!(
        error.contains("cannot create write-probe: read-only file system"),
        "{error}"
    );
    assert!(error.contains("rights on the data directory"), "{error}");
}

#[test]
fn failed_write_of_the_journal() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    log.stage(append(1, &["two"]), 1000).unwrap();
    disk.fail_torn("journal", 1, 30);
    let error = log.write().unwrap_err().to_string();
    assert!(
        error.contains(&format!("cannot write {PART} at byte ")),
        "{error}"
    );
    for error in [
        log.stage(append(1, &["three"]), 1000).unwrap_err(),
        log.write().unwrap_err(),
        log.latched().unwrap(),
        log.reader().latched().unwrap(),
    ] {
        assert!(
            error
                .to_string()
                .contains(&format!("since {PART} failed at byte ")),
            "{error}"
        );
    }
    assert!(log.flush_ticket().is_none());
    assert!(log.checkpoint(0).is_none());
    assert_eq!(texts(&log), ["one"], "reading goes on");
    drop(log);
    disk.crash(false);
    assert_eq!(texts(&open(&disk)), ["one"]);
}

#[test]
fn failed_write_of_a_segment() {
    let disk = MemoryDisk::new();
    drop(written(&disk, &["one"]));
    let at_once = LogConfig {
        gathered_bytes_max: 0,
        ..small()
    };
    let mut log = Log::open(Arc::new(disk.clone()), at_once, 1000).unwrap();
    log.stage(append(1, &["two"]), 1000).unwrap();
    disk.fail(Operation::Write, "streams/s-0/0", 1);
    let error = log.write().unwrap_err().to_string();
    assert!(
        error.contains("cannot write streams/s-0/00000000000000000000.log at byte "),
        "{error}"
    );
    assert!(log.latched().is_some());
    assert_eq!(log.reader().watermarks(1).unwrap().appended, 1);
    drop(log);
    // The journal has it, so that is where it comes from.
    assert_eq!(texts(&open(&disk)), ["one", "two"]);
}

#[test]
fn failed_write_of_what_has_gathered() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    log.stage(append(1, &["two"]), 1000).unwrap();
    disk.fail(Operation::Write, "streams/s-0/0", 1);
    log.write().unwrap();
    let error = loop {
        if let Err(error) = log.write_gathered() {
            break error.to_string();
        }
    };
    assert!(
        error.contains("cannot write streams/s-0/00000000000000000000.log at byte "),
        "{error}"
    );
    assert!(log.latched().is_some() && !log.gathers());
    log.stage(append(1, &["three"]), 1000).unwrap_err();
    // It was told to be appended, and is there: in memory, then from the journal.
    assert_eq!(texts(&log), ["one", "two"]);
    drop(log);
    assert_eq!(texts(&open(&disk)), ["one", "two"]);
}

#[test]
fn failed_flush() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    log.stage(append(1, &["two"]), 1000).unwrap();
    log.write().unwrap();
    let ticket = log.flush_ticket().unwrap();
    disk.fail(Operation::Sync, "journal", 1);
    let error = ticket.run().err().unwrap().to_string();
    assert!(
        error.contains(&format!("cannot sync {PART} at byte ")),
        "{error}"
    );
    let error = log
        .stage(append(1, &["three"]), 1000)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("since {PART} failed at byte ")),
        "{error}"
    );
    assert_eq!(log.reader().watermarks(1).unwrap().flushed, 1);
    drop(log);
    disk.crash(true);
    assert_eq!(texts(&open(&disk)), ["one"]);
}

#[test]
fn failed_checkpoint() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    let mut run = log.checkpoint(0).unwrap();
    disk.fail(Operation::Sync, "streams/s-0", 1);
    let error = loop {
        match run.step() {
            Ok(done) => assert!(!done),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("cannot sync streams/s-0/"), "{error}");
    log.write().unwrap_err();
    drop(log);
    disk.crash(true);
    assert_eq!(texts(&open(&disk)), ["one"]);
}

#[test]
fn torn_tail() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    log.stage(append(1, &["torn"]), 1000).unwrap();
    disk.fail_torn("journal", 1, 100);
    log.write().unwrap_err();
    drop(log);
    disk.crash(false);
    let log = open(&disk);
    assert_eq!(texts(&log), ["one"]);
    let notice = &log.recovery().notices[0];
    assert_eq!(notice.path, PART);
    assert!(
        notice.what.contains("ends before entry 3 at byte "),
        "{}",
        notice.what
    );
    assert!(
        notice.what.contains("its checksum does not match"),
        "{}",
        notice.what
    );
    assert!(!log.recovery().lossy);
}

#[test]
fn zeros_behind_the_end() {
    let disk = MemoryDisk::new();
    drop(written(&disk, &["one"]));
    let log = open(&disk);
    let what = &log.recovery().end.as_ref().unwrap().what;
    assert!(what.contains("nothing is written there"), "{what}");
    assert_eq!(log.recovery().notices, []);
    assert_eq!(texts(&log), ["one"]);
}

/// Where a journal ends as each does, nobody has to be warned: behind it are zeros, entries of an
/// older use of the part, or nothing at all.
#[test]
fn an_end_like_any_other_is_no_warning() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    // Through all parts, so that they are used again.
    for number in 0..120 {
        let text = format!("{number:04000}");
        log.stage(append(1, &[&text]), 1000).unwrap();
        log.write().unwrap();
        flush(&mut log);
        if log.checkpoint(u64::MAX).is_some_and(|mut run| {
            while !run.step().unwrap() {}
            log.checkpointed(run).unwrap();
            number % 7 == 0
        }) {
            log.close(u64::MAX).unwrap();
            log = open(&disk);
            assert!(log.recovery().clean);
            assert_eq!(log.recovery().notices, [], "{number}");
        } else if number % 5 == 0 {
            drop(log);
            log = open(&disk);
            assert_eq!(log.recovery().notices, [], "{number}");
            assert!(log.recovery().end.is_some());
        }
    }
}

/// Entries behind a gap that nobody knew to be flushed are lost, and an operator is told.
#[test]
fn an_end_before_whole_entries_is_told() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    for text in ["two", "three"] {
        log.stage(append(1, &[text]), 1000).unwrap();
        log.write().unwrap();
    }
    drop(log);
    let value = find(&disk, PART, b"two");
    let bytes = disk.contents(PART).unwrap();
    let magic = bytes[..value as usize]
        .windows(4)
        .rposition(|it| *it == crate::entry::ENTRY_MAGIC);
    let head = [0; crate::entry::ENTRY_HEAD_BYTES];
    disk.corrupt(PART, magic.unwrap() as u64, &head);
    let log = open(&disk);
    assert_eq!(texts(&log), ["one"]);
    let what = &log.recovery().notices[0].what;
    assert!(what.contains("ends before entry 3"), "{what}");
    assert!(log.recovery().end.is_none());
}

#[test]
fn missing_index() {
    for (gone, what) in [
        ("index", "the index is missing"),
        ("timeindex", "the time index is missing"),
    ] {
        let disk = MemoryDisk::new();
        let mut log = written(&disk, &["one", "two"]);
        checkpoint(&mut log, u64::MAX);
        drop(log);
        disk.remove_file(&format!("streams/s-0/00000000000000000000.{gone}"))
            .unwrap();
        let segment = disk.contents("streams/s-0/00000000000000000000.log");
        let bytes = segment.unwrap().len();
        let log = open(&disk);
        assert_eq!(texts(&log), ["one", "two"]);
        assert_eq!(
            log.reader().offset_for_time(1, 500).unwrap(),
            Some((0, 1000))
        );
        let notices = &log.recovery().notices;
        let told = notices.iter().find(|notice| {
            notice.path == "streams/s-0/00000000000000000000.index"
                && notice.what
                    == format!(
                        "{what}; both indexes were rebuilt from bytes 0 to {bytes} of the log"
                    )
        });
        assert!(told.is_some(), "{notices:?}");
        assert!(!log.recovery().lossy);
        drop(log);
        let notices = &open(&disk).recovery().notices.clone();
        let again = |notice: &&Notice| notice.path.ends_with("index");
        assert_eq!(notices.iter().find(again), None, "it was rebuilt for good");
    }
}

#[test]
fn corrupted_batch_in_the_middle_of_a_segment() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one", "two", "three"]);
    checkpoint(&mut log, u64::MAX);
    drop(log);
    let path = "streams/s-0/00000000000000000000.log";
    let second = crate::batch::BatchHead::read(&disk.contents(path).unwrap())
        .unwrap()
        .size_bytes();
    disk.corrupt(path, find(&disk, path, b"two"), b"TWO");
    let log = open(&disk);
    let reader = log.reader();
    assert_eq!(reader.read(1, 0, 1, u64::MAX).unwrap().len(), 1);
    let error = reader.read(1, 1, 1, u64::MAX).unwrap_err().to_string();
    assert!(
        error.contains(&format!("{path} is damaged at byte {second}: ")),
        "{error}"
    );
    assert_eq!(reader.read(1, 2, 1, u64::MAX).unwrap().len(), 1);
}

#[test]
fn corrupted_entry_in_the_middle_of_the_journal() {
    let disk = MemoryDisk::new();
    drop(written(&disk, &["one", "two", "three", "four"]));
    let at = find(&disk, PART, b"two");
    disk.corrupt(PART, at, b"TWO");
    for _ in 0..2 {
        let error = refused(&disk);
        assert!(
            error.contains(&format!("{PART} is damaged at byte ")),
            "{error}"
        );
        assert!(
            error.contains("journal entry 3: its checksum does not match"),
            "{error}"
        );
        assert!(
            error.contains("--accept-loss") && error.contains("--skip-entry 3"),
            "{error}"
        );
    }
    let log = open_with(&disk, |config| config.skip_entries = vec![3]).unwrap();
    assert_eq!(
        values(&log, 1),
        [(0, "one".into()), (2, "three".into()), (3, "four".into())]
    );
    assert!(log.recovery().lossy);
    drop(log);
    // From now on the segments tell it.
    assert_eq!(values(&open(&disk), 1).len(), 3);

    let disk = MemoryDisk::new();
    drop(written(&disk, &["one", "two", "three", "four"]));
    disk.corrupt(PART, at, b"TWO");
    let log = open_with(&disk, |config| config.accept_loss = true).unwrap();
    assert_eq!(values(&log, 1), [(0, "one".into())]);
    assert!(log.recovery().notices[0].what.contains("journal entry 3"));
    drop(log);
    let mut log = open(&disk);
    log.stage(append(1, &["after"]), 3000).unwrap();
    log.write().unwrap();
    drop(log);
    assert_eq!(
        values(&open(&disk), 1),
        [(0, "one".into()), (1, "after".into())]
    );
}

#[test]
fn damaged_header_of_a_part_that_was_flushed() {
    let disk = MemoryDisk::new();
    drop(written(&disk, &["one", "two", "three"]));
    disk.corrupt(PART, 0, b"????");
    let error = refused(&disk);
    assert!(
        error.contains(&format!("{PART} is damaged at byte 0")),
        "{error}"
    );
    assert!(
        error.contains("it does not begin with a part header"),
        "{error}"
    );
}

#[test]
fn recycled_bytes_of_an_older_generation_are_not_taken_for_new() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &[]);
    // All four parts are used twice, so that old entries lie behind the end; that is where a block
    // ends, or zeros would stand between.
    let large = "v".repeat((12 << 10) - 144);
    for _ in 0..42 {
        log.stage(append(1, &[&large]), 1000).unwrap();
        log.write().unwrap();
        flush(&mut log);
        if let Some(mut run) = log.checkpoint(u64::MAX) {
            while !run.step().unwrap() {}
            log.checkpointed(run).unwrap();
        }
    }
    assert_eq!(log.journal.mark().position % 4096, 0);
    let lsn = log.appended_to();
    drop(log);
    let log = open(&disk);
    assert_eq!(log.appended_to(), lsn);
    assert_eq!(values(&log, 1).len(), 42);
    assert_eq!(log.recovery().notices, []);
    let what = &log.recovery().end.as_ref().unwrap().what;
    assert!(what.contains("left from an older generation"), "{what}");
}

#[test]
fn entries_whose_part_lost_its_header_are_never_taken_for_those_of_the_next_start() {
    let two_parts = |config: &mut LogConfig| config.journal_bytes_max = 128 << 10;
    let disk = MemoryDisk::new();
    let mut log = open_with(&disk, two_parts).unwrap();
    log.create_stream(StreamSettings::new("s"), 1000).unwrap();
    let large = "v".repeat(9 << 10);
    let generation = |log: &Log| log.journal.mark().generation;
    loop {
        let before = generation(&log);
        log.stage(append(1, &[&large]), 1000).unwrap();
        log.write().unwrap();
        // The first entry of a part that was in use before, and not yet flushed.
        if generation(&log) > before && before >= 3 {
            break;
        }
        flush(&mut log);
        checkpoint(&mut log, u64::MAX);
    }
    let flushed = log.flushed_to();
    assert_eq!(log.appended_to(), flushed + 1);
    let path = log.journal.live().last().unwrap().path.clone();
    let entry = disk.contents(&path).unwrap()[4096..16384].to_vec();
    drop(log);
    // The power cut takes the new header, but leaves the entry.
    disk.crash(true);
    disk.corrupt(&path, 4096, &entry);
    for _ in 0..3 {
        let log = open_with(&disk, two_parts).unwrap();
        assert_eq!(log.appended_to(), flushed);
        assert_eq!(values(&log, 1).len() as u64, flushed - 1);
    }
}

#[test]
fn journal_from_an_older_generation_than_the_catalogue() {
    let disk = MemoryDisk::new();
    let log = written(&disk, &["one"]);
    let old = disk.contents(PART).unwrap();
    drop(log);
    let mut log = open(&disk);
    log.stage(append(1, &["two"]), 1000).unwrap();
    log.write().unwrap();
    checkpoint(&mut log, u64::MAX);
    drop(log);
    // The journal is brought back from a copy, the rest is not.
    for name in disk.list("journal").unwrap() {
        disk.remove_file(&format!("journal/{name}")).unwrap();
    }
    disk.open(PART, Open::Create)
        .unwrap()
        .write_at(&[&old], 0)
        .unwrap();
    let error = refused(&disk);
    assert!(
        error.contains(&format!("{PART} is damaged at byte 0")),
        "{error}"
    );
    assert!(
        error.contains("from an older generation (1) than the catalogue"),
        "{error}"
    );
    let log = open_with(&disk, |config| config.accept_loss = true).unwrap();
    assert_eq!(texts(&log), ["one", "two"]);
}

#[test]
fn journal_of_another_log() {
    let disk = MemoryDisk::new();
    drop(written(&disk, &["one"]));
    let other = MemoryDisk::new();
    drop(Log::open(Arc::new(other.clone()), small(), 7).unwrap());
    disk.corrupt(PART, 0, &other.contents(PART).unwrap());
    let error = refused(&disk);
    assert!(
        error.contains(PART) && error.contains("belongs to another log"),
        "{error}"
    );
}

#[test]
fn missing_catalogue() {
    let disk = MemoryDisk::new();
    drop(written(&disk, &["one"]));
    disk.remove_file(CATALOGUE).unwrap();
    let error = refused(&disk);
    assert!(
        error.contains("cannot read catalogue: it is missing although"),
        "{error}"
    );
}

#[test]
fn an_entry_that_cannot_be_applied_is_named_and_skipped() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, &["one"]);
    // The caller hands in what the header of a batch does not show to be wrong: replay meets a
    // partition that is not there.
    log.stage(append(1, &["two"]), 1000).unwrap();
    log.write().unwrap();
    drop(log);
    let at = find(&disk, PART, b"two") as usize;
    let mut part = disk.contents(PART).unwrap();
    let entry = (0..at)
        .rev()
        .find(|at| part[*at..].starts_with(b"SLJE"))
        .unwrap();
    part[entry + 56] = 9;
    let body_bytes = u32::from_le_bytes(part[entry + 40..entry + 44].try_into().unwrap()) as usize;
    let mut crc = part[entry..entry + 44].to_vec();
    crc.extend_from_slice(&part[entry + 48..entry + 48 + body_bytes]);
    let crc = crc_fast::crc32_iscsi(&crc).to_le_bytes();
    disk.corrupt(PART, entry as u64 + 44, &crc);
    disk.corrupt(PART, entry as u64 + 56, &[9]);
    let error = refused(&disk);
    assert!(
        error.contains(&format!("{PART} is damaged at byte {entry}")),
        "{error}"
    );
    assert!(
        error.contains("it appends to partition 9, which is unknown"),
        "{error}"
    );
    let log = open_with(&disk, |config| config.skip_entries = vec![3]).unwrap();
    assert_eq!(texts(&log), ["one"]);
}

#[test]
fn a_clean_end_keeps_the_leader_epoch_and_a_kill_raises_it() {
    let disk = MemoryDisk::new();
    let log = written(&disk, &["one"]);
    log.close(u64::MAX).unwrap();
    let mut log = open(&disk);
    assert!(log.recovery().clean);
    assert_eq!(log.reader().leader_epoch(), 0);
    log.stage(append(1, &["two"]), 1000).unwrap();
    log.write().unwrap();
    drop(log);
    let mut log = open(&disk);
    assert!(!log.recovery().clean);
    assert_eq!(log.reader().leader_epoch(), 1);
    assert_eq!(log.reader().epoch_end(1, 0), Some((0, 2)));
    assert_eq!(log.reader().epoch_end(1, 1), Some((1, 2)));
    log.stage(append(1, &["three"]), 1000).unwrap();
    log.write().unwrap();
    assert_eq!(log.reader().epoch_end(1, 0), Some((0, 2)));
    assert_eq!(log.reader().epoch_end(1, 1), Some((1, 3)));
}

#[test]
fn what_no_stream_owns_is_removed() {
    let disk = MemoryDisk::new();
    drop(written(&disk, &["one"]));
    disk.create_dir("streams/stray-0").unwrap();
    disk.open("streams/stray-0/00000000000000000000.log", Open::Create)
        .unwrap();
    drop(open(&disk));
    assert_eq!(disk.list("streams").unwrap(), ["s-0"]);
}
