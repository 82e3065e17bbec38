//! What the user said: the configuration file as serde reads it, and where each key stood. Every
//! fault is found in one pass and told with its line and, for an unknown key, the nearest known
//! one. What the values mean is the business of `settings`.

pub mod keys;
pub mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::keys::KEYS;
use self::units::{Size, Span};

/// The configuration the program has without any file; read by the same code as a file.
pub const DEFAULT_TEXT: &str = include_str!("../sluice.default.toml");

/// Name under which faults in [`DEFAULT_TEXT`] would be told.
pub const DEFAULT_NAME: &str = "the default configuration";

/// Something wrong in a configuration, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// File name as the user gave it, or the flag.
    pub source: String,
    /// Line in the file, from 1, where one is known.
    pub line: Option<usize>,
    /// What is wrong and what to write instead.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.source, self.what),
            None => write!(f, "{}: {}", self.source, self.what),
        }
    }
}

/// A configuration file as read: what was said and where.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// File name for messages.
    pub source: String,
    /// The values.
    pub file: File,
    /// Path of a key or table (`mqtt.inbox_max`, `hook[0].filter`, `hook[0]`) -> its line.
    pub lines: BTreeMap<String, usize>,
}

/// Defines a table of the file: every key optional, unknown keys refused by serde, and a way to lay
/// one file's keys over another's.
macro_rules! table {
    ($(#[$about:meta])* $name:ident { $($key:ident: $type:ty),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(#[doc = concat!("`", stringify!($key), "`; see `keys::KEYS`.")] pub $key: Option<$type>),+
        }

        impl $name {
            /// These keys, and those of `below` that are not said here.
            #[must_use]
            pub fn over(self, below: Self) -> Self {
                Self { $($key: self.$key.or(below.$key)),+ }
            }
        }
    };
}

