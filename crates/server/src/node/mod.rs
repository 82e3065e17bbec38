//! The engine room: reception, workers, log, flush and reader threads, and the handle through
//! which Kafka front door, HTTP and `main` reach them. It knows no Kafka and no HTTP.

mod access;
mod appender;
mod backup;
mod bell;
mod checkpoint;
mod clock;
pub mod counters;
mod deposit;
mod desk;
mod disk;
mod door;
mod flush_thread;
mod gathering;
mod hooks;
mod line;
mod log_thread;
mod mailbox;
mod mirrored;
pub(crate) mod random;
mod readers;
pub mod reception;
mod restore;
mod retention;
mod rings;
mod startup;
mod sys;
mod trace;
mod transport;
mod users;
mod worker;
mod writeback;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use anyhow::Context as _;
use broker::RetainedIndex;
use broker::{Carried, Parcel, Refusal};
pub use broker::{ClientQuery, ClientRow, ShardStats, SubscriptionQuery};
use commitlog::{Entry, LogReader, Lsn, Op, PartitionId, StreamSettings};
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tracing::info;

use crate::auth::{Auth, Ban, BanError, BanKind, Tokens, Users};
use crate::mirror::Board;
use crate::mirror::view::MirrorView;
use crate::settings::Settings;

pub use appender::{Appender, Flushing, Submitted};
pub use backup::{Backup, BackupError, restore_backup};
pub use bell::Bell;
pub use clock::{system_ms, wall_ms};
pub use counters::{CounterValues, Counters};
pub use deposit::{Deposit, DepositError, Deposited};
pub use disk::FileDisk;
pub use door::{AppendError, Appended, Health};
use door::{LogDoor, Request, Standing};
pub use hooks::{HookChangeError, HookState};
use mailbox::{Ask, Mailbox};
pub use mailbox::{ClientTold, ConnectionTold};
pub use reception::{ListenerFacts, ListenerRow};
pub use startup::DOWNLINKS;
pub use trace::{TraceLine, TraceQuery, Traces, Tracing};

/// The stream of all changes that were made over the HTTP API.
pub const AUDIT: &str = "__sluice.audit";

/// Most rows of one page of clients.
const PAGE_ROWS_MAX: usize = 1000;

/// A running node. Dropping the handle does not stop it: see [`Node::shutdown`].
pub struct Node {
    /// Reads the log; cheap to clone.
    pub log: LogReader,
    /// What the node's threads count.
    pub counters: Arc<Counters>,
    /// What the node was started with.
    pub settings: Arc<Settings>,
    /// Identity of this data directory towards Kafka clients; 22 characters of base64url.
    pub cluster_id: String,
    /// How far the mirror is and how it stands.
    pub mirror: Arc<Board>,
    /// When the node started, ms since the epoch.
    pub started_ms: u64,
    /// Who may log in, by whichever door.
    pub users: Arc<Users>,
    /// Who may use the HTTP API from elsewhere.
    pub tokens: Arc<Tokens>,
    listeners: Arc<[Arc<ListenerFacts>]>,
    /// How the downlinks stand, in the order of the settings.
    pub downlinks: Arc<[Arc<crate::downlink::Board>]>,
    /// Who comes in by MQTT and what each may do; bans are in it.
    pub auth: Arc<Auth>,
    mailboxes: Vec<Arc<Mailbox>>,
    retained: Arc<RwLock<RetainedIndex>>,
    /// Who traces packets.
    pub traces: Arc<Traces>,
    hooks: hooks::Hooks,
    /// Held while authenticators and rules change.
    reloading: tokio::sync::Mutex<()>,
    readers: readers::Readers,
    backups: backup::Jobs,
    door: LogDoor,
    standing: Arc<Standing>,
    stop: watch::Sender<bool>,
    stopped: Arc<AtomicBool>,
    threads: Mutex<Option<Threads>>,
}

/// What is joined at the end, in this order.
struct Threads {
    checkpoint: checkpoint::Handle,
    workers: Vec<JoinHandle<()>>,
    log: JoinHandle<()>,
    lock: disk::DirectoryLock,
}

