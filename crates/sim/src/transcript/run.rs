//! Runs a transcript against a world: the simulator, or the real binary over loopback.

use std::collections::{BTreeMap, VecDeque};

use mqtt::{PacketType, Version};

use super::packet::{PacketText, Variables};
use super::{Action, Transcript};

/// What a transcript needs of the place where a broker runs. Clients are named by the transcript;
/// each has at most one network connection.
pub trait World {
    /// Starts an empty broker with these settings (the keys of `[mqtt]`) beside the defaults.
    fn begin(&mut self, settings: &[(String, String)]) -> Result<(), String>;
    /// Opens a network connection for the client, in the place of one that it may have.
    fn connect(&mut self, client: &str);
    /// Sends bytes on the client's connection; it may be closed already.
    fn send(&mut self, client: &str, bytes: &[u8]);
    /// Breaks the client's connection without a word.
    fn drop_connection(&mut self, client: &str);
    /// Bytes that came on the client's connection since the last call. If there are none and
    /// `expecting`, waits for some as long as is sensible; otherwise long enough for what is on its
    /// way to arrive. A simulator runs until nothing moves in both cases.
    fn read(&mut self, client: &str, expecting: bool) -> Vec<u8>;
    /// Whether the broker has closed the client's connection; waits for it as [`World::read`] does
    /// if `expecting`.
    fn closed(&mut self, client: &str, expecting: bool) -> bool;
    /// Lets `ms` milliseconds pass; only `enough_ms`, at most as many, where the clock cannot be turned.
    fn advance(&mut self, ms: u64, enough_ms: u64);
    /// Kills the broker and starts it again on what it had stored; all connections break.
    fn restart(&mut self) -> Result<(), String>;
    /// Asks the broker to stop, and waits until it has; what it sent can still be read.
    fn stop(&mut self) -> Result<(), String>;
    /// Starts a stopped broker on what it had stored.
    fn start(&mut self) -> Result<(), String>;
}

/// Where and why a run differs from its transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Line number in the transcript; the line behind the last for what is left at the end.
    pub line: usize,
    /// What happened instead.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Failure {}

/// Runs a transcript from an empty broker to its end.
pub fn run(transcript: &Transcript, world: &mut impl World) -> Result<(), Failure> {
    world
        .begin(&transcript.settings)
        .map_err(|what| Failure { line: 1, what })?;
    let mut run = Run {
        world,
        clients: BTreeMap::new(),
        variables: Variables::new(),
    };
    for step in &transcript.steps {
        run.step(&step.action).map_err(|what| Failure {
            line: step.line,
            what,
        })?;
    }
    let line = transcript.steps.last().map_or(1, |step| step.line + 1);
    run.finish().map_err(|what| Failure { line, what })
}

/// What the transcript knows of one of its clients.
struct Client {
    version: Version,
    /// Bytes that are no whole packet yet.
    bytes: Vec<u8>,
    /// Packets that no step has taken.
    unread: VecDeque<PacketText>,
    connected: bool,
    /// It has sent DISCONNECT: its next CONNECT opens a new connection.
    leaving: bool,
}

struct Run<'w, W> {
    world: &'w mut W,
    clients: BTreeMap<String, Client>,
    variables: Variables,
}

