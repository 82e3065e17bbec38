//! What the API tells, as tables for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::table::{dash, rounded, shown, table};
use crate::auth::UserRow;
use crate::config::units::{show_bytes, show_millis};
use crate::http::view::{
    ClientDetails, ClientRow, HookRow, ListenerRow, RetainedMessage, RetainedRow, Status,
    StreamRow, SubscriptionRow,
};
use crate::http::{AuditRow, rfc3339};

pub(super) fn listeners(rows: &[ListenerRow]) -> String {
    let rows = rows.iter().map(|row| {
        vec![
            row.name.clone(),
            row.kind.clone(),
            row.bind.clone(),
            yes(row.tls),
            figure(row.connections),
            row.authentication.clone(),
            yes(row.anonymous),
        ]
    });
    let heads = [
        "NAME",
        "KIND",
        "ADDRESS",
        "TLS",
        "CONNECTIONS",
        "LOGS IN BY",
        "ANONYMOUS",
    ];
    table(&heads, &[4], rows)
}

pub(super) fn client(details: &ClientDetails) -> String {
    let row = &details.client;
    let mut out = clients(std::slice::from_ref(row));
    let connected = (row.connected_ms > 0).then(|| rfc3339(row.connected_ms as i64));
    let left = row.disconnected_ms.map(|ms| rfc3339(ms as i64));
    let expiry = row
        .session_expiry_s
        .map(|s| show_millis(u64::from(s) * 1_000));
    let limits = &details.limits;
    let [from, to] = flows(details);
    let facts = [
        (
            "listener",
            dash(details.listener.as_deref().unwrap_or_default()),
        ),
        ("from it", from),
        ("to it", to),
        ("connected at", connected.unwrap_or_else(|| "-".to_owned())),
        ("disconnected at", left.unwrap_or_else(|| "-".to_owned())),
        (
            "session expiry",
            expiry.unwrap_or_else(|| "never".to_owned()),
        ),
        ("owed", format!("{} of {}", row.owed, limits.owed_max)),
        (
            "inflight",
            format!("{} of {}", row.inflight, limits.inflight_max),
        ),
        ("unfinished", figure(details.unfinished.map(u64::from))),
        (
            "packet size",
            limits
                .packet_size_max
                .map_or_else(|| "-".to_owned(), |it| rounded(u64::from(it))),
        ),
    ];
    out.push('\n');
    for (name, value) in facts {
        let _ = writeln!(out, "{name:<16} {value}");
    }
    if let Some(will) = &details.will {
        let (topic, qos) = (shown(&will.topic), will.qos);
        let _ = writeln!(
            out,
            "{:<16} {topic} (QoS {qos}, after {} s)",
            "will", will.delay_s
        );
    }
    out.push('\n');
    out + &subscriptions(&details.subscriptions_list)
}

/// How much comes from a client, and what is let through of it, and how much goes to it.
fn flows(details: &ClientDetails) -> [String; 2] {
    let Some(traffic) = details.traffic else {
        return ["-".to_owned(), "-".to_owned()];
    };
    let flow = |messages: f64, bytes: f64| {
        let bytes = rounded(bytes.round() as u64);
        format!("{messages:.1} messages/s, {bytes}/s")
    };
    let limits = &details.limits;
    let messages = limits
        .messages_in_per_s
        .map(|it| format!("{it} messages/s"));
    let bytes = limits
        .bytes_in_per_s
        .map(|it| rounded(u64::from(it)) + "/s");
    let most: Vec<String> = messages.into_iter().chain(bytes).collect();
    let mut from = flow(traffic.messages_in_per_s, traffic.bytes_in_per_s);
    if !most.is_empty() {
        let _ = write!(from, " of {}", most.join(", "));
    }
    if details.slowed {
        from.push_str("; it is being slowed down");
    }
    let to = flow(traffic.messages_out_per_s, traffic.bytes_out_per_s);
    [from, to]
}

pub(super) fn subscriptions(rows: &[SubscriptionRow]) -> String {
    let rows = rows.iter().map(|row| {
        vec![
            row.client_id.clone(),
            row.filter.clone(),
            row.qos.to_string(),
            dash(row.share.as_deref().unwrap_or_default()),
            yes(row.no_local),
            figure(row.id.map(u64::from)),
        ]
    });
    let heads = ["CLIENT", "FILTER", "QOS", "GROUP", "NO LOCAL", "ID"];
    table(&heads, &[2, 5], rows)
}