/// What a node says about itself.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name, as in hook records.
    pub node: String,
    /// Version of the program.
    pub version: &'static str,
    /// Identity of the data directory towards Kafka clients.
    pub cluster_id: String,
    /// When it started, ms since the epoch.
    pub started_ms: u64,
    /// Seconds since then.
    pub uptime_s: u64,
    /// Whether it takes appends.
    pub health: Health,
    /// MQTT worker threads.
    pub workers: usize,
    /// MQTT connections open now.
    pub connections: u64,
    /// Retained messages.
    pub retained: u64,
    /// Last journal entry that is readable.
    pub appended_lsn: Lsn,
    /// Last journal entry that survives a power cut.
    pub flushed_lsn: Lsn,
    /// Size of the journal.
    pub journal_bytes: u64,
    /// What of it waits for a checkpoint.
    pub journal_used_bytes: u64,
    /// Free space on the data directory's file system; `None`: the system does not say.
    pub disk_free_bytes: Option<u64>,
}

/// A page of clients.
#[derive(Debug, Clone)]
pub struct ClientPage {
    /// In the order asked for.
    pub clients: Vec<ClientRow>,
    /// Where the next page starts; `None`: this was the last.
    pub next: Option<(broker::OrderKey, String)>,
}

impl Node {
    /// Takes the data directory, recovers the log, restores the sessions, starts the threads and
    /// serves the MQTT listeners. Call it inside a tokio multi-thread runtime. Fails, naming file
    /// and position or listener and option, when any of that cannot be done.
    pub async fn start(settings: Settings) -> anyhow::Result<Arc<Self>> {
        startup::start(settings).await
    }

