//! A packet as text: parsed, written from a received packet, compared, and turned into bytes.
//! A packet here is its name and a list of keys and values; only the last step knows types.

use std::collections::BTreeMap;
use std::fmt;

use mqtt::{PacketType, Version};

use super::words::{self, Word};

mod build;
mod describe;

/// Values that a transcript has given names to.
pub type Variables = BTreeMap<String, Vec<u8>>;

/// A packet of a transcript, to be sent or expected, or a received packet in the same words.
#[derive(Debug, Clone, PartialEq)]
pub struct PacketText {
    /// Its type.
    pub kind: PacketType,
    /// The version of a CONNECT.
    pub version: Option<Version>,
    /// Keys and values; positional words have keys, too.
    pub fields: Vec<Field>,
}

/// A key and what its value is or must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Key, as in the format's table.
    pub key: String,
    /// Value.
    pub want: Want,
}

/// A value in a transcript.
#[derive(Debug, Clone, PartialEq)]
pub enum Want {
    /// This value: numbers in decimal, reason codes by name, everything else as it is.
    Is(Vec<u8>),
    /// Present, whatever it is.
    Any,
    /// Not there.
    Absent,
    /// A number from the first to the second, both included.
    Between(u64, u64),
    /// What the variable holds; in an expectation its first use gives it the value.
    Variable(String),
}

const NAMES: [(&str, PacketType); 15] = [
    ("CONNECT", PacketType::Connect),
    ("CONNACK", PacketType::Connack),
    ("PUBLISH", PacketType::Publish),
    ("PUBACK", PacketType::Puback),
    ("PUBREC", PacketType::Pubrec),
    ("PUBREL", PacketType::Pubrel),
    ("PUBCOMP", PacketType::Pubcomp),
    ("SUBSCRIBE", PacketType::Subscribe),
    ("SUBACK", PacketType::Suback),
    ("UNSUBSCRIBE", PacketType::Unsubscribe),
    ("UNSUBACK", PacketType::Unsuback),
    ("PINGREQ", PacketType::Pingreq),
    ("PINGRESP", PacketType::Pingresp),
    ("DISCONNECT", PacketType::Disconnect),
    ("AUTH", PacketType::Auth),
];

const PUBLISH_KEYS: &[&str] = &[
    "topic",
    "payload",
    "qos",
    "pid",
    "retain",
    "dup",
    "alias",
    "expiry",
    "format",
    "response_topic",
    "correlation",
    "content_type",
    "sub_id",
    "user",
];

const CONNECT_KEYS: &[&str] = &[
    "id",
    "clean",
    "keepalive",
    "username",
    "password",
    "will.topic",
    "will.payload",
    "will.qos",
    "will.retain",
    "will.delay",
    "will.expiry",
    "will.format",
    "will.content_type",
    "will.response_topic",
    "will.correlation",
    "will.user",
    "session_expiry",
    "receive_maximum",
    "maximum_packet_size",
    "topic_alias_maximum",
    "request_response",
    "request_problem",
    "auth_method",
    "auth_data",
    "user",
];

const CONNACK_KEYS: &[&str] = &[
    "reason",
    "present",
    "session_expiry",
    "receive_maximum",
    "maximum_qos",
    "retain_available",
    "maximum_packet_size",
    "assigned_id",
    "topic_alias_maximum",
    "reason_string",
    "wildcard_available",
    "sub_ids_available",
    "shared_available",
    "server_keep_alive",
    "response_information",
    "server_reference",
    "auth_method",
    "auth_data",
    "user",
];

const NUMBERS: &[&str] = &[
    "pid",
    "qos",
    "retain",
    "dup",
    "alias",
    "expiry",
    "format",
    "sub_id",
    "clean",
    "keepalive",
    "present",
    "session_expiry",
    "receive_maximum",
    "maximum_qos",
    "retain_available",
    "maximum_packet_size",
    "topic_alias_maximum",
    "request_response",
    "request_problem",
    "wildcard_available",
    "sub_ids_available",
    "shared_available",
    "server_keep_alive",
    "will.qos",
    "will.retain",
    "will.delay",
    "will.expiry",
    "will.format",
    "nl",
    "rap",
    "rh",
];

const REPEATED: &[&str] = &[
    "user",
    "will.user",
    "sub_id",
    "reason",
    "filter",
    "qos",
    "nl",
    "rap",
    "rh",
];

