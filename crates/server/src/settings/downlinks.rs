//! Downlinks: which records become PUBLISHes, on which topics, and that none of them comes back to
//! where it was read. It reads nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::build::Builder;
use super::mirror::BUILD_WITH_MIRROR;
use super::words::bad_stream_name;
use super::{
    DEFAULT_QOS0_STREAM, DEFAULT_STREAM, HookEvent, HookSettings, MirrorSettings, MirrorStart,
    StreamSettings,
};
use crate::config::{DownlinkTable, StreamTable};

/// Most downlinks.
const DOWNLINKS_MAX: usize = 256;
/// Longest name of a downlink.
const NAME_BYTES_MAX: usize = 200;

const SECOND: u64 = 1_000;

/// Where the records of a downlink come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DownlinkSource {
    /// A stream of this node.
    Stream(String),
    /// A topic of the Apache Kafka cluster behind.
    Topic(String),
}

impl DownlinkSource {
    /// Name of the stream or topic.
    pub fn name(&self) -> &str {
        match self {
            Self::Stream(name) | Self::Topic(name) => name,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Stream(name) => format!("stream {name}"),
            Self::Topic(name) => format!("topic {name} of the cluster"),
        }
    }
}

/// One downlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownlinkSettings {
    /// Its name; positions are kept under it.
    pub name: String,
    /// Where its records come from.
    pub source: DownlinkSource,
    /// Topic of a record that names none; `{key}` is the key of the record.
    pub topic: String,
    /// QoS of a record that names none, 0 to 2.
    pub qos: u8,
    /// RETAIN of a record that does not say.
    pub retain: bool,
    /// Seconds after its timestamp at which a record that says nothing else is too old.
    pub expiry_s: Option<u32>,
    /// Stream for what cannot be published.
    pub dead_letter: String,
    /// Where it starts the first time.
    pub start: MirrorStart,
    /// Group under which the position in a topic is committed for tools that show lag.
    pub group: String,
}

impl Builder {
    /// `streams` gets those that a downlink names and nobody has written.
    pub(super) fn downlinks(
        &mut self,
        hooks: &[HookSettings],
        mirror: Option<&MirrorSettings>,
        streams: &mut Vec<StreamSettings>,
    ) -> Vec<DownlinkSettings> {
        let tables = self.said.downlink.clone().unwrap_or_default();
        if tables.len() > DOWNLINKS_MAX {
            let path = format!("downlink[{DOWNLINKS_MAX}]");
            self.fault(
                &path,
                &format!("there can be at most {DOWNLINKS_MAX} downlinks"),
            );
        }
        let mut downlinks: Vec<DownlinkSettings> = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let path = format!("downlink[{index}]");
            let Some(downlink) = self.downlink(&path, table, mirror) else {
                continue;
            };
            if downlinks.iter().any(|other| other.name == downlink.name) {
                self.fault(
                    &path,
                    &format!("the name {} is used twice: write `name`", downlink.name),
                );
            }
            if let DownlinkSource::Stream(name) = &downlink.source {
                self.source(&path, name, streams);
            }
            self.dead_letters(&downlink.dead_letter, streams);
            downlinks.push(downlink);
        }
        let ways = Ways::of(&downlinks, hooks, mirror);
        for (index, downlink) in downlinks.iter().enumerate() {
            if let Some(way) = ways.back_to(&downlink.source) {
                let name = &downlink.name;
                self.fault(
                    &format!("downlink[{index}]"),
                    &format!("the downlink {name} would read what it has published: {way}"),
                );
            }
        }
        downlinks
    }

    fn downlink(
        &mut self,
        path: &str,
        table: &DownlinkTable,
        mirror: Option<&MirrorSettings>,
    ) -> Option<DownlinkSettings> {
        let source = match (&table.stream, &table.kafka_topic) {
            (Some(stream), None) => DownlinkSource::Stream(stream.clone()),
            (None, Some(topic)) => DownlinkSource::Topic(topic.clone()),
            _ => {
                self.fault(path, "a [[downlink]] reads one source: write `stream` for a stream of this node, or `kafka_topic` for a topic of the cluster that [mirror] names");
                return None;
            }
        };
        if let Some(what) = bad_stream_name(source.name()) {
            let key = match source {
                DownlinkSource::Stream(_) => "stream",
                DownlinkSource::Topic(_) => "kafka_topic",
            };
            self.fault(&format!("{path}.{key}"), &what);
        }
        if let DownlinkSource::Topic(_) = source {
            if !cfg!(feature = "kafka") {
                self.fault(
                    &format!("{path}.kafka_topic"),
                    &format!("this program was built without a client of Apache Kafka; build it with: {BUILD_WITH_MIRROR}"),
                );
            }
            if mirror.is_none() {
                self.fault(
                    &format!("{path}.kafka_topic"),
                    "needs [mirror] with the `brokers` of the cluster",
                );
            }
        }
        let topic = self.required(path, "topic", table.topic.as_ref())?;
        if let Err(what) = broker::TopicTemplate::parse(&topic) {
            self.fault(&format!("{path}.topic"), &what);
            return None;
        }
        let name = table
            .name
            .clone()
            .unwrap_or_else(|| source.name().to_owned());
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            self.fault(&format!("{path}.name"), "a name has 1 to 200 characters");
        }
        let dead_letter = table.dead_letter.clone();
        let dead_letter = dead_letter.unwrap_or_else(|| "downlink_dead_letter".to_owned());
        if let Some(what) = bad_stream_name(&dead_letter) {
            self.fault(&format!("{path}.dead_letter"), &what);
        }
        let most = u64::from(u32::MAX) * SECOND;
        let expiry = format!("{path}.expiry");
        let expiry_ms = self.span_or_none(&expiry, table.expiry, SECOND, SECOND, most);
        let start = table.start.as_deref().unwrap_or("end");
        Some(DownlinkSettings {
            topic,
            qos: self.integer(&format!("{path}.qos"), Some(table.qos.unwrap_or(1)), 0, 2) as u8,
            retain: table.retain.unwrap_or(false),
            expiry_s: expiry_ms.map(|ms| (ms / SECOND) as u32),
            dead_letter,
            start: self
                .word::<MirrorStart>(&format!("{path}.start"), start)
                .unwrap_or(MirrorStart::End),
            group: table
                .group
                .clone()
                .unwrap_or_else(|| format!("sluice-downlink-{name}")),
            source,
            name,
        })
    }

    /// The stream that a downlink reads, made where nobody has written it.
    fn source(&mut self, path: &str, name: &str, streams: &mut Vec<StreamSettings>) {
        if [DEFAULT_STREAM, DEFAULT_QOS0_STREAM].contains(&name) {
            self.fault(
                &format!("{path}.stream"),
                "holds what MQTT clients have published; name a stream of its own",
            );
        }
        if streams.iter().any(|stream| stream.name == name) || bad_stream_name(name).is_some() {
            return;
        }
        let table = StreamTable {
            name: Some(name.to_owned()),
            ..StreamTable::default()
        };
        streams.extend(self.stream("", &table));
    }
}

