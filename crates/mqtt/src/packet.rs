//! One model of the control packets for MQTT 3.1, 3.1.1 and 5, borrowed from the bytes read.
//! Properties that a version lacks are empty when read in it, and not written in it.

use std::fmt;

use crate::property::{SubscriptionIds, UserProperties};
use crate::reason::ReasonCode;
use crate::wire::Reader;

/// Version of the protocol, by its level on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1 (`MQIsdp`, level 3).
    V31 = 3,
    /// MQTT 3.1.1 (level 4).
    V311 = 4,
    /// MQTT 5.0 (level 5).
    V5 = 5,
}

impl Version {
    /// The protocol level byte of CONNECT.
    pub const fn level(self) -> u8 {
        self as u8
    }

    /// The version of a protocol level.
    pub const fn from_level(level: u8) -> Option<Version> {
        match level {
            3 => Some(Version::V31),
            4 => Some(Version::V311),
            5 => Some(Version::V5),
            _ => None,
        }
    }

    /// Whether packets of this version have properties and reason codes.
    pub const fn is_v5(self) -> bool {
        matches!(self, Version::V5)
    }
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// 1: at least once.
    AtLeastOnce = 1,
    /// 2: exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS of this number; none for 3 and above.
    pub const fn from_u8(number: u8) -> Option<QoS> {
        match number {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// The SUBACK reason code that grants this QoS.
    pub const fn granted(self) -> ReasonCode {
        match self {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }
}

/// Type of a control packet, by its number in the fixed header [MQTT 5, 2.1.2].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

/// A control packet. Strings and payloads borrow from the buffer that was decoded.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// The packet's type.
    pub const fn kind(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::Connack(_) => PacketType::Connack,
            Packet::Publish(_) => PacketType::Publish,
            Packet::Puback(_) => PacketType::Puback,
            Packet::Pubrec(_) => PacketType::Pubrec,
            Packet::Pubrel(_) => PacketType::Pubrel,
            Packet::Pubcomp(_) => PacketType::Pubcomp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::Suback(_) => PacketType::Suback,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::Unsuback(_) => PacketType::Unsuback,
            Packet::Pingreq => PacketType::Pingreq,
            Packet::Pingresp => PacketType::Pingresp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }
}

/// CONNECT: the client opens or resumes its session.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect<'a> {
    /// Version that the client speaks.
    pub version: Version,
    /// Clean start (5) or clean session (3).
    pub clean_start: bool,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive_s: u16,
    /// Client identifier; empty asks the server to assign one.
    pub client_id: &'a str,
    /// User name.
    pub username: Option<&'a str>,
    /// Password, any bytes.
    pub password: Option<&'a [u8]>,
    /// The message to publish when the connection ends without a normal DISCONNECT.
    pub will: Option<Will<'a>>,
    /// Properties of MQTT 5.
    pub properties: ConnectProperties<'a>,
}

impl Connect<'_> {
    /// Seconds that the session outlives its connection; `u32::MAX` is for ever. MQTT 3 says it by
    /// clean session alone [MQTT 5, 3.1.2.11.2].
    pub const fn session_expiry_s(&self) -> u32 {
        match self.version {
            Version::V5 => self.properties.session_expiry_s,
            _ if self.clean_start => 0,
            _ => u32::MAX,
        }
    }
}

/// Properties of CONNECT, with the specification's defaults where absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnectProperties<'a> {
    /// Session expiry interval in seconds; 0 ends the session with the connection.
    pub session_expiry_s: u32,
    /// Most unacknowledged QoS 1 and 2 messages towards the client; absent is 65,535.
    pub receive_maximum: Option<u16>,
    /// Largest packet that the client accepts, in bytes; absent is unbounded.
    pub maximum_packet_size: Option<u32>,
    /// Highest topic alias that the client accepts; 0 is none.
    pub topic_alias_maximum: u16,
    /// Whether the client asks for response information in CONNACK.
    pub request_response_information: bool,
    /// Whether reason strings and user properties may be sent in answers; true by default.
    pub request_problem_information: bool,
    /// Enhanced authentication: method.
    pub authentication_method: Option<&'a str>,
    /// Enhanced authentication: data of the method.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry_s: 0,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user: UserProperties::default(),
        }
    }
}