fn keys(kind: PacketType) -> &'static [&'static str] {
    match kind {
        PacketType::Connect => CONNECT_KEYS,
        PacketType::Connack => CONNACK_KEYS,
        PacketType::Publish => PUBLISH_KEYS,
        PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
            &["pid", "reason", "reason_string", "user"]
        }
        PacketType::Subscribe => &["pid", "filter", "qos", "nl", "rap", "rh", "sub_id", "user"],
        PacketType::Suback | PacketType::Unsuback => &["pid", "reason", "reason_string", "user"],
        PacketType::Unsubscribe => &["pid", "filter", "user"],
        PacketType::Pingreq | PacketType::Pingresp => &[],
        PacketType::Disconnect => &[
            "reason",
            "session_expiry",
            "reason_string",
            "server_reference",
            "user",
        ],
        PacketType::Auth => &[
            "reason",
            "auth_method",
            "auth_data",
            "reason_string",
            "user",
        ],
    }
}

/// Keys of the words without one; the last of a pair with `true` may come several times.
fn positional(kind: PacketType, index: usize) -> Option<&'static str> {
    let keys: (&[&str], bool) = match kind {
        PacketType::Connack | PacketType::Disconnect | PacketType::Auth => (&["reason"], false),
        PacketType::Publish => (&["topic", "payload"], false),
        PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
            (&["pid", "reason"], false)
        }
        PacketType::Suback | PacketType::Unsuback => (&["pid", "reason"], true),
        PacketType::Subscribe | PacketType::Unsubscribe => (&["pid", "filter"], true),
        PacketType::Connect | PacketType::Pingreq | PacketType::Pingresp => (&[], false),
    };
    match keys {
        (keys, true) => keys.get(index).or(keys.last()).copied(),
        (keys, false) => keys.get(index).copied(),
    }
}

/// Flags: words that stand for `key=1` once the positional words have begun.
fn is_flag(kind: PacketType, index: usize, text: &str) -> bool {
    match kind {
        PacketType::Publish => index >= 1 && matches!(text, "retain" | "dup"),
        PacketType::Subscribe => index >= 2 && matches!(text, "nl" | "rap"),
        _ => false,
    }
}

/// What an expectation that does not say otherwise compares with.
fn defaults(kind: PacketType) -> &'static [(&'static str, &'static str)] {
    match kind {
        PacketType::Publish => &[
            ("topic", ""),
            ("payload", ""),
            ("qos", "0"),
            ("retain", "0"),
            ("dup", "0"),
        ],
        PacketType::Connack
        | PacketType::Puback
        | PacketType::Pubrec
        | PacketType::Pubrel
        | PacketType::Pubcomp
        | PacketType::Disconnect
        | PacketType::Auth => &[("reason", "success")],
        _ => &[],
    }
}

impl PacketText {
    /// Parses a packet's text.
    pub fn parse(text: &str) -> Result<PacketText, String> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let kind = NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("{name} is no packet"))?;
        let mut packet = PacketText {
            kind,
            version: None,
            fields: Vec::new(),
        };
        let mut position = 0;
        for word in words::split(rest)? {
            packet.add_word(&word, &mut position)?;
        }
        if kind == PacketType::Connect && packet.version.is_none() {
            packet.version = Some(Version::V5);
        }
        Ok(packet)
    }

    fn add_word(&mut self, word: &Word, position: &mut usize) -> Result<(), String> {
        let key = if let Some(key) = &word.key {
            if !keys(self.kind).contains(&key.as_str()) {
                return Err(format!("{key} does not belong to this packet"));
            }
            key.clone()
        } else if !word.literal && is_flag(self.kind, *position, word.text()?) {
            self.push(word.text()?, Want::Is(b"1".to_vec()));
            return Ok(());
        } else if self.kind == PacketType::Connect && self.version.is_none() {
            self.version = Some(words::parse_version(word.text()?)?);
            return Ok(());
        } else {
            let key = positional(self.kind, *position)
                .ok_or_else(|| format!("one word too many: {}", words::write(&word.value)))?;
            *position += 1;
            key.to_owned()
        };
        if self.all(&key).next().is_some() && !REPEATED.contains(&key.as_str()) {
            return Err(format!("{key} is given twice"));
        }
        let want = want(&key, word)?;
        self.push(&key, want);
        Ok(())
    }

    fn push(&mut self, key: &str, want: Want) {
        self.fields.push(Field {
            key: key.to_owned(),
            want,
        });
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Want> {
        self.fields
            .iter()
            .filter(move |field| field.key == key)
            .map(|field| &field.want)
    }

    /// Compares a received packet with this expectation; gives variables their values.
    pub fn matches(&self, got: &PacketText, variables: &mut Variables) -> Result<(), String> {
        if self.kind != got.kind {
            return Err("another packet".to_owned());
        }
        let mut bound = variables.clone();
        for key in keys(self.kind) {
            let wanted: Vec<&Want> = self.all(key).collect();
            let received: Vec<&[u8]> = got
                .all(key)
                .filter_map(|want| match want {
                    Want::Is(value) => Some(value.as_slice()),
                    _ => None,
                })
                .collect();
            if is_list(self.kind, key) {
                compare_lists(self.kind, key, &wanted, received)?;
                continue;
            }
            let default = defaults(self.kind).iter().find(|(known, _)| known == key);
            let received = received
                .first()
                .copied()
                .or(default.map(|(_, value)| value.as_bytes()));
            match (wanted.first(), default) {
                (Some(want), _) => compare(key, want, received, &mut bound)?,
                (None, Some((_, value))) => {
                    compare(
                        key,
                        &Want::Is(value.as_bytes().to_vec()),
                        received,
                        &mut bound,
                    )?;
                }
                (None, None) => {}
            }
        }
        *variables = bound;
        Ok(())
    }
}

