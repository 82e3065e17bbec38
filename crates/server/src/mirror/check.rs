//! `sluice check --connect`: walks the way that the mirror and the downlinks will take, step by step,
//! and says in one line where it ends. It writes nothing into the cluster and fences nobody.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer as _;

use super::cluster::{
    self, Cluster, POSITIONS_PARTITIONS, TopicState, Trouble, attend, committed, topic_state,
};
use super::described::{self, Right};
use super::native::{Ears, Native};
use super::words::plain;
use crate::settings::{DownlinkSettings, DownlinkSource, MirrorSettings};

/// Longest wait for one step.
const STEP: Duration = Duration::from_secs(8);

/// Tries the way to the cluster, for the mirror and for the downlinks that read topics there; `told`
/// hears each step that succeeded.
///
/// # Errors
/// What is wrong, in one line.
pub fn check_connection(
    settings: &MirrorSettings,
    downlinks: &[DownlinkSettings],
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
    let way = Way { cluster, consumer };
    for mirrored in &settings.streams {
        let partitions = mirrored.partitions.unwrap_or(1);
        if way.topic(&mirrored.topic, partitions, told)?.is_some() {
            way.may_write(&mirrored.topic)?;
        }
    }
    way.positions(told)?;
    if settings.exactly_once {
        transactions(settings, identity)?;
        told("transactions can be begun");
    }
    for downlink in downlinks {
        if let DownlinkSource::Topic(topic) = &downlink.source {
            way.source(downlink, topic)?;
            let name = &downlink.name;
            told(&format!("topic {topic} of the downlink {name} can be read"));
        }
    }
    Ok(())
}

/// A cluster that answers.
struct Way<'a> {
    cluster: Cluster<'a>,
    consumer: BaseConsumer<Ears>,
}

impl Way<'_> {
    /// A topic that the mirror needs: its partitions, or `None` where it will be created.
    fn topic(
        &self,
        topic: &str,
        partitions: u32,
        told: &mut dyn FnMut(&str),
    ) -> Result<Option<u32>, String> {
        match self.state(topic)? {
            TopicState::Ready(partitions) => {
                told(&format!("topic {topic} has {partitions} partitions"));
                Ok(Some(partitions))
            }
            TopicState::Leaderless(_) => Err(leaderless(topic)),
            TopicState::Forbidden => Err(unseen(topic)),
            TopicState::Missing if self.cluster.settings.create_topics => {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                let runtime = runtime.map_err(|error| error.to_string())?;
                let could = self
                    .cluster
                    .could_create(runtime.handle(), topic, partitions);
                could.map_err(|trouble| said(&trouble))?;
                told(&format!("topic {topic} is not there and will be created"));
                Ok(None)
            }
            TopicState::Missing => Err(format!(
                "unknown topic {topic}: create it, or write create_topics = true"
            )),
        }
    }

    fn state(&self, topic: &str) -> Result<TopicState, String> {
        topic_state(&self.consumer, &self.cluster.ears, topic, STEP)
            .map_err(|trouble| said(&trouble))
    }

    fn may_write(&self, topic: &str) -> Result<(), String> {
        match described::topic(&self.consumer, topic, STEP) {
            Ok(described) if described.forbids(Right::Write) => Err(format!(
                "not authorised: the user may not write the topic {topic}"
            )),
            Err(Code::TopicAuthorizationFailed) => Err(unseen(topic)),
            // Whoever is not told finds out by writing.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The group whose offsets are the positions, and the topic that they are offsets of.
    fn positions(&self, told: &mut dyn FnMut(&str)) -> Result<(), String> {
        let topic = self.cluster.settings.positions_topic.as_str();
        let slots = self.topic(topic, POSITIONS_PARTITIONS, told)?;
        let described = slots.map(|_| described::topic(&self.consumer, topic, STEP));
        if matches!(&described, Some(Ok(described)) if described.forbids(Right::Read)) {
            return Err(format!(
                "not authorised: the user may not read the topic {topic}, whose offsets are the positions"
            ));
        }
        let group = cluster::group(self.cluster.identity);
        self.may_commit(&group, "the positions of the mirror")?;
        if let Some(slots) = slots {
            let found = committed(&self.consumer, &self.cluster.ears, topic, 0..slots);
            found.map_err(|trouble| said(&trouble))?;
            told("the positions can be read");
        }
        Ok(())
    }

    fn may_commit(&self, group: &str, what: &str) -> Result<(), String> {
        let refused = match described::group(&self.consumer, group, STEP) {
            Ok(described) => described.forbids(Right::Read),
            Err(code) => code == Code::GroupAuthorizationFailed,
        };
        if refused {
            return Err(format!(
                "not authorised: the user may not commit {what} to the group {group}"
            ));
        }
        Ok(())
    }

    /// A topic that a downlink reads: it is there, has leaders, and may be read.
    fn source(&self, downlink: &DownlinkSettings, topic: &str) -> Result<(), String> {
        let name = &downlink.name;
        match self.state(topic)? {
            TopicState::Ready(_) => {}
            TopicState::Leaderless(_) => return Err(leaderless(topic)),
            TopicState::Forbidden => return Err(unseen(topic)),
            TopicState::Missing => {
                return Err(format!(
                    "unknown topic {topic}: the downlink {name} reads it, and creates none"
                ));
            }
        }
        let described = described::topic(&self.consumer, topic, STEP);
        if described.is_ok_and(|described| described.forbids(Right::Read)) {
            return Err(format!(
                "not authorised: the user may not read the topic {topic} of the downlink {name}"
            ));
        }
        self.may_commit(&downlink.group, &format!("where the downlink {name} is"))
    }
}

fn leaderless(topic: &str) -> String {
    format!("a partition of the topic {topic} has no leader")
}

fn unseen(topic: &str) -> String {
    format!("not authorised: the user may not see the topic {topic}")
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
