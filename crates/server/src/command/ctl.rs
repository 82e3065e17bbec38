//! `sluice ctl`: asks a running node over its HTTP interface, and tells it what to do; prints tables
//! for people or JSON for programs.

mod act;
mod downlinks;
mod groups;
mod mirror;
mod tables;
mod trace;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::api::{ApiArgs, escaped};
use crate::auth::UserRow;
use crate::downlink::DownlinkRow;
use crate::http::AuditRow;
use crate::http::view::{
    ClientDetails, ClientRow, GroupRow, HookRow, RetainedMessage, RetainedRow, Status, StreamRow,
    SubscriptionRow,
};

/// Ask a running node, and tell it what to do
#[derive(Debug, Args)]
pub struct CtlArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    question: Question,
}

/// What is asked.
#[derive(Debug, Subcommand)]
enum Question {
    /// The node in a few figures, and what is wrong with it; exit code 2: it takes no messages
    Status,
    /// Listeners
    Listeners,
    /// Clients, with a connection or without
    #[command(args_conflicts_with_subcommands = true)]
    Clients {
        #[command(subcommand)]
        what: Option<Clients>,
        #[command(flatten)]
        which: ClientsArgs,
    },
    /// Subscriptions of all clients
    Subscriptions(Filtered),
    /// Streams and how far they are
    Streams {
        /// A row for each partition
        #[arg(long)]
        partitions: bool,
        /// The node's own streams too
        #[arg(long)]
        all: bool,
    },
    /// Consumer groups and how far behind they are
    Groups {
        /// Only groups whose id contains this text
        #[arg(long)]
        contains: Option<String>,
        /// A row for each partition: committed offset, end and lag
        #[arg(long, conflicts_with = "members")]
        partitions: bool,
        /// A row for each member
        #[arg(long)]
        members: bool,
    },
    /// Hooks
    Hooks {
        #[command(subcommand)]
        what: Option<Hooks>,
    },
    /// The mirror into an Apache Kafka cluster and how far behind it is
    #[command(args_conflicts_with_subcommands = true)]
    Mirror {
        /// A row for each partition
        #[arg(long)]
        partitions: bool,
        #[command(subcommand)]
        what: Option<Switched>,
    },
    /// Downlinks: records of streams that become messages for devices
    Downlinks {
        /// A row for each partition
        #[arg(long)]
        partitions: bool,
    },
    /// Retained messages
    Retained {
        #[command(subcommand)]
        what: Option<Retained>,
    },
    /// Users (see also: sluice user)
    Users(Filtered),
    /// Who is kept out
    Bans {
        #[command(subcommand)]
        what: Option<Bans>,
    },
    /// What clients do, live, until Ctrl-C
    Trace(trace::TraceArgs),
    /// Publish a message
    Publish(act::PublishArgs),
    /// Levels of the program's own log lines, and the lines themselves
    Log {
        #[command(subcommand)]
        what: Log,
    },
    /// What was changed over the API, by whom
    Audit {
        /// The last so many changes
        #[arg(long, default_value = "100")]
        last: u32,
    },
    /// The configuration in force
    Config,
    /// Copy the data directory of the running node into an empty directory on its machine
    Backup {
        /// The directory; made if absent
        dir: std::path::PathBuf,
    },
    /// Make a data directory from a backup; the node that shall use it must not run
    Restore {
        /// The backup
        backup: std::path::PathBuf,
        /// The data directory; empty or absent
        to: std::path::PathBuf,
    },
}

/// What is done with clients.
#[derive(Debug, Subcommand)]
enum Clients {
    /// List them
    List(ClientsArgs),
    /// One client with its session
    Show {
        /// Its client id
        client_id: String,
    },
    /// End the connection of a client
    Kick {
        /// Its client id
        client_id: String,
    },
}

/// Which clients.
#[derive(Debug, Args)]
struct ClientsArgs {
    /// Only clients whose id or user name contains this text
    #[arg(long)]
    contains: Option<String>,
    /// Only clients with a connection
    #[arg(long, conflicts_with = "offline")]
    connected: bool,
    /// Only clients without a connection
    #[arg(long)]
    offline: bool,
    /// Sort by client_id, username, connected_ms, owed, inflight or subscriptions; - in front turns
    /// the order round
    #[arg(long, allow_hyphen_values = true)]
    sort: Option<String>,
    /// Most rows; absent: all
    #[arg(long)]
    limit: Option<usize>,
}

/// Which rows.
#[derive(Debug, Args)]
struct Filtered {
    /// Only rows that contain this text
    #[arg(long)]
    contains: Option<String>,
    /// Most rows; absent: all
    #[arg(long)]
    limit: Option<usize>,
}

/// What is done with hooks.
#[derive(Debug, Subcommand)]
enum Hooks {
    /// List them
    List,
    /// Read the hooks of the configuration file anew
    Reload,
    /// Let a hook write again
    Enable {
        /// Its name, as the list shows it
        name: String,
    },
    /// Let a hook write nothing until it is enabled or the node is started again
    Disable {
        /// Its name, as the list shows it
        name: String,
    },
}

