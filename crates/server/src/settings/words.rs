//! Small grammars in values: key templates, stream names, MQTT filters.

use super::KeyTemplate;

/// Streams whose names begin so are the node's own.
pub const INTERNAL_PREFIX: &str = "__sluice.";

/// Longest stream name, as in Apache Kafka.
const STREAM_NAME_MAX: usize = 249;

/// The key template that a text means.
pub fn key_template(text: &str) -> Option<KeyTemplate> {
    match text {
        "{clientid}" | "{client_id}" | "${clientid}" => return Some(KeyTemplate::ClientId),
        "{username}" | "${username}" => return Some(KeyTemplate::Username),
        "{topic}" | "${topic}" => return Some(KeyTemplate::Topic),
        "none" => return Some(KeyTemplate::None),
        _ => {}
    }
    let digits = text.strip_prefix('{')?.strip_suffix('}')?;
    let level: u16 = digits.parse().ok().filter(|level| *level > 0)?;
    (digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(KeyTemplate::Level(level))
}

/// What is wrong with a stream's name, if anything is.
pub fn bad_stream_name(name: &str) -> Option<String> {
    if name.starts_with(INTERNAL_PREFIX) {
        return Some(format!(
            "the stream {name} is the node's own; choose a name without {INTERNAL_PREFIX}"
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let bad = name.is_empty()
        || name.len() > STREAM_NAME_MAX
        || name == "."
        || name == ".."
        || !name.chars().all(allowed);
    bad.then(|| format!("\"{name}\" cannot be the name of a stream: 1 to {STREAM_NAME_MAX} of A-Z a-z 0-9 . _ - are allowed"))
}

/// What is wrong with an MQTT filter, if anything is [MQTT-4.7.1-1 to MQTT-4.7.1-3].
pub fn bad_filter(filter: &str) -> Option<String> {
    if filter.is_empty() || filter.len() > 65_535 || filter.contains('\0') {
        return Some("a filter has 1 to 65535 bytes, none of them 0".to_owned());
    }
    if filter.starts_with("$share/") {
        return Some("a hook's filter cannot be a shared subscription".to_owned());
    }
    let levels: Vec<&str> = filter.split('/').collect();
    for (index, level) in levels.iter().enumerate() {
        if level.contains('+') && *level != "+" {
            return Some(format!(
                "\"{filter}\" is not a filter: + stands alone in its level"
            ));
        }
        if level.contains('#') && (*level != "#" || index + 1 != levels.len()) {
            return Some(format!(
                "\"{filter}\" is not a filter: # stands alone in the last level"
            ));
        }
    }
    None
}
