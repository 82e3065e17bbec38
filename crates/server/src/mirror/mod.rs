//! The mirror: reads flushed records of local streams and writes them into an Apache Kafka cluster,
//! each once. It knows the log and the node's handles; who published a record it does not know.

mod board;
#[cfg(feature = "kafka")]
mod check;
#[cfg(feature = "kafka")]
mod cluster;
#[cfg(feature = "kafka")]
mod connect;
#[cfg(feature = "kafka")]
pub mod dead_letter;
#[cfg(feature = "kafka")]
mod described;
#[cfg(feature = "kafka")]
mod failures;
#[cfg(feature = "kafka")]
mod fencing;
#[cfg(feature = "kafka")]
mod gather;
#[cfg(feature = "kafka")]
mod kept;
#[cfg(feature = "kafka")]
mod lanes;
#[cfg(feature = "kafka")]
mod limits;
#[cfg(feature = "kafka")]
mod native;
#[cfg(feature = "kafka")]
mod positions;
#[cfg(feature = "kafka")]
mod round;
#[cfg(feature = "kafka")]
mod shard;
mod switch;
#[cfg(feature = "kafka")]
mod topics;
pub mod view;
#[cfg(feature = "kafka")]
mod watch;
#[cfg(feature = "kafka")]
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::node::Node;

#[cfg(feature = "kafka")]
pub use check::check_connection;
#[cfg(feature = "kafka")]
pub(crate) use cluster::{Cluster, TopicState, Trouble, attend, topic_state};
#[cfg(feature = "kafka")]
pub(crate) use described::topic as described_topic;
#[cfg(feature = "kafka")]
pub(crate) use native::{Ears, known_end, message_headers};

pub use board::{Board, Standing, State, StreamFigures};

/// Most threads, unless more are configured.
#[cfg(feature = "kafka")]
const SHARDS_MAX: usize = 16;

/// What is wrong with a property of librdkafka and its value, if the library says so.
#[cfg(feature = "kafka")]
pub fn bad_property(name: &str, value: &str) -> Option<String> {
    let mut config = rdkafka::ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Err(rdkafka::error::KafkaError::ClientConfig(_, what, _, _)) => Some(what),
        Err(error) => Some(error.to_string()),
        Ok(_) => None,
    }
}

/// This build cannot reach a cluster.
///
/// # Errors
/// Always; says how to build the program with the mirror.
#[cfg(not(feature = "kafka"))]
pub fn check_connection(
    _settings: &crate::settings::MirrorSettings,
    _downlinks: &[crate::settings::DownlinkSettings],
    _told: &mut dyn FnMut(&str),
) -> Result<(), String> {
    Err(format!(
        "this program was built without the mirror; build it with: {}",
        crate::settings::BUILD_WITH_MIRROR
    ))
}

/// Without the library nothing is known of its properties.
#[cfg(not(feature = "kafka"))]
pub fn bad_property(_name: &str, _value: &str) -> Option<String> {
    None
}

/// The running mirror.
#[derive(Default)]
pub struct Mirror {
    stop: Arc<AtomicBool>,
    /// Watches the threads.
    watching: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Starts the threads that [mirror] asks for; none without it. Call it inside a tokio
    /// multi-thread runtime.
    ///
    /// # Errors
    /// When a thread cannot be started.
    #[cfg(feature = "kafka")]
    pub fn start(node: &Arc<Node>) -> std::io::Result<Self> {
        let mut mirror = Self::default();
        let Some(settings) = node.mirror.settings() else {
            return Ok(mirror);
        };
        let settings = Arc::new(settings.clone());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shards = match settings.shards {
            0 => cores.div_ceil(4).min(SHARDS_MAX),
            shards => shards,
        } as u32;
        let process = crate::node::random::kafka_uuid();
        let claim = positions::Claim::new(node.cluster_id.clone(), &process, shards);
        node.mirror.begins(shards as usize);
        let claimed: Arc<[AtomicBool]> = (0..shards).map(|_| AtomicBool::new(false)).collect();
        let (fenced_others, slots) = (Arc::default(), Arc::default());
        let kept = kept::Kept::read(&node.settings.node.data_dir);
        let kept = Arc::new(std::sync::Mutex::new(kept));
        let runtime = tokio::runtime::Handle::current();
        let (own, stop) = (Arc::clone(node), Arc::clone(&mirror.stop));
        let run = move |shard, pulse| {
            shard::Shard::run(shard::Parts {
                shard: (shard, shards),
                settings: Arc::clone(&settings),
                node: Arc::clone(&own),
                claim: claim.clone(),
                stop: Arc::clone(&stop),
                fenced_others: Arc::clone(&fenced_others),
                slots: Arc::clone(&slots),
                claimed: Arc::clone(&claimed),
                kept: Arc::clone(&kept),
                pulse,
                runtime: runtime.clone(),
            });
        };
        let bounds = watch::Bounds {
            first: limits::BACK,
            look: limits::LOOK,
            away_max: limits::AWAY_MAX,
            stop: limits::STOP,
        };
        let (own, stop) = (Arc::clone(node), Arc::clone(&mirror.stop));
        let told = move |shard, event, away| shard::stayed_away(&own, shard, event, away);
        let watch = watch::Watch::start(shards, bounds, stop, run, told)?;
        let thread = std::thread::Builder::new().name("mirror".to_owned());
        let watching = thread.spawn(move || {
            // A call of librdkafka can outlast its timeout while the cluster is silent; what it has
            // begun is undone by the next start.
            if !watch.keep() {
                tracing::warn!("the mirror does not wait for the cluster any longer");
            }
        })?;
        mirror.watching = Some(watching);
        Ok(mirror)
    }

    /// This build has no mirror; a configuration that asks for one was refused before.
    #[cfg(not(feature = "kafka"))]
    pub fn start(_node: &Arc<Node>) -> std::io::Result<Self> {
        Ok(Self::default())
    }

    /// Lets the rounds that run come to their end, for a few seconds, and ends the threads.
    /// Blocks.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        let Some(watching) = self.watching else {
            return;
        };
        watching.thread().unpark();
        if watching.join().is_err() {
            tracing::error!("the thread that watches the mirror did not end in order");
        }
    }
}
