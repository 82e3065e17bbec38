//! `sluice serve`, also `sluice` alone: builds the settings, starts the node and its doors, says
//! where they are and what to try, and waits for the signal to stop.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::log_file;
use crate::config::{self, Fault};
use crate::descriptors;
use crate::doorway::Doorway;
use crate::http::node_view::{Reload, ServedNode};
use crate::http::view::ListenerRow;
use crate::kafka::ListenerFacts;
use crate::listening::listen;
use crate::settings::{
    self, Flags, Level, ListenerKind, ListenerSettings, LogFormat, Settings, Word,
};

use crate::mirror::Mirror;
use crate::tls::{self, Tls};
use crate::{http, kafka, logging, node::Node};

/// The file that is read when no other is named.
pub(super) const USUAL_FILE: &str = "sluice.toml";

/// Serve: MQTT in, the log inside, Kafka clients out (also without a verb)
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Configuration file; without it ./sluice.toml if there is one
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the node, as in hook records
    #[arg(long)]
    name: Option<String>,
    /// Directory of all data
    #[arg(short, long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// MQTT worker threads; 0: seven for every eight cores, at least one
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Listen for MQTT there instead; off: nowhere
    #[arg(long, value_name = "ADDR")]
    mqtt: Vec<String>,
    /// Listen for MQTT over WebSocket there instead; off: nowhere
    #[arg(long, value_name = "ADDR")]
    ws: Vec<String>,
    /// Listen for Kafka clients there instead; off: nowhere
    #[arg(long, value_name = "ADDR")]
    kafka: Vec<String>,
    /// Serve HTTP there instead; off: nowhere
    #[arg(long, value_name = "ADDR")]
    http: Vec<String>,
    /// Let anyone in who reaches the addresses given by --mqtt, --ws and --kafka
    #[arg(long)]
    anonymous: bool,
    /// Least level of log lines: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", value_parser = word::<Level>)]
    log_level: Option<Level>,
    /// Log lines as text or json
    #[arg(long, value_name = "FORMAT", value_parser = word::<LogFormat>)]
    log_format: Option<LogFormat>,
    /// File that log lines go to in place of standard error; SIGHUP opens it anew
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Run in the background: return once the node is ready, or with what keeps it from that
    #[arg(long)]
    daemon: bool,
    /// Start although data that was once flushed is damaged or gone; tells what is lost
    #[arg(long)]
    accept_loss: bool,
    /// Leave out a journal entry that recovery cannot handle; may be repeated
    #[arg(long, value_name = "LSN")]
    skip_entry: Vec<u64>,
}

/// Serves until SIGTERM or SIGINT; exit code 0 when everything was stopped in order.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let settings = match settings(args)? {
        Ok(settings) => settings,
        Err(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    if args.daemon {
        let log_file = args.log_file.as_deref();
        return super::daemon::start(&settings.node.data_dir, log_file);
    }
    if let Some(path) = &args.log_file {
        log_file::take_standard_error(path)?;
    }
    logging::start(&settings.logging);
    raise_open_files();
    give_back_large_blocks();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sluice-door")
        .build()
        .context("cannot start the threads of the runtime")?;
    // A file that was there at the start and is gone is an error, not the defaults.
    let again = ServeArgs {
        config: config_file(args),
        ..args.clone()
    };
    let reload = move || reread(&again);
    let log_file = args.log_file.clone();
    runtime.block_on(serve(settings, Arc::new(reload), log_file))?;
    Ok(ExitCode::SUCCESS)
}

/// Large blocks, such as the 19 MiB of a password's hash, go back to the system when they are freed:
/// without this glibc keeps one for each thread that ever hashed.
fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator, before there are other threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
    }
}

/// Each connection is an open file: as many as the system allows this process.
fn raise_open_files() {
    if let Some(limit) = descriptors::raise_limit() {
        tracing::debug!(limit, "limit of open files");
    } else {
        tracing::warn!("the limit of open files could not be raised");
    }
}

/// Reads the file and lays the flags over it; all faults are told together.
fn settings(args: &ServeArgs) -> anyhow::Result<Result<Settings, Vec<Fault>>> {
    Ok(built(args, file(args)?))
}

