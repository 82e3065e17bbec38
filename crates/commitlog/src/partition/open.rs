//! Makes a partition from what lies in its folder, and mends what can be mended.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Open, read_whole};
use crate::error::Error;
use crate::segment::{CLEANED, IndexBytes, Segment, TXNINDEX, Tail};

use super::epochs::{EPOCHS_FILE, Epochs};
use super::metadata::{METADATA_FILE, metadata_text};
use super::reader::Shared;
use super::{Dirty, Notice, Partition, PartitionMark, PartitionSettings, Plan};

/// Most bytes that are read of the small text files.
const TEXT_BYTES_MAX: u64 = 4 << 20;

impl Partition {
    /// Makes an empty partition. What lies in the folder already is removed: it is newer than the
    /// last checkpoint, and the journal has it.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &str,
        settings: PartitionSettings,
    ) -> Result<Self, Error> {
        if disk.exists(dir) {
            empty_dir(&*disk, dir)?;
        }
        disk.create_dir(dir)
            .map_err(|source| Error::disk(dir, "create", source))?;
        let path = format!("{dir}/{METADATA_FILE}");
        // Not synced here: until a checkpoint the journal makes the partition anew.
        let file = write_file(&*disk, &path, metadata_text(&settings.topic_id).as_bytes())?;
        let segment = Segment::create(&disk, dir, 0)?;
        let mut segments = VecDeque::new();
        segments.push_back(Arc::new(segment));
        let shared = Shared::new(dir, segments, 0, 0, Epochs::default());
        let mut partition = Self::assemble(disk, settings, shared, Tail::empty(0));
        partition.dirty.files.push((path, file));
        if let Some((parent, _)) = dir.rsplit_once('/') {
            partition.dirty.dirs.push(parent.to_owned());
        }
        partition.dirty_dir();
        partition.dirty_active();
        Ok(partition)
    }

    /// Opens a partition. With the mark of a checkpoint it is cut to exactly that: what is behind is
    /// removed, nothing before is scanned, and a log that is shorter is [`Error::Corrupt`]. Without
    /// a mark the active segment is scanned from its last index entry and ends before the first
    /// batch that is not whole. Damaged indexes are rebuilt; each mending is a notice.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        settings: PartitionSettings,
        mark: Option<PartitionMark>,
    ) -> Result<(Self, Vec<Notice>), Error> {
        let mut notices = Vec::new();
        let (mut bases, txnindexes) = tidy(&*disk, dir, mark.map(|mark| mark.segment_base))?;
        check_metadata(&*disk, dir, &settings, &mut notices)?;
        let (active, tail) =
            match bases.pop_if(|base| mark.is_none_or(|mark| mark.segment_base == *base)) {
                Some(base) => {
                    let end = mark.map(|mark| (mark.position, mark.next_offset));
                    let (segment, tail, mended) = open_active(&disk, dir, base, end)?;
                    notices.extend(mended);
                    (segment, tail)
                }
                None => begin_anew(&disk, dir, mark, &mut notices)?,
            };
        let mut segments = VecDeque::with_capacity(bases.len() + 1);
        for (at, &base) in bases.iter().enumerate() {
            let next_base = bases.get(at + 1).copied().unwrap_or(active.base());
            segments.push_back(Arc::new(open_closed(
                &disk,
                dir,
                base,
                next_base,
                &mut notices,
            )?));
        }
        let first = segments
            .front()
            .map_or(active.base(), |segment: &Arc<Segment>| segment.base());
        segments.push_back(Arc::new(active));
        let log_start = mark
            .map_or(first, |mark| mark.log_start.max(first))
            .min(tail.next_offset);
        let mut epochs = read_epochs(&*disk, dir, &mut notices)?;
        let epochs_changed = epochs.cut(tail.next_offset);
        let shared = Shared::new(dir, segments, log_start, tail.next_offset, epochs);
        let mut partition = Self::assemble(disk, settings, shared, tail);
        partition.epochs_changed = epochs_changed;
        partition.txnindexes = txnindexes;
        partition.dirty_active();
        partition.dirty_dir();
        if mark.is_none() {
            notices.extend(partition.restore_aborted(None)?);
        }
        Ok((partition, notices))
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        settings: PartitionSettings,
        shared: Shared,
        tail: Tail,
    ) -> Self {
        let epoch = shared.latest_epoch().unwrap_or(-1);
        let active = Arc::clone(shared.segments().back().expect("a partition has a segment"));
        Self {
            disk,
            settings,
            plan: Plan::behind(&tail, active.base()),
            log_start: shared.log_start(),
            shared: Arc::new(shared),
            active,
            tail,
            unindexed: IndexBytes::default(),
            staged: Vec::new(),
            epochs_changed: false,
            dirty_segments: Vec::new(),
            dirty: Dirty::default(),
            has_aborted: false,
            txnindexes: Vec::new(),
            epoch,
            latched: None,
        }
    }
}

