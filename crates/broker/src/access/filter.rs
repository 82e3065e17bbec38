//! The filter of a rule: an MQTT filter in which `${clientid}` and `${username}` stand for the
//! client's own, and how it compares with what a client asks for. Knows no rules.

use std::borrow::Cow;
use std::fmt;

use super::rules::{Effect, Subject};
use crate::limits::FILTER_LEVELS_MAX;

const CLIENT_ID: &str = "${clientid}";
const USERNAME: &str = "${username}";
/// In front of a filter that means only itself.
const EXACTLY: &str = "eq ";

/// A filter of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFilter {
    text: Box<str>,
    /// It has a placeholder.
    template: bool,
    /// It concerns what is written exactly so, wildcards included.
    exact: bool,
}

/// What is wrong with a filter, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterError(pub &'static str);

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for FilterError {}

impl RuleFilter {
    /// Reads `devices/${clientid}/#`, or `eq #` for that filter and no other.
    ///
    /// # Errors
    /// It is no MQTT filter, is shared or too deep, or names another placeholder.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let exact = text.strip_prefix(EXACTLY);
        let bare = exact.unwrap_or(text).trim();
        let plain = bare.replace(CLIENT_ID, "x").replace(USERNAME, "x");
        if plain.contains("${") {
            return Err(FilterError(
                "knows the placeholders ${clientid} and ${username} only",
            ));
        }
        if mqtt::topic::validate_filter(&plain).is_err() {
            return Err(FilterError("is no MQTT topic filter"));
        }
        if plain.starts_with("$share/") {
            return Err(FilterError(
                "names a share; write the filter alone, it concerns shared subscriptions too",
            ));
        }
        if mqtt::topic::levels(&plain).count() > FILTER_LEVELS_MAX {
            return Err(FilterError("has too many levels"));
        }
        // Where one ends and the other begins would be for the client to say.
        if bare.split('/').any(has_two) {
            return Err(FilterError(
                "has two placeholders in one level; put a / between them",
            ));
        }
        Ok(Self {
            text: bare.into(),
            template: bare.contains("${"),
            exact: exact.is_some(),
        })
    }

    /// The filter for a client; `None`: none for this one. An id that would widen a filter allows
    /// nothing, and denies what it can.
    fn of(&self, subject: &Subject<'_>, effect: Effect) -> Option<Cow<'_, str>> {
        if !self.template {
            return Some(Cow::Borrowed(&self.text));
        }
        for (placeholder, value) in [(CLIENT_ID, subject.client_id), (USERNAME, subject.username)] {
            // `$SYS` at the beginning of a topic is a place of its own.
            let widens =
                value.is_empty() || value.starts_with('$') || value.contains(['/', '+', '#']);
            if self.text.contains(placeholder) && widens && effect == Effect::Allow {
                return None;
            }
        }
        let filled = fill(&self.text, subject.client_id, subject.username);
        Some(Cow::Owned(filled))
    }

    /// Whether a PUBLISH to `topic` is meant.
    pub(super) fn meets(&self, subject: &Subject<'_>, effect: Effect, topic: &str) -> bool {
        let Some(filter) = self.of(subject, effect) else {
            return false;
        };
        if self.exact {
            return *filter == *topic;
        }
        mqtt::topic::matches(&filter, topic)
    }

    /// Whether a subscription to `asked` is meant: an allowance must hold all its topics, a denial
    /// any of them.
    pub(super) fn includes(&self, subject: &Subject<'_>, effect: Effect, asked: &str) -> bool {
        let Some(filter) = self.of(subject, effect) else {
            return false;
        };
        match effect {
            _ if self.exact => *filter == *asked,
            Effect::Allow => covers(&filter, asked),
            Effect::Deny => overlap(&filter, asked),
        }
    }
}

/// Puts a client's own names where their placeholders stand in `text`, in one pass: what a name
/// contains is never taken for a placeholder.
pub fn fill(text: &str, client_id: &str, username: &str) -> String {
    let mut filled = String::with_capacity(text.len() + client_id.len() + username.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let (placeholder, value) = match () {
            () if rest.starts_with(CLIENT_ID) => (CLIENT_ID, client_id),
            () if rest.starts_with(USERNAME) => (USERNAME, username),
            () => (&rest[..2], "${"),
        };
        filled.push_str(value);
        rest = &rest[placeholder.len()..];
    }
    filled.push_str(rest);
    filled
}

