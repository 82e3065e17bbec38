//! How a node comes up: lock, listeners, recovery of the log, streams, tables and sessions from
//! it, threads, and only then the first client. Every failure says what is to be done about it.

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use broker::{BrokerSettings, HookTable, Interest, Outbox, Places, RetainedIndex, Shard, Turn};
use commitlog::{
    Ack, Disk as _, FlushPolicy, Log, LogReader, Open, PartitionId, Storage, StreamSettings,
};
use mio::{Poll, Waker};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::backup;
use super::checkpoint;
use super::clock::{Clock, wall_ms};
use super::counters::Counters;
use super::desk::Desk;
use super::disk::{DirectoryLock, FileDisk, lock_directory};
use super::door::{LogDoor, Standing};
use super::flush_thread::Flusher;
use super::hooks::Hooks;
use super::log_thread::{self, LogThread};
use super::mailbox::Mailbox;
use super::readers::Readers;
use super::reception::{ListenerFacts, Reception};
use super::rings::{self, Brake, TurnOrder, TurnSender, Wake};
use super::trace::Traces;
use super::worker::{self, Worker};
use super::{Appender, Node, Threads, random, restore, sys, users};
use crate::auth::Auth;
use crate::listening::listen;
use crate::mirror::Board;
use crate::settings::{ListenerSettings, Settings};
use crate::tls;

/// Most workers: the homes that client ids are spread over.
const WORKERS_MAX: usize = 256;

/// File in the data directory that holds the cluster id, in Apache Kafka's form.
const META_FILE: &str = "meta.properties";

/// See [`Node::start`].
pub async fn start(settings: Settings) -> anyhow::Result<Arc<Node>> {
    let settings = Arc::new(settings);
    let lock = lock_directory(&settings.node.data_dir)?;
    // Bound before the recovery, so that a taken port is told at once; served after it.
    let bound = bind(&settings.listeners)?;
    let (listeners, sockets): (Vec<_>, Vec<_>) = bound.into_iter().unzip();
    let listeners: Arc<[_]> = listeners.into();
    let (stop, stopping) = watch::channel(false);
    let (node, reception) = {
        let settings = Arc::clone(&settings);
        tokio::task::spawn_blocking(move || prepare(&settings, lock, listeners, stop))
            .await
            .context("the start was interrupted")??
    };
    let reception = Arc::new(reception);
    let secure = node.listeners.iter().filter_map(|facts| facts.tls.clone());
    tokio::spawn(tls::keep_fresh(secure.collect(), stopping.clone()));
    for (facts, socket) in node.listeners.iter().zip(sockets) {
        tokio::spawn(Arc::clone(&reception).serve(Arc::clone(facts), socket));
    }
    let interval_s = settings.mqtt.sys_interval_s;
    if interval_s > 0 {
        tokio::spawn(sys::run(Arc::downgrade(&node), interval_s, stopping));
    }
    Ok(node)
}

/// Binds the listeners for MQTT; what is known of each, and its socket.
fn bind(listeners: &[ListenerSettings]) -> anyhow::Result<Vec<(Arc<ListenerFacts>, TcpListener)>> {
    let mut bound = Vec::new();
    for listener in listeners
        .iter()
        .filter(|listener| listener.kind.speaks_mqtt())
    {
        let socket = listen(listener.bind)
            .map_err(|error| anyhow::Error::msg(listener.cannot_bind(&error)))?;
        let index = bound.len() as u16;
        let known = ListenerFacts::new(index, listener, socket.local_addr()?);
        let facts = known.map_err(anyhow::Error::msg)?;
        bound.push((Arc::new(facts), socket));
    }
    Ok(bound)
}

/// What is needed of the log by everyone else.
struct OpenLog {
    log: Log,
    reader: LogReader,
    hooks: Arc<HookTable>,
    places: Places,
    retained: RetainedIndex,
}

