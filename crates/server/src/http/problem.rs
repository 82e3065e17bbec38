//! Errors of the HTTP interface as problem documents (RFC 9457).

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When somebody who came while too much was under way may come again, in seconds.
const BUSY_RETRY_S: u32 = 1;

/// A problem document. `type` is `about:blank`: the title is the status's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What is wrong with this request, and what to do.
    pub detail: String,
    /// Seconds after which it may be asked again: the header `Retry-After`.
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem with that status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    /// A problem that passes: too much is under way.
    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self {
            retry_after_s: Some(BUSY_RETRY_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    /// A body that is not the JSON that was wanted; `detail`: what to say of it.
    pub(super) fn of_body(error: &JsonRejection, detail: impl Into<String>) -> Self {
        let status = match error.status() {
            known @ (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE) => known,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, detail)
    }
}

/// For bodies that hold no secret: what is wrong with one may be shown.
impl From<JsonRejection> for Problem {
    fn from(error: JsonRejection) -> Self {
        Self::of_body(&error, error.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        if let Some(seconds) = retry_after_s {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
