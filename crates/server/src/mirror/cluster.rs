//! The Apache Kafka cluster as the mirror reaches it: the properties of its clients, the topics it
//! needs, the positions it finds there. Which records go where is not known.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use commitlog::PartitionId;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::limits::{ANSWER, SLOTS, STEP};
use super::native::{Ears, entries};
use super::positions::{self, Claim};
use super::words::plain;
use crate::settings::{MirrorSettings, MirroredStream, Word as _};

/// Why something towards the cluster did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The cluster cannot be reached, or not yet: goes away by itself.
    Waiting(String),
    /// An operator must mend something.
    Failed(String),
    /// Another client has begun with this one's transactional id: a successor, or one that is about
    /// to learn that it is not.
    Fenced(String),
    /// What the cluster holds proves that another process has the identity.
    Replaced(String),
    /// The node stops.
    Stopping,
}

impl Trouble {
    /// What the error of a call means, where nothing better is known.
    pub fn of(what: &str, error: &KafkaError, ears: &Ears) -> Self {
        let heard = ears.heard().map(|text| plain(&text));
        let said = heard.unwrap_or_else(|| error.to_string());
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed,
            ) => Self::Failed(format!("{what}: not authorised ({error})")),
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
                Self::Failed(format!("{what}: {said}"))
            }
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
                Self::Fenced(format!("{what}: {error}"))
            }
            _ => Self::Waiting(format!("{what}: {said}")),
        }
    }

    /// In words.
    pub fn why(&self) -> &str {
        match self {
            Self::Waiting(why) | Self::Failed(why) | Self::Fenced(why) | Self::Replaced(why) => why,
            Self::Stopping => "the node stops",
        }
    }
}

/// Builds clients of the cluster. Secrets are read each time.
pub struct Cluster<'a> {
    /// What was configured.
    pub settings: &'a MirrorSettings,
    /// Name of the node there.
    pub identity: &'a str,
    /// Hears what its clients complain of.
    pub ears: Ears,
}

