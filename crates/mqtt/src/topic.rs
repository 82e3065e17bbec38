//! Topic names and topic filters: what is well formed, what a filter matches, shared filters.
//! Functions over strings; the trees that brokers build of them live elsewhere.

/// Longest topic name or filter in bytes: the length field has two bytes [MQTT-4.7.3-3].
pub const LENGTH_MAX: usize = u16::MAX as usize;

/// Prefix of a shared subscription's filter.
pub const SHARE_PREFIX: &str = "$share/";

/// Why a topic name or filter is not well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicError {
    /// It has no character [MQTT-4.7.3-1].
    Empty,
    /// It contains U+0000 [MQTT-4.7.3-2].
    Null,
    /// It has more than 65,535 bytes [MQTT-4.7.3-3].
    TooLong,
    /// A topic name contains `+` or `#` [MQTT-3.3.2-2].
    WildcardInName,
    /// `+` does not fill its level [MQTT-4.7.1-2], or `#` does not fill the last [MQTT-4.7.1-1].
    WildcardPlacement,
    /// A `$share` filter without a share name, with a wildcard in it, or without a filter behind it
    /// [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    Share,
}

impl TopicError {
    /// The error in words.
    pub const fn what(self) -> &'static str {
        match self {
            TopicError::Empty => "a topic is empty",
            TopicError::Null => "a topic contains U+0000",
            TopicError::TooLong => "a topic has more than 65,535 bytes",
            TopicError::WildcardInName => "a topic name contains a wildcard",
            TopicError::WildcardPlacement => "a wildcard does not fill its level",
            TopicError::Share => "a shared filter lacks its share name or its filter",
        }
    }
}

impl std::fmt::Display for TopicError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what())
    }
}

impl std::error::Error for TopicError {}

/// A shared subscription's filter, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share<'a> {
    /// The share name.
    pub group: &'a str,
    /// The filter that the group shares.
    pub filter: &'a str,
}

/// Whether a message may be published to this topic name.
#[inline]
pub fn validate_name(name: &str) -> Result<(), TopicError> {
    // Without an early exit, so that the loop is vectorised: this runs for every PUBLISH.
    let odd = name.as_bytes().iter().fold(0, |odd, &byte| {
        odd | u8::from(byte == 0) | u8::from(byte == b'+') | u8::from(byte == b'#')
    });
    if odd != 0 || name.is_empty() || name.len() > LENGTH_MAX {
        return Err(name_error(name));
    }
    Ok(())
}

#[cold]
fn name_error(name: &str) -> TopicError {
    if name.is_empty() {
        TopicError::Empty
    } else if name.len() > LENGTH_MAX {
        TopicError::TooLong
    } else if name.contains('\0') {
        TopicError::Null
    } else {
        TopicError::WildcardInName
    }
}

/// Whether a client may subscribe to this filter; a filter that starts with `$share/` must be a
/// complete shared one.
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    if filter.is_empty() {
        return Err(TopicError::Empty);
    }
    if filter.len() > LENGTH_MAX {
        return Err(TopicError::TooLong);
    }
    if filter.contains('\0') {
        return Err(TopicError::Null);
    }
    if filter.starts_with(SHARE_PREFIX) {
        let share = parse_share(filter).ok_or(TopicError::Share)?;
        return validate_wildcards(share.filter);
    }
    validate_wildcards(filter)
}

fn validate_wildcards(filter: &str) -> Result<(), TopicError> {
    let mut levels = levels(filter).peekable();
    while let Some(level) = levels.next() {
        match level {
            "+" => {}
            "#" if levels.peek().is_none() => {}
            _ if level.contains(['+', '#']) => return Err(TopicError::WildcardPlacement),
            _ => {}
        }
    }
    Ok(())
}

/// Takes `$share/group/filter` apart; none for what is not a complete shared filter.
pub fn parse_share(filter: &str) -> Option<Share<'_>> {
    let (group, filter) = filter.strip_prefix(SHARE_PREFIX)?.split_once('/')?;
    if group.is_empty() || group.contains(['+', '#']) || filter.is_empty() {
        return None;
    }
    Some(Share { group, filter })
}

