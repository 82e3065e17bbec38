//! Every metric of a node: one table of names, kinds, help and where the figure comes from, and the
//! exposition of a snapshot by it. docs/metrics.md is written from the table.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::auth::refusal::AuthValues;
use crate::http::HttpValues;
use crate::http::view::{HookRow, Status, StreamRow};
use crate::kafka::{ANSWER_BOUNDS_US, GroupValues, KafkaValues, TransactionValues};
use crate::mirror::view::{MirrorPartitionRow, MirrorStreamRow, MirrorView};
use crate::node::counters::{FLUSH_BOUNDS_US, ListenerValues};
use crate::node::{CounterValues, ListenerRow};

/// All figures of one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the node's threads count.
    pub counters: CounterValues,
    /// What each listener counts.
    pub listeners: Vec<ListenerRow>,
    /// What the shards count, summed.
    pub shards: broker::ShardStats,
    /// What the Kafka front door counts.
    pub kafka: KafkaValues,
    /// What is counted of consumer groups.
    pub groups: GroupValues,
    /// The transactions of Kafka producers.
    pub transactions: TransactionValues,
    /// The hooks.
    pub hooks: Vec<HookRow>,
    /// What the HTTP interface counts.
    pub http: HttpValues,
    /// The downlinks.
    pub downlinks: Vec<crate::downlink::DownlinkRow>,
    /// The streams.
    pub streams: Vec<StreamRow>,
    /// The mirror.
    pub mirror: MirrorView,
    /// Who came in, and who did not.
    pub auth: AuthValues,
    /// The node.
    pub status: Status,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; `_total` stands behind its name.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by size; `_bucket`, `_sum` and `_count` stand behind its name.
    Histogram,
}

/// Where a metric's figures come from.
#[derive(Clone, Copy)]
enum Read {
    /// One figure.
    One(fn(&Snapshot) -> u64),
    /// One figure that may not be known.
    Maybe(fn(&Snapshot) -> Option<u64>),
    /// A figure for each value of a label.
    Each(&'static str, fn(&Snapshot) -> Vec<(String, u64)>),
    /// A figure for each group, stream and partition.
    Lags,
    /// A figure for each mirrored stream and partition.
    MirrorLags(fn(&MirrorPartitionRow) -> u64),
    /// The times of flushes.
    FlushTimes,
    /// The times from Kafka requests to their answers, by API.
    AnswerTimes,
}

/// One metric.
pub struct Metric {
    /// Its name, without what its kind puts behind it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it tells.
    pub help: &'static str,
    read: Read,
}

impl Metric {
    /// The label its figures are told apart by.
    pub fn label(&self) -> Option<&'static str> {
        match self.read {
            Read::Each(label, _) => Some(label),
            Read::Lags => Some("group, stream, partition"),
            Read::MirrorLags(_) => Some("stream, partition"),
            Read::AnswerTimes => Some("api"),
            Read::One(_) | Read::Maybe(_) | Read::FlushTimes => None,
        }
    }

    /// The name as a query uses it.
    pub fn full_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Snapshot) -> u64) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
        read: Read::One(read),
    }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Snapshot) -> u64) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
        read: Read::One(read),
    }
}

const fn each(
    kind: Kind,
    name: &'static str,
    label: &'static str,
    help: &'static str,
    read: fn(&Snapshot) -> Vec<(String, u64)>,
) -> Metric {
    Metric {
        name,
        kind,
        help,
        read: Read::Each(label, read),
    }
}

