//! The batches of a turn, one a partition. Knows nothing of what is in the records.

use crate::hooks::Target;
use crate::limits::BATCH_CUT_BYTES;
use crate::message::Place;
use crate::placement::{Key, RecordPlace};
use crate::record::HeaderSlice;
use commitlog::{Append, BatchBuilder, PartitionId};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// The batches of a turn.
#[derive(Debug, Default)]
pub(super) struct Appends {
    /// One a partition ever written to; most are empty at any time.
    builders: Vec<Open>,
    /// Index in `builders`.
    by_partition: HashMap<PartitionId, u32, RandomState>,
    /// The entry's appends in order.
    order: Vec<Pending>,
    /// Size of all batches, unless they were cut.
    bytes: usize,
    /// Turns the records without a key round the partitions.
    round: u32,
}

#[derive(Debug)]
struct Open {
    partition: PartitionId,
    builder: BatchBuilder,
    /// Index in `order` while the builder is not empty.
    append: u32,
}

#[derive(Debug)]
enum Pending {
    /// Index of the builder that is still being filled.
    Open(u32),
    Done(Append),
}

impl Appends {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Partition and key of a record. `who`: client id, user name, topic.
    pub(super) fn key<'k>(
        &mut self,
        record: &'k RecordPlace,
        target: &Target,
        who: [&'k str; 3],
        key: &'k mut Vec<u8>,
    ) -> (PartitionId, Option<&'k [u8]>) {
        let [client_id, username, topic] = who;
        match &record.key {
            Key::Fixed(key, partition) => (*partition, Some(key)),
            Key::ClientId => (
                target.partition(client_id.as_bytes()),
                Some(client_id.as_bytes()),
            ),
            Key::Template(template) => {
                key.clear();
                if template.write(topic, client_id, username, key) {
                    return (target.partition(key), Some(key));
                }
                self.round = self.round.wrapping_add(1);
                (
                    target.partitions[self.round as usize % target.partitions.len()],
                    None,
                )
            }
        }
    }

    pub(super) fn push(
        &mut self,
        partition: PartitionId,
        now_ms: u64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &HeaderSlice<'_>,
    ) -> Place {
        let index = *self.by_partition.entry(partition).or_insert_with(|| {
            self.builders.push(Open {
                partition,
                builder: BatchBuilder::new(),
                append: 0,
            });
            self.builders.len() as u32 - 1
        });
        let open = &mut self.builders[index as usize];
        let before = open.builder.size_bytes();
        if before >= BATCH_CUT_BYTES {
            let batch = open.builder.finish();
            self.order[open.append as usize] = Pending::Done(Append::new(partition, batch));
        }
        if open.builder.is_empty() {
            open.append = self.order.len() as u32;
            self.order.push(Pending::Open(index));
        }
        let delta = open.builder.push(now_ms as i64, key, value, headers);
        self.bytes += (open.builder.size_bytes()).saturating_sub(before);
        Place {
            append: open.append,
            delta,
        }
    }

    pub(super) fn finish(&mut self) -> Vec<Append> {
        self.bytes = 0;
        let builders = &mut self.builders;
        self.order
            .drain(..)
            .map(|pending| match pending {
                Pending::Done(append) => append,
                Pending::Open(index) => {
                    let open = &mut builders[index as usize];
                    Append::new(open.partition, open.builder.finish())
                }
            })
            .collect()
    }
}
