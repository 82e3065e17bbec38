//! What `sluice ctl` does rather than asks: publish, ban, levels of the log, backup and restore.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::super::api::ApiArgs;
use super::super::table::rounded;
use super::Log;
use crate::config::units;
use crate::http::backup::{BackupRow, NewBackup};
use crate::http::logs::LogLevel;
use crate::http::publish::{NewMessage, PublishedRow};
use crate::node::wall_ms;

/// A message.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Topic
    #[arg(short, long)]
    topic: String,
    /// Payload
    #[arg(short, long, conflicts_with = "file")]
    message: Option<String>,
    /// File that is the payload
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Quality of service
    #[arg(short, long, default_value = "1")]
    qos: u8,
    /// Keep it for those who subscribe afterwards
    #[arg(short, long)]
    retain: bool,
    /// Client id of the publisher, as hooks and rules see it
    #[arg(short = 'i', long)]
    client_id: Option<String>,
}

/// Who is kept out, and for how long.
#[derive(Debug, Args)]
pub struct BanArgs {
    /// client_id, user or address
    kind: String,
    /// Client id, user name, address or network
    value: String,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    /// How long, such as 1d; without it until the ban is deleted
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

pub(super) fn publish(api: &ApiArgs, json: bool, message: &PublishArgs) -> anyhow::Result<String> {
    let payload = match (&message.message, &message.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => {
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        (None, None) => Vec::new(),
    };
    let body = serde_json::to_string(&NewMessage {
        topic: message.topic.clone(),
        payload_base64: Some(base64_simd::STANDARD.encode_to_string(payload)),
        qos: message.qos,
        retain: message.retain,
        client_id: message.client_id.clone(),
        ..NewMessage::default()
    })?;
    // It may wait for the Apache Kafka cluster behind.
    let answer = api.ask_long("POST", "/api/v1/publish", Some(&body))?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let row: PublishedRow = serde_json::from_str(&answer)?;
    Ok(if row.subscribers {
        "published\n".to_owned()
    } else {
        "published; no client subscribes to the topic\n".to_owned()
    })
}

pub(super) fn ban(api: &ApiArgs, ban: &BanArgs) -> anyhow::Result<String> {
    let lifetime = ban.expires.as_deref().map(units::millis).transpose();
    let lifetime = lifetime.map_err(anyhow::Error::msg)?;
    let body = json!({
        "kind": ban.kind,
        "value": ban.value,
        "reason": ban.reason,
        "until_ms": lifetime.map(|ms| wall_ms().saturating_add(ms)),
    });
    api.ask("POST", "/api/v1/bans", Some(&body.to_string()))?;
    Ok(format!("{} {} is kept out", ban.kind, ban.value))
}

pub(super) fn log_level(api: &ApiArgs, json: bool, what: &Log) -> anyhow::Result<String> {
    const PATH: &str = "/api/v1/log/level";
    let Log::Level { level, module } = what else {
        return Ok(String::new());
    };
    let answer = match level {
        None => api.get(PATH)?,
        Some(level) => {
            let wanted = LogLevel {
                level: level.clone(),
                module: module.clone(),
            };
            api.ask("PUT", PATH, Some(&serde_json::to_string(&wanted)?))?
        }
    };
    if json {
        return Ok(format!("{answer}\n"));
    }
    let rows: Vec<LogLevel> = serde_json::from_str(&answer)?;
    let line = |row: &LogLevel| {
        let module = row.module.as_deref().unwrap_or("all");
        format!("{module:<24} {}\n", row.level)
    };
    Ok(rows.iter().map(line).collect())
}

pub(super) fn backup(api: &ApiArgs, json: bool, dir: &Path) -> anyhow::Result<String> {
    let dir = std::path::absolute(dir)?;
    let wanted = NewBackup {
        dir: dir.display().to_string(),
    };
    let body = serde_json::to_string(&wanted)?;
    let answer = api.ask_long("POST", "/api/v1/backup", Some(&body))?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let row: BackupRow = serde_json::from_str(&answer)?;
    let (files, bytes) = (row.files, rounded(row.bytes));
    Ok(format!(
        "{files} files, {bytes}, up to entry {} in {}\n",
        row.lsn, row.dir
    ))
}

pub(super) fn restore(backup: &Path, to: &Path) -> anyhow::Result<String> {
    let (files, bytes) = crate::node::restore_backup(backup, to)?;
    if files == 0 {
        bail!("{} holds no files", backup.display());
    }
    let (bytes, to) = (rounded(bytes), to.display());
    Ok(format!(
        "{files} files, {bytes}; start: sluice serve --data-dir {to}"
    ))
}