/// Every metric, in the order of the document.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    each(Kind::Gauge, "sluice_build", "version", "Always 1; the label names the version that runs.",
        |s| vec![(s.status.version.clone(), 1)]),
    gauge("sluice_start_time_seconds", "When the node started, in seconds since the epoch.", |s| s.status.started_ms / 1_000),
    gauge("sluice_serving", "1 while the node takes appends, 0 once its log is latched or it is stopping.",
        |s| u64::from(s.status.health == "serving")),

    gauge("sluice_mqtt_connections", "MQTT connections open now.", |s| s.counters.workers.connections),
    gauge("sluice_mqtt_connections_waiting", "Connections that have not sent their CONNECT yet.", |s| s.counters.reception.waiting),
    counter("sluice_mqtt_connections_accepted", "TCP connections accepted by MQTT listeners.", |s| s.counters.reception.accepted),
    counter("sluice_mqtt_connections_opened", "Connections whose CONNECT was handed to a worker.", |s| s.counters.workers.connections_total),
    each(Kind::Counter, "sluice_mqtt_connections_refused", "reason", "Connections that came to nothing: `full` (connections_max), `timeout` (no CONNECT in time), `connect` (no acceptable CONNECT).",
        |s| labelled([("full", s.counters.reception.refused_full), ("timeout", s.counters.reception.timeouts), ("connect", s.counters.reception.refused_connect)])),
    each(Kind::Counter, "sluice_mqtt_connections_ended", "reason", "Connections that the node ended: `keep_alive`, `slow` (did not read what was sent), `malformed`, `takeover`.",
        |s| labelled([("keep_alive", s.counters.workers.keep_alive_timeouts), ("slow", s.counters.workers.slow_closes), ("malformed", s.shards.malformed), ("takeover", s.shards.takeovers)])),
    each(Kind::Gauge, "sluice_listener_connections", "listener", "Connections of a listener open now, those of MQTT without a CONNECT yet included.", |s| by_listener(s, |l| l.open)),
    each(Kind::Counter, "sluice_listener_accepted", "listener", "Connections accepted by a listener.", |s| by_listener(s, |l| l.accepted)),
    each(Kind::Counter, "sluice_listener_accept_waits", "listener", "Times a listener rested because connections came faster than connections_per_s.", |s| by_listener(s, |l| l.accept_waits)),
    each(Kind::Counter, "sluice_listener_full", "listener", "Connections refused because the listener or the node had too many.", |s| by_listener(s, |l| l.refused_full)),
    each(Kind::Counter, "sluice_listener_timeouts", "listener", "Connections that sent no whole CONNECT in time.", |s| by_listener(s, |l| l.timeouts)),
    each(Kind::Counter, "sluice_listener_crowded_out", "listener", "Connections closed before their CONNECT was whole, because others wanted their places or memory.", |s| by_listener(s, |l| l.crowded_out)),
    each(Kind::Counter, "sluice_listener_bad_connects", "listener", "Connections whose first packet was no acceptable CONNECT.", |s| by_listener(s, |l| l.refused_connect)),
    each(Kind::Counter, "sluice_listener_not_admitted", "listener", "Connections whose CONNECT was whole and who were not let in.", |s| by_listener(s, |l| l.refused_admission)),
    each(Kind::Counter, "sluice_listener_bad_proxy_headers", "listener", "Connections that did not begin with the PROXY header that was expected.", |s| by_listener(s, |l| l.refused_proxy)),
    each(Kind::Counter, "sluice_listener_tls_handshakes", "listener", "TLS handshakes completed.", |s| by_listener(s, |l| l.handshakes)),
    each(Kind::Counter, "sluice_listener_tls_handshakes_failed", "listener", "TLS handshakes that failed or took too long.", |s| by_listener(s, |l| l.handshakes_failed)),
    each(Kind::Counter, "sluice_listener_upgrades", "listener", "Connections that became WebSocket connections.", |s| by_listener(s, |l| l.upgrades)),
    each(Kind::Counter, "sluice_listener_upgrades_failed", "listener", "Requests for WebSocket that were refused.", |s| by_listener(s, |l| l.upgrades_failed)),
    each(Kind::Counter, "sluice_listener_broken_frames", "listener", "Connections closed because they broke the rules of TLS or WebSocket.", |s| by_listener(s, |l| l.broken_frames)),
    each(Kind::Counter, "sluice_listener_rate_waits", "listener", "Times a client was over bytes_in_per_s or messages_in_per_s and was not read for a while.", |s| by_listener(s, |l| l.rate_waits)),
    counter("sluice_mqtt_packets_received", "MQTT packets received.", |s| s.counters.workers.packets_in),
    counter("sluice_mqtt_packets_sent", "MQTT packets sent.", |s| s.counters.workers.packets_out),
    counter("sluice_mqtt_received_bytes", "Bytes received from MQTT clients.", |s| s.counters.workers.bytes_in),
    counter("sluice_mqtt_sent_bytes", "Bytes sent to MQTT clients.", |s| s.counters.workers.bytes_out),
    each(Kind::Counter, "sluice_mqtt_messages_received", "qos", "PUBLISH packets taken.", |s| by_qos(&s.shards.received)),
    each(Kind::Counter, "sluice_mqtt_messages_sent", "qos", "PUBLISH packets sent, repetitions included.", |s| by_qos(&s.shards.sent)),
    counter("sluice_mqtt_messages_acked", "QoS 1 and 2 deliveries that their receiver has acknowledged.", |s| s.shards.acked),
    each(Kind::Counter, "sluice_mqtt_messages_dropped", "reason", "Messages that did not reach a receiver.",
        |s| broker::DropReason::ALL.iter().zip(s.shards.dropped).map(|(reason, count)| (reason.as_str().to_owned(), count)).collect()),
    counter("sluice_mqtt_subscribes_denied", "Filters of SUBSCRIBE, or of sessions that came back, that their client may not subscribe to.", |s| s.shards.subscribes_denied),
    counter("sluice_mqtt_credentials_ended", "Connections ended because their credentials did.", |s| s.shards.credentials_ended),
    each(Kind::Counter, "sluice_auth_accepted", "authenticator", "Clients that an authenticator let in.", |s| s.auth.accepted.clone()),
    each(Kind::Counter, "sluice_auth_refused", "reason", "Clients that did not come in: `overload` (memory_max), `banned`, `no_credentials`, `wrong_credentials`, `too_many_attempts`, `no_answer` (of a callout or a set of keys), `method` (of enhanced authentication), `flapping`, `busy` (too many passwords to hash), `client_id` (not one that it may have).",
        |s| s.auth.refused.clone()),
    counter("sluice_auth_flapping_bans", "Client ids banned for a while because they came and went too often.", |s| s.auth.flapped),
    gauge("sluice_auth_bans", "Bans in force, and those that ended of late.", |s| s.auth.bans),
    each(Kind::Counter, "sluice_callout_answers", "callout", "Requests to an HTTP service that were answered: `authorization`, or the name of an authenticator.", |s| s.auth.answered.clone()),
    each(Kind::Counter, "sluice_callout_failures", "callout", "Requests that were not answered in time or at all; they count as no.", |s| s.auth.unanswered.clone()),
    each(Kind::Counter, "sluice_callout_answers_milliseconds", "callout", "Time that answered requests took, in milliseconds.", |s| s.auth.answered_ms.clone()),
    counter("sluice_mqtt_events_lost", "Wills and event records that a full disk refused and that found no room to wait.", |s| s.shards.events_lost),
    gauge("sluice_mqtt_sessions", "Sessions, with a connection or without.", |s| s.shards.sessions),
    gauge("sluice_mqtt_subscriptions", "Subscriptions of all sessions.", |s| s.shards.subscriptions),
    gauge("sluice_mqtt_retained_messages", "Retained messages.", |s| s.status.retained),
    gauge("sluice_mqtt_inbox_messages", "Messages owed to sessions that are offline or slow.", |s| s.shards.inbox_messages),
    gauge("sluice_mqtt_inbox_bytes", "Bytes of inboxes; bounded by inbox_bytes_max.", |s| s.shards.inbox_bytes),
    gauge("sluice_mqtt_send_buffer_bytes", "Bytes that wait to be sent to MQTT clients.", |s| s.counters.workers.output_bytes),
    counter("sluice_mqtt_sessions_expired", "Sessions ended by their expiry interval.", |s| s.shards.sessions_expired),
    gauge("sluice_mqtt_mirror_answers_waiting", "PUBACK and PUBREC that wait until the Apache Kafka cluster behind has their message (ack = \"kafka\").", |s| s.shards.mirror_waiting),
    counter("sluice_mqtt_mirror_answers_failed", "The same that waited longer than ack_timeout, or whose message the cluster will never have: answered with 0x80, or the connection closed.", |s| s.shards.mirror_timeouts),
    counter("sluice_mqtt_mirror_messages_refused", "Messages refused because too many answers wait for the cluster behind.", |s| s.shards.mirror_refused),
    counter("sluice_mqtt_wills_published", "Wills published.", |s| s.shards.wills_published),

    counter("sluice_worker_turns", "Turns of the workers in which something was done.", |s| s.counters.workers.turns),
    counter("sluice_worker_appends", "Turns of the workers that appended to the log.", |s| s.counters.workers.appends),
    counter("sluice_worker_append_bytes", "Bytes that workers handed to the log thread.", |s| s.counters.workers.append_bytes),
    counter("sluice_worker_credit_waits", "Times a worker stopped reading from sockets because the log was behind.", |s| s.counters.workers.credit_waits),
    counter("sluice_worker_socket_reads", "System calls that read from sockets.", |s| s.counters.workers.reads),
    counter("sluice_worker_socket_writes", "System calls that wrote to sockets.", |s| s.counters.workers.writes),
    counter("sluice_worker_disk_reads", "Reads handed to the reader pool for sessions behind the tail.", |s| s.counters.workers.pool_reads),

    counter("sluice_log_commits", "Writes to the journal; each makes all entries since the last one readable.", |s| s.counters.log.commits),
    counter("sluice_log_entries", "Journal entries written.", |s| s.counters.log.entries),
    counter("sluice_log_written_bytes", "Bytes of journal entries written.", |s| s.counters.log.bytes),
    counter("sluice_log_flushes", "Flushes (fdatasync) of the journal.", |s| s.counters.log.flushes),
    Metric { name: "sluice_log_flush_seconds", kind: Kind::Histogram, help: "Time of a flush.", read: Read::FlushTimes },
    counter("sluice_log_refused_entries", "Entries refused: the disk or the journal was full, the entry too large or behind a refused one that it needs, or the log latched.", |s| s.counters.log.refused),
    counter("sluice_log_checkpoints", "Checkpoints completed.", |s| s.counters.log.checkpoints),
    counter("sluice_log_waits", "Times the log thread took nothing because a worker lagged or the journal was full.", |s| s.counters.log.waits),
    gauge("sluice_log_appended_lsn", "Number of the last journal entry that is readable.", |s| s.status.appended_lsn),
    gauge("sluice_log_flushed_lsn", "Number of the last journal entry that survives a power cut.", |s| s.status.flushed_lsn),
    gauge("sluice_log_journal_bytes", "Size of the journal.", |s| s.status.journal_bytes),
    gauge("sluice_log_journal_used_bytes", "Bytes of the journal that wait for a checkpoint; replayed after a crash.", |s| s.status.journal_used_bytes),
    Metric { name: "sluice_disk_free_bytes", kind: Kind::Gauge, help: "Free bytes on the file system of the data directory; appends are refused below disk_reserve_bytes.", read: Read::Maybe(|s| s.status.disk_free_bytes) },

    each(Kind::Gauge, "sluice_stream_records", "stream", "Records in a stream.", |s| by_stream(s, |stream| stream.records)),
    each(Kind::Gauge, "sluice_stream_size_bytes", "stream", "Bytes of a stream.", |s| by_stream(s, |stream| stream.size_bytes)),
    each(Kind::Counter, "sluice_stream_appended_records", "stream", "Records ever appended to a stream.", |s| by_stream(s, |stream| stream.partitions.iter().map(|p| p.end).sum())),
    each(Kind::Gauge, "sluice_stream_unflushed_records", "stream", "Records of a stream that would not survive a power cut.", |s| by_stream(s, |stream| stream.partitions.iter().map(|p| p.end - p.flushed.min(p.end)).sum())),

    each(Kind::Counter, "sluice_hook_records", "hook", "Records that a hook has made since the start.",
        |s| s.hooks.iter().map(|hook| (hook.name.clone(), hook.matched)).collect()),
    each(Kind::Counter, "sluice_hook_records_refused", "hook", "Records of a hook that the log refused since the start.",
        |s| s.hooks.iter().map(|hook| (hook.name.clone(), hook.errors)).collect()),

    each(Kind::Counter, "sluice_http_requests", "status", "Requests to the HTTP interface that were answered, by the status of the answer; streams of events count when they open.",
        |s| s.http.answers.iter().map(|(status, count)| (status.to_string(), *count)).collect()),
    counter("sluice_http_answers_milliseconds", "Time that those answers took, from the whole head of the request to the head of the answer, in milliseconds.", |s| s.http.answers_ms),
    gauge("sluice_http_requests_open", "Requests that wait for their answer now.", |s| s.http.open),
    gauge("sluice_http_event_streams", "Streams of events that are open now.", |s| s.http.event_streams),

    each(Kind::Counter, "sluice_downlink_published_records", "downlink", "Records that a downlink has published.", |s| by_downlink(s, |it| it.published)),
    each(Kind::Counter, "sluice_downlink_refused_records", "downlink", "Records that could not be published; they are in the dead-letter stream with their reason.", |s| by_downlink(s, |it| it.refused)),
    each(Kind::Counter, "sluice_downlink_expired_records", "downlink", "Records that were too old when they came.", |s| by_downlink(s, |it| it.expired)),
    each(Kind::Counter, "sluice_downlink_lost_records", "downlink", "Records that retention of the source dropped before they were read.", |s| by_downlink(s, |it| it.lost)),
    each(Kind::Gauge, "sluice_downlink_lag_records", "downlink", "Records of the source that are not published yet.", |s| by_downlink(s, |it| it.lag_records)),
    each(Kind::Gauge, "sluice_downlink_connected", "downlink", "1 while a downlink reads its source, 0 while it waits or has failed.", |s| by_downlink(s, |it| u64::from(it.state == "connected"))),

    gauge("sluice_kafka_connections", "Kafka connections open now.", |s| s.kafka.connections),
    counter("sluice_kafka_connections_accepted", "Kafka connections accepted.", |s| s.kafka.connections_total),
    each(Kind::Counter, "sluice_kafka_connections_ended", "reason", "Kafka connections that the node ended: `full` (connections_max), `malformed`, `unsupported` (API or version), `login` (a request before the login, or when it was over), `tls` (handshake failed), `timeout` (silent, or did not read).",
        |s| labelled([("full", s.kafka.connections_refused), ("malformed", s.kafka.malformed), ("unsupported", s.kafka.unsupported), ("login", s.kafka.not_logged_in), ("tls", s.kafka.tls_handshakes_failed), ("timeout", s.kafka.timed_out)])),
    each(Kind::Counter, "sluice_kafka_logins", "mechanism", "Logins of Kafka connections that succeeded, and those that were renewed.",
        |s| labelled([("PLAIN", s.kafka.logins_plain), ("SCRAM-SHA-256", s.kafka.logins_scram_sha_256), ("SCRAM-SHA-512", s.kafka.logins_scram_sha_512)])),
    each(Kind::Counter, "sluice_kafka_logins_failed", "mechanism", "Logins of Kafka connections that were refused.",
        |s| labelled([("PLAIN", s.kafka.logins_plain_failed), ("SCRAM-SHA-256", s.kafka.logins_scram_sha_256_failed), ("SCRAM-SHA-512", s.kafka.logins_scram_sha_512_failed)])),
    counter("sluice_kafka_tls_handshakes", "TLS handshakes of Kafka connections that succeeded.", |s| s.kafka.tls_handshakes),
    counter("sluice_kafka_throttled", "Answers to Kafka clients that told them to wait, because of a quota.", |s| s.kafka.throttled),
    counter("sluice_kafka_received_bytes", "Bytes of Kafka requests.", |s| s.kafka.bytes_in),
    counter("sluice_kafka_sent_bytes", "Bytes of Kafka responses.", |s| s.kafka.bytes_out),
    counter("sluice_kafka_looks_moderated", "Times that a connection was read only once much had come, because its producer sends without a pause.", |s| s.kafka.looks_moderated),
    gauge("sluice_kafka_fetches_waiting", "Fetches that wait for records now.", |s| s.kafka.fetches_parked),
    each(Kind::Counter, "sluice_kafka_requests", "api", "Kafka requests.", |s| s.kafka.apis.iter().map(|api| (api.api.to_owned(), api.requests)).collect()),
    Metric { name: "sluice_kafka_answer_seconds", kind: Kind::Histogram, help: "Time from a Kafka request to its answer, with what it waited for.", read: Read::AnswerTimes },
    each(Kind::Counter, "sluice_kafka_errors", "api", "Error codes in Kafka responses.", |s| s.kafka.apis.iter().map(|api| (api.api.to_owned(), api.errors)).collect()),

    each(Kind::Gauge, "sluice_kafka_groups", "state", "Consumer groups: with members, or with committed offsets (`Empty`).",
        |s| s.groups.states.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect()),
    gauge("sluice_kafka_transactional_ids", "Transactional ids that are known.", |s| s.transactions.ids),
    gauge("sluice_kafka_transactions_open", "Transactions that are open.", |s| s.transactions.open),
    each(Kind::Counter, "sluice_kafka_transactions_ended", "how", "Transactions that ended: `committed`, `aborted`; those of the latter that were open for too long are counted as `expired` too.",
        |s| labelled([("committed", s.transactions.committed), ("aborted", s.transactions.aborted), ("expired", s.transactions.expired)])),
    gauge("sluice_kafka_group_members", "Members of all consumer groups.", |s| s.groups.members),
    counter("sluice_kafka_group_rebalances", "Rebalances begun in consumer groups.", |s| s.groups.rebalances),
    counter("sluice_kafka_group_members_lost", "Members of consumer groups that were silent for their session timeout, or did not take part in a rebalance.", |s| s.groups.members_lost),
    gauge("sluice_kafka_offsets", "Committed offsets that are kept.", |s| s.groups.offsets),
    counter("sluice_kafka_offset_commits", "Offsets committed by consumer groups.", |s| s.groups.commits),
    counter("sluice_kafka_offsets_expired", "Committed offsets dropped because their group had no members for offsets_retention.", |s| s.groups.expired),
    each(Kind::Gauge, "sluice_mirror_state", "state", "1 for the state of the mirror, 0 for the others: `off`, `connected`, `paused` (switched off), `waiting` (for the cluster), `failed` (needs an operator), `fenced` (stopped for good).",
        |s| ["off", "connected", "paused", "waiting", "failed", "fenced"].into_iter().map(|state| (state.to_owned(), u64::from(s.mirror.state == state))).collect()),
    counter("sluice_mirror_transactions", "Kafka transactions of the mirror that were committed; without exactly_once, rounds.", |s| s.mirror.transactions),
    counter("sluice_mirror_transactions_aborted", "The same that were aborted and begun anew.", |s| s.mirror.aborted),
    counter("sluice_mirror_clients_given_up", "Clients of the cluster whose calls did not come back; each was begun anew.", |s| s.mirror.given_up),
    gauge("sluice_mirror_clients_away", "Those of them whose calls still have not come back; each holds connections and some records.", |s| s.mirror.away),
    each(Kind::Counter, "sluice_mirror_errors", "kind", "Errors of the mirror: librdkafka's name of a record's error; `waiting`, `failed`, `fenced` of a lost connection; `unreadable` of what the log could not read; `topic made anew` of one that was deleted.",
        |s| s.mirror.errors.iter().map(|row| (row.kind.clone(), row.count)).collect()),
    each(Kind::Gauge, "sluice_mirror_stream_waiting", "stream", "1 while a stream waits because its topic fails and others go on.",
        |s| by_mirrored(s, |row| u64::from(row.state != "connected"))),
    each(Kind::Counter, "sluice_mirror_records", "stream", "Records that the cluster has, since the start.", |s| by_mirrored(s, |row| row.records)),
    each(Kind::Counter, "sluice_mirror_bytes", "stream", "Bytes of their keys and values.", |s| by_mirrored(s, |row| row.bytes)),
    each(Kind::Counter, "sluice_mirror_batches", "stream", "Batches of the log that they came in.", |s| by_mirrored(s, |row| row.batches)),
    each(Kind::Counter, "sluice_mirror_dead_letters", "stream", "Records that the cluster refused as such; they are in the dead-letter stream.", |s| by_mirrored(s, |row| row.dead_letters)),
    each(Kind::Counter, "sluice_mirror_lost_records", "stream", "Records that a stream's hard size bound dropped before they were mirrored.", |s| by_mirrored(s, |row| row.lost)),
    Metric { name: "sluice_mirror_lag_records", kind: Kind::Gauge, help: "Records that are flushed and not mirrored.", read: Read::MirrorLags(|row| row.lag_records) },
    Metric { name: "sluice_mirror_lag_ms", kind: Kind::Gauge, help: "Age of the oldest of them, in milliseconds; 0 without any.", read: Read::MirrorLags(|row| row.lag_ms) },
    Metric { name: "sluice_kafka_group_lag_records", kind: Kind::Gauge, help: "Records between a group's committed offset and the end of the partition, of the first 1,000 partitions of groups in the order of their names.", read: Read::Lags },
];

