//! Bearer tokens over HTTP: list, make, take back. The text of one is told once, when it is made.

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
use super::{Asked, Named, Routes, Shared};
use crate::auth::{Role, TokenError, TokenRow};

/// A token to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What to call it.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// How long it holds, ms; absent: until it is taken back.
    #[serde(default)]
    pub lifetime_ms: Option<u64>,
}

/// A token that was made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MadeToken {
    /// What the list shows too.
    #[serde(flatten)]
    pub row: TokenRow,
    /// The token itself; it is not told again.
    pub token: String,
}

impl Listed for TokenRow {
    const FIELDS: &'static [&'static str] = &["name", "id", "role", "created_ms"];

    fn field(&self, number: usize) -> Cell<'_> {
        match number {
            0 => (&*self.name).into(),
            1 => (&*self.id).into(),
            2 => self.role.word().into(),
            _ => self.created_ms.into(),
        }
    }
}

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/tokens", Role::Admin, tokens);
    routes.add(Method::POST, "/api/v1/tokens", Role::Admin, add);
    routes.add(Method::DELETE, "/api/v1/tokens/{id}", Role::Admin, delete);
}

/// The bearer tokens of this API.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", params(ListQuery),
    responses((status = 200, body = Page<TokenRow>)))]
pub(super) async fn tokens(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<TokenRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    list::page(api.view.tokens().list(), &query, limit).map(Json)
}

/// Makes a token; its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = NewToken,
    responses((status = 201, body = MadeToken), (status = 400, body = Problem)))]
pub(super) async fn add(
    State(api): State<Shared>,
    body: Result<Json<NewToken>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(new) = body?;
    let made = api.view.tokens().add(&new.name, new.role, new.lifetime_ms);
    let (row, token) = made.await?;
    let note = format!("token {} ({}), role {}", row.id, row.name, row.role.word());
    let mut answer = (StatusCode::CREATED, Json(MadeToken { row, token })).into_response();
    answer.extensions_mut().insert(Note(note));
    Ok(answer)
}

/// Takes a token back, by its id or its name.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access",
    params(("id" = String, Path, description = "Id of the token, or its name")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(api): State<Shared>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    api.view.tokens().delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let status = match error {
            TokenError::Unknown => StatusCode::NOT_FOUND,
            TokenError::Invalid(_) => StatusCode::BAD_REQUEST,
            TokenError::Unwritten(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
