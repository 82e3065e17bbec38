//! The transcripts of `crates/sim/tests/transcripts` against the real binary over loopback, in real
//! time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sim::transcript::{Transcript, World, run};

/// A transcript that waits longer, in all, has a thread of its own from the start.
const SHORT_MS: u64 = 1_500;
/// How long what is expected may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long nothing must come where nothing is expected, behind a fence.
const QUIET: Duration = Duration::from_millis(30);
/// Short transcripts at a time.
const AT_A_TIME: usize = 4;

/// A broker in its own process and folder, and connections to it.
struct Real {
    folder: tempfile::TempDir,
    broker: Option<Child>,
    address: Option<SocketAddr>,
    clients: BTreeMap<String, Connection>,
    /// Who has sent something that may still be on its way.
    speaker: Option<String>,
    fences: u64,
}

struct Connection {
    stream: Option<TcpStream>,
    closed: bool,
    received: Vec<u8>,
    /// CONNACK with success has come, and DISCONNECT was not sent.
    speaks: bool,
    /// It sends packets in pieces, or what is none: nothing of ours may come between.
    pieces: bool,
}

impl Real {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            broker: None,
            address: None,
            clients: BTreeMap::new(),
            speaker: None,
            fences: 0,
        }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("sluice.toml")
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut broker = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .args(["--mqtt", "127.0.0.1:0", "--kafka", "127.0.0.1:0"])
            .args(["--ws", "127.0.0.1:0"])
            .args(["--http", "127.0.0.1:0", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("the broker does not start: {error}"))?;
        let stdout = broker.stdout.take().ok_or("the broker has no output")?;
        self.broker = Some(broker);
        let mut lines = BufReader::new(stdout).lines();
        let mut address = None;
        for line in &mut lines {
            let line = line.map_err(|error| error.to_string())?;
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("MQTT"), Some(at)) => address = at.parse().ok(),
                (Some(word), _) if word.starts_with("ready") => break,
                _ => {}
            }
        }
        self.address = address;
        // Nobody reads on; the pipe is drained so that the broker never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        match address {
            Some(_) => Ok(()),
            None => Err("the broker did not say where it listens".into()),
        }
    }

    fn open(&self) -> Result<TcpStream, String> {
        let address = self.address.ok_or("the broker does not run")?;
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        Ok(stream)
    }

    fn kill(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            let _ = broker.kill();
            let _ = broker.wait();
        }
        self.address = None;
    }

    /// Everything that was sent before has been worked off when this returns: who spoke last has an
    /// answer to a PINGREQ, and then a QoS 1 message of a client of our own has gone through the log
    /// and come back to it.
    fn fence(&mut self) {
        let speaker = self.speaker.take();
        if let Some(connection) = speaker.and_then(|name| self.clients.get_mut(&name)) {
            connection.ping();
        }
        self.fences += 1;
        let Ok(mut stream) = self.open() else {
            std::thread::sleep(QUIET);
            return;
        };
        let topic = format!("$fence/{}", self.fences);
        let id = format!("fence-{}", self.fences);
        let mut bytes = Vec::new();
        string(&mut bytes, &[0x10], &["MQTT"], &[4, 2, 0, 0], &[&id]);
        string(&mut bytes, &[0x82], &[], &[0, 1], &[&topic]);
        bytes.push(1);
        let at = bytes.len() - topic.len() - 6;
        bytes[at] += 1;
        string(&mut bytes, &[0x32], &[&topic], &[0, 2], &[]);
        let _ = stream.write_all(&bytes);
        let _ = stream.set_read_timeout(Some(DEADLINE));
        // CONNACK 4, SUBACK 5, PUBACK 4 and the PUBLISH itself.
        let mut back = vec![0; 4 + 5 + 4 + 2 + 2 + topic.len() + 2];
        let _ = stream.read_exact(&mut back);
    }
}

