//! A disk of which some sectors cannot be read, as `--accept-loss` looks at it: they count as damaged
//! bytes, so that what deals with damage deals with them. Knows nothing of what the files hold.

use std::any::Any;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Disk, DiskFile, Open, is_unreadable};
use crate::limits::UNREADABLE_TOLD_MAX;
use crate::partition::Notice;

/// What stands for bytes that cannot be read: no magic number, no zeros of a blank file.
const FILLER: u8 = 0xbd;

/// Bytes that become unreadable together: a page of the operating system's cache.
const SECTOR_BYTES: u64 = 4096;

/// Bytes that are tried at once where a read failed, before each sector by itself.
const STRETCH_BYTES: u64 = 64 * SECTOR_BYTES;

/// The disk below, without errors of reading.
#[derive(Clone)]
pub(crate) struct Salvage {
    disk: Arc<dyn Disk>,
    found: Arc<Found>,
}

/// Where sectors were found that cannot be read.
#[derive(Default)]
struct Found {
    stretches: Mutex<Vec<Stretch>>,
}

struct Stretch {
    path: String,
    from: u64,
    to: u64,
    why: String,
    told: bool,
}

struct SalvageFile {
    file: Box<dyn DiskFile>,
    path: String,
    found: Arc<Found>,
}

impl Salvage {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            found: Arc::default(),
        }
    }

    /// What was found since the last time.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        let mut stretches = self.found.lock();
        let new = stretches.iter_mut().filter(|stretch| !stretch.told);
        new.map(|stretch| {
            stretch.told = true;
            Notice {
                path: stretch.path.clone(),
                what: format!(
                    "bytes {} to {} cannot be read ({}); they count as lost",
                    stretch.from,
                    stretch.to - 1,
                    stretch.why
                ),
            }
        })
        .collect()
    }

    /// Whether something in this file cannot be read.
    pub(crate) fn has_gaps(&self, path: &str) -> bool {
        let stretches = self.found.lock();
        stretches.iter().any(|stretch| stretch.path == path)
    }
}

impl Found {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Stretch>> {
        self.stretches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, path: &str, from: u64, to: u64, why: &io::Error) {
        let mut stretches = self.lock();
        let known = stretches.iter_mut().filter(|known| known.path == path);
        for known in known {
            if known.from <= from && to <= known.to {
                return;
            }
            if known.to == from && !known.told {
                known.to = to;
                return;
            }
        }
        if stretches.len() < UNREADABLE_TOLD_MAX {
            stretches.push(Stretch {
                path: path.to_owned(),
                from,
                to,
                why: why.to_string(),
                told: false,
            });
        }
    }
}

impl Disk for Salvage {
    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SalvageFile {
            file: self.disk.open(path, how)?,
            path: path.to_owned(),
            found: Arc::clone(&self.found),
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn exists(&self, path: &str) -> bool {
        self.disk.exists(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for SalvageFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        match self.file.read_at(buf, pos) {
            Err(error) if is_unreadable(&error) => self.read_around(buf, pos),
            other => other,
        }
    }

    fn read_at_now(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        match self.file.read_at_now(buf, pos) {
            // Trying around it takes its time.
            Err(error) if is_unreadable(&error) => Err(io::ErrorKind::WouldBlock.into()),
            other => other,
        }
    }

    fn write_at(&self, bufs: &[&[u8]], pos: u64) -> io::Result<()> {
        self.file.write_at(bufs, pos)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn write_out(&self, from: u64, to: u64) {
        self.file.write_out(from, to);
    }

    fn reserve(&self, from: u64, to: u64) {
        self.file.reserve(from, to);
    }

    fn handle(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.file.handle()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl SalvageFile {
    /// Reads what can be read, in ever smaller pieces, and fills in the rest.
    fn read_around(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let end = self.file.len()?.min(pos + buf.len() as u64).max(pos);
        let mut at = pos;
        while at < end {
            let stretch = (at / STRETCH_BYTES + 1) * STRETCH_BYTES;
            let stretch = stretch.min(end);
            if self.read_piece(buf, pos, at, stretch)?.is_none() {
                at = stretch;
                continue;
            }
            while at < stretch {
                let sector = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(stretch);
                if let Some(error) = self.read_piece(buf, pos, at, sector)? {
                    buf[(at - pos) as usize..(sector - pos) as usize].fill(FILLER);
                    self.found.add(&self.path, at, sector, &error);
                }
                at = sector;
            }
        }
        Ok((end - pos) as usize)
    }

    /// Reads bytes `from` to `to` into a buffer that begins at byte `pos`; `Some` where they cannot
    /// be read.
    fn read_piece(
        &self,
        buf: &mut [u8],
        pos: u64,
        from: u64,
        to: u64,
    ) -> io::Result<Option<io::Error>> {
        let piece = &mut buf[(from - pos) as usize..(to - pos) as usize];
        let mut done = 0;
        while done < piece.len() {
            match self.file.read_at(&mut piece[done..], from + done as u64) {
                // Cut off meanwhile.
                Ok(0) => {
                    piece[done..].fill(0);
                    break;
                }
                Ok(read) => done += read,
                Err(error) if is_unreadable(&error) => return Ok(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{MemoryDisk, read_whole};

    #[test]
    fn what_cannot_be_read_is_filled_in_and_told_once() {
        let disk = MemoryDisk::new();
        let bytes: Vec<u8> = (0..5 * SECTOR_BYTES).map(|at| (at % 251) as u8).collect();
        let file = disk.open("f", Open::Create).unwrap();
        file.write_at(&[&bytes], 0).unwrap();
        disk.make_unreadable("f", SECTOR_BYTES, 3 * SECTOR_BYTES);
        let salvage = Salvage::new(Arc::new(disk.clone()));
        let file = salvage.open("f", Open::Read).unwrap();
        for _ in 0..2 {
            let read = read_whole(&*file, u64::MAX).unwrap();
            let bad = SECTOR_BYTES as usize..3 * SECTOR_BYTES as usize;
            assert_eq!(read.len(), bytes.len());
            assert_eq!(read[..bad.start], bytes[..bad.start]);
            assert_eq!(read[bad.end..], bytes[bad.end..]);
            assert!(read[bad].iter().all(|byte| *byte == FILLER));
        }
        assert!(salvage.has_gaps("f") && !salvage.has_gaps("g"));
        let mut some = [0; 8];
        assert_eq!(file.read_at_now(&mut some, 3).unwrap(), 8);
        let waits = file.read_at_now(&mut some, SECTOR_BYTES).unwrap_err();
        assert_eq!(waits.kind(), io::ErrorKind::WouldBlock);
        let told = salvage.take_notices();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].what.contains("bytes 4096 to 12287 cannot"),
            "{told:?}"
        );
        assert!(salvage.take_notices().is_empty());
        // What the operating system merely refuses for now is no loss.
        disk.fail_always(crate::disk::Operation::Read, "f");
        file.read_at(&mut [0; 8], 0).unwrap_err();
    }
}
