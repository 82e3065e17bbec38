//! The settings as the rooms behind take them: the log's, the broker's.

use super::{HookSettings, LogSettings, Settings, StreamSettings};
use broker::limits::{INBOX_MAX, OWED_BYTES};

/// Parts that a journal is cut into, so that one can be recycled while others fill.
const JOURNAL_PARTS: u64 = 8;
/// Least size of a part where the journal has room for two: one entry must fit into it, and a turn
/// with a few of the largest packets comes to tens of MiB.
const JOURNAL_PART_BYTES_MIN: u64 = 32 << 20;

// One entry of the journal, which must fit into a part, holds the largest inbox as a whole.
const _: () = assert!((INBOX_MAX as u64) * (OWED_BYTES as u64) < JOURNAL_PART_BYTES_MIN);

impl Settings {
    /// What every shard grants and bounds.
    pub fn broker(&self) -> broker::BrokerSettings {
        let mqtt = &self.mqtt;
        broker::BrokerSettings {
            packet_size_max: mqtt.packet_size_max,
            keep_alive_s_max: mqtt.keep_alive_s_max,
            session_expiry_s_max: mqtt.session_expiry_s_max,
            receive_maximum: mqtt.receive_maximum,
            inflight_max: mqtt.inflight_max,
            inflight_v3: mqtt.inflight_v3,
            topic_alias_max: mqtt.topic_alias_max,
            inbox_max: mqtt.inbox_max,
            inbox_bytes_max: mqtt.inbox_bytes_max,
            subscriptions_max: mqtt.subscriptions_max,
            send_buffer_bytes_max: mqtt.send_buffer_bytes_max,
            shared_strategy: mqtt.shared_strategy,
            mirror_ack_ms_max: self.mirror.as_ref().map_or_else(
                || broker::BrokerSettings::default().mirror_ack_ms_max,
                |mirror| mirror.ack_timeout_ms,
            ),
            denied_publish: self.keys.authorization.denied_publish,
            ..broker::BrokerSettings::default()
        }
    }
}

impl LogSettings {
    /// How the log is kept.
    pub fn log_config(&self) -> commitlog::LogConfig {
        commitlog::LogConfig {
            journal_part_bytes: (self.journal_bytes / JOURNAL_PARTS)
                .max(JOURNAL_PART_BYTES_MIN)
                .min(self.journal_bytes / 2),
            journal_bytes_max: self.journal_bytes,
            tail_bytes_max: self.tail_bytes_max,
            gathered_bytes_max: commitlog::limits::GATHERED_BYTES_DEFAULT,
            reserve_bytes: self.disk_reserve_bytes,
            accept_loss: self.accept_loss,
            skip_entries: self.skip_entry.clone(),
            producer_expiry_ms: self.producer_expiry_ms,
            producers_max: commitlog::limits::PRODUCERS_MAX,
        }
    }
}

impl StreamSettings {
    /// The stream as the log makes it; the topic id is left to whoever has randomness.
    pub fn to_log(&self) -> commitlog::StreamSettings {
        commitlog::StreamSettings {
            partitions: self.partitions,
            ack: self.ack,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            size_max_bytes: self.size_bytes_max,
            compact: self.compaction,
            delete: !self.compaction,
            storage: self.storage,
            segment_bytes: self.segment_bytes,
            ..commitlog::StreamSettings::new(self.name.as_str())
        }
    }
}

impl HookSettings {
    /// The hook as the broker compiles it; `counter`: which figure counts its records.
    pub fn to_broker(&self, counter: u16) -> broker::HookSettings {
        broker::HookSettings {
            counter,
            event: self.event,
            filter: self.filter.clone().unwrap_or_else(|| "#".to_owned()),
            stream: self.stream.clone(),
            key: broker::KeyTemplate::parse(&self.key).expect("the template was parsed before"),
            payload: self.payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::settings::{DEFAULT_QOS0_STREAM, Settings};

    #[test]
    fn the_log_and_the_broker_accept_what_was_checked() {
        let settings = Settings::for_tests(Path::new("/x"));
        for stream in &settings.streams {
            let log = stream.to_log();
            assert_eq!(log.check(), Ok(()), "{}", log.name);
            assert_eq!(
                log.ack == commitlog::Ack::Memory,
                log.name == DEFAULT_QOS0_STREAM
            );
            assert_eq!(log.segment_bytes, 256 << 20);
        }
        assert_eq!(settings.hooks[0].to_broker(0).filter, "devices/+/state");
        let log = settings.log.log_config();
        assert!(log.journal_part_bytes * 2 <= log.journal_bytes_max);
    }
}
