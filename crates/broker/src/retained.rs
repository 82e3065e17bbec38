//! Which topics have a retained message and where it lies; the values stay in the log. Changes in
//! the order of commits, and can be searched by filter in bounded pages, as of a commit.

use crate::decode::{RecordError, retained};
use crate::limits::{RETAINED_PAGE_BYTES_MAX, RETAINED_PAGE_MAX, RETAINED_STEPS_MAX};
use crate::message::{Commit, Position};
use commitlog::{Append, BatchBuilder, Lsn, PartitionId};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The retained messages of a node. In order of topic, so that a search with a wildcard jumps from
/// one possible topic to the next and leaves out what lies between.
#[derive(Debug)]
pub struct RetainedIndex {
    topics: BTreeMap<Box<str>, Retained>,
    bytes: u64,
    messages_max: usize,
    /// Where the next sweep begins.
    swept_to: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy)]
struct Retained {
    position: Position,
    lsn: Lsn,
    /// `u64::MAX`: never.
    expires_ms: u64,
    /// Of the payload.
    bytes: u32,
}

/// A retained message that a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedHit {
    /// Its topic.
    pub topic: Box<str>,
    /// Its record in the table.
    pub position: Position,
    /// When it expires, ms since the epoch.
    pub expires_ms: Option<u64>,
    /// Length of its payload.
    pub bytes: u32,
}

/// Part of what a search finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetainedPage {
    /// In order of topic.
    pub hits: Vec<RetainedHit>,
    /// Where to go on; `None` at the end.
    pub next: Option<Box<str>>,
}

impl RetainedIndex {
    /// An empty index that admits `messages_max` messages.
    pub fn new(messages_max: usize) -> Self {
        Self {
            topics: BTreeMap::new(),
            bytes: 0,
            messages_max,
            swept_to: None,
        }
    }

    /// Number of retained messages.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Bytes of all retained payloads.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a message on `topic` may be retained; where not, the PUBLISH is refused with
    /// reason code 0x97. What is on its way to the log is not counted, so the bound is passed by
    /// at most one turn a worker.
    pub fn admits(&self, topic: &str) -> bool {
        self.topics.len() < self.messages_max || self.topics.contains_key(topic)
    }

    /// Takes in what a commit has retained and removed. Commits must come in order.
    pub fn apply(&mut self, commit: &Commit) {
        for index in 0..commit.messages.len() as u32 {
            let Some(place) = commit.messages.retained_place(index) else {
                continue;
            };
            let Some(position) = commit.position(place) else {
                continue;
            };
            let message = commit.messages.get(index);
            if message.payload.is_empty() {
                self.remove(message.topic);
                continue;
            }
            let retained = Retained {
                position,
                lsn: commit.lsn,
                expires_ms: message.expires_ms.unwrap_or(u64::MAX),
                bytes: message.payload.len() as u32,
            };
            self.set(message.topic, retained);
        }
    }

    /// Takes in a record of the table, as it is read at start; no value removes.
    pub fn restore(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        position: Position,
        lsn: Lsn,
    ) -> Result<(), RecordError> {
        let Some(value) = value else {
            let topic = std::str::from_utf8(key).map_err(|_| RecordError {
                what: "the topic is not UTF-8",
            })?;
            self.remove(topic);
            return Ok(());
        };
        let message = retained(key, value)?;
        let retained = Retained {
            position,
            lsn,
            expires_ms: message.expires_ms.unwrap_or(u64::MAX),
            bytes: message.payload.len() as u32,
        };
        self.set(message.topic, retained);
        Ok(())
    }

