//! The fuzz driver behind `cargo xtask fuzz [TARGET] [--seconds N] [--seed S]`.

use std::fmt::Write as _;
use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sim::fuzz::{TARGETS, input};
use sim::random::Random;

/// The input under test, for the panic hook.
static CURRENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)?.parse::<u64>().ok()
    };
    let seconds = option("--seconds").unwrap_or(60);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.as_nanos() as u64);
    let seed = option("--seed").unwrap_or(now);
    let named = |name: &str| words.iter().any(|word| word == name);
    let all = !TARGETS.iter().any(|target| named(target.name));
    panic::set_hook(Box::new(|what| {
        let input = CURRENT
            .lock()
            .map(|input| input.clone())
            .unwrap_or_default();
        eprintln!("{what}\ninput: {}", hex(&input));
    }));
    for target in TARGETS.iter().filter(|target| all || named(target.name)) {
        let seeds = (target.seeds)();
        let mut random = Random::new(seed);
        let start = Instant::now();
        let mut count = 0_u64;
        while start.elapsed() < Duration::from_secs(seconds) {
            for _ in 0..100 {
                let bytes = input(&seeds, &mut random);
                if let Ok(mut current) = CURRENT.lock() {
                    current.clone_from(&bytes);
                }
                (target.run)(&bytes);
                count += 1;
            }
        }
        println!(
            "{:<10} {count} inputs in {seconds} s, seed {seed}: no failure",
            target.name
        );
    }
    ExitCode::SUCCESS
}
