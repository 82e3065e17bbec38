//! `emqx_bridge_kafka.conf` (EMQ X Enterprise 3.x and 4.x) said in Sluice's words: hooks become
//! hooks, topics become streams, and each key without an equivalent becomes a comment with the
//! reason. The output is a configuration file that `sluice check` accepts.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::cuttlefish::{self, Conf, Setting, byte_size, duration_ms};
use crate::config::Fault;
use crate::config::units::{show_bytes, show_millis};
use crate::settings::{
    Ack, HookEvent, Word, bad_filter, bad_stream_name, has_payload, needs_topic,
};

/// Width of comments in the output.
const WIDTH: usize = 100;

/// Says the file `name` with the content `text` as a Sluice configuration.
///
/// # Errors
/// Lines that EMQ X itself could not have used: unreadable ones, hooks without a topic, and the
/// like.
pub fn import(name: &str, text: &str) -> Result<String, Vec<Fault>> {
    let mut import = Import {
        name,
        faults: Vec::new(),
        silent: Vec::new(),
    };
    let conf = cuttlefish::parse(text);
    for (line, content) in &conf.unreadable {
        import.fault(
            *line,
            format!("neither a comment nor `key = value`: {content}"),
        );
    }
    let output = import.output(&conf);
    if import.faults.is_empty() {
        Ok(output)
    } else {
        Err(import.faults)
    }
}

/// What a value of EMQ X may be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Integer,
    Duration,
    Size,
    Word(&'static [&'static str]),
}

/// Keys that have no hook in them: kind of value and, where nothing here corresponds, why.
const KNOWN: &[(&str, Kind, &str)] = &[
    (
        "servers",
        Kind::Text,
        "Sluice keeps the records itself, in streams; consumers read them from Sluice's own Kafka listener (127.0.0.1:9092 unless a [[listener]] says otherwise) instead of these brokers. `brokers` in [mirror] has streams copied into them.",
    ),
    (
        "query_api_versions",
        Kind::Flag,
        "there are no brokers to ask; Sluice answers ApiVersions itself.",
    ),
    (
        "connection_strategy",
        Kind::Word(&["per_partition", "per_broker"]),
        "there are no connections to brokers.",
    ),
    (
        "min_metadata_refresh_interval",
        Kind::Duration,
        "there are no brokers whose metadata could change.",
    ),
    ("produce", Kind::Word(&["sync", "async"]), ""),
    (
        "produce.sync_timeout",
        Kind::Duration,
        "an append is local and does not time out. If it cannot be made, the publisher gets a reason code (MQTT 5) or a closed connection, never a PUBACK.",
    ),
    (
        "replayq_dir",
        Kind::Text,
        "every record is on disk before it is anywhere else; the directory of all data is data_dir in [node].",
    ),
    (
        "producer.replayq_seg_bytes",
        Kind::Size,
        "there is no queue in front of Kafka; the segments of streams have segment_bytes in [log].",
    ),
    (
        "producer.required_acks",
        Kind::Word(&["all_isr", "leader_only", "none"]),
        "",
    ),
    (
        "producer.ack_timeout",
        Kind::Duration,
        "there are no replicas to wait for.",
    ),
    (
        "producer.max_batch_bytes",
        Kind::Size,
        "batches are what arrives while the disk is busy; flush_bytes in [log] is the nearest.",
    ),
    (
        "producer.min_batch_bytes",
        Kind::Size,
        "nothing waits for a batch to fill.",
    ),
    (
        "producer.max_send_ahead",
        Kind::Integer,
        "nothing is sent; the order of one device is always kept.",
    ),
    (
        "producer.compression",
        Kind::Word(&["no_compression", "snappy", "gzip"]),
        "records of hooks are stored uncompressed.",
    ),
    ("encode_payload_type", Kind::Word(&["base64", "plain"]), ""),
    (
        "sock.buffer",
        Kind::Size,
        "there are no connections to brokers.",
    ),
    (
        "sock.recbuf",
        Kind::Size,
        "there are no connections to brokers.",
    ),
    (
        "sock.sndbuf",
        Kind::Size,
        "there are no connections to brokers.",
    ),
    (
        "sock.read_packets",
        Kind::Integer,
        "there are no connections to brokers.",
    ),
    (
        "parition_strategy",
        Kind::Text,
        "a key of EMQ 2.x; here the record's key decides the partition.",
    ),
    (
        "partition_strategy",
        Kind::Text,
        "a key of EMQ 2.x; here the record's key decides the partition.",
    ),
];

