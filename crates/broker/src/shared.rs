//! A shared subscription group: who its members are, what it has lent to whom, what nobody could
//! take yet. Decides who gets the next message; sends nothing.

use crate::inbox::Owed;
use crate::input::{GroupJoin, GroupName};
use crate::message::Position;
use crate::settings::SharedStrategy;
use mqtt::SubscribeOptions;
use std::collections::VecDeque;
use std::sync::Arc;

/// One member of a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub client_id: Arc<str>,
    pub options: SubscribeOptions,
    pub subscription_id: u32,
    pub online: bool,
    pub persistent: bool,
    window: u16,
    held: u16,
}

/// A group at its owner.
#[derive(Debug)]
pub(crate) struct Group {
    pub name: GroupName,
    pub members: Vec<Member>,
    /// The member after the one that got the last message; with `sticky` that one itself.
    next: usize,
    /// Messages that no member has, oldest first.
    pub queue: VecDeque<Owed>,
    /// QoS 1 and 2 messages that members hold, and who.
    pub lent: VecDeque<(Owed, Arc<str>)>,
    /// Whether `queue` or `lent` changed since the last snapshot.
    pub dirty: bool,
}

impl Group {
    pub(crate) fn new(name: GroupName) -> Self {
        Self {
            name,
            members: Vec::new(),
            next: 0,
            queue: VecDeque::new(),
            lent: VecDeque::new(),
            dirty: false,
        }
    }

    /// The filter that the group shares.
    pub(crate) fn filter(&self) -> &str {
        mqtt::topic::parse_share(&self.name).map_or("", |share| share.filter)
    }

    /// Whether what it owes outlives the process: it does as long as one member's session does.
    pub(crate) fn is_persistent(&self) -> bool {
        self.members.iter().any(|member| member.persistent)
    }

    fn find(&self, client_id: &str) -> Option<usize> {
        self.members
            .iter()
            .position(|member| *member.client_id == *client_id)
    }

    /// Takes a member in, or its new state.
    pub(crate) fn join(&mut self, join: &GroupJoin) {
        let held = self
            .lent
            .iter()
            .filter(|(_, who)| *who == join.client_id)
            .count() as u16;
        let member = Member {
            client_id: join.client_id.clone(),
            options: join.options,
            subscription_id: join.subscription_id,
            online: join.online,
            persistent: join.persistent,
            window: join.window,
            held,
        };
        match self.find(&join.client_id) {
            Some(at) => self.members[at] = member,
            None => self.members.push(member),
        }
        for &position in &join.holds {
            if let Some(at) = self.queue.iter().position(|owed| owed.position == position)
                && let Some(owed) = self.queue.remove(at)
            {
                self.lent.push_back((owed, join.client_id.clone()));
                if let Some(at) = self.find(&join.client_id) {
                    self.members[at].held += 1;
                }
            }
        }
    }

    /// A member leaves for good. What it holds stays lent until it says what became of it.
    pub(crate) fn leave(&mut self, client_id: &str) {
        if let Some(at) = self.find(client_id) {
            self.members.remove(at);
            if at < self.next {
                self.next -= 1;
            }
        }
    }

    /// A member has no connection any more.
    pub(crate) fn offline(&mut self, client_id: &str, returned: &[Position]) {
        if let Some(at) = self.find(client_id) {
            self.members[at].online = false;
        }
        // Back to the front, in their old order.
        for &position in returned.iter().rev() {
            self.give_back(client_id, position);
        }
    }

    /// A lent message comes back, to be the next that is lent.
    pub(crate) fn give_back(&mut self, client_id: &str, position: Position) {
        if let Some(owed) = self.settle(client_id, position) {
            self.queue.push_front(owed);
        }
    }

