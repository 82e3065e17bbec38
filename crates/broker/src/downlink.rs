//! Downlinks: records that become PUBLISHes. Knows how a record is read and where it must not lead;
//! nothing of who reads the source, or of sessions.

use crate::decode::MessageHeaders;
use crate::limits::{DOWNLINK_HEADERS_MAX, PACKET_BYTES_MAX};
use crate::message::OwnedMessage;
use commitlog::{PartitionId, RecordView};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use mqtt::QoS;
use std::fmt;
use std::sync::Arc;

/// Names of the headers that a dead letter has besides those of its record.
pub mod dead_letter {
    /// Why the record did not become a PUBLISH.
    pub const REASON: &str = "sluice.reason";
    /// Name of the stream or topic where it stands.
    pub const SOURCE: &str = "sluice.source";
    /// Number of its partition.
    pub const PARTITION: &str = "sluice.partition";
    /// Its offset.
    pub const OFFSET: &str = "sluice.offset";
}

/// A topic in which `{key}` stands for the key of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    text: Box<str>,
}

const KEY: &str = "{key}";

impl TopicTemplate {
    /// Reads a template; says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.replace(KEY, "");
        if rest.contains(['{', '}']) {
            return Err(format!("\"{text}\": only {{key}} is known in braces"));
        }
        if text.starts_with('$') {
            return Err(format!("\"{text}\": topics of the node itself begin so"));
        }
        let template = Self { text: text.into() };
        mqtt::topic::validate_name(&template.topic("key"))
            .map_err(|error| format!("\"{text}\": {error}"))?;
        Ok(template)
    }

    /// Whether the key of a record is part of its topic.
    pub fn has_key(&self) -> bool {
        self.text.contains(KEY)
    }

    /// The topic of a record with this key.
    pub fn topic(&self, key: &str) -> String {
        self.text.replace(KEY, key)
    }

    /// A filter that takes every topic of the template.
    pub fn filter(&self) -> String {
        let level = |level: &'_ str| if level.contains(KEY) { "+" } else { level }.to_owned();
        let levels: Vec<String> = self.text.split('/').map(level).collect();
        levels.join("/")
    }
}

/// What is said of one downlink.
#[derive(Debug, Clone)]
pub struct DownlinkRules {
    /// Name of the source as dead letters tell it: the stream or the topic.
    pub source: Box<str>,
    /// Client id under which its PUBLISHes are made.
    pub publisher: Box<str>,
    /// Topic of a record that names none.
    pub topic: TopicTemplate,
    /// QoS of a record that names none.
    pub qos: QoS,
    /// RETAIN of a record that does not say.
    pub retain: bool,
    /// Seconds after its timestamp at which a record that says nothing else is too old.
    pub expiry_s: Option<u32>,
    /// Partitions of the stream for what cannot be published.
    pub dead_letters: Box<[PartitionId]>,
    /// Partitions of streams from which a record would come back to the source.
    pub forbidden: HashSet<PartitionId, RandomState>,
    /// Bytes of a record beyond which it is not published: with all that hooks make of it, it must be
    /// in one entry of the journal.
    pub record_bytes_max: usize,
}

/// Name and value of a record's header.
pub type Header = (Box<[u8]>, Box<[u8]>);

/// A record of the source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceRecord {
    /// Its offset there.
    pub offset: u64,
    /// Its timestamp, ms since the epoch.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<Box<[u8]>>,
    /// Its value, if it has one.
    pub value: Option<Box<[u8]>>,
    /// Its headers.
    pub headers: Vec<Header>,
}

impl SourceRecord {
    /// A copy of a record of the log.
    pub fn of(record: &RecordView<'_>) -> Self {
        let headers = record.headers();
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: headers
                .map(|(name, value)| (name.into(), value.unwrap_or_default().into()))
                .collect(),
        }
    }

    /// Bytes that it holds.
    pub fn size_bytes(&self) -> usize {
        let len = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len());
        size_of::<Self>() + len(&self.key) + len(&self.value) + headers.sum::<usize>()
    }
}

/// Why a record does not become a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit(pub &'static str);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Records of one partition of a source, and the position behind them: they become one part of one
/// turn, or nothing of them happens.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Comes back in [`Delivered`].
    pub token: u64,
    /// Of which downlink.
    pub rules: Arc<DownlinkRules>,
    /// Number of the source's partition.
    pub partition: u32,
    /// In the order of their offsets; none where only the position is kept.
    pub records: Vec<SourceRecord>,
    /// The table that holds positions.
    pub table: PartitionId,
    /// Under which key this one is kept.
    pub key: Box<[u8]>,
    /// The position behind the records.
    pub next_offset: u64,
}

