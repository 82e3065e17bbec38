//! Brings shards and the retained index back from the log at the start: tables first, then the
//! journal entries that the tables do not cover yet. It must not know how either is encoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use broker::restore::{check_entry, check_record};
use broker::{
    BrokerSettings, HookTable, Interest, Markers, Places, Position, RetainedIndex, Shard,
};
use bytes::Bytes;
use commitlog::{Log, LogReader, Lsn, PartitionId};
use tracing::{info, warn};

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
    /// Records of the session table that this version cannot read are left out.
    pub accept_loss: bool,
    /// Journal entries that are left out.
    pub skip_entries: &'a [Lsn],
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
    let mut unreadable = BTreeMap::new();
    scan(&reader, sessions, |offset, key, value| {
        match check_record(offset, key, value) {
            Ok(()) => markers.note(offset, key, value),
            Err(found) => _ = unreadable.insert(offset, found),
        }
        Ok(())
    })?;
    let assumed = if with.accept_loss {
        assume_markers(log, sessions, &mut markers)?
    } else {
        Vec::new()
    };
    // Until the first checkpoint of this life says more.
    log.pin(sessions, SHARDS_PIN, Some(markers.table_pin()));
    let mut records = 0_u64;
    scan(&reader, sessions, |offset, key, value| {
        if unreadable.contains_key(&offset) {
            return Ok(());
        }
        records += 1;
        for shard in &mut shards {
            shard.feed(&markers, offset, key, value);
        }
        Ok(())
    })?;
    for key in assumed {
        for shard in &mut shards {
            shard.feed(&markers, u64::MAX, &key, None);
        }
    }
    let mut entries = 0_u64;
    for entry in log
        .replay(markers.oldest() + 1)
        .context("cannot replay the journal")?
    {
        let entry = entry.context("cannot replay the journal")?;
        entries += 1;
        let lsn = entry.lsn;
        let mut batches = entry.batches.as_slice();
        if with.skip_entries.contains(&lsn) {
            warn!("journal entry {lsn} is left out of what sessions are owed, as asked for");
            for (from, to) in written_to(sessions, batches) {
                unreadable.retain(|offset, _| !(from..=to).contains(offset));
            }
            batches = &[];
        } else if let Err(found) = check_entry(sessions, batches)
            && !with.accept_loss
        {
            bail!(
                "journal entry {lsn}: {found}; start the version that wrote it, or go on without \
                 this entry by --skip-entry {lsn}, or without what the record says by \
                 --accept-loss"
            );
        }
        for shard in &mut shards {
            shard.replay(lsn, batches);
        }
    }
    for found in unreadable.values() {
        if !with.accept_loss {
            bail!(
                "{found}; start the version that wrote it, restore the data directory from a \
                 copy, or go on without what it says by --accept-loss"
            );
        }
        warn!("{found}; left out, as --accept-loss asks for");
    }
    info!(records, entries, "sessions restored");
    Ok(shards)
}

/// Where markers were lost with what was damaged, the sessions of their homes are still in the table:
/// they count as they are there, up to where the journal begins. Answers what
/// [`Markers::assume`] does.
fn assume_markers(
    log: &Log,
    sessions: PartitionId,
    markers: &mut Markers,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let first = log.first_entry();
    if markers.oldest() + 1 >= first {
        return Ok(Vec::new());
    }
    let end = log.reader().watermarks(sessions);
    let mut table_to = end.map_or(0, |marks| marks.appended);
    for entry in log.replay(first).context("cannot replay the journal")? {
        let entry = entry.context("cannot replay the journal")?;
        if let Some((from, _)) = written_to(sessions, &entry.batches).next() {
            table_to = from;
            break;
        }
    }
    let keys = markers.assume(first - 1, table_to);
    warn!(
        "the journal begins with entry {first}, behind what the snapshots of {} homes know; their \
         sessions are taken from the table, without what older entries would have added to their \
         inboxes, as --accept-loss asks for",
        keys.len()
    );
    Ok(keys)
}

/// First and last offsets of what an entry writes into a partition.
fn written_to(
    partition: PartitionId,
    batches: &[(PartitionId, u64, Bytes)],
) -> impl Iterator<Item = (u64, u64)> {
    batches
        .iter()
        .filter(move |(other, ..)| *other == partition)
        .flat_map(|(_, base, bytes)| {
            let whole = commitlog::batch::batches(bytes).map_while(Result::ok);
            whole.map(move |batch| (*base, batch.last_offset()))
        })
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
