//! Copies of the data directory: made while the node runs, and made into a data directory again. What
//! the files mean is the log's; here they are bytes, copied twice so that the second time is short.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use commitlog::{Disk as _, JournalExtents, Lsn};
use tokio::sync::oneshot;

use super::Node;
use super::disk::{FileDisk, lock_directory};

/// The folder of the journal, which is copied as far as it is written.
const JOURNAL_DIR: &str = "journal";

/// What a copy does not need: the lock, the token of the process that runs, its log lines.
const LEFT_OUT: [&str; 5] = [
    "lock",
    "admin.token",
    "admin.token.new",
    "sluice.log",
    JOURNAL_DIR,
];

/// Written last: a directory without it is no whole backup.
const MARK_FILE: &str = "backup.complete";

/// Is in a directory that a restore has begun to fill and has not ended: no node starts on it.
const UNFINISHED_FILE: &str = "restore.unfinished";

/// What a pass may have copied so that the last one, during which no checkpoint is made, is short.
const LAST_PASS_BYTES: u64 = 64 << 20;

/// Most passes before the last one.
const PASSES_MAX: usize = 5;

/// A file that was not written for so long is not copied again, whatever its name.
const SETTLED: Duration = Duration::from_secs(2);

/// Bytes copied at once; after each piece the disk belongs to the log for as long.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes before the end of what was copied of a file that are compared before it is gone on with.
const LOOK_BACK_BYTES: u64 = 4 << 10;

/// Bytes after which it is looked again whether there is room.
const ROOM_LOOK_BYTES: u64 = 64 << 20;

const STOPPING: &str = "the node is being stopped";

/// What a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backup {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The last entry of the journal in it: everything answered before the backup was asked for is.
    pub lsn: Lsn,
}

/// Why there is no backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupError {
    /// Nothing can be copied there; says why.
    Place(String),
    /// There is not room enough, or none is left; says where.
    Room(String),
    /// The log takes no appends, or the node is being stopped; says which.
    Latched(String),
    /// Files cannot be read or written; says why.
    Failed(String),
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        let what = error.to_string();
        match error.kind() {
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::PermissionDenied => Self::Place(what),
            io::ErrorKind::StorageFull => Self::Room(what),
            io::ErrorKind::Interrupted => Self::Latched(what),
            _ => Self::Failed(what),
        }
    }
}

/// A copy whose bulk is made; the rest is made between two checkpoints.
pub(super) struct Job {
    pub copier: Copier,
    pub answer: oneshot::Sender<Result<Backup, BackupError>>,
}

/// The way to the thread that makes checkpoints.
pub(super) type Jobs = Sender<Job>;

/// What is known of a file that was copied.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    /// When the file system made it, where that tells: a number may be given again.
    born: Option<SystemTime>,
    bytes: u64,
    modified: (i64, i64),
    /// It had not been written for a while: what is written now has another time.
    settled: bool,
}

/// Copies a directory into another, as often as it is told to.
pub(super) struct Copier {
    from: PathBuf,
    to: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
    /// Rest after each piece as long as it took.
    gentle: bool,
    /// Bytes copied by all passes.
    copied: u64,
    /// Bytes that must stay free where the copy is.
    reserve_bytes: u64,
    /// True: the node stops, and so does the copy.
    stopping: Arc<AtomicBool>,
}

impl Node {
    /// Copies the data directory into `to`, which must be empty or absent. A node that is started
    /// on the copy has everything that was answered before this was called.
    ///
    /// # Errors
    /// Files cannot be read or written, or the log is latched; says why. What was copied stays.
    pub async fn backup(&self, to: &Path) -> Result<Backup, BackupError> {
        let (from, to) = (self.settings.node.data_dir.clone(), to.to_owned());
        let stopping = Arc::clone(&self.stopped);
        let reserve_bytes = self.settings.log.disk_reserve_bytes;
        let copied = tokio::task::spawn_blocking(move || {
            let mut copier = Copier::new(&from, &to)?;
            (copier.stopping, copier.reserve_bytes) = (stopping, reserve_bytes);
            copier.find_room()?;
            for _ in 0..PASSES_MAX {
                let before = copier.copied;
                copier.pass()?;
                if copier.copied - before < LAST_PASS_BYTES {
                    break;
                }
            }
            Ok::<_, io::Error>(copier)
        });
        let broken = |error: tokio::task::JoinError| BackupError::Failed(error.to_string());
        let copier = copied.await.map_err(broken)??;
        let (answer, result) = oneshot::channel();
        let gone = |()| BackupError::Latched(STOPPING.to_owned());
        self.backups
            .send(Job { copier, answer })
            .map_err(|_| gone(()))?;
        result.await.map_err(|_| gone(()))?
    }
}

