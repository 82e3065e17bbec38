//! Clients that come and go too often. Pure; the time is given.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use super::limits::FLAPPING_CLIENTS_MAX;

/// A client id together with the user that came with it, by a hash that nobody else can compute: ids
/// may be long, and one user must not get another's device banned.
pub type Who = u128;

/// Makes [`Who`]s.
#[derive(Debug, Clone, Default)]
pub struct Naming(RandomState, RandomState);

impl Naming {
    /// Of a client id and the user name that was proved, `""` where there is none.
    pub fn who(&self, client_id: &str, user: &str) -> Who {
        let one = |state: &RandomState| u128::from(state.hash_one((client_id, user)));
        one(&self.0) << 64 | one(&self.1)
    }
}

/// How often each client came within the window.
#[derive(Debug)]
pub struct Flapping {
    connects_max: u32,
    window: Duration,
    seen: HashMap<Who, Seen>,
    /// Clients in the order in which their windows began.
    order: VecDeque<(Instant, Who)>,
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
    pub fn came(&mut self, who: Who, now: Instant) -> bool {
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
        if let Some(seen) = self.seen.get_mut(&who) {
            seen.count += 1;
            if seen.count <= self.connects_max {
                return false;
            }
            self.seen.remove(&who);
            return true;
        }
        self.seen.insert(
            who,
            Seen {
                since: now,
                count: 1,
            },
        );
        self.order.push_back((now, who));
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
        assert!(!flapping.came(1, at(0)) && !flapping.came(1, at(1)));
        assert!(!flapping.came(1, at(2)) && !flapping.came(2, at(2)));
        assert!(flapping.came(1, at(3)));
        assert!(!flapping.came(1, at(4)), "counted anew");
        for s in 0..10 {
            assert!(!flapping.came(3, at(100 + 25 * s)));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut flapping = Flapping::new(3, Duration::from_mins(1));
        let now = Instant::now();
        for n in 0..FLAPPING_CLIENTS_MAX + 10 {
            assert!(!flapping.came(n as Who, now));
        }
        assert!(flapping.seen.len() <= FLAPPING_CLIENTS_MAX);
        assert!(flapping.order.len() <= FLAPPING_CLIENTS_MAX);
        let mut one = Flapping::new(1, Duration::from_mins(1));
        for n in 0..10 * FLAPPING_CLIENTS_MAX as u32 {
            one.came(7, now + Duration::from_millis(u64::from(n)));
        }
        assert!(one.order.len() <= FLAPPING_CLIENTS_MAX);
    }

    #[test]
    fn a_client_is_its_id_and_its_user() {
        let naming = Naming::default();
        let who = naming.who("lock", "joe");
        assert_eq!(who, naming.clone().who("lock", "joe"));
        for (client_id, user) in [("lock", "ann"), ("lockj", "oe"), ("lock", "")] {
            assert_ne!(who, naming.who(client_id, user));
        }
        assert_ne!(who, Naming::default().who("lock", "joe"));
    }
}
