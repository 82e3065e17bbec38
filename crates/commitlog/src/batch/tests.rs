//! Vectors derived by hand from the documented layout, the crate `kafka-protocol` as oracle in both
//! directions, and garbage.

use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression as OracleCompression, Record, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const T: i64 = 1_700_000_000_000;

/// Three records, made by an independent program from the layout in Apache Kafka's documentation,
/// with a bit-by-bit CRC-32C.
const VECTOR: [&str; 3] = [
    "00000000000000000000009c0000000002835e27230000000000020000018bcfe568000000018bcfe5692cffff\
     ffffffffffffffffffffffff00000003260000000a6c6f636b31086f70656e02026802319a01000902018c01",
    "78",
    "000e00d80404000100",
];

fn vector() -> Vec<u8> {
    let [front, x, end] = VECTOR;
    let digits = [front, &x.repeat(70), end].concat().into_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn built() -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    assert_eq!(
        builder.push(T, Some(b"lock1"), Some(b"open"), &[(b"h", b"1")]),
        0
    );
    assert_eq!(builder.push(T - 5, None, Some(&[b'x'; 70]), &[]), 1);
    assert_eq!(builder.push(T + 300, Some(b""), None, &[]), 2);
    assert_eq!(builder.size_bytes(), vector().len());
    builder.finish()
}

#[test]
fn a_batch_has_the_documented_bytes() {
    assert_eq!(built(), vector());
}

#[test]
fn a_batch_holds_little_more_memory_than_its_size_whatever_came_before() {
    let mut builder = BatchBuilder::new();
    for records in [1_000, 1, 3, 40, 2, 700, 5, 5, 5] {
        for _ in 0..records {
            builder.push(T, Some(b"lock1"), Some(&[b'x'; 200]), &[]);
        }
        let batch = builder.finish();
        assert!(
            batch.capacity() <= batch.len() + batch.len() / 8,
            "{records}"
        );
    }
}

#[test]
fn a_view_gives_back_what_the_vector_holds() {
    let mut bytes = vector();
    set_base_offset(&mut bytes, 1000);
    set_leader_epoch(&mut bytes, 7);
    bytes.extend_from_slice(b"behind");
    let (batch, size) = BatchView::parse(&bytes).unwrap();
    assert_eq!(size, bytes.len() - 6);
    batch
        .verify_crc()
        .expect("offset and epoch lie outside the checksum");
    batch.validate_produced().unwrap();
    assert_eq!(
        (batch.base_offset(), batch.last_offset(), batch.count()),
        (1000, 1002, 3)
    );
    assert_eq!(
        (batch.base_timestamp(), batch.max_timestamp()),
        (T, T + 300)
    );
    assert_eq!(batch.partition_leader_epoch(), 7);
    assert_eq!(
        (
            batch.producer_id(),
            batch.producer_epoch(),
            batch.base_sequence()
        ),
        (-1, -1, -1)
    );
    assert_eq!(batch.compression(), Ok(Compression::None));
    assert!(!batch.is_transactional() && !batch.is_control() && !batch.is_log_append_time());
    let records: Vec<_> = batch.records().map(Result::unwrap).collect();
    assert_eq!(records[0].header(b"h"), Some(&b"1"[..]));
    assert_eq!((records[1].offset, records[1].timestamp_ms), (1001, T - 5));
    assert_eq!(
        (records[1].key, records[1].value),
        (None, Some(&[b'x'; 70][..]))
    );
    assert_eq!((records[2].key, records[2].value), (Some(&b""[..]), None));
    assert_eq!(records.len(), 3);
}

#[test]
fn the_builder_is_reusable_and_keeps_its_hint() {
    let mut builder = BatchBuilder::new();
    for _ in 0..3 {
        assert!(builder.is_empty());
        assert_eq!(builder.size_bytes(), 0);
        builder.push(T, None, Some(b"a"), &[]);
        builder.clear();
        builder.push(T, Some(b"lock1"), Some(b"open"), &[(b"h", b"1")]);
        builder.push(T - 5, None, Some(&[b'x'; 70]), &[]);
        builder.push(T + 300, Some(b""), None, &[]);
        assert_eq!(builder.count(), 3);
        assert_eq!(builder.finish(), vector());
    }
}

