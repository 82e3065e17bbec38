//! What a client's certificate calls it: its subject, or one of its alternative names (RFC 5280,
//! 4.2.1.6). Only certificates that were verified come here.

use super::subject::{Der, read, tbs};

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const EXTENSIONS: u8 = 0xa3;
/// subjectAltName, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;

/// A part of a certificate that names its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameOf {
    /// The whole subject, as Apache Kafka writes it.
    Subject,
    /// Its common name.
    CommonName,
    /// The first DNS name among the alternative names.
    Dns,
    /// The first mail address among them.
    Email,
    /// The first URI among them.
    Uri,
}

/// What a certificate calls its client; `None`: it has no such name, or not one of plain text.
pub fn name_of(certificate: &[u8], what: NameOf) -> Option<String> {
    let tag = match what {
        NameOf::Subject => return Some(read(certificate)?.distinguished_name()),
        NameOf::CommonName => return read(certificate)?.common_name(),
        NameOf::Dns => DNS,
        NameOf::Email => EMAIL,
        NameOf::Uri => URI,
    };
    let mut names = Der(alternative_names(certificate)?);
    while let Some((found, text)) = names.next() {
        if found == tag {
            let text = std::str::from_utf8(text).ok()?;
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            return plain.then(|| text.to_owned());
        }
    }
    None
}

fn alternative_names(certificate: &[u8]) -> Option<&[u8]> {
    let mut fields = tbs(certificate)?;
    let list = loop {
        let (tag, content) = fields.next()?;
        if tag == EXTENSIONS {
            break content;
        }
    };
    let mut list = Der(Der(list).expect(SEQUENCE)?);
    while let Some((tag, extension)) = list.next() {
        let mut extension = Der(extension);
        if tag != SEQUENCE || extension.expect(OBJECT_ID)? != ALTERNATIVE_NAMES {
            continue;
        }
        let (mut tag, mut value) = extension.next()?;
        if tag == BOOLEAN {
            (tag, value) = extension.next()?;
        }
        return (tag == OCTET_STRING).then(|| Der(value).expect(SEQUENCE))?;
    }
    None
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "lock-7");
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn each_kind_of_name_is_found() {
        let der = certificate(vec![
            SanType::URI("urn:lock:7".try_into().unwrap()),
            SanType::DnsName("lock-7.example".try_into().unwrap()),
            SanType::DnsName("second.example".try_into().unwrap()),
        ]);
        let name = |what| name_of(&der, what);
        assert_eq!(name(NameOf::Dns).as_deref(), Some("lock-7.example"));
        assert_eq!(name(NameOf::Uri).as_deref(), Some("urn:lock:7"));
        assert_eq!(name(NameOf::Email), None);
        assert_eq!(name(NameOf::CommonName).as_deref(), Some("lock-7"));
        assert!(name(NameOf::Subject).unwrap().contains("CN=lock-7"));
        assert_eq!(name_of(&certificate(Vec::new()), NameOf::Dns), None);
    }

    #[test]
    fn a_cut_certificate_names_nobody_and_panics_nowhere() {
        let der = certificate(vec![SanType::DnsName("a.example".try_into().unwrap())]);
        for end in 0..der.len() {
            assert_eq!(name_of(&der[..end], NameOf::Uri), None);
            let mut bent = der.clone();
            bent[end] ^= 0xff;
            let _ = name_of(&bent, NameOf::Dns);
        }
    }
}
