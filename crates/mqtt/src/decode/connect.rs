//! CONNECT and its answer: the packets that tell the version, and those with most properties.

use super::{DecodeError, end, reason, response_topic};
use crate::packet::{
    Connack, ConnackProperties, Connect, ConnectProperties, PacketType, QoS, Version, Will,
    WillProperties,
};
use crate::property::{Section, id, set};
use crate::reason::ReasonCode;
use crate::topic;
use crate::wire::{Reader, malformed, protocol_error};

pub(super) fn connect(body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let version = protocol(&mut reader)?;
    connect_of(version, reader).map_err(|error| error.in_version(version))
}

fn protocol(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let unsupported = |version, what| DecodeError {
        reason: ReasonCode::UnsupportedProtocolVersion,
        version,
        what,
    };
    let name = reader.str()?;
    if name != "MQTT" && name != "MQIsdp" {
        return Err(unsupported(None, "the protocol name is not MQTT"));
    }
    match (name, reader.u8()?) {
        ("MQIsdp", 3) => Ok(Version::V31),
        ("MQTT", 4) => Ok(Version::V311),
        ("MQTT", 5) => Ok(Version::V5),
        // Bridges mark their level by the highest bit and understand the old answer.
        ("MQTT", 6..=0x7F) => Err(unsupported(Some(Version::V5), "a later version of MQTT")),
        _ => Err(unsupported(
            Some(Version::V311),
            "an unknown version of MQTT",
        )),
    }
}

fn connect_of(version: Version, mut reader: Reader<'_>) -> Result<Connect<'_>, DecodeError> {
    let flags = reader.u8()?;
    let keep_alive_s = reader.u16()?;
    let strict = version != Version::V31;
    if flags & 1 != 0 && strict {
        return Err(malformed("the reserved flag of CONNECT is set")); // [MQTT-3.1.2-3]
    }
    let has_will = flags & 0x04 != 0;
    if !has_will && flags & 0x38 != 0 && strict {
        // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
        return Err(malformed("will QoS or will retain without a will"));
    }
    let will_qos = QoS::from_u8(flags >> 3 & 3).ok_or(malformed("the will's QoS is 3"))?;
    let (has_username, has_password) = (flags & 0x80 != 0, flags & 0x40 != 0);
    if has_password && !has_username && !version.is_v5() {
        return Err(malformed("a password without a user name")); // 3.1.1: [MQTT-3.1.2-22]
    }
    let properties = match version {
        Version::V5 => connect_properties(&mut reader)?,
        _ => ConnectProperties::default(),
    };
    let client_id = reader.str()?;
    let clean_start = flags & 0x02 != 0;
    let will = if has_will {
        Some(will(&mut reader, version, will_qos, flags & 0x20 != 0)?)
    } else {
        None
    };
    // MQTT 3.1: "the flag may be set and the string missing".
    let missing = |reader: &Reader<'_>| version == Version::V31 && reader.is_empty();
    let username = if has_username && !missing(&reader) {
        Some(reader.str()?)
    } else {
        None
    };
    let password = if has_password && !missing(&reader) {
        Some(reader.binary()?)
    } else {
        None
    };
    if !reader.is_empty() {
        return Err(malformed("bytes behind the end of CONNECT"));
    }
    // MQTT 3.1 wants 1 to 23 characters; like other brokers we take longer ones, but not none.
    let may_be_empty = version == Version::V5 || version == Version::V311 && clean_start;
    if client_id.is_empty() && !may_be_empty {
        return Err(DecodeError {
            reason: ReasonCode::ClientIdentifierNotValid,
            version: Some(version),
            what: "an empty client identifier with a lasting session", // 3.1.1: [MQTT-3.1.3-8]
        });
    }
    Ok(Connect {
        version,
        clean_start,
        keep_alive_s,
        client_id,
        username,
        password,
        will,
        properties,
    })
}

const CONNECT_PROPERTIES: u64 = set(&[
    id::SESSION_EXPIRY,
    id::RECEIVE_MAXIMUM,
    id::MAXIMUM_PACKET_SIZE,
    id::TOPIC_ALIAS_MAXIMUM,
    id::REQUEST_RESPONSE_INFORMATION,
    id::REQUEST_PROBLEM_INFORMATION,
    id::AUTHENTICATION_METHOD,
    id::AUTHENTICATION_DATA,
    id::USER,
]);

fn connect_properties<'a>(reader: &mut Reader<'a>) -> Result<ConnectProperties<'a>, DecodeError> {
    let mut section = Section::read(reader, CONNECT_PROPERTIES, set(&[id::USER]))?;
    let mut properties = ConnectProperties::default();
    while let Some(number) = section.next()? {
        match number {
            id::SESSION_EXPIRY => properties.session_expiry_s = section.reader.u32()?,
            id::RECEIVE_MAXIMUM => {
                properties.receive_maximum = Some(receive_maximum(&mut section)?);
            }
            id::MAXIMUM_PACKET_SIZE => {
                properties.maximum_packet_size = Some(maximum_packet_size(&mut section)?);
            }
            id::TOPIC_ALIAS_MAXIMUM => properties.topic_alias_maximum = section.reader.u16()?,
            id::REQUEST_RESPONSE_INFORMATION => {
                properties.request_response_information = section.flag()?;
            }
            id::REQUEST_PROBLEM_INFORMATION => {
                properties.request_problem_information = section.flag()?;
            }
            id::AUTHENTICATION_METHOD => {
                properties.authentication_method = Some(section.reader.str()?);
            }
            _ => properties.authentication_data = Some(section.reader.binary()?),
        }
    }
    if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
        return Err(protocol_error("authentication data without a method"));
    }
    properties.user = section.user();
    Ok(properties)
}

