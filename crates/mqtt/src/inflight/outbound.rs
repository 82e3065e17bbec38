//! The outbound window: messages of QoS 1 and 2 that were sent and are not finished.
//! Packet ids are handed out in turn, so an id is also a place in the ring: nothing is searched.

use std::collections::VecDeque;

use crate::limits::{INFLIGHT_MAX, INFLIGHT_SLOTS_KEPT, INFLIGHT_SPAN_MAX};
use crate::packet::QoS;

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OutState {
    /// QoS 1: PUBLISH sent, PUBACK awaited.
    Qos1Sent = 1,
    /// QoS 2: PUBLISH sent, PUBREC awaited.
    Qos2Sent = 2,
    /// QoS 2: PUBREC received, PUBREL sent, PUBCOMP awaited.
    Released = 3,
}

impl OutState {
    /// The state of this number, as `as u8` gives it.
    pub const fn from_u8(number: u8) -> Option<OutState> {
        match number {
            1 => Some(OutState::Qos1Sent),
            2 => Some(OutState::Qos2Sent),
            3 => Some(OutState::Released),
            _ => None,
        }
    }

    /// The state in which a delivery of this QoS starts; none for QoS 0.
    pub const fn of_sent(qos: QoS) -> Option<OutState> {
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(OutState::Qos1Sent),
            QoS::ExactlyOnce => Some(OutState::Qos2Sent),
        }
    }
}

/// Why an acknowledgement (or a restored delivery) does not fit the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckError {
    /// No delivery has this packet id: 0x92 where the answer has room for it.
    NotFound,
    /// The delivery is not in a state that this packet follows: a protocol error.
    WrongState,
    /// Restore only: the id is taken, zero, or too far from the others.
    Misplaced,
}

/// Deliveries in flight to one client, in the order of their first sending. About 40 bytes while
/// it is empty.
#[derive(Debug, Clone)]
pub struct Outbound<T> {
    /// The slot at index `i` belongs to the packet id `i` places behind `front_id`; the first and
    /// the last slot are never free.
    slots: VecDeque<Option<(OutState, T)>>,
    front_id: u16,
    len: u16,
    receive_maximum: u16,
}

/// The id `distance` places behind `id`, in a circle of 1 to 65,535.
const fn id_behind(id: u16, distance: usize) -> u16 {
    let place = (id as usize - 1 + distance) % 65_535;
    place as u16 + 1
}

/// Places from `from` forward to `to` in the circle.
const fn distance(from: u16, to: u16) -> usize {
    if to >= from {
        (to - from) as usize
    } else {
        65_535 - (from - to) as usize
    }
}

impl<T> Outbound<T> {
    /// An empty window towards a client that takes `receive_maximum` messages at once.
    pub const fn new(receive_maximum: u16) -> Outbound<T> {
        Outbound {
            slots: VecDeque::new(),
            front_id: 1,
            len: 0,
            receive_maximum,
        }
    }

    /// Takes the receive maximum of the client's new connection; what is in flight stays.
    pub const fn set_receive_maximum(&mut self, receive_maximum: u16) {
        self.receive_maximum = receive_maximum;
    }

    /// How many deliveries may be started now [MQTT-3.3.4-9].
    pub fn free(&self) -> u16 {
        let span_left = INFLIGHT_SPAN_MAX - self.slots.len() as u16;
        self.window().saturating_sub(self.len).min(span_left)
    }

    /// How many deliveries may be on their way at once: the client's receive maximum, or our own.
    /// After a reconnect with a smaller one, only so many are to be sent again at first.
    pub const fn window(&self) -> u16 {
        if self.receive_maximum < INFLIGHT_MAX {
            self.receive_maximum
        } else {
            INFLIGHT_MAX
        }
    }

    /// Deliveries in flight.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is in flight.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Starts a delivery of QoS 1 or 2 and returns its packet id; none when the window is full.
    ///
    /// # Panics
    /// For QoS 0, which has no packet id.
    pub fn insert(&mut self, qos: QoS, delivery: T) -> Option<u16> {
        let state = OutState::of_sent(qos).expect("QoS 0 is not kept in flight");
        if self.free() == 0 {
            return None;
        }
        let packet_id = id_behind(self.front_id, self.slots.len());
        self.slots.push_back(Some((state, delivery)));
        self.len += 1;
        Some(packet_id)
    }

