//! What hooks made in turns that the log has not decided on, and how much of it the log refused. It
//! knows the hooks by their counters only.

use std::collections::VecDeque;

/// Records by hook.
#[derive(Debug, Default)]
pub(super) struct Hooked {
    /// What hooks had made when the last turn was sent.
    counted: Vec<u64>,
    /// Turns in which hooks made records, in their order: counter and records of each.
    open: VecDeque<(u64, Vec<(usize, u64)>)>,
    refused: Vec<u64>,
}

impl Hooked {
    /// A turn goes to the log; hooks have made so many records by now.
    pub fn sent(&mut self, turn: u64, made: &[u64]) {
        self.counted.resize(made.len(), 0);
        if self.counted == made {
            return;
        }
        let both = self.counted.iter().zip(made).enumerate();
        let more = both.filter(|(_, (before, now))| before != now);
        let more = more.map(|(counter, (before, now))| (counter, now - before));
        self.open.push_back((turn, more.collect()));
        self.counted.copy_from_slice(made);
    }

    /// The log has taken all turns up to that one which it did not refuse.
    pub fn settled(&mut self, turn: u64) {
        while self.open.front().is_some_and(|(open, _)| *open <= turn) {
            self.open.pop_front();
        }
    }

    /// The log has refused a turn.
    pub fn refused(&mut self, turn: u64) {
        if let Some(last) = turn.checked_sub(1) {
            self.settled(last);
        }
        if self.open.front().is_none_or(|(open, _)| *open != turn) {
            return;
        }
        let made = self.open.pop_front().map(|(_, made)| made);
        self.refused.resize(self.counted.len(), 0);
        for (counter, records) in made.into_iter().flatten() {
            self.refused[counter] += records;
        }
    }

    /// Records that the log refused, by the hook's counter; hooks behind the end lost none.
    pub fn lost(&self) -> &[u64] {
        &self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_in_a_refused_turn_is_lost() {
        let mut hooked = Hooked::default();
        hooked.sent(1, &[3]);
        hooked.sent(2, &[3]);
        hooked.sent(3, &[5, 0]);
        hooked.sent(4, &[5, 7]);
        hooked.settled(1);
        hooked.refused(2);
        assert!(hooked.lost().is_empty(), "no hook made anything in it");
        hooked.refused(3);
        assert_eq!(hooked.lost(), [2, 0]);
        hooked.settled(4);
        hooked.refused(4);
        assert_eq!(hooked.lost(), [2, 0], "it is in the log");
        hooked.sent(5, &[6, 7]);
        hooked.refused(5);
        assert_eq!(hooked.lost(), [3, 0]);
        assert!(hooked.open.is_empty());
    }
}