impl Cluster<'_> {
    /// Properties of every client.
    fn config(&self) -> Result<ClientConfig, Trouble> {
        self.config_over(ClientConfig::new())
    }

    /// The same over defaults, which what the operator wrote may replace. (What the binding tells
    /// of a configuration is without its secrets: it cannot be copied that way.)
    fn config_over(&self, mut config: ClientConfig) -> Result<ClientConfig, Trouble> {
        config
            .set("bootstrap.servers", &self.settings.brokers)
            .set("client.id", self.identity)
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            // The transaction before may not be settled when the next begins: the wait for that is
            // part of each transaction (its default of 100 ms tripled the time to consumers).
            .set("retry.backoff.ms", "10")
            .set("retry.backoff.max.ms", "1000")
            // With `rebootstrap` a transaction can stand still after the only broker restarts.
            .set("metadata.recovery.strategy", "none")
            .set_log_level(RDKafkaLogLevel::Warning);
        let secret = |secret: &crate::settings::Secret| secret.read().map_err(Trouble::Failed);
        let path = |path: &std::path::Path| path.display().to_string();
        let protocol = match (&self.settings.tls, &self.settings.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.settings.tls {
            if let Some(ca) = &tls.ca {
                config.set("ssl.ca.location", path(ca));
            }
            if let Some((certificate, key)) = &tls.certificate {
                config.set("ssl.certificate.location", path(certificate));
                config.set("ssl.key.location", path(key));
            }
            if let Some(password) = &tls.key_password {
                config.set("ssl.key.password", secret(password)?);
            }
        }
        if let Some(sasl) = &self.settings.sasl {
            config.set("sasl.mechanism", sasl.mechanism.word());
            config.set("sasl.username", &sasl.username);
            config.set("sasl.password", secret(&sasl.password)?);
        }
        for (name, value) in &self.settings.client {
            config.set(name, value);
        }
        Ok(config)
    }

    /// Properties of a producer with that transactional id, if there are transactions.
    pub fn producer(&self, transactional_id: &str) -> Result<ClientConfig, Trouble> {
        use super::limits::{MESSAGE_BYTES_MAX, QUEUE_KBYTES_MAX, QUEUE_MESSAGES_MAX};
        let mut config = ClientConfig::new();
        config
            .set("linger.ms", "0")
            // What a record may be is the topic's affair: it refuses what is too large for it.
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set("allow.auto.create.topics", "false")
            .set("batch.num.messages", "10000")
            .set(
                "queue.buffering.max.messages",
                QUEUE_MESSAGES_MAX.to_string(),
            )
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES_MAX.to_string());
        let mut config = self.config_over(config)?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("delivery.report.only.error", "true")
            .set_log_level(RDKafkaLogLevel::Warning);
        if self.settings.exactly_once {
            config.set("transactional.id", transactional_id);
        } else {
            config.set("message.timeout.ms", "0");
        }
        Ok(config)
    }

    /// A consumer that never subscribes: for metadata and for the group's offsets, of which it sees
    /// none while a transaction pends there. It creates no topic by asking for one.
    pub fn consumer(&self) -> Result<BaseConsumer<Ears>, Trouble> {
        self.consumer_of("read_committed")
    }

    /// The same, but it sees the offsets that were committed last, whatever pends.
    pub fn glancing_consumer(&self) -> Result<BaseConsumer<Ears>, Trouble> {
        self.consumer_of("read_uncommitted")
    }

    fn consumer_of(&self, isolation: &str) -> Result<BaseConsumer<Ears>, Trouble> {
        let mut config = self.config()?;
        config
            .set("group.id", group(self.identity))
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation)
            .set("allow.auto.create.topics", "false");
        config
            .create_with_context(self.ears.clone())
            .map_err(|error| Trouble::Failed(plain(&error.to_string())))
    }

    /// A consumer that reads what is assigned to it; `group` is for the offsets that tools see.
    pub fn reader(&self, group: &str) -> Result<BaseConsumer<Ears>, Trouble> {
        let mut config = self.config()?;
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("queued.max.messages.kbytes", "16384")
            .set("allow.auto.create.topics", "false");
        config
            .create_with_context(self.ears.clone())
            .map_err(|error| Trouble::Failed(plain(&error.to_string())))
    }

    /// Creates a topic; it being there already is no error.
    pub fn create(&self, runtime: &Handle, topic: &str, partitions: u32) -> Result<(), Trouble> {
        let asking = AdminOptions::new().request_timeout(Some(ANSWER));
        self.ask_for(runtime, topic, partitions, &asking)
    }

    /// Whether the cluster would create a topic: nothing is created.
    ///
    /// # Errors
    /// Why it would not.
    pub fn could_create(
        &self,
        runtime: &Handle,
        topic: &str,
        partitions: u32,
    ) -> Result<(), Trouble> {
        let asking = AdminOptions::new().request_timeout(Some(ANSWER));
        self.ask_for(runtime, topic, partitions, &asking.validate_only(true))
    }

    fn ask_for(
        &self,
        runtime: &Handle,
        topic: &str,
        partitions: u32,
        options: &AdminOptions,
    ) -> Result<(), Trouble> {
        let config = self.config()?;
        let admin: AdminClient<_> = config
            .create_with_context(self.ears.clone())
            .map_err(|error| Trouble::Failed(error.to_string()))?;
        let replicas = self
            .settings
            .replication_factor
            .map_or(-1, |count| count as i32);
        let fresh = NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(replicas));
        let made = runtime.block_on(admin.create_topics([&fresh], options));
        let what = format!("cannot create the topic {topic}");
        let results = made.map_err(|error| Trouble::of(&what, &error, &self.ears))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((
                    _,
                    RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed,
                )) => return Err(Trouble::Failed(format!("{what}: not authorised"))),
                Err((_, code)) => return Err(Trouble::Failed(format!("{what}: {code}"))),
            }
        }
        Ok(())
    }
}

/// The transactional id of a shard.
pub fn transactional_id(identity: &str, shard: u32) -> String {
    format!("{identity}-{shard}")
}

/// The group whose offsets hold the positions.
pub fn group(identity: &str) -> String {
    format!("{identity}-positions")
}

/// What the cluster says of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicState {
    /// There, with so many partitions, each with a leader.
    Ready(u32),
    /// There, with so many partitions, but some have no leader now.
    Leaderless(u32),
    /// Not there.
    Missing,
    /// The user may not see it.
    Forbidden,
}

