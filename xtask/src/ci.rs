//! `cargo xtask ci`: what a change must pass before it lands.

use crate::process::{command, run};
use crate::test::test;

/// Format, lint, test.
pub fn ci() -> anyhow::Result<()> {
    run(command("cargo", &["fmt", "--all", "--check"]))?;
    let mut clippy = command(
        "cargo",
        &["clippy", "--workspace", "--all-targets", "--locked"],
    );
    clippy.args(["--", "-D", "warnings"]);
    run(clippy)?;
    test()
}
