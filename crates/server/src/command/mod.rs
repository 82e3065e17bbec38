//! The verbs of the command line, a file each: its arguments and what it does with them.

pub mod api;
pub mod bench;
pub mod check;
pub mod consume;
pub mod ctl;
pub mod daemon;
pub mod import;
mod log_file;
pub mod publish;
pub mod serve;
pub mod subscribe;
pub mod table;
pub mod token;
pub mod user;
mod user_import;
