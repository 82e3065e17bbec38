//! `cargo xtask kafka`: a real Apache Kafka on loopback, for the tests and for trying things by hand,
//! and Kafka's own command-line tools against any address. It knows nothing of Sluice.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::kafka_secure;
use crate::process::{command, read, root, scratch, workshop};

const USAGE: &str = "\
cargo xtask kafka up [--nodes 1|3] [--port P]  start Apache Kafka on loopback (node n at P + n - 1)
      [--advertised P,P,P]                     ports that clients are told instead, such as a proxy's
      [--secure]                               with TLS, mutual TLS, SASL PLAIN and SCRAM besides
      [--stock]                                with the heap and collector of Kafka's own scripts
cargo xtask kafka status                       say what runs and where
cargo xtask kafka kill N                       kill -9 node N
cargo xtask kafka start N                      start node N again, on the data it had
cargo xtask kafka down                         stop it and remove its data
cargo xtask kafka tool NAME ARGS...            run one of Kafka's own command-line tools

up, status, kill, start and down take --name NAME: clusters of different names run side by side.";

/// (name, main class): the tools as their scripts in Kafka's `bin` call them.
const TOOLS: &[(&str, &str)] = &[
    ("acls", "org.apache.kafka.tools.AclCommand"),
    (
        "broker-api-versions",
        "org.apache.kafka.tools.BrokerApiVersionsCommand",
    ),
    ("cluster", "org.apache.kafka.tools.ClusterTool"),
    ("configs", "kafka.admin.ConfigCommand"),
    (
        "console-consumer",
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
    ),
    ("console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    (
        "consumer-groups",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    ),
    (
        "consumer-perf-test",
        "org.apache.kafka.tools.ConsumerPerformance",
    ),
    (
        "delete-records",
        "org.apache.kafka.tools.DeleteRecordsCommand",
    ),
    ("dump-log", "org.apache.kafka.tools.DumpLogSegments"),
    ("e2e-latency", "org.apache.kafka.tools.EndToEndLatency"),
    ("features", "org.apache.kafka.tools.FeatureCommand"),
    ("get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("groups", "org.apache.kafka.tools.GroupsCommand"),
    ("log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
    (
        "producer-perf-test",
        "org.apache.kafka.tools.ProducerPerformance",
    ),
    (
        "reassign-partitions",
        "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    ),
    ("storage", "kafka.tools.StorageTool"),
    ("topics", "org.apache.kafka.tools.TopicCommand"),
    ("transactions", "org.apache.kafka.tools.TransactionsCommand"),
    (
        "verifiable-consumer",
        "org.apache.kafka.tools.VerifiableConsumer",
    ),
    (
        "verifiable-producer",
        "org.apache.kafka.tools.VerifiableProducer",
    ),
];

/// The oldest Java that Kafka 4.x brokers run on.
const JAVA_MIN: u32 = 17;
/// A node of three on a busy machine needs this long at most.
const START: Duration = Duration::from_mins(2);
const STOP: Duration = Duration::from_secs(30);

/// Runs one verb.
pub fn kafka(arguments: &[String]) -> anyhow::Result<()> {
    let rest = arguments.get(1..).unwrap_or_default();
    let cluster = || -> anyhow::Result<Cluster> {
        Ok(Cluster::named(
            &word(rest, "--name")?.unwrap_or_else(|| "cluster".into()),
        ))
    };
    match arguments.first().map(String::as_str) {
        Some("up") => up(&cluster()?, rest),
        Some("status") => status(&cluster()?),
        Some("kill") => cluster()?.kill(node(rest)?),
        Some("start") => cluster()?.revive(node(rest)?),
        Some("down") => down(&cluster()?),
        Some("tool") => tool(rest),
        _ => bail!("{USAGE}"),
    }
}

/// The word that follows a flag.
fn word(arguments: &[String], name: &str) -> anyhow::Result<Option<String>> {
    let Some(at) = arguments.iter().position(|argument| argument == name) else {
        return Ok(None);
    };
    let value = arguments.get(at + 1);
    Ok(Some(
        value
            .with_context(|| format!("{name} needs a value"))?
            .clone(),
    ))
}

fn node(arguments: &[String]) -> anyhow::Result<u16> {
    let said = arguments.first().map_or("", String::as_str);
    match said.parse() {
        Ok(node @ 1..=3) => Ok(node),
        _ => bail!("node {said:?}: 1, 2 or 3"),
    }
}

/// A number that follows its flag, or the default.
fn option(arguments: &[String], name: &str, default: u16) -> anyhow::Result<u16> {
    let Some(at) = arguments.iter().position(|argument| argument == name) else {
        return Ok(default);
    };
    let value = arguments
        .get(at + 1)
        .with_context(|| format!("{name} needs a number"))?;
    value
        .parse()
        .with_context(|| format!("{name} {value}: not a number from 0 to 65535"))
}

fn up(cluster: &Cluster, arguments: &[String]) -> anyhow::Result<()> {
    let nodes = option(arguments, "--nodes", 1)?;
    let port = option(arguments, "--port", 0)?;
    if !matches!(nodes, 1 | 3) {
        bail!("--nodes {nodes}: 1 or 3");
    }
    let advertised = word(arguments, "--advertised")?.unwrap_or_default();
    let advertised = advertised
        .split(',')
        .filter(|port| !port.is_empty())
        .map(|port| {
            port.parse()
                .with_context(|| format!("--advertised {port}: not a port"))
        })
        .collect::<anyhow::Result<Vec<u16>>>()?;
    if !advertised.is_empty() && advertised.len() != usize::from(nodes) {
        bail!(
            "--advertised names {} ports for {nodes} nodes",
            advertised.len()
        );
    }
    let running = cluster.running();
    if running > 0 {
        bail!(
            "{running} node(s) of Apache Kafka run already at {}; `cargo xtask kafka down` first",
            cluster.bootstrap().unwrap_or_default()
        );
    }
    prepare()?;
    let layout = Layout {
        nodes,
        port,
        advertised,
        secure: arguments.iter().any(|argument| argument == "--secure"),
        stock: arguments.iter().any(|argument| argument == "--stock"),
    };
    cluster.start_as(&layout)?;
    let address = cluster.bootstrap()?;
    println!("Apache Kafka {} answers at {address}", version()?);
    if layout.secure {
        print!("{}", fs::read_to_string(cluster.folder().join("doors"))?);
        println!("certificates are in {}", cluster.folder().display());
    }
    println!("stop it by: cargo xtask kafka down");
    Ok(())
}

fn status(cluster: &Cluster) -> anyhow::Result<()> {
    match cluster.running() {
        0 => println!("no Apache Kafka runs; start one by: cargo xtask kafka up"),
        count => println!(
            "{count} node(s) of Apache Kafka at {}",
            cluster.bootstrap()?
        ),
    }
    Ok(())
}

fn down(cluster: &Cluster) -> anyhow::Result<()> {
    let running = cluster.running();
    cluster.stop()?;
    println!("stopped {running} node(s) of Apache Kafka");
    Ok(())
}

fn tool(arguments: &[String]) -> anyhow::Result<()> {
    let Some(name) = arguments.first() else {
        let names: Vec<&str> = TOOLS.iter().map(|(name, _)| *name).collect();
        bail!(
            "cargo xtask kafka tool NAME ARGS, where NAME is one of {}",
            names.join(", ")
        );
    };
    prepare()?;
    let status = tool_command(name)?
        .args(&arguments[1..])
        .current_dir(std::env::current_dir()?)
        .status()
        .context("Java could not be started")?;
    if !status.success() {
        bail!("kafka tool {name} failed: {status}");
    }
    Ok(())
}

/// Kafka's tool of that name, ready for its arguments; `prepare` must have run.
pub fn tool_command(name: &str) -> anyhow::Result<Command> {
    let class = TOOLS.iter().find(|(known, _)| *known == name);
    let Some((_, class)) = class else {
        let names: Vec<&str> = TOOLS.iter().map(|(name, _)| *name).collect();
        bail!(
            "Kafka's tool {name} is not known here; known are {}",
            names.join(", ")
        );
    };
    let mut java = java(&["-Xmx256m", "-XX:TieredStopAtLevel=1"]);
    java.arg(class);
    Ok(java)
}

/// The version that the committed pom asks for.
pub fn version() -> anyhow::Result<String> {
    let pom = fs::read_to_string(root().join("tests/kafka/pom.xml"))?;
    let (_, rest) = pom
        .split_once("<kafka.version>")
        .context("tests/kafka/pom.xml names no kafka.version")?;
    let version = rest.split('<').next().unwrap_or_default();
    Ok(version.to_owned())
}

/// Java, Maven and the jars, installed where absent.
pub fn prepare() -> anyhow::Result<()> {
    prepare_java()?;
    jars("tests/kafka/pom.xml", "lib")?;
    Ok(())
}

/// Where the jars of one pom lie.
pub fn library(name: &str) -> PathBuf {
    workshop().join("kafka").join(name)
}

/// Copies the jars that a pom names into `target/xtask/kafka/NAME`, unless they lie there already.
pub fn jars(pom: &str, name: &str) -> anyhow::Result<PathBuf> {
    let pom = root().join(pom);
    let folder = library(name);
    let stamp = folder.join("pom.xml");
    let wanted = fs::read(&pom)?;
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    // On standard error: a tool's standard output may be read by a program.
    eprintln!(
        "fetching Apache Kafka's jars by Maven into {} (once)",
        folder.display()
    );
    // Into a folder of this process first: two runs at once must not see half of a library.
    let fresh = folder.with_extension(format!("new-{}", std::process::id()));
    fs::create_dir_all(&fresh)?;
    let mut maven = command("mvn", &["-q", "-B", "-f"]);
    maven.arg(&pom);
    maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
    maven.arg("-DincludeScope=runtime");
    maven.arg(format!("-DoutputDirectory={}", fresh.display()));
    read(maven).with_context(|| {
        format!(
            "Maven could not fetch what {} names; it needs Maven Central or a mirror of it \
             (settings.xml in ~/.m2)",
            pom.display()
        )
    })?;
    fs::write(fresh.join("pom.xml"), &wanted)?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&fresh, &folder)?;
    Ok(folder)
}

/// A JDK of at least `JAVA_MIN` and Maven, by apt-get where absent.
pub fn prepare_java() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if java_major("javac").is_none_or(|major| major < JAVA_MIN) {
        missing.push("default-jdk-headless");
    }
    if read(command("mvn", &["-v"])).is_err() {
        missing.push("maven");
    }
    if missing.is_empty() {
        return Ok(());
    }
    println!("Apache Kafka needs Java {JAVA_MIN} or newer and Maven: installing {missing:?}");
    crate::prepare::debian(&missing)
        .context("install a JDK of at least 17 and Maven yourself, then run this again")?;
    match java_major("javac") {
        Some(major) if major >= JAVA_MIN => Ok(()),
        found => bail!(
            "Java {JAVA_MIN} or newer is needed and `javac -version` says {found:?}; \
             set PATH to a newer JDK"
        ),
    }
}

/// The major version of Java on the path.
pub fn java_major(program: &str) -> Option<u32> {
    // "javac 17.0.15"; Java 8 said "javac 1.8.0".
    let text = read(command(program, &["-version"])).ok()?;
    let version = text.split_whitespace().nth(1)?;
    version.split('.').next()?.parse().ok()
}

/// Java with Kafka's jars and a quiet log on standard error.
fn java(options: &[&str]) -> Command {
    let mut all = vec!["-XX:+UseSerialGC"];
    all.extend(options);
    command_of_java(&all)
}

/// The same with these options and no others.
fn command_of_java(options: &[&str]) -> Command {
    let mut java = command("java", options);
    let log = root().join("tests/kafka/log4j2.properties");
    java.arg(format!("-Dlog4j2.configurationFile=file:{}", log.display()));
    java.arg("-cp").arg(library("lib").join("*"));
    java
}

/// File that says that a cluster has the options of Kafka's own scripts.
const STOCK: &str = "stock";

/// Heap and collector as `kafka-server-start.sh` and `kafka-run-class.sh` set them.
const STOCK_OPTIONS: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];

