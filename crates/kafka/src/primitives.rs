//! The primitive types of the protocol: integers, variable-length integers, strings, byte strings,
//! arrays, uuids and tagged fields, read from a borrowed buffer and written to a growing one.
//! A reader allocates by what has arrived, never by what a length announces.

use crate::limits;
use bytes::Bytes;

/// A topic id; sixteen zeros stand for none.
pub type Uuid = [u8; 16];

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end before the value does.
    Short,
    /// A length or a count is below zero, or larger than what can follow.
    Length,
    /// A variable-length integer has more bytes than its type.
    Varint,
    /// A string is not UTF-8.
    Utf8,
    /// A null where this version knows none.
    Null,
    /// The announced size of the frame is larger than the bound.
    TooLarge,
    /// The API is not served in this version.
    Unsupported,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Short => "the bytes end inside a value",
            Self::Length => "a length is negative or larger than the message",
            Self::Varint => "a variable-length integer is too long",
            Self::Utf8 => "a string is not UTF-8",
            Self::Null => "a field is null that cannot be",
            Self::TooLarge => "the message is larger than allowed",
            Self::Unsupported => "the API or its version is not supported",
        })
    }
}

impl std::error::Error for WireError {}

/// A type that has a place on the wire. What its bytes are may depend on the version of the message
/// and on whether that version is flexible (KIP-482).
pub trait Wire<'a>: Sized {
    /// Reads one value.
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError>;

    /// Writes the value. Writing cannot fail: what a version lacks is left out.
    fn write(&self, to: &mut Writer);

    /// Whether this is the null of a nullable type.
    fn is_null(&self) -> bool {
        false
    }

    /// Writes the value, or an empty one in place of a null that the version does not know.
    fn write_or_empty(&self, to: &mut Writer, _nullable: bool) {
        self.write(to);
    }
}

