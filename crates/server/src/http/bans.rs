//! Who is kept out, over HTTP: list, keep out, let in again.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Note;
use super::list::{self, Cell, ListQuery, Listed, Page};
use super::problem::Problem;
use super::{Asked, Caller, Named, Routes, Shared};
use crate::auth::{Ban, BanError, BanKind, Role};

/// The words for what is banned.
const KINDS: [(&str, BanKind); 4] = [
    ("client_id", BanKind::ClientId),
    ("user", BanKind::User),
    ("address", BanKind::Address),
    // Understood, never written.
    ("client", BanKind::ClientId),
];

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BanRow {
    /// Kind and value, such as `client_id:lock-1`.
    pub id: String,
    /// `client_id`, `user` or `address`.
    pub kind: String,
    /// Client id, user name, address or network.
    pub value: String,
    /// Why, for people.
    pub reason: String,
    /// Who made it.
    pub by: String,
    /// Since when, ms since the epoch.
    pub since_ms: u64,
    /// When it ends, ms since the epoch; `null`: when it is deleted.
    pub until_ms: Option<u64>,
}

/// A ban to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBan {
    /// `client_id`, `user` or `address`.
    pub kind: String,
    /// Client id, user name, address or network (`10.0.0.0/8`).
    pub value: String,
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// When it ends, ms since the epoch; absent: when it is deleted.
    #[serde(default)]
    pub until_ms: Option<u64>,
}

impl Listed for BanRow {
    const FIELDS: &'static [&'static str] = &["id", "value", "kind", "reason", "since_ms"];

    fn field(&self, number: usize) -> Cell<'_> {
        match number {
            0 => (&*self.id).into(),
            1 => (&*self.value).into(),
            2 => (&*self.kind).into(),
            3 => (&*self.reason).into(),
            _ => self.since_ms.into(),
        }
    }
}

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/bans", Role::Admin, bans);
    routes.add(Method::POST, "/api/v1/bans", Role::Admin, add);
    routes.add(Method::DELETE, "/api/v1/bans/{id}", Role::Admin, delete);
}

/// Who is kept out.
#[utoipa::path(get, path = "/api/v1/bans", tag = "access", params(ListQuery),
    responses((status = 200, body = Page<BanRow>)))]
pub(super) async fn bans(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<BanRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    let rows = api.view.bans().into_iter().map(row).collect();
    list::page(rows, &query, limit).map(Json)
}

/// Keeps somebody out, and ends the connections that it concerns.
#[utoipa::path(post, path = "/api/v1/bans", tag = "access", request_body = NewBan,
    responses((status = 201, body = BanRow), (status = 400, body = Problem)))]
pub(super) async fn add(
    State(api): State<Shared>,
    caller: Caller,
    body: Result<Json<NewBan>, JsonRejection>,
) -> Result<Response, Problem> {
    let bad = |what: String| Problem::new(StatusCode::BAD_REQUEST, what);
    let Json(new) = body?;
    let Some(kind) = kind_of(&new.kind) else {
        return Err(bad("kind: it is client_id, user or address".to_owned()));
    };
    let ban = Ban {
        kind,
        value: new.value,
        reason: new.reason.unwrap_or_default(),
        by: caller.name,
        since_ms: 0,
        until_ms: new.until_ms,
    };
    let row = row(api.view.ban(ban).await?);
    let note = Note(row.id.clone());
    let mut answer = (StatusCode::CREATED, Json(row)).into_response();
    answer.extensions_mut().insert(note);
    Ok(answer)
}

/// Lets somebody in again.
#[utoipa::path(delete, path = "/api/v1/bans/{id}", tag = "access",
    params(("id" = String, Path, description = "Kind and value, such as client_id:lock-1")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(api): State<Shared>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    let parts = id.split_once(':');
    let Some((kind, value)) = parts.and_then(|(kind, value)| Some((kind_of(kind)?, value))) else {
        return Err(BanError::Unknown.into());
    };
    api.view.unban(kind, value.to_owned()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn kind_of(word: &str) -> Option<BanKind> {
    let found = KINDS.iter().find(|(known, _)| *known == word);
    found.map(|(_, kind)| *kind)
}

fn row(ban: Ban) -> BanRow {
    let found = KINDS.iter().find(|(_, kind)| *kind == ban.kind);
    let kind = found.map_or("", |(word, _)| word);
    BanRow {
        id: format!("{kind}:{}", ban.value),
        kind: kind.to_owned(),
        value: ban.value,
        reason: ban.reason,
        by: ban.by,
        since_ms: ban.since_ms,
        until_ms: ban.until_ms,
    }
}

impl From<BanError> for Problem {
    fn from(error: BanError) -> Self {
        let status = match error {
            BanError::Unknown => StatusCode::NOT_FOUND,
            BanError::Invalid(_) => StatusCode::BAD_REQUEST,
            BanError::Unwritten(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
