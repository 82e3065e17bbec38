//! The HTTP interface: metrics, health, and the API `/api/v1` that reads what the node does and
//! changes it, over whatever implements [`NodeView`]. Any listener can serve [`router`]. It knows no
//! MQTT and no Kafka.

mod audit;
pub mod backup;
mod bans;
mod clients;
mod counters;
mod events;
mod gate;
mod hooks;
pub mod limits;
pub mod list;
mod lists;
pub mod live;
mod local;
pub mod logs;
pub mod node_view;
mod openapi;
mod places;
pub mod problem;
pub mod publish;
mod records;
mod retained;
mod rows;
mod running;
mod serving;
mod time;
mod tokens;
mod trace;
pub mod users;
pub mod view;

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{Semaphore, watch};

pub use self::audit::AuditRow;
pub use self::counters::HttpValues;
use self::gate::Gate;
pub use self::gate::{Caller, Door, PeerAddress, Proof};
use self::problem::Problem;
pub use self::running::ConfigView;
pub use self::serving::{converse, serve};
pub use self::time::rfc3339;
pub use self::tokens::{MadeToken, NewToken};
use self::view::{NodeView, Status};
use crate::auth::Role;

/// Content type of the metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every handler has at hand; made once, for all listeners of a node.
pub struct Api {
    view: Arc<dyn NodeView>,
    page_rows_max: u32,
    /// Readings of records under way.
    reading: Arc<Semaphore>,
    /// Streams of events that are open.
    events: Arc<Semaphore>,
    /// Room for large bodies, in units of [`gate::ROOM_UNIT_BYTES`].
    large_bodies: Arc<Semaphore>,
    samples: live::Samples,
    counters: counters::HttpCounters,
    /// Held while a backup is made.
    backing_up: Semaphore,
    stop: watch::Receiver<bool>,
}

/// The API, shared.
pub type Shared = Arc<Api>;

impl Api {
    /// The API over a view. Streams of events end when `stop` turns true.
    pub fn new(view: Arc<dyn NodeView>, page_rows_max: u32, stop: watch::Receiver<bool>) -> Shared {
        Arc::new(Self {
            view,
            page_rows_max,
            reading: Arc::new(Semaphore::new(limits::RECORD_READS_MAX)),
            events: Arc::new(Semaphore::new(limits::EVENT_STREAMS_MAX)),
            large_bodies: Arc::new(Semaphore::new(
                limits::BODIES_BYTES_MAX / gate::ROOM_UNIT_BYTES,
            )),
            samples: live::Samples::default(),
            counters: counters::HttpCounters::default(),
            backing_up: Semaphore::new(1),
            stop,
        })
    }

    /// The rows of a page, of which so many are asked for.
    fn page_rows(&self, limit: Option<u32>) -> Result<usize, Problem> {
        let limit = limit.unwrap_or(self.page_rows_max.min(PAGE_ROWS));
        if limit == 0 {
            let detail = format!("limit must be 1 to {}", self.page_rows_max);
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        Ok(limit.min(self.page_rows_max) as usize)
    }
}

/// Rows of a page where nothing is said.
const PAGE_ROWS: u32 = 100;

/// All routes, for a listener of that kind: metrics, health, API, and the console beside them.
pub fn router(api: &Shared, door: Door) -> Router {
    let mut routes = Routes {
        api: Arc::clone(api),
        door,
        router: Router::new(),
        table: Vec::new(),
    };
    everything(&mut routes);
    routes
        .router
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .with_state(Arc::clone(api))
        .layer(map_response(sealed))
        .merge(crate::console::router())
        .layer(from_fn_with_state(Arc::clone(api), counters::count))
}

/// Method, path and least role of every route of the API.
pub fn table(api: &Shared) -> Vec<(Method, &'static str, Role)> {
    let mut routes = Routes {
        api: Arc::clone(api),
        door: Door { local: true },
        router: Router::new(),
        table: Vec::new(),
    };
    everything(&mut routes);
    routes.table
}

/// Routes that are being gathered, each behind its gate.
struct Routes {
    api: Shared,
    door: Door,
    router: Router<Shared>,
    table: Vec<(Method, &'static str, Role)>,
}

impl Routes {
    /// A route of the API, for callers of that role or a greater one.
    fn add<H, T>(&mut self, method: Method, path: &'static str, role: Role, handler: H)
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        self.add_with(method, path, role, limits::BODY_BYTES_MAX, handler);
    }

