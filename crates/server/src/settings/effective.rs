//! The configuration in force as text: what the file says, over the defaults, with the flags of the
//! command line. What could be a secret is masked, wherever it stands.

use toml::Value;

use super::build::Flags;
use super::words::Word as _;
use crate::config::File;

/// Stands for a secret.
const MASK: &str = "***";

/// Parts of the names of keys whose values nobody shall see.
const SECRET_NAMES: [&str; 4] = ["password", "secret", "token", "passphrase"];

/// The configuration as a file would say it.
pub(super) fn shown(said: &File, flags: &Flags) -> String {
    let mut said = said.clone();
    let node = &mut said.node;
    node.name = flags.name.clone().or(node.name.take());
    let dir = flags.data_dir.as_ref().map(|dir| dir.display().to_string());
    node.data_dir = dir.or(node.data_dir.take());
    let workers = flags.workers.map(|workers| workers as i64);
    node.workers = workers.or(node.workers);
    let level = flags.log_level.map(|level| level.word().to_owned());
    said.logging.level = level.or(said.logging.level.take());
    let Ok(mut value) = Value::try_from(&said) else {
        return "# the configuration cannot be shown\n".to_owned();
    };
    mask(&mut value);
    toml::to_string_pretty(&value).unwrap_or_default()
}

fn mask(value: &mut Value) {
    match value {
        Value::Table(table) => {
            for (name, value) in table.iter_mut() {
                let name = name.to_lowercase();
                let secret = SECRET_NAMES.iter().any(|part| name.contains(part));
                match value {
                    // Where a secret is to be found is none.
                    Value::String(text)
                        if secret && !text.starts_with("file:") && !text.starts_with("env:") =>
                    {
                        MASK.clone_into(text);
                    }
                    other => mask(other),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_secret_is_masked_and_the_rest_is_a_configuration() {
        let text = "[node]\nname = \"n\"\n[mirror]\nbrokers = \"b:9092\"\n\
                    sasl_password = \"hunter2\"\ntls_key_password = \"env:KEY\"\n\
                    [mirror.client]\n\"x.secret.y\" = \"hunter3\"\n";
        let (said, _) = crate::config::read("t", text);
        let told = shown(&said.file, &Flags::default());
        assert!(!told.contains("hunter"), "{told}");
        assert!(told.contains(MASK) && told.contains("env:KEY"), "{told}");
        let (_, faults) = crate::config::read(
            "told",
            &shown(&crate::config::default_said().file, &Flags::default()),
        );
        assert!(faults.is_empty(), "{faults:?}");
    }
}