/// Asks for one topic.
pub fn topic_state(
    consumer: &BaseConsumer<Ears>,
    ears: &Ears,
    topic: &str,
    timeout: Duration,
) -> Result<TopicState, Trouble> {
    let metadata = consumer.fetch_metadata(Some(topic), timeout);
    let metadata = metadata.map_err(|error| {
        attend(consumer);
        Trouble::of("the cluster does not answer", &error, ears)
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(found.map_or(TopicState::Missing, state_of))
}

fn state_of(topic: &MetadataTopic) -> TopicState {
    let code = topic.error().map(RDKafkaErrorCode::from);
    let leaders = || {
        topic
            .partitions()
            .iter()
            .all(|partition| partition.leader() >= 0)
    };
    match code {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => TopicState::Forbidden,
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            TopicState::Missing
        }
        None if topic.partitions().is_empty() => TopicState::Missing,
        None if leaders() => TopicState::Ready(topic.partitions().len() as u32),
        _ => TopicState::Leaderless(topic.partitions().len() as u32),
    }
}

/// Takes what a consumer has to tell, so that its ears hear it.
pub fn attend(consumer: &BaseConsumer<Ears>) {
    for _ in 0..16 {
        if consumer.poll(Duration::ZERO).is_none() {
            return;
        }
    }
}

/// What became of a look at a topic that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It can be used; so many partitions.
    Ready(u32),
    /// It is there, but a partition has no leader now.
    Leaderless,
    /// It was not there, and its creation was asked for.
    Created,
}

/// The topics that the mirror needs, looked for by one consumer.
pub struct Topics<'a> {
    /// Where they are.
    pub cluster: &'a Cluster<'a>,
    /// Asks.
    pub consumer: &'a BaseConsumer<Ears>,
    /// For the calls that are futures.
    pub runtime: &'a Handle,
}

impl Topics<'_> {
    /// Looks for a topic, and asks for its creation, with so many partitions, where it is missing.
    ///
    /// # Errors
    /// Where the cluster does not answer, or an operator must create or allow something.
    pub fn look(&self, topic: &str, partitions: u32) -> Result<Look, Trouble> {
        match topic_state(self.consumer, &self.cluster.ears, topic, ANSWER)? {
            TopicState::Ready(count) => Ok(Look::Ready(count)),
            TopicState::Leaderless(_) => Ok(Look::Leaderless),
            TopicState::Forbidden => Err(Trouble::Failed(format!(
                "not authorised: the user may not see the topic {topic}"
            ))),
            TopicState::Missing if !self.cluster.settings.create_topics => Err(Trouble::Failed(
                format!("unknown topic {topic}: create it, or write create_topics = true"),
            )),
            TopicState::Missing => {
                self.cluster.create(self.runtime, topic, partitions)?;
                Ok(Look::Created)
            }
        }
    }

    /// Waits until a topic can be used, for a while; answers its partitions.
    ///
    /// # Errors
    /// As [`Topics::look`], and where a partition stays without a leader.
    pub fn ensure(&self, topic: &str, partitions: u32) -> Result<u32, Trouble> {
        let deadline = Instant::now() + ANSWER;
        loop {
            if let Look::Ready(count) = self.look(topic, partitions)? {
                return Ok(count);
            }
            if Instant::now() > deadline {
                return Err(Trouble::Waiting(format!(
                    "a partition of the topic {topic} has no leader"
                )));
            }
            std::thread::sleep(STEP / 5);
        }
    }
}

/// Partitions that a stream's topic is created with.
pub fn partitions_of(mirrored: &MirroredStream, local: usize) -> u32 {
    mirrored.partitions.unwrap_or(local as u32)
}

/// Partitions that the topic of positions is created with.
pub const POSITIONS_PARTITIONS: u32 = SLOTS;

/// The positions of all slots, and whose they are: each claim that was found, with its slot.
#[derive(Debug, Default)]
pub struct Found {
    /// Partition -> next offset.
    pub positions: BTreeMap<PartitionId, u64>,
    /// The claims of the slots.
    pub claims: BTreeMap<u32, Claim>,
    /// What each slot holds, as it was written.
    pub held: BTreeMap<u32, BTreeMap<PartitionId, u64>>,
}

impl Found {
    /// Takes what was found in other slots; of two positions of a partition the later.
    pub fn take(&mut self, other: Self) {
        self.claims.extend(other.claims);
        self.held.extend(other.held);
        for (partition, next_offset) in other.positions {
            let known = self.positions.entry(partition).or_default();
            *known = next_offset.max(*known);
        }
    }
}

