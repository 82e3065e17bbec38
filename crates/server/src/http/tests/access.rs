//! Who may: doors, tokens, roles, users, bans.

use super::super::*;
use super::{Server, meant};
use crate::http::list::Page;

#[tokio::test]
async fn users_are_added_changed_and_deleted() {
    let server = Server::start().await;
    let admin = |body: &str| server.as_admin(&meant(body));
    for name in ["joe", "ann", "bob"] {
        let body = format!("{{\"name\":\"{name}\",\"password\":\"pencil\"}}");
        let (code, _, body) = server.send("POST", "/api/v1/users", &admin(&body)).await;
        assert_eq!(code, 201, "{body}");
        assert!(
            body.contains("SCRAM-SHA-512") && !body.contains("salt"),
            "{body}"
        );
        assert!(!body.contains("pencil"), "{body}");
    }
    let page = |body: &str| -> Page<crate::auth::UserRow> { serde_json::from_str(body).unwrap() };
    let asked = server.as_admin("\r\n");
    let (_, _, body) = server.send("GET", "/api/v1/users", &asked).await;
    let first = page(&body);
    assert_eq!(first.items[1].name, "bob");
    let path = format!("/api/v1/users?cursor={}", first.next.unwrap());
    let (_, _, body) = server.send("GET", &path, &asked).await;
    assert_eq!(
        (page(&body).items[0].name.as_str(), page(&body).next),
        ("joe", None)
    );
    let (_, _, body) = server
        .send("GET", "/api/v1/users?filter=o&sort=-name", &asked)
        .await;
    let names: Vec<String> = page(&body)
        .items
        .into_iter()
        .map(|user| user.name)
        .collect();
    assert_eq!(names, ["joe", "bob"]);
    let new = admin("{\"password\":\"pen\"}");
    assert_eq!(server.send("PUT", "/api/v1/users/joe", &new).await.0, 200);
    let here = std::net::Ipv4Addr::LOCALHOST.into();
    let users = &server.view.users;
    assert_eq!(users.verify_password("joe", "pen", here).await, Ok(()));
    let gone = server.send("DELETE", "/api/v1/users/joe", &admin("")).await;
    assert_eq!(gone.0, 204);
    assert!(!users.exists("joe"));
}

#[tokio::test]
async fn changes_of_users_that_cannot_be_are_problems() {
    let server = Server::start().await;
    let joe = "{\"name\":\"joe\",\"password\":\"pencil\"}";
    let admin = |body: &str| server.as_admin(&meant(body));
    assert_eq!(
        server.send("POST", "/api/v1/users", &admin(joe)).await.0,
        201
    );
    let text = admin(joe).replace("application/json", "text/plain");
    let large = format!(
        "{{\"name\":\"ann\",\"password\":\"{}\"}}",
        "x".repeat(20_000)
    );
    let nobody = "{\"name\":\"\",\"password\":\"x\"}";
    let nothing = "{\"name\":\"ann\",\"password\":\"\"}";
    for (method, path, sent, expected) in [
        ("POST", "/api/v1/users", admin(joe), 409),
        ("POST", "/api/v1/users", admin("{\"name\":\"ann\"}"), 400),
        ("POST", "/api/v1/users", admin(nobody), 400),
        ("POST", "/api/v1/users", admin(nothing), 400),
        ("POST", "/api/v1/users", admin(&large), 413),
        ("POST", "/api/v1/users", text, 415),
        (
            "PUT",
            "/api/v1/users/ann",
            admin("{\"password\":\"x\"}"),
            404,
        ),
        ("DELETE", "/api/v1/users/ann", admin(""), 404),
        ("DELETE", "/api/v1/users/joe", meant(""), 401),
    ] {
        let (code, kind, body) = server.send(method, path, &sent).await;
        assert_eq!(code, expected, "{method} {path} {sent}: {body}");
        assert_eq!(kind, "application/problem+json", "{body}");
        assert!(!body.contains("pencil"), "{body}");
    }
    assert!(server.view.users.exists("joe") && !server.view.users.exists("ann"));
}

#[tokio::test]
async fn without_a_token_the_api_answers_under_a_name_of_this_machine_only() {
    let server = Server::start().await;
    let elsewhere = "Host: evil.example\r\n\r\n";
    let origin = "Host: localhost\r\nOrigin: http://evil.example\r\n\r\n";
    for path in ["/api/v1/users", "/api/v1/status", "/api/v1/clients"] {
        for foreign in [elsewhere, origin] {
            let (code, kind, body) = server.send("GET", path, foreign).await;
            assert_eq!(
                (code, kind.as_str()),
                (403, "application/problem+json"),
                "{path}"
            );
            assert!(body.contains("loopback"), "{body}");
        }
        for own in ["", "Host: [::1]:18083\r\n", "Host: LOCALHOST\r\n"] {
            let sent = format!("{own}\r\n");
            assert_eq!(server.send("GET", path, &sent).await.0, 200, "{path} {own}");
        }
        let known = server.as_admin(elsewhere);
        assert_eq!(server.send("GET", path, &known).await.0, 200, "{path}");
    }
    for path in ["/metrics", "/healthz"] {
        assert_eq!(server.send("GET", path, elsewhere).await.0, 200, "{path}");
    }
}

