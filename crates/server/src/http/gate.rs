//! Who asks, whether that may be, and the record of what was changed. On a loopback listener of a
//! node without users and tokens everyone may do everything; anywhere else nobody without a token.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::audit::{AuditRow, Note};
use super::problem::Problem;
use super::{Shared, local};
use crate::auth::Role;
use crate::node::wall_ms;

/// What a listener is, for those who come in through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// It is bound to a loopback address: only programs on this machine reach it.
    pub local: bool,
}

/// Where a request comes from; put into each request by whoever serves the connection.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token, or `loopback`.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
}

/// What a route needs of those who use it.
#[derive(Clone)]
pub(super) struct Gate {
    pub shared: Shared,
    pub door: Door,
    pub role: Role,
}

/// Lets through who may, and writes down what was changed.
pub(super) async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let caller = match gate.caller(request.headers()) {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    if caller.role < gate.role {
        let detail = format!(
            "the token {} has the role {}; this needs {}",
            caller.name,
            caller.role.word(),
            gate.role.word()
        );
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    request.extensions_mut().insert(caller.clone());
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    // In a task of its own: whoever hangs up does not keep a change from being written down.
    let changed = tokio::spawn(change(gate.shared, caller, request, next));
    changed.await.unwrap_or_else(|_| {
        let detail = "the change was interrupted";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
    })
}

/// Makes a change and writes it down, whatever became of it.
async fn change(shared: Shared, caller: Caller, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
    let (method, path) = (
        request.method().to_string(),
        request.uri().path().to_owned(),
    );
    let mut response = next.run(request).await;
    let note = response.extensions_mut().remove::<Note>();
    let now_ms = wall_ms();
    let row = AuditRow {
        time: super::time::rfc3339(now_ms as i64),
        time_ms: now_ms,
        by: caller.name,
        role: caller.role,
        peer: peer.map(|peer| peer.to_string()),
        method,
        path,
        what: note.map(|note| note.0),
        status: response.status().as_u16(),
    };
    shared.view.audit(row).await;
    response
}

impl Gate {
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Box<Response>> {
        let view = &self.shared.view;
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let bearer = value
                .to_str()
                .ok()
                .and_then(|text| text.strip_prefix("Bearer "))
                .and_then(|text| view.tokens().bearer(text.trim()));
            return match bearer {
                Some(bearer) => Ok(Caller {
                    name: bearer.name,
                    role: bearer.role,
                }),
                None => Err(Box::new(unknown(
                    "this is no token of this node, or its time is over",
                ))),
            };
        }
        if self.door.local && view.users().is_empty() && view.tokens().is_empty() {
            local::only_local(headers).map_err(|problem| Box::new(problem.into_response()))?;
            return Ok(Caller {
                name: "loopback".to_owned(),
                role: Role::Admin,
            });
        }
        Err(Box::new(unknown(
            "this needs a token: Authorization: Bearer sluice_...; `sluice token add` makes one",
        )))
    }
}

fn unknown(detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    let scheme = HeaderValue::from_static("Bearer realm=\"sluice\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, scheme);
    response
}
