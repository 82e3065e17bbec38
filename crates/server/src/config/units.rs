//! Durations and sizes as people write them: `"7d"`, `"1h30m"`, `"10GB"`, `"none"` or a plain
//! number, whose unit is the key's own.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A duration as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A number without a unit.
    Plain(u64),
    /// A number with units, in milliseconds.
    Millis(u64),
    /// The word `none`.
    None,
}

/// A number of bytes as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// The word `none`.
    None,
}

/// Milliseconds in each unit of time.
const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("f", 1_209_600_000),
];

/// Milliseconds of a text such as `7d`, `1h30m`, `500ms`, `1.5s`; letters in either case.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn millis(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "\"{text}\" is not a duration: write a number and one of ms s m h d w, as in \"7d\""
        )
    };
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(wrong)?;
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let unit = after[..letters].to_ascii_lowercase();
        let factor = TIME_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, ms)| *ms)
            .ok_or_else(wrong)?;
        total = scaled(number, factor)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(wrong)?;
        rest = after[letters..].trim_start();
    }
    Ok(total)
}

/// Bytes of a text such as `10GB`, `512 KiB`, `1.5MB`; 1 KB is 1,024 bytes; letters in either case.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("\"{text}\" is not a size: write a number and one of B KB MB GB TB, as in \"10GB\"")
    };
    let (number, unit) = split_number(text.trim()).ok_or_else(wrong)?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    scaled(number, factor).ok_or_else(wrong)
}

/// The shortest exact way to write `ms`, for printed configuration and summaries.
pub fn show_millis(ms: u64) -> String {
    let largest = ["w", "d", "h", "m", "s"]
        .iter()
        .filter_map(|unit| TIME_UNITS.iter().find(|(name, _)| name == unit))
        .find(|(_, factor)| ms > 0 && ms.is_multiple_of(*factor));
    match largest {
        Some((unit, factor)) => format!("{}{unit}", ms / factor),
        None => format!("{ms}ms"),
    }
}

/// The shortest exact way to write `bytes`.
pub fn show_bytes(bytes: u64) -> String {
    for (unit, shift) in [("TB", 40), ("GB", 30), ("MB", 20), ("KB", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Splits `12.5MB` into (`12.5`, `MB`); none where the text does not start with a number.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    (number.starts_with(|c: char| c.is_ascii_digit())).then_some((number, rest))
}

/// `number` (digits, at most one point) times `factor`, exact, rounded down.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let part = fraction.parse::<u64>().ok()?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(part) * u128::from(factor) / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(figure) => serializer.serialize_u64(*figure),
            Self::Millis(ms) => serializer.serialize_str(&show_millis(*ms)),
            Self::None => serializer.serialize_str("none"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => serializer.serialize_str(&show_bytes(*bytes)),
            Self::None => serializer.serialize_str("none"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"7d\" or \"500ms\", \"none\", or a number")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Span, E> {
                u64::try_from(number)
                    .map(Span::Plain)
                    .map_err(|_| E::custom("a duration cannot be negative"))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Span, E> {
                Ok(Span::Plain(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                if text == "none" {
                    return Ok(Span::None);
                }
                millis(text).map(Span::Millis).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"10GB\", \"none\", or a number of bytes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
                u64::try_from(number)
                    .map(Size::Bytes)
                    .map_err(|_| E::custom("a size cannot be negative"))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Size, E> {
                Ok(Size::Bytes(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                if text == "none" {
                    return Ok(Size::None);
                }
                bytes(text).map(Size::Bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_their_parts() {
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("5S"), Ok(5_000));
        assert_eq!(millis("1h30m"), Ok(5_400_000));
        assert_eq!(millis("1.5s"), Ok(1_500));
        assert_eq!(millis("7d"), Ok(604_800_000));
        assert_eq!(millis("1f"), Ok(14 * 86_400_000));
        assert_eq!(millis("1d 2h"), Ok(26 * 3_600_000));
        for wrong in ["", "7", "d", "7x", "-1s", "1..5s", "99999999999999999999w"] {
            assert!(millis(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_count_in_1024s() {
        assert_eq!(bytes("1024KB"), Ok(1 << 20));
        assert_eq!(bytes("10 GB"), Ok(10 << 30));
        assert_eq!(bytes("1.5MiB"), Ok(3 << 19));
        assert_eq!(bytes("17"), Ok(17));
        for wrong in ["", "GB", "10 gigabytes", "-1", "1e3"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 1, 999, 1_000, 90_000, 604_800_000, 1_209_600_000] {
            assert_eq!(millis(&show_millis(ms)), Ok(ms));
        }
        for size in [0, 1, 1_023, 1_024, 512 << 20, (1 << 40) + 1] {
            assert_eq!(bytes(&show_bytes(size)), Ok(size));
        }
    }
}