table!(
    /// `[node]`
    NodeTable { name: String, data_dir: String, workers: i64 }
);
table!(
    /// `[log]`
    LogTable {
        journal_bytes: Size,
        commits_per_s_max: i64,
        flush_bytes: Size,
        flush_ms_max: Span,
        disk_reserve_bytes: Size,
        producer_expiry: Span,
        checkpoint_s: Span,
        checkpoint_fill_percent: i64,
        segment_bytes: Size,
        tail_bytes_max: Size,
        retention_check_s: Span,
    }
);
table!(
    /// `[mqtt]`
    MqttTable {
        packet_size_max: Size,
        connections_max: i64,
        connect_timeout_ms: Span,
        keep_alive_s_max: Span,
        session_expiry_s_max: Span,
        receive_maximum: i64,
        inflight_max: i64,
        inflight_v3: i64,
        topic_alias_max: i64,
        inbox_max: i64,
        inbox_bytes_max: Size,
        subscriptions_max: i64,
        retained_max: i64,
        send_buffer_bytes_max: Size,
        shared_strategy: String,
        sys_interval_s: Span,
    }
);
table!(
    /// `[kafka]`
    KafkaTable {
        advertised: String,
        connections_max: i64,
        connections_max_per_address: i64,
        requests_outstanding_max: i64,
        request_bytes_max: Size,
        fetch_bytes_max: Size,
        fetch_wait_ms_max: Span,
        idle_ms_max: Span,
        group_session_timeout_ms_min: Span,
        group_session_timeout_ms_max: Span,
        group_rebalance_delay_ms: Span,
        group_members_max: i64,
        groups_max: i64,
        offsets_retention: Span,
        transaction_timeout_max: Span,
        transactional_id_expiry: Span,
        session_lifetime_ms: Span,
        super_users: Vec<String>,
        permission: Vec<PermissionTable>,
        quota: Vec<QuotaTable>,
        auto_create: bool,
        topic_partitions: i64,
        topic_ack: String,
        topics_max: i64,
        partitions_max: i64,
    }
);
table!(
    /// `[[kafka.permission]]`
    PermissionTable {
        effect: String,
        principal: String,
        operations: Vec<String>,
        resource: String,
        name: String,
    }
);
table!(
    /// `[[kafka.quota]]`
    QuotaTable {
        principal: String,
        client_id: String,
        bytes_in_per_s: Size,
        bytes_out_per_s: Size,
        requests_per_s: i64,
    }
);
table!(
    /// `[mirror]`
    MirrorTable {
        brokers: String,
        identity: String,
        exactly_once: bool,
        shards: i64,
        compression: String,
        create_topics: bool,
        replication_factor: i64,
        start: String,
        ack_timeout: Span,
        dead_letter: String,
        positions_topic: String,
        tls: bool,
        tls_ca: String,
        tls_certificate: String,
        tls_key: String,
        tls_key_password: String,
        sasl_mechanism: String,
        sasl_username: String,
        sasl_password: String,
        stream: Vec<MirrorStreamTable>,
        client: BTreeMap<String, ClientValue>,
    }
);
table!(
    /// `[[mirror.stream]]`
    MirrorStreamTable { stream: String, topic: String, partitions: i64, compression: String }
);
table!(
    /// `[[authenticator]]`
    AuthenticatorTable {
        name: String,
        kind: String,
        token_in: String,
        algorithms: Vec<String>,
        secret_file: String,
        secret_env: String,
        public_key: String,
        jwks: String,
        refresh: Span,
        issuer: String,
        audience: String,
        user_name_claim: String,
        client_id_claim: String,
        acl_claim: String,
        require: BTreeMap<String, String>,
        url: String,
        timeout: Span,
        requests_max: i64,
        ca: String,
        authorization_file: String,
        authorization_env: String,
        user_name: String,
        client_id: String,
        client_ids: String,
    }
);
table!(
    /// `[authorization]`
    AuthorizationTable {
        rule: Vec<RuleTable>,
        no_match: String,
        denied_publish: String,
        super_users: Vec<String>,
        url: String,
        timeout: Span,
        requests_max: i64,
        ca: String,
        authorization_file: String,
        authorization_env: String,
        cache: Span,
    }
);
table!(
    /// `[[authorization.rule]]`
    RuleTable {
        effect: String,
        user: String,
        client_id: String,
        address: Vec<String>,
        action: String,
        filter: Vec<String>,
    }
);
table!(
    /// `[flapping]`
    FlappingTable { connects_max: i64, window: Span, ban: Span }
);
table!(
    /// `[overload]`
    OverloadTable { memory_max: Size }
);
table!(
    /// `[http]`
    HttpTable { page_rows_max: i64 }
);
table!(
    /// `[logging]`
    LoggingTable { level: String, format: String, modules: BTreeMap<String, String> }
);
table!(
    /// `[[listener]]`
    ListenerTable {
        kind: String,
        bind: String,
        anonymous: bool,
        authenticators: Vec<String>,
        advertised: String,
        authentication: String,
        sasl_mechanisms: Vec<String>,
        plain_in_clear: bool,
        certificate: String,
        key: String,
        client_ca: String,
        client_certificate: String,
        certificate_principal: String,
        name: String,
        path: String,
        origins: Vec<String>,
        proxy_protocol: bool,
        proxy_from: Vec<String>,
        connections_max: i64,
        connections_per_s: i64,
        bytes_in_per_s: Size,
        messages_in_per_s: i64,
        connect_timeout_ms: Span,
    }
);
table!(
    /// `[[stream]]`
    StreamTable {
        name: String,
        partitions: i64,
        ack: String,
        storage: String,
        retention: RetentionTable,
        compaction: bool,
    }
);
table!(
    /// `retention` of a `[[stream]]`
    RetentionTable { age: Span, size: Size, size_max: Size }
);
table!(
    /// `[[hook]]`
    HookTable { event: String, filter: String, stream: String, key: String, payload: String }
);

table!(
    /// `[[downlink]]`
    DownlinkTable {
        name: String,
        stream: String,
        kafka_topic: String,
        topic: String,
        qos: i64,
        retain: bool,
        expiry: Span,
        dead_letter: String,
        start: String,
        group: String,
    }
);

