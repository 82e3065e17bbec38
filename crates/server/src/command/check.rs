//! `sluice check FILE`: reads a configuration as `serve` would and tells every fault, or what the
//! file means.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::serve::USUAL_FILE;
use crate::config::{self, Fault};
use crate::settings::{self, Flags, Settings, Word as _};

/// Check a configuration file and say what it means
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file; without it ./sluice.toml
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The file, named as `serve` has it
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also try the way to the cluster of [mirror]: brokers, login, topics, permissions, transactions,
    /// and the topics that downlinks read
    #[arg(long)]
    connect: bool,
}

impl CheckArgs {
    /// Which file is meant.
    pub(crate) fn file(&self) -> &Path {
        let named = self.file.as_deref().or(self.config.as_deref());
        named.unwrap_or(Path::new(USUAL_FILE))
    }
}

/// Prints `ok` and a summary, or every fault with its line on standard error (exit code 1).
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let file = args.file();
    let source = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| anyhow::anyhow!("cannot read {source}: {error}"))?;
    match check(&source, &text) {
        Ok(settings) => {
            println!("{source}: ok\n{}", summary(&settings));
            if args.connect {
                return Ok(connect(&settings));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("{source}: {} to correct", count(faults.len(), "mistake"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Tries the way to the cluster; one line a step, the last says what is wrong.
fn connect(settings: &Settings) -> ExitCode {
    let Some(mirror) = &settings.mirror else {
        println!("  cluster    no table [mirror]: nothing to connect to");
        return ExitCode::SUCCESS;
    };
    let mut told = |step: &str| println!("  cluster    {step}");
    match crate::mirror::check_connection(mirror, &settings.downlinks, &mut told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cluster: {why}");
            ExitCode::FAILURE
        }
    }
}

/// All faults of a text, those of reading and those of meaning, in the order of the lines.
pub fn check(source: &str, text: &str) -> Result<Settings, Vec<Fault>> {
    let (said, faults) = config::read(source, text);
    together(faults, settings::build(Some(said), &Flags::default()))
}

/// The faults found while reading and those of meaning, in the order of the lines.
pub fn together(
    mut faults: Vec<Fault>,
    built: Result<Settings, Vec<Fault>>,
) -> Result<Settings, Vec<Fault>> {
    match built {
        Ok(settings) if faults.is_empty() => return Ok(settings),
        Ok(_) => {}
        Err(more) => faults.extend(more),
    }
    faults.sort_by_key(|fault| fault.line);
    Err(faults)
}

/// What the settings come to, in a few lines.
fn summary(settings: &Settings) -> String {
    let mut out = format!(
        "  node       {}, data in {}\n",
        settings.node.name,
        settings.node.data_dir.display()
    );
    for listener in &settings.listeners {
        let open = if listener.anonymous {
            ", anyone may come in"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "  listener   {} {}{open}",
            listener.kind.word(),
            listener.bind
        );
    }
    for hook in &settings.hooks {
        let filter = hook
            .filter
            .as_deref()
            .map(|filter| format!(" {filter}"))
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "  hook       {}{filter} -> {}, key {}, payload {}",
            hook.event.word(),
            hook.stream,
            hook.key,
            hook.payload.word()
        );
    }
    if let Some(mirror) = &settings.mirror {
        let promise = if mirror.exactly_once {
            "exactly once"
        } else {
            "at least once"
        };
        for stream in &mirror.streams {
            let _ = writeln!(
                out,
                "  mirror     {} -> topic {} of {}, {promise}, compression {}",
                stream.stream,
                stream.topic,
                mirror.brokers,
                stream.compression.word()
            );
        }
    }
    for stream in &settings.streams {
        let _ = writeln!(out, "  stream     {}", describe(stream));
    }
    out.truncate(out.trim_end().len());
    out
}

fn describe(stream: &settings::StreamSettings) -> String {
    use crate::config::units::{show_bytes, show_millis};
    let mut out = format!(
        "{}: {}, {}, ack {}",
        stream.name,
        count(stream.partitions as usize, "partition"),
        stream.storage.word(),
        stream.ack.word()
    );
    if stream.compaction {
        out += ", compacted";
    }
    if let Some(age) = stream.retention_ms {
        let _ = write!(out, ", kept {}", show_millis(age));
    }
    for (name, size) in [
        ("size", stream.retention_bytes),
        ("size_max", stream.size_bytes_max),
    ] {
        if let Some(size) = size {
            let _ = write!(out, ", {name} {}", show_bytes(size));
        }
    }
    out
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
