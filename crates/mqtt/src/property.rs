//! Properties of MQTT 5: their identifiers, the walk over a section, and the two that may occur
//! several times, which stay where they were read.

use std::fmt;

use crate::decode::DecodeError;
use crate::wire::{Reader, malformed, protocol_error};

/// Property identifiers [MQTT 5, table 2-4].
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// A set of property identifiers, as bits; all identifiers are below 64.
pub(crate) const fn set(ids: &[u8]) -> u64 {
    let mut bits = 0;
    let mut index = 0;
    while index < ids.len() {
        bits |= 1 << ids[index];
        index += 1;
    }
    bits
}

/// The walk over one section of properties: what is allowed, at most once each, and where the
/// repeated ones lie.
pub(crate) struct Section<'a> {
    pub(crate) reader: Reader<'a>,
    all: &'a [u8],
    allowed: u64,
    repeatable: u64,
    seen: u64,
    user: Span,
    subscription_ids: Span,
}

/// From the first to behind the last occurrence of a property in a section.
#[derive(Clone, Copy, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl<'a> Section<'a> {
    /// Reads the length and the section behind it.
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        allowed: u64,
        repeatable: u64,
    ) -> Result<Section<'a>, DecodeError> {
        let len = reader.varint()?;
        let section = reader.bytes(len as usize)?;
        Ok(Self::of(section, allowed, repeatable))
    }

    /// A section whose length was dealt with.
    pub(crate) fn of(section: &'a [u8], allowed: u64, repeatable: u64) -> Section<'a> {
        Section {
            reader: Reader::new(section),
            all: section,
            allowed,
            repeatable,
            seen: 0,
            user: Span::default(),
            subscription_ids: Span::default(),
        }
    }

    /// The next identifier for the caller to read the value of; user properties and subscription
    /// identifiers are checked here and stay in place.
    pub(crate) fn next(&mut self) -> Result<Option<u8>, DecodeError> {
        loop {
            if self.reader.is_empty() {
                return Ok(None);
            }
            let start = self.all.len() - self.reader.rest().len();
            let number = self.reader.varint()?;
            let bit = if number < 64 { 1_u64 << number } else { 0 };
            if bit & self.allowed == 0 {
                return Err(malformed("a property does not belong to this packet"));
            }
            if bit & self.seen & !self.repeatable != 0 {
                return Err(protocol_error("a property occurs twice"));
            }
            self.seen |= bit;
            let number = number as u8;
            let span = match number {
                id::USER => {
                    self.reader.str()?;
                    self.reader.str()?;
                    &mut self.user
                }
                id::SUBSCRIPTION_ID if self.repeatable & (1 << id::SUBSCRIPTION_ID) != 0 => {
                    if self.reader.varint()? == 0 {
                        return Err(protocol_error("subscription identifier zero"));
                    }
                    &mut self.subscription_ids
                }
                _ => return Ok(Some(number)),
            };
            if span.end == 0 {
                span.start = start;
            }
            span.end = self.all.len() - self.reader.rest().len();
        }
    }

    /// A byte that must be 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(protocol_error(
                "a property that is 0 or 1 has another value",
            )),
        }
    }

    /// The user properties met so far.
    pub(crate) fn user(&self) -> UserProperties<'a> {
        UserProperties(UserSource::Wire(&self.all[self.user.start..self.user.end]))
    }

    /// The subscription identifiers met so far.
    pub(crate) fn subscription_ids(&self) -> SubscriptionIds<'a> {
        let span = self.subscription_ids;
        SubscriptionIds(IdSource::Wire(&self.all[span.start..span.end]))
    }
}

/// Passes the value of a property whose section was checked before.
fn skip(number: u8, reader: &mut Reader<'_>) -> Option<()> {
    match number {
        id::PAYLOAD_FORMAT
        | id::REQUEST_PROBLEM_INFORMATION
        | id::REQUEST_RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_AVAILABLE
        | id::SUBSCRIPTION_IDS_AVAILABLE
        | id::SHARED_AVAILABLE => reader.bytes(1).ok()?,
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
            reader.bytes(2).ok()?
        }
        id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY | id::MAXIMUM_PACKET_SIZE => {
            reader.bytes(4).ok()?
        }
        id::SUBSCRIPTION_ID => {
            reader.varint().ok()?;
            &[]
        }
        id::USER => {
            reader.binary().ok()?;
            reader.binary().ok()?
        }
        _ => reader.binary().ok()?,
    };
    Some(())
}

/// User properties in their order: names and values, both may repeat.
#[derive(Clone, Copy)]
pub struct UserProperties<'a>(UserSource<'a>);

#[derive(Clone, Copy)]
enum UserSource<'a> {
    /// Checked properties, other properties in between.
    Wire(&'a [u8]),
    Slice(&'a [(&'a str, &'a str)]),
}

impl<'a> UserProperties<'a> {
    /// None at all.
    pub const EMPTY: UserProperties<'static> = UserProperties(UserSource::Wire(&[]));

    /// Properties to be written.
    pub const fn from_slice(pairs: &'a [(&'a str, &'a str)]) -> UserProperties<'a> {
        UserProperties(UserSource::Slice(pairs))
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            UserSource::Wire(wire) => wire.is_empty(),
            UserSource::Slice(slice) => slice.is_empty(),
        }
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (wire, slice): (&'a [u8], &'a [_]) = match self.0 {
            UserSource::Wire(wire) => (wire, &[]),
            UserSource::Slice(slice) => (&[], slice),
        };
        let mut reader = Reader::new(wire);
        let from_wire = std::iter::from_fn(move || {
            loop {
                let number = reader.varint().ok()? as u8;
                if number == id::USER {
                    return Some((reader.str().ok()?, reader.str().ok()?));
                }
                skip(number, &mut reader)?;
            }
        });
        from_wire.chain(slice.iter().copied())
    }
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Subscription identifiers of a PUBLISH, in their order; none is 0.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a>(IdSource<'a>);

#[derive(Clone, Copy)]
enum IdSource<'a> {
    /// Checked properties, other properties in between.
    Wire(&'a [u8]),
    Slice(&'a [u32]),
}

impl<'a> SubscriptionIds<'a> {
    /// None at all.
    pub const EMPTY: SubscriptionIds<'static> = SubscriptionIds(IdSource::Wire(&[]));

    /// Identifiers to be written, each from 1 to 268,435,455.
    pub const fn from_slice(ids: &'a [u32]) -> SubscriptionIds<'a> {
        SubscriptionIds(IdSource::Slice(ids))
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            IdSource::Wire(wire) => wire.is_empty(),
            IdSource::Slice(slice) => slice.is_empty(),
        }
    }

    /// The identifiers in their order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (wire, slice): (&'a [u8], &'a [_]) = match self.0 {
            IdSource::Wire(wire) => (wire, &[]),
            IdSource::Slice(slice) => (&[], slice),
        };
        let mut reader = Reader::new(wire);
        let from_wire = std::iter::from_fn(move || {
            loop {
                let number = reader.varint().ok()? as u8;
                if number == id::SUBSCRIPTION_ID {
                    return reader.varint().ok();
                }
                skip(number, &mut reader)?;
            }
        });
        from_wire.chain(slice.iter().copied())
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