/// A configuration file as it was read.
struct ReadFile {
    source: String,
    text: String,
}

/// The file that the node runs by, if there is one.
fn config_file(args: &ServeArgs) -> Option<PathBuf> {
    let usual = Path::new(USUAL_FILE);
    let found = || usual.exists().then(|| usual.to_owned());
    args.config.clone().or_else(found)
}

fn file(args: &ServeArgs) -> anyhow::Result<Option<ReadFile>> {
    let Some(file) = config_file(args) else {
        return Ok(None);
    };
    let source = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {source}"))?;
    Ok(Some(ReadFile { source, text }))
}

fn built(args: &ServeArgs, file: Option<ReadFile>) -> Result<Settings, Vec<Fault>> {
    let (said, faults) = file
        .map(|file| config::read(&file.source, &file.text))
        .unzip();
    super::check::together(
        faults.unwrap_or_default(),
        settings::build(said, &flags(args)),
    )
}

/// Reads the file once more while the node runs by it.
fn reread(args: &ServeArgs) -> Result<Settings, String> {
    let file = file(args).map_err(|error| format!("{error:#}"))?;
    if let Some(file) = &file
        && file.text.trim().is_empty()
    {
        // As it is for a moment while somebody saves it; it would let everybody in.
        let source = &file.source;
        return Err(format!(
            "{source} is empty: if that is meant, restart the node"
        ));
    }
    built(args, file).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    })
}

fn flags(args: &ServeArgs) -> Flags {
    let of = |kind: ListenerKind, addresses: &[String]| -> Vec<(ListenerKind, String)> {
        addresses
            .iter()
            .map(|address| (kind, address.clone()))
            .collect()
    };
    let listeners = [
        of(ListenerKind::Mqtt, &args.mqtt),
        of(ListenerKind::Ws, &args.ws),
        of(ListenerKind::Kafka, &args.kafka),
        of(ListenerKind::Http, &args.http),
    ];
    Flags {
        name: args.name.clone(),
        data_dir: args.data_dir.clone(),
        workers: args.workers,
        listeners: listeners.concat(),
        anonymous: args.anonymous,
        log_level: args.log_level,
        log_format: args.log_format,
        accept_loss: args.accept_loss,
        skip_entry: args.skip_entry.clone(),
    }
}

