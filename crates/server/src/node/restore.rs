//! Brings shards and the retained index back from the log at the start: tables first, then the
//! journal entries that the tables do not cover yet. It must not know how either is encoded.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use broker::{
    BrokerSettings, HookTable, Interest, Markers, Places, Position, RetainedIndex, Shard,
};
use commitlog::{Log, LogReader, Lsn, PartitionId};
use tracing::info;

use super::checkpoint::SHARDS_PIN;

/// Bytes read of a table at one time.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// What all shards share.
pub struct Restoring<'a> {
    /// What a shard grants and bounds.
    pub broker: &'a Arc<BrokerSettings>,
    /// The hooks.
    pub hooks: &'a Arc<HookTable>,
    /// Where the shards write.
    pub places: Places,
    /// What the process subscribes to.
    pub interest: &'a Arc<Interest>,
}

/// So many shards with all sessions of the log: table records up to each home's marker, then the
/// journal.
pub fn shards(log: &mut Log, workers: usize, with: &Restoring<'_>) -> anyhow::Result<Vec<Shard>> {
    let reader = log.reader();
    let sessions = with.places.sessions;
    let mut shards: Vec<Shard> = (0..workers)
        .map(|worker| {
            Shard::new(
                Arc::clone(with.broker),
                worker as u16,
                workers as u16,
                Arc::clone(with.hooks),
                Arc::clone(with.interest),
                with.places,
            )
        })
        .collect();
    let mut markers = Markers::default();
    scan(&reader, sessions, |offset, key, value| {
        markers.note(offset, key, value);
        Ok(())
    })?;
    // Until the first checkpoint of this life says more.
    log.pin(sessions, SHARDS_PIN, Some(markers.table_pin()));
    let mut records = 0_u64;
    scan(&reader, sessions, |offset, key, value| {
        records += 1;
        for shard in &mut shards {
            shard.feed(&markers, offset, key, value);
        }
        Ok(())
    })?;
    let mut entries = 0_u64;
    for entry in log
        .replay(markers.oldest() + 1)
        .context("cannot replay the journal")?
    {
        let entry = entry.context("cannot replay the journal")?;
        entries += 1;
        for shard in &mut shards {
            shard.replay(entry.lsn, &entry.batches);
        }
    }
    info!(records, entries, "sessions restored");
    Ok(shards)
}

/// The retained messages of the log, without their values.
pub fn retained(
    reader: &LogReader,
    partition: PartitionId,
    limit: usize,
) -> anyhow::Result<RetainedIndex> {
    let mut index = RetainedIndex::new(limit);
    // Older than every reader: what is restored is visible to all.
    const BEFORE_ALL: Lsn = 0;
    scan(reader, partition, |offset, key, value| {
        index
            .restore(key, value, Position { partition, offset }, BEFORE_ALL)
            .map_err(|failure| anyhow!("offset {offset}: {failure}"))
    })
    .context("stream __sluice.retained")?;
    Ok(index)
}

/// Visits all records of a partition in order: offset, key, value.
fn scan(
    reader: &LogReader,
    partition: PartitionId,
    mut visit: impl FnMut(u64, &[u8], Option<&[u8]>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(marks) = reader.watermarks(partition) else {
        return Ok(());
    };
    let mut offset = marks.log_start;
    while offset < marks.appended {
        let batches = reader.read(partition, offset, READ_BYTES, u64::MAX)?;
        let before = offset;
        for batch in batches
            .iter()
            .flat_map(|bytes| commitlog::batch::batches(bytes))
        {
            let batch = batch.map_err(|failure| anyhow!("a batch is malformed: {failure}"))?;
            for record in batch.records() {
                let record = record.map_err(|failure| anyhow!("offset {offset}: {failure}"))?;
                if let Some(key) = record.key {
                    visit(record.offset, key, record.value)?;
                }
            }
            offset = batch.last_offset() + 1;
        }
        if offset == before {
            // Compaction may leave nothing between here and the end.
            break;
        }
    }
    Ok(())
}