/// What became of the records of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Published.
    pub published: u64,
    /// Sent to the dead letters.
    pub refused: u64,
    /// Too old when they came.
    pub expired: u64,
}

/// What became of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The parcel's.
    pub token: u64,
    /// `Err`: nothing of it happened.
    pub result: Result<Carried, crate::input::Refusal>,
}

/// Version byte of a position.
const FORMAT: u8 = 1;

/// A position as the table holds it.
pub fn write_position(next_offset: u64) -> [u8; 9] {
    let mut value = [FORMAT; 9];
    value[1..].copy_from_slice(&next_offset.to_be_bytes());
    value
}

/// Reads a position of the table.
pub fn read_position(value: &[u8]) -> Option<u64> {
    let (&version, rest) = value.split_first()?;
    let bytes = rest.try_into().ok()?;
    (version == FORMAT).then(|| u64::from_be_bytes(bytes))
}

impl DownlinkRules {
    /// A set for [`DownlinkRules::forbidden`], empty.
    pub fn no_streams() -> HashSet<PartitionId, RandomState> {
        HashSet::default()
    }

    /// Whether no MQTT packet could carry a record, or no entry of the journal hold what comes of it.
    pub(crate) fn is_too_large(&self, record: &SourceRecord) -> bool {
        record.size_bytes() > self.record_bytes_max.min(PACKET_BYTES_MAX as usize)
    }

    /// The PUBLISH that a record means.
    pub(crate) fn message(
        &self,
        record: &SourceRecord,
        now_ms: u64,
    ) -> Result<OwnedMessage, Unfit> {
        if self.is_too_large(record) {
            return Err(Unfit(
                "the record is larger than an MQTT packet or an entry of the journal may be",
            ));
        }
        let value = record.value.as_deref().unwrap_or_default();
        if record.headers.len() > DOWNLINK_HEADERS_MAX {
            return Err(Unfit("it has too many headers"));
        }
        let pairs = record.headers.iter();
        let pairs = pairs.map(|(name, value)| (&**name, Some(&**value)));
        let mut headers = MessageHeaders::gather(pairs).map_err(|wrong| Unfit(wrong.what))?;
        check_texts(&headers)?;
        let made;
        let topic = if let Some(topic) = headers.topic {
            topic
        } else {
            let key = match record.key.as_deref() {
                _ if !self.topic.has_key() => "",
                Some(key) => key_level(key)?,
                None => return Err(Unfit("the record has no key")),
            };
            made = self.topic.topic(key);
            made.as_bytes()
        };
        if topic.starts_with(b"$") {
            return Err(Unfit("topics of the node itself begin with $"));
        }
        let written_ms = u64::try_from(record.timestamp_ms).unwrap_or(now_ms);
        headers.retain = headers.retain.or(Some(self.retain));
        headers.expiry_s = headers.expiry_s.or(self.expiry_s);
        let qos = headers.qos.unwrap_or(self.qos);
        // Counted from when the record was written; a clock that runs ahead gains nothing.
        let written_ms = written_ms.min(now_ms);
        headers
            .message(topic, value, qos, &self.publisher, "", written_ms)
            .map_err(|wrong| Unfit(wrong.what))
    }
}

/// What MQTT forbids in texts that clients would be sent [MQTT-1.5.4-2], [MQTT-3.3.2-14].
fn check_texts(headers: &MessageHeaders<'_>) -> Result<(), Unfit> {
    let properties = &headers.properties;
    if let Some(topic) = properties.response_topic
        && mqtt::topic::validate_name(topic).is_err()
    {
        return Err(Unfit("the header mqtt.response_topic is no topic"));
    }
    let user = headers.user.iter().flat_map(|&(name, value)| [name, value]);
    if user
        .chain(properties.content_type)
        .any(|text| text.contains('\0'))
    {
        return Err(Unfit("a header holds U+0000"));
    }
    Ok(())
}

