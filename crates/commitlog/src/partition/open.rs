//! Makes a partition from what lies in its folder, and mends what can be mended.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::{BatchHead, gap_batch};
use crate::disk::{Disk, DiskFile, Open, read_whole};
use crate::error::Error;
use crate::segment::{CLEANED, IndexBytes, REWRITTEN, Segment, TXNINDEX, Tail, Walk};

use super::epochs::{EPOCHS_FILE, Epochs};
use super::heal;
use super::metadata::{METADATA_FILE, metadata_text};
use super::reader::Shared;
use super::{ClosedMark, Dirty, Notice, Partition, PartitionMark, PartitionSettings, Plan};

/// What a start knows of a partition beside its mark, and what it may do about what is lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected<'a> {
    /// The closed segments that held something, as [`Partition::closed`]; none where a catalogue
    /// does not say.
    pub(crate) closed: Option<&'a [ClosedMark]>,
    /// Go on without what is missing or damaged.
    pub(crate) accept_loss: bool,
    /// Its stream is compacted: what a start reads as a whole.
    pub(crate) compacted: bool,
}

/// A partition as [`Partition::open_as`] found it.
pub(crate) struct Opened {
    pub(crate) partition: Partition,
    pub(crate) notices: Vec<Notice>,
    /// Something durable was given up, as the operator allowed.
    pub(crate) lossy: bool,
}

