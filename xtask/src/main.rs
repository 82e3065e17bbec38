//! The one door for every chore of the repository: `cargo xtask VERB`. It knows the other crates only
//! by the commands that build and run them.

mod bench;
mod bench_consumer;
mod bench_doors;
mod bench_kafka;
mod bench_mirror;
mod ci;
mod console;
mod fuzz;
mod kafka;
mod kafka_secure;
mod machine;
mod prepare;
mod process;
mod programs;
mod soak;
mod suite;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask VERB

  test              install what the tests need, run every test, end with a table
  ci                format check, clippy with warnings denied, test
  soak NAME         a long check: kill | kafka-kill | downlink | mirror | sim | recovery | crowd
  fuzz [TARGET]     fuzz every decoder, recovery and shard operations (--seconds N each)
  bench [SCENARIO]  measure against mosquitto in the same run: a b c0 c1 c2 d0 d1 e f g, or all
                    (--rounds N, --seconds N, --no-build, --alone: without mosquitto)
                    b over minutes, with the checkpoints: bench b --alone --rounds 1 --seconds 180
                    every bench: --data-dir DIR measures the disk there instead of target's
  bench doors       what TLS and WebSocket cost, against plain TCP and mosquitto (the same options)
  bench kafka       measure against a real Apache Kafka (--records N, --rounds N, --seconds N, --no-build)
  bench mirror      measure the way into a real Apache Kafka (--seconds N, --backlog RECORDS, --no-build)
  console [shots]   fetch the libraries of the console into the repository, by npm's lock file; or take
                    the pictures of docs/console anew
  kafka VERB        a real Apache Kafka on loopback and its own tools: up | status | kill | start |
                    down | tool NAME
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    if asks_for_help(&arguments) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = unknown_option(&arguments) {
        eprintln!("xtask: there is no option {unknown} here\n\n{USAGE}");
        return ExitCode::from(2);
    }
    if let Some(at) = arguments.iter().position(|word| word == "--data-dir") {
        let Some(folder) = arguments.get(at + 1) else {
            eprintln!("xtask: --data-dir needs a folder");
            return ExitCode::from(2);
        };
        process::keep_data_in(folder.into());
    }
    let outcome = match arguments.first().map(String::as_str) {
        Some("test") => test::test(),
        Some("ci") => ci::ci(),
        Some("soak") => soak::soak(rest),
        Some("fuzz") => fuzz::fuzz(rest),
        Some("bench") if rest.first().is_some_and(|first| first == "kafka") => {
            bench_kafka::bench(rest)
        }
        Some("bench") if rest.first().is_some_and(|first| first == "doors") => {
            bench_doors::bench(rest)
        }
        Some("bench") if rest.first().is_some_and(|first| first == "mirror") => {
            bench_mirror::bench(rest)
        }
        Some("bench") => bench::bench(rest),
        Some("console") => console::console(rest),
        Some("kafka") => kafka::kafka(rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether help is asked for; what follows `kafka tool NAME` is the tool's.
fn asks_for_help(arguments: &[String]) -> bool {
    let ours = arguments.iter().take_while(|word| *word != "tool");
    ours.into_iter()
        .any(|word| word == "--help" || word == "-h" || word == "help")
}

/// The first option that the verb does not have. Those of `fuzz` and of `kafka` are looked at by the
/// programs and verbs that they go to.
fn unknown_option(arguments: &[String]) -> Option<&str> {
    let known: &[&str] = match arguments.first().map(String::as_str) {
        Some("test" | "ci") => &[],
        Some("soak") => &["--clients", "--abusive", "--seconds", "--rate"],
        Some("bench") if arguments.get(1).is_some_and(|word| word == "kafka") => &[
            "--records",
            "--rounds",
            "--seconds",
            "--no-build",
            "--data-dir",
        ],
        Some("bench") if arguments.get(1).is_some_and(|word| word == "mirror") => {
            &["--seconds", "--backlog", "--no-build", "--data-dir"]
        }
        Some("bench") => &[
            "--rounds",
            "--seconds",
            "--no-build",
            "--alone",
            "--data-dir",
        ],
        _ => return None,
    };
    let options = arguments.iter().map(String::as_str);
    options
        .filter(|word| word.starts_with('-'))
        .find(|word| !known.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn help_is_help_everywhere_but_behind_a_tool() {
        for line in ["bench --help", "bench b -h", "soak help", "-h", "ci --help"] {
            assert!(asks_for_help(&words(line)), "{line}");
        }
        for line in ["bench b", "kafka tool kafka-topics --help"] {
            assert!(!asks_for_help(&words(line)), "{line}");
        }
    }

    #[test]
    fn an_unknown_option_is_named() {
        let unknown = |line: &str| unknown_option(&words(line)).map(str::to_owned);
        assert_eq!(unknown("bench b --second 8").as_deref(), Some("--second"));
        assert_eq!(unknown("ci --fast").as_deref(), Some("--fast"));
        assert_eq!(unknown("bench b --alone --seconds 180 --rounds 1"), None);
        assert_eq!(unknown("bench kafka --records 9"), None);
        assert_eq!(unknown("bench mirror --backlog 9 --no-build"), None);
        assert_eq!(unknown("bench b --data-dir /mnt/disk"), None);
        assert_eq!(unknown("fuzz mqtt --seconds 9"), None);
    }
}
