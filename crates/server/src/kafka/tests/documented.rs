//! docs/kafka-clients.md lists the APIs and versions that are served, as they are.

use std::fmt::Write as _;
use std::path::Path;

use kafka::api::Api;

/// Run with `SLUICE_WRITE_DOCS=1` to write the table anew.
#[test]
fn the_document_lists_every_api_and_version() {
    const BEGIN: &str = "<!-- apis: written from crates/kafka/src/api -->\n";
    const END: &str = "<!-- end of apis -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kafka-clients.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    let mut expected = String::from("\n| key | API | versions |\n|---|---|---|\n");
    for api in Api::ALL {
        let versions = api.versions();
        let (first, last) = (versions.start(), versions.end());
        let shown = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        writeln!(expected, "| {} | {} | {shown} |", api.key(), api.name()).unwrap();
    }
    expected.push('\n');
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(
        table == expected,
        "docs/kafka-clients.md differs; it should have:\n{expected}"
    );
}