/// The will of a CONNECT.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Will<'a> {
    /// Topic it is published to, validated.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Properties of MQTT 5.
    pub properties: WillProperties<'a>,
}

/// Properties of a will.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WillProperties<'a> {
    /// Seconds between the end of the connection and the publication.
    pub delay_s: u32,
    /// 1 says that the payload is UTF-8, 0 that it is unspecified bytes.
    pub payload_format: Option<u8>,
    /// Seconds the message lives.
    pub expiry_s: Option<u32>,
    /// Topic for a response, validated.
    pub response_topic: Option<&'a str>,
    /// Bytes by which the requester knows the response.
    pub correlation_data: Option<&'a [u8]>,
    /// Content type, free text.
    pub content_type: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

/// CONNACK: the server's answer to CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub struct Connack<'a> {
    /// Whether the server had a session of this client.
    pub session_present: bool,
    /// Success, or why not; mapped to and from return codes in MQTT 3.
    pub reason: ReasonCode,
    /// Properties of MQTT 5.
    pub properties: ConnackProperties<'a>,
}

/// Properties of CONNACK; an absent one leaves the client's value or the specification's default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ConnackProperties<'a> {
    /// Session expiry interval in seconds that the server uses.
    pub session_expiry_s: Option<u32>,
    /// Most unacknowledged QoS 1 and 2 messages towards the server; absent is 65,535.
    pub receive_maximum: Option<u16>,
    /// Highest QoS of the server, 0 or 1; absent is 2.
    pub maximum_qos: Option<QoS>,
    /// Whether the server keeps retained messages; absent is true.
    pub retain_available: Option<bool>,
    /// Largest packet that the server accepts, in bytes.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server chose.
    pub assigned_client_id: Option<&'a str>,
    /// Highest topic alias that the server accepts; absent is 0.
    pub topic_alias_maximum: Option<u16>,
    /// Explanation for humans.
    pub reason_string: Option<&'a str>,
    /// Whether wildcard subscriptions work; absent is true.
    pub wildcard_available: Option<bool>,
    /// Whether subscription identifiers work; absent is true.
    pub subscription_ids_available: Option<bool>,
    /// Whether shared subscriptions work; absent is true.
    pub shared_available: Option<bool>,
    /// Keep alive in seconds that replaces the client's.
    pub server_keep_alive_s: Option<u16>,
    /// Base for response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Enhanced authentication: method.
    pub authentication_method: Option<&'a str>,
    /// Enhanced authentication: data of the method.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

/// PUBLISH: a message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Publish<'a> {
    /// Whether this may be a repetition of an earlier packet.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Topic name, validated; empty only in MQTT 5 and with a topic alias.
    pub topic: &'a str,
    /// Packet identifier; 0 for QoS 0, never 0 otherwise.
    pub packet_id: u16,
    /// Properties of MQTT 5.
    pub properties: PublishProperties<'a>,
    /// The message itself.
    pub payload: &'a [u8],
}

/// Properties of PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PublishProperties<'a> {
    /// 1 says that the payload is UTF-8, 0 that it is unspecified bytes.
    pub payload_format: Option<u8>,
    /// Seconds the message lives; forwarded less the time it waited.
    pub expiry_s: Option<u32>,
    /// Number that stands for the topic on this connection, never 0.
    pub topic_alias: Option<u16>,
    /// Topic for a response, validated.
    pub response_topic: Option<&'a str>,
    /// Bytes by which the requester knows the response.
    pub correlation_data: Option<&'a [u8]>,
    /// Identifiers of the subscriptions that the message matched; only from server to client.
    pub subscription_ids: SubscriptionIds<'a>,
    /// Content type, free text.
    pub content_type: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Debug, Clone, PartialEq)]
