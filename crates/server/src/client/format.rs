//! The output format of `sluice sub -F`: what mosquitto_sub's manual calls interpreted sequences,
//! parsed once and refused where unknown. It knows messages, not connections.

use std::fmt;

use mqtt::Publish;

use super::LocalTime;

/// Widest field, in characters; more is a slip of the finger.
const WIDTH_MAX: usize = 10_000;

/// What may follow a `%`, for help and refusals.
const KNOWN: &str = "%t topic, %p payload, %x and %X payload in hexadecimal, %l its length, %q QoS, \
     %r retain flag, %m packet identifier, %A topic alias, %C content type, %D correlation data, \
     %E expiry, %F payload format, %P user properties, %R response topic, %S subscription \
     identifier, %I local time, %U seconds since 1970, %j and %J JSON (with the payload as a \
     string, as JSON), %% a percent sign";

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Field(Field),
    /// A conversion of strftime(3).
    Time(u8),
    Nanoseconds,
}

/// `%`, perhaps `0` or `-`, a width and a maximum, and what to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    what: u8,
    left: bool,
    zeros: bool,
    /// Least characters.
    width: usize,
    /// Most characters, of the texts.
    most: Option<usize>,
}

/// The payload cannot be printed as JSON because it is none.
#[derive(Debug, PartialEq, Eq)]
pub struct NotJson;

impl Format {
    /// Parses a format; says what is known where something is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text.bytes().peekable();
        while let Some(byte) = rest.next() {
            match byte {
                b'%' => pieces.push(field(&mut rest)?),
                b'@' => pieces.push(match rest.next() {
                    Some(b'@') => Piece::Text(b"@".to_vec()),
                    Some(b'N') => Piece::Nanoseconds,
                    Some(letter) if letter.is_ascii_alphabetic() => Piece::Time(letter),
                    _ => return Err("@ goes with a letter of strftime, @N or @@".to_owned()),
                }),
                b'\\' => pieces.push(Piece::Text(vec![escape(rest.next())?])),
                byte => match pieces.last_mut() {
                    Some(Piece::Text(text)) => text.push(byte),
                    _ => pieces.push(Piece::Text(vec![byte])),
                },
            }
        }
        Ok(Self(pieces))
    }

    /// Appends the message, which came at `now`.
    pub fn print(
        &self,
        publish: &Publish<'_>,
        now: &LocalTime,
        line: &mut Vec<u8>,
    ) -> Result<(), NotJson> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text),
                Piece::Field(field) => field.print(publish, now, line)?,
                Piece::Time(letter) => line.extend_from_slice(&now.conversion(*letter)),
                Piece::Nanoseconds => write(line, format_args!("{:09}", now.nanoseconds)),
            }
        }
        Ok(())
    }
}

fn field(rest: &mut std::iter::Peekable<std::str::Bytes<'_>>) -> Result<Piece, String> {
    let mut field = Field {
        what: b'%',
        left: false,
        zeros: false,
        width: 0,
        most: None,
    };
    while let Some(flag) = rest.next_if(|byte| matches!(byte, b'0' | b'-')) {
        field.zeros |= flag == b'0';
        field.left |= flag == b'-';
    }
    field.width = number(rest)?;
    if rest.next_if_eq(&b'.').is_some() {
        field.most = Some(number(rest)?);
    }
    match rest.next() {
        Some(b'%') => Ok(Piece::Text(b"%".to_vec())),
        Some(what) if b"tpxXlqrmACDEFPRSIUjJ".contains(&what) => {
            Ok(Piece::Field(Field { what, ..field }))
        }
        Some(what) if what.is_ascii_graphic() => {
            Err(format!("%{} is not known; there are {KNOWN}", what as char))
        }
        _ => Err(format!("a % needs a letter; there are {KNOWN}")),
    }
}

