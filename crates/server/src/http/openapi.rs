//! The description of the API as an OpenAPI document, made from the code of its handlers. A test
//! holds it to the routes that there really are.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use super::{
    backup, bans, clients, hooks, lists, live, logs, publish, records, retained, running, tokens,
    trace, users,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice",
        description = "Reads what a node does and changes it. Errors are problem documents (RFC 9457)."
    ),
    paths(
        document, super::status,
        lists::listeners, lists::streams, lists::stream, lists::groups, lists::group,
        lists::connections,
        clients::clients, clients::client, clients::kick, clients::subscriptions,
        retained::messages, retained::message,
        retained::delete,
        hooks::hooks, hooks::reload, hooks::enable, hooks::disable,
        trace::trace,
        backup::backup,
        bans::bans,
        bans::add,
        bans::delete,
        records::records,
        live::live, live::history, live::tail,
        publish::publish, publish::publish_batch,
        logs::lines, logs::level, logs::set_level,
        running::mirror, running::enable_mirror, running::disable_mirror, running::downlinks, running::config, running::audit,
        users::users, users::add, users::import_all, users::change, users::delete,
        tokens::tokens, tokens::add, tokens::delete,
    ),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Described;

/// How callers say who they are.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", scheme);
    }
}

/// The document.
pub fn described() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "node",
    responses((status = 200, description = "An OpenAPI document")))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(described())
}
