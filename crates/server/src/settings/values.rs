//! Checks of single values: bounds, units, words. Each tells its fault with the place of the key.

use super::build::Builder;
use super::words::Word;
use crate::config::units::{Size, Span, show_bytes, show_millis};
use crate::config::{self, Fault};

const SECOND: u64 = 1_000;

impl Builder {
    pub(super) fn fault(&mut self, path: &str, what: &str) {
        let mut at = path;
        let line = loop {
            if let Some(line) = self.lines.get(at) {
                break Some(*line);
            }
            match at.rfind(['.', '[']) {
                Some(end) => at = &at[..end],
                None => break None,
            }
        };
        let key = path.rsplit('.').next().unwrap_or(path);
        let what = if what.starts_with(key) || what.starts_with("retention.") || path.ends_with(']')
        {
            what.to_owned()
        } else {
            format!("{key}: {what}")
        };
        self.faults.push(Fault {
            source: self.source.clone(),
            line,
            what,
        });
    }

    pub(super) fn flag_fault(&mut self, option: &str, what: &str) {
        self.faults.push(Fault {
            source: option.to_owned(),
            line: None,
            what: what.to_owned(),
        });
    }

    pub(super) fn required(
        &mut self,
        path: &str,
        key: &str,
        said: Option<&String>,
    ) -> Option<String> {
        let text = said.filter(|text| !text.is_empty()).cloned();
        if text.is_none() {
            let table = path.split('[').next().unwrap_or(path);
            self.fault(path, &format!("this [[{table}]] needs `{key}`"));
        }
        text
    }

    /// The value that a word means.
    pub(super) fn word<T: Word>(&mut self, path: &str, word: &str) -> Option<T> {
        let found = T::from_word(word);
        if found.is_none() {
            let words = || T::ALL.iter().map(|(_, word)| *word);
            let near = config::nearest(word, words())
                .map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
            let known: Vec<&str> = words().collect();
            self.fault(
                path,
                &format!("\"{word}\" is none of {}{near}", known.join(", ")),
            );
        }
        found
    }

    /// `said` if it is within the bounds; every key has a default in the default file.
    pub(super) fn integer(&mut self, path: &str, said: Option<i64>, least: i64, most: i64) -> i64 {
        let value = said.unwrap_or(least);
        if (least..=most).contains(&value) {
            return value;
        }
        self.fault(path, &format!("must be {least} to {most}, is {value}"));
        least
    }

    pub(super) fn size(&mut self, path: &str, said: Option<Size>, least: u64, most: u64) -> u64 {
        let said = said.unwrap_or(Size::Bytes(least));
        self.size_or_none(path, said, least, most)
            .unwrap_or_else(|| {
                if said == Size::None {
                    self.fault(path, "needs a size: \"none\" is not possible here");
                }
                least
            })
    }

    pub(super) fn size_or_none(
        &mut self,
        path: &str,
        said: Size,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        let Size::Bytes(bytes) = said else {
            return None;
        };
        if bytes < least || bytes > most {
            let upper = if most == u64::MAX {
                String::new()
            } else {
                format!(" and at most {}", show_bytes(most))
            };
            self.fault(
                path,
                &format!(
                    "must be at least {}{upper}, is {}",
                    show_bytes(least),
                    show_bytes(bytes)
                ),
            );
            return Some(least);
        }
        Some(bytes)
    }

    pub(super) fn millis(&mut self, path: &str, said: Option<Span>, least: u64, most: u64) -> u64 {
        self.span(path, said, 1, least, most)
    }

    pub(super) fn seconds(&mut self, path: &str, said: Option<Span>, least: u64, most: u64) -> u64 {
        self.span(path, said, SECOND, least * SECOND, most * SECOND) / SECOND
    }

    pub(super) fn seconds_or_none(
        &mut self,
        path: &str,
        said: Option<Span>,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        self.span_or_none(path, said, SECOND, least * SECOND, most * SECOND)
            .map(|ms| ms / SECOND)
    }

    pub(super) fn span(
        &mut self,
        path: &str,
        said: Option<Span>,
        unit_ms: u64,
        least: u64,
        most: u64,
    ) -> u64 {
        self.span_or_none(path, said, unit_ms, least, most)
            .unwrap_or_else(|| {
                self.fault(path, "needs a duration: \"none\" is not possible here");
                least
            })
    }

    /// Milliseconds of a duration whose plain numbers count in `unit_ms`; bounds in milliseconds.
    pub(super) fn span_or_none(
        &mut self,
        path: &str,
        said: Option<Span>,
        unit_ms: u64,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        let ms = match said? {
            Span::None => return None,
            Span::Plain(number) => number.saturating_mul(unit_ms),
            Span::Millis(ms) => ms,
        };
        if ms < least || ms > most {
            let upper = if most == u64::MAX {
                String::new()
            } else {
                format!(" and at most {}", show_millis(most))
            };
            self.fault(
                path,
                &format!(
                    "must be at least {}{upper}, is {}",
                    show_millis(least),
                    show_millis(ms)
                ),
            );
            return Some(least);
        }
        if unit_ms > 1 && !ms.is_multiple_of(unit_ms) {
            self.fault(path, "must be whole seconds");
        }
        Some(ms)
    }
}
