//! `cargo xtask fuzz [TARGET] [--seconds N]`: every decoder, recovery and shard operations, by the
//! driver in crate `sim` (stable Rust, no sanitizer).

use crate::process::{command, run};

/// Passes its arguments to the driver.
pub fn fuzz(arguments: &[String]) -> anyhow::Result<()> {
    let mut driver = command(
        "cargo",
        &[
            "run",
            "--release",
            "--package",
            "sim",
            "--bin",
            "fuzz",
            "--",
        ],
    );
    driver.args(arguments);
    run(driver)
}