pub(super) fn retained(rows: &[RetainedRow]) -> String {
    let rows = rows.iter().map(|row| {
        let expires = row.expires_ms.map(|ms| rfc3339(ms as i64));
        let size = rounded(row.size_bytes);
        vec![
            row.topic.clone(),
            size,
            expires.unwrap_or_else(|| "never".to_owned()),
        ]
    });
    table(&["TOPIC", "SIZE", "EXPIRES"], &[1], rows)
}

pub(super) fn retained_message(message: &RetainedMessage) -> String {
    let row = &message.row;
    let at = row.time_ms.map(|ms| rfc3339(ms as i64)).unwrap_or_default();
    let payload = base64_simd::STANDARD.decode_to_vec(&message.payload_base64);
    let payload = payload.unwrap_or_default();
    let mut out = String::new();
    let qos = figure(row.qos.map(u64::from));
    let from = shown(&message.publisher);
    let _ = writeln!(out, "{} from {from}, {at}, QoS {qos}", shown(&row.topic));
    for property in &message.properties {
        let _ = writeln!(
            out,
            "  {}: {}",
            shown(&property.name),
            shown(&property.value)
        );
    }
    out + &shown(&String::from_utf8_lossy(&payload)) + "\n"
}

pub(super) fn users(rows: &[UserRow]) -> String {
    let rows = rows.iter().map(|row| {
        let at = |ms: u64| rfc3339(ms as i64);
        let ways = row.mechanisms.join(", ");
        vec![
            row.name.clone(),
            ways,
            at(row.created_ms),
            at(row.changed_ms),
        ]
    });
    table(&["USER", "LOGS IN BY", "ADDED", "PASSWORD SET"], &[], rows)
}

pub(super) fn audit(rows: &[AuditRow]) -> String {
    let rows = rows.iter().map(|row| {
        vec![
            row.time.clone(),
            row.by.clone(),
            dash(row.peer.as_deref().unwrap_or_default()),
            row.method.clone(),
            row.path.clone(),
            row.status.to_string(),
            dash(row.what.as_deref().unwrap_or_default()),
        ]
    });
    let heads = ["TIME", "BY", "FROM", "METHOD", "PATH", "STATUS", "WHAT"];
    table(&heads, &[5], rows)
}

/// Rows whose fields only the node knows: a column for each field of the first that is no list.
pub(super) fn values(rows: &[Value]) -> String {
    let Some(first) = rows.first().and_then(Value::as_object) else {
        return "none\n".to_owned();
    };
    let flat = first
        .iter()
        .filter(|(_, value)| !value.is_array() && !value.is_object());
    let names: Vec<&String> = flat.map(|(name, _)| name).collect();
    let heads: Vec<String> = names.iter().map(|name| name.to_uppercase()).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let cell = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => dash(text),
        other => other.to_string(),
    };
    let row = |row: &Value| names.iter().map(|name| cell(&row[name.as_str()])).collect();
    table(&heads, &[], rows.iter().map(row))
}