async fn serve(
    settings: Settings,
    reload: Reload,
    log_file: Option<PathBuf>,
) -> anyhow::Result<()> {
    // Before anything starts, so that no signal is missed and a second one does not kill.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let listeners = settings.listeners.clone();
    // Bound before the node starts: a taken port is told before recovery takes its time.
    let mut kafka = bind(&listeners, ListenerKind::Kafka)?;
    kafka.extend(bind(&listeners, ListenerKind::Kafkas)?);
    let mut http = bind(&listeners, ListenerKind::Http)?;
    http.extend(bind(&listeners, ListenerKind::Https)?);

    let node = Node::start(settings).await?;
    let mut bound: Vec<(ListenerSettings, SocketAddr)> = listeners
        .iter()
        .filter(|listener| listener.kind.speaks_mqtt())
        .cloned()
        .zip(node.mqtt_addresses())
        .collect();
    let (stop, stopped) = watch::channel(false);
    let mut doors = JoinSet::new();
    let front_door = kafka::front_door(&node)?;
    let mut secure = Vec::new();
    let mut doorways = Vec::new();
    for (listener, socket) in kafka {
        bound.push((listener.clone(), socket.local_addr()?));
        let tls = listener.tls.as_ref().map(Tls::open).transpose();
        let tls = tls.map_err(anyhow::Error::msg)?;
        secure.extend(tls.clone());
        let doorway = Doorway::new(&listener, socket.local_addr()?);
        doorways.push(Arc::clone(&doorway));
        let facts = ListenerFacts::new(&listener, &node.settings.kafka, tls, doorway);
        let door = Arc::clone(&front_door);
        doors.spawn(door.serve_listener(facts, socket, stopped.clone()));
    }
    let kafka_doors = doorways.len();
    for (listener, socket) in &http {
        bound.push((listener.clone(), socket.local_addr()?));
        doorways.push(Doorway::new(listener, socket.local_addr()?));
    }
    let again = Arc::clone(&reload);
    let rows = (listener_rows(&bound), doorways.clone());
    let view = ServedNode::new(Arc::clone(&node), front_door, rows, reload);
    let rows = node.settings.http.page_rows_max;
    let api = http::Api::new(Arc::new(view), rows, stopped.clone());
    doors.spawn(http::live::keep_sampling(Arc::clone(&api)));
    write_local_token(&node).context("cannot write the token for this machine")?;
    for ((listener, socket), doorway) in http.into_iter().zip(doorways.split_off(kafka_doors)) {
        let tls = listener.tls.as_ref().map(Tls::open).transpose();
        let tls = tls.map_err(anyhow::Error::msg)?;
        secure.extend(tls.clone());
        let local = doorway.is_local();
        let router = http::router(&api, http::Door { local });
        let stopped = stopped.clone();
        doors.spawn(async move {
            if let Err(error) = http::serve(router, socket, (doorway, tls), stopped).await {
                tracing::error!(%error, "the HTTP listener failed");
            }
        });
    }
    doors.spawn(tls::keep_fresh(secure, stopped.clone()));
    let hung_up = HungUp { hangup, log_file };
    doors.spawn(reload_access(
        Arc::clone(&node),
        again,
        hung_up,
        stopped.clone(),
    ));
    let mirror = Mirror::start(&node).context("cannot start the mirror")?;
    crate::downlink::start(&node, &mut doors, &stopped)?;
    say(&greeting(&node.settings, &bound));

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    say("stopping\n");
    // While the node still flushes: what was acknowledged at the last leaves with the last round.
    if tokio::task::spawn_blocking(move || mirror.stop())
        .await
        .is_err()
    {
        tracing::warn!("the mirror did not end in order");
    }
    let closed = node.shutdown().await;
    stop.send_replace(true);
    while doors.join_next().await.is_some() {}
    closed?;
    say("stopped\n");
    Ok(())
}

/// SIGHUP, and what besides the configuration is looked at again then.
struct HungUp {
    hangup: Signal,
    log_file: Option<PathBuf>,
}

/// Opens the log file anew and puts authenticators and rules of the configuration file in force on
/// each SIGHUP, until `stop` is true or its sender gone.
async fn reload_access(
    node: Arc<Node>,
    read: Reload,
    mut hung_up: HungUp,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = hung_up.hangup.recv() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if let Some(path) = &hung_up.log_file
            && let Err(error) = log_file::take_standard_error(path)
        {
            tracing::error!(%error, "the log lines go where they went");
        }
        let read = Arc::clone(&read);
        let settings = tokio::task::spawn_blocking(move || read()).await;
        let loaded = match settings {
            Ok(Ok(settings)) => node.reload_access(&settings).await,
            Ok(Err(what)) => Err(what),
            Err(_) => Err("the configuration cannot be read".to_owned()),
        };
        match loaded {
            Ok(()) => tracing::info!("authenticators and rules are as the configuration says now"),
            Err(what) => tracing::error!(what, "authenticators and rules stay as they were"),
        }
    }
}

/// File in the data directory that holds the token of the running node for this machine: whoever may
/// read it may do everything anyway.
pub const LOCAL_TOKEN_FILE: &str = "admin.token";

fn write_local_token(node: &Node) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = node.settings.node.data_dir.join(LOCAL_TOKEN_FILE);
    let fresh = path.with_extension("token.new");
    // A file that is there could be readable for others.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    writeln!(file, "{}", node.tokens.local())?;
    std::fs::rename(&fresh, &path)
}

