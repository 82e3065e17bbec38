//! What a start needs before any shard can be restored: how far the snapshot of each home goes.
//! Reads the session table once; knows nothing of sessions.

use crate::shard::HOMES;
use crate::shard::table::{Key, Kind, Marker};
use commitlog::Lsn;

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
