//! What the Kafka front door counts about itself, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use ::kafka::api::Api;

/// Declares the counts and their plain copy from one list.
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counts of the front door.
        #[derive(Debug, Default)]
        pub struct KafkaCounters {
            $($(#[$doc])* pub(super) $name: Count,)*
            apis: [ApiCounters; Api::ALL.len()],
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
    /// Fetches that wait for records now (a level).
    fetches_parked,
    /// Connections closed because of bytes that are no request.
    malformed,
    /// Connections closed because of an API or a version that is not served.
    unsupported,
    /// Connections closed because the peer was silent or did not read.
    timed_out,
}

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
}

/// The figures of one API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiValues {
    /// Kafka's name of the API.
    pub api: &'static str,
    /// Requests.
    pub requests: u64,
    /// Error codes in the responses.
    pub errors: u64,
}

impl KafkaCounters {
    pub(super) fn request(&self, api: Api) {
        self.apis[api.index()].requests.add(1);
    }

    pub(super) fn error(&self, api: Api) {
        self.apis[api.index()].errors.add(1);
    }

    fn api_values(&self, api: Api) -> ApiValues {
        let counters = &self.apis[api.index()];
        ApiValues {
            api: api.name(),
            requests: counters.requests.get(),
            errors: counters.errors.get(),
        }
    }
}
