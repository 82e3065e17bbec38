//! A disk in memory: for tests, with the failures that real disks have. It forgets on command what
//! was not synced, names as well as bytes.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, Open};

/// A kind of operation that can be told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `write_at`
    Write,
    /// `sync_data` and `sync_all` of a file, and `sync_dir`.
    Sync,
    /// `read_at`
    Read,
    /// `read_at_now`, which then says that it would have to wait.
    ReadNow,
    /// `open`
    Open,
    /// `remove_file`
    Remove,
    /// `rename`
    Rename,
}

/// Files in memory; clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<Names>,
    faults: Mutex<Vec<Fault>>,
    free_bytes: Mutex<Option<u64>>,
}

#[derive(Default)]
struct Names {
    files: BTreeMap<String, Arc<Contents>>,
    dirs: BTreeSet<String>,
    /// What `sync_dir` made durable.
    durable_files: BTreeMap<String, Arc<Contents>>,
    durable_dirs: BTreeSet<String>,
}

#[derive(Default)]
struct Contents {
    state: Mutex<ContentsState>,
}

#[derive(Default)]
struct ContentsState {
    bytes: Vec<u8>,
    /// What to undo, newest last, when the bytes since the last sync are forgotten.
    undo: Vec<Undo>,
    /// Byte up to which there is space, also behind the end.
    reserved: u64,
    /// Bytes that cannot be read.
    unreadable: Vec<Range<u64>>,
}

struct Undo {
    len_before: usize,
    position: usize,
    bytes_before: Vec<u8>,
}

struct Fault {
    operation: Operation,
    path_part: String,
    /// Matching operations that still succeed before the one that fails.
    left: u64,
    /// Bytes that a failing write leaves behind.
    keep_bytes: usize,
    /// It fails again and again.
    lasting: bool,
}

struct MemoryFile {
    shared: Arc<Shared>,
    path: String,
    contents: Arc<Contents>,
    writable: bool,
}

impl MemoryDisk {
    /// An empty disk with endless space.
    pub fn new() -> Self {
        Self::default()
    }

    /// What [`Disk::free_bytes`] says from now on.
    pub fn set_free_bytes(&self, bytes: u64) {
        *lock(&self.shared.free_bytes) = Some(bytes);
    }

    /// Byte up to which space was reserved for a file, and not given back.
    pub fn reserved(&self, path: &str) -> u64 {
        let names = lock(&self.shared.names);
        let contents = names.files.get(path);
        contents.map_or(0, |contents| lock(&contents.state).reserved)
    }

    /// Lets the `nth` (1 = the next) such operation on a path that contains `path_part` fail, once.
    pub fn fail(&self, operation: Operation, path_part: &str, nth: u64) {
        self.add_fault(operation, path_part, nth, 0);
    }

    /// As [`fail`](Self::fail) for a write, of which the first `keep_bytes` bytes are still written.
    pub fn fail_torn(&self, path_part: &str, nth: u64, keep_bytes: usize) {
        self.add_fault(Operation::Write, path_part, nth, keep_bytes);
    }

    /// Lets every such operation on a path that contains `path_part` fail until [`heal`](Self::heal).
    pub fn fail_always(&self, operation: Operation, path_part: &str) {
        self.add_fault(operation, path_part, 1, 0);
        if let Some(fault) = lock(&self.shared.faults).last_mut() {
            fault.lasting = true;
        }
    }

    /// Forgets all faults that did not happen yet, and ends those that last.
    pub fn heal(&self) {
        lock(&self.shared.faults).clear();
    }

    /// A crash. With `forget_unsynced` (a power cut) every byte and name that was not synced is
    /// gone; without (a killed process) all stays. Handles opened before must not be used after.
    pub fn crash(&self, forget_unsynced: bool) {
        self.heal();
        if !forget_unsynced {
            return;
        }
        let mut names = lock(&self.shared.names);
        let names = &mut *names;
        names.files.clone_from(&names.durable_files);
        names.dirs.clone_from(&names.durable_dirs);
        for contents in names.files.values() {
            lock(&contents.state).forget_unsynced();
        }
    }

    /// A power cut of a disk that writes sectors (512 bytes) in no order: names that were not synced
    /// are forgotten, and of each sector that was written since the last sync `keep` decides
    /// whether its new bytes are there or its old ones. Handles opened before must not be used
    /// after.
    pub fn crash_torn(&self, keep: &mut dyn FnMut() -> bool) {
        self.heal();
        let mut names = lock(&self.shared.names);
        let names = &mut *names;
        names.files.clone_from(&names.durable_files);
        names.dirs.clone_from(&names.durable_dirs);
        for contents in names.files.values() {
            lock(&contents.state).tear(keep);
        }
    }

