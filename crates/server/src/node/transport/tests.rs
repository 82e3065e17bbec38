//! The layers against rustls's own client and the client's end of WebSocket, in memory: whatever the
//! pieces in which bytes come, and whatever strangers send.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use door::{Role, WebSocket};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig};

use super::wrapping::{Flow, Wrapping};

fn configs(version: ProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match version {
        ProtocolVersion::TLSv1_2 => &[&rustls::version::TLS12],
        _ => &[&rustls::version::TLS13],
    };
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// A server's layers with TLS, and a client that has shaken hands with them.
fn met(version: ProtocolVersion, size: usize) -> (Wrapping, ClientConnection) {
    let (server, client) = configs(version);
    let mut wrapping = Wrapping::default();
    wrapping.secure(server).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut plain = Vec::new();
    while wrapping.is_handshaking() || client.is_handshaking() {
        assert_eq!(
            said(&mut client, &mut wrapping, &mut plain, size),
            Flow::Open
        );
        hear(&mut client, &mut wrapping);
    }
    assert!(plain.is_empty());
    (wrapping, client)
}

/// What the client has to send comes to the server in pieces.
fn said(
    client: &mut ClientConnection,
    wrapping: &mut Wrapping,
    plain: &mut Vec<u8>,
    size: usize,
) -> Flow {
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    for piece in wire.chunks_mut(size) {
        let flow = wrapping.receive(piece, plain);
        if flow != Flow::Open {
            return flow;
        }
    }
    Flow::Open
}

/// What the server has to send comes to the client; answers what it says.
fn hear(client: &mut ClientConnection, wrapping: &mut Wrapping) -> Vec<u8> {
    let wire = wrapping.take_unsent();
    let (mut rest, mut heard) = (&wire[..], Vec::new());
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        client.process_new_packets().unwrap();
        let mut chunk = [0; 4096];
        while let Ok(n) = client.reader().read(&mut chunk) {
            if n == 0 {
                break;
            }
            heard.extend_from_slice(&chunk[..n]);
        }
    }
    heard
}

#[test]
fn tls_carries_bytes_whatever_the_pieces() {
    for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
        for size in [1, 7, 4096, 100_000] {
            let (mut wrapping, mut client) = met(version, size);
            let message: Vec<u8> = (0..50_000_u32).map(|n| n as u8).collect();
            client.writer().write_all(&message).unwrap();
            let mut plain = Vec::new();
            let flow = said(&mut client, &mut wrapping, &mut plain, size);
            assert_eq!(
                (flow, plain == message),
                (Flow::Open, true),
                "pieces of {size}"
            );
            wrapping.wrap(&message).unwrap();
            assert!(wrapping.is_blocked());
            assert_eq!(hear(&mut client, &mut wrapping), message);
        }
    }
}

#[test]
fn new_keys_are_taken_in_the_midst_of_records() {
    for size in [1, 3, 5_000] {
        let (mut wrapping, mut client) = met(ProtocolVersion::TLSv1_3, size);
        let mut plain = Vec::new();
        for _ in 0..3 {
            client.writer().write_all(b"before").unwrap();
            client.refresh_traffic_keys().unwrap();
            client.writer().write_all(b"behind").unwrap();
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            // In the middle of it the server writes too.
            let half = wire.len() / 2;
            for piece in wire[..half].chunks_mut(size) {
                assert_eq!(wrapping.receive(piece, &mut plain), Flow::Open);
            }
            wrapping.wrap(b"answer").unwrap();
            for piece in wire[half..].chunks_mut(size) {
                assert_eq!(wrapping.receive(piece, &mut plain), Flow::Open);
            }
            assert_eq!(hear(&mut client, &mut wrapping), b"answer");
            said(&mut client, &mut wrapping, &mut plain, size);
        }
        assert_eq!(plain, b"beforebehind".repeat(3));
    }
}

#[test]
fn a_good_bye_is_told_from_a_broken_record() {
    let (mut wrapping, mut client) = met(ProtocolVersion::TLSv1_3, 9);
    client.writer().write_all(b"last").unwrap();
    client.send_close_notify();
    let mut plain = Vec::new();
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    assert_eq!(wrapping.receive(&mut wire, &mut plain), Flow::Ended);
    assert_eq!(plain, b"last");
    wrapping.wrap(b"still heard").unwrap();
    wrapping.end();
    assert_eq!(hear(&mut client, &mut wrapping), b"still heard");

    let (mut wrapping, mut client) = met(ProtocolVersion::TLSv1_3, 9);
    client.writer().write_all(b"bent").unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    let last = wire.len() - 1;
    wire[last] ^= 1;
    let mut plain = Vec::new();
    assert!(matches!(
        wrapping.receive(&mut wire, &mut plain),
        Flow::Broken(_)
    ));
    assert!(plain.is_empty());
    assert!(wrapping.is_blocked(), "the alert is to be sent");
    // Nothing that is asked of it afterwards does harm.
    assert!(matches!(
        wrapping.receive(&mut [0; 40], &mut plain),
        Flow::Broken(_)
    ));
    assert_eq!(wrapping.wrap(b"late"), Err(()));
    wrapping.end();
}

#[test]
fn strangers_do_not_make_tls_panic() {
    let (server, _) = configs(ProtocolVersion::TLSv1_3);
    let starts: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\x0e\0\x04MQTT",
        b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
        b"\x16\x03\x01\0\x02\x01\0\x16\x03\x01\0\x01\xff",
        b"\x16\x03\x01\xff\xff\x01\0",
        b"\x15\x03\x03\0\x02\x02\x28",
    ];
    for start in starts {
        for size in [1, 2, 100] {
            let mut wrapping = Wrapping::default();
            wrapping.secure(Arc::clone(&server)).unwrap();
            let mut plain = Vec::new();
            for piece in start.to_vec().chunks_mut(size) {
                wrapping.receive(piece, &mut plain);
            }
            assert!(plain.is_empty());
            wrapping.end();
        }
    }
}

#[test]
fn frames_travel_within_tls() {
    let (mut wrapping, mut client) = met(ProtocolVersion::TLSv1_3, 100);
    wrapping.frame();
    let mut end = WebSocket::new(Role::Client);
    let mut frames = Vec::new();
    end.encode(b"\xc0\0", [1, 2, 3, 4], &mut frames);
    frames.extend_from_slice(b"\x89\x80\0\0\0\0");
    end.encode(&vec![7; 40_000], [9, 8, 7, 6], &mut frames);
    client.writer().write_all(&frames).unwrap();
    let mut plain = Vec::new();
    assert_eq!(
        said(&mut client, &mut wrapping, &mut plain, 1_000),
        Flow::Open
    );
    assert_eq!(plain, [b"\xc0\0".to_vec(), vec![7; 40_000]].concat());
    wrapping.wrap(b"\xd0\0").unwrap();
    wrapping.end();
    wrapping.end();
    let mut heard = hear(&mut client, &mut wrapping);
    assert_eq!(
        heard, b"\x8a\0\x82\x02\xd0\0\x88\x02\x03\xe8",
        "pong, frame, one Close"
    );
    let decoded = end.decode(&mut heard, &mut Vec::new());
    assert_eq!((decoded.len, decoded.end), (2, Some(door::End::Closed)));
}
