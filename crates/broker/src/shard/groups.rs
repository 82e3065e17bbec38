//! Shared subscriptions. A group has one owner, the shard that its name is at home at: there
//! messages are matched once and lent to members, wherever those are at home. The group owns the
//! positions; members borrow them.

use super::deliver::Live;
use super::matches::{Subscriber, Who};
use super::table::{Kind, write_positions};
use super::{Shard, home_of};
use crate::inbox::{IdList, Owed};
use crate::input::{GroupJoin, GroupName, Loan, Now, ShardMessage};
use crate::message::{MessageRef, Position};
use crate::outbox::Outbox;
use crate::session::Borrowed;
use crate::shared::Group;
use crate::turn::{Delivery, DropReason, EventFacts};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use mqtt::inflight::OutState;
use mqtt::topic::parse_share;
use mqtt::{QoS, SubscribeOptions};
use std::sync::Arc;

/// The groups that a shard owns.
#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Vec<Option<Box<Group>>>,
    free: Vec<u32>,
    by_name: HashMap<GroupName, u32, RandomState>,
}

impl Groups {
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(super) fn get_mut(&mut self, group: u32) -> Option<&mut Group> {
        self.slots.get_mut(group as usize)?.as_deref_mut()
    }

    /// All groups, in the order of their slots.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.slots.iter_mut().flatten().map(|group| &mut **group)
    }

    fn named(&mut self, name: &str) -> Option<&mut Group> {
        let group = self.find(name)?;
        self.get_mut(group)
    }
}

impl Shard {
    /// Another shard, or this one, has something to say.
    pub(super) fn posted(&mut self, message: ShardMessage, now: Now, out: &mut Outbox) {
        match message {
            ShardMessage::Join(join) => {
                let group = self.group(&join.group);
                if let Some(found) = self.groups.get_mut(group) {
                    found.join(&join);
                }
                self.lend_queued(group, now, out);
            }
            ShardMessage::Leave { group, client_id } => self.left(&group, &client_id, now, out),
            ShardMessage::Offline {
                group,
                client_id,
                returned,
            } => {
                let Some(slot) = self.groups.find(&group) else {
                    return;
                };
                if let Some(found) = self.groups.get_mut(slot) {
                    found.offline(&client_id, &returned);
                }
                self.lend_queued(slot, now, out);
            }
            ShardMessage::Lend(loan) => self.borrow(&loan, now, out),
            ShardMessage::Settled {
                group,
                client_id,
                position,
            } => {
                let Some(slot) = self.groups.find(&group) else {
                    return;
                };
                let Some(found) = self.groups.get_mut(slot) else {
                    return;
                };
                // The member has written the record, in the turn of its own.
                found.settle(&client_id, position);
                self.lend_queued(slot, now, out);
            }
            ShardMessage::Returned {
                group,
                client_id,
                position,
            } => {
                let Some(slot) = self.groups.find(&group) else {
                    return;
                };
                if let Some(found) = self.groups.get_mut(slot) {
                    found.offline(&client_id, &[position]);
                }
                self.lend_queued(slot, now, out);
            }
        }
    }

    /// The group of this name, made if there is none.
    pub(super) fn group(&mut self, name: &GroupName) -> u32 {
        if let Some(slot) = self.groups.find(name) {
            return slot;
        }
        let group = Group::new(name.clone());
        let slot = self.groups.free.pop().unwrap_or_else(|| {
            self.groups.slots.push(None);
            (self.groups.slots.len() - 1) as u32
        });
        let subscriber = Subscriber {
            who: Who::Group(slot),
            id: 0,
            options: SubscribeOptions::qos(QoS::ExactlyOnce),
        };
        if self.filters.insert(group.filter(), subscriber).is_ok() {
            let _ = self.interest.add(self.worker, group.filter());
        }
        self.groups.slots[slot as usize] = Some(Box::new(group));
        self.groups.by_name.insert(name.clone(), slot);
        slot
    }

    fn left(&mut self, name: &GroupName, client_id: &str, now: Now, out: &mut Outbox) {
        let Some(slot) = self.groups.find(name) else {
            return;
        };
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        let was_persistent = group.is_persistent();
        group.leave(client_id);
        if was_persistent && !group.is_persistent() {
            self.erase_for(Kind::Queue, name, &[], now, out);
        }
        self.remove_if_empty(slot);
    }

