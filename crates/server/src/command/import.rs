//! `sluice import emqx FILE`: says a configuration of EMQ X again in Sluice's words.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::emqx::bridge_kafka;

/// Print the Sluice configuration that corresponds to another program's
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

/// Whose configuration it is.
#[derive(Debug, Subcommand)]
enum From {
    /// etc/plugins/emqx_bridge_kafka.conf of EMQ X Enterprise 3.x or 4.x
    Emqx {
        /// The file; - reads standard input
        file: PathBuf,
    },
}

/// Prints the configuration; what cannot be read is told on standard error (exit code 1).
pub fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let From::Emqx { file } = &args.from;
    let (name, text) = read(file)?;
    match bridge_kafka::import(&name, &text) {
        Ok(output) => {
            std::io::stdout()
                .write_all(output.as_bytes())
                .context("cannot write the output")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The file's name for messages, and its text.
fn read(file: &Path) -> anyhow::Result<(String, String)> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(("standard input".to_owned(), text));
    }
    let name = file
        .file_name()
        .unwrap_or(file.as_os_str())
        .to_string_lossy()
        .into_owned();
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((name, text))
}
