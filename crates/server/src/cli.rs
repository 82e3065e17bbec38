//! The command line: one table of verbs. What a verb does stands in its file under `command`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::command::{bench, check, consume, ctl, import, publish, serve, subscribe, token, user};

/// MQTT in, a durable log inside, Kafka clients out: one program that needs nothing beside it.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Without a verb the program serves.
    #[command(flatten)]
    serve: serve::ServeArgs,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::ServeArgs),
    Check(check::CheckArgs),
    Import(import::ImportArgs),
    Pub(publish::PublishArgs),
    Sub(subscribe::SubscribeArgs),
    Consume(consume::ConsumeArgs),
    Bench(bench::BenchArgs),
    User(user::UserArgs),
    Token(token::TokenArgs),
    Ctl(ctl::CtlArgs),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Runs what the command line says; an error is told on standard error.
pub fn main() -> ExitCode {
    let Cli { verb, serve } = Cli::parse();
    let result = match verb.unwrap_or(Verb::Serve(serve)) {
        Verb::Serve(args) => serve::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Import(args) => import::run(&args),
        Verb::Pub(args) => publish::run(&args),
        Verb::Sub(args) => subscribe::run(&args),
        Verb::Consume(args) => consume::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::User(args) => user::run(&args),
        Verb::Token(args) => token::run(&args),
        Verb::Ctl(args) => ctl::run(&args),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut script);
            // That nobody reads to the end is no failure.
            let _ = std::io::stdout().write_all(&script);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("sluice: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_table_of_verbs_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_verb_the_program_serves() {
        let cli = Cli::try_parse_from(["sluice", "--mqtt", "127.0.0.1:0", "--log-level", "warn"]);
        assert!(
            cli.expect("flags of serve are known without the verb")
                .verb
                .is_none()
        );
        assert!(Cli::try_parse_from(["sluice", "--mqtt", "x", "check"]).is_err());
        assert!(Cli::try_parse_from(["sluice", "--log-level", "loud"]).is_err());
    }

    #[test]
    fn check_takes_its_file_as_serve_does_too() {
        let checked = |words: &[&str]| {
            let typed = ["sluice", "check"].iter().chain(words);
            match Cli::try_parse_from(typed).map(|cli| cli.verb) {
                Ok(Some(Verb::Check(args))) => Some(args.file().display().to_string()),
                _ => None,
            }
        };
        for words in [&["a.toml"][..], &["--config", "a.toml"], &["-c", "a.toml"]] {
            assert_eq!(checked(words).as_deref(), Some("a.toml"), "{words:?}");
        }
        assert_eq!(checked(&[]).as_deref(), Some("sluice.toml"));
        assert_eq!(checked(&["a.toml", "--config", "b.toml"]), None, "which?");
    }

    const FROM_EMQX: &str = include_str!("../../../docs/from-emqx.md");

    #[test]
    fn the_page_for_those_who_come_from_emq_x_knows_each_of_its_commands() {
        let rows: Vec<&str> = FROM_EMQX.lines().filter(|it| it.starts_with('|')).collect();
        for (command, words) in [
            ("status", "status"),
            ("mgmt", "list insert lookup update delete"),
            ("broker", "stats metrics"),
            ("cluster", "join leave force-leave status"),
            ("acl", "reload"),
            ("clients", "list show kick"),
            ("sessions", "list show"),
            ("routes", "list show"),
            ("subscriptions", "list show add del"),
            ("plugins", "list load unload reload emqx_bridge_kafka"),
            ("bridges", "list start stop forwards"),
            ("vm", ""),
            ("mnesia", ""),
            ("log", "set-level primary-level handlers"),
            ("trace", "list start stop client topic"),
            ("listeners", "stop"),
            ("rules", ""),
            ("rule-actions", ""),
            ("resources", ""),
            ("resource-types", ""),
            ("recon", ""),
            ("retainer", "info topics clean"),
            ("admins", "add passwd del"),
            ("luahook", "load"),
        ] {
            // The first column names it, in backticks; further words stand there or follow.
            let first = |row: &&&str| row.split('|').nth(1).unwrap_or_default().contains(command);
            let named: String = rows.iter().filter(first).copied().collect();
            assert!(named.contains(&format!("`{command}")), "{command}");
            for word in words.split_whitespace() {
                assert!(named.contains(word), "{command} {word}: {named}");
            }
        }
    }

    #[test]
    fn what_that_page_tells_to_type_is_understood() {
        use clap::error::ErrorKind;
        let told = FROM_EMQX.split('`').skip(1).step_by(2);
        let told: Vec<&str> = told.filter(|text| text.starts_with("sluice ")).collect();
        assert!(told.len() > 20, "{told:?}");
        for text in told {
            let typed = text.split('>').next().unwrap_or(text);
            let Err(error) = Cli::try_parse_from(typed.split_whitespace()) else {
                continue;
            };
            // `ROLE` is no role, and a verb alone may want more.
            let known = matches!(
                error.kind(),
                ErrorKind::InvalidValue
                    | ErrorKind::ValueValidation
                    | ErrorKind::MissingRequiredArgument
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            assert!(known, "{text}: {error}");
        }
    }

    #[test]
    fn each_shell_gets_the_verbs_of_ctl() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "sluice", &mut script);
            let script = String::from_utf8(script).expect("scripts are text");
            for verb in ["retained", "trace", "mirror"] {
                assert!(script.contains(verb), "{shell}: {verb}");
            }
        }
    }
}
