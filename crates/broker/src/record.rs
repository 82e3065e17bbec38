//! How an event is written as a record: EMQ X's JSON as the value, byte for byte, and what that
//! lacks in `mqtt.*` headers. Knows nothing of streams and partitions.

use crate::hooks::PayloadEncoding;
use crate::limits::HEADERS_INLINE;
use crate::message::{MessageView, Position};
use crate::properties::{ForwardProperties, Property};
use base64_simd::STANDARD;
use mqtt::QoS;

/// Header names. A header is written only where its value is not the default.
pub mod header {
    /// Topic of a message that no hook took; its value is the raw payload.
    pub const TOPIC: &str = "mqtt.topic";
    /// User name of the publisher, beside a raw payload.
    pub const USERNAME: &str = "mqtt.username";
    /// `QoS` of the PUBLISH, beside a raw payload: `1` is left out in `mqtt.default`, `0` in
    /// `mqtt.default.qos0`.
    pub const QOS: &str = "mqtt.qos";
    /// Message id: partition and offset of the message itself, `P-O`; stable over its deliveries.
    /// Absent in the message's own record, which is at that place.
    pub const MID: &str = "mqtt.mid";
    /// `1`: the message is in another record too, and that is the one that sessions point at. After a
    /// crash this tells the two apart, whatever the hooks are then.
    pub const COPY: &str = "mqtt.copy";
    /// When the broker took the PUBLISH, ms since the epoch; absent where the record's own time.
    pub const TS: &str = "mqtt.ts";
    /// `1`: RETAIN was set.
    pub const RETAIN: &str = "mqtt.retain";
    /// `1`: DUP was set.
    pub const DUP: &str = "mqtt.dup";
    /// Message Expiry Interval, seconds from the time of the PUBLISH.
    pub const EXPIRY: &str = "mqtt.expiry";
    /// Payload Format Indicator, `0` or `1`.
    pub const PAYLOAD_FORMAT: &str = "mqtt.payload_format";
    /// Content Type.
    pub const CONTENT_TYPE: &str = "mqtt.content_type";
    /// Response Topic.
    pub const RESPONSE_TOPIC: &str = "mqtt.response_topic";
    /// Correlation Data, raw.
    pub const CORRELATION_DATA: &str = "mqtt.correlation_data";
    /// In front of the name of a User Property; one header each, in their order.
    pub const USER_PREFIX: &str = "mqtt.user.";
    /// `plain`: `payload` is text, not base64.
    pub const PAYLOAD_ENCODING: &str = "mqtt.payload_encoding";
    /// The raw payload, where `plain` cannot hold it.
    pub const PAYLOAD: &str = "mqtt.payload";
    /// Address and port of the publisher.
    pub const PEER: &str = "mqtt.peer";
    /// Whom the publisher authenticated as.
    pub const PRINCIPAL: &str = "mqtt.principal";
}

/// What the JSON of a message event says.
pub(crate) struct MessageJson<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) username: &'a str,
    /// The publisher, where the event is about a receiver.
    pub(crate) from: Option<&'a str>,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) reason: Option<&'a str>,
    /// The node's name, already as it stands in a JSON string.
    pub(crate) node_json: &'a [u8],
    pub(crate) ts: u64,
}

impl MessageJson<'_> {
    /// Writes `message.publish`, `message.delivered`, `message.acked` or `message.dropped`.
    pub(crate) fn write(&self, encoding: PayloadEncoding, out: &mut Vec<u8>) {
        // Enough for everything but escapes, so that the buffer grows at most once.
        out.reserve(
            128 + self.client_id.len()
                + self.username.len()
                + self.from.map_or(0, str::len)
                + self.topic.len()
                + self.payload.len() / 3 * 4
                + self.node_json.len(),
        );
        write_field(out, b"{\"client_id\":\"", self.client_id);
        write_field(out, b"\",\"username\":\"", self.username);
        if let Some(from) = self.from {
            write_field(out, b"\",\"from\":\"", from);
        }
        write_field(out, b"\",\"topic\":\"", self.topic);
        out.extend_from_slice(b"\",\"payload\":\"");
        match encoding {
            PayloadEncoding::Base64 => STANDARD.encode_append(self.payload, out),
            PayloadEncoding::Plain => write_lossy(out, self.payload),
        }
        out.extend_from_slice(b"\",\"qos\":");
        out.push(b'0' + self.qos.as_u8());
        if let Some(reason) = self.reason {
            write_field(out, b",\"reason\":\"", reason);
            out.push(b'"');
        }
        write_tail(out, self.node_json, self.ts);
    }
}

/// Writes `client.connected`, or `client.disconnected` where there is a reason.
pub(crate) fn write_client(
    out: &mut Vec<u8>,
    client_id: &str,
    username: &str,
    reason: Option<&str>,
    node_json: &[u8],
    ts: u64,
) {
    write_field(out, b"{\"client_id\":\"", client_id);
    write_field(out, b"\",\"username\":\"", username);
    if let Some(reason) = reason {
        write_field(out, b"\",\"reason\":\"", reason);
    }
    out.push(b'"');
    write_tail(out, node_json, ts);
}

