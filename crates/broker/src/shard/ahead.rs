//! Messages that were read back for sessions whose windows had no room for all of them. A cache
//! from positions to messages, bounded in bytes for the shard: what it forgets is read again. Knows
//! neither windows nor inboxes.

use super::pump::READ_POSITIONS_MAX;
use crate::limits::READ_ANSWER_BYTES_MAX;
use crate::message::{OwnedMessage, Position};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Bytes of a message read back, as long as none has been.
const TYPICAL_BYTES: u64 = 512;

/// Messages read ahead, by the slot of the session that asked for them. They belong to positions,
/// not to the session: one that takes the slot later cannot be given a wrong message.
#[derive(Debug)]
pub(super) struct Ahead {
    held: HashMap<u32, Held, RandomState>,
    /// Slots in the order in which they were filled, with the number of the fill; an entry whose
    /// number is not the slot's any more is passed over.
    fills: VecDeque<(u32, u64)>,
    last_fill: u64,
    bytes: u64,
    bytes_max: u64,
    /// Bytes of a message of the last fill, on average.
    typical_bytes: u64,
}

/// In the order in which they were asked for; without a message: the position holds none any more.
#[derive(Debug)]
struct Held {
    fill: u64,
    bytes: u64,
    messages: VecDeque<(Position, Option<OwnedMessage>)>,
}

impl Ahead {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            held: HashMap::default(),
            fills: VecDeque::new(),
            last_fill: 0,
            bytes: 0,
            bytes_max,
            typical_bytes: TYPICAL_BYTES,
        }
    }

    /// How many positions a read for one session should ask for, which can send `free` messages at
    /// once: as many as its share of the bound will hold, so that many slow sessions do not drive
    /// each other out, and as one answer brings.
    pub(super) fn positions(&self, free: u16) -> usize {
        let share = self.bytes_max / (self.held.len() as u64 + 1);
        let share = share.min(READ_ANSWER_BYTES_MAX as u64 / 2);
        let held = (share / self.typical_bytes).min(READ_POSITIONS_MAX as u64) as usize;
        usize::from(free).clamp(held.max(1), READ_POSITIONS_MAX)
    }

    /// Holds what was read for the session in `slot`, instead of what was held for it before. The
    /// bound is not looked at before [`Ahead::trim`].
    pub(super) fn fill(&mut self, slot: u32, messages: VecDeque<(Position, Option<OwnedMessage>)>) {
        self.forget(slot);
        if messages.is_empty() {
            return;
        }
        let bytes: u64 = messages.iter().map(cost).sum();
        self.typical_bytes = (bytes / messages.len() as u64).max(1);
        self.last_fill += 1;
        let fill = self.last_fill;
        self.bytes += bytes;
        self.fills.push_back((slot, fill));
        let held = Held {
            fill,
            bytes,
            messages,
        };
        self.held.insert(slot, held);
    }

    /// Takes out what is known of `position`, which is the next one for the session in `slot`, and
    /// forgets what was before it. Nothing: it must be read. An inner nothing: it is gone.
    #[expect(clippy::option_option, reason = "not known, gone, or here")]
    pub(super) fn take(&mut self, slot: u32, position: Position) -> Option<Option<OwnedMessage>> {
        let held = self.held.get_mut(&slot)?;
        let mut found = None;
        while found.is_none()
            && let Some(next) = held.messages.pop_front()
        {
            held.bytes -= cost(&next);
            self.bytes -= cost(&next);
            found = (next.0 == position).then_some(next.1);
        }
        if held.messages.is_empty() {
            self.forget(slot);
        }
        found
    }

    /// Forgets what is held for the session in `slot`.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(held) = self.held.remove(&slot) {
            self.bytes -= held.bytes;
        }
        if self.held.is_empty() {
            self.fills.clear();
        }
    }

    /// Forgets what was filled first until the bound holds: who has not used it since is slow.
    pub(super) fn trim(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((slot, fill)) = self.fills.pop_front()
        {
            if self.held.get(&slot).is_some_and(|held| held.fill == fill) {
                self.forget(slot);
            }
        }
        // Entries of fills that were used up are as many as those in use, at most.
        if self.fills.len() > 2 * self.held.len() + 64 {
            let held = &self.held;
            let current =
                |&(slot, fill): &(u32, u64)| held.get(&slot).is_some_and(|held| held.fill == fill);
            self.fills.retain(current);
        }
    }
}

