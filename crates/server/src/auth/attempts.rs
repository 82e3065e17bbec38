//! How guessing is slowed down: each failure makes the next attempt of the same address for the
//! same name wait longer, and so do failures of one address with many names. A host that has IPv6
//! has a /64 of addresses, which count as one. Pure; the time is given.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::counted_as;
use super::limits::{
    ADDRESS_FAILURES_FREE, ATTEMPTS_UNDER_WAY_MAX, DELAY_FIRST, DELAY_MAX, DELAY_WAIT_MAX,
    FAILURES_FOR, FAILURES_MAX,
};

/// Who failed how often of late.
#[derive(Debug, Default)]
pub struct Attempts {
    by_name: HashMap<(IpAddr, String), Failures>,
    by_address: HashMap<IpAddr, Failures>,
    /// Attempts under way; as many as there are connections that make them.
    under_way: HashMap<(IpAddr, String), u32>,
}

/// The failures of one key.
#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// When the next attempt has its turn.
    next: Instant,
}

impl Attempts {
    /// How long an attempt waits for its turn; `None`: too many wait already, and this one has
    /// failed. Attempts at the same time wait behind each other.
    pub fn turn(&mut self, address: IpAddr, name: &str, now: Instant) -> Option<Duration> {
        let address = counted_as(address);
        let of_name = self.by_name.get_mut(&(address, name.to_owned()));
        let of_address = self.by_address.get_mut(&address);
        let mut at = now;
        let mut slowed = Vec::with_capacity(2);
        if let Some(failures) = of_name {
            slowed.push((failures, 0));
        }
        if let Some(failures) = of_address {
            slowed.push((failures, ADDRESS_FAILURES_FREE));
        }
        for (failures, free) in &slowed {
            if failures.pause(*free) > Duration::ZERO && !failures.forgotten(now) {
                at = at.max(failures.next);
            }
        }
        let wait = at - now;
        if wait > DELAY_WAIT_MAX {
            return None;
        }
        for (failures, free) in slowed {
            failures.next = at + failures.pause(free);
        }
        Some(wait)
    }

    /// An attempt begins, and [`Attempts::ended`] follows; false: too many are under way.
    pub fn begun(&mut self, address: IpAddr, name: &str) -> bool {
        let key = (counted_as(address), name.to_owned());
        let under_way = self.under_way.entry(key).or_default();
        let may = *under_way < ATTEMPTS_UNDER_WAY_MAX;
        *under_way += u32::from(may);
        may
    }

    /// An attempt that has begun is over, however.
    pub fn ended(&mut self, address: IpAddr, name: &str) {
        let key = (counted_as(address), name.to_owned());
        if let Some(under_way) = self.under_way.get_mut(&key) {
            *under_way -= 1;
            if *under_way == 0 {
                self.under_way.remove(&key);
            }
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, address: IpAddr, name: &str, now: Instant) {
        let address = counted_as(address);
        if count(&mut self.by_name, (address, name.to_owned()), 0, now) == 1 {
            count(&mut self.by_address, address, ADDRESS_FAILURES_FREE, now);
        }
    }

    /// An attempt succeeded: that name is no longer slowed down for that address.
    pub fn succeeded(&mut self, address: IpAddr, name: &str) {
        if !self.by_name.is_empty() {
            self.by_name.remove(&(counted_as(address), name.to_owned()));
        }
    }
}

/// Counts a failure; answers how many there are of that key.
fn count<K: Eq + Hash>(map: &mut HashMap<K, Failures>, key: K, free: u32, now: Instant) -> u32 {
    if map.len() >= FAILURES_MAX && !map.contains_key(&key) {
        map.retain(|_, failures| !failures.forgotten(now));
        if map.len() >= FAILURES_MAX {
            // Under such an attack the bound matters more than who is in the map.
            map.clear();
        }
    }
    let failures = map.entry(key).or_insert(Failures {
        count: 0,
        last: now,
        next: now,
    });
    if failures.forgotten(now) {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now;
    failures.next = failures.next.max(now + failures.pause(free));
    failures.count
}

impl Failures {
    fn forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FAILURES_FOR
    }

    fn pause(&self, free: u32) -> Duration {
        match self.count.saturating_sub(free) {
            0 => Duration::ZERO,
            over => (DELAY_FIRST * 2_u32.saturating_pow(over - 1).min(1_000)).min(DELAY_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn each_failure_makes_the_next_attempt_wait_longer() {
        let mut attempts = Attempts::default();
        let mut now = Instant::now();
        assert_eq!(attempts.turn(HERE, "joe", now), Some(Duration::ZERO));
        let mut waits = Vec::new();
        for _ in 0..8 {
            attempts.failed(HERE, "joe", now);
            let wait = attempts.turn(HERE, "joe", now).unwrap();
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000, 1000, 1000]);
        assert_eq!(attempts.turn(HERE, "ann", now), Some(Duration::ZERO));
        attempts.succeeded(HERE, "joe");
        assert_eq!(attempts.turn(HERE, "joe", now), Some(Duration::ZERO));
        attempts.failed(HERE, "joe", now);
        let later = now + FAILURES_FOR;
        assert_eq!(attempts.turn(HERE, "joe", later), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_at_the_same_time_wait_behind_each_other() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        for _ in 0..6 {
            attempts.failed(HERE, "joe", now);
        }
        let waits: Vec<_> = (0..12)
            .map(|_| attempts.turn(HERE, "joe", now).map(|wait| wait.as_secs()))
            .collect();
        let wanted: Vec<_> = (1..=10).map(Some).chain([None, None]).collect();
        assert_eq!(waits, wanted);
    }

    #[test]
    fn few_attempts_are_under_way_before_the_first_has_failed() {
        let mut attempts = Attempts::default();
        for _ in 0..ATTEMPTS_UNDER_WAY_MAX {
            assert!(attempts.begun(HERE, "joe"));
        }
        assert!(!attempts.begun(HERE, "joe") && attempts.begun(HERE, "ann"));
        attempts.ended(HERE, "joe");
        assert!(attempts.begun(HERE, "joe") && !attempts.begun(HERE, "joe"));
        for _ in 0..ATTEMPTS_UNDER_WAY_MAX {
            attempts.ended(HERE, "joe");
        }
        attempts.ended(HERE, "ann");
        assert!(attempts.under_way.is_empty());
    }

    #[test]
    fn an_address_that_fails_with_many_names_waits_too() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        for n in 0..=ADDRESS_FAILURES_FREE {
            assert_eq!(attempts.turn(HERE, "new", now), Some(Duration::ZERO));
            let name = format!("user{n}");
            attempts.failed(HERE, &name, now);
            attempts.failed(HERE, &name, now);
        }
        assert_eq!(attempts.turn(HERE, "new", now), Some(DELAY_FIRST));
    }

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        attempts.failed(at("2001:db8:1:2::1"), "joe", now);
        attempts.failed(at("::ffff:192.0.2.1"), "joe", now);
        let mut slow = |text| attempts.turn(at(text), "joe", now) > Some(Duration::ZERO);
        assert!(slow("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(!slow("2001:db8:1:3::1"));
        assert!(slow("192.0.2.1") && !slow("192.0.2.2"));
        attempts.succeeded(at("2001:db8:1:2::3"), "joe");
        let wait = attempts.turn(at("2001:db8:1:2::1"), "joe", now);
        assert_eq!(wait, Some(Duration::ZERO));
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        for n in 0..=FAILURES_MAX {
            attempts.failed(HERE, &n.to_string(), now);
        }
        assert!(attempts.by_name.len() <= FAILURES_MAX);
    }
}
