//! What the benches with Kafka clients share: the consumer that times records on their way, the other
//! verbs of its program, and the CPU of a process or the machine. Which server is measured it does not know.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::prepare::python;
use crate::process::{command, root};

/// What the kernel counts CPU in: 10 ms on every Linux we know.
const TICKS_PER_S: f64 = 100.0;

/// A consumer that times each record from its publisher's clock.
pub(crate) struct TimedConsumer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl TimedConsumer {
    /// Starts it with the server, the topic and, where wanted, the isolation; waits until it reads.
    pub(crate) fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = script("latency", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the consumer could not be started")?;
        let mut lines = BufReader::new(child.stdout.take().context("a piped output")?).lines();
        match lines.next() {
            Some(Ok(line)) if line == "ready" => Ok(Self { child, lines }),
            said => bail!("the consumer does not join its group: {said:?}"),
        }
    }

    /// Ends it; its count and percentiles in milliseconds.
    pub(crate) fn end(mut self) -> anyhow::Result<Value> {
        // The input's end is its sign to stop.
        drop(self.child.stdin.take());
        let said = self.lines.next().context("the consumer said nothing")??;
        wait(&mut self.child)?;
        Ok(serde_json::from_str(&said)?)
    }
}

/// A number in a report; not a number where there is none.
pub(crate) fn at(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or(f64::NAN)
}

/// A verb of the program of Kafka clients.
pub(crate) fn script(verb: &str, arguments: &[&str]) -> Command {
    let mut script = command(python(), &[]);
    script
        .arg(root().join("tests/bench/kafka.py"))
        .arg(verb)
        .args(arguments);
    script
}

/// Waits for a client, which must succeed.
fn wait(child: &mut Child) -> anyhow::Result<()> {
    let status = child.wait()?;
    if !status.success() {
        bail!("a client failed: {status}");
    }
    Ok(())
}

/// User and system time of a process.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server is gone")?;
    seconds_of(&stat, &[11, 12])
}

/// What the whole machine has worked, without this program and those that it ran and that ended.
pub(crate) fn machine_seconds() -> anyhow::Result<f64> {
    let own = seconds_of(&fs::read_to_string("/proc/self/stat")?, &[11, 12, 13, 14])?;
    let machine = fs::read_to_string("/proc/stat")?;
    let line = machine.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system; idle and waiting for disks; interrupts.
    let [user, nice, system, _, _, hard, soft, ..] = fields[..] else {
        bail!("the format of /proc/stat");
    };
    Ok((user + nice + system + hard + soft) / TICKS_PER_S - own)
}

/// The sum of some times of a line of /proc/PID/stat, counted from behind the name.
fn seconds_of(stat: &str, which: &[usize]) -> anyhow::Result<f64> {
    const FORMAT: &str = "the format of /proc/PID/stat";
    let (_, fields) = stat.rsplit_once(')').context(FORMAT)?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let mut ticks = 0.0;
    for at in which {
        let field = fields.get(*at).and_then(|field| field.parse::<f64>().ok());
        ticks += field.context(FORMAT)?;
    }
    Ok(ticks / TICKS_PER_S)
}
