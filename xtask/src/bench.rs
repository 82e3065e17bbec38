//! `cargo xtask bench`: the release binary against mosquitto, in the same run, alternating, since
//! machines are noisy: what counts is the ratio. Medians over the rounds.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::machine;
use crate::process::{Background, command, read, run, scratch, target};

/// One scenario of the bench.
struct Scenario {
    name: &'static str,
    what: &'static str,
    /// Arguments of `sluice bench`.
    load: &'static [&'static str],
    /// The figure that is held against the aim, and the aim as a ratio to the peer.
    figure: &'static str,
    aim: &'static str,
}

const PAIRS: [&str; 8] = [
    "--publishers",
    "100",
    "--subscribers",
    "100",
    "--topic",
    "p/{i}",
    "--filter",
    "p/{i}",
];

fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a",
            what: "fan-in QoS 1 into message_state, flush, 100 publishers, window 16",
            load: &["flow", "--publishers", "100", "--qos", "1"],
            figure: "cpu_us_per_message",
            aim: "at most 0.3 of its CPU, at least twice its rate",
        },
        Scenario {
            name: "b",
            what: "1,000 publishers, 20,000 msg/s in all, QoS 1, flush",
            load: &[
                "flow",
                "--publishers",
                "1000",
                "--qos",
                "1",
                "--rate",
                "20000",
                "--window",
                "64",
            ],
            figure: "cpu_us_per_message",
            aim: "no more CPU, PUBACK p50 < 2 ms, p99 < 5 ms",
        },
        pairs(
            "c0",
            "one-to-one QoS 0, 100 pairs",
            &["--qos", "0", "--fan-out", "1"],
        ),
        pairs(
            "c1",
            "one-to-one QoS 1, 100 pairs",
            &["--qos", "1", "--fan-out", "1"],
        ),
        pairs(
            "c2",
            "one-to-one QoS 2, 100 pairs",
            &["--qos", "2", "--fan-out", "1"],
        ),
        fan_out(
            "d0",
            "fan-out 1 to 500, QoS 0, at most 10,000 deliveries on their way",
            "0",
        ),
        fan_out(
            "d1",
            "fan-out 1 to 500, QoS 1, at most 10,000 deliveries on their way",
            "1",
        ),
        Scenario {
            name: "e",
            what: "as (a) with one wildcard subscriber",
            load: &[
                "flow",
                "--publishers",
                "100",
                "--qos",
                "1",
                "--subscribers",
                "1",
                "--filter",
                "devices/+/state",
            ],
            figure: "cpu_us_per_message",
            aim: "at most 0.25",
        },
        Scenario {
            name: "f",
            what: "15,000 idle connections",
            load: &["idle", "--connections", "15000"],
            figure: "resident_bytes_per_connection",
            aim: "at most 2,560 bytes",
        },
        Scenario {
            name: "g",
            what: "churn: connect, subscribe, publish, disconnect; 20 clients",
            load: &["churn", "--connections", "20"],
            figure: "cpu_us_per_message",
            aim: "-",
        },
    ]
}