/// A value in `[mirror.client]`: a property's name may be written with its dots bare, so that a
/// table stands for the rest of the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClientValue {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(String),
    /// What stands behind a dot in the name.
    Inner(BTreeMap<String, ClientValue>),
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// `[node]`
    pub node: NodeTable,
    /// `[log]`
    pub log: LogTable,
    /// `[mqtt]`
    pub mqtt: MqttTable,
    /// `[kafka]`
    pub kafka: KafkaTable,
    /// `[mirror]`; absent: nothing is mirrored.
    pub mirror: Option<MirrorTable>,
    /// `[[authenticator]]`
    pub authenticator: Option<Vec<AuthenticatorTable>>,
    /// `[authorization]`
    pub authorization: AuthorizationTable,
    /// `[flapping]`
    pub flapping: FlappingTable,
    /// `[overload]`
    pub overload: OverloadTable,
    /// `[http]`
    pub http: HttpTable,
    /// `[logging]`
    pub logging: LoggingTable,
    /// `[[listener]]`; a file that has any replaces those of the default.
    pub listener: Option<Vec<ListenerTable>>,
    /// `[[stream]]`; laid over those of the default by name.
    pub stream: Option<Vec<StreamTable>>,
    /// `[[hook]]`; a file that has any replaces those of the default.
    pub hook: Option<Vec<HookTable>>,
    /// `[[downlink]]`
    pub downlink: Option<Vec<DownlinkTable>>,
}

/// Reads a configuration text. The values of keys that have a fault are left out of what is
/// returned, so that the caller can go on and find faults of meaning too.
pub fn read(source: &str, text: &str) -> (Said, Vec<Fault>) {
    let mut reading = Reading {
        source,
        text,
        faults: Vec::new(),
        leaves: Vec::new(),
    };
    let (mut table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map(|span| span.start);
        reading.fault(at, format!("this is not TOML: {}", error.message()));
    }
    let mut said = Said {
        source: source.to_owned(),
        ..Said::default()
    };
    if errors.is_empty() {
        reading.prune(table.get_mut(), "", &mut said.lines);
        said.file = reading.deserialize(table);
    }
    (said, reading.faults)
}

/// The default configuration.
pub fn default_said() -> Said {
    let (said, faults) = read(DEFAULT_NAME, DEFAULT_TEXT);
    assert!(
        faults.is_empty(),
        "the embedded default configuration has a fault: {faults:?}"
    );
    said
}

/// Number of single-letter edits (insert, delete, replace, swap of neighbours) between two words.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// The candidate nearest to `word`, if it is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near_enough = 1.max(word.chars().count() / 3);
    candidates
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= near_enough
                || (word.len() >= 4 && (candidate.contains(word) || word.contains(candidate)))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// One pass over one text.
struct Reading<'t> {
    source: &'t str,
    text: &'t str,
    faults: Vec<Fault>,
    /// Paths and places of all values that are not tables.
    leaves: Vec<(String, Range<usize>)>,
}