/// The vector with a patch at a position and the checksum made right again.
fn patched(at: usize, patch: &[u8]) -> Vec<u8> {
    let mut bytes = vector();
    bytes[at..at + patch.len()].copy_from_slice(patch);
    let crc = crc32c(&bytes[CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn walk(bytes: &[u8]) -> Result<usize, BatchError> {
    let (batch, _) = BatchView::parse(bytes)?;
    batch.verify_crc()?;
    batch
        .records()
        .try_fold(0, |count, record| record.map(|_| count + 1))
}

#[test]
fn each_damage_has_its_name() {
    assert_eq!(walk(&vector()), Ok(3));
    assert_eq!(walk(&vector()[..60]), Err(BatchError::Short));
    assert_eq!(walk(&vector()[..100]), Err(BatchError::Short));
    assert_eq!(walk(&patched(16, &[1])), Err(BatchError::Magic(1)));
    assert_eq!(
        walk(&patched(8, &48i32.to_be_bytes())),
        Err(BatchError::Length(48))
    );
    assert_eq!(
        walk(&patched(8, &i32::MAX.to_be_bytes())),
        Err(BatchError::Length(i32::MAX))
    );
    assert_eq!(
        walk(&patched(8, &(-1i32).to_be_bytes())),
        Err(BatchError::Length(-1))
    );
    assert_eq!(
        walk(&patched(0, &(-1i64).to_be_bytes())),
        Err(BatchError::Offsets)
    );
    assert_eq!(
        walk(&patched(0, &(i64::MAX - 2).to_be_bytes())),
        Err(BatchError::Offsets)
    );
    assert_eq!(
        walk(&patched(23, &(-1i32).to_be_bytes())),
        Err(BatchError::Offsets)
    );
    assert_eq!(
        walk(&patched(23, &1i32.to_be_bytes())),
        Err(BatchError::Count)
    );
    assert_eq!(
        walk(&patched(57, &(-1i32).to_be_bytes())),
        Err(BatchError::Count)
    );
    assert_eq!(
        walk(&patched(57, &2i32.to_be_bytes())),
        Err(BatchError::Count),
        "trailing bytes"
    );
    assert_eq!(walk(&patched(22, &[4])), Err(BatchError::Compressed));
    assert_eq!(
        walk(&patched(22, &[7])),
        Err(BatchError::UnknownCompression(7))
    );
    let mut flipped = vector();
    flipped[90] ^= 1;
    assert!(matches!(walk(&flipped), Err(BatchError::Crc { .. })));
    // The first record: length, attributes, timestamp, offset, key length.
    assert_eq!(
        walk(&patched(61, &[0x01])),
        Err(BatchError::Record("record has a negative length"))
    );
    assert_eq!(
        walk(&patched(61, &[0x03])),
        Err(BatchError::Record("record length is malformed"))
    );
    assert_eq!(walk(&patched(64, &[0x06])), Err(BatchError::Offsets));
    assert_eq!(
        walk(&patched(64, &[0x02])),
        Err(BatchError::Offsets),
        "1 again after 1"
    );
    assert_eq!(
        walk(&patched(65, &[0x7e])),
        Err(BatchError::Record("record key is longer than its record"))
    );
    assert_eq!(
        walk(&patched(61, &[0x28])),
        Err(BatchError::Record("record has bytes behind its end"))
    );
    let control = patched(22, &[0x20]);
    let (batch, _) = BatchView::parse(&control).unwrap();
    assert!(batch.is_control());
    assert_eq!(batch.validate_produced(), Err(BatchError::Control));
    let mut more_offsets = vector();
    more_offsets[23..27].copy_from_slice(&5i32.to_be_bytes());
    let crc = crc32c(&more_offsets[CRC_START..]);
    more_offsets[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(walk(&more_offsets), Ok(3), "compaction leaves gaps");
    let (batch, _) = BatchView::parse(&more_offsets).unwrap();
    assert_eq!(
        batch.validate_produced(),
        Err(BatchError::Count),
        "a producer must not"
    );
}

#[test]
fn batches_walks_over_what_lies_behind_each_other() {
    let mut bytes = vector();
    bytes.extend(vector());
    assert_eq!(batches(&bytes).flatten().count(), 2);
    bytes.pop();
    let last = batches(&bytes).last().unwrap();
    assert_eq!(last.unwrap_err(), BatchError::Short);
    assert_eq!(batches(&bytes).count(), 2, "and then it ends");
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[derive(Clone, Debug)]
struct Plain {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

fn plain() -> impl Strategy<Value = Plain> {
    let bytes = || proptest::option::of(vec(any::<u8>(), 0..200));
    let headers = proptest::collection::btree_map("[a-z.]{1,8}", vec(any::<u8>(), 0..80), 0..4);
    (T - 1000..T + 100_000, bytes(), bytes(), headers).prop_map(
        |(timestamp_ms, key, value, headers)| Plain {
            timestamp_ms,
            key,
            value,
            headers: headers.into_iter().collect(),
        },
    )
}

fn build(records: &[Plain]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers: Vec<(&[u8], &[u8])> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_slice()))
            .collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(record.timestamp_ms, key, value, &headers);
    }
    builder.finish()
}

fn oracle_record(at: usize, record: &Plain) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: at as i64,
        sequence: at as i32 - 1,
        timestamp: record.timestamp_ms,
        key: record.key.clone().map(Into::into),
        value: record.value.clone().map(Into::into),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    StrBytes::from_string(name.clone()),
                    Some(value.clone().into()),
                )
            })
            .collect(),
    }
}

