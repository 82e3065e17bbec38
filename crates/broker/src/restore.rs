//! What a start needs before any shard can be restored: whether this version can read the session
//! table and what the journal has of it, and how far the snapshot of each home goes. Knows nothing
//! of sessions.

use crate::shard::HOMES;
use crate::shard::table::{
    InflightRecord, Key, Kind, Marker, SessionRecord, WillRecord, is_presence, read_chunk,
    read_number, read_positions, read_subscription,
};
use bytes::Bytes;
use commitlog::{Lsn, PartitionId};
use std::fmt;

/// A record of the session table that this version cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it is in `__sluice.sessions`.
    pub offset: u64,
    /// What it is about, in words.
    pub about: &'static str,
    /// The format version that it begins with, if it has any.
    pub version: Option<u8>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, about, .. } = self;
        write!(f, "stream __sluice.sessions, offset {offset}: {about}")?;
        match self.version {
            Some(version) => write!(
                f,
                " (format version {version}) that this version of Sluice cannot read"
            ),
            None => f.write_str(" that cannot be read"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// Whether this version can read a record of `__sluice.sessions`. What is passed over here would be
/// forgotten by the next snapshot.
///
/// # Errors
/// It cannot: what the record is about.
pub fn check_record(offset: u64, key: &[u8], value: Option<&[u8]>) -> Result<(), Unreadable> {
    let Some(value) = value else {
        // It takes away what there was, known or not.
        return Ok(());
    };
    let unreadable = |about| Unreadable {
        offset,
        about,
        version: value.first().copied(),
    };
    let key = Key::read(key).ok_or(unreadable("a record of an unknown kind"))?;
    let (about, is_read) = match key.kind {
        Kind::Session => ("a session", SessionRecord::read(value).is_some()),
        Kind::Will => ("a will", WillRecord::read(value).is_some()),
        Kind::Subscription => {
            let is_text = std::str::from_utf8(key.rest).is_ok();
            let is_read = is_text && read_subscription(value).is_some();
            ("a subscription", is_read)
        }
        Kind::Received => {
            let is_read = key.packet_id().is_some() && is_presence(value);
            ("a packet id taken", is_read)
        }
        Kind::Inflight => {
            let is_read = key.packet_id().is_some() && InflightRecord::read(value).is_some();
            ("a delivery in flight", is_read)
        }
        Kind::Pushed => (
            "a retained message owed",
            InflightRecord::read(value).is_some(),
        ),
        Kind::Chunk => {
            let is_read = key.number().is_some() && read_chunk(value).is_some();
            ("a part of an inbox", is_read)
        }
        Kind::Queue => ("the queue of a shared group", read_chunk(value).is_some()),
        Kind::Head => ("the head of an inbox", read_number(value).is_some()),
        Kind::Dropped | Kind::Settled => {
            ("what is not owed any more", read_positions(value).is_some())
        }
        Kind::Marker => {
            let is_read = key.rest.len() == 1 && Marker::read(value).is_some();
            ("the marker of a home's sessions", is_read)
        }
    };
    if is_read {
        Ok(())
    } else {
        Err(unreadable(about))
    }
}

/// The same for what a journal entry writes into the session table, partition `sessions`.
///
/// # Errors
/// The first record that cannot be read.
pub fn check_entry(
    sessions: PartitionId,
    batches: &[(PartitionId, u64, Bytes)],
) -> Result<(), Unreadable> {
    let written = batches.iter().filter(|batch| batch.0 == sessions);
    for (_, base, bytes) in written {
        let malformed = |offset| Unreadable {
            offset,
            about: "a malformed batch",
            version: None,
        };
        for batch in commitlog::batch::batches(bytes) {
            let batch = batch.map_err(|_| malformed(*base))?;
            for record in batch.records() {
                let record = record.map_err(|_| malformed(*base))?;
                check_record(record.offset, record.key.unwrap_or_default(), record.value)?;
            }
        }
    }
    Ok(())
}

/// The newest marker of each home, with its offset.
#[derive(Debug, Clone)]
pub struct Markers {
    homes: Box<[Option<(u64, Marker)>]>,
}

impl Default for Markers {
    fn default() -> Self {
        Self {
            homes: vec![None; usize::from(HOMES)].into(),
        }
    }
}

impl Markers {
    /// Looks at one record of `__sluice.sessions`; all of them are to be shown, in order.
    pub fn note(&mut self, offset: u64, key: &[u8], value: Option<&[u8]>) {
        if let Some(Key {
            kind: Kind::Marker,
            rest: &[home],
            ..
        }) = Key::read(key)
            && let Some(marker) = value.and_then(Marker::read)
        {
            self.homes[usize::from(home)] = Some((offset, marker));
        }
    }

    /// The journal is to be replayed from behind this entry; 0: all of it.
    pub fn oldest(&self) -> Lsn {
        self.homes
            .iter()
            .map(|home| home.map_or(0, |(_, marker)| marker.matched_to))
            .min()
            .unwrap_or(0)
    }

    /// The journal begins behind `applied`, and the session table holds what was written before that
    /// below `table_to`: homes whose marker is lost, or so old that the journal does not reach back
    /// to it, count as seen up to there. Only where loss is accepted: what they were owed by entries
    /// that are gone is not found again. Answers the keys of their markers, to be fed to each shard
    /// behind all records.
    pub fn assume(&mut self, applied: Lsn, table_to: u64) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for (home, known) in (0..=u8::MAX).zip(&mut self.homes) {
            if known.is_some_and(|(_, marker)| marker.matched_to >= applied) {
                continue;
            }
            let marker = Marker {
                applied,
                matched_to: applied,
                table_to,
                wall_ms: known.map_or(0, |(_, marker)| marker.wall_ms),
            };
            *known = Some((table_to, marker));
            let mut key = Vec::new();
            Key::write(&mut key, Kind::Marker, "", &[home]);
            keys.push(key);
        }
        keys
    }

    /// First offset of `__sluice.sessions` whose records compaction must keep one by one; 0 while a
    /// home has no marker. To be pinned at a start, before anything is compacted: replay sees a
    /// subscription that was written again behind a marker only where it was, and matches what was
    /// published before that by the older record.
    pub fn table_pin(&self) -> u64 {
        self.homes
            .iter()
            .map(|home| home.map_or(0, |(_, marker)| marker.table_to))
            .min()
            .unwrap_or(0)
    }

    /// Offset and marker of a home.
    pub(crate) fn of(&self, home: u8) -> Option<(u64, Marker)> {
        self.homes[usize::from(home)]
    }
}

#[cfg(test)]
mod tests;