/// Reads what the group has committed in these slots.
pub fn committed(
    consumer: &BaseConsumer<Ears>,
    ears: &Ears,
    topic: &str,
    slots: impl Iterator<Item = u32>,
) -> Result<Found, Trouble> {
    let mut asked = TopicPartitionList::new();
    for slot in slots {
        asked.add_partition(topic, slot as i32);
    }
    if asked.count() == 0 {
        return Ok(Found::default());
    }
    let answer = consumer.committed_offsets(asked, ANSWER);
    let answer = answer.map_err(|error| {
        attend(consumer);
        Trouble::of("cannot read the positions", &error, ears)
    })?;
    let mut found = Found::default();
    for (slot, offset, text, code) in entries(&answer) {
        if code != RDKafkaErrorCode::NoError {
            let error = KafkaError::OffsetFetch(code);
            return Err(Trouble::of("cannot read the positions", &error, ears));
        }
        if offset < 0 {
            continue;
        }
        let read = text.as_deref().and_then(positions::decode);
        let Some((claim, read)) = read else {
            return Err(Trouble::Failed(format!(
                "the group's offset of {topic}-{slot} was not written by a mirror; delete the group, or choose another identity"
            )));
        };
        found.claims.insert(slot as u32, claim);
        for (partition, next_offset) in &read {
            let known = found.positions.entry(*partition).or_default();
            *known = (*next_offset).max(*known);
        }
        found.held.insert(slot as u32, read);
    }
    Ok(found)
}

/// The slots of a shard as offsets to commit.
pub fn offsets(
    topic: &str,
    claim: &Claim,
    slots: impl Iterator<Item = (u32, BTreeMap<PartitionId, u64>)>,
) -> Result<TopicPartitionList, Trouble> {
    let mut list = TopicPartitionList::new();
    for (slot, held) in slots {
        let text = positions::encode(claim, &held);
        if text.len() > super::limits::METADATA_BYTES_MAX {
            return Err(Trouble::Failed(format!(
                "{} partitions in one slot are too many: give {topic} more partitions",
                held.len()
            )));
        }
        let sum: u64 = held.values().fold(0, |sum, next| sum.wrapping_add(*next));
        // A figure for lag tools; the positions are in the text.
        let offset = Offset::Offset((sum & (i64::MAX as u64)) as i64);
        let mut entry = list.add_partition(topic, slot as i32);
        let set = entry.set_offset(offset);
        set.map_err(|error| Trouble::Failed(error.to_string()))?;
        entry.set_metadata(&text);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{MirrorSasl, MirrorStart, SaslMechanism, Secret};

    #[test]
    fn every_client_logs_in_and_the_operator_chooses_what_is_free() {
        let folder = std::env::temp_dir().join(format!("sluice-secret-{}", std::process::id()));
        std::fs::write(&folder, "lock-secret\n").unwrap();
        let settings = MirrorSettings {
            brokers: "b:1".to_owned(),
            identity: None,
            exactly_once: true,
            shards: 1,
            create_topics: true,
            replication_factor: None,
            start: MirrorStart::Beginning,
            ack_timeout_ms: 1,
            dead_letter: "d".to_owned(),
            positions_topic: "p".to_owned(),
            tls: None,
            sasl: Some(MirrorSasl {
                mechanism: SaslMechanism::Plain,
                username: "lock".to_owned(),
                password: Secret::File(folder.clone()),
            }),
            streams: Vec::new(),
            client: BTreeMap::from([("linger.ms".to_owned(), "7".to_owned())]),
        };
        let cluster = Cluster {
            settings: &settings,
            identity: "i",
            ears: Ears::default(),
        };
        let (producer, client) = (cluster.producer("i-0").unwrap(), cluster.config().unwrap());
        std::fs::remove_file(folder).unwrap();
        for config in [&producer, &client] {
            assert_eq!(config.get("sasl.password"), Some("lock-secret"));
            assert_eq!(config.get("linger.ms"), Some("7"));
        }
        assert_eq!(producer.get("transactional.id"), Some("i-0"));
        assert_eq!(producer.get("acks"), Some("all"));
    }
}