pub struct Ack<'a> {
    /// The packet identifier that is answered, never 0.
    pub packet_id: u16,
    /// Outcome; always `Success` in MQTT 3.
    pub reason: ReasonCode,
    /// Explanation for humans.
    pub reason_string: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl Ack<'_> {
    /// An answer without properties.
    pub const fn new(packet_id: u16, reason: ReasonCode) -> Ack<'static> {
        Ack {
            packet_id,
            reason,
            reason_string: None,
            user: UserProperties::EMPTY,
        }
    }
}

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe<'a> {
    /// Packet identifier, never 0.
    pub packet_id: u16,
    /// Identifier to send with the messages of these subscriptions, 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
    /// Filters and their options, validated, at least one.
    pub filters: Filters<'a>,
}

/// What a subscription asks for besides its filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct SubscribeOptions {
    /// Highest QoS that the client wants.
    pub qos: QoS,
    /// Do not deliver what this client itself published.
    pub no_local: bool,
    /// Deliver with the retain flag of the publisher.
    pub retain_as_published: bool,
    /// Which retained messages to send at once.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// Options as MQTT 3 has them: a QoS and nothing else.
    pub const fn qos(qos: QoS) -> SubscribeOptions {
        SubscribeOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// The options byte of SUBSCRIBE in MQTT 5; in MQTT 3 only the two lowest bits are used.
    pub const fn as_u8(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// Options of a byte that [`SubscribeOptions::as_u8`] could have written; none for another.
    pub const fn from_u8(byte: u8) -> Option<SubscribeOptions> {
        let (Some(qos), Some(retain_handling)) =
            (QoS::from_u8(byte & 3), RetainHandling::from_u8(byte >> 4))
        else {
            return None;
        };
        Some(SubscribeOptions {
            qos,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling,
        })
    }
}

/// Which retained messages a SUBSCRIBE brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: send them at every SUBSCRIBE.
    #[default]
    Send = 0,
    /// 1: send them only if the subscription is new.
    SendIfNew = 1,
    /// 2: send none.
    DoNotSend = 2,
}

impl RetainHandling {
    /// The handling of this number; none for 3 and above.
    pub const fn from_u8(number: u8) -> Option<RetainHandling> {
        match number {
            0 => Some(RetainHandling::Send),
            1 => Some(RetainHandling::SendIfNew),
            2 => Some(RetainHandling::DoNotSend),
            _ => None,
        }
    }
}

/// Filters of a SUBSCRIBE with their options, from the wire (validated) or from a slice.
#[derive(Clone, Copy)]
pub struct Filters<'a>(FilterSource<'a>);

#[derive(Clone, Copy)]
enum FilterSource<'a> {
    Wire(&'a [u8]),
    Slice(&'a [(&'a str, SubscribeOptions)]),
}

impl<'a> Filters<'a> {
    /// Filters to be written; the caller validated them with [`crate::topic::validate_filter`].
    pub const fn from_slice(filters: &'a [(&'a str, SubscribeOptions)]) -> Filters<'a> {
        Filters(FilterSource::Slice(filters))
    }

    /// A payload that the decoder has checked.
    pub(crate) const fn from_wire(payload: &'a [u8]) -> Filters<'a> {
        Filters(FilterSource::Wire(payload))
    }

    /// The filters in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, SubscribeOptions)> + use<'a> {
        let (wire, slice): (&'a [u8], &'a [_]) = match self.0 {
            FilterSource::Wire(wire) => (wire, &[]),
            FilterSource::Slice(slice) => (&[], slice),
        };
        let mut reader = Reader::new(wire);
        let from_wire = std::iter::from_fn(move || {
            let filter = reader.str().ok()?;
            Some((filter, SubscribeOptions::from_u8(reader.u8().ok()? & 0x3F)?))
        });
        from_wire.chain(slice.iter().copied())
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Filters of an UNSUBSCRIBE, from the wire (validated) or from a slice.
#[derive(Clone, Copy)]
pub struct TopicFilters<'a>(TopicSource<'a>);

#[derive(Clone, Copy)]
enum TopicSource<'a> {
    Wire(&'a [u8]),
    Slice(&'a [&'a str]),
}

