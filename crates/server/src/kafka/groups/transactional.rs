//! Offsets that a producer's transaction commits: what its coordinator asks of the groups.

use std::sync::atomic::Ordering;

use ::kafka::ErrorCode;
use ::kafka::group::Claim;
use ::kafka::offsets::{CommittedOffset, OffsetKey};
use ::kafka::txn::GroupOffset;

use super::Groups;

impl Groups {
    /// Whether a transaction may commit these offsets for this claim (KIP-447), and whether there is
    /// room for them.
    ///
    /// # Errors
    /// What the producer is told.
    pub(in crate::kafka) fn admits_commit(
        &self,
        group: &str,
        claim: Claim<'_>,
        offsets: &[GroupOffset],
    ) -> Result<(), ErrorCode> {
        let now_ms = self.mono_ms();
        let mut inside = self.lock();
        inside.machine.admit_commit(group, claim, true, now_ms)?;
        let commits = offsets.iter().map(|((topic, partition), committed)| {
            (&**topic, *partition, committed.metadata.len())
        });
        self.check_room(&inside, group, commits)
    }

    /// Whether offsets may be kept for a topic: it is there, and its deletion is not on its way.
    pub(in crate::kafka) fn keeps(&self, topic: &str) -> bool {
        self.source.stream(topic).is_some() && !self.lock().going.contains(topic)
    }

    /// The records that commit these offsets, to be appended to partition [`Groups::partition`].
    /// Their commit time is now.
    pub(in crate::kafka) fn offset_records<'a>(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = (&'a str, i32, CommittedOffset)>,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let commit_ms = self.now_ms();
        let record = |(topic, partition, offset): (&str, i32, CommittedOffset)| {
            let key = OffsetKey {
                group,
                topic,
                partition,
            };
            let value = CommittedOffset {
                commit_ms,
                ..offset
            };
            (key.encode(), value.encode())
        };
        offsets.into_iter().map(record).collect()
    }

    /// An open transaction of this producer will commit these partitions of the group, or not:
    /// until it is settled, who asks for stable offsets is told to ask again.
    pub(in crate::kafka) fn pend(&self, producer_id: i64, group: &str, places: &[(&str, i32)]) {
        self.lock().offsets.pend(producer_id, group, places);
    }

    /// The producer's transaction is decided: these records of [`Groups::offset_records`] lie in
    /// the table, the first at `base_offset` and the others behind it; none where it was aborted.
    /// With several batches it is called once for each, and the producer is settled by the first.
    pub(in crate::kafka) fn settle(
        &self,
        producer_id: i64,
        records: &[(Vec<u8>, Vec<u8>)],
        base_offset: u64,
    ) {
        let mut inside = self.lock();
        for ((key, value), offset) in records.iter().zip(base_offset..) {
            let key = OffsetKey::decode(key).expect("this node has encoded it");
            let value = CommittedOffset::decode(value).expect("this node has encoded it");
            inside.offsets.apply(key, Some(value), offset);
        }
        inside.offsets.settle(producer_id);
        self.commits
            .fetch_add(records.len() as u64, Ordering::Relaxed);
    }
}
