//! The PROXY protocol, versions 1 and 2: who really stands behind a proxy. Strict: what is no
//! header of either version is an error as soon as that can be told.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::{PROXY_V1_BYTES_MAX, PROXY_V2_BYTES_MAX};

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD: usize = 16;

/// The shortest header of either version, `PROXY UNKNOWN` and its line end.
const SHORTEST: usize = 15;

/// What a header says of where the connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From this address, to the proxy.
    Address(SocketAddr),
    /// From the proxy itself (a health check), or the proxy does not know.
    Proxy,
}

/// Why a header is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyError {
    /// The first bytes are not those of a header.
    NoHeader,
    /// The header is longer than allowed.
    TooLong,
    /// A part of the header is not as the protocol wants it.
    Malformed,
    /// The header speaks of something else than TCP.
    NotTcp,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "the connection does not begin with a PROXY header",
            Self::TooLong => "the PROXY header is too long",
            Self::Malformed => "the PROXY header is malformed",
            Self::NotTcp => "the PROXY header speaks of something else than TCP",
        })
    }
}

impl std::error::Error for ProxyError {}

/// Reads a header at the beginning of `bytes`: what it says and how long it is. `None`: it may
/// become one with more bytes.
///
/// # Errors
/// It never becomes one.
pub fn parse(bytes: &[u8]) -> Result<Option<(Source, usize)>, ProxyError> {
    let begins = |with: &[u8]| {
        let shared = bytes.len().min(with.len());
        bytes[..shared] == with[..shared]
    };
    if begins(V1) {
        return if bytes.len() < V1.len() {
            Ok(None)
        } else {
            v1(bytes)
        };
    }
    if begins(V2) {
        return v2(bytes);
    }
    Err(ProxyError::NoHeader)
}

/// How many bytes behind `bytes`, of which [`parse`] wants more, belong to the header whatever they are;
/// at least one. For readers that must not take what follows it.
pub fn missing(bytes: &[u8]) -> usize {
    if bytes.len() < SHORTEST {
        return SHORTEST - bytes.len();
    }
    match bytes.get(..V2_HEAD) {
        Some(head) if head.starts_with(V2) => {
            let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
            (V2_HEAD + length).saturating_sub(bytes.len()).max(1)
        }
        _ if bytes.ends_with(b"\r") || bytes.starts_with(V2) => 1,
        _ => 2,
    }
}