fn figure(figure: Option<u64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

pub(super) fn status(status: &Status) -> String {
    let health = match &status.why {
        Some(why) => format!("{}: {why}", status.health),
        None => status.health.clone(),
    };
    let free = status.disk_free_bytes.map_or("unknown".to_owned(), rounded);
    let journal = format!(
        "{} of {} used",
        rounded(status.journal_used_bytes),
        rounded(status.journal_bytes)
    );
    let uptime = show_millis(status.uptime_s * 1_000);
    let rows = [
        (
            "node",
            format!("{} (sluice {})", status.node, status.version),
        ),
        ("cluster id", status.cluster_id.clone()),
        ("health", health),
        ("up", uptime),
        ("workers", status.workers.to_string()),
        ("connections", status.connections.to_string()),
        ("sessions", status.sessions.to_string()),
        ("subscriptions", status.subscriptions.to_string()),
        ("retained", status.retained.to_string()),
        ("owed", status.owed.to_string()),
        ("appended", status.appended_lsn.to_string()),
        ("flushed", status.flushed_lsn.to_string()),
        ("journal", journal),
        ("disk free", free),
    ];
    let mut out = String::new();
    for (name, value) in rows {
        let _ = writeln!(out, "{name:<14} {value}");
    }
    for problem in &status.problems {
        let _ = writeln!(out, "{:<14} {problem}", "problem");
    }
    out
}

pub(super) fn hooks(answer: &[HookRow]) -> String {
    let rows = answer.iter().map(|hook| {
        let filter = hook.filter.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            hook.name.clone(),
            yes(hook.enabled),
            hook.matched.to_string(),
            hook.matched_per_s
                .map_or_else(|| "-".to_owned(), |rate| rate.to_string()),
            hook.errors.to_string(),
            hook.event.clone(),
            filter,
            hook.stream.clone(),
            hook.key.clone(),
            hook.payload.clone(),
        ]
    });
    let heads = [
        "NAME", "ENABLED", "RECORDS", "PER S", "REFUSED", "EVENT", "FILTER", "STREAM", "KEY",
        "PAYLOAD",
    ];
    table(&heads, &[2, 3, 4], rows)
}

pub(super) fn streams(answer: &[StreamRow], partitions: bool, all: bool) -> String {
    let shown = answer.iter().filter(|stream| all || !stream.internal);
    if partitions {
        let rows = shown.flat_map(|stream| {
            stream
                .partitions
                .iter()
                .enumerate()
                .map(|(number, partition)| {
                    vec![
                        stream.name.clone(),
                        number.to_string(),
                        partition.log_start.to_string(),
                        partition.end.to_string(),
                        partition.flushed.to_string(),
                        rounded(partition.size_bytes),
                    ]
                })
        });
        return table(
            &["STREAM", "PARTITION", "START", "END", "FLUSHED", "SIZE"],
            &[1, 2, 3, 4, 5],
            rows,
        );
    }
    let rows = shown.map(|stream| {
        vec![
            stream.name.clone(),
            stream.partitions.len().to_string(),
            stream.ack.clone(),
            stream.storage.clone(),
            keeps(stream),
            stream.records.to_string(),
            rounded(stream.size_bytes),
        ]
    });
    table(
        &[
            "STREAM",
            "PARTITIONS",
            "ACK",
            "STORAGE",
            "KEEPS",
            "RECORDS",
            "SIZE",
        ],
        &[1, 5, 6],
        rows,
    )
}

fn keeps(stream: &StreamRow) -> String {
    if stream.compaction {
        return "latest of each key".to_owned();
    }
    let mut keeps = Vec::new();
    keeps.extend(stream.retention_ms.map(show_millis));
    keeps.extend(stream.retention_bytes.map(show_bytes));
    if keeps.is_empty() {
        "all".to_owned()
    } else {
        keeps.join(", ")
    }
}

pub(super) fn clients(clients: &[ClientRow]) -> String {
    let rows = clients.iter().map(|client| {
        vec![
            client.client_id.clone(),
            dash(&client.username),
            if client.connected {
                "online"
            } else {
                "offline"
            }
            .to_owned(),
            dash(client.peer.as_deref().unwrap_or_default()),
            client
                .keep_alive_s
                .map_or_else(|| dash(""), |seconds| format!("{seconds}s")),
            dash(&client.protocol),
            client.subscriptions.to_string(),
            client.inflight.to_string(),
            client.owed.to_string(),
        ]
    });
    let heads = [
        "CLIENT",
        "USER",
        "STATE",
        "PEER",
        "KEEPALIVE",
        "MQTT",
        "SUBSCRIPTIONS",
        "INFLIGHT",
        "OWED",
    ];
    table(&heads, &[4, 6, 7, 8], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_keeps() {
        let mut stream = StreamRow {
            retention_ms: Some(604_800_000),
            ..StreamRow::default()
        };
        assert_eq!(keeps(&stream), "1w");
        stream.retention_bytes = Some(1 << 30);
        assert_eq!(keeps(&stream), "1w, 1GB");
        stream.compaction = true;
        assert_eq!(keeps(&stream), "latest of each key");
    }
}
