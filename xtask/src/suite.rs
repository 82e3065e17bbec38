//! One suite of tests: a command whose output ends with a summary that can be counted.

use std::process::Command;
use std::time::Instant;

use crate::process::run_and_keep;

/// How a suite ended.
#[derive(Debug)]
pub struct Outcome {
    /// Name in the table.
    pub name: &'static str,
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that were left out on purpose (`#[ignore]`: measurements).
    pub ignored: usize,
    /// The command's verdict: a suite that ran nothing has failed.
    pub good: bool,
    /// How long it took.
    pub seconds: f64,
}

/// Runs a suite and counts what it printed.
pub fn suite(name: &'static str, command: Command) -> anyhow::Result<Outcome> {
    println!("\n== {name} ==");
    let start = Instant::now();
    let (success, output) = run_and_keep(command)?;
    let (passed, failed, ignored) = count(&output);
    let good = success && failed == 0 && passed > 0;
    Ok(Outcome {
        name,
        passed,
        failed,
        ignored,
        good,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Adds up the summaries of cargo test, pytest and node's test runner.
fn count(output: &str) -> (usize, usize, usize) {
    let mut sums = (0, 0, 0);
    for line in output.lines() {
        if line.starts_with("test result:") || is_pytest_summary(line) {
            sums.0 += number_before(line, "passed");
            sums.1 += number_before(line, "failed") + number_before(line, "error");
            sums.2 += number_before(line, "ignored") + number_before(line, "skipped");
        } else if let Some(count) = line
            .strip_prefix("# pass ")
            .or(line.strip_prefix("ℹ pass "))
        {
            sums.0 += count.trim().parse().unwrap_or(0);
        } else if let Some(count) = line
            .strip_prefix("# fail ")
            .or(line.strip_prefix("ℹ fail "))
        {
            sums.1 += count.trim().parse().unwrap_or(0);
        }
    }
    sums
}

fn is_pytest_summary(line: &str) -> bool {
    // "7 passed in 1.02s", "185 passed in 248.09s (0:04:08)", and the same between `=`.
    let ends = line.ends_with('s') || line.ends_with(')');
    line.contains(" in ") && ends || line.starts_with('=') && line.ends_with('=')
}

fn number_before(line: &str, word: &str) -> usize {
    let words: Vec<&str> = line
        .split([' ', ',', ';', '='])
        .filter(|w| !w.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1].trim_end_matches('s') == word.trim_end_matches('s'))
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn summaries_of_three_runners_are_counted() {
        let output = "test result: ok. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out\n\
                      ===== 3 passed, 1 error in 4.20s =====\n\
                      # pass 5\n# fail 0\n";
        assert_eq!(count(output), (20, 2, 2));
    }

    #[test]
    fn a_quiet_pytest_summary_counts_too() {
        assert_eq!(count("7 passed in 1.02s"), (7, 0, 0));
        let longer = "1 failed, 185 passed, 2 skipped in 248.09s (0:04:08)";
        assert_eq!(count(longer), (185, 1, 2));
    }
}