fn v1(bytes: &[u8]) -> Result<Option<(Source, usize)>, ProxyError> {
    let window = &bytes[..bytes.len().min(PROXY_V1_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == PROXY_V1_BYTES_MAX {
            Err(ProxyError::TooLong)
        } else {
            Ok(None)
        };
    };
    let line = std::str::from_utf8(&window[V1.len()..end]).map_err(|_| ProxyError::Malformed)?;
    let used = end + 2;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(Some((Source::Proxy, used)));
    }
    let mut next = || words.next().ok_or(ProxyError::Malformed);
    let (from, to, from_port, to_port) = (next()?, next()?, next()?, next()?);
    let port = port(from_port)?;
    self::port(to_port)?;
    if words.next().is_some() {
        return Err(ProxyError::Malformed);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    match (address(from), address(to)) {
        (Some(from), Some(_)) => {
            let source = SocketAddr::new(from, port);
            Ok(Some((Source::Address(source), used)))
        }
        _ => Err(ProxyError::Malformed),
    }
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let unpadded = text == "0" || !text.starts_with('0');
    (plain && unpadded)
        .then(|| text.parse().ok())
        .flatten()
        .ok_or(ProxyError::Malformed)
}

fn v2(bytes: &[u8]) -> Result<Option<(Source, usize)>, ProxyError> {
    if bytes.get(12).is_some_and(|version| version >> 4 != 2) {
        return Err(ProxyError::Malformed);
    }
    let Some(head) = bytes.get(..V2_HEAD) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let used = V2_HEAD + length;
    if used > PROXY_V2_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let (command, family) = (head[12] & 0xf, head[13]);
    if command > 1 {
        return Err(ProxyError::Malformed);
    }
    let Some(body) = bytes.get(V2_HEAD..used) else {
        return Ok(None);
    };
    if command == 0 {
        return Ok(Some((Source::Proxy, used)));
    }
    let source = match family {
        // Unspecified, and sockets of the proxy's own machine.
        0x00 | 0x31 => Source::Proxy,
        0x11 => {
            let body = body.first_chunk::<12>().ok_or(ProxyError::Malformed)?;
            let ip = Ipv4Addr::new(body[0], body[1], body[2], body[3]);
            let port = u16::from_be_bytes([body[8], body[9]]);
            Source::Address(SocketAddr::from((ip, port)))
        }
        0x21 => {
            let body = body.first_chunk::<36>().ok_or(ProxyError::Malformed)?;
            let octets = body.first_chunk::<16>().ok_or(ProxyError::Malformed)?;
            let port = u16::from_be_bytes([body[32], body[33]]);
            Source::Address(SocketAddr::from((Ipv6Addr::from(*octets), port)))
        }
        _ => return Err(ProxyError::NotTcp),
    };
    Ok(Some((source, used)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2.to_vec();
        header.extend_from_slice(&[0x20 | command, family]);
        header.extend_from_slice(&(body.len() as u16).to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    fn whole(bytes: &[u8]) -> (Source, usize) {
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let mut at = 0;
        while at < bytes.len() {
            at += missing(&bytes[..at]);
        }
        assert_eq!(at, bytes.len(), "never beyond the header");
        let mut longer = bytes.to_vec();
        longer.extend_from_slice(b"\x10\x0e");
        let found = parse(&longer).unwrap().unwrap();
        assert_eq!(found.1, bytes.len());
        found
    }

    fn address(text: &str) -> Source {
        Source::Address(text.parse().unwrap())
    }

    #[test]
    fn lines_of_version_1_are_read() {
        let line = b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 1883\r\n";
        assert_eq!(whole(line).0, address("203.0.113.7:56324"));
        let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n";
        assert_eq!(whole(line).0, address("[2001:db8::7]:1"));
        assert_eq!(whole(b"PROXY UNKNOWN\r\n").0, Source::Proxy);
        assert_eq!(whole(b"PROXY UNKNOWN ffff:: x 1 2\r\n").0, Source::Proxy);
    }

    #[test]
    fn lines_that_only_look_so_are_not() {
        for bad in [
            &b"PROXY TCP4 203.0.113.7 10.0.0.1 56324\r\n"[..],
            b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 1883 9\r\n",
            b"PROXY TCP4  203.0.113.7 10.0.0.1 56324 1883\r\n",
            b"PROXY TCP4 2001:db8::7 10.0.0.1 56324 1883\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 +5632 1883\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 1883\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 01 1883\r\n",
            b"PROXY UDP4 203.0.113.7 10.0.0.1 1 1883\r\n",
            b"PROXY \r\n",
            b"PROXY \xff\r\n",
        ] {
            assert_eq!(parse(bad), Err(ProxyError::Malformed), "{bad:?}");
        }
        let mut long = b"PROXY UNKNOWN ".to_vec();
        long.resize(PROXY_V1_BYTES_MAX, b'x');
        assert_eq!(parse(&long), Err(ProxyError::TooLong));
        assert_eq!(parse(b"\x10\x0e\0\x04MQTT"), Err(ProxyError::NoHeader));
        assert_eq!(parse(b"PROXX"), Err(ProxyError::NoHeader));
    }

    #[test]
    fn headers_of_version_2_are_read() {
        let mut body = vec![203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 0x04, 7, 0x5b];
        let header = v2_header(1, 0x11, &body);
        assert_eq!(whole(&header).0, address("203.0.113.7:56324"));
        // What is said beside the addresses is passed over.
        body.extend_from_slice(&[4, 0, 3, 1, 2, 3]);
        assert_eq!(
            whole(&v2_header(1, 0x11, &body)).0,
            address("203.0.113.7:56324")
        );
        let mut body = [0; 36];
        body[15] = 1;
        body[33] = 9;
        assert_eq!(whole(&v2_header(1, 0x21, &body)).0, address("[::1]:9"));
        for (command, family) in [(0, 0), (0, 0x11), (1, 0), (1, 0x31)] {
            let header = v2_header(command, family, &[]);
            assert_eq!(whole(&header).0, Source::Proxy);
        }
    }

    #[test]
    fn headers_of_version_2_that_lie_are_refused() {
        assert_eq!(
            parse(&v2_header(1, 0x11, &[0; 11])),
            Err(ProxyError::Malformed)
        );
        assert_eq!(
            parse(&v2_header(1, 0x21, &[0; 35])),
            Err(ProxyError::Malformed)
        );
        assert_eq!(
            parse(&v2_header(2, 0x11, &[0; 12])),
            Err(ProxyError::Malformed)
        );
        assert_eq!(
            parse(&v2_header(1, 0x12, &[0; 12])),
            Err(ProxyError::NotTcp)
        );
        let mut version = v2_header(1, 0x11, &[0; 12]);
        version[12] = 0x31;
        assert_eq!(parse(&version), Err(ProxyError::Malformed));
        // An announced length is judged before anything is awaited for it.
        let mut long = v2_header(1, 0x11, &[]);
        long[14] = 0xff;
        assert_eq!(parse(&long), Err(ProxyError::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, used))) = parse(&bytes) {
                prop_assert!(used <= bytes.len());
            }
            let mut headed = V2.to_vec();
            headed.extend_from_slice(&bytes);
            let _ = parse(&headed);
        }
    }
}
