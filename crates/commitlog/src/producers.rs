//! What a partition remembers of its idempotent and transactional producers (KIP-98): which batch
//! must come next, which came already, which transactions are open. Files and threads are not known
//! here; the same batches at the same times give the same memory, live and in replay.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::aborted::{AbortedEntry, AbortedRange};
use crate::batch::{BatchHead, BatchView, Marker};
use crate::entry::Refusal;
use crate::fields::{Fields, Malformed, Put};
use crate::limits::{BATCHES_A_PRODUCER, PRODUCERS_A_PARTITION_MAX};

/// What is known of a producer in a partition, as Kafka's `DescribeProducers` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its id.
    pub producer_id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// Sequence number of its last record, -1 when none of this epoch is known.
    pub last_sequence: i32,
    /// When it last sent something, ms since 1970.
    pub last_ms: u64,
    /// Epoch of the coordinator that last ended a transaction of it, -1 without.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, if there is one.
    pub txn_first_offset: Option<u64>,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    known: HashMap<i64, Known, Hasher>,
    /// First offset of each open transaction, and whose it is.
    open: BTreeMap<u64, i64>,
}

/// Without a random seed: a start is deterministic.
type Hasher = BuildHasherDefault<DefaultHasher>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    epoch: i16,
    coordinator_epoch: i32,
    last_ms: u64,
    txn_first_offset: Option<u64>,
    /// The last batches of this epoch, oldest first; one that follows the other.
    sent: Vec<Sent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: u64,
}

/// Whether a batch, read at its header, names a producer. The one question that batches of MQTT
/// messages cost.
#[inline]
pub(crate) fn names_producer(batch: &[u8]) -> bool {
    batch.get(43..51).is_some_and(|id| id != [0xff; 8])
}

impl Known {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_ms: 0,
            txn_first_offset: None,
            sent: Vec::new(),
        }
    }

    fn is_expired(&self, now_ms: u64, expiry_ms: u64) -> bool {
        self.txn_first_offset.is_none() && now_ms.saturating_sub(self.last_ms) >= expiry_ms
    }

    /// Whether a batch of this epoch that begins with `sequence` is the next.
    fn is_next(&self, sequence: i32) -> bool {
        match self.sent.last() {
            Some(last) => sequence == sequence_after(last.last_sequence, 1),
            None => sequence == 0,
        }
    }

    fn duplicate_of(&self, head: &BatchHead) -> Option<u64> {
        let last_sequence = last_sequence(head);
        let same = |sent: &&Sent| {
            sent.first_sequence == head.base_sequence() && sent.last_sequence == last_sequence
        };
        self.sent.iter().find(same).map(|sent| sent.base_offset)
    }
}

impl Producers {
    /// Whether the batch of a producer may be appended now; nothing changes. The marker is that of
    /// a control batch. Without room in the node no producer is taken that is not known here; what
    /// ends a transaction is.
    pub fn judge(
        &self,
        batch: &BatchView<'_>,
        now_ms: u64,
        expiry_ms: u64,
        has_room: bool,
    ) -> Result<Option<Marker>, Refusal> {
        let marker = batch.marker();
        let sequenced = batch.base_sequence() >= 0 && batch.producer_epoch() >= 0;
        if batch.producer_id() < 0 || (marker.is_none() && (batch.is_control() || !sequenced)) {
            return Err(Refusal::MalformedBatch);
        }
        let known = self.known.get(&batch.producer_id());
        let Some(known) = known.filter(|known| !known.is_expired(now_ms, expiry_ms)) else {
            let full = self.open.len() >= PRODUCERS_A_PARTITION_MAX;
            return if full || (!has_room && marker.is_none()) {
                Err(Refusal::TooManyProducers)
            } else {
                Ok(marker)
            };
        };
        if batch.producer_epoch() < known.epoch {
            return Err(Refusal::InvalidProducerEpoch);
        }
        if let Some(marker) = marker {
            return if marker.coordinator_epoch < known.coordinator_epoch {
                Err(Refusal::CoordinatorFenced)
            } else {
                Ok(Some(marker))
            };
        }
        let in_order = if batch.producer_epoch() == known.epoch {
            if let Some(base_offset) = known.duplicate_of(batch) {
                return Err(Refusal::DuplicateSequence { base_offset });
            }
            known.is_next(batch.base_sequence())
        } else {
            batch.base_sequence() == 0
        };
        if !in_order {
            return Err(Refusal::OutOfOrderSequence);
        }
        if known.txn_first_offset.is_some() && !batch.is_transactional() {
            return Err(Refusal::InvalidTxnState);
        }
        Ok(None)
    }