    /// Retained messages whose topic matches `filter`, at most `limit` of them, at most
    /// [`RETAINED_PAGE_MAX`], and no further one beyond [`RETAINED_PAGE_BYTES_MAX`] of payloads; `after` is `next` of the page before. Those that came after the
    /// commit `as_of` are left out, as a subscription of that commit gets them live, and those
    /// that have expired.
    pub fn find(
        &self,
        filter: &str,
        after: Option<&str>,
        as_of: Lsn,
        now_ms: u64,
        limit: usize,
    ) -> RetainedPage {
        let limit = limit.clamp(1, RETAINED_PAGE_MAX);
        let mut page = RetainedPage::default();
        let mut from: Bound<String> =
            after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_owned()));
        let search = Search::new(filter);
        if after.is_none() {
            from = Bound::Included(search.fixed.clone());
        }
        let mut steps = 0;
        let mut bytes = 0;
        let mut range = self
            .topics
            .range::<str, _>((as_str(&from), Bound::Unbounded));
        while let Some((topic, entry)) = range.next() {
            steps += 1;
            match search.look_at(topic) {
                Step::Match => {
                    if entry.lsn <= as_of && entry.expires_ms > now_ms {
                        page.hits.push(RetainedHit {
                            topic: topic.clone(),
                            position: entry.position,
                            expires_ms: (entry.expires_ms != u64::MAX).then_some(entry.expires_ms),
                            bytes: entry.bytes,
                        });
                        bytes += u64::from(entry.bytes);
                    }
                }
                Step::Next => {}
                Step::Seek(to) => {
                    debug_assert!(*to > **topic, "a search only goes forward");
                    range = self
                        .topics
                        .range::<str, _>((Bound::Included(to.as_str()), Bound::Unbounded));
                }
                Step::End => return page,
            }
            if page.hits.len() == limit
                || steps == RETAINED_STEPS_MAX
                || bytes >= RETAINED_PAGE_BYTES_MAX
            {
                page.next = Some(topic.clone());
                return page;
            }
        }
        page
    }

    /// Where the retained message of exactly this topic is, whatever its age.
    pub fn get(&self, topic: &str) -> Option<Position> {
        self.topics.get(topic).map(|entry| entry.position)
    }

    /// Looks at the next `steps` topics, takes out those whose message has expired, and answers the
    /// tombstones that take them out of the table, which is `partition`, too.
    ///
    /// Only for the log thread: every entry staged so far must have been applied, and the
    /// tombstones must be staged before anything else. Otherwise they could take a newer message
    /// out of the table that is still in the index.
    pub fn sweep(&mut self, partition: PartitionId, now_ms: u64, steps: usize) -> Option<Append> {
        let from = self.swept_to.take();
        let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut expired = Vec::new();
        let mut looked_at = 0;
        let mut last = None;
        for (topic, entry) in self
            .topics
            .range::<str, _>((from, Bound::Unbounded))
            .take(steps)
        {
            looked_at += 1;
            last = Some(topic);
            if entry.expires_ms <= now_ms {
                expired.push(topic.clone());
            }
        }
        self.swept_to = if looked_at == steps {
            last.cloned()
        } else {
            None
        };
        let mut batch = BatchBuilder::new();
        for topic in expired {
            self.remove(&topic);
            batch.push(now_ms as i64, Some(topic.as_bytes()), None, &[]);
        }
        (!batch.is_empty()).then(|| Append::new(partition, batch.finish()))
    }

    fn set(&mut self, topic: &str, retained: Retained) {
        self.bytes += u64::from(retained.bytes);
        if let Some(held) = self.topics.get_mut(topic) {
            self.bytes -= u64::from(held.bytes);
            *held = retained;
        } else {
            self.topics.insert(topic.into(), retained);
        }
    }

    fn remove(&mut self, topic: &str) {
        if let Some(held) = self.topics.remove(topic) {
            self.bytes -= u64::from(held.bytes);
        }
    }
}

fn as_str(bound: &Bound<String>) -> Bound<&str> {
    match bound {
        Bound::Included(text) => Bound::Included(text),
        Bound::Excluded(text) => Bound::Excluded(text),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// A filter, taken apart.
struct Search<'f> {
    levels: Vec<&'f str>,
    /// What every matching topic starts with: the literal levels in front of the first wildcard.
    fixed: String,
}

/// What to do after a topic.
enum Step {
    Match,
    /// It does not match; look at the one behind it.
    Next,
    /// It does not match, nor does any before this.
    Seek(String),
    End,
}

/// The character behind `/`: the end of all topics below a level.
const BEHIND_SLASH: char = '0';

impl<'f> Search<'f> {
    fn new(filter: &'f str) -> Self {
        let levels: Vec<&str> = filter.split('/').collect();
        let literal = levels
            .iter()
            .take_while(|level| !matches!(**level, "+" | "#"))
            .count();
        Self {
            fixed: levels[..literal].join("/"),
            levels,
        }
    }

    /// Topics are in order of their bytes, in which all topics below `a/b` lie together: between
    /// `a/b/` and `a/b0`. (`a/b` itself comes before, and so may `a/b!` and the like.)
    fn look_at(&self, topic: &str) -> Step {
        if !topic.starts_with(&self.fixed) {
            return Step::End;
        }
        // Where in `topic` the level at hand begins.
        let mut start = 0;
        for (number, level) in self.levels.iter().enumerate() {
            if number == 0 && matches!(*level, "+" | "#") && topic.starts_with('$') {
                return Step::Seek("%".to_owned());
            }
            if *level == "#" {
                return Step::Match;
            }
            let end = topic[start..]
                .find('/')
                .map_or(topic.len(), |at| start + at);
            if *level != "+" && *level != &topic[start..end] {
                return self.behind_mismatch(topic, start, number);
            }
            let last = number + 1 == self.levels.len();
            if end == topic.len() {
                // "a/#" takes "a" too.
                let rest = &self.levels[number + 1..];
                return if rest.is_empty() || rest == ["#"] {
                    Step::Match
                } else {
                    Step::Next
                };
            }
            if last {
                // The topic goes on, as do all below this level.
                return Step::Seek(format!("{}{BEHIND_SLASH}", &topic[..end]));
            }
            start = end + 1;
        }
        Step::Match
    }

    /// `topic` has, from `start` on, something else than the literal level `number`.
    fn behind_mismatch(&self, topic: &str, start: usize, number: usize) -> Step {
        let wanted = format!("{}{}", &topic[..start], self.levels[number]);
        if *topic < *wanted {
            return Step::Seek(wanted);
        }
        if number + 1 < self.levels.len() {
            let below = format!("{wanted}/");
            if *topic < *below {
                return Step::Seek(below);
            }
        }
        if start == 0 {
            return Step::End;
        }
        // Nothing more below the level in front; `start` is behind its slash.
        Step::Seek(format!("{}{BEHIND_SLASH}", &topic[..start - 1]))
    }
}

#[cfg(test)]
mod tests;
