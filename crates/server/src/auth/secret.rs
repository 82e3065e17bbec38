//! Secrets of the operator, read from files or the environment. They are never shown.

use std::fmt;
use std::path::Path;

use super::limits::SECRET_BYTES_MAX;
use crate::settings::SecretSource;

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads a secret; a line break at its end does not belong to it.
    ///
    /// # Errors
    /// It cannot be read, or is empty; says where it should be, and nothing of it.
    pub fn read(source: &SecretSource) -> Result<Self, String> {
        let (text, place) = match source {
            SecretSource::File(path) => (file(path)?, path.display().to_string()),
            SecretSource::Environment(name) => {
                let text = std::env::var(name)
                    .map_err(|_| format!("the environment has no readable variable {name}"))?;
                (text, format!("the variable {name}"))
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.len() as u64 > SECRET_BYTES_MAX {
            return Err(format!(
                "{place} is empty or has more than {SECRET_BYTES_MAX} bytes"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret itself.
    pub fn text(&self) -> &str {
        &self.0
    }
}

fn file(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map(|found| found.len());
    if length.is_ok_and(|length| length > SECRET_BYTES_MAX) {
        return Err(format!(
            "{} is larger than {SECRET_BYTES_MAX} bytes",
            path.display()
        ));
    }
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_without_its_line_break_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "s3cret\r\n").unwrap();
        let secret = Secret::read(&SecretSource::File(path.clone())).unwrap();
        assert_eq!(secret.text(), "s3cret");
        assert_eq!(format!("{secret:?}"), "Secret");
        std::fs::write(&path, "\n").unwrap();
        assert!(Secret::read(&SecretSource::File(path)).is_err());
        let nowhere = SecretSource::Environment("SLUICE_NO_SUCH_VARIABLE".into());
        assert!(
            Secret::read(&nowhere)
                .unwrap_err()
                .contains("SLUICE_NO_SUCH")
        );
    }
}
