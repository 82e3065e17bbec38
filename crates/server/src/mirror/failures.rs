//! What is done about a round that failed: it is aborted, the records to blame are looked for, and
//! what the cluster will never take goes to the dead-letter stream. How a round runs it does not know.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;
use tracing::warn;

use super::cluster::Trouble;
use super::dead_letter::{self, Origin};
use super::lanes::{Lane, Search};
use super::limits::{BACK_FROM_ALL, DEAD_LETTER_WAIT, READING, ROUND_BYTES_MIN, STEP};
use super::round::Round;
use super::shard::{Link, Shard};
use super::topics::UNWRITABLE;

/// Bits of a mark that count records of a lane from its position on; above them stands the lane.
const MARK_BITS: u32 = 40;

/// The records of a lane that were not delivered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    /// The offset of the last of them.
    pub last: u64,
    /// How many.
    pub count: u64,
    /// Why.
    pub code: Code,
}

/// Who is to blame for a record that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// The record itself: the topic will never take it.
    Record,
    /// The topic, or the node that has it: a full disk, too few replicas. It goes away by itself, and
    /// until then its stream rests.
    Topic,
    /// Who may change permissions.
    Operator,
    /// It was given up because others failed, or nothing moved.
    Others,
}

impl Blame {
    fn of(code: Code) -> Self {
        match code {
            Code::PurgeQueue | Code::PurgeInflight => Self::Others,
            Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::MessageBatchTooLarge => Self::Record,
            Code::TopicAuthorizationFailed => Self::Operator,
            _ => Self::Topic,
        }
    }
}

impl Shard {
    /// Aborts the round; the next begins where this one did, without what failed.
    pub(super) fn give_up(
        &mut self,
        link: &mut Link,
        round: &mut Round,
        why: &str,
    ) -> Result<(), Trouble> {
        let exactly_once = self.parts.settings.exactly_once;
        self.parts.node.mirror.transaction(false);
        let cut_short = round.stalled || round.slow;
        if cut_short {
            self.room = (self.room / 2).max(ROUND_BYTES_MIN);
        }
        if exactly_once || cut_short {
            link.native.purge();
        }
        let start = Instant::now();
        let aborted = loop {
            take_failures(link, round);
            if !exactly_once {
                break !cut_short && link.native.drain(Duration::ZERO);
            }
            match link.native.producer().abort_transaction(STEP / 5) {
                Ok(()) => break true,
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                    self.patience(start)?;
                    self.decided(start)?;
                }
                Err(error) => return Err(Trouble::of("cannot abort", &error, &self.ears)),
            }
        };
        let failed = std::mem::take(&mut round.failed);
        let took_part = link.lanes.all.iter().filter(|lane| lane.records > 0);
        let took_part: BTreeSet<usize> = took_part.map(|lane| lane.stream).collect();
        for (at, lane) in link.lanes.all.iter_mut().enumerate() {
            if exactly_once || cut_short || failed.contains_key(&at) {
                lane.rewind();
            }
        }
        // Without a transaction the other lanes have what they sent.
        self.settle(link);
        for (at, failure) in &failed {
            self.parts.node.mirror.error(&format!("{:?}", failure.code));
            self.judge(link, *at, *failure, round, why);
        }
        if round.denied && !took_part.iter().any(|stream| self.is_resting(*stream)) {
            self.beat(BACK_FROM_ALL)?;
            self.deny(link, &took_part);
        }
        if !aborted {
            // What was given up in flight may be there all the same: a new producer begins anew.
            return Err(Trouble::Waiting(why.to_owned()));
        }
        Ok(())
    }

    /// What to do about a lane whose records failed.
    fn judge(&mut self, link: &mut Link, at: usize, failure: Failure, round: &Round, why: &str) {
        let stream = link.lanes.all[at].stream;
        match Blame::of(failure.code) {
            Blame::Others => {
                if round.stalled && !self.is_resting(stream) {
                    self.rest(stream, why);
                }
            }
            Blame::Record => {
                let lane = &mut link.lanes.all[at];
                let until = failure.last + 1;
                // Whoever is suspected went alone: the round's records were its own.
                let narrowed = match lane.search {
                    Some(_) => Search::narrowed(round.records, until),
                    None => Search::narrowed(failure.count.max(2), until),
                };
                if narrowed.is_none() {
                    return self.bury(link, at, &failure.code.to_string());
                }
                lane.search = narrowed;
            }
            Blame::Operator => self.rest(stream, UNWRITABLE),
            Blame::Topic => {
                let why = format!("the topic does not take records: {}", failure.code);
                self.rest(stream, &why);
            }
        }
    }

    /// Puts the record at a lane's position into the dead-letter stream and goes on behind it.
    fn bury(&mut self, link: &mut Link, at: usize, reason: &str) {
        self.parts.pulse.beat(READING);
        let settings = &self.parts.settings;
        let node = &self.parts.node;
        let lane = &link.lanes.all[at];
        let (stream, partition) = (lane.stream, lane.index);
        let mirrored = &settings.streams[stream];
        let into = node.log.stream(&settings.dead_letter);
        let Some(into) = into.and_then(|meta| meta.partitions.first().copied()) else {
            self.rest(stream, "the dead-letter stream is gone");
            return;
        };
        let origin = Origin {
            stream: &mirrored.stream,
            partition,
            topic: &mirrored.topic,
            reason,
        };
        let found = link.lanes.first_record(at, |record| {
            (record.offset, dead_letter::entry(into, record, origin))
        });
        let (offset, entry) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => {
                self.rest(stream, &format!("the log cannot be read: {error}"));
                return;
            }
        };
        let kept = self.parts.runtime.block_on(async {
            let keeping = async {
                let appended = node.append(entry).await?;
                node.flushed(appended.lsn).await
            };
            tokio::time::timeout(DEAD_LETTER_WAIT, keeping).await
        });
        if !matches!(kept, Ok(Ok(()))) {
            self.rest(
                stream,
                "a refused record could not be put into the dead-letter stream",
            );
            return;
        }
        warn!(
            stream = mirrored.stream,
            partition,
            offset,
            topic = mirrored.topic,
            reason,
            dead_letter = settings.dead_letter,
            "the cluster refuses a record; it is in the dead-letter stream now"
        );
        let figures = node.mirror.stream(stream);
        figures.dead_letters.fetch_add(1, Ordering::Relaxed);
        let lane = &mut link.lanes.all[at];
        node.never_mirrored(lane.id, offset..offset + 1);
        lane.skip(offset);
        link.skipped = true;
        node.mirrored(lane.id, lane.position);
        node.mirrored_moved();
    }

    /// librdkafka takes no records: for a topic's sake, or because the client is of no use any more.
    pub(super) fn broken(&mut self, link: &Link, lane: usize, code: Code) -> Result<(), Trouble> {
        let stream = link.lanes.all[lane].stream;
        match code {
            Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => {
                self.rest(stream, &format!("unknown topic ({code})"));
            }
            Code::TopicAuthorizationFailed => self.rest(stream, UNWRITABLE),
            _ => {
                let what = "librdkafka takes no records";
                return Err(Trouble::Waiting(format!("{what}: {code}")));
            }
        }
        Ok(())
    }

    pub(super) fn bury_refused(&mut self, link: &mut Link, round: &Round) -> bool {
        for lane in &round.refused {
            self.bury(link, *lane, "larger than message.max.bytes of the client");
        }
        !round.refused.is_empty()
    }
}