/// Streams of this node from which what is written would come to a downlink's source: its
/// PUBLISHes must not be kept there, whatever topic a header names.
pub fn leading_to(
    source: &DownlinkSource,
    downlinks: &[DownlinkSettings],
    hooks: &[HookSettings],
    mirror: Option<&MirrorSettings>,
) -> BTreeSet<String> {
    let ways = Ways::of(downlinks, hooks, mirror);
    let mut leading = BTreeSet::from([source.clone()]);
    loop {
        let before = leading.len();
        for (from, to) in &ways.0 {
            if to.iter().any(|to| leading.contains(to)) {
                leading.insert(from.clone());
            }
        }
        if leading.len() == before {
            break;
        }
    }
    let streams = leading.into_iter().filter_map(|place| match place {
        DownlinkSource::Stream(name) => Some(name),
        DownlinkSource::Topic(_) => None,
    });
    streams.collect()
}

/// A way on which what a downlink publishes would come back to its source, in words.
pub(super) fn way_back(
    source: &DownlinkSource,
    downlinks: &[DownlinkSettings],
    hooks: &[HookSettings],
    mirror: Option<&MirrorSettings>,
) -> Option<String> {
    Ways::of(downlinks, hooks, mirror).back_to(source)
}

/// Where what is in a place goes by itself.
struct Ways(BTreeMap<DownlinkSource, BTreeSet<DownlinkSource>>);

impl Ways {
    fn of(
        downlinks: &[DownlinkSettings],
        hooks: &[HookSettings],
        mirror: Option<&MirrorSettings>,
    ) -> Self {
        let mut ways: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for downlink in downlinks {
            let to = ways.entry(downlink.source.clone()).or_default();
            to.insert(DownlinkSource::Stream(downlink.dead_letter.clone()));
            // A message that hooks keep in memory only, and one that no hook takes, is kept there.
            to.insert(DownlinkSource::Stream(DEFAULT_STREAM.to_owned()));
            let Ok(template) = broker::TopicTemplate::parse(&downlink.topic) else {
                continue;
            };
            let filter = template.filter();
            let taking = hooks.iter().filter(|hook| {
                hook.event >= HookEvent::MessagePublish
                    && overlap(&filter, hook.filter.as_deref().unwrap_or("#"))
            });
            to.extend(taking.map(|hook| DownlinkSource::Stream(hook.stream.clone())));
        }
        for mirrored in mirror.iter().flat_map(|mirror| &mirror.streams) {
            ways.entry(DownlinkSource::Stream(mirrored.stream.clone()))
                .or_default()
                .insert(DownlinkSource::Topic(mirrored.topic.clone()));
        }
        Self(ways)
    }

