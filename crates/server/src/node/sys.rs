//! `$SYS/broker/...`: the figures that users of mosquitto know, under the names they know, as
//! retained messages published every `sys_interval_s`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use broker::ShardStats;
use tokio::sync::watch;

use super::Node;
use super::counters::CounterValues;

/// The three averages of each load figure: name and minutes.
const AVERAGES: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// Publishes until the node stops.
pub async fn run(node: Weak<Node>, interval_s: u32, mut stop: watch::Receiver<bool>) {
    let interval = Duration::from_secs(u64::from(interval_s));
    let mut loads = Loads::default();
    let mut clients_max = 0;
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            publish(&node, interval, &mut loads, &mut clients_max).await;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = stop.wait_for(|&stop| stop) => return,
        }
    }
}

async fn publish(node: &Arc<Node>, interval: Duration, loads: &mut Loads, clients_max: &mut u64) {
    let shards = node.shard_stats().await;
    let counters = node.counters.snapshot();
    let totals = Totals::new(&counters, &shards);
    loads.update(&totals, interval);
    *clients_max = totals.clients_connected.max(*clients_max);
    let mut values = Vec::with_capacity(64);
    let mut say = |name: &str, value: String| values.push((format!("$SYS/broker/{name}"), value));
    say(
        "version",
        format!("sluice version {}", env!("CARGO_PKG_VERSION")),
    );
    say("uptime", format!("{} seconds", node.uptime_s()));
    totals.each(|name, value| say(name, value.to_string()));
    say("clients/maximum", clients_max.to_string());
    say("retained messages/count", node.retained_count().to_string());
    for (name, averages) in LOAD_NAMES.iter().zip(&loads.averages) {
        for ((minutes, _), average) in AVERAGES.iter().zip(averages) {
            say(&format!("load/{name}/{minutes}"), format!("{average:.2}"));
        }
    }
    node.publish_sys(values);
}

/// What the values are computed from.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    clients_total: u64,
    clients_connected: u64,
    clients_expired: u64,
    messages_received: u64,
    messages_sent: u64,
    publish_received: u64,
    publish_bytes_received: u64,
    publish_bytes_sent: u64,
    publish_sent: u64,
    publish_dropped: u64,
    bytes_received: u64,
    bytes_sent: u64,
    connections: u64,
    sockets: u64,
    subscriptions: u64,
    shared_subscriptions: u64,
    inflight: u64,
    stored: u64,
}

/// The figures that have load averages, in the order of [`Totals::rates`].
const LOAD_NAMES: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

impl Totals {
    fn new(counters: &CounterValues, shards: &ShardStats) -> Self {
        Self {
            clients_total: shards.sessions,
            clients_connected: shards.connections,
            clients_expired: shards.sessions_expired,
            messages_received: counters.workers.packets_in,
            messages_sent: counters.workers.packets_out,
            publish_received: shards.received.iter().sum(),
            publish_bytes_received: shards.received_bytes,
            publish_bytes_sent: shards.sent_bytes,
            publish_sent: shards.sent.iter().sum(),
            publish_dropped: shards.dropped.iter().sum(),
            bytes_received: counters.workers.bytes_in,
            bytes_sent: counters.workers.bytes_out,
            connections: counters.workers.connections_total,
            sockets: counters.reception.accepted,
            subscriptions: shards.subscriptions,
            shared_subscriptions: shards.shared_subscriptions,
            inflight: shards.inflight,
            stored: shards.inbox_messages,
        }
    }

    fn each(&self, mut say: impl FnMut(&str, u64)) {
        let offline = self.clients_total.saturating_sub(self.clients_connected);
        say("clients/total", self.clients_total);
        say("clients/connected", self.clients_connected);
        say("clients/active", self.clients_connected);
        say("clients/disconnected", offline);
        say("clients/inactive", offline);
        say("clients/expired", self.clients_expired);
        say("messages/received", self.messages_received);
        say("messages/sent", self.messages_sent);
        say("messages/stored", self.stored);
        say("store/messages/count", self.stored);
        say("publish/messages/received", self.publish_received);
        say("publish/messages/sent", self.publish_sent);
        say("publish/messages/dropped", self.publish_dropped);
        say("publish/bytes/received", self.publish_bytes_received);
        say("publish/bytes/sent", self.publish_bytes_sent);
        say("bytes/received", self.bytes_received);
        say("bytes/sent", self.bytes_sent);
        say("subscriptions/count", self.subscriptions);
        say("shared_subscriptions/count", self.shared_subscriptions);
        say("messages/inflight", self.inflight);
    }

    fn rates(&self) -> [u64; LOAD_NAMES.len()] {
        [
            self.messages_received,
            self.messages_sent,
            self.publish_received,
            self.publish_sent,
            self.publish_dropped,
            self.bytes_received,
            self.bytes_sent,
            self.sockets,
            self.connections,
        ]
    }
}

/// Exponential averages a minute, as mosquitto computes them.
#[derive(Debug, Default)]
struct Loads {
    last: Option<[u64; LOAD_NAMES.len()]>,
    averages: [[f64; AVERAGES.len()]; LOAD_NAMES.len()],
}

impl Loads {
    fn update(&mut self, totals: &Totals, interval: Duration) {
        let rates = totals.rates();
        let Some(last) = self.last.replace(rates) else {
            return;
        };
        let minutes = interval.as_secs_f64() / 60.0;
        for ((now, before), averages) in rates.iter().zip(last).zip(&mut self.averages) {
            let a_minute = now.saturating_sub(before) as f64 / minutes;
            for ((_, span), average) in AVERAGES.iter().zip(averages) {
                let keep = (-minutes / span).exp();
                *average = a_minute + keep * (*average - a_minute);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_load_becomes_its_own_average() {
        let mut loads = Loads::default();
        let interval = Duration::from_secs(10);
        let mut totals = Totals::default();
        for _ in 0..600 {
            totals.bytes_sent += 100;
            loads.update(&totals, interval);
        }
        let at = LOAD_NAMES
            .iter()
            .position(|&name| name == "bytes/sent")
            .unwrap();
        for average in loads.averages[at] {
            assert!((average - 600.0).abs() < 3.0, "{average}");
        }
        assert!(loads.averages[0][0].abs() < f64::EPSILON);
    }
}
