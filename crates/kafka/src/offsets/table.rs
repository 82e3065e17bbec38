//! The committed offsets of all groups in memory. Which of two commits is the newer is decided by
//! their offsets in the table's partition, whatever the order in which they are told here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::record::{CommittedOffset, OffsetKey};
use crate::limits;

/// A partition of a topic.
pub type Place = (Arc<str>, i32);

/// What is known of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup<'a> {
    /// The committed offset.
    pub committed: Option<&'a CommittedOffset>,
    /// Whether an open transaction may commit another one (KIP-447).
    pub unstable: bool,
}

/// The newest that was said of a partition.
#[derive(Clone, Debug)]
struct Said {
    /// `None`: it was deleted; kept for a while, since an older commit may still be on its way.
    committed: Option<CommittedOffset>,
    /// Offset of the record in the table.
    record: u64,
    /// In which sweep it was deleted.
    sweep: u64,
}

#[derive(Clone, Debug, Default)]
struct GroupOffsets {
    said: BTreeMap<Place, Said>,
    /// Partitions that open transactions may commit, and the producers of those.
    pending: BTreeMap<Place, BTreeSet<i64>>,
    /// How many of `said` are offsets.
    count: usize,
    /// When the group was last seen with members, ms since 1970.
    used_ms: u64,
}

/// The committed offsets of all groups.
#[derive(Debug, Default)]
pub struct Offsets {
    groups: BTreeMap<Arc<str>, GroupOffsets>,
    /// The groups in which a producer has pending commits.
    producers: HashMap<i64, BTreeSet<Arc<str>>>,
    count: usize,
    metadata_bytes: usize,
    sweep: u64,
}

impl Offsets {
    /// Takes in a record of the table: `None` deletes. `record` is its offset there.
    pub fn apply(&mut self, key: OffsetKey<'_>, value: Option<CommittedOffset>, record: u64) {
        if value.is_none() && !self.groups.contains_key(key.group) {
            return;
        }
        let group = entry(&mut self.groups, key.group);
        let place = (Arc::from(key.topic), key.partition);
        let said = group.said.entry(place).or_insert(Said {
            committed: None,
            record,
            sweep: 0,
        });
        if said.record > record {
            return;
        }
        let bytes = |committed: &Option<CommittedOffset>| {
            committed.as_ref().map_or(0, |offset| offset.metadata.len())
        };
        let was = usize::from(said.committed.is_some());
        let is = usize::from(value.is_some());
        self.metadata_bytes = self.metadata_bytes - bytes(&said.committed) + bytes(&value);
        self.count = self.count - was + is;
        group.count = group.count - was + is;
        *said = Said {
            committed: value,
            record,
            sweep: self.sweep,
        };
    }

    /// Whether there is room for these commits of a group: topic, partition, bytes of metadata. One
    /// that replaces another takes its place, so that a full table still goes on.
    pub fn has_room<'a>(
        &self,
        group: &str,
        commits: impl IntoIterator<Item = (&'a str, i32, usize)>,
    ) -> bool {
        let known = self.groups.get(group);
        let (mut count, mut bytes, mut freed) = (self.count, self.metadata_bytes, 0);
        let mut topic: Arc<str> = Arc::from("");
        for (name, partition, metadata_bytes) in commits {
            if *topic != *name {
                topic = Arc::from(name);
            }
            let place = (topic.clone(), partition);
            let said = known.and_then(|group| group.said.get(&place));
            let replaced = said.and_then(|said| said.committed.as_ref());
            count += usize::from(replaced.is_none());
            bytes += metadata_bytes;
            freed += replaced.map_or(0, |committed| committed.metadata.len());
        }
        let bytes = bytes.saturating_sub(freed);
        // Who keeps no more than before is let through, also where that is above a bound.
        (count == self.count || count <= limits::OFFSETS_MAX)
            && (bytes <= self.metadata_bytes || bytes <= limits::OFFSETS_METADATA_BYTES_MAX)
    }

