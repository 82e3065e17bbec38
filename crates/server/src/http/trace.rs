//! What clients do, live: their packets, by client, topic or address.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::limits::EVENTS_WAITING_MAX;
use super::live::Skipped;
use super::problem::Problem;
use super::{Asked, Caller, Routes, Shared, events};
use crate::auth::Role;
use crate::node::{TraceLine, TraceQuery};

/// Whose packets; all that is said must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LiveTraceQuery {
    /// Only this client.
    pub client: Option<String>,
    /// Only packets about a topic that this MQTT filter matches.
    pub topic: Option<String>,
    /// Only clients at this address.
    pub address: Option<String>,
}

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/api/v1/trace/live", Role::Operator, trace);
}

/// Packets as they pass, as events `packet`; `skipped` says how many were left out.
#[utoipa::path(get, path = "/api/v1/trace/live", tag = "clients", params(LiveTraceQuery),
    responses((status = 200, body = TraceLine, content_type = "text/event-stream"),
        (status = 400, body = Problem)))]
pub(super) async fn trace(
    State(api): State<Shared>,
    caller: Caller,
    Asked(query): Asked<LiveTraceQuery>,
) -> Result<Response, Problem> {
    let bad = |what: String| Problem::new(StatusCode::BAD_REQUEST, what);
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    let topic = said(query.topic);
    if let Some(Err(error)) = topic.as_deref().map(mqtt::topic::validate_filter) {
        return Err(bad(format!("topic: {error}")));
    }
    let address = said(query.address).map(|text| text.parse());
    let Ok(address) = address.transpose() else {
        return Err(bad("address: it is no IP address".to_owned()));
    };
    let Some(mut tracing) = api.view.trace(TraceQuery {
        client: said(query.client),
        topic,
        address,
    }) else {
        return Err(bad("nothing can be traced here".to_owned()));
    };
    events::open(&api, caller, EVENTS_WAITING_MAX, |sink| async move {
        while let Some(line) = tracing.lines.recv().await {
            let count = tracing.skipped.swap(0, Ordering::Relaxed);
            if count > 0 && !sink.send("skipped", &Skipped { count }).await {
                return;
            }
            if !sink.send("packet", &line).await {
                return;
            }
        }
    })
}
