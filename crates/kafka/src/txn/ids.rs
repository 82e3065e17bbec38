//! Giving out producer ids. They are reserved in blocks, each recorded before the first of it is
//! given out, so that none is ever given out twice.

/// Producer ids that are reserved at once.
const BLOCK: i64 = 1000;

/// The producer ids of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerIds {
    next: i64,
    /// End of what is reserved.
    reserved_to: i64,
    /// End of what a reservation on its way asks for.
    asked_to: Option<i64>,
}

impl ProducerIds {
    /// After a start: everything below `reserved_to` may have been given out.
    pub fn new(reserved_to: i64) -> Self {
        Self {
            next: reserved_to,
            reserved_to,
            asked_to: None,
        }
    }

    /// A producer id that nobody has; `None` until the next block is reserved.
    pub fn take(&mut self) -> Option<i64> {
        (self.next < self.reserved_to).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// The end of the block that should be reserved now, if any. Whoever asks records it, and then
    /// tells [`ProducerIds::reserved`] or [`ProducerIds::not_reserved`].
    pub fn wanted(&mut self) -> Option<i64> {
        let few = self.reserved_to - self.next <= BLOCK / 2;
        (few && self.asked_to.is_none()).then(|| {
            let to = self.reserved_to + BLOCK;
            self.asked_to = Some(to);
            to
        })
    }

    /// What was wanted is recorded, and survives a power cut.
    pub fn reserved(&mut self) {
        if let Some(to) = self.asked_to.take() {
            self.reserved_to = to;
        }
    }

    /// It could not be recorded; it will be wanted again.
    pub fn not_reserved(&mut self) {
        self.asked_to = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_given_out_before_its_block_is_reserved_or_twice() {
        let mut ids = ProducerIds::new(5000);
        assert_eq!(ids.take(), None);
        assert_eq!(ids.wanted(), Some(6000));
        assert_eq!(ids.wanted(), None);
        assert_eq!(ids.take(), None);
        ids.not_reserved();
        assert_eq!(ids.take(), None);
        assert_eq!(ids.wanted(), Some(6000));
        ids.reserved();
        for id in 5000..5500 {
            assert_eq!(ids.wanted(), None);
            assert_eq!(ids.take(), Some(id));
        }
        assert_eq!(ids.wanted(), Some(7000));
        assert_eq!(ids.take(), Some(5500));
        ids.reserved();
        let rest: Vec<i64> = std::iter::from_fn(|| ids.take()).collect();
        assert!(rest.into_iter().eq(5501..7000));
        // What a crash forgets is never given out again.
        assert_eq!(ProducerIds::new(7000).next, 7000);
    }
}
