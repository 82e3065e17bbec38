//! Tests of what is refused when hooks are compiled, and how it is said.

use super::*;
use crate::turn::tests::{hook, streams};

fn error(hooks: &[HookSettings]) -> String {
    HookTable::compile("n", hooks, &streams())
        .unwrap_err()
        .to_string()
}

#[test]
fn events_have_two_spellings_for_delivery_and_a_nearest_name() {
    for event in Event::ALL {
        assert_eq!(Event::parse(event.as_str()), Ok(event));
    }
    assert_eq!(Event::parse("message.deliver"), Ok(Event::MessageDelivered));
    assert_eq!(
        Event::parse("mesage.published").unwrap_err().to_string(),
        "unknown event \"mesage.published\"; the nearest known is \"message.publish\""
    );
}

#[test]
fn wrong_hooks_are_named_with_the_reason() {
    let bad = [hook(Event::MessagePublish, "a/#/b", "events", "")];
    assert!(
        error(&bad).starts_with("hook 1 (message.publish): filter \"a/#/b\": "),
        "{bad:?}"
    );
    let shared = [hook(Event::MessageAcked, "$share/g/a", "events", "")];
    assert!(error(&shared).contains("leave out $share/GROUP/"));
    let missing = [
        hook(Event::MessageAcked, "#", "events", ""),
        hook(Event::MessagePublish, "#", "mesage_state", ""),
    ];
    assert_eq!(
        error(&missing),
        "hook 2 (message.publish): unknown stream \"mesage_state\"; the nearest known is \
         \"message_state\""
    );
    let deep = [hook(Event::MessagePublish, &"a/".repeat(200), "events", "")];
    assert!(error(&deep).contains("more than 128 levels"));
    let internal = [hook(Event::MessagePublish, "#", RETAINED_STREAM, "")];
    assert!(error(&internal).contains("belongs to the node itself"));
    let default = [hook(Event::MessagePublish, "#", DEFAULT_STREAM, "")];
    assert!(error(&default).contains("name another"));
    let many = vec![hook(Event::MessagePublish, "#", "events", ""); HOOKS_MAX + 1];
    assert!(error(&many).contains("at most 1024"));
}

#[test]
fn a_stream_that_publish_writes_cannot_be_compacted() {
    let mut streams = streams();
    streams[3].settings.compact = true;
    let compile = |event| HookTable::compile("n", &[hook(event, "#", "events", "")], &streams);
    assert!(
        compile(Event::MessagePublish)
            .unwrap_err()
            .to_string()
            .contains("compacted")
    );
    assert!(compile(Event::ClientConnected).is_ok());
}

#[test]
fn the_nodes_own_streams_must_exist() {
    let streams = &streams()[..4];
    let error = HookTable::compile("n", &[], streams)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("unknown stream \"mqtt.default\""),
        "{error}"
    );
}

#[test]
fn wrong_keys_are_named_with_the_reason() {
    let error = |template| KeyTemplate::parse(template).unwrap_err().to_string();
    assert!(error("{0}").contains("counted from 1"));
    assert!(error("{2").contains("not closed"));
    assert!(error("${id}").contains("\"{id}\" is not known"));
    assert!(error("{-1}").contains("not known"));
    assert_eq!(KeyTemplate::parse(""), Ok(KeyTemplate::default()));
    assert_eq!(
        KeyTemplate::parse("{clientid}"),
        KeyTemplate::parse("${client_id}")
    );
}

#[test]
fn partitions_tell_how_their_records_are_written() {
    let table = HookTable::compile("n", &[], &streams()).unwrap();
    let kinds = [10, 40, 53, 60, 70, 71].map(|partition| table.kind(partition).unwrap());
    use StreamKind::{Default, DefaultQos0, Hook, Retained};
    assert_eq!(
        kinds,
        [Hook, Hook, Default, DefaultQos0, Retained, Retained]
    );
    assert_eq!(table.kind(9), None);
    assert_eq!(table.retained_partition(), 70);
}

#[test]
fn client_hooks_have_no_filter() {
    let odd = HookSettings {
        filter: String::new(),
        ..hook(Event::ClientConnected, "#", "events", "")
    };
    let table = HookTable::compile("n", &[odd], &streams()).unwrap();
    assert!(table.wants(Event::ClientConnected) && table.matches_event(Event::ClientConnected, ""));
    assert!(!table.wants(Event::ClientDisconnected));
}