    /// A group without members is no group; what it owed is owed to nobody.
    pub(super) fn remove_if_empty(&mut self, slot: u32) {
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        if !group.members.is_empty() {
            return;
        }
        let filter = group.filter().to_owned();
        let name = group.name.clone();
        if self
            .filters
            .remove(&filter, |other| other.who == Who::Group(slot))
            .is_some()
        {
            self.interest.remove(self.worker, &filter);
        }
        self.groups.by_name.remove(&name);
        self.groups.slots[slot as usize] = None;
        self.groups.free.push(slot);
    }

    /// A message matches what a group shares: one member gets it, or it waits for one.
    pub(super) fn offer(&mut self, slot: u32, live: Live<'_>, now: Now, out: &mut Outbox) {
        let strategy = self.settings.shared_strategy;
        let inbox_max = self.settings.inbox_max as usize;
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        let Some((commit, index)) = live.commit else {
            return;
        };
        let message = live.message;
        let wants_to_wait = !group.queue.is_empty() && message.qos != QoS::AtMostOnce;
        let picked = if wants_to_wait {
            None
        } else {
            group.pick(strategy).cloned()
        };
        let owed = live.position.map(|position| Owed {
            lsn: commit.lsn,
            index,
            retain: message.retain,
            shared: true,
            ..Owed::new(position, message.qos)
        });
        let Some(member) = picked else {
            match owed {
                Some(owed) if message.qos != QoS::AtMostOnce && group.queue.len() < inbox_max => {
                    group.queue.push_back(owed);
                    group.dirty = true;
                    self.recent.keep(commit);
                }
                _ => self.drop_for_group(slot, live, DropReason::QueueFull, now, out),
            }
            return;
        };
        let qos = message.qos.min(member.options.qos);
        if qos != QoS::AtMostOnce
            && let Some(owed) = owed
        {
            group.lend(&member.client_id, owed);
        }
        let loan = Loan {
            group: group.name.clone(),
            client_id: member.client_id.clone(),
            message: Some(MessageRef::new(commit.clone(), index)),
            journal: group.is_persistent(),
            position: live.position,
            qos,
            retain: message.retain && member.options.retain_as_published,
            subscription_id: member.subscription_id,
        };
        self.post(
            home_of(&member.client_id),
            ShardMessage::Lend(Box::new(loan)),
            out,
        );
    }

    /// Nobody takes it and there is no room to keep it, or no member was chosen before it expired.
    /// None is its receiver, so its publisher is named.
    pub(super) fn drop_for_group(
        &mut self,
        slot: u32,
        live: Live<'_>,
        reason: DropReason,
        now: Now,
        out: &mut Outbox,
    ) {
        self.stats.dropped[reason as usize] += 1;
        let delivery = Delivery {
            client_id: live.message.publisher,
            username: live.message.username,
            qos: live.message.qos,
            message: live.message,
            position: live.position,
        };
        let facts = EventFacts::Dropped(delivery, reason);
        out.turn.happened(&facts, now.wall_ms);
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        if let Some(position) = live.position
            && live.message.qos != QoS::AtMostOnce
            && group.is_persistent()
        {
            let name = group.name.clone();
            write_positions(&mut self.value, std::iter::once(position));
            self.put_for(Kind::Settled, &name, &[], now, out);
        }
    }

    /// Lends what waits, as far as members have room.
    pub(super) fn lend_queued(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        let strategy = self.settings.shared_strategy;
        loop {
            let Some(group) = self.groups.get_mut(slot) else {
                return;
            };
            if group.queue.is_empty() {
                return;
            }
            let Some(member) = group.pick(strategy).cloned() else {
                return;
            };
            let Some(owed) = group.queue.pop_front() else {
                return;
            };
            let name = group.name.clone();
            let journal = group.is_persistent();
            let message = self
                .recent
                .commit(owed.lsn)
                .map(|commit| MessageRef::new(commit.clone(), owed.index));
            let qos = owed.qos.min(member.options.qos);
            if qos == QoS::AtMostOnce {
                // Downgraded by the member's grant, it is done with as soon as it is sent.
                group.dirty = true;
                if group.is_persistent() {
                    write_positions(&mut self.value, std::iter::once(owed.position));
                    self.put_for(Kind::Settled, &name, &[], now, out);
                }
            } else {
                group.lend(&member.client_id, owed);
            }
            let loan = Loan {
                group: name,
                client_id: member.client_id.clone(),
                message,
                journal,
                position: Some(owed.position),
                qos,
                retain: owed.retain && member.options.retain_as_published,
                subscription_id: member.subscription_id,
            };
            self.post(
                home_of(&member.client_id),
                ShardMessage::Lend(Box::new(loan)),
                out,
            );
        }
    }

