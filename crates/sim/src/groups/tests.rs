//! Seeds of the simulated group, each twice, and machines that are broken on purpose.

use super::*;
use crate::seeds::{assert_caught, each_twice};

#[test]
fn members_of_a_group_end_in_one_generation_and_share_all() {
    let mut sum = Verdict::default();
    for verdict in each_twice(200, |seed| run(seed, None)) {
        sum.generations += verdict.generations;
        sum.faults += verdict.faults;
        sum.commits += verdict.commits;
        sum.fenced += verdict.fenced;
    }
    assert!(sum.commits > 0 && sum.fenced > 0, "{sum:?}");
    println!("{sum:?}");
}

#[test]
fn a_broken_machine_is_caught() {
    let breakages = [
        Breakage::AdmitsOldGenerations,
        Breakage::ForgetsAnswers,
        Breakage::NeverTicks,
        Breakage::AssignsTwice,
        Breakage::AdmitsDoubles,
    ];
    assert_caught(&breakages, |seed, breakage| {
        run(seed, Some(breakage)).is_err()
    });
}