/// Opens the segment that is appended to, cut to `end` (position and next offset) where that is
/// known, else to its last whole batch.
pub(super) fn open_active(
    disk: &Arc<dyn Disk>,
    dir: &str,
    base: u64,
    end: Option<(u64, u64)>,
) -> Result<(Segment, Tail, Vec<Notice>), Error> {
    let segment = Segment::at(disk, dir, base);
    let mut notices = Vec::new();
    let missing = missing_index(&**disk, &segment);
    let log = Arc::clone(&segment.open_files(Open::Create)?.log);
    let len = segment.len_of("log", &*log)?;
    if let Some((position, _)) = end
        && len < position
    {
        let what = format!("the file ends there, but the checkpoint knows {position} bytes");
        return Err(Error::corrupt(segment.path("log"), len, what));
    }
    let cut = |position| {
        log.set_len(position)
            .map_err(|source| Error::disk_at(segment.path("log"), "truncate", position, source))
    };
    let position = end.map_or(len, |(position, _)| position);
    if len > position {
        cut(position)?;
    }
    let next_offset = end.map_or(i64::MAX as u64, |(_, next_offset)| next_offset);
    let recovered = match missing {
        Some(what) if position > 0 => Err(what),
        _ => segment.recover_tail(position, next_offset, end.is_none())?,
    };
    let (mut tail, damage) = match recovered {
        Ok(recovered) => recovered,
        Err(what) => {
            let what = format!("{what}; both indexes were rebuilt from the log");
            notices.push(Notice {
                path: segment.path("index"),
                what,
            });
            segment.rebuild(position, end.is_none())?
        }
    };
    match (damage, end) {
        (None, None) => {}
        (None, Some((_, next_offset))) if tail.next_offset <= next_offset => {
            tail.next_offset = next_offset;
        }
        (None, Some(_)) => {
            let what = "the segment holds offsets behind the checkpoint's";
            return Err(Error::corrupt(segment.path("log"), position, what));
        }
        (Some(damage), Some(_)) => return Err(damage.into()),
        (Some(damage), None) => {
            let torn = len - tail.position;
            let what = format!("{torn} bytes behind the last whole batch were cut ({damage})");
            notices.push(Notice {
                path: segment.path("log"),
                what,
            });
            // Again, so that no index entry speaks of what was cut.
            let end = Some((tail.position, tail.next_offset));
            let (segment, tail, more) = open_active(disk, dir, base, end)?;
            notices.extend(more);
            return Ok((segment, tail, notices));
        }
    }
    segment.publish(&tail);
    Ok((segment, tail, notices))
}

fn open_closed(
    disk: &Arc<dyn Disk>,
    dir: &str,
    base: u64,
    next_base: u64,
    notices: &mut Vec<Notice>,
) -> Result<Segment, Error> {
    let mut segment = Segment::at(disk, dir, base);
    segment.end_at(next_base);
    let measured = match missing_index(&**disk, &segment) {
        Some(what) => Err(what),
        None => segment.measure(next_base)?,
    };
    if let Err(what) = measured {
        segment.close_files();
        let log = Arc::clone(&segment.open_files(Open::Create)?.log);
        let (tail, damage) = segment.rebuild_closed(segment.len_of("log", &*log)?)?;
        segment.publish_closed(&tail)?;
        let what = format!("{what}; both indexes were rebuilt from the log");
        notices.push(Notice {
            path: segment.path("index"),
            what,
        });
        if let Some(damage) = damage {
            let what = format!("reading there will fail: {damage}");
            notices.push(Notice {
                path: segment.path("log"),
                what,
            });
        }
    }
    segment.close_files();
    Ok(segment)
}

/// The mark's segment is not there: nothing was ever in it, or retention removed it after the
/// checkpoint. The journal goes on from the mark's next offset.
fn begin_anew(
    disk: &Arc<dyn Disk>,
    dir: &str,
    mark: Option<PartitionMark>,
    notices: &mut Vec<Notice>,
) -> Result<(Segment, Tail), Error> {
    let mark = mark.unwrap_or_default();
    if mark.position > 0 {
        let what = format!(
            "the segment of the checkpoint ({:020}.log) is not there; begun anew at offset {}",
            mark.segment_base, mark.next_offset
        );
        notices.push(Notice {
            path: dir.to_owned(),
            what,
        });
    }
    let segment = Segment::create(disk, dir, mark.next_offset)?;
    Ok((segment, Tail::empty(mark.next_offset)))
}

