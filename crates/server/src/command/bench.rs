//! `sluice bench`: the load generator of `crate::load` on the command line, against any MQTT broker.

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::client::{Way, WayArgs};
use crate::load::{self, Flow, Report, Span, Target};

/// Put load on an MQTT broker and report rates, latency percentiles and, for a broker on this
/// machine, its CPU time and memory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// What to do
    #[arg(value_enum, default_value = "flow")]
    scenario: Scenario,
    /// Broker's host, or mqtts://, ws:// or wss:// with host, port and path
    #[arg(short = 'H', long, default_value = "127.0.0.1")]
    host: String,
    /// Broker's port; by default 1883, 8883 for mqtts://, 8083 for ws://, 8084 for wss://
    #[arg(short, long)]
    port: Option<u16>,
    /// TLS and WebSocket
    #[command(flatten)]
    way: WayArgs,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long, requires = "username")]
    password: Option<String>,
    /// Publishing clients
    #[arg(long, default_value_t = 100)]
    publishers: usize,
    /// Subscribing clients
    #[arg(long, default_value_t = 0)]
    subscribers: usize,
    /// Topic of a publisher; {i} is its number
    #[arg(short, long, default_value = "devices/{i}/state")]
    topic: String,
    /// Filter of a subscriber; {i} is its number
    #[arg(short, long, default_value = "devices/{i}/state")]
    filter: String,
    /// QoS of publishes and subscriptions
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Messages a second in all, sent on time whatever the answers (open loop); absent: as fast as
    /// the window allows
    #[arg(short, long)]
    rate: Option<f64>,
    /// Messages of one publisher that may be on their way
    #[arg(short, long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Subscribers that get each message and hold the window back; 0: none do
    #[arg(long, default_value_t = 0)]
    fan_out: usize,
    /// Payload size in bytes
    #[arg(short = 'b', long, default_value_t = 256)]
    payload_bytes: usize,
    /// Connections of `idle`, clients of `churn`
    #[arg(short, long, default_value_t = 1000)]
    connections: usize,
    /// Seconds that are not counted, first
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Seconds that are counted
    #[arg(short, long, default_value_t = 10.0)]
    duration: f64,
    /// Broker's process id, to read its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Begins every client id
    #[arg(long, default_value = "bench-")]
    client_prefix: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  sluice bench --publishers 100 --qos 1
      how many door-lock reports a second the broker takes
  sluice bench --publishers 1000 --rate 20000
      how long a report waits for its PUBACK at 20,000 a second
  sluice bench --publishers 100 --subscribers 100 --fan-out 1 --topic p/{i} --filter p/{i}
      pairs of one publisher and one subscriber
  sluice bench idle --connections 15000 --pid $(pidof sluice)
      what an idle connection costs";

/// The kinds of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Publishers and subscribers
    Flow,
    /// Connections that do nothing
    Idle,
    /// Clients that connect, subscribe, publish and disconnect again and again
    Churn,
}

/// Runs the load and prints what it found.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let target = args.target()?;
    let span = Span {
        warmup: seconds(args.warmup, "--warmup")?,
        measure: seconds(args.duration, "--duration")?,
    };
    let report = match args.scenario {
        Scenario::Flow => load::flow(&target, &args.flow(span)?)?,
        Scenario::Idle => load::idle(&target, args.connections, span)?,
        Scenario::Churn => load::churn(&target, args.connections, args.payload_bytes, span)?,
    };
    print(&report, args.json)?;
    Ok(ExitCode::SUCCESS)
}

impl BenchArgs {
    fn target(&self) -> anyhow::Result<Target> {
        let way = Way::new(&self.host, self.port, &self.way)?;
        let address: SocketAddr = (way.host.as_str(), way.port)
            .to_socket_addrs()
            .with_context(|| format!("the host {} cannot be resolved", way.host))?
            .next()
            .with_context(|| format!("the host {} has no address", way.host))?;
        let credentials = self
            .username
            .clone()
            .map(|username| (username, self.password.clone().unwrap_or_default()));
        Ok(Target {
            address,
            way,
            credentials,
            client_prefix: self.client_prefix.clone(),
            pid: self.pid,
        })
    }

    fn flow(&self, span: Span) -> anyhow::Result<Flow> {
        if self.fan_out > 0 && self.subscribers == 0 {
            bail!("--fan-out {} needs --subscribers", self.fan_out);
        }
        if self.fan_out > 0 && self.publishers > 1 && self.publishers != self.subscribers {
            bail!("--fan-out with several publishers needs as many --subscribers (pairs)");
        }
        Ok(Flow {
            publishers: self.publishers,
            subscribers: self.subscribers,
            topic: self.topic.clone(),
            filter: self.filter.clone(),
            qos: self.qos,
            rate: self.rate,
            window: usize::from(self.window),
            fan_out: self.fan_out,
            payload_bytes: self.payload_bytes,
            span,
        })
    }
}

fn seconds(value: f64, option: &str) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value)
        .with_context(|| format!("{option} {value}: give a number of seconds, 0 or more"))
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        println!("{}", report.table());
    }
    Ok(())
}