struct Import<'n> {
    name: &'n str,
    faults: Vec<Fault>,
    /// Lines of comment about what has no equivalent.
    silent: Vec<String>,
}

/// A hook, as it will be printed.
struct Hook {
    source: String,
    event: HookEvent,
    filter: Option<String>,
    stream: String,
    key: Option<String>,
    plain: bool,
    notes: Vec<String>,
}

impl Import<'_> {
    fn output(&mut self, conf: &Conf) -> String {
        let settings = self.last_of_each(conf);
        let plain = settings
            .iter()
            .any(|s| s.key == "bridge.kafka.encode_payload_type" && s.value == "plain");
        let mut hooks = Vec::new();
        for setting in &settings {
            match setting.key.strip_prefix("bridge.kafka.") {
                Some(rest) if rest.starts_with("hook.") => {
                    hooks.extend(self.hook(setting, &rest[5..], plain));
                }
                Some(rest) => self.scalar(setting, rest),
                None => self.say_silent(setting, "not a key of emqx_bridge_kafka.conf."),
            }
        }
        for (line, file) in &conf.includes {
            self.silent.push(format!(
                "line {line}: include {file}: not followed; import that file by itself."
            ));
        }
        let mut out = self.header(&settings);
        if hooks.is_empty() {
            out.push_str("\n# No hook is active in the file, so that none is here.\nhook = []\n");
        }
        streams(&mut out, &settings, &hooks);
        for hook in &hooks {
            hook.print(&mut out);
        }
        if !self.silent.is_empty() {
            out.push_str("\n# What has no equivalent here, and why\n");
            for line in &self.silent {
                comment(&mut out, "# - ", "#   ", line);
            }
        }
        out
    }

    /// The settings that count: of a key that stands twice, the last.
    fn last_of_each(&mut self, conf: &Conf) -> Vec<Setting> {
        let mut kept: Vec<Setting> = Vec::new();
        for setting in &conf.settings {
            if let Some(before) = kept.iter().position(|other| other.key == setting.key) {
                let dropped = kept.remove(before);
                self.silent.push(format!(
                    "line {}: {} stands again in line {}, which counts.",
                    dropped.line, dropped.key, setting.line
                ));
            }
            kept.push(setting.clone());
        }
        kept
    }

    fn header(&self, settings: &[Setting]) -> String {
        let mut out = format!(
            "# Sluice configuration, from {} by `sluice import emqx`.\n",
            self.name
        );
        comment(
            &mut out,
            "# ",
            "# ",
            "Try it with `sluice check FILE`, start with `sluice --config FILE`. docs/from-emqx.md compares the two programs.",
        );
        out.push_str("#\n");
        let servers = settings
            .iter()
            .find(|setting| setting.key == "bridge.kafka.servers");
        let servers = servers.map_or(String::new(), |setting| {
            format!(" instead of {}", setting.value)
        });
        comment(
            &mut out,
            "# ",
            "# ",
            &format!(
                "Consumers read the streams below as topics, at 127.0.0.1:9092{servers}. Listeners are not in the imported file: Sluice listens on loopback addresses until a [[listener]] says more (docs/configuration.md)."
            ),
        );
        out.push_str("#\n");
        comment(
            &mut out,
            "# ",
            "# ",
            "Records carry the name of the node. If consumers look at it, give this node the name they know:",
        );
        out.push_str("# [node]\n# name = \"emqx@127.0.0.1\"\n");
        out
    }

    /// A key without a hook in it: checked, and told where nothing corresponds.
    fn scalar(&mut self, setting: &Setting, rest: &str) {
        let Some((_, kind, why)) = KNOWN.iter().find(|(key, _, _)| *key == rest) else {
            let pool = rest
                .split('.')
                .nth(1)
                .is_some_and(|last| matches!(last, "server" | "pool_size"));
            let why = if pool {
                "a key of EMQ 2.x; there are no connections to brokers."
            } else {
                "not a known key of emqx_bridge_kafka.conf."
            };
            self.say_silent(setting, why);
            return;
        };
        let value = &setting.value;
        let shown = match kind {
            Kind::Text => Some(String::new()),
            Kind::Flag => {
                matches!(value.as_str(), "true" | "false" | "on" | "off").then(String::new)
            }
            Kind::Integer => value.parse::<u64>().ok().map(|_| String::new()),
            Kind::Duration => duration_ms(value).map(show_millis),
            Kind::Size => byte_size(value).map(show_bytes),
            Kind::Word(words) => words.contains(&value.as_str()).then(String::new),
        };
        match shown {
            None => self.fault(
                setting.line,
                format!(
                    "{}: \"{value}\" is not a value that EMQ X takes here",
                    setting.key
                ),
            ),
            Some(_) if why.is_empty() => {}
            Some(shown) if shown.is_empty() || shown.eq_ignore_ascii_case(value) => {
                self.say_silent(setting, why);
            }
            Some(shown) => self.say_silent(setting, &format!("(that is {shown}) {why}")),
        }
    }

    /// `rest` is the key behind `bridge.kafka.hook.`, such as `message.publish.1`.
    fn hook(&mut self, setting: &Setting, rest: &str, plain: bool) -> Option<Hook> {
        let event = rest.rsplit_once('.').map_or(rest, |(event, _number)| event);
        let word = if event == "message.deliver" {
            "message.delivered"
        } else {
            event
        };
        let Some(event) = HookEvent::from_word(word) else {
            let known: Vec<&str> = HookEvent::ALL.into_iter().map(HookEvent::as_str).collect();
            self.say_silent(
                setting,
                &format!("Sluice has no event {word}; it has {}.", known.join(", ")),
            );
            return None;
        };
        let fields = match serde_json::from_str::<Value>(&setting.value) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return self.refuse(setting, "the value is not a JSON object"),
            Err(error) => return self.refuse(setting, &format!("the value is not JSON: {error}")),
        };
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(stream) = text("topic").filter(|topic| !topic.is_empty()) else {
            return self.refuse(setting, "the hook names no \"topic\" to write");
        };
        if let Some(what) = bad_stream_name(&stream) {
            return self.refuse(setting, &what);
        }
        let mut notes = Vec::new();
        let filter = match (text("filter"), event.has_topic()) {
            (Some(filter), true) => Some(filter),
            (Some(_), false) => {
                notes.push(format!(
                    "{} has no topic; the filter of the original was without effect.",
                    event.word()
                ));
                None
            }
            (None, true) => {
                notes.push(
                    "The original has no filter; # takes every topic that does not begin with $."
                        .to_owned(),
                );
                Some("#".to_owned())
            }
            (None, false) => None,
        };
        if let Some(what) = filter.as_deref().and_then(bad_filter) {
            return self.refuse(setting, &what);
        }
        let key = key_of(event, &fields, &mut notes);
        other_fields(&fields, &mut notes);
        let source = format!("line {}: {}", setting.line, setting.key);
        Some(Hook {
            source,
            event,
            filter,
            stream,
            key,
            plain: plain && has_payload(event),
            notes,
        })
    }

    fn refuse(&mut self, setting: &Setting, why: &str) -> Option<Hook> {
        self.fault(setting.line, format!("{}: {why}", setting.key));
        None
    }

    fn say_silent(&mut self, setting: &Setting, why: &str) {
        self.silent.push(format!(
            "line {}: {} = {}: {why}",
            setting.line, setting.key, setting.value
        ));
    }

    fn fault(&mut self, line: usize, what: String) {
        self.faults.push(Fault {
            source: self.name.to_owned(),
            line: Some(line),
            what,
        });
    }
}

