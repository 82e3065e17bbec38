//! Answers of level `kafka`: they leave when the cluster behind has every partition that their
//! message went to, or as failures when that takes too long. Knows watermarks, not the mirror.

use super::Shard;
use super::answers::Answer;
use super::connection::Connection;
use crate::hooks::HookTable;
use crate::input::{ConnId, Now};
use crate::limits::MIRROR_WAITING_MAX;
use crate::message::{Commit, REFUSED};
use crate::outbox::Outbox;
use crate::session::SessionRef;
use crate::shard::timers::Due;
use commitlog::{Ack as Level, PartitionId};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use mqtt::{AckKind, ReasonCode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Why a client of MQTT 3 is cut off that waited for too long.
const TOO_LATE: &str = "ack_timeout";

/// The same whose message the cluster behind refused, or never got.
const NOT_MIRRORED: &str = "not_mirrored";

/// How soon a deadline is looked at again whose turn is not even in the log.
const AGAIN_MS: u64 = 1_000;

/// Forgotten turns that may stand in the lists of partitions before these are looked through.
const GONE_MIN: usize = 1_024;

/// The turn of everything that was in the log before this start.
const BEFORE_START: u64 = 0;

/// The turn of what the cluster will never have: no answer for it is ever a success.
const NEVER: u64 = u64::MAX;

/// What a message waits for: those partitions of its turn whose bits are set, all that share a bit
/// being waited for together. No bits: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Gate {
    pub turn: u64,
    pub bits: u64,
}

impl Gate {
    /// Whether the cluster will never have what it stands for.
    pub(super) fn is_never(self) -> bool {
        self.turn == NEVER
    }
}

/// The bit of a partition.
pub(crate) fn bit_of(partition: PartitionId) -> u64 {
    1 << (partition % u64::BITS)
}

/// What waits for the cluster behind, and how far that is.
#[derive(Debug, Default)]
pub(super) struct Mirrored {
    turns: BTreeMap<u64, Pending>,
    /// Turns that wait for a partition, with the offsets that they wait for; the ends rise.
    awaited: BTreeMap<PartitionId, VecDeque<(Range<u64>, u64)>>,
    /// How far the partitions are that anybody ever waited for.
    passed: HashMap<PartitionId, Passed, RandomState>,
    /// When answers have waited too long: time, turn, connection.
    deadlines: VecDeque<(u64, u64, ConnId)>,
    armed: bool,
    /// What repetitions of QoS 2 messages wait for: session and packet id.
    received: HashMap<(u64, u16), Gate, RandomState>,
    /// Answers of this level that have not been given.
    pub waiting: usize,
    /// A partition is waited for whose end may have been passed before.
    fresh: bool,
    /// Turns that were forgotten and may still stand in `awaited`.
    gone: usize,
    /// Hooks that turns in front of that one went by and that may still come into the log.
    former: VecDeque<(u64, Arc<HookTable>)>,
}

/// How far the cluster is with a partition.
#[derive(Debug, Default)]
struct Passed {
    end: u64,
    /// The last stretch of it that the cluster will never have: in front of its end nothing is taken
    /// for mirrored without being asked for again.
    never: u64,
}

impl Passed {
    fn has(&self, offsets: &Range<u64>) -> bool {
        offsets.end <= self.end && offsets.start >= self.never
    }
}

/// A turn with answers that wait.
#[derive(Debug, Default)]
struct Pending {
    /// What of it the cluster does not have; `None` until it is in the log.
    parts: Option<BTreeSet<PartitionId>>,
    waiters: Vec<ConnId>,
    /// Those of [`Mirrored::received`] that wait for it.
    received: Vec<(u64, u16)>,
}

impl Pending {
    fn open_bits(&self) -> u64 {
        match &self.parts {
            None => u64::MAX,
            Some(parts) => parts.iter().fold(0, |bits, &part| bits | bit_of(part)),
        }
    }
}

impl Mirrored {
    /// Whether the cluster has all that `gate` stands for.
    pub(super) fn is_open(&self, gate: Gate) -> bool {
        self.turns
            .get(&gate.turn)
            .is_none_or(|pending| pending.open_bits() & gate.bits == 0)
    }

    /// `conn` waits for a turn.
    fn wait(&mut self, gate: Gate, conn: ConnId, until_ms: u64) {
        let pending = self.turns.entry(gate.turn).or_default();
        if pending.waiters.last() != Some(&conn) {
            pending.waiters.push(conn);
            self.deadlines.push_back((until_ms, gate.turn, conn));
        }
    }