fn prepare(
    settings: &Arc<Settings>,
    lock: DirectoryLock,
    listeners: Arc<[Arc<ListenerFacts>]>,
    stop: watch::Sender<bool>,
) -> anyhow::Result<(Arc<Node>, Reception)> {
    let disk = FileDisk::with_writeback(&settings.node.data_dir)
        .context("cannot start the writeback thread")?;
    let cluster_id = cluster_id(&disk).with_context(|| {
        format!(
            "cannot read or write {META_FILE} in {}",
            settings.node.data_dir.display()
        )
    })?;
    let mut open = open_log(settings, &disk)?;
    let workers = worker_count(settings.node.workers);
    let broker = Arc::new(settings.broker());
    let shards = restore::shards(
        &mut open.log,
        workers,
        &restore::Restoring {
            broker: &broker,
            hooks: &open.hooks,
            places: open.places,
            interest: &Arc::new(Interest::new()),
            accept_loss: settings.log.accept_loss,
            skip_entries: &settings.log.skip_entry,
        },
    )?;
    let mirror = Arc::new(Board::new(
        settings.mirror.clone(),
        &cluster_id,
        open.reader.clone(),
    ));
    let ends = mirrored_ends(&open.reader);
    let shards = shards.into_iter().map(|shard| shard.with_mirror(&ends));
    let running = Running::start(
        settings,
        open,
        shards.collect(),
        &broker,
        &listeners,
        &mirror,
    )?;
    let appender = Appender::new(
        running.door.clone(),
        Arc::clone(&running.standing),
        running.reader.clone(),
    );
    let boards = settings.downlinks.iter().cloned();
    let downlinks = boards.map(|downlink| Arc::new(crate::downlink::Board::new(downlink)));
    let downlinks = downlinks.collect();
    let users = users::open(&running.reader, appender.clone())?;
    let tokens = users::open_tokens(&running.reader, appender.clone())?;
    let users = Arc::new(users);
    let bans = Arc::new(users::open_bans(&running.reader, appender)?);
    let auth = Auth::new(&settings.keys, Arc::clone(&users), bans)
        .map_err(|what| anyhow!("clients cannot be asked who they are: {what}"))?;
    // No connection is with a worker before reception serves.
    let _ = running.auth.set(Arc::clone(&auth));
    let stopping = stop.subscribe();
    let node = Arc::new(Node {
        users,
        auth,
        tokens: Arc::new(tokens),
        log: running.reader,
        counters: Arc::clone(&running.counters),
        settings: Arc::clone(settings),
        cluster_id,
        mirror,
        started_ms: wall_ms(),
        listeners,
        downlinks,
        mailboxes: running.mailboxes.clone(),
        retained: running.retained,
        traces: running.traces,
        hooks: Hooks::of(&settings.hooks),
        reloading: tokio::sync::Mutex::default(),
        readers: running.readers,
        backups: running.backups,
        door: running.door,
        standing: running.standing,
        stop,
        stopped: Arc::default(),
        threads: Mutex::new(Some(Threads {
            checkpoint: running.checkpoint,
            workers: running.workers,
            log: running.log_thread,
            lock,
        })),
    });
    node.auth.start();
    tokio::spawn(Arc::clone(&node).end_revoked());
    let reception = Reception::new(
        Arc::clone(&node.auth),
        running.mailboxes,
        Arc::clone(&node.traces),
        running.counters,
        &settings.mqtt,
        stopping,
    );
    Ok((node, reception))
}

fn open_log(settings: &Settings, disk: &FileDisk) -> anyhow::Result<OpenLog> {
    let dir = settings.node.data_dir.display();
    let now_ms = wall_ms();
    let mut log = Log::open(Arc::new(disk.clone()), settings.log.log_config(), now_ms)
        .with_context(|| format!("cannot open the log in {dir}"))?;
    let recovery = log.recovery();
    for notice in &recovery.notices {
        warn!(path = notice.path, "{}", notice.what);
    }
    if let Some(end) = &recovery.end {
        debug!(path = end.path, "{}", end.what);
    }
    info!(
        clean = recovery.clean,
        entries = recovery.entries,
        "log opened in {dir}"
    );
    for said in &settings.streams {
        if said.implied && log.reader().stream(&said.name).is_some() {
            // Nobody wrote what it should be like, so what was altered over Kafka stays.
            continue;
        }
        let mut stream = said.to_log();
        stream.topic_id = random::bytes();
        let name = stream.name.clone();
        log.ensure_stream(stream, now_ms)
            .with_context(|| format!("stream {name}"))?;
    }
    let mirror = settings.mirror.as_ref();
    for meta in log.reader().streams().iter() {
        let mut stream = meta.settings.clone();
        if stream.ack != Ack::Kafka || mirror.is_some_and(|it| it.mirrors(&stream.name)) {
            continue;
        }
        warn!(
            stream = stream.name,
            "the stream has ack = \"kafka\" and is not mirrored any more: its answers leave once it is flushed"
        );
        stream.ack = Ack::Flush;
        log.ensure_stream(stream, now_ms)?;
    }
    for mut stream in internal_streams() {
        stream.topic_id = random::bytes();
        let name = stream.name.clone();
        log.ensure_stream(stream, now_ms)
            .with_context(|| format!("stream {name}"))?;
    }
    let reader = log.reader();
    let hooks: Vec<_> = super::hooks::compiled_at_start(&settings.hooks);
    let hooks = HookTable::compile(&settings.node.name, &hooks, &reader.streams())
        .map_err(|failure| anyhow!("a hook cannot be used: {failure}"))?;
    let partition = |name: &str| {
        let stream = reader
            .stream(name)
            .with_context(|| format!("there is no stream {name}"))?;
        stream
            .partitions
            .first()
            .copied()
            .with_context(|| format!("{name} has no partition"))
    };
    let places = Places {
        sessions: partition(SESSIONS)?,
    };
    let retained = restore::retained(
        &reader,
        hooks.retained_partition(),
        settings.mqtt.retained_max as usize,
    )?;
    Ok(OpenLog {
        log,
        hooks: Arc::new(hooks),
        places,
        retained,
        reader,
    })
}

