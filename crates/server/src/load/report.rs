//! What a run found, as a table for people and as JSON for programs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Probe;

/// Latency percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// Half of the messages were faster.
    pub p50: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// 999 of 1,000 were faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Percentiles {
    /// Reads them from a histogram of nanoseconds; `None` when it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e6,
        })
    }
}

/// The outcome of one scenario.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Seconds that were counted.
    pub seconds: f64,
    /// Messages published (and acknowledged, at QoS 1 and 2), or cycles, or connections.
    pub messages: u64,
    /// Messages that reached subscribers.
    pub deliveries: u64,
    /// `messages` a second.
    pub messages_per_s: f64,
    /// `deliveries` a second.
    pub deliveries_per_s: f64,
    /// The broker's CPU time for each message, in microseconds.
    pub cpu_us_per_message: Option<f64>,
    /// The broker's CPU time for each delivery, in microseconds.
    pub cpu_us_per_delivery: Option<f64>,
    /// The broker's CPU time, in cores.
    pub cpu_cores: Option<f64>,
    /// The broker's resident memory at the end, in bytes.
    pub resident_bytes: Option<u64>,
    /// What each connection added to it (scenario `idle`).
    pub resident_bytes_per_connection: Option<f64>,
    /// From the (intended) send to the acknowledgement.
    pub ack_ms: Option<Percentiles>,
    /// From the (intended) send to the receipt by a subscriber.
    pub delivery_ms: Option<Percentiles>,
}

impl Report {
    /// Puts counts and probes together.
    pub fn new(
        measured: Duration,
        messages: u64,
        deliveries: u64,
        probes: Option<(Probe, Probe)>,
    ) -> Self {
        let seconds = measured.as_secs_f64();
        let cpu_us = probes.map(|(before, after)| (after.cpu_us - before.cpu_us) as f64);
        let per = |count: u64| cpu_us.filter(|_| count > 0).map(|cpu| cpu / count as f64);
        Self {
            seconds,
            messages,
            deliveries,
            messages_per_s: messages as f64 / seconds,
            deliveries_per_s: deliveries as f64 / seconds,
            cpu_us_per_message: per(messages),
            cpu_us_per_delivery: per(deliveries),
            cpu_cores: cpu_us.map(|cpu| cpu / 1e6 / seconds),
            resident_bytes: probes.map(|(_, after)| after.resident_bytes),
            ..Self::default()
        }
    }

    /// Lines for people.
    pub fn table(&self) -> String {
        let mut lines = vec![
            format!("counted            {:>12.1} s", self.seconds),
            format!(
                "messages           {:>12} ({:.0} a second)",
                self.messages, self.messages_per_s
            ),
        ];
        if self.deliveries > 0 {
            let (count, rate) = (self.deliveries, self.deliveries_per_s);
            lines.push(format!(
                "deliveries         {count:>12} ({rate:.0} a second)"
            ));
        }
        let mut latency = |name: &str, found: Option<Percentiles>| {
            if let Some(p) = found {
                lines.push(format!(
                    "{name} p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
                    p.p50, p.p99, p.p999, p.max
                ));
            }
        };
        latency("to acknowledgement", self.ack_ms);
        latency("to subscriber     ", self.delivery_ms);
        if let (Some(us), Some(cores)) = (self.cpu_us_per_message, self.cpu_cores) {
            lines.push(format!(
                "broker CPU         {us:>12.2} us a message ({cores:.2} cores)"
            ));
        }
        if let Some(us) = self.cpu_us_per_delivery {
            lines.push(format!("                   {us:>12.2} us a delivery"));
        }
        if let Some(bytes) = self.resident_bytes {
            lines.push(format!(
                "broker memory      {:>12.1} MiB",
                bytes as f64 / 1_048_576.0
            ));
        }
        if let Some(bytes) = self.resident_bytes_per_connection {
            lines.push(format!(
                "                   {bytes:>12.0} bytes a connection"
            ));
        }
        lines.join("\n")
    }
}