    /// Overwrites bytes as a failing disk would: durable at once, extending the file if needed.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn corrupt(&self, path: &str, position: u64, bytes: &[u8]) {
        let names = lock(&self.shared.names);
        let contents = names
            .files
            .get(path)
            .expect("corrupt() names an existing file");
        lock(&contents.state).put(position as usize, bytes);
    }

    /// Lets the bytes `from` to before `to` of a file be unreadable (EIO), as bad sectors are: until
    /// the file is cut before them or made anew, or they are written over as a whole.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn make_unreadable(&self, path: &str, from: u64, to: u64) {
        let names = lock(&self.shared.names);
        let contents = names.files.get(path);
        let contents = contents.expect("make_unreadable() names an existing file");
        lock(&contents.state).unreadable.push(from..to);
    }

    /// A copy of another disk as it is now, all of it durable.
    #[cfg(test)]
    pub(crate) fn clone_from_disk(&self, other: &Self) {
        let (mut names, others) = (lock(&self.shared.names), lock(&other.shared.names));
        for (path, contents) in &others.files {
            let copy = Arc::new(Contents::default());
            lock(&copy.state)
                .bytes
                .clone_from(&lock(&contents.state).bytes);
            names.files.insert(path.clone(), copy);
        }
        names.dirs.clone_from(&others.dirs);
        names.durable_files = names.files.clone();
        names.durable_dirs = names.dirs.clone();
    }

    /// A copy of a file's bytes, if there is one.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let names = lock(&self.shared.names);
        names
            .files
            .get(path)
            .map(|contents| lock(&contents.state).bytes.clone())
    }

    fn add_fault(&self, operation: Operation, path_part: &str, nth: u64, keep_bytes: usize) {
        assert!(nth > 0, "operations are counted from 1");
        let fault = Fault {
            operation,
            path_part: path_part.into(),
            left: nth - 1,
            keep_bytes,
            lasting: false,
        };
        lock(&self.shared.faults).push(fault);
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        self.shared.check(Operation::Open, path)?;
        let mut names = lock(&self.shared.names);
        let contents = match names.files.get(path) {
            Some(contents) => Arc::clone(contents),
            None if how == Open::Create => {
                names.check_parent(path)?;
                let contents = Arc::new(Contents::default());
                names.files.insert(path.to_owned(), Arc::clone(&contents));
                contents
            }
            None => return Err(not_found(path)),
        };
        Ok(Box::new(MemoryFile {
            shared: Arc::clone(&self.shared),
            path: path.to_owned(),
            contents,
            writable: how != Open::Read,
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let names = lock(&self.shared.names);
        if !names.is_dir(dir) {
            return Err(not_found(dir));
        }
        let files = names.files.keys().filter(|path| parent(path) == dir);
        let dirs = names.dirs.iter().filter(|path| parent(path) == dir);
        let mut found: Vec<String> = files
            .chain(dirs)
            .map(|path| bare(path).to_owned())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut names = lock(&self.shared.names);
        let mut dir = dir;
        while !dir.is_empty() {
            names.dirs.insert(dir.to_owned());
            dir = parent(dir);
        }
        Ok(())
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.shared.check(Operation::Remove, path)?;
        match lock(&self.shared.names).files.remove(path) {
            Some(_) => Ok(()),
            None => Err(not_found(path)),
        }
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        if !self.list(dir)?.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::DirectoryNotEmpty,
                dir.to_owned(),
            ));
        }
        lock(&self.shared.names).dirs.remove(dir);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shared.check(Operation::Rename, from)?;
        let mut names = lock(&self.shared.names);
        names.check_parent(to)?;
        let contents = names.files.remove(from).ok_or_else(|| not_found(from))?;
        names.files.insert(to.to_owned(), contents);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.shared.check(Operation::Sync, dir)?;
        let mut names = lock(&self.shared.names);
        if !names.is_dir(dir) {
            return Err(not_found(dir));
        }
        let names = &mut *names;
        names.durable_files.retain(|path, _| parent(path) != dir);
        names.durable_dirs.retain(|path| parent(path) != dir);
        let files = names.files.iter().filter(|(path, _)| parent(path) == dir);
        names
            .durable_files
            .extend(files.map(|(path, file)| (path.clone(), Arc::clone(file))));
        let dirs = names.dirs.iter().filter(|path| parent(path) == dir);
        names.durable_dirs.extend(dirs.cloned());
        Ok(())
    }

    fn exists(&self, path: &str) -> bool {
        let names = lock(&self.shared.names);
        names.files.contains_key(path) || names.is_dir(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.shared.free_bytes).unwrap_or(u64::MAX))
    }
}

/// Bytes of the file that a handle stands for.
#[cfg(test)]
pub(crate) fn bytes_of(handle: Arc<dyn Any + Send + Sync>, from: u64, size: usize) -> Vec<u8> {
    let contents: Arc<Contents> = handle.downcast().expect("a handle of a file in memory");
    lock(&contents.state).bytes[from as usize..][..size].to_vec()
}