fn pairs(name: &'static str, what: &'static str, rest: &[&'static str]) -> Scenario {
    let load: Vec<&'static str> = ["flow"]
        .into_iter()
        .chain(PAIRS)
        .chain(rest.iter().copied())
        .collect();
    Scenario {
        name,
        what,
        load: load.leak(),
        figure: "cpu_us_per_message",
        aim: "at most 0.2",
    }
}

fn fan_out(name: &'static str, what: &'static str, qos: &'static str) -> Scenario {
    let load = vec![
        "flow",
        "--publishers",
        "1",
        "--subscribers",
        "500",
        "--topic",
        "f/all",
        "--filter",
        "f/all",
        "--qos",
        qos,
        "--fan-out",
        "500",
        "--window",
        "20",
    ];
    Scenario {
        name,
        what,
        load: load.leak(),
        figure: "cpu_us_per_delivery",
        aim: "at most 0.3",
    }
}

/// Runs the scenarios named (or all) and prints the table.
pub fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let (rounds, seconds) = (
        number(arguments, "--rounds", 3)?,
        number(arguments, "--seconds", 8)?,
    );
    let named: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| scenarios().iter().any(|scenario| scenario.name == *word))
        .collect();
    let values = ["--rounds", "--seconds", "--data-dir"];
    for (at, word) in arguments.iter().enumerate() {
        let is_value = at > 0 && values.contains(&arguments[at - 1].as_str());
        if !word.starts_with('-') && !is_value && !named.contains(&word.as_str()) && word != "all" {
            bail!("there is no scenario {word}");
        }
    }
    let alone = arguments.iter().any(|argument| argument == "--alone");
    let peer = if alone { None } else { Some(mosquitto()?) };
    build(arguments)?;
    machine::flush_times()?;
    for scenario in scenarios() {
        if named.is_empty() || named.contains(&scenario.name) {
            measure(&scenario, peer.as_deref(), rounds, seconds)?;
        }
    }
    Ok(())
}

/// The number behind an option.
pub(crate) fn number(arguments: &[String], name: &str, default: usize) -> anyhow::Result<usize> {
    let Some(at) = arguments.iter().position(|argument| argument == name) else {
        return Ok(default);
    };
    let value = arguments
        .get(at + 1)
        .with_context(|| format!("{name} needs a number"))?;
    value
        .parse()
        .with_context(|| format!("{name} {value}: not a number"))
}

/// Builds the release binary, unless the arguments say `--no-build`.
pub(crate) fn build(arguments: &[String]) -> anyhow::Result<()> {
    if arguments.iter().any(|argument| argument == "--no-build") {
        return Ok(());
    }
    run(command(
        "cargo",
        &["build", "--release", "--package", "server"],
    ))
}

fn measure(
    scenario: &Scenario,
    peer: Option<&Path>,
    rounds: usize,
    seconds: usize,
) -> anyhow::Result<()> {
    println!("\n({}) {}", scenario.name, scenario.what);
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    // Latency over a minute meets what a shared disk does now and then: shown beside it.
    let look = Duration::from_secs(10).min(Duration::from_secs(seconds as u64));
    let looks = scenario.name == "b" && seconds >= 30;
    for _ in 0..rounds {
        if looks {
            machine::disk_alone("before", look)?;
        }
        ours.push(once(scenario, &Broker::sluice()?, seconds)?);
        if looks {
            machine::disk_alone("after", look)?;
        }
        if let Some(peer) = peer {
            theirs.push(once(scenario, &Broker::mosquitto(peer)?, seconds)?);
        }
    }
    println!(
        "{:<34} {:>14} {:>14} {:>8}",
        "median of rounds", "sluice", "mosquitto", "ratio"
    );
    for key in [
        "messages_per_s",
        "deliveries_per_s",
        "cpu_us_per_message",
        "cpu_us_per_delivery",
        "cpu_cores",
        "commits_per_s",
        "checkpoints",
        "ack_ms.p50",
        "ack_ms.p99",
        "ack_ms.p999",
        "delivery_ms.p50",
        "delivery_ms.p99",
        "delivery_ms.p999",
        "resident_bytes",
        "resident_bytes_per_connection",
    ] {
        let (a, b) = (median(&ours, key), median(&theirs, key));
        let shown =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
        if a.is_some() || b.is_some() {
            let ratio = a.zip(b).filter(|(_, b)| *b > 0.0).map(|(a, b)| a / b);
            let mark = if key == scenario.figure {
                format!("  aim: {}", scenario.aim)
            } else {
                String::new()
            };
            println!(
                "{key:<34} {:>14} {:>14} {:>8}{mark}",
                shown(a),
                shown(b),
                shown(ratio)
            );
        }
    }
    Ok(())
}

