//! Views of the node as a whole: mirror, configuration in force, audit stream.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{self, ListQuery, Page};
use super::problem::Problem;
use super::records::{self, RecordsQuery};
use super::{Asked, AuditRow, Routes, Shared};
use crate::auth::Role;
use crate::downlink::DownlinkRow;
use crate::node::AUDIT;

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigView {
    /// As a file would say it, defaults included; secrets are masked.
    pub toml: String,
}

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/mirror", Role::Viewer, mirror);
    routes.add(
        Method::POST,
        "/api/v1/mirror/enable",
        Role::Operator,
        enable_mirror,
    );
    routes.add(
        Method::POST,
        "/api/v1/mirror/disable",
        Role::Operator,
        disable_mirror,
    );
    routes.add(Method::GET, "/api/v1/downlinks", Role::Viewer, downlinks);
    routes.add(Method::GET, "/api/v1/config", Role::Admin, config);
    routes.add(Method::GET, "/api/v1/audit", Role::Admin, audit);
}

/// What the mirror into an Apache Kafka cluster does, by stream and partition.
#[utoipa::path(get, path = "/api/v1/mirror", tag = "node",
    responses((status = 200, description = "State, errors, threads and streams", body = Object)))]
pub(super) async fn mirror(State(api): State<Shared>) -> Json<crate::mirror::view::MirrorView> {
    Json(api.view.mirror())
}

/// Lets the mirror begin transactions again; it goes on behind what the cluster has.
#[utoipa::path(post, path = "/api/v1/mirror/enable", tag = "node",
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn enable_mirror(State(api): State<Shared>) -> Result<StatusCode, Problem> {
    switch(&api, true)
}

/// Lets the mirror begin no transaction until it is enabled, or until the next start; those under
/// way come to their end. What comes meanwhile stays on the disk.
#[utoipa::path(post, path = "/api/v1/mirror/disable", tag = "node",
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn disable_mirror(State(api): State<Shared>) -> Result<StatusCode, Problem> {
    switch(&api, false)
}

fn switch(api: &Shared, on: bool) -> Result<StatusCode, Problem> {
    if !api.view.switch_mirror(on) {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "there is no mirror: the configuration has no table [mirror]",
        ));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The downlinks: where their records come from, how far they are, what became of the records.
#[utoipa::path(get, path = "/api/v1/downlinks", tag = "node",
    params(ListQuery), responses((status = 200, body = Page<DownlinkRow>)))]
pub(super) async fn downlinks(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<DownlinkRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    list::page(api.view.downlinks(), &query, limit).map(Json)
}

/// The configuration in force.
#[utoipa::path(get, path = "/api/v1/config", tag = "node",
    responses((status = 200, body = ConfigView)))]
pub(super) async fn config(State(api): State<Shared>) -> Json<ConfigView> {
    Json(ConfigView {
        toml: api.view.config(),
    })
}

/// What was changed over this API, by whom; the oldest first. The newest: `offset=-100`. It is the
/// stream `__sluice.audit`.
#[utoipa::path(get, path = "/api/v1/audit", tag = "access", params(RecordsQuery),
    responses((status = 200, body = Page<AuditRow>)))]
pub(super) async fn audit(
    State(api): State<Shared>,
    Asked(query): Asked<RecordsQuery>,
) -> Result<Json<Page<AuditRow>>, Problem> {
    let Some(log) = api.view.log().cloned() else {
        return Ok(Json(Page::default()));
    };
    let permit = std::sync::Arc::clone(&api.reading).acquire_owned().await;
    let page = tokio::task::spawn_blocking(move || {
        let _held = permit;
        records::read(&log, AUDIT, &query)
    });
    let failed = |_| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the reading was interrupted",
        )
    };
    let page = page.await.map_err(failed)??;
    let row = |value: Option<String>| {
        let json = base64_simd::STANDARD.decode_to_vec(value?).ok()?;
        serde_json::from_slice(&json).ok()
    };
    let items = page.items.into_iter();
    Ok(Json(Page {
        items: items
            .filter_map(|record| row(record.value_base64))
            .collect(),
        next: page.next,
    }))
}