    /// A member is done with a message.
    pub(crate) fn settle(&mut self, client_id: &str, position: Position) -> Option<Owed> {
        let mut lent = self.lent.iter();
        let at = lent.position(|(owed, who)| owed.position == position && **who == *client_id)?;
        self.dirty = true;
        if let Some(member) = self.find(client_id) {
            let held = &mut self.members[member].held;
            *held = held.saturating_sub(1);
        }
        self.lent.remove(at).map(|(owed, _)| owed)
    }

    /// Forgets a message wherever it is: replay has found it settled.
    pub(crate) fn forget(&mut self, position: Position) {
        self.queue.retain(|owed| owed.position != position);
        self.lent.retain(|(owed, _)| owed.position != position);
    }

    /// Who gets the next message: a member with a connection and room in its window.
    pub(crate) fn pick(&mut self, strategy: SharedStrategy) -> Option<&Member> {
        let members = self.members.len();
        let at = (0..members)
            .map(|step| (self.next + step) % members)
            .find(|&at| {
                let member = &self.members[at];
                member.online && member.held < member.window
            })?;
        self.next = match strategy {
            SharedStrategy::RoundRobin => at + 1,
            SharedStrategy::Sticky => at,
        };
        Some(&self.members[at])
    }

    /// Notes that a member holds a message.
    pub(crate) fn lend(&mut self, client_id: &Arc<str>, owed: Owed) {
        if let Some(at) = self.find(client_id) {
            self.members[at].held += 1;
        }
        self.lent.push_back((owed, client_id.clone()));
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::QoS;

    fn join(group: &mut Group, client_id: &str, online: bool, window: u16, holds: Vec<Position>) {
        group.join(&GroupJoin {
            group: group.name.clone(),
            client_id: client_id.into(),
            options: SubscribeOptions::qos(QoS::AtLeastOnce),
            subscription_id: 0,
            online,
            persistent: false,
            window,
            holds,
        });
    }

    fn owed(offset: u64) -> Owed {
        Owed {
            shared: true,
            ..Owed::new(
                Position {
                    partition: 1,
                    offset,
                },
                QoS::AtLeastOnce,
            )
        }
    }

    fn picks(group: &mut Group, strategy: SharedStrategy, times: usize) -> Vec<String> {
        let mut who = Vec::new();
        for _ in 0..times {
            who.push(
                group
                    .pick(strategy)
                    .map_or(String::new(), |m| m.client_id.to_string()),
            );
        }
        who
    }

    #[test]
    fn round_robin_skips_those_away_and_sticky_stays() {
        let mut group = Group::new("$share/g/t".into());
        assert_eq!(group.filter(), "t");
        for (client_id, online) in [("a", true), ("b", false), ("c", true)] {
            join(&mut group, client_id, online, 1, Vec::new());
        }
        assert_eq!(
            picks(&mut group, SharedStrategy::RoundRobin, 4),
            ["a", "c", "a", "c"]
        );
        let sticky = picks(&mut group, SharedStrategy::Sticky, 3);
        assert!(sticky.iter().all(|who| *who == sticky[0]));
    }

    #[test]
    fn what_a_member_holds_counts_against_its_window_and_comes_back_in_order() {
        let mut group = Group::new("$share/g/t".into());
        join(&mut group, "a", true, 2, Vec::new());
        let a: Arc<str> = "a".into();
        group.lend(&a, owed(1));
        group.lend(&a, owed(2));
        assert!(group.pick(SharedStrategy::RoundRobin).is_none());
        group.queue.push_back(owed(3));
        group.offline("a", &[owed(1).position, owed(2).position]);
        let queued: Vec<u64> = group
            .queue
            .iter()
            .map(|owed| owed.position.offset)
            .collect();
        assert_eq!(queued, [1, 2, 3]);
        join(&mut group, "a", true, 2, vec![owed(2).position]);
        assert_eq!(
            group.queue.len(),
            2,
            "what the member holds already is not lent again"
        );
        assert!(group.settle("a", owed(2).position).is_some());
        assert!(group.settle("a", owed(2).position).is_none());
    }
}
