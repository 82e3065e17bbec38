//! The journal's writing side: one write-ahead log for the whole node in parts of one size that are
//! written with zeros once and then used again and again. What an entry means is not known here.

pub(crate) mod part;
pub(crate) mod replay;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile, Open};
use crate::entry::{EntryHead, Gather, OpBytes, body_bytes, stride};
use crate::error::Error;
use crate::limits::PREPARE_RETRY_MS;
use crate::space::leave_reserve;
use crate::stream::{Lsn, PartitionId};
use part::{JOURNAL_DIR, PART_HEAD_BYTES, PartHead, PartPreparation, part_path, zeros};

/// A place in the journal: what was written before it is one unbroken sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalMark {
    /// The last entry before the mark.
    pub(crate) lsn: Lsn,
    /// Generation of the part that the mark is in.
    pub(crate) generation: u64,
    /// Byte in that part where the next entry begins.
    pub(crate) position: u64,
}

/// A part with entries that may still be needed.
#[derive(Clone)]
pub(crate) struct LivePart {
    pub(crate) path: String,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) generation: u64,
    pub(crate) first_lsn: Lsn,
    /// Some of it cannot be read, so writing into that fails: it is not used again.
    pub(crate) unfit: bool,
}

/// A part that was written since the last flush.
#[derive(Clone)]
pub(crate) struct DirtyPart {
    pub(crate) path: String,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Its last written entry, and where that ends.
    pub(crate) lsn: Lsn,
    pub(crate) position: u64,
    /// The file is new: its attributes and its name must be synced too.
    pub(crate) new: bool,
}

/// A write ends where a block of the file system does, in bytes: of a block that is written in part
/// the rest would have to be read from the disk first, where memory no longer holds it (decision
/// 0013).
const BLOCK_BYTES: u64 = 4096;

/// The first time that a part is used which was made in haste, zeros follow what is written up to the next
/// multiple of so many bytes, as prepared parts were filled with them: memory then holds the part in units of
/// that size and not of single writes, and each later use is the cheaper for it (decision 0015).
const BARE_PIECE_BYTES: u64 = 256 << 10;

/// Parts that wait, ready, for the one that is in use to be full: more than one, so that there is
/// time to make them slowly.
const SPARE_PARTS: usize = 2;

pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    log_id: u64,
    part_bytes: u64,
    parts_max: usize,
    /// Oldest first; entries go to the last.
    live: VecDeque<LivePart>,
    free: Vec<(String, Arc<dyn DiskFile>)>,
    preparing: bool,
    /// When the preparation of a part began that failed, ms since 1970.
    failed_ms: Option<u64>,
    tried_ms: u64,
    next_number: u32,
    next_generation: u64,
    /// Where the next staged entry begins in the last live part.
    position: u64,
    last_lsn: Lsn,
    runs: Vec<Run>,
    spare: Vec<Gather>,
    written: JournalMark,
    dirty: Vec<DirtyPart>,
    /// The part in use was made in haste and is used for the first time: behind what was written there
    /// is nothing.
    bare: bool,
}

/// Staged bytes that go into one part.
struct Run {
    path: String,
    file: Arc<dyn DiskFile>,
    new: bool,
    bare: bool,
    position: u64,
    gather: Gather,
    mark: JournalMark,
}

/// What a journal starts with.
pub(crate) struct JournalStart {
    pub(crate) log_id: u64,
    pub(crate) part_bytes: u64,
    pub(crate) parts_max: usize,
    pub(crate) live: VecDeque<LivePart>,
    pub(crate) free: Vec<(String, Arc<dyn DiskFile>)>,
    pub(crate) next_number: u32,
    pub(crate) next_generation: u64,
    pub(crate) last_lsn: Lsn,
}

impl Journal {
    /// Begins a new part behind `start.last_lsn` and makes it durable. A start never goes on in a
    /// part that was written before: what a torn tail left there could be taken for new.
    pub(crate) fn start(disk: Arc<dyn Disk>, start: JournalStart) -> Result<Self, Error> {
        let mut journal = Self {
            disk,
            log_id: start.log_id,
            part_bytes: start.part_bytes,
            parts_max: start.parts_max,
            live: start.live,
            free: start.free,
            preparing: false,
            failed_ms: None,
            tried_ms: 0,
            next_number: start.next_number,
            next_generation: start.next_generation,
            position: 0,
            last_lsn: start.last_lsn,
            runs: Vec::new(),
            spare: Vec::new(),
            written: JournalMark::default(),
            dirty: Vec::new(),
            bare: false,
        };
        if journal.free.is_empty() {
            let mut preparation = journal.new_preparation(0);
            while !preparation.step()? {}
            journal.free.extend(preparation.into_part());
        }
        journal.next_part(start.last_lsn)?;
        journal.write()?;
        for part in journal.dirty.drain(..) {
            part.file
                .sync_data()
                .map_err(|e| Error::disk(part.path, "sync", e))?;
        }
        // A part made by a process that was killed may have a name that was never synced.
        journal
            .disk
            .sync_dir(JOURNAL_DIR)
            .map_err(|e| Error::disk(JOURNAL_DIR, "sync", e))?;
        Ok(journal)
    }

