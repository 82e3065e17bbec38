//! The words of a packet's text: plain, quoted, `key=value`; and the literals in them.
//! It knows nothing of packets.

use mqtt::{ReasonCode, Version};

/// One word of a packet's text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    /// What stands before `=`.
    pub(super) key: Option<String>,
    /// The value's bytes, quotes and escapes resolved.
    pub(super) value: Vec<u8>,
    /// Whether the value was quoted (or hex, or filled): then it is never a wildcard or a flag.
    pub(super) literal: bool,
}

impl Word {
    /// The value as text.
    pub(super) fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.value).map_err(|_| "this word is not UTF-8".to_owned())
    }
}

/// Splits a packet's text into words.
pub(super) fn split(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let key_end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_' || c == '.'));
        let key = match key_end {
            Some(end) if end > 0 && rest[end..].starts_with('=') => {
                let key = rest[..end].to_owned();
                rest = &rest[end + 1..];
                Some(key)
            }
            _ => None,
        };
        let (value, literal, behind) = value(rest)?;
        words.push(Word {
            key,
            value,
            literal,
        });
        if !behind.is_empty() && !behind.starts_with(char::is_whitespace) {
            return Err(format!("a space is missing before {behind}"));
        }
        rest = behind.trim_start();
    }
    Ok(words)
}

fn value(text: &str) -> Result<(Vec<u8>, bool, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = unquote(quoted)?;
        return Ok((value, true, rest));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if let Some(hex) = word.strip_prefix("hex:") {
        return Ok((parse_hex(hex)?, true, rest));
    }
    if let Some(count) = word.strip_prefix("fill:") {
        let count: usize = count.parse().map_err(|_| format!("{word} has no number"))?;
        if count > 16 * 1024 * 1024 {
            return Err(format!("{word} is too much"));
        }
        return Ok((vec![b'x'; count], true, rest));
    }
    Ok((word.as_bytes().to_vec(), false, rest))
}

fn unquote(text: &str) -> Result<(Vec<u8>, &str), String> {
    let mut value = Vec::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push(b'\n'),
                Some((_, '0')) => value.push(0),
                Some((_, c @ ('"' | '\\'))) => value.push(c as u8),
                Some((at, 'x')) => {
                    let digits = text.get(at + 1..at + 3).ok_or("\\x needs two digits")?;
                    value.extend(parse_hex(digits)?);
                    chars.nth(1);
                }
                _ => return Err("an unknown escape".to_owned()),
            },
            _ => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("a quote is not closed".to_owned())
}

/// Bytes written in hex, spaces between them or not.
pub(super) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).ok_or_else(|| format!("{c} is no hex digit")))
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err("an odd number of hex digits".to_owned());
    }
    Ok(digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect())
}

/// Bytes as a transcript writes them: plainly, quoted, or in hex.
pub(super) fn write(value: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(value) else {
        return value
            .iter()
            .fold("hex:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    };
    let plain = !text.is_empty()
        && !text.starts_with(['"', '$', '*', '-'])
        && !text.starts_with("hex:")
        && !text.starts_with("fill:")
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '=' && c != '\\' && c != '"');
    if plain { text.to_owned() } else { quote(text) }
}

/// As [`write()`], but never plainly.
pub(super) fn write_quoted(value: &[u8]) -> String {
    std::str::from_utf8(value).map_or_else(|_| write(value), quote)
}

fn quote(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\0' => quoted.push_str("\\0"),
            c if c.is_ascii_control() => {
                quoted.push_str("\\x");
                quoted.extend([c as u32 >> 4, c as u32 & 15].map(hex_digit));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A reason code by its name or number.
pub(super) fn parse_reason(text: &str) -> Result<ReasonCode, String> {
    let code = match text {
        "granted_qos_0" | "normal" => Some(ReasonCode::Success),
        _ => match text.strip_prefix("0x") {
            Some(hex) => u8::from_str_radix(hex, 16)
                .ok()
                .and_then(ReasonCode::from_u8),
            None => ReasonCode::from_name(text),
        },
    };
    code.ok_or_else(|| format!("{text} is no reason code"))
}

/// A version by its name in transcripts.
pub(super) fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "v3.1" => Ok(Version::V31),
        "v3.1.1" => Ok(Version::V311),
        "v5" => Ok(Version::V5),
        _ => Err(format!("{text} is no version: v3.1, v3.1.1, v5")),
    }
}

/// The name of a version in transcripts.
pub(super) const fn version_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "v3.1",
        Version::V311 => "v3.1.1",
        Version::V5 => "v5",
    }
}

fn hex_digit(value: u32) -> char {
    char::from_digit(value, 16).expect("four bits are one hex digit")
}
