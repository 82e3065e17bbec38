//! `cargo xtask bench mirror`: from MQTT devices through Sluice into a real single-node Apache Kafka on
//! the same machine: rates, CPU, waiting times, and how fast a backlog drains. It knows Sluice by its
//! command line and its HTTP API.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::bench::{build, free_port, fresh_folder, number, sluice};
use crate::bench_consumer::{TimedConsumer, at, cpu_seconds};
use crate::kafka::{self, Cluster};
use crate::prepare::prepare;
use crate::process::{Background, command, read};

const PUBLISHERS: &str = "100";
/// Messages a second at which the way to a consumer is timed.
const LATENCY_RATE: &str = "5000";
/// Longest wait for a backlog to drain, or for the mirror to connect.
const DRAIN: Duration = Duration::from_mins(5);

/// Runs all parts and prints the tables.
pub fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let seconds = number(arguments, "--seconds", 10)?.max(2).to_string();
    let backlog = number(arguments, "--backlog", 2_000_000)?.max(1000);
    prepare()?;
    kafka::prepare()?;
    build(arguments)?;
    let apache = Apache::start()?;
    println!(
        "\nQoS 1 from {PUBLISHERS} publishers through a mirror with exactly_once into Apache Kafka {} on \
         this machine",
        kafka::version()?
    );
    // The JVM is slow before it has compiled itself.
    let warm = Node::start(&apache.address, "warm", "flush", true)?;
    warm.flow(&["--duration", &seconds, "--window", "16"])?;
    warm.drained()?;
    drop(warm);
    throughput(&apache.address, &seconds)?;
    latency(&apache.address, &seconds)?;
    catch_up(&apache.address, backlog)
}

/// As fast as devices and Kafka can: messages a second, CPU, PUBACK.
fn throughput(kafka: &str, seconds: &str) -> anyhow::Result<()> {
    println!(
        "\n{:<24} {:>12} {:>12} {:>12} {:>10} {:>10}",
        "as fast as it goes", "PUBACKs/s", "into Kafka/s", "CPU us/msg", "PUBACK p50", "p99 ms"
    );
    for (bytes, aim) in [("256", "  aim: CPU at most 6 us"), ("1024", "")] {
        // Who waits for the cluster needs more on the way to be as fast.
        for (ack, window) in [("flush", "16"), ("kafka", "256")] {
            let node = Node::start(kafka, &format!("fast-{ack}-{bytes}"), ack, true)?;
            let before = cpu_seconds(node.pid())?;
            let start = Instant::now();
            let load = [
                "--duration",
                seconds,
                "--window",
                window,
                "--payload-bytes",
                bytes,
            ];
            let report = node.flow(&load)?;
            let view = node.drained()?;
            let elapsed = start.elapsed().as_secs_f64();
            let cpu = cpu_seconds(node.pid())? - before;
            let records = at(&view, "/streams/0/records");
            println!(
                "{:<24} {:>12.0} {:>12.0} {:>12.2} {:>10.2} {:>10.2}{aim}",
                format!("{ack}, {bytes} B"),
                at(&report, "/messages_per_s"),
                records / elapsed,
                cpu * 1e6 / records,
                at(&report, "/ack_ms/p50"),
                at(&report, "/ack_ms/p99")
            );
        }
    }
    Ok(())
}

/// At a steady rate: from the device's PUBLISH to a consumer of the cluster.
fn latency(kafka: &str, seconds: &str) -> anyhow::Result<()> {
    println!(
        "\n{:<24} {:>12} {:>10} {:>10} {:>10} {:>12} {:>10}",
        format!("{LATENCY_RATE} msg/s, 256 B"),
        "at consumer",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "PUBACK p50",
        "p99 ms"
    );
    for (ack, isolation, aim) in [
        ("flush", "read_uncommitted", "  aim: p99 under 50"),
        ("flush", "read_committed", "  aim: p99 under 150"),
        ("kafka", "read_committed", ""),
    ] {
        let topic = format!("steady-{ack}-{isolation}");
        let node = Node::start(kafka, &topic, ack, true)?;
        let consumer = TimedConsumer::start(&[kafka, &topic, isolation])?;
        let load = [
            "--duration",
            seconds,
            "--window",
            "256",
            "--rate",
            LATENCY_RATE,
        ];
        let report = node.flow(&load)?;
        node.drained()?;
        let found = consumer.end()?;
        println!(
            "{:<24} {:>12.0} {:>10.2} {:>10.2} {:>10.2} {:>12.2} {:>10.2}{aim}",
            format!("{ack}, {isolation}"),
            at(&found, "/count"),
            at(&found, "/p50"),
            at(&found, "/p99"),
            at(&found, "/p999"),
            at(&report, "/ack_ms/p50"),
            at(&report, "/ack_ms/p99")
        );
    }
    Ok(())
}