/// Makes a data directory of a backup: files and bytes.
///
/// # Errors
/// `backup` is none, or `to` is not empty; says which.
pub fn restore_backup(backup: &Path, to: &Path) -> anyhow::Result<(u64, u64)> {
    if !backup.join(MARK_FILE).exists() {
        bail!(
            "{} is no whole backup: it has no {MARK_FILE}",
            backup.display()
        );
    }
    let copied = (|| {
        let mut copier = Copier::new(backup, to)?;
        copier.gentle = false;
        copier.find_room()?;
        write_synced(&to.join(UNFINISHED_FILE), b"")?;
        sync(to)?;
        copier.tree(Path::new(""), &[MARK_FILE, "lock"])?;
        sync(to)?;
        fs::remove_file(to.join(UNFINISHED_FILE))?;
        sync(to)?;
        Ok::<_, io::Error>(copier.size())
    })();
    let size = copied.with_context(|| format!("cannot restore into {}", to.display()))?;
    // It must be one that a node can take.
    drop(lock_directory(to)?);
    Ok(size)
}

/// Makes sure that a node may start on a directory: no restore into it was broken off. From then on
/// it is no backup any more, if it was one.
///
/// # Errors
/// A restore did not end there.
pub(super) fn check_whole(dir: &Path) -> anyhow::Result<()> {
    if dir.join(UNFINISHED_FILE).exists() {
        bail!(
            "a restore into {} was broken off: empty the directory and restore again",
            dir.display()
        );
    }
    match fs::remove_file(dir.join(MARK_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot change {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a small file so that it survives a power cut together with its folder.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private_file(path)?;
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Whether two files are the same in the last bytes before `end`.
fn same_end(one: &File, other: &File, end: u64) -> io::Result<bool> {
    let length = end.min(LOOK_BACK_BYTES);
    let (mut a, mut b) = (vec![0; length as usize], vec![0; length as usize]);
    one.read_exact_at(&mut a, end - length)?;
    match other.read_exact_at(&mut b, end - length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| a == b),
    }
}

/// Opens a file of a copy for reading and writing; one that is made is for its owner only.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true);
    options.truncate(false).mode(0o600).open(path)
}

impl Copier {
    fn new(from: &Path, to: &Path) -> io::Result<Self> {
        private_dir(to)?;
        if fs::read_dir(to)?.next().is_some() {
            let what = format!("{} is not empty", to.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        let (from, to) = (from.canonicalize()?, to.canonicalize()?);
        if to.starts_with(&from) {
            let what = format!("{} is within the data directory", to.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(Self {
            from,
            to,
            seen: BTreeMap::new(),
            gentle: true,
            copied: 0,
            reserve_bytes: 0,
            stopping: Arc::default(),
        })
    }

    /// Refuses what cannot fit.
    fn find_room(&self) -> io::Result<()> {
        let needed = size_of_tree(&self.from)? + self.reserve_bytes;
        let free = FileDisk::new(&self.to).free_bytes()?;
        if needed <= free {
            return Ok(());
        }
        let what = format!(
            "{} has {free} bytes free; the copy and the reserve need {needed}",
            self.to.display()
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, what))
    }

    /// Copies what is new or changed since the last time, and removes what is gone.
    fn pass(&mut self) -> io::Result<()> {
        let before: BTreeSet<PathBuf> = self.seen.keys().cloned().collect();
        let found = self.tree(Path::new(""), &LEFT_OUT)?;
        for gone in before.difference(&found) {
            fs::remove_file(self.to.join(gone))?;
            self.seen.remove(gone);
        }
        Ok(())
    }

    /// The last pass. Nothing may remove or replace files of the log meanwhile.
    pub(super) fn finish(mut self, journal: &JournalExtents) -> io::Result<Backup> {
        self.gentle = false;
        self.pass()?;
        for (path, bytes) in &journal.parts {
            self.part(Path::new(path), *bytes)?;
        }
        sync(&self.to)?;
        let (files, bytes) = self.size();
        let mark = format!("lsn={}\n", journal.lsn);
        write_synced(&self.to.join(MARK_FILE), mark.as_bytes())?;
        sync(&self.to)?;
        if let Some(parent) = self.to.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Backup {
            files,
            bytes,
            lsn: journal.lsn,
        })
    }

    fn is_full(&self) -> io::Result<bool> {
        Ok(FileDisk::new(&self.to).free_bytes()? < self.reserve_bytes)
    }

    fn size(&self) -> (u64, u64) {
        let bytes = self.seen.values().map(|seen| seen.bytes);
        (self.seen.len() as u64, bytes.sum())
    }

    /// Copies a folder; answers the files in it.
    fn tree(&mut self, folder: &Path, left_out: &[&str]) -> io::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        private_dir(&self.to.join(folder))?;
        let entries = match fs::read_dir(self.from.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if left_out.iter().any(|left_out| name == *left_out) {
                continue;
            }
            let path = folder.join(&name);
            if entry.file_type()?.is_dir() {
                found.extend(self.tree(&path, &[])?);
            } else if self.file(&path)? {
                found.insert(path);
            }
        }
        Ok(found)
    }

    /// Copies a file unless it is as it was; false: it is gone. Segments only grow, so that of one
    /// that grew only the end is copied.
    fn file(&mut self, path: &Path) -> io::Result<bool> {
        let mut source = match File::open(self.from.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            source => source?,
        };
        let meta = source.metadata()?;
        let now = Seen {
            inode: meta.ino(),
            born: meta.created().ok(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            settled: meta.modified()?.elapsed().is_ok_and(|age| age > SETTLED),
        };
        let before = self.seen.get(path).copied();
        let grows = path.extension().is_some_and(|it| it == "log");
        let same = |seen: &Seen| {
            (seen.inode, seen.born) == (now.inode, now.born)
                && (seen.bytes, seen.modified) == (now.bytes, now.modified)
                && (grows || seen.settled)
        };
        if before.as_ref().is_some_and(same) {
            return Ok(true);
        }
        let longer = |seen: &Seen| {
            let one = (seen.inode, seen.born) == (now.inode, now.born);
            grows && one && seen.bytes <= now.bytes
        };
        let mut from = before.filter(longer).map_or(0, |seen| seen.bytes);
        let mut copy = private_file(&self.to.join(path))?;
        if !same_end(&source, &copy, from)? {
            // Compaction has put another file there, which got the number of the one before.
            from = 0;
        }
        // Never longer than what was copied: a copy that breaks off must not look whole.
        copy.set_len(from)?;
        source.seek(SeekFrom::Start(from))?;
        copy.seek(SeekFrom::Start(from))?;
        self.bytes(&mut source, &mut copy, now.bytes - from)?;
        copy.sync_all()?;
        self.seen.insert(path.to_owned(), now);
        Ok(true)
    }

    /// Copies the front of a part of the journal; zeros stand for the rest.
    fn part(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut source = File::open(self.from.join(path))?;
        let whole = source.metadata()?.len();
        let to = self.to.join(path);
        if let Some(folder) = to.parent() {
            private_dir(folder)?;
        }
        let mut copy = private_file(&to)?;
        copy.set_len(0)?;
        self.bytes(&mut source, &mut copy, bytes.min(whole))?;
        copy.set_len(whole)?;
        copy.sync_all()?;
        let seen = Seen {
            inode: 0,
            born: None,
            bytes: whole,
            modified: (0, 0),
            settled: true,
        };
        self.seen.insert(path.to_owned(), seen);
        Ok(())
    }

    fn bytes(&mut self, source: &mut File, copy: &mut File, mut left: u64) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            if self.stopping.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, STOPPING));
            }
            let start = Instant::now();
            let wanted = left.min(PIECE_BYTES as u64) as usize;
            let read = source.read(&mut piece[..wanted])?;
            if read == 0 {
                return Ok(());
            }
            copy.write_all(&piece[..read])?;
            left -= read as u64;
            self.copied += read as u64;
            if self.copied % ROOM_LOOK_BYTES < read as u64 && self.is_full()? {
                let what = format!("there is no room left in {}", self.to.display());
                return Err(io::Error::new(io::ErrorKind::StorageFull, what));
            }
            if self.gentle {
                std::thread::sleep(start.elapsed().min(Duration::from_millis(50)));
            }
        }
        Ok(())
    }
}

/// Makes a folder, and those it is in, for their owner only.
pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

/// Bytes of all files below a folder; those that vanish meanwhile are not counted.
fn size_of_tree(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes += size_of_tree(&entry.path())?,
            Ok(meta) => bytes += meta.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Makes the names in a folder, and in those within, survive a power cut.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
