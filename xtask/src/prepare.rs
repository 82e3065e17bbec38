//! What the tests need beside Rust: Debian packages, a Python virtual environment, npm packages. It
//! says what is missing before it installs, and fails with the reason when it cannot be had.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::process::{command, read, root, run, workshop};
use crate::programs;

/// (program that shows the package is there, Debian package).
const DEBIAN: &[(&str, &str)] = &[
    ("mosquitto", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("kcat", "kcat"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("chromium", "chromium"),
    ("openssl", "openssl"),
];

/// The programs of the virtual environment.
pub fn python() -> PathBuf {
    workshop().join("venv/bin/python")
}

/// Installs what is missing and says so first.
pub fn prepare() -> anyhow::Result<()> {
    let mut missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(program, _)| !on_path(program))
        .map(|(_, name)| *name)
        .collect();
    if !has_venv() {
        missing.push("python3-venv");
    }
    println!("The tests need, and this step installs where absent (about a minute, or three when");
    println!("nothing is there):");
    println!("  Debian   mosquitto, mosquitto-clients, kcat, python3, python3-venv, nodejs, npm,");
    println!("           chromium, openssl");
    println!(
        "           missing now: {}",
        if missing.is_empty() {
            "none".into()
        } else {
            missing.join(", ")
        }
    );
    println!(
        "  Python   {} (venv in target/xtask)",
        packages()?.join(", ")
    );
    println!(
        "  npm      mqtt, kafkajs, @platformatic/kafka (tests/clients/node_modules, by its lock)"
    );
    println!("           playwright-core (tests/console/node_modules, by its lock)");
    println!("  Maven    Apache Kafka with its tools and clients, the Java clients of Kafka 3.9");
    println!("           (jars in target/xtask/kafka; a JDK and Maven by apt-get where absent)");
    println!("  Go       franz-go, sarama, where a Go of at least 1.24 is present");
    if !missing.is_empty() {
        debian(&missing)?;
    }
    venv()?;
    programs::prepare()?;
    for folder in ["tests/clients", "tests/console"] {
        let mut npm = command(
            "npm",
            &["ci", "--no-audit", "--no-fund", "--loglevel=error"],
        );
        npm.current_dir(root().join(folder));
        run(npm)
            .with_context(|| format!("the packages of {folder} could not be installed by npm"))?;
    }
    node_is_new_enough()
}

/// Names and versions of the clients, for the table at the end.
pub fn versions() -> Vec<String> {
    let first_line = |program: &str, argument: &str| {
        let text = read(command(program, &[argument])).unwrap_or_default();
        text.lines().next().unwrap_or("?").trim().to_owned()
    };
    let mut found = vec![
        first_line("rustc", "--version"),
        format!("mosquitto {}", debian_version("mosquitto")),
        format!("kcat {}", debian_version("kcat")),
        first_line("python3", "--version"),
        format!("node {}", first_line("node", "--version")),
    ];
    found.extend(packages().unwrap_or_default());
    let modules = r#"for (const name of ["mqtt", "kafkajs", "@platformatic/kafka"])
        console.log(name, JSON.parse(require("fs").readFileSync(
            `./tests/clients/node_modules/${name}/package.json`)).version)"#;
    let lines = read(command("node", &["-e", modules])).unwrap_or_default();
    found.extend(lines.lines().map(str::to_owned));
    found.push(format!("Chromium {}", debian_version("chromium")));
    found.extend(programs::versions());
    found
}

/// @platformatic/kafka does not start on an older one.
fn node_is_new_enough() -> anyhow::Result<()> {
    let version = read(command("node", &["--version"]))?;
    let mut parts = version.trim().trim_start_matches('v').split('.');
    let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let (major, minor) = (next().unwrap_or(0), next().unwrap_or(0));
    if (major, minor) < (20, 19) {
        bail!(
            "@platformatic/kafka needs Node.js 20.19 or newer, and {} is on the path",
            version.trim()
        );
    }
    Ok(())
}

/// Installs Debian packages by name.
pub fn debian(packages: &[&str]) -> anyhow::Result<()> {
    run(command("apt-get", &["update", "-qq"])).context("the Debian package lists")?;
    let mut install = command(
        "apt-get",
        &["install", "-y", "-qq", "--no-install-recommends"],
    );
    install
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    run(install).with_context(|| {
        format!("these Debian packages could not be installed (root is needed): {packages:?}")
    })
}

fn venv() -> anyhow::Result<()> {
    let folder = workshop().join("venv");
    if !python().exists() {
        std::fs::create_dir_all(workshop())?;
        let mut make = command("python3", &["-m", "venv"]);
        make.arg(&folder);
        run(make).context("the Python virtual environment could not be made")?;
    }
    let mut pip = command(
        python(),
        &["-m", "pip", "install", "-q", "--disable-pip-version-check"],
    );
    pip.arg("-r")
        .arg(root().join("tests/clients/requirements.txt"));
    run(pip).context("the Python clients could not be installed by pip")
}

fn packages() -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(root().join("tests/clients/requirements.txt"))?;
    Ok(text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(str::to_owned)
        .collect())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|folder| folder.join(program).is_file())
}

fn has_venv() -> bool {
    read(command("python3", &["-c", "import ensurepip, venv"])).is_ok()
}

fn debian_version(package: &str) -> String {
    let query = command("dpkg-query", &["-W", "-f=${Version}", package]);
    read(query).unwrap_or_else(|_| "?".into())
}
