//! `sluice serve --daemon`: the same program once more, in a session of its own, with its lines in a
//! file of the data directory. It knows nothing of what is served.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;

use super::log_file;

/// Where the log lines of a daemon go, below the data directory.
const LOG_FILE: &str = "sluice.log";

/// Starts the program again without `--daemon`, and returns once it says that it is ready. What it
/// says until then, this one says.
///
/// # Errors
/// It cannot be started; when it ends before it is ready, the exit code is a failure.
pub fn start(data_dir: &Path, log_file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(data_dir);
    made.with_context(|| format!("cannot make {}", data_dir.display()))?;
    let path = log_file.map_or_else(|| data_dir.join(LOG_FILE), Path::to_owned);
    let log = log_file::open(&path)?;
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new(program);
    let arguments = std::env::args_os().skip(1);
    command
        .args(arguments.filter(|argument| argument != "--daemon"))
        .args(
            log_file
                .is_none()
                .then_some([OsStr::new("--log-file"), path.as_os_str()])
                .into_iter()
                .flatten(),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    // SAFETY: between fork and exec only setsid is called, which is safe there.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().context("cannot start in the background")?;
    let said = child.stdout.take().context("its words cannot be read")?;
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(said).lines() {
        let line = line.context("its words cannot be read")?;
        if line.starts_with("ready") {
            writeln!(
                out,
                "ready; process {}, log in {}",
                child.id(),
                path.display()
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(out, "{line}")?;
    }
    let ended = child.wait()?;
    eprintln!(
        "sluice: it ended before it was ready ({ended}); see {}",
        path.display()
    );
    Ok(ExitCode::FAILURE)
}
