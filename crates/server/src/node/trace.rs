//! Packets of chosen clients, told as they pass to whoever traces. Where nobody does, a worker reads
//! one flag a packet. It must not know who listens.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mqtt::{Connect, Packet, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::wall_ms;

/// Lines that wait for one who traces; what comes beyond is counted and left out.
const WAITING_MAX: usize = 1_000;

/// Bytes of a line that are shown.
const LINE_BYTES_MAX: usize = 1_024;

/// Whose packets; all that is said must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceQuery {
    /// Client id.
    pub client: Option<String>,
    /// MQTT filter that a topic, or a filter, in the packet matches.
    pub topic: Option<String>,
    /// Address of the client.
    pub address: Option<IpAddr>,
}

/// A packet that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceLine {
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// Whose.
    pub client_id: String,
    /// `in`: from the client; `out`: to it.
    pub direction: String,
    /// Its type, such as `PUBLISH`.
    pub packet: String,
    /// The topic it is about, if there is one.
    pub topic: Option<String>,
    /// The packet in a line.
    pub summary: String,
}

/// All who trace.
#[derive(Default)]
pub struct Traces {
    armed: AtomicBool,
    tracers: Mutex<Vec<Tracer>>,
}

struct Tracer {
    query: TraceQuery,
    lines: mpsc::Sender<TraceLine>,
    skipped: Arc<AtomicU64>,
}

/// What one who traces gets.
pub struct Tracing {
    /// The lines.
    pub lines: mpsc::Receiver<TraceLine>,
    /// Lines that were left out since it was last set to zero.
    pub skipped: Arc<AtomicU64>,
}

impl Traces {
    /// Begins to trace; ends with the receiver.
    pub fn follow(&self, query: TraceQuery) -> Tracing {
        let (sender, lines) = mpsc::channel(WAITING_MAX);
        let skipped = Arc::new(AtomicU64::new(0));
        let mut tracers = self.lock();
        tracers.push(Tracer {
            query,
            lines: sender,
            skipped: Arc::clone(&skipped),
        });
        self.armed.store(true, Ordering::Relaxed);
        Tracing { lines, skipped }
    }

    /// Whether anybody traces.
    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// Whose packets are traced now.
    pub(super) fn chosen(&self) -> Chosen {
        let tracers = self.lock();
        let queries = tracers.iter().map(|tracer| tracer.query.clone());
        Chosen(queries.collect())
    }

