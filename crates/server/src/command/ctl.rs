//! `sluice ctl`: asks a running node over its HTTP interface and prints tables for people or JSON
//! for programs. The HTTP client is as small as the question: one GET, one answer.

mod downlinks;
mod groups;
mod mirror;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::api::{ApiArgs, escaped};
use super::table::{dash, rounded, table};
use crate::config::units::{show_bytes, show_millis};
use crate::downlink::DownlinkRow;
use crate::http::view::{ClientRow, GroupRow, HookRow, Status, StreamRow};

/// Ask a running node
#[derive(Debug, Args)]
pub struct CtlArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Print JSON
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
        /// Only clients whose id or user name contains this text
        #[arg(long)]
        contains: Option<String>,
        /// Only clients with a connection
        #[arg(long, conflicts_with = "offline")]
        connected: bool,
        /// Only clients without a connection
        #[arg(long)]
        offline: bool,
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
    /// The mirror into an Apache Kafka cluster and how far behind it is
    Mirror {
        /// A row for each partition: what the cluster has, and lag
        #[arg(long)]
        partitions: bool,
    },
    /// Downlinks: what became of their records and how far behind they are
    Downlinks {
        /// A row for each partition
        #[arg(long)]
        partitions: bool,
    },
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
    let printed = printed(args)?;
    let mut out = std::io::stdout().lock();
    out.write_all(printed.as_bytes())
        .context("cannot write the answer")?;
    Ok(ExitCode::SUCCESS)
}

fn printed(args: &CtlArgs) -> anyhow::Result<String> {
    let api = &args.api;
    Ok(match &args.question {
        Question::Status => {
            let answer = api.told("/api/v1/status")?;
            shown(args, &answer, status)?
        }
        Question::Downlinks { partitions } => {
            let rows: Vec<DownlinkRow> = api.pages("/api/v1/downlinks", None)?;
            shown(args, &rows, |rows| {
                if *partitions {
                    downlinks::partition_table(rows)
                } else {
                    downlinks::table_of(rows)
                }
            })?
        }
        Question::Groups {
            contains,
            partitions,
            members,
        } => {
            let query = filter(contains.as_deref());
            let groups: Vec<GroupRow> = api.pages(&format!("/api/v1/groups{query}"), None)?;
            shown(args, &groups, |groups| {
                if *partitions {
                    groups::partition_table(groups)
                } else if *members {
                    groups::member_table(groups)
                } else {
                    groups::group_table(groups)
                }
            })?
        }
        Question::Mirror { partitions } => {
            let view = api.told("/api/v1/mirror")?;
            shown(args, &view, |view| mirror::shown(view, *partitions))?
        }
        Question::Hooks => {
            let rows: Vec<HookRow> = api.pages("/api/v1/hooks", None)?;
            shown(args, &rows, |rows| hooks(rows))?
        }
        Question::Streams { partitions, all } => {
            let rows: Vec<StreamRow> = api.pages("/api/v1/streams", None)?;
            shown(args, &rows, |rows| streams(rows, *partitions, *all))?
        }
        Question::Clients {
            contains,
            connected,
            offline,
            limit,
        } => {
            let mut path = format!("/api/v1/clients{}", filter(contains.as_deref()));
            if *connected || *offline {
                let mark = if path.contains('?') { '&' } else { '?' };
                let _ = write!(path, "{mark}connected={connected}");
            }
            let rows: Vec<ClientRow> = api.pages(&path, limit.map(|limit| limit as usize))?;
            shown(args, &rows, |rows| client_table(rows))?
        }
    })
}

/// A query for rows that contain a text.
fn filter(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!("?filter={}", escaped(text)))
}

/// An answer as JSON, where that is asked for, or as `show` shows it.
fn shown<T: serde::Serialize>(
    args: &CtlArgs,
    answer: &T,
    show: impl FnOnce(&T) -> String,
) -> anyhow::Result<String> {
    if args.json {
        return Ok(format!("{}\n", serde_json::to_string(answer)?));
    }
    Ok(show(answer))
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

fn hooks(answer: &[HookRow]) -> String {
    let rows = answer.iter().map(|hook| {
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

fn streams(answer: &[StreamRow], partitions: bool, all: bool) -> String {
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

fn client_table(clients: &[ClientRow]) -> String {
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
