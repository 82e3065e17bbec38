//! MQTT 5 properties of a PUBLISH that go on to its receivers, kept as the bytes that stand on the
//! wire, so that a delivery splices them. Expiry, topic alias and subscription identifiers are not
//! among them: each delivery has its own.

use std::fmt;

const PAYLOAD_FORMAT: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const USER_PROPERTY: u8 = 0x26;

/// What [`mqtt::PublishProperties::encode_forwarded`] wrote, and `mqtt::Outgoing` splices. Checked
/// where it comes in, so reading it cannot fail.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardProperties<'a> {
    raw: &'a [u8],
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// Payload Format Indicator: 1 for UTF-8.
    PayloadFormat(u8),
    /// Content Type.
    ContentType(&'a str),
    /// Response Topic.
    ResponseTopic(&'a str),
    /// Correlation Data.
    CorrelationData(&'a [u8]),
    /// User Property: name and value; may occur more than once.
    User(&'a str, &'a str),
}

impl<'a> ForwardProperties<'a> {
    /// Bytes that this program has encoded.
    pub(crate) fn from_raw(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// Bytes of unknown origin, checked: known properties only, each but the user's at most once.
    pub(crate) fn check(raw: &'a [u8]) -> Option<Self> {
        let mut rest = raw;
        let mut seen = 0u64;
        while let Some(&id) = rest.first() {
            Property::decode(&mut rest)?;
            let bit = 1 << id;
            if seen & bit != 0 && id != USER_PROPERTY {
                return None;
            }
            seen |= bit;
        }
        Some(Self { raw })
    }

    /// The bytes as they stand on the wire, without the length in front.
    pub fn as_bytes(self) -> &'a [u8] {
        self.raw
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// The properties in order.
    pub fn iter(self) -> impl Iterator<Item = Property<'a>> {
        let mut rest = self.raw;
        std::iter::from_fn(move || Property::decode(&mut rest))
    }
}

impl fmt::Debug for ForwardProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Property<'a> {
    /// Takes one property off the front.
    fn decode(rest: &mut &'a [u8]) -> Option<Self> {
        let (&id, mut after) = rest.split_first()?;
        let property = match id {
            PAYLOAD_FORMAT => {
                let (&format, tail) = after.split_first()?;
                after = tail;
                Self::PayloadFormat(format)
            }
            CONTENT_TYPE => Self::ContentType(text(&mut after)?),
            RESPONSE_TOPIC => Self::ResponseTopic(text(&mut after)?),
            CORRELATION_DATA => Self::CorrelationData(binary(&mut after)?),
            USER_PROPERTY => Self::User(text(&mut after)?, text(&mut after)?),
            _ => return None,
        };
        *rest = after;
        Some(property)
    }
}

fn binary<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<2>()?;
    let (bytes, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    *rest = after;
    Some(bytes)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(binary(rest)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::{PublishProperties, UserProperties};

    #[test]
    fn what_the_protocol_crate_forwards_is_read_back_and_no_part_of_it_passes_for_the_whole() {
        let pairs = [("b", "1"), ("a", ""), ("b", "2")];
        let properties = PublishProperties {
            payload_format: Some(1),
            content_type: Some("text/plain"),
            response_topic: Some("r/t"),
            correlation_data: Some(&[0, 255]),
            user: UserProperties::from_slice(&pairs),
            expiry_s: Some(5),
            topic_alias: Some(1),
            ..PublishProperties::default()
        };
        let mut raw = Vec::new();
        properties.encode_forwarded(&mut raw);
        let read: Vec<Property<'_>> = ForwardProperties::check(&raw).unwrap().iter().collect();
        assert_eq!(read.len(), 7);
        for property in [
            Property::PayloadFormat(1),
            Property::ContentType("text/plain"),
            Property::ResponseTopic("r/t"),
            Property::CorrelationData(&[0, 255]),
        ] {
            assert!(read.contains(&property), "{property:?}");
        }
        let user: Vec<_> = read
            .iter()
            .filter_map(|property| match property {
                Property::User(name, value) => Some((*name, *value)),
                _ => None,
            })
            .collect();
        assert_eq!(user, pairs);
        let whole = (0..raw.len())
            .filter(|&cut| ForwardProperties::check(&raw[..cut]).is_some())
            .count();
        assert_eq!(whole, read.len(), "only between two properties");
    }

    #[test]
    fn foreign_properties_are_refused() {
        let check = |raw| ForwardProperties::check(raw).is_some();
        assert!(!check(&[0x01, 1, 0x01, 1]), "twice");
        assert!(
            !check(&[0x02, 0, 0, 0, 1]),
            "expiry is not forwarded as it is"
        );
        assert!(!check(&[0x03, 0, 1, 0xff]), "not UTF-8");
        assert!(
            check(&[0x26, 0, 0, 0, 0, 0x26, 0, 0, 0, 0]),
            "user properties repeat"
        );
    }
}