    /// Puts back a delivery of an earlier life of the broker. Any order will do: the order of first
    /// sending is that of the ids in the circle.
    pub fn insert_with_id(
        &mut self,
        packet_id: u16,
        state: OutState,
        delivery: T,
    ) -> Result<(), AckError> {
        if packet_id == 0 {
            return Err(AckError::Misplaced);
        }
        if self.slots.is_empty() {
            self.front_id = packet_id;
            self.slots.push_back(Some((state, delivery)));
            self.len = 1;
            return Ok(());
        }
        let span_max = usize::from(INFLIGHT_SPAN_MAX);
        let (behind, before) = (
            distance(self.front_id, packet_id),
            distance(packet_id, self.front_id),
        );
        if behind < span_max {
            if behind >= self.slots.len() {
                self.slots.resize_with(behind + 1, || None);
            }
            if self.slots[behind].is_some() {
                return Err(AckError::Misplaced);
            }
            self.slots[behind] = Some((state, delivery));
        } else if before + self.slots.len() <= span_max {
            for _ in 1..before {
                self.slots.push_front(None);
            }
            self.slots.push_front(Some((state, delivery)));
            self.front_id = packet_id;
        } else {
            return Err(AckError::Misplaced);
        }
        self.len += 1;
        Ok(())
    }

    /// After a restore: the first id for new deliveries where nothing is in flight any more, so that
    /// ids go on from where they were. Ignored while something is in flight.
    pub fn set_next_id(&mut self, packet_id: u16) {
        if self.slots.is_empty() && packet_id != 0 {
            self.front_id = packet_id;
        }
    }

    /// The id that the next delivery gets.
    pub fn next_id(&self) -> u16 {
        id_behind(self.front_id, self.slots.len())
    }

    /// PUBACK: the QoS 1 delivery is finished.
    pub fn puback(&mut self, packet_id: u16) -> Result<T, AckError> {
        self.finish(packet_id, OutState::Qos1Sent)
    }

    /// PUBREC with a success: PUBREL is to be sent. A second PUBREC is answered the same way
    /// [MQTT-4.3.3-4].
    pub fn pubrec(&mut self, packet_id: u16) -> Result<&mut T, AckError> {
        match self.slot(packet_id) {
            None => Err(AckError::NotFound),
            Some((OutState::Qos1Sent, _)) => Err(AckError::WrongState),
            Some((state, delivery)) => {
                *state = OutState::Released;
                Ok(delivery)
            }
        }
    }

    /// PUBREC with an error: the QoS 2 delivery is finished, without PUBREL [MQTT-4.4.0-2].
    pub fn pubrec_refused(&mut self, packet_id: u16) -> Result<T, AckError> {
        self.finish(packet_id, OutState::Qos2Sent)
    }

    /// PUBCOMP: the QoS 2 delivery is finished.
    pub fn pubcomp(&mut self, packet_id: u16) -> Result<T, AckError> {
        self.finish(packet_id, OutState::Released)
    }

    /// Forgets a delivery in whatever state (expired, or too large for the client).
    pub fn remove(&mut self, packet_id: u16) -> Option<T> {
        let index = self.index(packet_id)?;
        let (_, delivery) = self.slots[index].take()?;
        self.len -= 1;
        self.trim();
        Some(delivery)
    }

    /// State and delivery of a packet id.
    pub fn get(&self, packet_id: u16) -> Option<(OutState, &T)> {
        let (state, delivery) = self.slots.get(self.index(packet_id)?)?.as_ref()?;
        Some((*state, delivery))
    }

    /// The delivery of a packet id, to be changed.
    pub fn get_mut(&mut self, packet_id: u16) -> Option<&mut T> {
        self.slot(packet_id).map(|(_, delivery)| delivery)
    }

