//! One blocking connection: connects, sends packets, reads packets one at a time, pings in time.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mqtt::{Connect, Packet, ReasonCode, Version, Will};

use super::{ConnectArgs, OwnedProperties, PACKET_BYTES_MAX, Way, Wire};

/// How long the broker may take for CONNACK.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 * 1024;

/// A connected client.
#[derive(Debug)]
pub struct Connection {
    stream: Wire<TcpStream>,
    version: Version,
    debug: bool,
    /// What was read and not consumed: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
    out: Vec<u8>,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    /// Unacknowledged QoS 1 and 2 messages that the broker allows.
    pub receive_maximum: u16,
    /// Whether the broker had a session of this client.
    pub session_present: bool,
}

impl Connection {
    /// Connects by the options and waits for CONNACK; a refusal is an error that says why.
    pub fn open(args: &ConnectArgs, properties: &OwnedProperties) -> anyhow::Result<Self> {
        if args.protocol_version != Version::V5
            && (!properties.is_empty() || args.session_expiry_interval.is_some())
        {
            bail!("-D and -x need MQTT 5: add -V 5");
        }
        let way = Way::new(&args.host, args.port, &args.way)?;
        let mut connection = Self {
            stream: dial(&way)?,
            version: args.protocol_version,
            debug: args.debug,
            buffer: Vec::new(),
            start: 0,
            out: Vec::new(),
            keep_alive: (args.keepalive > 0).then(|| Duration::from_secs(args.keepalive.into())),
            last_sent: Instant::now(),
            receive_maximum: u16::MAX,
            session_present: false,
        };
        connection.introduce(args, properties)?;
        connection.await_connack(&way)?;
        Ok(connection)
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: &Packet<'_>) -> anyhow::Result<()> {
        if self.debug {
            eprintln!("sending {:?}", packet.kind());
        }
        self.out.clear();
        packet.encode(self.version, &mut self.out);
        self.stream
            .write_all(&self.out)
            .context("the connection to the broker broke")?;
        self.last_sent = Instant::now();
        Ok(())
    }

    /// Waits for the next packet until `deadline` (for ever without one) and hands it to `look`.
    /// `None` when the deadline passed first. Pings meanwhile; PINGRESP is not handed on.
    pub fn next<R>(
        &mut self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&Packet<'_>) -> R,
    ) -> anyhow::Result<Option<R>> {
        loop {
            let unread = &self.buffer[self.start..];
            let decoded =
                mqtt::decode(unread, self.version, PACKET_BYTES_MAX).map_err(|error| {
                    anyhow::anyhow!("the broker sent something else than MQTT: {error}")
                })?;
            if let Some((packet, length)) = decoded {
                if self.debug {
                    eprintln!("received {:?}", packet.kind());
                }
                let pong = matches!(packet, Packet::Pingresp);
                if let Packet::Disconnect(disconnect) = &packet {
                    bail!("the broker disconnected: {}", disconnect.reason.name());
                }
                let seen = (!pong).then(|| look(&packet));
                self.start += length;
                if let Some(seen) = seen {
                    return Ok(Some(seen));
                }
                continue;
            }
            if !self.fill(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Reads once; false when the deadline passed first.
    fn fill(&mut self, deadline: Option<Instant>) -> anyhow::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        loop {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
            let ping_at = self
                .keep_alive
                .map(|keep_alive| self.last_sent + keep_alive);
            if ping_at.is_some_and(|at| at <= now) {
                self.send(&Packet::Pingreq)?;
                continue;
            }
            let until = deadline.into_iter().chain(ping_at).min();
            let wait = until.map(|at| (at - now).max(Duration::from_millis(1)));
            self.stream.socket().set_read_timeout(wait)?;
            let length = self.buffer.len();
            self.buffer.resize(length + READ_BYTES, 0);
            let outcome = self.stream.read(&mut self.buffer[length..]);
            self.buffer
                .truncate(length + outcome.as_ref().copied().unwrap_or(0));
            match outcome {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(_) => return Ok(true),
                Err(error) if is_timeout(error.kind()) => {}
                Err(error) => return Err(error).context("the connection to the broker broke"),
            }
        }
    }

    fn introduce(
        &mut self,
        args: &ConnectArgs,
        properties: &OwnedProperties,
    ) -> anyhow::Result<()> {
        let user = properties.user("connect");
        let mut connect_properties = properties.connect(&user)?;
        if let Some(expiry_s) = args.session_expiry_interval {
            connect_properties.session_expiry_s = expiry_s;
        }
        let will_user = properties.user("will");
        let will = match &args.will_topic {
            Some(topic) => Some(Will {
                topic,
                payload: args.will_payload.as_deref().unwrap_or_default().as_bytes(),
                qos: args.will_qos,
                retain: args.will_retain,
                properties: properties.will(&will_user)?,
            }),
            None => None,
        };
        let made_up = format!("sluice-{}", std::process::id());
        let client_id = match &args.id {
            Some(id) => id,
            None if self.version == Version::V31 => made_up.as_str(),
            None => "",
        };
        self.send(&Packet::Connect(Connect {
            version: self.version,
            clean_start: !args.disable_clean_session,
            keep_alive_s: args.keepalive,
            client_id,
            username: args.username.as_deref(),
            password: args.password.as_deref().map(str::as_bytes),
            will,
            properties: connect_properties,
        }))
    }

    fn await_connack(&mut self, way: &Way) -> anyhow::Result<()> {
        let deadline = Some(Instant::now() + CONNACK_TIMEOUT);
        let answer = self.next(deadline, |packet| match packet {
            Packet::Connack(connack) => Ok((
                connack.reason,
                connack.session_present,
                connack.properties.receive_maximum,
                connack.properties.server_keep_alive_s,
            )),
            other => Err(other.kind()),
        })?;
        let address = format!("{}:{}", way.host, way.port);
        match answer {
            None => bail!("{address} did not answer CONNECT within 10 s: is it an MQTT broker?"),
            Some(Err(kind)) => bail!("{address} answered CONNECT with {kind:?}"),
            Some(Ok((reason, session_present, receive_maximum, keep_alive_s))) => {
                if reason != ReasonCode::Success {
                    bail!("{address} refused the connection: {}", reason.name());
                }
                self.session_present = session_present;
                self.receive_maximum = receive_maximum.unwrap_or(u16::MAX);
                if let Some(seconds) = keep_alive_s {
                    self.keep_alive = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
                }
                Ok(())
            }
        }
    }
}

fn dial(way: &Way) -> anyhow::Result<Wire<TcpStream>> {
    let (host, port) = (way.host.as_str(), way.port);
    let addresses = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("the host {host} cannot be resolved"))?;
    let mut last = None;
    for address in addresses {
        match way.dial(address) {
            Ok(wire) => return Ok(wire),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| anyhow::anyhow!("{host} has no address"));
    bail!("{error:#}; is a broker running there? `sluice serve` starts one")
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