/// The snapshot in the exposition format of OpenMetrics, which Prometheus reads.
pub fn exposition(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::new(snapshot))));
    let mut out = String::new();
    prometheus_client::encoding::text::encode(&mut out, &registry)
        .expect("a String takes all that is written");
    out
}

#[derive(Debug)]
struct Scrape(Arc<Snapshot>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut encoder = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            match metric.read {
                Read::One(read) => figure(&mut encoder, metric.kind, read(&self.0))?,
                Read::Maybe(read) => {
                    if let Some(value) = read(&self.0) {
                        figure(&mut encoder, metric.kind, value)?;
                    }
                }
                Read::Each(label, read) => {
                    for (value, number) in read(&self.0) {
                        let labels = [(label, value.as_str())];
                        figure(&mut encoder.encode_family(&labels)?, metric.kind, number)?;
                    }
                }
                Read::Lags => {
                    for ([group, stream, partition], lag) in &self.0.groups.lags {
                        let labels = [
                            ("group", group.as_str()),
                            ("stream", stream.as_str()),
                            ("partition", partition.as_str()),
                        ];
                        figure(&mut encoder.encode_family(&labels)?, metric.kind, *lag)?;
                    }
                }
                Read::MirrorLags(read) => {
                    for stream in &self.0.mirror.streams {
                        for row in &stream.partitions {
                            let partition = row.partition.to_string();
                            let labels = [
                                ("stream", stream.stream.as_str()),
                                ("partition", partition.as_str()),
                            ];
                            figure(&mut encoder.encode_family(&labels)?, metric.kind, read(row))?;
                        }
                    }
                }
                Read::FlushTimes => flush_times(&mut encoder, &self.0)?,
                Read::AnswerTimes => answer_times(&mut encoder, &self.0)?,
            }
        }
        Ok(())
    }
}

