//! Tests of the console's pages, files and headers, without a browser and without a node.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderValue, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{assets, headers, pages};

#[test]
fn every_page_renders_with_its_own_script() {
    for page in pages::all() {
        let html = pages::render(page).unwrap();
        let script = format!("src=\"/assets/js/{}.js\"", page.name);
        assert!(html.contains(&script), "{}: {script}", page.path);
        assert!(
            html.contains("aria-current=\"page\""),
            "{}: the menu does not show it",
            page.path
        );
        let own = format!("js/{}.js", page.name);
        assert!(assets::names().contains(&own), "{own} is not embedded");
    }
}

#[test]
fn nothing_in_a_page_is_inline_or_elsewhere() {
    for page in pages::all() {
        let html = pages::render(page).unwrap();
        for bad in [
            "<style",
            " style=",
            " onclick=",
            " onload=",
            "javascript:",
            "http://",
            "https://",
            "\"//",
        ] {
            assert!(!html.contains(bad), "{}: {bad}", page.path);
        }
        for script in html.split("<script").skip(1) {
            let tag = script.split('>').next().unwrap();
            assert!(tag.contains("src=\"/assets/"), "{}: {tag}", page.path);
        }
    }
}

/// What a device sent reaches a page only as text.
#[test]
fn no_script_of_ours_makes_markup_from_text() {
    let ours = |name: &String| name.starts_with("js/");
    let scripts: Vec<String> = assets::names().into_iter().filter(ours).collect();
    assert!(scripts.len() > 10, "{scripts:?}");
    for name in scripts {
        let path = format!("{}/console/assets/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for bad in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "eval(",
            "new Function",
        ] {
            assert!(!text.contains(bad), "{name}: {bad}");
        }
    }
}

#[test]
fn the_policy_names_the_host_of_the_page_only() {
    let policy = |host: &'static str| {
        let mut asked = HeaderMap::new();
        asked.insert(header::HOST, HeaderValue::from_static(host));
        let mut answer = HeaderMap::new();
        headers::secure(&mut answer, &asked);
        let policy = answer.get(header::CONTENT_SECURITY_POLICY).unwrap();
        policy.to_str().unwrap().to_owned()
    };
    let local = policy("127.0.0.1:18083");
    assert!(local.contains("connect-src 'self' ws://127.0.0.1:* wss://127.0.0.1:*;"));
    assert!(local.contains("script-src 'self';"));
    assert!(local.contains("frame-ancestors 'none'"));
    assert!(!local.contains("unsafe"));
    assert!(policy("a;script-src *").contains("connect-src 'self';"));
    assert!(policy("[::1]:18083").contains("connect-src 'self' ws: wss:;"));
}

/// The head of the answer to a request over a connection of its own.
async fn ask(address: SocketAddr, path: &str, more: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split("\r\n\r\n").next().unwrap().to_owned()
}

#[tokio::test]
async fn files_are_answered_with_a_validator_and_pages_with_their_headers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move { axum::serve(listener, super::router()).await });
    let style = ask(address, "/assets/console.css", "").await;
    assert!(style.starts_with("HTTP/1.1 200"), "{style}");
    let tag = style.lines().find_map(|line| line.strip_prefix("etag: "));
    let known = format!("If-None-Match: {}\r\n", tag.unwrap());
    let again = ask(address, "/assets/console.css", &known).await;
    assert!(again.starts_with("HTTP/1.1 304"), "{again}");
    for path in ["/assets/none.js", "/assets/../mod.rs", "/assets/"] {
        let none = ask(address, path, "").await;
        assert!(none.starts_with("HTTP/1.1 404"), "{path}: {none}");
    }
    let page = ask(address, "/streams", "").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for name in [
        "content-security-policy",
        "x-content-type-options: nosniff",
        "x-frame-options",
        "referrer-policy",
    ] {
        assert!(page.contains(name), "{name}: {page}");
    }
    served.abort();
}
