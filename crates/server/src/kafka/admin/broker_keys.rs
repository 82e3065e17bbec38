//! The settings of this node under the names that Kafka has for a broker's: to be looked at, not to
//! be altered.

use super::super::FrontDoor;
use super::super::limits::{self, NODE_ID};
use super::keys::{self, Key, Kind};

/// One setting: name, kind, value, meaning.
pub(super) type Row = (&'static str, Kind, String, &'static str);

/// The settings of the node, in the order of their names.
pub(super) fn rows(door: &FrontDoor) -> Vec<Row> {
    let (settings, facts) = (&door.settings, &door.admin.facts);
    let node_id = NODE_ID.to_string();
    let template = keys::template(door, "any");
    let topic = |name: &str| {
        let key = Key::named(name).expect("a setting of the table");
        key.show(&template)
    };
    let mut rows: Vec<Row> = vec![
        (
            "auto.create.topics.enable",
            Kind::Boolean,
            settings.auto_create.to_string(),
            "`auto_create` of [kafka]: whether topics that clients ask for are created.",
        ),
        ("broker.id", Kind::Int, node_id.clone(), "The only broker."),
        (
            "connections.max.idle.ms",
            Kind::Long,
            settings.idle_ms_max.to_string(),
            "`idle_ms_max` of [kafka]: a connection without a request for this long is closed.",
        ),
        (
            "default.replication.factor",
            Kind::Int,
            "1".to_owned(),
            "One node holds each partition.",
        ),
        (
            "delete.topic.enable",
            Kind::Boolean,
            "true".to_owned(),
            "Topics that the configuration does not name can be deleted.",
        ),
        (
            "fetch.max.bytes",
            Kind::Int,
            settings.fetch_bytes_max.to_string(),
            "`fetch_bytes_max` of [kafka]: most record bytes in one answer.",
        ),
        (
            "listeners",
            Kind::List,
            facts.listeners.join(","),
            "The Kafka listeners of the configuration.",
        ),
        (
            "log.cleanup.policy",
            Kind::List,
            topic("cleanup.policy"),
            "Of a topic that says nothing.",
        ),
        (
            "log.dirs",
            Kind::List,
            facts.data_dir.clone(),
            "`data_dir` of [node].",
        ),
        (
            "log.retention.bytes",
            Kind::Long,
            topic("retention.bytes"),
            "Of a topic that says nothing.",
        ),
        (
            "log.retention.ms",
            Kind::Long,
            topic("retention.ms"),
            "Of a topic that says nothing.",
        ),
        (
            "log.segment.bytes",
            Kind::Int,
            topic("segment.bytes"),
            "`segment_bytes` of [log].",
        ),
        (
            "max.connections",
            Kind::Int,
            settings.connections_max.to_string(),
            "`connections_max` of [kafka].",
        ),
        (
            "max.connections.per.ip",
            Kind::Int,
            settings.connections_max_per_address.to_string(),
            "`connections_max_per_address` of [kafka].",
        ),
        (
            "message.max.bytes",
            Kind::Int,
            limits::MESSAGE_BYTES_MAX.to_string(),
            "Largest batch of a topic that says nothing.",
        ),
        (
            "min.insync.replicas",
            Kind::Int,
            "1".to_owned(),
            "One node holds each partition.",
        ),
        ("node.id", Kind::Int, node_id, "The only broker."),
        (
            "num.partitions",
            Kind::Int,
            settings.topic_partitions.to_string(),
            "`topic_partitions` of [kafka]: of a topic that says nothing.",
        ),
        (
            "sluice.version",
            Kind::Text,
            env!("CARGO_PKG_VERSION").to_owned(),
            "The version of Sluice.",
        ),
        (
            "socket.request.max.bytes",
            Kind::Int,
            settings.request_bytes_max.to_string(),
            "`request_bytes_max` of [kafka].",
        ),
    ];
    rows.sort_by_key(|row| row.0);
    rows
}
