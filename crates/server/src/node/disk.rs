//! The data directory as the log's `Disk`: positional reads and gathered writes on ordinary files,
//! and the lock that keeps a second process out. It must not know what the bytes mean.

use std::any::Any;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use commitlog::{Disk, DiskFile, Open};

use super::backup;
use super::writeback::{Outcome, Writeback};

/// Most buffers that Linux takes in one `pwritev` (`IOV_MAX`).
const GATHER_MAX: usize = 1024;

/// Ends the names of the files that grow by appending and are synced only by checkpoints.
const SEGMENT_SUFFIX: &str = ".log";

/// Ends the names of the journal's files, which flushes sync.
const JOURNAL_SUFFIX: &str = ".part";

/// Name of the lock file in the data directory.
const LOCK_FILE: &str = "lock";

/// The files below one directory. Paths given to it are relative, with `/` between their parts.
#[derive(Clone)]
pub struct FileDisk {
    root: PathBuf,
    writeback: Option<Arc<Writeback>>,
}

impl FileDisk {
    /// The directory must exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            writeback: None,
        }
    }

    /// The same, with what is written to segments sent on to the disk early.
    pub fn with_writeback(root: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self {
            root: root.into(),
            writeback: Some(Writeback::start()?),
        })
    }

    fn path(&self, relative: &str) -> PathBuf {
        if relative.is_empty() {
            self.root.clone()
        } else {
            self.root.join(relative)
        }
    }
}

