//! Every key of the configuration file with its type, unit, default and meaning: the one table from
//! which unknown keys find their nearest neighbour and docs/configuration.md is written. Tests hold
//! it against the serde types, the default file and the document.

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Table it stands in: one of [`TABLES`].
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What may be written, for a person.
    pub kind: &'static str,
    /// Unit of a plain number; empty where there is none.
    pub unit: &'static str,
    /// What holds where the key is absent, as it would be written; empty: nothing is set.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// Every table, by path; the empty one is the top of the file.
pub const TABLES: &[&str] = &[
    "",
    "node",
    "log",
    "mqtt",
    "kafka",
    "kafka.permission",
    "kafka.quota",
    "mirror",
    "mirror.stream",
    "mirror.client",
    "http",
    "logging",
    "logging.modules",
    "listener",
    "stream",
    "stream.retention",
    "hook",
    "downlink",
];

/// Shape of a path that names a value, or a table whose keys are free.
pub const FREE: &str = "*";

/// Tables whose keys are free.
pub const OPEN: &[&str] = &["logging.modules", "mirror.client"];

/// Tables that are written `[[name]]`.
const LISTS: &[&str] = &[
    "downlink",
    "listener",
    "stream",
    "hook",
    "kafka.permission",
    "kafka.quota",
    "mirror.stream",
];

const DURATION: &str = "duration";
const SIZE: &str = "size";
const INTEGER: &str = "integer";
const TEXT: &str = "text";
const FLAG: &str = "true or false";

/// Shorthand for a row of the table.
const fn key(
    table: &'static str,
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        table,
        name,
        kind,
        unit,
        default,
        meaning,
    }
}

