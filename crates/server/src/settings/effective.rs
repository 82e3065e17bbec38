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

/// Parts of the names of properties of the mirror's client that are, or may hold, a secret; where a
/// file lies is none.
const SECRET_PROPERTIES: [&str; 3] = ["key", "pem", "oauthbearer.config"];

/// Keys whose values are URLs, of which the part behind `?` could be a key.
const URL_NAMES: [&str; 2] = ["url", "jwks"];

/// Stands in a value that holds a private key, whatever its name.
const PRIVATE_KEY: &str = "PRIVATE KEY";

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
    if let Some(Value::Table(client)) = value.get_mut("mirror").and_then(|it| it.get_mut("client"))
    {
        for (name, value) in client.iter_mut() {
            if let Value::String(text) = value
                && holds_secret(&name.to_lowercase())
            {
                MASK.clone_into(text);
            }
        }
    }
    mask_within(value);
}

/// Whether a property of librdkafka may hold a secret.
fn holds_secret(name: &str) -> bool {
    !name.ends_with(".location") && SECRET_PROPERTIES.iter().any(|part| name.contains(part))
}

fn mask_within(value: &mut Value) {
    match value {
        Value::Table(table) => {
            for (name, value) in table.iter_mut() {
                let name = name.to_lowercase();
                if URL_NAMES.contains(&&*name)
                    && let Value::String(url) = value
                    && let Some(at) = url.find('?')
                {
                    url.truncate(at + 1);
                    url.push_str(MASK);
                }
                let secret = SECRET_NAMES.iter().any(|part| name.contains(part));
                match value {
                    // Where a secret is to be found is none.
                    Value::String(text)
                        if secret && !text.starts_with("file:") && !text.starts_with("env:") =>
                    {
                        MASK.clone_into(text);
                    }
                    // Whatever a library calls a password; the keys of this program are no numbers.
                    Value::Integer(_) | Value::Float(_) if name.ends_with("password") => {
                        *value = Value::String(MASK.to_owned());
                    }
                    other => mask_within(other),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask_within),
        Value::String(text) if text.contains(PRIVATE_KEY) => MASK.clone_into(text),
        Value::String(text) => {
            if let Some(named) = without_login(text) {
                *text = named;
            }
        }
        _ => {}
    }
}

/// A URL that logs in (`https://joe:pencil@keys.example/`) without its login; `None` for others.
fn without_login(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (login, _) = host.rsplit_once('@')?;
    Some(format!("{scheme}://{MASK}{}", &rest[login.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_secret_is_masked_and_the_rest_is_a_configuration() {
        let text = "[node]\nname = \"n\"\n[mirror]\nbrokers = \"b:9092\"\n\
                    sasl_password = \"hunter2\"\ntls_key_password = \"env:KEY\"\n\
                    [mirror.client]\n\"x.secret.y\" = \"hunter3\"\n\
                    \"sasl.oauthbearer.assertion.private.key.pem\" = \"hunter4\"\n\
                    \"sasl.oauthbearer.config\" = \"principal=hunter5\"\n\
                    \"ssl.key.location\" = \"/etc/mirror.key\"\n\
                    \"linger.ms\" = \"5\"\n\"ssl.keystore.password\" = 987654\n\
                    [[authenticator]]\nkind = \"jwt\"\n\
                    jwks = \"https://joe:hunter6@keys.example/jwks?at=hunter@7\"\n";
        let (said, _) = crate::config::read("t", text);
        let told = shown(&said.file, &Flags::default());
        assert!(
            !told.contains("hunter") && !told.contains("987654"),
            "{told}"
        );
        for shown in [
            MASK,
            "env:KEY",
            "/etc/mirror.key",
            "linger.ms",
            "\"https://***@keys.example/jwks?***\"",
        ] {
            assert!(told.contains(shown), "{shown}: {told}");
        }
        let (_, faults) = crate::config::read(
            "told",
            &shown(&crate::config::default_said().file, &Flags::default()),
        );
        assert!(faults.is_empty(), "{faults:?}");
    }
}
