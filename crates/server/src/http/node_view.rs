//! A running node as the HTTP interface shows it.

use std::sync::Arc;

use crate::http::view::{
    ClientPage, ClientRow, ClientsQuery, ConnectionPage, ConnectionsQuery, GroupPage, GroupsQuery,
    HookRow, NodeView, PartitionRow, Status, StreamRow,
};
use crate::kafka::FrontDoor;
use crate::metrics::{Snapshot, exposition};
use crate::node::{ClientQuery, Health, Node};
use crate::settings::Word as _;

/// A node and its Kafka front door, which counts for itself.
pub struct ServedNode {
    node: Arc<Node>,
    front_door: Arc<FrontDoor>,
}

impl ServedNode {
    /// The view of a node.
    pub fn new(node: Arc<Node>, front_door: Arc<FrontDoor>) -> Self {
        Self { node, front_door }
    }

    /// The node's figures together with those of the shards.
    fn told(&self, shards: &broker::ShardStats) -> Status {
        let status = self.node.status();
        let (health, why) = match status.health {
            Health::Serving => ("serving", None),
            Health::Latched { why } => ("latched", Some(why)),
            Health::Stopping => ("stopping", None),
        };
        Status {
            node: status.node,
            version: status.version.to_owned(),
            cluster_id: status.cluster_id,
            health: health.to_owned(),
            why,
            started_ms: status.started_ms,
            uptime_s: status.uptime_s,
            workers: status.workers as u64,
            connections: status.connections,
            sessions: shards.sessions,
            subscriptions: shards.subscriptions,
            retained: status.retained,
            owed: shards.inbox_messages,
            appended_lsn: status.appended_lsn,
            flushed_lsn: status.flushed_lsn,
            journal_bytes: status.journal_bytes,
            journal_used_bytes: status.journal_used_bytes,
            disk_free_bytes: status.disk_free_bytes,
        }
    }

    fn stream(&self, meta: &commitlog::StreamMeta) -> StreamRow {
        let log = &self.node.log;
        let partition = |id: &commitlog::PartitionId| {
            // A partition without watermarks has just been deleted.
            let marks = log.watermarks(*id);
            PartitionRow {
                log_start: marks.map_or(0, |marks| marks.log_start),
                end: marks.map_or(0, |marks| marks.appended),
                flushed: marks.map_or(0, |marks| marks.flushed),
                size_bytes: log.size_bytes(*id).unwrap_or(0),
            }
        };
        let partitions: Vec<PartitionRow> = meta.partitions.iter().map(partition).collect();
        let settings = &meta.settings;
        StreamRow {
            name: settings.name.clone(),
            ack: settings.ack.word().to_owned(),
            storage: settings.storage.word().to_owned(),
            compaction: settings.compact,
            internal: settings.internal,
            retention_ms: settings.retention_ms,
            retention_bytes: settings.retention_bytes,
            records: partitions
                .iter()
                .map(|partition| partition.end - partition.log_start)
                .sum(),
            size_bytes: partitions
                .iter()
                .map(|partition| partition.size_bytes)
                .sum(),
            partitions,
        }
    }
}

impl NodeView for ServedNode {
    async fn status(&self) -> Status {
        self.told(&self.node.shard_stats().await)
    }

    async fn clients(&self, query: ClientsQuery) -> ClientPage {
        let page = self
            .node
            .clients(ClientQuery {
                contains: query.contains,
                connected: query.connected,
                after: query.after,
                limit: query.limit.unwrap_or(1) as usize,
            })
            .await;
        ClientPage {
            clients: page.clients.into_iter().map(client).collect(),
            next: page.next,
        }
    }

    fn streams(&self) -> Vec<StreamRow> {
        self.node
            .log
            .streams()
            .iter()
            .map(|meta| self.stream(meta))
            .collect()
    }

    fn kafka_connections(&self, query: &ConnectionsQuery) -> ConnectionPage {
        let limit = query.limit.unwrap_or(1) as usize;
        let connections = self.front_door.connections(query.after.unwrap_or(0), limit);
        let next = connections
            .last()
            .filter(|_| connections.len() == limit)
            .map(|last| last.id);
        ConnectionPage { connections, next }
    }

    fn groups(&self, query: GroupsQuery) -> GroupPage {
        let limit = query.limit.unwrap_or(1) as usize;
        let (contains, after) = (query.contains.as_deref(), query.after.as_deref());
        self.front_door.groups().page(contains, after, limit)
    }

    fn hooks(&self) -> Vec<HookRow> {
        let row = |hook: &crate::settings::HookSettings| HookRow {
            event: hook.event.word().to_owned(),
            filter: hook.filter.clone(),
            stream: hook.stream.clone(),
            key: hook.key.clone(),
            payload: hook.payload.word().to_owned(),
        };
        self.node.hooks().iter().map(row).collect()
    }

    fn users(&self) -> &crate::auth::Users {
        &self.node.users
    }

    async fn metrics(&self) -> String {
        let shards = self.node.shard_stats().await;
        exposition(Snapshot {
            counters: self.node.counters.snapshot(),
            status: self.told(&shards),
            shards,
            kafka: self.front_door.counters().values(),
            groups: self.front_door.groups().values(),
            transactions: self.front_door.transactions().values(),
            streams: self.streams(),
        })
    }

    fn trouble(&self) -> Option<String> {
        match self.node.health() {
            Health::Serving => None,
            Health::Latched { why } => Some(format!(
                "the log takes no appends until the next start: {why}"
            )),
            Health::Stopping => Some("the node is being stopped".to_owned()),
        }
    }
}

fn client(row: broker::ClientRow) -> ClientRow {
    let protocol = match row.version {
        mqtt::Version::V31 => "3.1",
        mqtt::Version::V311 => "3.1.1",
        mqtt::Version::V5 => "5",
    };
    ClientRow {
        client_id: row.client_id,
        username: row.username,
        connected: row.connected,
        peer: row.peer.map(|peer| peer.to_string()),
        keep_alive_s: row.keep_alive_s,
        protocol: protocol.to_owned(),
        session_expiry_s: (row.session_expiry_s != u32::MAX).then_some(row.session_expiry_s),
        subscriptions: row.subscriptions as u64,
        inflight: row.inflight as u64,
        owed: row.inbox as u64,
        connected_ms: row.connected_ms,
        disconnected_ms: row.disconnected_ms,
    }
}
