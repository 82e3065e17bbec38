//! `sluice ctl`: asks a running node over its HTTP interface and prints tables for people or JSON
//! for programs. The HTTP client is as small as the question: one GET, one answer.

mod groups;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use crate::config::units::{show_bytes, show_millis};
use crate::http::problem::Problem;
use crate::http::view::{ClientPage, ClientRow, GroupPage, Hooks, Status, StreamRow, Streams};

/// Longest wait for the node.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Ask a running node
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// Address of the node's HTTP interface
    #[arg(long, global = true, default_value = "127.0.0.1:18083")]
    http: String,
    /// Print the node's JSON as it is
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    question: Question,
}

/// What is asked.
#[derive(Debug, Subcommand)]
enum Question {
    /// The node in a few figures
    Status,
    /// Clients, with a connection or without
    Clients {
        /// Only client ids that contain this text
        #[arg(long)]
        contains: Option<String>,
        /// Only clients with a connection
        #[arg(long, conflicts_with = "offline")]
        connected: bool,
        /// Only clients without a connection
        #[arg(long)]
        offline: bool,
        /// Only client ids behind this one
        #[arg(long)]
        after: Option<String>,
        /// Most rows; absent: all
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Streams and how far they are
    Streams {
        /// A row for each partition
        #[arg(long)]
        partitions: bool,
        /// The node's own streams too
        #[arg(long)]
        all: bool,
    },
    /// Hooks
    Hooks,
    /// Consumer groups and how far behind they are
    Groups {
        /// Only groups whose id contains this text
        #[arg(long)]
        contains: Option<String>,
        /// A row for each partition: committed offset, end and lag
        #[arg(long, conflicts_with = "members")]
        partitions: bool,
        /// A row for each member
        #[arg(long)]
        members: bool,
    },
}

/// Asks and prints.
pub fn run(args: &CtlArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let printed = match &args.question {
        Question::Status => one(args, "/api/v1/status", status)?,
        Question::Groups {
            contains,
            partitions,
            members,
        } => {
            let page = group_pages(args, contains.as_deref())?;
            if args.json {
                format!("{}\n", serde_json::to_string(&page)?)
            } else if *partitions {
                groups::partition_table(&page.groups)
            } else if *members {
                groups::member_table(&page.groups)
            } else {
                groups::group_table(&page.groups)
            }
        }
        Question::Hooks => one(args, "/api/v1/hooks", hooks)?,
        Question::Streams { partitions, all } => one(args, "/api/v1/streams", |answer| {
            streams(answer, *partitions, *all)
        })?,
        Question::Clients {
            contains,
            connected,
            offline,
            after,
            limit,
        } => {
            let mut query = Vec::new();
            query.extend(
                contains
                    .as_ref()
                    .map(|text| format!("contains={}", escaped(text))),
            );
            query.extend((*connected || *offline).then(|| format!("connected={connected}")));
            clients(args, &query.join("&"), after.clone(), *limit)?
        }
    };
    out.write_all(printed.as_bytes())
        .context("cannot write the answer")?;
    Ok(ExitCode::SUCCESS)
}

/// One question, one answer.
fn one<T: DeserializeOwned>(
    args: &CtlArgs,
    path: &str,
    show: impl FnOnce(&T) -> String,
) -> anyhow::Result<String> {
    let body = get(&args.http, path)?;
    if args.json {
        return Ok(format!("{body}\n"));
    }
    let answer = serde_json::from_str(&body)
        .with_context(|| format!("{} answers, but not as a Sluice of this version", args.http))?;
    Ok(show(&answer))
}

/// Pages of clients until there is no more or `limit` is reached.
fn clients(
    args: &CtlArgs,
    query: &str,
    mut after: Option<String>,
    limit: Option<u32>,
) -> anyhow::Result<String> {
    let mut all = ClientPage::default();
    loop {
        let left = limit.map(|limit| limit.saturating_sub(all.clients.len() as u32));
        if left == Some(0) {
            break;
        }
        let mut path = format!("/api/v1/clients?{query}");
        for (name, value) in [
            ("after", after.as_deref().map(escaped)),
            ("limit", left.map(|n| n.to_string())),
        ] {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={value}");
            }
        }
        let page: ClientPage =
            serde_json::from_str(&get(&args.http, &path)?).with_context(|| {
                format!("{} answers, but not as a Sluice of this version", args.http)
            })?;
        all.clients.extend(page.clients);
        all.next.clone_from(&page.next);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if args.json {
        return Ok(format!("{}\n", serde_json::to_string(&all)?));
    }
    Ok(client_table(&all.clients))
}

/// All pages of groups.
fn group_pages(args: &CtlArgs, contains: Option<&str>) -> anyhow::Result<GroupPage> {
    let mut all = GroupPage::default();
    loop {
        let mut path = "/api/v1/groups?".to_owned();
        let texts = [("contains", contains), ("after", all.next.as_deref())];
        for (name, text) in texts {
            if let Some(text) = text {
                let _ = write!(path, "&{name}={}", escaped(text));
            }
        }
        let page: GroupPage =
            serde_json::from_str(&get(&args.http, &path)?).with_context(|| {
                format!("{} answers, but not as a Sluice of this version", args.http)
            })?;
        all.groups.extend(page.groups);
        all.next = page.next;
        if all.next.is_none() {
            return Ok(all);
        }
    }
}

fn status(status: &Status) -> String {
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
    out
}

fn hooks(answer: &Hooks) -> String {
    let rows = answer.hooks.iter().map(|hook| {
        let filter = hook.filter.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            hook.event.clone(),
            filter,
            hook.stream.clone(),
            hook.key.clone(),
            hook.payload.clone(),
        ]
    });
    table(&["EVENT", "FILTER", "STREAM", "KEY", "PAYLOAD"], &[], rows)
}

