//! `sluice user import`: the users of other brokers, from mosquitto's password files and EMQX's
//! exports, with their hashes. What can be read is told line by line; nothing is guessed.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::api::ApiArgs;
use crate::auth::imported::{Function, Imported, SaltPosition};
use crate::http::users::{ImportAnswer, ImportUsers, ImportedUser};

/// Users of one request.
const AT_ONCE: usize = 500;

/// What is imported.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file
    file: PathBuf,
    /// Where it is from
    #[arg(long, value_enum)]
    from: From,
    /// EMQX: the hash of the authenticator it was exported from
    #[arg(long, value_enum, default_value = "sha256")]
    algorithm: Algorithm,
    /// EMQX: where the authenticator puts the salt
    #[arg(long, value_enum, default_value = "suffix")]
    salt_position: Position,
    /// EMQX, PBKDF2: iterations of the authenticator
    #[arg(long, default_value_t = 4_096)]
    iterations: u32,
    /// Replace users that are there
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// A password file of mosquitto ($6$ and $7$)
    Mosquitto,
    /// EMQX 5: CSV or JSON of the built-in database
    Emqx,
    /// EMQ X 4: JSON of `emqx_ctl data export`
    Emqx4,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Algorithm {
    Md5,
    /// SHA-1
    Sha,
    Sha256,
    Sha512,
    Bcrypt,
    #[value(name = "pbkdf2-md5")]
    Pbkdf2Md5,
    #[value(name = "pbkdf2-sha")]
    Pbkdf2Sha,
    #[value(name = "pbkdf2-sha256")]
    Pbkdf2Sha256,
    #[value(name = "pbkdf2-sha512")]
    Pbkdf2Sha512,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Position {
    Prefix,
    Suffix,
    Disable,
}

/// What was read: users, super users among them, and what could not be read.
#[derive(Debug, Default)]
struct Read {
    users: Vec<ImportedUser>,
    super_users: Vec<String>,
    wrong: Vec<String>,
}

/// Reads, sends and tells.
pub fn run(api: &ApiArgs, args: &ImportArgs) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let read = match args.from {
        From::Mosquitto => mosquitto(&text),
        From::Emqx => args.emqx(&text)?,
        From::Emqx4 => emqx_4(&text)?,
    };
    let mut wrong = read.wrong;
    let mut done = 0;
    for users in read.users.chunks(AT_ONCE) {
        let body = serde_json::to_string(&ImportUsers {
            users: users.to_vec(),
            replace: args.replace,
        })?;
        let answer = api.ask("POST", "/api/v1/users/import", Some(&body))?;
        let answer: ImportAnswer = serde_json::from_str(&answer)?;
        done += answer.imported;
        wrong.extend(answer.refused);
    }
    println!("{done} users imported");
    if !read.super_users.is_empty() {
        println!(
            "these may do everything there; here, name them in `super_users` of [authorization]: {}",
            read.super_users.join(", ")
        );
    }
    for what in &wrong {
        eprintln!("{what}");
    }
    if !wrong.is_empty() {
        bail!("{} users were not imported", wrong.len());
    }
    Ok(())
}

fn mosquitto(text: &str) -> Read {
    let mut read = Read::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, hash)) = line.split_once(':') else {
            read.wrong
                .push(format!("line {number}: no user name and hash"));
            continue;
        };
        match mosquitto_hash(hash) {
            Ok(hash) => read.users.push(ImportedUser {
                name: name.to_owned(),
                hash,
            }),
            Err(what) => read
                .wrong
                .push(format!("line {number}: user {name}: {what}")),
        }
    }
    read
}

/// `$6$salt$hash` is SHA-512 of password and salt, `$7$iterations$salt$hash` PBKDF2 with it.
fn mosquitto_hash(text: &str) -> Result<Imported, &'static str> {
    const WRONG: &str = "the hash is damaged";
    let mut fields = text
        .strip_prefix('$')
        .ok_or("the password is not hashed; run mosquitto_passwd -U")?
        .split('$');
    let kind = fields.next();
    let iterations = match kind {
        Some("6") => None,
        Some("7") => {
            let said = fields.next().and_then(|text| text.parse().ok());
            Some(said.ok_or(WRONG)?)
        }
        _ => return Err("the kind of its hash is none of $6$ and $7$"),
    };
    let mut bytes = || {
        let text = fields.next()?;
        base64_simd::STANDARD.decode_to_vec(text).ok()
    };
    let (salt, hash) = (bytes().ok_or(WRONG)?, bytes().ok_or(WRONG)?);
    let function = Function::Sha512;
    let imported = match iterations {
        None => Imported::Digest {
            function,
            salt_position: SaltPosition::Suffix,
            salt,
            hash,
        },
        Some(iterations) => Imported::Pbkdf2 {
            function,
            iterations,
            salt,
            hash,
        },
    };
    if imported.sound() {
        Ok(imported)
    } else {
        Err(WRONG)
    }
}

