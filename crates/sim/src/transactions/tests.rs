//! Seeds of simulated producers, each twice, and coordinators that are broken on purpose.

use super::*;
use crate::seeds::{assert_caught, each_twice};

#[test]
fn transactions_are_whole_and_nothing_stays_open() {
    let mut sum = Verdict::default();
    for verdict in each_twice(30, |seed| run(seed, None)) {
        sum.committed += verdict.committed;
        sum.aborted += verdict.aborted;
        sum.faults += verdict.faults;
        sum.crashes += verdict.crashes;
        sum.fenced += verdict.fenced;
    }
    let lively = sum.committed > 0 && sum.aborted > 0 && sum.crashes > 0 && sum.fenced > 0;
    assert!(lively, "{sum:?}");
    println!("{sum:?}");
}

#[test]
fn a_broken_coordinator_is_caught() {
    let breakages = [
        Breakage::AdmitsTheFenced,
        Breakage::NeverTicks,
        Breakage::ForgetsChanges,
        Breakage::BelievesInFailedEnds,
        Breakage::BelievesInFailedEpochs,
        Breakage::KeepsTheNeedless,
    ];
    assert_caught(&breakages, |seed, breakage| {
        run(seed, Some(breakage)).is_err()
    });
}
