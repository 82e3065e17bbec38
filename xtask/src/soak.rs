//! `cargo xtask soak NAME`: the checks that are too long for every change, in full. The short form
//! of each is part of `cargo xtask test`.

use anyhow::bail;

use crate::kafka;
use crate::prepare::{prepare, python};
use crate::process::{command, root, run, target};
use crate::test::pytest_mirror;

/// Runs one long check.
pub fn soak(arguments: &[String]) -> anyhow::Result<()> {
    match arguments.first().map(String::as_str) {
        Some("kill") => kill("test_kill.py"),
        Some("kafka-kill") => kill("test_kafka_kill.py"),
        Some("downlink") => kill("test_downlink.py"),
        Some("mirror") => mirror(),
        Some("sim") => simulate(),
        Some("recovery") => recovery(),
        Some("crowd") => crowd(&arguments[1..]),
        _ => bail!(
            "cargo xtask soak NAME, where NAME is kill, kafka-kill, downlink, mirror, sim, recovery or crowd"
        ),
    }
}

/// Clients under load, `kill -9` at 20 random moments, or as many as `SLUICE_KILLS` says: publishers
/// and offline subscribers, or Kafka producers, transactions and members of groups, or 10,000
/// commands on their way to devices.
fn kill(tests: &str) -> anyhow::Result<()> {
    prepare()?;
    run(command("cargo", &["build", "--package", "server"]))?;
    let mut pytest = command(python(), &["-m", "pytest", "-q", "-s", "-rA"]);
    pytest.arg(root().join("tests/clients").join(tests));
    pytest
        .env("SLUICE_BIN", target().join("debug/sluice"))
        .env("SLUICE_KILLS", kills())
        .env("SLUICE_COMMANDS", "10000");
    run(pytest)
}

/// The mirror into three nodes of Apache Kafka: 20 kills of Sluice, each node killed in turn, two
/// minutes without the cluster.
fn mirror() -> anyhow::Result<()> {
    prepare()?;
    kafka::prepare()?;
    run(command(
        "cargo",
        &["build", "--package", "server", "--features", "kafka-tls"],
    ))?;
    let mut pytest = pytest_mirror("mirror");
    pytest
        .args(["-s", "-rA"])
        .env("SLUICE_KILLS", kills())
        .env("SLUICE_OUTAGE_SECONDS", "120");
    run(pytest)
}

fn kills() -> String {
    std::env::var("SLUICE_KILLS").unwrap_or_else(|_| "20".into())
}

/// Thousands of seeds of the simulator.
fn simulate() -> anyhow::Result<()> {
    let mut test = command(
        "cargo",
        &["test", "--release", "--package", "sim", "--", "--nocapture"],
    );
    test.env("SLUICE_SIM_SEEDS", "5000");
    run(test)
}

/// Start-up after `kill -9` with ten million records and 100,000 sessions that are owed messages: fails
/// if one takes longer than 5 s, or something owed is missing.
fn recovery() -> anyhow::Result<()> {
    prepare()?;
    run(command(
        "cargo",
        &["build", "--release", "--package", "server"],
    ))?;
    let mut script = command(python(), &[]);
    script.arg(root().join("tests/soak/recovery.py"));
    script.env("SLUICE_BIN", target().join("release/sluice"));
    run(script)
}

/// 15,000 well-behaved MQTT connections and 1,000 that are not: what the former see of the latter.
/// Takes `--clients`, `--abusive`, `--seconds` and `--rate`.
fn crowd(arguments: &[String]) -> anyhow::Result<()> {
    prepare()?;
    run(command(
        "cargo",
        &["build", "--release", "--package", "server"],
    ))?;
    let mut script = command(python(), &[]);
    script.arg(root().join("tests/soak/crowd.py"));
    script.args(arguments);
    script.env("SLUICE_BIN", target().join("release/sluice"));
    run(script)
}
