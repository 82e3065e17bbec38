//! What a copy of the log's files must hold of the journal. Who copies them is not known here.

use crate::log::Log;
use crate::stream::Lsn;

/// The journal at one moment, for a copy of all files that is made while the log goes on.
///
/// Copied with the files of all streams and the catalogue, while no checkpoint is handed back, it is
/// what a power cut at that moment would have left: a start truncates segments to the catalogue and
/// writes them anew from the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalExtents {
    /// Parts that may be needed, oldest first: path below the data directory, and how many of its
    /// bytes count. What lies behind them in a copy must be zeros.
    pub parts: Vec<(String, u64)>,
    /// The last entry in them.
    pub lsn: Lsn,
}

impl Log {
    /// The journal as far as it is written; `None` while staged entries wait to be written.
    pub fn journal_extents(&self) -> Option<JournalExtents> {
        if self.is_staged() {
            return None;
        }
        let mark = self.journal.mark();
        let live = self.journal.live();
        let parts = live
            .filter(|part| part.generation <= mark.generation)
            .map(|part| {
                let whole = part.generation < mark.generation;
                let bytes = if whole { u64::MAX } else { mark.position };
                (part.path.clone(), bytes)
            });
        Some(JournalExtents {
            parts: parts.collect(),
            lsn: mark.lsn,
        })
    }
}
