//! Doorways against connections in memory: headers in pieces, rates, and how many may come.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::settings::{ListenerKind, Network};

fn doorway(change: impl FnOnce(&mut ListenerSettings)) -> Arc<Doorway> {
    let bind = "127.0.0.1:0".parse().unwrap();
    let mut settings = ListenerSettings::plain(ListenerKind::Kafka, bind, String::new());
    change(&mut settings);
    Doorway::new(&settings, "127.0.0.1:9092".parse().unwrap())
}

fn peer() -> SocketAddr {
    "127.0.0.1:5".parse().unwrap()
}

#[tokio::test]
async fn a_header_is_read_in_any_pieces_and_nothing_behind_it() {
    let proxied = doorway(|it| it.proxy = Some(Vec::new()));
    let v1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 1883\r\n".to_vec();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend_from_slice(&[203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 0x04, 7, 0x5b]);
    for (header, size) in [
        (&v1, 1),
        (&v1, 7),
        (&v1, 100),
        (&v2, 1),
        (&v2, 5),
        (&v2, 100),
    ] {
        let (mut near, mut far) = tokio::io::duplex(size);
        let mut bytes = header.clone();
        bytes.extend_from_slice(b"TLS");
        let sent = tokio::spawn(async move { far.write_all(&bytes).await });
        let from = proxied.source(&mut near, peer()).await;
        assert_eq!(
            from,
            Some("203.0.113.7:56324".parse().unwrap()),
            "by {size}"
        );
        let mut rest = [0; 3];
        near.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"TLS");
        sent.await.unwrap().unwrap();
    }
    for bad in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROX",
    ] {
        let (mut near, mut far) = tokio::io::duplex(100);
        far.write_all(bad).await.unwrap();
        drop(far);
        assert_eq!(proxied.source(&mut near, peer()).await, None, "{bad:?}");
    }
    assert_eq!(proxied.counters.refused_proxy.get(), 3);
    // Who is no trusted proxy is who it is.
    let elsewhere = Network::parse("192.0.2.0/24").unwrap();
    let stranger = doorway(|it| it.proxy = Some(vec![elsewhere]));
    let (mut near, _far) = tokio::io::duplex(100);
    assert_eq!(stranger.source(&mut near, peer()).await, Some(peer()));
    assert!(!proxied.is_local() && doorway(|_| {}).is_local());
}

#[tokio::test]
async fn so_many_come_in_and_no_faster() {
    let small = doorway(|it| it.connections_max = Some(2));
    let (first, second) = (
        small.accepted(&std::io::stderr()).await,
        small.accepted(&std::io::stderr()).await,
    );
    assert!(
        first.is_some() && second.is_some() && small.accepted(&std::io::stderr()).await.is_none()
    );
    drop(first);
    assert!(small.accepted(&std::io::stderr()).await.is_some());
    assert_eq!(small.row().counts.refused_full, 1);
    assert_eq!(small.row().counts.accepted, 4);
    drop(second);
    assert_eq!(small.row().counts.open, 0);
    let slow = doorway(|it| it.connections_per_s = Some(20));
    let begun = Instant::now();
    for _ in 0..30 {
        slow.accepted(&std::io::stderr()).await.unwrap();
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
    assert!(slow.row().counts.accept_waits > 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_over_its_rate_is_read_more_slowly() {
    let narrow = doorway(|it| it.bytes_in_per_s = Some(10_000));
    let (near, mut far) = tokio::io::duplex(4_096);
    let mut paced = Paced::new(near, narrow.pace());
    let sent = tokio::spawn(async move { far.write_all(&vec![7; 50_000]).await });
    let begun = tokio::time::Instant::now();
    let mut got = vec![0; 50_000];
    paced.read_exact(&mut got).await.unwrap();
    sent.await.unwrap().unwrap();
    let took = begun.elapsed().as_secs();
    assert!(
        (3..=5).contains(&took),
        "10,000 at once, 40,000 in four seconds: {took}"
    );
    assert!(narrow.row().counts.rate_waits > 2);
    assert!(doorway(|_| {}).pace().is_none());
}
