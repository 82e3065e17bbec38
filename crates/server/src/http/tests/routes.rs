//! What each path answers: rows, pages, problems, the document, events.

use super::super::*;
use super::{Server, meant};
use crate::http::list::Page;
use crate::http::problem::Problem;
use crate::http::view::{ClientRow, HookRow, StreamRow};

#[tokio::test]
async fn each_route_answers_with_its_json() {
    let server = Server::start().await;
    let (code, kind, body) = server.ask("GET", "/api/v1/status").await;
    assert_eq!((code, kind.as_str()), (200, "application/json"));
    assert_eq!(
        serde_json::from_str::<Status>(&body).unwrap().connections,
        3
    );
    let (_, _, body) = server.ask("GET", "/api/v1/streams").await;
    assert_eq!(
        serde_json::from_str::<Page<StreamRow>>(&body)
            .unwrap()
            .items[0]
            .partitions[0]
            .end,
        4
    );
    let (_, _, body) = server.ask("GET", "/api/v1/hooks").await;
    assert_eq!(
        serde_json::from_str::<Page<HookRow>>(&body).unwrap().items[0].event,
        "message.publish"
    );
    let (code, kind, body) = server.ask("GET", "/metrics").await;
    assert_eq!(
        (code, kind.as_str(), body.as_str()),
        (200, METRICS_TYPE, "# EOF\n")
    );
}

#[tokio::test]
async fn clients_come_in_pages_of_bounded_size() {
    let server = Server::start().await;
    let mut found = Vec::new();
    let mut path = "/api/v1/clients?limit=1000000".to_owned();
    loop {
        let (_, _, body) = server.ask("GET", &path).await;
        let page: Page<ClientRow> = serde_json::from_str(&body).unwrap();
        assert!(page.items.len() <= 2, "page_rows_max is 2");
        found.extend(page.items.into_iter().map(|client| client.client_id));
        let Some(next) = page.next else { break };
        path = format!("/api/v1/clients?cursor={next}");
    }
    assert_eq!(found, ["a", "b", "c"]);
}

#[tokio::test]
async fn mistakes_are_problem_documents() {
    let server = Server::start().await;
    for (method, path, expected, told) in [
        ("GET", "/api/v1/nothing", 404, "/api/v1/nothing"),
        ("POST", "/api/v1/status", 405, "method"),
        ("GET", "/api/v1/clients?limit=0", 400, "1 to 2"),
        ("GET", "/api/v1/clients?limit=x", 400, "limit"),
        ("GET", "/api/v1/clients?colour=blue", 400, "colour"),
    ] {
        let (code, kind, body) = server.ask(method, path).await;
        assert_eq!(
            (code, kind.as_str()),
            (expected, "application/problem+json"),
            "{path}"
        );
        let problem: Problem = serde_json::from_str(&body).unwrap();
        assert!(problem.detail.contains(told), "{path}: {body}");
        assert!(
            body.contains("\"type\":\"about:blank\"")
                && body.contains(&format!("\"status\":{expected}"))
        );
    }
}

#[tokio::test]
async fn names_in_paths_may_have_any_characters() {
    let server = Server::start().await;
    let kicked = server
        .send("DELETE", "/api/v1/clients/a%2Fb%20c", &meant(""))
        .await;
    assert_eq!(kicked.0, 204);
    let found = server.ask("GET", "/api/v1/retained/devices/1/state").await;
    assert_eq!(found.0, 200);
    let found = server
        .ask("GET", "/api/v1/retained/devices%2F1%2Fstate")
        .await;
    assert_eq!(found.0, 200);
}

#[tokio::test]
async fn a_name_that_is_no_text_is_a_problem() {
    let server = Server::start().await;
    let (code, kind, _) = server.ask("GET", "/api/v1/clients/%ff").await;
    assert_eq!((code, kind.as_str()), (400, "application/problem+json"));
}

#[tokio::test]
async fn streams_of_events_are_bounded_and_end_with_the_node() {
    let server = Server::start().await;
    let (address, request) = (
        server.address,
        "GET /api/v1/log/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    let open = || async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        (String::from_utf8_lossy(&head[9..]).into_owned(), stream)
    };
    let mut streams = Vec::new();
    for _ in 0..limits::EVENT_STREAMS_MAX {
        let (code, stream) = open().await;
        assert_eq!(code, "200");
        streams.push(stream);
    }
    assert_eq!(open().await.0, "503");
    drop(streams.pop());
    // The place is free once the server has seen that the subscriber is gone.
    while open().await.0 != "200" {
        tokio::task::yield_now().await;
    }
    server.stop.send_replace(true);
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_document_describes_the_routes_there_are_and_no_others() {
    let server = Server::start().await;
    let (_, stopped) = watch::channel(false);
    let api = Api::new(Arc::clone(&server.view) as Arc<dyn NodeView>, 2, stopped);
    let real: std::collections::BTreeSet<(String, String)> = table(&api)
        .into_iter()
        .map(|(method, path, _)| (method.as_str().to_lowercase(), path.replace('*', "")))
        .collect();
    let (code, _, body) = server.ask("GET", "/api/v1/openapi.json").await;
    assert_eq!(code, 200);
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut described = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            described.insert((method.clone(), path.clone()));
            assert!(
                operation["responses"]
                    .as_object()
                    .is_some_and(|it| !it.is_empty())
            );
            let named = operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for name in path.split(['{', '}']).skip(1).step_by(2) {
                assert!(
                    named.iter().any(|it| it["name"] == name),
                    "{method} {path}: {name}"
                );
            }
        }
    }
    assert_eq!(described, real);
}

#[tokio::test]
async fn whatever_can_be_long_comes_in_pages() {
    /// An hour in steps of ten seconds, and a level for each of a hundred modules.
    const WHOLE: [&str; 2] = ["/api/v1/metrics/history", "/api/v1/log/level"];
    let server = Server::start().await;
    let (_, _, body) = server.ask("GET", "/api/v1/openapi.json").await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut paged = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let operation = &item["get"];
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let is_page = schema["$ref"]
            .as_str()
            .is_some_and(|it| it.contains("/Page_"));
        if WHOLE.contains(&path.as_str()) || !(is_page || schema["type"] == "array") {
            continue;
        }
        let parameters = operation["parameters"].as_array().unwrap();
        for name in ["limit", "cursor"] {
            assert!(
                parameters.iter().any(|it| it["name"] == name),
                "{path}: {name}"
            );
        }
        // Records are read of a log, which is not there.
        if !path.contains('{') && path != "/api/v1/audit" {
            let (code, _, body) = server.ask("GET", &format!("{path}?limit=0")).await;
            assert_eq!(code, 400, "{path}: {body}");
            paged += 1;
        }
    }
    assert!(paged >= 12, "{paged} lists");
}

#[tokio::test]
async fn health_turns_with_the_node() {
    let server = Server::start().await;
    assert_eq!(server.ask("GET", "/healthz").await.0, 200);
    *server.view.trouble.lock().unwrap() = Some("journal/0: write failed".to_owned());
    let (code, _, body) = server.ask("GET", "/healthz").await;
    assert_eq!(code, 503);
    assert!(body.contains("journal/0"), "{body}");
}

#[tokio::test]
async fn serving_ends_when_it_is_told_to() {
    let server = Server::start().await;
    server.stop.send_replace(true);
    server.task.await.unwrap().unwrap();
}