/// Bytes read at once where a closed segment is walked through.
const WALK_WINDOW_BYTES: usize = 256 << 10;

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
        let opened = Self::open_as(disk, dir, settings, mark, Expected::default())?;
        Ok((opened.partition, opened.notices))
    }

    /// As [`open`](Self::open); a segment that should be there and is not is [`Error::Corrupt`] too.
    /// Where loss is accepted, it goes on without what is gone and says what that was.
    pub(crate) fn open_as(
        disk: Arc<dyn Disk>,
        dir: &str,
        settings: PartitionSettings,
        mut mark: Option<PartitionMark>,
        expected: Expected<'_>,
    ) -> Result<Opened, Error> {
        let mut notices = Vec::new();
        let (mut bases, txnindexes) = tidy(&*disk, dir, mark.map(|mark| mark.segment_base))?;
        let mut lost = Vec::new();
        let whole_end = mark.map(|mark| (mark.position, mark.next_offset));
        if let Some(mark) = &mut mark {
            missing_segments(dir, &bases, mark, &expected, &mut lost)?;
            if expected.accept_loss && expected.compacted {
                heal::segments(&disk, dir, &bases, mark, &mut lost)?;
            }
        }
        check_metadata(&*disk, dir, &settings, &mut notices)?;
        let mut epochs = read_epochs(&*disk, dir, &mut notices)?;
        let (active, tail) = if let Some(base) =
            bases.pop_if(|base| mark.is_none_or(|mark| mark.segment_base == *base))
        {
            let end = mark.map(|mark| (mark.position, mark.next_offset));
            let opened = open_active(&disk, dir, base, end);
            let opened = match (opened, &mut mark) {
                (Err(Error::Corrupt { .. }), Some(mark)) if expected.accept_loss => {
                    heal::active(&disk, dir, mark, &mut lost)?;
                    open_active(&disk, dir, base, Some((mark.position, mark.next_offset)))
                }
                (opened, _) => opened,
            };
            let (segment, mut tail, mended) = opened?;
            fill_gap(&segment, &mut tail, whole_end, &epochs)?;
            notices.extend(mended);
            (segment, tail)
        } else {
            let next_offset = whole_end.map_or(0, |(_, next_offset)| next_offset);
            // Where something is left before it, readers must come over the gap.
            let base = mark
                .filter(|_| !bases.is_empty())
                .map_or(next_offset, |mark| mark.segment_base);
            let segment = Segment::create(&disk, dir, base)?;
            let mut tail = Tail::empty(base);
            fill_gap(&segment, &mut tail, Some((0, next_offset)), &epochs)?;
            (segment, tail)
        };
        let mut segments = VecDeque::with_capacity(bases.len() + 1);
        for (at, &base) in bases.iter().enumerate() {
            let next_base = bases.get(at + 1).copied().unwrap_or(active.base());
            let open = |notices: &mut _| open_closed(&disk, dir, base, next_base, notices);
            let (mut segment, damaged) = open(&mut notices)?;
            let shortened = missing_end(&*disk, &segment, next_base, &expected, &mut lost)?;
            if shortened {
                (segment, _) = open(&mut notices)?;
            } else if damaged && expected.accept_loss {
                heal::closed(&disk, dir, (base, next_base), &mut lost)?;
                (segment, _) = open(&mut notices)?;
            }
            segments.push_back(Arc::new(segment));
        }
        let first = bases.first().copied().unwrap_or(active.base());
        segments.push_back(Arc::new(active));
        let log_start = mark
            .map_or(first, |mark| mark.log_start.max(first))
            .min(tail.next_offset);
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
        let lossy = !lost.is_empty();
        notices.extend(lost);
        Ok(Opened {
            partition,
            notices,
            lossy,
        })
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
            reserved: 0,
            busy: false,
            unindexed: IndexBytes::default(),
            staged: Vec::new(),
            staged_bytes: 0,
            urgent: false,
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
    let position = end.map_or(len, |(position, _)| position);
    // Also gives back space behind the end that was reserved before a crash.
    log.set_len(position)
        .map_err(|source| Error::disk_at(segment.path("log"), "truncate", position, source))?;
    let next_offset = end.map_or(i64::MAX as u64, |(_, next_offset)| next_offset);
    let recovered = match missing {
        Some(what) if position > 0 => Err(what),
        _ => segment.recover_tail(position, next_offset, end.is_none())?,
    };
    let (mut tail, damage) = match recovered {
        Ok(recovered) => recovered,
        Err(what) => {
            notices.push(rebuilt(&segment, what, position));
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

/// True beside the segment where damage was met in it, behind which no index leads.
fn open_closed(
    disk: &Arc<dyn Disk>,
    dir: &str,
    base: u64,
    next_base: u64,
    notices: &mut Vec<Notice>,
) -> Result<(Segment, bool), Error> {
    let mut damaged = false;
    let mut segment = Segment::at(disk, dir, base);
    segment.end_at(next_base);
    let measured = match missing_index(&**disk, &segment) {
        Some(what) => Err(what),
        None => segment.measure(next_base)?,
    };
    if let Err(what) = measured {
        segment.close_files();
        let log = Arc::clone(&segment.open_files(Open::Create)?.log);
        let len = segment.len_of("log", &*log)?;
        let (tail, damage) = segment.rebuild_closed(len)?;
        segment.publish_closed(&tail)?;
        notices.push(rebuilt(&segment, what, len));
        if let Some(damage) = damage {
            damaged = true;
            let what = format!("reading there will fail: {damage}");
            notices.push(Notice {
                path: segment.path("log"),
                what,
            });
        }
    }
    segment.close_files();
    Ok((segment, damaged))
}

/// Files of segments go only after a catalogue that no longer needs them is durable: one that holds
/// something to be read and is not there was lost.
fn missing_segments(
    dir: &str,
    bases: &[u64],
    mark: &PartitionMark,
    expected: &Expected<'_>,
    lost: &mut Vec<Notice>,
) -> Result<(), Error> {
    let active = (mark.position > 0).then_some((mark.segment_base, mark.next_offset));
    let closed = expected.closed.unwrap_or_default().iter().copied();
    let closed = closed.map(|mark| (mark.base, mark.next));
    for (base, next) in closed.chain(active) {
        if next <= mark.log_start || bases.contains(&base) {
            continue;
        }
        let path = format!("{dir}/{base:020}.log");
        let offsets = offsets(base.max(mark.log_start), next);
        let what = format!("the file is not there, and {offsets} with it");
        if !expected.accept_loss {
            return Err(Error::corrupt(path, 0, what));
        }
        lost.push(Notice { path, what });
    }
    Ok(())
}

/// A closed segment never changes unless it is written anew, which says how long it became: one that
/// is shorter has lost its end, which a cut between two batches does not show by itself. True where it
/// was cut to its last whole batch, so that readers step over what is gone.
fn missing_end(
    disk: &dyn Disk,
    segment: &Segment,
    next_base: u64,
    expected: &Expected<'_>,
    lost: &mut Vec<Notice>,
) -> Result<bool, Error> {
    let closed = expected.closed.unwrap_or_default();
    let known = closed.iter().find(|mark| mark.base == segment.base());
    let size = segment.size_bytes();
    let Some(mark) = known.filter(|mark| size < mark.size_bytes) else {
        return Ok(false);
    };
    if segment.rewritten_bytes(disk)? == Some(size) {
        return Ok(false);
    }
    let path = segment.path("log");
    let known = mark.size_bytes;
    let what = format!("the file ends there, but the checkpoint knows {known} bytes");
    if !expected.accept_loss {
        return Err(Error::corrupt(path, size, what));
    }
    let mut walk = Walk::new(segment, 0, size, WALK_WINDOW_BYTES)?;
    let (mut end, mut kept_to) = (0, segment.base());
    while let Ok(Some((position, head))) = walk.step() {
        end = position + head.size_bytes() as u64;
        kept_to = head.next_offset();
    }
    let what = format!(
        "at byte {size}: {what}, and {} are lost",
        offsets(kept_to, next_base)
    );
    lost.push(Notice {
        path: path.clone(),
        what,
    });
    if !segment.is_cut_behind(end)? {
        return Ok(false);
    }
    let file = disk
        .open(&path, Open::ReadWrite)
        .map_err(|source| Error::disk(&path, "open", source))?;
    file.set_len(end)
        .and_then(|()| file.sync_all())
        .map_err(|source| Error::disk_at(&path, "truncate", end, source))?;
    Ok(true)
}

/// Stands a batch without records for what is lost at the end, so that what is appended next gets the
/// offset that it would have got, and readers come there without waiting for it.
fn fill_gap(
    segment: &Segment,
    tail: &mut Tail,
    end: Option<(u64, u64)>,
    epochs: &Epochs,
) -> Result<(), Error> {
    let Some((_, next_offset)) = end.filter(|(_, next)| *next > tail.next_offset) else {
        return Ok(());
    };
    let batch = gap_batch(tail.next_offset, next_offset, epochs.latest().unwrap_or(0));
    let head = BatchHead::read(&batch).expect("it was just made");
    let at = tail.position;
    segment
        .files()?
        .log
        .write_at(&[&batch], at)
        .map_err(|source| Error::disk_at(segment.path("log"), "write", at, source))?;
    let before = *tail;
    let mut due = IndexBytes::default();
    tail.add(segment.base(), &head, &mut due);
    segment.write_indexes(&due, &before)?;
    segment.publish(tail);
    Ok(())
}

/// "offsets 3 to 7" for what begins at 3 and ends before 8.
pub(super) fn offsets(from: u64, next: u64) -> String {
    if next <= from {
        return "no offsets".to_owned();
    }
    format!("offsets {from} to {}", next - 1)
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
        let index_of = index_of.or(txnindex_of).or(base_of(name, REWRITTEN));
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

fn rebuilt(segment: &Segment, what: &str, len: u64) -> Notice {
    Notice {
        path: segment.path("index"),
        what: format!("{what}; both indexes were rebuilt from bytes 0 to {len} of the log"),
    }
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
    let bytes = read_whole(&*file, TEXT_BYTES_MAX).map_err(|failed| failed.of(path))?;
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