fn cost((_, message): &(Position, Option<OwnedMessage>)) -> u64 {
    let message = message.as_ref().map_or(0, OwnedMessage::size_bytes);
    (size_of::<(Position, Option<OwnedMessage>)>() + message) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageView;
    use crate::properties::ForwardProperties;
    use mqtt::QoS;

    fn at(offset: u64) -> Position {
        Position {
            partition: 7,
            offset,
        }
    }

    fn message(payload: &str) -> OwnedMessage {
        OwnedMessage::new(&MessageView {
            topic: "t",
            payload: payload.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            publisher: "p",
            username: "",
            peer: "",
            principal: "",
            properties: ForwardProperties::default(),
            publish_ms: 0,
            expires_ms: None,
        })
    }

    fn messages(offsets: std::ops::Range<u64>) -> VecDeque<(Position, Option<OwnedMessage>)> {
        offsets
            .map(|offset| (at(offset), Some(message(&offset.to_string()))))
            .collect()
    }

    fn taken(ahead: &mut Ahead, slot: u32, offset: u64) -> Option<String> {
        let message = ahead.take(slot, at(offset))??;
        Some(String::from_utf8(message.payload().to_vec()).unwrap())
    }

    #[test]
    fn positions_find_their_messages_and_what_is_passed_over_is_forgotten() {
        let mut ahead = Ahead::new(1 << 20);
        let mut read = messages(0..6);
        read[4].1 = None;
        ahead.fill(3, read);
        assert_eq!(ahead.take(4, at(0)).map(|_| ()), None, "another session");
        assert_eq!(taken(&mut ahead, 3, 0).as_deref(), Some("0"));
        assert_eq!(taken(&mut ahead, 3, 2).as_deref(), Some("2"));
        assert!(matches!(ahead.take(3, at(4)), Some(None)), "gone for good");
        assert_eq!(
            taken(&mut ahead, 3, 1),
            None,
            "it was before what is sought"
        );
        assert_eq!((ahead.bytes, ahead.held.len()), (0, 0));
    }

    #[test]
    fn the_bound_drives_out_what_was_filled_first() {
        let one: u64 = messages(0..10).iter().map(cost).sum();
        let mut ahead = Ahead::new(2 * one);
        for slot in 0..3 {
            ahead.fill(slot, messages(0..10));
        }
        ahead.fill(0, messages(0..10));
        assert!(
            ahead.bytes > ahead.bytes_max,
            "only trim looks at the bound"
        );
        ahead.trim();
        assert_eq!(ahead.bytes, 2 * one);
        assert_eq!(taken(&mut ahead, 1, 0), None, "the oldest fill");
        assert!(taken(&mut ahead, 2, 0).is_some() && taken(&mut ahead, 0, 0).is_some());
        ahead.forget(0);
        ahead.forget(2);
        assert_eq!((ahead.bytes, ahead.fills.len()), (0, 0));
        let mut none = Ahead::new(0);
        none.fill(0, messages(0..1));
        none.trim();
        assert_eq!((none.bytes, none.held.len()), (0, 0));
    }

    #[test]
    fn a_read_asks_for_a_share_of_the_bound_and_never_for_less_than_can_be_sent() {
        let mut ahead = Ahead::new(100 * TYPICAL_BYTES);
        assert_eq!(ahead.positions(1), 100);
        assert_eq!(ahead.positions(300), 300);
        assert_eq!(ahead.positions(u16::MAX), READ_POSITIONS_MAX);
        for slot in 0..4 {
            ahead.fill(slot, messages(0..1));
        }
        let share = 100 * TYPICAL_BYTES / 5 / ahead.typical_bytes;
        assert_eq!(ahead.positions(1), share as usize);
        assert_eq!(Ahead::new(0).positions(3), 3);
    }

    #[test]
    fn the_order_of_fills_does_not_grow_without_a_bound() {
        let mut ahead = Ahead::new(1 << 20);
        ahead.fill(9, messages(0..1));
        for _ in 0..1_000 {
            ahead.fill(1, messages(0..2));
            ahead.trim();
        }
        assert!(ahead.fills.len() < 100);
    }
}
