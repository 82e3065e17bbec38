//! A running node as the HTTP interface shows it.

use std::path::PathBuf;
use std::sync::Arc;

use commitlog::{Append, BatchBuilder, Entry, LogReader};
use tokio::time::timeout;

use super::AuditRow;
use super::counters::HttpValues;
use super::limits::ROOM_WAIT;
use super::list::Page;
use super::live::{Levels, Totals};
use super::view::{
    ClientDetails, ClientLimits, ClientRow, GroupRow, HookRow, ListenerRow, NodeView, PartitionRow,
    PropertyRow, RetainedMessage, RetainedRow, Status, StreamRow, SubscriptionRow, Telling,
    TrafficRow, WillRow,
};
use crate::auth::{Ban, BanError, BanKind};
use crate::doorway::Doorway;
use crate::kafka::FrontDoor;
use crate::metrics::{Snapshot, exposition};
use crate::node::{
    AUDIT, Backup, BackupError, ClientPage, Deposit, DepositError, Deposited, Health,
    HookChangeError, Node, TraceQuery, Tracing,
};
use crate::settings::Settings;
use crate::settings::Word as _;

/// A node and its Kafka front door, which counts for itself.
pub struct ServedNode {
    node: Arc<Node>,
    front_door: Arc<FrontDoor>,
    listeners: Vec<ListenerRow>,
    /// Those for Kafka and HTTP, which count for themselves.
    doorways: Vec<Arc<Doorway>>,
    /// Turns of those who publish: what waits for the log is bounded by them.
    publishing: tokio::sync::Semaphore,
    reload: Reload,
}

/// Reads the configuration file anew; says what is wrong with it.
pub type Reload = Arc<dyn Fn() -> Result<Settings, String> + Send + Sync>;

/// Most requests that publish at a time.
const PUBLISHING_MAX: usize = 4;

impl ServedNode {
    /// The view of a node that listens there.
    pub fn new(
        node: Arc<Node>,
        front_door: Arc<FrontDoor>,
        (listeners, doorways): (Vec<ListenerRow>, Vec<Arc<Doorway>>),
        reload: Reload,
    ) -> Self {
        Self {
            reload,
            node,
            front_door,
            listeners,
            doorways,
            publishing: tokio::sync::Semaphore::new(PUBLISHING_MAX),
        }
    }

    /// What each listener counts.
    fn counted(&self) -> Vec<crate::node::ListenerRow> {
        let mqtt = self.node.mqtt_listeners().iter().map(|it| it.row());
        mqtt.chain(self.doorways.iter().map(|it| it.row()))
            .collect()
    }

    /// The node's figures together with those of the shards.
    fn told(&self, shards: &broker::ShardStats) -> Status {
        let status = self.node.status();
        let (health, why) = match status.health.clone() {
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
            refused_entries: self.node.counters.snapshot().log.refused,
            problems: self.problems(&status.health, status.disk_free_bytes),
        }
    }

    /// What is wrong now, in words.
    fn problems(&self, health: &Health, free_bytes: Option<u64>) -> Vec<String> {
        let mut problems = Vec::new();
        if let Health::Latched { why } = health {
            problems.push(format!(
                "The log takes no appends until the next start: {why}"
            ));
        }
        let reserve = self.node.settings.log.disk_reserve_bytes;
        let hooks = self.node.hook_states().into_iter();
        for hook in hooks.filter(|hook| !hook.enabled) {
            problems.push(format!("The hook {} is switched off.", hook.name));
        }
        if self.node.mirror.settings().is_some() && !self.node.mirror.is_on() {
            problems.push("The mirror is switched off.".to_owned());
        }
        if free_bytes.is_some_and(|free| free < reserve) {
            problems.push(
                "The disk is full: free space is below the reserve, and publishes are refused."
                    .to_owned(),
            );
        }
        problems
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
    fn status(&self) -> Telling<'_, Status> {
        Box::pin(async { self.told(&self.node.shard_stats().await) })
    }

    fn listeners(&self) -> Vec<ListenerRow> {
        let mut rows = self.listeners.clone();
        for counted in self.counted() {
            let address = counted.address.to_string();
            if let Some(row) = rows.iter_mut().find(|row| row.bind == address) {
                row.name = counted.name;
                row.connections = Some(counted.counts.open);
            }
        }
        rows
    }