    /// Turns from `turn` on go by other hooks than these: streams may have other levels there.
    pub(super) fn went_by(&mut self, hooks: Arc<HookTable>, turn: u64) {
        if self.turns.values().any(|pending| pending.parts.is_none()) {
            self.former.push_back((turn, hooks));
        }
    }

    /// A turn of this worker is in the log.
    pub(super) fn committed(&mut self, commit: &Commit, hooks: &HookTable) {
        while self
            .former
            .pop_front_if(|(turn, _)| *turn <= commit.turn)
            .is_some()
        {}
        if !self.turns.contains_key(&commit.turn) {
            return;
        }
        // What was promised when it was published counts.
        let former = self.former.front().map(|(_, hooks)| Arc::clone(hooks));
        let hooks = former.as_deref().unwrap_or(hooks);
        let mut parts: BTreeMap<PartitionId, Range<u64>> = BTreeMap::new();
        for &(partition, base, records) in &commit.batches {
            if hooks.is_mirrored(partition) {
                // What was not appended is never mirrored: whoever waits for it is told so in time.
                let end = if base == REFUSED {
                    u64::MAX
                } else {
                    base + u64::from(records)
                };
                let known = parts.entry(partition).or_insert(base..end);
                *known = base.min(known.start)..end.max(known.end);
            }
        }
        self.expect(commit.turn, parts);
    }

    /// A turn is done when the cluster has these offsets of the partitions.
    fn expect(&mut self, turn: u64, awaited: BTreeMap<PartitionId, Range<u64>>) {
        let mut parts = BTreeSet::new();
        for (partition, offsets) in awaited {
            let passed = self.passed.get(&partition);
            if passed.is_some_and(|passed| passed.has(&offsets)) {
                continue;
            }
            parts.insert(partition);
            self.awaited
                .entry(partition)
                .or_default()
                .push_back((offsets, turn));
            self.fresh = true;
        }
        self.turns.entry(turn).or_default().parts = Some(parts);
        self.settle(turn);
    }

    /// Everything below `end` of a partition is mirrored, but for what is in `never`; answers the
    /// turns that this concerns, and whether the cluster will never have some of what they wait for.
    fn advance(
        &mut self,
        partition: PartitionId,
        end: u64,
        never: &[Range<u64>],
    ) -> Vec<(u64, bool)> {
        let passed = self.passed.entry(partition).or_default();
        passed.end = end.max(passed.end);
        if let Some(last) = never.last() {
            passed.never = last.end.max(passed.never);
        }
        let Some(awaited) = self.awaited.get_mut(&partition) else {
            return Vec::new();
        };
        let mut moved = Vec::new();
        while let Some((at, turn)) = awaited.pop_front_if(|(at, _)| at.end <= end) {
            let lacks = |it: &Range<u64>| it.start < at.end && at.start < it.end;
            moved.push((turn, never.iter().any(lacks)));
        }
        if awaited.is_empty() {
            self.awaited.remove(&partition);
        }
        moved
    }

    /// A turn waits for this partition no longer.
    fn passed(&mut self, turn: u64, partition: PartitionId) {
        let pending = self.turns.get_mut(&turn);
        if let Some(parts) = pending.and_then(|it| it.parts.as_mut()) {
            parts.remove(&partition);
        }
        self.settle(turn);
    }

    /// The cluster will never have what a turn has in a partition: a repetition of its QoS 2 messages
    /// is no success either.
    fn never(&mut self, turn: u64, partition: PartitionId) {
        let keys = match self.turns.get_mut(&turn) {
            Some(pending) => std::mem::take(&mut pending.received),
            None => return,
        };
        let bit = bit_of(partition);
        for key in keys {
            let Some(gate) = self.received.get_mut(&key) else {
                continue;
            };
            if gate.turn == turn && gate.bits & bit != 0 {
                *gate = Gate {
                    turn: NEVER,
                    bits: bit,
                };
            }
            let turn = gate.turn;
            let pending = self.turns.entry(turn).or_default();
            pending.received.push(key);
            if turn == NEVER {
                pending.parts.get_or_insert_default().insert(partition);
            }
        }
    }

    /// Forgets a turn that the cluster has as a whole.
    fn settle(&mut self, turn: u64) {
        let whole = |pending: &Pending| pending.parts.as_ref().is_some_and(BTreeSet::is_empty);
        if self.turns.get(&turn).is_some_and(whole) {
            self.drop_turn(turn);
        }
        while self
            .deadlines
            .front()
            .is_some_and(|(_, turn, _)| !self.turns.contains_key(turn))
        {
            self.deadlines.pop_front();
        }
    }

