//! The program `sluice`: listeners, runtimes, configuration, HTTP, command line. It knows every
//! other crate; none knows it.

pub mod auth;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod console;
mod descriptors;
mod doorway;
pub mod downlink;
mod emqx;
pub mod http;
pub mod kafka;
mod listening;
pub mod load;
pub mod logging;
pub mod metrics;
pub mod mirror;
pub mod node;
pub mod settings;
pub mod tls;
mod within_machine;
