//! Short lives: connect, subscribe, publish at QoS 1, receive, disconnect, again and again.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::connection::{connect, dial, publish, subscribe};
use super::payload::door_lock_report;
use super::{Percentiles, Probe, Report, Span, Target};

/// Histograms reach one minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Lives one client after the other on `clients` threads and reports lives a second.
pub fn churn(target: &Target, clients: usize, bytes: usize, span: Span) -> anyhow::Result<Report> {
    run(target, clients, bytes, span.warmup)?;
    let before = target.pid.map(Probe::read).transpose()?;
    let start = Instant::now();
    let (lives, latency) = run(target, clients, bytes, span.measure)?;
    let measured = start.elapsed();
    let after = target.pid.map(Probe::read).transpose()?;
    let mut report = Report::new(measured, lives, lives, before.zip(after));
    report.ack_ms = Percentiles::of(&latency);
    Ok(report)
}

fn run(
    target: &Target,
    clients: usize,
    bytes: usize,
    length: Duration,
) -> anyhow::Result<(u64, Histogram<u64>)> {
    let end = Instant::now() + length;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || {
                    let mut latency = Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_NS, 3)?;
                    let mut lives = 0_u64;
                    while Instant::now() < end {
                        let start = Instant::now();
                        live(
                            target,
                            &format!("{}churn-{client}", target.client_prefix),
                            bytes,
                        )?;
                        latency.saturating_record(start.elapsed().as_nanos() as u64);
                        lives += 1;
                    }
                    anyhow::Ok((lives, latency))
                })
            })
            .collect();
        let mut lives = 0;
        let mut latency = Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_NS, 3)?;
        for thread in threads {
            let (count, found) = thread.join().expect("a client thread does not panic")?;
            lives += count;
            latency.add(found)?;
        }
        Ok((lives, latency))
    })
}

/// CONNECT, SUBSCRIBE, PUBLISH at QoS 1, DISCONNECT; each step waits for its answer.
fn live(target: &Target, client_id: &str, bytes: usize) -> anyhow::Result<()> {
    let mut stream = dial(target)?;
    let credentials = target
        .credentials
        .as_ref()
        .map(|(u, p)| (u.as_str(), p.as_str()));
    stream.write_all(&connect(client_id, credentials))?;
    let mut answer = [0_u8; 4];
    stream.read_exact(&mut answer).context("no CONNACK")?;
    stream.write_all(&subscribe(&format!("churn/{client_id}/in"), 1))?;
    let mut answer = [0_u8; 5];
    stream.read_exact(&mut answer).context("no SUBACK")?;
    let payload = door_lock_report(bytes, client_id);
    let (mut frame, id_at, _) = publish(&format!("churn/{client_id}/out"), 1, &payload);
    frame[id_at + 1] = 2;
    stream.write_all(&frame)?;
    let mut answer = [0_u8; 4];
    stream.read_exact(&mut answer).context("no PUBACK")?;
    stream.write_all(&[0xe0, 0])?;
    Ok(())
}