    /// One wait for a turn has come to its end without the cluster. A turn that nobody waits for any
    /// more is forgotten: an outage may be long.
    fn given_up(&mut self, turn: u64, conn: ConnId) {
        let Some(pending) = self.turns.get_mut(&turn) else {
            return;
        };
        if let Some(at) = pending.waiters.iter().position(|waiter| *waiter == conn) {
            pending.waiters.swap_remove(at);
        }
        // Without parts it is not in the log, and repetitions wait for what was there at the start.
        if pending.waiters.is_empty()
            && pending.received.is_empty()
            && pending.parts.is_some()
            && turn != BEFORE_START
            && turn != NEVER
        {
            self.drop_turn(turn);
            self.gone += 1;
        }
        if self.gone > self.turns.len() + GONE_MIN {
            self.gone = 0;
            let turns = &self.turns;
            self.awaited.retain(|_, awaited| {
                awaited.retain(|(_, turn)| turns.contains_key(turn));
                !awaited.is_empty()
            });
        }
    }

    /// The log took nothing of a turn.
    pub(super) fn refused(&mut self, turn: u64) {
        self.drop_turn(turn);
    }

    fn drop_turn(&mut self, turn: u64) {
        let Some(pending) = self.turns.remove(&turn) else {
            return;
        };
        for key in &pending.received {
            if self.received.get(key).is_some_and(|gate| gate.turn == turn) {
                self.received.remove(key);
            }
        }
    }

    /// The gate of a QoS 2 message that comes again.
    pub(super) fn repeated(&self, session: SessionRef, packet_id: u16) -> Option<Gate> {
        let before_start = Gate {
            turn: BEFORE_START,
            bits: u64::MAX,
        };
        self.received
            .get(&(session.born, packet_id))
            .copied()
            .or_else(|| {
                self.turns
                    .contains_key(&BEFORE_START)
                    .then_some(before_start)
            })
    }

    /// A QoS 2 message came in that the cluster must have before its PUBREC.
    pub(super) fn receive(&mut self, session: SessionRef, packet_id: u16, gate: Gate) {
        let key = (session.born, packet_id);
        self.received.insert(key, gate);
        self.turns.entry(gate.turn).or_default().received.push(key);
    }

    /// Its id is free again.
    pub(super) fn release(&mut self, session: SessionRef, packet_id: u16) {
        let key = (session.born, packet_id);
        let gate = self.received.remove(&key);
        if gate.is_some_and(Gate::is_never)
            && let Some(pending) = self.turns.get_mut(&NEVER)
        {
            pending.received.retain(|known| *known != key);
        }
    }

    /// Turns that are waited for, and ends of partitions.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        let awaited = self.awaited.values().map(VecDeque::len).sum();
        (self.turns.len(), awaited)
    }

    /// Whether one more answer of this level may not wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= MIRROR_WAITING_MAX
    }
}

impl Shard {
    /// Lets repetitions of QoS 2 messages that came before this start wait for what was in the log
    /// then: `ends` of the partitions whose streams have `ack = "kafka"`.
    #[must_use]
    pub fn with_mirror(mut self, ends: &[(PartitionId, u64)]) -> Self {
        let ends = ends.iter().filter(|(_, end)| *end > 0);
        // Of nothing but their ends, so that what befalls one message concerns no other.
        let ends = ends.map(|&(partition, end)| (partition, end..end));
        self.progress.mirror.expect(BEFORE_START, ends.collect());
        self
    }

    /// Partitions that answers wait for; the host tells how far they are whenever that changes.
    pub fn mirror_waits(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.progress.mirror.awaited.keys().copied()
    }

    /// Whether the host must look at [`Shard::mirror_waits`] although nothing has moved since it
    /// last did.
    pub fn take_new_mirror_waits(&mut self) -> bool {
        std::mem::take(&mut self.progress.mirror.fresh)
    }

    /// An answer waits for the cluster behind.
    pub(super) fn await_mirror(&mut self, gate: Gate, conn: ConnId, now: Now, out: &Outbox) {
        let until_ms = now.mono_ms + self.settings.mirror_ack_ms_max;
        let mirror = &mut self.progress.mirror;
        if gate.turn != out.turn.number() && !mirror.turns.contains_key(&gate.turn) {
            // The cluster has it; that this shard hears of the flush is all that is left.
            return;
        }
        mirror.wait(gate, conn, until_ms);
        if !mirror.armed {
            mirror.armed = true;
            self.timers.arm(until_ms, Due::Mirror);
        }
    }