    fn clients(&self, query: broker::ClientQuery) -> Telling<'_, ClientPage> {
        Box::pin(self.node.clients(query))
    }

    fn client(&self, client_id: String) -> Telling<'_, Option<ClientDetails>> {
        Box::pin(async move {
            let found = self.node.client(&client_id).await?;
            Some(self.details(found))
        })
    }

    fn kick(&self, client_id: String) -> Telling<'_, bool> {
        Box::pin(async move { self.node.kick(&client_id).await })
    }

    fn subscriptions(
        &self,
        query: broker::SubscriptionQuery,
    ) -> Telling<'_, (Vec<SubscriptionRow>, bool)> {
        Box::pin(async move {
            let (rows, more) = self.node.subscriptions(query).await;
            (rows.iter().map(subscription).collect(), more)
        })
    }

    fn retained(&self, filter: &str, after: Option<&str>, limit: usize) -> Page<RetainedRow> {
        let page = self.node.retained(filter, after, limit);
        let items = page.hits.iter().map(|hit| RetainedRow {
            topic: hit.topic.to_string(),
            size_bytes: u64::from(hit.bytes),
            expires_ms: hit.expires_ms,
            qos: None,
            time_ms: None,
        });
        Page {
            items: items.collect(),
            next: page.next.map(Into::into),
        }
    }

    fn retained_message(&self, topic: String) -> Telling<'_, Option<RetainedMessage>> {
        Box::pin(async move {
            let position = self.node.retained_at(&topic)?;
            let log = self.node.log.clone();
            let read = tokio::task::spawn_blocking(move || message_at(&log, position));
            read.await.ok().flatten().map(|it| retained_message(&it))
        })
    }

    fn streams(&self) -> Vec<StreamRow> {
        self.node
            .log
            .streams()
            .iter()
            .map(|meta| self.stream(meta))
            .collect()
    }

    fn log(&self) -> Option<&LogReader> {
        Some(&self.node.log)
    }

    fn kafka_connections(&self, after: u64, limit: usize) -> Page<crate::kafka::ConnectionRow> {
        let items = self.front_door.connections(after, limit);
        let last = items.last().filter(|_| items.len() == limit);
        let next = last.map(|last| last.id.to_string());
        Page { items, next }
    }

    fn groups(&self, contains: Option<&str>, after: Option<&str>, limit: usize) -> Page<GroupRow> {
        self.front_door.groups().page(contains, after, limit)
    }

    fn hooks(&self) -> Telling<'_, Vec<HookRow>> {
        Box::pin(async {
            let shards = self.node.shard_stats().await;
            self.hook_rows(&shards)
        })
    }

    fn users(&self) -> &crate::auth::Users {
        &self.node.users
    }

    fn tokens(&self) -> &crate::auth::Tokens {
        &self.node.tokens
    }

    fn totals(&self) -> Telling<'_, Totals> {
        Box::pin(async {
            let shards = self.node.shard_stats().await;
            self.sum(&shards)
        })
    }

    fn downlinks(&self) -> Vec<crate::downlink::DownlinkRow> {
        self.node.downlinks.iter().map(|it| it.row()).collect()
    }

    fn mirror(&self) -> crate::mirror::view::MirrorView {
        self.node.mirror_view()
    }

    fn switch_mirror(&self, on: bool) -> bool {
        self.node.switch_mirror(on)
    }

    fn config(&self) -> String {
        self.node.settings.effective.clone()
    }

    fn publish(&self, messages: Vec<Deposit>) -> Telling<'_, Vec<Result<Deposited, DepositError>>> {
        Box::pin(async move {
            let turn = timeout(ROOM_WAIT, self.publishing.acquire()).await;
            let Ok(turn) = turn else {
                return messages.iter().map(|_| Err(DepositError::Busy)).collect();
            };
            let deposits = self.node.deposit(messages).await;
            // What waits for the cluster behind keeps nobody from the log.
            drop(turn);
            self.node.mirrored_deposits(deposits).await
        })
    }

    fn switch_hook(&self, name: String, on: bool) -> Telling<'_, Result<(), HookChangeError>> {
        Box::pin(async move { self.node.switch_hook(&name, on).await })
    }

    fn reload_hooks(&self) -> Telling<'_, Result<(), HookChangeError>> {
        Box::pin(async {
            let read = Arc::clone(&self.reload);
            let settings = tokio::task::spawn_blocking(move || read()).await;
            let settings = settings.map_err(|error| HookChangeError::Invalid(error.to_string()))?;
            let settings = settings.map_err(HookChangeError::Invalid)?;
            self.node.reload_hooks(&settings).await
        })
    }

    fn bans(&self) -> Vec<Ban> {
        self.node.auth.bans.list(None, usize::MAX)
    }

    fn ban(&self, ban: Ban) -> Telling<'_, Result<Ban, BanError>> {
        Box::pin(self.node.ban(ban))
    }

    fn unban(&self, kind: BanKind, value: String) -> Telling<'_, Result<(), BanError>> {
        Box::pin(async move { self.node.auth.bans.remove(kind, &value).await })
    }

    fn trace(&self, query: TraceQuery) -> Option<Tracing> {
        Some(self.node.traces.follow(query))
    }

    fn backup(&self, dir: PathBuf) -> Telling<'_, Result<Backup, BackupError>> {
        Box::pin(async move { self.node.backup(&dir).await })
    }

    fn audit(&self, row: AuditRow) -> Telling<'_, ()> {
        Box::pin(async move {
            if let Err(why) = self.write_audit(&row).await {
                let AuditRow {
                    by, method, path, ..
                } = row;
                tracing::error!(by, method, path, %why, "a change is not in the audit stream");
            }
        })
    }

    fn metrics(&self, http: HttpValues) -> Telling<'_, String> {
        Box::pin(async move {
            let shards = self.node.shard_stats().await;
            exposition(Snapshot {
                downlinks: self.downlinks(),
                hooks: self.hook_rows(&shards),
                http,
                listeners: self.counted(),
                counters: self.node.counters.snapshot(),
                status: self.told(&shards),
                shards,
                kafka: self.front_door.counters().values(),
                groups: self.front_door.groups().values(),
                transactions: self.front_door.transactions().values(),
                auth: self.node.auth.values(),
                streams: self.streams(),
                mirror: self.node.mirror_view(),
            })
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

impl ServedNode {
    /// The hooks, with their figures.
    fn hook_rows(&self, shards: &broker::ShardStats) -> Vec<HookRow> {
        let of = |figures: &[u64], counter: u16| {
            let figure = figures.get(usize::from(counter));
            figure.copied().unwrap_or(0)
        };
        let row = |state: crate::node::HookState| HookRow {
            name: state.name,
            enabled: state.enabled,
            matched: of(&shards.made, state.counter),
            errors: of(&shards.made_refused, state.counter),
            matched_per_s: None,
            event: state.hook.event.word().to_owned(),
            filter: state.hook.filter,
            stream: state.hook.stream,
            key: state.hook.key,
            payload: state.hook.payload.word().to_owned(),
        };
        self.node.hook_states().into_iter().map(row).collect()
    }

    /// Counts and levels of this moment.
    fn sum(&self, shards: &broker::ShardStats) -> Totals {
        let counters = self.node.counters.snapshot();
        let streams = self.streams();
        // Sessions and offsets are records too, but nobody sent them.
        let sent = streams.iter().filter(|stream| !stream.internal);
        let ends = sent.flat_map(|stream| &stream.partitions);
        let mirror = self.node.mirror_view();
        let behind = mirror.streams.iter().map(|stream| stream.lag_records);
        let groups = self.front_door.groups().values();
        let reception = &counters.reception;
        Totals {
            messages_in: shards.received.iter().sum(),
            messages_out: shards.sent.iter().sum(),
            bytes_in: counters.workers.bytes_in,
            bytes_out: counters.workers.bytes_out,
            records_in: ends.map(|partition| partition.end).sum(),
            kafka_records_out: groups.read,
            // Nobody subscribed: then nobody misses it, and a hook may have taken it.
            dropped: shards.dropped.iter().sum::<u64>()
                - shards.dropped[broker::DropReason::NoSubscribers as usize],
            refused: reception.refused_full + reception.refused_connect + counters.log.refused,
            commits: counters.log.commits,
            flush_buckets: counters.flush_times.buckets,
            hooks: self
                .hook_rows(shards)
                .into_iter()
                .map(|hook| (hook.name, hook.matched))
                .collect(),
            levels: Levels {
                connections: counters.workers.connections,
                sessions: shards.sessions,
                owed: shards.inbox_messages,
                kafka_connections: self.front_door.counters().values().connections,
                lag: groups.lags.iter().map(|(_, lag)| lag).sum(),
                mirror_lag: (mirror.state != "off").then(|| behind.sum()),
                journal_used_bytes: self.node.log.journal_fill().0,
                disk_free_bytes: self.node.log.free_bytes(),
                size_bytes: streams.iter().map(|stream| stream.size_bytes).sum(),
            },
        }
    }

    fn details(&self, told: crate::node::ClientTold) -> ClientDetails {
        let found = told.session;
        let mqtt = &self.node.settings.mqtt;
        let listeners = self.node.mqtt_listeners();
        let listener = told.open.as_ref();
        let listener = listener.and_then(|open| listeners.get(open.listener));
        let inflight_max = match found.row.version {
            mqtt::Version::V5 => mqtt.inflight_max,
            _ => mqtt.inflight_v3,
        };
        ClientDetails {
            client: client(found.row),
            subscriptions_list: found.subscriptions.iter().map(subscription).collect(),
            will: found.will.map(|(topic, qos, retain, delay_s)| WillRow {
                topic,
                qos,
                retain,
                delay_s,
            }),
            limits: ClientLimits {
                owed_max: u64::from(mqtt.inbox_max),
                subscriptions_max: u64::from(mqtt.subscriptions_max),
                inflight_max: u64::from(inflight_max),
                packet_size_max: found.packet_size_max,
                messages_in_per_s: listener.and_then(|it| it.settings.messages_in_per_s),
                bytes_in_per_s: listener.and_then(|it| it.settings.bytes_in_per_s),
            },
            unfinished: found.unfinished,
            answers_waiting: found.answers_waiting as u64,
            listener: listener.map(|it| it.name.clone()),
            slowed: told.open.as_ref().is_some_and(|open| open.slowed),
            traffic: told.open.map(|open| traffic(&open)),
        }
    }

    /// Appends to the audit stream; in the page cache when it returns.
    async fn write_audit(&self, row: &AuditRow) -> Result<(), String> {
        let stream = self.node.log.stream(AUDIT);
        let partition = stream.and_then(|stream| stream.partitions.first().copied());
        let partition = partition.ok_or("there is no such stream")?;
        let value = serde_json::to_vec(row).map_err(|error| error.to_string())?;
        let mut batch = BatchBuilder::new();
        batch.push(
            row.time_ms as i64,
            Some(row.by.as_bytes()),
            Some(&value),
            &[],
        );
        let entry = Entry {
            appends: vec![Append::new(partition, batch.finish())],
            ops: Vec::new(),
        };
        let appended = self.node.append(entry).await;
        appended.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn traffic(open: &crate::node::ConnectionTold) -> TrafficRow {
    let (total, rates) = (open.total, open.rates);
    TrafficRow {
        messages_in_per_s: rates.messages_in_per_s,
        bytes_in_per_s: rates.bytes_in_per_s,
        messages_out_per_s: rates.messages_out_per_s,
        bytes_out_per_s: rates.bytes_out_per_s,
        messages_in: total.messages_in,
        bytes_in: total.bytes_in,
        messages_out: total.messages_out,
        bytes_out: total.bytes_out,
    }
}

fn subscription(row: &broker::SubscriptionRow) -> SubscriptionRow {
    let shared = row.filter.strip_prefix("$share/");
    let parts = shared.and_then(|rest| rest.split_once('/'));
    let (share, filter) = match parts {
        Some((share, filter)) => (Some(share.to_owned()), filter),
        None => (None, &*row.filter),
    };
    SubscriptionRow {
        client_id: row.client_id.to_string(),
        filter: filter.to_owned(),
        qos: row.options.qos as u8,
        share,
        no_local: row.options.no_local,
        retain_as_published: row.options.retain_as_published,
        retain_handling: row.options.retain_handling as u8,
        id: (row.id != 0).then_some(row.id),
    }
}

/// The retained message in the table's record at a position.
fn message_at(log: &LogReader, position: broker::Position) -> Option<broker::OwnedMessage> {
    const READ_BYTES: usize = 64 * 1024;
    let read = log.read(position.partition, position.offset, READ_BYTES, u64::MAX);
    let read = read.ok()?;
    let batch = commitlog::batch::batches(read.first()?).next()?.ok()?;
    let record = batch
        .records()
        .filter_map(Result::ok)
        .find(|record| record.offset == position.offset)?;
    broker::decode_record(broker::StreamKind::Retained, &record).ok()
}

fn retained_message(message: &broker::OwnedMessage) -> RetainedMessage {
    use broker::properties::Property;
    let message = message.view();
    let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
    let property = |property| {
        let (name, value, user) = match property {
            Property::PayloadFormat(format) => ("payload_format", format.to_string(), false),
            Property::ContentType(text) => ("content_type", text.to_owned(), false),
            Property::ResponseTopic(text) => ("response_topic", text.to_owned(), false),
            Property::CorrelationData(bytes) => ("correlation_data", base64(bytes), false),
            Property::User(name, value) => (name, value.to_owned(), true),
        };
        PropertyRow {
            name: name.to_owned(),
            value,
            user,
        }
    };
    RetainedMessage {
        row: RetainedRow {
            topic: message.topic.to_owned(),
            size_bytes: message.payload.len() as u64,
            expires_ms: message.expires_ms,
            qos: Some(message.qos as u8),
            time_ms: Some(message.publish_ms),
        },
        payload_base64: base64(message.payload),
        publisher: message.publisher.to_owned(),
        username: message.username.to_owned(),
        properties: message.properties.iter().map(property).collect(),
    }
}

/// A client as the API shows it.
pub(super) fn client(row: broker::ClientRow) -> ClientRow {
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
