//! The request by which an HTTP connection becomes a WebSocket one (RFC 6455, 4) for MQTT
//! [MQTT-6.0.0-3, -4], from both ends. Which web pages may ask is decided here too: a browser lets
//! any page connect anywhere, and only says where the page comes from.

use std::fmt::Write as _;
use std::net::IpAddr;

use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response};
use tungstenite::http::HeaderMap;

use crate::limits::UPGRADE_BYTES_MAX;

/// The subprotocols taken: the name of MQTT, and the old one that clients of 3.1 send.
pub const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What a listener accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The path that is served, such as `/mqtt`.
    pub path: String,
    /// Origins of web pages that may connect, such as `https://console.example`; `*` is any. Pages
    /// whose origin has the host under which the node was asked for may in any case, and clients
    /// that are no browser say none.
    pub origins: Vec<String>,
    /// The listener is on a loopback address: it answers under a loopback name only, so that no name
    /// of elsewhere that leads here (DNS rebinding) brings a page in.
    pub local: bool,
}

/// An upgrade that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Length of the request; what follows are frames.
    pub used: usize,
    /// What is answered.
    pub response: Vec<u8>,
}

/// A request that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is answered before the connection is closed.
    pub response: Vec<u8>,
    /// Why, for a person.
    pub why: &'static str,
}

/// Reads a request at the beginning of `bytes`. `None`: it is not whole.
///
/// # Errors
/// It is not served, or can never become whole within its bound.
pub fn accept(bytes: &[u8], policy: &Policy) -> Result<Option<Accepted>, Refused> {
    let window = &bytes[..bytes.len().min(UPGRADE_BYTES_MAX)];
    let parsed = Request::try_parse(window)
        .map_err(|_| refused("400 Bad Request", "this is no request of HTTP/1.1"))?;
    let Some((used, request)) = parsed else {
        if bytes.len() >= UPGRADE_BYTES_MAX {
            let why = "the request is too long";
            return Err(refused("431 Request Header Fields Too Large", why));
        }
        return Ok(None);
    };
    if request.uri().path() != policy.path {
        return Err(refused("404 Not Found", "MQTT is served on another path"));
    }
    let headers = request.headers();
    if let Some(why) = stranger(headers, policy) {
        return Err(refused("403 Forbidden", why));
    }
    let version = headers.get("Sec-WebSocket-Version");
    if version.is_some_and(|version| version != "13") {
        let mut refused = refused("426 Upgrade Required", "version 13 of WebSocket is served");
        let at = refused.response.len() - 2;
        refused
            .response
            .splice(at..at, *b"Sec-WebSocket-Version: 13\r\n");
        return Err(refused);
    }
    let response = create_response(&request)
        .map_err(|_| refused("400 Bad Request", "this asks for no upgrade to WebSocket"))?;
    let Some(subprotocol) = subprotocol(headers) else {
        let why = "the client must offer the subprotocol mqtt";
        return Err(refused("400 Bad Request", why));
    };
    let mut text = String::from("HTTP/1.1 101 Switching Protocols\r\n");
    for (name, value) in response.headers() {
        let value = value.to_str().unwrap_or_default();
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(text, "Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n");
    Ok(Some(Accepted {
        used,
        response: text.into_bytes(),
    }))
}

/// The request by which a client asks; `key` is 16 random bytes in Base64.
pub fn request(host: &str, path: &str, key: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    .into_bytes()
}

/// Reads the answer to [`request`] with that key: its length. `None`: it is not whole.
///
/// # Errors
/// The server does not switch, in words for a person.
pub fn answer(bytes: &[u8], key: &str) -> Result<Option<usize>, String> {
    let window = &bytes[..bytes.len().min(UPGRADE_BYTES_MAX)];
    let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
        if bytes.len() >= UPGRADE_BYTES_MAX {
            return Err("the server's answer has no end".to_owned());
        }
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&window[..end]);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(format!("the server does not switch to WebSocket: {status}"));
    }
    let expected = derive_accept_key(key.as_bytes());
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let accepted = fields.any(|(name, value)| {
        name.eq_ignore_ascii_case("Sec-WebSocket-Accept") && value.trim() == expected
    });
    if !accepted {
        return Err("the server's answer belongs to another request".to_owned());
    }
    Ok(Some(end + 4))
}

fn refused(status: &str, why: &'static str) -> Refused {
    let response = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        why.len() + 1
    );
    let mut refused = Refused {
        response: response.into_bytes(),
        why,
    };
    refused.response.extend_from_slice(why.as_bytes());
    refused.response.push(b'\n');
    refused
}

/// The first subprotocol of ours that the client offers.
fn subprotocol(headers: &HeaderMap) -> Option<&'static str> {
    let offers: Vec<&str> = headers
        .get_all("Sec-WebSocket-Protocol")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    SUBPROTOCOLS
        .into_iter()
        .find(|ours| offers.iter().any(|offer| offer.eq_ignore_ascii_case(ours)))
}

/// Why a page of that origin may not connect, if so.
fn stranger(headers: &HeaderMap, policy: &Policy) -> Option<&'static str> {
    let text = |name| {
        let value: Option<&str> = headers.get(name)?.to_str().ok();
        value
    };
    let asked = text("Host").unwrap_or_default();
    let origin = headers.get("Origin")?;
    let origin = origin.to_str().unwrap_or_default();
    let listed = |known: &String| known == "*" || known.eq_ignore_ascii_case(origin);
    if policy.origins.iter().any(listed) {
        return None;
    }
    let page = origin.split_once("://").map_or("", |(_, rest)| rest);
    if policy.local && !loopback(host(asked)) {
        return Some("this listener answers web pages under a loopback name only");
    }
    let same = host(page).eq_ignore_ascii_case(host(asked));
    let both_local = policy.local && loopback(host(page));
    (page.is_empty() || !(same || both_local)).then_some(
        "pages of this origin may not connect; the listener's `origins` names those that may",
    )
}

