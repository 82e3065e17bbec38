//! Imported files against the output that stands beside them, and what is refused.

use std::path::{Path, PathBuf};

use super::*;
use crate::config;
use crate::settings::{Flags, Settings, build};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emqx")
}

fn checked(output: &str) -> Settings {
    let (said, faults) = config::read("imported", output);
    assert!(faults.is_empty(), "{faults:#?}\n{output}");
    build(Some(said), &Flags::default()).unwrap_or_else(|faults| panic!("{faults:#?}\n{output}"))
}

/// Run with `SLUICE_WRITE_GOLDEN=1` to write the output anew.
fn golden(name: &str) -> Settings {
    let conf = std::fs::read_to_string(folder().join(format!("{name}.conf"))).unwrap();
    let output = import(&format!("{name}.conf"), &conf).unwrap();
    let path = folder().join(format!("{name}.toml"));
    if std::env::var_os("SLUICE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &output).unwrap();
    }
    assert_eq!(output, std::fs::read_to_string(&path).unwrap(), "{name}");
    assert!(
        output
            .lines()
            .all(|line| line.len() <= WIDTH || line.starts_with("filter")),
        "{output}"
    );
    checked(&output)
}

#[test]
fn the_articles_file() {
    let settings = golden("article");
    assert_eq!(settings.hooks.len(), 2);
    assert_eq!(settings.hooks[0].stream, "message_state");
    assert_eq!(settings.hooks[1].event, HookEvent::MessageAcked);
    assert!(
        settings
            .streams
            .iter()
            .filter(|s| s.name.starts_with("message_"))
            .all(|s| s.ack == Ack::Flush)
    );
}

#[test]
fn the_documented_sample() {
    let settings = golden("documented");
    let events: Vec<_> = settings
        .hooks
        .iter()
        .map(|hook| hook.event.as_str())
        .collect();
    let all: Vec<_> = HookEvent::ALL.into_iter().map(HookEvent::as_str).collect();
    assert_eq!(events[..], all[..7]);
    // required_acks = none in the sample.
    assert!(
        settings
            .streams
            .iter()
            .filter(|s| s.name.contains('_'))
            .all(|s| s.ack == Ack::Append)
    );
}

#[test]
fn everything_a_hook_can_say() {
    let settings = golden("many");
    let hooks: Vec<_> = settings
        .hooks
        .iter()
        .map(|hook| (hook.stream.as_str(), hook.key.as_str()))
        .collect();
    assert_eq!(
        hooks,
        [
            ("clients", "{clientid}"),
            ("state", "{clientid}"),
            ("sensors", "none"),
            ("state", "{2}"),
            ("out", "{clientid}"),
            ("out", "{username}"),
            ("out", "{clientid}"),
        ]
    );
    assert_eq!(settings.hooks[3].filter.as_deref(), Some("a/\"b\""));
}

#[test]
fn every_key_without_an_equivalent_is_told() {
    let conf = std::fs::read_to_string(folder().join("documented.conf")).unwrap();
    let output = import("x", &conf).unwrap();
    let told = output.split_once("# What has no equivalent").unwrap().1;
    for (key, _, why) in KNOWN
        .iter()
        .filter(|(key, _, _)| !key.ends_with("ition_strategy"))
    {
        assert_eq!(
            told.contains(&format!("bridge.kafka.{key} = ")),
            !why.is_empty(),
            "{key}"
        );
    }
}

#[test]
fn a_file_without_hooks_switches_them_off() {
    assert!(
        checked(&import("x", "bridge.kafka.servers = a\n").unwrap())
            .hooks
            .is_empty()
    );
}

#[test]
fn what_emqx_could_not_use_is_refused_with_its_line() {
    for (text, told) in [
        (
            "\nnonsense",
            "x:2: neither a comment nor `key = value`: nonsense",
        ),
        (
            "bridge.kafka.hook.message.publish.1 = {topic}",
            "x:1: bridge.kafka.hook.message.publish.1: the value is not JSON",
        ),
        (
            "bridge.kafka.hook.message.publish.1 = 5",
            "x:1: bridge.kafka.hook.message.publish.1: the value is not a JSON object",
        ),
        (
            "bridge.kafka.hook.message.publish.1 = {\"filter\":\"#\"}",
            "x:1: bridge.kafka.hook.message.publish.1: the hook names no \"topic\"",
        ),
        (
            "bridge.kafka.hook.message.publish.1 = {\"filter\":\"a#\",\"topic\":\"a\"}",
            "x:1: bridge.kafka.hook.message.publish.1: \"a#\" is not a filter",
        ),
        (
            "bridge.kafka.produce = maybe",
            "x:1: bridge.kafka.produce: \"maybe\" is not a value",
        ),
        (
            "bridge.kafka.sock.sndbuf = 1Mb",
            "x:1: bridge.kafka.sock.sndbuf: \"1Mb\" is not a value",
        ),
    ] {
        let faults = import("x", text).unwrap_err();
        assert_eq!(faults.len(), 1, "{text}");
        assert!(faults[0].to_string().starts_with(told), "{}", faults[0]);
    }
}
