//! The routes over a node that is only said to exist.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Mutex;

use super::problem::Problem;
use super::view::{
    ClientPage, ClientRow, ConnectionPage, GroupPage, HookRow, PartitionRow, Status, StreamRow,
};
use super::*;
use crate::auth::Users;

/// Three clients, one stream, one hook.
struct Told {
    trouble: Mutex<Option<String>>,
    users: Users,
}

impl NodeView for Told {
    async fn status(&self) -> Status {
        Status {
            node: "sluice@127.0.0.1".into(),
            connections: 3,
            ..Status::default()
        }
    }

    async fn clients(&self, query: ClientsQuery) -> ClientPage {
        let after = query.after.unwrap_or_default();
        let mut rows = ["a", "b", "c"]
            .into_iter()
            .filter(|id| *id > after.as_str());
        let limit = query.limit.expect("the handler bounds the page") as usize;
        let clients: Vec<ClientRow> = rows
            .by_ref()
            .take(limit)
            .map(|id| ClientRow {
                client_id: id.into(),
                ..ClientRow::default()
            })
            .collect();
        let next = rows
            .next()
            .and(clients.last().map(|last| last.client_id.clone()));
        ClientPage { clients, next }
    }

    fn kafka_connections(&self, _query: &ConnectionsQuery) -> ConnectionPage {
        ConnectionPage::default()
    }

    fn groups(&self, _query: GroupsQuery) -> GroupPage {
        GroupPage::default()
    }

    fn streams(&self) -> Vec<StreamRow> {
        let partition = PartitionRow {
            log_start: 1,
            end: 4,
            flushed: 4,
            size_bytes: 99,
        };
        vec![StreamRow {
            name: "message_state".into(),
            partitions: vec![partition],
            ..StreamRow::default()
        }]
    }

    fn hooks(&self) -> Vec<HookRow> {
        vec![HookRow {
            event: "message.publish".into(),
            ..HookRow::default()
        }]
    }

    async fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }

    fn users(&self) -> &Users {
        &self.users
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap().clone()
    }
}

struct Server {
    address: SocketAddr,
    view: Arc<Told>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let view = Arc::new(Told {
            trouble: Mutex::default(),
            users: crate::auth::in_memory(),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(Arc::clone(&view), 2, listener, stopped));
        Self {
            address,
            view,
            stop,
            task,
        }
    }

    /// Status, content type and body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        self.send(method, path, "Host: localhost\r\n\r\n").await
    }

    /// The same with `rest` behind the first line of the request.
    async fn send(&self, method: &str, path: &str, rest: &str) -> (u16, String, String) {
        let (address, request) = (self.address, format!("{method} {path} HTTP/1.0\r\n{rest}"));
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let kind = head
            .lines()
            .find_map(|line| line.strip_prefix("content-type: "))
            .unwrap_or_default();
        (
            head[9..12].parse().unwrap(),
            kind.to_owned(),
            body.to_owned(),
        )
    }
}

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
        serde_json::from_str::<Streams>(&body).unwrap().streams[0].partitions[0].end,
        4
    );
    let (_, _, body) = server.ask("GET", "/api/v1/hooks").await;
    assert_eq!(
        serde_json::from_str::<Hooks>(&body).unwrap().hooks[0].event,
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
        let page: ClientPage = serde_json::from_str(&body).unwrap();
        assert!(page.clients.len() <= 2, "page_rows_max is 2");
        found.extend(page.clients.into_iter().map(|client| client.client_id));
        let Some(next) = page.next else { break };
        path = format!("/api/v1/clients?after={next}");
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

/// Headers and body of a change that is meant.
fn meant(body: &str) -> String {
    format!(
        "Host: 127.0.0.1:1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn users_are_added_changed_and_deleted() {
    let server = Server::start().await;
    for name in ["joe", "ann", "bob"] {
        let body = format!("{{\"name\":\"{name}\",\"password\":\"pencil\"}}");
        let (code, _, body) = server.send("POST", "/api/v1/users", &meant(&body)).await;
        assert_eq!(code, 201, "{body}");
        assert!(
            body.contains("SCRAM-SHA-512") && !body.contains("salt"),
            "{body}"
        );
        assert!(!body.contains("pencil"), "{body}");
    }
    let page = |body: &str| -> users::UserPage { serde_json::from_str(body).unwrap() };
    let (_, _, body) = server.ask("GET", "/api/v1/users").await;
    let first = page(&body);
    assert_eq!(first.next.as_deref(), Some("bob"));
    let (_, _, body) = server.ask("GET", "/api/v1/users?after=bob").await;
    assert_eq!(
        (page(&body).users[0].name.as_str(), page(&body).next),
        ("joe", None)
    );
    let new = meant("{\"password\":\"pen\"}");
    assert_eq!(server.send("PUT", "/api/v1/users/joe", &new).await.0, 200);
    let here = std::net::Ipv4Addr::LOCALHOST.into();
    let users = &server.view.users;
    assert_eq!(users.verify_password("joe", "pen", here).await, Ok(()));
    assert_eq!(
        server
            .send("DELETE", "/api/v1/users/joe", &meant(""))
            .await
            .0,
        204
    );
    assert!(!users.exists("joe"));
}

#[tokio::test]
async fn changes_of_users_that_cannot_be_are_problems() {
    let server = Server::start().await;
    let joe = "{\"name\":\"joe\",\"password\":\"pencil\"}";
    assert_eq!(
        server.send("POST", "/api/v1/users", &meant(joe)).await.0,
        201
    );
    let elsewhere = meant(joe).replace("127.0.0.1:1", "evil.example");
    let origin = meant(joe).replace(
        "Content-Type",
        "Origin: http://evil.example\r\nContent-Type",
    );
    let text = meant(joe).replace("application/json", "text/plain");
    let large = format!(
        "{{\"name\":\"ann\",\"password\":\"{}\"}}",
        "x".repeat(20_000)
    );
    for (method, path, sent, expected) in [
        ("POST", "/api/v1/users", meant(joe), 409),
        ("POST", "/api/v1/users", meant("{\"name\":\"ann\"}"), 400),
        (
            "POST",
            "/api/v1/users",
            meant("{\"name\":\"\",\"password\":\"x\"}"),
            400,
        ),
        (
            "POST",
            "/api/v1/users",
            meant("{\"name\":\"ann\",\"password\":\"\"}"),
            400,
        ),
        ("POST", "/api/v1/users", meant(&large), 400),
        ("POST", "/api/v1/users", text, 400),
        ("POST", "/api/v1/users", elsewhere, 403),
        ("POST", "/api/v1/users", origin, 403),
        (
            "PUT",
            "/api/v1/users/ann",
            meant("{\"password\":\"x\"}"),
            404,
        ),
        ("DELETE", "/api/v1/users/ann", meant(""), 404),
        (
            "DELETE",
            "/api/v1/users/joe",
            "Host: x\r\n\r\n".to_owned(),
            403,
        ),
    ] {
        let (code, kind, body) = server.send(method, path, &sent).await;
        assert_eq!(code, expected, "{method} {path} {sent}: {body}");
        assert_eq!(kind, "application/problem+json", "{body}");
        assert!(!body.contains("pencil"), "{body}");
    }
    assert!(server.view.users.exists("joe") && !server.view.users.exists("ann"));
}

#[tokio::test]
async fn the_api_answers_under_a_name_of_this_machine_only() {
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
    }
    for path in ["/metrics", "/healthz"] {
        assert_eq!(server.send("GET", path, elsewhere).await.0, 200, "{path}");
    }
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