fn figure(encoder: &mut MetricEncoder<'_>, kind: Kind, value: u64) -> Result<(), fmt::Error> {
    match kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        Kind::Gauge | Kind::Histogram => encoder.encode_gauge(&value),
    }
}

fn flush_times(encoder: &mut MetricEncoder<'_>, snapshot: &Snapshot) -> Result<(), fmt::Error> {
    let times = &snapshot.counters.flush_times;
    let bounds = FLUSH_BOUNDS_US
        .iter()
        .map(|us| *us as f64 / 1e6)
        .chain([f64::INFINITY]);
    let counts = times.buckets.iter().copied().chain(std::iter::repeat(0));
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    let count = times.buckets.iter().sum();
    encoder.encode_histogram::<NoLabelSet>(times.sum_us as f64 / 1e6, count, &buckets, None)
}

/// Of the APIs that were asked for: most clients use a few of them.
fn answer_times(encoder: &mut MetricEncoder<'_>, snapshot: &Snapshot) -> Result<(), fmt::Error> {
    let bounds = || {
        let finite = ANSWER_BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        finite.chain([f64::INFINITY])
    };
    for api in snapshot.kafka.apis.iter().filter(|api| api.requests > 0) {
        let counts = api.buckets.iter().copied().chain(std::iter::repeat(0));
        let buckets: Vec<(f64, u64)> = bounds().zip(counts).collect();
        let count = api.buckets.iter().sum();
        encoder
            .encode_family(&[("api", api.api)])?
            .encode_histogram::<NoLabelSet>(api.sum_us as f64 / 1e6, count, &buckets, None)?;
    }
    Ok(())
}

