//! The program `xtask` itself: help is printed and what is unknown is refused, before anything runs.

use std::process::{Command, Output};

fn xtask(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(line.split_whitespace())
        .output()
        .expect("it was built for this test")
}

// A soak of a name that does not exist: whatever is wrong here, nothing long begins.

#[test]
fn help_is_printed_for_every_verb() {
    for line in [
        "--help",
        "soak no-such --help",
        "soak help",
        "bench no-such -h",
    ] {
        let said = xtask(line);
        assert!(said.status.success(), "{line}: {said:?}");
        let usage = String::from_utf8_lossy(&said.stdout);
        assert!(usage.starts_with("cargo xtask VERB"), "{line}: {usage}");
    }
}

#[test]
fn an_unknown_option_or_verb_is_refused_with_the_usage() {
    let said = xtask("soak no-such --fast");
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(text.contains("there is no option --fast here"), "{text}");
    assert!(text.contains("cargo xtask VERB"), "{text}");
    let said = xtask("no-such");
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    let said = xtask("bench no-such --data-dir");
    assert_eq!(said.status.code(), Some(2), "{said:?}");
}