/// A row of EMQX 5.
#[derive(Debug, Deserialize)]
struct Row {
    user_id: String,
    password_hash: String,
    #[serde(default)]
    salt: String,
    #[serde(default)]
    is_superuser: bool,
}

impl ImportArgs {
    fn emqx(&self, text: &str) -> anyhow::Result<Read> {
        let rows: Vec<Row> = if text.trim_start().starts_with('[') {
            serde_json::from_str(text).context("this is no JSON export of users")?
        } else {
            csv(text)?
        };
        let mut read = Read::default();
        for row in rows {
            if row.is_superuser {
                read.super_users.push(row.user_id.clone());
            }
            match self.emqx_hash(&row) {
                Some(hash) => read.users.push(ImportedUser {
                    name: row.user_id,
                    hash,
                }),
                None => read.wrong.push(format!(
                    "user {}: the hash is none of {:?}; see --algorithm",
                    row.user_id, self.algorithm
                )),
            }
        }
        Ok(read)
    }

    /// EMQX writes hashes in hexadecimal, and takes the text of a salt as it is.
    fn emqx_hash(&self, row: &Row) -> Option<Imported> {
        if matches!(self.algorithm, Algorithm::Bcrypt) {
            // Its salt stands in it.
            let text = row.password_hash.clone();
            return Some(Imported::Bcrypt { text }).filter(Imported::sound);
        }
        let hash = unhex(&row.password_hash)?;
        let salt = row.salt.clone().into_bytes();
        let salt_position = match self.salt_position {
            Position::Prefix => SaltPosition::Prefix,
            Position::Suffix => SaltPosition::Suffix,
            Position::Disable => SaltPosition::Disable,
        };
        let digest = |function, salt, hash| Imported::Digest {
            function,
            salt_position,
            salt,
            hash,
        };
        let derived = |function, salt, hash| Imported::Pbkdf2 {
            function,
            iterations: self.iterations,
            salt,
            hash,
        };
        let imported = match self.algorithm {
            Algorithm::Md5 => digest(Function::Md5, salt, hash),
            Algorithm::Sha => digest(Function::Sha1, salt, hash),
            Algorithm::Sha256 => digest(Function::Sha256, salt, hash),
            Algorithm::Sha512 => digest(Function::Sha512, salt, hash),
            Algorithm::Bcrypt => return None,
            Algorithm::Pbkdf2Md5 => derived(Function::Md5, salt, hash),
            Algorithm::Pbkdf2Sha => derived(Function::Sha1, salt, hash),
            Algorithm::Pbkdf2Sha256 => derived(Function::Sha256, salt, hash),
            Algorithm::Pbkdf2Sha512 => derived(Function::Sha512, salt, hash),
        };
        imported.sound().then_some(imported)
    }
}

/// `user_id,password_hash,salt,is_superuser`, with a line that names the columns.
fn csv(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let header: Vec<&str> = lines.next().unwrap_or_default().trim().split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (Some(user), Some(hash)) = (column("user_id"), column("password_hash")) else {
        bail!("the first line does not name the columns user_id and password_hash");
    };
    let (salt, super_user) = (column("salt"), column("is_superuser"));
    let mut rows = Vec::new();
    for (number, line) in (2..).zip(lines) {
        let fields: Vec<&str> = line.trim_end().split(',').collect();
        if fields.len() != header.len() || line.contains('"') {
            bail!("line {number} has not the columns of the first, or quotes");
        }
        let field = |at: Option<usize>| at.map_or("", |at| fields[at]);
        rows.push(Row {
            user_id: fields[user].to_owned(),
            password_hash: fields[hash].to_owned(),
            salt: field(salt).to_owned(),
            is_superuser: field(super_user) == "true",
        });
    }
    Ok(rows)
}

/// The part of an export of EMQ X 4 that has users.
#[derive(Debug, Deserialize)]
struct Export4 {
    #[serde(default)]
    auth_mnesia: Vec<Row4>,
}

#[derive(Debug, Deserialize)]
struct Row4 {
    login: String,
    #[serde(rename = "type", default)]
    kind: String,
    password: String,
}

