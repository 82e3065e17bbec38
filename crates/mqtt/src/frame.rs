//! Fast writers for what a broker sends most: deliveries and acknowledgements.
//! They build no packet structs; their bytes are those of [`crate::Packet::encode`].

use crate::limits::REMAINING_LENGTH_MAX;
use crate::packet::{QoS, Version};
use crate::property::id;
use crate::reason::ReasonCode;
use crate::wire::{put_binary, put_u16, put_u32, put_varint, varint_len};

/// The four acknowledgements, by the first byte of their packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AckKind {
    /// Answer to a QoS 1 PUBLISH.
    Puback = 0x40,
    /// First answer to a QoS 2 PUBLISH.
    Pubrec = 0x50,
    /// Answer to PUBREC.
    Pubrel = 0x62,
    /// Answer to PUBREL.
    Pubcomp = 0x70,
}

/// Appends an acknowledgement of MQTT 3: four bytes.
#[inline]
pub fn write_ack_v3(kind: AckKind, packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[kind as u8, 2, high, low]);
}

/// Appends an acknowledgement without properties; MQTT 3 has no room for the reason.
#[inline]
pub fn write_ack(
    kind: AckKind,
    packet_id: u16,
    reason: ReasonCode,
    version: Version,
    out: &mut Vec<u8>,
) {
    if reason == ReasonCode::Success || !version.is_v5() {
        write_ack_v3(kind, packet_id, out);
    } else {
        let [high, low] = packet_id.to_be_bytes();
        out.extend_from_slice(&[kind as u8, 3, high, low, reason.as_u8()]);
    }
}

/// A message on its way to one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outgoing<'a> {
    /// Whether it was sent before.
    pub dup: bool,
    /// QoS of the delivery.
    pub qos: QoS,
    /// Retain flag of the delivery.
    pub retain: bool,
    /// Topic; empty where the alias alone says it (MQTT 5).
    pub topic: &'a str,
    /// Packet identifier; not written for QoS 0.
    pub packet_id: u16,
    /// Topic alias to set or use (MQTT 5).
    pub topic_alias: Option<u16>,
    /// Seconds the message has left (MQTT 5).
    pub expiry_s: Option<u32>,
    /// Identifiers of the subscriptions that matched (MQTT 5).
    pub subscription_ids: &'a [u32],
    /// What [`crate::PublishProperties::encode_forwarded`] wrote (MQTT 5).
    pub forwarded: &'a [u8],
    /// The message itself.
    pub payload: &'a [u8],
}

impl Outgoing<'_> {
    fn properties_len(&self) -> usize {
        let ids: usize = self
            .subscription_ids
            .iter()
            .map(|&id| 1 + varint_len(id))
            .sum();
        self.forwarded.len()
            + ids
            + self.expiry_s.map_or(0, |_| 5)
            + self.topic_alias.map_or(0, |_| 3)
    }

    fn remaining(&self, version: Version) -> usize {
        let properties = match version {
            Version::V5 => {
                let len = self.properties_len();
                varint_len(len as u32) + len
            }
            _ => 0,
        };
        let id_len = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        2 + self.topic.len() + id_len + properties + self.payload.len()
    }

    /// Bytes of the whole packet, to be held against the client's maximum packet size.
    pub fn encoded_len(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + varint_len(remaining as u32) + remaining
    }
}

/// Appends a PUBLISH; returns where in `out` its packet identifier stands (nothing for QoS 0).
///
/// # Panics
/// If the topic has more than 65,535 bytes or the packet more than 256 MiB.
#[inline]
pub fn write_publish(message: &Outgoing<'_>, version: Version, out: &mut Vec<u8>) -> Option<usize> {
    let remaining = message.remaining(version);
    assert!(
        remaining <= REMAINING_LENGTH_MAX as usize,
        "a packet of MQTT has at most 256 MiB"
    );
    out.reserve(5 + remaining);
    out.push(first_byte(message.qos, message.dup, message.retain));
    put_varint(out, remaining as u32);
    put_binary(out, message.topic.as_bytes());
    let packet_id_at = if message.qos == QoS::AtMostOnce {
        None
    } else {
        put_u16(out, message.packet_id);
        Some(out.len() - 2)
    };
    if version.is_v5() {
        put_varint(out, message.properties_len() as u32);
        if let Some(expiry_s) = message.expiry_s {
            out.push(id::MESSAGE_EXPIRY);
            put_u32(out, expiry_s);
        }
        if let Some(alias) = message.topic_alias {
            out.push(id::TOPIC_ALIAS);
            put_u16(out, alias);
        }
        for &number in message.subscription_ids {
            out.push(id::SUBSCRIPTION_ID);
            put_varint(out, number);
        }
        out.extend_from_slice(message.forwarded);
    }
    out.extend_from_slice(message.payload);
    packet_id_at
}

