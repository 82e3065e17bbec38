//! The operator's console: pages and files that are within the binary. A page holds no figure of the
//! node: its scripts ask `/api/v1`, with the operator's token. This module knows no node and no API.

mod assets;
mod headers;
mod pages;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

/// The routes of the console: a page for each entry of the menu, and the files under `/assets/`.
/// Nothing here asks who is there; nothing here is secret.
pub fn router() -> Router {
    let mut router = Router::new().route("/assets/{*path}", get(asset));
    for page in pages::all() {
        router = router.route(
            page.path,
            get(async move |headers: HeaderMap| pages::answer(page, &headers)),
        );
    }
    router
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    assets::answer(&path, &headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

#[cfg(test)]
mod tests;
