//! What the Kafka front door counts about itself, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::kafka::api::Api;

use crate::settings::SaslMechanism;

/// Declares the counts and their plain copy from one list.
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counts of the front door.
        #[derive(Debug)]
        pub struct KafkaCounters {
            $($(#[$doc])* pub(super) $name: Count,)*
            apis: Box<[ApiCounters]>,
        }

        impl Default for KafkaCounters {
            fn default() -> Self {
                Self {
                    $($name: Count::default(),)*
                    apis: Api::ALL.iter().map(|_| ApiCounters::default()).collect(),
                }
            }
        }

        /// A plain copy of the counts.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct KafkaValues {
            $($(#[$doc])* pub $name: u64,)*
            /// Requests by API.
            pub apis: Vec<ApiValues>,
        }

        impl KafkaCounters {
            /// The figures as they are now.
            pub fn values(&self) -> KafkaValues {
                KafkaValues {
                    $($name: self.$name.get(),)*
                    apis: Api::ALL.iter().map(|&api| self.api_values(api)).collect(),
                }
            }
        }
    };
}

counts! {
    /// Connections that are open now (a level).
    connections,
    /// Connections ever accepted.
    connections_total,
    /// Connections closed at once because too many were open.
    connections_refused,
    /// Bytes of requests.
    bytes_in,
    /// Bytes of responses.
    bytes_out,
    /// Looks at connections that waited until much had come (see `moderation`).
    looks_moderated,
    /// Fetches that wait for records now (a level).
    fetches_parked,
    /// Connections closed because of bytes that are no request.
    malformed,
    /// Connections closed because of an API or a version that is not served.
    unsupported,
    /// Connections closed because the peer was silent or did not read.
    timed_out,
    /// Connections closed because of a request that must not come before, or instead of, a login.
    not_logged_in,
    /// Logins by PLAIN.
    logins_plain,
    /// Logins by PLAIN that were refused.
    logins_plain_failed,
    /// Logins by SCRAM-SHA-256.
    logins_scram_sha_256,
    /// Logins by SCRAM-SHA-256 that were refused.
    logins_scram_sha_256_failed,
    /// Logins by SCRAM-SHA-512.
    logins_scram_sha_512,
    /// Logins by SCRAM-SHA-512 that were refused.
    logins_scram_sha_512_failed,
    /// TLS handshakes.
    tls_handshakes,
    /// TLS handshakes that failed.
    tls_handshakes_failed,
    /// Answers that told a client to wait, because of a quota.
    throttled,
}

/// Upper bounds of the buckets of the times from a request to its answer, in microseconds.
pub const ANSWER_BOUNDS_US: [u64; 12] = [
    200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000,
];

/// One figure.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Raises a level for as long as the guard lives.
    pub(super) fn level(&self, n: u64) -> Level<'_> {
        self.add(n);
        Level { count: self, n }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lowers its level again when it goes.
pub(super) struct Level<'a> {
    count: &'a Count,
    n: u64,
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.count.0.fetch_sub(self.n, Ordering::Relaxed);
    }
}

/// The counts of one API.
#[derive(Debug, Default)]
struct ApiCounters {
    requests: Count,
    errors: Count,
    buckets: [Count; ANSWER_BOUNDS_US.len() + 1],
    sum_us: Count,
}

/// The figures of one API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiValues {
    /// Kafka's name of the API.
    pub api: &'static str,
    /// Requests.
    pub requests: u64,
    /// Error codes in the responses.
    pub errors: u64,
    /// Requests by the time to their answer, each bucket for itself; the last is beyond all of
    /// [`ANSWER_BOUNDS_US`].
    pub buckets: Vec<u64>,
    /// Sum of all times, in microseconds.
    pub sum_us: u64,
}

impl KafkaCounters {
    /// A login ended.
    pub(super) fn logged_in(&self, mechanism: SaslMechanism, well: bool) {
        let count = match (mechanism, well) {
            (SaslMechanism::Plain, true) => &self.logins_plain,
            (SaslMechanism::Plain, false) => &self.logins_plain_failed,
            (SaslMechanism::ScramSha256, true) => &self.logins_scram_sha_256,
            (SaslMechanism::ScramSha256, false) => &self.logins_scram_sha_256_failed,
            (SaslMechanism::ScramSha512, true) => &self.logins_scram_sha_512,
            (SaslMechanism::ScramSha512, false) => &self.logins_scram_sha_512_failed,
        };
        count.add(1);
    }

    pub(super) fn request(&self, api: Api) {
        self.apis[api.index()].requests.add(1);
    }

    pub(super) fn error(&self, api: Api) {
        self.apis[api.index()].errors.add(1);
    }

    /// A request was answered, or needs no answer, so long after it was begun.
    pub(super) fn answered(&self, api: Api, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let counters = &self.apis[api.index()];
        counters.buckets[ANSWER_BOUNDS_US.partition_point(|&bound| bound < us)].add(1);
        counters.sum_us.add(us);
    }

    fn api_values(&self, api: Api) -> ApiValues {
        let counters = &self.apis[api.index()];
        ApiValues {
            api: api.name(),
            requests: counters.requests.get(),
            errors: counters.errors.get(),
            buckets: counters.buckets.iter().map(Count::get).collect(),
            sum_us: counters.sum_us.get(),
        }
    }
}
