//! Seeds of simulated producers, each twice, and coordinators that are broken on purpose.

use super::*;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn transactions_are_whole_and_nothing_stays_open() {
    let first = number("SLUICE_SIM_FIRST", 1);
    let seeds = number("SLUICE_SIM_SEEDS", 30);
    let mut sum = Verdict::default();
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        let once = run(seed, None);
        assert_eq!(once, run(seed, None), "seed {seed} is not deterministic");
        match once {
            Ok(verdict) => {
                sum.committed += verdict.committed;
                sum.aborted += verdict.aborted;
                sum.faults += verdict.faults;
                sum.crashes += verdict.crashes;
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
    let lively = sum.committed > 0 && sum.aborted > 0 && sum.crashes > 0 && sum.fenced > 0;
    assert!(lively, "{sum:?}");
    println!(
        "{seeds} seeds: {} committed, {} aborted, {} faults, {} crashes, {} refused to the fenced",
        sum.committed, sum.aborted, sum.faults, sum.crashes, sum.fenced
    );
}

/// How many of 20 seeds see the breakage.
fn caught(breakage: Breakage) -> usize {
    (1..=20)
        .filter(|seed| run(*seed, Some(breakage)).is_err())
        .count()
}

#[test]
fn a_broken_coordinator_is_caught() {
    for breakage in [
        Breakage::AdmitsTheFenced,
        Breakage::NeverTicks,
        Breakage::ForgetsChanges,
        Breakage::BelievesInFailedEnds,
        Breakage::BelievesInFailedEpochs,
        Breakage::KeepsTheNeedless,
    ] {
        let seen = caught(breakage);
        assert!(seen >= 3, "{breakage:?} is seen by {seen} of 20 seeds");
    }
}
