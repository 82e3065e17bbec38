//! The transcript files themselves: each one is parsed, every packet in it can be written, and what
//! is sent raw is what the file's expectations say of it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sim::transcript::{Action, Transcript, Want};

fn files() -> BTreeMap<String, String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read_to_string(path).unwrap());
        }
    }
    files
}

fn parsed() -> BTreeMap<String, Transcript> {
    let parse = |(name, text): (String, String)| {
        let transcript = Transcript::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, transcript)
    };
    files().into_iter().map(parse).collect()
}

#[test]
fn there_are_at_least_150_and_all_are_parsed() {
    assert!(parsed().len() >= 150);
}

/// So that every one can be run against the program.
#[test]
fn none_waits_longer_than_a_test_may() {
    for (name, transcript) in parsed() {
        let ms = transcript.waits_ms();
        assert!(ms <= 20_000, "{name} waits {ms} ms: shorten it, or `or`");
    }
}

#[test]
fn every_packet_that_is_sent_can_be_written() {
    for (name, transcript) in parsed() {
        let mut variables = BTreeMap::new();
        for step in &transcript.steps {
            match &step.action {
                Action::Send(_, packet) => {
                    let written = packet.encode(mqtt::Version::V5, &variables);
                    assert!(written.is_ok(), "{name} line {}: {written:?}", step.line);
                }
                Action::Receive(_, packet)
                | Action::ReceiveAmong(_, packet)
                | Action::ReceiveOne(_, packet) => {
                    for field in &packet.fields {
                        if let Want::Variable(variable) = &field.want {
                            variables.insert(variable.clone(), b"1".to_vec());
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Where raw bytes are followed by a closed connection, the decoder refuses them, or they are what a
/// client says goodbye with.
#[test]
fn raw_bytes_that_close_a_connection_are_refused() {
    let mut checked = 0;
    for (name, transcript) in parsed() {
        let size = transcript
            .settings
            .iter()
            .find(|(key, _)| key == "packet_size_max");
        let size_max = size.map_or(1 << 20, |(_, value)| value.parse().unwrap());
        let mut versions: BTreeMap<&str, mqtt::Version> = BTreeMap::new();
        let mut connected = BTreeSet::new();
        for pair in transcript.steps.windows(2) {
            match &pair[0].action {
                Action::Send(client, packet) if packet.version.is_some() => {
                    versions.insert(client, packet.version.unwrap());
                    connected.insert(client.as_str());
                }
                Action::Speaks(client, version) => {
                    versions.insert(client, *version);
                }
                _ => {}
            }
            let (Action::Raw(sender, bytes), Action::Closed(receiver)) =
                (&pair[0].action, &pair[1].action)
            else {
                continue;
            };
            if sender != receiver {
                continue;
            }
            let version = versions
                .get(sender.as_str())
                .copied()
                .unwrap_or(mqtt::Version::V5);
            let refused = if connected.contains(sender.as_str()) {
                match mqtt::decode(bytes, version, size_max) {
                    Ok(Some((mqtt::Packet::Disconnect(_), _))) => true,
                    Ok(Some((packet, _))) => packet.check_from_client().is_err(),
                    other => other.is_err(),
                }
            } else {
                mqtt::decode_connect(bytes, size_max).is_err()
            };
            assert!(refused, "{name} line {}", pair[0].line);
            checked += 1;
        }
    }
    assert!(checked >= 40, "only {checked}");
}

/// Where raw bytes are followed by the reason that they are refused for, the decoder agrees, unless
/// the packet is well formed and only wrong at this moment.
#[test]
fn raw_bytes_are_refused_for_the_reason_that_is_expected() {
    let mut checked = 0;
    for (name, transcript) in parsed() {
        for pair in transcript.steps.windows(2) {
            let (Action::Raw(sender, bytes), Action::Receive(receiver, answer)) =
                (&pair[0].action, &pair[1].action)
            else {
                continue;
            };
            let reason = answer.fields.iter().find(|field| field.key == "reason");
            let Some(Want::Is(reason)) = reason.map(|field| &field.want) else {
                continue;
            };
            if sender != receiver || reason == b"success" || reason == b"packet_too_large" {
                continue;
            }
            let refused = if bytes[0] >> 4 == 1 {
                mqtt::decode_connect(bytes, 1 << 20).map(|_| ())
            } else {
                match mqtt::decode(bytes, mqtt::Version::V5, 1 << 20) {
                    Ok(Some((packet, _))) => packet.check_from_client(),
                    other => other.map(|_| ()),
                }
            };
            let error = refused.expect_err(&name);
            assert_eq!(
                error.reason.name().as_bytes(),
                reason,
                "{name} line {}",
                pair[0].line
            );
            checked += 1;
        }
    }
    assert!(checked >= 40, "only {checked}");
}

/// Each number of `docs/conformance.md` that a transcript names, and each file that it names.
#[test]
fn the_conformance_document_and_the_files_name_one_another() {
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let document = std::fs::read_to_string(document).unwrap();
    let mut section = "";
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in document.lines() {
        if line.starts_with("## ") {
            section = if line.contains("3.1.1") {
                "MQTT3-"
            } else {
                "MQTT-"
            };
        }
        let Some(row) = line.strip_prefix("| ") else {
            continue;
        };
        let mut cells = row.split(" | ");
        let number = cells.next().unwrap();
        let Some(number) = number.strip_prefix("MQTT-") else {
            continue;
        };
        let tests = cells.nth(1).unwrap_or_default();
        let tests = tests
            .split(&['`', ' ', ','][..])
            .filter(|word| !word.is_empty());
        let is_transcript =
            |word: &&str| ["v5-", "v3-", "v31-"].iter().any(|v| word.starts_with(v));
        let tests = tests.filter(is_transcript).map(str::to_owned).collect();
        listed.insert(format!("{section}{number}"), tests);
    }
    let transcripts = parsed();
    for (name, transcript) in &transcripts {
        for statement in &transcript.statements {
            let tests = listed.get(statement);
            assert!(
                tests.is_some(),
                "{name} names {statement}, which the document lacks"
            );
            assert!(
                tests.unwrap().contains(name),
                "{statement} does not name {name}"
            );
        }
    }
    for (statement, tests) in &listed {
        for test in tests {
            let transcript = transcripts.get(test);
            assert!(
                transcript.is_some(),
                "{statement} names {test}, which is no file"
            );
            let named = transcript.unwrap().statements.contains(statement);
            assert!(named, "{test} does not name {statement}");
        }
    }
    assert!(listed.len() > 250);
}

/// The unit tests that the document names are there.
#[test]
fn the_conformance_document_names_unit_tests_that_exist() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = std::fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    let mut sources = BTreeMap::new();
    let mut checked = 0;
    for test in document
        .split('`')
        .filter(|word| word.starts_with("mqtt::") && *word != "mqtt::...")
    {
        let mut path: Vec<&str> = test.split("::").skip(1).collect();
        let name = path.pop().unwrap();
        let file = match path.as_slice() {
            ["decode", "tests"] => "decode/tests.rs".to_owned(),
            ["decode", "tests", part] => format!("decode/tests/{part}.rs"),
            [module @ .., "tests"] => format!("{}.rs", module.join("/")),
            _ => panic!("{test} is not in a module of tests"),
        };
        let source = sources.entry(file.clone()).or_insert_with(|| {
            std::fs::read_to_string(root.join("crates/mqtt/src").join(&file)).unwrap()
        });
        assert!(
            source.contains(&format!("fn {name}()")),
            "{test} is not in {file}"
        );
        checked += 1;
    }
    assert!(checked >= 80, "only {checked}");
}
