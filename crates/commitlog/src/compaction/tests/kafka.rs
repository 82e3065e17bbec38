//! Compaction of what Kafka producers write: compressed batches, transactions, settings of topics.

use super::*;
use crate::batch::{Compression, control_batch};
use crate::producers::tests::sequenced;

/// Appends a finished batch to the table.
fn append(log: &mut Log, batch: Vec<u8>, time_ms: u64) -> u64 {
    let appends = vec![Append::new(1, batch)];
    let entry = Entry {
        appends,
        ops: Vec::new(),
    };
    let staged = log.stage(entry, time_ms).unwrap();
    log.write().unwrap();
    staged.base_offsets[0].unwrap()
}

fn batch(time_ms: u64, records: &[(&str, Option<u32>)], compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let value = value.map(|value| format!("{value:0500}"));
        let value = value.as_ref().map(String::as_bytes);
        builder.push(time_ms as i64, Some(key.as_bytes()), value, &[]);
    }
    let plain = builder.finish();
    let mut out = plain[..HEADER_BYTES].to_vec();
    out.extend(compress(compression, &plain[HEADER_BYTES..]));
    let length = (out.len() - LENGTH_FROM) as u32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[22] = compression as u8;
    let crc = crc32c(&out[CRC_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Offset, key and value of all records; markers as `(offset, "commit" or "abort", None)`.
fn contents(log: &Log) -> Vec<(u64, String, Option<u32>)> {
    let reader = log.reader();
    let marks = reader.watermarks(1).unwrap();
    let mut found = Vec::new();
    let mut at = marks.log_start;
    while at < marks.appended {
        let before = at;
        for bytes in reader.read(1, at, 1 << 20, u64::MAX).unwrap() {
            for batch in batches(&bytes).map(Result::unwrap) {
                batch.verify_crc().unwrap();
                at = batch.next_offset();
                if let Some(marker) = batch.marker() {
                    let kind = if marker.commit { "commit" } else { "abort" };
                    found.push((batch.base_offset(), kind.to_owned(), None));
                    continue;
                }
                for record in &batch.plain(1 << 20).unwrap() {
                    let record = record.unwrap();
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let value = record.value.map(|value| text(value).parse().unwrap());
                    found.push((record.offset, text(record.key.unwrap()), value));
                }
            }
        }
        if at == before {
            break;
        }
    }
    found
}

/// The latest value of each key.
fn latest(log: &Log) -> BTreeMap<String, (u64, Option<u32>)> {
    let found = contents(log).into_iter();
    found
        .map(|(offset, key, value)| (key, (offset, value)))
        .collect()
}

/// Closes the segment by filling it, and makes it durable.
fn close_segment(log: &mut Log, time_ms: u64) {
    for round in 0..20 {
        put(log, time_ms, &[("filler", Some(round))]);
    }
    checkpoint(log, u64::MAX);
}

#[test]
fn compressed_batches_are_cleaned_and_stay_compressed() {
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let disk = MemoryDisk::new();
        let mut log = table_log(&disk);
        for round in 0..10 {
            let own = format!("k{round}");
            let records = [("a", Some(round)), (own.as_str(), Some(round))];
            append(&mut log, batch(5, &records, compression), 0);
        }
        close_segment(&mut log, 0);
        let before = latest(&log);
        compact(&mut log, 0).unwrap();
        drop(log);
        let log = open(&disk);
        let after = contents(&log);
        assert_eq!(latest(&log), before);
        let a: Vec<_> = after.iter().filter(|(_, key, _)| key == "a").collect();
        assert_eq!(a, [&(18, "a".to_owned(), Some(9))], "{compression:?}");
        let bytes = log.reader().read(1, 0, 1, u64::MAX).unwrap().concat();
        let (first, _) = BatchView::parse(&bytes).unwrap();
        assert_eq!(first.compression(), Ok(compression));
        assert_eq!((first.count(), first.last_offset_delta()), (1, 1));
        assert_eq!(first.max_timestamp(), 5);
    }
}

#[test]
fn aborted_records_go_and_replace_nothing() {
    let disk = MemoryDisk::new();
    let mut log = table_log(&disk);
    put(&mut log, 0, &[("a", Some(1)), ("b", Some(1))]);
    let txn = |log: &mut Log, id: i64, sequence: i32, records: &[(&str, Option<u32>)]| {
        let mut bytes = batch(0, records, Compression::Lz4);
        sequenced(&mut bytes, id, 0, sequence, true);
        append(log, bytes, 0);
    };
    txn(&mut log, 7, 0, &[("a", Some(2)), ("only", Some(2))]);
    txn(&mut log, 8, 0, &[("b", Some(3))]);
    append(&mut log, control_batch(7, 0, false, 0, 0), 0);
    append(&mut log, control_batch(8, 0, true, 0, 0), 0);
    txn(&mut log, 7, 2, &[("c", Some(4))]);
    append(&mut log, control_batch(7, 0, true, 0, 0), 0);
    close_segment(&mut log, 0);
    compact(&mut log, 0).unwrap();
    for _ in 0..2 {
        // A fresh log, so that nothing comes from the tail cache.
        checkpoint_if_any(&mut log);
        drop(log);
        log = open(&disk);
        let mut found = contents(&log);
        found.retain(|(_, key, _)| key != "filler");
        let expected = [
            (0, "a", Some(1)),
            (4, "b", Some(3)),
            (5, "abort", None),
            (6, "commit", None),
            (7, "c", Some(4)),
            (8, "commit", None),
        ];
        let found: Vec<_> = found
            .iter()
            .map(|(offset, key, value)| (*offset, key.as_str(), *value))
            .collect();
        assert_eq!(found, expected);
        // The range stays: its marker does too.
        assert_eq!(log.reader().aborted(1, 0, 100).unwrap().len(), 1);
    }
}

#[test]
fn nothing_beyond_an_open_transaction_is_cleaned() {
    let disk = MemoryDisk::new();
    let mut log = table_log(&disk);
    fill(&mut log, 10);
    let mut bytes = batch(0, &[("a", Some(2))], Compression::None);
    sequenced(&mut bytes, 7, 0, 0, true);
    let first = append(&mut log, bytes, 0);
    close_segment(&mut log, 0);
    let marks = log.reader().watermarks(1).unwrap();
    assert_eq!(marks.stable, first);
    compact(&mut log, 0).unwrap();
    checkpoint_if_any(&mut log);
    drop(log);
    let mut log = open(&disk);
    let behind = contents(&log).into_iter().filter(|(at, ..)| *at >= first);
    assert_eq!(behind.count(), 21);
    append(&mut log, control_batch(7, 0, true, 0, 0), 0);
    close_segment(&mut log, 0);
    let mut runs = 0;
    while compact(&mut log, 0).is_some() {
        checkpoint_if_any(&mut log);
        runs += 1;
    }
    assert!(runs > 0);
    drop(log);
    let log = open(&disk);
    let behind = contents(&log).into_iter().filter(|(at, ..)| *at >= first);
    assert!(behind.count() < 21);
}

#[test]
fn a_topics_own_ages_count() {
    let disk = MemoryDisk::new();
    let mut log = table_log(&disk);
    let mut settings = log.reader().stream("t").unwrap().settings;
    settings.compaction_lag_ms_min = Some(1000);
    settings.delete_retention_ms = Some(5);
    log.ensure_stream(settings, 0).unwrap();
    fill(&mut log, 20);
    checkpoint(&mut log, u64::MAX);
    assert!(compact(&mut log, 999).is_none(), "too young");
    compact(&mut log, 1000).unwrap();
    checkpoint_if_any(&mut log);
    let tombstones = |log: &Log| {
        let found = contents(log);
        found.iter().filter(|found| found.2.is_none()).count()
    };
    drop(log);
    let mut log = open(&disk);
    assert!(tombstones(&log) > 0);
    // The first run after a start only learns what was cleaned before.
    compact(&mut log, 1000);
    fill(&mut log, 30);
    checkpoint(&mut log, u64::MAX);
    compact(&mut log, 1006).unwrap();
    checkpoint_if_any(&mut log);
    drop(log);
    // Those of the active segment are not looked at.
    let left = tombstones(&open(&disk));
    assert!(left <= 2, "{left}");
}
