//! The syntax of EMQ X 3.x and 4.x configuration files ("cuttlefish", sysctl style): one
//! `key = value` a line, comments only at the start of a line, durations and byte sizes of its own.

/// One `key = value` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key with its words joined by dots, escapes (`\.`) kept.
    pub key: String,
    /// The rest of the line without blanks at its ends.
    pub value: String,
}

/// A file, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// Settings in the order of the file; of a key that stands twice, both.
    pub settings: Vec<Setting>,
    /// Line and file name of each `include`; they are not followed.
    pub includes: Vec<(usize, String)>,
    /// Line and text of what is neither setting, comment, include nor placeholder.
    pub unreadable: Vec<(usize, String)>,
}

/// Reads a file. There is no inline comment: a `#` behind a value belongs to the value.
pub fn parse(text: &str) -> Conf {
    let mut conf = Conf::default();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let content = raw.trim_matches([' ', '\t', '\r', '\u{feff}']);
        if content.is_empty() || content.starts_with('#') || content.starts_with("{{") {
            continue;
        }
        if let Some(name) = content
            .strip_prefix("include")
            .filter(|rest| rest.starts_with([' ', '\t']))
        {
            conf.includes.push((line, name.trim().to_owned()));
            continue;
        }
        match setting(content) {
            Some((key, value)) => conf.settings.push(Setting { line, key, value }),
            None => conf.unreadable.push((line, content.to_owned())),
        }
    }
    conf
}

/// `key = value`, where the key is words of letters, digits and `- _ @ / :` joined by dots.
fn setting(content: &str) -> Option<(String, String)> {
    let (key, value) = content.split_once('=')?;
    let key = key.trim_end();
    let mut escaped = false;
    for c in key.chars() {
        let word = c.is_ascii_alphanumeric() || "-_@/:.\\".contains(c);
        if !word || (escaped && c != '.') {
            return None;
        }
        escaped = c == '\\' && !escaped;
    }
    let whole = !key.is_empty() && !escaped && key.split('.').all(|word| !word.is_empty());
    whole.then(|| (key.to_owned(), value.trim_start().to_owned()))
}

/// Milliseconds of a duration: a sum of `<number><unit>`, units `f w d h m s ms` in either case.
pub fn duration_ms(text: &str) -> Option<u64> {
    let plain = !text.contains(char::is_whitespace);
    plain
        .then(|| crate::config::units::millis(text).ok())
        .flatten()
}

/// Bytes of a size: a number with `KB MB GB` or `kb mb gb` (1,024-based), or a bare number.
pub fn byte_size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "KB" | "kb" => 10,
        "MB" | "mb" => 20,
        "GB" | "gb" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
            .settings
            .into_iter()
            .map(|setting| (setting.key, setting.value))
            .collect()
    }

    #[test]
    fn settings_comments_and_includes() {
        let conf = parse(
            "## comment\n\n  # indented\nbridge.kafka.servers = a:9092,b:9092  \r\ninclude other.conf\n\
             {{ placeholder }}\nnot a setting\na.b=c\n",
        );
        let found: Vec<_> = conf
            .settings
            .iter()
            .map(|s| (s.line, s.key.as_str(), s.value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (4, "bridge.kafka.servers", "a:9092,b:9092"),
                (8, "a.b", "c")
            ]
        );
        assert_eq!(conf.includes, [(5, "other.conf".to_owned())]);
        assert_eq!(conf.unreadable, [(7, "not a setting".to_owned())]);
    }

    #[test]
    fn a_value_is_the_rest_of_the_line() {
        assert_eq!(
            pairs("k = {\"filter\":\"#\", \"topic\":\"a=b\"} # no comment"),
            [(
                "k".to_owned(),
                "{\"filter\":\"#\", \"topic\":\"a=b\"} # no comment".to_owned()
            )]
        );
        assert_eq!(pairs("empty ="), [("empty".to_owned(), String::new())]);
    }

    #[test]
    fn keys_are_words_joined_by_dots() {
        assert_eq!(pairs("a\\.b.c = 1")[0].0, "a\\.b.c");
        assert_eq!(pairs("listener.tcp.0:/@x-y_z = 1").len(), 1);
        for wrong in [
            "a b = 1", "a..b = 1", ".a = 1", "= 1", "a\\ = 1", "a\\b = 1",
        ] {
            assert_eq!(parse(wrong).unreadable.len(), 1, "{wrong}");
        }
    }

    #[test]
    fn durations_and_sizes_are_cuttlefishs() {
        assert_eq!(duration_ms("5S"), Some(5_000));
        assert_eq!(duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(duration_ms("0.5s"), Some(500));
        assert_eq!(duration_ms("10"), None);
        assert_eq!(duration_ms("1h 30m"), None);
        assert_eq!(byte_size("1024KB"), Some(1 << 20));
        assert_eq!(byte_size("10mb"), Some(10 << 20));
        assert_eq!(byte_size("0"), Some(0));
        assert_eq!(byte_size("1Mb"), None);
        assert_eq!(byte_size("KB"), None);
    }
}