/// Writes `session.subscribed` or `session.unsubscribed`.
pub(crate) fn write_session(
    out: &mut Vec<u8>,
    client_id: &str,
    topic: &str,
    qos: QoS,
    node_json: &[u8],
    ts: u64,
) {
    write_field(out, b"{\"client_id\":\"", client_id);
    write_field(out, b"\",\"topic\":\"", topic);
    out.extend_from_slice(b"\",\"qos\":");
    out.push(b'0' + qos.as_u8());
    write_tail(out, node_json, ts);
}

fn write_tail(out: &mut Vec<u8>, node_json: &[u8], ts: u64) {
    out.extend_from_slice(b",\"node\":\"");
    out.extend_from_slice(node_json);
    out.extend_from_slice(b"\",\"ts\":");
    out.extend_from_slice(Decimal::new(ts).as_bytes());
    out.push(b'}');
}

fn write_field(out: &mut Vec<u8>, before: &[u8], text: &str) {
    out.extend_from_slice(before);
    write_escaped(out, text);
}

/// Appends `text` as it stands between the quotes of a JSON string.
pub(crate) fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // No early exit, so that the compiler makes vector code of it; nearly every text is plain.
    let plain = bytes
        .iter()
        .fold(true, |plain, &byte| plain & !must_escape(byte));
    if plain {
        out.extend_from_slice(bytes);
    } else {
        write_escapes(out, bytes);
    }
}

fn must_escape(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\')
}

