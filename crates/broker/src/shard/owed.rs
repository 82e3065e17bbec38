//! What the log must keep for this shard, and what becomes of deliveries whose messages it will not
//! keep any longer: their receivers give them up while the messages can still be read.

use super::Shard;
use super::deliver::Live;
use super::pump::{READ_POSITIONS_MAX, Reading};
use crate::hooks::Event;
use crate::inbox::Owed;
use crate::input::{Now, ReadRequest};
use crate::message::{OwnedMessage, Position, REFUSED};
use crate::outbox::Outbox;
use crate::session::SessionRef;
use crate::turn::DropReason;
use commitlog::PartitionId;
use std::collections::BTreeMap;

impl Shard {
    /// The first offset of each partition that somebody here is owed, has in flight, or will be
    /// owed once a flush is done. Of partitions that are not named, nothing that this shard has
    /// seen committed is needed. Walks over the sessions.
    pub fn owed_from(&mut self) -> BTreeMap<PartitionId, u64> {
        let mut from = BTreeMap::new();
        let mut note = |position: Position| {
            let oldest = from.entry(position.partition).or_insert(u64::MAX);
            *oldest = position.offset.min(*oldest);
        };
        for slot in self.sessions.slots().collect::<Vec<_>>() {
            self.inbox(slot, |inbox| inbox.oldest(&mut note));
            let in_flight = self.sessions[slot].outbound.iter_in_order();
            in_flight.for_each(|(.., owed)| note(owed.position));
        }
        for group in self.groups.iter_mut() {
            let lent = group.lent.iter().map(|(owed, _)| owed);
            lent.chain(&group.queue)
                .for_each(|owed| note(owed.position));
        }
        for commit in &self.held {
            for &(partition, base, _) in &commit.batches {
                if base != REFUSED {
                    let offset = base;
                    note(Position { partition, offset });
                }
            }
        }
        from
    }

    /// The log will not keep what lies before `below`: who is owed something there gives it up now.
    pub(super) fn overdue(
        &mut self,
        partition: PartitionId,
        below: u64,
        now: Now,
        out: &mut Outbox,
    ) {
        let goes = |position: Position| position.partition == partition && position.offset < below;
        for slot in self.sessions.slots().collect::<Vec<_>>() {
            let mut any = false;
            self.inbox(slot, |inbox| {
                inbox.oldest(|position| any |= goes(position));
            });
            if !any {
                continue;
            }
            let owed = self.inbox(slot, |inbox| inbox.take_where(|owed| goes(owed.position)));
            self.sessions[slot].dirty = true;
            self.give_up(slot, &owed, DropReason::Retention, now, out);
        }
    }

    /// Gives up deliveries that are not in an inbox any more. Where a hook wants to hear of them
    /// their messages are read first.
    pub(super) fn give_up(
        &mut self,
        slot: u32,
        owed: &[Owed],
        reason: DropReason,
        now: Now,
        out: &mut Outbox,
    ) {
        if !out.turn.wants(Event::MessageDropped) {
            for owed in owed {
                self.drop_owed(slot, owed, None, reason, now, out);
            }
            return;
        }
        let session = self.sessions.reference(slot);
        for part in owed.chunks(READ_POSITIONS_MAX) {
            self.read_given_up(session, part.to_vec(), reason, out);
        }
    }

    fn read_given_up(
        &mut self,
        session: SessionRef,
        owed: Vec<Owed>,
        reason: DropReason,
        out: &mut Outbox,
    ) {
        let token = self.token();
        let positions = owed.iter().map(|owed| owed.position).collect();
        let reading = Reading::GivenUp {
            session,
            owed,
            reason,
        };
        self.reads.insert(token, reading);
        out.reads.push(ReadRequest { token, positions });
    }

    /// What was given up was read, or the first part of it.
    pub(super) fn given_up(
        &mut self,
        session: SessionRef,
        mut owed: Vec<Owed>,
        messages: &[Option<OwnedMessage>],
        reason: DropReason,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(slot) = self.sessions.living(session) else {
            return;
        };
        for (owed, message) in owed.iter().zip(messages) {
            let view = message.as_ref().map(OwnedMessage::view);
            let live = view.as_ref().map(|message| Live {
                message,
                position: Some(owed.position),
                commit: None,
            });
            self.drop_owed(slot, owed, live, reason, now, out);
        }
        let rest = owed.split_off(messages.len().min(owed.len()));
        if messages.is_empty() {
            for owed in &rest {
                self.drop_owed(slot, owed, None, reason, now, out);
            }
        } else if !rest.is_empty() {
            self.read_given_up(session, rest, reason, out);
        }
    }

    /// Whether messages of given up deliveries are still being read. The log should keep them, and
    /// no snapshot be taken, until this is over.
    pub fn is_giving_up(&self) -> bool {
        let mut reads = self.reads.values();
        reads.any(|reading| matches!(reading, Reading::GivenUp { .. }))
    }
}