/// A key as a level of a topic.
fn key_level(key: &[u8]) -> Result<&str, Unfit> {
    let key = std::str::from_utf8(key).map_err(|_| Unfit("the key is not UTF-8"))?;
    if key.is_empty() {
        return Err(Unfit("the key is empty"));
    }
    if key.starts_with('$') {
        return Err(Unfit("the key begins with $"));
    }
    if key.contains(['/', '+', '#', '\0']) {
        return Err(Unfit("the key holds /, +, # or U+0000"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(topic: &str) -> DownlinkRules {
        DownlinkRules {
            source: "commands".into(),
            publisher: "downlink/commands".into(),
            topic: TopicTemplate::parse(topic).unwrap(),
            qos: QoS::AtLeastOnce,
            retain: false,
            expiry_s: Some(60),
            dead_letters: [1].into(),
            forbidden: HashSet::default(),
            record_bytes_max: usize::MAX,
        }
    }

    fn record(key: &[u8], headers: &[(&str, &[u8])]) -> SourceRecord {
        SourceRecord {
            timestamp_ms: 10_000,
            key: Some(key.into()),
            value: Some(b"open".as_slice().into()),
            headers: headers
                .iter()
                .map(|&(name, value)| (name.as_bytes().into(), value.into()))
                .collect(),
            ..SourceRecord::default()
        }
    }

    #[test]
    fn a_template_makes_topics_and_a_filter_that_takes_them() {
        let template = TopicTemplate::parse("devices/lock-{key}/command").unwrap();
        assert_eq!(template.topic("7"), "devices/lock-7/command");
        assert_eq!(template.filter(), "devices/+/command");
        assert!(mqtt::topic::matches(
            &template.filter(),
            &template.topic("7")
        ));
        assert!(!TopicTemplate::parse("all").unwrap().has_key());
        for wrong in ["", "a/{id}", "a/{key", "a/+/b", "a/#", "$SYS/{key}", "a\0b"] {
            assert!(TopicTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_is_no_level_is_refused_with_its_reason() {
        let rules = rules("devices/{key}/command");
        for (key, word) in [
            (b"".as_slice(), "empty"),
            (b"$SYS", "begins with $"),
            (b"a/b", "holds"),
            (b"a+", "holds"),
            (b"#", "holds"),
            (b"a\0", "holds"),
            (b"\xff", "UTF-8"),
        ] {
            let unfit = rules.message(&record(key, &[]), 10_000).unwrap_err();
            assert!(unfit.0.contains(word), "{key:?}: {unfit}");
        }
        let none = SourceRecord::default();
        assert!(rules.message(&none, 0).is_err());
        let constant = self::rules("all");
        assert_eq!(constant.message(&none, 0).unwrap().view().topic, "all");
    }

    #[test]
    fn headers_say_what_the_rules_leave_open() {
        let rules = rules("devices/{key}/command");
        let plain = rules.message(&record(b"7", &[]), 12_000).unwrap();
        let view = plain.view();
        assert_eq!(
            (view.topic, view.payload),
            ("devices/7/command", b"open".as_slice())
        );
        assert_eq!((view.qos, view.retain), (QoS::AtLeastOnce, false));
        assert_eq!(view.expires_ms, Some(70_000), "from when it was written");
        let headers: [(&str, &[u8]); 5] = [
            ("mqtt.topic", b"other/7"),
            ("mqtt.qos", b"2"),
            ("mqtt.retain", b"1"),
            ("mqtt.expiry", b"5"),
            ("mqtt.user.a", b"b"),
        ];
        let said = rules.message(&record(b"", &headers), 12_000).unwrap();
        let view = said.view();
        assert_eq!(
            (view.topic, view.qos, view.retain),
            ("other/7", QoS::ExactlyOnce, true)
        );
        assert_eq!(view.expires_ms, Some(15_000));
        assert_eq!(view.properties.iter().count(), 1);
        for (name, value) in [
            ("mqtt.topic", b"a/+".as_slice()),
            ("mqtt.topic", b"$SYS/x"),
            ("mqtt.qos", b"3"),
            ("mqtt.expiry", b"soon"),
        ] {
            let record = record(b"7", &[(name, value)]);
            assert!(rules.message(&record, 12_000).is_err(), "{name}");
        }
        let mut ahead = record(b"7", &[]);
        ahead.timestamp_ms = 1_000_000;
        let ahead = rules.message(&ahead, 12_000).unwrap();
        assert_eq!(ahead.view().expires_ms, Some(72_000));
    }

    #[test]
    fn a_position_comes_back_as_it_was_written() {
        assert_eq!(read_position(&write_position(77)), Some(77));
        assert_eq!(read_position(&[2; 9]), None);
        assert_eq!(read_position(&[1, 0]), None);
    }
}
