//! Zigzag variable-length integers as Apache Kafka's record format has them. Knows nothing of records.

/// Most bytes that one encoded 64-bit number takes.
pub const BYTES_MAX: usize = 10;

/// Writes `value` at `out[at..]` and returns the position behind it.
///
/// # Panics
/// When `out` has fewer than [`BYTES_MAX`] bytes behind `at` and the number needs them.
#[inline]
pub fn put(out: &mut [u8], at: usize, value: i64) -> usize {
    let mut rest = zigzag(value);
    let mut at = at;
    while rest >= 0x80 {
        out[at] = (rest as u8) | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

/// How many bytes `value` takes.
#[inline]
pub fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes a 64-bit number from the front of `input`; `None` when it is cut off or too long, and then
/// `input` is left somewhere inside the number.
#[inline]
pub fn take_long(input: &mut &[u8]) -> Option<i64> {
    // Most numbers of a record are of one byte or two.
    match **input {
        [first, ref rest @ ..] if first < 0x80 => {
            *input = rest;
            Some(unzigzag(u64::from(first)))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *input = rest;
            Some(unzigzag(u64::from(first & 0x7f) | u64::from(second) << 7))
        }
        _ => take_longer(input),
    }
}

fn take_longer(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(unzigzag(value));
        }
    }
    None
}

/// Takes a 32-bit number from the front of `input`; `None` as [`take_long`], and out of range.
#[inline]
pub fn take(input: &mut &[u8]) -> Option<i32> {
    take_long(input).and_then(|value| i32::try_from(value).ok())
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        // Apache Kafka, ByteUtilsTest.
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (-8193, &[0x81, 0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MAX,
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ] {
            let mut out = [0; BYTES_MAX];
            let end = put(&mut out, 0, value);
            assert_eq!(&out[..end], bytes, "{value}");
            assert_eq!(len(value), bytes.len(), "{value}");
            assert_eq!(take_long(&mut &bytes[..]), Some(value));
        }
    }

    #[test]
    fn bad_numbers_are_refused() {
        assert_eq!(take_long(&mut &[][..]), None);
        assert_eq!(take_long(&mut &[0x80, 0x80][..]), None);
        assert_eq!(take_long(&mut &[0xff; 11][..]), None);
        let mut too_big = [0xff; 10];
        too_big[9] = 0x02;
        assert_eq!(take_long(&mut &too_big[..]), None);
        assert_eq!(take(&mut &[0x80, 0x80, 0x80, 0x80, 0x10][..]), None, "2^31");
    }
}
