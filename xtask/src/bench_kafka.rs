//! `cargo xtask bench kafka`: the release binary against a real single-node Apache Kafka, in the same
//! run and in turn, another one first in each round, by Kafka's own producer and by librdkafka (kcat). Medians
//! over the rounds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::bench::{free_port, fresh_folder, sluice};
use crate::bench_consumer::{TimedConsumer, at, cpu_seconds, machine_seconds, script};
use crate::kafka::{self, Cluster, tool_command};
use crate::prepare::prepare;
use crate::process::{Background, command, read, run};

/// Bytes of a record's value.
const RECORD_BYTES: usize = 256;
const PARTITIONS: &str = "4";
/// Records that warm a server up; the JVM is slow before it has compiled itself.
const WARM_RECORDS: usize = 300_000;
const IDLE_CONNECTIONS: usize = 1000;
const LATENCY_RATE: usize = 10_000;

/// What is asked for on the command line.
struct Asked {
    records: usize,
    rounds: usize,
    seconds: usize,
    build: bool,
}

/// A server under test.
struct Server {
    name: &'static str,
    address: String,
    pid: u32,
    folder: PathBuf,
    /// Kept alive, and stopped when this goes.
    process: Option<Background>,
    cluster: Option<Cluster>,
    mqtt: u16,
}

/// One figure of one server: its values over the rounds.
type Figures = BTreeMap<(&'static str, &'static str), Vec<f64>>;

/// (key, unit, aim) in the order of the table.
const ROWS: &[(&str, &str)] = &[
    ("produce", "records/s"),
    ("produce p99", "ms"),
    ("produce cpu", "us of the server a record"),
    ("produce to disk", "us of all but the client"),
    ("consume hot", "records/s"),
    ("consume hot cpu", "us of the server a record"),
    ("consume cold", "records/s"),
    ("consume cold cpu", "us of the server a record"),
    ("client cpu", "us of kcat a record"),
    ("resident", "MiB after the rounds"),
];

/// Runs all parts and prints the tables.
pub fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let asked = Asked::read(arguments)?;
    prepare()?;
    kafka::prepare()?;
    if asked.build {
        run(command(
            "cargo",
            &["build", "--release", "--package", "server"],
        ))?;
    }
    println!(
        "\n{} records of {RECORD_BYTES} B a round, {} rounds, {PARTITIONS} partitions; Apache Kafka {}",
        asked.records,
        asked.rounds,
        kafka::version()?
    );
    println!("(in full: cargo xtask bench kafka --records 5000000 --rounds 5)");
    throughput(&asked)?;
    latency(&asked)?;
    idle()
}

impl Asked {
    fn read(arguments: &[String]) -> anyhow::Result<Self> {
        let option = |name: &str, default: usize| -> anyhow::Result<usize> {
            let Some(at) = arguments.iter().position(|argument| argument == name) else {
                return Ok(default);
            };
            let value = arguments
                .get(at + 1)
                .with_context(|| format!("{name} needs a number"))?;
            value
                .parse()
                .with_context(|| format!("{name} {value}: not a number"))
        };
        Ok(Self {
            records: option("--records", 2_000_000)?.max(1000),
            rounds: option("--rounds", 3)?.max(1),
            seconds: option("--seconds", 15)?.max(2),
            build: !arguments.iter().any(|argument| argument == "--no-build"),
        })
    }
}

/// Produce and consume, alternating between the servers. Another one begins each round: on a virtual machine
/// whoever comes later meets memory and disk blocks that were touched before, and is the faster for it.
fn throughput(asked: &Asked) -> anyhow::Result<()> {
    let servers = [
        Server::sluice("sluice", "append")?,
        Server::kafka()?,
        Server::sluice("sluice, flush", "flush")?,
    ];
    let mut figures = Figures::new();
    for server in &servers {
        server.create("warm")?;
        server.produce("warm", WARM_RECORDS)?;
        server.consume("warm", WARM_RECORDS)?;
        server.delete("warm")?;
    }
    for round in 0..asked.rounds {
        for server in in_turn(&servers, round) {
            measure(
                server,
                &format!("round-{round}"),
                asked.records,
                &mut figures,
            )?;
        }
    }
    for server in &servers {
        figures
            .entry(("resident", server.name))
            .or_default()
            .push(resident(server.pid)? / 1_048_576.0);
    }
    table(&figures);
    Ok(())
}