    /// A way from a place back to it, both ends included, in words.
    fn back_to(&self, source: &DownlinkSource) -> Option<String> {
        let mut found = vec![vec![source.clone()]];
        let mut seen = BTreeSet::new();
        while let Some(way) = found.pop() {
            let last = way.last()?;
            for next in self.0.get(last).into_iter().flatten() {
                let mut longer = way.clone();
                longer.push(next.clone());
                if next == source {
                    let way: Vec<String> = longer.iter().map(DownlinkSource::told).collect();
                    return Some(way.join(" -> "));
                }
                if seen.insert(next.clone()) {
                    found.push(longer);
                }
            }
        }
        None
    }
}

/// Whether some topic is taken by both filters.
fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, Settings, build};

    fn settings(text: &str) -> Result<Settings, Vec<String>> {
        let (said, faults) = crate::config::read("f", text);
        assert!(faults.is_empty(), "{faults:?}");
        build(Some(said), &Flags::default())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    const PLAIN: &str = "[[downlink]]\nstream = \"commands\"\ntopic = \"devices/{key}/command\"\nexpiry = \"60s\"\n";

    #[test]
    fn a_downlink_and_the_streams_it_names() {
        let settings = settings(PLAIN).unwrap();
        let downlink = &settings.downlinks[0];
        assert_eq!((downlink.name.as_str(), downlink.qos), ("commands", 1));
        assert_eq!((downlink.expiry_s, downlink.retain), (Some(60), false));
        for name in ["commands", "downlink_dead_letter"] {
            assert!(settings.streams.iter().any(|stream| stream.name == name));
        }
        let back = leading_to(&downlink.source, &settings.downlinks, &settings.hooks, None);
        assert_eq!(back, BTreeSet::from(["commands".to_owned()]));
    }

    #[test]
    fn what_a_downlink_cannot_be_is_said() {
        for (text, words) in [
            ("[[downlink]]\ntopic = \"a\"\n", "reads one source"),
            ("[[downlink]]\nstream = \"s\"\n", "topic"),
            (
                "[[downlink]]\nstream = \"s\"\ntopic = \"a/{id}\"\n",
                "only {key} is known",
            ),
            (
                "[[downlink]]\nstream = \"mqtt.default\"\ntopic = \"a/{key}\"\n",
                "what MQTT clients have published",
            ),
            (
                "[[downlink]]\nkafka_topic = \"s\"\ntopic = \"a/{key}\"\n",
                "needs [mirror]",
            ),
            (&format!("{PLAIN}{PLAIN}"), "is used twice"),
            (&format!("{PLAIN}qos = 3\n"), "0 to 2"),
        ] {
            let faults = settings(text).unwrap_err();
            assert!(
                faults.iter().any(|fault| fault.contains(words)),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn a_way_back_is_refused() {
        let hook = |event: &str, filter: &str, stream: &str| {
            format!("[[hook]]\nevent = \"{event}\"\nfilter = \"{filter}\"\nstream = \"{stream}\"\n")
        };
        let mirror = "[mirror]\nbrokers = \"k:9092\"\n[[mirror.stream]]\nstream = \"message_command\"\ntopic = \"orders\"\n";
        let from_topic =
            "[[downlink]]\nkafka_topic = \"orders\"\ntopic = \"devices/{key}/command\"\n";
        let second =
            "[[downlink]]\nname = \"b\"\nstream = \"message_command\"\ntopic = \"x/{key}\"\n";
        let placed = hook("message.publish", "devices/+/command", "message_command");
        for (text, refused) in [
            (format!("{PLAIN}{placed}"), false),
            (
                format!(
                    "{PLAIN}{}",
                    hook("message.publish", "devices/#", "commands")
                ),
                true,
            ),
            (
                format!("{PLAIN}{}", hook("message.acked", "#", "commands")),
                true,
            ),
            (
                format!(
                    "{PLAIN}{}",
                    hook("message.acked", "devices/7/x", "commands")
                ),
                false,
            ),
            (
                format!(
                    "{PLAIN}{}",
                    hook("client.connected", "", "commands").replace("filter = \"\"\n", "")
                ),
                false,
            ),
            (format!("{from_topic}{placed}{mirror}"), true),
            (format!("{PLAIN}{placed}{second}"), false),
            (
                format!(
                    "{PLAIN}{placed}{second}{}",
                    hook("message.publish", "x/7", "commands")
                ),
                true,
            ),
        ] {
            let faults = settings(&text).err().unwrap_or_default();
            let found = faults
                .iter()
                .any(|fault| fault.contains("what it has published"));
            assert_eq!(found, refused, "{text}{faults:#?}");
        }
    }

    #[test]
    fn filters_overlap_where_a_topic_fits_both() {
        for (a, b, both) in [
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("a/+", "#", true),
            ("a", "a/#", true),
            ("a/b", "a", false),
            ("+/x", "y/+", true),
        ] {
            assert_eq!((overlap(a, b), overlap(b, a)), (both, both), "{a} {b}");
        }
    }
}
