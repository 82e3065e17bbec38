//! A group as it is shown: to DescribeGroups, to ListGroups and to people.

use std::sync::Arc;

use bytes::Bytes;

use super::member::Member;
use super::state::{Group, GroupState};
use crate::Reader;
use crate::primitives::Wire as _;

/// The kind of group whose metadata is a consumer's subscription.
const CONSUMER: &str = "consumer";

/// A group, to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    id: &'a Arc<str>,
    group: &'a Group,
}

/// A member, to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its id.
    pub id: Arc<str>,
    /// Its static name.
    pub instance_id: Option<Arc<str>>,
    /// What the client calls itself.
    pub client_id: Arc<str>,
    /// Where the client is.
    pub client_host: Arc<str>,
    /// What it announced for the protocol of the generation.
    pub metadata: Bytes,
    /// What it is assigned.
    pub assignment: Bytes,
}

impl<'a> GroupView<'a> {
    pub(super) fn new(id: &'a Arc<str>, group: &'a Group) -> Self {
        Self { id, group }
    }

    /// Its id.
    pub fn id(&self) -> &'a Arc<str> {
        self.id
    }

    /// Where it stands.
    pub fn state(&self) -> GroupState {
        self.group.state
    }

    /// Its generation: how many rebalances it has ended.
    pub fn generation(&self) -> i32 {
        self.group.generation
    }

    /// The kind of group; empty before the first member.
    pub fn protocol_type(&self) -> &'a str {
        self.group.protocol_type.as_deref().unwrap_or("")
    }

    /// The protocol of the generation; empty where there is none.
    pub fn protocol(&self) -> &'a str {
        self.group.protocol.as_deref().unwrap_or("")
    }

    /// The member that makes the assignments.
    pub fn leader(&self) -> Option<&'a Arc<str>> {
        self.group.leader.as_ref()
    }

    /// How many members it has.
    pub fn members_count(&self) -> usize {
        self.group.members.len()
    }

    /// Its members in the order of their ids. Metadata and assignment are those of a stable group,
    /// else empty.
    pub fn members(self) -> impl Iterator<Item = MemberView> + 'a {
        let group = self.group;
        let stable = group.state == GroupState::Stable;
        group.members.values().map(move |member| MemberView {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable {
                member.metadata(group.protocol.as_deref())
            } else {
                Bytes::new()
            },
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        })
    }

    /// Whether a member reads this topic, as far as it can be known: for groups of consumers, whose
    /// metadata is not opaque. `None`: it cannot be known.
    pub fn subscribes(&self, topic: &str) -> Option<bool> {
        if self.protocol_type() != CONSUMER {
            return None;
        }
        let mut found = false;
        for member in self.group.members.values() {
            found |= subscribes(member, topic)?;
        }
        Some(found)
    }
}

/// ConsumerProtocolSubscription: a version, then an array of topic names, then more.
fn subscribes(member: &Member, topic: &str) -> Option<bool> {
    let (_, metadata) = member.protocols.first()?;
    let mut from = Reader::new(metadata, 0, false).with_elements_max(100_000);
    i16::read(&mut from).ok()?;
    let topics: Vec<&str> = Vec::read(&mut from).ok()?;
    Some(topics.contains(&topic))
}
