//! The command line: one table of verbs. What a verb does stands in its file under `command`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command::{bench, check, ctl, import, publish, subscribe};

/// MQTT in, a durable log inside, Kafka clients out: one program that needs nothing beside it.
#[derive(Debug, Parser)]
#[command(name = "sluice", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::CheckArgs),
    Import(import::ImportArgs),
    Pub(publish::PublishArgs),
    Sub(subscribe::SubscribeArgs),
    Bench(bench::BenchArgs),
    Ctl(ctl::CtlArgs),
}

/// Runs what the command line says; an error is told on standard error.
pub fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    let result = match verb {
        Verb::Check(args) => check::run(&args),
        Verb::Import(args) => import::run(&args),
        Verb::Pub(args) => publish::run(&args),
        Verb::Sub(args) => subscribe::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Ctl(args) => ctl::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("sluice: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_of_verbs_is_sound() {
        Cli::command().debug_assert();
    }
}