impl<'a> TopicFilters<'a> {
    /// Filters to be written; the caller validated them.
    pub const fn from_slice(filters: &'a [&'a str]) -> TopicFilters<'a> {
        TopicFilters(TopicSource::Slice(filters))
    }

    /// A payload that the decoder has checked.
    pub(crate) const fn from_wire(payload: &'a [u8]) -> TopicFilters<'a> {
        TopicFilters(TopicSource::Wire(payload))
    }

    /// The filters in their order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (wire, slice): (&'a [u8], &'a [_]) = match self.0 {
            TopicSource::Wire(wire) => (wire, &[]),
            TopicSource::Slice(slice) => (&[], slice),
        };
        let mut reader = Reader::new(wire);
        std::iter::from_fn(move || reader.str().ok()).chain(slice.iter().copied())
    }
}

impl PartialEq for TopicFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for TopicFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// SUBACK: one reason for each filter of the SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct Suback<'a> {
    /// The packet identifier that is answered.
    pub packet_id: u16,
    /// One a filter, in the order of the filters.
    pub reasons: ReasonCodes<'a>,
    /// Explanation for humans.
    pub reason_string: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsubscribe<'a> {
    /// Packet identifier, never 0.
    pub packet_id: u16,
    /// User properties, in order.
    pub user: UserProperties<'a>,
    /// Filters, validated, at least one.
    pub filters: TopicFilters<'a>,
}

/// UNSUBACK: in MQTT 5 one reason for each filter of the UNSUBSCRIBE, in MQTT 3 none.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsuback<'a> {
    /// The packet identifier that is answered.
    pub packet_id: u16,
    /// One a filter, in the order of the filters; empty in MQTT 3.
    pub reasons: ReasonCodes<'a>,
    /// Explanation for humans.
    pub reason_string: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

/// Reason codes of a SUBACK or UNSUBACK, from the wire (validated) or from a slice.
#[derive(Clone, Copy)]
pub struct ReasonCodes<'a>(ReasonSource<'a>);

#[derive(Clone, Copy)]
enum ReasonSource<'a> {
    Wire(&'a [u8]),
    Slice(&'a [ReasonCode]),
}

impl<'a> ReasonCodes<'a> {
    /// Codes to be written.
    pub const fn from_slice(reasons: &'a [ReasonCode]) -> ReasonCodes<'a> {
        ReasonCodes(ReasonSource::Slice(reasons))
    }

    /// Bytes that the decoder has checked.
    pub(crate) const fn from_wire(payload: &'a [u8]) -> ReasonCodes<'a> {
        ReasonCodes(ReasonSource::Wire(payload))
    }

    /// How many codes there are.
    pub const fn len(&self) -> usize {
        match self.0 {
            ReasonSource::Wire(wire) => wire.len(),
            ReasonSource::Slice(slice) => slice.len(),
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes in their order.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        let (wire, slice): (&'a [u8], &'a [_]) = match self.0 {
            ReasonSource::Wire(wire) => (wire, &[]),
            ReasonSource::Slice(slice) => (&[], slice),
        };
        wire.iter()
            .filter_map(|&byte| ReasonCode::from_u8(byte))
            .chain(slice.iter().copied())
    }
}

impl PartialEq for ReasonCodes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// DISCONNECT, from either side.
#[derive(Debug, Clone, PartialEq)]
pub struct Disconnect<'a> {
    /// Why; `Success` in MQTT 3.
    pub reason: ReasonCode,
    /// A new session expiry interval in seconds; only from client to server.
    pub session_expiry_s: Option<u32>,
    /// Explanation for humans.
    pub reason_string: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl Disconnect<'_> {
    /// A DISCONNECT without properties.
    pub const fn new(reason: ReasonCode) -> Disconnect<'static> {
        Disconnect {
            reason,
            session_expiry_s: None,
            reason_string: None,
            server_reference: None,
            user: UserProperties::EMPTY,
        }
    }
}

/// AUTH: a step of enhanced authentication (MQTT 5 only).
#[derive(Debug, Clone, PartialEq)]
pub struct Auth<'a> {
    /// Success, continue or start again.
    pub reason: ReasonCode,
    /// Authentication method.
    pub method: Option<&'a str>,
    /// Data of the method.
    pub data: Option<&'a [u8]>,
    /// Explanation for humans.
    pub reason_string: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}
