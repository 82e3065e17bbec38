//! Leader epochs and where they began, in Apache Kafka's `leader-epoch-checkpoint` text.

use std::fmt::Write as _;

use crate::limits::EPOCHS_MAX;

/// The file's name in a partition's folder.
pub(crate) const EPOCHS_FILE: &str = "leader-epoch-checkpoint";

/// Epochs with the offset of their first record; both rise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    starts: Vec<(i32, u64)>,
}

impl Epochs {
    /// Notes that `epoch` appends at `offset`; `true` when it is a new one.
    pub fn add(&mut self, epoch: i32, offset: u64) -> bool {
        let new = epoch >= 0 && self.latest().is_none_or(|latest| epoch > latest);
        if new {
            // An epoch that never appended leaves no trace.
            self.cut(offset);
            self.starts.push((epoch, offset));
        }
        new
    }

    /// Forgets epochs that begin at `next_offset` or behind; `true` when there were some.
    pub fn cut(&mut self, next_offset: u64) -> bool {
        let keep = self
            .starts
            .partition_point(|&(_, start)| start < next_offset);
        let cut = keep < self.starts.len();
        self.starts.truncate(keep);
        cut
    }

    pub fn latest(&self) -> Option<i32> {
        self.starts.last().map(|&(epoch, _)| epoch)
    }

    /// The greatest epoch not above `epoch` and the offset behind its last record (KIP-279). `None`
    /// for an epoch that is not known yet.
    pub fn end_of(&self, epoch: i32, next_offset: u64) -> Option<(i32, u64)> {
        let latest = self.latest()?;
        if epoch == latest {
            return Some((epoch, next_offset));
        }
        let higher = self.starts.partition_point(|&(known, _)| known <= epoch);
        let &(_, end) = self.starts.get(higher)?;
        let found = higher.checked_sub(1).map_or(epoch, |at| self.starts[at].0);
        Some((found, end))
    }

    pub fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.starts.len());
        for (epoch, start) in &self.starts {
            writeln!(text, "{epoch} {start}").expect("writing to a String does not fail");
        }
        text
    }

    /// `Err` says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines();
        if lines.next() != Some("0") {
            return Err("not version 0");
        }
        let count = lines.next().and_then(|count| count.parse::<usize>().ok());
        let count = count
            .filter(|&count| count <= EPOCHS_MAX)
            .ok_or("the count is malformed")?;
        let mut epochs = Self::default();
        for line in lines {
            let (epoch, start) = line.split_once(' ').ok_or("a line is malformed")?;
            let epoch = epoch.parse().map_err(|_| "an epoch is malformed")?;
            let start = start.parse().map_err(|_| "an offset is malformed")?;
            if epochs
                .starts
                .last()
                .is_some_and(|&last| last.0 >= epoch || last.1 >= start)
            {
                return Err("epochs do not rise");
            }
            epochs.starts.push((epoch, start));
        }
        if epochs.starts.len() == count {
            Ok(epochs)
        } else {
            Err("the count is wrong")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kafkas() {
        let mut epochs = Epochs::default();
        assert!(epochs.add(0, 0));
        assert!(!epochs.add(0, 5));
        assert!(epochs.add(3, 17));
        assert_eq!(epochs.to_text(), "0\n2\n0 0\n3 17\n");
        assert_eq!(Epochs::parse(&epochs.to_text()), Ok(epochs));
        for bad in [
            "",
            "1\n0\n",
            "0\n1\n",
            "0\nx\n",
            "0\n2\n1 5\n0 7\n",
            "0\n1\n5\n",
        ] {
            assert!(Epochs::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.end_of(0, 0), None);
        epochs.add(1, 0);
        epochs.add(3, 17);
        assert_eq!(
            epochs.end_of(0, 40),
            Some((0, 0)),
            "before all: nothing of it is here"
        );
        assert_eq!(epochs.end_of(1, 40), Some((1, 17)));
        assert_eq!(epochs.end_of(2, 40), Some((1, 17)));
        assert_eq!(epochs.end_of(3, 40), Some((3, 40)));
        assert_eq!(epochs.end_of(4, 40), None);
        assert!(epochs.cut(17));
        assert_eq!(epochs.latest(), Some(1));
    }
}
