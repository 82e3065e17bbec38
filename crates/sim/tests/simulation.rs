//! Seeds of the simulator. `SLUICE_SIM_SEEDS` says how many (40 by default; `cargo xtask soak sim`
//! runs thousands), `SLUICE_SIM_FIRST` where to begin; a failure names its seed.

use sim::oracle::{
    Verdict, run_with_failing_disk, run_with_full_disk, run_with_kills, run_with_power_cuts,
};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Runs each seed twice; all are tried before the first failure is told, so that a mistake is seen
/// in its breadth.
fn each_seed_twice(run: fn(u64) -> Verdict) {
    let first = number("SLUICE_SIM_FIRST", 1);
    let seeds = number("SLUICE_SIM_SEEDS", 40);
    let (mut published, mut received, mut crashes) = (0, 0, 0);
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        let Ok(once) = std::panic::catch_unwind(|| run(seed)) else {
            println!("seed {seed} failed: SLUICE_SIM_FIRST={seed} SLUICE_SIM_SEEDS=1");
            failed.push(seed);
            continue;
        };
        assert_eq!(once, run(seed), "seed {seed} is not deterministic");
        published += once.published;
        received += once.received;
        crashes += once.crashes;
    }
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed: {failed:?}",
        failed.len()
    );
    assert!(published > 0, "the seeds published nothing");
    println!("{seeds} seeds: {published} messages, {received} deliveries, {crashes} crashes");
}

#[test]
fn nothing_acknowledged_is_lost_to_kills() {
    each_seed_twice(run_with_kills);
}

#[test]
fn nothing_acknowledged_is_lost_to_a_failing_disk() {
    each_seed_twice(run_with_failing_disk);
}

#[test]
fn nothing_flushed_is_lost_to_power_cuts() {
    each_seed_twice(run_with_power_cuts);
}

#[test]
fn nothing_acknowledged_is_lost_to_a_full_disk() {
    each_seed_twice(run_with_full_disk);
}