    /// Takes note of a batch that is appended at `base_offset`; the entry of the index where it
    /// aborts a transaction.
    pub fn appended(
        &mut self,
        head: &BatchHead,
        marker: Option<Marker>,
        base_offset: u64,
        now_ms: u64,
        expiry_ms: u64,
    ) -> Option<AbortedEntry> {
        let producer_id = head.producer_id();
        if producer_id < 0 || (head.is_control() && marker.is_none()) {
            return None;
        }
        if !self.known.contains_key(&producer_id) {
            self.make_room(now_ms, expiry_ms);
        }
        let epoch = head.producer_epoch();
        let known = self
            .known
            .entry(producer_id)
            .or_insert_with(|| Known::new(epoch));
        if known.is_expired(now_ms, expiry_ms) {
            *known = Known::new(epoch);
        }
        known.last_ms = now_ms;
        if epoch > known.epoch {
            known.epoch = epoch;
            known.sent.clear();
        }
        if let Some(marker) = marker {
            known.coordinator_epoch = marker.coordinator_epoch;
            let first_offset = known.txn_first_offset.take()?;
            self.open.remove(&first_offset);
            let last_stable = self.first_unstable().unwrap_or(base_offset + 1);
            return (!marker.commit).then_some(AbortedEntry {
                range: AbortedRange {
                    producer_id,
                    first_offset,
                    last_offset: base_offset,
                },
                last_stable,
            });
        }
        if !known.is_next(head.base_sequence()) {
            // The first that is known of this producer, wherever it is in its sequence.
            known.sent.clear();
        }
        if known.sent.len() == BATCHES_A_PRODUCER {
            known.sent.remove(0);
        }
        known.sent.push(Sent {
            first_sequence: head.base_sequence(),
            last_sequence: last_sequence(head),
            base_offset,
        });
        if head.is_transactional() && known.txn_first_offset.is_none() {
            known.txn_first_offset = Some(base_offset);
            self.open.insert(base_offset, producer_id);
        }
        None
    }

    /// First offset of the oldest open transaction.
    pub fn first_unstable(&self) -> Option<u64> {
        self.open.keys().next().copied()
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// When each that has no transaction open last sent something, and its id.
    pub fn idle(&self) -> impl Iterator<Item = (u64, i64)> {
        let idle = |known: &Known| known.txn_first_offset.is_none();
        let known = self.known.iter().filter(move |(_, known)| idle(known));
        known.map(|(id, known)| (known.last_ms, *id))
    }

    /// Forgets one that has no transaction open.
    pub fn forget(&mut self, id: i64) {
        self.known.remove(&id);
    }

    /// Forgets who sent nothing for so long.
    pub fn expire(&mut self, now_ms: u64, expiry_ms: u64) {
        self.known
            .retain(|_, known| !known.is_expired(now_ms, expiry_ms));
        if self.known.is_empty() {
            *self = Self::default();
        }
    }

    /// All that are remembered, by their ids.
    pub fn states(&self) -> Vec<ProducerState> {
        let state = |(id, known): (&i64, &Known)| ProducerState {
            producer_id: *id,
            epoch: known.epoch,
            last_sequence: known.sent.last().map_or(-1, |sent| sent.last_sequence),
            last_ms: known.last_ms,
            coordinator_epoch: known.coordinator_epoch,
            txn_first_offset: known.txn_first_offset,
        };
        let mut states: Vec<_> = self.known.iter().map(state).collect();
        states.sort_unstable_by_key(|state| state.producer_id);
        states
    }

    /// Makes sure that one more can be remembered: first those go that are expired anyway, then an
    /// eighth of all, the longest silent, so that a flood of ids costs little for each.
    fn make_room(&mut self, now_ms: u64, expiry_ms: u64) {
        if self.known.len() < PRODUCERS_A_PARTITION_MAX {
            return;
        }
        self.expire(now_ms, expiry_ms);
        if self.known.len() < PRODUCERS_A_PARTITION_MAX {
            return;
        }
        let mut idle: Vec<_> = self.idle().collect();
        idle.sort_unstable();
        idle.truncate(PRODUCERS_A_PARTITION_MAX / 8);
        for (_, id) in idle {
            self.known.remove(&id);
        }
    }

    /// Adds them to the catalogue.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(u32::try_from(self.known.len()).expect("producers are bounded"));
        let mut ids: Vec<_> = self.known.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let known = &self.known[&id];
            out.put_u64(id as u64);
            out.put_u16(known.epoch as u16);
            out.put_u32(known.coordinator_epoch as u32);
            out.put_u64(known.last_ms);
            out.put_option(known.txn_first_offset);
            out.put_u8(known.sent.len() as u8);
            for sent in &known.sent {
                out.put_u32(sent.first_sequence as u32);
                out.put_u32(sent.last_sequence as u32);
                out.put_u64(sent.base_offset);
            }
        }
    }

    pub fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let mut producers = Self::default();
        for _ in 0..fields.u32()? {
            let id = fields.u64()? as i64;
            let mut known = Known::new(fields.u16()? as i16);
            known.coordinator_epoch = fields.u32()? as i32;
            known.last_ms = fields.u64()?;
            known.txn_first_offset = fields.option()?;
            for _ in 0..fields.u8()? {
                known.sent.push(Sent {
                    first_sequence: fields.u32()? as i32,
                    last_sequence: fields.u32()? as i32,
                    base_offset: fields.u64()?,
                });
            }
            if known.sent.len() > BATCHES_A_PRODUCER {
                return Err("a producer has too many batches");
            }
            if let Some(first_offset) = known.txn_first_offset {
                producers.open.insert(first_offset, id);
            }
            producers.known.insert(id, known);
        }
        Ok(producers)
    }
}

fn last_sequence(head: &BatchHead) -> i32 {
    sequence_after(head.base_sequence(), head.last_offset_delta())
}

/// The sequence `steps` further on; behind the greatest comes 0.
fn sequence_after(sequence: i32, steps: u32) -> i32 {
    let next = u64::from(sequence.unsigned_abs()) + u64::from(steps);
    (next % (1 << 31)) as i32
}

#[cfg(test)]
pub(crate) mod tests;
