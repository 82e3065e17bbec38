//! Where a keyed record goes: Apache Kafka's murmur2, so that Java producers and this program put
//! one device into one partition.

/// The partition of a record as the Java producer chooses it: `toPositive(murmur2(key)) % n`.
/// A record without a key goes to partition 0 here; who wants to spread such records chooses itself.
///
/// # Panics
/// When `partitions` is 0.
pub fn partition_for_key(key: Option<&[u8]>, partitions: u32) -> u32 {
    assert!(partitions > 0, "a stream has at least one partition");
    match key {
        Some(key) => (murmur2(key) & 0x7fff_ffff) as u32 % partitions,
        None => 0,
    }
}

/// 32-bit murmur2 with Apache Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    for (at, &byte) in tail.iter().enumerate() {
        hash ^= u32::from(byte) << (8 * at);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apache_kafkas_own_vectors() {
        // UtilsTest.testMurmur2
        for (key, hash) in [
            (&b"21"[..], -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn the_sign_bit_is_masked_not_negated() {
        assert_eq!(partition_for_key(Some(b"21"), 4), 0x45f2_f8ec % 4);
        assert_eq!(partition_for_key(None, 4), 0);
        assert_eq!(partition_for_key(Some(b"x"), 1), 0);
    }
}
