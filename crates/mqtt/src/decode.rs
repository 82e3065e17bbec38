//! Bytes to packets, without a copy and without an allocation; every refusal names its reason code.
//! What is legal at this moment of a session is for the session to judge.

mod connect;

use self::connect::{connack, connect};
use crate::limits::PACKET_SIZE_MAX;
use crate::packet::{
    Ack, Auth, Connack, ConnackProperties, Connect, Disconnect, Filters, Packet, PacketType,
    Publish, PublishProperties, QoS, ReasonCodes, Suback, Subscribe, SubscribeOptions,
    TopicFilters, Unsuback, Unsubscribe, Version,
};
use crate::property::{Section, UserProperties, id, set};
use crate::reason::ReasonCode;
use crate::topic;
use crate::wire::{Reader, Varint, malformed, protocol_error, read_varint};

/// Why bytes are refused. The connection they came from cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// For the CONNACK or DISCONNECT of MQTT 5; MQTT 3 closes the connection without a word, but
    /// for the two refusals that [`DecodeError::write_connack`] knows.
    pub reason: ReasonCode,
    /// The version to answer in; none while a CONNECT has not told it.
    pub version: Option<Version>,
    /// What is wrong, for the log and the reason string.
    pub what: &'static str,
}

impl DecodeError {
    /// Writes the CONNACK that a refused CONNECT is due; returns false where the connection is to be
    /// closed without one [MQTT-3.1.2-1] [MQTT-3.1.4-1].
    pub fn write_connack(&self, out: &mut Vec<u8>) -> bool {
        let due = match self.version {
            None => false,
            Some(Version::V5) => self.reason.allowed_in(PacketType::Connack),
            Some(_) => matches!(
                self.reason,
                ReasonCode::UnsupportedProtocolVersion | ReasonCode::ClientIdentifierNotValid
            ),
        };
        if let (true, Some(version)) = (due, self.version) {
            let properties = ConnackProperties::default();
            Packet::Connack(Connack {
                session_present: false,
                reason: self.reason,
                properties,
            })
            .encode(version, out);
        }
        due
    }

    const fn in_version(self, version: Version) -> DecodeError {
        DecodeError {
            version: Some(version),
            ..self
        }
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.what, self.reason.name())
    }
}

impl std::error::Error for DecodeError {}

/// A fixed header whose packet is there as a whole.
struct Frame<'a> {
    first: u8,
    minimal: bool,
    body: &'a [u8],
    len: usize,
}