/// A backlog that devices filled while nothing was mirrored.
fn catch_up(kafka: &str, backlog: usize) -> anyhow::Result<()> {
    let mut node = Node::start(kafka, "backlog", "append", false)?;
    let before = Instant::now();
    while node.records()? < backlog as f64 {
        if before.elapsed() > DRAIN {
            bail!("the backlog does not grow");
        }
        node.flow(&["--duration", "3", "--warmup", "0", "--window", "64"])?;
    }
    node.again(kafka)?;
    let start = Instant::now();
    let cpu = cpu_seconds(node.pid())?;
    let view = node.drained()?;
    let elapsed = start.elapsed().as_secs_f64();
    let records = at(&view, "/streams/0/records");
    println!(
        "\na backlog of {records:.0} records of 256 B payload: {elapsed:.1} s, {:.0} records/s, CPU {:.2} us \
         a record   aim: more than 100,000 records/s",
        records / elapsed,
        (cpu_seconds(node.pid())? - cpu) * 1e6 / records
    );
    Ok(())
}

/// The cluster, stopped when it goes.
struct Apache {
    cluster: Cluster,
    address: String,
}

impl Apache {
    fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::named("bench-mirror");
        cluster.start(1, 0)?;
        let address = cluster.bootstrap()?;
        Ok(Self { cluster, address })
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.stop() {
            eprintln!("Apache Kafka could not be stopped: {error:#}");
        }
    }
}

/// A node whose `message_state` goes to a topic.
struct Node {
    process: Background,
    folder: PathBuf,
    topic: String,
    ack: &'static str,
    mqtt: u16,
    http: u16,
}

impl Node {
    fn start(kafka: &str, topic: &str, ack: &'static str, mirrors: bool) -> anyhow::Result<Self> {
        let folder = fresh_folder("bench-mirror-sluice")?;
        let (mqtt, http) = (free_port()?, free_port()?);
        let process = serve(&folder, kafka, topic, ack, mirrors, (mqtt, http))?;
        let topic = topic.to_owned();
        let node = Self {
            process,
            folder,
            topic,
            ack,
            mqtt,
            http,
        };
        node.ready(mirrors)?;
        Ok(node)
    }

    /// Ends the node and starts it on the same log, with the mirror.
    fn again(&mut self, kafka: &str) -> anyhow::Result<()> {
        let pid = self.pid().to_string();
        read(command("kill", &["-TERM", &pid]))?;
        self.process.0.wait()?;
        let ports = (self.mqtt, self.http);
        self.process = serve(&self.folder, kafka, &self.topic, self.ack, true, ports)?;
        self.ready(true)
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Waits until the node serves, and its mirror has found the cluster.
    fn ready(&self, mirrors: bool) -> anyhow::Result<()> {
        let wanted = if mirrors { "connected" } else { "off" };
        self.until(|view| view.pointer("/state").is_some_and(|state| state == wanted))
            .map(drop)
    }

    /// Waits until all that is in the log is in the cluster.
    fn drained(&self) -> anyhow::Result<Value> {
        self.until(|view| at(view, "/streams/0/lag_records") == 0.0)
    }

    fn until(&self, good: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + DRAIN;
        loop {
            let view = self.get("/api/v1/mirror");
            if let Some(view) = view.as_ref().filter(|view| good(view)) {
                return Ok(view.clone());
            }
            if Instant::now() > deadline {
                bail!("the mirror does not come to that: {view:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (_, body) = text.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// Records that the stream has had.
    fn records(&self) -> anyhow::Result<f64> {
        let view = self.get("/api/v1/streams/message_state");
        Ok(at(&view.context("the node does not answer")?, "/records"))
    }

    fn flow(&self, rest: &[&str]) -> anyhow::Result<Value> {
        let mut load = command(sluice(), &["bench", "flow", "--qos", "1", "--json"]);
        load.args(["--publishers", PUBLISHERS, "--port", &self.mqtt.to_string()]);
        load.args(rest);
        Ok(serde_json::from_str(&read(load)?)?)
    }
}

fn serve(
    folder: &std::path::Path,
    kafka: &str,
    topic: &str,
    ack: &str,
    mirrors: bool,
    (mqtt, http): (u16, u16),
) -> anyhow::Result<Background> {
    let mirror = format!(
        "[mirror]\nbrokers = \"{kafka}\"\n\
         [[mirror.stream]]\nstream = \"message_state\"\ntopic = \"{topic}\"\npartitions = 4\n"
    );
    let settings = folder.join("sluice.toml");
    fs::write(
        &settings,
        format!(
            "[mqtt]\ninflight_max = 65535\ninflight_v3 = 65535\n{}\
             [[stream]]\nname = \"message_state\"\npartitions = 4\nack = \"{ack}\"\n\
             [[hook]]\nevent = \"message.publish\"\nfilter = \"devices/+/state\"\n\
             stream = \"message_state\"\nkey = \"{{2}}\"\n",
            if mirrors { &mirror } else { "" }
        ),
    )?;
    let log = fs::File::create(folder.join("sluice.log"))?;
    let mut serve = command(sluice(), &["serve", "--ws", "off", "--data-dir"]);
    serve.arg(folder.join("data")).arg("--config").arg(settings);
    serve.arg("--mqtt").arg(format!("127.0.0.1:{mqtt}"));
    serve.arg("--http").arg(format!("127.0.0.1:{http}"));
    serve.args(["--kafka", "127.0.0.1:0"]);
    Ok(Background(serve.stdout(Stdio::null()).stderr(log).spawn()?))
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
