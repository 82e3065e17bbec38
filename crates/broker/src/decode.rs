//! Records back into messages: what a session is owed is read from the streams in which it was
//! placed. The inverse of `record`; knows nothing of who reads.

use crate::message::{MessageView, OwnedMessage};
use crate::properties::ForwardProperties;
use crate::record::{RETAINED_VERSION, header};
use base64_simd::STANDARD;
use commitlog::RecordView;
use mqtt::{PublishProperties, QoS, UserProperties};
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;

/// How the records of a stream are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// A hook's stream: EMQ X's JSON.
    Hook,
    /// `mqtt.default`: raw payload.
    Default,
    /// `mqtt.default.qos0`: raw payload.
    DefaultQos0,
    /// The table of retained messages, and the node's own messages.
    Retained,
}

/// Why a record is not a message; says which part of it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordError {
    /// What is wrong, in words.
    pub what: &'static str,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for RecordError {}

/// The message that `record` keeps. The order of JSON fields does not matter and unknown fields
/// and headers are passed over; a tombstone is an error, as it keeps nothing.
pub fn decode_record(
    kind: StreamKind,
    record: &RecordView<'_>,
) -> Result<OwnedMessage, RecordError> {
    let value = record.value.ok_or(wrong("the record has no value"))?;
    match kind {
        StreamKind::Hook => hook_record(record, value),
        StreamKind::Default => raw_record(record, value, QoS::AtLeastOnce),
        StreamKind::DefaultQos0 => raw_record(record, value, QoS::AtMostOnce),
        StreamKind::Retained => {
            let topic = record.key.ok_or(wrong("the record has no key"))?;
            decode_retained(topic, value)
        }
    }
}

/// The message of a record in the table of retained messages, by its key and value.
pub fn decode_retained(key: &[u8], value: &[u8]) -> Result<OwnedMessage, RecordError> {
    retained(key, value).map(|message| OwnedMessage::new(&message))
}

/// What [`decode_retained`] copies.
pub(crate) fn retained<'a>(key: &'a [u8], value: &'a [u8]) -> Result<MessageView<'a>, RecordError> {
    const CUT: RecordError = wrong("a retained message is cut off");
    let topic = topic_of(key)?;
    let (&[version, qos], rest) = value.split_first_chunk::<2>().ok_or(CUT)?;
    if version != RETAINED_VERSION {
        return Err(wrong("a retained message has an unknown format version"));
    }
    let (publish_ms, rest) = rest.split_first_chunk::<8>().ok_or(CUT)?;
    let (expires_ms, rest) = rest.split_first_chunk::<8>().ok_or(CUT)?;
    let (publisher, rest) = retained_text(rest)?;
    let (username, rest) = retained_text(rest)?;
    let (len, rest) = rest.split_first_chunk::<4>().ok_or(CUT)?;
    let (properties, payload) = rest
        .split_at_checked(u32::from_be_bytes(*len) as usize)
        .ok_or(CUT)?;
    let expires_ms = u64::from_be_bytes(*expires_ms);
    Ok(MessageView {
        topic,
        payload,
        qos: QoS::from_u8(qos).ok_or(wrong("a retained message has no valid QoS"))?,
        retain: true,
        dup: false,
        publisher,
        username,
        peer: "",
        principal: "",
        properties: ForwardProperties::check(properties)
            .ok_or(wrong("a retained message has malformed properties"))?,
        publish_ms: u64::from_be_bytes(*publish_ms),
        expires_ms: (expires_ms != u64::MAX).then_some(expires_ms),
    })
}

fn retained_text(bytes: &[u8]) -> Result<(&str, &[u8]), RecordError> {
    let cut = wrong("a retained message is cut off");
    let (len, rest) = bytes.split_first_chunk::<2>().ok_or(cut)?;
    let (text, rest) = rest
        .split_at_checked(usize::from(u16::from_be_bytes(*len)))
        .ok_or(cut)?;
    Ok((
        std::str::from_utf8(text)
            .map_err(|_| wrong("a retained message has a text that is not UTF-8"))?,
        rest,
    ))
}

/// The fields of a hook record that make a message.
#[derive(Deserialize)]
struct HookJson<'a> {
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow, default)]
    username: Cow<'a, str>,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
    qos: u8,
    ts: u64,
}

fn hook_record(record: &RecordView<'_>, value: &[u8]) -> Result<OwnedMessage, RecordError> {
    let json: HookJson<'_> = serde_json::from_slice(value)
        .map_err(|_| wrong("the value is not the JSON of a message event"))?;
    let headers = MessageHeaders::of(record)?;
    let decoded;
    let payload = match headers.payload {
        Some(payload) => payload,
        None if headers.plain => json.payload.as_bytes(),
        None => {
            decoded = STANDARD
                .decode_to_vec(json.payload.as_bytes())
                .map_err(|_| wrong("payload is not base64"))?;
            &decoded
        }
    };
    let qos = QoS::from_u8(json.qos).ok_or(wrong("qos is not 0, 1 or 2"))?;
    let publish_ms = headers.publish_ms.unwrap_or(json.ts);
    headers.message(
        json.topic.as_bytes(),
        payload,
        qos,
        &json.client_id,
        &json.username,
        publish_ms,
    )
}