    /// A group lends a message to one of our sessions.
    fn borrow(&mut self, loan: &Loan, now: Now, out: &mut Outbox) {
        let slot = self.sessions.find(&loan.client_id);
        let slot = slot.filter(|&slot| self.sessions[slot].conn.is_some());
        let (Some(slot), Some(position)) = (slot, loan.position) else {
            return self.return_loan(slot, loan, now, out);
        };
        if loan.qos == QoS::AtMostOnce {
            return self.return_loan(Some(slot), loan, now, out);
        }
        let session = &mut self.sessions[slot];
        session.borrow(Borrowed {
            position,
            group: loan.group.clone(),
            journal: loan.journal,
        });
        let (lsn, index) = loan
            .message
            .as_ref()
            .map_or((0, 0), |m| (m.lsn(), m.index()));
        let owed = Owed {
            lsn,
            index,
            ids: IdList::one(loan.subscription_id),
            retain: loan.retain,
            shared: true,
            ..Owed::new(position, loan.qos)
        };
        if let Some(message) = &loan.message {
            let view = message.view();
            let commit = Some((message.commit(), message.index()));
            let live = Live {
                message: &view,
                position: Some(position),
                commit,
            };
            self.frames.begin();
            self.owe(slot, owed, live, now, out);
        } else {
            self.inbox(slot, |inbox| inbox.push(owed));
            self.pump(slot, now, out);
        }
    }

    /// QoS 0 is sent at once or never; anything else goes back.
    fn return_loan(&mut self, slot: Option<u32>, loan: &Loan, now: Now, out: &mut Outbox) {
        if loan.qos == QoS::AtMostOnce {
            if let (Some(slot), Some(message)) = (slot, &loan.message) {
                let view = message.view();
                let commit = Some((message.commit(), message.index()));
                let live = Live {
                    message: &view,
                    position: loan.position,
                    commit,
                };
                self.frames.begin();
                let ids = [loan.subscription_id];
                let ids = if ids[0] == 0 { &[][..] } else { &ids };
                self.send_qos0(slot, live, loan.retain, ids, now, out);
            }
        } else if let Some(position) = loan.position {
            let returned = ShardMessage::Returned {
                group: loan.group.clone(),
                client_id: loan.client_id.clone(),
                position,
            };
            self.post(home_of(&loan.group), returned, out);
        }
    }

    /// One of our sessions is done with a lent message. The record of that is in the journal entry
    /// that ends the delivery: no crash may come between.
    pub(super) fn settle_loan(
        &mut self,
        slot: u32,
        position: Position,
        now: Now,
        out: &mut Outbox,
    ) {
        let session = &mut self.sessions[slot];
        let Some(loan) = session.give_back(position) else {
            return;
        };
        let (group, client_id) = (loan.group, session.client_id.clone());
        if loan.journal {
            self.save_settled(slot, &group, position, now, out);
        }
        let home = home_of(&group);
        let settled = ShardMessage::Settled {
            group,
            client_id,
            position,
        };
        self.post(home, settled, out);
    }

    /// Writes down that a group is done with a message, together with what is written of the
    /// session that had borrowed it.
    pub(super) fn save_settled(
        &mut self,
        slot: u32,
        group: &str,
        position: Position,
        now: Now,
        out: &mut Outbox,
    ) {
        let member = self.sessions[slot].client_id.clone();
        write_positions(&mut self.value, std::iter::once(position));
        self.put_with(&member, Kind::Settled, group, &[], now, out);
    }