/// All of them, beginning with another one each round.
fn in_turn<T>(all: &[T], round: usize) -> impl Iterator<Item = &T> {
    let (before, from) = all.split_at(round % all.len().max(1));
    from.iter().chain(before)
}

fn measure(
    server: &Server,
    topic: &str,
    records: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let name = server.name;
    let mut put =
        |figure: &'static str, value: f64| figures.entry((figure, name)).or_default().push(value);
    let each = records as f64 / 1e6;
    server.create(topic)?;
    let before = cpu_seconds(server.pid)?;
    let machine = machine_seconds()?;
    let (rate, p99) = server.produce(topic, records)?;
    put("produce", rate);
    put("produce p99", p99);
    put("produce cpu", (cpu_seconds(server.pid)? - before) / each);
    // Who leaves its pages to the kernel is not charged for writing them: here all are written.
    read(command("sync", &[]))?;
    put("produce to disk", (machine_seconds()? - machine) / each);
    for (figure, cpu) in [
        ("consume hot", "consume hot cpu"),
        ("consume cold", "consume cold cpu"),
    ] {
        if figure == "consume cold" {
            // Whose pages the host of a virtual machine has to find first is a matter of luck, and costs
            // the client, which touches them, as much as all else: the second time they are there.
            server.forget_pages()?;
            server.consume(topic, records)?;
            server.forget_pages()?;
        }
        let before = cpu_seconds(server.pid)?;
        let (rate, client) = server.consume(topic, records)?;
        put(figure, rate);
        put(cpu, (cpu_seconds(server.pid)? - before) / each);
        put("client cpu", client / each);
    }
    server.delete(topic)
}

fn table(figures: &Figures) {
    let columns = ["sluice", "Apache Kafka", "sluice, flush"];
    println!(
        "\n{:<44} {:>12} {:>12} {:>8} {:>14}",
        "median of rounds", columns[0], columns[1], "ratio", columns[2]
    );
    for (figure, unit) in ROWS {
        let value = |name: &'static str| figures.get(&(*figure, name)).map(|values| median(values));
        let [ours, theirs, flush] = columns.map(value);
        let shown = |value: Option<f64>| {
            value.map_or_else(
                || "-".to_owned(),
                |v| match v {
                    1000.0.. => format!("{v:.0}"),
                    0.2.. => format!("{v:.2}"),
                    _ => format!("{v:.4}"),
                },
            )
        };
        let ratio = ours
            .zip(theirs)
            .filter(|(_, theirs)| *theirs > 0.0)
            .map(|(a, b)| a / b);
        let aim = match *figure {
            "produce" | "consume hot" | "consume cold" => "  aim: at least 1",
            "produce cpu" | "consume hot cpu" | "consume cold cpu" => "  aim: at most 0.33",
            "resident" => "  aim: at most 0.1",
            _ => "",
        };
        println!(
            "{:<44} {:>12} {:>12} {:>8} {:>14}{aim}",
            format!("{figure} ({unit})"),
            shown(ours),
            shown(theirs),
            shown(ratio),
            shown(flush)
        );
    }
}

