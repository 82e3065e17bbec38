//! Topic aliases of one connection, both directions: numbers that stand for topics, bounded in
//! number and in bytes. They end with the connection [MQTT-3.3.2-7].

use crate::limits::{ALIAS_BYTES_MAX, ALIAS_OUT_TOPIC_BYTES_MAX, ALIASES_MAX};
use crate::reason::ReasonCode;

/// Aliases that the client uses towards us.
#[derive(Debug, Clone, Default)]
pub struct AliasesIn {
    /// The topic of alias `i + 1`; empty where it has none.
    topics: Vec<Box<str>>,
    bytes: usize,
    maximum: u16,
}

impl AliasesIn {
    /// No alias yet; `maximum` is what CONNACK announced (at most [`ALIASES_MAX`] are kept).
    pub const fn new(maximum: u16) -> AliasesIn {
        let maximum = if maximum < ALIASES_MAX {
            maximum
        } else {
            ALIASES_MAX
        };
        AliasesIn {
            topics: Vec::new(),
            bytes: 0,
            maximum,
        }
    }

    /// What an alias stands for now.
    pub fn known(&self, alias: u16) -> Option<&str> {
        let topic = self.topics.get(usize::from(alias).checked_sub(1)?)?;
        (!topic.is_empty()).then_some(topic)
    }

    /// The topic of a PUBLISH that carries an alias: its own, which the alias then stands for, or
    /// the one that the alias stands for [MQTT-3.3.2-8] to [MQTT-3.3.2-12].
    ///
    /// # Errors
    /// `TopicAliasInvalid` for 0 or an alias above the maximum, `ProtocolError` for one that stands
    /// for nothing, `QuotaExceeded` when the topics together become too long.
    pub fn resolve<'a>(&'a mut self, alias: u16, topic: &'a str) -> Result<&'a str, ReasonCode> {
        if alias == 0 || alias > self.maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            return match self.topics.get(index) {
                Some(known) if !known.is_empty() => Ok(known),
                _ => Err(ReasonCode::ProtocolError),
            };
        }
        if index >= self.topics.len() {
            self.topics.resize_with(index + 1, Box::default);
        }
        let known = &mut self.topics[index];
        if &**known != topic {
            let bytes = self.bytes - known.len() + topic.len();
            if bytes > ALIAS_BYTES_MAX.max(usize::from(u16::MAX)) {
                return Err(ReasonCode::QuotaExceeded);
            }
            self.bytes = bytes;
            *known = topic.into();
        }
        Ok(topic)
    }
}

/// How a topic is to be written in a PUBLISH to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasOut {
    /// The topic, without an alias.
    Topic,
    /// The topic and this alias, which stands for it from now on.
    Both(u16),
    /// An empty topic and this alias.
    Alias(u16),
}

/// Aliases that we use towards the client: the first topics get them.
#[derive(Debug, Clone, Default)]
pub struct AliasesOut {
    topics: Vec<Box<str>>,
    maximum: u16,
}

impl AliasesOut {
    /// No alias yet; `maximum` is what CONNECT announced, or our own lower bound (at most
    /// [`ALIASES_MAX`]; the topics are searched one by one, so a few dozen serve best).
    pub const fn new(maximum: u16) -> AliasesOut {
        let maximum = if maximum < ALIASES_MAX {
            maximum
        } else {
            ALIASES_MAX
        };
        AliasesOut {
            topics: Vec::new(),
            maximum,
        }
    }

    /// How to write this topic now; the answer must be sent, or [`AliasesOut::forget`] called.
    pub fn of(&mut self, topic: &str) -> AliasOut {
        if self.maximum == 0 {
            return AliasOut::Topic;
        }
        if let Some(index) = self.topics.iter().position(|known| &**known == topic) {
            return AliasOut::Alias(index as u16 + 1);
        }
        let full = self.topics.len() >= usize::from(self.maximum);
        if full || topic.len() > ALIAS_OUT_TOPIC_BYTES_MAX {
            return AliasOut::Topic;
        }
        self.topics.push(topic.into());
        AliasOut::Both(self.topics.len() as u16)
    }

    /// What an alias stands for.
    pub fn known(&self, alias: u16) -> Option<&str> {
        let topic = self.topics.get(usize::from(alias).checked_sub(1)?)?;
        Some(topic)
    }

    /// Takes back the newest alias: the PUBLISH that was to set it was not sent.
    pub fn forget(&mut self, alias: u16) {
        if usize::from(alias) == self.topics.len() {
            self.topics.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-3.3.2-8], [MQTT-3.3.2-9], [MQTT-3.3.2-10], [MQTT-3.3.2-12].
    #[test]
    fn a_clients_alias_stands_for_its_last_topic() {
        let mut aliases = AliasesIn::new(2);
        assert_eq!(aliases.resolve(0, "a"), Err(ReasonCode::TopicAliasInvalid));
        assert_eq!(aliases.resolve(3, "a"), Err(ReasonCode::TopicAliasInvalid));
        assert_eq!(aliases.resolve(2, ""), Err(ReasonCode::ProtocolError));
        assert_eq!(aliases.resolve(2, "a"), Ok("a"));
        assert_eq!(aliases.resolve(2, ""), Ok("a"));
        assert_eq!(aliases.resolve(1, ""), Err(ReasonCode::ProtocolError));
        assert_eq!(aliases.resolve(2, "b"), Ok("b"));
        assert_eq!(aliases.resolve(2, ""), Ok("b"));
        assert_eq!(
            AliasesIn::new(0).resolve(1, "a"),
            Err(ReasonCode::TopicAliasInvalid)
        );
    }

    #[test]
    fn aliased_topics_have_a_bound_in_bytes() {
        let mut aliases = AliasesIn::new(10);
        let long = "x".repeat(40_000);
        assert!(aliases.resolve(1, &long).is_ok());
        assert_eq!(aliases.resolve(2, &long), Err(ReasonCode::QuotaExceeded));
        assert!(aliases.resolve(1, "short").is_ok());
        assert!(aliases.resolve(2, &long).is_ok());
    }

    /// [MQTT-3.1.2-26]: never above the client's maximum.
    #[test]
    fn our_aliases_stay_below_the_clients_maximum() {
        let mut aliases = AliasesOut::new(2);
        assert_eq!(aliases.of("a"), AliasOut::Both(1));
        assert_eq!(aliases.of("a"), AliasOut::Alias(1));
        assert_eq!(aliases.of("b"), AliasOut::Both(2));
        aliases.forget(2);
        assert_eq!(aliases.of("b"), AliasOut::Both(2));
        assert_eq!(aliases.of("c"), AliasOut::Topic);
        assert_eq!(aliases.of("b"), AliasOut::Alias(2));
        assert_eq!(AliasesOut::new(0).of("a"), AliasOut::Topic);
    }
}
