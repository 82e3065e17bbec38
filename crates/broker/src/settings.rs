//! What a shard grants and bounds, checked and typed by the caller. Knows no file and no key name.

/// Which member of a shared group gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharedStrategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The same member until it leaves or its inflight window is full.
    Sticky,
}

/// What becomes of an MQTT 3 client that publishes what it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeniedPublish {
    /// The message is dropped, and acknowledged as if it were not: MQTT 3 has no word for it.
    #[default]
    Drop,
    /// The connection is closed.
    Disconnect,
}

/// Settings of every shard of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Largest packet taken from or sent to a client, bytes of the whole packet.
    pub packet_size_max: u32,
    /// Longest keep alive granted, seconds; a client that asks for more, or for none, is told this
    /// one (MQTT 5). `None`: what the client asks for.
    pub keep_alive_s_max: Option<u16>,
    /// Longest session expiry granted, seconds. `None`: sessions may live for ever.
    pub session_expiry_s_max: Option<u32>,
    /// Receive maximum that the node announces: unacknowledged QoS 1 and 2 publishes of a client.
    pub receive_maximum: u16,
    /// Unacknowledged QoS 1 and 2 deliveries to one client, whatever it announced.
    pub inflight_max: u16,
    /// The same for clients of MQTT 3, which cannot announce anything.
    pub inflight_v3: u16,
    /// Topic aliases that a client may set, and that the node uses where the client allows them.
    pub topic_alias_max: u16,
    /// Highest QoS of publishes.
    pub qos_max: mqtt::QoS,
    /// Whether retained messages are kept.
    pub retain_available: bool,
    /// Messages owed to one session; one more is dropped, counted and reported.
    pub inbox_max: u32,
    /// Bytes of inboxes of all sessions of the node together.
    pub inbox_bytes_max: u64,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Bytes waiting in the send buffer of a connection at which its deliveries go to the inbox.
    pub send_buffer_bytes_max: u32,
    /// Which member of a shared group gets a message.
    pub shared_strategy: SharedStrategy,
    /// What becomes of an MQTT 3 client that publishes what it may not.
    pub denied_publish: DeniedPublish,
    /// Bytes of recent commits that a shard keeps so that short backlogs need no read; as many again
    /// of messages that were read back for an event, and of messages read ahead of a window.
    pub recent_bytes_max: u64,
    /// How long an answer waits for the Apache Kafka cluster behind before it becomes a failure, ms.
    pub mirror_ack_ms_max: u64,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            packet_size_max: 1024 * 1024,
            keep_alive_s_max: None,
            session_expiry_s_max: None,
            receive_maximum: 1_024,
            inflight_max: 1_024,
            inflight_v3: 32,
            topic_alias_max: 32,
            qos_max: mqtt::QoS::ExactlyOnce,
            retain_available: true,
            inbox_max: 1_000,
            inbox_bytes_max: 1024 * 1024 * 1024,
            subscriptions_max: 10_000,
            send_buffer_bytes_max: 1024 * 1024,
            shared_strategy: SharedStrategy::RoundRobin,
            denied_publish: DeniedPublish::Drop,
            recent_bytes_max: 16 * 1024 * 1024,
            mirror_ack_ms_max: 30_000,
        }
    }
}

impl BrokerSettings {
    /// Bytes below which a connection whose deliveries were held back takes them again.
    pub fn output_low_bytes(&self) -> usize {
        self.send_buffer_bytes_max as usize / 4
    }
}