/// What is done with the mirror.
#[derive(Debug, Subcommand)]
enum Switched {
    /// Let it write into the cluster again
    Enable,
    /// Let it begin no transaction until it is enabled or the node is started again
    Disable,
}

/// What is done with retained messages.
#[derive(Debug, Subcommand)]
enum Retained {
    /// List them
    List {
        /// Only topics that match this MQTT filter
        filter: Option<String>,
    },
    /// Show one
    Show {
        /// Its topic
        topic: String,
    },
    /// Take one away
    Delete {
        /// Its topic
        topic: String,
    },
}

/// What is done with bans.
#[derive(Debug, Subcommand)]
enum Bans {
    /// List them
    List,
    /// Keep somebody out
    Add(act::BanArgs),
    /// Let somebody in again
    Delete {
        /// Id of the ban, as the list shows it
        id: String,
    },
}

/// What is done with the log.
#[derive(Debug, Subcommand)]
enum Log {
    /// Show the levels, or set one until the next start
    Level {
        /// off, error, warn, info, debug or trace
        level: Option<String>,
        /// The module it is about, such as server::kafka
        #[arg(long)]
        module: Option<String>,
    },
    /// The last lines and those that come, until Ctrl-C
    Tail,
}

/// Asks and prints.
pub fn run(args: &CtlArgs) -> anyhow::Result<ExitCode> {
    let printed = match &args.question {
        Question::Trace(which) => return trace::run(&args.api, args.json, which),
        Question::Log { what: Log::Tail } => return trace::log(&args.api, args.json),
        Question::Status => return status(args),
        question => printed(args, question)?,
    };
    print(&printed)?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes());
    written.context("cannot write the answer")
}

/// Exit code of `ctl status` when the node answers and takes no appends.
const NOT_SERVING: u8 = 2;

/// The node in a few figures; the exit code says whether it serves.
fn status(args: &CtlArgs) -> anyhow::Result<ExitCode> {
    let status: Status = args.api.told("/api/v1/status")?;
    print(&shown(args, &status, tables::status)?)?;
    Ok(match status.health.as_str() {
        "serving" => ExitCode::SUCCESS,
        _ => ExitCode::from(NOT_SERVING),
    })
}

/// What was done, in words or as JSON.
fn done(args: &CtlArgs, what: impl Into<String>) -> String {
    let what = what.into();
    if args.json {
        return format!("{}\n", serde_json::json!({ "done": what }));
    }
    format!("{what}\n")
}

fn printed(args: &CtlArgs, question: &Question) -> anyhow::Result<String> {
    let api = &args.api;
    match question {
        Question::Listeners => all(args, "/api/v1/listeners", None, tables::listeners),
        Question::Clients { what, which } => clients(args, what.as_ref(), which),
        Question::Subscriptions(which) => {
            let path = format!("/api/v1/subscriptions{}", filter(which.contains.as_deref()));
            all::<SubscriptionRow>(args, &path, which.limit, tables::subscriptions)
        }
        Question::Streams {
            partitions,
            all: own,
        } => {
            let show = |rows: &[StreamRow]| tables::streams(rows, *partitions, *own);
            all(args, "/api/v1/streams", None, show)
        }
        Question::Groups {
            contains,
            partitions,
            members,
        } => {
            let path = format!("/api/v1/groups{}", filter(contains.as_deref()));
            all::<GroupRow>(args, &path, None, |rows| match (partitions, members) {
                (true, _) => groups::partition_table(rows),
                (false, true) => groups::member_table(rows),
                (false, false) => groups::group_table(rows),
            })
        }
        Question::Hooks { what } => hooks(args, what.as_ref()),
        Question::Mirror { partitions, what } => {
            let (verb, words) = match what {
                None => {
                    let show = |view: &_| mirror::shown(view, *partitions);
                    return one(args, "/api/v1/mirror", show);
                }
                Some(Switched::Enable) => ("enable", "the mirror is enabled"),
                Some(Switched::Disable) => ("disable", "the mirror is disabled"),
            };
            api.ask("POST", &format!("/api/v1/mirror/{verb}"), None)?;
            Ok(done(args, words.to_owned()))
        }
        Question::Downlinks { partitions } => {
            all::<DownlinkRow>(args, "/api/v1/downlinks", None, |rows| {
                if *partitions {
                    downlinks::partition_table(rows)
                } else {
                    downlinks::table_of(rows)
                }
            })
        }
        Question::Retained { what } => retained(args, what.as_ref()),
        Question::Users(which) => {
            let path = format!("/api/v1/users{}", filter(which.contains.as_deref()));
            all::<UserRow>(args, &path, which.limit, tables::users)
        }
        Question::Bans { what } => match what {
            None | Some(Bans::List) => all(args, "/api/v1/bans", None, tables::values),
            Some(Bans::Add(ban)) => Ok(done(args, act::ban(api, ban)?)),
            Some(Bans::Delete { id }) => {
                api.ask("DELETE", &format!("/api/v1/bans/{}", escaped(id)), None)?;
                Ok(done(args, format!("ban {id} deleted")))
            }
        },
        Question::Publish(message) => act::publish(api, args.json, message),
        Question::Log { what } => act::log_level(api, args.json, what),
        Question::Audit { last } => {
            let path = format!("/api/v1/audit?offset=-{last}");
            let rows: Vec<AuditRow> = api.pages(&path, Some(*last as usize))?;
            shown(args, &rows, |rows| tables::audit(rows))
        }
        Question::Config => {
            let config: crate::http::ConfigView = api.told("/api/v1/config")?;
            shown(args, &config, |config| config.toml.clone())
        }
        Question::Backup { dir } => act::backup(api, args.json, dir),
        Question::Restore { backup, to } => Ok(done(args, act::restore(backup, to)?)),
        Question::Status | Question::Trace(_) => Ok(String::new()),
    }
}

