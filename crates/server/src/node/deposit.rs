//! Publishing without an MQTT connection: a message is handed to the worker where its publisher is at
//! home, and answered when the log has it as its streams want.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use broker::PublishFacts;
use commitlog::{Ack, PartitionId};
use mqtt::{PublishProperties, QoS, UserProperties};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::mailbox::Ask;
use super::{AppendError, Node, wall_ms};

/// A message to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deposit {
    /// Client id of its publisher, as hooks see it.
    pub client_id: String,
    /// User name of its publisher, as hooks see it; empty: none.
    pub username: String,
    /// The topic, valid.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// 0, 1 or 2; more counts as 2.
    pub qos: u8,
    /// Whether it is retained; without payload, what is there is taken away.
    pub retain: bool,
    /// Seconds that it lives.
    pub message_expiry_s: Option<u32>,
    /// Whether the payload is said to be text.
    pub payload_is_utf8: bool,
    /// Content type.
    pub content_type: Option<String>,
    /// Topic for answers.
    pub response_topic: Option<String>,
    /// Correlation data.
    pub correlation_data: Option<Vec<u8>>,
    /// User properties.
    pub user: Vec<(String, String)>,
    /// Where it comes from: rules may ask, and records say it.
    pub peer: Option<SocketAddr>,
    /// Who it is that publishes in that name; records say it.
    pub principal: Option<String>,
}

/// A message that is in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deposited {
    /// Whether anybody subscribes to its topic.
    pub subscribers: bool,
    /// Offsets of its turn's batches, where the cluster behind must have some of them.
    pub(super) ends: Vec<(PartitionId, Range<u64>)>,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DepositError {
    /// The rules do not allow it.
    NotAuthorized,
    /// It cannot be; says why.
    Invalid(String),
    /// Free disk space is below the reserve, or there is no room for more retained messages.
    Full,
    /// A write or flush failed; the node takes no appends until its next start.
    Latched,
    /// The node is being stopped.
    Stopping,
    /// The node has it, and the Apache Kafka cluster behind does not in time.
    NotMirrored,
    /// Too many publish at the same time.
    Busy,
    /// The node has it, and the Apache Kafka cluster behind refuses it.
    NeverMirrored,
}

impl fmt::Display for DepositError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAuthorized => f.write_str("the rules do not allow it"),
            Self::Invalid(what) => f.write_str(what),
            Self::Full => {
                f.write_str("there is no room: the disk or the retained messages are full")
            }
            Self::Latched => f.write_str("a write or flush failed; appends need a restart"),
            Self::Stopping => f.write_str("the node is being stopped"),
            Self::NotMirrored => f.write_str("the Kafka cluster behind does not have it in time"),
            Self::Busy => f.write_str("too many publish over HTTP at the same time"),
            Self::NeverMirrored => f.write_str("the Kafka cluster behind does not take it"),
        }
    }
}

