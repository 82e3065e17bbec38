//! Downlinks as tables: one row a downlink or a partition.

use super::super::table::{dash, table};
use crate::downlink::DownlinkRow;

/// One row a downlink, with what became of its records since the start.
pub(super) fn table_of(downlinks: &[DownlinkRow]) -> String {
    let rows = downlinks.iter().map(|row| {
        vec![
            row.name.clone(),
            format!("{} {}", row.kind, row.source),
            row.topic.clone(),
            row.state.clone(),
            row.published.to_string(),
            row.refused.to_string(),
            row.expired.to_string(),
            row.lost.to_string(),
            row.lag_records.to_string(),
            dash(row.why.as_deref().unwrap_or_default()),
        ]
    });
    let heads = [
        "DOWNLINK",
        "SOURCE",
        "TOPIC",
        "STATE",
        "PUBLISHED",
        "REFUSED",
        "EXPIRED",
        "LOST",
        "LAG",
        "WHY",
    ];
    table(&heads, &[4, 5, 6, 7, 8], rows)
}

/// One row a partition of a source.
pub(super) fn partition_table(downlinks: &[DownlinkRow]) -> String {
    let rows = downlinks.iter().flat_map(|row| {
        row.partitions.iter().map(|partition| {
            vec![
                row.name.clone(),
                row.source.clone(),
                partition.partition.to_string(),
                partition.position.to_string(),
                partition.end.to_string(),
                partition.lag_records.to_string(),
            ]
        })
    });
    let heads = ["DOWNLINK", "SOURCE", "PARTITION", "POSITION", "END", "LAG"];
    table(&heads, &[2, 3, 4, 5], rows)
}
