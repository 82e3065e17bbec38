//! Clients that come and go too often. Pure; the time is given.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::limits::FLAPPING_CLIENTS_MAX;

/// How often each client id came within the window.
#[derive(Debug)]
pub struct Flapping {
    connects_max: u32,
    window: Duration,
    seen: HashMap<Box<str>, Seen>,
    /// Client ids in the order in which their windows began.
    order: VecDeque<(Instant, Box<str>)>,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    count: u32,
}

impl Flapping {
    /// Nobody has come yet.
    pub fn new(connects_max: u32, window: Duration) -> Self {
        Self {
            connects_max,
            window,
            seen: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// A client comes in; true: it came more often than it may, and is counted anew from now on.
    pub fn came(&mut self, client_id: &str, now: Instant) -> bool {
        while let Some((since, _)) = self.order.front() {
            let over = now.saturating_duration_since(*since) >= self.window;
            if !over && self.order.len() < FLAPPING_CLIENTS_MAX {
                break;
            }
            let Some((since, id)) = self.order.pop_front() else {
                break;
            };
            if self.seen.get(&id).is_some_and(|seen| seen.since == since) {
                self.seen.remove(&id);
            }
        }
        if let Some(seen) = self.seen.get_mut(client_id) {
            seen.count += 1;
            if seen.count <= self.connects_max {
                return false;
            }
            self.seen.remove(client_id);
            return true;
        }
        self.seen.insert(
            client_id.into(),
            Seen {
                since: now,
                count: 1,
            },
        );
        self.order.push_back((now, client_id.into()));
        self.connects_max == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_often_within_the_window_is_found() {
        let mut flapping = Flapping::new(3, Duration::from_mins(1));
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        assert!(!flapping.came("a", at(0)) && !flapping.came("a", at(1)));
        assert!(!flapping.came("a", at(2)) && !flapping.came("b", at(2)));
        assert!(flapping.came("a", at(3)));
        assert!(!flapping.came("a", at(4)), "counted anew");
        for s in 0..10 {
            assert!(!flapping.came("slow", at(100 + 25 * s)));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut flapping = Flapping::new(3, Duration::from_mins(1));
        let now = Instant::now();
        for n in 0..FLAPPING_CLIENTS_MAX + 10 {
            assert!(!flapping.came(&n.to_string(), now));
        }
        assert!(flapping.seen.len() <= FLAPPING_CLIENTS_MAX);
        assert!(flapping.order.len() <= FLAPPING_CLIENTS_MAX);
        let mut one = Flapping::new(1, Duration::from_mins(1));
        for n in 0..10 * FLAPPING_CLIENTS_MAX as u32 {
            one.came("same", now + Duration::from_millis(u64::from(n)));
        }
        assert!(one.order.len() <= FLAPPING_CLIENTS_MAX);
    }
}
