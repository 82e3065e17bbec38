//! The aborted transactions of a partition: found for readers, brought back at a start, and made
//! anew from the log where their files are lost.

use std::collections::HashMap;
use std::sync::Arc;

use crate::aborted::{AbortedEntry, AbortedRange};
use crate::batch::BatchView;
use crate::error::{Error, ReadError};
use crate::segment::{Segment, TXNINDEX, Walk};

use super::reader::Shared;
use super::{Notice, Partition};

/// Bytes read at once where all batches of a partition are looked at.
const WALK_WINDOW_BYTES: usize = 256 << 10;

/// How many aborted transactions a segment has: its base offset and the number of entries. What a
/// checkpoint keeps, so that a lost file is noticed.
pub(crate) type AbortedMark = (u64, u64);

impl Shared {
    /// Aborted transactions that have to do with the offsets from `from` up to `to` (exclusive), by
    /// their first offsets.
    pub fn aborted(&self, from: u64, to: u64) -> Result<Vec<AbortedRange>, ReadError> {
        let segments: Vec<Arc<Segment>> = {
            let segments = self.segments();
            let behind = segments.partition_point(|segment| segment.base() <= from);
            let range = segments.range(behind.saturating_sub(1)..);
            range
                .filter(|segment| segment.aborted_entries() > 0)
                .cloned()
                .collect()
        };
        let mut found = Vec::new();
        for segment in segments {
            match segment.find_aborted(from, to, &mut found) {
                Ok(true) => break,
                Ok(false) => {}
                // Dropped or replaced meanwhile.
                Err(_) if !self.holds(&segment) => return self.aborted(from, to),
                Err(error) => return Err(error),
            }
        }
        found.sort_unstable_by_key(|range| range.first_offset);
        Ok(found)
    }
}

impl Shared {
    /// Whether no segment that has offsets from `from` on has aborted transactions.
    pub fn has_no_aborted(&self, from: u64) -> bool {
        let segments = self.segments();
        let behind = segments.partition_point(|segment| segment.base() <= from);
        let mut range = segments.range(behind.saturating_sub(1)..);
        range.all(|segment| segment.aborted_entries() == 0)
    }
}

impl Partition {
    /// What a checkpoint keeps of the aborted transactions.
    pub(crate) fn aborted_marks(&self) -> Vec<AbortedMark> {
        if !self.has_aborted {
            return Vec::new();
        }
        let segments = self.shared.segments();
        let marks = segments
            .iter()
            .map(|segment| (segment.base(), segment.aborted_entries()));
        marks.filter(|(_, count)| *count > 0).collect()
    }

    /// Brings the aborted transactions back as a checkpoint knew them, or as the files have them;
    /// where a file is lost or damaged, all are made anew from the log.
    pub(crate) fn restore_aborted(
        &mut self,
        marks: Option<&[AbortedMark]>,
    ) -> Result<Vec<Notice>, Error> {
        let strays = std::mem::take(&mut self.txnindexes);
        if strays.is_empty() && marks.is_none_or(<[_]>::is_empty) {
            return Ok(Vec::new());
        }
        let segments: Vec<Arc<Segment>> = self.shared.segments().iter().cloned().collect();
        let mut bad = None;
        for segment in &segments {
            let expected = marks.map(|marks| {
                let mark = marks.iter().find(|(base, _)| *base == segment.base());
                mark.map_or(0, |(_, count)| *count)
            });
            if expected.unwrap_or(0) == 0 && !strays.contains(&segment.base()) {
                continue;
            }
            let active = Arc::ptr_eq(segment, &self.active);
            match segment.restore_aborted(expected, active)? {
                Ok(()) => self.has_aborted |= segment.aborted_entries() > 0,
                Err(what) => bad = Some((segment.path(TXNINDEX), what)),
            }
        }
        self.dirty_dir();
        let Some((path, what)) = bad else {
            return Ok(Vec::new());
        };
        let mut notices = vec![Notice {
            path,
            what: format!("{what}; all aborted transactions were found again in the log"),
        }];
        self.rebuild_aborted(&segments, &mut notices)?;
        Ok(notices)
    }

    fn rebuild_aborted(
        &mut self,
        segments: &[Arc<Segment>],
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        // Producers that come before this one's marker, by the first offset of their transaction.
        let mut open = HashMap::new();
        for segment in segments {
            let (entries, damage) = aborted_in(segment, &mut open)?;
            if let Some(damage) = damage {
                notices.push(Notice {
                    path: segment.path("log"),
                    what: format!("aborted transactions behind the damage are not known: {damage}"),
                });
            }
            segment.replace_aborted(&entries)?;
            self.has_aborted |= !entries.is_empty();
        }
        Ok(())
    }
}

/// The transactions that the markers of a segment abort; `open` goes on from segment to segment.
fn aborted_in(
    segment: &Segment,
    open: &mut HashMap<i64, u64>,
) -> Result<(Vec<AbortedEntry>, Option<ReadError>), Error> {
    let mut entries = Vec::new();
    let mut walk = Walk::new(segment, 0, segment.size_bytes(), WALK_WINDOW_BYTES)?;
    loop {
        let (position, head) = match walk.step() {
            Ok(Some(step)) => step,
            Ok(None) => return Ok((entries, None)),
            Err(damage @ ReadError::Corrupt { .. }) => return Ok((entries, Some(damage))),
            Err(error) => return Err(error.into()),
        };
        if !head.is_transactional() {
            continue;
        }
        if !head.is_control() {
            open.entry(head.producer_id()).or_insert(head.base_offset());
            continue;
        }
        let bytes = segment.batch_at(position, &head)?;
        let marker = BatchView::parse(&bytes)
            .ok()
            .and_then(|(batch, _)| batch.marker());
        let Some(marker) = marker else { continue };
        let Some(first_offset) = open.remove(&head.producer_id()) else {
            continue;
        };
        let last_offset = head.base_offset();
        if !marker.commit {
            entries.push(AbortedEntry {
                range: AbortedRange {
                    producer_id: head.producer_id(),
                    first_offset,
                    last_offset,
                },
                last_stable: open.values().copied().min().unwrap_or(last_offset + 1),
            });
        }
    }
}
