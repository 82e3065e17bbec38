//! The wire's primitive types: integers, variable byte integers, strings and binary data.
//! A reader never copies and never trusts an announced length.

use crate::decode::DecodeError;
use crate::reason::ReasonCode;

/// Reads from the front of a slice.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that was not read.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(count) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(malformed("the packet ends inside a field")),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                Ok(byte)
            }
            None => Err(malformed("the packet ends inside a field")),
        }
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        match self.rest.split_first_chunk::<2>() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(u16::from_be_bytes(*bytes))
            }
            None => Err(malformed("the packet ends inside a field")),
        }
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        match self.rest.split_first_chunk::<4>() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(u32::from_be_bytes(*bytes))
            }
            None => Err(malformed("the packet ends inside a field")),
        }
    }

    /// A variable byte integer, in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        match read_varint(self.rest) {
            Varint::Value {
                value,
                len,
                minimal: true,
            } => {
                self.rest = &self.rest[len..];
                Ok(value)
            }
            Varint::Value { minimal: false, .. } => Err(malformed("an integer is not minimal")),
            Varint::Incomplete => Err(malformed("the packet ends inside a field")),
            Varint::TooLong => Err(malformed("an integer has more than four bytes")),
        }
    }

    /// Binary data: two bytes of length, then the bytes.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// A UTF-8 string without U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2]; a byte order mark stays
    /// [MQTT-1.5.4-3].
    #[inline]
    pub(crate) fn str(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(malformed("a string is not UTF-8"));
        };
        if contains_null(bytes) {
            return Err(malformed("a string contains U+0000"));
        }
        Ok(text)
    }
}

/// Without an early exit, so that the loop is vectorised: strings are short.
#[inline]
fn contains_null(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(0, |found, &byte| found | u8::from(byte == 0))
        != 0
}

/// What the front of a slice holds where a variable byte integer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Varint {
    Value {
        value: u32,
        len: usize,
        minimal: bool,
    },
    Incomplete,
    TooLong,
}

#[inline]
pub(crate) fn read_varint(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for (position, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            let minimal = byte != 0 || position == 0;
            return Varint::Value {
                value,
                len: position + 1,
                minimal,
            };
        }
    }
    if bytes.len() < 4 {
        Varint::Incomplete
    } else {
        Varint::TooLong
    }
}

/// Bytes that a variable byte integer takes.
#[inline]
pub(crate) const fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Binary data or a string; more than 65,535 bytes cannot be written.
#[inline]
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("a field of MQTT has at most 65,535 bytes");
    put_u16(out, len);
    out.extend_from_slice(bytes);
}

pub(crate) const fn malformed(what: &'static str) -> DecodeError {
    DecodeError {
        reason: ReasonCode::MalformedPacket,
        version: None,
        what,
    }
}

pub(crate) const fn protocol_error(what: &'static str) -> DecodeError {
    DecodeError {
        reason: ReasonCode::ProtocolError,
        version: None,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> Option<u32> {
        match read_varint(bytes) {
            Varint::Value {
                value,
                minimal: true,
                ..
            } => Some(value),
            _ => None,
        }
    }

    /// [MQTT-1.5.5-1] and table 1-1.
    #[test]
    fn variable_byte_integers_at_their_bounds() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[0x7F]),
            (128, &[0x80, 1]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 1]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 1]),
            (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            assert_eq!(value(bytes), Some(number));
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!(out, bytes);
            assert_eq!(varint_len(number), bytes.len());
        }
        assert_eq!(read_varint(&[0x80, 0x80]), Varint::Incomplete);
        assert_eq!(read_varint(&[]), Varint::Incomplete);
        assert_eq!(read_varint(&[0x80, 0x80, 0x80, 0x80]), Varint::TooLong);
        assert_eq!(read_varint(&[0x80, 0x80, 0x80, 0x80, 0]), Varint::TooLong);
        assert_eq!(
            read_varint(&[0x81, 0]),
            Varint::Value {
                value: 1,
                len: 2,
                minimal: false
            },
            "one in two bytes"
        );
        assert!(Reader::new(&[0x81, 0]).varint().is_err());
    }

    /// [MQTT-1.5.4-1]; 3.1.1: [MQTT-1.5.3-1].
    #[test]
    fn strings_are_well_formed_utf_8() {
        assert_eq!(Reader::new(&[0, 2, 0xC3, 0xA4]).str().unwrap(), "\u{e4}");
        let surrogate = [0, 3, 0xED, 0xA0, 0x80];
        assert_eq!(
            Reader::new(&surrogate).str().unwrap_err().reason,
            ReasonCode::MalformedPacket
        );
        assert!(Reader::new(&[0, 1, 0xC3]).str().is_err());
        assert!(
            Reader::new(&[0, 2, 0xC0, 0x80]).str().is_err(),
            "an overlong null"
        );
        assert!(
            Reader::new(&[0, 3, b'a']).str().is_err(),
            "shorter than announced"
        );
    }

    /// [MQTT-1.5.4-2]; 3.1.1: [MQTT-1.5.3-2].
    #[test]
    fn strings_hold_no_null() {
        assert!(Reader::new(&[0, 1, 0]).str().is_err());
        assert!(Reader::new(&[0, 3, b'a', 0, b'b']).str().is_err());
        assert_eq!(Reader::new(&[0, 0]).str().unwrap(), "");
    }

    /// [MQTT-1.5.4-3]; 3.1.1: [MQTT-1.5.3-3].
    #[test]
    fn a_byte_order_mark_stays() {
        assert_eq!(
            Reader::new(&[0, 4, 0xEF, 0xBB, 0xBF, b'a']).str().unwrap(),
            "\u{feff}a"
        );
    }
}
