//! `sluice token`: the bearer tokens of a running node's HTTP API, over that API.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::api::{ApiArgs, escaped};
use super::table::table;
use crate::auth::{Role, TokenRow};
use crate::config::units::millis;
use crate::http::{MadeToken, NewToken, rfc3339};

/// Add, list and delete the bearer tokens of a running node's HTTP API
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    what: What,
}

/// What is done.
#[derive(Debug, Subcommand)]
enum What {
    /// Make a token; it is printed once
    Add {
        /// What to call it
        name: String,
        /// What its bearer may do: viewer, operator or admin
        #[arg(long, default_value = "viewer", value_parser = role)]
        role: Role,
        /// How long it holds, such as 30d; without it until it is deleted
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a token back
    Delete {
        /// Its id or its name
        id: String,
    },
    /// List the tokens
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

fn role(word: &str) -> Result<Role, String> {
    Role::from_word(word).ok_or_else(|| "it is one of viewer, operator, admin".to_owned())
}

/// Does it and says so.
pub fn run(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Add {
            name,
            role,
            expires,
            json,
        } => {
            let lifetime_ms = expires.as_deref().map(millis).transpose();
            let new = NewToken {
                name: name.clone(),
                role: *role,
                lifetime_ms: lifetime_ms.map_err(anyhow::Error::msg)?,
            };
            let body = serde_json::to_string(&new)?;
            let answer = args.api.ask("POST", "/api/v1/tokens", Some(&body))?;
            if *json {
                println!("{answer}");
            } else {
                let made: MadeToken = serde_json::from_str(&answer)?;
                println!("{}", made.token);
            }
        }
        What::Delete { id } => {
            let path = format!("/api/v1/tokens/{}", escaped(id));
            args.api.ask("DELETE", &path, None)?;
            println!("token {id} deleted");
        }
        What::List { json } => {
            let tokens: Vec<TokenRow> = args.api.pages("/api/v1/tokens", None)?;
            if *json {
                println!("{}", serde_json::to_string(&tokens)?);
            } else {
                print!("{}", shown(&tokens));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(tokens: &[TokenRow]) -> String {
    let at = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| rfc3339(ms as i64));
    let rows = tokens.iter().map(|token| {
        vec![
            token.id.clone(),
            token.name.clone(),
            token.role.word().to_owned(),
            at(Some(token.created_ms)),
            at(token.expires_ms),
            at(token.last_used_ms),
        ]
    });
    let heads = ["ID", "NAME", "ROLE", "MADE", "EXPIRES", "LAST USED"];
    table(&heads, &[], rows)
}