/// From an MQTT publish to a member of a Kafka consumer group, at `flush`.
fn latency(asked: &Asked) -> anyhow::Result<()> {
    let server = Server::sluice("sluice", "flush")?;
    let consumer = TimedConsumer::start(&[&server.address, "message_state"])?;
    let rate = LATENCY_RATE.to_string();
    let mut load = command(
        sluice(),
        &[
            "bench",
            "flow",
            "--publishers",
            "100",
            "--qos",
            "1",
            "--rate",
            &rate,
        ],
    );
    load.args([
        "--window",
        "64",
        "--port",
        &server.mqtt.to_string(),
        "--pid",
        &server.pid.to_string(),
    ]);
    load.args(["--duration", &asked.seconds.to_string(), "--json"]);
    let report: Value = serde_json::from_str(&read(load)?)?;
    let found = consumer.end()?;
    println!(
        "\nMQTT publish to a Kafka consumer in a group, flush, {LATENCY_RATE} msg/s for {} s",
        asked.seconds
    );
    println!(
        "  {} messages; p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms   aim: p99 under 10 ms",
        at(&found, "/count"),
        at(&found, "/p50"),
        at(&found, "/p99"),
        at(&found, "/p999")
    );
    println!(
        "  PUBACK p50 {:.2} ms, p99 {:.2} ms; {:.0} msg/s",
        at(&report, "/ack_ms/p50"),
        at(&report, "/ack_ms/p99"),
        at(&report, "/messages_per_s")
    );
    Ok(())
}

/// What consumer connections cost that wait for records.
fn idle() -> anyhow::Result<()> {
    let server = Server::sluice("sluice", "append")?;
    let count = IDLE_CONNECTIONS.to_string();
    let said = read(script(
        "idle",
        &[
            &server.address,
            "message_state",
            &count,
            &server.pid.to_string(),
        ],
    ))?;
    let found: Value = serde_json::from_str(said.trim())?;
    let bytes = found["bytes"].as_f64().unwrap_or(f64::NAN);
    println!("\n{IDLE_CONNECTIONS} idle consumer connections");
    println!(
        "  {:.1} MiB, {:.0} bytes each   aim: under 20 MiB",
        bytes / 1_048_576.0,
        bytes / IDLE_CONNECTIONS as f64
    );
    Ok(())
}

