//! What the log must keep for this shard, and what becomes of deliveries whose messages it will not
//! keep any longer: their receivers give them up while the messages can still be read.

use super::Shard;
use super::deliver::Live;
use super::pump::{READ_POSITIONS_MAX, Reading};
use super::timers::Due;
use crate::hooks::Event;
use crate::inbox::Owed;
use crate::input::{Now, ReadRequest};
use crate::limits::{GIVEN_UP_MAX, STEP_BYTES};
use crate::message::{OwnedMessage, Position, REFUSED};
use crate::outbox::Outbox;
use crate::session::SessionRef;
use crate::turn::DropReason;
use commitlog::PartitionId;
use std::collections::{BTreeMap, VecDeque};

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

    /// The log will not keep what lies before `below`: who is owed something there gives it up, a
    /// turn at a time.
    pub(super) fn overdue(
        &mut self,
        partition: PartitionId,
        below: u64,
        now: Now,
        out: &mut Outbox,
    ) {
        let doom = Doom::Before(Position {
            partition,
            offset: below,
        });
        for slot in self.sessions.slots().collect::<Vec<_>>() {
            let mut any = false;
            self.inbox(slot, |inbox| {
                inbox.oldest(|position| any |= doom.reaches(position));
            });
            if any {
                self.giving_up.queue.push_back((slot, doom));
            }
        }
        self.give_up_more(now, out);
    }

    /// Replay knows no bound; the newest messages beyond it are given up.
    pub(super) fn shorten_inbox(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        if self.sessions[slot].backlog.inbox.len() > self.settings.inbox_max as usize {
            self.giving_up.queue.push_back((slot, Doom::Beyond));
            self.give_up_more(now, out);
        }
    }

    /// Goes on with what is given up, as far as one turn should go.
    pub(super) fn give_up_more(&mut self, now: Now, out: &mut Outbox) {
        let inbox_max = self.settings.inbox_max as usize;
        while let Some(&(slot, doom)) = self.giving_up.queue.front() {
            if self.giving_up.reading >= 2 * GIVEN_UP_MAX {
                // The answer to a read goes on.
                return;
            }
            if out.turn.size_bytes() >= STEP_BYTES {
                if !std::mem::replace(&mut self.giving_up.is_armed, true) {
                    self.timers.arm(now.mono_ms, Due::GiveUp);
                }
                return;
            }
            let mut owed = Vec::new();
            if self.sessions.get(slot).is_some() {
                owed = self.inbox(slot, |inbox| match doom {
                    Doom::Beyond => {
                        let kept = inbox.len().saturating_sub(GIVEN_UP_MAX);
                        inbox.cut(inbox_max.max(kept))
                    }
                    Doom::Before(_) => {
                        let mut left = GIVEN_UP_MAX;
                        inbox.take_where(|owed| {
                            let goes = left > 0 && doom.reaches(owed.position);
                            left -= usize::from(goes);
                            goes
                        })
                    }
                });
            }
            if owed.len() < GIVEN_UP_MAX {
                self.giving_up.queue.pop_front();
            }
            if !owed.is_empty() {
                self.sessions[slot].dirty = true;
                self.give_up(slot, &owed, doom.reason(), now, out);
            }
        }
    }

    /// Gives up deliveries that are not in an inbox any more. Where a hook wants to hear of them
    /// their messages are read first.
    fn give_up(
        &mut self,
        slot: u32,
        owed: &[Owed],
        reason: DropReason,
        now: Now,
        out: &mut Outbox,
    ) {
        if !out.turn.wants(Event::MessageDropped) {
            self.drop_all(slot, owed, &[], reason, now, out);
            return;
        }
        let session = self.sessions.reference(slot);
        for part in owed.chunks(READ_POSITIONS_MAX) {
            self.read_given_up(session, part.to_vec(), reason, out);
        }
    }

    /// Drops what is owed, each with its message as far as there are messages, in one record.
    fn drop_all(
        &mut self,
        slot: u32,
        owed: &[Owed],
        messages: &[Option<OwnedMessage>],
        reason: DropReason,
        now: Now,
        out: &mut Outbox,
    ) {
        let mut positions = Vec::with_capacity(owed.len());
        for (at, owed) in owed.iter().enumerate() {
            let message = messages.get(at).and_then(Option::as_ref);
            let view = message.map(OwnedMessage::view);
            let live = view.as_ref().map(|message| Live {
                message,
                position: Some(owed.position),
                commit: None,
            });
            if self.report_dropped(slot, owed, live, reason, now, out) {
                positions.push(owed.position);
            }
        }
        self.save_dropped(slot, &positions, now, out);
    }

    fn read_given_up(
        &mut self,
        session: SessionRef,
        owed: Vec<Owed>,
        reason: DropReason,
        out: &mut Outbox,
    ) {
        let token = self.token();
        self.giving_up.reading += owed.len();
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
        self.giving_up.reading -= owed.len();
        if let Some(slot) = self.sessions.living(session) {
            // Without any answer there will be none.
            let read = if messages.is_empty() {
                owed.len()
            } else {
                messages.len()
            };
            let rest = owed.split_off(read.min(owed.len()));
            self.drop_all(slot, &owed, messages, reason, now, out);
            if !rest.is_empty() {
                self.read_given_up(session, rest, reason, out);
            }
        }
        self.give_up_more(now, out);
    }

    /// Whether deliveries are still being given up. The log should keep their messages until this
    /// is over.
    pub fn is_giving_up(&self) -> bool {
        !self.giving_up.queue.is_empty() || self.giving_up.is_reading()
    }
}

/// Which deliveries of a session are given up.
#[derive(Debug, Clone, Copy)]
enum Doom {
    /// Those of this partition before this offset, which the log is about to drop.
    Before(Position),
    /// Those beyond what a session may be owed.
    Beyond,
}

impl Doom {
    fn reaches(self, position: Position) -> bool {
        match self {
            Self::Before(end) => {
                position.partition == end.partition && position.offset < end.offset
            }
            Self::Beyond => false,
        }
    }

    fn reason(self) -> DropReason {
        match self {
            Self::Before(_) => DropReason::Retention,
            Self::Beyond => DropReason::QueueFull,
        }
    }
}

/// What is being given up.
#[derive(Debug, Default)]
pub(super) struct GivingUp {
    queue: VecDeque<(u32, Doom)>,
    /// Deliveries out of the inboxes whose messages are being read.
    reading: usize,
    /// A timer will go on.
    pub(super) is_armed: bool,
}

impl GivingUp {
    /// Whether deliveries are on their way from an inbox into the record of their end.
    pub(super) fn is_reading(&self) -> bool {
        self.reading > 0
    }
}
