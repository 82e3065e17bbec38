//! The mirror as tables: how it stands, and how far it is by stream or partition.

use std::fmt::Write as _;

use crate::config::units::show_millis;
use crate::mirror::view::MirrorView;

use super::super::table::{rounded, table};

/// State first, then a row for each stream, or for each partition.
pub(super) fn shown(view: &MirrorView, partitions: bool) -> String {
    if view.state == "off" {
        return "nothing is mirrored: there is no table [mirror]\n".to_owned();
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<14} {}",
        "state",
        with_why(&view.state, view.why.as_ref())
    );
    let _ = writeln!(out, "{:<14} {}", "brokers", view.brokers);
    let promise = if view.exactly_once {
        "exactly once"
    } else {
        "at least once"
    };
    let _ = writeln!(out, "{:<14} {} ({promise})", "identity", view.identity);
    let _ = writeln!(
        out,
        "{:<14} {} committed, {} aborted",
        "transactions", view.transactions, view.aborted
    );
    if view.given_up > 0 {
        let _ = writeln!(
            out,
            "{:<14} {} given up and begun anew, {} have not come back",
            "clients", view.given_up, view.away
        );
    }
    for error in &view.errors {
        let _ = writeln!(
            out,
            "{:<14} {} ({} times)",
            "error", error.kind, error.count
        );
    }
    for shard in view.shards.iter().filter(|shard| shard.state != view.state) {
        let state = with_why(&shard.state, shard.why.as_ref());
        let _ = writeln!(out, "{:<14} {state}", format!("shard {}", shard.shard));
    }
    out.push('\n');
    out.push_str(&if partitions {
        partition_table(view)
    } else {
        stream_table(view)
    });
    out
}

fn with_why(state: &str, why: Option<&String>) -> String {
    why.map_or_else(|| state.to_owned(), |why| format!("{state}: {why}"))
}

fn stream_table(view: &MirrorView) -> String {
    let rows = view.streams.iter().map(|stream| {
        vec![
            stream.stream.clone(),
            stream.topic.clone(),
            with_why(&stream.state, stream.why.as_ref()),
            stream.records.to_string(),
            rounded(stream.bytes),
            stream.dead_letters.to_string(),
            stream.lost.to_string(),
            stream.lag_records.to_string(),
            show_millis(stream.lag_ms),
        ]
    });
    table(
        &[
            "STREAM", "TOPIC", "STATE", "RECORDS", "BYTES", "DEAD", "LOST", "LAG", "LAG TIME",
        ],
        &[3, 4, 5, 6, 7, 8],
        rows,
    )
}

fn partition_table(view: &MirrorView) -> String {
    let rows = view.streams.iter().flat_map(|stream| {
        stream.partitions.iter().map(|row| {
            let mirrored = row.mirrored.map_or("-".to_owned(), |next| next.to_string());
            vec![
                stream.stream.clone(),
                row.partition.to_string(),
                mirrored,
                row.flushed.to_string(),
                row.lag_records.to_string(),
                show_millis(row.lag_ms),
            ]
        })
    });
    table(
        &[
            "STREAM",
            "PARTITION",
            "MIRRORED",
            "FLUSHED",
            "LAG",
            "LAG TIME",
        ],
        &[1, 2, 3, 4, 5],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::view::{MirrorPartitionRow, MirrorStreamRow};

    #[test]
    fn the_mirror_is_shown_with_its_state_and_lag() {
        let mut view = MirrorView {
            state: "off".to_owned(),
            ..MirrorView::default()
        };
        assert!(shown(&view, false).starts_with("nothing is mirrored"));
        view.state = "waiting".to_owned();
        view.why = Some("nothing listens at k:9092".to_owned());
        view.streams = vec![MirrorStreamRow {
            stream: "message_state".to_owned(),
            topic: "locks".to_owned(),
            state: "connected".to_owned(),
            lag_records: 7,
            lag_ms: 90_000,
            partitions: vec![MirrorPartitionRow {
                partition: 2,
                mirrored: Some(11),
                flushed: 18,
                lag_records: 7,
                lag_ms: 90_000,
            }],
            ..MirrorStreamRow::default()
        }];
        let text = shown(&view, false);
        assert!(
            text.contains("state          waiting: nothing listens at k:9092"),
            "{text}"
        );
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("message_state") && last.contains(" 7 "),
            "{text}"
        );
        view.state = "paused".to_owned();
        view.why = Some("switched off by an operator".to_owned());
        let text = shown(&view, false);
        assert!(
            text.contains("state          paused: switched off by an operator"),
            "{text}"
        );
        let text = shown(&view, true);
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last[..5], ["message_state", "2", "11", "18", "7"], "{text}");
    }
}
