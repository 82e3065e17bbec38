//! Lists that need no file of their own: listeners, streams, groups, Kafka connections.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};

use super::list::{self, ListQuery, Page};
use super::problem::Problem;
use super::view::{GroupRow, ListenerRow, StreamRow};
use super::{Asked, Named, Routes, Shared};
use crate::auth::Role;
use crate::kafka::ConnectionRow;

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/listeners", Role::Viewer, listeners);
    routes.add(Method::GET, "/api/v1/streams", Role::Viewer, streams);
    routes.add(Method::GET, "/api/v1/streams/{name}", Role::Viewer, stream);
    routes.add(Method::GET, "/api/v1/groups", Role::Viewer, groups);
    routes.add(Method::GET, "/api/v1/groups/{id}", Role::Viewer, group);
    routes.add(Method::GET, "/api/v1/kafka", Role::Viewer, connections);
}

/// A problem: there is no such thing.
pub(super) fn unknown(what: &str, name: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no {what} {name}"))
}

/// The listeners.
#[utoipa::path(get, path = "/api/v1/listeners", tag = "node", params(ListQuery),
    responses((status = 200, body = Page<ListenerRow>)))]
pub(super) async fn listeners(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<ListenerRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    list::page(api.view.listeners(), &query, limit).map(Json)
}

/// The streams, the node's own too.
#[utoipa::path(get, path = "/api/v1/streams", tag = "streams", params(ListQuery),
    responses((status = 200, body = Page<StreamRow>)))]
pub(super) async fn streams(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<StreamRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    list::page(api.view.streams(), &query, limit).map(Json)
}

/// One stream: settings, size and partitions.
#[utoipa::path(get, path = "/api/v1/streams/{name}", tag = "streams",
    params(("name" = String, Path, description = "Name of the stream")),
    responses((status = 200, body = StreamRow), (status = 404, body = Problem)))]
pub(super) async fn stream(
    State(api): State<Shared>,
    Named(name): Named,
) -> Result<Json<StreamRow>, Problem> {
    let mut streams = api.view.streams().into_iter();
    let found = streams.find(|stream| stream.name == name);
    found.map(Json).ok_or_else(|| unknown("stream", &name))
}

/// The consumer groups with their members, offsets and lag, by id.
#[utoipa::path(get, path = "/api/v1/groups", tag = "kafka", params(ListQuery),
    responses((status = 200, body = Page<GroupRow>)))]
pub(super) async fn groups(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<GroupRow>>, Problem> {
    list::order(query.sort.as_deref(), &["group"])?;
    let limit = api.page_rows(query.limit)?;
    let (filter, after) = (query.filter.as_deref(), query.cursor.as_deref());
    Ok(Json(api.view.groups(filter, after, limit)))
}

/// One consumer group.
#[utoipa::path(get, path = "/api/v1/groups/{id}", tag = "kafka",
    params(("id" = String, Path, description = "Id of the group")),
    responses((status = 200, body = GroupRow), (status = 404, body = Problem)))]
pub(super) async fn group(
    State(api): State<Shared>,
    Named(id): Named,
) -> Result<Json<GroupRow>, Problem> {
    let mut after = None;
    loop {
        let limit = api.page_rows_max as usize;
        let page = api.view.groups(Some(&id), after.as_deref(), limit);
        if let Some(found) = page.items.into_iter().find(|group| group.group == id) {
            return Ok(Json(found));
        }
        after = page.next;
        if after.is_none() {
            return Err(unknown("group", &id));
        }
    }
}

/// The Kafka connections, oldest first.
#[utoipa::path(get, path = "/api/v1/kafka", tag = "kafka", params(ListQuery),
    responses((status = 200, body = Page<ConnectionRow>)))]
pub(super) async fn connections(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<ConnectionRow>>, Problem> {
    list::order(query.sort.as_deref(), &["id"])?;
    let limit = api.page_rows(query.limit)?;
    let after = match query.cursor.as_deref() {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "cursor: it is no number"))?,
    };
    Ok(Json(api.view.kafka_connections(after, limit)))
}