const SESSIONS: &str = "__sluice.sessions";
const RETAINED: &str = "__sluice.retained";
const OFFSETS: &str = "__sluice.offsets";
const TRANSACTIONS: &str = "__sluice.transactions";
const SYS: &str = "__sluice.sys";
/// Positions of the downlinks.
pub const DOWNLINKS: &str = "__sluice.downlinks";

/// What is kept of the audit stream: 90 days.
const AUDIT_RETENTION_MS: u64 = 90 * 24 * 3_600_000;

/// The streams that the node keeps for itself.
fn internal_streams() -> [StreamSettings; 10] {
    let table = |name| StreamSettings {
        ack: Ack::Append,
        compact: true,
        internal: true,
        ..StreamSettings::new(name)
    };
    let sys = StreamSettings {
        ack: Ack::Memory,
        storage: Storage::Memory,
        internal: true,
        ..StreamSettings::new(SYS)
    };
    let flushed = |name| StreamSettings {
        ack: Ack::Flush,
        ..table(name)
    };
    let audit = StreamSettings {
        ack: Ack::Append,
        internal: true,
        retention_ms: Some(AUDIT_RETENTION_MS),
        ..StreamSettings::new(super::AUDIT)
    };
    [
        table(SESSIONS),
        table(RETAINED),
        table(OFFSETS),
        table(TRANSACTIONS),
        table(DOWNLINKS),
        flushed(users::USERS),
        flushed(users::TOKENS),
        flushed(users::BANS),
        audit,
        sys,
    ]
}

fn worker_count(wanted: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // One core in eight, at least one, is left to the log thread, the flush thread and the doors.
    let automatic = cores - cores.div_ceil(8);
    let count = if wanted == 0 { automatic } else { wanted };
    count.clamp(1, WORKERS_MAX)
}

/// The identity of a data directory: made once, kept for ever.
fn cluster_id(disk: &FileDisk) -> io::Result<String> {
    const KEY: &str = "cluster.id=";
    if disk.exists(META_FILE) {
        let file = disk.open(META_FILE, Open::Read)?;
        let mut bytes = vec![0; file.len()?.min(4096) as usize];
        let read = file.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes[..read]);
        let found = text.lines().find_map(|line| line.trim().strip_prefix(KEY));
        return found.map(str::to_owned).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{META_FILE} has no {KEY}"),
            )
        });
    }
    let id = random::kafka_uuid();
    let fresh = format!("{META_FILE}.new");
    let file = disk.open(&fresh, Open::Create)?;
    file.set_len(0)?;
    file.write_at(&[format!("version=1\n{KEY}{id}\n").as_bytes()], 0)?;
    file.sync_all()?;
    disk.rename(&fresh, META_FILE)?;
    disk.sync_dir("")?;
    Ok(id)
}

/// All threads, and what others need to reach them.
struct Running {
    traces: Arc<Traces>,
    readers: Readers,
    backups: backup::Jobs,
    reader: LogReader,
    auth: Arc<OnceLock<Arc<Auth>>>,
    counters: Arc<Counters>,
    mailboxes: Vec<Arc<Mailbox>>,
    retained: Arc<RwLock<RetainedIndex>>,
    door: LogDoor,
    standing: Arc<Standing>,
    checkpoint: checkpoint::Handle,
    workers: Vec<JoinHandle<()>>,
    log_thread: JoinHandle<()>,
}

