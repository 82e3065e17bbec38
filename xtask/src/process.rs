//! Running other programs: with their output passed on, with it kept as well, or in the background
//! until the guard is dropped.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, bail};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in a folder of the repository")
        .to_path_buf()
}

/// Where xtask keeps what it installs: inside the target folder.
pub fn workshop() -> PathBuf {
    target().join("xtask")
}

/// Where benches keep the data of what they measure, so that another disk can be measured.
static SCRATCH: OnceLock<PathBuf> = OnceLock::new();

/// Has benches keep their data there. The first call decides.
pub fn keep_data_in(folder: PathBuf) {
    let _ = SCRATCH.set(folder);
}

/// Where benches and the nodes of Kafka keep their data.
pub fn scratch() -> PathBuf {
    SCRATCH.get().cloned().unwrap_or_else(workshop)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A command that starts in the repository's root.
pub fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Runs it, passes its output on, and fails when it fails.
pub fn run(mut command: Command) -> anyhow::Result<()> {
    println!("$ {}", shown(&command));
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(&command));
    }
    Ok(())
}

/// Runs it, passes its standard output on and returns it with the verdict.
pub fn run_and_keep(mut command: Command) -> anyhow::Result<(bool, String)> {
    println!("$ {}", shown(&command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    let mut kept = String::new();
    let stdout = child.stdout.take().expect("the output is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        std::io::stdout().flush()?;
        kept.push_str(&line);
        kept.push('\n');
    }
    Ok((child.wait()?.success(), kept))
}

/// Runs it silently and returns its standard output; its standard error explains a failure.
pub fn read(mut command: Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}", shown(&command), why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program in the background; it is killed by its process id when this is dropped.
#[derive(Debug)]
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
