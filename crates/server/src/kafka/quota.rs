//! Quotas: bytes and requests a second of a principal or client id. Who is over one is told how
//! long (KIP-13, KIP-219), and its connection is not read from for that time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::kafka::Frame;
use ::kafka::api::Api;

use super::FrontDoor;
use super::caller::Caller;
use super::limits::{QUOTA_BUCKETS_MAX, QUOTA_NAME_BYTES_MAX, THROTTLE_MAX};
use crate::settings::QuotaSettings;

/// The quotas and what was used of them.
#[derive(Default)]
pub(super) struct Quotas {
    rules: Vec<QuotaSettings>,
    used: Mutex<HashMap<Key, Buckets>>,
}

/// Whom a bucket belongs to: a quota, and who is told apart by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    rule: usize,
    principal: Option<Arc<str>>,
    client_id: Option<Arc<str>>,
}

/// What one of them has left of each kind.
#[derive(Debug)]
struct Buckets {
    bytes_in: Bucket,
    bytes_out: Bucket,
    requests: Bucket,
}

/// What is left of one kind; below zero it is owed.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// What a request used.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    bytes_in: u64,
    bytes_out: u64,
}

impl FrontDoor {
    /// Counts a request and its answer against the quota of its caller. Answers how long the
    /// connection is not to be read from, and tells the client in the answer.
    pub(super) fn charge(
        &self,
        caller: &Caller,
        api: Api,
        version: i16,
        request_bytes: usize,
        frame: &mut Frame,
    ) -> Duration {
        let used = Use {
            bytes_in: request_bytes as u64,
            bytes_out: frame.size_bytes() as u64,
        };
        let pause = self.quotas.charge(caller, used, Instant::now());
        let pause_ms = pause.as_millis() as i32;
        if pause_ms == 0 {
            return Duration::ZERO;
        }
        self.counters.throttled.add(1);
        frame.set_throttle_time(api, version, pause_ms);
        pause
    }

    /// How long it is until the caller, under that client id, owes nothing.
    pub(super) fn owed(&self, caller: &Caller, client_id: &str) -> Duration {
        self.quotas
            .owed(caller.principal.name(), client_id, Instant::now())
    }
}

impl Quotas {
    /// These, in this order.
    pub fn new(rules: &[QuotaSettings]) -> Self {
        Self {
            rules: rules.to_vec(),
            used: Mutex::default(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The quota that concerns a client, and whose bucket that is.
    fn concerning(&self, principal: &str, client_id: &str) -> Option<(Key, &QuotaSettings)> {
        let concerned = self.rules.iter().enumerate().find(|(_, rule)| {
            let matches = |pattern: &Option<crate::settings::Pattern>, name: &str| {
                pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
            };
            matches(&rule.principal, principal) && matches(&rule.client_id, client_id)
        });
        let (index, rule) = concerned?;
        let key = Key {
            rule: index,
            principal: rule.principal.as_ref().map(|_| cut(principal)),
            client_id: rule.client_id.as_ref().map(|_| cut(client_id)),
        };
        Some((key, rule))
    }

    /// How long it is until nothing is owed.
    fn owed(&self, principal: &str, client_id: &str, now: Instant) -> Duration {
        let Some((key, rule)) = self.concerning(principal, client_id) else {
            return Duration::ZERO;
        };
        let all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&key)
            .map_or(Duration::ZERO, |buckets| buckets.owed(rule, now))
    }

    fn charge(&self, caller: &Caller, used: Use, now: Instant) -> Duration {
        let concerning = self.concerning(caller.principal.name(), &caller.client_id);
        let Some((key, rule)) = concerning else {
            return Duration::ZERO;
        };
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= QUOTA_BUCKETS_MAX && !all.contains_key(&key) {
            all.retain(|key, buckets| !buckets.full(&self.rules[key.rule], now));
            if all.len() >= QUOTA_BUCKETS_MAX {
                // So many at once are an attempt to be unknown; they share what is left of none.
                return THROTTLE_MAX;
            }
        }
        let buckets = all.entry(key).or_insert_with(|| Buckets::new(rule, now));
        buckets.charge(rule, used, now)
    }
}

impl Buckets {
    fn new(rule: &QuotaSettings, now: Instant) -> Self {
        let full = |rate: Option<u64>| Bucket {
            left: rate.unwrap_or(0) as f64,
            at: now,
        };
        Self {
            bytes_in: full(rule.bytes_in_per_s),
            bytes_out: full(rule.bytes_out_per_s),
            requests: full(rule.requests_per_s),
        }
    }

    /// Takes what was used; answers how long it is until nothing is owed.
    fn charge(&mut self, rule: &QuotaSettings, used: Use, now: Instant) -> Duration {
        let pauses = [
            self.bytes_in.take(rule.bytes_in_per_s, used.bytes_in, now),
            self.bytes_out
                .take(rule.bytes_out_per_s, used.bytes_out, now),
            self.requests.take(rule.requests_per_s, 1, now),
        ];
        pauses.into_iter().max().unwrap_or_default()
    }

    /// How long it is until nothing is owed.
    fn owed(&self, rule: &QuotaSettings, now: Instant) -> Duration {
        let pauses = [
            self.bytes_in.owed(rule.bytes_in_per_s, now),
            self.bytes_out.owed(rule.bytes_out_per_s, now),
            self.requests.owed(rule.requests_per_s, now),
        ];
        pauses.into_iter().max().unwrap_or_default()
    }

    /// Whether nothing is missing any more, so that a new one would be the same.
    fn full(&self, rule: &QuotaSettings, now: Instant) -> bool {
        [
            (self.bytes_in, rule.bytes_in_per_s),
            (self.bytes_out, rule.bytes_out_per_s),
            (self.requests, rule.requests_per_s),
        ]
        .into_iter()
        .all(|(bucket, rate)| rate.is_none_or(|rate| bucket.level(rate, now) >= rate as f64))
    }
}

impl Bucket {
    /// What is left now: a second's worth at most.
    fn level(self, rate: u64, now: Instant) -> f64 {
        let rate = rate as f64;
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * rate).min(rate)
    }

    fn take(&mut self, rate: Option<u64>, amount: u64, now: Instant) -> Duration {
        let Some(rate) = rate else {
            return Duration::ZERO;
        };
        let most_owed = -(rate as f64) * THROTTLE_MAX.as_secs_f64();
        self.left = (self.level(rate, now) - amount as f64).max(most_owed);
        self.at = now;
        self.owed(Some(rate), now)
    }

    fn owed(self, rate: Option<u64>, now: Instant) -> Duration {
        let Some(rate) = rate else {
            return Duration::ZERO;
        };
        let left = self.level(rate, now);
        if left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-left / rate as f64).min(THROTTLE_MAX)
    }
}

