//! Writes the records of one event, each hook's in its stream. Knows nothing of when a turn ends.

use super::{Appends, Delivery, DropReason};
use crate::hooks::{HookTable, PayloadEncoding};
use crate::limits::TURN_BYTES_MAX;
use crate::message::{MessageView, MessagesBuilder, Place, Placed};
use crate::placement::Placement;
use crate::record::{MessageJson, RecordHeaders, write_retained};
use crate::shard::bit_of;
use commitlog::{Ack, PartitionId};
use mqtt::QoS;

/// Buffers that outlive a record.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// JSON with the payload in base64, and as text.
    pub(super) base64: Vec<u8>,
    pub(super) plain: Vec<u8>,
    key: Vec<u8>,
    names: Vec<u8>,
}

impl Scratch {
    /// Gives back what a large message has taken.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.base64, &mut self.plain, &mut self.names] {
            if buffer.capacity() > 2 * TURN_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }
}

/// Writes the records of one event.
pub(super) struct Writer<'t> {
    pub(super) hooks: &'t HookTable,
    pub(super) appends: &'t mut Appends,
    pub(super) scratch: &'t mut Scratch,
    pub(super) now_ms: u64,
    /// Where the places of records go that tell of an event, and whose it is.
    pub(super) happened: Option<(&'t mut MessagesBuilder, u32)>,
    /// The partitions of streams with `ack = "kafka"` that were written to, a bit each.
    pub(super) mirrored: u64,
    /// Records by the figure that counts them.
    pub(super) made: &'t mut [u64],
}

impl Writer<'_> {
    /// Writes a message event for each hook; answers where the copy is that sessions point into:
    /// the first in a disk stream, else the first.
    pub(super) fn message(
        &mut self,
        placement: &Placement,
        json: &MessageJson<'_>,
        headers: RecordHeaders<'_>,
    ) -> Option<Place> {
        self.scratch.base64.clear();
        self.scratch.plain.clear();
        let mut wanted = None;
        for (number, record) in placement.records.iter().enumerate() {
            let Scratch {
                base64,
                plain,
                key,
                names,
            } = &mut *self.scratch;
            let value = match record.payload {
                PayloadEncoding::Base64 => base64,
                PayloadEncoding::Plain => plain,
            };
            if value.is_empty() {
                json.write(record.payload, value);
            }
            let target = self.hooks.target(record.target);
            let (partition, key) = self.appends.key(
                record,
                target,
                [json.client_id, json.username, json.topic],
                key,
            );
            if target.ack == Ack::Kafka {
                self.mirrored |= bit_of(partition);
            }
            self.made[usize::from(record.counter)] += 1;
            let headers = RecordHeaders {
                // Where the record is of the message itself, and not the one it is kept in.
                copy: json.from.is_none() && target.kept && placement.kept != Some(number),
                ..headers.encoded(record.payload, json.payload)
            };
            let place = headers.with(names, |headers| {
                self.appends
                    .push(partition, self.now_ms, key, Some(value), headers)
            });
            if let Some((messages, owner)) = &mut self.happened {
                messages.happened(place, *owner);
            }
            if number == placement.kept.unwrap_or(0) {
                wanted = Some(place);
            }
        }
        wanted
    }

    /// Writes a delivery, acknowledgement or drop for each hook.
    pub(super) fn delivery(
        &mut self,
        placement: &Placement,
        delivery: &Delivery<'_>,
        reason: Option<DropReason>,
    ) {
        let message = delivery.message;
        let json = MessageJson {
            client_id: delivery.client_id,
            username: delivery.username,
            from: Some(message.publisher),
            topic: message.topic,
            payload: message.payload,
            qos: delivery.qos,
            reason: reason.map(DropReason::as_str),
            node_json: &self.hooks.node_json,
            ts: self.now_ms,
        };
        let headers = RecordHeaders {
            mid: delivery.position,
            publish_ms: (message.publish_ms != self.now_ms).then_some(message.publish_ms),
            ..RecordHeaders::of(message)
        };
        self.message(placement, &json, headers);
    }

    /// Writes an event without payload for each hook. `who`: client id, user name, topic.
    pub(super) fn plain(
        &mut self,
        placement: &Placement,
        who: [&str; 3],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Scratch {
            base64: value, key, ..
        } = &mut *self.scratch;
        value.clear();
        write(value);
        for record in &placement.records {
            let target = self.hooks.target(record.target);
            let (partition, key) = self.appends.key(record, target, who, key);
            self.made[usize::from(record.counter)] += 1;
            let place = self
                .appends
                .push(partition, self.now_ms, key, Some(value), &[]);
            if let Some((messages, owner)) = &mut self.happened {
                messages.happened(place, *owner);
            }
        }
    }

    /// Writes the raw payload into the default stream of its `QoS`.
    pub(super) fn unhooked(
        &mut self,
        message: &MessageView<'_>,
        headers: RecordHeaders<'_>,
        placed: &mut Placed,
    ) {
        let (target, usual) = match message.qos {
            QoS::AtMostOnce => (self.hooks.default_qos0, QoS::AtMostOnce),
            _ => (self.hooks.default, QoS::AtLeastOnce),
        };
        let target = self.hooks.target(target);
        let headers = RecordHeaders {
            topic: Some(message.topic),
            username: (!message.username.is_empty()).then_some(message.username),
            qos: (message.qos != usual).then_some(message.qos),
            ..headers
        };
        let key = message.publisher.as_bytes();
        let partition = target.partition(key);
        if target.ack == Ack::Kafka {
            self.mirrored |= bit_of(partition);
        }
        let place = headers.with(&mut self.scratch.names, |headers| {
            self.appends.push(
                partition,
                self.now_ms,
                Some(key),
                Some(message.payload),
                headers,
            )
        });
        placed.place = Some(place);
        placed.kept = target.kept;
        placed.level = placed.level.max(target.ack);
    }

    /// Writes the record of a retained message, or its tombstone.
    pub(super) fn retained(&mut self, partition: PartitionId, message: &MessageView<'_>) -> Place {
        let value = &mut self.scratch.base64;
        value.clear();
        if !message.payload.is_empty() {
            write_retained(value, message);
        }
        let value = (!value.is_empty()).then_some(value.as_slice());
        self.appends.push(
            partition,
            self.now_ms,
            Some(message.topic.as_bytes()),
            value,
            &[],
        )
    }
}