fn labelled<const N: usize>(figures: [(&str, u64); N]) -> Vec<(String, u64)> {
    figures
        .into_iter()
        .map(|(label, value)| (label.to_owned(), value))
        .collect()
}

fn by_qos(figures: &[u64; 3]) -> Vec<(String, u64)> {
    figures
        .iter()
        .enumerate()
        .map(|(qos, count)| (qos.to_string(), *count))
        .collect()
}

fn by_mirrored(snapshot: &Snapshot, read: fn(&MirrorStreamRow) -> u64) -> Vec<(String, u64)> {
    let rows = snapshot.mirror.streams.iter();
    rows.map(|row| (row.stream.clone(), read(row))).collect()
}

fn by_downlink(
    snapshot: &Snapshot,
    read: impl Fn(&crate::downlink::DownlinkRow) -> u64,
) -> Vec<(String, u64)> {
    let rows = snapshot.downlinks.iter();
    rows.map(|row| (row.name.clone(), read(row))).collect()
}

fn by_listener(snapshot: &Snapshot, read: fn(&ListenerValues) -> u64) -> Vec<(String, u64)> {
    let figure = |row: &ListenerRow| (row.name.clone(), read(&row.counts));
    snapshot.listeners.iter().map(figure).collect()
}

fn by_stream(snapshot: &Snapshot, read: fn(&StreamRow) -> u64) -> Vec<(String, u64)> {
    snapshot
        .streams
        .iter()
        .map(|stream| (stream.name.clone(), read(stream)))
        .collect()
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
