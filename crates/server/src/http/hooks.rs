//! Hooks over HTTP: list, switch on and off, read the file anew.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};

use super::list::{self, ListQuery, Page};
use super::lists::unknown;
use super::problem::Problem;
use super::view::HookRow;
use super::{Asked, Named, Routes, Shared};
use crate::auth::Role;
use crate::node::HookChangeError;

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/hooks", Role::Viewer, hooks);
    routes.add(Method::POST, "/api/v1/hooks/reload", Role::Operator, reload);
    routes.add(
        Method::POST,
        "/api/v1/hooks/{name}/enable",
        Role::Operator,
        enable,
    );
    routes.add(
        Method::POST,
        "/api/v1/hooks/{name}/disable",
        Role::Operator,
        disable,
    );
}

/// The hooks.
#[utoipa::path(get, path = "/api/v1/hooks", tag = "hooks", params(ListQuery),
    responses((status = 200, body = Page<HookRow>)))]
pub(super) async fn hooks(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<HookRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    let mut rows = api.view.hooks().await;
    for row in &mut rows {
        row.matched_per_s = api.samples.hook_per_s(&row.name);
    }
    list::page(rows, &query, limit).map(Json)
}

/// Reads the hooks of the configuration file anew; all of them are switched on. Nothing else of the
/// file counts before the next start.
#[utoipa::path(post, path = "/api/v1/hooks/reload", tag = "hooks",
    responses((status = 204), (status = 400, body = Problem)))]
pub(super) async fn reload(State(api): State<Shared>) -> Result<StatusCode, Problem> {
    api.view.reload_hooks().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a hook write again.
#[utoipa::path(post, path = "/api/v1/hooks/{name}/enable", tag = "hooks",
    params(("name" = String, Path, description = "Name of the hook")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn enable(
    State(api): State<Shared>,
    Named(name): Named,
) -> Result<StatusCode, Problem> {
    switch(&api, name, true).await
}

/// Lets a hook write nothing until it is enabled, or until the next start or reload.
#[utoipa::path(post, path = "/api/v1/hooks/{name}/disable", tag = "hooks",
    params(("name" = String, Path, description = "Name of the hook")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn disable(
    State(api): State<Shared>,
    Named(name): Named,
) -> Result<StatusCode, Problem> {
    switch(&api, name, false).await
}

async fn switch(api: &Shared, name: String, on: bool) -> Result<StatusCode, Problem> {
    match api.view.switch_hook(name.clone(), on).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(HookChangeError::Unknown) => Err(unknown("hook", &name)),
        Err(error) => Err(error.into()),
    }
}

impl From<HookChangeError> for Problem {
    fn from(error: HookChangeError) -> Self {
        match error {
            HookChangeError::Unknown => unknown("hook", "of that name"),
            HookChangeError::Invalid(what) => Self::new(StatusCode::BAD_REQUEST, what),
        }
    }
}
