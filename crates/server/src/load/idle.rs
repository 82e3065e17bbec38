//! Connections that do nothing: what each costs the broker in memory, and all of them in CPU time.

use std::thread;

use anyhow::Context as _;

use super::connection::Connection;
use super::{Probe, Report, Span, Target};

/// Opens `count` connections, lets them rest, and reports the broker's memory and CPU time. Needs
/// the broker's process id.
pub fn idle(target: &Target, count: usize, span: Span) -> anyhow::Result<Report> {
    let pid = target
        .pid
        .context("the scenario idle needs --pid, the broker's process id")?;
    let empty = Probe::read(pid)?;
    let mut connections = Vec::with_capacity(count);
    for index in 0..count {
        let id = format!("{}idle-{index}", target.client_prefix);
        let connection = Connection::open(target, &id, None)
            .with_context(|| format!("after {index} connections (is `ulimit -n` large enough?)"))?;
        connections.push(connection);
    }
    thread::sleep(span.warmup);
    let before = Probe::read(pid)?;
    thread::sleep(span.measure);
    let after = Probe::read(pid)?;
    let mut report = Report::new(span.measure, count as u64, 0, Some((before, after)));
    let grown = after.resident_bytes.saturating_sub(empty.resident_bytes);
    report.resident_bytes_per_connection = Some(grown as f64 / count.max(1) as f64);
    drop(connections);
    Ok(report)
}