/// EMQ X 4 keeps four bytes of salt and the hexadecimal hash of salt and password behind them; its
/// length tells which hash that is.
fn emqx_4(text: &str) -> anyhow::Result<Read> {
    let export: Export4 = serde_json::from_str(text).context("this is no export of EMQ X 4")?;
    let mut read = Read::default();
    for row in export.auth_mnesia {
        if row.kind == "clientid" {
            let what = "a client id with a password; only users can be imported";
            read.wrong.push(format!("{}: {what}", row.login));
            continue;
        }
        let hash = base64_simd::STANDARD
            .decode_to_vec(&row.password)
            .ok()
            .and_then(|bytes| {
                let (salt, hash) = bytes.split_at_checked(4)?;
                let hash = unhex(std::str::from_utf8(hash).ok()?)?;
                let known = [
                    Function::Md5,
                    Function::Sha1,
                    Function::Sha256,
                    Function::Sha512,
                ];
                let function = known.into_iter().find(|it| it.bytes() == hash.len())?;
                let imported = Imported::Digest {
                    function,
                    salt_position: SaltPosition::Prefix,
                    salt: salt.to_vec(),
                    hash,
                };
                imported.sound().then_some(imported)
            });
        let Some(hash) = hash else {
            let what =
                "the hash is none of MD5, SHA-1, SHA-256 and SHA-512 with a salt of four bytes";
            read.wrong.push(format!("user {}: {what}", row.login));
            continue;
        };
        read.users.push(ImportedUser {
            name: row.login,
            hash,
        });
    }
    Ok(read)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(algorithm: Algorithm, salt_position: Position) -> ImportArgs {
        ImportArgs {
            file: PathBuf::new(),
            from: From::Emqx,
            algorithm,
            salt_position,
            iterations: 1,
            replace: false,
        }
    }

    /// Made by mosquitto_passwd 2.0, with -H sha512 and without; the password is "pencil".
    #[test]
    fn a_password_file_of_mosquitto_is_read() {
        let read = mosquitto(include_str!("user_import/mosquitto.txt"));
        let names: Vec<&str> = read.users.iter().map(|user| &*user.name).collect();
        assert_eq!(names, ["joe", "ann"]);
        for user in &read.users {
            assert!(
                user.hash.matches("pencil") && !user.hash.matches("Pencil"),
                "{}",
                user.name
            );
        }
        let read = mosquitto("joe:plain\nann\n\n# x\nbob:$8$a$b\neve:$7$x$y$z\n");
        assert!(read.users.is_empty());
        assert_eq!(read.wrong.len(), 4, "{:?}", read.wrong);
        assert!(read.wrong[0].contains("line 1") && !read.wrong[0].contains("plain"));
    }

    #[test]
    fn both_forms_of_emqx_5_are_read() {
        let hash = "7a37b85c8918eac19a9089c0fa5a2ab4dce3f90528dcdeec108b23ddf3607b99";
        let sha = args(Algorithm::Sha256, Position::Suffix);
        let lines = format!("user_id,password_hash,salt,is_superuser\njoe,{hash},salt,true\n");
        let json = format!(
            "[{{\"user_id\":\"joe\",\"password_hash\":\"{hash}\",\"salt\":\"salt\",\"is_superuser\":true}}]"
        );
        for text in [lines, json] {
            let read = sha.emqx(&text).unwrap();
            assert!(read.users[0].hash.matches("password"));
            assert_eq!(read.super_users, ["joe"]);
        }
        let derived = "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b";
        let text = format!("user_id,password_hash,salt\njoe,{derived},salt\nann,xyz,\n");
        let read = args(Algorithm::Pbkdf2Sha256, Position::Suffix)
            .emqx(&text)
            .unwrap();
        assert!(read.users[0].hash.matches("password"));
        assert_eq!(read.wrong.len(), 1);
        let bcrypt = "$2b$05$KhExM0aVb7rLw4nR2PfB6OTRJLlBzDN1x9Y2gp9m719DmCyvvALSW";
        let text = format!(
            "user_id,password_hash,salt\njoe,{bcrypt},{}\n",
            &bcrypt[..29]
        );
        let read = args(Algorithm::Bcrypt, Position::Disable).emqx(&text);
        assert!(read.unwrap().users[0].hash.matches("pencil"));
        for (algorithm, hash) in [
            (Algorithm::Md5, "67a1e09bb1f83f5007dc119c14d663aa"),
            (Algorithm::Sha, "59b3e8d637cf97edbe2384cf59cb7453dfe30789"),
        ] {
            let text = format!("user_id,password_hash,salt\njoe,{hash},salt\n");
            let read = args(algorithm, Position::Prefix).emqx(&text).unwrap();
            assert!(read.users[0].hash.matches("password"));
        }
        assert!(sha.emqx("name,hash\n").is_err() && sha.emqx("[1]").is_err());
    }

    #[test]
    fn an_export_of_emqx_4_is_read() {
        for inner in [
            "salt13601bda4ea78e55a07b98866d2be6be0744e3866f13c00c811cab608a28f322",
            "salt67a1e09bb1f83f5007dc119c14d663aa",
        ] {
            let password = base64_simd::STANDARD.encode_to_string(inner);
            let text = format!(
                "{{\"version\":\"4.4\",\"auth_mnesia\":[{{\"login\":\"joe\",\"type\":\"username\",\"password\":\"{password}\"}},\
             {{\"login\":\"c\",\"type\":\"clientid\",\"password\":\"{password}\"}}]}}"
            );
            let read = emqx_4(&text).unwrap();
            assert!(read.users[0].hash.matches("password"));
            assert_eq!((read.users.len(), read.wrong.len()), (1, 1));
        }
    }
}
