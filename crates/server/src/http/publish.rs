//! Publishing over HTTP: one message or a batch, through the same access rules, hooks and log as those
//! of MQTT clients; the answer comes when the streams' ack level is reached.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Note;
use super::limits::{
    NOTE_TEXT_BYTES_MAX, NOTE_TEXTS_MAX, PUBLISH_BATCH_MAX, PUBLISH_BODY_BYTES_MAX,
};
use super::problem::Problem;
use super::{Caller, Routes, Shared};
use crate::auth::Role;
use crate::node::{Deposit, DepositError};

/// A message to be published. Without `payload` and `payload_base64` it has no payload.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// The topic.
    pub topic: String,
    /// The payload as text.
    #[serde(default)]
    pub payload: Option<String>,
    /// The payload as base64, in place of `payload`.
    #[serde(default)]
    pub payload_base64: Option<String>,
    /// 0, 1 or 2.
    #[serde(default)]
    pub qos: u8,
    /// Whether it is kept for those who subscribe to its topic afterwards.
    #[serde(default)]
    pub retain: bool,
    /// Client id of the publisher, as hooks and rules see it; absent: `http:` and the token's name.
    #[serde(default)]
    pub client_id: Option<String>,
    /// User name of the publisher, as hooks and rules see it.
    #[serde(default)]
    pub username: Option<String>,
    /// MQTT 5 properties.
    #[serde(default)]
    pub properties: NewProperties,
}

/// MQTT 5 properties of a message.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewProperties {
    /// Seconds that it lives.
    pub message_expiry_s: Option<u32>,
    /// What kind of payload it is.
    pub content_type: Option<String>,
    /// Where an answer goes.
    pub response_topic: Option<String>,
    /// What an answer names, as base64.
    pub correlation_data_base64: Option<String>,
    /// The payload is text.
    pub payload_is_utf8: bool,
    /// User properties: name and value.
    pub user: Vec<(String, String)>,
}

/// What became of a message.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PublishedRow {
    /// Whether it was taken; then it is where its streams' ack level wants it.
    pub published: bool,
    /// Whether any client subscribes to its topic.
    pub subscribers: bool,
    /// Why it was not taken.
    pub error: Option<String>,
}

/// What became of a batch, in its order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PublishedBatch {
    /// One a message.
    pub items: Vec<PublishedRow>,
}

impl NewMessage {
    /// The message as the node takes it.
    ///
    /// # Errors
    /// Something in it cannot be; says what.
    pub(super) fn deposit(self, caller: &Caller) -> Result<Deposit, Problem> {
        let bad = |what: String| Problem::new(StatusCode::BAD_REQUEST, what);
        let bytes = |name: &str, text: &str| {
            let decoded = base64_simd::STANDARD.decode_to_vec(text);
            decoded.map_err(|_| bad(format!("{name}: it is no base64")))
        };
        mqtt::topic::validate_name(&self.topic).map_err(|error| bad(format!("topic: {error}")))?;
        let payload = match (self.payload, self.payload_base64) {
            (Some(_), Some(_)) => {
                return Err(bad("say `payload` or `payload_base64`, not both".to_owned()));
            }
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => bytes("payload_base64", &text)?,
            (None, None) => Vec::new(),
        };
        if self.qos > 2 {
            return Err(bad("qos: it is 0, 1 or 2".to_owned()));
        }
        let properties = self.properties;
        let correlation = properties.correlation_data_base64.as_deref();
        let correlation = correlation.map(|text| bytes("correlation_data_base64", text));
        Ok(Deposit {
            client_id: self
                .client_id
                .unwrap_or_else(|| format!("http:{}", caller.name)),
            username: self.username.unwrap_or_default(),
            topic: self.topic,
            payload,
            qos: self.qos,
            retain: self.retain,
            message_expiry_s: properties.message_expiry_s,
            payload_is_utf8: properties.payload_is_utf8,
            content_type: properties.content_type,
            response_topic: properties.response_topic,
            correlation_data: correlation.transpose()?,
            user: properties.user,
            peer: caller.peer,
            principal: Some(caller.principal()),
        })
    }
}

pub(super) fn routes(routes: &mut Routes) {
    let bytes = PUBLISH_BODY_BYTES_MAX;
    routes.add_with(
        Method::POST,
        "/api/v1/publish",
        Role::Operator,
        bytes,
        publish,
    );
    let path = "/api/v1/publish/batch";
    routes.add_with(Method::POST, path, Role::Operator, bytes, publish_batch);
}