fn streams(answer: &Streams, partitions: bool, all: bool) -> String {
    let shown = answer
        .streams
        .iter()
        .filter(|stream| all || !stream.internal);
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

fn client_table(clients: &[ClientRow]) -> String {
    let rows = clients.iter().map(|client| {
        let dash = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
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

/// A table with columns as wide as they need to be; those in `right` are set to the right.
pub(super) fn table(
    heads: &[&str],
    right: &[usize],
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Control characters in a client id must not reach the terminal.
            let cell: String = cell
                .chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect();
            let gap = " ".repeat(width - cell.chars().count());
            text += &if right.contains(&column) {
                gap + &cell
            } else {
                cell + &gap
            };
            text += "  ";
        }
        out += text.trim_end();
        out.push('\n');
    }
    out
}

/// Bytes in a few digits.
fn rounded(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// Text for a query string.
pub(super) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The body of a GET.
///
/// # Errors
/// When nobody answers, or with a problem document's detail.
fn get(address: &str, path: &str) -> anyhow::Result<String> {
    ask(address, "GET", path, None)
}

/// The body of an answer. A `sent` body is JSON.
///
/// # Errors
/// When nobody answers, or with a problem document's detail.
pub(super) fn ask(
    address: &str,
    method: &str,
    path: &str,
    sent: Option<&str>,
) -> anyhow::Result<String> {
    let address = address
        .strip_prefix("http://")
        .unwrap_or(address)
        .trim_end_matches('/');
    let hint = "is the node running, and is this its http listener? (--http ADDR)";
    let resolved = address
        .to_socket_addrs()
        .with_context(|| format!("--http {address}: not an address such as 127.0.0.1:18083"))?
        .next()
        .with_context(|| format!("--http {address}: the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&resolved, TIMEOUT)
        .with_context(|| format!("cannot connect to {address}; {hint}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\nConnection: close\r\n"
    );
    if let Some(sent) = sent {
        let length = sent.len();
        let _ = write!(
            request,
            "Content-Type: application/json\r\nContent-Length: {length}\r\n"
        );
    }
    request += "\r\n";
    request += sent.unwrap_or_default();
    stream
        .write_all(request.as_bytes())
        .with_context(|| format!("{address} does not take the request"))?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .with_context(|| format!("{address} does not answer"))?;
    let answer =
        String::from_utf8(answer).with_context(|| format!("{address} answers with no text"))?;
    let (status, body) =
        split_answer(&answer).with_context(|| format!("{address} does not speak HTTP; {hint}"))?;
    if !(200..300).contains(&status) {
        let detail = serde_json::from_str::<Problem>(body).map(|problem| problem.detail);
        bail!(
            "{address} answers {status}: {}",
            detail.unwrap_or_else(|_| body.trim().to_owned())
        );
    }
    Ok(body.to_owned())
}

/// Status and body. An answer to HTTP/1.0 is never chunked: the body ends with the connection.
fn split_answer(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(split_answer(answer), Some((503, "{}")));
        assert_eq!(split_answer("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(split_answer("\u{10}\u{2}\r\n\r\n"), None);
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("a b/ü&"), "a%20b%2F%C3%BC%26");
    }

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [
            vec!["lock\u{1b}[2J".to_owned(), "7".to_owned()],
            vec!["a".to_owned(), "1000".to_owned()],
        ];
        assert_eq!(
            table(&["CLIENT", "OWED"], &[1], rows.into_iter()),
            "CLIENT    OWED\nlock?[2J     7\na         1000\n"
        );
    }

    #[test]
    fn sizes_have_few_digits() {
        assert_eq!(rounded(0), "0 B");
        assert_eq!(rounded(1536), "1.5 KB");
        assert_eq!(rounded(512 << 20), "512.0 MB");
    }

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
