//! `cargo xtask console`: brings the libraries of the console, at the versions of npm's lock file, into
//! the repository, with their licences. Nothing else needs npm: the files are committed. With `shots`
//! it takes the pictures of the documents anew, of a node under traffic.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::prepare::debian;
use crate::process::{command, root, run, target, workshop};

/// (file of a package, file of the console).
const FILES: &[(&str, &str)] = &[
    ("uplot/dist/uPlot.esm.js", "uplot.js"),
    ("uplot/dist/uPlot.min.css", "uplot.css"),
    ("mqtt/dist/mqtt.esm.js", "mqtt.js"),
];
/// Packages of which no line runs in a browser: types for compilers.
const TYPES: &[&str] = &["@types", "undici-types"];

/// Pictures that the documents keep; the tests take more.
const KEPT: &[&str] = &[
    "overview-1440",
    "overview-390",
    "overview-1440-dark",
    "clients-1440",
    "clients-390",
    "client-1440",
    "subscriptions-1440",
    "subscriptions-390",
    "retained-1440",
    "retained-390",
    "streams-1440",
    "streams-390",
    "stream-1440",
    "stream-390",
    "stream-1440-dark",
    "hooks-1440",
    "hooks-390",
    "mirror-1440",
    "mirror-390",
    "websocket-1440",
    "websocket-1440-dark",
    "websocket-390",
    "live-1440",
    "live-390",
    "trace-1440",
    "trace-390",
    "access-1440",
    "access-390",
    "settings-1440",
    "settings-390",
];

/// The libraries, or the pictures.
pub fn console(arguments: &[String]) -> anyhow::Result<()> {
    match arguments.first().map(String::as_str) {
        None => libraries(),
        Some("shots") => shots(),
        Some(other) => anyhow::bail!("`console` knows `shots`, not {other}"),
    }
}

/// Puts a node under traffic for some minutes, takes the pictures that the documents show, with fewer
/// colours.
fn shots() -> anyhow::Result<()> {
    debian(&["chromium", "pngquant"])?;
    run(command("cargo", &["build", "--package", "server"]))?;
    let folder = workshop().join("shots");
    let mut pictures = command("node", &["pictures.mjs", "360"]);
    pictures.current_dir(root().join("tests/console"));
    pictures.env("SLUICE_BIN", target().join("debug/sluice"));
    pictures.env("SLUICE_CONSOLE_SHOTS", &folder);
    run(pictures)?;
    let kept = root().join("docs/console");
    fs::create_dir_all(&kept)?;
    for name in KEPT {
        let mut shrink = command("pngquant", &["--force", "--strip", "--speed", "1", "128"]);
        shrink.arg("--output").arg(kept.join(format!("{name}.png")));
        shrink.arg(folder.join(format!("{name}.png")));
        run(shrink)?;
    }
    Ok(())
}

/// Installs by the lock file into the target folder and copies what the console serves.
fn libraries() -> anyhow::Result<()> {
    let source = root().join("crates/server/console");
    let folder = workshop().join("console");
    fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), folder.join(name)).with_context(|| name.to_owned())?;
    }
    let mut npm = command(
        "npm",
        &["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    );
    npm.current_dir(&folder);
    run(npm).context("the libraries of the console could not be installed by npm")?;
    let modules = folder.join("node_modules");
    let vendor = source.join("assets/vendor");
    fs::create_dir_all(&vendor)?;
    for (from, to) in FILES {
        fs::copy(modules.join(from), vendor.join(to)).with_context(|| (*from).to_owned())?;
        println!("{to} <- {from}");
    }
    fs::write(vendor.join("licences.txt"), licences(&modules)?)?;
    Ok(())
}

/// The licences of all packages whose code may be in the copied files.
fn licences(modules: &Path) -> anyhow::Result<String> {
    let mut text = String::from(
        "The console serves uPlot (charts) and MQTT.js (MQTT in the page). What MQTT.js brings along is\n\
         within its file. These are the licences of all of them.\n",
    );
    for package in packages(modules)? {
        let manifest = fs::read_to_string(package.join("package.json"))?;
        let name = package
            .strip_prefix(modules)
            .unwrap_or(&package)
            .to_string_lossy()
            .into_owned();
        let version = field(&manifest, "version");
        let licence = field(&manifest, "license");
        writeln!(text, "\n{}\n{name} {version}: {licence}\n", "-".repeat(80))?;
        match licence_file(&package)? {
            Some(file) => text.push_str(&fs::read_to_string(file)?.replace('\r', "")),
            None => text.push_str("(The package brings no file with it.)\n"),
        }
    }
    Ok(text)
}

/// Folders of the packages, by name; those of a scope lie one deeper.
fn packages(modules: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(modules)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || TYPES.contains(&name.as_ref()) {
            continue;
        }
        if name.starts_with('@') {
            for inner in fs::read_dir(&path)? {
                found.push(inner?.path());
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn licence_file(package: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(package)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_lowercase();
        if path.is_file() && (name.starts_with("license") || name.starts_with("licence")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found.into_iter().next())
}

/// The text of a field at the top of a manifest. npm writes one field a line, two spaces deep.
fn field(manifest: &str, name: &str) -> String {
    let start = format!("\"{name}\":");
    manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix(&start))
        .map(|value| value.trim().trim_matches([',', '"']).to_owned())
        .next()
        .unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_are_those_of_the_lock_and_have_their_licences() {
        let source = root().join("crates/server/console");
        let lock = fs::read_to_string(source.join("package-lock.json")).unwrap();
        assert!(!lock.contains("resolved"), "a registry host is in the lock");
        let licences = fs::read_to_string(source.join("assets/vendor/licences.txt")).unwrap();
        let manifest = fs::read_to_string(source.join("package.json")).unwrap();
        for name in ["uplot", "mqtt"] {
            let version = field(&manifest, name);
            let line = format!("\n{name} {version}: MIT\n");
            assert!(licences.contains(&line), "{line}");
        }
        let client = fs::read_to_string(source.join("assets/vendor/mqtt.js")).unwrap();
        let version = field(&manifest, "mqtt");
        assert!(client.contains(&version), "mqtt.js is not {version}");
    }
}
