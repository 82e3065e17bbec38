//! The hooks in force, which may change while the node runs: what was configured, less what an
//! operator has switched off.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use broker::HookTable;
use tracing::warn;

use super::mailbox::Ask;
use super::{Node, random};
use crate::settings::{HookSettings, Settings, Word as _, mirrored_later, needs_restart};

/// The hooks of a node.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    pub inside: RwLock<Inside>,
    /// Held while they change.
    pub changing: tokio::sync::Mutex<()>,
}

/// Hooks and which of them are off, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Inside {
    pub all: Vec<HookSettings>,
    pub off: BTreeSet<String>,
    /// The figure of each name that there ever was since the start.
    counters: BTreeMap<String, u16>,
}

/// A hook as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookState {
    /// Event and stream, `message.publish:message_state`; a number stands behind that where several
    /// are alike.
    pub name: String,
    /// Whether it writes.
    pub enabled: bool,
    /// Which figure of `ShardStats::made` counts its records.
    pub counter: u16,
    /// What it is.
    pub hook: HookSettings,
}

/// Why hooks did not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookChangeError {
    /// There is none of that name.
    Unknown,
    /// The new ones cannot be used; says why.
    Invalid(String),
}

impl Hooks {
    /// The configured ones, all on.
    pub(super) fn of(all: &[HookSettings]) -> Self {
        let inside = Inside::default().with(all.to_vec());
        let inside = inside.expect("settings bound the hooks far below the figures there may be");
        Self {
            inside: RwLock::new(inside),
            changing: tokio::sync::Mutex::default(),
        }
    }
}

/// The configured hooks for the broker, with the counters that [`Hooks::of`] gives them.
pub(super) fn compiled_at_start(all: &[HookSettings]) -> Vec<broker::HookSettings> {
    let states = Hooks::of(all).inside.into_inner();
    let states = states.unwrap_or_else(PoisonError::into_inner).states();
    states.iter().map(HookState::to_broker).collect()
}

impl HookState {
    fn to_broker(&self) -> broker::HookSettings {
        self.hook.to_broker(self.counter)
    }
}

impl Inside {
    /// These hooks, all of them on; names that were there before keep their figures.
    fn with(mut self, all: Vec<HookSettings>) -> Result<Self, HookChangeError> {
        self.all = all;
        self.off.clear();
        for name in self.states().into_iter().map(|state| state.name) {
            let next = u16::try_from(self.counters.len());
            if let Entry::Vacant(vacant) = self.counters.entry(name) {
                let full = "there were too many different hooks since the start; restart the node";
                vacant.insert(next.map_err(|_| HookChangeError::Invalid(full.to_owned()))?);
            }
        }
        Ok(self)
    }

    fn states(&self) -> Vec<HookState> {
        let mut states: Vec<HookState> = Vec::with_capacity(self.all.len());
        for hook in &self.all {
            let plain = format!("{}:{}", hook.event.word(), hook.stream);
            let alike = |state: &&HookState| {
                state.hook.event == hook.event && state.hook.stream == hook.stream
            };
            let name = match states.iter().filter(alike).count() {
                0 => plain,
                before => format!("{plain}:{}", before + 1),
            };
            states.push(HookState {
                enabled: !self.off.contains(&name),
                counter: self.counters.get(&name).copied().unwrap_or(u16::MAX),
                name,
                hook: hook.clone(),
            });
        }
        states
    }
}

impl Node {
    /// The hooks, in the order of the configuration.
    pub fn hook_states(&self) -> Vec<HookState> {
        let inside = self.hooks.inside.read();
        inside.unwrap_or_else(PoisonError::into_inner).states()
    }

    /// Switches a hook on or off until the next start or reload.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn switch_hook(&self, name: &str, on: bool) -> Result<(), HookChangeError> {
        let _changing = self.hooks.changing.lock().await;
        let mut wanted = self.hooks_inside();
        if !wanted.states().iter().any(|state| state.name == name) {
            return Err(HookChangeError::Unknown);
        }
        if on {
            wanted.off.remove(name);
        } else {
            wanted.off.insert(name.to_owned());
        }
        self.apply_hooks(wanted).await
    }

    /// Puts the hooks of new settings in force, all of them switched on; makes the streams that they
    /// need. Nothing else of the settings counts.
    ///
    /// # Errors
    /// They cannot be used, or not before the next start, or a stream cannot be made.
    pub async fn reload_hooks(&self, settings: &Settings) -> Result<(), HookChangeError> {
        let _changing = self.hooks.changing.lock().await;
        let is_there = |name: &str| self.log.stream(name).is_some();
        if let Some(why) = needs_restart(&self.settings, settings, is_there) {
            return Err(HookChangeError::Invalid(why));
        }
        for stream in mirrored_later(&self.settings, settings) {
            warn!(
                stream,
                "a hook writes to it now; it is mirrored from the next start on"
            );
        }
        for said in &settings.streams {
            if self.log.stream(&said.name).is_none() {
                let mut stream = said.to_log();
                stream.topic_id = random::bytes();
                let made = self.create_stream(stream).await;
                made.map_err(|error| HookChangeError::Invalid(error.to_string()))?;
            }
        }
        let wanted = self.hooks_inside().with(settings.hooks.clone())?;
        self.apply_hooks(wanted).await
    }

    fn hooks_inside(&self) -> Inside {
        let inside = self.hooks.inside.read();
        inside.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compiles and hands to all workers; a PUBLISH that comes after this goes by the new ones.
    async fn apply_hooks(&self, wanted: Inside) -> Result<(), HookChangeError> {
        let on = wanted.states().into_iter().filter(|state| state.enabled);
        let on: Vec<broker::HookSettings> = on.map(|state| state.to_broker()).collect();
        let streams = self.log.streams();
        let compiled = HookTable::compile(&self.settings.node.name, &on, &streams);
        let compiled = compiled.map_err(|error| HookChangeError::Invalid(error.to_string()))?;
        let table = Arc::new(compiled);
        // Readers first: they must know the streams that workers begin to write.
        self.readers.set_hooks(Arc::clone(&table));
        let ask = |answer| Ask::Hooks {
            table: Arc::clone(&table),
            answer,
        };
        self.ask_all(ask).await;
        let inside = self.hooks.inside.write();
        *inside.unwrap_or_else(PoisonError::into_inner) = wanted;
        Ok(())
    }
}
