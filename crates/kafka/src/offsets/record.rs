//! The records of the offsets table. Numbers are big endian.
//!
//! ```text
//! key    format (1)  group: u16 length, bytes   topic: u16 length, bytes   partition: i32
//! value  format (1)  offset: i64  leader epoch: i32  commit time: u64 ms since 1970
//!                    metadata: u16 length, bytes
//! ```

/// Format of keys and values; one that is not known is refused, not guessed at.
const FORMAT: u8 = 1;

/// Bytes that are no record of the offsets table; says what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedRecord(pub &'static str);

impl std::fmt::Display for MalformedRecord {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for MalformedRecord {}

/// What an offset is committed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OffsetKey<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
}

/// A committed offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the last record that was read, or -1.
    pub leader_epoch: i32,
    /// Words of the client.
    pub metadata: String,
    /// When it was committed, ms since 1970.
    pub commit_ms: u64,
}

impl<'a> OffsetKey<'a> {
    /// The key of the record. Names beyond 65,535 bytes cannot be, and are cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + self.group.len() + self.topic.len());
        bytes.push(FORMAT);
        put_text(&mut bytes, self.group);
        put_text(&mut bytes, self.topic);
        bytes.extend_from_slice(&self.partition.to_be_bytes());
        bytes
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedRecord> {
        let mut fields = Fields::new(bytes)?;
        let key = Self {
            group: fields.text()?,
            topic: fields.text()?,
            partition: i32::from_be_bytes(fields.array()?),
        };
        fields.end()?;
        Ok(key)
    }
}

impl CommittedOffset {
    /// The value of the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(23 + self.metadata.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.leader_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.commit_ms.to_be_bytes());
        put_text(&mut bytes, &self.metadata);
        bytes
    }

    /// Reads a value.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedRecord> {
        let mut fields = Fields::new(bytes)?;
        let committed = Self {
            offset: i64::from_be_bytes(fields.array()?),
            leader_epoch: i32::from_be_bytes(fields.array()?),
            commit_ms: u64::from_be_bytes(fields.array()?),
            metadata: fields.text()?.to_owned(),
        };
        fields.end()?;
        Ok(committed)
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut size = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(size) {
        size -= 1;
    }
    bytes.extend_from_slice(&(size as u16).to_be_bytes());
    bytes.extend_from_slice(&text.as_bytes()[..size]);
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, MalformedRecord> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => Ok(Self(rest)),
            Some(_) => Err(MalformedRecord("it has a format that is not known")),
            None => Err(MalformedRecord("it is empty")),
        }
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], MalformedRecord> {
        let short = MalformedRecord("it ends too early");
        let (taken, rest) = self.0.split_at_checked(size).ok_or(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedRecord> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn text(&mut self) -> Result<&'a str, MalformedRecord> {
        let size = u16::from_be_bytes(self.array()?);
        let bytes = self.take(size.into())?;
        std::str::from_utf8(bytes).map_err(|_| MalformedRecord("a text in it is not UTF-8"))
    }

    fn end(&self) -> Result<(), MalformedRecord> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MalformedRecord("it goes on behind its end"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_as_they_were_written(
            group in ".{0,40}", topic in ".{0,40}", metadata in ".{0,60}",
            partition: i32, offset: i64, leader_epoch: i32, commit_ms: u64,
        ) {
            let key = OffsetKey { group: &group, topic: &topic, partition };
            let bytes = key.encode();
            prop_assert_eq!(OffsetKey::decode(&bytes), Ok(key));
            let value = CommittedOffset { offset, leader_epoch, metadata, commit_ms };
            prop_assert_eq!(CommittedOffset::decode(&value.encode()), Ok(value));
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            let _ = OffsetKey::decode(&bytes);
            let _ = CommittedOffset::decode(&bytes);
        }
    }

    #[test]
    fn the_format_is_what_it_is_said_to_be() {
        let key = OffsetKey {
            group: "g",
            topic: "to",
            partition: 3,
        };
        assert_eq!(key.encode(), b"\x01\0\x01g\0\x02to\0\0\0\x03");
        let value = CommittedOffset {
            offset: 258,
            leader_epoch: -1,
            metadata: "m".into(),
            commit_ms: 7,
        };
        let bytes = b"\x01\0\0\0\0\0\0\x01\x02\xff\xff\xff\xff\0\0\0\0\0\0\0\x07\0\x01m";
        assert_eq!(value.encode(), bytes);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let bytes = OffsetKey {
            group: "g",
            topic: "t",
            partition: 3,
        }
        .encode();
        for size in 0..bytes.len() {
            assert!(OffsetKey::decode(&bytes[..size]).is_err(), "{size}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(OffsetKey::decode(&longer).is_err());
        let mut other = bytes;
        other[0] = 2;
        assert!(OffsetKey::decode(&other).is_err());
    }
}