impl<'a> Frame<'a> {
    #[inline]
    fn read(buf: &'a [u8], size_max: u32) -> Result<Option<Frame<'a>>, DecodeError> {
        let Some((&first, rest)) = buf.split_first() else {
            return Ok(None);
        };
        let (remaining, header_len, minimal) = match read_varint(rest) {
            Varint::Value {
                value,
                len,
                minimal,
            } => (value as usize, 1 + len, minimal),
            Varint::Incomplete => return Ok(None),
            Varint::TooLong => return Err(malformed("the remaining length has more than 4 bytes")),
        };
        let len = header_len + remaining;
        if len > size_max as usize {
            return Err(DecodeError {
                reason: ReasonCode::PacketTooLarge,
                version: None,
                what: "the packet is larger than the maximum packet size",
            });
        }
        Ok(buf.get(header_len..len).map(|body| Frame {
            first,
            minimal,
            body,
            len,
        }))
    }
}

/// The packet at the front of `buf` and the bytes it takes. `Ok(None)`: more bytes are needed.
/// A packet of more than `packet_size_max` bytes is refused as soon as its fixed header says so.
#[inline]
pub fn decode(
    buf: &[u8],
    version: Version,
    packet_size_max: u32,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    match decode_any(buf, version, packet_size_max) {
        Ok(packet) => Ok(packet),
        Err(error) => Err(error.in_version(version)),
    }
}

#[inline]
fn decode_any(
    buf: &[u8],
    version: Version,
    packet_size_max: u32,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some(frame) = Frame::read(buf, packet_size_max)? else {
        return Ok(None);
    };
    if !frame.minimal && version.is_v5() {
        return Err(malformed("the remaining length is not minimal"));
    }
    // What a busy connection consists of comes first, and is built in place.
    let packet = match frame.first {
        0x30..=0x3F => Packet::Publish(publish(frame.first & 0x0F, frame.body, version)?),
        0x40 => Packet::Puback(ack(frame.body, version, PacketType::Puback)?),
        0x50 => Packet::Pubrec(ack(frame.body, version, PacketType::Pubrec)?),
        0x62 => Packet::Pubrel(ack(frame.body, version, PacketType::Pubrel)?),
        0x70 => Packet::Pubcomp(ack(frame.body, version, PacketType::Pubcomp)?),
        _ => other(frame.first, frame.body, version)?,
    };
    Ok(Some((packet, frame.len)))
}

/// The CONNECT that opens a connection, in whatever version it speaks. Anything else is refused by
/// its first byte.
pub fn decode_connect(
    buf: &[u8],
    packet_size_max: u32,
) -> Result<Option<(Connect<'_>, usize)>, DecodeError> {
    let Some(&first) = buf.first() else {
        return Ok(None);
    };
    if first >> 4 != PacketType::Connect as u8 {
        return Err(protocol_error("the first packet is not CONNECT"));
    }
    if first != (PacketType::Connect as u8) << 4 {
        return Err(malformed("reserved flags of the fixed header"));
    }
    let Some(frame) = Frame::read(buf, packet_size_max)? else {
        return Ok(None);
    };
    let connect = connect(frame.body)?;
    if !frame.minimal && connect.version.is_v5() {
        return Err(malformed("the remaining length is not minimal").in_version(Version::V5));
    }
    Ok(Some((connect, frame.len)))
}

impl Packet<'_> {
    /// Refuses what only servers may send; a client's packet passes.
    pub fn check_from_client(&self) -> Result<(), DecodeError> {
        match self {
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                Err(protocol_error("only a server sends this packet"))
            }
            Packet::Publish(publish) if !publish.properties.subscription_ids.is_empty() => {
                // [MQTT-3.3.4-6]
                Err(protocol_error(
                    "a client's PUBLISH has a subscription identifier",
                ))
            }
            Packet::Disconnect(disconnect) if disconnect.server_reference.is_some() => Err(
                protocol_error("a client's DISCONNECT has a server reference"),
            ),
            _ => Ok(()),
        }
    }
}

fn other(first: u8, body: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    let flags = first & 0x0F;
    // [MQTT-2.1.3-1]; MQTT 3.1 had DUP there and calls the rest unused.
    let expected = if matches!(first >> 4, 6 | 8 | 10) {
        0b0010
    } else {
        0
    };
    if flags != expected && version != Version::V31 {
        return Err(malformed("reserved flags of the fixed header"));
    }
    let packet = match first >> 4 {
        1 => Packet::Connect(connect(body)?),
        2 => Packet::Connack(connack(body, version)?),
        4 => Packet::Puback(ack(body, version, PacketType::Puback)?),
        5 => Packet::Pubrec(ack(body, version, PacketType::Pubrec)?),
        6 => Packet::Pubrel(ack(body, version, PacketType::Pubrel)?),
        7 => Packet::Pubcomp(ack(body, version, PacketType::Pubcomp)?),
        8 => Packet::Subscribe(subscribe(body, version)?),
        9 => Packet::Suback(suback(body, version)?),
        10 => Packet::Unsubscribe(unsubscribe(body, version)?),
        11 => Packet::Unsuback(unsuback(body, version)?),
        12 if body.is_empty() => Packet::Pingreq,
        13 if body.is_empty() => Packet::Pingresp,
        14 => Packet::Disconnect(disconnect(body, version)?),
        15 if version.is_v5() => Packet::Auth(auth(body)?),
        12 | 13 => return Err(malformed("a ping with a body")),
        _ => return Err(malformed("a reserved packet type")),
    };
    Ok(packet)
}
fn response_topic<'a>(section: &mut Section<'a>) -> Result<&'a str, DecodeError> {
    let name = section.reader.str()?;
    // [MQTT-3.3.2-14]
    topic::validate_name(name)
        .map_err(|_| protocol_error("a response topic is not a topic name"))?;
    Ok(name)
}