    /// The addresses really bound, in the order of the MQTT listeners.
    pub fn mqtt_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|facts| facts.address).collect()
    }

    /// The listeners for MQTT, with what each counts, in the order of the configuration.
    pub fn mqtt_listeners(&self) -> &[Arc<ListenerFacts>] {
        &self.listeners
    }

    /// Whether the node takes appends.
    pub fn health(&self) -> Health {
        self.standing.health()
    }

    /// What the node says about itself.
    pub fn status(&self) -> Status {
        let (journal_used_bytes, journal_bytes) = self.log.journal_fill();
        Status {
            node: self.settings.node.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: self.cluster_id.clone(),
            started_ms: self.started_ms,
            uptime_s: self.uptime_s(),
            health: self.health(),
            workers: self.mailboxes.len(),
            connections: self.counters.connections(),
            retained: self.retained_count(),
            appended_lsn: self.log.appended_to(),
            flushed_lsn: self.log.flushed_to(),
            journal_bytes,
            journal_used_bytes,
            disk_free_bytes: self.log.free_bytes(),
        }
    }

    /// Seconds since the start.
    pub fn uptime_s(&self) -> u64 {
        wall_ms().saturating_sub(self.started_ms) / 1000
    }

    /// Rings this bell after each flush, for as long as somebody has it.
    pub fn ring_on_flush(&self, bell: &Arc<Bell>) {
        self.standing.ring_on_flush(bell);
    }

    /// Whether the node is being stopped.
    pub fn stopping(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The mirror as rows; cheap.
    pub fn mirror_view(&self) -> MirrorView {
        self.mirror.view()
    }

    /// Switches the mirror off or on until the node stops; false where there is none. Off: the
    /// transactions under way come to their end, none is begun, and what comes stays on the disk.
    pub fn switch_mirror(&self, on: bool) -> bool {
        if self.mirror.settings().is_none() {
            return false;
        }
        if self.mirror.switch(on) {
            let now = if on { "on" } else { "off" };
            tracing::info!(now, "the mirror is switched");
            self.standing.ring_bells();
        }
        true
    }

    /// Tells that the Apache Kafka cluster has a partition's records up to `next_offset`; once all
    /// partitions of a transaction are told, [`Node::mirrored_moved`].
    pub fn mirrored(&self, partition: PartitionId, next_offset: u64) {
        self.mirror.mirrored(partition, next_offset);
        self.log.set_mirrored(partition, next_offset);
    }

    /// Tells that the cluster will never have these records, before [`Node::mirrored`] passes them.
    pub fn never_mirrored(&self, partition: PartitionId, offsets: Range<u64>) {
        self.log.set_unmirrored(partition, offsets);
    }

    /// Wakes who waits for the cluster.
    pub fn mirrored_moved(&self) {
        for mailbox in &self.mailboxes {
            mailbox.nudge();
        }
        self.standing.mirrored();
    }

    /// Retained messages of the node.
    pub fn retained_count(&self) -> u64 {
        self.retained
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u64
    }

    /// A page of clients, gathered from all workers; at most 1,000 rows.
    pub async fn clients(&self, mut query: ClientQuery) -> ClientPage {
        query.limit = query.limit.clamp(1, PAGE_ROWS_MAX);
        let limit = query.limit;
        // One row more tells whether there is another page.
        query.limit += 1;
        let ask = |answer| Ask::Clients {
            query: query.clone(),
            answer,
        };
        let rows = self.ask_all(ask).await.into_iter().flatten();
        let mut rows: Vec<_> = rows.map(|row| (row.key(query.order), row)).collect();
        rows.sort_by(|(a, one), (b, other)| {
            query.compare((a, &one.client_id), (b, &other.client_id))
        });
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more);
        let next = last.map(|(key, row)| (key.clone(), row.client_id.clone()));
        ClientPage {
            clients: rows.into_iter().map(|(_, row)| row).collect(),
            next,
        }
    }

    /// All there is to know of one client; `None` where there is no such session.
    pub async fn client(&self, client_id: &str) -> Option<ClientTold> {
        let (answer, result) = oneshot::channel();
        let ask = Ask::Client {
            client_id: client_id.to_owned(),
            answer,
        };
        self.home(client_id).put(|letters| letters.asks.push(ask));
        result.await.ok().flatten()
    }

    /// A page of subscriptions, gathered from all workers, and whether there are more; at most
    /// 1,000 rows.
    pub async fn subscriptions(
        &self,
        mut query: SubscriptionQuery,
    ) -> (Vec<broker::SubscriptionRow>, bool) {
        let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
        query.limit = limit + 1;
        let ask = |answer| Ask::Subscriptions {
            query: query.clone(),
            answer,
        };
        let mut rows: Vec<_> = self.ask_all(ask).await.into_iter().flatten().collect();
        rows.sort_by(|a, b| query.compare((&a.client_id, &a.filter), (&b.client_id, &b.filter)));
        let more = rows.len() > limit;
        rows.truncate(limit);
        (rows, more)
    }

    /// A page of the retained messages whose topic matches `filter`; `after` is `next` of the page
    /// before.
    pub fn retained(
        &self,
        filter: &str,
        after: Option<&str>,
        limit: usize,
    ) -> broker::RetainedPage {
        let retained = self.retained.read().unwrap_or_else(PoisonError::into_inner);
        retained.find(filter, after, Lsn::MAX, wall_ms(), limit)
    }

    /// Where the retained message of a topic is.
    pub fn retained_at(&self, topic: &str) -> Option<broker::Position> {
        let retained = self.retained.read().unwrap_or_else(PoisonError::into_inner);
        retained.get(topic)
    }

    /// What the shards count, summed.
    pub async fn shard_stats(&self) -> ShardStats {
        let all = self.ask_all(|answer| Ask::Stats { answer }).await;
        all.iter().fold(ShardStats::default(), |mut sum, stats| {
            sum.add(stats);
            sum
        })
    }

    /// Publishes records of a downlink on the worker that their partition is at home with, and keeps
    /// the position behind them in the same entry. `None`: the node stops, and nobody knows.
    pub async fn carry(&self, parcel: Parcel) -> Option<Result<Carried, Refusal>> {
        let workers = self.mailboxes.len() as u32;
        let worker = commitlog::murmur2(&parcel.key).unsigned_abs() % workers;
        let (answer, result) = oneshot::channel();
        let parcel = Box::new(parcel);
        self.mailboxes[worker as usize]
            .put(|letters| letters.asks.push(Ask::Downlink { parcel, answer }));
        result.await.ok()
    }

    /// Bans somebody, and ends the connections that the ban concerns.
    ///
    /// # Errors
    /// See [`crate::auth::Bans::add`].
    pub async fn ban(&self, ban: Ban) -> Result<Ban, BanError> {
        let ban = self.auth.bans.add(ban).await?;
        if ban.kind == BanKind::ClientId {
            self.kick(&ban.value).await;
            return Ok(ban);
        }
        let mut query = ClientQuery {
            connected: Some(true),
            ..ClientQuery::default()
        };
        loop {
            query.limit = PAGE_ROWS_MAX;
            let page = self.clients(query.clone()).await;
            for client in &page.clients {
                let unknown = std::net::Ipv4Addr::UNSPECIFIED.into();
                let address = client.peer.map_or(unknown, |peer| peer.ip());
                let bans = &self.auth.bans;
                if bans
                    .admits(address, &client.client_id, &client.username)
                    .is_err()
                {
                    self.kick(&client.client_id).await;
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(ban),
            }
        }
    }

    /// Closes the connection of a client; false when it has none.
    pub async fn kick(&self, client_id: &str) -> bool {
        let (answer, result) = oneshot::channel();
        let ask = Ask::Kick {
            client_id: client_id.to_owned(),
            answer,
        };
        self.home(client_id).put(|letters| letters.asks.push(ask));
        result.await.unwrap_or(false)
    }

    /// The mailbox of the worker where a client is at home.
    fn home(&self, client_id: &str) -> &Mailbox {
        let workers = self.mailboxes.len() as u16;
        let worker = broker::worker_of(broker::home_of(client_id), workers);
        &self.mailboxes[usize::from(worker)]
    }

    /// Marked changed after each append and after each flush; what to read is in `log`.
    pub fn commit_watch(&self) -> watch::Receiver<Lsn> {
        self.standing.subscribe()
    }

    /// Hands entries to the log.
    pub fn appender(&self) -> Appender {
        Appender::new(
            self.door.clone(),
            Arc::clone(&self.standing),
            self.log.clone(),
        )
    }

    /// Appends an entry; it is readable when this returns, and flushed after [`Node::flushed`].
    pub async fn append(&self, entry: Entry) -> Result<Appended, AppendError> {
        self.appender().submit(entry).await
    }

    /// Waits until everything up to `lsn` survives a power cut.
    pub async fn flushed(&self, lsn: Lsn) -> Result<(), AppendError> {
        self.appender().flushed(lsn, true).await
    }

    /// Makes a stream; answers its partitions.
    pub async fn create_stream(
        &self,
        settings: StreamSettings,
    ) -> Result<Vec<PartitionId>, AppendError> {
        let entry = Entry {
            appends: Vec::new(),
            ops: vec![Op::CreateStream(settings)],
        };
        let mut appended = self.append(entry).await?;
        let made = appended.ops.pop().expect("one answer for each op");
        made.map_err(|refusal| AppendError::Refused(refusal.to_string()))
    }

    /// Stops: nothing new is accepted, MQTT 5 clients get DISCONNECT 0x8B, sessions are suspended,
    /// the log is flushed and marked as closed. Does nothing the second time.
    ///
    /// # Errors
    /// The log could not be flushed or closed: the next start recovers what survived.
    pub async fn shutdown(&self) -> anyhow::Result<()> {
        if self.stopped.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        info!("stopping");
        self.standing.stopping();
        self.stop.send_replace(true);
        self.ask_all(|answer| Ask::Drain { answer }).await;
        let threads = self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(threads) = threads else {
            return Ok(());
        };
        let (mailboxes, door) = (self.mailboxes.clone(), self.door.clone());
        let ended = tokio::task::spawn_blocking(move || threads.end(&mailboxes, &door)).await;
        ended.context("the node's threads did not end in order")?
    }

    /// Has worker 0 publish retained `$SYS` values.
    fn publish_sys(&self, values: Vec<(String, String)>) {
        self.mailboxes[0].put(|letters| letters.asks.push(Ask::Publish(values)));
    }

    async fn ask_all<T>(&self, ask: impl Fn(oneshot::Sender<T>) -> Ask) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.mailboxes.len());
        for mailbox in &self.mailboxes {
            let (answer, result) = oneshot::channel();
            mailbox.put(|letters| letters.asks.push(ask(answer)));
            answers.push(result);
        }
        let mut all = Vec::with_capacity(answers.len());
        for answer in answers {
            // A worker that has ended answers nothing.
            if let Ok(answer) = answer.await {
                all.push(answer);
            }
        }
        all
    }
}

impl Threads {
    /// Workers first, so that nothing is appended any more; the log last.
    fn end(self, mailboxes: &[Arc<Mailbox>], door: &LogDoor) -> anyhow::Result<()> {
        self.checkpoint.stop();
        // Without a snapshot the next start replays what the last one left.
        let snapshot = checkpoint::snapshot(mailboxes, door);
        let shards_at = snapshot.map_or(0, |snapshot| snapshot.shards_at);
        for mailbox in mailboxes {
            mailbox.put(|letters| letters.asks.push(Ask::Stop));
        }
        for worker in self.workers {
            // A panic ends the process, so a thread that is gone has ended well.
            let _ = worker.join();
        }
        for mailbox in mailboxes {
            mailbox.close();
        }
        let (answer, closed) = std::sync::mpsc::channel();
        door.send(Request::Stop { shards_at, answer });
        let closed = closed.recv();
        let _ = self.log.join();
        self.lock.forget_process();
        closed
            .context("the log thread ended before the log was closed")?
            .context("the log could not be closed; the next start recovers what survived")?;
        info!("the log is closed");
        Ok(())
    }
}
