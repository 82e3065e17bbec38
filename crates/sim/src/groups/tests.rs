//! Seeds of the simulated group, each twice, and machines that are broken on purpose.

use super::*;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn members_of_a_group_end_in_one_generation_and_share_all() {
    let first = number("SLUICE_SIM_FIRST", 1);
    let seeds = number("SLUICE_SIM_SEEDS", 200);
    let mut sum = Verdict::default();
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        let once = run(seed, None);
        assert_eq!(once, run(seed, None), "seed {seed} is not deterministic");
        match once {
            Ok(verdict) => {
                sum.generations += verdict.generations;
                sum.faults += verdict.faults;
                sum.commits += verdict.commits;
                sum.fenced += verdict.fenced;
            }
            Err(what) => failed.push(format!("seed {seed}: {what}")),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert!(sum.commits > 0 && sum.fenced > 0, "{sum:?}");
    println!(
        "{seeds} seeds: {} generations, {} faults, {} commits, {} refused to the fenced",
        sum.generations, sum.faults, sum.commits, sum.fenced
    );
}

/// How many of 20 seeds see the breakage.
fn caught(breakage: Breakage) -> usize {
    (1..=20)
        .filter(|seed| run(*seed, Some(breakage)).is_err())
        .count()
}

#[test]
fn a_broken_machine_is_caught() {
    for breakage in [
        Breakage::AdmitsOldGenerations,
        Breakage::ForgetsAnswers,
        Breakage::NeverTicks,
        Breakage::AssignsTwice,
        Breakage::AdmitsDoubles,
    ] {
        let seen = caught(breakage);
        assert!(seen >= 3, "{breakage:?} is seen by {seen} of 20 seeds");
    }
}
