//! `sluice sub`: subscribe and print messages, with the options of mosquitto_sub.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use mqtt::{
    Ack, Disconnect, Filters, Packet, Publish, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscribeOptions, UserProperties, Version,
};

use crate::client::{ConnectArgs, Connection, Format, LocalTime, NotJson, OwnedProperties, qos};

/// How long SUBACK may take.
const SUBACK_TIMEOUT: Duration = Duration::from_mins(1);
/// Exit code when `-W` ran out, as of mosquitto_sub.
const TIMED_OUT: u8 = 27;

/// Subscribe and print what arrives
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct SubscribeArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Topic filter; may be repeated
    #[arg(short, long, required = true)]
    topic: Vec<String>,
    /// Quality of service
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// End after so many messages
    #[arg(short = 'C', long)]
    count: Option<u64>,
    /// End so many seconds after the connection was made, with exit code 27
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Print the topic in front of the message
    #[arg(short, long)]
    verbose: bool,
    /// Print with a format
    ///
    /// %t topic, %p payload, %x %X payload in hexadecimal, %l its length, %q QoS, %r retain flag, %m
    /// packet identifier; of MQTT 5: %A topic alias, %C content type, %D correlation data, %E expiry,
    /// %F payload format, %P user properties, %R response topic, %S subscription identifier. %j the
    /// message as JSON with its payload as a string, %J with its payload as the JSON that it is. %I
    /// local time, %U seconds since 1970, @X what strftime writes for %X, @N nanoseconds. %% @@ \\ the
    /// characters, \0 \a \e \n \r \t \v those of C. Between % and the letter: 0 pads with zeros, - to
    /// the right, then a width, and of texts a maximum: %-10.10t
    #[arg(short = 'F', long, value_parser = Format::parse)]
    format: Option<Format>,
    /// Print no line end after a message
    #[arg(short = 'N', long)]
    no_eol: bool,
    /// Do not print retained messages
    #[arg(short = 'R', long)]
    no_retained: bool,
    /// Print retained messages only and end at the first that is not
    #[arg(long)]
    retained_only: bool,
    /// End when the subscription is acknowledged (leaves a session behind with -c)
    #[arg(short = 'E', long)]
    exit_after_subscribe: bool,
    /// Do not receive what this client publishes itself (MQTT 5)
    #[arg(long)]
    no_local: bool,
    /// Keep the publisher's retain flag (MQTT 5)
    #[arg(long)]
    retain_as_published: bool,
    /// When to send retained messages (MQTT 5): 0 always, 1 for a new subscription, 2 never
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    retain_handling: u8,
}

/// What became of a packet that arrived.
enum Arrived {
    Message {
        qos: QoS,
        packet_id: u16,
        printed: bool,
        last: bool,
    },
    Release(u16),
    Subscribed(Vec<ReasonCode>),
    Other,
}

/// Subscribes and prints until it is told to end.
pub fn run(args: &SubscribeArgs) -> anyhow::Result<ExitCode> {
    for filter in &args.topic {
        if let Err(error) = mqtt::topic::validate_filter(filter) {
            bail!("--topic {filter}: {error}");
        }
    }
    let properties = OwnedProperties::parse(&args.connect.properties)?;
    let mut connection = Connection::open(&args.connect, &properties)?;
    let end = args
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout));
    subscribe(args, &mut connection, &properties)?;
    let mut suback_due = Some(Instant::now() + SUBACK_TIMEOUT);
    let mut printed = 0_u64;
    let mut done = args.count == Some(0);
    // A resumed session may send what it owes before SUBACK; those messages count like all others.
    while !done {
        // Messages that are there already do not keep it from ending in time.
        if end.is_some_and(|end| end <= Instant::now()) {
            leave(&mut connection)?;
            return Ok(ExitCode::from(TIMED_OUT));
        }
        let deadline = suback_due.into_iter().chain(end).min();
        let arrived = connection.next(deadline, |packet| look(args, packet))?;
        match arrived {
            None if suback_due.is_some_and(|due| due <= Instant::now()) => {
                bail!("no SUBACK within {} s", SUBACK_TIMEOUT.as_secs())
            }
            None | Some(Ok(Arrived::Other)) => {}
            Some(Err(error)) if error.kind() == ErrorKind::BrokenPipe => break,
            Some(Err(error)) => return Err(error).context("standard output"),
            Some(Ok(Arrived::Subscribed(reasons))) => {
                refusals(args, &reasons)?;
                suback_due = None;
                done = args.exit_after_subscribe;
            }
            Some(Ok(Arrived::Message {
                qos,
                packet_id,
                printed: shown,
                last,
            })) => {
                acknowledge(&mut connection, qos, packet_id)?;
                printed += u64::from(shown);
                done = last || args.count.is_some_and(|count| printed >= count);
            }
            Some(Ok(Arrived::Release(packet_id))) => {
                let ack = Ack::new(packet_id, ReasonCode::Success);
                connection.send(&Packet::Pubcomp(ack))?;
            }
        }
    }
    leave(&mut connection)?;
    Ok(ExitCode::SUCCESS)
}

