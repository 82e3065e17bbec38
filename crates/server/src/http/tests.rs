//! The routes over a node that is only said to exist.

mod access;
mod changes;
mod hostile;
mod mirror;
mod routes;
mod told;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use self::told::Told;
use super::{Api, Door, NodeView, router, serve};

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

/// Headers and body of a change that is meant.
fn meant(body: &str) -> String {
    format!(
        "Host: 127.0.0.1:1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