    /// The same for bodies of another size.
    fn add_with<H, T>(
        &mut self,
        method: Method,
        path: &'static str,
        role: Role,
        body_bytes_max: usize,
        handler: H,
    ) where
        H: Handler<T, Shared>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a method of HTTP/1.1");
        let gate = Gate {
            shared: Arc::clone(&self.api),
            door: self.door,
            role,
            body_bytes_max,
        };
        let guarded = on(filter, handler)
            .layer(DefaultBodyLimit::max(body_bytes_max))
            .layer(from_fn_with_state(gate, gate::admit));
        self.table.push((method, path, role));
        self.router = std::mem::take(&mut self.router).route(path, guarded);
    }
}

fn everything(routes: &mut Routes) {
    routes.router = std::mem::take(&mut routes.router).route("/healthz", get(healthz));
    let metrics_gate = Gate {
        shared: Arc::clone(&routes.api),
        door: routes.door,
        role: Role::Viewer,
        body_bytes_max: 0,
    };
    let mut scrape = get(metrics);
    if !routes.door.local {
        let layer = from_fn_with_state(metrics_gate, gate::admit);
        scrape = scrape.layer(layer);
    }
    routes.router = std::mem::take(&mut routes.router).route("/metrics", scrape);
    routes.add(
        Method::GET,
        "/api/v1/openapi.json",
        Role::Viewer,
        openapi::document,
    );
    routes.add(Method::GET, "/api/v1/status", Role::Viewer, status);
    lists::routes(routes);
    clients::routes(routes);
    retained::routes(routes);
    records::routes(routes);
    live::routes(routes);
    publish::routes(routes);
    logs::routes(routes);
    running::routes(routes);
    hooks::routes(routes);
    trace::routes(routes);
    backup::routes(routes);
    bans::routes(routes);
    users::routes(routes);
    tokens::routes(routes);
}

/// What stands behind `?`, with mistakes as problems.
pub(crate) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, error.body_text())),
        }
    }
}

/// The name in a path, with mistakes as problems.
pub(crate) struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, error.body_text())),
        }
    }
}

/// Who asks, as the gate found out.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self {
            name: String::new(),
            role: Role::Viewer,
            proof: Proof::Nothing,
            least: Role::Viewer,
            peer: None,
        }))
    }
}

async fn metrics(State(api): State<Shared>) -> Response {
    let http = HttpValues {
        event_streams: (limits::EVENT_STREAMS_MAX - api.events.available_permits()) as u64,
        ..api.counters.values()
    };
    let text = api.view.metrics(http).await;
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

async fn healthz(State(api): State<Shared>) -> Response {
    match api.view.trouble() {
        None => Json(json!({ "status": "serving" })).into_response(),
        Some(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

/// The node in a few figures, and what is wrong with it.
#[utoipa::path(get, path = "/api/v1/status", tag = "node", responses((status = 200, body = Status)))]
async fn status(State(api): State<Shared>) -> Json<Status> {
    Json(api.view.status().await)
}

/// An answer is what its type says, and nobody keeps it: it may hold a token.
async fn sealed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, no_store);
    response
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not answer that method",
    )
}

async fn no_such_path(uri: Uri) -> Problem {
    let detail = format!(
        "there is nothing at {}; there are /metrics, /healthz, and what /api/v1/openapi.json names",
        uri.path()
    );
    Problem::new(StatusCode::NOT_FOUND, detail)
}

#[cfg(test)]
mod tests;
