//! The binary as a person uses it: `check`, `import emqx`, `serve` and `ctl`, with what they print
//! and how they end.

#![expect(
    clippy::unwrap_used,
    reason = "a test file: a failure to set up is a failure"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

const SLUICE: &str = env!("CARGO_BIN_EXE_sluice");

fn sluice(args: &[&str]) -> Output {
    Command::new(SLUICE)
        .args(args)
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the output is text")
}

fn write(dir: &TempDir, name: &str, content: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_says_what_a_file_means() {
    let dir = TempDir::new().unwrap();
    let file = write(
        &dir,
        "a.toml",
        "[node]\nname = \"n7\"\n[[stream]]\nname = \"message_state\"\npartitions = 12\n",
    );
    let output = sluice(&["check", &file]);
    assert!(output.status.success());
    let out = text(&output.stdout);
    assert!(out.starts_with(&format!("{file}: ok\n")), "{out}");
    assert!(out.contains("node       n7, data in sluice-data"), "{out}");
    assert!(
        out.contains("hook       message.publish devices/+/state -> message_state, key {2}"),
        "{out}"
    );
    assert!(
        out.contains("stream     message_state: 12 partitions, disk, ack flush, kept 1w"),
        "{out}"
    );
}

#[test]
fn check_tells_every_mistake_in_the_order_of_lines() {
    let dir = TempDir::new().unwrap();
    let file = write(
        &dir,
        "a.toml",
        "[mqtt]\ninbox_maxx = 5\n[[listener]]\nkind = \"kafka\"\nbind = \"0.0.0.0:9092\"\n\
         [[stream]]\nname = \"a\"\nack = \"kafka\"\npartitions = \"four\"\n",
    );
    let output = sluice(&["check", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let err = text(&output.stderr);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 5, "{err}");
    assert_eq!(
        lines[0],
        format!("{file}:2: unknown key `inbox_maxx` in [mqtt]; did you mean `inbox_max`?")
    );
    assert!(
        lines[1].starts_with(&format!("{file}:5: ")) && lines[1].contains("anonymous = true"),
        "{err}"
    );
    assert!(lines[2].starts_with(&format!("{file}:8: ")), "{err}");
    assert!(lines[3].starts_with(&format!("{file}:9: ")), "{err}");
    assert!(lines[4].ends_with("4 mistakes to correct"), "{err}");
}

#[test]
fn check_names_a_file_that_is_not_there() {
    let output = sluice(&["check", "/nowhere/a.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot read /nowhere/a.toml"));
}

#[test]
fn what_is_imported_passes_the_check() {
    let dir = TempDir::new().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emqx");
    for name in ["article", "documented", "many"] {
        let conf = folder.join(format!("{name}.conf"));
        let output = sluice(&["import", "emqx", conf.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let expected = std::fs::read_to_string(folder.join(format!("{name}.toml"))).unwrap();
        assert_eq!(text(&output.stdout), expected, "{name}");
        let file = write(&dir, &format!("{name}.toml"), text(&output.stdout));
        let checked = sluice(&["check", &file]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
    }
}

#[test]
fn an_import_tells_what_it_cannot_read() {
    let dir = TempDir::new().unwrap();
    let file = write(
        &dir,
        "bad.conf",
        "bridge.kafka.servers = a\nbridge.kafka.hook.message.publish.1 = {\n",
    );
    let output = sluice(&["import", "emqx", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).starts_with("bad.conf:2: bridge.kafka.hook.message.publish.1: "));
}

/// A node in a process of its own; killed when it goes out of scope.
struct Served {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    greeting: Vec<String>,
}

impl Served {
    fn start(dir: &Path, more: &[&str]) -> Self {
        Self::start_as(Command::new(SLUICE), dir, more)
    }

    fn start_as(mut program: Command, dir: &Path, more: &[&str]) -> Self {
        let mut child = program
            .args([
                "serve",
                "--ws",
                "127.0.0.1:0",
                "--kafka",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--log-level",
                "warn",
            ])
            .arg("--data-dir")
            .arg(dir)
            .args(more)
            .current_dir(dir.parent().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut greeting: Vec<String> = Vec::new();
        while !greeting
            .last()
            .is_some_and(|line| line.starts_with("ready"))
        {
            let mut line = String::new();
            assert!(
                out.read_line(&mut line).unwrap() > 0,
                "the node ended: {greeting:?}"
            );
            greeting.push(line.trim_end().to_owned());
        }
        Self {
            child,
            out,
            greeting,
        }
    }

    /// The address of a listener, as the greeting says it.
    fn address(&self, name: &str) -> &str {
        let line = self
            .greeting
            .iter()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap();
        line.split_whitespace().nth(1).unwrap()
    }

    fn stop(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_serves_answers_and_stops() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let node = Served::start(&data, &["--mqtt", "127.0.0.1:0"]);
    let (mqtt, http) = (
        node.address("MQTT").to_owned(),
        node.address("HTTP").to_owned(),
    );
    let port = mqtt.rsplit(':').next().unwrap();

    let lock = "devices/10083618796833171/state";
    let published = sluice(&[
        "pub",
        "-p",
        port,
        "-q",
        "1",
        "-t",
        lock,
        "-m",
        "{\"battery\":83.4}",
    ]);
    assert!(published.status.success(), "{}", text(&published.stderr));

    let hooks = sluice(&["ctl", "--http", &http, "hooks"]);
    assert!(
        text(&hooks.stdout).contains("devices/+/state"),
        "{}",
        text(&hooks.stdout)
    );
    let streams = sluice(&["ctl", "streams", "--http", &http, "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&streams.stdout).unwrap();
    let streams = answer.as_array().unwrap();
    let state = streams
        .iter()
        .find(|stream| stream["name"] == "message_state")
        .unwrap();
    assert_eq!(
        (state["records"].as_u64(), state["ack"].as_str()),
        (Some(1), Some("flush"))
    );
    let status = sluice(&["ctl", "status", "--http", &http]);
    assert!(
        text(&status.stdout).contains("health         serving\n"),
        "{}",
        text(&status.stdout)
    );
    let wrong = sluice(&["ctl", "status", "--http", &mqtt]);
    assert_eq!(wrong.status.code(), Some(1));

    // A second node on the same directory, and one on the same port.
    let more = [
        "--ws",
        "off",
        "--kafka",
        "127.0.0.1:0",
        "--http",
        "off",
        "--log-level",
        "error",
    ];
    let second = |data: &Path, address: &str| {
        let data = data.to_str().unwrap();
        let args = [
            &["serve", "--data-dir", data, "--mqtt", address][..],
            &more[..],
        ]
        .concat();
        let output = sluice(&args);
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr).to_owned()
    };
    let told = second(&data, "127.0.0.1:0");
    assert!(told.contains(data.to_str().unwrap()), "{told}");
    let told = second(&dir.path().join("other"), &mqtt);
    assert!(
        told.contains(&mqtt) && told.contains("--mqtt ADDR"),
        "{told}"
    );

    let (code, rest) = node.stop();
    assert_eq!((code, rest.as_str()), (Some(0), "stopping\nstopped\n"));
}

#[test]
fn a_node_reads_the_file_beside_it() {
    let dir = TempDir::new().unwrap();
    write(&dir, "sluice.toml", "[node]\nname = \"sluice@beside\"\n");
    let node = Served::start(&dir.path().join("data"), &["--mqtt", "127.0.0.1:0"]);
    assert!(
        node.greeting[0].ends_with("node sluice@beside"),
        "{:?}",
        node.greeting
    );
}

#[test]
fn an_open_listener_needs_a_word() {
    let refused = sluice(&["serve", "--mqtt", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("--anonymous"),
        "{}",
        text(&refused.stderr)
    );
    let dir = TempDir::new().unwrap();
    let node = Served::start(
        &dir.path().join("data"),
        &["--mqtt", "0.0.0.0:0", "--anonymous"],
    );
    let line = node
        .greeting
        .iter()
        .find(|line| line.starts_with("  MQTT"))
        .unwrap();
    assert!(line.contains("anonymous = true"), "{line}");
}

fn get(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// No file may grow beyond 48 MB, which is what a quota or a failing disk looks like from inside: a
/// write in the middle of a segment fails.
#[test]
fn a_failed_write_latches_the_node_and_a_restart_recovers() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    write(&dir, "sluice.toml", "[log]\njournal_bytes = \"64MB\"\n");
    let payload = write(&dir, "payload", &"x".repeat(900_000));
    let mut limited = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 98304; exec \"$0\" \"$@\"";
    limited.args(["-c", script, SLUICE]);
    let node = Served::start_as(limited, &data, &["--mqtt", "127.0.0.1:0"]);
    let http = node.address("HTTP").to_owned();
    let kafka = node.address("Kafka").to_owned();
    assert!(get(&http, "/healthz").contains(" 200 OK\r\n"));
    let publish = |node: &Served| {
        let port = node.address("MQTT").rsplit(':').next().unwrap().to_owned();
        let args = [
            "pub", "-p", &port, "-q", "1", "-i", "a", "-t", "t", "-f", &payload,
        ];
        sluice(&args).status.success()
    };
    let mut taken = 0;
    while publish(&node) {
        taken += 1;
        assert!(taken < 60, "the limit was passed");
    }
    assert!(taken >= 40, "only {taken} were taken");
    assert!(!publish(&node), "it takes nothing any more");
    let health = get(&http, "/healthz");
    assert!(
        health.contains(" 503 ") && health.contains("mqtt.default"),
        "{health}"
    );
    assert!(get(&http, "/metrics").contains("sluice_serving 0\n"));

    // What was acknowledged can be read, now and after a restart.
    let consumed = |address: &str| {
        let args = [
            "consume",
            "mqtt.default",
            "-b",
            address,
            "--from-beginning",
            "--exit",
        ];
        let output = sluice(&args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().count()
    };
    assert_eq!(consumed(&kafka), taken);
    drop(node);
    let node = Served::start(&data, &["--mqtt", "127.0.0.1:0"]);
    let found = consumed(node.address("Kafka"));
    // Of the refused ones the journal may hold the first.
    assert!(found == taken || found == taken + 1, "{found} of {taken}");
    assert!(publish(&node));
    assert_eq!(consumed(node.address("Kafka")), found + 1);
}
