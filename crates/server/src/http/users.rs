//! The users over HTTP: list, add, change, delete. Passwords come in and never go out, in errors
//! neither.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
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
    headers: HeaderMap,
    body: Result<Json<NewUser>, JsonRejection>,
) -> Result<Response, Problem> {
    local(&headers)?;
    let Json(user) = body.map_err(|_| bad("the body is JSON with `name` and `password`"))?;
    let password = Password::new(user.password).map_err(bad)?;
    let row = shared.view.users().add(&user.name, password).await?;
    Ok((StatusCode::CREATED, Json(row)).into_response())
}

async fn change<V: NodeView>(
    State(shared): State<Shared<V>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Json<NewPassword>, JsonRejection>,
) -> Result<Json<UserRow>, Problem> {
    local(&headers)?;
    let Json(new) = body.map_err(|_| bad("the body is JSON with `password`"))?;
    let password = Password::new(new.password).map_err(bad)?;
    let row = shared.view.users().set_password(&name, password).await?;
    Ok(Json(row))
}

async fn delete<V: NodeView>(
    State(shared): State<Shared<V>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    local(&headers)?;
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

/// Refuses what a web page of elsewhere makes a browser on this machine ask: whoever means this
/// node names it by a loopback address, and a page of its own has no other origin.
fn local(headers: &HeaderMap) -> Result<(), Problem> {
    let own = |name| {
        headers.get(name).is_none_or(|value| {
            value.to_str().is_ok_and(|text| {
                let text = text.strip_prefix("http://").unwrap_or(text);
                loopback(text)
            })
        })
    };
    if own(header::HOST) && own(header::ORIGIN) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "changes are taken under a loopback address only, such as 127.0.0.1 or localhost",
    ))
}

/// Whether `host` or `host:port` is this machine.
fn loopback(text: &str) -> bool {
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => text.split(':').next().unwrap_or(text),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_this_machine() {
        for own in [
            "localhost",
            "localhost:80",
            "127.0.0.1:18083",
            "[::1]:1",
            "127.1.2.3",
        ] {
            assert!(loopback(own), "{own}");
        }
        for other in [
            "evil.example",
            "10.0.0.1:80",
            "localhost.evil",
            "",
            "[::2]:1",
        ] {
            assert!(!loopback(other), "{other}");
        }
    }
}