impl Reading<'_> {
    fn line(&self, at: usize) -> usize {
        let end = at.min(self.text.len());
        self.text.as_bytes()[..end]
            .split(|byte| *byte == b'\n')
            .count()
    }

    fn fault(&mut self, at: Option<usize>, what: String) {
        let line = at.map(|at| self.line(at));
        self.faults.push(Fault {
            source: self.source.to_owned(),
            line,
            what,
        });
    }

    /// Removes and tells every key that the table `path` does not know; notes lines of the others.
    fn prune(&mut self, table: &mut DeTable<'_>, path: &str, lines: &mut BTreeMap<String, usize>) {
        let shape = shape_of(path);
        for (key, mut value) in std::mem::take(table) {
            let name: &str = key.get_ref();
            let full = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            let at = key.span().start;
            if shape != keys::FREE && !keys::OPEN.contains(&shape) && !keys::known(shape, name) {
                self.fault(Some(at), unknown_key(shape, name));
                continue;
            }
            lines.insert(full.clone(), self.line(at));
            if self.descend(&mut value, &full, lines) {
                table.insert(key, value);
            }
        }
    }

    /// Looks into a value; false: it is to be left out.
    fn descend(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        path: &str,
        lines: &mut BTreeMap<String, usize>,
    ) -> bool {
        let span = value.span();
        let shape = shape_of(path);
        if keys::is_list(shape) {
            let DeValue::Array(items) = value.get_mut() else {
                let what = format!(
                    "{path} is a list: begin each entry with [[{path}]], two brackets on both sides"
                );
                self.fault(Some(span.start), what);
                return false;
            };
            for (index, item) in items.iter_mut().enumerate() {
                let at = item.span().start;
                let path = format!("{path}[{index}]");
                lines.insert(path.clone(), self.line(at));
                if let DeValue::Table(table) = item.get_mut() {
                    self.prune(table, &path, lines);
                } else {
                    self.fault(Some(at), format!("{path} must be a table"));
                    return false;
                }
            }
            return true;
        }
        match value.get_mut() {
            DeValue::Table(table) if keys::is_table(shape) => self.prune(table, path, lines),
            _ if keys::is_table(shape) && !path.contains('.') => {
                self.fault(
                    Some(span.start),
                    format!("{path} is a table: write [{path}]"),
                );
                return false;
            }
            _ => self.leaves.push((path.to_owned(), span)),
        }
        true
    }

    /// Reads the table, leaving out one faulty value after the other until the rest is sound.
    fn deserialize(&mut self, mut table: Spanned<DeTable<'_>>) -> File {
        loop {
            let error = match File::deserialize(toml::Deserializer::from(table.clone())) {
                Ok(file) => return file,
                Err(error) => error,
            };
            let at = error.span().map_or(0, |span| span.start);
            let leaf = self.leaves.iter().position(|(_, span)| span.contains(&at));
            let Some((path, span)) = leaf.map(|leaf| self.leaves.swap_remove(leaf)) else {
                self.fault(Some(at), error.message().to_owned());
                return File::default();
            };
            let name = path.rsplit('.').next().unwrap_or(&path);
            self.fault(Some(at), format!("{name}: {}", plain(error.message())));
            remove(table.get_mut(), &span);
        }
    }
}

/// `hook[3].filter` -> `hook.filter`: the path without positions, as in the table of keys.
fn shape_of(path: &str) -> &'static str {
    let mut bare = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => bare.push(c),
            _ => {}
        }
    }
    keys::TABLES
        .iter()
        .find(|table| **table == bare)
        .copied()
        .unwrap_or(keys::FREE)
}

fn unknown_key(table: &'static str, name: &str) -> String {
    let place = if table.is_empty() {
        "at the top of the file".to_owned()
    } else {
        keys::written(table)
    };
    let place = if table.is_empty() {
        place
    } else {
        format!("in {place}")
    };
    if let Some(near) = nearest(name, keys::names_in(table)) {
        return format!("unknown key `{name}` {place}; did you mean `{near}`?");
    }
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!(
            "unknown key `{name}` {place}; it belongs in {}",
            keys::written(key.table)
        );
    }
    let known: Vec<&str> = keys::names_in(table).collect();
    format!(
        "unknown key `{name}` {place}; known are {}",
        known.join(", ")
    )
}

/// serde's wording without its Rust type names.
fn plain(message: &str) -> String {
    message
        .replace("expected a string", "expected text in quotes")
        .replace("expected i64", "expected a whole number")
        .replace("expected a boolean", "expected true or false")
}

/// Removes the value at `span`, wherever it is.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) {
    for (key, mut value) in std::mem::take(table) {
        if value.span() == *span && !value.get_ref().is_table() {
            continue;
        }
        match value.get_mut() {
            DeValue::Table(inner) => remove(inner, span),
            DeValue::Array(items) => {
                for item in items.iter_mut() {
                    if let DeValue::Table(inner) = item.get_mut() {
                        remove(inner, span);
                    }
                }
            }
            _ => {}
        }
        table.insert(key, value);
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