    /// The cluster behind has everything of a partition below `end`, but for what is in `never`.
    pub(super) fn mirrored(
        &mut self,
        partition: PartitionId,
        end: u64,
        never: &[Range<u64>],
        now: Now,
        out: &mut Outbox,
    ) {
        for (turn, refused) in self.progress.mirror.advance(partition, end, never) {
            let waiters = match self.progress.mirror.turns.get(&turn) {
                Some(pending) => pending.waiters.clone(),
                None => continue,
            };
            if refused {
                let gate = Gate {
                    turn,
                    bits: bit_of(partition),
                };
                for &conn in &waiters {
                    let failed = self.fail_waiting(conn, gate, NOT_MIRRORED, now, out);
                    self.stats.mirror_timeouts += failed;
                }
                self.progress.mirror.never(turn, partition);
            }
            self.progress.mirror.passed(turn, partition);
            for conn in waiters {
                self.release(conn, now, out);
            }
        }
    }

    /// A connection is gone, and its answers with it.
    pub(super) fn forget_answers(&mut self, connection: &Connection) {
        let waiting = connection.answers.iter();
        let waiting = waiting.filter(|it| it.level == Level::Kafka).count();
        self.progress.mirror.waiting -= waiting;
    }

    /// Some answers have waited too long.
    pub(super) fn mirror_overdue(&mut self, now: Now, out: &mut Outbox) {
        let mut again_ms = None;
        while let Some(&(until_ms, turn, conn)) = self.progress.mirror.deadlines.front() {
            let pending = self.progress.mirror.turns.get(&turn);
            let is_logged = pending.is_none_or(|pending| pending.parts.is_some());
            if until_ms > now.mono_ms || !is_logged {
                again_ms = Some(until_ms.max(now.mono_ms + u64::from(!is_logged) * AGAIN_MS));
                break;
            }
            self.progress.mirror.deadlines.pop_front();
            if pending.is_some() {
                let gate = Gate {
                    turn,
                    bits: u64::MAX,
                };
                self.stats.mirror_timeouts += self.fail_waiting(conn, gate, TOO_LATE, now, out);
                self.progress.mirror.given_up(turn, conn);
            }
        }
        self.progress.mirror.armed = again_ms.is_some();
        if let Some(again_ms) = again_ms {
            self.timers.arm(again_ms, Due::Mirror);
        }
    }

    /// What waits behind a gate gets an error, never a success; MQTT 3 can only be cut off. Answers
    /// how many they were.
    fn fail_waiting(
        &mut self,
        conn: ConnId,
        behind: Gate,
        why: &'static str,
        now: Now,
        out: &mut Outbox,
    ) -> u64 {
        let Some(connection) = self.conns.get_mut(conn) else {
            return 0;
        };
        let (is_v5, slot) = (connection.version.is_v5(), connection.session);
        let mut late = Vec::new();
        let mut released = Vec::new();
        for (at, waiting) in connection.answers.iter_mut().enumerate() {
            let gate = waiting.gate();
            if waiting.level != Level::Kafka
                || waiting.turn != behind.turn
                || gate.bits & behind.bits == 0
                || self.progress.mirror.is_open(gate)
            {
                continue;
            }
            let Answer::Ack {
                kind,
                packet_id,
                reason,
            } = &mut waiting.answer
            else {
                continue;
            };
            late.push(at);
            *reason = ReasonCode::UnspecifiedError;
            waiting.level = Level::Memory;
            if *kind == AckKind::Pubrec {
                released.push((at, *packet_id));
            }
        }
        if late.is_empty() {
            return 0;
        }
        self.progress.mirror.waiting -= late.len();
        let count = late.len() as u64;
        if !is_v5 {
            self.disconnect(conn, ReasonCode::UnspecifiedError, why, now, out);
            return count;
        }
        self.release_ids(conn, slot, &released, now, out);
        self.release(conn, now, out);
        count
    }

    /// An error in PUBREC frees its packet id; were it known again after a crash, the next message
    /// with it would be taken for a repetition, acknowledged and lost. So the error waits until
    /// that is in the journal.
    fn release_ids(
        &mut self,
        conn: ConnId,
        slot: u32,
        released: &[(usize, u16)],
        now: Now,
        out: &mut Outbox,
    ) {
        let session = self.sessions.reference(slot);
        for &(at, packet_id) in released {
            self.progress.mirror.release(session, packet_id);
            if !self.sessions[slot].inbound.release(packet_id)
                || !self.sessions[slot].is_persistent()
            {
                continue;
            }
            self.erase_received(slot, packet_id, now, out);
            let turn = out.turn.number();
            if let Some(connection) = self.conns.get_mut(conn)
                && let Some(waiting) = connection.answers.get_mut(at)
            {
                waiting.level = Level::Flush;
                waiting.turn = turn;
                self.progress.await_flush(turn, conn);
            }
        }
    }
}
