//! Where readers of a segment stopped: who reads on begins there, and the index need not be searched. It
//! reads no file: a place is a guess that whoever uses it has to verify.

use std::sync::{Mutex, PoisonError};

/// So many places are kept; the oldest goes first.
const PLACES: usize = 4;

/// The places at which the last reads of a segment ended. Usable from several threads at once.
pub(super) struct Places {
    base: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// In the order in which they are replaced.
    places: [Option<Place>; PLACES],
    /// Which is replaced next.
    next: usize,
}

/// The batch that begins with `offset` was to begin at byte `position`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: u64,
    position: u64,
}

impl Places {
    /// Those of a segment that begins with offset `base`: only its beginning is known.
    pub fn new(base: u64) -> Self {
        Self {
            base,
            kept: Mutex::default(),
        }
    }

    /// The byte at which a batch that begins with `offset` should begin.
    pub fn of(&self, offset: u64) -> Option<u64> {
        if offset == self.base {
            return Some(0);
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.places.iter().flatten();
        place
            .copied()
            .find(|place| place.offset == offset)
            .map(|place| place.position)
    }

    /// A read ended at byte `position`; the next is like to ask for `offset`.
    pub fn remember(&self, offset: u64, position: u64) {
        let place = Some(Place { offset, position });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.places.contains(&place) {
            return;
        }
        // At most one place is kept of an offset: the last that was said.
        let same = |kept: &Option<Place>| kept.is_some_and(|kept| kept.offset == offset);
        let at = kept.places.iter().position(same).unwrap_or(kept.next);
        kept.places[at] = place;
        if at == kept.next {
            kept.next = (at + 1) % PLACES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_places_are_known_and_the_beginning_always() {
        let places = Places::new(100);
        assert_eq!((places.of(100), places.of(0)), (Some(0), None));
        for step in 1..=9 {
            places.remember(100 + step, step * 10);
            // Said twice, it takes one place.
            places.remember(100 + step, step * 10);
            let known = (0..20).filter_map(|step| places.of(100 + step));
            let last = step.saturating_sub(PLACES as u64) + 1..=step;
            assert!(known.eq([0].into_iter().chain(last.map(|step| step * 10))));
        }
        places.remember(107, 1);
        assert_eq!(places.of(107), Some(1), "the last word counts");
        assert_eq!((places.of(106), places.of(108)), (Some(60), Some(80)));
    }
}
