//! Who asks, whether that may be, and the record of what was changed. On a loopback listener of a
//! node without users and tokens everyone may do everything; anywhere else nobody without a token.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_core::Stream as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::audit::{AuditRow, Note};
use super::limits::{BODY_SMALL_BYTES, BODY_WAIT, ROOM_WAIT};
use super::problem::Problem;
use super::view::NodeView;
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
    /// What was shown for it.
    pub(super) proof: Proof,
    /// The role that is needed for what was asked.
    pub(super) least: Role,
    /// Where the request comes from, where that is known.
    pub(super) peer: Option<SocketAddr>,
}

/// What a caller has shown, to be judged again while it follows events.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: this machine is open.
    Nothing,
    /// The text of a token.
    Token(Arc<str>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof")
    }
}

impl Caller {
    /// Who it is, for the records of what it publishes.
    pub(super) fn principal(&self) -> String {
        match self.proof {
            Proof::Nothing => self.name.clone(),
            Proof::Token(_) => format!("token:{}", self.name),
        }
    }

    /// Whether it would be let in still.
    pub(super) fn may_stay(&self, view: &dyn NodeView) -> bool {
        match &self.proof {
            Proof::Nothing => view.users().is_empty() && view.tokens().is_empty(),
            Proof::Token(text) => {
                let bearer = view.tokens().bearer(text);
                bearer.is_some_and(|bearer| bearer.role >= self.least)
            }
        }
    }
}

/// What a route needs of those who use it.
#[derive(Clone)]
pub(super) struct Gate {
    pub shared: Shared,
    pub door: Door,
    pub role: Role,
    /// Largest body taken.
    pub body_bytes_max: usize,
}

/// Lets through who may, and writes down what was changed.
pub(super) async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let caller = match gate.caller(&request) {
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
        if !is_reading(request.method()) {
            // Somebody tries what the token is not for.
            let mut row = row(caller, &request);
            row.status = StatusCode::FORBIDDEN.as_u16();
            gate.shared.view.audit(row).await;
        }
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    request.extensions_mut().insert(caller.clone());
    if is_reading(request.method()) {
        return next.run(request).await;
    }
    let row = row(caller, &request);
    let (view, broken) = (Arc::clone(&gate.shared.view), row.clone());
    // In a task of its own: whoever hangs up does not keep a change from being written down.
    let changed = tokio::spawn(change(gate, row, request, next));
    if let Ok(response) = changed.await {
        return response;
    }
    view.audit(broken).await;
    let detail = "the change was interrupted";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The record of a change that broke off.
fn row(caller: Caller, request: &Request) -> AuditRow {
    let now_ms = wall_ms();
    AuditRow {
        time: super::time::rfc3339(now_ms as i64),
        time_ms: now_ms,
        by: caller.name,
        role: caller.role,
        peer: caller.peer.map(|peer| peer.to_string()),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        what: None,
        status: StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
    }
}

/// Makes a change and writes it down, whatever became of it.
async fn change(gate: Gate, mut row: AuditRow, request: Request, next: Next) -> Response {
    let large = &gate.shared.large_bodies;
    let mut response = match whole(request, gate.body_bytes_max, large).await {
        Ok((request, _held)) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let note = response.extensions_mut().remove::<Note>();
    row.what = note.map(|note| note.0);
    row.status = response.status().as_u16();
    gate.shared.view.audit(row).await;
    response
}

/// The request with all of its body, which must not be too large nor take too long to come; and the
/// room that it has among large ones, for as long as it is handled.
async fn whole(
    request: Request,
    bytes_max: usize,
    large: &Arc<Semaphore>,
) -> Result<(Request, Option<OwnedSemaphorePermit>), Problem> {
    let (parts, body) = request.into_parts();
    let said = parts.headers.get(header::CONTENT_LENGTH);
    let said = said.and_then(|said| said.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        let detail = format!("the body has more than {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let said = match said {
        Some(said) if said > bytes_max as u64 => return Err(too_large()),
        Some(said) => said as usize,
        None => 0,
    };
    let mut held = None;
    if said > BODY_SMALL_BYTES {
        held = Some(room(large, said).await?);
    }
    let mut chunks = body.into_data_stream();
    let gathered = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = poll_fn(|cx| Pin::new(&mut chunks).poll_next(cx)).await {
            let broken = |_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off");
            let chunk = chunk.map_err(broken)?;
            let length = bytes.len() + chunk.len();
            if length > bytes_max {
                return Err(too_large());
            }
            if length > BODY_SMALL_BYTES && held.is_none() {
                held = Some(room(large, bytes_max).await?);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let late = |_| {
        let detail = format!("the body did not come within {} s", BODY_WAIT.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    };
    let bytes = timeout(BODY_WAIT, gathered).await.map_err(late)??;
    Ok((Request::from_parts(parts, Body::from(bytes)), held))
}

/// The unit in which room for large bodies is counted, in bytes.
pub(super) const ROOM_UNIT_BYTES: usize = 1024;

/// Room for so many bytes among the large bodies.
async fn room(large: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let units = bytes.div_ceil(ROOM_UNIT_BYTES) as u32;
    let taken = timeout(ROOM_WAIT, Arc::clone(large).acquire_many_owned(units)).await;
    let full = |_| Problem::busy("too many large bodies are on their way; come again");
    Ok(taken.map_err(full)?.expect("the semaphore is never closed"))
}

impl Gate {
    fn caller(&self, request: &Request) -> Result<Caller, Box<Response>> {
        let (view, headers) = (&self.shared.view, request.headers());
        let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let text = value.to_str().ok();
            let text = text.and_then(|text| text.strip_prefix("Bearer "));
            let text = text.unwrap_or_default().trim();
            return match view.tokens().bearer(text) {
                Some(bearer) => Ok(Caller {
                    name: bearer.name,
                    role: bearer.role,
                    proof: Proof::Token(text.into()),
                    least: self.role,
                    peer,
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
                proof: Proof::Nothing,
                least: self.role,
                peer,
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