    /// A packet passes.
    pub(super) fn tell(
        &self,
        client_id: &str,
        address: Option<IpAddr>,
        inbound: bool,
        packet: &Packet<'_>,
    ) {
        let mut tracers = self.lock();
        tracers.retain(|tracer| !tracer.lines.is_closed());
        self.armed.store(!tracers.is_empty(), Ordering::Relaxed);
        for tracer in tracers.iter() {
            if !tracer.query.takes(client_id, address, packet) {
                continue;
            }
            if tracer.lines.capacity() == 0 {
                tracer.skipped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let line = TraceLine {
                time_ms: wall_ms(),
                client_id: client_id.to_owned(),
                direction: if inbound { "in" } else { "out" }.to_owned(),
                packet: name(packet),
                topic: topics(packet).into_iter().next(),
                summary: cut(summary(packet)),
            };
            tracer.put(line);
        }
    }

    /// A client did not come in: its CONNECT as far as it can be read, and what it was told.
    pub(super) fn tell_refused(
        &self,
        client_id: &str,
        address: IpAddr,
        connect: Option<&Packet<'_>>,
        why: &str,
    ) {
        if !self.is_armed() {
            return;
        }
        let unread = Packet::Pingreq;
        if let Some(connect) = connect {
            self.tell(client_id, Some(address), true, connect);
        }
        for tracer in self.lock().iter() {
            let about = connect.unwrap_or(&unread);
            if !tracer.query.takes(client_id, Some(address), about) {
                continue;
            }
            let line = TraceLine {
                time_ms: wall_ms(),
                client_id: client_id.to_owned(),
                direction: "out".to_owned(),
                packet: "CONNACK".to_owned(),
                topic: None,
                summary: format!("CONNACK refused: {why}"),
            };
            tracer.put(line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tracer>> {
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracer {
    fn put(&self, line: TraceLine) {
        if self.lines.try_send(line).is_err() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What all who trace ask for, at one moment.
pub(super) struct Chosen(Vec<TraceQuery>);

impl Chosen {
    /// Whether anybody traces this client.
    pub(super) fn has(&self, client_id: &str, address: Option<IpAddr>) -> bool {
        let mut queries = self.0.iter();
        queries.any(|query| query.takes_client(client_id, address))
    }
}

impl TraceQuery {
    fn takes(&self, client_id: &str, address: Option<IpAddr>, packet: &Packet<'_>) -> bool {
        let topic = self.topic.as_deref().is_none_or(|filter| {
            let found = topics(packet);
            found
                .iter()
                .any(|topic| topic == filter || covers(filter, topic))
        });
        self.takes_client(client_id, address) && topic
    }

    fn takes_client(&self, client_id: &str, address: Option<IpAddr>) -> bool {
        let client = self
            .client
            .as_deref()
            .is_none_or(|wanted| wanted == client_id);
        let own = self.address.is_none_or(|wanted| {
            address.is_some_and(|address| address.to_canonical() == wanted.to_canonical())
        });
        client && own
    }
}

/// Whether an MQTT filter takes a topic.
fn covers(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (part, Some(level)) if part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The topics and filters that a packet names.
fn topics(packet: &Packet<'_>) -> Vec<String> {
    match packet {
        Packet::Connect(connect) => {
            let will = connect.will.iter();
            will.map(|will| will.topic.to_owned()).collect()
        }
        Packet::Publish(publish) if !publish.topic.is_empty() => vec![publish.topic.to_owned()],
        Packet::Subscribe(subscribe) => {
            let filters = subscribe.filters.iter();
            filters.map(|(filter, _)| filter.to_owned()).collect()
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.filters.iter();
            filters.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn name(packet: &Packet<'_>) -> String {
    format!("{:?}", packet.kind()).to_uppercase()
}

/// The line, as far as it is shown: a SUBSCRIBE may have thousands of filters.
fn cut(mut line: String) -> String {
    if line.len() > LINE_BYTES_MAX {
        line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
        line += "...";
    }
    line
}

/// The packet in a line; payloads and passwords are not in it.
fn summary(packet: &Packet<'_>) -> String {
    let name = name(packet);
    match packet {
        Packet::Publish(publish) => {
            let mut text = format!("{name} {} QoS {}", publish.topic, publish.qos as u8);
            if publish.packet_id != 0 {
                let _ = write!(text, " id {}", publish.packet_id);
            }
            if let Some(alias) = publish.properties.topic_alias {
                let _ = write!(text, " alias {alias}");
            }
            if publish.retain {
                text += " retain";
            }
            if publish.dup {
                text += " dup";
            }
            format!("{text}, {} bytes", publish.payload.len())
        }
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            format!("{name} id {} {}", ack.packet_id, ack.reason.name())
        }
        Packet::Subscribe(subscribe) => {
            format!(
                "{name} id {} {}",
                subscribe.packet_id,
                topics(packet).join(" ")
            )
        }
        Packet::Unsubscribe(unsubscribe) => {
            format!(
                "{name} id {} {}",
                unsubscribe.packet_id,
                topics(packet).join(" ")
            )
        }
        Packet::Suback(suback) => format!("{name} id {}", suback.packet_id),
        Packet::Unsuback(unsuback) => format!("{name} id {}", unsuback.packet_id),
        Packet::Connect(connect) => format!("{name} {}", connect_summary(connect)),
        Packet::Connack(connack) if connack.session_present => {
            format!("{name} {}, session present", connack.reason.name())
        }
        Packet::Connack(connack) => format!("{name} {}", connack.reason.name()),
        Packet::Disconnect(disconnect) => format!("{name} {}", disconnect.reason.name()),
        _ => name,
    }
}

/// What a client says of itself; its password is not in it.
fn connect_summary(connect: &Connect<'_>) -> String {
    let version = match connect.version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    };
    let mut text = format!("MQTT {version}, keep alive {} s", connect.keep_alive_s);
    if connect.clean_start {
        text += ", clean";
    }
    match connect.session_expiry_s() {
        0 => {}
        u32::MAX => text += ", session for ever",
        expiry_s => {
            let _ = write!(text, ", session {expiry_s} s");
        }
    }
    if let Some(username) = connect.username {
        let _ = write!(text, ", user {username}");
    }
    if connect.password.is_some() {
        text += ", password";
    }
    if let Some(method) = connect.properties.authentication_method {
        let _ = write!(text, ", method {method}");
    }
    if let Some(will) = &connect.will {
        let _ = write!(text, ", will {} QoS {}", will.topic, will.qos as u8);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect() -> Packet<'static> {
        Packet::Connect(Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive_s: 60,
            client_id: "lock",
            username: Some("joe"),
            password: Some(b"pencil"),
            will: None,
            properties: mqtt::ConnectProperties {
                session_expiry_s: 3600,
                ..mqtt::ConnectProperties::default()
            },
        })
    }

    #[test]
    fn who_does_not_come_in_is_told_with_the_reason_and_without_the_password() {
        let traces = Traces::default();
        let here = IpAddr::from([127, 0, 0, 1]);
        let mut all = traces.follow(TraceQuery::default());
        let mut other = traces.follow(TraceQuery {
            client: Some("other".to_owned()),
            ..TraceQuery::default()
        });
        traces.tell_refused("lock", here, Some(&connect()), "not authorized");
        let (packet, answer) = (all.lines.try_recv().unwrap(), all.lines.try_recv().unwrap());
        let said = "CONNECT MQTT 5, keep alive 60 s, clean, session 3600 s, user joe, password";
        assert_eq!(
            (packet.direction.as_str(), packet.summary.as_str()),
            ("in", said)
        );
        assert_eq!(answer.summary, "CONNACK refused: not authorized");
        assert!(!format!("{packet:?}{answer:?}").contains("pencil"));
        // What cannot be read has no client id; whoever traces the address sees it.
        traces.tell_refused("", here, None, "unsupported protocol version");
        assert_eq!(all.lines.try_recv().unwrap().client_id, "");
        assert!(other.lines.try_recv().is_err());
    }

    fn publish(topic: &str) -> Packet<'_> {
        Packet::Publish(mqtt::Publish {
            dup: false,
            qos: mqtt::QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: 7,
            properties: mqtt::PublishProperties::default(),
            payload: b"secret",
        })
    }

    #[test]
    fn only_what_is_asked_for_is_told_and_nothing_once_nobody_asks() {
        let traces = Traces::default();
        let here = Some(IpAddr::from([127, 0, 0, 1]));
        assert!(!traces.is_armed());
        let mut lock = traces.follow(TraceQuery {
            client: Some("lock".to_owned()),
            topic: Some("devices/+/state".to_owned()),
            address: here,
        });
        assert!(traces.is_armed());
        traces.tell("lock", here, true, &publish("devices/1/state"));
        traces.tell("lock", here, true, &publish("devices/1/command"));
        traces.tell("other", here, true, &publish("devices/1/state"));
        traces.tell("lock", None, true, &publish("devices/1/state"));
        let line = lock.lines.try_recv().unwrap();
        assert_eq!(line.summary, "PUBLISH devices/1/state QoS 1 id 7, 6 bytes");
        assert!(lock.lines.try_recv().is_err());
        for _ in 0..=WAITING_MAX {
            traces.tell("lock", here, false, &publish("devices/1/state"));
        }
        assert_eq!(lock.skipped.load(Ordering::Relaxed), 1);
        drop(lock);
        traces.tell("lock", here, true, &publish("devices/1/state"));
        assert!(!traces.is_armed());
    }

    #[test]
    fn filters_cover_topics() {
        for (filter, topic, covered) in [
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a", "b", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(covers(filter, topic), covered, "{filter} {topic}");
        }
    }
}