#[inline]
fn publish(flags: u8, body: &[u8], version: Version) -> Result<Publish<'_>, DecodeError> {
    let (dup, retain) = (flags & 0x08 != 0, flags & 0x01 != 0);
    let Some(qos) = QoS::from_u8(flags >> 1 & 3) else {
        return Err(malformed("the QoS of a PUBLISH is 3")); // [MQTT-3.3.1-4]
    };
    if dup && qos == QoS::AtMostOnce && version != Version::V31 {
        return Err(malformed("DUP is set with QoS 0")); // [MQTT-3.3.1-2]
    }
    let mut reader = Reader::new(body);
    let Ok(topic) = std::str::from_utf8(reader.binary()?) else {
        return Err(malformed("a string is not UTF-8"));
    };
    if !topic.is_empty() || version != Version::V5 {
        topic::validate_name(topic).map_err(|error| malformed(error.what()))?;
    }
    let packet_id = if qos == QoS::AtMostOnce {
        0
    } else {
        packet_id(&mut reader)?
    };
    let properties = match version {
        Version::V5 => publish_properties(&mut reader)?,
        _ => PublishProperties::default(),
    };
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(protocol_error(
            "a PUBLISH has neither a topic nor a topic alias",
        ));
    }
    Ok(Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        properties,
        payload: reader.rest(),
    })
}

const PUBLISH_PROPERTIES: u64 = set(&[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::TOPIC_ALIAS,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::SUBSCRIPTION_ID,
    id::CONTENT_TYPE,
    id::USER,
]);

fn publish_properties<'a>(reader: &mut Reader<'a>) -> Result<PublishProperties<'a>, DecodeError> {
    let len = reader.varint()?;
    if len == 0 {
        return Ok(PublishProperties::default());
    }
    publish_section(reader.bytes(len as usize)?)
}

fn publish_section(bytes: &[u8]) -> Result<PublishProperties<'_>, DecodeError> {
    const REPEATABLE: u64 = set(&[id::USER, id::SUBSCRIPTION_ID]);
    let mut section = Section::of(bytes, PUBLISH_PROPERTIES, REPEATABLE);
    let mut properties = PublishProperties::default();
    while let Some(number) = section.next()? {
        match number {
            id::PAYLOAD_FORMAT => properties.payload_format = Some(u8::from(section.flag()?)),
            id::MESSAGE_EXPIRY => properties.expiry_s = Some(section.reader.u32()?),
            id::TOPIC_ALIAS => match section.reader.u16()? {
                0 => {
                    return Err(DecodeError {
                        reason: ReasonCode::TopicAliasInvalid,
                        version: None,
                        what: "topic alias zero", // [MQTT-3.3.2-8]
                    });
                }
                alias => properties.topic_alias = Some(alias),
            },
            id::RESPONSE_TOPIC => properties.response_topic = Some(response_topic(&mut section)?),
            id::CORRELATION_DATA => properties.correlation_data = Some(section.reader.binary()?),
            _ => properties.content_type = Some(section.reader.str()?),
        }
    }
    properties.subscription_ids = section.subscription_ids();
    properties.user = section.user();
    Ok(properties)
}

