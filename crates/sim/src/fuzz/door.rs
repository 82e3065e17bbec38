//! What stands before MQTT: PROXY headers, requests for WebSocket, and its frames. How the bytes are
//! cut into pieces must change nothing, and what one end writes the other must read.

use ::door::{Policy, Role, WebSocket, proxy, upgrade};

use super::Target;

pub(super) const PROXY: Target = Target {
    name: "proxy",
    seeds: proxy_seeds,
    run: run_proxy,
};

pub(super) const UPGRADE: Target = Target {
    name: "upgrade",
    seeds: upgrade_seeds,
    run: run_upgrade,
};

pub(super) const WEBSOCKET: Target = Target {
    name: "websocket",
    seeds: websocket_seeds,
    run: run_websocket,
};

fn run_proxy(input: &[u8]) {
    let whole = proxy::parse(input);
    if let Ok(Some((_, used))) = whole {
        assert!(used <= input.len());
        assert_eq!(proxy::parse(&input[..used]), whole, "what follows counts");
        assert_ne!(proxy::parse(&input[..used - 1]), whole, "its end does not");
    }
    // Once refused, it stays refused whatever follows.
    for cut in 0..input.len().min(300) {
        if proxy::parse(&input[..cut]).is_err() {
            assert!(whole.is_err(), "refused at {cut} and then taken");
        }
    }
}

fn run_upgrade(input: &[u8]) {
    let policy = Policy {
        path: "/mqtt".to_owned(),
        origins: vec!["https://app.example".to_owned()],
        local: input.len().is_multiple_of(2),
    };
    match upgrade::accept(input, &policy) {
        Ok(Some(accepted)) => {
            assert!(accepted.used <= input.len());
            assert!(accepted.response.starts_with(b"HTTP/1.1 101 "));
            assert!(accepted.response.ends_with(b"\r\n\r\n"));
        }
        Ok(None) => assert!(input.len() < ::door::limits::UPGRADE_BYTES_MAX),
        Err(refused) => assert!(refused.response.starts_with(b"HTTP/1.1 4")),
    }
    let _ = upgrade::answer(input, "dGhlIHNhbXBsZSBub25jZQ==");
}

/// The first byte says in which pieces the rest comes.
fn run_websocket(input: &[u8]) {
    let Some((&first, bytes)) = input.split_first() else {
        return;
    };
    for role in [Role::Server, Role::Client] {
        let whole = read(role, bytes, bytes.len());
        assert!(whole.0.len() <= bytes.len(), "payload out of nothing");
        assert_eq!(read(role, bytes, 1 + usize::from(first)), whole);
        // What is understood can be said again.
        let (from, to) = match role {
            Role::Server => (Role::Client, Role::Server),
            Role::Client => (Role::Server, Role::Client),
        };
        let mut wire = Vec::new();
        WebSocket::new(from).encode(&whole.0, [first; 4], &mut wire);
        let again = read(to, &wire, 1 + usize::from(first));
        assert_eq!(again, (whole.0, Vec::new(), None));
    }
}

fn read(role: Role, bytes: &[u8], size: usize) -> (Vec<u8>, Vec<u8>, Option<::door::End>) {
    let mut socket = WebSocket::new(role);
    let (mut payload, mut replies, mut end) = (Vec::new(), Vec::new(), None);
    for piece in bytes.chunks(size.max(1)) {
        let mut piece = piece.to_vec();
        let decoded = socket.decode(&mut piece, &mut replies);
        payload.extend_from_slice(&piece[..decoded.len]);
        end = end.or(decoded.end);
    }
    (payload, replies, end)
}

fn proxy_seeds() -> Vec<Vec<u8>> {
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend_from_slice(&[203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 4, 7, 0x5b]);
    second.extend_from_slice(b"\x10\x0e\0\x04MQTT");
    let mut sixth = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    sixth.extend_from_slice(&[7; 36]);
    vec![
        b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 1883\r\n\x10\x0e".to_vec(),
        b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
        second,
        sixth,
    ]
}

fn upgrade_seeds() -> Vec<Vec<u8>> {
    let mut seed = upgrade::request("127.0.0.1:8083", "/mqtt", "dGhlIHNhbXBsZSBub25jZQ==");
    let plain = seed.clone();
    seed.truncate(seed.len() - 2);
    seed.extend_from_slice(b"Origin: http://localhost:18083\r\nX: y\r\n\r\n\x82\x80\0\0\0\0");
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    vec![plain, seed, answer.to_vec()]
}

fn websocket_seeds() -> Vec<Vec<u8>> {
    let mut frames = vec![2];
    let client = WebSocket::new(Role::Client);
    client.encode(
        b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02ab",
        [1, 2, 3, 4],
        &mut frames,
    );
    client.encode(&[0x30; 300], [9; 4], &mut frames);
    let mut server = vec![7];
    WebSocket::new(Role::Server).encode(&vec![0x30; 70_000], [0; 4], &mut server);
    let mut control = vec![0];
    control.extend_from_slice(b"\x02\x81\0\0\0\0a\x89\x82\x01\x02\x03\x04hi\x80\x81\0\0\0\0b");
    control.extend_from_slice(b"\x88\x82\0\0\0\0\x03\xe8");
    server.truncate(400);
    vec![frames, server, control]
}
