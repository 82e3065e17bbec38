//! Runs a world with many seeds, each twice: how many `SLUICE_SIM_SEEDS` says, from
//! `SLUICE_SIM_FIRST` on. It knows no world.

use std::fmt::Debug;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// What all seeds came to, `default` of them unless the environment says otherwise. All are tried
/// before the failures are told, so that a mistake is seen in its breadth.
///
/// # Panics
/// When seeds failed, which it names, or one came to something else the second time.
pub fn each_twice<V: PartialEq + Debug>(
    default: u64,
    mut run: impl FnMut(u64) -> Result<V, String>,
) -> Vec<V> {
    let first = number("SLUICE_SIM_FIRST", 1);
    let seeds = number("SLUICE_SIM_SEEDS", default);
    let (mut verdicts, mut failed) = (Vec::new(), Vec::new());
    for seed in first..first + seeds {
        match run(seed) {
            Ok(once) => {
                let again = run(seed);
                assert_eq!(
                    Ok(&once),
                    again.as_ref(),
                    "seed {seed} is not deterministic"
                );
                verdicts.push(once);
            }
            Err(what) => {
                println!("seed {seed} failed: SLUICE_SIM_FIRST={seed} SLUICE_SIM_SEEDS=1: {what}");
                failed.push(seed);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed: {failed:?}",
        failed.len()
    );
    verdicts
}

/// Each of these breakages, by which a world is wrong on purpose, is seen by some seeds.
///
/// # Panics
/// When fewer than 3 of 20 seeds see one. `fails` says whether a seed does.
pub fn assert_caught<B: Copy + Debug>(breakages: &[B], fails: impl Fn(u64, B) -> bool) {
    for &breakage in breakages {
        let seen = (1..=20).filter(|&seed| fails(seed, breakage)).count();
        assert!(seen >= 3, "{breakage:?} is seen by {seen} of 20 seeds");
    }
}