impl<'a> PublishProperties<'a> {
    /// Reads what [`PublishProperties::encode_forwarded`] wrote: properties without their length.
    pub fn from_forwarded(bytes: &'a [u8]) -> Result<PublishProperties<'a>, DecodeError> {
        publish_section(bytes)
    }
}

/// A packet identifier, never zero [MQTT-2.2.1-3].
#[inline]
fn packet_id(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    match reader.u16()? {
        0 => Err(protocol_error("packet identifier zero")),
        packet_id => Ok(packet_id),
    }
}

fn reason(code: u8, packet: PacketType) -> Result<ReasonCode, DecodeError> {
    match ReasonCode::from_u8(code) {
        Some(reason) if reason.allowed_in(packet) => Ok(reason),
        _ => Err(protocol_error(
            "a reason code does not belong to this packet",
        )),
    }
}

/// Nothing may follow what was read.
#[inline]
fn end(reader: &Reader<'_>) -> Result<(), DecodeError> {
    if reader.is_empty() {
        Ok(())
    } else {
        Err(malformed("bytes behind the end of the packet"))
    }
}

const ACK_PROPERTIES: u64 = set(&[id::REASON_STRING, id::USER]);

#[inline]
fn ack(body: &[u8], version: Version, kind: PacketType) -> Result<Ack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut ack = Ack::new(packet_id(&mut reader)?, ReasonCode::Success);
    if reader.is_empty() {
        return Ok(ack);
    }
    if !version.is_v5() {
        return Err(malformed("bytes behind the end of the packet"));
    }
    ack.reason = reason(reader.u8()?, kind)?;
    if !reader.is_empty() {
        (ack.reason_string, ack.user) = reason_string_and_user(&mut reader)?;
    }
    end(&reader)?;
    Ok(ack)
}

fn reason_string_and_user<'a>(
    reader: &mut Reader<'a>,
) -> Result<(Option<&'a str>, UserProperties<'a>), DecodeError> {
    let mut section = Section::read(reader, ACK_PROPERTIES, set(&[id::USER]))?;
    let mut reason_string = None;
    while section.next()?.is_some() {
        reason_string = Some(section.reader.str()?);
    }
    Ok((reason_string, section.user()))
}

fn subscribe(body: &[u8], version: Version) -> Result<Subscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = packet_id(&mut reader)?;
    let mut subscription_id = None;
    let mut user = UserProperties::EMPTY;
    if version.is_v5() {
        let allowed = set(&[id::SUBSCRIPTION_ID, id::USER]);
        let mut section = Section::read(&mut reader, allowed, set(&[id::USER]))?;
        while section.next()?.is_some() {
            match section.reader.varint()? {
                0 => return Err(protocol_error("subscription identifier zero")),
                number => subscription_id = Some(number),
            }
        }
        user = section.user();
    }
    let filters = Filters::from_wire(reader.rest());
    if reader.is_empty() {
        return Err(protocol_error("a SUBSCRIBE without a filter")); // [MQTT-3.8.3-2]
    }
    while !reader.is_empty() {
        let filter = reader.str()?;
        topic::validate_filter(filter).map_err(|error| malformed(error.what()))?;
        check_options(reader.u8()?, filter, version)?;
    }
    Ok(Subscribe {
        packet_id,
        subscription_id,
        user,
        filters,
    })
}

fn check_options(byte: u8, filter: &str, version: Version) -> Result<(), DecodeError> {
    if !version.is_v5() {
        // 3.1.1: [MQTT-3-8.3-4]
        return if byte < 3 {
            Ok(())
        } else {
            Err(malformed("the requested QoS is above 2"))
        };
    }
    if byte & 0xC0 != 0 {
        return Err(malformed("reserved bits of the subscription options")); // [MQTT-3.8.3-5]
    }
    let Some(options) = SubscribeOptions::from_u8(byte) else {
        return Err(protocol_error(
            "QoS or retain handling of a subscription is 3",
        ));
    };
    if options.no_local && topic::parse_share(filter).is_some() {
        return Err(protocol_error("no local on a shared subscription")); // [MQTT-3.8.3-4]
    }
    Ok(())
}

fn suback(body: &[u8], version: Version) -> Result<Suback<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = packet_id(&mut reader)?;
    let (reason_string, user) = match version {
        Version::V5 => reason_string_and_user(&mut reader)?,
        _ => (None, UserProperties::EMPTY),
    };
    let codes = reader.rest();
    if codes.is_empty() {
        return Err(protocol_error("a SUBACK without a reason code"));
    }
    for &code in codes {
        if version.is_v5() {
            reason(code, PacketType::Suback)?;
        } else if code > 2 && code != 0x80 {
            return Err(malformed("a reserved return code of SUBACK")); // 3.1.1: [MQTT-3.9.3-2]
        }
    }
    Ok(Suback {
        packet_id,
        reasons: ReasonCodes::from_wire(codes),
        reason_string,
        user,
    })
}

