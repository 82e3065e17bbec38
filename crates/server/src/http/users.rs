//! The users over HTTP: list, add, change, delete. Passwords come in and never go out, in errors
//! neither.

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
use crate::auth::imported::Imported;
use crate::auth::{ChangeError, Password, Role, UserRow};

/// A user to be added.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

/// Another password.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The password.
    pub password: String,
}

/// Longest request to import users, in bytes.
const IMPORT_BYTES_MAX: usize = 1 << 20;

/// Users of another broker.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportUsers {
    /// The users.
    pub users: Vec<ImportedUser>,
    /// Whether users that are there are replaced.
    #[serde(default)]
    pub replace: bool,
}

/// A user of another broker.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportedUser {
    /// Its name.
    pub name: String,
    /// The hash of its password.
    pub hash: Imported,
}

/// What became of them.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ImportAnswer {
    /// How many were added or replaced.
    pub imported: u64,
    /// Each of the others, and why it was not.
    pub refused: Vec<String>,
}

impl Listed for UserRow {
    const FIELDS: &'static [&'static str] = &["name", "created_ms", "changed_ms"];

    fn field(&self, number: usize) -> Cell<'_> {
        match number {
            0 => (&*self.name).into(),
            1 => self.created_ms.into(),
            _ => self.changed_ms.into(),
        }
    }
}

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/users", Role::Admin, users);
    routes.add(Method::POST, "/api/v1/users", Role::Admin, add);
    let import = "/api/v1/users/import";
    routes.add_with(
        Method::POST,
        import,
        Role::Admin,
        IMPORT_BYTES_MAX,
        import_all,
    );
    let one = "/api/v1/users/{name}";
    routes.add(Method::PUT, one, Role::Admin, change);
    routes.add(Method::DELETE, one, Role::Admin, delete);
}

/// The users.
#[utoipa::path(get, path = "/api/v1/users", tag = "access", params(ListQuery),
    responses((status = 200, body = Page<UserRow>)))]
pub(super) async fn users(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<UserRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    if query.filter.is_some() || query.sort.is_some() {
        return list::page(api.view.users().list(), &query, limit).map(Json);
    }
    // By name, without a look at all of them: there may be very many.
    let after: Option<(String,)> = query.cursor.as_deref().map(list::decode).transpose()?;
    let after = after.as_ref().map(|(name,)| name.as_str());
    let mut items = api.view.users().page(after, limit.saturating_add(1));
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next = last.map(|last| list::encode(&(&last.name,)));
    Ok(Json(Page { items, next }))
}

// What is wrong with a body is not said in words of the decoder: they could quote a password.
/// Adds a user.
#[utoipa::path(post, path = "/api/v1/users", tag = "access", request_body = NewUser,
    responses((status = 201, body = UserRow), (status = 409, body = Problem)))]
pub(super) async fn add(
    State(api): State<Shared>,
    body: Result<Json<NewUser>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(user) =
        body.map_err(|error| unreadable(&error, "the body is JSON with `name` and `password`"))?;
    let password = Password::new(user.password).map_err(bad)?;
    let row = api.view.users().add(&user.name, password).await?;
    let note = Note(format!("user {}", row.name));
    let mut answer = (StatusCode::CREATED, Json(row)).into_response();
    answer.extensions_mut().insert(note);
    Ok(answer)
}

/// Adds users with hashes that other brokers made.
#[utoipa::path(post, path = "/api/v1/users/import", tag = "access", request_body = ImportUsers,
    responses((status = 200, body = ImportAnswer), (status = 400, body = Problem)))]
pub(super) async fn import_all(
    State(api): State<Shared>,
    body: Result<Json<ImportUsers>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(said) = body.map_err(|error| {
        unreadable(
            &error,
            "the body is JSON with `users`, each a `name` and a `hash`",
        )
    })?;
    let mut answer = ImportAnswer::default();
    for user in said.users {
        match api
            .view
            .users()
            .import(&user.name, user.hash, said.replace)
            .await
        {
            Ok(()) => answer.imported += 1,
            Err(ChangeError::Unwritten(why)) => return Err(ChangeError::Unwritten(why).into()),
            Err(error) => answer.refused.push(format!("user {}: {error}", user.name)),
        }
    }
    let note = Note(format!("{} users imported", answer.imported));
    let mut answer = Json(answer).into_response();
    answer.extensions_mut().insert(note);
    Ok(answer)
}

/// Gives a user another password.
#[utoipa::path(put, path = "/api/v1/users/{name}", tag = "access", request_body = NewPassword,
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = 200, body = UserRow), (status = 404, body = Problem)))]
pub(super) async fn change(
    State(api): State<Shared>,
    Named(name): Named,
    body: Result<Json<NewPassword>, JsonRejection>,
) -> Result<Json<UserRow>, Problem> {
    let Json(new) = body.map_err(|error| unreadable(&error, "the body is JSON with `password`"))?;
    let password = Password::new(new.password).map_err(bad)?;
    let row = api.view.users().set_password(&name, password).await?;
    Ok(Json(row))
}

/// Deletes a user.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "access",
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(api): State<Shared>,
    Named(name): Named,
) -> Result<StatusCode, Problem> {
    api.view.users().delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Without what was sent: it may hold a password.
fn unreadable(error: &JsonRejection, wanted: &str) -> Problem {
    Problem::of_body(error, wanted)
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