/// Removes what is no part of the partition: half-made files, segments behind `last_base`, indexes
/// without a log. Returns the base offsets of the segments that are there, rising, and of those with
/// a `.txnindex`.
fn tidy(disk: &dyn Disk, dir: &str, last_base: Option<u64>) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let names = disk
        .list(dir)
        .map_err(|source| Error::disk(dir, "list", source))?;
    let mut bases: Vec<u64> = names
        .iter()
        .filter_map(|name| base_of(name, "log"))
        .collect();
    bases.sort_unstable();
    bases.dedup();
    bases.retain(|&base| last_base.is_none_or(|last| base <= last));
    let mut txnindexes = Vec::new();
    for name in &names {
        let txnindex_of = base_of(name, TXNINDEX);
        let index_of = base_of(name, "index").or_else(|| base_of(name, "timeindex"));
        let index_of = index_of.or(txnindex_of);
        let orphan = index_of
            .or(base_of(name, "log"))
            .is_some_and(|base| !bases.contains(&base));
        let half_made = name
            .rsplit_once('.')
            .is_some_and(|(_, end)| end == CLEANED || end == TEMPORARY);
        if orphan || half_made {
            let path = format!("{dir}/{name}");
            disk.remove_file(&path)
                .map_err(|source| Error::disk(&path, "remove", source))?;
        } else {
            txnindexes.extend(txnindex_of);
        }
    }
    Ok((bases, txnindexes))
}

/// Added to the name of a file that replaces another.
const TEMPORARY: &str = "tmp";

fn base_of(name: &str, extension: &str) -> Option<u64> {
    let (stem, found) = name.split_once('.')?;
    if found != extension || stem.len() != 20 {
        return None;
    }
    stem.parse().ok()
}

fn missing_index(disk: &dyn Disk, segment: &Segment) -> Option<&'static str> {
    if !disk.exists(&segment.path("index")) {
        Some("the index is missing")
    } else if !disk.exists(&segment.path("timeindex")) {
        Some("the time index is missing")
    } else {
        None
    }
}

fn check_metadata(
    disk: &dyn Disk,
    dir: &str,
    settings: &PartitionSettings,
    notices: &mut Vec<Notice>,
) -> Result<(), Error> {
    let path = format!("{dir}/{METADATA_FILE}");
    let expected = metadata_text(&settings.topic_id);
    let what = match read_text(disk, &path)? {
        Some(text) if text.trim_end() == expected => return Ok(()),
        Some(_) => "it named another topic id; written anew",
        None => "it was missing; written anew",
    };
    notices.push(Notice {
        path: path.clone(),
        what: what.to_owned(),
    });
    replace_file(disk, &path, expected.as_bytes()).map(|_| ())
}

fn read_epochs(disk: &dyn Disk, dir: &str, notices: &mut Vec<Notice>) -> Result<Epochs, Error> {
    let path = format!("{dir}/{EPOCHS_FILE}");
    let Some(text) = read_text(disk, &path)? else {
        return Ok(Epochs::default());
    };
    Ok(Epochs::parse(&text).unwrap_or_else(|what| {
        let what = format!("{what}; earlier leader epochs are forgotten");
        notices.push(Notice { path, what });
        Epochs::default()
    }))
}

/// `None` when there is no such file; bytes that are no text become signs that are none either.
fn read_text(disk: &dyn Disk, path: &str) -> Result<Option<String>, Error> {
    if !disk.exists(path) {
        return Ok(None);
    }
    let file = disk
        .open(path, Open::Read)
        .map_err(|source| Error::disk(path, "open", source))?;
    let bytes =
        read_whole(&*file, TEXT_BYTES_MAX).map_err(|source| Error::disk(path, "read", source))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes a small file beside the old one and renames it into place. The new bytes are synced first:
/// a rename must never be durable before them.
pub(super) fn replace_file(
    disk: &dyn Disk,
    path: &str,
    bytes: &[u8],
) -> Result<Arc<dyn DiskFile>, Error> {
    let temporary = format!("{path}.{TEMPORARY}");
    let file = write_file(disk, &temporary, bytes)?;
    file.sync_data()
        .map_err(|source| Error::disk(&temporary, "sync", source))?;
    disk.rename(&temporary, path)
        .map_err(|source| Error::disk(path, "rename", source))?;
    Ok(file)
}

fn write_file(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Result<Arc<dyn DiskFile>, Error> {
    let file = disk
        .open(path, Open::Create)
        .map_err(|source| Error::disk(path, "open", source))?;
    file.set_len(0)
        .map_err(|source| Error::disk(path, "truncate", source))?;
    file.write_at(&[bytes], 0)
        .map_err(|source| Error::disk_at(path, "write", 0, source))?;
    Ok(Arc::from(file))
}

/// Removes every file in a folder.
pub(super) fn empty_dir(disk: &dyn Disk, dir: &str) -> Result<(), Error> {
    for name in disk
        .list(dir)
        .map_err(|source| Error::disk(dir, "list", source))?
    {
        let path = format!("{dir}/{name}");
        disk.remove_file(&path)
            .map_err(|source| Error::disk(&path, "remove", source))?;
    }
    Ok(())
}