impl<W: World> Run<'_, W> {
    fn step(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Send(name, packet) => self.send(name, packet),
            Action::Raw(name, bytes) => {
                if !self.client(name).connected {
                    self.open(name);
                }
                self.world.send(name, bytes);
                Ok(())
            }
            Action::Speaks(name, version) => {
                self.client(name).version = *version;
                Ok(())
            }
            Action::Receive(name, packet) => self.receive(name, packet),
            Action::ReceiveAmong(name, packet) => self.receive_among(name, packet),
            Action::ReceiveOne(names, packet) => self.receive_one(names, packet),
            Action::Nothing(name) => self.nothing(name),
            Action::Closed(name) => self.closed(name),
            Action::Drop(name) => {
                self.world.drop_connection(name);
                self.forget(name);
                Ok(())
            }
            Action::Wait { ms, enough_ms } => {
                self.world.advance(*ms, *enough_ms);
                Ok(())
            }
            Action::Restart => {
                self.world.restart()?;
                self.forget_all();
                Ok(())
            }
            Action::Stop => self.world.stop(),
            Action::Start => {
                self.world.start()?;
                self.forget_all();
                Ok(())
            }
        }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        self.clients
            .entry(name.to_owned())
            .or_insert_with(|| Client {
                version: Version::V5,
                bytes: Vec::new(),
                unread: VecDeque::new(),
                connected: false,
                leaving: false,
            })
    }

    fn open(&mut self, name: &str) {
        self.forget(name);
        self.client(name).connected = true;
        self.world.connect(name);
    }

    fn forget(&mut self, name: &str) {
        let client = self.client(name);
        client.bytes.clear();
        client.unread.clear();
        (client.connected, client.leaving) = (false, false);
    }

    fn forget_all(&mut self) {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for name in names {
            self.forget(&name);
        }
    }

    fn send(&mut self, name: &str, packet: &PacketText) -> Result<(), String> {
        if packet.kind == PacketType::Connect {
            let client = self.client(name);
            if !client.connected || client.leaving {
                self.open(name);
                self.client(name).version = packet.version.unwrap_or(Version::V5);
            }
        }
        let client = self.client(name);
        if !client.connected {
            return Err(format!("{name} has no connection to send on"));
        }
        client.leaving |= packet.kind == PacketType::Disconnect;
        let version = client.version;
        let bytes = packet.encode(version, &self.variables)?;
        self.world.send(name, &bytes);
        Ok(())
    }

    /// Takes over what has arrived.
    fn read(&mut self, name: &str, expecting: bool) -> Result<(), String> {
        let bytes = self.world.read(name, expecting);
        let client = self.client(name);
        client.bytes.extend_from_slice(&bytes);
        let mut taken = 0;
        loop {
            let rest = &client.bytes[taken..];
            match mqtt::decode(rest, client.version, mqtt::limits::PACKET_SIZE_MAX) {
                Ok(Some((packet, len))) => {
                    client.unread.push_back(PacketText::of(&packet));
                    taken += len;
                }
                Ok(None) => break,
                Err(error) => return Err(format!("{name} received what is no packet: {error}")),
            }
        }
        client.bytes.drain(..taken);
        Ok(())
    }

    fn receive(&mut self, name: &str, wanted: &PacketText) -> Result<(), String> {
        if self.client(name).unread.is_empty() {
            self.read(name, true)?;
        }
        let Some(got) = self.client(name).unread.pop_front() else {
            return Err(format!("{name} received nothing instead of {wanted}"));
        };
        wanted
            .matches(&got, &mut self.variables)
            .map_err(|why| format!("{name} received {got} instead of {wanted} ({why})"))
    }

    fn receive_among(&mut self, name: &str, wanted: &PacketText) -> Result<(), String> {
        for expecting in [false, true] {
            self.read(name, expecting)?;
            let mut variables = self.variables.clone();
            let client = self.client(name);
            let found = client
                .unread
                .iter()
                .position(|got| wanted.matches(got, &mut variables).is_ok());
            if let Some(found) = found {
                client.unread.remove(found);
                self.variables = variables;
                return Ok(());
            }
        }
        Err(format!(
            "{name} received no {wanted}, but {}",
            self.unread(name)
        ))
    }

    fn receive_one(&mut self, names: &[String], wanted: &PacketText) -> Result<(), String> {
        for expecting in [false, true] {
            for name in names {
                self.read(name, expecting)?;
                let mut variables = self.variables.clone();
                let client = self.client(name);
                let Some(got) = client.unread.front() else {
                    continue;
                };
                if wanted.matches(got, &mut variables).is_ok() {
                    client.unread.pop_front();
                    self.variables = variables;
                    return Ok(());
                }
            }
        }
        let unread: Vec<String> = names
            .iter()
            .map(|name| format!("{name}: {}", self.unread(name)))
            .collect();
        Err(format!("none received {wanted}; {}", unread.join("; ")))
    }

    fn nothing(&mut self, name: &str) -> Result<(), String> {
        self.read(name, false)?;
        if !self.client(name).unread.is_empty() {
            return Err(format!("{name} received {}", self.unread(name)));
        }
        if self.world.closed(name, false) {
            return Err(format!("the connection of {name} is closed"));
        }
        Ok(())
    }

    fn closed(&mut self, name: &str) -> Result<(), String> {
        let closed = self.world.closed(name, true);
        self.read(name, false)?;
        if !self.client(name).unread.is_empty() {
            return Err(format!("{name} received {}", self.unread(name)));
        }
        if !closed {
            return Err(format!("the connection of {name} is open"));
        }
        self.forget(name);
        Ok(())
    }

    fn unread(&mut self, name: &str) -> String {
        let unread = &self.client(name).unread;
        if unread.is_empty() {
            return "nothing".to_owned();
        }
        unread
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn finish(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for name in names {
            if !self.client(&name).connected {
                continue;
            }
            self.read(&name, false)?;
            if !self.client(&name).unread.is_empty() {
                return Err(format!(
                    "at the end {name} has unread: {}",
                    self.unread(&name)
                ));
            }
        }
        Ok(())
    }
}
