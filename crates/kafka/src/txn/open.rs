//! What is in an open transaction, and the changes by which it is recorded: each adds to the record
//! of its transaction, so that a small request costs a small record. It knows no producers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::GroupOffset;
use crate::ErrorCode;
use crate::offsets::CommittedOffset;

/// What a partition takes in memory, in bytes.
const PARTITION_BYTES: usize = 16;

/// What a group or an offset takes besides its texts, in bytes.
const ENTRY_BYTES: usize = 96;

/// Offsets that a group commits, by topic and partition.
pub(super) type Offsets = BTreeMap<(Arc<str>, i32), CommittedOffset>;

/// An open transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Open {
    pub since_ms: u64,
    pub content: Content,
    /// Whether all of it is recorded, as far as was told.
    pub recorded: bool,
    /// How often its record was written; changes belong to one of these.
    pub round: u32,
    /// Changes recorded in this round.
    pub changes: u32,
    /// Keys of changes that were used in any round, from the first.
    pub slots: u32,
    /// It was open for too long, and its producer is fenced.
    pub expired: bool,
}

/// Partitions and offsets: of a transaction, or those that a change adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    pub partitions: BTreeSet<u32>,
    /// Groups whose offsets may be committed with it, and those that will be.
    pub groups: BTreeMap<Arc<str>, Offsets>,
    bytes: usize,
}

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Partitions, and groups, of the transaction.
    pub partitions: usize,
    /// Offsets of the transaction.
    pub offsets: usize,
    /// Bytes that may be added.
    pub bytes: usize,
}

impl Content {
    /// What it takes in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds partitions; those that were not there before.
    ///
    /// # Errors
    /// `POLICY_VIOLATION` where there is no room for them; nothing is added then.
    pub fn add_partitions(
        &mut self,
        partitions: &[u32],
        room: Room,
    ) -> Result<BTreeSet<u32>, ErrorCode> {
        let added = partitions.iter().copied();
        let added: BTreeSet<u32> = added
            .filter(|partition| !self.partitions.contains(partition))
            .collect();
        let bytes = added.len() * PARTITION_BYTES;
        if self.partitions.len() + added.len() > room.partitions || bytes > room.bytes {
            return Err(ErrorCode::PolicyViolation);
        }
        self.partitions.extend(&added);
        self.bytes += bytes;
        Ok(added)
    }

    /// Adds a group, if it is not there; whether it was not.
    ///
    /// # Errors
    /// `POLICY_VIOLATION` where there is no room for it.
    pub fn add_group(&mut self, group: &str, room: Room) -> Result<bool, ErrorCode> {
        if self.groups.contains_key(group) {
            return Ok(false);
        }
        let bytes = ENTRY_BYTES + group.len();
        if self.groups.len() >= room.partitions || bytes > room.bytes {
            return Err(ErrorCode::PolicyViolation);
        }
        self.groups.insert(group.into(), BTreeMap::new());
        self.bytes += bytes;
        Ok(true)
    }

    /// Adds offsets of a group that is there, which replace those of the same partitions.
    ///
    /// # Errors
    /// `POLICY_VIOLATION` where there is no room for them, `INVALID_TXN_STATE` where the group is
    /// not there; nothing is added then.
    pub fn add_offsets(
        &mut self,
        group: &str,
        offsets: &[GroupOffset],
        room: Room,
    ) -> Result<(), ErrorCode> {
        let kept: usize = self.groups.values().map(BTreeMap::len).sum();
        let of_group = self
            .groups
            .get_mut(group)
            .ok_or(ErrorCode::InvalidTxnState)?;
        let (mut count, mut added, mut freed) = (kept, 0, 0);
        let mut new = BTreeSet::new();
        for (place, committed) in offsets {
            match of_group.get(place) {
                Some(replaced) => freed += offset_bytes(place, replaced),
                None => count += usize::from(new.insert(place)),
            }
            added += offset_bytes(place, committed);
        }
        if count > room.offsets || added.saturating_sub(freed) > room.bytes {
            return Err(ErrorCode::PolicyViolation);
        }
        for (place, committed) in offsets {
            self.bytes += offset_bytes(place, committed);
            if let Some(replaced) = of_group.insert(place.clone(), committed.clone()) {
                self.bytes -= offset_bytes(place, &replaced);
            }
        }
        Ok(())
    }

    /// Adds what a change says; without bounds, since it had its room when it was made.
    pub fn add(&mut self, change: Self) {
        let none = Room {
            partitions: usize::MAX,
            offsets: usize::MAX,
            bytes: usize::MAX,
        };
        let Self {
            partitions, groups, ..
        } = change;
        let partitions: Vec<u32> = partitions.into_iter().collect();
        const ROOM: &str = "there is room without bounds";
        self.add_partitions(&partitions, none).expect(ROOM);
        for (group, offsets) in groups {
            self.add_group(&group, none).expect(ROOM);
            let offsets: Vec<GroupOffset> = offsets.into_iter().collect();
            self.add_offsets(&group, &offsets, none).expect(ROOM);
        }
    }

    /// Takes out the offsets for a topic; whether there were any.
    pub fn forget_topic(&mut self, topic: &str) -> bool {
        let before = self.bytes;
        let bytes = &mut self.bytes;
        for offsets in self.groups.values_mut() {
            offsets.retain(|place, committed| {
                let stays = *place.0 != *topic;
                if !stays {
                    *bytes -= offset_bytes(place, committed);
                }
                stays
            });
        }
        self.bytes < before
    }

    /// The places of the offsets for a topic, by group.
    pub fn of_topic(&self, topic: &str) -> impl Iterator<Item = (Arc<str>, i32)> {
        self.groups.iter().flat_map(move |(group, offsets)| {
            let places = offsets.keys().filter(move |place| *place.0 == *topic);
            places.map(|place| (group.clone(), place.1))
        })
    }
}

fn offset_bytes(place: &(Arc<str>, i32), committed: &CommittedOffset) -> usize {
    ENTRY_BYTES + place.0.len() + committed.metadata.len()
}
