//! `sluice user`: the users of a running node, over its HTTP interface. A password comes from a
//! prompt, a file, the environment or standard input, never from the command line.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::api::{ApiArgs, escaped};
use super::table::table;
use super::user_import::ImportArgs;
use crate::auth::{Password, UserRow};
use crate::config::units::show_millis;
use crate::http::users::{NewPassword, NewUser};
use crate::node::wall_ms;

/// Add, list and delete the users of a running node
#[derive(Debug, Args)]
pub struct UserArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    what: What,
}

/// What is done.
#[derive(Debug, Subcommand)]
enum What {
    /// Add a user
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        source: Source,
    },
    /// Give a user another password
    Passwd {
        /// Its name
        name: String,
        #[command(flatten)]
        source: Source,
    },
    /// Delete a user; connections that it has stay until they end
    Delete {
        /// Its name
        name: String,
    },
    /// Import the users of another broker, with the hashes of their passwords
    Import(ImportArgs),
    /// List the users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the password comes from; without either: a prompt, or the first line of standard input.
#[derive(Debug, Args)]
struct Source {
    /// File whose first line is the password; -: standard input
    #[arg(long, value_name = "FILE", conflicts_with = "password_env")]
    password_file: Option<PathBuf>,
    /// Environment variable that holds the password
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<String>,
}

/// Does it and says so.
pub fn run(args: &UserArgs) -> anyhow::Result<ExitCode> {
    let of = |name: &str| format!("/api/v1/users/{}", escaped(name));
    match &args.what {
        What::Add { name, source } => {
            let user = NewUser {
                name: name.clone(),
                password: source.password()?.text().to_owned(),
            };
            let body = serde_json::to_string(&user)?;
            args.api.ask("POST", "/api/v1/users", Some(&body))?;
            println!("user {name} added");
        }
        What::Passwd { name, source } => {
            let new = NewPassword {
                password: source.password()?.text().to_owned(),
            };
            let body = serde_json::to_string(&new)?;
            args.api.ask("PUT", &of(name), Some(&body))?;
            println!("user {name} has the new password");
        }
        What::Delete { name } => {
            args.api.ask("DELETE", &of(name), None)?;
            println!("user {name} deleted");
        }
        What::Import(import) => super::user_import::run(&args.api, import)?,
        What::List { json } => {
            let users: Vec<UserRow> = args.api.pages("/api/v1/users", None)?;
            if *json {
                println!("{}", serde_json::to_string(&users)?);
            } else {
                print!("{}", shown(&users, wall_ms()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(users: &[UserRow], now_ms: u64) -> String {
    let ago = |ms: u64| {
        let seconds = now_ms.saturating_sub(ms) / 1_000;
        format!("{} ago", show_millis(coarse(seconds) * 1_000))
    };
    let rows = users.iter().map(|user| {
        vec![
            user.name.clone(),
            user.mechanisms.join(", "),
            ago(user.created_ms),
            ago(user.changed_ms),
        ]
    });
    table(&["USER", "LOGS IN BY", "ADDED", "PASSWORD SET"], &[], rows)
}

/// Seconds in the largest unit that is full once.
fn coarse(seconds: u64) -> u64 {
    let units = [86_400, 3_600, 60];
    let unit = units.into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    seconds / unit * unit
}

impl Source {
    fn password(&self) -> anyhow::Result<Password> {
        let text = if let Some(variable) = &self.password_env {
            std::env::var(variable).with_context(|| format!("the variable {variable}"))?
        } else if let Some(file) = self.password_file.as_ref().filter(|file| *file != "-") {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            text.lines().next().unwrap_or_default().to_owned()
        } else if self.password_file.is_none() && std::io::stdin().is_terminal() {
            prompted()?
        } else {
            line()?
        };
        Password::new(text).map_err(anyhow::Error::msg)
    }
}

/// The next line of standard input.
fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut text)
        .context("cannot read the password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks twice, without showing what is typed.
fn prompted() -> anyhow::Result<String> {
    let asked = |what: &str| -> anyhow::Result<String> {
        eprint!("{what}: ");
        std::io::stderr().flush()?;
        let text = line();
        eprintln!();
        text
    };
    let _hidden = Hidden::new()?;
    let first = asked("password")?;
    if asked("once more")? != first {
        bail!("these were two passwords");
    }
    Ok(first)
}

/// While it lives, the terminal does not show what is typed.
struct Hidden {
    before: libc::termios,
}

impl Hidden {
    fn new() -> anyhow::Result<Self> {
        let fd = std::io::stdin().as_raw_fd();
        let mut before = std::mem::MaybeUninit::uninit();
        // SAFETY: tcgetattr fills the struct when it returns 0, and only then it is read.
        let before = unsafe {
            if libc::tcgetattr(fd, before.as_mut_ptr()) != 0 {
                bail!("the terminal cannot be asked not to show the password");
            }
            before.assume_init()
        };
        let mut hidden = before;
        hidden.c_lflag &= !libc::ECHO;
        // SAFETY: the struct is one that tcgetattr filled.
        if unsafe { libc::tcsetattr(fd, libc::TCSAFLUSH, &raw const hidden) } != 0 {
            bail!("the terminal cannot be asked not to show the password");
        }
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // SAFETY: as above; if it fails, nothing better can be done.
        unsafe {
            libc::tcsetattr(
                std::io::stdin().as_raw_fd(),
                libc::TCSAFLUSH,
                &raw const self.before,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_shown_with_their_age() {
        let user = UserRow {
            name: "joe".to_owned(),
            created_ms: 0,
            changed_ms: 86_400_000,
            mechanisms: vec!["PLAIN".to_owned()],
        };
        let text = shown(&[user], 2 * 86_400_000 + 5_000);
        assert_eq!(
            text,
            "USER  LOGS IN BY  ADDED   PASSWORD SET\njoe   PLAIN       2d ago  1d ago\n"
        );
        assert_eq!((coarse(59), coarse(3_700), coarse(0)), (59, 3_600, 0));
    }

    #[test]
    fn a_password_comes_from_a_file_or_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "pencil\nrest\n").unwrap();
        let source = Source {
            password_file: Some(file),
            password_env: None,
        };
        assert_eq!(source.password().unwrap().text(), "pencil");
        let source = Source {
            password_file: None,
            password_env: Some("SLUICE_NO_SUCH_VARIABLE".to_owned()),
        };
        assert!(source.password().is_err());
    }
}