fn raw_record(
    record: &RecordView<'_>,
    payload: &[u8],
    usual: QoS,
) -> Result<OwnedMessage, RecordError> {
    let headers = MessageHeaders::of(record)?;
    let topic = headers
        .topic
        .ok_or(wrong("the header mqtt.topic is missing"))?;
    let publisher = text(record.key.ok_or(wrong("the record has no key"))?)?;
    let publish_ms = headers
        .publish_ms
        .unwrap_or(record.timestamp_ms.unsigned_abs());
    let qos = headers.qos.unwrap_or(usual);
    headers.message(topic, payload, qos, publisher, headers.username, publish_ms)
}

/// The headers that make a message.
#[derive(Default)]
pub(crate) struct MessageHeaders<'a> {
    pub(crate) topic: Option<&'a [u8]>,
    username: &'a str,
    peer: &'a str,
    principal: &'a str,
    pub(crate) qos: Option<QoS>,
    publish_ms: Option<u64>,
    pub(crate) retain: Option<bool>,
    dup: bool,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) properties: PublishProperties<'a>,
    pub(crate) user: Vec<(&'a str, &'a str)>,
    plain: bool,
    payload: Option<&'a [u8]>,
}

impl<'a> MessageHeaders<'a> {
    fn of(record: &RecordView<'a>) -> Result<Self, RecordError> {
        Self::gather(record.headers())
    }

    /// Reads them from names and values; a header without value says nothing.
    pub(crate) fn gather(
        pairs: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<Self, RecordError> {
        let mut headers = Self::default();
        for (name, value) in pairs {
            if let (Ok(name), Some(value)) = (std::str::from_utf8(name), value) {
                headers.take(name, value)?;
            }
        }
        Ok(headers)
    }

    fn take(&mut self, name: &'a str, value: &'a [u8]) -> Result<(), RecordError> {
        if let Some(name) = name.strip_prefix(header::USER_PREFIX) {
            self.user.push((short(name)?, text(value)?));
            return Ok(());
        }
        match name {
            header::TOPIC => self.topic = Some(value),
            header::USERNAME => self.username = text(value)?,
            header::PEER => self.peer = text(value)?,
            header::PRINCIPAL => self.principal = text(value)?,
            header::QOS => self.qos = Some(number(value).and_then(qos)?),
            header::TS => self.publish_ms = Some(number(value)?),
            header::RETAIN => self.retain = Some(value == b"1"),
            header::DUP => self.dup = value == b"1",
            header::EXPIRY => {
                let expiry_s = u32::try_from(number(value)?)
                    .map_err(|_| wrong("the header mqtt.expiry is out of bounds"))?;
                self.expiry_s = Some(expiry_s);
            }
            header::PAYLOAD_FORMAT => {
                self.properties.payload_format = Some(u8::from(value == b"1"));
            }
            header::CONTENT_TYPE => self.properties.content_type = Some(text(value)?),
            header::RESPONSE_TOPIC => self.properties.response_topic = Some(text(value)?),
            header::CORRELATION_DATA if u16::try_from(value.len()).is_ok() => {
                self.properties.correlation_data = Some(value);
            }
            header::CORRELATION_DATA => return Err(TOO_LONG),
            header::PAYLOAD_ENCODING => self.plain = value == b"plain",
            header::PAYLOAD => self.payload = Some(value),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn message(
        &self,
        topic: &[u8],
        payload: &[u8],
        qos: QoS,
        publisher: &str,
        username: &str,
        publish_ms: u64,
    ) -> Result<OwnedMessage, RecordError> {
        let mut properties = Vec::new();
        let user = UserProperties::from_slice(&self.user);
        PublishProperties {
            user,
            ..self.properties
        }
        .encode_forwarded(&mut properties);
        Ok(OwnedMessage::new(&MessageView {
            topic: topic_of(topic)?,
            payload,
            qos,
            retain: self.retain.unwrap_or(false),
            dup: self.dup,
            publisher: short(publisher)?,
            username: short(username)?,
            peer: self.peer,
            principal: self.principal,
            properties: ForwardProperties::from_raw(&properties),
            publish_ms,
            expires_ms: self
                .expiry_s
                .map(|expiry_s| publish_ms.saturating_add(1000 * u64::from(expiry_s))),
        }))
    }
}

const TOO_LONG: RecordError = wrong("a text is longer than MQTT allows");

const fn wrong(what: &'static str) -> RecordError {
    RecordError { what }
}

fn topic_of(bytes: &[u8]) -> Result<&str, RecordError> {
    let topic = text(bytes)?;
    mqtt::topic::validate_name(topic).map_err(|_| wrong("the topic is not valid"))?;
    Ok(topic)
}

/// A text no longer than MQTT's strings.
fn text(bytes: &[u8]) -> Result<&str, RecordError> {
    short(std::str::from_utf8(bytes).map_err(|_| wrong("a text is not UTF-8"))?)
}

fn short(text: &str) -> Result<&str, RecordError> {
    if text.len() > usize::from(u16::MAX) {
        Err(TOO_LONG)
    } else {
        Ok(text)
    }
}

fn number(value: &[u8]) -> Result<u64, RecordError> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(wrong("a header that is a number is not"))
}

fn qos(number: u64) -> Result<QoS, RecordError> {
    u8::try_from(number)
        .ok()
        .and_then(QoS::from_u8)
        .ok_or(wrong("the header mqtt.qos is not valid"))
}

#[cfg(test)]
mod tests;