/// Publishes a message.
#[utoipa::path(post, path = "/api/v1/publish", tag = "publish", request_body = NewMessage,
    responses((status = 200, body = PublishedRow), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn publish(
    State(api): State<Shared>,
    caller: Caller,
    body: Result<Json<NewMessage>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(message) = body?;
    let note = note(std::slice::from_ref(&message));
    let mut answer = match publish_one(&api, &caller, message).await {
        Ok(row) => Json(row).into_response(),
        Err(problem) => problem.into_response(),
    };
    answer.extensions_mut().insert(Note(note));
    Ok(answer)
}

async fn publish_one(
    api: &Shared,
    caller: &Caller,
    message: NewMessage,
) -> Result<PublishedRow, Problem> {
    let deposit = message.deposit(caller)?;
    let mut made = api.view.publish(vec![deposit]).await;
    let made = made.pop().ok_or_else(unanswered)??;
    Ok(PublishedRow {
        published: true,
        subscribers: made.subscribers,
        error: None,
    })
}

/// Publishes up to 1,000 messages, in their order. Each has its own answer.
#[utoipa::path(post, path = "/api/v1/publish/batch", tag = "publish",
    request_body = Vec<NewMessage>,
    responses((status = 200, body = PublishedBatch), (status = 400, body = Problem),
        (status = 413, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn publish_batch(
    State(api): State<Shared>,
    caller: Caller,
    body: Result<Json<Vec<NewMessage>>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(messages) = body?;
    let mut note = note(&messages);
    let mut answer = match publish_all(&api, &caller, messages).await {
        Ok(batch) => {
            let refused = batch.items.iter().filter(|row| !row.published).count();
            if refused > 0 {
                let _ = write!(note, ", {refused} refused");
            }
            Json(batch).into_response()
        }
        Err(problem) => problem.into_response(),
    };
    answer.extensions_mut().insert(Note(note));
    Ok(answer)
}

async fn publish_all(
    api: &Shared,
    caller: &Caller,
    messages: Vec<NewMessage>,
) -> Result<PublishedBatch, Problem> {
    if messages.len() > PUBLISH_BATCH_MAX {
        let detail = format!("a batch has at most {PUBLISH_BATCH_MAX} messages");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let numbered = messages.into_iter().enumerate();
    let deposits = numbered.map(|(number, message)| {
        let wrong = |problem: Problem| {
            let detail = format!("message {number}: {}", problem.detail);
            Problem::new(StatusCode::BAD_REQUEST, detail)
        };
        message.deposit(caller).map_err(wrong)
    });
    let deposits: Vec<Deposit> = deposits.collect::<Result<_, _>>()?;
    let made = api.view.publish(deposits).await;
    if let Some(Err(DepositError::Busy)) = made.first() {
        return Err(DepositError::Busy.into());
    }
    let row = |made: Result<crate::node::Deposited, DepositError>| match made {
        Ok(made) => PublishedRow {
            published: true,
            subscribers: made.subscribers,
            error: None,
        },
        Err(error) => PublishedRow {
            published: false,
            subscribers: false,
            error: Some(error.to_string()),
        },
    };
    Ok(PublishedBatch {
        items: made.into_iter().map(row).collect(),
    })
}

/// What the record of a publish says: topics, and in whose name, as far as that is not the token's.
fn note(messages: &[NewMessage]) -> String {
    let topics = listed(messages.iter().map(|message| message.topic.as_str()));
    let mut note = match messages {
        [_] => format!("topic {topics}"),
        [] => "0 messages".to_owned(),
        _ => format!("{} messages on {topics}", messages.len()),
    };
    let clients = listed(messages.iter().filter_map(|it| it.client_id.as_deref()));
    if !clients.is_empty() {
        let _ = write!(note, " as {clients}");
    }
    let users = listed(messages.iter().filter_map(|it| it.username.as_deref()));
    if !users.is_empty() {
        let _ = write!(note, " for user {users}");
    }
    note
}

/// The different ones of some texts, as many and as much of them as the record of a change shows.
fn listed<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let different: BTreeSet<&str> = texts.collect();
    let cut = |text: &&str| text[..text.floor_char_boundary(NOTE_TEXT_BYTES_MAX)].to_owned();
    let shown: Vec<String> = different.iter().take(NOTE_TEXTS_MAX).map(cut).collect();
    match different.len().saturating_sub(NOTE_TEXTS_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The node is going.
pub(super) fn unanswered() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the node is being stopped")
}

impl From<DepositError> for Problem {
    fn from(error: DepositError) -> Self {
        let status = match error {
            DepositError::NotAuthorized => StatusCode::FORBIDDEN,
            DepositError::Invalid(_) => StatusCode::BAD_REQUEST,
            DepositError::Full => StatusCode::INSUFFICIENT_STORAGE,
            DepositError::NotMirrored => StatusCode::GATEWAY_TIMEOUT,
            DepositError::NeverMirrored => StatusCode::BAD_GATEWAY,
            DepositError::Latched | DepositError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            DepositError::Busy => return Self::busy(error.to_string()),
        };
        Self::new(status, error.to_string())
    }
}
