//! Where the records of an event go: the hooks that take a topic, worked out once a topic and
//! remembered within bounds. Knows nothing of what the records hold.

use crate::filters::TopicCache;
use crate::hooks::{Event, HookTable, KeyPiece, KeyTemplate, PayloadEncoding};
use crate::limits::PLACEMENT_CACHE_WEIGHT_MAX;
use commitlog::{Ack, PartitionId};
use std::sync::Arc;

/// The records that one event on one topic makes.
#[derive(Debug)]
pub(crate) struct Placement {
    /// One a hook, in the order in which the hooks were written.
    pub(crate) records: Box<[RecordPlace]>,
    /// Strictest ack level of their streams.
    pub(crate) ack: Ack,
    /// Index of the first record in a disk stream.
    pub(crate) kept: Option<usize>,
}

/// Where one record goes.
#[derive(Debug)]
pub(crate) struct RecordPlace {
    /// Index of the stream in the hook table.
    pub(crate) target: u16,
    pub(crate) key: Key,
    pub(crate) payload: PayloadEncoding,
    /// Which figure counts it.
    pub(crate) counter: u16,
}

/// A record's key, as far as the topic decides it.
#[derive(Debug)]
pub(crate) enum Key {
    /// Decided, and the partition with it.
    Fixed(Box<[u8]>, PartitionId),
    /// The client id.
    ClientId,
    /// Depends on the client in another way.
    Template(KeyTemplate),
}

impl Placement {
    fn of(hooks: &HookTable, event: Event, topic: &str) -> Self {
        let mut ack = Ack::Memory;
        let mut kept = None;
        let mut records = Vec::new();
        for (number, hook) in hooks.taking(event, topic).into_iter().enumerate() {
            let target = hooks.target(hook.target);
            ack = ack.max(target.ack);
            if target.kept && kept.is_none() {
                kept = Some(number);
            }
            let key = if hook.key.pieces.as_deref() == Some(&[KeyPiece::ClientId]) {
                Key::ClientId
            } else if let Some(key) = hook.key.fixed(topic) {
                let partition = target.partition(&key);
                Key::Fixed(key, partition)
            } else {
                Key::Template(hook.key.clone())
            };
            records.push(RecordPlace {
                target: hook.target,
                key,
                payload: hook.payload,
                counter: hook.counter,
            });
        }
        Self {
            records: records.into(),
            ack,
            kept,
        }
    }
}

/// Placements of one worker by event and topic.
#[derive(Debug)]
pub(crate) struct Placements {
    by_event: [TopicCache<Arc<Placement>>; Event::ALL.len()],
    /// Rises with each new hook table.
    generation: u64,
}

impl Placements {
    pub(crate) fn new() -> Self {
        Self {
            by_event: std::array::from_fn(|_| TopicCache::new(PLACEMENT_CACHE_WEIGHT_MAX)),
            generation: 0,
        }
    }

    /// Forgets what the last hook table said.
    pub(crate) fn forget(&mut self) {
        self.generation += 1;
    }

    pub(crate) fn of(&mut self, hooks: &HookTable, event: Event, topic: &str) -> Arc<Placement> {
        self.by_event[event as usize].get_or_make(topic, self.generation, || {
            let placement = Placement::of(hooks, event, topic);
            let weight = 1 + placement.records.len();
            (Arc::new(placement), weight)
        })
    }
}