fn check_view(bytes: &[u8], expected: &[Plain]) {
    let (batch, size) = BatchView::parse(bytes).unwrap();
    assert_eq!(size, bytes.len());
    batch.validate_produced().unwrap();
    let newest = expected
        .iter()
        .map(|record| record.timestamp_ms)
        .max()
        .unwrap();
    assert_eq!(batch.max_timestamp(), newest);
    let records: Vec<_> = batch.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), expected.len());
    for (at, (found, expected)) in records.iter().zip(expected).enumerate() {
        assert_eq!(found.offset, at as u64);
        assert_eq!(found.timestamp_ms, expected.timestamp_ms);
        assert_eq!(found.key, expected.key.as_deref());
        assert_eq!(found.value, expected.value.as_deref());
        let headers: Vec<_> = found
            .headers()
            .map(|(name, value)| {
                (
                    String::from_utf8(name.to_vec()).unwrap(),
                    value.unwrap().to_vec(),
                )
            })
            .collect();
        assert_eq!(headers, expected.headers);
    }
}

proptest! {
    #[test]
    fn the_oracle_reads_what_we_build(records in vec(plain(), 1..40)) {
        let bytes = build(&records);
        check_view(&bytes, &records);
        let mut input = bytes::Bytes::from(bytes);
        let decoded = RecordBatchDecoder::decode(&mut input).unwrap();
        prop_assert_eq!(decoded.records.len(), records.len());
        for (at, (found, expected)) in decoded.records.iter().zip(&records).enumerate() {
            let expected = oracle_record(at, expected);
            prop_assert_eq!(found.offset, expected.offset);
            prop_assert_eq!(found.timestamp, expected.timestamp);
            prop_assert_eq!(&found.key, &expected.key);
            prop_assert_eq!(&found.value, &expected.value);
            prop_assert_eq!(&found.headers, &expected.headers);
            prop_assert_eq!(found.producer_id, -1);
        }
    }

    #[test]
    fn we_read_what_the_oracle_builds(mut records in vec(plain(), 1..40)) {
        let oracle = |records: &[Plain]| {
            let records: Vec<Record> =
                records.iter().enumerate().map(|(at, record)| oracle_record(at, record)).collect();
            let mut out = bytes::BytesMut::new();
            let options = RecordEncodeOptions { version: 2, compression: OracleCompression::None };
            RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
            out
        };
        check_view(&oracle(&records), &records);
        // It takes the smallest timestamp as base, Apache Kafka the first one: sorted, the bytes
        // are the same.
        records.sort_by_key(|record| record.timestamp_ms);
        prop_assert_eq!(&oracle(&records)[..], &build(&records)[..]);
    }

    #[test]
    fn garbage_neither_panics_nor_goes_on_for_ever(
        records in vec(plain(), 1..6),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = build(&records);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()).max(bytes.len() / 2));
        for batch in batches(&bytes).flatten() {
            let _ = batch.validate_produced();
            let records = batch.records().flatten().map(|record| record.headers().count());
            prop_assert!(records.count() <= bytes.len());
        }
        let _ = batches(&bytes[7..]).count();
    }
}

/// Nanoseconds a record of 350 bytes in batches of 64; run with --release -- --ignored --nocapture.
#[test]
#[ignore = "a measurement"]
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a measurement"
)]
fn builder_speed() {
    let value = [b'v'; 350];
    let mut builder = BatchBuilder::new();
    for (name, batch_records) in [("64", 64), ("8", 8), ("1000", 1000)] {
        let rounds = 2_000_000 / batch_records;
        let mut best = f64::MAX;
        for _ in 0..5 {
            let begun = std::time::Instant::now();
            let mut bytes = 0;
            for round in 0..rounds {
                for at in 0..batch_records {
                    let timestamp_ms = T + i64::from(round + at);
                    builder.push(timestamp_ms, Some(b"device-00012345"), Some(&value), &[]);
                }
                bytes += std::hint::black_box(builder.finish()).len();
            }
            let nanos = begun.elapsed().as_nanos() as f64 / f64::from(rounds * batch_records);
            assert!(bytes > 0);
            best = best.min(nanos);
        }
        println!("batches of {name}: {best:.1} ns a record of 350 bytes");
    }
    let block = vec![7u8; 1 << 20];
    let begun = std::time::Instant::now();
    let mut sum = 0;
    for _ in 0..2000 {
        sum ^= std::hint::black_box(crc32c(std::hint::black_box(&block)));
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "crc32c 1 MiB: {:.1} GB/s ({sum})",
        2000.0 * block.len() as f64 / seconds / 1e9
    );
    let block = vec![7u8; 400];
    let begun = std::time::Instant::now();
    for _ in 0..2_000_000 {
        sum ^= std::hint::black_box(crc32c(std::hint::black_box(&block)));
    }
    println!(
        "crc32c 400 B: {:.1} ns ({sum})",
        begun.elapsed().as_secs_f64() * 1e9 / 2e6
    );
}
