//! The topics that a shard writes to: found or created, known again, and left alone for a while where
//! they fail. What is written to them it does not know.

use std::collections::BTreeSet;
use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode as Code;
use tracing::{info, warn};

use super::board::State;
use super::cluster::{self, Look, TopicState, Topics, Trouble};
use super::described::{self, Right};
use super::lanes::Rest;
use super::limits::{ANSWER, BACK_FROM_ALL, REST_MAX, REST_MIN, SILENCE, STEP};
use super::native::Topic;
use super::shard::{Link, Shard};
use crate::settings::Word as _;

/// Why a stream rests whose topic may not be written.
pub(super) const UNWRITABLE: &str = "not authorised: the user may not write the topic";

impl Shard {
    /// Makes the topics' handles; a topic that is not there lets its stream rest.
    pub(super) fn open_topics(&mut self, link: &mut Link) -> Result<(), Trouble> {
        let count = self.parts.settings.streams.len();
        link.topics.resize_with(count, || None);
        for stream in 0..count {
            let wanted = link.lanes.all.iter().any(|lane| lane.stream == stream);
            if !wanted || link.topics[stream].is_some() || self.is_resting(stream) {
                continue;
            }
            self.beat(BACK_FROM_ALL)?;
            match self.open_topic(link, stream)? {
                Ok(topic) => link.topics[stream] = Some(topic),
                Err(why) => self.rest(stream, &why),
            }
        }
        Ok(())
    }

    /// The handle of a stream's topic, or why the stream must rest; an error where the cluster does
    /// not answer at all.
    fn open_topic(&self, link: &Link, stream: usize) -> Result<Result<Topic, String>, Trouble> {
        let mirrored = &self.parts.settings.streams[stream];
        let local = self.parts.node.log.stream(&mirrored.stream);
        let local = local.map_or(1, |meta| meta.partitions.len());
        let partitions = cluster::partitions_of(mirrored, local);
        let topics = Topics {
            cluster: &self.cluster(),
            consumer: &link.consumer,
            runtime: &self.parts.runtime,
        };
        let (topic, start) = (&mirrored.topic, Instant::now());
        let mut created = false;
        loop {
            match topics.look(topic, partitions) {
                Ok(Look::Ready(_)) => {
                    if let Err(why) = self.known_again(link, stream) {
                        return Ok(Err(why));
                    }
                    return Ok(link.native.topic(topic, mirrored.compression.word()));
                }
                Ok(Look::Created) => {
                    created = true;
                    let stream = &mirrored.stream;
                    info!(stream, topic, "the topic was not there: it is created");
                }
                Ok(Look::Leaderless) => {}
                Err(Trouble::Failed(why)) => return Ok(Err(why)),
                Err(trouble) => return Err(trouble),
            }
            // One that was just made has its leaders soon; others do not wait for an old one's.
            if !created || start.elapsed() > SILENCE {
                return Ok(Err("a partition of the topic has no leader".to_owned()));
            }
            std::thread::sleep(STEP / 5);
        }
    }

    pub(super) fn is_resting(&self, stream: usize) -> bool {
        let rest = self.rests.get(&stream);
        rest.is_some_and(|rest| !rest.on_trial)
    }

    /// Lets a stream rest, longer each time.
    pub(super) fn rest(&mut self, stream: usize, why: &str) {
        let before = self.rests.get(&stream).map_or(REST_MIN, |rest| rest.next);
        let rest = Rest {
            until: Instant::now() + before,
            next: (before * 2).min(REST_MAX),
            on_trial: false,
        };
        self.rests.insert(stream, rest);
        let board = &self.parts.node.mirror;
        if board.stream_stands(stream, State::Waiting, Some(why)) {
            let mirrored = &self.parts.settings.streams[stream];
            warn!(
                stream = mirrored.stream,
                topic = mirrored.topic,
                why,
                "a stream is not mirrored for now; the others go on"
            );
        }
    }

    /// A stream that rested has succeeded.
    pub(super) fn recovered(&mut self, stream: usize) {
        if self.rests.get(&stream).is_some_and(|rest| rest.on_trial) {
            self.rests.remove(&stream);
            if self
                .parts
                .node
                .mirror
                .stream_stands(stream, State::Connected, None)
            {
                let mirrored = &self.parts.settings.streams[stream];
                info!(
                    stream = mirrored.stream,
                    topic = mirrored.topic,
                    "the stream is mirrored again"
                );
            }
        }
    }

    /// Tries streams again whose rest is over and whose topic looks well.
    pub(super) fn try_rested(&mut self, link: &mut Link) -> Result<(), Trouble> {
        let now = Instant::now();
        let due = self.rests.iter();
        let due: Vec<usize> = due
            .filter(|(_, rest)| !rest.on_trial && rest.until <= now)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in due {
            self.beat(BACK_FROM_ALL)?;
            let name = self.parts.settings.streams[stream].topic.clone();
            if link.topics[stream].is_some() {
                match cluster::topic_state(&link.consumer, &self.ears, &name, ANSWER)? {
                    TopicState::Ready(_) => {
                        if let Err(why) = self.known_again(link, stream) {
                            self.rest(stream, &why);
                            continue;
                        }
                    }
                    TopicState::Leaderless(_) => {
                        self.rest(stream, "a partition of the topic has no leader");
                        continue;
                    }
                    TopicState::Forbidden => {
                        self.rest(stream, "not authorised: the user may not see the topic");
                        continue;
                    }
                    TopicState::Missing => link.topics[stream] = None,
                }
            }
            if link.topics[stream].is_none() {
                match self.open_topic(link, stream)? {
                    Ok(topic) => link.topics[stream] = Some(topic),
                    Err(why) => {
                        self.rest(stream, &why);
                        continue;
                    }
                }
            }
            if let Some(rest) = self.rests.get_mut(&stream) {
                rest.on_trial = true;
            }
        }
        Ok(())
    }

    /// Looks whether a stream's topic may be written, and is the one that it was; an error says why
    /// the stream must rest. Where the brokers do not tell, writing will.
    fn known_again(&self, link: &Link, stream: usize) -> Result<(), String> {
        let mirrored = &self.parts.settings.streams[stream];
        let described = described::topic(&link.consumer, &mirrored.topic, ANSWER);
        let Ok(described) = described else {
            return Ok(());
        };
        let board = &self.parts.node.mirror;
        if let Some(id) = described.id
            && board.stream(stream).goes_to(id)
        {
            board.error("topic made anew");
            warn!(
                stream = mirrored.stream,
                topic = mirrored.topic,
                "the topic was deleted and made anew: what it had is not sent again, and the \
                 mirror goes on behind that"
            );
        }
        if described.forbids(Right::Write) {
            return Err(UNWRITABLE.to_owned());
        }
        Ok(())
    }

    /// A round was refused for the sake of a topic that may not be written, and nobody said of which:
    /// those that may not be rest, and where the brokers do not tell, all that took part.
    pub(super) fn deny(&mut self, link: &Link, took_part: &BTreeSet<usize>) {
        let topics = &self.parts.settings.streams;
        let forbidden = |stream: &&usize| {
            let described = described::topic(&link.consumer, &topics[**stream].topic, ANSWER);
            match described {
                Ok(described) => described.forbids(Right::Write),
                Err(code) => code == Code::TopicAuthorizationFailed,
            }
        };
        let mut guilty: Vec<usize> = took_part.iter().filter(forbidden).copied().collect();
        if guilty.is_empty() {
            guilty.extend(took_part);
        }
        for stream in guilty {
            self.rest(stream, UNWRITABLE);
        }
    }
}
