//! Tests of the filter tree against naive matching, and of the caches' bounds.

use super::*;
use proptest::prelude::*;

/// The matching rule of the standard, level by level, written as naively as possible.
fn naive(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    for (at, level) in filter.iter().enumerate() {
        if *level == "#" {
            return true;
        }
        if at >= topic.len() || (*level != "+" && *level != topic[at]) {
            return false;
        }
    }
    filter.len() == topic.len()
}

fn found(tree: &FilterTree<u32>, topic: &str) -> Vec<u32> {
    let mut values = Vec::new();
    tree.for_each_match(topic, |value| values.push(*value));
    values.sort_unstable();
    values
}

fn topic_strategy() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["", "a", "b", "c", "$x"]), 1..5)
        .prop_map(|levels| levels.join("/"))
}

fn filter_strategy() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "c", "$x", "+", "+"]);
    (prop::collection::vec(level, 0..5), any::<bool>()).prop_map(|(mut levels, hash)| {
        if hash || levels.is_empty() {
            levels.push("#");
        }
        levels.join("/")
    })
}

proptest! {
    #[test]
    fn tree_finds_what_naive_matching_finds(
        steps in prop::collection::vec((filter_strategy(), any::<bool>()), 1..60),
        topics in prop::collection::vec(topic_strategy(), 1..20),
    ) {
        let mut tree = FilterTree::new();
        let mut model: Vec<(String, u32)> = Vec::new();
        for (number, (filter, remove)) in (0u32..).zip(&steps) {
            if *remove {
                let at = model.iter().position(|(held, _)| held == filter);
                let value = at.map(|at| model.remove(at).1);
                prop_assert_eq!(tree.remove(filter, |held| Some(*held) == value), value);
            } else {
                tree.insert(filter, number).unwrap();
                model.push((filter.clone(), number));
            }
        }
        prop_assert_eq!(tree.len(), model.len());
        for topic in &topics {
            let mut expected: Vec<u32> = model.iter()
                .filter(|(filter, _)| naive(filter, topic)).map(|(_, value)| *value).collect();
            expected.sort_unstable();
            prop_assert_eq!(tree.any_match(topic), !expected.is_empty());
            prop_assert_eq!(found(&tree, topic), expected, "topic {}", topic);
        }
        let mut listed = Vec::new();
        tree.for_each(|filter, values| {
            listed.extend(values.iter().map(|value| (filter.to_owned(), *value)));
        });
        listed.sort();
        model.sort();
        prop_assert_eq!(&listed, &model);
        for (filter, value) in model {
            prop_assert_eq!(tree.remove(&filter, |held| *held == value), Some(value));
        }
        // Nothing is left behind: no node but the root, no level, no edge.
        prop_assert_eq!(tree.nodes.len() - tree.free_nodes.len(), 1);
        prop_assert!(tree.levels.is_empty() && tree.edges.is_empty());
    }

    #[test]
    fn tree_agrees_with_the_protocol_crate(
        filter in filter_strategy(), topic in topic_strategy(),
    ) {
        let mut tree = FilterTree::new();
        tree.insert(&filter, 0u32).unwrap();
        prop_assert_eq!(tree.any_match(&topic), mqtt::topic::matches(&filter, &topic));
    }
}

#[test]
fn hash_takes_the_parent_level_too_and_dollar_hides_from_wildcards() {
    let mut tree = FilterTree::new();
    for (value, filter) in (0u32..).zip(["a/#", "#", "+/x", "$SYS/#", "$SYS/+"]) {
        tree.insert(filter, value).unwrap();
    }
    assert_eq!(found(&tree, "a"), [0, 1]);
    assert_eq!(found(&tree, "a/x"), [0, 1, 2]);
    assert_eq!(found(&tree, "$SYS"), [3]);
    assert_eq!(found(&tree, "$SYS/x"), [3, 4]);
}

#[test]
fn depth_is_bounded_and_deep_topics_are_still_matched() {
    let deepest = vec!["a"; FILTER_LEVELS_MAX].join("/");
    let mut tree = FilterTree::new();
    tree.insert(&deepest, 1u32).unwrap();
    tree.insert(&vec!["+"; FILTER_LEVELS_MAX].join("/"), 2)
        .unwrap();
    tree.insert("a/#", 3).unwrap();
    assert_eq!(tree.insert(&format!("{deepest}/a"), 4), Err(TooDeep));
    assert_eq!(found(&tree, &deepest), [1, 2, 3]);
    assert_eq!(found(&tree, &format!("{deepest}/a")), [3]);
    assert_eq!(found(&tree, &"a/".repeat(30_000)), [3]);
}

#[test]
fn match_cache_sees_changes_and_stays_within_its_weight() {
    let mut tree = FilterTree::new();
    let mut cache = MatchCache::new();
    tree.insert("a/+", 1u32).unwrap();
    assert_eq!(*cache.matches(&tree, "a/1"), [1]);
    tree.insert("a/#", 2).unwrap();
    assert_eq!(cache.matches(&tree, "a/1").len(), 2);
    for number in 0..3 * TOPIC_CACHE_WEIGHT_MAX {
        cache.matches(&tree, &format!("a/{number}"));
        assert!(cache.len() * 3 <= TOPIC_CACHE_WEIGHT_MAX);
    }
    let long = format!("a/{}", "x".repeat(TOPIC_CACHE_TOPIC_BYTES_MAX));
    let before = cache.len();
    assert_eq!(cache.matches(&tree, &long).len(), 2);
    assert_eq!(cache.len(), before);
}

#[test]
fn topic_cache_keeps_what_is_used() {
    let mut cache = TopicCache::new(64);
    let mut made = 0;
    for number in 0..1_000 {
        cache.get_or_make(&number.to_string(), 1, || ((), 1));
        cache.get_or_make("hot", 1, || {
            made += 1;
            ((), 1)
        });
    }
    assert_eq!(made, 1);
}