    /// Forgets all offsets for a topic that is not there any more; says which they were.
    pub fn forget_topic(&mut self, topic: &str) -> Vec<(Arc<str>, i32)> {
        let found = self.of_topic(topic);
        let topic: Arc<str> = topic.into();
        for (id, partition) in &found {
            let Some(group) = self.groups.get_mut(id) else {
                continue;
            };
            let gone = group.said.remove(&(topic.clone(), *partition));
            if let Some(committed) = gone.and_then(|said| said.committed) {
                self.count -= 1;
                group.count -= 1;
                self.metadata_bytes -= committed.metadata.len();
            }
            if group.said.is_empty() && group.pending.is_empty() {
                self.groups.remove(id);
            }
        }
        found
    }

    /// Whether a group has offsets, or may get some by an open transaction.
    pub fn has(&self, group: &str) -> bool {
        self.groups
            .get(group)
            .is_some_and(|group| group.count > 0 || !group.pending.is_empty())
    }

    /// What is known of a partition.
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Lookup<'_> {
        let place = (Arc::from(topic), partition);
        let group = self.groups.get(group);
        Lookup {
            committed: group
                .and_then(|group| group.said.get(&place))
                .and_then(|said| said.committed.as_ref()),
            unstable: group.is_some_and(|group| group.pending.contains_key(&place)),
        }
    }

    /// All offsets of a group, by topic and partition.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (&Place, &CommittedOffset)> {
        self.groups
            .get(group)
            .into_iter()
            .flat_map(|group| &group.said)
            .filter_map(|(place, said)| Some((place, said.committed.as_ref()?)))
    }

    /// Whether an open transaction may commit offsets of the group.
    pub fn is_pending(&self, group: &str) -> bool {
        self.groups
            .get(group)
            .is_some_and(|group| !group.pending.is_empty())
    }

    /// All groups with offsets behind `after`, by name.
    pub fn groups_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a Arc<str>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.groups
            .range::<str, _>((start, Bound::Unbounded))
            .filter(|(_, group)| group.count > 0)
            .map(|(id, _)| id)
    }

    /// The offsets of all groups for the partitions of a topic.
    pub fn of_topic(&self, topic: &str) -> Vec<(Arc<str>, i32)> {
        let from = (Arc::from(topic), i32::MIN);
        let to = (Arc::from(topic), i32::MAX);
        let mut found = Vec::new();
        for (id, group) in &self.groups {
            for ((_, partition), said) in group.said.range(from.clone()..=to.clone()) {
                if said.committed.is_some() {
                    found.push((id.clone(), *partition));
                }
            }
        }
        found
    }

    /// All topics that offsets are kept for, by name.
    pub fn topics(&self) -> BTreeSet<Arc<str>> {
        let said = self.groups.values().flat_map(|group| &group.said);
        said.filter(|(_, said)| said.committed.is_some())
            .map(|((topic, _), _)| topic.clone())
            .collect()
    }

    /// How many groups have offsets, or had some a moment ago.
    pub fn groups_count(&self) -> usize {
        self.groups.len()
    }

    /// How many offsets there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A producer's open transaction will commit these, or not (KIP-447).
    pub fn pend(&mut self, producer_id: i64, group: &str, places: &[(&str, i32)]) {
        if places.is_empty() {
            return;
        }
        let pending = &mut entry(&mut self.groups, group).pending;
        for (topic, partition) in places {
            pending
                .entry((Arc::from(*topic), *partition))
                .or_default()
                .insert(producer_id);
        }
        self.producers
            .entry(producer_id)
            .or_default()
            .insert(group.into());
    }

    /// The producer's transaction is decided: nothing of it is pending any more. What it has
    /// committed is applied by [`Offsets::apply`], before.
    pub fn settle(&mut self, producer_id: i64) {
        for id in self.producers.remove(&producer_id).unwrap_or_default() {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            group.pending.retain(|_, producers| {
                producers.remove(&producer_id);
                !producers.is_empty()
            });
            if group.said.is_empty() && group.pending.is_empty() {
                self.groups.remove(&id);
            }
        }
    }

    /// Offsets that have not been needed for `retention_ms`, at most `most` of them. `has_members`
    /// says whether a group has members now: its offsets are needed.
    pub fn expired(
        &mut self,
        now_ms: u64,
        retention_ms: u64,
        most: usize,
        mut has_members: impl FnMut(&str) -> bool,
    ) -> Vec<(Arc<str>, Place)> {
        self.forget_deletions();
        let mut found = Vec::new();
        for (id, group) in &mut self.groups {
            if has_members(id) {
                group.used_ms = now_ms;
            }
            for (place, said) in &group.said {
                let committed_ms = said.committed.as_ref().map(|offset| offset.commit_ms);
                let old = committed_ms
                    .is_some_and(|at| at.max(group.used_ms).saturating_add(retention_ms) <= now_ms);
                if old && found.len() < most && !group.pending.contains_key(place) {
                    found.push((id.clone(), place.clone()));
                }
            }
        }
        found
    }

    /// All groups may have had members until now: at a start nobody knows.
    pub fn all_used(&mut self, now_ms: u64) {
        for group in self.groups.values_mut() {
            group.used_ms = now_ms;
        }
    }

    /// The group has, or had until now, members.
    pub fn used(&mut self, group: &str, now_ms: u64) {
        if let Some(group) = self.groups.get_mut(group) {
            group.used_ms = now_ms;
        }
    }

    /// A deletion is remembered from one sweep to the next but one; no commit is on its way longer.
    fn forget_deletions(&mut self) {
        self.sweep += 1;
        let sweep = self.sweep;
        self.groups.retain(|_, group| {
            group
                .said
                .retain(|_, said| said.committed.is_some() || said.sweep + 2 > sweep);
            !(group.said.is_empty() && group.pending.is_empty())
        });
    }
}

