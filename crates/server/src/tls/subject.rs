//! The subject of a certificate, read from its DER (X.690, RFC 5280) and written as Java's and so
//! Apache Kafka's: the last part first, `CN=lock,OU=doors,O=acme` (RFC 2253). Only certificates that
//! were verified before come here; what is not as expected is `None`.

use std::fmt::Write as _;

use super::limits::NAME_PARTS_MAX;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const COMMON_NAME: &str = "CN";

/// The types that RFC 2253 has names for; the others are written by their number.
const NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], COMMON_NAME),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
];

/// A subject: its parts in the order of the certificate, each of one or more values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    parts: Vec<Vec<Attribute>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attribute {
    kind: Kind,
    /// The value as text, where it is text.
    text: Option<String>,
    /// The whole DER of the value.
    der: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Named(&'static str),
    Number(String),
}

/// The subject of a certificate.
pub(super) fn read(certificate: &[u8]) -> Option<Subject> {
    let mut fields = tbs(certificate)?;
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        fields.next()?;
    }
    let mut names = Der(fields.expect(SEQUENCE)?);
    let mut parts = Vec::new();
    while !names.0.is_empty() {
        let mut set = Der(names.expect(SET)?);
        let mut part = Vec::new();
        while !set.0.is_empty() {
            part.push(attribute(Der(set.expect(SEQUENCE)?))?);
        }
        parts.push(part);
        if parts.len() > NAME_PARTS_MAX {
            return None;
        }
    }
    Some(Subject { parts })
}

/// The fields of the part of a certificate that is signed.
pub(super) fn tbs(certificate: &[u8]) -> Option<Der<'_>> {
    let mut certificate = Der(certificate);
    let mut certificate = Der(certificate.expect(SEQUENCE)?);
    Some(Der(certificate.expect(SEQUENCE)?))
}

fn attribute(mut pair: Der<'_>) -> Option<Attribute> {
    let id = pair.expect(OBJECT_ID)?;
    let der = pair.0.to_vec();
    let (tag, value) = pair.next()?;
    let named = NAMES.iter().find(|(known, _)| *known == id);
    Some(Attribute {
        kind: named.map_or_else(|| Kind::Number(dotted(id)), |(_, name)| Kind::Named(name)),
        text: text(tag, value),
        der,
    })
}

impl Subject {
    /// As Apache Kafka writes it.
    pub(super) fn distinguished_name(&self) -> String {
        let part = |part: &Vec<Attribute>| {
            let attributes: Vec<String> = part.iter().map(Attribute::written).collect();
            attributes.join("+")
        };
        let parts: Vec<String> = self.parts.iter().rev().map(part).collect();
        parts.join(",")
    }

    /// The last common name, which is the most particular.
    pub(super) fn common_name(&self) -> Option<String> {
        let named = |attribute: &&Attribute| attribute.kind == Kind::Named(COMMON_NAME);
        let found = self.parts.iter().rev().flatten().find(named)?;
        found.text.clone()
    }
}

impl Attribute {
    fn written(&self) -> String {
        match (&self.kind, &self.text) {
            (Kind::Named(name), Some(text)) => format!("{name}={}", escaped(text)),
            (Kind::Named(name), None) => format!("{name}=#{}", hex(&self.der)),
            (Kind::Number(number), _) => format!("{number}=#{}", hex(&self.der)),
        }
    }
}

/// A value as RFC 2253 wants it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let at_end = c == ' ' && (at == 0 || at == last);
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') || at_end || (at == 0 && c == '#')
        {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn dotted(id: &[u8]) -> String {
    let mut out = String::new();
    let mut number: u64 = 0;
    for byte in id {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if out.is_empty() {
            let first = (number / 40).min(2);
            let _ = write!(out, "{first}.{}", number - 40 * first);
        } else {
            let _ = write!(out, ".{number}");
        }
        number = 0;
    }
    out
}

/// The text of a value of one of the string types.
fn text(tag: u8, value: &[u8]) -> Option<String> {
    const UTF8: u8 = 0x0c;
    const NUMERIC: u8 = 0x12;
    const PRINTABLE: u8 = 0x13;
    const TELETEX: u8 = 0x14;
    const IA5: u8 = 0x16;
    const BMP: u8 = 0x1e;
    let text = match tag {
        UTF8 | NUMERIC | PRINTABLE | IA5 => std::str::from_utf8(value).ok()?.to_owned(),
        TELETEX => value.iter().map(|&byte| char::from(byte)).collect(),
        BMP => {
            let units = value.as_chunks::<2>().0.iter();
            let units: Vec<u16> = units.map(|unit| u16::from_be_bytes(*unit)).collect();
            String::from_utf16(&units).ok()?
        }
        _ => return None,
    };
    // A name with a NUL or a line break is made to deceive.
    (!text.chars().any(char::is_control)).then_some(text)
}

/// What is left of a piece of DER.
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// The next value: its tag and content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, mut rest) = rest.split_first()?;
        let length = match short {
            0..=0x7f => usize::from(short),
            0x81..=0x84 => {
                let (bytes, after) = rest.split_at_checked(usize::from(short & 0x7f))?;
                rest = after;
                bytes
                    .iter()
                    .fold(0, |all, &byte| all << 8 | usize::from(byte))
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }

    pub(super) fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(tag, _)| *tag == wanted)
            .map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    fn subject(parts: Vec<(DnType, DnValue)>) -> Subject {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind, value);
        }
        let key = KeyPair::generate().unwrap();
        read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn a_subject_is_written_as_apache_kafka_writes_it() {
        let subject = subject(vec![
            (DnType::OrganizationName, utf8("Acme, Inc.")),
            (DnType::OrganizationalUnitName, utf8("d\u{f6}ors")),
            (
                DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]),
                utf8("a@b"),
            ),
            (DnType::CommonName, utf8("#lock ")),
        ]);
        assert_eq!(
            subject.distinguished_name(),
            "CN=\\#lock\\ ,1.2.840.113549.1.9.1=#0c03614062,OU=d\u{f6}ors,O=Acme\\, Inc."
        );
        assert_eq!(subject.common_name().unwrap(), "#lock ");
    }

    #[test]
    fn a_subject_without_a_common_name_has_none() {
        let nameless = subject(vec![(DnType::OrganizationName, utf8("acme"))]);
        assert_eq!(nameless.common_name(), None);
        assert_eq!(nameless.distinguished_name(), "O=acme");
        let deceiving = subject(vec![(DnType::CommonName, utf8("root\0x"))]);
        assert_eq!(deceiving.common_name(), None);
        assert_eq!(deceiving.distinguished_name(), "CN=#0c06726f6f740078");
    }

    #[test]
    fn every_cut_certificate_is_refused_or_read_without_a_panic() {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::default().self_signed(&key).unwrap();
        let der = made.der().to_vec();
        for end in 0..der.len() {
            let _ = read(&der[..end]);
            let mut bent = der.clone();
            bent[end] ^= 0xff;
            let _ = read(&bent);
        }
    }
}