/// The listeners as the API shows them.
fn listener_rows(bound: &[(ListenerSettings, SocketAddr)]) -> Vec<ListenerRow> {
    let row = |(number, (listener, address)): (usize, &(ListenerSettings, SocketAddr))| {
        let mechanisms: Vec<&str> = listener.sasl.iter().map(|it| it.word()).collect();
        let http = listener.kind.speaks_http();
        let authentication = if http {
            "bearer token".to_owned()
        } else if !listener.authenticators.is_empty() {
            listener.authenticators.join(", ")
        } else if mechanisms.is_empty() {
            "none".to_owned()
        } else {
            mechanisms.join(", ")
        };
        ListenerRow {
            name: (number + 1).to_string(),
            kind: listener.kind.word().to_owned(),
            bind: address.to_string(),
            path: matches!(listener.kind, ListenerKind::Ws | ListenerKind::Wss)
                .then(|| listener.path.clone()),
            connections: None,
            tls: listener.tls.is_some(),
            authentication,
            anonymous: listener.anonymous,
        }
    };
    bound.iter().enumerate().map(row).collect()
}

/// Binds the listeners of a kind; a taken port names what changes it.
fn bind(
    listeners: &[ListenerSettings],
    kind: ListenerKind,
) -> anyhow::Result<Vec<(ListenerSettings, TcpListener)>> {
    let mut bound = Vec::new();
    for listener in listeners.iter().filter(|listener| listener.kind == kind) {
        match listen(listener.bind) {
            Ok(socket) => bound.push((listener.clone(), socket)),
            Err(error) => bail!("{}", listener.cannot_bind(&error)),
        }
    }
    Ok(bound)
}

/// Everything printed at the start, the line `ready` last.
fn greeting(settings: &Settings, bound: &[(ListenerSettings, SocketAddr)]) -> String {
    let mut out = format!(
        "sluice {}, node {}\n",
        env!("CARGO_PKG_VERSION"),
        settings.node.name
    );
    let _ = writeln!(out, "  data    {}", settings.node.data_dir.display());
    for (listener, address) in bound {
        let name = match listener.kind {
            ListenerKind::Mqtt => "MQTT",
            ListenerKind::Mqtts => "MQTTS",
            ListenerKind::Ws => "WS",
            ListenerKind::Wss => "WSS",
            ListenerKind::Kafka => "Kafka",
            ListenerKind::Kafkas => "Kafkas",
            ListenerKind::Http => "HTTP",
            ListenerKind::Https => "HTTPS",
        };
        let note = match listener.kind {
            ListenerKind::Http | ListenerKind::Https => {
                let console = console_url(listener.kind, *address);
                format!("  (console {console} and /api/v1, /metrics, /healthz)")
            }
            ListenerKind::Ws | ListenerKind::Wss => format!("  (path {})", listener.path),
            _ if listener.anonymous => {
                "  (anonymous = true: anyone who reaches it may come in)".to_owned()
            }
            _ => String::new(),
        };
        let _ = writeln!(out, "  {name:<7} {address}{note}");
    }
    // Lines that would not work as they stand are worse than none.
    let port = |kind| {
        let asks_nobody = |listener: &ListenerSettings| {
            listener.authenticators.is_empty()
                && listener.sasl.is_empty()
                && listener.proxy.is_none()
        };
        let mut fit = bound.iter();
        let found = fit.find(|(listener, _)| listener.kind == kind && asks_nobody(listener));
        found.map(|(_, address)| address.port())
    };
    let filled = |stream: &str| settings.hooks.iter().any(|hook| hook.stream == stream);
    if let (Some(mqtt), Some(kafka)) = (port(ListenerKind::Mqtt), port(ListenerKind::Kafka))
        && filled("message_state")
        && filled("message_command")
    {
        out += &try_it(mqtt, kafka);
    }
    out += "\nready; Ctrl-C stops\n";
    out
}

