//! The users over HTTP: list, add, change, delete. Passwords come in and never go out, in errors
//! neither.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::view::NodeView;
use super::{Shared, page_rows};
use crate::auth::{ChangeError, Password, UserRow};

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Which users, and from where on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersQuery {
    /// Only names behind this one: `next` of the page before.
    pub after: Option<String>,
    /// Most rows; bounded by `page_rows_max` of `[http]`.
    pub limit: Option<u32>,
}

/// A page of users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPage {
    /// Sorted by name.
    pub users: Vec<UserRow>,
    /// `after` of the next page; `None`: this is the last.
    pub next: Option<String>,
}

/// A user to be added.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

/// Another password.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The password.
    pub password: String,
}

/// The routes of the users.
pub(super) fn routes<V: NodeView>() -> Router<Shared<V>> {
    Router::new()
        .route("/api/v1/users", get(list::<V>).post(add::<V>))
        .route("/api/v1/users/{name}", put(change::<V>).delete(delete::<V>))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

async fn list<V: NodeView>(
    State(shared): State<Shared<V>>,
    query: Result<Query<UsersQuery>, QueryRejection>,
) -> Result<Json<UserPage>, Problem> {
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let limit = page_rows(&shared, query.limit)? as usize;
    // One row more tells whether there is another page.
    let mut users = shared
        .view
        .users()
        .page(query.after.as_deref(), limit.saturating_add(1));
    let more = users.len() > limit;
    users.truncate(limit);
    let next = users.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(UserPage { users, next }))
}

// What is wrong with a body is not said in words of the decoder: they could quote a password.
async fn add<V: NodeView>(
    State(shared): State<Shared<V>>,
    body: Result<Json<NewUser>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(user) = body.map_err(|_| bad("the body is JSON with `name` and `password`"))?;
    let password = Password::new(user.password).map_err(bad)?;
    let row = shared.view.users().add(&user.name, password).await?;
    Ok((StatusCode::CREATED, Json(row)).into_response())
}

async fn change<V: NodeView>(
    State(shared): State<Shared<V>>,
    Path(name): Path<String>,
    body: Result<Json<NewPassword>, JsonRejection>,
) -> Result<Json<UserRow>, Problem> {
    let Json(new) = body.map_err(|_| bad("the body is JSON with `password`"))?;
    let password = Password::new(new.password).map_err(bad)?;
    let row = shared.view.users().set_password(&name, password).await?;
    Ok(Json(row))
}

async fn delete<V: NodeView>(
    State(shared): State<Shared<V>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    shared.view.users().delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn bad(what: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, what)
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let status = match error {
            ChangeError::Exists => StatusCode::CONFLICT,
            ChangeError::Unknown => StatusCode::NOT_FOUND,
            ChangeError::Invalid(_) => StatusCode::BAD_REQUEST,
            ChangeError::Unwritten(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