/// The levels of a topic name or filter: there is always one, and it may be empty [MQTT 5, 4.7.1.1].
pub fn levels(topic: &str) -> std::str::Split<'_, char> {
    topic.split('/')
}

/// Whether the filter contains a wildcard.
pub fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether a (not shared) filter matches a topic name, both well formed. A wildcard in the first
/// level does not match a name that starts with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut filter_levels = levels(filter);
    let mut name_levels = levels(name);
    loop {
        match (filter_levels.next(), name_levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2]; 3.1.1: [MQTT-4.7.1-2], [MQTT-4.7.1-3].
    #[test]
    fn wildcards_fill_their_level() {
        for filter in [
            "#", "+", "a/#", "a/+/b", "+/+", "/+", "+/a/#", "/", "a//b", "$SYS/#",
        ] {
            assert_eq!(validate_filter(filter), Ok(()), "{filter}");
        }
        for filter in [
            "a#", "#/a", "a/#/b", "a/b#", "a+", "+a", "a/+b/c", "##", "++", "a/##",
        ] {
            assert_eq!(
                validate_filter(filter),
                Err(TopicError::WildcardPlacement),
                "{filter}"
            );
        }
    }

    /// [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3] of both versions.
    #[test]
    fn names_and_filters_have_characters_no_null_and_a_bound() {
        let long = "a".repeat(LENGTH_MAX + 1);
        for validate in [validate_name, validate_filter] {
            assert_eq!(validate(""), Err(TopicError::Empty));
            assert_eq!(validate("a\0b"), Err(TopicError::Null));
            assert_eq!(validate(&long), Err(TopicError::TooLong));
            assert_eq!(validate(&long[1..]), Ok(()));
            assert_eq!(validate("/"), Ok(()));
            assert_eq!(validate(" "), Ok(()));
        }
    }

    /// [MQTT-3.3.2-2], [MQTT-4.7.0-1]; 3.1.1: [MQTT-3.3.2-2], [MQTT-4.7.1-1].
    #[test]
    fn names_hold_no_wildcard() {
        assert_eq!(validate_name("a/+/b"), Err(TopicError::WildcardInName));
        assert_eq!(validate_name("a/#"), Err(TopicError::WildcardInName));
        assert_eq!(validate_name("a/b+"), Err(TopicError::WildcardInName));
        assert_eq!(validate_name("devices/1/state"), Ok(()));
    }

    /// [MQTT-4.8.2-1] and [MQTT-4.8.2-2].
    #[test]
    fn shared_filters_have_a_name_and_a_filter() {
        assert_eq!(
            parse_share("$share/g/a/+"),
            Some(Share {
                group: "g",
                filter: "a/+"
            })
        );
        assert_eq!(
            parse_share("$share/g//a"),
            Some(Share {
                group: "g",
                filter: "/a"
            })
        );
        for filter in [
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/#/a",
        ] {
            assert_eq!(parse_share(filter), None, "{filter}");
            assert_eq!(validate_filter(filter), Err(TopicError::Share), "{filter}");
        }
        assert_eq!(
            validate_filter("$share/g/a/#/b"),
            Err(TopicError::WildcardPlacement)
        );
        assert_eq!(validate_filter("$share/g/a/#"), Ok(()));
        assert_eq!(validate_filter("$share"), Ok(()));
        assert_eq!(validate_filter("$shared/g"), Ok(()));
    }

    /// The examples of MQTT 5, 4.7.1; [MQTT-4.7.2-1], [MQTT-4.7.3-4] of both versions.
    #[test]
    fn filters_match_as_the_specification_shows() {
        for (filter, name) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
            ),
            ("sport/#", "sport"),
            ("#", "sport/tennis"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/uptime"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("+/tennis/#", "sport/tennis"),
            ("a//b", "a//b"),
            ("a/+/b", "a//b"),
        ] {
            assert!(matches(filter, name), "{filter} should match {name}");
        }
        for (filter, name) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/uptime"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("+", "$SYS"),
            ("ACCOUNTS", "Accounts"),
            ("/finance", "finance"),
            ("a/b", "a/b/"),
            ("a/b/", "a/b"),
            ("a/+/#", "a"),
        ] {
            assert!(!matches(filter, name), "{filter} should not match {name}");
        }
    }
}
