//! QoS 2 packet ids that a client has sent and not yet released: what makes a repetition known.

/// What a QoS 2 PUBLISH of a packet id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Its first arrival: the message is to be published.
    New,
    /// A repetition: only PUBREC is to be sent again [MQTT-4.3.3-10].
    Duplicate,
    /// More ids are open than our receive maximum allows (0x93); the id was not taken.
    QuotaExceeded,
}

/// Packet ids of QoS 2 messages received and not released. About 32 bytes while it is empty.
#[derive(Debug, Clone, Default)]
pub struct Inbound {
    /// Sorted; the receive maximum bounds it.
    ids: Vec<u16>,
    receive_maximum: u16,
}

impl Inbound {
    /// No id open, at most `receive_maximum` at once.
    pub const fn new(receive_maximum: u16) -> Inbound {
        Inbound {
            ids: Vec::new(),
            receive_maximum,
        }
    }

    /// A QoS 2 PUBLISH arrived.
    pub fn receive(&mut self, packet_id: u16) -> Received {
        match self.ids.binary_search(&packet_id) {
            Ok(_) => Received::Duplicate,
            Err(_) if self.ids.len() >= usize::from(self.receive_maximum) => {
                Received::QuotaExceeded
            }
            Err(place) => {
                self.ids.insert(place, packet_id);
                Received::New
            }
        }
    }

    /// PUBREL arrived (or the message was refused); false where the id is not open (0x92).
    pub fn release(&mut self, packet_id: u16) -> bool {
        let Ok(place) = self.ids.binary_search(&packet_id) else {
            return false;
        };
        self.ids.remove(place);
        if self.ids.is_empty() && self.ids.capacity() > 64 {
            self.ids = Vec::new();
        }
        true
    }

    /// Puts back an id of an earlier life of the broker, whatever the quota is now.
    pub fn restore(&mut self, packet_id: u16) {
        if let Err(place) = self.ids.binary_search(&packet_id) {
            self.ids.insert(place, packet_id);
        }
    }

    /// Whether this id is open.
    pub fn contains(&self, packet_id: u16) -> bool {
        self.ids.binary_search(&packet_id).is_ok()
    }

    /// The open ids, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.ids.iter().copied()
    }

    /// How many ids are open.
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no id is open.
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Forgets all (clean start).
    pub fn clear(&mut self) {
        self.ids = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-4.3.3-8] to [MQTT-4.3.3-12], the receiver's side.
    #[test]
    fn an_id_is_new_once_until_it_is_released() {
        let mut inbound = Inbound::new(2);
        assert_eq!(inbound.receive(7), Received::New);
        assert_eq!(inbound.receive(7), Received::Duplicate);
        assert_eq!(inbound.receive(3), Received::New);
        assert_eq!(inbound.receive(9), Received::QuotaExceeded);
        assert_eq!(
            inbound.receive(3),
            Received::Duplicate,
            "a repetition is no new message"
        );
        assert!(inbound.release(7));
        assert!(!inbound.release(7));
        assert_eq!(inbound.receive(7), Received::New);
        assert_eq!(inbound.iter().collect::<Vec<_>>(), [3, 7]);
    }

    #[test]
    fn what_was_open_is_open_after_a_restore() {
        let mut inbound = Inbound::new(1);
        inbound.restore(9);
        inbound.restore(4);
        inbound.restore(9);
        assert_eq!(inbound.len(), 2);
        assert_eq!(inbound.receive(9), Received::Duplicate);
        assert_eq!(inbound.receive(5), Received::QuotaExceeded);
        assert!(inbound.contains(4) && !inbound.contains(5));
        inbound.clear();
        assert!(inbound.is_empty());
    }
}