impl Disk for FileDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::ReadWrite => {
                options.write(true);
            }
            Open::Create => {
                options.write(true).create(true);
            }
        }
        let file = options.open(self.path(path))?;
        let segment = path.ends_with(SEGMENT_SUFFIX) && how != Open::Read;
        let writeback = self.writeback.as_ref().filter(|_| segment);
        let writeback = writeback.map(|writeback| (writeback.enter(), Arc::clone(writeback)));
        let journal = path.ends_with(JOURNAL_SUFFIX);
        Ok(Box::new(PlainFile {
            file: Arc::new(file),
            sent_on: Arc::default(),
            writeback,
            gives_way: self.writeback.clone().filter(|_| journal),
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(dir))? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(dir))
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        fs::remove_dir(self.path(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let path = std::ffi::CString::new(self.root.as_os_str().as_bytes())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` is NUL-terminated and `answer` is large enough for the structure.
        let code = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
        if code != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: statvfs returned 0, so it has filled the structure.
        let answer = unsafe { answer.assume_init() };
        Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
    }
}

struct PlainFile {
    file: Arc<File>,
    /// What became of pages that went to the disk before a sync.
    sent_on: Arc<Outcome>,
    /// Where writes are reported, and under which number.
    writeback: Option<(u64, Arc<Writeback>)>,
    /// Who is told of syncs, of a file whose syncs are waited for.
    gives_way: Option<Arc<Writeback>>,
}

impl DiskFile for PlainFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buf, pos) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn read_at_now(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let slice = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        let at =
            libc::off_t::try_from(pos).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: the one slice is `buf`, which is borrowed for longer than the call, and the
        // descriptor is open while the file lives.
        let read = unsafe {
            let file = self.file.as_raw_fd();
            libc::preadv2(file, &raw const slice, 1, at, libc::RWF_NOWAIT)
        };
        usize::try_from(read).map_err(|_| match io::Error::last_os_error() {
            // Of a file system that cannot tell, everything may have to be waited for.
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                io::ErrorKind::WouldBlock.into()
            }
            error if error.kind() == io::ErrorKind::Interrupted => io::ErrorKind::WouldBlock.into(),
            error => error,
        })
    }

    fn write_at(&self, bufs: &[&[u8]], pos: u64) -> io::Result<()> {
        match bufs {
            [] => {}
            [one] => self.file.write_all_at(one, pos)?,
            many => self.write_gathered(many, pos)?,
        }
        if let Some((id, writeback)) = &self.writeback {
            let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
            let end = pos + bytes as u64;
            writeback.written(*id, (&self.file, &self.sent_on), (pos, end));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn write_out(&self, from: u64, to: u64) {
        self.sent_on.send_on(&self.file, from, to);
    }

    fn reserve(&self, from: u64, to: u64) {
        let (Ok(from), Ok(size)) = (
            libc::off_t::try_from(from),
            libc::off_t::try_from(to.saturating_sub(from)),
        ) else {
            return;
        };
        // Best effort: without it the write itself finds the space.
        // SAFETY: the descriptor is open while the file lives.
        unsafe {
            libc::fallocate(self.file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, from, size);
        }
    }

    fn handle(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.file.clone())
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(writeback) = &self.gives_way {
            writeback.flushing();
        }
        self.file.sync_data()?;
        self.sent_on.check()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.sent_on.check()
    }
}

impl PlainFile {
    fn write_gathered(&self, bufs: &[&[u8]], mut pos: u64) -> io::Result<()> {
        for group in bufs.chunks(GATHER_MAX) {
            pos += self.write_group(group, pos)?;
        }
        Ok(())
    }

    /// Writes up to `GATHER_MAX` buffers; goes on by single writes after a short one, which on a
    /// regular file comes only before an error such as a full disk.
    fn write_group(&self, group: &[&[u8]], pos: u64) -> io::Result<u64> {
        let mut slices = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; GATHER_MAX];
        for (slice, buf) in slices.iter_mut().zip(group) {
            *slice = libc::iovec {
                iov_base: buf.as_ptr().cast_mut().cast(),
                iov_len: buf.len(),
            };
        }
        let total: usize = group.iter().map(|buf| buf.len()).sum();
        let at =
            libc::off_t::try_from(pos).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let count = group.len() as libc::c_int;
        let written = loop {
            // SAFETY: the first `count` slices point at live borrowed buffers, which the call
            // only reads; the descriptor is open for as long as `self.file`.
            let code = unsafe { libc::pwritev(self.file.as_raw_fd(), slices.as_ptr(), count, at) };
            if code >= 0 {
                break code as usize;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        };
        let mut skip = written;
        let mut at = pos + written as u64;
        for buf in group {
            if skip >= buf.len() {
                skip -= buf.len();
                continue;
            }
            self.file.write_all_at(&buf[skip..], at)?;
            at += (buf.len() - skip) as u64;
            skip = 0;
        }
        Ok(total as u64)
    }
}

/// Held for the life of the process; the kernel releases it even after `kill -9`.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Takes this process's id away, so that nobody who reads it there stops another one later. The
    /// lock is held on.
    pub fn forget_process(&self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "the process id stays in the lock");
        }
    }
}

/// Creates the data directory, for its owner only, if it is absent, and takes its lock. Fails when another process
/// holds it, naming that process's id.
pub fn lock_directory(dir: &Path) -> anyhow::Result<DirectoryLock> {
    backup::private_dir(dir)
        .with_context(|| format!("cannot create the data directory {}", dir.display()))?;
    let path = dir.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "the data directory {} is in use by another sluice process (pid {}); stop it, \
                 or choose another directory with --data-dir, or data_dir in [node]",
                dir.display(),
                holder.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    backup::check_whole(dir)?;
    Ok(DirectoryLock { file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_writes_land_in_order_across_the_gather_limit() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(dir.path());
        let file = disk.open("a", Open::Create).unwrap();
        let parts: Vec<Vec<u8>> = (0..2500_u32).map(|i| i.to_be_bytes().to_vec()).collect();
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        file.write_at(&slices, 3).unwrap();
        assert_eq!(file.len().unwrap(), 3 + 10_000);
        let mut all = vec![0; 10_000];
        assert_eq!(file.read_at(&mut all, 3).unwrap(), 10_000);
        assert_eq!(all, parts.concat());
    }

    #[test]
    fn listing_is_sorted_and_opening_what_is_absent_fails() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(dir.path());
        disk.create_dir("x/y").unwrap();
        for name in ["x/b", "x/a"] {
            disk.open(name, Open::Create).unwrap();
        }
        assert_eq!(disk.list("x").unwrap(), ["a", "b", "y"]);
        assert!(disk.open("x/c", Open::ReadWrite).is_err());
        assert!(disk.open("x/c", Open::Read).is_err());
        assert!(disk.exists("x/a") && !disk.exists("x/c"));
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_second_holder_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock_directory(dir.path()).unwrap();
        let refused = lock_directory(dir.path()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("pid {}", std::process::id())),
            "{refused}"
        );
        drop(first);
        lock_directory(dir.path()).unwrap();
    }
}