fn number(rest: &mut std::iter::Peekable<std::str::Bytes<'_>>) -> Result<usize, String> {
    let mut number = 0;
    while let Some(digit) = rest.next_if(u8::is_ascii_digit) {
        number = 10 * number + usize::from(digit - b'0');
        if number > WIDTH_MAX {
            return Err(format!("a field is at most {WIDTH_MAX} characters wide"));
        }
    }
    Ok(number)
}

fn escape(letter: Option<u8>) -> Result<u8, String> {
    match letter {
        Some(b'\\') => Ok(b'\\'),
        Some(b'0') => Ok(0),
        Some(b'a') => Ok(7),
        Some(b'e') => Ok(27),
        Some(b'n') => Ok(b'\n'),
        Some(b'r') => Ok(b'\r'),
        Some(b't') => Ok(b'\t'),
        Some(b'v') => Ok(11),
        _ => Err(r"a backslash goes with \ 0 a e n r t or v".to_owned()),
    }
}

impl Field {
    fn print(
        self,
        publish: &Publish<'_>,
        now: &LocalTime,
        line: &mut Vec<u8>,
    ) -> Result<(), NotJson> {
        let properties = &publish.properties;
        match self.what {
            b't' => self.text(Some(publish.topic), line),
            b'p' => self.padded(publish.payload, publish.payload.len(), line),
            b'x' => self.hexadecimal(publish.payload, b"0123456789abcdef", line),
            b'X' => self.hexadecimal(publish.payload, b"0123456789ABCDEF", line),
            b'l' => self.number(Some(publish.payload.len()), line),
            b'q' => line.push(b'0' + publish.qos as u8),
            b'r' => line.push(b'0' + u8::from(publish.retain)),
            b'm' => self.number(Some(publish.packet_id), line),
            b'A' => self.number(properties.topic_alias, line),
            b'C' => self.text(properties.content_type, line),
            b'D' => line.extend_from_slice(properties.correlation_data.unwrap_or_default()),
            b'E' => self.number(properties.expiry_s, line),
            b'F' => self.number(properties.payload_format, line),
            b'P' => {
                for (at, (name, value)) in properties.user.iter().enumerate() {
                    let space = if at > 0 { " " } else { "" };
                    write(line, format_args!("{space}{name}:{value}"));
                }
            }
            b'R' => self.text(properties.response_topic, line),
            b'S' => self.number(properties.subscription_ids.iter().next(), line),
            b'I' => self.text(Some(&now.iso()), line),
            b'U' => write(line, format_args!("{}.{:09}", now.seconds, now.nanoseconds)),
            b'j' => json(publish, now, &payload_text(publish.payload), line),
            b'J' => json(publish, now, &payload_json(publish.payload)?, line),
            what => unreachable!("parse lets no {what} pass"),
        }
        Ok(())
    }

    fn number(self, number: Option<impl fmt::Display>, line: &mut Vec<u8>) {
        let digits = number.map_or_else(String::new, |number| number.to_string());
        self.padded(digits.as_bytes(), digits.len(), line);
    }

    fn text(self, text: Option<&str>, line: &mut Vec<u8>) {
        let text = text.unwrap_or_default();
        let end = self
            .most
            .and_then(|most| text.char_indices().nth(most))
            .map_or(text.len(), |(end, _)| end);
        let text = &text[..end];
        // A text is padded with blanks only.
        let blanks = Field {
            zeros: false,
            ..self
        };
        blanks.padded(text.as_bytes(), text.chars().count(), line);
    }

    fn hexadecimal(self, payload: &[u8], digits: &[u8; 16], line: &mut Vec<u8>) {
        let both = |byte: &u8| {
            [
                digits[usize::from(byte >> 4)],
                digits[usize::from(byte & 15)],
            ]
        };
        let text: Vec<u8> = payload.iter().flat_map(both).collect();
        self.padded(&text, text.len(), line);
    }

    fn padded(self, bytes: &[u8], characters: usize, line: &mut Vec<u8>) {
        let padding = self.width.saturating_sub(characters);
        let (before, behind) = if self.left {
            (0, padding)
        } else {
            (padding, 0)
        };
        let pad = if self.zeros && !self.left { b'0' } else { b' ' };
        line.resize(line.len() + before, pad);
        line.extend_from_slice(bytes);
        line.resize(line.len() + behind, pad);
    }
}

