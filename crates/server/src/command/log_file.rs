//! A file that log lines go to in place of standard error, and which is opened anew when whoever
//! rotates logs has moved it away.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// The file, to write at its end; made for its owner only where it is absent.
///
/// # Errors
/// It cannot be written.
pub fn open(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    let file = options.append(true).create(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

/// Lets what is written to standard error go to the file of that name, as it is there now.
///
/// # Errors
/// It cannot be written; all goes where it went.
pub fn take_standard_error(path: &Path) -> anyhow::Result<()> {
    let file = open(path)?;
    // SAFETY: both descriptors are open; the one that is replaced is standard error, which nothing
    // in this program closes.
    let code = unsafe { libc::dup2(file.as_raw_fd(), libc::STDERR_FILENO) };
    if code < 0 {
        let error = std::io::Error::last_os_error();
        return Err(error).with_context(|| format!("cannot write {}", path.display()));
    }
    Ok(())
}