fn entry<'a>(groups: &'a mut BTreeMap<Arc<str>, GroupOffsets>, id: &str) -> &'a mut GroupOffsets {
    if !groups.contains_key(id) {
        groups.insert(id.into(), GroupOffsets::default());
    }
    groups.get_mut(id).expect("it was just made")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key<'a>(group: &'a str, topic: &'a str, partition: i32) -> OffsetKey<'a> {
        OffsetKey {
            group,
            topic,
            partition,
        }
    }

    fn at(offset: i64, commit_ms: u64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: "four".into(),
            commit_ms,
        }
    }

    fn offset(offsets: &Offsets, partition: i32) -> Option<i64> {
        let found = offsets.get("g", "t", partition).committed;
        found.map(|committed| committed.offset)
    }

    #[test]
    fn the_newest_record_wins_in_whatever_order_they_are_told() {
        let mut offsets = Offsets::default();
        offsets.apply(key("g", "t", 0), Some(at(7, 0)), 3);
        offsets.apply(key("g", "t", 0), Some(at(5, 0)), 2);
        assert_eq!(offset(&offsets, 0), Some(7));
        offsets.apply(key("g", "t", 0), None, 9);
        offsets.apply(key("g", "t", 0), Some(at(6, 0)), 8);
        assert_eq!(offset(&offsets, 0), None, "the deletion was later");
        assert!(!offsets.has("g"));
        offsets.apply(key("g", "t", 0), Some(at(1, 0)), 10);
        assert_eq!((offset(&offsets, 0), offsets.count()), (Some(1), 1));
        assert_eq!(offsets.metadata_bytes, 4);
    }

    #[test]
    fn a_pending_commit_makes_a_partition_unstable_until_it_is_decided() {
        let mut offsets = Offsets::default();
        offsets.pend(4, "g", &[("t", 0), ("t", 1)]);
        offsets.pend(5, "g", &[("t", 1)]);
        assert!(offsets.get("g", "t", 0).unstable && offsets.get("g", "t", 1).unstable);
        assert!(offsets.is_pending("g") && offsets.has("g"));
        offsets.settle(4);
        assert!(!offsets.get("g", "t", 0).unstable && offsets.get("g", "t", 1).unstable);
        offsets.apply(key("g", "t", 1), Some(at(3, 0)), 0);
        offsets.settle(5);
        assert!(!offsets.get("g", "t", 1).unstable);
        assert_eq!(offset(&offsets, 1), Some(3));
    }

    #[test]
    fn offsets_expire_when_neither_committed_nor_used_for_long() {
        let mut offsets = Offsets::default();
        offsets.apply(key("g", "t", 0), Some(at(1, 100)), 0);
        offsets.apply(key("g", "t", 1), Some(at(1, 900)), 1);
        offsets.apply(key("h", "t", 0), Some(at(1, 100)), 2);
        let expired = |offsets: &mut Offsets, now_ms| {
            let found = offsets.expired(now_ms, 1_000, 10, |group| group == "h");
            let names = found.iter().map(|(id, (_, partition))| (&**id, *partition));
            names
                .map(|(id, partition)| format!("{id}{partition}"))
                .collect::<Vec<_>>()
        };
        assert!(expired(&mut offsets, 1_099).is_empty());
        assert_eq!(expired(&mut offsets, 1_100), ["g0"]);
        assert_eq!(expired(&mut offsets, 1_900), ["g0", "g1"]);
        assert_eq!(offsets.expired(1_900, 1_000, 1, |_| false).len(), 1);
        offsets.all_used(1_900);
        assert!(expired(&mut offsets, 2_000).is_empty());
    }

    #[test]
    fn a_full_table_takes_what_replaces_something() {
        let mut offsets = Offsets::default();
        offsets.apply(key("g", "t", 0), Some(at(1, 0)), 0);
        offsets.apply(key("g", "u", 0), Some(at(1, 0)), 1);
        assert!(offsets.has_room("g", [("t", 0, 4), ("u", 1, 9)]));
        offsets.count = limits::OFFSETS_MAX;
        assert!(offsets.has_room("g", [("t", 0, 4), ("u", 0, 9)]));
        assert!(!offsets.has_room("g", [("t", 0, 4), ("t", 1, 4)]));
        assert!(!offsets.has_room("h", [("t", 0, 4)]));
        offsets.count = 2;
        offsets.metadata_bytes = limits::OFFSETS_METADATA_BYTES_MAX;
        assert!(offsets.has_room("g", [("t", 0, 4), ("u", 0, 4)]));
        assert!(!offsets.has_room("g", [("t", 0, 4), ("u", 0, 5)]));
        assert!(!offsets.has_room("g", [("t", 1, 1)]));
        assert!(offsets.has_room("g", [("t", 0, 0), ("t", 1, 4)]));
    }

    #[test]
    fn deletions_are_forgotten_after_a_while() {
        let mut offsets = Offsets::default();
        offsets.apply(key("g", "t", 0), Some(at(1, 0)), 0);
        offsets.apply(key("g", "t", 0), None, 1);
        offsets.expired(0, 1, 10, |_| false);
        assert_eq!(offsets.groups.len(), 1);
        offsets.expired(0, 1, 10, |_| false);
        assert!(offsets.groups.is_empty());
    }

    #[test]
    fn offsets_are_found_by_topic_and_by_group() {
        let mut offsets = Offsets::default();
        for (record, group) in ["a", "b"].into_iter().enumerate() {
            offsets.apply(key(group, "t", 0), Some(at(1, 0)), record as u64);
            offsets.apply(key(group, "tt", 0), Some(at(1, 0)), record as u64);
        }
        let found = offsets.of_topic("t");
        assert_eq!(found, [("a".into(), 0), ("b".into(), 0)]);
        offsets.apply(key("c", "ttt", 0), Some(at(1, 0)), 9);
        assert_eq!(offsets.forget_topic("ttt"), [("c".into(), 0)]);
        assert!(!offsets.has("c") && offsets.groups_count() == 2);
        assert_eq!((offsets.count(), offsets.metadata_bytes), (4, 16));
        assert_eq!(offsets.of_group("a").count(), 2);
        let behind: Vec<_> = offsets.groups_after(Some("a")).map(|id| &**id).collect();
        assert_eq!(behind, ["b"]);
    }
}
