//! Consumer groups as tables: one row a group, a member or a partition.

use super::super::table::{dash, table};
use crate::http::view::GroupRow;

/// One row a group, with the records that it has not read.
pub(super) fn group_table(groups: &[GroupRow]) -> String {
    let rows = groups.iter().map(|group| {
        let lag: u64 = group.offsets.iter().filter_map(|offset| offset.lag).sum();
        vec![
            group.group.clone(),
            group.state.clone(),
            dash(&group.protocol_type),
            dash(&group.protocol),
            group.members.len().to_string(),
            group.offsets.len().to_string(),
            lag.to_string(),
        ]
    });
    let heads = [
        "GROUP",
        "STATE",
        "TYPE",
        "PROTOCOL",
        "MEMBERS",
        "PARTITIONS",
        "LAG",
    ];
    table(&heads, &[4, 5, 6], rows)
}

/// One row a partition that a group has committed an offset for.
pub(super) fn partition_table(groups: &[GroupRow]) -> String {
    let rows = groups.iter().flat_map(|group| {
        group.offsets.iter().map(|offset| {
            let known = |figure: Option<u64>| figure.map_or("-".to_owned(), |n| n.to_string());
            vec![
                group.group.clone(),
                group.state.clone(),
                offset.stream.clone(),
                offset.partition.to_string(),
                offset.committed.to_string(),
                known(offset.end),
                known(offset.lag),
            ]
        })
    });
    let heads = [
        "GROUP",
        "STATE",
        "STREAM",
        "PARTITION",
        "COMMITTED",
        "END",
        "LAG",
    ];
    table(&heads, &[3, 4, 5, 6], rows)
}

/// One row a member.
pub(super) fn member_table(groups: &[GroupRow]) -> String {
    let rows = groups.iter().flat_map(|group| {
        group.members.iter().map(|member| {
            vec![
                group.group.clone(),
                group.state.clone(),
                member.client_id.clone(),
                member.host.clone(),
                dash(member.instance_id.as_deref().unwrap_or("")),
                member.member_id.clone(),
            ]
        })
    });
    let heads = ["GROUP", "STATE", "CLIENT", "HOST", "INSTANCE", "MEMBER"];
    table(&heads, &[], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::view::{GroupMemberRow, GroupOffsetRow};

    fn group() -> GroupRow {
        let offset = |partition, committed, end| GroupOffsetRow {
            stream: "t".into(),
            partition,
            committed,
            end,
            lag: end.map(|end: u64| end.saturating_sub_signed(committed)),
            ..Default::default()
        };
        GroupRow {
            group: "g".into(),
            state: "Stable".into(),
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            generation: 1,
            members: vec![GroupMemberRow {
                member_id: "c-1".into(),
                instance_id: None,
                client_id: "c".into(),
                host: "127.0.0.1".into(),
            }],
            offsets: vec![offset(0, 5, Some(12)), offset(1, 5, None)],
        }
    }

    #[test]
    fn tables_tell_state_members_and_lag() {
        let groups = [group(), GroupRow::default()];
        let lines = group_table(&groups);
        let first = lines.lines().nth(1).unwrap();
        let words: Vec<&str> = first.split_whitespace().collect();
        assert_eq!(words, ["g", "Stable", "consumer", "range", "1", "2", "7"]);
        let partitions = partition_table(&groups);
        let words: Vec<Vec<&str>> = partitions
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[1], ["g", "Stable", "t", "0", "5", "12", "7"]);
        assert_eq!(words[2], ["g", "Stable", "t", "1", "5", "-", "-"]);
        let members = member_table(&groups);
        let words: Vec<&str> = members.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["g", "Stable", "c", "127.0.0.1", "-", "c-1"]);
    }
}
