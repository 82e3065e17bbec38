//! Seeds of the simulator. `SLUICE_SIM_SEEDS` says how many (40 by default; `cargo xtask soak sim`
//! runs thousands), `SLUICE_SIM_FIRST` where to begin; a failure names its seed.

use sim::oracle::{Verdict, run_with_kills, run_with_power_cut};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn each_seed_twice(run: fn(u64) -> Verdict) {
    let first = number("SLUICE_SIM_FIRST", 1);
    let (mut published, mut crashes) = (0, 0);
    for seed in first..first + number("SLUICE_SIM_SEEDS", 40) {
        let once = std::panic::catch_unwind(|| run(seed));
        let Ok(once) = once else {
            panic!("seed {seed} failed: SLUICE_SIM_FIRST={seed} SLUICE_SIM_SEEDS=1")
        };
        assert_eq!(once, run(seed), "seed {seed} is not deterministic");
        published += once.published;
        crashes += once.crashes;
    }
    assert!(published > 0, "the seeds published nothing");
    println!("{published} messages, {crashes} kills");
}

#[test]
fn nothing_acknowledged_is_lost_to_kills() {
    each_seed_twice(run_with_kills);
}

#[test]
fn nothing_flushed_is_lost_to_a_power_cut() {
    each_seed_twice(run_with_power_cut);
}
