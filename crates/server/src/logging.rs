//! The program's own log lines: `tracing` to standard error, as text or JSON, with a level for each
//! module.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::settings::{Level, LogFormat, LoggingSettings};

/// Sends log lines where the settings say. The first call of a process counts; later ones, as in
/// tests that share a process, change nothing.
pub fn start(settings: &LoggingSettings) {
    let filter = targets(settings);
    let layer = match settings.format {
        LogFormat::Json => fmt::layer()
            .json()
            .with_writer(std::io::stderr)
            .with_filter(filter)
            .boxed(),
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter)
            .boxed(),
    };
    // An error says that lines already go somewhere.
    let _ = Registry::default().with(layer).try_init();
}

/// Which lines are written: the general level, and those of single modules.
fn targets(settings: &LoggingSettings) -> Targets {
    let modules = settings
        .modules
        .iter()
        .map(|(module, level)| (module.clone(), filter(*level)));
    Targets::new()
        .with_default(filter(settings.level))
        .with_targets(modules)
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level as Tracing;

    use super::*;

    #[test]
    fn modules_have_levels_of_their_own() {
        let modules = [
            ("server::kafka".to_owned(), Level::Debug),
            ("commitlog".to_owned(), Level::Off),
        ];
        let settings = LoggingSettings {
            level: Level::Info,
            format: LogFormat::Text,
            modules: modules.into_iter().collect(),
        };
        let targets = targets(&settings);
        assert!(targets.would_enable("server::node", &Tracing::INFO));
        assert!(!targets.would_enable("server::node", &Tracing::DEBUG));
        assert!(targets.would_enable("server::kafka::fetch", &Tracing::DEBUG));
        assert!(!targets.would_enable("commitlog", &Tracing::ERROR));
    }
}
