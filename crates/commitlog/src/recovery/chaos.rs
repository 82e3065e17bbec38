//! A disk for tests that loses power: it stops at a chosen operation, tears the write that it was
//! in, and keeps any sectors of what was not synced, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, Open};

const SECTOR_BYTES: usize = 512;

/// A small deterministic generator of random numbers.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[derive(Clone)]
pub(crate) struct ChaosDisk {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<Inode>,
    names: Names,
    durable_names: Names,
    unsynced: Vec<NameChange>,
    operations: u64,
    stop_at: Option<u64>,
    tear: u64,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<String, usize>,
    dirs: BTreeSet<String>,
}

#[derive(Clone)]
enum NameChange {
    Make(String, usize),
    Remove(String),
    Rename(String, String),
    MakeDir(String),
    RemoveDir(String),
}

#[derive(Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Names {
    fn apply(&mut self, change: &NameChange) {
        match change.clone() {
            NameChange::Make(path, inode) => {
                self.files.insert(path, inode);
            }
            NameChange::Remove(path) => {
                self.files.remove(&path);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = self.files.remove(&from) {
                    self.files.insert(to, inode);
                }
            }
            NameChange::MakeDir(dir) => {
                self.dirs.insert(dir);
            }
            NameChange::RemoveDir(dir) => {
                self.dirs.remove(&dir);
            }
        }
    }
}

impl Names {
    /// What is in a folder that never came to be durable is lost with it.
    fn drop_lost_folders(&mut self) {
        let dirs = self.dirs.clone();
        self.dirs.retain(|dir| is_dir_of(&dirs, parent(dir)));
        let dirs = &self.dirs;
        self.files.retain(|path, _| is_dir_of(dirs, parent(path)));
    }
}

impl NameChange {
    fn dir(&self) -> &str {
        let path = match self {
            Self::Make(path, _)
            | Self::Remove(path)
            | Self::Rename(_, path)
            | Self::MakeDir(path)
            | Self::RemoveDir(path) => path,
        };
        parent(path)
    }

    fn is_in(&self, dir: &str) -> bool {
        self.dir() == dir
    }
}

impl Inode {
    fn apply(&mut self, change: Change) {
        match &change {
            Change::Write(at, bytes) => put(&mut self.bytes, *at, bytes),
            Change::SetLen(len) => self.bytes.resize(*len, 0),
        }
        self.unsynced.push(change);
    }

    fn lose_power(&mut self, random: &mut Random) {
        // Nothing, anything, or everything of what was not synced reached the disk.
        let odds = random.below(3);
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write(at, bytes) => {
                    let mut done = 0;
                    while done < bytes.len() {
                        let sector_end = (at + done) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
                        let count = (sector_end - at - done).min(bytes.len() - done);
                        if odds == 2 || (odds == 1 && random.one_in(2)) {
                            put(&mut self.durable, at + done, &bytes[done..done + count]);
                        }
                        done += count;
                    }
                }
                Change::SetLen(len) => {
                    if odds == 2 || (odds == 1 && random.one_in(2)) {
                        self.durable.resize(len, 0);
                    }
                }
            }
        }
        self.bytes.clone_from(&self.durable);
    }
}

impl State {
    /// Counts a change; an error once the power is off.
    fn count(&mut self) -> io::Result<bool> {
        self.operations += 1;
        match self.stop_at {
            Some(stop_at) if self.operations > stop_at => Err(io::Error::other("the power is off")),
            Some(stop_at) => Ok(self.operations == stop_at),
            None => Ok(false),
        }
    }

    /// Makes a change to names, unless it is the one that the power fails in.
    fn rename(&mut self, change: NameChange) -> io::Result<()> {
        if self.count()? {
            return Err(io::Error::other("the power fails"));
        }
        self.names.apply(&change);
        self.unsynced.push(change);
        Ok(())
    }
}

