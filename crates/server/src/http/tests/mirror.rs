//! The mirror's switch over a node that is only said to exist.

use super::super::*;
use super::{Server, meant};
use crate::auth::Role;
use crate::mirror::view::MirrorView;

async fn state(server: &Server, token: &str) -> String {
    let sent = format!("Authorization: Bearer {token}\r\n\r\n");
    let (code, _, body) = server.send("GET", "/api/v1/mirror", &sent).await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_str::<MirrorView>(&body).unwrap().state
}

#[tokio::test]
async fn an_operator_switches_the_mirror_and_it_is_written_down() {
    let server = Server::behind(Door { local: false }).await;
    let tokens = &server.view.tokens;
    let (_, watcher) = tokens.add("watcher", Role::Viewer, None).await.unwrap();
    let (_, crew) = tokens.add("crew", Role::Operator, None).await.unwrap();
    let turn = async |verb: &str, token: &str| {
        let sent = format!("Authorization: Bearer {token}\r\n{}", meant(""));
        let path = format!("/api/v1/mirror/{verb}");
        server.send("POST", &path, &sent).await
    };
    assert_eq!(turn("disable", &watcher).await.0, 403);
    assert_eq!(state(&server, &watcher).await, "connected");
    assert_eq!(turn("disable", &crew).await.0, 204);
    assert_eq!(state(&server, &watcher).await, "paused");
    // Twice is no mistake.
    assert_eq!(turn("disable", &crew).await.0, 204);
    assert_eq!(turn("enable", &watcher).await.0, 403);
    assert_eq!(state(&server, &watcher).await, "paused");
    assert_eq!(turn("enable", &crew).await.0, 204);
    assert_eq!(state(&server, &watcher).await, "connected");
    *server.view.mirror.lock().unwrap() = None;
    let (code, kind, body) = turn("disable", &crew).await;
    assert_eq!((code, kind.as_str()), (404, "application/problem+json"));
    assert!(body.contains("no table [mirror]"), "{body}");
    let rows = server.view.audited.lock().unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.by.as_str(), row.path.as_str(), row.status))
        .filter(|(.., status)| *status != 403)
        .collect();
    let (off, on) = ("/api/v1/mirror/disable", "/api/v1/mirror/enable");
    let expected = [(off, 204), (off, 204), (on, 204), (off, 404)];
    assert_eq!(told, expected.map(|(path, status)| ("crew", path, status)));
}