/// What comes back with a record that failed: its lane, and its place behind the lane's position.
pub(super) fn mark(lane: usize, record: u64) -> usize {
    (lane << MARK_BITS) | (record & ((1 << MARK_BITS) - 1)) as usize
}

fn lane_of(mark: usize) -> usize {
    mark >> MARK_BITS
}

/// Takes the reports of records that were not delivered.
pub(super) fn take_failures(link: &Link, round: &mut Round) {
    link.native
        .serve(|mark, code| note(round, &link.lanes.all, mark, code));
}

/// Notes a record that was not delivered; what the record itself is to blame for counts more than
/// what befell its neighbours.
fn note(round: &mut Round, lanes: &[Lane], mark: usize, code: Code) {
    let at = lane_of(mark);
    let offset = lanes[at].position + (mark as u64 & ((1 << MARK_BITS) - 1));
    let purged = matches!(code, Code::PurgeQueue | Code::PurgeInflight);
    let known = round.failed.entry(at).or_insert(Failure {
        last: offset,
        count: 0,
        code,
    });
    let known_purged = matches!(known.code, Code::PurgeQueue | Code::PurgeInflight);
    if purged && !known_purged {
        return;
    }
    if known_purged && !purged {
        *known = Failure {
            last: offset,
            count: 0,
            code,
        };
    }
    known.last = known.last.max(offset);
    known.count += 1;
}

/// Why the first lane that failed did.
pub(super) fn failure_words(round: &Round) -> String {
    let first = round.failed.values().next();
    first.map_or(String::new(), |failure| failure.code.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_thin_cluster_is_an_outage_and_no_record_is_put_aside_for_it() {
        for code in [
            Code::KafkaStorageError,
            Code::NotEnoughReplicas,
            Code::NotEnoughReplicasAfterAppend,
            Code::LeaderNotAvailable,
            Code::NotLeaderForPartition,
            Code::MessageTimedOut,
            Code::RequestTimedOut,
            Code::PolicyViolation,
            Code::ThrottlingQuotaExceeded,
            Code::UnknownTopicOrPartition,
        ] {
            assert_eq!(Blame::of(code), Blame::Topic, "{code}");
        }
        for code in [
            Code::MessageSizeTooLarge,
            Code::InvalidTimestamp,
            Code::InvalidRecord,
        ] {
            assert_eq!(Blame::of(code), Blame::Record, "{code}");
        }
        assert_eq!(Blame::of(Code::PurgeInflight), Blame::Others);
        assert_eq!(Blame::of(Code::TopicAuthorizationFailed), Blame::Operator);
    }
}
