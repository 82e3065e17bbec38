//! What happened although the log had no room to take it down: wills that are due, and the records
//! of events. They are written again when there is room; a bounded number of bytes waits for that.

use super::Shard;
use crate::input::{Now, Returned};
use crate::limits::LOST_BYTES_MAX;
use crate::outbox::Outbox;
use crate::turn::{EventRecord, PublishFacts};
use crate::will::OwnedWill;
use std::collections::VecDeque;
use std::sync::Arc;

/// A will that is published, with all that its PUBLISH needs.
#[derive(Debug)]
pub(super) struct LastWords {
    pub client_id: Arc<str>,
    pub username: Option<Box<str>>,
    pub will: Box<OwnedWill>,
}

impl LastWords {
    fn size_bytes(&self) -> usize {
        let will = &self.will;
        size_of::<Self>() + will.topic.len() + will.payload.len() + will.forwarded.len()
    }
}

/// Wills and events that the log refused, in their order.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Wills on their way into the log, by turn.
    published: VecDeque<(u64, LastWords)>,
    wills: VecDeque<LastWords>,
    events: VecDeque<EventRecord>,
    bytes: usize,
}

impl Lost {
    /// Turns up to `turn` are in the log.
    pub(super) fn confirmed(&mut self, turn: u64) {
        while self.published.front().is_some_and(|&(at, _)| at <= turn) {
            self.published.pop_front();
        }
    }

    /// Whether anything waits to be written again.
    pub(super) fn is_empty(&self) -> bool {
        self.wills.is_empty() && self.events.is_empty()
    }

    /// The log refused a turn. Answers how many records found no room here.
    fn refused(&mut self, turn: u64, returned: &Returned<'_>) -> u64 {
        let mut dropped = 0;
        let mut fits = |bytes: usize| {
            let fits = self.bytes + bytes <= LOST_BYTES_MAX;
            self.bytes += if fits { bytes } else { 0 };
            dropped += u64::from(!fits);
            fits
        };
        while self.published.front().is_some_and(|&(at, _)| at <= turn) {
            let Some((_, words)) = self.published.pop_front() else {
                break;
            };
            if fits(words.size_bytes()) {
                self.wills.push_back(words);
            }
        }
        for record in EventRecord::of(returned.entry, returned.messages) {
            if fits(record.size_bytes()) {
                self.events.push_back(record);
            }
        }
        dropped
    }
}

impl Shard {
    /// Publishes a will, and again if the log refuses it.
    pub(super) fn publish_words(&mut self, words: LastWords, now: Now, out: &mut Outbox) {
        let will = &words.will;
        let facts = PublishFacts {
            client_id: &words.client_id,
            username: words.username.as_deref().unwrap_or(""),
            topic: &will.topic,
            payload: &will.payload,
            qos: will.qos,
            retain: will.retain,
            dup: false,
            properties: &will.properties(),
            peer: None,
            principal: None,
            now_ms: now.wall_ms,
        };
        let turn = out.turn.number();
        self.publish_facts(&facts, out);
        self.lost.published.push_back((turn, words));
    }

    /// The log refused a turn, and gave back what was in it.
    pub(super) fn keep_lost(&mut self, turn: u64, returned: Option<&Returned<'_>>) {
        match returned {
            Some(returned) => self.stats.events_lost += self.lost.refused(turn, returned),
            // After a failed write recovery decides what has happened.
            None => self.lost.confirmed(turn),
        }
    }

    /// Writes what was refused into this turn.
    pub(super) fn write_lost_events(&mut self, now: Now, out: &mut Outbox) {
        self.lost.bytes = 0;
        for words in std::mem::take(&mut self.lost.wills) {
            self.publish_words(words, now, out);
        }
        for record in std::mem::take(&mut self.lost.events) {
            out.turn.again(&record);
        }
    }
}
