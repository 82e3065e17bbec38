//! What goes on, as lines: what clients do, and what the program's own log says.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::super::api::{ApiArgs, escaped};
use super::super::table::shown;
use crate::http::rfc3339;
use crate::logging::LogLine;
use crate::node::TraceLine;

/// Whose packets are shown; a packet must match all that is said.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Only this client
    #[arg(long, value_name = "CLIENT_ID")]
    client: Option<String>,
    /// Only packets about a topic that this MQTT filter matches
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Only clients at this address
    #[arg(long, value_name = "IP")]
    address: Option<String>,
}

pub(super) fn run(api: &ApiArgs, json: bool, which: &TraceArgs) -> anyhow::Result<ExitCode> {
    let said = [
        ("client", &which.client),
        ("topic", &which.topic),
        ("address", &which.address),
    ];
    let said = said.into_iter().filter_map(|(name, value)| {
        let value = value.as_ref()?;
        Some(format!("{name}={}", escaped(value)))
    });
    let query: Vec<String> = said.collect();
    let path = format!("/api/v1/trace/live?{}", query.join("&"));
    each(api, json, &path, |text| {
        let line: TraceLine = serde_json::from_str(text)?;
        let arrow = if line.direction == "in" { "->" } else { "<-" };
        let at = rfc3339(line.time_ms as i64);
        let (client, summary) = (shown(&line.client_id), shown(&line.summary));
        Ok(format!("{at} {client} {arrow} {summary}"))
    })
}

pub(super) fn log(api: &ApiArgs, json: bool) -> anyhow::Result<ExitCode> {
    each(api, json, "/api/v1/log/live", |text| {
        let line: LogLine = serde_json::from_str(text)?;
        let at = rfc3339(line.time_ms as i64);
        let mut fields = String::new();
        for (name, value) in &line.fields {
            let _ = write!(fields, " {name}={value}");
        }
        let said = shown(&format!("{}{fields}", line.message));
        Ok(format!(
            "{at} {:>5} {}: {said}",
            line.level.to_uppercase(),
            line.target
        ))
    })
}

/// Prints each event until nobody reads any more.
fn each(
    api: &ApiArgs,
    json: bool,
    path: &str,
    line: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<ExitCode> {
    api.events(path, |event, text| {
        let told = if event == "skipped" {
            let count: Value = serde_json::from_str(text)?;
            if json {
                json!({ "skipped": count["count"] }).to_string()
            } else {
                format!("... {} more, left out", count["count"])
            }
        } else if json {
            text.to_owned()
        } else {
            line(text)?
        };
        let mut out = std::io::stdout().lock();
        Ok(writeln!(out, "{told}").and_then(|()| out.flush()).is_ok())
    })?;
    Ok(ExitCode::SUCCESS)
}
