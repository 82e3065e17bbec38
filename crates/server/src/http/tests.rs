//! The routes over a node that is only said to exist.

mod hostile;
mod mirror;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Mutex;

use broker::{OrderKey, SubscriptionQuery};
use tokio::net::TcpListener;

use super::list::Page;
use super::problem::Problem;
use super::view::{
    ClientDetails, ClientRow, GroupRow, HookRow, ListenerRow, PartitionRow, RetainedMessage,
    RetainedRow, Status, StreamRow, SubscriptionRow, Telling,
};
use super::*;
use crate::auth::{Tokens, Users};

/// Three clients, one stream, one hook.
struct Told {
    trouble: Mutex<Option<String>>,
    users: Users,
    tokens: Tokens,
    audited: Mutex<Vec<AuditRow>>,
    traces: crate::node::Traces,
    bans: Mutex<Vec<crate::auth::Ban>>,
    http: Mutex<counters::HttpValues>,
    /// Whether the mirror is on; `None`: there is none.
    mirror: Mutex<Option<bool>>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            trouble: Mutex::default(),
            users: crate::auth::in_memory(),
            tokens: crate::auth::tokens_in_memory(),
            audited: Mutex::default(),
            traces: crate::node::Traces::default(),
            bans: Mutex::default(),
            http: Mutex::default(),
            mirror: Mutex::new(Some(true)),
        }
    }
}

fn told<T: Send + 'static>(answer: T) -> Telling<'static, T> {
    Box::pin(std::future::ready(answer))
}

fn session(id: &str) -> broker::ClientRow {
    broker::ClientRow {
        client_id: id.to_owned(),
        username: String::new(),
        connected: true,
        peer: None,
        keep_alive_s: None,
        version: mqtt::Version::V5,
        connected_ms: 0,
        disconnected_ms: None,
        session_expiry_s: 0,
        subscriptions: 0,
        inbox: 0,
        inflight: 0,
    }
}