/// One worker's ends before it runs.
struct Ends {
    poll: Poll,
    turns: TurnSender,
}

impl Running {
    fn start(
        settings: &Settings,
        open: OpenLog,
        shards: Vec<Shard>,
        broker: &BrokerSettings,
        listeners: &Arc<[Arc<ListenerFacts>]>,
        mirror: &Arc<Board>,
    ) -> anyhow::Result<Self> {
        let OpenLog {
            log,
            reader,
            hooks,
            places,
            retained,
        } = open;
        let counters = Arc::new(Counters::new(shards.len()));
        let retained = Arc::new(RwLock::new(retained));
        let standing = Arc::new(Standing::new(reader.appended_to()));
        let wake = Arc::new(Wake::default());
        let (requests, door_end) = channel();
        let desk = Arc::new(Desk::default());
        let door = LogDoor::new(
            requests,
            Arc::clone(&standing),
            Arc::clone(&wake),
            Arc::clone(&desk),
        );
        let brake = Arc::new(Brake::default());
        let credit_bytes = rings::credit_bytes(shards.len(), settings.log.journal_bytes);
        let (mailboxes, ends, rings) = connect_workers(shards.len(), || {
            rings::ring(credit_bytes, Arc::clone(&brake), Arc::clone(&wake))
        })?;
        let readers = Readers::start(
            reader.clone(),
            Arc::clone(&hooks),
            Arc::clone(&retained),
            &mailboxes,
        )?;
        let log_thread = LogThread::new(log_thread::Parts {
            dir: settings.node.data_dir.clone(),
            log,
            reader: reader.clone(),
            rings,
            requests: door_end,
            mailboxes: mailboxes.clone(),
            retained: Arc::clone(&retained),
            flusher: Flusher::start(door.clone(), Arc::clone(&counters))?,
            policy: FlushPolicy::new(
                settings.log.commits_per_s_max,
                settings.log.flush_bytes,
                settings.log.flush_ms_max,
            ),
            flush_interval_us: 1_000_000 / u64::from(settings.log.commits_per_s_max.max(1)),
            wake: Arc::clone(&wake),
            // Twice: records and their heads take more than the turns weigh.
            room_bytes: 2 * (credit_bytes * mailboxes.len()) as u64,
            brake: Arc::clone(&brake),
            standing: Arc::clone(&standing),
            counters: Arc::clone(&counters),
        });
        let clock = Clock::start();
        let traces = Arc::new(Traces::default());
        let (backups, jobs) = channel();
        let auth = Arc::new(OnceLock::new());
        let mut workers = Vec::with_capacity(shards.len());
        for (index, (shard, Ends { poll, turns })) in shards.into_iter().zip(ends).enumerate() {
            workers.push(Worker::new(worker::Parts {
                index: index as u16,
                poll,
                shard,
                out: Outbox::new(Turn::new(Arc::clone(&hooks))),
                turns,
                mailboxes: mailboxes.clone(),
                readers: readers.clone(),
                log: reader.clone(),
                patient: patient_partitions(&reader),
                counters: Arc::clone(&counters),
                listeners: Arc::clone(listeners),
                auth: Arc::clone(&auth),
                runtime: tokio::runtime::Handle::current(),
                clock,
                traces: Arc::clone(&traces),
                packet_size_max: broker.packet_size_max,
                output_high_bytes: broker.send_buffer_bytes_max as usize,
                output_low_bytes: broker.output_low_bytes(),
            }));
        }
        // All posts of `Started` lie in the mailboxes now, before the first commit.
        let log_thread = spawn("log", move || desk.run(log_thread, &wake))?;
        let mut threads = Vec::with_capacity(workers.len());
        for (index, worker) in workers.into_iter().enumerate() {
            threads.push(spawn(&format!("worker-{index}"), move || worker.run())?);
        }
        let checkpoint = checkpoint::start(checkpoint::Parts {
            door: door.clone(),
            log: reader.clone(),
            mailboxes: mailboxes.clone(),
            sessions: places.sessions,
            retained_table: hooks.retained_partition(),
            retained: Arc::clone(&retained),
            mirror: Arc::clone(mirror),
            brake,
            jobs,
            counters: Arc::clone(&counters),
            interval_s: settings.log.checkpoint_s,
            flush_ms_max: settings.log.flush_ms_max,
            fill_percent: settings.log.checkpoint_fill_percent,
            retention_s: settings.log.retention_check_s,
        })?;
        Ok(Self {
            traces,
            readers,
            backups,
            reader,
            auth,
            counters,
            mailboxes,
            retained,
            door,
            standing,
            checkpoint,
            workers: threads,
            log_thread,
        })
    }
}

