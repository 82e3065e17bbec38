//! Copies of the data directory: made while the node runs, and made into a data directory again. What
//! the files mean is the log's; here they are bytes, copied twice so that the second time is short.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use commitlog::{JournalExtents, Lsn};
use tokio::sync::oneshot;

use super::Node;
use super::disk::lock_directory;

/// The folder of the journal, which is copied as far as it is written.
const JOURNAL_DIR: &str = "journal";

/// What a copy does not need: the lock, and the token of the process that runs.
const LEFT_OUT: [&str; 4] = ["lock", "admin.token", "admin.token.new", JOURNAL_DIR];

/// Written last: a directory without it is no whole backup.
const MARK_FILE: &str = "backup.complete";

/// Bytes copied at once; after each piece the disk belongs to the log for as long.
const PIECE_BYTES: usize = 1 << 20;

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

/// A copy whose bulk is made; the rest is made between two checkpoints.
pub(super) struct Job {
    pub copier: Copier,
    pub answer: oneshot::Sender<Result<Backup, String>>,
}

/// The way to the thread that makes checkpoints.
pub(super) type Jobs = Sender<Job>;

/// What is known of a file that was copied.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// Copies a directory into another, as often as it is told to.
pub(super) struct Copier {
    from: PathBuf,
    to: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
    /// Rest after each piece as long as it took.
    gentle: bool,
}

impl Node {
    /// Copies the data directory into `to`, which must be empty or absent. A node that is started
    /// on the copy has everything that was answered before this was called.
    ///
    /// # Errors
    /// Files cannot be read or written, or the log is latched; says why. What was copied stays.
    pub async fn backup(&self, to: &Path) -> Result<Backup, String> {
        let (from, to) = (self.settings.node.data_dir.clone(), to.to_owned());
        let copied = tokio::task::spawn_blocking(move || {
            let mut copier = Copier::new(&from, &to)?;
            copier.pass()?;
            Ok::<_, io::Error>(copier)
        });
        let copier = copied.await.map_err(|error| error.to_string())?;
        let copier = copier.map_err(|error| error.to_string())?;
        let (answer, result) = oneshot::channel();
        let gone = |()| "the node is being stopped".to_owned();
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
        copier.tree(Path::new(""), &[MARK_FILE])?;
        sync(to)?;
        Ok::<_, io::Error>(copier.size())
    })();
    let size = copied.with_context(|| format!("cannot restore into {}", to.display()))?;
    // It must be one that a node can take.
    drop(lock_directory(to)?);
    Ok(size)
}

impl Copier {
    fn new(from: &Path, to: &Path) -> io::Result<Self> {
        fs::create_dir_all(to)?;
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
        })
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
        fs::write(self.to.join(MARK_FILE), format!("lsn={}\n", journal.lsn))?;
        sync(&self.to)?;
        Ok(Backup {
            files,
            bytes,
            lsn: journal.lsn,
        })
    }

    fn size(&self) -> (u64, u64) {
        let bytes = self.seen.values().map(|seen| seen.bytes);
        (self.seen.len() as u64, bytes.sum())
    }

    /// Copies a folder; answers the files in it.
    fn tree(&mut self, folder: &Path, left_out: &[&str]) -> io::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        fs::create_dir_all(self.to.join(folder))?;
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
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        };
        let before = self.seen.get(path).copied();
        if before == Some(now) && path.extension().is_some_and(|it| it == "log") {
            return Ok(true);
        }
        let grown = path.extension().is_some_and(|it| it == "log");
        let same = |seen: &Seen| grown && seen.inode == now.inode && seen.bytes <= now.bytes;
        let from = before.filter(same).map_or(0, |seen| seen.bytes);
        let mut options = File::options();
        let mut copy = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.to.join(path))?;
        copy.set_len(now.bytes)?;
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
            fs::create_dir_all(folder)?;
        }
        let mut copy = File::create(to)?;
        self.bytes(&mut source, &mut copy, bytes.min(whole))?;
        copy.set_len(whole)?;
        copy.sync_all()?;
        let seen = Seen {
            inode: 0,
            bytes: whole,
            modified: (0, 0),
        };
        self.seen.insert(path.to_owned(), seen);
        Ok(())
    }

    fn bytes(&self, source: &mut File, copy: &mut File, mut left: u64) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let start = Instant::now();
            let wanted = left.min(PIECE_BYTES as u64) as usize;
            let read = source.read(&mut piece[..wanted])?;
            if read == 0 {
                return Ok(());
            }
            copy.write_all(&piece[..read])?;
            left -= read as u64;
            if self.gentle {
                std::thread::sleep(start.elapsed().min(Duration::from_millis(50)));
            }
        }
        Ok(())
    }
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
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_second_pass_brings_what_changed_and_takes_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("data"), dir.path().join("copy"));
        fs::create_dir_all(from.join("streams/a-0")).unwrap();
        fs::create_dir_all(from.join(JOURNAL_DIR)).unwrap();
        let log = from.join("streams/a-0/0.log");
        for (path, what) in [
            (&log, "one"),
            (&from.join("streams/a-0/0.index"), "x"),
            (&from.join("gone"), "gone"),
            (&from.join("lock"), ""),
            (&from.join("admin.token"), "secret"),
            (&from.join("journal/1.part"), "entriesGARBAGE"),
        ] {
            fs::write(path, what).unwrap();
        }
        let mut copier = Copier::new(&from, &to).unwrap();
        copier.pass().unwrap();
        assert_eq!(text(&to.join("gone")), "gone");
        let mut grown = File::options().append(true).open(&log).unwrap();
        grown.write_all(b"+two").unwrap();
        fs::write(from.join("streams/a-0/0.index"), "y").unwrap();
        fs::remove_file(from.join("gone")).unwrap();
        let extents = JournalExtents {
            parts: vec![("journal/1.part".to_owned(), 7)],
            lsn: 9,
        };
        let made = copier.finish(&extents).unwrap();
        assert_eq!((made.files, made.lsn), (3, 9));
        assert_eq!(text(&to.join("streams/a-0/0.log")), "one+two");
        assert_eq!(text(&to.join("streams/a-0/0.index")), "y");
        assert_eq!(text(&to.join("journal/1.part")), "entries\0\0\0\0\0\0\0");
        for absent in ["gone", "lock", "admin.token"] {
            assert!(!to.join(absent).exists(), "{absent}");
        }
        let again = dir.path().join("again");
        assert_eq!(restore_backup(&to, &again).unwrap().0, 3);
        assert_eq!(text(&again.join("streams/a-0/0.log")), "one+two");
        assert!(!again.join(MARK_FILE).exists());
        assert!(restore_backup(&to, &again).is_err(), "it is not empty");
        assert!(restore_backup(&from, &dir.path().join("third")).is_err());
        assert!(Copier::new(&from, &from.join("inside")).is_err());
    }
}