/// The message as an object, with the fields and their order of mosquitto_sub.
fn json(publish: &Publish<'_>, now: &LocalTime, payload: &[u8], line: &mut Vec<u8>) {
    write(
        line,
        format_args!(
            "{{\"tst\":\"{}\",\"topic\":{},\"qos\":{},\"retain\":{},\"payloadlen\":{}",
            now.iso_micros(),
            quoted(publish.topic),
            publish.qos as u8,
            u8::from(publish.retain),
            publish.payload.len()
        ),
    );
    if publish.packet_id > 0 {
        write(line, format_args!(",\"mid\":{}", publish.packet_id));
    }
    let properties = json_properties(publish);
    if !properties.is_empty() {
        let properties = properties.join(",");
        write(line, format_args!(",\"properties\":{{{properties}}}"));
    }
    line.extend_from_slice(b",\"payload\":");
    line.extend_from_slice(payload);
    line.push(b'}');
}

fn json_properties(publish: &Publish<'_>) -> Vec<String> {
    let properties = &publish.properties;
    let mut fields = Vec::new();
    let mut add = |name: &str, value: String| fields.push(format!("{}:{value}", quoted(name)));
    if let Some(number) = properties.payload_format {
        add("payload-format-indicator", number.to_string());
    }
    if let Some(seconds) = properties.expiry_s {
        add("message-expiry-interval", seconds.to_string());
    }
    if let Some(alias) = properties.topic_alias {
        add("topic-alias", alias.to_string());
    }
    if let Some(topic) = properties.response_topic {
        add("response-topic", quoted(topic));
    }
    if let Some(bytes) = properties.correlation_data {
        add("correlation-data", quoted(&String::from_utf8_lossy(bytes)));
    }
    if let Some(id) = properties.subscription_ids.iter().next() {
        add("subscription-identifier", id.to_string());
    }
    if let Some(kind) = properties.content_type {
        add("content-type", quoted(kind));
    }
    let user: Vec<String> = properties
        .user
        .iter()
        .map(|(name, value)| format!("{}:{}", quoted(name), quoted(value)))
        .collect();
    if !user.is_empty() {
        add("user-properties", format!("{{{}}}", user.join(",")));
    }
    fields
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The payload as a JSON string; as an array of its bytes where it is no text.
fn payload_text(payload: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(payload) {
        Ok(text) => quoted(text).into_bytes(),
        Err(_) => serde_json::Value::from(payload).to_string().into_bytes(),
    }
}

/// The payload, which is JSON, on one line; nothing is `null`.
fn payload_json(payload: &[u8]) -> Result<Vec<u8>, NotJson> {
    if payload.is_empty() {
        return Ok(b"null".to_vec());
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).map_err(|_| NotJson)?;
    let (mut quotes, mut escaped) = (false, false);
    let kept = payload.iter().copied().filter(|&byte| {
        let is_quote = byte == b'"' && !escaped;
        quotes ^= is_quote;
        escaped = quotes && byte == b'\\' && !escaped;
        quotes || is_quote || !byte.is_ascii_whitespace()
    });
    Ok(kept.collect())
}

fn write(line: &mut Vec<u8>, what: fmt::Arguments<'_>) {
    use std::io::Write as _;
    line.write_fmt(what).expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use mqtt::{PublishProperties, QoS, SubscriptionIds, UserProperties};

    use super::*;

    /// 2026-11-23 05:08:00.000175 UTC, told in the time zone of the machine.
    fn time() -> LocalTime {
        LocalTime::of(1_795_410_480, 175_000)
    }

    fn message<'a>() -> Publish<'a> {
        Publish {
            topic: "a/bc",
            payload: b"{\"x\": \"\\\" \\\\\", \"y\":\n[1, 2.50]}",
            qos: QoS::AtLeastOnce,
            packet_id: 7,
            retain: true,
            properties: PublishProperties {
                payload_format: Some(1),
                expiry_s: Some(299),
                response_topic: Some("r/t"),
                correlation_data: Some(b"cd"),
                content_type: Some("text/plain"),
                subscription_ids: SubscriptionIds::from_slice(&[5]),
                user: UserProperties::from_slice(&[("k", "v"), ("k2", "v2")]),
                ..PublishProperties::default()
            },
            ..Publish::default()
        }
    }

    fn shown(format: &str, publish: &Publish<'_>) -> String {
        let mut line = Vec::new();
        let format = Format::parse(format).expect("the format is known");
        format
            .print(publish, &time(), &mut line)
            .expect("the payload is JSON where it must be");
        String::from_utf8(line).expect("what the tests print is text")
    }

    #[test]
    fn every_field_is_printed() {
        let message = message();
        assert_eq!(
            shown("%t|%l|%q|%r|%m|%A|%C|%D|%E|%F|%P|%R|%S|%%", &message),
            "a/bc|30|1|1|7||text/plain|cd|299|1|k:v k2:v2|r/t|5|%"
        );
        let bytes = Publish {
            payload: b"\xff\x0a",
            ..Publish::default()
        };
        assert_eq!(shown("%x|%X", &bytes), "ff0a|FF0A");
        assert_eq!(shown("%C|%E|%P|%S", &bytes), "|||");
    }

    #[test]
    fn fields_have_a_width_and_texts_a_maximum() {
        let message = message();
        assert_eq!(
            shown("%6t|%-6t|%.2t|%5.1t", &message),
            "  a/bc|a/bc  |a/|    a"
        );
        assert_eq!(
            shown("%4l|%04l|%-4l|%-04l", &message),
            "  30|0030|30  |30  "
        );
        assert_eq!(shown("%3A|%03A", &message), "   |000");
        assert_eq!(shown("%06t", &message), "  a/bc");
    }

    #[test]
    fn times_and_escapes_are_those_of_the_manual() {
        let message = message();
        assert_eq!(
            shown(r"\\|\0|\a|\e|\n|\r|\t|\v|@@", &message),
            "\\|\0|\x07|\x1b|\n|\r|\t|\x0b|@"
        );
        assert_eq!(
            shown("%U|@N|@s", &message),
            "1795410480.000175000|000175000|1795410480"
        );
        assert_eq!(shown("@Y-@m", &message), "2026-11");
        assert_eq!(shown("%I", &message), shown("@FT@T@z", &message));
    }

    #[test]
    fn json_has_the_payload_as_text_or_as_it_is() {
        let message = message();
        let text = shown("%j", &message);
        let read: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(
            read["payload"],
            std::str::from_utf8(message.payload).expect("it is text")
        );
        assert_eq!(read["properties"]["user-properties"]["k2"], "v2");
        assert_eq!(read["mid"], 7);
        let payload = shown("%J", &message);
        let (_, payload) = payload
            .split_once("\"payload\":")
            .expect("it has a payload");
        assert_eq!(payload, "{\"x\":\"\\\" \\\\\",\"y\":[1,2.50]}}");
        let bytes = Publish {
            payload: b"\xff\x00",
            ..Publish::default()
        };
        assert!(shown("%j", &bytes).ends_with("\"payload\":[255,0]}"));
        let format = Format::parse("%J").expect("it is known");
        let print = format.print(&bytes, &time(), &mut Vec::new());
        assert_eq!(print, Err(NotJson));
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_is_known() {
        for format in ["%z", "x%", "%5", "%10001t", r"\z", "\\", "@", "@~"] {
            let refused = Format::parse(format).expect_err("it is not known");
            assert!(!refused.is_empty(), "{format}");
        }
        let refused = Format::parse("%t %z").expect_err("it is not known");
        assert!(
            refused.contains("%z") && refused.contains("%X"),
            "{refused}"
        );
    }
}
