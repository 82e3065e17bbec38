//! Reading a configuration, and the agreement of keys, serde types, default file and document.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde::de::value::MapDeserializer;

use super::keys::{Key, TABLES};
use super::*;

fn faults(text: &str) -> Vec<String> {
    read("sluice.toml", text)
        .1
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_known_key() {
    assert_eq!(
        faults(
            "[mqtt]\ninbox_max = 5\n\n[[hook]]\nevent = \"message.publish\"\npyload = \"plain\"\n"
        ),
        ["sluice.toml:6: unknown key `pyload` in [[hook]]; did you mean `payload`?"]
    );
    assert_eq!(
        faults("[mqqt]\n"),
        ["sluice.toml:1: unknown key `mqqt` at the top of the file; did you mean `mqtt`?"]
    );
    assert_eq!(
        faults("[mqtt]\ndata_dir = \"x\""),
        ["sluice.toml:2: unknown key `data_dir` in [mqtt]; it belongs in [node]"]
    );
    assert_eq!(
        faults("[[stream]]\nname = \"a\"\nretention.sise = 5"),
        ["sluice.toml:3: unknown key `sise` in retention of [[stream]]; did you mean `size`?"]
    );
}

#[test]
fn every_fault_is_found_in_one_pass() {
    let text = "[node]\nname = 5\nworkers = \"two\"\n[mqtt]\ninbox_maxx = 1\n\
                connect_timeout_ms = \"soon\"\n[[listener]]\nkind = \"mqtt\"\nanonymous = \"yes\"\n\
                bind = \"127.0.0.1:1\"\n";
    let (said, faults) = read("f", text);
    let mut lines: Vec<_> = faults.iter().map(|fault| fault.line.unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, [2, 3, 5, 6, 9], "{faults:#?}");
    // What is sound is there nevertheless.
    assert_eq!(
        said.file.listener.unwrap()[0].bind.as_deref(),
        Some("127.0.0.1:1")
    );
}

#[test]
fn brackets_are_explained() {
    assert_eq!(
        faults("[hook]\nevent = \"x\""),
        [
            "sluice.toml:1: hook is a list: begin each entry with [[hook]], two brackets on both sides"
        ]
    );
    assert_eq!(
        faults("mqtt = 1883"),
        ["sluice.toml:1: mqtt is a table: write [mqtt]"]
    );
}

#[test]
fn text_that_is_not_toml_names_its_line() {
    let told = faults("[node]\nname = \"a\nworkers = 2\n");
    assert!(
        told[0].starts_with("sluice.toml:2: this is not TOML: "),
        "{told:?}"
    );
}

#[test]
fn lines_are_kept_for_faults_of_meaning() {
    let (said, faults) = read("f", "[[hook]]\nevent = \"a\"\n\n[[hook]]\nstream = \"b\"\n");
    assert!(faults.is_empty());
    assert_eq!(said.lines["hook[1].stream"], 5);
    assert_eq!(said.lines["hook[1]"], 4);
}

#[test]
fn edit_distance_counts_letters() {
    assert_eq!(edit_distance("", "abc"), 3);
    assert_eq!(edit_distance("kitten", "sitting"), 3);
    assert_eq!(edit_distance("pyaload", "payload"), 1);
    assert_eq!(nearest("frobnicate", ["name", "bind"].into_iter()), None);
}

/// The names that serde itself lists when it meets a key it does not know.
fn serde_names<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
    let pairs = [("no_such_key", 0_i64)].into_iter();
    let map: MapDeserializer<'_, _, serde::de::value::Error> = MapDeserializer::new(pairs);
    let Err(error) = T::deserialize(map) else {
        panic!("the unknown key was accepted")
    };
    let message = error.to_string();
    message
        .split('`')
        .skip(3)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_table_of_keys_says_what_serde_accepts() {
    let accepted: [(&str, BTreeSet<String>); 21] = [
        ("", serde_names::<File>()),
        ("node", serde_names::<NodeTable>()),
        ("log", serde_names::<LogTable>()),
        ("mqtt", serde_names::<MqttTable>()),
        ("kafka", serde_names::<KafkaTable>()),
        ("kafka.permission", serde_names::<PermissionTable>()),
        ("kafka.quota", serde_names::<QuotaTable>()),
        ("mirror", serde_names::<MirrorTable>()),
        ("mirror.stream", serde_names::<MirrorStreamTable>()),
        ("authenticator", serde_names::<AuthenticatorTable>()),
        ("authorization", serde_names::<AuthorizationTable>()),
        ("authorization.rule", serde_names::<RuleTable>()),
        ("flapping", serde_names::<FlappingTable>()),
        ("overload", serde_names::<OverloadTable>()),
        ("http", serde_names::<HttpTable>()),
        ("logging", serde_names::<LoggingTable>()),
        ("listener", serde_names::<ListenerTable>()),
        ("stream", serde_names::<StreamTable>()),
        ("stream.retention", serde_names::<RetentionTable>()),
        ("hook", serde_names::<HookTable>()),
        ("downlink", serde_names::<DownlinkTable>()),
    ];
    assert_eq!(
        accepted.len() + keys::OPEN.len(),
        TABLES.len(),
        "the open tables have free keys, the rest is listed"
    );
    for (table, serde) in accepted {
        let ours: BTreeSet<String> = keys::names_in(table).map(str::to_owned).collect();
        assert_eq!(ours, serde, "[{table}]");
    }
}

#[test]
fn the_default_file_says_every_default() {
    let table: toml::Table = DEFAULT_TEXT.parse().unwrap();
    for key in KEYS
        .iter()
        .filter(|key| table.get(key.table).is_some_and(toml::Value::is_table))
    {
        let said = table[key.table].as_table().unwrap().get(key.name);
        let expected = (!key.default.is_empty()).then(|| {
            let line = format!("x = {}", key.default);
            line.parse::<toml::Table>().unwrap()["x"].clone()
        });
        assert_eq!(said, expected.as_ref(), "{}.{}", key.table, key.name);
    }
    // Keys without a default are shown as a comment.
    for key in KEYS.iter().filter(|key| key.default.is_empty()) {
        assert!(
            DEFAULT_TEXT.contains(&format!("{} = ", key.name)),
            "{} is not shown",
            key.name
        );
    }
    // Every event has its hook, active or commented, with a line of explanation above.
    let lines: Vec<&str> = DEFAULT_TEXT.lines().collect();
    for event in crate::settings::HookEvent::ALL
        .into_iter()
        .map(crate::settings::HookEvent::as_str)
    {
        let wanted = format!("event = \"{event}\"");
        let at = lines
            .iter()
            .position(|line| line.ends_with(&wanted))
            .expect(event);
        assert!(lines[at - 2].starts_with("# "), "{event} is not explained");
    }
}

fn row(key: &Key) -> String {
    let escape = |text: &str| text.replace('|', "\\|");
    let default = match key.default {
        "" if key.meaning.contains("Required.") => "required".to_owned(),
        "" => "-".to_owned(),
        default => format!("`{default}`"),
    };
    let unit = if key.unit.is_empty() { "-" } else { key.unit };
    format!(
        "| `{}` | {} | {unit} | {default} | {} |",
        key.name,
        escape(key.kind),
        escape(key.meaning)
    )
}

/// The tables of docs/configuration.md, as they must stand there.
fn document_tables() -> String {
    let mut text = String::new();
    for table in TABLES {
        let rows: Vec<String> = KEYS
            .iter()
            .filter(|key| key.table == *table)
            .map(row)
            .collect();
        if !rows.is_empty() {
            let _ = write!(text, "### {}\n\n", keys::written(table));
            text.push_str("| key | type | unit of a plain number | default | meaning |\n|---|---|---|---|---|\n");
            text.push_str(&rows.join("\n"));
            text.push_str("\n\n");
        }
    }
    text
}

/// Run with `SLUICE_WRITE_DOCS=1` to write the tables anew.
#[test]
fn the_document_lists_every_key() {
    const BEGIN: &str = "<!-- keys: written from crates/server/src/config/keys.rs -->\n";
    const END: &str = "<!-- end of keys -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document
        .split_once(BEGIN)
        .expect("the document has the mark of its tables");
    let (tables, after) = rest
        .split_once(END)
        .expect("the document has the mark behind its tables");
    let expected = format!("\n{}", document_tables());
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(
        tables == expected,
        "docs/configuration.md differs; it should have:\n{expected}"
    );
}
