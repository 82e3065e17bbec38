//! Seeds of the simulator. `SLUICE_SIM_SEEDS` says how many (40 by default; `cargo xtask soak sim`
//! runs thousands), `SLUICE_SIM_FIRST` where to begin; a failure names its seed.

use sim::oracle::{
    Verdict, run_with_failing_disk, run_with_full_disk, run_with_kills, run_with_power_cuts,
};
use sim::seeds::each_twice;

/// Runs each seed twice; where one fails the others are tried all the same.
fn each_seed_twice(run: fn(u64) -> Verdict) {
    let verdicts = each_twice(40, |seed| {
        std::panic::catch_unwind(|| run(seed)).map_err(|_| "see above".to_owned())
    });
    let (mut published, mut received, mut crashes) = (0, 0, 0);
    for once in verdicts {
        published += once.published;
        received += once.received;
        crashes += once.crashes;
    }
    assert!(published > 0, "the seeds published nothing");
    println!("{published} messages, {received} deliveries, {crashes} crashes");
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

/// A power cut took the packet ids of QoS 2 messages that a client had been sent; the next messages
/// got them, and the client took those for repetitions.
#[test]
fn a_packet_id_that_a_client_knows_outlives_a_power_cut() {
    run_with_power_cuts(700_082);
}

#[test]
fn nothing_acknowledged_is_lost_to_a_full_disk() {
    each_seed_twice(run_with_full_disk);
}