fn unsubscribe(body: &[u8], version: Version) -> Result<Unsubscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = packet_id(&mut reader)?;
    let mut user = UserProperties::EMPTY;
    if version.is_v5() {
        let mut section = Section::read(&mut reader, set(&[id::USER]), set(&[id::USER]))?;
        // Only user properties are allowed, and the walk reads those itself.
        if section.next()?.is_some() {
            return Err(malformed("a property does not belong to this packet"));
        }
        user = section.user();
    }
    let filters = TopicFilters::from_wire(reader.rest());
    if reader.is_empty() {
        return Err(protocol_error("an UNSUBSCRIBE without a filter")); // [MQTT-3.10.3-2]
    }
    while !reader.is_empty() {
        topic::validate_filter(reader.str()?).map_err(|error| malformed(error.what()))?;
    }
    Ok(Unsubscribe {
        packet_id,
        user,
        filters,
    })
}

fn unsuback(body: &[u8], version: Version) -> Result<Unsuback<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = packet_id(&mut reader)?;
    if !version.is_v5() {
        end(&reader)?;
        let (reasons, user) = (ReasonCodes::from_wire(&[]), UserProperties::EMPTY);
        return Ok(Unsuback {
            packet_id,
            reasons,
            reason_string: None,
            user,
        });
    }
    let (reason_string, user) = reason_string_and_user(&mut reader)?;
    let codes = reader.rest();
    if codes.is_empty() {
        return Err(protocol_error("an UNSUBACK without a reason code"));
    }
    for &code in codes {
        reason(code, PacketType::Unsuback)?;
    }
    Ok(Unsuback {
        packet_id,
        reasons: ReasonCodes::from_wire(codes),
        reason_string,
        user,
    })
}

fn disconnect(body: &[u8], version: Version) -> Result<Disconnect<'_>, DecodeError> {
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    let mut reader = Reader::new(body);
    if reader.is_empty() {
        return Ok(disconnect);
    }
    if !version.is_v5() {
        return Err(malformed("a DISCONNECT with a body"));
    }
    disconnect.reason = reason(reader.u8()?, PacketType::Disconnect)?;
    if reader.is_empty() {
        return Ok(disconnect);
    }
    let allowed = set(&[
        id::SESSION_EXPIRY,
        id::REASON_STRING,
        id::SERVER_REFERENCE,
        id::USER,
    ]);
    let mut section = Section::read(&mut reader, allowed, set(&[id::USER]))?;
    while let Some(number) = section.next()? {
        match number {
            id::SESSION_EXPIRY => disconnect.session_expiry_s = Some(section.reader.u32()?),
            id::REASON_STRING => disconnect.reason_string = Some(section.reader.str()?),
            _ => disconnect.server_reference = Some(section.reader.str()?),
        }
    }
    disconnect.user = section.user();
    end(&reader)?;
    Ok(disconnect)
}

fn auth(body: &[u8]) -> Result<Auth<'_>, DecodeError> {
    let user = UserProperties::EMPTY;
    let mut auth = Auth {
        reason: ReasonCode::Success,
        method: None,
        data: None,
        reason_string: None,
        user,
    };
    let mut reader = Reader::new(body);
    if reader.is_empty() {
        return Ok(auth);
    }
    auth.reason = reason(reader.u8()?, PacketType::Auth)?;
    let allowed = set(&[
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::REASON_STRING,
        id::USER,
    ]);
    let mut section = Section::read(&mut reader, allowed, set(&[id::USER]))?;
    while let Some(number) = section.next()? {
        match number {
            id::AUTHENTICATION_METHOD => auth.method = Some(section.reader.str()?),
            id::AUTHENTICATION_DATA => auth.data = Some(section.reader.binary()?),
            _ => auth.reason_string = Some(section.reader.str()?),
        }
    }
    auth.user = section.user();
    end(&reader)?;
    if auth.method.is_none() {
        return Err(protocol_error("an AUTH without a method"));
    }
    Ok(auth)
}

// A whole packet's length fits the integers used here on every platform.
const _: () = assert!(PACKET_SIZE_MAX as usize <= isize::MAX as usize);

#[cfg(test)]
mod tests;
