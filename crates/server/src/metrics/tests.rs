//! The exposition of a snapshot, and the agreement of the table of metrics with docs/metrics.md.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::http::view::PartitionRow;
use crate::kafka::ApiValues;
use crate::node::counters::FlushTimesValues;

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.status.version = "0.1.0".to_owned();
    snapshot.status.health = "serving".to_owned();
    snapshot.counters.log.flushes = 6;
    snapshot.counters.flush_times = FlushTimesValues {
        buckets: [vec![1, 2], vec![0; 14], vec![3]].concat(),
        sum_us: 4_500_000,
    };
    snapshot.shards.received = [1, 20, 300];
    snapshot.shards.dropped[1] = 7;
    snapshot.kafka.apis = vec![ApiValues {
        api: "Fetch",
        requests: 9,
        errors: 1,
        ..ApiValues::default()
    }];
    let partition = PartitionRow {
        log_start: 2,
        end: 10,
        flushed: 8,
        size_bytes: 100,
    };
    snapshot.streams = vec![StreamRow {
        name: "message_state".to_owned(),
        records: 8,
        partitions: vec![partition],
        ..StreamRow::default()
    }];
    snapshot.mirror.state = "waiting".to_owned();
    snapshot.mirror.streams = vec![MirrorStreamRow {
        stream: "message_state".to_owned(),
        records: 5,
        partitions: vec![MirrorPartitionRow {
            partition: 3,
            lag_records: 4,
            ..MirrorPartitionRow::default()
        }],
        ..MirrorStreamRow::default()
    }];
    snapshot
}

#[test]
fn figures_are_exposed_under_their_names() {
    let text = exposition(snapshot());
    for line in [
        "# TYPE sluice_mqtt_messages_received counter",
        "sluice_mqtt_messages_received_total{qos=\"1\"} 20",
        "sluice_mqtt_messages_dropped_total{reason=\"queue_full\"} 7",
        "sluice_log_flush_seconds_sum 4.5",
        "sluice_log_flush_seconds_count 6",
        "sluice_log_flush_seconds_bucket{le=\"0.0001\"} 1",
        "sluice_log_flush_seconds_bucket{le=\"0.0002\"} 3",
        "sluice_log_flush_seconds_bucket{le=\"1.0\"} 3",
        "sluice_log_flush_seconds_bucket{le=\"+Inf\"} 6",
        "sluice_stream_unflushed_records{stream=\"message_state\"} 2",
        "sluice_stream_appended_records_total{stream=\"message_state\"} 10",
        "sluice_kafka_errors_total{api=\"Fetch\"} 1",
        "sluice_mirror_state{state=\"waiting\"} 1",
        "sluice_mirror_state{state=\"off\"} 0",
        "sluice_mirror_state{state=\"paused\"} 0",
        "sluice_mirror_records_total{stream=\"message_state\"} 5",
        "sluice_mirror_lag_records{stream=\"message_state\",partition=\"3\"} 4",
        "sluice_serving 1",
        "sluice_build{version=\"0.1.0\"} 1",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    // Free space that is not known is no figure.
    assert!(!text.contains("\nsluice_disk_free_bytes "));
}

#[test]
fn every_metric_has_help_and_a_name_of_its_own() {
    let text = exposition(snapshot());
    let mut names = BTreeSet::new();
    for metric in METRICS {
        assert!(names.insert(metric.name), "{} stands twice", metric.name);
        assert!(metric.name.starts_with("sluice_") && !metric.name.ends_with("_total"));
        assert!(
            text.contains(&format!("# HELP {} ", metric.name)),
            "{}",
            metric.name
        );
    }
}

fn document_table() -> String {
    let mut text = "\n| metric | kind | label | meaning |\n|---|---|---|---|\n".to_owned();
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let label = metric
            .label()
            .map_or("-".to_owned(), |label| format!("`{label}`"));
        text += &[
            "| `",
            &metric.full_name(),
            "` | ",
            kind,
            " | ",
            &label,
            " | ",
            metric.help,
            " |\n",
        ]
        .concat();
    }
    text + "\n"
}

/// Run with `SLUICE_WRITE_DOCS=1` to write the table anew.
#[test]
fn the_document_lists_every_metric() {
    const BEGIN: &str = "<!-- metrics: written from crates/server/src/metrics.rs -->\n";
    const END: &str = "<!-- end of metrics -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document
        .split_once(BEGIN)
        .expect("the document has the mark of its table");
    let (table, after) = rest
        .split_once(END)
        .expect("the document has the mark behind its table");
    let expected = document_table();
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(
        table == expected,
        "docs/metrics.md differs; it should have:\n{expected}"
    );
}
