//! `cargo xtask bench doors`: what TLS and WebSocket cost, as ratios to plain TCP and to mosquitto's
//! own listeners in the same run, and what an idle connection of each kind takes in memory.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::bench::{Broker, build, free_port, fresh_folder, median, mosquitto, number, sluice};
use crate::process::{command, read, run};

/// A kind of listener: its word, and whether it has TLS and WebSocket.
const KINDS: [(&str, bool, bool); 4] = [
    ("mqtt", false, false),
    ("mqtts", true, false),
    ("ws", false, true),
    ("wss", true, true),
];

/// Loads, with the figure that tells what one costs.
const LOADS: [(&str, &[&str], &str); 4] = [
    (
        "QoS 1 of 100 publishers, 10,000 msg/s, append",
        &[
            "flow",
            "--publishers",
            "100",
            "--qos",
            "1",
            "--rate",
            "10000",
            "--window",
            "64",
            "--topic",
            "bench/{i}",
        ],
        "cpu_us_per_message",
    ),
    (
        "QoS 0, 100 pairs, 10,000 msg/s",
        &[
            "flow",
            "--publishers",
            "100",
            "--subscribers",
            "100",
            "--topic",
            "p/{i}",
            "--filter",
            "p/{i}",
            "--qos",
            "0",
            "--rate",
            "10000",
        ],
        "cpu_us_per_message",
    ),
    (
        "QoS 1 of 100 publishers, as fast as 16 on their way allow, payload 4 KiB",
        &[
            "flow",
            "--publishers",
            "100",
            "--qos",
            "1",
            "--payload-bytes",
            "4096",
            "--topic",
            "bench/{i}",
        ],
        "cpu_us_per_message",
    ),
    (
        "2,000 idle connections",
        &["idle", "--connections", "2000"],
        "resident_bytes_per_connection",
    ),
];

/// Runs all loads over all kinds of listeners and prints the tables.
pub fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let (rounds, seconds) = (
        number(arguments, "--rounds", 3)?,
        number(arguments, "--seconds", 5)?,
    );
    let peer = mosquitto()?;
    build(arguments)?;
    let certificate = Certificate::make()?;
    for (what, load, figure) in LOADS {
        println!("\n{what}: {figure}, median of {rounds} rounds");
        println!(
            "{:<8} {:>12} {:>12} {:>10} {:>14}",
            "listener", "sluice", "mosquitto", "to plain", "to mosquitto"
        );
        let mut plain = None;
        for kind in KINDS {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let broker = ours_with(&certificate, kind)?;
                ours.push(once(&broker, &certificate, kind, load, seconds)?);
                drop(broker);
                let broker = theirs_with(&peer, &certificate, kind)?;
                theirs.push(once(&broker, &certificate, kind, load, seconds)?);
            }
            let (a, b) = (median(&ours, figure), median(&theirs, figure));
            plain = plain.or(a);
            let ratio = |to: Option<f64>| a.zip(to).filter(|(_, to)| *to > 0.0).map(|(a, b)| a / b);
            println!(
                "{:<8} {:>12} {:>12} {:>10} {:>14}",
                kind.0,
                shown(a),
                shown(b),
                shown(ratio(plain)),
                shown(ratio(b))
            );
        }
    }
    println!("\naims: at most 12,288 bytes for an idle connection over TLS");
    Ok(())
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

/// Files of a certificate for 127.0.0.1.
struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn make() -> anyhow::Result<Self> {
        let folder = fresh_folder("bench-certificate")?;
        let made = Self {
            certificate: folder.join("node.pem"),
            key: folder.join("node.key"),
        };
        let mut openssl = command(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=bench",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                // It is its own authority, and a client takes no authority for a node.
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ],
        );
        openssl
            .arg("-keyout")
            .arg(&made.key)
            .arg("-out")
            .arg(&made.certificate);
        run(openssl).context("openssl makes the certificate")?;
        Ok(made)
    }
}

fn ours_with(
    certificate: &Certificate,
    (kind, tls, _): (&str, bool, bool),
) -> anyhow::Result<Broker> {
    let folder = fresh_folder("bench-doors")?;
    let port = free_port()?;
    let mut text = format!(
        "hook = []\n[mqtt]\ninflight_v3 = 65535\ninflight_max = 65535\ninbox_max = 1000000\n\
         [[listener]]\nkind = \"{kind}\"\nbind = \"127.0.0.1:{port}\"\n"
    );
    if tls {
        let files = (certificate.certificate.display(), certificate.key.display());
        text = format!(
            "{text}certificate = \"{}\"\nkey = \"{}\"\n",
            files.0, files.1
        );
    }
    let settings = folder.join("sluice.toml");
    std::fs::write(&settings, text)?;
    let mut serve = command(sluice(), &["serve", "--data-dir"]);
    serve
        .arg(folder.join("data"))
        .arg("--config")
        .arg(&settings);
    Broker::start(serve, port, None, folder)
}

fn theirs_with(
    program: &Path,
    certificate: &Certificate,
    (_, tls, framed): (&str, bool, bool),
) -> anyhow::Result<Broker> {
    let folder = fresh_folder("bench-doors-peer")?;
    let port = free_port()?;
    let mut text = format!(
        "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n\
         user root\npersistence false\nallow_anonymous true\nlistener {port} 127.0.0.1\n"
    );
    if framed {
        text += "protocol websockets\n";
    }
    if tls {
        let files = (certificate.certificate.display(), certificate.key.display());
        text = format!("{text}certfile {}\nkeyfile {}\n", files.0, files.1);
    }
    if framed {
        // Debian's mosquitto ends at once where every listener speaks WebSocket.
        text = format!("{text}listener {} 127.0.0.1\n", free_port()?);
    }
    let settings = folder.join("mosquitto.conf");
    std::fs::write(&settings, text)?;
    let mut serve = command(program, &["-c"]);
    serve.arg(&settings);
    Broker::start(serve, port, None, folder)
}

fn once(
    broker: &Broker,
    certificate: &Certificate,
    (_, tls, framed): (&str, bool, bool),
    load: &[&str],
    seconds: usize,
) -> anyhow::Result<Value> {
    let mut bench = command(sluice(), &["bench"]);
    bench.args(load);
    bench.args([
        "--port",
        &broker.port.to_string(),
        "--pid",
        &broker.process.0.id().to_string(),
    ]);
    bench.args(["--duration", &seconds.to_string(), "--json"]);
    if tls {
        bench.arg("--cafile").arg(&certificate.certificate);
    }
    if framed {
        bench.args(["--ws", "/mqtt"]);
    }
    Ok(serde_json::from_str(&read(bench)?)?)
}
