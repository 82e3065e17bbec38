//! `cargo xtask test`: everything that can be tested, with the clients that others wrote.

use anyhow::bail;

use crate::prepare::{prepare, python, versions};
use crate::process::{command, root, target};
use crate::suite::{Outcome, suite};

/// Installs, runs every suite, prints the table.
pub fn test() -> anyhow::Result<()> {
    prepare()?;
    let mut outcomes = vec![suite(
        "cargo test --workspace",
        command("cargo", &["test", "--workspace", "--no-fail-fast"]),
    )?];
    // It has built the program too, with the features that the tests have: built alone, the program
    // would bring half of its dependencies once more.
    outcomes.push(suite(
        "whole program: mosquitto, Paho, kill -9",
        pytest("not kafka"),
    )?);
    // These wait for session timeouts most of the time: several at once.
    let mut kafka = pytest("kafka");
    kafka.args(["-n", "3", "--dist", "loadgroup"]);
    outcomes.push(suite("whole program: Kafka clients", kafka)?);
    // In short, and without TLS: `cargo xtask soak mirror` does the rest.
    let mut mirror = pytest_mirror("mirror and not guarded and not long");
    mirror.arg("-s");
    outcomes.push(suite(
        "whole program: the mirror into Apache Kafka",
        mirror,
    )?);
    outcomes.push(suite(
        "whole program: MQTT.js",
        node("tests/clients", "mqttjs.test.mjs"),
    )?);
    outcomes.push(suite(
        "whole program: the console in Chromium",
        node("tests/console", "console.test.mjs"),
    )?);
    table(&outcomes);
    if outcomes.iter().any(|outcome| !outcome.good) {
        bail!("some suites failed; the table above names them");
    }
    Ok(())
}

/// The tests with that mark, against the debug binary.
pub fn pytest(mark: &str) -> std::process::Command {
    pytest_in("tests/clients", mark)
}

/// The tests of the mirror, against the debug binary and clusters of their own.
pub fn pytest_mirror(mark: &str) -> std::process::Command {
    pytest_in("tests/mirror", mark)
}

fn pytest_in(folder: &str, mark: &str) -> std::process::Command {
    let mut pytest = command(
        python(),
        &["-m", "pytest", "-q", "-ra", "--strict-markers", "-m", mark],
    );
    pytest.arg(root().join(folder));
    pytest.env("SLUICE_BIN", target().join("debug/sluice"));
    // Not the program that runs, which `cargo test --workspace` may have replaced.
    pytest.env("XTASK_BIN", target().join("debug/xtask"));
    pytest.env("PYTHONDONTWRITEBYTECODE", "1");
    pytest
}

/// A file of tests for node's own runner, in its folder.
pub fn node(folder: &str, file: &str) -> std::process::Command {
    let mut node = command("node", &["--test", "--test-reporter=tap", file]);
    node.current_dir(root().join(folder));
    node.env("SLUICE_BIN", target().join("debug/sluice"));
    node
}

fn table(outcomes: &[Outcome]) {
    println!(
        "\n{:<56} {:>7} {:>7} {:>8} {:>8}",
        "suite", "passed", "failed", "left out", "seconds"
    );
    for outcome in outcomes {
        let Outcome {
            name,
            passed,
            failed,
            ignored,
            good,
            seconds,
        } = outcome;
        let verdict = if *good { "" } else { "  FAILED" };
        println!("{name:<56} {passed:>7} {failed:>7} {ignored:>8} {seconds:>8.1}{verdict}");
    }
    println!("\nwith {}", versions().join(", "));
    let passed: usize = outcomes.iter().map(|outcome| outcome.passed).sum();
    let failed: usize = outcomes.iter().map(|outcome| outcome.failed).sum();
    println!("\n{passed} passed, {failed} failed");
}