    /// Largest entry, in bytes with its head and padding.
    pub(crate) fn entry_bytes_max(&self) -> u64 {
        self.part_bytes - PART_HEAD_BYTES
    }

    /// Bytes that such an entry takes.
    pub(crate) fn entry_bytes(ops: &OpBytes, batch_sizes: impl Iterator<Item = usize>) -> u64 {
        stride(body_bytes(ops, batch_sizes))
    }

    /// Bytes kept for what makes room again: none as long as another part comes without that.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        let is_last = self.free.is_empty() && !self.preparing && self.live.len() >= self.parts_max;
        if is_last { self.part_bytes / 4 } else { 0 }
    }

    /// Whether an entry of so many bytes finds room without passing the bound on all parts.
    pub(crate) fn has_room(&self, entry_bytes: u64) -> bool {
        self.position + entry_bytes <= self.part_bytes
            || !self.free.is_empty()
            || self.live.len() + usize::from(self.preparing) < self.parts_max
    }

    /// Adds an entry to what the next [`Journal::write`] writes; its sequence is the one after the
    /// last. Returns the bytes that it takes.
    pub(crate) fn stage(
        &mut self,
        flushed: Lsn,
        time_ms: u64,
        foreign: bool,
        ops: &OpBytes,
        appends: &[(PartitionId, Bytes)],
    ) -> Result<u64, Error> {
        let entry_bytes = Self::entry_bytes(ops, appends.iter().map(|(_, batch)| batch.len()));
        assert!(
            entry_bytes <= self.entry_bytes_max(),
            "the caller has refused what is too large"
        );
        if self.position + entry_bytes > self.part_bytes {
            self.next_part(flushed)?;
        }
        if self.runs.is_empty() {
            let last = self.live.back().expect("a part is in use");
            let (path, file) = (last.path.clone(), Arc::clone(&last.file));
            self.begin_run(path, file, false);
        }
        self.last_lsn += 1;
        let generation = self.live.back().expect("a part is in use").generation;
        let head = EntryHead {
            generation,
            lsn: self.last_lsn,
            flushed,
            time_ms,
            foreign,
            body_bytes: 0,
            crc: 0,
        };
        let run = self.runs.last_mut().expect("a run was begun");
        let taken = run.gather.entry(head, ops, appends);
        debug_assert_eq!(taken, entry_bytes);
        self.position += taken;
        run.mark = JournalMark {
            lsn: self.last_lsn,
            generation,
            position: self.position,
        };
        Ok(taken)
    }

    /// Writes what was staged: one write for each part touched.
    pub(crate) fn write(&mut self) -> Result<(), Error> {
        for mut run in self.runs.drain(..) {
            let written = (run.position, run.mark.position);
            let padding = if run.bare {
                bare_padding(written, self.part_bytes)
            } else {
                padding(run.mark.position, BLOCK_BYTES, self.part_bytes)
            };
            let mut slices = run.gather.slices();
            slices.extend(zeros(padding));
            run.file
                .write_at(&slices, run.position)
                .map_err(|e| Error::disk_at(&*run.path, "write", run.position, e))?;
            self.written = run.mark;
            let known = self
                .dirty
                .iter_mut()
                .find(|part| Arc::ptr_eq(&part.file, &run.file));
            if let Some(part) = known {
                part.lsn = run.mark.lsn;
                part.position = run.mark.position;
            } else {
                self.dirty.push(DirtyPart {
                    path: run.path,
                    file: run.file,
                    lsn: run.mark.lsn,
                    position: run.mark.position,
                    new: run.new,
                });
            }
            run.gather.clear();
            self.spare.push(run.gather);
        }
        self.spare.truncate(2);
        Ok(())
    }

    /// End of what is written.
    pub(crate) fn mark(&self) -> JournalMark {
        self.written
    }

    /// Parts written since they were last flushed.
    pub(crate) fn dirty(&self) -> &[DirtyPart] {
        &self.dirty
    }

    /// Those of them that a start needs whose catalogue goes back to `kept_from`: not the ones that
    /// are free once that catalogue is durable. The part that the mark is in is where recovery
    /// begins; and a file that is new is synced with its name before it is ever used again.
    pub(crate) fn dirty_and_needed(&self, kept_from: Lsn) -> Vec<DirtyPart> {
        let marked = self
            .live
            .iter()
            .find(|part| part.generation == self.written.generation)
            .map(|part| &part.path);
        let needed = self
            .dirty
            .iter()
            .filter(|part| part.lsn > kept_from || part.new || Some(&part.path) == marked);
        needed.cloned().collect()
    }

    /// Forgets the parts that a flush left clean: nothing was written to them since. Each is named
    /// with the last entry that the flush found in it; after reuse it holds only later ones.
    pub(crate) fn clean(&mut self, flushed: &[(String, Lsn)]) {
        self.dirty.retain_mut(|part| {
            let Some((_, lsn)) = flushed.iter().find(|(path, _)| *path == part.path) else {
                return true;
            };
            part.new = false;
            part.lsn > *lsn
        });
    }

    /// Frees the parts whose entries are all at or below `upto`, but not the one that the durable
    /// mark, of generation `marked`, is in: recovery begins there.
    pub(crate) fn recycle(&mut self, upto: Lsn, marked: u64) {
        while self.can_recycle(upto, marked) {
            let part = self.live.pop_front().expect("there are two");
            let dirty = self.dirty.iter().any(|dirty| dirty.path == part.path);
            if dirty {
                // Its flush is still to come; it goes the next time.
                self.live.push_front(part);
                break;
            }
            if part.unfit {
                // Where that fails it lies there unused: whatever is in it is known to be over.
                let _ = self.disk.remove_file(&part.path);
            } else {
                self.free.push((part.path, part.file));
            }
        }
    }

    /// Whether a part can be recycled.
    pub(crate) fn can_recycle(&self, upto: Lsn, marked: u64) -> bool {
        self.live.len() > 1
            && self.live[1].first_lsn <= upto + 1
            && self.live[0].generation < marked
    }

    /// Takes a part that nothing needs; false when there are as many as there may be.
    pub(crate) fn add_free(&mut self, path: &str, file: Arc<dyn DiskFile>) -> bool {
        let wanted = self.live.len() + self.free.len() < self.parts_max;
        if wanted {
            self.free.push((path.to_owned(), file));
        }
        wanted
    }

    /// The work of making one more part, when too few wait, the bounds on the journal and on free
    /// space allow it, and none failed just now.
    pub(crate) fn prepare(&mut self, reserve_bytes: u64, now_ms: u64) -> Option<PartPreparation> {
        let parts = self.live.len() + self.free.len();
        let wanted = self.free.len() < SPARE_PARTS && !self.preparing && parts < self.parts_max;
        let failed = self
            .failed_ms
            .is_some_and(|failed_ms| now_ms.abs_diff(failed_ms) < PREPARE_RETRY_MS);
        if !wanted || failed || leave_reserve(&*self.disk, reserve_bytes, self.part_bytes).is_err()
        {
            return None;
        }
        self.preparing = true;
        self.tried_ms = now_ms;
        Some(self.new_preparation(reserve_bytes))
    }

    /// Takes a prepared part; of one that failed nothing stays.
    pub(crate) fn prepared(&mut self, preparation: PartPreparation) {
        self.preparing = false;
        let part = preparation.into_part();
        self.failed_ms = part.is_none().then_some(self.tried_ms);
        self.free.extend(part);
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &LivePart> {
        self.live.iter()
    }

    /// Bytes in use and bytes there may be.
    pub(crate) fn fill(&self) -> (u64, u64) {
        let before = self.live.len().saturating_sub(1) as u64 * self.part_bytes;
        (
            before + self.position,
            self.parts_max as u64 * self.part_bytes,
        )
    }

    pub(crate) fn next_generation(&self) -> u64 {
        self.next_generation
    }

    fn new_preparation(&mut self, reserve_bytes: u64) -> PartPreparation {
        let path = part_path(self.next_number);
        self.next_number += 1;
        PartPreparation::new(Arc::clone(&self.disk), path, self.part_bytes, reserve_bytes)
    }

    /// Stages the header of a fresh part; later entries go there.
    fn next_part(&mut self, flushed: Lsn) -> Result<(), Error> {
        let (path, file, new) = if let Some((path, file)) = self.free.pop() {
            (path, file, false)
        } else {
            // No prepared part waits. A sparse file will do: dearer to flush the first time, but
            // the log thread does not wait for zeros.
            let path = part_path(self.next_number);
            self.next_number += 1;
            let file = self.disk.open(&path, Open::Create);
            let file = file.map_err(|e| Error::disk(&*path, "open", e))?;
            file.set_len(self.part_bytes)
                .map_err(|e| Error::disk(&*path, "write", e))?;
            file.reserve(0, self.part_bytes);
            (path, Arc::from(file), true)
        };
        let head = PartHead {
            log_id: self.log_id,
            generation: self.next_generation,
            first_lsn: self.last_lsn + 1,
            flushed,
        };
        self.next_generation += 1;
        self.live.push_back(LivePart {
            path: path.clone(),
            file: Arc::clone(&file),
            generation: head.generation,
            first_lsn: head.first_lsn,
            unfit: false,
        });
        self.position = 0;
        self.bare = new;
        self.begin_run(path, file, new);
        self.position = PART_HEAD_BYTES;
        let run = self.runs.last_mut().expect("a run was begun");
        run.gather.copy(&head.encode());
        run.mark = JournalMark {
            lsn: self.last_lsn,
            generation: head.generation,
            position: PART_HEAD_BYTES,
        };
        Ok(())
    }

    fn begin_run(&mut self, path: String, file: Arc<dyn DiskFile>, new: bool) {
        self.runs.push(Run {
            path,
            file,
            new,
            bare: self.bare,
            position: self.position,
            gather: self.spare.pop().unwrap_or_default(),
            mark: self.written,
        });
    }
}

