//! Groups as they are shown to people and to Prometheus: state, members, and how far behind the end
//! of each partition they are.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::kafka::group::{GroupState, GroupView};

use super::listing::Row;
use super::{Groups, Inside};
use crate::http::list::Page;
use crate::http::view::{GroupMemberRow, GroupOffsetRow, GroupRow};
use crate::kafka::limits;

/// What is counted of groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupValues {
    /// Groups by state: its name and how many.
    pub states: Vec<(&'static str, u64)>,
    /// Members of all groups.
    pub members: u64,
    /// Rebalances begun.
    pub rebalances: u64,
    /// Members that were silent for too long.
    pub members_lost: u64,
    /// Committed offsets that are kept.
    pub offsets: u64,
    /// Offsets ever committed.
    pub commits: u64,
    /// Offsets dropped because their group was empty for too long.
    pub expired: u64,
    /// Group, topic, partition and the records behind the committed offset, of the first groups.
    pub lags: Vec<([String; 3], u64)>,
    /// Sum of the committed offsets of the first groups: how fast it rises is how fast they read.
    pub read: u64,
}

impl Groups {
    /// A page of at most `limit` groups behind `after` whose id contains `contains`. It ends early,
    /// behind a whole group, when it has many members and partitions.
    pub fn page(
        &self,
        contains: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Page<GroupRow> {
        let mut page = Page::<GroupRow>::default();
        let mut rows = 0;
        let inside = self.lock();
        for row in inside.rows(after) {
            if contains.is_some_and(|text| !row.id.contains(text)) {
                continue;
            }
            if page.items.len() >= limit || rows >= limits::GROUP_PAGE_ROWS_MAX {
                page.next = page.items.last().map(|last| last.group.clone());
                break;
            }
            let row = self.row(&inside, &row);
            rows += row.members.len() + row.offsets.len();
            page.items.push(row);
        }
        page
    }

    fn row(&self, inside: &Inside, row: &Row) -> GroupRow {
        let view = inside.machine.get(&row.id);
        let members = view.into_iter().flat_map(GroupView::members);
        let offsets = inside.offsets.of_group(&row.id);
        GroupRow {
            group: row.id.to_string(),
            state: row.state.name().to_owned(),
            protocol_type: row.protocol_type.clone(),
            protocol: view.map_or_else(String::new, |view| view.protocol().to_owned()),
            generation: view.map_or(0, |view| view.generation()),
            members: members
                .map(|member| GroupMemberRow {
                    member_id: member.id.to_string(),
                    instance_id: member.instance_id.map(|id| id.to_string()),
                    client_id: member.client_id.to_string(),
                    host: member.client_host.trim_start_matches('/').to_owned(),
                })
                .collect(),
            offsets: offsets
                .map(|((topic, partition), committed)| {
                    let end = self.end(topic, *partition);
                    GroupOffsetRow {
                        stream: topic.to_string(),
                        partition: *partition,
                        committed: committed.offset,
                        end,
                        lag: end.map(|end| end.saturating_sub_signed(committed.offset)),
                        committed_ms: committed.commit_ms,
                        metadata: committed.metadata.clone(),
                    }
                })
                .collect(),
        }
    }

    /// The end of a partition, as a consumer sees it.
    fn end(&self, topic: &Arc<str>, partition: i32) -> Option<u64> {
        let stream = self.source.stream(topic)?;
        let partition = stream.partition(partition).ok()?;
        Some(self.source.watermarks(partition)?.visible)
    }

    /// The figures as they are now.
    pub fn values(&self) -> GroupValues {
        let inside = self.lock();
        let rows = inside.rows(None);
        let states = GroupState::ALL
            .iter()
            .filter(|state| **state != GroupState::Dead);
        let states = states.map(|state| {
            let count = rows.iter().filter(|row| row.state == *state).count();
            (state.name(), count as u64)
        });
        let counts = inside.machine.counts();
        let members = inside.machine.iter_after(None);
        let members: usize = members.map(|view| view.members_count()).sum();
        GroupValues {
            states: states.collect(),
            members: members as u64,
            rebalances: counts.rebalances,
            members_lost: counts.members_lost,
            offsets: inside.offsets.count() as u64,
            commits: self.commits.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
            lags: self.lags(&inside, &rows),
            read: read(&inside, &rows),
        }
    }

    fn lags(&self, inside: &Inside, rows: &[Row]) -> Vec<([String; 3], u64)> {
        let offsets = rows.iter().flat_map(|row| {
            let offsets = inside.offsets.of_group(&row.id);
            offsets.map(move |(place, committed)| (&row.id, place, committed))
        });
        offsets
            .filter_map(|(group, (topic, partition), committed)| {
                let end = self.end(topic, *partition)?;
                let labels = [group.to_string(), topic.to_string(), partition.to_string()];
                Some((labels, end.saturating_sub_signed(committed.offset)))
            })
            .take(limits::LAG_METRICS_MAX)
            .collect()
    }
}

fn read(inside: &Inside, rows: &[Row]) -> u64 {
    let committed = rows
        .iter()
        .flat_map(|row| inside.offsets.of_group(&row.id))
        .map(|(_, committed)| u64::try_from(committed.offset).unwrap_or(0));
    committed.take(limits::LAG_METRICS_MAX).sum()
}