/// A packet of MQTT 3.1.1 with strings before and behind some bytes.
fn string(out: &mut Vec<u8>, head: &[u8], before: &[&str], middle: &[u8], behind: &[&str]) {
    let mut body = Vec::new();
    let put = |body: &mut Vec<u8>, texts: &[&str]| {
        for text in texts {
            body.extend((text.len() as u16).to_be_bytes());
            body.extend(text.as_bytes());
        }
    };
    put(&mut body, before);
    body.extend(middle);
    put(&mut body, behind);
    out.extend(head);
    out.push(body.len() as u8);
    out.extend(body);
}

impl Connection {
    /// Sends PINGREQ and waits for PINGRESP, which the transcript does not get to see.
    fn ping(&mut self) {
        let Some(stream) = self.stream.as_mut().filter(|_| self.speaks && !self.pieces) else {
            return;
        };
        let _ = stream.write_all(&[0xC0, 0]);
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut at = 0;
            while let Some(length) = frame(&self.received[at..]) {
                if self.received[at] == 0xD0 {
                    self.received.drain(at..at + length);
                    return;
                }
                at += length;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.is_none() {
                return;
            }
            self.fill(left);
        }
    }

    /// Takes the whole packets that have come; at the end of the stream everything.
    fn take(&mut self) -> Vec<u8> {
        let mut whole = 0;
        while let Some(length) = frame(&self.received[whole..]) {
            // CONNACK with success.
            self.speaks |= self.received[whole] == 0x20 && self.received.get(whole + 3) == Some(&0);
            whole += length;
        }
        if self.closed {
            whole = self.received.len();
        }
        self.received.drain(..whole).collect()
    }

    fn has_packet(&self) -> bool {
        frame(&self.received).is_some()
    }

    /// Takes what comes within `time`; returns at the first bytes, or at the end of the stream.
    fn fill(&mut self, time: Duration) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut buffer = [0; 16 * 1024];
        let _ = stream.set_read_timeout(Some(time.max(Duration::from_millis(1))));
        match stream.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.closed = true,
        }
        if self.closed {
            self.stream = None;
        }
    }
}

/// Length of the packet that `bytes` begin with, if it is whole.
fn frame(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(2 + at + length).filter(|whole| *whole <= bytes.len());
        }
    }
    None
}

impl World for Real {
    fn begin(&mut self, settings: &[(String, String)]) -> Result<(), String> {
        // A small journal: each start writes one part of it with zeros.
        let mut text = String::from("[log]\njournal_bytes = \"64MB\"\n[mqtt]\n");
        let mut figures = "0";
        let mut access = String::new();
        for (key, value) in settings {
            if key == "sys_interval_s" {
                figures = value;
                continue;
            }
            if key == "denied_publish" {
                // The table that rules belong to; it stands before them.
                access.insert_str(0, &format!("[authorization]\n{key} = \"{value}\"\n"));
                continue;
            }
            if key == "rule" {
                let words: Vec<&str> = value.split_whitespace().collect();
                let [effect, action, filter] = words[..] else {
                    return Err(format!("no rule: {value}"));
                };
                let _ = write!(
                    access,
                    "[[authorization.rule]]\neffect = \"{effect}\"\naction = \"{action}\"\nfilter = [\"{filter}\"]\n"
                );
                continue;
            }
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            let quote = if is_number { "" } else { "\"" };
            let _ = writeln!(text, "{key} = {quote}{value}{quote}");
        }
        let _ = writeln!(text, "sys_interval_s = {figures}");
        if !access.is_empty() {
            // For our own fences.
            access
                .push_str("[[authorization.rule]]\neffect = \"allow\"\nfilter = [\"$fence/#\"]\n");
            text.push_str(&access);
        }
        std::fs::write(self.config(), text).map_err(|error| error.to_string())?;
        self.launch()
    }

    fn connect(&mut self, client: &str) {
        let stream = self.open().ok();
        let connection = Connection {
            closed: stream.is_none(),
            stream,
            received: Vec::new(),
            speaks: false,
            pieces: false,
        };
        self.clients.insert(client.to_owned(), connection);
    }

