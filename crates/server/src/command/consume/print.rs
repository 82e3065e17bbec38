//! How a record is printed: its value, or a JSON object, with the payload of hook records decoded.

use std::fmt;
use std::io::{self, Write};

use commitlog::RecordView;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The field of a hook record that holds the message.
const PAYLOAD: &str = "payload";

/// Our output failed, which is not the node's fault.
#[derive(Debug)]
pub(super) struct OutputError(pub(super) io::Error);

impl fmt::Display for OutputError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot write to the output: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

/// What is printed of a record.
pub(super) struct Format<'a> {
    pub(super) stream: &'a str,
    /// The key in front.
    pub(super) key: bool,
    /// The payload decoded.
    pub(super) decode: bool,
    /// All of the record as JSON.
    pub(super) json: bool,
}

impl Format<'_> {
    /// Prints one line.
    pub(super) fn print(
        &self,
        out: &mut impl Write,
        partition: i32,
        record: &RecordView<'_>,
    ) -> Result<(), OutputError> {
        let mut line = Vec::new();
        let decoded = record.value.filter(|_| self.decode).and_then(decoded);
        if self.json {
            self.object(&mut line, partition, record, decoded);
        } else {
            if self.key {
                line.extend_from_slice(record.key.unwrap_or(b"null"));
                line.push(b'\t');
            }
            match decoded {
                Some(decoded) => line.extend_from_slice(decoded.as_bytes()),
                None => line.extend_from_slice(record.value.unwrap_or(b"null")),
            }
        }
        line.push(b'\n');
        out.write_all(&line).map_err(OutputError)
    }

    fn object(
        &self,
        line: &mut Vec<u8>,
        partition: i32,
        record: &RecordView<'_>,
        decoded: Option<String>,
    ) {
        let headers: Vec<String> = record
            .headers()
            .map(|(name, value)| format!("[{},{}]", json(Some(name)), json(value)))
            .collect();
        let object = format!(
            "{{\"stream\":{},\"partition\":{partition},\"offset\":{},\"timestamp\":{},\
             \"key\":{},\"headers\":[{}],\"value\":{}}}",
            Value::from(self.stream),
            record.offset,
            record.timestamp_ms,
            json(record.key),
            headers.join(","),
            decoded.unwrap_or_else(|| json(record.value)),
        );
        line.extend_from_slice(object.as_bytes());
    }
}

/// Bytes as JSON: a string where they are UTF-8, else an object with their base64.
fn json(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Value::from(text).to_string();
    }
    let base64 = base64_simd::STANDARD.encode_to_string(bytes);
    format!("{{\"base64\":{}}}", Value::from(base64))
}

/// The record of a hook on one line, with its fields in their order and the payload decoded: as it
/// is where it is JSON, as a string where it is text. `None`: the value is no such record.
fn decoded(value: &[u8]) -> Option<String> {
    let Fields(fields) = serde_json::from_slice(value).ok()?;
    let encoded = fields.iter().find_map(|(name, value)| {
        if name == PAYLOAD {
            value.as_str()
        } else {
            None
        }
    })?;
    let payload = base64_simd::STANDARD
        .decode_to_vec(encoded)
        .ok()
        .and_then(readable);
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| match &payload {
            Some(payload) if name == PAYLOAD => format!("{}:{payload}", Value::from(name.as_str())),
            _ => format!("{}:{value}", Value::from(name.as_str())),
        })
        .collect();
    Some(format!("{{{}}}", fields.join(",")))
}

/// A payload as JSON, if a person can read it.
fn readable(payload: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(payload).ok()?;
    if serde_json::from_str::<IgnoredAny>(&text).is_ok() {
        // Line ends in JSON are never part of a string.
        return Some(text.replace(['\r', '\n'], " "));
    }
    let unreadable = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    (!text.contains(unreadable)).then(|| Value::from(text).to_string())
}

/// The fields of a JSON object in their order.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        from.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_shown_as_what_they_are() {
        let record = |payload: &[u8]| {
            let payload = base64_simd::STANDARD.encode_to_string(payload);
            decoded(format!(r#"{{"ts":1,"payload":"{payload}","qos":0}}"#).as_bytes()).unwrap()
        };
        assert_eq!(record(b"on"), r#"{"ts":1,"payload":"on","qos":0}"#);
        assert_eq!(record(b"21.50"), r#"{"ts":1,"payload":21.50,"qos":0}"#);
        assert_eq!(
            record(b"{\"b\": 1,\n \"a\": 2}"),
            r#"{"ts":1,"payload":{"b": 1,  "a": 2},"qos":0}"#
        );
        assert_eq!(
            record(b"two\nlines"),
            r#"{"ts":1,"payload":"two\nlines","qos":0}"#
        );
        // What nobody can read stays as it was.
        assert_eq!(record(b"\x00\x01"), r#"{"ts":1,"payload":"AAE=","qos":0}"#);
        assert_eq!(record(b"\xff"), r#"{"ts":1,"payload":"/w==","qos":0}"#);
    }

    #[test]
    fn what_is_no_hook_record_is_left_alone() {
        assert_eq!(decoded(b"on"), None);
        assert_eq!(decoded(b"[1]"), None);
        assert_eq!(decoded(br#"{"client_id":"lock"}"#), None);
        // A plain payload that is no base64.
        let plain = br#"{"payload":"hello, world"}"#;
        assert_eq!(
            decoded(plain).as_deref(),
            Some(r#"{"payload":"hello, world"}"#)
        );
    }
}
