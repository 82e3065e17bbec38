//! What a downlink brings: its PUBLISHes, its dead letters and its position are part of one turn,
//! so that a crash leaves all of them or none.

use super::Shard;
use super::publish::dropped;
use crate::downlink::{
    Carried, Delivered, Parcel, SourceRecord, Unfit, dead_letter, write_position,
};
use crate::input::{Now, Refusal};
use crate::message::MessageView;
use crate::outbox::Outbox;
use crate::turn::{DropReason, PublishFacts};
use mqtt::PublishProperties;
use std::collections::VecDeque;

/// Parcels on their way into the log, by turn: token and what is in it.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    written: VecDeque<(u64, u64, Carried)>,
}

impl Parcels {
    /// Turns up to `turn` are in the log.
    pub(super) fn confirmed(&mut self, turn: u64, out: &mut Outbox) {
        self.settle(turn, out, Ok);
    }

    /// The log took nothing of a turn; those before it were confirmed or refused already.
    pub(super) fn refused(&mut self, turn: u64, why: Refusal, out: &mut Outbox) {
        self.settle(turn, out, |_| Err(why));
    }

    fn settle(
        &mut self,
        turn: u64,
        out: &mut Outbox,
        result: impl Fn(Carried) -> Result<Carried, Refusal>,
    ) {
        while let Some(&(at, token, carried)) = self.written.front()
            && at <= turn
        {
            self.written.pop_front();
            let result = result(carried);
            out.delivered.push(Delivered { token, result });
        }
    }
}

impl Shard {
    /// Records of a source become PUBLISHes.
    pub(super) fn downlink(&mut self, parcel: &Parcel, now: Now, out: &mut Outbox) {
        let mut carried = Carried::default();
        for record in &parcel.records {
            match parcel.rules.message(record, now.wall_ms) {
                Ok(message) => {
                    let message = message.view();
                    match self.command(parcel, &message, now, out) {
                        Ok(true) => carried.published += 1,
                        Ok(false) => carried.expired += 1,
                        Err(unfit) => {
                            carried.refused += 1;
                            bury(parcel, record, unfit, now, out);
                        }
                    }
                }
                Err(unfit) => {
                    carried.refused += 1;
                    bury(parcel, record, unfit, now, out);
                }
            }
        }
        let position = write_position(parcel.next_offset);
        let turn = out.turn.number();
        out.turn
            .table(parcel.table, &parcel.key, Some(&position), now.wall_ms);
        self.parcels
            .written
            .push_back((turn, parcel.token, carried));
    }

    /// Publishes a command; false: it is too old.
    fn command(
        &mut self,
        parcel: &Parcel,
        message: &MessageView<'_>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<bool, Unfit> {
        if message.retain && !self.settings.retain_available {
            return Err(Unfit("retained messages are not kept"));
        }
        if message.retain && !message.payload.is_empty() && !self.admits_retained(message.topic) {
            return Err(Unfit("there is no room for another retained message"));
        }
        if out
            .turn
            .leads_into(message.topic, message.qos, &parcel.rules.forbidden)
        {
            return Err(Unfit("its PUBLISH would lead back to where it comes from"));
        }
        let forwarded = message.properties.as_bytes();
        let properties = PublishProperties {
            expiry_s: message.expiry_left_s(now.wall_ms),
            ..PublishProperties::from_forwarded(forwarded).unwrap_or_default()
        };
        let facts = facts(message, &properties, self.settings.qos_max, now);
        if message.is_expired(now.wall_ms) {
            self.stats.dropped[DropReason::Expired as usize] += 1;
            dropped(&facts, DropReason::Expired, now, out);
            return Ok(false);
        }
        self.publish_facts(&facts, out);
        Ok(true)
    }
}

fn facts<'a>(
    message: &MessageView<'a>,
    properties: &'a PublishProperties<'a>,
    qos_max: mqtt::QoS,
    now: Now,
) -> PublishFacts<'a> {
    PublishFacts {
        client_id: message.publisher,
        username: message.username,
        topic: message.topic,
        payload: message.payload,
        qos: message.qos.min(qos_max),
        retain: message.retain,
        dup: false,
        properties,
        // Who wrote the record has proved nothing to this door, whatever its headers say.
        peer: "",
        principal: "",
        now_ms: now.wall_ms,
    }
}

/// Writes a record that cannot be published where somebody will find it, with the reason.
fn bury(parcel: &Parcel, record: &SourceRecord, unfit: Unfit, now: Now, out: &mut Outbox) {
    let rules = &parcel.rules;
    let (number, offset) = (parcel.partition.to_string(), record.offset.to_string());
    let mut headers: Vec<(&[u8], &[u8])> = record
        .headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let mut value = record.value.as_deref();
    if rules.is_too_large(record) {
        // Its source tells where the rest is.
        headers.clear();
        value = None;
    }
    headers.push((dead_letter::REASON.as_bytes(), unfit.0.as_bytes()));
    headers.push((dead_letter::SOURCE.as_bytes(), rules.source.as_bytes()));
    headers.push((dead_letter::PARTITION.as_bytes(), number.as_bytes()));
    headers.push((dead_letter::OFFSET.as_bytes(), offset.as_bytes()));
    let key = record
        .key
        .as_deref()
        .filter(|_| !rules.is_too_large(record));
    let count = rules.dead_letters.len() as u32;
    let index = commitlog::partition_for_key(key.or(Some(&[])), count);
    let partition = rules.dead_letters[index as usize];
    out.turn
        .record(partition, key, value, &headers, now.wall_ms);
}
