//! `cargo xtask ci`: what a change must pass before it lands.

use crate::process::{command, run};
use crate::test::test;

/// Format, lint, test.
pub fn ci() -> anyhow::Result<()> {
    run(command("cargo", &["fmt", "--all", "--check"]))?;
    run(command(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
    ))?;
    test()
}
