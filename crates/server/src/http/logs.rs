//! The program's own log lines, live, and the level from which on they are written.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use utoipa::ToSchema;

use super::audit::Note;
use super::limits::EVENTS_WAITING_MAX;
use super::live::Skipped;
use super::problem::Problem;
use super::{Caller, Routes, Shared, events};
use crate::auth::Role;
use crate::logging::{self, LogLine};
use crate::settings::{Level, Word as _};

/// From which level on lines are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The module it is about, such as `server::kafka`; absent: all that have no level of their own.
    #[serde(default)]
    pub module: Option<String>,
}

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/log/live", Role::Operator, lines);
    routes.add(Method::GET, "/api/v1/log/level", Role::Viewer, level);
    routes.add(Method::PUT, "/api/v1/log/level", Role::Operator, set_level);
}

/// The last log lines and those that come, as events `line`; `skipped` says how many were left out.
#[utoipa::path(get, path = "/api/v1/log/live", tag = "node",
    responses((status = 200, body = LogLine, content_type = "text/event-stream")))]
pub(super) async fn lines(State(api): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    let (recent, mut lines) = logging::follow();
    events::open(&api, caller, EVENTS_WAITING_MAX, |sink| async move {
        for line in recent {
            if !sink.send("line", &*line).await {
                return;
            }
        }
        loop {
            let sent = match lines.recv().await {
                Ok(line) => sink.send("line", &*line).await,
                Err(RecvError::Lagged(count)) => sink.send("skipped", &Skipped { count }).await,
                Err(RecvError::Closed) => return,
            };
            if !sent {
                return;
            }
        }
    })
}

/// The levels of the log: the general one first.
#[utoipa::path(get, path = "/api/v1/log/level", tag = "node",
    responses((status = 200, body = Vec<LogLevel>)))]
pub(super) async fn level() -> Json<Vec<LogLevel>> {
    let row = |(module, level): (Option<String>, Level)| LogLevel {
        level: level.word().to_owned(),
        module,
    };
    Json(logging::levels().into_iter().map(row).collect())
}

/// Sets a level until the next start.
#[utoipa::path(put, path = "/api/v1/log/level", tag = "node", request_body = LogLevel,
    responses((status = 200, body = Vec<LogLevel>), (status = 400, body = Problem)))]
pub(super) async fn set_level(
    body: Result<Json<LogLevel>, JsonRejection>,
) -> Result<Response, Problem> {
    let bad = |what: String| Problem::new(StatusCode::BAD_REQUEST, what);
    let Json(wanted) = body?;
    let Some(to) = Level::from_word(&wanted.level) else {
        return Err(bad(
            "level: it is off, error, warn, info, debug or trace".to_owned()
        ));
    };
    let note = Note(match &wanted.module {
        Some(module) => format!("{module} to {}", wanted.level),
        None => format!("to {}", wanted.level),
    });
    logging::set_level(wanted.module, to).map_err(bad)?;
    let mut answer = level().await.into_response();
    answer.extensions_mut().insert(note);
    Ok(answer)
}