fn receive_maximum(section: &mut Section<'_>) -> Result<u16, DecodeError> {
    match section.reader.u16()? {
        0 => Err(protocol_error("receive maximum zero")),
        maximum => Ok(maximum),
    }
}

fn maximum_packet_size(section: &mut Section<'_>) -> Result<u32, DecodeError> {
    match section.reader.u32()? {
        0 => Err(protocol_error("maximum packet size zero")),
        maximum => Ok(maximum),
    }
}

fn will<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    qos: QoS,
    retain: bool,
) -> Result<Will<'a>, DecodeError> {
    let properties = match version {
        Version::V5 => will_properties(reader)?,
        _ => WillProperties::default(),
    };
    let topic = reader.str()?;
    topic::validate_name(topic).map_err(|error| malformed(error.what()))?;
    Ok(Will {
        topic,
        payload: reader.binary()?,
        qos,
        retain,
        properties,
    })
}

const WILL_PROPERTIES: u64 = set(&[
    id::WILL_DELAY,
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::USER,
]);

fn will_properties<'a>(reader: &mut Reader<'a>) -> Result<WillProperties<'a>, DecodeError> {
    let mut section = Section::read(reader, WILL_PROPERTIES, set(&[id::USER]))?;
    let mut properties = WillProperties::default();
    while let Some(number) = section.next()? {
        match number {
            id::WILL_DELAY => properties.delay_s = section.reader.u32()?,
            id::PAYLOAD_FORMAT => properties.payload_format = Some(u8::from(section.flag()?)),
            id::MESSAGE_EXPIRY => properties.expiry_s = Some(section.reader.u32()?),
            id::CONTENT_TYPE => properties.content_type = Some(section.reader.str()?),
            id::RESPONSE_TOPIC => properties.response_topic = Some(response_topic(&mut section)?),
            _ => properties.correlation_data = Some(section.reader.binary()?),
        }
    }
    properties.user = section.user();
    Ok(properties)
}

pub(super) fn connack(body: &[u8], version: Version) -> Result<Connack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let flags = reader.u8()?;
    if flags > 1 && version != Version::V31 {
        return Err(malformed("reserved flags of CONNACK"));
    }
    let code = reader.u8()?;
    let (reason, properties) = if version.is_v5() {
        (
            reason(code, PacketType::Connack)?,
            connack_properties(&mut reader)?,
        )
    } else {
        let reason = ReasonCode::from_connect_return_code_v3(code)
            .ok_or(malformed("a reserved return code of CONNACK"))?;
        (reason, ConnackProperties::default())
    };
    end(&reader)?;
    Ok(Connack {
        session_present: flags & 1 != 0 && version != Version::V31,
        reason,
        properties,
    })
}

const CONNACK_PROPERTIES: u64 = set(&[
    id::SESSION_EXPIRY,
    id::RECEIVE_MAXIMUM,
    id::MAXIMUM_QOS,
    id::RETAIN_AVAILABLE,
    id::MAXIMUM_PACKET_SIZE,
    id::ASSIGNED_CLIENT_ID,
    id::TOPIC_ALIAS_MAXIMUM,
    id::REASON_STRING,
    id::USER,
    id::WILDCARD_AVAILABLE,
    id::SUBSCRIPTION_IDS_AVAILABLE,
    id::SHARED_AVAILABLE,
    id::SERVER_KEEP_ALIVE,
    id::RESPONSE_INFORMATION,
    id::SERVER_REFERENCE,
    id::AUTHENTICATION_METHOD,
    id::AUTHENTICATION_DATA,
]);

fn connack_properties<'a>(reader: &mut Reader<'a>) -> Result<ConnackProperties<'a>, DecodeError> {
    let mut section = Section::read(reader, CONNACK_PROPERTIES, set(&[id::USER]))?;
    let mut read = ConnackProperties::default();
    while let Some(number) = section.next()? {
        match number {
            id::SESSION_EXPIRY => read.session_expiry_s = Some(section.reader.u32()?),
            id::RECEIVE_MAXIMUM => read.receive_maximum = Some(receive_maximum(&mut section)?),
            id::MAXIMUM_QOS => {
                let at_least_once = section.flag()?;
                read.maximum_qos = Some(if at_least_once {
                    QoS::AtLeastOnce
                } else {
                    QoS::AtMostOnce
                });
            }
            id::RETAIN_AVAILABLE => read.retain_available = Some(section.flag()?),
            id::MAXIMUM_PACKET_SIZE => {
                read.maximum_packet_size = Some(maximum_packet_size(&mut section)?);
            }
            id::ASSIGNED_CLIENT_ID => read.assigned_client_id = Some(section.reader.str()?),
            id::TOPIC_ALIAS_MAXIMUM => read.topic_alias_maximum = Some(section.reader.u16()?),
            id::REASON_STRING => read.reason_string = Some(section.reader.str()?),
            id::WILDCARD_AVAILABLE => read.wildcard_available = Some(section.flag()?),
            id::SUBSCRIPTION_IDS_AVAILABLE => {
                read.subscription_ids_available = Some(section.flag()?);
            }
            id::SHARED_AVAILABLE => read.shared_available = Some(section.flag()?),
            id::SERVER_KEEP_ALIVE => read.server_keep_alive_s = Some(section.reader.u16()?),
            id::RESPONSE_INFORMATION => read.response_information = Some(section.reader.str()?),
            id::SERVER_REFERENCE => read.server_reference = Some(section.reader.str()?),
            id::AUTHENTICATION_METHOD => read.authentication_method = Some(section.reader.str()?),
            _ => read.authentication_data = Some(section.reader.binary()?),
        }
    }
    read.user = section.user();
    Ok(read)
}
