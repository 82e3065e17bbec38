//! Peers that are slow, large, or gone: what they may hold, and for how long. The clock is tokio's,
//! stopped, and the connection a pipe in memory, so that no test waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::limits::{
    ANSWER_WAIT, BODIES_BYTES_MAX, BODY_BYTES_MAX, BODY_SMALL_BYTES, BODY_WAIT, EVENTS_JUDGED,
    HEAD_WAIT, PUBLISH_BODY_BYTES_MAX, ROOM_WAIT, WRITE_WAIT,
};
use super::super::{Shared, converse};
use super::{Api, Door, NodeView, Told, router};

/// A node of its own, which ends with its sender of `true`.
fn node() -> (Shared, Arc<Told>, watch::Sender<bool>) {
    let (stop, stopped) = watch::channel(false);
    let view = Arc::new(Told::default());
    let api = Api::new(Arc::clone(&view) as Arc<dyn NodeView>, 2, stopped);
    (api, view, stop)
}

/// A connection to a node.
fn dial(api: &Shared) -> DuplexStream {
    let (ours, theirs) = duplex(1024);
    let peer = "127.0.0.1:4711".parse().unwrap();
    let router = router(api, Door { local: true });
    tokio::spawn(converse(theirs, peer, router, api.stop.clone()));
    ours
}

/// A connection to a node of its own.
fn connect() -> (DuplexStream, Arc<Told>, watch::Sender<bool>) {
    let (api, view, stop) = node();
    (dial(&api), view, stop)
}

/// All that comes until the connection ends.
async fn rest(stream: &mut DuplexStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_letter_by_letter_has_its_time() {
    for said in [
        "",
        "G",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    ] {
        let (mut stream, _view, _stop) = connect();
        let start = Instant::now();
        stream.write_all(said.as_bytes()).await.unwrap();
        // A letter a second does not buy more of it.
        let (mut from, mut to) = tokio::io::split(stream);
        let trickle = tokio::spawn(async move {
            while !said.is_empty() && to.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let mut answer = Vec::new();
        from.read_to_end(&mut answer).await.unwrap();
        let waited = start.elapsed();
        assert!(
            waited <= HEAD_WAIT + Duration::from_secs(2),
            "{said:?}: {waited:?}"
        );
        assert!(
            !String::from_utf8_lossy(&answer).contains(" 200 "),
            "{said:?}"
        );
        trickle.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_letter_by_letter_is_answered_when_its_time_is_over() {
    let (mut stream, view, _stop) = connect();
    let start = Instant::now();
    let head = "POST /api/v1/bans HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut from, mut to) = tokio::io::split(stream);
    let trickle = tokio::spawn(async move {
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut answer = Vec::new();
    from.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert!(start.elapsed() >= BODY_WAIT && start.elapsed() < 2 * BODY_WAIT);
    trickle.abort();
    let audited = view.audited.lock().unwrap();
    assert_eq!((audited.len(), audited[0].status), (1, 408));
}

#[tokio::test(start_paused = true)]
async fn a_body_too_large_is_refused_whether_it_says_so_or_not() {
    let (mut stream, _view, _stop) = connect();
    let said = format!(
        "POST /api/v1/bans HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        BODY_BYTES_MAX + 1
    );
    stream.write_all(said.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let (stream, _view, _stop) = connect();
    let (mut from, mut to) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        let head = "POST /api/v1/bans HTTP/1.1\r\nHost: localhost\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        to.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("400\r\n{}\r\n", " ".repeat(1024));
        for _ in 0..=BODY_BYTES_MAX / 1024 {
            if to.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let mut answer = Vec::new();
    from.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_no_answer_is_let_go() {
    let (mut stream, _view, _stop) = connect();
    let start = Instant::now();
    // The document is larger than the pipe; nobody reads it.
    let ask = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut gone = [0; 1];
    tokio::time::sleep(WRITE_WAIT + Duration::from_secs(1)).await;
    while stream.read(&mut gone).await.unwrap() > 0 {}
    assert!(start.elapsed() < WRITE_WAIT + Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn answers_are_counted_by_their_status() {
    let (mut stream, view, _stop) = connect();
    for (path, more) in [
        ("/healthz", ""),
        ("/nothing", ""),
        ("/healthz", ""),
        ("/metrics", "Connection: close\r\n"),
    ] {
        let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
    }
    rest(&mut stream).await;
    let http = view.http.lock().unwrap().clone();
    assert_eq!(
        http.answers.into_iter().collect::<Vec<_>>(),
        [(200, 2), (404, 1)]
    );
    assert_eq!((http.open, http.event_streams), (1, 0), "the one that asks");
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_token_is_taken_back_follows_no_longer() {
    let (mut stream, view, _stop) = connect();
    let made = view
        .tokens
        .add("watch", crate::auth::Role::Operator, None)
        .await;
    let (row, token) = made.unwrap();
    let ask = format!(
        "GET /api/v1/trace/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    tokio::time::sleep(3 * EVENTS_JUDGED).await;
    let start = Instant::now();
    view.tokens.delete(&row.id).await.unwrap();
    let ended = tokio::time::timeout(5 * EVENTS_JUDGED, rest(&mut stream)).await;
    assert!(ended.is_ok(), "it follows on");
    assert!(
        start.elapsed() <= 2 * EVENTS_JUDGED,
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_an_answer_drop_by_drop_is_let_go() {
    const ASK: &str = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (mut stream, _view, _stop) = connect();
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let whole = rest(&mut stream).await.len();
    let (mut stream, _view, _stop) = connect();
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let start = Instant::now();
    let mut drop_of_it = [0; 1];
    // Often enough for the patience with one write.
    while start.elapsed() < ANSWER_WAIT + WRITE_WAIT {
        assert_eq!(stream.read(&mut drop_of_it).await.unwrap(), 1);
        tokio::time::sleep(WRITE_WAIT / 2).await;
    }
    let left = rest(&mut stream).await.len();
    assert!(left < whole / 2, "{left} of {whole} bytes came after all");
}

#[tokio::test(start_paused = true)]
async fn large_bodies_wait_for_each_other_and_small_ones_for_nobody() {
    let head = |path: &str, bytes: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {bytes}\r\nConnection: close\r\n\r\n"
        )
    };
    let (api, _view, _stop) = node();
    let mut held = Vec::new();
    for _ in 0..BODIES_BYTES_MAX / PUBLISH_BODY_BYTES_MAX {
        let mut stream = dial(&api);
        let said = head("/api/v1/publish", PUBLISH_BODY_BYTES_MAX);
        stream.write_all(said.as_bytes()).await.unwrap();
        held.push(stream);
    }
    // All of them have been read as far as they came.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let mut late = dial(&api);
    let said = head("/api/v1/publish/batch", BODY_SMALL_BYTES + 1);
    late.write_all(said.as_bytes()).await.unwrap();
    let answer = rest(&mut late).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(start.elapsed() >= ROOM_WAIT && start.elapsed() < 2 * ROOM_WAIT);
    let start = Instant::now();
    let mut small = dial(&api);
    let body = "{\"topic\":\"a\"}";
    let said = head("/api/v1/publish", body.len()) + body;
    small.write_all(said.as_bytes()).await.unwrap();
    let answer = rest(&mut small).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(start.elapsed() < ROOM_WAIT);
    drop(held);
}