impl Deposit {
    /// Shows the message to `with` as the broker takes it.
    pub(super) fn with_facts<T>(&self, with: impl FnOnce(&PublishFacts<'_>) -> T) -> T {
        let user: Vec<(&str, &str)> = self
            .user
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let peer = self.peer.map(|peer| peer.to_string());
        let properties = PublishProperties {
            payload_format: self.payload_is_utf8.then_some(1),
            expiry_s: self.message_expiry_s,
            content_type: self.content_type.as_deref(),
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.correlation_data.as_deref(),
            user: UserProperties::from_slice(&user),
            ..PublishProperties::default()
        };
        with(&PublishFacts {
            client_id: &self.client_id,
            username: &self.username,
            topic: &self.topic,
            payload: &self.payload,
            qos: match self.qos {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            },
            retain: self.retain,
            dup: false,
            properties: &properties,
            peer: peer.as_deref().unwrap_or(""),
            principal: self.principal.as_deref().unwrap_or(""),
            now_ms: wall_ms(),
        })
    }

    /// What no client could send either.
    fn fault(&self) -> Option<String> {
        const LONGEST: usize = 65_535;
        let texts = [&self.client_id, &self.username, &self.topic];
        let texts = texts.into_iter().chain(self.content_type.as_ref());
        let texts = texts.chain(self.response_topic.as_ref());
        let user = self.user.iter().flat_map(|(name, value)| [name, value]);
        if texts
            .chain(user)
            .any(|text| text.len() > LONGEST || text.contains('\0'))
        {
            return Some(format!(
                "a text is longer than {LONGEST} bytes, or has a zero in it"
            ));
        }
        if self
            .correlation_data
            .as_ref()
            .is_some_and(|it| it.len() > LONGEST)
        {
            return Some(format!(
                "correlation_data: it is longer than {LONGEST} bytes"
            ));
        }
        if let Err(error) = mqtt::topic::validate_name(&self.topic) {
            return Some(format!("topic: {error}"));
        }
        let response = self.response_topic.as_deref();
        let response = response.map(mqtt::topic::validate_name);
        response?
            .err()
            .map(|error| format!("response_topic: {error}"))
    }
}

impl Node {
    /// Publishes messages, those of one client id in their order. For each what became of it, once
    /// the log has it at the level of its streams; where that is `kafka`, see [`Node::mirrored_deposits`].
    pub async fn deposit(&self, messages: Vec<Deposit>) -> Vec<Result<Deposited, DepositError>> {
        let size_max = self.settings.mqtt.packet_size_max as usize;
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            let large = message.payload.len() > size_max;
            let large = large.then(|| format!("payload: it is longer than {size_max} bytes"));
            if let Some(fault) = message.fault().or(large) {
                answers.push(Err(DepositError::Invalid(fault)));
                continue;
            }
            let Deposit {
                client_id,
                username,
                topic,
                ..
            } = &message;
            let address = message.peer.map(|peer| peer.ip());
            let denied = self
                .auth
                .denies_publish(client_id, username, address, topic);
            let (answer, result) = oneshot::channel();
            let home = self.home(&message.client_id);
            home.put(|letters| {
                letters.asks.push(Ask::Deposit {
                    message: Box::new(message),
                    denied,
                    answer,
                });
            });
            answers.push(Ok(result));
        }
        let mut all = Vec::with_capacity(answers.len());
        for answer in answers {
            all.push(match answer {
                // A worker that has ended answers nothing.
                Ok(result) => result.await.unwrap_or(Err(DepositError::Stopping)),
                Err(error) => Err(error),
            });
        }
        all
    }

    /// Waits until the cluster behind has what it must have of messages that the log has; for all of
    /// them together no longer than for one.
    pub async fn mirrored_deposits(
        &self,
        deposits: Vec<Result<Deposited, DepositError>>,
    ) -> Vec<Result<Deposited, DepositError>> {
        let mirror = self.settings.mirror.as_ref();
        let patience = Duration::from_millis(mirror.map_or(0, |it| it.ack_timeout_ms));
        let deadline = Instant::now() + patience;
        let mut all = Vec::with_capacity(deposits.len());
        for deposit in deposits {
            all.push(match deposit {
                Ok(deposited) => self.mirrored_deposit(deposited, deadline).await,
                refused => refused,
            });
        }
        all
    }

    async fn mirrored_deposit(
        &self,
        mut deposited: Deposited,
        deadline: Instant,
    ) -> Result<Deposited, DepositError> {
        let wants = |partition: PartitionId| {
            let stream = self.log.partition(partition)?.stream;
            Some(self.log.stream(&stream)?.settings.ack == Ack::Kafka)
        };
        let ends = &mut deposited.ends;
        ends.retain(|(partition, _)| wants(*partition).unwrap_or(false));
        if ends.is_empty() {
            return Ok(deposited);
        }
        let appender = self.appender();
        let until: Vec<_> = ends.iter().map(|(id, at)| (*id, at.end)).collect();
        let waited = tokio::time::timeout_at(deadline, appender.mirrored(&until)).await;
        let never = |(id, at): &(PartitionId, Range<u64>)| self.log.is_unmirrored(*id, at);
        match waited {
            Ok(Ok(())) if ends.iter().any(never) => Err(DepositError::NeverMirrored),
            Ok(Ok(())) => Ok(deposited),
            Ok(Err(AppendError::Latched)) => Err(DepositError::Latched),
            Ok(Err(_)) => Err(DepositError::Stopping),
            Err(_) => Err(DepositError::NotMirrored),
        }
    }
}
