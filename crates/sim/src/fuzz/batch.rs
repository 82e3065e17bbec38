//! The batch reader: any bytes as a run of record batches. What it accepts it must read to the end
//! without going astray.

use commitlog::batch::{
    BatchBuilder, Compression, HEADER_BYTES, batches, compress, crc32c, set_base_offset,
};
use commitlog::{Rules, check_batch};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "batch",
    seeds,
    run,
};

fn run(input: &[u8]) {
    let rules = Rules {
        decompressed_bytes_max: 1 << 20,
        ..Rules::default()
    };
    let mut mended = input.to_vec();
    if input.len() >= HEADER_BYTES {
        // As a producer's that means harm: the checksum is right.
        let length = (input.len() - 12) as u32;
        mended[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c(&mended[21..]);
        mended[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    if let Ok(checked) = check_batch(&mended, &rules) {
        let plain = checked.batch.plain(rules.decompressed_bytes_max);
        let records = plain.expect("it was taken apart before");
        assert_eq!(records.iter().count() as u32, checked.batch.count());
    }
    for batch in batches(input) {
        let Ok(batch) = batch else { return };
        let head = batch.head();
        assert!(head.size_bytes() <= input.len());
        let intact = batch.verify_crc().is_ok() && batch.validate_produced().is_ok();
        let mut count = 0;
        for record in batch.records() {
            let Ok(record) = record else { break };
            record.headers().take(1_000).for_each(drop);
            count += 1;
            assert!(count <= head.count(), "more records than the head says");
        }
        assert!(!intact || head.compression().is_err() || count <= head.count());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut builder = BatchBuilder::new();
    let mut all = Vec::new();
    let mut seeds = Vec::new();
    for round in 0..3_u64 {
        for number in 0..=round * 5 {
            let headers: &[(&[u8], &[u8])] = &[(b"mqtt.topic", b"a/b"), (b"mqtt.retain", b"1")];
            let headers = if round == 1 { headers } else { &[] };
            let value = vec![b'v'; 30 * number as usize];
            let key = (number % 2 == 0).then_some(b"key".as_slice());
            builder.push(
                1_574_753_026_269 + number as i64,
                key,
                Some(&value),
                headers,
            );
        }
        let mut batch = builder.finish();
        set_base_offset(&mut batch, round * 100);
        all.extend_from_slice(&batch);
        seeds.push(batch);
    }
    seeds.push(all);
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut packed = seeds[2][..HEADER_BYTES].to_vec();
        packed[..8].fill(0);
        packed[22] = compression as u8;
        packed.extend(compress(compression, &seeds[2][HEADER_BYTES..]));
        seeds.push(packed);
    }
    seeds
}
