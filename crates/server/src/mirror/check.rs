//! `sluice check --connect`: walks the way that the mirror will take, step by step, and says in one
//! line where it ends. It writes nothing into the cluster and fences nobody.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer as _;

use super::cluster::{Cluster, TopicState, Trouble, attend, committed, topic_state};
use super::native::{Ears, Native};
use super::words::plain;
use crate::settings::MirrorSettings;

/// Longest wait for one step.
const STEP: Duration = Duration::from_secs(8);

/// Tries the way to the cluster; `told` hears each step that succeeded.
///
/// # Errors
/// What is wrong, in one line.
pub fn check_connection(
    settings: &MirrorSettings,
    told: &mut dyn FnMut(&str),
) -> Result<(), String> {
    // Without the data directory its own name is not known; nothing is written under this one.
    let identity = settings.identity.as_deref().unwrap_or("sluice-check");
    let cluster = Cluster {
        settings,
        identity,
        ears: Ears::default(),
    };
    one_reachable(&settings.brokers)?;
    let consumer = cluster.consumer().map_err(|trouble| said(&trouble))?;
    let metadata = metadata(&consumer, &cluster.ears)?;
    told(&format!(
        "{} answers, brokers: {}",
        settings.brokers,
        metadata.brokers().len()
    ));
    for broker in metadata.brokers() {
        let address = format!("{}:{}", broker.host(), broker.port());
        reachable(&address).map_err(|why| {
            format!("the cluster advertises {address}, which cannot be reached from here: {why}")
        })?;
        told(&format!(
            "broker {} at {address} can be reached",
            broker.id()
        ));
    }
    let mut slots = None;
    let positions = (settings.positions_topic.as_str(), None);
    let targets = settings.streams.iter();
    let targets = targets.map(|mirrored| (mirrored.topic.as_str(), Some(&mirrored.stream)));
    for (topic, stream) in targets.chain([positions]) {
        let state =
            topic_state(&consumer, &cluster.ears, topic, STEP).map_err(|trouble| said(&trouble))?;
        match state {
            TopicState::Ready(partitions) => {
                told(&format!("topic {topic} has {partitions} partitions"));
                if stream.is_none() {
                    slots = Some(partitions);
                }
            }
            TopicState::Leaderless(_) => {
                return Err(format!("a partition of the topic {topic} has no leader"));
            }
            TopicState::Forbidden => {
                return Err(format!(
                    "not authorised: the user may not see the topic {topic}"
                ));
            }
            TopicState::Missing if settings.create_topics => {
                told(&format!("topic {topic} is not there and will be created"));
            }
            TopicState::Missing => {
                return Err(format!(
                    "unknown topic {topic}: create it, or write create_topics = true"
                ));
            }
        }
    }
    if let Some(slots) = slots {
        let topic = &settings.positions_topic;
        committed(&consumer, &cluster.ears, topic, 0..slots).map_err(|trouble| said(&trouble))?;
        told("the positions can be read");
    }
    if settings.exactly_once {
        transactions(settings, identity)?;
        told("transactions can be begun");
    }
    Ok(())
}

fn said(trouble: &Trouble) -> String {
    trouble.why().to_owned()
}

/// One of the first brokers takes a connection.
fn one_reachable(brokers: &str) -> Result<(), String> {
    let mut why = String::new();
    for broker in brokers.split(',') {
        match reachable(broker) {
            Ok(()) => return Ok(()),
            Err(error) => why = format!("{broker}: {error}"),
        }
    }
    Err(why)
}

fn reachable(address: &str) -> Result<(), String> {
    let resolved = address.to_socket_addrs();
    let resolved = resolved.map_err(|error| format!("the name cannot be resolved ({error})"))?;
    let mut why = "the name has no address".to_owned();
    for socket in resolved {
        match TcpStream::connect_timeout(&socket, STEP) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "nothing listens there: wrong port, or the broker is down".clone_into(&mut why);
            }
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                "no answer in time (firewall, or the wrong address)".clone_into(&mut why);
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// The brokers of the cluster; on failure what librdkafka complains of until then.
fn metadata(consumer: &BaseConsumer<Ears>, ears: &Ears) -> Result<Metadata, String> {
    let deadline = Instant::now() + STEP;
    let mut heard = None;
    loop {
        // A name that no topic has: the brokers are told all the same, and nothing is created.
        let answer = consumer.fetch_metadata(Some("sluice-check"), Duration::from_secs(1));
        attend(consumer);
        match answer {
            Ok(metadata) => return Ok(metadata),
            Err(error) => {
                let last = ears.heard().map(|text| plain(&text));
                // What names a cause counts more than "no answer".
                heard = last.or(heard);
                let sure = heard
                    .as_deref()
                    .is_some_and(|text| text.starts_with("login refused") || text.contains("TLS"));
                if sure || Instant::now() > deadline {
                    return Err(heard.unwrap_or_else(|| error.to_string()));
                }
            }
        }
    }
}

/// Begins transactions under an id of its own, so that a node that runs is not fenced.
fn transactions(settings: &MirrorSettings, identity: &str) -> Result<(), String> {
    let id = format!("{identity}-check");
    let cluster = Cluster {
        settings,
        identity: &id,
        ears: Ears::default(),
    };
    let config = cluster
        .producer(&format!("{id}-0"))
        .map_err(|trouble| said(&trouble))?;
    let native = Native::new(&config, cluster.ears.clone()).map_err(|error| error.to_string())?;
    let Err(error) = native.producer().init_transactions(STEP) else {
        return Ok(());
    };
    native.serve(|_, _| {});
    if error.rdkafka_error_code() == Some(Code::TransactionalIdAuthorizationFailed) {
        return Err(format!(
            "not authorised: the user may not write the transactional id {id}-0; allow the prefix {identity}-"
        ));
    }
    Err(said(&Trouble::of("transactions", &error, &cluster.ears)))
}