impl ChaosDisk {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.lock().unwrap()
    }

    /// The power fails in the operation after so many more; `tear`: how many bytes of a write are
    /// still done.
    pub(crate) fn stop_after(&self, operations: u64, tear: u64) {
        let mut state = self.state();
        state.stop_at = Some(state.operations + operations + 1);
        state.tear = tear;
    }

    /// The machine runs again; what was written is there, as after `kill -9`.
    pub(crate) fn restart(&self) {
        self.state().stop_at = None;
    }

    /// The machine runs again after a power cut.
    pub(crate) fn lose_power(&self, random: &mut Random) {
        let mut state = self.state();
        state.stop_at = None;
        let state = &mut *state;
        // Changes of names in one folder keep their order, but not how far they got.
        let mut left = BTreeMap::new();
        for change in state.unsynced.drain(..) {
            let budget = left
                .entry(change.dir().to_owned())
                .or_insert_with(|| random.below(20));
            if *budget > 0 {
                *budget -= 1;
                state.durable_names.apply(&change);
            }
        }
        state.durable_names.drop_lost_folders();
        state.names.clone_from(&state.durable_names);
        for inode in &mut state.files {
            inode.lose_power(random);
        }
    }
}

impl Disk for ChaosDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let inode = match state.names.files.get(path) {
            Some(inode) => *inode,
            None if how == Open::Create && is_dir(&state.names, parent(path)) => {
                let inode = state.files.len();
                state.rename(NameChange::Make(path.to_owned(), inode))?;
                state.files.push(Inode::default());
                inode
            }
            None => return Err(io::Error::new(io::ErrorKind::NotFound, path.to_owned())),
        };
        Ok(Box::new(ChaosFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        let paths = state.names.files.keys().chain(&state.names.dirs);
        let mut names: Vec<String> = paths
            .filter(|path| parent(path) == dir)
            .map(|path| path[dir.len()..].trim_start_matches('/').to_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        let mut missing = Vec::new();
        let mut at = dir;
        while !at.is_empty() && !state.names.dirs.contains(at) {
            missing.push(at.to_owned());
            at = parent(at);
        }
        while let Some(dir) = missing.pop() {
            state.rename(NameChange::MakeDir(dir))?;
        }
        Ok(())
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.files.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::NotFound, path.to_owned()));
        }
        state.rename(NameChange::Remove(path.to_owned()))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        assert!(self.list(dir)?.is_empty());
        self.state().rename(NameChange::RemoveDir(dir.to_owned()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.files.contains_key(from) {
            return Err(io::Error::new(io::ErrorKind::NotFound, from.to_owned()));
        }
        state.rename(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.count()? {
            return Err(io::Error::other("the power fails"));
        }
        let state = &mut *state;
        for change in state.unsynced.extract_if(.., |change| change.is_in(dir)) {
            state.durable_names.apply(&change);
        }
        Ok(())
    }

    fn exists(&self, path: &str) -> bool {
        let state = self.state();
        state.names.files.contains_key(path) || is_dir(&state.names, path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct ChaosFile {
    disk: ChaosDisk,
    inode: usize,
}

impl DiskFile for ChaosFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = &state.files[self.inode].bytes;
        let start = (pos as usize).min(bytes.len());
        let count = buf.len().min(bytes.len() - start);
        buf[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bufs: &[&[u8]], pos: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let mut bytes = bufs.concat();
        let fails = state.count()?;
        if fails {
            bytes.truncate(state.tear as usize % (bytes.len() + 1));
        }
        state.files[self.inode].apply(Change::Write(pos as usize, bytes));
        if fails {
            Err(io::Error::other("the power fails"))
        } else {
            Ok(())
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.inode].bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.count()? {
            return Err(io::Error::other("the power fails"));
        }
        state.files[self.inode].apply(Change::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.count()? {
            return Err(io::Error::other("the power fails"));
        }
        let inode = &mut state.files[self.inode];
        inode.durable.clone_from(&inode.bytes);
        inode.unsynced.clear();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

fn is_dir(names: &Names, path: &str) -> bool {
    is_dir_of(&names.dirs, path)
}

fn is_dir_of(dirs: &BTreeSet<String>, path: &str) -> bool {
    path.is_empty() || dirs.contains(path)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