/// The routes with something in place of their parameters.
fn paths(server: &Server) -> Vec<(Method, String, Role)> {
    let (_, stopped) = watch::channel(false);
    let api = Api::new(Arc::clone(&server.view) as Arc<dyn NodeView>, 2, stopped);
    let fill = |(method, path, role): (Method, &str, Role)| {
        let path = path.replace(['{', '}', '*'], "");
        (method, path, role)
    };
    table(&api).into_iter().map(fill).collect()
}

#[tokio::test]
async fn each_route_is_for_its_role_and_for_greater_ones() {
    let server = Server::behind(Door { local: false }).await;
    let mut bearers = Vec::new();
    for role in Role::ALL {
        let made = server.view.tokens.add(role.word(), role, None).await;
        bearers.push((role, made.unwrap().1));
    }
    for (method, path, least) in paths(&server) {
        let body = "Content-Length: 0\r\n\r\n";
        let (code, kind, _) = server.send(method.as_str(), &path, body).await;
        assert_eq!(
            (code, kind.as_str()),
            (401, "application/problem+json"),
            "{method} {path}"
        );
        for (role, token) in &bearers {
            if path.ends_with("/live") || path.ends_with("/tail") {
                continue;
            }
            let sent = format!("Authorization: Bearer {token}\r\n{body}");
            let code = server.send(method.as_str(), &path, &sent).await.0;
            assert_eq!(
                code == 403,
                *role < least,
                "{method} {path} {role:?}: {code}"
            );
            assert_ne!(code, 401, "{method} {path}");
        }
    }
    assert_eq!(server.ask("GET", "/metrics").await.0, 401);
    assert_eq!(server.ask("GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn a_listener_that_others_reach_is_never_open() {
    let server = Server::behind(Door { local: false }).await;
    for sent in [
        "Host: localhost\r\n\r\n",
        "Authorization: Bearer sluice_0_x\r\n\r\n",
    ] {
        let (code, _, body) = server.send("GET", "/api/v1/status", sent).await;
        assert_eq!(code, 401, "{body}");
    }
    let server = Server::start().await;
    assert_eq!(server.ask("GET", "/api/v1/status").await.0, 200);
    let tokens = &server.view.tokens;
    tokens.add("first", Role::Viewer, None).await.unwrap();
    assert_eq!(server.ask("GET", "/api/v1/status").await.0, 401);
}

#[tokio::test]
async fn what_a_token_is_not_for_is_written_down() {
    let server = Server::start().await;
    let made = server.view.tokens.add("watcher", Role::Viewer, None).await;
    let token = made.unwrap().1;
    let sent = format!("Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n");
    let (code, ..) = server.send("DELETE", "/api/v1/clients/a", &sent).await;
    assert_eq!(code, 403);
    assert_eq!(server.send("GET", "/api/v1/users", &sent).await.0, 403);
    let rows = server.view.audited.lock().unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (&*row.by, &*row.path, row.status))
        .collect();
    assert_eq!(told, [("watcher", "/api/v1/clients/a", 403)]);
}

#[tokio::test]
async fn who_is_banned_is_listed_and_let_in_again() {
    let server = Server::start().await;
    let ban = meant("{\"kind\":\"address\",\"value\":\"10.0.0.0/8\",\"reason\":\"noise\"}");
    let (code, _, body) = server.send("POST", "/api/v1/bans", &ban).await;
    assert_eq!(code, 201, "{body}");
    let wrong = meant("{\"kind\":\"colour\",\"value\":\"blue\"}");
    assert_eq!(server.send("POST", "/api/v1/bans", &wrong).await.0, 400);
    let (_, _, body) = server.ask("GET", "/api/v1/bans?filter=noise").await;
    let page: Page<bans::BanRow> = serde_json::from_str(&body).unwrap();
    assert_eq!(page.items[0].by, "loopback");
    for (id, expected) in [("user:joe", 404), ("x", 404), ("address:10.0.0.0%2F8", 204)] {
        let path = format!("/api/v1/bans/{id}");
        assert_eq!(
            server.send("DELETE", &path, &meant("")).await.0,
            expected,
            "{id}"
        );
    }
    assert!(server.view.bans.lock().unwrap().is_empty());
}
