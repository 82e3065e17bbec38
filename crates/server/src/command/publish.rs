//! `sluice pub`: publish messages, with the options of mosquitto_pub.

use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use mqtt::{Ack, Disconnect, Packet, Publish, QoS, ReasonCode};

use crate::client::{ConnectArgs, Connection, OwnedProperties, qos};

/// How long an acknowledgement may take.
const ACK_TIMEOUT: Duration = Duration::from_mins(1);
/// Unacknowledged messages at once.
const WINDOW: u16 = 100;

/// Publish messages
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
#[command(group = ArgGroup::new("payload").required(true))]
pub struct PublishArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Topic to publish to
    #[arg(short, long)]
    topic: String,
    /// The message
    #[arg(short, long, group = "payload", allow_hyphen_values = true)]
    message: Option<String>,
    /// The message is the content of a file
    #[arg(short, long, group = "payload")]
    file: Option<PathBuf>,
    /// Each line of standard input is a message
    #[arg(short = 'l', long, group = "payload")]
    stdin_line: bool,
    /// All of standard input is one message
    #[arg(short, long, group = "payload")]
    stdin_file: bool,
    /// The message is empty; with --retain it removes the retained one
    #[arg(short, long, group = "payload")]
    null_message: bool,
    /// Quality of service
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Retain the message
    #[arg(short, long)]
    retain: bool,
    /// Publish it so many times
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// Seconds between repetitions
    #[arg(long, default_value_t = 0.0, requires = "repeat")]
    repeat_delay: f64,
}

/// Publishes and waits for every acknowledgement.
pub fn run(args: &PublishArgs) -> anyhow::Result<ExitCode> {
    if let Err(error) = mqtt::topic::validate_name(&args.topic) {
        bail!("--topic {}: {error}", args.topic);
    }
    let delay = Duration::try_from_secs_f64(args.repeat_delay).context("--repeat-delay")?;
    let properties = OwnedProperties::parse(&args.connect.properties)?;
    let connection = Connection::open(&args.connect, &properties)?;
    let mut sender = Sender {
        connection,
        args,
        properties: &properties,
        next: 0,
        waiting: 0,
        refused: None,
    };
    if args.stdin_line {
        for line in std::io::stdin().lock().lines() {
            sender.publish(line.context("standard input")?.as_bytes())?;
        }
    } else {
        let payload = payload(args)?;
        for round in 0..args.repeat {
            if round > 0 && !delay.is_zero() {
                std::thread::sleep(delay);
            }
            sender.publish(&payload)?;
        }
    }
    sender.finish()
}

fn payload(args: &PublishArgs) -> anyhow::Result<Vec<u8>> {
    if let Some(message) = &args.message {
        return Ok(message.clone().into_bytes());
    }
    if let Some(path) = &args.file {
        return std::fs::read(path).with_context(|| format!("--file {}", path.display()));
    }
    let mut bytes = Vec::new();
    if args.stdin_file {
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .context("standard input")?;
    }
    Ok(bytes)
}

struct Sender<'a> {
    connection: Connection,
    args: &'a PublishArgs,
    properties: &'a OwnedProperties,
    /// Packet id of the last message.
    next: u16,
    /// Messages without their last acknowledgement.
    waiting: u16,
    refused: Option<ReasonCode>,
}

impl Sender<'_> {
    fn publish(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        while self.waiting >= WINDOW.min(self.connection.receive_maximum) {
            self.await_ack()?;
        }
        let quality = self.args.qos;
        if quality != QoS::AtMostOnce {
            self.next = self.next.checked_add(1).unwrap_or(1);
            self.waiting += 1;
        }
        let user = self.properties.user("publish");
        self.connection.send(&Packet::Publish(Publish {
            dup: false,
            qos: quality,
            retain: self.args.retain,
            topic: &self.args.topic,
            packet_id: if quality == QoS::AtMostOnce {
                0
            } else {
                self.next
            },
            properties: self.properties.publish(&user)?,
            payload,
        }))
    }

    fn await_ack(&mut self) -> anyhow::Result<()> {
        let deadline = Some(Instant::now() + ACK_TIMEOUT);
        let answer = self.connection.next(deadline, |packet| match packet {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => Some((ack.packet_id, ack.reason, true)),
            Packet::Pubrec(ack) => Some((ack.packet_id, ack.reason, ack.reason.is_error())),
            _ => None,
        })?;
        match answer {
            None => bail!("no acknowledgement within {} s", ACK_TIMEOUT.as_secs()),
            Some(None) => {}
            Some(Some((packet_id, reason, last))) => {
                if reason.is_error() {
                    self.refused = Some(reason);
                }
                if last {
                    self.waiting -= 1;
                } else {
                    let release = Ack::new(packet_id, ReasonCode::Success);
                    self.connection.send(&Packet::Pubrel(release))?;
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<ExitCode> {
        while self.waiting > 0 {
            self.await_ack()?;
        }
        self.connection
            .send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)))?;
        if let Some(reason) = self.refused {
            bail!("the broker refused a message: {}", reason.name());
        }
        Ok(ExitCode::SUCCESS)
    }
}