/// The address of the console for a browser on this machine.
fn console_url(kind: ListenerKind, mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if kind == ListenerKind::Https {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{address}/")
}

const STATE: &str = r#"{"process_id":"7802441525528958","action":"unlock","battery":83.4,"lock_state":1,"version":1.1,"client_id":"10083618796833171"}"#;
const COMMAND: &str = r#"{"process_id":"7802441525528958","action":"unlock","nonce_str":"u7u4p0n8","ts":1574744434,"sign":"e9f5af7deaa28563"}"#;

/// Lines to paste: a door lock reports, and is told to open.
fn try_it(mqtt: u16, kafka: u16) -> String {
    let lock = "10083618796833171";
    let p = if mqtt == 1883 {
        String::new()
    } else {
        format!(" -p {mqtt}")
    };
    let b = if kafka == 9092 {
        String::new()
    } else {
        format!(" -b 127.0.0.1:{kafka}")
    };
    format!(
        "
Try it, each in a terminal of its own. A door lock waits for commands, and what it reports is read:
  sluice sub{p} -i {lock} -q 1 -t devices/{lock}/command
  sluice consume{b} message_state --from-beginning --decode
It reports, and is told to open (read that with: sluice consume{b} message_command --from-beginning --decode):
  sluice pub{p} -q 1 -t devices/{lock}/state -m '{STATE}'
  sluice pub{p} -q 1 -t devices/{lock}/command -m '{COMMAND}'
The same with the clients of others:
  mosquitto_sub{p} -i {lock} -q 1 -t devices/{lock}/command
  mosquitto_pub{p} -q 1 -t devices/{lock}/state -m '{STATE}'
  kcat -C -b 127.0.0.1:{kafka} -t message_state -o beginning
"
    )
}

/// Prints and flushes; that nobody reads standard output is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Reads a word of an enum for clap.
fn word<T: Word>(text: &str) -> Result<T, String> {
    T::from_word(text).ok_or_else(|| {
        let known: Vec<&str> = T::ALL.iter().map(|(_, word)| *word).collect();
        format!("it is one of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(kind: ListenerKind, address: &str, anonymous: bool) -> (ListenerSettings, SocketAddr) {
        let bind = address.parse().unwrap();
        (
            ListenerSettings {
                anonymous,
                ..ListenerSettings::plain(kind, bind, "--mqtt ADDR".to_owned())
            },
            bind,
        )
    }

    #[test]
    fn the_greeting_says_where_and_what_to_try() {
        let settings = Settings::for_tests(Path::new("data"));
        let bound = [
            at(ListenerKind::Mqtt, "0.0.0.0:41233", true),
            at(ListenerKind::Kafka, "127.0.0.1:9092", false),
            at(ListenerKind::Http, "127.0.0.1:18083", false),
        ];
        let text = greeting(&settings, &bound);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[2].starts_with("  MQTT    0.0.0.0:41233  (anonymous"),
            "{text}"
        );
        assert!(
            lines[3] == "  Kafka   127.0.0.1:9092"
                && lines[4].starts_with(
                    "  HTTP    127.0.0.1:18083  (console http://127.0.0.1:18083/ and /api/v1, "
                )
        );
        let anywhere = [at(ListenerKind::Https, "0.0.0.0:443", false)];
        let other = greeting(&settings, &anywhere);
        assert!(
            other.contains("(console https://127.0.0.1:443/ and"),
            "{other}"
        );
        assert!(text.contains("sluice pub -p 41233 -q 1 -t devices/10083618796833171/state -m '{"));
        assert!(text.contains("\n  sluice consume message_state --from-beginning --decode\n"));
        assert!(lines.last().unwrap().starts_with("ready"));
        let mut asking = bound.clone();
        asking[0].0.authenticators = vec!["users".to_owned()];
        assert!(!greeting(&settings, &asking).contains("Try it"), "not so");
        let mut other = settings.clone();
        other.hooks.clear();
        let other = greeting(&other, &bound);
        assert!(!other.contains("Try it") && other.ends_with("\nready; Ctrl-C stops\n"));
        // Without a door for Kafka clients there is nothing to read.
        assert!(!greeting(&settings, &bound[..1]).contains("consume"));
    }

    #[test]
    fn a_taken_port_names_what_changes_it() {
        let (listener, _) = at(ListenerKind::Mqtt, "127.0.0.1:1883", false);
        let taken = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let told = listener.cannot_bind(&taken);
        assert!(
            told.contains("another program listens on 127.0.0.1:1883; --mqtt ADDR changes"),
            "{told}"
        );
    }
}
