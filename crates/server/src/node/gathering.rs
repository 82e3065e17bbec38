//! When a worker should let inputs gather before its next turn. Pure: it sees how much each turn
//! handled and how long it took, and learns whether waiting pays.

use std::time::Duration;

/// From the start of a turn to the start of the next, where gathering pays.
const PERIOD: Duration = Duration::from_micros(500);

/// Inputs of one turn that make waiting for them worth it.
const WORTH: u32 = 6;

/// Most turns between two attempts while gathering does not pay: a lone client that waits for each
/// answer loses a period once in so many turns.
const PATIENCE_MAX: u32 = 1024;

/// What a worker has learnt.
#[derive(Debug)]
pub struct Gathering {
    /// Turns until the next attempt.
    skip: u32,
    /// Turns to skip after the next attempt that does not pay.
    patience: u32,
    /// The turn that ends now came after a rest.
    tried: bool,
}

impl Default for Gathering {
    fn default() -> Self {
        Self {
            skip: PATIENCE_MAX,
            patience: PATIENCE_MAX,
            tried: false,
        }
    }
}

impl Gathering {
    /// A turn has ended that handled so many inputs and took so long; how long to rest now.
    pub fn rest(&mut self, handled: u32, took: Duration) -> Option<Duration> {
        if self.tried {
            self.tried = false;
            if handled < WORTH {
                self.skip = self.patience;
                self.patience = (self.patience * 2).min(PATIENCE_MAX);
            } else {
                self.patience = 1;
            }
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let rest = PERIOD.checked_sub(took)?;
        self.tried = true;
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(20);

    #[test]
    fn rests_while_it_pays_and_gives_up_quickly_when_it_does_not() {
        let mut gathering = Gathering::default();
        let rests = |gathering: &mut Gathering, handled, turns: u32| {
            (0..turns)
                .filter(|_| gathering.rest(handled, SHORT).is_some())
                .count()
        };
        rests(&mut gathering, WORTH, PATIENCE_MAX + 1);
        assert_eq!(rests(&mut gathering, WORTH, 100), 100);
        let lone = rests(&mut gathering, 1, 10 * PATIENCE_MAX);
        assert!(
            lone < 25,
            "{lone} of {} turns were delayed",
            10 * PATIENCE_MAX
        );
    }

    #[test]
    fn a_turn_that_took_long_is_followed_at_once() {
        let mut gathering = Gathering::default();
        for _ in 0..=PATIENCE_MAX {
            gathering.rest(WORTH, SHORT);
        }
        assert_eq!(gathering.rest(WORTH, PERIOD * 2), None);
        assert!(gathering.rest(WORTH, SHORT).is_some());
    }
}
