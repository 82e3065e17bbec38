//! The program `sluice`: listeners, runtimes, configuration, HTTP, command line. It knows every
//! other crate; none knows it.

pub mod config;
pub mod emqx;
pub mod settings;
