//! Rows of the API beside the tables that the metrics know too: plain figures and texts that turn
//! into JSON, and back again in `sluice ctl`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{Cell, Listed};
use super::view::{ClientRow, HookRow, StreamRow};
use crate::downlink::DownlinkRow;

/// One listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListenerRow {
    /// Its number in the configuration, as text, or its name where it has one.
    pub name: String,
    /// The protocol spoken there, such as `mqtt`.
    pub kind: String,
    /// Address and port really bound.
    pub bind: String,
    /// Path of the WebSocket there; none for other kinds.
    #[serde(default)]
    pub path: Option<String>,
    /// Connections open now, where they are counted by listener.
    pub connections: Option<u64>,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// How clients say who they are, in words.
    pub authentication: String,
    /// Whether anyone who reaches it may come in.
    pub anonymous: bool,
}

impl Listed for ListenerRow {
    const FIELDS: &'static [&'static str] = &["name", "kind", "bind"];

    fn field(&self, number: usize) -> Cell<'_> {
        match number {
            0 => (&*self.name).into(),
            1 => (&*self.kind).into(),
            _ => (&*self.bind).into(),
        }
    }
}

/// A client with its session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClientDetails {
    /// What the list of clients shows too.
    #[serde(flatten)]
    pub client: ClientRow,
    /// Its subscriptions, in the order in which they were made.
    pub subscriptions_list: Vec<SubscriptionRow>,
    /// Its will, if it has one.
    pub will: Option<WillRow>,
    /// What bounds it.
    pub limits: ClientLimits,
    /// QoS 1 and 2 messages from it that are not finished.
    pub unfinished: Option<u16>,
    /// Answers to it that wait for the log.
    pub answers_waiting: u64,
    /// Name of the listener by which it came, while it is connected.
    #[serde(default)]
    pub listener: Option<String>,
    /// Whether it is over the rate of its listener now, and not read from until its time has come.
    #[serde(default)]
    pub slowed: bool,
    /// What went over its connection, while it has one.
    #[serde(default)]
    pub traffic: Option<TrafficRow>,
}

/// What went over a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrafficRow {
    /// PUBLISH packets from the client a second, over the last ten to twenty seconds, as all rates
    /// here.
    pub messages_in_per_s: f64,
    /// Bytes from the client a second, with what TLS and WebSocket add.
    pub bytes_in_per_s: f64,
    /// PUBLISH packets to the client a second.
    pub messages_out_per_s: f64,
    /// Bytes of MQTT to the client a second.
    pub bytes_out_per_s: f64,
    /// PUBLISH packets from the client since it connected.
    pub messages_in: u64,
    /// Bytes from the client since then. Of connections that only say that they are there nothing
    /// is counted.
    pub bytes_in: u64,
    /// PUBLISH packets to the client since then.
    pub messages_out: u64,
    /// Bytes of MQTT to the client since then.
    pub bytes_out: u64,
}

/// A will.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WillRow {
    /// Its topic.
    pub topic: String,
    /// Its QoS.
    pub qos: u8,
    /// Whether it will be retained.
    pub retain: bool,
    /// Seconds between the end of the connection and its publication.
    pub delay_s: u32,
}

/// What bounds one client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientLimits {
    /// Messages that may be owed to it.
    pub owed_max: u64,
    /// Subscriptions that it may have.
    pub subscriptions_max: u64,
    /// Messages on their way to it at a time.
    pub inflight_max: u64,
    /// Largest packet that it takes, bytes, while it is connected.
    pub packet_size_max: Option<u32>,
    /// PUBLISH packets that its listener takes from it a second; who sends more is read more slowly.
    #[serde(default)]
    pub messages_in_per_s: Option<u32>,
    /// The same of bytes.
    #[serde(default)]
    pub bytes_in_per_s: Option<u32>,
}

/// One subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionRow {
    /// Whose it is.
    pub client_id: String,
    /// The filter, without the group of a shared one.
    pub filter: String,
    /// The QoS granted.
    pub qos: u8,
    /// The group of a shared subscription.
    pub share: Option<String>,
    /// What the client itself publishes does not come back.
    pub no_local: bool,
    /// Messages come with the retain flag of their publisher.
    pub retain_as_published: bool,
    /// 0: retained messages at each SUBSCRIBE; 1: at a new one; 2: never.
    pub retain_handling: u8,
    /// The identifier that goes along with its messages.
    pub id: Option<u32>,
}

/// One retained message, without its payload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetainedRow {
    /// Its topic.
    pub topic: String,
    /// Bytes of its payload.
    pub size_bytes: u64,
    /// When it expires, ms since the epoch.
    pub expires_ms: Option<u64>,
    /// Its QoS; where the message was read.
    pub qos: Option<u8>,
    /// When it was published, ms since the epoch; where the message was read.
    pub time_ms: Option<u64>,
}

/// One retained message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetainedMessage {
    /// What the list shows too.
    #[serde(flatten)]
    pub row: RetainedRow,
    /// The payload.
    pub payload_base64: String,
    /// Client id of the publisher.
    pub publisher: String,
    /// User name of the publisher; empty: none.
    pub username: String,
    /// MQTT 5 properties: name and value; binary ones as base64.
    pub properties: Vec<PropertyRow>,
}

/// A property of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PropertyRow {
    /// Its name, such as `content_type`, or that of a user property.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether the client chose the name.
    pub user: bool,
}

/// One record of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordRow {
    /// Number of its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// Its time, ms since the epoch.
    pub time_ms: i64,
    /// The same as RFC 3339, in UTC.
    pub time: String,
    /// The key, where it is text; `null` without one.
    pub key: Option<String>,
    /// The key, where it is no text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_base64: Option<String>,
    /// The value; `null`: the record takes its key away.
    pub value_base64: Option<String>,
    /// Whether the value shown is only its beginning.
    pub value_cut: bool,
    /// The headers, in their order.
    pub headers: Vec<HeaderRow>,
    /// Bytes of key, value and headers.
    pub size_bytes: u64,
}

/// A header of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeaderRow {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value_base64: Option<String>,
}

impl Listed for StreamRow {
    const FIELDS: &'static [&'static str] = &[
        "name",
        "records",
        "size_bytes",
        "ack",
        "storage",
        "internal",
    ];

    fn field(&self, number: usize) -> Cell<'_> {
        match number {
            0 => (&*self.name).into(),
            1 => self.records.into(),
            2 => self.size_bytes.into(),
            3 => (&*self.ack).into(),
            4 => (&*self.storage).into(),
            _ => self.internal.into(),
        }
    }
}

impl Listed for HookRow {
    const FIELDS: &'static [&'static str] = &["name", "event", "filter", "stream"];

    fn field(&self, number: usize) -> Cell<'_> {
        match number {
            0 => (&*self.name).into(),
            1 => (&*self.event).into(),
            2 => self.filter.as_deref().unwrap_or("").into(),
            _ => (&*self.stream).into(),
        }
    }
}

impl Listed for DownlinkRow {
    const FIELDS: &'static [&'static str] = &["name", "source", "state", "lag_records"];

    fn field(&self, number: usize) -> Cell<'_> {
        match number {
            0 => (&*self.name).into(),
            1 => (&*self.source).into(),
            2 => (&*self.state).into(),
            _ => self.lag_records.into(),
        }
    }
}