const fn first_byte(qos: QoS, dup: bool, retain: bool) -> u8 {
    0x30 | (dup as u8) << 3 | qos.as_u8() << 1 | retain as u8
}

/// A PUBLISH that is encoded once and sent to many, each with a packet identifier of its own.
#[derive(Debug, Clone, Default)]
pub struct PublishFrame {
    bytes: Vec<u8>,
    /// 0 for QoS 0: the first byte is never the identifier's.
    packet_id_at: usize,
}

impl PublishFrame {
    /// Encodes the message.
    pub fn new(message: &Outgoing<'_>, version: Version) -> PublishFrame {
        let mut frame = PublishFrame::default();
        frame.encode(message, version);
        frame
    }

    /// Encodes another message into the same buffer.
    pub fn encode(&mut self, message: &Outgoing<'_>, version: Version) {
        self.bytes.clear();
        self.packet_id_at = write_publish(message, version, &mut self.bytes).unwrap_or(0);
    }

    /// Bytes of the whole packet.
    #[expect(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the packet with this identifier (ignored for QoS 0).
    #[inline]
    pub fn write(&self, packet_id: u16, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if self.packet_id_at != 0 {
            let at = start + self.packet_id_at;
            out[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ack, Packet, Publish, PublishProperties, SubscriptionIds, UserProperties};

    #[test]
    fn acknowledgements_are_those_of_the_codec() {
        for version in [Version::V31, Version::V311, Version::V5] {
            for reason in [ReasonCode::Success, ReasonCode::NoMatchingSubscribers] {
                let (mut fast, mut slow) = (Vec::new(), Vec::new());
                let ack = Ack::new(0x1234, reason);
                write_ack(AckKind::Puback, 0x1234, reason, version, &mut fast);
                Packet::Puback(ack.clone()).encode(version, &mut slow);
                write_ack(AckKind::Pubrec, 0x1234, reason, version, &mut fast);
                Packet::Pubrec(ack).encode(version, &mut slow);
                let ack = Ack::new(7, ReasonCode::Success);
                write_ack(AckKind::Pubrel, 7, ReasonCode::Success, version, &mut fast);
                Packet::Pubrel(ack.clone()).encode(version, &mut slow);
                write_ack(AckKind::Pubcomp, 7, ReasonCode::Success, version, &mut fast);
                Packet::Pubcomp(ack).encode(version, &mut slow);
                assert_eq!(fast, slow);
            }
        }
    }

    #[test]
    fn a_frame_is_the_codecs_packet_with_the_identifier_patched() {
        let properties = PublishProperties {
            payload_format: Some(1),
            expiry_s: Some(60),
            topic_alias: Some(3),
            response_topic: Some("answers"),
            correlation_data: Some(b"\0\xff"),
            subscription_ids: SubscriptionIds::from_slice(&[1, 300]),
            content_type: Some("text/plain"),
            user: UserProperties::from_slice(&[("a", "1"), ("a", "2")]),
        };
        let mut forwarded = Vec::new();
        properties.encode_forwarded(&mut forwarded);
        for version in [Version::V31, Version::V311, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let message = Outgoing {
                    qos,
                    retain: true,
                    topic: "devices/1/state",
                    packet_id: 0xFFFF,
                    topic_alias: properties.topic_alias,
                    expiry_s: properties.expiry_s,
                    subscription_ids: &[1, 300],
                    forwarded: &forwarded,
                    payload: &[7; 200],
                    ..Outgoing::default()
                };
                let mut slow = b"before".to_vec();
                let packet = Packet::Publish(Publish {
                    dup: false,
                    qos,
                    retain: true,
                    topic: "devices/1/state",
                    packet_id: 515,
                    properties,
                    payload: &[7; 200],
                });
                packet.encode(version, &mut slow);
                let frame = PublishFrame::new(&message, version);
                let mut fast = b"before".to_vec();
                frame.write(515, &mut fast);
                assert_eq!(fast, slow, "{version:?} {qos:?}");
                assert_eq!(frame.len(), packet.encoded_len(version));
                assert_eq!(frame.len(), message.encoded_len(version));
            }
        }
    }
}
