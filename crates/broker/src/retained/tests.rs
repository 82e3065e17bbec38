//! Tests of the retained index: searches against naive matching, order of commits, bounds.

use super::*;
use crate::message::{MessageView, MessagesBuilder, Place, Placed, REFUSED};
use crate::properties::ForwardProperties;
use crate::record::write_retained;
use mqtt::QoS;
use proptest::prelude::*;

fn view<'a>(topic: &'a str, payload: &'a [u8]) -> MessageView<'a> {
    MessageView {
        topic,
        payload,
        qos: QoS::AtLeastOnce,
        retain: true,
        dup: false,
        publisher: "p",
        username: "",
        peer: "",
        principal: "",
        properties: ForwardProperties::default(),
        publish_ms: 1,
        expires_ms: None,
    }
}

fn commit(lsn: Lsn, base: u64, messages: &[MessageView<'_>]) -> Commit {
    let mut builder = MessagesBuilder::new();
    for (delta, message) in messages.iter().enumerate() {
        let retained = Some(Place {
            append: 0,
            delta: delta as u32,
        });
        builder.push(
            message,
            &Placed {
                retained,
                ..Placed::default()
            },
        );
    }
    let batches = vec![(70, base, messages.len() as u32)];
    Commit {
        lsn,
        worker: 0,
        turn: lsn,
        batches,
        messages: builder.finish(),
    }
}

fn index(topics: &[&str]) -> RetainedIndex {
    let mut index = RetainedIndex::new(1_000_000);
    let messages: Vec<MessageView<'_>> = topics.iter().map(|topic| view(topic, b"x")).collect();
    index.apply(&commit(1, 0, &messages));
    index
}

/// All pages of a search.
fn topics(index: &RetainedIndex, filter: &str, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut after: Option<Box<str>> = None;
    loop {
        let page = index.find(filter, after.as_deref(), Lsn::MAX, 0, limit);
        assert!(page.hits.len() <= limit);
        found.extend(page.hits.into_iter().map(|hit| hit.topic.into_string()));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

proptest! {
    #[test]
    fn a_search_finds_what_naive_matching_finds(
        held in prop::collection::btree_set("(\\$|a|b|!|0|/){1,6}|a/b(/a|/b|!|0){0,3}", 0..60),
        filters in prop::collection::vec(
            prop::collection::vec(prop::sample::select(
                vec!["a", "b", "", "+", "+", "a!", "$", "!"]), 1..5),
            1..10),
        hash in any::<bool>(),
        limit in 1usize..5,
    ) {
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let index = index(&held);
        prop_assert_eq!(index.len(), held.len());
        for mut filter in filters {
            if hash {
                filter.push("#");
            }
            let filter = filter.join("/");
            if filter.is_empty() {
                continue;
            }
            let expected: Vec<&str> =
                held.iter().copied().filter(|topic| mqtt::topic::matches(&filter, topic)).collect();
            prop_assert_eq!(topics(&index, &filter, limit), expected, "{}", filter);
        }
    }
}

#[test]
fn a_wildcard_in_the_middle_jumps_over_what_cannot_match() {
    let mut names: Vec<String> = (0..2 * RETAINED_STEPS_MAX)
        .map(|number| format!("a/x/{number}"))
        .collect();
    names.extend((0..100).map(|number| format!("a/y{number}/b")));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let index = index(&names);
    let page = index.find("a/+/b", None, 1, 0, 1_000);
    assert_eq!(page.hits.len(), 100);
    assert_eq!(page.next, None, "found without looking at all of a/x");
    assert_eq!(index.find("a/y7/b", None, 1, 0, 1).hits.len(), 1);
}

#[test]
fn pages_are_bounded_in_hits_and_in_topics_looked_at() {
    let names: Vec<String> = (0..RETAINED_STEPS_MAX + 10)
        .map(|number| format!("a/{number:06}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut index = index(&names);
    let page = index.find("#", None, 1, 0, usize::MAX);
    assert_eq!(page.hits.len(), RETAINED_PAGE_MAX);
    assert_eq!(topics(&index, "a/+", 700).len(), names.len());
    // None of them counts as of commit 0, and looking for that is bounded too.
    let page = index.find("#", None, 0, 0, 10);
    assert!(page.hits.is_empty());
    let page = index.find("#", page.next.as_deref(), 0, 0, 10);
    assert_eq!(page, RetainedPage::default());
    index.apply(&commit(2, 9, &[view("a/000003", b"new")]));
    let old = index.find("a/000003", None, 1, 0, 10);
    assert!(old.hits.is_empty(), "what came later is delivered live");
}

#[test]
fn commits_set_replace_and_remove() {
    let mut index = RetainedIndex::new(2);
    let expiring = MessageView {
        expires_ms: Some(500),
        ..view("b", b"four")
    };
    index.apply(&commit(5, 100, &[view("a", b"one"), expiring]));
    assert_eq!((index.len(), index.bytes()), (2, 7));
    assert!(index.admits("a") && !index.admits("c"), "full");
    index.apply(&commit(6, 200, &[view("a", b"longer"), view("none", b"")]));
    assert_eq!((index.len(), index.bytes()), (2, 10));
    let hit = &index.find("a", None, 6, 0, 10).hits[0];
    assert_eq!(
        hit.position,
        Position {
            partition: 70,
            offset: 200
        }
    );
    assert_eq!((hit.bytes, hit.expires_ms), (6, None));
    assert_eq!(topics(&index, "#", 10), ["a", "b"]);
    assert_eq!(
        index.find("#", None, 6, 500, 10).hits.len(),
        1,
        "b has expired"
    );
    index.apply(&commit(7, 300, &[view("a", b"")]));
    assert_eq!((index.len(), index.bytes()), (1, 4));
    index.apply(&commit(8, REFUSED, &[view("c", b"refused")]));
    assert_eq!(index.get("c"), None);
}

#[test]
fn a_sweep_takes_out_the_expired_little_by_little() {
    let mut index = RetainedIndex::new(100);
    let names: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
    let messages: Vec<MessageView<'_>> = names
        .iter()
        .enumerate()
        .map(|(number, name)| MessageView {
            expires_ms: Some(number as u64),
            ..view(name, b"x")
        })
        .collect();
    index.apply(&commit(1, 0, &messages));
    let mut tombstones = Vec::new();
    for _ in 0..4 {
        if let Some(append) = index.sweep(70, 4, 3) {
            assert_eq!(append.partition, 70);
            let (batch, _) = commitlog::BatchView::parse(&append.batch).unwrap();
            for record in batch.records() {
                let record = record.unwrap();
                assert_eq!(record.value, None);
                tombstones.push(String::from_utf8(record.key.unwrap().to_vec()).unwrap());
            }
        }
    }
    assert_eq!(tombstones, ["t0", "t1", "t2", "t3", "t4"]);
    assert_eq!(index.len(), 5);
    assert_eq!(index.sweep(70, 4, 100), None, "begins again, finds nothing");
    assert!(index.sweep(70, 9, 100).is_some());
    assert!(index.is_empty() && index.bytes() == 0);
}

#[test]
fn the_table_is_read_back() {
    let mut index = RetainedIndex::new(100);
    let position = Position {
        partition: 70,
        offset: 3,
    };
    let message = MessageView {
        expires_ms: Some(9),
        ..view("a/b", b"payload")
    };
    let mut value = Vec::new();
    write_retained(&mut value, &message);
    index.restore(b"a/b", Some(&value), position, 4).unwrap();
    let page = index.find("a/+", None, 4, 0, 10);
    assert_eq!(page.hits[0].position, position);
    assert_eq!((page.hits[0].expires_ms, page.hits[0].bytes), (Some(9), 7));
    value[0] = 9;
    let error = index
        .restore(b"a/b", Some(&value), position, 5)
        .unwrap_err();
    assert_eq!(
        error.what,
        "a retained message has an unknown format version"
    );
    index.restore(b"a/b", None, position, 6).unwrap();
    assert!(index.is_empty());
}