impl Server {
    fn sluice(name: &'static str, ack: &str) -> anyhow::Result<Self> {
        let folder = fresh_folder(&format!("bench-kafka-{ack}"))?;
        let settings = folder.join("sluice.toml");
        fs::write(
            &settings,
            format!("[kafka]\ntopic_ack = \"{ack}\"\n[mqtt]\ninflight_v3 = 65535\n"),
        )?;
        let (mqtt, port, http) = (free_port()?, free_port()?, free_port()?);
        let mut serve = command(sluice(), &["serve", "--data-dir"]);
        serve
            .arg(folder.join("data"))
            .arg("--config")
            .arg(&settings);
        for (flag, port) in [("--mqtt", mqtt), ("--kafka", port), ("--http", http)] {
            serve.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        serve.args(["--ws", "off"]);
        let log = fs::File::create(folder.join("sluice.log"))?;
        let process = Background(serve.stdout(Stdio::null()).stderr(log).spawn()?);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!(
                    "the node does not listen: see {}",
                    folder.join("sluice.log").display()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        let (address, pid) = (format!("127.0.0.1:{port}"), process.0.id());
        Ok(Self {
            name,
            address,
            pid,
            folder,
            process: Some(process),
            cluster: None,
            mqtt,
        })
    }

    fn kafka() -> anyhow::Result<Self> {
        let cluster = Cluster::named("bench");
        cluster.start_stock()?;
        let address = cluster.bootstrap()?;
        let pid = *cluster
            .pids()
            .first()
            .context("Apache Kafka has no process id")?;
        let folder = cluster.folder().to_path_buf();
        let name = "Apache Kafka";
        Ok(Self {
            name,
            address,
            pid,
            folder,
            process: None,
            cluster: Some(cluster),
            mqtt: 0,
        })
    }

    fn create(&self, topic: &str) -> anyhow::Result<()> {
        self.tool(
            "topics",
            &["--create", "--topic", topic, "--partitions", PARTITIONS],
        )
        .map(drop)
    }

    fn delete(&self, topic: &str) -> anyhow::Result<()> {
        self.tool("topics", &["--delete", "--topic", topic])
            .map(drop)
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut tool = tool_command(name)?;
        tool.args(["--bootstrap-server", &self.address])
            .args(arguments);
        read(tool)
    }

    /// (records a second, 99th percentile of the answer time in ms) by kafka-producer-perf-test.
    fn produce(&self, topic: &str, records: usize) -> anyhow::Result<(f64, f64)> {
        let (records, size) = (records.to_string(), RECORD_BYTES.to_string());
        let said = self.tool(
            "producer-perf-test",
            &[
                "--topic",
                topic,
                "--num-records",
                &records,
                "--record-size",
                &size,
                "--throughput",
                "-1",
            ],
        )?;
        let last = said
            .lines()
            .rfind(|line| line.contains("99th"))
            .unwrap_or_default();
        let before = |word: &str| -> Option<f64> {
            let (head, _) = last.split_once(word)?;
            head.trim().rsplit([' ', ',']).next()?.parse().ok()
        };
        let rate = before(" records/sec").with_context(|| format!("no rate in: {said}"))?;
        Ok((rate, before(" ms 99th").unwrap_or(f64::NAN)))
    }

    /// (records a second, CPU seconds of the client) by kcat, which is librdkafka and little else.
    fn consume(&self, topic: &str, records: usize) -> anyhow::Result<(f64, f64)> {
        let mut kcat = command(
            "kcat",
            &["-C", "-b", &self.address, "-t", topic, "-o", "beginning"],
        );
        kcat.args(["-e", "-q", "-f", "", "-c", &records.to_string()]);
        // kcat's own default lets the queue run dry at such rates.
        kcat.args([
            "-X",
            "queued.max.messages.kbytes=262144",
            "-X",
            "check.crcs=false",
        ]);
        // librdkafka 2.0 may look 0.5 or 1 s for the leader before it asks for anything: its words tell
        // when it begins.
        let mut child = kcat
            .args(["-d", "fetch"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("kcat could not be started")?;
        let words = child.stderr.take().context("a piped output")?;
        let first = thread::spawn(move || first_fetch(words));
        let client = wait_for_cpu(&mut child)?;
        let end = Instant::now();
        let first = first.join().ok().flatten();
        let first = first.context("kcat fetched nothing")?;
        Ok((records as f64 / (end - first).as_secs_f64(), client))
    }

    /// Writes everything down and takes it out of the page cache.
    fn forget_pages(&self) -> anyhow::Result<()> {
        let mut cold = script("cold", &[]);
        cold.arg(&self.folder);
        read(cold).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(cluster) = &self.cluster
            && let Err(error) = cluster.stop()
        {
            eprintln!("Apache Kafka could not be stopped: {error:#}");
        }
        if self.process.take().is_some() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// When kcat began to fetch; reads its words to their end, so that it never waits.
fn first_fetch(words: impl std::io::Read) -> Option<Instant> {
    let mut first = None;
    for line in BufReader::new(words).lines() {
        if line.ok()?.contains("is fetchable") {
            first.get_or_insert_with(Instant::now);
        }
    }
    first
}

/// Waits for a child and returns the CPU seconds that it used, to the last 10 ms.
fn wait_for_cpu(child: &mut Child) -> anyhow::Result<f64> {
    let mut used = 0.0;
    loop {
        // The figures of a process are gone once it is waited for: the last look counts.
        used = cpu_seconds(child.id()).unwrap_or(used);
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("kcat failed: {status}");
            }
            return Ok(used);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn resident(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .context("no VmRSS")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("no VmRSS")?
        .parse()?;
    Ok(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another() {
        let order = |round| in_turn(&[0, 1, 2], round).copied().collect::<Vec<_>>();
        assert_eq!(
            [0, 1, 2, 3].map(order),
            [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]
        );
        assert_eq!(in_turn::<u8>(&[], 1).count(), 0);
    }
}