    /// All that is in flight, in the order of first sending, for sending it again after a reconnect
    /// [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub fn iter_in_order(&self) -> impl Iterator<Item = (u16, OutState, &T)> {
        self.iter_at(0)
    }

    /// As [`Outbound::iter_in_order`], from behind this packet id (which may be finished meanwhile).
    pub fn iter_behind(&self, packet_id: u16) -> impl Iterator<Item = (u16, OutState, &T)> {
        let behind = distance(self.front_id, packet_id.max(1)) + 1;
        // Finished ids in front of the ring lie far behind it in the circle.
        self.iter_at(if behind > usize::from(INFLIGHT_SPAN_MAX) {
            0
        } else {
            behind
        })
    }

    /// Empties the window, in order, and goes on with the next id.
    pub fn drain(&mut self) -> impl Iterator<Item = (u16, OutState, T)> + use<T> {
        let first = self.front_id;
        self.front_id = self.next_id();
        self.len = 0;
        std::mem::take(&mut self.slots)
            .into_iter()
            .enumerate()
            .filter_map(move |(index, slot)| {
                slot.map(|(state, delivery)| (id_behind(first, index), state, delivery))
            })
    }

    fn iter_at(&self, start: usize) -> impl Iterator<Item = (u16, OutState, &T)> {
        self.slots
            .iter()
            .enumerate()
            .skip(start)
            .filter_map(|(index, slot)| {
                let (state, delivery) = slot.as_ref()?;
                Some((id_behind(self.front_id, index), *state, delivery))
            })
    }

    fn index(&self, packet_id: u16) -> Option<usize> {
        if packet_id == 0 {
            return None;
        }
        let index = distance(self.front_id, packet_id);
        (index < self.slots.len()).then_some(index)
    }

    fn slot(&mut self, packet_id: u16) -> Option<&mut (OutState, T)> {
        let index = self.index(packet_id)?;
        self.slots[index].as_mut()
    }

    fn finish(&mut self, packet_id: u16, expected: OutState) -> Result<T, AckError> {
        let index = self.index(packet_id).ok_or(AckError::NotFound)?;
        match self.slots[index].take() {
            Some((state, delivery)) if state == expected => {
                self.len -= 1;
                self.trim();
                Ok(delivery)
            }
            Some(other) => {
                self.slots[index] = Some(other);
                Err(AckError::WrongState)
            }
            None => Err(AckError::NotFound),
        }
    }

    /// Drops free slots at the front: ids go on. Free slots at the back stay while anything is in
    /// flight, so that no id is used again before its turn.
    fn trim(&mut self) {
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.front_id = id_behind(self.front_id, 1);
        }
        if self.slots.is_empty() && self.slots.capacity() > INFLIGHT_SLOTS_KEPT {
            self.slots.shrink_to(INFLIGHT_SLOTS_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_window_is_small() {
        assert!(size_of::<Outbound<[u64; 4]>>() <= 40);
        let window: Outbound<u64> = Outbound::new(10);
        assert_eq!(window.slots.capacity(), 0);
    }

    /// [MQTT-2.2.1-4]: a new PUBLISH gets an id that is not in use.
    #[test]
    fn ids_go_round_without_zero_and_without_reuse() {
        let mut window = Outbound::new(3);
        let mut expected = 0;
        for _ in 0..140_000 {
            expected = if expected == 65_535 { 1 } else { expected + 1 };
            assert_eq!(window.insert(QoS::AtLeastOnce, ()), Some(expected));
            assert_eq!(window.puback(expected), Ok(()));
        }
        assert!(window.slots.capacity() <= 16);
    }

    /// [MQTT-3.3.4-9]: no more than the receive maximum unacknowledged.
    #[test]
    fn the_receive_maximum_bounds_the_window() {
        let mut window = Outbound::new(2);
        assert_eq!(window.free(), 2);
        assert_eq!(window.insert(QoS::AtLeastOnce, 'a'), Some(1));
        assert_eq!(window.insert(QoS::ExactlyOnce, 'b'), Some(2));
        assert_eq!(window.insert(QoS::AtLeastOnce, 'c'), None);
        assert_eq!(window.pubrec(2), Ok(&mut 'b'));
        assert_eq!(window.free(), 0, "a released message still counts");
        assert_eq!(window.pubcomp(2), Ok('b'));
        assert_eq!(window.free(), 1);
        window.set_receive_maximum(1);
        assert_eq!(window.free(), 0);
    }

    /// [MQTT-4.3.3-1] to [MQTT-4.3.3-7], the sender's side.
    #[test]
    fn states_follow_the_protocol() {
        let mut window = Outbound::new(10);
        let one = window.insert(QoS::AtLeastOnce, 1).unwrap();
        let two = window.insert(QoS::ExactlyOnce, 2).unwrap();
        assert_eq!(window.pubrec(one), Err(AckError::WrongState));
        assert_eq!(window.pubcomp(one), Err(AckError::WrongState));
        assert_eq!(window.puback(two), Err(AckError::WrongState));
        assert_eq!(window.pubcomp(two), Err(AckError::WrongState));
        assert_eq!(window.pubrec(two), Ok(&mut 2));
        assert_eq!(window.pubrec(two), Ok(&mut 2), "repeated");
        assert_eq!(window.pubrec_refused(two), Err(AckError::WrongState));
        assert_eq!(window.get(two), Some((OutState::Released, &2)));
        assert_eq!(window.pubcomp(two), Ok(2));
        assert_eq!(window.pubcomp(two), Err(AckError::NotFound));
        assert_eq!(window.puback(one), Ok(1));
        assert_eq!(window.puback(one), Err(AckError::NotFound));
        assert_eq!(window.puback(0), Err(AckError::NotFound));
        assert_eq!(window.puback(999), Err(AckError::NotFound));
        let three = window.insert(QoS::ExactlyOnce, 3).unwrap();
        assert_eq!(window.pubrec_refused(three), Ok(3));
        assert!(window.is_empty());
    }

    /// [MQTT-4.4.0-1]; 3.1.1: [MQTT-4.6.0-1]. Sent again in the order of first sending, acknowledged
    /// out of order or not.
    #[test]
    fn order_of_first_sending_is_kept() {
        let mut window = Outbound::new(100);
        window.set_next_id(65_533);
        for n in 0..6 {
            window.insert(QoS::AtLeastOnce, n).unwrap();
        }
        window.puback(65_534).unwrap();
        window.puback(2).unwrap();
        let order: Vec<_> = window.iter_in_order().map(|(id, _, &n)| (id, n)).collect();
        assert_eq!(order, [(65_533, 0), (65_535, 2), (1, 3), (3, 5)]);
        let behind = |id| {
            window
                .iter_behind(id)
                .map(|(id, ..)| id)
                .collect::<Vec<_>>()
        };
        assert_eq!(behind(65_535), [1, 3]);
        assert_eq!(behind(65_534), [65_535, 1, 3]);
        assert_eq!(behind(3), [0; 0]);
        assert_eq!(
            behind(65_000),
            [65_533, 65_535, 1, 3],
            "an id long finished"
        );
        window.puback(65_533).unwrap();
        assert_eq!(
            window.iter_in_order().next(),
            Some((65_535, OutState::Qos1Sent, &2))
        );
        let rest: Vec<_> = window.drain().map(|(id, _, n)| (id, n)).collect();
        assert_eq!(rest, [(65_535, 2), (1, 3), (3, 5)]);
        assert_eq!(window.insert(QoS::AtLeastOnce, 9), Some(4));
    }

    #[test]
    fn a_restore_in_any_order_finds_the_order_again() {
        for ids in [
            [65_534, 65_535, 2, 5],
            [5, 2, 65_535, 65_534],
            [2, 5, 65_534, 65_535],
        ] {
            let mut window = Outbound::new(100);
            for id in ids {
                window.insert_with_id(id, OutState::Qos2Sent, id).unwrap();
            }
            assert_eq!(
                window.insert_with_id(2, OutState::Qos1Sent, 2),
                Err(AckError::Misplaced)
            );
            assert_eq!(
                window.insert_with_id(30_000, OutState::Qos1Sent, 2),
                Err(AckError::Misplaced)
            );
            let order: Vec<_> = window.iter_in_order().map(|(id, ..)| id).collect();
            assert_eq!(order, [65_534, 65_535, 2, 5]);
            assert_eq!(window.next_id(), 6);
            assert_eq!(window.len(), 4);
        }
    }

    /// A client that never finishes its oldest message stops its own window, at a bound.
    #[test]
    fn a_hole_costs_bounded_memory() {
        let mut window = Outbound::new(u16::MAX);
        window.insert(QoS::ExactlyOnce, 0).unwrap();
        let mut sent = 1;
        while let Some(id) = window.insert(QoS::AtLeastOnce, 0) {
            window.puback(id).unwrap();
            sent += 1;
        }
        assert_eq!(sent, INFLIGHT_SPAN_MAX);
        assert_eq!(window.len(), 1);
        window.pubrec(1).unwrap();
        window.pubcomp(1).unwrap();
        assert_eq!(window.free(), INFLIGHT_MAX);
        assert!(
            window.slots.capacity() <= INFLIGHT_SLOTS_KEPT,
            "memory is given back"
        );
    }
}