fn is_list(kind: PacketType, key: &str) -> bool {
    let answers = matches!(kind, PacketType::Suback | PacketType::Unsuback);
    matches!(key, "user" | "sub_id" | "will.user" | "filter") || (answers && key == "reason")
}

fn compare_lists(
    kind: PacketType,
    key: &str,
    wanted: &[&Want],
    mut received: Vec<&[u8]>,
) -> Result<(), String> {
    let always = matches!(kind, PacketType::Suback | PacketType::Unsuback) && key == "reason";
    match wanted {
        [] if !always => return Ok(()),
        [Want::Any] if !received.is_empty() => return Ok(()),
        [Want::Absent] if received.is_empty() => return Ok(()),
        _ => {}
    }
    let mut literal: Vec<&[u8]> = Vec::new();
    for want in wanted {
        match want {
            Want::Is(value) => literal.push(value),
            _ => return Err(format!("{key} differs")),
        }
    }
    if key == "sub_id" {
        literal.sort_unstable();
        received.sort_unstable();
    }
    if literal == received {
        Ok(())
    } else {
        Err(format!("{key} differs"))
    }
}

fn compare(
    key: &str,
    want: &Want,
    received: Option<&[u8]>,
    variables: &mut Variables,
) -> Result<(), String> {
    let fits = match (want, received) {
        (Want::Absent, received) => received.is_none(),
        (_, None) => false,
        (Want::Any, Some(_)) => true,
        (Want::Is(value), Some(received)) => value == received,
        (Want::Between(from, to), Some(received)) => std::str::from_utf8(received)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
            .is_some_and(|number| (*from..=*to).contains(&number)),
        (Want::Variable(name), Some(received)) => {
            variables
                .entry(name.clone())
                .or_insert_with(|| received.to_vec())
                == received
        }
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{key} differs"))
    }
}

fn want(key: &str, word: &Word) -> Result<Want, String> {
    if !word.literal {
        let text = word.text()?;
        match text {
            "*" => return Ok(Want::Any),
            "-" => return Ok(Want::Absent),
            _ => {}
        }
        if let Some(name) = text.strip_prefix('$') {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !name.is_empty() && name.chars().all(plain) {
                return Ok(Want::Variable(name.to_owned()));
            }
        }
        if let (true, Some((from, to))) = (NUMBERS.contains(&key), text.split_once("..")) {
            return Ok(Want::Between(number(key, from)?, number(key, to)?));
        }
    }
    if NUMBERS.contains(&key) {
        return Ok(Want::Is(
            number(key, word.text()?)?.to_string().into_bytes(),
        ));
    }
    match key {
        "reason" => {
            let reason = words::parse_reason(word.text()?)?;
            Ok(Want::Is(reason.name().as_bytes().to_vec()))
        }
        "user" | "will.user" if !word.text()?.contains(':') => {
            Err("a user property is name:value".to_owned())
        }
        _ => Ok(Want::Is(word.value.clone())),
    }
}

fn number(key: &str, text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{key} is a number, not {text}"))
}

impl fmt::Display for PacketText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES
            .iter()
            .find(|(_, kind)| *kind == self.kind)
            .map_or("?", |(name, _)| name);
        f.write_str(name)?;
        if let Some(version) = self.version {
            write!(f, " {}", words::version_name(version))?;
        }
        let mut position = 0;
        for Field { key, want } in &self.fields {
            let value = match want {
                Want::Is(value) if key == "payload" => words::write_quoted(value),
                Want::Is(value) => words::write(value),
                Want::Any => "*".to_owned(),
                Want::Absent => "-".to_owned(),
                Want::Between(from, to) => format!("{from}..{to}"),
                Want::Variable(name) => format!("${name}"),
            };
            if positional(self.kind, position) == Some(key.as_str()) {
                position += 1;
                write!(f, " {value}")?;
            } else if is_flag(self.kind, 2, key) && value == "1" {
                write!(f, " {key}")?;
            } else {
                write!(f, " {key}={value}")?;
            }
        }
        Ok(())
    }
}
