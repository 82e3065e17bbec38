//! The program's own log lines: `tracing` to standard error, as text or JSON, with a level for each
//! module that can be changed while the program runs; and to whoever follows them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt as format, reload};
use utoipa::ToSchema;

use crate::node::system_ms;
use crate::settings::{Level, LogFormat, LoggingSettings};

/// Lines that are remembered for whoever begins to follow.
const RECENT_MAX: usize = 200;
/// Lines that one follower may be behind.
const BEHIND_MAX: usize = 1_000;
/// Longest text of one field.
const FIELD_BYTES_MAX: usize = 8 * 1024;
/// Most modules that have a level of their own.
const MODULES_MAX: usize = 100;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The module.
    pub target: String,
    /// What it says.
    pub message: String,
    /// The fields that go with it.
    pub fields: BTreeMap<String, String>,
}

/// What followers and changes of level reach.
struct Control {
    lines: broadcast::Sender<Arc<LogLine>>,
    recent: Mutex<VecDeque<Arc<LogLine>>>,
    levels: Mutex<Levels>,
    filter: OnceLock<reload::Handle<Targets, Registry>>,
}

#[derive(Clone)]
struct Levels {
    level: Level,
    modules: BTreeMap<String, Level>,
}

fn control() -> &'static Control {
    static CONTROL: OnceLock<Control> = OnceLock::new();
    CONTROL.get_or_init(|| Control {
        lines: broadcast::Sender::new(BEHIND_MAX),
        recent: Mutex::default(),
        levels: Mutex::new(Levels {
            level: Level::Off,
            modules: BTreeMap::new(),
        }),
        filter: OnceLock::new(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends log lines where the settings say. The first call of a process counts; later ones, as in
/// tests that share a process, change nothing.
pub fn start(settings: &LoggingSettings) {
    let levels = Levels {
        level: settings.level,
        modules: settings.modules.clone(),
    };
    let (filter, handle) = reload::Layer::new(targets(&levels));
    let layer = match settings.format {
        LogFormat::Json => format::layer()
            .json()
            .with_writer(std::io::stderr)
            .and_then(Tap)
            .with_filter(filter)
            .boxed(),
        LogFormat::Text => format::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .and_then(Tap)
            .with_filter(filter)
            .boxed(),
    };
    // An error says that lines already go somewhere.
    if Registry::default().with(layer).try_init().is_ok() {
        *lock(&control().levels) = levels;
        let _ = control().filter.set(handle);
    }
}

/// The last lines, and those that come.
pub fn follow() -> (Vec<Arc<LogLine>>, broadcast::Receiver<Arc<LogLine>>) {
    let control = control();
    // Under the lock, so that no line is missed or told twice.
    let recent = lock(&control.recent);
    (recent.iter().cloned().collect(), control.lines.subscribe())
}

/// The levels in force: the general one, then those of modules.
pub fn levels() -> Vec<(Option<String>, Level)> {
    let levels = lock(&control().levels);
    let modules = levels.modules.iter();
    std::iter::once((None, levels.level))
        .chain(modules.map(|(module, level)| (Some(module.clone()), *level)))
        .collect()
}

/// Sets the general level, or that of a module.
///
/// # Errors
/// The log was not started by [`start`], or too many modules have a level.
pub fn set_level(module: Option<String>, level: Level) -> Result<(), String> {
    let control = control();
    let handle = control.filter.get().ok_or("the log has no levels here")?;
    let mut levels = lock(&control.levels);
    let mut wanted = levels.clone();
    match module {
        None => wanted.level = level,
        Some(module) => {
            if module.is_empty() || module.len() > 255 {
                return Err("module: it has 1 to 255 bytes".to_owned());
            }
            wanted.modules.insert(module, level);
            if wanted.modules.len() > MODULES_MAX {
                return Err(format!("{MODULES_MAX} modules have a level already"));
            }
        }
    }
    let filter = targets(&wanted);
    handle.reload(filter).map_err(|error| error.to_string())?;
    *levels = wanted;
    Ok(())
}

/// Gives each line to those who follow.
struct Tap;

impl<S: Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let line = Arc::new(LogLine {
            time_ms: system_ms(),
            level: metadata.level().as_str().to_lowercase(),
            target: metadata.target().to_owned(),
            message: said.message,
            fields: said.fields,
        });
        let control = control();
        let mut recent = lock(&control.recent);
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&line));
        // An error says that nobody follows.
        let _ = control.lines.send(line);
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        let mut end = value.len().min(FIELD_BYTES_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let text = value[..end].to_owned();
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name().to_owned(), text);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Which lines are written: the general level, and those of single modules.
fn targets(levels: &Levels) -> Targets {
    let modules = levels
        .modules
        .iter()
        .map(|(module, level)| (module.clone(), filter(*level)));
    Targets::new()
        .with_default(filter(levels.level))
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
        let levels = Levels {
            level: Level::Info,
            modules: modules.into_iter().collect(),
        };
        let targets = targets(&levels);
        assert!(targets.would_enable("server::node", &Tracing::INFO));
        assert!(!targets.would_enable("server::node", &Tracing::DEBUG));
        assert!(targets.would_enable("server::kafka::fetch", &Tracing::DEBUG));
        assert!(!targets.would_enable("commitlog", &Tracing::ERROR));
    }
}
