//! Batches of producers, sound and broken, in every compression.

use super::*;
use crate::batch::{BatchBuilder, Compression, HEADER_BYTES, compress};

const ALL: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// A batch of these records with the attribute bits set and the records compressed.
fn packed(records: &[(i64, Option<&[u8]>)], compression: Compression, attributes: i16) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for (timestamp_ms, key) in records {
        builder.push(*timestamp_ms, *key, Some(&[7; 100]), &[(b"h", b"v")]);
    }
    repacked(&builder.finish(), compression, attributes)
}

fn repacked(batch: &[u8], compression: Compression, attributes: i16) -> Vec<u8> {
    let mut out = batch[..HEADER_BYTES].to_vec();
    out.extend(compress(compression, &batch[HEADER_BYTES..]));
    change(&mut out, |out| {
        out[21..23].copy_from_slice(&(attributes | compression as i16).to_be_bytes());
    });
    out
}

/// Changes a batch and mends its length and checksum.
fn change(batch: &mut Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) {
    change(batch);
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[CRC_START..]);
    batch[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
}

fn sound(compression: Compression) -> Vec<u8> {
    packed(
        &[(1000, Some(b"a")), (3000, Some(b"b")), (2000, Some(b"c"))],
        compression,
        0,
    )
}

fn fault(bytes: &[u8], rules: &Rules) -> BatchFault {
    check_batch(bytes, rules).map(|_| ()).unwrap_err()
}

#[test]
fn sound_batches_pass_in_every_compression() {
    for compression in ALL {
        let bytes = sound(compression);
        let checked = check_batch(&bytes, &Rules::default()).unwrap();
        assert_eq!((checked.max_timestamp, checked.batch.count()), (3000, 3));
        let plain = checked.batch.plain(1 << 20).unwrap();
        let keys: Vec<_> = plain
            .iter()
            .map(|record| record.unwrap().key.unwrap().to_vec())
            .collect();
        assert_eq!(keys, [b"a", b"b", b"c"]);
        assert_eq!(
            plain.iter().last().unwrap().unwrap().header(b"h"),
            Some(&b"v"[..])
        );
    }
}

#[test]
fn sizes_are_bound_packed_and_unpacked() {
    for compression in ALL {
        let bytes = sound(compression);
        let rules = Rules {
            batch_bytes_max: bytes.len() - 1,
            ..Rules::default()
        };
        assert_eq!(fault(&bytes, &rules), BatchFault::TooLarge);
        let rules = Rules {
            decompressed_bytes_max: 300,
            ..Rules::default()
        };
        if compression != Compression::None {
            assert_eq!(fault(&bytes, &rules), BatchFault::Bomb, "{compression:?}");
        }
    }
}

#[test]
fn damage_is_told_from_nonsense() {
    let rules = Rules::default();
    for compression in ALL {
        let bytes = sound(compression);
        for at in [9, 25, 60, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(matches!(
                fault(&damaged, &rules),
                BatchFault::Corrupt(_) | BatchFault::Invalid(_)
            ));
        }
        assert!(matches!(
            fault(&bytes[..bytes.len() - 1], &rules),
            BatchFault::Corrupt(_)
        ));
        let mut two = bytes.clone();
        two.extend_from_slice(&bytes);
        assert!(matches!(fault(&two, &rules), BatchFault::Invalid(_)));
        let mut old = bytes.clone();
        old[16] = 1;
        assert_eq!(fault(&old, &rules), BatchFault::UnsupportedFormat(1));
        let mut cut = bytes;
        change(&mut cut, |cut| cut.truncate(cut.len() - 3));
        assert!(matches!(
            fault(&cut, &rules),
            BatchFault::Corrupt(_) | BatchFault::Invalid(_)
        ));
    }
    assert!(matches!(fault(&[], &rules), BatchFault::Corrupt(_)));
}

#[test]
fn a_head_that_no_producer_may_send_is_refused() {
    let rules = Rules::default();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = sound(Compression::None);
        change(&mut bytes, |bytes| {
            bytes[at..at + value.len()].copy_from_slice(value);
        });
        fault(&bytes, &rules)
    };
    let invalid = |fault: BatchFault| matches!(fault, BatchFault::Invalid(_));
    assert_eq!(with(21, &[0, 5]), BatchFault::UnsupportedCompression);
    assert_eq!(with(21, &[0, 8]), BatchFault::TimestampType);
    assert!(
        invalid(with(21, &[0, 0x10])),
        "a transaction without a producer"
    );
    assert!(invalid(with(21, &[0, 0x20])), "control");
    assert!(invalid(with(7, &[1])), "an offset");
    assert!(
        invalid(with(57, &[0, 0, 0, 2])),
        "fewer records than offsets"
    );
    assert!(
        invalid(with(23, &[0, 0, 0, 9, 0])),
        "more offsets than records"
    );
    assert!(
        invalid(with(43, &[0; 8])),
        "a producer without epoch and sequence"
    );
    let mut producer = vec![0; 14];
    producer[7] = 1;
    let mut bytes = sound(Compression::None);
    change(&mut bytes, |bytes| bytes[43..57].copy_from_slice(&producer));
    check_batch(&bytes, &rules).unwrap();
}

#[test]
fn keys_and_timestamps_are_looked_at_inside() {
    for compression in ALL {
        let bytes = packed(
            &[(1000, Some(b"a")), (-1, None), (2000, Some(b"b"))],
            compression,
            0,
        );
        let checked = check_batch(&bytes, &Rules::default()).unwrap();
        assert_eq!(checked.max_timestamp, 2000);
        let needs_key = Rules {
            needs_key: true,
            ..Rules::default()
        };
        assert_eq!(fault(&bytes, &needs_key), BatchFault::NoKey { index: 1 });
        let newest = Rules {
            timestamp_ms_max: 1999,
            ..Rules::default()
        };
        assert_eq!(fault(&bytes, &newest), BatchFault::Timestamp { index: 2 });
        let oldest = Rules {
            timestamp_ms_min: 1001,
            ..Rules::default()
        };
        assert_eq!(fault(&bytes, &oldest), BatchFault::Timestamp { index: 0 });
    }
}

#[test]
fn a_wrong_greatest_timestamp_is_found_and_can_be_mended() {
    let mut bytes = sound(Compression::Zstd);
    set_max_timestamp(&mut bytes, 5);
    let checked = check_batch(&bytes, &Rules::default()).unwrap();
    let found = checked.max_timestamp;
    assert_eq!((found, checked.batch.max_timestamp()), (3000, 5));
    set_max_timestamp(&mut bytes, found);
    assert_eq!(bytes, sound(Compression::Zstd));
}

#[test]
fn no_byte_makes_it_panic() {
    for compression in ALL {
        let bytes = sound(compression);
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut damaged = bytes.clone();
                change(&mut damaged, |damaged| damaged[at] ^= bit);
                let _ = check_batch(&damaged, &Rules::default());
            }
        }
    }
}