/// Every key, in the order of the document.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("node", "name", TEXT, "", "\"sluice@127.0.0.1\"",
        "Name of this node; stands as `node` in every hook record."),
    key("node", "data_dir", TEXT, "", "\"sluice-data\"",
        "Directory of all data; made if absent. A relative path counts from the directory the program is started in."),
    key("node", "workers", INTEGER, "threads", "0",
        "MQTT worker threads, 1 to 64; 0: seven for every eight processor cores, at least one."),

    key("log", "journal_bytes", SIZE, "bytes", "\"512MB\"",
        "Size of the journal, 64MB to 512MB. A larger one allows rarer checkpoints, a smaller one a faster start after a crash. Its files are written with zeros once and then used again and again."),
    key("log", "commits_per_s_max", INTEGER, "flushes a second", "1000",
        "Most flushes to disk a second under load, 1 to 10000; after a quiet moment a flush starts at once. Lower costs latency and saves processor time."),
    key("log", "flush_bytes", SIZE, "bytes", "\"256KB\"",
        "Unflushed bytes at which a flush starts whatever the rate, at least 4KB."),
    key("log", "flush_ms_max", DURATION, "ms", "\"1s\"",
        "Longest time that anything stays unflushed, whatever its ack level; 1ms to 1m."),
    key("log", "disk_reserve_bytes", SIZE, "bytes", "\"256MB\"",
        "Free space of the file system below which appends are refused, until there is space again."),
    key("log", "producer_expiry", DURATION, "ms", "\"1d\"",
        "A Kafka producer that sent nothing to a partition for this long is forgotten there: what it sends again is no longer known as such; 1m to 10 years."),
    key("log", "checkpoint_s", DURATION, "s", "\"30s\"",
        "Longest time between two checkpoints, 1s to 1h. What was written since the last is replayed after a crash."),
    key("log", "checkpoint_fill_percent", INTEGER, "percent", "40",
        "Share of the journal, 5 to 80, at which a checkpoint starts whatever the time."),
    key("log", "segment_bytes", SIZE, "bytes", "\"256MB\"",
        "Size at which a segment is closed and the next begun, 1MB to 1GB. Retention drops whole segments."),
    key("log", "tail_bytes_max", SIZE, "bytes", "\"64MB\"",
        "Committed messages kept in memory for readers at the tail, 1MB to 4GB; who is further behind reads from disk."),
    key("log", "retention_check_s", DURATION, "s", "\"1m\"",
        "Time between two looks at retention and compaction, 1s to 1d."),

    key("mqtt", "packet_size_max", SIZE, "bytes", "\"1MB\"",
        "Largest MQTT packet, 1KB to 8MB; announced to MQTT 5 clients. A larger one closes the connection (0x95)."),
    key("mqtt", "connections_max", INTEGER, "connections", "1000000",
        "Connections of all MQTT listeners together; further ones are closed at once. The open-file limit of the process must allow them."),
    key("mqtt", "connect_timeout_ms", DURATION, "ms", "\"10s\"",
        "Time that a connection has to send its CONNECT, 100ms to 5m."),
    key("mqtt", "keep_alive_s_max", DURATION, "s", "\"none\"",
        "Longest keep alive granted, 1s to 65535s; MQTT 5 clients that ask for more, or for none, are told this one. \"none\": what the client asks for."),
    key("mqtt", "session_expiry_s_max", DURATION, "s", "\"none\"",
        "Longest life of a session without a connection; also that of persistent sessions of MQTT 3 clients. \"none\": for ever, if the client asks for it."),
    key("mqtt", "receive_maximum", INTEGER, "messages", "1024",
        "QoS 1 and 2 messages that one client may have on their way to the node without an answer, 1 to 65535; announced to MQTT 5 clients."),
    key("mqtt", "inflight_max", INTEGER, "messages", "1024",
        "QoS 1 and 2 messages on their way to one client without its answer, 1 to 65535, whatever receive maximum it announces."),
    key("mqtt", "inflight_v3", INTEGER, "messages", "32",
        "The same for clients of MQTT 3.1 and 3.1.1, which cannot announce a receive maximum; at most `inflight_max` counts."),
    key("mqtt", "topic_alias_max", INTEGER, "aliases", "64",
        "Topic aliases that a client may set, 0 to 65535, and that the node uses towards a client that allows them."),
    key("mqtt", "inbox_max", INTEGER, "messages", "1000",
        "Messages owed to one session that is offline or slow; a further one is dropped and counted (`queue_full`)."),
    key("mqtt", "inbox_bytes_max", SIZE, "bytes", "\"1GB\"",
        "Bytes of the inboxes of all sessions together, at least 1MB."),
    key("mqtt", "subscriptions_max", INTEGER, "subscriptions", "10000",
        "Subscriptions of one session; further ones are refused (0x97)."),
    key("mqtt", "retained_max", INTEGER, "messages", "1000000",
        "Retained messages of the node; a further topic is refused (0x97)."),
    key("mqtt", "send_buffer_bytes_max", SIZE, "bytes", "\"1MB\"",
        "Bytes that wait to be sent to one connection, 16KB to 256MB, before its QoS 0 messages are dropped (and counted) and the others stay in its inbox."),
    key("mqtt", "shared_strategy", "`round_robin` or `sticky`", "", "\"round_robin\"",
        "Which member of a shared subscription gets a message: each in turn, or the same until it leaves or is full."),
    key("mqtt", "sys_interval_s", DURATION, "s", "\"10s\"",
        "Time between two publications of `$SYS/broker/...`; \"none\" or 0: none are published."),

    key("kafka", "advertised", "`host:port`", "", "",
        "Address that Kafka clients are told to connect to. Absent: the address at which the client reached the node, which is right unless a proxy or NAT stands between."),
    key("kafka", "connections_max", INTEGER, "connections", "10000",
        "Connections of all Kafka listeners together, 1 to 100000; further ones are closed at once."),
    key("kafka", "connections_max_per_address", INTEGER, "connections", "2000",
        "Connections from one client address, 1 to 100000; further ones are closed at once."),
    key("kafka", "requests_outstanding_max", INTEGER, "requests", "64",
        "Requests of one connection that are begun and not yet answered, 1 to 1000; more wait in the network."),
    key("kafka", "request_bytes_max", SIZE, "bytes", "\"100MB\"",
        "Largest request, 64KB to 1GB; a larger one closes the connection."),
    key("kafka", "fetch_bytes_max", SIZE, "bytes", "\"50MB\"",
        "Most record bytes in one Fetch response, 64KB to 1GB, whatever the client asks for; its first batch is sent whole in any case."),
    key("kafka", "fetch_wait_ms_max", DURATION, "ms", "\"30s\"",
        "Longest wait of a Fetch that finds nothing, 0ms to 5m, whatever the client asks for."),
    key("kafka", "idle_ms_max", DURATION, "ms", "\"10m\"",
        "A connection without a request for this long is closed, at least 1s."),
    key("kafka", "group_session_timeout_ms_min", DURATION, "ms", "\"6s\"",
        "Shortest session timeout that a member of a consumer group may ask for, 1ms to 1d; a member that is silent for its session timeout loses its place."),
    key("kafka", "group_session_timeout_ms_max", DURATION, "ms", "\"30m\"",
        "Longest session timeout that a member of a consumer group may ask for, up to 1d."),
    key("kafka", "group_rebalance_delay_ms", DURATION, "ms", "\"100ms\"",
        "How long the first rebalance of an empty consumer group waits for more members, 0ms to 5m; longer where members come at such intervals."),
    key("kafka", "group_members_max", INTEGER, "members", "1000",
        "Members of one consumer group, 1 to 10000; further ones are refused (GROUP_MAX_SIZE_REACHED)."),
    key("kafka", "groups_max", INTEGER, "groups", "10000",
        "Consumer groups of the node, 1 to 1000000; nobody can join a further one."),
    key("kafka", "offsets_retention", DURATION, "ms", "\"7d\"",
        "How long committed offsets are kept once their group has no members, 1m to 10 years."),
    key("kafka", "transaction_timeout_max", DURATION, "ms", "\"15m\"",
        "Longest timeout that a producer may ask for its transactions, 1s to 24 days; a transaction that is open for longer than its timeout is aborted."),
    key("kafka", "transactional_id_expiry", DURATION, "ms", "\"7d\"",
        "A transactional id that nobody uses for this long is forgotten, 1m to 10 years."),
    key("kafka", "auto_create", FLAG, "", "true",
        "Whether a topic that a Kafka client asks for by name, and allows to be created, is created. What such a client may not create stays unknown to it."),
    key("kafka", "topic_partitions", INTEGER, "partitions", "1",
        "Partitions of a topic that is created over Kafka without a number of them, 1 to 1024."),
    key("kafka", "topic_ack", "`append` or `flush`", "", "\"append\"",
        "When a producer gets its answer for a topic that is created over Kafka; its config `sluice.ack` says otherwise. `append` (survives a crash of the program) is what Apache Kafka gives."),
    key("kafka", "topics_max", INTEGER, "topics", "2000",
        "Streams of the node beyond which none is created over Kafka, 1 to 100000."),
    key("kafka", "partitions_max", INTEGER, "partitions", "8000",
        "Partitions of all streams of the node beyond which none is created over Kafka, 1 to 100000. Each holds about three open files."),

    key("kafka", "session_lifetime_ms", DURATION, "ms", "\"none\"",
        "How long a SASL authentication holds before the client must renew it on the same connection (KIP-368), 1s to 7d; a connection that does not is closed. \"none\": until it ends."),
    key("kafka", "super_users", "list of names", "", "[]",
        "Users who may do everything, whatever the permissions say."),
    key("kafka", "permission", "list of tables", "", "[]",
        "Who may do what; the keys of the next table. The first permission that concerns a request decides. While there is none and no Kafka listener has `authentication` or asks for client certificates, everything is allowed; otherwise what none allows is refused (docs/security.md)."),
    key("kafka", "quota", "list of tables", "", "[]",
        "How fast clients may be; the keys of the table behind the next."),

    key("kafka.permission", "effect", "`allow` or `deny`", "", "\"allow\"",
        "Whether it allows or denies."),
    key("kafka.permission", "principal", "pattern", "", "",
        "Whom it concerns: the name of a user, the beginning of names with `*` behind it, or `*` for everyone; `anonymous` is who was not asked. Required."),
    key("kafka.permission", "operations", "list of words", "", "",
        "What is done: `all`, `read`, `write`, `create`, `delete`, `alter`, `describe`, `cluster_action`, `describe_configs`, `alter_configs`, `idempotent_write`. As in Apache Kafka, who may `read`, `write`, `delete` or `alter` may `describe`, and who may `alter_configs` may `describe_configs`. Required."),
    key("kafka.permission", "resource", "`topic`, `group`, `transactional_id`, `cluster` or `any`", "", "",
        "To what: streams (topics), consumer groups, transactional ids, the node itself, or all of these. Required."),
    key("kafka.permission", "name", "pattern", "", "\"*\"",
        "Of which name: a name, the beginning of names with `*` behind it, or `*`."),

    key("kafka.quota", "principal", "pattern", "", "",
        "Whom it concerns, each principal for itself; absent: everyone, whoever it is. The first quota that concerns a request counts."),
    key("kafka.quota", "client_id", "pattern", "", "",
        "Which client ids it concerns, each for itself; absent: all."),
    key("kafka.quota", "bytes_in_per_s", SIZE, "bytes", "\"none\"",
        "Bytes of requests a second, 1KB to 1TB. Who is over a quota is told so (throttle_time_ms) and not read from until it is within it again."),
    key("kafka.quota", "bytes_out_per_s", SIZE, "bytes", "\"none\"",
        "Bytes of answers a second, 1KB to 1TB."),
    key("kafka.quota", "requests_per_s", INTEGER, "requests", "",
        "Requests a second, at least 1; absent: any number."),

    key("mirror", "brokers", "list of `host:port`, separated by commas", "", "",
        "Brokers of the Apache Kafka cluster to begin with; the others are learnt from them. Required. Without a table [mirror] nothing is mirrored."),
    key("mirror", "identity", TEXT, "", "",
        "Name of this node towards that cluster: 1 to 200 of `A-Z a-z 0-9 . _ -`. Its transactional ids are `<identity>-0` and so on, its group `<identity>-positions`. Absent: `sluice-` and the cluster id of the data directory, which no other node has."),
    key("mirror", "exactly_once", FLAG, "", "true",
        "Whether records and the position up to which they were read are written in one Kafka transaction, so that a `read_committed` reader sees each once whatever crashes. `false`: idempotent, and after a crash what was sent since the last committed position (a second) may be there twice."),
    key("mirror", "shards", INTEGER, "threads", "0",
        "Threads that mirror, each with its own producer, 1 to 16; 0: one for every four processor cores, at least one."),
    key("mirror", "compression", "`none`, `gzip`, `snappy`, `lz4` or `zstd`", "", "\"none\"",
        "Compression of what is sent, unless [[mirror.stream]] says otherwise."),
    key("mirror", "create_topics", FLAG, "", "true",
        "Whether topics that the cluster lacks are created. Otherwise their streams wait until somebody creates them."),
    key("mirror", "replication_factor", INTEGER, "replicas", "",
        "Replicas of topics that are created, 1 to 100; absent: what the cluster's brokers take by default."),
    key("mirror", "start", "`beginning` or `end`", "", "\"beginning\"",
        "Where a stream that was never mirrored starts: with its oldest record, or with what comes from now on."),
    key("mirror", "ack_timeout", DURATION, "ms", "\"30s\"",
        "How long the publisher of a message in a stream with `ack = \"kafka\"` waits for the cluster, 100ms to 1h; then one of MQTT 5 gets reason code 0x80, an older one is disconnected. The message stays in the log and is mirrored all the same."),
    key("mirror", "dead_letter", TEXT, "", "\"mirror_dead_letter\"",
        "Stream of this node for records that the cluster refuses as such (too large, malformed), with the reason and their place in headers `sluice.*`."),
    key("mirror", "positions_topic", TEXT, "", "\"sluice-mirror-positions\"",
        "Topic of the cluster whose group offsets hold the positions; it stays empty, and several nodes may share it."),
    key("mirror", "tls", FLAG, "", "false",
        "Whether to speak TLS. Needs a program built with the feature `kafka-tls`, as do the other `tls_*` keys and SCRAM."),
    key("mirror", "tls_ca", "file", "", "",
        "Certificates that those of the brokers must come from, PEM. Absent: those of the system."),
    key("mirror", "tls_certificate", "file", "", "",
        "Certificate of this node for clusters that ask for one, PEM."),
    key("mirror", "tls_key", "file", "", "",
        "Its private key, PEM. Required with `tls_certificate`."),
    key("mirror", "tls_key_password", "`file:PATH` or `env:NAME`", "", "",
        "Where the passphrase of the key is: a file's first line, or an environment variable."),
    key("mirror", "sasl_mechanism", "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`", "", "",
        "How to log in; absent: nobody logs in. PLAIN without TLS sends the password in the clear."),
    key("mirror", "sasl_username", TEXT, "", "",
        "Name to log in with."),
    key("mirror", "sasl_password", "`file:PATH` or `env:NAME`", "", "",
        "Where its password is: a file's first line, or an environment variable. Read anew at each new connection to the cluster."),
    key("mirror", "stream", "list of tables", "", "[]",
        "Streams to mirror; the keys of the next table. Without any, every stream on disk that a hook writes to is mirrored."),
    key("mirror", "client", "table of properties", "", "{}",
        "Further properties of librdkafka, such as `socket.keepalive.enable = true`. Those that a guarantee rests on (`acks`, `enable.idempotence`, `transactional.id`, `partitioner` and the like) are refused."),

    key("mirror.stream", "stream", TEXT, "", "",
        "Name of the stream, which must be on disk. Required."),
    key("mirror.stream", "topic", TEXT, "", "",
        "Topic of the cluster that gets its records; absent: the stream's name."),
    key("mirror.stream", "partitions", INTEGER, "partitions", "",
        "Partitions of the topic if it is created, 1 to 10000; absent: as many as the stream has."),
    key("mirror.stream", "compression", "`none`, `gzip`, `snappy`, `lz4` or `zstd`", "", "",
        "Compression of this stream's records; absent: that of [mirror]."),

    key("http", "page_rows_max", INTEGER, "rows", "1000",
        "Most rows of one page of `/api/v1/clients`, 1 to 1000."),

    key("logging", "level", "`off`, `error`, `warn`, `info`, `debug` or `trace`", "", "\"info\"",
        "Least level of a log line that is written."),
    key("logging", "format", "`text` or `json`", "", "\"text\"",
        "A line for people, or one JSON object a line. Log lines go to standard error."),
    key("logging", "modules", "table of levels", "", "{}",
        "Levels of single modules, such as `\"server::kafka\" = \"debug\"` or `commitlog = \"warn\"`."),

    key("listener", "kind", "`mqtt`, `mqtts`, `ws`, `wss`, `kafka`, `kafkas`, `http` or `https`", "", "",
        "Protocol spoken there: MQTT over TCP or TLS, MQTT in WebSocket frames over TCP or TLS, the Kafka protocol over TCP or TLS, HTTP over TCP or TLS. Required."),
    key("listener", "bind", "`address:port`", "", "",
        "Address and port to listen on: an IP address or `localhost`; port 0 takes any free one. Required."),
    key("listener", "anonymous", FLAG, "", "false",
        "Whether anyone who reaches the address may come in. Without it a listener must be on a loopback address, or ask who is there (`authentication`, or `client_certificate = \"required\"`); an `http` listener must be on a loopback address in any case, and an `https` listener asks for a token elsewhere."),
    key("listener", "advertised", "`host:port`", "", "",
        "Address that Kafka clients of this listener are told to connect to; absent: what [kafka] says, and without that the address at which the client came."),
    key("listener", "authentication", "`none` or `sasl`", "", "\"none\"",
        "Whether Kafka clients must log in before anything else, as a user of the users table (`sluice user add`)."),
    key("listener", "sasl_mechanisms", "list of words", "", "[\"PLAIN\", \"SCRAM-SHA-256\", \"SCRAM-SHA-512\"]",
        "How they may log in. With `PLAIN` the password itself travels, so that on a listener without TLS that other machines reach it is refused; leave it out there."),
    key("listener", "plain_in_clear", FLAG, "", "false",
        "Allow `PLAIN` on a listener without TLS that other machines reach: every password can be read on the way."),
    key("listener", "certificate", "file", "", "",
        "Certificate of an `mqtts`, `wss`, `kafkas` or `https` listener and those that lead to its root, PEM. Required there. Files that change are read anew within 30 seconds, and on SIGHUP; connections stay open."),
    key("listener", "key", "file", "", "",
        "Private key of the certificate, PEM, without a passphrase. Required with `certificate`."),
    key("listener", "client_ca", "file", "", "",
        "Certificates that those of clients must come from, PEM."),
    key("listener", "client_certificate", "`none`, `optional` or `required`", "", "",
        "Whether clients show a certificate; who shows one that is wrong does not come in. Default `required` where there is a `client_ca`, else `none`."),
    key("listener", "certificate_principal", "`subject` or `common_name`", "", "\"subject\"",
        "Who a Kafka client with a certificate is: its whole subject as Apache Kafka writes it (`CN=lock,O=acme`), or its common name alone. With `authentication = \"sasl\"` the user counts instead."),
    key("listener", "name", TEXT, "", "",
        "Name of the listener in metrics and answers; absent: its kind and address, such as `mqtt:127.0.0.1:1883`."),
    key("listener", "path", "path", "", "\"/mqtt\"",
        "Path at which a `ws` or `wss` listener answers. Clients offer the subprotocol `mqtt`, or `mqttv3.1`."),
    key("listener", "origins", "list of origins", "", "[]",
        "Origins of web pages that may connect to a `ws` or `wss` listener, such as `https://app.example`; `*` is any. Without it pages that come from the same host may (on a loopback address: from this machine), and clients that are no browser always may."),
    key("listener", "proxy_protocol", FLAG, "", "false",
        "Whether connections begin with a PROXY header (version 1 or 2) that says who really stands behind a proxy; one that does not is closed. Whoever reaches the listener can then claim any address: name the proxies in `proxy_from`. For listeners of MQTT."),
    key("listener", "proxy_from", "list of addresses and networks", "", "",
        "Addresses of the proxies, such as `10.0.0.0/8`: connections from there must begin with a PROXY header, and no others may. Absent: all must."),
    key("listener", "connections_max", INTEGER, "connections", "",
        "Connections of this MQTT listener at a time; further ones are answered with \"server busy\". Absent: only `mqtt.connections_max` bounds them."),
    key("listener", "connections_per_s", INTEGER, "connections", "",
        "Connections that this MQTT listener takes a second, in bursts of as many; further ones wait their turn in the system's backlog. Absent: any number."),
    key("listener", "bytes_in_per_s", SIZE, "bytes", "\"none\"",
        "Bytes that are read from one MQTT client a second, 1KB to 4GB, in bursts of as many. Who sends more is read more slowly, not cut, and its keep alive waits with it."),
    key("listener", "messages_in_per_s", INTEGER, "messages", "",
        "PUBLISH packets that are read from one MQTT client a second, likewise. Absent: any number."),
    key("listener", "connect_timeout_ms", DURATION, "ms", "",
        "Time from accepting a connection to its whole CONNECT, TLS handshake and upgrade included, 100ms to 5m. Absent: `mqtt.connect_timeout_ms`."),

    key("stream", "name", TEXT, "", "",
        "Name of the stream, which is the topic that Kafka clients see: 1 to 249 of `A-Z a-z 0-9 . _ -`. Required. Names that begin with `__sluice.` are the node's own."),
    key("stream", "partitions", INTEGER, "partitions", "4",
        "Partitions, 1 to 1024. Records of one key stay in one partition and thus in order. A larger number than the stream has adds partitions at the next start, and keys may then move to another; a smaller one changes nothing."),
    key("stream", "ack", "`memory`, `append`, `flush` or `kafka`", "", "\"flush\"",
        "When a publisher gets its answer: message in memory, in the page cache (survives a crash of the program), flushed to disk (survives a power cut), or written by all in-sync replicas of the Apache Kafka cluster that [mirror] names, within its `ack_timeout`; then the stream must be mirrored. Default `append` for `mqtt.default`, `memory` where `storage` is `memory`."),
    key("stream", "storage", "`disk` or `memory`", "", "\"disk\"",
        "Where the records live. A stream in memory is empty after a restart. `mqtt.default.qos0` is in memory, `mqtt.default` on disk, always."),
    key("stream", "retention", "table", "", "{}",
        "How long records are kept; the three keys of the next table."),
    key("stream", "compaction", FLAG, "", "false",
        "Keep the latest record of every key for ever instead of dropping by age or size. Not for a stream that a `message.publish` hook writes."),

    key("stream.retention", "age", DURATION, "s", "\"7d\"",
        "A segment whose newest record is older is dropped, unless an inbox still needs it. \"none\": age drops nothing. Default \"none\" where `compaction` is true, \"1h\" in memory."),
    key("stream.retention", "size", SIZE, "bytes", "\"none\"",
        "Bytes of one partition beyond which its oldest segments are dropped, unless an inbox still needs them. Default \"64MB\" in memory."),
    key("stream.retention", "size_max", SIZE, "bytes", "\"none\"",
        "Bytes of one partition beyond which its oldest segments are dropped in any case; deliveries lost by it are counted and fire `message.dropped`."),

    key("hook", "event", "event", "", "",
        "`client.connected`, `client.disconnected`, `session.subscribed`, `session.unsubscribed`, `message.publish`, `message.delivered` (or `message.deliver`), `message.acked` or `message.dropped`. Required."),
    key("hook", "filter", "MQTT filter", "", "\"#\"",
        "Topics the hook takes: the message's, or the subscription's for `session.*`. Not for `client.*`."),
    key("hook", "stream", TEXT, "", "",
        "Stream that gets a record for each event. Required. One that has no [[stream]] is made with that table's defaults."),
    key("hook", "key", "template", "", "\"{clientid}\"",
        "Key of the record: `{clientid}`, `{username}`, `{topic}`, `{N}` for level N of the topic counted from 1, or `none`. Records of one key keep their order. The client id stands in where there is no such level or user name."),
    key("hook", "payload", "`base64` or `plain`", "", "\"base64\"",
        "How the payload stands in the record's JSON: Base64 of its bytes, or as text."),

    key("downlink", "name", TEXT, "", "",
        "Name of the downlink; its positions are kept under it, so that another name starts anew. Default: the name of its source."),
    key("downlink", "stream", TEXT, "", "",
        "Stream of this node whose records become PUBLISHes: a stream that Kafka clients write to. One that has no [[stream]] is made with that table's defaults. Either this or `kafka_topic`."),
    key("downlink", "kafka_topic", TEXT, "", "",
        "Topic whose records become PUBLISHes, of the Apache Kafka cluster that [mirror] names."),
    key("downlink", "topic", "template", "", "",
        "MQTT topic of a record that names none in a header `mqtt.topic`: `{key}` stands for the record's key. A key that is empty, begins with `$`, or holds `/`, `+`, `#` or U+0000 sends the record to `dead_letter`. Required."),
    key("downlink", "qos", INTEGER, "", "1",
        "QoS of a record without a header `mqtt.qos`, 0 to 2."),
    key("downlink", "retain", FLAG, "", "false",
        "RETAIN of a record without a header `mqtt.retain` (`1` or `0`)."),
    key("downlink", "expiry", DURATION, "s", "\"none\"",
        "How long after its timestamp a record without a header `mqtt.expiry` (seconds) is worth anything: what is older is not published, and what waits for a device is dropped then. \"none\": for ever."),
    key("downlink", "dead_letter", TEXT, "", "\"downlink_dead_letter\"",
        "Stream for records that cannot be published, with the reason in the header `sluice.reason` and their place in `sluice.source`, `sluice.partition` and `sluice.offset`."),
    key("downlink", "start", "`end` or `beginning`", "", "\"end\"",
        "Where a downlink begins that has no position yet: behind what is there, or with the oldest record. Partitions that are added later are read from their beginning."),
    key("downlink", "group", TEXT, "", "",
        "Consumer group under which the position in a `kafka_topic` is committed, for tools that show lag; the downlink itself does not read it. Default `sluice-downlink-` and the name."),
];

/// Whether `table` has a key or sub-table `name`.
pub fn known(table: &str, name: &str) -> bool {
    names_in(table).any(|known| known == name)
}

/// Names of the keys in `table`; at the top of the file, of the tables.
pub fn names_in(table: &str) -> impl Iterator<Item = &'static str> {
    let top = table.is_empty();
    let tables = TABLES
        .iter()
        .copied()
        .filter(move |name| top && !name.is_empty() && !name.contains('.'));
    let keys = KEYS
        .iter()
        .filter(move |key| !top && key.table == table)
        .map(|key| key.name);
    tables.chain(keys)
}

/// Whether `shape` is a list of tables.
pub fn is_list(shape: &str) -> bool {
    LISTS.contains(&shape)
}

/// Whether `shape` is a table, a list's entry included.
pub fn is_table(shape: &str) -> bool {
    shape != FREE
}

/// The table as a person writes it: `[mqtt]`, `[[hook]]`, `retention of [[stream]]`.
pub fn written(table: &str) -> String {
    match table.split_once('.') {
        Some((list, inner)) if is_list(list) => format!("{inner} of [[{list}]]"),
        _ if is_list(table) => format!("[[{table}]]"),
        _ => format!("[{table}]"),
    }
}