impl NodeView for Told {
    fn status(&self) -> Telling<'_, Status> {
        told(Status {
            node: "sluice@127.0.0.1".into(),
            connections: 3,
            ..Status::default()
        })
    }

    fn listeners(&self) -> Vec<ListenerRow> {
        Vec::new()
    }

    fn clients(&self, query: broker::ClientQuery) -> Telling<'_, crate::node::ClientPage> {
        let after = query.after.map_or_else(String::new, |(_, id)| id);
        let mut ids = ["a", "b", "c"]
            .into_iter()
            .filter(|id| *id > after.as_str());
        let clients: Vec<_> = ids.by_ref().take(query.limit).map(session).collect();
        let last = clients.last().map(|last| last.client_id.clone());
        let next = ids.next().and(last).map(|id| (OrderKey::Number(0), id));
        told(crate::node::ClientPage { clients, next })
    }

    fn client(&self, client_id: String) -> Telling<'_, Option<ClientDetails>> {
        told((client_id == "a").then(ClientDetails::default))
    }

    fn kick(&self, client_id: String) -> Telling<'_, bool> {
        told(client_id == "a/b c")
    }

    fn subscriptions(
        &self,
        _query: SubscriptionQuery,
    ) -> Telling<'_, (Vec<SubscriptionRow>, bool)> {
        told((Vec::new(), false))
    }

    fn retained(&self, _filter: &str, _after: Option<&str>, _limit: usize) -> Page<RetainedRow> {
        Page::default()
    }

    fn retained_message(&self, topic: String) -> Telling<'_, Option<RetainedMessage>> {
        told((topic == "devices/1/state").then(RetainedMessage::default))
    }

    fn log(&self) -> Option<&commitlog::LogReader> {
        None
    }

    fn kafka_connections(&self, _after: u64, _limit: usize) -> Page<crate::kafka::ConnectionRow> {
        Page::default()
    }

    fn groups(&self, _: Option<&str>, _: Option<&str>, _: usize) -> Page<GroupRow> {
        Page::default()
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

    fn hooks(&self) -> Telling<'_, Vec<HookRow>> {
        told(vec![HookRow {
            event: "message.publish".into(),
            ..HookRow::default()
        }])
    }

    fn metrics(&self, http: counters::HttpValues) -> Telling<'_, String> {
        *self.http.lock().unwrap() = http;
        told("# EOF\n".to_owned())
    }

    fn users(&self) -> &Users {
        &self.users
    }

    fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn totals(&self) -> Telling<'_, live::Totals> {
        told(live::Totals::default())
    }

    fn downlinks(&self) -> Vec<crate::downlink::DownlinkRow> {
        Vec::new()
    }

    fn mirror(&self) -> crate::mirror::view::MirrorView {
        let state = match *self.mirror.lock().unwrap() {
            None => "off",
            Some(true) => "connected",
            Some(false) => "paused",
        };
        crate::mirror::view::MirrorView {
            state: state.to_owned(),
            ..Default::default()
        }
    }

    fn switch_mirror(&self, on: bool) -> bool {
        let mut mirror = self.mirror.lock().unwrap();
        mirror.as_mut().map(|it| *it = on).is_some()
    }

    fn config(&self) -> String {
        "[node]\n".to_owned()
    }

    fn publish(
        &self,
        messages: Vec<crate::node::Deposit>,
    ) -> Telling<'_, Vec<Result<crate::node::Deposited, crate::node::DepositError>>> {
        let taken = |message: &crate::node::Deposit| match message.topic.as_str() {
            "denied" => Err(crate::node::DepositError::NotAuthorized),
            _ => Ok(crate::node::Deposited::default()),
        };
        told(messages.iter().map(taken).collect())
    }

    fn switch_hook(
        &self,
        name: String,
        _on: bool,
    ) -> Telling<'_, Result<(), crate::node::HookChangeError>> {
        let known = name == "message.publish:message_state";
        told(
            known
                .then_some(())
                .ok_or(crate::node::HookChangeError::Unknown),
        )
    }

    fn reload_hooks(&self) -> Telling<'_, Result<(), crate::node::HookChangeError>> {
        told(Ok(()))
    }

    fn bans(&self) -> Vec<crate::auth::Ban> {
        self.bans.lock().unwrap().clone()
    }

    fn ban(
        &self,
        ban: crate::auth::Ban,
    ) -> Telling<'_, Result<crate::auth::Ban, crate::auth::BanError>> {
        self.bans.lock().unwrap().push(ban.clone());
        told(Ok(ban))
    }

    fn unban(
        &self,
        kind: crate::auth::BanKind,
        value: String,
    ) -> Telling<'_, Result<(), crate::auth::BanError>> {
        let mut bans = self.bans.lock().unwrap();
        let at = bans
            .iter()
            .position(|ban| ban.kind == kind && ban.value == value);
        let gone = at.map(|at| bans.remove(at)).map(|_| ());
        told(gone.ok_or(crate::auth::BanError::Unknown))
    }

    fn trace(&self, query: crate::node::TraceQuery) -> Option<crate::node::Tracing> {
        Some(self.traces.follow(query))
    }

    fn backup(
        &self,
        dir: std::path::PathBuf,
    ) -> Telling<'_, Result<crate::node::Backup, crate::node::BackupError>> {
        use crate::node::BackupError;
        let what = "said so".to_owned();
        told(Err(match dir.to_str() {
            Some("/room") => BackupError::Room(what),
            Some("/latched") => BackupError::Latched(what),
            Some("/failed") => BackupError::Failed(what),
            _ => BackupError::Place(what),
        }))
    }

    fn audit(&self, row: AuditRow) -> Telling<'_, ()> {
        self.audited.lock().unwrap().push(row);
        told(())
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
        Self::behind(Door { local: true }).await
    }

    async fn behind(door: Door) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let view = Arc::new(Told::default());
        let (stop, stopped) = watch::channel(false);
        let api = Api::new(Arc::clone(&view) as Arc<dyn NodeView>, 2, stopped.clone());
        let bind = listener.local_addr().unwrap();
        let kind = crate::settings::ListenerKind::Http;
        let plain = crate::settings::ListenerSettings::plain(kind, bind, String::new());
        let doorway = crate::doorway::Doorway::new(&plain, bind);
        let task = tokio::spawn(serve(
            router(&api, door),
            listener,
            (doorway, None),
            stopped,
        ));
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

    /// What may be sent with the token of this machine.
    fn as_admin(&self, rest: &str) -> String {
        format!(
            "Authorization: Bearer {}\r\n{rest}",
            self.view.tokens.local()
        )
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
    assert_eq!(rows[0].what.as_deref(), Some("topic a/b"));
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

#[tokio::test]
async fn a_name_that_is_no_text_is_a_problem() {
    let server = Server::start().await;
    let (code, kind, _) = server.ask("GET", "/api/v1/clients/%ff").await;
    assert_eq!((code, kind.as_str()), (400, "application/problem+json"));
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
