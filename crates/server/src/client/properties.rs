//! `-D PACKET NAME VALUE`: properties of MQTT 5 on the command line, named as the specification
//! names them, in kebab case.

use anyhow::{Context as _, bail};
use mqtt::{ConnectProperties, PublishProperties, UserProperties, WillProperties};

/// One property of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    packet: String,
    name: String,
    value: String,
    /// Value of a user property, whose name stands in `value`.
    second: String,
}

/// All properties of a command line, to be borrowed by packets.
#[derive(Debug, Default)]
pub struct OwnedProperties(Vec<Property>);

/// Packets and the properties that `-D` can set on them.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "connect",
        &[
            "session-expiry-interval",
            "receive-maximum",
            "maximum-packet-size",
            "topic-alias-maximum",
            "request-problem-information",
            "user-property",
        ],
    ),
    (
        "publish",
        &[
            "payload-format-indicator",
            "message-expiry-interval",
            "topic-alias",
            "response-topic",
            "correlation-data",
            "content-type",
            "user-property",
        ],
    ),
    ("subscribe", &["subscription-identifier", "user-property"]),
    (
        "will",
        &[
            "will-delay-interval",
            "payload-format-indicator",
            "message-expiry-interval",
            "response-topic",
            "correlation-data",
            "content-type",
            "user-property",
        ],
    ),
];

impl OwnedProperties {
    /// Reads the words after the `-D`s of a command line, which arrive without their borders.
    pub fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut found = Vec::new();
        let mut words = words.iter();
        while let Some(packet) = words.next() {
            let packet = packet.to_lowercase();
            let (_, names) = KNOWN
                .iter()
                .find(|(known, _)| *known == packet)
                .with_context(|| {
                    let known: Vec<&str> = KNOWN.iter().map(|(packet, _)| *packet).collect();
                    format!("-D {packet}: the packet is one of {}", known.join(", "))
                })?;
            let name = words
                .next()
                .context("-D needs a packet, a name and a value")?
                .to_lowercase();
            if !names.contains(&name.as_str()) {
                bail!(
                    "-D {packet} {name}: the property is one of {}",
                    names.join(", ")
                );
            }
            let mut next = || {
                words
                    .next()
                    .cloned()
                    .with_context(|| format!("-D {packet} {name} needs a value"))
            };
            let value = next()?;
            let second = if name == "user-property" {
                next()?
            } else {
                String::new()
            };
            found.push(Property {
                packet,
                name,
                value,
                second,
            });
        }
        Ok(Self(found))
    }

    /// User properties of a packet, in order.
    pub fn user(&self, packet: &str) -> Vec<(&str, &str)> {
        let of = |p: &&Property| p.packet == packet && p.name == "user-property";
        self.0
            .iter()
            .filter(of)
            .map(|p| (p.value.as_str(), p.second.as_str()))
            .collect()
    }

    /// Properties of CONNECT.
    pub fn connect<'a>(
        &'a self,
        user: &'a [(&'a str, &'a str)],
    ) -> anyhow::Result<ConnectProperties<'a>> {
        Ok(ConnectProperties {
            session_expiry_s: self
                .number("connect", "session-expiry-interval")?
                .unwrap_or(0),
            receive_maximum: self.number("connect", "receive-maximum")?,
            maximum_packet_size: self.number("connect", "maximum-packet-size")?,
            topic_alias_maximum: self.number("connect", "topic-alias-maximum")?.unwrap_or(0),
            request_problem_information: self
                .number::<u8>("connect", "request-problem-information")?
                .is_none_or(|n| n != 0),
            user: UserProperties::from_slice(user),
            ..ConnectProperties::default()
        })
    }

    /// Properties of PUBLISH.
    pub fn publish<'a>(
        &'a self,
        user: &'a [(&'a str, &'a str)],
    ) -> anyhow::Result<PublishProperties<'a>> {
        Ok(PublishProperties {
            payload_format: self.number("publish", "payload-format-indicator")?,
            expiry_s: self.number("publish", "message-expiry-interval")?,
            topic_alias: self.number("publish", "topic-alias")?,
            response_topic: self.text("publish", "response-topic"),
            correlation_data: self.text("publish", "correlation-data").map(str::as_bytes),
            content_type: self.text("publish", "content-type"),
            user: UserProperties::from_slice(user),
            ..PublishProperties::default()
        })
    }

    /// Properties of the will.
    pub fn will<'a>(
        &'a self,
        user: &'a [(&'a str, &'a str)],
    ) -> anyhow::Result<WillProperties<'a>> {
        Ok(WillProperties {
            delay_s: self.number("will", "will-delay-interval")?.unwrap_or(0),
            payload_format: self.number("will", "payload-format-indicator")?,
            expiry_s: self.number("will", "message-expiry-interval")?,
            response_topic: self.text("will", "response-topic"),
            correlation_data: self.text("will", "correlation-data").map(str::as_bytes),
            content_type: self.text("will", "content-type"),
            user: UserProperties::from_slice(user),
        })
    }

    /// Subscription identifier of SUBSCRIBE.
    pub fn subscription_id(&self) -> anyhow::Result<Option<u32>> {
        self.number("subscribe", "subscription-identifier")
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn text(&self, packet: &str, name: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|p| p.packet == packet && p.name == name)?;
        Some(&found.value)
    }

    fn number<N: std::str::FromStr>(&self, packet: &str, name: &str) -> anyhow::Result<Option<N>> {
        let Some(text) = self.text(packet, name) else {
            return Ok(None);
        };
        let number = text.parse();
        number
            .map(Some)
            .map_err(|_| anyhow::anyhow!("-D {packet} {name} {text}: not a number that fits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn properties_are_sorted_to_their_packets() {
        let text =
            "publish user-property a 1 PUBLISH content-type text/plain connect receive-maximum 7";
        let properties = OwnedProperties::parse(&words(text)).unwrap();
        let user = properties.user("publish");
        assert_eq!(user, [("a", "1")]);
        assert_eq!(
            properties.publish(&user).unwrap().content_type,
            Some("text/plain")
        );
        assert_eq!(properties.connect(&[]).unwrap().receive_maximum, Some(7));
    }

    #[test]
    fn an_unknown_property_names_the_known_ones() {
        let error = OwnedProperties::parse(&words("publish colour red"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("content-type"), "{error}");
        let error = OwnedProperties::parse(&words("puback x y"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("publish"), "{error}");
    }
}
