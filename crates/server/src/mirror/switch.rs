//! Whether the mirror may begin transactions: an operator switches it off and on while the node
//! runs. It knows neither Kafka nor threads, and forgets with the process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::board::{Standing, State};

/// Why a mirror that is switched off stands still.
pub const SWITCHED_OFF: &str = "switched off by an operator";

/// The same while a thread has not come to its rest.
const ENDING: &str =
    "switched off by an operator; the transaction under way comes to its end first";

/// On at first.
#[derive(Debug, Default)]
pub struct Switch {
    off: AtomicBool,
    /// When it was turned last, ms since the epoch.
    turned_ms: AtomicU64,
}

impl Switch {
    /// Whether transactions may begin.
    pub fn is_on(&self) -> bool {
        !self.off.load(Ordering::Acquire)
    }

    /// Turns it; true when that is a change.
    pub fn turn(&self, on: bool, now_ms: u64) -> bool {
        let changed = self.off.swap(!on, Ordering::AcqRel) == on;
        if changed {
            self.turned_ms.store(now_ms, Ordering::Release);
        }
        changed
    }

    /// How the whole stands, of which `worst` is the worst shard. What is fenced stays so, whatever
    /// the switch says.
    pub fn judge(&self, worst: Standing, shards: &[Standing]) -> Standing {
        if self.is_on() || worst.state == State::Fenced {
            return worst;
        }
        let rests = shards.iter().all(|shard| shard.state == State::Paused);
        let why = if rests { SWITCHED_OFF } else { ENDING };
        let since_ms = self.turned_ms.load(Ordering::Acquire);
        Standing::since(State::Paused, why, since_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(state: State) -> Standing {
        Standing::since(state, "said so", 1)
    }

    #[test]
    fn a_switch_tells_what_is_a_change() {
        let switch = Switch::default();
        assert!(switch.is_on() && !switch.turn(true, 5));
        assert!(switch.turn(false, 7) && !switch.is_on());
        assert!(!switch.turn(false, 9), "it is off already");
        let told = switch.judge(shard(State::Paused), &[shard(State::Paused)]);
        assert_eq!((told.state, told.since_ms), (State::Paused, 7));
        assert!(switch.turn(true, 11) && switch.is_on());
    }

    #[test]
    fn what_is_switched_off_is_paused_unless_it_is_fenced() {
        let switch = Switch::default();
        let shards = [shard(State::Paused), shard(State::Waiting)];
        let judged = |worst: State| switch.judge(shard(worst), &shards);
        assert_eq!(judged(State::Waiting), shard(State::Waiting));
        switch.turn(false, 7);
        let told = judged(State::Waiting);
        assert_eq!(
            (told.state, told.why.as_deref()),
            (State::Paused, Some(ENDING))
        );
        let told = switch.judge(shard(State::Paused), &shards[..1]);
        assert_eq!(told.why.as_deref(), Some(SWITCHED_OFF));
        assert_eq!(judged(State::Fenced), shard(State::Fenced));
    }
}
