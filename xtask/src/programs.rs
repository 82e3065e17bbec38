//! The programs of Kafka clients that are neither Python nor JavaScript: Java's, compiled against two
//! versions of the clients, and Go's, where Go is there. The tests find them in `target/xtask`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;

use crate::kafka;
use crate::process::{command, read, root, run, workshop};

/// (folder below `target/xtask/kafka`, pom that fills it).
const LIBRARIES: [(&str, &str); 2] = [
    ("lib", "tests/kafka/pom.xml"),
    ("lib-3.9", "tests/kafka/clients-3.9/pom.xml"),
];
/// What the Go clients need.
const GO_MIN: (u32, u32) = (1, 24);

/// Fetches and compiles what is absent or older than its source.
pub fn prepare() -> anyhow::Result<()> {
    kafka::prepare_java()?;
    for (name, pom) in LIBRARIES {
        let jars = kafka::jars(pom, name)?;
        java(name, &jars)?;
    }
    match go_version() {
        Some(version) if version >= GO_MIN => go(),
        _ => {
            println!("not run: Go clients (no Go of at least 1.24 is on the path)");
            Ok(())
        }
    }
}

/// Names and versions, for the table at the end.
pub fn versions() -> Vec<String> {
    let mut found = vec![format!(
        "Apache Kafka {}",
        kafka::version().unwrap_or_default()
    )];
    let old = fs::read_dir(kafka::library("lib-3.9"))
        .into_iter()
        .flatten()
        .flatten();
    let names = old.map(|entry| entry.file_name().to_string_lossy().into_owned());
    found.extend(names.filter_map(|name| {
        let version = name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?;
        Some(format!("kafka-clients {version}"))
    }));
    if let Ok(java) = read(command("javac", &["-version"])) {
        found.push(java.trim().to_owned());
    }
    if go_version().is_none_or(|version| version < GO_MIN) {
        found.push("not run: Go clients".to_owned());
        return found;
    }
    let modules = fs::read_to_string(root().join("tests/clients/go/go.mod")).unwrap_or_default();
    let direct = modules
        .lines()
        .filter(|line| line.starts_with('\t') && !line.contains("indirect"));
    found.extend(direct.map(|line| line.trim().to_owned()));
    found
}

fn java(name: &str, jars: &Path) -> anyhow::Result<()> {
    let source = root().join("tests/clients/java/Clients.java");
    let classes = workshop().join("java").join(name);
    let newest = modified(&source).max(modified(&jars.join("pom.xml")));
    if modified(&classes.join("Clients.class")) > newest {
        return Ok(());
    }
    fs::create_dir_all(&classes)?;
    let mut javac = command("javac", &["-nowarn", "-Xlint:-deprecation", "-cp"]);
    javac
        .arg(jars.join("*"))
        .arg("-d")
        .arg(&classes)
        .arg(&source);
    run(javac).context("the Java clients' test program does not compile")
}

fn go() -> anyhow::Result<()> {
    let folder: PathBuf = workshop().join("go");
    fs::create_dir_all(&folder)?;
    let mut build = command("go", &["build", "-mod=readonly", "-o"]);
    build.arg(&folder).args(["./franz", "./sarama"]);
    build.current_dir(root().join("tests/clients/go"));
    build.env("GOTOOLCHAIN", "local");
    run(build).context("the Go clients' test programs could not be built")
}

/// The version of Go on the path.
fn go_version() -> Option<(u32, u32)> {
    // "go version go1.26.8 linux/amd64"
    let text = read(command("go", &["version"])).ok()?;
    let version = text.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??))
}

/// When a file was written; long ago when it is not there.
fn modified(path: &Path) -> SystemTime {
    fs::metadata(path)
        .and_then(|found| found.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::process::root;

    /// The version that follows `mark` in a file of the tests.
    fn version_behind(file: &str, mark: &str) -> String {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let (_, rest) = text
            .split_once(mark)
            .unwrap_or_else(|| panic!("{file} has no {mark}"));
        let end = rest.find(['\n', '"', '<', ' ']).unwrap_or(rest.len());
        rest[..end].to_owned()
    }

    #[test]
    fn the_document_names_the_versions_that_are_tested() {
        let document = fs::read_to_string(root().join("docs/kafka-clients.md")).unwrap();
        let python = "tests/clients/requirements.txt";
        let npm = "tests/clients/package.json";
        let go = "tests/clients/go/go.mod";
        for (client, file, mark) in [
            ("confluent-kafka for Python", python, "confluent-kafka=="),
            ("kafka-python", python, "kafka-python=="),
            ("aiokafka", python, "aiokafka=="),
            ("kafkajs", npm, "\"kafkajs\": \""),
            ("@platformatic/kafka", npm, "\"@platformatic/kafka\": \""),
            (
                "Apache Kafka's Java clients",
                "tests/kafka/pom.xml",
                "<kafka.version>",
            ),
            (
                "Apache Kafka's Java clients",
                "tests/kafka/clients-3.9/pom.xml",
                "<artifactId>kafka-clients</artifactId>\n      <version>",
            ),
            ("franz-go", go, "github.com/twmb/franz-go "),
            ("sarama", go, "github.com/IBM/sarama "),
        ] {
            let version = version_behind(file, mark);
            let row = document.lines().any(|line| {
                line.starts_with(&format!("| {client}")) && line.contains(&format!("| {version} |"))
            });
            assert!(
                row,
                "docs/kafka-clients.md has no row of {client} {version}"
            );
        }
    }
}
