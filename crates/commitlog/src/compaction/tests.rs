//! Compaction against a map: what stays, what goes, and crashes in between.

mod kafka;

use std::collections::BTreeMap;

use super::*;
use crate::batch::BatchBuilder;
use crate::disk::{Disk, MemoryDisk};
use crate::entry::{Append, Entry};
use crate::log::tests::{checkpoint, flush, open};
use crate::stream::StreamSettings;
use crate::table;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn table_log(disk: &MemoryDisk) -> Log {
    let mut log = open(disk);
    let mut settings = StreamSettings::new("t");
    settings.segment_bytes = 4096;
    settings.compact = true;
    log.create_stream(settings, 0).unwrap();
    log
}

/// One batch of records of about 500 bytes; no value: a tombstone.
fn put(log: &mut Log, time_ms: u64, records: &[(&str, Option<u32>)]) {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let value = value.map(|value| format!("{value:0500}"));
        let value = value.as_ref().map(String::as_bytes);
        builder.push(time_ms as i64, Some(key.as_bytes()), value, &[]);
    }
    let appends = vec![Append::new(1, builder.finish())];
    log.stage(
        Entry {
            appends,
            ops: Vec::new(),
        },
        time_ms,
    )
    .unwrap();
    log.write().unwrap();
}

fn fill(log: &mut Log, rounds: u32) {
    for round in 0..rounds {
        put(
            log,
            0,
            &[("a", Some(round)), ("b", Some(round)), ("only", None)],
        );
        put(
            log,
            0,
            &[("c", Some(round)), (&format!("k{round}"), Some(round))],
        );
    }
}

/// A table of 100 records, most of them superseded, durable.
fn filled(disk: &MemoryDisk) -> Log {
    let mut log = table_log(disk);
    fill(&mut log, 20);
    checkpoint(&mut log, u64::MAX);
    log
}

/// A table from which the key `gone` was deleted between other records; not durable yet.
fn with_deleted(disk: &MemoryDisk) -> Log {
    let mut log = table_log(disk);
    put(&mut log, 0, &[("gone", Some(1))]);
    fill(&mut log, 10);
    put(&mut log, 0, &[("gone", None)]);
    fill(&mut log, 10);
    log
}

fn loaded(log: &Log, up_to: Option<u64>) -> BTreeMap<String, u32> {
    let mut rows = BTreeMap::new();
    table::load(&log.reader(), 1, up_to, |row| {
        let value = std::str::from_utf8(row.value).unwrap().parse().unwrap();
        rows.insert(String::from_utf8(row.key.to_vec()).unwrap(), value);
    })
    .unwrap();
    rows
}

fn offsets(log: &Log) -> Vec<u64> {
    let mut offsets = Vec::new();
    table::scan(&log.reader(), 1, 0, None, |offset, _, _, _| {
        offsets.push(offset);
    })
    .unwrap();
    offsets
}

fn compact(log: &mut Log, now_ms: u64) -> Option<u64> {
    let mut run = log.compaction(now_ms)?;
    while !run.step().unwrap() {}
    Some(log.compacted(run, now_ms).unwrap())
}

/// Goes on until a step fails, which one must.
fn failure(run: &mut Compaction) -> Error {
    loop {
        match run.step() {
            Ok(done) => assert!(!done, "no step failed"),
            Err(error) => return error,
        }
    }
}

#[test]
fn only_the_latest_of_each_key_stays_and_offsets_too() {
    let disk = MemoryDisk::new();
    let mut log = table_log(&disk);
    fill(&mut log, 20);
    assert!(compact(&mut log, 0).is_none(), "nothing is durable yet");
    checkpoint(&mut log, u64::MAX);
    let before = loaded(&log, None);
    let size_bytes = log.reader().size_bytes(1).unwrap();
    let freed = compact(&mut log, 0).unwrap();
    assert!(freed * 3 > size_bytes, "{freed} of {size_bytes}");
    assert_eq!(log.reader().size_bytes(1).unwrap(), size_bytes - freed);
    assert!(compact(&mut log, 0).is_none());
    // A fresh log, so that nothing comes from the tail cache.
    let kept = |log: &Log| {
        assert_eq!(loaded(log, None), before);
        offsets(log)
    };
    drop(log);
    let log = open(&disk);
    let found = kept(&log);
    assert!(found.len() < 40, "{found:?}");
    assert!(found.is_sorted());
    assert_eq!(log.reader().watermarks(1).unwrap().appended, 100);
    drop(log);
    disk.crash(true);
    kept(&open(&disk));
}

#[test]
fn a_pin_is_never_passed() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk);
    log.pin(1, 1, Some(43));
    let before = loaded(&log, Some(43));
    compact(&mut log, 0).unwrap();
    log.close(u64::MAX).unwrap();
    let log = open(&disk);
    assert_eq!(loaded(&log, Some(43)), before);
    let (_, behind): (Vec<u64>, Vec<u64>) = offsets(&log).iter().partition(|at| **at < 43);
    assert_eq!(behind, (43..100).collect::<Vec<_>>());
}

