//! The one door for every chore of the repository: `cargo xtask VERB`. It knows the other crates only
//! by the commands that build and run them.

mod bench;
mod bench_kafka;
mod ci;
mod console;
mod fuzz;
mod kafka;
mod kafka_secure;
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
  soak NAME         a long check: kill | kafka-kill | downlink | sim | recovery
  fuzz [TARGET]     fuzz every decoder, recovery and shard operations (--seconds N each)
  bench [SCENARIO]  measure against mosquitto in the same run: a b c0 c1 c2 d0 d1 e f g, or all
                    (--rounds N, --seconds N, --no-build)
  bench kafka       measure against a real Apache Kafka (--records N, --rounds N, --seconds N, --no-build)
  console [shots]   fetch the libraries of the console into the repository, by npm's lock file; or take
                    the pictures of docs/console anew
  kafka VERB        a real Apache Kafka on loopback and its own tools: up | status | kill | start |
                    down | tool NAME
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let outcome = match arguments.first().map(String::as_str) {
        Some("test") => test::test(),
        Some("ci") => ci::ci(),
        Some("soak") => soak::soak(rest),
        Some("fuzz") => fuzz::fuzz(rest),
        Some("bench") if rest.first().is_some_and(|first| first == "kafka") => {
            bench_kafka::bench(rest)
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