/// The host of `host` or `host:port`, without brackets.
fn host(text: &str) -> &str {
    match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => text.split(':').next().unwrap_or(text),
    }
}

fn loopback(host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> Policy {
        Policy {
            path: "/mqtt".to_owned(),
            origins: Vec::new(),
            local: true,
        }
    }

    /// A good request with more lines.
    fn asking(path: &str, more: &str) -> Vec<u8> {
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:8083\r\nUpgrade: WebSocket\r\n\
             Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n{more}\r\n"
        )
        .into_bytes()
    }

    fn status(refused: &Refused) -> String {
        String::from_utf8_lossy(&refused.response[9..12]).into_owned()
    }

    #[test]
    fn a_good_request_is_accepted_whole_and_not_before() {
        let request = asking(
            "/mqtt?x=1",
            "Sec-WebSocket-Protocol: other, mqttv3.1, mqtt\r\n",
        );
        for cut in 0..request.len() {
            assert_eq!(accept(&request[..cut], &policy()), Ok(None), "cut at {cut}");
        }
        let mut bytes = request.clone();
        bytes.extend_from_slice(b"\x82\x80");
        let accepted = accept(&bytes, &policy()).unwrap().unwrap();
        assert_eq!(accepted.used, request.len());
        let text = String::from_utf8(accepted.response.clone()).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        assert!(text.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{text}");
        // RFC 6455, 1.3.
        assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(answer(&accepted.response, key), Ok(Some(text.len())));
        assert!(answer(&accepted.response, "another").is_err());
        assert_eq!(answer(&accepted.response[..text.len() - 1], key), Ok(None));
        let old = asking("/mqtt", "Sec-WebSocket-Protocol: mqttv3.1\r\n");
        let accepted = accept(&old, &policy()).unwrap().unwrap();
        let text = String::from_utf8(accepted.response).unwrap();
        assert!(
            text.contains("Sec-WebSocket-Protocol: mqttv3.1\r\n"),
            "{text}"
        );
    }

    #[test]
    fn our_own_request_is_accepted() {
        let request = request("127.0.0.1:8083", "/mqtt", "dGhlIHNhbXBsZSBub25jZQ==");
        let accepted = accept(&request, &policy()).unwrap().unwrap();
        assert_eq!(accepted.used, request.len());
    }

    #[test]
    fn what_is_not_served_is_told_why() {
        let told = |request: &[u8]| status(&accept(request, &policy()).unwrap_err());
        let mqtt = "Sec-WebSocket-Protocol: mqtt\r\n";
        assert_eq!(told(&asking("/other", mqtt)), "404");
        assert_eq!(told(&asking("/mqtt", "")), "400");
        assert_eq!(
            told(&asking("/mqtt", "Sec-WebSocket-Protocol: soap\r\n")),
            "400"
        );
        assert_eq!(told(b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02ab"), "400");
        assert_eq!(
            told(b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "400"
        );
        let text = String::from_utf8(asking("/mqtt", mqtt)).unwrap();
        assert_eq!(told(text.replace(": 13", ": 8").as_bytes()), "426");
        assert_eq!(told(text.replace("GET", "POST").as_bytes()), "400");
        assert_eq!(told(text.replace("dGhlIHNh", "").as_bytes()), "400");
        let long = asking(
            "/mqtt",
            &format!("X: {}\r\n", "x".repeat(UPGRADE_BYTES_MAX)),
        );
        assert_eq!(told(&long), "431");
        let many = asking("/mqtt", &"X: y\r\n".repeat(200));
        assert_eq!(told(&many), "400");
    }

    #[test]
    fn pages_of_elsewhere_do_not_come_in() {
        let asked = |policy: &Policy, host: &str, origin: &str| {
            let more = format!("Sec-WebSocket-Protocol: mqtt\r\nOrigin: {origin}\r\n");
            let request = String::from_utf8(asking("/mqtt", &more)).unwrap();
            let request = request.replace("Host: localhost:8083", &format!("Host: {host}"));
            accept(request.as_bytes(), policy).is_ok()
        };
        let local = policy();
        assert!(asked(&local, "127.0.0.1:8083", "http://127.0.0.1:18083"));
        assert!(asked(&local, "127.0.0.1:8083", "http://localhost:18083"));
        assert!(asked(&local, "[::1]:8083", "http://[::1]:18083"));
        assert!(!asked(&local, "127.0.0.1:8083", "https://evil.example"));
        assert!(!asked(&local, "evil.example:8083", "http://evil.example"));
        assert!(!asked(&local, "127.0.0.1:8083", "null"));
        let open = Policy {
            origins: vec!["https://app.example".to_owned()],
            local: false,
            ..policy()
        };
        assert!(asked(&open, "node.example", "https://app.example"));
        assert!(asked(&open, "node.example:8083", "http://node.example"));
        assert!(!asked(&open, "node.example:8083", "http://localhost"));
        let any = Policy {
            origins: vec!["*".to_owned()],
            ..policy()
        };
        assert!(asked(&any, "node.example:8083", "null"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..250, bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut request = asking("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n");
            let at = at.min(request.len());
            request.splice(at..at, bytes);
            if let Ok(Some(accepted)) = accept(&request, &policy()) {
                prop_assert!(accepted.used <= request.len());
            }
            let _ = answer(&request, "key");
        }
    }
}
