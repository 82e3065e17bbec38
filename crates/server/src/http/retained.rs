//! Retained messages: list by topic, look at one.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};

use super::list::{self, ListQuery, Page};
use super::lists::unknown;
use super::problem::Problem;
use super::view::{RetainedMessage, RetainedRow};
use super::{Asked, Caller, Named, Routes, Shared, publish};
use crate::auth::Role;

pub(super) fn routes(routes: &mut Routes) {
    let one = "/api/v1/retained/{*topic}";
    routes.add(Method::GET, "/api/v1/retained", Role::Viewer, messages);
    routes.add(Method::GET, one, Role::Viewer, message);
    routes.add(Method::DELETE, one, Role::Operator, delete);
}

/// The retained messages, by topic; `filter` is an MQTT filter such as `devices/+/state`.
#[utoipa::path(get, path = "/api/v1/retained", tag = "retained", params(ListQuery),
    responses((status = 200, body = Page<RetainedRow>), (status = 400, body = Problem)))]
pub(super) async fn messages(
    State(api): State<Shared>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<RetainedRow>>, Problem> {
    list::order(query.sort.as_deref(), &["topic"])?;
    let limit = api.page_rows(query.limit)?;
    let filter = query.filter.filter(|filter| !filter.is_empty());
    let filter = filter.unwrap_or_else(|| "#".to_owned());
    if let Err(error) = mqtt::topic::validate_filter(&filter) {
        let detail = format!("filter: {error}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(Json(api.view.retained(
        &filter,
        query.cursor.as_deref(),
        limit,
    )))
}

/// One retained message with its payload.
#[utoipa::path(get, path = "/api/v1/retained/{topic}", tag = "retained",
    params(("topic" = String, Path, description = "The topic, with its slashes")),
    responses((status = 200, body = RetainedMessage), (status = 404, body = Problem)))]
pub(super) async fn message(
    State(api): State<Shared>,
    Named(topic): Named,
) -> Result<Json<RetainedMessage>, Problem> {
    let found = api.view.retained_message(topic.clone()).await;
    let what = "retained message on";
    found.map(Json).ok_or_else(|| unknown(what, &topic))
}

/// Takes a retained message away, as a publisher does: by a retained message without a payload.
#[utoipa::path(delete, path = "/api/v1/retained/{topic}", tag = "retained",
    params(("topic" = String, Path, description = "The topic, with its slashes")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(api): State<Shared>,
    caller: Caller,
    Named(topic): Named,
) -> Result<StatusCode, Problem> {
    if api.view.retained_message(topic.clone()).await.is_none() {
        return Err(unknown("retained message on", &topic));
    }
    let message = publish::NewMessage {
        topic,
        qos: 1,
        retain: true,
        ..publish::NewMessage::default()
    };
    let deposit = message.deposit(&caller)?;
    let mut made = api.view.publish(vec![deposit]).await;
    match made.pop() {
        Some(Ok(_)) => Ok(StatusCode::NO_CONTENT),
        Some(Err(error)) => Err(error.into()),
        None => Err(publish::unanswered()),
    }
}
