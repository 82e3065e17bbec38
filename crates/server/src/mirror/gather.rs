//! What a round takes from the log: the next records of the lanes whose turn it is, handed to
//! librdkafka up to a round's bounds. What becomes of them it does not know.

use std::sync::atomic::Ordering;
use std::time::Instant;

use commitlog::RecordView;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;
use tracing::{error, warn};

use super::board::State;
use super::failures::mark;
use super::lanes::{Lane, Read};
use super::limits::{READ_BYTES, REST_MAX, ROUND_RECORDS_MAX};
use super::native::Outgoing;
use super::round::Round;
use super::shard::{Link, Shard};

impl Shard {
    /// Hands over what is there, lane by lane, up to a round's bounds; true: all of it.
    pub(super) fn gather(&mut self, link: &mut Link, round: &mut Round) -> bool {
        let (mut more, count) = (true, link.lanes.all.len());
        // Another goes first each time: room may be short.
        self.first = self.first.wrapping_add(1);
        while more && round.records < ROUND_RECORDS_MAX && round.bytes < self.room {
            more = false;
            for step in 0..count {
                let at = (self.first + step) % count;
                let lane = &link.lanes.all[at];
                let rests = self.is_resting(lane.stream) || link.topics[lane.stream].is_none();
                let alone = lane.search.is_some() || round.refused.contains(&at);
                if rests || alone || lane.is_unreadable() {
                    continue;
                }
                let before = round.bytes;
                more |= self.gather_lane(link, round, at, u64::MAX) == Read::More
                    && round.bytes - before >= (READ_BYTES / 2) as u64;
                if round.is_closed() {
                    return false;
                }
            }
        }
        !more
    }

    /// The next records of a lane that is suspected; true when these are all, or as many as a round
    /// has.
    pub(super) fn gather_few(&mut self, link: &mut Link, round: &mut Round, at: usize) -> bool {
        let budget = link.lanes.all[at].search.map_or(1, |search| search.records);
        let budget = budget.min(ROUND_RECORDS_MAX);
        while round.records < budget && round.bytes < self.room && !round.is_closed() {
            if self.gather_lane(link, round, at, budget) == Read::End {
                return !round.is_closed() && round.refused.is_empty();
            }
        }
        !round.is_closed() && budget == ROUND_RECORDS_MAX
    }

    fn gather_lane(&mut self, link: &mut Link, round: &mut Round, at: usize, budget: u64) -> Read {
        let lost = link.lanes.lost(at);
        let stream = link.lanes.all[at].stream;
        let figures = self.parts.node.mirror.stream(stream);
        if lost > 0 {
            figures.lost.fetch_add(lost, Ordering::Relaxed);
            let lane = &link.lanes.all[at];
            let node = &self.parts.node;
            node.never_mirrored(lane.id, lane.next - lost..lane.next);
            warn!(
                stream = self.parts.settings.streams[stream].stream,
                partition = lane.index,
                lost,
                "retention dropped records before they were mirrored"
            );
        }
        let Link {
            topics,
            native,
            lanes,
            ..
        } = link;
        let Some(topic) = topics[stream].as_ref() else {
            return Read::End;
        };
        let (board, exactly_once) = (&self.parts.node.mirror, self.parts.settings.exactly_once);
        let room = self.room;
        let read = lanes.read(at, &mut |lane: &Lane, record: &RecordView<'_>| {
            if round.records >= budget || round.bytes >= room {
                return false;
            }
            if !round.begun {
                // Only the state of the client could refuse it; then the first record tells.
                round.begun = !exactly_once || native.producer().begin_transaction().is_ok();
            }
            if lane.records == 0 {
                board.oldest(lane.id, record.timestamp_ms);
            }
            let sent = native.send(
                topic,
                Outgoing {
                    timestamp_ms: record.timestamp_ms,
                    key: record.key,
                    value: record.value,
                    headers: record.headers(),
                    mark: mark(at, record.offset - lane.position),
                },
            );
            match sent {
                Ok(()) => {
                    round.records += 1;
                    let field = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len) as u64;
                    round.bytes += field(record.key) + field(record.value);
                    true
                }
                Err(Code::QueueFull) => {
                    round.full = true;
                    false
                }
                Err(Code::MessageSizeTooLarge) => {
                    round.refused.insert(at);
                    false
                }
                Err(code) => {
                    round.broken = Some((at, code));
                    false
                }
            }
        });
        if round.refused.contains(&at) {
            return Read::End;
        }
        match read {
            Ok(read) => {
                self.readable(link, at);
                read
            }
            Err(error) => {
                self.unreadable(link, at, &error.to_string());
                Read::End
            }
        }
    }

    /// A partition cannot be read: the others of its stream go on.
    fn unreadable(&self, link: &mut Link, at: usize, why: &str) {
        let lane = &mut link.lanes.all[at];
        lane.unreadable_until = Some(Instant::now() + REST_MAX);
        let why = format!("partition {} of the log cannot be read: {why}", lane.index);
        let board = &self.parts.node.mirror;
        board.error("unreadable");
        if board.stream_stands(lane.stream, State::Failed, Some(&why)) {
            let stream = &self.parts.settings.streams[lane.stream].stream;
            error!(stream, why, "a partition is not mirrored; the others go on");
        }
    }

    fn readable(&self, link: &mut Link, at: usize) {
        let lane = &mut link.lanes.all[at];
        if lane.unreadable_until.take().is_none() {
            return;
        }
        let stream = lane.stream;
        let others = link.lanes.all.iter();
        if !others
            .clone()
            .any(|lane| lane.stream == stream && lane.unreadable_until.is_some())
        {
            let board = &self.parts.node.mirror;
            board.stream_stands(stream, State::Connected, None);
        }
    }
}