    /// One of our sessions subscribes to what a group shares.
    pub(super) fn join_group(&mut self, slot: u32, name: &Arc<str>, out: &mut Outbox) {
        let session = &self.sessions[slot];
        let Some(at) = session.subscription(name) else {
            return;
        };
        let subscription = &session.subscriptions[at];
        let ready = session
            .conn
            .and_then(|conn| self.conns.get(conn))
            .is_some_and(|c| c.ready);
        let rare = session.backlog.rare.as_ref();
        let holds = rare.map_or(Vec::new(), |rare| {
            rare.loans
                .iter()
                .filter(|it| it.group == *name)
                .map(|it| it.position)
                .collect()
        });
        let join = GroupJoin {
            group: name.clone(),
            client_id: session.client_id.clone(),
            options: subscription.options,
            subscription_id: subscription.id,
            online: ready,
            persistent: session.is_persistent(),
            window: session.outbound.window(),
            holds,
        };
        self.post(home_of(name), ShardMessage::Join(Box::new(join)), out);
    }

    /// One of our sessions unsubscribes.
    pub(super) fn leave_group(&mut self, slot: u32, name: &Arc<str>, out: &mut Outbox) {
        let client_id = self.sessions[slot].client_id.clone();
        let leave = ShardMessage::Leave {
            group: name.clone(),
            client_id,
        };
        self.post(home_of(name), leave, out);
    }

    /// Tells the groups of a session that it has come.
    pub(super) fn announce_member(&mut self, slot: u32, out: &mut Outbox) {
        for name in self.shared_filters(slot) {
            self.join_group(slot, &name, out);
        }
    }

    /// Tells the groups of a session that it has gone, and gives them their messages back. QoS 2
    /// messages that have a packet id stay with the session as long as it lives, and then go with
    /// it: no other member may get them [MQTT-4.8.2-5].
    pub(super) fn members_offline(&mut self, slot: u32, ends: bool, now: Now, out: &mut Outbox) {
        let names = self.shared_filters(slot);
        let session = &mut self.sessions[slot];
        if names.is_empty() && session.backlog.rare.is_none() {
            return;
        }
        let mut returned: Vec<Position> = Vec::new();
        let in_flight: Vec<(u16, OutState, Owed)> = session
            .outbound
            .iter_in_order()
            .map(|(id, state, &owed)| (id, state, owed))
            .collect();
        for (packet_id, state, owed) in in_flight.into_iter().filter(|(.., owed)| owed.shared) {
            if state == OutState::Qos1Sent {
                self.erase_inflight(slot, packet_id, now, out);
                self.sessions[slot].outbound.remove(packet_id);
                self.stats.inflight -= 1;
                returned.push(owed.position);
            } else if ends {
                self.settle_loan(slot, owed.position, now, out);
            }
        }
        let lent = self.inbox(slot, |inbox| inbox.take_where(|owed| owed.shared));
        returned.extend(lent.into_iter().map(|owed| owed.position));
        let session = &mut self.sessions[slot];
        let mut by_group: Vec<(GroupName, Vec<Position>)> =
            names.into_iter().map(|name| (name, Vec::new())).collect();
        for position in returned {
            let Some(Borrowed { group, .. }) = session.give_back(position) else {
                continue;
            };
            match by_group.iter_mut().find(|(name, _)| *name == group) {
                Some((_, positions)) => positions.push(position),
                None => by_group.push((group, vec![position])),
            }
        }
        let client_id = session.client_id.clone();
        for (group, returned) in by_group {
            let home = home_of(&group);
            let client_id = client_id.clone();
            self.post(
                home,
                ShardMessage::Offline {
                    group,
                    client_id,
                    returned,
                },
                out,
            );
        }
    }

    fn shared_filters(&self, slot: u32) -> Vec<GroupName> {
        let subscriptions = self.sessions[slot].subscriptions.iter();
        subscriptions
            .filter(|subscription| parse_share(&subscription.filter).is_some())
            .map(|subscription| subscription.filter.clone())
            .collect()
    }
}

impl Groups {
    /// A message that replay matched, or found in a snapshot, and nobody has settled yet.
    pub(super) fn restore(&mut self, slot: u32, owed: Owed) {
        if let Some(group) = self.get_mut(slot) {
            group.queue.push_back(owed);
            group.dirty = true;
        }
    }

    /// A message that replay found settled.
    pub(super) fn forget(&mut self, name: &str, position: Position) {
        if let Some(group) = self.named(name) {
            group.forget(position);
        }
    }
}