#[cold]
fn write_escapes(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

/// Text as it is; what is not UTF-8 becomes U+FFFD.
fn write_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        write_escaped(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// A number, or two with `-` between, in decimal, on the stack.
struct Decimal {
    text: [u8; 41],
    start: usize,
}

impl Decimal {
    fn new(number: u64) -> Self {
        let mut decimal = Self {
            text: [0; 41],
            start: 41,
        };
        decimal.put(number);
        decimal
    }

    fn position(position: Position) -> Self {
        let mut decimal = Self::new(position.offset);
        decimal.start -= 1;
        decimal.text[decimal.start] = b'-';
        decimal.put(u64::from(position.partition));
        decimal
    }

    fn put(&mut self, mut number: u64) {
        loop {
            self.start -= 1;
            self.text[self.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return;
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

/// What the headers of a record say; everything has a default that is not written.
#[derive(Clone, Copy, Default)]
pub(crate) struct RecordHeaders<'a> {
    pub(crate) topic: Option<&'a str>,
    pub(crate) username: Option<&'a str>,
    pub(crate) qos: Option<QoS>,
    pub(crate) mid: Option<Position>,
    pub(crate) copy: bool,
    pub(crate) publish_ms: Option<u64>,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) properties: ForwardProperties<'a>,
    pub(crate) plain: bool,
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) peer: Option<&'a str>,
    pub(crate) principal: Option<&'a str>,
}

/// What [`RecordHeaders::with`] hands out: names and values.
pub(crate) type HeaderSlice<'a> = [(&'a [u8], &'a [u8])];

impl<'a> RecordHeaders<'a> {
    /// What a message has beside its JSON.
    pub(crate) fn of(message: &MessageView<'a>) -> Self {
        Self {
            retain: message.retain,
            dup: message.dup,
            expiry_s: message.expires_ms.map(|expires_ms| {
                let left_s = expires_ms.saturating_sub(message.publish_ms) / 1000;
                u32::try_from(left_s).unwrap_or(u32::MAX)
            }),
            properties: message.properties,
            peer: (!message.peer.is_empty()).then_some(message.peer),
            principal: (!message.principal.is_empty()).then_some(message.principal),
            ..Self::default()
        }
    }

    /// The same with what `encoding` needs beside it.
    pub(crate) fn encoded(self, encoding: PayloadEncoding, payload: &'a [u8]) -> Self {
        match encoding {
            PayloadEncoding::Base64 => self,
            PayloadEncoding::Plain if std::str::from_utf8(payload).is_ok() => Self {
                plain: true,
                ..self
            },
            PayloadEncoding::Plain => Self {
                plain: true,
                payload: Some(payload),
                ..self
            },
        }
    }

    /// Whether everything but the topic and who published has its default.
    fn is_plain(&self) -> bool {
        self.username.is_none()
            && self.qos.is_none()
            && self.mid.is_none()
            && !self.copy
            && self.publish_ms.is_none()
            && !self.retain
            && !self.dup
            && self.expiry_s.is_none()
            && self.properties.is_empty()
            && !self.plain
            && self.payload.is_none()
    }

    /// Hands the headers that must be written to `use_them`. `names` is scratch space.
    pub(crate) fn with<R>(
        &self,
        names: &mut Vec<u8>,
        use_them: impl FnOnce(&HeaderSlice<'_>) -> R,
    ) -> R {
        if self.is_plain() {
            // What nearly every message has, without a look at all the rest.
            let mut list: [(&[u8], &[u8]); 3] = [(&[], &[]); 3];
            let mut len = 0;
            for (name, value) in [
                (header::TOPIC, self.topic),
                (header::PEER, self.peer),
                (header::PRINCIPAL, self.principal),
            ] {
                if let Some(value) = value {
                    list[len] = (name.as_bytes(), value.as_bytes());
                    len += 1;
                }
            }
            return use_them(&list[..len]);
        }
        names.clear();
        for property in self.properties.iter() {
            if let Property::User(name, _) = property {
                names.extend_from_slice(header::USER_PREFIX.as_bytes());
                names.extend_from_slice(name.as_bytes());
            }
        }
        let mid = self.mid.map(Decimal::position);
        let publish_ms = self.publish_ms.map(Decimal::new);
        let expiry_s = self
            .expiry_s
            .map(|expiry_s| Decimal::new(u64::from(expiry_s)));
        let qos = self.qos.map(|qos| [b'0' + qos.as_u8()]);
        let flag = |set: bool| set.then_some(b"1".as_slice());
        let mut list = HeaderList::new();
        list.text(header::TOPIC, self.topic);
        list.text(header::USERNAME, self.username);
        list.put(header::QOS, qos.as_ref().map(<[u8; 1]>::as_slice));
        list.put(header::MID, mid.as_ref().map(Decimal::as_bytes));
        list.put(header::COPY, flag(self.copy));
        list.put(header::TS, publish_ms.as_ref().map(Decimal::as_bytes));
        list.put(header::RETAIN, flag(self.retain));
        list.put(header::DUP, flag(self.dup));
        list.put(header::EXPIRY, expiry_s.as_ref().map(Decimal::as_bytes));
        let mut names = names.as_slice();
        for property in self.properties.iter() {
            list.property(property, &mut names);
        }
        list.text(header::PAYLOAD_ENCODING, self.plain.then_some("plain"));
        list.put(header::PAYLOAD, self.payload);
        list.text(header::PEER, self.peer);
        list.text(header::PRINCIPAL, self.principal);
        use_them(list.as_slice())
    }
}

/// Headers gathered on the stack, or beyond a number on the heap.
struct HeaderList<'h> {
    inline: [(&'h [u8], &'h [u8]); HEADERS_INLINE],
    len: usize,
    spill: Vec<(&'h [u8], &'h [u8])>,
}

impl<'h> HeaderList<'h> {
    fn new() -> Self {
        Self {
            inline: [(&[], &[]); HEADERS_INLINE],
            len: 0,
            spill: Vec::new(),
        }
    }

    fn push(&mut self, name: &'h [u8], value: &'h [u8]) {
        if self.len < HEADERS_INLINE {
            self.inline[self.len] = (name, value);
            self.len += 1;
            return;
        }
        if self.spill.is_empty() {
            self.spill.extend_from_slice(&self.inline);
        }
        self.spill.push((name, value));
    }

    fn put(&mut self, name: &'static str, value: Option<&'h [u8]>) {
        if let Some(value) = value {
            self.push(name.as_bytes(), value);
        }
    }

    fn text(&mut self, name: &'static str, value: Option<&'h str>) {
        self.put(name, value.map(str::as_bytes));
    }

    /// `names` starts with the name of the next user property.
    fn property(&mut self, property: Property<'h>, names: &mut &'h [u8]) {
        match property {
            Property::PayloadFormat(0) => self.text(header::PAYLOAD_FORMAT, Some("0")),
            Property::PayloadFormat(_) => self.text(header::PAYLOAD_FORMAT, Some("1")),
            Property::ContentType(text) => self.text(header::CONTENT_TYPE, Some(text)),
            Property::ResponseTopic(topic) => self.text(header::RESPONSE_TOPIC, Some(topic)),
            Property::CorrelationData(bytes) => self.put(header::CORRELATION_DATA, Some(bytes)),
            Property::User(name, value) => {
                let (own, rest) = names.split_at(header::USER_PREFIX.len() + name.len());
                *names = rest;
                self.push(own, value.as_bytes());
            }
        }
    }

    fn as_slice(&self) -> &HeaderSlice<'h> {
        if self.spill.is_empty() {
            &self.inline[..self.len]
        } else {
            &self.spill
        }
    }
}

/// The value of a record in the table of retained messages: a format version and all that a
/// message has, but for the topic, which is the key.
pub(crate) fn write_retained(out: &mut Vec<u8>, message: &MessageView<'_>) {
    out.push(RETAINED_VERSION);
    out.push(message.qos.as_u8());
    out.extend_from_slice(&message.publish_ms.to_be_bytes());
    out.extend_from_slice(&message.expires_ms.unwrap_or(u64::MAX).to_be_bytes());
    for text in [message.publisher, message.username] {
        let len = u16::try_from(text.len()).expect("an MQTT string has at most 65,535 bytes");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    let properties = message.properties.as_bytes();
    out.extend_from_slice(&(properties.len() as u32).to_be_bytes());
    out.extend_from_slice(properties);
    out.extend_from_slice(message.payload);
}

/// Format of the values in the table of retained messages.
pub(crate) const RETAINED_VERSION: u8 = 1;

#[cfg(test)]
mod tests;
