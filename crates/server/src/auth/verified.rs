//! Passwords that were found right a short time ago, by a keyed hash of name, salt and password.
//! A changed password has another salt, so nothing needs to be forgotten by hand.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::limits::{VERIFIED_FOR, VERIFIED_MAX};

/// What stands for a password.
pub type Mark = [u8; 32];

/// The marks, the oldest of which go first.
#[derive(Debug, Default)]
pub struct Verified {
    marks: HashMap<Mark, Instant>,
    order: VecDeque<Mark>,
}

/// The mark of a password, under a secret of this process.
pub fn mark(secret: &[u8], name: &str, salt: &[u8], password: &str) -> Mark {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in [name.as_bytes(), salt, password.as_bytes()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl Verified {
    /// Whether that was found right of late.
    pub fn contains(&self, mark: &Mark, now: Instant) -> bool {
        self.marks
            .get(mark)
            .is_some_and(|at| now.saturating_duration_since(*at) < VERIFIED_FOR)
    }

    /// That was found right.
    pub fn insert(&mut self, mark: Mark, now: Instant) {
        if self.marks.insert(mark, now).is_some() {
            return;
        }
        self.order.push_back(mark);
        if self.order.len() > VERIFIED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.marks.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_end_with_their_time_and_with_the_bound() {
        let mut verified = Verified::default();
        let now = Instant::now();
        let of = |n: usize| mark(b"secret", "joe", b"salt", &n.to_string());
        verified.insert(of(0), now);
        assert!(verified.contains(&of(0), now));
        assert!(!verified.contains(&of(1), now));
        assert!(!verified.contains(&of(0), now + VERIFIED_FOR));
        for n in 1..=VERIFIED_MAX {
            verified.insert(of(n), now);
        }
        assert!(!verified.contains(&of(0), now) && verified.contains(&of(1), now));
        assert_eq!(verified.marks.len(), VERIFIED_MAX);
    }

    #[test]
    fn a_mark_tells_name_salt_and_password_apart() {
        let all = [
            mark(b"s", "ab", b"c", "d"),
            mark(b"s", "a", b"bc", "d"),
            mark(b"s", "ab", b"", "cd"),
            mark(b"t", "ab", b"c", "d"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one));
        }
    }
}