/// What a cluster looks like.
struct Layout {
    nodes: u16,
    /// Of the first node; 0: free ones.
    port: u16,
    /// What clients are told, a node each; empty: the real ports.
    advertised: Vec<u16>,
    /// With the doors of [`kafka_secure`] besides.
    secure: bool,
    /// With the heap and the collector that Kafka's own scripts give it; else with little memory.
    stock: bool,
}

/// Nodes of Apache Kafka that run in the background, known by their files: a process that starts
/// them need not be the one that stops them.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
}

impl Cluster {
    /// The cluster of that name; it may not run.
    pub fn named(name: &str) -> Self {
        let folder = scratch().join("kafka").join(name);
        Self { folder }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Formats fresh nodes, starts them and waits until every one answers. Port 0: free ones.
    pub fn start(&self, nodes: u16, port: u16) -> anyhow::Result<()> {
        self.start_as(&Layout {
            nodes,
            port,
            advertised: Vec::new(),
            secure: false,
            stock: false,
        })
    }

    /// As [`Cluster::start`] of one node, with the heap and the collector of Kafka's own scripts.
    pub fn start_stock(&self) -> anyhow::Result<()> {
        self.start_as(&Layout {
            nodes: 1,
            port: 0,
            advertised: Vec::new(),
            secure: false,
            stock: true,
        })
    }

    fn start_as(&self, layout: &Layout) -> anyhow::Result<()> {
        let Layout { nodes, port, .. } = *layout;
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::create_dir_all(&self.folder)?;
        if layout.stock {
            fs::write(self.folder.join(STOCK), "")?;
        }
        let brokers = (0..nodes)
            .map(|node| {
                if port == 0 {
                    free_port()
                } else {
                    Ok(port + node)
                }
            })
            .collect::<anyhow::Result<Vec<u16>>>()?;
        let controllers = (0..nodes)
            .map(|_| free_port())
            .collect::<anyhow::Result<Vec<u16>>>()?;
        if layout.secure {
            kafka_secure::certificates(&self.folder)?;
        }
        let identity =
            read_last_line(java(&["-Xmx64m"]).args(["kafka.tools.StorageTool", "random-uuid"]))?;
        let mut doors = String::new();
        for node in 1..=nodes {
            let settings = self.settings(node, layout, &brokers, &controllers, &mut doors)?;
            let mut format = java(&["-Xmx128m"]);
            format.args(["kafka.tools.StorageTool", "format", "-t", &identity, "-c"]);
            format.arg(&settings);
            if layout.secure {
                format.args(kafka_secure::SCRAM_USERS);
            }
            read(format).context("a node of Apache Kafka could not be formatted")?;
            self.spawn(node, &settings)?;
        }
        let addresses: Vec<String> = brokers
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        fs::write(self.folder.join("bootstrap"), addresses.join(","))?;
        fs::write(self.folder.join("doors"), &doors)?;
        // By the nodes' own listeners: what clients are told of need not lead anywhere yet.
        let internal = doors
            .lines()
            .filter_map(|door| door.strip_prefix("INTERNAL "));
        for address in internal {
            if let Err(error) = self.wait(address) {
                self.stop()?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Nodes speak to each other and to the tools of this program by listeners of their own: a proxy
    /// that cuts clients off cuts no node off.
    fn settings(
        &self,
        node: u16,
        layout: &Layout,
        brokers: &[u16],
        controllers: &[u16],
        doors: &mut String,
    ) -> anyhow::Result<PathBuf> {
        let copies = brokers.len();
        let in_sync = copies.div_ceil(2);
        let voters: Vec<String> = controllers
            .iter()
            .zip(1..)
            .map(|(port, node)| format!("{node}@127.0.0.1:{port}"))
            .collect();
        let (voters, at) = (voters.join(","), usize::from(node) - 1);
        let (broker, controller, internal) = (brokers[at], controllers[at], free_port()?);
        let told = layout.advertised.get(at).copied().unwrap_or(broker);
        let mut listeners = format!(
            "PLAINTEXT://127.0.0.1:{broker},INTERNAL://127.0.0.1:{internal},\
             CONTROLLER://127.0.0.1:{controller}"
        );
        let mut advertised =
            format!("PLAINTEXT://127.0.0.1:{told},INTERNAL://127.0.0.1:{internal}");
        doors.extend([format!("INTERNAL 127.0.0.1:{internal}").as_str(), "\n"]);
        let mut secure = String::new();
        if layout.secure {
            for door in kafka_secure::DOORS {
                let address = format!("{door}://127.0.0.1:{}", free_port()?);
                listeners = format!("{listeners},{address}");
                advertised = format!("{advertised},{address}");
                doors.extend([address.replace("://", " ").as_str(), "\n"]);
            }
            secure = kafka_secure::settings(&self.folder);
        }
        let data = self.folder.join(format!("n{node}"));
        let text = format!(
            "process.roles=broker,controller\n\
             node.id={node}\n\
             controller.quorum.voters={voters}\n\
             listeners={listeners}\n\
             advertised.listeners={advertised}\n\
             inter.broker.listener.name=INTERNAL\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,\
             PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
             log.dirs={data}\n\
             num.partitions=4\n\
             default.replication.factor={copies}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={copies}\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor={copies}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=4\n\
             share.coordinator.state.topic.replication.factor={copies}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             group.initial.rebalance.delay.ms=0\n{secure}",
            data = data.display(),
        );
        let path = self.folder.join(format!("n{node}.properties"));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// `kill -9` of one node.
    fn kill(&self, node: u16) -> anyhow::Result<()> {
        let pid = self.pid(node).filter(|pid| is_kafka(*pid));
        let pid = pid.with_context(|| format!("node {node} does not run"))?;
        read(command("kill", &["-KILL", &pid.to_string()]))?;
        while is_kafka(pid) {
            std::thread::sleep(Duration::from_millis(10));
        }
        println!("node {node} is gone");
        Ok(())
    }

    /// Starts one node again; it need not answer yet when this returns.
    fn revive(&self, node: u16) -> anyhow::Result<()> {
        if self.pid(node).is_some_and(is_kafka) {
            bail!("node {node} runs already");
        }
        let settings = self.folder.join(format!("n{node}.properties"));
        if !settings.exists() {
            bail!("there never was a node {node} in {}", self.folder.display());
        }
        self.spawn(node, &settings)?;
        println!("node {node} starts");
        Ok(())
    }

    fn spawn(&self, node: u16, settings: &Path) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt as _;
        let log = self.folder.join(format!("n{node}.log"));
        let log = fs::File::options().create(true).append(true).open(log)?;
        let mut broker = if self.folder.join(STOCK).exists() {
            command_of_java(STOCK_OPTIONS)
        } else {
            java(&["-Xms256m", "-Xmx512m"])
        };
        broker.arg("kafka.Kafka").arg(settings);
        broker.stdin(Stdio::null());
        broker.stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C at the terminal stops what runs there, not the cluster.
        broker.process_group(0);
        let child = broker.spawn().context("Java could not be started")?;
        fs::write(self.pid_file(node), child.id().to_string())?;
        Ok(())
    }

    fn pid_file(&self, node: u16) -> PathBuf {
        self.folder.join(format!("n{node}.pid"))
    }

    fn pid(&self, node: u16) -> Option<u32> {
        fs::read_to_string(self.pid_file(node)).ok()?.parse().ok()
    }

    fn wait(&self, address: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        let expected = self.pids().len();
        loop {
            let mut ask = tool_command("broker-api-versions")?;
            ask.args(["--bootstrap-server", address]);
            if read(ask).is_ok() {
                return Ok(());
            }
            let dead = self.running() < expected;
            if dead || Instant::now() > deadline {
                bail!(
                    "Apache Kafka does not answer at {address}; the end of its log:\n{}",
                    self.log_ends()
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn log_ends(&self) -> String {
        let mut text = String::new();
        for node in 1..=3 {
            let path = self.folder.join(format!("n{node}.log"));
            if let Ok(log) = fs::read_to_string(&path) {
                let lines: Vec<&str> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(15)..];
                text.extend([
                    path.display().to_string(),
                    ":\n".into(),
                    last.join("\n"),
                    "\n".into(),
                ]);
            }
        }
        text
    }

    /// Where clients begin: `127.0.0.1:PORT`, several parted by commas.
    pub fn bootstrap(&self) -> anyhow::Result<String> {
        fs::read_to_string(self.folder.join("bootstrap"))
            .context("no Apache Kafka was started; cargo xtask kafka up")
    }

    /// The nodes' process ids, whether they run or not.
    pub fn pids(&self) -> Vec<u32> {
        (1..=3).filter_map(|node| self.pid(node)).collect()
    }

    /// How many nodes run.
    pub fn running(&self) -> usize {
        self.pids().into_iter().filter(|pid| is_kafka(*pid)).count()
    }

    /// Ends every node by force, since nothing of it is kept, and removes the data.
    pub fn stop(&self) -> anyhow::Result<()> {
        let mut pids = self.pids();
        pids.retain(|pid| is_kafka(*pid));
        for pid in &pids {
            // It may end in between; then there is nothing to stop.
            let _ = read(command("kill", &["-KILL", &pid.to_string()]));
        }
        let deadline = Instant::now() + STOP;
        while pids.iter().any(|pid| is_kafka(*pid)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }
}

/// Whether that process is a broker that we started: process ids are used again.
fn is_kafka(pid: u32) -> bool {
    let Ok(words) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    // A process that has ended and not been reaped has an empty command line.
    words
        .split(|byte| *byte == 0)
        .any(|word| word == b"kafka.Kafka")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn read_last_line(java: &mut Command) -> anyhow::Result<String> {
    let output = java.output().context("Java could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default().trim().to_owned();
    if !output.status.success() || line.is_empty() {
        bail!(
            "Kafka's storage tool failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(line)
}
