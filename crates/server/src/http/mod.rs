//! The HTTP interface: metrics, health, and the API that reads what the node does and changes its
//! users, over whatever implements [`NodeView`]. It asks nobody who is there, so its listener is on
//! loopback only: who can connect to it owns every user. It knows no MQTT and no Kafka.

mod bounded;
mod local;
pub mod node_view;
pub mod problem;
pub mod users;
pub mod view;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::bounded::Bounded;
use self::problem::Problem;
use self::view::{ClientsQuery, ConnectionsQuery, GroupsQuery, Hooks, NodeView, Streams};

/// Content type of the metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every handler has at hand.
struct Shared<V> {
    view: Arc<V>,
    page_rows_max: u32,
}

impl<V> Clone for Shared<V> {
    fn clone(&self) -> Self {
        Self {
            view: Arc::clone(&self.view),
            page_rows_max: self.page_rows_max,
        }
    }
}

/// Serves on `listener` until `stop` turns true; requests on their way are answered. At most
/// [`bounded::CONNECTIONS_MAX`] connections are open at a time.
///
/// # Errors
/// When the listener itself fails.
pub async fn serve<V: NodeView>(
    view: Arc<V>,
    page_rows_max: u32,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let stopped = async move {
        // An error says that nobody is left to stop us: as good as a stop.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(Bounded::new(listener), router(view, page_rows_max))
        .with_graceful_shutdown(stopped)
        .await
}

/// All routes.
pub fn router<V: NodeView>(view: Arc<V>, page_rows_max: u32) -> Router {
    let api = Router::new()
        .route("/api/v1/status", get(status::<V>))
        .route("/api/v1/clients", get(clients::<V>))
        .route("/api/v1/streams", get(streams::<V>))
        .route("/api/v1/hooks", get(hooks::<V>))
        .route("/api/v1/groups", get(groups::<V>))
        .route("/api/v1/kafka", get(kafka_connections::<V>))
        .merge(users::routes::<V>())
        .route_layer(axum::middleware::from_fn(local::only_local));
    Router::new()
        .route("/metrics", get(metrics::<V>))
        .route("/healthz", get(healthz::<V>))
        .merge(api)
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .with_state(Shared {
            view,
            page_rows_max,
        })
}

async fn metrics<V: NodeView>(State(shared): State<Shared<V>>) -> Response {
    let text = shared.view.metrics().await;
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

async fn healthz<V: NodeView>(State(shared): State<Shared<V>>) -> Response {
    match shared.view.trouble() {
        None => Json(json!({ "status": "serving" })).into_response(),
        Some(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

async fn status<V: NodeView>(State(shared): State<Shared<V>>) -> Response {
    Json(shared.view.status().await).into_response()
}

async fn clients<V: NodeView>(
    State(shared): State<Shared<V>>,
    query: Result<Query<ClientsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(mut query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    query.limit = Some(page_rows(&shared, query.limit)?);
    Ok(Json(shared.view.clients(query).await).into_response())
}

/// The rows of a page, of which so many are asked for.
fn page_rows<V>(shared: &Shared<V>, limit: Option<u32>) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(shared.page_rows_max);
    if limit == 0 {
        let detail = format!("limit must be 1 to {}", shared.page_rows_max);
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(limit.min(shared.page_rows_max))
}

async fn groups<V: NodeView>(
    State(shared): State<Shared<V>>,
    query: Result<Query<GroupsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(mut query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    query.limit = Some(page_rows(&shared, query.limit)?);
    Ok(Json(shared.view.groups(query)).into_response())
}

async fn kafka_connections<V: NodeView>(
    State(shared): State<Shared<V>>,
    query: Result<Query<ConnectionsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(mut query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    query.limit = Some(page_rows(&shared, query.limit)?);
    Ok(Json(shared.view.kafka_connections(&query)).into_response())
}

async fn streams<V: NodeView>(State(shared): State<Shared<V>>) -> Response {
    Json(Streams {
        streams: shared.view.streams(),
    })
    .into_response()
}

async fn hooks<V: NodeView>(State(shared): State<Shared<V>>) -> Response {
    Json(Hooks {
        hooks: shared.view.hooks(),
    })
    .into_response()
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not answer that method",
    )
}

async fn no_such_path(uri: Uri) -> Problem {
    let detail = format!(
        "there is nothing at {}; there are /metrics, /healthz and /api/v1/ with status, clients, \
         streams, hooks, groups and kafka",
        uri.path()
    );
    Problem::new(StatusCode::NOT_FOUND, detail)
}

#[cfg(test)]
mod tests;
