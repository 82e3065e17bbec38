//! Clients and their subscriptions: pages gathered from the workers, details, disconnect.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use broker::{ClientOrder, ClientQuery, OrderKey, SubscriptionQuery};
use serde::Deserialize;
use utoipa::IntoParams;

use super::list::{self, ListQuery, Page};
use super::lists::unknown;
use super::problem::Problem;
use super::view::{ClientDetails, ClientRow, SubscriptionRow};
use super::{Asked, Named, Routes, Shared, node_view};
use crate::auth::Role;

/// Which clients, and from where on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClientsQuery {
    /// Most items; bounded by `page_rows_max` of `[http]`.
    pub limit: Option<u32>,
    /// `next` of the page before; absent: the first page.
    pub cursor: Option<String>,
    /// Only clients whose id or user name contains this text.
    pub filter: Option<String>,
    /// `client_id`, `username`, `connected_ms`, `owed`, `inflight` or `subscriptions`; with `-` in
    /// front the other way round.
    pub sort: Option<String>,
    /// Only clients with (`true`) or without (`false`) a connection.
    pub connected: Option<bool>,
}

const ORDERS: [(&str, ClientOrder); 6] = [
    ("client_id", ClientOrder::Id),
    ("username", ClientOrder::Username),
    ("connected_ms", ClientOrder::Connected),
    ("owed", ClientOrder::Owed),
    ("inflight", ClientOrder::Inflight),
    ("subscriptions", ClientOrder::Subscriptions),
];

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/clients", Role::Viewer, clients);
    routes.add(Method::GET, "/api/v1/clients/{id}", Role::Viewer, client);
    routes.add(Method::DELETE, "/api/v1/clients/{id}", Role::Operator, kick);
    routes.add(
        Method::GET,
        "/api/v1/subscriptions",
        Role::Viewer,
        subscriptions,
    );
}

/// The clients, with a connection or without.
#[utoipa::path(get, path = "/api/v1/clients", tag = "clients", params(ClientsQuery),
    responses((status = 200, body = Page<ClientRow>), (status = 400, body = Problem)))]
pub(super) async fn clients(
    State(api): State<Shared>,
    Asked(query): Asked<ClientsQuery>,
) -> Result<Json<Page<ClientRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    let (field, descending) = list::order(query.sort.as_deref(), &ORDERS.map(|(name, _)| name))?;
    let after = match query.cursor.as_deref() {
        None => None,
        Some(cursor) => {
            let (number, text, id): (u64, Option<String>, String) = list::decode(cursor)?;
            Some((text.map_or(OrderKey::Number(number), OrderKey::Text), id))
        }
    };
    let page = api.view.clients(ClientQuery {
        contains: query.filter.filter(|text| !text.is_empty()),
        connected: query.connected,
        order: ORDERS[field].1,
        descending,
        after,
        limit,
    });
    let page = page.await;
    let next = page.next.map(|(key, id)| match key {
        OrderKey::Number(number) => list::encode(&(number, None::<String>, id)),
        OrderKey::Text(text) => list::encode(&(0, Some(text), id)),
    });
    Ok(Json(Page {
        items: page.clients.into_iter().map(node_view::client).collect(),
        next,
    }))
}

/// One client: its session, subscriptions, will and limits.
#[utoipa::path(get, path = "/api/v1/clients/{id}", tag = "clients",
    params(("id" = String, Path, description = "Client id")),
    responses((status = 200, body = ClientDetails), (status = 404, body = Problem)))]
pub(super) async fn client(
    State(api): State<Shared>,
    Named(id): Named,
) -> Result<Json<ClientDetails>, Problem> {
    let found = api.view.client(id.clone()).await;
    found.map(Json).ok_or_else(|| unknown("client", &id))
}

/// Ends the connection of a client; its session stays as it is.
#[utoipa::path(delete, path = "/api/v1/clients/{id}", tag = "clients",
    params(("id" = String, Path, description = "Client id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn kick(
    State(api): State<Shared>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    if api.view.kick(id.clone()).await {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown("connected client", &id))
    }
}

/// The subscriptions of all clients, by client and filter.
#[utoipa::path(get, path = "/api/v1/subscriptions", tag = "clients", params(ListQuery),
    responses((status = 200, body = Page<SubscriptionRow>), (status = 400, body = Problem)))]
pub(super) async fn subscriptions(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<SubscriptionRow>>, Problem> {
    let limit = api.page_rows(query.limit)?;
    let (field, descending) = list::order(query.sort.as_deref(), &["client_id", "filter"])?;
    let after = query.cursor.as_deref().map(list::decode).transpose()?;
    let asked = SubscriptionQuery {
        contains: query.filter.filter(|text| !text.is_empty()),
        by_filter: field == 1,
        descending,
        after,
        limit,
    };
    let (items, more) = api.view.subscriptions(asked).await;
    let next = items.last().filter(|_| more).map(|last| {
        let filter = last.share.as_ref().map_or_else(
            || last.filter.clone(),
            |share| format!("$share/{share}/{}", last.filter),
        );
        list::encode(&(&last.client_id, filter))
    });
    Ok(Json(Page { items, next }))
}
