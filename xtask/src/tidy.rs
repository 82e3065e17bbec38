//! Rules of the house that no lint knows, held as tests: who may depend on whom, a header on every
//! file, nothing unfinished, every dependency with its reason.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::process::root;

    /// A crate and the crates of the house that it may know, tests aside (DESIGN section 2).
    const EDGES: &[(&str, &[&str])] = &[
        ("mqtt", &[]),
        ("kafka", &[]),
        ("commitlog", &[]),
        ("door", &[]),
        ("broker", &["mqtt", "commitlog"]),
        ("server", &["mqtt", "kafka", "commitlog", "broker", "door"]),
        ("sim", &["mqtt", "kafka", "commitlog", "broker", "door"]),
    ];
    /// The crates that are bytes in, bytes out.
    const PURE: &[&str] = &["mqtt", "kafka", "commitlog", "door", "broker"];
    /// Nothing that long has one purpose.
    const LINES_MAX: usize = 1000;

    fn sources() -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in ["crates", "xtask"] {
            collect(&root().join(folder), &mut found);
        }
        assert!(
            found.len() > 20,
            "the walk found only {} files",
            found.len()
        );
        found
    }

    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    fn section<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
        let lines = manifest
            .lines()
            .skip_while(|line| line.trim() != name)
            .skip(1);
        lines
            .take_while(|line| !line.starts_with('['))
            .filter(|line| !line.is_empty())
            .collect()
    }

    fn dependency(line: &str) -> &str {
        line.split(['.', ' ', '=']).next().unwrap()
    }

    #[test]
    fn crates_know_only_whom_they_may() {
        for (name, allowed) in EDGES {
            let manifest =
                fs::read_to_string(root().join(format!("crates/{name}/Cargo.toml"))).unwrap();
            for line in section(&manifest, "[dependencies]") {
                let known = dependency(line);
                let of_the_house = EDGES.iter().any(|(other, _)| *other == known);
                assert!(
                    !of_the_house || allowed.contains(&known),
                    "crate {name} must not know {known}: a new edge is a decision record"
                );
            }
        }
    }

    #[test]
    fn every_pure_crate_refuses_the_same() {
        let lints = |name: &str| {
            let path = root().join(format!("crates/{name}/clippy.toml"));
            fs::read_to_string(path).unwrap()
        };
        let first = lints(PURE[0]);
        for path in [
            "std::thread::Builder",
            "std::fs::read",
            "std::net::TcpStream",
        ] {
            assert!(first.contains(&format!("\"{path}\"")), "{path} is allowed");
        }
        for name in PURE {
            assert!(lints(name) == first, "the lints of {name} differ");
        }
    }

    #[test]
    fn every_file_says_what_lives_in_it() {
        for path in sources() {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                text.starts_with("//! "),
                "{}: no `//!` header",
                path.display()
            );
        }
    }

    #[test]
    fn nothing_is_left_unfinished() {
        let words = [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("todo", "!("),
            concat!("unimplemented", "!("),
        ];
        for path in sources() {
            let text = fs::read_to_string(&path).unwrap();
            for word in words {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }

    #[test]
    fn files_have_one_purpose() {
        for path in sources() {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(
                lines <= LINES_MAX,
                "{}: {lines} lines, split it",
                path.display()
            );
        }
    }

    #[test]
    fn every_dependency_has_its_reason() {
        let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let reasons = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
        for line in section(&manifest, "[workspace.dependencies]") {
            let name = dependency(line);
            if line.starts_with('#') || EDGES.iter().any(|(own, _)| *own == name) {
                continue;
            }
            assert!(
                reasons.contains(&format!("`{name}`")),
                "docs/ARCHITECTURE.md gives no reason for the dependency {name}"
            );
        }
    }
}