fn clients(args: &CtlArgs, what: Option<&Clients>, which: &ClientsArgs) -> anyhow::Result<String> {
    let of = |client_id: &str| format!("/api/v1/clients/{}", escaped(client_id));
    let which = match what {
        None => which,
        Some(Clients::List(which)) => which,
        Some(Clients::Show { client_id }) => {
            return one::<ClientDetails>(args, &of(client_id), tables::client);
        }
        Some(Clients::Kick { client_id }) => {
            args.api.ask("DELETE", &of(client_id), None)?;
            return Ok(done(
                args,
                format!("the connection of {client_id} is ended"),
            ));
        }
    };
    let mut path = "/api/v1/clients?".to_owned();
    if let Some(text) = &which.contains {
        let _ = write!(path, "filter={}&", escaped(text));
    }
    if let Some(sort) = &which.sort {
        let _ = write!(path, "sort={}&", escaped(sort));
    }
    if which.connected || which.offline {
        let _ = write!(path, "connected={}&", which.connected);
    }
    let path = path.trim_end_matches(['?', '&']);
    all::<ClientRow>(args, path, which.limit, tables::clients)
}

fn hooks(args: &CtlArgs, what: Option<&Hooks>) -> anyhow::Result<String> {
    let of = |name: &str, verb: &str| format!("/api/v1/hooks/{}/{verb}", escaped(name));
    let (path, words) = match what {
        None | Some(Hooks::List) => {
            return all::<HookRow>(args, "/api/v1/hooks", None, tables::hooks);
        }
        Some(Hooks::Reload) => (
            "/api/v1/hooks/reload".to_owned(),
            "the hooks of the file are in force".to_owned(),
        ),
        Some(Hooks::Enable { name }) => (of(name, "enable"), format!("{name} is enabled")),
        Some(Hooks::Disable { name }) => (of(name, "disable"), format!("{name} is disabled")),
    };
    args.api.ask("POST", &path, None)?;
    Ok(done(args, words))
}

fn retained(args: &CtlArgs, what: Option<&Retained>) -> anyhow::Result<String> {
    let of = |topic: &str| format!("/api/v1/retained/{}", escaped(topic));
    match what {
        None => all::<RetainedRow>(args, "/api/v1/retained", None, tables::retained),
        Some(Retained::List { filter: topics }) => {
            let path = format!("/api/v1/retained{}", filter(topics.as_deref()));
            all::<RetainedRow>(args, &path, None, tables::retained)
        }
        Some(Retained::Show { topic }) => {
            one::<RetainedMessage>(args, &of(topic), tables::retained_message)
        }
        Some(Retained::Delete { topic }) => {
            args.api.ask("DELETE", &of(topic), None)?;
            let words = format!("the retained message on {topic} is taken away");
            Ok(done(args, words))
        }
    }
}

/// One question, one answer.
fn one<T: DeserializeOwned + Serialize>(
    args: &CtlArgs,
    path: &str,
    show: impl FnOnce(&T) -> String,
) -> anyhow::Result<String> {
    let answer = args.api.told(path)?;
    shown(args, &answer, show)
}

/// All rows of a list.
fn all<T: DeserializeOwned + Serialize>(
    args: &CtlArgs,
    path: &str,
    limit: Option<usize>,
    show: impl FnOnce(&[T]) -> String,
) -> anyhow::Result<String> {
    let rows: Vec<T> = args.api.pages(path, limit)?;
    shown(args, &rows, |rows| show(rows))
}

/// A query for rows that contain a text.
fn filter(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!("?filter={}", escaped(text)))
}

/// An answer as JSON, where that is asked for, or as `show` shows it.
fn shown<T: Serialize>(
    args: &CtlArgs,
    answer: &T,
    show: impl FnOnce(&T) -> String,
) -> anyhow::Result<String> {
    if args.json {
        return Ok(format!("{}\n", serde_json::to_string(answer)?));
    }
    Ok(show(answer))
}