/// Bytes between the end of a write and that of its unit, in a part of so many.
fn padding(end: u64, unit_bytes: u64, part_bytes: u64) -> usize {
    (end.next_multiple_of(unit_bytes).min(part_bytes) - end) as usize
}

/// The same for a write into a part that was made in haste: none where an earlier write has filled the
/// piece already.
fn bare_padding((from, end): (u64, u64), part_bytes: u64) -> usize {
    let filled_to = from.next_multiple_of(BARE_PIECE_BYTES);
    if end > filled_to {
        padding(end, BARE_PIECE_BYTES, part_bytes)
    } else {
        0
    }
}

/// Syncs written parts; for the flush thread.
pub(crate) fn sync_parts(disk: &dyn Disk, parts: &[DirtyPart]) -> Result<(), Error> {
    for part in parts {
        let synced = if part.new {
            part.file.sync_all()
        } else {
            part.file.sync_data()
        };
        synced.map_err(|e| Error::disk_at(&*part.path, "sync", part.position, e))?;
    }
    if parts.iter().any(|part| part.new) {
        disk.sync_dir(JOURNAL_DIR)
            .map_err(|e| Error::disk(JOURNAL_DIR, "sync", e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    const PART_BYTES: u64 = 64 << 10;

    #[test]
    fn a_write_ends_with_its_block_and_the_next_goes_on_within_it() {
        let disk = Arc::new(MemoryDisk::new());
        disk.create_dir(JOURNAL_DIR).unwrap();
        let path = part_path(1);
        let file = disk.open(&path, Open::Create).unwrap();
        let older = vec![0xff; PART_BYTES as usize];
        file.write_at(&[&older], 0).unwrap();
        let start = JournalStart {
            log_id: 1,
            part_bytes: PART_BYTES,
            parts_max: 2,
            live: VecDeque::new(),
            free: vec![(path.clone(), Arc::from(file))],
            next_number: 2,
            next_generation: 1,
            last_lsn: 0,
        };
        let mut journal = Journal::start(disk.clone(), start).unwrap();
        let mut written = Vec::new();
        for size in [10, 3000, 5000, 1] {
            let from = journal.mark().position as usize;
            let batch = Bytes::from(vec![7; size]);
            let staged = journal.stage(0, 0, false, &OpBytes::default(), &[(0, batch)]);
            journal.write().unwrap();
            let end = journal.mark().position as usize;
            assert_eq!(end - from, staged.unwrap() as usize);
            let bytes = disk.contents(&path).unwrap();
            let block = end.next_multiple_of(BLOCK_BYTES as usize);
            assert!(bytes[end..block].iter().all(|&byte| byte == 0));
            assert!(bytes[block..].iter().all(|&byte| byte == 0xff));
            // What was written before stands as it did.
            assert!(bytes.starts_with(&written));
            written = bytes[..end].to_vec();
        }
    }

    #[test]
    fn nothing_is_written_beyond_the_end_of_a_part() {
        assert_eq!(padding(4096, BLOCK_BYTES, 9000), 0);
        assert_eq!(padding(4097, BLOCK_BYTES, 9000), 4095);
        assert_eq!(padding(8193, BLOCK_BYTES, 9000), 807);
        assert_eq!(padding(9000, BLOCK_BYTES, 9000), 0);
        assert_eq!(bare_padding((0, 4200), 9000), 4800);
    }

    #[test]
    fn each_piece_of_a_bare_part_is_filled_once_from_its_beginning_on() {
        let (piece, mut filled) = (BARE_PIECE_BYTES, Vec::new());
        let mut from = 0;
        for size in [4200, 9, piece, 1, piece - 4210, 1, 3 * piece, 5] {
            let end = from + size;
            let padding = bare_padding((from, end), 10 * piece) as u64;
            if padding > 0 || end == from.next_multiple_of(piece) {
                filled.push(end + padding);
            }
            from = end;
        }
        assert_eq!(filled, [piece, 2 * piece, 2 * piece, 3 * piece, 6 * piece]);
    }
}
