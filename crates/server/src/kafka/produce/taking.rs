//! Batches are taken out of the request in which they came: in the memory into which it was read, where
//! that is mostly theirs, or as copies. What they hold is not known here.

use std::ops::Range;

use bytes::{Buf as _, BytesMut};

use super::super::limits;

/// A request whose batches are taken out of it, in the order in which they lie there.
pub(super) struct Taking {
    /// What is left of it.
    frame: BytesMut,
    /// Where that begins in the whole.
    start: usize,
    shares: bool,
}

impl Taking {
    /// With `shares` the batches stay in the memory of the request.
    pub fn new(frame: BytesMut, shares: bool) -> Self {
        Self {
            frame,
            start: 0,
            shares,
        }
    }

    /// What lies at this place of the request, behind all that was taken before.
    pub fn take(&mut self, place: &Range<usize>) -> BytesMut {
        if !self.shares {
            return BytesMut::from(&self.frame[place.clone()]);
        }
        let mut taken = self.frame.split_to(place.end - self.start);
        taken.advance(place.start - self.start);
        self.start = place.end;
        taken
    }
}

/// Whether batches of so many bytes may stay in the memory of a request, into which `read_bytes` were read at
/// once, and others perhaps with it: who keeps them keeps all of that.
pub(super) fn may_share(request_bytes: usize, batch_bytes: usize, read_bytes: usize) -> bool {
    batch_bytes >= request_bytes / 8 * 7 && batch_bytes >= read_bytes / limits::SHARED_READ_DIVISOR
}

/// Where these bytes of a request lie in it.
pub(super) fn place_in(request: &[u8], bytes: &[u8]) -> Range<usize> {
    let start = bytes.as_ptr().addr() - request.as_ptr().addr();
    start..start + bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_the_same_whether_they_stay_in_place_or_not() {
        let request: Vec<u8> = (0..200).collect();
        let places = [10..20, 20..50, 90..91, 120..200];
        for shares in [false, true] {
            let frame = BytesMut::from(&request[..]);
            let memory = frame.as_ptr().addr();
            let mut taking = Taking::new(frame, shares);
            let mut taken: Vec<BytesMut> = places.iter().map(|it| taking.take(it)).collect();
            for (bytes, place) in taken.iter_mut().zip(&places) {
                assert_eq!(bytes[..], request[place.clone()]);
                let stays = bytes.as_ptr().addr() == memory + place.start;
                assert_eq!(stays, shares);
                // Nobody else sees what is written into them.
                bytes.fill(0);
            }
        }
    }

    #[test]
    fn little_of_a_read_never_holds_all_of_it() {
        let whole = 64 * 1024;
        assert!(may_share(whole, whole - 100, whole));
        assert!(may_share(9_000, 8_900, whole));
        assert!(!may_share(8_000, 7_900, whole));
        assert!(!may_share(whole, whole / 2, whole));
    }

    #[test]
    fn a_place_is_found_by_its_bytes() {
        let request = [7; 40];
        assert_eq!(place_in(&request, &request[5..25]), 5..25);
    }
}