impl MemoryFile {
    fn read(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let state = lock(&self.contents.state);
        let start = usize::try_from(pos)
            .unwrap_or(usize::MAX)
            .min(state.bytes.len());
        let mut len = buf.len().min(state.bytes.len() - start);
        for bad in &state.unreadable {
            let (from, to) = (start as u64, (start + len) as u64);
            if bad.start < to && from < bad.end {
                // As far as it goes, as an operating system does.
                len = bad.start.saturating_sub(from) as usize;
                if len == 0 {
                    return Err(io::Error::from_raw_os_error(5));
                }
            }
        }
        buf[..len].copy_from_slice(&state.bytes[start..start + len]);
        Ok(len)
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.shared.check(Operation::Read, &self.path)?;
        self.read(buf, pos)
    }

    fn read_at_now(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let answer = self.shared.check(Operation::ReadNow, &self.path);
        answer.map_err(|_| io::ErrorKind::WouldBlock)?;
        self.read(buf, pos)
    }

    fn handle(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.contents.clone())
    }

    fn write_at(&self, bufs: &[&[u8]], pos: u64) -> io::Result<()> {
        self.check_writable()?;
        let failure = self.shared.fault(Operation::Write, &self.path);
        let mut keep = failure
            .as_ref()
            .map_or(usize::MAX, |&keep_bytes| keep_bytes);
        let mut state = lock(&self.contents.state);
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        state.write_over_unreadable(pos..pos + bytes as u64)?;
        let mut at = pos as usize;
        for buf in bufs {
            let part = &buf[..buf.len().min(keep)];
            if !part.is_empty() {
                state.write(at, part);
            }
            at += part.len();
            keep -= part.len();
        }
        match failure {
            Some(_) => Err(injected(Operation::Write)),
            None => Ok(()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.contents.state).bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = lock(&self.contents.state);
        let cut = state
            .bytes
            .get(len as usize..)
            .map(<[u8]>::to_vec)
            .unwrap_or_default();
        let len_before = state.bytes.len();
        let position = len_before.min(len as usize);
        state.undo.push(Undo {
            len_before,
            position,
            bytes_before: cut,
        });
        state.bytes.resize(len as usize, 0);
        state.reserved = 0;
        state.unreadable.retain(|bad| bad.start < len);
        Ok(())
    }

    fn reserve(&self, _from: u64, to: u64) {
        let mut state = lock(&self.contents.state);
        state.reserved = state.reserved.max(to);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.shared.check(Operation::Sync, &self.path)?;
        lock(&self.contents.state).undo.clear();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl MemoryFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "opened for reading",
            ))
        }
    }
}

impl Shared {
    fn check(&self, operation: Operation, path: &str) -> io::Result<()> {
        match self.fault(operation, path) {
            Some(_) => Err(injected(operation)),
            None => Ok(()),
        }
    }

    /// Counts the operation; `Some(keep_bytes)` when it is the one to fail.
    fn fault(&self, operation: Operation, path: &str) -> Option<usize> {
        let mut faults = lock(&self.faults);
        let mut hit = None;
        for (at, fault) in faults.iter_mut().enumerate() {
            if fault.operation != operation || !path.contains(&fault.path_part) {
                continue;
            }
            if fault.left == 0 {
                hit = hit.or(Some(at));
            } else {
                fault.left -= 1;
            }
        }
        hit.map(|at| {
            if faults[at].lasting {
                faults[at].keep_bytes
            } else {
                faults.remove(at).keep_bytes
            }
        })
    }
}

impl Names {
    fn is_dir(&self, path: &str) -> bool {
        path.is_empty() || self.dirs.contains(path)
    }

    fn check_parent(&self, path: &str) -> io::Result<()> {
        if self.is_dir(parent(path)) {
            Ok(())
        } else {
            Err(not_found(path))
        }
    }
}

