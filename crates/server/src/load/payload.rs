//! The payload of a measured message: the article's door-lock report, padded to the size asked for.
//! The last sixteen bytes before the closing quote and brace carry the send time.

/// Where the time stamp ends, counted from the payload's end.
const STAMP_TAIL: usize = 2;
/// Hexadecimal digits of a time stamp in nanoseconds.
const STAMP_LEN: usize = 16;
/// The smallest payload that can carry a time stamp.
pub const STAMPED_MIN: usize = STAMP_LEN + STAMP_TAIL + 8;

/// The article's report, padded with a field `pad` to `size` bytes when it is shorter.
pub fn door_lock_report(size: usize, client_id: &str) -> Vec<u8> {
    let head = format!(
        r#"{{"process_id":"7802441525528958","action":"unlock","battery":83.4,"lock_state":1,"version":1.1,"client_id":"{client_id}","pad":""#
    );
    let mut payload = head.into_bytes();
    if size < payload.len() + STAMP_LEN + STAMP_TAIL {
        return vec![b'x'; size];
    }
    payload.resize(size - STAMP_TAIL, b'0');
    payload.extend_from_slice(b"\"}");
    payload
}

/// Writes `nanos` into the payload's time stamp, when it is long enough to have one.
pub fn stamp(payload: &mut [u8], nanos: u64) {
    if payload.len() < STAMPED_MIN {
        return;
    }
    let end = payload.len() - STAMP_TAIL;
    let digits = &mut payload[end - STAMP_LEN..end];
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = (nanos >> (4 * (STAMP_LEN - 1 - index))) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}

/// Reads the time stamp back; `None` when the payload carries none.
pub fn stamped(payload: &[u8]) -> Option<u64> {
    if payload.len() < STAMPED_MIN {
        return None;
    }
    let end = payload.len() - STAMP_TAIL;
    let mut nanos = 0_u64;
    for byte in &payload[end - STAMP_LEN..end] {
        nanos = nanos << 4 | u64::from((*byte as char).to_digit(16)?);
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_report_is_json_of_the_size_asked_for() {
        let mut payload = door_lock_report(256, "10083618796833171");
        assert_eq!(payload.len(), 256);
        stamp(&mut payload, 0x1234_5678_9abc);
        let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(json["client_id"], "10083618796833171");
        assert_eq!(stamped(&payload), Some(0x1234_5678_9abc));
    }

    #[test]
    fn a_short_payload_carries_no_stamp() {
        let mut payload = door_lock_report(10, "a");
        stamp(&mut payload, 7);
        assert_eq!(payload, b"xxxxxxxxxx");
        assert_eq!(stamped(&payload), None);
    }
}
