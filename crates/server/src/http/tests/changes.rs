//! What is changed over the API, and what is written down of it.

use super::super::*;
use super::{Server, meant};

#[tokio::test]
async fn every_change_is_written_down_and_no_password_is() {
    let server = Server::start().await;
    let joe = "{\"name\":\"joe\",\"password\":\"pencil\"}";
    server.send("POST", "/api/v1/users", &meant(joe)).await;
    server.ask("GET", "/api/v1/status").await;
    let ci = server.as_admin(&meant("{\"name\":\"ci\",\"role\":\"operator\"}"));
    server.send("POST", "/api/v1/tokens", &ci).await;
    server
        .send(
            "DELETE",
            "/api/v1/clients/nobody",
            &server.as_admin(&meant("")),
        )
        .await;
    let rows = std::mem::take(&mut *server.view.audited.lock().unwrap());
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.by.as_str(),
                row.method.as_str(),
                row.path.as_str(),
                row.status,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("loopback", "POST", "/api/v1/users", 201),
            ("local", "POST", "/api/v1/tokens", 201),
            ("local", "DELETE", "/api/v1/clients/nobody", 404),
        ]
    );
    assert_eq!(rows[0].what.as_deref(), Some("user joe"));
    assert!(rows[1].what.as_ref().unwrap().contains("operator"));
    assert!(rows[0].peer.as_ref().unwrap().starts_with("127.0.0.1:"));
    assert!(!serde_json::to_string(&rows).unwrap().contains("pencil"));
}

#[tokio::test]
async fn messages_are_published_alone_and_together() {
    let server = Server::start().await;
    let one = meant("{\"topic\":\"a/b\",\"payload\":\"x\",\"qos\":1}");
    let (code, _, body) = server.send("POST", "/api/v1/publish", &one).await;
    assert_eq!(
        (code, body.contains("\"published\":true")),
        (200, true),
        "{body}"
    );
    let denied = meant("{\"topic\":\"denied\"}");
    assert_eq!(server.send("POST", "/api/v1/publish", &denied).await.0, 403);
    for wrong in [
        "{\"topic\":\"a/#\"}",
        "{\"topic\":\"a\",\"qos\":3}",
        "{\"topic\":\"a\",\"payload\":\"x\",\"payload_base64\":\"eA==\"}",
        "{\"topic\":\"a\",\"payload_base64\":\"?\"}",
        "{\"topic\":\"a\",\"colour\":1}",
    ] {
        let (code, kind, _) = server.send("POST", "/api/v1/publish", &meant(wrong)).await;
        assert_eq!(
            (code, kind.as_str()),
            (400, "application/problem+json"),
            "{wrong}"
        );
    }
    let both = meant("[{\"topic\":\"a\"},{\"topic\":\"denied\"}]");
    let (code, _, body) = server.send("POST", "/api/v1/publish/batch", &both).await;
    assert_eq!(code, 200);
    let batch: publish::PublishedBatch = serde_json::from_str(&body).unwrap();
    let taken: Vec<bool> = batch.items.iter().map(|row| row.published).collect();
    assert_eq!(taken, [true, false]);
    let many = format!("[{}]", vec!["{\"topic\":\"a\"}"; 1_001].join(","));
    let (code, ..) = server
        .send("POST", "/api/v1/publish/batch", &meant(&many))
        .await;
    assert_eq!(code, 413);
    let rows = server.view.audited.lock().unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.status, row.what.as_deref()))
        .collect();
    assert_eq!(told[0], (200, Some("topic a/b")));
    assert_eq!(told[1], (403, Some("topic denied")), "refused ones too");
    assert_eq!(told[2], (400, Some("topic a/#")));
    assert_eq!(told[7], (200, Some("2 messages on a, denied, 1 refused")));
    assert_eq!(told[8], (413, Some("1001 messages on a")));
}

#[tokio::test]
async fn in_whose_name_something_was_published_is_written_down() {
    let server = Server::start().await;
    let topics: Vec<String> = (10..30).map(|number| format!("t/{number}")).collect();
    let message = |topic: &String| {
        format!("{{\"topic\":\"{topic}\",\"client_id\":\"lock\",\"username\":\"joe\"}}")
    };
    let batch: Vec<String> = topics.iter().map(message).collect();
    let batch = meant(&format!("[{}]", batch.join(",")));
    server.send("POST", "/api/v1/publish/batch", &batch).await;
    let long = format!("{{\"topic\":\"{}\"}}", "\u{fc}".repeat(1_000));
    server.send("POST", "/api/v1/publish", &meant(&long)).await;
    let rows = server.view.audited.lock().unwrap();
    let first = rows[0].what.as_deref().unwrap();
    assert!(first.starts_with("20 messages on t/10, t/11,"), "{first}");
    assert!(
        first.ends_with("t/19 and 10 more as lock for user joe"),
        "{first}"
    );
    assert!(rows[1].what.as_ref().unwrap().len() < 300);
    let told = server.view.published.lock().unwrap();
    let peer = told[0].peer.expect("where it comes from");
    assert!(peer.ip().is_loopback());
    assert_eq!(told[0].principal.as_deref(), Some("loopback"));
}

#[tokio::test]
async fn a_backup_that_is_not_made_says_whose_fault_it_is() {
    let server = Server::start().await;
    for (dir, expected) in [
        ("relative", 400),
        ("/there", 400),
        ("/room", 507),
        ("/latched", 503),
        ("/failed", 500),
    ] {
        let body = meant(&format!("{{\"dir\":\"{dir}\"}}"));
        let (code, kind, _) = server.send("POST", "/api/v1/backup", &body).await;
        assert_eq!(
            (code, kind.as_str()),
            (expected, "application/problem+json"),
            "{dir}"
        );
    }
    let rows = server.view.audited.lock().unwrap();
    assert_eq!(rows[1].what.as_deref(), Some("to /there"));
}