impl ContentsState {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let len_before = self.bytes.len();
        let start = at.min(len_before);
        let end = (at + bytes.len()).min(len_before).max(start);
        let bytes_before = self.bytes[start..end].to_vec();
        self.undo.push(Undo {
            len_before,
            position: start,
            bytes_before,
        });
        self.put(at, bytes);
    }

    /// Sectors that are written as a whole can be read again; to write a part of one the operating
    /// system must read the rest.
    fn write_over_unreadable(&mut self, range: Range<u64>) -> io::Result<()> {
        let cut = |bad: &Range<u64>| {
            let meets = range.start < bad.end && bad.start < range.end;
            meets && (bad.start < range.start || range.end < bad.end)
        };
        if self.unreadable.iter().any(cut) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.unreadable
            .retain(|bad| bad.end <= range.start || range.end <= bad.start);
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
    }

    fn tear(&mut self, keep: &mut dyn FnMut() -> bool) {
        const SECTOR: usize = 512;
        if self.undo.is_empty() {
            return;
        }
        let newest = self.bytes.clone();
        self.forget_unsynced();
        if newest.len() < self.bytes.len() && keep() {
            self.bytes.truncate(newest.len());
        }
        for (at, sector) in newest.chunks(SECTOR).enumerate() {
            let start = at * SECTOR;
            let old = self.bytes.get(start..start + sector.len());
            if old != Some(sector) && keep() {
                self.put(start, sector);
            }
        }
    }

    fn forget_unsynced(&mut self) {
        while let Some(undo) = self.undo.pop() {
            self.bytes.resize(undo.len_before, 0);
            self.put(undo.position, &undo.bytes_before);
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn bare(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, bare)| bare)
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{path} does not exist"))
}

fn injected(operation: Operation) -> io::Error {
    io::Error::other(format!("injected fault: {operation:?}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_file() -> (MemoryDisk, Box<dyn DiskFile>) {
        let disk = MemoryDisk::new();
        disk.create_dir("a/b").unwrap();
        let file = disk.open("a/b/f", Open::Create).unwrap();
        (disk, file)
    }

    #[test]
    fn a_power_cut_forgets_unsynced_bytes_and_names() {
        let (disk, file) = disk_with_file();
        file.write_at(&[b"hello"], 0).unwrap();
        file.sync_data().unwrap();
        disk.crash(true);
        assert!(!disk.exists("a"), "no directory was synced");

        let (disk, file) = disk_with_file();
        for dir in ["", "a", "a/b"] {
            disk.sync_dir(dir).unwrap();
        }
        file.write_at(&[b"hel", b"lo"], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[b"LLO, world"], 2).unwrap();
        file.set_len(3).unwrap();
        file.write_at(&[b"x"], 7).unwrap();
        assert_eq!(disk.contents("a/b/f").unwrap(), b"heL\0\0\0\0x");
        disk.crash(false);
        assert_eq!(disk.contents("a/b/f").unwrap(), b"heL\0\0\0\0x");
        disk.crash(true);
        assert_eq!(disk.contents("a/b/f").unwrap(), b"hello");
    }

    #[test]
    fn a_torn_power_cut_keeps_any_sectors() {
        let (disk, file) = disk_with_file();
        for dir in ["", "a", "a/b"] {
            disk.sync_dir(dir).unwrap();
        }
        file.write_at(&[&[1; 1024]], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[&[2; 1536]], 0).unwrap();
        let mut order = [false, true, false].into_iter();
        disk.crash_torn(&mut || order.next().unwrap());
        let bytes = disk.contents("a/b/f").unwrap();
        assert_eq!(bytes.len(), 1024);
        assert_eq!((bytes[0], bytes[512]), (1, 2));
    }

    #[test]
    fn a_rename_is_durable_only_after_sync_dir() {
        let (disk, _file) = disk_with_file();
        for dir in ["", "a", "a/b"] {
            disk.sync_dir(dir).unwrap();
        }
        disk.rename("a/b/f", "a/b/g").unwrap();
        assert_eq!(disk.list("a/b").unwrap(), ["g"]);
        disk.crash(true);
        assert_eq!(disk.list("a/b").unwrap(), ["f"]);
        assert_eq!(disk.list("a").unwrap(), ["b"]);
        assert_eq!(
            disk.remove_dir("a").unwrap_err().kind(),
            io::ErrorKind::DirectoryNotEmpty
        );
    }

    #[test]
    fn the_nth_operation_fails_once_and_may_tear() {
        let (disk, file) = disk_with_file();
        disk.fail(Operation::Sync, "b/f", 2);
        file.sync_data().unwrap();
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        disk.fail_torn("b/f", 1, 4);
        file.write_at(&[b"abc", b"def"], 0).unwrap_err();
        assert_eq!(disk.contents("a/b/f").unwrap(), b"abcd");
        disk.fail(Operation::Write, "other", 1);
        file.write_at(&[b"ABC"], 0).unwrap();
        disk.fail_always(Operation::Read, "a/b");
        for _ in 0..3 {
            file.read_at(&mut [0; 3], 0).unwrap_err();
        }
        disk.heal();
        file.read_at(&mut [0; 3], 0).unwrap();
        disk.set_free_bytes(7);
        assert_eq!(disk.free_bytes().unwrap(), 7);
        let reader = disk.open("a/b/f", Open::Read).unwrap();
        reader.write_at(&[b"no"], 0).unwrap_err();
        let mut bytes = [0; 9];
        assert_eq!(reader.read_at(&mut bytes, 2).unwrap(), 2);
        assert_eq!(reader.read_at(&mut bytes, 20).unwrap(), 0);
    }
}