fn once(scenario: &Scenario, broker: &Broker, seconds: usize) -> anyhow::Result<Value> {
    let counted = |name| broker.counter(name);
    let flushes = "sluice_log_flushes_total";
    let checkpoints = "sluice_log_checkpoints_total";
    let (commits_before, checkpoints_before) = (counted(flushes), counted(checkpoints));
    let start = Instant::now();
    let mut load = command(sluice(), &["bench"]);
    load.args(scenario.load);
    load.args([
        "--port",
        &broker.port.to_string(),
        "--pid",
        &broker.process.0.id().to_string(),
    ]);
    load.args(["--duration", &seconds.to_string(), "--json"]);
    let text = read(load).with_context(|| format!("scenario {}", scenario.name))?;
    let mut report: Value = serde_json::from_str(&text)?;
    if let (Some(before), Some(after)) = (commits_before, counted(flushes)) {
        report["commits_per_s"] = ((after - before) / start.elapsed().as_secs_f64()).into();
    }
    if let (Some(before), Some(after)) = (checkpoints_before, counted(checkpoints)) {
        report["checkpoints"] = (after - before).into();
    }
    Ok(report)
}

pub(crate) fn median(reports: &[Value], key: &str) -> Option<f64> {
    let pointer = format!("/{}", key.replace('.', "/"));
    let mut found: Vec<f64> = reports
        .iter()
        .filter_map(|report| report.pointer(&pointer)?.as_f64())
        .collect();
    found.sort_by(f64::total_cmp);
    found.get(found.len() / 2).copied()
}

/// A broker under test, on a port and in a folder of its own.
pub(crate) struct Broker {
    pub(crate) process: Background,
    pub(crate) port: u16,
    http: Option<u16>,
    folder: PathBuf,
}

impl Broker {
    fn sluice() -> anyhow::Result<Self> {
        let folder = fresh_folder("bench-sluice")?;
        let (port, kafka, http) = (free_port()?, free_port()?, free_port()?);
        let mut serve = command(sluice(), &["serve", "--data-dir"]);
        serve.arg(folder.join("data"));
        // The same freedom as the peer gets: no bound on what is in flight or queued.
        let settings = folder.join("sluice.toml");
        let freedom = "[mqtt]\ninflight_max = 65535\ninflight_v3 = 65535\ninbox_max = 1000000\n";
        fs::write(&settings, freedom)?;
        serve.arg("--config").arg(&settings);
        serve.arg("--mqtt").arg(format!("127.0.0.1:{port}"));
        serve.args(["--ws", "off"]);
        serve.arg("--kafka").arg(format!("127.0.0.1:{kafka}"));
        serve.arg("--http").arg(format!("127.0.0.1:{http}"));
        Self::start(serve, port, Some(http), folder)
    }

    fn mosquitto(program: &Path) -> anyhow::Result<Self> {
        let folder = fresh_folder("bench-mosquitto")?;
        let port = free_port()?;
        let settings = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n\
             user root\n"
        );
        fs::write(&settings, text)?;
        let mut serve = command(program, &["-c"]);
        serve.arg(&settings);
        Self::start(serve, port, None, folder)
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(
        mut serve: std::process::Command,
        port: u16,
        http: Option<u16>,
        folder: PathBuf,
    ) -> anyhow::Result<Self> {
        let process = Background(serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!("the broker does not listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            process,
            port,
            http,
            folder,
        })
    }

    /// A counter of our metrics: journal flushes, checkpoints.
    fn counter(&self, name: &str) -> Option<f64> {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(("127.0.0.1", self.http?)).ok()?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().last()?.parse().ok()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn sluice() -> PathBuf {
    target().join("release/sluice")
}

pub(crate) fn mosquitto() -> anyhow::Result<PathBuf> {
    [
        "/usr/sbin/mosquitto",
        "/usr/local/sbin/mosquitto",
        "/usr/bin/mosquitto",
    ]
    .iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
    .context("mosquitto, the peer, is missing: apt-get install mosquitto")
}

pub(crate) fn fresh_folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = scratch().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