fn look(args: &SubscribeArgs, packet: &Packet<'_>) -> std::io::Result<Arrived> {
    match packet {
        Packet::Publish(publish) => print(args, publish),
        Packet::Pubrel(ack) => Ok(Arrived::Release(ack.packet_id)),
        Packet::Suback(suback) => Ok(Arrived::Subscribed(suback.reasons.iter().collect())),
        _ => Ok(Arrived::Other),
    }
}

fn subscribe(
    args: &SubscribeArgs,
    connection: &mut Connection,
    properties: &OwnedProperties,
) -> anyhow::Result<()> {
    let five = args.connect.protocol_version == Version::V5;
    if !five && (args.no_local || args.retain_as_published || args.retain_handling > 0) {
        bail!("--no-local, --retain-as-published and --retain-handling need MQTT 5: add -V 5");
    }
    let options = SubscribeOptions {
        qos: args.qos,
        no_local: args.no_local,
        retain_as_published: args.retain_as_published,
        retain_handling: RetainHandling::from_u8(args.retain_handling)
            .expect("clap let only 0, 1 and 2 pass"),
    };
    let filters: Vec<_> = args
        .topic
        .iter()
        .map(|filter| (filter.as_str(), options))
        .collect();
    let user = properties.user("subscribe");
    connection.send(&Packet::Subscribe(Subscribe {
        packet_id: 1,
        subscription_id: properties.subscription_id()?,
        user: UserProperties::from_slice(&user),
        filters: Filters::from_slice(&filters),
    }))
}

fn refusals(args: &SubscribeArgs, reasons: &[ReasonCode]) -> anyhow::Result<()> {
    for (filter, reason) in args.topic.iter().zip(reasons) {
        if reason.is_error() {
            bail!(
                "the broker refused the subscription to {filter}: {}",
                reason.name()
            );
        }
    }
    Ok(())
}

fn acknowledge(connection: &mut Connection, qos: QoS, packet_id: u16) -> anyhow::Result<()> {
    let ack = Ack::new(packet_id, ReasonCode::Success);
    match qos {
        QoS::AtMostOnce => Ok(()),
        QoS::AtLeastOnce => connection.send(&Packet::Puback(ack)),
        QoS::ExactlyOnce => connection.send(&Packet::Pubrec(ack)),
    }
}

fn leave(connection: &mut Connection) -> anyhow::Result<()> {
    connection.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)))
}

fn print(args: &SubscribeArgs, publish: &Publish<'_>) -> std::io::Result<Arrived> {
    let message = |printed, last| Arrived::Message {
        qos: publish.qos,
        packet_id: publish.packet_id,
        printed,
        last,
    };
    if publish.retain && args.no_retained {
        return Ok(message(false, false));
    }
    if !publish.retain && args.retained_only {
        return Ok(message(false, true));
    }
    let mut line = Vec::with_capacity(publish.topic.len() + publish.payload.len() + 2);
    if let Some(format) = &args.format {
        if let Err(NotJson) = format.print(publish, &LocalTime::now(), &mut line) {
            eprintln!("sluice: the message on {} is no JSON", publish.topic);
            return Ok(message(true, false));
        }
    } else {
        if args.verbose {
            line.extend_from_slice(publish.topic.as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(publish.payload);
    }
    if !args.no_eol {
        line.push(b'\n');
    }
    let mut output = std::io::stdout().lock();
    output.write_all(&line)?;
    output.flush()?;
    Ok(message(true, false))
}

/// Parses a time for clap: more than nothing.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| format!("{text}: a time is a number of seconds above 0"))
}