impl Hook {
    fn print(&self, out: &mut String) {
        let _ = write!(out, "\n# {}\n", self.source);
        for note in &self.notes {
            comment(out, "# ", "# ", note);
        }
        let _ = write!(out, "[[hook]]\nevent = \"{}\"\n", self.event.word());
        if let Some(filter) = &self.filter {
            let _ = writeln!(out, "filter = {}", quoted(filter));
        }
        let _ = writeln!(out, "stream = {}", quoted(&self.stream));
        if let Some(key) = &self.key {
            let _ = writeln!(out, "key = {}", quoted(key));
        }
        if self.plain {
            out.push_str("payload = \"plain\"\n");
        }
    }
}

/// A stream for each topic that hooks write, with the ack level that corresponds.
fn streams(out: &mut String, settings: &[Setting], hooks: &[Hook]) {
    let names: BTreeSet<&str> = hooks.iter().map(|hook| hook.stream.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let (ack, why) = ack_level(settings);
    out.push('\n');
    comment(out, "# ", "# ", &why);
    comment(
        out,
        "# ",
        "# ",
        "The number of partitions is not in the imported file; 4 is Sluice's default. If consumers count on the number that the Kafka topic has, write that one before the first start.",
    );
    for name in names {
        let _ = write!(
            out,
            "\n[[stream]]\nname = {}\npartitions = 4\nack = \"{}\"\n",
            quoted(name),
            ack.word()
        );
    }
}

/// What `produce` and `required_acks` promised the publisher, as an ack level, and why.
fn ack_level(settings: &[Setting]) -> (Ack, String) {
    let value = |key: &str| {
        settings
            .iter()
            .find(|setting| setting.key == key)
            .map(|setting| setting.value.as_str())
    };
    let produce = value("bridge.kafka.produce");
    let acks = value("bridge.kafka.producer.required_acks");
    let said = format!(
        "produce = {}, required_acks = {}",
        produce.unwrap_or("sync (not set)"),
        acks.unwrap_or("all_isr (not set)")
    );
    match (produce.unwrap_or("sync"), acks.unwrap_or("all_isr")) {
        ("async", _) => (
            Ack::Append,
            format!(
                "{said}: EMQ X answered the publisher without waiting for Kafka. The weakest level of a stream on disk is \"append\": the record survives a crash of the program. With \"flush\" a PUBACK means that it survives a power cut too."
            ),
        ),
        (_, "none") => (
            Ack::Append,
            format!(
                "{said}: EMQ X sent the record to Kafka before the PUBACK, and Kafka did not confirm it. The weakest level of a stream on disk is \"append\": the record survives a crash of the program. With \"flush\" a PUBACK means that it survives a power cut too."
            ),
        ),
        (_, "leader_only") => (
            Ack::Append,
            format!(
                "{said}: a PUBACK meant that one Kafka broker had the record in its page cache. That is \"append\"; with \"flush\" it survives a power cut too."
            ),
        ),
        _ => (
            Ack::Flush,
            format!(
                "{said}: a PUBACK meant that all in-sync replicas had the record. On one machine that is \"flush\": it is on disk and survives a power cut."
            ),
        ),
    }
}

/// The `key` line of a hook, if it needs one; notes tell what differs.
fn key_of(
    event: HookEvent,
    fields: &Map<String, Value>,
    notes: &mut Vec<String>,
) -> Option<String> {
    let strategy = fields.get("strategy").and_then(Value::as_str);
    let written = fields
        .get("key")
        .and_then(Value::as_str)
        .filter(|key| !key.is_empty());
    match strategy {
        None | Some("random" | "roundrobin" | "first_key_dispatch") => {}
        Some(other) => notes.push(format!(
            "The strategy {other} is not one of EMQ X; the key decides the partition here."
        )),
    }
    let Some(written) = written else {
        if let Some(word @ ("random" | "roundrobin")) = strategy {
            notes.push(format!("strategy = {word}, no key: records go round the partitions. Without the line `key` the client id is the key, and the records of one device keep their order."));
            return Some("none".to_owned());
        }
        notes.push("EMQ X wrote no key and took any partition. Here the client id is the key, so that the records of one device keep their order; key = \"none\" does as EMQ X did.".to_owned());
        return None;
    };
    if strategy.is_none_or(|word| word != "first_key_dispatch") {
        notes.push("EMQ X wrote this key but took any partition; here the key decides the partition, so that the records of one key keep their order.".to_owned());
    } else {
        notes.push("first_key_dispatch: one key stays in one partition as before, but its number differs: here it is that of Kafka's own producers (murmur2), in EMQ X that of Erlang's phash2.".to_owned());
    }
    let key = written.replace("${", "{");
    if broker::KeyTemplate::parse(&key).is_err() || !key.contains('{') {
        notes.push(format!(
            "key = {written}: not known here; the key is the client id."
        ));
        return None;
    }
    if needs_topic(&key) && !event.has_topic() {
        notes.push(format!(
            "key = {written}: {} has no topic; the key is the client id.",
            event.word()
        ));
        return None;
    }
    if key.contains(|c: char| c.is_ascii_digit()) {
        notes.push("Here the levels of a topic are counted from 1: {2} of a/b/c is b. Compare with the keys that the topic has.".to_owned());
    }
    Some(key)
}

/// Notes about fields of the hook's JSON that change nothing here.
fn other_fields(fields: &Map<String, Value>, notes: &mut Vec<String>) {
    for (field, value) in fields {
        match field.as_str() {
            "topic" | "filter" | "strategy" | "key" => {}
            "format" if value == "json" => {}
            "format" => notes.push(format!("format = {value}: records are JSON here, always.")),
            "action" | "pool" => notes.push(format!(
                "{field} = {value}: a field of EMQ 2.x that nothing needs."
            )),
            _ => notes.push(format!("{field} = {value}: not a field that Sluice knows.")),
        }
    }
}

/// Text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Writes `text` as comment lines of at most [`WIDTH`] columns.
fn comment(out: &mut String, first: &str, next: &str, text: &str) {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.len() + 1 + word.len() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            next.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