/// A cursor over the bytes of one message in one version.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    /// How many elements of arrays may still come.
    elements_left: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` as a message of this version.
    pub fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Self {
        Self {
            rest: bytes,
            version,
            flexible,
            elements_left: usize::MAX,
        }
    }

    /// Bounds the elements of all arrays of the message together: an element of two bytes becomes a
    /// struct of a hundred.
    #[must_use]
    pub fn with_elements_max(self, elements_max: usize) -> Self {
        Self {
            elements_left: elements_max,
            ..self
        }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether the version is flexible: compact lengths and tagged fields.
    pub fn flexible(&self) -> bool {
        self.flexible
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// An unsigned variable-length integer of 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    /// The length in front of a string (16 bits, or compact); `None` is null. A compact one could be
    /// longer, but what is kept of it may be told to a client that has 16 bits for it, so Kafka and
    /// we refuse that.
    fn string_length(&mut self) -> Result<Option<usize>, WireError> {
        if self.flexible {
            let length = (self.unsigned_varint()? as usize).checked_sub(1);
            return if length.is_some_and(|length| length > i16::MAX as usize) {
                Err(WireError::Length)
            } else {
                Ok(length)
            };
        }
        match i16::read(self)? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| WireError::Length),
        }
    }

    /// The length in front of bytes or of an array (32 bits, or compact); `None` is null.
    fn long_length(&mut self) -> Result<Option<usize>, WireError> {
        if self.flexible {
            return Ok((self.unsigned_varint()? as usize).checked_sub(1));
        }
        match i32::read(self)? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| WireError::Length),
        }
    }

    /// The number of tagged fields that follow.
    pub fn tag_count(&mut self) -> Result<u32, WireError> {
        let count = self.unsigned_varint()?;
        // A tagged field is at least its tag and its size.
        if count as usize > self.rest.len() / 2 {
            return Err(WireError::Length);
        }
        Ok(count)
    }

    /// One tagged field: its number, and a reader over exactly its bytes.
    pub fn tag(&mut self) -> Result<(u32, Reader<'a>), WireError> {
        let tag = self.unsigned_varint()?;
        let size = self.unsigned_varint()? as usize;
        Ok((
            tag,
            Reader {
                rest: self.take(size)?,
                ..*self
            },
        ))
    }

    /// Passes over a section of tagged fields.
    pub fn skip_tags(&mut self) -> Result<(), WireError> {
        for _ in 0..self.tag_count()? {
            self.tag()?;
        }
        Ok(())
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// So many bytes that whoever sends the message has apart from it.
    Apart(usize),
}

impl Piece {
    /// Its size, in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Apart(size_bytes) => *size_bytes,
        }
    }
}

/// The bytes of one message in one version while it is written. Record batches are spliced in by
/// reference and never copied.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    /// What stands between the bytes: position in `bytes`, and the piece.
    spliced: Vec<(usize, Piece)>,
    version: i16,
    flexible: bool,
    bytes_max: usize,
}

impl Writer {
    /// Starts a message of this version.
    pub fn new(version: i16, flexible: bool) -> Self {
        Self {
            bytes: Vec::with_capacity(256),
            spliced: Vec::new(),
            version,
            flexible,
            bytes_max: limits::MESSAGE_BYTES_MAX,
        }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether the version is flexible.
    pub fn flexible(&self) -> bool {
        self.flexible
    }

    /// Writes bytes as they are. Once the message is over its bound nothing is added any more, since
    /// it will not be sent.
    pub fn raw(&mut self, bytes: &[u8]) {
        if self.bytes.len() <= self.bytes_max {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Bounds the message to so many bytes.
    pub(crate) fn with_bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// The bound of the message, in bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// An unsigned variable-length integer of 32 bits.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.raw(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.raw(&[value as u8]);
    }

    fn string_length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.unsigned_varint(length.map_or(0, |length| length as u32 + 1));
        } else {
            let length = length.map_or(-1, |length| {
                i16::try_from(length).expect("a string of the protocol is shorter than 32 KiB")
            });
            length.write(self);
        }
    }

    fn long_length(&mut self, length: Option<usize>) {
        assert!(
            length.unwrap_or(0) < i32::MAX as usize,
            "a message is shorter than 2 GiB"
        );
        if self.flexible {
            self.unsigned_varint(length.map_or(0, |length| length as u32 + 1));
        } else {
            length.map_or(-1, |length| length as i32).write(self);
        }
    }

    /// The bytes, with the pieces that stand between them.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<(usize, Piece)>) {
        (self.bytes, self.spliced)
    }
}

/// The tagged fields of one struct, gathered in rising order of their tags.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    fields: Vec<(u32, Vec<u8>)>,
}

impl Tags {
    pub(crate) fn push<'a>(&mut self, to: &Writer, tag: u32, value: &impl Wire<'a>) {
        let mut field = Writer {
            bytes: Vec::new(),
            spliced: Vec::new(),
            ..*to
        };
        value.write(&mut field);
        self.fields.push((tag, field.bytes));
    }

    pub(crate) fn write(self, to: &mut Writer) {
        to.unsigned_varint(self.fields.len() as u32);
        for (tag, bytes) in self.fields {
            to.unsigned_varint(tag);
            to.unsigned_varint(bytes.len() as u32);
            to.raw(&bytes);
        }
    }
}

macro_rules! integers {
    ($($kind:ty),*) => {$(
        impl<'a> Wire<'a> for $kind {
            fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
                from.array().map(Self::from_be_bytes)
            }

            fn write(&self, to: &mut Writer) {
                to.raw(&self.to_be_bytes());
            }
        }
    )*};
}

integers!(i8, i16, i32, i64);

impl<'a> Wire<'a> for bool {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        i8::read(from).map(|byte| byte != 0)
    }

    fn write(&self, to: &mut Writer) {
        i8::from(*self).write(to);
    }
}

impl<'a> Wire<'a> for Uuid {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        from.array()
    }

    fn write(&self, to: &mut Writer) {
        to.raw(self);
    }
}

impl<'a> Wire<'a> for &'a str {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        Option::<&str>::read(from)?.ok_or(WireError::Null)
    }

    fn write(&self, to: &mut Writer) {
        to.string_length(Some(self.len()));
        to.raw(self.as_bytes());
    }
}

impl<'a> Wire<'a> for Option<&'a str> {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let Some(length) = from.string_length()? else {
            return Ok(None);
        };
        let bytes = from.take(length)?;
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| WireError::Utf8)
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Some(string) => string.write(to),
            None => to.string_length(None),
        }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn write_or_empty(&self, to: &mut Writer, nullable: bool) {
        match self {
            None if !nullable => "".write(to),
            _ => self.write(to),
        }
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let length = from.long_length()?.ok_or(WireError::Null)?;
        from.take(length)
    }

    fn write(&self, to: &mut Writer) {
        to.long_length(Some(self.len()));
        to.raw(self);
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        Option::<Self>::read(from)?.ok_or(WireError::Null)
    }

    fn write(&self, to: &mut Writer) {
        to.long_length(Some(self.len()));
        for element in self {
            element.write(to);
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<Vec<T>> {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let Some(count) = from.long_length()? else {
            return Ok(None);
        };
        // No element is shorter than a byte.
        if count > from.rest.len() {
            return Err(WireError::Length);
        }
        from.elements_left = from
            .elements_left
            .checked_sub(count)
            .ok_or(WireError::TooLarge)?;
        let mut elements = Vec::with_capacity(count.min(limits::ARRAY_RESERVE_MAX));
        for _ in 0..count {
            elements.push(T::read(from)?);
        }
        Ok(Some(elements))
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Some(elements) => elements.write(to),
            None => to.long_length(None),
        }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn write_or_empty(&self, to: &mut Writer, nullable: bool) {
        match self {
            None if !nullable => to.long_length(Some(0)),
            _ => self.write(to),
        }
    }
}

/// The record batches of a partition, as they lie in the log.
#[derive(Clone, Debug)]
pub enum Records<'a> {
    /// None at all, which is not the same as no bytes.
    Null,
    /// To be sent: slices of the log that go out one behind the other.
    Stored(Vec<Bytes>),
    /// To be sent: so many bytes that whoever sends the message has apart from it.
    Apart(usize),
    /// As they were received.
    Received(&'a [u8]),
}

impl Records<'_> {
    /// Size of the batches, in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Stored(slices) => slices.iter().map(Bytes::len).sum(),
            Self::Apart(size_bytes) => *size_bytes,
            Self::Received(bytes) => bytes.len(),
        }
    }

    /// The batches in one piece, where they were received.
    pub fn received(&self) -> &[u8] {
        match self {
            Self::Received(bytes) => bytes,
            Self::Null | Self::Stored(_) | Self::Apart(_) => &[],
        }
    }
}

/// Equal when the bytes on the wire are, however they are held.
impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        fn slices<'r>(records: &'r Records<'_>) -> impl Iterator<Item = &'r [u8]> {
            let (stored, received) = match records {
                Records::Null | Records::Apart(_) => (&[][..], None),
                Records::Stored(slices) => (&slices[..], None),
                Records::Received(bytes) => (&[][..], Some(*bytes)),
            };
            stored.iter().map(|slice| &slice[..]).chain(received)
        }
        if let (Self::Apart(_), _) | (_, Self::Apart(_)) = (self, other) {
            // Bytes that are not here are like none but themselves.
            return matches!((self, other), (Self::Apart(a), Self::Apart(b)) if a == b);
        }
        self.is_null() == other.is_null() && slices(self).flatten().eq(slices(other).flatten())
    }
}

impl<'a> Wire<'a> for Records<'a> {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        match from.long_length()? {
            None => Ok(Self::Null),
            Some(length) => from.take(length).map(Self::Received),
        }
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Self::Null => to.long_length(None),
            Self::Stored(slices) => {
                to.long_length(Some(self.size_bytes()));
                let at = to.bytes.len();
                let slices = slices.iter().cloned().map(Piece::Bytes);
                to.spliced.extend(slices.map(|slice| (at, slice)));
            }
            Self::Apart(size_bytes) => {
                to.long_length(Some(*size_bytes));
                if *size_bytes > 0 {
                    to.spliced.push((to.bytes.len(), Piece::Apart(*size_bytes)));
                }
            }
            Self::Received(bytes) => {
                to.long_length(Some(bytes.len()));
                to.raw(bytes);
            }
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8], flexible: bool) -> Reader<'_> {
        Reader::new(bytes, 0, flexible)
    }

    #[test]
    fn varints_have_at_most_32_bits() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u32::MAX] {
            let mut to = Writer::new(0, true);
            to.unsigned_varint(value);
            assert_eq!(reader(&to.bytes, true).unsigned_varint(), Ok(value));
        }
        let too_long = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert_eq!(
            reader(&too_long, true).unsigned_varint(),
            Err(WireError::Varint)
        );
        let endless = [0x80; 9];
        assert_eq!(
            reader(&endless, true).unsigned_varint(),
            Err(WireError::Varint)
        );
        assert_eq!(
            reader(&[0x80], true).unsigned_varint(),
            Err(WireError::Short)
        );
    }

    #[test]
    fn an_announced_count_reserves_nothing() {
        // The 19 bytes that abort a server which trusts them: an array of 2^31 - 1 elements.
        let bytes = [0x7f, 0xff, 0xff, 0xff];
        assert_eq!(
            Vec::<i32>::read(&mut reader(&bytes, false)),
            Err(WireError::Length)
        );
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(
            Vec::<i32>::read(&mut reader(&bytes, true)),
            Err(WireError::Length)
        );
        let bytes = [0x80, 0, 0, 0];
        assert_eq!(
            Vec::<i32>::read(&mut reader(&bytes, false)),
            Err(WireError::Length)
        );
    }

    #[test]
    fn a_string_that_can_be_read_can_be_written_in_any_version() {
        for (length, readable) in [(32_767, true), (32_768, false), (40_000, false)] {
            let text = "x".repeat(length);
            let mut to = Writer::new(0, true);
            text.as_str().write(&mut to);
            let read = <&str>::read(&mut reader(&to.bytes, true));
            let nullable = Option::<&str>::read(&mut reader(&to.bytes, true));
            if readable {
                assert_eq!(read, Ok(text.as_str()));
                assert_eq!(nullable, Ok(Some(text.as_str())));
                let mut old = Writer::new(0, false);
                text.as_str().write(&mut old);
                assert_eq!(old.bytes.len(), 2 + length);
            } else {
                assert_eq!(read, Err(WireError::Length));
                assert_eq!(nullable, Err(WireError::Length));
            }
        }
    }

    #[test]
    fn strings_are_utf8_and_end_inside_the_message() {
        assert_eq!(
            <&str>::read(&mut reader(&[0, 2, b'o', b'k'], false)),
            Ok("ok")
        );
        assert_eq!(<&str>::read(&mut reader(&[3, b'o', b'k'], true)), Ok("ok"));
        assert_eq!(
            <&str>::read(&mut reader(&[0, 1, 0xff], false)),
            Err(WireError::Utf8)
        );
        assert_eq!(
            <&str>::read(&mut reader(&[0, 3, b'o', b'k'], false)),
            Err(WireError::Short)
        );
        assert_eq!(
            <&str>::read(&mut reader(&[0xff, 0xff], false)),
            Err(WireError::Null)
        );
        assert_eq!(
            <&str>::read(&mut reader(&[0xff, 0xfe], false)),
            Err(WireError::Length)
        );
        assert_eq!(Option::<&str>::read(&mut reader(&[0], true)), Ok(None));
    }

    #[test]
    fn tags_are_bounded_and_skipped() {
        let mut tags = reader(&[2, 0, 1, 9, 5, 2, 1, 2, 77], true);
        tags.skip_tags().unwrap();
        assert_eq!(tags.rest(), [77]);
        assert_eq!(
            reader(&[0xff, 0xff, 0x03], true).skip_tags(),
            Err(WireError::Length)
        );
        assert_eq!(
            reader(&[1, 0, 9, 1], true).skip_tags(),
            Err(WireError::Short)
        );
    }
}