/// What is in the partitions whose publishers wait for the cluster behind.
fn mirrored_ends(reader: &LogReader) -> Vec<(PartitionId, u64)> {
    let streams = reader.streams();
    let mirrored = streams
        .iter()
        .filter(|stream| stream.settings.ack == Ack::Kafka);
    let end = |id| reader.watermarks(id).map_or(0, |marks| marks.appended);
    mirrored
        .flat_map(|stream| stream.partitions.iter().map(|&id| (id, end(id))))
        .collect()
}

/// The partitions whose appends are waited for until they are flushed, not before.
fn patient_partitions(reader: &LogReader) -> HashSet<PartitionId> {
    let streams = reader.streams();
    let patient = streams
        .iter()
        .filter(|stream| stream.settings.ack >= Ack::Flush);
    patient
        .flat_map(|stream| stream.partitions.iter().copied())
        .collect()
}

type Connected = (Vec<Arc<Mailbox>>, Vec<Ends>, Vec<rtrb::Consumer<TurnOrder>>);

fn connect_workers(
    count: usize,
    ring: impl Fn() -> (TurnSender, rtrb::Consumer<TurnOrder>),
) -> anyhow::Result<Connected> {
    let mut mailboxes = Vec::with_capacity(count);
    let mut ends = Vec::with_capacity(count);
    let mut consumers = Vec::with_capacity(count);
    for _ in 0..count {
        let poll = Poll::new().context("cannot make an epoll instance")?;
        let waker = Waker::new(poll.registry(), worker::WAKE).context("cannot make an eventfd")?;
        mailboxes.push(Arc::new(Mailbox::new(waker)));
        let (turns, consumer) = ring();
        ends.push(Ends { poll, turns });
        consumers.push(consumer);
    }
    Ok((mailboxes, ends, consumers))
}

/// Starts a thread whose panic ends the process: a half-changed shard or log must not go on, and
/// nobody may wait for a thread that is gone.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            if ended.is_err() {
                std::process::abort();
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Restores the shards, with these journal entries left out.
    fn restore(open: &mut OpenLog, settings: &Settings, skip: &[u64]) -> anyhow::Result<()> {
        let restoring = restore::Restoring {
            broker: &Arc::new(settings.broker()),
            hooks: &open.hooks,
            places: open.places,
            interest: &Arc::new(Interest::new()),
            accept_loss: false,
            skip_entries: skip,
        };
        restore::shards(&mut open.log, 2, &restoring).map(drop)
    }

    /// Compaction before the first checkpoint of this life must not drop what replay still matches
    /// by, or a second crash loses messages owed to sessions.
    #[test]
    fn the_session_table_is_held_back_from_the_start_on() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::for_tests(folder.path());
        let mut open = open_log(&settings, &FileDisk::new(folder.path())).unwrap();
        let sessions = open.places.sessions;
        assert_eq!(open.log.pinned(sessions), None);
        restore(&mut open, &settings, &[]).unwrap();
        assert_eq!(open.log.pinned(sessions), Some(0));
    }

    #[test]
    fn a_journal_entry_of_another_version_is_named_and_can_be_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::for_tests(folder.path());
        let again = || open_log(&settings, &FileDisk::new(folder.path())).unwrap();
        let mut open = again();
        let mut batch = commitlog::BatchBuilder::new();
        // A session of the client x, in the format 99.
        batch.push(1, Some(b"c\0\0\0\x01x"), Some(&[99, 0, 0]), &[]);
        let append = commitlog::Append::new(open.places.sessions, batch.finish());
        let entry = commitlog::Entry {
            appends: vec![append],
            ops: Vec::new(),
        };
        let lsn = open.log.stage(entry, 1).unwrap().lsn;
        open.log.write().unwrap();
        drop(open);
        let mut open = again();
        for skipped in [vec![], vec![lsn + 1]] {
            let said = restore(&mut open, &settings, &skipped)
                .unwrap_err()
                .to_string();
            let place =
                format!("journal entry {lsn}: stream __sluice.sessions, offset 0: a session");
            assert!(said.contains(&place), "{said}");
            assert!(said.contains(&format!("--skip-entry {lsn},")), "{said}");
        }
        restore(&mut open, &settings, &[lsn]).unwrap();
    }
}