    fn send(&mut self, client: &str, bytes: &[u8]) {
        if self.speaker.as_deref().is_some_and(|other| other != client) {
            self.fence();
        }
        self.speaker = Some(client.to_owned());
        let Some(connection) = self.clients.get_mut(client) else {
            return;
        };
        let is_goodbye = bytes.first() == Some(&0xE0);
        let is_whole = frame(bytes) == Some(bytes.len());
        connection.speaks &= !is_goodbye;
        connection.pieces |= !is_whole;
        if let Some(stream) = &mut connection.stream {
            let _ = stream.write_all(bytes);
        }
    }

    fn drop_connection(&mut self, client: &str) {
        self.clients.remove(client);
        self.fence();
    }

    fn read(&mut self, client: &str, expecting: bool) -> Vec<u8> {
        if !expecting {
            self.fence();
        }
        let Some(connection) = self.clients.get_mut(client) else {
            return Vec::new();
        };
        let time = if expecting { DEADLINE } else { QUIET };
        let deadline = Instant::now() + time;
        while connection.stream.is_some() {
            if expecting && connection.has_packet() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            connection.fill(left);
            if left.is_zero() || (expecting && connection.has_packet()) {
                break;
            }
        }
        connection.take()
    }

    fn closed(&mut self, client: &str, expecting: bool) -> bool {
        let Some(connection) = self.clients.get_mut(client) else {
            return true;
        };
        let time = if expecting { DEADLINE } else { Duration::ZERO };
        let deadline = Instant::now() + time;
        while !connection.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            connection.fill(left);
            if left.is_zero() {
                break;
            }
        }
        connection.closed
    }

    fn advance(&mut self, _: u64, enough_ms: u64) {
        // Before time passes all is worked off: a fence behind it would be a sign of life.
        if self.broker.is_some() {
            self.fence();
        }
        // The transcript says that time passes; here only the clock on the wall can do that.
        std::thread::sleep(Duration::from_millis(enough_ms));
    }

    fn restart(&mut self) -> Result<(), String> {
        self.fence();
        self.kill();
        self.clients.clear();
        self.launch()
    }

    fn stop(&mut self) -> Result<(), String> {
        let Some(mut broker) = self.broker.take() else {
            return Err("it does not run".into());
        };
        let pid = i32::try_from(broker.id()).map_err(|error| error.to_string())?;
        // SAFETY: the process is our child and has not been waited for, so the id is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let status = broker.wait().map_err(|error| error.to_string())?;
        self.address = None;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the broker ended with {status}"))
        }
    }

    fn start(&mut self) -> Result<(), String> {
        self.clients.clear();
        self.launch()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A transcript with the name of its file.
struct Named {
    name: String,
    transcript: Transcript,
}

fn transcripts() -> Vec<Named> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/transcripts");
    let only = std::env::var("SLUICE_TRANSCRIPT").unwrap_or_default();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the transcripts are there")
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter(|path| path.to_string_lossy().contains(&only))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("the transcript is readable");
        let name = path.file_stem().expect("it has a name").to_string_lossy();
        Named {
            transcript: Transcript::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}")),
            name: name.into_owned(),
        }
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_transcript_is_what_the_binary_does() {
    let all = transcripts();
    let (short, long): (Vec<&Named>, Vec<&Named>) = all
        .iter()
        .partition(|one| one.transcript.waits_ms() <= SHORT_MS);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let play = |one: &Named| {
        if let Err(failure) = run(&one.transcript, &mut Real::new()) {
            let mut failures = failures.lock().expect("no thread panics");
            failures.push(format!("{}: {failure}", one.name));
        }
    };
    std::thread::scope(|scope| {
        for &one in &long {
            scope.spawn(|| play(one));
        }
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(&one) = short.get(next.fetch_add(1, Ordering::Relaxed)) {
                    play(one);
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panics");
    failures.sort();
    println!(
        "{} of {} transcripts passed",
        all.len() - failures.len(),
        all.len()
    );
    assert!(!all.is_empty(), "there are no transcripts");
    assert!(
        failures.is_empty(),
        "{} of {} transcripts failed:\n{}",
        failures.len(),
        all.len(),
        failures.join("\n")
    );
}