/// A name as it is kept: its beginning, where it is long.
fn cut(name: &str) -> Arc<str> {
    let mut end = name.len().min(QUOTA_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    Arc::from(&name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Principal;
    use crate::settings::Pattern;

    fn caller(principal: &str, client_id: &str) -> Caller {
        let here = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut caller = Caller::new(here, here, Arc::default());
        caller.principal = Arc::new(Principal::user(principal));
        caller.client_id = client_id.into();
        caller
    }

    fn bytes_in(amount: u64) -> Use {
        Use {
            bytes_in: amount,
            bytes_out: 0,
        }
    }

    #[test]
    fn who_is_over_its_rate_waits_until_it_is_not() {
        let quotas = Quotas::new(&[QuotaSettings {
            bytes_in_per_s: Some(1_000),
            ..Default::default()
        }]);
        let joe = caller("joe", "a");
        let now = Instant::now();
        assert_eq!(quotas.charge(&joe, bytes_in(1_000), now), Duration::ZERO);
        let pause = quotas.charge(&joe, bytes_in(500), now);
        assert_eq!(pause, Duration::from_millis(500));
        // Also on another connection, until then.
        let owed = |later| quotas.owed("joe", "a", now + Duration::from_millis(later));
        assert_eq!(owed(0), Duration::from_millis(500));
        assert_eq!(owed(500), Duration::ZERO);
        // Nobody is told apart by this quota.
        let other = quotas.charge(&caller("ann", "b"), bytes_in(500), now);
        assert_eq!(other, Duration::from_secs(1));
        let later = now + Duration::from_secs(2);
        assert_eq!(quotas.charge(&joe, bytes_in(1_000), later), Duration::ZERO);
        // What is owed has a bound, as has the pause.
        let giant = quotas.charge(&joe, bytes_in(1 << 40), later);
        assert_eq!(giant, THROTTLE_MAX);
        let after = later + THROTTLE_MAX;
        assert_eq!(quotas.charge(&joe, bytes_in(0), after), Duration::ZERO);
    }

    #[test]
    fn each_whom_a_quota_tells_apart_has_its_own() {
        let quotas = Quotas::new(&[
            QuotaSettings {
                principal: Some(Pattern::read("root")),
                requests_per_s: Some(1_000_000),
                ..Default::default()
            },
            QuotaSettings {
                principal: Some(Pattern::Any),
                client_id: Some(Pattern::read("report*")),
                requests_per_s: Some(1),
                ..Default::default()
            },
        ]);
        let now = Instant::now();
        let charge = |name: &str, id: &str| quotas.charge(&caller(name, id), Use::default(), now);
        assert_eq!(charge("joe", "report-1"), Duration::ZERO);
        assert_eq!(charge("joe", "report-1"), Duration::from_secs(1));
        assert_eq!(charge("joe", "report-2"), Duration::ZERO);
        assert_eq!(charge("ann", "report-1"), Duration::ZERO);
        for _ in 0..10 {
            assert_eq!(charge("joe", "other"), Duration::ZERO);
            assert_eq!(charge("root", "report-1"), Duration::ZERO);
        }
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let quotas = Quotas::new(&[QuotaSettings {
            client_id: Some(Pattern::Any),
            requests_per_s: Some(1),
            ..Default::default()
        }]);
        let now = Instant::now();
        for n in 0..QUOTA_BUCKETS_MAX {
            let pause = quotas.charge(&caller("joe", &n.to_string()), Use::default(), now);
            assert_eq!(pause, Duration::ZERO);
        }
        let one_more = |now| quotas.charge(&caller("joe", "more"), Use::default(), now);
        assert_eq!(one_more(now), THROTTLE_MAX);
        // Once the others are idle there is room.
        assert_eq!(one_more(now + Duration::from_secs(2)), Duration::ZERO);
        let long = "\u{e4}".repeat(QUOTA_NAME_BYTES_MAX);
        assert!(cut(&long).len() <= QUOTA_NAME_BYTES_MAX);
    }
}