#[test]
fn tombstones_go_a_day_later_and_never_before_what_they_delete() {
    let disk = MemoryDisk::new();
    let mut log = with_deleted(&disk);
    let tombstones = |disk: &MemoryDisk| {
        let log = open(disk);
        let mut found = 0;
        let visit = |_, _, key: &[u8], _: Option<&[u8]>| found += u32::from(key == b"gone");
        table::scan(&log.reader(), 1, 0, None, visit).unwrap();
        assert!(!loaded(&log, None).contains_key("gone"));
        found
    };
    checkpoint(&mut log, u64::MAX);
    compact(&mut log, 3 * DAY_MS).unwrap();
    checkpoint(&mut log, u64::MAX);
    assert_eq!(
        tombstones(&disk),
        1,
        "the value went, its tombstone waits for the next run"
    );
    for round in [DAY_MS, DAY_MS + 1] {
        fill(&mut log, 20);
        checkpoint(&mut log, u64::MAX);
        compact(&mut log, round).unwrap();
        checkpoint(&mut log, u64::MAX);
        assert_eq!(tombstones(&disk), u32::from(round == DAY_MS));
    }
}

#[test]
fn a_small_map_cleans_in_several_runs() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk);
    let before = loaded(&log, None);
    let mut runs = 0;
    while let Some(mut run) = log.compaction(0) {
        run.keys_bytes_max = 100;
        while !run.step().unwrap() {}
        log.compacted(run, 0).unwrap();
        flush_if_any(&mut log);
        checkpoint_if_any(&mut log);
        runs += 1;
        assert!(runs < 100);
    }
    assert!(runs > 3, "{runs}");
    drop(log);
    assert_eq!(loaded(&open(&disk), None), before);
}

fn flush_if_any(log: &mut Log) {
    if log.flush_ticket().is_some() {
        flush(log);
    }
}

fn checkpoint_if_any(log: &mut Log) {
    if let Some(mut run) = log.checkpoint(u64::MAX) {
        while !run.step().unwrap() {}
        log.checkpointed(run).unwrap();
    }
}

#[test]
fn a_run_that_fails_leaves_everything_as_it_was() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk);
    let before = loaded(&log, None);
    disk.fail(crate::disk::Operation::Write, "cleaned", 2);
    let mut run = log.compaction(0).unwrap();
    let error = failure(&mut run);
    assert!(error.to_string().contains("streams/t-0"), "{error}");
    log.compacted(run, 0).unwrap();
    assert!(log.latched().is_none());
    assert!(
        log.compaction(0).is_none(),
        "the same is not tried again at once"
    );
    assert_eq!(loaded(&log, None), before);
    drop(log);
    let log = open(&disk);
    assert_eq!(loaded(&log, None), before);
    let names = disk.list("streams/t-0").unwrap();
    assert!(
        !names.iter().any(|name| name.contains("cleaned")),
        "{names:?}"
    );
}

/// Fails the run at its first write; what it had done so far is handed back.
fn fail(log: &mut Log, disk: &MemoryDisk, now_ms: u64) {
    disk.fail(crate::disk::Operation::Write, "cleaned", 1);
    let mut run = log.compaction(now_ms).unwrap();
    failure(&mut run);
    log.compacted(run, now_ms).unwrap();
}

fn leftovers(disk: &MemoryDisk) -> Vec<String> {
    let mut names = disk.list("streams/t-0").unwrap();
    names.retain(|name| name.contains("cleaned"));
    names
}

#[test]
fn what_was_deleted_does_not_come_back_after_a_run_that_failed() {
    let disk = MemoryDisk::new();
    let mut log = with_deleted(&disk);
    checkpoint(&mut log, u64::MAX);
    fail(&mut log, &disk, 0);
    fill(&mut log, 40);
    checkpoint(&mut log, u64::MAX);
    // More than the day for which tombstones stay has gone by.
    assert!(compact(&mut log, 2 * DAY_MS).unwrap() > 0);
    checkpoint(&mut log, u64::MAX);
    drop(log);
    assert!(!loaded(&open(&disk), None).contains_key("gone"));
}

#[test]
fn a_run_that_failed_is_tried_again_after_a_while() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk);
    fail(&mut log, &disk, 0);
    assert_eq!(leftovers(&disk), Vec::<String>::new());
    assert!(compact(&mut log, 0).is_none(), "not at once");
    assert!(compact(&mut log, DAY_MS).unwrap() > 0);
}

#[test]
fn a_run_that_retention_overtook_leaves_no_files() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk);
    let mut run = log.compaction(0).unwrap();
    while !run.step().unwrap() {}
    assert!(!leftovers(&disk).is_empty());
    let op = crate::entry::Op::SetLogStart {
        partition: 1,
        offset: 100,
    };
    log.stage(
        Entry {
            appends: Vec::new(),
            ops: vec![op],
        },
        0,
    )
    .unwrap();
    log.write().unwrap();
    checkpoint(&mut log, u64::MAX);
    log.compacted(run, 0).unwrap();
    assert_eq!(leftovers(&disk), Vec::<String>::new());
}

#[test]
fn a_run_leaves_the_reserve_alone() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk);
    let before = loaded(&log, None);
    disk.set_free_bytes(crate::limits::RESERVE_BYTES_DEFAULT + 1000);
    let mut run = log.compaction(0).unwrap();
    let error = failure(&mut run);
    assert!(matches!(error, Error::Full { .. }), "{error}");
    log.compacted(run, 0).unwrap();
    assert_eq!(leftovers(&disk), Vec::<String>::new());
    disk.set_free_bytes(u64::MAX);
    assert!(compact(&mut log, DAY_MS).unwrap() > 0);
    assert_eq!(loaded(&log, None), before);
}
