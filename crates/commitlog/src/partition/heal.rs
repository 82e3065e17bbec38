//! What `--accept-loss` does for a compacted partition: a start reads it as a whole, so one bad batch
//! would put all of it out of reach. Segments are written anew without what is damaged.

use std::sync::Arc;

use crate::batch::HEADER_BYTES;
use crate::disk::{Disk, Open, read_whole};
use crate::error::Error;
use crate::segment::{CLEANED, Segment, SegmentRewrite, check_batch};

use super::open::offsets;
use super::{Notice, PartitionMark};

/// Looks at every batch of these segments; the position of the mark follows where the active one
/// becomes shorter. What went is told in `lost`.
pub(super) fn segments(
    disk: &Arc<dyn Disk>,
    dir: &str,
    bases: &[u64],
    mark: &mut PartitionMark,
    lost: &mut Vec<Notice>,
) -> Result<(), Error> {
    for (at, &base) in bases.iter().enumerate() {
        let active = base == mark.segment_base;
        let end = if active { mark.position } else { u64::MAX };
        let next = bases.get(at + 1).copied().unwrap_or(mark.next_offset);
        let before = lost.len();
        let kept = whole_batches(disk, dir, base, (end, next), lost)?;
        if lost.len() > before {
            let bytes = write_anew(disk, dir, base, &kept)?;
            if active {
                mark.position = bytes;
            }
        }
    }
    Ok(())
}

/// The batches of a segment that are whole, before byte `end` and offset `next`; the bytes between
/// them are told in `lost`.
fn whole_batches(
    disk: &Arc<dyn Disk>,
    dir: &str,
    base: u64,
    (end, next): (u64, u64),
    lost: &mut Vec<Notice>,
) -> Result<Vec<Vec<u8>>, Error> {
    let path = Segment::at(disk, dir, base).path("log");
    let file = disk
        .open(&path, Open::Read)
        .map_err(|source| Error::disk(&path, "open", source))?;
    let read = |source| Error::disk_at(&path, "read", 0, source);
    let bytes = file.len().map_err(read)?.min(end);
    let mut bytes = read_whole(&*file, bytes).map_err(read)?;
    bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    let mut kept = Vec::new();
    let mut next_offset = base;
    let mut at = 0;
    while at < bytes.len() {
        let found = check_batch(&bytes[at..], next_offset);
        let what = match found {
            Ok(head) if head.last_offset() < next => {
                kept.push(bytes[at..at + head.size_bytes()].to_vec());
                next_offset = head.next_offset();
                at += head.size_bytes();
                continue;
            }
            Ok(_) => "its offsets are those of another segment".to_owned(),
            Err(error) => error.to_string(),
        };
        let behind = (at + 1..bytes.len().saturating_sub(HEADER_BYTES)).find_map(|at| {
            let head = check_batch(&bytes[at..], next_offset).ok()?;
            (head.last_offset() < next).then(|| (at, head.base_offset()))
        });
        let (behind, goes_on) = behind.unwrap_or((bytes.len(), next));
        let what = format!(
            "the batch at byte {at} is damaged: {what}; left out, and {} with it",
            offsets(next_offset, goes_on)
        );
        lost.push(Notice {
            path: path.clone(),
            what,
        });
        at = behind;
    }
    Ok(kept)
}

/// Returns the bytes of the new log. The indexes are made again when the segment is opened.
fn write_anew(disk: &Arc<dyn Disk>, dir: &str, base: u64, kept: &[Vec<u8>]) -> Result<u64, Error> {
    let mut rewrite = SegmentRewrite::begin(disk, dir, base)?;
    for batch in kept {
        rewrite.append(batch)?;
    }
    let segment = rewrite.finish()?.segment;
    // Without its old indexes first: a crash in between must not pair them with the new log.
    for extension in ["timeindex", "index"] {
        let path = segment.path(extension);
        if disk.exists(&path) {
            let removed = disk.remove_file(&path);
            removed.map_err(|source| Error::disk(path, "remove", source))?;
        }
    }
    for extension in ["log", "index", "timeindex"] {
        let path = segment.path(extension);
        let renamed = disk.rename(&format!("{path}.{CLEANED}"), &path);
        renamed.map_err(|source| Error::disk(path, "rename", source))?;
    }
    disk.sync_dir(dir)
        .map_err(|source| Error::disk(dir, "sync", source))?;
    Ok(segment.size_bytes())
}