/// Whether two placeholders stand in `text`, so that whoever chooses the names could move what is of
/// one into the other.
pub fn has_two(text: &str) -> bool {
    text.matches(CLIENT_ID).count() + text.matches(USERNAME).count() > 1
}

/// Whether every topic that matches `inner` matches `outer`. May say no where it is yes.
fn covers(outer: &str, inner: &str) -> bool {
    let mut inner = inner.split('/');
    let mut first = true;
    for level in outer.split('/') {
        let other = inner.next();
        let holds = match (level, other) {
            ("#", other) => return !(first && hidden(other)),
            (_, None | Some("#")) => false,
            ("+", Some(other)) => !(first && other.starts_with('$')),
            (level, Some(other)) => level == other,
        };
        if !holds {
            return false;
        }
        first = false;
    }
    inner.next().is_none()
}

/// Whether some topic matches both.
fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    let mut first = true;
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some("#"), other) | (other, Some("#")) => return !(first && hidden(other)),
            (None, Some(_)) | (Some(_), None) => return false,
            (Some("+"), other) | (other, Some("+")) if first && hidden(other) => return false,
            (Some("+"), _) | (_, Some("+")) => {}
            (x, y) if x != y => return false,
            _ => {}
        }
        first = false;
    }
}

/// Whether wildcards do not see a first level [MQTT-4.7.2-1].
fn hidden(level: Option<&str>) -> bool {
    level.is_some_and(|level| level.starts_with('$'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["a", "b", "", "+", "$s"]);
        (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(mut levels, tail)| {
            if tail {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    fn topic() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["a", "b", "", "$s"]);
        prop::collection::vec(level, 1..6).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #[test]
        fn what_covers_has_every_topic(outer in filter(), inner in filter(), topic in topic()) {
            if covers(&outer, &inner) && mqtt::topic::matches(&inner, &topic) {
                prop_assert!(mqtt::topic::matches(&outer, &topic), "{outer} {inner} {topic}");
            }
        }

        #[test]
        fn a_shared_topic_is_an_overlap(a in filter(), b in filter(), topic in topic()) {
            if mqtt::topic::matches(&a, &topic) && mqtt::topic::matches(&b, &topic) {
                prop_assert!(overlap(&a, &b), "{a} {b} {topic}");
            }
        }
    }

    #[test]
    fn filters_hold_each_other() {
        for (outer, inner) in [
            ("#", "#"),
            ("#", "a/+/#"),
            ("a/#", "a"),
            ("a/#", "a/#"),
            ("a/+", "a/b"),
            ("a/+/c", "a/+/c"),
            ("$s/#", "$s/x"),
        ] {
            assert!(covers(outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in [
            ("a", "#"),
            ("a/b", "a/+"),
            ("a/+", "a/#"),
            ("#", "$s/#"),
            ("+/x", "$s/x"),
            ("a/b", "a/b/c"),
            ("a/b/c", "a/b"),
        ] {
            assert!(!covers(outer, inner), "{outer} {inner}");
        }
        assert!(overlap("a/+", "+/b") && overlap("a/#", "a") && overlap("#", "a/b"));
        assert!(!overlap("a/b", "a/c") && !overlap("#", "$s/a") && !overlap("a", "a/b"));
    }

    #[test]
    fn filters_are_checked() {
        for good in ["#", "a/${clientid}/+", "eq #", "${username}", "$SYS/#"] {
            assert!(RuleFilter::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a/#/b",
            "${user}",
            "$share/g/a",
            "a+",
            "d/${clientid}-${username}/x",
            "${username}${username}",
        ] {
            assert!(RuleFilter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_put_in_once_and_never_read_as_placeholders() {
        let filled = |text| fill(text, "${username}", "joe");
        assert_eq!(filled("a/${clientid}/${username}"), "a/${username}/joe");
        assert_eq!(filled("${x}$${clientid}"), "${x}$${username}");
        assert_eq!(filled("plain"), "plain");
    }
}
